//! Random lives of a machine: what happens next is drawn, what has to hold is checked by the world
//! after every step, and at the end everything heals and what is wanted must have come about.

use std::{format, string::String, time::Duration, vec, vec::Vec};

use proptest::{
    collection,
    prelude::*,
    test_runner::{Config as Proptest, RngAlgorithm, TestRng, TestRunner},
};

use super::{
    operator::{load_task, source_key, source_value, stage, subtask, subtask_value},
    world::World,
};
use crate::{
    control::Key,
    guard::{self, Guard},
    lifecycle::{Argument, Command, Effect, Event, Input, Outcome, Reply, Stop, Ticket, UnitCall},
    status::{Stage, UnitKind},
};

const SOURCES: [&str; 2] = ["a", "b"];
const TASKS: [&str; 3] = ["t", "u", "v"];
/// The task that has no dump files.
const STREAMED: &str = "v";
const MODES: [&str; 3] = ["incremental", "all", "full"];

/// Something that happens; the numbers choose among what is there.
#[derive(Clone, Copy, Debug)]
enum Move {
    Complete(u8),
    Execute(u8),
    /// A call whose answer got lost; it may still be carried out.
    Lose(u8),
    Fail(u8),
    /// A completion comes a second time.
    Repeat(u8),
    Deliver(u8),
    EndWatch(u8, u8),
    Work(u8),
    Finish(u8),
    Break(u8, u8),
    Report(u8, u8),
    Fence(u8),
    Pass(u8),
    Freeze(u8),
    Compact,
    Rival,
    Resume(u8),
    Stop,
    Bind(u8),
    Transfer(u8),
    Start(u8, u8),
    Expect(u8, u8),
    Drop(u8),
    Recreate(u8, u8),
    Update(u8, u8),
    Arguments(u8, u8),
    Mark(u8, u8),
    Relay(u8),
    RelayStage(u8),
    Source(u8, u8),
}

/// The moves of one life, on one line each when something is wrong with it.
#[derive(Clone)]
struct Life(Vec<Move>);

impl core::fmt::Debug for Life {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        self.0
            .iter()
            .try_for_each(|choice| write!(f, "\n    {choice:?},"))
    }
}

/// Lives of so many moves, half of which end in a while full of stops.
fn lives(count: core::ops::Range<usize>) -> impl Strategy<Value = Life> {
    let end = any::<(u8, u8, u8)>().prop_map(|(what, which, how)| match how % 8 {
        0 => Move::Stop,
        _ => choose(what, which, how / 8),
    });
    let end = prop_oneof![Just(Vec::new()), collection::vec(end, 1..60)];
    let one = any::<(u8, u8, u8)>().prop_map(|(what, which, how)| choose(what, which, how));
    (collection::vec(one, count), end).prop_map(|(mut moves, end)| {
        moves.extend(end);
        Life(moves)
    })
}

/// The usual mixture.
const fn choose(what: u8, which: u8, how: u8) -> Move {
    match what {
        0..=74 => Move::Complete(which),
        75..=84 => Move::Execute(which),
        85..=92 => Move::Lose(which),
        93..=98 => Move::Fail(which),
        99..=104 => Move::Repeat(which),
        105..=119 => Move::Deliver(which),
        120..=123 => Move::EndWatch(which, how),
        124..=143 => Move::Work(which),
        144..=149 => Move::Finish(which),
        150..=157 => Move::Break(which, how),
        158..=161 => Move::Report(which, how),
        162 => Move::Fence(which),
        163..=184 => Move::Pass(which),
        185..=186 => Move::Freeze(which),
        187..=188 => Move::Compact,
        189 => Move::Rival,
        190..=191 => Move::Resume(which),
        192 => Move::Mark(which, how),
        193..=205 => Move::Bind(which),
        206..=208 => Move::Transfer(which),
        209..=221 => Move::Start(which, how),
        222..=235 => Move::Expect(which, how),
        236..=238 => Move::Drop(which),
        239..=240 => Move::Recreate(which, how),
        241..=242 => Move::Update(which, how),
        243 => Move::Arguments(which, how),
        244..=248 => Move::Relay(which),
        249..=252 => Move::RelayStage(which),
        253..=255 => Move::Source(which, how),
    }
}

fn pick<T>(items: &[T], which: u8) -> Option<usize> {
    (!items.is_empty()).then(|| usize::from(which) % items.len())
}

fn name<'a>(names: &[&'a str], which: u8) -> &'a str {
    names[usize::from(which) % names.len()]
}

/// Source and task.
fn names(which: u8) -> (&'static str, &'static str) {
    (name(&SOURCES, which), name(&TASKS, which / 2))
}

/// An error that may pass, and one that will not.
fn failure(how: u8) -> Outcome {
    Outcome::Failed(vec![match how % 4 {
        0 => super::error(36_008, "ddl sequence"),
        _ => super::error(10_001, "driver"),
    }])
}

impl World {
    fn unit(&self, which: u8) -> Option<Ticket> {
        let tickets: Vec<Ticket> = self.units.keys().copied().collect();
        Some(tickets[pick(&tickets, which)?])
    }

    /// Makes a move, if there is something to move.
    fn make(&mut self, choice: Move) -> Option<()> {
        match choice {
            Move::Complete(which) => self.complete(pick(&self.calls, which)?),
            Move::Execute(which) => self.execute(pick(&self.calls, which)?),
            Move::Lose(which) => {
                let index = pick(&self.calls, which)?;
                let call = &mut self.calls[index];
                if !call.orphan && matches!(call.effect, Effect::Control(_)) {
                    call.orphan = true;
                    let ticket = call.ticket;
                    self.calls
                        .retain(|call| !call.orphan || call.answer.is_none());
                    let outcome = Outcome::Unknown(super::error(1, "timeout"));
                    self.input(Input::Done { ticket, outcome });
                }
            }
            Move::Fail(which) => {
                let index = pick(&self.calls, which)?;
                let call = &self.calls[index];
                let cancel = matches!(call.effect, Effect::Cancel(_));
                if call.answer.is_none() && !call.orphan && !cancel {
                    self.answer(index, failure(1));
                }
            }
            Move::Repeat(which) => {
                let delivered: Vec<Input> = self.delivered.iter().cloned().collect();
                self.input(delivered[pick(&delivered, which)?].clone());
            }
            Move::Deliver(which) => self.deliver(pick(&self.watches, which)?),
            Move::EndWatch(which, how) => {
                let outcome = match how % 3 {
                    0 => Outcome::Compacted,
                    1 => Outcome::Ok(Reply::Closed),
                    _ => failure(how),
                };
                self.end_watch(pick(&self.watches, which)?, outcome);
            }
            Move::Work(which) => {
                let ticket = self.unit(which)?;
                if self.units[&ticket].stop.is_some() {
                    self.end(ticket, Outcome::Ok(Reply::Stopped));
                } else if !self.units[&ticket].initialised {
                    self.initialise(ticket);
                }
            }
            Move::Finish(which) => {
                let ticket = self.unit(which)?;
                if !matches!(self.units[&ticket].kind, UnitKind::Sync | UnitKind::Relay) {
                    self.end(ticket, Outcome::Ok(Reply::Finished));
                }
            }
            Move::Break(which, how) => self.end(self.unit(which)?, failure(how)),
            Move::Report(which, how) => {
                let ticket = self.unit(which)?;
                let event = match how % 4 {
                    0 => Event::ArgumentUsed(Argument::StartTime),
                    1 => Event::ArgumentUsed(Argument::SafeModeDuration),
                    how => Event::ShardDdl { pending: how == 2 },
                };
                self.input(Input::Event { ticket, event });
            }
            Move::Fence(which) => {
                self.end(
                    self.unit(which)?,
                    Outcome::Fenced(super::error(2, "fenced")),
                );
            }
            Move::Pass(which) => {
                let times = [1, 10, 300, 700, 2_000, 5_000, 9_000, 30_000];
                self.pass(Duration::from_millis(
                    times[usize::from(which) % times.len()],
                ));
            }
            Move::Freeze(which) => self.freeze(Duration::from_millis(u64::from(which) * 80)),
            Move::Compact => self.store.compact(),
            Move::Rival => self.store.seize(self.now, &super::operator::announcement()),
            Move::Resume(which) => {
                let (source, task) = names(which);
                let (source, task) = (source.into(), task.into());
                self.input(Input::Command(Command::Resume { source, task }));
            }
            Move::Stop => self.input(Input::Command(Command::Stop)),
            _ => self.operate(choice),
        }
        Some(())
    }

    /// Changes the store.
    fn operate(&mut self, choice: Move) {
        match choice {
            Move::Bind(which) => self.bind(name(&SOURCES, which)),
            Move::Transfer(which) => self.transfer(name(&SOURCES, which)),
            Move::Start(which, how) => {
                let (source, task) = names(which);
                if self.store.get(&subtask(source, task)).is_none() {
                    self.task(source, task, name(&MODES, how));
                }
            }
            Move::Expect(which, how) => {
                let (source, task) = names(which);
                self.expect(source, task, [2, 3, 2, 3, 2, 4, 2, 9][usize::from(how) % 8]);
            }
            Move::Drop(which) => {
                let (source, task) = names(which);
                self.drop_task(source, task);
            }
            Move::Recreate(which, how) => {
                let (source, task) = names(which);
                self.drop_task(source, task);
                self.task(source, task, name(&MODES, how));
            }
            Move::Update(which, how) => {
                let (source, task) = names(which);
                if self.store.get(&subtask(source, task)).is_some() {
                    let mode = self.mode(source, task);
                    let value = subtask_value(source, task, &mode, how.max(1));
                    self.store.write(&[(&subtask(source, task), Some(&value))]);
                }
            }
            Move::Arguments(which, how) => {
                let (source, task) = names(which);
                let key = Key::TaskCliArgs {
                    source: source.into(),
                    task: task.into(),
                }
                .encode();
                let wait = how % 3;
                let value = format!(
                    "{{\"start_time\":\"{how}\",\"safe_mode_duration\":\"1s\",\
                     \"wait_time_on_stop\":\"{wait}s\"}}"
                );
                self.store
                    .write(&[(&key, (how > 20).then_some(value.as_str()))]);
            }
            Move::Mark(which, how) => {
                let (source, task) = names(which);
                let workers = [None, Some("worker2"), Some(super::world::WORKER)];
                self.mark(source, task, workers[usize::from(how) % 3]);
            }
            Move::Relay(which) => {
                self.relay((which % 3 > 0).then(|| name(&SOURCES, which / 3)));
            }
            Move::RelayStage(which) => {
                let expect = [Some(2), Some(2), Some(3), None, Some(5)][usize::from(which / 2) % 5];
                self.relay_stage(name(&SOURCES, which), expect);
            }
            Move::Source(which, how) => {
                let source = name(&SOURCES, which);
                let value = source_value(source, how % 4 == 1);
                self.store
                    .write(&[(&source_key(source), (how % 7 > 0).then_some(&*value))]);
            }
            _ => unreachable!("a move of the world"),
        }
    }

    fn mode(&self, source: &str, task: &str) -> String {
        let entry = self.store.get(&subtask(source, task)).expect("there");
        let value = core::str::from_utf8(&entry.value).expect("text");
        let mode = value
            .lines()
            .find_map(|line| line.strip_prefix("mode = "))
            .expect("mode");
        mode.trim_matches('"').into()
    }

    /// Everything works again, and nobody wants anything new.
    fn heal(&mut self) {
        for source in SOURCES {
            if self.store.get(&source_key(source)).is_none() {
                self.source(source, false);
            }
        }
        self.run(Duration::from_secs(1200));
    }

    /// What is wanted is there, and nothing else.
    fn converged(&self) {
        let view = self.view();
        assert!(view.online, "{view:?}");
        assert!(self.calls.is_empty());
        for unit in self.units.values() {
            let works = unit.initialised && !unit.waits;
            assert!(works && unit.stop.is_none(), "{unit:?}");
        }
        let now = self.store.revision;
        for (source, task) in SOURCES.iter().flat_map(|it| TASKS.map(|task| (*it, task))) {
            let shown = self.subtask(source, task);
            let live = self.live(source, task).is_some();
            let Some(expected) = self.expected(source, task, now) else {
                let there = self.store.get(&stage(source, task)).is_some() && shown.is_some();
                assert!(
                    !live && (shown.is_none() || there),
                    "{source} {task} {shown:?}"
                );
                continue;
            };
            if !(2..=4).contains(&expected) {
                continue;
            }
            let shown = shown.unwrap_or_else(|| panic!("{source} {task} is missing in {view:?}"));
            let lasting = shown.result.as_ref().is_some_and(|result| {
                !result.is_canceled && result.errors.iter().any(|error| error.code == 36_008)
            });
            match shown.stage {
                Stage::Running => assert!(live && expected == 2, "{shown:?}"),
                Stage::Paused => assert!(!live && (expected > 2 || lasting), "{shown:?}"),
                Stage::Stopped => assert!(!live && expected > 2, "{shown:?}"),
                Stage::Finished => assert!(!live, "{shown:?}"),
                _ => panic!("{shown:?} is not a place to rest"),
            }
            let mark = self.store.get(&load_task(source, task));
            let loads = self.mode(source, task) != "incremental";
            match (shown.stage, shown.unit) {
                (Stage::Finished, _) | (_, Some(UnitKind::Sync)) if loads => {
                    assert!(mark.is_none(), "{shown:?} {mark:?}");
                }
                (Stage::Running, Some(UnitKind::Load)) if task != STREAMED => {
                    let ours = format!("\"{}\"", super::world::WORKER);
                    assert!(mark.is_some_and(|it| it.value == ours), "{mark:?}");
                }
                _ => {}
            }
        }
        self.relay_converged();
    }

    fn relay_converged(&self) {
        let view = self.view();
        let bound = self.store.get(&self.bound_key());
        let key = Key::RelayWorker {
            worker: super::world::WORKER.into(),
        }
        .encode();
        let by_key = self.store.get(&key);
        for source in SOURCES {
            let is_bound = bound.is_some_and(|it| it.value == self.bound_value(source));
            let config = self.store.get(&source_key(source)).expect("healed");
            let by_config = is_bound && config.value == source_value(source, true);
            let keyed =
                by_key.is_some_and(|it| it.value == source) && (is_bound || bound.is_none());
            let shown = view.sources.iter().find(|it| it.name == source);
            let relay = shown.and_then(|it| it.relay.as_ref());
            assert_eq!(relay.is_some(), by_config || keyed, "{source}");
            let Some(relay) = relay else { continue };
            let stage = Key::RelayStage {
                source: source.into(),
            }
            .encode();
            let stage = self.store.get(&stage).map(|it| it.value[10]);
            let lasting = relay.result.as_ref().is_some_and(|it| !it.is_canceled);
            match (stage, relay.stage) {
                (Some(b'2'), Stage::Paused) => assert!(lasting && relay.live.is_none()),
                (Some(b'2'), stage) => assert_eq!(stage, Stage::Running),
                (Some(b'3') | None, _) => assert!(relay.live.is_none(), "{relay:?}"),
                _ => {}
            }
            for unit in self.units.values().filter(|it| it.source == source) {
                assert!(unit.task.is_empty() || unit.use_relay, "{unit:?}");
            }
        }
    }
}

/// How much happened.
#[derive(Clone, Copy, Debug, Default)]
struct Count {
    /// Steps of the machine before everything heals.
    steps: u64,
    /// Stops, and those given a second time while the first was not carried out.
    stops: u32,
    second_stops: u32,
}

/// One life.
fn live(moves: &[Move], count: &mut Count) {
    let mut world = World::begun();
    world.streamed = vec![STREAMED];
    let mut stopped = false;
    for choice in moves {
        if matches!(choice, Move::Stop) && !world.worker.is_over() {
            count.stops += u32::from(!stopped);
            count.second_stops += u32::from(stopped);
            stopped = true;
        }
        let _ = world.make(*choice);
    }
    count.steps += world.steps;
    world.heal();
    if stopped {
        assert!(
            world.worker.is_over() && world.units.is_empty(),
            "{:?}",
            world.view()
        );
        assert_eq!(world.worker.poll_timeout(), None);
    } else {
        world.converged();
    }
    world.replay();
}

#[test]
fn whatever_happens_the_promises_hold() {
    let count = core::cell::Cell::new(Count::default());
    let mut runner = TestRunner::new(Proptest {
        cases: 1_500,
        failure_persistence: None,
        ..Proptest::default()
    });
    let result = runner.run(&lives(0..5_000), |life| {
        let mut sum = count.get();
        live(&life.0, &mut sum);
        count.set(sum);
        Ok(())
    });
    if let Err(error) = result {
        panic!("{error}");
    }
    let count = count.get();
    assert!(count.steps > 1_000_000, "{count:?}");
    assert!(count.stops > 500 && count.second_stops > 300, "{count:?}");
}

/// Without one of these guards some life must end badly: else the test above proves nothing.
#[test]
fn missing_guards_are_noticed() {
    for missing in [
        Guard::LeaseFromSend,
        Guard::LeaseExpiry,
        Guard::CancelBeforeRevoke,
        Guard::EndBeforeRevoke,
        Guard::AnnounceFirst,
        Guard::LearnAnew,
        Guard::OneRevision,
        Guard::FenceOfBound,
        Guard::FenceRestart,
        Guard::Incarnation,
        Guard::PauseOverError,
        Guard::PauseOverStart,
        Guard::UnitEnd,
        Guard::AutoResume,
    ] {
        let _without = guard::without(Some(missing));
        let config = Proptest {
            cases: 1_000,
            failure_persistence: None,
            max_shrink_iters: 0,
            ..Proptest::default()
        };
        let rng = TestRng::deterministic_rng(RngAlgorithm::ChaCha);
        let found = TestRunner::new_with_rng(config, rng).run(&lives(0..2_000), |life| {
            live(&life.0, &mut Count::default());
            Ok(())
        });
        assert!(found.is_err(), "nobody misses {missing:?}");
    }
}

/// Units that ignore a graceful stop are killed when its limit is over.
#[test]
fn a_stop_becomes_a_kill() {
    let mut world = World::begun();
    world.source("a", false);
    world.bind("a");
    world.task("a", "t", "incremental");
    world.run(Duration::from_secs(1));
    let live = world.live("a", "t").expect("live");
    world.stubborn = true;
    world.drop_task("a", "t");
    world.run(Duration::from_secs(9));
    assert!(matches!(
        world.units[&live].stop,
        Some(Stop::Graceful { .. })
    ));
    world.run(Duration::from_secs(1));
    assert!(!world.units.contains_key(&live));
    let kill = Effect::Unit(UnitCall::Stop {
        of: live,
        how: Stop::Kill,
    });
    assert!(world.take_effects().contains(&kill));
}
