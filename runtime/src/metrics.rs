//! Metrics, in the text format of Prometheus.
//!
//! The names, labels and buckets are those of the existing worker, because dashboards and alerts
//! know them. Client libraries cannot be had for that: they insist on a suffix for counters, or on
//! OpenMetrics. What is needed fits here.

mod copy;
mod process;
mod relay;
mod sync;

use std::{
    collections::BTreeMap,
    fmt::Write,
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicU64, Ordering::Relaxed},
    },
};

pub use copy::{CopyMetrics, Sample};
#[cfg(not(madsim))]
pub(crate) use process::cpu_seconds;
pub use relay::{RelayMetrics, share};
pub use sync::SyncMetrics;

use dm_core::{
    binlog::{FileName, Position},
    status::Stage,
};

/// All metrics of a worker.
#[derive(Debug)]
pub struct Metrics {
    families: Mutex<BTreeMap<&'static str, Family>>,
    /// Use of processor time over the last seconds, in percent of one processor.
    pub cpu_usage: Arc<Cell>,
}

/// Where a subtask stands.
#[derive(Clone, Debug, PartialEq)]
pub struct TaskStage {
    /// Its source.
    pub source: String,
    /// Its task.
    pub task: String,
    /// Its stage.
    pub stage: Stage,
}

/// What a metric is.
#[derive(Debug)]
pub struct Desc {
    /// Its name.
    pub name: &'static str,
    /// What it says.
    pub help: &'static str,
    /// Its kind.
    pub kind: Kind,
}

/// The kinds of metrics.
#[derive(Clone, Copy, Debug)]
pub enum Kind {
    /// Only grows.
    Counter,
    /// Any value.
    Gauge,
    /// Counts values up to limits: so many of them, each `factor` times the one before.
    Exponential {
        /// The first limit.
        start: f64,
        /// From one to the next.
        factor: f64,
        /// How many.
        count: usize,
    },
    /// Counts values up to limits: so many of them, each `width` above the one before.
    Linear {
        /// The first limit.
        start: f64,
        /// From one to the next.
        width: f64,
        /// How many.
        count: usize,
    },
}

/// Seconds, from microseconds to minutes.
const DURATION: Kind = Kind::Exponential {
    start: 0.000_005,
    factor: 2.0,
    count: 25,
};

/// Declares metrics whose names begin alike.
macro_rules! descs {
    ($prefix:literal $($name:ident = $text:literal, $kind:expr, $help:literal;)*) => {
        $(
            pub(super) static $name: Desc =
                Desc { name: concat!($prefix, $text), help: $help, kind: $kind };
        )*

        /// All of them.
        pub(super) static ALL: &[&Desc] = &[$(&$name),*];
    };
}
use descs;

/// Labels by name, sorted.
type Labels = Vec<(&'static str, String)>;

#[derive(Debug)]
struct Family {
    desc: &'static Desc,
    series: BTreeMap<Labels, Series>,
}

#[derive(Clone, Debug)]
enum Series {
    Cell(Arc<Cell>),
    Histogram(Arc<Histogram>),
}

/// The value of a counter or a gauge.
#[derive(Debug, Default)]
pub struct Cell(AtomicU64);

impl Cell {
    /// Sets it.
    pub fn set(&self, value: f64) {
        self.0.store(value.to_bits(), Relaxed);
    }

    /// Adds to it.
    pub fn add(&self, value: f64) {
        let sum = |bits| Some((f64::from_bits(bits) + value).to_bits());
        // The closure always gives a value.
        let _ = self.0.fetch_update(Relaxed, Relaxed, sum);
    }

    /// Reads it.
    pub fn value(&self) -> f64 {
        f64::from_bits(self.0.load(Relaxed))
    }
}

/// How often values up to some limits occurred.
#[derive(Debug)]
pub struct Histogram {
    limits: Vec<f64>,
    /// One more than there are limits: the last is for values beyond all of them.
    counts: Vec<AtomicU64>,
    sum: Cell,
}

impl Histogram {
    fn new(limits: Vec<f64>) -> Self {
        let counts = (0..=limits.len()).map(|_| AtomicU64::new(0)).collect();
        Self {
            limits,
            counts,
            sum: Cell::default(),
        }
    }

    /// Counts a value.
    pub fn observe(&self, value: f64) {
        self.observe_many(value, 1);
    }

    /// Counts a value that occurred so many times.
    pub fn observe_many(&self, value: f64, times: u64) {
        let bucket = self.limits.partition_point(|&limit| limit < value);
        self.counts[bucket].fetch_add(times, Relaxed);
        self.sum.add(value * times as f64);
    }
}

static TASK_STATE: Desc = Desc {
    name: "dm_worker_task_state",
    help: "state of task, 1 - New, 2 - Running, 3 - Paused, 4 - Stopped, 5 - Finished",
    kind: Kind::Gauge,
};

static OPERATE_ERROR: Desc = Desc {
    name: "dm_worker_operate_error",
    help: "number of different operate error",
    kind: Kind::Counter,
};

static CPU_USAGE: Desc = Desc {
    name: "dm_worker_cpu_usage",
    help: "the cpu usage of worker",
    kind: Kind::Gauge,
};

impl Default for Metrics {
    fn default() -> Self {
        let mut metrics = Self {
            families: Mutex::default(),
            cpu_usage: Arc::default(),
        };
        metrics.cpu_usage = metrics.cell(&CPU_USAGE, &[]);
        for desc in relay::TOTALS {
            metrics.series(desc, &[]);
        }
        metrics
    }
}

impl Metrics {
    /// The counter or gauge with these labels; made with value 0 if there is none.
    pub fn cell(&self, desc: &'static Desc, labels: &[(&'static str, &str)]) -> Arc<Cell> {
        match self.series(desc, labels) {
            Series::Cell(cell) => cell,
            // A `Desc` has one kind, so this one counts for nothing and harms nobody.
            Series::Histogram(_) => Arc::default(),
        }
    }

    /// The histogram with these labels; made if there is none.
    pub fn histogram(
        &self,
        desc: &'static Desc,
        labels: &[(&'static str, &str)],
    ) -> Arc<Histogram> {
        match self.series(desc, labels) {
            Series::Histogram(histogram) => histogram,
            Series::Cell(_) => Arc::new(Histogram::new(Vec::new())),
        }
    }

    /// Counts a failed operation of the worker; `kind` is `SourceBound`, `Pause`, ….
    pub fn operate_error(&self, worker: &str, kind: &str) {
        self.cell(&OPERATE_ERROR, &[("worker", worker), ("type", kind)])
            .add(1.0);
    }

    /// Forgets those series of some metrics that have each of these labels.
    fn remove(&self, descs: &[&Desc], labels: &[(&str, &str)]) {
        let mut families = self.lock();
        for desc in descs {
            let Some(family) = families.get_mut(desc.name) else {
                continue;
            };
            family.series.retain(|series, _| {
                !labels.iter().all(|&(name, value)| {
                    series
                        .iter()
                        .any(|(other, text)| *other == name && text == value)
                })
            });
        }
    }

    /// Everything as text, with the stages of the subtasks.
    pub fn render(&self, worker: &str, stages: &[TaskStage]) -> String {
        self.update_stages(worker, stages);
        let mut out = String::new();
        for family in self
            .lock()
            .values()
            .filter(|family| !family.series.is_empty())
        {
            family.render(&mut out);
        }
        process::render(&mut out);
        out
    }

    /// Stages are not told as they change but looked at when somebody asks.
    fn update_stages(&self, worker: &str, stages: &[TaskStage]) {
        self.lock().remove(TASK_STATE.name);
        for task in stages {
            if matches!(task.stage, Stage::Stopped | Stage::Finished) {
                continue;
            }
            let labels = [
                ("task", &*task.task),
                ("source_id", &*task.source),
                ("worker", worker),
            ];
            self.cell(&TASK_STATE, &labels)
                .set(task.stage.number().into());
        }
    }

    fn series(&self, desc: &'static Desc, labels: &[(&'static str, &str)]) -> Series {
        let mut labels: Labels = labels
            .iter()
            .map(|&(name, value)| (name, value.into()))
            .collect();
        labels.sort();
        let mut families = self.lock();
        let family = families.entry(desc.name).or_insert_with(|| Family {
            desc,
            series: BTreeMap::new(),
        });
        family
            .series
            .entry(labels)
            .or_insert_with(|| desc.kind.series())
            .clone()
    }

    fn lock(&self) -> MutexGuard<'_, BTreeMap<&'static str, Family>> {
        // Nothing in here can be left half done by a panic.
        self.families.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Shows a place: the number of the file, and the offset.
fn show(at: &Position, file: &Cell, pos: &Cell) {
    if let Ok(name) = FileName::parse(&at.file) {
        file.set(name.sequence as f64);
        pos.set(at.pos as f64);
    }
}

impl Kind {
    const fn text(self) -> &'static str {
        match self {
            Self::Counter => "counter",
            Self::Gauge => "gauge",
            Self::Exponential { .. } | Self::Linear { .. } => "histogram",
        }
    }

    fn series(self) -> Series {
        let limits = |start, count, next: &dyn Fn(f64) -> f64| {
            let all = std::iter::successors(Some(start), |&limit| Some(next(limit)));
            Series::Histogram(Arc::new(Histogram::new(all.take(count).collect())))
        };
        match self {
            Self::Counter | Self::Gauge => Series::Cell(Arc::default()),
            Self::Exponential {
                start,
                factor,
                count,
            } => limits(start, count, &|limit| limit * factor),
            Self::Linear {
                start,
                width,
                count,
            } => limits(start, count, &|limit| limit + width),
        }
    }
}

impl Family {
    // Writing to a `String` never fails.
    fn render(&self, out: &mut String) {
        let Desc { name, help, kind } = self.desc;
        let _ = writeln!(out, "# HELP {name} {help}\n# TYPE {name} {}", kind.text());
        for (labels, series) in &self.series {
            match series {
                Series::Cell(cell) => line(out, name, "", labels, None, cell.value()),
                Series::Histogram(histogram) => {
                    let mut total = 0;
                    let limits = histogram.limits.iter().copied().chain([f64::INFINITY]);
                    for (limit, count) in limits.zip(&histogram.counts) {
                        total += count.load(Relaxed);
                        line(out, name, "_bucket", labels, Some(limit), total as f64);
                    }
                    line(out, name, "_sum", labels, None, histogram.sum.value());
                    line(out, name, "_count", labels, None, total as f64);
                }
            }
        }
    }
}

fn line(out: &mut String, name: &str, suffix: &str, labels: &Labels, le: Option<f64>, value: f64) {
    out.push_str(name);
    out.push_str(suffix);
    let le = le.map(|limit| ("le", number(limit)));
    let mut before = '{';
    for (name, value) in labels.iter().chain(&le) {
        out.push(before);
        before = ',';
        let value = value
            .replace('\\', "\\\\")
            .replace('"', "\\\"")
            .replace('\n', "\\n");
        let _ = write!(out, "{name}=\"{value}\"");
    }
    if before == ',' {
        out.push('}');
    }
    let _ = writeln!(out, " {}", number(value));
}

/// A number as the existing worker writes it: the shortest digits that give it back, with an
/// exponent below 1e-4 and from 1e6 on.
fn number(value: f64) -> String {
    if value.is_nan() {
        return "NaN".to_owned();
    }
    if value.is_infinite() {
        return if value > 0.0 { "+Inf" } else { "-Inf" }.to_owned();
    }
    let scientific = format!("{value:e}");
    let (digits, exponent) = scientific.split_once('e').unwrap_or((&scientific, "0"));
    let exponent: i32 = exponent.parse().unwrap_or(0);
    if (-4..6).contains(&exponent) {
        return value.to_string();
    }
    let sign = if exponent < 0 { '-' } else { '+' };
    format!("{digits}e{sign}{:02}", exponent.abs())
}

#[cfg(test)]
mod tests;
