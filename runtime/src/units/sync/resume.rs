//! Where a run begins: decided from what the target recorded, the existing worker's checkpoint and
//! the task's own start.

use dm_core::{
    binlog::{Flavor, GtidSet, Position},
    control::{SubtaskConfig, check::invalid, subtask::Meta},
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
        checkpoint: Option<&Checkpoint>,
        task: &SubtaskConfig,
        upstream: &SourceFacts,
    ) -> Result<Self> {
        let end = Location {
            position: upstream.end.position.clone(),
            gtids: Some(upstream.end.gtids.clone()),
        };
        Ok(if let Some(checkpoint) = checkpoint {
            Self {
                at: checkpoint.global.clone(),
                // Without an exit point everything that the source holds by now may be applied.
                safe_until: Some(checkpoint.exit_safe.clone().unwrap_or(end)),
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

/// Where the slot is that is furthest behind, or the checkpoint: after a crash it may be older, and
/// the existing worker would go on from there.
pub(super) fn lowest<'a>(
    slots: &'a [SlotProgress],
    checkpoint: Option<&'a Checkpoint>,
    by_gtid: bool,
) -> Option<&'a Location> {
    let slots = slots.iter().map(|slot| &slot.applied.boundary);
    let places = slots.chain(checkpoint.map(|checkpoint| &checkpoint.global));
    Location::lowest(places, by_gtid)
}

/// All positions that a run compares with each other.
pub(super) fn places<'a>(
    slots: &'a mut [SlotProgress],
    safe_until: Option<&'a mut Location>,
) -> Vec<&'a mut Position> {
    let mut places: Vec<_> = safe_until
        .map(|until| &mut until.position)
        .into_iter()
        .collect();
    for slot in slots {
        let Applied { boundary, txn, .. } = &mut slot.applied;
        places.push(&mut boundary.position);
        places.extend(txn.as_mut().map(|txn| &mut txn.start));
    }
    places
}

/// What to ask for, to read on from a location.
///
/// # Errors
/// 20900 if the location is known by GTID only and the source is not read by GTID: a position
/// without a file is the beginning of its first file.
pub(super) fn start(at: &Location, by_gtid: bool) -> Result<Start> {
    match &at.gtids {
        Some(gtids) if by_gtid => Ok(Start::Gtids(gtids.clone())),
        _ if at.position.file.is_empty() => {
            let why = "is false in the source, and the place to start at is known by GTID only \
                       (`binlog-gtid` in `meta`, or a checkpoint)";
            Err(invalid("enable-gtid", why).with_workaround(
                "Set `enable-gtid: true` in the source, or give `binlog-name` and `binlog-pos` in \
                 `meta` of a task that has not started.",
            ))
        }
        _ => Ok(Start::Position(at.position.clone())),
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

#[cfg(test)]
mod tests {
    use super::*;

    fn meta(name: &str, gtids: &str) -> Location {
        let meta = Meta {
            binlog_name: name.into(),
            binlog_gtid: gtids.into(),
            ..Meta::default()
        };
        given(&meta, Flavor::Mysql).expect("valid")
    }

    const GTIDS: &str = "3e11fa47-71ca-11e1-9e33-c80aa9429562:1-7";

    /// A server takes a position without a file for the beginning of its first one.
    #[test]
    fn a_place_known_by_gtid_only_is_never_started_at_by_position() {
        let error = start(&meta("", GTIDS), false).expect_err("no file");
        assert_eq!(error.code, 20900);
        for key in ["enable-gtid", "binlog-gtid"] {
            assert!(error.message.contains(key), "{error}");
        }
        let by_gtid = start(&meta("", GTIDS), true).expect("by GTID");
        assert!(matches!(by_gtid, Start::Gtids(_)), "{by_gtid}");
        for by_gtid in [false, true] {
            let from = start(&meta("b.000007", ""), by_gtid).expect("by position");
            assert_eq!(from, Start::Position(Position::new("b.000007", 4)));
        }
    }
}
