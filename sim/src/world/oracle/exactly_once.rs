//! Every change meets the row as it was at the source: none is lost, doubled, or reordered against
//! one that it conflicts with.

use std::fmt;

use crate::world::trace::Trace;

pub(in crate::world) const NAME: &str = "exactly-once";

/// A statement ran, as `place` says where.
pub(in crate::world) fn ran(trace: &Trace, place: impl fmt::Display, result: &Result<(), String>) {
    let error = result.as_ref().err().map_or("", |error| error);
    trace.expect(NAME, result.is_ok(), format_args!("{place}: {error}"));
}
