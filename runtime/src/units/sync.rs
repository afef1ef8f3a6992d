//! The sync unit: binlog in, fenced transactions out.
//!
//! One loop plans (`dm_core::sync`), a task reads and decodes ahead of it, and one task per slot
//! talks to the target. Nothing in here decides about exactly-once: the planner knows what is
//! applied, the target's progress rows are the truth, and every run begins by reading them, so a
//! lost connection, a crash and a failover are the same case.

mod cursor;
mod ddl;
mod facts;
mod origin;
mod reader;
mod resume;
mod run;
mod slots;
mod tables;

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
    time::Duration,
};

use dm_core::{
    binlog::Decoder,
    control::SubtaskConfig,
    error::{Error, code},
    guard::Guard,
    lifecycle::{self, Job, Outcome, Reply},
    sync::{
        plan::{Planner, PlannerConfig},
        progress::{Fence, Location},
    },
};
use tokio::{sync::mpsc, time::Instant};
use tracing::{info, warn};

pub use self::facts::SyncFacts;
pub(super) use self::origin::Relay;
use self::{
    cursor::Cursor,
    origin::{Names, look_for},
    reader::Reader,
    resume::Beginning,
    run::{Ended, Run},
    slots::{BATCH_BYTES_MAX, Slots},
    tables::{Later, Tables},
};
use super::{
    Breaks, Stop, StopSignal,
    copy::{ANEW, hand_over},
    rules, stopped,
    tasks::Tasks,
};
use crate::{
    memory::Memory,
    ports::{Connect, Events, Recovered, Source, Target, copy::Copy},
};

/// How long a free slot waits for more changes before it takes what there is.
const LINGER: Duration = Duration::from_millis(5);
/// What a packet may hold besides the rows: the progress write and its guard, with GTID sets.
const PACKET_BYTES_RESERVED: usize = 256 << 10;

/// Why a run ended that should have gone on.
#[derive(Debug)]
enum Failure {
    /// Somebody else owns the source.
    Fenced(Error),
    /// The binlog stream broke; reading on from the recorded progress may help.
    Stream(Error),
    /// The relay log can't be read; the source may help.
    Relay(Error),
    /// It is not known what is applied; the recorded progress says it.
    Lost(Error),
    /// An operator, or time, must help.
    Other(Error),
}

impl From<Error> for Failure {
    fn from(error: Error) -> Self {
        if error.is(&code::SYNCER_FENCED) {
            return Self::Fenced(error);
        }
        Self::Other(error)
    }
}

impl Failure {
    fn map(self, with: impl FnOnce(Error) -> Error) -> Self {
        match self {
            Self::Fenced(error) => Self::Fenced(with(error)),
            Self::Stream(error) => Self::Stream(with(error)),
            Self::Relay(error) => Self::Relay(with(error)),
            Self::Lost(error) => Self::Lost(with(error)),
            Self::Other(error) => Self::Other(with(error)),
        }
    }
}

/// One subtask's sync unit.
pub(super) struct SyncUnit<K> {
    /// Makes the doors.
    pub(super) connect: K,
    /// The subtask and its source.
    pub(super) job: Job,
    /// The fence of this ownership; `None` to take the next of the target's own counter.
    pub(super) fence: Option<Fence>,
    /// The relay of its source, if it is to read the log of that.
    pub(super) relay: Option<Relay>,
    /// Counters that outlive this run.
    pub(super) facts: Arc<SyncFacts>,
    /// Where it reports that it works.
    pub(super) events: Events,
    /// For what is read and not applied.
    pub(super) memory: Memory,
    /// Whether it is over where rows of a copy are of one moment: where safe mode ends.
    pub(super) ends: bool,
}

impl<K: Connect> SyncUnit<K> {
    /// Replicates until it is told to stop, can't go on, or comes to its end.
    pub(super) async fn run(mut self, mut stop: StopSignal) -> Outcome {
        let mut breaks = Breaks::default();
        loop {
            let mut tasks = Tasks::default();
            let mut kill = stop.clone();
            let result = tokio::select! {
                biased;
                () = stopped(&mut kill, Stop::Now) => Ok(Ended::Stopped),
                result = self.attempt(&mut stop, &mut tasks) => result,
            };
            if Guard::TasksEnd.holds() {
                tasks.end().await;
            }
            match result {
                Ok(Ended::Stopped) => return Outcome::Ok(Reply::Stopped),
                Ok(Ended::Reached) => return Outcome::Ok(Reply::Finished),
                Ok(Ended::HandedOver | Ended::Resized | Ended::Better) => {}
                Err(Failure::Fenced(error)) => return Outcome::Fenced(error),
                Err(Failure::Relay(error)) => {
                    if let Some(relay) = &mut self.relay {
                        relay.failed(error);
                    }
                }
                Err(Failure::Stream(error) | Failure::Lost(error)) if breaks.is_rare() => {
                    warn!(%error, "starting over from the recorded progress");
                }
                Err(Failure::Stream(error) | Failure::Lost(error) | Failure::Other(error)) => {
                    return Outcome::Failed(vec![error]);
                }
            }
        }
    }

    /// One run: from the progress recorded in the target until the first failure or stop.
    async fn attempt(
        &mut self,
        stop: &mut StopSignal,
        tasks: &mut Tasks,
    ) -> Result<Ended, Failure> {
        let (task, config) = (&self.job.task, &self.job.source);
        let source = self.connect.source(config);
        let mut upstream = source.probe(true).await?;
        let rules = rules(task, &source).await?;
        let target = Arc::new(self.connect.target(&self.job, &upstream).await?);
        let recovered = target.take_over(self.fence).await?;
        // A stream that breaks does not give the source away.
        self.fence = Some(recovered.fence);
        self.events.send(lifecycle::Event::Initialised);
        if *stop.borrow() >= Stop::AtBoundary {
            return Ok(Ended::Stopped);
        }
        let mut planning = planner_config(task, target.packet_bytes_max(), self.memory);
        let Recovered {
            slots: mut progress,
            mut safe_until,
            mut checkpoint,
            ..
        } = recovered;
        let mut beginning = None;
        if self.ends && progress.is_empty() {
            return Err(Failure::Other(removed()));
        }
        if progress.is_empty()
            && checkpoint.is_none()
            && task.meta.is_none()
            && let Some(copy) = target.copy().await?
        {
            // What was copied while the task did nothing else goes on where it began.
            hand_over(&*target, &self.job, &copy, true).await?;
            return Ok(Ended::HandedOver);
        }
        if progress.is_empty() {
            if checkpoint.is_some() {
                // Up to the takeover its owner may have applied what was not there at the probe.
                upstream.end = source.end().await?;
            }
            let mut chosen = Beginning::choose(checkpoint.as_ref(), task, &upstream)?;
            let at = &mut chosen.at;
            if config.enable_gtid && at.gtids.is_none() {
                at.gtids = Some(source.gtids_at(&at.position.plain()).await?);
            }
            // Nothing is recorded that nobody can start at.
            resume::start(at, config.enable_gtid)?;
            beginning = Some(chosen);
        } else if task.meta.is_some() {
            info!(
                source = config.source_id,
                task = task.name,
                "goes on from its progress in the target: `meta` counts for a first start only"
            );
        }
        // A relay log begins with what is needed of it.
        let chosen = beginning.as_ref().map(|beginning| &beginning.at);
        let recorded = || resume::lowest(&progress, checkpoint.as_ref(), config.enable_gtid);
        if let Some(needed) = chosen.or_else(recorded) {
            self.facts.note_needs(needed);
        }
        let log = (self.relay.as_ref()).map(|relay| relay.log(&self.connect, &self.job, &upstream));
        let names = match (&mut self.relay, &log) {
            (Some(relay), Some(log)) => relay.names(log, &upstream).await,
            _ => Names::Plain,
        };
        if let Some(Beginning {
            mut at,
            safe_until: unsafe_end,
            why,
        }) = beginning
        {
            safe_until = unsafe_end;
            let mut places = vec![&mut at.position];
            places.extend(safe_until.as_mut().map(|until| &mut until.position));
            names.settle(&mut places, config.enable_gtid)?;
            info!(source = config.source_id, task = task.name, at = %at, "starts at {why}");
            progress = target
                .reset(planning.slots, &at, safe_until.as_ref())
                .await?;
        }
        if config.enable_gtid
            && let Some(mut at) = resume::without_gtids(&progress)
        {
            at.gtids = Some(source.gtids_at(&at.position.plain()).await?);
            info!(source = config.source_id, task = task.name, at = %at, "goes on by GTID");
            progress = target
                .reset(planning.slots, &at, safe_until.as_ref())
                .await?;
        }
        planning.by_gtid = config.enable_gtid
            && progress.iter().all(|slot| {
                slot.applied
                    .boundary
                    .gtids
                    .as_ref()
                    .is_some_and(|gtids| !gtids.is_empty())
            });
        let places = resume::places(&mut progress, safe_until.as_mut());
        names.settle(&mut { places }, planning.by_gtid)?;
        if let Some(checkpoint) = &mut checkpoint {
            // Nothing goes on from it here.
            names.settle(&mut [&mut checkpoint.global.position], true)?;
        }
        let needed = resume::lowest(&progress, checkpoint.as_ref(), planning.by_gtid).cloned();
        if self.ends && safe_until.is_none() {
            return Ok(Ended::Reached);
        }
        let later = match safe_until {
            // Once it is passed, so are all of these places.
            Some(_) => match target.copy().await {
                Ok(copy) => later(copy, &names, planning.by_gtid)?,
                // Another worker has loaded the tables.
                Err(error) if error.is(&code::LOAD_TASK_CHECKPOINT_NOT_MATCH) => Later::default(),
                Err(error) => return Err(error.into()),
            },
            None => Later::default(),
        };
        let (done, results) = mpsc::unbounded_channel();
        let planner = Planner::new(planning.clone(), progress);
        let slots = Slots::start(tasks, &target, (planner.slots(), self.memory), &done);
        let at = planner.location();
        self.facts.note_flushed(at, needed.as_ref().unwrap_or(at));
        let from = resume::start(planner.location(), planning.by_gtid)?;
        let decoder = Decoder::new(upstream.flavor);
        let follower = match (&mut self.relay, &log) {
            (Some(relay), Some(log)) => Some(relay.open(log, planner.location(), &from).await),
            _ => None,
        };
        let reads_relay = matches!(follower, Some(Ok(_)));
        self.facts.note_origin(reads_relay);
        info!(
            source = config.source_id,
            task = task.name,
            %from,
            "reading the {}",
            if reads_relay { "relay log" } else { "binlog" }
        );
        let mut better = None;
        let given = (&self.facts, self.memory);
        let reader = match follower {
            Some(Ok(follower)) => Reader::relay(tasks, follower, decoder, given),
            other => {
                let from = names.ask(from, other.and_then(Result::err).as_ref())?;
                let stream = source.dump(&from).await.map_err(Failure::Stream)?;
                if let Some(log) = log {
                    let facts = Arc::clone(&self.facts);
                    better = Some(look_for(tasks, log, facts, planning.by_gtid));
                }
                Reader::stream(tasks, stream, names.number(), decoder, given)
            }
        };
        let mut run = Run {
            facts: &self.facts,
            tables: Tables::new(
                source,
                Arc::clone(&target),
                rules,
                later,
                planner.location(),
            ),
            cursor: Cursor::new(planner.location(), upstream.flavor, planning.by_gtid),
            planner,
            slots,
            results,
            reader,
            window: safe_until.clone(),
            safe_until,
            ends: self.ends,
            always_safe: task.sync.safe_mode,
            by_gtid: planning.by_gtid,
            lower_case_names: upstream.lower_case_table_names != 0,
            flush_interval: flush_interval(task),
            started: Instant::now(),
            flushed: Instant::now(),
            chunk: None,
            barrier: None,
            alone: BTreeSet::new(),
            better,
            target: Arc::clone(&target),
        };
        let ended = match run.until_stopped(stop).await {
            Err(Failure::Stream(error)) if reads_relay => return Err(Failure::Relay(error)),
            ended => ended?,
        };
        if let Ended::Resized = ended {
            let at = run.planner.location().clone();
            info!(slots = planning.slots, at = %at, "changing the number of slots");
            target
                .reset(planning.slots, &at, run.safe_until.as_ref())
                .await?;
        }
        Ok(ended)
    }
}

/// Where the rows of copied tables are from, where that is not the place at which the copy began.
fn later(copy: Option<Copy>, names: &Names, by_gtid: bool) -> Result<Later, Failure> {
    let Some(Copy {
        tables,
        mut from,
        mut until,
        ..
    }) = copy
    else {
        return Ok(Later::default());
    };
    let (mut places, mut again) = (BTreeMap::new(), BTreeMap::new());
    let mut copied = BTreeSet::new();
    for (name, table) in tables {
        if !table.is_gone {
            copied.insert(name.clone());
        }
        again.extend(table.again.map(|again| (name.clone(), again)));
        places.extend(table.place.map(|place| (name, place)));
    }
    let all = places.values_mut().chain(again.values_mut());
    let mut positions: Vec<_> = all
        .chain(&mut until)
        .chain([&mut from])
        .map(|place: &mut Location| &mut place.position)
        .collect();
    names.settle(&mut positions, by_gtid)?;
    Ok(Later {
        places,
        again,
        copied,
        from,
        until,
        by_gtid,
    })
}

/// Of the progress between the moments of a copy's rows.
fn removed() -> Error {
    let text = "inconsistent checkpoints: rows of the copy are of several moments, and how far the \
                binlog between is applied was removed, or written by somebody else";
    Error::new(&code::LOAD_TASK_CHECKPOINT_NOT_MATCH, text).with_workaround(ANEW)
}

fn planner_config(task: &SubtaskConfig, packet_bytes_max: usize, memory: Memory) -> PlannerConfig {
    PlannerConfig {
        slots: u32::try_from(task.sync.worker_count).unwrap_or(1).max(1),
        batch_rows_max: u32::try_from(task.sync.batch).unwrap_or(1).max(1),
        batch_bytes_max: BATCH_BYTES_MAX,
        packet_bytes_max: packet_bytes_max.saturating_sub(PACKET_BYTES_RESERVED),
        memory_bytes_max: memory.changes(),
        linger: LINGER,
        by_gtid: false,
    }
}

fn flush_interval(task: &SubtaskConfig) -> Duration {
    Duration::from_secs(
        u64::try_from(task.sync.checkpoint_flush_interval)
            .unwrap_or(30)
            .max(1),
    )
}
