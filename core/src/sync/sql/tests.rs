use alloc::{string::String, sync::Arc, vec, vec::Vec};

use super::*;
use crate::{
    binlog::Dialect,
    sync::{
        progress::Applied,
        testing::{Fixture, Row, column, int, text, unique},
    },
};

type Change<'a> = (Option<&'a Row>, Option<&'a Row>);

fn sql(fixture: &Fixture, op: Op, rows: &[Change]) -> String {
    let mut out = Vec::new();
    render(&batch(fixture, op, rows), &mut out).unwrap();
    String::from_utf8(out).unwrap()
}

fn batch(fixture: &Fixture, op: Op, rows: &[Change]) -> Batch {
    let rows = rows.iter().map(|row| fixture.change(row.0, row.1));
    Batch {
        slot: 0,
        seq: 0,
        applied: Applied::default(),
        segments: [Segment {
            table: Arc::clone(&fixture.plan),
            op,
            rows: rows.collect(),
        }]
        .into(),
        rows: 0,
        bytes: 0,
        lenient: false,
        safe: false,
    }
}

fn keyed() -> Fixture {
    let columns = vec![column("i`d", false, None), column("v", true, None)];
    Fixture::new("t", columns, vec![unique("PRIMARY", &[Some(0)])])
}

#[test]
fn rows_share_statements() {
    let fixture = keyed();
    let (a, b) = (vec![int(1), int(-7)], vec![int(2), None]);
    let rows: [Change; 2] = [(Some(&a), Some(&a)), (Some(&b), Some(&b))];
    assert_eq!(
        sql(&fixture, Op::Insert, &rows),
        "INSERT INTO `d`.`t` (`i``d`,`v`) VALUES (1,-7),(2,NULL)"
    );
    assert_eq!(
        sql(&fixture, Op::Replace, &rows),
        "REPLACE INTO `d`.`t` (`i``d`,`v`) VALUES (1,-7),(2,NULL)"
    );
    assert_eq!(
        sql(&fixture, Op::Upsert, &rows),
        "INSERT INTO `d`.`t` (`i``d`,`v`) VALUES (1,-7),(2,NULL) \
         ON DUPLICATE KEY UPDATE `v`=VALUES(`v`)"
    );
    assert_eq!(
        sql(&fixture, Op::Delete, &rows),
        "DELETE FROM `d`.`t` WHERE `i``d` IN (1,2)"
    );
    assert_eq!(
        sql(&fixture, Op::Delete, &rows[..1]),
        "DELETE FROM `d`.`t` WHERE `i``d`=1"
    );
    assert_eq!(
        sql(
            &fixture,
            Op::Update,
            &[(Some(&a), Some(&b)), (Some(&b), Some(&a))]
        ),
        "UPDATE `d`.`t` SET `i``d`=2,`v`=NULL WHERE `i``d`=1 LIMIT 1;\
         UPDATE `d`.`t` SET `i``d`=1,`v`=-7 WHERE `i``d`=2 LIMIT 1"
    );
}

#[test]
fn a_delete_names_a_limited_number_of_rows() {
    let fixture = keyed();
    let row = vec![int(1), None];
    let change: Change = (Some(&row), None);
    let text = sql(&fixture, Op::Delete, &[change; DELETE_ROWS_MAX + 1]);
    let (first, second) = text.split_once(';').unwrap();
    assert_eq!(first.matches("1,").count(), DELETE_ROWS_MAX - 1);
    assert_eq!(second, "DELETE FROM `d`.`t` WHERE `i``d`=1");
}

#[test]
fn keys_of_several_columns() {
    let columns = vec![column("a", false, None), column("b", false, None)];
    let fixture = Fixture::new("t", columns, vec![unique("PRIMARY", &[Some(1), Some(0)])]);
    let (a, b) = (vec![int(1), int(2)], vec![int(3), int(4)]);
    assert_eq!(
        sql(&fixture, Op::Delete, &[(Some(&a), None), (Some(&b), None)]),
        "DELETE FROM `d`.`t` WHERE (`b`=2 AND `a`=1) OR (`b`=4 AND `a`=3)"
    );
    // Nothing but the key: there is nothing to change, but something must stand there.
    assert_eq!(
        sql(&fixture, Op::Upsert, &[(Some(&a), Some(&a))]),
        "INSERT INTO `d`.`t` (`a`,`b`) VALUES (1,2) ON DUPLICATE KEY UPDATE `b`=`b`"
    );
}

#[test]
fn rows_without_a_key_are_found_one_by_one_and_exactly() {
    let columns = vec![
        column("x", true, None),
        column("s", true, Some("utf8mb4_general_ci")),
    ];
    let fixture = Fixture::new("t", columns, Vec::new());
    let (a, b) = (vec![None, text("a")], vec![int(1), None]);
    let exact = "CAST(CONVERT(`s` USING utf8mb4) AS BINARY)=CAST(CONVERT('a' USING utf8mb4) AS \
                 BINARY)";
    assert_eq!(
        sql(&fixture, Op::Delete, &[(Some(&a), None), (Some(&b), None)]),
        alloc::format!(
            "DELETE FROM `d`.`t` WHERE `x` IS NULL AND `s`='a' AND {exact} LIMIT 1;\
             DELETE FROM `d`.`t` WHERE `x`=1 AND `s` IS NULL LIMIT 1"
        )
    );
    assert_eq!(
        sql(&fixture, Op::Update, &[(Some(&b), Some(&a))]),
        "UPDATE `d`.`t` SET `x`=NULL,`s`='a' WHERE `x`=1 AND `s` IS NULL LIMIT 1"
    );
}

#[test]
fn generated_columns_are_not_written_but_may_be_keys() {
    let mut columns = vec![column("g", false, None), column("v", false, None)];
    columns[0].generated = true;
    let fixture = Fixture::new("t", columns, vec![unique("PRIMARY", &[Some(0)])]);
    let row = vec![int(1), int(2)];
    assert_eq!(
        sql(&fixture, Op::Upsert, &[(Some(&row), Some(&row))]),
        "INSERT INTO `d`.`t` (`v`) VALUES (2) ON DUPLICATE KEY UPDATE `v`=VALUES(`v`)"
    );
    assert_eq!(
        sql(&fixture, Op::Delete, &[(Some(&row), None)]),
        "DELETE FROM `d`.`t` WHERE `g`=1"
    );
}

#[test]
fn columns_that_the_source_lacks_are_left_out() {
    let columns = vec![column("a", false, None), column("extra", true, None)];
    let keys = vec![unique("PRIMARY", &[Some(0)])];
    let fixture = Fixture::with_extra("t", columns, keys, 1, Dialect::MySql);
    let row = vec![int(1)];
    assert_eq!(
        sql(&fixture, Op::Insert, &[(None, Some(&row))]),
        "INSERT INTO `d`.`t` (`a`) VALUES (1)"
    );
}

/// All rows of such a table are equal, so any of them will do.
#[test]
fn a_table_may_have_computed_columns_only() {
    let mut columns = vec![column("a", true, None), column("b", true, None)];
    for column in &mut columns {
        column.generated = true;
    }
    let fixture = Fixture::new("t", columns, Vec::new());
    let row = vec![int(1), int(2)];
    assert_eq!(
        sql(
            &fixture,
            Op::Insert,
            &[(None, Some(&row)), (None, Some(&row))]
        ),
        "INSERT INTO `d`.`t` () VALUES (),()"
    );
    assert_eq!(
        sql(&fixture, Op::Delete, &[(Some(&row), None)]),
        "DELETE FROM `d`.`t` WHERE TRUE LIMIT 1"
    );
}

/// Without a key, and where a key changes, the number of rows that were found tells of a
/// difference. In safe mode it tells nothing.
#[test]
fn statements_that_must_find_a_row_are_known() {
    let keyless = Fixture::new("k", vec![column("v", true, None)], vec![]);
    let one: Row = vec![int(1)];
    let two: Row = vec![int(2)];
    let found = |fixture: &Fixture, op, rows: &[Change], safe| -> Vec<bool> {
        let batch = Batch {
            safe,
            ..batch(fixture, op, rows)
        };
        let found: Vec<_> = finds(&batch).map(|table| table.is_some()).collect();
        let mut sql = Vec::new();
        render(&batch, &mut sql).unwrap();
        assert_eq!(
            found.len(),
            String::from_utf8(sql).unwrap().split(';').count()
        );
        found
    };
    let deleted = [(Some(&one), None), (Some(&two), None)];
    let updated = [(Some(&one), Some(&two))];
    let inserted = [(None, Some(&one)), (None, Some(&two))];
    assert_eq!(found(&keyless, Op::Delete, &deleted, false), [true, true]);
    assert_eq!(found(&keyless, Op::Delete, &deleted, true), [false, false]);
    assert_eq!(found(&keyless, Op::Update, &updated, false), [true]);
    assert_eq!(found(&keyless, Op::Insert, &inserted, false), [false]);
    let pair = |id, v| vec![int(id), int(v)];
    let (one, two) = (pair(1, 1), pair(2, 1));
    let keyed = keyed();
    let deleted = [(Some(&one), None), (Some(&two), None)];
    assert_eq!(found(&keyed, Op::Delete, &deleted, false), [false]);
    let updated = [(Some(&one), Some(&two))];
    assert_eq!(found(&keyed, Op::Update, &updated, false), [true]);
}
