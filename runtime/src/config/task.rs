//! Task files, and the subtasks that a task has, one for each source.

mod file;
mod resolve;

use dm_core::binlog::FileName;
use dm_core::control::document::Reader;
use dm_core::control::record::Field;
use dm_core::control::subtask::Mode;
use dm_core::control::{SourceConfig, SubtaskConfig};
use dm_core::error::{Code, Error, Result, code};

use self::file::{Instance, TaskFile};
use super::{decrypt, finish_yaml, invalid, parse_yaml, refuse_deprecated};

/// A task, as read from its file and checked.
#[derive(Clone, Debug)]
pub struct Task {
    file: String,
    content: TaskFile,
    mode: Mode,
}

impl Task {
    /// Reads a task file, as `dmctl start-task` takes it. `file` names it in errors; `key` decrypts
    /// the password.
    ///
    /// # Errors
    /// 20003 for what is not such YAML, and the code of class `config` that belongs to each missing
    /// or contradictory value, 20900 where there is none.
    pub fn parse(file: &str, text: &str, key: Option<&[u8]>) -> Result<Self> {
        let node = parse_yaml(file, text)?;
        let mut reader = Reader::default();
        let mut content = TaskFile::standard();
        content.read(&node, &mut reader);
        finish_yaml(file, &reader)?;

        let Some(mode) = Mode::parse(&content.task_mode) else {
            let message = format!("{file}: `task-mode` is `{}`", content.task_mode);
            return Err(Error::new(&code::CONFIG_INVALID_TASK_MODE, message));
        };
        content.adopt_old_names(file)?;
        if let Some(target) = &mut content.target_database {
            target.password.0 = decrypt(&target.password.0, key);
            target.session = target.session.take().map(|session| {
                session
                    .into_iter()
                    .map(|(name, value)| (name.to_lowercase(), value))
                    .collect()
            });
        }
        let task = Self {
            file: file.to_owned(),
            content,
            mode,
        };
        task.check()?;
        Ok(task)
    }

    /// The task's name.
    pub fn name(&self) -> &str {
        &self.content.name
    }

    /// The subtasks, in the order of the file, with defaults set and checked. `uuid` draws two
    /// texts for each that nobody has had before.
    ///
    /// What only a server knows is left open: the start position of an incremental task without
    /// `meta`, and the session variables that depend on what the target is.
    ///
    /// # Errors
    /// 20031 if the configuration of a source is not among `sources`, 20011 for a start that a
    /// source cannot find, and those of [`SubtaskConfig::adjust`].
    pub fn subtasks(
        &self,
        sources: &[SourceConfig],
        mut uuid: impl FnMut() -> String,
    ) -> Result<Vec<SubtaskConfig>> {
        let subtask = |instance: &Instance| {
            let id = &instance.source_id;
            let source = sources.iter().find(|source| source.source_id == *id);
            let Some(source) = source else {
                let message = format!("source {id} in deployment configuration not found");
                let known: Vec<_> = sources.iter().map(|it| &*it.source_id).collect();
                let advice = format!(
                    "Give the file of that source as well, or correct `source-id`: there is {}.",
                    known.join(", ")
                );
                let error = self.error(&code::CONFIG_SOURCE_ID_NOT_FOUND, message);
                return Err(error.with_workaround(advice));
            };
            self.check_start(instance, source)?;
            let mut config = self.resolve(instance, source)?;
            config.uuid = uuid();
            config.dump_uuid = uuid();
            config
                .adjust()
                .map_err(|error| error.annotate(&self.file))?;
            Ok(config)
        };
        self.content.mysql_instances.iter().map(subtask).collect()
    }

    /// The checks that need no source.
    fn check(&self) -> Result<()> {
        let content = &self.content;
        if content.name.is_empty() {
            let message = "must specify a unique task name";
            return Err(self.error(&code::CONFIG_NEED_UNIQUE_TASK_NAME, message));
        }
        let Some(target) = &content.target_database else {
            return Err(self.error(&code::CONFIG_NEED_TARGET_DB, "must specify target-database"));
        };
        for (key, value) in [("host", &target.host), ("user", &target.user)] {
            if value.is_empty() {
                let key = format!("target-database.{key}");
                return Err(invalid(&self.file, &key, "must be given"));
            }
        }
        if target.port == 0 {
            return Err(invalid(&self.file, "target-database.port", "must be given"));
        }
        self.check_deprecated()?;
        self.check_instances()?;
        self.check_names_used()?;
        self.check_expression_filters()?;
        // A source that fits every instance shows what is wrong with the subtasks already now.
        for instance in &content.mysql_instances {
            let mut config = self.resolve(instance, &SourceConfig::standard())?;
            config
                .adjust()
                .map_err(|error| error.annotate(&self.file))?;
            self.check_import(&config)?;
        }
        Ok(())
    }

    fn check_deprecated(&self) -> Result<()> {
        let content = &self.content;
        let mut instances = content.mysql_instances.iter();
        if !content.column_mappings.is_empty()
            || instances.any(|instance| !instance.column_mapping_rules.is_empty())
        {
            let message = "`column-mappings` and `column-mapping-rules` are no longer supported";
            return Err(self.error(&code::CONFIG_COLUMN_MAPPING_DEPRECATED, message));
        }
        let standard = TaskFile::standard();
        let interval = content.heartbeat_update_interval != standard.heartbeat_update_interval;
        let report = content.heartbeat_report_interval != standard.heartbeat_report_interval;
        refuse_deprecated(
            &self.file,
            &[
                ("enable-heartbeat", content.enable_heartbeat),
                ("heartbeat-update-interval", interval),
                ("heartbeat-report-interval", report),
                ("ansi-quotes", content.ansi_quotes),
                ("remove-meta", content.remove_meta),
            ],
        )
    }

    fn check_instances(&self) -> Result<()> {
        let instances = &self.content.mysql_instances;
        if instances.is_empty() {
            let message = "must specify at least one mysql-instances";
            return Err(self.error(&code::CONFIG_MYSQL_INSTS_AT_LEAST_ONE, message));
        }
        for (index, instance) in instances.iter().enumerate() {
            let id = &instance.source_id;
            if let Some(first) = instances[..index]
                .iter()
                .position(|other| other.source_id == *id)
            {
                let message =
                    format!("mysql-instance ({first}) and ({index}) have same source-id ({id})");
                return Err(self.error(&code::CONFIG_MYSQL_INST_SAME_SOURCE_ID, message));
            }
            let Some(meta) = &instance.meta else { continue };
            let key = format!("mysql-instances[{index}].meta");
            if self.mode != Mode::Incremental {
                let why = format!("contradicts `task-mode: {}`", self.content.task_mode);
                return Err(invalid(&self.file, &key, &why).with_workaround(
                    "Remove `meta`, since a full copy tells where the binlog goes on; or set \
                     `task-mode: incremental`, if the data is in the target already.",
                ));
            }
            if meta.binlog_name.is_empty() && meta.binlog_gtid.is_empty() {
                let message = format!("`{key}` must have `binlog-name` or `binlog-gtid`");
                return Err(self.error(&code::CONFIG_META_INVALID, message));
            }
            if !meta.binlog_name.is_empty() && FileName::parse(&meta.binlog_name).is_err() {
                let key = format!("{key}.binlog-name");
                return Err(invalid(
                    &self.file,
                    &key,
                    "must be a name such as binlog.000001",
                ));
            }
        }
        for item in &self.content.ignore_checking_items {
            if !file::CHECKING_ITEMS.contains(&item.as_str()) {
                let allowed = file::CHECKING_ITEMS.join(", ");
                let message = format!("checking item {item} is not supported; allowed: {allowed}");
                return Err(self.error(&code::CONFIG_CHECK_ITEM_NOT_SUPPORT, message));
            }
        }
        Ok(())
    }

    /// Without GTIDs only a position says where to start.
    fn check_start(&self, instance: &Instance, source: &SourceConfig) -> Result<()> {
        let Some(meta) = &instance.meta else {
            return Ok(());
        };
        if source.enable_gtid || !meta.binlog_name.is_empty() {
            return Ok(());
        }
        let id = &source.source_id;
        let message = format!(
            "`meta` of source {id} has `binlog-gtid` only, and the source has `enable-gtid: false`"
        );
        Err(self.error(&code::CONFIG_META_INVALID, message))
    }

    fn check_expression_filters(&self) -> Result<()> {
        for (name, filter) in &self.content.expression_filter {
            for (key, value) in [("schema", &filter.schema), ("table", &filter.table)] {
                if value.is_empty() {
                    let message = format!("expression-filter {name} has empty {key}");
                    return Err(self.error(&code::CONFIG_EXPR_FILTER_EMPTY_NAME, message));
                }
            }
            let updates = [&filter.update_old_value_expr, &filter.update_new_value_expr];
            let kinds = [
                !filter.insert_value_expr.is_empty(),
                updates.iter().any(|expression| !expression.is_empty()),
                !filter.delete_value_expr.is_empty(),
            ];
            let given = kinds.iter().filter(|given| **given).count();
            if given != 1 {
                let message = format!(
                    "expression filter must specify exactly one of (insert, update, delete) \
                     expressions, but {name} has {given}"
                );
                return Err(self.error(&code::CONFIG_EXPR_FILTER_MANY_EXPR, message));
            }
        }
        Ok(())
    }

    fn check_import(&self, config: &SubtaskConfig) -> Result<()> {
        if config.load.import_mode == "import-into" {
            let why = if !config.load.dir.contains("://") {
                "import-into needs a `dir` in an object store"
            } else if self.content.mysql_instances.len() != 1 {
                "import-into needs exactly one source"
            } else if !config.shard_mode.is_empty() {
                "import-into contradicts `shard-mode`"
            } else {
                return Ok(());
            };
            return Err(invalid(&self.file, "import-mode", why));
        }
        Ok(())
    }

    fn error(&self, code: &Code, message: impl AsRef<str>) -> Error {
        Error::new(code, format!("{}: {}", self.file, message.as_ref()))
    }
}

#[cfg(test)]
mod tests;
