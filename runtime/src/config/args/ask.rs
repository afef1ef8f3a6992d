//! What is asked of a worker that runs: `dm-worker status` and `dm-worker relay purge`.

use std::fs;
use std::path::Path;

use dm_core::control::db::Security;
use dm_core::error::Result;
use jiff::Timestamp;

use super::given::Given;
use super::{ADDRESS, ADDRESS_FILE, Command, DATA_DIR, Flag, LOCK_FILE, flag_error, help};
use crate::config::worker::without_scheme;

/// Which worker to ask.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Peer {
    /// Its address, `host:port`.
    pub addr: String,
    /// Paths for TLS; without an authority there is none.
    pub security: Security,
}

/// What a worker shall remove of its relay log; one of the first three is given.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Purge {
    /// All that nobody needs.
    pub inactive: bool,
    /// What was last written then or earlier, in seconds since 1970.
    pub time: Option<i64>,
    /// What is before this file.
    pub file: Option<String>,
    /// The sub-directory of that file; otherwise the newest one.
    pub sub_dir: Option<String>,
    /// The worker.
    pub worker: Peer,
}

pub(super) const PEER: &[Flag] = &[
    Flag(
        "addr",
        "ADDR",
        "address of the worker (usual: that of ./dm-data, or 127.0.0.1:8262)",
    ),
    Flag(
        "data-dir",
        "DIR",
        "ask the worker that runs alone with this directory",
    ),
    Flag("ssl-ca", "FILE", "certificate authority, if it uses TLS"),
    Flag("ssl-cert", "FILE", "certificate, if it wants one"),
    Flag("ssl-key", "FILE", "private key of the certificate"),
];

pub(super) const PURGE: &[Flag] = &[
    Flag("before-file", "NAME", "remove the files before this one"),
    Flag(
        "before-time",
        "TIME",
        "remove what was last written by then, as 2026-11-28T00:00:00Z",
    ),
    Flag("inactive", "", "remove all files that nobody needs"),
    Flag(
        "sub-dir",
        "DIR",
        "where that file is (default: the newest sub-directory)",
    ),
];

pub(super) fn status(args: &[String]) -> Result<Command> {
    let given = Given::parse(args, &[PEER])?;
    given.map_or_else(
        || Ok(Command::Print(help())),
        |given| peer(&given).map(Command::Status),
    )
}

pub(super) fn purge(args: &[String]) -> Result<Command> {
    let Some(given) = Given::parse(args, &[PURGE, PEER])? else {
        return Ok(Command::Print(help()));
    };
    let text = |flag| given.last(flag).map(str::to_owned);
    let purge = Purge {
        inactive: given.is_on("inactive")?,
        time: given.last("before-time").map(time).transpose()?,
        file: text("before-file"),
        sub_dir: text("sub-dir"),
        worker: peer(&given)?,
    };
    let Purge {
        inactive,
        time,
        file,
        sub_dir,
        ..
    } = &purge;
    if [*inactive, time.is_some(), file.is_some()]
        .iter()
        .filter(|given| **given)
        .count()
        != 1
    {
        return Err(flag_error(
            "relay purge needs -before-file, -before-time or -inactive, and only one of them",
        ));
    }
    if sub_dir.is_some() && file.is_none() {
        return Err(flag_error("-sub-dir belongs to -before-file"));
    }
    Ok(Command::Purge(purge))
}

/// Seconds since 1970, of which there must be some: to a worker none means that no time is given.
fn time(text: &str) -> Result<i64> {
    let seconds = text.parse().ok();
    let seconds = seconds.or_else(|| Some(text.parse::<Timestamp>().ok()?.as_second()));
    seconds.filter(|seconds| *seconds > 0).ok_or_else(|| {
        flag_error(&format!(
            "invalid value {text:?} for flag -before-time: 2026-11-28T00:00:00Z, \
             2026-11-28T08:00:00+08:00 and 1795824000 are possible"
        ))
    })
}

fn peer(given: &Given<'_>) -> Result<Peer> {
    let path = |flag| given.last(flag).unwrap_or_default().to_owned();
    let security = Security {
        ssl_ca: path("ssl-ca"),
        ssl_cert: path("ssl-cert"),
        ssl_key: path("ssl-key"),
        ..Security::default()
    };
    let (cert, key) = (&security.ssl_cert, &security.ssl_key);
    if cert.is_empty() != key.is_empty() || security.ssl_ca.is_empty() && !cert.is_empty() {
        return Err(flag_error(
            "-ssl-cert and -ssl-key need each other, and -ssl-ca",
        ));
    }
    let addr = match (given.last("addr"), given.last("data-dir")) {
        (Some(_), Some(_)) => {
            return Err(flag_error("-addr and -data-dir: give only one of them"));
        }
        (None, Some(dir)) => read_address(Path::new(dir))?,
        (Some(addr), None) => addr.to_owned(),
        // The one that was started here, wherever it answers.
        (None, None) => read_address(Path::new(DATA_DIR)).unwrap_or_else(|_| ADDRESS.to_owned()),
    };
    if addr.starts_with("https://") && security.ssl_ca.is_empty() {
        return Err(flag_error("an https address needs -ssl-ca"));
    }
    Ok(Peer {
        addr: without_scheme(&addr).to_owned(),
        security,
    })
}

/// The address that a worker which runs alone has left in its data directory. What one left that
/// does not run any more may be another one's by now.
fn read_address(dir: &Path) -> Result<String> {
    let lock = fs::File::open(dir.join(LOCK_FILE));
    if lock.is_ok_and(|lock| lock.try_lock_shared().is_ok()) {
        let text = format!("-data-dir: no worker runs with {}", dir.display());
        return Err(flag_error(&text).with_workaround("Start it, or ask another one with `-addr`."));
    }
    let file = dir.join(ADDRESS_FILE);
    fs::read_to_string(&file).map_err(|error| {
        let text = format!("-data-dir: cannot read {}", file.display());
        flag_error(&text)
            .with_cause(error.to_string())
            .with_workaround(
                "Give the directory that the worker was started with, which is `dm-data` where it \
                 was told no other, or the worker's address with `-addr`.",
            )
    })
}
