//! Source files.

use dm_core::control::SourceConfig;
use dm_core::control::document::Reader;
use dm_core::control::record::Field;
use dm_core::error::Result;

use super::{decrypt, finish_yaml, invalid, parse_yaml, refuse_deprecated, refuse_keys};

/// Settings of the checker that are not for the operator to choose.
const CHECKER_FIXED: &[&str] = &[
    "check-interval",
    "backoff-min",
    "backoff-jitter",
    "backoff-factor",
];
/// What a master fills in.
const RELAY_DIR: &str = "relay-dir";
const CHECKER_FREE: &[&str] = &["check-enable", "backoff-rollback", "backoff-max"];

/// Reads a source file, as `dmctl operate-source create` takes it. `file` names it in errors;
/// `key` decrypts the password.
///
/// What takes a look at the servers stays empty: `flavor` and `server-id`.
///
/// # Errors
/// 20003 for what is not such YAML, 20900 for missing and contradictory values, 20901 for what is
/// not built yet, and those of [`SourceConfig::adjust`].
pub fn source(file: &str, text: &str, key: Option<&[u8]>) -> Result<SourceConfig> {
    let node = parse_yaml(file, text)?;
    let mut reader = Reader::default();
    let mut config = SourceConfig::standard();
    if let Some(checker) = node.entry("checker") {
        reader.within("checker", |reader| {
            refuse_keys(&checker.node, CHECKER_FIXED, CHECKER_FREE, reader);
        });
    }
    config.read(&node, &mut reader);
    finish_yaml(file, &reader)?;

    refuse_deprecated(
        file,
        &[
            ("auto-fix-gtid", config.auto_fix_gtid),
            ("meta-dir", !config.meta_dir.is_empty()),
            ("charset", !config.charset.is_empty()),
        ],
    )?;
    for (key, value) in [
        ("from.host", &config.from.host),
        ("from.user", &config.from.user),
    ] {
        if value.is_empty() {
            return Err(invalid(file, key, "must be given"));
        }
    }
    if config.from.port == 0 {
        return Err(invalid(file, "from.port", "must be given"));
    }
    // An empty table, as it is printed, says nothing.
    config.tracer = None;
    if config.relay_dir.is_empty() {
        config.relay_dir = RELAY_DIR.into();
    }
    config.from.password.0 = decrypt(&config.from.password.0, key);
    config.adjust().map_err(|error| error.annotate(file))?;
    Ok(config)
}

#[cfg(test)]
mod tests {
    use dm_core::control::record::Secret;

    use super::*;

    const LEAST: &str = "source-id: a\nfrom: {host: h, port: 1, user: u}\n";

    #[test]
    fn the_recorded_file_gives_the_recorded_value() {
        let golden = include_str!("../../../core/testdata/golden/etcd-events.jsonl");
        for (file, name) in [
            (
                include_str!("../../../core/testdata/golden/tasks/one.yaml"),
                "6f6e65",
            ),
            (
                include_str!("../../../core/testdata/golden/tasks/two.yaml"),
                "74776f",
            ),
        ] {
            let key = format!("/dm-master/v2/upstream/config/{name}");
            let events = golden
                .lines()
                .map(|line| serde_json::from_str(line).expect("a record"));
            let stored = events
                .filter(|event: &serde_json::Value| event["key"] == key.as_str())
                .find_map(|event| event["value"].as_str().map(str::to_owned))
                .expect("recorded");
            let mut config = source("s.yaml", file, None).expect("valid");
            // What the master asked the server for, and what it drew at random.
            config.flavor = "mysql".into();
            config.server_id = SourceConfig::from_toml(&stored).expect("valid").server_id;
            assert_eq!(config.to_toml(), stored);
        }
    }

    #[test]
    fn a_key_with_a_typing_error_is_named_with_file_and_line() {
        let error =
            source("s.yaml", &format!("{LEAST}enable-gitd: true\n"), None).expect_err("typo");
        assert_eq!(error.code, 20003);
        assert_eq!(
            error.message,
            "s.yaml: `enable-gitd` in line 3: unknown key; did you mean `enable-gtid`?"
        );
    }

    #[test]
    fn what_cannot_be_right_is_refused_by_code() {
        for (more, number) in [
            ("server-id: x", 20003),
            ("source-id: b", 20003),
            ("purge: 1", 20003),
            ("checker: {check-interval: 1s}", 20003),
            ("tracer: {enable: true}", 20003),
            ("meta-dir: x", 20900),
            ("auto-fix-gtid: true", 20900),
            ("checker: {backoff-max: 1ms}", 20043),
            ("flavor: x", 11010),
        ] {
            let error = source("s.yaml", &format!("{LEAST}{more}\n"), None).expect_err(more);
            assert_eq!(error.code, number, "{more}: {error}");
            assert!(error.message.starts_with("s.yaml"), "{error}");
        }
        for (text, number) in [
            ("", 20900),
            ("from: {host: h, port: 1, user: u}", 40005),
            ("source-id: a\nfrom: {port: 1, user: u}", 20900),
            ("source-id: a\nfrom: {host: h, user: u}", 20900),
            ("- a", 20003),
        ] {
            assert_eq!(
                source("s.yaml", text, None).expect_err(text).code,
                number,
                "{text}"
            );
        }
    }

    #[test]
    fn what_dmctl_prints_is_accepted() {
        let printed = format!(
            "{LEAST}enable: true\nauto-fix-gtid: false\nmeta-dir: ''\ncharset: ''\ntracer: {{}}\n\
             filters: []\nserver-id: 7\nflavor: mysql\n"
        );
        let config = source("s.yaml", &printed, None).expect("valid");
        assert_eq!((config.server_id, config.tracer), (7, None));
        assert_eq!(config.from.password, Secret(String::new()));
    }
}
