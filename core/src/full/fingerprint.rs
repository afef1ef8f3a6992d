//! Whether a table still is what it was.

use alloc::{format, string::String};
use core::fmt::Write as _;

use crate::sync::schema::Table;

/// Stands for what rows of a table look like: its columns, and its keys. The same in every version
/// of the worker, since a copy may outlive one.
#[must_use]
pub fn fingerprint(table: &Table) -> String {
    let mut text = String::new();
    for column in &table.columns {
        // Writing to a text cannot fail. No name has a character of code zero.
        let _ = writeln!(
            text,
            "{}\0{}\0{:?}\0{:?}\0{}{}",
            column.name,
            column.column_type,
            column.charset,
            // What comes before and what behind a row.
            column.collation,
            column.nullable,
            column.generated
        );
    }
    for key in table.unique_keys() {
        let _ = write!(text, "{}", key.name);
        for part in &key.parts {
            let _ = write!(text, "\0{:?}\0{:?}", part.column, part.prefix);
        }
        text.push('\n');
    }
    format!("{:08x}-{}", crc32fast::hash(text.as_bytes()), text.len())
}

#[cfg(test)]
mod tests {
    use alloc::vec;

    use super::*;
    use crate::sync::schema::{ColumnInfo, Key, KeyPart, TableName};

    #[test]
    fn it_tells_what_rows_look_like_and_lasts() {
        let table = Table {
            name: TableName::new("d", "t"),
            columns: vec![ColumnInfo {
                name: "a".into(),
                column_type: "int".into(),
                ..ColumnInfo::default()
            }],
            keys: vec![Key {
                name: "PRIMARY".into(),
                primary: true,
                unique: true,
                unordered: false,
                parts: vec![KeyPart {
                    column: Some(0),
                    prefix: None,
                }],
            }],
        };
        assert_eq!(fingerprint(&table), "38201a06-48");
        let change = |change: fn(&mut Table)| {
            let mut other = table.clone();
            change(&mut other);
            fingerprint(&other) != fingerprint(&table)
        };
        assert!(!change(|it| it.name = TableName::new("d", "u")));
        assert!(change(|it| it.columns[0].name = "b".into()));
        assert!(change(|it| it.columns[0].column_type = "bigint".into()));
        assert!(change(|it| it.columns[0].charset = Some("gbk".into())));
        assert!(change(|it| it.columns[0].collation = Some("gbk_bin".into())));
        assert!(change(|it| it.columns[0].nullable = true));
        assert!(change(|it| it.keys[0].parts[0].prefix = Some(3)));
        assert!(change(|it| it.keys.clear()));
    }
}
