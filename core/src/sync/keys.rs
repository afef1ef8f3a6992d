//! Hashes of row keys, and the table of the keys that unfinished batches touch.

use alloc::{vec, vec::Vec};

use twox_hash::XxHash64;

/// XXH64 of some bytes.
///
/// The slot of a row is this hash of its key modulo the number of slots. The target's progress rows
/// rely on it: after a crash, the same row must come to the same slot. It must never change.
pub(super) fn hash(bytes: &[u8], seed: u64) -> u64 {
    XxHash64::oneshot(seed, bytes)
}

/// Who touched a key last.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) struct Holder {
    /// Number of the batch; batches of one slot are numbered, and finish, in ascending order.
    pub(super) batch: u64,
    /// Slot of that batch.
    pub(super) slot: u32,
    /// Index of the entry in that batch.
    pub(super) entry: u32,
}

/// For each key hash, its last holder.
///
/// The last one is enough: whoever touches a key after it waits for it, and it waited for the one
/// before. Open addressing with linear probing on hashes that are uniform already. Nothing is ever
/// removed: an entry whose batch has finished is dead, and the dead are left behind when the table
/// fills up and is written anew. So the memory follows the number of unfinished rows, and finishing
/// a batch costs nothing.
#[derive(Debug)]
pub(super) struct HeldKeys {
    /// Zero in `batch` marks a free cell. The length is a power of two.
    cells: Vec<(u64, Holder)>,
    used: usize,
}

/// A cell of [`HeldKeys`]; good until [`HeldKeys::reserve`] is called.
#[derive(Clone, Copy, Debug)]
pub(super) struct Cell(usize);

impl HeldKeys {
    const CELLS_MIN: usize = 1 << 10;
    const FREE: (u64, Holder) = (
        0,
        Holder {
            batch: 0,
            slot: 0,
            entry: 0,
        },
    );

    pub(super) fn new() -> Self {
        Self {
            cells: vec![Self::FREE; Self::CELLS_MIN],
            used: 0,
        }
    }

    /// Makes room for `count` more keys; `is_live` tells holders that have not finished.
    pub(super) fn reserve(&mut self, count: usize, is_live: impl Fn(&Holder) -> bool) {
        if (self.used + count) * 4 <= self.cells.len() * 3 {
            return;
        }
        let live = |cell: &&(u64, Holder)| cell.1.batch > 0 && is_live(&cell.1);
        let old = core::mem::take(&mut self.cells);
        self.used = old.iter().filter(live).count();
        let size = ((self.used + count) * 3).next_power_of_two();
        self.cells = vec![Self::FREE; size.max(Self::CELLS_MIN)];
        for &(hash, holder) in old.iter().filter(live) {
            let Cell(index) = self.locate(hash);
            self.cells[index] = (hash, holder);
        }
    }

    /// The cell of a key and who held it last, possibly long finished. [`Self::reserve`] has to be
    /// called before.
    pub(super) fn find(&self, hash: u64) -> (Cell, Option<Holder>) {
        let cell = self.locate(hash);
        let holder = self.cells[cell.0].1;
        (cell, (holder.batch > 0).then_some(holder))
    }

    /// Writes down who holds the key of a cell that [`Self::find`] has just found.
    pub(super) fn hold(&mut self, cell: Cell, hash: u64, holder: Holder) {
        let old = &mut self.cells[cell.0];
        self.used += usize::from(old.1.batch == 0);
        *old = (hash, holder);
    }

    /// The key's cell, or the free one where it belongs. There is one: a quarter is always free.
    fn locate(&self, hash: u64) -> Cell {
        let mask = self.cells.len() - 1;
        // The low bits decide the slot, so take the high ones here.
        let mut index = (hash >> 32) as usize & mask;
        while self.cells[index].1.batch > 0 && self.cells[index].0 != hash {
            index = (index + 1) & mask;
        }
        Cell(index)
    }

    #[cfg(test)]
    pub(super) fn cells(&self) -> usize {
        self.cells.len()
    }
}

#[cfg(test)]
mod tests {
    use alloc::collections::BTreeMap;

    use proptest::prelude::*;

    use super::*;

    #[test]
    fn slots_never_change() {
        assert_eq!(hash(b"", 0), 0xEF46_DB37_51D8_E999);
        assert_eq!(hash(b"abc", 0), 0x44BC_2CF5_AD77_0999);
        let text = b"Nobody inspects the spammish repetition";
        assert_eq!(hash(text, 0), 0xFBCE_A83C_8A37_8BF1);
        assert_eq!(hash(b"xxhash", 20_141_025), 0xB559_B98D_844E_0635);
    }

    proptest! {
        /// Like an ordered map, as far as holders that live are concerned.
        #[test]
        fn held_keys_are_a_map(steps in prop::collection::vec((0u64..200, 0u64..50), 1..600)) {
            let mut held = HeldKeys::new();
            let mut model = BTreeMap::new();
            let mut finished = 0;
            for (number, (row, finish)) in (1..).zip(steps) {
                finished = finished.max(finish);
                let live = |holder: &Holder| holder.batch > finished;
                held.reserve(1, live);
                let key = hash(&row.to_le_bytes(), 0);
                let (cell, old) = held.find(key);
                let expected = model.get(&key).copied();
                prop_assert_eq!(old.filter(live), expected.filter(live));
                let holder = Holder { batch: number, slot: 1, entry: 2 };
                held.hold(cell, key, holder);
                model.insert(key, holder);
            }
        }
    }

    #[test]
    fn memory_of_finished_holders_is_used_again() {
        let mut held = HeldKeys::new();
        for number in 1..200_000_u64 {
            held.reserve(1, |holder| holder.batch + 1000 > number);
            let key = hash(&number.to_le_bytes(), 0);
            let (cell, _) = held.find(key);
            let holder = Holder {
                batch: number,
                slot: 0,
                entry: 0,
            };
            held.hold(cell, key, holder);
        }
        assert!(held.cells() <= 4096, "{}", held.cells());
    }
}
