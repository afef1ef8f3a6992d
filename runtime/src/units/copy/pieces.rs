//! Pieces of tables on their way into the target: each slot has a feed, which reads what is left
//! and cuts it into pieces, and a writer, which writes one while the next one is read.

use std::{
    collections::VecDeque,
    future::{Future, pending},
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use dm_core::{
    full::{Copied, Gap},
    sync::{
        progress::{Location, SlotProgress},
        schema::TableName,
    },
};
use tokio::sync::mpsc;

use super::{CopyFacts, Failure};
use crate::{
    memory::{Large, Memory, Room},
    panics::caught,
    ports::{
        Target,
        copy::{Body, Cargo, TableLines},
    },
    units::{tasks::Tasks, writer::Writer},
};

/// What a packet has besides rows.
const PACKET_BYTES_RESERVED: usize = 256 << 10;

/// Bytes of rows that fit into a packet.
pub(in crate::units) fn room(target: &impl Target) -> usize {
    let max = target.packet_bytes_max();
    max.saturating_sub(PACKET_BYTES_RESERVED)
}

/// For each table how its rows become lines, if they do.
pub(in crate::units) type AllLines = Arc<[Option<Arc<TableLines>>]>;

/// Where pieces come from.
pub(in crate::units) trait Feed: Send + 'static {
    /// The tables, by number, whose rows it sends as lines, each with how.
    fn lines(&self) -> AllLines {
        Arc::default()
    }

    /// Reads what is left of a table between two pieces, to the end, and sends it.
    fn read(
        &mut self,
        table: usize,
        gap: Gap,
        out: &Out,
    ) -> impl Future<Output = Result<(), Failure>> + Send;
}

/// The way from a feed to its writer.
pub(in crate::units) struct Out {
    parcels: mpsc::Sender<Parcel>,
    piece_bytes: usize,
    room: Room,
}

impl Out {
    /// Of one of so many connections, who share the room for large rows.
    pub(in crate::units) fn new(
        parcels: mpsc::Sender<Parcel>,
        room: &Room,
        memory: Memory,
        connections: usize,
    ) -> Self {
        Self {
            parcels,
            piece_bytes: memory.piece(connections),
            room: room.clone(),
        }
    }

    /// A piece has at least so many bytes, unless its table ends.
    pub(in crate::units) const fn piece_bytes(&self) -> usize {
        self.piece_bytes
    }

    /// Waits until there is room for a row, unless its piece has room for a large one already.
    pub(in crate::units) async fn wait_for_room(&self, bytes: usize, room: &mut Large) {
        if room.is_none() {
            *room = self.room.take(bytes).await;
        }
    }

    pub(in crate::units) async fn send(&self, parcel: Parcel) {
        if self.parcels.send(parcel).await.is_err() {
            // The writer has failed, and has said why.
            pending::<()>().await;
        }
    }
}

/// A piece on its way from a feed to its writer.
pub(in crate::units) struct Parcel {
    /// The number of its table.
    pub(in crate::units) table: usize,
    pub(in crate::units) copied: Copied,
    pub(in crate::units) rows: u64,
    /// How much of what there is to do it is, in bytes.
    pub(in crate::units) bytes: u64,
    pub(in crate::units) lenient: bool,
    /// Statements, or lines where the feed says so of the table.
    pub(in crate::units) sql: Vec<u8>,
    pub(in crate::units) large: Large,
    /// Whether its gap is closed with it.
    pub(in crate::units) is_last: bool,
}

/// What is left to read: tables by number, each with its gaps, or whatever they are cut into.
pub(in crate::units) struct Work<T = Gap>(Mutex<Vec<TableWork<T>>>);

struct TableWork<T> {
    table: usize,
    /// What nobody reads yet.
    queue: VecDeque<T>,
    /// How many are not closed.
    open: usize,
    /// How many connections are at it.
    readers: usize,
}

impl<T> Work<T> {
    /// The largest tables should come first: what comes last keeps all others waiting.
    pub(in crate::units) fn new(tables: Vec<(usize, Vec<T>)>) -> Self {
        let tables = tables.into_iter().map(|(table, gaps)| TableWork {
            table,
            open: gaps.len(),
            queue: gaps.into(),
            readers: 0,
        });
        Self(Mutex::new(tables.collect()))
    }

    /// What a connection reads next, which was at a table before. It stays there while there is
    /// something, then joins where the fewest are: many that write into one table wait for each
    /// other at the pages that they share.
    pub(in crate::units) fn next(&self, before: Option<usize>) -> Option<(usize, T)> {
        let mut tables = self.tables();
        if let Some(here) = tables.iter_mut().find(|it| Some(it.table) == before) {
            if let Some(gap) = here.queue.pop_front() {
                return Some((here.table, gap));
            }
            here.readers -= 1;
        }
        let waiting = tables.iter_mut().filter(|it| !it.queue.is_empty());
        let next = waiting.min_by_key(|it| it.readers)?;
        next.readers += 1;
        next.queue.pop_front().map(|gap| (next.table, gap))
    }

    /// A gap is closed. Whether it was the table's last one.
    pub(in crate::units) fn close(&self, table: usize) -> bool {
        let mut tables = self.tables();
        let closed = tables.iter_mut().find(|it| it.table == table);
        closed.is_some_and(|it| {
            it.open -= 1;
            it.open == 0
        })
    }

    fn tables(&self) -> MutexGuard<'_, Vec<TableWork<T>>> {
        // Whoever panicked ends the run.
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// What feeds and writers have in common.
pub(in crate::units) struct Pieces {
    pub(in crate::units) facts: Arc<CopyFacts>,
    /// Where the slots stay.
    pub(in crate::units) at: Location,
    /// The tables of the source.
    pub(in crate::units) tables: Vec<TableName>,
    pub(in crate::units) work: Work,
    /// For all that is on its way.
    pub(in crate::units) memory: Memory,
}

impl Pieces {
    /// Starts a feed and a writer for each slot. Says how each pair ended.
    pub(in crate::units) fn start<F: Feed, T: Target>(
        self,
        tasks: &mut Tasks,
        feeds: Vec<F>,
        target: &Arc<T>,
        progress: Vec<SlotProgress>,
    ) -> mpsc::UnboundedReceiver<Result<(), Failure>> {
        let this = Arc::new(self);
        let (done, ended) = mpsc::unbounded_channel();
        let (memory, connections) = (this.memory, feeds.len());
        let room = memory.large_rows();
        for (mut feed, slot) in feeds.into_iter().zip(progress) {
            // One is written while the next one is read.
            let (out, parcels) = mpsc::channel(1);
            let out = Out::new(out, &room, memory, connections);
            let lines = feed.lines();
            let (pieces, failed) = (Arc::clone(&this), done.clone());
            tasks.start(async move {
                let read = async {
                    let mut at = None;
                    while let Some((table, gap)) = pieces.work.next(at) {
                        at = Some(table);
                        feed.read(table, gap, &out).await?;
                    }
                    Ok(())
                };
                let read = caught(read).await;
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
                let written = caught(pieces.write((writer, &slot), &lines, parcels)).await;
                let _ = done.send(written.unwrap_or_else(|panic| Err(Failure::Other(panic))));
            });
        }
        ended
    }

    /// Writes what its feed sends, until that is done.
    async fn write<T: Target>(
        &self,
        (mut writer, slot): (Writer<T>, &SlotProgress),
        lines: &AllLines,
        mut parcels: mpsc::Receiver<Parcel>,
    ) -> Result<(), Failure> {
        let mut seq = slot.seq;
        while let Some(parcel) = parcels.recv().await {
            let Parcel {
                table,
                copied,
                rows,
                bytes,
                lenient,
                sql,
                large,
                is_last,
            } = parcel;
            let body = match lines.get(table) {
                Some(Some(lines)) if rows > 0 => Body::Lines(Arc::clone(lines), sql.into()),
                _ => Body::Statements(sql),
            };
            let cargo = Cargo {
                slot: slot.slot,
                seq,
                at: self.at.clone(),
                table: self.tables[table].clone(),
                copied,
                rows,
                lenient,
                body,
            };
            writer.write(&cargo).await?;
            drop(large);
            seq += 1;
            self.facts.wrote(table, rows, bytes);
            if is_last && self.work.close(table) {
                self.facts.ended(table);
                tracing::info!(table = %cargo.table, "copied");
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_connection_has_a_table_of_its_own_while_there_are_enough() {
        let work = Work::new(vec![
            (7, vec!['a', 'b', 'c']),
            (5, vec![]),
            (3, vec!['d', 'e']),
        ]);
        assert_eq!(work.next(None), Some((7, 'a')));
        assert_eq!(work.next(None), Some((3, 'd')));
        assert_eq!(work.next(Some(7)), Some((7, 'b')));
        // A third one helps with the larger table.
        assert_eq!(work.next(None), Some((7, 'c')));
        assert_eq!(work.next(Some(7)), Some((3, 'e')));
        assert_eq!(work.next(Some(3)), None);
        let closed = [7, 3, 7, 3, 7].map(|table| work.close(table));
        assert_eq!(closed, [false, false, false, true, true]);
    }
}
