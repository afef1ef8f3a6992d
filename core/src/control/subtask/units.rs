//! The parts of a subtask that belong to one unit.

use alloc::string::{String, ToString};
use core::time::Duration;

use crate::control::db::Security;
use crate::control::document::{Node, Reader, Value};
use crate::control::record::Field;
use crate::control::toml::Item;
use crate::record;

record! {
    /// How the source is dumped.
    DumpConfig {
        /// Of a tool that is no longer used.
        mydumper_path: String = "mydumper-path",
        /// Connections.
        threads: i64 = "threads",
        /// Size of files, in MiB or with a unit.
        chunk_filesize: String = "chunk-filesize",
        /// Size of statements, in bytes; 0 for the default.
        statement_size: u64 = "statement-size",
        /// Rows of a chunk; 0 for the default.
        rows: u64 = "rows",
        /// A condition on all tables.
        where_: String = "where",
        /// Deprecated.
        skip_tz_utc: bool = "skip-tz-utc",
        /// More arguments, as on a command line.
        extra_args: String = "extra-args",
    }
}

record! {
    /// How the dump is loaded.
    LoadConfig {
        /// Files at a time.
        pool_size: i64 = "pool-size",
        /// Where the dump files are, a path or URI.
        dir: String = "dir",
        /// Where a physical import sorts.
        sorting_dir_physical: String = "sorting-dir-physical",
        /// `logical`, `physical` or `import-into`.
        import_mode: String = "import-mode",
        /// Deprecated.
        on_duplicate: String = "on-duplicate",
        /// `replace`, `error` or `ignore`.
        on_duplicate_logical: String = "on-duplicate-logical",
        /// `none` or `manual`.
        on_duplicate_physical: String = "on-duplicate-physical",
        /// Disk space of a physical import, in bytes; 0 for no limit.
        disk_quota_physical: ByteSize = "disk-quota-physical",
        /// `required`, `optional` or `off`.
        checksum_physical: String = "checksum-physical",
        /// `required`, `optional` or `off`.
        analyze: String = "analyze",
        /// Ranges at a time.
        range_concurrency: i64 = "range-concurrency",
        /// How pairs are compressed.
        compress_kv_pairs: String = "compress-kv-pairs",
        /// Address of the placement driver.
        pd_addr: String = "pd-addr",
        /// TLS towards the target's cluster.
        security: Option<Security> = "security",
    }
}

record! {
    /// How the binlog is replicated.
    SyncConfig {
        /// Deprecated.
        meta_file: String = "meta-file",
        /// Connections to the target.
        worker_count: i64 = "worker-count",
        /// Changes of a transaction at the target.
        batch: i64 = "batch",
        /// Changes that wait, for each connection.
        queue_size: i64 = "queue-size",
        /// Pause between two checkpoints, in seconds.
        checkpoint_flush_interval: i64 = "checkpoint-flush-interval",
        /// Merge changes of one row.
        compact: bool = "compact",
        /// Several rows in one statement.
        multiple_rows: bool = "multiple-rows",
        /// Deprecated.
        max_retry: i64 = "max-retry",
        /// Deprecated.
        auto_fix_gtid: bool = "auto-fix-gtid",
        /// Of the source, see [`SubtaskConfig::bind`](super::SubtaskConfig::bind).
        enable_gtid: bool = "enable-gtid",
        /// Deprecated.
        disable_detect: bool = "disable-detect",
        /// Changes may come again without harm: REPLACE for INSERT, and so on.
        safe_mode: bool = "safe-mode",
        /// How long that is so after a start, as a Go duration.
        safe_mode_duration: String = "safe-mode-duration",
        /// Deprecated.
        enable_ansi_quotes: bool = "enable-ansi-quotes",
    }
}

record! {
    /// How the data is validated.
    ValidatorConfig {
        /// `none`, `fast` or `full`.
        mode: String = "mode",
        /// Connections to the target.
        worker_count: i64 = "worker-count",
        /// Pause between two validations.
        validate_interval: Duration = "validate-interval",
        /// Pause between two looks at the sync unit.
        check_interval: Duration = "check-interval",
        /// Age at which a difference is an error.
        row_error_delay: Duration = "row-error-delay",
        /// Pause between two checkpoints.
        meta_flush_interval: Duration = "meta-flush-interval",
        /// Rows of a query.
        batch_query_size: i64 = "batch-query-size",
        /// Size of the rows that may wait, with a unit.
        max_pending_row_size: String = "max-pending-row-size",
        /// Number of the rows that may wait.
        max_pending_row_count: i64 = "max-pending-row-count",
        /// Validate changes from this time on.
        start_time: String = "start-time",
    }
}

impl DumpConfig {
    /// What holds unless a task says otherwise.
    pub fn standard() -> Self {
        Self {
            mydumper_path: "./bin/mydumper".into(),
            threads: 4,
            chunk_filesize: "64".into(),
            skip_tz_utc: true,
            ..Self::default()
        }
    }
}

impl LoadConfig {
    /// What holds unless a task says otherwise.
    pub fn standard() -> Self {
        Self {
            pool_size: 16,
            dir: "./dumped_data".into(),
            import_mode: "logical".into(),
            on_duplicate_logical: "replace".into(),
            on_duplicate_physical: "none".into(),
            checksum_physical: "required".into(),
            analyze: "optional".into(),
            ..Self::default()
        }
    }
}

impl SyncConfig {
    /// What holds unless a task says otherwise.
    pub fn standard() -> Self {
        Self {
            worker_count: 16,
            batch: 100,
            queue_size: 1024,
            checkpoint_flush_interval: 30,
            safe_mode_duration: "60s".into(),
            ..Self::default()
        }
    }
}

impl ValidatorConfig {
    /// What holds unless a task says otherwise.
    pub fn standard() -> Self {
        Self {
            mode: "none".into(),
            worker_count: 4,
            validate_interval: Duration::from_secs(10),
            check_interval: Duration::from_secs(5),
            row_error_delay: Duration::from_secs(30 * 60),
            meta_flush_interval: Duration::from_secs(5 * 60),
            batch_query_size: 100,
            max_pending_row_size: "500m".into(),
            max_pending_row_count: i64::from(i32::MAX),
            start_time: String::new(),
        }
    }
}

/// A number of bytes; read from a number or a text such as `80G`, written as a number.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct ByteSize(pub i64);

impl ByteSize {
    /// Reads a number with an optional unit: `k`, `m`, `g`, `t` or `p`, each 1024 times the one
    /// before, with `b` or `ib` behind it or not.
    pub fn parse(text: &str) -> Option<Self> {
        let text = text.trim().to_ascii_lowercase();
        let end = text
            .find(|c: char| !c.is_ascii_digit() && c != '.')
            .unwrap_or(text.len());
        let (number, unit) = text.split_at(end);
        let unit = unit.trim();
        let unit = unit
            .strip_suffix("ib")
            .or_else(|| unit.strip_suffix('b'))
            .unwrap_or(unit);
        let exponent = ["", "k", "m", "g", "t", "p"]
            .iter()
            .position(|name| *name == unit)?;
        let factor = 1_i64 << (10 * exponent);
        match number.parse::<i64>() {
            Ok(number) => number.checked_mul(factor).map(Self),
            // A broken byte is dropped.
            Err(_) => {
                let number = number.parse::<f64>().ok()? * factor as f64;
                (number < i64::MAX as f64).then_some(Self(number as i64))
            }
        }
    }
}

impl Field for ByteSize {
    fn read(&mut self, node: &Node, reader: &mut Reader) {
        let size = match &node.value {
            Value::Null => return,
            Value::Integer(number) => i64::try_from(*number).ok().map(Self),
            Value::Text(text) | Value::Plain(text) => Self::parse(text),
            _ => None,
        };
        match size {
            Some(size) => *self = size,
            None => reader.expected("a number of bytes, or a text such as 80G", node),
        }
    }

    fn write(&self) -> Option<Item> {
        Some(Item::Scalar(self.0.to_string()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes() {
        for (text, bytes) in [
            ("0", 0),
            ("64", 64),
            ("80G", 80 << 30),
            ("500m", 500 << 20),
            ("1.5 KiB", 1536),
            ("1kb", 1024),
        ] {
            assert_eq!(ByteSize::parse(text), Some(ByteSize(bytes)), "{text}");
        }
        for text in [
            "",
            "m",
            "1x",
            "-1",
            "1.1.1",
            "99999999999999999999",
            "9000000p",
        ] {
            assert_eq!(ByteSize::parse(text), None, "{text}");
        }
    }
}
