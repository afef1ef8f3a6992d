//! Defaults and checks of a subtask, the same for one read from a file and from the control store.

use alloc::format;
use alloc::string::{String, ToString};
use alloc::vec;
use alloc::vec::Vec;
use core::time::Duration;

use regex::Regex;

use super::{ByteSize, LoadConfig, Mode, SubtaskConfig, SyncConfig, ValidatorConfig};
use crate::binlog::Flavor;
use crate::control::check::{count, invalid, one_of, positive};
use crate::control::duration;
use crate::control::source::{SOURCE_ID_LEN_MAX, check_gtids};
use crate::error::{Error, Result, code};

/// What `shadow-table-rules` is where it is not given.
pub const SHADOW_TABLES: &str = "^_(.+)_(?:new|gho)$";
/// What `trash-table-rules` is where it is not given.
pub const TRASH_TABLES: &str = "^_(.+)_(?:ghc|del|old)$";

/// Each worker of the sync unit has a connection to the target.
const WORKERS_MAX: i64 = 1024;
/// A batch is one transaction.
const BATCH_MAX: i64 = 1_000_000;
/// How long the name of a table may be, in characters.
const TABLE_NAME_MAX: usize = 64;
/// The longest ending of the tables in the meta schema that are named after the task.
const META_TABLE_SUFFIX: &str = "_syncer_checkpoint";

impl SubtaskConfig {
    /// Sets what is not given and checks the rest. Doing it again changes nothing.
    ///
    /// # Errors
    /// A code of class `config` that tells which key is wrong. What is valid but cannot be done yet
    /// is no error here.
    pub fn adjust(&mut self) -> Result<()> {
        self.adjust_identity()?;
        self.adjust_sharding()?;
        self.adjust_online_ddl()?;
        self.load.adjust()?;
        if let Some(mode) = Mode::parse(&self.mode) {
            self.adjust_directories(mode);
        }
        self.sync.adjust()?;
        self.adjust_time_zone()?;
        self.adjust_rules()?;
        self.validator.adjust()
    }

    fn adjust_identity(&mut self) -> Result<()> {
        if self.name.is_empty() {
            return Err(Error::new(
                &code::CONFIG_TASK_NAME_EMPTY,
                "task name should not be empty",
            ));
        }
        let name_max = TABLE_NAME_MAX - META_TABLE_SUFFIX.len();
        if self.name.chars().count() > name_max {
            let why = format!(
                "is too long: it must have at most {name_max} characters, since tables are named \
                 {}{META_TABLE_SUFFIX}",
                self.name
            );
            return Err(invalid("name", &why));
        }
        if self.source_id.is_empty() {
            return Err(Error::new(
                &code::CONFIG_EMPTY_SOURCE_ID,
                "empty source-id not valid",
            ));
        }
        if self.source_id.len() > SOURCE_ID_LEN_MAX {
            let message = "too long source-id not valid";
            return Err(Error::new(&code::CONFIG_TOO_LONG_SOURCE_ID, message));
        }
        if let Some(meta) = &self.meta {
            check_gtids(
                "binlog-gtid",
                &meta.binlog_gtid,
                &[Flavor::Mysql, Flavor::Mariadb],
            )?;
        }
        if self.meta_schema.is_empty() {
            self.meta_schema = "dm_meta".into();
        }
        if !matches!(self.collation_compatible.as_str(), "" | "loose" | "strict") {
            let message = format!(
                "collation compatible {} not supported",
                self.collation_compatible
            );
            return Err(Error::new(
                &code::CONFIG_COLLATION_COMPATIBLE_NOT_SUPPORT,
                message,
            ));
        }
        Ok(())
    }

    fn adjust_sharding(&mut self) -> Result<()> {
        match self.shard_mode.as_str() {
            "" if self.is_sharding => self.shard_mode = "pessimistic".into(),
            "" | "pessimistic" | "optimistic" => {}
            other => {
                let message = format!("shard mode {other} not supported");
                return Err(Error::new(&code::CONFIG_SHARD_MODE_NOT_SUPPORT, message));
            }
        }
        if self.strict_optimistic_shard_mode && self.shard_mode != "optimistic" {
            return Err(invalid(
                "strict-optimistic-shard-mode",
                "true needs `shard-mode: optimistic`",
            ));
        }
        if self.mapping_rule.iter().flatten().next().is_some() {
            let message = "column mappings are no longer supported";
            return Err(Error::new(&code::CONFIG_COLUMN_MAPPING_DEPRECATED, message));
        }
        Ok(())
    }

    fn adjust_online_ddl(&mut self) -> Result<()> {
        match self.online_ddl_scheme.as_str() {
            "" => {}
            "pt" | "gh-ost" => self.online_ddl = true,
            other => {
                let message = format!("online scheme {other} not supported");
                return Err(Error::new(&code::CONFIG_ONLINE_SCHEME_NOT_SUPPORT, message));
            }
        }
        adjust_table_rules(
            "shadow-table-rules",
            &mut self.shadow_table_rules,
            SHADOW_TABLES,
        )?;
        adjust_table_rules(
            "trash-table-rules",
            &mut self.trash_table_rules,
            TRASH_TABLES,
        )
    }

    /// Gives every task its own directories. Other modes read what somebody else has put there.
    fn adjust_directories(&mut self, mode: Mode) {
        let load = &mut self.load;
        if matches!(mode, Mode::All | Mode::Full) {
            let suffix = if scheme(&load.dir) == "s3" {
                format!("/{}.{}", self.name, self.source_id)
            } else {
                format!(".{}", self.name)
            };
            load.dir = with_suffix(&load.dir, &suffix);
        }
        if mode.has_load() && load.sorting_dir_physical.is_empty() {
            load.sorting_dir_physical = match scheme(&load.dir) {
                "" | "file" | "local" => format!("{}.sorting", load.dir),
                _ => format!("./sorting.{}", escape_path(&self.name)),
            };
        }
    }

    fn adjust_time_zone(&mut self) -> Result<()> {
        if !is_time_zone(&self.timezone) {
            let message = format!("invalid timezone string: {}", self.timezone);
            return Err(Error::new(&code::CONFIG_INVALID_TIMEZONE, message));
        }
        self.from.set_time_zone(&self.timezone);
        self.to.set_time_zone(&self.timezone);
        Ok(())
    }

    fn adjust_rules(&mut self) -> Result<()> {
        let case_sensitive = self.case_sensitive;
        for rule in self.route_rules.iter_mut().flatten() {
            rule.adjust(case_sensitive)?;
        }
        for list in [&mut self.black_white_list, &mut self.block_allow_list]
            .into_iter()
            .flatten()
        {
            list.adjust(case_sensitive)?;
        }
        for rule in self.filter_rules.iter_mut().flatten() {
            rule.adjust(case_sensitive)?;
        }
        let keys_off = |value: &str| matches!(value, "0" | "off" | "OFF" | "false");
        let checks_keys = self.to.session().any(|(name, value)| {
            name.eq_ignore_ascii_case("foreign_key_checks") && !keys_off(value)
        });
        if checks_keys {
            return Err(invalid(
                "foreign_key_checks",
                "can't be on in the target's session: changes are joined and applied in parallel, \
                 so that a child may come before its parent; the source has checked them already",
            ));
        }
        Ok(())
    }
}

impl SyncConfig {
    fn adjust(&mut self) -> Result<()> {
        let standard = Self::standard();
        or_default(&mut self.queue_size, standard.queue_size);
        or_default(
            &mut self.checkpoint_flush_interval,
            standard.checkpoint_flush_interval,
        );
        if self.safe_mode_duration.is_empty() {
            let seconds = self.checkpoint_flush_interval.saturating_mul(2);
            self.safe_mode_duration = format!("{seconds}s");
        }
        let Some(duration) = duration::parse(&self.safe_mode_duration) else {
            return Err(invalid(
                "safe-mode-duration",
                "must be a duration such as 60s",
            ));
        };
        if self.safe_mode && duration == Duration::ZERO {
            return Err(invalid(
                "safe-mode-duration",
                "0 contradicts `safe-mode: true`",
            ));
        }
        count("worker-count", self.worker_count, WORKERS_MAX)?;
        count("batch", self.batch, BATCH_MAX)?;
        positive("queue-size", self.queue_size)?;
        positive("checkpoint-flush-interval", self.checkpoint_flush_interval)
    }
}

impl LoadConfig {
    fn adjust(&mut self) -> Result<()> {
        let standard = Self::standard();
        or_default(&mut self.pool_size, standard.pool_size);
        if matches!(self.import_mode.as_str(), "sql" | "loader") {
            self.import_mode.clear();
        }
        for (value, default) in [
            (&mut self.dir, standard.dir),
            (&mut self.import_mode, standard.import_mode),
            (
                &mut self.on_duplicate_logical,
                standard.on_duplicate_logical,
            ),
            (
                &mut self.on_duplicate_physical,
                standard.on_duplicate_physical,
            ),
            (&mut self.checksum_physical, standard.checksum_physical),
            (&mut self.analyze, standard.analyze),
        ] {
            if value.is_empty() {
                *value = default;
            }
        }
        if !["logical", "physical", "import-into"].contains(&self.import_mode.as_str()) {
            let message = format!("invalid load mode '{}'", self.import_mode);
            return Err(Error::new(&code::CONFIG_INVALID_LOAD_MODE, message));
        }
        if !["replace", "error", "ignore"].contains(&self.on_duplicate_logical.as_str()) {
            let message = format!("invalid load on-duplicate '{}'", self.on_duplicate_logical);
            return Err(Error::new(
                &code::CONFIG_INVALID_LOAD_DUPLICATE_RESOLUTION,
                message,
            ));
        }
        let levels: &[&str] = &["required", "optional", "off"];
        one_of(
            "on-duplicate-physical",
            &self.on_duplicate_physical,
            &["none", "manual"],
        )?;
        one_of("checksum-physical", &self.checksum_physical, levels)?;
        one_of("analyze", &self.analyze, levels)?;
        positive("pool-size", self.pool_size)
    }
}

impl ValidatorConfig {
    fn adjust(&mut self) -> Result<()> {
        let standard = Self::standard();
        if self.mode.is_empty() {
            self.mode = standard.mode;
        }
        if !["none", "fast", "full"].contains(&self.mode.as_str()) {
            let message = format!("invalid validation mode `{}`", self.mode);
            return Err(Error::new(&code::CONFIG_VALIDATION_MODE, message));
        }
        or_default(&mut self.worker_count, standard.worker_count);
        or_default(&mut self.batch_query_size, standard.batch_query_size);
        or_default(
            &mut self.max_pending_row_count,
            standard.max_pending_row_count,
        );
        or_default(&mut self.validate_interval, standard.validate_interval);
        or_default(&mut self.check_interval, standard.check_interval);
        or_default(&mut self.row_error_delay, standard.row_error_delay);
        or_default(&mut self.meta_flush_interval, standard.meta_flush_interval);
        if self.max_pending_row_size.is_empty() {
            self.max_pending_row_size = standard.max_pending_row_size;
        }
        if ByteSize::parse(&self.max_pending_row_size).is_none() {
            return Err(invalid(
                "max-pending-row-size",
                "must be a size such as 500m",
            ));
        }
        positive("worker-count of the validator", self.worker_count)?;
        positive("batch-query-size", self.batch_query_size)?;
        positive("max-pending-row-count", self.max_pending_row_count)
    }
}

fn or_default<T: Default + PartialEq>(value: &mut T, default: T) {
    if *value == T::default() {
        *value = default;
    }
}

/// Anchors the rules at both ends and checks them.
fn adjust_table_rules(key: &str, rules: &mut Option<Vec<String>>, default: &str) -> Result<()> {
    if rules.iter().flatten().next().is_none() {
        *rules = Some(vec![default.to_string()]);
        return Ok(());
    }
    // The standard rule is in nearly every task, and compiling is not cheap.
    for rule in rules.iter_mut().flatten().filter(|rule| *rule != default) {
        if !rule.starts_with('^') {
            rule.insert(0, '^');
        }
        if !rule.ends_with('$') {
            rule.push('$');
        }
        let reason = match Regex::new(rule) {
            // The whole match counts as a group.
            Ok(regex) if regex.captures_len() == 2 => continue,
            Ok(_) => "must contain exactly one capture group".to_string(),
            Err(error) => error.to_string(),
        };
        let message = format!("config '{key}' regex pattern '{rule}' invalid, reason: {reason}");
        return Err(Error::new(&code::CONFIG_ONLINE_DDL_INVALID_REGEX, message));
    }
    Ok(())
}

/// The scheme of a URI; empty for a path.
fn scheme(uri: &str) -> &str {
    uri.split_once("://").map_or("", |(scheme, _)| scheme)
}

/// Appends `suffix` to the path of a URI or to a path, unless it is there.
fn with_suffix(uri: &str, suffix: &str) -> String {
    let query = if scheme(uri).is_empty() {
        uri.len()
    } else {
        uri.find('?').unwrap_or(uri.len())
    };
    let (path, query) = uri.split_at(query);
    let path = path.trim_end_matches('/');
    if path.ends_with(suffix) {
        uri.to_string()
    } else {
        format!("{path}{suffix}{query}")
    }
}

/// Percent-encodes a text as one segment of a path.
fn escape_path(text: &str) -> String {
    let mut out = String::new();
    for byte in text.bytes() {
        if byte.is_ascii_alphanumeric() || b"-_.~$&+=:@".contains(&byte) {
            out.push(char::from(byte));
        } else {
            out.push_str(&format!("%{byte:02X}"));
        }
    }
    out
}

/// Whether this is nothing, an offset from -12:59 to +14:00, or can be the name of a zone. Which
/// names there are, the target knows.
fn is_time_zone(text: &str) -> bool {
    if text.is_empty() {
        return true;
    }
    if let Some(digits) = text.strip_prefix(['+', '-']) {
        let number = |part: &str| {
            (part.len() == 2)
                .then(|| part.parse::<u32>().ok())
                .flatten()
        };
        let Some((Some(hours), Some(minutes))) = digits
            .split_once(':')
            .map(|(hours, minutes)| (number(hours), number(minutes)))
        else {
            return false;
        };
        let greatest = if text.starts_with('+') {
            14 * 60
        } else {
            12 * 60 + 59
        };
        return minutes < 60 && hours * 60 + minutes <= greatest;
    }
    let reserved = ["system", "local"]
        .iter()
        .any(|name| text.eq_ignore_ascii_case(name));
    let letters = |byte: u8| byte.is_ascii_alphanumeric() || b"/_+-".contains(&byte);
    !reserved && text.starts_with(|c: char| c.is_ascii_alphabetic()) && text.bytes().all(letters)
}
