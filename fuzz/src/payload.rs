//! The target of compressed events.

use bytes::Bytes;
use dm_core::binlog::{
    ColumnHint, Decoder, Event, Flavor, Frame, Header, PayloadCompression, event_type as kind,
};
use miniz_oxide::deflate::compress_to_vec_zlib;

use crate::{
    checks,
    events::{self, header},
    input::Input,
    memory,
    transaction_payload::Payload,
};

/// No more than this is decompressed: a few bytes may well stand for a transaction of gigabytes.
const PLAIN_MAX: u64 = 1 << 20;

/// Kinds of an input.
pub(crate) mod form {
    /// The events of a transaction, which get compressed first.
    pub(crate) const EVENTS: u8 = 0;
    /// Bytes that are not compressed.
    pub(crate) const STORED: u8 = 1;
    /// Bytes that say that they are compressed, behind two bytes of their length.
    pub(crate) const COMPRESSED: u8 = 2;
    /// The body of a TRANSACTION_PAYLOAD event.
    pub(crate) const BODY: u8 = 3;
    /// A table map of MariaDB, a type, and the body of such an event in two parts: the second one
    /// gets compressed first.
    pub(crate) const PARTS: u8 = 4;
    /// A table map of MariaDB, a type, and the body of such an event.
    pub(crate) const MARIADB: u8 = 5;
    /// How many there are.
    pub(crate) const COUNT: u8 = 6;
}

/// Compressed events of both flavors: the kind of the input, what the target of all columns knows,
/// and what the kind says.
pub fn payload(data: &[u8]) {
    // Decompressed bytes, those of the documents in them, and zlib's own; zstd's are C's.
    memory::bounded((8 << 20) + 4096 * data.len(), || {
        let mut input = Input::new(data);
        let kind = input.u8() % form::COUNT;
        let hint = input.hint();
        let decoder = &mut Decoder::new(match kind {
            form::PARTS | form::MARIADB => Flavor::Mariadb,
            _ => Flavor::Mysql,
        });
        match kind {
            form::EVENTS => transaction(decoder, input.rest(), &hint),
            form::STORED => {
                let body = Bytes::copy_from_slice(input.rest());
                let size = body.len() as u64;
                open(decoder, PayloadCompression::None, size, body, &hint);
            }
            form::COMPRESSED => {
                let size = u64::from(input.u16());
                let body = Bytes::copy_from_slice(input.rest());
                open(decoder, PayloadCompression::Zstd, size, body, &hint);
            }
            form::BODY => {
                let body = Bytes::copy_from_slice(input.rest());
                let header = header(kind::TRANSACTION_PAYLOAD, &body);
                if let Ok(Event::Payload {
                    compression,
                    uncompressed_size,
                    body,
                }) = decoder.event(&Frame { header, body })
                {
                    open(decoder, compression, uncompressed_size, body, &hint);
                }
            }
            _ => mariadb(decoder, &mut input, kind == form::PARTS, &hint),
        }
    });
}

/// Opens a compressed transaction and reads what is in it, up to the first thing that is refused.
pub(crate) fn open(
    decoder: &mut Decoder,
    compression: PayloadCompression,
    size: u64,
    body: Bytes,
    hint: &ColumnHint,
) {
    if size > PLAIN_MAX {
        return;
    }
    let Ok(mut payload) = Payload::open(compression, size, body) else {
        return;
    };
    let mut bytes = 0;
    while let Ok(Some(raw)) = payload.next() {
        bytes += raw.len() as u64;
        assert!(bytes <= size && Header::parse(&raw).is_ok());
        let Ok(frame) = Frame::inside_payload(&raw) else {
            return;
        };
        if let Ok(event) = decoder.event(&frame) {
            checks::event(&event, hint);
        }
    }
}

/// What was compressed comes out again.
fn transaction(decoder: &mut Decoder, plain: &[u8], hint: &ColumnHint) {
    let events = events::sized(plain);
    let plain = events.concat();
    let size = plain.len() as u64;
    let body = zstd::encode_all(&*plain, 1).map(Bytes::from);
    let body = body.unwrap_or_else(|error| panic!("can't be compressed: {error}"));
    open(decoder, PayloadCompression::Zstd, size, body.clone(), hint);
    let Ok(mut payload) = Payload::open(PayloadCompression::Zstd, size, body) else {
        panic!("what was compressed can't be opened");
    };
    for event in events {
        assert!(payload.next().is_ok_and(|next| next == Some(event)));
    }
    assert!(payload.next().is_ok_and(|next| next.is_none()));
}

fn mariadb(decoder: &mut Decoder, input: &mut Input<'_>, compress: bool, hint: &ColumnHint) {
    let len = usize::from(input.u16());
    let map = Bytes::copy_from_slice(input.bytes(len));
    let map = Frame {
        header: header(kind::TABLE_MAP, &map),
        body: map,
    };
    // Statements need none.
    let _ = decoder.event(&map);
    let types = kind::QUERY_COMPRESSED..=kind::DELETE_ROWS_COMPRESSED;
    let event_type = types.start() + input.u8() % types.len() as u8;
    let body = if compress {
        let len = usize::from(input.u8());
        let head = input.bytes(len);
        let plain = input.rest();
        let size = (plain.len() as u32).to_be_bytes();
        let algorithm = 0x80 | size.len() as u8;
        [head, &[algorithm], &size, &compress_to_vec_zlib(plain, 1)].concat()
    } else {
        input.rest().to_vec()
    };
    let frame = Frame {
        header: header(event_type, &body),
        body: body.into(),
    };
    if let Ok(event) = decoder.event(&frame) {
        checks::event(&event, hint);
    }
}
