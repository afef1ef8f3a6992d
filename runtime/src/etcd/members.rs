//! The members of the etcd cluster, and which of them is asked.
//!
//! One member is asked as long as it answers; then the next one. Each has a connection of its own,
//! so that a member that is down costs one failed attempt and not every second call, as it would
//! in a balanced channel.

use std::{
    future::Future,
    sync::{Arc, Mutex, MutexGuard, PoisonError, Weak},
    time::Duration,
};

use etcd_client::{Client, ConnectOptions, Error as EtcdError};
use tokio::{
    task::JoinHandle,
    time::{Instant, sleep, timeout, timeout_at},
};
use tonic::{Code, ConnectError, Status};

use super::{Settings, Tls};

/// How long a member may take to accept a connection.
const DIAL_MAX: Duration = Duration::from_secs(3);
/// A connection on which nothing comes for so long is pinged, and given up when the answer takes
/// as long again.
const KEEPALIVE: Duration = Duration::from_secs(3);
/// How often the cluster is asked who its members are.
const SYNC_EVERY: Duration = Duration::from_secs(3);
/// How long to wait before a call is repeated.
const PAUSE: Duration = Duration::from_millis(200);
/// What is said of silence.
pub(super) const NO_ANSWER: &str = "no answer in time";

/// Why a call did not succeed.
#[derive(Debug)]
pub(super) struct Trouble {
    /// What is said about it.
    pub(super) text: String,
    /// Whether the call certainly had no effect.
    pub(super) certain: bool,
    /// Whether the store no longer has the revision that was asked for.
    pub(super) compacted: bool,
}

impl Trouble {
    pub(super) fn new(text: impl Into<String>, certain: bool) -> Self {
        Self {
            text: text.into(),
            certain,
            compacted: false,
        }
    }
}

impl From<EtcdError> for Trouble {
    fn from(error: EtcdError) -> Self {
        let EtcdError::GRpcStatus(status) = &error else {
            // The client's own objections come before anything is sent; what breaks later is
            // reported as a status, or as the end of a stream.
            let certain = matches!(error, EtcdError::InvalidArgs(_) | EtcdError::InvalidUri(_));
            return Self::new(with_causes(&error), certain);
        };
        let certain = never_sent(status)
            || matches!(
                status.code(),
                Code::InvalidArgument
                    | Code::NotFound
                    | Code::AlreadyExists
                    | Code::PermissionDenied
                    | Code::ResourceExhausted
                    | Code::FailedPrecondition
                    | Code::OutOfRange
                    | Code::Unimplemented
                    | Code::Unauthenticated
            );
        Self {
            text: with_causes(status),
            certain,
            compacted: status.code() == Code::OutOfRange && status.message().contains("compacted"),
        }
    }
}

/// What an error says, and what led to it: on its own, that TLS failed is just a transport error.
fn with_causes(error: &(dyn std::error::Error + 'static)) -> String {
    let mut text = match error.downcast_ref::<Status>() {
        Some(status) => status.message().to_owned(),
        None => error.to_string(),
    };
    let mut source = error.source();
    while let Some(error) = source {
        let cause = error.to_string();
        if !text.contains(&cause) {
            text.push_str(": ");
            text.push_str(&cause);
        }
        source = error.source();
    }
    text
}

/// Whether the request did not get as far as a connection.
fn never_sent(status: &Status) -> bool {
    let mut source = std::error::Error::source(status);
    while let Some(error) = source {
        if error.is::<ConnectError>() {
            return true;
        }
        source = error.source();
    }
    false
}

/// Whether asking another member, or the same one later, may help.
fn may_pass(error: &EtcdError) -> bool {
    match error {
        EtcdError::GRpcStatus(status) => matches!(
            status.code(),
            Code::Unavailable | Code::Unknown | Code::Internal | Code::Cancelled
        ),
        EtcdError::TransportError(_) | EtcdError::IoError(_) => true,
        // A stream that ended before its first answer.
        EtcdError::WatchError(_) => true,
        _ => false,
    }
}

/// How often a call may be tried.
#[derive(Clone, Copy)]
pub(super) struct Patience {
    /// For everything together.
    pub(super) total: Duration,
    /// For one member, where a call may be repeated.
    pub(super) attempt: Duration,
    /// Whether a call that was sent may be sent again.
    pub(super) repeat: bool,
}

/// The members and the one in use.
pub(super) struct Members {
    settings: Settings,
    state: Mutex<State>,
    sync: Mutex<Option<JoinHandle<()>>>,
}

struct State {
    members: Vec<Member>,
    current: usize,
}

#[derive(Clone)]
struct Member {
    url: String,
    client: Client,
}

impl Drop for Members {
    fn drop(&mut self) {
        if let Some(task) = lock(&self.sync).take() {
            task.abort();
        }
    }
}

impl Members {
    /// Prepares connections to the configured members; none is made yet.
    pub(super) async fn new(settings: Settings) -> Result<Arc<Self>, Trouble> {
        let mut members = Vec::new();
        for endpoint in &settings.endpoints {
            let url = url(endpoint, settings.tls.is_some());
            if members.iter().all(|m: &Member| m.url != url) {
                members.push(member(url, settings.tls.as_ref()).await?);
            }
        }
        if members.is_empty() {
            return Err(Trouble::new("no endpoint is given", true));
        }
        let this = Arc::new(Self {
            settings,
            state: Mutex::new(State {
                members,
                current: 0,
            }),
            sync: Mutex::new(None),
        });
        let task = tokio::spawn(keep_synced(Arc::downgrade(&this)));
        *lock(&this.sync) = Some(task);
        Ok(this)
    }

    /// Calls `op` on the member in use and, where that makes sense, on the next ones.
    pub(super) async fn call<T, F, R>(&self, patience: Patience, op: F) -> Result<T, Trouble>
    where
        F: Fn(Client) -> R + Send,
        R: Future<Output = Result<T, EtcdError>> + Send,
    {
        let end = Instant::now() + patience.total;
        let mut certain = true;
        let mut reason = String::new();
        loop {
            let member = self.current();
            let attempt = if patience.repeat {
                end.min(Instant::now() + patience.attempt)
            } else {
                end
            };
            let (trouble, again) = match timeout_at(attempt, op(member.client)).await {
                Ok(Ok(value)) => return Ok(value),
                Ok(Err(error)) => {
                    let sent = !matches!(&error, EtcdError::GRpcStatus(s) if never_sent(s));
                    let again = may_pass(&error) && (!sent || patience.repeat);
                    let trouble = Trouble::from(error);
                    reason = format!("; before that, {}: {}", member.url, trouble.text);
                    (trouble, again)
                }
                // The last attempt often has little time, and its silence then says nothing.
                Err(_) => {
                    let text = format!("{NO_ANSWER}{reason}");
                    (Trouble::new(text, false), patience.repeat)
                }
            };
            tracing::debug!(member = member.url, error = trouble.text, "etcd call");
            if again || !trouble.certain {
                self.leave(&member.url);
            }
            certain &= trouble.certain;
            if !again || Instant::now() + PAUSE >= end {
                let text = format!("{}: {}", member.url, trouble.text);
                return Err(Trouble {
                    text,
                    certain,
                    ..trouble
                });
            }
            sleep(PAUSE).await;
        }
    }

    fn current(&self) -> Member {
        let state = lock(&self.state);
        state.members[state.current].clone()
    }

    /// Asks somebody else from now on.
    fn leave(&self, url: &str) {
        let mut state = lock(&self.state);
        if state.members[state.current].url == url {
            state.current = (state.current + 1) % state.members.len();
        }
    }

    /// Takes over who the cluster says it consists of. The configured endpoints stay and are asked
    /// first: what members announce is not always reachable from here.
    async fn sync(&self) -> Result<(), Trouble> {
        let mut client = self.current().client;
        let answer = timeout(SYNC_EVERY, client.member_list())
            .await
            .map_err(|_| Trouble::new(NO_ANSWER, true))??;
        let tls = self.settings.tls.is_some();
        let configured = self.settings.endpoints.iter();
        let announced = answer.members().iter().flat_map(|m| m.client_urls());
        let mut urls = Vec::new();
        for endpoint in configured.chain(announced) {
            let url = url(endpoint, tls);
            if !urls.contains(&url) {
                urls.push(url);
            }
        }
        let known = lock(&self.state).members.clone();
        if known.iter().map(|m| &m.url).eq(&urls) {
            return Ok(());
        }
        tracing::info!(members = urls.join(","), "etcd members");
        let mut members = Vec::new();
        for url in urls {
            match known.iter().find(|m| m.url == url) {
                Some(member) => members.push(member.clone()),
                None => members.push(member(url, self.settings.tls.as_ref()).await?),
            }
        }
        let mut state = lock(&self.state);
        let current = &state.members[state.current].url;
        let current = members.iter().position(|m| m.url == *current);
        state.current = current.unwrap_or_default();
        state.members = members;
        Ok(())
    }
}

async fn keep_synced(members: Weak<Members>) {
    loop {
        sleep(SYNC_EVERY).await;
        let Some(members) = members.upgrade() else {
            return;
        };
        if let Err(trouble) = members.sync().await {
            tracing::debug!(error = trouble.text, "list of etcd members");
        }
    }
}

async fn member(url: String, tls: Option<&Tls>) -> Result<Member, Trouble> {
    let mut options = ConnectOptions::new()
        .with_connect_timeout(DIAL_MAX)
        .with_keep_alive(KEEPALIVE, KEEPALIVE)
        .with_keep_alive_while_idle(true)
        // A member that lost its leader ends its watches instead of going deaf.
        .with_require_leader(true);
    if let Some(tls) = tls {
        options = options.with_tls(tls.options());
    }
    let client = Client::connect([&url], Some(options)).await?;
    Ok(Member { url, client })
}

/// An endpoint with the scheme that is in use, whether it was given with one or not.
fn url(endpoint: &str, tls: bool) -> String {
    let bare = endpoint
        .trim()
        .trim_start_matches("http://")
        .trim_start_matches("https://")
        .trim_end_matches('/');
    format!("{}://{bare}", if tls { "https" } else { "http" })
}

/// No state here is left half-changed by a panic.
fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn endpoints_may_have_a_scheme() {
        for given in ["h:2379", "http://h:2379", "https://h:2379/", " h:2379"] {
            assert_eq!(url(given, false), "http://h:2379");
            assert_eq!(url(given, true), "https://h:2379");
        }
    }

    #[tokio::test]
    async fn silence_hides_no_reason() {
        let settings = Settings {
            endpoints: vec!["h:2379".to_owned()],
            tls: None,
        };
        let members = Members::new(settings).await.expect("one endpoint");
        let patience = Patience {
            total: Duration::from_millis(500),
            attempt: Duration::from_millis(500),
            repeat: true,
        };
        let tried = std::sync::atomic::AtomicBool::new(false);
        let call = members.call(patience, |_| {
            let first = !tried.swap(true, std::sync::atomic::Ordering::Relaxed);
            async move {
                if first {
                    let status = Status::unavailable("not the certificate that I know");
                    return Err::<(), _>(EtcdError::GRpcStatus(status));
                }
                std::future::pending().await
            }
        });
        let trouble = call.await.expect_err("nobody answers");
        assert!(trouble.text.contains(NO_ANSWER), "{trouble:?}");
        assert!(trouble.text.contains("certificate"), "{trouble:?}");
        assert!(!trouble.certain, "{trouble:?}");
    }

    #[test]
    fn only_refusals_are_certain() {
        let trouble = |code, text: &str| {
            Trouble::from(EtcdError::GRpcStatus(Status::new(code, text.to_owned())))
        };
        assert!(trouble(Code::InvalidArgument, "key is not provided").certain);
        assert!(trouble(Code::ResourceExhausted, "database space exceeded").certain);
        assert!(!trouble(Code::Unavailable, "etcdserver: request timed out").certain);
        assert!(!trouble(Code::Unknown, "broken pipe").certain);
        let text = "etcdserver: mvcc: required revision has been compacted";
        assert!(trouble(Code::OutOfRange, text).compacted);
        let text = "etcdserver: mvcc: required revision is a future revision";
        assert!(!trouble(Code::OutOfRange, text).compacted);
    }
}
