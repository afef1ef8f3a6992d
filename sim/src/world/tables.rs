//! Tables and what statements do to them, the same for sources and targets.

use std::{collections::BTreeMap, fmt};

use dm_core::sync::{
    agreement::SourceColumn,
    schema::{ColumnInfo, Key, KeyPart, Table, TableName},
};

use super::{
    rows::{Row, Rows},
    statement::{Spec, Statement},
};

/// A BIGINT column.
#[derive(Clone, Debug, Eq, PartialEq)]
pub(super) struct Column {
    pub(super) name: String,
    pub(super) nullable: bool,
}

/// A table's definition.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub(super) struct Definition {
    pub(super) columns: Vec<Column>,
    /// Its unique keys, each one column; the first is the primary key.
    pub(super) uniques: Vec<usize>,
}

/// A table.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub(super) struct Stored {
    pub(super) definition: Definition,
    pub(super) rows: Rows,
    /// Since when it is as it is, in seconds since 1970.
    pub(super) created: u32,
    /// Which one it is of all that ever had a name: another one with each change of it.
    pub(super) id: u64,
}

/// All tables of a schema, by name.
#[derive(Clone, Debug, Eq, PartialEq)]
pub(super) struct Tables {
    tables: BTreeMap<String, Stored>,
    last_id: u64,
}

/// What can be compared between a source and a target.
#[derive(Clone, Debug, Eq, PartialEq)]
pub(super) struct Snapshot(BTreeMap<String, (Definition, Vec<Row>)>);

/// Why a server refuses a statement.
#[derive(Clone, Debug, Eq, PartialEq)]
pub(super) struct Refusal {
    pub(super) number: u16,
    pub(super) text: String,
}

/// Another column.
pub(super) fn column(name: &str, nullable: bool) -> Column {
    Column {
        name: name.to_owned(),
        nullable,
    }
}

impl Tables {
    /// What every schema begins with: a table whose rows have keys to collide in, and one whose
    /// rows have no name.
    pub(super) fn initial() -> Self {
        let mut tables = Self {
            tables: BTreeMap::new(),
            last_id: 99,
        };
        let keyed = [("id", false), ("u", true), ("v", true)];
        let keyless = [("x", true), ("y", true)];
        let columns = |list: &[(&str, bool)]| list.iter().map(|it| column(it.0, it.1)).collect();
        for (name, columns, uniques) in [
            ("keyed", columns(&keyed), vec![0, 1]),
            ("keyless", columns(&keyless), vec![]),
        ] {
            let definition = Definition { columns, uniques };
            tables.put(name, definition, Rows::default(), 0);
        }
        tables
    }

    /// Nothing at all.
    pub(super) const fn none() -> Self {
        Self {
            tables: BTreeMap::new(),
            last_id: 99,
        }
    }

    /// A table.
    pub(super) fn get(&self, name: &str) -> Option<&Stored> {
        self.tables.get(name)
    }

    /// A table.
    pub(super) fn get_mut(&mut self, name: &str) -> Option<&mut Stored> {
        self.tables.get_mut(name)
    }

    /// All names.
    pub(super) fn names(&self) -> Vec<String> {
        self.tables.keys().cloned().collect()
    }

    /// All of it in an order that allows to compare.
    pub(super) fn snapshot(&self) -> Snapshot {
        let tables = self.tables.iter();
        let table = |(name, table): (&String, &Stored)| {
            let Stored {
                definition, rows, ..
            } = table;
            (name.clone(), (definition.clone(), rows.sorted()))
        };
        Snapshot(tables.map(table).collect())
    }

    /// All tables are opened anew, in another order.
    pub(super) fn renumber(&mut self, shift: u64) {
        self.last_id = 99 + shift;
        for table in self.tables.values_mut().rev() {
            self.last_id += 1;
            table.id = self.last_id;
        }
    }

    /// Runs a statement at a time.
    ///
    /// # Errors
    /// As a server refuses it; nothing has changed then.
    pub(super) fn run(&mut self, statement: &Statement, now: u32) -> Result<(), Refusal> {
        match statement {
            Statement::Truncate(name) => {
                let Stored { definition, .. } = self.known(name)?.clone();
                self.put(name, definition, Rows::default(), now);
            }
            Statement::Alter(name, specs) => {
                let Stored {
                    mut definition,
                    mut rows,
                    created,
                    ..
                } = self.known(name)?.clone();
                for spec in specs {
                    definition.alter(spec, &mut rows)?;
                }
                // A column comes or goes at once, which does not show in the table's time.
                self.put(name, definition, rows, created);
            }
            Statement::Create {
                name,
                definition,
                lenient,
            } => {
                if self.tables.contains_key(name) {
                    if *lenient {
                        return Ok(());
                    }
                    return refuse(1050, format!("Table '{name}' already exists"));
                }
                self.put(name, definition.clone(), Rows::default(), now);
            }
            Statement::Drop { names, lenient } => {
                if let Some(name) = names.iter().find(|name| self.get(name).is_none())
                    && !lenient
                {
                    return refuse(1051, format!("Unknown table '{name}'"));
                }
                self.tables.retain(|name, _| !names.contains(name));
            }
            Statement::CreateDatabase => {}
            Statement::Rename(pairs) => {
                let mut renamed = self.clone();
                for (from, to) in pairs {
                    let Stored {
                        definition, rows, ..
                    } = renamed.known(from)?.clone();
                    if renamed.tables.contains_key(to) {
                        return refuse(1050, format!("Table '{to}' already exists"));
                    }
                    renamed.tables.remove(from);
                    renamed.put(to, definition, rows, now);
                }
                *self = renamed;
            }
        }
        Ok(())
    }

    fn known(&self, name: &str) -> Result<&Stored, Refusal> {
        match self.get(name) {
            Some(table) => Ok(table),
            None => refuse(1146, format!("Table '{name}' doesn't exist")),
        }
    }

    fn put(&mut self, name: &str, definition: Definition, rows: Rows, created: u32) {
        self.last_id += 1;
        let table = Stored {
            definition,
            rows,
            created,
            id: self.last_id,
        };
        self.tables.insert(name.to_owned(), table);
    }
}

impl Definition {
    fn alter(&mut self, spec: &Spec, rows: &mut Rows) -> Result<(), Refusal> {
        let known = |name: &String| self.columns.iter().position(|it| it.name == *name);
        match spec {
            Spec::Add(name) => {
                if known(name).is_some() {
                    return refuse(1060, format!("Duplicate column name '{name}'"));
                }
                self.columns.push(column(name, true));
                rows.widen();
            }
            Spec::Drop(name) => {
                let Some(index) = known(name) else {
                    return refuse(1091, format!("Can't DROP '{name}'; check that it exists"));
                };
                self.columns.remove(index);
                rows.narrow(index);
            }
        }
        Ok(())
    }

    /// What the target's server says about it.
    pub(super) fn table(&self, name: &TableName) -> Table {
        let column = |column: &Column| ColumnInfo {
            name: column.name.clone(),
            type_name: "bigint".to_owned(),
            column_type: "bigint".to_owned(),
            nullable: column.nullable,
            ..ColumnInfo::default()
        };
        let key = |(number, index): (usize, &usize)| Key {
            name: if number == 0 { "PRIMARY" } else { "second" }.to_owned(),
            primary: number == 0,
            unique: true,
            unordered: false,
            parts: vec![KeyPart {
                column: Some(*index),
                prefix: None,
            }],
        };
        Table {
            name: name.clone(),
            columns: self.columns.iter().map(column).collect(),
            keys: self.uniques.iter().enumerate().map(key).collect(),
        }
    }

    /// What the source's server says about its columns.
    pub(super) fn source_columns(&self) -> Vec<SourceColumn> {
        let column = |column: &Column| SourceColumn {
            name: column.name.clone(),
            unsigned: false,
            charset: None,
        };
        self.columns.iter().map(column).collect()
    }
}

impl Snapshot {
    /// All tables: their names, definitions and rows.
    pub(super) fn tables(&self) -> impl Iterator<Item = (&str, &Definition, &[Row])> {
        let tables = self.0.iter();
        tables.map(|(name, (definition, rows))| (&**name, definition, &**rows))
    }

    /// The first thing that differs, if this is a source's and the other one is its target's.
    pub(super) fn difference(&self, target: &Self) -> Option<String> {
        let Self(source) = self;
        let names = source.keys().chain(target.0.keys());
        let differing = names.map(|name| (name, source.get(name), target.0.get(name)));
        let (name, source, target) = { differing }.find(|(_, source, target)| source != target)?;
        let (Some((definition, source)), Some((other, target))) = (source, target) else {
            let place = if source.is_some() { "source" } else { "target" };
            return Some(format!("table {name} is at the {place} only"));
        };
        if definition != other {
            return Some(format!(
                "table {name} is {definition} here, and {other} there"
            ));
        }
        let lost = source.iter().find(|row| !target.contains(row));
        let added = target.iter().find(|row| !source.contains(row));
        Some(format!(
            "table {name}: {} rows at the source, {} at the target, lost {lost:?}, added {added:?}",
            source.len(),
            target.len()
        ))
    }
}

/// As a statement that creates it has it, in brackets.
impl fmt::Display for Definition {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (index, Column { name, nullable }) in self.columns.iter().enumerate() {
            let comma = if index == 0 { "(" } else { ", " };
            let null = if *nullable { "" } else { " NOT NULL" };
            write!(f, "{comma}`{name}` BIGINT{null}")?;
        }
        for (number, index) in self.uniques.iter().enumerate() {
            let kind = if number == 0 { "PRIMARY" } else { "UNIQUE" };
            write!(f, ", {kind} KEY (`{}`)", self.columns[*index].name)?;
        }
        f.write_str(")")
    }
}

pub(super) fn refuse<T>(number: u16, text: String) -> Result<T, Refusal> {
    Err(Refusal { number, text })
}
