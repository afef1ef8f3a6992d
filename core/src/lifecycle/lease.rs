//! The lease, and the announcement that hangs on it.
//!
//! A lease is counted from the moment at which its last acknowledged renewal was *sent*, so this
//! side always sees its end before the store does; and it is given up only after everything that
//! works under it has ended. A change of the time to live is a second lease that takes the
//! announcement over, not a gap.
//!
//! The announcement of another process under the same name is replaced once, when this process
//! begins: most likely it is what a crash left behind. Should the other one live, its fences are
//! lower, and it has to wait for our end, as we have to if somebody takes the name from us: of two
//! processes the newer one works, and they do not take the name from each other for ever.

use alloc::vec::Vec;
use core::{mem, time::Duration};

use bytes::Bytes;

use super::{
    effect::{ControlCall, Effect},
    input::{Outcome, Reply},
    io::{Io, Pending},
    ticket::Era,
};
use crate::{
    control::{KeepAlive, Key},
    guard::Guard,
    time::Instant,
};

/// Between an attempt to become online and the next.
const RETRY: Duration = Duration::from_secs(1);
/// How long giving a lease up is waited for.
const REVOKE_LIMIT: Duration = Duration::from_secs(3);
/// Leases that are remembered until it is known that they are given up.
const OWED_MAX: usize = 8;
/// Renewals sent within the time to live, at least; a silence of the store is noticed if it is
/// longer than what is left of the time to live after the margin and one of these intervals.
const RENEWALS: u32 = 6;
/// The longest time between two renewals.
const RENEW_MAX: Duration = Duration::from_secs(5);

/// The lease of the process.
#[derive(Clone, Debug, Default)]
pub(super) struct Lease {
    state: State,
    /// The lease that the announcement hangs on.
    held: Option<Held>,
    /// The lease that shall take its place.
    next: Next,
    /// Former leases, until the store says that they are gone.
    owed: Vec<Owed>,
    /// Revision of the first announcement of this tenure.
    announced: i64,
    /// Revision of the latest announcement that is known to have been made.
    written: i64,
    loss: Option<Loss>,
}

#[derive(Clone, Debug, Default, PartialEq)]
enum State {
    /// Neither held nor wanted.
    #[default]
    Off,
    /// Held, or being acquired.
    On,
    /// The last tenure is being cancelled; what is owed is given up afterwards.
    Cancelling { again: bool },
    /// What is owed is being given up.
    Revoking { until: Instant, again: bool },
}

#[derive(Clone, Debug, Default, PartialEq)]
enum Next {
    #[default]
    None,
    Pause {
        until: Instant,
    },
    Granting,
    /// Granted. `asked` is false between two attempts to announce.
    Announcing {
        held: Held,
        /// The lease that the announcement hangs on now, as far as we may replace it; 0 for none.
        held_by: i64,
        asked: bool,
        at: Instant,
    },
}

/// A lease to be given up.
#[derive(Clone, Copy, Debug, PartialEq)]
struct Owed {
    lease: i64,
    step: Step,
}

#[derive(Clone, Copy, Debug, PartialEq)]
enum Step {
    /// From this moment on.
    Due(Instant),
    Asked,
}

#[derive(Clone, Debug, PartialEq)]
struct Held {
    id: i64,
    /// The time to live that was asked for.
    asked: Duration,
    /// When the work under it has to end.
    deadline: Instant,
    renew_at: Instant,
}

/// The tenure is over, and why.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) enum Loss {
    /// Nothing acknowledged in time.
    Expired,
    /// The store says that it is gone.
    Gone,
    /// Another process holds the announcement.
    Taken,
}

impl Lease {
    /// Begins to acquire a lease.
    pub(super) fn start(&mut self) {
        if self.state == State::Off {
            self.state = State::On;
        }
    }

    pub(super) const fn online(&self) -> bool {
        self.held.is_some()
    }

    /// Revision of the announcement that began this tenure.
    pub(super) const fn revision(&self) -> i64 {
        self.announced
    }

    /// The lease and the moment at which work under it has to end.
    pub(super) fn facts(&self) -> Option<(i64, Instant)> {
        self.held.as_ref().map(|held| (held.id, held.deadline))
    }

    /// Nothing is held and nothing is under way any more.
    pub(super) fn is_off(&self) -> bool {
        self.state == State::Off
    }

    /// Ends the tenure `over`: once everything in it is cancelled, gives the leases up. With
    /// `again`, a new one is acquired afterwards.
    pub(super) fn lose(&mut self, now: Instant, io: &mut Io, over: Era, again: bool) {
        self.owe_all(now);
        self.loss = None;
        self.state = State::Cancelling { again };
        io.ask(Pending::Cancel, Effect::Cancel(over));
        if !Guard::CancelBeforeRevoke.holds() {
            self.cancelled(now, io);
        }
    }

    /// Gives the lease up; nothing works under it any more.
    pub(super) fn leave(&mut self, now: Instant, io: &mut Io) {
        match &mut self.state {
            State::On => self.revoke(now, io, false),
            State::Cancelling { again } | State::Revoking { again, .. } => *again = false,
            State::Off => {}
        }
    }

    /// Does what is due. `ttl` is the time to live that is wanted.
    pub(super) fn turn(&mut self, now: Instant, io: &mut Io, ttl: Duration) -> Result<(), Loss> {
        match self.state {
            State::Off | State::Cancelling { .. } => return Ok(()),
            State::Revoking { until, again } => {
                let waits = now < until && !self.owed.is_empty();
                if waits || again {
                    self.pay(now, io);
                }
                if !waits {
                    self.state = if again { State::On } else { State::Off };
                    self.next = Next::Pause { until: now + RETRY };
                }
                return Ok(());
            }
            State::On => {}
        }
        if self.held.as_ref().is_some_and(|held| now >= held.deadline) {
            return Err(Loss::Expired);
        }
        if let Some(loss) = self.loss {
            return Err(loss);
        }
        self.turn_next(now, io, ttl)?;
        self.renew(now, io);
        self.pay(now, io);
        Ok(())
    }

    fn turn_next(&mut self, now: Instant, io: &mut Io, ttl: Duration) -> Result<(), Loss> {
        match &mut self.next {
            Next::Pause { until } if now < *until => {}
            Next::None | Next::Pause { .. } => {
                self.next = Next::None;
                if self.held.as_ref().is_none_or(|held| held.asked != ttl) {
                    self.next = Next::Granting;
                    let effect = Effect::Control(ControlCall::Grant { ttl });
                    io.ask(Pending::Grant { sent: now, ttl }, effect);
                }
            }
            Next::Granting => {}
            Next::Announcing { held, .. } if now >= held.deadline => {
                // The announcement may hang on the lease that is running out.
                if self.held.is_some() {
                    return Err(Loss::Expired);
                }
                let lease = held.id;
                self.next = Next::Pause { until: now + RETRY };
                self.owe(now, lease);
            }
            Next::Announcing {
                held,
                held_by,
                asked,
                at,
            } => {
                if !*asked && now >= *at {
                    *asked = true;
                    let lease = held.id;
                    let call = ControlCall::Announce {
                        key: announcement_key(io),
                        value: announcement(io),
                        lease,
                        held_by: *held_by,
                    };
                    io.ask(Pending::Announce { lease }, Effect::Control(call));
                }
            }
        }
        Ok(())
    }

    /// Sends the renewals that are due, whatever became of the earlier ones.
    fn renew(&mut self, now: Instant, io: &mut Io) {
        let next = match &mut self.next {
            Next::Announcing { held, .. } => Some(held),
            _ => None,
        };
        for held in self.held.iter_mut().chain(next) {
            if now >= held.renew_at {
                held.renew_at = now + renew_interval(held.asked);
                let lease = held.id;
                let pending = Pending::Renew { lease, sent: now };
                io.ask(pending, Effect::Control(ControlCall::Renew { lease }));
            }
        }
    }

    /// The next moment at which [`turn`](Self::turn) has something to do.
    pub(super) fn timeout(&self) -> Option<Instant> {
        match self.state {
            State::Off | State::Cancelling { .. } => None,
            State::Revoking { until, .. } => {
                let owed = self.owed.iter().filter_map(Owed::timeout);
                owed.chain([until]).min()
            }
            State::On => {
                let held = self.held.as_ref().map(Held::timeout);
                let next = match &self.next {
                    Next::None | Next::Granting => None,
                    Next::Pause { until } => Some(*until),
                    Next::Announcing {
                        held, asked: true, ..
                    } => Some(held.timeout()),
                    Next::Announcing { held, at, .. } => Some(held.timeout().min(*at)),
                };
                let owed = self.owed.iter().filter_map(Owed::timeout);
                owed.chain(held).chain(next).min()
            }
        }
    }

    pub(super) fn granted(
        &mut self,
        now: Instant,
        io: &Io,
        (sent, asked): (Instant, Duration),
        outcome: &Outcome,
    ) {
        if self.next != Next::Granting {
            return;
        }
        self.next = match *outcome {
            Outcome::Ok(Reply::Lease { id, ttl_s }) if ttl_s > 0 => Next::Announcing {
                held: Held::new(io, id, asked, ttl_s, counted_from(sent, now)),
                held_by: self.held.as_ref().map_or(0, |old| old.id),
                asked: false,
                at: now,
            },
            // A lease that was created without our knowing hangs on nothing, and expires.
            _ => Next::Pause { until: now + RETRY },
        };
    }

    pub(super) fn renewed(
        &mut self,
        now: Instant,
        io: &Io,
        (lease, sent): (i64, Instant),
        outcome: &Outcome,
    ) {
        let current = self.held.as_mut().filter(|held| held.id == lease);
        let is_current = current.is_some();
        let held = current.or(match &mut self.next {
            Next::Announcing { held, .. } if held.id == lease => Some(held),
            _ => None,
        });
        let Some(held) = held else { return };
        let Outcome::Ok(Reply::Lease { ttl_s, .. }) = *outcome else {
            held.renew_at = held.renew_at.min(now + RETRY);
            return;
        };
        if ttl_s > 0 {
            let sent = counted_from(sent, now);
            held.deadline = held.deadline.max(deadline(io, ttl_s, sent));
        } else if is_current || self.held.is_some() {
            self.loss = Some(Loss::Gone);
        } else {
            self.next = Next::Pause { until: now + RETRY };
        }
    }

    pub(super) fn announced(&mut self, now: Instant, lease: i64, outcome: &Outcome) {
        let Next::Announcing {
            held,
            held_by,
            asked,
            at,
        } = &mut self.next
        else {
            return;
        };
        if held.id != lease {
            return;
        }
        let entry = match outcome {
            Outcome::Ok(Reply::Written { revision }) => return self.hold(now, *revision),
            Outcome::Ok(Reply::Refused { entry }) => entry.as_ref(),
            _ => {
                // The store does not answer: the lease stays, and so does the condition, so that
                // trying again is always right.
                (*asked, *at) = (false, now + RETRY);
                return;
            }
        };
        let holder = entry.map_or(0, |entry| entry.lease);
        if let Some(entry) = entry.filter(|_| holder == lease) {
            // An earlier attempt did happen.
            return self.hold(now, entry.mod_revision);
        }
        if self.held.is_some() {
            self.loss = Some(Loss::Taken);
            return;
        }
        // Our own, of an earlier tenure, may be replaced at any time; anybody's at the beginning.
        let own = self.owed.iter().any(|owed| owed.lease == holder);
        let free = holder == 0 || own || self.written == 0 || !Guard::AnnounceCompare.holds();
        (*asked, *at) = (false, if free { now } else { now + RETRY });
        *held_by = if free { holder } else { 0 };
    }

    /// The announcement hangs on the next lease now, as of a revision.
    fn hold(&mut self, now: Instant, revision: i64) {
        let Next::Announcing { held, .. } = mem::take(&mut self.next) else {
            return;
        };
        self.written = revision;
        match self.held.replace(held) {
            // Not the fence: the tenure has not changed hands.
            Some(Held { id: lease, .. }) => self.owe(now, lease),
            None => self.announced = revision,
        }
    }

    /// Compares with what the store says about the announcement: the lease that it hangs on as of
    /// a revision. Somebody who does not ask before he writes may have taken it.
    pub(super) fn confirm(&mut self, revision: i64, holder: i64) {
        let next = match &self.next {
            // Its announcement may have been made though we do not know it yet.
            Next::Announcing { held, .. } => Some(held.id),
            _ => None,
        };
        let ours = |held: &Held| held.id == holder || next == Some(holder);
        if revision >= self.written && self.held.as_ref().is_some_and(|held| !ours(held)) {
            self.loss = Some(Loss::Taken);
        }
    }

    pub(super) fn cancelled(&mut self, now: Instant, io: &mut Io) {
        if let State::Cancelling { again } = self.state {
            self.revoke(now, io, again);
        }
    }

    /// Takes the end of a revocation.
    pub(super) fn revoked(&mut self, now: Instant, lease: i64, outcome: &Outcome) {
        if matches!(outcome, Outcome::Ok(_)) {
            self.owed.retain(|owed| owed.lease != lease);
        } else if let Some(owed) = self.owed.iter_mut().find(|owed| owed.lease == lease) {
            owed.step = Step::Due(now + RETRY);
        }
    }

    /// Gives everything up and waits for that, but not for ever.
    fn revoke(&mut self, now: Instant, io: &mut Io, again: bool) {
        self.owe_all(now);
        self.pay(now, io);
        let until = now + REVOKE_LIMIT;
        self.state = State::Revoking { until, again };
    }

    /// Gives up what is due.
    fn pay(&mut self, now: Instant, io: &mut Io) {
        for Owed { lease, step } in &mut self.owed {
            if matches!(step, Step::Due(at) if now >= *at) {
                *step = Step::Asked;
                let lease = *lease;
                let call = ControlCall::Revoke { lease };
                io.ask(Pending::Revoke { lease }, Effect::Control(call));
            }
        }
    }

    fn owe(&mut self, now: Instant, lease: i64) {
        if !Guard::LeaseGivenUp.holds() {
            return;
        }
        if self.owed.len() == OWED_MAX {
            // It expires by itself, if it is still there.
            self.owed.remove(0);
        }
        let step = Step::Due(now);
        self.owed.push(Owed { lease, step });
    }

    /// Nothing is held any more, and what was asked for will not be answered.
    fn owe_all(&mut self, now: Instant) {
        for owed in &mut self.owed {
            owed.step = Step::Due(now);
        }
        if let Some(Held { id, .. }) = self.held.take() {
            self.owe(now, id);
        }
        if let Next::Announcing { held, .. } = mem::take(&mut self.next) {
            self.owe(now, held.id);
        }
    }
}

impl Held {
    fn new(io: &Io, id: i64, asked: Duration, ttl_s: u64, sent: Instant) -> Self {
        Self {
            id,
            asked,
            deadline: deadline(io, ttl_s, sent),
            renew_at: sent + renew_interval(asked),
        }
    }

    fn timeout(&self) -> Instant {
        self.deadline.min(self.renew_at)
    }
}

impl Owed {
    const fn timeout(&self) -> Option<Instant> {
        match self.step {
            Step::Due(at) => Some(at),
            Step::Asked => None,
        }
    }
}

fn renew_interval(ttl: Duration) -> Duration {
    (ttl / RENEWALS).min(RENEW_MAX)
}

/// The moment from which the store may count a lease.
fn counted_from(sent: Instant, answered: Instant) -> Instant {
    if Guard::LeaseFromSend.holds() {
        sent
    } else {
        answered
    }
}

fn deadline(io: &Io, ttl_s: u64, sent: Instant) -> Instant {
    let ttl = Duration::from_secs(ttl_s);
    if !Guard::LeaseExpiry.holds() {
        return sent + ttl * 1_000;
    }
    let margin = if Guard::LeaseMargin.holds() {
        io.config.margin(ttl)
    } else {
        Duration::ZERO
    };
    sent + (ttl - margin)
}

fn announcement_key(io: &Io) -> Bytes {
    let worker = io.config.worker.clone();
    Bytes::from(Key::KeepAlive { worker }.encode())
}

/// The same over the life of the process, also when the lease changes.
fn announcement(io: &Io) -> Bytes {
    let (worker_name, join_time) = (io.config.worker.clone(), io.config.join_time.clone());
    Bytes::from(
        KeepAlive {
            worker_name,
            join_time,
        }
        .to_json(),
    )
}

#[cfg(test)]
mod tests;
