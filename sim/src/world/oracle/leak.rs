//! Whatever a unit had opened is closed when its task is stopped, and when its process is over: no
//! task outlives its era.

use std::sync::{
    Arc,
    atomic::{AtomicUsize, Ordering},
};

use crate::world::trace::Trace;

pub(in crate::world) const NAME: &str = "leak";

/// Counts what a process has open: binlog dumps, downstreams, sessions.
#[derive(Clone, Debug, Default)]
pub(in crate::world) struct Doors(Arc<AtomicUsize>);

/// Something that is open until it is dropped.
#[derive(Debug)]
pub(in crate::world) struct Door(Doors);

impl Doors {
    /// Opens one.
    pub(in crate::world) fn open(&self) -> Door {
        self.0.fetch_add(1, Ordering::Relaxed);
        Door(self.clone())
    }

    /// How many are open.
    pub(in crate::world) fn count(&self) -> usize {
        self.0.load(Ordering::Relaxed)
    }

    /// A process whose tasks do nothing any more is expected to have those of its relays only.
    pub(in crate::world) fn expect_at_most(
        &self,
        relays: usize,
        trace: &Trace,
        worker: &str,
        when: &str,
    ) {
        let open = self.count();
        trace.expect(
            NAME,
            open <= relays,
            format_args!("{worker} has {open} doors open {when}, and {relays} relays"),
        );
    }
}

impl Drop for Door {
    fn drop(&mut self) {
        self.0.0.fetch_sub(1, Ordering::Relaxed);
    }
}
