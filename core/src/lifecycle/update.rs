//! Which changes of a subtask's configuration can be taken over by one that exists.

use alloc::format;

use crate::{
    error::{Error, Result, code},
    lifecycle::standin::SubtaskConfig,
    status::{Stage, UnitKind},
};

/// Whether a subtask that rests at `stage` before `unit` may go on with `newer` instead of `now`.
pub(super) fn check(
    now: &SubtaskConfig,
    newer: &SubtaskConfig,
    unit: Option<UnitKind>,
    stage: Stage,
    shard_ddl: bool,
) -> Result<()> {
    if stage != Stage::Paused {
        let message = format!("can only update task on Paused stage, but current stage is {stage}");
        return Err(Error::new(&code::WORKER_UPDATE_TASK_STAGE, message));
    }
    if shard_ddl {
        let message = "can't update task config while a shard DDL is not resolved";
        return Err(Error::new(
            &code::SYNCER_UNIT_UPDATE_CONFIG_IN_SHARDING,
            message,
        ));
    }
    let unit = unit.unwrap_or_default();
    if unit != UnitKind::Sync || now != newer {
        let message = format!(
            "can only update task config for limited fields and this task must in sync unit, \
             current task: {} current unit: {unit}",
            now.name
        );
        return Err(Error::new(&code::WORKER_UPDATE_SUB_TASK_CONFIG, message));
    }
    Ok(())
}
