//! Tables and their rows, the same for sources and targets.

use dm_core::{
    binlog::RowImage,
    sync::{
        agreement::SourceColumn,
        batch::{Op, Segment},
        schema::{ColumnInfo, Key, KeyPart, Table, TableName},
    },
};

/// One row: numbers, or NULL.
pub(super) type Row = Vec<Option<i64>>;

/// A table's definition.
#[derive(Clone, Copy, Debug)]
pub(super) struct Definition {
    /// Its name in its schema.
    pub(super) name: &'static str,
    /// Its columns, and whether they may be NULL.
    pub(super) columns: &'static [(&'static str, bool)],
    /// Its unique keys, each one column; the first is the primary key.
    pub(super) uniques: &'static [usize],
}

/// All tables of a schema: one whose rows have keys to collide in, one whose rows have no name.
pub(super) const TABLES: [Definition; 2] = [
    Definition {
        name: "keyed",
        columns: &[("id", false), ("u", true), ("v", true)],
        uniques: &[0, 1],
    },
    Definition {
        name: "keyless",
        columns: &[("x", true), ("y", true)],
        uniques: &[],
    },
];

impl Definition {
    /// What the target's server says about it.
    pub(super) fn table(&self, name: &TableName) -> Table {
        let column = |&(name, nullable): &(&str, bool)| ColumnInfo {
            name: name.to_owned(),
            type_name: "bigint".to_owned(),
            column_type: "bigint".to_owned(),
            nullable,
            ..ColumnInfo::default()
        };
        let key = |&index: &usize| Key {
            name: if index == 0 { "PRIMARY" } else { "second" }.to_owned(),
            primary: index == 0,
            unique: true,
            parts: vec![KeyPart {
                column: Some(index),
                prefix: None,
            }],
        };
        Table {
            name: name.clone(),
            columns: self.columns.iter().map(column).collect(),
            keys: self.uniques.iter().map(key).collect(),
        }
    }

    /// What the source's server says about its columns.
    pub(super) fn source_columns(&self) -> Vec<SourceColumn> {
        let column = |&(name, _): &(&str, bool)| SourceColumn {
            name: name.to_owned(),
            unsigned: false,
            charset: None,
        };
        self.columns.iter().map(column).collect()
    }
}

/// The rows of a table, in no order that means anything.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub(super) struct Rows(Vec<Row>);

impl Rows {
    /// The rows in an order that allows to compare.
    pub(super) fn sorted(&self) -> Vec<Row> {
        let mut rows = self.0.clone();
        rows.sort();
        rows
    }

    /// How many there are.
    pub(super) const fn len(&self) -> usize {
        self.0.len()
    }

    /// The row at a place, counted round and round.
    pub(super) fn pick(&self, place: u64) -> Option<&Row> {
        let rows = self.0.len() as u64;
        self.0.get((place % rows.max(1)) as usize)
    }

    /// Adds a row.
    ///
    /// # Errors
    /// One of its unique values is there.
    pub(super) fn insert(&mut self, table: &Definition, row: Row) -> Result<(), String> {
        if let Some(index) = self.violating(table, &row, None) {
            return Err(format!("{row:?} collides with {:?}", self.0[index]));
        }
        self.0.push(row);
        Ok(())
    }

    /// Changes exactly one row.
    ///
    /// # Errors
    /// It is not there, or one of the new unique values is.
    pub(super) fn update(&mut self, table: &Definition, old: &Row, new: Row) -> Result<(), String> {
        let index = self.find(table, old)?;
        if let Some(other) = self.violating(table, &new, Some(index)) {
            return Err(format!("{new:?} collides with {:?}", self.0[other]));
        }
        self.0[index] = new;
        Ok(())
    }

    /// Removes exactly one row.
    ///
    /// # Errors
    /// It is not there.
    pub(super) fn delete(&mut self, table: &Definition, old: &Row) -> Result<(), String> {
        let index = self.find(table, old)?;
        self.0.swap_remove(index);
        Ok(())
    }

    /// Runs a statement's rows. As everything is applied once, every row that is changed must be
    /// there, and as it was.
    ///
    /// # Errors
    /// It is not.
    pub(super) fn run(&mut self, table: &Definition, segment: &Segment) -> Result<(), String> {
        for change in &segment.rows {
            let row = |image: &RowImage| decode(table, image);
            let before = change.before.as_ref().map(row);
            let after = change.after.as_ref().map(row);
            match (segment.op, before, after) {
                (Op::Insert, _, Some(after)) => self.insert(table, after)?,
                (Op::Upsert | Op::Update, Some(before), Some(after)) => {
                    self.is_as_it_was(table, &before)?;
                    self.update(table, &before, after)?;
                }
                (Op::Delete, Some(before), _) => {
                    self.is_as_it_was(table, &before)?;
                    self.delete(table, &before)?;
                }
                other => return Err(format!("{other:?} is nothing that this task writes")),
            }
        }
        Ok(())
    }

    fn is_as_it_was(&self, table: &Definition, before: &Row) -> Result<(), String> {
        let found = &self.0[self.find(table, before)?];
        if found == before {
            return Ok(());
        }
        Err(format!("{before:?} is to be changed, and is {found:?}"))
    }

    fn find(&self, table: &Definition, row: &Row) -> Result<usize, String> {
        let found = self.0.iter().position(|other| match table.uniques {
            [key, ..] => other[*key] == row[*key],
            [] => other == row,
        });
        found.ok_or_else(|| format!("{row:?} is to be changed, and is not there"))
    }

    fn violating(&self, table: &Definition, row: &Row, except: Option<usize>) -> Option<usize> {
        self.0.iter().enumerate().position(|(index, other)| {
            let same = |&key: &usize| row[key].is_some() && row[key] == other[key];
            Some(index) != except && table.uniques.iter().any(same)
        })
    }
}

fn decode(table: &Definition, image: &RowImage) -> Row {
    let value = |index| {
        let raw = image.column(index)?;
        let bytes = raw.try_into().expect("a BIGINT has eight bytes");
        Some(i64::from_le_bytes(bytes))
    };
    (0..table.columns.len()).map(value).collect()
}
