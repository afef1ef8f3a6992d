//! Effects on their way out, and the one place where reports from outside are believed or not.

use alloc::{
    collections::{BTreeMap, VecDeque},
    string::String,
};
use core::time::Duration;

use super::{
    config::Config,
    effect::{ControlCall, Effect},
    ticket::{Era, Ticket},
};
use crate::{control::Key, guard::Guard, time::Instant};
use bytes::Bytes;

/// What all parts of the machine share: its way to ask for effects, its settings, its dice.
#[derive(Clone, Debug)]
pub(super) struct Io {
    pub(super) config: Config,
    pub(super) dice: Dice,
    era: Era,
    next_op: u64,
    pending: BTreeMap<u64, Pending>,
    effects: VecDeque<(Ticket, Effect)>,
    stale: u64,
}

/// What an effect in flight was asked for.
#[derive(Clone, Debug, PartialEq)]
pub(super) enum Pending {
    Grant { sent: Instant, ttl: Duration },
    Renew { lease: i64, sent: Instant },
    Announce { lease: i64 },
    Revoke { lease: i64 },
    Cancel,
    Assignment,
    Details,
    Watch,
    Relay { source: String },
    Subtask { source: String, task: String },
    Arguments { source: String, task: String },
    Files { source: String, task: String },
}

impl Io {
    pub(super) fn new(config: Config) -> Self {
        Self {
            dice: Dice::new(config.seed),
            config,
            era: Era(0),
            next_op: 0,
            pending: BTreeMap::new(),
            effects: VecDeque::new(),
            stale: 0,
        }
    }

    pub(super) const fn era(&self) -> Era {
        self.era
    }

    pub(super) const fn stale(&self) -> u64 {
        self.stale
    }

    /// Asks for an effect that has a completion.
    pub(super) fn ask(&mut self, pending: Pending, effect: Effect) -> Ticket {
        let ticket = self.tell(effect);
        self.pending.insert(ticket.op, pending);
        ticket
    }

    /// Asks for a key to be put, or removed without a value, if nobody has written it since that
    /// revision.
    pub(super) fn replace(
        &mut self,
        pending: Pending,
        key: &Key,
        value: Option<String>,
        mod_revision: i64,
    ) {
        let call = ControlCall::Replace {
            key: Bytes::from(key.encode()),
            value: value.map(Bytes::from),
            mod_revision,
        };
        self.ask(pending, Effect::Control(call));
    }

    /// Asks for an effect without a completion.
    pub(super) fn tell(&mut self, effect: Effect) -> Ticket {
        let ticket = Ticket {
            era: self.era,
            op: self.next_op,
        };
        self.next_op += 1;
        self.effects.push_back((ticket, effect));
        ticket
    }

    pub(super) fn poll(&mut self) -> Option<(Ticket, Effect)> {
        self.effects.pop_front()
    }

    /// What is in flight under this ticket. The only gate for reports: whatever is of another
    /// tenure, over already, or never asked for, is counted and dropped here.
    pub(super) fn admit(&mut self, ticket: Ticket) -> Option<Pending> {
        let pending = if ticket.era == self.era || !Guard::StaleTickets.holds() {
            self.pending.get(&ticket.op).cloned()
        } else {
            None
        };
        if pending.is_none() {
            self.stale += 1;
        }
        pending
    }

    /// Takes an effect out of flight; what it still reports is stale from now on.
    pub(super) fn forget(&mut self, ticket: Ticket) {
        self.pending.remove(&ticket.op);
    }

    /// Ends the tenure: nothing in flight will be believed, nothing still queued will happen.
    /// Returns the era that is over.
    pub(super) fn end_era(&mut self) -> Era {
        let over = self.era;
        self.era = Era(over.0 + 1);
        if Guard::StaleTickets.holds() {
            self.pending.clear();
        }
        self.effects.clear();
        over
    }
}

/// A splitmix64 generator: the machine's only randomness, decided by its seed.
#[derive(Clone, Debug)]
pub(super) struct Dice(u64);

impl Dice {
    pub(super) const fn new(seed: u64) -> Self {
        Self(seed)
    }

    /// The next 64 bits.
    pub(super) const fn roll(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut bits = self.0;
        bits = (bits ^ (bits >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        bits = (bits ^ (bits >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        bits ^ (bits >> 31)
    }
}
