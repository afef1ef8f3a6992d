//! Which worker has the dump files of a subtask.
//!
//! A load from files can only go on where the files are. The worker that begins one says so in the
//! control store before a row is loaded, and a master prefers it when it binds the source; when
//! all is loaded the mark goes. Rows that are copied without files between them can be gone on with
//! by any worker, so such a subtask has no mark; one that somebody else has left goes all the same
//! when its tables are there.
//!
//! Every write is made on the condition that nobody else has written since, so a worker that has
//! lost the source takes no mark of the next one away.

use alloc::{format, string::String};
use core::{mem, time::Duration};

use super::{
    effect::{Effect, UnitCall},
    input::{Entry, Outcome, Reply},
    io::{Io, Pending},
    subtask::Surroundings,
    ticket::Ticket,
};
use crate::{
    control::{Key, LoadTask},
    error::{Error, code},
    time::Instant,
};

/// Between an attempt to write and the next.
const RETRY: Duration = Duration::from_secs(1);

/// The mark as the store had it at a revision.
#[derive(Clone, Debug, Default, PartialEq)]
pub(super) struct Mark {
    pub(super) revision: i64,
    pub(super) holder: Option<Holder>,
}

/// Who has the files, as of a write.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Holder {
    pub(super) worker: String,
    pub(super) mod_revision: i64,
}

/// The mark of a subtask.
#[derive(Clone, Debug, Default)]
pub(super) struct Files {
    /// Its load works with files that are here.
    here: bool,
    /// The unit that waits until the mark says so.
    waits: Option<Ticket>,
    mark: Mark,
    write: Write,
}

#[derive(Clone, Debug, Default, PartialEq)]
enum Write {
    #[default]
    Idle,
    /// This worker's name is being written, or nothing.
    Asked(Option<String>),
    Pause {
        until: Instant,
    },
    /// Somebody else has written: there will be a newer snapshot.
    Outdated,
}

impl Holder {
    /// Of an entry of the store. One that makes no sense names nobody.
    pub(super) fn of(entry: &Entry) -> Self {
        Self {
            worker: LoadTask::parse(&entry.value).unwrap_or_default().0,
            mod_revision: entry.mod_revision,
        }
    }
}

impl Files {
    /// Takes what the store holds, if it is newer than what is known.
    pub(super) fn learn(&mut self, mark: &Mark) {
        if mark.revision > self.mark.revision {
            self.mark.clone_from(mark);
            if self.write == Write::Outdated {
                self.write = Write::Idle;
            }
        }
    }

    /// Notes that a unit has files here that it is about to load.
    pub(super) const fn are_here(&mut self, unit: Ticket) {
        self.here = true;
        self.waits = Some(unit);
    }

    /// The unit is over.
    pub(super) const fn unit_ended(&mut self) {
        self.waits = None;
    }

    /// Writes what the store should hold and does not, and lets a unit begin once it does. When the
    /// tables are `loaded`, nobody needs files any more.
    pub(super) fn turn(&mut self, at: Surroundings<'_>, io: &mut Io, loaded: bool) {
        match self.write {
            Write::Asked(_) | Write::Outdated => return,
            Write::Pause { until } if at.now < until => return,
            _ => self.write = Write::Idle,
        }
        let holder = self.mark.holder.as_ref();
        let ours = holder.is_some_and(|holder| holder.worker == io.config.worker);
        if ours && let Some(of) = self.waits.take() {
            io.tell(Effect::Unit(UnitCall::Marked { of }));
        }
        let wanted = match loaded {
            true if holder.is_some() => None,
            false if self.here && !ours => Some(io.config.worker.clone()),
            _ => return,
        };
        let key = Key::LoadTask {
            task: at.task.into(),
            source: at.source.into(),
        };
        let value = wanted.clone().map(|worker| LoadTask(worker).to_json());
        let mod_revision = holder.map_or(0, |holder| holder.mod_revision);
        self.write = Write::Asked(wanted);
        let pending = Pending::Files {
            source: at.source.into(),
            task: at.task.into(),
        };
        io.replace(pending, &key, value, mod_revision);
    }

    /// Takes the answer to a write.
    pub(super) fn replaced(&mut self, now: Instant, outcome: &Outcome) {
        let Write::Asked(written) = mem::take(&mut self.write) else {
            return;
        };
        match outcome {
            Outcome::Ok(Reply::Written { revision }) => {
                let mod_revision = *revision;
                self.mark = Mark {
                    revision: mod_revision,
                    holder: written.map(|worker| Holder {
                        worker,
                        mod_revision,
                    }),
                };
            }
            // Whoever has written may have the source, which only a snapshot tells. The one that
            // shows it may be here already.
            Outcome::Ok(Reply::Refused { entry }) => {
                let there = entry.as_ref().map_or(0, |entry| entry.mod_revision);
                let known = self.mark.holder.as_ref();
                if known.map_or(0, |holder| holder.mod_revision) != there {
                    self.write = Write::Outdated;
                }
            }
            _ => self.write = Write::Pause { until: now + RETRY },
        }
    }

    /// Says of a load that has not found its files here that another worker has them, if one has.
    pub(super) fn explain(&self, worker: &str, errors: &mut [Error]) {
        let Some(Holder { worker: holder, .. }) = &self.mark.holder else {
            return;
        };
        if self.here || holder == worker || holder.is_empty() {
            return;
        }
        let is_missing = |error: &&mut Error| {
            error.is(&code::PARSE_MYDUMPER_META) || error.is(&code::LOAD_TASK_CHECKPOINT_NOT_MATCH)
        };
        for error in errors.iter_mut().filter(is_missing) {
            let message = format!(
                "different worker in load stage, previous worker: {holder}, current worker: \
                 {worker}"
            );
            let different = Error::new(&code::LOAD_TASK_WORKER_NOT_MATCH, message)
                .with_workaround(mem::take(&mut error.workaround));
            *error = different.with_cause(mem::take(&mut error.message));
        }
    }

    /// The next moment at which [`turn`](Self::turn) has something to do.
    pub(super) const fn timeout(&self) -> Option<Instant> {
        match self.write {
            Write::Pause { until } => Some(until),
            _ => None,
        }
    }
}
