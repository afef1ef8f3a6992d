//! The arguments given at the start of a task (`start-task --start-time …`).
//!
//! An argument that is used once has to go from the control store when it has had its effect, or a
//! restart would use it again. It goes by a write on the condition that nobody else has written
//! since, so arguments of a later start are never lost.

use alloc::{string::String, sync::Arc};
use core::{mem, time::Duration};

use super::{
    input::{Argument, Outcome, Reply},
    io::{Io, Pending},
    subtask::Surroundings,
};
use crate::{
    control::{Key, TaskCliArgs, duration},
    time::Instant,
};

/// Between an attempt to write and the next.
const RETRY: Duration = Duration::from_secs(1);
/// How long a unit may look for a transaction boundary if nobody says otherwise.
const STOP_LIMIT: Duration = Duration::from_secs(10);

/// The arguments of a subtask, as of a write of their key.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Stored {
    pub(super) value: Arc<TaskCliArgs>,
    pub(super) mod_revision: i64,
}

/// What is left of the arguments of a subtask.
#[derive(Clone, Debug, Default)]
pub(super) struct Arguments {
    stored: Option<Stored>,
    /// Those that have had their effect.
    used: Used,
    write: Write,
}

#[derive(Clone, Copy, Debug, Default, PartialEq)]
struct Used {
    start_time: bool,
    safe_mode_duration: bool,
}

#[derive(Clone, Debug, Default, PartialEq)]
enum Write {
    #[default]
    Idle,
    /// These are being written.
    Asked(TaskCliArgs),
    Pause {
        until: Instant,
    },
}

impl Arguments {
    /// Takes what the store holds, if it is newer than what is known.
    pub(super) fn learn(&mut self, stored: Option<&Stored>) {
        let known = self.stored.as_ref().map(|known| known.mod_revision);
        if stored.is_some_and(|stored| known.is_some_and(|known| stored.mod_revision <= known)) {
            return;
        }
        if stored.map(|stored| &*stored.value) != self.unused().as_deref() {
            // Not our own doing: they are new, and have had no effect yet.
            self.used = Used::default();
        }
        self.stored = stored.cloned();
    }

    /// Arguments that have not had their effect yet.
    pub(super) fn unused(&self) -> Option<Arc<TaskCliArgs>> {
        let stored = &self.stored.as_ref()?.value;
        if self.used == Used::default() {
            return Some(Arc::clone(stored));
        }
        let mut left = TaskCliArgs::clone(stored);
        if self.used.start_time {
            left.start_time = String::new();
        }
        if self.used.safe_mode_duration {
            left.safe_mode_duration = String::new();
        }
        Some(Arc::new(left))
    }

    /// How long a graceful stop may take.
    pub(super) fn stop_limit(&self) -> Duration {
        let stored = self.stored.as_ref();
        stored
            .and_then(|stored| duration::parse(&stored.value.wait_time_on_stop))
            .unwrap_or(STOP_LIMIT)
    }

    /// Notes that an argument has had its effect.
    pub(super) const fn used(&mut self, argument: Argument) {
        match argument {
            Argument::StartTime => self.used.start_time = true,
            Argument::SafeModeDuration => self.used.safe_mode_duration = true,
        }
    }

    /// Writes what is left, if the store holds more.
    pub(super) fn turn(&mut self, at: Surroundings<'_>, io: &mut Io) {
        match self.write {
            Write::Asked(_) => return,
            Write::Pause { until } if at.now < until => return,
            _ => self.write = Write::Idle,
        }
        let (Some(stored), Some(left)) = (&self.stored, self.unused()) else {
            return;
        };
        if stored.value == left {
            return;
        }
        let key = Key::TaskCliArgs {
            task: at.task.into(),
            source: at.source.into(),
        };
        self.write = Write::Asked(TaskCliArgs::clone(&left));
        let pending = Pending::Arguments {
            source: at.source.into(),
            task: at.task.into(),
        };
        io.replace(pending, &key, Some(left.to_json()), stored.mod_revision);
    }

    /// Takes the answer to a write.
    pub(super) fn replaced(&mut self, now: Instant, outcome: &Outcome) {
        let Write::Asked(written) = mem::take(&mut self.write) else {
            return;
        };
        match *outcome {
            Outcome::Ok(Reply::Written {
                revision: mod_revision,
            }) => {
                self.stored = Some(Stored {
                    value: Arc::new(written),
                    mod_revision,
                });
            }
            // Newer ones stand there, or none: these count, once they are read.
            Outcome::Ok(_) => self.used = Used::default(),
            _ => self.write = Write::Pause { until: now + RETRY },
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
