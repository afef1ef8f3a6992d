//! A snapshot of a source: connections that all see the same rows, and where its binlog goes on.
//!
//! Writers are held off while the snapshots of the connections begin and the end of the binlog is
//! read, and not for what comes before and behind that. Where the user may hold nobody off, rows
//! are those of any moment between two places of the binlog.

use std::{collections::BTreeMap, time::Duration};

use dm_core::{
    control::db::DbConfig,
    error::{Error, Result, Scope, code},
    full::{Consistency, KeyValue, Piece, Reading},
    sync::{
        filter::is_system_schema,
        progress::Location,
        schema::{Table, TableName},
    },
};
use tokio::time::sleep;
use tracing::{info, warn};

use super::{
    conn::{Conn, Fault, Row, Rows},
    definition,
    session::Values,
    source::Upstream,
};
use crate::ports::Source;

/// How often it is tried to hold writers off, and to find tables that nobody changes meanwhile.
const ATTEMPTS: u32 = 5;
/// How long to wait before the next attempt.
const PAUSE: Duration = Duration::from_secs(2);

/// What a session needs for reading. A lock that is waited for holds writers up as well, so it is
/// not waited for long.
const SESSION: [&str; 4] = [
    "SET SESSION sql_mode='',time_zone='+00:00',autocommit=1,lock_wait_timeout=5",
    "SET SESSION net_write_timeout=31536000,wait_timeout=2147483",
    "SET SESSION TRANSACTION ISOLATION LEVEL REPEATABLE READ",
    // Values as they are stored.
    "SET character_set_results=NULL",
];
/// Limits that some servers have and others don't know.
const LIMITS: [&str; 2] = [
    "SET SESSION max_execution_time=0",
    "SET SESSION max_statement_time=0",
];
const UNKNOWN_VARIABLE: u16 = 1193;

/// Rows of a source as they were at one moment, or nearly.
pub struct Snapshot {
    /// The binlog from here on is what the rows lack.
    pub from: Location,
    /// Where rows may have changes from behind `from`: before here. Nothing if there are none.
    pub until: Option<Location>,
    /// The tables, in order of their names.
    pub tables: Vec<Table>,
    /// The connections that see it.
    pub readers: Vec<Reader>,
}

/// A connection that sees a snapshot.
pub struct Reader {
    conn: Conn,
    source: String,
}

/// Takes a snapshot of the tables that are wanted, for so many connections.
///
/// # Errors
/// 10001: the source can't be reached. 32004: the user may not hold writers off in the way that was
/// asked for, or there was always something that took longer. 32001: tables changed all the time.
pub async fn take(
    source: &Upstream,
    consistency: Consistency,
    readers: usize,
    is_wanted: impl Fn(&TableName) -> bool,
) -> Result<Snapshot> {
    let mut attempt = 1;
    loop {
        let tables = tables(source, &is_wanted).await?;
        let (from, until, readers) = begin(source, consistency, readers, &tables).await?;
        // Nothing changed in between, so this is what the snapshot sees.
        if self::tables(source, &is_wanted).await? == tables {
            info!(
                source = source.id(),
                tables = tables.len(),
                at = %from,
                "took a snapshot"
            );
            return Ok(Snapshot {
                from,
                until,
                tables,
                readers,
            });
        }
        if attempt == ATTEMPTS {
            return Err(failed(
                "tables were altered whenever a snapshot was taken of them",
            ));
        }
        warn!(
            source = source.id(),
            "tables were altered meanwhile, taking another snapshot"
        );
        attempt += 1;
        sleep(PAUSE).await;
    }
}

/// Begins the snapshots of all connections.
async fn begin(
    source: &Upstream,
    consistency: Consistency,
    count: usize,
    tables: &[Table],
) -> Result<(Location, Option<Location>, Vec<Reader>)> {
    let mut readers = Vec::with_capacity(count);
    for _ in 0..count {
        readers.push(Reader::open(source).await?);
    }
    let hold = hold(source, consistency, tables).await?;
    let before = place(source).await?;
    for reader in &mut readers {
        reader
            .run("START TRANSACTION WITH CONSISTENT SNAPSHOT")
            .await?;
    }
    let until = match hold {
        Some(conn) => {
            release(conn).await;
            None
        }
        None => Some(place(source).await?).filter(|after| *after != before),
    };
    Ok((before, until, readers))
}

async fn place(source: &Upstream) -> Result<Location> {
    let end = source.end().await?;
    Ok(Location {
        position: end.position,
        gtids: (!end.gtids.is_empty()).then_some(end.gtids),
    })
}

/// Holds writers off in the way that is asked for, as long as the connection is there that comes
/// out. Whoever writes into other tables need not be held off: those are not read.
async fn hold(
    source: &Upstream,
    consistency: Consistency,
    tables: &[Table],
) -> Result<Option<Conn>> {
    let is_auto = consistency == Consistency::Auto;
    if is_auto || consistency == Consistency::Flush {
        match locked(source, "FLUSH TABLES WITH READ LOCK").await? {
            Ok(conn) => return Ok(Some(conn)),
            Err(refusal) if !is_auto => return Err(refusal),
            Err(refusal) => warn!(source = source.id(), %refusal, "locking single tables instead"),
        }
    }
    if (is_auto || consistency == Consistency::Lock) && !tables.is_empty() {
        let tables = tables.iter().map(|table| format!("{} READ", table.name));
        let sql = format!("LOCK TABLES {}", tables.collect::<Vec<_>>().join(","));
        match locked(source, &sql).await? {
            Ok(conn) => return Ok(Some(conn)),
            Err(refusal) if !is_auto => return Err(refusal),
            Err(refusal) => warn!(source = source.id(), %refusal, "locking nothing instead"),
        }
    }
    Ok(None)
}

/// Takes a lock; the inner error is that the user may not.
async fn locked(source: &Upstream, sql: &str) -> Result<Result<Conn>> {
    const LOCK_WAIT_TIMEOUT: u16 = 1205;
    const DENIED: [u16; 4] = [1044, 1045, 1142, 1227];
    let mut reader = Reader::open(source).await?;
    let mut attempt = 1;
    loop {
        let Err(fault) = reader.conn.query(sql).await else {
            return Ok(Ok(reader.conn));
        };
        let text: String = sql.chars().take(100).collect();
        let refusal = Error::new(&code::DUMP_UNIT_GLOBAL_LOCK, "Couldn't acquire global lock")
            .with_scope(Scope::Upstream)
            .with_cause(format!("{text}: {fault}"));
        match fault.code() {
            Some(number) if DENIED.contains(&number) => return Ok(Err(refusal)),
            Some(LOCK_WAIT_TIMEOUT) if attempt < ATTEMPTS => {}
            Some(LOCK_WAIT_TIMEOUT) => {
                return Err(refusal.with_workaround(
                    "Queries or transactions that take long keep the lock from being taken: wait \
                     for their end, or end them, then resume.",
                ));
            }
            _ => return Err(source.unreachable(&fault)),
        }
        warn!(source = source.id(), %fault, "somebody is in the way of a lock, trying again");
        attempt += 1;
        sleep(PAUSE).await;
    }
}

/// Gives a lock back; at the latest the end of the connection does it.
async fn release(mut conn: Conn) {
    if let Err(fault) = conn.query("UNLOCK TABLES").await {
        warn!(%fault, "a lock ends with its connection");
    }
}

/// The definitions of the tables that are wanted, in order of their names.
async fn tables(source: &Upstream, is_wanted: impl Fn(&TableName) -> bool) -> Result<Vec<Table>> {
    let mut reader = Reader::open(source).await?;
    let rows = reader
        .ask(
            "SELECT TABLE_SCHEMA,TABLE_NAME FROM information_schema.TABLES \
             WHERE TABLE_TYPE='BASE TABLE'",
        )
        .await?;
    let names = rows
        .iter()
        .map(|row| TableName::new(row.text(0), row.text(1)));
    let mut tables = BTreeMap::new();
    let names = names.filter(|name| !is_system_schema(&name.schema) && is_wanted(name));
    for name in names {
        let columns = reader.ask(&definition::columns(&name)).await?;
        let keys = reader.ask(&definition::keys(&name)).await?;
        if let Some(table) = definition::table(&name, &columns, &keys) {
            tables.insert(name, table);
        }
    }
    Ok(tables.into_values().collect())
}

impl Reader {
    async fn open(source: &Upstream) -> Result<Self> {
        let db: &DbConfig = source.db();
        let open = async {
            let mut conn = Conn::open(db).await?;
            for sql in SESSION {
                conn.query(sql).await?;
            }
            for sql in LIMITS {
                match conn.query(sql).await {
                    Err(fault) if fault.code() == Some(UNKNOWN_VARIABLE) => {}
                    set => drop(set?),
                }
            }
            Ok(conn)
        };
        let conn = open.await.map_err(|fault| source.unreachable(&fault))?;
        Ok(Self {
            conn,
            source: source.id().to_owned(),
        })
    }

    /// The key of the last row of a piece that begins behind `after` and has so many rows; nothing
    /// if fewer are left.
    ///
    /// # Errors
    /// 32001: the connection broke, and the snapshot with it, or the table is not what it was.
    pub async fn bound(
        &mut self,
        reading: &Reading,
        after: Option<&KeyValue>,
        rows: u64,
    ) -> Result<Option<KeyValue>> {
        let sql = reading.bound(after, rows);
        let mut found = None;
        let mut rows = self.query(&sql).await?;
        while let Some(row) = rows.next().await.map_err(|fault| broke(&sql, &fault))? {
            let key = reading.key_value(row.values());
            found = Some(key.ok_or_else(|| failed("a row has no key where it must have one"))?);
        }
        Ok(found)
    }

    /// The rows of a piece, in the order of their key.
    ///
    /// # Errors
    /// As [`Self::bound`].
    pub async fn rows(&mut self, reading: &Reading, piece: &Piece) -> Result<Rows<'_>> {
        self.query(&reading.rows(piece)).await
    }

    /// The statement that makes a table.
    ///
    /// # Errors
    /// As [`Self::bound`].
    pub async fn create(&mut self, name: &TableName) -> Result<String> {
        let sql = format!("SHOW CREATE TABLE {name}");
        let rows = self.ask(&sql).await?;
        rows.first()
            .map(|row| row.text(1))
            .ok_or_else(|| failed(&format!("{sql} has no answer")))
    }

    async fn run(&mut self, sql: &str) -> Result<()> {
        self.ask(sql).await.map(drop)
    }

    async fn ask(&mut self, sql: &str) -> Result<Vec<Row>> {
        let rows = self.conn.query(sql).await;
        rows.map_err(|fault| broke(sql, &fault).annotate(&self.source))
    }

    async fn query(&mut self, sql: &str) -> Result<Rows<'_>> {
        self.conn
            .rows(sql)
            .await
            .map_err(|fault| broke(sql, &fault))
    }
}

fn broke(sql: &str, fault: &Fault) -> Error {
    failed(sql).with_cause(fault.to_string())
}

fn failed(what: &str) -> Error {
    let text = format!("mydumper/dumpling runs with error, with output (may empty): {what}");
    Error::new(&code::DUMP_UNIT_RUNTIME, text).with_scope(Scope::Upstream)
}
