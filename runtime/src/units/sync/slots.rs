//! Slot tasks: each owns one session and applies the batches of its slot, one at a time.

use std::{sync::Arc, time::Duration};

use dm_core::{
    error::{Error, code},
    guard::Guard,
    sync::batch::Batch,
};
use tokio::{
    sync::mpsc,
    time::{Instant, sleep},
};
use tracing::warn;

use super::tasks::Tasks;
use crate::{
    panics::caught,
    ports::{Applied, Session, Target},
};

/// Attempts to apply a batch before the subtask pauses.
const ATTEMPTS_MAX: u32 = 6;
/// First pause between two attempts; doubles each time.
const RETRY_DELAY: Duration = Duration::from_millis(100);

/// How a slot's batch ended, after retries.
#[derive(Debug)]
pub(super) struct Done {
    /// The batch.
    pub(super) batch: Arc<Batch>,
    /// How long that took.
    pub(super) took: Duration,
    /// Whether it is applied.
    pub(super) result: Result<(), Refused>,
}

/// Why a batch is not applied.
#[derive(Debug)]
pub(super) enum Refused {
    /// It certainly is not, and trying again did not help.
    Failed(Error),
    /// Somebody else owns the source.
    Fenced(Error),
    /// What happened can only be told by beginning anew from the recorded progress.
    Lost(Error),
}

/// The ways to all slot tasks of a run.
pub(super) struct Slots(Vec<mpsc::UnboundedSender<Arc<Batch>>>);

impl Slots {
    /// Starts `count` slot tasks; they connect when their first batch comes.
    pub(super) fn start<T: Target>(
        tasks: &mut Tasks,
        target: &Arc<T>,
        count: u32,
        done: &mpsc::UnboundedSender<Done>,
    ) -> Self {
        let start = |slot| {
            let (inbox, batches) = mpsc::unbounded_channel();
            let task = Slot {
                target: Arc::clone(target),
                slot,
                session: None,
            };
            tasks.start(task.run(batches, done.clone()));
            inbox
        };
        Self((0..count).map(start).collect())
    }

    /// Hands a batch to its slot. The planner gives a slot one at a time.
    pub(super) fn apply(&self, batch: Arc<Batch>) {
        // A task ends only after this object, so somebody listens.
        let _ = self.0[batch.slot as usize].send(batch);
    }
}

struct Slot<T: Target> {
    target: Arc<T>,
    slot: u32,
    session: Option<T::Session>,
}

impl<T: Target> Slot<T> {
    async fn run(
        mut self,
        mut batches: mpsc::UnboundedReceiver<Arc<Batch>>,
        done: mpsc::UnboundedSender<Done>,
    ) {
        while let Some(batch) = batches.recv().await {
            let start = Instant::now();
            let result = caught(self.apply(&batch)).await;
            let result = result.unwrap_or_else(|panic| Err(Refused::Lost(panic)));
            if done
                .send(Done {
                    batch,
                    took: start.elapsed(),
                    result,
                })
                .is_err()
            {
                return;
            }
        }
    }

    /// Applies a batch exactly once, or says that it isn't applied.
    async fn apply(&mut self, batch: &Batch) -> Result<(), Refused> {
        let mut delay = RETRY_DELAY;
        for attempt in 1.. {
            let (error, retry) = match self.attempt(batch).await {
                Applied::Done => return Ok(()),
                Applied::Fenced(error) => return Err(Refused::Fenced(error)),
                Applied::Moved(error) => return Err(Refused::Lost(error)),
                Applied::Failed { retry: true, .. } if !Guard::FailedAgain.holds() => {
                    return Ok(());
                }
                Applied::Failed { error, retry } => (error, retry),
                Applied::Unknown(error) => {
                    warn!(slot = self.slot, %error, "outcome unknown, reading the progress back");
                    // A session whose answer was lost is not used again: `read_back` ends it.
                    self.session = None;
                    match self.target.read_back(self.slot).await {
                        Ok(seq) if seq == batch.seq => (error, true),
                        Ok(seq) if seq == batch.seq + 1 => return Ok(()),
                        Ok(_) => return Err(Refused::Lost(error)),
                        Err(error) if error.is(&code::SYNCER_FENCED) => {
                            return Err(Refused::Fenced(error));
                        }
                        Err(error) => return Err(Refused::Lost(error)),
                    }
                }
            };
            if !retry || attempt == ATTEMPTS_MAX {
                return Err(Refused::Failed(error));
            }
            warn!(slot = self.slot, attempt, %error, "batch not applied, trying again");
            // Whatever is wrong may be wrong with the connection.
            self.session = None;
            sleep(delay).await;
            delay *= 2;
        }
        unreachable!("the last attempt returns")
    }

    async fn attempt(&mut self, batch: &Batch) -> Applied {
        let session = match &mut self.session {
            Some(session) => session,
            None => match self.target.session(self.slot).await {
                Ok(session) => self.session.insert(session),
                Err(error) if error.is(&code::SYNCER_FENCED) => return Applied::Fenced(error),
                Err(error) => return Applied::Failed { error, retry: true },
            },
        };
        session.apply(batch).await
    }
}
