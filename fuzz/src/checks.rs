//! What is certain of everything that was accepted.

use dm_core::binlog::{
    Column, ColumnHint, ColumnKind, Dialect, Event, Form, Gtid, GtidSet, MysqlGtidSet, RowImage,
    RowsEvent, RowsKind, write_condition, write_key, write_literal,
};
use serde_json::value::RawValue;

use crate::sql;

/// Reads all that an event says.
pub(crate) fn event(event: &Event, hint: &ColumnHint) {
    match event {
        Event::Rows(event) => rows(event, hint),
        Event::Gtid { gtid, .. } | Event::MariadbGtid { gtid, .. } => self::gtid(gtid),
        Event::PreviousGtids(set) | Event::MariadbGtidList(set) => gtids(set),
        Event::Query(query) => {
            let text = query.text();
            assert!(text.is_none_or(|text| text.len() <= 3 * query.sql.len()));
        }
        _ => {}
    }
}

/// What is compressed may have any number of rows; more of them say nothing new.
const ROWS_LEN_MAX: usize = 64 << 10;
/// Nor do more columns.
const COLUMNS_MAX: usize = 1 << 16;

/// Every row is there, in the images that its kind has, and every value is a literal or refused.
pub(crate) fn rows(event: &RowsEvent, hint: &ColumnHint) {
    if event.rows_len() > ROWS_LEN_MAX {
        return;
    }
    let mut count = 0;
    let mut columns = 0;
    let mut out = Vec::new();
    for change in event.rows() {
        count += 1;
        let Ok(change) = change else {
            continue;
        };
        let images = (change.before.is_some(), change.after.is_some());
        let expected = match event.kind {
            RowsKind::Insert => (false, true),
            RowsKind::Update => (true, true),
            RowsKind::Delete => (true, false),
        };
        assert_eq!(images, expected);
        for image in [change.before, change.after].iter().flatten() {
            columns += image.columns();
            if columns > COLUMNS_MAX {
                break;
            }
            self::image(event, image, hint, &mut out);
        }
    }
    assert_eq!(count, event.count());
    assert!(count <= event.rows_len() as u64);
}

fn image(event: &RowsEvent, image: &RowImage, hint: &ColumnHint, out: &mut Vec<u8>) {
    let columns = &event.table.columns;
    assert_eq!(image.columns(), columns.len());
    assert!(image.len() <= event.rows_len() && image.memory() >= image.len());
    let mut bytes = 0;
    for (index, column) in columns.iter().enumerate() {
        let Some(raw) = image.column(index) else {
            continue;
        };
        assert!(image.is_present(index));
        bytes += raw.len();
        value(column, hint, raw, out);
    }
    assert_eq!(bytes, image.len());
    assert_eq!(image.column(columns.len()), None);
}

/// A value is one literal, of a length that its bytes and its type justify.
pub(crate) fn value(column: &Column, hint: &ColumnHint, raw: &[u8], out: &mut Vec<u8>) {
    // BINARY(n) is filled up with zeros.
    let padding = match column.kind {
        ColumnKind::Fixed { bytes_max } => 2 * usize::from(bytes_max),
        _ => 0,
    };
    let justified = 200 + padding + 32 * raw.len();
    out.clear();
    let literal = write_literal(out, column, hint, raw);
    if literal.is_ok() {
        sql::assert_closed(out);
        assert!(out.len() <= justified, "{} bytes of a literal", out.len());
        let is_vector = hint.form == Form::Vector && hint.dialect == Dialect::TiDb;
        if matches!(column.kind, ColumnKind::Json { .. }) && !is_vector {
            document(out);
        }
    }
    out.clear();
    let condition = write_condition(out, "`c`", column, hint, raw);
    assert_eq!(literal, condition);
    if condition.is_ok() {
        sql::assert_closed(out);
    }
    for prefix in [None, Some(0), Some(3)] {
        out.clear();
        write_key(out, column, hint, raw, prefix);
        assert!(out.len() <= justified, "{} bytes of a key", out.len());
    }
}

/// The literal of a JSON document, if it is not an expression, holds JSON.
fn document(literal: &[u8]) {
    let Some(text) = sql::unquoted(literal) else {
        return;
    };
    // Strings are not looked into: what is not UTF-8 there is the target's to refuse.
    let Ok(text) = str::from_utf8(&text) else {
        return;
    };
    let json = serde_json::from_str::<&RawValue>(text);
    assert!(json.is_ok(), "{json:?}: {text}");
}

/// A transaction's identity has a text of its own.
pub(crate) fn gtid(gtid: &Gtid) {
    let text = gtid.to_string();
    assert_eq!(text.parse().as_ref(), Ok(gtid), "{text}");
}

/// A set has one text, and one binary form on MySQL.
pub(crate) fn gtids(set: &GtidSet) {
    let text = set.to_text();
    assert_eq!(
        GtidSet::parse(set.flavor(), &text).as_ref(),
        Ok(set),
        "{text}"
    );
    assert_eq!(set.is_empty(), text.is_empty());
    assert!(set.contains(set) && set.covers(set));
    assert!(set.contains(&GtidSet::empty(set.flavor())));
    if let GtidSet::Mysql(set) = set {
        assert_eq!(MysqlGtidSet::decode(&set.encode()).as_ref(), Ok(set));
        for (source, intervals) in set.iter() {
            assert!(!intervals.is_empty());
            for (first, last) in intervals.as_slice() {
                for number in [*first, *last] {
                    assert!(set.contains_txn(&source.sid, &source.tag, number));
                }
            }
        }
    }
}
