//! The target of single values.

use bytes::Bytes;
use dm_core::binlog::{Column, ColumnKind, Decoder, Event, Flavor, Frame, event_type as kind};

use crate::{checks, events::header, input::Input, memory};

/// A value of a column of any type: the type's code and its metadata, what the target knows, a flag
/// byte, a collation, and the bytes of the value. These get the length that the type wants, unless
/// a flag says that they are to stay as they are.
pub fn values(data: &[u8]) {
    memory::bounded((1 << 20) + 256 * data.len(), || {
        let mut input = Input::new(data);
        let (code, meta) = (input.u8(), input.u16());
        let hint = input.hint();
        let flags = input.u8();
        let collation = input.u16();
        let Some(mut column) = column(code, meta) else {
            return;
        };
        column.unsigned = match flags & 3 {
            0 => None,
            bits => Some(bits == 1),
        };
        column.collation = (flags & 4 != 0).then_some(collation);
        let raw = if flags & AS_IT_IS == 0 {
            whole(column.kind, input.rest())
        } else {
            input.rest().to_vec()
        };
        let mut out = Vec::new();
        checks::value(&column, &hint, &raw, &mut out);
    });
}

/// The flag that a value is not made one.
pub(crate) const AS_IT_IS: u8 = 8;

/// The column that a table map with this type describes. Only a map says what is none.
pub(crate) fn column(code: u8, meta: u16) -> Option<Column> {
    let [low, high] = meta.to_le_bytes();
    // An id, flags, two empty names, one column of that type, its metadata, that it may be NULL.
    let map = [1, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 1, code, 2, low, high, 1];
    let body = Bytes::copy_from_slice(&map);
    let header = header(kind::TABLE_MAP, &body);
    let event = Decoder::new(Flavor::Mysql).event(&Frame { header, body });
    match event {
        Ok(Event::TableMap(map)) => map.columns.first().cloned(),
        _ => None,
    }
}

/// Makes bytes a value: as many as a type of fixed length wants, or all of them behind a length.
fn whole(kind: ColumnKind, bytes: &[u8]) -> Vec<u8> {
    let len_bytes = match kind {
        ColumnKind::Fixed { bytes_max } | ColumnKind::Var { bytes_max } => {
            if bytes_max > 255 {
                2
            } else {
                1
            }
        }
        ColumnKind::Blob { len_bytes }
        | ColumnKind::Json { len_bytes }
        | ColumnKind::Geometry { len_bytes }
        | ColumnKind::Vector { len_bytes }
        | ColumnKind::Compressed { len_bytes } => usize::from(len_bytes),
        _ => {
            let mut raw = bytes.to_vec();
            for len in 1..=FIXED_MAX {
                raw.resize(len, 0);
                if kind.value(&raw).is_ok() {
                    let kept = bytes.len().min(len);
                    raw[..kept].copy_from_slice(&bytes[..kept]);
                    break;
                }
            }
            return raw;
        }
    };
    let longest = (1_usize << (8 * len_bytes)) - 1;
    let bytes = &bytes[..bytes.len().min(longest)];
    let len = bytes.len().to_le_bytes();
    [&len[..len_bytes], bytes].concat()
}

/// No type of fixed length takes more bytes.
const FIXED_MAX: usize = 32;
