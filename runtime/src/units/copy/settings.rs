//! What a task says about how its tables are copied.

use std::mem;

use dm_core::{
    control::{
        SubtaskConfig,
        check::invalid,
        subtask::{ByteSize, DumpConfig, LoadConfig, Mode},
    },
    error::{Error, Result, code},
    full::Consistency,
    sync::schema::{Quoted, Table},
};

/// Connections to each side, at most.
const THREADS_MAX: usize = 64;
/// Size of a dump file, unless a task says otherwise.
const DUMP_FILE_MIB: i64 = 64;
/// Size of a statement in it, unless a task says otherwise.
const STATEMENT_BYTES: u64 = 1_000_000;
/// Statements are read as a whole.
const STATEMENT_BYTES_MAX: u64 = 64 << 20;

/// How tables are copied.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Settings {
    /// What keeps writers off while a snapshot is taken.
    pub(crate) consistency: Consistency,
    /// Connections that read; where no files are between, as many write.
    pub(crate) threads: usize,
    /// Connections that write what is in files.
    pub(crate) pool: usize,
    /// A file is closed when it has so many bytes.
    pub(in crate::units) file_bytes: u64,
    /// A statement in a file ends when it has so many bytes.
    pub(in crate::units) statement_bytes: u64,
    /// An expression that all rows in files meet; empty if there is none.
    pub(in crate::units) filter: String,
    on_duplicate: OnDuplicate,
}

/// What becomes of a row whose key is there already.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
enum OnDuplicate {
    Replace,
    Error,
    Ignore,
}

/// Those of a task that says nothing.
impl Default for Settings {
    fn default() -> Self {
        Self {
            consistency: Consistency::default(),
            threads: usize::try_from(DumpConfig::standard().threads).unwrap_or(1),
            pool: usize::try_from(LoadConfig::standard().pool_size).unwrap_or(1),
            file_bytes: (DUMP_FILE_MIB as u64) << 20,
            statement_bytes: STATEMENT_BYTES,
            filter: String::new(),
            on_duplicate: OnDuplicate::Replace,
        }
    }
}

impl Settings {
    /// Reads them out of a task.
    ///
    /// # Errors
    /// 20900 for a value that is not possible; 32001 for arguments that are not known.
    pub(crate) fn new(task: &SubtaskConfig) -> Result<Self> {
        let mut dump = task.dump.clone();
        let mut found = Consistency::default();
        arguments(&mut dump, &mut found)?;
        let threads = count(
            "mydumpers: threads",
            dump.threads,
            DumpConfig::standard().threads,
        )?;
        let pool = count(
            "loaders: pool-size",
            task.load.pool_size,
            LoadConfig::standard().pool_size,
        )?;
        let file_bytes = match &*dump.chunk_filesize {
            "" => Some(ByteSize(DUMP_FILE_MIB << 20)),
            // Without a unit it is MiB.
            size => match size.parse::<i64>() {
                Ok(mib) => Some(ByteSize(mib.saturating_mul(1 << 20))),
                Err(_) => ByteSize::parse(size),
            },
        };
        let file_bytes = file_bytes.and_then(|ByteSize(bytes)| u64::try_from(bytes).ok());
        let Some(file_bytes) = file_bytes.filter(|bytes| *bytes > 0) else {
            let why = "must be a number of MiB, or have a unit: `64`, `256KiB`";
            return Err(invalid("mydumpers: chunk-filesize", why));
        };
        if dump.statement_size > STATEMENT_BYTES_MAX {
            let why = format!("must be at most {STATEMENT_BYTES_MAX} bytes");
            return Err(invalid("mydumpers: statement-size", &why));
        }
        let on_duplicate = match &*task.load.on_duplicate_logical {
            "" | "replace" => OnDuplicate::Replace,
            "error" => OnDuplicate::Error,
            "ignore" => OnDuplicate::Ignore,
            _ => {
                let why = "must be `replace`, `error` or `ignore`";
                return Err(invalid("loaders: on-duplicate-logical", why));
            }
        };
        Ok(Self {
            consistency: found,
            threads,
            pool,
            file_bytes,
            statement_bytes: match dump.statement_size {
                0 => STATEMENT_BYTES,
                bytes => bytes,
            },
            filter: dump.where_,
            on_duplicate,
        })
    }

    /// What statements begin with. Once rows are read `again`, from a later snapshot, a row may
    /// stand in the way of another that has taken its key since. Where a table `is_alone`, nothing
    /// can be there but rows that the target takes for equal: they would be lost without a word.
    pub(in crate::units) const fn verb(&self, again: bool, is_alone: bool) -> &'static str {
        match self.on_duplicate {
            OnDuplicate::Ignore => "INSERT",
            OnDuplicate::Error if !again => "INSERT",
            OnDuplicate::Error | OnDuplicate::Replace if is_alone => "INSERT",
            OnDuplicate::Error | OnDuplicate::Replace => "REPLACE",
        }
    }

    /// What statements for a table of the target end with. `IGNORE` would pass over more than rows
    /// that are there: what does not fit, or has no partition.
    pub(in crate::units) fn tail(&self, table: Option<&Table>) -> String {
        let columns = table.into_iter().flat_map(|table| &table.columns);
        match columns.into_iter().find(|column| !column.generated) {
            Some(column) if self.on_duplicate == OnDuplicate::Ignore => {
                let name = Quoted(&column.name);
                format!(" ON DUPLICATE KEY UPDATE {name}={name}")
            }
            _ => String::new(),
        }
    }

    /// Whether a row takes the place of one that has its key, where rows come as lines. `None`
    /// where they may not: of a row that is there already they would have to be silent.
    pub(in crate::units) fn replaces(&self, again: bool, is_alone: bool) -> Option<bool> {
        let verb = self.verb(again, is_alone);
        (self.on_duplicate != OnDuplicate::Ignore).then_some(verb == "REPLACE")
    }

    /// What of the settings means nothing for a task, and would be missed.
    pub(crate) fn without_effect(task: &SubtaskConfig) -> Vec<&'static str> {
        let mut dump = task.dump.clone();
        // What makes no sense is refused elsewhere.
        let _ = arguments(&mut dump, &mut Consistency::default());
        let mode = Mode::parse(&task.mode);
        let usual = LoadConfig::standard();
        let load = match mode.is_some_and(Mode::has_load) {
            true => &task.load,
            false => &usual,
        };
        [
            // What comes by the binlog would not be filtered.
            (
                !dump.where_.is_empty() && mode != Some(Mode::Dump),
                "mydumpers: where",
            ),
            (
                load.import_mode != usual.import_mode,
                "loaders: import-mode",
            ),
            // Of physical imports, as `analyze` is, which templates write.
            (
                load.on_duplicate_physical != usual.on_duplicate_physical,
                "loaders: on-duplicate-physical",
            ),
            (
                load.disk_quota_physical != usual.disk_quota_physical,
                "loaders: disk-quota-physical",
            ),
            (
                load.checksum_physical != usual.checksum_physical,
                "loaders: checksum-physical",
            ),
            (
                load.range_concurrency != usual.range_concurrency,
                "loaders: range-concurrency",
            ),
            (
                load.compress_kv_pairs != usual.compress_kv_pairs,
                "loaders: compress-kv-pairs",
            ),
            (load.pd_addr != usual.pd_addr, "loaders: pd-addr"),
            // There is one connection for all, that of `target-database`.
            (load.security.is_some(), "loaders: security"),
        ]
        .into_iter()
        .filter_map(|(is_set, key)| is_set.then_some(key))
        .collect()
    }
}

/// A number of connections; zero for the usual one.
fn count(key: &str, wanted: i64, usual: i64) -> Result<usize> {
    let wanted = if wanted == 0 { usual } else { wanted };
    match usize::try_from(wanted) {
        Ok(count) if (1..=THREADS_MAX).contains(&count) => Ok(count),
        _ => Err(invalid(
            key,
            &format!("must be between 1 and {THREADS_MAX}"),
        )),
    }
}

/// Takes over what arguments for the existing dumper say.
fn arguments(dump: &mut DumpConfig, consistency: &mut Consistency) -> Result<()> {
    let refused = |what: String| {
        Error::new(&code::DUMP_UNIT_RUNTIME, what).with_workaround(
            "Remove it: `--consistency`, `--threads`, `--filesize`, `--statement-size`, `--rows` \
             and `--where` have a meaning here.",
        )
    };
    let all = mem::take(&mut dump.extra_args);
    let mut words = all.split_whitespace();
    while let Some(word) = words.next() {
        let (name, value) = match word.split_once('=') {
            Some((name, value)) if word.starts_with("--") => (name, Some(value)),
            _ => (word, None),
        };
        let known = [
            "--consistency",
            "--threads",
            "-t",
            "--filesize",
            "-F",
            "--statement-size",
            "-s",
            "--rows",
            "-r",
            "--where",
        ];
        if !known.contains(&name) {
            return Err(refused(format!(
                "`{word}` in `extra-args` is not supported"
            )));
        }
        let Some(value) = value.or_else(|| words.next()) else {
            return Err(refused(format!("`{word}` in `extra-args` has no value")));
        };
        let value = value.trim_matches(['"', '\'']);
        let number = || {
            let number = value.parse::<u64>();
            number.map_err(|_| refused(format!("`{word} {value}` in `extra-args` is no number")))
        };
        match name {
            "--consistency" => *consistency = value.parse()?,
            "--threads" | "-t" => dump.threads = i64::try_from(number()?).unwrap_or(i64::MAX),
            "--filesize" | "-F" => dump.chunk_filesize = value.to_owned(),
            "--statement-size" | "-s" => dump.statement_size = number()?,
            "--where" => dump.where_ = value.to_owned(),
            // Large tables are cut by their size.
            _ => dump.rows = number()?,
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use dm_core::sync::schema::{ColumnInfo, TableName};

    use super::*;

    fn task(change: impl FnOnce(&mut SubtaskConfig)) -> SubtaskConfig {
        let mut task = SubtaskConfig {
            dump: DumpConfig::standard(),
            load: LoadConfig::standard(),
            ..SubtaskConfig::default()
        };
        change(&mut task);
        task
    }

    #[test]
    fn what_a_task_says_counts() {
        let usual = Settings::new(&task(|_| {})).unwrap();
        assert_eq!(usual, Settings::default());
        assert_eq!((usual.threads, usual.consistency), (4, Consistency::Auto));
        for arguments in ["--consistency none", " --consistency=none "] {
            let settings = Settings::new(&task(|it| it.dump.extra_args = arguments.into()));
            assert_eq!(settings.unwrap().consistency, Consistency::None);
        }
        let files = Settings::new(&task(|it| {
            it.dump.extra_args = "-r 5000 --filesize=1 -s 77 --where 'a>1'".into();
        }));
        let files = files.unwrap();
        assert_eq!((files.file_bytes, files.statement_bytes), (1 << 20, 77));
        assert_eq!((&*files.filter, usual.file_bytes), ("a>1", 64 << 20));
        let sized = Settings::new(&task(|it| it.dump.chunk_filesize = "3k".into()));
        assert_eq!(sized.unwrap().file_bytes, 3 << 10);
    }

    /// First and again, where others may have rows, and the same where nobody has.
    #[test]
    fn a_row_takes_the_place_of_another_only_where_one_may_be() {
        let (insert, replace) = ("INSERT", "REPLACE");
        let columns = ["g", "a`b"].map(|name| ColumnInfo {
            name: name.into(),
            generated: name == "g",
            ..ColumnInfo::default()
        });
        let table = Table {
            name: TableName::new("d", "t"),
            columns: columns.into(),
            keys: Vec::new(),
        };
        for (policy, verbs) in [
            ("", [replace, replace, insert, insert]),
            ("replace", [replace, replace, insert, insert]),
            ("error", [insert, replace, insert, insert]),
            ("ignore", [insert, insert, insert, insert]),
        ] {
            let settings = Settings::new(&task(|it| it.load.on_duplicate_logical = policy.into()));
            let settings = settings.unwrap();
            let cases = [(false, false), (true, false), (false, true), (true, true)];
            for ((again, is_alone), verb) in cases.into_iter().zip(verbs) {
                assert_eq!(
                    settings.verb(again, is_alone),
                    verb,
                    "{policy} {again} {is_alone}"
                );
                let replaces = settings.replaces(again, is_alone);
                assert_eq!(replaces, (policy != "ignore").then_some(verb == replace));
            }
            let tail = settings.tail(Some(&table));
            let expected = match policy {
                "ignore" => " ON DUPLICATE KEY UPDATE `a``b`=`a``b`",
                _ => "",
            };
            assert_eq!(tail, expected);
        }
    }

    #[test]
    fn what_is_not_possible_is_refused() {
        type Change = fn(&mut SubtaskConfig);
        let changes: [(Change, &str); 9] = [
            (|it| it.dump.statement_size = 1 << 30, "statement-size"),
            (|it| it.dump.threads = 65, "threads"),
            (|it| it.dump.threads = -1, "threads"),
            (|it| it.load.pool_size = 65, "pool-size"),
            (|it| it.dump.chunk_filesize = "x".into(), "chunk-filesize"),
            (|it| it.dump.extra_args = "-r many".into(), "-r many"),
            (|it| it.dump.extra_args = "--no-views".into(), "--no-views"),
            (
                |it| it.dump.extra_args = "--consistency".into(),
                "--consistency",
            ),
            (
                |it| it.load.on_duplicate_logical = "x".into(),
                "on-duplicate-logical",
            ),
        ];
        for (change, key) in changes {
            let error = Settings::new(&task(change)).unwrap_err();
            assert!(error.message.contains(key), "{error}");
        }
        assert!(Settings::without_effect(&task(|_| {})).is_empty());
        let physical = task(|it| {
            it.mode = "all".into();
            it.load.on_duplicate_physical = "manual".into();
            it.load.disk_quota_physical = ByteSize(1 << 30);
            it.load.checksum_physical = "off".into();
            // Passes.
            it.load.analyze = "off".into();
            it.load.range_concurrency = 8;
            it.load.compress_kv_pairs = "gzip".into();
            it.load.pd_addr = "pd:2379".into();
            it.load.security = Some(<_>::default());
        });
        assert_eq!(Settings::without_effect(&physical).len(), 7);
        let filtered = |mode: &str| {
            let task = task(|it| {
                it.mode = mode.into();
                it.dump.extra_args = "--where a>1".into();
            });
            Settings::without_effect(&task)
        };
        assert_eq!(filtered("full"), ["mydumpers: where"]);
        assert!(filtered("dump").is_empty());
    }
}
