//! What a run is made of: everything that is decided before it begins.
//!
//! A scenario is drawn from a seed, written by hand for the museum, or what shrinking has left of
//! another one. The world plays it; what is random while it plays (how long an answer takes) comes
//! from the scenario's own seed.

mod draw;
mod effect;

use std::{fmt, time::Duration};

use serde::{Deserialize, Serialize};

pub use self::draw::{effects, names};
use crate::values::Purge;

/// Name of the one task that every source has.
pub const TASK: &str = "task";

/// What a run is made of.
#[derive(Clone, Debug, Deserialize, PartialEq, Serialize)]
#[serde(deny_unknown_fields)]
pub struct Scenario {
    /// Decides what is drawn while the run goes on.
    pub seed: u64,
    /// Time to live of the workers' leases.
    pub ttl: Duration,
    /// The workers `w0`, `w1` and so on.
    pub workers: Vec<WorkerPlan>,
    /// The sources `source1`, `source2` and so on, each with a task.
    pub sources: Vec<SourcePlan>,
    /// When all faults are healed.
    pub chaos_ends: Duration,
    /// What is done to the world, in order of time.
    pub steps: Vec<Step>,
}

/// A worker.
#[derive(Clone, Copy, Debug, Default, Deserialize, PartialEq, Serialize)]
#[serde(deny_unknown_fields)]
pub struct WorkerPlan {
    /// By how many millionths its clock is faster than that of everybody else.
    pub drift_ppm: i32,
}

/// A source and its task.
#[derive(Clone, Copy, Debug, Deserialize, PartialEq, Serialize)]
#[serde(default, deny_unknown_fields)]
pub struct SourcePlan {
    /// What it is.
    pub brand: Brand,
    /// Number of its first file.
    pub first_file: u64,
    /// Offset of what it writes first: there may be much before it.
    pub first_offset: u64,
    /// How often it says that there is no news.
    pub heartbeat: Duration,
    /// Whether it writes events of types that nobody knows.
    pub unknown: bool,
    /// Whether its transactions have GTIDs; on MariaDB they always do.
    pub gtids: bool,
    /// Whether its table maps name their columns.
    pub names: bool,
    /// Transactions after which a new file begins, about.
    pub file_txns: u64,
    /// `binlog_row_event_max_size`, at first.
    pub row_event_bytes: u64,
    /// Whether it logs the texts of statements, too.
    pub texts: bool,
    /// Whether it compresses transactions, or rows events on MariaDB.
    pub compresses: bool,
    /// Whether the task asks for the binlog by GTID.
    pub by_gtid: bool,
    /// Whether its binlog is relayed, and the task reads the relay log.
    pub relays: bool,
    /// When what was relayed is removed.
    pub purge: Purge,
    /// Whether the task begins with a copy of what is there by then.
    pub copies: bool,
    /// How the rows of such a copy go.
    pub way: Way,
    /// Whether an operator dumps once more where the second of two tasks has made tables only.
    pub again: bool,
    /// `worker-count` of the task.
    pub slots: u64,
    /// `batch` of the task.
    pub batch: u64,
    /// `checkpoint-flush-interval` of the task, in seconds.
    pub flush_s: u64,
}

/// How the rows of a copy go.
#[derive(Clone, Copy, Debug, Default, Deserialize, Eq, PartialEq, Serialize)]
pub enum Way {
    /// From the source into the target.
    #[default]
    Straight,
    /// Through dump files, in one task.
    Files,
    /// Through dump files that one task dumps and another one loads.
    TwoTasks,
    /// Through dump files, by a task that has no more to do; another one goes on with the binlog.
    Full,
    /// From the source into the target, by such a task.
    StraightFull,
}

impl Way {
    /// Whether rows go through dump files.
    pub const fn has_files(self) -> bool {
        !matches!(self, Self::Straight | Self::StraightFull)
    }

    /// Whether the copy is a task of its own, which nothing follows.
    pub const fn ends(self) -> bool {
        matches!(self, Self::Full | Self::StraightFull)
    }
}

/// What kind of server a source is.
#[derive(Clone, Copy, Debug, Deserialize, PartialEq, Serialize)]
pub enum Brand {
    /// MySQL.
    Mysql,
    /// MariaDB.
    Mariadb {
        /// Its second replication domain, if that is not the first one, 0.
        domain: u32,
        /// Whether it logs the beginnings of ALTERs.
        two_phases: bool,
        /// Whether events inside of transactions have no places, as of 11.4.
        leaves_positions_out: bool,
    },
}

impl Default for SourcePlan {
    fn default() -> Self {
        Self {
            brand: Brand::Mysql,
            first_file: 1,
            first_offset: 0,
            heartbeat: Duration::from_secs(15),
            unknown: false,
            gtids: true,
            names: true,
            file_txns: 30,
            row_event_bytes: 256,
            texts: false,
            compresses: false,
            by_gtid: false,
            relays: false,
            purge: Purge::default(),
            copies: false,
            way: Way::Straight,
            again: false,
            slots: 4,
            batch: 10,
            flush_s: 2,
        }
    }
}

/// Something that is done to the world, and undone after a while if it can be.
#[derive(Clone, Debug, Deserialize, PartialEq, Serialize)]
#[serde(deny_unknown_fields)]
pub struct Step {
    /// When, since the start of the run.
    pub at: Duration,
    /// For how long.
    pub lasts: Duration,
    /// What.
    pub what: What,
}

/// What can be done to the world. Workers and sources are named by their places in the scenario.
#[derive(Clone, Copy, Debug, Deserialize, PartialEq, Serialize)]
pub enum What {
    /// Clients commit a transaction at a source; the number decides what is in it.
    Commit(usize, u64),
    /// A client changes a table's definition at a source; the number decides how.
    Ddl(usize, u64),
    /// A source's `binlog_row_event_max_size` becomes another one, in bytes.
    RowEvents(usize, u64),
    /// A worker's process is killed; a new one starts at the end.
    Kill(usize),
    /// A second process of a worker's name starts, while the first one lives on.
    Twin(usize),
    /// A worker's process freezes.
    Freeze(usize),
    /// A worker's requests do not reach etcd.
    CutRequests(usize),
    /// Etcd's answers do not reach a worker.
    CutAnswers(usize),
    /// A worker and etcd do not reach each other.
    Cut(usize),
    /// A worker's watches bring nothing and do not break, since they hang on a member of the
    /// cluster that hears nothing itself; all other requests go on.
    Deafen(usize),
    /// Each way between a worker and etcd takes so many milliseconds more.
    Slow(usize, u64),
    /// The answers of etcd to a worker take so many milliseconds more.
    SlowAnswers(usize, u64),
    /// Etcd freezes.
    FreezeEtcd,
    /// Etcd starts anew, with its data.
    RestartEtcd,
    /// All watches end.
    CloseWatches,
    /// The history of etcd is compacted.
    Compact,
    /// All dumps of a source break.
    CutDumps(usize),
    /// A source is out of reach.
    SourceDown(usize),
    /// A source's server restarts.
    RestartSource(usize, u64),
    /// A source's server crashes within a transaction, and restarts.
    CrashSource(usize, u64),
    /// Old files of a source's binlog are gone; at the end they are put back.
    Purge(usize),
    /// Another server takes the place of a source, if its task reads by GTID.
    SwitchServer(usize, u64),
    /// So many of a thousand events of a source are damaged on their way.
    Damage(usize, u64),
    /// So many of a thousand answers of the target get lost.
    LostAnswers(u64),
    /// So many of a thousand transactions arrive late.
    Late(u64),
    /// So many of a thousand transactions are rolled back: deadlocks.
    Deadlocks(u64),
    /// The target is read-only.
    ReadOnly,
    /// The target's disk is full for so many of a thousand writes.
    Full(u64),
    /// So many of a thousand transactions take long, and hold their locks.
    LongTransactions(u64),
    /// So many of a thousand writes wait for a lock in vain.
    LockWaits(u64),
    /// So many of a thousand connections to the target break before what they carry arrives.
    Resets(u64),
    /// So many of a thousand connections to the target find none free.
    Crowded(u64),
    /// Sessions at the target can't be ended, since they are not to be seen.
    Unseen,
    /// The target is out of reach.
    TargetDown,
    /// An operator pauses a task, and resumes it at the end.
    Pause(usize),
    /// An operator stops a task, and starts it again at the end.
    Stop(usize),
    /// An operator gives a task another number of slots, and pauses and resumes it for that.
    Resize(usize, u64),
    /// The existing worker has a task, if that is stopped, and gives it back.
    Foreign(usize, u64),
    /// An operator moves a source to another worker, and on at the end.
    Transfer(usize),
    /// Another master becomes leader, and writes all bindings again.
    NewLeader,
    /// The power of a worker's machine is cut, and what was not synced is lost, or a part of it.
    PowerCut(usize),
    /// A worker's disk is full.
    FullDisk(usize),
    /// So many of a thousand reads, writes and syncs of a worker's disk fail.
    BadDisk(usize, u64),
    /// So many of a thousand syncs of a worker's disk fail, and lose what they were to write.
    LostSyncs(usize, u64),
    /// A worker's disk is slow.
    SlowDisk(usize),
    /// A bit flips in a binlog file on a worker's disk that is not written any more.
    Rot(usize, u64),
    /// An operator pauses the relay of a source, and resumes it at the end.
    PauseRelay(usize),
    /// An operator switches the relay of a source off, and on again at the end.
    StopRelay(usize),
    /// An operator wants relay logs of a source removed; the number decides which ones.
    PurgeRelay(usize, u64),
}

impl Scenario {
    /// Whether it can be played.
    ///
    /// # Errors
    /// What is wrong with it. Only what was not drawn can be: a file, or what shrinking tries.
    pub fn check(&self) -> Result<(), String> {
        let (workers, sources) = (self.workers.len(), self.sources.len());
        if sources == 0 || workers < sources {
            return Err(format!("{workers} workers can't have {sources} sources"));
        }
        let is_there = |place: Option<usize>, count| place.is_none_or(|place| place < count);
        for Step { what, .. } in &self.steps {
            if !is_there(what.worker(), workers) || !is_there(what.source(), sources) {
                return Err(format!("`{what}` is about somebody who is not there"));
            }
        }
        let is_empty = |plan: &SourcePlan| {
            plan.file_txns == 0 || plan.slots == 0 || plan.batch == 0 || plan.first_file == 0
        };
        if self.sources.iter().any(is_empty) {
            return Err("a source, or its task, has a size of nothing".to_owned());
        }
        Ok(())
    }
}

impl What {
    /// Its name in the summary.
    #[must_use]
    pub const fn name(&self) -> &'static str {
        match self {
            Self::Commit(..) => "client: commit",
            Self::Ddl(..) => "client: DDL",
            Self::RowEvents(..) => "source: size of rows events",
            Self::Kill(_) => "fault: kill",
            Self::Twin(_) => "fault: twin process",
            Self::Freeze(_) => "fault: frozen worker",
            Self::CutRequests(_) => "fault: cut requests",
            Self::CutAnswers(_) => "fault: cut answers",
            Self::Cut(_) => "fault: cut link",
            Self::Deafen(_) => "fault: deaf watches",
            Self::Slow(..) => "fault: slow link",
            Self::SlowAnswers(..) => "fault: slow answers",
            Self::FreezeEtcd => "fault: frozen etcd",
            Self::RestartEtcd => "fault: etcd restart",
            Self::CloseWatches => "fault: closed watches",
            Self::Compact => "fault: compaction",
            Self::CutDumps(_) => "fault: cut dumps",
            Self::SourceDown(_) => "fault: source down",
            Self::RestartSource(..) => "fault: source restart",
            Self::CrashSource(..) => "fault: source crash",
            Self::Purge(_) => "fault: purged files",
            Self::SwitchServer(..) => "fault: another source server",
            Self::Damage(..) => "fault: time of damaged events",
            Self::LostAnswers(_) => "fault: time of lost answers",
            Self::Late(_) => "fault: time of late transactions",
            Self::Deadlocks(_) => "fault: time of deadlocks",
            Self::ReadOnly => "fault: read-only target",
            Self::Full(_) => "fault: full target",
            Self::LongTransactions(_) => "fault: time of long transactions",
            Self::LockWaits(_) => "fault: time of lock waits",
            Self::Resets(_) => "fault: time of resets",
            Self::Crowded(_) => "fault: crowded target",
            Self::Unseen => "fault: unseen sessions",
            Self::TargetDown => "fault: target down",
            Self::Pause(_) => "operator: pause",
            Self::Stop(_) => "operator: stop",
            Self::Resize(..) => "operator: other slots",
            Self::Foreign(..) => "operator: existing worker",
            Self::Transfer(_) => "operator: transfer",
            Self::NewLeader => "master: new leader",
            Self::PowerCut(_) => "fault: power cut",
            Self::FullDisk(_) => "fault: full disk",
            Self::BadDisk(..) => "fault: bad disk",
            Self::LostSyncs(..) => "fault: lost syncs",
            Self::SlowDisk(_) => "fault: slow disk",
            Self::Rot(..) => "fault: rotten disk",
            Self::PauseRelay(_) => "operator: pause of relay",
            Self::StopRelay(_) => "operator: stop of relay",
            Self::PurgeRelay(..) => "operator: purge of relay",
        }
    }

    /// Whether it is ordinary work, of which there is so much that nobody wants to read it.
    #[must_use]
    pub const fn is_work(&self) -> bool {
        matches!(self, Self::Commit(..) | Self::Ddl(..))
    }

    /// The worker that it is done to.
    #[must_use]
    pub fn worker(&self) -> Option<usize> {
        let mut what = *self;
        what.worker_mut().copied()
    }

    /// The source that it is done to.
    #[must_use]
    pub fn source(&self) -> Option<usize> {
        let mut what = *self;
        what.source_mut().copied()
    }

    pub(crate) const fn worker_mut(&mut self) -> Option<&mut usize> {
        match self {
            Self::Kill(worker)
            | Self::Twin(worker)
            | Self::Freeze(worker)
            | Self::CutRequests(worker)
            | Self::CutAnswers(worker)
            | Self::Cut(worker)
            | Self::Deafen(worker)
            | Self::Slow(worker, _)
            | Self::SlowAnswers(worker, _)
            | Self::PowerCut(worker)
            | Self::FullDisk(worker)
            | Self::BadDisk(worker, _)
            | Self::LostSyncs(worker, _)
            | Self::SlowDisk(worker)
            | Self::Rot(worker, _) => Some(worker),
            _ => None,
        }
    }

    pub(crate) const fn source_mut(&mut self) -> Option<&mut usize> {
        match self {
            Self::Commit(source, _)
            | Self::Ddl(source, _)
            | Self::RowEvents(source, _)
            | Self::CutDumps(source)
            | Self::SourceDown(source)
            | Self::RestartSource(source, _)
            | Self::CrashSource(source, _)
            | Self::Purge(source)
            | Self::SwitchServer(source, _)
            | Self::Damage(source, _)
            | Self::Pause(source)
            | Self::Stop(source)
            | Self::Resize(source, _)
            | Self::Foreign(source, _)
            | Self::Transfer(source)
            | Self::PauseRelay(source)
            | Self::StopRelay(source)
            | Self::PurgeRelay(source, _) => Some(source),
            _ => None,
        }
    }
}

impl fmt::Display for What {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (_, name) = self.name().split_once(": ").unwrap_or_default();
        f.write_str(name)?;
        if let Some(worker) = self.worker() {
            write!(f, " of {}", worker_name(worker))?;
        }
        if let Some(source) = self.source() {
            write!(f, " of {}", source_name(source))?;
        }
        match self {
            Self::Slow(_, number)
            | Self::SlowAnswers(_, number)
            | Self::RowEvents(_, number)
            | Self::Damage(_, number)
            | Self::LostAnswers(number)
            | Self::Late(number)
            | Self::Deadlocks(number)
            | Self::Full(number)
            | Self::LongTransactions(number)
            | Self::LockWaits(number)
            | Self::Resets(number)
            | Self::Crowded(number)
            | Self::BadDisk(_, number)
            | Self::LostSyncs(_, number)
            | Self::Resize(_, number) => write!(f, " ({number})"),
            _ => Ok(()),
        }
    }
}

impl Step {
    /// When it is undone.
    #[must_use]
    pub fn ends(&self) -> Duration {
        self.at + self.lasts
    }
}

/// Name of the worker at a place.
#[must_use]
pub fn worker_name(place: usize) -> String {
    format!("w{place}")
}

/// Name of the source at a place.
#[must_use]
pub fn source_name(place: usize) -> String {
    format!("source{}", place + 1)
}
