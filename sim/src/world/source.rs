//! A simulated MySQL that others read a binlog from.

mod binlog;
mod events;

use std::{
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use bytes::Bytes;
use dm_core::{
    binlog::{Flavor, GtidSet, Position},
    error::{Code, Error, Result, Scope, code},
    sync::{agreement::SourceTable, schema::TableName},
};
use dm_runtime::ports::{self, EventStream, SourceEnd, SourceFacts, Start};
use tokio::time::{sleep, timeout};

use self::binlog::{Binlog, Place};
use super::{
    oracle::leak::{Door, Doors},
    rows::{Rows, TABLES},
    signal::{Listener, Signal},
    trace::Trace,
};
use crate::dice::Dice;

/// How often a source without news says so.
const HEARTBEAT: Duration = Duration::from_secs(15);
/// Rows of a table from which on more are removed than added.
const ROWS_MAX: usize = 24;

/// How a source logs.
#[derive(Clone, Copy, Debug)]
pub(super) struct Options {
    /// Whether transactions have GTIDs.
    pub(super) gtids: bool,
    /// Whether table maps name their columns.
    pub(super) names: bool,
    /// Transactions after which a new file begins, about.
    pub(super) file_txns: u64,
}

/// The server.
pub(super) struct Upstream {
    /// Its name.
    pub(super) name: String,
    trace: Trace,
    state: Mutex<State>,
    /// Number of the last change of the binlog.
    news: Signal<u64>,
    /// Grows each time that all dumps break.
    cuts: Signal<u64>,
    down: AtomicBool,
}

struct State {
    dice: Dice,
    options: Options,
    binlog: Binlog,
    tables: Vec<Rows>,
    next_value: i64,
}

impl Upstream {
    /// An empty server.
    pub(super) fn new(name: &str, options: Options, trace: Trace, dice: &Dice) -> Arc<Self> {
        let number = name.bytes().last().unwrap_or_default();
        Arc::new(Self {
            name: name.to_owned(),
            trace,
            state: Mutex::new(State {
                dice: dice.fork(name),
                options,
                binlog: Binlog::new([number; 16], options.gtids, options.names),
                tables: vec![Rows::default(); TABLES.len()],
                next_value: 0,
            }),
            news: Signal::new(0),
            cuts: Signal::new(0),
            down: AtomicBool::new(false),
        })
    }

    /// Commits a transaction; the dice decide what is in it.
    pub(super) fn commit(&self, dice: &mut Dice) {
        let mut state = self.state();
        let rows = match dice.within(0..20) {
            0 => dice.within(20..60),
            _ => dice.within(1..6),
        };
        let changes: Vec<_> = (0..rows).filter_map(|_| state.change(dice)).collect();
        if changes.is_empty() {
            return;
        }
        let State {
            binlog, options, ..
        } = &mut *state;
        binlog.transaction(&self.name, &changes);
        if dice.within(0..options.file_txns) == 0 {
            binlog.rotate();
        }
        let end = binlog.end();
        drop(state);
        self.trace.note(
            &self.name,
            format_args!("commits {} rows, ends at {end}", changes.len()),
        );
        self.news.change(|number| *number += 1);
    }

    /// The rows of all tables.
    pub(super) fn tables(&self) -> Vec<Rows> {
        self.state().tables.clone()
    }

    /// Breaks all dumps.
    pub(super) fn cut(&self) {
        self.cuts.change(|number| *number += 1);
    }

    /// Lets the server be out of reach, or back.
    pub(super) fn set_down(&self, down: bool) {
        self.down.store(down, Ordering::Relaxed);
        if down {
            self.cut();
        }
    }

    async fn reach(&self) -> Result<()> {
        let latency = self.state().dice.millis(1..8);
        sleep(latency).await;
        if self.down.load(Ordering::Relaxed) {
            return Err(trouble(&code::DB_DRIVER_ERROR, "connection refused"));
        }
        Ok(())
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// A change of a row: its table, and the row before and after.
type Change = (usize, Option<super::rows::Row>, Option<super::rows::Row>);

impl State {
    /// Makes a random change, unless the server itself would refuse it.
    fn change(&mut self, dice: &mut Dice) -> Option<Change> {
        let index = dice.within(0..TABLES.len() as u64) as usize;
        let table = &TABLES[index];
        let place = dice.roll();
        let old = self.tables[index].pick(place).cloned();
        let kind = dice.within(0..10);
        let grows = self.tables[index].len() < ROWS_MAX;
        let mut new = Vec::new();
        for column in 0..table.columns.len() {
            new.push(self.value(dice, index, column));
        }
        let rows = &mut self.tables[index];
        match (kind, old) {
            (0..=3, _) | (_, None) if grows => {
                rows.insert(table, new.clone()).ok()?;
                Some((index, None, Some(new)))
            }
            (4..=6, Some(old)) => {
                // Most updates leave the key alone.
                if let Some(&key) = table.uniques.first()
                    && kind != 4
                {
                    new[key] = old[key];
                }
                rows.update(table, &old, new.clone()).ok()?;
                Some((index, Some(old), Some(new)))
            }
            (_, Some(old)) => {
                rows.delete(table, &old).ok()?;
                Some((index, Some(old), None))
            }
            (_, None) => None,
        }
    }

    /// A value for a column: few different ones where they are to collide, new ones else.
    fn value(&mut self, dice: &mut Dice, table: usize, column: usize) -> Option<i64> {
        let roll = dice.within(0..12);
        match (table, column) {
            (0, 0) => Some(dice.within(0..40).cast_signed()),
            (0, 1) => (roll > 2).then_some(roll.cast_signed() * 3),
            (0, _) => {
                self.next_value += 1;
                Some(self.next_value)
            }
            // Equal rows on purpose: a doubled or lost one must be noticed all the same.
            _ => (roll > 1).then_some((roll % 4).cast_signed()),
        }
    }
}

/// What a worker has of it.
#[derive(Clone)]
pub(super) struct Source {
    pub(super) upstream: Arc<Upstream>,
    pub(super) doors: Doors,
}

impl ports::Source for Source {
    type Stream = Dump;

    async fn probe(&self) -> Result<SourceFacts> {
        self.upstream.reach().await?;
        Ok(SourceFacts {
            flavor: Flavor::Mysql,
            version: "8.4.0-simulated".to_owned(),
            sql_mode: String::new(),
            lower_case_table_names: 0,
            server: self.upstream.name.clone(),
            end: self.upstream.state().binlog.source_end(),
        })
    }

    async fn dump(&self, from: &Start) -> Result<Dump> {
        self.upstream.reach().await?;
        let (place, queue) = self
            .upstream
            .state()
            .binlog
            .start(from)
            .map_err(|why| trouble(&code::SYNCER_GET_EVENT, &format!("{from}: {why}")))?;
        let known = match from {
            Start::Gtids(set) => Some(set.clone()),
            Start::Position(_) => None,
        };
        Ok(Dump {
            upstream: Arc::clone(&self.upstream),
            place,
            queue,
            known,
            news: self.upstream.news.listen(),
            cuts: self.upstream.cuts.listen(),
            _door: self.doors.open(),
        })
    }

    async fn gtids_at(&self, position: &Position) -> Result<GtidSet> {
        self.upstream.reach().await?;
        let found = self.upstream.state().binlog.gtids_at(position);
        found.ok_or_else(|| {
            trouble(
                &code::CONFIG_META_INVALID,
                &format!("{position} is not the end of a transaction"),
            )
        })
    }

    async fn table(&self, table: &TableName) -> Result<SourceTable> {
        self.upstream.reach().await?;
        let known = TABLES.iter().find(|known| known.name == table.table);
        Ok(SourceTable {
            columns: known.map_or_else(Vec::new, |known| known.source_columns()),
            // Before everything that is in the binlog.
            created: Some(u64::from(events::TIMESTAMP) - 1),
        })
    }

    async fn end(&self) -> Result<SourceEnd> {
        self.upstream.reach().await?;
        Ok(self.upstream.state().binlog.source_end())
    }
}

/// A running dump.
pub(super) struct Dump {
    upstream: Arc<Upstream>,
    place: Place,
    /// Events to be sent before what is at `place`, in order.
    queue: std::collections::VecDeque<Bytes>,
    /// Transactions that are left out.
    known: Option<GtidSet>,
    news: Listener<u64>,
    cuts: Listener<u64>,
    _door: Door,
}

impl EventStream for Dump {
    async fn next(&mut self) -> Result<Bytes> {
        loop {
            // Told apart from news that came before: those are in the binlog already.
            self.news.see();
            if self.cuts.has_news() {
                return Err(trouble(&code::SYNCER_GET_EVENT, "connection reset by peer"));
            }
            if let Some(event) = self.queue.pop_front() {
                return Ok(event);
            }
            let next = self.upstream.state().binlog.next(
                &mut self.place,
                self.known.as_ref(),
                &mut self.queue,
            );
            if let Some(event) = next {
                return Ok(event);
            }
            if !self.queue.is_empty() {
                continue;
            }
            tokio::select! {
                biased;
                _ = self.cuts.changed() => {
                    return Err(trouble(&code::SYNCER_GET_EVENT, "connection reset by peer"));
                }
                news = timeout(HEARTBEAT, self.news.changed()) => if news.is_err() {
                    return Ok(self.upstream.state().binlog.heartbeat());
                }
            }
        }
    }
}

fn trouble(kind: &Code, cause: &str) -> Error {
    Error::new(kind, "the source does not answer as it should")
        .with_scope(Scope::Upstream)
        .with_cause(cause.to_owned())
}
