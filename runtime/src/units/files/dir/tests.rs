use std::{
    fs,
    sync::{
        Arc, Mutex,
        atomic::{AtomicUsize, Ordering::Relaxed},
    },
};

use tempfile::TempDir;

use super::*;
use crate::{
    disk::{LocalDisk, LocalFile},
    ports::disk::{Space, Stat},
};

const FLAVOR: Flavor = Flavor::Mysql;
const DATA: &str = "d.t.0000000000000.sql";

fn dumps(dir: &TempDir) -> DumpDir<LocalDisk> {
    DumpDir {
        disk: LocalDisk,
        path: dir.path().join("dump"),
    }
}

fn owner(source: &str) -> Owner {
    ("task".to_owned(), source.to_owned())
}

async fn begin(dumps: &DumpDir<LocalDisk>, source: &str) -> Result<Dumping<impl File>> {
    let metadata = Metadata {
        times: ("2026-01-02 03:04:05".to_owned(), String::new()),
        owner: owner(source),
        ..Metadata::default()
    };
    dumps.begin(FLAVOR, metadata).await
}

/// A dump with one file.
async fn dump(dumps: &DumpDir<LocalDisk>, source: &str) {
    let dumping = begin(dumps, source).await.unwrap();
    fs::write(dumps.path.join(DATA), "of the first").unwrap();
    let metadata = dumping.metadata.clone();
    drop(dumping);
    // Whoever begins again may be killed before he has said who he is.
    let dumping = dumps.begin(FLAVOR, metadata).await.unwrap();
    assert!(!dumps.path.join(DATA).exists());
    fs::write(dumps.path.join(DATA), "rows").unwrap();
    let finished = "2026-01-02 03:04:06".to_owned();
    dumps.finish(dumping, finished).await.unwrap();
}

#[tokio::test]
async fn who_shares_a_directory_keeps_his_files() {
    let dir = TempDir::new().unwrap();
    let dumps = dumps(&dir);
    dump(&dumps, "one").await;
    let refused = begin(&dumps, "two").await.err().unwrap();
    assert!(refused.message.contains("source `one`"), "{refused}");
    assert!(!dumps.path.join(PARTIAL).exists());
    assert!(!dumps.remove(FLAVOR, &owner("two")).await.unwrap());
    assert!(dumps.path.join(DATA).exists());
    let complete = dumps.complete(FLAVOR, &owner("one")).await.unwrap();
    assert_eq!(complete.unwrap(), dumps.metadata(FLAVOR).await.unwrap());
    assert!(dumps.remove(FLAVOR, &owner("one")).await.unwrap());
    assert!(!dumps.path.exists());
    assert!(!dumps.remove(FLAVOR, &owner("one")).await.is_ok_and(|it| it));
}

#[tokio::test]
async fn a_dump_that_is_under_way_is_none() {
    let dir = TempDir::new().unwrap();
    let dumps = dumps(&dir);
    dump(&dumps, "one").await;
    let under_way = begin(&dumps, "one").await.unwrap();
    assert!(!dumps.path.join(METADATA_FILE).exists());
    let second = begin(&dumps, "one").await.err().unwrap();
    assert!(second.message.contains("another task"), "{second}");
    drop(under_way);
    assert_eq!(dumps.complete(FLAVOR, &owner("one")).await.unwrap(), None);
    let error = dumps.metadata(FLAVOR).await.unwrap_err();
    assert!(error.message.contains(PARTIAL), "{error}");
    // Not even where the former one still is there.
    fs::write(dumps.path.join(METADATA_FILE), "Started dump at: x\n").unwrap();
    assert!(dumps.metadata(FLAVOR).await.is_err());
    let under_way = begin(&dumps, "one").await.unwrap();
    assert!(!dumps.remove(FLAVOR, &owner("one")).await.unwrap());
    drop(under_way);
    assert!(dumps.remove(FLAVOR, &owner("one")).await.unwrap());
}

/// Killed as soon as the file was there, or amid its text: `metadata` still says whose they are.
#[tokio::test]
async fn a_half_beginning_is_begun_again() {
    for text in ["", "Started dump at: x\nDumped for: task, source o"] {
        let dir = TempDir::new().unwrap();
        let dumps = dumps(&dir);
        dump(&dumps, "one").await;
        fs::write(dumps.path.join(PARTIAL), text).unwrap();
        assert!(begin(&dumps, "two").await.is_err());
        drop(begin(&dumps, "one").await.unwrap());
        let owner = dumps.owner_in(PARTIAL, FLAVOR).await.unwrap();
        assert_eq!(owner, Some(self::owner("one")));
    }
}

#[tokio::test]
async fn what_is_no_part_of_a_dump_stays() {
    for name in ["d.t.0.sql.bak", "d.t-schema-triggers.sql", "d.t.1.sql.gz"] {
        let dir = TempDir::new().unwrap();
        let dumps = dumps(&dir);
        dump(&dumps, "one").await;
        fs::write(dumps.path.join(name), "mine").unwrap();
        let refused = begin(&dumps, "one").await.err().unwrap();
        assert!(refused.message.contains(name), "{refused}");
        assert!(dumps.path.join(DATA).exists());
        assert!(dumps.remove(FLAVOR, &owner("one")).await.unwrap());
        assert!(dumps.path.join(name).exists());
    }
}

#[tokio::test]
async fn definitions_tell_their_time_zone() {
    let dir = TempDir::new().unwrap();
    let dumps = DumpDir {
        disk: LocalDisk,
        path: dir.path().to_owned(),
    };
    let create = "CREATE TABLE `t` (`a` TIMESTAMP DEFAULT '2026-01-01 00:00:00')";
    for (before, zone) in [
        ("", None),
        (
            "/*!40101 SET NAMES binary*/;\nDROP TABLE IF EXISTS t;\n",
            None,
        ),
        ("/*!40103 SET TIME_ZONE='+02:00' */;\n", Some("+02:00")),
    ] {
        let text = format!("{before}{create};\n");
        fs::write(dir.path().join("d.t-schema.sql"), text).unwrap();
        let contents = dumps.contents().await.unwrap();
        let table = &contents.tables[&TableName::new("d", "t")];
        let found = dumps.definition(table.definition.as_ref().unwrap()).await;
        assert_eq!(found, Ok((create.to_owned(), zone.map(str::to_owned))));
    }
}

#[tokio::test]
async fn files_that_are_called_by_a_number_have_a_name() {
    let dir = TempDir::new().unwrap();
    let dumps = DumpDir {
        disk: LocalDisk,
        path: dir.path().to_owned(),
    };
    let write = |name: &str, text: &str| fs::write(dir.path().join(name), text).unwrap();
    write("mydumper_1-schema-create.sql", "CREATE DATABASE `d.e`;\n");
    write(
        "mydumper_1.t-schema.sql",
        "-- a word\nCREATE TABLE `t` (`a` INT);\n",
    );
    write(
        "d.mydumper_0-schema.sql",
        "SET NAMES binary;\nCREATE TABLE `a.b` (`a` INT);\n",
    );
    write(
        "d.mydumper_0.00000.00001.sql",
        "INSERT INTO `a.b` VALUES (2);\n",
    );
    write("d.mydumper_0.00000.sql", "INSERT INTO `a.b` VALUES (1);\n");
    let contents = dumps.contents().await.unwrap();
    let tables: Vec<_> = contents.tables.keys().map(TableName::to_string).collect();
    assert_eq!(tables, ["`d`.`a.b`", "`d.e`.`t`"]);
    let data = &contents.tables[&TableName::new("d", "a.b")].data;
    let names: Vec<_> = data.iter().map(|file| &*file.name).collect();
    assert_eq!(
        names,
        ["d.mydumper_0.00000.sql", "d.mydumper_0.00000.00001.sql"]
    );
    assert!(contents.schemas.contains_key("d.e"));
    // Whatever is named, rows of which nobody knows whose they are must not be left out.
    write("d.mydumper_7.00000.sql", "INSERT INTO `c` VALUES (1);\n");
    let error = dumps.contents().await.unwrap_err();
    assert!(error.message.contains("called by a number"), "{error}");
}

/// A disk that breaks after so many changes, and says what it was told.
#[derive(Clone)]
struct Breaking {
    left: Arc<AtomicUsize>,
    told: Arc<Mutex<Vec<String>>>,
}

/// An open file of it.
struct Told {
    disk: Breaking,
    path: PathBuf,
    file: LocalFile,
}

impl Breaking {
    fn new(left: usize) -> Self {
        Self {
            left: Arc::new(AtomicUsize::new(left)),
            told: Arc::default(),
        }
    }

    fn tell(&self, what: &str, path: &Path) -> io::Result<()> {
        let count = |left: usize| left.checked_sub(1);
        if self.left.fetch_update(Relaxed, Relaxed, count).is_err() {
            return Err(io::Error::other("killed"));
        }
        let name = path.file_name().unwrap().to_string_lossy();
        self.told.lock().unwrap().push(format!("{what} {name}"));
        Ok(())
    }
}

impl Disk for Breaking {
    type File = Told;

    async fn create_dir(&self, path: &Path) -> io::Result<()> {
        LocalDisk.create_dir(path).await
    }

    async fn list(&self, path: &Path) -> io::Result<Vec<(String, bool)>> {
        LocalDisk.list(path).await
    }

    async fn open(&self, path: &Path, how: Open) -> io::Result<Told> {
        if how != Open::Read {
            self.tell("open", path)?;
        }
        Ok(Told {
            disk: self.clone(),
            path: path.to_owned(),
            file: LocalDisk.open(path, how).await?,
        })
    }

    async fn rename(&self, from: &Path, to: &Path) -> io::Result<()> {
        self.tell("rename to", to)?;
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
        if path.file_name().is_some() {
            self.tell("sync", path)?;
        }
        LocalDisk.sync_dir(path).await
    }
}

impl File for Told {
    async fn append(&mut self, data: Bytes) -> io::Result<()> {
        self.file.append(data).await
    }

    async fn read_at(&self, at: u64, len: usize) -> io::Result<Bytes> {
        self.file.read_at(at, len).await
    }

    async fn set_len(&mut self, len: u64) -> io::Result<()> {
        self.disk.tell("cut", &self.path)?;
        self.file.set_len(len).await
    }

    async fn sync(&mut self) -> io::Result<()> {
        self.disk.tell("sync", &self.path)?;
        self.file.sync().await
    }

    async fn forget(&self) -> io::Result<()> {
        self.file.forget().await
    }

    async fn lock(&self) -> io::Result<bool> {
        self.file.lock().await
    }
}

/// A power cut leaves nothing of what was not synced: when `metadata` is there, everything is.
#[tokio::test]
async fn what_looks_complete_survives_a_power_cut() {
    let dir = TempDir::new().unwrap();
    let path = dir.path().join("dump");
    let disk = Breaking::new(usize::MAX);
    let dumps = DumpDir {
        disk: disk.clone(),
        path,
    };
    let metadata = Metadata {
        times: ("2026-01-02 03:04:05".to_owned(), String::new()),
        owner: owner("one"),
        ..Metadata::default()
    };
    let dumping = dumps.begin(FLAVOR, metadata).await.unwrap();
    let told = disk.told.lock().unwrap().split_off(0);
    let parent = dir.path().file_name().unwrap().to_string_lossy();
    let place = |what: &str| told.iter().position(|it| it == what);
    assert!(place(&format!("sync {parent}")).is_some(), "{told:?}");
    assert!(
        told.ends_with(&[format!("sync {PARTIAL}"), "sync dump".into()]),
        "{told:?}"
    );
    let finished = "2026-01-02 03:04:06".to_owned();
    dumps.finish(dumping, finished).await.unwrap();
    let told = disk.told.lock().unwrap();
    assert_eq!(
        *told,
        [
            "sync dump",
            "open metadata.new",
            "sync metadata.new",
            "rename to metadata",
            "sync dump",
            "remove metadata.partial",
            "sync dump",
        ]
    );
}

/// Wherever a removal ends, what is left does not look complete, and is whose it was.
#[tokio::test]
async fn a_removal_may_end_at_any_moment() {
    for changes in 0.. {
        let dir = TempDir::new().unwrap();
        let dumps = dumps(&dir);
        dump(&dumps, "one").await;
        let breaking = DumpDir {
            disk: Breaking::new(changes),
            path: dumps.path.clone(),
        };
        let ended = breaking.remove(FLAVOR, &owner("one")).await;
        if ended.is_ok() {
            assert!(changes > 5);
            return;
        }
        let is_whole = dumps.path.join(DATA).exists();
        let complete = dumps.complete(FLAVOR, &owner("one")).await.unwrap();
        assert!(is_whole || complete.is_none(), "{changes}");
        assert!(!dumps.remove(FLAVOR, &owner("two")).await.unwrap());
        let left = dumps.remove(FLAVOR, &owner("one")).await.unwrap();
        assert_eq!(dumps.path.exists(), !left, "{changes}");
        assert!(!dumps.path.join(DATA).exists(), "{changes}");
    }
}
