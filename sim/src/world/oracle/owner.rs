//! A fence is a moment at which the source was its worker's, and nobody goes on for long under an
//! ownership that is over.

use std::{
    collections::BTreeMap,
    sync::{Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use dm_core::sync::progress::Fence;

use super::order::OBEYED_MAX;
use crate::world::trace::Trace;

pub(in crate::world) const NAME: &str = "owner";

/// All ownerships of all sources, the oldest first.
#[derive(Debug, Default)]
pub(in crate::world) struct Ownerships(Mutex<BTreeMap<String, Vec<Ownership>>>);

/// That a source is a worker's, or nobody's.
#[derive(Clone, Debug)]
struct Ownership {
    worker: Option<String>,
    /// Revision and time of its beginning.
    since: i64,
    from: Duration,
}

impl Ownerships {
    /// The bindings become others at a revision: pairs of a source and its worker.
    pub(in crate::world) fn bound(
        &self,
        (revision, now): (i64, Duration),
        bindings: &BTreeMap<String, String>,
    ) {
        let mut known = self.known();
        for source in bindings.keys() {
            known.entry(source.clone()).or_default();
        }
        for (source, ownerships) in known.iter_mut() {
            let worker = bindings.get(source);
            let last = ownerships.last().and_then(|last| last.worker.as_ref());
            if last != worker {
                ownerships.push(Ownership {
                    worker: worker.cloned(),
                    since: revision,
                    from: now,
                });
            }
        }
    }

    /// A worker takes a source over.
    pub(in crate::world) fn takes(&self, trace: &Trace, source: &str, worker: &str, fence: Fence) {
        let known = self.known();
        let ownerships = known.get(source).into_iter().flatten();
        let then = ownerships
            .take_while(|ownership| ownership.since <= fence.0)
            .last();
        let owner = then.and_then(|ownership| ownership.worker.as_deref());
        trace.expect(
            NAME,
            owner == Some(worker),
            format_args!(
                "{worker} takes {source} over under fence {}, and at that revision it was {}'s",
                fence.0,
                owner.unwrap_or("nobody"),
            ),
        );
    }

    /// A worker that has taken a source over sends a write for it.
    pub(in crate::world) fn writes(&self, trace: &Trace, source: &str, worker: &str, fence: Fence) {
        let known = self.known();
        let Some(now) = known.get(source).and_then(|ownerships| ownerships.last()) else {
            return;
        };
        let is_current = now.worker.as_deref() == Some(worker) && now.since <= fence.0;
        trace.expect(
            NAME,
            is_current || trace.now() < now.from + OBEYED_MAX,
            format_args!(
                "{worker} writes for {source} under fence {}, which is {}'s since revision {}, \
                 {:?}",
                fence.0,
                now.worker.as_deref().unwrap_or("nobody"),
                now.since,
                now.from,
            ),
        );
    }

    fn known(&self) -> MutexGuard<'_, BTreeMap<String, Vec<Ownership>>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
