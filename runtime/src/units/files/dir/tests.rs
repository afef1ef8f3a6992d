use std::fs;

use tempfile::TempDir;

use super::*;
use crate::disk::LocalDisk;

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
    assert!(!dumps.remove(FLAVOR, &owner("one")).await.unwrap());
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
