//! The relay unit: the source's binlog, copied into files.
//!
//! Nothing is decoded that need not be. One side reads from the source and decides about each event
//! (`dm_core::relay`), the other one has the disk. What a reader may see is what survives a power
//! cut: so no subtask is ever ahead of its relay log.

mod claims;
mod dir;
mod facts;
mod follow;
mod log;
mod pieces;
mod purge;
#[cfg(all(test, not(madsim)))]
mod samples;

use std::{path::Path, pin::pin, sync::Arc, time::Duration};

use bytes::{Bytes, BytesMut};
use dm_core::{
    binlog::{Decoder, Event, Flavor, GtidSet, Position},
    control::SourceConfig,
    error::{Error, Result, Scope, code},
    guard::Guard,
    lifecycle::{self, Outcome, Reply},
    relay::{Meta, Step, SubDir, Writer},
    sync::progress::Location,
};
use futures_util::FutureExt;
use tokio::{
    sync::{Semaphore, mpsc},
    time::{Instant, sleep},
};
use tracing::{info, warn};

use self::{
    dir::{Owner, RelayDir},
    log::{Log, Order},
};
pub use self::{
    facts::{RelayEnd, RelayFacts},
    log::SyncGroup,
    purge::Purger,
};
pub(super) use self::{
    follow::{Follower, Found, RelayLog},
    pieces::plain_len,
};
use super::{Breaks, Facts, Stop, StopSignal, stopped};
use crate::metrics::{RelayMetrics, share};
use crate::ports::{Connect, EventStream, Events, Source, SourceFacts, Start};

/// Bytes that are read and not written yet. A larger event goes alone.
const READ_AHEAD_BYTES: usize = 16 << 20;
/// Bytes that are handed over at once.
const PIECE_BYTES: usize = 1 << 20;
/// So long a new log waits for its readers to find out where they are, and so often it looks.
const NEEDS_LIMIT: Duration = Duration::from_secs(10);
const NEEDS_LOOK: Duration = Duration::from_millis(20);
/// Events at the beginning of a file among which the one is that tells what was before.
const HEAD_EVENTS: usize = 8;

/// One source's relay.
pub(super) struct RelayUnit<K: Connect> {
    /// Makes the doors.
    pub(super) connect: K,
    /// The source.
    pub(super) config: Arc<SourceConfig>,
    /// Who has the directory, in the words of whoever finds it locked.
    pub(super) who: String,
    /// Whether its configuration is a file, and no master's or etcd's.
    pub(super) alone: bool,
    /// The tasks that are to read it.
    pub(super) tasks: Vec<String>,
    /// What is known of them.
    pub(super) subtasks: Facts,
    /// What outlives this run.
    pub(super) facts: Arc<RelayFacts>,
    /// How its files are synced.
    pub(super) group: SyncGroup,
    /// Where it reports that it works.
    pub(super) events: Events,
}

/// Why a run ended.
enum Failure {
    /// The stream broke; another one may bring the rest.
    Stream(Error),
    /// The source has no more what comes next in a log that nobody needs.
    Outdated(Error),
    /// An operator, or time, must help.
    Other(Error),
    /// It was told to end while it waited for the source.
    Stopped,
}

impl From<Error> for Failure {
    fn from(error: Error) -> Self {
        Self::Other(error)
    }
}

impl<K: Connect> RelayUnit<K> {
    /// Relays until it is told to stop or can't go on.
    pub(super) async fn run(self, mut stop: StopSignal) -> Outcome {
        let mut breaks = Breaks::default();
        loop {
            match self.attempt(&mut stop).await {
                Ok(()) | Err(Failure::Stopped) => return Outcome::Ok(Reply::Stopped),
                Err(Failure::Stream(error)) if breaks.is_rare() => {
                    warn!(%error, "connecting to the source again");
                }
                Err(Failure::Outdated(error)) if breaks.is_rare() => {
                    warn!(%error, "all tasks are further: the relay log begins anew");
                }
                Err(Failure::Stream(error) | Failure::Outdated(error) | Failure::Other(error)) => {
                    return Outcome::Failed(vec![error]);
                }
            }
        }
    }

    /// One run: from what is in the directory until the first failure or stop. Whatever it does to
    /// the disk it does to its end: of something that goes on in the background nobody would know
    /// when it is over.
    async fn attempt(&self, stop: &mut StopSignal) -> Result<(), Failure> {
        let config = &self.config;
        if config.relay_dir.is_empty() {
            let text = "the source has no `relay-dir`";
            return Err(Error::new(&code::RELAY_LOG_DIRPATH_EMPTY, text).into());
        }
        let source = self.connect.source(config);
        let upstream = asked(stop, source.probe(true))
            .await?
            .map_err(Failure::Other)?;
        let path = Path::new(&config.relay_dir);
        let opening = asked(stop, self.facts.claims.open()).await?;
        let owner = Owner {
            source: &config.source_id,
            who: &self.who,
            may_empty: !self.alone,
        };
        let mut dir = RelayDir::open(self.connect.disk(), path, owner).await?;
        if dir
            .current()
            .is_none_or(|dir| dir.server() != upstream.server)
        {
            let needed = asked(stop, self.needed()).await?;
            let number = needed.as_ref().and_then(|needed| needed.position.relay());
            let meta = self
                .beginning(&source, &dir, &upstream, needed, stop)
                .await?;
            dir.begin(&upstream.server, number, &meta).await?;
        }
        let writer = dir.recover(upstream.flavor, config.enable_gtid).await?;
        let at = writer.location();
        info!(
            source = config.source_id,
            sub_dir = dir.current().map(ToString::to_string),
            %at,
            "relaying"
        );
        if let Some(sub_dir) = dir.current() {
            self.facts.metrics.sub_dir(config, sub_dir);
        }
        // Where it stood before, perhaps with another server, is over.
        let file = writer.file().unwrap_or_default();
        if let Some(end) = dir.end(file, writer.boundary(), at.clone()) {
            self.facts.pieces().lock().await.clear();
            self.facts.stands(end);
        }
        drop(opening);
        self.events.send(lifecycle::Event::Initialised);
        let stream = match asked(stop, source.dump(&self.start(at.clone())?)).await? {
            Ok(stream) => stream,
            Err(error) if is_gone(&error) && self.is_outdated(&writer, dir.current()) => {
                self.facts.lost();
                dir.clear().await?;
                return Err(Failure::Outdated(error));
            }
            Err(error) => return Err(Failure::Stream(error)),
        };
        if stream.server() != upstream.server && Guard::RelayServer.holds() {
            return Err(Failure::Stream(another_server(stream.server())));
        }
        self.facts.works();
        let (written, spare) = mpsc::channel(READ_AHEAD_BYTES / PIECE_BYTES);
        let facts = &self.facts;
        let mut log = Log::open(dir, Arc::clone(facts), &writer, self.group, written).await?;
        let (orders, mut waiting) = mpsc::unbounded_channel();
        let pump = Pump {
            stream,
            writer,
            piece: BytesMut::new(),
            spare,
            events: 0,
            orders,
            metrics: &facts.metrics,
            budget: Arc::new(Semaphore::new(READ_AHEAD_BYTES)),
        };
        let mut writing = pin!(log.run(&mut waiting));
        let mut reading = pin!(pump.run(stop));
        tokio::select! {
            biased;
            // It ends before the reading does only if the disk fails.
            written = &mut writing => self.noted(written),
            ended = &mut reading => {
                // The orders end with the reading.
                self.noted(writing.await)?;
                ended
            }
        }
    }

    /// Counts what the disk failed at.
    fn noted(&self, written: Result<()>) -> Result<(), Failure> {
        if written.is_err() {
            self.facts.metrics.write_errors.add(1.0);
        }
        written.map_err(Failure::Other)
    }

    /// Where a dump must go on.
    fn start(&self, at: Location) -> Result<Start> {
        let Location { position, gtids } = at;
        match gtids {
            _ if !self.config.enable_gtid => Ok(Start::Position(position)),
            Some(gtids) => Ok(Start::Gtids(gtids)),
            None => Err(Error::new(
                &code::RELAY_TCP_READER_NIL_GTID,
                format!("the relay log has no GTIDs at {position}, and is to go on by GTID"),
            )
            .with_workaround(
                "It was made without GTIDs: set `enable-gtid: false`, or begin with another \
                 `relay-dir`.",
            )),
        }
    }

    /// Up to where the task that is furthest behind has applied everything, if there is one. Waits,
    /// but not for long, until that is known.
    async fn needed(&self) -> Option<Location> {
        let since = Instant::now();
        loop {
            let needs = self.subtasks.needs(&self.config.source_id);
            let is_known = |task: &String| matches!(needs.get(task), Some(Some(_)));
            let unknown = self.tasks.iter().find(|task| !is_known(task));
            if let Some(task) = unknown {
                if since.elapsed() <= NEEDS_LIMIT {
                    sleep(NEEDS_LOOK).await;
                    continue;
                }
                warn!(
                    source = self.config.source_id,
                    task, "a relay log begins without knowing from where on the task needs it"
                );
            }
            let needs = needs.values().flatten();
            return Location::lowest(needs, self.config.enable_gtid).cloned();
        }
    }

    /// Whether all tasks, those that rest as well, are known to be further than the end of the log,
    /// in which there is something.
    fn is_outdated(&self, writer: &Writer, sub_dir: Option<&SubDir>) -> bool {
        let (Some(sub_dir), true) = (sub_dir, writer.file().is_some()) else {
            return false;
        };
        let by_gtid = self.config.enable_gtid;
        let end = writer.location().in_relay(sub_dir.number());
        let is_further = |needed: &Location| {
            (!by_gtid || needed.gtids.is_some() && end.gtids.is_some())
                && needed.reaches(&end, by_gtid)
                && !end.reaches(needed, by_gtid)
        };
        let needs = self.subtasks.needs(&self.config.source_id);
        !needs.is_empty()
            && self.tasks.iter().all(|task| needs.contains_key(task))
            && (needs.values()).all(|needed| needed.as_ref().is_some_and(is_further))
    }

    /// Where the first file of a new sub-directory begins.
    async fn beginning(
        &self,
        source: &K::Source,
        dir: &RelayDir<K::Disk>,
        upstream: &SourceFacts,
        needed: Option<Location>,
        stop: &mut StopSignal,
    ) -> Result<Meta, Failure> {
        let SourceConfig {
            enable_gtid,
            relay_binlog_name,
            relay_binlog_gtid,
            ..
        } = &*self.config;
        if !enable_gtid {
            let name = if dir.current().is_some() {
                // Another server's files have nothing to do with those that were read before.
                String::new()
            } else if let Some(needed) = needed {
                needed.position.plain().file
            } else if relay_binlog_name.is_empty() {
                upstream.end.position.file.clone()
            } else {
                relay_binlog_name.clone()
            };
            let position = Position::new(name, Position::FIRST);
            return Ok(Meta {
                position,
                gtids: None,
            });
        }
        let before = match dir.current() {
            Some(_) => dir.recover(upstream.flavor, true).await?.gtids().cloned(),
            None => None,
        };
        let gtids = match before.or_else(|| needed?.gtids) {
            Some(gtids) => gtids,
            None if relay_binlog_gtid.is_empty() => upstream.end.gtids.clone(),
            None => GtidSet::parse(upstream.flavor, relay_binlog_gtid).map_err(|error| {
                Error::new(&code::RELAY_TCP_READER_START_SYNC_GTID, error.to_string())
            })?,
        };
        asked(stop, file_of(source, upstream.flavor, &gtids)).await?
    }
}

/// Whether a source says that it does not have any more what it is asked for.
fn is_gone(error: &Error) -> bool {
    let says = ["Could not find first log", "purged"];
    error.cause.contains("Error 1236") && says.iter().any(|text| error.cause.contains(text))
}

/// Waits for an answer of the source, unless the unit is told to end.
async fn asked<T>(stop: &mut StopSignal, answer: impl Future<Output = T>) -> Result<T, Failure> {
    tokio::select! {
        biased;
        () = stopped(stop, Stop::AtBoundary) => Err(Failure::Stopped),
        answer = answer => Ok(answer),
    }
}

/// What is sent belongs into another sub-directory: another run begins that.
fn another_server(name: &str) -> Error {
    let text = format!("the source became another server, {name}, just now");
    Error::new(&code::RELAY_TCP_READER_GET_EVENT, text).with_scope(Scope::Upstream)
}

/// The beginning of the file in which the first transaction is that is not in a set.
async fn file_of<S: Source>(source: &S, flavor: Flavor, gtids: &GtidSet) -> Result<Meta, Failure> {
    let from = Start::Gtids(gtids.clone());
    let mut stream = source.dump(&from).await.map_err(Failure::Stream)?;
    let mut decoder = Decoder::new(flavor).accept_unchecked();
    let mut name = String::new();
    for _ in 0..HEAD_EVENTS {
        let raw = stream.next().await.map_err(Failure::Stream)?;
        let damaged = |error: &dyn std::fmt::Display| {
            let code = &code::RELAY_TCP_READER_GET_EVENT;
            Failure::Stream(Error::new(code, error.to_string()))
        };
        let frame = decoder.frame(raw).map_err(|error| damaged(&error))?;
        match decoder.event(&frame).map_err(|error| damaged(&error))? {
            Event::Rotate { file, .. } => name = file,
            Event::PreviousGtids(gtids) | Event::MariadbGtidList(gtids)
                if !frame.header.is_artificial() =>
            {
                let position = Position::new(name, Position::FIRST);
                let gtids = Some(gtids);
                return Ok(Meta { position, gtids });
            }
            _ => {}
        }
    }
    let text = format!("the source does not say which transactions are before its file {name}");
    Err(Error::new(&code::PREVIOUS_GTID_NOT_EXIST, text).into())
}

/// The side that has the connection.
struct Pump<'a, S> {
    stream: S,
    writer: Writer,
    /// What comes at the end of the file and was not handed over yet.
    piece: BytesMut,
    /// How many events those are.
    events: u64,
    /// Memory of pieces that were written: new one costs more than a copy into it.
    spare: mpsc::Receiver<BytesMut>,
    orders: mpsc::UnboundedSender<Order>,
    budget: Arc<Semaphore>,
    metrics: &'a RelayMetrics,
}

impl<S: EventStream> Pump<'_, S> {
    async fn run(mut self, stop: &mut StopSignal) -> Result<(), Failure> {
        loop {
            let ended = self.fill(stop).await;
            // What was read is written, whatever ended the reading.
            let mark = (self.writer.boundary(), self.writer.location());
            self.hand_over(Some(mark)).await;
            match ended {
                Ok(true) => {}
                Ok(false) => return Ok(()),
                Err(failure) => return Err(failure),
            }
        }
    }

    /// Waits for an event, and takes with it what has come meanwhile. Returns whether to go on.
    async fn fill(&mut self, stop: &mut StopSignal) -> Result<bool, Failure> {
        let asked = Instant::now();
        let first = tokio::select! {
            biased;
            () = stopped(stop, Stop::AtBoundary) => return Ok(false),
            raw = self.stream.next() => raw,
        };
        let came = Instant::now();
        let mut next = Some(first);
        let mut taken = 0;
        while let Some(raw) = next {
            let raw = raw.map_err(|error| {
                self.metrics.read_errors.add(1.0);
                Failure::Stream(error)
            })?;
            self.take(raw).await?;
            taken += 1;
            if self.piece.len() >= PIECE_BYTES || *stop.borrow() >= Stop::AtBoundary {
                break;
            }
            next = self.stream.next().now_or_never();
        }
        self.metrics
            .read_duration
            .observe((came - asked).as_secs_f64());
        self.metrics.read_duration.observe_many(0.0, taken - 1);
        share(&self.metrics.transform_duration, came.elapsed(), taken);
        Ok(true)
    }

    /// Does what is to be done with an event. Nobody has it afterwards, so that the stream can use
    /// its memory again.
    async fn take(&mut self, raw: Bytes) -> Result<()> {
        let step = self.writer.take(&raw);
        let is_damaged = |error: &Error| !error.cause.is_empty();
        if step.as_ref().is_err_and(is_damaged) {
            self.metrics.corruptions.add(1.0);
        }
        match step? {
            Step::Pass => return Ok(()),
            Step::Append => self.piece.extend_from_slice(&raw),
            Step::AppendBehind(filler) => {
                self.note_event(filler.len());
                self.piece.extend_from_slice(&filler);
                self.piece.extend_from_slice(&raw);
            }
            Step::Begin { cut } => {
                // Where the writer stands is of the next file already.
                self.hand_over(None).await;
                self.begin(cut);
                self.piece.extend_from_slice(&raw);
            }
        }
        self.note_event(raw.len());
        Ok(())
    }

    fn note_event(&mut self, len: usize) {
        self.events += 1;
        self.metrics.write_size.observe(len as f64);
    }

    fn begin(&self, cut: Option<u64>) {
        let Some(name) = self.writer.file() else {
            return;
        };
        let position = Position::new(name, Position::FIRST);
        let gtids = self.writer.gtids().cloned();
        // Whoever has the disk may have failed; it says so itself.
        let _ = self.orders.send(Order::Begin {
            name: name.to_owned(),
            cut,
            meta: Meta { position, gtids },
        });
    }

    async fn hand_over(&mut self, mark: Option<(u64, Location)>) {
        if self.piece.is_empty() {
            return;
        }
        let data = std::mem::take(&mut self.piece).freeze();
        let permits = data.len().min(READ_AHEAD_BYTES) as u32;
        let memory = Arc::clone(&self.budget).acquire_many_owned(permits).await;
        let Ok(memory) = memory else {
            unreachable!("the semaphore is never closed");
        };
        let _ = self.orders.send(Order::Append {
            data,
            events: std::mem::take(&mut self.events),
            mark,
            memory,
        });
        self.piece = self.spare.try_recv().unwrap_or_default();
    }
}
