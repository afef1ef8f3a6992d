//! The server: what is committed, who holds which lock, which sessions were ended.

use std::{
    collections::{BTreeMap, BTreeSet},
    future::Future,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use dm_core::{
    error::{Code, Error, Scope, code},
    guard::Guard,
    sync::{
        batch::Batch,
        progress::{Fence, Location},
    },
};
use dm_runtime::ports::{Applied, copy::Cargo};
use madsim::runtime::NodeHandle;
use tokio::time::{Instant, sleep};

use crate::{
    dice::Dice,
    scenario::Way,
    world::{
        control::Server,
        history::History,
        oracle::{exactly_once, fence, files::Dumps, progress},
        tables::{Refusal, Snapshot, Tables, refuse},
        trace::Trace,
    },
};

use super::{
    job::{CONTROL, Claim, Job},
    weather::Weather,
};

/// How long former owners may finish by themselves.
const POLITE: Duration = Duration::from_secs(1);
/// How long a lock is waited for at most.
const LOCK_MAX: Duration = Duration::from_secs(60);
/// How often whoever waits looks again.
const LOOK: Duration = Duration::from_millis(3);

/// The server.
pub(in crate::world) struct Database {
    pub(super) trace: Trace,
    pub(super) node: NodeHandle,
    pub(super) etcd: Arc<Server>,
    pub(super) dumps: Dumps,
    state: Mutex<State>,
}

pub(super) struct State {
    pub(super) dice: Dice,
    pub(super) weather: Weather,
    /// By source.
    pub(super) jobs: BTreeMap<String, Job>,
    histories: BTreeMap<String, Arc<History>>,
    ended: BTreeSet<u64>,
    last_session: u64,
}

impl Database {
    /// An empty server on a node of its own.
    pub(in crate::world) fn new(
        node: NodeHandle,
        trace: Trace,
        dice: Dice,
        etcd: &Arc<Server>,
    ) -> Arc<Self> {
        Arc::new(Self {
            trace,
            node,
            etcd: Arc::clone(etcd),
            dumps: Dumps::default(),
            state: Mutex::new(State {
                dice,
                weather: Weather::default(),
                jobs: BTreeMap::new(),
                histories: BTreeMap::new(),
                ended: BTreeSet::new(),
                last_session: 0,
            }),
        })
    }

    /// Changes what goes wrong.
    pub(in crate::world) fn set_weather(&self, weather: Weather) {
        self.state().weather = weather;
    }

    /// The tables that came from a source.
    pub(in crate::world) fn snapshot(&self, source: &str) -> Snapshot {
        self.state().job(source).tables.snapshot()
    }

    /// Lets the tables be compared with what a source had, at each DDL.
    pub(in crate::world) fn compare_with(&self, source: &str, history: Arc<History>) {
        let mut state = self.state();
        state.histories.insert(source.to_owned(), history);
    }

    pub(super) fn history(&self, source: &str) -> Option<Arc<History>> {
        self.state().histories.get(source).cloned()
    }

    /// Whether the task of a source knows its place by GTID.
    pub(in crate::world) fn knows_gtids(&self, source: &str) -> bool {
        let mut state = self.state();
        let mut slots = state.job(source).slots().peekable();
        slots.peek().is_some()
            && slots.all(|(_, row)| {
                let gtids = row.applied.boundary.gtids.as_ref();
                gtids.is_some_and(|gtids| !gtids.is_empty())
            })
    }

    /// The places from which the task of a source may go on. What its slots have recorded is void
    /// once the existing worker went on.
    pub(in crate::world) fn places(&self, source: &str) -> Vec<Location> {
        let mut state = self.state();
        let job = state.job(source);
        let is_ours = job.checkpoint == job.remembered;
        let slots = job.slots().filter(|_| is_ours);
        let applied = slots.map(|(_, row)| &row.applied.boundary);
        let checkpoint = job.checkpoint.iter().map(|checkpoint| &checkpoint.global);
        applied.chain(checkpoint).cloned().collect()
    }

    /// A source's task will find nothing of its tables, whose rows go through files or not.
    pub(in crate::world) fn begin_empty(&self, source: &str, way: Way) {
        let mut state = self.state();
        let job = state.job(source);
        job.tables = Tables::none();
        job.through_files = way.has_files();
        job.ends = way.ends();
    }

    /// Where the binlog goes on behind a source's copy that is not over, and whether rows of it are
    /// there.
    pub(in crate::world) fn copying_from(&self, source: &str) -> Option<(Location, bool)> {
        let mut state = self.state();
        let copy = state.job(source).copy.as_ref();
        let copy = copy.filter(|copy| !copy.is_over)?;
        let has_rows = copy.tables.values().any(|table| !table.pieces.is_empty());
        Some((copy.from.clone(), has_rows))
    }

    /// What was dumped.
    pub(in crate::world) fn dumps(&self) -> Dumps {
        self.dumps.clone()
    }

    /// Where the binlog goes on behind a source's copy, if that is over, and its rows are of one
    /// moment where nothing follows.
    pub(in crate::world) fn copied_from(&self, source: &str) -> Option<Location> {
        let mut state = self.state();
        let job = state.job(source);
        let is_behind = job.ends && job.safe_until.is_some();
        let copy = job.copy.as_ref().filter(|copy| copy.is_over && !is_behind);
        copy.map(|copy| copy.from.clone())
    }

    /// Whether nothing is noted of a copy yet, nor of what comes behind it.
    pub(in crate::world) fn has_no_copy_yet(&self, source: &str) -> bool {
        let mut state = self.state();
        let job = state.job(source);
        job.copy.is_none() && job.checkpoint.is_none()
    }

    /// How many slots the task of a source has.
    pub(in crate::world) fn slots(&self, source: &str) -> u64 {
        self.state().job(source).slots().count() as u64
    }

    /// The task of a source has come to rest, and nothing kept it from doing so in order.
    pub(in crate::world) fn expect_no_lag(&self, source: &str) {
        let mut state = self.state();
        let job = state.job(source);
        let Some(checkpoint) = &job.checkpoint else {
            return;
        };
        for (slot, row) in job.slots() {
            let places = (&row.applied.boundary, &checkpoint.global);
            progress::rests(&self.trace, source, *slot, places);
        }
    }

    /// Transactions with rows, statements and takeovers for a source.
    pub(in crate::world) fn writes(&self, source: &str) -> u64 {
        self.state().job(source).writes
    }

    pub(super) fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// A connection.
    pub(super) async fn connect(&self) -> Result<u64, Error> {
        sleep(self.latency()).await;
        let mut state = self.state();
        if state.weather.down {
            self.trace.count("target: out of reach");
            return Err(trouble(&code::DB_DRIVER_ERROR, "connection refused"));
        }
        let crowded = state.weather.crowded;
        if state.dice.permille(crowded) {
            self.trace.count("fault: too many connections");
            let text = "Error 1040 (08004): Too many connections";
            return Err(trouble(&code::DB_DRIVER_ERROR, text));
        }
        state.last_session += 1;
        Ok(state.last_session)
    }

    pub(super) fn latency(&self) -> Duration {
        self.state().dice.millis(1..6)
    }

    /// How long a transaction takes.
    fn execution(&self) -> Duration {
        let mut state = self.state();
        let chance = state.weather.long;
        if !state.dice.permille(chance) {
            return state.dice.millis(1..6);
        }
        self.trace.count("fault: long transaction");
        state.dice.millis(100..2_500)
    }

    /// Waits for the lock of a row.
    pub(super) async fn lock(&self, source: &str, slot: i64, session: u64) -> Result<(), Applied> {
        let start = Instant::now();
        loop {
            {
                let mut state = self.state();
                if state.ended.contains(&session) {
                    return Err(Applied::Unknown(gone()));
                }
                let holder = *state.job(source).locks.entry(slot).or_insert(session);
                if holder == session {
                    return Ok(());
                }
            }
            if start.elapsed() > LOCK_MAX {
                let error = trouble(&code::DB_EXECUTE_FAILED, "Error 1205 (HY000): lock wait");
                return Err(Applied::Failed { error, retry: true });
            }
            sleep(LOOK).await;
        }
    }

    /// Locks all rows in order. If that takes long, whoever takes over ends those whom they name.
    pub(super) async fn lock_all(
        &self,
        source: &str,
        session: u64,
        takes_over: bool,
    ) -> Result<(), Error> {
        if takes_over && !Guard::TakeoverLocks.holds() {
            return Ok(());
        }
        let start = Instant::now();
        let mut impolite = start + POLITE;
        let mut slots: Vec<i64> = self.state().job(source).rows.keys().copied().collect();
        if !slots.contains(&CONTROL) {
            slots.insert(0, CONTROL);
        }
        for slot in slots {
            loop {
                let holder = {
                    let mut state = self.state();
                    *state.job(source).locks.entry(slot).or_insert(session)
                };
                if holder == session {
                    break;
                }
                if takes_over && Instant::now() > impolite {
                    self.end_sessions(&self.named(source));
                    impolite = Instant::now() + POLITE;
                }
                if start.elapsed() > LOCK_MAX {
                    self.unlock(source, session);
                    return Err(trouble(
                        &code::SYNCER_TAKEOVER_TIMEOUT,
                        "the progress rows stay locked",
                    ));
                }
                sleep(LOOK).await;
            }
        }
        Ok(())
    }

    /// The sessions that may have a transaction under way.
    fn named(&self, source: &str) -> Vec<u64> {
        let mut state = self.state();
        let rows = state.job(source).rows.values();
        rows.map(|row| row.session).filter(|id| *id != 0).collect()
    }

    /// Gives all locks of a session back.
    pub(super) fn unlock(&self, source: &str, session: u64) {
        let mut state = self.state();
        (state.job(source).locks).retain(|_, holder| *holder != session);
    }

    /// Ends the session of a DDL, which can always be seen: nothing else keeps it from landing
    /// late.
    pub(super) fn end_runner(&self, session: u64) {
        if Guard::DdlRunner.holds() {
            self.state().ended.insert(session);
        }
    }

    /// Ends sessions, where they can be seen: what they have not committed will not be.
    pub(super) fn end_sessions(&self, sessions: &[u64]) {
        let mut state = self.state();
        if state.weather.unseen {
            self.trace.count("target: unseen session");
        } else {
            state.ended.extend(sessions);
        }
    }

    pub(super) fn is_ended(&self, session: u64) -> bool {
        self.state().ended.contains(&session)
    }

    /// Whether a write may commit, now that its row is locked.
    pub(super) fn check(&self, source: &str, claim: Claim) -> Result<(), Applied> {
        let Claim {
            slot, fence, seq, ..
        } = claim;
        let mut state = self.state();
        let Some(row) = state.job(source).rows.get(&slot) else {
            let error = trouble(&code::SYNCER_PROGRESS_MOVED, "no progress any more");
            return Err(Applied::Moved(error));
        };
        if row.fence != fence && Guard::FenceCompare.holds() {
            let text = format!("fence {} is not the owner's, {} is", fence.0, row.fence.0);
            return Err(Applied::Fenced(trouble(&code::SYNCER_FENCED, &text)));
        }
        if seq.is_some_and(|seq| seq != row.seq) && Guard::StepCompare.holds() {
            let text = format!("slot {slot} is at step {}, not {seq:?}", row.seq);
            return Err(Applied::Moved(trouble(&code::SYNCER_PROGRESS_MOVED, &text)));
        }
        Ok(())
    }

    /// Whether the server takes a write at all.
    pub(super) fn allow(&self) -> Result<(), Applied> {
        match self.refusal() {
            Some((refusal, retry)) => Err(Applied::Failed {
                error: refused(&refusal),
                retry,
            }),
            None => Ok(()),
        }
    }

    /// Why the server refuses a write, and whether it may take it when it is just tried again.
    pub(super) fn refusal(&self) -> Option<(Refusal, bool)> {
        let State { weather, dice, .. } = &mut *self.state();
        let (refusal, what, retry) = weather.refusal(dice)?;
        self.trace.count(what);
        Some((refusal, retry))
    }

    /// Commits rows and the progress that they make, if nothing forbids it.
    pub(super) async fn apply(
        &self,
        source: &str,
        session: u64,
        claim: Claim,
        batch: &Batch,
    ) -> Applied {
        let applied = self.apply_locked(source, session, claim, batch);
        self.transaction(source, session, claim, applied).await
    }

    /// Commits rows of a copy and the note of them, if nothing forbids it.
    pub(super) async fn copy(
        &self,
        source: &str,
        session: u64,
        claim: Claim,
        cargo: &Cargo,
    ) -> Applied {
        let copied = self.copy_locked(source, session, claim, cargo);
        self.transaction(source, session, claim, copied).await
    }

    /// Does something while the slot's row is locked.
    async fn transaction(
        &self,
        source: &str,
        session: u64,
        claim: Claim,
        doing: impl Future<Output = Applied>,
    ) -> Applied {
        if self.is_ended(session) {
            return Applied::Unknown(gone());
        }
        if let Err(ended) = self.lock(source, claim.slot, session).await {
            return ended;
        }
        let ended = doing.await;
        self.unlock(source, session);
        ended
    }

    /// Whether a transaction comes to its commit, after the time that it takes.
    async fn executed(&self, source: &str, session: u64, claim: Claim) -> Result<(), Applied> {
        self.check(source, claim)?;
        sleep(self.execution()).await;
        if self.is_ended(session) {
            return Err(Applied::Unknown(gone()));
        }
        self.allow()
    }

    async fn copy_locked(
        &self,
        source: &str,
        session: u64,
        claim: Claim,
        cargo: &Cargo,
    ) -> Applied {
        if let Err(refused) = self.executed(source, session, claim).await {
            return refused;
        }
        let mut state = self.state();
        state.job(source).loads(self, source, claim.fence);
        let note = match state.job(source).through_files {
            true => Guard::LoadNote,
            false => Guard::CopyNote,
        };
        let lost = !note.holds() && state.dice.permille(200);
        let job = state.job(source);
        job.passed(&self.trace, source, claim);
        job.writes += 1;
        if let Some(what) = job.repeats(cargo) {
            self.trace.violate("exactly-once", what);
        }
        let copied = job.copied(cargo, lost);
        if let Err(refusal) = copied {
            return Applied::Failed {
                error: refused(&refusal),
                retry: false,
            };
        }
        self.trace.note(
            "target",
            format_args!(
                "{source} slot {} step {} fence {}: {} rows of {} copied",
                cargo.slot, cargo.seq, claim.fence.0, cargo.rows, cargo.table
            ),
        );
        let is_loaded = job.through_files;
        self.trace.count(match is_loaded {
            true => "target: piece of a load",
            false => "target: piece of a copy",
        });
        if let Some(row) = job.rows.get_mut(&claim.slot).filter(|_| !lost) {
            row.seq = cargo.seq + 1;
            row.taken = false;
        }
        if lost {
            return Applied::Unknown(gone());
        }
        Applied::Done
    }

    async fn apply_locked(
        &self,
        source: &str,
        session: u64,
        claim: Claim,
        batch: &Batch,
    ) -> Applied {
        if let Err(refused) = self.executed(source, session, claim).await {
            return refused;
        }
        if let Err(refusal) = self.commit(source, claim, batch) {
            return Applied::Failed {
                error: refused(&refusal),
                retry: false,
            };
        }
        if !Guard::ProgressWithRows.holds() {
            sleep(self.latency()).await;
            if self.is_ended(session) || self.state().dice.permille(20) {
                return Applied::Unknown(gone());
            }
        }
        self.move_on(source, claim, batch);
        Applied::Done
    }

    /// # Errors
    /// The server's refusal, which undoes the rows before it.
    fn commit(&self, source: &str, claim: Claim, batch: &Batch) -> Result<(), Refusal> {
        let mut state = self.state();
        let job = state.job(source);
        self.trace.note(
            "target",
            format_args!(
                "{source} slot {} step {} fence {}: {} rows",
                batch.slot, batch.seq, claim.fence.0, batch.rows
            ),
        );
        job.passed(&self.trace, source, claim);
        job.writes += 1;
        // Safe mode repeats what may be there already.
        let lenient = job.safe_until.is_some();
        let before = job.tables.clone();
        for segment in &batch.segments {
            let name = segment.table.name();
            let ran = match job.tables.get_mut(&name.table) {
                Some(table) => table.rows.run(&table.definition, segment, lenient),
                None => refuse(1146, format!("there is no table {name}")),
            };
            let place = format_args!("{name}, slot {}, step {}", batch.slot, batch.seq);
            let told = match &ran {
                Ok(as_expected) => as_expected.clone(),
                Err(refusal) => Err(refusal.text.clone()),
            };
            exactly_once::ran(&self.trace, place, &told);
            if let Err(refusal) = ran {
                job.tables = before;
                return Err(refusal);
            }
        }
        Ok(())
    }

    fn move_on(&self, source: &str, claim: Claim, batch: &Batch) {
        let mut state = self.state();
        let job = state.job(source);
        let one_slot = job.slots().count() == 1;
        let Some(row) = job.rows.get_mut(&claim.slot) else {
            return;
        };
        let cut = one_slot && batch.applied.txn.is_some();
        let moves = (&row.applied.boundary, &batch.applied.boundary);
        progress::moved(&self.trace, source, batch.slot, moves, cut);
        row.seq = batch.seq + 1;
        row.taken = false;
        row.applied = batch.applied.clone();
    }

    /// Makes a fence the only one. Everything is locked.
    pub(super) fn set_fence(
        &self,
        source: &str,
        (fence, session): (Fence, u64),
        process: &str,
    ) -> Result<(), Applied> {
        let mut state = self.state();
        let job = state.job(source);
        let control = job.rows.entry(CONTROL).or_default();
        if control.fence > fence && Guard::TakeoverCompare.holds() {
            let text = format!("fence {} came before fence {}", fence.0, control.fence.0);
            return Err(Applied::Fenced(trouble(&code::SYNCER_FENCED, &text)));
        }
        let owner = job.owners.entry(fence);
        let owner = owner.or_insert_with(|| process.to_owned());
        fence::taken(&self.trace, source, (fence, job.taken), (owner, process));
        if job.taken == fence {
            self.trace.count("target: takeover once more");
        }
        // What was planned before comes too late, also under the same fence; and a takeover that
        // comes late itself must not look like a batch that was applied.
        let moves = Guard::TakeoverSteps.holds() && Guard::FenceCompare.holds();
        let steps = if !moves {
            0
        } else if Guard::TakeoverTwoSteps.holds() {
            2
        } else {
            1
        };
        for (slot, row) in &mut job.rows {
            row.fence = fence;
            row.session = if *slot == CONTROL { session } else { 0 };
            // No write of the control row is looked for after it ended unknown.
            let most = if *slot == CONTROL { 1 } else { 2 };
            row.seq += steps.min(most);
            row.taken = true;
        }
        job.taken = job.taken.max(fence);
        job.takeovers += 1;
        job.writes += 1;
        self.trace.note(
            "target",
            format_args!("{source}: fence {} takes over", fence.0),
        );
        Ok(())
    }
}

impl State {
    pub(super) fn job(&mut self, source: &str) -> &mut Job {
        self.jobs.entry(source.to_owned()).or_insert_with(Job::new)
    }
}

/// As the production target writes it.
pub(super) fn refused(refusal: &Refusal) -> Error {
    let Refusal { number, text } = refusal;
    let cause = format!("Error {number} (HY000): {text}");
    trouble(&code::DB_EXECUTE_FAILED, &cause)
}

pub(super) fn gone() -> Error {
    trouble(&code::DB_EXECUTE_FAILED, "the connection was lost")
}

pub(super) fn trouble(kind: &Code, cause: &str) -> Error {
    Error::new(kind, "the target refuses, or does not answer")
        .with_scope(Scope::Downstream)
        .with_cause(cause.to_owned())
}
