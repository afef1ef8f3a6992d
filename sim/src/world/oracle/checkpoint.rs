//! A checkpoint never comes before what it says is applied: each row of the target is a version
//! that the source had there, or later.

use dm_core::sync::progress::Location;

use crate::world::trace::Trace;

pub(in crate::world) const NAME: &str = "checkpoint";

/// A checkpoint of a source was written, and this row contradicts it.
pub(in crate::world) fn written(trace: &Trace, source: &str, at: &Location, row: Option<String>) {
    let holds = row.is_none();
    let row = row.unwrap_or_default();
    trace.expect(NAME, holds, format_args!("{source} at {at}: {row}"));
}
