//! Reading the definition of a table from `information_schema`.

use std::collections::BTreeMap;

use dm_core::{
    error::{Error, Result, Scope, code},
    sync::schema::{ColumnInfo, Key, KeyPart, Table, TableName},
};
use mysql_async::Row;

use crate::mysql::session::{Literal, Session, Values};

/// Reads a table; `None` when there is none of that name.
///
/// # Errors
/// Rows in it could not be committed together with their progress.
pub(super) async fn read(session: &mut Session, name: &TableName) -> Result<Option<Table>> {
    let condition = format!(
        "TABLE_SCHEMA={} AND TABLE_NAME={}",
        Literal(&name.schema),
        Literal(&name.table)
    );
    let columns = session
        .rows(&format!(
            "SELECT COLUMN_NAME,DATA_TYPE,COLUMN_TYPE,CHARACTER_SET_NAME,COLLATION_NAME,\
             IS_NULLABLE,EXTRA,CHARACTER_MAXIMUM_LENGTH FROM information_schema.COLUMNS \
             WHERE {condition} ORDER BY ORDINAL_POSITION"
        ))
        .await?;
    if columns.is_empty() {
        return Ok(None);
    }
    let kind = session
        .rows(&format!(
            "SELECT TABLE_TYPE,TABLES.ENGINE,TRANSACTIONS FROM information_schema.TABLES \
             LEFT JOIN information_schema.ENGINES ON ENGINES.ENGINE=TABLES.ENGINE \
             WHERE {condition}"
        ))
        .await?;
    if let Some(kind) = kind.first() {
        takes_transactions(name, kind)?;
    }
    let columns: Vec<_> = columns.iter().map(column).collect();
    let parts = session
        .rows(&format!(
            "SELECT INDEX_NAME,NON_UNIQUE,COLUMN_NAME,SUB_PART FROM information_schema.STATISTICS \
             WHERE {condition} ORDER BY INDEX_NAME,SEQ_IN_INDEX"
        ))
        .await?;
    let keys = keys(&parts, &columns);
    Ok(Some(Table {
        name: name.clone(),
        columns,
        keys,
    }))
}

/// Refuses what an open transaction can't take back.
fn takes_transactions(name: &TableName, kind: &Row) -> Result<()> {
    let (message, workaround) = if kind.text(0).eq_ignore_ascii_case("view") {
        (
            format!("{name} is a view in the target: it has no keys to find rows by"),
            "Route the rows to the table behind the view, or put a table in its place.".to_owned(),
        )
    } else if kind.text(2).eq_ignore_ascii_case("yes") {
        return Ok(());
    } else {
        (
            format!(
                "the target's table {name} has no transactions (engine {}): its rows could be \
                 applied twice or by halves",
                kind.text(1)
            ),
            format!("Execute `ALTER TABLE {name} ENGINE=InnoDB` in the target, then resume."),
        )
    };
    Err(Error::new(&code::SYNCER_TARGET_NOT_TRANSACTIONAL, message)
        .with_scope(Scope::Downstream)
        .with_workaround(workaround))
}

fn column(row: &Row) -> ColumnInfo {
    let optional = |index| (!row.is_null(index)).then(|| row.text(index));
    let column_type = row.text(2);
    // `DEFAULT_GENERATED` is no generated column.
    let extra = row.text(6).to_ascii_uppercase();
    let generated = ["VIRTUAL GENERATED", "STORED GENERATED", "PERSISTENT"]
        .iter()
        .any(|kind| extra.contains(kind));
    ColumnInfo {
        name: row.text(0),
        type_name: row.text(1).to_ascii_lowercase(),
        unsigned: column_type.to_ascii_lowercase().contains("unsigned"),
        column_type,
        charset: optional(3),
        collation: optional(4),
        nullable: row.text(5).eq_ignore_ascii_case("yes"),
        generated,
        length: optional(7).and_then(|text| text.parse().ok()),
    }
}

fn keys(parts: &[Row], columns: &[ColumnInfo]) -> Vec<Key> {
    let mut keys: BTreeMap<String, Key> = BTreeMap::new();
    for part in parts {
        let name = part.text(0);
        let primary = name == "PRIMARY";
        let key = keys.entry(name.clone()).or_insert_with(|| Key {
            name,
            primary,
            unique: part.text(1) == "0",
            parts: Vec::new(),
        });
        let column = part.text(2);
        key.parts.push(KeyPart {
            // NULL for an expression, which no column matches.
            column: columns
                .iter()
                .position(|other| other.name.eq_ignore_ascii_case(&column)),
            prefix: (!part.is_null(3)).then(|| part.number(3)),
        });
    }
    keys.into_values().collect()
}
