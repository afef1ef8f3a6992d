//! The server: it carries requests out, and lies behind links that fail.

use std::{
    collections::BTreeMap,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use bytes::Bytes;
use dm_core::lifecycle::{Entry, Range};
use madsim::runtime::NodeHandle;
use tokio::time::sleep;

use super::{entry, span};
use crate::{
    dice::Dice,
    etcd::{Answer, Body, KeyValue, Op, Refusal, Request, Span, Store},
    values,
    world::{
        oracle::{name::Announced, owner::Ownerships},
        signal::Signal,
        trace::Trace,
    },
};

/// What lies between a client and the server.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub(in crate::world) struct Link {
    /// No request arrives.
    pub(in crate::world) requests_cut: bool,
    /// No answer arrives.
    pub(in crate::world) answers_cut: bool,
    /// Watches bring nothing.
    pub(in crate::world) deaf: bool,
    /// How much longer than usual requests take.
    pub(in crate::world) request_delay: Duration,
    /// How much longer than usual answers take.
    pub(in crate::world) answer_delay: Duration,
}

/// The server.
pub(in crate::world) struct Server {
    pub(super) trace: Trace,
    pub(super) node: NodeHandle,
    state: Mutex<State>,
    announced: Announced,
    ownerships: Ownerships,
    pub(super) revision: Signal<i64>,
    pub(super) frozen: Signal<bool>,
    /// Grows each time that all watches end.
    pub(super) sessions: Signal<u64>,
}

pub(super) struct State {
    pub(super) store: Store,
    dice: Dice,
    links: BTreeMap<String, Signal<Link>>,
}

impl Server {
    /// A server on a node of its own, which ends leases by itself.
    pub(in crate::world) fn start(node: NodeHandle, trace: Trace, dice: Dice) -> Arc<Self> {
        let server = Arc::new(Self {
            trace,
            state: Mutex::new(State {
                store: Store::default(),
                dice,
                links: BTreeMap::new(),
            }),
            announced: Announced::default(),
            ownerships: Ownerships::default(),
            revision: Signal::new(1),
            frozen: Signal::new(false),
            sessions: Signal::new(0),
            node,
        });
        let ticking = Arc::clone(&server);
        server.node.spawn(async move {
            loop {
                sleep(Duration::from_millis(100)).await;
                ticking.thawed().await;
                let now = ticking.trace.now();
                ticking.state().store.pass(now);
                ticking.announce();
            }
        });
        server
    }

    /// Carries out a request at once, for whoever shares the machine.
    ///
    /// # Errors
    /// The server's refusal.
    pub(in crate::world) fn call(&self, request: &Request) -> Result<Answer, Refusal> {
        let now = self.trace.now();
        let answer = self.state().store.call(now, request);
        if let (true, Ok(answer)) = (binds(request), &answer) {
            let bound = self.entries(values::BOUND_PREFIX);
            let bindings = bound.iter().filter_map(|kv| values::parse_bound(&kv.value));
            self.ownerships
                .bound((answer.revision, now), &bindings.collect());
        }
        self.announce();
        answer
    }

    /// Who had which source when.
    pub(in crate::world) const fn ownerships(&self) -> &Ownerships {
        &self.ownerships
    }

    /// The newest entries that start so.
    pub(in crate::world) fn entries(&self, prefix: &str) -> Vec<KeyValue> {
        let get = Op::Get {
            span: Span::prefix(prefix.to_owned()),
            revision: 0,
            limit: 0,
        };
        match self.call(&Request::Op(get)) {
            Ok(Answer {
                body: Body::Entries { entries, .. },
                ..
            }) => entries,
            other => unreachable!("a read is answered with {other:?}"),
        }
    }

    /// What was in these ranges at a revision, if that is still known.
    pub(super) fn entries_at(&self, ranges: &[Range], revision: i64) -> Option<Vec<Entry>> {
        let state = self.state();
        let mut there = Vec::new();
        for range in ranges {
            let entries = state.store.entries_at(&span(range), revision).ok()?;
            there.extend(entries.into_iter().map(entry));
        }
        Some(there)
    }

    /// Revision of the newest change in these ranges from one on, 0 without any; nothing where that
    /// is not known any more.
    pub(super) fn newest(&self, ranges: &[Range], from: i64) -> Option<i64> {
        let mut newest = 0;
        for range in ranges {
            let changes = self.state().store.changes(&span(range), from).ok()?;
            newest = changes.last().map_or(newest, |it| newest.max(it.revision));
        }
        Some(newest)
    }

    /// When a lease is over, as far as the server knows; nothing for one that is not alive.
    pub(in crate::world) fn lease_ends(&self, lease: i64) -> Option<Duration> {
        self.state().store.lease_ends(lease)
    }

    /// Waits until the server is not frozen.
    pub(in crate::world) async fn thawed(&self) {
        self.frozen.listen().until(|frozen| !frozen).await;
    }

    /// Freezes the server, or lets it run on.
    pub(in crate::world) fn freeze(&self, frozen: bool) {
        self.frozen.set(frozen);
    }

    /// Ends all watches.
    pub(in crate::world) fn close_watches(&self) {
        self.sessions.change(|number| *number += 1);
    }

    /// Starts the server anew with what it had.
    pub(in crate::world) fn restart(&self) {
        let now = self.trace.now();
        self.state().store.restart(now);
        self.close_watches();
    }

    /// Says what lies between a client and the server.
    pub(in crate::world) fn set_link(&self, client: &str, link: Link) {
        self.link(client).set(link);
    }

    /// The revision of the last write.
    pub(in crate::world) fn revision(&self) -> i64 {
        self.state().store.revision()
    }

    pub(super) fn link(&self, client: &str) -> Signal<Link> {
        let mut state = self.state();
        let link = state.links.entry(client.to_owned()).or_default();
        link.clone()
    }

    fn announce(&self) {
        let newest = self.state().store.revision();
        self.revision.set(newest);
    }

    pub(super) fn latency(&self) -> Duration {
        self.state().dice.millis(1..6)
    }

    /// Whether an answer comes twice.
    pub(super) fn repeats(&self) -> bool {
        self.state().dice.permille(20)
    }

    /// How late an answer is that nobody waits for any more.
    pub(super) fn lateness(&self) -> Duration {
        self.state().dice.millis(1..8_000)
    }

    pub(super) fn flips(&self) -> bool {
        self.state().dice.permille(500)
    }

    pub(super) fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The announcement that a request makes if its condition holds, and the one that is there.
    fn announcement(&self, request: &Request) -> Option<(Option<Bytes>, Bytes)> {
        let Request::Txn { then, .. } = request else {
            return None;
        };
        let [Op::Put { key, value, .. }] = then.as_slice() else {
            return None;
        };
        if !key.starts_with(values::KEEPALIVE_PREFIX.as_bytes()) {
            return None;
        }
        let there = self.entries(&String::from_utf8_lossy(key)).pop();
        Some((there.map(|kv| kv.value), value.clone()))
    }

    /// Takes a request's way to the server and back. `None` if it, or its answer, is lost.
    pub(super) async fn serve(
        &self,
        client: &str,
        request: &Request,
    ) -> Option<Result<Answer, Refusal>> {
        let mut link = self.link(client).listen();
        sleep(self.latency() + link.value().request_delay).await;
        if link.value().requests_cut {
            self.trace.count("etcd: request cut off");
            if self.flips() {
                return None;
            }
            // It is sent again and again, until it arrives: late.
            link.until(|link| !link.requests_cut).await;
        }
        if self.frozen.listen().value() {
            self.trace.count("etcd: request to frozen");
        }
        self.thawed().await;
        let announced = self.announcement(request);
        let answer = self.call(request);
        let written = Body::Txn {
            succeeded: true,
            bodies: vec![Body::Done],
        };
        if let (Some((old, new)), Ok(answer)) = (announced, &answer)
            && answer.body == written
        {
            self.announced.replaces(&self.trace, old.as_deref(), &new);
        }
        if let Request::Txn { .. } | Request::Grant { .. } | Request::Revoke { .. } = request {
            self.trace
                .note("etcd", format_args!("{client}: {}", described(&answer)));
        }
        let delay = link.value().answer_delay;
        if !delay.is_zero() {
            self.trace.count("etcd: slow answer");
        }
        sleep(self.latency() + delay).await;
        if link.value().answers_cut {
            self.trace.count("etcd: answer cut off");
        }
        (!link.value().answers_cut).then_some(answer)
    }
}

/// Whether a request is about bindings.
fn binds(request: &Request) -> bool {
    let Request::Txn { then, .. } = request else {
        return false;
    };
    let is_binding = |key: &[u8]| key.starts_with(values::BOUND_PREFIX.as_bytes());
    then.iter().any(|op| match op {
        Op::Put { key, .. } => is_binding(key),
        Op::Delete { span } => is_binding(&span.key),
        Op::Get { .. } => false,
    })
}

fn described(answer: &Result<Answer, Refusal>) -> String {
    match answer {
        Ok(Answer { revision, body }) => match body {
            Body::Lease { id, ttl_s } => format!("lease {id} of {ttl_s} s"),
            Body::Txn { succeeded, .. } => format!("txn {succeeded} at {revision}"),
            _ => format!("done at {revision}"),
        },
        Err(refusal) => refusal.text.to_owned(),
    }
}
