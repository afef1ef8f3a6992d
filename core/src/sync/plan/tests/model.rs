//! A small reference interpreter: tables with unique keys, and what statements do to them.

use alloc::{format, string::String, vec::Vec};

use crate::sync::{
    batch::{Op, Segment},
    testing::{Fixture, Row, Value, column, int, text, unique},
};

pub(super) type Result<T, E = String> = core::result::Result<T, E>;

/// What a unique key takes for the value of a row; `None` if it doesn't bind the row.
type KeyOf = fn(&Row) -> Option<Vec<u8>>;

/// A table's definition, for the planner and for the interpreter.
pub(super) struct Definition {
    pub(super) fixture: Fixture,
    /// All unique keys, the primary key first.
    uniques: Vec<KeyOf>,
    /// Whether the first of them names rows.
    has_row_key: bool,
    /// A row from three small numbers.
    pub(super) make: fn([u8; 3]) -> Row,
}

fn fold(value: &Value) -> Option<Vec<u8>> {
    value.as_ref().map(|raw| raw.to_ascii_lowercase())
}

fn maybe(value: u8) -> Value {
    if value == 0 { None } else { int(value.into()) }
}

/// The tables of the tests.
pub(super) fn definitions() -> Vec<Definition> {
    let ci = Some("utf8mb4_general_ci");
    [
        // A primary key and a unique one.
        Definition {
            fixture: Fixture::new(
                "keyed",
                [
                    column("id", false, None),
                    column("u", true, None),
                    column("v", true, None),
                ]
                .into(),
                [unique("u", &[Some(1)]), unique("PRIMARY", &[Some(0)])].into(),
            ),
            uniques: [(|row| row[0].clone()) as KeyOf, |row| row[1].clone()].into(),
            has_row_key: true,
            make: |[a, b, c]| [int(a.into()), maybe(b), int(c.into())].into(),
        },
        // Texts that differ and are equal, and a key over two columns.
        Definition {
            fixture: Fixture::new(
                "texts",
                [
                    column("a", false, ci),
                    column("b", true, ci),
                    column("c", true, None),
                ]
                .into(),
                [
                    unique("PRIMARY", &[Some(0)]),
                    unique("bc", &[Some(1), Some(2)]),
                ]
                .into(),
            ),
            uniques: [(|row| fold(&row[0])) as KeyOf, |row| {
                Some([fold(&row[1])?, row[2].clone()?].concat())
            }]
            .into(),
            has_row_key: true,
            make: |[a, b, c]| {
                let name = |index: u8| ["a", "A", "b", "B", "c", "C"][usize::from(index % 6)];
                [text(name(a)), text(name(b)), maybe(c)].into()
            },
        },
        // No key at all.
        Definition {
            fixture: Fixture::new(
                "keyless",
                [column("x", true, None), column("y", true, None)].into(),
                Vec::new(),
            ),
            uniques: Vec::new(),
            has_row_key: false,
            make: |[a, b, _]| [maybe(a % 3), maybe(b % 3)].into(),
        },
        // A unique key over an expression: half of `u`.
        Definition {
            fixture: Fixture::new(
                "expression",
                [column("id", false, None), column("u", false, None)].into(),
                [unique("PRIMARY", &[Some(0)]), unique("half", &[None])].into(),
            ),
            uniques: [(|row| row[0].clone()) as KeyOf, |row| {
                row[1].as_ref().map(|raw| [raw[0] / 2].into())
            }]
            .into(),
            has_row_key: true,
            make: |[a, b, c]| [int(a.into()), int((b + c).into())].into(),
        },
    ]
    .into()
}

/// The rows of a table, in no order that means anything.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub(super) struct Rows(Vec<Row>);

impl Rows {
    pub(super) fn sorted(&self) -> Vec<Row> {
        let mut rows = self.0.clone();
        rows.sort();
        rows
    }

    pub(super) fn pick(&self, index: u8) -> Option<&Row> {
        self.0.get(usize::from(index) % self.0.len().max(1))
    }

    pub(super) fn insert(&mut self, table: &Definition, row: Row) -> Result<()> {
        if self.violating(table, &row, None).next().is_some() {
            return Err(format!("duplicate key for {row:?}"));
        }
        self.0.push(row);
        Ok(())
    }

    /// Changes exactly one row.
    pub(super) fn update(&mut self, table: &Definition, old: &Row, new: Row) -> Result<()> {
        let index = self
            .find(table, old)
            .ok_or_else(|| format!("no row {old:?} to update"))?;
        self.set(table, index, new)
    }

    /// Deletes exactly one row.
    pub(super) fn delete(&mut self, table: &Definition, old: &Row) -> Result<()> {
        let index = self
            .find(table, old)
            .ok_or_else(|| format!("no row {old:?} to delete"))?;
        self.0.remove(index);
        Ok(())
    }

    fn set(&mut self, table: &Definition, index: usize, new: Row) -> Result<()> {
        if self.violating(table, &new, Some(index)).next().is_some() {
            return Err(format!("duplicate key for {new:?}"));
        }
        self.0[index] = new;
        Ok(())
    }

    fn find(&self, table: &Definition, row: &Row) -> Option<usize> {
        let key = |row: &Row| table.uniques.first().and_then(|key| key(row));
        self.0.iter().position(|other| {
            if table.has_row_key {
                key(other) == key(row)
            } else {
                other == row
            }
        })
    }

    /// Rows that share a unique value with `row`, in the order of the keys.
    fn violating<'a>(
        &'a self,
        table: &'a Definition,
        row: &'a Row,
        except: Option<usize>,
    ) -> impl Iterator<Item = usize> + 'a {
        table.uniques.iter().flat_map(move |key| {
            let value = key(row);
            let same = move |&(index, other): &(usize, &Row)| {
                value.is_some() && Some(index) != except && key(other) == value
            };
            self.0
                .iter()
                .enumerate()
                .filter(same)
                .map(|(index, _)| index)
        })
    }

    /// Runs a segment, the last row first: inside a segment the order must not matter.
    ///
    /// `strict`: every row that is changed must be there, as it is when all is applied once.
    pub(super) fn run(
        &mut self,
        table: &Definition,
        segment: &Segment,
        strict: bool,
    ) -> Result<()> {
        for change in segment.rows.iter().rev() {
            let row = |image: &_| table.fixture.row(image);
            let before = change.before.as_ref().map(row);
            let after = change.after.as_ref().map(row);
            match (segment.op, before, after) {
                (Op::Insert, _, Some(after)) => self.insert(table, after)?,
                (Op::Upsert, Some(_), Some(after)) => {
                    let found = self.violating(table, &after, None).next();
                    match found {
                        Some(index) => self.set(table, index, after)?,
                        None if strict => return Err(format!("no row {after:?} to upsert")),
                        None => self.0.push(after),
                    }
                }
                (Op::Replace, _, Some(after)) => {
                    while let Some(index) = { self.violating(table, &after, None).next() } {
                        self.0.remove(index);
                    }
                    self.0.push(after);
                }
                (Op::Delete, Some(before), _) => {
                    let result = self.delete(table, &before);
                    if strict {
                        result?;
                    }
                }
                (Op::Update, Some(before), Some(after)) => {
                    let result = self.update(table, &before, after);
                    if strict {
                        result?;
                    }
                }
                other => return Err(format!("impossible row {other:?}")),
            }
        }
        Ok(())
    }
}
