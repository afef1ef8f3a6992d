//! The planner: row changes in binlog order go in, batches for parallel slots come out.
//!
//! * **Slots.** A change belongs to the slot that the hash of its table and row key names, so a
//!   replay brings it to the same slot. A slot applies its batches one after another, each in one
//!   transaction together with its progress row. A table whose rows can't be told apart, or that
//!   has a unique key which can't be computed from a row image, has one slot for all its rows.
//! * **Replay.** After a start the binlog is read from the lowest place of all slots; what a slot
//!   has applied already is left out, by transaction and ordinal of the row in it. The ordinal
//!   counts rows before any filter, so that another configuration doesn't shift it.
//! * **Conflicts.** A change that shares a unique key value with an unfinished change of another
//!   slot waits for it: its batch is handed out only when that one's batch is applied.
//! * **Never a deadlock.** The batch waited for is closed at that moment, so that it can't begin to
//!   wait for anything itself. Hence a batch waits only for batches that were closed before it was,
//!   and the one that was closed first waits for none.
//! * **Exactly once.** The progress that a batch leaves says exactly: all changes of the slot up to
//!   this place. A batch that failed is the next one of its slot until it is applied; nothing later
//!   of the slot overtakes it.
//! * **One slot** keeps the source's transactions whole: each is in one batch, so the target is at
//!   a boundary of the source all the time. The price is that a transaction must fit in memory.
//! * **Memory** is one number: bytes of all changes that are not applied yet.
//!
//! What a slot is, depends on the unique keys of the target's table. DDL lets all slots drain
//! first, so a replay never crosses one; changing the keys of a target table by hand while a
//! crashed subtask has yet to be resumed breaks this.

mod slot;
#[cfg(test)]
mod tests;

use alloc::{format, sync::Arc, vec::Vec};
use core::time::Duration;

use super::{
    batch::{Batch, Limits, Open, change_bytes},
    keys::{HeldKeys, Holder},
    progress::{Applied, Location, SlotProgress, TxnId},
    table::{Effect, TablePlan},
};
use crate::{
    binlog::{Position, RowChange},
    error::{Error, Result, code},
    time::Instant,
};
use slot::{Slot, State};

/// Sizes and times of a planner.
#[derive(Clone, Debug)]
pub struct PlannerConfig {
    /// Slots wanted. Those of the progress are used until that window is closed.
    pub slots: u32,
    /// Rows per batch, after joining changes of one row.
    pub batch_rows_max: u32,
    /// Memory per batch, in bytes.
    pub batch_bytes_max: usize,
    /// Bytes that a packet to the target may have, less what goes with the rows.
    pub packet_bytes_max: usize,
    /// Memory for all changes that are not applied yet, in bytes.
    pub memory_bytes_max: usize,
    /// How long a slot that is free waits for more changes before it takes what there is.
    pub linger: Duration,
    /// Whether transactions are known by GTID, or by position.
    pub by_gtid: bool,
}

impl PlannerConfig {
    /// Progress of all slots at one location, as it is when a target's progress is made anew.
    pub fn fresh(&self, location: &Location) -> Vec<SlotProgress> {
        let row = |slot| SlotProgress {
            slot,
            seq: 0,
            applied: Applied::at(location.clone()),
        };
        (0..self.slots.max(1)).map(row).collect()
    }

    fn limits(&self) -> Limits {
        Limits {
            rows_max: self.batch_rows_max,
            bytes_max: self.batch_bytes_max,
            packet_bytes_max: self.packet_bytes_max,
        }
    }
}

/// How handing out a batch ended.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Outcome {
    /// It is applied, and the progress row moved.
    Applied,
    /// It is certainly not applied. [`Planner::retry`] hands it out again.
    Failed,
    /// It may be applied or not: read the progress row back and tell [`Planner::resolved`].
    Unknown,
    /// Somebody newer owns the source: this planner is over.
    Fenced,
    /// The progress row is not where this planner left it: it is over.
    Moved,
}

/// Turns a stream of row changes into batches. See the module's documentation.
#[derive(Debug)]
pub struct Planner {
    config: PlannerConfig,
    slots: Vec<Slot>,
    /// The slot to be looked at first when the next batch is asked for.
    turn: usize,
    held: HeldKeys,
    /// Where the reader is: the boundary before the open transaction, if there is one.
    boundary: Arc<Location>,
    /// The highest boundary that any slot had at the start.
    highest: Location,
    txn: Option<Txn>,
    /// Transactions committed so far: orders the boundaries that the reader has been at.
    passed: u64,
    /// Batches opened so far.
    batches: u64,
    /// Slots that had come further than the reader has.
    replaying: usize,
    /// Memory of all changes that are not applied.
    bytes: usize,
    flushing: bool,
    alone: Option<Alone>,
    over: bool,
    scratch: Scratch,
    #[cfg(test)]
    broken: Option<Guard>,
}

/// The transaction that is being read.
#[derive(Debug)]
struct Txn {
    id: TxnId,
    now: Instant,
    safe: bool,
    rows: u64,
}

/// A batch that is to be tried with nothing else under way.
#[derive(Debug)]
struct Alone {
    slot: usize,
    /// Only batches up to this number are handed out before.
    batch_last: u64,
}

/// Buffers that are used again for each row.
#[derive(Debug, Default)]
struct Scratch {
    key: Vec<u8>,
    hashes: Vec<u64>,
    touching: Vec<u32>,
}

/// What keeps the planner right; the tests take each away to see that they notice.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
enum Guard {
    /// Waiting for conflicting changes of other slots.
    Wait,
    /// Leaving out what a slot has applied.
    Replay,
    /// Putting changes with a common key value into different groups.
    Group,
    /// Closing the batch that is waited for.
    Close,
    /// Keeping transactions whole with one slot.
    Whole,
}

impl Planner {
    /// A planner that goes on where the slots are. There must be at least one, numbered from zero.
    pub fn new(config: PlannerConfig, resume: Vec<SlotProgress>) -> Self {
        assert!(!resume.is_empty(), "progress of at least one slot");
        let by_gtid = config.by_gtid;
        let boundaries = || resume.iter().map(|row| &row.applied.boundary);
        let is_lowest = |low: &&Location| boundaries().all(|other| other.reaches(low, by_gtid));
        let is_highest = |high: &&Location| boundaries().all(|other| high.reaches(other, by_gtid));
        // Places in one stream are ordered; where they aren't, `begin` notices.
        let lowest = boundaries()
            .find(is_lowest)
            .unwrap_or(&resume[0].applied.boundary)
            .clone();
        let highest = boundaries().find(is_highest).unwrap_or(&lowest).clone();
        let slots: Vec<_> = resume
            .into_iter()
            .map(|row| Slot::new(row, &lowest))
            .collect();
        for (index, slot) in slots.iter().enumerate() {
            assert_eq!(
                slot.progress.slot as usize, index,
                "slots are numbered from zero"
            );
        }
        Self {
            turn: 0,
            held: HeldKeys::new(),
            boundary: Arc::new(lowest),
            highest,
            txn: None,
            passed: 0,
            batches: 0,
            replaying: slots.iter().filter(|slot| slot.resume.is_some()).count(),
            bytes: 0,
            flushing: false,
            alone: None,
            over: false,
            scratch: Scratch::default(),
            slots,
            config,
            #[cfg(test)]
            broken: None,
        }
    }

    /// The boundary that the reader has come to; at first, where it has to start.
    pub fn location(&self) -> &Location {
        &self.boundary
    }

    /// How many slots there are.
    pub fn slots(&self) -> u32 {
        self.slots.len() as u32
    }

    /// The slot count to change to, once the reader is past everything that was applied before the
    /// start. Drain, make the progress rows anew, and take a new planner.
    pub fn wants_slots(&self) -> Option<u32> {
        let wanted = self.config.slots.max(1);
        (self.replaying == 0 && wanted != self.slots()).then_some(wanted)
    }

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
        let slot = (self.scratch.hashes[0] % self.slots.len() as u64) as usize;
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
        }
        Ok(())
    }

    fn is_replayed(&self, slot: usize, ordinal: u64) -> bool {
        let Some(Txn { id, .. }) = &self.txn else {
            return false;
        };
        let covers = |resume: &Applied| ordinal < resume.rows_of(id, self.config.by_gtid);
        self.slots[slot].resume.as_ref().is_some_and(covers) && !self.is_broken(Guard::Replay)
    }

    /// Sees that the slot has an open batch which can take so many bytes more.
    fn make_room(&mut self, slot: usize, table: &TablePlan, bytes: usize) -> Result<()> {
        let limits = self.config.limits();
        if let Some(open) = &self.slots[slot].open {
            if self.slots.len() > 1 || self.is_broken(Guard::Whole) {
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
            self.slots[slot].open = Some(Open::new(self.batches, now, first));
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
        let groups = !self.is_broken(Guard::Group);
        let Some(open) = &mut self.slots[slot].open else {
            unreachable!("`make_room` has opened it");
        };
        let before = open.bytes;
        let entry = open.add(table, effect, change, &self.scratch.touching, groups);
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
        if self.slots[other].applied_last >= holder.batch || self.is_broken(Guard::Wait) {
            return;
        }
        let is_open = |open: &Open| open.number == holder.batch;
        if self.slots[other].open.as_ref().is_some_and(is_open) && !self.is_broken(Guard::Close) {
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

    /// The next batch to be applied, for a slot that is free. Ask until there is none.
    pub fn poll_batch(&mut self, now: Instant) -> Option<Arc<Batch>> {
        if self.over {
            return None;
        }
        for step in 0..self.slots.len() {
            let slot = (self.turn + step) % self.slots.len();
            if let Some(batch) = self.poll_slot(slot, now) {
                self.turn = slot + 1;
                return Some(batch);
            }
        }
        let alone = self.alone.as_ref()?.slot;
        let is_quiet = |(index, slot): (usize, &Slot)| index == alone || slot.flight.is_none();
        if self.slots.iter().enumerate().all(is_quiet) {
            return self.slots[alone].hand_out_again();
        }
        None
    }

    fn poll_slot(&mut self, slot: usize, now: Instant) -> Option<Arc<Batch>> {
        if self.alone.as_ref().is_some_and(|alone| alone.slot == slot) {
            return None;
        }
        if self.slots[slot].flight.is_some() {
            return self.slots[slot].hand_out_again();
        }
        if self.slots[slot].closed.is_empty() {
            let open = self.slots[slot].open.as_ref()?;
            if !self.is_due(open, now) || !self.is_clear(&open.waits) {
                return None;
            }
            self.close(slot);
        }
        let closed = self.slots[slot].closed.front()?;
        let too_late = |alone: &Alone| closed.open.number > alone.batch_last;
        if self.alone.as_ref().is_some_and(too_late) || !self.is_clear(&closed.open.waits) {
            return None;
        }
        self.slots[slot].hand_out()
    }

    fn is_clear(&self, waits: &[(u32, u64)]) -> bool {
        waits
            .iter()
            .all(|&(slot, batch)| self.slots[slot as usize].applied_last >= batch)
    }

    /// Whether an open batch may be taken as it is.
    fn is_due(&self, open: &Open, now: Instant) -> bool {
        let whole = self.slots.len() > 1 || self.txn.is_none() || self.is_broken(Guard::Whole);
        whole
            && (self.flushing
                || self.free_bytes() == 0
                || now >= open.since + self.config.linger
                || open.is_full(&self.config.limits()))
    }

    /// When [`Self::poll_batch`] should be called again, though nothing happens until then.
    pub fn poll_timeout(&self) -> Option<Instant> {
        let waits_for_time = |slot: &&Slot| slot.flight.is_none() && slot.closed.is_empty();
        let open = self
            .slots
            .iter()
            .filter(waits_for_time)
            .filter_map(|slot| slot.open.as_ref());
        let open = open.filter(|open| self.is_clear(&open.waits));
        // Everything else is set off by something that happens.
        if self.over || self.alone.is_some() || self.slots.len() == 1 && self.txn.is_some() {
            return None;
        }
        open.map(|open| open.since + self.config.linger).min()
    }

    /// Says how applying the batch that was handed out for `slot` ended.
    pub fn done(&mut self, slot: u32, outcome: Outcome) {
        let index = slot as usize;
        let Some(flight) = &mut self.slots[index].flight else {
            panic!("slot {slot} has no batch under way");
        };
        match outcome {
            Outcome::Applied => {
                self.bytes -= self.slots[index].finish();
                if self.alone.as_ref().is_some_and(|alone| alone.slot == index) {
                    self.alone = None;
                }
            }
            Outcome::Failed => flight.state = State::Failed,
            Outcome::Unknown => flight.state = State::Unknown,
            Outcome::Fenced | Outcome::Moved => self.over = true,
        }
    }

    /// After [`Outcome::Unknown`]: the counter in the slot's progress row says what happened.
    ///
    /// Nothing of the earlier attempt may be able to happen any more.
    pub fn resolved(&mut self, slot: u32, seq: u64) -> Outcome {
        let Some(flight) = &self.slots[slot as usize].flight else {
            panic!("slot {slot} has no batch under way");
        };
        let outcome = match seq.checked_sub(flight.batch.seq) {
            Some(0) => Outcome::Failed,
            Some(1) => Outcome::Applied,
            _ => Outcome::Moved,
        };
        self.done(slot, outcome);
        outcome
    }

    /// After [`Outcome::Failed`]: [`Self::poll_batch`] hands the same batch out again.
    pub fn retry(&mut self, slot: u32) {
        let Some(flight) = &mut self.slots[slot as usize].flight else {
            panic!("slot {slot} has no batch under way");
        };
        assert_eq!(flight.state, State::Failed, "slot {slot} has not failed");
        flight.state = State::Ready;
    }

    /// Like [`Self::retry`], but with nothing else under way, and only once everything that can be
    /// applied before it is. For a duplicate key that should not be: keys that only the target's
    /// collation takes for equal are ordered by this.
    pub fn retry_alone(&mut self, slot: u32) {
        self.retry(slot);
        if self.alone.is_some() {
            return;
        }
        if self.slots.len() > 1 {
            (0..self.slots.len()).for_each(|slot| self.close(slot));
        }
        self.alone = Some(Alone {
            slot: slot as usize,
            batch_last: self.batches,
        });
    }

    /// Lets everything go out without waiting for more, until the next transaction begins.
    pub fn flush(&mut self) {
        self.flushing = true;
    }

    /// Whether everything that was put in is applied.
    pub fn drained(&self) -> bool {
        self.slots.iter().all(Slot::is_idle)
    }

    /// While drained, the target moved all slots to `applied`: after a DDL, or one piece of it.
    pub fn barrier(&mut self, applied: &Applied) {
        assert!(self.drained() && self.txn.is_none(), "slots are at work");
        for slot in &mut self.slots {
            slot.progress.seq += 1;
            slot.progress.applied = applied.clone();
            slot.resume = None;
        }
        self.replaying = 0;
        self.boundary = Arc::new(applied.boundary.clone());
    }

    /// How many leading pieces of a DDL event every slot has behind it: `u64::MAX` for all.
    pub fn pieces_done(&self, id: &TxnId) -> u64 {
        let done = self
            .slots
            .iter()
            .map(|slot| slot.progress.applied.rows_of(id, self.config.by_gtid));
        done.min().unwrap_or(0)
    }

    /// Moves the progress of slots that had nothing to do to where the reader is: makes batches
    /// without rows for them.
    pub fn move_idle(&mut self) {
        if self.slots.len() == 1 && self.txn.is_some() {
            return;
        }
        let place = self.place();
        for index in 0..self.slots.len() {
            let slot = &self.slots[index];
            let is_behind = slot.resume.is_none() && slot.progress.applied != place;
            if slot.is_idle() && is_behind {
                self.batches += 1;
                let first = (self.passed, Arc::clone(&self.boundary));
                self.slots[index].open = Some(Open::new(self.batches, Instant::START, first));
                self.close(index);
            }
        }
    }

    /// Everything before it is applied, and so much that nothing higher can be said.
    pub fn watermark(&self) -> &Location {
        let first = self.slots.iter().filter_map(Slot::first_unfinished);
        first
            .min_by_key(|first| first.0)
            .map_or(&self.boundary, |(_, boundary)| boundary)
    }

    /// Nothing of a transaction behind it is applied or under way, except of the one that is open.
    pub fn highest(&self) -> &Location {
        if self.replaying > 0 {
            return &self.highest;
        }
        &self.boundary
    }

    /// Memory that is left for changes. Put more in only while it is above zero.
    pub fn free_bytes(&self) -> usize {
        let free = self.config.memory_bytes_max.saturating_sub(self.bytes);
        let only_open = || {
            let slot = &self.slots[0];
            self.slots.len() == 1 && slot.flight.is_none() && slot.closed.is_empty()
        };
        // One slot can do nothing before its transaction ends; `row` refuses what is too large.
        if free == 0 && self.txn.is_some() && only_open() {
            return 1;
        }
        free
    }

    /// How far a slot has come that has done everything so far.
    fn place(&self) -> Applied {
        let boundary = Location::clone(&self.boundary);
        match &self.txn {
            Some(txn) if txn.rows > 0 => Applied {
                boundary,
                txn: Some(txn.id.clone()),
                rows: txn.rows,
            },
            _ => Applied::at(boundary),
        }
    }

    fn close(&mut self, slot: usize) {
        if self.slots[slot].open.is_some() {
            let applied = self.place();
            self.slots[slot].close(applied);
        }
    }

    fn open_txn(&mut self) -> &mut Txn {
        let Some(txn) = &mut self.txn else {
            panic!("rows outside a transaction");
        };
        txn
    }

    /// Whether a test has taken this guard away.
    #[inline]
    fn is_broken(&self, guard: Guard) -> bool {
        #[cfg(test)]
        return self.broken == Some(guard);
        #[cfg(not(test))]
        {
            let _ = guard;
            false
        }
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
         `worker-count` above 1: then large transactions are cut into batches.",
    )
}
