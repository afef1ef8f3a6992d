//! The decoder of one stream of events: framing first, then meaning.

use alloc::{collections::BTreeMap, sync::Arc};

use bytes::Bytes;

use super::{
    BinlogError, Event, Flavor, Frame, GtidSet, Header, MysqlGtidSet, Position, Result, RowsEvent,
    RowsKind, TableMap,
    event::{self, FormatDescription, QueryEvent},
    frame::{CHECKSUM_LEN, checksum_error, checksum_matches, event_type as kind},
    reader::text,
    rows::RowsHead,
};
use crate::guard::Guard;

/// Table maps that are kept at most from one statement to the next. Sources renumber a table at
/// every change of its definition, so a long file can have many; every statement brings its own.
const TABLES_MAX: usize = 4096;
/// Table maps that a statement has at most; not even triggers reach so many tables.
const STATEMENT_TABLES_MAX: usize = 16 * TABLES_MAX;

/// Decodes the events of one stream: one dump connection, or one file after the other.
///
/// Feed every event in order, first to [`Self::frame`], then to [`Self::event`]. After an error the
/// stream is to be read again from a known position, with a new decoder.
#[derive(Clone, Debug)]
pub struct Decoder {
    flavor: Flavor,
    unchecked: bool,
    /// Whether events carry a CRC32, once a FORMAT_DESCRIPTION event told.
    checksum: Option<bool>,
    /// End of the last event of the file, without the 32 bit limit of the wire.
    pos: u64,
    /// Table maps by id, with the bytes they were read from: transactions repeat them.
    tables: BTreeMap<u64, (Bytes, Arc<TableMap>)>,
}

impl Decoder {
    /// A decoder at the start of a stream. It refuses a binlog without checksums.
    #[must_use]
    pub fn new(flavor: Flavor) -> Self {
        Self {
            flavor,
            unchecked: false,
            checksum: None,
            pos: 0,
            tables: BTreeMap::new(),
        }
    }

    /// Accepts a binlog that is written with `binlog_checksum=NONE`, where damage on the way goes
    /// unnoticed.
    #[must_use]
    pub fn accept_unchecked(mut self) -> Self {
        self.unchecked = true;
        self
    }

    /// Whether events carry a CRC32, once a FORMAT_DESCRIPTION event told.
    #[must_use]
    pub const fn has_checksums(&self) -> Option<bool> {
        self.checksum
    }

    /// The next event is the one that begins at this offset of the file, between two transactions.
    pub fn seek(&mut self, pos: u64) {
        self.pos = pos;
    }

    /// Checks length and CRC of a whole event as it came, and completes its end position.
    ///
    /// # Errors
    /// Whatever does not fit; nothing behind the header has been interpreted then.
    pub fn frame(&mut self, raw: Bytes) -> Result<Frame> {
        let mut header = Header::parse(&raw)?;
        let checked = checksum_matches(&header, &raw);
        let checksum_len = match (header.event_type, self.checksum) {
            (kind::FORMAT_DESCRIPTION, _) => {
                self.begin_file(&header, &raw, checked)?;
                CHECKSUM_LEN
            }
            // A source makes up a rotate event before it tells about checksums, and whether that
            // one has a checksum depends on the server. The name of the file must then fit.
            (kind::ROTATE, None) if !checked => 0,
            (kind::ROTATE, Some(_)) if !checked && header.is_artificial() => 0,
            (kind::ROTATE, None) => CHECKSUM_LEN,
            (_, None) => return Err(BinlogError::NoFormat),
            (_, Some(true)) if checked || !Guard::Checksum.holds() => CHECKSUM_LEN,
            (_, Some(true)) => return Err(checksum_error(&header)),
            // One flipped bit, and the first event denies the checksums; these stand at the
            // beginning of every file, and tell.
            (kind::PREVIOUS_GTIDS | kind::GTID_LIST, Some(false)) if checked => {
                return Err(BinlogError::Malformed("format description event"));
            }
            (_, Some(false)) => 0,
        };
        self.complete(&mut header);
        let frame = Frame::cut(header, &raw, checksum_len)?;
        match header.event_type {
            kind::ROTATE => self.pos = event::rotate(&frame.body)?.pos,
            // By GTID a source leaves out what is known, and this is its only word about that.
            kind::HEARTBEAT_V2 => {
                if let Event::Heartbeat { pos, .. } = event::heartbeat_v2(&frame.body)? {
                    self.pos = self.pos.max(pos);
                }
            }
            _ => {}
        }
        Ok(frame)
    }

    /// Learns from a FORMAT_DESCRIPTION event whether the others carry checksums. It carries one
    /// itself in any case, which is right if the others have one too.
    fn begin_file(&mut self, header: &Header, raw: &Bytes, checked: bool) -> Result<()> {
        let frame = Frame::cut(*header, raw, CHECKSUM_LEN)?;
        let algorithm = frame.body.last().copied();
        if algorithm != Some(0) && !checked {
            return Err(checksum_error(header));
        }
        let format = FormatDescription::parse(&frame.body)?;
        if !format.checksum && !self.unchecked {
            return Err(BinlogError::NoChecksum);
        }
        self.checksum = Some(format.checksum);
        self.tables.clear();
        Ok(())
    }

    /// Completes the end position: files may grow beyond 4 GiB, where the number on the wire wraps,
    /// and MariaDB 11.4 leaves it out inside transactions. A source may say that a file goes on at
    /// the end of the numbers, and there it stays.
    fn complete(&mut self, header: &mut Header) {
        const HALF: u64 = 1 << 31;
        const WRAP: u64 = 1 << 32;
        let low = header.log_pos;
        let in_file = !header.is_artificial()
            && !matches!(header.event_type, kind::HEARTBEAT | kind::HEARTBEAT_V2);
        if low == 0 && in_file && header.event_type != kind::FORMAT_DESCRIPTION && self.pos > 0 {
            self.pos = self.pos.saturating_add(u64::from(header.event_size));
            header.log_pos = self.pos;
        } else if low > 0 {
            header.log_pos = (self.pos & !(WRAP - 1)) | low;
            if self.pos > header.log_pos.saturating_add(HALF) {
                header.log_pos = header.log_pos.saturating_add(WRAP);
            }
            if in_file {
                self.pos = header.log_pos;
            }
        }
    }

    /// Says what a framed event means. Also takes frames [`Frame::inside_payload`].
    ///
    /// # Errors
    /// A body that contradicts its format, an event type that is unknown and not ignorable, or
    /// something that cannot be replicated.
    pub fn event(&mut self, frame: &Frame) -> Result<Event> {
        let body = &frame.body;
        Ok(match frame.header.event_type {
            kind::ROTATE => {
                let Position { file, pos } = event::rotate(body)?;
                Event::Rotate { file, pos }
            }
            kind::FORMAT_DESCRIPTION => Event::FormatDescription(FormatDescription::parse(body)?),
            kind::QUERY => Event::Query(QueryEvent::parse(body)?),
            kind::EXECUTE_LOAD_QUERY => Event::Query(QueryEvent::parse_load(body)?),
            kind::XID => Event::Xid,
            kind::XA_PREPARE => event::xa_prepare(body)?,
            kind::TABLE_MAP => Event::TableMap(self.table_map(body)?),
            code @ kind::WRITE_ROWS_V1..=kind::DELETE_ROWS_V1 => {
                self.rows(body, code - kind::WRITE_ROWS_V1, 1)?
            }
            code @ kind::WRITE_ROWS..=kind::DELETE_ROWS => {
                self.rows(body, code - kind::WRITE_ROWS, 2)?
            }
            kind::PARTIAL_UPDATE_ROWS => {
                let head = RowsHead::parse(body, 2)?;
                Event::PartialUpdateRows(self.table(head.table_id)?)
            }
            kind::TRANSACTION_PAYLOAD => event::payload(body)?,
            kind::GTID => event::gtid(body)?,
            kind::ANONYMOUS_GTID => event::anonymous_gtid(body)?,
            kind::GTID_TAGGED => event::gtid_tagged(body)?,
            kind::PREVIOUS_GTIDS => {
                Event::PreviousGtids(GtidSet::Mysql(MysqlGtidSet::decode(body)?))
            }
            kind::HEARTBEAT => Event::Heartbeat {
                file: text(body),
                pos: frame.header.log_pos,
            },
            kind::HEARTBEAT_V2 => event::heartbeat_v2(body)?,
            kind::INCIDENT => event::incident(body)?,
            code if self.flavor == Flavor::Mariadb && code >= kind::ANNOTATE_ROWS => {
                self.mariadb_event(frame)?
            }
            code => ignored(&frame.header, code)?,
        })
    }

    fn mariadb_event(&mut self, frame: &Frame) -> Result<Event> {
        let body = &frame.body;
        let images = |nth, version| RowsEvent::images_offset(body, version, RowsKind::nth(nth));
        let compressed_at = match frame.header.event_type {
            kind::MARIADB_GTID => {
                return event::mariadb_gtid(body, frame.header.server_id);
            }
            kind::GTID_LIST => return Ok(Event::MariadbGtidList(event::gtid_list(body)?)),
            kind::START_ENCRYPTION => return Ok(Event::StartEncryption),
            kind::QUERY_COMPRESSED => QueryEvent::sql_offset(body)?,
            code @ kind::WRITE_ROWS_COMPRESSED_V1..=kind::DELETE_ROWS_COMPRESSED_V1 => {
                images(code - kind::WRITE_ROWS_COMPRESSED_V1, 1)?
            }
            code @ kind::WRITE_ROWS_COMPRESSED..=kind::DELETE_ROWS_COMPRESSED => {
                images(code - kind::WRITE_ROWS_COMPRESSED, 2)?
            }
            code => return ignored(&frame.header, code),
        };
        self.event(&event::inflate(frame, compressed_at)?)
    }

    fn table_map(&mut self, body: &Bytes) -> Result<Arc<TableMap>> {
        let id = TableMap::peek_id(body)?;
        if let Some((known, map)) = self.tables.get(&id)
            && known == body
        {
            return Ok(map.clone());
        }
        let map = Arc::new(TableMap::parse(self.flavor, body)?);
        if self.tables.len() >= STATEMENT_TABLES_MAX {
            return Err(BinlogError::Malformed("statement with too many tables"));
        }
        // A copy: the event's own bytes may be a part of something larger.
        let copy = Bytes::copy_from_slice(body);
        self.tables.insert(id, (copy, map.clone()));
        Ok(map)
    }

    fn rows(&mut self, body: &Bytes, nth: u8, version: u8) -> Result<Event> {
        let head = RowsHead::parse(body, version)?;
        if head.is_dummy() {
            return Ok(Event::Ignored(kind::WRITE_ROWS));
        }
        let table = self.table(head.table_id)?;
        let rows = RowsEvent::parse(&head, body, RowsKind::nth(nth), table)?;
        if rows.stmt_end && self.tables.len() >= TABLES_MAX {
            self.tables.clear();
        }
        Ok(Event::Rows(rows))
    }

    fn table(&self, id: u64) -> Result<Arc<TableMap>> {
        let (_, table) = self.tables.get(&id).ok_or(BinlogError::UnknownTable(id))?;
        Ok(table.clone())
    }
}

/// Events that change no data, and those that their writer marked as ignorable.
fn ignored(header: &Header, code: u8) -> Result<Event> {
    match code {
        kind::STOP
        | kind::INTVAR
        | kind::SLAVE
        | kind::RAND
        | kind::USER_VAR
        | kind::IGNORABLE
        | kind::ROWS_QUERY
        | kind::TRANSACTION_CONTEXT
        | kind::VIEW_CHANGE
        | kind::ANNOTATE_ROWS
        | kind::BINLOG_CHECKPOINT
        // The file of a LOAD DATA; what matters is the statement behind.
        | kind::APPEND_BLOCK
        | kind::DELETE_FILE
        | kind::BEGIN_LOAD_QUERY => Ok(Event::Ignored(code)),
        _ if header.is_ignorable() => Ok(Event::Ignored(code)),
        _ => Err(BinlogError::UnknownEvent(code)),
    }
}
