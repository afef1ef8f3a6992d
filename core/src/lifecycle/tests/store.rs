//! A coordination store for tests: revisions, leases, compaction; no time of its own.

use std::{collections::BTreeMap, time::Duration, vec::Vec};

use bytes::Bytes;

use crate::{
    lifecycle::{ControlCall, Entry, Outcome, Range, Reply},
    time::Instant,
};

/// A store with its whole history.
#[derive(Debug, Default)]
pub(super) struct Store {
    pub(super) revision: i64,
    compacted: i64,
    versions: BTreeMap<Bytes, Vec<Version>>,
    leases: BTreeMap<i64, Lease>,
    next_lease: i64,
}

#[derive(Debug)]
struct Version {
    revision: i64,
    entry: Option<Entry>,
}

#[derive(Debug)]
struct Lease {
    ttl: Duration,
    expires: Instant,
}

impl Store {
    /// Writes and deletes in one transaction.
    pub(super) fn write(&mut self, changes: &[(&str, Option<&str>)]) {
        self.revision += 1;
        for (key, value) in changes {
            let key = Bytes::copy_from_slice(key.as_bytes());
            self.set(
                &key,
                value.map(|value| (Bytes::copy_from_slice(value.as_bytes()), 0)),
            );
        }
    }

    /// The entry as of now.
    pub(super) fn get(&self, key: &str) -> Option<&Entry> {
        self.get_at(key, self.revision)
    }

    /// The entry as of a revision, compacted or not.
    pub(super) fn get_at(&self, key: &str, revision: i64) -> Option<&Entry> {
        let versions = self.versions.get(key.as_bytes())?;
        versions
            .iter()
            .rev()
            .find(|it| it.revision <= revision)?
            .entry
            .as_ref()
    }

    /// Whether the key ever had this value.
    pub(super) fn has_held(&self, key: &str, value: &str) -> bool {
        let versions = self.versions.get(key.as_bytes()).into_iter().flatten();
        let mut entries = versions.filter_map(|version| version.entry.as_ref());
        entries.any(|entry| entry.value == value)
    }

    /// Forgets what was before now, for readers and watchers.
    pub(super) const fn compact(&mut self) {
        self.compacted = self.revision;
    }

    /// Whether `revision` can still be watched from.
    pub(super) const fn has(&self, revision: i64) -> bool {
        revision >= self.compacted
    }

    /// The newest change in the ranges.
    pub(super) fn newest(&self, ranges: &[Range]) -> i64 {
        let keys = self
            .versions
            .iter()
            .filter(|(key, _)| ranges.iter().any(|it| covers(it, key)));
        keys.filter_map(|(_, versions)| versions.last())
            .map(|it| it.revision)
            .max()
            .unwrap_or(0)
    }

    /// Whether the lease is alive and holds the key.
    pub(super) fn holds(&self, key: &str) -> bool {
        self.get(key)
            .is_some_and(|entry| self.leases.contains_key(&entry.lease))
    }

    /// Another process writes the key under a lease of its own, without looking.
    pub(super) fn seize(&mut self, now: Instant, key: &str) {
        let ttl = Duration::from_secs(30);
        self.next_lease += 1;
        self.leases.insert(
            self.next_lease,
            Lease {
                ttl,
                expires: now + ttl,
            },
        );
        self.revision += 1;
        let value = Bytes::from_static(b"{}");
        self.set(
            &Bytes::copy_from_slice(key.as_bytes()),
            Some((value, self.next_lease)),
        );
    }

    /// Whether a lease is alive.
    pub(super) fn is_alive(&self, lease: i64) -> bool {
        self.leases.contains_key(&lease)
    }

    /// Lets leases expire.
    pub(super) fn pass(&mut self, now: Instant) {
        let over = |(id, lease): (&i64, &Lease)| (now >= lease.expires).then_some(*id);
        let over: Vec<i64> = self.leases.iter().filter_map(over).collect();
        for id in over {
            self.revoke(id);
        }
    }

    /// Carries out a one-shot call.
    pub(super) fn call(&mut self, now: Instant, call: &ControlCall) -> Outcome {
        match call {
            ControlCall::Grant { ttl } => {
                self.next_lease += 1;
                let lease = Lease {
                    ttl: *ttl,
                    expires: now + *ttl,
                };
                self.leases.insert(self.next_lease, lease);
                Outcome::Ok(Reply::Lease {
                    id: self.next_lease,
                    ttl_s: ttl.as_secs(),
                })
            }
            ControlCall::Renew { lease: id } => {
                let ttl = self.leases.get_mut(id).map(|lease| {
                    lease.expires = now + lease.ttl;
                    lease.ttl.as_secs()
                });
                Outcome::Ok(Reply::Lease {
                    id: *id,
                    ttl_s: ttl.unwrap_or(0),
                })
            }
            ControlCall::Revoke { lease } => {
                self.revoke(*lease);
                Outcome::Ok(Reply::Closed)
            }
            ControlCall::Announce {
                key,
                value,
                lease,
                held_by,
            } => {
                let entry = self.latest(key);
                if entry.as_ref().map_or(0, |entry| entry.lease) != *held_by {
                    return Outcome::Ok(Reply::Refused { entry });
                }
                if !self.leases.contains_key(lease) {
                    return Outcome::Failed(std::vec![super::error(5, "lease not found")]);
                }
                self.revision += 1;
                self.set(key, Some((value.clone(), *lease)));
                Outcome::Ok(Reply::Written {
                    revision: self.revision,
                })
            }
            ControlCall::Replace {
                key,
                value,
                mod_revision,
            } => {
                let entry = self.latest(key);
                if entry.as_ref().map_or(0, |entry| entry.mod_revision) != *mod_revision {
                    return Outcome::Ok(Reply::Refused { entry });
                }
                self.revision += 1;
                self.set(key, value.clone().map(|value| (value, 0)));
                Outcome::Ok(Reply::Written {
                    revision: self.revision,
                })
            }
            ControlCall::Read { ranges, at } => {
                let revision = at.unwrap_or(self.revision);
                if !self.has(revision) {
                    return Outcome::Compacted;
                }
                let keys = self.versions.iter();
                let keys = keys.filter(|(key, _)| ranges.iter().any(|range| covers(range, key)));
                let entries = keys.filter_map(|(_, versions)| {
                    let mut versions = versions.iter().rev();
                    versions.find(|it| it.revision <= revision)?.entry.clone()
                });
                Outcome::Ok(Reply::Entries {
                    revision,
                    entries: entries.collect(),
                })
            }
            ControlCall::Watch { .. } | ControlCall::Unwatch { .. } => panic!("not one-shot"),
        }
    }

    fn latest(&self, key: &Bytes) -> Option<Entry> {
        self.versions.get(key)?.last()?.entry.clone()
    }

    fn revoke(&mut self, id: i64) {
        self.leases.remove(&id);
        let held = |versions: &Vec<Version>| {
            versions
                .last()
                .and_then(|it| it.entry.as_ref())
                .is_some_and(|it| it.lease == id)
        };
        let keys: Vec<Bytes> = self
            .versions
            .iter()
            .filter(|(_, it)| held(it))
            .map(|(key, _)| key.clone())
            .collect();
        for key in keys {
            self.revision += 1;
            self.set(&key, None);
        }
    }

    fn set(&mut self, key: &Bytes, value: Option<(Bytes, i64)>) {
        let revision = self.revision;
        let versions = self.versions.entry(key.clone()).or_default();
        let created = versions.last().and_then(|it| it.entry.as_ref());
        let create_revision = created.map_or(revision, |entry| entry.create_revision);
        let entry = value.map(|(value, lease)| Entry {
            key: key.clone(),
            value,
            create_revision,
            mod_revision: revision,
            lease,
        });
        if entry.is_some() || created.is_some() {
            versions.push(Version { revision, entry });
        }
    }
}

fn covers(range: &Range, key: &Bytes) -> bool {
    match range {
        Range::Key(only) => key == only,
        Range::Prefix(prefix) => key.starts_with(prefix),
    }
}
