//! Compressed transactions, as MySQL writes them with `binlog_transaction_compression=ON`.

use dm_core::binlog::{HEADER_LEN, PayloadCompression, event_type};

use super::events::{self, Body};

/// One event that holds others, whole but without checksums.
pub(super) fn payload(time: u32, inside: &[Body], compression: PayloadCompression) -> Body {
    let mut plain = Vec::new();
    for (kind, body) in inside {
        let len = HEADER_LEN + body.len();
        // Inside of a transaction a place is one in the transaction.
        let end = plain.len() + len;
        plain.extend_from_slice(&events::header(time, *kind, len, end as u64, 0));
        plain.extend_from_slice(body);
    }
    let (number, packed) = match compression {
        PayloadCompression::Zstd => {
            let packed = zstd::encode_all(&plain[..], 3);
            (0, packed.expect("memory takes all that is written to it"))
        }
        PayloadCompression::None => (255, plain.clone()),
    };
    let mut body = Vec::new();
    for (field, value) in [(1, packed.len()), (2, number), (3, plain.len())] {
        let value = length(value);
        body.push(field);
        body.push(value.len() as u8);
        body.extend(value);
    }
    body.push(0);
    body.extend(packed);
    (event_type::TRANSACTION_PAYLOAD, body)
}

/// A number of variable length.
fn length(value: usize) -> Vec<u8> {
    let bytes = value.to_le_bytes();
    let (mark, len): (Option<u8>, usize) = match value {
        0..=250 => (None, 1),
        251..=0xffff => (Some(0xfc), 2),
        0x1_0000..=0xff_ffff => (Some(0xfd), 3),
        _ => (Some(0xfe), 8),
    };
    mark.into_iter()
        .chain(bytes[..len].iter().copied())
        .collect()
}
