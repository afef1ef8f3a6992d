//! Copies the tables that a task begins with: rows of a snapshot go straight into the target.
//!
//! Each table is read in the order of its key by one connection, or several where its key is a
//! number, and cut into pieces of about a megabyte. A piece and the note that it is there are one
//! transaction under the fence, so a restart knows to the row what is missing. It goes on from
//! another snapshot then, and the binlog between the two is applied in safe mode once all is
//! copied. A table without a key can't be told apart like that and begins anew.

mod define;
mod facts;
mod load;
mod pieces;
mod settings;

use std::{
    cmp::Reverse,
    collections::{BTreeMap, BTreeSet},
    sync::{Arc, atomic::Ordering::Relaxed},
    time::Duration,
};

use dm_core::{
    control::subtask::Mode,
    error::{Error, Result, Scope, code},
    full::{Gap, Reading, fingerprint, gaps},
    guard::Guard,
    lifecycle::{self, Job, Outcome, Reply},
    sync::{
        ddl::Rules,
        progress::{Fence, Location},
        schema::{ColumnInfo, Quoted, Table, TableName},
    },
};
use tokio::time::{MissedTickBehavior, interval};
use tracing::{info, warn};

pub use self::facts::{CopyFacts, Total};
pub(super) use self::load::LoadUnit;
pub(crate) use self::settings::Settings;
use self::{
    define::{Definitions, Restart},
    pieces::{Pieces, Work, split},
};
use super::{Breaks, Stop, StopSignal, stopped, sync::SyncFacts, tasks::Tasks, writer::Refused};
use crate::ports::{
    Connect, Events, Source, Target,
    copy::{Copy, CopyTable, Snapshot, SnapshotTable},
};

/// How often it is looked whether the source still has the binlog that the task goes on with.
const LOOK: Duration = Duration::from_secs(10);

/// What is left to do where a copy can't go on.
const ANEW: &str = "Begin the copy anew: stop the task, drop what it has copied from the target, \
                    and start it with `--remove-meta`, or under another name.";

/// Why a run ended that should have gone on.
#[derive(Debug)]
enum Failure {
    /// Somebody else owns the source.
    Fenced(Error),
    /// Beginning anew from what is noted may help.
    Again(Error),
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

impl From<Refused> for Failure {
    fn from(refused: Refused) -> Self {
        match refused {
            Refused::Failed(error) => Self::Other(error),
            Refused::Fenced(error) => Self::Fenced(error),
            Refused::Lost(error) => Self::Again(error),
        }
    }
}

/// The dump unit of a subtask whose dump needs no files.
pub(super) struct CopyUnit<K> {
    /// Makes the doors.
    pub(super) connect: K,
    /// The subtask and its source.
    pub(super) job: Job,
    /// The fence of this ownership; `None` to take the next of the target's own counter.
    pub(super) fence: Option<Fence>,
    /// How far it is.
    pub(super) facts: Arc<CopyFacts>,
    /// What of the binlog the subtask needs.
    pub(super) needs: Arc<SyncFacts>,
    /// Where it reports that it works.
    pub(super) events: Events,
}

impl<K: Connect> CopyUnit<K> {
    /// Copies until all is copied, or it is told to stop or can't go on.
    pub(super) async fn run(mut self, mut stop: StopSignal) -> Outcome {
        let mut breaks = Breaks::default();
        loop {
            let mut tasks = Tasks::default();
            let result = tokio::select! {
                biased;
                // What is under way is noted when it is there: any moment is a good one.
                () = stopped(&mut stop, Stop::AtBoundary) => Ok(Reply::Stopped),
                result = self.attempt(&mut tasks) => result.map(|()| Reply::Finished),
            };
            tasks.end().await;
            match result {
                Ok(reply) => return Outcome::Ok(reply),
                Err(Failure::Fenced(error)) => return Outcome::Fenced(error),
                Err(Failure::Again(error)) if breaks.is_rare() => {
                    warn!(%error, "going on with another snapshot");
                }
                Err(Failure::Again(error) | Failure::Other(error)) => {
                    return Outcome::Failed(vec![error]);
                }
            }
        }
    }

    /// One run, from what is noted in the target.
    async fn attempt(&mut self, tasks: &mut Tasks) -> Result<(), Failure> {
        let (task, config) = (&self.job.task, &self.job.source);
        let settings = Settings::new(task)?;
        let rules = Rules::new(task)?;
        let source = self.connect.source(config);
        let upstream = source.probe().await?;
        let target = Arc::new(self.connect.target(&self.job, &upstream).await?);
        let recovered = target.take_over(self.fence).await?;
        // A snapshot that breaks does not give the source away.
        self.fence = Some(recovered.fence);
        let noted = target.copy().await?;
        if let Some(copy) = &noted
            && (copy.is_complete()? || !Guard::CopyComplete.holds())
        {
            self.events.send(lifecycle::Event::Initialised);
            return Ok(());
        }
        // An error is told by whoever uses the rule.
        let is_wanted = |name: &TableName| !matches!(rules.target(name), Ok(None));
        let snapshot = source
            .snapshot(settings.consistency, settings.threads, is_wanted)
            .await
            .map_err(again)?;
        if snapshot.tables.is_empty() {
            let error = nothing();
            if !Mode::parse(&task.mode).is_some_and(Mode::has_sync) {
                return Err(Failure::Other(error));
            }
            warn!(source = config.source_id, task = task.name, %error, "nothing is copied");
        }
        self.events.send(lifecycle::Event::Initialised);
        let mut plan = Plan::new(&self.job, &rules, noted, &snapshot)?;
        self.needs.note_needs(&plan.copy.from);
        let Snapshot {
            tables,
            mut readers,
            ..
        } = snapshot;
        let definitions = Definitions {
            target: &*target,
            rules: &rules,
            upstream: &upstream,
            at: plan.copy.from.clone(),
        };
        let slots = u32::try_from(readers.len()).unwrap_or(1);
        // In this order, a run that ends in between leaves neither rows of which nothing is noted,
        // nor a table of which nobody knows whose it is.
        definitions.restart(&plan.restarts).await?;
        target.begin_copy(slots, &plan.copy).await?;
        if let Some(reader) = readers.first_mut() {
            definitions.create(reader, &tables, &plan.begun).await?;
        }
        let progress = target.begin_copy(slots, &plan.copy).await?;
        info!(
            source = config.source_id,
            task = task.name,
            tables = tables.len(),
            from = %plan.copy.from,
            "copying"
        );
        let (mut work, mut targets) = (Vec::new(), Vec::new());
        for (index, table) in tables.iter().enumerate() {
            // There is an entry for each.
            let noted = &plan.copy.tables[&table.table.name];
            targets.push(noted.target.clone());
            let pieces = noted.pieces.iter().filter(|_| Guard::CopyGaps.holds());
            let left = gaps(&table.table.name, pieces.cloned().collect())?;
            let left = match readers.first_mut() {
                Some(reader) => split(reader, table, left).await?,
                None => left,
            };
            work.push((index, left));
        }
        // What comes last keeps all others waiting.
        work.sort_by_key(|(index, _)| Reverse(tables[*index].bytes));
        self.begin_facts(&plan.copy, &tables, &work);
        let pieces = Pieces {
            facts: Arc::clone(&self.facts),
            at: plan.copy.from.clone(),
            verb: settings.verb(plan.copy.until.is_some()),
            packet_bytes_max: target.packet_bytes_max(),
            targets,
            tables,
            work: Work::new(work),
        };
        let mut ended = pieces.start(tasks, readers, &target, progress);
        let mut looks = interval(LOOK);
        looks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let begin = plan.copy.from.clone();
        let mut left = slots;
        while left > 0 {
            tokio::select! {
                biased;
                done = ended.recv() => match done {
                    Some(Ok(())) => left -= 1,
                    Some(Err(failure)) => return Err(failure),
                    None => break,
                },
                _ = looks.tick() => self.look(&source, &begin).await?,
            }
        }
        plan.copy = target.copy().await?.unwrap_or_default();
        if !plan.copy.is_complete()? && Guard::CopyComplete.holds() {
            let text = "the copy came to its end, and some rows are not noted";
            return Err(Failure::Again(Error::new(
                &code::LOAD_TASK_CHECKPOINT_NOT_MATCH,
                text,
            )));
        }
        info!(source = config.source_id, task = task.name, "all is copied");
        Ok(())
    }

    /// Counts what is there already.
    fn begin_facts(&self, copy: &Copy, tables: &[SnapshotTable], work: &[(usize, Vec<Gap>)]) {
        let facts = &self.facts;
        let sum = |part: fn(&CopyTable) -> u64| copy.tables.values().map(part).sum();
        facts.rows.store(sum(|table| table.rows), Relaxed);
        facts.bytes.store(sum(|table| table.bytes), Relaxed);
        let done = work.iter().filter(|(_, gaps)| gaps.is_empty()).count();
        facts.tables_done.store(done as u64, Relaxed);
        let total = Total {
            tables: work.len() as u64,
            rows: tables.iter().map(|table| table.rows).sum(),
        };
        facts.begin(total, &copy.from);
    }

    /// Whether the source still has what comes behind the copy.
    ///
    /// # Errors
    /// It was purged: nothing of the rest would be of any use.
    async fn look(&self, source: &K::Source, from: &Location) -> Result<(), Failure> {
        let mode = Mode::parse(&self.job.task.mode);
        if self.job.use_relay || !mode.is_some_and(Mode::has_sync) {
            return Ok(());
        }
        // What can't be asked now is asked again.
        let Ok(end) = source.end().await else {
            return Ok(());
        };
        if !end.has_lost(from, self.job.source.enable_gtid) {
            return Ok(());
        }
        let text = format!(
            "the source has purged binlog from {from} on, where the task must go on once all is \
             copied"
        );
        Err(Failure::Other(
            Error::new(&code::SYNCER_GET_EVENT, text)
                .with_scope(Scope::Upstream)
                // As the source will answer.
                .with_cause(
                    "Error 1236 (HY000): Could not find first log file name in binary log index \
                     file",
                )
                .with_workaround(format!(
                    "Let the source keep its binlog longer (`binlog_expire_logs_seconds`). {ANEW}"
                )),
        ))
    }
}

/// What a run has to do, from what is noted and what the source has now.
struct Plan {
    copy: Copy,
    /// Tables that have rows which count.
    begun: BTreeSet<TableName>,
    /// Tables of which rows are there that do not count.
    restarts: BTreeMap<TableName, Restart>,
}

impl Plan {
    /// # Errors
    /// 34018: the snapshot is older than what is there, or a table goes elsewhere now. 32004: a
    /// table without a key is read while it changes.
    fn new<R>(
        job: &Job,
        rules: &Rules,
        noted: Option<Copy>,
        snapshot: &Snapshot<R>,
    ) -> Result<Self> {
        let by_gtid = job.source.enable_gtid;
        // Without a sync unit nothing would reconcile rows of two snapshots.
        let goes_on = Mode::parse(&job.task.mode).is_some_and(Mode::has_sync);
        let Snapshot {
            from,
            until,
            tables,
            ..
        } = snapshot;
        let mut plan = Self {
            copy: Copy {
                from: from.clone(),
                until: until.clone(),
                ..Copy::default()
            },
            begun: BTreeSet::new(),
            restarts: BTreeMap::new(),
        };
        let mut before = BTreeMap::new();
        if let Some(noted) = noted {
            let has_rows = noted.tables.values().any(|table| !table.pieces.is_empty());
            if goes_on && has_rows {
                if !from.reaches(&noted.from, by_gtid) {
                    return Err(older(from, &noted.from));
                }
                let ends = [noted.until, until.clone(), Some(from.clone())];
                let until = ends.into_iter().flatten().reduce(|high, end| {
                    if end.reaches(&high, by_gtid) {
                        end
                    } else {
                        high
                    }
                });
                plan.copy.until = until.filter(|_| Guard::CopyUntil.holds());
                if Guard::CopyFrom.holds() {
                    plan.copy.from = noted.from;
                }
            }
            before = noted.tables;
        }
        let place = (plan.copy.from != *from).then(|| from.clone());
        for SnapshotTable { table, .. } in tables {
            keeps_rows_apart(table)?;
            let noted = before.remove(&table.name).filter(|noted| !noted.is_gone);
            let entry = plan.entry(table, noted, (rules, goes_on), place.as_ref())?;
            if entry.pieces.is_empty() && !Reading::new(table).has_key() && until.is_some() {
                return Err(unlocked(&table.name));
            }
            plan.copy.tables.insert(table.name.clone(), entry);
        }
        // They were dropped since, or have another name now, under which they are copied anew.
        // Nothing that the binlog says of them concerns the target any more.
        for (name, noted) in before {
            if !noted.is_gone {
                plan.restarts.insert(name.clone(), Restart::gone(&noted));
            }
            let gone = CopyTable {
                place: place.clone(),
                is_gone: true,
                pieces: Vec::new(),
                ..noted
            };
            plan.copy.tables.insert(name, gone);
        }
        Ok(plan)
    }

    /// What is to be noted of a table, of which so much is.
    fn entry(
        &mut self,
        table: &Table,
        noted: Option<CopyTable>,
        (rules, goes_on): (&Rules, bool),
        place: Option<&Location>,
    ) -> Result<CopyTable> {
        let (name, definition) = (&table.name, fingerprint(table));
        let target = rules.target(name)?;
        let target = target.ok_or_else(|| define::missing(name, "no rule of the task names it"))?;
        if let Some(noted) = noted {
            let is_begun = !noted.pieces.is_empty();
            if is_begun && noted.target != target {
                return Err(rerouted(name, &noted.target, &target));
            }
            let is_complete = is_begun && gaps(name, noted.pieces.clone())?.is_empty();
            let is_same = noted.definition == definition;
            let can_go_on = Reading::new(table).has_key() || !Guard::CopyKeyless.holds();
            if goes_on && is_begun && (is_complete || is_same && can_go_on) {
                self.begun.insert(name.clone());
                return Ok(noted);
            }
            if noted.target == target {
                let restart = Restart {
                    rows: noted.rows,
                    drops: !is_same,
                };
                self.restarts.insert(name.clone(), restart);
            }
        }
        Ok(CopyTable {
            target,
            definition,
            place: place.cloned(),
            is_gone: false,
            pieces: Vec::new(),
            rows: 0,
            bytes: 0,
        })
    }
}

/// Refuses a table whose rows later changes would not find: JSON is read as text, which does not
/// tell a DECIMAL, a date or bytes inside of it from a number or a text, and without a key all
/// values name a row.
fn keeps_rows_apart(table: &Table) -> Result<()> {
    let is_json = |column: &ColumnInfo| column.type_name == "json" && !column.generated;
    let json = table.columns.iter().find(|column| is_json(column));
    let Some(column) = json.filter(|_| table.row_key().is_none()) else {
        return Ok(());
    };
    let text = format!(
        "{} has no key, and a copy may change types inside of its JSON column {}: later changes \
         would not find its rows",
        table.name,
        Quoted(&column.name)
    );
    let error = Error::new(&code::DUMP_UNIT_RUNTIME, text).with_scope(Scope::Upstream);
    Err(error.with_workaround(
        "Give the table a primary key at the source, or exclude it with the `block-allow-list`.",
    ))
}

fn nothing() -> Error {
    let text = "the source has no table that the task names, or its user may not read any";
    Error::new(&code::DUMP_UNIT_RUNTIME, text)
        .with_scope(Scope::Upstream)
        .with_workaround(
            "Look for a slip in `block-allow-list`, and grant SELECT on the tables to the user of \
             the source.",
        )
}

fn older(now: &Location, noted: &Location) -> Error {
    let text = format!(
        "inconsistent checkpoints: the source is at [{now}], which is before [{noted}], where its \
         copy began"
    );
    Error::new(&code::LOAD_TASK_CHECKPOINT_NOT_MATCH, text)
        .with_scope(Scope::Upstream)
        .with_workaround("Wait until the source has caught up with the one that it stands in for.")
}

fn rerouted(name: &TableName, before: &TableName, now: &TableName) -> Error {
    let text = format!(
        "inconsistent checkpoints between loader and target database: rows of {name} are in \
         {before}, and the routes say {now} by now"
    );
    Error::new(&code::LOAD_TASK_CHECKPOINT_NOT_MATCH, text).with_workaround(format!(
        "Put the former routes back until the copy is over. {ANEW}"
    ))
}

fn unlocked(name: &TableName) -> Error {
    let text = format!(
        "Couldn't acquire global lock: without one, {name} needs a key that its rows can be read \
         by in order, which bits, ENUM, SET and numbers with a floating point are not"
    );
    Error::new(&code::DUMP_UNIT_GLOBAL_LOCK, text)
        .with_scope(Scope::Upstream)
        .with_workaround(
            "Grant RELOAD, or LOCK TABLES on the table, to the user of the source; or give the \
             table a primary key.",
        )
}

/// Of a connection that broke another one may know better.
fn again(error: Error) -> Failure {
    if error.is(&code::DB_DRIVER_ERROR) {
        return Failure::Again(error);
    }
    Failure::Other(error)
}
