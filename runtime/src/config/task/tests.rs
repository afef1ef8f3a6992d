use dm_core::control::subtask::{DumpConfig, ValidatorConfig};
use serde_json::Value;

use super::*;

const LEAST: &str = "name: t
task-mode: incremental
target-database: {host: h, port: 1, user: u}
mysql-instances: [{source-id: s}]
";

/// Values that a real master stored under the keys of a kind, with those keys.
fn recorded(events: &str, kind: &str) -> Vec<(String, String)> {
    let events = events
        .lines()
        .map(|line| serde_json::from_str::<Value>(line).expect("a record"));
    let text = |event: &Value, name: &str| event[name].as_str().map(str::to_owned);
    events
        .filter_map(|event| Some((text(&event, "key")?, text(&event, "value")?)))
        .filter(|(key, _)| key.starts_with(kind))
        .collect()
}

#[test]
fn the_recorded_files_give_the_recorded_values() {
    let plain = include_str!("../../../../core/testdata/golden/etcd-events.jsonl");
    let operations = include_str!("../../../../core/testdata/golden/operations/etcd-events.jsonl");
    let mut compared = 0;
    for (events, file) in [
        (
            plain,
            include_str!("../../../../core/testdata/golden/tasks/all.yaml"),
        ),
        (
            plain,
            include_str!("../../../../core/testdata/golden/tasks/full.yaml"),
        ),
        (
            plain,
            include_str!("../../../../core/testdata/golden/tasks/incr.yaml"),
        ),
        (
            operations,
            include_str!("../../../../core/testdata/golden/operations/pess.yaml"),
        ),
        (
            operations,
            include_str!("../../../../core/testdata/golden/operations/opti.yaml"),
        ),
        (
            operations,
            include_str!("../../../../core/testdata/golden/operations/printed.yaml"),
        ),
    ] {
        let sources: Vec<SourceConfig> = recorded(events, "/dm-master/v2/upstream/config/")
            .iter()
            .map(|(key, value)| SourceConfig::parse(key, value.as_bytes()).expect("valid"))
            .collect();
        let stored: Vec<(SubtaskConfig, String)> = recorded(events, "/dm-master/upstream/subtask/")
            .into_iter()
            .map(|(_, value)| {
                (
                    SubtaskConfig::parse(value.as_bytes()).expect("valid"),
                    value,
                )
            })
            .collect();
        let task = Task::parse("t.yaml", file, None).expect("valid");
        for mut config in task.subtasks(&sources, String::new).expect("valid") {
            let same = |(other, _): &&(SubtaskConfig, String)| {
                (&other.name, &other.source_id) == (&config.name, &config.source_id)
            };
            let (master, value) = stored.iter().find(same).expect("recorded");
            // Drawn at random.
            config.uuid.clone_from(&master.uuid);
            config.dump_uuid.clone_from(&master.dump_uuid);
            if file.contains("'******'") {
                // Printed with what it had become and without its password.
                config.to.clone_from(&master.to);
                config.block_allow_list.clone_from(&master.block_allow_list);
            }
            assert_eq!(config.to_toml(), *value);
            compared += 1;
        }
    }
    assert_eq!(compared, 8);
}

#[test]
fn the_least_task_has_the_defaults() {
    let task = Task::parse("t.yaml", LEAST, None).expect("valid");
    let source = SourceConfig {
        source_id: "s".into(),
        ..SourceConfig::standard()
    };
    let configs = task.subtasks(&[source], || "u".into()).expect("valid");
    assert_eq!(task.name(), "t");
    assert_eq!(configs.len(), 1);
    assert_eq!(configs[0].dump, DumpConfig::standard());
    assert_eq!(configs[0].validator, ValidatorConfig::standard());
    assert!(configs[0].online_ddl && configs[0].clean_dump_file);
    assert_eq!(configs[0].uuid, "u");
    let error = task.subtasks(&[], String::new).expect_err("no source");
    assert!(error.is(&code::CONFIG_SOURCE_ID_NOT_FOUND), "{error}");
}

#[test]
fn settings_come_by_name_in_place_or_with_another_number_of_threads() {
    let text = LEAST.replace(
        "{source-id: s}",
        "{source-id: s, syncer-config-name: x, syncer-thread: 3, loader: {pool-size: 5},
          mydumper: {chunk-filesize: \"\"}, validator-config-name: v}",
    ) + "syncers: {x: {batch: 7}}\nvalidators: {v: {mode: full, check-interval: 1s}}\n";
    let task = Task::parse("t.yaml", &text, None).expect("valid");
    let source = SourceConfig {
        source_id: "s".into(),
        ..SourceConfig::standard()
    };
    let config = task
        .subtasks(&[source], String::new)
        .expect("valid")
        .remove(0);
    assert_eq!(
        (
            config.sync.worker_count,
            config.sync.batch,
            config.load.pool_size
        ),
        (3, 7, 5)
    );
    assert_eq!(config.dump.chunk_filesize, "64");
    assert_eq!(config.validator.mode, "full");
    assert_eq!(config.validator.check_interval.as_secs(), 1);
}

#[test]
fn wrong_keys_and_types_are_named_all_at_once_with_their_lines() {
    let text = format!("{LEAST}syncers:\n  g:\n    batch: many\n    wroker-count: 1\nx: 1\n");
    let error = Task::parse("t.yaml", &text, None).expect_err("wrong");
    assert!(error.is(&code::CONFIG_YAML_TRANSFORM));
    for part in [
        "t.yaml: ",
        "`syncers.g.wroker-count` in line 8: unknown key; did you mean `worker-count`?",
        "`x` in line 9: unknown key; allowed: name, task-mode, ",
        "`syncers.g.batch` in line 7: expected a whole number from ",
        "found a text",
    ] {
        assert!(error.message.contains(part), "{}", error.message);
    }
}

#[test]
fn what_cannot_be_right_is_refused_by_code() {
    let changed = |from: &str, to: &str| {
        assert!(LEAST.contains(from), "{from}");
        LEAST.replace(from, to)
    };
    let instance = |more: &str| changed("{source-id: s}", &format!("{{source-id: s, {more}}}"));
    let added = |more: &str| format!("{LEAST}{more}\n");
    for (text, number) in [
        (String::new(), 20020),
        (changed("name: t", "timezone: ''"), 20019),
        (changed("incremental", "inc"), 20020),
        (
            changed("target-database: {host: h, port: 1, user: u}", ""),
            20021,
        ),
        (changed("host: h, ", ""), 20900),
        (changed("port: 1, ", ""), 20900),
        (changed("{source-id: s}", ""), 20013),
        (
            changed("{source-id: s}", "{source-id: s}, {source-id: s}"),
            20014,
        ),
        (changed("source-id: s", "meta: null"), 20005),
        (instance("meta: {binlog-pos: 4}"), 20011),
        (
            instance("meta: {binlog-name: b}").replace("incremental", "all"),
            20900,
        ),
        (instance("route-rules: [x]"), 20023),
        (instance("filter-rules: [x]"), 20024),
        (instance("expression-filters: [x]"), 20040),
        (instance("block-allow-list: x"), 20026),
        (instance("mydumper-config-name: x"), 20027),
        (instance("loader-config-name: x"), 20029),
        (instance("syncer-config-name: x"), 20030),
        (instance("validator-config-name: x"), 20056),
        (instance("mydumper: {}, mydumper-config-name: x"), 20015),
        (instance("loader: {}, loader-config-name: x"), 20016),
        (instance("syncer: {}, syncer-config-name: x"), 20017),
        (
            instance("route-rules: [x, x]") + "routes: {x: {schema-pattern: a, target-schema: b}}",
            20032,
        ),
        (instance("mydumper: {chunk-filesize: x}"), 20047),
        (
            instance("mydumper: {mydumper-path: ''}").replace("incremental", "full"),
            20028,
        ),
        (instance("mydumper: {threads: -1}"), 20900),
        (instance("mydumper: {skip-tz-utc: false}"), 20900),
        (instance("loader: {security: {}}"), 20003),
        (instance("loader: {import-mode: x}"), 20053),
        (instance("loader: {import-mode: import-into}"), 20900),
        (instance("loader: {on-duplicate: replace}"), 20900),
        (instance("syncer: {max-retry: 100}"), 20900),
        (instance("syncer: {enable-gtid: true}"), 20900),
        (
            instance("syncer: {safe-mode: true, safe-mode-duration: 0s}"),
            20900,
        ),
        (
            added("routes: {x: {schema-pattern: a, target-schema: b}}"),
            20038,
        ),
        (added("loaders: {x: }"), 20038),
        (added("column-mappings: {x: {}}"), 20064),
        (instance("column-mapping-rules: [x]"), 20064),
        (instance("syncer: {enable-ansi-quotes: true}"), 20900),
        (instance("syncer: {worker-count: 4294967296}"), 20900),
        (instance("syncer: {batch: 4294967296}"), 20900),
        (instance("syncer-thread: 1025"), 20900),
        (
            changed("name: t", &format!("name: {}", "t".repeat(47))),
            20900,
        ),
        (added("online-ddl: false\nonline-ddl-scheme: pt"), 20900),
        (
            added("online-ddl: false\nshadow-table-rules: ['^x(.+)$']"),
            20900,
        ),
        (
            added("online-ddl: false\ntrash-table-rules: ['^x(.+)$']"),
            20900,
        ),
        (added("expression-filter: {x: {schema: a}}"), 20038),
        (added("ignore-checking-items: [x]"), 20001),
        (added("shard-mode: x"), 20033),
        (added("strict-optimistic-shard-mode: true"), 20900),
        (added("timezone: Local"), 20008),
        (added("online-ddl-scheme: x"), 20007),
        (added("enable-heartbeat: true"), 20900),
        (added("remove-meta: true"), 20900),
        (
            added("black-white-list: {a: {}}\nblock-allow-list: {a: {}}"),
            20900,
        ),
        (
            instance("expression-filters: [x]") + "expression-filter: {x: {schema: a}}",
            20042,
        ),
        (
            instance("expression-filters: [x]") + "expression-filter: {x: {schema: a, table: b}}",
            20039,
        ),
    ] {
        let error = Task::parse("t.yaml", &text, None).expect_err(&text);
        assert_eq!(error.code, number, "{text}: {error}");
        assert!(error.message.contains("t.yaml"), "{error}");
    }
}

#[test]
fn old_names_still_count() {
    let text = LEAST.replace("{source-id: s}", "{source-id: s, black-white-list: b}")
        + "black-white-list: {b: {do-dbs: [A]}}\nonline-ddl-scheme: pt\n";
    let task = Task::parse("t.yaml", &text, None).expect("valid");
    let source = SourceConfig {
        source_id: "s".into(),
        ..SourceConfig::standard()
    };
    let config = task
        .subtasks(&[source], String::new)
        .expect("valid")
        .remove(0);
    let list = config.block_allow_list.expect("given");
    assert_eq!(list.do_dbs, Some(vec!["a".to_owned()]));
    assert!(config.online_ddl && config.online_ddl_scheme.is_empty());
}

#[test]
fn a_start_by_gtid_needs_a_source_that_is_read_by_gtid() {
    let gtids = "3e11fa47-71ca-11e1-9e33-c80aa9429562:1-7";
    let start = |meta: &str, enable_gtid| {
        let text = LEAST.replace("{source-id: s}", &format!("{{source-id: s, meta: {meta}}}"));
        let source = SourceConfig {
            source_id: "s".into(),
            enable_gtid,
            ..SourceConfig::standard()
        };
        let task = Task::parse("t.yaml", &text, None).expect("valid");
        task.subtasks(&[source], String::new).map(drop)
    };
    let by_gtid = format!("{{binlog-gtid: '{gtids}'}}");
    let error = start(&by_gtid, false).expect_err("no position");
    assert_eq!(error.code, 20011);
    for part in [
        "t.yaml",
        "source s",
        "`binlog-gtid`",
        "`enable-gtid: false`",
    ] {
        assert!(error.message.contains(part), "{error}");
    }
    start(&by_gtid, true).expect("by GTID");
    let both = format!("{{binlog-name: b.000001, binlog-gtid: '{gtids}'}}");
    start(&both, false).expect("by position");
}

#[test]
fn what_is_left_empty_is_as_if_it_were_not_there() {
    let text =
        LEAST.replace("{source-id: s}", "{source-id: s, route-rules: }") + "syncers:\nroutes:\n";
    Task::parse("t.yaml", &text, None).expect("valid");
    let longest = LEAST.replace("name: t", &format!("name: {}", "é".repeat(46)));
    Task::parse("t.yaml", &longest, None).expect("valid");
}
