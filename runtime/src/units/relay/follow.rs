//! Reads a relay log on behalf of a subtask, and follows it as it grows.
//!
//! Only whole transactions that survive a power cut are read. Whatever state the files are in, it
//! reads on, or waits for what the relay tells next, or fails: it never looks twice at the same.

use std::{
    path::{Path, PathBuf},
    sync::Arc,
    time::Duration,
};

use dm_core::{
    binlog::{Decoder, Event, Flavor, GtidSet, Position},
    error::{Error, Result, code},
    guard::Guard,
    relay::{Contents, INDEX_FILE, Index, SubDir, Unread, file_behind},
    sync::progress::Location,
};
use tokio::{
    sync::watch,
    time::{sleep_until, timeout},
};

use super::{
    HEAD_EVENTS, RelayFacts,
    dir::{order, read_small, scanned},
    facts::{PATIENCE, State},
    pieces::{Piece, broken, check_magic, is_unread, unread},
};
use crate::ports::{
    Start,
    disk::{Disk, File, Open},
};

/// So long a subtask that starts waits for the relay to come up to it.
const START_LIMIT: Duration = Duration::from_secs(10);

/// A relay log that subtasks can read.
#[derive(Clone, Debug)]
pub(in crate::units) struct RelayLog<D> {
    disk: D,
    path: PathBuf,
    flavor: Flavor,
    facts: Arc<RelayFacts>,
}

impl<D: Disk> RelayLog<D> {
    /// The one in a directory.
    pub(in crate::units) fn new(
        disk: D,
        path: &str,
        flavor: Flavor,
        facts: &Arc<RelayFacts>,
    ) -> Self {
        Self {
            disk,
            path: PathBuf::from(path),
            flavor,
            facts: Arc::clone(facts),
        }
    }

    /// Waits, but not for long, until the relay has found out where it stands.
    ///
    /// # Errors
    /// It does not come to that.
    pub(in crate::units) async fn stands(&self) -> Result<()> {
        self.until(|state| state.end.is_some()).await
    }

    /// Waits, but not for long, until the relay has everything before a location.
    ///
    /// # Errors
    /// It does not come to that.
    pub(in crate::units) async fn reach(&self, at: &Location, by_gtid: bool) -> Result<()> {
        self.until(|state| state.reaches(at, by_gtid)).await
    }

    /// Waits until something is the case, or is not going to be soon.
    async fn until(&self, is_so: impl Fn(&State) -> bool) -> Result<()> {
        let mut state = self.facts.watch();
        let decided = state.wait_for(|state| is_so(state) || state.failed.is_some());
        // In time or not: what is the case now counts.
        let _ = timeout(START_LIMIT, decided).await.is_ok();
        let state = state.borrow();
        match &state.failed {
            _ if is_so(&state) => Ok(()),
            Some((_, error)) => Err(stalled(error)),
            None => Err(Error::new(
                &code::RELAY_LOG_GIVEN_POS_TOO_BIG,
                match &state.end {
                    Some(end) => format!("the relay log has come to {} only", end.location),
                    None => "the relay has not found out yet where its log ends".to_owned(),
                },
            )),
        }
    }

    /// Its sub-directories.
    ///
    /// # Errors
    /// 11038: the index can't be read. 28001, 28002, 30001: it makes no sense.
    pub(in crate::units) async fn read_index(&self) -> Result<Index> {
        let path = self.path.join(INDEX_FILE);
        let index = read_small(&self.disk, &path).await;
        let index = index.map_err(|error| unread(&path, 0, &error))?;
        Index::parse(&index.unwrap_or_default())
    }

    /// Whether it can be read from a location, right now.
    pub(in crate::units) async fn serves(&self, at: &Location, from: &Start) -> bool {
        let by_gtid = matches!(from, Start::Gtids(_));
        let reaches = self.facts.watch().borrow().reaches(at, by_gtid);
        reaches && self.open(from).await.is_ok()
    }

    /// Reads from a place on.
    ///
    /// # Errors
    /// 11029, 11121, 22001: what begins there is not in the log. 11038: it can't be read.
    pub(in crate::units) async fn open(&self, from: &Start) -> Result<Follower<D>> {
        let state = self.facts.watch();
        let index = self.read_index().await?;
        let (place, unread) = match from {
            Start::Position(position) => {
                let plain = position.plain();
                let place = (sub_dir_of(&index, position)?, plain.file, plain.pos);
                (place, None)
            }
            Start::Gtids(have) => {
                let found = self.first_for(&index, have).await?;
                let (sub_dir, file) = found.ok_or_else(|| {
                    let text = format!("no file of the relay log begins with {have}");
                    Error::new(&code::NO_RELAY_POS_MATCH_GTID, text)
                })?;
                let unread = Unread::new(have.clone());
                ((sub_dir, file, Position::FIRST), Some(unread))
            }
        };
        let (sub_dir, file, pos) = place;
        Ok(Follower {
            at: Opened::at(self, sub_dir, file, pos).await?,
            log: self.clone(),
            state,
            unread,
            turned: false,
        })
    }

    /// The files of a sub-directory, in order.
    async fn files(&self, sub_dir: &SubDir) -> Result<Vec<String>> {
        let path = self.path.join(sub_dir.to_string());
        let names = match self.disk.list(&path).await {
            Ok(names) => names,
            // The index may name some that are gone.
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => Vec::new(),
            Err(error) => return Err(unread(&path, 0, &error)),
        };
        let mut files = Contents::of(names).files;
        let state = self.facts.watch();
        let state = state.borrow();
        let newest = (state.end.as_ref()).filter(|end| end.sub_dir == *sub_dir);
        order(&mut files, newest.map_or("", |end| &end.file));
        Ok(files)
    }

    /// The file that a subtask begins with which reads by GTID and has these: the newest one before
    /// which there is nothing else, if there is one.
    ///
    /// # Errors
    /// 11038: the log can't be read.
    pub(in crate::units) async fn first_for(
        &self,
        index: &Index,
        have: &GtidSet,
    ) -> Result<Option<(SubDir, String)>> {
        for sub_dir in index.iter().rev() {
            for file in self.files(sub_dir).await?.into_iter().rev() {
                let path = self.path.join(sub_dir.to_string()).join(&file);
                let before = self.before(&path).await?;
                if before.is_some_and(|before| have.contains(&before)) {
                    return Ok(Some((sub_dir.clone(), file)));
                }
            }
        }
        Ok(None)
    }

    /// The transactions before a file, as it says itself; nothing where it is too short for that.
    async fn before(&self, path: &Path) -> Result<Option<GtidSet>> {
        let unread = |error| unread(path, 0, &error);
        let file = self.disk.open(path, Open::Read).await.map_err(unread)?;
        let mut decoder = Decoder::new(self.flavor).accept_unchecked();
        let mut at = Position::FIRST;
        for _ in 0..HEAD_EVENTS {
            let piece = match Piece::first(&file, (path, at), decoder).await {
                Err(error) if is_unread(&error) => return Err(error),
                // It may have been begun just now.
                Err(_) => return Ok(None),
                Ok(piece) => piece,
            };
            let Some(record) = piece.from(at).first() else {
                return Ok(None);
            };
            if let Event::PreviousGtids(before) | Event::MariadbGtidList(before) = &record.event {
                return Ok(Some(before.clone()));
            }
            at = piece.end();
            decoder = piece.decoder().clone();
        }
        Ok(None)
    }
}

/// The sub-directory that the name of a file means: the newest one, if it has no number.
fn sub_dir_of(index: &Index, position: &Position) -> Result<SubDir> {
    let found = match position.relay() {
        Some(number) => index.get(number),
        None => index.current(),
    };
    found.cloned().ok_or_else(|| {
        Error::new(
            &code::BINLOG_EXTRACT_POSITION,
            format!("{INDEX_FILE} has no sub-directory for {position}"),
        )
    })
}

/// What comes next in a relay log.
#[derive(Debug)]
pub(in crate::units) enum Found {
    /// What follows begins here; the name has the number of the sub-directory.
    File(Position),
    /// Events, from an offset on.
    Events(Arc<Piece>, u64),
}

/// Follows a relay log.
pub(in crate::units) struct Follower<D: Disk> {
    log: RelayLog<D>,
    state: watch::Receiver<State>,
    at: Opened<D::File>,
    unread: Option<Unread>,
    /// Whether it said which file it reads.
    turned: bool,
}

/// An open file, and where in it reading is.
struct Opened<F> {
    sub_dir: SubDir,
    name: String,
    path: PathBuf,
    file: F,
    pos: u64,
    decoder: Decoder,
    /// Which file comes next, as it says at its end.
    next: Option<String>,
    /// Where it ends, once it is not written any more.
    limit: Option<u64>,
    /// Where it was opened once more.
    reopened: Option<u64>,
}

impl<F: File> Opened<F> {
    async fn at<D: Disk<File = F>>(
        log: &RelayLog<D>,
        sub_dir: SubDir,
        name: String,
        pos: u64,
    ) -> Result<Self> {
        let path = log.path.join(sub_dir.to_string()).join(&name);
        let opened = log.disk.open(&path, Open::Read).await;
        let file = opened.map_err(|error| {
            let message = format!("the relay log lacks {}", path.display());
            Error::new(&code::GET_RELAY_LOG_STAT, message).with_cause(error.to_string())
        })?;
        let mut decoder = Decoder::new(log.flavor);
        if pos > Position::FIRST {
            check_magic(&file, &path).await?;
            let head = Piece::first(&file, (&path, Position::FIRST), decoder).await?;
            if head.end() > pos {
                return Err(broken(&path, pos, "that is inside its first event"));
            }
            decoder = head.decoder().clone();
            decoder.seek(pos);
        }
        Ok(Self {
            sub_dir,
            name,
            path,
            file,
            pos,
            decoder,
            next: None,
            limit: None,
            reopened: None,
        })
    }
}

impl<D: Disk> Follower<D> {
    /// Whether an event that was found is read; by GTID, those that are known are not.
    ///
    /// # Errors
    /// 11038: it has no GTID.
    pub(in crate::units) fn takes(&mut self, event: &Event) -> Result<bool> {
        match &mut self.unread {
            Some(unread) => Ok(unread.takes(event)? || !Guard::RelayUnread.holds()),
            None => Ok(true),
        }
    }

    /// What comes next. Waits for it.
    ///
    /// # Errors
    /// 11038, 11029: the log can't be read here. Or the relay has stopped, for a reason that is
    /// told, and has not gone on for some time.
    pub(in crate::units) async fn next(&mut self) -> Result<Found> {
        loop {
            if !std::mem::replace(&mut self.turned, true) {
                let Opened {
                    sub_dir, name, pos, ..
                } = &self.at;
                let position = Position::new(name, *pos).in_relay(sub_dir.number());
                return Ok(Found::File(position));
            }
            let Opened { sub_dir, name, .. } = &self.at;
            let written = self.state.borrow_and_update().written(sub_dir, name);
            let limit = match written {
                Some(len) if self.at.pos >= len && Guard::RelayEnd.holds() => {
                    self.wait().await?;
                    continue;
                }
                Some(len) if Guard::RelayEnd.holds() => len,
                Some(_) => u64::MAX,
                None => self.end().await?,
            };
            let from = self.at.pos;
            let piece = self.piece(limit).await?;
            if !piece.from(from).is_empty() {
                return Ok(Found::Events(piece, from));
            }
            if limit <= from || !self.open_again().await? {
                self.turn().await?;
            }
        }
    }

    /// Opens the file of this name once more if there is more in it than in the one that is open,
    /// and returns whether there is: a relay that begins anew may put another one in its place.
    async fn open_again(&mut self) -> Result<bool> {
        let Opened {
            sub_dir,
            name,
            path,
            pos,
            reopened,
            ..
        } = &self.at;
        let (pos, reopened) = (*pos, *reopened);
        let bytes = match self.log.disk.stat(path).await {
            Ok(stat) => stat.bytes,
            // Whoever looks for the next one says so.
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => 0,
            Err(error) => return Err(unread(path, pos, &error)),
        };
        if bytes <= pos || !Guard::RelayReplaced.holds() {
            return Ok(false);
        }
        if reopened == Some(pos) {
            return Err(broken(path, pos, "there is more in it than can be read"));
        }
        let (sub_dir, name) = (sub_dir.clone(), name.clone());
        self.at = Opened::at(&self.log, sub_dir, name, pos).await?;
        self.at.reopened = Some(pos);
        Ok(true)
    }

    async fn piece(&mut self, limit: u64) -> Result<Arc<Piece>> {
        let Opened {
            sub_dir,
            name,
            path,
            file,
            pos,
            decoder,
            next,
            ..
        } = &mut self.at;
        if *pos == Position::FIRST {
            check_magic(file, path).await?;
        }
        // Whoever comes second waits here for the first one, and finds what it has read.
        let mut kept = self.log.facts.pieces().lock().await;
        let piece = match kept.find(sub_dir, name, *pos) {
            Some(piece) => piece,
            None => {
                let place = (&**path, *pos, limit);
                let is_shared = self.log.facts.readers() > 1;
                let piece = Piece::read(file, place, decoder.clone(), is_shared).await?;
                let piece = Arc::new(piece);
                if is_shared {
                    kept.keep(sub_dir, name, &piece);
                }
                piece
            }
        };
        drop(kept);
        *pos = piece.end().max(*pos);
        decoder.clone_from(piece.decoder());
        if let Some(Event::Rotate { file, .. }) = piece.last() {
            *next = Some(file.clone());
        }
        Ok(piece)
    }

    /// Waits for a word of the relay.
    async fn wait(&mut self) -> Result<()> {
        let failed = self.state.borrow().failed.clone();
        let Some((since, error)) = failed else {
            // Who tells lives as long as the log.
            let _ = self.state.changed().await;
            return Ok(());
        };
        tokio::select! {
            biased;
            _ = self.state.changed() => Ok(()),
            () = sleep_until(since + PATIENCE) => Err(stalled(&error)),
        }
    }

    /// Where a file ends that is not written any more. The last one of a sub-directory, behind
    /// which another server's begin, may end with a part of a transaction.
    async fn end(&mut self) -> Result<u64> {
        if let Some(limit) = self.at.limit {
            return Ok(limit);
        }
        let Opened { sub_dir, name, .. } = &self.at;
        let is_current = self
            .state
            .borrow()
            .end
            .as_ref()
            .is_some_and(|end| end.sub_dir == *sub_dir);
        let limit = if is_current || self.log.files(sub_dir).await?.last() != Some(name) {
            u64::MAX
        } else {
            let path = &self.at.path;
            let read = scanned(&self.log.disk, path, self.log.flavor).await;
            let scan = read.map_err(|error| unread(path, 0, &error))?;
            scan.boundary()
        };
        self.at.limit = Some(limit);
        Ok(limit)
    }

    /// Goes on in the next file, if there is one, and else waits for it.
    async fn turn(&mut self) -> Result<()> {
        let Opened {
            sub_dir,
            name,
            next,
            ..
        } = &self.at;
        let files = self.log.files(sub_dir).await?;
        if !files.contains(name) {
            return Err(broken(&self.at.path, self.at.pos, "it was taken away"));
        }
        if let Some(next) = file_behind(&files, name, next.as_deref())? {
            let sub_dir = sub_dir.clone();
            return self.enter(sub_dir, next.to_owned()).await;
        }
        let index = self.log.read_index().await?;
        let mut before = sub_dir;
        while let Some(sub_dir) = index.behind(before) {
            if let Some(first) = self.log.files(sub_dir).await?.into_iter().next() {
                self.cross(sub_dir)?;
                return self.enter(sub_dir.clone(), first).await;
            }
            before = sub_dir;
        }
        // The relay tells of a file only behind its first transaction.
        self.wait().await
    }

    /// Another server's files come next: they begin with some of the transactions that the files of
    /// the one before end with.
    ///
    /// # Errors
    /// 11121: by position nobody can tell with which.
    fn cross(&mut self, next: &SubDir) -> Result<()> {
        match &mut self.unread {
            Some(unread) => unread.cross(),
            None if Guard::RelayCross.holds() => {
                return Err(Error::new(
                    &code::NO_RELAY_POS_MATCH_GTID,
                    format!(
                        "behind {} the source is another server, {}, and by position nobody can \
                         tell which transactions of that one are new",
                        self.at.path.display(),
                        next.server()
                    ),
                )
                .with_workaround(
                    "Copy the data anew, and start behind that. With GTIDs (`enable-gtid: true`) \
                     a source can be replaced.",
                ));
            }
            None => {}
        }
        Ok(())
    }

    async fn enter(&mut self, sub_dir: SubDir, name: String) -> Result<()> {
        self.at = Opened::at(&self.log, sub_dir, name, Position::FIRST).await?;
        self.turned = false;
        Ok(())
    }
}

fn stalled(why: &Error) -> Error {
    why.clone().annotate("the relay has stopped")
}

#[cfg(all(test, not(madsim)))]
mod tests;
