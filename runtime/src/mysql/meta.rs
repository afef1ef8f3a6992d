//! The tables that the worker keeps in the target, beside the user's.
//!
//! # `<task>_progress`
//!
//! One row per slot says what that slot has applied. It is written in the same transaction as the
//! slot's rows, under two conditions: the fence is still the writer's, and `seq` is still what the
//! batch was planned from. Slot -1 is the *control row* of a source: what takes part in no slot. It
//! is written under the same two conditions.
//!
//! | column | slot rows | control row |
//! | --- | --- | --- |
//! | `id`, `slot` | source id, slot number; the key | source id, -1 |
//! | `slots` | how many slots there are | the same |
//! | `fence` | the ownership that may write | the same |
//! | `seq` | counts the row's moves | counts its writes |
//! | `binlog_name`, `_pos`, `_gtid` | all before it is applied | the checkpoint as written last |
//! | `txn`, `txn_rows` | next transaction, how much of it is applied | exit point as written last |
//! | `session` | connection that may have a transaction open | the same |
//! | `intent` | | the DDL under way, as JSON |
//! | `safe_until` | | end of the window to be applied in safe mode, as JSON |
//!
//! A row with an empty `id` belongs to nobody. It is there so that a guard can fail: see
//! [`Meta::fenced`].
//!
//! # `<task>_syncer_checkpoint`
//!
//! Is the existing worker's, column by column, and kept up to date so that it can take over. What
//! was written last is remembered in the control row: if the table says anything else, somebody
//! else wrote it (or removed it), and our progress is void.
//!
//! What is kept of a copy is in `copy`.

mod copy;

use std::fmt::Write as _;

use dm_core::{
    binlog::{Flavor, GtidSet, Position},
    error::{Error, Result, Scope, code},
    sync::{
        progress::{Applied, Fence, Location, SlotProgress},
        schema::TableName,
    },
};
use mysql_async::Row;
use serde::{Deserialize, Serialize};

use super::session::{Literal, Values};
use crate::ports::Checkpoint;

/// Slot number of the control row.
pub(crate) const CONTROL: i64 = -1;

/// Index of the guard among the statements of a fenced packet, counted from its `BEGIN`.
pub(crate) const GUARD: usize = 2;

/// Where a session keeps the number of its warnings.
pub(crate) const WARNINGS: &str = "@dm_warnings";

/// Names and texts for one subtask.
#[derive(Clone, Debug)]
pub(crate) struct Meta {
    progress: String,
    checkpoint: String,
    copy: String,
    loads: String,
    /// The task's name as a literal.
    task: String,
    /// The source's id as a literal.
    id: String,
    flavor: Flavor,
}

/// A row of the progress table.
#[derive(Clone, Debug)]
pub(crate) struct ProgressRow {
    pub(crate) slot: i64,
    pub(crate) seq: u64,
    pub(crate) name: String,
    pub(crate) pos: u64,
    pub(crate) gtids: String,
    pub(crate) txn: String,
    pub(crate) txn_rows: u64,
    pub(crate) intent: Option<String>,
    pub(crate) safe_until: Option<String>,
}

/// A location as JSON.
#[derive(Clone, Debug, Deserialize, Serialize)]
pub(crate) struct StoredLocation {
    file: String,
    pos: u64,
    gtids: Option<String>,
}

impl Meta {
    pub(crate) fn new(schema: &str, task: &str, source: &str, flavor: Flavor) -> Self {
        let table = |suffix: &str| TableName::new(schema, format!("{task}{suffix}")).to_string();
        Self {
            progress: table("_progress"),
            checkpoint: table("_syncer_checkpoint"),
            copy: table("_copy"),
            loads: table("_lightning_checkpoint_list"),
            task: Literal(task).to_string(),
            id: Literal(source).to_string(),
            flavor,
        }
    }

    /// The statements that make both tables, harmless when they are there.
    pub(crate) fn create(&self) -> [String; 3] {
        let Self {
            progress,
            checkpoint,
            ..
        } = self;
        [
            format!(
                "CREATE TABLE IF NOT EXISTS {progress} (\
                 `id` VARCHAR(32) NOT NULL,\
                 `slot` INT NOT NULL,\
                 `slots` INT NOT NULL DEFAULT 0,\
                 `fence` BIGINT NOT NULL DEFAULT 0,\
                 `seq` BIGINT UNSIGNED NOT NULL DEFAULT 0,\
                 `binlog_name` VARCHAR(512) NOT NULL DEFAULT '',\
                 `binlog_pos` BIGINT UNSIGNED NOT NULL DEFAULT 0,\
                 `binlog_gtid` LONGTEXT,\
                 `txn` VARCHAR(1024) NOT NULL DEFAULT '',\
                 `txn_rows` BIGINT UNSIGNED NOT NULL DEFAULT 0,\
                 `session` BIGINT UNSIGNED NOT NULL DEFAULT 0,\
                 `intent` LONGTEXT,\
                 `safe_until` LONGTEXT,\
                 `update_time` TIMESTAMP NOT NULL DEFAULT CURRENT_TIMESTAMP \
                 ON UPDATE CURRENT_TIMESTAMP,\
                 PRIMARY KEY (`id`,`slot`)\
                 ) ENGINE=InnoDB DEFAULT CHARSET=utf8mb4 COLLATE=utf8mb4_bin"
            ),
            format!("INSERT IGNORE INTO {progress} (`id`,`slot`) VALUES ('',0)"),
            format!(
                "CREATE TABLE IF NOT EXISTS {checkpoint} (\
                 `id` VARCHAR(32) NOT NULL,\
                 `cp_schema` VARCHAR(128) NOT NULL,\
                 `cp_table` VARCHAR(128) NOT NULL,\
                 `binlog_name` VARCHAR(128),\
                 `binlog_pos` INT UNSIGNED,\
                 `binlog_gtid` TEXT,\
                 `exit_safe_binlog_name` VARCHAR(128) DEFAULT '',\
                 `exit_safe_binlog_pos` INT UNSIGNED DEFAULT 0,\
                 `exit_safe_binlog_gtid` TEXT,\
                 `table_info` JSON NOT NULL,\
                 `is_global` BOOLEAN,\
                 `create_time` TIMESTAMP NOT NULL DEFAULT CURRENT_TIMESTAMP,\
                 `update_time` TIMESTAMP NOT NULL DEFAULT CURRENT_TIMESTAMP \
                 ON UPDATE CURRENT_TIMESTAMP,\
                 UNIQUE KEY `uk_id_schema_table` (`id`,`cp_schema`,`cp_table`)\
                 ) ENGINE=InnoDB DEFAULT CHARSET=utf8mb4 COLLATE=utf8mb4_bin"
            ),
        ]
    }

    /// Queries that have a row each if the task has begun on this source, be it with another
    /// worker. Their tables may be missing.
    pub(crate) fn select_traces(&self) -> [String; 4] {
        let Self {
            progress,
            checkpoint,
            copy,
            loads,
            task,
            id,
            ..
        } = self;
        let trace = |table: &str| format!("SELECT 1 FROM {table} WHERE `id`={id} LIMIT 1");
        [
            trace(progress),
            trace(checkpoint),
            trace(copy),
            format!(
                "SELECT 1 FROM {loads} WHERE `task_name`={task} AND `source_name`={id} \
                 AND `status`<>'init' LIMIT 1"
            ),
        ]
    }

    /// Begins a transaction that only the owner can commit: sets `assignments` in one progress row
    /// if its fence (and `seq`, if given) is as expected, and *fails on the server* if it is not.
    ///
    /// The guard inserts a key that exists wherever the update matched nothing. This is the one
    /// form that works on MySQL, MariaDB and TiDB alike: failing in a `SELECT` or `DO` does not.
    /// It stands before the rows, so that a refused packet touches none of them.
    pub(crate) fn fenced(&self, slot: i64, fence: Fence, seq: Option<u64>, set: &str) -> String {
        let mut condition = format!("`fence`={}", fence.0);
        if let Some(seq) = seq {
            // Writing to a text cannot fail.
            let _ = write!(condition, " AND `seq`={seq}");
        }
        self.guarded(slot, &condition, set)
    }

    fn guarded(&self, slot: i64, condition: &str, set: &str) -> String {
        let Self { progress, id, .. } = self;
        format!(
            "BEGIN;UPDATE {progress} SET {set} WHERE `id`={id} AND `slot`={slot} AND {condition};\
             INSERT INTO {progress} (`id`,`slot`) SELECT '',0 FROM dual WHERE ROW_COUNT()<>1"
        )
    }

    /// Behind a statement that writes so many rows, makes the transaction fail unless it wrote at
    /// least so many without a warning. In this form the numbers last on MySQL and MariaDB alike:
    /// a statement that names tables begins with a reset of them on the latter.
    pub(crate) fn unless_written(&self, rows: u64) -> String {
        format!(
            "SET {WARNINGS}=@@warning_count,@dm_rows=ROW_COUNT();\
             INSERT INTO {} (`id`,`slot`) SELECT '',0 FROM dual \
             WHERE ({WARNINGS}=0 AND @dm_rows>={rows}) IS NOT TRUE",
            self.progress
        )
    }

    /// The assignments that move a slot's row.
    pub(crate) fn moved_to(&self, applied: &Applied) -> String {
        let txn = applied.txn.as_ref().map(ToString::to_string);
        format!(
            "`seq`=`seq`+1,{},`txn`={},`txn_rows`={}",
            location_columns(&applied.boundary),
            Literal(txn.as_deref().unwrap_or_default()),
            applied.rows,
        )
    }

    /// Moves every slot.
    pub(crate) fn move_all(&self, applied: &Applied) -> String {
        format!(
            "UPDATE {} SET {} WHERE `id`={} AND `slot`>=0",
            self.progress,
            self.moved_to(applied),
            self.id
        )
    }

    /// Notes which connection is about to write for a slot, under the fence.
    pub(crate) fn register(&self, slot: i64, fence: Fence) -> String {
        self.fenced(slot, fence, None, "`session`=CONNECTION_ID()") + ";COMMIT"
    }

    /// Makes the control row if it is missing, then writes a new fence into all rows, unless a
    /// higher one is there (or the same, unless it `may_be_there`), and makes every packet that
    /// was planned before come too late. The `BEGIN` is statement number 1.
    ///
    /// A slot goes two steps: this packet may itself land late, while a batch's end is unknown, and
    /// one step on would look as if that batch were applied.
    pub(crate) fn take_over(&self, Fence(fence): Fence, may_be_there: bool) -> String {
        let Self { progress, id, .. } = self;
        let set = format!("`fence`={fence},`seq`=`seq`+1,`session`=CONNECTION_ID()");
        let below = if may_be_there { "<=" } else { "<" };
        format!(
            "INSERT IGNORE INTO {progress} (`id`,`slot`) VALUES ({id},{CONTROL});{};\
             UPDATE {progress} SET `fence`={fence},`seq`=`seq`+2,`session`=0 \
             WHERE `id`={id} AND `slot`>=0;COMMIT",
            self.guarded(CONTROL, &format!("`fence`{below}{fence}"), &set)
        )
    }

    /// Reads all progress rows; see [`ProgressRow::read`].
    pub(crate) fn select(&self) -> String {
        format!(
            "SELECT `slot`,`seq`,`binlog_name`,`binlog_pos`,`binlog_gtid`,`txn`,\
             `txn_rows`,`intent`,`safe_until` FROM {} WHERE `id`={} ORDER BY `slot`",
            self.progress, self.id
        )
    }

    /// Reads fence, seq and session of one row.
    pub(crate) fn select_one(&self, slot: i64, and_lock: bool) -> String {
        format!(
            "SELECT `fence`,`seq`,`session` FROM {} WHERE `id`={} AND `slot`={slot}{}",
            self.progress,
            self.id,
            if and_lock { " FOR UPDATE" } else { "" }
        )
    }

    /// Reads the highest step that any slot was ever at.
    pub(crate) fn select_highest_seq(&self) -> String {
        format!(
            "SELECT MAX(`seq`) FROM {} WHERE `id`={}",
            self.progress, self.id
        )
    }

    /// The assignment that notes the end of a window of safe mode.
    pub(crate) fn safe_until(&self, end: Option<&Location>) -> String {
        // A location has no part that JSON could refuse.
        let text = end.and_then(|end| serde_json::to_string(&StoredLocation::from(end)).ok());
        match text {
            Some(text) => format!("`safe_until`={}", Literal(&text)),
            None => "`safe_until`=NULL".to_owned(),
        }
    }

    /// Reads the connections that may have transactions open.
    pub(crate) fn select_sessions(&self) -> String {
        format!(
            "SELECT DISTINCT `session` FROM {} WHERE `id`={} AND `session`<>0",
            self.progress, self.id
        )
    }

    /// Replaces the slot rows inside an open transaction.
    pub(crate) fn replace_slots(&self, slots: &[SlotProgress], Fence(fence): Fence) -> String {
        let Self { progress, id, .. } = self;
        let count = slots.len();
        let mut sql = format!("DELETE FROM {progress} WHERE `id`={id} AND `slot`>=0");
        for SlotProgress { slot, seq, applied } in slots {
            let location = location_columns(&applied.boundary);
            // Writing to a text cannot fail.
            let _ = write!(
                sql,
                ";INSERT INTO {progress} SET `id`={id},`slot`={slot},`slots`={count},\
                 `fence`={fence},`seq`={seq},{location}"
            );
        }
        sql
    }

    /// The control row's memory of the checkpoint that [`Self::upsert_checkpoint`] writes.
    pub(crate) fn remember(&self, checkpoint: &Checkpoint) -> String {
        format!(
            "{},`txn`={}",
            location_columns(&checkpoint.global),
            Literal(&exit_text(checkpoint))
        )
    }

    /// The existing worker's statement for its global row.
    pub(crate) fn upsert_checkpoint(&self, checkpoint: &Checkpoint) -> String {
        const COLUMNS: [&str; 11] = [
            "id",
            "cp_schema",
            "cp_table",
            "binlog_name",
            "binlog_pos",
            "binlog_gtid",
            "exit_safe_binlog_name",
            "exit_safe_binlog_pos",
            "exit_safe_binlog_gtid",
            "table_info",
            "is_global",
        ];
        let columns = COLUMNS.map(|name| format!("`{name}`")).join(",");
        let updates: Vec<_> = COLUMNS[3..]
            .iter()
            .map(|name| format!("`{name}`=VALUES(`{name}`)"))
            .collect();
        let none = Location::default();
        let exit_safe = checkpoint.exit_safe.as_ref().unwrap_or(&none);
        format!(
            "INSERT INTO {} ({columns}) VALUES ({},'','',{},{},'null',1) \
             ON DUPLICATE KEY UPDATE {}",
            self.checkpoint,
            self.id,
            location_values(&checkpoint.global),
            location_values(exit_safe),
            updates.join(",")
        )
    }

    /// Forgets a source table's own checkpoint row, with the structure stored in it: the existing
    /// worker then reads the structure from the target.
    pub(crate) fn forget_table(&self, source: &TableName) -> String {
        let mut sql = format!(
            "DELETE FROM {} WHERE `id`={} AND `is_global`=0 AND `cp_schema`={}",
            self.checkpoint,
            self.id,
            Literal(&source.schema)
        );
        if !source.table.is_empty() {
            // Writing to a text cannot fail.
            let _ = write!(sql, " AND `cp_table`={}", Literal(&source.table));
        }
        sql
    }

    /// Reads the existing worker's global row of this source.
    pub(crate) fn select_checkpoint(&self) -> String {
        format!(
            "SELECT `binlog_name`,`binlog_pos`,`binlog_gtid`,`exit_safe_binlog_name`,\
             `exit_safe_binlog_pos`,`exit_safe_binlog_gtid` FROM {} \
             WHERE `id`={} AND `is_global`=1",
            self.checkpoint, self.id
        )
    }

    /// A location of this source.
    pub(crate) fn location(&self, name: &str, pos: u64, gtids: &str) -> Result<Location> {
        let gtids = match gtids.trim() {
            "" => None,
            text => Some(
                GtidSet::parse(self.flavor, text)
                    .map_err(|error| invalid(format!("GTID set `{text}`"), &error))?,
            ),
        };
        Ok(Location {
            position: Position::new(name, pos),
            gtids,
        })
    }

    /// Reads a stored location.
    pub(crate) fn parse_location(&self, text: &str) -> Result<Location> {
        let stored: StoredLocation = serde_json::from_str(text)
            .map_err(|error| invalid(format!("location `{text}`"), &error))?;
        self.restore(&stored)
    }

    /// A location as it was stored.
    pub(crate) fn restore(&self, stored: &StoredLocation) -> Result<Location> {
        let gtids = stored.gtids.as_deref().unwrap_or_default();
        self.location(&stored.file, stored.pos, gtids)
    }

    /// What a slot's row says.
    pub(crate) fn slot_progress(&self, row: &ProgressRow) -> Result<SlotProgress> {
        let txn = match row.txn.as_str() {
            "" => None,
            text => Some(
                text.parse()
                    .map_err(|error| invalid(format!("transaction `{text}`"), &error))?,
            ),
        };
        Ok(SlotProgress {
            slot: u32::try_from(row.slot).unwrap_or_default(),
            seq: row.seq,
            applied: Applied {
                boundary: self.location(&row.name, row.pos, &row.gtids)?,
                txn,
                rows: row.txn_rows,
            },
        })
    }

    /// What the existing worker's global row says; `None` when there is none, or it says nothing.
    pub(crate) fn checkpoint(&self, rows: &[Row]) -> Result<Option<Checkpoint>> {
        let is_set = |row: &&Row| !row.text(0).is_empty() || !row.text(2).is_empty();
        let Some(row) = rows.first().filter(is_set) else {
            return Ok(None);
        };
        let exit_safe = if row.text(3).is_empty() {
            None
        } else {
            Some(self.location(&row.text(3), row.number(4), &row.text(5))?)
        };
        Ok(Some(Checkpoint {
            global: self.location(&row.text(0), row.number(1), &row.text(2))?,
            exit_safe,
        }))
    }
}

impl ProgressRow {
    /// Reads a row of [`Meta::select`].
    pub(crate) fn read(row: &Row) -> Self {
        let optional = |index| (!row.is_null(index)).then(|| row.text(index));
        Self {
            slot: row.number(0),
            seq: row.number(1),
            name: row.text(2),
            pos: row.number(3),
            gtids: row.text(4),
            txn: row.text(5),
            txn_rows: row.number(6),
            intent: optional(7),
            safe_until: optional(8),
        }
    }

    /// Whether this control row remembers just the checkpoint that is in the table.
    pub(crate) fn remembers(&self, checkpoint: &Checkpoint) -> bool {
        let Checkpoint { global, .. } = checkpoint;
        let gtids = global.gtids.as_ref().map(ToString::to_string);
        self.name == global.position.file
            && self.pos == global.position.pos
            && self.gtids == gtids.unwrap_or_default()
            && self.txn == exit_text(checkpoint)
    }
}

impl From<&Location> for StoredLocation {
    fn from(location: &Location) -> Self {
        Self {
            file: location.position.file.clone(),
            pos: location.position.pos,
            gtids: location.gtids.as_ref().map(ToString::to_string),
        }
    }
}

/// What of a checkpoint fits into the existing worker's columns: 32 bits of an offset, 64 KiB of a
/// GTID set. That worker goes on with the one where the other is missing, and the source refuses
/// the greatest offset, so that a place which can't be said is noticed and not taken for another.
pub(crate) fn fitting(checkpoint: &Checkpoint) -> Checkpoint {
    const GTIDS_BYTES_MAX: usize = 0xffff;
    let fit = |location: &Location| Location {
        position: Position {
            pos: location.position.pos.min(u32::MAX.into()),
            ..location.position.clone()
        },
        gtids: location
            .gtids
            .clone()
            .filter(|gtids| gtids.to_string().len() <= GTIDS_BYTES_MAX),
    };
    Checkpoint {
        global: fit(&checkpoint.global),
        exit_safe: checkpoint.exit_safe.as_ref().map(fit),
    }
}

/// Error for a row that does not say what it should.
pub(crate) fn invalid(what: String, error: &dyn std::fmt::Display) -> Error {
    Error::new(
        &code::SYNCER_PROGRESS_INVALID,
        format!("invalid {what} in the meta tables"),
    )
    .with_scope(Scope::Downstream)
    .with_cause(error.to_string())
}

fn exit_text(checkpoint: &Checkpoint) -> String {
    let exit = checkpoint.exit_safe.as_ref();
    exit.map_or_else(String::new, |Location { position, .. }| {
        format!("{}:{}", position.file, position.pos)
    })
}

/// `binlog_name`, `binlog_pos` and `binlog_gtid` of the progress table.
fn location_columns(location: &Location) -> String {
    let Position { file, pos } = &location.position;
    let gtids = location.gtids.as_ref().map(ToString::to_string);
    format!(
        "`binlog_name`={},`binlog_pos`={pos},`binlog_gtid`={}",
        Literal(file),
        Literal(gtids.as_deref().unwrap_or_default())
    )
}

fn location_values(location: &Location) -> String {
    let Position { file, pos } = &location.position;
    let gtids = location.gtids.as_ref().map(ToString::to_string);
    format!(
        "{},{pos},{}",
        Literal(file),
        Literal(gtids.as_deref().unwrap_or_default())
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    fn meta() -> Meta {
        Meta::new("dm`meta", "a-task", "it's", Flavor::Mysql)
    }

    #[test]
    fn names_and_ids_are_quoted() {
        let sql = meta().fenced(3, Fence(7), Some(11), "`seq`=12");
        assert_eq!(
            sql,
            "BEGIN;UPDATE `dm``meta`.`a-task_progress` SET `seq`=12 WHERE `id`='it\\'s' AND \
             `slot`=3 AND `fence`=7 AND `seq`=11;INSERT INTO `dm``meta`.`a-task_progress` \
             (`id`,`slot`) SELECT '',0 FROM dual WHERE ROW_COUNT()<>1"
        );
    }

    #[test]
    fn the_checkpoint_is_written_as_the_existing_worker_does() {
        let checkpoint = Checkpoint {
            global: meta().location("binlog.000004", 15686, "").unwrap(),
            exit_safe: None,
        };
        let sql = Meta::new("m", "t", "one", Flavor::Mysql).upsert_checkpoint(&checkpoint);
        assert!(
            sql.starts_with(
                "INSERT INTO `m`.`t_syncer_checkpoint` (`id`,`cp_schema`,`cp_table`,`binlog_name`,\
                 `binlog_pos`,`binlog_gtid`,`exit_safe_binlog_name`,`exit_safe_binlog_pos`,\
                 `exit_safe_binlog_gtid`,`table_info`,`is_global`) VALUES ('one','','',\
                 'binlog.000004',15686,'','',0,'','null',1) ON DUPLICATE KEY UPDATE \
                 `binlog_name`=VALUES(`binlog_name`),"
            ),
            "{sql}"
        );
    }
}
