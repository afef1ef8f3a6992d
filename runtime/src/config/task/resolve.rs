//! From names to what they stand for.

use std::collections::{BTreeMap, BTreeSet};

use dm_core::control::record::Present;
use dm_core::control::subtask::{ByteSize, DumpConfig, LoadConfig, SyncConfig};
use dm_core::control::{SourceConfig, SubtaskConfig};
use dm_core::error::{Code, Result, code};

use super::file::{Instance, Validator};
use super::{Task, refuse_deprecated};
use crate::config::invalid;

/// A section of the file whose entries instances name.
struct Section {
    /// The error of a name that is not there.
    code: &'static Code,
    /// What names it in an instance.
    key: &'static str,
    /// The section.
    name: &'static str,
}

/// Declares sections.
macro_rules! sections {
    ($($id:ident = $code:ident, $key:literal, $name:literal;)*) => {
        $(static $id: Section = Section { code: &code::$code, key: $key, name: $name };)*
    };
}

sections! {
    ROUTES = CONFIG_ROUTE_RULE_NOT_FOUND, "route-rules", "routes";
    FILTERS = CONFIG_FILTER_RULE_NOT_FOUND, "filter-rules", "filters";
    EXPRESSIONS = CONFIG_EXPR_FILTER_NOT_FOUND, "expression-filters", "expression-filter";
    LISTS = CONFIG_BA_LIST_NOT_FOUND, "list", "block allow list";
    DUMPERS = CONFIG_MYDUMPER_CFG_NOT_FOUND, "mydumper config", "mydumpers";
    LOADERS = CONFIG_LOADER_CFG_NOT_FOUND, "loader config", "loaders";
    SYNCERS = CONFIG_SYNCER_CFG_NOT_FOUND, "syncer config", "syncer";
    VALIDATORS = CONTINUOUS_VALIDATOR_CFG_NOT_FOUND, "validator config", "validators";
}

impl Task {
    /// The subtask of one instance, without what is drawn at random.
    pub(super) fn resolve(
        &self,
        instance: &Instance,
        source: &SourceConfig,
    ) -> Result<SubtaskConfig> {
        let content = &self.content;
        let index = self.index_of(instance);
        let sharding = if content.is_sharding && content.shard_mode.is_empty() {
            "pessimistic".to_owned()
        } else {
            content.shard_mode.clone()
        };
        let tables = match instance.block_allow_list.as_str() {
            "" => None,
            name => Some(self.named(&LISTS, &content.block_allow_list, index, name)?),
        };
        let validator = match instance.validator_config_name.as_str() {
            "" => Validator::default(),
            name => self.named(&VALIDATORS, &content.validators, index, name)?,
        };
        let expressions = &instance.expression_filters;
        Ok(SubtaskConfig {
            is_sharding: content.is_sharding,
            shard_mode: sharding,
            strict_optimistic_shard_mode: content.strict_optimistic_shard_mode,
            online_ddl: content.online_ddl,
            shadow_table_rules: Some(content.shadow_table_rules.clone()),
            trash_table_rules: Some(content.trash_table_rules.clone()),
            case_sensitive: content.case_sensitive,
            collation_compatible: content.collation_compatible.clone(),
            name: content.name.clone(),
            mode: content.task_mode.clone(),
            ignore_checking_items: none_if_empty(&content.ignore_checking_items),
            source_id: instance.source_id.clone(),
            meta_schema: content.meta_schema.clone(),
            heartbeat_update_interval: content.heartbeat_update_interval,
            heartbeat_report_interval: content.heartbeat_report_interval,
            meta: instance.meta.clone(),
            timezone: content.timezone.clone(),
            from: source.from.clone(),
            to: content.target_database.clone().unwrap_or_default(),
            route_rules: Some(self.rules(
                &ROUTES,
                &content.routes,
                index,
                &instance.route_rules,
            )?),
            filter_rules: Some(self.rules(
                &FILTERS,
                &content.filters,
                index,
                &instance.filter_rules,
            )?),
            mapping_rule: Some(Vec::new()),
            expression_filter: Some(self.rules(
                &EXPRESSIONS,
                &content.expression_filter,
                index,
                expressions,
            )?),
            block_allow_list: tables,
            dump: self.dump(instance, index)?,
            load: self.load(instance, index)?,
            sync: self.sync(instance, index)?,
            validator: validator.0,
            clean_dump_file: content.clean_dump_file,
            experimental: content.experimental.clone(),
            io_total_bytes: Some(Present {}),
            dump_io_total_bytes: Some(Present {}),
            ..SubtaskConfig::default()
        })
    }

    fn index_of(&self, instance: &Instance) -> usize {
        let same = |other: &Instance| other.source_id == instance.source_id;
        self.content
            .mysql_instances
            .iter()
            .position(same)
            .unwrap_or_default()
    }

    fn named<T: Clone>(
        &self,
        section: &Section,
        all: &BTreeMap<String, T>,
        index: usize,
        name: &str,
    ) -> Result<T> {
        all.get(name).cloned().ok_or_else(|| {
            let Section {
                code,
                key,
                name: section,
            } = section;
            let message = format!("mysql-instance({index})'s {key} {name} not exist in {section}");
            self.error(code, message)
        })
    }

    fn rules<T: Clone>(
        &self,
        section: &Section,
        all: &BTreeMap<String, T>,
        index: usize,
        names: &[String],
    ) -> Result<Vec<T>> {
        let mut seen = BTreeSet::new();
        if let Some(name) = names.iter().find(|name| !seen.insert(*name)) {
            let message = format!(
                "the following mysql configs have duplicate items, please remove the duplicates: \
                 {} {name}",
                section.key
            );
            return Err(self.error(&code::CONFIG_DUPLICATE_CFG_ITEM, message));
        }
        names
            .iter()
            .map(|name| self.named(section, all, index, name))
            .collect()
    }

    /// The settings of a unit: given under a name, in place, or not at all.
    fn unit<T: Clone + Default>(
        &self,
        section: &Section,
        all: &BTreeMap<String, T>,
        index: usize,
        (name, inline): (&str, &Option<T>),
        conflict: &Code,
    ) -> Result<T> {
        match (name, inline) {
            ("", inline) => Ok(inline.clone().unwrap_or_default()),
            (name, None) => self.named(section, all, index, name),
            (_, Some(_)) => {
                let unit = section.key.trim_end_matches(" config");
                let message = format!("{unit}-config-name and {unit} should only specify one");
                Err(self.error(conflict, message))
            }
        }
    }

    fn dump(&self, instance: &Instance, index: usize) -> Result<DumpConfig> {
        let given = (instance.mydumper_config_name.as_str(), &instance.mydumper);
        let conflict = &code::CONFIG_MYDUMPER_CFG_CONFLICT;
        let mut dump = self
            .unit(&DUMPERS, &self.content.mydumpers, index, given, conflict)?
            .0;
        if instance.mydumper_thread != 0 {
            dump.threads = instance.mydumper_thread;
        }
        if dump.chunk_filesize.is_empty() {
            dump.chunk_filesize = DumpConfig::standard().chunk_filesize;
        }
        if ByteSize::parse(&dump.chunk_filesize).is_none() {
            let message = format!("invalid `chunk-filesize` {}", dump.chunk_filesize);
            return Err(self.error(&code::CONFIG_INVALID_CHUNK_FILE_SIZE, message));
        }
        if self.mode.has_dump() && dump.mydumper_path.is_empty() {
            let message = format!(
                "mysql-instance({index})'s mydumper-path must specify a valid path to mydumper \
                 binary when task-mode is all or full"
            );
            return Err(self.error(&code::CONFIG_MYDUMPER_PATH_NOT_VALID, message));
        }
        if dump.threads <= 0 {
            return Err(invalid(
                &self.file,
                "mydumpers: threads",
                "must be greater than 0",
            ));
        }
        refuse_deprecated(&self.file, &[("mydumpers: skip-tz-utc", !dump.skip_tz_utc)])?;
        Ok(dump)
    }

    fn load(&self, instance: &Instance, index: usize) -> Result<LoadConfig> {
        let given = (instance.loader_config_name.as_str(), &instance.loader);
        let conflict = &code::CONFIG_LOADER_CFG_CONFLICT;
        let mut load = self
            .unit(&LOADERS, &self.content.loaders, index, given, conflict)?
            .0;
        if instance.loader_thread != 0 {
            load.pool_size = instance.loader_thread;
        }
        let on_duplicate = !load.on_duplicate.is_empty();
        refuse_deprecated(&self.file, &[("loaders: on-duplicate", on_duplicate)])?;
        Ok(load)
    }

    fn sync(&self, instance: &Instance, index: usize) -> Result<SyncConfig> {
        let given = (instance.syncer_config_name.as_str(), &instance.syncer);
        let conflict = &code::CONFIG_SYNCER_CFG_CONFLICT;
        let mut sync = self
            .unit(&SYNCERS, &self.content.syncers, index, given, conflict)?
            .0;
        if instance.syncer_thread != 0 {
            sync.worker_count = instance.syncer_thread;
        }
        if sync.enable_gtid {
            let why = "is decided by the source; set `enable-gtid` in the source file";
            return Err(invalid(&self.file, "syncers: enable-gtid", why));
        }
        refuse_deprecated(
            &self.file,
            &[
                ("syncers: meta-file", !sync.meta_file.is_empty()),
                ("syncers: max-retry", sync.max_retry != 0),
                ("syncers: auto-fix-gtid", sync.auto_fix_gtid),
                ("syncers: disable-detect", sync.disable_detect),
                ("syncers: enable-ansi-quotes", sync.enable_ansi_quotes),
            ],
        )?;
        Ok(sync)
    }

    /// What is given under a name has to be used by that name.
    pub(super) fn check_names_used(&self) -> Result<()> {
        let content = &self.content;
        let instances = &content.mysql_instances;
        let list = |names: fn(&Instance) -> &[String]| -> BTreeSet<&str> {
            instances
                .iter()
                .flat_map(names)
                .map(String::as_str)
                .collect()
        };
        let one = |name: fn(&Instance) -> &String| -> BTreeSet<&str> {
            instances
                .iter()
                .map(|instance| name(instance).as_str())
                .collect()
        };
        let mut unused = Vec::new();
        let mut look = |kind: &str, given: Vec<&String>, used: BTreeSet<&str>| {
            let rest = given
                .into_iter()
                .filter(|name| !used.contains(name.as_str()));
            unused.extend(rest.map(|name| format!("{kind}.{name}")));
        };
        look(
            "routes",
            content.routes.keys().collect(),
            list(|i| &i.route_rules),
        );
        look(
            "filters",
            content.filters.keys().collect(),
            list(|i| &i.filter_rules),
        );
        look(
            "expression-filter",
            content.expression_filter.keys().collect(),
            list(|i| &i.expression_filters),
        );
        look(
            "mydumpers",
            content.mydumpers.keys().collect(),
            one(|i| &i.mydumper_config_name),
        );
        look(
            "loaders",
            content.loaders.keys().collect(),
            one(|i| &i.loader_config_name),
        );
        look(
            "syncers",
            content.syncers.keys().collect(),
            one(|i| &i.syncer_config_name),
        );
        look(
            "validators",
            content.validators.keys().collect(),
            one(|i| &i.validator_config_name),
        );
        if unused.is_empty() {
            return Ok(());
        }
        let message = format!(
            "The configurations as following {unused:?} are set in global configuration but \
             instances don't use them"
        );
        Err(self.error(&code::CONFIG_GLOBAL_CONFIGS_UNUSED, message))
    }
}

fn none_if_empty(list: &[String]) -> Option<Vec<String>> {
    (!list.is_empty()).then(|| list.to_vec())
}
