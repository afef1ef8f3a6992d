//! What a copy of tables needs of both sides: rows as a source had them at one moment, and what the
//! target notes of those that it has.

use std::{
    cmp::Reverse,
    collections::BTreeMap,
    future::Future,
    mem,
    sync::{Arc, atomic::AtomicBool},
};

use bytes::Bytes;
use dm_core::{
    error::Result,
    full::{Copied, KeyValue, Lines, Piece, PlainKey, Reading, Value, gaps},
    sync::{
        progress::Location,
        schema::{Table, TableName},
    },
};

/// Rows of a source as they were at one moment, or nearly.
pub struct Snapshot<R> {
    /// The binlog from here on is what the rows lack.
    pub from: Location,
    /// Where rows may have changes from behind `from`: before here. Nothing if there are none.
    pub until: Option<Location>,
    /// The tables, in order of their names.
    pub tables: Vec<SnapshotTable>,
    /// The views that are wanted, in order of their names.
    pub views: Vec<SnapshotView>,
    /// The connections that see it.
    pub readers: Vec<R>,
}

/// A table of a snapshot.
#[derive(Clone, Debug, PartialEq)]
pub struct SnapshotTable {
    /// Its definition.
    pub table: Table,
    /// About how many rows it has, as the source guesses.
    pub rows: u64,
    /// About how many bytes they have.
    pub bytes: u64,
}

/// A view of a snapshot.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct SnapshotView {
    /// Its name.
    pub name: TableName,
    /// The names of its columns, in order.
    pub columns: Vec<String>,
}

/// What something is made with.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Definition {
    /// The statement.
    pub sql: String,
    /// The time zone of the timestamps in it, as servers name them.
    pub time_zone: String,
}

/// Whoever knows what things of the source are made with.
pub trait Definer: Send {
    /// What a table or a view is made with, or the schema where it is a schema's name.
    ///
    /// # Errors
    /// 10001: the connection broke, and the snapshot with it. 32001: there is no such thing.
    fn definition(&mut self, name: &TableName) -> impl Future<Output = Result<Definition>> + Send;
}

/// A connection that sees a snapshot, which ends with it.
pub trait Reader: Definer + 'static {
    /// A row as it arrived.
    type Row: Row;

    /// Lets timestamps come in a time zone, as servers name them, instead of UTC.
    ///
    /// # Errors
    /// As [`Definer::definition`]. 32001: the source does not know it.
    fn set_time_zone(&mut self, zone: &str) -> impl Future<Output = Result<()>> + Send;

    /// Whether there is such a table now, as far as the user may know.
    ///
    /// # Errors
    /// As [`Definer::definition`]. 32001: the user may not know.
    fn is_there(&mut self, name: &TableName) -> impl Future<Output = Result<bool>> + Send;

    /// The keys of the first and the last row of a piece, if it has any.
    ///
    /// # Errors
    /// As [`Definer::definition`].
    fn ends(
        &mut self,
        reading: &Reading,
        piece: &Piece,
    ) -> impl Future<Output = Result<Option<(KeyValue, KeyValue)>>> + Send;

    /// The key of a row somewhere amid a piece, which has rows behind it, if one is easily found.
    /// The keys are that of its first row or what is before it, and that of its last one.
    ///
    /// # Errors
    /// As [`Definer::definition`].
    fn amid(
        &mut self,
        reading: &Reading,
        piece: &Piece,
        ends: (&KeyValue, &KeyValue),
    ) -> impl Future<Output = Result<Option<KeyValue>>> + Send;

    /// About how many rows a piece has, if the source has a guess.
    ///
    /// # Errors
    /// As [`Definer::definition`].
    fn estimate(
        &mut self,
        reading: &Reading,
        piece: &Piece,
    ) -> impl Future<Output = Result<Option<u64>>> + Send;

    /// Begins to read the rows of a piece, in the order of their key.
    ///
    /// # Errors
    /// 10001: the connection broke. 32001: the table is not what it was.
    fn read(&mut self, reading: &Reading, piece: &Piece)
    -> impl Future<Output = Result<()>> + Send;

    /// The next row. They are to be read to the end before anything else is asked.
    ///
    /// # Errors
    /// As [`Self::read`].
    fn next(&mut self) -> impl Future<Output = Result<Option<Self::Row>>> + Send;
}

/// A row as it arrived.
pub trait Row: Send {
    /// Its values.
    fn values(&self) -> impl Iterator<Item = Value<'_>> + Send;
}

/// What the target has noted of a copy.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Copy {
    /// The binlog from here on is what the rows lack.
    pub from: Location,
    /// Rows may have changes from behind `from`: before here. Nothing if there are none.
    pub until: Option<Location>,
    /// The server whose binlog `from` is of, if that is known.
    pub server: Option<String>,
    /// Whether the binlog from `from` on has all that changes, and can be applied.
    pub is_logged: bool,
    /// Whether it is over: nothing of it is left to do, and its pieces are forgotten.
    pub is_over: bool,
    /// The tables of the source.
    pub tables: BTreeMap<TableName, CopyTable>,
}

impl Copy {
    /// Whether all rows are there, and all keys.
    ///
    /// # Errors
    /// 34018: what is noted does not fit together.
    pub fn is_complete(&self) -> Result<bool> {
        for (name, table) in &self.tables {
            if self.is_over || table.is_gone {
                continue;
            }
            if !table.keys.is_empty() || !gaps(name, table.pieces.clone())?.is_empty() {
                return Ok(false);
            }
        }
        Ok(true)
    }

    /// Up to where the binlog makes rows of several moments those of one, if it is to.
    pub(crate) fn reconciled(&self) -> Option<&Location> {
        self.until.as_ref().filter(|_| self.is_logged)
    }

    /// Whether nobody else brings rows to where those of a table go, as far as this source is
    /// concerned.
    pub(crate) fn is_alone(&self, table: &CopyTable) -> bool {
        let same = self.tables.values();
        let same = same.filter(|it| !it.is_gone && it.target == table.target);
        table.is_made && same.count() == 1
    }

    /// Forgets which keys have to be made. Says of which tables, as the source calls them, the
    /// largest first.
    pub(crate) fn take_keys(&mut self) -> Vec<(TableName, Vec<PlainKey>)> {
        let tables = self.tables.iter_mut();
        let mut taken: Vec<_> = tables
            .filter(|(_, table)| !table.is_gone && !table.keys.is_empty())
            .map(|(name, table)| (table.bytes, (name.clone(), mem::take(&mut table.keys))))
            .collect();
        taken.sort_by_key(|(bytes, _)| Reverse(*bytes));
        taken.into_iter().map(|(_, keys)| keys).collect()
    }
}

/// What the target has noted of a table.
#[derive(Clone, Debug, PartialEq)]
pub struct CopyTable {
    /// The table of the target that has its rows.
    pub target: TableName,
    /// What its definition was, as [`dm_core::full::fingerprint`] says.
    pub definition: String,
    /// Stands for the character sets of its columns in the target, if it has texts.
    pub charsets: Option<String>,
    /// Where the binlog goes on behind its rows, if that is not where the copy began: what it says
    /// of the table before is in them, definitions included.
    pub place: Option<Location>,
    /// The latest snapshot that rows came from, if earlier ones have brought some as well. What the
    /// binlog has in between may give its name to another table, whose rows these are then.
    pub again: Option<Location>,
    /// Whether the source has no such table any more.
    pub is_gone: bool,
    /// Whether the copy has made the target's table, or is about to.
    pub is_made: bool,
    /// Keys that are made when its rows are there.
    pub keys: Vec<PlainKey>,
    /// The rows that are there.
    pub pieces: Vec<Copied>,
    /// How many these are.
    pub rows: u64,
    /// The size of the statements or lines that brought them, in bytes.
    pub bytes: u64,
}

/// Rows on their way into the target.
#[derive(Clone, Debug)]
pub struct Cargo {
    /// The slot that takes them.
    pub slot: u32,
    /// The step that the slot is at.
    pub seq: u64,
    /// Where the slot stays.
    pub at: Location,
    /// The table of the source.
    pub table: TableName,
    /// Which rows of it they are.
    pub copied: Copied,
    /// How many.
    pub rows: u64,
    /// Whether some have values that are invalid, as the source has them.
    pub lenient: bool,
    /// What writes them.
    pub body: Body,
}

/// What writes rows.
#[derive(Clone, Debug)]
pub enum Body {
    /// Statements, separated by `;`. Nothing if there are no rows.
    Statements(Vec<u8>),
    /// Lines, only for a target that [takes them](super::Target::takes_lines).
    Lines(Arc<TableLines>, Bytes),
}

impl Body {
    /// Its size, in bytes.
    #[must_use]
    pub fn size(&self) -> usize {
        match self {
            Self::Statements(sql) => sql.len(),
            Self::Lines(_, lines) => lines.len(),
        }
    }

    /// The lines, if there are any.
    #[must_use]
    pub fn lines(&self) -> &[u8] {
        match self {
            Self::Statements(_) => &[],
            Self::Lines(_, lines) => lines,
        }
    }
}

/// How the rows of a table become lines.
#[derive(Debug)]
pub struct TableLines {
    /// What is to be known of its columns.
    pub lines: Lines,
    /// Whether the target has warned of some that it took as a statement: it may well do so again.
    pub are_refused: AtomicBool,
}
