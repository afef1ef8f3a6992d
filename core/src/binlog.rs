//! Reading binlogs of MySQL 8.0 to 9.7 and MariaDB from 10.5 on.
//!
//! Bytes become [`Frame`]s (length and CRC32 are right, nothing else was looked at), frames become
//! [`Event`]s, rows events are sliced into [`RowImage`]s (bytes of their own, with offsets of the
//! columns), and a column of an image becomes an SQL literal or a key only when it is asked for.
//!
//! The bytes are not trusted, checksum or not: every read is checked, counts in the data never
//! decide about memory, and malformed input is an error, not a panic and not an endless loop.

mod charset;
mod column;
mod decoder;
mod error;
mod event;
mod frame;
mod gtid;
mod position;
mod reader;
mod rows;
mod table_map;
mod value;

pub(crate) use charset::latin1_text;
pub use column::{Column, ColumnKind};
pub use decoder::Decoder;
pub use error::{BinlogError, Result};
pub use event::{
    AlterPhase, Event, FormatDescription, GtidTimes, MariadbFlags, PayloadCompression, QueryEvent,
    StatusVars,
};
pub use frame::{Frame, HEADER_LEN, Header, event_type};
pub use gtid::{Flavor, Gtid, GtidSet, Intervals, MariadbGtidSet, MysqlGtidSet, Tsid};
pub use position::{FileName, Position};
pub use rows::{RowChange, RowImage, RowIter, RowsEvent, RowsKind};
pub use table_map::TableMap;
pub use value::{
    Charset, ColumnHint, Dialect, Form, KeyFold, is_invalid_enum, write_condition, write_key,
    write_literal,
};
pub(crate) use value::{write_binary, write_latin1, write_quoted};

#[cfg(test)]
mod tests;
