//! What a power cut leaves of changes that were not synced.

use std::{collections::BTreeSet, ops::Range};

use super::{
    any_of,
    file::{Change, PAGE},
};
use crate::dice::Dice;

/// What a device writes wholly or not at all.
pub(super) const SECTOR: usize = 512;

/// The content after a power cut: the size is what it was after some of the changes, and each
/// sector has what it had after some of them, its neighbours perhaps after others.
///
/// Blocks that were given to the file and never written have zeros, or what is stale.
pub(super) fn survivor(
    durable: &[u8],
    changes: &[Change],
    dice: &mut Dice,
    stale: &[u8],
) -> Vec<u8> {
    if changes.is_empty() {
        return durable.into();
    }
    let sizes = sizes(durable.len(), changes);
    let sectors = sizes.iter().map(|size| size.div_ceil(SECTOR)).max();
    let mut torn = Torn::new(durable, changes.len(), sectors.unwrap_or(0), dice);
    for (index, change) in changes.iter().enumerate() {
        match change {
            Change::Write { at, data } => torn.write(index, *at, data),
            Change::Resize(len) => torn.resize(index, *len),
        }
    }
    if dice.permille(333) {
        torn.show_stale(durable.len().div_ceil(PAGE) * (PAGE / SECTOR), dice, stale);
    }
    torn.content.resize(sizes[torn.size_after], 0);
    torn.content
}

/// The size before all changes, and after each.
fn sizes(mut size: usize, changes: &[Change]) -> Vec<usize> {
    let mut sizes = vec![size];
    for change in changes {
        size = match change {
            Change::Write { at, data } => size.max(at + data.len()),
            Change::Resize(len) => *len,
        };
        sizes.push(size);
    }
    sizes
}

/// A file that the changes are written to, in part.
struct Torn {
    /// Whole sectors, as many as there ever were.
    content: Vec<u8>,
    /// The size comes from so many changes,
    size_after: usize,
    /// and each sector from so many.
    after: Vec<usize>,
    /// The sectors that there was something to write to,
    dirty: BTreeSet<usize>,
    /// and those that were written.
    written: BTreeSet<usize>,
}

impl Torn {
    fn new(durable: &[u8], all: usize, sectors: usize, dice: &mut Dice) -> Self {
        let (size_after, after) = match dice.within(0..8) {
            0 => (0, vec![0; sectors]),
            1 => (all, vec![all; sectors]),
            2 => {
                let some = any_of(dice, all);
                (some, vec![some; sectors])
            }
            // The size comes before the data, or after them.
            3 => (all, vec![0; sectors]),
            4 => (0, vec![all; sectors]),
            _ => (any_of(dice, all), pages_apart(dice, all, sectors)),
        };
        let mut content = durable.to_vec();
        content.resize(sectors * SECTOR, 0);
        Self {
            content,
            size_after,
            after,
            dirty: BTreeSet::new(),
            written: BTreeSet::new(),
        }
    }

    fn write(&mut self, index: usize, at: usize, data: &[u8]) {
        let end = at + data.len();
        for sector in at / SECTOR..end.div_ceil(SECTOR) {
            self.dirty.insert(sector);
            if index < self.after[sector] {
                self.written.insert(sector);
                let from = at.max(sector * SECTOR);
                let to = end.min((sector + 1) * SECTOR);
                self.content[from..to].copy_from_slice(&data[from - at..to - at]);
            }
        }
    }

    fn resize(&mut self, index: usize, len: usize) {
        // The rest of the last page is zeroed in memory, and written as any other.
        let kept = len.div_ceil(PAGE) * (PAGE / SECTOR);
        for sector in len / SECTOR..kept.min(self.after.len()) {
            if index < self.after[sector] {
                self.content[len.max(sector * SECTOR)..(sector + 1) * SECTOR].fill(0);
            }
        }
        // The blocks behind it go with the size. Before that they are not written any more.
        for sector in kept..self.after.len() {
            if index < self.size_after {
                self.content[bytes(sector)].fill(0);
            } else {
                self.after[sector] = index.min(self.after[sector]);
            }
        }
    }

    /// Blocks from a sector on are new: what was not written to them is from somebody else.
    fn show_stale(&mut self, fresh: usize, dice: &mut Dice, stale: &[u8]) {
        for &sector in self.dirty.difference(&self.written) {
            if sector < fresh {
                continue;
            }
            let content = &mut self.content[bytes(sector)];
            match stale.get(bytes(sector)) {
                Some(stale) => content.copy_from_slice(stale),
                None => content.fill_with(|| dice.roll() as u8),
            }
        }
    }
}

/// After how many changes each sector was written last: those of a page together, or, where the
/// power went in the middle of it, each for itself.
fn pages_apart(dice: &mut Dice, all: usize, sectors: usize) -> Vec<usize> {
    let mut after = Vec::with_capacity(sectors);
    while after.len() < sectors {
        let whole = any_of(dice, all);
        let torn = dice.permille(250);
        for _ in 0..(PAGE / SECTOR).min(sectors - after.len()) {
            after.push(if torn { any_of(dice, all) } else { whole });
        }
    }
    after
}

const fn bytes(sector: usize) -> Range<usize> {
    sector * SECTOR..(sector + 1) * SECTOR
}
