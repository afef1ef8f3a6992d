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
    error::Result,
    lifecycle::{Command, Config, Job, View, Worker},
    status::Stage,
};
use dm_runtime::{
    driver::Driver,
    metrics::Metrics,
    ports::{self, SourceFacts},
    units::{Facts, Units},
};
use madsim::{runtime::Handle, task::NodeId};
use tokio::sync::{mpsc, watch};

use super::{
    control::{Client, Server},
    oracle::Tenure,
    source::{Source, Upstream},
    target::{Database, Target},
    trace::Trace,
};

/// What workers find in the world.
#[derive(Clone)]
pub(super) struct Surroundings {
    pub(super) trace: Trace,
    pub(super) server: Arc<Server>,
    pub(super) sources: Arc<BTreeMap<String, Arc<Upstream>>>,
    pub(super) database: Arc<Database>,
}

/// Makes the doors of a worker's subtasks.
#[derive(Clone)]
pub(super) struct Connect {
    surroundings: Surroundings,
    tenure: Tenure,
}

impl ports::Connect for Connect {
    type Source = Source;
    type Target = Target;

    fn source(&self, config: &Arc<SourceConfig>) -> Source {
        let sources = &self.surroundings.sources;
        let upstream = sources.get(&config.source_id);
        Source(Arc::clone(
            upstream.expect("a master names sources that exist"),
        ))
    }

    async fn target(&self, job: &Job, _: &SourceFacts) -> Result<Target> {
        let source = &job.source.source_id;
        Target::connect(&self.surroundings.database, source, self.tenure.clone()).await
    }
}

/// A worker, of which processes come and go.
pub(super) struct Process {
    pub(super) name: String,
    surroundings: Surroundings,
    ttl: Duration,
    seed: u64,
    lives: u64,
    pub(super) tenure: Tenure,
    running: Option<Running>,
}

struct Running {
    node: NodeId,
    commands: mpsc::UnboundedSender<Command>,
    view: watch::Receiver<View>,
    over: Arc<AtomicBool>,
}

impl Process {
    /// A worker that does not run yet.
    pub(super) fn new(name: &str, surroundings: &Surroundings, ttl: Duration, seed: u64) -> Self {
        Self {
            name: name.to_owned(),
            surroundings: surroundings.clone(),
            ttl,
            seed,
            lives: 0,
            tenure: Tenure::new(name, &surroundings.server),
            running: None,
        }
    }

    /// Starts a process, on a node of its own.
    pub(super) fn start(&mut self) {
        self.lives += 1;
        let Self {
            name, lives, seed, ..
        } = self;
        let node = Handle::current()
            .create_node()
            .name(format!("{name}.{lives}"))
            .build();
        let mut config = Config::new(
            name.clone(),
            format!("2026-01-01T00:00:{lives:02}Z"),
            *seed ^ *lives,
        );
        config.ttl = self.ttl;
        let machine = Worker::new(config);
        let (view, views) = watch::channel(machine.view());
        let (commands, inbox) = mpsc::unbounded_channel();
        let over = Arc::new(AtomicBool::new(false));
        let connect = Connect {
            surroundings: self.surroundings.clone(),
            tenure: self.tenure.clone(),
        };
        let control = Client::new(&self.surroundings.server, name);
        let (ended, name) = (Arc::clone(&over), name.clone());
        node.spawn(async move {
            let facts = Facts::new(&Arc::new(Metrics::default()), &name);
            let units = Units::new(connect, false, facts);
            Driver::new(machine, control, units, view).run(inbox).await;
            ended.store(true, Ordering::Relaxed);
        });
        self.running = Some(Running {
            node: node.id(),
            commands,
            view: views,
            over,
        });
        let started = format!("{} starts", self.name);
        let trace = self.surroundings.trace.clone();
        trace.note(&self.name, started);
        self.report();
    }

    /// Notes how the worker's subtasks change.
    fn report(&self) {
        let Some(running) = &self.running else { return };
        let (mut view, name) = (running.view.clone(), self.name.clone());
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

    /// Kills the process, as a power cut does.
    pub(super) fn kill(&mut self) {
        if let Some(running) = self.running.take() {
            Handle::current().kill(running.node);
        }
    }

    /// Freezes the process, or lets it run on.
    pub(super) fn freeze(&self, frozen: bool) {
        let Some(running) = &self.running else { return };
        if frozen {
            Handle::current().pause(running.node);
        } else {
            self.tenure.thawed(self.surroundings.trace.now());
            Handle::current().resume(running.node);
        }
    }

    /// Whether it runs.
    pub(super) const fn is_running(&self) -> bool {
        self.running.is_some()
    }

    /// Tells the process to end.
    pub(super) fn stop(&self) {
        if let Some(running) = &self.running {
            let _ = running.commands.send(Command::Stop);
        }
    }

    /// Whether the process has ended by itself.
    pub(super) fn is_over(&self) -> bool {
        (self.running.as_ref()).is_some_and(|running| running.over.load(Ordering::Relaxed))
    }

    /// The stage of a source's task here, if it is here.
    pub(super) fn stage(&self, source: &str) -> Option<Stage> {
        let running = self.running.as_ref()?;
        let view = running.view.borrow();
        let source = view.sources.iter().find(|known| known.name == source)?;
        Some(source.subtasks.first()?.stage)
    }
}

fn described(view: &View) -> String {
    let mut text = match (&view.lease, view.online) {
        (Some((lease, _)), true) => format!("online by lease {lease}"),
        _ => "offline".to_owned(),
    };
    text += &format!(", era {}", view.era);
    for source in &view.sources {
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
