//! Copies of tables: snapshots that are lost, processes that are killed between two rows, and what
//! the binlog then makes of the rest.

use dm_core::guard::Guard;

use super::{Exhibit, stage::Stage};
use crate::scenario::{
    Way,
    What::{self, *},
};

/// A source whose tables are copied, of which much is copied when this goes wrong again and again.
fn copied(what: What) -> Stage {
    let stage = Stage::new().seed(3).task(|task| {
        task.copies = true;
        task.by_gtid = true;
    });
    let times = [0.5, 1.3, 1.7, 2.2, 3.0, 4.1, 5.5, 7.5, 12.0];
    let step = |stage: Stage, at: f64| stage.at(at, 0.1, what);
    times.into_iter().fold(stage, step)
}

pub(super) fn exhibits() -> Vec<Exhibit> {
    vec![
        Exhibit::new(
            "copy: a snapshot is lost",
            "begins from zero, again and again, and never comes to an end",
            copied(CutDumps(0)),
        )
        .needs("source: lost snapshot")
        .guarded_by(Guard::CopyGaps, "exactly-once"),
        Exhibit::new(
            "copy: a place that is read late",
            "hands over to the binlog behind changes that its rows lack",
            copied(CutDumps(0)),
        )
        .needs("source: snapshot")
        .guarded_by(Guard::CopyMoment, "checkpoint"),
        Exhibit::new(
            "copy: the binlog between two snapshots",
            "goes on from the last one, though some rows are of the first",
            copied(CutDumps(0)),
        )
        .needs("source: lost snapshot")
        .guarded_by(Guard::CopyFrom, "exactly-once"),
        Exhibit::new(
            "copy: rows of a later snapshot",
            "finds changes done that it is about to do, and fails, or does them twice",
            copied(CutDumps(0)),
        )
        .needs("source: lost snapshot")
        .guarded_by(Guard::CopyUntil, "exactly-once"),
        Exhibit::new(
            "copy: a table without a key",
            "goes on somewhere, since no row says where it was",
            copied(CutDumps(0)),
        )
        .needs("source: lost snapshot"),
        Exhibit::new(
            "copy: what such a table has already",
            "writes rows that are there once more",
            copied(CutDumps(0)),
        )
        .needs("source: lost snapshot")
        .guarded_by(Guard::CopyPlace, "checkpoint"),
        Exhibit::new(
            "copy: killed before it is complete",
            "takes the rows that are there for all",
            copied(Kill(0)),
        )
        .needs("target: piece of a copy")
        .guarded_by(Guard::CopyComplete, "exactly-once"),
        Exhibit::new(
            "copy: killed between rows and the note of them",
            "copies them twice",
            copied(Kill(0)),
        )
        .needs("target: piece of a copy")
        .guarded_by(Guard::CopyNote, "convergence"),
        Exhibit::new(
            "copy: interrupted, and nothing follows",
            "leaves rows of several moments, or begins from zero",
            copied(Kill(0)).task(|task| task.way = Way::StraightFull),
        )
        .needs("target: caught up")
        .guarded_by(Guard::CopyCatchUp, "moment"),
        Exhibit::new(
            "copy: paused in the middle",
            "holds a snapshot open for ever, or begins from zero",
            copied(Pause(0)),
        )
        .needs("target: piece of a copy"),
    ]
}
