//! What goes in: transactions and their row changes.

use alloc::{format, sync::Arc};

use super::{Planner, Scratch, Txn};
use crate::{
    binlog::{Position, RowChange},
    error::{Error, Result, code},
    guard::Guard,
    sync::{
        batch::{Open, change_bytes},
        keys::Holder,
        progress::{Applied, Location, TxnId},
        table::{Effect, TablePlan},
    },
    time::Instant,
};

impl Planner {
    /// A transaction begins. `safe`: the target may have any part of it and of what follows.
    ///
    /// # Errors
    /// The source sends its transactions in another order than before, so that what the slots
    /// have applied is no prefix of it. (By GTID; after a switch to another server.)
    pub fn begin(&mut self, now: Instant, id: TxnId, safe: bool) -> Result<()> {
        assert!(self.txn.is_none(), "a transaction begins inside another");
        if self.replaying > 0 {
            self.begin_replay(&id)?;
        }
        self.flushing = false;
        self.txn = Some(Txn {
            id,
            now,
            safe,
            rows: 0,
        });
        Ok(())
    }

    /// Sees that a transaction is the one that each slot expects next, or has already.
    fn begin_replay(&mut self, id: &TxnId) -> Result<()> {
        let by_gtid = self.config.by_gtid;
        for slot in &mut self.slots {
            let Some(resume) = &slot.resume else { continue };
            if resume.boundary.contains(id, by_gtid) {
                continue;
            }
            // By position, that it isn't contained says already that the reader has come so far.
            let has_sets = self.boundary.gtids.is_some() && resume.boundary.gtids.is_some();
            let caught_up =
                !(by_gtid && has_sets) || self.boundary.reaches(&resume.boundary, by_gtid);
            match &resume.txn {
                Some(txn) if caught_up && txn.is_same(id, by_gtid) => {}
                None if caught_up => {
                    slot.resume = None;
                    self.replaying -= 1;
                }
                _ => return Err(order_changed(id, resume)),
            }
        }
        Ok(())
    }

    /// Sees which slots the reader has caught up with.
    fn end_replay(&mut self) {
        let by_gtid = self.config.by_gtid;
        for slot in &mut self.slots {
            let is_past = |resume: &Applied| {
                let contains = |txn: &TxnId| self.boundary.contains(txn, by_gtid);
                self.boundary.reaches(&resume.boundary, by_gtid)
                    && resume.txn.as_ref().is_none_or(contains)
                    || !Guard::ReplayEnd.holds()
            };
            if slot.resume.as_ref().is_some_and(is_past) {
                slot.resume = None;
                self.replaying -= 1;
            }
        }
    }

    /// Row changes of the open transaction that are filtered out. They are counted.
    pub fn skip_rows(&mut self, rows: u64) {
        self.open_txn().rows += rows;
    }

    /// The next row change of the open transaction.
    ///
    /// # Errors
    /// With one slot, a transaction that doesn't fit in memory.
    pub fn row(&mut self, table: &Arc<TablePlan>, change: RowChange) -> Result<()> {
        let Scratch { key, hashes, .. } = &mut self.scratch;
        table.hash_keys(&change, key, hashes);
        let slot = self.slot_of(table);
        let txn = self.open_txn();
        let (ordinal, safe) = (txn.rows, txn.safe);
        if self.replaying > 0 && self.is_replayed(slot, ordinal) {
            self.open_txn().rows += 1;
            return Ok(());
        }
        let bytes = change_bytes(&change);
        self.make_room(slot, table, bytes)?;
        for (effect, change) in table.effects(change, safe).into_iter().flatten() {
            if safe {
                // A step touches fewer keys than the whole change.
                let Scratch { key, hashes, .. } = &mut self.scratch;
                table.hash_keys(&change, key, hashes);
            }
            self.add(slot, table, effect, change);
        }
        self.open_txn().rows += 1;
        if let Some(open) = &mut self.slots[slot].open {
            open.rows += 1;
            open.safe |= safe;
        }
        Ok(())
    }

    /// The slot of the change whose keys are hashed.
    fn slot_of(&self, table: &TablePlan) -> usize {
        let guard = if table.is_serial() {
            Guard::KeylessSlot
        } else {
            Guard::SlotByKey
        };
        let hash = if guard.holds() {
            self.scratch.hashes[0]
        } else {
            // One after the other, which a replay does not repeat.
            self.passed + self.txn.as_ref().map_or(0, |txn| txn.rows)
        };
        (hash % self.slots.len() as u64) as usize
    }

    fn is_replayed(&self, slot: usize, ordinal: u64) -> bool {
        let Some(Txn { id, .. }) = &self.txn else {
            return false;
        };
        let covers = |resume: &Applied| ordinal < resume.rows_of(id, self.config.by_gtid);
        self.slots[slot].resume.as_ref().is_some_and(covers) && Guard::ReplaySkip.holds()
    }

    /// Sees that the slot has an open batch which can take so many bytes more.
    fn make_room(&mut self, slot: usize, table: &TablePlan, bytes: usize) -> Result<()> {
        let limits = self.config.limits();
        if let Some(open) = &self.slots[slot].open {
            if self.slots.len() > 1 || !Guard::WholeTransactions.holds() {
                if !open.has_room(&limits, table, bytes) {
                    self.close(slot);
                }
            } else if open.bytes + bytes > self.config.memory_bytes_max {
                return Err(too_large(self.config.memory_bytes_max));
            }
        }
        if self.slots[slot].open.is_none() {
            self.batches += 1;
            let now = self.open_txn().now;
            let first = (self.passed, Arc::clone(&self.boundary));
            let open = Open::new(self.batches, now, first);
            self.bytes += open.bytes;
            self.slots[slot].open = Some(open);
        }
        Ok(())
    }

    /// Puts a change, whose keys are hashed, into the open batch of its slot.
    fn add(&mut self, slot: usize, table: &Arc<TablePlan>, effect: Effect, change: RowChange) {
        let slots = &self.slots;
        self.held.reserve(self.scratch.hashes.len(), |holder| {
            slots[holder.slot as usize].applied_last < holder.batch
        });
        self.scratch.touching.clear();
        for index in 0..self.scratch.hashes.len() {
            let (_, holder) = self.held.find(self.scratch.hashes[index]);
            if let Some(holder) = holder {
                self.touch(slot, holder);
            }
        }
        let Some(open) = &mut self.slots[slot].open else {
            unreachable!("`make_room` has opened it");
        };
        let before = open.bytes;
        let entry = open.add(table, effect, change, &self.scratch.touching);
        // Joining may also free some.
        self.bytes = self.bytes + open.bytes - before;
        let holder = Holder {
            batch: open.number,
            slot: slot as u32,
            entry,
        };
        for &hash in &self.scratch.hashes {
            let (cell, _) = self.held.find(hash);
            self.held.hold(cell, hash, holder);
        }
    }

    /// A change for `slot` touches a key that `holder` touched last.
    fn touch(&mut self, slot: usize, holder: Holder) {
        let other = holder.slot as usize;
        if other == slot {
            let open = self.slots[slot].open.as_ref();
            // Of an earlier batch of the same slot: their order is enough.
            if open.is_some_and(|open| open.number == holder.batch)
                && !self.scratch.touching.contains(&holder.entry)
            {
                self.scratch.touching.push(holder.entry);
            }
            return;
        }
        if self.slots[other].applied_last >= holder.batch || !Guard::ConflictWait.holds() {
            return;
        }
        let is_open = |open: &Open| open.number == holder.batch;
        if self.slots[other].open.as_ref().is_some_and(is_open) && Guard::ConflictClose.holds() {
            self.close(other);
        }
        if let Some(open) = &mut self.slots[slot].open {
            open.wait_for(holder.slot, holder.batch);
        }
    }

    /// The open transaction ends at `end`.
    pub fn commit(&mut self, end: Position) {
        let Some(txn) = self.txn.take() else {
            panic!("a commit without a transaction");
        };
        Arc::make_mut(&mut self.boundary).pass(&txn.id, end);
        self.passed += 1;
        if self.replaying > 0 {
            self.end_replay();
        }
        let limits = self.config.limits();
        if self.slots.len() == 1
            && self.slots[0]
                .open
                .as_ref()
                .is_some_and(|o| o.is_full(&limits))
        {
            self.close(0);
        }
    }

    /// The reader is at `location` without anything to apply: behind a rotation, an empty
    /// transaction, or one that is filtered out as a whole.
    pub fn advance(&mut self, location: Location) {
        assert!(self.txn.is_none(), "a transaction is open");
        self.boundary = Arc::new(location);
        if self.replaying > 0 {
            self.end_replay();
        }
    }

    fn open_txn(&mut self) -> &mut Txn {
        let Some(txn) = &mut self.txn else {
            panic!("rows outside a transaction");
        };
        txn
    }
}

fn order_changed(id: &TxnId, resume: &Applied) -> Error {
    Error::new(
        &code::SYNCER_GET_EVENT,
        format!(
            "the source sends transaction {id}, but the target has applied others that should \
             come before it, up to {resume}"
        ),
    )
    .with_workaround(
        "The source's binlog has another order (or a gap) compared with the one that was read \
         before. Start from the server that was used last, or remove the task's progress in the \
         target and start from its checkpoint in safe mode.",
    )
}

fn too_large(bytes_max: usize) -> Error {
    Error::new(
        &code::SYNCER_UNIT_NOT_SUPPORTED_OPERATE,
        format!("a transaction of the source takes more than {bytes_max} bytes of memory"),
    )
    .with_workaround(
        "With one worker, transactions of the source stay whole and must fit in memory. Set \
         `worker-count` above 1: then large transactions are cut into batches; or give tasks \
         more memory (`-row-memory-bytes`).",
    )
}
