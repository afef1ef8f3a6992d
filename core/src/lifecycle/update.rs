//! Which changes of a subtask's configuration can be taken over by one that exists.

use alloc::{borrow::ToOwned, format};

use crate::{
    control::{SubtaskConfig, db::DbConfig, subtask::SyncConfig},
    error::{Error, Result, code},
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
    if unit != UnitKind::Sync || !differs_lightly(now, newer) {
        let message = format!(
            "can only update task config for limited fields and this task must in sync unit, \
             current task: {} current unit: {unit}",
            now.name
        );
        return Err(Error::new(&code::WORKER_UPDATE_SUB_TASK_CONFIG, message));
    }
    Ok(())
}

/// Whether the two differ in nothing but what a sync unit can begin to do at any transaction.
fn differs_lightly(now: &SubtaskConfig, newer: &SubtaskConfig) -> bool {
    let foreign_keys = |config: &SubtaskConfig| {
        let mut session = config.to.session();
        session
            .find(|(name, _)| *name == "foreign_key_checks")
            .map(|(_, value)| value.to_owned())
    };
    let expected = SubtaskConfig {
        block_allow_list: newer.block_allow_list.clone(),
        black_white_list: newer.black_white_list.clone(),
        route_rules: newer.route_rules.clone(),
        filter_rules: newer.filter_rules.clone(),
        sync: SyncConfig {
            safe_mode: now.sync.safe_mode,
            ..newer.sync.clone()
        },
        to: DbConfig {
            session: newer.to.session.clone(),
            ..now.to.clone()
        },
        // What the source decides.
        from: newer.from.clone(),
        flavor: newer.flavor.clone(),
        server_id: newer.server_id,
        relay_dir: newer.relay_dir.clone(),
        use_relay: newer.use_relay,
        case_sensitive: newer.case_sensitive,
        ..now.clone()
    };
    expected == *newer && foreign_keys(now) == foreign_keys(newer)
}
