//! An operator's order is obeyed within a bounded time: tasks pause, resume and stop, workers end.
//! And as long as a task is to rest, nobody writes for it, whatever else goes wrong meanwhile.

use std::{
    collections::BTreeMap,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use crate::world::trace::Trace;

pub(in crate::world) const NAME: &str = "order";

/// How long a worker may hear nothing of an order: after that it has read again, or has no lease.
const HEARING_MAX: Duration = Duration::from_secs(35);
/// How long a worker that knows of an order may take to stop.
const STOPPING_MAX: Duration = Duration::from_secs(12);

/// What is ordered for the tasks of all sources.
#[derive(Clone, Debug, Default)]
pub(in crate::world) struct Orders {
    /// Since when the task of a source is to rest.
    rest: Arc<Mutex<BTreeMap<String, Duration>>>,
}

impl Orders {
    /// The task of a source is to run.
    pub(in crate::world) fn run(&self, source: &str) {
        self.resting().remove(source);
    }

    /// The task of a source is to rest from now on, if it is not already.
    pub(in crate::world) fn rest(&self, source: &str, now: Duration) {
        self.resting().entry(source.to_owned()).or_insert(now);
    }

    /// Whether the task of a source is to rest.
    pub(in crate::world) fn rests(&self, source: &str) -> bool {
        self.resting().contains_key(source)
    }

    /// Somebody writes what comes from a source.
    pub(in crate::world) fn writes(&self, trace: &Trace, source: &str, worker: &str) {
        let Some(since) = self.resting().get(source).copied() else {
            return;
        };
        let until = since + HEARING_MAX + STOPPING_MAX;
        trace.expect(
            NAME,
            trace.now() < until,
            format_args!("{worker} writes for {source}, which is to rest since {since:?}"),
        );
    }

    fn resting(&self) -> MutexGuard<'_, BTreeMap<String, Duration>> {
        self.rest.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
