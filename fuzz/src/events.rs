//! Makes events, and makes bytes whole events.

use bytes::Bytes;
use dm_core::{
    binlog::{HEADER_LEN, Header, event_type},
    relay::MAGIC,
};

const CHECKSUM_LEN: usize = 4;
const SIZE_AT: usize = 9;
const LOG_POS_AT: usize = 13;
const FLAGS_AT: usize = 17;
/// The flag of a file that is written to; it is not in the checksum.
const IN_USE: u8 = 1;

/// An event with this body, and with a checksum behind it where it is `checked`.
pub(crate) fn event(kind: u8, body: &[u8], checked: bool) -> Vec<u8> {
    let mut event = vec![0; HEADER_LEN];
    event[4] = kind;
    event[5] = 1;
    event.extend_from_slice(body);
    if checked {
        event.extend_from_slice(&[0; CHECKSUM_LEN]);
    }
    set_size(&mut event);
    if checked {
        sign(&mut event);
    }
    event
}

/// The header of an event with this body and no checksum.
pub(crate) fn header(kind: u8, body: &[u8]) -> Header {
    Header {
        timestamp: 0,
        event_type: kind,
        server_id: 1,
        event_size: (HEADER_LEN + body.len()) as u32,
        log_pos: 0,
        flags: 0,
    }
}

/// Appends a length-encoded integer.
pub(crate) fn push_lenenc(out: &mut Vec<u8>, value: usize) {
    match value {
        0..=250 => out.push(value as u8),
        _ => {
            out.push(0xfe);
            out.extend_from_slice(&(value as u64).to_le_bytes());
        }
    }
}

fn set_size(event: &mut [u8]) {
    let size = (event.len() as u32).to_le_bytes();
    event[SIZE_AT..SIZE_AT + 4].copy_from_slice(&size);
}

/// Replaces the last four bytes by the right checksum.
fn sign(event: &mut [u8]) {
    let kind = event[4];
    let flags = event[FLAGS_AT];
    if kind == event_type::FORMAT_DESCRIPTION {
        event[FLAGS_AT] &= !IN_USE;
    }
    let end = event.len() - CHECKSUM_LEN;
    let sum = crc32fast::hash(&event[..end]);
    event[FLAGS_AT] = flags;
    event[end..].copy_from_slice(&sum.to_le_bytes());
}

/// Cuts bytes where the lengths in them say. What is left over at the end is a piece as well.
pub(crate) fn cut(data: &[u8]) -> Vec<Bytes> {
    let mut rest = Bytes::copy_from_slice(data);
    let mut events = Vec::new();
    while !rest.is_empty() {
        let size = Header::peek(&rest).map_or(usize::MAX, |header| header.event_size as usize);
        events.push(rest.split_to(size.min(rest.len())));
    }
    events
}

/// Cuts bytes into events, each with a length that is its own. What is too short to be an event is
/// left out.
pub(crate) fn sized(data: &[u8]) -> Vec<Bytes> {
    let long_enough = |event: &Bytes| event.len() >= HEADER_LEN;
    let events = cut(data).into_iter().filter(long_enough);
    events
        .map(|event| {
            let mut event = Vec::from(event);
            set_size(&mut event);
            event.into()
        })
        .collect()
}

/// As [`sized`], and every event has the checksum that its file wants, and says where it ends, if
/// it says anything about that.
pub(crate) fn repaired(data: &[u8]) -> Vec<Bytes> {
    let (mut end, mut checked) = (MAGIC.len(), true);
    let events = sized(data).into_iter();
    let events = events.filter(|event| event.len() >= HEADER_LEN + CHECKSUM_LEN);
    events
        .map(|event| {
            let mut event = Vec::from(event);
            end += event.len();
            let says_end = event[LOG_POS_AT..FLAGS_AT] != [0; 4];
            if says_end {
                event[LOG_POS_AT..FLAGS_AT].copy_from_slice(&(end as u32).to_le_bytes());
            }
            let begins = event[4] == event_type::FORMAT_DESCRIPTION;
            if begins {
                checked = event[event.len() - CHECKSUM_LEN - 1] != 0;
            }
            if checked || begins {
                sign(&mut event);
            }
            event.into()
        })
        .collect()
}

/// Events of a file, which may lack its magic: repaired where that is wanted.
pub(crate) fn of_file(file: &[u8], repair: bool) -> Vec<Bytes> {
    let events = file.strip_prefix(&MAGIC).unwrap_or(file);
    if repair {
        repaired(events)
    } else {
        cut(events)
    }
}
