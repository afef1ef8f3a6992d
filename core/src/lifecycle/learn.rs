//! What is known of the control store: always one snapshot, read at one revision.
//!
//! A watch only says that it is time to read again, and so does its end, whatever ended it, and so
//! does the clock. Hence nothing depends on events being complete, in order, or delivered once.

use alloc::vec::Vec;
use core::{mem, time::Duration};

use super::{
    desired::{self, Desired, Parsed},
    effect::{ControlCall, Effect, Range},
    input::{Entry, Outcome, Reply},
    io::{Io, Pending},
    ticket::Ticket,
};
use crate::{guard::Guard, time::Instant};

/// Between a failed read, or the end of a watch, and the next read.
const RETRY: Duration = Duration::from_millis(500);

/// The reader of the control store.
#[derive(Clone, Debug, Default)]
pub(super) struct Learner {
    phase: Phase,
    /// The newest snapshot of this tenure.
    desired: Option<Desired>,
    parsed: Parsed,
    watch: Option<Watch>,
    /// Newest revision that a watch has reported.
    seen: i64,
    look: Look,
}

/// Numbers of looks that somebody asked for.
#[derive(Clone, Copy, Debug, Default)]
struct Look {
    asked: u64,
    /// As it was when the last read began.
    begun: u64,
    /// The same of the last read that succeeded.
    done: u64,
}

#[derive(Clone, Debug, Default)]
enum Phase {
    #[default]
    Off,
    /// Nothing to do before this moment, unless a watch calls.
    Rest { until: Instant },
    /// A read has failed; no call of a watch makes the next one come earlier.
    Pause { until: Instant },
    /// Reading which sources are ours; `seen` as it was when that began.
    Assignment { seen: i64 },
    /// Reading about these sources, at the revision of the assignment.
    Details {
        seen: i64,
        revision: i64,
        assignment: Vec<Entry>,
        ranges: Vec<Range>,
    },
}

#[derive(Clone, Debug)]
struct Watch {
    ticket: Ticket,
    ranges: Vec<Range>,
}

impl Learner {
    pub(super) const fn desired(&self) -> Option<&Desired> {
        self.desired.as_ref()
    }

    /// Begins to learn.
    pub(super) fn start(&mut self, now: Instant) {
        if matches!(self.phase, Phase::Off) {
            self.phase = Phase::Rest { until: now };
        }
    }

    /// Forgets everything, as if nothing had ever been read.
    pub(super) fn forget(&mut self) {
        let desired = self.desired.take();
        *self = Self {
            desired: desired.filter(|_| !Guard::LearnAnew.holds()),
            ..Self::default()
        };
    }

    /// Ends the learning; what is known stays.
    pub(super) fn stop(&mut self, io: &mut Io) {
        self.phase = Phase::Off;
        if let Some(Watch { ticket: of, .. }) = self.watch.take() {
            io.tell(Effect::Control(ControlCall::Unwatch { of }));
        }
    }

    /// Does what is due.
    pub(super) fn turn(&mut self, now: Instant, io: &mut Io) {
        let due = match self.phase {
            Phase::Rest { until } => {
                now >= until || self.is_called() || self.look.asked > self.look.done
            }
            Phase::Pause { until } => now >= until,
            _ => false,
        };
        if due {
            self.read_assignment(io);
        }
    }

    /// Asks for a read that begins from now on.
    pub(super) fn look(&mut self, number: u64) {
        self.look.asked = self.look.asked.max(number);
    }

    /// Number of the last look that the snapshot is newer than.
    pub(super) const fn looked(&self) -> u64 {
        self.look.done
    }

    /// Whether a watch knows of something newer.
    fn is_called(&self) -> bool {
        let known = self.desired.as_ref().map_or(0, |desired| desired.revision);
        self.watch.is_some() && self.seen > known
    }

    /// The next moment at which [`turn`](Self::turn) has something to do.
    pub(super) const fn timeout(&self) -> Option<Instant> {
        match self.phase {
            Phase::Rest { until } | Phase::Pause { until } => Some(until),
            _ => None,
        }
    }

    /// Takes the answer to the first step, and takes the second: what these sources are, as of the
    /// same revision.
    pub(super) fn assigned(&mut self, now: Instant, io: &mut Io, outcome: Outcome) {
        let Phase::Assignment { seen } = self.phase else {
            return;
        };
        let Outcome::Ok(Reply::Entries { revision, entries }) = outcome else {
            return self.again(now);
        };
        let ranges = desired::detail_ranges(&entries);
        if ranges.is_empty() {
            self.phase = Phase::Details {
                seen,
                revision,
                assignment: entries,
                ranges,
            };
            let entries = Vec::new();
            return self.detailed(now, io, Outcome::Ok(Reply::Entries { revision, entries }));
        }
        let call = ControlCall::Read {
            ranges: ranges.clone(),
            at: Guard::OneRevision.holds().then_some(revision),
        };
        io.ask(Pending::Details, Effect::Control(call));
        self.phase = Phase::Details {
            seen,
            revision,
            assignment: entries,
            ranges,
        };
    }

    /// Takes the answer to the second step: a snapshot.
    pub(super) fn detailed(&mut self, now: Instant, io: &mut Io, outcome: Outcome) {
        let (seen, revision, assignment, ranges) = match mem::take(&mut self.phase) {
            Phase::Details {
                seen,
                revision,
                assignment,
                ranges,
            } => (seen, revision, assignment, ranges),
            other => return self.phase = other,
        };
        let entries = match outcome {
            Outcome::Ok(Reply::Entries { entries, .. }) => entries,
            Outcome::Compacted => return self.read_assignment(io),
            _ => return self.again(now),
        };
        self.look.done = self.look.begun;
        self.desired = Some(Desired::fold(
            &io.config,
            &mut self.parsed,
            self.desired.as_ref(),
            revision,
            &assignment,
            &entries,
        ));
        let mut until = now + io.config.reread;
        if !Guard::Reread.holds() {
            until = until + io.config.reread * 1_000;
        }
        if self.seen > revision {
            // A change after our read; if it was known before, the store contradicts itself, and
            // need not be asked at once.
            until = if self.seen > seen { now } else { now + RETRY };
            self.seen = revision;
        }
        self.phase = Phase::Rest { until };
        self.watch(io, revision, ranges);
    }

    /// Takes a call of the watch.
    pub(super) fn changed(&mut self, ticket: Ticket, revision: i64) {
        if self
            .watch
            .as_ref()
            .is_some_and(|watch| watch.ticket == ticket)
        {
            self.seen = self.seen.max(revision);
        }
    }

    /// Takes the end of a watch: what it did not report is to be found by reading.
    pub(super) fn unwatched(&mut self, now: Instant, ticket: Ticket) {
        let ended = self.watch.take_if(|watch| watch.ticket == ticket);
        if let (Some(_), Phase::Rest { until }) = (ended, &mut self.phase)
            && Guard::WatchEnd.holds()
        {
            *until = (*until).min(now + RETRY);
        }
    }

    fn read_assignment(&mut self, io: &mut Io) {
        let call = ControlCall::Read {
            ranges: desired::assignment_ranges(&io.config),
            at: None,
        };
        io.ask(Pending::Assignment, Effect::Control(call));
        self.phase = Phase::Assignment { seen: self.seen };
        self.look.begun = self.look.asked;
    }

    fn again(&mut self, now: Instant) {
        self.phase = Phase::Pause { until: now + RETRY };
    }

    /// Makes sure that everything that was read is watched from the next revision on.
    fn watch(&mut self, io: &mut Io, revision: i64, details: Vec<Range>) {
        let mut ranges = desired::assignment_ranges(&io.config);
        ranges.extend(details);
        if self
            .watch
            .as_ref()
            .is_some_and(|watch| watch.ranges == ranges)
        {
            return;
        }
        if let Some(Watch { ticket: of, .. }) = self.watch.take() {
            io.tell(Effect::Control(ControlCall::Unwatch { of }));
        }
        let call = ControlCall::Watch {
            ranges: ranges.clone(),
            from: revision + if Guard::WatchFrom.holds() { 1 } else { 2 },
        };
        let ticket = io.ask(Pending::Watch, Effect::Control(call));
        self.watch = Some(Watch { ticket, ranges });
    }
}
