//! At each DDL, where everybody waits for everybody, the target's tables are what the source's were
//! there: neither rows of before it that came too late, nor rows of behind it that came too early.

use dm_core::sync::progress::Location;

use crate::world::trace::Trace;

pub(in crate::world) const NAME: &str = "tables";

/// A DDL that ends at `at` has run, and this is what differs.
pub(in crate::world) fn compared(trace: &Trace, source: &str, at: &Location, difference: &str) {
    trace.expect(
        NAME,
        difference.is_empty(),
        format_args!("{source} at {at}: {difference}"),
    );
}
