//! Column values: from the bytes of a row image to SQL literals and to keys that tell which rows
//! may conflict.

mod json;
mod key;
mod number;
mod temporal;
mod text;

use alloc::vec::Vec;

pub use super::charset::Charset;
pub use key::{KeyFold, write_key};
pub(crate) use text::{write_binary, write_latin1, write_quoted};

use super::{
    BinlogError, Column, ColumnKind, Result,
    reader::{big_endian, little_endian},
};

/// Which SQL the target speaks.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Dialect {
    /// MySQL 8.0 and later.
    #[default]
    MySql,
    /// MariaDB 10.5 and later.
    MariaDb,
    /// TiDB.
    TiDb,
}

/// What only the target's schema knows of a column.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ColumnHint {
    /// Which SQL to write.
    pub dialect: Dialect,
    /// Signedness, for maps that do not tell.
    pub unsigned: bool,
    /// Charset, for maps that do not tell.
    pub charset: Charset,
    /// `n` of the target's BINARY(n), which fills values up with zero bytes and compares those.
    pub binary_len: Option<u32>,
    /// The target's type where its values are written in another way than the source's type says.
    pub form: Form,
    /// Which values the target's column takes for equal.
    pub fold: KeyFold,
}

/// Types of a target's column that a source's binlog does not name.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Form {
    /// As the source's type says.
    #[default]
    Plain,
    /// JSON: the text is a document.
    Json,
    /// VECTOR: packed single-precision numbers.
    Vector,
    /// UUID of MariaDB: 16 bytes.
    Uuid,
    /// INET4 of MariaDB: 4 bytes.
    Inet4,
    /// INET6 of MariaDB: 16 bytes.
    Inet6,
}

impl ColumnHint {
    /// What the column of a target tells: `type_name` is `DATA_TYPE` of
    /// `information_schema.columns` in lower case, `len` the number of bytes of a BINARY.
    #[must_use]
    pub fn new(
        dialect: Dialect,
        type_name: &str,
        unsigned: bool,
        charset: Option<&str>,
        collation: Option<&str>,
        len: Option<u64>,
    ) -> Self {
        let form = match type_name {
            "json" => Form::Json,
            "vector" => Form::Vector,
            "uuid" => Form::Uuid,
            "inet4" => Form::Inet4,
            "inet6" => Form::Inet6,
            _ => Form::Plain,
        };
        let binary_len = len.filter(|_| type_name == "binary");
        Self {
            dialect,
            unsigned,
            charset: match charset {
                Some(name) => Charset::from_name(name).unwrap_or_default(),
                // Text of a source that has no JSON type and does not name its charset (MariaDB).
                None if form == Form::Json => Charset::Utf8,
                None => Charset::Binary,
            },
            binary_len: binary_len.and_then(|len| u32::try_from(len).ok()),
            form,
            fold: collation.map_or(KeyFold::Bytes, KeyFold::from_collation),
        }
    }

    fn unsigned(&self, column: &Column) -> bool {
        column.unsigned.unwrap_or(self.unsigned)
    }

    fn charset(&self, column: &Column) -> Charset {
        let known = column.collation.and_then(Charset::from_collation_id);
        known.unwrap_or(self.charset)
    }
}

/// Appends a value as an SQL literal that, stored into a column of the same type, makes it equal.
///
/// `raw` is what [`super::RowImage::column`] gives; NULL is the caller's. The session that runs the
/// statement has the charset utf8mb4, the time zone `+00:00`, and neither `NO_BACKSLASH_ESCAPES`
/// nor a mode that refuses zero dates.
///
/// # Errors
/// The bytes are not a value of this column, or the target cannot hold it.
pub fn write_literal(
    out: &mut Vec<u8>,
    column: &Column,
    hint: &ColumnHint,
    raw: &[u8],
) -> Result<()> {
    let value = column.kind.value(raw)?;
    if hint.form == Form::Vector && hint.dialect == Dialect::TiDb {
        return number::write_vector(out, value);
    }
    match column.kind {
        ColumnKind::Tiny
        | ColumnKind::Short
        | ColumnKind::Int24
        | ColumnKind::Long
        | ColumnKind::LongLong => write_integer(out, hint.unsigned(column), value),
        ColumnKind::Float => {
            // Widened: the text of the double compares equal with the column and is stored exactly.
            let bits = little_endian(value) as u32;
            return number::write_double(out, f64::from(f32::from_bits(bits)));
        }
        ColumnKind::Double => {
            return number::write_double(out, f64::from_bits(little_endian(value)));
        }
        ColumnKind::Decimal { precision, scale } => {
            return number::write_decimal(out, precision, scale, value);
        }
        ColumnKind::Bit { .. } => number::write_u64(out, big_endian(value)),
        ColumnKind::Year => number::write_u64(out, year(value[0])),
        ColumnKind::Enum { .. } | ColumnKind::Set { .. } => {
            number::write_u64(out, little_endian(value));
        }
        ColumnKind::Date
        | ColumnKind::TimeOld
        | ColumnKind::DateTimeOld
        | ColumnKind::TimestampOld
        | ColumnKind::Time { .. }
        | ColumnKind::DateTime { .. }
        | ColumnKind::Timestamp { .. } => {
            out.push(b'\'');
            temporal::write(out, column.kind, value)?;
            out.push(b'\'');
        }
        ColumnKind::Fixed { .. } | ColumnKind::Var { .. } | ColumnKind::Blob { .. } => {
            return text::write(out, column.kind, hint.charset(column), hint, value);
        }
        ColumnKind::Compressed { .. } | ColumnKind::Unknown { .. } => {
            return Err(BinlogError::Unsupported("a column of this type"));
        }
        ColumnKind::Json { .. } => return json::write_literal(out, hint.dialect, value),
        ColumnKind::Geometry { .. } | ColumnKind::Vector { .. } => {
            write_binary(out, value, value.len());
        }
    }
    Ok(())
}

/// Appends the condition that a column of the target has this value: `column = literal` with the
/// name as given, except for types whose values SQL does not compare as they are.
///
/// # Errors
/// As [`write_literal`].
pub fn write_condition(
    out: &mut Vec<u8>,
    name: &str,
    column: &Column,
    hint: &ColumnHint,
    raw: &[u8],
) -> Result<()> {
    let is_document = hint.form == Form::Json && hint.dialect != Dialect::MariaDb;
    let is_vector = hint.form == Form::Vector && hint.dialect != Dialect::TiDb;
    // Sets are compared as doubles, which takes neighbours above 53 bits for equal.
    let is_large_set = matches!(column.kind, ColumnKind::Set { .. })
        && little_endian(column.kind.value(raw)?) >= 1 << f64::MANTISSA_DIGITS;
    let (before, equals, after) = match (is_document, is_vector, is_large_set) {
        (true, ..) => ("", "=CAST(", " AS JSON)"),
        (_, true, _) => ("HEX(", ")=HEX(", ")"),
        (.., true) => ("(", "|0)=", ""),
        _ => ("", "=", ""),
    };
    for part in [before, name, equals] {
        out.extend_from_slice(part.as_bytes());
    }
    write_literal(out, column, hint, raw)?;
    out.extend_from_slice(after.as_bytes());
    Ok(())
}

/// Whether the value is the empty string that an ENUM holds after an invalid value: number 0, which
/// a target takes only without strict mode.
#[must_use]
pub fn is_invalid_enum(column: &Column, raw: &[u8]) -> bool {
    matches!(column.kind, ColumnKind::Enum { .. }) && raw.iter().all(|byte| *byte == 0)
}

/// Zero is the year 0000, not 1900.
fn year(value: u8) -> u64 {
    match value {
        0 => 0,
        _ => 1900 + u64::from(value),
    }
}

/// The value of an integer column of 1, 2, 3, 4 or 8 bytes.
fn write_integer(out: &mut Vec<u8>, unsigned: bool, value: &[u8]) {
    let bits = little_endian(value);
    if unsigned {
        number::write_u64(out, bits);
    } else {
        let signed = sign_extend(bits, value.len());
        if signed < 0 {
            out.push(b'-');
        }
        number::write_u64(out, signed.unsigned_abs());
    }
}

fn sign_extend(bits: u64, bytes: usize) -> i64 {
    let unused = 64 - 8 * bytes as u32;
    ((bits << unused) as i64) >> unused
}

#[cfg(test)]
mod tests;
