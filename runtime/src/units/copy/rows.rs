//! Rows of a snapshot, cut into pieces.

use std::{
    cmp::Reverse,
    mem,
    sync::{Arc, atomic::AtomicBool},
    time::Duration,
};

use dm_core::{
    binlog::Dialect,
    error::{Error, Result, code},
    full::{Copied, Gap, KeyValue, Lines, Piece, Reading, gaps},
    sync::schema::{Table, TableName},
};
use tokio::time::Instant;
use tracing::warn;

use super::{
    Failure, again,
    pieces::{AllLines, Feed, Out, Parcel, room},
    settings::Settings,
};
use crate::{
    memory::Large,
    ports::{
        Target,
        copy::{Copy, Reader, Row, SnapshotTable, TableLines},
    },
};

/// A table with more bytes than this is read by several connections, if its key allows that.
const SPLIT_BYTES: u64 = 64 << 20;
/// It is cut into parts of about so many bytes,
const PART_BYTES: u64 = 16 << 20;
/// as long as they are not more than this,
const PARTS_MAX: u64 = 64;
/// and as long as that does not take longer: a source that is far away answers slowly.
const DIVIDING_MAX: Duration = Duration::from_secs(2);

/// What all connections to a snapshot need to know.
pub(super) struct Shared {
    /// Bytes that a statement may have.
    room: usize,
    /// Of the target.
    dialect: Dialect,
    tables: Vec<SnapshotTable>,
    /// Where rows of each go, and with what their statements begin and end.
    targets: Vec<(TableName, &'static str, String)>,
    lines: AllLines,
}

/// A connection that sees a snapshot.
pub(super) struct SnapshotFeed<R> {
    pub(super) reader: R,
    pub(super) shared: Arc<Shared>,
}

/// How the rows of a table are written.
#[derive(Clone, Copy)]
enum Way<'a> {
    /// As a statement that begins and ends like this.
    Statement(&'a str, &'a str),
    Lines(&'a Lines),
}

/// A piece that is being read.
struct Open<'a, R> {
    way: Way<'a>,
    sql: Vec<u8>,
    /// What a statement with its rows takes, at most.
    bytes_max: usize,
    rows: u64,
    lenient: bool,
    last: Option<R>,
    large: Large,
}

impl<'a, R: Row> Open<'a, R> {
    /// One that will have about so many bytes, if that is known: to grow costs a copy.
    fn new(way: Way<'a>, bytes: usize) -> Self {
        let mut sql = Vec::with_capacity(bytes);
        if let Way::Statement(head, _) = way {
            sql.extend_from_slice(head.as_bytes());
        }
        Self {
            way,
            bytes_max: sql.len(),
            sql,
            rows: 0,
            lenient: false,
            last: None,
            large: None,
        }
    }

    fn add(&mut self, reading: &Reading, row: R) -> Result<(), Failure> {
        let is_whole = match self.way {
            Way::Statement(..) => {
                if self.rows > 0 {
                    self.sql.push(b',');
                }
                let is_whole = reading.write(row.values(), &mut self.sql);
                self.bytes_max = self.sql.len();
                is_whole
            }
            Way::Lines(lines) => {
                self.bytes_max += sql_bytes(&row);
                lines.write(row.values(), &mut self.sql)
            }
        };
        if !is_whole {
            let text = "a row of the source has not as many values as its table has columns";
            return Err(Failure::Other(Error::new(&code::DUMP_UNIT_RUNTIME, text)));
        }
        self.lenient |= reading.is_invalid(row.values());
        self.rows += 1;
        self.last = Some(row);
        Ok(())
    }

    fn parcel(self, table: usize, copied: Copied, is_last: bool) -> Parcel {
        let mut sql = if self.rows > 0 { self.sql } else { Vec::new() };
        if let (Way::Statement(_, tail), 1..) = (self.way, self.rows) {
            sql.extend_from_slice(tail.as_bytes());
        }
        Parcel {
            table,
            copied,
            rows: self.rows,
            bytes: sql.len() as u64,
            lenient: self.lenient,
            sql,
            large: self.large,
            is_last,
        }
    }
}

/// Upper bound of what a row becomes: escapes and digits double its values, and a
/// character of latin1 may take three bytes.
pub(in crate::units) fn sql_bytes(row: &impl Row) -> usize {
    row.values()
        .map(|value| value.map_or(0, <[u8]>::len) * 3 + 32)
        .sum()
}

/// What is left to read of tables, of which some pieces are there already: each by its number, the
/// largest first, since what comes last keeps all others waiting.
pub(in crate::units) async fn left<R: Reader>(
    mut reader: Option<&mut R>,
    tables: &[SnapshotTable],
    pieces: impl Fn(&TableName) -> Vec<Copied>,
) -> Result<Vec<(usize, Vec<Gap>)>, Failure> {
    let mut work = Vec::with_capacity(tables.len());
    for (index, table) in tables.iter().enumerate() {
        let name = &table.table.name;
        let mut left = gaps(name, pieces(name))?;
        if let Some(reader) = &mut reader {
            left = split(*reader, table, left).await?;
        }
        work.push((index, left));
    }
    work.sort_by_key(|(index, _)| Reverse(tables[*index].bytes));
    Ok(work)
}

/// Splits what is left of a large table, if its key allows that, so that several can read it.
async fn split<R: Reader>(
    reader: &mut R,
    table: &SnapshotTable,
    gaps: Vec<Gap>,
) -> Result<Vec<Gap>, Failure> {
    let reading = Reading::new(&table.table);
    let is_whole = gaps.iter().any(Gap::is_whole);
    if table.bytes <= SPLIT_BYTES || !is_whole || !reading.has_key() {
        return Ok(gaps);
    }
    let keys = match bounds(reader, &reading, table).await.map_err(again) {
        Ok(keys) => keys,
        // It can be read all the same.
        Err(Failure::Other(error)) => {
            warn!(table = %table.table.name, %error, "it is not divided");
            return Ok(gaps);
        }
        Err(failure) => return Err(failure),
    };
    let parts = |gap: Gap| gap.split(keys.clone());
    Ok(gaps.into_iter().flat_map(parts).collect())
}

/// Rows of a table that lie together.
struct Part {
    piece: Piece,
    /// The key of its first row or what is before it, and that of its last one.
    ends: (KeyValue, KeyValue),
    /// About how many, as far as it can be divided.
    rows: u64,
}

/// Keys, in order, between which parts of a table lie that have about as many rows each. The
/// largest one is divided, again and again: however rows lie along a key, most of them don't stay
/// together.
async fn bounds<R: Reader>(
    reader: &mut R,
    reading: &Reading,
    table: &SnapshotTable,
) -> Result<Vec<KeyValue>> {
    let whole = Piece::default();
    let Some(ends) = reader.ends(reading, &whole).await? else {
        return Ok(Vec::new());
    };
    let wanted = (table.bytes / PART_BYTES).clamp(2, PARTS_MAX);
    let rows_min = table.rows / wanted / 4;
    let mut parts = vec![Part {
        piece: whole,
        ends,
        rows: table.rows,
    }];
    let start = Instant::now();
    while (parts.len() as u64) < wanted && start.elapsed() < DIVIDING_MAX {
        let largest = parts.iter_mut().enumerate().max_by_key(|(_, it)| it.rows);
        let Some((index, part)) = largest.filter(|(_, it)| it.rows > rows_min) else {
            break;
        };
        let (low, high) = &part.ends;
        let Some(key) = reader.amid(reading, &part.piece, (low, high)).await? else {
            part.rows = 0;
            continue;
        };
        let whole = part.rows;
        let mut behind = Part {
            piece: Piece {
                after: Some(key.clone()),
                upto: part.piece.upto.replace(key.clone()),
            },
            ends: (key.clone(), mem::replace(&mut part.ends.1, key)),
            rows: 0,
        };
        for part in [&mut *part, &mut behind] {
            part.rows = reader.estimate(reading, &part.piece).await?.unwrap_or(0);
        }
        if part.rows + behind.rows < whole / 4 {
            // What contradicts the guess before is none.
            (part.rows, behind.rows) = (whole / 2, whole / 2);
        }
        parts.insert(index + 1, behind);
    }
    Ok(parts.into_iter().filter_map(|it| it.piece.upto).collect())
}

/// Whether a row that is read `again` may stand in the way of another: one that had its place in
/// another key than the one that all are read by.
pub(in crate::units) fn moves(table: &Table, again: bool) -> bool {
    again && table.unique_keys().count() > 1
}

fn no_row(table: &TableName) -> Error {
    let text = format!("a row for {table} has no key where it must have one");
    Error::new(&code::DUMP_UNIT_RUNTIME, text)
}

impl<R: Reader> Feed for SnapshotFeed<R> {
    fn lines(&self) -> AllLines {
        Arc::clone(&self.shared.lines)
    }

    async fn read(&mut self, table: usize, mut gap: Gap, out: &Out) -> Result<(), Failure> {
        let Self { reader, shared } = self;
        let reading = Reading::for_target(&shared.tables[table].table, shared.dialect);
        reader.read(&reading, &gap.piece).await.map_err(again)?;
        let (target, verb, tail) = &shared.targets[table];
        let head = reading.insert(verb, &target.to_string());
        let way = match &shared.lines[table] {
            Some(lines) => Way::Lines(&lines.lines),
            None => Way::Statement(&head, tail),
        };
        let mut open = Open::new(way, 0);
        let mut number = 0;
        while let Some(row) = reader.next().await.map_err(again)? {
            let bytes = sql_bytes(&row);
            if open.rows > 0 && open.bytes_max + bytes > shared.room {
                shared
                    .cut(&mut open, (table, &reading), &mut gap, &mut number, out)
                    .await?;
            }
            out.wait_for_room(bytes, &mut open.large).await;
            open.add(&reading, row)?;
            if open.sql.len() >= out.piece_bytes() {
                shared
                    .cut(&mut open, (table, &reading), &mut gap, &mut number, out)
                    .await?;
            }
        }
        out.send(open.parcel(table, gap.rest(), true)).await;
        Ok(())
    }
}

impl Shared {
    /// For tables of which this is noted.
    ///
    /// # Errors
    /// Those of the target.
    pub(super) async fn new(
        target: &impl Target,
        settings: &Settings,
        tables: Vec<SnapshotTable>,
        copy: &Copy,
    ) -> Result<Self> {
        let mut lines = Vec::with_capacity(tables.len());
        let mut targets = Vec::with_capacity(tables.len());
        let takes_lines = target.takes_lines().await?;
        let again = copy.until.is_some();
        for SnapshotTable { table, .. } in &tables {
            // There is an entry for each.
            let noted = &copy.tables[&table.name];
            let (name, is_alone) = (&noted.target, copy.is_alone(noted) && !moves(table, again));
            let (verb, tail) = (settings.verb(again, is_alone), settings.tail(Some(table)));
            targets.push((name.clone(), verb, tail));
            let found = match settings.replaces(again, is_alone) {
                Some(replaces) if takes_lines => {
                    target.table(name).await?.map(|there| (there, replaces))
                }
                _ => None,
            };
            let found = found.and_then(|(there, replaces)| Lines::new(table, &there, replaces));
            lines.push(found.map(|lines| {
                Arc::new(TableLines {
                    lines,
                    are_refused: AtomicBool::new(false),
                })
            }));
        }
        Ok(Self {
            room: room(target),
            dialect: target.dialect(),
            tables,
            targets,
            lines: lines.into(),
        })
    }

    /// Sends what is open, if the gap can be cut here.
    async fn cut<R: Row>(
        &self,
        open: &mut Open<'_, R>,
        (table, reading): (usize, &Reading),
        gap: &mut Gap,
        number: &mut u64,
        out: &Out,
    ) -> Result<(), Failure> {
        let Some(last) = &open.last else {
            return Ok(());
        };
        let key = if reading.has_key() {
            reading.key_of(last.values())
        } else {
            // Nobody goes on from here: it only tells that the table has more rows.
            *number += 1;
            Some(KeyValue(vec![number.to_string()]))
        };
        let Some(key) = key else {
            return Err(Failure::Other(no_row(&self.targets[table].0)));
        };
        let Some(copied) = gap.cut(key) else {
            return Ok(());
        };
        // A piece ends behind the row that it has too much of.
        let next = Open::new(open.way, out.piece_bytes() / 8 * 9);
        let full = mem::replace(open, next);
        out.send(full.parcel(table, copied, false)).await;
        Ok(())
    }
}
