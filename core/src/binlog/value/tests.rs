use alloc::{format, string::String, vec, vec::Vec};

use proptest::prelude::*;

use super::*;

fn column(kind: ColumnKind) -> Column {
    Column::new(kind)
}

fn with_collation(kind: ColumnKind, id: u16) -> Column {
    Column {
        collation: Some(id),
        ..column(kind)
    }
}

fn literal_of(column: &Column, hint: &ColumnHint, raw: &[u8]) -> Result<String> {
    let mut out = Vec::new();
    write_literal(&mut out, column, hint, raw)?;
    Ok(String::from_utf8_lossy(&out).into_owned())
}

fn literal(kind: ColumnKind, raw: &[u8]) -> String {
    literal_of(&column(kind), &ColumnHint::default(), raw).unwrap()
}

const VAR: ColumnKind = ColumnKind::Var { bytes_max: 255 };

fn var(bytes: &[u8]) -> Vec<u8> {
    [&[bytes.len() as u8], bytes].concat()
}

#[test]
fn integers_of_every_width_and_sign() {
    assert_eq!(literal(ColumnKind::Tiny, &[0x80]), "-128");
    assert_eq!(literal(ColumnKind::Short, &[0xff, 0x7f]), "32767");
    assert_eq!(literal(ColumnKind::Int24, &[0, 0, 0x80]), "-8388608");
    assert_eq!(literal(ColumnKind::Int24, &[0xff; 3]), "-1");
    assert_eq!(literal(ColumnKind::Long, &[0; 4]), "0");
    let least = i64::MIN.to_le_bytes();
    assert_eq!(
        literal(ColumnKind::LongLong, &least),
        "-9223372036854775808"
    );
    let hint = ColumnHint {
        unsigned: true,
        ..ColumnHint::default()
    };
    let text = |kind, raw: &[u8]| literal_of(&column(kind), &hint, raw).unwrap();
    assert_eq!(text(ColumnKind::Int24, &[0xff; 3]), "16777215");
    assert_eq!(
        text(ColumnKind::LongLong, &[0xff; 8]),
        "18446744073709551615"
    );
    // What the map says counts more.
    let mut signed = column(ColumnKind::Tiny);
    signed.unsigned = Some(false);
    assert_eq!(literal_of(&signed, &hint, &[0xff]).unwrap(), "-1");
}

#[test]
fn floats_are_exact_doubles() {
    assert_eq!(
        literal(ColumnKind::Float, &1.2f32.to_le_bytes()),
        "1.2000000476837158e0"
    );
    assert_eq!(literal(ColumnKind::Double, &0.1f64.to_le_bytes()), "1e-1");
    assert_eq!(
        literal(ColumnKind::Double, &(-0.0f64).to_le_bytes()),
        "-0e0"
    );
    let nan = f64::NAN.to_le_bytes();
    assert!(literal_of(&column(ColumnKind::Double), &ColumnHint::default(), &nan).is_err());
}

#[test]
fn years_bits_and_sets() {
    assert_eq!(literal(ColumnKind::Year, &[0]), "0");
    assert_eq!(literal(ColumnKind::Year, &[1]), "1901");
    assert_eq!(literal(ColumnKind::Year, &[255]), "2155");
    assert_eq!(literal(ColumnKind::Bit { bits: 9 }, &[1, 2]), "258");
    assert_eq!(literal(ColumnKind::Set { bytes: 2 }, &[1, 2]), "513");
    let enumeration = column(ColumnKind::Enum { bytes: 1 });
    assert!(is_invalid_enum(&enumeration, &[0]) && !is_invalid_enum(&enumeration, &[1]));
    assert!(!is_invalid_enum(&column(ColumnKind::Tiny), &[0]));
}

#[test]
fn text_and_bytes() {
    let hint = ColumnHint::default();
    let text = |id, bytes: &[u8]| literal_of(&with_collation(VAR, id), &hint, &var(bytes)).unwrap();
    assert_eq!(text(45, b"it's \\ \0 \n"), "'it\\'s \\\\ \\0 \n'");
    assert_eq!(text(45, "0123456\\'é'".as_bytes()), "'0123456\\\\\\'é\\''");
    assert_eq!(text(63, b"a'\0"), "_binary'a\\'\\0'");
    assert_eq!(text(8, b"\xe9\x80\x81'"), "'é€\u{81}\\''");
    assert_eq!(text(28, b"\x81\x5c"), "_gbk 0x815c");
    assert_eq!(text(28, b"plain"), "'plain'");
    assert_eq!(text(54, b"\0a"), "_utf16 0x0061");
    assert_eq!(text(54, b""), "''");
    // Not utf8mb4, whatever the column says.
    assert_eq!(text(45, b"\x80").as_bytes(), "_binary'\u{fffd}'".as_bytes());
    let tidb = ColumnHint {
        dialect: Dialect::TiDb,
        ..ColumnHint::default()
    };
    let text = |id, bytes: &[u8]| literal_of(&with_collation(VAR, id), &tidb, &var(bytes));
    assert_eq!(text(8, b"\xe9").unwrap(), "'é'");
    assert!(text(28, b"\x81\x5c").unwrap().starts_with("_binary'"));
    assert!(matches!(
        text(13, b"\x95\x5c"),
        Err(BinlogError::Unsupported(_))
    ));
}

#[test]
fn binary_columns_are_filled_up() {
    let source = with_collation(ColumnKind::Fixed { bytes_max: 3 }, 63);
    let hint = |len| ColumnHint {
        binary_len: len,
        ..ColumnHint::default()
    };
    assert_eq!(
        literal_of(&source, &hint(None), b"\x01a").unwrap(),
        "_binary'a\\0\\0'"
    );
    assert_eq!(
        literal_of(&source, &hint(Some(4)), b"\x01a").unwrap(),
        "_binary'a\\0\\0\\0'"
    );
    // VARBINARY is not.
    assert_eq!(
        literal_of(&with_collation(VAR, 63), &hint(None), b"\x01a").unwrap(),
        "_binary'a'"
    );
}

#[test]
fn hints_come_from_the_schema() {
    let hint = ColumnHint::new(Dialect::TiDb, "binary", true, None, None, Some(16));
    assert_eq!((hint.charset, hint.binary_len), (Charset::Binary, Some(16)));
    assert_eq!((hint.fold, hint.unsigned), (KeyFold::Bytes, true));
    let collation = Some("utf8mb4_bin");
    let hint = ColumnHint::new(
        Dialect::MySql,
        "char",
        false,
        Some("utf8mb4"),
        collation,
        Some(9),
    );
    assert_eq!((hint.charset, hint.binary_len), (Charset::Utf8, None));
    assert_eq!(hint.fold, KeyFold::Trimmed);
    let json = ColumnHint::new(Dialect::MySql, "json", false, None, None, None);
    assert_eq!((json.form, json.charset), (Form::Json, Charset::Utf8));
}

#[test]
fn conditions_of_types_that_do_not_compare() {
    let condition = |dialect, form, kind, raw: &[u8]| {
        let hint = ColumnHint {
            dialect,
            form,
            ..ColumnHint::default()
        };
        let mut out = Vec::new();
        write_condition(&mut out, "`c`", &column(kind), &hint, raw).unwrap();
        String::from_utf8_lossy(&out).into_owned()
    };
    let json = ColumnKind::Json { len_bytes: 4 };
    let null = [2, 0, 0, 0, 4, 0];
    assert_eq!(
        condition(Dialect::MySql, Form::Json, json, &null),
        "`c`=CAST('null' AS JSON)"
    );
    assert_eq!(
        condition(Dialect::MariaDb, Form::Json, json, &null),
        "`c`='null'"
    );
    let set = ColumnKind::Set { bytes: 8 };
    assert_eq!(
        condition(Dialect::MySql, Form::Plain, set, &[1, 0, 0, 0, 0, 0, 0, 0]),
        "`c`=1"
    );
    let high = [1, 0, 0, 0, 0, 0, 0, 0x80];
    assert_eq!(
        condition(Dialect::MySql, Form::Plain, set, &high),
        "(`c`|0)=9223372036854775809"
    );
    let vector = ColumnKind::Vector { len_bytes: 4 };
    let packed = [&4u32.to_le_bytes()[..], &2.5f32.to_le_bytes()].concat();
    assert!(condition(Dialect::MySql, Form::Vector, vector, &packed).starts_with("HEX(`c`)=HEX(_"));
    assert_eq!(
        condition(Dialect::TiDb, Form::Vector, vector, &packed),
        "`c`='[2.5e0]'"
    );
}

/// A large array (offsets of four bytes), which only documents above 64 KiB need.
#[test]
fn large_json_containers() {
    let mut value = vec![3, 2, 0, 0, 0, 27, 0, 0, 0, 7];
    value.extend_from_slice(&(-70000i32).to_le_bytes());
    value.extend_from_slice(&[12, 18, 0, 0, 0]);
    value.extend_from_slice(b"\x08it's \"q\"");
    let mut raw = Vec::from((value.len() as u16).to_le_bytes());
    raw.extend_from_slice(&value);
    let json = ColumnKind::Json { len_bytes: 2 };
    assert_eq!(literal(json, &raw), "'[-70000, \"it\\'s \\\\\"q\\\\\"\"]'");
}

/// MySQL prints bytes in a document as base64, which would come back as a string.
#[test]
fn bytes_in_json_stay_bytes() {
    let literal = |dialect, field_type: u8| {
        let value = [2, 1, 0, 12, 0, 15, 7, 0, field_type, 3, 0, b'\'', 0xff];
        let mut raw = Vec::from((value.len() as u16).to_le_bytes());
        // An array with one value, which its entry points to.
        raw.extend_from_slice(&value);
        let hint = ColumnHint {
            dialect,
            ..ColumnHint::default()
        };
        literal_of(&column(ColumnKind::Json { len_bytes: 2 }), &hint, &raw)
    };
    for field_type in [15, 249, 252, 254] {
        assert_eq!(
            literal(Dialect::MySql, field_type).unwrap(),
            "CAST(JSON_ARRAY(CAST(_binary'\\0\\'\u{fffd}' AS BINARY)) AS JSON)"
        );
        let text = format!("'[\"base64:type{field_type}:ACf/\"]'");
        assert_eq!(literal(Dialect::MariaDb, field_type).unwrap(), text);
    }
    assert!(literal(Dialect::MySql, 16).is_err());
    assert!(literal(Dialect::TiDb, 16).is_ok());
}

/// Each level has two entries that point to the same next one: 2^30 values in some hundred bytes.
#[test]
fn json_cannot_explode() {
    let mut value: Vec<u8> = vec![4, 1];
    let mut kind = 4;
    for _ in 0..30 {
        let child = value;
        let size = 4 + 2 * 3 + child.len() as u16;
        value = vec![2, 0];
        value.extend_from_slice(&size.to_le_bytes());
        for _ in 0..2 {
            // A literal is kept in its entry, so the innermost is a string instead.
            value.extend_from_slice(&[if kind == 4 { 12 } else { kind }, 10, 0]);
        }
        value.extend_from_slice(&child);
        kind = 2;
    }
    let document = [&[2], &value[..]].concat();
    let mut raw = Vec::from((document.len() as u16).to_le_bytes());
    raw.extend_from_slice(&document);
    let json = column(ColumnKind::Json { len_bytes: 2 });
    assert!(literal_of(&json, &ColumnHint::default(), &raw).is_err());
}

#[test]
fn charsets_have_names_and_numbers() {
    assert_eq!(Charset::from_collation_id(255), Some(Charset::Utf8));
    assert_eq!(Charset::from_collation_id(1032), Some(Charset::Latin1));
    assert_eq!(Charset::from_collation_id(2304), Some(Charset::Utf8));
    assert_eq!(
        Charset::from_collation_id(2816),
        Some(Charset::Wide("utf16"))
    );
    assert_eq!(Charset::from_collation_id(9999), None);
    let numbered = mysql_common_collations();
    assert!(numbered.len() > 280);
    for (id, charset) in numbered {
        assert_eq!(
            Charset::from_collation_id(id),
            Charset::from_name(&charset),
            "{id} {charset}"
        );
    }
}

/// Numbers and charsets of all collations that `mysql_common` knows.
fn mysql_common_collations() -> Vec<(u16, String)> {
    use mysql_common::collations::{Collation, CollationId};
    (1..=323)
        .filter_map(|id| {
            let id_known = CollationId::from(id);
            let collation = Collation::from(id_known);
            let known = collation.id() as u16 == id;
            known.then(|| (id, String::from(collation.charset())))
        })
        .collect()
}

proptest! {
    #[test]
    fn numbers_are_printed_as_rust_does(value: u64, shift in 0u32..64) {
        let value = value >> shift;
        let mut out = Vec::new();
        number::write_u64(&mut out, value);
        prop_assert_eq!(String::from_utf8(out).unwrap(), format!("{value}"));
    }

    #[test]
    fn escapes_can_be_undone(bytes in prop::collection::vec(prop::sample::select(vec![
        0, b'\'', b'\\', b'0', b'a', 0x80, 0xff, 0x26, 0x5b, 1,
    ]), 0..40)) {
        let mut out = Vec::new();
        write_quoted(&mut out, &bytes);
        let mut plain = Vec::new();
        let mut rest = out[1..out.len() - 1].iter();
        while let Some(byte) = rest.next() {
            plain.push(match byte {
                b'\\' => match rest.next().unwrap() {
                    b'0' => 0,
                    other => *other,
                },
                b'\'' => panic!("a quote that is not escaped"),
                other => *other,
            });
        }
        prop_assert_eq!(plain, bytes);
    }
}
