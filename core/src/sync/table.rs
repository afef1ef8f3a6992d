//! A plan for one table: how its row images become keys, hashes and columns of statements.

use alloc::{format, string::String, vec::Vec};
use core::fmt::Write;

use super::{
    batch::Op,
    keys,
    schema::{ColumnInfo, Key, Quoted, Table, TableName},
};
use crate::{
    binlog::{
        BinlogError, Column, ColumnHint, ColumnKind, Dialect, RowChange, RowImage, TableMap,
        is_invalid_enum, write_key,
    },
    error::{Error, Result, code},
    guard::Guard,
};

/// Everything about writing rows of one source table into its target table, worked out once.
///
/// Holds for one table map of the source and one definition of the target's table; a DDL of either
/// needs a new plan.
#[derive(Debug)]
pub struct TablePlan {
    name: TableName,
    /// Hash of the name; the row key's hash starts from it.
    seed: u64,
    /// Per column of the row image.
    columns: Vec<PlanColumn>,
    /// The unique keys that conflicts are found by, the row key first. Empty in a serial plan.
    keys: Vec<PlanKey>,
    /// Columns of the row key, or of the whole row where the table has none.
    identity: Vec<usize>,
    has_row_key: bool,
    /// Whether every column of the target that can be written is.
    is_complete: bool,
    enums: Vec<usize>,
    /// Upper estimate of what a row adds to a statement besides its texts.
    row_sql_bytes: usize,
    pub(super) text: Text,
}

/// A column of the source's row image, and the target's column that it goes into.
#[derive(Debug)]
pub(super) struct PlanColumn {
    pub(super) column: Column,
    pub(super) hint: ColumnHint,
    pub(super) quoted: String,
    /// Whether it has a collation, which may take different texts for equal.
    pub(super) is_text: bool,
    /// Whether the server computes it, so that it must not be written.
    pub(super) is_generated: bool,
}

/// Constant parts of statements.
#[derive(Debug, Default)]
pub(super) struct Text {
    /// `` `d`.`t` ``
    pub(super) table: String,
    /// `` (`a`,`b`) VALUES ``
    pub(super) columns: String,
    /// `` ON DUPLICATE KEY UPDATE `b`=VALUES(`b`) ``
    pub(super) on_duplicate: String,
}

#[derive(Debug)]
struct PlanKey {
    /// Column of the row image, and how many leading characters count.
    parts: Vec<(usize, Option<u32>)>,
    seed: u64,
}

/// What a change does, as far as joining and grouping have to know.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) enum Effect {
    /// Whatever it does, the row stays the same row: changes of it may be joined.
    KeepsKey,
    /// This, and nothing may be joined to it.
    Only(Op),
}

impl TablePlan {
    /// Matches the columns of a table map with those of the target's table: by name where the map
    /// carries names (then the target may have more, and needs none for what MariaDB hides), else
    /// by order.
    ///
    /// # Errors
    /// [`code::SYNCER_UNIT_DML_COLUMN_NOT_MATCH`] if a column of the source has no counterpart.
    pub fn new(map: &TableMap, schema: &Table, dialect: Dialect) -> Result<Self> {
        let targets = match_columns(map, schema)?;
        check_kinds(map, schema, &targets)?;
        // The target makes such a column by itself, if it has one at all.
        let hidden = ColumnInfo {
            generated: true,
            ..ColumnInfo::default()
        };
        let columns: Vec<_> = (map.columns.iter().zip(&targets))
            .map(|(column, target)| {
                let info = target.map_or(&hidden, |index| &schema.columns[index]);
                PlanColumn::new(column, info, dialect)
            })
            .collect();
        let image_index = |target| targets.iter().position(|&index| index == Some(target));
        let name_seed = keys::hash(
            schema.name.table.to_lowercase().as_bytes(),
            keys::hash(schema.name.schema.to_lowercase().as_bytes(), 0),
        );

        let plan_key = |(number, key): (u64, &Key)| {
            let parts = key
                .parts
                .iter()
                .map(|part| Some((image_index(part.column?)?, part.prefix)));
            Some(PlanKey {
                parts: parts.collect::<Option<_>>()?,
                seed: name_seed.wrapping_add(number),
            })
        };
        let row_key = schema.row_key().and_then(|key| plan_key((0, key)));
        let has_row_key = row_key.is_some();
        let identity: Vec<usize> = match &row_key {
            Some(key) => key.parts.iter().map(|part| part.0).collect(),
            None => (0..columns.len())
                .filter(|&i| !columns[i].is_generated)
                .collect(),
        };
        let others = schema
            .unique_keys()
            .filter(|&key| Some(key) != schema.row_key());
        let others: Option<Vec<_>> = (1..).zip(others).map(plan_key).collect();
        // A unique value that can't be computed conflicts with everything: one row after another.
        let keys = match (row_key, others) {
            (Some(row_key), Some(others)) => [row_key].into_iter().chain(others).collect(),
            _ => Vec::new(),
        };

        let writable = schema
            .columns
            .iter()
            .filter(|column| !column.generated)
            .count();
        let written = columns.iter().filter(|column| !column.is_generated).count();
        Ok(Self {
            text: Text::new(
                &schema.name,
                &columns,
                has_row_key.then_some(identity.as_slice()),
            ),
            name: schema.name.clone(),
            seed: name_seed,
            enums: (0..columns.len())
                .filter(|&index| matches!(columns[index].column.kind, ColumnKind::Enum { .. }))
                .collect(),
            row_sql_bytes: columns.iter().map(PlanColumn::sql_bytes).sum(),
            columns,
            keys,
            identity,
            has_row_key,
            is_complete: written == writable,
        })
    }

    /// The target's table.
    pub fn name(&self) -> &TableName {
        &self.name
    }

    /// Whether rows have a key to find them by.
    pub fn has_row_key(&self) -> bool {
        self.has_row_key
    }

    /// Whether changes must be applied one after another, in one slot.
    pub fn is_serial(&self) -> bool {
        self.keys.is_empty()
    }

    pub(super) fn is_complete(&self) -> bool {
        self.is_complete
    }

    pub(super) fn columns(&self) -> &[PlanColumn] {
        &self.columns
    }

    pub(super) fn identity(&self) -> &[usize] {
        &self.identity
    }

    /// Memory that the keys of a row take in the planner's table, in bytes.
    pub(super) fn key_bytes(&self) -> usize {
        (self.keys.len() + 1) * 64
    }

    /// Upper estimate of the SQL text that a change becomes, whose images have so many bytes.
    pub(super) fn sql_bytes(&self, image_bytes: usize) -> usize {
        // Escapes and hexadecimal digits double text, and JSON grows a little more. In a condition
        // over all columns texts stand twice.
        let growth = if self.has_row_key { 3 } else { 6 };
        image_bytes * growth + self.row_sql_bytes
    }

    /// Collects hashes of all unique key values that a change touches, each once. The first one is
    /// that of the row before the change, or after it for an insert: it decides the slot.
    pub(super) fn hash_keys(
        &self,
        change: &RowChange,
        scratch: &mut Vec<u8>,
        hashes: &mut Vec<u64>,
    ) {
        hashes.clear();
        if self.is_serial() {
            hashes.push(self.seed);
            return;
        }
        for (index, key) in self.keys.iter().enumerate() {
            if index > 0 && !Guard::EveryKey.holds() {
                return;
            }
            let mut last = None;
            for image in [&change.before, &change.after].into_iter().flatten() {
                if last.is_some() && !Guard::BothImages.holds() {
                    break;
                }
                // Nearly always an update leaves keys alone, and comparing is cheaper.
                if last.is_some_and(|last| self.same_values(&key.parts, last, image)) {
                    continue;
                }
                last = Some(image);
                if let Some(hash) = self.hash_key(key, image, index == 0, scratch)
                    && !hashes.contains(&hash)
                {
                    hashes.push(hash);
                }
            }
        }
    }

    /// The hash of a key's value; none if a part is NULL, unless that must have one too.
    fn hash_key(
        &self,
        key: &PlanKey,
        image: &RowImage,
        hash_null: bool,
        scratch: &mut Vec<u8>,
    ) -> Option<u64> {
        scratch.clear();
        for &(index, prefix) in &key.parts {
            let start = scratch.len();
            let length = match image.column(index) {
                Some(raw) => {
                    let PlanColumn { column, hint, .. } = &self.columns[index];
                    write_key(scratch, column, hint, raw, prefix);
                    (scratch.len() - start) as u32
                }
                None if hash_null => u32::MAX,
                None => return None,
            };
            // Behind each part its length, so that ("a", "bc") isn't ("ab", "c").
            scratch.extend_from_slice(&length.to_le_bytes());
        }
        Some(keys::hash(scratch, key.seed))
    }

    fn same_values(&self, parts: &[(usize, Option<u32>)], a: &RowImage, b: &RowImage) -> bool {
        parts
            .iter()
            .all(|&(index, _)| a.column(index) == b.column(index))
    }

    /// Whether two images have the very same row key, byte by byte.
    pub(super) fn is_same_row(&self, a: &RowImage, b: &RowImage) -> bool {
        self.identity
            .iter()
            .all(|&index| a.column(index) == b.column(index))
    }

    /// Whether an update leaves all unique key values as they are, byte by byte.
    fn keeps_unique_values(&self, before: &RowImage, after: &RowImage) -> bool {
        !self.is_serial()
            && self
                .keys
                .iter()
                .all(|key| self.same_values(&key.parts, before, after))
    }

    /// Says what a change does; in safe mode possibly in two steps.
    ///
    /// Safe mode doesn't trust what is in the target: the row may have been changed already, or may
    /// not be there.
    pub(super) fn effects(
        &self,
        change: RowChange,
        safe: bool,
    ) -> [Option<(Effect, RowChange)>; 2] {
        let only = |op, before, after| Some((Effect::Only(op), RowChange { before, after }));
        let put = if safe && self.has_row_key {
            Op::Replace
        } else {
            Op::Insert
        };
        let RowChange { before, after } = change;
        match (before, after) {
            (Some(before), Some(after)) if safe => {
                let delete = !self.has_row_key || !self.keeps_unique_values(&before, &after);
                [
                    delete
                        .then_some(before)
                        .and_then(|row| only(Op::Delete, Some(row), None)),
                    only(put, None, Some(after)),
                ]
            }
            (before, after) if safe || self.is_serial() => {
                let op = match (&before, &after) {
                    (Some(_), Some(_)) => Op::Update,
                    (Some(_), None) => Op::Delete,
                    (None, _) => put,
                };
                [only(op, before, after), None]
            }
            (Some(before), Some(after)) if !self.is_same_row(&before, &after) => {
                [only(Op::Update, Some(before), Some(after)), None]
            }
            (before, after) => [Some((Effect::KeepsKey, RowChange { before, after })), None],
        }
    }

    /// Whether an ENUM column holds 0, the error value.
    pub(super) fn has_enum_zero(&self, image: &RowImage) -> bool {
        self.enums.iter().any(|&index| {
            let column = &self.columns[index].column;
            image
                .column(index)
                .is_some_and(|raw| is_invalid_enum(column, raw))
        })
    }

    /// The coded error for a value that can't be read.
    pub(super) fn value_error(&self, column: usize, error: BinlogError) -> Error {
        let column = &self.columns[column].quoted;
        Error::from(error).annotate(&format!("a value for column {column} of {}", self.name))
    }
}

impl PlanColumn {
    fn new(column: &Column, info: &ColumnInfo, dialect: Dialect) -> Self {
        let is_text = matches!(
            info.type_name.as_str(),
            "char" | "varchar" | "tinytext" | "text" | "mediumtext" | "longtext"
        );
        Self {
            column: column.clone(),
            hint: ColumnHint::new(
                dialect,
                &info.type_name,
                info.unsigned,
                info.charset.as_deref(),
                info.collation.as_deref(),
                info.length,
            ),
            quoted: format!("{}", Quoted(&info.name)),
            is_text,
            is_generated: info.generated,
        }
    }

    /// Upper estimate: a number, `NULL` or the quotes of a text, and the name where it is set and
    /// where it is compared.
    fn sql_bytes(&self) -> usize {
        let comparison = if self.is_text { 100 } else { 0 };
        2 * (24 + self.quoted.len()) + comparison + self.quoted.len()
    }
}

impl Text {
    fn new(name: &TableName, columns: &[PlanColumn], row_key: Option<&[usize]>) -> Self {
        let mut text = Self {
            table: format!("{name}"),
            columns: String::from(" ("),
            on_duplicate: String::from(" ON DUPLICATE KEY UPDATE "),
        };
        let mut update = |quoted: &str| {
            let comma = if text.on_duplicate.ends_with(' ') {
                ""
            } else {
                ","
            };
            // Writing to a string can't fail.
            let _ = write!(text.on_duplicate, "{comma}{quoted}=VALUES({quoted})");
        };
        let is_written = |&(_, column): &(usize, &PlanColumn)| !column.is_generated;
        for (index, column) in columns.iter().enumerate().filter(is_written) {
            let comma = if text.columns.len() > 2 { "," } else { "" };
            let _ = write!(text.columns, "{comma}{}", column.quoted);
            if row_key.is_some_and(|key| !key.contains(&index)) {
                update(&column.quoted);
            }
        }
        text.columns.push_str(") VALUES ");
        // A table of nothing but its key: there is nothing to change, but it must be a statement.
        if let Some(&[index, ..]) = row_key
            && text.on_duplicate.ends_with(' ')
        {
            let quoted = &columns[index].quoted;
            let _ = write!(text.on_duplicate, "{quoted}={quoted}");
        }
        text
    }
}

/// Refuses what the binlog doesn't tell well enough to write it.
fn check_kinds(map: &TableMap, schema: &Table, targets: &[Option<usize>]) -> Result<()> {
    for (column, target) in map.columns.iter().zip(targets) {
        let Some(info) = target.map(|index| &schema.columns[index]) else {
            continue;
        };
        let refused = |what: &str, workaround: &str| {
            let message = format!("column {} of {map} {what}", Quoted(&info.name));
            Err(
                Error::new(&code::SYNCER_UNIT_NOT_SUPPORTED_OPERATE, message).with_workaround(
                    format!("{workaround}, or exclude the table with the `block-allow-list`."),
                ),
            )
        };
        match column.kind {
            ColumnKind::Compressed { .. } => {
                return refused(
                    "has the attribute COMPRESSED, whose values can't be replicated yet",
                    "Take the attribute off the column in the source",
                );
            }
            ColumnKind::Unknown { code } => {
                return refused(
                    &format!("can't be replicated: the table has a column of unknown type {code}"),
                    "Change the type of the column in the source",
                );
            }
            ColumnKind::TimeOld | ColumnKind::DateTimeOld | ColumnKind::TimestampOld
                if info.column_type.contains('(') =>
            {
                return refused(
                    "has a fraction of a second in a format that the binlog doesn't describe",
                    "Set `mysql56_temporal_format=ON` in the source and rebuild the table there",
                );
            }
            _ => {}
        }
    }
    Ok(())
}

/// What else a row can have more columns for.
const HIDDEN: &str = " MariaDB also logs columns that it hides: for a UNIQUE key over TEXT or BLOB \
     a hash, which is left out if the source has `binlog_row_metadata=FULL`; for SYSTEM VERSIONING \
     the period of a row, and such a table can't be replicated: exclude it with the \
     `block-allow-list`.";

/// Beginning of the name of a hidden column, which MariaDB keeps the hash in that makes a UNIQUE
/// key over TEXT or BLOB.
const HIDDEN_HASH: &str = "DB_ROW_HASH_";

/// For each column of a table map, the index of its column in the target's table; none for one that
/// is hidden in the source.
fn match_columns(map: &TableMap, schema: &Table) -> Result<Vec<Option<usize>>> {
    let names: Option<Vec<&str>> = map
        .columns
        .iter()
        .map(|column| column.name.as_deref())
        .collect();
    let (have, want) = (map.columns.len(), schema.columns.len());
    let mismatch = |what: String| {
        Error::new(
            &code::SYNCER_UNIT_DML_COLUMN_NOT_MATCH,
            format!(
                "Column count doesn't match value count: {want} (columns) vs {have} (values): \
                 {what}"
            ),
        )
        .with_workaround(format!(
            "Give {} the columns that `{}`.`{}` has in the source (a DDL of it may have been \
             skipped or filtered), then resume the task.{}",
            schema.name,
            map.schema,
            map.table,
            if have > want { HIDDEN } else { "" },
        ))
    };
    match names {
        // Without any column names of the source, only the order can say what belongs together.
        None if have == want => Ok((0..want).map(Some).collect()),
        None => Err(mismatch(format!(
            "the target's table {} has {want} columns, the source's row has {have}, and it doesn't \
             name them (`binlog_row_metadata` isn't FULL)",
            schema.name
        ))),
        Some(names) => (names.into_iter())
            .map(|name| {
                let same = |column: &ColumnInfo| {
                    column.name == name || column.name.to_lowercase() == name.to_lowercase()
                };
                let index = schema.columns.iter().position(same);
                if index.is_none() && name.starts_with(HIDDEN_HASH) {
                    return Ok(None);
                }
                index.map(Some).ok_or_else(|| {
                    mismatch(format!(
                        "the target's table {} has no column {}",
                        schema.name,
                        Quoted(name)
                    ))
                })
            })
            .collect(),
    }
}

#[cfg(test)]
mod tests;
