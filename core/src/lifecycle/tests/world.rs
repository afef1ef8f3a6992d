//! A world around one machine: a store, a clock, units, and everything in flight, none of which
//! moves by itself. A test, or chance, says what happens next; the world checks after every step
//! that the machine kept its promises.

use std::{
    collections::{BTreeMap, VecDeque},
    format,
    string::String,
    time::Duration,
    vec,
    vec::Vec,
};

use super::{
    operator::{announcement, load_task},
    store::Store,
};
use crate::{
    lifecycle::{
        Command, Config, ControlCall, Effect, Era, Event, Fence, Input, Outcome, Range, Reply,
        Start, Stop, SubtaskView, Ticket, UnitCall, View, Worker, unit::units,
    },
    status::{Stage, UnitKind},
    time::Instant,
};

pub(super) const WORKER: &str = "worker1";

/// The world.
pub(super) struct World {
    pub(super) worker: Worker,
    pub(super) now: Instant,
    pub(super) store: Store,
    /// One-shot calls that are not answered.
    pub(super) calls: Vec<Call>,
    pub(super) watches: Vec<Watch>,
    pub(super) units: BTreeMap<Ticket, Unit>,
    /// How many units of a subtask have finished.
    pub(super) progress: BTreeMap<(String, String), usize>,
    /// The fence of the other worker that last had a source.
    pub(super) rivals: BTreeMap<String, Fence>,
    /// Up to which revision the machine knows that a source was not its own.
    pub(super) elsewhere: BTreeMap<String, i64>,
    /// Revision of the machine's last snapshot.
    pub(super) seen: i64,
    /// Completions delivered lately.
    pub(super) delivered: VecDeque<Input>,
    /// Everything that was put in, and everything that came out.
    pub(super) inputs: Vec<(Instant, Option<Input>)>,
    pub(super) effects: Vec<(Ticket, Effect)>,
    pub(super) steps: u64,
    /// Units do not find a transaction boundary.
    pub(super) stubborn: bool,
    /// Tasks whose rows go straight into the target.
    pub(super) streamed: Vec<&'static str>,
    /// Every read fails.
    pub(super) failing_reads: bool,
    /// No watch reports anything.
    pub(super) deaf: bool,
    /// Print everything that goes in and out.
    pub(super) trace: bool,
    pub(super) config: Config,
}

/// A one-shot call on its way.
#[derive(Clone, Debug)]
pub(super) struct Call {
    pub(super) ticket: Ticket,
    pub(super) effect: Effect,
    /// The answer, once it has been carried out.
    pub(super) answer: Option<Outcome>,
    /// Nobody waits for the answer.
    pub(super) orphan: bool,
}

/// A watch on its way.
#[derive(Clone, Debug)]
pub(super) struct Watch {
    pub(super) ticket: Ticket,
    ranges: Vec<Range>,
    /// The next revision to report.
    from: i64,
    pub(super) closing: bool,
}

/// A unit at work.
#[derive(Clone, Debug)]
pub(super) struct Unit {
    pub(super) source: String,
    /// Empty for a relay.
    pub(super) task: String,
    pub(super) kind: UnitKind,
    pub(super) initialised: bool,
    pub(super) stop: Option<Stop>,
    /// None for a relay.
    pub(super) fence: Option<Fence>,
    pub(super) use_relay: bool,
    /// Its era is being cancelled; it may still be at work.
    pub(super) cancelled: bool,
    /// It has files, and waits until that is marked.
    pub(super) waits: bool,
}

impl World {
    pub(super) fn new(config: Config) -> Self {
        Self {
            worker: Worker::new(config.clone()),
            now: Instant::START,
            store: Store::default(),
            calls: Vec::new(),
            watches: Vec::new(),
            units: BTreeMap::new(),
            progress: BTreeMap::new(),
            rivals: BTreeMap::new(),
            elsewhere: BTreeMap::new(),
            seen: 0,
            delivered: VecDeque::new(),
            inputs: Vec::new(),
            effects: Vec::new(),
            steps: 0,
            stubborn: false,
            streamed: Vec::new(),
            failing_reads: false,
            deaf: false,
            trace: std::env::var_os("WORLD_TRACE").is_some(),
            config,
        }
    }

    /// A world with a worker that has a short lease, begun.
    pub(super) fn begun() -> Self {
        let mut config = Config::new(WORKER, "2024-05-06T07:08:09Z", 7);
        config.ttl = Duration::from_secs(10);
        config.relay_ttl = Duration::from_secs(100);
        let mut world = Self::new(config);
        world.input(Input::Command(Command::Start));
        world
    }

    /// A world in which task `t` of source `a` runs.
    pub(super) fn running(mode: &str) -> Self {
        let mut world = Self::begun();
        world.quiet();
        world.source("a", false);
        world.bind("a");
        world.task("a", "t", mode);
        world.quiet();
        world
    }

    /// Feeds one input, takes what comes out, and checks.
    pub(super) fn input(&mut self, input: Input) {
        if matches!(input, Input::Done { .. }) {
            self.delivered.push_back(input.clone());
            if self.delivered.len() > 8 {
                self.delivered.pop_front();
            }
        }
        if self.trace {
            std::eprintln!("{} <- {input:?}", self.now);
        }
        self.inputs.push((self.now, Some(input.clone())));
        self.worker.handle_input(self.now, input);
        self.settle();
    }

    fn settle(&mut self) {
        self.steps += 1;
        let view = self.worker.view();
        self.look_elsewhere(&view);
        while let Some((ticket, effect)) = self.worker.poll_effect() {
            if self.trace {
                std::eprintln!("{} -> {ticket} {effect:?}", self.now);
            }
            self.effects.push((ticket, effect.clone()));
            self.take(ticket, effect);
        }
        if let Some(at) = self.worker.poll_timeout() {
            assert!(at > self.now, "a timeout that is due was not handled");
        }
        self.check(&view);
    }

    fn take(&mut self, ticket: Ticket, effect: Effect) {
        match &effect {
            Effect::Control(ControlCall::Watch { ranges, from }) => {
                let (ranges, from) = (ranges.clone(), *from);
                return self.watches.push(Watch {
                    ticket,
                    ranges,
                    from,
                    closing: false,
                });
            }
            Effect::Control(ControlCall::Unwatch { of }) => {
                let watch = self.watches.iter_mut().find(|watch| watch.ticket == *of);
                return watch.into_iter().for_each(|watch| watch.closing = true);
            }
            Effect::Unit(UnitCall::Start(start)) => return self.start(ticket, start),
            Effect::Unit(UnitCall::Stop { of, how }) => {
                return self
                    .units
                    .get_mut(of)
                    .into_iter()
                    .for_each(|it| it.stop = Some(*how));
            }
            Effect::Unit(UnitCall::Marked { of }) => return self.may_load(*of),
            Effect::Cancel(era) => self.cancel(*era),
            Effect::Control(ControlCall::Revoke { .. }) => self.check_revoke(),
            Effect::Control(_) | Effect::Unit(UnitCall::Probe { .. }) => {}
        }
        self.calls.push(Call {
            ticket,
            effect,
            answer: None,
            orphan: false,
        });
    }

    /// Nobody listens to an era any more, but what is on the wire may still arrive, and its units
    /// work until the cancellation is carried out.
    fn cancel(&mut self, era: Era) {
        let over = |ticket: &Ticket| ticket.era <= era;
        self.units
            .iter_mut()
            .filter(|(it, _)| over(it))
            .for_each(|(_, it)| it.cancelled = true);
        self.watches.retain(|watch| !over(&watch.ticket));
        self.calls.retain_mut(|call| {
            call.orphan |= over(&call.ticket);
            !call.orphan || (call.answer.is_none() && matches!(call.effect, Effect::Control(_)))
        });
    }

    fn start(&mut self, ticket: Ticket, start: &Start) {
        let unit = match start {
            Start::Relay { source, .. } => Unit {
                source: source.source_id.clone(),
                task: String::new(),
                kind: UnitKind::Relay,
                initialised: false,
                stop: None,
                fence: None,
                use_relay: false,
                cancelled: false,
                waits: false,
            },
            Start::Subtask { job, unit, fence } => {
                self.check_start(&job.source.source_id, &job.task.name, *unit, *fence);
                Unit {
                    source: job.source.source_id.clone(),
                    task: job.task.name.clone(),
                    kind: *unit,
                    initialised: false,
                    stop: None,
                    fence: Some(*fence),
                    use_relay: job.use_relay,
                    cancelled: false,
                    waits: false,
                }
            }
        };
        assert!(self.is_covered(), "{ticket} starts without a lease");
        let twin = self
            .units
            .values()
            .find(|it| it.source == unit.source && it.task == unit.task);
        assert!(twin.is_none(), "{unit:?} starts beside {twin:?}");
        self.units.insert(ticket, unit);
    }

    /// Lets time pass, as a prompt driver sees it.
    pub(super) fn pass(&mut self, time: Duration) {
        let until = self.now + time;
        while let Some(at) = self.worker.poll_timeout().filter(|at| *at <= until) {
            self.now = self.now.max(at);
            self.store.pass(self.now);
            self.timeout();
        }
        self.now = until;
        self.store.pass(self.now);
    }

    /// Lets time pass while the process stands still.
    pub(super) fn freeze(&mut self, time: Duration) {
        self.now = self.now + time;
        self.store.pass(self.now);
        self.timeout();
    }

    fn timeout(&mut self) {
        self.inputs.push((self.now, None));
        self.worker.handle_timeout(self.now);
        self.settle();
    }

    /// Carries a call out, without telling.
    pub(super) fn execute(&mut self, index: usize) {
        let call = &mut self.calls[index];
        if call.answer.is_some() {
            return;
        }
        let answer = match &call.effect {
            Effect::Control(control) => self.store.call(self.now, control),
            Effect::Cancel(era) => {
                self.units.retain(|ticket, _| ticket.era > *era);
                Outcome::Ok(Reply::Closed)
            }
            Effect::Unit(UnitCall::Probe { job, unit }) => {
                let done = (job.source.source_id.clone(), job.task.name.clone());
                let done = self.progress.get(&done).copied().unwrap_or(0);
                let index = units(&job.task.mode).iter().position(|it| it == unit);
                Outcome::Ok(Reply::Probed {
                    fresh: index.expect("a unit of it") > done,
                })
            }
            Effect::Unit(_) => unreachable!("not a one-shot call"),
        };
        call.answer = Some(answer);
        if call.orphan {
            self.calls.remove(index);
        }
    }

    /// Tells how a call ended.
    pub(super) fn answer(&mut self, index: usize, outcome: Outcome) {
        let call = self.calls.remove(index);
        self.input(Input::Done {
            ticket: call.ticket,
            outcome,
        });
    }

    /// Carries a call out and tells.
    pub(super) fn complete(&mut self, index: usize) {
        let orphan = self.calls[index].orphan;
        self.execute(index);
        if !orphan {
            let outcome = self.calls[index].answer.clone().expect("carried out");
            self.answer(index, outcome);
        }
    }

    /// Lets a watch report what there is to report.
    pub(super) fn deliver(&mut self, index: usize) {
        let watch = &mut self.watches[index];
        let newest = self.store.newest(&watch.ranges);
        if watch.closing {
            let ticket = self.watches.remove(index).ticket;
            self.input(Input::Done {
                ticket,
                outcome: Outcome::Ok(Reply::Closed),
            });
        } else if !self.store.has(watch.from - 1) {
            let ticket = self.watches.remove(index).ticket;
            self.input(Input::Done {
                ticket,
                outcome: Outcome::Compacted,
            });
        } else if newest >= watch.from {
            watch.from = newest + 1;
            let (ticket, event) = (watch.ticket, Event::Changed { revision: newest });
            self.input(Input::Event { ticket, event });
        }
    }

    /// Ends a watch for a reason of its own.
    pub(super) fn end_watch(&mut self, index: usize, outcome: Outcome) {
        let ticket = self.watches.remove(index).ticket;
        self.input(Input::Done { ticket, outcome });
    }

    /// A unit is told that its files are marked as this worker's, and so they are, unless somebody
    /// else has written since.
    fn may_load(&mut self, ticket: Ticket) {
        let Some(unit) = self.units.get_mut(&ticket) else {
            return;
        };
        assert!(unit.waits, "{unit:?} did not wait");
        unit.waits = false;
        let key = load_task(&unit.source, &unit.task);
        let ours = format!("\"{WORKER}\"");
        assert!(self.store.has_held(&key, &ours), "{unit:?} is not marked");
    }

    /// Lets a unit initialise; one that has files waits before it works.
    pub(super) fn initialise(&mut self, ticket: Ticket) {
        let unit = self.units.get_mut(&ticket).expect("live");
        unit.initialised = true;
        if unit.kind == UnitKind::Load && !self.streamed.contains(&&*unit.task) {
            unit.waits = true;
            let event = Event::HasFiles;
            self.input(Input::Event { ticket, event });
        }
        self.input(Input::Event {
            ticket,
            event: Event::Initialised,
        });
    }

    /// Lets a unit end.
    pub(super) fn end(&mut self, ticket: Ticket, outcome: Outcome) {
        let unit = self.units.remove(&ticket).expect("live");
        if outcome == Outcome::Ok(Reply::Finished) {
            *self.progress.entry((unit.source, unit.task)).or_default() += 1;
        }
        self.input(Input::Done { ticket, outcome });
    }

    /// Lets units do what a healthy one does: initialise, and end when told to.
    fn work(&mut self) -> bool {
        let stops = |stop: &Option<Stop>| match stop {
            Some(Stop::Graceful { .. }) => !self.stubborn,
            how => how.is_some(),
        };
        let next = self
            .units
            .iter()
            .find(|(_, it)| stops(&it.stop) || !it.initialised);
        let Some((&ticket, unit)) = next else {
            return false;
        };
        if unit.stop.is_some() {
            self.end(ticket, Outcome::Ok(Reply::Stopped));
        } else {
            self.initialise(ticket);
        }
        true
    }

    /// Lets a watch report something, if there is anything.
    pub(super) fn deliver_any(&mut self) -> bool {
        let before = self.inputs.len();
        if self.deaf {
            return false;
        }
        (0..self.watches.len()).any(|index| {
            // The first one that has something to say may end with that.
            self.deliver(index);
            self.inputs.len() > before
        })
    }

    /// Lets a healthy world do one of the things it has to do at this moment.
    pub(super) fn step(&mut self) -> bool {
        let Some(call) = self.calls.first() else {
            return self.deliver_any() || self.work();
        };
        let read = matches!(call.effect, Effect::Control(ControlCall::Read { .. }));
        if read && self.failing_reads && !call.orphan {
            self.answer(0, Outcome::Failed(vec![super::error(1, "no leader")]));
        } else {
            self.complete(0);
        }
        true
    }

    /// Lets a healthy world do all it has to do at this moment.
    pub(super) fn quiet(&mut self) {
        for _ in 0..10_000 {
            if !self.step() {
                return;
            }
        }
        panic!("the world does not come to rest: {:?}", self.worker.view());
    }

    /// Lets a healthy world run for some time.
    pub(super) fn run(&mut self, time: Duration) {
        let until = self.now + time;
        self.quiet();
        while let Some(at) = self.worker.poll_timeout().filter(|at| *at <= until) {
            self.pass(at.since(self.now));
            self.quiet();
        }
        self.pass(until.since(self.now));
        self.quiet();
    }

    pub(super) fn view(&self) -> View {
        self.worker.view()
    }

    /// A subtask as it shows.
    pub(super) fn subtask(&self, source: &str, task: &str) -> Option<SubtaskView> {
        let view = self.worker.view();
        let source = view.sources.into_iter().find(|it| it.name == source)?;
        source.subtasks.into_iter().find(|it| it.name == task)
    }

    /// Stage and unit of a subtask.
    pub(super) fn at(&self, source: &str, task: &str) -> Option<(Stage, Option<UnitKind>)> {
        self.subtask(source, task).map(|it| (it.stage, it.unit))
    }

    /// The unit of a subtask, or the relay of a source for an empty task.
    pub(super) fn live(&self, source: &str, task: &str) -> Option<Ticket> {
        let mut units = self.units.iter();
        units
            .find(|(_, it)| it.source == source && it.task == task)
            .map(|(ticket, _)| *ticket)
    }

    /// Effects since the last call of this.
    pub(super) fn take_effects(&mut self) -> Vec<Effect> {
        self.effects.drain(..).map(|(_, effect)| effect).collect()
    }

    /// Plays everything that was put in to a fresh machine; the same has to come out.
    pub(super) fn replay(&self) {
        let mut worker = Worker::new(self.config.clone());
        let mut effects = self.effects.iter();
        for (now, input) in &self.inputs {
            match input {
                Some(input) => worker.handle_input(*now, input.clone()),
                None => worker.handle_timeout(*now),
            }
            while let Some(effect) = worker.poll_effect() {
                assert_eq!(Some(&effect), effects.next());
            }
        }
        assert_eq!(None, effects.next());
        assert_eq!(worker.view(), self.worker.view());
    }
}

/// What came out, without what keeps the lease alive.
pub(super) fn but_renewals(effects: Vec<Effect>) -> Vec<Effect> {
    let mut effects = effects;
    effects.retain(|effect| !matches!(effect, Effect::Control(ControlCall::Renew { .. })));
    effects
}

#[test]
fn a_bound_source_runs_its_tasks() {
    let mut world = World::begun();
    world.quiet();
    assert!(world.view().online);
    world.source("a", false);
    world.bind("a");
    world.task("a", "t", "all");
    world.quiet();
    assert_eq!(
        world.at("a", "t"),
        Some((Stage::Running, Some(UnitKind::Dump)))
    );
    for unit in [UnitKind::Load, UnitKind::Sync] {
        let live = world.live("a", "t").expect("live");
        world.end(live, Outcome::Ok(Reply::Finished));
        world.quiet();
        assert_eq!(world.at("a", "t"), Some((Stage::Running, Some(unit))));
    }
    world.run(Duration::from_secs(100));
    world.input(Input::Command(Command::Stop));
    world.quiet();
    assert!(world.worker.is_over());
    assert!(world.units.is_empty() && !world.store.holds(&announcement()));
    world.replay();
}
