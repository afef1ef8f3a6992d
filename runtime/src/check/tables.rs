//! What is known of the tables of a server: a few queries for all of them.

use std::collections::{BTreeMap, BTreeSet};

use dm_core::sync::schema::{Table, TableName};

use crate::mysql::{
    conn::{Conn, Fault, Row},
    definition::{self, COLUMN, KEY_PART},
    session::{Literal, Values},
};

/// What a table is.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) enum Kind {
    Base,
    /// It has rows of former times.
    Versioned,
    View,
    Sequence,
}

/// A table, as a server describes it.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Facts {
    pub(super) kind: Kind,
    pub(super) engine: String,
    /// Whether the engine has transactions.
    pub(super) transactions: bool,
    /// Size of its rows, as the server guesses.
    pub(super) bytes: u64,
    /// The collation of new columns.
    pub(super) collation: Option<String>,
    /// Columns and keys.
    pub(super) table: Table,
    /// Columns that every new row needs a value for, by their index.
    pub(super) required: BTreeSet<usize>,
    /// Whether the server numbers new rows.
    pub(super) numbers: bool,
    /// What it refers to, if to anything.
    pub(super) parents: Option<Parents>,
}

/// Foreign keys of a table.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) enum Parents {
    /// Rows are checked only.
    Checked,
    /// The server changes rows by itself.
    Cascading,
}

pub(super) type Tables = BTreeMap<TableName, Facts>;

/// Reads the tables of some schemas that are wanted.
pub(super) async fn read(
    conn: &mut Conn,
    schemas: &BTreeSet<String>,
    mut is_wanted: impl FnMut(&TableName) -> bool,
) -> Result<Tables, Fault> {
    let mut tables = Tables::new();
    if schemas.is_empty() {
        return Ok(tables);
    }
    let engines = conn
        .query("SELECT ENGINE FROM information_schema.ENGINES WHERE TRANSACTIONS='YES'")
        .await?;
    let engines: BTreeSet<_> = engines
        .iter()
        .map(|row| row.text(0).to_lowercase())
        .collect();
    let within = in_list(schemas);
    let sql = format!(
        "SELECT TABLE_SCHEMA,TABLE_NAME,TABLE_TYPE,ENGINE,DATA_LENGTH,TABLE_COLLATION \
         FROM information_schema.TABLES WHERE TABLE_SCHEMA IN ({within})"
    );
    conn.each(&sql, |row| {
        let name = name_at(&row, 0);
        if is_wanted(&name) {
            let facts = described(&name, &row, &engines);
            tables.insert(name, facts);
        }
    })
    .await?;
    if tables.is_empty() {
        return Ok(tables);
    }
    let sql = format!(
        "SELECT {COLUMN},TABLE_SCHEMA,TABLE_NAME,COLUMN_DEFAULT FROM information_schema.COLUMNS \
         WHERE TABLE_SCHEMA IN ({within}) ORDER BY ORDINAL_POSITION"
    );
    conn.each(&sql, |row| {
        if let Some(facts) = tables.get_mut(&name_at(&row, 8)) {
            facts.add_column(&row);
        }
    })
    .await?;
    let sql = format!(
        "SELECT {KEY_PART},TABLE_SCHEMA,TABLE_NAME FROM information_schema.STATISTICS \
         WHERE TABLE_SCHEMA IN ({within}) ORDER BY INDEX_NAME,SEQ_IN_INDEX"
    );
    let mut parts: BTreeMap<TableName, Vec<Row>> = BTreeMap::new();
    conn.each(&sql, |row| {
        let name = name_at(&row, 6);
        if tables.contains_key(&name) {
            parts.entry(name).or_default().push(row);
        }
    })
    .await?;
    for (name, parts) in parts {
        if let Some(Facts { table, .. }) = tables.get_mut(&name) {
            table.keys = definition::keys_of(&parts, &table.columns);
        }
    }
    let sql = format!(
        "SELECT CONSTRAINT_SCHEMA,TABLE_NAME,DELETE_RULE,UPDATE_RULE \
         FROM information_schema.REFERENTIAL_CONSTRAINTS WHERE CONSTRAINT_SCHEMA IN ({within})"
    );
    let parents = conn.each(&sql, |row| {
        if let Some(facts) = tables.get_mut(&name_at(&row, 0)) {
            facts.add_parent(&row);
        }
    });
    match parents.await {
        // Not every server has them.
        Err(fault) if fault.code().is_some() => {}
        answer => answer?,
    }
    Ok(tables)
}

fn described(name: &TableName, row: &Row, engines: &BTreeSet<String>) -> Facts {
    let engine = row.text(3);
    Facts {
        kind: match &*row.text(2).to_uppercase() {
            "BASE TABLE" => Kind::Base,
            "SYSTEM VERSIONED" => Kind::Versioned,
            "SEQUENCE" => Kind::Sequence,
            _ => Kind::View,
        },
        transactions: engines.contains(&engine.to_lowercase()),
        engine,
        bytes: row.number(4),
        collation: (!row.is_null(5)).then(|| row.text(5)),
        table: Table {
            name: name.clone(),
            columns: Vec::new(),
            keys: Vec::new(),
        },
        required: BTreeSet::new(),
        numbers: false,
        parents: None,
    }
}

impl Facts {
    fn add_column(&mut self, row: &Row) {
        let column = definition::column(row);
        let numbers = row.text(6).to_lowercase().contains("auto_increment");
        self.numbers |= numbers;
        if !column.nullable && !column.generated && !numbers && row.is_null(10) {
            self.required.insert(self.table.columns.len());
        }
        self.table.columns.push(column);
    }

    fn add_parent(&mut self, row: &Row) {
        let changes = |index| {
            let rule = row.text(index).to_uppercase();
            rule == "CASCADE" || rule.starts_with("SET ")
        };
        if changes(2) || changes(3) {
            self.parents = Some(Parents::Cascading);
        } else {
            self.parents.get_or_insert(Parents::Checked);
        }
    }

    /// Whether it holds rows of its own.
    pub(super) fn has_rows(&self) -> bool {
        matches!(self.kind, Kind::Base | Kind::Versioned)
    }
}

fn name_at(row: &Row, index: usize) -> TableName {
    TableName::new(row.text(index), row.text(index + 1))
}

/// Literals, as `IN` wants them.
pub(super) fn in_list(names: &BTreeSet<String>) -> String {
    let names = names.iter().map(|name| Literal(name).to_string());
    names.collect::<Vec<_>>().join(",")
}

#[cfg(test)]
pub(super) mod tests {
    use dm_core::sync::schema::{ColumnInfo, Key, KeyPart};

    use super::*;

    /// A table `d.NAME` with columns `name type` (`int` and `varchar(9)` make sense), of which
    /// the first `key` are its primary key.
    pub(in crate::check) fn table(name: &str, columns: &[&str], key: usize) -> Facts {
        let name = TableName::new("d", name);
        let column = |text: &&str| {
            let (name, kind) = text.split_once(' ').unwrap_or((text, "int"));
            let is_text = kind.starts_with("varchar");
            ColumnInfo {
                name: name.into(),
                type_name: kind.split('(').next().unwrap_or(kind).into(),
                column_type: kind.into(),
                charset: is_text.then(|| "utf8mb4".into()),
                collation: is_text.then(|| "utf8mb4_general_ci".into()),
                ..ColumnInfo::default()
            }
        };
        let parts = (0..key).map(|index| KeyPart {
            column: Some(index),
            prefix: None,
        });
        let primary = Key {
            name: "PRIMARY".into(),
            primary: true,
            unique: true,
            unordered: false,
            parts: parts.collect(),
        };
        Facts {
            kind: Kind::Base,
            engine: "InnoDB".into(),
            transactions: true,
            bytes: 0,
            collation: Some("utf8mb4_general_ci".into()),
            table: Table {
                name,
                columns: columns.iter().map(column).collect(),
                keys: (key > 0).then_some(primary).into_iter().collect(),
            },
            required: BTreeSet::new(),
            numbers: false,
            parents: None,
        }
    }

    fn row(values: &[Option<&str>]) -> Row {
        values.iter().map(|it| it.map(str::to_owned)).collect()
    }

    #[test]
    fn a_row_needs_a_value_for_what_has_no_default() {
        let mut facts = table("t", &[], 0);
        for (nullable, extra, default) in [
            ("NO", "", None),
            ("YES", "", None),
            ("NO", "auto_increment", None),
            ("NO", "", Some("0")),
            ("NO", "STORED GENERATED", None),
        ] {
            let (name, kind) = (Some("a"), Some("int"));
            let (nullable, extra) = (Some(nullable), Some(extra));
            facts.add_column(&row(&[
                name, kind, kind, None, None, nullable, extra, None, name, name, default,
            ]));
        }
        assert_eq!(facts.required, BTreeSet::from([0]));
        assert!(facts.numbers);
    }

    #[test]
    fn one_rule_that_changes_rows_is_enough() {
        let mut facts = table("t", &[], 0);
        for (rule, parents) in [
            ("NO ACTION", Parents::Checked),
            ("SET NULL", Parents::Cascading),
            ("RESTRICT", Parents::Cascading),
        ] {
            let (name, rule) = (Some("d"), Some(rule));
            facts.add_parent(&row(&[name, name, rule, Some("RESTRICT")]));
            assert_eq!(facts.parents, Some(parents));
        }
    }
}
