//! Hazards D: changes of the control store that get lost, or come twice. Named after the list in
//! the module's docs.

use std::{format, string::String, time::Duration, vec};

use super::{
    operator::{source_key, source_value, stage, stage_value, subtask, subtask_value},
    world::World,
};
use crate::{
    control::{Key, TaskCliArgs},
    lifecycle::{
        Argument, Command, Config, ControlCall, Effect, Event, Input, Outcome, Start, UnitCall,
    },
    status::{Stage, UnitKind},
};

const SECOND: Duration = Duration::from_secs(1);

fn arguments(world: &World) -> TaskCliArgs {
    let entry = world.store.get(&arguments_key()).expect("there");
    TaskCliArgs::parse(&entry.value).expect("readable")
}

fn arguments_key() -> String {
    Key::TaskCliArgs {
        task: "t".into(),
        source: "a".into(),
    }
    .encode()
}

fn arguments_value(start_time: &str) -> String {
    let value = TaskCliArgs {
        start_time: start_time.into(),
        safe_mode_duration: "10s".into(),
        wait_time_on_stop: "3s".into(),
    };
    value.to_json()
}

#[test]
fn d1_a_read_that_fails_is_repeated() {
    let mut world = World::begun();
    world.quiet();
    world.source("a", false);
    world.task("a", "t", "incremental");
    world.failing_reads = true;
    world.bind("a");
    world.run(20 * SECOND);
    assert!(world.units.is_empty());
    world.failing_reads = false;
    world.run(SECOND);
    assert_eq!(
        world.at("a", "t"),
        Some((Stage::Running, Some(UnitKind::Sync)))
    );
}

#[test]
fn d2_a_start_that_fails_is_repeated() {
    let mut world = World::running("incremental");
    for _ in 0..9 {
        let live = world.live("a", "t").expect("live");
        let failure = super::error(10_001, "no route to host");
        world.end(live, Outcome::Failed(vec![failure]));
        assert_eq!(
            world.at("a", "t"),
            Some((Stage::Paused, Some(UnitKind::Sync)))
        );
        let failed = world.now;
        while world.live("a", "t").is_none() {
            world.run(SECOND);
            assert!(world.now.since(failed) < 310 * SECOND);
        }
    }
    // Jitter included, all of that follows from the inputs and the seed.
    world.replay();
}

#[test]
fn d3_a_task_that_was_made_again_is_another_one() {
    let mut world = World::running("incremental");
    let old = world.live("a", "t").expect("live");
    world.deaf = true;
    world.drop_task("a", "t");
    world.store.write(&[
        (&subtask("a", "t"), Some(&subtask_value("a", "t", "all", 7))),
        (&stage("a", "t"), Some(&stage_value("a", "t", 2))),
    ]);
    world.store.compact();
    world.deaf = false;
    world.take_effects();
    world.run(SECOND);
    let new = world.live("a", "t").expect("live");
    assert_ne!(new, old);
    assert_eq!(world.units[&new].kind, UnitKind::Dump);
}

#[test]
fn d3_a_stage_that_came_back_is_no_change() {
    let mut world = World::running("incremental");
    let live = world.live("a", "t");
    world.deaf = true;
    world.expect("a", "t", 3);
    world.expect("a", "t", 2);
    world.store.compact();
    world.deaf = false;
    world.run(60 * SECOND);
    assert_eq!(world.live("a", "t"), live);
    assert_eq!(world.view().problems, []);
}

#[test]
fn d4_a_failed_read_does_not_switch_relay_off() {
    let mut world = World::running("incremental");
    world.relay(Some("a"));
    world.relay_stage("a", Some(2));
    world.run(SECOND);
    let relay = world.live("a", "").expect("live");
    world.failing_reads = true;
    world.end_watch(0, Outcome::Compacted);
    world.run(60 * SECOND);
    assert_eq!(world.live("a", ""), Some(relay));
    assert!(world.units[&relay].stop.is_none());
}

#[test]
fn d5_relay_comes_back_after_the_loss_of_the_lease() {
    let mut world = World::running("incremental");
    world.relay(Some("a"));
    world.relay_stage("a", Some(2));
    world.run(SECOND);
    world.transfer("a");
    world.run(SECOND);
    world.freeze(200 * SECOND);
    assert!(!world.view().online);
    world.run(5 * SECOND);
    assert!(world.live("a", "").is_some());
}

#[test]
fn d6_arguments_of_a_later_start_are_not_touched() {
    let mut world = World::running("incremental");
    world
        .store
        .write(&[(&arguments_key(), Some(&arguments_value("2024-05-06")))]);
    world.expect("a", "t", 3);
    world.run(SECOND);
    world.expect("a", "t", 2);
    world.run(SECOND);
    let ticket = world.live("a", "t").expect("live");
    world.take_effects();
    let used = |argument| Input::Event {
        ticket,
        event: Event::ArgumentUsed(argument),
    };
    world.input(used(Argument::StartTime));
    // The write is on its way when somebody puts new arguments.
    world
        .store
        .write(&[(&arguments_key(), Some(&arguments_value("2025-01-01")))]);
    world.run(60 * SECOND);
    assert_eq!(arguments(&world).start_time, "2025-01-01");
    // Told again, what is stored now is meant.
    world.input(used(Argument::StartTime));
    world.input(used(Argument::SafeModeDuration));
    world.run(SECOND);
    let left = TaskCliArgs {
        wait_time_on_stop: "3s".into(),
        ..TaskCliArgs::default()
    };
    assert_eq!(arguments(&world), left);
    // And a deleted key stays deleted.
    world.store.write(&[(&arguments_key(), None)]);
    world.input(used(Argument::StartTime));
    world.run(60 * SECOND);
    assert_eq!(world.store.get(&arguments_key()), None);
}

#[test]
fn d9_the_relay_directory_of_the_process_always_counts() {
    let mut config = Config::new("worker1", "2024-05-06T07:08:09Z", 7);
    config.relay_dir = Some("/relay/worker1".into());
    let mut world = World::new(config);
    world.input(Input::Command(Command::Start));
    world.quiet();
    world.source("a", true);
    world.bind("a");
    world.relay_stage("a", Some(2));
    world.task("a", "t", "incremental");
    world.run(SECOND);
    for expect in [3, 2] {
        world
            .store
            .write(&[(&source_key("a"), Some(&source_value("a", true)))]);
        world.expect("a", "t", expect);
        world.run(SECOND);
    }
    let mut starts = 0;
    for effect in world.take_effects() {
        let dir = match effect {
            Effect::Unit(UnitCall::Start(Start::Relay { source, .. })) => source.relay_dir.clone(),
            Effect::Unit(UnitCall::Start(Start::Subtask { job, .. })) => {
                assert_eq!(job.source.relay_dir, "/relay/worker1");
                job.task.relay_dir.clone()
            }
            _ => continue,
        };
        assert_eq!(dir, "/relay/worker1");
        starts += 1;
    }
    assert_eq!(starts, 3);
    // Unbound with a newer value than relay was started with: it ends all the same.
    world.source("a", false);
    world.transfer("a");
    world.run(SECOND);
    assert!(world.view().sources.is_empty());
}

#[test]
fn d11_a_relay_paused_in_the_moment_of_its_start_is_paused() {
    let mut world = World::running("incremental");
    world.relay_stage("a", Some(2));
    world.relay(Some("a"));
    world.deliver_any();
    world.complete(0);
    world.relay_stage("a", Some(3));
    world.run(SECOND);
    let relay = world.view().sources[0].relay.clone().expect("on");
    assert_eq!((relay.stage, relay.live), (Stage::Paused, None));
}

#[test]
fn d12_the_source_configuration_alone_switches_relay() {
    let mut world = World::running("incremental");
    world.source("a", true);
    world.run(SECOND);
    assert!(world.view().sources[0].relay.is_some());
    assert!(world.units.values().all(|unit| unit.use_relay));
    world.source("a", false);
    world.run(SECOND);
    assert!(world.view().sources[0].relay.is_none());
    assert!(world.units.values().all(|unit| !unit.use_relay));
}

#[test]
fn what_cannot_be_obeyed_is_a_problem_and_changes_nothing() {
    let mut world = World::running("incremental");
    let live = world.live("a", "t");
    world.expect("a", "t", 7);
    world.expect("a", "u", 2);
    world.store.write(&[(&subtask("a", "v"), Some("mode = 3"))]);
    world.expect("a", "v", 2);
    world.relay_stage("a", Some(9));
    let validator = Key::ValidatorStage {
        source: "a".into(),
        task: "t".into(),
    };
    world
        .store
        .write(&[(&validator.encode(), Some(&stage_value("a", "t", 2)))]);
    world.relay(Some("b"));
    world.run(SECOND);
    assert_eq!(world.live("a", "t"), live);
    let view = world.view();
    let problems = view
        .problems
        .iter()
        .map(|it| format!("{} {}", it.task, it.error.code));
    let problems: vec::Vec<String> = problems.collect();
    assert_eq!(
        problems,
        [" 40040", "t 40052", "t 20901", "u 40073", "v 20002"]
    );
    let errors: vec::Vec<u32> = view.errors.iter().map(|error| error.code).collect();
    assert_eq!(errors, [40_071]);
    assert_eq!(view.source, "a");
}

#[test]
fn d1_a_change_during_the_second_step_of_a_read_calls_for_another() {
    let mut world = World::running("incremental");
    let reads = |world: &World| {
        let mut calls = world.calls.iter();
        calls.position(|it| matches!(it.effect, Effect::Control(ControlCall::Read { .. })))
    };
    world.expect("a", "t", 2);
    assert!(world.deliver_any());
    let first = reads(&world).expect("asked");
    world.complete(first);
    world.expect("a", "t", 3);
    assert!(world.deliver_any());
    let second = reads(&world).expect("asked");
    world.complete(second);
    world.quiet();
    assert_eq!(
        world.at("a", "t"),
        Some((Stage::Paused, Some(UnitKind::Sync)))
    );
}

#[test]
fn a_look_is_over_when_everything_before_it_is_seen() {
    let mut world = World::running("incremental");
    world.deaf = true;
    world.run(30 * SECOND - Duration::from_millis(1));
    // A read is under way that does not see what happens next.
    world.pass(Duration::from_millis(1));
    let read =
        |it: &super::world::Call| matches!(it.effect, Effect::Control(ControlCall::Read { .. }));
    let first = world.calls.iter().position(read).expect("asked");
    world.execute(first);
    world.expect("a", "t", 3);
    world.input(Input::Command(Command::Look { number: 1 }));
    while world.view().looked < 1 {
        assert!(!matches!(
            world.at("a", "t"),
            Some((Stage::Pausing | Stage::Paused, _))
        ));
        let next = world.calls.iter().position(read).expect("asked");
        world.complete(next);
    }
    world.quiet();
    assert_eq!(
        world.at("a", "t"),
        Some((Stage::Paused, Some(UnitKind::Sync)))
    );
    world.run(SECOND);
    assert!(world.calls.is_empty(), "one look is enough");
}

#[test]
fn the_second_step_of_a_read_is_at_the_revision_of_the_first() {
    let mut world = World::begun();
    world.source("a", false);
    world.bind("a");
    world.complete(0);
    world.complete(0);
    world.take_effects();
    world.complete(0);
    let revision = world.store.revision;
    let reads = |effects: &[Effect]| {
        let reads = effects.iter().filter_map(|effect| match effect {
            Effect::Control(ControlCall::Read { at, .. }) => Some(*at),
            _ => None,
        });
        reads.collect::<vec::Vec<_>>()
    };
    assert_eq!(reads(&world.take_effects()), [Some(revision)]);
    // Compacted in between: it begins again, with the newest revision.
    world.store.write(&[("/x", Some("y"))]);
    world.store.compact();
    world.complete(0);
    assert_eq!(reads(&world.take_effects()), [None]);
    world.complete(0);
    assert_eq!(reads(&world.take_effects()), [Some(revision + 1)]);
    world.complete(0);
    assert_eq!(world.view().revision, revision + 1);
}
