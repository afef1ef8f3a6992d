//! Where a run begins: decided from what the target recorded, the existing worker's checkpoint and
//! the task's own start.

use dm_core::{
    binlog::{Flavor, GtidSet, Position},
    control::{SubtaskConfig, subtask::Meta},
    error::Result,
    sync::progress::{Applied, Location, SlotProgress},
};

use crate::ports::{Checkpoint, SourceFacts, Start};

/// Where slots that have no progress yet begin.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Beginning {
    /// Nothing before it is wanted, or missing.
    pub(super) at: Location,
    /// Rows before it may be applied already, without a record: safe mode.
    pub(super) safe_until: Option<Location>,
    /// For the log.
    pub(super) why: &'static str,
}

impl Beginning {
    /// Chooses the beginning of a subtask that has no progress of ours.
    ///
    /// # Errors
    /// The task's own start can't be read.
    pub(super) fn choose(
        checkpoint: Option<Checkpoint>,
        task: &SubtaskConfig,
        upstream: &SourceFacts,
    ) -> Result<Self> {
        let end = Location {
            position: upstream.end.position.clone(),
            gtids: Some(upstream.end.gtids.clone()),
        };
        Ok(if let Some(checkpoint) = checkpoint {
            Self {
                at: checkpoint.global,
                // Without an exit point everything that the source holds by now may be applied.
                safe_until: Some(checkpoint.exit_safe.unwrap_or(end)),
                why: "the checkpoint of the existing worker",
            }
        } else if let Some(meta) = &task.meta {
            Self {
                at: given(meta, upstream.flavor)?,
                safe_until: None,
                why: "the task's `meta`",
            }
        } else {
            Self {
                at: end,
                safe_until: None,
                why: "the end of the source's binlog: the task names no start",
            }
        })
    }
}

/// The one place that all slots are at, if its GTIDs are not known: an orderly stop before GTIDs
/// were switched on leaves them there. After a crash they go on by position until the next stop.
pub(super) fn without_gtids(slots: &[SlotProgress]) -> Option<Location> {
    let Applied {
        boundary,
        txn: None,
        ..
    } = &slots.first()?.applied
    else {
        return None;
    };
    let is_there = |slot: &SlotProgress| slot.applied == slots[0].applied;
    (boundary.gtids.is_none() && slots.iter().all(is_there)).then(|| boundary.clone())
}

/// What to ask the source for, to read on from a location.
pub(super) fn start(at: &Location, by_gtid: bool) -> Start {
    match &at.gtids {
        Some(gtids) if by_gtid => Start::Gtids(gtids.clone()),
        _ => Start::Position(at.position.clone()),
    }
}

fn given(meta: &Meta, flavor: Flavor) -> Result<Location> {
    let gtids = (!meta.binlog_gtid.is_empty())
        .then(|| GtidSet::parse(flavor, &meta.binlog_gtid))
        .transpose()?;
    let pos = u64::from(meta.binlog_pos).max(Position::FIRST);
    Ok(Location {
        position: Position::new(&meta.binlog_name, pos),
        gtids,
    })
}
