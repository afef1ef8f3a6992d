//! Keys with all their versions, one revision for each write.

use std::collections::BTreeMap;

use bytes::Bytes;

use super::model::{Body, Change, KeyValue, Refusal, Span};

/// All versions that are not compacted, and what is needed to tell watchers about them.
#[derive(Debug)]
pub(super) struct History {
    revision: i64,
    /// The oldest revision that can be read.
    compacted: i64,
    current: BTreeMap<Bytes, KeyValue>,
    /// Every change, oldest first. Compaction hides changes but keeps them: states of readable
    /// revisions are made from them.
    changes: Vec<Change>,
}

impl Default for History {
    /// An empty store is at revision 1.
    fn default() -> Self {
        Self {
            revision: 1,
            compacted: 0,
            current: BTreeMap::new(),
            changes: Vec::new(),
        }
    }
}

/// One write: what it changes has one revision, which exists only if it changes something.
pub(super) struct Write<'a> {
    history: &'a mut History,
    revision: i64,
}

impl History {
    pub(super) const fn revision(&self) -> i64 {
        self.revision
    }

    pub(super) fn get(&self, key: &Bytes) -> Option<&KeyValue> {
        self.current.get(key)
    }

    /// Keys that hang on a lease.
    pub(super) fn held_by(&self, lease: i64) -> Vec<Bytes> {
        let held = self.current.values().filter(|kv| kv.lease == lease);
        held.map(|kv| kv.key.clone()).collect()
    }

    /// Refuses what can't be read.
    pub(super) const fn check(&self, revision: i64) -> Result<(), Refusal> {
        if revision > self.revision {
            return Err(Refusal::FUTURE);
        }
        if revision > 0 && revision < self.compacted {
            return Err(Refusal::COMPACTED);
        }
        Ok(())
    }

    pub(super) const fn compact(&mut self, revision: i64) -> Result<(), Refusal> {
        if revision <= self.compacted {
            return Err(Refusal::COMPACTED);
        }
        if revision > self.revision {
            return Err(Refusal::FUTURE);
        }
        self.compacted = revision;
        Ok(())
    }

    pub(super) fn changes(&self, span: &Span, from: i64) -> Result<Vec<Change>, i64> {
        if from > 0 && from < self.compacted {
            return Err(self.compacted);
        }
        let first = self
            .changes
            .partition_point(|change| change.revision < from);
        let wanted = self.changes[first..]
            .iter()
            .filter(|change| span.covers(&change.key));
        Ok(wanted.cloned().collect())
    }

    pub(super) fn begin(&mut self) -> Write<'_> {
        let revision = self.revision + 1;
        Write {
            history: self,
            revision,
        }
    }

    /// The entries of a range as of a revision.
    pub(super) fn at(&self, span: &Span, revision: i64) -> Vec<KeyValue> {
        let within = |map: &BTreeMap<Bytes, KeyValue>| -> BTreeMap<Bytes, KeyValue> {
            let inside = map.values().filter(|kv| span.covers(&kv.key));
            inside.map(|kv| (kv.key.clone(), kv.clone())).collect()
        };
        let mut entries = within(&self.current);
        if revision > 0 {
            // Newer changes are taken back, the newest first.
            let newer = self.changes.iter().rev();
            for change in newer.take_while(|change| change.revision > revision) {
                if !span.covers(&change.key) {
                    continue;
                }
                match &change.before {
                    Some(before) => entries.insert(change.key.clone(), before.clone()),
                    None => entries.remove(&change.key),
                };
            }
        }
        entries.into_values().collect()
    }
}

impl Write<'_> {
    pub(super) fn put(&mut self, key: &Bytes, value: &Bytes, lease: i64) {
        let before = self.history.current.get(key).cloned();
        let now = KeyValue {
            key: key.clone(),
            value: value.clone(),
            create_revision: before
                .as_ref()
                .map_or(self.revision, |kv| kv.create_revision),
            mod_revision: self.revision,
            version: before.as_ref().map_or(0, |kv| kv.version) + 1,
            lease,
        };
        self.history.current.insert(key.clone(), now.clone());
        self.note(key.clone(), Some(now), before);
    }

    pub(super) fn delete(&mut self, span: &Span) -> i64 {
        let doomed = self.history.current.keys().filter(|key| span.covers(key));
        let doomed: Vec<Bytes> = doomed.cloned().collect();
        for key in &doomed {
            let before = self.history.current.remove(key);
            self.note(key.clone(), None, before);
        }
        doomed.len() as i64
    }

    pub(super) fn range(&self, span: &Span, revision: i64, limit: usize) -> Body {
        let mut entries = self.history.at(span, revision);
        let count = entries.len();
        if limit > 0 {
            entries.truncate(limit);
        }
        Body::Entries {
            more: entries.len() < count,
            entries,
            count: count as i64,
        }
    }

    fn note(&mut self, key: Bytes, now: Option<KeyValue>, before: Option<KeyValue>) {
        self.history.revision = self.revision;
        self.history.changes.push(Change {
            revision: self.revision,
            key,
            now,
            before,
        });
    }
}
