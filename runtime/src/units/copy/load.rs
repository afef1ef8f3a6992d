//! The load unit of a subtask whose rows went straight into the target: it hands over to the
//! binlog. Where no sync unit follows it applies that itself, as far as rows of several moments
//! need it to be of one.

use std::sync::Arc;

use dm_core::{
    error::{Error, Result, code},
    guard::Guard,
    lifecycle::{self, Job, Outcome, Reply},
};
use tracing::info;

use super::ANEW;
use crate::{
    ports::{Connect, Source, Target, copy::Copy},
    units::{StopSignal, follows, moving::Moving, sync::SyncUnit},
};

impl<K: Connect> Moving<K> {
    /// Ends the copy, once.
    pub(in crate::units) async fn end_copy(&mut self) -> Result<()> {
        let source = self.connect.source(&self.job.source);
        let upstream = source.probe(follows(&self.job.task)).await?;
        let target = self.connect.target(&self.job, &upstream).await?;
        let recovered = target.take_over(self.fence).await?;
        self.events.send(lifecycle::Event::Initialised);
        let Some(copy) = target.copy().await? else {
            return Err(incomplete("nothing is noted of it"));
        };
        let follows = follows(&self.job.task);
        let is_behind = match copy.is_over {
            false => copy.reconciled().is_some(),
            // Where somebody else has written the checkpoint, that is told.
            true => {
                let is_lost = recovered.slots.is_empty() && recovered.checkpoint.is_some();
                recovered.safe_until.is_some() || is_lost
            }
        };
        self.catches_up = !follows && is_behind && Guard::CopyCatchUp.holds();
        let until = copy.until.as_ref().filter(|_| self.catches_up);
        self.facts.note_end(&copy.from, until);
        if copy.is_over {
            return Ok(());
        }
        hand_over(&target, &self.job, &copy, follows || self.catches_up).await
    }

    /// Applies the binlog from where the copy began until all of its rows are of one moment.
    pub(in crate::units) async fn catch_up(self, stop: StopSignal) -> Outcome {
        let facts = Arc::clone(&self.facts);
        let unit = SyncUnit {
            connect: self.connect,
            job: self.job,
            fence: self.fence,
            relay: self.relay,
            facts: self.needs,
            events: self.events,
            memory: self.memory,
            ends: true,
        };
        match unit.run(stop).await {
            Outcome::Ok(Reply::Finished) => {
                facts.caught_up();
                Outcome::Ok(Reply::Finished)
            }
            // What helps a task that follows the binlog may not help this one.
            Outcome::Failed(errors) if !lifecycle::subtask_resumable(&errors) => {
                let advised = errors.into_iter().map(|error| {
                    let anew = format!("{} If nothing else helps: {ANEW}", error.workaround);
                    error.with_workaround(anew.trim_start())
                });
                Outcome::Failed(advised.collect())
            }
            ended => ended,
        }
    }
}

/// Ends a copy. Where the task `goes_on`, the binlog does so where the copy began.
///
/// # Errors
/// 34018: rows are missing. Those of the target.
pub(in crate::units) async fn hand_over<T: Target>(
    target: &T,
    job: &Job,
    copy: &Copy,
    goes_on: bool,
) -> Result<()> {
    if !copy.is_complete()? && Guard::CopyComplete.holds() {
        return Err(incomplete("rows are missing"));
    }
    let task = &job.task;
    let slots = u32::try_from(task.sync.worker_count).unwrap_or(1).max(1);
    target.end_copy(goes_on.then_some(slots), copy).await?;
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
