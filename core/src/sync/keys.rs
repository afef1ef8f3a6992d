//! Hashes of row keys, and the table of the keys that unfinished batches touch.

use alloc::{vec, vec::Vec};

/// XXH64, as its specification has it.
///
/// The slot of a row is this hash of its key modulo the number of slots. The target's progress rows
/// rely on it: after a crash, the same row must come to the same slot. It must never change.
pub(super) fn xxh64(bytes: &[u8], seed: u64) -> u64 {
    let mut chunks = bytes.chunks_exact(32);
    let mut hash = if bytes.len() < 32 {
        seed.wrapping_add(PRIME_5)
    } else {
        let mut lanes = [
            seed.wrapping_add(PRIME_1).wrapping_add(PRIME_2),
            seed.wrapping_add(PRIME_2),
            seed,
            seed.wrapping_sub(PRIME_1),
        ];
        for chunk in &mut chunks {
            for (lane, word) in lanes.iter_mut().zip(chunk.chunks_exact(8)) {
                *lane = round(*lane, le64(word));
            }
        }
        let turns = [1, 7, 12, 18];
        let sum = lanes.iter().zip(turns).fold(0_u64, |sum, (lane, turn)| {
            sum.wrapping_add(lane.rotate_left(turn))
        });
        lanes.iter().fold(sum, |hash, &lane| {
            (hash ^ round(0, lane))
                .wrapping_mul(PRIME_1)
                .wrapping_add(PRIME_4)
        })
    };
    hash = hash.wrapping_add(bytes.len() as u64);
    let mut words = chunks.remainder().chunks_exact(8);
    for word in &mut words {
        hash = (hash ^ round(0, le64(word)))
            .rotate_left(27)
            .wrapping_mul(PRIME_1)
            .wrapping_add(PRIME_4);
    }
    let mut halves = words.remainder().chunks_exact(4);
    for half in &mut halves {
        hash = (hash ^ le64(half).wrapping_mul(PRIME_1))
            .rotate_left(23)
            .wrapping_mul(PRIME_2)
            .wrapping_add(PRIME_3);
    }
    for &byte in halves.remainder() {
        hash = (hash ^ u64::from(byte).wrapping_mul(PRIME_5))
            .rotate_left(11)
            .wrapping_mul(PRIME_1);
    }
    hash = (hash ^ (hash >> 33)).wrapping_mul(PRIME_2);
    hash = (hash ^ (hash >> 29)).wrapping_mul(PRIME_3);
    hash ^ (hash >> 32)
}

const PRIME_1: u64 = 0x9E37_79B1_85EB_CA87;
const PRIME_2: u64 = 0xC2B2_AE3D_27D4_EB4F;
const PRIME_3: u64 = 0x1656_67B1_9E37_79F9;
const PRIME_4: u64 = 0x85EB_CA77_C2B2_AE63;
const PRIME_5: u64 = 0x27D4_EB2F_1656_67C5;

fn round(lane: u64, word: u64) -> u64 {
    lane.wrapping_add(word.wrapping_mul(PRIME_2))
        .rotate_left(31)
        .wrapping_mul(PRIME_1)
}

/// Up to eight bytes as a little-endian number.
fn le64(bytes: &[u8]) -> u64 {
    let mut word = [0; 8];
    word[..bytes.len()].copy_from_slice(bytes);
    u64::from_le_bytes(word)
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
    fn xxh64_is_what_the_specification_says() {
        assert_eq!(xxh64(b"", 0), 0xEF46_DB37_51D8_E999);
        assert_eq!(xxh64(b"a", 0), 0xD24E_C4F1_A98C_6E5B);
        assert_eq!(xxh64(b"abc", 0), 0x44BC_2CF5_AD77_0999);
        let text = b"Nobody inspects the spammish repetition";
        assert_eq!(xxh64(text, 0), 0xFBCE_A83C_8A37_8BF1);
        assert_eq!(xxh64(b"xxhash", 20_141_025), 0xB559_B98D_844E_0635);
    }

    proptest! {
        /// Like an ordered map, as far as holders that live are concerned.
        #[test]
        fn held_keys_are_a_map(steps in prop::collection::vec((0u64..200, 0u64..50), 1..600)) {
            let mut held = HeldKeys::new();
            let mut model = BTreeMap::new();
            let mut finished = 0;
            for (number, (key, finish)) in (1..).zip(steps) {
                finished = finished.max(finish);
                let live = |holder: &Holder| holder.batch > finished;
                held.reserve(1, live);
                let hash = xxh64(&key.to_le_bytes(), 0);
                let (cell, old) = held.find(hash);
                let expected = model.get(&hash).copied();
                prop_assert_eq!(old.filter(live), expected.filter(live));
                let holder = Holder { batch: number, slot: 1, entry: 2 };
                held.hold(cell, hash, holder);
                model.insert(hash, holder);
            }
        }
    }

    #[test]
    fn memory_of_finished_holders_is_used_again() {
        let mut held = HeldKeys::new();
        for number in 1..200_000_u64 {
            held.reserve(1, |holder| holder.batch + 1000 > number);
            let hash = xxh64(&number.to_le_bytes(), 0);
            let (cell, _) = held.find(hash);
            let holder = Holder {
                batch: number,
                slot: 0,
                entry: 0,
            };
            held.hold(cell, hash, holder);
        }
        assert!(held.cells() <= 4096, "{}", held.cells());
    }
}
