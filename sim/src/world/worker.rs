//! A worker process: the production driver and units, with this world's doors.

use std::{
    collections::BTreeMap,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use dm_core::{
    control::SourceConfig,
    error::{Error, Result},
    lifecycle::{Command, Config, Job, View, Worker},
    relay::Strategy,
    status::Stage,
};
use dm_runtime::{
    clock::Clock,
    driver::Driver,
    metrics::Metrics,
    ports::{self, SourceFacts},
    units::{Facts, Limits, Units, relay::Purger},
};
use madsim::{runtime::Handle, task::NodeId};
use tokio::sync::{mpsc, watch};

use super::{
    control::{Client, Server},
    files::{Files, Machine},
    oracle::{
        files::{self, Dumps},
        leak::Doors,
        lease::Tenure,
        order::Orders,
        purge::{self, By},
        relay::{self, Watch},
    },
    purge::{serve, wish},
    source::{Source, Upstream},
    target::{Database, Target},
    trace::Trace,
};
use crate::{dice::Dice, disk::Faults, scenario::TASK};

/// What workers find in the world.
#[derive(Clone)]
pub(super) struct Surroundings {
    pub(super) trace: Trace,
    pub(super) server: Arc<Server>,
    pub(super) orders: Orders,
    pub(super) sources: Arc<BTreeMap<String, Arc<Upstream>>>,
    pub(super) database: Arc<Database>,
    /// What was dumped.
    pub(super) dumps: Dumps,
    /// Whether any source is relayed.
    pub(super) relays: bool,
}

/// Makes the doors of a process's subtasks.
#[derive(Clone)]
pub(super) struct Connect {
    surroundings: Surroundings,
    files: Files,
    tenure: Tenure,
    doors: Doors,
}

impl ports::Connect for Connect {
    type Source = Source;
    type Target = Target;
    type Disk = Files;

    fn disk(&self) -> Files {
        self.files.clone()
    }

    fn source(&self, config: &Arc<SourceConfig>) -> Source {
        let sources = &self.surroundings.sources;
        let upstream = sources.get(&config.source_id);
        Source {
            upstream: Arc::clone(upstream.expect("a master names sources that exist")),
            doors: self.doors.clone(),
            dumps: self.surroundings.dumps.clone(),
        }
    }

    async fn target(&self, job: &Job, _: &SourceFacts) -> Result<Target> {
        let source = &job.source.source_id;
        let task = job.task.to.user.parse();
        let task = task.expect("a master numbers the tasks that it makes");
        let (tenure, doors) = (self.tenure.clone(), self.doors.clone());
        Target::connect(&self.surroundings.database, (source, task), tenure, doors).await
    }
}

/// A worker, of which processes come and go.
pub(super) struct Process {
    pub(super) name: String,
    surroundings: Surroundings,
    config: ProcessConfig,
    machine: Machine,
    lives: u64,
    frozen: bool,
    /// Those that run, the oldest first. There is more than one only by mistake.
    running: Vec<Running>,
}

/// What all processes of a worker have in common.
#[derive(Clone, Copy, Debug)]
pub(super) struct ProcessConfig {
    pub(super) ttl: Duration,
    pub(super) drift_ppm: i32,
    pub(super) seed: u64,
}

struct Running {
    node: NodeId,
    life: u64,
    commands: mpsc::UnboundedSender<Command>,
    view: watch::Receiver<View>,
    over: Arc<AtomicBool>,
    facts: Facts,
    /// What operators want purged.
    purges: mpsc::UnboundedSender<Strategy>,
    tenure: Tenure,
    doors: Doors,
}

impl Process {
    /// A worker that does not run yet.
    pub(super) fn new(name: &str, surroundings: &Surroundings, config: ProcessConfig) -> Self {
        Self {
            name: name.to_owned(),
            surroundings: surroundings.clone(),
            machine: Machine::new(config.seed, &surroundings.trace),
            config,
            lives: 0,
            frozen: false,
            running: Vec::new(),
        }
    }

    /// Starts a process, on a node of its own, whether there is one or not.
    pub(super) fn start(&mut self) {
        self.lives += 1;
        let Self {
            name,
            lives,
            config,
            surroundings,
            machine: disk,
            ..
        } = self;
        let ProcessConfig {
            ttl,
            drift_ppm,
            seed,
        } = *config;
        let node = Handle::current()
            .create_node()
            .name(format!("{name}.{lives}"))
            .build();
        let mut config = Config::new(
            name.clone(),
            format!("2026-01-01T00:00:{lives:02}Z"),
            seed ^ *lives,
        );
        config.ttl = ttl;
        config.relay_ttl = ttl;
        config.relay_dir = Some(relay::DIR.to_owned());
        let machine = Worker::new(config);
        let process = format!("{name}.{lives}");
        let (view, views) = watch::channel(machine.view());
        let (commands, inbox) = mpsc::unbounded_channel();
        let (purges, wishes) = mpsc::unbounded_channel();
        let running = Running {
            node: node.id(),
            life: *lives,
            commands,
            over: Arc::default(),
            purges,
            facts: Facts::new(&Arc::new(Metrics::default()), name),
            tenure: Tenure::new(
                &process,
                &surroundings.server,
                &surroundings.orders,
                views.clone(),
            ),
            view: views,
            doors: Doors::default(),
        };
        let watch = |by| purge::Watch::new(surroundings, disk, (&process, by), &running.view);
        let dumps = files::Watch::new(surroundings, disk, &process, &running.view);
        let connect = Connect {
            surroundings: surroundings.clone(),
            files: disk.files(*lives).watched(watch(By::Relay)).dumping(dumps),
            tenure: running.tenure.clone(),
            doors: running.doors.clone(),
        };
        let (tenure, doors) = (running.tenure.clone(), running.doors.clone());
        let control = Client::new(&surroundings.server, name, tenure, doors);
        let (ended, facts) = (Arc::clone(&running.over), running.facts.clone());
        if surroundings.relays {
            let watch = Watch::new(surroundings, disk, &process, &running.facts);
            tokio::spawn(watch.run(running.view.clone()));
        }
        let purging = Connect {
            files: disk.files(*lives).watched(watch(By::Purge)),
            ..connect.clone()
        };
        let purger = Purger::new(purging, facts.clone(), running.view.clone());
        let known = (facts.clone(), running.view.clone());
        let purges = serve(purger, wishes, known, (surroundings.trace.clone(), process));
        node.spawn(async move {
            let units = Units::new(connect, false, facts, Limits::default());
            let clock = Clock::drifting(drift_ppm);
            let driver = Driver::new(machine, control, units, clock, view);
            let purges = tokio::spawn(purges);
            driver.run(inbox).await;
            purges.abort();
            ended.store(true, Ordering::Relaxed);
        });
        let started = format!("{}.{} starts", self.name, self.lives);
        self.surroundings.trace.note(&self.name, started);
        self.report(running.view.clone());
        self.running.push(running);
    }

    /// Notes how the worker's subtasks change.
    fn report(&self, mut view: watch::Receiver<View>) {
        let name = self.name.clone();
        let trace = self.surroundings.trace.clone();
        tokio::spawn(async move {
            let mut last = String::new();
            while view.changed().await.is_ok() {
                let now = described(&view.borrow());
                if now != last {
                    trace.note(&name, &now);
                    last = now;
                }
            }
        });
    }

    /// Kills all processes, as a power cut does.
    pub(super) fn kill(&mut self) {
        self.kill_but(0);
    }

    /// Kills all processes but so many, the oldest first.
    pub(super) fn kill_but(&mut self, left: usize) {
        let doomed = self.running.len().saturating_sub(left);
        for running in self.running.drain(..doomed) {
            Handle::current().kill(running.node);
            self.machine.kill(running.life);
        }
    }

    /// Cuts the power: all processes are dead, and what they did not sync is lost, or a part of it.
    pub(super) fn power_cut(&mut self) {
        self.kill();
        let seed = self.config.seed ^ self.lives;
        self.machine.crash(&mut Dice::new(seed).fork("power cut"));
        files::survived(&self.surroundings, &self.machine, &self.name);
    }

    /// What is wrong with its disk.
    pub(super) fn set_disk(&self, faults: Faults) {
        self.machine.set_faults(faults);
    }

    /// A bit flips on its disk.
    pub(super) fn rot(&self, dice: &mut Dice) {
        if let Some(path) = self.machine.rot(dice) {
            let trace = &self.surroundings.trace;
            trace.note(&self.name, format_args!("a bit flips in {path}"));
        }
    }

    /// Why the relay of a source rests here.
    pub(super) fn relay_errors(&self, source: &str) -> Vec<Error> {
        let of = |running: &Running| {
            let view = running.view.borrow();
            let known = view.sources.iter().filter(|known| known.name == source);
            let relays = known.filter_map(|known| known.relay.as_ref());
            let results = relays.filter_map(|relay| relay.result.as_ref());
            results.flat_map(|it| it.errors.clone()).collect::<Vec<_>>()
        };
        self.running.iter().flat_map(of).collect()
    }

    /// Whether a source is relayed here, and its task reads what is.
    pub(super) fn reads_relay(&self, source: &str) -> bool {
        self.running.iter().any(|running| {
            let view = running.view.borrow();
            let known = view.sources.iter().find(|known| known.name == source);
            let relay = known.and_then(|known| known.relay.as_ref());
            relay.is_some_and(|relay| relay.stage == Stage::Running)
                && running.facts.of(source, TASK).reads_relay()
        })
    }

    /// An operator wants relay logs removed, here as well if the source is relayed here.
    pub(super) fn purge(&self, source: &str, dice: &mut Dice) {
        let is_relayed = |running: &&Running| {
            let view = running.view.borrow();
            let known = view.sources.iter().find(|known| known.name == source);
            known.is_some_and(|known| known.relay.is_some())
        };
        for running in self.running.iter().filter(is_relayed) {
            // One that has ended by itself hears nothing.
            let _ = running.purges.send(wish(&self.machine, dice));
        }
    }

    /// Freezes all processes, or lets them run on.
    pub(super) fn freeze(&mut self, frozen: bool) {
        if self.frozen == frozen {
            return;
        }
        self.frozen = frozen;
        for running in &self.running {
            if frozen {
                Handle::current().pause(running.node);
            } else {
                running.tenure.thawed(self.surroundings.trace.now());
                Handle::current().resume(running.node);
            }
        }
    }

    /// Whether it runs.
    pub(super) const fn is_running(&self) -> bool {
        !self.running.is_empty()
    }

    /// Tells it to end.
    pub(super) fn stop(&self) {
        for running in &self.running {
            let _ = running.commands.send(Command::Stop);
        }
    }

    /// Whether it has announced itself, and knows what is wanted of it.
    pub(super) fn is_online(&self) -> bool {
        let mut running = self.running.iter();
        running.all(|running| {
            let view = running.view.borrow();
            view.online && view.revision > 0
        })
    }

    /// Whether it has ended by itself.
    pub(super) fn is_over(&self) -> bool {
        let mut running = self.running.iter();
        running.all(|running| running.over.load(Ordering::Relaxed))
    }

    /// It is expected to do nothing any more.
    pub(super) fn expect_rest(&self, when: &str) {
        for running in &self.running {
            let trace = &self.surroundings.trace;
            let view = running.view.borrow();
            let relays = view.sources.iter().filter_map(|known| known.relay.as_ref());
            let relays = relays.filter(|relay| relay.live.is_some()).count();
            running
                .doors
                .expect_at_most(relays, trace, &self.name, when);
        }
    }

    /// Why a source's task rests here.
    pub(super) fn errors(&self, source: &str) -> Vec<Error> {
        let of = |running: &Running| {
            let view = running.view.borrow();
            let subtasks = view.sources.iter().filter(|known| known.name == source);
            let results = subtasks
                .flat_map(|it| &it.subtasks)
                .flat_map(|it| &it.result);
            results.flat_map(|it| it.errors.clone()).collect::<Vec<_>>()
        };
        self.running.iter().flat_map(of).collect()
    }

    /// The stages of a source's task here, one for each process that has it.
    pub(super) fn stages(&self, source: &str) -> impl Iterator<Item = Stage> {
        self.running.iter().filter_map(move |running| {
            let view = running.view.borrow();
            let source = view.sources.iter().find(|known| known.name == source)?;
            Some(source.subtasks.first()?.stage)
        })
    }
}

fn described(view: &View) -> String {
    let mut text = match (&view.lease, view.online) {
        (Some((lease, _)), true) => format!("online by lease {lease}"),
        _ => "offline".to_owned(),
    };
    text += &format!(", era {}", view.era);
    for source in &view.sources {
        if let Some(relay) = &source.relay {
            text += &format!("; relay of {} {:?}", source.name, relay.stage);
            for error in relay.result.iter().flat_map(|result| &result.errors) {
                text += &format!(" [{error}]");
            }
        }
        for subtask in &source.subtasks {
            let fence = source.fence.map_or(0, |fence| fence.0);
            text += &format!("; {} {:?} under fence {fence}", source.name, subtask.stage);
            let errors = subtask.result.iter().flat_map(|result| &result.errors);
            for error in errors {
                text += &format!(" [{error}]");
            }
        }
    }
    if let Some(problem) = view.problems.first() {
        text += &format!("; cannot obey: {}", problem.error);
    }
    text
}
