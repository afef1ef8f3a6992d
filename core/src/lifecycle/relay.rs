//! The relay of a source: on or off by the assignment, running or not by its own stage key.

use alloc::{borrow::ToOwned, string::String, sync::Arc, vec::Vec};
use core::time::Duration;

use super::{
    effect::{Effect, Start, UnitCall},
    input::{Event, Outcome},
    io::{Io, Pending},
    resume::{self, Backoff, Policy},
    ticket::Ticket,
    unit::{self, Live},
    view::RelayView,
};
use crate::{
    control::SourceConfig,
    error::Error,
    status::{ProcessResult, Stage},
    time::Instant,
};

/// How long the relay may take to end at a transaction boundary.
const STOP_LIMIT: Duration = Duration::from_secs(10);

/// The relay of a source, while it is on.
#[derive(Clone, Debug)]
pub(super) struct Relay {
    stage: Stage,
    result: Option<ProcessResult>,
    live: Option<Live>,
    /// Revision of the stage key that was last obeyed.
    obeyed: i64,
    expect: Expect,
    backoff: Backoff,
    check_at: Option<Instant>,
}

/// The stage that is wanted, and the revision at which that was written.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub(super) struct WantedStage {
    pub(super) expect: Expect,
    pub(super) revision: i64,
}

/// What a relay's stage key says.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub(super) enum Expect {
    /// There is none.
    #[default]
    Absent,
    Running,
    Paused,
    /// Something that cannot be obeyed: everything stays as it is.
    Unclear,
}

impl Relay {
    pub(super) const fn new(now: Instant) -> Self {
        Self {
            stage: Stage::New,
            result: None,
            live: None,
            obeyed: 0,
            expect: Expect::Absent,
            backoff: Backoff::new(now),
            check_at: None,
        }
    }

    /// Closes the difference between what is wanted and what is there.
    pub(super) fn turn(
        &mut self,
        now: Instant,
        io: &mut Io,
        (name, source): (&str, &Arc<SourceConfig>),
        wanted: WantedStage,
        tasks: impl Iterator<Item = String>,
    ) {
        if wanted.expect != Expect::Unclear {
            self.expect = wanted.expect;
        }
        let run = self.expect == Expect::Running;
        match &mut self.live {
            Some(live) => {
                if !run {
                    let paused = self.expect == Expect::Paused;
                    self.stage = if paused {
                        Stage::Pausing
                    } else {
                        Stage::Stopping
                    };
                    live.stop(now, STOP_LIMIT, io);
                }
                live.turn(now, io);
            }
            None if run => {
                if self.may_run(now, io, source, wanted) {
                    self.start(io, name, source, tasks.collect());
                }
            }
            None => self.rest(),
        }
        self.obeyed = wanted.revision;
    }

    /// Ends the relay for good, once nobody reads it. Returns whether it is over.
    #[must_use]
    pub(super) fn close(&mut self, now: Instant, io: &mut Io, in_use: bool, kill: bool) -> bool {
        self.check_at = None;
        let Some(live) = &mut self.live else {
            return !in_use;
        };
        if !in_use {
            self.stage = Stage::Stopping;
            live.stop(now, STOP_LIMIT, io);
        }
        if kill {
            live.kill(io);
        }
        live.turn(now, io);
        false
    }

    /// Whether nothing stands in the way of a start: an error does, until it is time to try again
    /// or somebody asks.
    fn may_run(
        &mut self,
        now: Instant,
        io: &mut Io,
        source: &SourceConfig,
        wanted: WantedStage,
    ) -> bool {
        let failed = self.result.as_ref();
        let failed = failed.filter(|result| !result.is_canceled && !result.errors.is_empty());
        let Some(failed) = failed.filter(|_| self.stage == Stage::Paused) else {
            return true;
        };
        if wanted.expect != Expect::Unclear && wanted.revision > self.obeyed {
            return true;
        }
        let policy = Policy::of(source);
        if self.check_at.is_none() {
            // Unless it can't help, it was about to end when it was wanted again.
            self.check_at = next_check(now, &policy, &failed.errors);
        }
        if self.check_at.is_none_or(|at| now < at) {
            return false;
        }
        self.check_at = Some(now + policy.interval);
        self.backoff.check(now, &policy, &mut io.dice)
    }

    fn start(&mut self, io: &mut Io, name: &str, source: &Arc<SourceConfig>, tasks: Vec<String>) {
        if self.stage != Stage::New {
            self.stage = Stage::Resuming;
        }
        self.check_at = None;
        let effect = Effect::Unit(UnitCall::Start(Start::Relay {
            source: Arc::clone(source),
            tasks,
        }));
        let pending = Pending::Relay {
            source: name.to_owned(),
        };
        self.live = Some(Live::new(io.ask(pending, effect)));
    }

    fn rest(&mut self) {
        self.check_at = None;
        match self.stage {
            // One that never ran stays new, whatever its key says.
            Stage::New | Stage::Stopped => {}
            _ if self.expect == Expect::Absent => {
                self.stage = Stage::Stopped;
                self.result = None;
            }
            Stage::Paused => {
                if let Some(result) = &mut self.result {
                    result.is_canceled = true;
                }
            }
            _ => {
                self.stage = Stage::Paused;
                self.result = Some(ProcessResult {
                    is_canceled: true,
                    errors: Vec::new(),
                });
            }
        }
    }

    /// Takes a report of the unit.
    pub(super) fn reported(&mut self, ticket: Ticket, event: &Event) {
        let ours = self.live.as_ref().is_some_and(|live| live.ticket == ticket);
        let starting = matches!(self.stage, Stage::New | Stage::Resuming);
        if ours && starting && *event == Event::Initialised {
            self.stage = Stage::Running;
            self.result = None;
        }
    }

    /// Takes the end of the unit. What follows from it is for the next turn.
    pub(super) fn ended(
        &mut self,
        now: Instant,
        source: &SourceConfig,
        ticket: Ticket,
        outcome: Outcome,
    ) {
        let Some(live) = self.live.take_if(|live| live.ticket == ticket) else {
            return;
        };
        if let Some(errors) = unit::failure(outcome, live.is_stopping()) {
            self.fail(now, source, errors);
        }
    }

    fn fail(&mut self, now: Instant, source: &SourceConfig, errors: Vec<Error>) {
        let policy = Policy::of(source);
        self.backoff.paused(now, &policy);
        self.check_at = next_check(now, &policy, &errors);
        self.stage = Stage::Paused;
        self.result = Some(ProcessResult {
            is_canceled: false,
            errors,
        });
    }

    /// The next moment at which [`turn`](Self::turn) has something to do.
    pub(super) fn timeout(&self) -> Option<Instant> {
        match &self.live {
            Some(live) => live.timeout(),
            None => self.check_at,
        }
    }

    pub(super) fn view(&self) -> RelayView {
        RelayView {
            stage: self.stage,
            result: self.result.clone(),
            live: self.live.as_ref().map(|live| live.ticket),
        }
    }
}

/// When it is looked whether to try again, if that can help.
fn next_check(now: Instant, policy: &Policy, errors: &[Error]) -> Option<Instant> {
    let helps = policy.enable && resume::relay_resumable(errors);
    helps.then_some(now + policy.interval)
}
