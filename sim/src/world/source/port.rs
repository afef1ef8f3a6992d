//! What a worker has of a source.

use std::{collections::VecDeque, sync::Arc};

use bytes::Bytes;
use dm_core::{
    binlog::{GtidSet, Position},
    error::{Code, Error, Result, Scope, code},
    sync::{agreement::SourceTable, schema::TableName},
};
use dm_runtime::ports::{self, EventStream, SourceEnd, SourceFacts, Start};
use tokio::time::timeout;

use super::{Upstream, binlog::Place, damage::Arrival, events};
use crate::world::{
    oracle::leak::{Door, Doors},
    signal::Listener,
};

/// The server, as others see it.
#[derive(Clone)]
pub(in crate::world) struct Source {
    pub(in crate::world) upstream: Arc<Upstream>,
    pub(in crate::world) doors: Doors,
}

impl ports::Source for Source {
    type Stream = Dump;

    async fn probe(&self) -> Result<SourceFacts> {
        self.upstream.reach().await?;
        let flavor = self.upstream.state().plan.flavor();
        Ok(SourceFacts {
            flavor,
            version: events::version(flavor).to_owned(),
            sql_mode: String::new(),
            lower_case_table_names: 0,
            server: self.upstream.server(),
            end: self.upstream.state().binlog.source_end(),
        })
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
