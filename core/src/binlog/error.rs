use alloc::{format, string::String};
use core::fmt;

use crate::error::{Error, Scope, code};

/// Why bytes of a binlog, or the text of a position or GTID set, could not be understood.
///
/// Small on purpose: it is the error type of the hot path. It becomes a coded
/// [`crate::error::Error`] where it leaves the reader.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum BinlogError {
    /// The bytes end before `what` does.
    Truncated(&'static str),
    /// The bytes contradict the format of `what`.
    Malformed(&'static str),
    /// The CRC32 of an event is not the one that it carries: the bytes were damaged on their way.
    Checksum {
        /// Type code of the event, as far as that can be trusted.
        event_type: u8,
        /// End position of the event, as far as that can be trusted.
        log_pos: u32,
    },
    /// The source writes its binlog with `binlog_checksum=NONE`, and that was not declared.
    NoChecksum,
    /// An event came before the FORMAT_DESCRIPTION event that says how to read it.
    NoFormat,
    /// A rows event names a table id that no table map introduced.
    UnknownTable(u64),
    /// An event type that is not known and must not be ignored.
    UnknownEvent(u8),
    /// Something that is understood but cannot be replicated.
    Unsupported(&'static str),
    /// Text that is not a binlog position or file name.
    Position(String),
    /// Text that is not a GTID or GTID set of the flavor in question.
    Gtid(String),
}

/// Result of the binlog reader.
pub type Result<T, E = BinlogError> = core::result::Result<T, E>;

impl fmt::Display for BinlogError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Truncated(what) => write!(f, "binlog data ends inside {what}"),
            Self::Malformed(what) => write!(f, "malformed {what} in the binlog"),
            Self::Checksum {
                event_type,
                log_pos,
            } => write!(
                f,
                "binlog checksum mismatch, data may be corrupted \
                 (event type {event_type}, end position {log_pos})"
            ),
            Self::NoChecksum => f.write_str("the source writes its binlog without checksums"),
            Self::NoFormat => f.write_str("binlog event before any format description"),
            Self::UnknownTable(id) => write!(f, "rows event for table id {id} without a table map"),
            Self::UnknownEvent(code) => write!(f, "unknown binlog event type {code}"),
            Self::Unsupported(what) => write!(f, "{what} cannot be replicated"),
            Self::Position(text) => write!(f, "{text:?} is not a binlog position"),
            Self::Gtid(text) => write!(f, "{text:?} is not a GTID set"),
        }
    }
}

impl core::error::Error for BinlogError {}

impl From<BinlogError> for Error {
    fn from(error: BinlogError) -> Self {
        let code = match &error {
            BinlogError::Truncated(_)
            | BinlogError::Malformed(_)
            | BinlogError::Checksum { .. }
            | BinlogError::NoFormat
            | BinlogError::UnknownTable(_) => &code::SYNCER_GET_EVENT,
            BinlogError::NoChecksum
            | BinlogError::UnknownEvent(_)
            | BinlogError::Unsupported(_) => &code::SYNCER_UNIT_NOT_SUPPORTED_OPERATE,
            BinlogError::Position(_) => &code::BINLOG_PARSE_POS_FROM_STR,
            BinlogError::Gtid(_) => &code::PARSE_GTID,
        };
        let coded = Self::new(code, format!("{error}"));
        match error {
            BinlogError::NoChecksum => coded.with_scope(Scope::Upstream).with_workaround(
                "Set the global variable `binlog_checksum` of the source to CRC32.",
            ),
            BinlogError::UnknownEvent(_) | BinlogError::Unsupported(_) => {
                coded.with_scope(Scope::Upstream)
            }
            _ => coded,
        }
    }
}
