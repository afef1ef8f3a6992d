//! Copies the tables that a task begins with: rows of a snapshot go straight into the target.
//!
//! Each table is read in the order of its key by one connection, or several where it is large, and
//! cut into pieces of about a megabyte. A piece and the note that it is there are one
//! transaction under the fence, so a restart knows to the row what is missing. It goes on from
//! another snapshot then, and the binlog between the two is applied in safe mode once all is
//! copied: by the sync unit or, where none follows, before the copy is over. Rows without a key
//! can't be told apart like that: their table begins anew.

pub(super) mod define;
mod facts;
mod keys;
mod load;
pub(super) mod pieces;
mod plan;
mod rows;
mod settings;

use std::{collections::BTreeSet, pin::pin, sync::Arc, time::Duration};

use dm_core::{
    control::SubtaskConfig,
    error::{Error, Result, Scope, code},
    full::{Consistency, Gap, Reading},
    guard::Guard,
    lifecycle::{self, Job, Outcome},
    sync::{
        ddl::Rules,
        progress::Location,
        schema::{Quoted, Table, TableName},
    },
};
use tokio::{
    sync::mpsc,
    time::{MissedTickBehavior, interval},
};
use tracing::{info, warn};

pub(crate) use self::facts::TableFacts;
pub use self::facts::{CopyFacts, TableProgress, Total};
pub(crate) use self::settings::Settings;
use self::{
    define::{Definitions, Wanted},
    pieces::{Pieces, Work},
    plan::{Plan, wants_more},
    rows::{Shared, SnapshotFeed},
};
pub(super) use self::{
    load::hand_over,
    plan::is_excluded,
    rows::{left, moves, sql_bytes},
};
use super::{follows, moving::Moving, rules, tasks::Tasks, writer::Refused};
use crate::ports::{
    Connect, Source, SourceFacts, Target,
    copy::{Copy, Reader, Snapshot, SnapshotTable},
};

/// How often it is looked whether the source still has the binlog that the task goes on with.
const LOOK: Duration = Duration::from_secs(10);

/// What is left to do where a copy can't go on.
pub(super) const ANEW: &str = "Begin the copy anew: stop the task, drop what it has copied from \
                               the target, and start it with `--remove-meta`, or under another \
                               name.";

/// Why a run ended that should have gone on.
#[derive(Debug)]
pub(super) enum Failure {
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

/// How the unit ended.
impl From<Failure> for Outcome {
    fn from(failure: Failure) -> Self {
        match failure {
            Failure::Fenced(error) => Self::Fenced(error),
            Failure::Again(error) | Failure::Other(error) => Self::Failed(vec![error]),
        }
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

impl<K: Connect> Moving<K> {
    /// One run of a copy, from what is noted in the target.
    pub(super) async fn copy(&mut self, tasks: &mut Tasks) -> Result<(), Failure> {
        let (task, config) = (&self.job.task, &self.job.source);
        let settings = Settings::new(task)?;
        let source = self.connect.source(config);
        let upstream = source.probe(follows(task)).await?;
        if let Some(error) = &upstream.obstacle {
            // Nobody needs it as long as all goes well.
            warn!(
                task = task.name,
                %error,
                "the binlog can't be applied: should the copy be interrupted, it begins anew"
            );
        }
        let rules = rules(task, &source).await?;
        let target = Arc::new(self.connect.target(&self.job, &upstream).await?);
        let recovered = target.take_over(self.fence).await?;
        // A snapshot that breaks does not give the source away.
        self.fence = Some(recovered.fence);
        let noted = target.copy().await?;
        let slots = u32::try_from(settings.threads).unwrap_or(1);
        let definitions = |from: &Location| Definitions {
            target: &*target,
            rules: &rules,
            upstream: &upstream,
            at: from.clone(),
        };
        let outdated = noted
            .as_ref()
            .and_then(|it| outdated(&self.job, it, &upstream));
        if let Some(copy) = &noted
            && (outdated.is_none() || copy.reconciled().is_none())
            && !wants_more(&rules, copy)
            && self
                .complete((&source, &definitions(&copy.from)), slots, copy)
                .await?
        {
            self.events.send(lifecycle::Event::Initialised);
            return Ok(());
        }
        let is_wanted = |name: &TableName| !is_excluded(&rules, name);
        let mut snapshot = source
            .snapshot(settings.consistency, settings.threads, is_wanted)
            .await
            .map_err(again)?;
        let mut schemas = snapshot.tables.iter().map(|it| &it.table.name.schema);
        let is_logged = follows(task)
            || upstream.obstacle.is_none() && schemas.all(|schema| upstream.logged.has(schema));
        is_of_one_moment(&task.name, &settings, &snapshot, is_logged)?;
        let counts =
            is_logged && outdated.is_none() && noted.as_ref().is_none_or(|it| it.is_logged);
        if let Some(why) = outdated {
            warn!(
                task = task.name,
                "rows that are there do not count, as to the source: {why}"
            );
        }
        if let Some(noted) = &noted {
            missed(noted, &rules, &mut snapshot).await?;
        }
        if snapshot.tables.is_empty() {
            let error = nothing();
            if !follows(task) {
                return Err(Failure::Other(error));
            }
            warn!(source = config.source_id, task = task.name, %error, "nothing is copied");
        }
        self.events.send(lifecycle::Event::Initialised);
        let server = (&rules, &*upstream.server);
        let mut plan = Plan::new(
            &self.job,
            server,
            (is_logged, counts),
            noted.clone(),
            &snapshot,
        )?;
        plan.note_who_makes(&*target).await?;
        plan.compare_keys(&*target, &snapshot.tables).await?;
        let Snapshot {
            tables,
            views,
            mut readers,
            ..
        } = snapshot;
        let definitions = definitions(&plan.copy.from);
        let slots = u32::try_from(readers.len()).unwrap_or(1);
        // In this order, a run that ends in between leaves neither rows of which nothing is noted,
        // nor rows noted that went with their table, nor a table of which nobody knows whose it is.
        if let Some(doomed) = noted.and_then(|noted| plan.doomed(noted)) {
            target.begin_copy(slots, &doomed).await?;
        }
        self.tries.is_anew = plan.restarts.values().any(|restart| restart.rows > 0);
        definitions.restart(&plan.restarts, &plan.copy).await?;
        target.begin_copy(slots, &plan.copy).await?;
        // Not before it is noted: until then the target says that an older place is needed.
        self.needs.note_needs(&plan.copy.from);
        if let Some(reader) = readers.first_mut() {
            let wanted = tables.iter().map(|SnapshotTable { table, .. }| Wanted {
                name: &table.name,
                source: Some(table),
            });
            let wanted: Vec<_> = wanted.collect();
            let made = definitions.create(reader, &wanted, &plan.begun).await?;
            let copy = &mut plan.copy;
            let tables = (&*tables, &plan.begun);
            if definitions.find_keys(&made, tables, copy).await? {
                target.begin_copy(slots, copy).await?;
                definitions.drop_keys(copy, &plan.begun).await?;
            }
            // No row comes before they are made.
            if plan.begun.is_empty() {
                let views: Vec<_> = views.into_iter().map(|view| view.name).collect();
                definitions.create_views(reader, &views).await?;
            }
        }
        let looks = plan.look(&*target, &tables).await?;
        let progress = target.begin_copy(slots, &plan.copy).await?;
        info!(
            source = config.source_id,
            task = task.name,
            tables = tables.len(),
            from = %plan.copy.from,
            "copying"
        );
        // There is an entry for each.
        let noted = |name: &TableName| &plan.copy.tables[name];
        let pieces = |name: &TableName| {
            let pieces = noted(name).pieces.iter();
            pieces
                .filter(|_| Guard::CopyGaps.holds())
                .cloned()
                .collect()
        };
        let work = left(readers.first_mut(), &tables, pieces).await?;
        self.begin_copy_facts(&plan.copy, &tables, &work);
        let pieces = Pieces {
            facts: Arc::clone(&self.facts),
            at: plan.copy.from.clone(),
            tables: tables.iter().map(|it| it.table.name.clone()).collect(),
            work: Work::new(work),
            memory: self.memory,
        };
        let shared = Shared::new(&*target, &settings, tables, &plan.copy).await?;
        let shared = Arc::new(shared);
        let feed = |reader| SnapshotFeed {
            reader,
            shared: Arc::clone(&shared),
        };
        let feeds = readers.into_iter().map(feed).collect();
        let mut ended = pieces.start(tasks, feeds, &target, progress);
        let done = until_all(&mut ended, slots);
        let needed = needed(task, &plan.copy);
        watching(&self.job, (&source, needed), done).await?;
        for look in &looks {
            look.check(&*target).await?;
        }
        let noted = target.copy().await?.unwrap_or_default();
        if !self
            .complete((&source, &definitions), slots, &noted)
            .await?
        {
            let text = "the copy came to its end, and some rows are not noted";
            return Err(Failure::Again(Error::new(
                &code::LOAD_TASK_CHECKPOINT_NOT_MATCH,
                text,
            )));
        }
        info!(source = config.source_id, task = task.name, "all is copied");
        Ok(())
    }

    /// Whether all rows of a copy are there; then what is left is made.
    async fn complete<T: Target>(
        &self,
        (source, definitions): (&impl Source, &Definitions<'_, T>),
        slots: u32,
        noted: &Copy,
    ) -> Result<bool, Failure> {
        let mut copy = noted.clone();
        let keys = copy.take_keys();
        if Guard::CopyComplete.holds() && !copy.is_complete()? {
            return Ok(false);
        }
        if !keys.is_empty() {
            // It may take hours.
            self.events.send(lifecycle::Event::Initialised);
            self.needs.note_needs(&noted.from);
            // Only now: a DDL moves all slots.
            let at_once = usize::try_from(slots).unwrap_or(1);
            let keys = definitions.add_keys(&keys, at_once, &self.facts);
            let needed = needed(&self.job.task, noted);
            watching(&self.job, (source, needed), keys).await?;
            definitions.target.begin_copy(slots, &copy).await?;
        }
        Ok(true)
    }

    /// Counts what is there already.
    fn begin_copy_facts(&self, copy: &Copy, tables: &[SnapshotTable], work: &[(usize, Vec<Gap>)]) {
        let mut known: Vec<_> = work
            .iter()
            .map(|(index, gaps)| {
                let SnapshotTable { table, rows, bytes } = &tables[*index];
                let noted = copy.tables.get(&table.name);
                let done = Total {
                    tables: u64::from(gaps.is_empty()),
                    rows: noted.map_or(0, |noted| noted.rows),
                    bytes: noted.map_or(0, |noted| noted.bytes),
                };
                let total = Total {
                    rows: *rows,
                    ..Total::default()
                };
                (index, TableFacts::new(&table.name, *bytes, total, done))
            })
            .collect();
        known.sort_by_key(|(index, _)| *index);
        let known = known.into_iter().map(|(_, facts)| facts).collect();
        self.facts.begin(known, &copy.from);
    }
}

/// Waits until so many parts of the work say that they are done.
pub(super) async fn until_all(
    ended: &mut mpsc::UnboundedReceiver<Result<(), Failure>>,
    count: u32,
) -> Result<(), Failure> {
    for _ in 0..count {
        match ended.recv().await {
            Some(done) => done?,
            None => break,
        }
    }
    Ok(())
}

/// Why rows that are noted can't be gone on with, and have to go, if so. Whoever follows the binlog
/// must say himself that all may begin anew. Complete rows of one moment lack nothing all the same.
pub(super) fn outdated(job: &Job, noted: &Copy, upstream: &SourceFacts) -> Option<&'static str> {
    let by_gtid = job.source.enable_gtid;
    let SourceFacts { end, server, .. } = upstream;
    let now = Location {
        position: end.position.clone(),
        gtids: Some(end.gtids.clone()).filter(|gtids| !gtids.is_empty()),
    };
    let is_other = noted.server.as_ref().is_some_and(|before| before != server);
    if follows(&job.task) || noted.is_over {
        None
    } else if is_other && !by_gtid {
        Some("it is another server than the one that they are from")
    } else if !now.reaches(&noted.from, by_gtid) {
        Some("it is behind the place that they are from")
    } else if end.has_lost(&noted.from, by_gtid) && !job.use_relay {
        Some("it has purged the binlog that they lack")
    } else {
        None
    }
}

/// From where on a copy needs the source's binlog, if it does.
fn needed<'a>(task: &SubtaskConfig, copy: &'a Copy) -> Option<&'a Location> {
    (follows(task) || copy.reconciled().is_some()).then_some(&copy.from)
}

/// Does what takes a while, and looks meanwhile whether the source keeps what is needed of its
/// binlog, if anything is.
///
/// # Errors
/// Those of the work. It was purged: nothing of the rest would be of any use, unless a relay log
/// has it.
pub(super) async fn watching<T>(
    job: &Job,
    (source, from): (&impl Source, Option<&Location>),
    work: impl Future<Output = Result<T, Failure>>,
) -> Result<T, Failure> {
    let mut looks = interval(LOOK);
    looks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let mut work = pin!(work);
    let mut needed = from;
    loop {
        tokio::select! {
            biased;
            done = &mut work => return done,
            _ = looks.tick(), if needed.is_some() => {
                let Some(from) = needed else {
                    continue;
                };
                match look(source, (from, job)).await {
                    Ok(()) => {}
                    Err(error) if job.use_relay => {
                        warn!(%error, "only a relay log can have the rest");
                        needed = None;
                    }
                    Err(error) => return Err(Failure::Other(error)),
                }
            }
        }
    }
}

/// Whether the source still has what comes behind the copy.
///
/// # Errors
/// It was purged.
async fn look(source: &impl Source, (from, job): (&Location, &Job)) -> Result<()> {
    // What can't be asked now is asked again.
    let Ok(end) = source.end().await else {
        return Ok(());
    };
    if !end.has_lost(from, job.source.enable_gtid) {
        return Ok(());
    }
    let text = format!(
        "the source has purged binlog from {from} on, where the task must go on once all is \
         copied"
    );
    let error = Error::new(&code::SYNCER_GET_EVENT, text).with_scope(Scope::Upstream);
    // As the source will answer.
    let cause = "Error 1236 (HY000): Could not find first log file name in binary log index file";
    let advice = "Let the source keep its binlog longer (`binlog_expire_logs_seconds`).";
    let anew = match follows(&job.task) {
        true => ANEW,
        false => "Once resumed, the copy begins anew.",
    };
    Err(error
        .with_cause(cause)
        .with_workaround(format!("{advice} {anew}")))
}

/// Makes sure that the source has no table of which something is noted and that a snapshot lacks: a
/// server does not list what its user may not read.
async fn missed<R: Reader>(
    noted: &Copy,
    rules: &Rules,
    snapshot: &mut Snapshot<R>,
) -> Result<(), Failure> {
    let Snapshot {
        tables,
        views,
        readers,
        ..
    } = snapshot;
    let Some(reader) = readers.first_mut() else {
        return Ok(());
    };
    let tables = tables.iter().map(|it| &it.table.name);
    let listed: BTreeSet<_> = tables.chain(views.iter().map(|view| &view.name)).collect();
    for (name, table) in &noted.tables {
        let is_wanted = !table.is_gone && !is_excluded(rules, name);
        if is_wanted && !listed.contains(name) && reader.is_there(name).await.map_err(again)? {
            let text = format!("{name} was not there when the tables were listed");
            let error = Error::new(&code::DUMP_UNIT_RUNTIME, text);
            return Err(Failure::Again(error.with_scope(Scope::Upstream)));
        }
    }
    Ok(())
}

/// Whether the binlog can go on behind rows of these tables that files hold, read under a lock or
/// at several places.
///
/// # Errors
/// 32001: later changes would not find rows. 32004: a table without a key was read while it
/// changes.
pub(super) fn can_be_followed<'a>(
    tables: impl Iterator<Item = &'a Table>,
    at_several_places: bool,
) -> Result<()> {
    for table in tables {
        keeps_rows_apart(table)?;
        if at_several_places && !Reading::new(table).has_key() {
            return Err(unlocked(&table.name));
        }
    }
    Ok(())
}

/// Whether a snapshot is of one moment, or the binlog that follows makes it so, or the user does
/// not mind.
///
/// # Errors
/// 32004: nothing would ever put its rows right.
pub(super) fn is_of_one_moment<R>(
    task: &str,
    settings: &Settings,
    snapshot: &Snapshot<R>,
    is_logged: bool,
) -> Result<()> {
    if snapshot.until.is_none() || is_logged {
        return Ok(());
    }
    if settings.consistency == Consistency::None {
        warn!(
            task,
            "rows are of several moments, as `--consistency none` has it: no binlog follows"
        );
        return Ok(());
    }
    let text = "Couldn't acquire global lock: without one, rows are of several moments, and no \
                binlog follows that would put them right";
    let error = Error::new(&code::DUMP_UNIT_GLOBAL_LOCK, text).with_scope(Scope::Upstream);
    Err(error.with_workaround(
        "Grant RELOAD, or LOCK TABLES on the tables, to the user of the source; or say \
         `--consistency none` (`mydumpers: extra-args`) if nobody writes, or you do not mind.",
    ))
}

/// Refuses a table whose rows later changes would not find.
fn keeps_rows_apart(table: &Table) -> Result<()> {
    match table.json_without_key() {
        Some(column) => Err(nameless_rows(&table.name, &column.name)),
        None => Ok(()),
    }
}

/// Of a table with a JSON column and without a key.
pub(super) fn nameless_rows(table: &TableName, column: &str) -> Error {
    let text = format!(
        "{table} has no key, and a copy may change types inside of its JSON column {}: later \
         changes would not find its rows",
        Quoted(column)
    );
    let error = Error::new(&code::DUMP_UNIT_RUNTIME, text).with_scope(Scope::Upstream);
    error.with_workaround(
        "Give the table a primary key at the source, or exclude it with the `block-allow-list`.",
    )
}

pub(super) fn nothing() -> Error {
    let text = "the source has no table that the task names, or its user may not read any";
    Error::new(&code::DUMP_UNIT_RUNTIME, text)
        .with_scope(Scope::Upstream)
        .with_workaround(
            "Look for a slip in `block-allow-list`, and grant SELECT on the tables to the user of \
             the source.",
        )
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
pub(super) fn again(error: Error) -> Failure {
    if error.is(&code::DB_DRIVER_ERROR) {
        return Failure::Again(error);
    }
    Failure::Other(error)
}
