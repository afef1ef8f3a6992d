//! What comes out: batches, and how applying them ended.

use alloc::sync::Arc;

use super::{
    Alone, Outcome, Planner,
    slot::{Flight, Slot, State},
};
use crate::{
    guard::Guard,
    sync::batch::{Batch, Open},
    time::Instant,
};

impl Planner {
    /// The next batch to be applied, for a slot that is free. Ask until there is none.
    pub fn poll_batch(&mut self, now: Instant) -> Option<Arc<Batch>> {
        if self.over {
            return None;
        }
        for step in 0..self.slots.len() {
            let slot = (self.turn + step) % self.slots.len();
            if let Some(batch) = self.poll_slot(slot, now) {
                self.turn = slot + 1;
                return Some(batch);
            }
        }
        let waiting = &self.alone.as_ref()?.slots;
        let is_quiet =
            |(index, slot): (usize, &Slot)| waiting.contains(&index) || slot.flight.is_none();
        if !self.slots.iter().enumerate().all(is_quiet) {
            return None;
        }
        self.slots[*waiting.first()?].hand_out_again()
    }

    fn poll_slot(&mut self, slot: usize, now: Instant) -> Option<Arc<Batch>> {
        let alone = self.alone.as_ref();
        if alone.is_some_and(|alone| alone.slots.contains(&slot)) {
            return None;
        }
        if self.slots[slot].flight.is_some() {
            return self.slots[slot].hand_out_again();
        }
        if self.slots[slot].closed.is_empty() {
            let open = self.slots[slot].open.as_ref()?;
            if !self.is_due(open, now) || !self.is_clear(&open.waits) {
                return None;
            }
            self.close(slot);
        }
        let closed = self.slots[slot].closed.front()?;
        let too_late = |alone: &Alone| closed.open.number > alone.batch_last;
        if self.alone.as_ref().is_some_and(too_late) || !self.is_clear(&closed.open.waits) {
            return None;
        }
        self.slots[slot].hand_out()
    }

    fn is_clear(&self, waits: &[(u32, u64)]) -> bool {
        waits.iter().all(|&(slot, batch)| {
            let slot = &self.slots[slot as usize];
            let is_out = |flight: &Flight| flight.number() >= batch;
            slot.applied_last >= batch
                || slot.flight.as_ref().is_some_and(is_out) && !Guard::ConflictApplied.holds()
        })
    }

    /// Whether an open batch may be taken as it is.
    fn is_due(&self, open: &Open, now: Instant) -> bool {
        let whole = self.slots.len() > 1 || self.txn.is_none() || !Guard::WholeTransactions.holds();
        whole
            && (self.flushing
                || self.free_bytes() == 0
                || now >= open.since + self.config.linger
                || open.is_full(&self.config.limits()))
    }

    /// When [`Self::poll_batch`] should be called again, though nothing happens until then.
    pub fn poll_timeout(&self) -> Option<Instant> {
        let waits_for_time = |slot: &&Slot| slot.flight.is_none() && slot.closed.is_empty();
        let open = self
            .slots
            .iter()
            .filter(waits_for_time)
            .filter_map(|slot| slot.open.as_ref());
        let open = open.filter(|open| self.is_clear(&open.waits));
        // Everything else is set off by something that happens.
        if self.over || self.alone.is_some() || self.slots.len() == 1 && self.txn.is_some() {
            return None;
        }
        open.map(|open| open.since + self.config.linger).min()
    }

    /// Says how applying the batch that was handed out for `slot` ended.
    pub fn done(&mut self, slot: u32, outcome: Outcome) {
        let index = slot as usize;
        let Some(flight) = &mut self.slots[index].flight else {
            panic!("slot {slot} has no batch under way");
        };
        match outcome {
            Outcome::Applied => {
                self.bytes -= self.slots[index].finish();
                if let Some(alone) = &mut self.alone {
                    alone.slots.retain(|&slot| slot != index);
                    if alone.slots.is_empty() {
                        self.alone = None;
                    }
                }
            }
            Outcome::Failed => flight.state = State::Failed,
            Outcome::Unknown => flight.state = State::Unknown,
            Outcome::Fenced | Outcome::Moved => self.over = true,
        }
    }

    /// After [`Outcome::Unknown`]: the counter in the slot's progress row says what happened.
    ///
    /// Nothing of the earlier attempt may be able to happen any more.
    pub fn resolved(&mut self, slot: u32, seq: u64) -> Outcome {
        let Some(flight) = &self.slots[slot as usize].flight else {
            panic!("slot {slot} has no batch under way");
        };
        let outcome = match seq.checked_sub(flight.batch.seq) {
            Some(0) => Outcome::Failed,
            Some(1) => Outcome::Applied,
            _ => Outcome::Moved,
        };
        self.done(slot, outcome);
        outcome
    }

    /// After [`Outcome::Failed`]: [`Self::poll_batch`] hands the same batch out again.
    pub fn retry(&mut self, slot: u32) {
        let Some(flight) = &mut self.slots[slot as usize].flight else {
            panic!("slot {slot} has no batch under way");
        };
        assert_eq!(flight.state, State::Failed, "slot {slot} has not failed");
        flight.state = State::Ready;
    }

    /// Like [`Self::retry`], but with nothing else under way, and only once everything that can be
    /// applied before it is. For a duplicate key that should not be: keys that only the target's
    /// collation takes for equal are ordered by this. Several such batches are tried in the order
    /// in which they were opened.
    pub fn retry_alone(&mut self, slot: u32) {
        self.retry(slot);
        let index = slot as usize;
        if let Some(alone) = &mut self.alone {
            let number = |slot: usize| self.slots[slot].flight.as_ref().map(Flight::number);
            if !alone.slots.contains(&index) {
                alone.slots.push(index);
            }
            alone.slots.sort_by_key(|&slot| number(slot));
            return;
        }
        if self.slots.len() > 1 {
            (0..self.slots.len()).for_each(|slot| self.close(slot));
        }
        self.alone = Some(Alone {
            slots: [index].into(),
            batch_last: self.batches,
        });
    }

    /// Lets everything go out without waiting for more, until the next transaction begins.
    pub fn flush(&mut self) {
        self.flushing = true;
    }

    /// Moves the progress of slots that had nothing to do to where the reader is: makes batches
    /// without rows for them.
    pub fn move_idle(&mut self) {
        if self.slots.len() == 1 && self.txn.is_some() || !Guard::IdleSlots.holds() {
            return;
        }
        let place = self.place();
        for index in 0..self.slots.len() {
            let slot = &self.slots[index];
            let is_behind = slot.resume.is_none() && slot.progress.applied != place;
            if slot.is_idle() && is_behind {
                self.batches += 1;
                let first = (self.passed, Arc::clone(&self.boundary));
                let open = Open::new(self.batches, Instant::START, first);
                self.bytes += open.bytes;
                self.slots[index].open = Some(open);
                self.close(index);
            }
        }
    }
}
