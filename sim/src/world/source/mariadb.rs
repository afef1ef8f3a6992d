//! Binlog events that only MariaDB writes.

use dm_core::binlog::{GtidSet, event_type};

use super::events::{Body, SERVER_ID};

/// A statement that is a transaction by itself.
const STANDALONE: u8 = 0x01;
const TRANSACTIONAL: u8 = 0x04;
const DDL: u8 = 0x20;
/// Shorter parts of events are not compressed.
const COMPRESS_MIN: usize = 64;

/// The event that announces a transaction, or a statement that stands alone.
pub(super) fn gtid(domain: u32, seq: u64, is_ddl: bool) -> Body {
    let mut body = seq.to_le_bytes().to_vec();
    body.extend_from_slice(&domain.to_le_bytes());
    body.push(if is_ddl {
        STANDALONE | DDL
    } else {
        TRANSACTIONAL
    });
    // No group commit.
    body.extend_from_slice(&[0; 6]);
    (event_type::MARIADB_GTID, body)
}

/// The last transaction of each domain before a place.
pub(super) fn gtid_list(before: &GtidSet) -> Body {
    let text = before.to_text();
    let entries: Vec<&str> = text.split(',').filter(|entry| !entry.is_empty()).collect();
    let mut body = (entries.len() as u32).to_le_bytes().to_vec();
    for entry in entries {
        let mut numbers = entry
            .split('-')
            .map(|it| it.parse::<u64>().unwrap_or_default());
        let mut number = || numbers.next().unwrap_or_default();
        let (domain, server) = (number() as u32, number() as u32);
        body.extend_from_slice(&domain.to_le_bytes());
        body.extend_from_slice(&server.to_le_bytes());
        body.extend_from_slice(&number().to_le_bytes());
    }
    (event_type::GTID_LIST, body)
}

/// The oldest file that a crash of the server would need.
pub(super) fn checkpoint(file: &str) -> Body {
    let mut body = (file.len() as u32).to_le_bytes().to_vec();
    body.extend_from_slice(file.as_bytes());
    (event_type::BINLOG_CHECKPOINT, body)
}

/// What a statement was, before its rows.
pub(super) fn annotate(sql: &str) -> Body {
    (event_type::ANNOTATE_ROWS, sql.as_bytes().to_vec())
}

/// The variables of a session that changes definitions; `phase` is that of an ALTER in two parts.
pub(super) fn ddl_vars(xid: u64, phase: Option<Phase>) -> Vec<u8> {
    let mut vars = vec![0, 0, 0, 0, 0, 1, 0, 0, 0x20, 0, 0, 0, 0, 0, 6, 3];
    vars.extend_from_slice(b"std");
    vars.extend_from_slice(&[4, 33, 0, 33, 0, 8, 0]);
    // Fraction of the time, number of the transaction.
    vars.extend_from_slice(&[128, 0, 0, 0, 129]);
    vars.extend_from_slice(&xid.to_le_bytes());
    match phase {
        Some(Phase::Start) => vars.extend_from_slice(&[130, 2]),
        Some(Phase::Commit(start)) => {
            vars.extend_from_slice(&[130, 4]);
            vars.extend_from_slice(&start.to_le_bytes());
        }
        None => {}
    }
    vars
}

/// A part of an ALTER that is logged twice.
#[derive(Clone, Copy, Debug)]
pub(super) enum Phase {
    /// It begins.
    Start,
    /// What began with this transaction is done.
    Commit(u64),
}

/// The event with `log_bin_compress=ON`: `columns` is how many a rows event has.
pub(super) fn compressed((kind, body): Body, columns: usize) -> Body {
    const PACKED: u8 = event_type::WRITE_ROWS_COMPRESSED_V1 - event_type::WRITE_ROWS_V1;
    let bitmap = columns.div_ceil(8);
    let bitmaps = match kind {
        event_type::WRITE_ROWS_V1 | event_type::DELETE_ROWS_V1 => 1,
        event_type::UPDATE_ROWS_V1 => 2,
        _ => return (kind, body),
    };
    let (head, plain) = body.split_at(6 + 2 + 1 + bitmaps * bitmap);
    if plain.len() < COMPRESS_MIN {
        return (kind, body);
    }
    let mut packed = head.to_vec();
    // Zlib, and a length of four bytes.
    packed.push(0x84);
    packed.extend_from_slice(&(plain.len() as u32).to_be_bytes());
    packed.extend(miniz_oxide::deflate::compress_to_vec_zlib(plain, 6));
    (kind + PACKED, packed)
}

/// The name of a transaction.
pub(super) const fn name(domain: u32, seq: u64) -> dm_core::binlog::Gtid {
    dm_core::binlog::Gtid::Mariadb {
        domain,
        server: SERVER_ID,
        seq,
    }
}
