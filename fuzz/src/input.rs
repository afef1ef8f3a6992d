//! Takes the input of a target apart.

use dm_core::binlog::{Charset, ColumnHint, Dialect, Flavor, Form, KeyFold};

/// Bytes that are still to be used. Behind their end everything is zero or empty.
pub(crate) struct Input<'a>(&'a [u8]);

impl<'a> Input<'a> {
    pub(crate) fn new(data: &'a [u8]) -> Self {
        Self(data)
    }

    /// At most `len` bytes.
    pub(crate) fn bytes(&mut self, len: usize) -> &'a [u8] {
        let (bytes, rest) = self.0.split_at(len.min(self.0.len()));
        self.0 = rest;
        bytes
    }

    pub(crate) fn rest(&mut self) -> &'a [u8] {
        self.bytes(usize::MAX)
    }

    pub(crate) fn u8(&mut self) -> u8 {
        self.bytes(1).first().copied().unwrap_or_default()
    }

    pub(crate) fn u16(&mut self) -> u16 {
        u16::from_le_bytes([self.u8(), self.u8()])
    }

    /// What the target of a column knows, in two bytes.
    pub(crate) fn hint(&mut self) -> ColumnHint {
        let (a, b) = (self.u8(), self.u8());
        ColumnHint {
            dialect: match a & 3 {
                0 => Dialect::MySql,
                1 => Dialect::MariaDb,
                _ => Dialect::TiDb,
            },
            unsigned: a & 4 != 0,
            charset: match b >> 4 & 7 {
                0 => Charset::Utf8,
                1 => Charset::Binary,
                2 => Charset::Latin1,
                3 => Charset::Other("gbk"),
                4 => Charset::Other("koi8r"),
                _ => Charset::Wide("utf16"),
            },
            binary_len: (a & 8 != 0).then_some(16),
            form: match a >> 4 & 7 {
                0 | 1 => Form::Plain,
                2 => Form::Json,
                3 => Form::Vector,
                4 => Form::Uuid,
                5 => Form::Inet4,
                _ => Form::Inet6,
            },
            fold: match b & 7 {
                0 => KeyFold::Bytes,
                1 => KeyFold::Trimmed,
                2 => KeyFold::Alike,
                bits => KeyFold::Text {
                    letters: bits & 1 != 0,
                    supplementary_alike: bits & 2 != 0,
                },
            },
        }
    }
}

/// The flavor that a bit stands for.
pub(crate) fn flavor(bits: u8) -> Flavor {
    match bits & 1 {
        0 => Flavor::Mysql,
        _ => Flavor::Mariadb,
    }
}
