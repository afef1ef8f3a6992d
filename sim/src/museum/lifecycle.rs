//! What runs: the stages of a task, and the orders that change them.

use dm_core::guard::Guard;

use super::{Exhibit, stage::Stage};
use crate::scenario::What::*;

pub(super) fn exhibits() -> Vec<Exhibit> {
    vec![
        Exhibit::new(
            "B1 stopped while it starts",
            "loses the order while one unit has ended and the next one has not begun: it runs on, \
             where nobody sees or stops it",
            Stage::new().seed(5).every(2.0, 0.05, 20, Stop(0)),
        )
        .guarded_by(Guard::UnitEnd, "lease"),
        Exhibit::new(
            "B2 an error right behind a resumption",
            "overwrites the error with `Running`, though nothing runs",
            Stage::new()
                .every(6.0, 2.0, 8, TargetDown)
                .every(6.1, 1.0, 8, Pause(0)),
        )
        .guarded_by(Guard::AutoResume, "convergence"),
        Exhibit::new(
            "B3 paused while it waits to be resumed",
            "resumes by itself what an operator has paused in between",
            Stage::new()
                .at(10.0, 35.0, SourceDown(0))
                .at(11.0, 49.0, Pause(0)),
        )
        .guarded_by(Guard::PauseOverError, "order"),
        Exhibit::new(
            "B4 paused, and restarted",
            "has forgotten that it was paused, or takes it for an error that it resumes by itself",
            Stage::new()
                .at(9.0, 51.0, Pause(0))
                .at(10.0, 0.5, Kill(0))
                .at(35.0, 0.5, Kill(0))
                .at(45.0, 0.5, Kill(1)),
        )
        .guarded_by(Guard::PauseOverStart, "stop"),
        Exhibit::new(
            "B6 an order for a task that is not there",
            "makes a task without a name of it, which stays for ever",
            Stage::new()
                .at(10.0, 20.0, Stop(0))
                .at(12.0, 10.0, Pause(0))
                .at(40.0, 5.0, Stop(0))
                .at(41.0, 20.0, Pause(0)),
        ),
        Exhibit::new(
            "B7 B8 paused between two stages",
            "refuses or forgets the order while it is pausing, resuming, or between two units",
            Stage::new().seed(24).every(0.9, 0.03, 40, Pause(0)),
        ),
        Exhibit::new(
            "B9 the lease is lost before the task has run",
            "calls what was never set, and dies; or waits for ever for what never began",
            Stage::new()
                .at(0.1, 30.0, Pause(0))
                .every(7.0, 6.0, 6, Cut(0)),
        ),
        Exhibit::new(
            "C1 taken away while it waits to be resumed",
            "deadlocks between the end of the source and whoever was about to resume its tasks",
            Stage::new()
                .workers(3)
                .another_source()
                .every(8.0, 4.0, 6, TargetDown)
                .every(8.3, 0.0, 6, Transfer(0))
                .every(8.6, 5.5, 6, Cut(1)),
        ),
        Exhibit::new(
            "C5 taken away before it has begun",
            "misses the end that comes before its beginning, and comes alive later",
            Stage::new()
                .workers(3)
                .at(0.0, 50.0, SourceDown(0))
                .every(1.5, 0.0, 20, Transfer(0)),
        ),
        Exhibit::new(
            "a resumption that fails again and again",
            "gives up, or hammers a target that is down",
            Stage::new().at(10.0, 40.0, SourceDown(0)),
        )
        .guarded_by(Guard::AutoResume, "convergence"),
    ]
}
