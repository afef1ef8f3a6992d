use alloc::{format, string::String};
use core::fmt::Write;

use bytes::Bytes;
use miniz_oxide::inflate::decompress_to_vec_zlib_with_limit;

use super::super::{
    BinlogError, Frame, Result,
    frame::{HEADER_LEN, event_type},
    position::{FileName, Position},
    reader::{Reader, big_endian, text},
};
use super::Event;

/// The FORMAT_DESCRIPTION event: who wrote the binlog, and how.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FormatDescription {
    /// Version text of the server that wrote the file.
    pub server_version: String,
    /// When the server started, in seconds since 1970, if it started with this file; else zero.
    pub created: u32,
    /// Whether the following events carry a CRC32.
    pub checksum: bool,
}

impl FormatDescription {
    /// Reads the body, whose last byte names the checksum algorithm.
    pub(in super::super) fn parse(body: &[u8]) -> Result<Self> {
        let mut reader = Reader::new(body, "format description event");
        if reader.u16()? != 4 {
            return Err(BinlogError::Unsupported(
                "a binlog that is not of version 4",
            ));
        }
        let version = reader.bytes(50)?;
        let version = version.split(|byte| *byte == 0).next().unwrap_or_default();
        let created = reader.u32()?;
        if usize::from(reader.u8()?) != HEADER_LEN {
            return Err(reader.malformed());
        }
        let algorithm = reader.rest().last().ok_or_else(|| reader.truncated())?;
        let checksum = match algorithm {
            0 => false,
            1 => true,
            _ => return Err(BinlogError::Unsupported("a checksum other than CRC32")),
        };
        Ok(Self {
            server_version: text(version),
            created,
            checksum,
        })
    }
}

/// Where the binlog goes on. The name must be one, which also tells a name from one with four bytes
/// of checksum behind it.
pub(in super::super) fn rotate(body: &[u8]) -> Result<Position> {
    let mut reader = Reader::new(body, "rotate event");
    let pos = reader.u64()?;
    let file = core::str::from_utf8(reader.rest()).map_err(|_| reader.malformed())?;
    FileName::parse(file).map_err(|_| reader.malformed())?;
    Ok(Position::new(file, pos))
}

/// How a transaction payload is compressed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum PayloadCompression {
    /// Zstandard.
    Zstd,
    /// Not at all.
    None,
}

/// Reads the header fields of a TRANSACTION_PAYLOAD event: type, length, value.
pub(in super::super) fn payload(body: &Bytes) -> Result<Event> {
    let mut reader = Reader::new(body, "transaction payload event");
    let (mut size, mut compression, mut uncompressed) = (None, None, None);
    loop {
        let field = reader.lenenc()?;
        // The end mark has no length.
        if field == 0 {
            break;
        }
        let len = reader.lenenc_len()?;
        let mut value = Reader::new(reader.bytes(len)?, "transaction payload event");
        match field {
            1 => size = Some(value.lenenc()?),
            2 => compression = Some(value.lenenc()?),
            3 => uncompressed = Some(value.lenenc()?),
            _ => {}
        }
    }
    let compression = match compression {
        Some(0) => PayloadCompression::Zstd,
        Some(255) => PayloadCompression::None,
        _ => {
            return Err(BinlogError::Unsupported(
                "an unknown transaction compression",
            ));
        }
    };
    let rest = body.slice(reader.position()..);
    if size.is_some_and(|size| size != rest.len() as u64) {
        return Err(reader.malformed());
    }
    Ok(Event::Payload {
        compression,
        uncompressed_size: uncompressed.unwrap_or(rest.len() as u64),
        body: rest,
    })
}

/// The longest event that a server writes.
const EVENT_LEN_MAX: usize = 1 << 30;

/// What an event of MariaDB with `log_bin_compress=ON` is without compression. Its tail, from `at`
/// on, is one byte with the algorithm and the length of the length, the length (big-endian), and a
/// zlib stream.
pub(in super::super) fn inflate(frame: &Frame, at: usize) -> Result<Frame> {
    const WHAT: &str = "compressed event";
    let (head, tail) = frame
        .body
        .split_at_checked(at)
        .ok_or(BinlogError::Truncated(WHAT))?;
    let mut reader = Reader::new(tail, WHAT);
    let algorithm = reader.u8()?;
    if algorithm & 0xf0 != 0x80 {
        return Err(BinlogError::Unsupported(
            "an event compressed in another way than zlib",
        ));
    }
    let len = reader.bytes(usize::from(algorithm & 0x07))?;
    let len = usize::try_from(big_endian(len)).unwrap_or(usize::MAX);
    if len > EVENT_LEN_MAX {
        return Err(reader.malformed());
    }
    let plain = decompress_to_vec_zlib_with_limit(reader.rest(), len);
    let plain = plain.ok().filter(|plain| plain.len() == len);
    let plain = plain.ok_or_else(|| reader.malformed())?;
    let mut header = frame.header;
    header.event_type = match header.event_type {
        event_type::QUERY_COMPRESSED => event_type::QUERY,
        v1 @ event_type::WRITE_ROWS_COMPRESSED_V1..=event_type::DELETE_ROWS_COMPRESSED_V1 => {
            v1 - event_type::WRITE_ROWS_COMPRESSED_V1 + event_type::WRITE_ROWS_V1
        }
        v2 => v2 - event_type::WRITE_ROWS_COMPRESSED + event_type::WRITE_ROWS,
    };
    Ok(Frame {
        header,
        body: [head, &plain].concat().into(),
    })
}

/// Reads a HEARTBEAT_V2 event: type, length, value.
pub(in super::super) fn heartbeat_v2(body: &[u8]) -> Result<Event> {
    let mut reader = Reader::new(body, "heartbeat event");
    let (mut file, mut pos) = (String::new(), 0);
    while !reader.is_empty() {
        let field = reader.lenenc()?;
        if field == 0 {
            break;
        }
        let len = reader.lenenc_len()?;
        let value = reader.bytes(len)?;
        match field {
            1 => file = text(value),
            2 => pos = Reader::new(value, "heartbeat event").lenenc()?,
            _ => {}
        }
    }
    Ok(Event::Heartbeat { file, pos })
}

/// Reads an INCIDENT event.
pub(in super::super) fn incident(body: &[u8]) -> Result<Event> {
    let mut reader = Reader::new(body, "incident event");
    Ok(Event::Incident {
        number: reader.u16()?,
        message: reader.short_str()?,
    })
}

/// Reads an XA_PREPARE event.
pub(in super::super) fn xa_prepare(body: &[u8]) -> Result<Event> {
    let mut reader = Reader::new(body, "XA prepare event");
    let one_phase = reader.u8()? != 0;
    let format = reader.u32()?;
    let global = reader.u32()? as usize;
    let branch = reader.u32()? as usize;
    let (global, branch) = (reader.bytes(global)?, reader.bytes(branch)?);
    let hex = |bytes: &[u8]| {
        bytes.iter().fold(String::new(), |mut hex, byte| {
            // Writing to a string cannot fail.
            let _ = write!(hex, "{byte:02x}");
            hex
        })
    };
    Ok(Event::XaPrepare {
        one_phase,
        xid: format!("X'{}',X'{}',{format}", hex(global), hex(branch)),
    })
}
