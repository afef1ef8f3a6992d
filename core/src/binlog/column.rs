//! Columns as a table map describes them: type, storage size, and what optional metadata adds.

use alloc::{string::String, vec::Vec};
use core::ops::Range;

use super::{BinlogError, Result, reader::little_endian};

/// A column of a table map.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Column {
    /// Type and storage size.
    pub kind: ColumnKind,
    /// Whether the column may be NULL.
    pub nullable: bool,
    /// Signedness of a numeric column; `None` when the source does not tell
    /// (MariaDB with `binlog_row_metadata=NO_LOG`, which is its default).
    pub unsigned: Option<bool>,
    /// Collation id of a character column or of the labels of ENUM and SET, where known.
    pub collation: Option<u16>,
    /// Name, with `binlog_row_metadata=FULL`.
    pub name: Option<String>,
    /// Labels of ENUM and SET in their own charset, with `binlog_row_metadata=FULL`.
    pub labels: Vec<Vec<u8>>,
    /// WKB type code of a GEOMETRY column; zero for any.
    pub geometry_type: Option<u16>,
    /// Whether `SELECT *` shows the column, with `binlog_row_metadata=FULL`.
    pub visible: Option<bool>,
}

impl Column {
    /// A column of which only the type is known.
    #[must_use]
    pub fn new(kind: ColumnKind) -> Self {
        Self {
            kind,
            nullable: false,
            unsigned: None,
            collation: None,
            name: None,
            labels: Vec::new(),
            geometry_type: None,
            visible: None,
        }
    }
}

/// Column type with everything that is needed to find a value's end and to read it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ColumnKind {
    /// TINYINT.
    Tiny,
    /// SMALLINT.
    Short,
    /// MEDIUMINT.
    Int24,
    /// INT.
    Long,
    /// BIGINT.
    LongLong,
    /// FLOAT.
    Float,
    /// DOUBLE.
    Double,
    /// DECIMAL(precision, scale).
    Decimal {
        /// Decimal digits altogether, 1 to 65.
        precision: u8,
        /// Digits behind the point, at most `precision`.
        scale: u8,
    },
    /// BIT(n).
    Bit {
        /// 1 to 64.
        bits: u8,
    },
    /// YEAR.
    Year,
    /// DATE.
    Date,
    /// TIME as before MySQL 5.6, still written by MariaDB with `mysql56_temporal_format=OFF`.
    TimeOld,
    /// DATETIME as before MySQL 5.6.
    DateTimeOld,
    /// TIMESTAMP as before MySQL 5.6.
    TimestampOld,
    /// TIME(fsp).
    Time {
        /// Digits of the fraction of a second, 0 to 6.
        fsp: u8,
    },
    /// DATETIME(fsp).
    DateTime {
        /// Digits of the fraction of a second, 0 to 6.
        fsp: u8,
    },
    /// TIMESTAMP(fsp).
    Timestamp {
        /// Digits of the fraction of a second, 0 to 6.
        fsp: u8,
    },
    /// CHAR(n) and BINARY(n); on MariaDB also UUID, INET4 and INET6.
    Fixed {
        /// Longest value in bytes; from 256 on lengths take two bytes.
        bytes_max: u16,
    },
    /// VARCHAR(n) and VARBINARY(n); on MariaDB also VECTOR.
    Var {
        /// Longest value in bytes; from 256 on lengths take two bytes.
        bytes_max: u16,
    },
    /// TINYBLOB to LONGBLOB and TINYTEXT to LONGTEXT; on MariaDB also JSON.
    Blob {
        /// Bytes that a length takes, 1 to 4.
        len_bytes: u8,
    },
    /// JSON of MySQL, in its binary form.
    Json {
        /// Bytes that a length takes, 1 to 4.
        len_bytes: u8,
    },
    /// GEOMETRY and its sub-types: SRID and WKB.
    Geometry {
        /// Bytes that a length takes, 1 to 4.
        len_bytes: u8,
    },
    /// VECTOR of MySQL 9: packed single-precision numbers.
    Vector {
        /// Bytes that a length takes, 1 to 4.
        len_bytes: u8,
    },
    /// ENUM.
    Enum {
        /// Bytes of the number of the label, 1 or 2.
        bytes: u8,
    },
    /// SET.
    Set {
        /// Bytes of the bit mask, 1 to 8.
        bytes: u8,
    },
    /// VARCHAR or BLOB of MariaDB with the attribute COMPRESSED, which cannot be read.
    Compressed {
        /// Bytes that a length takes, 1 to 4.
        len_bytes: u8,
    },
    /// A type that is not known here; nor is where its values end.
    Unknown {
        /// Type code.
        code: u8,
    },
}

/// How many bytes a value takes: fixed by the type, or said by a length in front of it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Width {
    Fixed(u8),
    Prefixed(u8),
    Unknown,
}

impl ColumnKind {
    /// Resolves a type code and its metadata, of which `u16` is what MySQL keeps in memory.
    ///
    /// # Errors
    /// Metadata that the type cannot have.
    pub(super) fn resolve(code: u8, meta: u16) -> Result<Self> {
        let [low, high] = meta.to_le_bytes();
        let fsp = || (low <= 6).then_some(low);
        let len_bytes = || matches!(low, 1..=4).then_some(low);
        let kind = match code {
            1 => Some(Self::Tiny),
            2 => Some(Self::Short),
            3 => Some(Self::Long),
            4 => (low == 4).then_some(Self::Float),
            5 => (low == 8).then_some(Self::Double),
            7 => Some(Self::TimestampOld),
            8 => Some(Self::LongLong),
            9 => Some(Self::Int24),
            10 | 14 => Some(Self::Date),
            11 => Some(Self::TimeOld),
            12 => Some(Self::DateTimeOld),
            13 => Some(Self::Year),
            15 => Some(Self::Var { bytes_max: meta }),
            16 => {
                let bits = u16::from(high) * 8 + u16::from(low);
                (low < 8 && (1..=64).contains(&bits)).then_some(Self::Bit { bits: bits as u8 })
            }
            17 => fsp().map(|fsp| Self::Timestamp { fsp }),
            18 => fsp().map(|fsp| Self::DateTime { fsp }),
            19 => fsp().map(|fsp| Self::Time { fsp }),
            140 => len_bytes().map(|len_bytes| Self::Compressed { len_bytes }),
            141 => Some(Self::Compressed {
                len_bytes: if meta > 255 { 2 } else { 1 },
            }),
            242 => len_bytes().map(|len_bytes| Self::Vector { len_bytes }),
            245 => len_bytes().map(|len_bytes| Self::Json { len_bytes }),
            246 => (matches!(low, 1..=65) && high <= 38 && high <= low).then_some(Self::Decimal {
                precision: low,
                scale: high,
            }),
            247 => Self::labelled(247, low),
            248 => Self::labelled(248, low),
            249..=252 => len_bytes().map(|len_bytes| Self::Blob { len_bytes }),
            254 => Self::string(low, high),
            255 => len_bytes().map(|len_bytes| Self::Geometry { len_bytes }),
            _ => Some(Self::Unknown { code }),
        };
        kind.ok_or(BinlogError::Malformed("column metadata"))
    }

    /// CHAR, BINARY, ENUM and SET share a type code: the real one is in the metadata, where two
    /// bits of a length above 255 are hidden (inverted) in the type's bits 4 and 5.
    fn string(real: u8, len: u8) -> Option<Self> {
        if real & 0x30 != 0x30 {
            let high = u16::from((real & 0x30) ^ 0x30) << 4;
            return (real | 0x30 == 254).then_some(Self::Fixed {
                bytes_max: high | u16::from(len),
            });
        }
        match real {
            254 => Some(Self::Fixed {
                bytes_max: u16::from(len),
            }),
            _ => Self::labelled(real, len),
        }
    }

    fn labelled(real: u8, bytes: u8) -> Option<Self> {
        match real {
            247 => matches!(bytes, 1 | 2).then_some(Self::Enum { bytes }),
            248 => matches!(bytes, 1..=8).then_some(Self::Set { bytes }),
            _ => None,
        }
    }

    pub(super) fn width(self) -> Width {
        match self {
            Self::Tiny | Self::Year => Width::Fixed(1),
            Self::Short => Width::Fixed(2),
            Self::Int24 | Self::Date | Self::TimeOld => Width::Fixed(3),
            Self::Long | Self::Float | Self::TimestampOld => Width::Fixed(4),
            Self::LongLong | Self::Double | Self::DateTimeOld => Width::Fixed(8),
            Self::Decimal { precision, scale } => Width::Fixed(decimal_len(precision, scale)),
            Self::Bit { bits } => Width::Fixed(bits.div_ceil(8)),
            Self::Time { fsp } => Width::Fixed(3 + fsp.div_ceil(2)),
            Self::DateTime { fsp } => Width::Fixed(5 + fsp.div_ceil(2)),
            Self::Timestamp { fsp } => Width::Fixed(4 + fsp.div_ceil(2)),
            Self::Fixed { bytes_max } | Self::Var { bytes_max } => {
                Width::Prefixed(if bytes_max > 255 { 2 } else { 1 })
            }
            Self::Blob { len_bytes }
            | Self::Json { len_bytes }
            | Self::Geometry { len_bytes }
            | Self::Vector { len_bytes } => Width::Prefixed(len_bytes),
            Self::Compressed { len_bytes } => Width::Prefixed(len_bytes),
            Self::Enum { bytes } | Self::Set { bytes } => Width::Fixed(bytes),
            Self::Unknown { .. } => Width::Unknown,
        }
    }

    /// The value itself, without the length in front of it.
    ///
    /// # Errors
    /// `raw` is not one whole value of this type.
    pub fn value(self, raw: &[u8]) -> Result<&[u8]> {
        let range = match self.width() {
            Width::Fixed(len) => 0..usize::from(len),
            Width::Prefixed(len) => prefixed(raw, usize::from(len))?,
            Width::Unknown => return Err(BinlogError::Unsupported("a column of unknown type")),
        };
        if range.end == raw.len() {
            Ok(&raw[range])
        } else {
            Err(BinlogError::Malformed("column value"))
        }
    }
}

/// Where the value behind a length of `len_bytes` is; its end may be behind that of `data`.
pub(super) fn prefixed(data: &[u8], len_bytes: usize) -> Result<Range<usize>> {
    let prefix = data
        .get(..len_bytes)
        .ok_or(BinlogError::Truncated("column value"))?;
    let len = little_endian(prefix) as usize;
    Ok(len_bytes..len_bytes + len)
}

/// Bytes that the digits of a DECIMAL take: four for each nine, fewer for those left over.
const LEFT_OVER: [u8; 10] = [0, 1, 1, 2, 2, 3, 3, 4, 4, 4];

/// Bytes that `digits` decimal digits on one side of the point take.
pub(super) fn digits_len(digits: u8) -> u8 {
    digits / 9 * 4 + LEFT_OVER[usize::from(digits % 9)]
}

fn decimal_len(precision: u8, scale: u8) -> u8 {
    digits_len(precision - scale) + digits_len(scale)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn strings_hide_their_type_and_length() {
        let resolve = |real: u8, len: u8| ColumnKind::resolve(254, u16::from_le_bytes([real, len]));
        assert_eq!(resolve(254, 40), Ok(ColumnKind::Fixed { bytes_max: 40 }));
        // CHAR(255) in utf8mb4: 1020 bytes.
        assert_eq!(
            resolve(0xce, 0xfc),
            Ok(ColumnKind::Fixed { bytes_max: 1020 })
        );
        assert_eq!(resolve(247, 2), Ok(ColumnKind::Enum { bytes: 2 }));
        assert_eq!(resolve(248, 8), Ok(ColumnKind::Set { bytes: 8 }));
        for bad in [(247, 3), (248, 9), (3, 4), (248, 0)] {
            assert!(resolve(bad.0, bad.1).is_err(), "{bad:?}");
        }
    }

    #[test]
    fn impossible_metadata_is_refused() {
        let bad = [
            (16, 0),
            (16, 8),
            (16, 0x0801),
            (17, 7),
            (245, 0),
            (246, 0x0500),
            (246, 66),
            (140, 0),
        ];
        for (code, meta) in bad {
            assert!(ColumnKind::resolve(code, meta).is_err(), "{code} {meta}");
        }
        let bits = ColumnKind::resolve(16, 0x0800).unwrap();
        assert_eq!(
            (bits, bits.width()),
            (ColumnKind::Bit { bits: 64 }, Width::Fixed(8))
        );
        let decimal = ColumnKind::resolve(246, 0x1e41).unwrap();
        assert_eq!(decimal.width(), Width::Fixed(30));
    }
}
