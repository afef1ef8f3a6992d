//! Names, and which of their changes a power cut leaves.

use std::collections::BTreeMap;

use super::any_of;
use crate::dice::Dice;

/// So many changes wait at most for a commit; older ones have been committed by themselves, as
/// ext4 does every five seconds.
const WAITING: usize = 4096;

/// A directory.
#[derive(Clone, Debug, Default)]
pub(super) struct Dir {
    /// What everybody sees.
    entries: BTreeMap<String, u64>,
    /// What a power cut cannot take away.
    durable: BTreeMap<String, u64>,
    /// What happened in between, oldest first.
    journal: Vec<Change>,
}

/// One step, of which there are no halves.
#[derive(Clone, Debug)]
enum Change {
    Put { name: String, node: u64 },
    Remove { name: String },
    Rename { from: String, to: String },
}

impl Dir {
    pub(super) const fn entries(&self) -> &BTreeMap<String, u64> {
        &self.entries
    }

    pub(super) const fn durable(&self) -> &BTreeMap<String, u64> {
        &self.durable
    }

    pub(super) fn put(&mut self, name: &str, node: u64) {
        let name = name.into();
        self.change(Change::Put { name, node });
    }

    pub(super) fn remove(&mut self, name: &str) {
        self.change(Change::Remove { name: name.into() });
    }

    pub(super) fn rename(&mut self, from: &str, to: &str) {
        self.change(Change::Rename {
            from: from.into(),
            to: to.into(),
        });
    }

    /// Makes all changes durable.
    pub(super) fn commit(&mut self) {
        self.commit_oldest(self.journal.len());
    }

    /// The power is cut: the journal was written up to somewhere.
    pub(super) fn crash(&mut self, dice: &mut Dice) {
        self.commit_oldest(any_of(dice, self.journal.len()));
        self.journal.clear();
        self.entries.clone_from(&self.durable);
    }

    /// Every node that it has, or may have again after a power cut.
    pub(super) fn nodes(&self) -> impl Iterator<Item = u64> {
        let waiting = self.journal.iter().filter_map(|change| match change {
            Change::Put { node, .. } => Some(*node),
            _ => None,
        });
        let named = self.entries.values().chain(self.durable.values());
        named.copied().chain(waiting)
    }

    fn change(&mut self, change: Change) {
        change.apply(&mut self.entries);
        self.journal.push(change);
        if self.journal.len() > WAITING {
            self.commit_oldest(WAITING / 2);
        }
    }

    fn commit_oldest(&mut self, count: usize) {
        for change in self.journal.drain(..count) {
            change.apply(&mut self.durable);
        }
    }
}

impl Change {
    fn apply(&self, entries: &mut BTreeMap<String, u64>) {
        match self {
            Self::Put { name, node } => {
                entries.insert(name.clone(), *node);
            }
            Self::Remove { name } => {
                entries.remove(name);
            }
            Self::Rename { from, to } => {
                // It is there: all changes that came before have been applied.
                if let Some(node) = entries.remove(from) {
                    entries.insert(to.clone(), node);
                }
            }
        }
    }
}
