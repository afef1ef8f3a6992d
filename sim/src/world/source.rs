//! A simulated MySQL that others read a binlog from.

mod binlog;
mod damage;
mod events;
mod life;
mod mariadb;
mod payload;
mod port;
mod txn;
mod write;

use std::{
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
    time::Duration,
};

use bytes::Bytes;
use dm_core::{
    binlog::{Flavor, Position},
    error::{Result, code},
    sync::progress::Location,
};
use dm_runtime::ports::SourceEnd;
use tokio::time::sleep;

use self::{binlog::Binlog, damage::Arrival, port::trouble};
pub(super) use self::{
    port::Source,
    txn::{Image, Part},
};
use super::{
    history::{Did, History},
    signal::Signal,
    tables::{Snapshot, Tables},
    trace::Trace,
};
use crate::dice::Dice;

/// What the source's clock says when a run begins, in seconds since 1970.
const BEGINNING: u32 = 1_700_000_000;

/// How a source logs.
#[derive(Clone, Copy, Debug)]
pub(super) struct Options {
    /// Whether transactions have GTIDs; on MariaDB they always do.
    pub(super) gtids: bool,
    /// Whether table maps name their columns.
    pub(super) names: bool,
    /// Transactions after which a new file begins, about.
    pub(super) file_txns: u64,
    /// Bytes that a rows event has at most, unless it is one row.
    pub(super) row_event_max: usize,
    /// Whether the texts of statements are logged as well.
    pub(super) texts: bool,
    /// Whether transactions are compressed, or rows events on MariaDB.
    pub(super) compresses: bool,
    /// Number of the first file, and where the first transaction in it begins at least.
    pub(super) first_file: u64,
    pub(super) first_offset: u64,
    /// How often a source without news says so, and whether in the newer way.
    pub(super) heartbeat: Duration,
    pub(super) heartbeats_v2: bool,
    /// Whether there are events that nobody knows.
    pub(super) unknown: bool,
    /// Which server it is.
    pub(super) flavor: Flavor,
    /// MariaDB: a domain that some transactions have.
    pub(super) domain: u32,
    /// MariaDB: whether an ALTER is logged when it begins as well.
    pub(super) two_phases: bool,
    /// MariaDB: whether events inside of a transaction say nothing of their place.
    pub(super) leaves_positions_out: bool,
}

/// The server.
pub(super) struct Upstream {
    /// Its name.
    pub(super) name: String,
    trace: Trace,
    history: Arc<History>,
    state: Mutex<State>,
    /// Number of the last change of the binlog.
    news: Signal<u64>,
    /// Grows each time that all dumps break.
    cuts: Signal<u64>,
    down: AtomicBool,
    /// Of a thousand events so many are damaged on their way.
    damages: AtomicU64,
}

struct State {
    /// For what is nobody's operation, such as latencies.
    dice: Dice,
    options: Options,
    binlog: Binlog,
    /// Whether old files are gone.
    purged: bool,
    tables: Tables,
    next_value: i64,
    next_column: u64,
}

impl State {
    fn location(&self) -> Location {
        let SourceEnd {
            position, gtids, ..
        } = self.binlog.source_end();
        Location {
            position,
            gtids: Some(gtids),
        }
    }
}

impl Upstream {
    /// An empty server.
    pub(super) fn new(name: &str, options: Options, trace: Trace, dice: &Dice) -> Arc<Self> {
        let number = name.bytes().last().unwrap_or_default();
        Arc::new(Self {
            name: name.to_owned(),
            trace,
            history: Arc::default(),
            state: Mutex::new(State {
                dice: dice.fork(name),
                options,
                binlog: Binlog::new([number; 16], options, BEGINNING),
                purged: false,
                tables: Tables::initial(),
                next_value: 0,
                next_column: 0,
            }),
            news: Signal::new(0),
            cuts: Signal::new(0),
            down: AtomicBool::new(false),
            damages: AtomicU64::new(0),
        })
    }

    /// Commits a random transaction.
    pub(super) fn commit(&self, dice: &mut Dice) {
        let mut state = self.now();
        let txn = state.transaction(dice);
        let gtid = state.binlog.transaction(&self.name, &txn);
        let rows = txn.rows();
        match rows {
            0 => self.trace.count("source: empty transaction"),
            60.. => self.trace.count("source: large transaction"),
            _ => {}
        }
        if state.options.flavor == Flavor::Mariadb {
            self.trace.count("source: MariaDB transaction");
        }
        if txn.payload.is_some() {
            self.trace.count("source: compressed transaction");
        }
        let parts = txn.statements.into_iter().flatten().collect();
        self.history.note(state.location(), gtid, Did::Rows(parts));
        self.written(state, dice, format_args!("commits {rows} rows"));
    }

    /// Changes how much goes into one rows event (`binlog_row_event_max_size`).
    pub(super) fn set_row_event_max(&self, bytes: usize) {
        self.state().binlog.set_row_event_max(bytes);
    }

    /// Executes a random statement that changes definitions.
    pub(super) fn ddl(&self, dice: &mut Dice) {
        let mut state = self.now();
        let statement = state.statement(dice);
        let clock = state.binlog.clock;
        if let Err(refusal) = state.tables.run(&statement, clock) {
            // Only what the server executes is drawn.
            self.trace.violate("world", refusal.text);
            return;
        }
        let mut sql = statement.to_string();
        if sql.starts_with("DROP") {
            sql.push_str(" /* generated by server */");
        }
        let gtid = state.binlog.statement(&self.name, &sql);
        let did = Did::Ddl(statement, state.tables.snapshot());
        self.history.note(state.location(), gtid, did);
        self.trace.count("source: DDL");
        self.written(state, dice, sql);
    }

    /// Where its first transaction begins.
    pub(super) fn first_place(&self) -> Position {
        self.state().binlog.first_place()
    }

    /// What its tables are.
    pub(super) fn snapshot(&self) -> Snapshot {
        self.state().tables.snapshot()
    }

    /// All that it committed.
    pub(super) fn history(&self) -> Arc<History> {
        Arc::clone(&self.history)
    }

    /// Breaks all dumps.
    pub(super) fn cut(&self) {
        self.cuts.change(|number| *number += 1);
    }

    /// Lets the server be out of reach, or back.
    pub(super) fn set_down(&self, down: bool) {
        if self.down.swap(down, Ordering::Relaxed) != down && down {
            self.cut();
        }
    }

    /// Lets events be damaged on their way, so many of a thousand.
    pub(super) fn set_damage(&self, chance: u64) {
        self.damages.store(chance, Ordering::Relaxed);
    }

    /// What becomes of an event.
    fn arrival(&self, event: Bytes, inside: bool) -> Arrival {
        let State { dice, options, .. } = &mut *self.state();
        if !dice.permille(self.damages.load(Ordering::Relaxed)) {
            return Arrival::Once(event);
        }
        let (arrival, what) = damage::damage(dice, options, &event, inside);
        self.trace.note(&self.name, what);
        self.trace.count(what);
        arrival
    }

    async fn reach(&self) -> Result<()> {
        let latency = self.state().dice.millis(1..8);
        sleep(latency).await;
        if self.down.load(Ordering::Relaxed) {
            return Err(trouble(&code::DB_DRIVER_ERROR, "connection refused"));
        }
        Ok(())
    }

    /// The state, with the clock set.
    fn now(&self) -> MutexGuard<'_, State> {
        let mut state = self.state();
        state.binlog.clock = BEGINNING + self.trace.now().as_secs() as u32;
        state
    }

    /// Tells everybody that the binlog goes on, perhaps in a new file.
    fn written(
        &self,
        mut state: MutexGuard<'_, State>,
        dice: &mut Dice,
        what: impl std::fmt::Display,
    ) {
        if dice.within(0..state.options.file_txns) == 0 {
            state.binlog.rotate();
        }
        let end = state.binlog.end();
        drop(state);
        if end.pos > 1 << 32 {
            self.trace.count("source: transaction behind 4 GiB");
        }
        if end.file.len() > "binlog.999999".len() && !end.file.starts_with("replica") {
            self.trace
                .count("source: transaction in a file with seven digits");
        }
        self.trace
            .note(&self.name, format_args!("{what}, ends at {end}"));
        self.news.change(|number| *number += 1);
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
