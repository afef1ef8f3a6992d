//! The command line.
//!
//! Flags look as in Go: `-name value`, `--name value` and `-name=value` are the same, a flag that
//! is a switch takes its value only behind `=`, and `--` ends them.

mod ask;
mod check;
mod given;
mod relay;

use std::path::{Path, PathBuf};

use dm_core::control::record::Secret;
use dm_core::error::{Code, Error, Result, code};

pub use self::ask::{Peer, Purge};
pub use self::check::Check;
use self::given::Given;
pub use self::relay::{Dump, Relay};
use super::password;
use super::worker::{SAMPLE, WorkerConfig};

/// Where a worker listens that is not part of a DM cluster.
const ADDRESS: &str = "127.0.0.1:8262";
/// What a worker that runs alone writes into, where it is told nothing else.
const DATA_DIR: &str = "dm-data";
/// File in the data directory that a running worker has locked.
pub const LOCK_FILE: &str = "lock";
/// File in the data directory that holds the address where questions are answered.
pub const ADDRESS_FILE: &str = "address";

/// What to do.
#[derive(Clone, Debug, PartialEq)]
pub enum Command {
    /// Print this text on standard output and end with exit code 0.
    Print(String),
    /// Print the version and end with exit code 0.
    Version,
    /// Print what a worker is doing.
    Status(Peer),
    /// Look into a relay log.
    Relay(Relay),
    /// Let a worker remove files of its relay log.
    Purge(Purge),
    /// Check what a task needs.
    Check(Check),
    /// Replicate alone.
    Standalone(Standalone),
    /// Work for whoever administers the keys in etcd.
    Etcd(Etcd),
    /// Join a DM cluster.
    Join(WorkerConfig),
}

/// A worker that is told by files what to do.
#[derive(Clone, Debug, PartialEq)]
pub struct Standalone {
    /// Settings of the worker.
    pub worker: WorkerConfig,
    /// Whether another port will do where the worker's is taken: nobody asked for it.
    pub any_port: bool,
    /// Source files.
    pub sources: Vec<PathBuf>,
    /// Task files.
    pub tasks: Vec<PathBuf>,
    /// Where the worker keeps what has to outlive it.
    pub data_dir: PathBuf,
    /// Decrypts passwords in the files.
    pub secret_key: Option<Secret<Vec<u8>>>,
}

/// A worker that is told by etcd what to do.
#[derive(Clone, Debug, PartialEq)]
pub struct Etcd {
    /// Settings of the worker.
    pub worker: WorkerConfig,
    /// URLs of etcd.
    pub endpoints: Vec<String>,
}

/// A flag: name, what stands behind it (nothing for a switch), what it is for.
struct Flag(&'static str, &'static str, &'static str);

/// Flags of every way to run.
const WORKER: &[Flag] = &[
    Flag(
        "config",
        "FILE",
        "read settings from this TOML file; flags win over it",
    ),
    Flag(
        "name",
        "NAME",
        "name of the worker (default: the advertised address)",
    ),
    Flag("worker-addr", "ADDR", "address to listen on"),
    Flag(
        "advertise-addr",
        "ADDR",
        "address at which others reach the worker",
    ),
    Flag(
        "keepalive-ttl",
        "SECONDS",
        "time to live of the worker's lease (default 60)",
    ),
    Flag(
        "relay-keepalive-ttl",
        "SECONDS",
        "the same while it relays (default 1800)",
    ),
    Flag(
        "relay-sync-bytes",
        "BYTES",
        "sync a relay log after so many bytes (default 8388608)",
    ),
    Flag(
        "relay-sync-ms",
        "MS",
        "sync it after so many milliseconds (default 50)",
    ),
    Flag(
        "row-memory-bytes",
        "BYTES",
        "memory of each task for rows on their way (default 83886080)",
    ),
    Flag(
        "L",
        "LEVEL",
        "debug, info, warn, error or fatal (default info)",
    ),
    Flag(
        "log-file",
        "FILE",
        "write the log here (default: the console)",
    ),
    Flag("log-format", "FORMAT", "text or json (default text)"),
    Flag("redact-info-log", "", "leave data out of the log"),
    Flag("ssl-ca", "FILE", "certificate authority for TLS"),
    Flag("ssl-cert", "FILE", "certificate for TLS"),
    Flag("ssl-key", "FILE", "private key for TLS"),
    Flag(
        "cert-allowed-cn",
        "NAME",
        "common name that clients may have; may be repeated",
    ),
];

const CLUSTER: &[Flag] = &[
    Flag(
        "join",
        "ADDRS",
        "masters of the DM cluster to join, separated by commas",
    ),
    Flag(
        "etcd",
        "ADDRS",
        "etcd to coordinate through without a master, separated by commas",
    ),
    Flag("V", "", "print the version"),
    Flag("print-sample-config", "", "print a settings file"),
];

const STANDALONE: &[Flag] = &[
    Flag("source", "FILE", "source file; may be repeated"),
    Flag("task", "FILE", "task file; may be repeated"),
    Flag(
        "data-dir",
        "DIR",
        "where the worker keeps its data (default dm-data)",
    ),
    Flag(
        "secret-key-path",
        "FILE",
        "key for encrypted passwords: 64 hexadecimal digits",
    ),
];

/// Reads the command line, without the program's name.
///
/// # Errors
/// For a message on standard error and exit code 2: 40001 for flags, 40002 for what is not one, and
/// those of [`WorkerConfig`].
pub fn parse<I>(args: I) -> Result<Command>
where
    I: IntoIterator,
    I::Item: Into<String>,
{
    let args: Vec<String> = args.into_iter().map(Into::into).collect();
    match args.split_first() {
        Some((first, rest)) if first == "standalone" => standalone(rest),
        Some((first, rest)) if first == "check" => check::parse(rest),
        Some((first, rest)) if first == "status" => ask::status(rest),
        Some((first, rest)) if first == "relay" => relay::parse(rest),
        _ => cluster(&args),
    }
}

fn cluster(args: &[String]) -> Result<Command> {
    let Some(given) = Given::parse(args, &[CLUSTER, WORKER])? else {
        return Ok(Command::Print(help()));
    };
    if given.is_on("V")? {
        return Ok(Command::Version);
    }
    if given.is_on("print-sample-config")? {
        return Ok(Command::Print(SAMPLE.to_owned()));
    }
    let mut worker = given.worker()?;
    let etcd = given.last("etcd").unwrap_or_default();
    match (worker.join.is_empty(), etcd.is_empty()) {
        (false, false) => Err(flag_error("-join and -etcd: give only one of them")),
        (true, true) => Err(flag_error(
            "nothing to do: give -join or -etcd, or begin with `standalone`, `check`, `status` or \
             `relay`; see -help",
        )),
        (false, true) => {
            worker.adjust()?;
            Ok(Command::Join(worker))
        }
        (true, false) => {
            if worker.name.is_empty() {
                return Err(flag_error(
                    "-etcd needs -name, which the keys in etcd refer to",
                ));
            }
            listen_by_default(&mut worker);
            worker.adjust()?;
            let endpoints = worker.endpoints(etcd)?;
            Ok(Command::Etcd(Etcd { worker, endpoints }))
        }
    }
}

fn standalone(args: &[String]) -> Result<Command> {
    let Some(given) = Given::parse(args, &[STANDALONE, WORKER])? else {
        return Ok(Command::Print(help()));
    };
    let paths = |flag| given.all(flag).map(PathBuf::from).collect::<Vec<_>>();
    let (sources, tasks) = (paths("source"), paths("task"));
    if sources.is_empty() || tasks.is_empty() {
        return Err(flag_error("standalone needs -source FILE and -task FILE"));
    }
    let mut worker = given.worker()?;
    if !worker.join.is_empty() {
        return Err(flag_error(
            "`join` in the settings file contradicts `standalone`",
        ));
    }
    if worker.name.is_empty() {
        worker.name = "standalone".into();
    }
    let any_port = listen_by_default(&mut worker);
    worker.adjust()?;
    let data_dir = PathBuf::from(given.last("data-dir").unwrap_or(DATA_DIR));
    let secret_key = secret_key(&given)?;
    Ok(Command::Standalone(Standalone {
        worker,
        any_port,
        sources,
        tasks,
        data_dir,
        secret_key,
    }))
}

/// The key that decrypts passwords in files.
fn secret_key(given: &Given<'_>) -> Result<Option<Secret<Vec<u8>>>> {
    let path = given.last("secret-key-path").map(Path::new);
    let key = path.map(password::read_key).transpose()?;
    Ok(key.map(Secret))
}

/// Sets an address where none is given, and says whether it did.
fn listen_by_default(worker: &mut WorkerConfig) -> bool {
    let wanted = worker.worker_addr.is_empty();
    if wanted {
        worker.worker_addr = ADDRESS.into();
    }
    wanted
}

fn positional(arg: &str) -> Error {
    error(
        &code::WORKER_INVALID_FLAG,
        &format!("'{arg}' is an invalid flag"),
    )
}

fn flag_error(text: &str) -> Error {
    error(
        &code::WORKER_PARSE_FLAG_SET,
        &format!("parse dm-worker config flag set: {text}"),
    )
}

fn error(code: &Code, message: &str) -> Error {
    Error::new(code, message).with_workaround("`dm-worker -help` shows what is possible.")
}

/// The help text.
fn help() -> String {
    let mut out = String::from(
        "dm-worker replicates MySQL and MariaDB into TiDB, MySQL and MariaDB.\n\n\
         Usage:\n  \
         dm-worker standalone -source FILE… -task FILE… [flags]   replicate alone\n  \
         dm-worker check -source FILE… -task FILE… [flags]        see what is in its way\n  \
         dm-worker -etcd ADDRS -name NAME [flags]                 as keys in etcd say\n  \
         dm-worker -join ADDRS -worker-addr ADDR [flags]          in a DM cluster\n  \
         dm-worker status [-addr ADDR | -data-dir DIR]            show what a worker does\n  \
         dm-worker relay ls DIR                                   list a relay directory\n  \
         dm-worker relay verify DIR|FILE                          read and check all of it\n  \
         dm-worker relay dump DIR|FILE [flags]                    show the events in it\n  \
         dm-worker relay purge [flags]                            let a worker remove files\n\n\
         `relay ls`, `verify` and `dump` also take a plain directory of a server's binlog files.\n",
    );
    for (title, flags) in [
        ("Flags of standalone", STANDALONE),
        ("Flags of check", check::CHECK),
        ("Flags with -etcd and -join", CLUSTER),
        ("Flags of standalone, -etcd and -join", WORKER),
        ("Flags of relay dump", relay::DUMP),
        ("Flags of relay purge, one of the first three", ask::PURGE),
        ("Flags of status and relay purge", ask::PEER),
    ] {
        out.push_str(&format!("\n{title}:\n"));
        for Flag(name, argument, text) in flags {
            out.push_str(&format!("  {:<30} {text}\n", format!("-{name} {argument}")));
        }
    }
    out
}

#[cfg(test)]
mod tests;
