//! What `dm-worker status` shows: the state of everything in the worker, also as JSON.

use std::fmt;

use dm_core::{
    error::Error,
    status::{ProcessResult, Stage, SubtaskStatus, UnitStatus},
};
use serde::{Deserialize, Serialize};

use crate::rpc::SourceFacts;

/// Everything that a worker does, as `GET /sources` answers it.
#[derive(Clone, Debug, Default, Deserialize, PartialEq, Serialize)]
pub struct Report {
    /// Name of the worker.
    pub worker: String,
    /// The sources that it handles, or fails to.
    pub sources: Vec<SourceReport>,
}

/// A source.
#[derive(Clone, Debug, Default, Deserialize, PartialEq, Serialize)]
pub struct SourceReport {
    /// Its id; empty where none is assigned.
    pub source: String,
    /// Whether the worker handles it.
    pub handled: bool,
    /// What is wrong with it.
    pub errors: Vec<String>,
    /// Its subtasks.
    pub subtasks: Vec<SubtaskReport>,
}

/// A subtask.
#[derive(Clone, Debug, Default, Deserialize, PartialEq, Serialize)]
pub struct SubtaskReport {
    /// Name of the task.
    pub task: String,
    /// Stage, by the name that `dmctl` shows.
    pub stage: String,
    /// Unit, by the name that `dmctl` shows.
    pub unit: String,
    /// Whether an operator has paused it.
    pub paused_by_operator: bool,
    /// What is wrong with it.
    pub errors: Vec<String>,
    /// The sync unit's progress.
    pub sync: Option<SyncReport>,
}

/// How far a sync unit is.
#[derive(Clone, Debug, Default, Deserialize, PartialEq, Serialize)]
pub struct SyncReport {
    /// End of the source's binlog.
    pub source_position: String,
    /// The same as a GTID set.
    pub source_gtid: String,
    /// The checkpoint.
    pub position: String,
    /// The same as a GTID set.
    pub gtid: String,
    /// Whether the checkpoint is at the end of the source.
    pub synced: bool,
    /// Seconds behind the source.
    pub lag_s: i64,
    /// Row changes applied since the worker started.
    pub rows: i64,
    /// Row changes applied per second.
    pub rows_per_s: i64,
}

impl Report {
    /// Makes the report of a worker.
    #[must_use]
    pub fn new(worker: &str, sources: Vec<SourceFacts>) -> Self {
        Self {
            worker: worker.to_owned(),
            sources: sources.into_iter().map(SourceReport::from).collect(),
        }
    }
}

impl From<SourceFacts> for SourceReport {
    fn from(facts: SourceFacts) -> Self {
        Self {
            source: facts.status.source,
            handled: facts.handled,
            errors: errors(facts.status.result.as_ref()),
            subtasks: facts
                .subtasks
                .into_iter()
                .map(SubtaskReport::from)
                .collect(),
        }
    }
}

impl From<SubtaskStatus> for SubtaskReport {
    fn from(status: SubtaskStatus) -> Self {
        let sync = match status.status {
            Some(UnitStatus::Sync(sync)) => Some(SyncReport {
                source_position: sync.master_binlog,
                source_gtid: sync.master_binlog_gtid,
                position: sync.syncer_binlog,
                gtid: sync.syncer_binlog_gtid,
                synced: sync.synced,
                lag_s: sync.seconds_behind_master,
                rows: sync.total_rows,
                rows_per_s: sync.recent_rps,
            }),
            _ => None,
        };
        Self {
            task: status.name,
            stage: format!("{:?}", status.stage),
            unit: format!("{:?}", status.unit),
            paused_by_operator: status.stage == Stage::Paused
                && status
                    .result
                    .as_ref()
                    .is_some_and(|result| result.is_canceled),
            errors: errors(status.result.as_ref()),
            sync,
        }
    }
}

fn errors(result: Option<&ProcessResult>) -> Vec<String> {
    result
        .iter()
        .flat_map(|result| &result.errors)
        .map(Error::to_string)
        .collect()
}

/// For people: a line for each thing, and what is wrong with it under it.
impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "worker {}", self.worker)?;
        for source in &self.sources {
            if source.source.is_empty() {
                writeln!(f, "  no source is assigned")?;
            } else if source.handled {
                writeln!(f, "  source {}", source.source)?;
            } else {
                writeln!(f, "  source {}: not handled", source.source)?;
            }
            for error in &source.errors {
                writeln!(f, "    ! {error}")?;
            }
            for task in &source.subtasks {
                write!(
                    f,
                    "    task {}: {}, {} unit",
                    task.task, task.stage, task.unit
                )?;
                if task.paused_by_operator {
                    write!(f, ", paused by the operator")?;
                }
                writeln!(f)?;
                if let Some(sync) = &task.sync {
                    writeln!(
                        f,
                        "      at {} of {}, {} s behind, {} rows, {} rows/s",
                        or(&sync.position, "the start"),
                        or(&sync.source_position, "an unknown end"),
                        sync.lag_s,
                        sync.rows,
                        sync.rows_per_s,
                    )?;
                }
                for error in &task.errors {
                    writeln!(f, "      ! {error}")?;
                }
            }
        }
        Ok(())
    }
}

const fn or<'a>(text: &'a str, otherwise: &'a str) -> &'a str {
    if text.is_empty() { otherwise } else { text }
}

#[cfg(test)]
mod tests {
    use super::*;
    use dm_core::status::{SourceStatus, SyncStatus, UnitKind};

    #[test]
    fn says_what_runs_and_what_is_wrong() {
        let facts = SourceFacts {
            handled: true,
            status: SourceStatus {
                source: "one".into(),
                ..<_>::default()
            },
            subtasks: vec![SubtaskStatus {
                name: "t".into(),
                stage: Stage::Paused,
                unit: UnitKind::Sync,
                result: Some(ProcessResult {
                    is_canceled: false,
                    errors: vec![Error::new(&dm_core::error::code::NOT_SET, "broken")],
                }),
                status: Some(UnitStatus::Sync(SyncStatus {
                    master_binlog: "(b.000001, 9)".into(),
                    total_rows: 7,
                    ..<_>::default()
                })),
                ..<_>::default()
            }],
        };
        let report = Report::new("w", vec![facts]);
        let lines = [
            "worker w",
            "  source one",
            "    task t: Paused, Sync unit",
            "      at the start of (b.000001, 9), 0 s behind, 7 rows, 0 rows/s",
        ];
        let text = report.to_string();
        assert!(text.starts_with(&lines.join("\n")), "{text}");
        assert!(text.contains("      ! [code=50000:"), "{text}");
        let json = serde_json::to_string(&report).unwrap();
        assert_eq!(serde_json::from_str::<Report>(&json).unwrap(), report);
    }
}
