//! The relay unit: in this process, or in one of its own that can be killed and measured; and what
//! its files have to be compared with.

use std::{
    collections::BTreeMap,
    fs,
    path::{Path, PathBuf},
    process::Command,
    sync::Arc,
    time::{Duration, Instant},
};

use dm_core::{
    binlog::{Header, event_type as kind},
    control::{SourceConfig, db::DbConfig, record::Secret},
    lifecycle::{Era, Outcome, Start as Effect, Ticket},
    relay::INDEX_FILE,
};
use dm_runtime::{
    metrics::Metrics,
    mysql::connect::Connector,
    ports::{Events, SourceEnd},
    units::{Facts, Limits, Stop, Units, relay::RelayEnd},
};
use tokio::{
    sync::{mpsc::unbounded_channel, watch},
    task::JoinHandle,
    time::{sleep, timeout},
};

use crate::{Result, job::Start, process, servers::Address, worker};

const SOURCE: &str = "source-1";
const TICKET: Ticket = Ticket { era: Era(1), op: 7 };
/// How long it may take to get to an end.
const LIMIT: Duration = Duration::from_secs(600);
/// How often is looked whether it is there.
const LOOK_EVERY: Duration = Duration::from_millis(5);

/// A relay unit at work in this process.
#[derive(Debug)]
pub struct Relay {
    stop: watch::Sender<Stop>,
    unit: JoinHandle<Outcome>,
    metrics: Arc<Metrics>,
    facts: Facts,
    dir: PathBuf,
}

impl Relay {
    /// Starts it.
    #[must_use]
    pub fn start(config: &Arc<SourceConfig>) -> Self {
        let metrics = Arc::new(Metrics::default());
        let facts = Facts::new(&metrics, "worker-1");
        let connect = Connector {
            worker: "worker-1".into(),
            secret_key: None,
        };
        let units = Units::new(connect, false, facts.clone(), Limits::default());
        let (stop, signal) = watch::channel(Stop::No);
        let events = Events::new(TICKET, unbounded_channel().0);
        let start = Effect::Relay {
            source: Arc::clone(config),
            tasks: Vec::new(),
        };
        Self {
            stop,
            unit: tokio::spawn(units.run(start, (signal, watch::channel(false).1), events)),
            metrics,
            facts,
            dir: PathBuf::from(&config.relay_dir),
        }
    }

    /// What Prometheus is told of it: the value of a series.
    #[must_use]
    pub fn metric(&self, series: &str) -> Option<f64> {
        let text = self.metrics.render("worker-1", &[]);
        let line = text.lines().find_map(|line| line.strip_prefix(series));
        line.and_then(|value| value.trim().parse().ok())
    }

    /// Stops it.
    ///
    /// # Errors
    /// When it ended otherwise.
    pub async fn stop(self, how: Stop) -> Result<()> {
        self.stop.send(how)?;
        self.ended().await
    }

    /// Waits until it ends.
    ///
    /// # Errors
    /// When it fails.
    pub async fn ended(self) -> Result<()> {
        match self.unit.await? {
            Outcome::Ok(_) => Ok(()),
            other => Err(format!("the relay ended with {other:?}").into()),
        }
    }

    /// Waits until it has everything up to an end.
    ///
    /// # Errors
    /// When it fails, or takes too long.
    ///
    /// # Panics
    /// When it tells of something that is not in its files.
    pub async fn reach(&mut self, end: &SourceEnd) -> Result<()> {
        let facts = self.facts.relay(SOURCE);
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
            sleep(LOOK_EVERY).await;
        }
    }
}

/// What a relay unit has to do, and how a process of its own is told so.
#[derive(Clone, Debug)]
pub struct Task {
    /// The source.
    pub source: Address,
    /// The relay directory.
    pub dir: PathBuf,
    /// Where a new directory begins; its GTIDs count if it relays by GTID.
    pub start: Start,
    /// Whether it relays by GTID.
    pub by_gtid: bool,
    /// Whether it ends as soon as it has what the source had when it began.
    pub to_end: bool,
}

impl Task {
    /// The configuration of the source.
    #[must_use]
    pub fn config(&self) -> Arc<SourceConfig> {
        let address = self.source.clone();
        Arc::new(SourceConfig {
            source_id: SOURCE.to_owned(),
            from: DbConfig {
                host: address.host,
                port: address.port,
                user: address.user,
                password: Secret(address.password),
                ..DbConfig::default()
            },
            relay_dir: self.dir.display().to_string(),
            enable_gtid: self.by_gtid,
            relay_binlog_name: self.start.file.clone(),
            relay_binlog_gtid: self.start.gtids.clone(),
            ..SourceConfig::standard()
        })
    }

    /// The command that does it, with the program `relay_unit` of this package.
    #[must_use]
    pub fn command(&self, program: &Path) -> Command {
        let mut command = Command::new(program);
        command
            .args([&self.source.host, &self.source.port.to_string()])
            .args([&self.source.user, &self.source.password])
            .arg(&self.dir)
            .args([&self.start.file, &self.start.gtids])
            .args([self.by_gtid.to_string(), self.to_end.to_string()]);
        command
    }

    /// The task of such a command, by its arguments.
    ///
    /// # Errors
    /// They are others.
    pub fn parse(args: impl Iterator<Item = String>) -> Result<Self> {
        let args: Vec<_> = args.collect();
        let [
            host,
            port,
            user,
            password,
            dir,
            file,
            gtids,
            by_gtid,
            to_end,
        ] = &*args
        else {
            return Err(format!("9 arguments wanted, not {}", args.len()).into());
        };
        Ok(Self {
            source: Address {
                host: host.clone(),
                port: port.parse()?,
                user: user.clone(),
                password: password.clone(),
            },
            dir: dir.into(),
            start: Start {
                file: file.clone(),
                gtids: gtids.clone(),
                ..Start::default()
            },
            by_gtid: by_gtid.parse()?,
            to_end: to_end.parse()?,
        })
    }
}

/// The binlog files in a directory, by name.
///
/// # Errors
/// When they can't be listed.
pub fn binlogs(dir: &Path) -> Result<BTreeMap<String, PathBuf>> {
    let mut files = BTreeMap::new();
    for entry in fs::read_dir(dir)? {
        let name = entry?.file_name().to_string_lossy().into_owned();
        let digits = name.rsplit_once('.').map(|(_, digits)| digits);
        if digits.is_some_and(|digits| digits.bytes().all(|byte| byte.is_ascii_digit())) {
            files.insert(name.clone(), dir.join(&name));
        }
    }
    Ok(files)
}

/// The only sub-directory of a relay directory.
///
/// # Errors
/// There is none, or another one.
pub fn sub_dir(dir: &Path) -> Result<PathBuf> {
    let index = fs::read_to_string(dir.join(INDEX_FILE))?;
    match &*index.lines().collect::<Vec<_>>() {
        [one] => Ok(dir.join(one)),
        other => Err(format!("the sub-directories are {other:?}").into()),
    }
}

/// Where the events behind the FORMAT_DESCRIPTION begin: of that one a dump sends another form.
fn body(file: &[u8]) -> usize {
    let size = file.get(13..17).and_then(|size| size.try_into().ok());
    4 + size.map(u32::from_le_bytes).unwrap_or_default() as usize
}

/// Whether all of what is left of a file belongs to no transaction. A dump that begins by GTID does
/// not send it if everything before is known: it begins with the next file.
fn is_no_transaction(mut rest: &[u8]) -> bool {
    while let Ok(header) = Header::peek(rest) {
        let is_one = matches!(
            header.event_type,
            kind::ROTATE | kind::STOP | kind::BINLOG_CHECKPOINT
        );
        match rest.get(header.event_size as usize..) {
            Some(behind) if is_one => rest = behind,
            _ => return false,
        }
    }
    rest.is_empty()
}

/// Whether relay files are beginnings of the source's, in `data_dir`, and have no gaps between
/// them; how many are whole. By GTID what belongs to no transaction may be missing at the end of
/// one that others follow.
///
/// # Errors
/// They are not, or can't be read.
pub fn compare(relay: &Path, data_dir: &Path, by_gtid: bool) -> Result<usize> {
    let (relayed, there) = (binlogs(relay)?, binlogs(data_dir)?);
    let mut whole = 0;
    let first = relayed.keys().next().cloned().unwrap_or_default();
    for (index, (name, theirs)) in there.range(first..).take(relayed.len()).enumerate() {
        let ours = relayed
            .get(name)
            .ok_or_else(|| format!("{name} is missing"))?;
        let (ours, theirs) = (fs::read(ours)?, fs::read(theirs)?);
        let from = body(&theirs).min(ours.len());
        if from > 4 && ours.len() > from && from != body(&ours)
            || !theirs[from.min(theirs.len())..].starts_with(&ours[from..])
        {
            return Err(format!("{name} differs").into());
        }
        let rest = &theirs[ours.len()..];
        let is_last = index + 1 == relayed.len();
        if rest.is_empty() || !is_last && by_gtid && is_no_transaction(rest) {
            whole += 1;
        } else if !is_last {
            return Err(format!("{name} lacks {} bytes, and others follow", rest.len()).into());
        }
    }
    Ok(whole)
}

/// Runs the check that operators have, and returns what it says.
///
/// # Errors
/// It finds problems.
pub fn verify(dir: &Path) -> Result<String> {
    let program = worker::binary()?;
    process::run(
        &program,
        Command::new(&program).args(["relay", "verify"]).arg(dir),
    )
}
