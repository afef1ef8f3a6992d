//! Content, and what a power cut leaves of it.

use std::{collections::BTreeSet, ops::Range, time::Duration};

use super::torn;
use crate::dice::Dice;

/// What the kernel caches, allocates, and writes at a time.
pub(super) const PAGE: usize = 4096;
/// So many bytes of a file wait at most to be written; older ones have been written back by
/// themselves, as the kernel does.
const DIRTY: usize = 1 << 20;

/// A file.
#[derive(Clone, Debug, Default)]
pub(super) struct File {
    /// What everybody sees.
    seen: Vec<u8>,
    /// What a power cut cannot take away.
    durable: Vec<u8>,
    /// What happened in between, oldest first.
    dirty: Vec<Change>,
    dirty_bytes: usize,
    /// Pages that count as clean although they were not written, since their sync failed.
    lost: BTreeSet<usize>,
    size_lost: bool,
    failures: u64,
    /// When it was changed last. It is never older after a power cut: nobody needs more.
    modified: Duration,
}

/// One change of content or size.
#[derive(Clone, Debug)]
pub(super) enum Change {
    Write { at: usize, data: Vec<u8> },
    Resize(usize),
}

impl File {
    /// An empty one.
    pub(super) fn new(now: Duration) -> Self {
        Self {
            modified: now,
            ..Self::default()
        }
    }

    pub(super) const fn modified(&self) -> Duration {
        self.modified
    }

    /// Its content changes now.
    pub(super) const fn touch(&mut self, now: Duration) {
        self.modified = now;
    }

    pub(super) fn seen(&self) -> &[u8] {
        &self.seen
    }

    pub(super) fn durable(&self) -> &[u8] {
        &self.durable
    }

    pub(super) const fn len(&self) -> u64 {
        self.seen.len() as u64
    }

    /// The bytes that the model keeps for it.
    pub(super) const fn memory(&self) -> usize {
        self.seen.len() + self.durable.len() + self.dirty_bytes
    }

    /// How many syncs have failed.
    pub(super) const fn failures(&self) -> u64 {
        self.failures
    }

    pub(super) fn write(&mut self, at: usize, data: &[u8]) {
        self.dirty_again(at..at + data.len());
        let data = data.into();
        self.change(Change::Write { at, data });
    }

    pub(super) fn resize(&mut self, len: usize) {
        if len != self.seen.len() {
            let end = self.seen.len().min(len);
            self.dirty_again(end..end + 1);
            self.change(Change::Resize(len));
        }
    }

    /// Makes all changes durable.
    pub(super) fn sync(&mut self) {
        self.write_back(self.dirty.len());
    }

    /// A sync fails: some pages were written, and all of them count as clean. Readers see what was
    /// written to memory, or, where the kernel has dropped the pages, what is on the device.
    pub(super) fn fail(&mut self, dice: &mut Dice) {
        self.failures += 1;
        for change in &self.dirty {
            match change {
                Change::Write { at, data } => self.lost.extend(pages(*at..at + data.len())),
                Change::Resize(len) => self.lost.extend(pages(*len..len + 1)),
            }
        }
        self.size_lost |= !self.dirty.is_empty();
        self.durable = self.survivor(dice, &[]);
        self.forget_changes();
        if dice.permille(500) {
            // The size is the inode's, which is not dropped.
            let len = self.seen.len();
            self.seen.clone_from(&self.durable);
            self.seen.resize(len, 0);
        }
    }

    /// Drops the pages that count as clean. The size is the inode's, which stays.
    pub(super) fn forget(&mut self) {
        let mut device = self.durable.clone();
        device.resize(self.seen.len(), 0);
        // What is dirty is in memory only.
        for &page in &self.lost {
            let start = (page * PAGE).min(device.len());
            let end = (start + PAGE).min(device.len());
            self.seen[start..end].copy_from_slice(&device[start..end]);
        }
    }

    /// The power is cut. Blocks that were never written may have what once was elsewhere.
    pub(super) fn crash(&mut self, dice: &mut Dice, stale: &[u8]) {
        self.durable = self.survivor(dice, stale);
        self.forget_changes();
        self.lost.clear();
        self.size_lost = false;
        self.seen.clone_from(&self.durable);
    }

    fn forget_changes(&mut self) {
        self.dirty.clear();
        self.dirty_bytes = 0;
    }

    fn change(&mut self, change: Change) {
        change.apply(&mut self.seen);
        self.dirty_bytes += change.memory();
        self.dirty.push(change);
        if self.dirty_bytes > DIRTY {
            self.write_back(self.dirty.len().div_ceil(2));
        }
    }

    fn write_back(&mut self, count: usize) {
        for change in self.dirty.drain(..count) {
            self.dirty_bytes -= change.memory();
            change.apply(&mut self.durable);
        }
    }

    /// The kernel writes whole pages, and the size with them: what was lost of them comes back.
    fn dirty_again(&mut self, range: Range<usize>) {
        if std::mem::take(&mut self.size_lost) {
            let end = self.seen.len();
            self.change(Change::Resize(end));
            self.dirty_page_again(end / PAGE);
        }
        for page in pages(range) {
            self.dirty_page_again(page);
        }
    }

    fn dirty_page_again(&mut self, page: usize) {
        let start = page * PAGE;
        if self.lost.remove(&page) && start < self.seen.len() {
            let end = self.seen.len().min(start + PAGE);
            let data = self.seen[start..end].into();
            self.change(Change::Write { at: start, data });
        }
    }

    fn survivor(&self, dice: &mut Dice, stale: &[u8]) -> Vec<u8> {
        torn::survivor(&self.durable, &self.dirty, dice, stale)
    }
}

impl Change {
    fn apply(&self, content: &mut Vec<u8>) {
        match self {
            Self::Write { at, data } => {
                let end = at + data.len();
                if content.len() < end {
                    content.resize(end, 0);
                }
                content[*at..end].copy_from_slice(data);
            }
            Self::Resize(len) => content.resize(*len, 0),
        }
    }

    const fn memory(&self) -> usize {
        size_of::<Self>()
            + match self {
                Self::Write { data, .. } => data.len(),
                Self::Resize(_) => 0,
            }
    }
}

fn pages(of: Range<usize>) -> Range<usize> {
    of.start / PAGE..of.end.div_ceil(PAGE)
}
