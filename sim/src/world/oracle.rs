//! Oracles that look at a worker while it works.

use std::{
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use super::{control::Server, trace::Trace, values};

/// Knows whether a worker may write: only while the store holds its announcement.
#[derive(Clone)]
pub(super) struct Tenure {
    worker: String,
    server: Arc<Server>,
    /// Milliseconds since the start until which it is forgiven, since it was frozen: what it had
    /// in hand at that moment it sends before it can look at a clock.
    forgiven: Arc<AtomicU64>,
}

impl Tenure {
    /// The tenure of a worker.
    pub(super) fn new(worker: &str, server: &Arc<Server>) -> Self {
        Self {
            worker: worker.to_owned(),
            server: Arc::clone(server),
            forgiven: Arc::default(),
        }
    }

    /// The worker was frozen until now.
    pub(super) fn thawed(&self, now: Duration) {
        let until = now + Duration::from_millis(20);
        self.forgiven
            .store(until.as_millis() as u64, Ordering::Relaxed);
    }

    /// The worker sends a write.
    pub(super) fn check(&self, trace: &Trace) {
        let now = trace.now();
        if now.as_millis() as u64 <= self.forgiven.load(Ordering::Relaxed) {
            return;
        }
        let key = values::keepalive_key(&self.worker);
        let holds = !self.server.entries(&key).is_empty();
        trace.expect(
            "lease",
            holds,
            format_args!("{} writes without a lease", self.worker),
        );
    }
}
