//! The keys of a task file.

use std::collections::BTreeMap;

use dm_core::control::db::DbConfig;
use dm_core::control::document::{Node, Reader, Value};
use dm_core::control::record::{Field, Keys, Present, Record};
use dm_core::control::rules::{BlockAllowList, ExpressionFilter, FilterRule, RouteRule};
use dm_core::control::subtask::{
    DumpConfig, ExperimentalConfig, LoadConfig, Meta, SHADOW_TABLES, SyncConfig, TRASH_TABLES,
    ValidatorConfig,
};
use dm_core::control::toml::Item;
use dm_core::error::{Error, Result, code};
use dm_core::record;

use crate::config::{invalid, refuse_keys};

/// Checks before the start of a task that can be passed over.
pub(super) const CHECKING_ITEMS: &[&str] = &[
    "all",
    "version",
    "dump_privilege",
    "replication_privilege",
    "target_privilege",
    "conn_number",
    "server_id",
    "binlog_enable",
    "binlog_format",
    "binlog_row_image",
    "binlog_db",
    "binlog_retention",
    "online_ddl",
    "meta_position",
    "dump_files",
    "table_schema",
    "schema_of_shard_tables",
    "auto_increment_ID",
    "target_tables",
    "unsupported",
    "empty_region",
    "region_distribution",
    "downstream_version",
    "free_space",
    "downstream_mutex_features",
    "downstream_table_empty",
    "primary_key",
];

record! {
    /// A task file.
    TaskFile {
        name: String = "name",
        task_mode: String = "task-mode",
        is_sharding: bool = "is-sharding",
        shard_mode: String = "shard-mode",
        strict_optimistic_shard_mode: bool = "strict-optimistic-shard-mode",
        ignore_checking_items: Vec<String> = "ignore-checking-items",
        meta_schema: String = "meta-schema",
        enable_heartbeat: bool = "enable-heartbeat",
        heartbeat_update_interval: i64 = "heartbeat-update-interval",
        heartbeat_report_interval: i64 = "heartbeat-report-interval",
        timezone: String = "timezone",
        case_sensitive: bool = "case-sensitive",
        collation_compatible: String = "collation_compatible",
        target_database: Option<DbConfig> = "target-database",
        mysql_instances: Vec<Instance> = "mysql-instances",
        online_ddl: bool = "online-ddl",
        shadow_table_rules: Vec<String> = "shadow-table-rules",
        trash_table_rules: Vec<String> = "trash-table-rules",
        online_ddl_scheme: String = "online-ddl-scheme",
        routes: BTreeMap<String, RouteRule> = "routes",
        filters: BTreeMap<String, FilterRule> = "filters",
        column_mappings: BTreeMap<String, Present> = "column-mappings",
        expression_filter: BTreeMap<String, ExpressionFilter> = "expression-filter",
        black_white_list: BTreeMap<String, BlockAllowList> = "black-white-list",
        block_allow_list: BTreeMap<String, BlockAllowList> = "block-allow-list",
        mydumpers: BTreeMap<String, Dumper> = "mydumpers",
        loaders: BTreeMap<String, Loader> = "loaders",
        syncers: BTreeMap<String, Syncer> = "syncers",
        validators: BTreeMap<String, Validator> = "validators",
        clean_dump_file: bool = "clean-dump-file",
        ansi_quotes: bool = "ansi-quotes",
        remove_meta: bool = "remove-meta",
        experimental: ExperimentalConfig = "experimental",
    }
}

record! {
    /// A source of a task.
    Instance {
        source_id: String = "source-id",
        meta: Option<Meta> = "meta",
        filter_rules: Vec<String> = "filter-rules",
        column_mapping_rules: Vec<String> = "column-mapping-rules",
        route_rules: Vec<String> = "route-rules",
        expression_filters: Vec<String> = "expression-filters",
        black_white_list: String = "black-white-list",
        block_allow_list: String = "block-allow-list",
        mydumper_config_name: String = "mydumper-config-name",
        mydumper: Option<Dumper> = "mydumper",
        mydumper_thread: i64 = "mydumper-thread",
        loader_config_name: String = "loader-config-name",
        loader: Option<Loader> = "loader",
        loader_thread: i64 = "loader-thread",
        syncer_config_name: String = "syncer-config-name",
        syncer: Option<Syncer> = "syncer",
        syncer_thread: i64 = "syncer-thread",
        validator_config_name: String = "validator-config-name",
    }
}

impl TaskFile {
    /// A task with default values.
    pub(super) fn standard() -> Self {
        Self {
            meta_schema: "dm_meta".into(),
            heartbeat_update_interval: 1,
            heartbeat_report_interval: 10,
            collation_compatible: "loose".into(),
            online_ddl: true,
            clean_dump_file: true,
            ..Self::default()
        }
    }

    /// Takes over what is given under the old name of a key.
    pub(super) fn adopt_old_names(&mut self, file: &str) -> Result<()> {
        if !self.black_white_list.is_empty() {
            if !self.block_allow_list.is_empty() {
                let why = "is the old name of `block-allow-list`; give only one of them";
                return Err(invalid(file, "black-white-list", why));
            }
            self.block_allow_list = std::mem::take(&mut self.black_white_list);
        }
        for instance in &mut self.mysql_instances {
            let old = std::mem::take(&mut instance.black_white_list);
            match (old.is_empty(), instance.block_allow_list.is_empty()) {
                (true, _) => {}
                (false, true) => instance.block_allow_list = old,
                (false, false) => {
                    let why = "is the old name of `block-allow-list`; give only one of them";
                    return Err(invalid(file, "mysql-instances: black-white-list", why));
                }
            }
        }
        if !matches!(self.online_ddl_scheme.as_str(), "" | "pt" | "gh-ost") {
            let message = format!(
                "{file}: online scheme {} not supported",
                self.online_ddl_scheme
            );
            return Err(Error::new(&code::CONFIG_ONLINE_SCHEME_NOT_SUPPORT, message));
        }
        self.refuse_unused_online_ddl(file)
    }

    /// What says how to treat the tables of online schema changes contradicts leaving them alone.
    fn refuse_unused_online_ddl(&self, file: &str) -> Result<()> {
        let own = |rules: &[String], default: &str| !rules.is_empty() && rules != [default];
        let given = [
            ("online-ddl-scheme", !self.online_ddl_scheme.is_empty()),
            (
                "shadow-table-rules",
                own(&self.shadow_table_rules, SHADOW_TABLES),
            ),
            (
                "trash-table-rules",
                own(&self.trash_table_rules, TRASH_TABLES),
            ),
        ];
        match given.into_iter().find(|(_, given)| *given) {
            Some((key, _)) if !self.online_ddl => {
                Err(invalid(file, key, "contradicts `online-ddl: false`"))
            }
            _ => Ok(()),
        }
    }
}

/// Declares the settings of a unit as a task file has them: absent keys have defaults that are not
/// zero, and some keys of the control store are not for files.
macro_rules! unit {
    ($name:ident($config:ident), $refused:expr) => {
        #[doc = concat!("[`", stringify!($config), "`] in a task file.")]
        #[derive(Clone, Debug, PartialEq)]
        pub(super) struct $name(pub(super) $config);

        impl Default for $name {
            fn default() -> Self {
                Self($config::standard())
            }
        }

        impl Field for $name {
            fn read(&mut self, node: &Node, reader: &mut Reader) {
                let refused: &[&str] = $refused;
                let mut allowed = Keys::new();
                $config::keys(&mut allowed);
                allowed.retain(|key| !refused.contains(key));
                refuse_keys(node, refused, &allowed, reader);
                // Nothing at all is an entry with defaults.
                if node.value != Value::Null {
                    self.0.read(node, reader);
                }
            }

            fn write(&self) -> Option<Item> {
                self.0.write()
            }
        }
    };
}

unit!(Dumper(DumpConfig), &[]);
unit!(Loader(LoadConfig), &["security"]);
unit!(Syncer(SyncConfig), &[]);
unit!(Validator(ValidatorConfig), &["start-time"]);
