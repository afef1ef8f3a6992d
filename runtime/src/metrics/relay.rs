//! Metrics of relay units.
//!
//! The existing worker relays one source, so most of its figures do not say which. Here they are
//! those of all sources; where a sum would mean nothing, the source is told.

use std::{sync::Arc, time::Duration};

use dm_core::{binlog::Position, control::SourceConfig, relay::SubDir};

use super::{Cell, DURATION, Desc, Histogram, Kind, Metrics, descs, show};

descs! { "dm_relay_"
    BINLOG_POS = "binlog_pos", Kind::Gauge, "current binlog pos in current binlog file";
    BINLOG_FILE = "binlog_file", Kind::Gauge, "current binlog file index";
    SUB_DIR_INDEX = "sub_dir_index", Kind::Gauge, "current relay sub directory index";
    SPACE = "space", Kind::Gauge, "the space of storage for relay component";
    DATA_CORRUPTION = "data_corruption", Kind::Counter,
        "counter of relay log data corruption";
    WRITE_SIZE = "write_size", Kind::Exponential { start: 16.0, factor: 2.0, count: 20 },
        "write relay log size";
    WRITE_DURATION = "write_duration", DURATION,
        "bucketed histogram of write time (s) of single relay log event";
    WRITE_ERRORS = "write_error_count", Kind::Counter, "write relay log error count";
    READ_ERRORS = "read_error_count", Kind::Counter, "read binlog from master error count";
    READ_DURATION = "read_binlog_duration", DURATION,
        "bucketed histogram of read time (s) of single binlog event from the master.";
    TRANSFORM_DURATION = "read_transform_duration", DURATION,
        "bucketed histogram of transform time (s) of single binlog event.";
    EXITS = "exit_with_error_count", Kind::Counter, "counter of relay unit exits with error";
}

/// Those that are there, with value 0, before anything is relayed.
pub(super) static TOTALS: [&Desc; 7] = [
    &DATA_CORRUPTION,
    &WRITE_SIZE,
    &WRITE_DURATION,
    &WRITE_ERRORS,
    &READ_ERRORS,
    &READ_DURATION,
    &TRANSFORM_DURATION,
];

/// The figures of one source's relay. Those that name the source disappear when this is dropped.
#[derive(Debug)]
pub struct RelayMetrics {
    metrics: Arc<Metrics>,
    source: String,
    /// Bytes of each event that is to be written.
    pub write_size: Arc<Histogram>,
    /// Seconds until the system had taken each event: what is written at once shares the time.
    pub write_duration: Arc<Histogram>,
    /// Failed writes.
    pub write_errors: Arc<Cell>,
    /// Failed reads from the source.
    pub read_errors: Arc<Cell>,
    /// Events that were damaged.
    pub corruptions: Arc<Cell>,
    /// Seconds waited for each event: none for those that were there.
    pub read_duration: Arc<Histogram>,
    /// Seconds that it took to decide about each event and to hand it over: those that came at once
    /// share the time.
    pub transform_duration: Arc<Histogram>,
}

impl RelayMetrics {
    /// Makes the figures of a source's relay.
    #[must_use]
    pub fn new(metrics: &Arc<Metrics>, source: &str) -> Self {
        Self {
            write_size: metrics.histogram(&WRITE_SIZE, &[]),
            write_duration: metrics.histogram(&WRITE_DURATION, &[]),
            write_errors: metrics.cell(&WRITE_ERRORS, &[]),
            read_errors: metrics.cell(&READ_ERRORS, &[]),
            corruptions: metrics.cell(&DATA_CORRUPTION, &[]),
            read_duration: metrics.histogram(&READ_DURATION, &[]),
            transform_duration: metrics.histogram(&TRANSFORM_DURATION, &[]),
            metrics: Arc::clone(metrics),
            source: source.to_owned(),
        }
    }

    /// A unit starts.
    pub fn started(&self) {
        for is_resumable in [true, false] {
            self.exits(is_resumable);
        }
    }

    /// A unit ended by an error.
    pub fn failed(&self, is_resumable: bool) {
        self.exits(is_resumable).add(1.0);
    }

    /// The log ends here.
    pub fn wrote(&self, end: &Position) {
        self.place("relay", end);
    }

    /// The source ends here.
    pub fn source_end(&self, end: &Position) {
        self.place("master", end);
    }

    /// Files go into this sub-directory now.
    pub fn sub_dir(&self, config: &SourceConfig, sub_dir: &SubDir) {
        let node = format!("{}:{}", config.from.host, config.from.port);
        let uuid = sub_dir.to_string();
        let labels = [("node", &*node), ("uuid", &uuid), self.source()];
        let index = self.metrics.cell(&SUB_DIR_INDEX, &labels);
        index.set(sub_dir.number().into());
    }

    /// The file system of the directory has so many bytes, of which some are free.
    pub fn space(&self, capacity: u64, available: u64) {
        for (kind, bytes) in [("capacity", capacity), ("available", available)] {
            let space = self.metrics.cell(&SPACE, &[("type", kind), self.source()]);
            space.set(bytes as f64);
        }
    }

    fn place(&self, node: &str, at: &Position) {
        let of = |desc| self.metrics.cell(desc, &[("node", node), self.source()]);
        show(at, &of(&BINLOG_FILE), &of(&BINLOG_POS));
    }

    fn exits(&self, is_resumable: bool) -> Arc<Cell> {
        let text = if is_resumable { "true" } else { "false" };
        self.metrics.cell(&EXITS, &[("resumable_err", text)])
    }

    fn source(&self) -> (&'static str, &str) {
        ("source_id", &self.source)
    }
}

impl Drop for RelayMetrics {
    fn drop(&mut self) {
        self.metrics.remove(ALL, &[self.source()]);
    }
}

/// Spreads the time that some events took together over them.
pub fn share(histogram: &Histogram, took: Duration, events: u64) {
    if events > 0 {
        histogram.observe_many(took.as_secs_f64() / events as f64, events);
    }
}
