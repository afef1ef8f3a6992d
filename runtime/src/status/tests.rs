use std::sync::Arc;

use dm_core::binlog::{Flavor, GtidSet};
use prost::Message;

use super::*;
use crate::{
    metrics::{Metrics, SyncMetrics},
    rpc::{
        pb,
        recorded::{Call, calls},
    },
};

/// The recorded answers about the status.
fn answers() -> Vec<(&'static str, pb::QueryStatusResponse)> {
    let status = |call: Call| {
        let asked = call.method == "QueryStatus";
        asked.then(|| (call.title, Message::decode(&*call.response).unwrap()))
    };
    calls().into_iter().filter_map(status).collect()
}

fn location(position: &str, gtids: &str) -> Location {
    Location {
        position: position.parse().unwrap(),
        gtids: (!gtids.is_empty()).then(|| GtidSet::parse_any(gtids).unwrap()),
    }
}

/// The end of a source of which the existing worker wrote this.
fn source_end(position: &str, gtids: &str) -> SourceEnd {
    let Location { position, gtids } = location(position, gtids);
    SourceEnd {
        position,
        gtids: gtids.unwrap(),
        files: Vec::new(),
        purged: GtidSet::empty(Flavor::Mysql),
    }
}

#[test]
fn what_a_source_has_lost_is_told_by_file_or_by_gtid() {
    const UUID: &str = "0a0431f2-e6eb-11f1-beb0-02fc00000001";
    let mut end = source_end("(b.000009, 4)", &format!("{UUID}:1-9"));
    let from = |file: &str, last: u64| Location {
        position: Position::new(file, 4),
        gtids: Some(GtidSet::parse(Flavor::Mysql, &format!("{UUID}:1-{last}")).unwrap()),
    };
    // As long as nobody says.
    assert!(
        !end.has_lost(&from("b.000001", 1), false) && !end.has_lost(&from("b.000001", 1), true)
    );
    end.files = vec![("b.000008".into(), 9), ("b.000009".into(), 4)];
    end.purged = GtidSet::parse(Flavor::Mysql, &format!("{UUID}:1-5")).unwrap();
    for (file, last, by_file, by_gtid) in [
        ("b.000007", 4, true, true),
        ("b.000007", 5, true, false),
        ("b.000008", 4, false, true),
        ("b.000008", 7, false, false),
    ] {
        assert_eq!(end.has_lost(&from(file, last), false), by_file, "{file}");
        assert_eq!(end.has_lost(&from(file, last), true), by_gtid, "{last}");
    }
}

#[test]
fn recorded_relays_follow_from_where_they_stood() {
    let mut stages = Vec::new();
    for (title, answer) in answers() {
        let Some(recorded) = answer.source_status.unwrap().relay_status else {
            continue;
        };
        let location = location(&recorded.relay_binlog, &recorded.relay_binlog_gtid);
        let relayed = RelayEnd {
            sub_dir: recorded.relay_sub_dir.parse().unwrap(),
            file: location.position.file.clone(),
            len: location.position.pos,
            location,
        };
        let end = source_end(&recorded.master_binlog, &recorded.master_binlog_gtid);
        let stage = Stage::from_number(recorded.stage.into()).unwrap();
        let canceled = recorded.result.as_ref().map(|it| it.is_canceled);
        let relay = RelayView {
            stage,
            result: canceled.map(|is_canceled| ProcessResult {
                is_canceled,
                errors: Vec::new(),
            }),
            live: None,
        };
        let told = relay_status(&relay, Some(&relayed), Some(&end));
        assert_eq!(pb::RelayStatus::from(told), recorded, "{title}");
        stages.push(stage);
    }
    use Stage::{Paused, Running};
    // Switched on, paused by an operator, resumed, and on in two workers.
    let expected = [Running, Running, Paused, Paused, Running, Running, Running];
    assert_eq!(stages, expected);
}

#[test]
fn of_a_closed_relay_only_the_stage_is_told() {
    let at = location("(binlog.000004, 157)", "");
    let relayed = RelayEnd {
        sub_dir: "0-3404.000001".parse().unwrap(),
        file: at.position.file.clone(),
        len: at.position.pos,
        location: at,
    };
    let relay = RelayView {
        stage: Stage::Stopped,
        result: None,
        live: None,
    };
    let told = relay_status(&relay, Some(&relayed), None);
    let stage = Stage::Stopped.number().into();
    let expected = pb::RelayStatus {
        stage,
        ..<_>::default()
    };
    assert_eq!(pb::RelayStatus::from(told), expected);
}

#[test]
fn recorded_sync_units_follow_from_where_they_were() {
    let (mut local, mut remote) = (0, 0);
    for (title, answer) in answers() {
        for task in answer.sub_task_status {
            let Some(pb::sub_task_status::Status::Sync(recorded)) = task.status else {
                continue;
            };
            let metrics = SyncMetrics::new(&Arc::new(Metrics::default()), "t", "s", "w");
            let facts = SyncFacts::new(metrics);
            let rows = recorded.total_rows.unsigned_abs();
            facts.rows.store(rows, Relaxed);
            facts.target_bytes.store(recorded.io_total_bytes, Relaxed);
            facts.note_origin(recorded.binlog_type == "local");
            let at = location(&recorded.syncer_binlog, &recorded.syncer_binlog_gtid);
            facts.note_flushed(&at, &at);
            let end = source_end(&recorded.master_binlog, &recorded.master_binlog_gtid);
            let told = pb::SyncStatus::from(sync_status(&facts, Some(&end)));
            // This worker does not dump, and the rates depend on the time.
            let recorded = pb::SyncStatus {
                total_tps: told.total_tps,
                recent_tps: told.recent_tps,
                total_rps: told.total_rps,
                recent_rps: told.recent_rps,
                dump_io_total_bytes: 0,
                ..recorded
            };
            assert_eq!(told, recorded, "{title}");
            let count = match &*recorded.binlog_type {
                "local" => &mut local,
                _ => &mut remote,
            };
            *count += 1;
        }
    }
    assert!(local > 5 && remote > 10, "{local} {remote}");
}
