//! Readers and writers in pairs: what is read of a table is cut into pieces, and each is written
//! while the next one is read.

use std::{
    collections::VecDeque,
    future::pending,
    mem,
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicUsize, Ordering::Relaxed},
    },
};

use dm_core::{
    error::{Error, code},
    full::{Copied, Gap, KeyValue, Reading},
    sync::{
        progress::{Location, SlotProgress},
        schema::TableName,
    },
};
use tokio::sync::mpsc;

use super::{CopyFacts, Failure, again};
use crate::{
    panics::caught,
    ports::{
        Target,
        copy::{Cargo, Reader, Row, SnapshotTable},
    },
    units::{tasks::Tasks, writer::Writer},
};

/// A piece has at least so many bytes, unless its table ends.
const PIECE_BYTES: usize = if cfg!(madsim) { 60 } else { 1 << 20 };
/// A table with more bytes than this is read by several connections, if its key allows that.
const SPLIT_BYTES: u64 = 64 << 20;
/// Into so many parts it is cut, which may be of very different sizes.
const PARTS: usize = 64;
/// What a packet has besides rows.
const PACKET_BYTES_RESERVED: usize = 256 << 10;

/// What is left to read: tables by number, each with its gaps.
pub(super) struct Work {
    queue: Mutex<VecDeque<(usize, Gap)>>,
    /// How many gaps each table has.
    left: Vec<(usize, AtomicUsize)>,
}

impl Work {
    /// The largest tables should come first: what comes last keeps all others waiting.
    pub(super) fn new(tables: Vec<(usize, Vec<Gap>)>) -> Self {
        let count = |(table, gaps): &(usize, Vec<Gap>)| (*table, AtomicUsize::new(gaps.len()));
        let left = tables.iter().map(count);
        Self {
            left: left.collect(),
            queue: Mutex::new(
                tables
                    .into_iter()
                    .flat_map(|(table, gaps)| gaps.into_iter().map(move |gap| (table, gap)))
                    .collect(),
            ),
        }
    }

    fn next(&self) -> Option<(usize, Gap)> {
        self.queue().pop_front()
    }

    /// A gap is closed. Whether it was the table's last one.
    fn close(&self, table: usize) -> bool {
        let left = self.left.iter().find(|(it, _)| *it == table);
        left.is_some_and(|(_, left)| left.fetch_sub(1, Relaxed) == 1)
    }

    fn queue(&self) -> MutexGuard<'_, VecDeque<(usize, Gap)>> {
        // Each change is one call: whoever panicked left nothing half-done.
        self.queue.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// What readers and writers have in common.
pub(super) struct Pieces {
    pub(super) facts: Arc<CopyFacts>,
    /// Where the slots stay.
    pub(super) at: Location,
    /// What statements begin with.
    pub(super) verb: &'static str,
    pub(super) packet_bytes_max: usize,
    pub(super) tables: Vec<SnapshotTable>,
    /// The table of the target for each.
    pub(super) targets: Vec<TableName>,
    pub(super) work: Work,
}

/// A piece on its way from a reader to its writer.
struct Parcel {
    table: usize,
    copied: Copied,
    rows: u64,
    lenient: bool,
    sql: Vec<u8>,
    /// Whether its gap is closed with it.
    is_last: bool,
}

/// A piece that is being read.
struct Open<'a, R> {
    /// What its statement begins with.
    head: &'a str,
    sql: Vec<u8>,
    rows: u64,
    lenient: bool,
    last: Option<R>,
}

impl<'a, R: Row> Open<'a, R> {
    fn new(head: &'a str) -> Self {
        Self {
            head,
            sql: head.as_bytes().to_vec(),
            rows: 0,
            lenient: false,
            last: None,
        }
    }

    fn add(&mut self, reading: &Reading, row: R) -> Result<(), Failure> {
        if self.rows > 0 {
            self.sql.push(b',');
        }
        if !reading.write(row.values(), &mut self.sql) {
            let text = "a row of the source has not as many values as its table has columns";
            return Err(Failure::Other(Error::new(&code::DUMP_UNIT_RUNTIME, text)));
        }
        self.lenient |= reading.is_invalid(row.values());
        self.rows += 1;
        self.last = Some(row);
        Ok(())
    }

    fn parcel(self, table: usize, copied: Copied, is_last: bool) -> Parcel {
        Parcel {
            table,
            copied,
            rows: self.rows,
            lenient: self.lenient,
            sql: if self.rows > 0 { self.sql } else { Vec::new() },
            is_last,
        }
    }
}

/// Upper bound of what a row becomes: escapes and digits double its values.
fn sql_bytes(row: &impl Row) -> usize {
    row.values()
        .map(|value| value.map_or(0, <[u8]>::len) * 2 + 32)
        .sum()
}

/// Splits what is left of a large table, if its key allows that, so that several can read it.
pub(super) async fn split<R: Reader>(
    reader: &mut R,
    table: &SnapshotTable,
    gaps: Vec<Gap>,
) -> Result<Vec<Gap>, Failure> {
    if table.bytes <= SPLIT_BYTES {
        return Ok(gaps);
    }
    let reading = Reading::new(&table.table);
    let Some(bounds) = reader.range(&reading).await.map_err(again)? else {
        return Ok(gaps);
    };
    let parts = |gap: Gap| gap.split(bounds_between(bounds));
    Ok(gaps.into_iter().flat_map(parts).collect())
}

/// Keys between two bounds, as far as there are enough values to tell apart.
fn bounds_between((low, high): (i128, i128)) -> Vec<KeyValue> {
    let parts = PARTS as i128;
    if high.saturating_sub(low) < parts * parts {
        return Vec::new();
    }
    let key = |part: i128| KeyValue(vec![(low + (high - low) / parts * part).to_string()]);
    (1..parts).map(key).collect()
}

fn no_row(table: &TableName) -> Error {
    let text = format!("a row for {table} has no key where it must have one");
    Error::new(&code::DUMP_UNIT_RUNTIME, text)
}

impl Pieces {
    /// Starts a reader and a writer for each connection. Says how each pair ended.
    pub(super) fn start<R: Reader, T: Target>(
        self,
        tasks: &mut Tasks,
        readers: Vec<R>,
        target: &Arc<T>,
        progress: Vec<SlotProgress>,
    ) -> mpsc::UnboundedReceiver<Result<(), Failure>> {
        let this = Arc::new(self);
        let (done, ended) = mpsc::unbounded_channel();
        for (mut reader, slot) in readers.into_iter().zip(progress) {
            // One is written while the next one is read.
            let (out, parcels) = mpsc::channel(1);
            let (pieces, failed) = (Arc::clone(&this), done.clone());
            tasks.start(async move {
                let read = caught(pieces.read(&mut reader, &out)).await;
                if let Err(failure) = read.unwrap_or_else(|panic| Err(Failure::Other(panic))) {
                    // Nobody listens any more where another pair has failed.
                    let _ = failed.send(Err(failure));
                    // The writer must not take it for the end.
                    pending::<()>().await;
                }
            });
            let writer = Writer::new(Arc::clone(target), slot.slot);
            let (pieces, done) = (Arc::clone(&this), done.clone());
            tasks.start(async move {
                let written = caught(pieces.write(writer, &slot, parcels)).await;
                let _ = done.send(written.unwrap_or_else(|panic| Err(Failure::Other(panic))));
            });
        }
        ended
    }

    /// Reads what is left, until nothing is.
    async fn read<R: Reader>(
        &self,
        reader: &mut R,
        out: &mpsc::Sender<Parcel>,
    ) -> Result<(), Failure> {
        while let Some((table, gap)) = self.work.next() {
            let reading = Reading::new(&self.tables[table].table);
            self.read_gap(reader, (table, &reading), gap, out).await?;
        }
        Ok(())
    }

    async fn read_gap<R: Reader>(
        &self,
        reader: &mut R,
        (table, reading): (usize, &Reading),
        mut gap: Gap,
        out: &mpsc::Sender<Parcel>,
    ) -> Result<(), Failure> {
        reader.read(reading, &gap.piece).await.map_err(again)?;
        let head = reading.insert(self.verb, &self.targets[table].to_string());
        let room = self.packet_bytes_max.saturating_sub(PACKET_BYTES_RESERVED);
        let mut open = Open::new(&head);
        let mut number = 0;
        while let Some(row) = reader.next().await.map_err(again)? {
            if open.rows > 0 && open.sql.len() + sql_bytes(&row) > room {
                self.cut(&mut open, (table, reading), &mut gap, &mut number, out)
                    .await?;
            }
            open.add(reading, row)?;
            if open.sql.len() >= PIECE_BYTES {
                self.cut(&mut open, (table, reading), &mut gap, &mut number, out)
                    .await?;
            }
        }
        self.send(out, open.parcel(table, gap.rest(), true)).await
    }

    /// Sends what is open, if the gap can be cut here.
    async fn cut<R: Row>(
        &self,
        open: &mut Open<'_, R>,
        (table, reading): (usize, &Reading),
        gap: &mut Gap,
        number: &mut u64,
        out: &mpsc::Sender<Parcel>,
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
            return Err(Failure::Other(no_row(&self.targets[table])));
        };
        let Some(copied) = gap.cut(key) else {
            return Ok(());
        };
        let next = Open::new(open.head);
        let full = mem::replace(open, next);
        self.send(out, full.parcel(table, copied, false)).await
    }

    async fn send(&self, out: &mpsc::Sender<Parcel>, parcel: Parcel) -> Result<(), Failure> {
        if out.send(parcel).await.is_err() {
            // The writer has failed, and has said why.
            pending::<()>().await;
        }
        Ok(())
    }

    /// Writes what its reader sends, until that is done.
    async fn write<T: Target>(
        &self,
        mut writer: Writer<T>,
        slot: &SlotProgress,
        mut parcels: mpsc::Receiver<Parcel>,
    ) -> Result<(), Failure> {
        let mut seq = slot.seq;
        while let Some(parcel) = parcels.recv().await {
            let Parcel {
                table,
                copied,
                rows,
                lenient,
                sql,
                is_last,
            } = parcel;
            let bytes = sql.len() as u64;
            let cargo = Cargo {
                slot: slot.slot,
                seq,
                at: self.at.clone(),
                table: self.tables[table].table.name.clone(),
                copied,
                rows,
                lenient,
                sql,
            };
            writer.write(&cargo).await?;
            seq += 1;
            self.facts.rows.fetch_add(rows, Relaxed);
            self.facts.bytes.fetch_add(bytes, Relaxed);
            if is_last && self.work.close(table) {
                self.facts.tables_done.fetch_add(1, Relaxed);
                tracing::info!(table = %cargo.table, "copied");
            }
        }
        Ok(())
    }
}
