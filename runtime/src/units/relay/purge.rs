//! Removes relay logs that nobody needs: when somebody asks, and as the source's `purge` says.
//!
//! The index is left as it is: it belongs to the relay, which leaves the sub-directories out that
//! are gone when it opens the directory the next time. Until then there are no more of them than
//! there were moves of the source, and readers pass over them. So a purge only removes, from the
//! oldest on, and whatever moment it ends at, the next one goes on.

use std::{
    collections::BTreeMap,
    fmt,
    io::{self, ErrorKind},
    path::{Path, PathBuf},
    time::Duration,
};

use dm_core::{
    binlog::Position,
    control::SourceConfig,
    error::{Code, Error, Result, code},
    guard::Guard,
    lifecycle::{SourceView, SubtaskView, View},
    relay::{
        Contents, Holdings, INDEX_FILE, Index, Need, Plan, Removal, Shelf, Stored, Strategy,
        no_active_log,
    },
    status::Stage,
    sync::progress::Location,
};
use tokio::{
    sync::watch,
    time::{Instant, sleep},
};
use tracing::{info, warn};

use super::{
    RelayLog,
    claims::about_to_start,
    dir::{lock, read_small, remove_sub_dir},
};
use crate::{
    panics::caught,
    ports::{
        Connect,
        disk::{Disk, Space},
    },
    units::Facts,
};

/// How often it is asked how much space is left, and whether a purge is due.
const PERIOD: Duration = Duration::from_secs(10);
const HOUR_S: u64 = 60 * 60;
const GIB: u64 = 1 << 30;

/// Purges the relay logs of a worker.
#[derive(Clone, Debug)]
pub struct Purger<K> {
    connect: K,
    facts: Facts,
    view: watch::Receiver<View>,
}

/// What a purge is for.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
enum Cause {
    /// Somebody asks.
    Request,
    /// Files are older than `expires`.
    Expired,
    /// There is less space than `remain-space`.
    Space,
}

/// What was removed.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub struct Removed {
    files: u64,
    bytes: u64,
    sub_dirs: u64,
    /// Who needs the first of all files that stay, and which one that is.
    limit: String,
}

/// For people.
impl fmt::Display for Removed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self {
            files,
            bytes,
            sub_dirs,
            limit,
        } = self;
        if *files + *sub_dirs == 0 {
            f.write_str("nothing was removed")?;
        } else {
            write!(f, "removed: {files} files ({bytes} bytes)")?;
        }
        if *sub_dirs > 0 {
            write!(f, ", {sub_dirs} sub-directories with all in them")?;
        }
        if !limit.is_empty() {
            write!(f, "; what stays is needed: {limit}")?;
        }
        Ok(())
    }
}

impl<K: Connect> Purger<K> {
    /// Purges what these units relay, in a machine that looks like this.
    pub const fn new(connect: K, facts: Facts, view: watch::Receiver<View>) -> Self {
        Self {
            connect,
            facts,
            view,
        }
    }

    /// Does what somebody asks for. Without a relay there is nothing to do. Once begun, it goes on
    /// though nobody waits for it any more.
    ///
    /// # Errors
    /// 40070: there is no source. 30039: there are several that are relayed. 30035 to 30041, 28002
    /// and 11025: why nothing was removed, or not all; 28001 and 11024: the disk can't be read.
    pub async fn on_request(&self, strategy: Strategy) -> Result<Removed> {
        let source = {
            let view = self.view.borrow();
            if view.sources.is_empty() {
                return Err(Error::new(&code::WORKER_NO_START, code::NO_SOURCE_TEXT));
            }
            let mut relayed = view.sources.iter().filter(|it| it.relay.is_some());
            let Some(source) = relayed.next() else {
                return Ok(Removed::default());
            };
            if relayed.next().is_some() {
                return Err(Error::new(
                    &code::RELAY_PURGE_REQUEST_NOT_VALID,
                    "request for one source not valid: this worker relays several ones",
                ));
            }
            source.name.clone()
        };
        let this = self.clone();
        let purge = async move { this.purge(&source, &strategy, Cause::Request).await };
        let ended = tokio::spawn(caught(purge)).await;
        let ended = ended.map_err(|error| {
            Error::new(&code::NOT_SET, "the purge broke off").with_cause(error.to_string())
        });
        ended.flatten().flatten()
    }

    /// Purges whenever that is due, as long as it is polled.
    pub async fn run(self) {
        let mut looked = BTreeMap::new();
        loop {
            sleep(PERIOD).await;
            self.tick(&mut looked, Instant::now()).await;
        }
    }

    /// Looks at each source whose interval is over. It begins when the relay is first seen.
    async fn tick(&self, looked: &mut BTreeMap<String, Instant>, now: Instant) {
        let relayed = self.relayed();
        looked.retain(|source, _| relayed.contains(source));
        for source in relayed {
            let Some(config) = self.facts.source(&source) else {
                continue;
            };
            let space = self.measure(&config).await;
            let last = looked.entry(source).or_insert(now);
            let interval = u64::try_from(config.purge.interval).unwrap_or_default();
            if interval > 0 && now.duration_since(*last) >= Duration::from_secs(interval) {
                *last = now;
                self.look(&config, space).await;
            }
        }
    }

    /// The sources of which the relay is on, by id.
    fn relayed(&self) -> Vec<String> {
        let view = self.view.borrow();
        let is_on = |source: &&SourceView| {
            let relay = source.relay.as_ref();
            relay.is_some_and(|relay| relay.stage != Stage::Stopped)
        };
        let relayed = view.sources.iter().filter(is_on);
        relayed.map(|source| source.name.clone()).collect()
    }

    /// Says how much space there is, also to Prometheus.
    async fn measure(&self, config: &SourceConfig) -> Option<Space> {
        let path = Path::new(&config.relay_dir);
        // A relay that has not begun has no directory.
        let space = there(self.connect.disk().space(path).await);
        let space = space.unwrap_or_else(|error| {
            warn!(source = config.source_id, %error, "cannot tell how much space is left");
            None
        })?;
        let metrics = &self.facts.relay(&config.source_id).metrics;
        metrics.space(space.capacity, space.available);
        Some(space)
    }

    /// Purges if that is due.
    async fn look(&self, config: &SourceConfig, space: Option<Space>) {
        let (source, purge) = (&config.source_id, &config.purge);
        let positive = |number: i64| u64::try_from(number).unwrap_or_default();
        let wanted = positive(purge.remain_space).saturating_mul(GIB);
        let missing = space.map_or(0, |space| wanted.saturating_sub(space.available));
        let expires = positive(purge.expires).saturating_mul(HOUR_S);
        let (strategy, cause) = if missing > 0 {
            (Strategy::Space(missing), Cause::Space)
        } else if expires > 0 {
            let until = self.connect.disk().now().as_secs().saturating_sub(expires);
            (Strategy::Time(until), Cause::Expired)
        } else {
            return;
        };
        match self.purge(source, &strategy, cause).await {
            Ok(removed) if removed.bytes < missing => warn!(
                source,
                bytes = missing - removed.bytes,
                "`remain-space` is not free, and no other relay log may go"
            ),
            Ok(_) => {}
            Err(error) => warn!(source, %strategy, "relay logs are not purged: {error}"),
        }
    }

    /// Removes what a strategy says and nobody needs.
    async fn purge(&self, source: &str, strategy: &Strategy, cause: Cause) -> Result<Removed> {
        let relay = self.facts.relay(source);
        let _held = relay.claims.purge(strategy)?;
        let (Some(config), Some(end)) = (self.facts.source(source), relay.end()) else {
            return Err(no_active_log());
        };
        let view = self.view.borrow().clone();
        let Some(view) = view.sources.iter().find(|view| view.name == source) else {
            return Ok(Removed::default());
        };
        let Some(relay) = &view.relay else {
            return Ok(Removed::default());
        };
        // Where it stood in an earlier life may be in another directory.
        if matches!(relay.stage, Stage::New | Stage::Resuming) {
            return Err(about_to_start());
        }
        let disk = self.connect.disk();
        let path = Path::new(&config.relay_dir);
        // A relay that runs holds the lock; otherwise somebody else may have come.
        let _lock = match relay.live {
            Some(_) => None,
            None => Some(lock(&disk, path, &self.facts.holder(source)).await?),
        };
        let (index, shelves) = read(&disk, path).await?;
        let mut needs = Vec::new();
        for (task, from) in needed(self.facts.needs(source), view) {
            let who = format!("task {task}");
            let files = self.files(&config, from, (&index, &shelves)).await?;
            needs.extend(files.into_iter().map(|file| Need {
                who: who.clone(),
                file,
            }));
        }
        // The tasks run elsewhere, with what they need, until one day they come here. An automatic
        // purge does not wait for that day, or the disk would fill up; nor does the existing
        // worker.
        if !view.bound && cause == Cause::Request {
            let who = "the worker that runs the tasks of the source".to_owned();
            needs.push(Need { who, file: None });
        }
        let plan = Holdings {
            index: &index,
            shelves: &shelves,
            written: (&end.sub_dir, &end.file),
            needs: &needs,
        };
        let Plan { removals, limit } = plan.plan(strategy)?;
        let mut removed = Removed {
            limit,
            ..Removed::default()
        };
        let may_go_on = || self.still(source, view);
        let ended = carry_out(&disk, path, &removals, may_go_on, &mut removed).await;
        let Removed {
            files,
            bytes,
            sub_dirs,
            limit,
        } = &removed;
        if !removals.is_empty() {
            info!(source, ?cause, %strategy, files, bytes, sub_dirs, limit, "relay logs removed");
        } else if cause == Cause::Request {
            info!(source, %strategy, limit, "no relay log may go");
        }
        ended.map(|()| removed)
    }

    /// Fails once a task has come that was not there when a purge began: what it needs was not
    /// asked.
    fn still(&self, source: &str, began: &SourceView) -> Result<()> {
        let runs = |view: &SourceView, name: &str| {
            let mut tasks = view.subtasks.iter();
            tasks.any(|task| task.name == name && !is_over(task))
        };
        let view = self.view.borrow();
        let mut now = view.sources.iter().filter(|view| view.name == source);
        let tasks = now.next().into_iter().flat_map(|now| &now.subtasks);
        let mut came = tasks.filter(|task| !is_over(task) && !runs(began, &task.name));
        came.next().map_or(Ok(()), |task| {
            let message = format!(
                "the relay log purge ends here, because task {} came",
                task.name
            );
            Err(Error::new(&code::RELAY_PURGE_IS_FORBIDDEN, message))
        })
    }

    /// The files that a task may begin to read from a place on. By GTID the log tells: what a place
    /// is called comes from whichever worker recorded it, or from the source.
    async fn files(
        &self,
        config: &SourceConfig,
        from: Option<Location>,
        (index, shelves): (&Index, &[Shelf]),
    ) -> Result<Vec<Option<String>>> {
        let Some(Location { position, gtids }) = from else {
            return Ok(vec![None]);
        };
        let begins = match gtids {
            Some(have) if config.enable_gtid => {
                let (disk, relay) = (self.connect.disk(), self.facts.relay(&config.source_id));
                let log = RelayLog::new(disk, &config.relay_dir, have.flavor(), &relay);
                log.first_for(index, &have).await?
            }
            _ => None,
        };
        let Some((sub_dir, file)) = begins else {
            return Ok(vec![Some(position.file)]);
        };
        let begins = Position::new(file, Position::FIRST).in_relay(sub_dir.number());
        let mut files = vec![Some(begins.file)];
        // What it has open may be older.
        let is_in = |shelf: &Shelf| Some(shelf.sub_dir.number()) == position.relay();
        let is_it = |file: &Stored| file.name == position.plain().file;
        if shelves
            .iter()
            .any(|shelf| is_in(shelf) && shelf.files.iter().any(is_it))
        {
            files.push(Some(position.file));
        }
        Ok(files)
    }
}

/// From where on the subtasks of a source need its binlog, of which so much is known.
fn needed(
    mut known: BTreeMap<String, Option<Location>>,
    source: &SourceView,
) -> BTreeMap<String, Option<Location>> {
    // What is counted of one that is gone is forgotten a moment later.
    known.retain(|name, _| source.subtasks.iter().any(|task| task.name == *name));
    for task in &source.subtasks {
        match task.stage {
            // It finds out where it is, or never has.
            Stage::New | Stage::Resuming => drop(known.insert(task.name.clone(), None)),
            _ if is_over(task) => drop(known.remove(&task.name)),
            _ => drop(known.entry(task.name.clone()).or_default()),
        }
    }
    if !Guard::RelayNeeds.holds() {
        known.clear();
    }
    known
}

fn is_over(task: &SubtaskView) -> bool {
    matches!(task.stage, Stage::Stopped | Stage::Finished)
}

/// What is in a relay directory.
async fn read<D: Disk>(disk: &D, path: &Path) -> Result<(Index, Vec<Shelf>)> {
    let index = path.join(INDEX_FILE);
    let bytes = read_small(disk, &index).await;
    let unread = |error| failed(&code::RELAY_PARSE_UUID_INDEX, "read", &index, &error);
    let index = Index::parse(&bytes.map_err(unread)?.unwrap_or_default())?;
    let mut shelves = Vec::new();
    for sub_dir in index.iter() {
        let path = path.join(sub_dir.to_string());
        let failed = |error| failed(&code::READ_DIR, "read dir", &path, &error);
        let Some(names) = there(disk.list(&path).await).map_err(failed)? else {
            continue;
        };
        let mut files = Vec::new();
        for name in Contents::of(names).files {
            let stat = disk.stat(&path.join(&name)).await.map_err(failed)?;
            files.push(Stored {
                name,
                bytes: stat.bytes,
                modified_s: stat.modified.as_secs(),
            });
        }
        shelves.push(Shelf {
            sub_dir: sub_dir.clone(),
            files,
        });
    }
    Ok((index, shelves))
}

/// Removes one thing after the other. What is gone of a sub-directory stays gone before anything of
/// the next one goes.
async fn carry_out<D: Disk>(
    disk: &D,
    path: &Path,
    removals: &[Removal],
    may_go_on: impl Fn() -> Result<()>,
    removed: &mut Removed,
) -> Result<()> {
    let mut unsynced: Option<PathBuf> = None;
    for removal in removals {
        may_go_on()?;
        match removal {
            Removal::File {
                sub_dir,
                name,
                bytes,
            } => {
                let dir = path.join(sub_dir.to_string());
                let file = dir.join(name);
                let gone = there(disk.remove(&file).await);
                gone.map_err(|error| not_removed(&file, &error))?;
                removed.files += 1;
                removed.bytes += bytes;
                unsynced = Some(dir);
            }
            Removal::Dir(sub_dir) => {
                let dir = path.join(sub_dir.to_string());
                let gone = match disk.sync_dir(&dir).await {
                    Ok(()) => remove_sub_dir(disk, path, sub_dir).await,
                    failed => failed,
                };
                gone.map_err(|error| not_removed(&dir, &error))?;
                removed.sub_dirs += 1;
                unsynced = None;
            }
        }
    }
    match unsynced {
        Some(dir) => disk
            .sync_dir(&dir)
            .await
            .map_err(|error| not_removed(&dir, &error)),
        None => Ok(()),
    }
}

/// Nothing, if there is nothing.
fn there<T>(found: io::Result<T>) -> io::Result<Option<T>> {
    match found {
        Err(error) if error.kind() == ErrorKind::NotFound => Ok(None),
        found => found.map(Some),
    }
}

fn failed(code: &'static Code, what: &str, path: &Path, error: &io::Error) -> Error {
    Error::new(code, format!("{what}: {}", path.display())).with_cause(error.to_string())
}

fn not_removed(path: &Path, error: &io::Error) -> Error {
    let message = format!("remove relay log {} failed", path.display());
    Error::new(&code::RELAY_REMOVE_FILE_FAIL, message)
        .with_cause(error.to_string())
        .with_workaround("What is older is gone. Remove the cause; the next purge goes on here.")
}

#[cfg(all(test, not(madsim)))]
mod tests;
