//! What a worker has of a source.

use std::{collections::VecDeque, sync::Arc, time::Duration};

use bytes::Bytes;
use dm_core::{
    binlog::{GtidSet, Position},
    error::{Code, Error, Result, Scope, code},
    full::{Consistency, KeyValue, Piece, Reading, Value},
    guard::Guard,
    sync::{agreement::SourceTable, ddl::Collations, progress::Location, schema::TableName},
};
use dm_runtime::ports::{
    self, EventStream, Logged, SourceEnd, SourceFacts, Start,
    copy::{Definer, Definition, Reader, Snapshot, SnapshotTable},
};
use tokio::time::{sleep, timeout};

use super::{Upstream, binlog::Place, damage::Arrival, events};
use crate::world::{
    oracle::{
        files::Dumps,
        leak::{Door, Doors},
    },
    rows::Row,
    signal::Listener,
    tables::Tables,
};

/// How late a snapshot's place is read where nobody is held off meanwhile.
const UNGUARDED: Duration = Duration::from_millis(300);

/// The server, as others see it.
#[derive(Clone)]
pub(in crate::world) struct Source {
    pub(in crate::world) upstream: Arc<Upstream>,
    pub(in crate::world) doors: Doors,
    /// Who notes the snapshots that go through files.
    pub(in crate::world) dumps: Dumps,
}

impl ports::Source for Source {
    type Stream = Dump;
    type Reader = SnapshotReader;

    /// All tables of one moment, whatever is asked to hold writers off.
    async fn snapshot(
        &self,
        _: Consistency,
        readers: usize,
        is_wanted: impl Fn(&TableName) -> bool + Send + Sync,
    ) -> Result<Snapshot<SnapshotReader>> {
        self.upstream.reach().await?;
        let tables = Arc::new(self.upstream.state().tables.clone());
        if !Guard::CopyMoment.holds() {
            sleep(UNGUARDED).await;
        }
        let end = self.upstream.state().binlog.source_end();
        self.upstream.trace.count("source: snapshot");
        let names = tables.names().into_iter();
        let names = names.map(|name| TableName::new(&*self.upstream.name, name));
        let (mut size, way) = {
            let state = self.upstream.state();
            (state.dice.fork("size of rows"), state.plan.way)
        };
        let row_bytes = match way.has_files() {
            true => 0,
            false => *size.pick(&[0, 0, 8 << 20]),
        };
        let table = |name: TableName| {
            let known = tables.get(&name.table)?;
            Some(SnapshotTable {
                table: known.definition.table(&name),
                rows: known.rows.len() as u64,
                // As if they were large, some sources have them read by several connections.
                bytes: known.rows.len() as u64 * row_bytes,
            })
        };
        let wanted = names
            .filter(|name| is_wanted(name))
            .filter_map(table)
            .collect();
        let reader = |_| SnapshotReader {
            upstream: Arc::clone(&self.upstream),
            tables: Arc::clone(&tables),
            rows: VecDeque::new(),
            cuts: self.upstream.cuts.listen(),
            _door: self.doors.open(),
        };
        let from = Location {
            position: end.position,
            gtids: Some(end.gtids).filter(|gtids| !gtids.is_empty()),
        };
        self.dumps
            .note(&self.upstream.name, &from, tables.snapshot());
        Ok(Snapshot {
            from,
            until: None,
            tables: wanted,
            views: Vec::new(),
            readers: (0..readers).map(reader).collect(),
        })
    }

    async fn probe(&self, _follows: bool) -> Result<SourceFacts> {
        self.upstream.reach().await?;
        let flavor = self.upstream.state().plan.flavor();
        Ok(SourceFacts {
            flavor,
            version: events::version(flavor).to_owned(),
            sql_mode: String::new(),
            lower_case_table_names: 0,
            logged: Logged::default(),
            obstacle: None,
            server: self.upstream.server(),
            end: self.upstream.state().binlog.source_end(),
        })
    }

    async fn collations(&self) -> Result<Collations> {
        // No task wants them.
        Ok(Collations::default())
    }

    async fn dump(&self, from: &Start) -> Result<Dump> {
        self.upstream.reach().await?;
        let (place, queue) = self.upstream.state().binlog.start(from).map_err(|why| {
            self.upstream.trace.count("source: refused dump");
            trouble(&code::SYNCER_GET_EVENT, &why)
        })?;
        let known = match from {
            Start::Gtids(set) => Some(set.clone()),
            Start::Position(_) => None,
        };
        Ok(Dump {
            upstream: Arc::clone(&self.upstream),
            server: self.upstream.server(),
            place,
            queue,
            known,
            news: self.upstream.news.listen(),
            cuts: self.upstream.cuts.listen(),
            _door: self.doors.open(),
        })
    }

    async fn gtids_at(&self, position: &Position) -> Result<GtidSet> {
        self.upstream.reach().await?;
        let found = self.upstream.state().binlog.gtids_at(position);
        found.ok_or_else(|| {
            trouble(
                &code::CONFIG_META_INVALID,
                &format!("{position} is not the end of a transaction"),
            )
        })
    }

    async fn table(&self, table: &TableName) -> Result<SourceTable> {
        self.upstream.reach().await?;
        let state = self.upstream.state();
        let known = state.tables.get(&table.table);
        Ok(SourceTable {
            columns: known.map_or_else(Vec::new, |known| known.definition.source_columns()),
            created: known.map(|known| known.created.into()),
        })
    }

    async fn end(&self) -> Result<SourceEnd> {
        self.upstream.reach().await?;
        Ok(self.upstream.state().binlog.source_end())
    }
}

/// A connection that sees the tables as they were.
pub(in crate::world) struct SnapshotReader {
    upstream: Arc<Upstream>,
    tables: Arc<Tables>,
    /// What is still to be read of a piece.
    rows: VecDeque<TextRow>,
    cuts: Listener<u64>,
    _door: Door,
}

impl SnapshotReader {
    /// It lasts as long as its connection.
    async fn reach(&self) -> Result<()> {
        self.upstream.reach().await?;
        if self.cuts.has_news() {
            self.upstream.trace.count("source: lost snapshot");
            return Err(trouble(&code::DB_DRIVER_ERROR, "connection reset by peer"));
        }
        Ok(())
    }
}

impl Definer for SnapshotReader {
    async fn definition(&mut self, name: &TableName) -> Result<Definition> {
        self.reach().await?;
        let sql = if name.table.is_empty() {
            format!("CREATE DATABASE `{}`", name.schema)
        } else {
            let known = self.tables.get(&name.table);
            let known = known.ok_or_else(|| trouble(&code::DUMP_UNIT_RUNTIME, "no such table"))?;
            format!("CREATE TABLE `{}` {}", name.table, known.definition)
        };
        Ok(Definition {
            sql,
            time_zone: "+00:00".to_owned(),
        })
    }
}

impl Reader for SnapshotReader {
    type Row = TextRow;

    async fn set_time_zone(&mut self, _: &str) -> Result<()> {
        Ok(())
    }

    async fn is_there(&mut self, name: &TableName) -> Result<bool> {
        self.reach().await?;
        Ok(self.tables.get(&name.table).is_some())
    }

    async fn ends(
        &mut self,
        reading: &Reading,
        piece: &Piece,
    ) -> Result<Option<(KeyValue, KeyValue)>> {
        let keys = self.keys(reading, piece).await?;
        Ok(keys.first().cloned().zip(keys.last().cloned()))
    }

    async fn amid(
        &mut self,
        reading: &Reading,
        piece: &Piece,
        _: (&KeyValue, &KeyValue),
    ) -> Result<Option<KeyValue>> {
        let keys = self.keys(reading, piece).await?;
        let (_, others) = keys.split_last().unwrap_or((&KeyValue(Vec::new()), &[]));
        Ok((!others.is_empty()).then(|| self.upstream.state().dice.pick(others).clone()))
    }

    async fn estimate(&mut self, reading: &Reading, piece: &Piece) -> Result<Option<u64>> {
        let keys = self.keys(reading, piece).await?;
        Ok(Some(keys.len() as u64))
    }

    async fn read(&mut self, reading: &Reading, piece: &Piece) -> Result<()> {
        self.rows = self.rows_of(reading, piece).await?;
        Ok(())
    }

    async fn next(&mut self) -> Result<Option<TextRow>> {
        // As if there were many more, or much might go wrong and nothing would.
        let latency = self.upstream.state().dice.millis(5..60);
        sleep(latency).await;
        self.reach().await?;
        Ok(self.rows.pop_front())
    }
}

impl SnapshotReader {
    /// The rows of a piece, in the order of the first column, which is the key where there is one.
    async fn rows_of(&self, reading: &Reading, piece: &Piece) -> Result<VecDeque<TextRow>> {
        self.reach().await?;
        let known = self.tables.get(&reading.table().table);
        let known = known.ok_or_else(|| trouble(&code::DUMP_UNIT_RUNTIME, "no such table"))?;
        let bound = |key: &Option<KeyValue>| -> Option<i64> { key.as_ref()?.0[0].parse().ok() };
        let (after, upto) = (bound(&piece.after), bound(&piece.upto));
        let is_in = |row: &&Row| {
            let key = known.definition.uniques.first().and_then(|key| row[*key]);
            after.is_none_or(|after| key > Some(after)) && upto.is_none_or(|upto| key <= Some(upto))
        };
        let rows = known.rows.sorted();
        Ok(rows.iter().filter(is_in).map(TextRow::new).collect())
    }

    /// Their keys.
    async fn keys(&self, reading: &Reading, piece: &Piece) -> Result<Vec<KeyValue>> {
        use ports::copy::Row as _;
        let rows = self.rows_of(reading, piece).await?;
        Ok(rows
            .iter()
            .filter_map(|row| reading.key_of(row.values()))
            .collect())
    }
}

/// A row as the text protocol has it.
pub(in crate::world) struct TextRow(Vec<Option<String>>);

impl TextRow {
    fn new(row: &Row) -> Self {
        let text = |value: &Option<i64>| value.map(|value| value.to_string());
        Self(row.iter().map(text).collect())
    }
}

impl ports::copy::Row for TextRow {
    fn values(&self) -> impl Iterator<Item = Value<'_>> + Send {
        self.0
            .iter()
            .map(|value| value.as_ref().map(String::as_bytes))
    }
}

/// A running dump.
pub(in crate::world) struct Dump {
    upstream: Arc<Upstream>,
    server: String,
    place: Place,
    /// Events to be sent before what is at `place`, in order.
    queue: VecDeque<Bytes>,
    /// Transactions that are left out.
    known: Option<GtidSet>,
    news: Listener<u64>,
    cuts: Listener<u64>,
    _door: Door,
}

impl Dump {
    fn reset(&self) -> Error {
        self.upstream.trace.count("source: cut dump");
        trouble(&code::SYNCER_GET_EVENT, "connection reset by peer")
    }
}

impl EventStream for Dump {
    fn server(&self) -> &str {
        &self.server
    }

    async fn next(&mut self) -> Result<Bytes> {
        let silence = self.upstream.state().plan.heartbeat;
        loop {
            // Told apart from news that came before: those are in the binlog already.
            self.news.see();
            if self.cuts.has_news() {
                return Err(self.reset());
            }
            if let Some(event) = self.queue.pop_front() {
                return Ok(event);
            }
            let (next, is_last) = {
                let binlog = &self.upstream.state().binlog;
                let known = self.known.as_ref();
                let next = binlog.next(&mut self.place, known, &mut self.queue);
                (next, binlog.is_last(&self.place))
            };
            if let Some((event, inside)) = next {
                let is_edge = self.place.is_behind_format() || is_last;
                match self.upstream.arrival(event, inside, is_edge) {
                    Arrival::Once(event) => return Ok(event),
                    Arrival::Never => continue,
                    Arrival::Twice(event) => {
                        self.queue.push_back(event.clone());
                        return Ok(event);
                    }
                }
            }
            if !self.queue.is_empty() {
                continue;
            }
            tokio::select! {
                biased;
                _ = self.cuts.changed() => {
                    return Err(self.reset());
                }
                news = timeout(silence, self.news.changed()) => if news.is_err() {
                    return Ok(self.upstream.state().binlog.heartbeat());
                }
            }
        }
    }
}

pub(super) fn trouble(kind: &Code, cause: &str) -> Error {
    Error::new(kind, "the source does not answer as it should")
        .with_scope(Scope::Upstream)
        .with_cause(cause.to_owned())
}
