//! No write passes under a fence behind one that has taken over, and no fence of two processes.

use dm_core::sync::progress::Fence;

use crate::world::trace::Trace;

pub(in crate::world) const NAME: &str = "fence";

/// A process takes a source over, and this one had the fence before.
pub(in crate::world) fn taken(trace: &Trace, source: &str, fence: Fence, (old, new): (&str, &str)) {
    trace.expect(
        NAME,
        old == new,
        format_args!("{source}: fence {} was {old}'s, and is {new}'s", fence.0),
    );
}

/// A write for a source is let through under `fence`, after `taken` took over.
pub(in crate::world) fn passed(trace: &Trace, source: &str, fence: Fence, taken: Fence) {
    trace.expect(
        NAME,
        fence >= taken,
        format_args!(
            "{source}: a write under fence {} behind the takeover of fence {}",
            fence.0, taken.0
        ),
    );
}
