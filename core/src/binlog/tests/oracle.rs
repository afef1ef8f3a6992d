//! Comparison with `mysql_common`, which is wrong itself in negative MEDIUMINT, the year 0000 and
//! fractions of negative times, and does not know the binlog of MariaDB.

use std::{collections::BTreeMap, format, string::String, vec::Vec};

use mysql_common::{
    Value,
    binlog::{
        EventStreamReader,
        consts::BinlogVersion,
        events::{EventData, RowsEventData, TableMapEvent},
        row::BinlogRow,
        value::BinlogValue,
    },
};

use super::*;

/// The rows of a file as `mysql_common` sees them.
fn theirs(sample: &Sample) -> Vec<[Option<BinlogRow>; 2]> {
    let mut reader = EventStreamReader::new(BinlogVersion::Version4);
    let mut maps = BTreeMap::new();
    let mut rows = Vec::new();
    let mut data = &sample.bytes[4..];
    while let Some(event) = reader.read(&mut data).unwrap() {
        collect(event.read_data().unwrap(), &mut maps, &mut rows);
        if let Some(EventData::TransactionPayloadEvent(payload)) = event.read_data().unwrap() {
            let plain = payload.danger_decompress();
            let mut plain = &plain[..];
            while let Some(event) = reader.read_decompressed(&mut plain).unwrap() {
                collect(event.read_data().unwrap(), &mut maps, &mut rows);
            }
        }
    }
    rows
}

fn collect(
    data: Option<EventData<'_>>,
    maps: &mut BTreeMap<u64, TableMapEvent<'static>>,
    rows: &mut Vec<[Option<BinlogRow>; 2]>,
) {
    match data {
        Some(EventData::TableMapEvent(map)) => {
            maps.insert(map.table_id(), map.into_owned());
        }
        Some(EventData::RowsEvent(RowsEventData::PartialUpdateRowsEvent(_))) => {}
        // Panics on fractions of negative times.
        Some(EventData::RowsEvent(event)) if maps[&event.table_id()].table_name() == "times" => {}
        Some(EventData::RowsEvent(event)) => {
            for row in event.rows(&maps[&event.table_id()]) {
                let (before, after) = row.unwrap();
                rows.push([before, after]);
            }
        }
        _ => {}
    }
}

/// A value as `mysql_common` sees it, in the form of a literal without quotes.
fn their_text(column: &Column, value: &BinlogValue<'_>) -> String {
    let fsp = match column.kind {
        ColumnKind::Time { fsp } | ColumnKind::DateTime { fsp } => usize::from(fsp),
        _ => 0,
    };
    let fraction = |micros: u32| match fsp {
        0 => String::new(),
        _ => format!(".{:.fsp$}", format!("{micros:06}")),
    };
    match value {
        BinlogValue::Value(Value::Int(number)) => format!("{number}"),
        BinlogValue::Value(Value::UInt(number)) => format!("{number}"),
        BinlogValue::Value(Value::Float(number)) => format!("{:e}", f64::from(*number)),
        BinlogValue::Value(Value::Double(number)) => format!("{number:e}"),
        BinlogValue::Value(Value::Date(y, mo, d, h, mi, s, us)) => match column.kind {
            ColumnKind::Date => format!("{y:04}-{mo:02}-{d:02}"),
            _ => format!(
                "{y:04}-{mo:02}-{d:02} {h:02}:{mi:02}:{s:02}{}",
                fraction(*us)
            ),
        },
        BinlogValue::Value(Value::Time(negative, d, h, mi, s, us)) => {
            let sign = if *negative { "-" } else { "" };
            let hours = d * 24 + u32::from(*h);
            format!("{sign}{hours:02}:{mi:02}:{s:02}{}", fraction(*us))
        }
        BinlogValue::Value(Value::Bytes(bytes)) => String::from_utf8_lossy(bytes).into_owned(),
        other => format!("{other:?}"),
    }
}

fn our_literal(column: &Column, raw: &[u8]) -> String {
    let mut out = Vec::new();
    write_literal(&mut out, column, &ColumnHint::default(), raw).unwrap();
    let text = String::from_utf8_lossy(&out).into_owned();
    text.trim_matches('\'').into()
}

fn assert_same(column: &Column, raw: &[u8], theirs: &BinlogValue<'_>) {
    let bytes = match theirs {
        BinlogValue::Value(Value::Bytes(bytes)) => &bytes[..],
        _ => &[],
    };
    let value = column.kind.value(raw).unwrap();
    match column.kind {
        ColumnKind::Int24 if value[2] & 0x80 != 0 && column.unsigned == Some(false) => {}
        // Its signedness goes wrong behind it.
        ColumnKind::LongLong if value[7] & 0x80 != 0 => {}
        ColumnKind::Year if value == [0] => {}
        ColumnKind::Fixed { .. }
        | ColumnKind::Var { .. }
        | ColumnKind::Blob { .. }
        | ColumnKind::Geometry { .. }
        | ColumnKind::Vector { .. }
        | ColumnKind::Bit { .. }
        | ColumnKind::Set { .. } => assert_eq!(value, bytes),
        ColumnKind::Timestamp { fsp } => {
            let micros = value[4..]
                .iter()
                .fold(0, |sum, byte| sum << 8 | u64::from(*byte))
                * 100u64.pow(3 - u32::from(fsp.div_ceil(2)));
            let seconds = u32::from_be_bytes(value[..4].try_into().unwrap());
            let text = match micros {
                0 => format!("{seconds}"),
                _ => format!("{seconds}.{micros:06}"),
            };
            assert_eq!(text, their_text(column, theirs));
        }
        ColumnKind::Json { .. } => assert_same_json(column, raw, theirs),
        ColumnKind::Decimal { .. } => {
            let (ours, theirs) = (our_literal(column, raw), their_text(column, theirs));
            assert_eq!(
                ours.trim_start_matches("-0."),
                theirs.trim_start_matches("-0.")
            );
        }
        _ => assert_eq!(
            our_literal(column, raw),
            their_text(column, theirs),
            "{column:?}"
        ),
    }
}

fn assert_same_json(column: &Column, raw: &[u8], theirs: &BinlogValue<'_>) {
    let BinlogValue::Jsonb(theirs) = theirs else {
        panic!("{theirs:?}");
    };
    // SQL values inside of documents have no JSON counterpart there.
    let Ok(theirs) = serde_json::Value::try_from(theirs.clone()) else {
        return;
    };
    let mut out = Vec::new();
    write_literal(&mut out, column, &ColumnHint::default(), raw).unwrap();
    let text = String::from_utf8(out).unwrap();
    let text = text
        .trim_matches('\'')
        .replace("\\\\", "\\")
        .replace("\\'", "'");
    let ours: serde_json::Value = serde_json::from_str(&text).unwrap();
    assert_eq!(ours, theirs, "{text}");
}

#[test]
fn mysql_common_sees_the_same() {
    let mut values = 0;
    for sample in [MYSQL_SAMPLE, MYSQL_TYPES, MYSQL_SESSION] {
        let ours = sample.rows();
        let ours = ours
            .iter()
            .filter(|(event, _)| event.table.table != "times")
            .flat_map(|(event, rows)| rows.iter().map(move |row| (event, row)));
        let theirs = theirs(&sample);
        assert_eq!(ours.clone().count(), theirs.len());
        for ((event, change), theirs) in ours.zip(&theirs) {
            for (image, theirs) in [&change.before, &change.after].into_iter().zip(theirs) {
                let (Some(image), Some(theirs)) = (image, theirs) else {
                    assert_eq!(image.is_some(), theirs.is_some());
                    continue;
                };
                let present = (0..image.columns()).filter(|index| image.is_present(*index));
                for (nth, index) in present.enumerate() {
                    let column = &event.table.columns[index];
                    match (image.column(index), theirs.as_ref(nth).unwrap()) {
                        (Some(raw), theirs) => assert_same(column, raw, theirs),
                        (None, theirs) => {
                            assert!(matches!(theirs, BinlogValue::Value(Value::NULL)));
                        }
                    }
                    values += 1;
                }
            }
        }
    }
    assert!(values > 500, "{values}");
}
