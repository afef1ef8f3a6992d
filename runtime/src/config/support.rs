//! What is valid and not built yet: refused when a subtask starts, never ignored.

use dm_core::control::db::DbConfig;
use dm_core::control::duration;
use dm_core::control::subtask::{Mode, SyncConfig};
use dm_core::control::{SourceConfig, SubtaskConfig, TaskCliArgs};
use dm_core::error::{Error, Result, code};

use crate::units::{copy::Settings, files::directory};

/// Fails if a subtask asks for something that this worker cannot do yet. Values that a master or a
/// template writes by default, and that change nothing, pass.
///
/// # Errors
/// 20901 with every such key and its value; those of settings that no copy can have.
pub fn unsupported(task: &SubtaskConfig, source: &SourceConfig) -> Result<()> {
    let mut wanted = Vec::new();
    let mut refuse = |is_wanted: bool, what: &str| {
        if is_wanted {
            wanted.push(format!("`{what}`"));
        }
    };
    let mode = Mode::parse(&task.mode);

    if mode.is_some_and(|mode| mode.has_dump() || mode.has_load()) {
        Settings::new(task)?;
        directory(task)?;
        for key in Settings::without_effect(task) {
            refuse(true, key);
        }
    }
    refuse(
        !task.shard_mode.is_empty(),
        &format!("shard-mode: {}", task.shard_mode),
    );
    refuse(
        task.filter_rules.iter().flatten().next().is_some(),
        "filters",
    );
    refuse(
        source.filters.iter().flatten().next().is_some(),
        "filters of the source",
    );
    refuse(
        task.expression_filter.iter().flatten().next().is_some(),
        "expression-filter",
    );
    let routes = || task.route_rules.iter().flatten();
    refuse(
        routes().any(|route| route.extract_table.is_some()),
        "routes: extract-table",
    );
    refuse(
        routes().any(|route| route.extract_schema.is_some()),
        "routes: extract-schema",
    );
    refuse(
        routes().any(|route| route.extract_source.is_some()),
        "routes: extract-source",
    );
    refuse(
        task.collation_compatible == "strict" && mode == Some(Mode::Dump),
        "collation_compatible: strict, in files",
    );
    refuse(
        task.validator.mode != "none",
        &format!("validators: mode: {}", task.validator.mode),
    );
    refuse(
        !task.validator.start_time.is_empty(),
        "validators: start-time",
    );
    refuse(
        task.experimental.async_checkpoint_flush,
        "experimental: async-checkpoint-flush",
    );
    refuse(!source.enable, "enable: false of the source");
    refuse(
        task.to
            .session()
            .any(|(name, value)| name.eq_ignore_ascii_case("autocommit") && !is_on(value)),
        "target-database: session: autocommit",
    );
    refuse(
        task.to
            .security
            .iter()
            .filter_map(|security| security.cert_allowed_cn.as_ref())
            .any(|names| !names.is_empty()),
        "target-database: security: cert-allowed-cn",
    );

    // Without effect in the existing worker as well: whoever sets them expects one.
    let sync = &task.sync;
    refuse(sync.max_retry != 0, "syncers: max-retry");
    refuse(!sync.meta_file.is_empty(), "syncers: meta-file");
    refuse(sync.auto_fix_gtid, "syncers: auto-fix-gtid");
    refuse(sync.disable_detect, "syncers: disable-detect");
    refuse(sync.enable_ansi_quotes, "syncers: enable-ansi-quotes");
    refuse(
        limits_packets(&task.to),
        "target-database: max-allowed-packet",
    );
    refuse(limits_packets(&source.from), "from: max-allowed-packet");
    refuse(task.ansi_quotes, "ansi-quotes");
    refuse(task.enable_heartbeat, "enable-heartbeat");
    refuse(!task.load.on_duplicate.is_empty(), "loaders: on-duplicate");
    // Changes are applied exactly once, so safe mode lasts no longer than it has to.
    let twice = format!("{}s", sync.checkpoint_flush_interval.saturating_mul(2));
    let usual = [SyncConfig::standard().safe_mode_duration, twice];
    let wanted_duration = duration::parse(&sync.safe_mode_duration);
    refuse(
        !usual
            .iter()
            .any(|usual| duration::parse(usual) == wanted_duration),
        "syncers: safe-mode-duration",
    );
    finish(&wanted, &task.name)
}

/// Whether packets are to be smaller or larger than the server's own limit. The old default passes.
fn limits_packets(db: &DbConfig) -> bool {
    !matches!(db.max_allowed_packet, None | Some(0 | 67_108_864))
}

/// Whether this is the value of a session variable that is on.
fn is_on(value: &str) -> bool {
    ["1", "on", "true"]
        .iter()
        .any(|on| value.eq_ignore_ascii_case(on))
}

/// Fails if a task was started with arguments that this worker cannot follow yet.
///
/// # Errors
/// 20901 with every such argument.
pub fn unsupported_arguments(task: &str, arguments: &TaskCliArgs) -> Result<()> {
    let given = [
        ("--start-time", &arguments.start_time),
        ("--safe-mode-duration", &arguments.safe_mode_duration),
    ];
    let given = given.into_iter().filter(|(_, value)| !value.is_empty());
    let wanted: Vec<String> = given
        .map(|(argument, value)| format!("`{argument} {value}`"))
        .collect();
    finish(&wanted, task)
}

fn finish(wanted: &[String], task: &str) -> Result<()> {
    if wanted.is_empty() {
        return Ok(());
    }
    Err(refused(&format!("{} (task {task})", wanted.join(", "))))
}

/// The error of what is not built yet.
pub fn refused(what: &str) -> Error {
    let message = format!("not supported yet by this worker: {what}");
    Error::new(&code::CONFIG_NOT_SUPPORTED, message)
        .with_workaround("Remove these settings, or run the task on another worker.")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn recorded(step: &str) -> SubtaskConfig {
        let golden = include_str!("../../../core/testdata/golden/etcd-events.jsonl");
        let events = golden
            .lines()
            .map(|line| serde_json::from_str(line).expect("a record"));
        let value = events
            .filter(|event: &serde_json::Value| event["step"] == step)
            .filter(|event| {
                event["key"]
                    .as_str()
                    .is_some_and(|key| key.contains("/upstream/subtask/"))
            })
            .find_map(|event| event["value"].as_str().map(str::to_owned))
            .expect("recorded");
        SubtaskConfig::parse(value.as_bytes()).expect("valid")
    }

    #[test]
    fn what_the_master_writes_by_default_passes() {
        let mut task = recorded("22-start-task-incr");
        let source = SourceConfig::standard();
        let error = unsupported(&task, &source).expect_err("has filters");
        assert!(error.is(&code::CONFIG_NOT_SUPPORTED));
        assert_eq!(
            error.message,
            "not supported yet by this worker: `filters`, `expression-filter` (task t_incr)"
        );
        task.filter_rules = None;
        task.expression_filter = None;
        assert_eq!(unsupported(&task, &source), Ok(()));
    }

    #[test]
    fn everything_that_would_be_ignored_is_named() {
        let mut task = recorded("04-start-task-all");
        task.load.import_mode = "physical".into();
        task.dump.where_ = "a > 1".into();
        task.sync.max_retry = 100;
        task.shard_mode = "optimistic".into();
        task.validator.mode = "full".into();
        let mut source = SourceConfig::standard();
        source.enable = false;
        let message = unsupported(&task, &source).expect_err("a lot").message;
        for key in [
            "loaders: import-mode",
            "mydumpers: where",
            "shard-mode: optimistic",
            "mode: full",
            "max-retry",
            "enable: false",
        ] {
            assert!(message.contains(key), "{message}");
        }
    }

    /// The least task, with a change that alone would be ignored, names it.
    #[test]
    fn each_of_them_is_refused_alone() {
        type Change = fn(&mut SubtaskConfig, &mut SourceConfig);
        let session = |name: &str, value: &str| {
            Some([(name.to_owned(), value.to_owned())].into_iter().collect())
        };
        let refused = |change: &dyn Fn(&mut SubtaskConfig, &mut SourceConfig)| {
            let mut task = recorded("22-start-task-incr");
            task.filter_rules = None;
            task.expression_filter = None;
            let mut source = SourceConfig::standard();
            change(&mut task, &mut source);
            unsupported(&task, &source).err().map(|error| error.message)
        };
        let cases: [(&str, Change); 6] = [
            ("collation_compatible: strict, in files", |task, _| {
                task.mode = "dump".into();
                task.collation_compatible = "strict".into();
            }),
            ("syncers: enable-ansi-quotes", |task, _| {
                task.sync.enable_ansi_quotes = true;
            }),
            ("target-database: max-allowed-packet", |task, _| {
                task.to.max_allowed_packet = Some(1 << 20);
            }),
            ("from: max-allowed-packet", |_, source| {
                source.from.max_allowed_packet = Some(1 << 20);
            }),
            ("enable: false of the source", |_, source| {
                source.enable = false
            }),
            ("syncers: safe-mode-duration", |task, _| {
                task.sync.safe_mode_duration = "61s".into();
            }),
        ];
        for (what, change) in cases {
            let message = refused(&change).expect(what);
            assert!(
                message.contains(&format!("worker: `{what}` (task")),
                "{message}"
            );
        }
        assert_eq!(
            refused(&|task, _| task.sync.safe_mode_duration = "1m".into()),
            None
        );
        let autocommit = refused(&|task, _| task.to.session = session("autocommit", "0"));
        assert!(autocommit.expect("off").contains("session: autocommit"));
        assert_eq!(
            refused(&|task, _| task.to.session = session("autocommit", "ON")),
            None
        );
        // A master writes it.
        let mode = |task: &mut SubtaskConfig, _: &mut SourceConfig| {
            task.to.session = session("tidb_txn_mode", "optimistic");
        };
        assert_eq!(refused(&mode), None);
    }

    #[test]
    fn recorded_sources_ask_for_nothing_but_their_filters() {
        let golden = include_str!("../../../core/testdata/golden/etcd-events.jsonl");
        let mut seen = 0;
        for line in golden.lines() {
            let event: serde_json::Value = serde_json::from_str(line).expect("a record");
            let (Some(key), Some(value)) = (event["key"].as_str(), event["value"].as_str()) else {
                continue;
            };
            if !key.contains("/upstream/config/") {
                continue;
            }
            let mut source = SourceConfig::parse(key, value.as_bytes()).expect("valid");
            source.filters = None;
            let mut task = recorded("22-start-task-incr");
            task.filter_rules = None;
            task.expression_filter = None;
            assert_eq!(unsupported(&task, &source), Ok(()), "{key}");
            seen += 1;
        }
        assert!(seen > 0);
    }

    #[test]
    fn arguments_of_the_start_are_refused_unless_only_a_stop_needs_them() {
        let mut arguments = TaskCliArgs {
            wait_time_on_stop: "5s".into(),
            ..Default::default()
        };
        assert_eq!(unsupported_arguments("t", &arguments), Ok(()));
        arguments.start_time = "2022-01-01 00:00:00".into();
        arguments.safe_mode_duration = "1m".into();
        let message = unsupported_arguments("t", &arguments)
            .expect_err("two")
            .message;
        assert!(message.contains("`--start-time 2022-01-01 00:00:00`, `--safe-mode-duration 1m`"));
    }
}
