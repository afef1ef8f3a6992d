//! A worker whose lease is over writes nothing, and one that gives its lease up has nothing open.

use std::{
    sync::{
        Arc,
        atomic::{AtomicI64, AtomicU64, Ordering},
    },
    time::Duration,
};

use dm_core::{lifecycle::View, sync::progress::Fence};
use tokio::sync::watch;

use super::{leak::Doors, order::Orders};
use crate::world::{control::Server, trace::Trace};

pub(in crate::world) const NAME: &str = "lease";

/// For how long a thawed process is forgiven: what it had in hand when it was frozen it sends
/// before it can look at a clock. The fence is there for that.
const FORGIVEN: Duration = Duration::from_millis(20);

/// Knows what a process may write.
#[derive(Clone)]
pub(in crate::world) struct Tenure {
    /// Its worker, and which of all its processes.
    process: String,
    server: Arc<Server>,
    orders: Orders,
    view: watch::Receiver<View>,
    /// The last lease that it had.
    lease: Arc<AtomicI64>,
    /// Milliseconds since the start until which it is forgiven.
    forgiven: Arc<AtomicU64>,
}

impl Tenure {
    /// Of a process that looks like `view`.
    pub(in crate::world) fn new(
        process: &str,
        server: &Arc<Server>,
        orders: &Orders,
        view: watch::Receiver<View>,
    ) -> Self {
        Self {
            process: process.to_owned(),
            server: Arc::clone(server),
            orders: orders.clone(),
            view,
            lease: Arc::default(),
            forgiven: Arc::default(),
        }
    }

    /// The name of the process.
    pub(in crate::world) fn process(&self) -> &str {
        &self.process
    }

    fn worker(&self) -> &str {
        let worker = self.process.split_once('.');
        worker.map_or(&*self.process, |(worker, _)| worker)
    }

    /// The process was frozen until now.
    pub(in crate::world) fn thawed(&self, now: Duration) {
        let until = now + FORGIVEN;
        self.forgiven
            .store(until.as_millis() as u64, Ordering::Relaxed);
    }

    /// The process gives a lease up, while it has this open.
    pub(in crate::world) fn gives_up(&self, trace: &Trace, lease: i64, doors: &Doors) {
        // Another one may be given up at any time.
        let held = self.view.borrow().lease.map(|(held, _)| held);
        let is_other = held.is_some_and(|held| held != lease);
        if lease == self.lease.load(Ordering::Relaxed) && !is_other {
            let open = doors.count();
            trace.expect(
                NAME,
                open == 0,
                format_args!(
                    "{} gives lease {lease} up with {open} doors open",
                    self.process
                ),
            );
        }
    }

    /// The process takes a source over.
    pub(in crate::world) fn takes(&self, trace: &Trace, source: &str, fence: Fence) {
        let owners = self.server.ownerships();
        owners.takes(trace, source, self.worker(), fence);
    }

    /// The process sends a write for a source, for the task of this number, under the fence by
    /// which it took over, if it has already.
    pub(in crate::world) fn writes(
        &self,
        trace: &Trace,
        source: &str,
        task: u64,
        fence: Option<Fence>,
    ) {
        let held = self.view.borrow().lease.map(|(lease, _)| lease);
        if let Some(lease) = held {
            self.lease.store(lease, Ordering::Relaxed);
        }
        let now = trace.now();
        if now.as_millis() as u64 <= self.forgiven.load(Ordering::Relaxed) {
            return;
        }
        self.orders.writes(trace, source, self.worker(), task);
        if let Some(fence) = fence {
            let owners = self.server.ownerships();
            owners.writes(trace, source, self.worker(), fence);
        }
        let lease = self.lease.load(Ordering::Relaxed);
        let ends = self.server.lease_ends(lease);
        trace.expect(
            NAME,
            ends.is_some_and(|ends| now < ends),
            format_args!(
                "{} writes at {now:?}, and its lease {lease} ends at {ends:?}",
                self.process
            ),
        );
    }
}
