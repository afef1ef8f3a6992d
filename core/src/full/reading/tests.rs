use alloc::{string::ToString, vec};

use super::*;

fn column(name: &str, type_name: &str, charset: Option<&str>) -> ColumnInfo {
    ColumnInfo {
        name: name.into(),
        type_name: type_name.into(),
        charset: charset.map(Into::into),
        ..ColumnInfo::default()
    }
}

fn key(name: &str, columns: &[usize]) -> Key {
    let part = |column: &usize| KeyPart {
        column: Some(*column),
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

fn table(columns: Vec<ColumnInfo>, keys: Vec<Key>) -> Table {
    Table {
        name: TableName::new("d", "t"),
        columns,
        keys,
    }
}

fn values<'a>(values: &'a [Value<'a>]) -> impl Iterator<Item = Value<'a>> {
    values.iter().copied()
}

fn written(columns: Vec<ColumnInfo>, row: &[Value<'_>]) -> Option<String> {
    let mut statement = Vec::new();
    let reading = Reading::new(&table(columns, vec![]));
    let is_row = reading.write(values(row), &mut statement);
    is_row.then(|| String::from_utf8(statement).unwrap())
}

#[test]
fn a_simple_key_is_followed_from_value_to_value() {
    let reading = Reading::new(&table(
        vec![column("id", "int", None), column("f`", "float", None)],
        vec![key("PRIMARY", &[0])],
    ));
    assert_eq!(
        reading.rows(&Piece::default()),
        "SELECT `id`,`f```*1e0 FROM `d`.`t` FORCE INDEX (`PRIMARY`) ORDER BY `id`"
    );
    let piece = Piece {
        after: reading.key_of(values(&[Some(b"-7"), Some(b"0.5")])),
        upto: reading.key_of(values(&[Some(b"9"), None])),
    };
    assert_eq!(
        reading.rows(&piece),
        "SELECT `id`,`f```*1e0 FROM `d`.`t` FORCE INDEX (`PRIMARY`) \
         WHERE (`id`>-7) AND (`id`<=9) ORDER BY `id`"
    );
    assert_eq!(
        reading.ends(&piece)[1],
        "SELECT `id` FROM `d`.`t` FORCE INDEX (`PRIMARY`) WHERE (`id`>-7) AND (`id`<=9) \
         ORDER BY `id` DESC LIMIT 1"
    );
    assert_eq!(
        reading.insert("INSERT", "`t`"),
        "INSERT INTO `t` (`id`,`f```) VALUES\n"
    );
}

/// Servers find the range of an index in the first comparison.
#[test]
fn the_parts_of_a_key_are_compared_one_by_one() {
    let reading = Reading::new(&table(
        vec![
            column("b", "varchar", Some("latin1")),
            column("c", "datetime", None),
            column("a", "varbinary", None),
        ],
        vec![key("PRIMARY", &[2, 0, 1])],
    ));
    let at = [
        Some(&b"\xe9"[..]),
        Some(b"0000-00-00 00:00:00"),
        Some(b"\x00"),
    ];
    let piece = Piece {
        after: reading.key_of(values(&at)),
        upto: None,
    };
    assert_eq!(
        reading.rows(&piece),
        "SELECT `b`,`c`,`a` FROM `d`.`t` FORCE INDEX (`PRIMARY`) WHERE `a`>=x'00' AND ((`a`>x'00') \
         OR (`a`=x'00' AND `b`>_latin1 x'e9') \
         OR (`a`=x'00' AND `b`=_latin1 x'e9' AND `c`>'0000-00-00 00:00:00')) \
         ORDER BY `a`,`b`,`c`"
    );
    let piece = Piece {
        after: None,
        upto: piece.after,
    };
    assert!(reading.rows(&piece).contains(
        "WHERE `a`<=x'00' AND ((`a`<x'00') OR (`a`=x'00' AND `b`<_latin1 x'e9') \
         OR (`a`=x'00' AND `b`=_latin1 x'e9' AND `c`<='0000-00-00 00:00:00'))"
    ));
}

#[test]
fn a_key_is_chosen_that_names_rows_and_has_an_order() {
    let columns = || {
        let mut columns = vec![
            column("a", "int", None),
            column("e", "enum", Some("utf8mb4")),
            column("n", "int", None),
            column("g", "int", None),
            column("d", "double", None),
        ];
        columns[2].nullable = true;
        columns[3].generated = true;
        columns
    };
    let order = |keys: Vec<Key>| {
        let sql = Reading::new(&table(columns(), keys)).rows(&Piece::default());
        sql.split_once(" ORDER BY ")
            .map(|(_, order)| order.to_string())
    };
    assert_eq!(order(vec![]), None);
    for unusable in [1, 2, 3, 4] {
        assert_eq!(
            order(vec![key("PRIMARY", &[0, unusable])]),
            None,
            "{unusable}"
        );
    }
    let mut prefix = key("u", &[0]);
    prefix.parts[0].prefix = Some(3);
    assert_eq!(order(vec![prefix.clone()]), None);
    let other = key("v", &[0]);
    assert_eq!(
        order(vec![prefix, other, key("PRIMARY", &[1])]).as_deref(),
        Some("`a`")
    );
    let not_unique = Key {
        unique: false,
        ..key("i", &[0])
    };
    assert_eq!(order(vec![not_unique]), None);
}

#[test]
fn values_become_literals_that_make_the_same_value_anywhere() {
    for (type_name, charset, value, literal) in [
        (
            "bigint",
            None,
            &b"-9223372036854775808"[..],
            "-9223372036854775808",
        ),
        ("double", None, b"1e300", "1e300"),
        ("double", None, b"-1", "-1"),
        ("double", None, b"-0.5", "-0.5"),
        ("double", None, b"-0", "-0e0"),
        ("double", None, b"-0.00", "-0.00e0"),
        ("float", None, b"-0", "-0e0"),
        ("float", None, b"0", "0"),
        ("decimal", None, b"5.5000000000", "5.5000000000"),
        ("year", None, b"1999", "1999"),
        (
            "varchar",
            Some("utf8mb4"),
            "é\0\n\r\x1a\\'\"\t".as_bytes(),
            "'é\\0\n\r\x1a\\\\\\'\"\t'",
        ),
        ("enum", Some("ascii"), b"y'z", r"'y\'z'"),
        ("text", Some("gbk"), b"\x81\x5c", r"_gbk x'815c'"),
        ("json", None, br#"{"a": "b\n"}"#, r#"'{"a": "b\\n"}'"#),
        (
            "timestamp",
            None,
            b"2026-01-01 00:00:00.12",
            "'2026-01-01 00:00:00.12'",
        ),
        ("bit", None, b"\x00\x15", "x'0015'"),
        ("longblob", None, b"", "_binary''"),
        ("binary", None, b"a\0'", r"_binary'a\0\''"),
        ("geometry", None, b"\x00", "x'00'"),
    ] {
        let columns = vec![column("a", type_name, charset)];
        let row = written(columns, &[Some(value)]).unwrap();
        assert_eq!(row, format!("({literal})"), "{type_name}");
    }
}

/// As the existing dumper writes them, in a session without a character set.
#[test]
fn values_in_files_are_as_they_are_stored() {
    for (type_name, charset, value, literal) in [
        ("int", None, &b"-7"[..], "-7"),
        ("double", None, b"-0", "-0e0"),
        (
            "varchar",
            Some("utf8mb4"),
            "é\0\n\r\x1a\\'\"\t".as_bytes(),
            r#"'é\0\n\r\Z\\\'\"	'"#,
        ),
        ("text", Some("gbk"), b"\x41\x5c", r"'A\\'"),
        ("text", Some("latin1"), b"caf'", r"'caf\''"),
        (
            "text",
            Some("latin1"),
            b"'\xe9",
            "/*!40101 _utf8mb4*/'\\'\u{e9}'",
        ),
        (
            "json",
            None,
            br#"{"a": 1}"#,
            r#"/*!40101 _utf8mb4*/'{\"a\": 1}'"#,
        ),
        ("bit", None, b"\x00\x15", "x'0015'"),
        ("varbinary", None, b"'", "x'27'"),
        ("time", None, b"-100:00:00.500", "'-100:00:00.500'"),
    ] {
        let columns = vec![column("a", type_name, charset)];
        let reading = Reading::for_files(&table(columns, vec![]), " a > 1 ");
        assert_eq!(
            reading.rows(&Piece::default()),
            "SELECT `a` FROM `d`.`t` WHERE (a > 1)"
        );
        let mut row = Vec::new();
        assert!(reading.write(values(&[Some(value)]), &mut row));
        assert_eq!(
            String::from_utf8(row).unwrap(),
            format!("({literal})"),
            "{type_name}"
        );
    }
}

/// A member may be empty, and then looks like the value of a row that had no valid one.
#[test]
fn members_are_read_by_number_where_one_is_empty() {
    for (column_type, expression) in [
        ("enum('a','b')", "`e`"),
        ("enum('a','')", "`e`+0"),
        ("enum('')", "`e`+0"),
        ("set('','a')", "`e`|0"),
        ("set('a','b')", "`e`"),
        ("enum('its''')", "`e`"),
    ] {
        let column = ColumnInfo {
            column_type: column_type.into(),
            ..column("e", column_type.split('(').next().unwrap(), Some("utf8mb4"))
        };
        let sql = Reading::new(&table(vec![column], vec![])).rows(&Piece::default());
        assert_eq!(
            sql,
            format!("SELECT {expression} FROM `d`.`t`"),
            "{column_type}"
        );
    }
}

#[test]
fn a_row_has_as_many_values_as_columns() {
    let columns = || vec![column("a", "int", None), column("b", "text", None)];
    assert_eq!(
        written(columns(), &[Some(b"1"), None]).as_deref(),
        Some("(1,NULL)")
    );
    assert_eq!(written(columns(), &[Some(b"1")]), None);
    assert_eq!(written(columns(), &[Some(b"1"), None, None]), None);
    // Nothing but columns that are computed: the server makes the row of nothing.
    assert_eq!(written(vec![], &[None]).as_deref(), Some("()"));
    let reading = Reading::new(&table(vec![], vec![]));
    assert_eq!(reading.rows(&Piece::default()), "SELECT NULL FROM `d`.`t`");
    assert_eq!(
        reading.insert("INSERT", "`t`"),
        "INSERT INTO `t` () VALUES\n"
    );
}

#[test]
fn what_is_no_key_is_none() {
    let columns = vec![column("a", "int", None), column("b", "int", None)];
    let reading = Reading::new(&table(columns.clone(), vec![key("PRIMARY", &[0, 1])]));
    assert_eq!(reading.key_of(values(&[Some(b"1")])), None);
    assert_eq!(reading.key_of(values(&[Some(b"1"), None])), None);
    let two = reading.key_of(values(&[Some(b"1"), Some(b"2")]));
    assert_eq!(two, Some(KeyValue(vec!["1".into(), "2".into()])));
    let reading = Reading::new(&table(columns, vec![]));
    assert!(!reading.has_key());
    assert_eq!(reading.key_of(values(&[Some(b"1"), Some(b"2")])), None);
}

/// As empty as no member is, or number zero.
#[test]
fn an_invalid_member_is_noticed() {
    let member = |column_type: &str| ColumnInfo {
        column_type: column_type.into(),
        ..column("e", "enum", Some("utf8mb4"))
    };
    let reading = Reading::new(&table(vec![member("enum('a')")], vec![]));
    assert!(reading.has_enum() && reading.is_invalid(values(&[Some(b"")])));
    assert!(!reading.is_invalid(values(&[Some(b"0")])) && !reading.is_invalid(values(&[None])));
    let reading = Reading::new(&table(vec![member("enum('')")], vec![]));
    assert!(reading.is_invalid(values(&[Some(b"0")])) && !reading.is_invalid(values(&[Some(b"")])));
    let reading = Reading::new(&table(vec![column("a", "text", None)], vec![]));
    assert!(!reading.has_enum() && !reading.is_invalid(values(&[Some(b"")])));
}

#[test]
fn tidb_gets_texts_in_a_way_that_it_takes() {
    let table = table(
        vec![
            column("a", "varchar", Some("latin1")),
            column("b", "varchar", Some("gbk")),
            column("c", "varchar", Some("greek")),
        ],
        vec![],
    );
    let row = || {
        [&b"\x80'\xe9"[..], b"\xb0\xa1\\", b"\xe1"]
            .map(Some)
            .into_iter()
    };
    let written = |reading: Reading| {
        let mut out = Vec::new();
        assert!(reading.write(row(), &mut out));
        out
    };
    for dialect in [Dialect::MySql, Dialect::MariaDb] {
        assert_eq!(
            written(Reading::for_target(&table, dialect)),
            "('\u{20ac}\\'\u{e9}',_gbk x'b0a15c',_greek x'e1')".as_bytes()
        );
    }
    let mut expected = "('\u{20ac}\\'\u{e9}',_binary'".as_bytes().to_vec();
    expected.extend_from_slice(b"\xb0\xa1\\\\',_greek x'e1')");
    assert_eq!(
        written(Reading::for_target(&table, Dialect::TiDb)),
        expected
    );
}

/// An index of hashes would have to be sorted, by the beginnings of long values, and one that is
/// invisible or ignored may not be named.
#[test]
fn a_key_may_have_no_order_to_read_by() {
    let unordered = Key {
        unordered: true,
        ..key("u", &[0])
    };
    let columns = || vec![column("a", "text", None), column("b", "int", None)];
    assert!(!Reading::new(&table(columns(), vec![unordered.clone()])).has_key());
    let both = Reading::new(&table(columns(), vec![unordered, key("v", &[1])]));
    assert!(both.rows(&Piece::default()).contains("FORCE INDEX (`v`)"));
}

/// What servers are asked for, to divide the rows of a table.
#[test]
fn keys_next_to_a_guess_are_asked_for() {
    let reading = |columns: Vec<ColumnInfo>, parts: &[usize]| {
        Reading::new(&table(columns, vec![key("PRIMARY", parts)]))
    };
    let guess = |reading: &Reading, low: &[&[u8]], high: &[&[u8]]| {
        let found = |values: &[&[u8]]| reading.found(values.iter().copied()).unwrap();
        reading.amid(&Piece::default(), &found(low), &found(high))
    };
    let numbers = reading(
        vec![column("a", "int", None), column("b", "bigint", None)],
        &[0, 1],
    );
    let [behind, before] = guess(&numbers, &[b"7", b"-10"], &[b"7", b"90"]).unwrap();
    assert_eq!(
        behind,
        "SELECT `a`,`b` FROM `d`.`t` FORCE INDEX (`PRIMARY`) WHERE `a`=7 AND `b`>=40 \
         ORDER BY `a`,`b` LIMIT 1"
    );
    assert_eq!(
        before,
        "SELECT `a`,`b` FROM `d`.`t` FORCE INDEX (`PRIMARY`) WHERE `a`=7 AND `b`<40 \
         ORDER BY `a` DESC,`b` DESC LIMIT 1"
    );
    // Where there is none between them either, one of them is found.
    let next = guess(&numbers, &[b"7", b"1"], &[b"8", b"1"]).unwrap();
    assert!(next[0].contains("WHERE `a`>=8 "), "{next:?}");
    assert_eq!(guess(&numbers, &[b"7", b"1"], &[b"7", b"1"]), None);

    let of = |column: ColumnInfo, low: &[u8], high: &[u8]| {
        let [behind, _] = guess(&reading(vec![column], &[0]), &[low], &[high])?;
        let (_, guess) = behind.split_once(">=")?;
        Some(guess.split(" ORDER").next().unwrap().to_owned())
    };
    let text = |charset| column("a", "varchar", Some(charset));
    for (column, low, high, expected) in [
        (
            text("utf8mb4"),
            &b"0f"[..],
            &b"f3"[..],
            Some("_utf8mb4 x'3772'"),
        ),
        (
            text("ascii"),
            b"user:AB",
            b"user:X",
            Some("_ascii x'757365723a4c4f'"),
        ),
        (text("latin1"), b"", b"z", Some("_latin1 x'6869'")),
        // Nobody knows where these stand, or how long a character is.
        (text("latin1"), b"\xe4", b"\xf6", Some("_latin1 x'6869'")),
        (text("utf8mb4"), b"\xc3\xa4", b"\xc3\xb6", None),
        (text("utf8mb4"), b"_a", b"~", Some("_utf8mb4 x'686e'")),
        (text("utf8mb4"), b"a", b"A", None),
        (text("gbk"), b"a", b"z", None),
        (
            column("a", "varbinary", None),
            b"\x01\xff",
            b"\x03",
            Some("x'0280'"),
        ),
        (column("a", "decimal", None), b"1.50", b"9.00", None),
        (
            column("a", "date", None),
            b"2020-01-01",
            b"2021-01-01",
            None,
        ),
    ] {
        let found = of(column.clone(), low, high);
        assert_eq!(found.as_deref(), expected, "{column:?} {low:?}");
    }
}
