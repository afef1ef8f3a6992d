//! What `dm-worker status` shows: the state of everything in the worker, also as JSON.

use std::fmt;

use dm_core::{
    error::Error,
    lifecycle::subtask_resumable,
    status::{ProcessResult, RelayStatus, Stage, SubtaskStatus, SyncStatus, UnitStatus},
};
use serde::{Deserialize, Serialize};

use crate::{
    rpc::{CopyProgress, SourceFacts},
    units::copy::TableProgress,
};

/// Where no unit has begun, by the name that `dmctl` shows.
const NO_UNIT: &str = "InvalidUnit";

/// Everything that a worker does, as `GET /sources` answers it.
#[derive(Clone, Debug, Default, Deserialize, PartialEq, Serialize)]
pub struct Report {
    /// Name of the worker.
    pub worker: String,
    /// Why it has no lease, while it has none.
    pub offline: Option<String>,
    /// The sources that it handles, or fails to.
    pub sources: Vec<SourceReport>,
}

/// A source.
#[derive(Clone, Debug, Default, Deserialize, PartialEq, Serialize)]
#[serde(default)]
pub struct SourceReport {
    /// Its id; empty where none is assigned.
    pub source: String,
    /// Whether the worker handles it.
    pub handled: bool,
    /// What is wrong with it.
    pub errors: Vec<String>,
    /// Its relay, if that is on.
    pub relay: Option<RelayReport>,
    /// Its subtasks.
    pub subtasks: Vec<SubtaskReport>,
}

/// The relay of a source.
#[derive(Clone, Debug, Default, Deserialize, PartialEq, Serialize)]
#[serde(default)]
pub struct RelayReport {
    /// Stage, by the name that `dmctl` shows.
    pub stage: String,
    /// The sub-directory that it writes to; empty as long as it has not said where it stands.
    pub sub_dir: String,
    /// Up to where it has everything.
    pub position: String,
    /// The same as a GTID set.
    pub gtid: String,
    /// Where the source ends.
    pub source_position: String,
    /// The same as a GTID set.
    pub source_gtid: String,
    /// Whether it has all that the source has.
    pub synced: bool,
    /// What is wrong with it.
    pub errors: Vec<String>,
}

/// A subtask.
#[derive(Clone, Debug, Default, Deserialize, PartialEq, Serialize)]
#[serde(default)]
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
    /// Whether it is paused by errors that do not pass by themselves, and waits for somebody.
    pub waits: bool,
    /// Why its newest configuration is not the one in use.
    pub refused: Option<String>,
    /// The sync unit's progress.
    pub sync: Option<SyncReport>,
    /// The progress of a copy of its tables.
    pub copy: Option<CopyReport>,
    /// How far the load of its dump files is.
    pub load: Option<LoadReport>,
    /// Seconds that the copy or load will take, if that can be guessed.
    pub left_s: Option<u64>,
    /// The tables that are under way.
    pub tables: Vec<TableReport>,
}

/// How far a table is that is copied.
#[derive(Clone, Debug, Default, Deserialize, PartialEq, Serialize)]
#[serde(default)]
pub struct TableReport {
    /// Its name in the source.
    pub table: String,
    /// Rows that are there.
    pub rows: u64,
    /// Their bytes.
    pub bytes: u64,
    /// Bytes per second.
    pub bytes_per_s: u64,
    /// Seconds that the rest will take, if that can be guessed.
    pub left_s: Option<u64>,
    /// The part that is done, of 1.
    pub part: f64,
    /// The same in words.
    pub text: String,
}

/// How far a copy of tables is.
#[derive(Clone, Debug, Default, Deserialize, PartialEq, Serialize)]
#[serde(default)]
pub struct CopyReport {
    /// Tables of which all rows are there.
    pub tables: u64,
    /// All tables.
    pub total_tables: u64,
    /// Rows that are there.
    pub rows: u64,
    /// Rows of all tables, as the source guesses.
    pub total_rows: u64,
    /// Size of the statements that brought them.
    pub bytes: u64,
    /// Bytes per second.
    pub bytes_per_s: i64,
    /// The part that is done, such as `12.34 %`.
    pub progress: String,
}

/// How far dump files are loaded.
#[derive(Clone, Debug, Default, Deserialize, PartialEq, Serialize)]
#[serde(default)]
pub struct LoadReport {
    /// Bytes of files that are loaded.
    pub bytes: u64,
    /// Bytes of all files.
    pub total_bytes: u64,
    /// Bytes per second.
    pub bytes_per_s: i64,
    /// The part that is done, such as `12.34 %`.
    pub progress: String,
    /// Where the binlog goes on behind the dump.
    pub position: String,
    /// The same as a GTID set.
    pub gtid: String,
}

/// How far a sync unit is.
#[derive(Clone, Debug, Default, Deserialize, PartialEq, Serialize)]
#[serde(default)]
pub struct SyncReport {
    /// End of the source's binlog.
    pub source_position: String,
    /// The same as a GTID set.
    pub source_gtid: String,
    /// Up to where everything is applied.
    pub applied: String,
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
    /// Whether it reads the relay log of the source, not the source.
    pub reads_relay: bool,
}

impl Report {
    /// Makes the report of a worker.
    #[must_use]
    pub fn new(worker: &str, offline: Option<String>, sources: Vec<SourceFacts>) -> Self {
        Self {
            worker: worker.to_owned(),
            offline,
            sources: sources.into_iter().map(SourceReport::from).collect(),
        }
    }
}

impl From<SourceFacts> for SourceReport {
    fn from(mut facts: SourceFacts) -> Self {
        let subtask = |status: SubtaskStatus| {
            let CopyProgress { under_way, left } =
                facts.copies.remove(&status.name).unwrap_or_default();
            SubtaskReport {
                left_s: left.map(|left| left.as_secs()),
                tables: under_way.iter().map(TableReport::from).collect(),
                ..SubtaskReport::from(status)
            }
        };
        Self {
            source: facts.name,
            handled: facts.handled,
            errors: errors(facts.status.result.as_ref()),
            relay: facts.status.relay_status.map(RelayReport::from),
            subtasks: facts.subtasks.into_iter().map(subtask).collect(),
        }
    }
}

impl From<&TableProgress> for TableReport {
    fn from(progress: &TableProgress) -> Self {
        Self {
            table: progress.table.to_string(),
            rows: progress.rows,
            bytes: progress.bytes,
            bytes_per_s: progress.bytes_per_s,
            left_s: progress.left.map(|left| left.as_secs()),
            part: progress.part,
            text: progress.to_string(),
        }
    }
}

impl From<RelayStatus> for RelayReport {
    fn from(status: RelayStatus) -> Self {
        Self {
            stage: status.stage.to_string(),
            errors: errors(status.result.as_ref()),
            sub_dir: status.relay_sub_dir,
            position: status.relay_binlog,
            gtid: status.relay_binlog_gtid,
            source_position: status.master_binlog,
            source_gtid: status.master_binlog_gtid,
            synced: status.relay_catch_up_master,
        }
    }
}

impl From<SubtaskStatus> for SubtaskReport {
    fn from(status: SubtaskStatus) -> Self {
        let copy = match &status.status {
            Some(UnitStatus::Dump(dump)) => Some(CopyReport {
                tables: dump.completed_tables as u64,
                total_tables: u64::try_from(dump.total_tables).unwrap_or_default(),
                rows: dump.finished_rows as u64,
                total_rows: dump.estimate_total_rows as u64,
                bytes: dump.finished_bytes as u64,
                bytes_per_s: dump.bps,
                progress: dump.progress.clone(),
            }),
            _ => None,
        };
        let load = match &status.status {
            Some(UnitStatus::Load(load)) => Some(LoadReport {
                bytes: u64::try_from(load.finished_bytes).unwrap_or_default(),
                total_bytes: u64::try_from(load.total_bytes).unwrap_or_default(),
                bytes_per_s: load.bps,
                progress: load.progress.clone(),
                position: load.meta_binlog.clone(),
                gtid: load.meta_binlog_gtid.clone(),
            }),
            _ => None,
        };
        let sync = match status.status {
            Some(UnitStatus::Sync(sync)) => Some(SyncReport {
                source_position: sync.master_binlog,
                source_gtid: sync.master_binlog_gtid,
                applied: sync.applied,
                position: sync.syncer_binlog,
                gtid: sync.syncer_binlog_gtid,
                synced: sync.synced,
                lag_s: sync.seconds_behind_master,
                rows: sync.total_rows,
                rows_per_s: sync.recent_rps,
                reads_relay: sync.binlog_type == SyncStatus::LOCAL,
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
            waits: status.stage == Stage::Paused
                && status
                    .result
                    .as_ref()
                    .is_some_and(|result| !subtask_resumable(&result.errors)),
            errors: errors(status.result.as_ref()),
            refused: status.refused.as_ref().map(Error::to_string),
            sync,
            copy,
            load,
            left_s: None,
            tables: Vec::new(),
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
        if let Some(offline) = &self.offline {
            writeln!(f, "  ! {offline}")?;
        }
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
            if let Some(relay) = &source.relay {
                writeln!(f, "    relay: {relay}")?;
                for error in &relay.errors {
                    writeln!(f, "      ! {error}")?;
                }
            }
            for task in &source.subtasks {
                let unit = match &*task.unit {
                    // As long as its servers do not answer, for example.
                    NO_UNIT => "no unit yet",
                    unit => &format!("{unit} unit"),
                };
                write!(f, "    task {}: {}, {unit}", task.task, task.stage)?;
                if task.paused_by_operator {
                    write!(f, ", paused by the operator")?;
                }
                writeln!(f)?;
                if let Some(sync) = &task.sync {
                    writeln!(f, "      {sync}")?;
                }
                let left = task.left_s.map(|left| format!(", {left} s left"));
                let left = left.unwrap_or_default();
                if let Some(copy) = &task.copy {
                    writeln!(f, "      {copy}{left}")?;
                }
                if let Some(load) = &task.load {
                    writeln!(f, "      {load}{left}")?;
                }
                for TableReport {
                    table, part, text, ..
                } in &task.tables
                {
                    writeln!(f, "        {table}: {:.2} %, {text}", part * 100.0)?;
                }
                if let Some(refused) = &task.refused {
                    writeln!(
                        f,
                        "      ! its newest configuration is not in use: {refused}"
                    )?;
                }
                for error in &task.errors {
                    writeln!(f, "      ! {error}")?;
                }
                if task.waits {
                    writeln!(
                        f,
                        "      it waits for you: correct the cause, then resume the task (or start \
                         a worker that runs alone again)"
                    )?;
                }
            }
        }
        Ok(())
    }
}

impl fmt::Display for RelayReport {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.stage)?;
        if self.sub_dir.is_empty() {
            return Ok(());
        }
        let end = or(&self.source_position, "an unknown end");
        write!(f, ", at {} of {end}, in {}", self.position, self.sub_dir)
    }
}

impl fmt::Display for SyncReport {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let end = or(&self.source_position, "an unknown end");
        match or(&self.applied, &self.position) {
            "" => return write!(f, "not started; source at {end}"),
            at => write!(
                f,
                "at {at} of {end}, {} s behind, {} rows, {} rows/s",
                self.lag_s, self.rows, self.rows_per_s,
            )?,
        }
        if self.reads_relay {
            write!(f, ", from the relay log")?;
        }
        if self.synced {
            write!(f, ": synced")?;
        }
        Ok(())
    }
}

impl fmt::Display for CopyReport {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self {
            tables,
            total_tables,
            rows,
            total_rows,
            bytes,
            bytes_per_s,
            progress,
        } = self;
        if progress.is_empty() {
            return f.write_str("not started");
        }
        write!(
            f,
            "copied {progress}: {tables} of {total_tables} tables, {rows} of about {total_rows} \
             rows, {:.1} MB, {:.1} MB/s",
            *bytes as f64 / 1e6,
            *bytes_per_s as f64 / 1e6,
        )
    }
}

impl fmt::Display for LoadReport {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let megabytes = |bytes: u64| bytes as f64 / 1e6;
        write!(
            f,
            "loaded {}: {:.1} of {:.1} MB, {:.1} MB/s",
            self.progress,
            megabytes(self.bytes),
            megabytes(self.total_bytes),
            self.bytes_per_s as f64 / 1e6,
        )
    }
}

const fn or<'a>(text: &'a str, otherwise: &'a str) -> &'a str {
    if text.is_empty() { otherwise } else { text }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::units::copy::Total;
    use dm_core::{
        status::{DumpStatus, SourceStatus, UnitKind},
        sync::schema::TableName,
    };

    fn broken(message: &str) -> Option<ProcessResult> {
        Some(ProcessResult {
            is_canceled: false,
            errors: vec![Error::new(&dm_core::error::code::NOT_SET, message)],
        })
    }

    /// The report of a source with one subtask, after some change.
    fn report(
        change: impl FnOnce(&mut SourceFacts, &mut SubtaskStatus, &mut SyncStatus),
    ) -> Report {
        let mut sync = SyncStatus {
            master_binlog: "(b.000001, 9)".into(),
            total_rows: 7,
            ..<_>::default()
        };
        let mut task = SubtaskStatus {
            name: "t".into(),
            stage: Stage::Running,
            unit: UnitKind::Sync,
            ..<_>::default()
        };
        let mut facts = SourceFacts {
            copies: <_>::default(),
            name: "one".into(),
            handled: true,
            status: SourceStatus {
                source: "one".into(),
                ..<_>::default()
            },
            subtasks: Vec::new(),
        };
        change(&mut facts, &mut task, &mut sync);
        task.status = Some(UnitStatus::Sync(Box::new(sync)));
        facts.subtasks.push(task);
        Report::new("w", None, vec![facts])
    }

    fn lines(report: &Report) -> Vec<String> {
        let json = serde_json::to_string(report).unwrap();
        assert_eq!(serde_json::from_str::<Report>(&json).unwrap(), *report);
        report.to_string().lines().map(str::to_owned).collect()
    }

    #[test]
    fn what_runs_has_a_name_whatever_is_assigned() {
        let lines = lines(&report(|facts, _, _| facts.status.source.clear()));
        assert_eq!(lines[1], "  source one");
    }

    #[test]
    fn says_what_runs_and_what_is_wrong() {
        let lines = lines(&report(|_, task, _| {
            task.stage = Stage::Paused;
            task.result = broken("broken");
            task.refused = Some(Error::new(&dm_core::error::code::NOT_SET, "no such list"));
        }));
        let expected = [
            "worker w",
            "  source one",
            "    task t: Paused, Sync unit",
            "      not started; source at (b.000001, 9)",
            "      ! its newest configuration is not in use: [code=50000:",
            "      ! [code=50000:",
        ];
        assert_eq!(lines.len(), expected.len(), "{lines:?}");
        for (line, expected) in lines.iter().zip(expected) {
            assert!(line.starts_with(expected), "{lines:?}");
        }
    }

    #[test]
    fn names_the_tables_that_are_under_way() {
        let mut status = SubtaskStatus {
            name: "t".into(),
            stage: Stage::Running,
            unit: UnitKind::Dump,
            ..<_>::default()
        };
        status.status = Some(UnitStatus::Dump(DumpStatus {
            total_tables: 2,
            progress: "12.00 %".into(),
            ..<_>::default()
        }));
        let table = TableProgress {
            table: TableName::new("d", "a"),
            rows: 30,
            bytes: 5_000_000,
            total: Total {
                rows: 60,
                ..<_>::default()
            },
            bytes_per_s: 1_500_000,
            part: 0.5,
            left: Some(Duration::from_secs(7)),
        };
        let progress = CopyProgress {
            under_way: vec![table],
            left: Some(Duration::from_secs(9)),
        };
        let report = report(|facts, _, _| {
            facts.subtasks.push(status);
            facts.copies.insert("t".into(), progress);
        });
        let lines = lines(&report);
        assert!(lines[3].starts_with("      copied 12.00 %: 0 of 2 tables"));
        assert!(lines[3].ends_with("0.0 MB/s, 9 s left"), "{lines:?}");
        let of_table = "        `d`.`a`: 50.00 %, 30 of about 60 rows, 1.5 MB/s, 7 s left";
        assert_eq!(lines[4], of_table);
    }

    #[test]
    fn says_whether_somebody_is_waited_for() {
        for (code, waits) in [
            (
                &dm_core::error::code::SYNCER_UNIT_DML_COLUMN_NOT_MATCH,
                true,
            ),
            (&dm_core::error::code::DB_EXECUTE_FAILED, false),
        ] {
            let report = report(|_, task, _| {
                task.stage = Stage::Paused;
                task.result = Some(ProcessResult {
                    is_canceled: false,
                    errors: vec![Error::new(code, "broken")],
                });
            });
            assert_eq!(report.to_string().contains("it waits for you"), waits);
        }
    }

    #[test]
    fn shows_what_is_applied_rather_than_the_checkpoint() {
        let at = |applied: &str, checkpoint: &str| {
            let lines = lines(&report(|_, _, sync| {
                sync.applied = applied.into();
                sync.syncer_binlog = checkpoint.into();
            }));
            lines.last().unwrap().clone()
        };
        let rest = "of (b.000001, 9), 0 s behind, 7 rows, 0 rows/s";
        let (early, late) = ("(b.000001, 4)", "(b.000001, 8)");
        assert_eq!(at(late, early), format!("      at {late} {rest}"));
        assert_eq!(at("", early), format!("      at {early} {rest}"));
    }

    #[test]
    fn says_what_the_relay_does_and_that_the_lease_is_gone() {
        let mut report = report(|facts, _, _| {
            facts.status.relay_status = Some(RelayStatus {
                stage: Stage::Paused,
                result: broken("no room"),
                ..<_>::default()
            });
        });
        report.offline = Some("not connected".into());
        let lines = lines(&report);
        assert_eq!(lines[..2], ["worker w", "  ! not connected"]);
        assert_eq!(lines[3], "    relay: Paused");
        assert!(lines[4].contains("no room"), "{lines:?}");
    }

    #[test]
    fn says_how_far_a_relay_is_and_who_reads_it() {
        let lines = lines(&report(|facts, _, sync| {
            facts.status.relay_status = Some(RelayStatus {
                stage: Stage::Running,
                relay_sub_dir: "s.000001".into(),
                relay_binlog: "(b.000001, 7)".into(),
                master_binlog: "(b.000001, 9)".into(),
                ..<_>::default()
            });
            sync.binlog_type = SyncStatus::LOCAL.into();
            sync.syncer_binlog = "(b.000001, 5)".into();
            sync.synced = true;
        }));
        let expected = [
            "    relay: Running, at (b.000001, 7) of (b.000001, 9), in s.000001",
            "    task t: Running, Sync unit",
            "      at (b.000001, 5) of (b.000001, 9), 0 s behind, 7 rows, 0 rows/s, from the \
             relay log: synced",
        ];
        assert_eq!(lines[2..], expected);
    }

    #[test]
    fn no_unit_has_begun() {
        let lines = lines(&report(|_, task, _| task.unit = UnitKind::InvalidUnit));
        assert_eq!(lines[2], "    task t: Running, no unit yet");
    }
}
