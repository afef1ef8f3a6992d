use std::fs;

use tempfile::TempDir;

use super::*;
use crate::{disk::LocalDisk, units::relay::samples::recorded};

const UUID: &str = "0a0431f2-e6eb-11f1-beb0-02fc00000001";
const SUB_DIR: &str = "0a0431f2-e6eb-11f1-beb0-02fc00000001.000001";

async fn open(dir: &TempDir) -> Result<RelayDir<LocalDisk>> {
    RelayDir::open(LocalDisk, dir.path(), Owner::new("one", "a test")).await
}

async fn recover(dir: &TempDir, flavor: Flavor) -> Writer {
    let dir = open(dir).await.unwrap();
    dir.recover(flavor, true).await.unwrap()
}

fn at(writer: &Writer) -> (Position, String) {
    let location = writer.location();
    let gtids = location.gtids.map(|gtids| gtids.to_string());
    (location.position, gtids.unwrap_or_default())
}

/// A worker gets another source: what it has of the one before is of no use to it, and must never
/// be taken for the other one's.
#[tokio::test]
async fn the_log_of_another_source_goes() {
    let dir = recorded("switch");
    drop(open(&dir).await.unwrap());
    fs::write(dir.path().join("notes.txt"), "of somebody else").unwrap();
    let kept = open(&dir).await.unwrap();
    assert_eq!(kept.current().map(SubDir::number), Some(2));
    drop(kept);
    let other = RelayDir::open(LocalDisk, dir.path(), Owner::new("two", "a test")).await;
    assert_eq!(other.unwrap().current(), None);
    let mut left: Vec<_> = fs::read_dir(dir.path())
        .unwrap()
        .map(|entry| entry.unwrap().file_name().into_string().unwrap())
        .collect();
    left.sort();
    let ours = [LOCK_FILE, SOURCE_FILE, "notes.txt", INDEX_FILE];
    assert_eq!(left, ours);
    // Where that broke off before it was done, it is done the next time, whoever comes.
    let dir = recorded("switch");
    drop(open(&dir).await.unwrap());
    let full = dir.path().join("full");
    fs::create_dir(&full).unwrap();
    let stuck = fs::read_dir(dir.path())
        .unwrap()
        .map(|entry| entry.unwrap().path());
    let stuck = stuck
        .into_iter()
        .find(|path| path.join(META_FILE).exists())
        .unwrap();
    fs::rename(&full, stuck.join("binlog.000099")).unwrap();
    let two = RelayDir::open(LocalDisk, dir.path(), Owner::new("two", "a test")).await;
    assert!(two.is_err(), "a directory is no file");
    fs::remove_dir(stuck.join("binlog.000099")).unwrap();
    assert_eq!(open(&dir).await.unwrap().current(), None);
    let names = fs::read_dir(dir.path()).unwrap();
    assert_eq!(names.count(), 3);
}

/// Alone, `relay-dir` is what somebody has written into a file, and may be a slip.
#[tokio::test]
async fn alone_the_log_of_another_source_stays() {
    let dir = recorded("switch");
    drop(open(&dir).await.unwrap());
    let alone = Owner {
        may_empty: false,
        ..Owner::new("two", "a test")
    };
    let error = RelayDir::open(LocalDisk, dir.path(), alone)
        .await
        .unwrap_err();
    assert!(
        error.message.contains("has the relay log of source one"),
        "{error}"
    );
    assert!(error.workaround.contains("`relay-dir`"), "{error}");
    let kept = open(&dir).await.unwrap();
    assert_eq!(kept.current().map(SubDir::number), Some(2));
}

/// Their meta files say less than the files do.
#[tokio::test]
async fn directories_of_the_existing_worker_go_on_where_they_end() {
    let writer = recover(&recorded("mysql"), Flavor::Mysql).await;
    let place = Position::new("binlog.000005", 502);
    assert_eq!(at(&writer), (place, format!("{UUID}:1-249")));
    let writer = recover(&recorded("mariadb"), Flavor::Mariadb).await;
    let place = Position::new("vm-bin.000002", 889);
    assert_eq!(at(&writer), (place, "0-3404-7".to_owned()));
}

/// Wherever the newest file ends, what is whole stays, and the rest goes.
#[tokio::test]
async fn a_torn_end_is_cut_off() {
    let dir = recorded("mysql");
    let path = dir.path().join(SUB_DIR).join("binlog.000005");
    let whole = fs::read(&path).unwrap();
    for len in 0..=whole.len() {
        for junk in [&[][..], &[0; 64], &[0xff; 64]] {
            let torn = [&whole[..len], junk].concat();
            fs::write(&path, torn).unwrap();
            let writer = recover(&dir, Flavor::Mysql).await;
            let (place, gtids) = at(&writer);
            let (pos, last) = match len {
                // Without its second event the file is nothing, and the one before names it.
                0..198 => (4, 248),
                198..502 => (198, 248),
                _ => (502, 249),
            };
            assert_eq!(place, Position::new("binlog.000005", pos), "{len}");
            assert_eq!(gtids, format!("{UUID}:1-{last}"), "{len}");
            if len < 198 {
                assert!(!path.exists());
            } else {
                assert_eq!(fs::read(&path).unwrap(), whole[..pos as usize], "{len}");
            }
        }
    }
}

/// The power was cut before the end of a file was on the disk, but the next one was.
#[tokio::test]
async fn a_file_that_lost_its_end_is_read_again() {
    let dir = recorded("mysql");
    let sub_dir = dir.path().join(SUB_DIR);
    let path = sub_dir.join("binlog.000004");
    let whole = fs::read(&path).unwrap();
    fs::write(&path, &whole[..whole.len() - 300]).unwrap();
    let writer = recover(&dir, Flavor::Mysql).await;
    let (place, gtids) = at(&writer);
    assert_eq!(place.file, "binlog.000004");
    assert!(
        place.pos > 18_000 && place.pos < whole.len() as u64,
        "{place}"
    );
    assert_eq!(gtids, format!("{UUID}:1-247"));
    assert!(!sub_dir.join("binlog.000005").exists());
}

/// What can't be read is kept for whoever wants to look at it.
#[tokio::test]
async fn a_file_that_is_damaged_at_its_beginning_is_set_aside() {
    let dir = recorded("mysql");
    let damage = |name: &str| {
        let path = dir.path().join(SUB_DIR).join(name);
        let mut bytes = fs::read(&path).unwrap();
        bytes[60] ^= 1;
        fs::write(&path, &bytes).unwrap();
        (
            dir.path().join(SUB_DIR).join(format!("{name}{DAMAGED}")),
            bytes,
        )
    };
    let (aside, bytes) = damage("binlog.000005");
    let writer = recover(&dir, Flavor::Mysql).await;
    let place = Position::new("binlog.000005", 4);
    assert_eq!(at(&writer), (place, format!("{UUID}:1-248")));
    assert_eq!(fs::read(&aside).unwrap(), bytes);

    // More than one was not lost in a crash.
    fs::rename(aside, dir.path().join(SUB_DIR).join("binlog.000005")).unwrap();
    damage("binlog.000004");
    let relay = open(&dir).await.unwrap();
    let error = relay.recover(Flavor::Mysql, true).await.unwrap_err();
    assert!(error.is(&code::PARSER_PARSE_RELAY_LOG), "{error}");
}

/// A source's files may have another name from some day on, which may come first in the alphabet.
#[tokio::test]
async fn the_newest_file_is_of_the_name_that_was_written_last() {
    let dir = recorded("mysql");
    let sub_dir = dir.path().join(SUB_DIR);
    fs::rename(sub_dir.join("binlog.000005"), sub_dir.join("a-log.000001")).unwrap();
    let meta = "binlog-name = \"a-log.000001\"\nbinlog-pos = 4\nbinlog-gtid = \"\"\n";
    fs::write(sub_dir.join(META_FILE), meta).unwrap();
    let writer = recover(&dir, Flavor::Mysql).await;
    let place = Position::new("a-log.000001", 502);
    assert_eq!(at(&writer), (place, format!("{UUID}:1-249")));
}

#[tokio::test]
async fn leftovers_go_and_everything_else_stays() {
    let dir = recorded("mysql");
    let sub_dir = dir.path().join(SUB_DIR);
    let gone = [
        dir.path().join("server-uuid.index1234"),
        dir.path().join("server-uuid.index.tmp"),
        sub_dir.join("relay.meta848724126"),
        sub_dir.join("relay.meta.tmp"),
    ];
    let kept = [sub_dir.join("relay.meta.bak"), sub_dir.join("binlog.x01")];
    for path in gone.iter().chain(&kept) {
        fs::write(path, "x").unwrap();
    }
    recover(&dir, Flavor::Mysql).await;
    assert!(gone.iter().all(|path| !path.exists()));
    assert!(kept.iter().all(|path| path.exists()));
}

#[tokio::test]
async fn a_directory_has_one_owner() {
    let dir = recorded("mysql");
    let first = open(&dir).await.unwrap();
    let error = open(&dir).await.unwrap_err();
    assert!(error.message.contains("is in use by a test"), "{error}");
    drop(first);
    open(&dir).await.unwrap();
}

#[tokio::test]
async fn a_sub_directory_begins_behind_the_others() {
    let dir = recorded("mysql");
    let mut relay = open(&dir).await.unwrap();
    let meta = Meta {
        position: Position::new("other.000003", 4),
        gtids: None,
    };
    // Left behind by somebody who did not get as far as the index.
    let next = dir.path().join("other.000002");
    fs::create_dir(&next).unwrap();
    relay.begin("other", None, &meta).await.unwrap();
    let index = fs::read_to_string(dir.path().join(INDEX_FILE)).unwrap();
    assert_eq!(index, format!("{SUB_DIR}\nother.000002\n"));
    let text = fs::read_to_string(next.join(META_FILE)).unwrap();
    assert_eq!(text, meta.text());
    let writer = relay.recover(Flavor::Mysql, false).await.unwrap();
    assert_eq!(writer.location().position, meta.position);
    drop(relay);

    // What has files was somebody's.
    fs::create_dir(dir.path().join("third.000003")).unwrap();
    fs::write(dir.path().join("third.000003/b.000001"), MAGIC).unwrap();
    let mut relay = open(&dir).await.unwrap();
    let error = relay.begin("third", None, &meta).await.unwrap_err();
    assert!(error.is(&code::RELAY_MKDIR), "{error}");
}

/// The oldest ones may be removed by hand; the newest one begins anew.
#[tokio::test]
async fn directories_that_are_gone_are_forgotten() {
    let dir = recorded("mysql");
    fs::write(
        dir.path().join(INDEX_FILE),
        format!("a.000001\nb.000002\n{}\n", SUB_DIR),
    )
    .unwrap();
    assert!(open(&dir).await.is_err());
    let gone = format!("{UUID}.000002");
    fs::write(dir.path().join(INDEX_FILE), format!("{SUB_DIR}\n{gone}\n")).unwrap();
    let relay = open(&dir).await.unwrap();
    assert_eq!(relay.current().map(ToString::to_string), Some(gone));
    let writer = relay.recover(Flavor::Mysql, false).await.unwrap();
    assert_eq!(writer.location().position, Position::new("", 4));
}

#[tokio::test]
async fn a_full_disk_leaves_the_old_file() {
    let dir = recorded("mysql");
    let relay = open(&dir).await.unwrap();
    let path = relay.path_of("");
    let before = fs::read_to_string(path.join(META_FILE)).unwrap();
    // Nothing can be written under a name that is a directory's.
    fs::create_dir(path.join(format!("{META_FILE}{TEMP}"))).unwrap();
    let error = relay.write_meta(&Meta::default()).await.unwrap_err();
    assert!(error.is(&code::RELAY_FLUSH_LOCAL_META), "{error}");
    assert_eq!(fs::read_to_string(path.join(META_FILE)).unwrap(), before);
}

/// Damage anywhere in the newest file, or an end that was lost and has something else in its place:
/// what is left is a beginning of what was there, or nothing is touched.
#[tokio::test]
async fn nothing_is_left_that_was_not_there() {
    for (name, flavor, sub_dir, newest) in [
        ("mysql", Flavor::Mysql, SUB_DIR, "binlog.000004"),
        ("mysql", Flavor::Mysql, SUB_DIR, "binlog.000005"),
        ("mariadb", Flavor::Mariadb, "0-3404.000001", "vm-bin.000002"),
    ] {
        let dir = recorded(name);
        let sub_dir = dir.path().join(sub_dir);
        if newest == "binlog.000004" {
            fs::remove_file(sub_dir.join("binlog.000005")).unwrap();
        }
        let path = sub_dir.join(newest);
        let whole = fs::read(&path).unwrap();
        // A prime, so that all parts of events are met.
        for at in (0..whole.len()).step_by(if whole.len() > 1000 { 67 } else { 7 }) {
            let mut flipped = whole.clone();
            flipped[at] ^= 1 << (at % 8);
            let torn = [&whole[..at], &[0; 4096]].concat();
            for bytes in [flipped, torn] {
                fs::write(&path, &bytes).unwrap();
                let recovered = open(&dir).await.unwrap().recover(flavor, true).await;
                let writer = recovered.unwrap();
                let aside = sub_dir.join(format!("{newest}{DAMAGED}"));
                if writer.file() == Some(newest) {
                    let left = fs::read(&path).unwrap();
                    assert!(
                        left.len() <= at && whole.starts_with(&left),
                        "{newest} {at}"
                    );
                    assert_eq!(left.len() as u64, writer.boundary());
                } else {
                    assert!(!path.exists(), "{newest} {at}");
                    if aside.exists() {
                        assert_eq!(fs::read(&aside).unwrap(), bytes);
                        fs::remove_file(aside).unwrap();
                    }
                }
            }
        }
    }
}
