//! What the tables of a source were at the places where everybody waits for everybody.

use std::sync::{Mutex, PoisonError};

use dm_core::{
    binlog::{Gtid, Position},
    sync::progress::Location,
};

use crate::world::tables::Snapshot;

/// A source's tables right behind each DDL.
#[derive(Default)]
pub(in crate::world) struct History(Mutex<Vec<Past>>);

struct Past {
    end: Position,
    gtid: Option<Gtid>,
    tables: Snapshot,
}

impl History {
    /// Notes what the tables are behind a statement.
    pub(super) fn note(&self, end: Position, gtid: Option<Gtid>, tables: Snapshot) {
        let mut past = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        past.push(Past { end, gtid, tables });
    }

    /// What differs in the target, where a DDL has left it at a location. `None` if nothing is
    /// known of that.
    pub(in crate::world) fn compare(&self, at: &Location, target: &Snapshot) -> Option<String> {
        let past = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let is_it = |past: &&Past| {
            let by_gtid = at.gtids.as_ref().zip(past.gtid.as_ref());
            past.end == at.position && by_gtid.is_none_or(|(set, gtid)| set.contains_txn(gtid))
        };
        let found = past.iter().find(is_it)?;
        Some(found.tables.difference(target).unwrap_or_default())
    }
}
