//! Pumps the worker machine: carries its effects out and tells it what came of them.
//!
//! The only loop between the decisions in `dm_core::lifecycle` and the world. It decides nothing:
//! every effect becomes a task, every task's end becomes an input.

use std::{collections::BTreeMap, future::Future, iter::from_fn};

use dm_core::{
    error::Error,
    guard::Guard,
    lifecycle::{
        Command, ControlCall, Effect, Era, Input, Outcome, Reply, Ticket, UnitCall, View, Worker,
    },
    time::Instant,
};
use tokio::{
    sync::{mpsc, watch},
    task::JoinHandle,
};
use tracing::{debug, error};

use crate::{
    clock::Clock,
    journal::Journal,
    panics::caught,
    ports::{Connect, Control, Events},
    units::{Stop, Units},
};

/// Runs a machine until it is over.
pub struct Driver<C, K> {
    worker: Worker,
    control: C,
    units: Units<K>,
    clock: Clock,
    inputs: mpsc::UnboundedReceiver<Input>,
    inbox: mpsc::UnboundedSender<Input>,
    tasks: BTreeMap<Ticket, Running>,
    view: watch::Sender<View>,
    journal: Journal,
}

/// An effect under way.
struct Running {
    task: JoinHandle<()>,
    /// For units only.
    stop: Option<watch::Sender<Stop>>,
    /// For units only: tells a load that its files are marked.
    marked: Option<watch::Sender<bool>>,
    /// For calls on the control store only: its name.
    call: Option<&'static str>,
}

impl<C: Control, K: Connect> Driver<C, K> {
    /// A driver for `worker`; commands come through `commands`, and what the machine looks like
    /// after each step can be seen in `view`.
    pub fn new(
        worker: Worker,
        control: C,
        units: Units<K>,
        clock: Clock,
        view: watch::Sender<View>,
    ) -> Self {
        let (inbox, inputs) = mpsc::unbounded_channel();
        Self {
            worker,
            control,
            units,
            clock,
            inputs,
            inbox,
            tasks: BTreeMap::new(),
            view,
            journal: Journal::default(),
        }
    }

    /// Pumps until the machine is over, which it is some time after [`Command::Stop`].
    pub async fn run(mut self, mut commands: mpsc::UnboundedReceiver<Command>) {
        self.step(|worker, now| worker.handle_input(now, Input::Command(Command::Start)));
        while !self.worker.is_over() {
            let wake = self.worker.poll_timeout();
            tokio::select! {
                biased;
                Some(command) = commands.recv() => {
                    self.step(|worker, now| worker.handle_input(now, Input::Command(command)));
                }
                Some(input) = self.inputs.recv() => {
                    if let Input::Done { ticket, outcome } = &input {
                        self.over(*ticket, outcome);
                    }
                    self.step(|worker, now| worker.handle_input(now, input));
                }
                () = self.clock.sleep_until(wake) => {
                    self.step(|worker, now| worker.handle_timeout(now));
                }
            }
        }
    }

    /// An effect is over. What ends a unit, or is in its way, is said in the log, too: the status
    /// shows only the last.
    fn over(&mut self, ticket: Ticket, outcome: &Outcome) {
        let running = self.tasks.remove(&ticket);
        if let Some(call) = running.as_ref().and_then(|running| running.call) {
            self.journal.called(call, outcome);
        }
        let what = running.and_then(|running| match running {
            Running { call: Some(_), .. } => None,
            Running { stop: Some(_), .. } => Some("unit ended"),
            _ => Some("no unit begins yet"),
        });
        match (outcome, what) {
            (Outcome::Failed(errors), Some(what)) => {
                errors
                    .iter()
                    .for_each(|error| error!(%ticket, "{what}: {error}"));
            }
            (Outcome::Fenced(error), Some(what)) => error!(%ticket, "{what}: {error}"),
            _ => debug!(%ticket, ?outcome, "done"),
        }
    }

    fn step(&mut self, handle: impl FnOnce(&mut Worker, Instant)) {
        let now = self.clock.now();
        handle(&mut self.worker, now);
        let effects: Vec<_> = from_fn(|| self.worker.poll_effect()).collect();
        let view = self.worker.view();
        self.journal.stepped(&view);
        // In this order: whoever is started is seen to be there.
        self.view.send_replace(view);
        for (ticket, effect) in effects {
            debug!(%ticket, ?effect, "effect");
            self.start(ticket, effect);
        }
    }

    fn start(&mut self, ticket: Ticket, effect: Effect) {
        match effect {
            Effect::Control(ControlCall::Unwatch { of }) => {
                if let Some(watch) = self.tasks.remove(&of) {
                    watch.task.abort();
                    self.spawn(of, async { Outcome::Ok(Reply::Closed) }, unknown);
                }
            }
            Effect::Control(call) => {
                let control = self.control.clone();
                let events = Events::new(ticket, self.inbox.clone());
                let name = name(&call);
                let call = async move { control.call(call, events).await };
                self.spawn(ticket, call, unknown).call = Some(name);
            }
            Effect::Unit(UnitCall::Start(start)) => {
                let (stop, signal) = watch::channel(Stop::No);
                let (marked, mark) = watch::channel(false);
                let events = Events::new(ticket, self.inbox.clone());
                let unit = self.units.clone().run(start, (signal, mark), events);
                let running = self.spawn(ticket, unit, failed);
                running.stop = Some(stop);
                running.marked = Some(marked);
            }
            Effect::Unit(UnitCall::Marked { of }) => {
                let unit = self.tasks.get(&of);
                if let Some(marked) = unit.and_then(|unit| unit.marked.as_ref()) {
                    marked.send_replace(true);
                }
            }
            Effect::Unit(UnitCall::Stop { of, how }) => {
                if let Some(Running {
                    stop: Some(stop), ..
                }) = self.tasks.get(&of)
                {
                    stop.send_modify(|now| *now = (*now).max(how.into()));
                }
            }
            Effect::Unit(UnitCall::Probe { job, unit }) => {
                self.spawn(ticket, self.units.clone().probe(job, unit), failed);
            }
            Effect::Cancel(era) => self.cancel(ticket, era),
        }
    }

    /// Runs an effect as a task that reports how it ended, even if it panics.
    fn spawn(
        &mut self,
        ticket: Ticket,
        effect: impl Future<Output = Outcome> + Send + 'static,
        panicked: fn(Error) -> Outcome,
    ) -> &mut Running {
        let inbox = self.inbox.clone();
        let task = tokio::spawn(async move {
            let outcome = caught(effect).await.unwrap_or_else(panicked);
            // The driver may be over, and then nobody waits for it.
            let _ = inbox.send(Input::Done { ticket, outcome });
        });
        self.tasks
            .entry(ticket)
            .insert_entry(Running {
                task,
                stop: None,
                marked: None,
                call: None,
            })
            .into_mut()
    }

    /// Ends everything of an era, and reports when nothing of it is left.
    fn cancel(&mut self, ticket: Ticket, era: Era) {
        let mut old = Vec::new();
        for (_, running) in self.tasks.extract_if(.., |ticket, _| ticket.era <= era) {
            match &running.stop {
                // Units end what they started themselves before they are over.
                Some(stop) if Guard::CancelKills.holds() => {
                    stop.send_modify(|now| *now = Stop::Now);
                }
                Some(_) => {}
                None => running.task.abort(),
            }
            old.push(running);
        }
        let all_over = async move {
            for running in old {
                // An aborted task ends with an error, which says that it is over.
                let _ = running.task.await;
            }
            Outcome::Ok(Reply::Closed)
        };
        self.spawn(ticket, all_over, unknown);
    }
}

const fn name(call: &ControlCall) -> &'static str {
    match call {
        ControlCall::Grant { .. } => "granting a lease",
        ControlCall::Renew { .. } => "renewing the lease",
        ControlCall::Announce { .. } => "announcing this worker",
        ControlCall::Revoke { .. } => "giving a lease up",
        ControlCall::Read { .. } => "reading",
        ControlCall::Watch { .. } | ControlCall::Unwatch { .. } => "watching",
        ControlCall::Replace { .. } => "writing what a task has used or needs",
    }
}

fn unknown(error: Error) -> Outcome {
    Outcome::Unknown(error)
}

fn failed(error: Error) -> Outcome {
    Outcome::Failed(vec![error])
}

#[cfg(test)]
mod tests {
    use std::{
        sync::{
            Arc,
            atomic::{AtomicBool, Ordering},
        },
        time::Duration,
    };

    use dm_core::lifecycle::Config;
    use tokio::time::sleep;

    use super::*;
    use crate::{
        metrics::Metrics,
        mysql::connect::Connector,
        standalone::Store,
        units::{Facts, Limits},
    };

    #[tokio::test]
    async fn a_cancellation_is_over_when_everything_of_its_era_is() {
        let worker = Worker::new(Config::new("w", "", 1));
        let (view, _views) = watch::channel(worker.view());
        let facts = Facts::new(&Arc::new(Metrics::default()), "w");
        let connect = Connector {
            worker: "w".into(),
            secret_key: None,
        };
        let units = Units::new(connect, true, facts, Limits::default());
        let mut driver = Driver::new(worker, Store::new([]), units, Clock::start(), view);
        let ticket = |era, op| Ticket { era: Era(era), op };

        // A unit that takes its time, and a call that never ends.
        let (stop, mut signal) = watch::channel(Stop::No);
        let over = Arc::new(AtomicBool::new(false));
        let unit = {
            let over = Arc::clone(&over);
            async move {
                crate::units::stopped(&mut signal, Stop::Now).await;
                sleep(Duration::from_millis(200)).await;
                over.store(true, Ordering::Relaxed);
                Outcome::Ok(Reply::Stopped)
            }
        };
        driver.spawn(ticket(0, 1), unit, failed).stop = Some(stop);
        driver.spawn(ticket(0, 2), std::future::pending(), unknown);
        driver.spawn(ticket(1, 3), std::future::pending(), unknown);
        driver.cancel(ticket(1, 4), Era(0));
        let closed = loop {
            match driver.inputs.recv().await {
                Some(Input::Done { ticket, outcome }) if ticket.era == Era(1) => {
                    assert_eq!(ticket.op, 4);
                    break outcome;
                }
                input => assert!(input.is_some()),
            }
        };
        assert_eq!(closed, Outcome::Ok(Reply::Closed));
        assert!(over.load(Ordering::Relaxed), "a unit is still at work");
        assert_eq!(driver.tasks.len(), 2, "the next era goes on");
    }
}
