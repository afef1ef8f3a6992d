//! Reads the files of tables for the connections that load them, in pieces.

use std::{mem, sync::Arc};

use dm_core::{
    error::{Error, Result, code},
    full::{Copied, Gap, Insert, KeyValue, Loading, Piece, Preamble, Tuples},
    sync::schema::{Quoted, TableName},
};

use super::{
    super::dir::{DumpDir, Packed},
    plan::others,
};
use crate::{
    memory::Large,
    ports::disk::Disk,
    units::copy::{
        Failure,
        pieces::{Feed, Out, Parcel},
    },
};

/// The files of a table are loaded in so many parts at the same time, at most.
const PARTS: usize = 100;
/// Sessions for rows are like this.
const BACK: &str = ";SET NAMES utf8mb4;SET SESSION time_zone='+00:00'";

/// What all connections need to know.
pub(super) struct Shared<D> {
    pub(super) dir: DumpDir<D>,
    /// Bytes that a statement may have.
    pub(super) room: usize,
    pub(super) tables: Vec<LoadTable>,
}

/// A place between two rows of a table.
#[derive(Clone, Copy, Default)]
struct Place {
    /// The number of a file.
    file: usize,
    /// An offset in what it has when it is unpacked.
    at: u64,
}

/// A table that rows of files go into.
pub(super) struct LoadTable {
    pub(super) name: TableName,
    pub(super) target: TableName,
    /// What statements begin with.
    pub(super) verb: &'static str,
    /// What statements end with.
    pub(super) tail: String,
    /// What must be known of the target's table.
    pub(super) loading: Loading,
    /// The columns of rows whose statement names none, as far as the table's definition is
    /// understood: the target may have the table already, with columns in another order.
    pub(super) columns: Option<Vec<Vec<u8>>>,
    /// The time zone of its timestamps, where files do not say it.
    pub(super) time_zone: String,
    pub(super) files: Vec<Packed>,
}

impl LoadTable {
    /// Where the parts end that are loaded at the same time: at the beginning of files.
    pub(super) fn bounds(&self) -> Vec<KeyValue> {
        let part = self.files.len().div_ceil(PARTS).max(1);
        let firsts = self.files.iter().step_by(part).skip(1);
        firsts.map(|file| place(&file.name, 0)).collect()
    }

    /// The place that a bound names.
    fn place_of(&self, key: &KeyValue) -> Option<Place> {
        let [name, at] = &*key.0 else {
            return None;
        };
        let file = self.files.iter().position(|file| file.name == *name)?;
        let at = at.parse().ok()?;
        Some(Place { file, at })
    }

    /// From where to where a piece goes; to the end of the last file without a second place.
    fn range(&self, piece: &Piece) -> Result<(Place, Option<Place>)> {
        let known = |key: &KeyValue| self.place_of(key).ok_or_else(|| others(&self.name));
        let from = piece.after.as_ref().map(known).transpose()?;
        let to = piece.upto.as_ref().map(known).transpose()?;
        Ok((from.unwrap_or_default(), to))
    }

    /// About how many bytes a piece has.
    pub(super) fn left(&self, piece: &Piece) -> u64 {
        let Ok((from, to)) = self.range(piece) else {
            return 0;
        };
        let end = Place {
            file: self.files.len(),
            at: 0,
        };
        let before = |place: Place| {
            let whole: u64 = self.files.iter().take(place.file).map(|it| it.bytes).sum();
            let file = self.files.get(place.file);
            whole + file.map_or(0, |file| file.bytes_before(place.at))
        };
        before(to.unwrap_or(end)).saturating_sub(before(from))
    }
}

fn place(file: &str, at: u64) -> KeyValue {
    KeyValue(vec![file.to_owned(), at.to_string()])
}

/// Reads files for one connection.
pub(super) struct FileFeed<D>(pub(super) Arc<Shared<D>>);

/// How the literals of a piece read.
#[derive(Clone, Default, PartialEq)]
struct Head {
    columns: Option<Vec<Vec<u8>>>,
    preamble: Preamble,
}

/// A piece that is being read.
#[derive(Default)]
struct Open {
    head: Head,
    sql: Vec<u8>,
    rows: u64,
    lenient: bool,
    /// Where its last row ends.
    end: Place,
    large: Large,
}

/// What is being read: a table, its gap, and what is on the way.
struct Reading<'a, D> {
    shared: &'a Shared<D>,
    number: usize,
    gap: Gap,
    open: Open,
    /// Bytes of files that are read and not sent.
    bytes: u64,
    out: &'a Out,
}

impl<D: Disk> Feed for FileFeed<D> {
    async fn read(&mut self, table: usize, gap: Gap, out: &Out) -> Result<(), Failure> {
        let shared = &*self.0;
        let known = &shared.tables[table];
        let (from, to) = known.range(&gap.piece)?;
        let mut reading = Reading {
            shared,
            number: table,
            gap,
            open: Open::default(),
            bytes: 0,
            out,
        };
        for (index, file) in known.files.iter().enumerate().skip(from.file) {
            let begin = if index == from.file { from.at } else { 0 };
            let end = match to {
                Some(to) if to.file == index => to.at,
                Some(to) if to.file < index => break,
                _ => u64::MAX,
            };
            if end > 0 {
                reading.file((index, file), begin, end).await?;
            }
        }
        let Reading {
            gap, open, bytes, ..
        } = reading;
        let tail = &shared.tables[table].tail;
        out.send(open.parcel((table, tail), gap.rest(), bytes, true))
            .await;
        Ok(())
    }
}

impl<D: Disk> Reading<'_, D> {
    /// Takes the rows of a file that lie behind one place and before another.
    async fn file(
        &mut self,
        (index, file): (usize, &Packed),
        begin: u64,
        end: u64,
    ) -> Result<(), Failure> {
        let table = &self.shared.tables[self.number];
        let mut statements = self.shared.dir.statements(file).await?;
        // What lies before was counted when it was loaded.
        let mut read = file.bytes_before(begin);
        let mut preamble = Preamble::default();
        while let Some(statement) = statements.next(Some(self.out)).await? {
            if statement.at >= end {
                break;
            }
            let behind = statements.read_bytes().max(read);
            self.bytes += behind - mem::replace(&mut read, behind);
            let Some(insert) = Insert::parse(&statement.text, true)? else {
                if !preamble.take(&statement.text)? {
                    return Err(Failure::Other(unknown(file, &statement.text)));
                }
                continue;
            };
            let name = String::from_utf8_lossy(&insert.table.1).to_lowercase();
            if name != table.name.table.to_lowercase() {
                return Err(Failure::Other(unknown(file, &statement.text)));
            }
            // Of what is computed, a row has nothing or `DEFAULT`.
            let by_definition = table.columns.as_ref().filter(|columns| {
                insert.columns.is_none() && columns.len() == insert.width(&statement.text, true)
            });
            let head = Head {
                columns: by_definition.cloned().or(insert.columns),
                preamble: preamble.clone(),
            };
            let tuples = table.loading.tuples(head.columns.as_deref(), &preamble);
            if self.open.head != head {
                self.cut().await;
            }
            for row in insert.rows {
                let ends = statement.at + row.end as u64;
                if ends <= begin {
                    continue;
                }
                if ends > end {
                    return Ok(());
                }
                let end = Place {
                    file: index,
                    at: ends,
                };
                self.row(&head, &tuples, &statement.text[row], end).await;
            }
            if statement.large.is_some() {
                // It goes with what was cut of it last, and never while another one is waited for.
                self.open.large = statement.large;
                self.cut().await;
                self.open.large = None;
            }
        }
        self.bytes += statements.read_bytes().saturating_sub(read);
        Ok(())
    }

    async fn row(&mut self, head: &Head, tuples: &Tuples, row: &[u8], end: Place) {
        let len = self.open.sql.len();
        let is_full = len >= self.out.piece_bytes()
            || len + row.len() + tuples.more_bytes() > self.shared.room;
        if is_full {
            self.cut().await;
        }
        let open = &mut self.open;
        if open.rows == 0 || open.head != *head {
            if open.rows > 0 {
                // There was no room for a cut.
                open.sql
                    .extend_from_slice(self.shared.tables[self.number].tail.as_bytes());
                open.sql.push(b';');
            }
            open.head = head.clone();
            self.shared.begin(head, self.number, &mut open.sql);
        } else {
            open.sql.push(b',');
        }
        open.lenient |= tuples.write(row, true, &mut open.sql);
        open.rows += 1;
        open.end = end;
    }

    /// Sends what is open, if the gap can be cut here.
    async fn cut(&mut self) {
        if self.open.rows == 0 {
            return;
        }
        let Place { file, at } = self.open.end;
        let name = &self.shared.tables[self.number].files[file].name;
        if let Some(copied) = self.gap.cut(place(name, at)) {
            let open = mem::take(&mut self.open);
            let bytes = mem::take(&mut self.bytes);
            let tail = &self.shared.tables[self.number].tail;
            let parcel = open.parcel((self.number, tail), copied, bytes, false);
            self.out.send(parcel).await;
        }
    }
}

impl Open {
    fn parcel(
        self,
        (table, tail): (usize, &str),
        copied: Copied,
        bytes: u64,
        is_last: bool,
    ) -> Parcel {
        let mut sql = self.sql;
        if self.rows > 0 {
            sql.extend_from_slice(tail.as_bytes());
            sql.extend_from_slice(BACK.as_bytes());
        }
        Parcel {
            table,
            copied,
            rows: self.rows,
            bytes,
            lenient: self.lenient,
            sql,
            large: self.large,
            is_last,
        }
    }
}

impl<D> Shared<D> {
    /// Appends what a statement begins with, up to its first row.
    fn begin(&self, Head { columns, preamble }: &Head, table: usize, sql: &mut Vec<u8>) {
        let charset = preamble.charset.as_deref().unwrap_or("utf8mb4");
        let table = &self.tables[table];
        let zone = preamble.time_zone.as_deref().unwrap_or(&table.time_zone);
        let names = columns.iter().map(|columns| {
            let names = columns.iter().map(|name| String::from_utf8_lossy(name));
            let names: Vec<_> = names.map(|name| Quoted(&name).to_string()).collect();
            format!(" ({})", names.join(","))
        });
        let text = format!(
            "SET NAMES {charset};SET SESSION time_zone='{zone}';{} INTO {}{} VALUES\n",
            table.verb,
            table.target,
            names.collect::<String>()
        );
        sql.extend_from_slice(text.as_bytes());
    }
}

fn unknown(file: &Packed, statement: &[u8]) -> Error {
    /// So much of a statement tells which one it is.
    const SHOWN: usize = 80;
    let shown = &statement[..statement.len().min(SHOWN)];
    let text = format!(
        "parse statement: the dump file {} is to have rows of its table only: {}",
        file.name,
        String::from_utf8_lossy(shown).trim()
    );
    Error::new(&code::PARSE_SQL, text)
        .with_workaround("Execute the statement yourself and remove it from the file.")
}

#[cfg(test)]
mod tests;
