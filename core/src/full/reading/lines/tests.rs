use alloc::{borrow::ToOwned, boxed::Box, string::ToString, vec};

use proptest::prelude::*;

use super::*;
use crate::sync::schema::TableName;

fn column(name: &str, type_name: &str, charset: Option<&str>) -> ColumnInfo {
    ColumnInfo {
        name: name.to_owned(),
        type_name: type_name.to_owned(),
        column_type: match type_name {
            "enum" => "enum('','a')".to_owned(),
            other => other.to_owned(),
        },
        charset: charset.map(str::to_owned),
        nullable: true,
        ..ColumnInfo::default()
    }
}

fn table(columns: &[ColumnInfo]) -> Table {
    Table {
        name: TableName::new("d", "t"),
        columns: columns.to_vec(),
        keys: Vec::new(),
    }
}

/// Reads lines as the manual says that servers do.
fn read(lines: &[u8]) -> Vec<Vec<Option<Vec<u8>>>> {
    let mut rows = Vec::new();
    let (mut row, mut field, mut bytes) = (Vec::new(), Some(Vec::new()), lines.iter().copied());
    while let Some(byte) = bytes.next() {
        match byte {
            b'\\' => {
                let byte = match bytes.next().unwrap() {
                    b'0' => 0,
                    b'b' => 8,
                    b'n' => b'\n',
                    b'r' => b'\r',
                    b't' => b'\t',
                    b'Z' => 26,
                    b'N' => {
                        assert_eq!(field, Some(Vec::new()));
                        field = None;
                        continue;
                    }
                    other => other,
                };
                field.as_mut().unwrap().push(byte);
            }
            b'\t' => row.push(field.replace(Vec::new())),
            b'\n' => {
                row.push(field.replace(Vec::new()));
                rows.push(core::mem::take(&mut row));
            }
            other => field.as_mut().unwrap().push(other),
        }
    }
    assert!(row.is_empty() && field == Some(Vec::new()));
    rows
}

fn values(row: &[Option<Vec<u8>>]) -> impl Iterator<Item = Value<'_>> {
    row.iter().map(Option::as_deref)
}

fn field() -> impl Strategy<Value = Option<Vec<u8>>> {
    let byte = prop_oneof![
        Just(b'\\'),
        Just(b'\t'),
        Just(b'\n'),
        Just(b'N'),
        Just(0),
        any::<u8>()
    ];
    prop::option::of(prop::collection::vec(byte, 0..12))
}

proptest! {
    #[test]
    fn what_is_written_is_read(
        rows in prop::collection::vec(prop::collection::vec(field(), 2), 0..5)
    ) {
        let columns = [column("a", "blob", None), column("b", "blob", None)];
        let table = table(&columns);
        let lines = Lines::new(&table, &table, true).unwrap();
        let (mut written, mut direct) = (Vec::new(), lines.insert.clone().into_bytes());
        for (index, row) in rows.iter().enumerate() {
            assert!(lines.write(values(row), &mut written));
            if index > 0 {
                direct.push(b',');
            }
            assert!(lines.reading.write(values(row), &mut direct));
        }
        assert_eq!(read(&written), rows);
        let mut again = Vec::new();
        assert_eq!(lines.statement(&written, usize::MAX, &mut again), Some(&b""[..]));
        assert_eq!(again, direct);
    }
}

/// What a statement makes of a row may be many times as large.
#[test]
fn lines_become_statements_of_a_limited_size() {
    let table = table(&[column("a", "varchar", Some("greek"))]);
    let lines = Lines::new(&table, &table, false).unwrap();
    let rows = b"\n".repeat(100);
    let (mut left, mut parts) = (&rows[..], Vec::new());
    while !left.is_empty() {
        let mut sql = b"BEGIN;".to_vec();
        left = lines.statement(left, 200, &mut sql).unwrap();
        assert!(sql.starts_with(b"BEGIN;INSERT INTO") && sql.len() < 220);
        parts.push(sql.iter().filter(|byte| **byte == b'(').count() - 1);
    }
    assert!(parts.len() > 5);
    assert_eq!(parts.iter().sum::<usize>(), 100);
}

#[test]
fn rows_and_lines_that_are_not_whole_are_noticed() {
    let table = table(&[column("a", "int", None), column("b", "int", None)]);
    let lines = Lines::new(&table, &table, false).unwrap();
    for row in [1, 3] {
        let row = vec![None; row];
        assert!(!lines.write(row.into_iter(), &mut Vec::new()));
    }
    for text in [
        "1\t2",
        "1\n",
        "1\t2\t3\n",
        "1\t\\",
        "1\t\\Nx\n",
        "1\t\\x\n",
        "\\N",
    ] {
        assert_eq!(
            lines.statement(text.as_bytes(), 999, &mut Vec::new()),
            None,
            "{text}"
        );
    }
    let mut sql = Vec::new();
    assert_eq!(lines.statement(b"1\t\\N\n", 999, &mut sql), Some(&b""[..]));
    assert_eq!(sql, b"INSERT INTO `d`.`t` (`a`,`b`) VALUES\n(1,NULL)");
}

#[test]
fn servers_are_told_what_a_field_is() {
    let source = table(&[
        column("id", "int", None),
        column("j", "json", None),
        column("e`", "enum", Some("utf8mb4")),
    ]);
    let lines = |replaces| Lines::new(&source, &source, replaces).unwrap();
    let fields = " INTO TABLE `d`.`t` CHARACTER SET binary FIELDS TERMINATED BY '\\t' \
                  ENCLOSED BY '' ESCAPED BY '\\\\' LINES STARTING BY '' TERMINATED BY '\\n' \
                  (`id`,@dm1,@dm2) SET `j`=CONVERT(@dm1 USING utf8mb4),\
                  `e```=CAST(@dm2 AS UNSIGNED)";
    for (replaces, verb) in [(true, " REPLACE"), (false, "")] {
        let text = ["LOAD DATA LOCAL INFILE 'rows'", verb, fields].concat();
        assert_eq!(lines(replaces).load(), text);
    }
}

#[test]
fn other_columns_are_left_to_statements() {
    let ways: [(_, Option<&str>, _, Option<&str>, _); 21] = [
        ("int", None, "bigint", None, Some(Way::Bytes)),
        ("int", None, "decimal", None, None),
        ("int", None, "varchar", Some("utf8mb4"), None),
        ("decimal", None, "decimal", None, Some(Way::Bytes)),
        ("float", None, "double", None, None),
        ("date", None, "datetime", None, None),
        ("char", Some("gbk"), "text", Some("gbk"), Some(Way::Bytes)),
        ("char", Some("gbk"), "text", Some("utf8mb4"), None),
        (
            "char",
            Some("utf8"),
            "char",
            Some("utf8mb3"),
            Some(Way::Bytes),
        ),
        (
            "char",
            Some("utf8"),
            "char",
            Some("utf8mb4"),
            Some(Way::Bytes),
        ),
        ("char", Some("utf8mb4"), "char", Some("utf8mb3"), None),
        ("char", Some("latin1"), "char", Some("utf8mb4"), None),
        ("text", Some("utf8mb4"), "blob", None, None),
        ("text", Some("utf8mb4"), "json", None, Some(Way::Text)),
        ("text", Some("latin1"), "json", None, None),
        ("json", None, "longtext", Some("utf8mb4"), Some(Way::Bytes)),
        ("json", None, "longtext", Some("latin1"), None),
        ("uuid", None, "inet6", None, None),
        ("inet6", None, "inet6", None, Some(Way::Text)),
        (
            "geomcollection",
            None,
            "geometrycollection",
            None,
            Some(Way::Bytes),
        ),
        ("brand_new", None, "brand_new", None, None),
    ];
    for (from, from_charset, to, to_charset, expected) in ways {
        let (source, target) = (column("a", from, from_charset), column("a", to, to_charset));
        let found = way(&Column::new(&source), &source, &target);
        assert_eq!(
            found, expected,
            "{from} {from_charset:?} -> {to} {to_charset:?}"
        );
    }
}

#[test]
fn tables_must_have_what_lines_need() {
    let (a, b) = (column("a", "int", None), column("B", "int", None));
    let needed = ColumnInfo {
        nullable: false,
        ..column("c", "int", None)
    };
    let computed = ColumnInfo {
        generated: true,
        ..needed.clone()
    };
    let source = table(&[a.clone(), column("b", "int", None), computed.clone()]);
    type Columns = Box<[ColumnInfo]>;
    // Lines would bring the time of day in the place of NULL, if it is a TIMESTAMP.
    let strict = ColumnInfo {
        nullable: false,
        ..a.clone()
    };
    let cases: [(Columns, bool); 6] = [
        ([b.clone(), strict].into(), false),
        ([b.clone(), a.clone()].into(), true),
        ([b.clone()].into(), false),
        ([b.clone(), a.clone(), needed].into(), false),
        ([b.clone(), a.clone(), computed.clone()].into(), true),
        ([b, a, column("c", "int", None)].into(), true),
    ];
    for (columns, expected) in cases {
        let lines = Lines::new(&source, &table(&columns), true);
        assert_eq!(lines.is_some(), expected, "{columns:?}");
        if let Some(lines) = lines {
            assert!(lines.load().ends_with("(`a`,`b`)"), "{}", lines.load());
        }
    }
    let own = table(&[computed]);
    assert_eq!(Lines::new(&own, &own, true), None);
    assert_eq!(source.name.to_string(), "`d`.`t`");
}
