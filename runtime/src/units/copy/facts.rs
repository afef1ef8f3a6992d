//! How far a copy is: status, metrics and the progress line read this.

use std::{
    fmt,
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicU64, Ordering::Relaxed},
    },
    time::Duration,
};

use dm_core::{
    lifecycle::Job,
    status::UnitKind,
    sync::{progress::Location, schema::TableName},
};
use tokio::time::Instant;

use crate::metrics::{CopyMetrics, Metrics, Sample};

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
    /// How long it has taken, once it is over.
    took: Option<Duration>,
    /// The part that was done by then.
    part: f64,
    total: Total,
    /// Each table by its number.
    tables: Vec<TableFacts>,
    /// Tables whose rows are there, and not all keys.
    without_keys: usize,
    from: Option<Location>,
    /// Up to where the binlog is to be applied before it is over.
    until: Option<Location>,
    metrics: Option<CopyMetrics>,
}

/// A table of a run.
#[derive(Debug)]
pub(crate) struct TableFacts {
    name: TableName,
    /// Which part of all it is: about so many bytes.
    size: u64,
    total: Total,
    done: Total,
    /// When it was begun, and what was done by then.
    begun: Option<(Instant, Total)>,
}

impl TableFacts {
    /// What there is to do of a table of about so many bytes, and what is done.
    pub(crate) fn new(name: &TableName, size: u64, total: Total, done: Total) -> Self {
        Self {
            name: name.clone(),
            size: size.max(1),
            total: Total { tables: 1, ..total },
            done,
            begun: None,
        }
    }

    /// About how many bytes it has: what a server says of a table that was just filled may be far
    /// too little, as the rows that have come show.
    fn weight(&self) -> f64 {
        let Self { total, done, .. } = self;
        let by_rows = match (total.bytes, done.rows) {
            (0, 1..) => done.bytes as f64 / done.rows as f64 * total.rows as f64,
            _ => 0.0,
        };
        by_rows.max(self.size as f64)
    }

    /// How long its rest takes at the pace since it was begun, if it has one.
    fn left(&self) -> Option<Duration> {
        let Self { total, done, .. } = self;
        let (begun, before) = self.begun?;
        let part = total.part(*done);
        time_left(part, (part - total.part(before)) / seconds_since(begun))
    }
}

/// How far a table is that is under way.
#[derive(Clone, Debug, PartialEq)]
pub struct TableProgress {
    /// The table, as the source calls it.
    pub table: TableName,
    /// Rows that are there.
    pub rows: u64,
    /// Their bytes; of files, where the rows come from files.
    pub bytes: u64,
    /// What there is to do, as [`CopyFacts::total`] has it.
    pub total: Total,
    /// Bytes a second since it was begun.
    pub bytes_per_s: u64,
    /// The part that is done, of 1, as far as guesses tell.
    pub part: f64,
    /// How long the rest will take at that pace.
    pub left: Option<Duration>,
}

/// What there is to copy, or how much of it is there.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Total {
    /// Tables.
    pub tables: u64,
    /// Rows: of all, as the source guesses.
    pub rows: u64,
    /// Bytes: of all, those of files, and zero where rows tell how far it is.
    pub bytes: u64,
}

/// The part that is done as long as something is left.
const PART_MAX: f64 = 0.9999;

impl Total {
    fn sum(all: impl Iterator<Item = Self>) -> Self {
        all.fold(Self::default(), |sum, each| Self {
            tables: sum.tables + each.tables,
            rows: sum.rows + each.rows,
            bytes: sum.bytes + each.bytes,
        })
    }

    /// Which part of it so much is, unless all of its tables are there.
    fn part(&self, done: Self) -> f64 {
        if done.tables >= self.tables {
            return 1.0;
        }
        let (done, all) = match self.bytes {
            0 => (done.rows, self.rows),
            bytes => (done.bytes, bytes),
        };
        (done as f64 / all.max(1) as f64).min(PART_MAX)
    }
}

/// Which part of all tables is there. Each counts by its size: some have few rows, and large ones.
fn part_of(tables: &[TableFacts]) -> f64 {
    if tables.iter().all(|table| table.done.tables > 0) {
        return 1.0;
    }
    let done = tables
        .iter()
        .map(|table| table.weight() * table.total.part(table.done));
    let all: f64 = tables.iter().map(TableFacts::weight).sum();
    (done.sum::<f64>() / all).min(PART_MAX)
}

impl CopyFacts {
    /// A run begins, with these tables by their numbers.
    pub(crate) fn begin(&self, tables: Vec<TableFacts>, from: &Location) {
        let total = Total::sum(tables.iter().map(|table| table.total));
        let done = Total::sum(tables.iter().map(|table| table.done));
        self.rows.store(done.rows, Relaxed);
        self.bytes.store(done.bytes, Relaxed);
        self.tables_done.store(done.tables, Relaxed);
        let mut state = self.state();
        let metrics = state.metrics.take();
        *state = State {
            begun: Some((Instant::now(), done.bytes)),
            took: None,
            part: part_of(&tables),
            total,
            tables,
            without_keys: 0,
            from: Some(from.clone()),
            until: None,
            metrics,
        };
    }

    /// So much more of a table is there.
    pub(crate) fn wrote(&self, table: usize, rows: u64, bytes: u64) {
        self.rows.fetch_add(rows, Relaxed);
        self.bytes.fetch_add(bytes, Relaxed);
        let mut state = self.state();
        if let Some(TableFacts { done, begun, .. }) = state.tables.get_mut(table) {
            begun.get_or_insert_with(|| (Instant::now(), *done));
            done.rows += rows;
            done.bytes += bytes;
        }
    }

    /// All of a table is there.
    pub(crate) fn ended(&self, table: usize) {
        self.tables_done.fetch_add(1, Relaxed);
        let mut state = self.state();
        if let Some(TableFacts { done, .. }) = state.tables.get_mut(table) {
            done.tables = 1;
        }
    }

    /// All rows are there, and so many tables have to get keys.
    pub(super) fn needs_keys(&self, tables: usize) {
        self.state().without_keys = tables;
    }

    /// The tables that are under way, by their numbers.
    #[must_use]
    pub fn under_way(&self) -> Vec<TableProgress> {
        let state = self.state();
        let tables = state.tables.iter().filter(|table| table.done.tables == 0);
        let progress = |table: &TableFacts| {
            let (begun, before) = table.begun?;
            let TableFacts { total, done, .. } = table;
            let written = done.bytes.saturating_sub(before.bytes);
            Some(TableProgress {
                table: table.name.clone(),
                rows: done.rows,
                bytes: done.bytes,
                total: *total,
                bytes_per_s: (written as f64 / seconds_since(begun)) as u64,
                part: total.part(*done),
                left: table.left(),
            })
        };
        tables.filter_map(progress).collect()
    }

    /// A load from files starts. Until it has begun, what is known of their dump says nothing.
    pub(crate) fn forget_dump(&self) {
        let mut state = self.state();
        if state.total.bytes > 0 {
            // It is of a former run of the load.
            return;
        }
        (state.begun, state.total) = (None, Total::default());
        state.tables.clear();
        for counter in [&self.rows, &self.bytes, &self.tables_done] {
            counter.store(0, Relaxed);
        }
    }

    /// A unit of a subtask starts.
    pub(in crate::units) fn unit_starts(&self, all: &Arc<Metrics>, unit: UnitKind, job: &Job) {
        let mut state = self.state();
        let former = state.metrics.take();
        // A unit that goes on counts on. Others take their series with them, so they go first.
        state.metrics = former.filter(|metrics| metrics.unit() == unit);
        let (task, source) = (&job.task.name, &job.source.source_id);
        state
            .metrics
            .get_or_insert_with(|| CopyMetrics::new(all, unit, task, source));
    }

    /// A unit has ended, and is not over if an error has ended it.
    pub(crate) fn unit_ended(&self, by_error: Option<bool>) {
        let mut state = self.state();
        if let (Some((begun, _)), None) = (state.begun, state.took) {
            state.took = Some(begun.elapsed());
        }
        match (by_error, &state.metrics) {
            (Some(is_resumable), Some(metrics)) => metrics.failed(is_resumable),
            _ => state.metrics = None,
        }
    }

    /// Tells Prometheus how far it is.
    pub(in crate::units) fn sample(&self) {
        let (part, under_way) = (self.part(), self.under_way());
        let (bytes_per_s, left) = (self.bytes_per_s(), self.left());
        let state = self.state();
        if let (Some(metrics), Some(_)) = (&state.metrics, state.begun) {
            metrics.show(&Sample {
                rows: self.rows.load(Relaxed),
                bytes: self.bytes.load(Relaxed),
                tables: self.tables_done.load(Relaxed),
                total_tables: state.total.tables,
                part,
                bytes_per_s,
                left,
                under_way,
            });
        }
    }

    /// Where the binlog goes on behind a copy, and up to where it is a part of it.
    pub(in crate::units) fn note_end(&self, from: &Location, until: Option<&Location>) {
        let mut state = self.state();
        (state.from, state.until) = (Some(from.clone()), until.cloned());
    }

    /// Whether it is not over before some binlog is applied.
    #[must_use]
    pub fn catches_up(&self) -> bool {
        self.state().until.is_some()
    }

    /// That part is applied.
    pub(super) fn caught_up(&self) {
        self.state().until = None;
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

    /// Bytes a second since this run began, up to its end.
    #[must_use]
    pub fn bytes_per_s(&self) -> u64 {
        let (begun, took) = {
            let state = self.state();
            (state.begun, state.took)
        };
        let Some((begun, before)) = begun else {
            return 0;
        };
        let took = took.unwrap_or_else(|| begun.elapsed());
        let seconds = took.as_secs_f64().max(1.0);
        (self.bytes.load(Relaxed).saturating_sub(before) as f64 / seconds) as u64
    }

    /// Which part is done, of 1. The source's guesses may be wrong: all of it is done only when all
    /// tables are.
    #[must_use]
    pub fn part(&self) -> f64 {
        let state = self.state();
        let part = part_of(&state.tables);
        if state.without_keys > 0 || state.until.is_some() {
            part.min(PART_MAX)
        } else {
            part
        }
    }

    fn done(&self) -> Total {
        Total {
            tables: self.tables_done.load(Relaxed),
            rows: self.rows.load(Relaxed),
            bytes: self.bytes.load(Relaxed),
        }
    }

    /// How long the rest will take at the pace of this run, if it has one: at least as long as any
    /// table that is under way.
    #[must_use]
    pub fn left(&self) -> Option<Duration> {
        let state = self.state();
        let (begun, _) = state.begun?;
        let part = part_of(&state.tables);
        let all = time_left(part, (part - state.part) / seconds_since(begun))?;
        let of_tables = state.tables.iter().filter_map(TableFacts::left);
        Some(of_tables.fold(all, Duration::max))
    }

    fn state(&self) -> MutexGuard<'_, State> {
        // Plain data: whoever panicked left nothing half-done.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Seconds that a pace is of: what came in less than one tells little.
fn seconds_since(begun: Instant) -> f64 {
    begun.elapsed().as_secs_f64().max(1.0)
}

/// How long the rest takes, at so much of all a second.
fn time_left(part: f64, pace: f64) -> Option<Duration> {
    (pace > 0.0).then(|| Duration::from_secs_f64(((1.0 - part) / pace).min(1e9)))
}

/// For people: `1200 of about 9000 rows, 1.5 MB/s, 60 s left`.
impl fmt::Display for TableProgress {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        amount(f, (self.rows, self.bytes), &self.total)?;
        f.write_str(", ")?;
        pace(f, self.bytes_per_s, self.left)
    }
}

fn amount(f: &mut fmt::Formatter<'_>, (rows, bytes): (u64, u64), total: &Total) -> fmt::Result {
    match total.bytes {
        0 => write!(f, "{rows} of about {} rows", total.rows),
        all => write!(
            f,
            "{:.1} of {:.1} MB",
            bytes.min(all) as f64 / 1e6,
            all as f64 / 1e6
        ),
    }
}

fn pace(f: &mut fmt::Formatter<'_>, bytes_per_s: u64, left: Option<Duration>) -> fmt::Result {
    write!(f, "{:.1} MB/s", bytes_per_s as f64 / 1e6)?;
    match left {
        Some(left) => write!(f, ", {} s left", left.as_secs()),
        None => Ok(()),
    }
}

/// For people, what they ask first before what a narrow terminal cuts off:
/// `copied 12.34 %, 1.5 MB/s, 60 s left: 3 of 30 tables, 1200 of about 9000 rows`.
impl fmt::Display for CopyFacts {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let until = self.state().until.clone();
        let until = until.map(|it| format!("applies the binlog up to {}", it.position));
        let Some(total) = self.total() else {
            return f.write_str(until.as_deref().unwrap_or("about to copy"));
        };
        write!(f, "copied {:.2} %, ", self.part() * 100.0)?;
        pace(f, self.bytes_per_s(), self.left())?;
        let tables = self.tables_done.load(Relaxed);
        write!(f, ": {tables} of {} tables, ", total.tables)?;
        let Total { rows, bytes, .. } = self.done();
        amount(f, (rows, bytes), &total)?;
        let without_keys = self.state().without_keys;
        if without_keys > 0 {
            write!(f, ", {without_keys} tables without keys")?;
        }
        until.map_or(Ok(()), |until| write!(f, ", {until}"))
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
        let table = |name: &str| {
            let total = Total {
                rows: 50,
                ..Total::default()
            };
            TableFacts::new(&TableName::new("d", name), 0, total, Total::default())
        };
        facts.begin(vec![table("a"), table("b")], &Location::default());
        assert_eq!((facts.part(), facts.left()), (0.0, None));
        assert_eq!(facts.under_way(), []);
        facts.wrote(1, 40, 0);
        let under_way = facts.under_way();
        let [table] = &*under_way else {
            panic!("{under_way:?}")
        };
        assert_eq!(
            (&*table.table.table, table.rows, table.part),
            ("b", 40, 0.8)
        );
        assert!(table.left.is_some());
        facts.wrote(1, 10, 0);
        facts.ended(1);
        assert_eq!(facts.under_way(), []);
        assert_eq!(facts.part(), 0.5);
        assert!(facts.left().is_some());
        let text = facts.to_string();
        assert!(text.starts_with("copied 50.00 %, 0.0 MB/s, "), "{text}");
        let amount = " s left: 1 of 2 tables, 50 of about 100 rows";
        assert!(text.ends_with(amount), "{text}");
        // As long as its slowest table, of which a second has brought the 50th part at most.
        facts.wrote(0, 1, 0);
        assert!(facts.left() >= Some(Duration::from_secs(40)));
        facts.wrote(0, 849, 0);
        assert_eq!(facts.part(), 0.9999);
        facts.ended(0);
        assert_eq!(facts.part(), 1.0);
        facts.needs_keys(2);
        assert_eq!(facts.part(), 0.9999);
        assert!(facts.to_string().ends_with(", 2 tables without keys"));
        facts.needs_keys(0);
        assert_eq!(facts.part(), 1.0);
        let until = Location {
            position: "b.000001:7".parse().unwrap(),
            gtids: None,
        };
        for facts in [facts, CopyFacts::default()] {
            facts.note_end(&Location::default(), Some(&until));
            assert_eq!((facts.part(), facts.catches_up()), (0.9999, true));
            let text = facts.to_string();
            assert!(
                text.ends_with("applies the binlog up to (b.000001, 7)"),
                "{text}"
            );
            facts.caught_up();
            assert_eq!((facts.part(), facts.catches_up()), (1.0, false));
        }
    }

    /// Few rows may be most of the work.
    #[test]
    fn a_table_counts_by_its_size() {
        let facts = CopyFacts::default();
        let table = |size, rows| {
            let total = Total {
                rows,
                ..Total::default()
            };
            TableFacts::new(&TableName::new("d", "t"), size, total, Total::default())
        };
        let tables = vec![table(9_000, 10), table(1_000, 100_000)];
        facts.begin(tables, &Location::default());
        facts.wrote(0, 5, 0);
        assert_eq!(facts.part(), 0.45);
        facts.wrote(1, 100_000, 0);
        facts.ended(1);
        assert_eq!(facts.part(), 0.55);
    }

    /// A server may not know yet how large a table is.
    #[test]
    fn rows_that_have_come_tell_how_large_a_table_is() {
        let facts = CopyFacts::default();
        let table = |rows| {
            let total = Total {
                rows,
                ..Total::default()
            };
            TableFacts::new(&TableName::new("d", "t"), 1_000, total, Total::default())
        };
        facts.begin(vec![table(1_000), table(10)], &Location::default());
        facts.wrote(1, 10, 1_000);
        facts.ended(1);
        assert_eq!(facts.part(), 0.5);
        facts.wrote(0, 10, 1_000);
        assert!(facts.part() < 0.02, "{}", facts.part());
    }
}
