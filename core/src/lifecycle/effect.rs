//! What the machine wants done.

use alloc::{string::String, sync::Arc, vec::Vec};
use core::time::Duration;

use bytes::Bytes;

use super::ticket::{Era, Ticket};
use crate::{
    control::TaskCliArgs,
    control::{SourceConfig, SubtaskConfig},
    status::UnitKind,
    sync::progress::Fence,
};

/// What the driver must do. Effects of one variant are started in the order they come out; nothing
/// is promised between variants, so where order matters the machine waits for a completion.
#[derive(Clone, Debug, PartialEq)]
pub enum Effect {
    /// A call on the control store.
    Control(ControlCall),
    /// A call on a unit.
    Unit(UnitCall),
    /// End everything that was started in `era`, at once. Done with [`Reply::Closed`] when nothing
    /// of that era can touch the world any more. The ticket of the cancellation itself belongs to
    /// the next era. What the cancelled effects still report may be dropped.
    ///
    /// [`Reply::Closed`]: super::Reply::Closed
    Cancel(Era),
}

/// A call on the control store. All are one-shot, but for [`Watch`](Self::Watch).
#[derive(Clone, Debug, PartialEq)]
pub enum ControlCall {
    /// Creates a lease. Answers `Lease`.
    Grant {
        /// Its time to live.
        ttl: Duration,
    },
    /// Renews a lease once. Answers `Lease`, with 0 s if it is gone.
    Renew {
        /// The lease.
        lease: i64,
    },
    /// One transaction: if the key hangs on the lease `held_by` (0: it is absent, or hangs on none)
    /// puts it under `lease`, else gets it. Answers `Written` or `Refused`.
    Announce {
        /// The key.
        key: Bytes,
        /// The value.
        value: Bytes,
        /// The lease that it shall hang on.
        lease: i64,
        /// The lease that it must hang on now.
        held_by: i64,
    },
    /// Gives a lease up. Answers `Closed`, also if there is none.
    Revoke {
        /// The lease.
        lease: i64,
    },
    /// One transaction that reads all ranges at one revision: `at`, or the newest one
    /// (linearizable). Answers `Entries`, or ends `Compacted`.
    Read {
        /// What to read.
        ranges: Vec<Range>,
        /// At which revision.
        at: Option<i64>,
    },
    /// A stream of `Changed` events, for every change in the ranges from the revision `from` on.
    /// Any end of any part of it is its end, for whatever reason.
    Watch {
        /// What to watch.
        ranges: Vec<Range>,
        /// The first revision of interest.
        from: i64,
    },
    /// Ends a watch, which completes with `Closed`. Has no completion of its own.
    Unwatch {
        /// The watch.
        of: Ticket,
    },
    /// One transaction: if the key's last write was at `mod_revision`, puts the value or deletes
    /// the key, else gets it. Answers `Written` or `Refused`.
    Replace {
        /// The key.
        key: Bytes,
        /// The new value; `None` to delete the key.
        value: Option<Bytes>,
        /// The write that it replaces; 0 if there is no such key.
        mod_revision: i64,
    },
}

/// Keys of the control store.
#[derive(Clone, Debug, Eq, Ord, PartialEq, PartialOrd)]
pub enum Range {
    /// This key.
    Key(Bytes),
    /// Every key that starts so.
    Prefix(Bytes),
}

/// A call on a unit.
#[derive(Clone, Debug, PartialEq)]
pub enum UnitCall {
    /// Starts a unit: a stream that reports `Initialised` once it works, and ends `Ok(Finished)`,
    /// `Ok(Stopped)`, `Failed` or `Fenced`. When it ends, nothing of it can touch the world any
    /// more. Everything that takes time, initialisation included, obeys a stop.
    Start(Start),
    /// Ends a unit, which completes by itself. Has no completion of its own; may come for a unit
    /// that is already over, and any number of times with rising urgency.
    Stop {
        /// The unit.
        of: Ticket,
        /// How.
        how: Stop,
    },
    /// Tells a load unit, which has reported `HasFiles`, that the control store says so: it may
    /// load. Has no completion of its own; may come for a unit that is already over.
    Marked {
        /// The unit.
        of: Ticket,
    },
    /// Asks whether a unit has never done anything for a subtask, from its checkpoint in the
    /// target. Writes nothing. Answers `Probed`.
    Probe {
        /// The subtask.
        job: Job,
        /// The unit in question.
        unit: UnitKind,
    },
}

/// What to start.
#[derive(Clone, Debug, PartialEq)]
pub enum Start {
    /// The relay unit of a source.
    Relay {
        /// The source.
        source: Arc<SourceConfig>,
        /// Names of the tasks that read what it writes, also of those that are paused. A new log
        /// begins where the one is that is furthest behind.
        tasks: Vec<String>,
    },
    /// A unit of a subtask.
    Subtask {
        /// The subtask.
        job: Job,
        /// Which of its units.
        unit: UnitKind,
        /// Orders the owners of the source: the target refuses writes under an older one.
        fence: Fence,
    },
}

/// A subtask, as its units must see it.
#[derive(Clone, Debug, PartialEq)]
pub struct Job {
    /// The source.
    pub source: Arc<SourceConfig>,
    /// The subtask, what the source decides already put in.
    pub task: Arc<SubtaskConfig>,
    /// The arguments given at the start of the task and not used yet.
    pub arguments: Option<Arc<TaskCliArgs>>,
    /// Read the local relay log instead of the source.
    pub use_relay: bool,
}

/// How to end a unit.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Stop {
    /// At a transaction boundary. The machine itself kills it when the limit is over.
    Graceful {
        /// How long the boundary is waited for.
        limit: Duration,
    },
    /// At once.
    Kill,
}
