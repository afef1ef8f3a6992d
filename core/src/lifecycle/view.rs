//! What can be seen of a machine.

use alloc::{string::String, vec::Vec};

use super::ticket::{Era, Ticket};
use crate::{
    error::Error,
    status::{ProcessResult, Stage, UnitKind},
    sync::progress::Fence,
    time::Instant,
};

/// Facts about a machine, for status reports, metrics and checkers.
#[derive(Clone, Debug, PartialEq)]
pub struct View {
    /// Number of leases lost.
    pub era: Era,
    /// Whether the worker has announced itself under a live lease.
    pub online: bool,
    /// The lease, and the moment at which work under it has to end.
    pub lease: Option<(i64, Instant)>,
    /// Why the last lease was lost.
    pub lost: Option<Error>,
    /// Revision of what is known of the control store; 0 while nothing is.
    pub revision: i64,
    /// Number of the last [`Look`](super::Command::Look) that this is newer than.
    pub looked: u64,
    /// The source that status reports name; empty where none is, or where an assignment has just
    /// been taken away.
    pub source: String,
    /// What is wrong with the assignment as such, for the status of the source.
    pub errors: Vec<Error>,
    /// The source workers, by name.
    pub sources: Vec<SourceView>,
    /// Keys of the control store that cannot be obeyed.
    pub problems: Vec<Problem>,
    /// Reports that came too late, twice, or under no ticket of ours, and were dropped.
    pub stale: u64,
}

/// One source worker.
#[derive(Clone, Debug, PartialEq)]
pub struct SourceView {
    /// Its name.
    pub name: String,
    /// Whether the subtasks of the source are this worker's.
    pub bound: bool,
    /// The fence of this ownership.
    pub fence: Option<Fence>,
    /// The relay, if it is on.
    pub relay: Option<RelayView>,
    /// The subtasks, by name.
    pub subtasks: Vec<SubtaskView>,
}

/// The relay of a source.
#[derive(Clone, Debug, PartialEq)]
pub struct RelayView {
    /// New, Running, Paused or Stopped, or a transition between them.
    pub stage: Stage,
    /// How it ended, where it rests.
    pub result: Option<ProcessResult>,
    /// The running unit.
    pub live: Option<Ticket>,
}

/// One subtask.
#[derive(Clone, Debug, PartialEq)]
pub struct SubtaskView {
    /// Name of the task.
    pub name: String,
    /// Its stage.
    pub stage: Stage,
    /// The unit that runs, or would; none until it is known which one that is.
    pub unit: Option<UnitKind>,
    /// How it ended, where it rests.
    pub result: Option<ProcessResult>,
    /// The running unit.
    pub live: Option<Ticket>,
    /// Why the newest configuration is not the one in use.
    pub refused: Option<Error>,
}

/// A key that cannot be obeyed.
#[derive(Clone, Debug, PartialEq)]
pub struct Problem {
    /// The source it is about.
    pub source: String,
    /// The task it is about; empty for the source itself.
    pub task: String,
    /// Why.
    pub error: Error,
}
