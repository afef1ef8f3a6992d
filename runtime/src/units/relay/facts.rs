//! What a relay lets others see.

use std::sync::{Mutex, MutexGuard, PoisonError};

use dm_core::{relay::SubDir, sync::progress::Location};

/// Where the relay of a source stands. It outlives pauses.
#[derive(Debug, Default)]
pub struct RelayFacts {
    end: Mutex<Option<RelayEnd>>,
}

/// Up to where there are whole transactions that survive a power cut.
#[derive(Clone, Debug, PartialEq)]
pub struct RelayEnd {
    /// The sub-directory that is written to.
    pub sub_dir: SubDir,
    /// The file that is written.
    pub file: String,
    /// How much of it counts.
    pub len: u64,
    /// The same, in terms of the source.
    pub location: Location,
}

impl RelayFacts {
    /// Where it stands, once that is known.
    #[must_use]
    pub fn end(&self) -> Option<RelayEnd> {
        self.lock().clone()
    }

    pub(super) fn wrote(&self, dir: Option<&SubDir>, file: &str, len: u64, location: Location) {
        *self.lock() = dir.map(|dir| RelayEnd {
            sub_dir: dir.clone(),
            file: file.to_owned(),
            len,
            location,
        });
    }

    fn lock(&self) -> MutexGuard<'_, Option<RelayEnd>> {
        // It is replaced as a whole.
        self.end.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
