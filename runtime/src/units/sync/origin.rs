//! Where a run reads the binlog: from the source, or from its relay log.
//!
//! A position in a relay log names the sub-directory, `mysql-bin|000002.000003`, since another
//! server's files may have the same names. So must a position in the source, while it has a relay:
//! then both can be compared, and what was read from one can go on from the other.

use std::{sync::Arc, time::Duration};

use dm_core::{
    binlog::Position,
    error::{Error, Result, code},
    lifecycle::Job,
    relay::{Index, SubDir},
    sync::progress::Location,
};
use tokio::{sync::oneshot, time::sleep};
use tracing::{info, warn};

use super::{SyncFacts, resume, tasks::Tasks};
use crate::{
    ports::{Connect, SourceFacts, Start, disk::Disk},
    units::relay::{Follower, RelayFacts, RelayLog},
};

/// How often a run that reads from the source looks whether the relay log has caught up with it.
const LOOK: Duration = Duration::from_secs(30);
/// What is said where that is the reason.
const INSTEAD: &str = "reading from the source for now, not from its relay log";

/// The relay of a subtask's source.
pub(in crate::units) struct Relay {
    facts: Arc<RelayFacts>,
    /// Whether the next run leaves its log alone, which could not be read.
    failed: bool,
}

impl Relay {
    pub(in crate::units) const fn new(facts: Arc<RelayFacts>) -> Self {
        Self {
            facts,
            failed: false,
        }
    }

    /// Its log could not be read: the source is, until the log is seen to be good again.
    pub(super) fn failed(&mut self, error: &Error) {
        warn!(%error, "{INSTEAD}");
        self.failed = true;
    }

    /// Its log.
    pub(super) fn log<K: Connect>(
        &self,
        connect: &K,
        job: &Job,
        upstream: &SourceFacts,
    ) -> RelayLog<K::Disk> {
        RelayLog::new(
            connect.disk(),
            &job.source.relay_dir,
            upstream.flavor,
            &self.facts,
        )
    }

    /// What the files of its log are called, if there is one.
    pub(super) async fn names<D: Disk>(&mut self, log: &RelayLog<D>) -> Names {
        match log.index().await {
            Ok(index) => Names::Relay(index),
            Err(error) => {
                self.failed(&error);
                Names::Plain
            }
        }
    }

    /// Opens its log at a location, if that can be.
    pub(super) async fn open<D: Disk>(
        &mut self,
        log: &RelayLog<D>,
        at: &Location,
        from: &Start,
    ) -> Option<Follower<D>> {
        if std::mem::take(&mut self.failed) {
            return None;
        }
        let opened = match log.reach(at, matches!(from, Start::Gtids(_))).await {
            Ok(()) => log.open(from).await,
            Err(error) => Err(error),
        };
        match opened {
            Ok(follower) => Some(follower),
            Err(error) => {
                warn!(%error, "{INSTEAD}");
                None
            }
        }
    }
}

/// Looks from time to time whether the relay log can be read where a run reads the source.
pub(super) fn look_for<D: Disk>(
    tasks: &mut Tasks,
    log: RelayLog<D>,
    facts: Arc<SyncFacts>,
    by_gtid: bool,
) -> oneshot::Receiver<()> {
    let (found, receiver) = oneshot::channel();
    tasks.start(async move {
        loop {
            sleep(LOOK).await;
            let Some(at) = facts.read() else {
                continue;
            };
            let serves = match resume::start(&at, by_gtid) {
                Ok(from) => log.serves(&at, &from).await,
                Err(_) => false,
            };
            if serves {
                info!(%at, "the relay log has come up: reading from there again");
                // The run may be over.
                let _ = found.send(());
                return;
            }
        }
    });
    receiver
}

/// What a run calls the source's files.
#[derive(Debug)]
pub(super) enum Names {
    /// As the source does.
    Plain,
    /// With the number of the sub-directory of its relay log.
    Relay(Index),
}

impl Names {
    /// The number that the files have which the source writes now.
    pub(super) fn number(&self) -> Option<u32> {
        match self {
            Self::Plain => None,
            Self::Relay(index) => Some(index.current()?.number()),
        }
    }

    /// Gives the files of positions that were recorded by earlier runs the names of this one.
    ///
    /// # Errors
    /// 22001, not where reading goes by GTID: the positions are in files of several servers, and
    /// without the numbers nobody could tell which comes first; or their order is not known.
    pub(super) fn settle(&self, positions: &mut [&mut Position], by_gtid: bool) -> Result<()> {
        let mut numbers: Vec<_> = positions.iter().map(|position| position.relay()).collect();
        numbers.sort_unstable();
        numbers.dedup();
        let is_mixed = numbers.len() > 1 && !by_gtid;
        let is_known = |number: &Option<u32>| match self {
            Self::Plain => false,
            Self::Relay(index) => number.is_some_and(|number| index.get(number).is_some()),
        };
        match self {
            Self::Plain if is_mixed => {
                return Err(refused(
                    "without the relay log, positions in files of several servers mean nothing",
                    "Start the relay again (`start-relay`, `enable-relay`) until the task is \
                     behind the change of servers, or use GTIDs (`enable-gtid: true`).",
                ));
            }
            // Those without a number can only be of the one server that there ever was, and what is
            // in another worker's relay log nobody knows here.
            Self::Relay(index)
                if is_mixed
                    && !(numbers[1..].iter().all(is_known)
                        && (is_known(&numbers[0]) || index.iter().nth(1).is_none())) =>
            {
                return Err(refused(
                    "some progress was made without this relay log, and the source has moved to \
                     another server since",
                    "Nobody can tell which of the servers it is about: copy the data anew, or use \
                     GTIDs (`enable-gtid: true`).",
                ));
            }
            _ => {}
        }
        for position in positions {
            let known = |number| matches!(self, Self::Relay(index) if index.get(number).is_some());
            **position = match self.number() {
                None => position.plain(),
                Some(_) if position.relay().is_some_and(known) => continue,
                // The number is of another worker's relay log, if there is one.
                Some(number) => position.in_relay(number),
            };
        }
        Ok(())
    }

    /// Where to ask the source for what comes next.
    ///
    /// # Errors
    /// 22001: that was written by another server than the one that the source is on now.
    pub(super) fn ask(&self, from: Start, upstream: &SourceFacts) -> Result<Start> {
        let Start::Position(position) = from else {
            return Ok(from);
        };
        if let (Self::Relay(index), Some(number)) = (self, position.relay()) {
            let is_its = |of: &SubDir| of.number() == number && of.server() == upstream.server;
            if !index.current().is_some_and(is_its) {
                return Err(refused(
                    &format!(
                        "{position} is in files that server {} does not have",
                        upstream.server
                    ),
                    "Only the relay log has them. If they were purged, copy the data anew.",
                ));
            }
        }
        Ok(Start::Position(position.plain()))
    }
}

fn refused(why: &str, workaround: &str) -> Error {
    Error::new(&code::BINLOG_EXTRACT_POSITION, why).with_workaround(workaround)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn relay(dirs: &str) -> Names {
        Names::Relay(Index::parse(dirs.as_bytes()).unwrap())
    }

    fn settled(names: &Names, files: &[&str], by_gtid: bool) -> Result<Vec<String>> {
        let mut positions: Vec<_> = files.iter().map(|file| Position::new(*file, 4)).collect();
        let mut all: Vec<_> = positions.iter_mut().collect();
        names.settle(&mut all, by_gtid)?;
        Ok(positions.into_iter().map(|at| at.file).collect())
    }

    const ONE: &str = "a.000001\n";
    const TWO: &str = "a.000001\nb.000002\n";

    #[test]
    fn names_become_those_of_the_run() {
        for (names, files, expected) in [
            (Names::Plain, ["b.1", "b.2"], ["b.1", "b.2"]),
            (Names::Plain, ["b|000007.1", "b|000007.2"], ["b.1", "b.2"]),
            (
                relay(ONE),
                ["b.1", "b|000001.2"],
                ["b|000001.1", "b|000001.2"],
            ),
            // In the relay log of another worker.
            (
                relay(ONE),
                ["b|000007.1", "b|000007.2"],
                ["b|000001.1", "b|000001.2"],
            ),
            // Read from the source before there was a relay, or since it failed.
            (relay(TWO), ["b.1", "b.2"], ["b|000002.1", "b|000002.2"]),
            (
                relay(TWO),
                ["b|000001.1", "b|000002.2"],
                ["b|000001.1", "b|000002.2"],
            ),
        ] {
            assert_eq!(settled(&names, &files, false).unwrap(), expected);
        }
    }

    /// By GTID the positions are for the eye only.
    #[test]
    fn an_order_that_is_not_known_is_refused() {
        for (names, files) in [
            (Names::Plain, ["b|000001.1", "b|000002.2"]),
            (Names::Plain, ["b.1", "b|000002.2"]),
            (relay(TWO), ["b.1", "b|000002.2"]),
            (relay(ONE), ["b|000001.1", "b|000002.2"]),
        ] {
            let error = settled(&names, &files, false).unwrap_err();
            assert!(error.is(&code::BINLOG_EXTRACT_POSITION), "{error}");
            assert!(settled(&names, &files, true).is_ok());
        }
    }
}
