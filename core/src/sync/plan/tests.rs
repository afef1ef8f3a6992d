//! The planner against a model: whatever happens, the target ends up as the source is.

mod cases;
mod model;
mod speed;
mod world;

use proptest::{prelude::*, test_runner::TestRunner};

use super::*;
use crate::guard;

const ALL: core::ops::Range<u8> = 0..4;

/// Progress of all slots at one location, as a target makes it.
fn fresh(slots: u32, location: &Location) -> Vec<SlotProgress> {
    let row = |slot| SlotProgress {
        slot,
        seq: 0,
        applied: Applied::at(location.clone()),
    };
    (0..slots).map(row).collect()
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(2000))]

    #[test]
    fn the_target_ends_up_as_the_source_is(plan in world::plans(ALL, 1..5)) {
        prop_assert_eq!(world::run(&plan, false), Ok(()));
    }

    #[test]
    fn one_table_with_few_keys(plan in world::plans(0..1, 2..5)) {
        prop_assert_eq!(world::run(&plan, false), Ok(()));
    }

    /// The existing worker's checkpoint is enough for tables with keys.
    #[test]
    fn safe_mode_repairs_a_window_without_progress(plan in world::plans(0..2, 1..4)) {
        prop_assert_eq!(world::run(&plan, true), Ok(()));
    }
}

/// Without a guard, the test above must fail: else it proves nothing.
fn must_be_noticed(guard: Guard, tables: core::ops::Range<u8>, slots: core::ops::Range<u32>) {
    assert!(is_noticed(guard, tables, slots), "nobody misses {guard:?}");
}

fn is_noticed(guard: Guard, tables: core::ops::Range<u8>, slots: core::ops::Range<u32>) -> bool {
    let mut config = ProptestConfig::with_cases(3000);
    config.failure_persistence = None;
    config.max_shrink_iters = 0;
    let mut runner = TestRunner::new_with_rng(
        config,
        proptest::test_runner::TestRng::deterministic_rng(
            proptest::test_runner::RngAlgorithm::ChaCha,
        ),
    );
    let _without = guard::without(Some(guard));
    // Where there is progress, nobody goes on from the checkpoint.
    let forgets_progress = guard == Guard::Watermark;
    let found = runner.run(&world::plans(tables, slots), |plan| {
        prop_assert_eq!(world::run(&plan, forgets_progress), Ok(()));
        Ok(())
    });
    found.is_err()
}

#[test]
fn a_missing_wait_is_noticed() {
    must_be_noticed(Guard::ConflictWait, 0..1, 2..5);
}

#[test]
fn a_missing_replay_skip_is_noticed() {
    must_be_noticed(Guard::ReplaySkip, 2..3, 1..4);
    must_be_noticed(Guard::ReplaySkip, 0..1, 2..4);
}

#[test]
fn a_missing_group_split_is_noticed() {
    must_be_noticed(Guard::KeyGroups, 0..1, 1..3);
}

#[test]
fn a_batch_waited_for_but_not_closed_is_noticed() {
    must_be_noticed(Guard::ConflictClose, 0..1, 2..5);
}

#[test]
fn a_split_transaction_is_noticed() {
    must_be_noticed(Guard::WholeTransactions, 0..1, 1..2);
}

#[test]
fn a_checkpoint_ahead_of_a_slot_is_noticed() {
    must_be_noticed(Guard::Watermark, 0..2, 1..4);
}

#[test]
fn other_missing_guards_are_noticed() {
    let mut missed = [
        Guard::ConflictApplied,
        Guard::EveryKey,
        Guard::BothImages,
        Guard::ReplayEnd,
        Guard::LowestStart,
        Guard::RowCount,
        Guard::SlotByKey,
        Guard::KeylessSlot,
        Guard::JoinOrder,
        Guard::JoinBefore,
        Guard::IdleSlots,
        Guard::ResizeAfterReplay,
        Guard::BarrierSteps,
    ]
    .to_vec();
    missed.retain(|guard| !is_noticed(*guard, ALL, 1..5));
    assert!(missed.is_empty(), "nobody misses {missed:?}");
}
