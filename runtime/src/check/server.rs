//! What the settings of a source mean for a task.

use std::{collections::BTreeMap, time::Duration};

use dm_core::{
    binlog::{Dialect, Flavor},
    control::{SourceConfig, db::DbConfig},
    sync::agreement::Metadata,
};

use super::item::Problem;
use crate::{
    mysql::{conn::Row, session::dialect_of},
    ports::Logged,
};

/// What is asked of a server; it leaves out what it does not know.
pub(super) const VARIABLES: &str = "SHOW GLOBAL VARIABLES WHERE Variable_name IN (\
    'version','server_id','log_bin','binlog_format','binlog_row_image','binlog_row_metadata',\
    'binlog_row_value_options','binlog_checksum','gtid_mode','lower_case_table_names',\
    'partial_revokes','max_connections','max_user_connections','binlog_expire_logs_seconds',\
    'expire_logs_days','max_binlog_total_size','binlog_space_limit','log_replica_updates',\
    'log_slave_updates','gtid_slave_pos')";
/// What is asked of how it is doing.
pub(super) const STATUS: &str =
    "SHOW GLOBAL STATUS WHERE Variable_name IN ('Threads_connected','Uptime','Slaves_running')";
/// How fast a copy is at least, in bytes a second, where network and disks are slow.
const COPY_RATE: u64 = 10 << 20;
/// So long a worker may be away.
const AWAY: Duration = Duration::from_secs(3600);

/// Settings and state of a server, by name.
#[derive(Clone, Debug, Default)]
pub(super) struct Variables(BTreeMap<String, String>);

impl Variables {
    pub(super) fn new(rows: impl IntoIterator<Item = Row>) -> Self {
        let pair = |row: Row| {
            let mut row = row.into_iter().map(Option::unwrap_or_default);
            Some((row.next()?.to_lowercase(), row.next()?))
        };
        Self(rows.into_iter().filter_map(pair).collect())
    }

    pub(super) fn get(&self, name: &str) -> &str {
        self.0.get(name).map_or("", String::as_str)
    }

    /// A number; 0 where there is none.
    pub(super) fn number(&self, name: &str) -> u64 {
        self.get(name).parse().unwrap_or_default()
    }

    /// Whether it has a value, or is not known: then the server has no choice.
    fn is(&self, name: &str, value: &str) -> bool {
        let found = self.0.get(name);
        found.is_none_or(|found| found.eq_ignore_ascii_case(value))
    }

    pub(super) fn is_on(&self, name: &str) -> bool {
        matches!(&*self.get(name).to_uppercase(), "ON" | "1")
    }

    pub(super) fn flavor(&self) -> Flavor {
        if self.get("version").to_lowercase().contains("mariadb") {
            Flavor::Mariadb
        } else {
            Flavor::Mysql
        }
    }

    /// Major and minor number of the version, whatever stands before it in old MariaDBs.
    fn version(&self) -> (u32, u32) {
        let version = self.get("version");
        let version = version.strip_prefix("5.5.5-").unwrap_or(version);
        let mut parts = version.split(|c: char| !c.is_ascii_digit());
        let mut part = || parts.next()?.parse().ok();
        (part().unwrap_or_default(), part().unwrap_or_default())
    }

    /// What a user needs who makes views of another definer.
    pub(super) fn definer_privilege(&self) -> &'static str {
        match (dialect_of(self.get("version")), self.version()) {
            (Dialect::MariaDb, (10, 5..) | (11.., _)) => "SET USER",
            (Dialect::MySql, (8, 2..) | (9.., _)) => "SET_ANY_DEFINER",
            (Dialect::MySql, (8, _)) => "SET_USER_ID",
            _ => "SUPER",
        }
    }

    /// Whether what foreign keys change is in the binlog.
    pub(super) fn logs_cascades(&self) -> bool {
        self.flavor() == Flavor::Mysql && self.version() >= (9, 6)
    }

    /// What table maps tell of columns; nothing where the server knows no such setting.
    pub(super) fn row_metadata(&self) -> Metadata {
        match &*self.get("binlog_row_metadata").to_uppercase() {
            "FULL" => Metadata::Full,
            "MINIMAL" => Metadata::Minimal,
            _ => Metadata::NoLog,
        }
    }

    pub(super) fn check_version(&self, config: &SourceConfig) -> Option<Problem> {
        let version = self.get("version");
        if version.to_lowercase().contains("tidb") {
            let reason = "a TiDB server cannot be a source: it writes no binlog";
            return Some(Problem::fail(reason, "Use TiCDC to replicate from TiDB."));
        }
        let flavor = self.flavor();
        if !config.flavor.is_empty() && config.flavor != flavor.to_string() {
            let reason = format!(
                "the source is a {flavor} server, version {version}, and its `flavor` says {}",
                config.flavor
            );
            let advice = format!("Set `flavor` in the source file to {flavor}, or remove it.");
            return Some(Problem::fail(reason, advice));
        }
        let oldest = match flavor {
            Flavor::Mysql => (5, 6),
            Flavor::Mariadb => (10, 1),
        };
        (self.version() < oldest).then(|| {
            let (major, minor) = oldest;
            Problem::warn(
                format!(
                    "version {version} is older than {major}.{minor}, from where on it is known"
                ),
                "Upgrade the source, or try it with data that you can do without.",
            )
        })
    }

    pub(super) fn check_server_id(&self) -> Option<Problem> {
        let is_set = !matches!(self.get("server_id"), "" | "0");
        (!is_set).then(|| {
            Problem::warn(
                "the source's `server_id` is 0",
                "Set `server_id` in the source's configuration file to a number that no other \
                 server of its replication has.",
            )
        })
    }

    pub(super) fn check_binlog(&self) -> Option<Problem> {
        (!self.is("log_bin", "ON")).then(|| {
            Problem::fail(
                "the source writes no binlog (`log_bin` = OFF)",
                "Set `log_bin` in the source's configuration file, and restart it.",
            )
        })
    }

    pub(super) fn check_format(&self, config: &SourceConfig) -> Vec<Problem> {
        let mut problems: Vec<_> = [("binlog_format", "ROW"), ("binlog_checksum", "CRC32")]
            .into_iter()
            .filter(|(name, value)| !self.is(name, value))
            .map(|(name, value)| self.wrong(name, value))
            .collect();
        let gtid_mode = self.get("gtid_mode");
        if config.enable_gtid && self.flavor() == Flavor::Mysql && gtid_mode != "ON" {
            problems.push(Problem::fail(
                format!("the source has `gtid_mode` = {gtid_mode} instead of ON"),
                "Set `gtid_mode` of the source to ON, or `enable-gtid: false` in the source file.",
            ));
        }
        problems
    }

    pub(super) fn check_image(&self) -> Vec<Problem> {
        let mut problems = Vec::new();
        if !self.is("binlog_row_image", "FULL") {
            problems.push(self.wrong("binlog_row_image", "FULL"));
        }
        if !self.get("binlog_row_value_options").is_empty() {
            problems.push(self.wrong("binlog_row_value_options", "''"));
        }
        problems
    }

    /// Whether the binlog has what a source writes that is a replica, or that replicates now.
    pub(super) fn check_replicated(&self, is_replica: bool, runs: bool) -> Option<Problem> {
        let mut names = ["log_replica_updates", "log_slave_updates"].into_iter();
        let off = names.find(|name| !self.is(name, "ON"))?;
        let advice = format!(
            "Set `{off}` in the source's configuration file and restart it, or let the server be \
             the source that it replicates from."
        );
        match (runs, is_replica || !self.get("gtid_slave_pos").is_empty()) {
            (true, _) => Some(Problem::fail(
                format!(
                    "the source replicates from another server, and does not log that \
                     (`{off}` = OFF)"
                ),
                advice,
            )),
            (_, true) => Some(Problem::warn(
                format!(
                    "the source is a replica, or was one, and does not log what it replicates \
                     (`{off}` = OFF)"
                ),
                advice,
            )),
            _ => None,
        }
    }

    fn wrong(&self, name: &str, value: &str) -> Problem {
        Problem::fail(
            format!(
                "the source has `{name}` = {} instead of {value}",
                self.get(name)
            ),
            format!(
                "Run SET GLOBAL {name} = {value} on the source, keep it so in its configuration \
                 file, and let its clients reconnect: open sessions keep the old value."
            ),
        )
    }

    /// Whether the server takes so many connections more than it has.
    pub(super) fn check_connections(&self, wanted: u64, what_for: &str) -> Option<Problem> {
        let (all, per_user) = (
            self.number("max_connections"),
            self.number("max_user_connections"),
        );
        for (name, limit) in [("max_connections", all), ("max_user_connections", per_user)] {
            if limit > 0 && limit < wanted {
                return Some(Problem::fail(
                    format!(
                        "{wanted} connections are wanted for {what_for}, and `{name}` = {limit}"
                    ),
                    format!("Raise `{name}` of the server, or {}.", fewer(what_for)),
                ));
            }
        }
        // One of them asks.
        let used = self.number("threads_connected").saturating_sub(1);
        (all > 0 && all.saturating_sub(used) < wanted).then(|| {
            Problem::warn(
                format!(
                    "{wanted} connections are wanted for {what_for}, {used} of the {all} of \
                     `max_connections` are in use"
                ),
                format!(
                    "Raise `max_connections` of the server, or {}.",
                    fewer(what_for)
                ),
            )
        })
    }

    /// How long the binlog is kept, if not for ever.
    fn keeps_for(&self, binlog_bytes: u64) -> Option<(Duration, String)> {
        let days: f64 = self.get("expire_logs_days").parse().unwrap_or_default();
        let seconds = match self.number("binlog_expire_logs_seconds") {
            // A time that nobody can mean is none.
            0 => (days.clamp(0.0, 36500.0) * 86400.0) as u64,
            seconds => seconds,
        };
        let age = (seconds > 0).then(|| {
            let kept = Duration::from_secs(seconds);
            (
                kept,
                format!("the source purges its binlog after {}", span(kept)),
            )
        });
        let limits = ["max_binlog_total_size", "binlog_space_limit"].map(|name| self.number(name));
        let limit = limits.into_iter().filter(|limit| *limit > 0).min();
        // Written in no more time than the server runs.
        let rate = binlog_bytes / self.number("uptime").max(1);
        let size = limit.filter(|_| rate > 0).map(|limit| {
            let kept = Duration::from_secs(limit / rate);
            let limit = limit >> 20;
            let text = format!(
                "the source keeps {limit} MiB of its binlog, which lasts for {}",
                span(kept)
            );
            (kept, text)
        });
        age.into_iter().chain(size).min_by_key(|(kept, _)| *kept)
    }

    /// Whether the binlog lasts as long as the copy of so many bytes.
    pub(super) fn check_retention(&self, bytes: u64, binlog_bytes: u64) -> Option<Problem> {
        let (kept, what) = self.keeps_for(binlog_bytes)?;
        let copy = Duration::from_secs(bytes / COPY_RATE);
        (kept < (copy * 2).max(AWAY)).then(|| {
            let reason = format!(
                "{what}; the copy of {} MiB may take {}, and what is written meanwhile is needed \
                 afterwards",
                bytes >> 20,
                span(copy.max(Duration::from_secs(60)))
            );
            Problem::warn(
                reason,
                "Let the source keep its binlog longer (`binlog_expire_logs_seconds`, before MySQL \
                 8.0 and MariaDB 10.6 `expire_logs_days`), or set `enable-relay: true` in the \
                 source file.",
            )
        })
    }
}

fn fewer(what_for: &str) -> &'static str {
    if what_for.contains("changes") {
        "lower `threads` of `mydumpers` and `worker-count` of `syncers`"
    } else {
        "lower `threads` of `mydumpers`"
    }
}

/// A time in words, rounded.
fn span(time: Duration) -> String {
    let seconds = time.as_secs();
    match seconds {
        0..120 => format!("{seconds} seconds"),
        120..7200 => format!("{} minutes", seconds / 60),
        7200..172_800 => format!("{} hours", seconds / 3600),
        _ => format!("{} days", seconds / 86_400),
    }
}

/// Whether the binlog has the schemas.
pub(super) fn check_logged<'a>(
    logged: &Logged,
    schemas: impl IntoIterator<Item = &'a str>,
) -> Option<Problem> {
    let missing = schemas.into_iter().filter(|schema| !logged.has(schema));
    let concerns: Vec<_> = missing.map(str::to_owned).collect();
    (!concerns.is_empty()).then(|| Problem {
        concerns,
        ..Problem::fail(
            "the source does not log these schemas (`binlog_do_db`, `binlog_ignore_db`)",
            "Remove the two settings from the source's configuration file and restart it, or \
             exclude the schemas with the `block-allow-list`.",
        )
    })
}

/// A server that can't be asked.
pub(super) fn unreachable(db: &DbConfig, fault: &dyn std::fmt::Display) -> Problem {
    let fault = fault.to_string();
    let advice = if fault.contains("Error 1045") {
        "Correct `user` and `password`, and see that the user may come from this machine."
    } else if fault.starts_with("TLS") {
        "Correct `security`, or the server's certificate."
    } else if fault.starts_with("Error") {
        "See what the server has against it: its words say so."
    } else {
        "See that the server runs, that `host` and `port` are right, and that no firewall is \
         between."
    };
    Problem::fail(format!("{} can't be asked: {fault}", address(db)), advice)
}

/// How a server is reached, for people.
pub(super) fn address(db: &DbConfig) -> String {
    if db.host.starts_with('/') {
        return db.host.clone();
    }
    format!("{}:{}", db.host, db.port)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn variables(changes: &[(&str, &str)]) -> Variables {
        let good = [
            ("version", "9.7.1"),
            ("server_id", "7"),
            ("log_bin", "ON"),
            ("binlog_format", "ROW"),
            ("binlog_row_image", "FULL"),
            ("binlog_row_value_options", ""),
            ("binlog_checksum", "CRC32"),
            ("gtid_mode", "ON"),
            ("max_connections", "151"),
            ("threads_connected", "2"),
            ("binlog_expire_logs_seconds", "2592000"),
        ];
        let all = good.iter().chain(changes);
        let row = |(name, value): &(&str, &str)| vec![Some((*name).into()), Some((*value).into())];
        Variables::new(all.map(row))
    }

    fn config() -> SourceConfig {
        SourceConfig {
            enable_gtid: true,
            ..SourceConfig::default()
        }
    }

    /// The only problem with these settings, all checks taken together.
    fn only(changes: &[(&str, &str)]) -> Problem {
        let found = variables(changes);
        let mut all = found.check_format(&config());
        all.extend(found.check_image());
        all.extend(found.check_version(&config()));
        all.extend(found.check_server_id());
        all.extend(found.check_binlog());
        all.extend(found.check_connections(6, "a copy"));
        all.extend(found.check_retention(1 << 30, 1 << 30));
        assert_eq!(all.len(), usize::from(!changes.is_empty()), "{all:?}");
        all.pop().unwrap_or_else(|| Problem::warn("", ""))
    }

    #[test]
    fn what_would_lose_data_fails_by_name() {
        only(&[]);
        for (name, value) in [
            ("log_bin", "OFF"),
            ("binlog_format", "MIXED"),
            ("binlog_row_image", "MINIMAL"),
            ("binlog_row_value_options", "PARTIAL_JSON"),
            ("binlog_checksum", "NONE"),
            ("gtid_mode", "OFF"),
            ("version", "8.0.11-TiDB-v8.5.0"),
            ("max_connections", "5"),
            ("max_user_connections", "5"),
        ] {
            let problem = only(&[(name, value)]);
            assert_eq!(problem.state, super::super::State::Fail, "{name}");
            let text = problem.reason.to_lowercase();
            assert!(text.contains(name) || text.contains("tidb"), "{problem:?}");
        }
    }

    #[test]
    fn what_may_go_well_is_a_warning() {
        for (name, value) in [
            ("server_id", "0"),
            ("version", "5.5.62"),
            ("threads_connected", "147"),
            ("binlog_expire_logs_seconds", "3000"),
        ] {
            let problem = only(&[(name, value)]);
            assert_eq!(problem.state, super::super::State::Warn, "{name}");
        }
        let old = only(&[("version", "5.5.5-10.0.38-MariaDB"), ("gtid_mode", "")]);
        assert!(old.reason.contains("older than 10.1"), "{old:?}");
    }

    #[test]
    fn a_copy_must_not_outlast_the_binlog() {
        let day = [("binlog_expire_logs_seconds", "86400")];
        let gib = 1 << 30;
        assert_eq!(variables(&day).check_retention(100 * gib, 0), None);
        let problem = variables(&day).check_retention(1000 * gib, 0).unwrap();
        for part in ["24 hours", "1024000 MiB", "28 hours"] {
            assert!(problem.reason.contains(part), "{problem:?}");
        }
        let off = ("binlog_expire_logs_seconds", "0");
        assert_eq!(variables(&[off]).check_retention(1 << 50, 0), None);
        let days = [off, ("expire_logs_days", "0.5")];
        let problem = variables(&days).check_retention(1000 * gib, 0).unwrap();
        assert!(problem.reason.contains("after 12 hours"), "{problem:?}");
        // 1 GiB in 1000 s: 2 GiB last for half an hour.
        let size = [
            off,
            ("max_binlog_total_size", "2147483648"),
            ("uptime", "1000"),
        ];
        let problem = variables(&size).check_retention(0, gib).unwrap();
        assert!(problem.reason.contains("33 minutes"), "{problem:?}");
        assert_eq!(variables(&size).check_retention(0, gib / 1000), None);
    }

    #[test]
    fn cascades_are_logged_by_newer_versions() {
        for (version, logs) in [("9.7.1", true), ("8.4.6", false), ("11.8.2-MariaDB", false)] {
            assert_eq!(variables(&[("version", version)]).logs_cascades(), logs);
        }
    }

    #[test]
    fn other_definers_want_a_privilege() {
        for (version, wanted) in [
            ("9.7.4", "SET_ANY_DEFINER"),
            ("8.4.0", "SET_ANY_DEFINER"),
            ("8.0.36", "SET_USER_ID"),
            ("5.7.40", "SUPER"),
            ("10.11.18-MariaDB", "SET USER"),
            ("10.4.1-MariaDB", "SUPER"),
            ("8.0.11-TiDB-v8.5.0", "SUPER"),
        ] {
            let found = variables(&[("version", version)]).definer_privilege();
            assert_eq!(found, wanted, "{version}");
        }
    }

    #[test]
    fn schemas_must_be_logged() {
        let logged = |(only, never): (&str, &str), any_case| Logged {
            only: only.to_owned(),
            never: never.to_owned(),
            any_case,
        };
        let check = |lists, schemas: &[&str]| {
            let found = check_logged(&logged(lists, false), schemas.iter().copied());
            found.map(|problem| problem.concerns)
        };
        assert_eq!(check(("", ""), &["a"]), None);
        assert_eq!(check(("a,b", ""), &["a", "b"]), None);
        assert_eq!(check(("a,b", ""), &["a", "c"]), Some(vec!["c".into()]));
        assert_eq!(check(("", "c,A"), &["a", "c"]), Some(vec!["c".into()]));
        assert!(check_logged(&logged(("", "A"), true), ["a"]).is_some());
    }
}
