use std::{
    collections::BTreeSet,
    fs,
    sync::{
        Arc, Mutex,
        atomic::{AtomicUsize, Ordering::Relaxed},
    },
    time::UNIX_EPOCH,
};

use dm_core::{
    binlog::{Flavor, GtidSet},
    lifecycle::{Config, Era, RelayView, SubtaskView, Ticket, Worker},
    relay::SubDir,
};
use tempfile::TempDir;

use super::*;
use crate::units::relay::{RelayEnd, samples::recorded};
use crate::{
    disk::{LocalDisk, LocalFile},
    metrics::Metrics,
    mysql::connect::Connector,
    ports::disk::{Open, Stat},
    units::relay::dir::{Owner, RelayDir},
};

const OLD: &str = "a-1.000001";
const NEW: &str = "b-1.000002";
const ALL: [&str; 7] = [
    "a-1.000001",
    "a-1.000001/m.000008",
    "a-1.000001/m.000009",
    "a-1.000001/relay.meta",
    "b-1.000002/m.000001",
    "b-1.000002/m.000002",
    "b-1.000002/m.000003",
];

/// A worker that relays a source into a directory, where each file has ten bytes.
struct World {
    dir: TempDir,
    facts: Facts,
    view: watch::Sender<View>,
    purger: Purger<Connector>,
    config: SourceConfig,
}

impl World {
    fn new() -> Self {
        let dir = TempDir::new().unwrap();
        fill(dir.path());
        Self::on(dir)
    }

    fn on(dir: TempDir) -> Self {
        let config = SourceConfig {
            source_id: "one".into(),
            relay_dir: dir.path().to_str().unwrap().into(),
            ..SourceConfig::standard()
        };
        let facts = Facts::new(&Arc::new(Metrics::default()), "w");
        facts.note(&Arc::new(config.clone()));
        let view = watch::Sender::new(Worker::new(Config::new("w", "", 1)).view());
        let connect = Connector {
            worker: "w".into(),
            secret_key: None,
        };
        let purger = Purger::new(connect, facts.clone(), view.subscribe());
        let world = Self {
            dir,
            facts,
            view,
            purger,
            config,
        };
        world.change(|view| view.sources.push(source("one")));
        world
    }

    /// The same, and it is known where the relay stands.
    fn relaying() -> Self {
        let world = Self::new();
        let sub_dir = NEW.parse::<SubDir>().unwrap();
        let relay = world.facts.relay("one");
        relay.wrote(RelayEnd {
            sub_dir,
            file: "m.000003".to_owned(),
            len: 10,
            location: Location::default(),
        });
        world
    }

    fn change(&self, change: impl FnOnce(&mut View)) {
        self.view.send_modify(change);
    }

    /// What there is of all that there was at first.
    fn left(&self) -> Vec<&'static str> {
        left(self.dir.path())
    }

    async fn purge(&self, strategy: Strategy) -> Option<u32> {
        let purged = self.purger.on_request(strategy).await;
        purged.err().map(|error| error.code)
    }
}

fn fill(dir: &Path) {
    for name in ALL.iter().skip(1) {
        let path = dir.join(name);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, [7; 10]).unwrap();
    }
    fs::write(dir.join(INDEX_FILE), format!("{OLD}\n{NEW}\n")).unwrap();
}

fn left(dir: &Path) -> Vec<&'static str> {
    let is_there = |name: &&str| dir.join(name).exists();
    ALL.into_iter().filter(is_there).collect()
}

fn source(name: &str) -> SourceView {
    let live = Ticket { era: Era(0), op: 1 };
    SourceView {
        name: name.into(),
        bound: true,
        fence: None,
        relay: Some(RelayView {
            stage: Stage::Running,
            result: None,
            live: Some(live),
        }),
        subtasks: Vec::new(),
    }
}

fn subtask(name: &str, stage: Stage) -> SubtaskView {
    SubtaskView {
        name: name.into(),
        stage,
        unit: None,
        result: None,
        live: None,
        refused: None,
    }
}

fn file(name: &str) -> Strategy {
    Strategy::File {
        name: name.into(),
        sub_dir: None,
    }
}

#[tokio::test]
async fn what_is_before_a_file_goes() {
    let world = World::relaying();
    assert_eq!(world.purge(file("m.000002")).await, None);
    assert_eq!(world.left(), ALL[5..]);
    assert_eq!(world.purge(Strategy::Inactive).await, None);
    assert_eq!(world.left(), ALL[6..]);
    // The relay leaves the rest out when it opens the directory.
    let index = world.dir.path().join(INDEX_FILE);
    assert!(fs::read_to_string(&index).unwrap().starts_with(OLD));
    let path = world.dir.path();
    RelayDir::open(LocalDisk, path, Owner::new("one", "a test"))
        .await
        .unwrap();
    assert_eq!(fs::read_to_string(&index).unwrap(), format!("{NEW}\n"));
    assert_eq!(world.purge(file("m.000001")).await, Some(11025));
}

#[tokio::test]
async fn a_request_is_refused_as_long_as_something_is_unclear() {
    let world = World::new();
    let all = Strategy::Inactive;
    assert_eq!(world.purge(all.clone()).await, Some(30038), "the relay");
    let world = World::relaying();
    world.change(|view| view.sources[0].subtasks = vec![subtask("t", Stage::New)]);
    assert_eq!(world.purge(all.clone()).await, Some(30037), "a task");
    world.change(|view| {
        view.sources[0] = SourceView {
            bound: false,
            ..source("one")
        }
    });
    assert_eq!(
        world.purge(all.clone()).await,
        Some(30037),
        "another worker"
    );
    world.change(|view| view.sources.push(source("two")));
    assert_eq!(world.purge(all.clone()).await, Some(30039), "which source");
    let relay = world.facts.relay("one");
    let opening = relay.claims.open().await;
    world.change(|view| view.sources = vec![source("one")]);
    assert_eq!(world.purge(all.clone()).await, Some(30037), "the end");
    drop(opening);
    world.change(|view| view.sources[0].relay.as_mut().unwrap().stage = Stage::Resuming);
    assert_eq!(world.purge(all.clone()).await, Some(30037), "the next life");
    assert_eq!(world.left(), ALL);
    world.change(|view| view.sources[0].relay = None);
    assert_eq!(world.purge(all.clone()).await, None, "there is no relay");
    world.change(|view| view.sources.clear());
    assert_eq!(world.purge(all).await, Some(40070), "there is no source");
    assert_eq!(world.left(), ALL);
}

#[tokio::test]
async fn while_the_relay_rests_the_directory_must_be_nobody_elses() {
    let world = World::relaying();
    let other = RelayDir::open(
        LocalDisk,
        world.dir.path(),
        Owner::new("one", "somebody else"),
    );
    let other = other.await.unwrap();
    let rest = |view: &mut View| {
        let relay = view.sources[0].relay.as_mut().unwrap();
        (relay.stage, relay.live) = (Stage::Paused, None);
    };
    world.change(rest);
    let error = world
        .purger
        .on_request(Strategy::Inactive)
        .await
        .unwrap_err();
    assert!(error.message.contains("in use by somebody else"), "{error}");
    assert_eq!(world.left(), ALL);
    drop(other);
    assert_eq!(world.purge(Strategy::Inactive).await, None);
    assert_eq!(world.left(), ALL[6..]);
    // Nobody has it afterwards.
    let again = RelayDir::open(LocalDisk, world.dir.path(), Owner::new("one", "a test")).await;
    assert!(again.is_ok());
}

#[test]
fn tasks_keep_what_they_need() {
    let at = |file: &str| {
        let position = Position::new(file, 4);
        Some(Location {
            position,
            gtids: None,
        })
    };
    let mut view = source("one");
    view.subtasks = vec![
        subtask("paused", Stage::Paused),
        subtask("resuming", Stage::Resuming),
        subtask("running", Stage::Running),
        subtask("over", Stage::Stopped),
    ];
    let known = [
        // Whoever is started is in the view before.
        ("gone", at("m.000001")),
        ("over", at("m.000001")),
        ("paused", at("m.000002")),
        ("resuming", at("m.000003")),
    ];
    let known = known.map(|(task, at)| (task.to_owned(), at));
    let found = needed(known.into(), &view);
    let file = |at: Option<Location>| at.map(|at| at.position.file);
    let found: Vec<_> = found
        .into_iter()
        .map(|(task, at)| (task, file(at)))
        .collect();
    let some = |file: &str| Some(file.to_owned());
    let expected = [
        ("paused", some("m.000002")),
        ("resuming", None),
        ("running", None),
    ];
    assert_eq!(found, expected.map(|(task, at)| (task.to_owned(), at)));
}

/// What a place is called may be from another worker's log, where the number means another server.
#[tokio::test]
async fn by_gtid_the_log_tells_what_is_needed() {
    const FIRST: &str = "7105f637-e6f4-11f1-a0c3-02fc00000001";
    const SECOND: &str = "7747f834-e6f4-11f1-99f0-02fc00000001.000002";
    let mut world = World::on(recorded("switch"));
    world.config.enable_gtid = true;
    let needed = async |world: &World, name: &str, have: &str| {
        let (index, shelves) = read(&LocalDisk, world.dir.path()).await.unwrap();
        let gtids = GtidSet::parse(Flavor::Mysql, have).unwrap();
        let from = Location {
            position: Position::new(name, 4),
            gtids: Some(gtids),
        };
        let (purger, log) = (&world.purger, (&index, &*shelves));
        let files = purger.files(&world.config, Some(from), log).await.unwrap();
        files.into_iter().flatten().collect::<Vec<_>>()
    };
    // The newest server's file has everything.
    let (all, newest) = (format!("{FIRST}:1-18"), "binlog|000002.000001");
    assert_eq!(needed(&world, "binlog|000007.000003", &all).await, [newest]);
    assert_eq!(needed(&world, "binlog.000002", &all).await, [newest]);
    // It is read already in one that is older.
    let open = "binlog|000001.000002";
    assert_eq!(needed(&world, open, &all).await, [newest, open]);
    // Without that one, the place counts that is behind the other server's name.
    fs::remove_file(world.dir.path().join(SECOND).join("binlog.000001")).unwrap();
    for (name, have, begins) in [
        ("binlog|000002.000001", &*all, "binlog|000001.000002"),
        ("binlog|000002.000001", "", "binlog|000001.000001"),
    ] {
        assert_eq!(needed(&world, name, have).await, [begins]);
    }
    // Where the log does not serve, and by position, there is only the name.
    let file = world.dir.path().join(format!("{FIRST}.000001"));
    fs::remove_file(file.join("binlog.000001")).unwrap();
    assert_eq!(needed(&world, newest, "").await, [newest]);
    world.config.enable_gtid = false;
    assert_eq!(needed(&world, newest, &all).await, [newest]);
}

#[tokio::test]
async fn a_subtask_does_not_start_into_a_purge() {
    let world = World::relaying();
    let relay = world.facts.relay("one");
    let held = relay.claims.purge(&Strategy::Inactive).unwrap();
    assert_eq!(relay.may_start("t").unwrap_err().code, 40068);
    assert_eq!(world.purge(Strategy::Inactive).await, Some(30035));
    assert_eq!(world.purge(Strategy::Time(1)).await, Some(30036));
    drop(held);
    assert_eq!(relay.may_start("t"), Ok(()));
}

#[tokio::test]
async fn what_is_due_goes_by_itself() {
    let mut world = World::relaying();
    // Neither: fifteen GiB are to be free, and are.
    let space = |available| {
        Some(Space {
            capacity: 100 * GIB,
            available,
        })
    };
    world.purger.look(&world.config, space(15 * GIB)).await;
    assert_eq!(world.left(), ALL);
    // As much as is missing, to the whole file.
    world.purger.look(&world.config, space(15 * GIB - 1)).await;
    assert_eq!(world.left(), [&ALL[..1], &ALL[2..]].concat());
    world.purger.look(&world.config, None).await;
    assert_eq!(world.left().len(), 6);
    // What is too old, up to the first that is not.
    let age = |name: &str, seconds: u64| {
        let file = fs::File::open(world.dir.path().join(name)).unwrap();
        let at = LocalDisk.now().saturating_sub(Duration::from_secs(seconds));
        file.set_modified(UNIX_EPOCH + at).unwrap();
    };
    age(ALL[2], 2 * HOUR_S + 60);
    age(ALL[4], 2 * HOUR_S + 60);
    age(ALL[5], 60);
    world.config.purge.expires = 2;
    world.purger.look(&world.config, space(20 * GIB)).await;
    assert_eq!(world.left(), ALL[5..]);
    // What is written stays, however little space there is.
    world.purger.look(&world.config, space(0)).await;
    assert_eq!(world.left(), ALL[6..]);
}

#[tokio::test]
async fn it_looks_one_interval_after_the_start() {
    let mut world = World::relaying();
    world.config.purge.interval = 60;
    world.config.purge.remain_space = i64::MAX;
    world.facts.note(&Arc::new(world.config.clone()));
    let mut looked = BTreeMap::new();
    let start = Instant::now();
    for (after, left) in [(0, &ALL[..]), (59, &ALL), (60, &ALL[6..])] {
        let now = start + Duration::from_secs(after);
        world.purger.tick(&mut looked, now).await;
        assert_eq!(world.left(), left, "{after}");
    }
    let text = world.facts.0.metrics.render("w", &[]);
    assert!(
        text.contains("\ndm_relay_space{source_id=\"one\",type=\"available\"} "),
        "{text}"
    );
    // Again after another one; never without one, nor while the relay is off.
    fill(world.dir.path());
    for (interval, stage, after, left) in [
        (60, Stage::Running, 119, &ALL[..]),
        (0, Stage::Running, 500, &ALL),
        (60, Stage::Stopped, 600, &ALL),
        (60, Stage::Paused, 700, &ALL),
        (60, Stage::Paused, 760, &ALL[6..]),
    ] {
        world.config.purge.interval = interval;
        world.facts.note(&Arc::new(world.config.clone()));
        world.change(|view| view.sources[0].relay.as_mut().unwrap().stage = stage);
        let now = start + Duration::from_secs(after);
        world.purger.tick(&mut looked, now).await;
        assert_eq!(world.left(), left, "{after}");
    }
}

/// A disk that breaks after so many changes, and says what it was told.
#[derive(Clone)]
struct Breaking {
    left: Arc<AtomicUsize>,
    told: Arc<Mutex<Vec<String>>>,
}

impl Breaking {
    fn tell(&self, what: &str, path: &Path) -> io::Result<()> {
        if self
            .left
            .fetch_update(Relaxed, Relaxed, |left| left.checked_sub(1))
            .is_err()
        {
            return Err(io::Error::other("killed"));
        }
        let name = path.file_name().unwrap().to_string_lossy();
        self.told.lock().unwrap().push(format!("{what} {name}"));
        Ok(())
    }
}

impl Disk for Breaking {
    type File = LocalFile;

    async fn create_dir(&self, path: &Path) -> io::Result<()> {
        LocalDisk.create_dir(path).await
    }

    async fn list(&self, path: &Path) -> io::Result<Vec<(String, bool)>> {
        LocalDisk.list(path).await
    }

    async fn open(&self, path: &Path, how: Open) -> io::Result<LocalFile> {
        LocalDisk.open(path, how).await
    }

    async fn rename(&self, from: &Path, to: &Path) -> io::Result<()> {
        LocalDisk.rename(from, to).await
    }

    async fn remove(&self, path: &Path) -> io::Result<()> {
        self.tell("remove", path)?;
        LocalDisk.remove(path).await
    }

    async fn remove_dir(&self, path: &Path) -> io::Result<()> {
        self.tell("remove", path)?;
        LocalDisk.remove_dir(path).await
    }

    async fn stat(&self, path: &Path) -> io::Result<Stat> {
        LocalDisk.stat(path).await
    }

    async fn space(&self, path: &Path) -> io::Result<Space> {
        LocalDisk.space(path).await
    }

    fn now(&self) -> Duration {
        LocalDisk.now()
    }

    async fn sync_dir(&self, path: &Path) -> io::Result<()> {
        self.tell("sync", path)?;
        LocalDisk.sync_dir(path).await
    }
}

/// Wherever it ends, what is left is an end of what was there, and the next purge goes on.
#[tokio::test]
async fn it_may_end_at_any_moment() {
    let mut ends = BTreeSet::new();
    for changes in 0.. {
        let world = World::relaying();
        let path = world.dir.path();
        let told = Arc::default();
        let disk = Breaking {
            left: Arc::new(AtomicUsize::new(changes)),
            told: Arc::clone(&told),
        };
        let (index, shelves) = read(&disk, path).await.unwrap();
        let plan = Holdings {
            index: &index,
            shelves: &shelves,
            written: (index.current().unwrap(), "m.000003"),
            needs: &[],
        };
        let Plan { removals, .. } = plan.plan(&Strategy::Inactive).unwrap();
        let mut removed = Removed::default();
        let ended = carry_out(&disk, path, &removals, || Ok(()), &mut removed).await;
        let files: Vec<_> = world
            .left()
            .into_iter()
            .filter(|it| it.contains("m."))
            .collect();
        let all: Vec<_> = ALL.into_iter().filter(|it| it.contains("m.")).collect();
        assert!(all.ends_with(&files), "{files:?}");
        assert_eq!(removed.files as usize, all.len() - files.len());
        ends.insert(world.left());
        if ended.is_ok() {
            let root = path.file_name().unwrap().to_string_lossy();
            let told = told.lock().unwrap();
            // What is gone of a directory is durable before anything of the next one goes.
            let expected = format!(
                "remove m.000008,remove m.000009,sync {OLD},remove relay.meta,remove {OLD},\
                 sync {root},remove m.000001,remove m.000002,sync {NEW}"
            );
            assert_eq!(told.join(","), expected);
            break;
        }
        assert!(ended.unwrap_err().is(&code::RELAY_REMOVE_FILE_FAIL));
        assert_eq!(world.purge(Strategy::Inactive).await, None);
        assert_eq!(world.left(), ALL[6..]);
    }
    assert_eq!(ends.len(), 7, "{ends:?}");
}

#[test]
fn a_purge_ends_when_a_task_comes() {
    let world = World::relaying();
    let began = SourceView {
        subtasks: vec![subtask("a", Stage::Paused), subtask("b", Stage::Stopped)],
        ..source("one")
    };
    for (tasks, may_go_on) in [
        (vec![], true),
        (vec![subtask("a", Stage::Running)], true),
        (vec![subtask("c", Stage::Stopped)], true),
        (vec![subtask("b", Stage::New)], false),
        (
            vec![subtask("a", Stage::Paused), subtask("c", Stage::New)],
            false,
        ),
    ] {
        world.change(|view| view.sources[0].subtasks = tasks);
        assert_eq!(world.purger.still("one", &began).is_ok(), may_go_on);
    }
    world.change(|view| view.sources.clear());
    assert!(world.purger.still("one", &began).is_ok());
}

#[tokio::test]
async fn what_is_none_of_ours_keeps_its_directory() {
    let world = World::relaying();
    let strange = world.dir.path().join(OLD).join("lost+found");
    fs::create_dir(&strange).unwrap();
    assert_eq!(world.purge(Strategy::Inactive).await, Some(30041));
    assert_eq!(world.left(), [&ALL[..1], &ALL[4..]].concat());
    fs::remove_dir(&strange).unwrap();
    assert_eq!(world.purge(Strategy::Inactive).await, None);
    assert_eq!(world.left(), ALL[6..]);
}
