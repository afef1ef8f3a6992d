//! The statements of a batch, straight from row images into one buffer.

use alloc::vec::Vec;

use super::{
    batch::{Batch, Op, Segment},
    schema::TableName,
    table::{PlanColumn, TablePlan},
};
use crate::{
    binlog::{self, Column, ColumnHint, RowChange, RowImage, write_condition, write_literal},
    error::Result,
};

/// Rows that one `DELETE` names at most. Optimisers give up on ranges that are too many, and
/// MariaDB turns lists of a thousand into a join.
const DELETE_ROWS_MAX: usize = 500;

/// Appends the row statements of a batch, with `;` between them and none at the end.
///
/// # Errors
/// A value in a row image is malformed.
pub fn render(batch: &Batch, out: &mut Vec<u8>) -> Result<()> {
    let start = out.len();
    for (segment, rows) in statements(batch) {
        if out.len() > start {
            out.push(b';');
        }
        statement(segment, rows, out)?;
    }
    Ok(())
}

/// For each statement of [`render`] the table in which it must find a row: one that others don't
/// find may be missing. `None` where it need not find any.
pub fn finds(batch: &Batch) -> impl Iterator<Item = Option<&TableName>> {
    statements(batch).map(|(Segment { table, op, .. }, _)| {
        let must = match op {
            Op::Update => true,
            Op::Delete => !table.has_row_key(),
            // Whether a row is there makes no difference, or is an error.
            Op::Insert | Op::Replace | Op::Upsert => false,
        };
        (must && !batch.safe).then(|| table.name())
    })
}

fn statements(batch: &Batch) -> impl Iterator<Item = (&Segment, &[RowChange])> {
    batch.segments.iter().flat_map(|segment| {
        let rows_max = match segment.op {
            Op::Insert | Op::Replace | Op::Upsert => segment.rows.len().max(1),
            Op::Delete if segment.table.has_row_key() => DELETE_ROWS_MAX,
            Op::Delete | Op::Update => 1,
        };
        let chunks = segment.rows.chunks(rows_max);
        chunks.map(move |rows| (segment, rows))
    })
}

fn statement(segment: &Segment, rows: &[RowChange], out: &mut Vec<u8>) -> Result<()> {
    let table = &*segment.table;
    match segment.op {
        Op::Insert => values("INSERT INTO ", table, rows, out),
        Op::Replace => values("REPLACE INTO ", table, rows, out),
        Op::Upsert => {
            values("INSERT INTO ", table, rows, out)?;
            text(out, &table.text.on_duplicate);
            Ok(())
        }
        Op::Delete => delete(table, rows, out),
        Op::Update => rows.iter().try_for_each(|row| update(table, row, out)),
    }
}

fn values(verb: &str, table: &TablePlan, rows: &[RowChange], out: &mut Vec<u8>) -> Result<()> {
    text(out, verb);
    text(out, &table.text.table);
    text(out, &table.text.columns);
    for image in rows.iter().filter_map(|row| row.after.as_ref()) {
        out.push(b'(');
        for (number, (index, _)) in written(table).enumerate() {
            // A table may have nothing but columns that are computed.
            if number > 0 {
                out.push(b',');
            }
            literal(table, image, index, out)?;
        }
        text(out, "),");
    }
    out.pop();
    Ok(())
}

fn delete(table: &TablePlan, rows: &[RowChange], out: &mut Vec<u8>) -> Result<()> {
    text(out, "DELETE FROM ");
    text(out, &table.text.table);
    text(out, " WHERE ");
    let images = rows.iter().filter_map(|row| row.before.as_ref());
    match (table.identity(), rows) {
        (&[index], [_, _, ..]) if table.has_row_key() => {
            let column = &table.columns()[index];
            text(out, &column.quoted);
            text(out, " IN (");
            for image in images {
                literal(table, image, index, out)?;
                out.push(b',');
            }
            close_list(out);
        }
        (_, [_]) => images
            .into_iter()
            .try_for_each(|image| condition(table, image, out))?,
        _ => {
            for (number, image) in images.enumerate() {
                text(out, if number > 0 { " OR (" } else { "(" });
                condition(table, image, out)?;
                out.push(b')');
            }
        }
    }
    if !table.has_row_key() {
        text(out, " LIMIT 1");
    }
    Ok(())
}

fn update(table: &TablePlan, row: &RowChange, out: &mut Vec<u8>) -> Result<()> {
    let (Some(before), Some(after)) = (&row.before, &row.after) else {
        return Ok(());
    };
    text(out, "UPDATE ");
    text(out, &table.text.table);
    text(out, " SET ");
    for (index, column) in written(table) {
        text(out, &column.quoted);
        out.push(b'=');
        literal(table, after, index, out)?;
        out.push(b',');
    }
    out.pop();
    text(out, " WHERE ");
    condition(table, before, out)?;
    text(out, " LIMIT 1");
    Ok(())
}

/// The row key's values, or those of the whole row, as a condition.
fn condition(table: &TablePlan, image: &RowImage, out: &mut Vec<u8>) -> Result<()> {
    if table.identity().is_empty() {
        // All values are computed of nothing: one row is like the other.
        text(out, "TRUE");
    }
    for (number, &index) in table.identity().iter().enumerate() {
        if number > 0 {
            text(out, " AND ");
        }
        let column = &table.columns()[index];
        if image.column(index).is_none() {
            text(out, &column.quoted);
            text(out, " IS NULL");
            continue;
        }
        value(
            |out, source, hint, raw| write_condition(out, &column.quoted, source, hint, raw),
            table,
            image,
            index,
            out,
        )?;
        if !table.has_row_key() && column.is_text {
            // The first comparison can use an index, this one is exact.
            text(out, " AND CAST(CONVERT(");
            text(out, &column.quoted);
            text(out, " USING utf8mb4) AS BINARY)=CAST(CONVERT(");
            literal(table, image, index, out)?;
            text(out, " USING utf8mb4) AS BINARY)");
        }
    }
    Ok(())
}

fn written(table: &TablePlan) -> impl Iterator<Item = (usize, &PlanColumn)> {
    let columns = table.columns().iter().enumerate();
    columns.filter(|(_, column)| !column.is_generated)
}

fn literal(table: &TablePlan, image: &RowImage, index: usize, out: &mut Vec<u8>) -> Result<()> {
    value(write_literal, table, image, index, out)
}

fn value(
    write: impl Fn(&mut Vec<u8>, &Column, &ColumnHint, &[u8]) -> binlog::Result<()>,
    table: &TablePlan,
    image: &RowImage,
    index: usize,
    out: &mut Vec<u8>,
) -> Result<()> {
    let PlanColumn { column, hint, .. } = &table.columns()[index];
    let Some(raw) = image.column(index) else {
        text(out, "NULL");
        return Ok(());
    };
    write(out, column, hint, raw).map_err(|error| table.value_error(index, error))
}

/// Turns the comma behind the last element into the closing bracket.
fn close_list(out: &mut [u8]) {
    if let Some(last) = out.last_mut() {
        *last = b')';
    }
}

fn text(out: &mut Vec<u8>, text: &str) {
    out.extend_from_slice(text.as_bytes());
}

#[cfg(test)]
mod tests;
