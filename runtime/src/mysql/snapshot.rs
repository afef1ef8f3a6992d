//! A snapshot of a source: connections that all see the same rows, and where its binlog goes on.
//!
//! Writers are held off while the snapshots of the connections begin and the end of the binlog is
//! read, and not for what comes before and behind that. Where the user may hold nobody off, rows
//! are those of any moment between two places of the binlog.

use std::{collections::BTreeMap, time::Duration};

use dm_core::{
    control::db::DbConfig,
    error::{Error, Result, Scope, code},
    full::{Consistency, Piece, Reading},
    sync::{
        filter::is_system_schema,
        progress::Location,
        schema::{Table, TableName},
    },
};
use futures_util::future::try_join_all;
use tokio::time::sleep;
use tracing::{info, warn};

use super::{
    conn::{Conn, Fault, RawRow, Row, Rows},
    definition,
    session::{Literal, Values},
    source::{Upstream, broken},
};
use crate::{
    check::seen_in_part,
    ports::copy::{Definer, Definition, Reader, Snapshot, SnapshotTable, SnapshotView},
};

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
/// How long a lock lasts at most whose owner is not heard of.
const LOCK_TIMEOUT: &str = "SET SESSION wait_timeout=30";
/// How long a reader waits for a word of the server: where there are very many tables, or very many
/// rows were deleted before the first one that is left.
const SILENCE_MAX: Duration = Duration::from_secs(900);
/// Lets what was read be altered while the snapshot goes on.
const BEFORE_ROWS: &str = "SAVEPOINT dm";
const BEHIND_ROWS: &str = "ROLLBACK TO SAVEPOINT dm";
/// No limits, and sizes as they are now: what some servers have and others don't know.
const ON_SOME: [&str; 3] = [
    "SET SESSION information_schema_stats_expiry=0",
    "SET SESSION max_execution_time=0",
    "SET SESSION max_statement_time=0",
];
const UNKNOWN_VARIABLE: u16 = 1193;
/// The user lacks a right.
const DENIED: [u16; 5] = [1044, 1045, 1142, 1143, 1227];
/// The server ends, or somebody has ended the connection or the query; or the table was altered,
/// which another snapshot tells more about.
const LOST: [u16; 7] = [1053, 1317, 1412, 1927, 1969, 3024, 4031];

/// A connection that sees a snapshot.
pub struct SnapshotReader {
    conn: Conn,
    /// How the source is reached, for messages.
    db: DbConfig,
    /// Of its session.
    time_zone: String,
    /// Of the query that is being read.
    rows: Rows,
}

/// Takes a snapshot; see [`crate::ports::Source::snapshot`].
pub(super) async fn take(
    source: &Upstream,
    consistency: Consistency,
    readers: usize,
    is_wanted: impl Fn(&TableName) -> bool,
) -> Result<Snapshot<SnapshotReader>> {
    let mut attempt = 1;
    loop {
        let tables = tables(source, &is_wanted).await?;
        let (from, until, readers) = begin(source, consistency, readers, &tables).await?;
        // Nothing changed in between, so this is what the snapshot sees.
        let again = self::tables(source, &is_wanted).await?;
        let definitions = |all: &[SnapshotTable]| -> Vec<Table> {
            all.iter().map(|each| each.table.clone()).collect()
        };
        if definitions(&again) == definitions(&tables) {
            info!(
                source = source.id(),
                tables = tables.len(),
                at = %from,
                "took a snapshot"
            );
            let views = views(source, &is_wanted).await?;
            hint_at_unseen(source, &tables).await;
            return Ok(Snapshot {
                from,
                until,
                tables,
                views,
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

/// A server does not list tables that its user may not see.
async fn hint_at_unseen(source: &Upstream, tables: &[SnapshotTable]) {
    let Ok(mut reader) = SnapshotReader::open(source).await else {
        // It is a hint only.
        return;
    };
    let schemas = tables.iter().map(|it| &*it.table.name.schema).collect();
    for schema in seen_in_part(&mut reader.conn, schemas).await {
        warn!(
            source = source.id(),
            schema,
            "the source's user may not SELECT everything in it: tables that it can't see are not \
             copied"
        );
    }
}

/// The views that are wanted. Says what belongs to wanted tables and is not copied.
async fn views(
    source: &Upstream,
    is_wanted: impl Fn(&TableName) -> bool,
) -> Result<Vec<SnapshotView>> {
    let mut reader = SnapshotReader::open(source).await?;
    let is_wanted = |name: &TableName| !is_system_schema(&name.schema) && is_wanted(name);
    let triggers = reader
        .ask(
            "SELECT EVENT_OBJECT_SCHEMA,EVENT_OBJECT_TABLE,TRIGGER_NAME \
             FROM information_schema.TRIGGERS",
        )
        .await?;
    for row in triggers {
        let (table, trigger) = (TableName::new(row.text(0), row.text(1)), row.text(2));
        if is_wanted(&table) {
            let advice = "a trigger is not copied: make it in the target, if it is wanted";
            warn!(%table, trigger, "{advice}");
        }
    }
    let columns = reader
        .ask(
            "SELECT TABLE_SCHEMA,TABLE_NAME,COLUMN_NAME FROM information_schema.COLUMNS \
             JOIN information_schema.VIEWS USING (TABLE_SCHEMA,TABLE_NAME) \
             ORDER BY TABLE_SCHEMA,TABLE_NAME,ORDINAL_POSITION",
        )
        .await?;
    let mut views: Vec<SnapshotView> = Vec::new();
    for row in columns {
        let (name, column) = (TableName::new(row.text(0), row.text(1)), row.text(2));
        match views.last_mut() {
            Some(view) if view.name == name => view.columns.push(column),
            _ if !is_wanted(&name) => {}
            _ => views.push(SnapshotView {
                name,
                columns: vec![column],
            }),
        }
    }
    Ok(views)
}

/// Begins the snapshots of all connections.
async fn begin(
    source: &Upstream,
    consistency: Consistency,
    count: usize,
    tables: &[SnapshotTable],
) -> Result<(Location, Option<Location>, Vec<SnapshotReader>)> {
    let mut readers = Vec::with_capacity(count);
    for _ in 0..count {
        readers.push(SnapshotReader::open(source).await?);
    }
    let hold = hold(source, consistency, tables).await?;
    if hold.is_none() && !source.tells_what_is_committed().await? {
        return Err(unlocked());
    }
    let before = source.place().await?;
    let begin = readers
        .iter_mut()
        .map(|reader| reader.run("START TRANSACTION WITH CONSISTENT SNAPSHOT"));
    try_join_all(begin).await?;
    let until = match hold {
        Some(conn) => {
            release(conn).await;
            None
        }
        // Also where nothing seems to have happened: something may be about to.
        None => Some(source.place().await?),
    };
    Ok((before, until, readers))
}

/// A position comes before the transaction that ends there can be seen: what is in between would
/// be neither in the rows nor behind the position. A set of GTIDs has what can be seen.
fn unlocked() -> Error {
    Error::new(
        &code::DUMP_UNIT_GLOBAL_LOCK,
        "Couldn't acquire global lock: without one, only GTIDs of MySQL tell what rows lack",
    )
    .with_scope(Scope::Upstream)
    .with_workaround(
        "Grant RELOAD, or LOCK TABLES on the tables, to the user of the source. MySQL with \
         `gtid_mode=ON` and `enable-gtid: true` in the source file needs neither \
         (`--consistency none`).",
    )
}

/// Holds writers off in the way that is asked for, as long as the connection is there that comes
/// out. Whoever writes into other tables need not be held off: those are not read.
async fn hold(
    source: &Upstream,
    consistency: Consistency,
    tables: &[SnapshotTable],
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
        let tables = tables.iter().map(|it| format!("{} READ", it.table.name));
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
    let mut reader = SnapshotReader::open(source).await?;
    // Should this worker freeze or its machine vanish, nobody else would give the lock back.
    reader.run(LOCK_TIMEOUT).await?;
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
async fn tables(
    source: &Upstream,
    is_wanted: impl Fn(&TableName) -> bool,
) -> Result<Vec<SnapshotTable>> {
    let mut reader = SnapshotReader::open(source).await?;
    let rows = reader
        .ask(
            "SELECT TABLE_SCHEMA,TABLE_NAME,TABLE_ROWS,DATA_LENGTH,TABLE_TYPE,TABLES.ENGINE,\
             TRANSACTIONS FROM information_schema.TABLES \
             LEFT JOIN information_schema.ENGINES ON ENGINES.ENGINE=TABLES.ENGINE \
             WHERE TABLE_TYPE IN ('BASE TABLE','SYSTEM VERSIONED')",
        )
        .await?;
    let mut tables = BTreeMap::new();
    for row in &rows {
        let name = TableName::new(row.text(0), row.text(1));
        if is_system_schema(&name.schema) || !is_wanted(&name) {
            continue;
        }
        has_moments(&name, row)?;
        let columns = reader.ask(&definition::columns(&name)).await?;
        let keys = reader.ask(&definition::keys(&name)).await?;
        if let Some(table) = definition::table(&name, &columns, &keys) {
            let table = SnapshotTable {
                table,
                rows: row.number(2),
                bytes: row.number(3),
            };
            tables.insert(name, table);
        }
    }
    Ok(tables.into_values().collect())
}

/// Refuses a table that a snapshot does not hold still.
fn has_moments(name: &TableName, row: &Row) -> Result<()> {
    let (what, workaround) = if !row.text(4).eq_ignore_ascii_case("base table") {
        (
            "has rows of former times (SYSTEM VERSIONING)".to_owned(),
            "Exclude the table with the `block-allow-list`.".to_owned(),
        )
    } else if !row.text(6).eq_ignore_ascii_case("yes") {
        (
            format!("has no transactions (engine {})", row.text(5)),
            format!(
                "Execute `ALTER TABLE {name} ENGINE=InnoDB` at the source, or exclude the table \
                 with the `block-allow-list`."
            ),
        )
    } else {
        return Ok(());
    };
    let error = failed(&format!(
        "{name} can't be copied while it is written: it {what}"
    ));
    Err(error.with_workaround(workaround))
}

impl SnapshotReader {
    async fn open(source: &Upstream) -> Result<Self> {
        let db: &DbConfig = source.db();
        let open = async {
            let mut conn = Conn::open(db).await?;
            conn.wait_for(SILENCE_MAX);
            for sql in SESSION {
                conn.query(sql).await?;
            }
            for sql in ON_SOME {
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
            db: db.clone(),
            time_zone: "+00:00".to_owned(),
            rows: Rows::default(),
        })
    }

    async fn run(&mut self, sql: &str) -> Result<()> {
        self.ask(sql).await.map(drop)
    }

    async fn ask(&mut self, sql: &str) -> Result<Vec<Row>> {
        let rows = self.conn.query(sql).await;
        rows.map_err(|fault| self.refused(sql, &fault))
    }

    /// What a fault means: a snapshot whose connection broke is taken anew, a statement that the
    /// server refuses is refused again.
    fn refused(&self, sql: &str, fault: &Fault) -> Error {
        match fault.code() {
            Some(number) if DENIED.contains(&number) => {
                failed(sql).with_cause(fault.to_string()).with_workaround(
                    "Grant SELECT on the table to the user of the source, then resume the task.",
                )
            }
            Some(number) if !LOST.contains(&number) => failed(sql).with_cause(fault.to_string()),
            _ => broken(fault, &self.db),
        }
    }
}

impl Definer for SnapshotReader {
    async fn definition(&mut self, name: &TableName) -> Result<Definition> {
        let kind = if name.table.is_empty() {
            "DATABASE"
        } else {
            "TABLE"
        };
        let sql = format!("SHOW CREATE {kind} {name}");
        let rows = self.ask(&sql).await?;
        let row = rows.first();
        let row = row.ok_or_else(|| failed(&format!("{sql} has no answer")))?;
        Ok(Definition {
            sql: row.text(1),
            time_zone: self.time_zone.clone(),
        })
    }
}

impl Reader for SnapshotReader {
    type Row = RawRow;

    async fn set_time_zone(&mut self, zone: &str) -> Result<()> {
        self.run(&format!("SET SESSION time_zone={}", Literal(zone)))
            .await?;
        zone.clone_into(&mut self.time_zone);
        Ok(())
    }

    async fn is_there(&mut self, name: &TableName) -> Result<bool> {
        /// No such table, no such schema: what is not said to whom a right is missing.
        const GONE: [u16; 2] = [1146, 1049];
        let sql = format!("SELECT 1 FROM {name} LIMIT 0");
        match self.conn.query(&sql).await {
            Ok(_) => Ok(true),
            Err(fault) if fault.code().is_some_and(|number| GONE.contains(&number)) => Ok(false),
            Err(fault) => Err(self.refused(&sql, &fault)),
        }
    }

    async fn range(&mut self, reading: &Reading) -> Result<Option<(i128, i128)>> {
        let Some(sql) = reading.range() else {
            return Ok(None);
        };
        let rows = self.ask(&sql).await?;
        let bound = |index| rows.first()?.text(index).parse().ok();
        // Neither of a table without rows, nor of decimals.
        Ok(bound(0).zip(bound(1)))
    }

    async fn read(&mut self, reading: &Reading, piece: &Piece) -> Result<()> {
        self.run(BEFORE_ROWS).await?;
        let sql = reading.rows(piece);
        let rows = self.conn.rows(&sql).await;
        self.rows = rows.map_err(|fault| self.refused(&sql, &fault))?;
        Ok(())
    }

    async fn next(&mut self) -> Result<Option<RawRow>> {
        let row = self.rows.next(&mut self.conn).await;
        let row = row.map_err(|fault| self.refused("reading rows", &fault))?;
        if row.is_none() {
            self.run(BEHIND_ROWS).await?;
        }
        Ok(row)
    }
}

fn failed(what: &str) -> Error {
    let text = format!("mydumper/dumpling runs with error, with output (may empty): {what}");
    Error::new(&code::DUMP_UNIT_RUNTIME, text).with_scope(Scope::Upstream)
}
