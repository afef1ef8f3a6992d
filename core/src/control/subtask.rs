//! A subtask: one task on one source.

mod adjust;
mod units;

use alloc::format;
use alloc::string::String;
use alloc::vec::Vec;

pub use adjust::{SHADOW_TABLES, TRASH_TABLES};
pub use units::{ByteSize, DumpConfig, LoadConfig, SyncConfig, ValidatorConfig};

use super::SourceConfig;
use super::db::DbConfig;
use super::document::list;
use super::record::Present;
use super::rules::{BlockAllowList, ExpressionFilter, FilterRule, RouteRule};
use super::toml;
use crate::error::{Error, Result, code};
use crate::record;

record! {
    /// A subtask, with every key that the control store has.
    SubtaskConfig {
        /// An old way to ask for pessimistic shard mode.
        is_sharding: bool = "is-sharding",
        /// `pessimistic`, `optimistic` or empty: how DDLs of merged tables are agreed on.
        shard_mode: String = "shard-mode",
        /// Optimistic mode without the DDLs that may lose data.
        strict_optimistic_shard_mode: bool = "strict-optimistic-shard-mode",
        /// Follow the tables of gh-ost and pt-osc.
        online_ddl: bool = "online-ddl",
        /// Regular expressions of the tables that they build.
        shadow_table_rules: Option<Vec<String>> = "shadow-table-rules",
        /// Regular expressions of the tables that they leave behind.
        trash_table_rules: Option<Vec<String>> = "trash-table-rules",
        /// An old way to ask for `online-ddl`: `pt`, `gh-ost` or empty.
        online_ddl_scheme: String = "online-ddl-scheme",
        /// Letter case counts in patterns.
        case_sensitive: bool = "case-sensitive",
        /// `loose` or `strict`: whether CREATE statements get the source's default collation.
        collation_compatible: String = "collation_compatible",
        /// Name of the task.
        name: String = "name",
        /// See [`Mode`].
        mode: String = "mode",
        /// Checks that the master passed over.
        ignore_checking_items: Option<Vec<String>> = "ignore-checking-items",
        /// Id of the source.
        source_id: String = "source-id",
        /// Of the source, see [`SubtaskConfig::bind`].
        server_id: u32 = "server-id",
        /// Of the source, see [`SubtaskConfig::bind`].
        flavor: String = "flavor",
        /// Schema of the meta tables at the target.
        meta_schema: String = "meta-schema",
        /// Deprecated.
        heartbeat_update_interval: i64 = "heartbeat-update-interval",
        /// Deprecated.
        heartbeat_report_interval: i64 = "heartbeat-report-interval",
        /// Deprecated, always off.
        enable_heartbeat: bool = "enable-heartbeat",
        /// Where to start without a checkpoint.
        meta: Option<Meta> = "meta",
        /// Name or offset; empty for that of the target.
        timezone: String = "timezone",
        /// Of the source, see [`SubtaskConfig::bind`].
        relay_dir: String = "relay-dir",
        /// Read the relay log instead of the source.
        use_relay: bool = "use-relay",
        /// The source.
        from: DbConfig = "from",
        /// The target.
        to: DbConfig = "to",
        /// Where tables go.
        route_rules: Option<Vec<RouteRule>> = "route-rules",
        /// Changes that are left out.
        filter_rules: Option<Vec<FilterRule>> = "filter-rules",
        /// No longer possible.
        mapping_rule: Option<Vec<Present>> = "mapping-rule",
        /// Rows that are left out.
        expression_filter: Option<Vec<ExpressionFilter>> = "expression-filter",
        /// An old name of `block-allow-list`.
        black_white_list: Option<BlockAllowList> = "black-white-list",
        /// Tables that are replicated.
        block_allow_list: Option<BlockAllowList> = "block-allow-list",
        /// Of the dump unit.
        dump: DumpConfig = flat,
        /// Of the load unit.
        load: LoadConfig = flat,
        /// Of the sync unit.
        sync: SyncConfig = flat,
        /// Of the validator.
        validator: ValidatorConfig = "ValidatorCfg",
        /// Never used.
        log_level: String = "log-level",
        /// Never used.
        log_file: String = "log-file",
        /// Never used.
        log_format: String = "log-format",
        /// Never used.
        log_rotate: String = "log-rotate",
        /// Never used.
        pprof_addr: String = "pprof-addr",
        /// Never used.
        status_addr: String = "status-addr",
        /// Remove the dump files once they are loaded.
        clean_dump_file: bool = "clean-dump-file",
        /// Deprecated.
        ansi_quotes: bool = "ansi-quotes",
        /// Drawn by the master for each start of the task.
        uuid: String = "uuid",
        /// The same for the dump.
        dump_uuid: String = "dump-uuid",
        /// What may change.
        experimental: ExperimentalConfig = "experimental",
        /// Its presence makes the status tell how much was read of the binlog.
        io_total_bytes: Option<Present> = "io-total-bytes",
        /// Its presence makes the status tell how much the dump has read.
        dump_io_total_bytes: Option<Present> = "dump-io-total-bytes",
    }
}

record! {
    /// A place in the source's binlog.
    Meta {
        /// File.
        binlog_name: String = "binlog-name",
        /// Offset in the file.
        binlog_pos: u32 = "binlog-pos",
        /// GTID set.
        binlog_gtid: String = "binlog-gtid",
    }
}

record! {
    /// Settings that may change.
    ExperimentalConfig {
        /// Flush checkpoints beside the replication.
        async_checkpoint_flush: bool = "async-checkpoint-flush",
    }
}

/// Which units a task has, one after the other.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Mode {
    /// Dump, load, sync.
    All,
    /// Dump, load.
    Full,
    /// Sync.
    Incremental,
    /// Dump.
    Dump,
    /// Load.
    Load,
    /// Load, sync.
    LoadSync,
}

impl Mode {
    /// Reads the name of a mode.
    pub fn parse(name: &str) -> Option<Self> {
        Some(match name {
            "all" => Self::All,
            "full" => Self::Full,
            "incremental" => Self::Incremental,
            "dump" => Self::Dump,
            "load" => Self::Load,
            "load&sync" => Self::LoadSync,
            _ => return None,
        })
    }

    /// Whether it has a dump unit.
    pub const fn has_dump(self) -> bool {
        matches!(self, Self::All | Self::Full | Self::Dump)
    }

    /// Whether it has a load unit.
    pub const fn has_load(self) -> bool {
        matches!(self, Self::All | Self::Full | Self::Load | Self::LoadSync)
    }

    /// Whether it has a sync unit.
    pub const fn has_sync(self) -> bool {
        matches!(self, Self::All | Self::Incremental | Self::LoadSync)
    }
}

impl SubtaskConfig {
    /// Reads a stored value, and adjusts and checks it.
    ///
    /// # Errors
    /// Those of [`SubtaskConfig::from_toml`] and [`SubtaskConfig::adjust`].
    pub fn parse(value: &[u8]) -> Result<Self> {
        let mut config = Self::from_toml(&String::from_utf8_lossy(value))?;
        config.adjust()?;
        Ok(config)
    }

    /// Reads TOML. Unknown keys are passed over, because a newer master may write them.
    ///
    /// # Errors
    /// 20002 for what is not TOML or has the wrong type.
    pub fn from_toml(text: &str) -> Result<Self> {
        let refuse = |problems: String| {
            Error::new(
                &code::CONFIG_TOML_TRANSFORM,
                format!("subtask config: {problems}"),
            )
        };
        let mut config = Self::default();
        let reader =
            toml::read(text, &mut config).map_err(|problem| refuse(format!("{problem}")))?;
        if reader.problems.is_empty() {
            Ok(config)
        } else {
            Err(refuse(list(&reader.problems)))
        }
    }

    /// Writes TOML, as the master stores it.
    pub fn to_toml(&self) -> String {
        toml::write_record(self)
    }

    /// The list of replicated tables, under its new or its old name.
    pub fn tables(&self) -> Option<&BlockAllowList> {
        self.block_allow_list
            .as_ref()
            .or(self.black_white_list.as_ref())
    }

    /// Takes over what belongs to the source, before the subtask is used. `relay` says whether the
    /// relay log of the source is there to be read. Doing it again changes nothing.
    ///
    /// A filter of the source counts unless the task has one for the same patterns.
    pub fn bind(&mut self, source: &SourceConfig, relay: bool) {
        self.from.clone_from(&source.from);
        self.flavor.clone_from(&source.flavor);
        self.server_id = source.server_id;
        self.relay_dir.clone_from(&source.relay_dir);
        self.sync.enable_gtid = source.enable_gtid;
        self.use_relay = relay;
        self.case_sensitive |= source.case_sensitive;
        let rules = self.filter_rules.get_or_insert_default();
        for filter in source.filters.iter().flatten() {
            let same = |rule: &FilterRule| {
                rule.schema_pattern == filter.schema_pattern
                    && rule.table_pattern == filter.table_pattern
            };
            if !rules.iter().any(same) {
                rules.push(filter.clone());
            }
        }
    }
}

#[cfg(test)]
mod tests;
