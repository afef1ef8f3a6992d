//! The load unit of a subtask whose rows went straight into the target: it hands over to the
//! binlog.

use dm_core::{
    error::{Error, Result, code},
    guard::Guard,
    lifecycle::{self, Job},
};
use tracing::info;

use super::ANEW;
use crate::{
    ports::{Connect, Source, Target, copy::Copy},
    units::{follows, moving::Moving},
};

impl<K: Connect> Moving<K> {
    /// Ends the copy, once.
    pub(in crate::units) async fn end_copy(&self) -> Result<()> {
        let source = self.connect.source(&self.job.source);
        let upstream = source.probe(follows(&self.job.task)).await?;
        let target = self.connect.target(&self.job, &upstream).await?;
        target.take_over(self.fence).await?;
        self.events.send(lifecycle::Event::Initialised);
        let Some(copy) = target.copy().await? else {
            return Err(incomplete("nothing is noted of it"));
        };
        self.facts.note_from(&copy.from);
        if copy.is_over {
            return Ok(());
        }
        hand_over(&target, &self.job, &copy).await
    }
}

/// Ends a copy: the binlog goes on where it began.
///
/// # Errors
/// 34018: rows are missing. Those of the target.
pub(in crate::units) async fn hand_over<T: Target>(
    target: &T,
    job: &Job,
    copy: &Copy,
) -> Result<()> {
    if !copy.is_complete()? && Guard::CopyComplete.holds() {
        return Err(incomplete("rows are missing"));
    }
    let task = &job.task;
    let syncs = follows(task);
    let slots = u32::try_from(task.sync.worker_count).unwrap_or(1).max(1);
    target.end_copy(syncs.then_some(slots), copy).await?;
    info!(
        source = job.source.source_id,
        task = task.name,
        from = %copy.from,
        until = copy.until.as_ref().map(tracing::field::display),
        "the copy is over"
    );
    Ok(())
}

fn incomplete(why: &str) -> Error {
    let text = format!("inconsistent checkpoints: the copy is not complete, {why}");
    Error::new(&code::LOAD_TASK_CHECKPOINT_NOT_MATCH, text).with_workaround(ANEW)
}
