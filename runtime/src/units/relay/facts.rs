//! What a relay lets others see.

use std::time::Duration;

use dm_core::{
    binlog::{FileName, Position},
    error::{Error, Result},
    relay::SubDir,
    sync::progress::Location,
};
use tokio::{
    sync::{Mutex, watch},
    time::Instant,
};

use super::{claims::Claims, pieces::Pieces};
use crate::metrics::RelayMetrics;

/// So long a relay that has stopped by itself may take to go on, before its readers give it up.
pub(super) const PATIENCE: Duration = Duration::from_secs(30);

/// Where the relay of a source stands. It outlives pauses.
#[derive(Debug)]
pub struct RelayFacts {
    /// What Prometheus is told.
    pub metrics: RelayMetrics,
    state: watch::Sender<State>,
    pieces: Mutex<Pieces>,
    /// Who takes files away.
    pub(super) claims: Claims,
}

/// What readers wait for.
#[derive(Debug, Default)]
pub(super) struct State {
    /// Where it stands, once that is known.
    pub(super) end: Option<RelayEnd>,
    /// When and why it stopped, if it has written nothing since.
    pub(super) failed: Option<(Instant, Error)>,
    /// While it works again: since when, and when it had stopped.
    pub(super) relapse: Option<(Instant, Instant)>,
}

/// Up to where there are whole transactions that survive a power cut.
#[derive(Clone, Debug, PartialEq)]
pub struct RelayEnd {
    /// The sub-directory that is written to.
    pub sub_dir: SubDir,
    /// The file that is written; empty before the first one.
    pub file: String,
    /// How much of it counts.
    pub len: u64,
    /// The same, in terms of the source.
    pub location: Location,
}

impl RelayFacts {
    /// Nothing has happened yet.
    #[must_use]
    pub fn new(metrics: RelayMetrics) -> Self {
        Self {
            metrics,
            state: watch::Sender::default(),
            pieces: Mutex::default(),
            claims: Claims::default(),
        }
    }

    /// Where it stands, once that is known.
    #[must_use]
    pub fn end(&self) -> Option<RelayEnd> {
        self.state.borrow().end.clone()
    }

    /// What is read of it lately, by several subtasks perhaps.
    pub(super) const fn pieces(&self) -> &Mutex<Pieces> {
        &self.pieces
    }

    /// How many read it.
    pub(super) fn readers(&self) -> usize {
        self.state.receiver_count()
    }

    /// Tells of every change.
    pub(super) fn watch(&self) -> watch::Receiver<State> {
        self.state.subscribe()
    }

    /// Fails while files are removed: nobody would keep what a task needs that starts now.
    ///
    /// # Errors
    /// 40068.
    pub(in crate::units) fn may_start(&self, task: &str) -> Result<()> {
        self.claims.start(task)
    }

    /// It found out where it stands.
    pub(super) fn stands(&self, end: RelayEnd) {
        self.show(&end);
        self.state.send_modify(|state| state.end = Some(end));
    }

    /// The source sends, though there may be no news.
    pub(super) fn works(&self) {
        self.state.send_modify(|state| {
            if let Some((since, _)) = state.failed.take() {
                state.relapse = Some((Instant::now(), since));
            }
        });
    }

    /// All files go.
    pub(super) fn lost(&self) {
        self.state.send_modify(|state| state.end = None);
    }

    /// It has made progress.
    pub(super) fn wrote(&self, end: RelayEnd) {
        self.show(&end);
        self.set(State {
            end: Some(end),
            failed: None,
            relapse: None,
        });
    }

    fn show(&self, end: &RelayEnd) {
        if !end.file.is_empty() {
            self.metrics.wrote(&Position::new(&end.file, end.len));
        }
    }

    pub(super) fn set(&self, state: State) {
        self.state.send_replace(state);
    }

    /// It is over, and may be tried again.
    pub(in crate::units) fn failed(&self, error: &Error) {
        self.state.send_modify(|state| {
            // Readers count from when it stopped, however often it was tried since, unless it has
            // worked for a while.
            let since = state.failed.as_ref().map(|(since, _)| *since);
            let worked = |(at, _): &(Instant, Instant)| at.elapsed() >= PATIENCE;
            let relapse = state.relapse.take().filter(|relapse| !worked(relapse));
            let since = since.or_else(|| relapse.map(|(_, since)| since));
            state.failed = Some((since.unwrap_or_else(Instant::now), error.clone()));
        });
    }
}

impl State {
    /// How much of a file counts, if it is the one that is written. Of one that was begun behind
    /// that, which is not known to survive yet, nothing does.
    pub(super) fn written(&self, sub_dir: &SubDir, file: &str) -> Option<u64> {
        let end = self.end.as_ref().filter(|end| end.sub_dir == *sub_dir)?;
        if end.file == file {
            return Some(end.len);
        }
        let is_behind = match (FileName::parse(&end.file), FileName::parse(file)) {
            (Ok(told), Ok(file)) => told.base == file.base && told.sequence < file.sequence,
            // It has not told of any.
            _ => true,
        };
        is_behind.then_some(0)
    }

    /// Whether everything before a location is there, and what comes next will be.
    pub(super) fn reaches(&self, at: &Location, by_gtid: bool) -> bool {
        let (Some(end), None) = (&self.end, &self.failed) else {
            return false;
        };
        let location = end.location.in_relay(end.sub_dir.number());
        !end.file.is_empty() && location.reaches(at, by_gtid)
    }
}

#[cfg(all(test, not(madsim)))]
mod tests {
    use super::*;

    #[test]
    fn nothing_counts_before_it_is_told() {
        let sub_dir: SubDir = "a.000002".parse().unwrap();
        let written = |told: &str, file: &str| {
            let end = RelayEnd {
                sub_dir: sub_dir.clone(),
                file: told.to_owned(),
                len: 7,
                location: Location::default(),
            };
            let state = State {
                end: Some(end),
                ..State::default()
            };
            assert_eq!(state.written(&"a.000001".parse().unwrap(), file), None);
            state.written(&sub_dir, file)
        };
        assert_eq!(written("b.000009", "b.000009"), Some(7));
        assert_eq!(written("b.000009", "b.000008"), None);
        // They are there already.
        assert_eq!(written("b.000009", "b.000010"), Some(0));
        assert_eq!(written("", "b.000001"), Some(0));
        // Of the former name of the source's files all are complete.
        assert_eq!(written("c.000001", "b.000010"), None);
    }
}
