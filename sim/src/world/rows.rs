//! Rows, the same for sources and targets.

use dm_core::{
    binlog::RowImage,
    sync::batch::{Op, Segment},
};

use super::tables::{Definition, Refusal, refuse};

/// One row: numbers, or NULL.
pub(super) type Row = Vec<Option<i64>>;

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

    /// Adds a column without values.
    pub(super) fn widen(&mut self) {
        self.0.iter_mut().for_each(|row| row.push(None));
    }

    /// Removes a column.
    pub(super) fn narrow(&mut self, column: usize) {
        for row in &mut self.0 {
            row.remove(column);
        }
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
        self.put(table, index, new)
    }

    fn put(&mut self, table: &Definition, index: usize, new: Row) -> Result<(), String> {
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

    /// Runs a statement's rows as a target does, and says whether that was as it is to be. As
    /// everything is applied once, every row that is changed must be there, and as it was; unless
    /// the statement may repeat what is done (`lenient`).
    ///
    /// # Errors
    /// The server's refusal, behind rows that have changed.
    pub(super) fn run(
        &mut self,
        table: &Definition,
        segment: &Segment,
        lenient: bool,
    ) -> Result<Result<(), String>, Refusal> {
        let mut verdict = Ok(());
        for change in &segment.rows {
            let row = |image: &RowImage| decode(table, image);
            let before = change.before.as_ref().map(row).transpose()?;
            let after = change.after.as_ref().map(row).transpose()?;
            let found = before.as_ref().map(|before| self.find(table, before));
            if !lenient && verdict.is_ok() {
                verdict = self.is_expected(segment.op, before.as_ref(), &found);
            }
            match (segment.op, found, after) {
                (Op::Insert, _, Some(after)) => self.insert(table, after).or_else(duplicate)?,
                (Op::Upsert | Op::Update, Some(Ok(index)), Some(after)) => {
                    self.put(table, index, after).or_else(duplicate)?;
                }
                // An upsert without its row changes the one that has its second key, if any.
                (Op::Replace | Op::Upsert, _, Some(after)) => self.replace(table, after),
                (Op::Delete, Some(Ok(index)), _) => drop(self.0.swap_remove(index)),
                (Op::Update | Op::Delete, Some(Err(_)), _) => {}
                other => verdict = Err(format!("{other:?} is nothing that a task writes")),
            }
        }
        Ok(verdict)
    }

    /// Puts a row in the place of all that it collides with.
    pub(super) fn replace(&mut self, table: &Definition, row: Row) {
        while let Some(index) = self.violating(table, &row, None) {
            self.0.swap_remove(index);
        }
        self.0.push(row);
    }

    /// Whether a change meets what it met at the source; `found` is the row's place here.
    fn is_expected(
        &self,
        op: Op,
        before: Option<&Row>,
        found: &Option<Result<usize, String>>,
    ) -> Result<(), String> {
        match (op, before, found) {
            (Op::Replace, ..) => Err("rows are replaced, and nothing is to be repeated".to_owned()),
            (_, Some(before), Some(Ok(index))) if self.0[*index] != *before => {
                let found = &self.0[*index];
                Err(format!("{before:?} is to be changed, and is {found:?}"))
            }
            (_, _, Some(Err(missing))) => Err(missing.clone()),
            _ => Ok(()),
        }
    }

    fn find(&self, table: &Definition, row: &Row) -> Result<usize, String> {
        let found = self.0.iter().position(|other| match &table.uniques[..] {
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

/// The rows of statements that insert or replace them.
pub(super) fn rows_of(sql: &[u8]) -> Vec<Row> {
    let sql = String::from_utf8_lossy(sql);
    let rows = sql.split("VALUES").skip(1).flat_map(|rows| {
        let rows = rows.split(';').next().unwrap_or_default();
        rows.split('(').skip(1)
    });
    let row = |row: &str| {
        let values = row.split(')').next().unwrap_or_default().split(',');
        values.map(|value| value.parse().ok()).collect()
    };
    rows.map(row).collect()
}

fn duplicate<T>(text: String) -> Result<T, Refusal> {
    refuse(1062, text)
}

/// # Errors
/// It is the row of a table with other columns.
fn decode(table: &Definition, image: &RowImage) -> Result<Row, Refusal> {
    let (here, there) = (table.columns.len(), image.columns());
    if here != there {
        let text = format!("a row of {there} columns for a table of {here}");
        return refuse(1054, text);
    }
    let value = |index| {
        let raw = image.column(index)?;
        let bytes = raw.try_into().expect("a BIGINT has eight bytes");
        Some(i64::from_le_bytes(bytes))
    };
    Ok((0..here).map(value).collect())
}
