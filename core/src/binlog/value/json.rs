//! MySQL's binary JSON, as SQL.
//!
//! A document becomes the text that MySQL prints itself. Documents can also hold values of SQL
//! types that JSON text has no notation for: MySQL prints DECIMAL as a number, DATE, TIME and
//! DATETIME as strings, and bytes (BLOB, BINARY, BIT) as strings of base64. So they are for the
//! other targets. For MySQL such a document becomes an expression that builds one with the same
//! types and values again, and is refused where no expression does. Of which kind a BLOB was
//! (`type252` in the text of one from a BLOB column) is the only thing that gets lost.

use alloc::vec::Vec;

use super::{
    super::{
        BinlogError, Result,
        reader::{Reader, little_endian},
    },
    Dialect,
    number::{append, write_decimal, write_padded, write_u64},
    temporal::{unpack_datetime, write_calendar, write_date, write_time},
    text::{write_binary, write_quoted},
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

// Type codes of columns that values of SQL types have.
const VARCHAR: u8 = 15;
const TINY_BLOB: u8 = 249;
const STRING_TYPE: u8 = 254;
const TIMESTAMP: u8 = 7;
const DATE: u8 = 10;
const TIME: u8 = 11;
const DATETIME: u8 = 12;
const DECIMAL: u8 = 246;

const WHAT: &str = "JSON value";

/// Appends a document as an SQL string or expression.
pub(super) fn write_literal(out: &mut Vec<u8>, dialect: Dialect, document: &[u8]) -> Result<()> {
    let Some((kind, value)) = document.split_first() else {
        // What MySQL keeps for a document that an `INSERT IGNORE` left out.
        out.extend_from_slice(b"'null'");
        return Ok(());
    };
    let mut text = Vec::with_capacity(document.len() + document.len() / 2);
    if write_text(&mut text, *kind, value)? && dialect == Dialect::MySql {
        out.extend_from_slice(b"CAST(");
        write_expression(out, *kind, value)?;
        out.extend_from_slice(b" AS JSON)");
        return Ok(());
    }
    write_quoted(out, &text);
    Ok(())
}

/// Appends a value as JSON text, and says whether there are values of SQL types in it.
fn write_text(out: &mut Vec<u8>, kind: u8, value: &[u8]) -> Result<bool> {
    let mut writer = Writer {
        out,
        budget: value.len() + 1,
        sql_types: false,
    };
    writer.value(kind, value, 0)?;
    Ok(writer.sql_types)
}

/// Appends an expression that makes the value, in which there are values of SQL types. It was
/// written as text before, so there is nothing malformed in it.
fn write_expression(out: &mut Vec<u8>, kind: u8, value: &[u8]) -> Result<()> {
    let mut members = match kind {
        SMALL_OBJECT..=LARGE_ARRAY => Container::new(kind, value)?,
        _ => return write_sql_value(out, value),
    };
    let function: &[u8] = if members.object {
        b"JSON_OBJECT("
    } else {
        b"JSON_ARRAY("
    };
    out.extend_from_slice(function);
    let mut first = true;
    while let Some(member) = members.next()? {
        if !core::mem::take(&mut first) {
            out.push(b',');
        }
        if let Some(key) = member.key {
            write_quoted(out, key);
            out.push(b',');
        }
        let mut text = Vec::new();
        if write_text(&mut text, member.kind, member.value)? {
            write_expression(out, member.kind, member.value)?;
        } else {
            out.extend_from_slice(b"CAST(");
            write_quoted(out, &text);
            out.extend_from_slice(b" AS JSON)");
        }
    }
    out.push(b')');
    Ok(())
}

/// Appends a value of an SQL type as a cast to it.
fn write_sql_value(out: &mut Vec<u8>, value: &[u8]) -> Result<()> {
    let mut reader = Reader::new(value, WHAT);
    let field_type = reader.u8()?;
    let len = variable_len(&mut reader)?;
    let bytes = reader.bytes(len)?;
    match field_type {
        DECIMAL | DATE | TIME | DATETIME | TIMESTAMP => {}
        // All that `JSON_TYPE` calls BLOB.
        VARCHAR | TINY_BLOB..=STRING_TYPE => {
            out.extend_from_slice(b"CAST(");
            write_binary(out, bytes, bytes.len());
            out.extend_from_slice(b" AS BINARY)");
            return Ok(());
        }
        _ => return Err(BinlogError::Unsupported("a BIT in a JSON document")),
    }
    out.extend_from_slice(b"CAST(");
    let start = out.len();
    write_text(out, OPAQUE, value)?;
    // Quotes inside of a cast are SQL's.
    let quotes = out[start..].iter_mut().filter(|byte| **byte == b'"');
    quotes.for_each(|byte| *byte = b'\'');
    match (field_type, bytes) {
        (DECIMAL, [precision, scale, ..]) => {
            append(out, format_args!(" AS DECIMAL({precision},{scale}))"));
        }
        (DATE, _) => out.extend_from_slice(b" AS DATE)"),
        (TIME, _) => out.extend_from_slice(b" AS TIME(6))"),
        _ => out.extend_from_slice(b" AS DATETIME(6))"),
    }
    Ok(())
}

struct Writer<'a> {
    out: &'a mut Vec<u8>,
    /// Bytes of the document that may still be accounted for: each belongs to one value only, while
    /// a hostile document could let many entries point to the same ones.
    budget: usize,
    /// Whether there was a value of an SQL type.
    sql_types: bool,
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
            SMALL_OBJECT..=LARGE_ARRAY => self.container(Container::new(kind, data)?, depth)?,
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

    fn container(&mut self, mut members: Container<'_>, depth: u32) -> Result<()> {
        if depth >= DEPTH_MAX {
            return Err(BinlogError::Unsupported(
                "a JSON document nested too deeply",
            ));
        }
        let (open, close) = if members.object {
            (b'{', b'}')
        } else {
            (b'[', b']')
        };
        self.out.push(open);
        let mut first = true;
        while let Some(member) = members.next()? {
            if !core::mem::take(&mut first) {
                self.out.extend_from_slice(b", ");
            }
            if let Some(key) = member.key {
                self.string(key)?;
                self.out.extend_from_slice(b": ");
            }
            self.value(member.kind, member.value, depth + 1)?;
        }
        self.out.push(close);
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
            // Precision, scale, value.
            DECIMAL => {
                self.sql_types = true;
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
            TIMESTAMP | DATE | TIME | DATETIME => {
                self.sql_types = true;
                let packed: [u8; 8] = bytes.try_into().map_err(|_| malformed)?;
                self.temporal(field_type, i64::from_le_bytes(packed));
            }
            _ => {
                self.sql_types = true;
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
            DATE => write_date(self.out, at.year, at.month, at.day),
            TIME => {
                let (hour, minute, second) = (whole >> 12 & 1023, whole >> 6 & 63, whole & 63);
                write_time(self.out, packed < 0, hour, minute, second);
            }
            _ => write_calendar(self.out, &at),
        }
        if field_type != DATE {
            self.out.push(b'.');
            write_padded(self.out, fraction, 6);
        }
        self.out.push(b'"');
    }
}

/// The members of an object or array: count, size, entries of keys (offset, two bytes of length),
/// entries of values (type, then offset or small value), then the rest. Counts and offsets take two
/// bytes in a small one, four in a large one.
struct Container<'a> {
    data: &'a [u8],
    keys: Reader<'a>,
    values: Reader<'a>,
    object: bool,
    offset_len: usize,
    rest: usize,
}

struct Member<'a> {
    key: Option<&'a [u8]>,
    kind: u8,
    /// Where the value starts; behind it there may be others.
    value: &'a [u8],
}

impl<'a> Container<'a> {
    fn new(kind: u8, data: &'a [u8]) -> Result<Self> {
        let object = matches!(kind, SMALL_OBJECT | LARGE_OBJECT);
        let offset_len = if matches!(kind, SMALL_OBJECT | SMALL_ARRAY) {
            2
        } else {
            4
        };
        let mut header = Reader::new(data, WHAT);
        let count = little_endian(header.bytes(offset_len)?) as usize;
        let size = little_endian(header.bytes(offset_len)?) as usize;
        let data = data.get(..size).ok_or_else(|| header.truncated())?;
        let keys_at = 2 * offset_len;
        let keys_len = if object {
            count.checked_mul(offset_len + 2)
        } else {
            Some(0)
        };
        let values_at = keys_len.and_then(|len| len.checked_add(keys_at));
        let values = values_at.and_then(|at| data.get(at..));
        Ok(Self {
            data,
            keys: Reader::new(data.get(keys_at..).unwrap_or_default(), WHAT),
            values: Reader::new(values.ok_or_else(|| header.truncated())?, WHAT),
            object,
            offset_len,
            rest: count,
        })
    }

    fn next(&mut self) -> Result<Option<Member<'a>>> {
        let Some(rest) = self.rest.checked_sub(1) else {
            return Ok(None);
        };
        self.rest = rest;
        let key = if self.object {
            let offset = little_endian(self.keys.bytes(self.offset_len)?) as usize;
            let len = usize::from(self.keys.u16()?);
            let key = self.data.get(offset..).and_then(|rest| rest.get(..len));
            Some(key.ok_or_else(|| self.keys.truncated())?)
        } else {
            None
        };
        let kind = self.values.u8()?;
        let entry = self.values.bytes(self.offset_len)?;
        let inline = matches!(kind, LITERAL | INT16 | UINT16)
            || self.offset_len == 4 && matches!(kind, INT32 | UINT32);
        let value = if inline {
            entry
        } else {
            let value = self.data.get(little_endian(entry) as usize..);
            value.ok_or_else(|| self.values.truncated())?
        };
        Ok(Some(Member { key, kind, value }))
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
