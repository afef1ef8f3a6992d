//! The batches of the cases, from images as they are in a binlog.

use std::sync::Arc;

use dm_core::{
    binlog::{Decoder, Dialect, Event, Flavor, Frame, HEADER_LEN, Header, event_type},
    sync::{
        batch::{Batch, Op, Segment},
        progress::Applied as Progress,
        schema::{ColumnInfo, Key, KeyPart, Table, TableName},
        table::TablePlan,
    },
};

/// A row: numbers, or NULL.
pub type Row = Vec<Option<i64>>;

/// A statement's rows: the table, what is done, and the images before and after of each.
pub(super) type Rows = (&'static str, Op, Vec<(Option<Row>, Option<Row>)>);

/// The tables that are there at the beginning, as a statement that creates them has them; all
/// columns are BIGINT. The keys of one are its first columns, those of the other one are none.
pub const TABLES: [(&str, &str); 2] = [
    (
        "keyed",
        "(`id` BIGINT NOT NULL, `u` BIGINT, `v` BIGINT, PRIMARY KEY (`id`), UNIQUE KEY (`u`))",
    ),
    ("keyless", "(`x` BIGINT, `y` BIGINT)"),
];

/// `MYSQL_TYPE_LONGLONG`.
const LONGLONG: u8 = 8;

/// A batch of rows of [`TABLES`].
pub(super) fn batch(schema: &str, slot: u32, seq: u64, applied: Progress, rows: &[Rows]) -> Batch {
    let segments: Vec<_> = rows.iter().map(|rows| segment(schema, rows)).collect();
    Batch {
        slot,
        seq,
        applied,
        rows: segments.iter().map(|it| it.rows.len() as u32).sum(),
        segments,
        bytes: 0,
        lenient: false,
        safe: false,
    }
}

/// # Panics
/// Where a case names a table that [`TABLES`] does not have, or what is built here is no event.
fn segment(schema: &str, (name, op, changes): &Rows) -> Segment {
    let table = table(schema, name);
    let mut decoder = Decoder::new(Flavor::Mysql);
    let body = table_map(&table);
    let Event::TableMap(map) = decode(&mut decoder, event_type::TABLE_MAP, body) else {
        panic!("a table map is one");
    };
    let rows = changes.iter().map(|(before, after)| {
        let images: Vec<&Row> = before.iter().chain(after).collect();
        let kind = match (before, after) {
            (Some(_), Some(_)) => event_type::UPDATE_ROWS,
            (Some(_), None) => event_type::DELETE_ROWS,
            _ => event_type::WRITE_ROWS,
        };
        let Event::Rows(event) = decode(&mut decoder, kind, rows_body(&images)) else {
            panic!("a rows event is one");
        };
        let first = event.rows().next();
        first.expect("it has a row").expect("the row is whole")
    });
    Segment {
        op: *op,
        rows: rows.collect(),
        table: Arc::new(
            TablePlan::new(&map, &table, Dialect::MySql).expect("columns are the same"),
        ),
    }
}

fn table(schema: &str, name: &str) -> Table {
    let (columns, keys): (&[&str], &[usize]) = match name {
        "keyed" => (&["id", "u", "v"], &[0, 1]),
        "keyless" => (&["x", "y"], &[]),
        _ => panic!("there is no table {name}"),
    };
    let column = |(index, name): (usize, &&str)| ColumnInfo {
        name: (*name).to_owned(),
        type_name: "bigint".to_owned(),
        column_type: "bigint".to_owned(),
        nullable: keys.first() != Some(&index),
        ..ColumnInfo::default()
    };
    let key = |&index: &usize| Key {
        name: if index == 0 { "PRIMARY" } else { "u" }.to_owned(),
        primary: index == 0,
        unique: true,
        unordered: false,
        parts: vec![KeyPart {
            column: Some(index),
            prefix: None,
        }],
    };
    Table {
        name: TableName::new(schema, name),
        columns: columns.iter().enumerate().map(column).collect(),
        keys: keys.iter().map(key).collect(),
    }
}

fn decode(decoder: &mut Decoder, kind: u8, body: Vec<u8>) -> Event {
    let header = Header {
        timestamp: 0,
        event_type: kind,
        server_id: 1,
        event_size: (body.len() + HEADER_LEN) as u32,
        log_pos: 0,
        flags: 0,
    };
    let body = body.into();
    let event = decoder.event(&Frame { header, body });
    event.expect("what is built here is an event")
}

fn table_map(table: &Table) -> Vec<u8> {
    let TableName {
        schema,
        table: name,
    } = &table.name;
    let count = table.columns.len();
    let mut body = vec![1, 0, 0, 0, 0, 0, 1, 0];
    for name in [schema, name] {
        body.push(name.len() as u8);
        body.extend_from_slice(name.as_bytes());
        body.push(0);
    }
    body.push(count as u8);
    body.resize(body.len() + count, LONGLONG);
    // No metadata; and any of the few columns may be NULL.
    body.extend([0, 0xff]);
    body
}

fn rows_body(images: &[&Row]) -> Vec<u8> {
    let columns = images.first().map_or(0, |row| row.len());
    let mut body = vec![1, 0, 0, 0, 0, 0, 1, 0, 2, 0, columns as u8];
    // All columns are in each image.
    body.resize(body.len() + images.len(), 0xff);
    for row in images {
        let nulls = row.iter().enumerate();
        let nulls = nulls.map(|(index, value)| u8::from(value.is_none()) << index);
        body.push(nulls.sum());
        body.extend(row.iter().flatten().flat_map(|value| value.to_le_bytes()));
    }
    body
}
