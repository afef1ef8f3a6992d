//! What a worker has of the target. Everything that it asks for happens on the server's side, where
//! it goes on though the worker is gone.

use std::{
    collections::BTreeMap,
    future::Future,
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicI64, AtomicU64, Ordering},
    },
    time::Duration,
};

use dm_core::{
    binlog::Dialect,
    error::{Error, Result, code},
    guard::Guard,
    sync::{
        progress::{Applied as Progress, Fence, Location, SlotProgress},
        schema::{Table, TableName},
    },
};
use dm_runtime::ports::{self, Applied, Checkpoint, Ddl, Recovered, copy::Copy};
use tokio::{sync::oneshot, time::sleep};

use super::{
    database::{Database, gone, trouble},
    job::{CONTROL, Claim, Job, ProgressRow},
    session::Session,
};
use crate::world::oracle::{
    self,
    leak::{Door, Doors},
    lease::Tenure,
};

/// How long an answer is waited for at most.
const ANSWER_MAX: Duration = Duration::from_secs(90);

/// The downstream of one source's task.
#[derive(Clone)]
pub(in crate::world) struct Target(pub(super) Arc<Inner>);

pub(super) struct Inner {
    pub(super) database: Arc<Database>,
    pub(super) source: String,
    /// Number of the task that the unit works for.
    task: u64,
    pub(super) tenure: Tenure,
    doors: Doors,
    _door: Door,
    fence: AtomicI64,
    /// How many takeovers there were when it read what is applied.
    run: AtomicU64,
    step: AtomicU64,
    /// The last step that was sent for each slot.
    sent: Mutex<BTreeMap<i64, u64>>,
    safe_until: Mutex<Option<Location>>,
}

impl Target {
    /// Connects for the task of this number.
    ///
    /// # Errors
    /// Nobody can.
    pub(in crate::world) async fn connect(
        database: &Arc<Database>,
        (source, task): (&str, u64),
        tenure: Tenure,
        doors: Doors,
    ) -> Result<Self> {
        database.connect().await?;
        Ok(Self(Arc::new(Inner {
            database: Arc::clone(database),
            source: source.to_owned(),
            task,
            tenure,
            _door: doors.open(),
            doors,
            fence: AtomicI64::new(0),
            run: AtomicU64::new(0),
            step: AtomicU64::new(0),
            sent: Mutex::default(),
            safe_until: Mutex::new(None),
        })))
    }
}

impl Inner {
    fn fence(&self) -> Fence {
        Fence(self.fence.load(Ordering::Relaxed))
    }

    fn claim(&self, slot: i64, seq: Option<u64>) -> Claim {
        Claim {
            slot,
            fence: self.fence(),
            run: self.run.load(Ordering::Relaxed),
            seq,
        }
    }

    /// Lets the server do something, and waits for its answer, which may be lost.
    pub(super) async fn ask<T: Send + 'static>(
        &self,
        doing: impl Future<Output = T> + Send + 'static,
    ) -> Option<T> {
        self.ask_late(1, doing).await
    }

    /// The same, so many times as likely to arrive late.
    async fn ask_late<T: Send + 'static>(
        &self,
        times: u64,
        doing: impl Future<Output = T> + Send + 'static,
    ) -> Option<T> {
        let database = &self.database;
        let fence = Some(self.fence()).filter(|fence| *fence != Fence::default());
        (self.tenure).writes(&database.trace, &self.source, self.task, fence);
        let (lost, late, patience, delay, reset) = {
            let mut state = database.state();
            let weather = state.weather;
            let reset = state.dice.permille(weather.resets);
            let lost = state.dice.permille(weather.lost_answers);
            let late = state.dice.permille(weather.late * times);
            // Connections break at once, or are silent.
            let patience = match state.dice.permille(500) {
                true => state.dice.millis(1..50),
                false => state.dice.millis(50..4000),
            };
            let delay = state.dice.millis(100..20_000);
            (lost, late, patience, delay, reset)
        };
        if database.state().weather.down {
            database.trace.count("target: out of reach");
            sleep(database.latency()).await;
            return None;
        }
        if reset {
            database.trace.count("fault: connection reset");
            sleep(database.latency()).await;
            return None;
        }
        if lost {
            database.trace.count("fault: lost answer");
        }
        if late {
            database.trace.count("fault: late transaction");
        }
        let (reply, answer) = oneshot::channel();
        let server = Arc::clone(database);
        database.node.spawn(async move {
            sleep(server.latency()).await;
            if late {
                sleep(delay).await;
            }
            let done = doing.await;
            sleep(server.latency()).await;
            if !lost {
                let _ = reply.send(done);
            }
        });
        let limit = if lost || late { patience } else { ANSWER_MAX };
        let begun = tokio::time::Instant::now();
        match tokio::time::timeout(limit, answer).await {
            Ok(Ok(done)) => Some(done),
            Ok(Err(_)) => {
                // The connection breaks some time after.
                sleep(limit.saturating_sub(begun.elapsed())).await;
                None
            }
            Err(_) => None,
        }
    }

    /// A write that depends on the control row, and moves it one step on.
    pub(super) async fn write_control(
        &self,
        locks_all: bool,
        write: impl FnOnce(&mut Job) + Send + 'static,
    ) -> Applied {
        let session = match self.database.connect().await {
            Ok(session) => session,
            Err(error) => return Applied::Failed { error, retry: true },
        };
        let step = self.step.load(Ordering::Relaxed);
        let claim = self.claim(CONTROL, Some(step));
        let (database, source) = (Arc::clone(&self.database), self.source.clone());
        let ended = self.ask(async move {
            if locks_all {
                if let Err(error) = database.lock_all(&source, session, false).await {
                    return Applied::Failed { error, retry: true };
                }
            } else if let Err(ended) = database.lock(&source, CONTROL, session).await {
                return ended;
            }
            let allowed = database
                .check(&source, claim)
                .and_then(|()| database.allow());
            let ended = match allowed {
                Ok(()) => {
                    let mut state = database.state();
                    let job = state.job(&source);
                    job.passed(&database.trace, &source, claim);
                    write(job);
                    if let Some(row) = job.rows.get_mut(&CONTROL) {
                        row.seq = step + 1;
                        row.taken = false;
                    }
                    Applied::Done
                }
                Err(refused) => refused,
            };
            database.unlock(&source, session);
            ended
        });
        let ended = ended.await.unwrap_or_else(|| Applied::Unknown(gone()));
        if matches!(ended, Applied::Done) {
            self.step.store(step + 1, Ordering::Relaxed);
        }
        ended
    }

    /// Reads what is applied.
    async fn recover(&self, fence: Fence) -> Result<Recovered> {
        let (database, source) = (Arc::clone(&self.database), self.source.clone());
        let answer = self.ask(async move {
            let mut state = database.state();
            let job = state.job(&source);
            let is_ours = job.checkpoint.is_some() && job.checkpoint == job.remembered;
            let slot = |(slot, row): (&i64, &ProgressRow)| SlotProgress {
                slot: *slot as u32,
                seq: row.seq,
                applied: row.applied.clone(),
            };
            let slots = job.slots();
            // What is read here is what the run goes on from.
            let run = job.takeovers;
            let recovered = Recovered {
                fence,
                slots: if is_ours {
                    slots.map(slot).collect()
                } else {
                    Vec::new()
                },
                checkpoint: job.checkpoint.clone(),
                safe_until: job.safe_until.clone().filter(|_| is_ours),
            };
            (run, recovered)
        });
        let (run, recovered) = answer.await.ok_or_else(gone)?;
        self.run.store(run, Ordering::Relaxed);
        Ok(recovered)
    }

    /// New rows for so many slots, at a location.
    fn fresh(&self, slots: u32, location: &Location) -> Vec<SlotProgress> {
        let highest = {
            let mut state = self.database.state();
            let seqs = state.job(&self.source).rows.values().map(|row| row.seq);
            seqs.max().unwrap_or(0)
        };
        let row = |slot| SlotProgress {
            slot,
            seq: highest + 1,
            applied: Progress::at(location.clone()),
        };
        (0..slots).map(row).collect()
    }

    /// Replaces the slot rows, with whatever else is to be done in the same transaction.
    async fn reset(
        &self,
        slots: u32,
        location: &Location,
        safe_until: Option<&Location>,
        and: impl FnOnce(&mut Job) + Send + 'static,
    ) -> Result<Vec<SlotProgress>> {
        let progress = self.fresh(slots, location);
        let (fence, window) = (self.fence(), safe_until.cloned());
        let checkpoint = Checkpoint {
            global: location.clone(),
            exit_safe: window.clone(),
        };
        let (rows, end) = (progress.clone(), window.clone());
        let write = move |job: &mut Job| {
            job.replace_slots(fence, rows);
            job.safe_until = end;
            job.remembered = Some(checkpoint.clone());
            job.checkpoint = Some(checkpoint);
            and(job);
        };
        match self.write_control(true, write).await {
            Applied::Done => {
                self.set_window(window);
                Ok(progress)
            }
            ended => Err(error_of(ended)),
        }
    }

    /// Notes what the worker learnt.
    pub(super) fn note(&self, what: std::fmt::Arguments<'_>) {
        let Self {
            source, database, ..
        } = self;
        database
            .trace
            .note("learnt", format_args!("{source} {what}"));
    }

    pub(super) fn sent(&self) -> MutexGuard<'_, BTreeMap<i64, u64>> {
        self.sent.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn set_window(&self, end: Option<Location>) {
        let window = self.safe_until.lock();
        *window.unwrap_or_else(PoisonError::into_inner) = end;
    }

    fn window(&self) -> Option<Location> {
        let window = self.safe_until.lock();
        window.unwrap_or_else(PoisonError::into_inner).clone()
    }
}

impl ports::Target for Target {
    type Session = Session;

    fn dialect(&self) -> Dialect {
        Dialect::MySql
    }

    fn packet_bytes_max(&self) -> usize {
        64 << 20
    }

    async fn takes_lines(&self) -> Result<bool> {
        Ok(false)
    }

    async fn take_over(&self, fence: Option<Fence>) -> Result<Recovered> {
        let inner = &self.0;
        let fence = fence.ok_or_else(|| {
            trouble(
                &code::SYNCER_FENCED,
                "this world has no workers that run alone",
            )
        })?;
        let session = inner.database.connect().await?;
        let (database, source) = (Arc::clone(&inner.database), inner.source.clone());
        inner.tenure.takes(&database.trace, &source, fence);
        let process = inner.tenure.process().to_owned();
        // Former owners get in the way of later ones.
        let answer = inner.ask_late(3, async move {
            database.lock_all(&source, session, true).await?;
            let taken = database
                .allow()
                .and_then(|()| database.set_fence(&source, (fence, session), &process));
            let found = taken.map_err(error_of).map(|()| {
                let mut state = database.state();
                let job = state.job(&source);
                let step = job.rows.get(&CONTROL).map_or(0, |row| row.seq);
                (job.takeovers, step, job.intent.clone())
            });
            database.unlock(&source, session);
            found
        });
        let (run, step, intent) = answer.await.unwrap_or_else(|| Err(gone()))?;
        inner.fence.store(fence.0, Ordering::Relaxed);
        inner.run.store(run, Ordering::Relaxed);
        inner.step.store(step, Ordering::Relaxed);
        if let Some(intent) = intent
            && Guard::DdlSettle.holds()
        {
            inner.settle(&intent).await?;
        }
        let recovered = inner.recover(fence).await?;
        inner.set_window(recovered.safe_until.clone());
        Ok(recovered)
    }

    async fn reset(
        &self,
        slots: u32,
        location: &Location,
        safe_until: Option<&Location>,
    ) -> Result<Vec<SlotProgress>> {
        self.0.reset(slots, location, safe_until, |_| {}).await
    }

    async fn has_checkpoint(&self) -> Result<bool> {
        self.0.database.connect().await?;
        let mut state = self.0.database.state();
        Ok(state.job(&self.0.source).checkpoint.is_some())
    }

    async fn copy(&self) -> Result<Option<Copy>> {
        self.0.database.connect().await?;
        let mut state = self.0.database.state();
        Ok(state.job(&self.0.source).copy.clone())
    }

    async fn begin_copy(&self, slots: u32, copy: &Copy) -> Result<Vec<SlotProgress>> {
        let inner = &self.0;
        let progress = inner.fresh(slots, &copy.from);
        let (fence, rows, copy) = (inner.fence(), progress.clone(), copy.clone());
        let (database, source) = (Arc::clone(&inner.database), inner.source.clone());
        let write = move |job: &mut Job| {
            job.loads(&database, &source, fence);
            job.replace_slots(fence, rows);
            job.safe_until = None;
            job.copy = Some(copy);
        };
        match inner.write_control(true, write).await {
            Applied::Done => Ok(progress),
            ended => Err(error_of(ended)),
        }
    }

    async fn end_copy(&self, slots: Option<u32>, copy: &Copy) -> Result<()> {
        let inner = &self.0;
        let mut over = copy.clone();
        over.is_over = true;
        over.tables
            .values_mut()
            .for_each(|table| table.pieces.clear());
        let (database, source) = (Arc::clone(&inner.database), inner.source.clone());
        let and = move |job: &mut Job| {
            let was_over = job.copy.as_ref().is_some_and(|copy| copy.is_over);
            let (trace, tables) = (&database.trace, job.tables.snapshot());
            if job.through_files && !was_over {
                database.dumps.loaded(trace, &source, &over.from, &tables);
            }
            if job.ends && job.safe_until.is_none() {
                database.dumps.ended(trace, &source, &over.from, &tables);
            }
            job.copy = Some(over);
        };
        match slots {
            Some(slots) => {
                let until = copy.until.as_ref();
                inner.reset(slots, &copy.from, until, and).await.map(drop)
            }
            None => match inner.write_control(true, and).await {
                Applied::Done => Ok(()),
                ended => Err(error_of(ended)),
            },
        }
    }

    async fn count(&self, name: &TableName) -> Result<u64> {
        self.0.database.connect().await?;
        let mut state = self.0.database.state();
        let known = state.job(&self.0.source).tables.get(&name.table);
        Ok(known.map_or(0, |known| known.rows.len() as u64))
    }

    async fn session(&self, slot: u32) -> Result<Session> {
        let inner = &self.0;
        let session = inner.database.connect().await?;
        let claim = inner.claim(slot.into(), None);
        let (database, source) = (Arc::clone(&inner.database), inner.source.clone());
        let answer = inner.ask(async move {
            database
                .lock(&source, claim.slot, session)
                .await
                .map_err(error_of)?;
            let allowed = database
                .check(&source, claim)
                .and_then(|()| database.allow());
            let noted = allowed.map_err(error_of);
            if noted.is_ok()
                && let Some(row) = database.state().job(&source).rows.get_mut(&claim.slot)
            {
                row.session = session;
            }
            database.unlock(&source, session);
            noted
        });
        answer.await.unwrap_or_else(|| Err(gone()))?;
        Ok(Session {
            target: self.clone(),
            session,
            claim,
            _door: inner.doors.open(),
        })
    }

    async fn read_back(&self, slot: u32) -> Result<u64> {
        let inner = &self.0;
        let session = inner.database.connect().await?;
        let claim = inner.claim(slot.into(), None);
        let (database, source) = (Arc::clone(&inner.database), inner.source.clone());
        let sent = inner.sent().get(&claim.slot).copied();
        let answer = inner.ask(async move {
            let former = {
                let mut state = database.state();
                (state.job(&source).rows.get(&claim.slot)).map_or(0, |row| row.session)
            };
            database.end_sessions(&[former]);
            // The lock waits for what is being rolled back.
            database
                .lock(&source, claim.slot, session)
                .await
                .map_err(error_of)?;
            let read = database.check(&source, claim).map_err(error_of).map(|()| {
                let mut state = database.state();
                let row = state.job(&source).rows.get(&claim.slot);
                let (seq, taken) = row.map_or((0, false), |row| (row.seq, row.taken));
                if let Some(sent) = sent.filter(|_| taken) {
                    oracle::fence::read_back(&database.trace, &source, sent, seq);
                }
                seq
            });
            database.unlock(&source, session);
            read
        });
        let read = answer.await.unwrap_or_else(|| Err(gone()));
        inner.note(format_args!(
            "slot {slot} is read back: {:?}",
            read.as_ref().ok()
        ));
        read
    }

    async fn table(&self, name: &TableName) -> Result<Option<Table>> {
        self.0.database.connect().await?;
        let mut state = self.0.database.state();
        let known = state.job(&self.0.source).tables.get(&name.table);
        Ok(known.map(|known| known.definition.table(name)))
    }

    async fn ddl(&self, ddl: &Ddl) -> Applied {
        self.0.ddl(ddl).await
    }

    async fn ddl_all(&self, ddls: &[Ddl]) -> Applied {
        for ddl in ddls {
            match self.0.ddl(ddl).await {
                Applied::Done => {}
                other => return other,
            }
        }
        Applied::Done
    }

    async fn checkpoint(&self, checkpoint: &Checkpoint, closes: bool) -> Applied {
        let inner = &self.0;
        let window = inner.window();
        let mut written = checkpoint.clone();
        if let Some(end) = window.filter(|_| !closes) {
            let covers = |exit: &Location| exit.reaches(&end, true);
            if !written.exit_safe.as_ref().is_some_and(covers) {
                written.exit_safe = Some(end);
            }
        }
        let history = inner.database.history(&inner.source);
        let (trace, source) = (inner.database.trace.clone(), inner.source.clone());
        let dumps = inner.database.dumps();
        let write = move |job: &mut Job| {
            // Safe mode repeats what may be there already.
            if let (Some(history), None) = (history, &job.safe_until) {
                let row = history.too_old(&written.global, &job.tables.snapshot());
                oracle::checkpoint::written(&trace, &source, &written.global, row);
            }
            if closes && let Some(end) = job.safe_until.take() {
                let copy = job.copy.as_ref().filter(|_| job.ends);
                if copy.and_then(|copy| copy.until.as_ref()) == Some(&end) {
                    dumps.ended(&trace, &source, &end, &job.tables.snapshot());
                    trace.count("target: caught up");
                }
            }
            job.remembered = Some(written.clone());
            job.checkpoint = Some(written);
        };
        let ended = inner.write_control(false, write).await;
        if closes && matches!(ended, Applied::Done) {
            inner.set_window(None);
        }
        ended
    }

    async fn time_zone(&self) -> Result<String> {
        Ok("+00:00".to_owned())
    }

    fn io_bytes(&self) -> u64 {
        0
    }
}

pub(super) fn error_of(ended: Applied) -> Error {
    match ended {
        Applied::Done => gone(),
        Applied::Failed { error, .. }
        | Applied::Unknown(error)
        | Applied::Fenced(error)
        | Applied::Moved(error) => error,
    }
}
