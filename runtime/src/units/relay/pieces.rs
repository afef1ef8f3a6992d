//! What was read of relay files lately: subtasks that are close together read and decode once.

use std::{collections::VecDeque, path::Path, sync::Arc};

use bytes::Bytes;
use dm_core::{
    binlog::{Decoder, Event, Frame, HEADER_LEN, Header},
    error::{Error, Result, code},
    relay::{MAGIC, SubDir},
};

use crate::{ports::disk::File, units::payload::Payload};

/// Bytes that are read and decoded at once. A larger event goes alone.
const PIECE_BYTES: u64 = 256 << 10;
/// A compressed transaction is opened for all who read it if it takes no more memory than this.
const OPENED_BYTES_MAX: u64 = 1 << 20;
/// No event is larger: servers take packets of up to 1 GiB.
const EVENT_BYTES_MAX: u32 = (1 << 30) + (1 << 20);
/// Memory for what others may want, and how many pieces it is at most: at the end of the log each
/// may be small.
const KEPT_BYTES: u64 = 8 << 20;
const PIECES_MAX: usize = 64;

/// Events that follow each other in a file.
#[derive(Debug)]
pub(in crate::units) struct Piece {
    /// Where the last one ends.
    end: u64,
    /// Bytes that it takes.
    memory: u64,
    /// The events; none where the file has no more.
    events: Vec<Record>,
    /// As it is behind the last one.
    decoder: Decoder,
}

/// An event of a file.
#[derive(Clone, Debug)]
pub(in crate::units) struct Record {
    /// Where it begins.
    at: u64,
    /// Its header; that of the compressed transaction which it is a part of.
    pub(in crate::units) header: Header,
    /// What it says.
    pub(in crate::units) event: Event,
    /// Its size, not compressed.
    pub(in crate::units) bytes: usize,
    /// Whether an event before it came under the same header.
    pub(in crate::units) shares: bool,
}

impl Piece {
    /// The events from an offset on, at which one begins.
    pub(in crate::units) fn from(&self, at: u64) -> &[Record] {
        let first = self.events.partition_point(|event| event.at < at);
        &self.events[first..]
    }

    /// The last event.
    pub(super) fn last(&self) -> Option<&Event> {
        self.events.last().map(|record| &record.event)
    }

    pub(super) const fn end(&self) -> u64 {
        self.end
    }

    pub(super) const fn decoder(&self) -> &Decoder {
        &self.decoder
    }

    /// Whether an event of it begins at an offset.
    fn has(&self, at: u64) -> bool {
        (self.events)
            .binary_search_by_key(&at, |event| event.at)
            .is_ok()
    }

    /// Reads the one event that begins at an offset.
    ///
    /// # Errors
    /// 11038: what is there is no event, or not all of one.
    pub(super) async fn first<F: File>(
        file: &F,
        (path, at): (&Path, u64),
        decoder: Decoder,
    ) -> Result<Self> {
        let head = file.read_at(at, HEADER_LEN).await;
        let head = head.map_err(|error| unread(path, at, &error))?;
        let size = size_of(&head).map_err(|why| broken(path, at, why))?;
        let limit = at + size.unwrap_or_default() as u64;
        Self::read(file, (path, at, limit), decoder).await
    }

    /// Reads what begins at an offset, but nothing behind `limit`.
    ///
    /// # Errors
    /// 11038: what is there is no event, or not all of one.
    pub(super) async fn read<F: File>(
        file: &F,
        (path, at, limit): (&Path, u64, u64),
        mut decoder: Decoder,
    ) -> Result<Self> {
        let mut events = Vec::new();
        let mut end = at;
        let mut wanted = PIECE_BYTES;
        loop {
            let len = wanted.min(limit.saturating_sub(end));
            let read = file.read_at(end, len as usize).await;
            let bytes = read.map_err(|error| unread(path, end, &error))?;
            let mut rest = bytes.clone();
            while let Some(size) = size_of(&rest).map_err(|why| broken(path, end, why))? {
                if size > rest.len() {
                    break;
                }
                let raw = rest.split_to(size);
                let decoded = decode(&mut decoder, raw, end, &mut events);
                decoded.map_err(|error| broken(path, end, &error.to_string()))?;
                end += size as u64;
            }
            if !events.is_empty() || bytes.is_empty() {
                break;
            }
            // Not even one event, however large: the file ends inside of it, or more is needed.
            let needed = size_of(&rest).ok().flatten().unwrap_or(HEADER_LEN) as u64;
            if (bytes.len() as u64) < len || end + needed > limit {
                return Err(broken(path, end, "it ends inside an event"));
            }
            wanted = needed;
        }
        Ok(Self {
            end,
            memory: events.iter().map(|record| record.bytes as u64).sum(),
            events,
            decoder,
        })
    }
}

/// Decodes the event that begins at an offset. A compressed transaction is several ones, unless it
/// is large.
fn decode(decoder: &mut Decoder, raw: Bytes, at: u64, events: &mut Vec<Record>) -> Result<()> {
    let bytes = raw.len();
    let frame = decoder.frame(raw)?;
    let header = frame.header;
    let (compression, size, body) = match decoder.event(&frame)? {
        Event::Payload {
            compression,
            uncompressed_size,
            body,
        } if uncompressed_size <= OPENED_BYTES_MAX => (compression, uncompressed_size, body),
        event => {
            events.push(Record {
                at,
                header,
                event,
                bytes,
                shares: false,
            });
            return Ok(());
        }
    };
    let mut payload = Payload::open(compression, size, body)?;
    let first = events.len();
    while let Some(raw) = payload.next()? {
        events.push(Record {
            at,
            header,
            event: decoder.event(&Frame::inside_payload(&raw)?)?,
            bytes: raw.len(),
            shares: events.len() > first,
        });
    }
    Ok(())
}

/// How long the event is that begins here, if its header is there.
fn size_of(bytes: &[u8]) -> std::result::Result<Option<usize>, &'static str> {
    if bytes.len() < HEADER_LEN {
        return Ok(None);
    }
    match Header::peek(bytes) {
        Ok(header) if header.event_size <= EVENT_BYTES_MAX => Ok(Some(header.event_size as usize)),
        _ => Err("there is no event"),
    }
}

/// Sees that a file begins as a binlog does.
pub(super) async fn check_magic<F: File>(file: &F, path: &Path) -> Result<()> {
    let read = file.read_at(0, MAGIC.len()).await;
    if read.map_err(|error| unread(path, 0, &error))?[..] == MAGIC {
        return Ok(());
    }
    Err(broken(path, 0, "it does not begin as a binlog does"))
}

pub(super) fn unread(path: &Path, at: u64, error: &std::io::Error) -> Error {
    let message = format!("cannot read {} at {at}", path.display());
    Error::new(&code::PARSER_PARSE_RELAY_LOG, message).with_cause(error.to_string())
}

pub(super) fn broken(path: &Path, at: u64, why: &str) -> Error {
    Error::new(
        &code::PARSER_PARSE_RELAY_LOG,
        format!("{} can't be read at {at}: {why}", path.display()),
    )
    .with_workaround("`dm-worker relay verify` says more about the file.")
}

/// The pieces that were read last, the newest one last.
#[derive(Debug, Default)]
pub(super) struct Pieces {
    pieces: VecDeque<(SubDir, String, Arc<Piece>)>,
    bytes: u64,
}

impl Pieces {
    /// The piece that has the event which begins here.
    pub(super) fn find(&self, sub_dir: &SubDir, file: &str, at: u64) -> Option<Arc<Piece>> {
        let mut newest = self.pieces.iter().rev();
        let found = newest.find(|(of, name, piece)| of == sub_dir && name == file && piece.has(at));
        found.map(|(_, _, piece)| Arc::clone(piece))
    }

    /// Keeps a piece for others.
    pub(super) fn keep(&mut self, sub_dir: &SubDir, file: &str, piece: &Arc<Piece>) {
        self.bytes += piece.memory;
        let entry = (sub_dir.clone(), file.to_owned(), Arc::clone(piece));
        self.pieces.push_back(entry);
        while self.bytes > KEPT_BYTES || self.pieces.len() > PIECES_MAX {
            let Some((_, _, oldest)) = self.pieces.pop_front() else {
                break;
            };
            self.bytes -= oldest.memory;
        }
    }

    /// Forgets everything: what is in the files may change.
    pub(super) fn clear(&mut self) {
        *self = Self::default();
    }
}
