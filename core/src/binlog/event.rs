//! Decoded events.

mod gtid;
mod misc;
mod query;

use alloc::{string::String, sync::Arc};

use bytes::Bytes;

pub use gtid::{GtidTimes, MariadbFlags};
pub(super) use gtid::{anonymous_gtid, gtid, gtid_list, gtid_tagged, mariadb_gtid};
pub use misc::{FormatDescription, PayloadCompression};
pub(super) use misc::{heartbeat_v2, incident, inflate, payload, rotate, xa_prepare};
pub use query::{AlterPhase, QueryEvent, StatusVars};

use super::{Gtid, GtidSet, RowsEvent, TableMap};

/// What an event says.
#[derive(Clone, Debug)]
pub enum Event {
    /// The binlog goes on in another file. The source also makes one up at the start of a dump,
    /// with [`super::Header::is_artificial`].
    Rotate {
        /// Name of the next file.
        file: String,
        /// Offset of the first event that follows.
        pos: u64,
    },
    /// How the following events are to be read.
    FormatDescription(FormatDescription),
    /// MySQL: every transaction in the files before this one.
    PreviousGtids(GtidSet),
    /// MySQL: starts a transaction that has a GTID.
    Gtid {
        /// The transaction's identity.
        gtid: Gtid,
        /// Commit times and size.
        times: GtidTimes,
    },
    /// MySQL: starts a transaction without a GTID.
    AnonymousGtid {
        /// Commit times and size.
        times: GtidTimes,
    },
    /// MariaDB: starts a transaction or stands before a single statement.
    MariadbGtid {
        /// The transaction's identity.
        gtid: Gtid,
        /// Whether only one query event follows, without COMMIT or XID event.
        standalone: bool,
        /// What else is known of the transaction.
        flags: MariadbFlags,
    },
    /// MariaDB: the last transactions of each domain in the files before this one.
    MariadbGtidList(GtidSet),
    /// A statement: DDL, `BEGIN`, `COMMIT`, or anything that was not logged as rows.
    Query(QueryEvent),
    /// Commits a transaction.
    Xid,
    /// Prepares an XA transaction.
    XaPrepare {
        /// Whether it commits at once (`XA COMMIT … ONE PHASE`).
        one_phase: bool,
        /// The XA identifier as `X'…',X'…',1`, the form that XA statements take.
        xid: String,
    },
    /// The columns of a table whose rows follow.
    TableMap(Arc<TableMap>),
    /// Changed rows.
    Rows(RowsEvent),
    /// MySQL: a whole transaction in one compressed event. Decompressed, the body
    /// is one event after the other, each a [`super::Frame::inside_payload`].
    Payload {
        /// How the body is compressed.
        compression: PayloadCompression,
        /// Size behind decompression in bytes, as announced.
        uncompressed_size: u64,
        /// The compressed events.
        body: Bytes,
    },
    /// MySQL: rows of this table whose JSON values are only partly there
    /// (`binlog_row_value_options=PARTIAL_JSON`).
    PartialUpdateRows(Arc<TableMap>),
    /// MySQL and MariaDB: nothing happened, the source is alive. Not part of the binlog.
    Heartbeat {
        /// The file that the source is in.
        file: String,
        /// Its offset there.
        pos: u64,
    },
    /// Something is missing in the binlog: the source says that replication must not go on.
    Incident {
        /// What kind of incident, see the server's source; 1 is "lost events".
        number: u16,
        /// The server's words.
        message: String,
    },
    /// MariaDB: the following events of the file are encrypted. Never sent over a connection.
    StartEncryption,
    /// Known to be of no consequence for the data, or marked as ignorable: the type code.
    Ignored(u8),
}
