use alloc::vec;

use proptest::prelude::*;

use super::*;

/// A subtask with every optional key, in the order of the encoder.
const STORED: &str = include_str!("../../../testdata/subtask.toml");

fn parse(text: &str) -> Result<SubtaskConfig> {
    SubtaskConfig::parse(text.as_bytes())
}

/// The least that is a subtask, with more keys.
fn with(text: &str) -> Result<SubtaskConfig> {
    let base = "name = 't'\nsource-id = 's'\nworker-count = 1\nbatch = 1\n";
    parse(&alloc::format!("{base}{text}"))
}

#[test]
fn a_stored_subtask_survives_the_round_trip() {
    let config = parse(STORED).expect("valid");
    assert_eq!(config.to_toml(), STORED);
    assert_eq!(config.sync.worker_count, 16);
    assert_eq!(config.load.security, Some(Default::default()));
    assert_eq!(config.tables(), config.block_allow_list.as_ref());
}

#[test]
fn unknown_keys_are_passed_over_and_letter_case_does_not_count() {
    let config = with("Mode = 'all'\nbrand-new = 1\n[validatorcfg]\nworker-COUNT = 7").expect("ok");
    assert_eq!(
        (config.mode.as_str(), config.validator.worker_count),
        ("all", 7)
    );
}

#[test]
fn what_is_not_given_gets_its_default() {
    let config =
        with("mode = 'full'\ncheckpoint-flush-interval = 5\nimport-mode = 'sql'").expect("ok");
    assert_eq!(config.meta_schema, "dm_meta");
    assert_eq!(config.sync.safe_mode_duration, "10s");
    assert_eq!(config.sync.queue_size, 1024);
    assert_eq!(
        config.load,
        LoadConfig {
            dir: "./dumped_data.t".into(),
            sorting_dir_physical: "./dumped_data.t.sorting".into(),
            ..LoadConfig::standard()
        }
    );
    assert_eq!(config.validator, ValidatorConfig::standard());
    assert_eq!(
        config.trash_table_rules,
        Some(vec!["^_(.+)_(?:ghc|del|old)$".into()])
    );
}

#[test]
fn directories_are_made_unique_only_where_the_task_makes_them() {
    let dirs = |mode: &str, dir: &str| {
        let config = with(&alloc::format!("mode = '{mode}'\ndir = '{dir}'")).expect("valid");
        (config.load.dir, config.load.sorting_dir_physical)
    };
    for (mode, dir, adjusted, sorting) in [
        ("all", "/d/", "/d.t", "/d.t.sorting"),
        ("full", "/d.t", "/d.t", "/d.t.sorting"),
        ("all", "s3://b/p?k=v", "s3://b/p/t.s?k=v", "./sorting.t"),
        ("all", "gs://b/p", "gs://b/p.t", "./sorting.t"),
        ("load", "/d", "/d", "/d.sorting"),
        ("dump", "/d", "/d", ""),
        ("incremental", "/d", "/d", ""),
    ] {
        assert_eq!(
            dirs(mode, dir),
            (adjusted.into(), sorting.into()),
            "{mode} {dir}"
        );
    }
}

#[test]
fn what_cannot_be_right_is_refused_by_code() {
    for (text, number) in [("", 20004), ("name = 't'", 20005), ("name = 1", 20002)] {
        assert_eq!(parse(text).expect_err(text).code, number, "{text}");
    }
    for (text, number) in [
        ("shard-mode = 'x'", 20033),
        ("strict-optimistic-shard-mode = true", 20900),
        ("[[mapping-rule]]\nx = 1", 20064),
        ("online-ddl-scheme = 'x'", 20007),
        ("shadow-table-rules = ['x']", 20048),
        ("trash-table-rules = ['(']", 20048),
        ("import-mode = 'x'", 20053),
        ("on-duplicate-logical = 'x'", 20054),
        ("analyze = 'x'", 20900),
        ("pool-size = -1", 20900),
        ("queue-size = -1", 20900),
        ("safe-mode-duration = 'x'", 20900),
        ("safe-mode = true\nsafe-mode-duration = '0'", 20900),
        ("[meta]\nbinlog-gtid = 'x'", 11009),
        ("timezone = 'SYSTEM'", 20008),
        ("timezone = '+14:01'", 20008),
        ("timezone = '-13:00'", 20008),
        ("[ValidatorCfg]\nmode = 'x'", 20055),
        ("[ValidatorCfg]\nmax-pending-row-size = 'x'", 20900),
        ("collation_compatible = 'x'", 20052),
        ("[[route-rules]]\nschema-pattern = 'a'", 20045),
        ("[[filter-rules]]\nschema-pattern = 'a'", 20037),
        ("[block-allow-list]\ndo-dbs = ['~(']", 20044),
        ("[to.session]\nforeign_key_checks = '1'", 20900),
        ("[to.session]\nFOREIGN_KEY_CHECKS = 'ON'", 20900),
    ] {
        let error = with(text).expect_err(text);
        assert_eq!(error.code, number, "{text}: {error}");
    }
    for text in [
        "timezone = '+14:00'",
        "timezone = '-12:59'",
        "timezone = 'Asia/Shanghai'",
        "[to.session]\nforeign_key_checks = 'OFF'",
    ] {
        with(text).expect(text);
    }
}

#[test]
fn binding_takes_over_what_belongs_to_the_source_and_can_be_repeated() {
    let mut source = SourceConfig::standard();
    source.enable_gtid = true;
    source.case_sensitive = true;
    source.server_id = 7;
    source.from.host = "up".into();
    let filter = |table: &str, action: &str| FilterRule {
        schema_pattern: "a".into(),
        table_pattern: table.into(),
        action: action.into(),
        ..FilterRule::default()
    };
    source.filters = Some(vec![filter("x", "Ignore"), filter("y", "Ignore")]);
    let mut task = with("").expect("valid");
    task.filter_rules = Some(vec![filter("x", "Do")]);
    task.bind(&source, true);
    assert_eq!(
        task.filter_rules,
        Some(vec![filter("x", "Do"), filter("y", "Ignore")])
    );
    assert!(task.use_relay && task.case_sensitive && task.sync.enable_gtid);
    assert_eq!((task.server_id, task.from.host.as_str()), (7, "up"));
    let once = task.clone();
    task.bind(&source, true);
    assert_eq!(task, once);
}

proptest! {
    #[test]
    fn texts_and_numbers_survive_the_round_trip(
        name in ".{1,46}", host: String, port: u16, rows: u64, batch in 1..1_000_000_i64,
        session: alloc::collections::BTreeMap<String, String>, ca: Option<Vec<u8>>,
    ) {
        let mut config = with("").expect("valid");
        config.name = name;
        config.to.host = host;
        config.to.port = port;
        config.to.session = Some(session);
        config.load.security.get_or_insert_default().ssl_ca_bytes = ca;
        config.dump.rows = rows.min(i64::MAX as u64);
        config.sync.batch = batch;
        config.adjust().expect("valid");
        prop_assert_eq!(parse(&config.to_toml()), Ok(config));
    }

    #[test]
    fn any_text_is_read_or_refused(text: String) {
        let _ = parse(&text);
        let _ = SourceConfig::parse("a", text.as_bytes());
    }
}
