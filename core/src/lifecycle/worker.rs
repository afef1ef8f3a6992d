//! The machine itself: dispatch, and what holds its parts together.

use alloc::{
    collections::{BTreeMap, BTreeSet},
    format,
    string::String,
    sync::Arc,
};
use core::time::Duration;

use super::{
    config::Config,
    desired::{Assigned, Desired, WantedSource},
    effect::Effect,
    input::{Command, Event, Input, Outcome},
    io::{Io, Pending},
    learn::Learner,
    lease::{Lease, Loss},
    source::{Source, Tenure},
    ticket::Ticket,
    view::View,
};
use crate::{
    error::{Error, code},
    guard::Guard,
    time::Instant,
};

/// The worker machine.
///
/// Feed it with [`handle_input`](Self::handle_input) and [`handle_timeout`](Self::handle_timeout);
/// after each of these carry out what [`poll_effect`](Self::poll_effect) hands out until it is
/// empty, and sleep until [`poll_timeout`](Self::poll_timeout) at most.
#[derive(Clone, Debug)]
pub struct Worker {
    io: Io,
    lease: Lease,
    learner: Learner,
    sources: BTreeMap<String, Source>,
    /// Sources for which a tenure has ended because a target refused them. One is enough, and it
    /// is no use to forget them: a master binds a source anew after each.
    contested: BTreeSet<String>,
    mode: Mode,
    shown: Shown,
    lost: Option<Error>,
    now: Instant,
}

#[derive(Clone, Copy, Debug, PartialEq)]
enum Mode {
    /// Not begun.
    New,
    Working,
    /// On the way out, waiting for transaction boundaries unless told to `kill`.
    Closing {
        kill: bool,
    },
    /// Nothing works any more, the lease is being given up.
    Leaving,
}

/// The source that status reports name.
#[derive(Clone, Debug, Default)]
struct Shown {
    source: String,
    bound: Option<Assigned>,
    relayed: Option<Assigned>,
}

impl Worker {
    /// A machine that does nothing before [`Command::Start`].
    #[must_use]
    pub fn new(config: Config) -> Self {
        Self {
            io: Io::new(config),
            lease: Lease::default(),
            learner: Learner::default(),
            sources: BTreeMap::new(),
            contested: BTreeSet::new(),
            mode: Mode::New,
            shown: Shown::default(),
            lost: None,
            now: Instant::START,
        }
    }

    /// Takes one input. Never blocks, never fails. A time before the last one counts as that.
    pub fn handle_input(&mut self, now: Instant, input: Input) {
        self.now = self.now.max(now);
        match input {
            Input::Command(command) => self.obey(command),
            Input::Event { ticket, event } => {
                if let Some(pending) = self.io.admit(ticket) {
                    self.reported(pending, ticket, &event);
                }
            }
            Input::Done { ticket, outcome } => {
                if let Some(pending) = self.io.admit(ticket) {
                    self.io.forget(ticket);
                    self.done(pending, ticket, outcome);
                }
            }
        }
        self.turn();
    }

    /// To be called at or after [`poll_timeout`](Self::poll_timeout); early or repeated calls do
    /// nothing.
    pub fn handle_timeout(&mut self, now: Instant) {
        self.now = self.now.max(now);
        self.turn();
    }

    /// The next thing to do. Drain until `None` after every `handle_*`.
    #[must_use]
    pub fn poll_effect(&mut self) -> Option<(Ticket, Effect)> {
        self.io.poll()
    }

    /// When [`handle_timeout`](Self::handle_timeout) is wanted, if nothing happens before.
    #[must_use]
    pub fn poll_timeout(&self) -> Option<Instant> {
        let sources = self.sources.values().filter_map(Source::timeout);
        sources
            .chain(self.lease.timeout())
            .chain(self.learner.timeout())
            .min()
    }

    /// Whether [`Command::Stop`] is carried out: nothing works, nothing is held, nothing will be
    /// asked for.
    #[must_use]
    pub fn is_over(&self) -> bool {
        self.mode == Mode::Leaving && self.lease.is_off()
    }

    /// Facts for status reports, metrics and checkers.
    #[must_use]
    pub fn view(&self) -> View {
        let desired = self.learner.desired();
        let draining = self.sources.iter().find(|(_, source)| source.is_draining());
        View {
            era: self.io.era(),
            online: self.lease.online(),
            lease: self.lease.facts(),
            lost: self.lost.clone(),
            revision: desired.map_or(0, |desired| desired.revision),
            looked: self.learner.looked(),
            source: match draining {
                // It is not free for another one before this has ended.
                Some((name, _)) if self.shown.source.is_empty() => name.clone(),
                _ => self.shown.source.clone(),
            },
            errors: desired
                .map(|desired| desired.errors.clone())
                .unwrap_or_default(),
            sources: self
                .sources
                .iter()
                .map(|(name, source)| source.view(name))
                .collect(),
            problems: desired
                .map(|desired| desired.problems.clone())
                .unwrap_or_default(),
            stale: self.io.stale(),
        }
    }

    fn obey(&mut self, command: Command) {
        match (command, self.mode) {
            (Command::Start, Mode::New) => {
                self.mode = Mode::Working;
                self.lease.start();
            }
            (Command::Stop, Mode::New | Mode::Working) => {
                self.mode = Mode::Closing { kill: false };
                self.learner.stop(&mut self.io);
            }
            (Command::Stop, Mode::Closing { .. }) => self.mode = Mode::Closing { kill: true },
            (Command::Resume { source, task }, Mode::Working) => {
                let source = self.sources.get_mut(&source);
                if let Some(subtask) = source.and_then(|source| source.subtask(&task)) {
                    subtask.resume();
                }
            }
            (Command::Look { number }, Mode::Working) => self.learner.look(number),
            _ => {}
        }
    }

    fn reported(&mut self, pending: Pending, ticket: Ticket, event: &Event) {
        match (pending, event) {
            (Pending::Watch, Event::Changed { revision }) => {
                self.learner.changed(ticket, *revision);
            }
            (Pending::Relay { source }, _) => {
                if let Some(source) = self.sources.get_mut(&source) {
                    source.reported(None, ticket, event);
                }
            }
            (Pending::Subtask { source, task }, _) => {
                if let Some(source) = self.sources.get_mut(&source) {
                    source.reported(Some(&task), ticket, event);
                }
            }
            _ => {}
        }
    }

    fn done(&mut self, pending: Pending, ticket: Ticket, outcome: Outcome) {
        let (now, io) = (self.now, &mut self.io);
        match pending {
            Pending::Grant { sent, ttl } => self.lease.granted(now, io, (sent, ttl), &outcome),
            Pending::Renew { lease, sent } => self.lease.renewed(now, io, (lease, sent), &outcome),
            Pending::Announce { lease } => self.lease.announced(now, lease, &outcome),
            Pending::Cancel => self.lease.cancelled(now, io),
            Pending::Revoke { lease } => self.lease.revoked(now, lease, &outcome),
            Pending::Assignment => self.learner.assigned(now, io, outcome),
            Pending::Details => self.learner.detailed(now, io, outcome),
            Pending::Watch => self.learner.unwatched(now, ticket),
            Pending::Relay { .. }
            | Pending::Subtask { .. }
            | Pending::Arguments { .. }
            | Pending::Files { .. } => self.work_done(pending, ticket, outcome),
        }
    }

    fn work_done(&mut self, pending: Pending, ticket: Ticket, outcome: Outcome) {
        let (now, io) = (self.now, &mut self.io);
        let (Pending::Relay { source: name }
        | Pending::Subtask { source: name, .. }
        | Pending::Arguments { source: name, .. }
        | Pending::Files { source: name, .. }) = &pending
        else {
            return;
        };
        let Some(source) = self.sources.get_mut(name) else {
            return;
        };
        if let (Pending::Subtask { task, .. }, Outcome::Fenced(error)) = (&pending, &outcome)
            && source.is_current(task, ticket)
        {
            // Somebody newer owns the source, so what is known here is wrong. If that happens again
            // though all was learnt anew, it is the target that is wrong, and only about this task.
            if self.contested.insert(name.clone()) {
                return self.lose(error.clone());
            }
        }
        match &pending {
            Pending::Subtask { task, .. } => {
                source.subtask_ended((now, name), io, task, ticket, outcome);
            }
            Pending::Arguments { task, .. } => {
                if let Some(subtask) = source.subtask(task) {
                    subtask.replaced(now, &outcome);
                }
            }
            Pending::Files { task, .. } => {
                if let Some(subtask) = source.subtask(task) {
                    subtask.marked(now, &outcome);
                }
            }
            _ => source.relay_ended(now, ticket, outcome),
        }
    }

    /// Closes the difference between what is wanted and what is there, in all parts.
    fn turn(&mut self) {
        self.leave();
        let ttl = self.ttl();
        if let Some(desired) = self.learner.desired() {
            self.lease.confirm(desired.revision, desired.holder);
        }
        if let Err(loss) = self.lease.turn(self.now, &mut self.io, ttl) {
            self.lose(loss.into());
        }
        let online = self.lease.online() || !Guard::AnnounceFirst.holds();
        if self.mode == Mode::Working && online {
            self.learner.start(self.now);
        }
        self.learner.turn(self.now, &mut self.io);
        self.turn_sources();
        self.leave();
    }

    fn turn_sources(&mut self) {
        let none = Desired::default();
        let working = self.mode == Mode::Working;
        let desired = self.learner.desired().filter(|_| working).unwrap_or(&none);
        self.shown.update(desired);
        let (now, io) = (self.now, &mut self.io);
        let tenure = Tenure {
            announced: self.lease.revision(),
            kill: self.mode == Mode::Closing { kill: true },
        };
        self.sources.retain(|name, source| {
            !source.turn((now, name), io, tenure, desired.sources.get(name))
        });
        for (name, wanted) in &desired.sources {
            let Some(config) = &wanted.config else {
                continue;
            };
            if !self.sources.contains_key(name) {
                let mut source = Source::new(Arc::clone(config));
                if !source.turn((now, name), io, tenure, Some(wanted)) {
                    self.sources.insert(name.clone(), source);
                }
            }
        }
    }

    /// Gives the lease up when the way out is clear.
    fn leave(&mut self) {
        let rests = self.sources.is_empty() || !Guard::EndBeforeRevoke.holds();
        if matches!(self.mode, Mode::Closing { .. }) && rests {
            self.mode = Mode::Leaving;
            self.lease.leave(self.now, &mut self.io);
        }
    }

    /// The time to live that the lease should have.
    fn ttl(&self) -> Duration {
        let sources = self
            .learner
            .desired()
            .map(|desired| desired.sources.values());
        let relaying = |source: &WantedSource| source.relay_by_key && source.config.is_some();
        match sources.into_iter().flatten().any(relaying) {
            true => self.io.config.relay_ttl,
            false => self.io.config.ttl,
        }
    }

    /// Ends the tenure. Everything that was started in it is cancelled, what it still reports will
    /// be stale, and nothing that was known in it is believed any longer.
    fn lose(&mut self, why: Error) {
        self.lost = Some(why);
        self.sources.clear();
        self.learner.forget();
        let over = self.io.end_era();
        let again = self.mode == Mode::Working;
        self.lease.lose(self.now, &mut self.io, over, again);
    }
}

impl Shown {
    /// Follows the assignment as the existing worker does: it shows what was assigned last, and
    /// nothing after something was taken away, even if something else is still there.
    fn update(&mut self, desired: &Desired) {
        let pairs = [
            (&mut self.relayed, &desired.relayed),
            (&mut self.bound, &desired.bound),
        ];
        let mut assigned = None;
        for (known, wanted) in pairs {
            if known != wanted {
                known.clone_from(wanted);
                self.source.clear();
                assigned = wanted.as_ref().or(assigned);
            }
        }
        if let Some(assigned) = assigned {
            self.source.clone_from(&assigned.source);
        }
    }
}

impl From<Loss> for Error {
    fn from(loss: Loss) -> Self {
        let why = match loss {
            Loss::Expired => "no renewal was acknowledged in time",
            Loss::Gone => "the lease does not exist any more",
            Loss::Taken => "another process announced itself under the name of this worker",
        };
        Self::new(
            &code::HA_FAIL_KEEPALIVE,
            format!("the lease is lost: {why}"),
        )
    }
}
