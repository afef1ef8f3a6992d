//! The worker: who it is, what it owns, what has to run, and when it has to stop.
//!
//! [`Worker`] is a machine without I/O, clock or randomness. It is told what happened and when
//! ([`Input`]), and hands out what is to be done ([`Effect`]); the list of inputs with their times
//! *is* the reproduction of a run. Inside, every part works the same way: a turn compares what is
//! wanted with what is there, and asks for what closes the difference. Nothing is ever done because
//! an event said so, only because the newest snapshot still says so.
//!
//! | part | job |
//! | --- | --- |
//! | `lease` | the lease, counted from send times; the announcement on it; loss, switch, end |
//! | `learn` | snapshots of the control store, each at one revision; watches that call for more |
//! | `desired` | a snapshot, folded into what is wanted of each source and subtask |
//! | `source` | one source worker: its subtasks and its relay |
//! | `subtask`, `relay` | stages; which unit runs; what its end means |
//! | `unit` | a running unit: a stop that sticks, and turns into a kill |
//! | `resume`, `update` | when to try again after an error; which changes a subtask can take over |
//! | `arguments` | arguments of `start-task` that are used once |
//! | `files` | the mark of the worker that has the dump files of a subtask |
//! | `io` | effects out, and the one gate for reports in |
//!
//! Three names order everything that happens. A [`Ticket`] names an effect; what is reported under
//! a ticket that is not in flight is counted and dropped. An [`Era`] is a tenure of the lease; its
//! end makes all its tickets stale, and nothing new starts before everything old is cancelled. A
//! [`Fence`] orders the owners of a source across processes, so that the target can refuse a write
//! that arrives after its owner's time.
//!
//! # What cannot happen here
//!
//! The existing worker has known weaknesses. Each has a test named after its letter and number in
//! `tests/{ownership,work,changes}.rs`; the random lives in `tests/chance.rs` look for all of them
//! at once. These need no test, because there is nothing that could do it:
//!
//! * A4, C1, C3 (a lock is held while something waits): there are no locks and no waiting. The end
//!   of a tenure is one effect in the step that notices it, and [`Worker::view`] only reads.
//! * A5 (an unbind is not acknowledged): it still is not, since nobody asks for an answer; but what
//!   the old owner writes after the new one took over is refused under its fence.
//! * A12 (relay lengthens the lease): the length is the operator's choice and part of what a master
//!   sees, so it is kept; it ends with the relay.
//! * B5 (the validator gets lost when relay is switched): nothing about a subtask is remembered
//!   over a switch, everything is wanted anew from the snapshot.
//! * D7, D8 (blind writes of load and shard keys by a stale worker): the machine writes three keys,
//!   its announcement, used arguments and the mark of dump files, all on a condition.
//! * D10 (a look at the status changes it): [`Worker::view`] has a shared reference, and nothing in
//!   it has interior mutability.
//! * D13 (the worker's name gets lost): it is no part of any configuration that is replaced.

mod arguments;
mod config;
mod desired;
mod effect;
mod files;
mod input;
mod io;
mod learn;
mod lease;
mod relay;
mod resume;
mod source;
mod subtask;
mod ticket;
mod unit;
mod update;
mod view;
mod worker;

pub use crate::sync::progress::Fence;
pub use config::{Assignment, Config};
pub use effect::{ControlCall, Effect, Job, Range, Start, Stop, UnitCall};
pub use input::{Argument, Command, Entry, Event, Input, Outcome, Reply};
pub use resume::{BEGIN_ANEW, relay_resumable, subtask_resumable};
pub use ticket::{Era, Ticket};
pub use view::{Problem, RelayView, SourceView, SubtaskView, View};
pub use worker::Worker;

#[cfg(test)]
mod tests;
