//! What operators know.

use dm_core::error::{Error, code};

/// Whether a task that failed so waits for an operator. Everything else has to go away by itself
/// once nothing fails any more, whatever the worker thinks of it.
pub(super) fn is_needed(error: &Error) -> bool {
    // Whether a statement has run shows in nothing: somebody must look at the target.
    let unsettled = error.is(&code::SYNCER_DDL_UNSETTLED);
    // The binlog was gone, until somebody put it back: ER_MASTER_FATAL_ERROR_READING_BINLOG.
    let purged = error.is(&code::SYNCER_GET_EVENT) && error.cause.contains("Error 1236");
    // Its disk did not take or give dump files, or somebody else was writing them.
    let files = error.is(&code::DUMP_UNIT_RUNTIME) || error.is(&code::LOAD_LIGHTNING_RUNTIME);
    unsettled || purged || files
}
