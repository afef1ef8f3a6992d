//! A slot: its progress, and the batches on their way.

use alloc::{collections::VecDeque, sync::Arc};

use crate::sync::{
    batch::{Batch, Open},
    progress::{Applied, Location, SlotProgress},
};

#[derive(Debug)]
pub(super) struct Slot {
    /// What its progress row says.
    pub(super) progress: SlotProgress,
    /// What it had applied at the start, as long as the reader isn't past that.
    pub(super) resume: Option<Applied>,
    /// Number of the last batch that is applied.
    pub(super) applied_last: u64,
    /// The batch that takes changes.
    pub(super) open: Option<Open>,
    /// Batches that take no more changes, oldest first.
    pub(super) closed: VecDeque<Closed>,
    /// The batch that is handed out.
    pub(super) flight: Option<Flight>,
}

/// A batch that takes no more changes.
#[derive(Debug)]
pub(super) struct Closed {
    pub(super) open: Open,
    /// What the slot has applied after it.
    pub(super) applied: Applied,
}

/// A batch that was handed out and is not known to be applied.
#[derive(Debug)]
pub(super) struct Flight {
    pub(super) batch: Arc<Batch>,
    pub(super) state: State,
    number: u64,
    first: (u64, Arc<Location>),
}

impl Flight {
    /// Batches are numbered in the order in which they were opened.
    pub(super) fn number(&self) -> u64 {
        self.number
    }
}

#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) enum State {
    /// Somebody is applying it.
    Out,
    /// Nobody knows whether it is applied.
    Unknown,
    /// It is not applied.
    Failed,
    /// It is not applied, and may be handed out again.
    Ready,
}

impl Slot {
    /// A slot as its progress row has it, for a reader that starts at `start`.
    pub(super) fn new(progress: SlotProgress, start: &Location) -> Self {
        let applied = &progress.applied;
        let is_ahead = applied.boundary != *start || applied.txn.is_some();
        Self {
            resume: is_ahead.then(|| applied.clone()),
            progress,
            applied_last: 0,
            open: None,
            closed: VecDeque::new(),
            flight: None,
        }
    }

    /// Whether everything that it got is applied.
    pub(super) fn is_idle(&self) -> bool {
        self.open.is_none() && self.closed.is_empty() && self.flight.is_none()
    }

    /// Lets the open batch take no more changes.
    pub(super) fn close(&mut self, applied: Applied) {
        let open = self.open.take();
        self.closed
            .extend(open.map(|open| Closed { open, applied }));
    }

    /// Hands out the oldest closed batch.
    pub(super) fn hand_out(&mut self) -> Option<Arc<Batch>> {
        let Closed { open, applied } = self.closed.pop_front()?;
        let (number, first) = (open.number, open.first.clone());
        let batch = Arc::new(Batch {
            slot: self.progress.slot,
            seq: self.progress.seq,
            applied,
            rows: open.rows,
            bytes: open.bytes,
            lenient: open.lenient,
            safe: open.safe,
            segments: open.into_segments(),
        });
        self.flight = Some(Flight {
            batch: Arc::clone(&batch),
            state: State::Out,
            number,
            first,
        });
        Some(batch)
    }

    /// Hands out the batch that failed, if it may be tried again.
    pub(super) fn hand_out_again(&mut self) -> Option<Arc<Batch>> {
        let flight = self.flight.as_mut()?;
        if flight.state != State::Ready {
            return None;
        }
        flight.state = State::Out;
        Some(Arc::clone(&flight.batch))
    }

    /// The batch that was handed out is applied. Returns the memory that it held.
    pub(super) fn finish(&mut self) -> usize {
        let Some(flight) = self.flight.take() else {
            unreachable!("checked by the caller");
        };
        self.applied_last = flight.number;
        self.progress.seq += 1;
        self.progress.applied.clone_from(&flight.batch.applied);
        flight.batch.bytes
    }

    /// The boundary before the first change that is not known to be applied.
    pub(super) fn first_unfinished(&self) -> Option<&(u64, Arc<Location>)> {
        let flight = self.flight.as_ref().map(|flight| &flight.first);
        let waiting = self
            .closed
            .front()
            .map(|closed| &closed.open)
            .or(self.open.as_ref());
        flight.or_else(|| waiting.map(|open| &open.first))
    }
}
