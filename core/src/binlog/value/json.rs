//! MySQL's binary JSON, as text.
//!
//! The text is the one that MySQL prints itself. Values that JSON text cannot name (DECIMAL, DATE,
//! TIME and so on inside a document) are printed as MySQL prints them, as numbers and strings.

use alloc::vec::Vec;

use super::{
    super::{
        BinlogError, Result,
        reader::{Reader, little_endian},
    },
    number::{append, write_decimal, write_padded, write_u64},
    temporal::{unpack_datetime, write_calendar, write_date, write_time},
    text::write_escaped,
};

/// The deepest nesting that MySQL itself accepts.
const DEPTH_MAX: u32 = 100;

// Type bytes of binary JSON.
const SMALL_OBJECT: u8 = 0x00;
const LARGE_OBJECT: u8 = 0x01;
const SMALL_ARRAY: u8 = 0x02;
const LARGE_ARRAY: u8 = 0x03;
const LITERAL: u8 = 0x04;
const INT16: u8 = 0x05;
const UINT16: u8 = 0x06;
const INT32: u8 = 0x07;
const UINT32: u8 = 0x08;
const INT64: u8 = 0x09;
const UINT64: u8 = 0x0a;
const DOUBLE: u8 = 0x0b;
const STRING: u8 = 0x0c;
const OPAQUE: u8 = 0x0f;

const WHAT: &str = "JSON value";

/// Appends a document as a quoted SQL string.
pub(super) fn write_literal(out: &mut Vec<u8>, document: &[u8]) -> Result<()> {
    let mut text = Vec::with_capacity(document.len() + document.len() / 2);
    write_text(&mut text, document)?;
    out.push(b'\'');
    write_escaped(out, &text);
    out.push(b'\'');
    Ok(())
}

/// Appends a document as JSON text.
pub(super) fn write_text(out: &mut Vec<u8>, document: &[u8]) -> Result<()> {
    let Some((kind, value)) = document.split_first() else {
        // What MySQL keeps for a document that an `INSERT IGNORE` left out.
        out.extend_from_slice(b"null");
        return Ok(());
    };
    let mut writer = Writer {
        out,
        budget: document.len(),
    };
    writer.value(*kind, value, 0)
}

struct Writer<'a> {
    out: &'a mut Vec<u8>,
    /// Bytes of the document that may still be accounted for: each belongs to one value only, while
    /// a hostile document could let many entries point to the same ones.
    budget: usize,
}

impl Writer<'_> {
    fn spend(&mut self, bytes: usize) -> Result<()> {
        let rest = self.budget.checked_sub(bytes);
        self.budget = rest.ok_or(BinlogError::Malformed(WHAT))?;
        Ok(())
    }

    /// Writes the value of type `kind` that starts where `data` does.
    fn value(&mut self, kind: u8, data: &[u8], depth: u32) -> Result<()> {
        self.spend(1)?;
        let mut reader = Reader::new(data, WHAT);
        match kind {
            SMALL_OBJECT => self.container::<2>(data, true, depth)?,
            LARGE_OBJECT => self.container::<4>(data, true, depth)?,
            SMALL_ARRAY => self.container::<2>(data, false, depth)?,
            LARGE_ARRAY => self.container::<4>(data, false, depth)?,
            LITERAL => {
                let text: &[u8] = match reader.u8()? {
                    0 => b"null",
                    1 => b"true",
                    2 => b"false",
                    _ => return Err(reader.malformed()),
                };
                self.out.extend_from_slice(text);
            }
            INT16 => self.signed(i64::from(reader.u16()? as i16)),
            UINT16 => write_u64(self.out, u64::from(reader.u16()?)),
            INT32 => self.signed(i64::from(reader.u32()? as i32)),
            UINT32 => write_u64(self.out, u64::from(reader.u32()?)),
            INT64 => self.signed(reader.u64()? as i64),
            UINT64 => write_u64(self.out, reader.u64()?),
            DOUBLE => self.double(f64::from_bits(reader.u64()?))?,
            STRING => {
                let len = variable_len(&mut reader)?;
                let bytes = reader.bytes(len)?;
                self.string(bytes)?;
            }
            OPAQUE => {
                let field_type = reader.u8()?;
                let len = variable_len(&mut reader)?;
                let bytes = reader.bytes(len)?;
                self.opaque(field_type, bytes)?;
            }
            _ => return Err(reader.malformed()),
        }
        Ok(())
    }

    fn signed(&mut self, value: i64) {
        if value < 0 {
            self.out.push(b'-');
        }
        write_u64(self.out, value.unsigned_abs());
    }

    /// The shortest digits that make the same number, always with a point or an exponent: without
    /// one it would be read back as an integer.
    fn double(&mut self, value: f64) -> Result<()> {
        if !value.is_finite() {
            return Err(BinlogError::Malformed(WHAT));
        }
        append(self.out, format_args!("{value:?}"));
        Ok(())
    }

    /// An object or array whose offsets and counts take `N` bytes: count, size, entries of keys
    /// (offset, two bytes of length), entries of values (type, offset or small value), the rest.
    fn container<const N: usize>(&mut self, data: &[u8], object: bool, depth: u32) -> Result<()> {
        if depth >= DEPTH_MAX {
            return Err(BinlogError::Unsupported(
                "a JSON document nested too deeply",
            ));
        }
        let mut header = Reader::new(data, WHAT);
        let count = little_endian(header.bytes(N)?) as usize;
        let size = little_endian(header.bytes(N)?) as usize;
        let data = data.get(..size).ok_or_else(|| header.truncated())?;
        let key_entry = if object { N + 2 } else { 0 };
        let entries = count.checked_mul(key_entry + 1 + N);
        if entries.is_none_or(|entries| entries > data.len().saturating_sub(2 * N)) {
            return Err(header.truncated());
        }
        let mut keys = Reader::new(&data[2 * N..], WHAT);
        let mut values = Reader::new(&data[2 * N + count * key_entry..], WHAT);
        self.out.push(if object { b'{' } else { b'[' });
        for index in 0..count {
            if index > 0 {
                self.out.extend_from_slice(b", ");
            }
            if object {
                let offset = little_endian(keys.bytes(N)?) as usize;
                let len = usize::from(keys.u16()?);
                let key = data.get(offset..).and_then(|rest| rest.get(..len));
                self.string(key.ok_or_else(|| keys.truncated())?)?;
                self.out.extend_from_slice(b": ");
            }
            let kind = values.u8()?;
            let entry = values.bytes(N)?;
            let inline = matches!(kind, LITERAL | INT16 | UINT16)
                || N == 4 && matches!(kind, INT32 | UINT32);
            if inline {
                self.value(kind, entry, depth + 1)?;
            } else {
                let offset = little_endian(entry) as usize;
                let child = data.get(offset..).ok_or_else(|| values.truncated())?;
                self.value(kind, child, depth + 1)?;
            }
        }
        self.out.push(if object { b'}' } else { b']' });
        Ok(())
    }

    /// A string in utf8mb4, escaped as JSON wants it.
    fn string(&mut self, bytes: &[u8]) -> Result<()> {
        self.spend(bytes.len())?;
        let special = |byte: &u8| matches!(byte, 0..0x20 | b'"' | b'\\');
        self.out.push(b'"');
        let mut rest = bytes;
        while let Some(at) = rest.iter().position(special) {
            self.out.extend_from_slice(&rest[..at]);
            match rest[at] {
                byte @ (b'"' | b'\\') => self.out.extend_from_slice(&[b'\\', byte]),
                8 => self.out.extend_from_slice(b"\\b"),
                9 => self.out.extend_from_slice(b"\\t"),
                10 => self.out.extend_from_slice(b"\\n"),
                12 => self.out.extend_from_slice(b"\\f"),
                13 => self.out.extend_from_slice(b"\\r"),
                byte => append(self.out, format_args!("\\u{byte:04x}")),
            }
            rest = &rest[at + 1..];
        }
        self.out.extend_from_slice(rest);
        self.out.push(b'"');
        Ok(())
    }

    /// A value of an SQL type inside a document.
    fn opaque(&mut self, field_type: u8, bytes: &[u8]) -> Result<()> {
        self.spend(bytes.len())?;
        let malformed = BinlogError::Malformed(WHAT);
        match field_type {
            // DECIMAL: precision, scale, value.
            246 => {
                let [precision @ 1..=65, scale @ 0..=38, value @ ..] = bytes else {
                    return Err(malformed);
                };
                if scale > precision {
                    return Err(malformed);
                }
                let kind = super::ColumnKind::Decimal {
                    precision: *precision,
                    scale: *scale,
                };
                write_decimal(self.out, *precision, *scale, kind.value(value)?)?;
            }
            7 | 10 | 11 | 12 => {
                let packed: [u8; 8] = bytes.try_into().map_err(|_| malformed)?;
                self.temporal(field_type, i64::from_le_bytes(packed));
            }
            _ => {
                append(self.out, format_args!("\"base64:type{field_type}:"));
                write_base64(self.out, bytes);
                self.out.push(b'"');
            }
        }
        Ok(())
    }

    /// A temporal value: 24 bits of microseconds below the bits of the column types.
    fn temporal(&mut self, field_type: u8, packed: i64) {
        let bits = packed.unsigned_abs();
        let (whole, fraction) = (bits >> 24, bits & 0xff_ffff);
        let at = unpack_datetime(whole);
        self.out.push(b'"');
        match field_type {
            10 => write_date(self.out, at.year, at.month, at.day),
            11 => {
                let (hour, minute, second) = (whole >> 12 & 1023, whole >> 6 & 63, whole & 63);
                write_time(self.out, packed < 0, hour, minute, second);
            }
            _ => write_calendar(self.out, &at),
        }
        if field_type != 10 {
            self.out.push(b'.');
            write_padded(self.out, fraction, 6);
        }
        self.out.push(b'"');
    }
}

/// A length of up to five bytes with seven bits each, the lowest first.
fn variable_len(reader: &mut Reader<'_>) -> Result<usize> {
    let mut len = 0;
    for index in 0..5 {
        let byte = u64::from(reader.u8()?);
        len |= (byte & 0x7f) << (7 * index);
        if byte & 0x80 == 0 {
            return usize::try_from(len).map_err(|_| reader.malformed());
        }
    }
    Err(reader.malformed())
}

fn write_base64(out: &mut Vec<u8>, bytes: &[u8]) {
    const DIGITS: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    for chunk in bytes.chunks(3) {
        let mut group = [0; 4];
        group[1..=chunk.len()].copy_from_slice(chunk);
        let bits = u32::from_be_bytes(group);
        for index in 0..4 {
            let digit = DIGITS[(bits >> (18 - 6 * index) & 63) as usize];
            out.push(if index <= chunk.len() { digit } else { b'=' });
        }
    }
}
