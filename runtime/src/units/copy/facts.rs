//! How far a copy is: status, metrics and the progress line read this.

use std::{
    fmt,
    sync::{
        Mutex, MutexGuard, PoisonError,
        atomic::{AtomicU64, Ordering::Relaxed},
    },
    time::Duration,
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
    /// The part that was done by then.
    part: f64,
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
}

impl CopyFacts {
    /// A run begins, with so much to do in all. What is there already is counted.
    pub(super) fn begin(&self, total: Total, from: &Location) {
        let bytes = self.bytes.load(Relaxed);
        *self.state() = State {
            begun: Some((Instant::now(), bytes)),
            part: self.part_of(&total),
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
        self.part_of(&total)
    }

    fn part_of(&self, total: &Total) -> f64 {
        let tables = self.tables_done.load(Relaxed);
        if tables >= total.tables {
            return 1.0;
        }
        let rows = self.rows.load(Relaxed) as f64 / (total.rows.max(1)) as f64;
        rows.min(0.9999)
    }

    /// How long the rest will take at the pace of this run, if it has one.
    #[must_use]
    pub fn left(&self) -> Option<Duration> {
        let state = self.state();
        let (begun, _) = state.begun?;
        let (part, before) = (self.part_of(&state.total), state.part);
        let pace = (part - before) / begun.elapsed().as_secs_f64().max(1.0);
        (pace > 0.0).then(|| Duration::from_secs_f64(((1.0 - part) / pace).min(1e9)))
    }

    fn state(&self) -> MutexGuard<'_, State> {
        // Plain data: whoever panicked left nothing half-done.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// For people: `copied 12.34 %: 3 of 30 tables, 1200 of about 9000 rows, 1.5 MB/s, 60 s left`.
impl fmt::Display for CopyFacts {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Some(total) = self.total() else {
            return f.write_str("about to copy");
        };
        write!(
            f,
            "copied {:.2} %: {} of {} tables, {} of about {} rows, {:.1} MB/s",
            self.part() * 100.0,
            self.tables_done.load(Relaxed),
            total.tables,
            self.rows.load(Relaxed),
            total.rows,
            self.bytes_per_s() as f64 / 1e6
        )?;
        match self.left() {
            Some(left) => write!(f, ", {} s left", left.as_secs()),
            None => Ok(()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Never all of it before all tables are there, whatever the source has guessed.
    #[test]
    fn a_guess_does_not_end_a_copy() {
        let facts = CopyFacts::default();
        assert_eq!(facts.to_string(), "about to copy");
        let total = Total {
            tables: 2,
            rows: 100,
        };
        facts.begin(total, &Location::default());
        assert_eq!((facts.part(), facts.left()), (0.0, None));
        facts.rows.store(50, Relaxed);
        facts.tables_done.store(1, Relaxed);
        assert_eq!(facts.part(), 0.5);
        assert!(facts.left().is_some());
        let text = facts.to_string();
        let says = "copied 50.00 %: 1 of 2 tables, 50 of about 100 rows, 0.0 MB/s, ";
        assert!(text.starts_with(says), "{text}");
        facts.rows.store(900, Relaxed);
        assert_eq!(facts.part(), 0.9999);
        facts.tables_done.store(2, Relaxed);
        assert_eq!(facts.part(), 1.0);
    }
}
