//! A batch that still takes row changes.
//!
//! Changes of one row become one entry: what was there before the first and after the last of them.
//! Entries are put into numbered groups. Inside a group no two entries have a unique key value in
//! common, neither before nor after, so they commute and may share statements in any order; the
//! groups run in order. An entry goes into the first group behind all earlier entries that it
//! shares a value with.
//!
//! Joining a change to an earlier entry of its row moves its effect forward, to that entry's group.
//! This is allowed only if every entry that shares a value with it is in a group before that: then
//! nothing that it must follow is overtaken. So the order of hand-overs is kept: `A` leaves a
//! unique value, `B` takes it, `A` changes again.

use alloc::{sync::Arc, vec::Vec};

use super::{Batch, Op, Segment};
use crate::{
    binlog::{RowChange, RowImage},
    guard::Guard,
    sync::{
        progress::{Applied, Location},
        table::{Effect, TablePlan},
    },
    time::Instant,
};

/// When a batch is full.
#[derive(Clone, Copy, Debug)]
pub(in crate::sync) struct Limits {
    /// Entries, at most.
    pub(in crate::sync) rows_max: u32,
    /// Bytes in memory, at most.
    pub(in crate::sync) bytes_max: usize,
    /// Bytes of SQL text, at most.
    pub(in crate::sync) packet_bytes_max: usize,
}

/// Memory of a batch besides its rows and places, once it is closed or handed out.
const BATCH_BYTES: usize = size_of::<Open>() + size_of::<Batch>() + 2 * size_of::<Applied>();

/// A batch under construction.
#[derive(Debug)]
pub(in crate::sync) struct Open {
    /// Number of the batch; ascending over all slots in order of opening.
    pub(in crate::sync) number: u64,
    /// When it was opened.
    pub(in crate::sync) since: Instant,
    /// The boundary before its first change, and how many transactions were before it.
    pub(in crate::sync) first: (u64, Arc<Location>),
    /// Batches of other slots, as (slot, number), that must be applied before; all closed already.
    pub(in crate::sync) waits: Vec<(u32, u64)>,
    /// Row changes of the source in it.
    pub(in crate::sync) rows: u32,
    /// Memory it holds.
    pub(in crate::sync) bytes: usize,
    /// The part of it that is not rows.
    overhead: usize,
    /// Whether an ENUM value 0 is in it.
    pub(in crate::sync) lenient: bool,
    /// Whether a change of safe mode is in it.
    pub(in crate::sync) safe: bool,
    /// Upper estimate of its SQL text.
    packet_bytes: usize,
    tables: Vec<Arc<TablePlan>>,
    entries: Vec<Entry>,
}

#[derive(Debug)]
struct Entry {
    /// Index in [`Open::tables`].
    table: u32,
    group: u32,
    effect: Effect,
    /// Whether the row was deleted and inserted again on the way.
    reborn: bool,
    before: Option<RowImage>,
    after: Option<RowImage>,
}

impl Open {
    pub(in crate::sync) fn new(number: u64, since: Instant, first: (u64, Arc<Location>)) -> Self {
        // Where it begins, and where the slot is behind it.
        let overhead = BATCH_BYTES + 2 * first.1.memory();
        Self {
            number,
            since,
            first,
            waits: Vec::new(),
            rows: 0,
            bytes: overhead,
            overhead,
            lenient: false,
            safe: false,
            packet_bytes: 0,
            tables: Vec::new(),
            entries: Vec::new(),
        }
    }

    /// Whether it is large enough to be worth a transaction.
    pub(in crate::sync) fn is_full(&self, limits: &Limits) -> bool {
        self.entries.len() >= limits.rows_max as usize
            || self.rows_bytes() >= limits.bytes_max
            || self.packet_bytes >= limits.packet_bytes_max
    }

    /// Whether a change of so many bytes can be added; to an empty one, any.
    pub(in crate::sync) fn has_room(
        &self,
        limits: &Limits,
        table: &TablePlan,
        bytes: usize,
    ) -> bool {
        self.entries.is_empty()
            || self.entries.len() < limits.rows_max as usize
                && self.rows_bytes() + bytes <= limits.bytes_max
                && self.packet_bytes + table.sql_bytes(bytes) <= limits.packet_bytes_max
    }

    const fn rows_bytes(&self) -> usize {
        self.bytes - self.overhead
    }

    /// Lets it wait for a batch of another slot, and so for all earlier ones of that slot.
    pub(in crate::sync) fn wait_for(&mut self, slot: u32, batch: u64) {
        match self.waits.iter_mut().find(|wait| wait.0 == slot) {
            Some(wait) => wait.1 = wait.1.max(batch),
            None => self.waits.push((slot, batch)),
        }
    }

    /// Takes a change in and says in which entry it is now.
    ///
    /// `touching` are the last entries of this batch, if any, that touched a key value which this
    /// change touches too.
    pub(in crate::sync) fn add(
        &mut self,
        table: &Arc<TablePlan>,
        effect: Effect,
        change: RowChange,
        touching: &[u32],
    ) -> u32 {
        let bytes = change_bytes(&change);
        self.lenient |= change
            .after
            .as_ref()
            .is_some_and(|image| table.has_enum_zero(image));
        if let Some(index) = self.joinable(table, effect, &change, touching) {
            let entry = &mut self.entries[index as usize];
            entry.reborn |= entry.after.is_none() && entry.before.is_some();
            let old = entry.after.as_ref().map_or(0, RowImage::memory);
            if !Guard::JoinBefore.holds() {
                entry.before = change.before;
            }
            entry.after = change.after;
            let new = entry.after.as_ref().map_or(0, RowImage::memory);
            self.bytes = self.bytes + new - old;
            self.packet_bytes += table.sql_bytes(new.saturating_sub(old));
            return index;
        }
        let table_index = self.table_index(table);
        let group = if Guard::KeyGroups.holds() {
            let groups = touching.iter().map(|&index| {
                let other = &self.entries[index as usize];
                // Rows that are only inserted into a table without a key don't mind each other.
                let shares = effect == Effect::Only(Op::Insert) && other.effect == effect;
                other.group + u32::from(!shares)
            });
            groups.max().unwrap_or(0)
        } else {
            0
        };
        self.bytes += bytes + table.key_bytes() + size_of::<Entry>();
        self.packet_bytes += table.sql_bytes(bytes);
        self.entries.push(Entry {
            table: table_index,
            group,
            effect,
            reborn: false,
            before: change.before,
            after: change.after,
        });
        // Fewer than `rows_max` entries unless a transaction must not be split; memory ends first.
        (self.entries.len() - 1) as u32
    }

    /// The earlier entry of the same row that the change may be joined to.
    fn joinable(
        &self,
        table: &Arc<TablePlan>,
        effect: Effect,
        change: &RowChange,
        touching: &[u32],
    ) -> Option<u32> {
        if effect != Effect::KeepsKey {
            return None;
        }
        let image = change.before.as_ref().or(change.after.as_ref())?;
        let is_same_row = |&&index: &&u32| {
            let entry = &self.entries[index as usize];
            entry.effect == Effect::KeepsKey
                && Arc::ptr_eq(&self.tables[entry.table as usize], table)
                // A row that is there can't come, nor one that isn't go: filters may make it so.
                && entry.after.is_some() == change.before.is_some()
                && (entry.before.as_ref().or(entry.after.as_ref()))
                    .is_some_and(|other| table.is_same_row(other, image))
        };
        // What is gone again has no image left to compare with; it starts anew.
        let index = *touching.iter().find(is_same_row)?;
        let group = self.entries[index as usize].group;
        let is_behind = |&other: &u32| {
            other == index
                || self.entries[other as usize].group < group
                || !Guard::JoinOrder.holds()
        };
        touching.iter().all(is_behind).then_some(index)
    }

    fn table_index(&mut self, table: &Arc<TablePlan>) -> u32 {
        let known = self
            .tables
            .iter()
            .rposition(|known| Arc::ptr_eq(known, table));
        let index = known.unwrap_or_else(|| {
            self.tables.push(Arc::clone(table));
            self.tables.len() - 1
        });
        index as u32
    }

    /// Cuts the entries into segments.
    pub(in crate::sync) fn into_segments(self) -> Vec<Segment> {
        let Self {
            tables,
            mut entries,
            ..
        } = self;
        let op = |entry: &Entry| {
            let complete = tables[entry.table as usize].is_complete();
            Some(match (entry.effect, &entry.before, &entry.after) {
                (Effect::Only(op), ..) => op,
                (Effect::KeepsKey, None, None) => return None,
                (Effect::KeepsKey, None, Some(_)) => Op::Insert,
                (Effect::KeepsKey, Some(_), None) => Op::Delete,
                (Effect::KeepsKey, Some(_), Some(_)) if complete => Op::Upsert,
                // Columns that the source doesn't have must get their defaults again.
                (Effect::KeepsKey, Some(_), Some(_)) if entry.reborn => Op::Replace,
                (Effect::KeepsKey, Some(_), Some(_)) => Op::Update,
            })
        };
        entries.sort_by_key(|entry| (entry.group, entry.table, op(entry)));
        let mut segments: Vec<Segment> = Vec::new();
        let mut run = None;
        for entry in entries {
            let Some(op) = op(&entry) else { continue };
            let row = RowChange {
                before: entry.before,
                after: entry.after,
            };
            let place = Some((entry.group, entry.table, op));
            match segments.last_mut() {
                Some(segment) if run == place => segment.rows.push(row),
                _ => segments.push(Segment {
                    table: Arc::clone(&tables[entry.table as usize]),
                    op,
                    rows: [row].into(),
                }),
            }
            run = place;
        }
        segments
    }
}

/// Memory of a change's images.
pub(in crate::sync) fn change_bytes(change: &RowChange) -> usize {
    let images = [&change.before, &change.after];
    images.into_iter().flatten().map(RowImage::memory).sum()
}
