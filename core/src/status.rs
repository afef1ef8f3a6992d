//! What a worker tells about itself: stages, results and the status of sources and subtasks.
//!
//! The structures mirror the messages of the worker's gRPC service field by field, without the
//! encoding; what only this worker's own report tells says so. A number that is 0 and a text that
//! is empty are absent on the wire.

use alloc::boxed::Box;
use alloc::string::String;
use alloc::vec::Vec;
use core::fmt;

use crate::error::Error;

/// Where a subtask, relay or validator stands. The numbers are those of the wire and of etcd.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
#[repr(u8)]
pub enum Stage {
    /// No stage; of an unknown subtask.
    #[default]
    InvalidStage = 0,
    /// Made, and never run.
    New = 1,
    /// Working.
    Running = 2,
    /// At rest, by the operator or by an error.
    Paused = 3,
    /// Closed for good.
    Stopped = 4,
    /// The last unit has done all its work.
    Finished = 5,
    /// On the way to [`Stage::Paused`].
    Pausing = 6,
    /// On the way to [`Stage::Running`].
    Resuming = 7,
    /// On the way to [`Stage::Stopped`].
    Stopping = 8,
}

impl Stage {
    /// The number used on the wire.
    pub const fn number(self) -> u8 {
        self as u8
    }

    /// The stage with this number.
    pub const fn from_number(number: i64) -> Option<Self> {
        Some(match number {
            0 => Self::InvalidStage,
            1 => Self::New,
            2 => Self::Running,
            3 => Self::Paused,
            4 => Self::Stopped,
            5 => Self::Finished,
            6 => Self::Pausing,
            7 => Self::Resuming,
            8 => Self::Stopping,
            _ => return None,
        })
    }
}

impl fmt::Display for Stage {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Debug::fmt(self, f)
    }
}

/// The kinds of work. The numbers are those of the wire.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
#[repr(u8)]
pub enum UnitKind {
    /// No unit; of an unknown subtask.
    #[default]
    InvalidUnit = 0,
    /// The checks before a task starts.
    Check = 1,
    /// Dump of the source's data into files.
    Dump = 2,
    /// Import of the files into the target.
    Load = 3,
    /// Replication of the binlog.
    Sync = 4,
    /// The local copy of the binlog.
    Relay = 100,
}

impl UnitKind {
    /// The number used on the wire.
    pub const fn number(self) -> u8 {
        self as u8
    }
}

impl fmt::Display for UnitKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Debug::fmt(self, f)
    }
}

/// How a unit's work ended.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ProcessResult {
    /// Ended because somebody asked for it. Automatic resume leaves such a subtask alone.
    pub is_canceled: bool,
    /// What went wrong.
    pub errors: Vec<Error>,
}

/// The status of a source, as the worker that handles it sees it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct SourceStatus {
    /// The source; empty when the worker handles none.
    pub source: String,
    /// The worker.
    pub worker: String,
    /// Errors of binding the source or of asking it.
    pub result: Option<ProcessResult>,
    /// Present while relay is on.
    pub relay_status: Option<RelayStatus>,
}

/// The status of the relay of a source.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct RelayStatus {
    /// The source's end position, as `(file, pos)`.
    pub master_binlog: String,
    /// The source's executed GTID set.
    pub master_binlog_gtid: String,
    /// The current sub-directory.
    pub relay_sub_dir: String,
    /// The relay's end position, as `(file, pos)`.
    pub relay_binlog: String,
    /// The relay's GTID set.
    pub relay_binlog_gtid: String,
    /// Whether the relay has all that the source has.
    pub relay_catch_up_master: bool,
    /// Where the relay stands.
    pub stage: Stage,
    /// How its work ended, when it did.
    pub result: Option<ProcessResult>,
}

/// The status of one task on one source.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct SubtaskStatus {
    /// The task's name.
    pub name: String,
    /// Where it stands.
    pub stage: Stage,
    /// The unit that is or was at work.
    pub unit: UnitKind,
    /// How the work ended; absent while running.
    pub result: Option<ProcessResult>,
    /// The lock that a pessimistic shard DDL waits for.
    pub unresolved_ddl_lock_id: String,
    /// Why the newest configuration is not the one in use; not on the wire.
    pub refused: Option<Error>,
    /// What the unit has to say.
    pub status: Option<UnitStatus>,
    /// The status of the validator, if the subtask has one.
    pub validation: Option<ValidationStatus>,
}

/// The part of a subtask's status that depends on the unit.
#[derive(Clone, Debug, PartialEq)]
pub enum UnitStatus {
    /// A remark instead of a status, such as that the subtask is unknown.
    Message(String),
    /// Of the dump unit.
    Dump(DumpStatus),
    /// Of the load unit.
    Load(LoadStatus),
    /// Of the sync unit.
    Sync(Box<SyncStatus>),
}

/// The status of a dump unit.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct DumpStatus {
    /// Tables to dump.
    pub total_tables: i64,
    /// Tables dumped.
    pub completed_tables: f64,
    /// Bytes written.
    pub finished_bytes: f64,
    /// Rows written.
    pub finished_rows: f64,
    /// Rows there are, as the source estimates.
    pub estimate_total_rows: f64,
    /// Bytes per second.
    pub bps: i64,
    /// Share done, such as `12.34 %`.
    pub progress: String,
}

/// The status of a load unit.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct LoadStatus {
    /// Bytes imported.
    pub finished_bytes: i64,
    /// Bytes there are.
    pub total_bytes: i64,
    /// Share done, such as `12.34 %`.
    pub progress: String,
    /// The position at which the dump was taken, as `(file, pos)`.
    pub meta_binlog: String,
    /// The GTID set at which the dump was taken.
    pub meta_binlog_gtid: String,
    /// Bytes per second.
    pub bps: i64,
}

/// The status of a sync unit.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct SyncStatus {
    /// Row changes done, repeated in `total_rows`.
    pub total_events: i64,
    /// Row changes per second since the start.
    pub total_tps: i64,
    /// Row changes per second of late.
    pub recent_tps: i64,
    /// The source's end position, as `(file, pos)`.
    pub master_binlog: String,
    /// The source's executed GTID set.
    pub master_binlog_gtid: String,
    /// The last flushed checkpoint, as `(file, pos)`.
    pub syncer_binlog: String,
    /// The GTID set of the last flushed checkpoint.
    pub syncer_binlog_gtid: String,
    /// Up to where everything is applied, as `(file, pos)`; not on the wire.
    pub applied: String,
    /// Shard DDLs that wait for other sources.
    pub blocking_ddls: Vec<String>,
    /// Shard groups of which not all tables have had the DDL.
    pub unresolved_groups: Vec<ShardingGroup>,
    /// Whether the checkpoint has reached the source's end.
    pub synced: bool,
    /// [`REMOTE`](Self::REMOTE), [`LOCAL`](Self::LOCAL) or `unknown`.
    pub binlog_type: String,
    /// Age of the change that is being applied, in seconds.
    pub seconds_behind_master: i64,
    /// The statement that blocks an optimistic shard DDL.
    pub block_ddl_owner: String,
    /// Why it blocks.
    pub conflict_msg: String,
    /// Row changes done.
    pub total_rows: i64,
    /// Row changes per second since the start.
    pub total_rps: i64,
    /// Row changes per second of late.
    pub recent_rps: i64,
    /// Bytes read from the source's binlog.
    pub io_total_bytes: u64,
    /// Bytes read from the source by the dump.
    pub dump_io_total_bytes: u64,
}

impl SyncStatus {
    /// The source itself is read.
    pub const REMOTE: &str = "remote";
    /// The relay log of the source is read.
    pub const LOCAL: &str = "local";
}

/// A group of tables whose shard DDL is not resolved.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ShardingGroup {
    /// The table that the group goes into.
    pub target: String,
    /// The statements.
    pub ddls: Vec<String>,
    /// Where the first of them stands.
    pub first_location: String,
    /// Tables that have had them.
    pub synced: Vec<String>,
    /// Tables that have not.
    pub unsynced: Vec<String>,
}

/// The status of a validator.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ValidationStatus {
    /// The task.
    pub task: String,
    /// The source.
    pub source: String,
    /// `fast` or `full`.
    pub mode: String,
    /// Running or Stopped.
    pub stage: Stage,
    /// How far the validator has come, as `(file, pos)`.
    pub validator_binlog: String,
    /// The same as a GTID set.
    pub validator_binlog_gtid: String,
    /// How its work ended, when it did.
    pub result: Option<ProcessResult>,
    /// `insert/update/delete: a/b/c`.
    pub processed_rows_status: String,
    /// `insert/update/delete: a/b/c`.
    pub pending_rows_status: String,
    /// `new/ignored/resolved: a/b/c`.
    pub error_rows_status: String,
    /// The position before which nothing is validated, as `(file, pos)`.
    pub cutover_binlog_pos: String,
    /// The same as a GTID set.
    pub cutover_binlog_gtid: String,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn stages_have_their_numbers() {
        for number in 0..=8 {
            let stage = Stage::from_number(number).expect("0..=8 are stages");
            assert_eq!(i64::from(stage.number()), number);
        }
        assert_eq!(Stage::from_number(9), None);
        assert_eq!(Stage::from_number(-1), None);
        assert_eq!(UnitKind::Relay.number(), 100);
    }
}
