//! A running unit, and the order of the units of a task.

use alloc::{vec, vec::Vec};
use core::time::Duration;

use super::{
    effect::{Effect, Stop, UnitCall},
    input::Outcome,
    io::Io,
    ticket::Ticket,
};
use crate::{
    control::subtask::Mode,
    error::{Error, code},
    status::UnitKind,
    time::Instant,
};

/// A unit between its start and its completion.
///
/// A stop is sticky: once asked for it stays asked for, and turns into a kill when its limit is
/// over. Only the completion ends a `Live`, so that no second unit starts beside it.
#[derive(Clone, Debug)]
pub(super) struct Live {
    pub(super) ticket: Ticket,
    stop: Option<Stopping>,
}

#[derive(Clone, Copy, Debug)]
enum Stopping {
    /// Killed at this moment.
    Graceful {
        kill_at: Instant,
    },
    Killed,
}

impl Live {
    pub(super) const fn new(ticket: Ticket) -> Self {
        Self { ticket, stop: None }
    }

    pub(super) const fn is_stopping(&self) -> bool {
        self.stop.is_some()
    }

    /// Asks for the end at a transaction boundary within `limit`, unless that was asked before.
    pub(super) fn stop(&mut self, now: Instant, limit: Duration, io: &mut Io) {
        if self.stop.is_none() {
            self.stop = Some(Stopping::Graceful {
                kill_at: now + limit,
            });
            self.tell(Stop::Graceful { limit }, io);
        }
    }

    /// Asks for the end at once.
    pub(super) fn kill(&mut self, io: &mut Io) {
        if !matches!(self.stop, Some(Stopping::Killed)) {
            self.stop = Some(Stopping::Killed);
            self.tell(Stop::Kill, io);
        }
    }

    /// Kills what did not end within its limit.
    pub(super) fn turn(&mut self, now: Instant, io: &mut Io) {
        if self.timeout().is_some_and(|kill_at| now >= kill_at) {
            self.kill(io);
        }
    }

    pub(super) const fn timeout(&self) -> Option<Instant> {
        match self.stop {
            Some(Stopping::Graceful { kill_at }) => Some(kill_at),
            _ => None,
        }
    }

    fn tell(&self, how: Stop, io: &mut Io) {
        let of = self.ticket;
        io.tell(Effect::Unit(UnitCall::Stop { of, how }));
    }
}

/// The units of a mode in their order; none where there is no such mode.
pub(super) fn units(mode: &str) -> &'static [UnitKind] {
    match Mode::parse(mode) {
        Some(Mode::All) => &[UnitKind::Dump, UnitKind::Load, UnitKind::Sync],
        Some(Mode::Full) => &[UnitKind::Dump, UnitKind::Load],
        Some(Mode::Incremental) => &[UnitKind::Sync],
        Some(Mode::Dump) => &[UnitKind::Dump],
        Some(Mode::Load) => &[UnitKind::Load],
        Some(Mode::LoadSync) => &[UnitKind::Load, UnitKind::Sync],
        None => &[],
    }
}

/// Why a unit ended without having finished; `None` if it ended as it was told to. Errors that only
/// say that something was cancelled do not count.
pub(super) fn failure(outcome: Outcome, stopping: bool) -> Option<Vec<Error>> {
    let mut errors = match outcome {
        Outcome::Failed(errors) => errors,
        Outcome::Unknown(error) | Outcome::Fenced(error) => vec![error],
        Outcome::Ok(_) | Outcome::Compacted => Vec::new(),
    };
    errors.retain(|error| !error.message.contains("context canceled"));
    if errors.is_empty() && stopping {
        return None;
    }
    if errors.is_empty() {
        // It must not look as if it were still at work.
        errors.push(Error::new(
            &code::NOT_SET,
            "the unit ended without saying why",
        ));
    }
    Some(errors)
}
