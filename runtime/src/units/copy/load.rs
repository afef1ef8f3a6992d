//! The load unit of a subtask whose rows went straight into the target: it hands over to the
//! binlog.

use std::sync::Arc;

use dm_core::{
    control::subtask::Mode,
    error::{Error, Result, code},
    guard::Guard,
    lifecycle::{self, Job, Outcome, Reply},
    sync::progress::Fence,
};
use tracing::info;

use super::{ANEW, CopyFacts};
use crate::{
    ports::{Connect, Events, Source, Target},
    units::{Stop, StopSignal, stopped},
};

/// The load unit of a subtask whose dump needs no files.
pub(in crate::units) struct LoadUnit<K> {
    /// Makes the doors.
    pub(in crate::units) connect: K,
    /// The subtask and its source.
    pub(in crate::units) job: Job,
    /// The fence of this ownership; `None` to take the next of the target's own counter.
    pub(in crate::units) fence: Option<Fence>,
    /// How far the copy is.
    pub(in crate::units) facts: Arc<CopyFacts>,
    /// Where it reports that it works.
    pub(in crate::units) events: Events,
}

impl<K: Connect> LoadUnit<K> {
    /// Ends the copy, once.
    pub(in crate::units) async fn run(self, mut stop: StopSignal) -> Outcome {
        let ended = tokio::select! {
            biased;
            () = stopped(&mut stop, Stop::AtBoundary) => return Outcome::Ok(Reply::Stopped),
            ended = self.end() => ended,
        };
        match ended {
            Ok(()) => Outcome::Ok(Reply::Finished),
            Err(error) if error.is(&code::SYNCER_FENCED) => Outcome::Fenced(error),
            Err(error) => Outcome::Failed(vec![error]),
        }
    }

    async fn end(&self) -> Result<()> {
        let (task, config) = (&self.job.task, &self.job.source);
        let upstream = self.connect.source(config).probe().await?;
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
        if !copy.is_complete()? && Guard::CopyComplete.holds() {
            return Err(incomplete("rows are missing"));
        }
        let syncs = Mode::parse(&task.mode).is_some_and(Mode::has_sync);
        let slots = u32::try_from(task.sync.worker_count).unwrap_or(1).max(1);
        target.end_copy(syncs.then_some(slots), &copy).await?;
        info!(
            source = config.source_id,
            task = task.name,
            from = %copy.from,
            until = copy.until.as_ref().map(tracing::field::display),
            "the copy is over"
        );
        Ok(())
    }
}

fn incomplete(why: &str) -> Error {
    let text = format!("inconsistent checkpoints: the copy is not complete, {why}");
    Error::new(&code::LOAD_TASK_CHECKPOINT_NOT_MATCH, text).with_workaround(ANEW)
}
