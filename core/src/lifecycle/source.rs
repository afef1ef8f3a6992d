//! One source worker: the subtasks and the relay of one source.

use alloc::{borrow::ToOwned, collections::BTreeMap, string::String, sync::Arc};

use super::{
    desired::{WantedSource, WantedSubtask},
    input::{Event, Outcome},
    io::Io,
    relay::Relay,
    subtask::{Subtask, Surroundings},
    ticket::Ticket,
    view::SourceView,
};
use crate::{
    control::SourceConfig, guard::Guard, status::Stage, sync::progress::Fence, time::Instant,
};

/// A source worker.
#[derive(Clone, Debug)]
pub(super) struct Source {
    /// As of the newest snapshot that had a readable one.
    config: Arc<SourceConfig>,
    /// Orders this ownership among all, while the subtasks are ours.
    fence: Option<Fence>,
    relay: Option<Relay>,
    subtasks: BTreeMap<String, Subtask>,
}

/// What all source workers share.
#[derive(Clone, Copy, Debug)]
pub(super) struct Tenure {
    /// Revision of the announcement that began it.
    pub(super) announced: i64,
    /// Nobody waits for transaction boundaries any more.
    pub(super) kill: bool,
}

impl Source {
    pub(super) const fn new(config: Arc<SourceConfig>) -> Self {
        Self {
            config,
            fence: None,
            relay: None,
            subtasks: BTreeMap::new(),
        }
    }

    /// Closes the difference between what is wanted and what is there. Returns whether the source
    /// worker is over.
    #[must_use]
    pub(super) fn turn(
        &mut self,
        (now, name): (Instant, &str),
        io: &mut Io,
        tenure: Tenure,
        wanted: Option<&WantedSource>,
    ) -> bool {
        if let Some(config) = wanted.and_then(|wanted| wanted.config.as_ref()) {
            self.config = Arc::clone(config);
        }
        let bound = wanted.and_then(|wanted| wanted.bound);
        self.fence = bound.map(|bound| Fence(fence(bound.since, tenure.announced)));
        let by_config = bound.is_some() && self.config.enable_relay;
        let relay_on = wanted.filter(|wanted| wanted.relay_by_key || by_config);
        if let Some(wanted) = relay_on {
            let relay = self.relay.get_or_insert_with(|| Relay::new(now));
            let runs = |(_, task): &(&String, &WantedSubtask)| {
                bound.is_some() && task.expect != Some(Stage::Stopped)
            };
            let tasks = wanted.subtasks.iter().filter(runs);
            let tasks = tasks.map(|(task, _)| task.clone());
            relay.turn(now, io, (name, &self.config), wanted.relay_stage, tasks);
        }
        let at = Surroundings {
            now,
            source: name,
            task: "",
            fence: self.fence.unwrap_or_default(),
            use_relay: relay_on.is_some(),
            kill: tenure.kill,
        };
        let none = BTreeMap::new();
        let subtasks = wanted
            .filter(|_| bound.is_some())
            .map_or(&none, |wanted| &wanted.subtasks);
        self.turn_subtasks(at, io, subtasks);
        if relay_on.is_none() {
            let in_use = self.subtasks.values().any(Subtask::reads_relay);
            self.relay
                .take_if(|relay| relay.close(now, io, in_use, tenure.kill));
        }
        wanted.is_none() && self.relay.is_none() && self.subtasks.is_empty()
    }

    fn turn_subtasks(
        &mut self,
        at: Surroundings<'_>,
        io: &mut Io,
        wanted: &BTreeMap<String, WantedSubtask>,
    ) {
        self.subtasks.retain(|task, subtask| {
            let at = Surroundings { task, ..at };
            !subtask.turn(at, io, wanted.get(task))
        });
        for (task, wanted) in wanted {
            let (Some(setup), Some(_)) = (&wanted.setup, wanted.expect) else {
                continue;
            };
            if self.subtasks.contains_key(task) {
                continue;
            }
            let mut subtask = Subtask::new(at.now, wanted.incarnation, setup.clone());
            if !subtask.turn(Surroundings { task, ..at }, io, Some(wanted)) {
                self.subtasks.insert(task.to_owned(), subtask);
            }
        }
    }

    pub(super) fn subtask(&mut self, task: &str) -> Option<&mut Subtask> {
        self.subtasks.get_mut(task)
    }

    /// Whether a unit of a subtask works under the fence of this ownership.
    pub(super) fn is_current(&self, task: &str, ticket: Ticket) -> bool {
        let fence = self
            .subtasks
            .get(task)
            .and_then(|task| task.fence_of(ticket));
        fence.is_some() && fence == self.fence
    }

    /// Takes a report of a unit; the relay's without a task.
    pub(super) fn reported(&mut self, task: Option<&str>, ticket: Ticket, event: &Event) {
        match task {
            Some(task) => {
                if let Some(subtask) = self.subtasks.get_mut(task) {
                    subtask.reported(ticket, event);
                }
            }
            None => {
                if let Some(relay) = &mut self.relay {
                    relay.reported(ticket, event);
                }
            }
        }
    }

    /// Takes the end of a subtask's unit, or the answer to its probe.
    pub(super) fn subtask_ended(
        &mut self,
        (now, name): (Instant, &str),
        io: &mut Io,
        task: &str,
        ticket: Ticket,
        outcome: Outcome,
    ) {
        let at = Surroundings {
            now,
            source: name,
            task,
            fence: self.fence.unwrap_or_default(),
            use_relay: false,
            kill: false,
        };
        if let Some(subtask) = self.subtasks.get_mut(task) {
            subtask.ended(at, io, ticket, outcome);
        }
    }

    /// Takes the end of the relay unit.
    pub(super) fn relay_ended(&mut self, now: Instant, ticket: Ticket, outcome: Outcome) {
        if let Some(relay) = &mut self.relay {
            relay.ended(now, &self.config, ticket, outcome);
        }
    }

    /// The next moment at which [`turn`](Self::turn) has something to do.
    pub(super) fn timeout(&self) -> Option<Instant> {
        let relay = self.relay.as_ref().and_then(Relay::timeout);
        self.subtasks
            .values()
            .filter_map(Subtask::timeout)
            .chain(relay)
            .min()
    }

    /// Whether something of it has not ended yet, though it is not ours any more.
    pub(super) fn is_draining(&self) -> bool {
        self.fence.is_none() && !self.subtasks.is_empty()
    }

    pub(super) fn view(&self, name: &str) -> SourceView {
        SourceView {
            name: name.to_owned(),
            bound: self.fence.is_some(),
            fence: self.fence,
            relay: self.relay.as_ref().map(Relay::view),
            subtasks: self
                .subtasks
                .iter()
                .map(|(name, subtask)| subtask.view(name))
                .collect(),
        }
    }
}

/// Above the fences of whoever had the source before, and of this worker's former tenures.
fn fence(since: i64, announced: i64) -> i64 {
    if !Guard::FenceOfBound.holds() {
        return announced;
    }
    if !Guard::FenceOfAnnouncement.holds() {
        return since;
    }
    since.max(announced)
}
