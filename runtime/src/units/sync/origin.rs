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

use super::{SyncFacts, resume};
use crate::{
    ports::{Connect, SourceFacts, Start, disk::Disk},
    units::{
        relay::{Follower, RelayFacts, RelayLog},
        tasks::Tasks,
    },
};

/// How often a run that reads from the source looks whether the relay log has caught up with it.
const LOOK: Duration = Duration::from_secs(30);
/// What is said where that is the reason.
const INSTEAD: &str = "reading from the source for now, not from its relay log";

/// The relay of a subtask's source.
pub(in crate::units) struct Relay {
    facts: Arc<RelayFacts>,
    /// Why the next run leaves its log alone, which could not be read.
    failed: Option<Error>,
}

impl Relay {
    pub(in crate::units) const fn new(facts: Arc<RelayFacts>) -> Self {
        Self {
            facts,
            failed: None,
        }
    }

    /// Its log could not be read: the source is, until the log is seen to be good again.
    pub(super) fn failed(&mut self, error: Error) {
        warn!(%error, "{INSTEAD}");
        self.failed = Some(error);
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
    pub(super) async fn names<D: Disk>(
        &mut self,
        log: &RelayLog<D>,
        upstream: &SourceFacts,
    ) -> Names {
        if let Err(error) = log.stands().await {
            self.failed(error);
        }
        // The names count, whether it can be read now or not.
        match log.read_index().await {
            Ok(index) if index.current().is_none() => Names::Plain,
            Ok(index) => Names::Relay {
                index,
                server: upstream.server.clone(),
            },
            Err(error) => Names::Unread(error),
        }
    }

    /// Opens its log at a location.
    ///
    /// # Errors
    /// Why the source is to be read instead.
    pub(super) async fn open<D: Disk>(
        &mut self,
        log: &RelayLog<D>,
        at: &Location,
        from: &Start,
    ) -> Result<Follower<D>> {
        if let Some(error) = self.failed.take() {
            return Err(error);
        }
        let opened = match log.reach(at, matches!(from, Start::Gtids(_))).await {
            Ok(()) => log.open(from).await,
            Err(error) => Err(error),
        };
        opened.inspect_err(|error| warn!(%error, "{INSTEAD}"))
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
    /// As the source does, for the reason that what its relay log has can't be read.
    Unread(Error),
    /// With the number of the sub-directory of its relay log, in which there is one at least.
    Relay {
        /// The sub-directories.
        index: Index,
        /// The server that the source is on now.
        server: String,
    },
}

impl Names {
    /// The number that the files have which the source writes now.
    pub(super) fn number(&self) -> Option<u32> {
        match self {
            Self::Plain | Self::Unread(_) => None,
            Self::Relay { index, .. } => Some(index.current()?.number()),
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
            Self::Plain | Self::Unread(_) => false,
            Self::Relay { index, .. } => number.is_some_and(|number| index.get(number).is_some()),
        };
        match self {
            Self::Unread(error) if !by_gtid && numbers.iter().any(Option::is_some) => {
                return Err(error.clone());
            }
            Self::Plain if is_mixed => {
                return Err(refused(
                    "without the relay log, positions in files of several servers mean nothing",
                    "Start the relay again (`start-relay`, `enable-relay`) until the task is \
                     behind the change of servers, or use GTIDs (`enable-gtid: true`).",
                ));
            }
            // What has no number is of the server that the source is on now.
            Self::Relay { index, server }
                if !by_gtid
                    && numbers.first() == Some(&None)
                    && index.current().is_none_or(|dir| dir.server() != *server) =>
            {
                return Err(refused(
                    "the relay has not followed the source to its other server yet",
                    "Resume the task once the relay runs again.",
                ));
            }
            // Those without a number can only be of the one server that there ever was, and what is
            // in another worker's relay log nobody knows here.
            Self::Relay { index, .. }
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
            let known = |number| is_known(&Some(number));
            **position = match self.number() {
                None => position.plain(),
                Some(_) if position.relay().is_some_and(known) => continue,
                // The number is of another worker's relay log, if there is one.
                Some(number) => position.in_relay(number),
            };
        }
        Ok(())
    }

    /// Where to ask the source for what comes next, which the relay log does not have for a reason.
    ///
    /// # Errors
    /// 22001: that was written by another server than the one that the source is on now.
    pub(super) fn ask(&self, from: Start, instead: Option<&Error>) -> Result<Start> {
        let Start::Position(position) = from else {
            return Ok(from);
        };
        if let (Self::Relay { index, server }, Some(number)) = (self, position.relay()) {
            let is_its = |of: &SubDir| of.number() == number && of.server() == server;
            if !index.current().is_some_and(is_its) {
                let error = refused(
                    &format!("{position} is in files that server {server} does not have"),
                    "Only the relay log has them. If they were purged, copy the data anew.",
                );
                return Err(match instead {
                    Some(why) => error.with_cause(why.to_string()),
                    None => error,
                });
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
        let index = Index::parse(dirs.as_bytes()).unwrap();
        let server = index.current().unwrap().server().to_owned();
        Names::Relay { index, server }
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

    /// What was never read from a relay log need not wait for it.
    #[test]
    fn names_of_a_log_that_cannot_be_read_are_not_taken_away() {
        let names = Names::Unread(refused("a disk", ""));
        assert_eq!(settled(&names, &["b.1"], false).unwrap(), ["b.1"]);
        assert!(settled(&names, &["b|000001.1"], false).is_err());
        assert_eq!(settled(&names, &["b|000001.1"], true).unwrap(), ["b.1"]);
    }

    /// Between the move of the source and that of its relay nobody knows the number.
    #[test]
    fn plain_names_are_of_the_server_that_the_source_is_on() {
        let Names::Relay { index, .. } = relay(ONE) else {
            panic!("a relay");
        };
        let server = "another".to_owned();
        let names = Names::Relay { index, server };
        assert!(settled(&names, &["b.1", "b.2"], false).is_err());
        assert!(settled(&names, &["b.1", "b.2"], true).is_ok());
        assert!(settled(&names, &["b|000001.1", "b|000001.2"], false).is_ok());
        let from = Start::Position(Position::new("b|000001.1", 4));
        // The operator is told why the relay log is not read either.
        let why = Error::new(&code::PARSER_PARSE_RELAY_LOG, "it is damaged");
        let error = names.ask(from, Some(&why)).unwrap_err();
        assert!(error.is(&code::BINLOG_EXTRACT_POSITION), "{error}");
        assert!(error.cause.contains("it is damaged"), "{error}");
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
