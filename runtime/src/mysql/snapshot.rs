//! A snapshot of a source: connections that all see the same rows, and where its binlog goes on.
//!
//! Writers are held off while the snapshots of the connections begin and the end of the binlog is
//! read, and not for what comes before and behind that. Where the user may hold nobody off, rows
//! are those of any moment between two places of the binlog.

mod locks;
mod names;

use std::{collections::BTreeMap, sync::Arc, time::Duration};

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
use futures_util::future::try_join_all;
use tokio::time::sleep;
use tracing::{info, warn};

use self::{
    locks::{hold, unlocked},
    names::Names,
};
use super::{
    conn::{Conn, Fault, RawRow, Row, Rows},
    definition,
    session::{Literal, Values},
    source::{Upstream, broken},
};
use crate::{
    check::seen_in_part,
    ports::copy::{Definer, Definition, Reader, Row as _, Snapshot, SnapshotTable, SnapshotView},
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
/// How long a reader waits for a word of the server: where there are very many tables, or very many
/// rows were deleted before the first one that is left.
const SILENCE_MAX: Duration = Duration::from_secs(900);
/// Lets what was read be altered while the snapshot goes on.
const BEFORE_ROWS: &str = "SAVEPOINT dm";
const BEHIND_ROWS: &str = "ROLLBACK TO SAVEPOINT dm";
/// What some servers don't know, and some users may not: no limits, sizes as they are now, and on
/// MariaDB, which keeps what was read from being altered as long as a binlog might be written.
const ON_SOME: [&str; 4] = [
    "SET SESSION information_schema_stats_expiry=0",
    "SET SESSION max_execution_time=0",
    "SET SESSION max_statement_time=0",
    "SET SESSION sql_log_bin=0",
];
/// The user lacks a right.
const DENIED: [u16; 5] = [1044, 1045, 1142, 1143, 1227];
/// The server ends, or somebody has ended the connection or the query, or alters the table for
/// long; or the table was altered, which another snapshot tells more about.
const LOST: [u16; 9] = [1053, 1205, 1213, 1317, 1412, 1927, 1969, 3024, 4031];

/// A connection that sees a snapshot.
pub struct SnapshotReader {
    conn: Conn,
    /// How the source is reached, for messages.
    db: DbConfig,
    /// Of its session.
    time_zone: String,
    /// Of the query that is being read.
    rows: Rows,
    /// What tables are called; nothing before the snapshot is taken.
    names: Option<Arc<Names>>,
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
        let (tables, before) = tables(source, &is_wanted).await?;
        let Begun {
            from,
            until,
            mut readers,
            held,
        } = begin(source, consistency, readers, &tables).await?;
        let names = Names::new(source, before, &tables).await?;
        // Nothing changed in between, so this is what the snapshot sees.
        let (again, after) = self::tables(source, &is_wanted).await?;
        drop(held);
        let definitions = |all: &[SnapshotTable]| -> Vec<Table> {
            all.iter().map(|each| each.table.clone()).collect()
        };
        if let Some(names) = names
            && names.made == after
            && definitions(&again) == definitions(&tables)
        {
            let names = Arc::new(names);
            for reader in &mut readers {
                reader.names = Some(Arc::clone(&names));
            }
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
            let text = "tables were altered whenever a snapshot was taken of them";
            // Waiting may help.
            let error = Error::new(&code::DB_DRIVER_ERROR, text).with_scope(Scope::Upstream);
            return Err(error.with_workaround(
                "Grant BACKUP_ADMIN to the user of the source (MySQL 8), who can keep tables from \
                 being altered then; or wait until whoever alters them is done.",
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

/// A snapshot that nobody has looked at yet.
struct Begun {
    from: Location,
    until: Option<Location>,
    readers: Vec<SnapshotReader>,
    /// Keeps tables from being altered, where that is possible.
    held: Option<Conn>,
}

/// Begins the snapshots of all connections.
async fn begin(
    source: &Upstream,
    consistency: Consistency,
    count: usize,
    tables: &[SnapshotTable],
) -> Result<Begun> {
    let mut readers = Vec::with_capacity(count);
    for _ in 0..count {
        readers.push(SnapshotReader::open(source).await?);
    }
    let (lock, held) = hold(source, consistency, tables).await?;
    if lock.is_none() && !source.tells_what_is_committed().await? {
        return Err(unlocked());
    }
    let from = source.place().await?;
    let begin = readers
        .iter_mut()
        .map(|reader| reader.run("START TRANSACTION WITH CONSISTENT SNAPSHOT"));
    try_join_all(begin).await?;
    let until = match lock {
        Some(lock) => {
            // Only that it still was there says that nobody wrote meanwhile.
            lock.release(source).await?;
            None
        }
        // Also where nothing seems to have happened: something may be about to. What is committed
        // can be seen some moments before its GTID is.
        None => {
            sleep(PAUSE).await;
            Some(source.place().await?)
        }
    };
    Ok(Begun {
        from,
        until,
        readers,
        held,
    })
}

/// The definitions of the tables that are wanted, in order of their names, and when they were made
/// or altered.
async fn tables(
    source: &Upstream,
    is_wanted: impl Fn(&TableName) -> bool,
) -> Result<(Vec<SnapshotTable>, BTreeMap<TableName, String>)> {
    let mut reader = SnapshotReader::open(source).await?;
    let rows = reader
        .ask(
            "SELECT TABLE_SCHEMA,TABLE_NAME,TABLE_ROWS,DATA_LENGTH,TABLE_TYPE,TABLES.ENGINE,\
             TRANSACTIONS,CREATE_TIME FROM information_schema.TABLES \
             LEFT JOIN information_schema.ENGINES ON ENGINES.ENGINE=TABLES.ENGINE \
             WHERE TABLE_TYPE IN ('BASE TABLE','SYSTEM VERSIONED')",
        )
        .await?;
    let (mut tables, mut made) = (BTreeMap::new(), BTreeMap::new());
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
            made.insert(name.clone(), row.text(7));
            tables.insert(name, table);
        }
    }
    Ok((tables.into_values().collect(), made))
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
        Self::connect(source.db()).await
    }

    async fn connect(db: &DbConfig) -> Result<Self> {
        let open = async {
            let mut conn = Conn::open(db).await?;
            conn.wait_for(SILENCE_MAX);
            for sql in SESSION {
                conn.query(sql).await?;
            }
            for sql in ON_SOME {
                match conn.query(sql).await {
                    Err(fault) if fault.code().is_some() => {}
                    set => drop(set?),
                }
            }
            Ok(conn)
        };
        let conn = open.await.map_err(|fault| broken(&fault, db))?;
        Ok(Self {
            conn,
            db: db.clone(),
            time_zone: "+00:00".to_owned(),
            rows: Rows::default(),
            names: None,
        })
    }

    async fn run(&mut self, sql: &str) -> Result<()> {
        self.ask(sql).await.map(drop)
    }

    async fn ask(&mut self, sql: &str) -> Result<Vec<Row>> {
        let rows = self.conn.query(sql).await;
        rows.map_err(|fault| self.refused(sql, &fault))
    }

    /// The key that a query finds.
    async fn key(&mut self, reading: &Reading, sql: &str) -> Result<Option<KeyValue>> {
        self.run(BEFORE_ROWS).await?;
        let rows = self.conn.rows(sql).await;
        self.rows = rows.map_err(|fault| self.refused(sql, &fault))?;
        let mut found = None;
        // There is one at most, and behind the last one the savepoint is left.
        while let Some(row) = self.next().await? {
            let values: Option<Vec<_>> = row.values().collect();
            found = values.and_then(|values| reading.found(values.into_iter()));
        }
        Ok(found)
    }

    /// What a fault means: a snapshot whose connection broke is taken anew, a statement that the
    /// server refuses is refused again.
    fn refused(&self, sql: &str, fault: &Fault) -> Error {
        match fault.code() {
            Some(number) if DENIED.contains(&number) => {
                let cause = fault.to_string();
                let (right, object) = match cause.contains("SHOW VIEW") {
                    true => ("SHOW VIEW", "view"),
                    false => ("SELECT", "table"),
                };
                failed(sql).with_cause(cause).with_workaround(format!(
                    "Grant {right} on the {object} to the user of the source, then resume the task."
                ))
            }
            Some(number) if !LOST.contains(&number) => failed(sql).with_cause(fault.to_string()),
            _ => broken(fault, &self.db),
        }
    }
}

/// What tells how a table, a view or, without a table, a schema is made.
fn show_create(name: &TableName) -> String {
    let kind = if name.table.is_empty() {
        "DATABASE"
    } else {
        "TABLE"
    };
    format!("SHOW CREATE {kind} {name}")
}

impl Definer for SnapshotReader {
    async fn definition(&mut self, name: &TableName) -> Result<Definition> {
        let noted = self.names.as_ref().and_then(|it| it.definitions.get(name));
        if let Some(definition) = noted {
            return Ok(definition.clone());
        }
        let sql = show_create(name);
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

    async fn ends(
        &mut self,
        reading: &Reading,
        piece: &Piece,
    ) -> Result<Option<(KeyValue, KeyValue)>> {
        let [first, last] = reading.ends(piece);
        let first = self.key(reading, &first).await?;
        Ok(first.zip(self.key(reading, &last).await?))
    }

    async fn amid(
        &mut self,
        reading: &Reading,
        piece: &Piece,
        (low, high): (&KeyValue, &KeyValue),
    ) -> Result<Option<KeyValue>> {
        for sql in reading.amid(piece, low, high).into_iter().flatten() {
            if let Some(key) = self.key(reading, &sql).await?
                && key != *high
            {
                return Ok(Some(key));
            }
        }
        Ok(None)
    }

    async fn estimate(&mut self, reading: &Reading, piece: &Piece) -> Result<Option<u64>> {
        self.run(BEFORE_ROWS).await?;
        let rows = self.ask(&reading.estimate(piece)).await?;
        self.run(BEHIND_ROWS).await?;
        let guess = rows.first().and_then(|row| match row.len() {
            // With partitions, and the part that is filtered.
            12 => row.get(9),
            10 => row.get(8),
            _ => None,
        });
        Ok(guess.and_then(|text| text.as_ref()?.parse().ok()))
    }

    async fn read(&mut self, reading: &Reading, piece: &Piece) -> Result<()> {
        self.run(BEFORE_ROWS).await?;
        let sql = reading.rows(piece);
        let rows = self.conn.rows(&sql).await;
        self.rows = rows.map_err(|fault| self.refused(&sql, &fault))?;
        // From now on until all rows are read the table keeps its name.
        match &self.names {
            Some(names) => names.check(reading.table()).await,
            None => Ok(()),
        }
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
