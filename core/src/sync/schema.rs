//! What must be known of a table to write into it: its columns and keys, as the target has them.

use alloc::{string::String, vec::Vec};
use core::fmt::{self, Display, Write};

/// A table's full name.
#[derive(Clone, Debug, Default, Eq, Hash, Ord, PartialEq, PartialOrd)]
pub struct TableName {
    /// Schema (database).
    pub schema: String,
    /// Table; empty where only the schema is meant.
    pub table: String,
}

impl TableName {
    /// Names a table.
    pub fn new(schema: impl Into<String>, table: impl Into<String>) -> Self {
        Self {
            schema: schema.into(),
            table: table.into(),
        }
    }
}

/// As SQL: `` `schema`.`table` ``, or the schema alone where there is no table.
impl Display for TableName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        Quoted(&self.schema).fmt(f)?;
        if self.table.is_empty() {
            return Ok(());
        }
        f.write_char('.')?;
        Quoted(&self.table).fmt(f)
    }
}

/// Displays an identifier in back-quotes, those inside it doubled.
#[derive(Clone, Copy, Debug)]
pub struct Quoted<'a>(pub &'a str);

impl Display for Quoted<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_char('`')?;
        for (index, part) in self.0.split('`').enumerate() {
            if index > 0 {
                f.write_str("``")?;
            }
            f.write_str(part)?;
        }
        f.write_char('`')
    }
}

/// A table of the target.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Table {
    /// Its name in the target.
    pub name: TableName,
    /// All columns in table order, generated and invisible ones included.
    pub columns: Vec<ColumnInfo>,
    /// All keys; the primary key, if any, may stand anywhere.
    pub keys: Vec<Key>,
}

impl Table {
    /// The key that names a row: the primary key, else the first unique key whose columns are all
    /// NOT NULL. Keys over expressions do not count, since a row image has no value for them.
    pub fn row_key(&self) -> Option<&Key> {
        let names_rows = |key: &&Key| {
            key.unique
                && key.parts.iter().all(|part| {
                    let column = part.column.and_then(|index| self.columns.get(index));
                    column.is_some_and(|column| !column.nullable)
                })
        };
        let primary = self.keys.iter().filter(|key| key.primary).find(names_rows);
        primary.or_else(|| self.keys.iter().find(names_rows))
    }

    /// A JSON column of a table whose rows no key names. All values of a row name it then, and
    /// those of JSON only as long as nobody has read them as text, which does not tell a DECIMAL, a
    /// date or bytes inside of it from a number or a text.
    pub fn json_without_key(&self) -> Option<&ColumnInfo> {
        let is_json = |column: &&ColumnInfo| column.type_name == "json" && !column.generated;
        let json = self.columns.iter().find(is_json);
        json.filter(|_| self.row_key().is_none())
    }

    /// Every key that allows a value only once, the primary key included.
    pub fn unique_keys(&self) -> impl Iterator<Item = &Key> {
        self.keys.iter().filter(|key| key.unique)
    }
}

/// A column of the target's table.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub struct ColumnInfo {
    /// Name.
    pub name: String,
    /// `information_schema.columns.data_type`, lower case: `int`, `varchar`.
    pub type_name: String,
    /// `information_schema.columns.column_type`: `int(10) unsigned`.
    pub column_type: String,
    /// Whether it is UNSIGNED.
    pub unsigned: bool,
    /// Character set, for text.
    pub charset: Option<String>,
    /// Collation, for text.
    pub collation: Option<String>,
    /// Whether it may be NULL.
    pub nullable: bool,
    /// Whether the server computes it; such a column must not be written.
    pub generated: bool,
    /// Length in characters, or in bytes for `BINARY(n)` and `VARBINARY(n)`.
    pub length: Option<u64>,
}

impl ColumnInfo {
    /// Whether its texts are UTF-8 as they are stored, or it has none.
    pub(crate) fn is_utf8(&self) -> bool {
        matches!(
            self.charset.as_deref(),
            None | Some("utf8" | "utf8mb3" | "utf8mb4" | "ascii")
        )
    }
}

/// A key of the target's table.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub struct Key {
    /// Name; `PRIMARY` for the primary key.
    pub name: String,
    /// Whether it is the primary key.
    pub primary: bool,
    /// Whether it is unique; true for the primary key.
    pub unique: bool,
    /// Whether nothing can be read in its order: its index has hashes in place of values, as long
    /// unique keys of MariaDB have, or no query may use it (INVISIBLE, IGNORED).
    pub unordered: bool,
    /// Its columns in key order.
    pub parts: Vec<KeyPart>,
}

/// A part of a key.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub struct KeyPart {
    /// Index of the column in [`Table::columns`]; `None` for an expression.
    pub column: Option<usize>,
    /// How many leading characters (bytes, for binary columns) count; `None` for all.
    pub prefix: Option<u32>,
}

#[cfg(test)]
mod tests {
    use super::*;
    use alloc::{string::ToString, vec};

    #[test]
    fn names_are_quoted() {
        assert_eq!(TableName::new("a", "b").to_string(), "`a`.`b`");
        assert_eq!(TableName::new("a`.", "`").to_string(), "`a``.`.````");
        assert_eq!(TableName::new("a", "").to_string(), "`a`");
    }

    #[test]
    fn the_row_key_is_the_primary_else_the_first_unique_one_without_null() {
        let column = |nullable| ColumnInfo {
            nullable,
            ..ColumnInfo::default()
        };
        let key = |name: &str, columns: &[Option<usize>]| Key {
            name: name.into(),
            primary: name == "PRIMARY",
            unique: name != "plain",
            unordered: false,
            parts: columns
                .iter()
                .map(|&column| KeyPart {
                    column,
                    prefix: None,
                })
                .collect(),
        };
        let mut table = Table {
            name: TableName::new("d", "t"),
            columns: vec![column(false), column(true), column(false)],
            keys: vec![
                key("plain", &[Some(0)]),
                key("null", &[Some(0), Some(1)]),
                key("expression", &[None]),
                key("good", &[Some(2)]),
                key("PRIMARY", &[Some(0)]),
            ],
        };
        assert_eq!(table.row_key().unwrap().name, "PRIMARY");
        assert_eq!(table.unique_keys().count(), 4);
        table.keys.pop();
        assert_eq!(table.row_key().unwrap().name, "good");
        table.keys.pop();
        assert_eq!(table.row_key(), None);
    }
}
