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
/// So many bytes are enough for a piece, once they are decompressed.
const MEMORY_MAX: usize = 1 << 20;
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
    /// Its size, not compressed, unless it is a whole compressed transaction.
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
        Self::read(file, (path, at, limit), decoder, false).await
    }

    /// Reads what begins at an offset, but nothing behind `limit`. What is to be read by several
    /// is opened where it is compressed.
    ///
    /// # Errors
    /// 11038: what is there is no event, or not all of one.
    pub(super) async fn read<F: File>(
        file: &F,
        (path, at, limit): (&Path, u64, u64),
        mut decoder: Decoder,
        opens: bool,
    ) -> Result<Self> {
        let mut events = Vec::new();
        let mut memory = 0;
        let mut end = at;
        let mut wanted = PIECE_BYTES;
        loop {
            let len = wanted.min(limit.saturating_sub(end));
            let read = file.read_at(end, len as usize).await;
            let bytes = read.map_err(|error| unread(path, end, &error))?;
            let mut rest = bytes.clone();
            while memory < MEMORY_MAX
                && let Some(size) = size_of(&rest).map_err(|why| broken(path, end, why))?
                && size <= rest.len()
            {
                let raw = rest.split_to(size);
                let known = events.len();
                let decoded = decode(&mut decoder, raw, (end, opens), &mut events);
                decoded.map_err(|error| broken(path, end, &error.to_string()))?;
                memory += events[known..].iter().map(|it| it.bytes).sum::<usize>();
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
            memory: memory as u64,
            events,
            decoder,
        })
    }
}

/// Decodes the event that begins at an offset. A compressed transaction that is opened is several
/// ones, unless it is large.
fn decode(
    decoder: &mut Decoder,
    raw: Bytes,
    (at, opens): (u64, bool),
    events: &mut Vec<Record>,
) -> Result<()> {
    let bytes = raw.len();
    let frame = decoder.frame(raw)?;
    let header = frame.header;
    let (compression, size, body) = match decoder.event(&frame)? {
        Event::Payload {
            compression,
            uncompressed_size,
            body,
        } if opens && uncompressed_size <= OPENED_BYTES_MAX => {
            (compression, uncompressed_size, body)
        }
        event => {
            events.push(Record {
                at,
                header,
                bytes: plain_len(&event, bytes),
                event,
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

/// The size of an event that came in so many bytes: MariaDB's `log_bin_compress` makes them fewer
/// than what they hold.
pub(in crate::units) fn plain_len(event: &Event, bytes: usize) -> usize {
    match event {
        Event::Rows(rows) => bytes.max(rows.rows_len()),
        _ => bytes,
    }
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

/// Whether an error is the disk's, and says nothing about the file.
pub(super) fn is_unread(error: &Error) -> bool {
    !error.cause.is_empty()
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

#[cfg(all(test, not(madsim)))]
mod tests {
    use std::fs;

    use dm_core::binlog::{Flavor, Position};

    use super::*;
    use crate::{
        disk::LocalDisk,
        ports::disk::{Disk, Open},
        units::relay::samples::recorded,
    };

    /// However much it becomes: many small ones become large together.
    #[tokio::test]
    async fn what_is_compressed_is_opened_for_several_and_bounded() {
        const FILE: &str = "7105f637-e6f4-11f1-a0c3-02fc00000001.000001/binlog.000001";
        /// A payload of 3,663 bytes that has 56,363.
        const PAYLOAD: usize = 438_635;
        const COPIES: usize = 60;
        let dir = recorded("switch");
        let path = dir.path().join(FILE);
        let all = fs::read(&path).unwrap();
        let size = |at: usize| size_of(&all[at..]).unwrap().unwrap();
        let begin = MAGIC.len() + size(MAGIC.len());
        let payload = &all[PAYLOAD..][..size(PAYLOAD)];
        fs::write(&path, [&all[..begin], &payload.repeat(COPIES)].concat()).unwrap();
        let file = LocalDisk.open(&path, Open::Read).await.unwrap();
        for opens in [false, true] {
            let mut decoder = Decoder::new(Flavor::Mysql);
            let (mut at, mut pieces, mut found) = (Position::FIRST, 0, 0);
            while at < (begin + COPIES * payload.len()) as u64 {
                let place = (&*path, at, u64::MAX);
                let piece = Piece::read(&file, place, decoder, opens).await.unwrap();
                assert!((piece.memory as usize) < MEMORY_MAX + 60_000);
                let is_whole = |it: &&Record| matches!(it.event, Event::Payload { .. });
                assert_eq!(piece.events.iter().any(|it| is_whole(&it)), !opens);
                let first = |it: &&Record| !it.shares;
                found += piece.events.iter().filter(first).count();
                pieces += 1;
                at = piece.end;
                decoder = piece.decoder;
            }
            // The first event is the format description.
            assert_eq!((found, pieces > 1), (1 + COPIES, opens));
        }
    }
}
