//! What the events of a dump do to the files of a sub-directory.
//!
//! A file holds what the source's holds, byte for byte and from its beginning on; what a source
//! makes up for a connection is left out. So every event must begin where the one before ended,
//! unless the source itself says what it leaves out. Then an event that says nothing takes the
//! place. It does so in two cases: by GTID MySQL leaves out transactions that it was told are
//! known, and sends a heartbeat from behind them; and how a file is encrypted MariaDB tells nobody.
//! Everything else that is missing is an error: whoever fills such a hole hides a loss.
//!
//! The first case is for directories of the existing worker. Ours begin with the set of GTIDs that
//! stands at the beginning of a file, and go on with that and what is in the file: so nothing is
//! left out.

use alloc::{
    borrow::ToOwned,
    format,
    string::{String, ToString},
};
use core::fmt::Display;

use bytes::Bytes;

use super::{MAGIC, Scan, filler::filler};
use crate::{
    binlog::{
        Decoder, Event, FileName, Flavor, Frame, GtidSet, Header, Position, event_type as kind,
    },
    error::{Error, Result, code},
    guard::Guard,
    sync::progress::Location,
};

/// Lengths of MariaDB's START_ENCRYPTION event, the second one of a file, without and with a
/// checksum.
const ENCRYPTION_LEN: [u64; 2] = [36, 40];

/// What is to be done with an event.
#[derive(Clone, Debug, PartialEq)]
pub enum Step {
    /// Nothing: it belongs in no file, or is there already.
    Pass,
    /// It is appended.
    Append,
    /// It is appended behind these bytes.
    AppendBehind(Bytes),
    /// It begins the next file, behind [`MAGIC`]. The file before is complete once it has the
    /// length `cut`, if one is given: what is behind that is a part of a transaction whose source
    /// crashed.
    Begin {
        /// Length of the file before.
        cut: Option<u64>,
    },
}

/// Decides about each event of one dump. It stands where the files end, and moves on with them; the
/// next dump has one of its own, which begins with what is in the files.
#[derive(Debug)]
pub struct Writer {
    flavor: Flavor,
    by_gtid: bool,
    decoder: Decoder,
    file: Option<File>,
    /// The file that the source's events are of, as it says; at first where they should begin.
    named: String,
    /// All transactions before the file.
    before: Option<GtidSet>,
    /// Whether the source has not said yet which file it begins with.
    is_new: bool,
    /// Whether it has not brought anything new yet.
    repeats: bool,
    /// Up to where in the file it has nothing new, as it says.
    declared: u64,
}

#[derive(Debug)]
struct File {
    name: String,
    scan: Scan,
}

impl Writer {
    /// At the beginning of a file, with all transactions before it, where these are known. An empty
    /// name is the first file that the source has.
    #[must_use]
    pub fn at_start(flavor: Flavor, by_gtid: bool, name: &str, before: Option<GtidSet>) -> Self {
        Self {
            flavor,
            by_gtid,
            decoder: Decoder::new(flavor).accept_unchecked(),
            file: None,
            named: name.to_owned(),
            before,
            is_new: true,
            repeats: true,
            declared: 0,
        }
    }

    /// Behind the last whole transaction of a file that was read. It must be cut to there.
    #[must_use]
    pub fn behind(flavor: Flavor, by_gtid: bool, name: &str, mut scan: Scan) -> Self {
        scan.cut();
        let before = scan.before().cloned();
        let file = File {
            name: name.to_owned(),
            scan,
        };
        Self {
            file: Some(file),
            ..Self::at_start(flavor, by_gtid, "", before)
        }
    }

    /// Behind the last whole transaction: from where a dump must go on.
    #[must_use]
    pub fn location(&self) -> Location {
        let position = match &self.file {
            Some(File { name, scan }) => match scan.next() {
                Some(next) => Position::new(next, Position::FIRST),
                None => Position::new(name, scan.boundary()),
            },
            None => Position::new(&self.named, Position::FIRST),
        };
        Location {
            position,
            gtids: self.gtids().cloned(),
        }
    }

    /// All transactions up to there, where that is known.
    #[must_use]
    pub fn gtids(&self) -> Option<&GtidSet> {
        let here = self.file.as_ref().and_then(|file| file.scan.gtids());
        here.or(self.before.as_ref())
    }

    /// The file that is written.
    #[must_use]
    pub fn file(&self) -> Option<&str> {
        self.file.as_ref().map(|file| &*file.name)
    }

    /// How much of that file consists of whole transactions.
    #[must_use]
    pub fn boundary(&self) -> u64 {
        self.file.as_ref().map_or(0, |file| file.scan.boundary())
    }

    /// Takes an event, whole as it came.
    ///
    /// # Errors
    /// 30015: it is damaged, which the cause tells about, or something is missing before it, or it
    /// is not what belongs here.
    /// 30029: it is there already. 30004: the source's files have names that can't be used. 30019:
    /// the source doesn't say which file it is of. Nothing of it counts then, and only a new
    /// connection helps, if anything does.
    pub fn take(&mut self, raw: &Bytes) -> Result<Step> {
        let frame = self.decoder.frame(raw.clone());
        let frame = frame.map_err(|error| self.damaged(&error))?;
        let header = &frame.header;
        match header.event_type {
            kind::ROTATE if is_made_up(header) => self.turn(&frame)?,
            kind::HEARTBEAT | kind::HEARTBEAT_V2 => {
                let heartbeat = self.decoder.event(&frame);
                if let Ok(Event::Heartbeat { pos, .. }) = heartbeat {
                    self.declared = pos;
                }
            }
            _ if header.is_artificial() => {}
            kind::FORMAT_DESCRIPTION => return self.begin(&frame),
            _ => return self.append(&frame),
        }
        Ok(Step::Pass)
    }

    /// The source says which file the next events are of.
    fn turn(&mut self, frame: &Frame) -> Result<()> {
        let rotate = self.decoder.event(frame);
        let rotate = rotate.map_err(|error| self.damaged(&error))?;
        let Event::Rotate { file, pos } = rotate else {
            return Ok(());
        };
        let Ok(name) = FileName::parse(&file) else {
            return Err(Error::new(
                &code::RELAY_BINLOG_NAME_NOT_VALID,
                format!("the source's binlog file is called {file:?}"),
            ));
        };
        if !self.is_expected(&file, name, pos) {
            return Err(self.refuse(&format!("the source goes on at ({file}, {pos})")));
        }
        self.named = file;
        self.is_new = false;
        Ok(())
    }

    /// Whether the source may go on in a file.
    fn is_expected(&self, file: &str, name: FileName<'_>, pos: u64) -> bool {
        let Position {
            file: ours,
            pos: end,
        } = self.location().position;
        if self.is_new && !self.by_gtid {
            // As it was asked for.
            return (file, pos) == (&*ours, end) || ours.is_empty();
        }
        let Some(current) = &self.file else {
            return pos == Position::FIRST;
        };
        let Ok(before) = FileName::parse(&current.name) else {
            return false;
        };
        if self.is_new {
            // From the file with the first transaction that is not known. Whether one is missing
            // is seen from what the file says of those before it.
            let is_older = name.base == before.base && name.sequence < before.sequence;
            return pos == Position::FIRST && !is_older;
        }
        // One after the other. A source that crashed does not say in the file which one is next.
        pos == Position::FIRST
            && match current.scan.next() {
                Some(next) => file == next,
                None => name.base == before.base && name.sequence == before.sequence + 1,
            }
    }

    fn begin(&mut self, frame: &Frame) -> Result<Step> {
        if self.is_new {
            return Err(not_opened());
        }
        let mut cut = None;
        if let Some(File { name, scan }) = &self.file {
            if *name == self.named {
                return Ok(Step::Pass);
            }
            cut = excess(scan);
        }
        let mut scan = Scan::new(self.flavor);
        scan.take(&Bytes::from_static(&MAGIC))?;
        scan.place(frame)?;
        self.before = self.gtids().cloned();
        self.file = Some(File {
            name: self.named.clone(),
            scan,
        });
        self.repeats = false;
        self.declared = 0;
        Ok(Step::Begin { cut })
    }

    fn append(&mut self, frame: &Frame) -> Result<Step> {
        let Some(File { scan, .. }) = &self.file else {
            return Err(not_opened());
        };
        let header = &frame.header;
        let (end, size) = (scan.end(), u64::from(header.event_size));
        let Some(start) = header.log_pos.checked_sub(size) else {
            return Err(self.refuse(&format!(
                "an event of {size} bytes ends at {}",
                header.log_pos
            )));
        };
        if start < end {
            return self.again(frame, start);
        }
        let mut step = Step::Append;
        if start > end {
            let is_told = !scan.is_open() && self.is_declared(start, start - end);
            if !is_told && Guard::RelayGap.holds() {
                return Err(self.refuse(&format!("the source goes on at {start}")));
            }
            let event = filler(header.timestamp, header.server_id, end, start - end)?;
            step = Step::AppendBehind(event);
        }
        self.check_history(frame)?;
        if let Some(File { scan, .. }) = &mut self.file {
            scan.place_at(start, frame)?;
        }
        self.repeats = false;
        Ok(step)
    }

    /// Whether the source said that so many bytes before an offset are left out.
    fn is_declared(&self, start: u64, len: u64) -> bool {
        match self.flavor {
            Flavor::Mysql => self.by_gtid && self.declared == start,
            Flavor::Mariadb => {
                let is_bare = self.file.as_ref().is_some_and(|file| file.scan.is_bare());
                is_bare && ENCRYPTION_LEN.contains(&len)
            }
        }
    }

    /// An event that should be there already: by GTID a source begins with the file's first events
    /// and leaves out transactions only.
    fn again(&self, frame: &Frame, start: u64) -> Result<Step> {
        let Header {
            event_type,
            log_pos,
            ..
        } = frame.header;
        let is_there = self
            .file
            .as_ref()
            .is_some_and(|file| log_pos <= file.scan.end());
        // A transaction begins with its GTID; what may be ignored can be a part of one, which does
        // not come without that.
        let is_no_transaction = frame.header.is_ignorable()
            || matches!(
                event_type,
                kind::PREVIOUS_GTIDS
                    | kind::GTID_LIST
                    | kind::BINLOG_CHECKPOINT
                    | kind::ROTATE
                    | kind::STOP
            );
        if !(self.by_gtid && self.repeats && is_there && is_no_transaction) {
            return Err(Error::new(
                &code::RELAY_CHECK_IS_DUPLICATE_EVENT,
                format!(
                    "the source sends what is between {start} and {log_pos} of {} again",
                    self.named
                ),
            ));
        }
        if let Some(said) = self.history(frame)? {
            let before = self.file.as_ref().and_then(|file| file.scan.before());
            if Some(&said) != before {
                return Err(self.refuse(&format!(
                    "the file there begins behind {said}, and ours behind {}: it is another one",
                    before.map_or_else(|| "nothing".to_owned(), GtidSet::to_text),
                )));
            }
        }
        Ok(Step::Pass)
    }

    /// Sees that everything which a file says was written before it is in the files before.
    fn check_history(&self, frame: &Frame) -> Result<()> {
        let (Some(said), Some(have)) = (self.history(frame)?, &self.before) else {
            return Ok(());
        };
        if have.covers(&said) {
            return Ok(());
        }
        let missing = said.without(have);
        Err(self.refuse(&format!(
            "the source wrote {said} before that file, of which {missing} is missing here"
        )))
    }

    /// The transactions before a file, if that is what an event tells.
    fn history(&self, frame: &Frame) -> Result<Option<GtidSet>> {
        if !matches!(
            frame.header.event_type,
            kind::PREVIOUS_GTIDS | kind::GTID_LIST
        ) {
            return Ok(None);
        }
        // The connection's decoder would have to be changed for that, and need not be.
        let event = Decoder::new(self.flavor).event(frame);
        match event.map_err(|error| self.damaged(&error))? {
            Event::PreviousGtids(gtids) | Event::MariadbGtidList(gtids) => Ok(Some(gtids)),
            _ => Ok(None),
        }
    }

    fn damaged(&self, why: &dyn Display) -> Error {
        self.refuse("the source sent something damaged")
            .with_cause(why.to_string())
    }

    fn refuse(&self, why: &str) -> Error {
        let file = self.file.as_ref();
        let (name, end) = file.map_or((&*self.named, Position::FIRST), |file| {
            (&*file.name, file.scan.end())
        });
        Error::new(
            &code::RELAY_TCP_READER_GET_EVENT,
            format!("the relay log can't go on behind ({name}, {end}): {why}"),
        )
    }
}

/// Whether a ROTATE event is not in the source's file: it tells where the events of a connection
/// come from.
const fn is_made_up(header: &Header) -> bool {
    header.timestamp == 0 && header.log_pos == 0
}

/// The length to which a file must be cut to have whole transactions only, if it has more.
const fn excess(scan: &Scan) -> Option<u64> {
    if scan.end() > scan.boundary() {
        Some(scan.boundary())
    } else {
        None
    }
}

fn not_opened() -> Error {
    Error::new(
        &code::RELAY_WRITER_NOT_OPENED,
        "the source sends events before it says which file they are of",
    )
}

#[cfg(test)]
mod tests;
