//! Binlog events, byte for byte as MySQL 8 writes them.

use bytes::{BufMut, Bytes, BytesMut};
use dm_core::binlog::{HEADER_LEN, event_type};

use crate::world::rows::{Definition, Row};

/// Marks an event that is not in the file.
pub(super) const ARTIFICIAL: u16 = 0x20;
const CHECKSUM_LEN: usize = 4;
/// Of a rows event: the statement ends with it.
const STMT_END: u16 = 1;
/// `MYSQL_TYPE_LONGLONG`.
const LONGLONG: u8 = 8;
const SERVER_ID: u32 = 11;
/// When everything happens, in seconds since 1970: the source's clock stands still.
pub(super) const TIMESTAMP: u32 = 1_700_000_000;

/// A whole event that ends at `end`, or at no place in the file where that is 0.
pub(super) fn event(kind: u8, end: u64, flags: u16, body: &[u8]) -> Bytes {
    let len = size(body);
    let mut raw = BytesMut::with_capacity(len);
    raw.put_u32_le(if flags & ARTIFICIAL == 0 {
        TIMESTAMP
    } else {
        0
    });
    raw.put_u8(kind);
    raw.put_u32_le(SERVER_ID);
    raw.put_u32_le(len as u32);
    raw.put_u32_le(end as u32);
    raw.put_u16_le(flags);
    raw.put_slice(body);
    let sum = crc32fast::hash(&raw);
    raw.put_u32_le(sum);
    raw.freeze()
}

/// Bytes of an event with this body.
pub(super) const fn size(body: &[u8]) -> usize {
    HEADER_LEN + body.len() + CHECKSUM_LEN
}

/// A body, and the type of its event.
pub(super) type Body = (u8, Vec<u8>);

pub(super) fn rotate(file: &str, pos: u64) -> Body {
    let mut body = pos.to_le_bytes().to_vec();
    body.extend_from_slice(file.as_bytes());
    (event_type::ROTATE, body)
}

pub(super) fn format() -> Body {
    let mut body = 4_u16.to_le_bytes().to_vec();
    let mut version = b"8.4.0-simulated".to_vec();
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

pub(super) fn begin(schema: &str) -> Body {
    let mut body = vec![0; 8];
    body.push(schema.len() as u8);
    // No error, no status variables.
    body.extend_from_slice(&[0; 4]);
    body.extend_from_slice(schema.as_bytes());
    body.push(0);
    body.extend_from_slice(b"BEGIN");
    (event_type::QUERY, body)
}

pub(super) fn table_map(id: u64, schema: &str, table: &Definition, names: bool) -> Body {
    let mut body = id.to_le_bytes()[..6].to_vec();
    body.extend_from_slice(&[1, 0]);
    for name in [schema, table.name] {
        body.push(name.len() as u8);
        body.extend_from_slice(name.as_bytes());
        body.push(0);
    }
    let count = table.columns.len();
    body.push(count as u8);
    body.extend(std::iter::repeat_n(LONGLONG, count));
    // None of these types has metadata.
    body.push(0);
    let nullable = table.columns.iter().enumerate();
    let nullable = nullable.filter(|(_, column)| column.1);
    body.push(nullable.fold(0, |bits, (index, _)| bits | 1 << index));
    // Signedness: none is unsigned.
    body.extend_from_slice(&[1, 1, 0]);
    if names {
        let mut list = Vec::new();
        for (name, _) in table.columns {
            list.push(name.len() as u8);
            list.extend_from_slice(name.as_bytes());
        }
        body.extend_from_slice(&[4, list.len() as u8]);
        body.extend_from_slice(&list);
    }
    (event_type::TABLE_MAP, body)
}

/// One changed row, which is the whole statement.
pub(super) fn rows(id: u64, before: Option<&Row>, after: Option<&Row>) -> Body {
    let kind = match (before, after) {
        (None, _) => event_type::WRITE_ROWS,
        (Some(_), Some(_)) => event_type::UPDATE_ROWS,
        (Some(_), None) => event_type::DELETE_ROWS,
    };
    let images: Vec<&Row> = before.into_iter().chain(after).collect();
    let mut body = id.to_le_bytes()[..6].to_vec();
    body.extend_from_slice(&STMT_END.to_le_bytes());
    body.extend_from_slice(&[2, 0]);
    let count = images.first().map_or(0, |row| row.len());
    body.push(count as u8);
    for _ in &images {
        body.push((1 << count) - 1);
    }
    for image in images {
        let nulls = image
            .iter()
            .enumerate()
            .filter(|(_, value)| value.is_none());
        body.push(nulls.fold(0, |bits, (index, _)| bits | 1 << index));
        for value in image.iter().flatten() {
            body.extend_from_slice(&value.to_le_bytes());
        }
    }
    (kind, body)
}

pub(super) fn xid(number: u64) -> Body {
    (event_type::XID, number.to_le_bytes().to_vec())
}

pub(super) fn heartbeat(file: &str) -> Body {
    (event_type::HEARTBEAT, file.as_bytes().to_vec())
}
