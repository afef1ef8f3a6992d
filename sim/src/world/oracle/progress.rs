//! What is recorded as applied never goes back.

use dm_core::sync::progress::Location;

use crate::world::trace::Trace;

pub(in crate::world) const NAME: &str = "progress";

/// A slot's boundary moves from `old` to `new`.
pub(in crate::world) fn moved(
    trace: &Trace,
    source: &str,
    slot: u32,
    (old, new): (&Location, &Location),
) {
    let holds = new.reaches(old, false);
    trace.expect(
        NAME,
        holds,
        format_args!("{source} slot {slot}: {new} behind {old}"),
    );
}
