//! What is applied: batches, slots, DDL, and what is recorded of them.

use dm_core::guard::Guard;

use super::{Exhibit, stage::Stage};
use crate::scenario::What::*;

pub(super) fn exhibits() -> Vec<Exhibit> {
    vec![
        Exhibit::new(
            "1 a batch that did not even begin",
            "does not count the failure as one, and records a checkpoint behind rows that were \
             never applied",
            Stage::new()
                .task(|task| task.flush_s = 1)
                .at(9.0, 45.0, Deadlocks(300))
                .every(7.0, 0.8, 7, TargetDown)
                .every(6.5, 0.2, 7, Kill(0)),
        )
        .guarded_by(Guard::Watermark, "checkpoint"),
        Exhibit::new(
            "3 a compressed transaction read twice",
            "knows events by their places in the file, and all of a compressed transaction have \
             one: what it has not applied it takes for done",
            Stage::new()
                .task(|task| task.batch = 2)
                .every(1.1, 0.0, 40, CutDumps(0))
                .every(7.0, 0.2, 7, Kill(0)),
        )
        .guarded_by(Guard::RowCount, "exactly-once"),
        Exhibit::new(
            "4 a DDL behind a batch that failed",
            "executes the DDL though what stands before it was not applied",
            Stage::new()
                .ddls(0.4)
                .at(9.0, 45.0, Deadlocks(250))
                .every(9.0, 0.2, 5, Kill(0)),
        )
        .guarded_by(Guard::DdlDrain, "tables"),
        Exhibit::new(
            "7 a DDL of which nobody knows whether it happened",
            "executes it again, or leaves out the rest of what came in one statement",
            Stage::new()
                .ddls(0.4)
                .at(9.0, 45.0, LostAnswers(250))
                .every(4.0, 0.2, 12, Kill(0)),
        )
        .guarded_by(Guard::DdlSettle, "convergence"),
        Exhibit::new(
            "10 batches behind one that failed",
            "goes on with the next batch, so that rows meet others than at the source",
            Stage::new()
                .task(|task| (task.slots, task.batch) = (2, 2))
                .at(9.0, 45.0, Deadlocks(300)),
        )
        .guarded_by(Guard::FailedAgain, "exactly-once"),
        Exhibit::new(
            "11 rows without a key, once more",
            "applies rows again that it had applied before it was killed: they have no names",
            Stage::new()
                .task(|task| task.flush_s = 9)
                .every(5.0, 0.2, 10, Kill(0)),
        )
        .guarded_by(Guard::ReplaySkip, "exactly-once"),
        Exhibit::new(
            "17 18 a checkpoint that fails",
            "keeps a lock, or half of what was to be written",
            Stage::new()
                .task(|task| task.flush_s = 1)
                .at(9.0, 40.0, LostAnswers(300))
                .at(9.0, 40.0, Deadlocks(200))
                .every(8.0, 0.2, 6, Kill(0)),
        ),
        Exhibit::new(
            "19 a table dropped in the record only",
            "forgets the table's place before the target has dropped the table",
            Stage::new()
                .ddls(0.3)
                .every(3.0, 0.5, 15, TargetDown)
                .every(7.0, 0.2, 7, Kill(0)),
        ),
        Exhibit::new(
            "20 a stream that breaks within a transaction",
            "counts events to find its place again, and counts others than it did before",
            Stage::new()
                .task(|task| (task.slots, task.batch) = (3, 2))
                .every(0.7, 0.0, 60, CutDumps(0)),
        )
        .guarded_by(Guard::ReplayEnd, "exactly-once"),
        Exhibit::new(
            "23 stopped under load",
            "closes a channel that others still write into, and dies",
            Stage::new()
                .every(1.5, 0.3, 25, Stop(0))
                .at(9.0, 40.0, Late(100)),
        ),
        Exhibit::new(
            "another number of slots after a crash",
            "brings rows to other slots than before, so what one has applied another one repeats",
            Stage::new()
                .every(6.0, 0.5, 8, Resize(0, 7))
                .every(6.7, 0.2, 8, Kill(0))
                .every(6.9, 0.5, 8, Resize(0, 2)),
        )
        .guarded_by(Guard::ResizeAfterReplay, "exactly-once"),
        Exhibit::new(
            "an answer that is lost",
            "sends the batch again, which was applied, or leaves it out, which was not",
            Stage::new()
                .task(|task| task.batch = 3)
                .at(9.0, 50.0, LostAnswers(300)),
        )
        .guarded_by(Guard::ProgressWithRows, "exactly-once"),
        Exhibit::new(
            "a transaction that arrives after it was given up",
            "reads back that it was not applied and sends it again; then the first one arrives, \
             under the very same fence",
            Stage::new()
                .task(|task| task.batch = 3)
                .at(9.0, 50.0, Late(300))
                .at(9.0, 50.0, Unseen),
        )
        .guarded_by(Guard::StepCompare, "fence"),
        Exhibit::new(
            "another worker in between",
            "goes on from its own record, and does not see that somebody else went further",
            Stage::new()
                .at(10.0, 8.0, Stop(0))
                .at(17.9, 0.0, Foreign(0, 3))
                .at(30.0, 8.0, Stop(0))
                .at(37.9, 0.0, Foreign(0, 5))
                .at(45.0, 8.0, Stop(0))
                .at(52.9, 0.0, Foreign(0, 8)),
        ),
        Exhibit::new(
            "an event with a flipped bit",
            "applies what the source never wrote",
            Stage::new().seed(8).every(9.0, 2.0, 9, Damage(0, 5)),
        )
        .needs("fault: flipped bit")
        .guarded_by(Guard::Checksum, "exactly-once"),
        Exhibit::new(
            "an event that is missing",
            "goes on behind the gap",
            Stage::new().seed(7).at(9.0, 45.0, Damage(0, 25)),
        )
        .needs("fault: skipped event")
        .guarded_by(Guard::EventGap, "exactly-once"),
    ]
}
