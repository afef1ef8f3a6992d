//! The relay log: its files, what a power cut leaves of them, and who reads and removes them.
//!
//! Numbers are those of a list of weaknesses that the existing worker has there. Some of them no
//! world can play. B7, another base name of the files of one server: servers here change it only
//! with their identity. B9, panics: whatever panics in any world is a violation.

use dm_core::guard::Guard;

use super::{Exhibit, stage::Stage};
use crate::scenario::{Brand, What::*};

/// A source that is relayed, by GTID, in files that are short.
fn relayed() -> Stage {
    Stage::new().task(|task| {
        task.relays = true;
        task.by_gtid = true;
        task.file_txns = 6;
    })
}

pub(super) fn exhibits() -> Vec<Exhibit> {
    let mut all = losses();
    all.extend(rests());
    all.extend(purges());
    all
}

/// What is lost, or is there and wrong.
fn losses() -> Vec<Exhibit> {
    vec![
        Exhibit::new(
            "relay A1 killed between two files",
            "has no GTIDs on the disk just then, and begins with none: everything once more",
            relayed()
                .task(|task| task.file_txns = 2)
                .every(1.1, 0.2, 40, Kill(0)),
        ),
        Exhibit::new(
            "relay A2 a power cut behind the end of a file",
            "has begun the next file before the one before is on the disk, and never looks back",
            relayed()
                .task(|task| task.file_txns = 2)
                .every(4.0, 0.5, 11, PowerCut(0)),
        )
        .guarded_by(Guard::RelayOrder, "relay"),
        Exhibit::new(
            "relay A3 a file that its meta file is ahead of",
            "goes on where the meta file says, though what is before that is gone",
            relayed()
                .task(|task| task.file_txns = 2)
                .at(9.0, 50.0, SlowDisk(0))
                .every(5.0, 0.5, 9, PowerCut(0)),
        )
        .guarded_by(Guard::RelayName, "relay"),
        Exhibit::new(
            "relay A4 purged at the source while nothing is relayed",
            "takes for received what the source says it has purged",
            relayed()
                .at(14.0, 10.0, PauseRelay(0))
                .at(23.0, 4.0, Purge(0))
                .at(34.0, 10.0, PauseRelay(0))
                .at(43.0, 4.0, Purge(0)),
        )
        .needs("source: refused dump"),
        Exhibit::new(
            "relay A5 small files that are not synced",
            "finds an empty index after a power cut, or an older one",
            relayed().every(4.0, 0.5, 11, PowerCut(0)),
        )
        .guarded_by(Guard::RelayReplace, "relay"),
        Exhibit::new(
            "relay A6 a disk that is full",
            "puts half of a meta file in the place of the one that there was",
            relayed()
                .every(4.0, 2.0, 11, FullDisk(0))
                .every(4.3, 0.2, 10, Kill(0)),
        ),
        Exhibit::new(
            "relay A7 told before it is written",
            "lets tasks read what a power cut takes from the log, and the next server never had",
            relayed().every(4.0, 0.5, 11, PowerCut(0)),
        )
        .guarded_by(Guard::RelaySync, "relay"),
        Exhibit::new(
            "relay A8 a write that failed",
            "drops what comes behind it, and says that it is there",
            relayed()
                .every(4.0, 2.0, 11, BadDisk(0, 150))
                .every(9.0, 0.5, 5, PowerCut(0)),
        ),
        Exhibit::new(
            "relay A8 a sync that failed",
            "reads from memory what the disk never got, and says that it is safe",
            relayed().seed(2).every(2.0, 1.0, 24, LostSyncs(0, 300)),
        )
        .guarded_by(Guard::RelayReadBack, "relay"),
        Exhibit::new(
            "relay A9 another server while a task is behind",
            "removes what the task has not read, since it is the former server's",
            relayed()
                .at(12.0, 18.0, Pause(0))
                .at(16.0, 0.0, SwitchServer(0, 1))
                .at(24.0, 0.0, SwitchServer(0, 2))
                .at(40.0, 0.5, Kill(0)),
        )
        .guarded_by(Guard::RelayUnread, "convergence"),
        Exhibit::new(
            "relay A10 a start on a bad disk",
            "takes what can't be read for the end of the file, and cuts there",
            relayed()
                .at(9.0, 50.0, SlowDisk(0))
                .every(3.0, 2.0, 15, BadDisk(0, 100))
                .every(3.1, 0.2, 15, Kill(0)),
        ),
        Exhibit::new(
            "relay A11 another server for a task that reads by position",
            "begins with the first file of that server, whatever it has in it",
            // Where a task begins with no GTIDs it reads by position until it starts again.
            relayed().at(20.0, 0.0, SwitchServer(0, 1)),
        )
        .guarded_by(Guard::RelayCross, "exactly-once"),
        Exhibit::new(
            "relay A12 an event that is missing",
            "fills the gap, whatever was in there",
            relayed().seed(1).at(9.0, 45.0, Damage(0, 25)),
        )
        .needs("fault: skipped event")
        .guarded_by(Guard::RelayGap, "relay"),
        Exhibit::new(
            "relay A13 transactions without names",
            "leaves them out where it goes on by GTID",
            relayed()
                .task(|task| (task.gtids, task.by_gtid) = (false, false))
                .every(3.0, 0.2, 15, Kill(0))
                .every(1.3, 0.0, 35, CutDumps(0)),
        ),
        Exhibit::new(
            "relay A14 transactions that are compressed",
            "never takes one for whole: they are cut off, and the source has purged them",
            relayed()
                .task(|task| task.compresses = true)
                .every(4.0, 0.5, 11, PowerCut(0))
                .every(4.2, 1.5, 11, Purge(0)),
        )
        .needs("source: compressed transaction"),
    ]
}

/// What comes to a halt, or turns in circles.
fn rests() -> Vec<Exhibit> {
    vec![
        Exhibit::new(
            "relay B1 a write that fails while its end is waited for",
            "waits for ever",
            relayed()
                .at(9.0, 45.0, BadDisk(0, 100))
                .every(3.0, 0.3, 14, PauseRelay(0)),
        ),
        Exhibit::new(
            "relay B2 a file that was announced and never came",
            "looks for it all the time, or for ever if another server's files come next",
            relayed()
                .task(|task| task.file_txns = 1)
                .every(0.9, 0.4, 50, PauseRelay(0))
                .every(12.0, 0.0, 3, SwitchServer(0, 1)),
        ),
        Exhibit::new(
            "relay B3 half an event at the end of a former server's files",
            "reads it again and again",
            relayed()
                .every(9.0, 2.0, 5, PowerCut(0))
                .every(9.1, 0.0, 5, SwitchServer(0, 1))
                .every(9.1, 0.0, 5, CrashSource(0, 1)),
        ),
        Exhibit::new(
            "relay B4 an event that was damaged on its way",
            "writes it, or believes the length that it names and waits for gigabytes",
            relayed().seed(5).at(9.0, 45.0, Damage(0, 25)),
        )
        .needs("fault: flipped bit")
        .guarded_by(Guard::Checksum, "relay"),
        Exhibit::new(
            "relay B5 an event that was damaged on the disk",
            "begins anew at the same place, again and again, and never asks the source",
            relayed()
                .every(6.0, 4.0, 8, Pause(0))
                .every(6.3, 0.0, 8, Rot(0, 1)),
        )
        .guarded_by(Guard::Checksum, "exactly-once"),
        Exhibit::new(
            "relay B6 killed while it follows to another server",
            "has made a directory that no index names, and fails at the next move",
            (0..8_u32).fold(relayed(), |stage, number| {
                let at = 10.0 + 6.0 * f64::from(number);
                stage.at(at, 0.0, SwitchServer(0, u64::from(number))).at(
                    at + 0.02 + 0.015 * f64::from(number),
                    0.5,
                    PowerCut(0),
                )
            }),
        ),
        Exhibit::new(
            "relay B8 switched off while its disk is slow",
            "can't end, since what takes its events does not",
            relayed()
                .at(9.0, 45.0, SlowDisk(0))
                .every(2.0, 0.5, 20, StopRelay(0)),
        ),
        Exhibit::new(
            "relay B10 events without places",
            "takes the difference to the place before for a length: four gigabytes",
            relayed()
                .task(|task| {
                    task.brand = Brand::Mariadb {
                        domain: 0,
                        two_phases: false,
                        leaves_positions_out: true,
                    };
                })
                .every(4.0, 0.5, 11, PowerCut(0)),
        )
        .needs("source: MariaDB transaction"),
        Exhibit::new(
            "relay B11 a server whose name begins as another one's",
            "takes it for that one, and goes on in its files",
            relayed().every(3.6, 0.0, 13, SwitchServer(0, 3)),
        ),
        Exhibit::new(
            "relay B12 paused and resumed",
            "leaves connections open each time",
            relayed().every(0.8, 0.3, 55, PauseRelay(0)),
        ),
    ]
}

/// What somebody removes.
fn purges() -> Vec<Exhibit> {
    vec![
        Exhibit::new(
            "relay purged while a task rests",
            "removes files that a task will go on in, since nobody reads them now",
            relayed()
                .every(9.0, 6.0, 5, Pause(0))
                .every(9.5, 0.0, 5, PurgeRelay(0, 6))
                .every(9.6, 0.0, 5, PurgeRelay(0, 9)),
        )
        .guarded_by(Guard::RelayNeeds, "purge"),
        Exhibit::new(
            "relay purged while everything starts",
            "does not know yet what its tasks need, and takes that for nothing",
            relayed()
                .task(|task| (task.purge.interval, task.purge.remain_space) = (1, 1))
                .every(3.0, 0.2, 15, Kill(0))
                .every(3.05, 0.0, 15, PurgeRelay(0, 6)),
        )
        .guarded_by(Guard::RelayNeeds, "purge"),
    ]
}
