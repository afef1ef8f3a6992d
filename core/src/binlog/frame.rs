//! Framing: event headers and checksums. Nothing behind the header is looked at before both fit.

use bytes::Bytes;

use super::{BinlogError, Result, reader::Reader};

/// Length of the header of every event since MySQL 5.0.
pub const HEADER_LEN: usize = 19;

/// Length of the checksum behind an event.
pub(super) const CHECKSUM_LEN: usize = 4;

/// Offset of the flags in the header.
const FLAGS_AT: usize = 17;

/// Type codes, as in MySQL's `log_event_type` and MariaDB's continuation from 160 on.
pub mod event_type {
    #![expect(missing_docs, reason = "the names are those of the servers")]
    pub const QUERY: u8 = 2;
    pub const STOP: u8 = 3;
    pub const ROTATE: u8 = 4;
    pub const INTVAR: u8 = 5;
    pub const SLAVE: u8 = 7;
    pub const APPEND_BLOCK: u8 = 9;
    pub const DELETE_FILE: u8 = 11;
    pub const RAND: u8 = 13;
    pub const USER_VAR: u8 = 14;
    pub const FORMAT_DESCRIPTION: u8 = 15;
    pub const XID: u8 = 16;
    pub const BEGIN_LOAD_QUERY: u8 = 17;
    pub const EXECUTE_LOAD_QUERY: u8 = 18;
    pub const TABLE_MAP: u8 = 19;
    pub const WRITE_ROWS_V1: u8 = 23;
    pub const UPDATE_ROWS_V1: u8 = 24;
    pub const DELETE_ROWS_V1: u8 = 25;
    pub const INCIDENT: u8 = 26;
    pub const HEARTBEAT: u8 = 27;
    pub const IGNORABLE: u8 = 28;
    pub const ROWS_QUERY: u8 = 29;
    pub const WRITE_ROWS: u8 = 30;
    pub const UPDATE_ROWS: u8 = 31;
    pub const DELETE_ROWS: u8 = 32;
    pub const GTID: u8 = 33;
    pub const ANONYMOUS_GTID: u8 = 34;
    pub const PREVIOUS_GTIDS: u8 = 35;
    pub const TRANSACTION_CONTEXT: u8 = 36;
    pub const VIEW_CHANGE: u8 = 37;
    pub const XA_PREPARE: u8 = 38;
    pub const PARTIAL_UPDATE_ROWS: u8 = 39;
    pub const TRANSACTION_PAYLOAD: u8 = 40;
    pub const HEARTBEAT_V2: u8 = 41;
    pub const GTID_TAGGED: u8 = 42;
    pub const ANNOTATE_ROWS: u8 = 160;
    pub const BINLOG_CHECKPOINT: u8 = 161;
    pub const MARIADB_GTID: u8 = 162;
    pub const GTID_LIST: u8 = 163;
    pub const START_ENCRYPTION: u8 = 164;
    pub const QUERY_COMPRESSED: u8 = 165;
    pub const WRITE_ROWS_COMPRESSED_V1: u8 = 166;
    pub const UPDATE_ROWS_COMPRESSED_V1: u8 = 167;
    pub const DELETE_ROWS_COMPRESSED_V1: u8 = 168;
    pub const WRITE_ROWS_COMPRESSED: u8 = 169;
    pub const UPDATE_ROWS_COMPRESSED: u8 = 170;
    pub const DELETE_ROWS_COMPRESSED: u8 = 171;

    /// The name of a type; `None` for one that is not known.
    #[must_use]
    pub const fn name(code: u8) -> Option<&'static str> {
        Some(match code {
            QUERY => "QUERY",
            STOP => "STOP",
            ROTATE => "ROTATE",
            INTVAR => "INTVAR",
            SLAVE => "SLAVE",
            APPEND_BLOCK => "APPEND_BLOCK",
            DELETE_FILE => "DELETE_FILE",
            RAND => "RAND",
            USER_VAR => "USER_VAR",
            FORMAT_DESCRIPTION => "FORMAT_DESCRIPTION",
            XID => "XID",
            BEGIN_LOAD_QUERY => "BEGIN_LOAD_QUERY",
            EXECUTE_LOAD_QUERY => "EXECUTE_LOAD_QUERY",
            TABLE_MAP => "TABLE_MAP",
            WRITE_ROWS_V1 => "WRITE_ROWS_V1",
            UPDATE_ROWS_V1 => "UPDATE_ROWS_V1",
            DELETE_ROWS_V1 => "DELETE_ROWS_V1",
            INCIDENT => "INCIDENT",
            HEARTBEAT => "HEARTBEAT",
            IGNORABLE => "IGNORABLE",
            ROWS_QUERY => "ROWS_QUERY",
            WRITE_ROWS => "WRITE_ROWS",
            UPDATE_ROWS => "UPDATE_ROWS",
            DELETE_ROWS => "DELETE_ROWS",
            GTID => "GTID",
            ANONYMOUS_GTID => "ANONYMOUS_GTID",
            PREVIOUS_GTIDS => "PREVIOUS_GTIDS",
            TRANSACTION_CONTEXT => "TRANSACTION_CONTEXT",
            VIEW_CHANGE => "VIEW_CHANGE",
            XA_PREPARE => "XA_PREPARE",
            PARTIAL_UPDATE_ROWS => "PARTIAL_UPDATE_ROWS",
            TRANSACTION_PAYLOAD => "TRANSACTION_PAYLOAD",
            HEARTBEAT_V2 => "HEARTBEAT_V2",
            GTID_TAGGED => "GTID_TAGGED",
            ANNOTATE_ROWS => "ANNOTATE_ROWS",
            BINLOG_CHECKPOINT => "BINLOG_CHECKPOINT",
            MARIADB_GTID => "MARIADB_GTID",
            GTID_LIST => "GTID_LIST",
            START_ENCRYPTION => "START_ENCRYPTION",
            QUERY_COMPRESSED => "QUERY_COMPRESSED",
            WRITE_ROWS_COMPRESSED_V1 => "WRITE_ROWS_COMPRESSED_V1",
            UPDATE_ROWS_COMPRESSED_V1 => "UPDATE_ROWS_COMPRESSED_V1",
            DELETE_ROWS_COMPRESSED_V1 => "DELETE_ROWS_COMPRESSED_V1",
            WRITE_ROWS_COMPRESSED => "WRITE_ROWS_COMPRESSED",
            UPDATE_ROWS_COMPRESSED => "UPDATE_ROWS_COMPRESSED",
            DELETE_ROWS_COMPRESSED => "DELETE_ROWS_COMPRESSED",
            _ => return None,
        })
    }
}

/// The header of an event.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Header {
    /// Start of the statement in seconds since 1970, on the source's clock; zero on events that the
    /// source made up for the connection.
    pub timestamp: u32,
    /// Type code, see [`event_type`].
    pub event_type: u8,
    /// Id of the server that the event was first written on.
    pub server_id: u32,
    /// Length of the whole event in bytes, with header and checksum.
    pub event_size: u32,
    /// Where the event ends in its file. As on the wire that is a number of 32 bits and may be
    /// missing; [`super::Decoder::frame`] completes it as far as it knows the file.
    pub log_pos: u64,
    /// Flag bits.
    pub flags: u16,
}

impl Header {
    const IN_USE: u16 = 0x0001;
    const ARTIFICIAL: u16 = 0x0020;
    const IGNORABLE: u16 = 0x0080;

    /// The header of an event that is in no file.
    #[must_use]
    pub const fn made_up(event_type: u8) -> Self {
        Self {
            timestamp: 0,
            event_type,
            server_id: 0,
            event_size: 0,
            log_pos: 0,
            flags: Self::ARTIFICIAL,
        }
    }

    /// Reads the header of a whole event and checks that its length field is that of `raw`.
    ///
    /// # Errors
    /// Fewer than 19 bytes, or another length than the event says it has.
    pub fn parse(raw: &[u8]) -> Result<Self> {
        let header = Self::peek(raw)?;
        if header.event_size as usize != raw.len() {
            return Err(BinlogError::Malformed("event length"));
        }
        Ok(header)
    }

    /// Reads the header at the start of `data`, in which the event need not be complete.
    ///
    /// # Errors
    /// Fewer than 19 bytes, or a length field of less than a header.
    pub fn peek(data: &[u8]) -> Result<Self> {
        let mut reader = Reader::new(data, "event header");
        let header = Self {
            timestamp: reader.u32()?,
            event_type: reader.u8()?,
            server_id: reader.u32()?,
            event_size: reader.u32()?,
            log_pos: u64::from(reader.u32()?),
            flags: reader.u16()?,
        };
        if (header.event_size as usize) < HEADER_LEN {
            return Err(BinlogError::Malformed("event length"));
        }
        Ok(header)
    }

    /// Whether the source made the event up for this connection: it is not in the file.
    #[must_use]
    pub fn is_artificial(&self) -> bool {
        self.flags & Self::ARTIFICIAL != 0
    }

    /// Whether an unknown event of this kind may be skipped.
    #[must_use]
    pub fn is_ignorable(&self) -> bool {
        self.flags & Self::IGNORABLE != 0
    }
}

/// An event whose length and checksum are right.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Frame {
    /// The header.
    pub header: Header,
    /// What is behind the header, without the checksum. Shares memory with the event given in.
    pub body: Bytes,
}

impl Frame {
    /// A whole event from inside a TRANSACTION_PAYLOAD; those have headers but no checksums.
    ///
    /// # Errors
    /// Another length than the event says it has, or one more payload.
    pub fn inside_payload(raw: &Bytes) -> Result<Self> {
        let header = Header::parse(raw)?;
        if header.event_type == event_type::TRANSACTION_PAYLOAD {
            return Err(BinlogError::Malformed("transaction payload event"));
        }
        Self::cut(header, raw, 0)
    }

    /// Cuts a body out of a whole event.
    pub(super) fn cut(header: Header, raw: &Bytes, checksum_len: usize) -> Result<Self> {
        let end = raw.len() - checksum_len.min(raw.len());
        if end < HEADER_LEN {
            return Err(BinlogError::Truncated("event"));
        }
        Ok(Self {
            header,
            body: raw.slice(HEADER_LEN..end),
        })
    }
}

/// Whether the last four bytes of a whole event are the CRC32 of the others.
pub(super) fn checksum_matches(header: &Header, raw: &[u8]) -> bool {
    let Some((data, sum)) = raw.split_last_chunk::<CHECKSUM_LEN>() else {
        return false;
    };
    let mut hasher = crc32fast::Hasher::new();
    let in_use = header.flags & Header::IN_USE != 0;
    if in_use && header.event_type == event_type::FORMAT_DESCRIPTION && data.len() >= HEADER_LEN {
        // The server sets this bit when it opens a file, after the checksum was made.
        hasher.update(&data[..FLAGS_AT]);
        hasher.update(&(header.flags & !Header::IN_USE).to_le_bytes());
        hasher.update(&data[HEADER_LEN..]);
    } else {
        hasher.update(data);
    }
    hasher.finalize() == u32::from_le_bytes(*sum)
}

/// The error for an event whose checksum is wrong.
pub(super) fn checksum_error(header: &Header) -> BinlogError {
    BinlogError::Checksum {
        event_type: header.event_type,
        log_pos: header.log_pos as u32,
    }
}
