//! What a source must be like before its binlog can be applied.

use std::collections::BTreeMap;

use dm_core::{
    binlog::Flavor,
    control::SourceConfig,
    error::{Code, Error, Result, Scope, code},
};

use super::flavor_of;
use crate::{
    mysql::conn::Row,
    ports::{Logged, SourceEnd, SourceFacts},
};

/// Asks for everything that is looked at; a server leaves out what it does not know.
pub(super) const VARIABLES: &str = "SHOW GLOBAL VARIABLES WHERE Variable_name IN (\
    'binlog_checksum', 'binlog_format', 'binlog_row_image', 'binlog_row_value_options', \
    'gtid_domain_id', 'gtid_mode', 'log_bin', 'log_replica_updates', 'log_slave_updates', \
    'lower_case_table_names', 'server_id', 'server_uuid', 'sql_mode', 'version')";

/// The source's global variables.
pub(super) struct Variables(BTreeMap<String, String>);

impl Variables {
    pub(super) fn new(rows: Vec<Row>) -> Self {
        let pairs = rows.into_iter().filter_map(|row| {
            let mut row = row.into_iter().flatten();
            Some((row.next()?, row.next()?))
        });
        Self(pairs.collect())
    }

    fn get(&self, name: &str) -> &str {
        self.0.get(name).map_or("", String::as_str)
    }

    /// Whether a variable has a value, or is not known: then the server has no choice.
    fn is(&self, name: &str, value: &str) -> bool {
        let found = self.0.get(name);
        found.is_none_or(|found| found.eq_ignore_ascii_case(value))
    }

    /// Whether the binlog has what the server itself replicates.
    pub(super) fn logs_replicated(&self) -> bool {
        let names = ["log_replica_updates", "log_slave_updates"];
        names.into_iter().all(|name| self.is(name, "ON"))
    }

    /// Refuses a source without a binlog.
    pub(super) fn check(&self, config: &SourceConfig) -> Result<Flavor> {
        let flavor = self.flavor(config)?;
        if !self.is("log_bin", "ON") {
            let text = "upstream returns an empty result for SHOW MASTER STATUS";
            return Err(Error::new(&code::NO_MASTER_STATUS, text)
                .with_cause("the binary log is off")
                .with_workaround("Switch the source's binary log on (`log_bin`)."));
        }
        Ok(flavor)
    }

    /// Refuses what would make following a binlog impossible or lossy.
    pub(super) fn check_binlog(&self, config: &SourceConfig, flavor: Flavor) -> Result<()> {
        let wants = [
            ("binlog_format", "ROW", &code::TASK_CHECK_SYNC_CONFIG_ERROR),
            ("binlog_row_image", "FULL", &code::BINLOG_NOT_LOG_COLUMN),
            (
                "binlog_checksum",
                "CRC32",
                &code::TASK_CHECK_SYNC_CONFIG_ERROR,
            ),
        ];
        for (name, value, code) in wants {
            if !self.is(name, value) {
                return Err(self.wrong(code, name, value));
            }
        }
        if !self.get("binlog_row_value_options").is_empty() {
            let code = &code::TASK_CHECK_SYNC_CONFIG_ERROR;
            return Err(self.wrong(code, "binlog_row_value_options", "''"));
        }
        let gtid_mode = self.get("gtid_mode");
        if config.enable_gtid && flavor == Flavor::Mysql && gtid_mode != "ON" {
            let text = format!("the source has `gtid_mode` = {gtid_mode} instead of ON");
            return Err(Error::new(&code::TASK_CHECK_SYNC_CONFIG_ERROR, text)
                .with_scope(Scope::Upstream)
                .with_workaround(
                    "Set `gtid_mode` of the source to ON, or `enable-gtid` of the source to false.",
                ));
        }
        Ok(())
    }

    fn flavor(&self, config: &SourceConfig) -> Result<Flavor> {
        let version = self.get("version");
        if version.to_ascii_lowercase().contains("tidb") {
            let text = "a TiDB server cannot be a source: it writes no binlog";
            return Err(Error::new(&code::NOT_SUPPORTED_FLAVOR, text)
                .with_scope(Scope::Upstream)
                .with_workaround("Use TiCDC to replicate from TiDB."));
        }
        let flavor = flavor_of(version);
        if !config.flavor.is_empty() && config.flavor != flavor.to_string() {
            let text = format!(
                "flavor {} not supported: the source is a {flavor} server, version {version}",
                config.flavor
            );
            return Err(
                Error::new(&code::NOT_SUPPORTED_FLAVOR, text).with_workaround(format!(
                    "Set `flavor` in the source configuration to {flavor}."
                )),
            );
        }
        Ok(flavor)
    }

    fn wrong(&self, code: &Code, name: &str, value: &str) -> Error {
        let text = format!(
            "the source has `{name}` = {} instead of {value}",
            self.get(name)
        );
        Error::new(code, text)
            .with_scope(Scope::Upstream)
            .with_workaround(format!(
                "Run SET GLOBAL {name} = {value} on the source, keep it so in its configuration \
                 file, and let its clients reconnect: open sessions keep the old value."
            ))
    }

    pub(super) fn into_facts(
        mut self,
        flavor: Flavor,
        (only, never): (String, String),
        obstacle: Option<Error>,
        end: SourceEnd,
    ) -> SourceFacts {
        let server = self.server(flavor);
        let any_case = !["", "0"].contains(&self.get("lower_case_table_names"));
        let mut take = |name: &str| self.0.remove(name).unwrap_or_default();
        SourceFacts {
            flavor,
            version: take("version"),
            sql_mode: take("sql_mode"),
            lower_case_table_names: take("lower_case_table_names").parse().unwrap_or_default(),
            logged: Logged {
                only,
                never,
                any_case,
            },
            obstacle,
            server,
            end,
        }
    }

    /// What the server is called in relay logs.
    pub(super) fn server(&self, flavor: Flavor) -> String {
        match flavor {
            Flavor::Mysql => self.get("server_uuid").to_owned(),
            Flavor::Mariadb => {
                format!("{}-{}", self.get("gtid_domain_id"), self.get("server_id"))
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn variables(changes: &[(&str, &str)]) -> Variables {
        let good = [
            ("binlog_checksum", "CRC32"),
            ("binlog_format", "ROW"),
            ("binlog_row_image", "FULL"),
            ("binlog_row_value_options", ""),
            ("gtid_mode", "ON"),
            ("log_bin", "ON"),
            ("version", "9.7.1"),
        ];
        let all = good.iter().chain(changes);
        Variables(all.map(|&(k, v)| (k.to_owned(), v.to_owned())).collect())
    }

    #[test]
    fn lossy_settings_are_refused_by_name() {
        let config = SourceConfig {
            enable_gtid: true,
            ..SourceConfig::default()
        };
        let both = |changes: &[(&str, &str)]| {
            let variables = variables(changes);
            let flavor = variables.check(&config)?;
            variables.check_binlog(&config, flavor)
        };
        assert_eq!(both(&[]), Ok(()));
        let cases = [
            ("binlog_format", "MIXED"),
            ("binlog_row_image", "MINIMAL"),
            ("binlog_row_image", "NOBLOB"),
            ("binlog_row_image", "FULL_NODUP"),
            ("binlog_row_value_options", "PARTIAL_JSON"),
            ("binlog_checksum", "NONE"),
            ("gtid_mode", "OFF_PERMISSIVE"),
        ];
        for (name, value) in cases {
            let error = both(&[(name, value)]).unwrap_err();
            assert!(variables(&[(name, value)]).check(&config).is_ok());
            assert!(
                error.message.contains(name) && error.message.contains(value),
                "{error}"
            );
            assert_eq!(error.scope, Scope::Upstream);
        }
        let error = variables(&[("log_bin", "OFF")]).check(&config).unwrap_err();
        assert!(error.is(&code::NO_MASTER_STATUS));
    }

    #[test]
    fn the_server_must_be_of_the_configured_kind() {
        let mut config = SourceConfig::default();
        let mariadb = [("version", "10.11.19-MariaDB-log"), ("gtid_mode", "")];
        assert_eq!(variables(&mariadb).check(&config), Ok(Flavor::Mariadb));
        config.flavor = "mysql".to_owned();
        assert!(variables(&mariadb).check(&config).is_err());
        assert_eq!(variables(&[]).check(&config), Ok(Flavor::Mysql));
        let tidb = [("version", "8.0.11-TiDB-v8.5.0")];
        assert!(variables(&tidb).check(&config).is_err());
    }
}
