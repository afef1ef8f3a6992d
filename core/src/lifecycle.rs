//! The worker: who it is, what it owns, what has to run, and when it has to stop.

mod arguments;
mod config;
mod desired;
mod effect;
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
pub use ticket::{Era, Ticket};
pub use view::{Problem, RelayView, SourceView, SubtaskView, View};
pub use worker::Worker;

#[cfg(test)]
mod tests;
