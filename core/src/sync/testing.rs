//! Tables and row changes for tests: values become real event bytes and are decoded from them.

use alloc::{string::String, sync::Arc, vec, vec::Vec};

use crate::{
    binlog::{Decoder, Dialect, Event, Flavor, Frame, Header, RowChange, TableMap, event_type},
    sync::{
        schema::{ColumnInfo, Key, KeyPart, Table, TableName},
        table::TablePlan,
    },
};

/// A column's bytes in a row image, `None` for NULL.
pub(super) type Value = Option<Vec<u8>>;
/// A row as bytes.
pub(super) type Row = Vec<Value>;

/// INT, as it is in a row image.
pub(super) fn int(value: i32) -> Value {
    Some(value.to_le_bytes().into())
}

/// VARCHAR, as it is in a row image.
pub(super) fn text(value: &str) -> Value {
    Some([&[value.len() as u8], value.as_bytes()].concat())
}

/// ENUM, as it is in a row image.
pub(super) fn label(number: u8) -> Value {
    Some([number].into())
}

/// An INT column, or a VARCHAR one where a collation is given.
pub(super) fn column(name: &str, nullable: bool, collation: Option<&str>) -> ColumnInfo {
    ColumnInfo {
        name: name.into(),
        type_name: if collation.is_some() {
            "varchar"
        } else {
            "int"
        }
        .into(),
        nullable,
        charset: collation.map(|_| "utf8mb4".into()),
        collation: collation.map(Into::into),
        ..ColumnInfo::default()
    }
}

/// A unique key over columns; `PRIMARY` makes it the primary key.
pub(super) fn unique(name: &str, columns: &[Option<usize>]) -> Key {
    let part = |&column| KeyPart {
        column,
        prefix: None,
    };
    Key {
        name: name.into(),
        primary: name == "PRIMARY",
        unique: true,
        unordered: false,
        parts: columns.iter().map(part).collect(),
    }
}

/// A table of `source_columns` columns in the source, and its plan.
pub(super) struct Fixture {
    pub(super) map: Arc<TableMap>,
    pub(super) plan: Arc<TablePlan>,
    decoder: core::cell::RefCell<Decoder>,
}

impl Fixture {
    pub(super) fn new(name: &str, columns: Vec<ColumnInfo>, keys: Vec<Key>) -> Self {
        let count = columns.len();
        Self::with_extra(name, columns, keys, count, Dialect::MySql)
    }

    /// The source has only the first `count` columns, and names them if there are more.
    pub(super) fn with_extra(
        name: &str,
        columns: Vec<ColumnInfo>,
        keys: Vec<Key>,
        count: usize,
        dialect: Dialect,
    ) -> Self {
        let mut decoder = Decoder::new(Flavor::Mysql);
        let body = table_map(name, &columns[..count], count < columns.len());
        let Event::TableMap(map) = decode(&mut decoder, event_type::TABLE_MAP, body) else {
            panic!("not a table map");
        };
        let schema = Table {
            name: TableName::new("d", name),
            columns,
            keys,
        };
        let plan = TablePlan::new(&map, &schema, dialect).unwrap();
        Self {
            plan: Arc::new(plan),
            map,
            decoder: decoder.into(),
        }
    }

    /// A row change with these images.
    pub(super) fn change(&self, before: Option<&Row>, after: Option<&Row>) -> RowChange {
        let code = match (before, after) {
            (None, _) => event_type::WRITE_ROWS,
            (_, Some(_)) => event_type::WRITE_ROWS + 1,
            (_, None) => event_type::DELETE_ROWS,
        };
        let columns = self.map.columns.len();
        let mut body = vec![1, 0, 0, 0, 0, 0, 1, 0, 2, 0, columns as u8];
        let images: Vec<_> = before.into_iter().chain(after).collect();
        let bitmap = columns.div_ceil(8);
        body.resize(body.len() + bitmap * images.len(), 0xff);
        for image in images {
            let mut nulls = vec![0; bitmap];
            for (index, value) in image.iter().enumerate() {
                nulls[index / 8] |= u8::from(value.is_none()) << (index % 8);
            }
            body.extend(nulls);
            body.extend(image.iter().flatten().flatten());
        }
        match decode(&mut self.decoder.borrow_mut(), code, body) {
            Event::Rows(event) => event.rows().next().unwrap().unwrap(),
            other => panic!("{other:?}"),
        }
    }

    /// The row that an image has.
    pub(super) fn row(&self, image: &crate::binlog::RowImage) -> Row {
        let column = |index| image.column(index).map(Into::into);
        (0..self.map.columns.len()).map(column).collect()
    }
}

fn decode(decoder: &mut Decoder, code: u8, body: Vec<u8>) -> Event {
    let header = Header {
        timestamp: 0,
        event_type: code,
        server_id: 1,
        event_size: body.len() as u32 + 19,
        log_pos: 0,
        flags: 0,
    };
    let frame = Frame {
        header,
        body: body.into(),
    };
    decoder.event(&frame).unwrap()
}

fn table_map(name: &str, columns: &[ColumnInfo], names: bool) -> Vec<u8> {
    let mut body = vec![1, 0, 0, 0, 0, 0, 1, 0, 1, b'd', 0, name.len() as u8];
    body.extend_from_slice(name.as_bytes());
    body.extend([0, columns.len() as u8]);
    let (mut types, mut meta) = (Vec::new(), Vec::new());
    for column in columns {
        let (code, bytes): (u8, &[u8]) = match &*column.type_name {
            "varchar" => (15, &[200, 0]),
            "enum" => (254, &[247, 1]),
            _ => (3, &[]),
        };
        types.push(code);
        meta.extend_from_slice(bytes);
    }
    body.extend(types);
    body.push(meta.len() as u8);
    body.extend(meta);
    body.resize(body.len() + columns.len().div_ceil(8), 0xff);
    if names {
        let all: String = columns.iter().map(|column| &*column.name).collect();
        body.extend([4, (all.len() + columns.len()) as u8]);
        for column in columns {
            body.push(column.name.len() as u8);
            body.extend_from_slice(column.name.as_bytes());
        }
    }
    body
}
