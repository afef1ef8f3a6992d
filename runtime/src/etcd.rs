//! The control store of a cluster: etcd.
//!
//! Carries out what the worker machine asks of it, one call at a time, and says how it ended:
//! done, certainly not done, or unknown. Every call has a time limit; reads and renewals are
//! repeated within theirs, writes only while nothing was sent.

mod members;

use std::{sync::Arc, time::Duration};

use bytes::Bytes;
use dm_core::{
    error::{Code, Error, code},
    lifecycle::{ControlCall, Entry, Event, Outcome, Range, Reply},
};
use etcd_client::{
    Certificate, Compare, CompareOp, Error as EtcdError, GetOptions, Identity, KeyValue,
    PutOptions, TlsOptions, Txn, TxnOp, TxnOpResponse, TxnResponse, WatchOptions, WatchStream,
};
use tokio::time::timeout;

use self::members::{Members, Patience, Trouble};
use crate::ports::{Control, Events};

/// Limit of a write.
const WRITE: Patience = Patience {
    total: Duration::from_secs(10),
    attempt: Duration::from_secs(10),
    repeat: false,
};
/// Limit of a read.
const READ: Patience = Patience {
    total: Duration::from_secs(10),
    attempt: Duration::from_secs(5),
    repeat: true,
};
/// Limit of a renewal.
const RENEW: Patience = Patience {
    total: Duration::from_secs(10),
    attempt: Duration::from_secs(3),
    repeat: true,
};
/// Limit of giving a lease up.
const REVOKE: Patience = Patience {
    total: Duration::from_secs(3),
    attempt: Duration::from_secs(2),
    repeat: true,
};
/// How long the store may take to confirm a watch.
const WATCH_MAX: Duration = Duration::from_secs(10);
/// Entries of one answer. A value may have 1.5 MiB, though few have more than some KiB.
const PAGE: i64 = 256;
/// Bytes of one answer, so that a full page of the largest values fits.
const ANSWER_MAX: usize = 512 << 20;

/// Where etcd is and how to enter.
#[derive(Clone, Debug, Default)]
pub struct Settings {
    /// `host:port`, with or without a scheme.
    pub endpoints: Vec<String>,
    /// TLS, if the cluster wants it.
    pub tls: Option<Tls>,
}

/// Content of TLS files.
#[derive(Clone, Debug)]
pub struct Tls {
    /// Certificates of the authority (PEM).
    pub ca: Vec<u8>,
    /// Our certificate chain and its key (PEM).
    pub identity: Option<(Vec<u8>, Vec<u8>)>,
}

impl Tls {
    fn options(&self) -> TlsOptions {
        let options = TlsOptions::new().ca_certificate(Certificate::from_pem(&self.ca));
        match &self.identity {
            Some((chain, key)) => options.identity(Identity::from_pem(chain, key)),
            None => options,
        }
    }
}

/// A client of an etcd cluster. Clones share its connections.
#[derive(Clone)]
pub struct Etcd {
    members: Arc<Members>,
}

impl Etcd {
    /// Prepares a client; the cluster need not be there yet.
    ///
    /// # Errors
    /// For endpoints or certificates that make no sense.
    pub async fn new(settings: Settings) -> Result<Self, Error> {
        let members = Members::new(settings).await;
        let members = members.map_err(|t| coded(&code::HA_FAIL_TXN_OPERATION, TXN, &t))?;
        Ok(Self { members })
    }

    async fn grant(&self, ttl: Duration) -> Result<Reply, Trouble> {
        let seconds = ttl.as_secs() + u64::from(ttl.subsec_nanos() > 0);
        let seconds = i64::try_from(seconds).unwrap_or(i64::MAX);
        let answer = self.members.call(WRITE, |mut client| async move {
            client.lease_grant(seconds, None).await
        });
        let answer = answer.await?;
        Ok(Reply::Lease {
            id: answer.id(),
            ttl_s: u64::try_from(answer.ttl()).unwrap_or_default(),
        })
    }

    async fn renew(&self, lease: i64) -> Result<Reply, Trouble> {
        let ttl = self.members.call(RENEW, |mut client| async move {
            // Opening the stream sends a renewal, but the client keeps the answer to itself, so a
            // second one brings the time to live.
            let (mut keeper, mut answers) = match client.lease_keep_alive(lease).await {
                Err(EtcdError::LeaseKeepAliveError(text)) if text == "lease not found" => {
                    return Ok(0);
                }
                opened => opened?,
            };
            keeper.keep_alive().await?;
            match answers.message().await? {
                Some(answer) => Ok(answer.ttl()),
                None => Err(EtcdError::WatchError(
                    "the stream of renewals ended".to_owned(),
                )),
            }
        });
        Ok(Reply::Lease {
            id: lease,
            ttl_s: u64::try_from(ttl.await?).unwrap_or_default(),
        })
    }

    async fn revoke(&self, lease: i64) -> Result<Reply, Trouble> {
        let answer = self.members.call(REVOKE, |mut client| async move {
            match client.lease_revoke(lease).await {
                Err(EtcdError::GRpcStatus(status)) if status.code() == tonic::Code::NotFound => {
                    Ok(())
                }
                answer => answer.map(drop),
            }
        });
        answer.await?;
        Ok(Reply::Closed)
    }

    /// Writes a key if a condition on it holds, else says what is there.
    async fn write_when(&self, key: &Bytes, write: TxnOp, when: Compare) -> Result<Reply, Trouble> {
        let txn = Txn::new()
            .when([when])
            .and_then([write])
            .or_else([TxnOp::get(&**key, None)]);
        let answer = self.txn(WRITE, txn).await?;
        if answer.succeeded() {
            let revision = revision(&answer);
            return Ok(Reply::Written { revision });
        }
        let entry = answer.op_responses().into_iter().find_map(|op| match op {
            TxnOpResponse::Get(mut found) => found.take_kvs().into_iter().next().map(entry),
            _ => None,
        });
        Ok(Reply::Refused { entry })
    }

    async fn read(&self, ranges: &[Range], at: Option<i64>) -> Result<Reply, Trouble> {
        // Everything a page further is read at the revision of the first page.
        let mut revision = at;
        let mut entries = Vec::new();
        let mut rest: Vec<(Vec<u8>, Vec<u8>)> = ranges.iter().map(bounds).collect();
        while !rest.is_empty() {
            let gets = rest.iter().map(|(from, to)| {
                let options = GetOptions::new()
                    .with_range(to.clone())
                    .with_limit(PAGE)
                    .with_revision(revision.unwrap_or_default());
                TxnOp::get(from.clone(), Some(options))
            });
            let txn = Txn::new().and_then(gets.collect::<Vec<_>>());
            let answer = self.txn(READ, txn).await?;
            revision = revision.or_else(|| Some(self::revision(&answer)));
            let mut unfinished = Vec::new();
            for (op, (_, to)) in answer.op_responses().into_iter().zip(rest) {
                let TxnOpResponse::Get(mut found) = op else {
                    return Err(Trouble::new("an answer to another question", true));
                };
                let kvs = found.take_kvs();
                if let Some(last) = kvs.last().filter(|_| found.more()) {
                    unfinished.push(([last.key(), &[0]].concat(), to));
                }
                entries.extend(kvs.into_iter().map(entry));
            }
            rest = unfinished;
        }
        Ok(Reply::Entries {
            revision: revision.unwrap_or_default(),
            entries,
        })
    }

    async fn txn(&self, patience: Patience, txn: Txn) -> Result<TxnResponse, Trouble> {
        let answer = self.members.call(patience, |client| {
            let mut kv = client.kv_client().max_decoding_message_size(ANSWER_MAX);
            let txn = txn.clone();
            async move { kv.txn(txn).await }
        });
        answer.await
    }

    async fn watch(&self, ranges: &[Range], from: i64, events: &Events) -> Result<Reply, Trouble> {
        let mut stream = timeout(WATCH_MAX, self.open_watch(ranges, from))
            .await
            .map_err(|_| Trouble::new(members::NO_ANSWER, true))??;
        let mut unconfirmed = ranges.len();
        loop {
            let answer = if unconfirmed > 0 {
                timeout(WATCH_MAX, stream.message())
                    .await
                    .map_err(|_| Trouble::new(members::NO_ANSWER, true))?
            } else {
                stream.message().await
            };
            let Some(answer) = answer? else {
                return Ok(Reply::Closed);
            };
            if answer.canceled() {
                return Err(Trouble {
                    text: format!("cancelled by the server: {}", answer.cancel_reason()),
                    certain: true,
                    compacted: answer.compact_revision() > 0,
                });
            }
            if answer.created() {
                unconfirmed = unconfirmed.saturating_sub(1);
            }
            let changes = answer.events().iter().filter_map(|event| event.kv());
            if let Some(revision) = changes.map(KeyValue::mod_revision).max() {
                events.send(Event::Changed { revision });
            }
        }
    }

    /// One stream with a watcher for each range.
    async fn open_watch(&self, ranges: &[Range], from: i64) -> Result<WatchStream, Trouble> {
        let mut watchers = ranges.iter().map(|range| {
            let (key, end) = bounds(range);
            let options = WatchOptions::new()
                .with_range(end)
                .with_start_revision(from)
                .with_progress_notify();
            (key, options)
        });
        let Some((key, options)) = watchers.next() else {
            return Err(Trouble::new("nothing to watch", true));
        };
        let open = self.members.call(READ, |client| {
            let mut watch = client.watch_client().max_decoding_message_size(ANSWER_MAX);
            let (key, options) = (key.clone(), options.clone());
            async move { watch.watch(key, Some(options)).await }
        });
        let mut stream = open.await?;
        for (key, options) in watchers {
            stream.watch(key, Some(options)).await?;
        }
        Ok(stream)
    }
}

impl Control for Etcd {
    async fn call(&self, call: ControlCall, events: Events) -> Outcome {
        let (code, text, result) = match call {
            ControlCall::Grant { ttl } => {
                (&code::HA_FAIL_LEASE_OPERATION, LEASE, self.grant(ttl).await)
            }
            ControlCall::Renew { lease } => {
                (&code::HA_FAIL_KEEPALIVE, KEEPALIVE, self.renew(lease).await)
            }
            ControlCall::Revoke { lease } => (
                &code::HA_FAIL_LEASE_OPERATION,
                LEASE,
                self.revoke(lease).await,
            ),
            ControlCall::Announce {
                key,
                value,
                lease,
                held_by,
            } => {
                let when = Compare::lease(&*key, CompareOp::Equal, held_by);
                let options = PutOptions::new().with_lease(lease);
                let put = TxnOp::put(&*key, &*value, Some(options));
                let result = self.write_when(&key, put, when).await;
                (&code::HA_FAIL_TXN_OPERATION, TXN, result)
            }
            ControlCall::Replace {
                key,
                value,
                mod_revision,
            } => {
                let when = Compare::mod_revision(&*key, CompareOp::Equal, mod_revision);
                let write = match value {
                    Some(value) => TxnOp::put(&*key, &*value, None),
                    None => TxnOp::delete(&*key, None),
                };
                let result = self.write_when(&key, write, when).await;
                (&code::HA_FAIL_TXN_OPERATION, TXN, result)
            }
            ControlCall::Read { ranges, at } => {
                let result = self.read(&ranges, at).await;
                // A read without an answer has no effect that could be in doubt.
                let result = result.map_err(|trouble| Trouble {
                    certain: true,
                    ..trouble
                });
                (&code::HA_FAIL_TXN_OPERATION, TXN, result)
            }
            ControlCall::Watch { ranges, from } => {
                let result = self.watch(&ranges, from, &events).await;
                let result = result.map_err(|trouble| Trouble {
                    certain: true,
                    ..trouble
                });
                (&code::HA_FAIL_WATCH_ETCD, WATCH, result)
            }
            // The watch itself is ended by whoever holds its future.
            ControlCall::Unwatch { .. } => return Outcome::Ok(Reply::Closed),
        };
        match result {
            Ok(reply) => Outcome::Ok(reply),
            Err(trouble) if trouble.compacted => Outcome::Compacted,
            Err(trouble) if trouble.certain => Outcome::Failed(vec![coded(code, text, &trouble)]),
            Err(trouble) => Outcome::Unknown(coded(code, text, &trouble)),
        }
    }
}

const TXN: &str = "fail to do etcd txn operation";
const LEASE: &str = "fail to do etcd lease operation";
const KEEPALIVE: &str = "fail to keepalive to etcd";
const WATCH: &str = "fail to watch etcd";

fn coded(code: &Code, text: &str, trouble: &Trouble) -> Error {
    Error::new(code, format!("{text}: {}", trouble.text)).with_cause(trouble.text.clone())
}

/// First key of a range, and the first one behind it; an empty end means just the key.
fn bounds(range: &Range) -> (Vec<u8>, Vec<u8>) {
    match range {
        Range::Key(key) => (key.to_vec(), Vec::new()),
        Range::Prefix(prefix) => {
            let kept = prefix.iter().rposition(|&byte| byte < u8::MAX);
            let end = match kept {
                Some(last) => {
                    let mut end = prefix[..=last].to_vec();
                    end[last] += 1;
                    end
                }
                // No key is behind all of them: the store's sign for "to the end".
                None => vec![0],
            };
            (prefix.to_vec(), end)
        }
    }
}

fn revision(answer: &TxnResponse) -> i64 {
    answer.header().map_or(0, |header| header.revision())
}

fn entry(kv: KeyValue) -> Entry {
    let (create_revision, mod_revision, lease) =
        (kv.create_revision(), kv.mod_revision(), kv.lease());
    let (key, value) = kv.into_key_value();
    Entry {
        key: key.into(),
        value: value.into(),
        create_revision,
        mod_revision,
        lease,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn prefixes_end_before_the_next_key() {
        let end = |prefix: &'static [u8]| bounds(&Range::Prefix(Bytes::from_static(prefix))).1;
        assert_eq!(end(b"/a/"), b"/a0");
        assert_eq!(end(b"a\xff\xff"), b"b");
        assert_eq!(end(b"\xff"), b"\0");
        assert_eq!(end(b""), b"\0");
        assert_eq!(bounds(&Range::Key(Bytes::from_static(b"k"))).1, b"");
    }
}
