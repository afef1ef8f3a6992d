//! What the server keeps of a task: its progress, its checkpoint, its tables.

use std::collections::BTreeMap;

use dm_core::{
    full::{KeyValue, Piece},
    sync::progress::{Applied as Progress, Fence, Location, SlotProgress},
};
use dm_runtime::ports::{
    Checkpoint,
    copy::{Body, Cargo, Copy},
};

use super::{database::Database, ddl::Intent};
use crate::world::{
    oracle::{fence, files},
    rows::rows_of,
    tables::{Refusal, Tables, refuse},
    trace::Trace,
};

/// The row that everything but rows depends on.
pub(super) const CONTROL: i64 = -1;

/// What there is of one source and its task.
pub(super) struct Job {
    pub(super) rows: BTreeMap<i64, ProgressRow>,
    pub(super) remembered: Option<Checkpoint>,
    pub(super) safe_until: Option<Location>,
    pub(super) checkpoint: Option<Checkpoint>,
    /// What is noted of a copy.
    pub(super) copy: Option<Copy>,
    /// Whether its rows go through files.
    pub(super) through_files: bool,
    /// Whether the copy is a task of its own.
    pub(super) ends: bool,
    /// A DDL that is under way.
    pub(super) intent: Option<Intent>,
    pub(super) locks: BTreeMap<i64, u64>,
    /// The highest fence that ever took over.
    pub(super) taken: Fence,
    /// How many takeovers there were.
    pub(super) takeovers: u64,
    /// Which process each fence is of.
    pub(super) owners: BTreeMap<Fence, String>,
    pub(super) tables: Tables,
    /// Transactions with rows, statements and takeovers so far.
    pub(super) writes: u64,
}

impl Job {
    /// A task that nobody has begun.
    pub(super) fn new() -> Self {
        Self {
            owners: BTreeMap::new(),
            rows: BTreeMap::new(),
            remembered: None,
            safe_until: None,
            checkpoint: None,
            copy: None,
            through_files: false,
            ends: false,
            intent: None,
            locks: BTreeMap::new(),
            taken: Fence::default(),
            takeovers: 0,
            tables: Tables::initial(),
            writes: 0,
        }
    }

    /// A write of this claim happens now.
    pub(super) fn passed(&self, trace: &Trace, source: &str, claim: Claim) {
        let Claim { fence, run, .. } = claim;
        fence::passed(trace, source, (fence, run), (self.taken, self.takeovers));
    }

    /// Somebody writes what comes from dump files, if that is the way.
    pub(super) fn loads(&self, database: &Database, source: &str, fence: Fence) {
        if let Some(process) = self.owners.get(&fence).filter(|_| self.through_files) {
            files::loads(&database.trace, &database.etcd, source, process);
        }
    }

    /// Rows of a copy arrive, with the note of them, unless that gets lost.
    ///
    /// # Errors
    /// The server's refusal; nothing has changed then.
    pub(super) fn copied(&mut self, cargo: &Cargo, lost: bool) -> Result<(), Refusal> {
        let Cargo {
            table,
            copied,
            rows,
            body,
            ..
        } = cargo;
        let Body::Statements(sql) = body else {
            return refuse(3948, "lines are not taken here".to_owned());
        };
        let noted = self
            .copy
            .as_mut()
            .and_then(|copy| copy.tables.get_mut(table));
        let (Some(noted), Some(stored)) = (noted, self.tables.get_mut(&table.table)) else {
            return refuse(1146, format!("there is no table {table}, or no note of it"));
        };
        let known = noted.pieces.iter_mut();
        let known = known.into_iter().find(|it| it.number == copied.number);
        if let Some(known) = &known
            && !grows(&known.piece, &copied.piece)
        {
            return refuse(1062, format!("piece {} of {table} is there", copied.number));
        }
        let mut all = stored.rows.clone();
        for row in rows_of(sql) {
            if sql.starts_with(b"INSERT") {
                let done = all.insert(&stored.definition, row);
                done.or_else(|what| refuse(1062, what))?;
            } else {
                all.replace(&stored.definition, row);
            }
        }
        stored.rows = all;
        if lost {
            return Ok(());
        }
        match known {
            Some(known) => *known = copied.clone(),
            None => noted.pieces.push(copied.clone()),
        }
        noted.rows += rows;
        noted.bytes += sql.len() as u64;
        Ok(())
    }

    /// Whether a row was copied before, as far as keys of one number tell.
    pub(super) fn repeats(&self, cargo: &Cargo) -> Option<String> {
        let noted = self.copy.as_ref()?.tables.get(&cargo.table)?;
        let number = cargo.copied.number;
        let known = noted.pieces.iter().find(|it| it.number == number)?;
        let upto: i64 = known.piece.upto.as_ref()?.0.first()?.parse().ok()?;
        let stored = self.tables.get(&cargo.table.table)?;
        let Body::Statements(sql) = &cargo.body else {
            return None;
        };
        if stored.definition.uniques.first() != Some(&0) {
            return None;
        }
        let mut rows = rows_of(sql).into_iter();
        let row = rows.find(|row| row[0].is_some_and(|key| key <= upto))?;
        Some(format!("row {row:?} of {} was copied before", cargo.table))
    }

    /// Other slots take the place of those that are there.
    pub(super) fn replace_slots(&mut self, fence: Fence, slots: Vec<SlotProgress>) {
        self.rows.retain(|slot, _| *slot == CONTROL);
        for SlotProgress { slot, seq, applied } in slots {
            let row = ProgressRow {
                fence,
                seq,
                applied,
                session: 0,
                taken: false,
            };
            self.rows.insert(slot.into(), row);
        }
    }

    /// The progress of each slot.
    pub(super) fn slots(&self) -> impl Iterator<Item = (&i64, &ProgressRow)> {
        self.rows.iter().filter(|(slot, _)| **slot > CONTROL)
    }
}

#[derive(Clone, Debug, Default)]
pub(super) struct ProgressRow {
    pub(super) fence: Fence,
    pub(super) seq: u64,
    pub(super) applied: Progress,
    pub(super) session: u64,
    /// Whether a takeover made the last step.
    pub(super) taken: bool,
}

/// What a write depends on.
#[derive(Clone, Copy, Debug)]
pub(super) struct Claim {
    pub(super) slot: i64,
    pub(super) fence: Fence,
    /// How many takeovers its run knows of.
    pub(super) run: u64,
    pub(super) seq: Option<u64>,
}

/// Whether a piece has all that it had before, and more.
fn grows(before: &Piece, now: &Piece) -> bool {
    // Keys of numbers, or of files and places in them.
    let parts = |key: &KeyValue| -> Vec<(Option<i128>, String)> {
        let parts = key.0.iter();
        parts.map(|it| (it.parse().ok(), it.clone())).collect()
    };
    let is_further = match (&before.upto, &now.upto) {
        (None, _) => false,
        (Some(_), None) => true,
        (Some(before), Some(now)) => parts(now) > parts(before),
    };
    before.after == now.after && is_further
}
