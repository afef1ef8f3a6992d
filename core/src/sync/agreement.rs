//! Whether the columns of a source's table and a target's belong together where the binlog alone
//! doesn't say it.
//!
//! With `binlog_row_metadata=MINIMAL` (MySQL's default) a table map has no names, with MariaDB's
//! default `NO_LOG` no charsets and no signs either, so the order and the target's definition stand
//! in for them. Where the source is asked and contradicts that, nothing is guessed. Its answer may
//! be newer than the rows: it is compared, never used to read them, and only as long as the table
//! was not made anew since.

use alloc::{format, string::String, vec::Vec};

use super::schema::{ColumnInfo, Quoted, Table, TableName};
use crate::{
    binlog::{Column, ColumnKind, TableMap},
    error::{Error, Result, code},
};

/// A column as the source has it now.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub struct SourceColumn {
    /// Name.
    pub name: String,
    /// Whether it is UNSIGNED.
    pub unsigned: bool,
    /// Character set, for text.
    pub charset: Option<String>,
}

/// A table as the source has it now.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub struct SourceTable {
    /// Its columns in order; none where there is no such table.
    pub columns: Vec<SourceColumn>,
    /// When it was created or last rebuilt, in seconds since 1970 on the source's clock, if known.
    pub created: Option<u64>,
}

/// What a source's table maps tell of columns, besides their types (`binlog_row_metadata`).
#[derive(Clone, Copy, Debug, Default, Eq, Ord, PartialEq, PartialOrd)]
pub enum Metadata {
    /// Nothing.
    #[default]
    NoLog,
    /// Charsets and signs.
    Minimal,
    /// Names as well.
    Full,
}

/// Compares tables as the source and the target have them now: whether rows that are yet to be
/// written will be understood.
///
/// # Errors
/// As of [`compare`].
pub fn look_ahead(source: &Table, target: &Table, metadata: Metadata) -> Result<()> {
    let column = |column: &ColumnInfo| {
        let kind = match &*column.type_name {
            "enum" | "set" => ColumnKind::Enum { bytes: 1 },
            _ if column.charset.is_some() => ColumnKind::Blob { len_bytes: 1 },
            name if name.ends_with("int") => ColumnKind::Long,
            _ => ColumnKind::Double,
        };
        let tells = metadata >= Metadata::Minimal;
        Column {
            unsigned: tells.then_some(column.unsigned),
            collation: tells.then_some(0),
            name: (metadata == Metadata::Full).then(|| column.name.clone()),
            ..Column::new(kind)
        }
    };
    let TableName { schema, table } = &source.name;
    let map = TableMap::new(
        0,
        schema,
        table,
        source.columns.iter().map(column).collect(),
    );
    let column = |column: &ColumnInfo| SourceColumn {
        name: column.name.clone(),
        unsigned: column.unsigned,
        charset: column.charset.clone(),
    };
    let now = SourceTable {
        columns: source.columns.iter().map(column).collect(),
        created: Some(0),
    };
    compare(&map, target, &now, 1)
}

/// Whether a table map leaves something to be guessed.
#[must_use]
pub fn is_vague(map: &TableMap) -> bool {
    map.columns
        .iter()
        .any(|column| column.name.is_none() || lacks_charset(column) || lacks_sign(column))
}

/// Compares the target's table with the source's, as far as `map` is silent. `written` is when the
/// rows were, in seconds since 1970: of a table that was changed since, nothing can be said.
///
/// # Errors
/// [`code::SYNCER_UNIT_DML_COLUMN_NOT_MATCH`] where rows would be written to other columns, or
/// values read as others than they are.
pub fn compare(map: &TableMap, schema: &Table, source: &SourceTable, written: u64) -> Result<()> {
    let SourceTable {
        columns: source,
        created,
    } = source;
    // Another number of columns: a DDL lies between then and now, or the plan refuses it anyway.
    let changed = source.len() != map.columns.len() || source.len() != schema.columns.len();
    if changed || created.is_none_or(|created| created >= written) {
        return Ok(());
    }
    // Columns that come and go at once don't show in the time; they change the set of names.
    let is_permuted = source.iter().all(|source| {
        let mut columns = schema.columns.iter();
        columns.any(|target| same_name(&target.name, &source.name))
    });
    for ((column, target), source) in map.columns.iter().zip(&schema.columns).zip(source) {
        let refuse = |what: &str| {
            let SourceColumn { name, .. } = source;
            let message = format!(
                "column {} of {map} cannot be matched with column {} of {}: {what}, and the \
                 source's binlog doesn't tell",
                Quoted(name),
                Quoted(&target.name),
                schema.name
            );
            Err(
                Error::new(&code::SYNCER_UNIT_DML_COLUMN_NOT_MATCH, message).with_workaround(
                    "Find out which of the two is right for the rows at this place: if the \
                     target's table was made in another way than the source's, correct it. From \
                     now on, `binlog_row_metadata=MINIMAL` on the source tells charsets and signs, \
                     and `FULL` names as well.",
                ),
            )
        };
        if column.name.is_none() && is_permuted && !same_name(&target.name, &source.name) {
            return refuse("the columns stand in another order");
        }
        if lacks_sign(column) && source.unsigned != target.unsigned {
            return refuse("one is unsigned and the other is not");
        }
        if let (true, Some(from), Some(to)) =
            (lacks_charset(column), &source.charset, &target.charset)
            && !reads_as(from, to)
        {
            return refuse(&format!("its text is {from}, not {to}"));
        }
    }
    Ok(())
}

fn same_name(a: &str, b: &str) -> bool {
    a == b || a.to_lowercase() == b.to_lowercase()
}

fn lacks_charset(column: &Column) -> bool {
    let is_text = matches!(
        column.kind,
        ColumnKind::Fixed { .. } | ColumnKind::Var { .. } | ColumnKind::Blob { .. }
    );
    is_text && column.collation.is_none()
}

fn lacks_sign(column: &Column) -> bool {
    let has_sign = matches!(
        column.kind,
        ColumnKind::Tiny
            | ColumnKind::Short
            | ColumnKind::Int24
            | ColumnKind::Long
            | ColumnKind::LongLong
    );
    has_sign && column.unsigned.is_none()
}

/// Whether bytes in one charset mean the same in another.
fn reads_as(from: &str, to: &str) -> bool {
    let plain = |name| match name {
        "utf8" => "utf8mb3",
        name => name,
    };
    let (from, to) = (plain(from), plain(to));
    from == to || from == "utf8mb3" && to == "utf8mb4" || from == "ascii" && !is_wide(to)
}

fn is_wide(charset: &str) -> bool {
    matches!(charset, "ucs2" | "utf16" | "utf16le" | "utf32")
}

#[cfg(test)]
mod tests {
    use super::*;
    use alloc::vec;

    const CREATED: u64 = 1000;
    const WRITTEN: u64 = 1001;

    fn map(columns: Vec<Column>) -> TableMap {
        TableMap::new(1, "d", "t", columns)
    }

    fn table(columns: &[(&str, bool, Option<&str>)]) -> Table {
        let column = |&(name, unsigned, charset): &(&str, bool, Option<&str>)| ColumnInfo {
            name: name.into(),
            unsigned,
            charset: charset.map(Into::into),
            ..ColumnInfo::default()
        };
        Table {
            name: TableName::new("d", "t"),
            columns: columns.iter().map(column).collect(),
            keys: vec![],
        }
    }

    fn source(columns: &[(&str, bool, Option<&str>)]) -> SourceTable {
        let column = |&(name, unsigned, charset): &(&str, bool, Option<&str>)| SourceColumn {
            name: name.into(),
            unsigned,
            charset: charset.map(Into::into),
        };
        SourceTable {
            columns: columns.iter().map(column).collect(),
            created: Some(CREATED),
        }
    }

    #[test]
    fn another_order_is_refused_unless_the_map_has_names() {
        let here = source(&[("id", false, None), ("a", false, None), ("b", false, None)]);
        let there = table(&[("id", false, None), ("b", false, None), ("a", false, None)]);
        let mut columns = vec![Column::new(ColumnKind::Long); 3];
        columns.iter_mut().for_each(|c| c.unsigned = Some(false));
        let error = compare(&map(columns.clone()), &there, &here, WRITTEN).unwrap_err();
        assert!(error.message.contains("another order"), "{error}");
        // The source may have been changed since.
        compare(&map(columns.clone()), &there, &here, CREATED).unwrap();
        for (column, name) in columns.iter_mut().zip(["id", "a", "b"]) {
            column.name = Some(name.into());
        }
        assert!(!is_vague(&map(columns.clone())));
        compare(&map(columns), &there, &here, WRITTEN).unwrap();
    }

    #[test]
    fn what_will_not_be_understood_is_known_before() {
        let column = |name: &str, kind: &str, charset: Option<&str>| ColumnInfo {
            name: name.into(),
            type_name: kind.into(),
            charset: charset.map(Into::into),
            ..ColumnInfo::default()
        };
        let table = |columns: &[ColumnInfo]| Table {
            columns: columns.to_vec(),
            ..table(&[])
        };
        let (id, text) = (column("id", "int", None), column("t", "text", Some("gbk")));
        let here = table(&[id.clone(), text.clone()]);
        let other = table(&[id.clone(), column("t", "text", Some("utf8mb4"))]);
        let turned = table(&[text, id.clone()]);
        let signs = table(&[
            ColumnInfo {
                unsigned: true,
                ..id
            },
            here.columns[1].clone(),
        ]);
        for (there, understood_from) in [
            (&here, Metadata::NoLog),
            (&other, Metadata::Minimal),
            (&signs, Metadata::Minimal),
            (&turned, Metadata::Full),
        ] {
            for metadata in [Metadata::NoLog, Metadata::Minimal, Metadata::Full] {
                let is_understood = look_ahead(&here, there, metadata).is_ok();
                assert_eq!(is_understood, metadata >= understood_from, "{there:?}");
            }
        }
    }

    /// A column that was renamed since then has no counterpart of that name anywhere.
    #[test]
    fn what_was_renamed_meanwhile_is_no_contradiction() {
        let here = source(&[("ID", false, None), ("new", false, None)]);
        let there = table(&[("id", false, None), ("old", false, None)]);
        compare(
            &map(vec![Column::new(ColumnKind::Long); 2]),
            &there,
            &here,
            WRITTEN,
        )
        .unwrap();
        let fewer = source(&[("id", true, None)]);
        compare(
            &map(vec![Column::new(ColumnKind::Long); 2]),
            &there,
            &fewer,
            WRITTEN,
        )
        .unwrap();
    }

    #[test]
    fn signs_and_charsets_are_compared_where_the_map_has_none() {
        let mut number = Column::new(ColumnKind::Long);
        let text = Column::new(ColumnKind::Var { bytes_max: 80 });
        let case = |number: &Column, here: (bool, &str), there: (bool, &str)| {
            compare(
                &map(vec![number.clone(), text.clone()]),
                &table(&[("n", there.0, None), ("t", false, Some(there.1))]),
                &source(&[("n", here.0, None), ("t", false, Some(here.1))]),
                WRITTEN,
            )
        };
        assert!(case(&number, (false, "latin1"), (false, "latin1")).is_ok());
        assert!(case(&number, (false, "utf8"), (false, "utf8mb4")).is_ok());
        assert!(case(&number, (false, "ascii"), (false, "gbk")).is_ok());
        assert!(case(&number, (false, "latin1"), (false, "utf8mb4")).is_err());
        assert!(case(&number, (false, "ascii"), (false, "utf16")).is_err());
        assert!(case(&number, (true, "latin1"), (false, "latin1")).is_err());
        number.unsigned = Some(true);
        assert!(case(&number, (true, "latin1"), (false, "latin1")).is_ok());
    }
}
