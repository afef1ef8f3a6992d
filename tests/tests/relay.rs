//! The relay log of real servers: the same files, whatever happens while they are copied.

use std::{fs, path::Path, sync::Arc, time::Duration};

use dm_core::{
    binlog::{FileName, Flavor},
    control::SourceConfig,
    relay::{MAGIC, META_FILE, Meta, Scan},
};
use dm_runtime::{
    mysql::source::Upstream,
    ports::{Source, SourceEnd},
    units::Stop,
};
use dm_tests::{
    Result, job, process,
    relay::{self, Relay, Task, binlogs, compare, sub_dir},
    servers::{Brand, Database, Options, Role},
    sql::Client,
    workload::{Background, Workload},
};
use tokio::time::sleep;

/// Each of its files has nothing but whole transactions, and goes on where the one before ended.
fn verify(relay: &Path, flavor: Flavor) -> Result<()> {
    let mut next: Option<String> = None;
    for (name, path) in binlogs(relay)? {
        if next.is_some_and(|next| next != name) {
            return Err(format!("a file is missing before {name}").into());
        }
        let mut scan = Scan::new(flavor);
        let rest = scan.read(&fs::read(path)?.into())?;
        if !rest.is_empty() || scan.boundary() != scan.end() {
            return Err(format!("{name} ends within a transaction").into());
        }
        next = scan.next().map(ToOwned::to_owned);
    }
    Ok(())
}

/// So many times a source may write more while it is relayed to its end.
const ENDS_MAX: usize = 20;
/// A source that writes nothing for so long writes nothing more.
const SILENCE: Duration = Duration::from_millis(500);

const PAIRS: [(Brand, Flavor, bool); 4] = [
    (Brand::Mysql, Flavor::Mysql, false),
    (Brand::Mysql, Flavor::Mysql, true),
    (Brand::Mariadb, Flavor::Mariadb, false),
    (Brand::Mariadb, Flavor::Mariadb, true),
];

/// Relays until the source writes nothing more, and returns where that is: MariaDB tells in its
/// binlog what it has cleared up when it likes, also if nobody writes.
async fn to_end(config: &Arc<SourceConfig>, upstream: &Upstream) -> Result<SourceEnd> {
    for _ in 0..ENDS_MAX {
        let mut relay = Relay::start(config);
        let end = upstream.end().await?;
        relay.reach(&end).await?;
        relay.stop(Stop::AtBoundary).await?;
        sleep(SILENCE).await;
        if upstream.end().await? == end {
            return Ok(end);
        }
    }
    Err("the source does not come to an end".into())
}

/// Stopped at boundaries and killed, with connections that break and files that come to their end:
/// what is there is what the source has.
#[tokio::test(flavor = "multi_thread")]
async fn files_are_those_of_the_source() -> Result<()> {
    for (brand, flavor, by_gtid) in PAIRS {
        let server = Database::start(brand, Role::Source, &Options::default())?;
        if !server.is_ours() {
            return Ok(());
        }
        let dir = process::scratch("relay")?;
        let mut admin = Client::connect(&server).await?;
        // The first file is not the source's first.
        admin.run("FLUSH BINARY LOGS").await?;
        // Where it ends, as nothing says where to begin.
        let config = Task {
            source: server.address().clone(),
            dir: dir.clone(),
            start: job::Start::default(),
            by_gtid,
            to_end: false,
        }
        .config();
        let upstream = Upstream::new(&config, "observer");
        Workload::create(&server, "r").await?;
        let load = Background::start(&server, "r", 5, 2, true).await?;
        for round in 0..12 {
            let mut relay = Relay::start(&config);
            sleep(Duration::from_millis(150)).await;
            if round % 3 == 0 {
                admin.run("FLUSH BINARY LOGS").await?;
            }
            match round % 4 {
                0 => relay.reach(&upstream.end().await?).await?,
                1 => {
                    // The connection breaks; it goes on by itself.
                    let list = match brand {
                        Brand::Mysql => {
                            "SELECT processlist_id FROM performance_schema.threads \
                             WHERE processlist_command LIKE 'Binlog Dump%'"
                        }
                        Brand::Mariadb => {
                            "SELECT id FROM information_schema.processlist \
                             WHERE command LIKE 'Binlog Dump%'"
                        }
                    };
                    for id in admin.rows(list).await?.into_iter().flatten().flatten() {
                        admin.run(&format!("KILL {id}")).await?;
                    }
                    sleep(Duration::from_millis(100)).await;
                    relay.reach(&upstream.end().await?).await?;
                }
                _ => {}
            }
            let how = if round % 2 == 0 {
                Stop::Now
            } else {
                Stop::AtBoundary
            };
            relay.stop(how).await?;
            compare(&sub_dir(&dir)?, &server.data_dir()?, by_gtid)?;
        }
        load.stop().await?;
        let end = to_end(&config, &upstream).await?;
        let sub_dir = sub_dir(&dir)?;
        verify(&sub_dir, flavor)?;
        let whole = compare(&sub_dir, &server.data_dir()?, by_gtid)?;
        assert_eq!(whole, binlogs(&sub_dir)?.len(), "{brand:?} {by_gtid}");
        assert!(whole > 3, "{whole}");
        // Also in the eyes of the command, which counts transactions.
        relay::verify(&dir)?;
        let meta = Meta::parse(&fs::read(sub_dir.join(META_FILE))?)?;
        assert_eq!(meta.position, end.position);
        if by_gtid {
            assert_eq!(meta.gtids, Some(end.gtids));
        }
    }
    Ok(())
}

/// Dashboards and alerts of the existing worker go by these.
#[tokio::test(flavor = "multi_thread")]
async fn what_is_relayed_is_counted() -> Result<()> {
    let server = Database::start(Brand::Mysql, Role::Source, &Options::default())?;
    let dir = process::scratch("relay")?;
    let config = Task {
        source: server.address().clone(),
        dir: dir.clone(),
        start: job::Start::now(&server).await?,
        by_gtid: true,
        to_end: false,
    }
    .config();
    let mut relay = Relay::start(&config);
    Workload::create(&server, "m").await?;
    let mut admin = Client::connect(&server).await?;
    admin
        .run("FLUSH BINARY LOGS; CREATE TABLE m.one (id INT PRIMARY KEY)")
        .await?;
    let end = Upstream::new(&config, "observer").end().await?;
    relay.reach(&end).await?;
    let sub_dir = sub_dir(&dir)?;
    let mut bytes = 0;
    for path in binlogs(&sub_dir)?.into_values() {
        bytes += fs::metadata(path)?.len() - MAGIC.len() as u64;
    }
    let count = |name: &str| relay.metric(&format!("dm_relay_{name} "));
    assert_eq!(count("write_size_sum"), Some(bytes as f64));
    let events = count("write_size_count").unwrap_or_default();
    assert!(events > 10.0, "{events}");
    assert_eq!(count("write_duration_count"), Some(events));
    // Some events tell something and are not of the file.
    assert!(count("read_binlog_duration_count") > Some(events));
    assert_eq!(count("read_error_count"), Some(0.0));
    let place = |name| {
        relay.metric(&format!(
            "dm_relay_{name}{{node=\"relay\",source_id=\"source-1\"}} "
        ))
    };
    let FileName { sequence, .. } = FileName::parse(&end.position.file)?;
    assert_eq!(place("binlog_file"), Some(sequence as f64));
    assert_eq!(place("binlog_pos"), Some(end.position.pos as f64));
    relay.stop(Stop::Now).await
}
