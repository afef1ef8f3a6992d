//! What is shown of an event: never a value of a row.

use std::{borrow::Cow, fmt};

use dm_core::binlog::{
    BinlogError, Event, Frame, PayloadCompression, TableMap, event_type as kind,
};
use serde::Serialize;

use super::{ls::time, text::plain};

/// An event on its line.
#[derive(Debug, Serialize)]
pub(super) struct Line<'a> {
    file: &'a str,
    /// Where it begins; nothing within a compressed transaction.
    offset: Option<u64>,
    /// Of the source's clock, if it has one.
    time: Option<String>,
    #[serde(rename = "type")]
    kind: Cow<'static, str>,
    size: u32,
    server_id: u32,
    #[serde(flatten)]
    says: Says,
}

/// What it says, by what it is.
#[derive(Debug, Serialize)]
#[serde(untagged)]
pub(super) enum Says {
    Nothing {},
    Format {
        server_version: String,
        checksums: bool,
    },
    Rotate {
        next_file: String,
        next_offset: u64,
    },
    Gtids {
        gtids: String,
    },
    Gtid {
        gtid: Option<String>,
        #[serde(skip_serializing_if = "Option::is_none")]
        transaction_size: Option<u64>,
    },
    Query {
        schema: String,
        query: String,
    },
    Xid {
        xid: u64,
    },
    Xa {
        xid: String,
        one_phase: bool,
    },
    Table {
        schema: String,
        table: String,
        table_id: u64,
        columns: usize,
    },
    Rows {
        schema: String,
        table: String,
        table_id: u64,
        #[serde(skip_serializing_if = "Option::is_none")]
        rows: Option<u64>,
        statement_ends: bool,
    },
    Payload {
        compression: &'static str,
        payload_size: usize,
        uncompressed_size: u64,
    },
    Incident {
        incident: u16,
        message: String,
    },
    Failed {
        error: String,
    },
}

impl<'a> Line<'a> {
    pub(super) fn new(file: &'a str, offset: Option<u64>, frame: &Frame, says: Says) -> Self {
        let header = &frame.header;
        let kind = match kind::name(header.event_type) {
            Some(name) => name.into(),
            None => format!("TYPE_{}", header.event_type).into(),
        };
        Self {
            file,
            offset,
            time: (header.timestamp > 0).then(|| time(header.timestamp)),
            kind,
            size: header.event_size,
            server_id: header.server_id,
            says,
        }
    }

    /// Whether it is not understood, though it should be.
    pub(super) const fn is_failed(&self) -> bool {
        matches!(self.says, Says::Failed { .. })
    }
}

impl Says {
    pub(super) fn of(event: &Result<Event, BinlogError>, frame: &Frame) -> Self {
        let event = match event {
            Ok(event) => event,
            // What nobody knows is shown by its number.
            Err(BinlogError::UnknownEvent(_)) => return Self::Nothing {},
            Err(error) => {
                return Self::Failed {
                    error: error.to_string(),
                };
            }
        };
        let size = |len: u64| (len > 0).then_some(len);
        match event {
            Event::FormatDescription(format) => Self::Format {
                server_version: format.server_version.clone(),
                checksums: format.checksum,
            },
            Event::Rotate { file, pos } => Self::Rotate {
                next_file: file.clone(),
                next_offset: *pos,
            },
            Event::PreviousGtids(gtids) | Event::MariadbGtidList(gtids) => Self::Gtids {
                gtids: gtids.to_string(),
            },
            Event::Gtid { gtid, times } => Self::Gtid {
                gtid: Some(gtid.to_string()),
                transaction_size: size(times.transaction_len),
            },
            Event::MariadbGtid { gtid, .. } => Self::Gtid {
                gtid: Some(gtid.to_string()),
                transaction_size: None,
            },
            Event::AnonymousGtid { times } => Self::Gtid {
                gtid: None,
                transaction_size: size(times.transaction_len),
            },
            Event::Query(query) => Self::Query {
                schema: query.schema.clone(),
                query: match query.text() {
                    Some(text) => text.into_owned(),
                    None => String::from_utf8_lossy(&query.sql).into_owned(),
                },
            },
            Event::Xid => Self::Xid {
                xid: (frame.body.first_chunk()).map_or(0, |bytes| u64::from_le_bytes(*bytes)),
            },
            Event::XaPrepare { one_phase, xid } => Self::Xa {
                xid: xid.clone(),
                one_phase: *one_phase,
            },
            Event::TableMap(map) => Self::Table {
                schema: map.schema.clone(),
                table: map.table.clone(),
                table_id: map.id,
                columns: map.columns.len(),
            },
            Event::Rows(rows) => Self::rows(&rows.table, Some(rows.count()), rows.stmt_end),
            Event::PartialUpdateRows(table) => Self::rows(table, None, false),
            Event::Payload {
                compression,
                uncompressed_size,
                body,
            } => Self::Payload {
                compression: match compression {
                    PayloadCompression::Zstd => "zstd",
                    PayloadCompression::None => "none",
                },
                payload_size: body.len(),
                uncompressed_size: *uncompressed_size,
            },
            Event::Incident { number, message } => Self::Incident {
                incident: *number,
                message: message.clone(),
            },
            Event::Heartbeat { .. } | Event::StartEncryption | Event::Ignored(_) => {
                Self::Nothing {}
            }
        }
    }

    fn rows(table: &TableMap, rows: Option<u64>, statement_ends: bool) -> Self {
        Self::Rows {
            schema: table.schema.clone(),
            table: table.table.clone(),
            table_id: table.id,
            rows,
            statement_ends,
        }
    }
}

/// In columns; what is in a compressed transaction stands further right.
impl fmt::Display for Line<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let offset = self.offset.map(|offset| offset.to_string());
        let inside = if offset.is_some() { "" } else { "  " };
        let kind = format!("{inside}{}", self.kind);
        let line = format!(
            "{:>10}  {:<20}  {kind:<21}  {:>9}  {:>10}  {}",
            offset.unwrap_or_default(),
            self.time.as_deref().unwrap_or("-"),
            self.size,
            self.server_id,
            plain(&self.says.to_string()),
        );
        f.write_str(line.trim_end())
    }
}

impl fmt::Display for Says {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Nothing {} => Ok(()),
            Self::Format {
                server_version,
                checksums,
            } => {
                let with = if *checksums { "with" } else { "without" };
                write!(f, "{server_version}, {with} checksums")
            }
            Self::Rotate {
                next_file,
                next_offset,
            } => write!(f, "to ({next_file}, {next_offset})"),
            Self::Gtids { gtids } if gtids.is_empty() => f.write_str("none"),
            Self::Gtids { gtids } => f.write_str(gtids),
            Self::Gtid {
                gtid,
                transaction_size,
            } => {
                f.write_str(gtid.as_deref().unwrap_or("anonymous"))?;
                transaction_size.map_or(Ok(()), |size| write!(f, ", {size} bytes in all"))
            }
            Self::Query { schema, query } if schema.is_empty() => f.write_str(query),
            Self::Query { schema, query } => write!(f, "`{schema}`: {query}"),
            Self::Xid { xid } => write!(f, "commits {xid}"),
            Self::Xa { xid, one_phase } => {
                let what = if *one_phase { "commits" } else { "prepares" };
                write!(f, "{what} {xid}")
            }
            Self::Table {
                schema,
                table,
                table_id,
                columns,
            } => write!(f, "`{schema}`.`{table}` id {table_id}, {columns} columns"),
            Self::Rows {
                schema,
                table,
                table_id,
                rows,
                statement_ends,
            } => {
                write!(f, "`{schema}`.`{table}` id {table_id}")?;
                if let Some(rows) = rows {
                    let ending = if *rows == 1 { "" } else { "s" };
                    write!(f, ", {rows} row{ending}")?;
                }
                f.write_str(if *statement_ends {
                    ", end of statement"
                } else {
                    ""
                })
            }
            Self::Payload {
                compression,
                payload_size,
                uncompressed_size,
            } => write!(
                f,
                "{compression}, {payload_size} bytes of {uncompressed_size}"
            ),
            Self::Incident { incident, message } => write!(f, "incident {incident}: {message}"),
            Self::Failed { error } => write!(f, "! not understood: {error}"),
        }
    }
}
