//! The definition of a table as `information_schema` has it, upstream and downstream.

use std::collections::BTreeMap;

use dm_core::sync::schema::{ColumnInfo, Key, KeyPart, Table, TableName};

use super::session::{Literal, Values};

/// The condition that names a table.
pub(super) fn condition(name: &TableName) -> String {
    format!(
        "TABLE_SCHEMA={} AND TABLE_NAME={}",
        Literal(&name.schema),
        Literal(&name.table)
    )
}

/// What [`column()`] wants to know, of `information_schema.COLUMNS`.
pub(crate) const COLUMN: &str = "COLUMN_NAME,DATA_TYPE,COLUMN_TYPE,CHARACTER_SET_NAME,\
    COLLATION_NAME,IS_NULLABLE,EXTRA,CHARACTER_MAXIMUM_LENGTH";
/// What [`keys_of`] wants to know, of `information_schema.STATISTICS`. Only newer servers can say
/// whether queries may not use an index, each in its way: others pass over the comments.
pub(crate) const KEY_PART: &str = "INDEX_NAME,NON_UNIQUE,COLUMN_NAME,SUB_PART,INDEX_TYPE,\
    0 /*!80000 OR IS_VISIBLE='NO' */ /*M!100600 OR `IGNORED`='YES' */";

/// The query for the columns of a table.
pub(super) fn columns(name: &TableName) -> String {
    format!(
        "SELECT {COLUMN} FROM information_schema.COLUMNS WHERE {} ORDER BY ORDINAL_POSITION",
        condition(name)
    )
}

/// The query for its keys.
pub(super) fn keys(name: &TableName) -> String {
    format!(
        "SELECT {KEY_PART} FROM information_schema.STATISTICS WHERE {} \
         ORDER BY INDEX_NAME,SEQ_IN_INDEX",
        condition(name)
    )
}

/// What the answers to both say; `None` when there is no table of that name.
pub(super) fn table<R: Values>(name: &TableName, columns: &[R], parts: &[R]) -> Option<Table> {
    let columns: Vec<_> = columns.iter().map(column).collect();
    (!columns.is_empty()).then(|| Table {
        name: name.clone(),
        keys: keys_of(parts, &columns),
        columns,
    })
}

/// A column, from a row that begins with [`COLUMN`].
pub(crate) fn column(row: &impl Values) -> ColumnInfo {
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

/// The keys of a table, from rows that begin with [`KEY_PART`].
pub(crate) fn keys_of(parts: &[impl Values], columns: &[ColumnInfo]) -> Vec<Key> {
    let mut keys: BTreeMap<String, Key> = BTreeMap::new();
    for part in parts {
        let name = part.text(0);
        let primary = name == "PRIMARY";
        let key = keys.entry(name.clone()).or_insert_with(|| Key {
            name,
            primary,
            unique: part.text(1) == "0",
            unordered: part.text(4).eq_ignore_ascii_case("hash") || part.text(5) == "1",
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::mysql::conn::Row;

    #[test]
    fn keys_that_nothing_is_read_by_are_told() {
        for (index_type, hidden, expected) in [
            ("BTREE", "0", false),
            ("HASH", "0", true),
            ("BTREE", "1", true),
        ] {
            let part = [
                Some("u"),
                Some("0"),
                Some("A"),
                None,
                Some(index_type),
                Some(hidden),
            ];
            let part: Row = part.map(|it| it.map(str::to_owned)).into();
            let column = ColumnInfo {
                name: "a".to_owned(),
                ..ColumnInfo::default()
            };
            let keys = keys_of(&[part], &[column]);
            assert_eq!((keys.len(), &*keys[0].name), (1, "u"));
            assert_eq!(keys[0].unordered, expected, "{index_type} {hidden}");
            assert_eq!(keys[0].parts[0].column, Some(0));
        }
        let expressions = KEY_PART.split(',').count();
        assert_eq!(expressions, 6, "others count on what stands behind");
    }
}
