//! The cases.
//!
//! A step counts the moves of a progress row. Making slots takes the highest that any row of the
//! source has, and one more; a takeover moves slots by two, and what is no slot by one.

mod batches;
mod checkpoints;
mod ownership;
mod statements;

use dm_core::sync::batch::Op;

use super::{
    Case,
    End::{self, Done},
    Found, Owner, Place, Row, Rows, Statement, Step,
};

const A: Owner = 0;
const B: Owner = 1;
/// Stands for NULL in a row.
const NULL: i64 = i64::MIN;

/// All cases.
#[must_use]
pub fn all() -> Vec<Case> {
    let mut all = ownership::cases();
    all.extend(batches::cases());
    all.extend(checkpoints::cases());
    all.extend(statements::cases());
    all
}

const fn case(name: &'static str, steps: Vec<Step>) -> Case {
    Case { name, steps }
}

/// A case in which A has the fence 5, one slot at step 2 and offset 4, and a session for it.
fn owned(name: &'static str, steps: Vec<Step>) -> Case {
    let mut all = vec![
        take(A, 5, &[], None, None),
        reset(A, 1, 4, None, Ok(2)),
        session(A, 0, Done),
    ];
    all.extend(steps);
    case(name, all)
}

fn take(
    owner: Owner,
    fence: i64,
    slots: &[(u64, u64)],
    checkpoint: Option<(u64, Option<u64>)>,
    safe_until: Option<u64>,
) -> Step {
    let slots = slots.iter().map(|&(seq, pos)| (seq, Place(pos, 0)));
    let found = Found {
        slots: slots.collect(),
        checkpoint,
        safe_until,
    };
    Step::TakeOver(owner, fence, Ok(found))
}

/// As [`take`], where slots may be within transactions.
fn within(owner: Owner, fence: i64, slots: &[(u64, Place)]) -> Step {
    let found = Found {
        slots: slots.to_vec(),
        checkpoint: Some((4, None)),
        safe_until: None,
    };
    Step::TakeOver(owner, fence, Ok(found))
}

const fn denied(owner: Owner, fence: i64, end: End) -> Step {
    Step::TakeOver(owner, fence, Err(end))
}

const fn reset(
    owner: Owner,
    slots: u32,
    pos: u64,
    safe_until: Option<u64>,
    expected: Result<u64, End>,
) -> Step {
    Step::Reset(owner, slots, pos, safe_until, expected)
}

const fn session(owner: Owner, slot: u32, end: End) -> Step {
    Step::Session(owner, slot, end)
}

const fn apply(owner: Owner, seq: u64, pos: u64, rows: Vec<Rows>, end: End) -> Step {
    Step::Apply(owner, 0, seq, Place(pos, 0), rows, end)
}

const fn checkpoint(owner: Owner, global: u64, exit: Option<u64>, end: End) -> Step {
    Step::Checkpoint(owner, global, exit, end)
}

const fn ddl(owner: Owner, statement: Statement, after: u64, end: End) -> Step {
    Step::Ddl(owner, statement, Place(after, 0), end)
}

const fn columns(
    owner: Owner,
    table: &'static str,
    expected: Option<&'static [&'static str]>,
) -> Step {
    Step::Columns(owner, table, expected)
}

fn contents(table: &'static str, rows: &[&[i64]]) -> Step {
    Step::Rows(table, Some(rows.iter().map(|it| row(it)).collect()))
}

fn keyed(values: &[i64]) -> Rows {
    written(Op::Insert, "keyed", values)
}

fn keyless(values: &[i64]) -> Rows {
    written(Op::Insert, "keyless", values)
}

fn written(op: Op, table: &'static str, values: &[i64]) -> Rows {
    (table, op, vec![(None, Some(row(values)))])
}

fn change(op: Op, before: &[i64], after: &[i64]) -> Rows {
    ("keyed", op, vec![(Some(row(before)), Some(row(after)))])
}

fn gone(table: &'static str, values: &[i64]) -> Rows {
    (table, Op::Delete, vec![(Some(row(values)), None)])
}

fn row(values: &[i64]) -> Row {
    let value = |&value: &i64| (value != NULL).then_some(value);
    values.iter().map(value).collect()
}
