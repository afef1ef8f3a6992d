//! The relay log of real servers: the same files, whatever happens while they are copied.

use std::{
    collections::BTreeMap,
    fs,
    path::{Path, PathBuf},
    process::Command,
    sync::Arc,
    time::{Duration, Instant},
};

use dm_core::{
    binlog::Flavor,
    control::{SourceConfig, db::DbConfig, record::Secret},
    lifecycle::{Era, Outcome, Start, Ticket},
    relay::{INDEX_FILE, META_FILE, Meta, Scan},
};
use dm_runtime::{
    metrics::Metrics,
    mysql::{connect::Connector, source::Upstream},
    ports::{Events, Source, SourceEnd},
    units::{Facts, Stop, Units, relay::RelayEnd},
};
use dm_tests::{
    Result, process,
    servers::{Brand, Database, Options, Role},
    sql::Client,
    worker,
    workload::{Background, Workload},
};
use tokio::{
    sync::{mpsc::unbounded_channel, watch},
    task::JoinHandle,
    time::{sleep, timeout},
};

const TICKET: Ticket = Ticket { era: Era(1), op: 7 };
const LIMIT: Duration = Duration::from_secs(60);

/// A relay unit at work.
struct Relay {
    stop: watch::Sender<Stop>,
    unit: JoinHandle<Outcome>,
    facts: Facts,
    dir: PathBuf,
}

impl Relay {
    fn start(config: &Arc<SourceConfig>) -> Self {
        let facts = Facts::new(&Arc::new(Metrics::default()), "worker-1");
        let connect = Connector {
            worker: "worker-1".into(),
            secret_key: None,
        };
        let units = Units::new(connect, false, facts.clone());
        let (stop, signal) = watch::channel(Stop::No);
        let events = Events::new(TICKET, unbounded_channel().0);
        let start = Start::Relay {
            source: Arc::clone(config),
        };
        Self {
            stop,
            unit: tokio::spawn(units.run(start, signal, events)),
            facts,
            dir: PathBuf::from(&config.relay_dir),
        }
    }

    async fn stop(self, how: Stop) -> Result<()> {
        self.stop.send(how)?;
        match self.unit.await? {
            Outcome::Ok(_) => Ok(()),
            other => Err(format!("the relay ended with {other:?}").into()),
        }
    }

    /// Waits until it has everything up to an end.
    async fn reach(&mut self, source: &str, end: &SourceEnd) -> Result<()> {
        let facts = self.facts.relay(source);
        let start = Instant::now();
        loop {
            let end_now = facts.end();
            if let Some(RelayEnd {
                sub_dir,
                file,
                len,
                location,
            }) = &end_now
                && !file.is_empty()
            {
                // What is told is there, and is one place.
                let there = fs::metadata(self.dir.join(sub_dir.to_string()).join(file))?;
                let at = &location.position;
                let is_one = (file, *len) == (&at.file, at.pos) || at.pos == 4 && at.file > *file;
                assert!(there.len() >= *len && is_one, "{end_now:?} {}", there.len());
            }
            let has = end_now.map(|end| end.location);
            if has.as_ref().is_some_and(|has| has.position >= end.position) {
                return Ok(());
            }
            if start.elapsed() > LIMIT || self.unit.is_finished() {
                let ended = timeout(Duration::from_millis(100), &mut self.unit).await;
                return Err(format!("at {has:?}, not at {}: {ended:?}", end.position).into());
            }
            sleep(Duration::from_millis(20)).await;
        }
    }
}

fn config(server: &Database, dir: &Path, by_gtid: bool) -> Arc<SourceConfig> {
    let address = server.address().clone();
    Arc::new(SourceConfig {
        source_id: "source-1".to_owned(),
        from: DbConfig {
            host: address.host,
            port: address.port,
            user: address.user,
            password: Secret(address.password),
            ..DbConfig::default()
        },
        relay_dir: dir.display().to_string(),
        enable_gtid: by_gtid,
        ..SourceConfig::standard()
    })
}

/// The binlog files in a directory.
fn binlogs(dir: &Path) -> Result<BTreeMap<String, Vec<u8>>> {
    let mut files = BTreeMap::new();
    for entry in fs::read_dir(dir)? {
        let name = entry?.file_name().to_string_lossy().into_owned();
        let digits = name.rsplit_once('.').map(|(_, digits)| digits);
        if digits.is_some_and(|digits| digits.bytes().all(|byte| byte.is_ascii_digit())) {
            files.insert(name.clone(), fs::read(dir.join(&name))?);
        }
    }
    Ok(files)
}

fn sub_dirs(dir: &Path) -> Result<Vec<PathBuf>> {
    let index = fs::read_to_string(dir.join(INDEX_FILE))?;
    Ok(index.lines().map(|line| dir.join(line)).collect())
}

/// Where the events behind the FORMAT_DESCRIPTION begin: of that one a dump sends another form.
fn body(file: &[u8]) -> usize {
    let size = file[13..17].try_into().map(u32::from_le_bytes);
    4 + size.unwrap_or_default() as usize
}

/// Whether relay files are beginnings of the source's, and how many are as long.
fn compare(relay: &Path, source: &Path) -> Result<usize> {
    let (relayed, there) = (binlogs(relay)?, binlogs(source)?);
    let mut whole = 0;
    for (name, ours) in &relayed {
        let theirs = there
            .get(name)
            .ok_or_else(|| format!("the source has no {name}"))?;
        let from = body(theirs);
        if from != body(ours) || !theirs[from..].starts_with(&ours[from..]) {
            return Err(format!("{name} differs").into());
        }
        whole += usize::from(ours.len() == theirs.len());
    }
    Ok(whole)
}

/// Each of its files has nothing but whole transactions, and goes on where the one before ended.
fn verify(relay: &Path, flavor: Flavor) -> Result<()> {
    let mut next: Option<String> = None;
    for (name, bytes) in binlogs(relay)? {
        if next.is_some_and(|next| next != name) {
            return Err(format!("a file is missing before {name}").into());
        }
        let mut scan = Scan::new(flavor);
        let rest = scan.read(&bytes.into())?;
        if !rest.is_empty() || scan.boundary() != scan.end() {
            return Err(format!("{name} ends within a transaction").into());
        }
        next = scan.next().map(ToOwned::to_owned);
    }
    Ok(())
}

const PAIRS: [(Brand, Flavor, bool); 4] = [
    (Brand::Mysql, Flavor::Mysql, false),
    (Brand::Mysql, Flavor::Mysql, true),
    (Brand::Mariadb, Flavor::Mariadb, false),
    (Brand::Mariadb, Flavor::Mariadb, true),
];

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
        let config = config(&server, &dir, by_gtid);
        let upstream = Upstream::new(&config, "observer");
        let mut admin = Client::connect(&server).await?;
        // The first file is not the source's first.
        admin.run("FLUSH BINARY LOGS").await?;
        Workload::create(&server, "r").await?;
        let load = Background::start(&server, "r", 5, 2, true).await?;
        for round in 0..12 {
            let mut relay = Relay::start(&config);
            sleep(Duration::from_millis(150)).await;
            if round % 3 == 0 {
                admin.run("FLUSH BINARY LOGS").await?;
            }
            match round % 4 {
                0 => relay.reach("source-1", &upstream.end().await?).await?,
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
                    relay.reach("source-1", &upstream.end().await?).await?;
                }
                _ => {}
            }
            let how = if round % 2 == 0 {
                Stop::Now
            } else {
                Stop::AtBoundary
            };
            relay.stop(how).await?;
            let [sub_dir] = &*sub_dirs(&dir)? else {
                return Err("more than one sub-directory".into());
            };
            compare(sub_dir, &server.data_dir()?)?;
        }
        load.stop().await?;
        let mut relay = Relay::start(&config);
        let end = upstream.end().await?;
        relay.reach("source-1", &end).await?;
        relay.stop(Stop::AtBoundary).await?;
        let sub_dir = sub_dirs(&dir)?.remove(0);
        verify(&sub_dir, flavor)?;
        let whole = compare(&sub_dir, &server.data_dir()?)?;
        assert_eq!(whole, binlogs(&sub_dir)?.len(), "{brand:?} {by_gtid}");
        assert!(whole > 3, "{whole}");
        // Also in the eyes of the command, which counts transactions.
        process::run(
            worker::binary()?,
            Command::new(worker::binary()?)
                .args(["relay", "verify"])
                .arg(&dir),
        )?;
        let meta = Meta::parse(&fs::read(sub_dir.join(META_FILE))?)?;
        assert_eq!(meta.position, end.position);
        if by_gtid {
            assert_eq!(meta.gtids, Some(end.gtids));
        }
    }
    Ok(())
}
