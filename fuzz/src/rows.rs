//! The target of rows events.

use bytes::Bytes;
use dm_core::binlog::{Decoder, Event, Frame, event_type as kind};

use crate::{
    checks,
    events::{header, push_lenenc},
    input::{Input, flavor},
    memory,
};

/// A table map and the rows of its table: flags, what the target of all columns knows, the length
/// of the map's body and that body, which kind of rows event of which version, its flags, and what
/// stands behind its number of columns. Table and number of columns are always right.
pub fn rows(data: &[u8]) {
    memory::bounded((1 << 20) + 1024 * data.len(), || {
        let mut input = Input::new(data);
        let flavor = flavor(input.u8());
        let hint = input.hint();
        let len = usize::from(input.u16());
        let map = Bytes::copy_from_slice(input.bytes(len));
        let mut decoder = Decoder::new(flavor);
        let frame = Frame {
            header: header(kind::TABLE_MAP, &map),
            body: map.clone(),
        };
        let Ok(Event::TableMap(table)) = decoder.event(&frame) else {
            return;
        };
        // Rows may leave columns out, and cost as much time as if they had them.
        assert!(table.columns.len() <= map.len().min(COLUMNS_MAX));
        let event_type = EVENT_TYPES[usize::from(input.u8()) % EVENT_TYPES.len()];
        let mut body = map[..6].to_vec();
        body.extend_from_slice(&input.u16().to_le_bytes());
        if event_type >= kind::WRITE_ROWS {
            // No extra data; the length counts itself.
            body.extend_from_slice(&[2, 0]);
        }
        push_lenenc(&mut body, table.columns.len());
        body.extend_from_slice(input.rest());
        let frame = Frame {
            header: header(event_type, &body),
            body: body.into(),
        };
        match decoder.event(&frame) {
            Ok(Event::Rows(event)) => checks::rows(&event, &hint),
            Ok(event) => assert!(!matches!(event, Event::TableMap(_))),
            Err(_) => {}
        }
    });
}

/// Columns that both servers allow.
const COLUMNS_MAX: usize = 4096;

/// The types of rows events in the order of the target's input.
pub(crate) const EVENT_TYPES: [u8; 7] = [
    kind::WRITE_ROWS,
    kind::UPDATE_ROWS,
    kind::DELETE_ROWS,
    kind::WRITE_ROWS_V1,
    kind::UPDATE_ROWS_V1,
    kind::DELETE_ROWS_V1,
    kind::PARTIAL_UPDATE_ROWS,
];
