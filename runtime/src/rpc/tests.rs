use dm_core::{
    error::{Class, Level, Scope},
    status::{
        DumpStatus, LoadStatus, ProcessResult, RelayStatus, Stage, SyncStatus, UnitKind,
        ValidationStatus,
    },
};
use prost::Message;

use super::{
    recorded::{Call, calls},
    *,
};

fn again<M: Message + Default>(bytes: &[u8]) -> Vec<u8> {
    M::decode(bytes).unwrap().encode_to_vec()
}

#[test]
fn recorded_messages_come_out_as_they_went_in() {
    let mut seen = 0;
    for Call {
        title,
        method,
        request,
        response,
    } in calls()
    {
        let (asked, answered) = match method {
            "QueryStatus" => (
                again::<pb::QueryStatusRequest>(&request),
                again::<pb::QueryStatusResponse>(&response),
            ),
            "PurgeRelay" => (
                again::<pb::PurgeRelayRequest>(&request),
                again::<pb::CommonWorkerResponse>(&response),
            ),
            "OperateSchema" => (
                again::<pb::OperateWorkerSchemaRequest>(&request),
                again::<pb::CommonWorkerResponse>(&response),
            ),
            "HandleError" => (
                again::<pb::HandleWorkerErrorRequest>(&request),
                again::<pb::CommonWorkerResponse>(&response),
            ),
            "GetWorkerCfg" => (
                again::<pb::GetWorkerCfgRequest>(&request),
                again::<pb::GetWorkerCfgResponse>(&response),
            ),
            "CheckSubtasksCanUpdate" => (
                again::<pb::CheckSubtasksCanUpdateRequest>(&request),
                again::<pb::CheckSubtasksCanUpdateResponse>(&response),
            ),
            "GetWorkerValidatorStatus" => (
                again::<pb::GetValidationStatusRequest>(&request),
                again::<pb::GetValidationStatusResponse>(&response),
            ),
            "GetValidatorError" => (
                again::<pb::GetValidationErrorRequest>(&request),
                again::<pb::GetValidationErrorResponse>(&response),
            ),
            "OperateValidatorError" => (
                again::<pb::OperateValidationErrorRequest>(&request),
                again::<pb::OperateValidationErrorResponse>(&response),
            ),
            "UpdateValidator" => (
                again::<pb::UpdateValidationWorkerRequest>(&request),
                again::<pb::CommonWorkerResponse>(&response),
            ),
            "RegisterWorker" => (
                again::<pb::RegisterWorkerRequest>(&request),
                again::<pb::RegisterWorkerResponse>(&response),
            ),
            other => panic!("{other}"),
        };
        assert_eq!(asked, request, "{title}");
        assert_eq!(answered, response, "{title}");
        seen += 1;
    }
    assert!(seen > 20);
}

/// The state of a worker that gave a recorded answer.
fn facts_of(response: pb::QueryStatusResponse) -> SourceFacts {
    let status = response.source_status.unwrap();
    SourceFacts {
        copies: <_>::default(),
        name: status.source.clone(),
        handled: response.result,
        status: SourceStatus {
            source: status.source,
            worker: status.worker,
            result: status.result.map(result_of),
            relay_status: status.relay_status.map(|relay| RelayStatus {
                master_binlog: relay.master_binlog,
                master_binlog_gtid: relay.master_binlog_gtid,
                relay_sub_dir: relay.relay_sub_dir,
                relay_binlog: relay.relay_binlog,
                relay_binlog_gtid: relay.relay_binlog_gtid,
                relay_catch_up_master: relay.relay_catch_up_master,
                stage: Stage::from_number(relay.stage.into()).unwrap(),
                result: relay.result.map(result_of),
            }),
        },
        // In another order than they were answered in.
        subtasks: response
            .sub_task_status
            .into_iter()
            .rev()
            .map(subtask_of)
            .collect(),
    }
}

fn subtask_of(status: pb::SubTaskStatus) -> SubtaskStatus {
    use pb::sub_task_status::Status as Recorded;

    let unit = |number| match number {
        0 => UnitKind::InvalidUnit,
        2 => UnitKind::Dump,
        3 => UnitKind::Load,
        4 => UnitKind::Sync,
        other => panic!("unit {other}"),
    };
    SubtaskStatus {
        name: status.name,
        stage: Stage::from_number(status.stage.into()).unwrap(),
        unit: unit(status.unit),
        result: status.result.map(result_of),
        unresolved_ddl_lock_id: status.unresolved_ddl_lock_id,
        refused: None,
        status: status.status.map(|status| match status {
            Recorded::Msg(text) => UnitStatus::Message(text),
            Recorded::Dump(dump) => UnitStatus::Dump(DumpStatus {
                total_tables: dump.total_tables,
                completed_tables: dump.completed_tables,
                finished_bytes: dump.finished_bytes,
                finished_rows: dump.finished_rows,
                estimate_total_rows: dump.estimate_total_rows,
                bps: dump.bps,
                progress: dump.progress,
            }),
            Recorded::Load(load) => UnitStatus::Load(LoadStatus {
                finished_bytes: load.finished_bytes,
                total_bytes: load.total_bytes,
                progress: load.progress,
                meta_binlog: load.meta_binlog,
                meta_binlog_gtid: load.meta_binlog_gtid,
                bps: load.bps,
            }),
            Recorded::Sync(sync) => UnitStatus::Sync(Box::new(SyncStatus {
                total_events: sync.total_events,
                total_tps: sync.total_tps,
                recent_tps: sync.recent_tps,
                master_binlog: sync.master_binlog,
                master_binlog_gtid: sync.master_binlog_gtid,
                syncer_binlog: sync.syncer_binlog,
                syncer_binlog_gtid: sync.syncer_binlog_gtid,
                synced: sync.synced,
                binlog_type: sync.binlog_type,
                seconds_behind_master: sync.seconds_behind_master,
                total_rows: sync.total_rows,
                total_rps: sync.total_rps,
                recent_rps: sync.recent_rps,
                io_total_bytes: sync.io_total_bytes,
                dump_io_total_bytes: sync.dump_io_total_bytes,
                ..SyncStatus::default()
            })),
            Recorded::Check(_) => panic!("no worker checks"),
        }),
        validation: status.validation.map(|validation| ValidationStatus {
            task: validation.task,
            source: validation.source,
            mode: validation.mode,
            stage: Stage::from_number(validation.stage.into()).unwrap(),
            validator_binlog: validation.validator_binlog,
            validator_binlog_gtid: validation.validator_binlog_gtid,
            result: validation.result.map(result_of),
            processed_rows_status: validation.processed_rows_status,
            pending_rows_status: validation.pending_rows_status,
            error_rows_status: validation.error_rows_status,
            cutover_binlog_pos: validation.cutover_binlog_pos,
            cutover_binlog_gtid: validation.cutover_binlog_gtid,
        }),
    }
}

fn result_of(result: pb::ProcessResult) -> ProcessResult {
    let classes = [
        Class::Database,
        Class::SyncUnit,
        Class::SchemaTracker,
        Class::DmWorker,
    ];
    let scopes = [
        Scope::NotSet,
        Scope::Upstream,
        Scope::Downstream,
        Scope::Internal,
    ];
    let levels = [Level::Low, Level::Medium, Level::High];
    let error = |error: pb::ProcessError| Error {
        code: error.err_code.cast_unsigned(),
        class: *classes
            .iter()
            .find(|class| class.as_str() == error.err_class)
            .unwrap(),
        scope: *scopes
            .iter()
            .find(|scope| scope.as_str() == error.err_scope)
            .unwrap(),
        level: *levels
            .iter()
            .find(|level| level.as_str() == error.err_level)
            .unwrap(),
        message: error.message,
        cause: error.raw_cause,
        workaround: error.workaround,
    };
    ProcessResult {
        is_canceled: result.is_canceled,
        errors: result.errors.into_iter().map(error).collect(),
    }
}

#[test]
fn recorded_answers_follow_from_the_state_behind_them() {
    let mut seen = 0;
    for call in calls().iter().filter(|call| call.method == "QueryStatus") {
        let request = pb::QueryStatusRequest::decode(&*call.request).unwrap();
        let recorded = pb::QueryStatusResponse::decode(&*call.response).unwrap();
        let answer = query_status(facts_of(recorded), &request.name);
        assert_eq!(answer.encode_to_vec(), call.response, "{}", call.title);
        seen += 1;
    }
    assert!(seen > 15);
}

#[test]
fn a_task_that_is_not_there_is_named() {
    let subtask = |name: &str| SubtaskStatus {
        name: name.into(),
        ..<_>::default()
    };
    let facts = SourceFacts {
        handled: true,
        subtasks: vec![subtask("b"), subtask("a")],
        ..<_>::default()
    };
    let all = query_status(facts.clone(), "");
    let names: Vec<_> = all
        .sub_task_status
        .iter()
        .map(|status| &*status.name)
        .collect();
    assert_eq!(names, ["a", "b"]);
    assert_eq!(query_status(facts.clone(), "b").sub_task_status.len(), 1);
    let missing = query_status(facts, "c").sub_task_status;
    let remark = "no sub task with name c has started".to_owned();
    assert_eq!(
        missing,
        [pb::SubTaskStatus {
            name: "c".into(),
            status: Some(pb::sub_task_status::Status::Msg(remark)),
            ..<_>::default()
        }]
    );
    let idle = query_status(
        SourceFacts {
            handled: true,
            ..<_>::default()
        },
        "c",
    );
    assert_eq!((idle.result, &*idle.msg), (true, "no sub task started"));
}

#[test]
fn a_worker_without_source_says_so() {
    let answer = query_status(SourceFacts::default(), "");
    assert!(!answer.result && answer.source_status.is_some());
    assert_eq!(
        answer.msg,
        "[code=40070:class=dm-worker:scope=internal:level=high], Message: no mysql source is \
         being handled in the worker"
    );
}
