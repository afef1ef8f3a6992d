//! The worker: who it is, what it owns, what has to run, and when it has to stop.

mod config;
mod effect;
mod input;
mod standin;
mod ticket;
mod view;

pub use config::{Assignment, Config};
pub use effect::{ControlCall, Effect, Job, Range, Start, Stop, UnitCall};
pub use input::{Argument, Command, Entry, Event, Input, Outcome, Reply};
pub use standin::{
    Error, Fence, ProcessResult, SourceConfig, Stage, SubtaskConfig, TaskCliArgs, UnitKind,
};
pub use ticket::{Era, Ticket};
pub use view::{Problem, RelayView, SourceView, SubtaskView, View};
