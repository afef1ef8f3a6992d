//! How far a copy is: status, metrics and the progress line read this.

use std::sync::{
    Mutex, MutexGuard, PoisonError,
    atomic::{AtomicU64, Ordering::Relaxed},
};

use dm_core::sync::progress::Location;
use tokio::time::Instant;

/// What a copy lets others see.
#[derive(Debug, Default)]
pub struct CopyFacts {
    /// Rows that are there.
    pub(crate) rows: AtomicU64,
    /// Size of the statements that brought them.
    pub(crate) bytes: AtomicU64,
    /// Tables of which all rows are there.
    pub(crate) tables_done: AtomicU64,
    state: Mutex<State>,
}

#[derive(Debug, Default)]
struct State {
    /// When this run began, and what was there by then.
    begun: Option<(Instant, u64)>,
    total: Total,
    from: Option<Location>,
}

/// What there is to copy.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Total {
    /// Tables.
    pub tables: u64,
    /// Rows, as the source guesses.
    pub rows: u64,
    /// Their bytes at the source, as it guesses.
    pub bytes: u64,
}

impl CopyFacts {
    /// A run begins, with so much to do in all. What is there already is counted.
    pub(super) fn begin(&self, total: Total, from: &Location) {
        let bytes = self.bytes.load(Relaxed);
        *self.state() = State {
            begun: Some((Instant::now(), bytes)),
            total,
            from: Some(from.clone()),
        };
    }

    /// Where the binlog goes on behind a copy that is over.
    pub(super) fn note_from(&self, from: &Location) {
        self.state().from = Some(from.clone());
    }

    /// What there is to do, once that is known.
    #[must_use]
    pub fn total(&self) -> Option<Total> {
        let state = self.state();
        state.begun.map(|_| state.total)
    }

    /// Where the binlog goes on behind the copy.
    #[must_use]
    pub fn from(&self) -> Option<Location> {
        self.state().from.clone()
    }

    /// Bytes a second since this run began.
    #[must_use]
    pub fn bytes_per_s(&self) -> u64 {
        let Some((begun, before)) = self.state().begun else {
            return 0;
        };
        let seconds = begun.elapsed().as_secs_f64().max(1.0);
        (self.bytes.load(Relaxed).saturating_sub(before) as f64 / seconds) as u64
    }

    /// Which part is done, of 1. The source's guesses may be wrong: all of it is done only when all
    /// tables are.
    #[must_use]
    pub fn part(&self) -> f64 {
        let total = self.state().total;
        let tables = self.tables_done.load(Relaxed);
        if tables >= total.tables {
            return 1.0;
        }
        let rows = self.rows.load(Relaxed) as f64 / (total.rows.max(1)) as f64;
        rows.min(0.9999)
    }

    fn state(&self) -> MutexGuard<'_, State> {
        // Plain data: whoever panicked left nothing half-done.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
