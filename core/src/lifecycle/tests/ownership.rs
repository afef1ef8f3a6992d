//! Hazards A: who may work, and until when. Named after the list in the module's docs.

use std::{format, time::Duration, vec, vec::Vec};

use super::{
    operator::announcement,
    world::{World, but_renewals},
};
use crate::{
    lifecycle::{
        Command, ControlCall, Effect, Era, Fence, Input, Outcome, Reply, Start, Stop, UnitCall,
    },
    status::{Stage, UnitKind},
};

/// The fences under which units started since the last look.
fn fences(world: &mut World) -> Vec<Fence> {
    let effects = world.take_effects().into_iter();
    let fences = effects.filter_map(|effect| match effect {
        Effect::Unit(UnitCall::Start(Start::Subtask { fence, .. })) => Some(fence),
        _ => None,
    });
    fences.collect()
}

fn is_control(effect: &Effect, which: fn(&ControlCall) -> bool) -> bool {
    matches!(effect, Effect::Control(call) if which(call))
}

#[test]
fn a1_every_start_carries_a_fence_above_all_earlier_owners() {
    let mut world = World::running("incremental");
    let first = fences(&mut world);
    world.transfer("a");
    world.quiet();
    let rival = world.rivals["a"];
    world.bind("a");
    world.quiet();
    let second = fences(&mut world);
    assert!(first[0] < rival && rival < second[0]);
    // A tenure that ends and begins again with the same binding is another ownership, too.
    world.freeze(Duration::from_secs(60));
    world.run(Duration::from_secs(5));
    let third = fences(&mut world);
    assert!(second[0] < third[0], "{second:?} {third:?}");
}

/// A master never does that, but whoever writes the key by hand may.
#[test]
fn a1_a_source_in_place_of_another_has_a_fence_of_its_own() {
    let mut world = World::running("incremental");
    world.source("b", false);
    world.task("b", "u", "incremental");
    world.bind("b");
    world.quiet();
    world.take_effects();
    let rival = world.rivals["a"];
    for deaf in [false, true] {
        world.freeze(Duration::from_secs(if deaf { 60 } else { 0 }));
        world.bind("a");
        world.run(Duration::from_secs(5));
        assert!(fences(&mut world).iter().all(|fence| *fence > rival));
        world.bind("b");
        world.run(Duration::from_secs(5));
        world.take_effects();
    }
}

#[test]
fn a1_a_key_that_was_put_again_before_it_was_read_orders_by_that() {
    let mut world = World::begun();
    world.source("a", false);
    world.source("b", false);
    world.task("a", "t", "incremental");
    world.bind("b");
    // Announced, but nothing is read yet.
    world.complete(0);
    world.complete(0);
    assert!(world.view().online && world.view().revision == 0);
    world.rivals.insert("a".into(), Fence(world.store.revision));
    world.bind("a");
    world.quiet();
    let fences = fences(&mut world);
    assert!(fences.len() == 1 && fences[0] > world.rivals["a"]);
}

#[test]
fn a1_away_and_back_between_two_looks_is_another_ownership() {
    let mut world = World::running("incremental");
    let first = fences(&mut world);
    world.transfer("a");
    world.bind("a");
    world.quiet();
    let second = fences(&mut world);
    assert!(second.len() == 1 && second[0] > first[0]);
    assert!(second[0] > world.rivals["a"]);
}

#[test]
fn a1_the_same_binding_put_again_is_the_same_ownership() {
    let mut world = World::running("incremental");
    world.take_effects();
    for _ in 0..3 {
        world.bind("a");
        world.run(Duration::from_secs(1));
    }
    let reads = |effect: &Effect| is_control(effect, |it| matches!(it, ControlCall::Read { .. }));
    let effects = but_renewals(world.take_effects());
    assert!(effects.iter().all(reads), "{effects:?}");
}

#[test]
fn a2_work_ends_before_the_lease_is_given_up() {
    let mut world = World::running("incremental");
    let deadline = world.view().lease.expect("held").1;
    world.take_effects();
    // Nothing gets through any more, in either direction.
    world.pass(deadline.since(world.now) - Duration::from_millis(1));
    assert_eq!(world.units.len(), 1);
    world.take_effects();
    world.pass(Duration::from_millis(1));
    assert_eq!(world.take_effects(), [Effect::Cancel(Era(0))]);
    assert!(!world.view().online);
    // The store still believes in the lease, so nobody else has the source yet.
    assert!(world.store.holds(&announcement()));
    world.pass(Duration::from_secs(1));
    assert_eq!(
        world.take_effects(),
        [],
        "given up before the work has ended"
    );
    let cancel = world
        .calls
        .iter()
        .position(|call| !call.orphan)
        .expect("asked");
    world.complete(cancel);
    assert_eq!(
        world.take_effects(),
        [Effect::Control(ControlCall::Revoke { lease: 1 })]
    );
}

/// Counted from the sending, not from the answer.
#[test]
fn a2_the_lease_runs_from_the_send_time_of_the_last_acknowledged_renewal() {
    let mut world = World::running("incremental");
    let before = world.view().lease.expect("held").1;
    world.take_effects();
    world.pass(Duration::from_secs(4));
    let sent = world.calls.iter().position(|call| {
        is_control(&call.effect, |call| {
            matches!(call, ControlCall::Renew { .. })
        })
    });
    world.complete(sent.expect("sent"));
    let after = world.view().lease.expect("held").1;
    // Sent a sixth of the time to live after the grant, though answered later.
    assert_eq!(after.since(before), Duration::from_secs(10) / 6);
}

#[test]
fn a3_failing_reads_do_not_end_the_tenure() {
    let mut world = World::running("incremental");
    let live = world.live("a", "t");
    world.take_effects();
    world.failing_reads = true;
    world.expect("a", "t", 3);
    world.run(Duration::from_secs(120));
    assert_eq!(world.live("a", "t"), live);
    let effects = world.take_effects();
    let leaves = |call: &ControlCall| matches!(call, ControlCall::Revoke { .. });
    assert!(!effects.iter().any(|effect| is_control(effect, leaves)));
    world.failing_reads = false;
    world.run(Duration::from_secs(1));
    assert_eq!(
        world.at("a", "t"),
        Some((Stage::Paused, Some(UnitKind::Sync)))
    );
}

#[test]
fn a4_the_end_of_a_tenure_waits_for_nothing() {
    let mut world = World::running("incremental");
    // One more is looking for its unit, and does not get an answer.
    world.task("a", "u", "all");
    while !world
        .calls
        .iter()
        .any(|it| matches!(it.effect, Effect::Unit(UnitCall::Probe { .. })))
    {
        world.step();
    }
    world.take_effects();
    let deadline = world.view().lease.expect("held").1;
    world.pass(deadline.since(world.now));
    let effects = but_renewals(world.take_effects());
    assert_eq!(effects, [Effect::Cancel(Era(0))]);
    assert!(world.units.values().all(|unit| unit.cancelled));
}

#[test]
fn a5_all_subtasks_are_told_to_stop_at_once() {
    let mut world = World::running("incremental");
    world.task("a", "u", "incremental");
    world.task("a", "v", "incremental");
    world.quiet();
    world.transfer("a");
    world.stubborn = true;
    world.quiet();
    assert_eq!(world.units.len(), 3);
    let limit = Duration::from_secs(10);
    assert!(
        world
            .units
            .values()
            .all(|unit| unit.stop == Some(Stop::Graceful { limit }))
    );
    // What they still try to write is refused under the fence of the next owner.
    world.run(limit);
    assert!(world.units.is_empty());
}

#[test]
fn a5_a_refusal_of_what_is_draining_concerns_nobody_else() {
    let mut world = World::running("incremental");
    world.source("b", false);
    world.task("b", "u", "incremental");
    world.stubborn = true;
    world.transfer("a");
    world.quiet();
    world.bind("b");
    world.quiet();
    let (old, new) = (world.live("a", "t"), world.live("b", "u").expect("live"));
    world.take_effects();
    let refusal = super::error(36_901, "a newer owner");
    world.end(old.expect("draining"), Outcome::Fenced(refusal.clone()));
    assert_eq!(but_renewals(world.take_effects()), []);
    assert!(world.view().online && !world.units[&new].cancelled);
    assert_eq!(world.view().sources.len(), 1);
    // Away and back: the old unit's end is the beginning of the next, under the next fence.
    world.transfer("b");
    world.bind("b");
    world.quiet();
    world.take_effects();
    world.end(new, Outcome::Fenced(refusal));
    assert_eq!(fences(&mut world).len(), 1);
    world.quiet();
    assert!(world.view().online);
    assert_eq!(
        world.at("b", "u"),
        Some((Stage::Running, Some(UnitKind::Sync)))
    );
}

#[test]
fn a6_a_binding_that_is_over_is_not_obeyed() {
    let mut world = World::begun();
    world.quiet();
    world.source("a", false);
    world.task("a", "t", "incremental");
    world.quiet();
    world.take_effects();
    world.bind("a");
    world.transfer("a");
    world.run(Duration::from_secs(60));
    assert_eq!(fences(&mut world), []);
}

#[test]
fn a7_history_is_not_replayed() {
    let mut world = World::running("incremental");
    world.transfer("a");
    world.bind("a");
    world.transfer("a");
    world.quiet();
    world.take_effects();
    world.end_watch(0, Outcome::Failed(vec![super::error(1, "closed")]));
    world.freeze(Duration::from_secs(60));
    world.run(Duration::from_secs(60));
    assert_eq!(fences(&mut world), []);
    assert!(world.view().online && world.view().sources.is_empty());
}

#[test]
fn a8_nothing_is_even_read_before_the_announcement() {
    let mut world = World::begun();
    world.source("a", false);
    world.bind("a");
    world.task("a", "t", "incremental");
    let asked = world.take_effects();
    assert_eq!(
        asked,
        [Effect::Control(ControlCall::Grant {
            ttl: Duration::from_secs(10)
        })]
    );
    world.complete(0);
    let asked = world.take_effects();
    let announces = |call: &ControlCall| matches!(call, ControlCall::Announce { held_by: 0, .. });
    assert!(asked.len() == 1 && is_control(&asked[0], announces));
    // The control store does not answer for a while.
    world.pass(Duration::from_secs(5));
    assert_eq!(but_renewals(world.take_effects()), []);
    world.quiet();
    assert_eq!(fences(&mut world).len(), 1);
}

#[test]
fn a9_a_new_process_takes_its_name_over_at_once() {
    let mut world = World::begun();
    world.source("a", false);
    world.bind("a");
    world.task("a", "t", "incremental");
    world.store.seize(world.now, &announcement());
    let old = world.store.revision;
    world.quiet();
    assert!(world.view().online && world.units.len() == 1);
    // Should the other one still be at work, it is refused from now on.
    assert!(fences(&mut world).iter().all(|fence| fence.0 > old));
}

#[test]
fn a9_whoever_lost_the_name_waits_for_it_with_the_same_lease() {
    let mut world = World::running("incremental");
    world.store.seize(world.now, &announcement());
    world.run(Duration::from_secs(5));
    world.take_effects();
    world.run(Duration::from_secs(24));
    assert!(!world.view().online && world.units.is_empty());
    world.run(Duration::from_secs(3));
    assert!(world.view().online && world.units.len() == 1);
    let grants = |call: &ControlCall| matches!(call, ControlCall::Grant { .. });
    let effects = world.take_effects();
    assert!(!effects.iter().any(|effect| is_control(effect, grants)));
}

#[test]
fn a9_a_name_that_is_taken_by_force_ends_the_work() {
    let mut world = World::running("incremental");
    world.store.seize(world.now, &announcement());
    world.quiet();
    assert!(!world.view().online && world.units.is_empty());
    assert!(
        world
            .view()
            .lost
            .expect("lost")
            .message
            .contains("under the name of this worker")
    );
}

#[test]
fn a10_a_deaf_watch_is_made_up_for() {
    let mut world = World::running("incremental");
    world.deaf = true;
    world.transfer("a");
    world.run(Duration::from_secs(31));
    assert!(world.units.is_empty());
}

#[test]
fn a11_an_unknown_announcement_is_read_back_under_the_same_lease() {
    let mut world = World::begun();
    world.complete(0);
    world.execute(0);
    world.answer(0, Outcome::Unknown(super::error(1, "timeout")));
    assert!(!world.view().online);
    world.run(Duration::from_secs(2));
    assert!(world.view().online);
    assert_eq!(world.view().lease.expect("held").0, 1);
}

#[test]
fn a11_a_failed_switch_leaves_no_lease_behind() {
    let mut world = World::running("incremental");
    world.relay(Some("a"));
    while !world.calls.iter().any(|call| {
        is_control(&call.effect, |call| {
            matches!(call, ControlCall::Announce { lease: 2, .. })
        })
    }) {
        world.step();
    }
    // It is put, but nobody hears of it, and then nothing gets through until all is over.
    world.execute(world.calls.len() - 1);
    world.pass(Duration::from_secs(30));
    world.take_effects();
    let cancel = world
        .calls
        .iter()
        .position(|call| matches!(call.effect, Effect::Cancel(_)));
    world.complete(cancel.expect("asked"));
    let revoke = |lease| Effect::Control(ControlCall::Revoke { lease });
    assert_eq!(world.take_effects(), [revoke(1), revoke(2)]);
}

#[test]
fn a11_an_announcement_under_a_lease_of_our_own_is_no_obstacle() {
    let mut world = World::running("incremental");
    world.relay(Some("a"));
    let switches = |call: &ControlCall| matches!(call, ControlCall::Announce { lease: 2, .. });
    while !world
        .calls
        .iter()
        .any(|it| is_control(&it.effect, switches))
    {
        world.step();
    }
    // It is put under the long lease, but nobody hears of it; nor of the end of the tenure.
    world.execute(world.calls.len() - 1);
    world.pass(Duration::from_secs(9));
    let ends = |call: &super::world::Call| matches!(call.effect, Effect::Cancel(_));
    let cancel = world.calls.iter().position(ends).expect("asked");
    world.complete(cancel);
    let revokes = |call: &ControlCall| matches!(call, ControlCall::Revoke { .. });
    let lost = |call: &super::world::Call| !call.orphan && is_control(&call.effect, revokes);
    while let Some(index) = world.calls.iter().position(lost) {
        world.answer(index, Outcome::Unknown(super::error(1, "timeout")));
    }
    world.calls.clear();
    world.run(Duration::from_secs(10));
    assert!(world.view().online);
    assert!(!world.store.is_alive(2), "what is owed is given up");
}

#[test]
fn a12_the_long_lease_ends_with_the_relay() {
    let mut world = World::running("incremental");
    world.relay(Some("a"));
    world.relay_stage("a", Some(2));
    world.run(Duration::from_secs(1));
    let long = world.view().lease.expect("held").1;
    assert!(long.since(world.now) > Duration::from_secs(80));
    world.relay(None);
    world.run(Duration::from_secs(1));
    let short = world.view().lease.expect("held").1;
    assert!(short.since(world.now) < Duration::from_secs(10));
    // The announcement was there all the time, under the one or the other.
    let announced = world.store.get(&announcement()).expect("there");
    assert_eq!(announced.create_revision, 1);
    // With relay by source config a crash is noticed as fast as ever.
    world.source("a", true);
    world.run(Duration::from_secs(40));
    assert!(world.live("a", "").is_some());
    assert!(world.view().lease.expect("held").1.since(world.now) < Duration::from_secs(10));
}

#[test]
fn a_fenced_unit_ends_the_tenure() {
    let mut world = World::running("incremental");
    world.task("a", "u", "incremental");
    world.quiet();
    world.take_effects();
    let live = world.live("a", "t").expect("live");
    world.end(live, Outcome::Fenced(super::error(2, "a newer owner")));
    assert_eq!(world.take_effects(), [Effect::Cancel(Era(0))]);
    assert!(world.units.values().all(|unit| unit.cancelled));
    assert_eq!(world.view().lost.expect("lost").message, "a newer owner");
    world.run(Duration::from_secs(5));
    assert_eq!(
        world.units.len(),
        2,
        "the store still says that the source is ours"
    );
}

/// The control store begins anew at low revisions, and with it the fences.
#[test]
fn a_target_that_knows_a_higher_fence_than_the_store_pauses_its_tasks_alone() {
    let mut world = World::running("incremental");
    world.task("a", "u", "incremental");
    world.task("a", "v", "incremental");
    world.quiet();
    let refuse = |world: &mut World, task: &str| {
        let live = world.live("a", task).expect("live");
        let text = "fence 5 is not the owner's, fence 2000 is";
        world.end(live, Outcome::Fenced(super::error(36_901, text)));
    };
    refuse(&mut world, "t");
    // A master sees the worker go and come.
    world.transfer("a");
    world.bind("a");
    world.run(Duration::from_secs(5));
    let healthy = world.live("a", "u");
    world.take_effects();
    for task in ["t", "v"] {
        refuse(&mut world, task);
        world.run(Duration::from_secs(600));
        let paused = world.subtask("a", task).expect("there");
        let [error] = &*paused.result.expect("paused").errors else {
            panic!("one error");
        };
        assert!(paused.stage == Stage::Paused && error.code == 36_901);
        assert!(error.message.contains("fence 2000"), "{error}");
        let table = format!(
            "`fence` to 0 in all rows of the source in its table `dm_meta`.`{task}_progress`"
        );
        assert!(error.workaround.contains(&table), "{error}");
    }
    assert_eq!(world.live("a", "u"), healthy);
    let leaves = |call: &ControlCall| matches!(call, ControlCall::Revoke { .. });
    let effects = world.take_effects();
    assert!(!effects.iter().any(|effect| is_control(effect, leaves)));
    // Resumed too early it pauses again; then the operator is right.
    for _ in 0..2 {
        world.expect("a", "t", 2);
        world.quiet();
        assert_eq!(world.at("a", "t").expect("there").0, Stage::Running);
        refuse(&mut world, "t");
        assert_eq!(world.at("a", "t").expect("there").0, Stage::Paused);
    }
    // Another ownership, with another fence, is another chance.
    world.transfer("a");
    world.bind("a");
    world.quiet();
    assert_eq!(world.at("a", "t").expect("there").0, Stage::Running);
}

#[test]
fn what_belongs_to_an_older_era_is_counted_and_dropped() {
    let mut world = World::running("incremental");
    let live = world.live("a", "t").expect("live");
    world.freeze(Duration::from_secs(60));
    let before = world.view();
    for outcome in [
        Outcome::Ok(Reply::Finished),
        Outcome::Fenced(super::error(2, "late")),
    ] {
        world.input(Input::Done {
            ticket: live,
            outcome,
        });
    }
    let after = world.view();
    assert_eq!(after.stale, before.stale + 2);
    assert_eq!(
        after,
        super::super::View {
            stale: after.stale,
            ..before
        }
    );
}

#[test]
fn a_stop_ends_the_work_and_then_the_lease() {
    let mut world = World::running("incremental");
    world.stubborn = true;
    world.input(Input::Command(Command::Stop));
    world.take_effects();
    world.run(Duration::from_secs(5));
    assert!(!world.worker.is_over() && world.view().online);
    // Asked twice, it does not wait for transaction boundaries.
    world.input(Input::Command(Command::Stop));
    world.quiet();
    assert!(world.worker.is_over() && world.units.is_empty());
    assert!(!world.store.holds(&announcement()));
    assert_eq!(world.worker.poll_timeout(), None);
}
