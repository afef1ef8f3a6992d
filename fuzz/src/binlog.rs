//! Targets of a stream of events: its frames, its beginning, and all of it.

use bytes::Bytes;
use dm_core::{
    binlog::{Decoder, Event, Flavor, Frame, HEADER_LEN, Header, event_type as kind},
    relay::MAGIC,
};

use crate::{
    checks, events,
    input::{Input, flavor},
    memory, payload,
};

/// Lengths and checksums: a flag byte, and events.
pub fn frame(data: &[u8]) {
    memory::bounded((1 << 20) + 128 * data.len(), || {
        let mut input = Input::new(data);
        let flags = input.u8();
        let rest = input.rest();
        if let Ok(header) = Header::peek(rest) {
            assert!(header.event_size as usize >= HEADER_LEN);
            let is_whole = header.event_size as usize == rest.len();
            assert_eq!(Header::parse(rest), Header::parse(rest).map(|_| header));
            assert_eq!(Header::parse(rest).is_ok(), is_whole);
        }
        let mut decoder = Decoder::new(flavor(flags));
        if flags & 4 != 0 {
            decoder = decoder.accept_unchecked();
        }
        let mut checked = None;
        for raw in events::of_file(rest, flags & 2 != 0) {
            let Ok(frame) = decoder.frame(raw.clone()) else {
                break;
            };
            assert_framed(&frame, &raw);
            match frame.header.event_type {
                kind::FORMAT_DESCRIPTION => {
                    checked = frame.body.last().map(|algorithm| *algorithm == 1);
                }
                kind::ROTATE => {}
                _ if checked == Some(true) => assert_noticed(&mut decoder, &raw, flags),
                _ => {}
            }
        }
    });
}

/// A frame is the event that it was cut out of.
fn assert_framed(frame: &Frame, raw: &Bytes) {
    let header = Header {
        log_pos: frame.header.log_pos,
        ..Header::parse(raw).unwrap_or(frame.header)
    };
    assert_eq!(frame.header, header);
    let checksum = raw.len() - HEADER_LEN - frame.body.len();
    assert!(checksum == 0 || checksum == 4);
    assert_eq!(frame.body, raw[HEADER_LEN..][..frame.body.len()]);
}

/// A bit that is another one behind the header, in the body or in the checksum, is noticed.
fn assert_noticed(decoder: &mut Decoder, raw: &Bytes, place: u8) {
    let mut damaged = raw.to_vec();
    let behind = &mut damaged[HEADER_LEN..];
    let at = usize::from(place) % behind.len();
    behind[at] ^= 1 << (place % 8);
    assert!(decoder.frame(damaged.into()).is_err());
}

/// How a binlog begins: a flag byte, and the body of a FORMAT_DESCRIPTION event. What follows must
/// be read as that says.
pub fn format_description(data: &[u8]) {
    memory::bounded((1 << 20) + 128 * data.len(), || {
        let mut input = Input::new(data);
        let flags = input.u8();
        let body = input.rest();
        let mut decoder = Decoder::new(flavor(flags));
        if flags & 4 != 0 {
            decoder = decoder.accept_unchecked();
        }
        let begin = Bytes::from(events::event(kind::FORMAT_DESCRIPTION, body, true));
        let Ok(frame) = decoder.frame(begin) else {
            return;
        };
        assert_eq!(frame.body, body);
        let Ok(Event::FormatDescription(format)) = decoder.event(&frame) else {
            panic!("a format that was accepted can't be read");
        };
        assert!(format.checksum || flags & 4 != 0);
        assert!(format.server_version.len() <= 3 * 50);
        let next = events::event(kind::XID, &[7; 8], format.checksum);
        let frame = decoder.frame(next.into());
        let event = frame.and_then(|frame| decoder.event(&frame));
        assert!(matches!(event, Ok(Event::Xid)), "{event:?}");
        // One without a checksum, its last bytes taken for it.
        let unchecked = decoder.frame(events::event(kind::XID, &[7; 8], false).into());
        assert_eq!(unchecked.is_ok(), !format.checksum);
    });
}

/// A whole binlog file, event by event: a flag byte, what the target of all columns knows, and the
/// file.
pub fn stream(data: &[u8]) {
    // A compressed event of MariaDB may be a thousand times as long.
    memory::bounded((4 << 20) + 4096 * data.len(), || {
        let mut input = Input::new(data);
        let flags = input.u8();
        let hint = input.hint();
        let mut decoder = Decoder::new(flavor(flags));
        if flags & 4 != 0 {
            decoder = decoder.accept_unchecked();
        }
        let mut end = MAGIC.len() as u64;
        for raw in events::of_file(input.rest(), flags & 2 != 0) {
            let Ok(frame) = decoder.frame(raw.clone()) else {
                return;
            };
            assert_framed(&frame, &raw);
            end += raw.len() as u64;
            // Damage in one event must not make another one panic.
            match decoder.event(&frame) {
                Ok(Event::Payload {
                    compression,
                    uncompressed_size,
                    body,
                }) => payload::open(&mut decoder, compression, uncompressed_size, body, &hint),
                Ok(event) => checks::event(&event, &hint),
                Err(_) => {}
            }
        }
        assert!(end <= (MAGIC.len() + data.len()) as u64);
    });
}

/// Whether the flag byte of a target that takes events stands for this.
pub(crate) fn flags(flavor: Flavor, repair: bool) -> u8 {
    u8::from(flavor == Flavor::Mariadb) | u8::from(repair) << 1
}
