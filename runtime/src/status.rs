//! What operators see: the machine's view, joined with the units' counters and the sources' ends.

use std::{
    collections::BTreeMap,
    sync::atomic::{AtomicU64, Ordering::Relaxed},
    time::{Duration, SystemTime, UNIX_EPOCH},
};

use dm_core::{
    binlog::Position,
    error::{Error, Result},
    lifecycle::{Command, RelayView, SourceView, SubtaskView, View},
    relay::Strategy,
    status::{
        DumpStatus, LoadStatus, ProcessResult, RelayStatus, SourceStatus, Stage, SubtaskStatus,
        SyncStatus, UnitKind, UnitStatus,
    },
    sync::progress::Location,
};
use tokio::{
    sync::{mpsc, watch},
    time::{Instant, timeout},
};

use crate::{
    metrics::TaskStage,
    ports::{Connect, Source, SourceEnd},
    rpc::{self, CopyProgress, SourceFacts},
    units::{
        Facts,
        copy::CopyFacts,
        relay::{Purger, RelayEnd},
        sync::SyncFacts,
    },
};

/// How long a question may wait for the control store.
const LOOK_MAX: Duration = Duration::from_secs(1);

/// Answers questions about the worker.
#[derive(Debug)]
pub struct Observer<K> {
    /// The worker's name.
    pub worker: String,
    /// The worker's configuration, as TOML.
    pub config: String,
    /// The machine.
    pub view: watch::Receiver<View>,
    /// The way to the machine.
    pub commands: mpsc::UnboundedSender<Command>,
    /// How often it was asked to look.
    pub looks: AtomicU64,
    /// The units' counters.
    pub facts: Facts,
    /// The way to the sources.
    pub connect: K,
    /// Removes relay logs.
    pub purger: Purger<K>,
}

impl<K: Connect> rpc::Facts for Observer<K> {
    fn worker(&self) -> &str {
        &self.worker
    }

    fn offline(&self) -> Option<String> {
        let view = self.view.borrow();
        match &view.lost {
            _ if view.online => None,
            None => Some("not connected to etcd yet; the log says why".to_owned()),
            Some(lost) => Some(format!("not connected to etcd; lease lost: {lost}")),
        }
    }

    async fn sources(&self) -> Vec<SourceFacts> {
        // Asking a source takes a while: the stages are those of afterwards.
        let ends = self.ends().await;
        self.look().await;
        let view = self.view.borrow().clone();
        if view.sources.is_empty() {
            let result = failure(&view.errors);
            let status = SourceStatus {
                source: view.source.clone(),
                worker: self.worker.clone(),
                result,
                ..<_>::default()
            };
            return vec![SourceFacts {
                name: view.source,
                status,
                ..SourceFacts::default()
            }];
        }
        let sources = view.sources.iter();
        sources
            .map(|source| self.source(&view, source, ends.get(&source.name)))
            .collect()
    }

    fn stages(&self) -> Vec<TaskStage> {
        let view = self.view.borrow();
        self.facts.retain(&view);
        let stages = view.sources.iter().flat_map(|source| {
            source.subtasks.iter().map(|subtask| TaskStage {
                source: source.name.clone(),
                task: subtask.name.clone(),
                stage: subtask.stage,
            })
        });
        stages.collect()
    }

    fn config(&self) -> String {
        self.config.clone()
    }

    async fn purge(&self, strategy: Strategy) -> Result<String> {
        let removed = self.purger.on_request(strategy).await?;
        Ok(removed.to_string())
    }
}

impl<K: Connect> Observer<K> {
    /// Lets the machine read what is expected of it before anybody hears of an error, since a
    /// master that asks right after it put `Running` takes one that is over for a new one.
    async fn look(&self) {
        let failed = |view: &View| {
            let subtasks = view.sources.iter().flat_map(|source| &source.subtasks);
            let mut results = subtasks.filter_map(|subtask| subtask.result.as_ref());
            view.online && results.any(|result| !result.errors.is_empty())
        };
        if !failed(&self.view.borrow()) {
            return;
        }
        let number = self.looks.fetch_add(1, Relaxed) + 1;
        if self.commands.send(Command::Look { number }).is_ok() {
            let mut view = self.view.clone();
            let seen = view.wait_for(|view| view.looked >= number);
            // If the store does not answer, what is known is all there is to tell.
            let _ = timeout(LOOK_MAX, seen).await;
        }
    }

    /// Where the sources end. Only those that something runs on are asked: the answer takes a
    /// connection.
    async fn ends(&self) -> BTreeMap<String, Result<SourceEnd>> {
        let asked: Vec<String> = {
            let view = self.view.borrow();
            let runs = |source: &&SourceView| source.bound || source.relay.is_some();
            let asked = view.sources.iter().filter(runs);
            asked.map(|source| source.name.clone()).collect()
        };
        let mut ends = BTreeMap::new();
        for name in asked {
            if let Some(config) = self.facts.source(&name) {
                ends.insert(name, self.connect.source(&config).end().await);
            }
        }
        ends
    }

    fn source(
        &self,
        view: &View,
        source: &SourceView,
        end: Option<&Result<SourceEnd>>,
    ) -> SourceFacts {
        let mut errors = view.errors.clone();
        errors.extend(
            view.problems
                .iter()
                .filter(|problem| problem.source == source.name)
                .map(|problem| match problem.task.as_str() {
                    "" => problem.error.clone(),
                    task => problem.error.clone().annotate(&format!("task {task}")),
                }),
        );
        let end = match end {
            Some(Ok(end)) => Some(end),
            Some(Err(error)) => {
                errors.push(error.clone());
                None
            }
            None => None,
        };
        let subtasks = source.subtasks.iter();
        SourceFacts {
            name: source.name.clone(),
            handled: true,
            status: SourceStatus {
                // With several sources each answers for itself.
                source: if view.sources.len() == 1 {
                    &view.source
                } else {
                    &source.name
                }
                .clone(),
                worker: self.worker.clone(),
                result: failure(&errors),
                relay_status: source.relay.as_ref().map(|relay| {
                    let facts = self.facts.relay(&source.name);
                    if let Some(end) = end {
                        facts.metrics.source_end(&end.position);
                    }
                    relay_status(relay, facts.end().as_ref(), end)
                }),
            },
            copies: subtasks
                .clone()
                .filter(|task| matches!(task.unit, Some(UnitKind::Dump | UnitKind::Load)))
                .map(|task| {
                    let facts = self.facts.copy(&source.name, &task.name);
                    let progress = CopyProgress {
                        under_way: facts.under_way(),
                        left: facts.left(),
                    };
                    (task.name.clone(), progress)
                })
                .collect(),
            subtasks: subtasks
                .map(|task| self.subtask(&source.name, task, end))
                .collect(),
        }
    }

    fn subtask(&self, source: &str, task: &SubtaskView, end: Option<&SourceEnd>) -> SubtaskStatus {
        let unit = task.unit.unwrap_or_default();
        let status = match unit {
            UnitKind::Sync => {
                let facts = self.facts.of(source, &task.name);
                let mut status = sync_status(&facts, end);
                let copied = self.facts.copy(source, &task.name);
                status.dump_io_total_bytes = copied.bytes.load(Relaxed);
                Some(UnitStatus::Sync(Box::new(status)))
            }
            UnitKind::Dump => {
                let facts = self.facts.copy(source, &task.name);
                Some(UnitStatus::Dump(dump_status(&facts)))
            }
            UnitKind::Load => {
                let facts = self.facts.copy(source, &task.name);
                let is_over = task.stage == Stage::Finished;
                Some(UnitStatus::Load(load_status(&facts, is_over)))
            }
            _ => None,
        };
        SubtaskStatus {
            name: task.name.clone(),
            stage: task.stage,
            unit,
            result: task.result.clone(),
            refused: task.refused.clone(),
            status,
            ..<_>::default()
        }
    }
}

fn failure(errors: &[Error]) -> Option<ProcessResult> {
    (!errors.is_empty()).then(|| ProcessResult {
        is_canceled: false,
        errors: errors.to_vec(),
    })
}

fn relay_status(
    relay: &RelayView,
    relayed: Option<&RelayEnd>,
    end: Option<&SourceEnd>,
) -> RelayStatus {
    // Of one that is closed for good nothing else is told.
    if relay.stage == Stage::Stopped {
        return RelayStatus {
            stage: relay.stage,
            ..<_>::default()
        };
    }
    let has_all = match (relayed, end) {
        (Some(relayed), Some(end)) => is_synced(&relayed.location, end),
        _ => false,
    };
    let of = |text: fn(&RelayEnd) -> String| relayed.map(text).unwrap_or_default();
    RelayStatus {
        relay_sub_dir: of(|end| end.sub_dir.to_string()),
        relay_binlog: of(|end| match &*end.file {
            "" => end.location.position.to_string(),
            file => Position::new(file, end.len).to_string(),
        }),
        relay_binlog_gtid: of(|end| {
            let gtids = end.location.gtids.as_ref();
            gtids.map(ToString::to_string).unwrap_or_default()
        }),
        relay_catch_up_master: has_all,
        master_binlog: end.map(|end| end.position.to_string()).unwrap_or_default(),
        master_binlog_gtid: end.map(|end| end.gtids.to_string()).unwrap_or_default(),
        stage: relay.stage,
        result: relay.result.clone(),
    }
}

fn sync_status(facts: &SyncFacts, end: Option<&SourceEnd>) -> SyncStatus {
    let flushed = facts.flushed();
    let rows = i64::try_from(facts.rows.load(Relaxed)).unwrap_or(i64::MAX);
    let rates = facts.rates(Instant::now());
    let gtids = |location: &Location| location.gtids.as_ref().map(ToString::to_string);
    if let Some(end) = end {
        facts.measure(end);
    }
    let synced = match (&flushed, end) {
        (Some(flushed), Some(end)) => is_synced(flushed, end),
        _ => false,
    };
    SyncStatus {
        total_events: rows,
        total_tps: rates.total,
        recent_tps: rates.recent,
        master_binlog: end.map(|end| end.position.to_string()).unwrap_or_default(),
        master_binlog_gtid: end.map(|end| end.gtids.to_string()).unwrap_or_default(),
        syncer_binlog: flushed
            .as_ref()
            .map(|at| at.position.to_string())
            .unwrap_or_default(),
        applied: facts
            .applied()
            .map(|at| at.position.to_string())
            .unwrap_or_default(),
        syncer_binlog_gtid: flushed.as_ref().and_then(gtids).unwrap_or_default(),
        synced,
        binlog_type: if facts.reads_relay() {
            SyncStatus::LOCAL
        } else {
            SyncStatus::REMOTE
        }
        .to_owned(),
        seconds_behind_master: i64::try_from(facts.lag(unix_now())).unwrap_or(i64::MAX),
        total_rows: rows,
        total_rps: rates.total,
        recent_rps: rates.recent,
        io_total_bytes: facts.target_bytes.load(Relaxed),
        ..<_>::default()
    }
}

/// All zero until it is known what there is to do, as the existing worker shows it.
fn dump_status(facts: &CopyFacts) -> DumpStatus {
    let Some(total) = facts.total() else {
        return DumpStatus::default();
    };
    DumpStatus {
        total_tables: i64::try_from(total.tables).unwrap_or(i64::MAX),
        completed_tables: facts.tables_done.load(Relaxed) as f64,
        finished_bytes: facts.bytes.load(Relaxed) as f64,
        finished_rows: facts.rows.load(Relaxed) as f64,
        estimate_total_rows: total.rows as f64,
        bps: i64::try_from(facts.bytes_per_s()).unwrap_or(i64::MAX),
        progress: percent(facts.part()),
    }
}

/// Of nothing to load all is there once it is over, as the existing worker shows it.
fn load_status(facts: &CopyFacts, is_over: bool) -> LoadStatus {
    let number = |bytes: u64| i64::try_from(bytes).unwrap_or(i64::MAX);
    let done = facts.bytes.load(Relaxed);
    let (done, total, part) = match facts.total().map(|total| total.bytes) {
        // Its rows are there; some binlog may be left to apply.
        Some(0) => (done, done, facts.part()),
        Some(total) => (done.min(total), total, facts.part()),
        None if is_over || facts.catches_up() => (0, 0, facts.part()),
        None => (0, 0, 0.0),
    };
    let from = facts.from();
    let gtids = from.as_ref().and_then(|from| from.gtids.as_ref());
    LoadStatus {
        finished_bytes: number(done),
        total_bytes: number(total),
        progress: percent(part),
        meta_binlog: from
            .as_ref()
            .map(|from| from.position.to_string())
            .unwrap_or_default(),
        meta_binlog_gtid: gtids.map(ToString::to_string).unwrap_or_default(),
        bps: number(facts.bytes_per_s()),
    }
}

fn percent(part: f64) -> String {
    format!("{:.2} %", part * 100.0)
}

/// Whether the checkpoint is where the source ends: by GTID where both have a set.
fn is_synced(flushed: &Location, end: &SourceEnd) -> bool {
    match &flushed.gtids {
        Some(gtids) if !end.gtids.is_empty() => *gtids == end.gtids,
        _ => flushed.position.plain() == end.position.plain(),
    }
}

pub(crate) fn unix_now() -> Duration {
    SystemTime::now()
        .duration_since(UNIX_EPOCH)
        .unwrap_or_default()
}

#[cfg(all(test, not(madsim)))]
mod tests;
