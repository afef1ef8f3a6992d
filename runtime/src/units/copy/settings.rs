//! What a task says about how its tables are copied.

use dm_core::{
    control::{
        SubtaskConfig,
        check::invalid,
        subtask::{DumpConfig, LoadConfig},
    },
    error::{Error, Result, code},
    full::Consistency,
};

/// Connections to each side, at most.
const THREADS_MAX: i64 = 64;

/// How tables are copied.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Settings {
    /// What keeps writers off while a snapshot is taken.
    pub(super) consistency: Consistency,
    /// Connections to each side.
    pub(super) threads: usize,
    on_duplicate: OnDuplicate,
}

/// What becomes of a row whose key is there already.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
enum OnDuplicate {
    Replace,
    Error,
    Ignore,
}

impl Settings {
    /// Reads them out of a task.
    ///
    /// # Errors
    /// 20900 for a value that is not possible; 32001 for arguments that are not known.
    pub(crate) fn new(task: &SubtaskConfig) -> Result<Self> {
        let DumpConfig {
            threads,
            extra_args,
            ..
        } = &task.dump;
        let threads = match *threads {
            0 => DumpConfig::standard().threads,
            threads => threads,
        };
        if !(1..=THREADS_MAX).contains(&threads) {
            let why = format!("must be between 1 and {THREADS_MAX}");
            return Err(invalid("mydumpers: threads", &why));
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
            consistency: consistency(extra_args)?,
            threads: usize::try_from(threads).unwrap_or(1),
            on_duplicate,
        })
    }

    /// What statements begin with. Once rows are read `again`, from a later snapshot, a row may
    /// stand in the way of another that has taken its key since.
    pub(super) const fn verb(&self, again: bool) -> &'static str {
        match self.on_duplicate {
            OnDuplicate::Error if !again => "INSERT",
            OnDuplicate::Error | OnDuplicate::Replace => "REPLACE",
            OnDuplicate::Ignore => "INSERT IGNORE",
        }
    }

    /// What of the settings for dump files means nothing where there are none, and would be missed.
    pub(crate) fn without_effect(task: &SubtaskConfig) -> Vec<&'static str> {
        let (dump, load) = (&task.dump, &task.load);
        let usual = LoadConfig::standard();
        [
            (!dump.where_.is_empty(), "mydumpers: where"),
            (
                load.import_mode != usual.import_mode,
                "loaders: import-mode",
            ),
            // It has the task's name behind it by now.
            (!load.dir.starts_with(&usual.dir), "loaders: dir"),
        ]
        .into_iter()
        .filter_map(|(is_set, key)| is_set.then_some(key))
        .collect()
    }
}

/// Reads `--consistency` out of arguments for the existing dumper.
fn consistency(arguments: &str) -> Result<Consistency> {
    let mut words = arguments.split_whitespace();
    let mut found = Consistency::default();
    while let Some(word) = words.next() {
        let value = match word.split_once('=') {
            Some(("--consistency", value)) => Some(value),
            None if word == "--consistency" => words.next(),
            _ => None,
        };
        let Some(value) = value else {
            let text = format!("`{word}` in `extra-args` is not supported");
            return Err(Error::new(&code::DUMP_UNIT_RUNTIME, text)
                .with_workaround("Remove it: only `--consistency` has a meaning here."));
        };
        found = value.parse()?;
    }
    Ok(found)
}

#[cfg(test)]
mod tests {
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
        assert_eq!((usual.threads, usual.consistency), (4, Consistency::Auto));
        assert_eq!(
            (usual.verb(false), usual.verb(true)),
            ("REPLACE", "REPLACE")
        );
        for arguments in ["--consistency none", " --consistency=none "] {
            let settings = Settings::new(&task(|it| it.dump.extra_args = arguments.into()));
            assert_eq!(settings.unwrap().consistency, Consistency::None);
        }
        for (policy, first, again) in [
            ("error", "INSERT", "REPLACE"),
            ("ignore", "INSERT IGNORE", "INSERT IGNORE"),
        ] {
            let settings = Settings::new(&task(|it| it.load.on_duplicate_logical = policy.into()));
            let settings = settings.unwrap();
            assert_eq!((settings.verb(false), settings.verb(true)), (first, again));
        }
    }

    #[test]
    fn what_is_not_possible_is_refused() {
        type Change = fn(&mut SubtaskConfig);
        let changes: [(Change, &str); 5] = [
            (|it| it.dump.threads = 65, "threads"),
            (|it| it.dump.threads = -1, "threads"),
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
        assert!(Settings::without_effect(&task(|it| it.load.dir.push_str(".t"))).is_empty());
        let elsewhere = task(|it| it.load.dir = "/elsewhere".into());
        assert_eq!(Settings::without_effect(&elsewhere), ["loaders: dir"]);
    }
}
