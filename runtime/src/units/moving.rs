//! The dump unit and the load unit.

use std::{
    path::Path,
    sync::{Arc, atomic::Ordering::Relaxed},
};

use dm_core::{
    lifecycle::{Job, Outcome, Reply},
    status::UnitKind,
    sync::progress::Fence,
};
use tracing::warn;

use super::{
    Breaks, MarkSignal, Stop, StopSignal,
    copy::{CopyFacts, Failure},
    stopped,
    sync::{Relay, SyncFacts},
    tasks::Tasks,
};
use crate::{
    memory::Memory,
    ports::{Connect, Events},
};

/// After so many snapshots that brought nothing, somebody must look.
const IN_VAIN_MAX: u32 = 3;
const IN_VAIN: &str = "Connections to the source end before a table is read that can only be read \
                       in one piece: give the table a primary key, or look for time limits in the \
                       source and between (`wait_timeout`, proxies).";

/// What moves the tables that a task begins with: its dump unit and its load unit, without files
/// between them (`copy`) or with (`files`).
pub(super) struct Moving<K> {
    /// Makes the doors.
    pub(super) connect: K,
    /// The subtask and its source.
    pub(super) job: Job,
    /// The fence of this ownership; `None` to take the next of the target's own counter.
    pub(super) fence: Option<Fence>,
    /// How far it is.
    pub(super) facts: Arc<CopyFacts>,
    /// What of the binlog the subtask needs.
    pub(super) needs: Arc<SyncFacts>,
    /// The relay of its source, if it is to read the log of that.
    pub(super) relay: Option<Relay>,
    /// Where it reports that it works.
    pub(super) events: Events,
    /// Whether its files are marked.
    pub(super) mark: MarkSignal,
    /// For rows on their way.
    pub(super) memory: Memory,
    /// What came of its runs.
    pub(super) tries: Tries,
    /// Whether the load unit is to apply what the binlog has between the rows' moments.
    pub(super) catches_up: bool,
}

/// Snapshots that a copy has lost.
#[derive(Debug, Default)]
pub(super) struct Tries {
    /// Whether rows of an earlier run had to go for the last one.
    pub(super) is_anew: bool,
    /// The most tables that were complete.
    tables: u64,
    /// So many runs in a row began anew, and brought nothing.
    in_vain: u32,
}

impl Tries {
    /// The snapshot of a run was lost, when so many tables were complete. Whether another one may
    /// bring more: a table that is read in one piece may take longer than any connection lasts.
    fn is_worth_another(&mut self, tables: u64) -> bool {
        if tables > self.tables || !self.is_anew {
            self.in_vain = 0;
        } else {
            self.in_vain += 1;
        }
        self.tables = self.tables.max(tables);
        self.in_vain < IN_VAIN_MAX
    }
}

impl<K: Connect> Moving<K> {
    /// Runs a unit, by way of files where there is a path, until it is over, is told to stop or
    /// can't go on.
    pub(super) async fn run(
        mut self,
        unit: UnitKind,
        path: Option<&Path>,
        mut stop: StopSignal,
    ) -> Outcome {
        let mut breaks = Breaks::default();
        loop {
            let mut tasks = Tasks::default();
            let once = async {
                match (unit, path) {
                    (UnitKind::Dump, None) => self.copy(&mut tasks).await,
                    (UnitKind::Dump, Some(path)) => self.dump(path, &mut tasks).await,
                    (_, None) => self.end_copy().await.map_err(Failure::from),
                    (_, Some(path)) => self.load(path, &mut tasks).await,
                }
            };
            let result = tokio::select! {
                biased;
                // What is under way is noted when it is there: any moment is a good one.
                () = stopped(&mut stop, Stop::AtBoundary) => Ok(Reply::Stopped),
                result = once => result.map(|()| Reply::Finished),
            };
            tasks.end().await;
            match result {
                Ok(Reply::Finished) if self.catches_up => return self.catch_up(stop).await,
                Ok(reply) => return Outcome::Ok(reply),
                Err(Failure::Again(error)) if unit == UnitKind::Dump && breaks.is_rare() => {
                    let tables = self.facts.tables_done.load(Relaxed);
                    if !self.tries.is_worth_another(tables) {
                        return Failure::Other(error.with_workaround(IN_VAIN)).into();
                    }
                    warn!(%error, "going on with another snapshot");
                }
                Err(failure) => return failure.into(),
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_copy_that_only_begins_anew_comes_to_an_end() {
        let mut tries = Tries::default();
        // It goes on where it was.
        assert!((0..9).all(|_| tries.is_worth_another(0)));
        tries.is_anew = true;
        let worth = [1, 1, 1, 2, 2, 2, 2].map(|tables| tries.is_worth_another(tables));
        assert_eq!(worth, [true, true, true, true, true, true, false]);
    }
}
