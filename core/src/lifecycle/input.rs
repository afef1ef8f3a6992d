//! What the machine is told.

use alloc::{string::String, vec::Vec};
use core::fmt;

use bytes::Bytes;

use super::ticket::Ticket;
use crate::error::Error;

/// Everything that happens to the machine, apart from the passing of time.
#[derive(Clone, Debug, PartialEq)]
pub enum Input {
    /// The process or its operator wants something.
    Command(Command),
    /// A stream effect reports while it goes on.
    Event {
        /// The effect.
        ticket: Ticket,
        /// What it reports.
        event: Event,
    },
    /// An effect is over. Exactly one of these per effect that has a completion.
    Done {
        /// The effect.
        ticket: Ticket,
        /// How it ended.
        outcome: Outcome,
    },
}

/// A wish that does not come through the control store.
#[derive(Clone, Debug, PartialEq)]
pub enum Command {
    /// Begin to work; the first input of a machine.
    Start,
    /// End the process: everything stops at a transaction boundary, then the lease is given up and
    /// `Worker::is_over` becomes true. Given a second time, it does not
    /// wait for boundaries any more.
    Stop,
    /// Resume a subtask that is paused by an error now, without taking over a newer configuration.
    /// Never overrides a pause that was asked for.
    Resume {
        /// Source of the subtask.
        source: String,
        /// Its task.
        task: String,
    },
    /// Read the control store now. Once a snapshot is there that is newer than this command,
    /// `View::looked` is at least this number.
    Look {
        /// Grows with each such command.
        number: u64,
    },
}

/// What a stream effect reports.
#[derive(Clone, Debug, PartialEq)]
pub enum Event {
    /// Of a watch: something in its ranges changed, the newest change at `revision`. What it is
    /// does not matter, since the machine reads everything again at one revision.
    Changed {
        /// Revision of the newest change.
        revision: i64,
    },
    /// Of a unit: initialised, from now on it works.
    Initialised,
    /// Of a load unit: it is about to load dump files, which are on the disk of this worker. It
    /// waits until it is told that they are [marked](super::UnitCall::Marked).
    HasFiles,
    /// Of a sync unit: whether a shard DDL is under way, which forbids configuration changes.
    ShardDdl {
        /// It is.
        pending: bool,
    },
    /// Of a sync unit: an argument given at the start of the task has had its effect, and is
    /// recorded where it cannot get lost, so that it has to go from the control store.
    ArgumentUsed(Argument),
}

/// An argument of the task's start that is used once.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Argument {
    /// `start_time`.
    StartTime,
    /// `safe_mode_duration`.
    SafeModeDuration,
}

/// How an effect ended.
#[derive(Clone, Debug, PartialEq)]
pub enum Outcome {
    /// As asked.
    Ok(Reply),
    /// Certainly without effect (calls), or the unit gave up (units). Not empty.
    Failed(Vec<Error>),
    /// It may or may not have happened: timeout, reset. Never for units.
    Unknown(Error),
    /// The target refused a write because another owner of the source exists. Only for units.
    Fenced(Error),
    /// The revision asked for is compacted. Only for reads and watches.
    Compacted,
}

/// What a successful effect returns.
#[derive(Clone, Debug, PartialEq)]
pub enum Reply {
    /// Of a grant or renewal; `ttl_s` is what is left, 0 where the lease is gone.
    Lease {
        /// The lease.
        id: i64,
        /// Time to live in seconds, as the store answered.
        ttl_s: u64,
    },
    /// Of an announcement or replacement: written, or deleted, at this revision.
    Written {
        /// Revision of the write.
        revision: i64,
    },
    /// Of an announcement or replacement: its condition did not hold, nothing is written.
    Refused {
        /// The entry that stands there, if any.
        entry: Option<Entry>,
    },
    /// Of a read.
    Entries {
        /// Revision of the store that was read; the one that was asked for, if one was.
        revision: i64,
        /// What the ranges hold, in any order.
        entries: Vec<Entry>,
    },
    /// Of a revocation, a cancellation, and of a watch that ended as asked or by the server.
    Closed,
    /// Of a probe.
    Probed {
        /// The unit has never done anything for this subtask.
        fresh: bool,
    },
    /// Of a unit: all its work is done.
    Finished,
    /// Of a unit: it ended because it was told to.
    Stopped,
}

/// A key and what the store knows about it.
#[derive(Clone, PartialEq)]
pub struct Entry {
    /// The key.
    pub key: Bytes,
    /// The value.
    pub value: Bytes,
    /// Revision at which the key came into being, after its last deletion.
    pub create_revision: i64,
    /// Revision of the last write.
    pub mod_revision: i64,
    /// The lease it hangs on, or 0.
    pub lease: i64,
}

/// Of the value just its length: configurations hold passwords.
impl fmt::Debug for Entry {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Entry")
            .field("key", &self.key)
            .field("value", &format_args!("{} bytes", self.value.len()))
            .field("create_revision", &self.create_revision)
            .field("mod_revision", &self.mod_revision)
            .field("lease", &self.lease)
            .finish()
    }
}

#[cfg(test)]
mod tests {
    use std::format;

    use super::*;

    #[test]
    fn a_value_is_not_shown() {
        let entry = Entry {
            key: Bytes::from_static(b"/k"),
            value: Bytes::from_static(b"password = \"secret\""),
            create_revision: 1,
            mod_revision: 2,
            lease: 3,
        };
        let entries = Reply::Entries {
            revision: 2,
            entries: [entry].into(),
        };
        let shown = format!("{:?}", Outcome::Ok(entries));
        assert!(
            shown.contains("/k") && shown.contains("19 bytes"),
            "{shown}"
        );
        assert!(!shown.contains("secret"), "{shown}");
    }
}
