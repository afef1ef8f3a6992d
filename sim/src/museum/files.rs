//! Dump files: what looks complete and is not, who has them, and what is loaded once more or from
//! another dump.

use dm_core::guard::Guard;

use super::{Exhibit, stage::Stage};
use crate::scenario::{
    Way,
    What::{self, *},
};

/// A source whose tables go through files.
fn dumped(way: Way) -> Stage {
    Stage::new().seed(5).task(|task| {
        task.copies = true;
        task.by_gtid = true;
        task.way = way;
    })
}

/// What goes wrong again and again while tables are dumped and loaded.
fn often(stage: Stage, what: What) -> Stage {
    let times = [0.6, 1.1, 1.7, 2.4, 3.2, 4.1, 5.1, 6.2, 7.4];
    let step = |stage: Stage, at: f64| stage.at(at, 0.1, what);
    times.into_iter().fold(stage, step)
}

pub(super) fn exhibits() -> Vec<Exhibit> {
    vec![
        Exhibit::new(
            "files: killed while it dumps",
            "takes what is there for a dump, since its metadata come first",
            often(dumped(Way::Files), Kill(0)),
        )
        .needs("dump: complete")
        .guarded_by(Guard::DumpLast, "files"),
        Exhibit::new(
            "files: a power cut behind a dump",
            "loads files that are empty, or finds their names gone",
            often(dumped(Way::Files), PowerCut(0)),
        )
        .needs("dump: complete")
        .guarded_by(Guard::DumpSync, "files"),
        Exhibit::new(
            "files: the source is moved to a worker without them",
            "has loaded before anybody knows where the files are",
            often(dumped(Way::Files), CutRequests(0)).at(9.0, 4.0, Transfer(0)),
        )
        .needs("target: loaded files")
        .guarded_by(Guard::LoadMark, "files"),
        Exhibit::new(
            "files: a load under no fence of its own",
            "writes into what somebody else loads by now",
            dumped(Way::Files),
        )
        .needs("target: loaded files")
        .guarded_by(Guard::LoadTakeover, "convergence"),
        Exhibit::new(
            "files: killed between rows and the note of them",
            "loads them twice",
            often(dumped(Way::Files), Kill(0)),
        )
        .needs("target: piece of a load")
        .guarded_by(Guard::LoadNote, "files"),
        Exhibit::new(
            "files: dumped once more behind its tables",
            "takes tables of the former dump for those of this one",
            dumped(Way::TwoTasks)
                .seed(32)
                .task(|task| task.again = true)
                .at(0.001, 3.0, Stop(0))
                .ddls(0.3),
        )
        .needs("operator: dumps once more")
        // The former table can't take the rows of this dump, which is told for ever.
        .guarded_by(Guard::LoadAnew, "convergence"),
        Exhibit::new(
            "files: a task that has no more to do is killed",
            "looks for metadata that it has removed, and fails for ever",
            often(dumped(Way::Full), Kill(0)),
        )
        .needs("target: loaded files"),
        Exhibit::new(
            "files: a load is killed at its end",
            "forgets where it was before it says that it is over, and loads all again",
            often(dumped(Way::TwoTasks), Kill(0)),
        )
        .needs("target: loaded files"),
    ]
}
