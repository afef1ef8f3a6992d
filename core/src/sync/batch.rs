//! What one downstream transaction of a slot carries, and how row changes are merged into it.

mod open;

use alloc::{sync::Arc, vec::Vec};

pub(super) use open::{Limits, Open, change_bytes};

use super::{progress::Applied, table::TablePlan};
use crate::binlog::RowChange;

/// The rows of one transaction of a slot, and the move of its progress row that goes with them.
///
/// Applying it is conditional on the progress row being at `seq`, and leaves it at `seq + 1` and
/// `applied`. It may have no segments: then only the progress moves.
#[derive(Debug)]
pub struct Batch {
    /// The slot.
    pub slot: u32,
    /// What the progress row's counter must be before.
    pub seq: u64,
    /// What the slot has applied after it.
    pub applied: Applied,
    /// Its statements, in order.
    pub segments: Vec<Segment>,
    /// Row changes of the source that it stands for; merged ones leave fewer rows in the segments.
    pub rows: u32,
    /// Memory that it holds in the planner's account, in bytes.
    pub bytes: usize,
    /// Whether the target may have some of its changes already, or never had their rows.
    pub safe: bool,
    /// Whether it writes an ENUM value 0 (the empty error value), which strict SQL modes refuse.
    pub lenient: bool,
}

/// A run of row changes that may share a statement: same table, same operation, and no two of them
/// have a unique key value in common.
#[derive(Debug)]
pub struct Segment {
    /// The target's table.
    pub table: Arc<TablePlan>,
    /// What happens to the rows.
    pub op: Op,
    /// The rows. Which images are there follows from `op`.
    pub rows: Vec<RowChange>,
}

/// What a segment does to its rows.
#[derive(Clone, Copy, Debug, Eq, Ord, PartialEq, PartialOrd)]
pub enum Op {
    /// `DELETE` by row key; by all columns, one row at a time, without one.
    Delete,
    /// `INSERT`: fails where the row exists.
    Insert,
    /// `INSERT … ON DUPLICATE KEY UPDATE` of all columns: rows that exist and keep their key.
    Upsert,
    /// `REPLACE`: whatever has one of its unique key values goes away.
    Replace,
    /// `UPDATE … WHERE` one row at a time: the row key changes, or there is none.
    Update,
}
