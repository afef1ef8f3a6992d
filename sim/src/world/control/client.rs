//! The client that a worker's process has: as patient as the real one.

use std::{
    mem::{self, Discriminant},
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicI64, Ordering},
    },
    time::Duration,
};

use bytes::Bytes;
use dm_core::{
    error::{Code, Error, code},
    lifecycle::{ControlCall, Entry, Event, Outcome, Range, Reply},
};
use dm_runtime::ports::{Control, Events};
use tokio::{
    sync::oneshot,
    time::{Instant, sleep, timeout},
};

use super::{Server, entries, span};
use crate::{
    etcd::{Answer, Body, Compare, Condition, Op, Order, Refusal, Request, Span},
    values,
    world::oracle::{leak::Doors, lease::Tenure, snapshot},
};

/// How long a silent watch is believed to be alive.
const SILENCE_MAX: Duration = Duration::from_secs(10);

/// How long an answer is waited for.
#[derive(Clone, Copy)]
struct Patience {
    total: Duration,
    attempt: Duration,
}

const WRITE: Patience = patience(10, 10);
const READ: Patience = patience(10, 5);
const RENEW: Patience = patience(10, 3);
const REVOKE: Patience = patience(3, 2);

const fn patience(total: u64, attempt: u64) -> Patience {
    Patience {
        total: Duration::from_secs(total),
        attempt: Duration::from_secs(attempt),
    }
}

/// Why there is no answer that helps.
enum Trouble {
    /// Nobody answered: what was asked for may have happened, or still happen.
    Silence,
    /// The server refused.
    Refused(Refusal),
}

/// The client of a worker's process.
#[derive(Clone)]
pub(in crate::world) struct Client {
    server: Arc<Server>,
    name: String,
    tenure: Tenure,
    doors: Doors,
    /// The revision at which it last read which sources are its own.
    assigned: Arc<AtomicI64>,
    /// Answers that nobody waited for, which are kept until the worst moment.
    kept: Arc<Mutex<Vec<Kept>>>,
}

/// An answer that nobody waited for.
struct Kept {
    kind: Kind,
    outcome: Outcome,
    events: Events,
    /// Whether another tenure has begun since.
    is_ripe: bool,
}

/// Calls of one kind are taken for each other most easily: what is done, and of reads, whether they
/// are of a known revision.
type Kind = (Discriminant<ControlCall>, bool);

impl Client {
    /// The client of a worker's process.
    pub(in crate::world) fn new(
        server: &Arc<Server>,
        name: &str,
        tenure: Tenure,
        doors: Doors,
    ) -> Self {
        Self {
            server: Arc::clone(server),
            name: name.to_owned(),
            tenure,
            doors,
            assigned: Arc::default(),
            kept: Arc::default(),
        }
    }

    /// Asks, again and again where the patience allows it.
    async fn ask(&self, patience: Patience, request: Request) -> Result<Answer, Trouble> {
        let end = Instant::now() + patience.total;
        loop {
            let left = end.saturating_duration_since(Instant::now());
            if left.is_zero() {
                return Err(Trouble::Silence);
            }
            let limit = patience.attempt.min(left);
            let begun = Instant::now();
            match timeout(limit, self.attempt(request.clone())).await {
                Ok(Some(answer)) => return answer.map_err(Trouble::Refused),
                // Nobody says that it is lost.
                Ok(None) => sleep(limit.saturating_sub(begun.elapsed())).await,
                Err(_) => {}
            }
        }
    }

    async fn attempt(&self, request: Request) -> Option<Result<Answer, Refusal>> {
        let (reply, answer) = oneshot::channel();
        let (server, name) = (Arc::clone(&self.server), self.name.clone());
        // On the server's side, where it goes on though nobody waits any more.
        self.server.node.spawn(async move {
            if let Some(answer) = server.serve(&name, &request).await {
                let _ = reply.send(answer);
            }
        });
        answer.await.ok()
    }

    /// Puts a value under a lease, or deletes the key, on a condition.
    async fn write_when(&self, key: Bytes, new: Option<(Bytes, i64)>, when: Condition) -> Tried {
        let get = Op::Get {
            span: Span::key(key.clone()),
            revision: 0,
            limit: 0,
        };
        let condition = Compare {
            key: key.clone(),
            condition: when,
        };
        let write = match new {
            Some((value, lease)) => Op::Put { key, value, lease },
            None => Op::Delete {
                span: Span::key(key),
            },
        };
        let request = Request::Txn {
            when: vec![condition],
            then: vec![write],
            or: vec![get],
        };
        let Answer { revision, body } = self.ask(WRITE, request).await?;
        Ok(match body {
            Body::Txn {
                succeeded: true, ..
            } => Reply::Written { revision },
            Body::Txn { bodies, .. } => Reply::Refused {
                entry: bodies.into_iter().flat_map(entries).next(),
            },
            other => unreachable!("a transaction is answered with {other:?}"),
        })
    }

    async fn read(&self, ranges: &[Range], at: Option<i64>) -> Tried {
        let get = |range| Op::Get {
            span: span(range),
            revision: at.unwrap_or_default(),
            limit: 0,
        };
        let request = Request::Txn {
            when: Vec::new(),
            then: ranges.iter().map(get).collect(),
            or: Vec::new(),
        };
        let Answer { revision, body } = self.ask(READ, request).await?;
        let Body::Txn { bodies, .. } = body else {
            unreachable!("a transaction is answered with {body:?}");
        };
        Ok(Reply::Entries {
            revision: at.unwrap_or(revision),
            entries: bodies.into_iter().flat_map(entries).collect(),
        })
    }

    /// The worker gets what it has read.
    fn learns(&self, ranges: &[Range], revision: i64, entries: &[Entry]) {
        let bound = Range::Key(values::bound_key(&self.name).into());
        if ranges.contains(&bound) {
            self.assigned.store(revision, Ordering::Relaxed);
            return;
        }
        let assigned = self.assigned.load(Ordering::Relaxed);
        if let Some(there) = self.server.entries_at(ranges, assigned) {
            snapshot::read(&self.server.trace, &self.name, assigned, (entries, &there));
        }
    }

    async fn lease(&self, patience: Patience, request: Request) -> Tried {
        match self.ask(patience, request).await?.body {
            Body::Lease { id, ttl_s } => Ok(Reply::Lease {
                id,
                ttl_s: ttl_s.unsigned_abs(),
            }),
            other => unreachable!("a lease is answered with {other:?}"),
        }
    }

    async fn watch(&self, ranges: &[Range], from: i64, events: &Events) -> Outcome {
        let server = &self.server;
        let mut link = server.link(&self.name).listen();
        let mut frozen = server.frozen.listen();
        let mut revision = server.revision.listen();
        let mut sessions = server.sessions.listen();
        let mut next = from;
        let mut was_deaf = false;
        loop {
            let between = link.see();
            let cut = between.requests_cut || between.answers_cut;
            let silent = frozen.see() || cut;
            revision.see();
            if !silent && !between.deaf {
                let Some(newest) = server.newest(ranges, next) else {
                    return Outcome::Compacted;
                };
                if newest > 0 {
                    if was_deaf {
                        server.trace.count("etcd: change heard late");
                    }
                    sleep(server.latency()).await;
                    events.send(Event::Changed { revision: newest });
                    next = newest + 1;
                    continue;
                }
            }
            was_deaf = between.deaf;
            tokio::select! {
                biased;
                _ = sessions.changed() => {
                    server.trace.count("etcd: closed watch");
                    if between.deaf && server.newest(ranges, next) != Some(0) {
                        server.trace.count("etcd: change not heard");
                    }
                    if server.flips() {
                        return Outcome::Ok(Reply::Closed);
                    }
                    return broken("the stream was reset");
                }
                _ = link.changed() => {}
                _ = frozen.changed() => {}
                _ = revision.changed(), if !silent && !between.deaf => {}
                () = sleep(SILENCE_MAX), if silent => return broken("the server is silent"),
            }
        }
    }
}

type Tried = Result<Reply, Trouble>;

impl Control for Client {
    async fn call(&self, call: ControlCall, events: Events) -> Outcome {
        if let ControlCall::Watch { ranges, from } = call {
            return self.watch(&ranges, from, &events).await;
        }
        if let ControlCall::Revoke { lease } = call {
            self.tenure.gives_up(&self.server.trace, lease, &self.doors);
        }
        let kind = kind(&call);
        let begins = matches!(call, ControlCall::Grant { .. });
        self.kept()
            .iter_mut()
            .for_each(|kept| kept.is_ripe |= begins);
        let is_alike = |kept: &mut Kept| kept.is_ripe && kept.kind == kind;
        if let Some(Kept {
            outcome, events, ..
        }) = self.kept().extract_if(.., is_alike).next()
        {
            events.end(outcome);
        }
        let ranges = match &call {
            ControlCall::Read { ranges, .. } => ranges.clone(),
            _ => Vec::new(),
        };
        let (reply, answer) = oneshot::channel();
        let client = self.clone();
        // It comes to an end though nobody may wait for it any more, and the answer may come late,
        // or once more.
        self.server.node.spawn(async move {
            let outcome = client.carry_out(call).await;
            let server = &client.server;
            let again = server.repeats().then(|| outcome.clone());
            let late = reply.send(outcome).err();
            let keeps = late.is_some() && (server.flips() || server.flips());
            let Some(outcome) = late.or(again) else {
                return;
            };
            server.trace.count("etcd: stale answer");
            if keeps {
                client.kept().push(Kept {
                    kind,
                    outcome,
                    events,
                    is_ripe: false,
                });
            } else {
                sleep(server.lateness()).await;
                events.end(outcome);
            }
        });
        let Ok(outcome) = answer.await else {
            unreachable!("etcd is never killed, only frozen")
        };
        if let Outcome::Ok(Reply::Entries { revision, entries }) = &outcome {
            self.learns(&ranges, *revision, entries);
        }
        outcome
    }
}

impl Client {
    fn kept(&self) -> MutexGuard<'_, Vec<Kept>> {
        self.kept.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Carries out a call that ends by itself.
    async fn carry_out(&self, call: ControlCall) -> Outcome {
        let (code, certain, result) = match call {
            ControlCall::Grant { ttl } => {
                let ttl_s = ttl.as_secs().cast_signed() + i64::from(ttl.subsec_nanos() > 0);
                let request = Request::Grant { id: 0, ttl_s };
                (
                    &code::HA_FAIL_LEASE_OPERATION,
                    false,
                    self.lease(WRITE, request).await,
                )
            }
            ControlCall::Renew { lease } => {
                let request = Request::Renew { id: lease };
                (
                    &code::HA_FAIL_KEEPALIVE,
                    false,
                    self.lease(RENEW, request).await,
                )
            }
            ControlCall::Revoke { lease } => {
                let result = match self.ask(REVOKE, Request::Revoke { id: lease }).await {
                    Ok(_) | Err(Trouble::Refused(Refusal::NO_LEASE)) => Ok(Reply::Closed),
                    Err(trouble) => Err(trouble),
                };
                (&code::HA_FAIL_LEASE_OPERATION, false, result)
            }
            ControlCall::Announce {
                key,
                value,
                lease,
                held_by,
            } => {
                let when = Condition::Lease(Order::Equal, held_by);
                let result = self.write_when(key, Some((value, lease)), when).await;
                (&code::HA_FAIL_TXN_OPERATION, false, result)
            }
            ControlCall::Replace {
                key,
                value,
                mod_revision,
            } => {
                let when = Condition::Modified(Order::Equal, mod_revision);
                let new = value.map(|value| (value, 0));
                let result = self.write_when(key, new, when).await;
                (&code::HA_FAIL_TXN_OPERATION, false, result)
            }
            // A read without an answer has no effect that could be in doubt.
            ControlCall::Read { ranges, at } => (
                &code::HA_FAIL_TXN_OPERATION,
                true,
                self.read(&ranges, at).await,
            ),
            // A watch is ended by whoever holds its future.
            ControlCall::Watch { .. } | ControlCall::Unwatch { .. } => {
                return Outcome::Ok(Reply::Closed);
            }
        };
        match result {
            Ok(reply) => Outcome::Ok(reply),
            Err(Trouble::Refused(Refusal::COMPACTED)) => Outcome::Compacted,
            Err(Trouble::Refused(refusal)) => Outcome::Failed(vec![error(code, refusal.text)]),
            Err(Trouble::Silence) if certain => Outcome::Failed(vec![error(code, SILENCE)]),
            Err(Trouble::Silence) => Outcome::Unknown(error(code, SILENCE)),
        }
    }
}

fn kind(call: &ControlCall) -> Kind {
    let is_dated = matches!(call, ControlCall::Read { at: Some(_), .. });
    (mem::discriminant(call), is_dated)
}

const SILENCE: &str = "no answer in time";

fn broken(why: &str) -> Outcome {
    Outcome::Failed(vec![error(&code::HA_FAIL_WATCH_ETCD, why)])
}

fn error(code: &Code, text: &str) -> Error {
    Error::new(code, format!("etcd: {text}"))
}
