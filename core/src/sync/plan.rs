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

mod hand_out;
mod intake;
mod slot;
#[cfg(test)]
mod tests;

use alloc::{sync::Arc, vec::Vec};
use core::time::Duration;

use super::{
    batch::Limits,
    keys::HeldKeys,
    progress::{Applied, Location, SlotProgress, TxnId},
};
use crate::{guard::Guard, time::Instant};
use slot::Slot;

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
}

/// The transaction that is being read.
#[derive(Debug)]
struct Txn {
    id: TxnId,
    now: Instant,
    safe: bool,
    rows: u64,
}

/// Batches that are to be tried one by one, with nothing else under way.
#[derive(Debug)]
struct Alone {
    /// Their slots; the first one's is next, or is being tried.
    slots: Vec<usize>,
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

impl Planner {
    /// A planner that goes on where the slots are. There must be at least one, numbered from zero.
    pub fn new(config: PlannerConfig, resume: Vec<SlotProgress>) -> Self {
        assert!(!resume.is_empty(), "progress of at least one slot");
        let by_gtid = config.by_gtid;
        let boundaries = resume.iter().map(|row| &row.applied.boundary);
        // Places in one stream are ordered; where they aren't, `begin` notices.
        let lowest = Location::lowest(boundaries, by_gtid).filter(|_| Guard::LowestStart.holds());
        let lowest = lowest.unwrap_or(&resume[0].applied.boundary).clone();
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
        let is_past = self.replaying == 0 || !Guard::ResizeAfterReplay.holds();
        (is_past && wanted != self.slots()).then_some(wanted)
    }

    /// Whether everything that was put in is applied.
    pub fn drained(&self) -> bool {
        self.slots.iter().all(Slot::is_idle)
    }

    /// While drained, the target moved all slots to `applied`: after a DDL, or one piece of it.
    pub fn barrier(&mut self, applied: &Applied) {
        let is_drained = self.drained() || !Guard::DdlDrain.holds();
        assert!(is_drained && self.txn.is_none(), "slots are at work");
        for slot in &mut self.slots {
            slot.progress.seq += u64::from(Guard::BarrierSteps.holds());
            slot.progress.applied = applied.clone();
            slot.resume = None;
        }
        self.replaying = 0;
        self.boundary = Arc::new(applied.boundary.clone());
    }

    /// How many leading pieces of a DDL event every slot has behind it: `u64::MAX` for all. `None`
    /// where only some slots have passed it: for them it was filtered out, so it did not make them
    /// wait for each other, and moving all of them behind it now would repeat rows.
    pub fn pieces_done(&self, id: &TxnId) -> Option<u64> {
        let done = |slot: &Slot| slot.progress.applied.rows_of(id, self.config.by_gtid);
        let least = self.slots.iter().map(done).min().unwrap_or(0);
        let passed = self.slots.iter().any(|slot| done(slot) == u64::MAX);
        (least == u64::MAX || !passed).then_some(least)
    }

    /// Everything before it is applied, and so much that nothing higher can be said.
    pub fn watermark(&self) -> &Location {
        if !Guard::Watermark.holds() {
            return &self.boundary;
        }
        let first = self.slots.iter().filter_map(Slot::first_unfinished);
        first
            .min_by_key(|first| first.0)
            .map_or(&self.boundary, |(_, boundary)| boundary)
    }

    /// Where the slot is whose record is furthest behind: a start would read from there, though the
    /// slot may have had nothing to do since.
    pub fn recorded(&self) -> &Location {
        let places = self.slots.iter().map(|it| &it.progress.applied.boundary);
        Location::lowest(places, self.config.by_gtid).unwrap_or(&self.boundary)
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
            Some(txn) if txn.rows > 0 && Guard::RowCount.holds() => Applied {
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
}
