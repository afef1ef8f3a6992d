//! The units: what a subtask runs, one after the other.

pub mod copy;
pub(crate) mod files;
mod moving;
pub(crate) mod payload;
pub mod relay;
pub mod sync;
mod tasks;
mod writer;

use std::{
    collections::BTreeMap,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use dm_core::{
    control::{SourceConfig, SubtaskConfig, subtask::Mode},
    error::Result,
    lifecycle::{self, Job, Outcome, Reply, Start, View},
    status::UnitKind,
    sync::{ddl::Rules, progress::Location},
};
use tokio::{sync::watch, time::Instant};

use self::{
    copy::{CopyFacts, outdated},
    moving::Moving,
    relay::{RelayFacts, RelayUnit, SyncGroup},
    sync::{Relay, SyncFacts, SyncUnit},
};
use crate::{
    config::support,
    memory::Memory,
    metrics::{Metrics, RelayMetrics, SyncMetrics},
    panics::caught,
    ports::{Connect, Events, Source, Target},
};

/// How a unit is told to end. It only ever rises.
#[derive(Clone, Copy, Debug, Default, Eq, Ord, PartialEq, PartialOrd)]
pub enum Stop {
    /// Go on.
    #[default]
    No,
    /// Stop at the end of the source transaction being read, with everything applied.
    AtBoundary,
    /// Stop now; transactions under way are abandoned and settled by the next run.
    Now,
}

impl From<lifecycle::Stop> for Stop {
    fn from(how: lifecycle::Stop) -> Self {
        match how {
            // The machine itself raises it to a kill when the limit is over.
            lifecycle::Stop::Graceful { .. } => Self::AtBoundary,
            lifecycle::Stop::Kill => Self::Now,
        }
    }
}

/// Tells a unit to end.
pub type StopSignal = watch::Receiver<Stop>;

/// Tells a load unit that its dump files are marked as this worker's.
pub type MarkSignal = watch::Receiver<bool>;

/// Waits until the signal reaches `at_least`.
pub(crate) async fn stopped(signal: &mut StopSignal, at_least: Stop) {
    // An error says that nobody is left who could ever say "go on".
    let _ = signal.wait_for(|stop| *stop >= at_least).await;
}

/// A stream that breaks is opened again at once if the last break was longer ago than this;
/// otherwise the unit is over, and resumes with the back-off of auto-resume.
const RECONNECT_AFTER: Duration = Duration::from_secs(60);

/// When the stream of a unit broke last, if it did.
#[derive(Default)]
struct Breaks(Option<Instant>);

impl Breaks {
    /// It broke: whether it may be opened again at once.
    fn is_rare(&mut self) -> bool {
        let is_rare = self.0.is_none_or(|last| last.elapsed() > RECONNECT_AFTER);
        if is_rare {
            self.0 = Some(Instant::now());
        }
        is_rare
    }
}

/// Makes and runs units.
#[derive(Clone, Debug)]
pub struct Units<K> {
    connect: K,
    /// Whether the fence is the target's own counter.
    alone: bool,
    facts: Facts,
    limits: Limits,
}

/// What bounds units.
#[derive(Clone, Copy, Debug, Default)]
pub struct Limits {
    /// How relay logs are synced.
    pub group: SyncGroup,
    /// Memory of each subtask for rows.
    pub memory: Memory,
}

/// What the units let others see. It outlives pauses.
#[derive(Clone, Debug)]
pub struct Facts(Arc<Shared>);

#[derive(Debug)]
struct Shared {
    metrics: Arc<Metrics>,
    worker: String,
    known: Mutex<Known>,
}

#[derive(Debug, Default)]
struct Known {
    /// Sources that a unit was started for, by id.
    sources: BTreeMap<String, Arc<SourceConfig>>,
    /// Counters, by source and task.
    subtasks: BTreeMap<(String, String), Arc<SyncFacts>>,
    /// How far their copies are.
    copies: BTreeMap<(String, String), Arc<CopyFacts>>,
    /// Where each source's relay stands.
    relays: BTreeMap<String, Arc<RelayFacts>>,
}

impl Facts {
    /// Of a worker that has run nothing yet.
    #[must_use]
    pub fn new(metrics: &Arc<Metrics>, worker: &str) -> Self {
        Self(Arc::new(Shared {
            metrics: Arc::clone(metrics),
            worker: worker.to_owned(),
            known: Mutex::default(),
        }))
    }

    /// The counters of a subtask.
    #[must_use]
    pub fn of(&self, source: &str, task: &str) -> Arc<SyncFacts> {
        let name = (source.to_owned(), task.to_owned());
        let new = || {
            let Shared {
                metrics, worker, ..
            } = &*self.0;
            let metrics = SyncMetrics::new(metrics, task, source, worker);
            Arc::new(SyncFacts::new(metrics))
        };
        Arc::clone(self.known().subtasks.entry(name).or_insert_with(new))
    }

    /// How far the copy of a subtask's tables is.
    #[must_use]
    pub fn copy(&self, source: &str, task: &str) -> Arc<CopyFacts> {
        let name = (source.to_owned(), task.to_owned());
        Arc::clone(self.known().copies.entry(name).or_default())
    }

    /// Where the relay of a source stands.
    #[must_use]
    pub fn relay(&self, source: &str) -> Arc<RelayFacts> {
        let new = || Arc::new(RelayFacts::new(RelayMetrics::new(&self.0.metrics, source)));
        let mut known = self.known();
        Arc::clone(known.relays.entry(source.to_owned()).or_insert_with(new))
    }

    /// From where on each subtask of a source needs its binlog, by task, where that is known.
    fn needs(&self, source: &str) -> BTreeMap<String, Option<Location>> {
        let known = self.known();
        let subtasks = known.subtasks.iter().filter(|((of, _), _)| of == source);
        subtasks
            .map(|((_, task), facts)| (task.clone(), facts.needs()))
            .collect()
    }

    /// Who holds the relay directory of a source, in the words of whoever finds it locked.
    fn holder(&self, source: &str) -> String {
        format!("worker {} for source {source}", self.0.worker)
    }

    /// Forgets the subtasks that are not there any more, and their metrics. Nobody may publish
    /// another view meanwhile, or what is started by then would be forgotten.
    pub fn retain(&self, view: &View) {
        let is_there = |(source, task): &(String, String)| {
            view.sources.iter().any(|known| {
                known.name == *source && known.subtasks.iter().any(|known| known.name == *task)
            })
        };
        let mut known = self.known();
        known.subtasks.retain(|name, _| is_there(name));
        known.copies.retain(|name, _| is_there(name));
        known
            .relays
            .retain(|name, _| view.sources.iter().any(|source| source.name == *name));
    }

    /// Tells Prometheus how far, or how far behind, each subtask is.
    pub fn sample(&self, now_unix: Duration) {
        let known = self.known();
        known
            .subtasks
            .values()
            .for_each(|facts| facts.sample(now_unix));
        known.copies.values().for_each(|facts| facts.sample());
    }

    /// How to reach a source, if a unit was ever started for it.
    #[must_use]
    pub fn source(&self, id: &str) -> Option<Arc<SourceConfig>> {
        self.known().sources.get(id).cloned()
    }

    fn note(&self, source: &Arc<SourceConfig>) {
        self.known()
            .sources
            .insert(source.source_id.clone(), Arc::clone(source));
    }

    fn known(&self) -> MutexGuard<'_, Known> {
        // Every change is one insertion: whoever panicked left nothing half-done.
        self.0.known.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl<K: Connect> Units<K> {
    /// Units that reach the world through `connect`. A worker that runs `alone` has no store that
    /// could order the owners of a source, so the target counts them.
    pub fn new(connect: K, alone: bool, facts: Facts, limits: Limits) -> Self {
        Self {
            connect,
            alone,
            facts,
            limits,
        }
    }

    /// Runs a unit until it is over.
    pub async fn run(
        self,
        start: Start,
        (stop, mark): (StopSignal, MarkSignal),
        events: Events,
    ) -> Outcome {
        let (job, unit, fence) = match start {
            Start::Subtask { job, unit, fence } => (job, unit, fence),
            Start::Relay { source, tasks } => {
                return self.relay(source, tasks, stop, events).await;
            }
        };
        if let Err(error) = check(&job) {
            return Outcome::Failed(vec![error]);
        }
        self.facts.note(&job.source);
        let facts = self.facts.of(&job.source.source_id, &job.task.name);
        // In this order: a purge either sees the subtask, or is seen.
        if let Err(error) = self
            .facts
            .relay(&job.source.source_id)
            .may_start(&job.task.name)
        {
            return Outcome::Failed(vec![error]);
        }
        facts.note_start(Instant::now());
        let fence = (!self.alone).then_some(fence);
        let (alone, memory) = (self.alone, self.limits.memory);
        let copy = self.facts.copy(&job.source.source_id, &job.task.name);
        let connect = self.connect;
        let relay = (job.use_relay).then(|| self.facts.relay(&job.source.source_id));
        let relay = relay.map(Relay::new);
        let ended = match unit {
            UnitKind::Dump | UnitKind::Load => {
                let path = match files::directory(&job.task) {
                    Ok(path) => path,
                    Err(error) => return Outcome::Failed(vec![error]),
                };
                copy.unit_starts(&self.facts.0.metrics, unit, &job);
                let moving = Moving {
                    connect,
                    job,
                    fence,
                    facts: Arc::clone(&copy),
                    needs: Arc::clone(&facts),
                    relay,
                    events,
                    mark,
                    memory,
                    tries: <_>::default(),
                    catches_up: false,
                };
                let ended = moving.run(unit, path.as_deref(), stop).await;
                copy.unit_ended(exit(&ended));
                ended
            }
            _ => {
                let unit = SyncUnit {
                    connect,
                    job,
                    fence,
                    relay,
                    facts: Arc::clone(&facts),
                    events,
                    memory,
                    ends: false,
                };
                let ended = unit.run(stop).await;
                if let Some(is_resumable) = exit(&ended) {
                    facts.metrics.failed(is_resumable);
                }
                ended
            }
        };
        match ended {
            // No store tells whose the source is: whoever came last has it.
            Outcome::Fenced(error) if alone => Outcome::Failed(vec![error]),
            ended => ended,
        }
    }

    async fn relay(
        self,
        config: Arc<SourceConfig>,
        tasks: Vec<String>,
        stop: StopSignal,
        events: Events,
    ) -> Outcome {
        self.facts.note(&config);
        let id = &config.source_id;
        let facts = self.facts.relay(id);
        facts.metrics.started();
        let unit = RelayUnit {
            connect: self.connect,
            who: self.facts.holder(id),
            alone: self.alone,
            tasks,
            subtasks: self.facts.clone(),
            facts: Arc::clone(&facts),
            config,
            group: self.limits.group,
            events,
        };
        // Its readers must hear of a panic, too.
        let ended = caught(unit.run(stop)).await;
        let ended = ended.unwrap_or_else(|error| Outcome::Failed(vec![error]));
        if let Outcome::Failed(errors) = &ended
            && let Some(error) = errors.first()
        {
            facts.metrics.failed(lifecycle::relay_resumable(errors));
            facts.failed(error);
        }
        ended
    }

    /// Says whether a unit has never done anything for a subtask.
    pub async fn probe(self, job: Job, unit: UnitKind) -> Outcome {
        let asked = async {
            check(&job)?;
            let source = self.connect.source(&job.source);
            let upstream = source.probe(follows(&job.task)).await?;
            let target = self.connect.target(&job, &upstream).await?;
            Ok(match unit {
                UnitKind::Sync => !target.has_checkpoint().await?,
                UnitKind::Load => match target.copy().await? {
                    // Files are dumped no more once some of them are loaded.
                    Some(_) if files::directory(&job.task)?.is_some() => false,
                    Some(copy) => {
                        let is_outdated = outdated(&job, &copy, &upstream).is_some();
                        !copy.is_complete()? || is_outdated && copy.reconciled().is_some()
                    }
                    None => true,
                },
                _ => true,
            })
        };
        match asked.await {
            Ok(fresh) => Outcome::Ok(Reply::Probed { fresh }),
            Err(error) => Outcome::Failed(vec![error]),
        }
    }
}

/// Whether the binlog is followed, whatever a task does before.
fn follows(task: &SubtaskConfig) -> bool {
    Mode::parse(&task.mode).is_some_and(Mode::has_sync)
}

/// What decides over names and definitions. Where a task wants what is created to be collated as in
/// the source, whatever the target's defaults are, the source is asked.
async fn rules(task: &SubtaskConfig, source: &impl Source) -> Result<Rules> {
    let mut rules = Rules::new(task)?;
    if task.collation_compatible == "strict" {
        rules.collations = source.collations().await?;
    }
    Ok(rules)
}

/// Whether a unit can be resumed that an error has ended.
fn exit(ended: &Outcome) -> Option<bool> {
    match ended {
        Outcome::Failed(errors) => Some(lifecycle::subtask_resumable(errors)),
        _ => None,
    }
}

/// Fails if a unit would have to do what is not built yet.
fn check(job: &Job) -> Result<()> {
    support::unsupported(&job.task, &job.source)?;
    let mut arguments = job.arguments.iter();
    arguments.try_for_each(|args| support::unsupported_arguments(&job.task.name, args))
}
