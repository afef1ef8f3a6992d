use std::sync::Arc;

use dm_core::{
    binlog::{Flavor, GtidSet},
    sync::schema::TableName,
};
use prost::Message;

use super::*;
use crate::{
    metrics::{Metrics, SyncMetrics},
    rpc::{
        pb,
        recorded::{Call, calls},
    },
    units::copy::{TableFacts, Total},
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
            // The copy tells what it has read, and the rates depend on the time.
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

/// What the existing worker has recorded of a load that is over.
fn recorded_load() -> pb::LoadStatus {
    let mut loads = answers().into_iter().flat_map(|(_, answer)| {
        let tasks = answer.sub_task_status.into_iter();
        tasks.filter_map(|task| match task.status {
            Some(pb::sub_task_status::Status::Load(load)) => Some(load),
            _ => None,
        })
    });
    loads.next().unwrap()
}

#[test]
fn a_dump_says_nothing_before_it_has_begun() {
    let mut seen = 0;
    for (title, answer) in answers() {
        for task in answer.sub_task_status {
            if let Some(pb::sub_task_status::Status::Dump(recorded)) = task.status {
                let told = dump_status(&CopyFacts::default());
                assert_eq!(pb::DumpStatus::from(told), recorded, "{title}");
                seen += 1;
            }
        }
    }
    assert!(seen > 1, "{seen}");
}

/// Tables with so much to do in all, of which nothing is done.
fn tables(total: Total) -> Vec<TableFacts> {
    let table = |number| {
        let rest = if number == 0 { total } else { Total::default() };
        let size = rest.rows.max(rest.bytes);
        TableFacts::new(&TableName::new("d", "t"), size, rest, Total::default())
    };
    (0..total.tables).map(table).collect()
}

/// As `dmctl` showed one of the existing worker.
#[test]
fn a_recorded_dump_follows_from_what_was_done() {
    let facts = CopyFacts::default();
    let total = Total {
        tables: 5,
        rows: 0,
        bytes: 0,
    };
    facts.begin(tables(total), &Location::default());
    facts.wrote(0, 16_008, 502_088);
    (0..5).for_each(|table| facts.ended(table));
    facts.unit_ended(None);
    let expected = DumpStatus {
        total_tables: 5,
        completed_tables: 5.0,
        finished_bytes: 502_088.0,
        finished_rows: 16_008.0,
        estimate_total_rows: 0.0,
        // It took 672 ms. Here, less than a second counts as one.
        bps: 502_088,
        progress: "100.00 %".into(),
    };
    assert_eq!(dump_status(&facts), expected);
}

/// Whether its rows came through files or not.
#[test]
fn a_recorded_load_follows_from_what_was_done() {
    let recorded = recorded_load();
    let bytes = recorded.total_bytes.unsigned_abs();
    let from = location(&recorded.meta_binlog, &recorded.meta_binlog_gtid);
    for of_files in [0, bytes] {
        let facts = CopyFacts::default();
        let total = Total {
            tables: 1,
            rows: 9,
            bytes: of_files,
        };
        facts.begin(tables(total), &from);
        facts.wrote(0, 0, bytes);
        facts.ended(0);
        facts.unit_ended(None);
        let told = pb::LoadStatus::from(load_status(&facts, true));
        let expected = pb::LoadStatus {
            // It took 296 ms. Here, less than a second counts as one.
            bps: recorded.finished_bytes,
            ..recorded.clone()
        };
        assert_eq!(told, expected, "{of_files}");
        assert!(recorded.bps > 0, "it stays when all is over");
    }
}

#[test]
fn a_load_from_files_begins_with_nothing() {
    let facts = CopyFacts::default();
    let total = |bytes| Total {
        tables: 2,
        rows: 9,
        bytes,
    };
    facts.begin(tables(total(0)), &Location::default());
    facts.wrote(0, 9, 1000);
    (0..2).for_each(|table| facts.ended(table));
    facts.unit_ended(None);
    facts.forget_dump();
    let progress = |is_over| {
        let told = load_status(&facts, is_over);
        (told.finished_bytes, told.total_bytes, told.progress)
    };
    assert_eq!(progress(false), (0, 0, "0.00 %".into()));
    assert_eq!(progress(true), (0, 0, "100.00 %".into()));
    facts.begin(tables(total(4000)), &Location::default());
    facts.wrote(0, 0, 500);
    // Also when it goes on.
    facts.forget_dump();
    assert_eq!(progress(false), (500, 4000, "12.50 %".into()));
}
