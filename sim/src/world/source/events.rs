//! Binlog events, byte for byte as MySQL 8 writes them.

use bytes::{BufMut, Bytes, BytesMut};
use dm_core::binlog::{Flavor, HEADER_LEN, event_type};

use super::txn::{Image, Part};
use crate::world::tables::Definition;

/// Marks an event that is not in the file.
pub(super) const ARTIFICIAL: u16 = 0x20;
/// A type that nobody knows yet.
const UNKNOWN: u8 = 99;
/// Marks an event that whoever does not know it may pass over.
const IGNORABLE: u16 = 0x80;
const CHECKSUM_LEN: usize = 4;
/// Of a rows event: the statement ends with it.
const STMT_END: u16 = 1;
/// `MYSQL_TYPE_LONGLONG`.
const LONGLONG: u8 = 8;
pub(super) const SERVER_ID: u32 = 11;

/// A body, and the type of its event.
pub(super) type Body = (u8, Vec<u8>);

/// A whole event of a time that ends at `end`, or at no place in the file where that is 0.
pub(super) fn event(time: u32, end: u64, flags: u16, (kind, body): &Body) -> Bytes {
    let len = size(body);
    let mut raw = BytesMut::with_capacity(len);
    let time = if flags & ARTIFICIAL == 0 { time } else { 0 };
    raw.put_slice(&header(time, *kind, len, end, flags));
    raw.put_slice(body);
    let sum = crc32fast::hash(&raw);
    raw.put_u32_le(sum);
    raw.freeze()
}

pub(super) fn header(time: u32, kind: u8, len: usize, end: u64, flags: u16) -> BytesMut {
    let mut raw = BytesMut::with_capacity(HEADER_LEN);
    raw.put_u32_le(time);
    raw.put_u8(kind);
    raw.put_u32_le(SERVER_ID);
    raw.put_u32_le(len as u32);
    raw.put_u32_le(end as u32);
    raw.put_u16_le(flags);
    raw
}

/// Bytes of an event with this body.
pub(super) const fn size(body: &[u8]) -> usize {
    HEADER_LEN + body.len() + CHECKSUM_LEN
}

/// The flags of an event in a file.
pub(super) const fn flags(kind: u8) -> u16 {
    match kind {
        event_type::ROWS_QUERY | UNKNOWN => IGNORABLE,
        _ => 0,
    }
}

pub(super) fn rotate(file: &str, pos: u64) -> Body {
    let mut body = pos.to_le_bytes().to_vec();
    body.extend_from_slice(file.as_bytes());
    (event_type::ROTATE, body)
}

/// What a server says of itself.
pub(super) const fn version(flavor: Flavor) -> &'static str {
    match flavor {
        Flavor::Mysql => "8.4.0-simulated",
        Flavor::Mariadb => "10.11.6-MariaDB-simulated",
    }
}

pub(super) fn format(flavor: Flavor) -> Body {
    let mut body = 4_u16.to_le_bytes().to_vec();
    let mut version = version(flavor).as_bytes().to_vec();
    version.resize(50, 0);
    body.extend_from_slice(&version);
    body.extend_from_slice(&[0; 4]);
    body.push(HEADER_LEN as u8);
    // Lengths of the fixed parts, one for each type; then the algorithm, CRC32.
    body.extend_from_slice(&[0; 41]);
    body.push(1);
    (event_type::FORMAT_DESCRIPTION, body)
}

pub(super) const fn previous_gtids(encoded: Vec<u8>) -> Body {
    (event_type::PREVIOUS_GTIDS, encoded)
}

/// The event that announces a transaction, with or without a name.
pub(super) fn gtid(sid: [u8; 16], gno: Option<u64>) -> Body {
    let mut body = vec![0];
    body.extend_from_slice(&if gno.is_some() { sid } else { [0; 16] });
    body.extend_from_slice(&gno.unwrap_or_default().to_le_bytes());
    // Logical clock, and the time of the commit.
    body.push(2);
    body.extend_from_slice(&[0; 16]);
    body.extend_from_slice(&[0; 7]);
    let kind = match gno {
        Some(_) => event_type::GTID,
        None => event_type::ANONYMOUS_GTID,
    };
    (kind, body)
}

/// A statement as text, with the variables that it depends on.
pub(super) fn query(schema: &str, sql: &str, vars: &[u8]) -> Body {
    let mut body = vec![0; 8];
    body.push(schema.len() as u8);
    // No error.
    body.extend_from_slice(&[0; 2]);
    body.extend_from_slice(&(vars.len() as u16).to_le_bytes());
    body.extend_from_slice(vars);
    body.extend_from_slice(schema.as_bytes());
    body.push(0);
    body.extend_from_slice(sql.as_bytes());
    (event_type::QUERY, body)
}

/// What a statement was, before its rows.
pub(super) fn rows_query(sql: &str) -> Body {
    let mut body = vec![sql.len() as u8];
    body.extend_from_slice(sql.as_bytes());
    (event_type::ROWS_QUERY, body)
}

/// The variables of a session that changes definitions.
pub(super) fn ddl_vars(schema: &str, xid: u64) -> Vec<u8> {
    // Options; mode `STRICT_TRANS_TABLES`; catalog.
    let mut vars = vec![0, 0, 0, 0, 0, 1, 0, 0, 0x20, 0, 0, 0, 0, 0, 6, 3];
    vars.extend_from_slice(b"std");
    // The client's character set and the collations: utf8mb4.
    vars.extend_from_slice(&[4, 255, 0, 255, 0, 255, 0]);
    vars.extend_from_slice(&[5, 6]);
    vars.extend_from_slice(b"+00:00");
    // Schemas that it touches.
    vars.extend_from_slice(&[12, 1]);
    vars.extend_from_slice(schema.as_bytes());
    vars.extend_from_slice(&[0, 17]);
    vars.extend_from_slice(&xid.to_le_bytes());
    // Collation of utf8mb4, no primary key required, no encryption.
    vars.extend_from_slice(&[18, 255, 0, 19, 0, 20, 0]);
    vars
}

pub(super) fn table_map(schema: &str, part: &Part, names: bool, flavor: Flavor) -> Body {
    let Definition { columns, .. } = &part.definition;
    let mut body = part.id.to_le_bytes()[..6].to_vec();
    body.extend_from_slice(&[1, 0]);
    for name in [schema, &part.table] {
        body.push(name.len() as u8);
        body.extend_from_slice(name.as_bytes());
        body.push(0);
    }
    let count = columns.len();
    body.push(count as u8);
    body.extend(std::iter::repeat_n(LONGLONG, count));
    // None of these types has metadata.
    body.push(0);
    body.extend(bits(columns.iter().map(|column| column.nullable)));
    if names || flavor == Flavor::Mysql {
        // Signedness: none is unsigned.
        let signs = bits(columns.iter().map(|_| false));
        body.extend_from_slice(&[1, signs.len() as u8]);
        body.extend(signs);
    }
    if names {
        let mut list = Vec::new();
        for column in columns {
            list.push(column.name.len() as u8);
            list.extend_from_slice(column.name.as_bytes());
        }
        body.extend_from_slice(&[4, list.len() as u8]);
        body.extend_from_slice(&list);
    }
    (event_type::TABLE_MAP, body)
}

/// Changed rows of one kind; `ends`: the statement does, too.
pub(super) fn rows(part: &Part, images: &[Image], ends: bool, flavor: Flavor) -> Body {
    let kind = match images.first() {
        Some((Some(_), Some(_))) => event_type::UPDATE_ROWS,
        Some((Some(_), None)) => event_type::DELETE_ROWS,
        _ => event_type::WRITE_ROWS,
    };
    let mut body = part.id.to_le_bytes()[..6].to_vec();
    body.extend_from_slice(&if ends { STMT_END } else { 0 }.to_le_bytes());
    if flavor == Flavor::Mysql {
        // No more data.
        body.extend_from_slice(&[2, 0]);
    }
    let columns = part.definition.columns.len();
    body.push(columns as u8);
    let all = bits(std::iter::repeat_n(true, columns));
    for _ in 0..if kind == event_type::UPDATE_ROWS {
        2
    } else {
        1
    } {
        body.extend_from_slice(&all);
    }
    for (before, after) in images {
        for image in before.iter().chain(after) {
            body.extend(bits(image.iter().map(Option::is_none)));
            for value in image.iter().flatten() {
                body.extend_from_slice(&value.to_le_bytes());
            }
        }
    }
    match flavor {
        Flavor::Mysql => (kind, body),
        // Of the version before.
        Flavor::Mariadb => (
            kind - event_type::WRITE_ROWS + event_type::WRITE_ROWS_V1,
            body,
        ),
    }
}

pub(super) fn xid(number: u64) -> Body {
    (event_type::XID, number.to_le_bytes().to_vec())
}

pub(super) fn heartbeat(file: &str) -> Body {
    (event_type::HEARTBEAT, file.as_bytes().to_vec())
}

/// The newer kind, which has room for places behind 4 GiB.
pub(super) fn heartbeat_v2(file: &str, pos: u64) -> Body {
    let mut body = vec![1, file.len() as u8];
    body.extend_from_slice(file.as_bytes());
    // A number of eight bytes, and the mark that says so.
    body.extend_from_slice(&[2, 9, 0xfe]);
    body.extend_from_slice(&pos.to_le_bytes());
    body.push(0);
    (event_type::HEARTBEAT_V2, body)
}

/// The server stops.
pub(super) const fn stop() -> Body {
    (event_type::STOP, Vec::new())
}

/// Something newer, which may be passed over.
pub(super) fn unknown() -> Body {
    (UNKNOWN, b"news".to_vec())
}

/// Whether an event has rows.
pub(super) fn is_rows(kind: u8) -> bool {
    matches!(
        kind,
        event_type::WRITE_ROWS_V1..=event_type::DELETE_ROWS_V1
            | event_type::WRITE_ROWS..=event_type::DELETE_ROWS
            | event_type::WRITE_ROWS_COMPRESSED_V1..=event_type::DELETE_ROWS_COMPRESSED_V1
    )
}

/// Bits in bytes, the lowest first.
fn bits(of: impl Iterator<Item = bool>) -> Vec<u8> {
    let mut bytes = Vec::new();
    for (index, bit) in of.enumerate() {
        if index % 8 == 0 {
            bytes.push(0);
        }
        bytes[index / 8] |= u8::from(bit) << (index % 8);
    }
    bytes
}
