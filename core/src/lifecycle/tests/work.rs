//! Hazards B and C: what runs, and what can get in its way. Named after the list in the module's
//! docs.

use std::{time::Duration, vec};

use super::{
    operator::{stage, stage_value, subtask, subtask_value},
    world::World,
};
use crate::{
    lifecycle::{Command, Effect, Input, Outcome, Reply, Start, Stop, UnitCall},
    status::{ProcessResult, Stage, UnitKind},
};

const SECOND: Duration = Duration::from_secs(1);

fn refused() -> Outcome {
    Outcome::Failed(vec![super::error(10_001, "connection refused")])
}

fn cancelled(world: &World) -> bool {
    world
        .subtask("a", "t")
        .and_then(|it| it.result)
        .is_some_and(|it| it.is_canceled)
}

impl World {
    /// Lets the unit of the subtask end.
    fn ends(&mut self, outcome: Outcome) {
        let live = self.live("a", "t").expect("live");
        self.end(live, outcome);
    }

    /// Lets the machine read the store, while units do nothing.
    pub(super) fn learn(&mut self) {
        loop {
            if !self.calls.is_empty() {
                self.complete(0);
            } else if !self.deliver_any() {
                return;
            }
        }
    }

    fn starts(&mut self) -> usize {
        let effects = self.take_effects().into_iter();
        effects
            .filter(|effect| matches!(effect, Effect::Unit(UnitCall::Start(_))))
            .count()
    }
}

#[test]
fn b1_a_stop_between_two_units_is_kept() {
    let mut world = World::running("all");
    world.drop_task("a", "t");
    world.learn();
    world.take_effects();
    world.ends(Outcome::Ok(Reply::Finished));
    world.quiet();
    assert_eq!(world.starts(), 0);
    assert_eq!(world.at("a", "t"), None);
}

/// Unbound and bound again while its unit ends: it is another object with the same name.
#[test]
fn b1_what_has_to_go_goes_though_it_is_wanted_again() {
    let mut world = World::running("incremental");
    world.stubborn = true;
    world.transfer("a");
    world.quiet();
    let value = subtask_value("a", "t", "incremental", 7);
    world.store.write(&[(&subtask("a", "t"), Some(&value))]);
    world.bind("a");
    world.quiet();
    world.take_effects();
    world.stubborn = false;
    world.quiet();
    // Nobody resumed it, so only a new one has the newest configuration.
    assert_eq!(batches(&mut world), [7]);
}

#[test]
fn b2_a_unit_that_fails_at_once_is_paused_with_its_error() {
    let mut world = World::begun();
    world.quiet();
    world.source("a", false);
    world.bind("a");
    world.task("a", "t", "incremental");
    world.learn();
    assert_eq!(world.at("a", "t"), Some((Stage::New, Some(UnitKind::Sync))));
    world.ends(refused());
    assert_eq!(
        world.at("a", "t"),
        Some((Stage::Paused, Some(UnitKind::Sync)))
    );
    assert!(!cancelled(&world));
    world.run(5 * SECOND);
    assert_eq!(
        world.at("a", "t"),
        Some((Stage::Running, Some(UnitKind::Sync)))
    );
    assert_eq!(world.subtask("a", "t").and_then(|it| it.result), None);
}

/// A master asks at once, and takes any error that it sees for a failure of the resume.
#[test]
fn b2_an_error_does_not_outlive_the_resume_that_follows_it() {
    let mut world = World::running("incremental");
    world.ends(Outcome::Failed(vec![super::error(36_008, "sequence")]));
    world.expect("a", "t", 2);
    world.learn();
    let resuming = world.subtask("a", "t").expect("there");
    assert_eq!((resuming.stage, resuming.result), (Stage::Resuming, None));
    world.ends(refused());
    let paused = world.subtask("a", "t").expect("there");
    assert_eq!(paused.result.expect("paused").errors[0].code, 10_001);
}

#[test]
fn b3_a_pause_is_not_overridden_by_auto_resume() {
    let mut world = World::running("incremental");
    world.ends(refused());
    world.expect("a", "t", 3);
    world.quiet();
    let result = world
        .subtask("a", "t")
        .and_then(|it| it.result)
        .expect("paused");
    let errors = vec![super::error(10_001, "connection refused")];
    assert_eq!(
        result,
        ProcessResult {
            is_canceled: true,
            errors
        }
    );
    world.take_effects();
    world.run(1200 * SECOND);
    let (source, task) = ("a".into(), "t".into());
    world.input(Input::Command(Command::Resume { source, task }));
    assert_eq!(world.starts(), 0);
    world.expect("a", "t", 2);
    world.quiet();
    assert_eq!(world.starts(), 1);
}

#[test]
fn b4_a_paused_task_does_not_start_by_itself() {
    for expect in [3, 4] {
        let mut world = World::begun();
        world.source("a", false);
        world.bind("a");
        world.task("a", "t", "all");
        world.expect("a", "t", expect);
        while !world
            .calls
            .iter()
            .any(|it| matches!(it.effect, Effect::Unit(_)))
        {
            world.step();
        }
        let probe = world.calls.len() - 1;
        world.answer(probe, refused());
        assert_eq!(world.at("a", "t"), Some((Stage::Paused, None)));
        world.run(1200 * SECOND);
        assert_eq!(world.starts(), 0);
        world.expect("a", "t", 2);
        world.run(SECOND);
        assert_eq!(
            world.at("a", "t"),
            Some((Stage::Running, Some(UnitKind::Dump)))
        );
    }
}

#[test]
fn b6_a_task_that_is_new_and_paused_has_its_configuration() {
    for (expect, stage) in [(3, Stage::Paused), (4, Stage::Stopped)] {
        let mut world = World::begun();
        world.source("a", false);
        world.bind("a");
        world.task("a", "t", "incremental");
        world.expect("a", "t", expect);
        world.run(SECOND);
        assert_eq!(world.at("a", "t"), Some((stage, Some(UnitKind::Sync))));
        assert_eq!(world.subtask("a", "t").and_then(|it| it.result), None);
        world.expect("a", "t", 2);
        world.run(SECOND);
        assert_eq!(
            world.at("a", "t"),
            Some((Stage::Running, Some(UnitKind::Sync)))
        );
    }
}

#[test]
fn b7_a_pause_while_a_unit_initialises_ends_in_paused() {
    let mut world = World::begun();
    world.quiet();
    world.source("a", false);
    world.bind("a");
    world.task("a", "t", "incremental");
    world.learn();
    world.expect("a", "t", 3);
    world.learn();
    assert_eq!(
        world.at("a", "t"),
        Some((Stage::Pausing, Some(UnitKind::Sync)))
    );
    world.ends(Outcome::Failed(vec![super::error(
        50_000,
        "context canceled",
    )]));
    assert_eq!(
        world.at("a", "t"),
        Some((Stage::Paused, Some(UnitKind::Sync)))
    );
    assert!(cancelled(&world));
    world.expect("a", "t", 2);
    world.learn();
    assert_eq!(
        world.at("a", "t"),
        Some((Stage::Resuming, Some(UnitKind::Sync)))
    );
    world.quiet();
    assert_eq!(
        world.at("a", "t"),
        Some((Stage::Running, Some(UnitKind::Sync)))
    );
}

#[test]
fn b8_a_pause_at_a_unit_switch_is_obeyed() {
    let mut world = World::running("all");
    world.expect("a", "t", 3);
    world.learn();
    world.take_effects();
    world.ends(Outcome::Ok(Reply::Finished));
    assert_eq!(world.starts(), 0);
    assert_eq!(
        world.at("a", "t"),
        Some((Stage::Paused, Some(UnitKind::Load)))
    );
    world.expect("a", "t", 2);
    world.quiet();
    assert_eq!(
        world.at("a", "t"),
        Some((Stage::Running, Some(UnitKind::Load)))
    );
}

#[test]
fn b9_what_never_ran_can_be_ended_at_any_time() {
    let mut world = World::begun();
    world.source("a", false);
    world.bind("a");
    world.task("a", "t", "incremental");
    world.expect("a", "t", 3);
    world.run(SECOND);
    world.freeze(60 * SECOND);
    world.run(5 * SECOND);
    assert_eq!(
        world.at("a", "t"),
        Some((Stage::Paused, Some(UnitKind::Sync)))
    );
    // Between the start and the first word of the unit.
    world.expect("a", "t", 2);
    world.learn();
    world.drop_task("a", "t");
    world.quiet();
    assert_eq!(world.at("a", "t"), None);
}

#[test]
fn b10_a_relay_switch_during_a_pause_rests_at_paused() {
    let mut world = World::running("incremental");
    world.expect("a", "t", 3);
    world.learn();
    assert_eq!(
        world.at("a", "t"),
        Some((Stage::Pausing, Some(UnitKind::Sync)))
    );
    world.relay(Some("a"));
    world.run(SECOND);
    assert_eq!(
        world.at("a", "t"),
        Some((Stage::Paused, Some(UnitKind::Sync)))
    );
    world.expect("a", "t", 2);
    world.run(SECOND);
    assert!(
        world
            .units
            .values()
            .any(|unit| unit.task == "t" && unit.use_relay)
    );
}

#[test]
fn c1_ending_a_source_does_not_wait_for_auto_resume() {
    let mut world = World::running("incremental");
    world.task("a", "u", "incremental");
    world.quiet();
    world.ends(refused());
    let live = world.live("a", "u").expect("live");
    world.end(live, refused());
    world.transfer("a");
    // The moment at which both would be resumed is the moment at which the news comes.
    world.deaf = true;
    world.run(5 * SECOND - Duration::from_millis(1));
    world.deaf = false;
    world.learn();
    assert!(world.view().sources.is_empty());
    world.run(60 * SECOND);
    assert!(world.units.is_empty());
}

#[test]
fn c2_any_number_of_relay_switches_leads_to_the_last_one() {
    let mut world = World::running("incremental");
    for index in 0..41 {
        world.relay((index % 2 == 0).then_some("a"));
        // Leases are granted slowly: news comes faster than they do.
        world.deliver_any();
    }
    world.run(SECOND);
    assert!(world.view().lease.expect("held").1.since(world.now) > 60 * SECOND);
    assert!(world.view().sources[0].relay.is_some());
}

#[test]
fn c4_a_pause_right_after_the_start_of_the_relay_stops_it() {
    let mut world = World::running("incremental");
    world.relay(Some("a"));
    world.relay_stage("a", Some(2));
    world.learn();
    let relay = world.live("a", "").expect("live");
    world.relay_stage("a", Some(3));
    world.learn();
    assert!(matches!(
        world.units[&relay].stop,
        Some(Stop::Graceful { .. })
    ));
    world.quiet();
    let relay = world.view().sources[0].relay.clone().expect("on");
    assert_eq!((relay.stage, relay.live), (Stage::Paused, None));
    assert_eq!(
        relay.result,
        Some(ProcessResult {
            is_canceled: true,
            errors: vec![]
        })
    );
}

#[test]
fn a_relay_ends_after_those_who_read_it() {
    let mut world = World::running("incremental");
    world.relay(Some("a"));
    world.relay_stage("a", Some(2));
    world.run(SECOND);
    let (relay, reader) = (world.live("a", ""), world.live("a", "t").expect("live"));
    let relay = relay.expect("live");
    assert!(world.units[&reader].use_relay);
    world.stubborn = true;
    world.relay(None);
    world.quiet();
    assert!(world.units[&reader].stop.is_some() && world.units[&relay].stop.is_none());
    world.stubborn = false;
    world.quiet();
    assert_eq!(world.live("a", ""), None);
    let reader = world.live("a", "t").expect("live");
    assert!(!world.units[&reader].use_relay);
}

/// Switched off while it waits to be tried again, and on again before it is gone.
#[test]
fn a_relay_that_was_about_to_end_is_tried_again() {
    let mut world = World::running("incremental");
    world.relay(Some("a"));
    world.relay_stage("a", Some(2));
    world.run(SECOND);
    let relay = world.live("a", "").expect("live");
    world.end(relay, refused());
    world.quiet();
    assert_eq!(world.live("a", ""), None);
    world.stubborn = true;
    world.relay(None);
    world.quiet();
    world.relay(Some("a"));
    world.quiet();
    world.stubborn = false;
    world.run(600 * SECOND);
    assert!(world.live("a", "").is_some(), "{:?}", world.view());
}

#[test]
fn c5_what_is_unbound_in_its_first_moments_does_not_come_alive_later() {
    let mut world = World::begun();
    world.quiet();
    world.source("a", false);
    world.task("a", "t", "all");
    world.bind("a");
    while !world
        .calls
        .iter()
        .any(|it| matches!(it.effect, Effect::Unit(UnitCall::Probe { .. })))
    {
        world.step();
    }
    let probe = world.calls.remove(0);
    world.transfer("a");
    world.quiet();
    assert!(world.view().sources.is_empty());
    let outcome = Outcome::Ok(Reply::Probed { fresh: false });
    world.input(Input::Done {
        ticket: probe.ticket,
        outcome,
    });
    world.run(600 * SECOND);
    assert_eq!(world.starts(), 0);
    assert_eq!(world.view().stale, 1);
}

#[test]
fn a_finished_task_stays_finished() {
    let mut world = World::running("full");
    world.ends(Outcome::Ok(Reply::Finished));
    world.ends(Outcome::Ok(Reply::Finished));
    let finished = Some((Stage::Finished, Some(UnitKind::Load)));
    assert_eq!(world.at("a", "t"), finished);
    assert_eq!(
        world.subtask("a", "t").and_then(|it| it.result),
        Some(ProcessResult::default())
    );
    for expect in [3, 2] {
        world.expect("a", "t", expect);
        world.run(SECOND);
        assert_eq!(world.at("a", "t"), finished);
    }
}

#[test]
fn an_error_that_lasts_waits_for_the_operator() {
    let mut world = World::running("incremental");
    let error = super::error(10_006, "execute").with_cause("Error 1062 (23000): Duplicate entry");
    world.ends(Outcome::Failed(vec![error]));
    world.run(1200 * SECOND);
    assert_eq!(
        world.at("a", "t"),
        Some((Stage::Paused, Some(UnitKind::Sync)))
    );
    let (source, task) = ("a".into(), "t".into());
    world.input(Input::Command(Command::Resume { source, task }));
    world.quiet();
    assert_eq!(
        world.at("a", "t"),
        Some((Stage::Running, Some(UnitKind::Sync)))
    );
    // So does the same value, put again.
    world.ends(Outcome::Failed(vec![super::error(36_008, "sequence")]));
    world.expect("a", "t", 2);
    world.quiet();
    assert_eq!(
        world.at("a", "t"),
        Some((Stage::Running, Some(UnitKind::Sync)))
    );
}

/// Batch sizes of the starts since the last look.
fn batches(world: &mut World) -> vec::Vec<i64> {
    let effects = world.take_effects().into_iter();
    let batches = effects.filter_map(|effect| match effect {
        Effect::Unit(UnitCall::Start(Start::Subtask { job, .. })) => Some(job.task.sync.batch),
        _ => None,
    });
    batches.collect()
}

#[test]
fn a_configuration_put_between_pause_and_resume_is_not_missed() {
    // The unit needs all the time that it is given, or everything is seen in one snapshot.
    for stubborn in [true, false] {
        let mut world = World::running("incremental");
        world.take_effects();
        world.stubborn = stubborn;
        world.expect("a", "t", 3);
        if stubborn {
            world.quiet();
        }
        let value = subtask_value("a", "t", "incremental", 7);
        world.store.write(&[(&subtask("a", "t"), Some(&value))]);
        world.expect("a", "t", 2);
        world.quiet();
        world.stubborn = false;
        world.run(60 * SECOND);
        assert_eq!(batches(&mut world), [7]);
        assert_eq!(
            world.at("a", "t"),
            Some((Stage::Running, Some(UnitKind::Sync)))
        );
    }
}

#[test]
fn an_automatic_resume_goes_on_as_it_was() {
    let mut world = World::running("incremental");
    world.expect("a", "t", 2);
    world.run(SECOND);
    let value = subtask_value("a", "t", "incremental", 7);
    world.store.write(&[(&subtask("a", "t"), Some(&value))]);
    world.run(SECOND);
    world.take_effects();
    world.ends(refused());
    world.run(60 * SECOND);
    assert_eq!(batches(&mut world), [100]);
}

#[test]
fn a_newer_configuration_is_taken_over_at_a_resume_if_it_may() {
    let mut world = World::running("incremental");
    let value = subtask_value("a", "t", "incremental", 7);
    world.store.write(&[(&subtask("a", "t"), Some(&value))]);
    world.run(SECOND);
    assert_eq!(
        world.subtask("a", "t").expect("there").stage,
        Stage::Running
    );
    world.take_effects();
    world.expect("a", "t", 3);
    world.run(SECOND);
    world.expect("a", "t", 2);
    world.run(SECOND);
    assert_eq!(batches(&mut world), [7]);
    assert_eq!(world.subtask("a", "t").and_then(|it| it.refused), None);

    // Another target is another task: it goes on as it was, and says so.
    world.expect("a", "t", 3);
    world.run(SECOND);
    let value = value + "[to]\nhost = \"elsewhere\"\n";
    let stage_value = stage_value("a", "t", 2);
    world.store.write(&[
        (&subtask("a", "t"), Some(&value)),
        (&stage("a", "t"), Some(&stage_value)),
    ]);
    world.run(SECOND);
    assert_eq!(
        world.at("a", "t"),
        Some((Stage::Running, Some(UnitKind::Sync)))
    );
    let refused = world
        .subtask("a", "t")
        .and_then(|it| it.refused)
        .expect("refused");
    assert_eq!(refused.code, 40_081);
}
