//! The dump unit and the load unit.

use std::{path::Path, sync::Arc};

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
    sync::SyncFacts,
    tasks::Tasks,
};
use crate::{
    memory::Memory,
    ports::{Connect, Events},
};

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
    /// Where it reports that it works.
    pub(super) events: Events,
    /// Whether its files are marked.
    pub(super) mark: MarkSignal,
    /// For rows on their way.
    pub(super) memory: Memory,
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
                Ok(reply) => return Outcome::Ok(reply),
                Err(Failure::Again(error)) if unit == UnitKind::Dump && breaks.is_rare() => {
                    warn!(%error, "going on with another snapshot");
                }
                Err(failure) => return failure.into(),
            }
        }
    }
}
