//! Metrics of a sync unit.

use std::{
    collections::BTreeMap,
    sync::{Arc, Mutex, OnceLock, PoisonError},
    time::Duration,
};

use dm_core::{
    binlog::Position,
    sync::{
        batch::{Batch, Op},
        schema::TableName,
    },
};

use super::{Cell, DURATION, Desc, Histogram, Kind, Metrics, descs, show};

const BATCH: Kind = Kind::Linear {
    start: 1.0,
    width: 50.0,
    count: 21,
};

descs! { "dm_syncer_"
    READ_DURATION = "read_binlog_duration", DURATION,
        "bucketed histogram of read time (s) for single binlog event from the relay log or master.";
    EVENT_SIZE = "binlog_event_size", Kind::Exponential { start: 16.0, factor: 2.0, count: 20 },
        "size of a binlog event";
    EVENT_ROWS = "binlog_event_row", Kind::Linear { start: 0.0, width: 100.0, count: 101 },
        "number of rows in a binlog event";
    ADDED_JOBS = "added_jobs_total", Kind::Counter, "total number of added jobs";
    FINISHED_JOBS = "finished_jobs_total", Kind::Counter, "total number of finished jobs";
    FINISHED_TRANSACTIONS = "finished_transaction_total", Kind::Counter,
        "total number of finished transaction";
    BATCH_SIZE = "replication_transaction_batch", BATCH,
        "number of sql's contained in a transaction that executed to downstream";
    TRANSACTION_DURATION = "txn_duration_time", DURATION,
        "Bucketed histogram of processing time (s) of a txn.";
    BINLOG_POS = "binlog_pos", Kind::Gauge, "current binlog pos";
    BINLOG_FILE = "binlog_file", Kind::Gauge, "current binlog file index";
    LAG_GAUGE = "replication_lag_gauge", Kind::Gauge,
        "replication lag gauge in second between mysql and syncer";
    LAG = "replication_lag", Kind::Exponential { start: 0.5, factor: 2.0, count: 12 },
        "replication lag histogram in second between mysql and syncer";
    REMAINING_TIME = "remaining_time", Kind::Gauge,
        "the remaining time in second to catch up master";
    FLUSH_INTERVAL = "flush_checkpoints_time_interval", BATCH,
        "checkpoint flushed time interval in seconds";
    SHARD_LOCK = "shard_lock_resolving", Kind::Gauge,
        "waiting shard DDL lock to be resolved";
    EXITS = "exit_with_error_count", Kind::Counter,
        "counter for syncer exits with error";
}

/// The existing worker only logs it.
pub(super) static MISSED: Desc = Desc {
    name: "dm_worker_sync_missing_rows_total",
    help: "rows that were changed at the source, or deleted from tables without a key, and were \
           not in the target",
    kind: Kind::Counter,
};

/// Slots are told apart in labels up to so many.
const QUEUES: usize = 8;

/// What counts the jobs of each table, by name of the metric, kind and queue.
type Jobs = BTreeMap<(&'static str, &'static str, &'static str), BTreeMap<TableName, Arc<Cell>>>;

/// The figures of one sync unit. They disappear when this is dropped.
#[derive(Debug)]
pub struct SyncMetrics {
    metrics: Arc<Metrics>,
    task: String,
    source: String,
    worker: String,
    /// Seconds waited for each event.
    pub read_duration: Arc<Histogram>,
    /// Bytes of each event.
    pub event_size: Arc<Histogram>,
    /// Rows in each rows event.
    pub event_rows: Arc<Histogram>,
    /// Rows that should have been changed in the target and were not there.
    pub missed: Arc<Cell>,
    /// Transactions committed in the target.
    pub transactions: Arc<Cell>,
    /// Seconds that each transaction of the target took.
    pub transaction_duration: Arc<Histogram>,
    master_pos: Arc<Cell>,
    master_file: Arc<Cell>,
    syncer_pos: Arc<Cell>,
    syncer_file: Arc<Cell>,
    /// Seconds by which the target is behind.
    pub lag: Arc<Cell>,
    /// The same, over time.
    pub lag_histogram: Arc<Histogram>,
    /// Seconds until the target has caught up, as it looks.
    pub remaining_time: Arc<Cell>,
    /// Seconds between two checkpoints.
    pub flush_interval: Arc<Histogram>,
    exits_resumable: Arc<Cell>,
    exits_for_good: Arc<Cell>,
    /// Each is found by seven labels among all of the worker, which is too dear for each batch.
    jobs: Mutex<Jobs>,
    batch_size: [OnceLock<Arc<Histogram>>; QUEUES],
}

impl SyncMetrics {
    /// Makes the figures of the unit of a task on a source; those that are always there are 0.
    pub fn new(metrics: &Arc<Metrics>, task: &str, source: &str, worker: &str) -> Self {
        let full = [("task", task), ("source_id", source), ("worker", worker)];
        let short = [("task", task), ("source_id", source)];
        let with = |name, value| [short[0], short[1], (name, value)];
        metrics.cell(&SHARD_LOCK, &short);
        Self {
            read_duration: metrics.histogram(&READ_DURATION, &short),
            event_size: metrics.histogram(&EVENT_SIZE, &full),
            event_rows: metrics.histogram(&EVENT_ROWS, &full),
            missed: metrics.cell(&MISSED, &short),
            transactions: metrics.cell(&FINISHED_TRANSACTIONS, &full),
            transaction_duration: metrics.histogram(&TRANSACTION_DURATION, &full),
            master_pos: metrics.cell(&BINLOG_POS, &with("node", "master")),
            master_file: metrics.cell(&BINLOG_FILE, &with("node", "master")),
            syncer_pos: metrics.cell(&BINLOG_POS, &with("node", "syncer")),
            syncer_file: metrics.cell(&BINLOG_FILE, &with("node", "syncer")),
            lag: metrics.cell(&LAG_GAUGE, &full),
            lag_histogram: metrics.histogram(&LAG, &full),
            remaining_time: metrics.cell(&REMAINING_TIME, &full),
            flush_interval: metrics.histogram(&FLUSH_INTERVAL, &full),
            exits_resumable: metrics.cell(&EXITS, &with("resumable_err", "true")),
            exits_for_good: metrics.cell(&EXITS, &with("resumable_err", "false")),
            jobs: Mutex::default(),
            batch_size: Default::default(),
            metrics: Arc::clone(metrics),
            task: task.to_owned(),
            source: source.to_owned(),
            worker: worker.to_owned(),
        }
    }

    /// The source ends here.
    pub fn source_end(&self, end: &Position) {
        show(end, &self.master_file, &self.master_pos);
    }

    /// Everything up to here is applied, and the checkpoint says so.
    pub fn flushed(&self, upto: &Position) {
        show(upto, &self.syncer_file, &self.syncer_pos);
    }

    /// Counts the rows of a batch that is handed to its slot.
    pub fn added(&self, batch: &Batch) {
        self.rows(&ADDED_JOBS, batch);
    }

    /// Counts a batch that its slot has applied, which took so long.
    pub fn finished(&self, batch: &Batch, took: Duration) {
        self.rows(&FINISHED_JOBS, batch);
        self.transactions.add(1.0);
        self.transaction_duration.observe(took.as_secs_f64());
        let rows = batch.segments.iter().map(|segment| segment.rows.len());
        let sizes = self.batch_size[number(batch.slot)].get_or_init(|| {
            let labels = [
                ("task", &*self.task),
                ("source_id", &*self.source),
                ("worker", &*self.worker),
                ("queueNo", queue(batch.slot)),
                ("type", "rows"),
            ];
            self.metrics.histogram(&BATCH_SIZE, &labels)
        });
        sizes.observe(rows.sum::<usize>() as f64);
    }

    /// Counts a piece of DDL that was run.
    pub fn finished_ddl(&self) {
        for desc in [&ADDED_JOBS, &FINISHED_JOBS] {
            self.jobs(desc, "ddl", "admin queue", &TableName::default(), 1);
        }
    }

    /// Counts an end by an error.
    pub fn failed(&self, resumable: bool) {
        if resumable {
            self.exits_resumable.add(1.0);
        } else {
            self.exits_for_good.add(1.0);
        }
    }

    /// Merged changes of one row count once, as they do in the existing worker's compactor.
    fn rows(&self, desc: &'static Desc, batch: &Batch) {
        let queue = queue(batch.slot);
        for segment in &batch.segments {
            let kind = match segment.op {
                Op::Insert | Op::Replace => "insert",
                Op::Upsert | Op::Update => "update",
                Op::Delete => "delete",
            };
            let rows = segment.rows.len() as u64;
            self.jobs(desc, kind, queue, segment.table.name(), rows);
        }
    }

    pub(super) fn jobs(
        &self,
        desc: &'static Desc,
        kind: &'static str,
        queue: &'static str,
        table: &TableName,
        count: u64,
    ) {
        let mut jobs = self.jobs.lock().unwrap_or_else(PoisonError::into_inner);
        let tables = jobs.entry((desc.name, kind, queue)).or_default();
        if let Some(cell) = tables.get(table) {
            cell.add(count as f64);
            return;
        }
        let labels = [
            ("task", &*self.task),
            ("source_id", &*self.source),
            ("worker", &*self.worker),
            ("type", kind),
            ("queueNo", queue),
            ("target_schema", &*table.schema),
            ("target_table", &*table.table),
        ];
        let cell = self.metrics.cell(desc, &labels);
        cell.add(count as f64);
        tables.insert(table.clone(), cell);
    }
}

impl Drop for SyncMetrics {
    fn drop(&mut self) {
        let labels = [("task", &*self.task), ("source_id", &*self.source)];
        self.metrics.remove(ALL, &labels);
        self.metrics.remove(&[&MISSED], &labels);
    }
}

/// The number of a slot in labels.
const fn number(slot: u32) -> usize {
    slot as usize % QUEUES
}

/// The name of a slot in labels.
const fn queue(slot: u32) -> &'static str {
    const NAMES: [&str; QUEUES] = ["q_0", "q_1", "q_2", "q_3", "q_4", "q_5", "q_6", "q_7"];
    NAMES[number(slot)]
}
