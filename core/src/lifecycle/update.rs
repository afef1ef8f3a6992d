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

#[cfg(test)]
mod tests {
    use super::*;

    fn config() -> SubtaskConfig {
        let text = b"name = \"t\"\nmode = \"incremental\"\nsource-id = \"a\"\nworker-count = 16\n\
                     batch = 100\n";
        SubtaskConfig::parse(text).expect("valid")
    }

    fn check_from(now: &SubtaskConfig, change: impl FnOnce(&mut SubtaskConfig)) -> Option<u32> {
        let mut newer = now.clone();
        change(&mut newer);
        let result = check(now, &newer, Some(UnitKind::Sync), Stage::Paused, false);
        result.err().map(|error| error.code)
    }

    #[test]
    fn rules_and_sync_settings_can_change() {
        let now = config();
        assert_eq!(check_from(&now, |newer| newer.sync.batch = 7), None);
        assert_eq!(
            check_from(&now, |newer| newer.route_rules = Some([].into())),
            None
        );
        assert_eq!(
            check_from(&now, |newer| newer.block_allow_list = None),
            None
        );
        assert_eq!(
            check_from(&now, |newer| newer.from.host = "elsewhere".into()),
            None
        );
        assert_eq!(check_from(&now, |newer| newer.server_id = 9), None);
        let session = |newer: &mut SubtaskConfig, name: &str| {
            newer
                .to
                .session
                .get_or_insert_default()
                .insert(name.into(), "1".into());
        };
        assert_eq!(check_from(&now, |newer| session(newer, "sql_mode")), None);
        assert_eq!(
            check_from(&now, |newer| session(newer, "foreign_key_checks")),
            Some(40_081)
        );
    }

    #[test]
    fn nothing_else_can() {
        let now = config();
        assert_eq!(
            check_from(&now, |newer| newer.sync.safe_mode = true),
            Some(40_081)
        );
        assert_eq!(
            check_from(&now, |newer| newer.to.host = "elsewhere".into()),
            Some(40_081)
        );
        assert_eq!(
            check_from(&now, |newer| newer.mode = "all".into()),
            Some(40_081)
        );
        assert_eq!(
            check_from(&now, |newer| newer.meta_schema = "x".into()),
            Some(40_081)
        );
    }

    #[test]
    fn only_a_paused_sync_unit_without_an_open_shard_ddl_can_take_it() {
        let now = config();
        let code = |unit, stage, shard_ddl| {
            check(&now, &now, unit, stage, shard_ddl)
                .err()
                .map(|error| error.code)
        };
        assert_eq!(code(Some(UnitKind::Sync), Stage::Paused, false), None);
        assert_eq!(
            code(Some(UnitKind::Load), Stage::Paused, false),
            Some(40_081)
        );
        assert_eq!(code(None, Stage::Paused, false), Some(40_081));
        assert_eq!(
            code(Some(UnitKind::Sync), Stage::Running, false),
            Some(40_052)
        );
        assert_eq!(
            code(Some(UnitKind::Sync), Stage::Paused, true),
            Some(36_058)
        );
    }
}
