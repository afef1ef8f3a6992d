//! Whether a name still means the table that a snapshot was taken of.
//!
//! A snapshot holds rows still, and not names: whoever renames `t` to `old` and `new` to `t` gives
//! readers of `t` the rows of `new`, if that was there when the snapshot was taken. (Of a table
//! that was made later a server says so: error 1412.) So do tools that change tables online.

use std::{collections::BTreeMap, time::Duration};

use dm_core::{
    binlog::Flavor,
    control::db::DbConfig,
    error::{Error, Result, Scope, code},
    sync::schema::TableName,
};
use tokio::sync::Mutex;

use super::{SnapshotReader, definition, show_create};
use crate::{
    mysql::{session::Values, source::Upstream},
    ports::copy::{Definition, SnapshotTable},
};

/// No such table.
const GONE: u16 = 1146;
/// All that is asked here is answered at once.
const SILENCE_MAX: Duration = Duration::from_secs(30);

/// The tables of a snapshot by their names.
pub(super) struct Names {
    /// When each was made or altered, to the second, as `information_schema` has it.
    pub(super) made: BTreeMap<TableName, String>,
    /// What each is made with.
    pub(super) definitions: BTreeMap<TableName, Definition>,
    /// When the snapshot was taken, at the latest.
    taken: String,
    /// Whether a table that gets another name keeps that time: MySQL 8.0 has it in its dictionary,
    /// others ask a file.
    keeps_time: bool,
    db: DbConfig,
    /// A connection that sees names as they are now.
    now: Mutex<SnapshotReader>,
}

impl Names {
    /// Of tables that were made then. Nothing if one is gone.
    pub(super) async fn new(
        source: &Upstream,
        made: BTreeMap<TableName, String>,
        tables: &[SnapshotTable],
    ) -> Result<Option<Self>> {
        let flavor = source.flavor().await?;
        let mut now = SnapshotReader::open(source).await?;
        now.conn.wait_for(SILENCE_MAX);
        let major = now.conn.version().split('.').next().unwrap_or_default();
        let major: u32 = major.parse().unwrap_or_default();
        let mut definitions = BTreeMap::new();
        for SnapshotTable { table, .. } in tables {
            let sql = show_create(&table.name);
            let rows = match now.conn.query(&sql).await {
                Err(fault) if fault.code() == Some(GONE) => return Ok(None),
                rows => rows.map_err(|fault| now.refused(&sql, &fault))?,
            };
            let Some(row) = rows.first() else {
                return Ok(None);
            };
            let definition = Definition {
                sql: row.text(1),
                time_zone: now.time_zone.clone(),
            };
            definitions.insert(table.name.clone(), definition);
        }
        let rows = now.ask("SELECT NOW()").await?;
        let taken = rows.first().map_or_else(String::new, |row| row.text(0));
        Ok(Some(Self {
            made,
            definitions,
            taken,
            keeps_time: flavor == Flavor::Mysql && major >= 8,
            db: source.db().clone(),
            now: Mutex::new(now),
        }))
    }

    /// To be asked while the table is being read, and so cannot get another name.
    ///
    /// # Errors
    /// 10001: it is another table, or may be one.
    pub(super) async fn check(&self, table: &TableName) -> Result<()> {
        let sql = format!(
            "SELECT CREATE_TIME FROM information_schema.TABLES WHERE {}",
            definition::condition(table)
        );
        let mut conn = self.now.lock().await;
        let rows = match conn.conn.query(&sql).await {
            // It may have had nothing to say for hours, and any other one will do.
            Err(fault) if fault.code().is_none() => {
                *conn = SnapshotReader::connect(&self.db).await?;
                conn.conn.wait_for(SILENCE_MAX);
                conn.ask(&sql).await?
            }
            rows => rows.map_err(|fault| conn.refused(&sql, &fault))?,
        };
        drop(conn);
        let now = rows.first().map(|row| row.text(0)).unwrap_or_default();
        let is_same = match self.made.get(table) {
            Some(made) if *made == now => true,
            // Altered since: rows of before can still be read, or the server says that they can't.
            Some(_) => self.keeps_time && now > self.taken,
            None => false,
        };
        if is_same {
            return Ok(());
        }
        let text = format!("{table} is another table than when the snapshot was taken");
        Err(Error::new(&code::DB_DRIVER_ERROR, text).with_scope(Scope::Upstream))
    }
}
