//! Flags as they stand on the command line.

use std::path::Path;

use dm_core::error::{Error, Result, code};

use super::{Flag, flag_error, positional};
use crate::config::{WorkerConfig, read_file};

/// Flags as given, in order.
pub(super) struct Given<'a>(Vec<(&'static str, &'a str)>);

impl<'a> Given<'a> {
    /// Takes the arguments apart, which are all flags. Nothing if help is wanted.
    pub(super) fn parse(args: &'a [String], known: &[&[Flag]]) -> Result<Option<Self>> {
        let given = Self::parse_around(args, known, 0)?;
        Ok(given.map(|(given, _)| given))
    }

    /// The same where up to `places` arguments may be no flags; these come back in order.
    pub(super) fn parse_around(
        args: &'a [String],
        known: &[&[Flag]],
        places: usize,
    ) -> Result<Option<(Self, Vec<&'a str>)>> {
        let mut given = Vec::new();
        let mut placed: Vec<&str> = Vec::new();
        let mut place = |arg: &'a str| {
            if placed.len() == places {
                return Err(positional(arg));
            }
            placed.push(arg);
            Ok(())
        };
        let mut rest = args.iter();
        while let Some(arg) = rest.next() {
            let flag = arg.strip_prefix("--").or_else(|| arg.strip_prefix('-'));
            let flag = match flag {
                None => {
                    place(arg)?;
                    continue;
                }
                Some("") if arg == "-" => return Err(positional(arg)),
                Some("") => {
                    rest.try_for_each(|arg| place(arg))?;
                    break;
                }
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
        Ok(Some((Self(given), placed)))
    }

    pub(super) fn all(&self, name: &str) -> impl Iterator<Item = &'a str> {
        self.0
            .iter()
            .filter(move |(flag, _)| *flag == name)
            .map(|(_, value)| *value)
    }

    pub(super) fn last(&self, name: &str) -> Option<&'a str> {
        self.all(name).last()
    }

    /// Whether a switch is on.
    pub(super) fn is_on(&self, name: &str) -> Result<bool> {
        match self.last(name) {
            None | Some("0" | "f" | "F" | "false" | "FALSE" | "False") => Ok(false),
            Some("1" | "t" | "T" | "true" | "TRUE" | "True") => Ok(true),
            Some(value) => Err(flag_error(&format!(
                "invalid boolean value {value:?} for -{name}: allowed are true and false"
            ))),
        }
    }

    /// The worker's settings: the file, if there is one, and the flags over it.
    pub(super) fn worker(&self) -> Result<WorkerConfig> {
        let mut worker = WorkerConfig::standard();
        let named = self.last("config").unwrap_or_default();
        if !named.is_empty() {
            let text = read_file(Path::new(named)).map_err(|error| {
                let message = format!("toml decode file {named}");
                Error::new(&code::WORKER_DECODE_CONFIG_FROM_FILE, message)
                    .with_cause(error.cause)
                    .with_workaround(error.workaround)
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
            ("relay-sync-bytes", &mut worker.relay_sync_bytes),
            ("relay-sync-ms", &mut worker.relay_sync_ms),
            ("row-memory-bytes", &mut worker.row_memory_bytes),
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
