//! A worker that has ended has given its lease back.

use crate::world::trace::Trace;

pub(in crate::world) const NAME: &str = "end";

/// All workers are over, and so many announcements are left.
pub(in crate::world) fn ended(trace: &Trace, announcements: usize) {
    trace.expect(
        NAME,
        announcements == 0,
        format_args!("{announcements} workers are over and have a lease"),
    );
}
