use alloc::string::String;

use super::super::{
    BinlogError, Gtid, GtidSet, MariadbGtidSet, Result,
    gtid::{GNO_MAX, is_tag},
    reader::Reader,
};
use super::Event;

/// What the GTID event of a MySQL transaction says beside its identity.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct GtidTimes {
    /// Commit on the server that sends the binlog, in microseconds since 1970; zero if unknown.
    pub immediate_commit: u64,
    /// Commit on the server where the transaction was first executed, in microseconds since 1970.
    pub original_commit: u64,
    /// Size of the transaction in bytes, with its GTID event; zero if unknown.
    pub transaction_len: u64,
}

/// Reads a GTID event.
pub(in super::super) fn gtid(body: &[u8]) -> Result<Event> {
    let (sid, gno, times) = identity(body)?;
    let tag = String::new();
    let gtid = mysql_gtid(sid, tag, gno).ok_or(BinlogError::Malformed(WHAT))?;
    Ok(Event::Gtid { gtid, times })
}

/// Reads an ANONYMOUS_GTID event, which has the same fields.
pub(in super::super) fn anonymous_gtid(body: &[u8]) -> Result<Event> {
    let (_, _, times) = identity(body)?;
    Ok(Event::AnonymousGtid { times })
}

const WHAT: &str = "GTID event";

/// The identity of a transaction, if the number is one that a server can give.
fn mysql_gtid(sid: [u8; 16], tag: String, gno: u64) -> Option<Gtid> {
    (1..=GNO_MAX)
        .contains(&gno)
        .then_some(Gtid::Mysql { sid, tag, gno })
}

fn identity(body: &[u8]) -> Result<([u8; 16], u64, GtidTimes)> {
    let mut reader = Reader::new(body, WHAT);
    let _flags = reader.u8()?;
    let sid = reader.array()?;
    let gno = reader.u64()?;
    let mut times = GtidTimes::default();
    // Logical clock since 5.7, times and length since 8.0.
    if reader.remaining() >= 1 + 8 + 8 + 7 && reader.u8()? == 2 {
        let _last_committed = reader.u64()?;
        let _sequence_number = reader.u64()?;
        times = self::times(&mut reader)?;
    }
    Ok((sid, gno, times))
}

/// Seven bytes each; the highest bit of the first says whether there is a second.
fn times(reader: &mut Reader<'_>) -> Result<GtidTimes> {
    const HAS_ORIGINAL: u64 = 1 << 55;
    let read = |reader: &mut Reader<'_>| -> Result<u64> {
        let bytes: [u8; 7] = reader.array()?;
        Ok(super::super::reader::little_endian(&bytes))
    };
    let immediate = read(reader)?;
    let immediate_commit = immediate & !HAS_ORIGINAL;
    let original_commit = if immediate & HAS_ORIGINAL != 0 {
        read(reader)?
    } else {
        immediate_commit
    };
    let transaction_len = if reader.is_empty() {
        0
    } else {
        reader.lenenc()?
    };
    Ok(GtidTimes {
        immediate_commit,
        original_commit,
        transaction_len,
    })
}

/// Reads a GTID_TAGGED event, a message of MySQL's serialization library: version, size, last field
/// that must be known, then fields with their numbers in ascending order.
pub(in super::super) fn gtid_tagged(body: &[u8]) -> Result<Event> {
    /// The last field that is known here, `commit_group_ticket`.
    const LAST_FIELD: u64 = 11;
    let mut reader = Reader::new(body, "tagged GTID event");
    if reader.varlen()? != 1 {
        return Err(BinlogError::Unsupported(
            "a tagged GTID event of unknown version",
        ));
    }
    let _size = reader.varlen()?;
    if reader.varlen()? > LAST_FIELD + 1 {
        return Err(BinlogError::Unsupported(
            "a tagged GTID event with unknown fields",
        ));
    }
    let (mut sid, mut tag, mut gno) = (None, String::new(), 0);
    let mut times = GtidTimes::default();
    let mut original = None;
    while !reader.is_empty() {
        match reader.varlen()? {
            // An array of numbers, each of variable length.
            1 => {
                let mut bytes = [0; 16];
                for byte in &mut bytes {
                    let value = reader.varlen()?;
                    *byte = u8::try_from(value).map_err(|_| reader.malformed())?;
                }
                sid = Some(bytes);
            }
            2 => gno = reader.varlen_signed()?,
            3 => {
                let len = usize::try_from(reader.varlen()?).map_err(|_| reader.truncated())?;
                let text = core::str::from_utf8(reader.bytes(len)?).ok();
                // Another one would make the text of a set that of another set.
                let text = text.filter(|text| text.is_empty() || is_tag(text));
                tag = text.ok_or_else(|| reader.malformed())?.into();
            }
            6 => times.immediate_commit = reader.varlen()?,
            7 => original = Some(reader.varlen()?),
            8 => times.transaction_len = reader.varlen()?,
            // Flags, logical clock, server versions, commit group: one number each.
            0 | 4 | 5 | 9..=LAST_FIELD => {
                reader.varlen()?;
            }
            // Unknown fields are ignorable, or the check above had failed; nothing known follows.
            _ => break,
        }
    }
    times.original_commit = original.unwrap_or(times.immediate_commit);
    let gno = u64::try_from(gno).unwrap_or_default();
    let gtid = sid.and_then(|sid| mysql_gtid(sid, tag, gno));
    let gtid = gtid.ok_or_else(|| reader.malformed())?;
    Ok(Event::Gtid { gtid, times })
}

/// Flags of a MariaDB transaction.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct MariadbFlags {
    /// All changed tables are transactional.
    pub transactional: bool,
    /// The statement is a DDL.
    pub ddl: bool,
    /// The transaction ends with XA PREPARE instead of COMMIT.
    pub prepared_xa: bool,
    /// XA COMMIT or XA ROLLBACK of a prepared transaction.
    pub completed_xa: bool,
}

/// Reads a GTID event of MariaDB; the server id is in the header.
pub(in super::super) fn mariadb_gtid(body: &[u8], server: u32) -> Result<Event> {
    let mut reader = Reader::new(body, "MariaDB GTID event");
    let seq = reader.u64()?;
    if seq == 0 {
        return Err(reader.malformed());
    }
    let domain = reader.u32()?;
    let bits = reader.u8()?;
    Ok(Event::MariadbGtid {
        gtid: Gtid::Mariadb {
            domain,
            server,
            seq,
        },
        standalone: bits & 0x01 != 0,
        flags: MariadbFlags {
            transactional: bits & 0x04 != 0,
            ddl: bits & 0x20 != 0,
            prepared_xa: bits & 0x40 != 0,
            completed_xa: bits & 0x80 != 0,
        },
    })
}

/// Reads a GTID_LIST event. Within a domain the last entry is the newest.
pub(in super::super) fn gtid_list(body: &[u8]) -> Result<GtidSet> {
    let mut reader = Reader::new(body, "GTID list event");
    // The upper four bits are flags.
    let count = reader.u32()? & 0x0fff_ffff;
    let mut set = MariadbGtidSet::default();
    for _ in 0..count {
        let (domain, server, seq) = (reader.u32()?, reader.u32()?, reader.u64()?);
        // As in a text, zero stands for nothing yet.
        if seq > 0 {
            set.add(domain, server, seq);
        }
    }
    Ok(GtidSet::Mariadb(set))
}
