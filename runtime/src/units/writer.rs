//! One slot's way into the target: what it is given is written exactly once, or certainly not.

use std::{collections::BTreeMap, future::Future, sync::Arc, time::Duration};

use dm_core::{
    error::{Error, code},
    guard::Guard,
    sync::{batch::Batch, schema::TableName},
};
use tokio::time::sleep;
use tracing::warn;

use crate::ports::{Applied, Session, Target, copy::Cargo};

/// Attempts to write something before the subtask pauses.
const ATTEMPTS_MAX: u32 = 6;
/// First pause between two attempts; doubles each time.
const RETRY_DELAY: Duration = Duration::from_millis(100);

/// What a slot writes in one transaction.
pub(in crate::units) trait Write: Sync {
    /// The step that the slot must be at.
    fn seq(&self) -> u64;

    /// Tries to.
    fn write<S: Session>(&self, session: &mut S) -> impl Future<Output = Applied> + Send;
}

impl Write for Batch {
    fn seq(&self) -> u64 {
        self.seq
    }

    fn write<S: Session>(&self, session: &mut S) -> impl Future<Output = Applied> + Send {
        session.apply(self)
    }
}

impl Write for Cargo {
    fn seq(&self) -> u64 {
        self.seq
    }

    fn write<S: Session>(&self, session: &mut S) -> impl Future<Output = Applied> + Send {
        session.copy(self)
    }
}

/// Why something is not written.
#[derive(Debug)]
pub(in crate::units) enum Refused {
    /// It certainly is not, and trying again did not help.
    Failed(Error),
    /// Somebody else owns the source.
    Fenced(Error),
    /// What happened can only be told by beginning anew from the recorded progress.
    Lost(Error),
}

/// The session of a slot.
pub(in crate::units) struct Writer<T: Target> {
    target: Arc<T>,
    slot: u32,
    session: Option<T::Session>,
}

impl<T: Target> Writer<T> {
    /// Connects when there is something to write.
    pub(in crate::units) const fn new(target: Arc<T>, slot: u32) -> Self {
        Self {
            target,
            slot,
            session: None,
        }
    }

    /// Writes something exactly once, or says that it isn't written.
    pub(in crate::units) async fn write(&mut self, what: &impl Write) -> Result<(), Refused> {
        let mut delay = RETRY_DELAY;
        for attempt in 1.. {
            let (error, retry) = match self.attempt(what).await {
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
                        Ok(seq) if seq == what.seq() => (error, true),
                        Ok(seq) if seq == what.seq() + 1 => return Ok(()),
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
            warn!(slot = self.slot, attempt, %error, "nothing written, trying again");
            // Whatever is wrong may be wrong with the connection.
            self.session = None;
            sleep(delay).await;
            delay *= 2;
        }
        unreachable!("the last attempt returns")
    }

    /// See [`Session::missed`].
    pub(in crate::units) fn missed(&mut self) -> BTreeMap<TableName, u64> {
        let session = self.session.as_mut();
        session.map(Session::missed).unwrap_or_default()
    }

    async fn attempt(&mut self, what: &impl Write) -> Applied {
        let session = match &mut self.session {
            Some(session) => session,
            None => match self.target.session(self.slot).await {
                Ok(session) => self.session.insert(session),
                Err(error) if error.is(&code::SYNCER_FENCED) => return Applied::Fenced(error),
                Err(error) => return Applied::Failed { error, retry: true },
            },
        };
        what.write(session).await
    }
}
