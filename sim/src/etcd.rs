//! A simulated etcd: what a worker and a master rely on, as a state machine.
//!
//! [`Store`] has no clock and no sockets: it is told the time, and answers requests. What it
//! answers is what a real etcd answers; [`cases`] is the table that both are held to. The client
//! that a simulated worker has of it, with everything that may go wrong in between, is built on top
//! of it elsewhere.

pub mod cases;
mod history;
mod leases;
mod model;

pub use model::{
    Answer, Body, Change, Compare, Condition, KeyValue, Op, Order, Refusal, Request, Span,
};

use std::{collections::BTreeSet, time::Duration};

use bytes::Bytes;

use history::History;
use leases::Leases;

/// The whole store: keys with their history, and leases.
#[derive(Debug, Default)]
pub struct Store {
    history: History,
    leases: Leases,
}

impl Store {
    /// Lets time pass: leases that are over take their keys with them.
    pub fn pass(&mut self, now: Duration) {
        for id in self.leases.expired(now) {
            self.end_lease(id);
        }
    }

    /// Carries out a request at a time, which never goes back.
    ///
    /// # Errors
    /// What a server refuses, with its words.
    pub fn call(&mut self, now: Duration, request: &Request) -> Result<Answer, Refusal> {
        self.pass(now);
        let body = match request {
            Request::Txn { when, then, or } => self.txn(when, then, or)?,
            Request::Op(op) => {
                let body = self.ops(std::slice::from_ref(op))?.pop();
                body.unwrap_or(Body::Done)
            }
            Request::Compact { revision } => {
                self.history.compact(*revision)?;
                Body::Done
            }
            Request::Grant { id, ttl_s } => {
                let (id, ttl_s) = self.leases.grant(now, *id, *ttl_s)?;
                Body::Lease { id, ttl_s }
            }
            Request::Renew { id } => Body::Lease {
                id: *id,
                ttl_s: self.leases.renew(now, *id),
            },
            Request::TimeToLive { id } => Body::Lease {
                id: *id,
                ttl_s: self.leases.left_s(now, *id),
            },
            Request::Revoke { id } => {
                if !self.leases.is_alive(*id) {
                    return Err(Refusal::NO_LEASE);
                }
                self.end_lease(*id);
                Body::Done
            }
        };
        Ok(Answer {
            revision: self.revision(),
            body,
        })
    }

    /// What was in a range at a revision.
    ///
    /// # Errors
    /// That is not known any more, or not yet.
    pub fn entries_at(&self, span: &Span, revision: i64) -> Result<Vec<KeyValue>, Refusal> {
        self.history.check(revision)?;
        Ok(self.history.at(span, revision))
    }

    /// Every change in a range from a revision on, oldest first; those of one transaction are
    /// together and have one revision.
    ///
    /// # Errors
    /// The revision is compacted; the error says up to where.
    pub fn changes(&self, span: &Span, from: i64) -> Result<Vec<Change>, i64> {
        self.history.changes(span, from)
    }

    /// The revision of the last write.
    #[must_use]
    pub const fn revision(&self) -> i64 {
        self.history.revision()
    }

    /// When a lease is over, if it is alive and nobody renews it.
    #[must_use]
    pub fn lease_ends(&self, id: i64) -> Option<Duration> {
        self.leases.ends(id)
    }

    /// The server starts again with what it had: keys stay, leases begin anew with all their time.
    pub fn restart(&mut self, now: Duration) {
        self.leases.extend(now);
    }

    fn txn(&mut self, when: &[Compare], then: &[Op], or: &[Op]) -> Result<Body, Refusal> {
        // Both branches must be well-formed, whichever is taken.
        well_formed(then)?;
        well_formed(or)?;
        let succeeded = when.iter().all(|compare| self.holds(compare));
        let ops = if succeeded { then } else { or };
        let bodies = self.ops(ops)?;
        Ok(Body::Txn { succeeded, bodies })
    }

    fn holds(&self, compare: &Compare) -> bool {
        let found = self.history.get(&compare.key);
        let number = |of: fn(&KeyValue) -> i64, order: Order, than: i64| {
            order.holds(&found.map_or(0, of), &than)
        };
        match &compare.condition {
            Condition::Version(order, than) => number(|kv| kv.version, *order, *than),
            Condition::Created(order, than) => number(|kv| kv.create_revision, *order, *than),
            Condition::Modified(order, than) => number(|kv| kv.mod_revision, *order, *than),
            Condition::Lease(order, than) => number(|kv| kv.lease, *order, *than),
            // A key that is not there has no value that could be compared.
            Condition::Value(order, than) => found.is_some_and(|kv| order.holds(&kv.value, than)),
        }
    }

    /// Runs operations as one write: all of them, or none where one is refused.
    fn ops(&mut self, ops: &[Op]) -> Result<Vec<Body>, Refusal> {
        well_formed(ops)?;
        for op in ops {
            match op {
                Op::Put { lease, .. } if *lease != 0 && !self.leases.is_alive(*lease) => {
                    return Err(Refusal::NO_LEASE);
                }
                Op::Get { revision, .. } => self.history.check(*revision)?,
                _ => {}
            }
        }
        let mut write = self.history.begin();
        let mut bodies = Vec::with_capacity(ops.len());
        for op in ops {
            bodies.push(match op {
                Op::Put { key, value, lease } => {
                    write.put(key, value, *lease);
                    Body::Done
                }
                Op::Get {
                    span,
                    revision,
                    limit,
                } => write.range(span, *revision, *limit),
                Op::Delete { span } => Body::Deleted(write.delete(span)),
            });
        }
        Ok(bodies)
    }

    fn end_lease(&mut self, id: i64) {
        self.leases.remove(id);
        let keys = self.history.held_by(id);
        let mut write = self.history.begin();
        for key in keys {
            write.delete(&Span::key(key));
        }
    }
}

/// Refuses keys without a name, and a key that is written twice.
fn well_formed(ops: &[Op]) -> Result<(), Refusal> {
    let mut puts: BTreeSet<&Bytes> = BTreeSet::new();
    for op in ops {
        match op {
            Op::Put { key, .. } if key.is_empty() => return Err(Refusal::NO_KEY),
            Op::Put { key, .. } if !puts.insert(key) => return Err(Refusal::DUPLICATE_KEY),
            Op::Get { span, .. } | Op::Delete { span } if span.key.is_empty() => {
                return Err(Refusal::NO_KEY);
            }
            _ => {}
        }
    }
    let deletes = ops.iter().filter_map(|op| match op {
        Op::Delete { span } => Some(span),
        _ => None,
    });
    for span in deletes {
        if puts.iter().any(|key| span.covers(key)) {
            return Err(Refusal::DUPLICATE_KEY);
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests;
