//! # `<task>_copy`
//!
//! What is copied of the tables that a task begins with, source by source.
//!
//! | column | the copy | a table | a piece of it |
//! | --- | --- | --- | --- |
//! | `id` | source id | the same | the same |
//! | `source_schema`, `source_table` | empty | name in the source | the same |
//! | `number` | 0 | 0 | where it lies among the others |
//! | `what` | where it began, as JSON | its definition, as JSON | its rows, as JSON |
//! | `rows`, `bytes` | | | how many rows, size of what brought them |
//!
//! A piece's row is written in the transaction that brings its rows, under the fence. While a piece
//! grows, its row does. When the copy is over, the rows of its pieces are removed.
//!
//! # `<task>_lightning_checkpoint_list`
//!
//! Is the existing worker's: how far it has loaded a dump. `init` makes that worker begin with a
//! dump of its own, as it must where our copy is not complete, and `finished` makes it go on with
//! the binlog. A master removes the table with the rest of its meta data, and our copy does not
//! count then.

use std::fmt::Write as _;

use dm_core::{
    error::Result,
    full::{Copied, KeyValue, Piece, PlainKey},
    sync::schema::TableName,
};
use mysql_async::Row;
use serde::{Deserialize, Serialize, de::DeserializeOwned};

use super::{Meta, StoredLocation, invalid};
use crate::{
    mysql::session::{Literal, Values},
    ports::copy::{Cargo, Copy, CopyTable},
};

/// What is written of a copy.
#[derive(Deserialize, Serialize)]
struct StoredCopy {
    from: StoredLocation,
    until: Option<StoredLocation>,
    #[serde(default)]
    server: Option<String>,
    #[serde(default = "yes")]
    is_logged: bool,
    is_over: bool,
}

/// What earlier versions did not ask.
const fn yes() -> bool {
    true
}

/// What is written of a table.
#[derive(Deserialize, Serialize)]
struct StoredTable {
    target_schema: String,
    target_table: String,
    definition: String,
    #[serde(default)]
    charsets: Option<String>,
    place: Option<StoredLocation>,
    #[serde(default)]
    again: Option<StoredLocation>,
    is_gone: bool,
    #[serde(default)]
    is_made: bool,
    /// Name and clause of each.
    #[serde(default)]
    keys: Vec<(String, String)>,
}

/// What is written of a piece.
#[derive(Deserialize, Serialize)]
struct StoredPiece {
    after: Option<Vec<String>>,
    upto: Option<Vec<String>>,
}

impl Meta {
    /// The statements that make both tables, harmless when they are there.
    pub(crate) fn create_copy(&self) -> [String; 2] {
        let Self { copy, loads, .. } = self;
        [
            format!(
                "CREATE TABLE IF NOT EXISTS {copy} (\
                 `id` VARCHAR(32) NOT NULL,\
                 `source_schema` VARCHAR(64) NOT NULL,\
                 `source_table` VARCHAR(64) NOT NULL,\
                 `number` BIGINT UNSIGNED NOT NULL,\
                 `what` LONGTEXT NOT NULL,\
                 `rows` BIGINT UNSIGNED NOT NULL DEFAULT 0,\
                 `bytes` BIGINT UNSIGNED NOT NULL DEFAULT 0,\
                 `create_time` TIMESTAMP NOT NULL DEFAULT CURRENT_TIMESTAMP,\
                 PRIMARY KEY (`id`,`source_schema`,`source_table`,`number`)\
                 ) ENGINE=InnoDB DEFAULT CHARSET=utf8mb4 COLLATE=utf8mb4_bin"
            ),
            format!(
                "CREATE TABLE IF NOT EXISTS {loads} (\
                 `task_name` VARCHAR(255) NOT NULL,\
                 `source_name` VARCHAR(255) NOT NULL,\
                 `status` VARCHAR(10) NOT NULL DEFAULT 'init' COMMENT 'init,running,finished',\
                 PRIMARY KEY (`task_name`,`source_name`))"
            ),
        ]
    }

    /// Reads how far the existing worker would believe a load to be.
    pub(crate) fn select_load(&self) -> String {
        format!(
            "SELECT `status` FROM {} WHERE `task_name`={} AND `source_name`={}",
            self.loads, self.task, self.id
        )
    }

    /// Lets the existing worker believe that a load is not begun, or is over.
    pub(crate) fn upsert_load(&self, is_over: bool) -> String {
        let status = if is_over { "finished" } else { "init" };
        format!(
            "INSERT INTO {} (`task_name`,`source_name`,`status`) VALUES ({},{},'{status}') \
             ON DUPLICATE KEY UPDATE `status`='{status}'",
            self.loads, self.task, self.id
        )
    }

    /// Reads all of a copy; see [`Self::copy_of`].
    pub(crate) fn select_copy(&self) -> String {
        format!(
            "SELECT `source_schema`,`source_table`,`number`,`what`,`rows`,`bytes` FROM {} \
             WHERE `id`={} ORDER BY `source_schema`,`source_table`,`number`",
            self.copy, self.id
        )
    }

    /// What the rows say; nothing if there are none.
    pub(crate) fn copy_of(&self, rows: &[Row]) -> Result<Option<Copy>> {
        let mut found: Option<Copy> = None;
        for row in rows {
            let table = TableName::new(row.text(0), row.text(1));
            let (number, what) = (row.number(2), row.text(3));
            match (&mut found, table.schema.is_empty()) {
                (None, true) => {
                    let StoredCopy {
                        from,
                        until,
                        server,
                        is_logged,
                        is_over,
                    } = parsed(&what)?;
                    found = Some(Copy {
                        from: self.restore(&from)?,
                        until: until.map(|until| self.restore(&until)).transpose()?,
                        server,
                        is_logged,
                        is_over,
                        ..Copy::default()
                    });
                }
                (Some(copy), false) if number == 0 => {
                    let StoredTable {
                        target_schema,
                        target_table,
                        definition,
                        charsets,
                        place,
                        again,
                        is_gone,
                        is_made,
                        keys,
                    } = parsed(&what)?;
                    let keys = keys.into_iter();
                    let keys = keys.map(|(name, clause)| PlainKey { name, clause });
                    let table_copy = CopyTable {
                        target: TableName::new(target_schema, target_table),
                        definition,
                        charsets,
                        place: place.map(|place| self.restore(&place)).transpose()?,
                        again: again.map(|again| self.restore(&again)).transpose()?,
                        is_gone,
                        is_made,
                        keys: keys.collect(),
                        pieces: Vec::new(),
                        rows: 0,
                        bytes: 0,
                    };
                    copy.tables.insert(table, table_copy);
                }
                (Some(copy), false) => {
                    let StoredPiece { after, upto } = parsed(&what)?;
                    let piece = Piece {
                        after: after.map(KeyValue),
                        upto: upto.map(KeyValue),
                    };
                    let Some(known) = copy.tables.get_mut(&table) else {
                        return Err(invalid(
                            format!("piece {number} of {table}"),
                            &"no such table",
                        ));
                    };
                    known.pieces.push(Copied { number, piece });
                    known.rows += row.number::<u64>(4);
                    known.bytes += row.number::<u64>(5);
                }
                _ => {
                    return Err(invalid(
                        format!("row of {table}"),
                        &"the copy itself is missing",
                    ));
                }
            }
        }
        Ok(found)
    }

    /// The statements that note a copy. Pieces stay noted where a table has some, unless it is
    /// over.
    pub(crate) fn replace_copy(&self, copy: &Copy) -> String {
        let Self { copy: name, id, .. } = self;
        let kept = copy.tables.iter();
        let kept = kept.filter(|(_, table)| !copy.is_over && !table.pieces.is_empty());
        let kept: Vec<_> = kept
            .map(|(table, _)| format!("({})", condition(table)))
            .collect();
        let mut sql = format!("DELETE FROM {name} WHERE `id`={id}");
        if !kept.is_empty() {
            // Writing to a text cannot fail.
            let _ = write!(sql, " AND NOT ({})", kept.join(" OR "));
        }
        let what = text(&StoredCopy {
            from: StoredLocation::from(&copy.from),
            until: copy.until.as_ref().map(StoredLocation::from),
            server: copy.server.clone(),
            is_logged: copy.is_logged,
            is_over: copy.is_over,
        });
        let _ = write!(
            sql,
            ";REPLACE INTO {name} (`id`,`source_schema`,`source_table`,`number`,`what`) \
             VALUES ({id},'','',0,{what})"
        );
        for (TableName { schema, table }, state) in &copy.tables {
            let what = text(&StoredTable {
                target_schema: state.target.schema.clone(),
                target_table: state.target.table.clone(),
                definition: state.definition.clone(),
                charsets: state.charsets.clone(),
                place: state.place.as_ref().map(StoredLocation::from),
                again: state.again.as_ref().map(StoredLocation::from),
                is_gone: state.is_gone,
                is_made: state.is_made,
                keys: state
                    .keys
                    .iter()
                    .map(|key| (key.name.clone(), key.clause.clone()))
                    .collect(),
            });
            let _ = write!(
                sql,
                ",({id},{},{},0,{what})",
                Literal(schema),
                Literal(table)
            );
        }
        sql
    }

    /// The statement that notes a piece, or how far it has grown.
    pub(crate) fn copied(&self, cargo: &Cargo) -> String {
        let Self { copy: name, id, .. } = self;
        let Cargo {
            table: TableName { schema, table },
            copied: Copied { number, piece },
            rows,
            body,
            ..
        } = cargo;
        let what = text(&StoredPiece {
            after: piece.after.clone().map(|key| key.0),
            upto: piece.upto.clone().map(|key| key.0),
        });
        let bytes = body.size();
        format!(
            "INSERT INTO {name} \
             (`id`,`source_schema`,`source_table`,`number`,`what`,`rows`,`bytes`) \
             VALUES ({id},{},{},{number},{what},{rows},{bytes}) \
             ON DUPLICATE KEY UPDATE `what`={what},`rows`=`rows`+{rows},`bytes`=`bytes`+{bytes}",
            Literal(schema),
            Literal(table),
        )
    }
}

fn condition(TableName { schema, table }: &TableName) -> String {
    format!(
        "`source_schema`={} AND `source_table`={}",
        Literal(schema),
        Literal(table)
    )
}

/// As a literal. Texts and numbers only, which JSON does not refuse.
fn text(stored: &impl Serialize) -> String {
    Literal(&serde_json::to_string(stored).unwrap_or_default()).to_string()
}

fn parsed<T: DeserializeOwned>(text: &str) -> Result<T> {
    serde_json::from_str(text).map_err(|error| invalid(format!("note of a copy `{text}`"), &error))
}
