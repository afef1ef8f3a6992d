//! TABLE_MAP events: what the columns of the following row images are.

use alloc::{string::String, vec::Vec};

use super::{Column, ColumnKind, Flavor, Result, column::Width, reader::Reader};

/// A table as the source saw it when it wrote the rows behind this map.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TableMap {
    /// Number that rows events refer to; valid until the source restarts or changes the table.
    pub id: u64,
    /// Database name.
    pub schema: String,
    /// Table name.
    pub table: String,
    /// All columns of a row image, in order.
    pub columns: Vec<Column>,
    /// Primary key as (column index, prefix length in characters or 0), with
    /// `binlog_row_metadata=FULL`.
    pub primary_key: Option<Vec<(u32, u32)>>,
    /// Storage widths of the columns, precomputed for slicing images.
    pub(super) widths: Vec<Width>,
}

impl TableMap {
    /// A map with the given columns.
    #[must_use]
    pub fn new(id: u64, schema: &str, table: &str, columns: Vec<Column>) -> Self {
        let widths = columns.iter().map(|column| column.kind.width()).collect();
        Self {
            id,
            schema: schema.into(),
            table: table.into(),
            columns,
            primary_key: None,
            widths,
        }
    }

    /// Only the table id, with which every table map starts.
    pub(super) fn peek_id(body: &[u8]) -> Result<u64> {
        Reader::new(body, WHAT).u48()
    }

    /// Reads the body of a TABLE_MAP event.
    pub(super) fn parse(flavor: Flavor, body: &[u8]) -> Result<Self> {
        let mut reader = Reader::new(body, WHAT);
        let id = reader.u48()?;
        let _flags = reader.u16()?;
        let schema = reader.short_str_zero()?;
        let table = reader.short_str_zero()?;
        let count = reader.lenenc_len()?;
        if count > COLUMNS_MAX {
            return Err(reader.malformed());
        }
        let codes = reader.bytes(count)?;
        let meta_len = reader.lenenc_len()?;
        let mut meta = Reader::new(reader.bytes(meta_len)?, WHAT);
        let nullable = Bits::least_first(reader.bytes(count.div_ceil(8))?);
        let mut columns = Vec::with_capacity(count);
        for (index, code) in codes.iter().enumerate() {
            let kind = ColumnKind::resolve(*code, read_meta(*code, &mut meta)?)?;
            if let ColumnKind::Unknown { .. } = kind {
                // How much metadata it has is not known either, so nor is where that of others is.
                let unknown = |code: &u8| Column::new(ColumnKind::Unknown { code: *code });
                let columns = codes.iter().map(unknown).collect();
                return Ok(Self::new(id, &schema, &table, columns));
            }
            let mut column = Column::new(kind);
            column.nullable = nullable.get(index);
            columns.push(column);
        }
        let mut map = Self::new(id, &schema, &table, columns);
        while !reader.is_empty() {
            let field = reader.u8()?;
            let len = reader.lenenc_len()?;
            map.apply(flavor, field, Reader::new(reader.bytes(len)?, WHAT))?;
        }
        Ok(map)
    }

    /// Adds one field of optional metadata; unknown fields are skipped, as servers do.
    fn apply(&mut self, flavor: Flavor, field: u8, mut reader: Reader<'_>) -> Result<()> {
        let columns = &mut self.columns;
        let has_collation = |kind| has_collation(flavor, kind);
        match field {
            SIGNEDNESS => {
                let bits = Bits::most_first(reader.rest());
                for (index, column) in select(columns, has_sign).enumerate() {
                    column.unsigned = Some(bits.get(index));
                }
            }
            DEFAULT_CHARSET => default_collations(columns, has_collation, &mut reader)?,
            COLUMN_CHARSET => collations(columns, has_collation, &mut reader)?,
            LABELS_DEFAULT_CHARSET => default_collations(columns, has_labels, &mut reader)?,
            LABELS_CHARSET => collations(columns, has_labels, &mut reader)?,
            COLUMN_NAME => {
                for column in columns {
                    column.name = Some(reader.lenenc_str()?);
                }
            }
            SET_LABELS => labels(
                columns,
                |k| matches!(k, ColumnKind::Set { .. }),
                &mut reader,
            )?,
            ENUM_LABELS => labels(
                columns,
                |k| matches!(k, ColumnKind::Enum { .. }),
                &mut reader,
            )?,
            GEOMETRY_TYPE => {
                for column in select(columns, |k| matches!(k, ColumnKind::Geometry { .. })) {
                    column.geometry_type = u16::try_from(reader.lenenc()?).ok();
                }
            }
            PRIMARY_KEY | PRIMARY_KEY_PREFIX => {
                let mut key = Vec::new();
                while !reader.is_empty() {
                    let index = reader.lenenc()?;
                    let prefix = match field {
                        PRIMARY_KEY_PREFIX => reader.lenenc()?,
                        _ => 0,
                    };
                    if index >= columns.len() as u64 {
                        return Err(reader.malformed());
                    }
                    let prefix = u32::try_from(prefix).map_err(|_| reader.malformed())?;
                    key.push((index as u32, prefix));
                }
                self.primary_key = Some(key);
            }
            VISIBILITY => {
                let bits = Bits::most_first(reader.rest());
                for (index, column) in columns.iter_mut().enumerate() {
                    column.visible = Some(bits.get(index));
                }
            }
            _ => {}
        }
        Ok(())
    }
}

const WHAT: &str = "table map event";

/// A table has no more columns on either server. Without a limit, rows that leave out nearly all
/// columns would take time by the square of their length.
const COLUMNS_MAX: usize = 4096;

// Types of optional metadata, `Optional_metadata_field_type` of both servers.
const SIGNEDNESS: u8 = 1;
const DEFAULT_CHARSET: u8 = 2;
const COLUMN_CHARSET: u8 = 3;
const COLUMN_NAME: u8 = 4;
const SET_LABELS: u8 = 5;
const ENUM_LABELS: u8 = 6;
const GEOMETRY_TYPE: u8 = 7;
const PRIMARY_KEY: u8 = 8;
const PRIMARY_KEY_PREFIX: u8 = 9;
const LABELS_DEFAULT_CHARSET: u8 = 10;
const LABELS_CHARSET: u8 = 11;
const VISIBILITY: u8 = 12;

/// Metadata of a column type: none, one byte, or two, of which the first is the low one.
fn read_meta(code: u8, reader: &mut Reader<'_>) -> Result<u16> {
    match code {
        4 | 5 | 17..=19 | 140 | 242 | 245 | 249..=252 | 255 => Ok(u16::from(reader.u8()?)),
        15 | 16 | 141 | 246..=248 | 253 | 254 => reader.u16(),
        _ => Ok(0),
    }
}

/// Whether the map says if a column of this type is unsigned; a YEAR is.
fn has_sign(kind: ColumnKind) -> bool {
    matches!(
        kind,
        ColumnKind::Tiny
            | ColumnKind::Short
            | ColumnKind::Int24
            | ColumnKind::Long
            | ColumnKind::LongLong
            | ColumnKind::Float
            | ColumnKind::Double
            | ColumnKind::Decimal { .. }
            | ColumnKind::Year
    )
}

/// Whether the map gives a collation for a column of this type. Of those without text, MySQL counts
/// VECTOR and MariaDB counts GEOMETRY.
fn has_collation(flavor: Flavor, kind: ColumnKind) -> bool {
    match kind {
        ColumnKind::Fixed { .. }
        | ColumnKind::Var { .. }
        | ColumnKind::Blob { .. }
        | ColumnKind::Compressed { .. } => true,
        ColumnKind::Vector { .. } => flavor == Flavor::Mysql,
        ColumnKind::Geometry { .. } => flavor == Flavor::Mariadb,
        _ => false,
    }
}

fn has_labels(kind: ColumnKind) -> bool {
    matches!(kind, ColumnKind::Enum { .. } | ColumnKind::Set { .. })
}

fn select(
    columns: &mut [Column],
    wanted: impl Fn(ColumnKind) -> bool,
) -> impl Iterator<Item = &mut Column> {
    columns.iter_mut().filter(move |column| wanted(column.kind))
}

fn collation(reader: &mut Reader<'_>) -> Result<u16> {
    u16::try_from(reader.lenenc()?).map_err(|_| reader.malformed())
}

/// One collation per column.
fn collations(
    columns: &mut [Column],
    wanted: impl Fn(ColumnKind) -> bool,
    reader: &mut Reader<'_>,
) -> Result<()> {
    for column in select(columns, wanted) {
        column.collation = Some(collation(reader)?);
    }
    Ok(())
}

/// The collation of most columns, then pairs (index among these columns, collation) of the others.
fn default_collations(
    columns: &mut [Column],
    wanted: impl Fn(ColumnKind) -> bool,
    reader: &mut Reader<'_>,
) -> Result<()> {
    let default = collation(reader)?;
    let mut selected: Vec<_> = select(columns, wanted).collect();
    for column in &mut selected {
        column.collation = Some(default);
    }
    while !reader.is_empty() {
        let index = reader.lenenc_len()?;
        let other = collation(reader)?;
        let column = selected.get_mut(index).ok_or_else(|| reader.malformed())?;
        column.collation = Some(other);
    }
    Ok(())
}

fn labels(
    columns: &mut [Column],
    wanted: impl Fn(ColumnKind) -> bool,
    reader: &mut Reader<'_>,
) -> Result<()> {
    for column in select(columns, wanted) {
        let count = reader.lenenc()?;
        column.labels.clear();
        for _ in 0..count {
            let len = reader.lenenc_len()?;
            column.labels.push(reader.bytes(len)?.into());
        }
    }
    Ok(())
}

/// A bit map; bits behind its end are zero.
#[derive(Clone, Copy, Debug)]
pub(super) struct Bits<'a> {
    bytes: &'a [u8],
    flip: usize,
}

impl<'a> Bits<'a> {
    /// The first bit is the lowest of its byte, as for NULLs.
    pub(super) fn least_first(bytes: &'a [u8]) -> Self {
        Self { bytes, flip: 0 }
    }

    /// The first bit is the highest of its byte, as in optional metadata.
    pub(super) fn most_first(bytes: &'a [u8]) -> Self {
        Self { bytes, flip: 7 }
    }

    #[inline]
    pub(super) fn get(&self, index: usize) -> bool {
        let byte = self.bytes.get(index / 8);
        byte.is_some_and(|byte| byte >> ((index % 8) ^ self.flip) & 1 == 1)
    }
}

/// A name for logs: `schema`.`table`.
impl core::fmt::Display for TableMap {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        write!(f, "`{}`.`{}`", self.schema, self.table)
    }
}
