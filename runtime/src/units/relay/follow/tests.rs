use std::fs;

use dm_core::{binlog::Gtid, error::Code, sync::progress::Location};
use tempfile::TempDir;

use super::*;
use crate::{
    disk::LocalDisk,
    units::{
        Facts,
        relay::{
            RelayEnd,
            dir::{Owner, RelayDir},
            samples::recorded,
        },
    },
};

const LOGS: [(&str, Flavor); 3] = [
    ("mysql", Flavor::Mysql),
    ("mariadb", Flavor::Mariadb),
    // The source moved to another server, which had everything.
    ("switch", Flavor::Mysql),
];

/// The log in a directory, as it is when the relay has begun to work.
async fn log(dir: &TempDir, flavor: Flavor) -> RelayLog<LocalDisk> {
    let opened = RelayDir::open(LocalDisk, dir.path(), Owner::new("one", "a test")).await;
    let opened = opened.unwrap();
    let writer = opened.recover(flavor, true).await.unwrap();
    let file = writer.file().unwrap_or_default();
    let facts = Facts::new(&Arc::default(), "w").relay("s");
    facts.stands(
        opened
            .end(file, writer.boundary(), writer.location())
            .unwrap(),
    );
    RelayLog::new(LocalDisk, dir.path().to_str().unwrap(), flavor, &facts)
}

/// A transaction that was read, and where the next one begins.
#[derive(Clone, Debug, PartialEq)]
struct Txn {
    gtid: Gtid,
    start: Position,
    next: Position,
}

/// What comes next; nothing where that has to be waited for.
async fn next(follower: &mut Follower<LocalDisk>) -> Result<Option<Found>> {
    let Opened { sub_dir, name, .. } = &follower.at;
    let written = follower.state.borrow().written(sub_dir, name);
    if follower.turned && written == Some(follower.at.pos) {
        return Ok(None);
    }
    follower.next().await.map(Some)
}

/// Reads until nothing more comes.
async fn read(log: &RelayLog<LocalDisk>, from: Start) -> Result<Vec<Txn>> {
    let mut follower = log.open(&from).await?;
    let mut file = Position::default();
    let mut txns: Vec<Txn> = Vec::new();
    while let Some(found) = next(&mut follower).await? {
        let (piece, from) = match found {
            Found::File(position) => {
                file = position;
                continue;
            }
            Found::Events(piece, from) => (piece, from),
        };
        for record in piece.from(from) {
            if !follower.takes(&record.event)? {
                continue;
            }
            let end = Position::new(&file.file, record.header.log_pos);
            match &record.event {
                Event::Gtid { gtid, .. } | Event::MariadbGtid { gtid, .. } => {
                    let start = end.pos - u64::from(record.header.event_size);
                    txns.push(Txn {
                        gtid: gtid.clone(),
                        start: Position::new(&file.file, start),
                        next: end,
                    });
                }
                Event::Rotate { .. } | Event::PreviousGtids(_) | Event::FormatDescription(_) => {}
                _ => {
                    if let Some(last) = txns.last_mut() {
                        last.next = end;
                    }
                }
            }
        }
    }
    Ok(txns)
}

/// The transactions before the oldest file.
async fn oldest(log: &RelayLog<LocalDisk>) -> GtidSet {
    let index = log.read_index().await.unwrap();
    let sub_dir = index.iter().next().unwrap();
    let first = &log.files(sub_dir).await.unwrap()[0];
    let path = log.path.join(sub_dir.to_string()).join(first);
    log.before(&path).await.unwrap().unwrap()
}

async fn all(log: &RelayLog<LocalDisk>, name: &str) -> Vec<Txn> {
    let from = Start::Gtids(oldest(log).await);
    let txns = read(log, from).await.unwrap();
    assert!(!txns.is_empty(), "{name}");
    txns
}

#[tokio::test]
async fn what_is_behind_a_position_is_read() {
    for (name, flavor) in LOGS {
        let dir = recorded(name);
        let log = log(&dir, flavor).await;
        let all = all(&log, name).await;
        let newest = all.last().and_then(|txn| txn.start.relay());
        for (index, txn) in all.iter().enumerate() {
            if txn.start.relay() != newest {
                continue;
            }
            let found = read(&log, Start::Position(txn.start.clone())).await;
            assert_eq!(found.unwrap(), all[index..], "{name} {txn:?}");
            let found = read(&log, Start::Position(txn.next.clone())).await;
            assert_eq!(found.unwrap(), all[index + 1..], "{name} {txn:?}");
        }
    }
}

#[tokio::test]
async fn by_gtid_everything_is_read_that_is_not_known_and_nothing_twice() {
    for (name, flavor) in LOGS {
        let dir = recorded(name);
        let log = log(&dir, flavor).await;
        let mut order: Vec<Gtid> = Vec::new();
        for txn in all(&log, name).await {
            if !order.contains(&txn.gtid) {
                order.push(txn.gtid);
            }
        }
        let mut have = oldest(&log).await;
        for known in 0..=order.len() {
            let found = read(&log, Start::Gtids(have.clone())).await.unwrap();
            let found: Vec<_> = found.into_iter().map(|txn| txn.gtid).collect();
            assert_eq!(found, order[known..], "{name} {known}");
            if let Some(gtid) = order.get(known) {
                have.add(gtid);
            }
        }
        if !oldest(&log).await.is_empty() {
            let missing = log.open(&Start::Gtids(GtidSet::empty(flavor))).await;
            assert!(is(missing, &code::NO_RELAY_POS_MATCH_GTID), "{name}");
        }
    }
}

fn is<T>(outcome: Result<T>, code: &Code) -> bool {
    outcome.is_err_and(|error| {
        assert!(error.is(code), "{error}");
        true
    })
}

#[tokio::test]
async fn what_is_not_there_is_said() {
    let dir = recorded("mysql");
    let log = log(&dir, Flavor::Mysql).await;
    let open = async |name: &str, pos| {
        let from = Start::Position(Position::new(name, pos));
        log.open(&from).await
    };
    assert!(open("binlog.000004", 4).await.is_ok());
    assert!(open("binlog|000001.000005", 198).await.is_ok());
    for (name, pos, code) in [
        ("binlog|000002.000004", 4, &code::BINLOG_EXTRACT_POSITION),
        ("binlog.000003", 4, &code::GET_RELAY_LOG_STAT),
        ("other.000004", 4, &code::GET_RELAY_LOG_STAT),
        ("binlog.000004", 60, &code::PARSER_PARSE_RELAY_LOG),
    ] {
        assert!(is(open(name, pos).await, code), "{name} {pos}");
    }
    // No event begins there.
    let from = Start::Position(Position::new("binlog.000004", 500));
    assert!(is(read(&log, from).await, &code::PARSER_PARSE_RELAY_LOG));
}

/// Whatever a byte of a complete file becomes: what is read is what was written, up to an error.
#[tokio::test]
async fn damage_is_never_read() {
    let dir = recorded("mysql");
    let log = log(&dir, Flavor::Mysql).await;
    let all = all(&log, "mysql").await;
    let path = dir
        .path()
        .join("0a0431f2-e6eb-11f1-beb0-02fc00000001.000001/binlog.000004");
    let good = fs::read(&path).unwrap();
    for at in (0..good.len()).step_by(97) {
        let mut bad = good.clone();
        bad[at] ^= 0x10;
        fs::write(&path, bad).unwrap();
        let from = Start::Position(Position::new("binlog.000004", 4));
        let found = read(&log, from).await;
        // The flag of an open file is no part of the checksum.
        assert!(found.is_err() || at == 21, "{at}");
        // Also where it is cut.
        fs::write(&path, &good[..at]).unwrap();
        let from = Start::Position(Position::new("binlog.000004", 4));
        if let Ok(found) = read(&log, from).await {
            // Between two events, as a source that crashes leaves it.
            assert!(found.iter().all(|txn| all.contains(txn)), "{at}");
        }
    }
}

/// The source moves to another server, which has what the one before had: by position nobody can
/// tell what that is.
#[tokio::test]
async fn by_position_nothing_is_read_of_another_server() {
    let dir = recorded("switch");
    let log = log(&dir, Flavor::Mysql).await;
    let first = Start::Position(Position::new("binlog.000001", 4).in_relay(1));
    assert!(is(read(&log, first).await, &code::NO_RELAY_POS_MATCH_GTID));
}

/// The existing worker may leave a part of a transaction behind when the source moves; the rest is
/// on the other server, with the whole of it.
#[tokio::test]
async fn what_a_server_left_unfinished_is_read_from_the_next() {
    let dir = recorded("switch");
    let log = log(&dir, Flavor::Mysql).await;
    let whole = all(&log, "switch").await;
    let path = dir
        .path()
        .join("7105f637-e6f4-11f1-a0c3-02fc00000001.000001/binlog.000002");
    let file = fs::read(&path).unwrap();
    for len in 157..file.len() {
        fs::write(&path, &file[..len]).unwrap();
        let found = all(&log, "switch").await;
        let gtids = |txns: &[Txn]| txns.iter().map(|txn| txn.gtid.clone()).collect::<Vec<_>>();
        assert_eq!(gtids(&found), gtids(&whole), "{len}");
    }
}

/// A file that is missing between others is no end.
#[tokio::test]
async fn a_hole_is_an_error() {
    let dir = recorded("mysql");
    let path = dir
        .path()
        .join("0a0431f2-e6eb-11f1-beb0-02fc00000001.000001");
    let log = log(&dir, Flavor::Mysql).await;
    fs::rename(path.join("binlog.000005"), path.join("binlog.000006")).unwrap();
    let end = RelayEnd {
        file: "binlog.000006".to_owned(),
        ..log.facts.end().unwrap()
    };
    log.facts.wrote(end);
    let from = Start::Position(Position::new("binlog.000004", 4));
    assert!(is(read(&log, from).await, &code::GET_RELAY_LOG_STAT));
}

/// Readers see what the relay says is there, however much there is, and go on when it goes on.
#[tokio::test]
async fn the_end_is_where_the_relay_says() {
    let dir = recorded("switch");
    let log = log(&dir, Flavor::Mysql).await;
    let end = log.facts.end().unwrap();
    let newest = Start::Position(Position::new("binlog.000001", 4).in_relay(2));
    let newest = read(&log, newest).await.unwrap();
    let starts: Vec<u64> = newest.iter().map(|txn| txn.start.pos).collect();
    let from = Position::new("binlog.000001", starts[0]).in_relay(2);
    let mut follower = log.open(&Start::Position(from)).await.unwrap();
    let mut other = log
        .open(&Start::Position(
            Position::new("binlog.000001", starts[3]).in_relay(2),
        ))
        .await
        .unwrap();
    for window in starts.windows(2) {
        log.facts.wrote(RelayEnd {
            len: window[1],
            ..end.clone()
        });
        let mut seen = 0;
        while let Some(found) = next(&mut follower).await.unwrap() {
            if let Found::Events(piece, from) = found {
                assert_eq!(piece.end(), window[1]);
                let count = |record: &&crate::units::relay::pieces::Record| {
                    matches!(record.event, Event::Gtid { .. })
                };
                seen += piece.from(from).iter().filter(count).count();
            }
        }
        assert_eq!(seen, 1, "{window:?}");
        // Whoever is close gets the same piece.
        if window[0] > starts[3] {
            while next(&mut other).await.unwrap().is_some() {}
            let kept = log.facts.pieces().lock().await;
            let end = &end;
            let piece = kept.find(&end.sub_dir, &end.file, window[0]).unwrap();
            assert!(Arc::strong_count(&piece) >= 2);
        }
    }
}

/// A reader waits for a relay that is paused, and leaves one that failed and does not come back.
#[tokio::test]
async fn a_relay_that_fails_is_given_up() {
    let dir = recorded("mariadb");
    let log = log(&dir, Flavor::Mariadb).await;
    let end = log.facts.end().unwrap();
    let at = Location {
        position: end.location.position.in_relay(1),
        gtids: end.location.gtids.clone(),
    };
    let from = Start::Position(at.position.clone());
    assert!(log.serves(&at, &from).await);
    let mut follower = log.open(&from).await.unwrap();
    assert!(matches!(follower.next().await, Ok(Found::File(_))));
    assert!(next(&mut follower).await.unwrap().is_none());

    let error = Error::new(&code::RELAY_WRITER_FILE_OPERATE, "no space is left");
    log.facts.failed(&error);
    assert!(!log.serves(&at, &from).await);
    // It was tried again, and failed again: that counts from the first time.
    let first = log.facts.watch().borrow().failed.clone().unwrap();
    log.facts.failed(&error);
    assert_eq!(log.facts.watch().borrow().failed.clone().unwrap(), first);
    let soon = timeout(Duration::from_millis(50), follower.next()).await;
    assert!(soon.is_err());
    let state = State {
        end: Some(end.clone()),
        failed: Some((first.0 - PATIENCE, error)),
        ..State::default()
    };
    log.facts.set(state);
    let text = follower.next().await.unwrap_err().to_string();
    assert!(
        text.contains("stopped") && text.contains("no space"),
        "{text}"
    );

    log.facts.wrote(end);
    assert!(log.serves(&at, &from).await);
}

/// A relay that begins anew sets a file aside that it can't go on in, and writes it again: whoever
/// has the former one open would find nothing in it, and go on in the file behind.
#[tokio::test]
async fn a_file_that_was_replaced_is_read_on() {
    let dir = recorded("mysql");
    let name = "0a0431f2-e6eb-11f1-beb0-02fc00000001.000001/binlog.000004";
    let path = dir.path().join(name);
    let whole = fs::read(&path).unwrap();
    // The magic and the format description.
    let begin = 4 + u32::from_le_bytes(whole[13..17].try_into().unwrap()) as usize;
    fs::write(&path, &whole[..begin]).unwrap();
    let log = log(&dir, Flavor::Mysql).await;
    let from = Start::Position(Position::new("binlog.000004", 4));
    let mut follower = log.open(&from).await.unwrap();
    let read = async |follower: &mut Follower<LocalDisk>| match follower.next().await.unwrap() {
        Found::File(position) => position.to_string(),
        Found::Events(_, from) => from.to_string(),
    };
    assert!(read(&mut follower).await.contains("000004"));
    assert_eq!(read(&mut follower).await, "4");
    fs::rename(&path, path.with_extension("damaged")).unwrap();
    fs::write(&path, &whole).unwrap();
    assert_eq!(read(&mut follower).await, begin.to_string());
}
