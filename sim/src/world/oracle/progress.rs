//! What is recorded as applied never goes back; a task of one slot is between two transactions of
//! its source all the time; and one that came to rest in order has nothing to read twice.

use dm_core::sync::progress::Location;

use crate::world::trace::Trace;

pub(in crate::world) const NAME: &str = "progress";

/// A slot's boundary moves from `old` to `new`; `cut` if that is the only slot, and it is within a
/// transaction.
pub(in crate::world) fn moved(
    trace: &Trace,
    source: &str,
    slot: u32,
    (old, new): (&Location, &Location),
    cut: bool,
) {
    trace.expect(
        NAME,
        new.reaches(old, true),
        format_args!("{source} slot {slot}: {new} behind {old}"),
    );
    trace.expect(
        NAME,
        !cut,
        format_args!("{source}: the only slot cuts the transaction at {new}"),
    );
}

/// A task rests, and this slot of it is there.
pub(in crate::world) fn rests(
    trace: &Trace,
    source: &str,
    slot: i64,
    (at, checkpoint): (&Location, &Location),
) {
    trace.expect(
        NAME,
        at.reaches(checkpoint, true),
        format_args!("{source} slot {slot}: rests at {at}, and the checkpoint is at {checkpoint}"),
    );
}
