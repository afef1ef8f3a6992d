//! What a copy leaves that nothing follows is of one moment: that of its last snapshot.

use dm_core::sync::progress::Location;

use super::files::Dumps;
use crate::world::{tables::Snapshot, trace::Trace};

pub(in crate::world) const NAME: &str = "moment";

impl Dumps {
    /// A task that only copies is over, with all up to this place.
    pub(in crate::world) fn ended(
        &self,
        trace: &Trace,
        source: &str,
        at: &Location,
        target: &Snapshot,
    ) {
        let difference = self.difference(source, at, target);
        trace.expect(
            NAME,
            difference.is_none(),
            format_args!(
                "{source} is copied as of {at}, but {}",
                difference.unwrap_or_default()
            ),
        );
        trace.count("target: copied alone");
    }
}
