//! Every key and value that a real cluster wrote, read and written again.
//! Where the records come from: `testdata/golden/README.md`.

use alloc::string::String;
use alloc::vec::Vec;

use super::shard::{
    OptimisticInfo, OptimisticOperation, PessimisticInfo, PessimisticOperation, SourceTables,
};
use super::*;

const EVENTS: [&str; 2] = [
    include_str!("../../testdata/golden/etcd-events.jsonl"),
    include_str!("../../testdata/golden/operations/etcd-events.jsonl"),
];

/// Keys of the master that no worker uses.
const FOREIGN: [&str; 3] = [
    "/dm-cluster/",
    "/dm-master/leader/",
    "/dm-master/shardddl-optimism/dropped-columns/",
];

/// A value as it is written after it was read.
fn rewrite(key: &Key, value: &[u8]) -> crate::error::Result<String> {
    Ok(match key {
        Key::Worker { .. } => WorkerInfo::parse(value)?.to_json(),
        Key::KeepAlive { .. } => KeepAlive::parse(value)?.to_json(),
        Key::Bound { .. } | Key::LastBound { .. } => SourceBound::parse(value)?.to_json(),
        Key::RelayWorker { .. } => String::from_utf8_lossy(value).into_owned(),
        Key::Source { source } => SourceConfig::parse(source, value)?.to_toml(),
        Key::RelayStage { .. } => RelayStage::parse(value)?.to_json(),
        Key::Subtask { .. } => SubtaskConfig::parse(value)?.to_toml(),
        Key::SubtaskStage { .. } | Key::ValidatorStage { .. } => {
            SubtaskStage::parse(value)?.to_json()
        }
        Key::LoadTask { .. } => LoadTask::parse(value)?.to_json(),
        Key::ImportState { .. } => ImportState::parse(value)?.to_json(),
        Key::TaskCliArgs { .. } => TaskCliArgs::parse(value)?.to_json(),
        Key::PessimisticInfo { .. } => PessimisticInfo::parse(value)?.to_json(),
        Key::PessimisticOperation { .. } => PessimisticOperation::parse(value)?.to_json(),
        Key::SourceTables { .. } => SourceTables::parse(value)?.to_json(),
        Key::OptimisticInfo { .. } => OptimisticInfo::parse(value)?.to_json(),
        Key::OptimisticOperation { .. } => OptimisticOperation::parse(value)?.to_json(),
    })
}

#[test]
fn every_recorded_key_and_value_is_written_as_it_was_read() {
    let (mut keys, mut values, mut kinds) = (0, 0, Vec::new());
    for line in EVENTS.iter().flat_map(|events| events.lines()) {
        let event: serde_json::Value = serde_json::from_str(line).expect("a record");
        let text = event["key"].as_str().expect("a key");
        if FOREIGN.iter().any(|prefix| text.starts_with(prefix)) {
            assert!(Key::decode(text.as_bytes()).is_err());
            continue;
        }
        let key = Key::decode(text.as_bytes()).expect(text);
        assert_eq!(key.encode(), text);
        keys += 1;
        if let Some(value) = event["value"].as_str() {
            assert_eq!(
                rewrite(&key, value.as_bytes()).expect(text),
                value,
                "{text}"
            );
            values += 1;
            kinds.push(key.kind());
        }
    }
    kinds.sort_unstable();
    kinds.dedup();
    assert_eq!((keys, values, kinds.len()), (167, 107, 16));
}

#[test]
fn arguments_of_a_task_are_written_in_order() {
    let json =
        r#"{"start_time":"2022-01-01 00:00:00","safe_mode_duration":"1m","wait_time_on_stop":""}"#;
    assert_eq!(
        TaskCliArgs::parse(json.as_bytes())
            .expect("arguments")
            .to_json(),
        json
    );
}
