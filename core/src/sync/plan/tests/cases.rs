//! Single decisions of the planner, one by one.

use alloc::{format, string::String, vec, vec::Vec};
use core::time::Duration;

use super::*;
use crate::{
    binlog::{Dialect, Flavor, Gtid, GtidSet, Position},
    error::{Error, code},
    sync::{
        batch::{Batch, Op},
        testing::{Fixture, Row, column, int, label, unique},
    },
};

/// A change: the row before and the row after.
type Change = (Option<Row>, Option<Row>);

struct Case {
    planner: Planner,
    table: Fixture,
    txns: u64,
}

/// `id`, a unique `u` (0 is NULL), and `v`.
fn row(id: i32, u: i32, v: i32) -> Row {
    let u = if u == 0 { None } else { int(u) };
    vec![int(id), u, int(v)]
}

fn table() -> Fixture {
    let columns = vec![
        column("id", false, None),
        column("u", true, None),
        column("v", true, None),
    ];
    let keys = vec![unique("PRIMARY", &[Some(0)]), unique("u", &[Some(1)])];
    Fixture::new("t", columns, keys)
}

fn insert(row: Row) -> Change {
    (None, Some(row))
}

fn update(before: Row, after: Row) -> Change {
    (Some(before), Some(after))
}

fn delete(row: Row) -> Change {
    (Some(row), None)
}

fn config(slots: u32) -> PlannerConfig {
    PlannerConfig {
        slots,
        batch_rows_max: 100,
        batch_bytes_max: 1 << 20,
        packet_bytes_max: 1 << 20,
        memory_bytes_max: 1 << 20,
        linger: Duration::from_millis(5),
        by_gtid: false,
    }
}

const LATER: Instant = Instant(Duration::from_millis(5));

impl Case {
    fn new(slots: u32) -> Self {
        Self::with(table(), config(slots))
    }

    fn with(table: Fixture, config: PlannerConfig) -> Self {
        let start = Location {
            position: Position::new("b.000001", 4),
            gtids: None,
        };
        let progress = fresh(config.slots, &start);
        Self {
            planner: Planner::new(config, progress),
            table,
            txns: 0,
        }
    }

    fn begin(&mut self, safe: bool) {
        self.txns += 1;
        let id = txn(self.txns);
        self.planner.begin(Instant::START, id, safe).unwrap();
    }

    fn rows(&mut self, changes: Vec<Change>) {
        for (before, after) in changes {
            let change = self.table.change(before.as_ref(), after.as_ref());
            self.planner.row(&self.table.plan, change).unwrap();
        }
    }

    fn commit(&mut self) {
        self.planner
            .commit(Position::new("b.000001", 100 * self.txns + 100));
    }

    fn txn(&mut self, changes: Vec<Change>) {
        self.begin(false);
        self.rows(changes);
        self.commit();
    }

    /// The slots of rows with these keys.
    fn slots_of(&self, ids: core::ops::Range<i32>) -> Vec<u32> {
        let slots = u64::from(self.planner.slots());
        let slot = |id| {
            let change = self.table.change(None, Some(&row(id, 0, 0)));
            let mut hashes = Vec::new();
            self.table
                .plan
                .hash_keys(&change, &mut Vec::new(), &mut hashes);
            (hashes[0] % slots) as u32
        };
        ids.map(slot).collect()
    }

    fn poll(&mut self) -> Option<Arc<Batch>> {
        self.planner.poll_batch(LATER)
    }

    /// The next batch's operations with the number of rows.
    fn ops(&mut self) -> Vec<(Op, usize)> {
        let batch = self.poll().unwrap();
        ops(&batch)
    }
}

fn ops(batch: &Batch) -> Vec<(Op, usize)> {
    batch
        .segments
        .iter()
        .map(|segment| (segment.op, segment.rows.len()))
        .collect()
}

fn txn(number: u64) -> TxnId {
    TxnId {
        start: Position::new("b.000001", 100 * number),
        gtid: None,
    }
}

#[test]
fn changes_of_a_row_become_one() {
    let (a, b, c) = (row(1, 0, 1), row(1, 0, 2), row(1, 0, 3));
    let joined = |changes| {
        let mut case = Case::new(1);
        case.txn(changes);
        case.ops()
    };
    let (a1, b1) = (a.clone(), b.clone());
    assert_eq!(
        joined(vec![insert(a1), update(a.clone(), b1)]),
        [(Op::Insert, 1)]
    );
    let two = vec![update(a.clone(), b.clone()), update(b.clone(), c.clone())];
    assert_eq!(joined(two), [(Op::Upsert, 1)]);
    assert_eq!(joined(vec![insert(a.clone()), delete(a.clone())]), []);
    assert_eq!(
        joined(vec![delete(a.clone()), insert(b.clone())]),
        [(Op::Upsert, 1)]
    );
    assert_eq!(
        joined(vec![update(a.clone(), b.clone()), delete(b)]),
        [(Op::Delete, 1)]
    );
    // Another key is another row.
    let moved = vec![insert(a.clone()), update(a, row(2, 0, 1))];
    assert_eq!(joined(moved), [(Op::Insert, 1), (Op::Update, 1)]);
}

#[test]
fn what_cancels_out_moves_the_progress_all_the_same() {
    let mut case = Case::new(1);
    case.txn(vec![insert(row(1, 0, 0)), delete(row(1, 0, 0))]);
    let batch = case.poll().unwrap();
    assert_eq!((batch.segments.len(), batch.rows), (0, 2));
    assert_eq!(
        batch.applied.boundary.position,
        Position::new("b.000001", 200)
    );
}

#[test]
fn columns_of_the_target_alone_get_their_defaults_again() {
    let columns = vec![column("id", false, None), column("extra", true, None)];
    let keys = vec![unique("PRIMARY", &[Some(0)])];
    let table = Fixture::with_extra("t", columns, keys, 1, Dialect::MySql);
    let mut case = Case::with(table, config(1));
    let (a, b) = (vec![int(1)], vec![int(2)]);
    case.txn(vec![delete(a.clone()), insert(a), update(b.clone(), b)]);
    assert_eq!(case.ops(), [(Op::Replace, 1), (Op::Update, 1)]);
}

#[test]
fn a_unique_value_is_handed_over_in_order() {
    let mut case = Case::new(1);
    case.txn(vec![
        update(row(1, 1, 0), row(1, 2, 0)),
        insert(row(2, 1, 0)),
        // Joins the first: it takes nothing that the second has left.
        update(row(1, 2, 0), row(1, 3, 0)),
        insert(row(3, 9, 0)),
    ]);
    assert_eq!(
        case.ops(),
        [(Op::Insert, 1), (Op::Upsert, 1), (Op::Insert, 1)]
    );
    let mut case = Case::new(1);
    case.txn(vec![
        update(row(1, 1, 0), row(1, 2, 0)),
        update(row(2, 3, 0), row(2, 1, 0)),
        // Can't join the first: it takes what the second leaves.
        update(row(1, 2, 0), row(1, 3, 0)),
    ]);
    assert_eq!(
        case.ops(),
        [(Op::Upsert, 1), (Op::Upsert, 1), (Op::Upsert, 1)]
    );
}

#[test]
fn a_conflict_waits_for_its_batch_and_nothing_else() {
    let mut case = Case::new(4);
    let slots = case.slots_of(0..50);
    // Three rows of three slots; the second takes over the unique value of the first.
    let other = |not: &[u32]| slots.iter().position(|slot| !not.contains(slot)).unwrap();
    let b = other(&slots[..1]);
    let c = other(&[slots[0], slots[b]]);
    case.txn(vec![
        delete(row(0, 7, 0)),
        insert(row(b as i32, 7, 0)),
        insert(row(c as i32, 8, 0)),
    ]);
    let out: Vec<_> = core::iter::from_fn(|| case.poll())
        .map(|batch| batch.slot)
        .collect();
    assert!(
        out.contains(&slots[0]) && out.contains(&slots[c]) && out.len() == 2,
        "{out:?}"
    );
    case.planner.done(slots[c], Outcome::Applied);
    assert!(case.poll().is_none());
    case.planner.done(slots[0], Outcome::Applied);
    assert_eq!(case.poll().unwrap().slot, slots[b]);
    case.planner.done(slots[b], Outcome::Applied);
    assert!(case.planner.drained());
    assert_eq!(case.planner.free_bytes(), 1 << 20);
}

#[test]
fn a_failed_batch_is_the_next_of_its_slot() {
    let mut case = Case::new(1);
    case.txn(vec![insert(row(1, 0, 0))]);
    let batch = case.poll().unwrap();
    case.planner.done(0, Outcome::Failed);
    case.txn(vec![insert(row(2, 0, 0))]);
    assert!(case.poll().is_none());
    case.planner.retry(0);
    assert!(Arc::ptr_eq(&batch, &case.poll().unwrap()));
    case.planner.done(0, Outcome::Unknown);
    assert!(case.poll().is_none());
    assert_eq!(case.planner.resolved(0, 0), Outcome::Failed);
    case.planner.retry(0);
    case.poll().unwrap();
    case.planner.done(0, Outcome::Unknown);
    assert_eq!(case.planner.resolved(0, 1), Outcome::Applied);
    assert_eq!(case.poll().unwrap().seq, 1);
    assert_eq!(case.planner.resolved(0, 9), Outcome::Moved);
    case.txn(vec![insert(row(3, 0, 0))]);
    assert!(case.poll().is_none() && case.planner.poll_timeout().is_none());
}

#[test]
fn alone_means_behind_everything_and_with_nothing() {
    let mut case = Case::new(2);
    let slots = case.slots_of(0..50);
    let b = slots.iter().position(|slot| *slot != slots[0]).unwrap() as i32;
    case.txn(vec![insert(row(0, 0, 0)), insert(row(b, 0, 0))]);
    let (first, second) = (case.poll().unwrap(), case.poll().unwrap());
    case.planner.done(second.slot, Outcome::Failed);
    // This one comes later and has to wait, the next is a part of what is drained.
    case.txn(vec![insert(row(b + 100, 0, 0))]);
    case.planner.retry_alone(second.slot);
    assert!(case.poll().is_none());
    case.txn((200..220).map(|id| insert(row(id, 0, 0))).collect());
    case.planner.done(first.slot, Outcome::Applied);
    let mut batch = case.poll().unwrap();
    if batch.slot == first.slot {
        assert!(case.poll().is_none());
        case.planner.done(first.slot, Outcome::Applied);
        batch = case.poll().unwrap();
    }
    assert!(Arc::ptr_eq(&batch, &second));
    assert!(case.poll().is_none());
    case.planner.done(second.slot, Outcome::Applied);
    assert_eq!(core::iter::from_fn(|| case.poll()).count(), 2);
}

#[test]
fn a_free_slot_lingers() {
    let mut case = Case::new(2);
    case.txn(vec![insert(row(1, 0, 0))]);
    assert_eq!(case.planner.poll_timeout(), Some(LATER));
    assert!(case.planner.poll_batch(Instant::START).is_none());
    case.planner.flush();
    assert!(case.planner.poll_batch(Instant::START).is_some());
    assert_eq!(case.planner.poll_timeout(), None);
}

#[test]
fn idle_slots_are_moved_along() {
    let mut case = Case::new(2);
    case.txn(vec![insert(row(1, 0, 0))]);
    let busy = case.poll().unwrap();
    case.planner.move_idle();
    let idle = case.poll().unwrap();
    assert_ne!(idle.slot, busy.slot);
    assert_eq!((idle.segments.len(), &idle.applied), (0, &busy.applied));
    assert_eq!(case.planner.watermark().position.pos, 4);
    for batch in [busy, idle] {
        assert_eq!(case.planner.recorded().position.pos, 4);
        case.planner.done(batch.slot, Outcome::Applied);
    }
    assert_eq!(case.planner.watermark().position.pos, 200);
    assert_eq!(case.planner.recorded().position.pos, 200);
    case.planner.move_idle();
    assert!(case.poll().is_none());
}

#[test]
fn a_large_transaction_is_cut_or_refused() {
    let wide = |slots| {
        let mut config = config(slots);
        config.memory_bytes_max = 3000;
        Case::with(table(), config)
    };
    let fill = |case: &mut Case| -> Result<(), Error> {
        case.begin(false);
        for id in 0..100 {
            while case.planner.free_bytes() == 0 {
                let batch = case.planner.poll_batch(Instant::START).unwrap();
                assert!(batch.applied.txn.is_some() && batch.applied.rows <= id as u64);
                case.planner.done(batch.slot, Outcome::Applied);
            }
            let change = case.table.change(None, Some(&row(id, 0, 0)));
            case.planner.row(&case.table.plan, change)?;
        }
        Ok(())
    };
    assert_eq!(fill(&mut wide(2)), Ok(()));
    let error = fill(&mut wide(1)).unwrap_err();
    assert!(error.is(&code::SYNCER_UNIT_NOT_SUPPORTED_OPERATE));
    assert!(error.workaround.contains("worker-count"));
}

#[test]
fn an_enum_of_value_zero_makes_a_batch_lenient() {
    let mut labels = column("e", true, None);
    labels.type_name = "enum".into();
    let columns = vec![column("id", false, None), labels];
    let table = Fixture::new("t", columns, vec![unique("PRIMARY", &[Some(0)])]);
    let mut case = Case::with(table, config(1));
    case.txn(vec![
        insert(vec![int(1), label(1)]),
        insert(vec![int(2), None]),
    ]);
    assert!(!case.poll().unwrap().lenient);
    case.planner.done(0, Outcome::Applied);
    case.txn(vec![insert(vec![int(3), label(0)])]);
    assert!(case.poll().unwrap().lenient);
}

#[test]
fn another_order_of_the_source_is_refused() {
    let gtid = |gno| Gtid::Mysql {
        sid: [1; 16],
        tag: String::new(),
        gno,
    };
    let id = |gno| TxnId {
        start: Position::new("b.000001", 4),
        gtid: Some(gtid(gno)),
    };
    let place = |gnos: &[u64], txn: Option<u64>| {
        let mut gtids = GtidSet::empty(Flavor::Mysql);
        gnos.iter().for_each(|&gno| gtids.add(&gtid(gno)));
        Applied {
            boundary: Location {
                position: Position::default(),
                gtids: Some(gtids),
            },
            txn: txn.map(id),
            rows: 1,
        }
    };
    let planner = |places: [Applied; 2]| {
        let mut config = config(2);
        config.by_gtid = true;
        let progress = (0..).zip(places).map(|(slot, applied)| SlotProgress {
            slot,
            seq: 0,
            applied,
        });
        Planner::new(config, progress.collect())
    };
    let mut same = planner([place(&[1], None), place(&[1, 2], Some(3))]);
    for gno in [2, 3, 4] {
        assert!(same.begin(Instant::START, id(gno), false).is_ok());
        same.commit(Position::new("b.000001", 4));
    }
    assert_eq!(same.wants_slots(), None);
    assert_eq!(same.replaying, 0);
    let mut swapped = planner([place(&[1], None), place(&[1, 2], None)]);
    let error = swapped.begin(Instant::START, id(3), false).unwrap_err();
    assert!(error.is(&code::SYNCER_GET_EVENT) && error.message.contains("applied others"));
    let mut missed = planner([place(&[1], None), place(&[1], Some(2))]);
    assert!(missed.begin(Instant::START, id(3), false).is_err());
}

#[test]
fn pieces_of_a_ddl_are_counted() {
    let mut case = Case::new(2);
    assert_eq!(case.planner.pieces_done(&txn(1)), Some(0));
    let mut applied = Applied {
        boundary: case.planner.location().clone(),
        txn: Some(txn(1)),
        rows: 1,
    };
    case.planner.barrier(&applied);
    assert_eq!(case.planner.pieces_done(&txn(1)), Some(1));
    applied = Applied::at(Location {
        position: Position::new("b.000001", 200),
        gtids: None,
    });
    case.planner.barrier(&applied);
    assert_eq!(case.planner.pieces_done(&txn(1)), Some(u64::MAX));
    assert_eq!(case.planner.location(), &applied.boundary);
    case.txns = 1;
    case.txn(vec![insert(row(1, 0, 0))]);
    assert_eq!(case.poll().unwrap().seq, 2);
}

/// Then nobody waited for anybody at it, and moving all slots behind it would repeat rows.
#[test]
fn a_ddl_that_some_slots_have_passed_was_filtered_out() {
    let place = |pos| Location {
        position: Position::new("b.000001", pos),
        gtids: None,
    };
    let mut slots = fresh(2, &place(4));
    slots[1].applied = Applied::at(place(1000));
    let planner = Planner::new(config(2), slots);
    let at = |pos| TxnId {
        start: Position::new("b.000001", pos),
        gtid: None,
    };
    assert_eq!(planner.pieces_done(&at(500)), None);
    assert_eq!(planner.pieces_done(&at(1000)), Some(0));
}

#[test]
fn safe_mode_is_applied_step_by_step() {
    let mut case = Case::new(1);
    case.begin(true);
    case.rows(vec![
        insert(row(1, 1, 0)),
        update(row(1, 1, 0), row(1, 2, 0)),
        delete(row(1, 2, 0)),
    ]);
    case.commit();
    let ops = case.ops();
    assert_eq!(
        ops,
        [
            (Op::Replace, 1),
            (Op::Delete, 1),
            (Op::Replace, 1),
            (Op::Delete, 1)
        ]
    );
}

/// Batches fail that conflict by keys which only the target takes for equal: they are tried in
/// order, and none of them keeps another from its turn.
#[test]
fn several_may_be_alone_one_after_the_other() {
    let mut case = Case::new(3);
    let slots = case.slots_of(0..50);
    let other = |not: &[u32]| slots.iter().position(|slot| !not.contains(slot)).unwrap();
    let b = other(&slots[..1]);
    let c = other(&[slots[0], slots[b]]);
    let rows = [0, b, c].map(|id| insert(row(id as i32, 0, 0)));
    case.txn(rows.into());
    let mut batches: Vec<_> = core::iter::from_fn(|| case.poll()).collect();
    assert_eq!(batches.len(), 3);
    // In the order of their rows, whatever order they were handed out in.
    batches.sort_by_key(|batch| {
        [slots[0], slots[b], slots[c]]
            .iter()
            .position(|s| *s == batch.slot)
    });
    for batch in batches.iter().rev() {
        case.planner.done(batch.slot, Outcome::Failed);
        case.planner.retry_alone(batch.slot);
    }
    for batch in &batches {
        let alone = case.poll().unwrap();
        assert!(Arc::ptr_eq(&alone, batch));
        assert!(case.poll().is_none());
        case.planner.done(alone.slot, Outcome::Applied);
    }
    assert!(case.planner.drained());
}

/// A place is as large as its GTID set, and each batch has two.
#[test]
fn places_of_batches_take_memory() {
    let uuid = |n: u32| format!("{n:08x}-0000-0000-0000-000000000000:1-5:7-9:11-20");
    let text: Vec<_> = (0..200).map(uuid).collect();
    let start = Location {
        position: Position::new("b.000001", 4),
        gtids: Some(GtidSet::parse(Flavor::Mysql, &text.join(",")).unwrap()),
    };
    let config = PlannerConfig {
        by_gtid: false,
        memory_bytes_max: 1 << 20,
        ..config(16)
    };
    let table = table();
    let mut planner = Planner::new(config, fresh(16, &start));
    let mut count = 0;
    while planner.free_bytes() > 0 {
        count += 1;
        planner.begin(Instant::START, txn(count), false).unwrap();
        // Each takes the unique value over from the one before, and so waits for it.
        let row = |value| row(count as i32, value, 0);
        for (before, after) in [(None, row(7)), (Some(row(7)), row(8))] {
            let change = table.change(before.as_ref(), Some(&after));
            planner.row(&table.plan, change).unwrap();
        }
        planner.commit(Position::new("b.000001", 100 * count + 100));
    }
    assert!(count < 60, "{count} batches");
}
