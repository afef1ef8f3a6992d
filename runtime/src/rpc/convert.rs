//! From the core's view of things to messages.

use dm_core::{
    error::{Error, code},
    relay::Strategy,
    status::{
        DumpStatus, LoadStatus, ProcessResult, RelayStatus, ShardingGroup, SourceStatus,
        SubtaskStatus, SyncStatus, UnitStatus, ValidationStatus,
    },
};

use super::pb;

/// What a request to purge asks for: the first that it says counts.
///
/// # Errors
/// 30039: nothing.
pub(super) fn strategy(request: pb::PurgeRelayRequest) -> Result<Strategy, Error> {
    let pb::PurgeRelayRequest {
        inactive,
        time,
        filename,
        sub_dir,
    } = request;
    if inactive {
        return Ok(Strategy::Inactive);
    }
    match u64::try_from(time) {
        Ok(time) if time > 0 => Ok(Strategy::Time(time)),
        _ if !filename.is_empty() => Ok(Strategy::File {
            name: filename,
            sub_dir: (!sub_dir.is_empty()).then_some(sub_dir),
        }),
        _ => {
            let text = "request not valid: it says neither `inactive` nor `time` nor `filename`";
            Err(Error::new(&code::RELAY_PURGE_REQUEST_NOT_VALID, text))
        }
    }
}

impl From<Error> for pb::ProcessError {
    fn from(error: Error) -> Self {
        Self {
            // All numbers have five digits.
            err_code: error.code.cast_signed(),
            err_class: error.class.to_string(),
            err_scope: error.scope.to_string(),
            err_level: error.level.to_string(),
            message: error.message,
            raw_cause: error.cause,
            workaround: error.workaround,
        }
    }
}

impl From<ProcessResult> for pb::ProcessResult {
    fn from(result: ProcessResult) -> Self {
        Self {
            is_canceled: result.is_canceled,
            errors: result.errors.into_iter().map(Into::into).collect(),
            detail: Vec::new(),
        }
    }
}

impl From<SourceStatus> for pb::SourceStatus {
    fn from(status: SourceStatus) -> Self {
        Self {
            source: status.source,
            worker: status.worker,
            result: status.result.map(Into::into),
            relay_status: status.relay_status.map(Into::into),
        }
    }
}

impl From<RelayStatus> for pb::RelayStatus {
    fn from(status: RelayStatus) -> Self {
        Self {
            master_binlog: status.master_binlog,
            master_binlog_gtid: status.master_binlog_gtid,
            relay_sub_dir: status.relay_sub_dir,
            relay_binlog: status.relay_binlog,
            relay_binlog_gtid: status.relay_binlog_gtid,
            relay_catch_up_master: status.relay_catch_up_master,
            stage: status.stage.number().into(),
            result: status.result.map(Into::into),
        }
    }
}

impl From<SubtaskStatus> for pb::SubTaskStatus {
    fn from(status: SubtaskStatus) -> Self {
        use pb::sub_task_status::Status;

        Self {
            name: status.name,
            stage: status.stage.number().into(),
            unit: status.unit.number().into(),
            result: status.result.map(Into::into),
            unresolved_ddl_lock_id: status.unresolved_ddl_lock_id,
            status: status.status.map(|status| match status {
                UnitStatus::Message(text) => Status::Msg(text),
                UnitStatus::Dump(status) => Status::Dump(status.into()),
                UnitStatus::Load(status) => Status::Load(status.into()),
                UnitStatus::Sync(status) => Status::Sync((*status).into()),
            }),
            validation: status.validation.map(Into::into),
        }
    }
}

impl From<DumpStatus> for pb::DumpStatus {
    fn from(status: DumpStatus) -> Self {
        Self {
            total_tables: status.total_tables,
            completed_tables: status.completed_tables,
            finished_bytes: status.finished_bytes,
            finished_rows: status.finished_rows,
            estimate_total_rows: status.estimate_total_rows,
            bps: status.bps,
            progress: status.progress,
        }
    }
}

impl From<LoadStatus> for pb::LoadStatus {
    fn from(status: LoadStatus) -> Self {
        Self {
            finished_bytes: status.finished_bytes,
            total_bytes: status.total_bytes,
            progress: status.progress,
            meta_binlog: status.meta_binlog,
            meta_binlog_gtid: status.meta_binlog_gtid,
            bps: status.bps,
        }
    }
}

impl From<SyncStatus> for pb::SyncStatus {
    fn from(status: SyncStatus) -> Self {
        Self {
            total_events: status.total_events,
            total_tps: status.total_tps,
            recent_tps: status.recent_tps,
            master_binlog: status.master_binlog,
            master_binlog_gtid: status.master_binlog_gtid,
            syncer_binlog: status.syncer_binlog,
            syncer_binlog_gtid: status.syncer_binlog_gtid,
            blocking_dd_ls: status.blocking_ddls,
            unresolved_groups: status
                .unresolved_groups
                .into_iter()
                .map(Into::into)
                .collect(),
            synced: status.synced,
            binlog_type: status.binlog_type,
            seconds_behind_master: status.seconds_behind_master,
            block_ddl_owner: status.block_ddl_owner,
            conflict_msg: status.conflict_msg,
            total_rows: status.total_rows,
            total_rps: status.total_rps,
            recent_rps: status.recent_rps,
            io_total_bytes: status.io_total_bytes,
            dump_io_total_bytes: status.dump_io_total_bytes,
        }
    }
}

impl From<ShardingGroup> for pb::ShardingGroup {
    fn from(group: ShardingGroup) -> Self {
        Self {
            target: group.target,
            dd_ls: group.ddls,
            first_location: group.first_location,
            synced: group.synced,
            unsynced: group.unsynced,
        }
    }
}

impl From<ValidationStatus> for pb::ValidationStatus {
    fn from(status: ValidationStatus) -> Self {
        Self {
            task: status.task,
            source: status.source,
            mode: status.mode,
            stage: status.stage.number().into(),
            validator_binlog: status.validator_binlog,
            validator_binlog_gtid: status.validator_binlog_gtid,
            result: status.result.map(Into::into),
            processed_rows_status: status.processed_rows_status,
            pending_rows_status: status.pending_rows_status,
            error_rows_status: status.error_rows_status,
            cutover_binlog_pos: status.cutover_binlog_pos,
            cutover_binlog_gtid: status.cutover_binlog_gtid,
        }
    }
}
