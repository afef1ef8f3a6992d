//! What is paused or stopped really does nothing, though its source goes on.

use crate::world::trace::Trace;

pub(in crate::world) const NAME: &str = "stop";

/// How much was written for each source, before and after a time of rest.
pub(in crate::world) fn rested(trace: &Trace, when: &str, before: &[u64], after: &[u64]) {
    trace.expect(
        NAME,
        before == after,
        format_args!("after a {when}, {before:?} writes become {after:?}"),
    );
}
