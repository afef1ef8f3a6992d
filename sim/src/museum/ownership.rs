//! Who may write: leases, fences, and the assignments that etcd holds.

use dm_core::guard::Guard;

use super::{Exhibit, stage::Stage};
use crate::scenario::What::*;

pub(super) fn exhibits() -> Vec<Exhibit> {
    vec![
        Exhibit::new(
            "A1 answers on a slow way",
            "counts its lease from the moment at which the renewal's answer arrived, so it works \
             on after the store has given its source to somebody else",
            Stage::new()
                .at(10.0, 40.0, SlowAnswers(0, 2_500))
                .at(20.0, 12.0, CutRequests(0))
                .at(40.0, 12.0, CutRequests(0)),
        )
        .guarded_by(Guard::LeaseFromSend, "lease"),
        Exhibit::new(
            "A1 a commit in flight",
            "has nothing in its transactions that tells the target whose they are, so one that was \
             sent before the lease was lost is committed after the next owner has begun",
            Stage::new()
                .task(|task| task.batch = 2)
                .at(9.0, 45.0, Late(200))
                .every(4.0, 0.0, 12, Transfer(0)),
        )
        .guarded_by(Guard::FenceCompare, "fence"),
        Exhibit::new(
            "A2 the lease is given up before the work has ended",
            "revokes its lease first and then stops: the next owner begins while it still writes",
            Stage::new()
                .every(7.0, 0.0, 6, RestartEtcd)
                .every(8.0, 3.9, 6, Cut(0))
                .every(9.0, 3.9, 5, Cut(1)),
        )
        .guarded_by(Guard::CancelBeforeRevoke, "lease"),
        Exhibit::new(
            "A3 the store can be written and not read",
            "gives a good lease up because reading about its assignment fails, while it works",
            Stage::new()
                .every(4.0, 1.5, 10, CutAnswers(0))
                .every(2.0, 0.0, 20, CloseWatches),
        ),
        Exhibit::new(
            "A4 the lease is lost while a task starts",
            "waits with the end of everything until a start that hangs on the source is over",
            Stage::new()
                .at(10.0, 30.0, SourceDown(0))
                .at(11.0, 1.0, Pause(0))
                .at(13.0, 20.0, Cut(0)),
        ),
        Exhibit::new(
            "A5 nobody waits for the old owner",
            "begins while the owner before it still drains what it has read",
            Stage::new()
                .at(9.0, 45.0, LongTransactions(300))
                .every(3.0, 0.0, 15, Transfer(0)),
        )
        .guarded_by(Guard::TakeoverLocks, "fence"),
        Exhibit::new(
            "A6 an assignment that is old when it is obeyed",
            "obeys an event though a newer one has taken the source away already",
            Stage::new()
                .at(9.0, 40.0, Slow(0, 900))
                .at(9.0, 40.0, Slow(1, 900))
                .at(9.0, 40.0, Late(300))
                .every(2.0, 0.0, 20, Transfer(0)),
        )
        .guarded_by(Guard::TakeoverCompare, "fence"),
        Exhibit::new(
            "a picture made of two moments",
            "reads first which source it has, and later what is wanted of it, which is of another \
             time by then",
            Stage::new()
                .at(9.0, 45.0, Slow(0, 400))
                .every(1.1, 0.3, 40, Pause(0)),
        )
        .guarded_by(Guard::OneRevision, "snapshot"),
        Exhibit::new(
            "taken away and given back unseen",
            "goes on as the owner that it was, behind the fence of the one that it is",
            Stage::new()
                .at(9.0, 6.0, Deafen(0))
                .at(9.0, 6.0, Deafen(1))
                .at(10.0, 1.0, Transfer(0)),
        )
        .guarded_by(Guard::FenceRestart, "owner"),
        Exhibit::new(
            "A7 all former assignments once more",
            "watches from the revision at which it began to live, and obeys each assignment of its \
             past again, after its watch has failed",
            Stage::new()
                .every(3.0, 0.0, 14, Transfer(0))
                .every(5.0, 0.0, 9, CloseWatches),
        ),
        Exhibit::new(
            "A8 an assignment of an earlier life",
            "starts, finds an assignment and works, before it has announced itself",
            Stage::new()
                .every(6.0, 0.1, 8, Kill(0))
                .at(20.0, 3.0, Pause(0)),
        )
        .guarded_by(Guard::AnnounceFirst, "fence"),
        Exhibit::new(
            "A9 two processes of one name",
            "does not notice that somebody else has its name, so that both work",
            Stage::new().at(12.0, 25.0, Twin(0)).at(40.0, 15.0, Twin(1)),
        )
        .guarded_by(Guard::AnnounceCompare, "name"),
        Exhibit::new(
            "A9 two processes of one name, one of them cut off",
            "loses its lease, and takes the other one's announcement with it",
            Stage::new().at(12.0, 40.0, Twin(0)).at(20.0, 8.0, Cut(0)),
        )
        .guarded_by(Guard::FenceOfAnnouncement, "fence"),
        Exhibit::new(
            "A10 a watch that is deaf",
            "never hears that its source was taken away, since only its watch hangs",
            Stage::new()
                .at(9.0, 50.0, Deafen(0))
                .at(10.0, 48.0, Stop(0)),
        )
        .guarded_by(Guard::Reread, "order"),
        Exhibit::new(
            "A11 an announcement whose answer is lost",
            "forgets the lease that its announcement hangs on, so nobody renews or revokes it",
            Stage::new()
                .at(9.0, 0.5, Kill(0))
                .at(9.4, 4.0, CutAnswers(0))
                .at(20.0, 0.5, Kill(1))
                .at(20.4, 4.0, CutAnswers(1)),
        )
        .guarded_by(Guard::LeaseGivenUp, "end"),
        Exhibit::new(
            "D1 an event that could not be handled",
            "drops the event if reading what it is about fails; a change of leader is enough",
            Stage::new()
                .every(3.0, 0.7, 14, FreezeEtcd)
                .every(3.05, 2.0, 14, Pause(0))
                .every(3.1, 0.0, 14, RestartEtcd),
        ),
        Exhibit::new(
            "D1 a watch that ends",
            "stops to listen for good after an error of a class that nobody has thought of",
            Stage::new()
                .at(2.0, 0.0, CloseWatches)
                .at(2.002, 50.0, Pause(0)),
        )
        .guarded_by(Guard::WatchEnd, "order"),
        Exhibit::new(
            "D2 a start that failed once",
            "stays half-enabled until the master writes its assignment again",
            Stage::new()
                .at(0.0, 20.0, SourceDown(0))
                .at(30.0, 10.0, SourceDown(0))
                .at(31.0, 0.0, Transfer(0)),
        )
        .guarded_by(Guard::AutoResume, "convergence"),
        Exhibit::new(
            "D3 a gap that compaction has made",
            "compares names only: a task that was deleted and created again in the gap goes on as \
             the one that it was",
            Stage::new()
                .at(9.0, 4.0, Deafen(0))
                .at(10.0, 1.0, Stop(0))
                .at(11.5, 0.0, Compact)
                .at(11.6, 0.0, CloseWatches),
        )
        .guarded_by(Guard::Incarnation, "order"),
        Exhibit::new(
            "D3 paused and resumed in a gap",
            "takes what it missed for an error",
            Stage::new()
                .every(9.0, 4.0, 5, CutAnswers(0))
                .every(9.5, 0.8, 5, Pause(0))
                .every(9.9, 0.0, 5, Compact),
        ),
        Exhibit::new(
            "a clock that is slow",
            "believes in its lease longer than the store does",
            Stage::new()
                .drift(-50_000)
                .every(9.0, 8.0, 5, CutRequests(0)),
        )
        .guarded_by(Guard::LeaseMargin, "lease"),
        Exhibit::new(
            "a process that was frozen",
            "goes on with what it was about to do, long after somebody else has taken over",
            Stage::new()
                .task(|task| task.batch = 3)
                .every(9.0, 8.0, 5, Freeze(0))
                .every(9.5, 8.0, 5, Freeze(1)),
        ),
    ]
}
