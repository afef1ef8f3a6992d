//! Up to where a binlog file holds whole transactions.
//!
//! No row is decoded for that, and nothing is decompressed: which events a transaction begins and
//! ends with shows in their types, in the GTID event, which says how long it is, and in the text of
//! statements. See "Binary Log" in the MySQL internals manual, and "Replication Protocol" in
//! MariaDB's documentation.

use alloc::{format, string::String};

use bytes::Bytes;

use crate::{
    binlog::{
        BinlogError, Decoder, Event, Flavor, Frame, Gtid, GtidSet, HEADER_LEN, Header, QueryEvent,
        event_type as kind,
    },
    error::{Error, Result, code},
};

/// What every binlog file begins with.
pub const MAGIC: [u8; 4] = [0xfe, b'b', b'i', b'n'];
/// What one begins with that MySQL encrypted.
const MAGIC_ENCRYPTED: [u8; 4] = [0xfd, b'b', b'i', b'n'];
/// Bytes of a file in which [`Scan::flavor`] finds the server's version: behind the magic and a
/// header, the number of the format and 50 bytes.
const VERSION: core::ops::Range<usize> =
    MAGIC.len() + HEADER_LEN + 2..MAGIC.len() + HEADER_LEN + 52;

/// In the version of every server of MariaDB's family.
const MARIADB: &[u8] = b"mariadb";

/// Reads a file from its beginning, event by event.
///
/// Everything that it accepts has a right checksum and stands where it says that it does.
#[derive(Debug)]
pub struct Scan {
    flavor: Flavor,
    decoder: Decoder,
    /// End of the FORMAT_DESCRIPTION.
    head: u64,
    /// End of what was read.
    end: u64,
    /// End of the last thing that is whole.
    boundary: u64,
    /// The transaction that was begun and has not ended.
    open: Option<Open>,
    before: Option<GtidSet>,
    gtids: Option<GtidSet>,
    next: Option<String>,
    /// Type of the last event.
    last: Option<u8>,
    /// Whole transactions.
    transactions: u64,
    /// Time of the first event that has one, in seconds since 1970.
    since: u32,
    /// Where the first transaction begins that others follow before it has ended.
    unfinished: Option<u64>,
}

#[derive(Debug)]
struct Open {
    start: u64,
    gtid: Option<Gtid>,
    /// Where it ends, if its GTID event said so.
    ends_at: Option<u64>,
    /// Whether an event of its own ends it: the next statement does not.
    begun: bool,
}

impl Scan {
    /// Before the first byte of a file.
    #[must_use]
    pub fn new(flavor: Flavor) -> Self {
        Self {
            flavor,
            decoder: Decoder::new(flavor).accept_unchecked(),
            head: 0,
            end: 0,
            boundary: 0,
            open: None,
            before: None,
            gtids: None,
            next: None,
            last: None,
            transactions: 0,
            since: 0,
            unfinished: None,
        }
    }

    /// Which family of servers wrote a file, by its first bytes: some hundred are enough, and fewer
    /// may be all that there are.
    #[must_use]
    pub fn flavor(head: &[u8]) -> Flavor {
        let version = head.get(VERSION).unwrap_or_default();
        let is_mariadb = version
            .windows(MARIADB.len())
            .any(|word| word.eq_ignore_ascii_case(MARIADB));
        if is_mariadb {
            Flavor::Mariadb
        } else {
            Flavor::Mysql
        }
    }

    /// How many bytes the next piece has, of which these are the first: the magic, or an event.
    /// More than are given: so many are needed to say more, or to take it.
    ///
    /// # Errors
    /// 11038: no event can have this length.
    pub fn wants(&self, ahead: &[u8]) -> Result<usize> {
        if self.end == 0 {
            return Ok(MAGIC.len());
        }
        if ahead.len() < HEADER_LEN {
            return Ok(HEADER_LEN);
        }
        let header = Header::peek(ahead).map_err(|error| self.broken(&error))?;
        Ok(header.event_size as usize)
    }

    /// Takes the next piece, of the length that [`wants`](Self::wants) says.
    ///
    /// # Errors
    /// 11038: it is damaged, or not what belongs there. Nothing of it counts then.
    pub fn take(&mut self, piece: &Bytes) -> Result<()> {
        self.take_framed(piece).map(drop)
    }

    /// The same, and returns the event; there is none in the magic.
    ///
    /// # Errors
    /// As [`take`](Self::take).
    pub fn take_framed(&mut self, piece: &Bytes) -> Result<Option<Frame>> {
        if self.end == 0 {
            if **piece == MAGIC_ENCRYPTED {
                return Err(self.refuse("it is encrypted (`binlog_encryption`)"));
            }
            if **piece != MAGIC {
                return Err(self.broken(&BinlogError::Malformed("binlog file")));
            }
            self.end = MAGIC.len() as u64;
            self.boundary = self.end;
            return Ok(None);
        }
        let frame = self.decoder.frame(piece.clone());
        let frame = frame.map_err(|error| self.broken(&error))?;
        self.place(&frame)?;
        Ok(Some(frame))
    }

    /// Takes the next event, whose checksum and length were looked at already.
    ///
    /// # Errors
    /// As [`take`](Self::take).
    pub(super) fn place(&mut self, frame: &Frame) -> Result<()> {
        let start = self.end;
        let end = start + u64::from(frame.header.event_size);
        // Where a dump begins further behind, its first event has no place.
        let is_placed =
            frame.header.event_type != kind::FORMAT_DESCRIPTION || frame.header.log_pos != 0;
        if is_placed && frame.header.log_pos != end {
            return Err(self.refuse(&format!(
                "the event there says that it ends at {}, and does at {end}",
                frame.header.log_pos
            )));
        }
        let event = match frame.header.event_type {
            kind::PREVIOUS_GTIDS
            | kind::GTID_LIST
            | kind::GTID
            | kind::GTID_TAGGED
            | kind::ANONYMOUS_GTID
            | kind::MARIADB_GTID
            | kind::QUERY
            | kind::QUERY_COMPRESSED
            | kind::XID
            | kind::XA_PREPARE
            | kind::TRANSACTION_PAYLOAD
            | kind::ROTATE => {
                let event = self.decoder.event(frame);
                Some(event.map_err(|error| self.broken(&error))?)
            }
            // What is in the others does not matter.
            _ => None,
        };
        if let Some(Event::Gtid { gtid, .. }) = &event
            && self
                .gtids
                .as_ref()
                .is_some_and(|gtids| gtids.contains_txn(gtid))
        {
            return Err(self.refuse(&format!("transaction {gtid} is there for the second time")));
        }
        self.see(start, end, event);
        self.end = end;
        if self.head == 0 {
            self.head = end;
        }
        self.last = Some(frame.header.event_type);
        if self.since == 0 {
            self.since = frame.header.timestamp;
        }
        Ok(())
    }

    /// Takes the next event at an offset, behind bytes that stand for what the source left out
    /// between two transactions, if there are any.
    ///
    /// # Errors
    /// As [`take`](Self::take).
    pub(super) fn place_at(&mut self, start: u64, frame: &Frame) -> Result<()> {
        let (end, boundary) = (self.end, self.boundary);
        if start > end {
            self.end = start;
            self.boundary = start;
        }
        let placed = self.place(frame);
        if placed.is_err() {
            self.end = end;
            self.boundary = boundary;
        }
        placed
    }

    /// Whether a transaction is under way.
    pub(super) const fn is_open(&self) -> bool {
        self.open.is_some()
    }

    /// Forgets what is behind the boundary, as it is to be cut off. What comes next was looked at
    /// by another decoder.
    pub(super) fn cut(&mut self) {
        self.end = self.boundary;
        self.open = None;
    }

    /// Takes all that is whole of what comes next, and returns what is left: the beginning of a
    /// piece.
    ///
    /// # Errors
    /// As [`take`](Self::take); what comes before the damage counts.
    pub fn read(&mut self, bytes: &Bytes) -> Result<Bytes> {
        let mut rest = bytes.clone();
        loop {
            let len = self.wants(&rest)?;
            if len > rest.len() {
                return Ok(rest);
            }
            self.take(&rest.split_to(len))?;
        }
    }

    /// Bytes that were read.
    #[must_use]
    pub const fn end(&self) -> u64 {
        self.end
    }

    /// Whether there are whole transactions, or what stands between them. A file that has only its
    /// FORMAT_DESCRIPTION is worth nothing: that one may be damaged without its being seen, where
    /// the source writes no checksums.
    #[must_use]
    pub const fn has_content(&self) -> bool {
        self.head > 0 && self.boundary > self.head
    }

    /// Whether nothing was read but the FORMAT_DESCRIPTION.
    pub(super) const fn is_bare(&self) -> bool {
        self.end == self.head
    }

    /// Where the last transaction, or whatever stands between two of them, ended: what is behind it
    /// is a part of a transaction.
    #[must_use]
    pub const fn boundary(&self) -> u64 {
        self.boundary
    }

    /// The transactions up to the boundary, with those of all files before, if the file says which
    /// these are.
    #[must_use]
    pub const fn gtids(&self) -> Option<&GtidSet> {
        self.gtids.as_ref()
    }

    /// The transactions of all files before, if the file says which these are.
    #[must_use]
    pub const fn before(&self) -> Option<&GtidSet> {
        self.before.as_ref()
    }

    /// The file in which the binlog goes on, if this one ends by saying so.
    #[must_use]
    pub fn next(&self) -> Option<&str> {
        self.next.as_deref()
    }

    /// The transaction that is under way, if it has a name.
    #[must_use]
    pub fn transaction(&self) -> Option<&Gtid> {
        self.open.as_ref().and_then(|open| open.gtid.as_ref())
    }

    /// Whole transactions so far.
    #[must_use]
    pub const fn transactions(&self) -> u64 {
        self.transactions
    }

    /// Time of the first event that has one, in seconds since 1970; zero if none has.
    #[must_use]
    pub const fn since(&self) -> u32 {
        self.since
    }

    /// Whether the events carry checksums, once the first one said so.
    #[must_use]
    pub const fn has_checksums(&self) -> Option<bool> {
        self.decoder.has_checksums()
    }

    /// Whether the server that wrote the file said that it stops.
    #[must_use]
    pub fn is_stopped(&self) -> bool {
        self.last == Some(kind::STOP)
    }

    /// Where the first transaction begins that others follow, or another file, before it has ended.
    #[must_use]
    pub const fn unfinished(&self) -> Option<u64> {
        self.unfinished
    }

    /// Whether what is left at the end of a file can be the beginning of an event that was not
    /// written as a whole: then what is there of it is right.
    #[must_use]
    pub fn is_beginning(&self, rest: &[u8]) -> bool {
        if self.end == 0 {
            return MAGIC.starts_with(rest);
        }
        let Ok(header) = Header::peek(rest) else {
            // Not even a header is there, or its length is none.
            return rest.len() < HEADER_LEN;
        };
        let end = self.end + u64::from(header.event_size);
        // MariaDB leaves the place out inside transactions.
        let is_left_out = header.log_pos == 0 && self.flavor == Flavor::Mariadb;
        is_left_out || header.log_pos == end & u64::from(u32::MAX)
    }

    fn see(&mut self, start: u64, end: u64, event: Option<Event>) {
        self.next = None;
        match event {
            Some(Event::PreviousGtids(gtids) | Event::MariadbGtidList(gtids)) => {
                self.before = Some(gtids.clone());
                self.gtids = Some(gtids);
                self.boundary = end;
            }
            Some(Event::Rotate { file, .. }) => {
                self.next = Some(file);
                // Whatever was begun has no end then.
                self.abandon();
                self.boundary = end;
            }
            Some(Event::Gtid { gtid, times }) => {
                self.begin(start, Some(gtid), times.transaction_len)
            }
            Some(Event::AnonymousGtid { times }) => self.begin(start, None, times.transaction_len),
            Some(Event::MariadbGtid {
                gtid, standalone, ..
            }) => {
                self.begin(start, Some(gtid), 0);
                // It stands for a BEGIN as well.
                self.group(start).begun = !standalone;
            }
            Some(Event::Xid | Event::XaPrepare { .. } | Event::Payload { .. }) => self.commit(end),
            Some(Event::Query(query)) => self.query(start, end, &query),
            _ if self.open.is_none() => self.boundary = end,
            _ => {}
        }
        let ends_at = self.open.as_ref().and_then(|open| open.ends_at);
        if ends_at.is_some_and(|ends_at| ends_at <= end) {
            self.commit(end);
        }
    }

    /// A transaction begins. One that has not ended never will: its source crashed.
    fn begin(&mut self, start: u64, gtid: Option<Gtid>, len: u64) {
        self.boundary = start;
        self.abandon();
        self.open = Some(Open {
            start,
            gtid,
            ends_at: (len > 0).then_some(start.saturating_add(len)),
            begun: false,
        });
    }

    fn abandon(&mut self) {
        if let Some(open) = self.open.take() {
            self.unfinished.get_or_insert(open.start);
        }
    }

    fn group(&mut self, start: u64) -> &mut Open {
        self.open.get_or_insert(Open {
            start,
            gtid: None,
            ends_at: None,
            begun: true,
        })
    }

    fn commit(&mut self, end: u64) {
        self.boundary = end;
        self.transactions += u64::from(self.open.is_some());
        let gtid = self.open.take().and_then(|open| open.gtid);
        if let (Some(gtids), Some(gtid)) = (&mut self.gtids, gtid) {
            gtids.add(&gtid);
        }
    }

    fn query(&mut self, start: u64, end: u64, query: &QueryEvent) {
        let text = String::from_utf8_lossy(&query.sql);
        let text = text.trim().trim_end_matches(';');
        let is = |word: &str| text.eq_ignore_ascii_case(word);
        let starts = |words: &str| {
            let head = text.get(..words.len());
            head.is_some_and(|head| head.eq_ignore_ascii_case(words))
        };
        // It ends itself, but for one of a transaction that says its length.
        let stands_alone =
            (self.open.as_ref()).is_none_or(|open| !open.begun && open.ends_at.is_none());
        if is("BEGIN") || starts("XA START") || starts("XA BEGIN") {
            self.group(start).begun = true;
        } else if is("COMMIT") || is("ROLLBACK") || stands_alone {
            self.commit(end);
        }
    }

    fn broken(&self, error: &BinlogError) -> Error {
        self.refuse(&format!("{error}"))
    }

    fn refuse(&self, why: &str) -> Error {
        let (flavor, end) = (self.flavor, self.end);
        Error::new(
            &code::PARSER_PARSE_RELAY_LOG,
            format!("the {flavor} binlog file can't be read behind offset {end}: {why}"),
        )
    }
}

#[cfg(test)]
mod tests;
