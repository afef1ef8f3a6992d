//! A source: a MySQL or MariaDB whose binlog is replicated.

use alloc::format;
use alloc::string::{String, ToString};
use alloc::vec::Vec;
use core::time::Duration;

use super::db::DbConfig;
use super::document::list;
use super::record::Present;
use super::rules::FilterRule;
use super::toml;
use crate::binlog::{FileName, Flavor, GtidSet};
use crate::error::{Error, Result, code};
use crate::record;

/// The greatest length of a source's id, in bytes.
pub(super) const SOURCE_ID_LEN_MAX: usize = 32;

record! {
    /// A source, with every key that the control store and the source file have.
    SourceConfig {
        /// The source is in use.
        enable: bool = "enable",
        /// Replicate by GTID.
        enable_gtid: bool = "enable-gtid",
        /// Deprecated, always off.
        auto_fix_gtid: bool = "auto-fix-gtid",
        /// Where relay logs go.
        relay_dir: String = "relay-dir",
        /// Deprecated.
        meta_dir: String = "meta-dir",
        /// `mysql` or `mariadb`; empty until a server has been asked.
        flavor: String = "flavor",
        /// Deprecated.
        charset: String = "charset",
        /// Relay is on wherever the source is migrated.
        enable_relay: bool = "enable-relay",
        /// Where relay starts; empty for the checkpoints of the tasks or the newest file.
        relay_binlog_name: String = "relay-binlog-name",
        /// The same as a GTID set.
        relay_binlog_gtid: String = "relay-binlog-gtid",
        /// Id of the source.
        source_id: String = "source-id",
        /// Id as a replica; 0 until one has been drawn.
        server_id: u32 = "server-id",
        /// Letter case counts in patterns.
        case_sensitive: bool = "case-sensitive",
        /// The database.
        from: DbConfig = "from",
        /// When relay logs are removed.
        purge: PurgeConfig = "purge",
        /// How paused tasks are resumed.
        checker: CheckerConfig = "checker",
        /// Deprecated.
        tracer: Option<Present> = "tracer",
        /// Filters for every task.
        filters: Option<Vec<FilterRule>> = "filters",
    }
}

record! {
    /// When relay logs are removed.
    PurgeConfig {
        /// Pause between two looks, in seconds.
        interval: i64 = "interval",
        /// Age at which a file goes, in hours; 0 for never.
        expires: i64 = "expires",
        /// Free space below which files go, in GiB.
        remain_space: i64 = "remain-space",
    }
}

record! {
    /// How tasks that an error paused are resumed.
    CheckerConfig {
        /// They are resumed at all.
        check_enable: bool = "check-enable",
        /// A running task steps the pause down once in this time.
        backoff_rollback: Duration = "backoff-rollback",
        /// The longest pause between two attempts.
        backoff_max: Duration = "backoff-max",
        /// Pause between two looks; always 5 s.
        check_interval: Duration = "check-interval",
        /// The shortest pause between two attempts; always 1 s.
        backoff_min: Duration = "backoff-min",
        /// Pauses are shortened at random; always so.
        backoff_jitter: bool = "backoff-jitter",
        /// By how much a pause grows; always 2.
        backoff_factor: f64 = "backoff-factor",
    }
}

impl SourceConfig {
    /// A source with default values.
    pub fn standard() -> Self {
        Self {
            enable: true,
            purge: PurgeConfig {
                interval: 60 * 60,
                expires: 0,
                remain_space: 15,
            },
            checker: CheckerConfig {
                check_enable: true,
                backoff_rollback: Duration::from_secs(5 * 60),
                backoff_max: Duration::from_secs(5 * 60),
                check_interval: Duration::from_secs(5),
                backoff_min: Duration::from_secs(1),
                backoff_jitter: true,
                backoff_factor: 2.0,
            },
            ..Self::default()
        }
    }

    /// Reads the stored value of the source `id`, and adjusts and checks it.
    ///
    /// # Errors
    /// 20035, with the error of [`SourceConfig::from_toml`] or [`SourceConfig::adjust`] as cause.
    pub fn parse(id: &str, value: &[u8]) -> Result<Self> {
        let read = || {
            let mut config = Self::from_toml(&String::from_utf8_lossy(value))?;
            config.adjust()?;
            Ok(config)
        };
        read().map_err(|error: Error| {
            let message = format!("incapable config of {id} from etcd");
            Error::new(&code::CONFIG_ETCD_PARSE, message).with_cause(error.to_string())
        })
    }

    /// Reads TOML.
    ///
    /// # Errors
    /// 40004 for unknown keys, 20002 for what is not TOML or has the wrong type.
    pub fn from_toml(text: &str) -> Result<Self> {
        let mut config = Self::standard();
        let reader = toml::read(text, &mut config).map_err(|problem| {
            Error::new(
                &code::CONFIG_TOML_TRANSFORM,
                format!("source config: {problem}"),
            )
        })?;
        if !reader.unknown.is_empty() {
            let unknown = list(&reader.unknown);
            let message =
                format!("worker config contains unknown configuration options: {unknown}");
            return Err(Error::new(&code::WORKER_UNDECODED_ITEM_FROM_FILE, message));
        }
        if !reader.problems.is_empty() {
            let message = format!("source config: {}", list(&reader.problems));
            return Err(Error::new(&code::CONFIG_TOML_TRANSFORM, message));
        }
        Ok(config)
    }

    /// Writes TOML, as the master stores it.
    pub fn to_toml(&self) -> String {
        toml::write_record(self)
    }

    /// Sets what is not for the operator to choose, and checks the rest.
    ///
    /// # Errors
    /// 40005 and 40006 for the id, 11010 for the flavor, 40007 and 11009 for the start of relay,
    /// 20043 for the checker, 20037 for filters.
    pub fn adjust(&mut self) -> Result<()> {
        let standard = Self::standard().checker;
        self.auto_fix_gtid = false;
        self.checker = CheckerConfig {
            check_enable: self.checker.check_enable,
            backoff_rollback: self.checker.backoff_rollback,
            backoff_max: self.checker.backoff_max,
            ..standard
        };

        check_source_id(&self.source_id)?;
        if !matches!(self.flavor.as_str(), "" | "mysql" | "mariadb") {
            let message = format!("flavor {} not supported", self.flavor);
            return Err(Error::new(&code::NOT_SUPPORTED_FLAVOR, message));
        }
        if !self.relay_binlog_name.is_empty() && FileName::parse(&self.relay_binlog_name).is_err() {
            let message = format!("relay-binlog-name {} not valid", self.relay_binlog_name);
            return Err(Error::new(&code::WORKER_RELAY_BINLOG_NAME, message)
                .with_workaround("Give a name such as mysql-bin.000001, or leave it out."));
        }
        self.check_relay_gtids()?;
        let CheckerConfig {
            backoff_max,
            backoff_min,
            ..
        } = self.checker;
        if backoff_max < backoff_min {
            let message = format!(
                "`backoff-max` value {backoff_max:?} is less than `backoff-min` value \
                 {backoff_min:?}"
            );
            return Err(Error::new(&code::CONFIG_CHECKER_MAX_TOO_SMALL, message));
        }
        for filter in self.filters.iter_mut().flatten() {
            filter.adjust(self.case_sensitive)?;
        }
        Ok(())
    }
}

impl SourceConfig {
    /// Checks the GTID set at which relay starts, by the flavor if that is known already.
    fn check_relay_gtids(&self) -> Result<()> {
        let flavors = match self.flavor.as_str() {
            "mysql" => &[Flavor::Mysql][..],
            "mariadb" => &[Flavor::Mariadb],
            _ => &[Flavor::Mysql, Flavor::Mariadb],
        };
        check_gtids("relay-binlog-gtid", &self.relay_binlog_gtid, flavors)
    }
}

/// Fails with 11009 unless a text is a GTID set of one of the flavors.
pub(super) fn check_gtids(key: &str, text: &str, flavors: &[Flavor]) -> Result<()> {
    let mut parsed = flavors.iter().map(|flavor| GtidSet::parse(*flavor, text));
    if text.is_empty() || parsed.any(|set| set.is_ok()) {
        return Ok(());
    }
    let message = format!("parse GTID {text} of `{key}`");
    Err(Error::new(&code::PARSE_GTID, message)
        .with_workaround("Give a GTID set as the server prints it."))
}

fn check_source_id(id: &str) -> Result<()> {
    if id.is_empty() {
        let message = "dm-worker should bind a non-empty source ID which represents a \
                       MySQL/MariaDB instance or a replica group";
        return Err(Error::new(&code::WORKER_NEED_SOURCE_ID, message));
    }
    if id.len() > SOURCE_ID_LEN_MAX {
        let message = format!(
            "the length of source ID {id} is more than max allowed value {SOURCE_ID_LEN_MAX}"
        );
        return Err(Error::new(&code::WORKER_TOO_LONG_SOURCE_ID, message));
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use alloc::vec;

    use super::*;

    const STORED: &str = r#"enable = true
enable-gtid = true
auto-fix-gtid = false
relay-dir = "relay-dir"
meta-dir = ""
flavor = "mysql"
charset = ""
enable-relay = false
relay-binlog-name = ""
relay-binlog-gtid = ""
source-id = "mysql-01"
server-id = 429527460
case-sensitive = false

[from]
  host = "10.0.0.1"
  port = 3306
  user = "dm"
  password = "up-secret"
  max-allowed-packet = 0
  [from.session]
    "a a" = "2"
    time_zone = "+08:00"
  [from.security]
    ssl-ca = ""
    ssl-cert = ""
    ssl-key = ""
    cert-allowed-cn = ["a", "b"]
    ssl-ca-bytes = [45, 45]
    ssl-ca-base64 = ""
    ssl-key-base64 = ""
    ssl-cert-base64 = ""

[purge]
  interval = 3600
  expires = 0
  remain-space = 15

[checker]
  check-enable = true
  backoff-rollback = "5m0s"
  backoff-max = "5m0s"
  check-interval = "5s"
  backoff-min = "1s"
  backoff-jitter = true
  backoff-factor = 2.0

[tracer]

[[filters]]
  schema-pattern = "shop"
  table-pattern = "audit*"
  events = ["truncate table", "drop table"]
  sql-pattern = []
  action = "Ignore"
"#;

    #[test]
    fn a_stored_source_survives_the_round_trip() {
        let config = SourceConfig::parse("mysql-01", STORED.as_bytes()).expect("valid");
        assert_eq!(config.to_toml(), STORED);
        let security = config.from.security.expect("given");
        assert_eq!(security.cert_allowed_cn, Some(vec!["a".into(), "b".into()]));
        assert_eq!(security.ssl_ca_bytes, Some(vec![45, 45]));
        assert_eq!(security.ssl_cert_bytes, None);
    }

    #[test]
    fn absent_keys_keep_their_defaults() {
        let config = SourceConfig::from_toml("Source-ID = 'x'").expect("valid");
        assert_eq!(
            config,
            SourceConfig {
                source_id: "x".into(),
                ..SourceConfig::standard()
            }
        );
    }

    #[test]
    fn what_cannot_be_right_is_refused_by_code() {
        let parse = |text: &str| {
            let mut config = SourceConfig::from_toml(text)?;
            config.adjust().map(|()| config)
        };
        for (text, number) in [
            ("", 40005),
            ("source-id = 'aaaaaaaaaabbbbbbbbbbcccccccccc123'", 40006),
            ("source-id = 'a'\nflavor = 'oracle'", 11010),
            ("source-id = 'a'\nrelay-binlog-name = 'bin'", 40007),
            ("source-id = 'a'\nrelay-binlog-name = 'bin.x1'", 40007),
            ("source-id = 'a'\nrelay-binlog-gtid = 'x'", 11009),
            (
                "source-id = 'a'\nflavor = 'mysql'\nrelay-binlog-gtid = '0-1-1'",
                11009,
            ),
            ("source-id = 'a'\nchecker.backoff-max = '1ms'", 20043),
            ("source-id = 'a'\n[[filters]]\naction = 'Do'", 20037),
            ("source-id = 'a'\nsorce = 1\n[from]\nhots = 'x'", 40004),
            ("source-id = 1", 20002),
            ("source-id = 'a'\nserver-id = -1", 20002),
            ("source-id = 'a'\nsource-id = 'b'", 20002),
            ("source-id = ", 20002),
        ] {
            let error = parse(text).expect_err(text);
            assert_eq!(error.code, number, "{text}: {error}");
        }
        let error = parse("source-id = 'a'\n[from]\nhots = 'x'").expect_err("unknown");
        assert!(
            error
                .message
                .ends_with("`from.hots` in line 3: unknown key; did you mean `host`?")
        );
        let error = SourceConfig::parse("a", b"x = 1").expect_err("unknown");
        assert_eq!(error.message, "incapable config of a from etcd");
        assert!(error.is(&code::CONFIG_ETCD_PARSE) && error.cause.contains("code=40004"));
    }
}
