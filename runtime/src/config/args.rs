//! The command line.
//!
//! Flags look as in Go: `-name value`, `--name value` and `-name=value` are the same, a flag that
//! is a switch takes its value only behind `=`, and `--` ends them.

use std::fs;
use std::path::{Path, PathBuf};

use dm_core::control::db::Security;
use dm_core::control::record::Secret;
use dm_core::error::{Code, Error, Result, code};

use super::worker::{SAMPLE, WorkerConfig, without_scheme};
use super::{password, read_file};

/// Where a worker listens that is not part of a DM cluster.
const ADDRESS: &str = "127.0.0.1:8262";
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
    Status(Status),
    /// Replicate alone.
    Standalone(Standalone),
    /// Work for whoever administers the keys in etcd.
    Etcd(Etcd),
    /// Join a DM cluster.
    Join(WorkerConfig),
}

/// Which worker to ask.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Status {
    /// Its address, `host:port`.
    pub addr: String,
    /// Paths for TLS; without an authority there is none.
    pub security: Security,
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
        "the same while it relays (default 1800); relay is not built yet",
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

const STATUS: &[Flag] = &[
    Flag(
        "addr",
        "ADDR",
        "address of the worker (default 127.0.0.1:8262)",
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
        Some((first, rest)) if first == "status" => status(rest),
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
            "nothing to do: give -join or -etcd, or begin with `standalone` or `status`; see -help",
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
    let data_dir = PathBuf::from(given.last("data-dir").unwrap_or("dm-data"));
    let key = given
        .last("secret-key-path")
        .map(Path::new)
        .map(password::read_key)
        .transpose()?;
    let secret_key = key.map(Secret);
    Ok(Command::Standalone(Standalone {
        worker,
        any_port,
        sources,
        tasks,
        data_dir,
        secret_key,
    }))
}

fn status(args: &[String]) -> Result<Command> {
    let Some(given) = Given::parse(args, &[STATUS])? else {
        return Ok(Command::Print(help()));
    };
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
        (addr, None) => addr.unwrap_or(ADDRESS).to_owned(),
    };
    if addr.starts_with("https://") && security.ssl_ca.is_empty() {
        return Err(flag_error("an https address needs -ssl-ca"));
    }
    Ok(Command::Status(Status {
        addr: without_scheme(&addr).to_owned(),
        security,
    }))
}

/// The address that a worker which runs alone has left in its data directory.
fn read_address(dir: &Path) -> Result<String> {
    let file = dir.join(ADDRESS_FILE);
    fs::read_to_string(&file).map_err(|error| {
        let text = format!("-data-dir: cannot read {}", file.display());
        flag_error(&text).with_cause(error.to_string())
    })
}

/// Sets an address where none is given, and says whether it did.
fn listen_by_default(worker: &mut WorkerConfig) -> bool {
    let wanted = worker.worker_addr.is_empty();
    if wanted {
        worker.worker_addr = ADDRESS.into();
    }
    wanted
}

/// Flags as given, in order.
struct Given<'a>(Vec<(&'static str, &'a str)>);

impl<'a> Given<'a> {
    /// Takes the arguments apart. Nothing if help is wanted.
    fn parse(args: &'a [String], known: &[&[Flag]]) -> Result<Option<Self>> {
        let mut given = Vec::new();
        let mut rest = args.iter();
        while let Some(arg) = rest.next() {
            let flag = arg.strip_prefix("--").or_else(|| arg.strip_prefix('-'));
            let flag = match flag {
                None => return Err(positional(arg)),
                Some("") if arg == "-" => return Err(positional(arg)),
                Some("") => match rest.next() {
                    Some(arg) => return Err(positional(arg)),
                    None => break,
                },
                Some(flag) => flag,
            };
            let (name, value) = match flag.split_once('=') {
                Some((name, value)) => (name, Some(value)),
                None => (flag, None),
            };
            if name.is_empty() || name.starts_with('-') {
                return Err(flag_error(&format!("bad flag syntax: {arg}")));
            }
            if matches!(name, "h" | "help") {
                return Ok(None);
            }
            let found = known
                .iter()
                .flat_map(|flags| flags.iter())
                .find(|flag| flag.0 == name);
            let Some(Flag(name, argument, _)) = found else {
                let known: Vec<String> = known
                    .iter()
                    .flat_map(|flags| flags.iter())
                    .map(|f| format!("-{}", f.0))
                    .collect();
                return Err(flag_error(&format!(
                    "flag provided but not defined: -{name}; allowed: {}",
                    known.join(", ")
                )));
            };
            let value = match value {
                Some(value) => value,
                None if argument.is_empty() => "true",
                None => rest
                    .next()
                    .ok_or_else(|| flag_error(&format!("flag needs an argument: -{name}")))?,
            };
            given.push((*name, value));
        }
        Ok(Some(Self(given)))
    }

    fn all(&self, name: &str) -> impl Iterator<Item = &'a str> {
        self.0
            .iter()
            .filter(move |(flag, _)| *flag == name)
            .map(|(_, value)| *value)
    }

    fn last(&self, name: &str) -> Option<&'a str> {
        self.all(name).last()
    }

    /// Whether a switch is on.
    fn is_on(&self, name: &str) -> Result<bool> {
        match self.last(name) {
            None | Some("0" | "f" | "F" | "false" | "FALSE" | "False") => Ok(false),
            Some("1" | "t" | "T" | "true" | "TRUE" | "True") => Ok(true),
            Some(value) => Err(flag_error(&format!(
                "invalid boolean value {value:?} for -{name}: allowed are true and false"
            ))),
        }
    }

    /// The worker's settings: the file, if there is one, and the flags over it.
    fn worker(&self) -> Result<WorkerConfig> {
        let mut worker = WorkerConfig::standard();
        let named = self.last("config").unwrap_or_default();
        if !named.is_empty() {
            let text = read_file(Path::new(named)).map_err(|error| {
                let message = format!("toml decode file {named}");
                Error::new(&code::WORKER_DECODE_CONFIG_FROM_FILE, message).with_cause(error.cause)
            })?;
            worker.load(named, &text)?;
            worker.config_file = named.into();
        }
        for (name, target) in [
            ("name", &mut worker.name),
            ("worker-addr", &mut worker.worker_addr),
            ("advertise-addr", &mut worker.advertise_addr),
            ("join", &mut worker.join),
            ("L", &mut worker.log_level),
            ("log-file", &mut worker.log_file),
            ("log-format", &mut worker.log_format),
            ("ssl-ca", &mut worker.security.ssl_ca),
            ("ssl-cert", &mut worker.security.ssl_cert),
            ("ssl-key", &mut worker.security.ssl_key),
        ] {
            if let Some(value) = self.last(name) {
                *target = value.into();
            }
        }
        for (name, target) in [
            ("keepalive-ttl", &mut worker.keepalive_ttl),
            ("relay-keepalive-ttl", &mut worker.relay_keepalive_ttl),
        ] {
            if let Some(value) = self.last(name) {
                *target = value.parse().map_err(|_| {
                    let text = "a whole number is needed";
                    flag_error(&format!("invalid value {value:?} for flag -{name}: {text}"))
                })?;
            }
        }
        if self.last("redact-info-log").is_some() {
            worker.redact_info_log = self.is_on("redact-info-log")?;
        }
        let names: Vec<String> = self.all("cert-allowed-cn").map(str::to_owned).collect();
        if !names.is_empty() {
            worker.security.cert_allowed_cn = Some(names);
        }
        Ok(worker)
    }
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
         dm-worker -etcd ADDRS -name NAME [flags]                 as keys in etcd say\n  \
         dm-worker -join ADDRS -worker-addr ADDR [flags]          in a DM cluster\n  \
         dm-worker status [-addr ADDR | -data-dir DIR]            show what a worker does\n",
    );
    for (title, flags) in [
        ("Flags of standalone", STANDALONE),
        ("Flags with -etcd and -join", CLUSTER),
        ("Flags of all three", WORKER),
        ("Flags of status", STATUS),
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
