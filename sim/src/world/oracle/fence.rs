//! No write passes behind a takeover that came after its own, no takeover looks like a write, and
//! no fence is of two processes.

use dm_core::sync::progress::Fence;

use crate::world::trace::Trace;

pub(in crate::world) const NAME: &str = "fence";

/// A process takes a source over, behind the takeover of this fence; `owner` was the first that did
/// so under the same fence.
pub(in crate::world) fn taken(
    trace: &Trace,
    source: &str,
    (fence, taken): (Fence, Fence),
    (owner, process): (&str, &str),
) {
    trace.expect(
        NAME,
        fence >= taken && owner == process,
        format_args!(
            "{source}: {process} takes over by fence {}, which was {owner}'s, behind fence {}",
            fence.0, taken.0
        ),
    );
}

/// A write for a source passes under `fence`, by a run that began with the takeover of this number,
/// after a fence and so many takeovers.
pub(in crate::world) fn passed(
    trace: &Trace,
    source: &str,
    (fence, run): (Fence, u64),
    (taken, takeovers): (Fence, u64),
) {
    trace.expect(
        NAME,
        fence >= taken && run >= takeovers,
        format_args!(
            "{source}: a write under fence {}, takeover {run}, behind fence {}, takeover \
             {takeovers}",
            fence.0, taken.0
        ),
    );
}

/// A run, which sent this step of a slot last, reads back that a step is done, which a takeover
/// did.
pub(in crate::world) fn read_back(trace: &Trace, source: &str, sent: u64, done: u64) {
    trace.expect(
        NAME,
        sent + 1 != done,
        format_args!("{source}: step {sent} looks done, and a takeover did that"),
    );
}
