//! The control store inside the process, for a worker that runs alone.
//!
//! It answers the same calls as etcd, so the same machine runs on it: leases never end, keys are
//! what the source and task files say, and the fence is the target's own counter.

use std::{
    collections::BTreeMap,
    future::pending,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use bytes::Bytes;
use dm_core::lifecycle::{ControlCall, Entry, Event, Outcome, Range, Reply};
use tokio::sync::watch;

use crate::ports::{Control, Events};

/// A control store with one client, which it never forsakes.
#[derive(Clone, Debug)]
pub struct Store {
    inner: Arc<Mutex<Inner>>,
    revision: watch::Sender<i64>,
}

#[derive(Debug)]
struct Inner {
    entries: BTreeMap<Bytes, Entry>,
    revision: i64,
    lease: i64,
}

impl Store {
    /// A store that holds these keys, all written at revision 1.
    #[must_use]
    pub fn new(entries: impl IntoIterator<Item = (Bytes, Bytes)>) -> Self {
        let entry = |(key, value): (Bytes, Bytes)| {
            let entry = Entry {
                key: key.clone(),
                value,
                create_revision: 1,
                mod_revision: 1,
                lease: 0,
            };
            (key, entry)
        };
        let inner = Inner {
            entries: entries.into_iter().map(entry).collect(),
            revision: 1,
            lease: 0,
        };
        Self {
            inner: Arc::new(Mutex::new(inner)),
            revision: watch::Sender::new(1),
        }
    }

    fn inner(&self) -> MutexGuard<'_, Inner> {
        // Every change is one insertion or removal: nothing is ever left half-done.
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn answer(&self, call: ControlCall) -> Outcome {
        let mut inner = self.inner();
        let reply = match call {
            ControlCall::Grant { ttl } => {
                inner.lease += 1;
                lease(inner.lease, ttl)
            }
            ControlCall::Renew { lease: id } => lease(id, FOREVER),
            ControlCall::Announce {
                key,
                value,
                lease,
                held_by,
            } => {
                let holder = inner.entries.get(&key).map_or(0, |entry| entry.lease);
                inner.write_if(holder == held_by, key, Some((value, lease)))
            }
            ControlCall::Replace {
                key,
                value,
                mod_revision,
            } => {
                let last = inner
                    .entries
                    .get(&key)
                    .map_or(0, |entry| entry.mod_revision);
                let value = value.map(|value| (value, 0));
                inner.write_if(last == mod_revision, key, value)
            }
            ControlCall::Revoke { lease } => {
                inner.entries.retain(|_, entry| entry.lease != lease);
                Reply::Closed
            }
            ControlCall::Read { ranges, at } => {
                if at.is_some_and(|at| at != inner.revision) {
                    return Outcome::Compacted;
                }
                let wanted = |entry: &&Entry| ranges.iter().any(|range| covers(range, &entry.key));
                Reply::Entries {
                    revision: inner.revision,
                    entries: inner.entries.values().filter(wanted).cloned().collect(),
                }
            }
            ControlCall::Watch { .. } | ControlCall::Unwatch { .. } => Reply::Closed,
        };
        self.revision.send_if_modified(|revision| {
            std::mem::replace(revision, inner.revision) != inner.revision
        });
        Outcome::Ok(reply)
    }

    async fn watch(&self, ranges: Vec<Range>, mut from: i64, events: Events) -> Outcome {
        let mut revision = self.revision.subscribe();
        loop {
            let newest = {
                let inner = self.inner();
                let newer = inner.entries.values().filter(|entry| {
                    entry.mod_revision >= from
                        && ranges.iter().any(|range| covers(range, &entry.key))
                });
                newer.map(|entry| entry.mod_revision).max()
            };
            if let Some(revision) = newest {
                from = revision + 1;
                events.send(Event::Changed { revision });
            }
            if revision.changed().await.is_err() {
                // `self` holds the sender.
                return pending().await;
            }
        }
    }
}

impl Control for Store {
    async fn call(&self, call: ControlCall, events: Events) -> Outcome {
        match call {
            ControlCall::Watch { ranges, from } => self.watch(ranges, from, events).await,
            call => self.answer(call),
        }
    }
}

impl Inner {
    /// Puts a value under a lease, or deletes the key, on a condition.
    fn write_if(&mut self, condition: bool, key: Bytes, new: Option<(Bytes, i64)>) -> Reply {
        let old = self.entries.get(&key);
        if !condition {
            return Reply::Refused {
                entry: old.cloned(),
            };
        }
        self.revision += 1;
        let revision = self.revision;
        let create_revision = old.map_or(revision, |old| old.create_revision);
        if let Some((value, lease)) = new {
            let entry = Entry {
                key: key.clone(),
                value,
                create_revision,
                mod_revision: revision,
                lease,
            };
            self.entries.insert(key, entry);
        } else {
            self.entries.remove(&key);
        }
        Reply::Written { revision }
    }
}

/// As long as a lease can be: ten years.
const FOREVER: Duration = Duration::from_secs(10 * 365 * 86_400);

fn lease(id: i64, ttl: Duration) -> Reply {
    Reply::Lease {
        id,
        ttl_s: ttl.as_secs(),
    }
}

fn covers(range: &Range, key: &[u8]) -> bool {
    match range {
        Range::Key(one) => one == key,
        Range::Prefix(prefix) => key.starts_with(prefix),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn put(store: &Store, key: &'static str, lease: i64, held_by: i64) -> Outcome {
        store.answer(ControlCall::Announce {
            key: Bytes::from_static(key.as_bytes()),
            value: Bytes::from_static(b"v"),
            lease,
            held_by,
        })
    }

    #[test]
    fn an_announcement_needs_its_holder() {
        let store = Store::new([]);
        assert_eq!(
            put(&store, "a", 1, 0),
            Outcome::Ok(Reply::Written { revision: 2 })
        );
        assert!(matches!(
            put(&store, "a", 2, 0),
            Outcome::Ok(Reply::Refused {
                entry: Some(Entry { lease: 1, .. })
            })
        ));
        assert_eq!(
            put(&store, "a", 2, 1),
            Outcome::Ok(Reply::Written { revision: 3 })
        );
        assert_eq!(
            store.answer(ControlCall::Revoke { lease: 2 }),
            Outcome::Ok(Reply::Closed)
        );
        assert_eq!(
            put(&store, "a", 3, 0),
            Outcome::Ok(Reply::Written { revision: 4 })
        );
    }

    #[test]
    fn a_read_sees_its_ranges_at_the_current_revision_only() {
        let keys = ["a/1", "a/2", "b"].map(|key| (Bytes::from(key), Bytes::from("v")));
        let store = Store::new(keys);
        let read = |at| {
            let ranges = vec![
                Range::Prefix(Bytes::from("a/")),
                Range::Key(Bytes::from("c")),
            ];
            store.answer(ControlCall::Read { ranges, at })
        };
        let Outcome::Ok(Reply::Entries {
            revision: 1,
            entries,
        }) = read(None)
        else {
            panic!("{:?}", read(None));
        };
        assert_eq!(entries.len(), 2);
        put(&store, "c", 1, 0);
        assert_eq!(read(Some(1)), Outcome::Compacted);
        let Outcome::Ok(Reply::Entries { entries, .. }) = read(Some(2)) else {
            panic!("{:?}", read(Some(2)));
        };
        assert_eq!(entries.len(), 3);
    }
}
