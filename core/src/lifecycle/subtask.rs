//! One task on one source: which unit runs, and at which stage it shows.
//!
//! What is wanted comes in with every turn, what is there is in here, and a turn closes the
//! difference. A unit is started only from rest, and rest is reached only by the completion of the
//! unit before, so there is never a second one; whatever arrives in between (a pause, a deletion)
//! is obeyed at that moment, because it still stands in what is wanted.

use alloc::{borrow::ToOwned, format, sync::Arc, vec, vec::Vec};
use core::mem;

use super::{
    arguments::Arguments,
    desired::{Setup, WantedSubtask},
    effect::{Effect, Job, Start, UnitCall},
    files::Files,
    input::{Event, Outcome, Reply},
    io::{Io, Pending},
    resume::{self, Backoff, Policy},
    ticket::Ticket,
    unit::{self, Live},
    update,
    view::SubtaskView,
};
use crate::{
    error::{Error, code},
    guard::Guard,
    status::{ProcessResult, Stage, UnitKind},
    sync::{progress::Fence, schema::TableName},
    time::Instant,
};

/// A subtask.
#[derive(Clone, Debug)]
pub(super) struct Subtask {
    /// Which of the tasks that had this name in the course of time.
    incarnation: (i64, i64),
    setup: Setup,
    arguments: Arguments,
    files: Files,
    stage: Stage,
    unit: Option<UnitKind>,
    result: Option<ProcessResult>,
    phase: Phase,
    goal: Goal,
    /// It has to go, whatever is wanted later under its name.
    doomed: bool,
    /// Some unit of it has initialised.
    initialised: bool,
    shard_ddl: bool,
    /// Revision of the expected stage that was last obeyed.
    obeyed: i64,
    backoff: Backoff,
    /// When to think of resuming it.
    check_at: Option<Instant>,
    /// Somebody wants it resumed at the next turn, if it is paused by an error.
    resume_asked: bool,
    /// It was ordered to run since it last began to, so it has to take over what is new.
    ordered: bool,
    /// The target refused it under this fence.
    barred: Option<Fence>,
    refused: Option<Error>,
}

#[derive(Clone, Debug)]
enum Phase {
    Resting,
    /// Looking for the first unit that has something to do, at this one now.
    Probing {
        ticket: Ticket,
        unit: UnitKind,
    },
    Live {
        live: Live,
        fence: Fence,
        use_relay: bool,
    },
}

/// What a subtask has to know of its surroundings.
#[derive(Clone, Copy, Debug)]
pub(super) struct Surroundings<'a> {
    pub(super) now: Instant,
    pub(super) source: &'a str,
    pub(super) task: &'a str,
    pub(super) fence: Fence,
    pub(super) use_relay: bool,
    /// Nobody waits for transaction boundaries any more.
    pub(super) kill: bool,
}

#[derive(Clone, Copy, Debug, PartialEq)]
enum Goal {
    Run,
    /// Be there, and show as this stage if it never ran.
    Rest(Stage),
    Gone,
}

impl Subtask {
    pub(super) fn new(now: Instant, incarnation: (i64, i64), setup: Setup) -> Self {
        Self {
            unit: only_unit(&setup),
            incarnation,
            setup,
            arguments: Arguments::default(),
            files: Files::default(),
            stage: Stage::New,
            result: None,
            phase: Phase::Resting,
            goal: Goal::Rest(Stage::Paused),
            doomed: false,
            initialised: false,
            shard_ddl: false,
            obeyed: 0,
            backoff: Backoff::new(now),
            check_at: None,
            resume_asked: false,
            ordered: false,
            barred: None,
            refused: None,
        }
    }

    /// Closes the difference between what is wanted and what is there. Returns whether the subtask
    /// is over and can be forgotten.
    #[must_use]
    pub(super) fn turn(
        &mut self,
        at: Surroundings<'_>,
        io: &mut Io,
        wanted: Option<&WantedSubtask>,
    ) -> bool {
        let wanted = wanted.filter(|wanted| self.is_same(wanted) && !self.doomed);
        self.doomed = wanted.is_none();
        self.goal = match wanted.map(|wanted| wanted.expect) {
            None => Goal::Gone,
            Some(None) => self.goal,
            Some(Some(Stage::Running)) => Goal::Run,
            Some(Some(_)) if self.forgets_pause() => Goal::Run,
            Some(Some(stage)) => Goal::Rest(stage),
        };
        let goal = self.goal;
        if let Some(wanted) = wanted {
            self.ordered |=
                wanted.expect == Some(Stage::Running) && wanted.expect_revision > self.obeyed;
            self.arguments.learn(wanted.arguments.as_ref());
            self.arguments.turn(at, io);
            self.files.learn(&wanted.files);
            let loaded = self.is_loaded();
            self.files.turn(at, io, loaded);
        }
        match &mut self.phase {
            Phase::Probing { ticket, .. } if goal == Goal::Gone => {
                // It writes nothing; its answer will be stale.
                io.forget(*ticket);
                return true;
            }
            Phase::Probing { .. } => {}
            Phase::Live { .. } => self.turn_live(at, io, goal, wanted),
            Phase::Resting => match (goal, wanted) {
                (Goal::Run, Some(wanted)) => self.turn_to_run(at, io, wanted),
                (Goal::Rest(stage), _) => self.turn_to_rest(at, io, stage),
                _ => return true,
            },
        }
        self.resume_asked = false;
        self.obeyed = wanted.map_or(self.obeyed, |wanted| wanted.expect_revision);
        false
    }

    /// Whether the task is the one that this subtask was made for.
    fn is_same(&self, wanted: &WantedSubtask) -> bool {
        wanted.incarnation == self.incarnation || !Guard::Incarnation.holds()
    }

    /// Whether it had tables to load, and they are there.
    fn is_loaded(&self) -> bool {
        let mut units = unit::units(&self.setup.task.mode).iter();
        let loads = units.any(|unit| *unit == UnitKind::Load);
        let is_behind = self.stage == Stage::Finished || units.any(|unit| Some(*unit) == self.unit);
        loads && is_behind
    }

    /// Whether it runs though a pause is wanted: never, as long as the guards hold.
    fn forgets_pause(&self) -> bool {
        self.check_at.is_some() && !Guard::PauseOverError.holds()
            || self.stage == Stage::New && !Guard::PauseOverStart.holds()
    }

    fn turn_live(
        &mut self,
        at: Surroundings<'_>,
        io: &mut Io,
        goal: Goal,
        wanted: Option<&WantedSubtask>,
    ) {
        let renewed = wanted.filter(|_| self.ordered && goal == Goal::Run);
        let renewed = renewed.is_some_and(|wanted| self.can_take_over(wanted));
        let Phase::Live {
            live,
            fence,
            use_relay,
        } = &mut self.phase
        else {
            return;
        };
        let same_fence = *fence == at.fence || !Guard::FenceRestart.holds();
        let same = !renewed && same_fence && *use_relay == at.use_relay;
        self.stage = match goal {
            Goal::Gone => Stage::Stopping,
            Goal::Rest(_) => Stage::Pausing,
            Goal::Run if same && !live.is_stopping() => {
                self.ordered = false;
                return;
            }
            // The same work, but anew: from another place, as a newer owner, in another way.
            Goal::Run => Stage::Resuming,
        };
        live.stop(at.now, self.arguments.stop_limit(), io);
        if at.kill {
            live.kill(io);
        }
        live.turn(at.now, io);
        if !Guard::UnitEnd.holds() {
            self.phase = Phase::Resting;
        }
    }

    fn turn_to_rest(&mut self, at: Surroundings<'_>, io: &mut Io, rest: Stage) {
        self.check_at = None;
        match self.stage {
            Stage::Finished => {}
            Stage::New if self.unit.is_none() => self.seek(at, io),
            Stage::New => self.stage = rest,
            Stage::Paused | Stage::Stopped => {
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

    fn turn_to_run(&mut self, at: Surroundings<'_>, io: &mut Io, wanted: &WantedSubtask) {
        match self.stage {
            Stage::Finished => return,
            Stage::Paused | Stage::Stopped => {
                let failed =
                    |result: &ProcessResult| !result.is_canceled && !result.errors.is_empty();
                let failed = self.result.as_ref().is_some_and(failed);
                // By itself it goes on as it was.
                if failed && !self.ordered && !self.is_due(at, io) {
                    return;
                }
                self.stage = Stage::Resuming;
            }
            // Between two units, or fresh: go on.
            Stage::Running | Stage::New => {}
            _ => self.stage = Stage::Resuming,
        }
        // What was refused in one unit may be possible in the next.
        let is_next = self.stage == Stage::Running && self.refused.is_some();
        if mem::take(&mut self.ordered) || is_next {
            self.refresh(wanted);
        }
        self.check_at = None;
        // An error from now on is one of this attempt; a master takes any other for its failure.
        self.result = None;
        match self.unit {
            Some(unit) => self.start(at, io, unit),
            None => self.seek(at, io),
        }
    }

    /// Whether it is time to resume after an error.
    fn is_due(&mut self, at: Surroundings<'_>, io: &mut Io) -> bool {
        let now = at.now;
        if self.resume_asked || self.barred.is_some_and(|fence| fence < at.fence) {
            return true;
        }
        if self.check_at.is_none_or(|at| now < at) {
            return false;
        }
        let policy = Policy::of(&self.setup.source);
        let due = self.backoff.check(now, &policy, &mut io.dice);
        self.check_at = Some(now + policy.interval);
        due
    }

    /// Takes over the newest configuration, as far as that is allowed.
    fn refresh(&mut self, wanted: &WantedSubtask) {
        if self.can_take_over(wanted)
            && Guard::ConfigAtResume.holds()
            && let Some(setup) = &wanted.setup
        {
            self.setup = setup.clone();
            if !self.initialised {
                self.unit = only_unit(setup);
            }
        }
    }

    /// Whether there is a newer configuration that can be taken over at rest; notes it if it can't.
    fn can_take_over(&mut self, wanted: &WantedSubtask) -> bool {
        let Some(setup) = &wanted.setup else {
            return false;
        };
        self.refused = None;
        if self.initialised && setup.task != self.setup.task {
            let now = &self.setup.task;
            let checked = update::check(now, &setup.task, self.unit, Stage::Paused, self.shard_ddl);
            self.refused = checked.err();
        }
        self.refused.is_none() && *setup != self.setup
    }

    /// Looks for the unit to start with: the first one from the last down that is not fresh.
    fn seek(&mut self, at: Surroundings<'_>, io: &mut Io) {
        let mode = &self.setup.task.mode;
        match unit::units(mode).last() {
            Some(last) => self.probe(at, io, *last),
            None => {
                let name = &self.setup.task.name;
                let message = format!("subtask {name} has no dm units for mode {mode}");
                self.fail(
                    at.now,
                    vec![Error::new(&code::WORKER_NO_AVAIL_UNITS, message)],
                );
            }
        }
    }

    fn probe(&mut self, at: Surroundings<'_>, io: &mut Io, unit: UnitKind) {
        let job = self.job(at.use_relay);
        let effect = Effect::Unit(UnitCall::Probe { job, unit });
        let ticket = io.ask(pending(at), effect);
        self.phase = Phase::Probing { ticket, unit };
    }

    fn start(&mut self, at: Surroundings<'_>, io: &mut Io, unit: UnitKind) {
        let Surroundings {
            fence, use_relay, ..
        } = at;
        let job = self.job(use_relay);
        let effect = Effect::Unit(UnitCall::Start(Start::Subtask { job, unit, fence }));
        let ticket = io.ask(pending(at), effect);
        self.shard_ddl = false;
        self.barred = None;
        self.phase = Phase::Live {
            live: Live::new(ticket),
            fence,
            use_relay,
        };
    }

    fn job(&self, use_relay: bool) -> Job {
        let Setup { source, mut task } = self.setup.clone();
        if task.use_relay != use_relay {
            Arc::make_mut(&mut task).use_relay = use_relay;
        }
        Job {
            source,
            task,
            arguments: self.arguments.unused(),
            use_relay,
        }
    }

    fn fail(&mut self, now: Instant, errors: Vec<Error>) {
        let policy = Policy::of(&self.setup.source);
        self.backoff.paused(now, &policy);
        let resumes = policy.enable && resume::subtask_resumable(&errors);
        self.check_at = (resumes && Guard::AutoResume.holds()).then_some(now + policy.interval);
        self.stage = Stage::Paused;
        self.result = Some(ProcessResult {
            is_canceled: false,
            errors,
        });
    }

    /// Takes a report of the running unit.
    pub(super) fn reported(&mut self, ticket: Ticket, event: &Event) {
        let Phase::Live { live, .. } = &self.phase else {
            return;
        };
        if live.ticket != ticket {
            return;
        }
        match *event {
            Event::Initialised => {
                self.initialised = true;
                if !live.is_stopping()
                    && matches!(self.stage, Stage::New | Stage::Resuming | Stage::Running)
                {
                    self.stage = Stage::Running;
                    self.result = None;
                }
            }
            Event::HasFiles => self.files.are_here(ticket),
            Event::ShardDdl { pending } => self.shard_ddl = pending,
            Event::ArgumentUsed(argument) => self.arguments.used(argument),
            Event::Changed { .. } => {}
        }
    }

    /// Takes the end of the running unit, or the answer to a probe. What follows from it is for
    /// the next turn.
    pub(super) fn ended(
        &mut self,
        at: Surroundings<'_>,
        io: &mut Io,
        ticket: Ticket,
        outcome: Outcome,
    ) {
        match &self.phase {
            Phase::Probing {
                ticket: asked,
                unit,
            } if *asked == ticket => {
                let unit = *unit;
                self.phase = Phase::Resting;
                self.probed(at, io, unit, outcome);
            }
            Phase::Live { live, fence, .. } if live.ticket == ticket => {
                let (stopping, fence) = (live.is_stopping(), *fence);
                self.phase = Phase::Resting;
                self.files.unit_ended();
                match outcome {
                    // It was being stopped for that very reason.
                    Outcome::Fenced(_) if fence != at.fence => {}
                    Outcome::Fenced(error) => self.bar(at, error),
                    outcome => self.unit_ended(at.now, &io.config.worker, stopping, outcome),
                }
            }
            _ => {}
        }
    }

    /// The fence under which a unit works, if it is the one that runs.
    pub(super) fn fence_of(&self, ticket: Ticket) -> Option<Fence> {
        match &self.phase {
            Phase::Live { live, fence, .. } if live.ticket == ticket => Some(*fence),
            _ => None,
        }
    }

    fn probed(&mut self, at: Surroundings<'_>, io: &mut Io, unit: UnitKind, outcome: Outcome) {
        let Outcome::Ok(Reply::Probed { fresh }) = outcome else {
            let errors = unit::failure(outcome, false).unwrap_or_default();
            return self.fail(at.now, errors);
        };
        let units = unit::units(&self.setup.task.mode);
        match units.iter().take_while(|other| **other != unit).last() {
            // The first one need not be asked: somebody has to begin.
            Some(first) if fresh && *first == units[0] => self.unit = Some(*first),
            Some(before) if fresh => self.probe(at, io, *before),
            _ => self.unit = Some(unit),
        }
    }

    fn unit_ended(&mut self, now: Instant, worker: &str, stopping: bool, outcome: Outcome) {
        if outcome != Outcome::Ok(Reply::Finished) {
            if let Some(mut errors) = unit::failure(outcome, stopping) {
                if self.unit == Some(UnitKind::Load) {
                    self.files.explain(worker, &mut errors);
                }
                self.fail(now, errors);
            }
            return;
        }
        let mut units = unit::units(&self.setup.task.mode).iter();
        units.find(|unit| Some(**unit) == self.unit);
        match units.next() {
            Some(next) => self.unit = Some(*next),
            None => {
                self.stage = Stage::Finished;
                self.result = Some(ProcessResult::default());
            }
        }
    }

    /// The target takes nothing from the owner of the source: its fences do not follow those of
    /// the control store, which only an operator can explain.
    fn bar(&mut self, at: Surroundings<'_>, error: Error) {
        let task = &self.setup.task;
        let table = TableName::new(task.meta_schema.as_str(), format!("{}_progress", task.name));
        let workaround = format!(
            "The control store says that this worker owns source `{}`, the target that somebody \
             newer does: etcd was rebuilt or restored, or another cluster writes here. Make sure \
             that no other worker replicates this source into this target, set `fence` to 0 in all \
             rows of the source in its table {table}, and resume the task.",
            at.source
        );
        self.barred = Some(at.fence);
        self.fail(at.now, vec![error.with_workaround(workaround)]);
    }

    /// Takes the answer to a change of the start arguments.
    pub(super) fn replaced(&mut self, now: Instant, outcome: &Outcome) {
        self.arguments.replaced(now, outcome);
    }

    /// Takes the answer to a write of who has its files.
    pub(super) fn marked(&mut self, now: Instant, outcome: &Outcome) {
        self.files.replaced(now, outcome);
    }

    /// Asks for a resume at the next turn, if it is paused by an error.
    pub(super) const fn resume(&mut self) {
        self.resume_asked = true;
    }

    /// The next moment at which [`turn`](Self::turn) has something to do.
    pub(super) fn timeout(&self) -> Option<Instant> {
        let phase = match &self.phase {
            Phase::Resting => self.check_at,
            Phase::Probing { .. } => None,
            Phase::Live { live, .. } => live.timeout(),
        };
        let writes = [self.arguments.timeout(), self.files.timeout()];
        let writes = writes.into_iter().flatten().filter(|_| !self.doomed);
        phase.into_iter().chain(writes).min()
    }

    /// Whether a unit of it reads the relay log.
    pub(super) const fn reads_relay(&self) -> bool {
        matches!(
            self.phase,
            Phase::Live {
                use_relay: true,
                ..
            }
        )
    }

    pub(super) fn view(&self, name: &str) -> SubtaskView {
        SubtaskView {
            name: name.to_owned(),
            stage: self.stage,
            unit: self.unit,
            result: self.result.clone(),
            live: match &self.phase {
                Phase::Live { live, .. } => Some(live.ticket),
                _ => None,
            },
            refused: self.refused.clone(),
        }
    }
}

/// The unit of a mode that has only one, which need not be sought.
fn only_unit(setup: &Setup) -> Option<UnitKind> {
    match unit::units(&setup.task.mode) {
        [unit] => Some(*unit),
        _ => None,
    }
}

fn pending(at: Surroundings<'_>) -> Pending {
    Pending::Subtask {
        source: at.source.to_owned(),
        task: at.task.to_owned(),
    }
}
