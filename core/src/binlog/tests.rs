//! Whole files, as real servers wrote them.

mod damage;
mod events;
mod framing;
mod oracle;
mod rows;

use std::{format, string::String, vec::Vec};

use bytes::Bytes;

use super::*;

/// A recorded file.
pub(super) struct Sample {
    pub(super) flavor: Flavor,
    pub(super) bytes: &'static [u8],
}

macro_rules! sample {
    ($flavor:ident, $name:literal) => {
        Sample {
            flavor: Flavor::$flavor,
            bytes: include_bytes!(concat!("../../testdata/binlog/", $name, ".binlog")),
        }
    };
}

pub(super) const MYSQL_SAMPLE: Sample = sample!(Mysql, "mysql-sample");
pub(super) const MYSQL_TYPES: Sample = sample!(Mysql, "mysql-types");
pub(super) const MYSQL_SESSION: Sample = sample!(Mysql, "mysql-session");
pub(super) const MARIADB_SAMPLE: Sample = sample!(Mariadb, "mariadb-sample");
pub(super) const MARIADB_TYPES: Sample = sample!(Mariadb, "mariadb-types");
pub(super) const MARIADB_NOLOG: Sample = sample!(Mariadb, "mariadb-types-nolog");
pub(super) const MARIADB_COMPRESSED: Sample = sample!(Mariadb, "mariadb-compressed");
pub(super) const MARIADB_SESSION: Sample = sample!(Mariadb, "mariadb-session");

pub(super) const MARIADB_METADATA: Sample = sample!(Mariadb, "mariadb-metadata");

pub(super) const SAMPLES: [Sample; 9] = [
    MYSQL_SAMPLE,
    MYSQL_TYPES,
    MYSQL_SESSION,
    MARIADB_SAMPLE,
    MARIADB_TYPES,
    MARIADB_NOLOG,
    MARIADB_COMPRESSED,
    MARIADB_SESSION,
    MARIADB_METADATA,
];

/// Cuts what consists of whole events.
fn split(mut rest: Bytes) -> Vec<Bytes> {
    let mut events = Vec::new();
    while !rest.is_empty() {
        let len = Header::peek(&rest).unwrap().event_size as usize;
        events.push(rest.split_to(len));
    }
    events
}

impl Sample {
    /// The events as a source would send them.
    pub(super) fn events(&self) -> Vec<Bytes> {
        split(Bytes::from_static(self.bytes).slice(4..))
    }

    /// Everything that the file says, with the events inside transaction payloads.
    pub(super) fn decode(&self) -> Vec<(Header, Event)> {
        let mut decoder = Decoder::new(self.flavor);
        let mut decoded = Vec::new();
        for raw in self.events() {
            let frame = decoder.frame(raw).unwrap();
            let event = decoder.event(&frame).unwrap();
            let inner = match &event {
                Event::Payload {
                    uncompressed_size,
                    body,
                    ..
                } => decompress(body, *uncompressed_size),
                _ => Bytes::new(),
            };
            decoded.push((frame.header, event));
            for raw in split(inner) {
                let frame = Frame::inside_payload(&raw).unwrap();
                decoded.push((frame.header, decoder.event(&frame).unwrap()));
            }
        }
        decoded
    }

    /// The changes of all rows events.
    pub(super) fn rows(&self) -> Vec<(RowsEvent, Vec<RowChange>)> {
        let events = self
            .decode()
            .into_iter()
            .filter_map(|(_, event)| match event {
                Event::Rows(event) => Some(event),
                _ => None,
            });
        events
            .map(|event| {
                let rows = event.rows().collect::<Result<Vec<_>>>().unwrap();
                (event, rows)
            })
            .collect()
    }
}

pub(super) fn decompress(body: &[u8], size: u64) -> Bytes {
    let mut plain = std::vec![0; size as usize];
    let len = zstd::bulk::decompress_to_buffer(body, &mut plain).unwrap();
    assert_eq!(len, plain.len());
    plain.into()
}

/// An image as a parenthesised list of literals.
pub(super) fn literals(table: &TableMap, hint: &ColumnHint, image: &RowImage) -> String {
    let mut out = Vec::new();
    for (index, column) in table.columns.iter().enumerate() {
        out.push(if index == 0 { b'(' } else { b',' });
        match image.column(index) {
            Some(raw) => write_literal(&mut out, column, hint, raw).unwrap(),
            None => out.extend_from_slice(b"NULL"),
        }
    }
    format!("{})", String::from_utf8_lossy(&out))
}
