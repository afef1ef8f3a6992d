//! All that a worker reads at one time is of one revision: what its sources are, and what is wanted
//! for them.

use dm_core::lifecycle::Entry;

use crate::world::trace::Trace;

pub(in crate::world) const NAME: &str = "snapshot";

/// A worker, which read its assignment at a revision, has read these entries about it, and so much
/// was there at that revision.
pub(in crate::world) fn read(
    trace: &Trace,
    worker: &str,
    revision: i64,
    (read, there): (&[Entry], &[Entry]),
) {
    let versions = |entries: &[Entry]| {
        let version = |kv: &Entry| {
            let key = String::from_utf8_lossy(&kv.key).into_owned();
            format!("{key} of {}", kv.mod_revision)
        };
        entries.iter().map(version).collect::<Vec<_>>()
    };
    trace.expect(
        NAME,
        read == there,
        format_args!(
            "{worker} reads as of revision {revision} {:?}, and there was {:?}",
            versions(read),
            versions(there)
        ),
    );
}
