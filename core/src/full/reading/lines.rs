//! Rows as lines that `LOAD DATA` takes, which costs a server much less than statements do.
//!
//! A line has the bytes of the values as the source stores them, so it makes the same values only
//! where a column of the target is of the source's kind and in its character set. Tables with other
//! columns are left to statements. So are rows that a server has warned of: with `LOCAL` it changes
//! what it should refuse, and only a statement says what is wrong.

use alloc::{format, string::String, vec::Vec};
use core::ops::Range;

use memchr::memchr3;

use super::{Column, Reading, Value, list};
use crate::sync::schema::{ColumnInfo, Quoted, Table};

/// How rows of a table become lines, and statements again.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Lines {
    reading: Reading,
    load: String,
    insert: String,
}

/// How a field of a line becomes a value.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
enum Way {
    /// As it is.
    Bytes,
    /// As text, which servers don't take bytes for.
    Text,
    /// As a number, which it would not be where a member of an ENUM has that name.
    Number,
}

impl Lines {
    /// Of a table of the source, for one of the target. `replaces` lets rows take the place of
    /// those that have their keys. `None` where only a statement makes the same values.
    #[must_use]
    pub fn new(source: &Table, target: &Table, replaces: bool) -> Option<Self> {
        let reading = Reading::new(source);
        let same = |a: &ColumnInfo, b: &ColumnInfo| a.name.to_lowercase() == b.name.to_lowercase();
        let written = source.columns.iter().filter(|column| !column.generated);
        // A column that gets no value must not need one: lines would give it any.
        let mut others = target.columns.iter().filter(|column| {
            !column.generated && !written.clone().any(|other| same(other, column))
        });
        if reading.columns.is_empty() || others.any(|column| !column.nullable) {
            return None;
        }
        let (mut fields, mut values) = (Vec::new(), Vec::new());
        for (index, (column, info)) in reading.columns.iter().zip(written.clone()).enumerate() {
            let there = target.columns.iter().find(|other| same(info, other))?;
            if info.nullable && !there.nullable {
                // A TIMESTAMP would get the time of day for NULL, and nobody would be warned.
                return None;
            }
            let name = Quoted(&column.name);
            let value = match way(column, info, there)? {
                Way::Bytes => {
                    fields.push(format!("{name}"));
                    continue;
                }
                Way::Text => format!("CONVERT(@dm{index} USING utf8mb4)"),
                Way::Number => format!("CAST(@dm{index} AS UNSIGNED)"),
            };
            fields.push(format!("@dm{index}"));
            values.push(format!("{name}={value}"));
        }
        let (duplicates, verb) = match replaces {
            true => (" REPLACE", "REPLACE"),
            false => ("", "INSERT"),
        };
        let into = format!("{}", target.name);
        // A server may have other defaults than these.
        let mut load = format!(
            "LOAD DATA LOCAL INFILE 'rows'{duplicates} INTO TABLE {into} CHARACTER SET binary \
             FIELDS TERMINATED BY '\\t' ENCLOSED BY '' ESCAPED BY '\\\\' \
             LINES STARTING BY '' TERMINATED BY '\\n' ({})",
            list(fields.into_iter())
        );
        if !values.is_empty() {
            load.push_str(" SET ");
            load.push_str(&list(values.into_iter()));
        }
        Some(Self {
            insert: reading.insert(verb, &into),
            load,
            reading,
        })
    }

    /// The statement that asks for the lines.
    #[must_use]
    pub fn load(&self) -> &str {
        &self.load
    }

    /// Appends a row as a line. Returns whether it has as many values as it must.
    #[must_use]
    pub fn write<'a>(&self, values: impl Iterator<Item = Value<'a>>, lines: &mut Vec<u8>) -> bool {
        let mut values = values.fuse();
        for index in 0..self.reading.columns.len() {
            if index > 0 {
                lines.push(b'\t');
            }
            match values.next() {
                Some(Some(value)) => escape(value, lines),
                Some(None) => lines.extend_from_slice(b"\\N"),
                None => return false,
            }
        }
        lines.push(b'\n');
        values.next().is_none()
    }

    /// Appends a statement that writes the first rows of lines: so many that it has `bytes_min`,
    /// or all. Returns the other lines, or nothing if these are not whole.
    #[must_use]
    pub fn statement<'a>(
        &self,
        lines: &'a [u8],
        bytes_min: usize,
        sql: &mut Vec<u8>,
    ) -> Option<&'a [u8]> {
        let end = sql.len().saturating_add(bytes_min);
        sql.extend_from_slice(self.insert.as_bytes());
        let (mut row, mut bytes) = (Row::default(), lines.iter());
        let mut is_first = true;
        while let Some(&byte) = bytes.next() {
            match (byte, row.is_null) {
                (b'\t', _) => row.end_value(),
                (b'\n', _) => {
                    row.end_value();
                    if !is_first {
                        sql.push(b',');
                    }
                    is_first = false;
                    if !self.reading.write(row.values(), sql) {
                        return None;
                    }
                    row.clear();
                    if sql.len() >= end {
                        return Some(bytes.as_slice());
                    }
                }
                (_, true) => return None,
                (b'\\', false) => match bytes.next() {
                    Some(b'N') => row.is_null = true,
                    Some(b't') => row.text.push(b'\t'),
                    Some(b'n') => row.text.push(b'\n'),
                    Some(b'\\') => row.text.push(b'\\'),
                    _ => return None,
                },
                (byte, false) => row.text.push(byte),
            }
        }
        row.is_empty().then_some(&[])
    }
}

/// A line that is being read.
#[derive(Default)]
struct Row {
    /// The values, one behind the other.
    text: Vec<u8>,
    /// Where each is in the text; `None` is NULL.
    values: Vec<Option<Range<usize>>>,
    begin: usize,
    is_null: bool,
}

impl Row {
    fn end_value(&mut self) {
        let range = self.begin..self.text.len();
        self.values.push((!self.is_null).then_some(range));
        (self.begin, self.is_null) = (self.text.len(), false);
    }

    fn values(&self) -> impl Iterator<Item = Value<'_>> {
        let value = |range: &Option<Range<usize>>| {
            let range = range.clone()?;
            self.text.get(range)
        };
        self.values.iter().map(value)
    }

    fn clear(&mut self) {
        self.text.clear();
        self.values.clear();
        self.begin = 0;
    }

    fn is_empty(&self) -> bool {
        self.text.is_empty() && self.values.is_empty() && !self.is_null
    }
}

/// Appends a value so that it ends neither its field nor its line.
fn escape(value: &[u8], lines: &mut Vec<u8>) {
    lines.reserve(value.len() + 1);
    let mut rest = value;
    while let Some(at) = memchr3(b'\t', b'\n', b'\\', rest) {
        let (before, from) = rest.split_at(at);
        lines.extend_from_slice(before);
        if let Some((byte, behind)) = from.split_first() {
            lines.extend_from_slice(match byte {
                b'\t' => b"\\t",
                b'\n' => b"\\n",
                _ => b"\\\\",
            });
            rest = behind;
        }
    }
    lines.extend_from_slice(rest);
}

/// How values of a column become the same in the target, if bytes can.
fn way(column: &Column, source: &ColumnInfo, target: &ColumnInfo) -> Option<Way> {
    let in_utf8 = |info: &ColumnInfo| {
        let charset = info.charset.as_deref().map(charset);
        matches!(charset, Some("utf8mb4" | "utf8mb3" | "ascii"))
    };
    let (from, to) = (kind(&source.type_name)?, kind(&target.type_name)?);
    let is_one_charset = match (&source.charset, &target.charset) {
        (Some(from), Some(to)) => {
            charset(from) == charset(to) || in_utf8(source) && charset(to) == "utf8mb4"
        }
        (from, to) => from == to,
    };
    match (from, to) {
        (Kind::Described, Kind::Described) if source.type_name == target.type_name => {
            Some(Way::Text)
        }
        (Kind::Text, Kind::Described) if target.type_name == "json" && in_utf8(source) => {
            Some(Way::Text)
        }
        (Kind::Described, Kind::Text) if source.type_name == "json" => {
            (target.charset.as_deref() == Some("utf8mb4")).then_some(Way::Bytes)
        }
        (Kind::Members, Kind::Members) if source.type_name == target.type_name => {
            // Members are read by number where one is empty.
            match column.suffix {
                "" => is_one_charset.then_some(Way::Bytes),
                _ => Some(Way::Number),
            }
        }
        (Kind::Text, Kind::Text) => is_one_charset.then_some(Way::Bytes),
        (Kind::Whole, Kind::Whole) | (Kind::Binary, Kind::Binary) => Some(Way::Bytes),
        (Kind::Own, Kind::Own) if one_name(&source.type_name) == one_name(&target.type_name) => {
            Some(Way::Bytes)
        }
        _ => None,
    }
}

/// Types of which each takes the other's values.
#[derive(Clone, Copy, Eq, PartialEq)]
enum Kind {
    Whole,
    Text,
    Binary,
    Members,
    /// Has a text of its own, which is not what the server stores.
    Described,
    /// Takes its own only.
    Own,
}

fn kind(type_name: &str) -> Option<Kind> {
    Some(match type_name {
        "tinyint" | "smallint" | "mediumint" | "int" | "bigint" => Kind::Whole,
        "char" | "varchar" | "tinytext" | "text" | "mediumtext" | "longtext" => Kind::Text,
        "binary" | "varbinary" | "tinyblob" | "blob" | "mediumblob" | "longblob" => Kind::Binary,
        "enum" | "set" => Kind::Members,
        "json" | "uuid" | "inet4" | "inet6" => Kind::Described,
        "decimal" | "float" | "double" | "bit" | "date" | "time" | "datetime" | "timestamp"
        | "year" | "geometry" | "point" | "linestring" | "polygon" | "multipoint"
        | "multilinestring" | "multipolygon" | "geometrycollection" | "geomcollection"
        | "vector" => Kind::Own,
        // Nobody knows.
        _ => return None,
    })
}

fn one_name(type_name: &str) -> &str {
    match type_name {
        "geomcollection" => "geometrycollection",
        other => other,
    }
}

fn charset(name: &str) -> &str {
    match name {
        "utf8" => "utf8mb3",
        other => other,
    }
}

#[cfg(test)]
mod tests;
