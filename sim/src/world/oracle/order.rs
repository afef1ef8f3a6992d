//! An operator's order is obeyed within a bounded time: tasks pause, resume and stop, workers end.
//! And as long as a task is to rest, nobody writes for it, whatever else goes wrong meanwhile; nor
//! for a task that was deleted and made again, as the one that it was before.

use std::{
    collections::BTreeMap,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use crate::world::trace::Trace;

pub(in crate::world) const NAME: &str = "order";

/// How long a worker may take to stop.
const STOPPING: Duration = Duration::from_secs(12);
/// How long a worker that etcd can reach may hear nothing of an order.
const HEARING: Duration = Duration::from_secs(8);
/// How long a worker may go on though it is to do something else: after 35 seconds it has read
/// again, or has no lease.
pub(super) const OBEYED_MAX: Duration = Duration::from_secs(35).saturating_add(STOPPING);

/// What is ordered for the tasks of all sources.
#[derive(Clone, Debug, Default)]
pub(in crate::world) struct Orders {
    tasks: Arc<Mutex<BTreeMap<String, Task>>>,
    /// Since when nothing is between a worker and etcd.
    hear: Arc<Mutex<BTreeMap<String, Duration>>>,
}

/// What is ordered for the task of a source.
#[derive(Clone, Copy, Debug, Default)]
struct Task {
    /// Since when it is to rest.
    rest: Option<Duration>,
    /// How often it was made, and when for the last time.
    made: u64,
    at: Duration,
}

impl Orders {
    /// The task of a source is to run.
    pub(in crate::world) fn run(&self, source: &str) {
        self.tasks().entry(source.to_owned()).or_default().rest = None;
    }

    /// The task of a source is to rest from now on, if it is not already.
    pub(in crate::world) fn rest(&self, source: &str, now: Duration) {
        let mut tasks = self.tasks();
        let task = tasks.entry(source.to_owned()).or_default();
        task.rest = task.rest.or(Some(now));
    }

    /// Whether the task of a source is to rest.
    pub(in crate::world) fn rests(&self, source: &str) -> bool {
        self.task(source).rest.is_some()
    }

    /// The task of a source is made, again or for the first time.
    pub(in crate::world) fn make(&self, source: &str, now: Duration) {
        let mut tasks = self.tasks();
        let task = tasks.entry(source.to_owned()).or_default();
        task.made += 1;
        task.at = now;
    }

    /// The number of a source's task.
    pub(in crate::world) fn made(&self, source: &str) -> u64 {
        self.task(source).made
    }

    /// A worker writes what comes from a source, for the task of this number.
    pub(in crate::world) fn writes(&self, trace: &Trace, source: &str, worker: &str, number: u64) {
        let Task { rest, made, at } = self.task(source);
        let now = trace.now();
        trace.expect(
            NAME,
            number == made || now < at + OBEYED_MAX,
            format_args!(
                "{worker} writes for {source} as for task {number}, which is number {made} since \
                 {at:?}"
            ),
        );
        if let Some(since) = rest {
            let until = self.until(since, worker);
            trace.expect(
                NAME,
                now < until,
                format_args!(
                    "{worker} writes for {source}, which is to rest since {since:?}, at {until:?} \
                     at last"
                ),
            );
        }
    }

    /// Nothing is between a worker and etcd from now on, or something is.
    pub(in crate::world) fn hears(&self, worker: &str, hears: bool, now: Duration) {
        let mut hear = self.hear.lock().unwrap_or_else(PoisonError::into_inner);
        if hears {
            hear.entry(worker.to_owned()).or_insert(now);
        } else {
            hear.remove(worker);
        }
    }

    /// Until when a worker may not have obeyed an order.
    fn until(&self, ordered: Duration, worker: &str) -> Duration {
        let hear = self.hear.lock().unwrap_or_else(PoisonError::into_inner);
        let latest = ordered + OBEYED_MAX;
        let heard = |since: &Duration| latest.min(ordered.max(*since) + HEARING + STOPPING);
        hear.get(worker).map_or(latest, heard)
    }

    fn task(&self, source: &str) -> Task {
        self.tasks().get(source).copied().unwrap_or_default()
    }

    fn tasks(&self) -> MutexGuard<'_, BTreeMap<String, Task>> {
        self.tasks.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
