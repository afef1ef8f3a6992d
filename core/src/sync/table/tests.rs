use alloc::{string::ToString, sync::Arc, vec};

use super::*;
use crate::sync::testing::{Fixture, column, int, text, unique};

fn hashes(fixture: &Fixture, change: &RowChange) -> Vec<u64> {
    let mut hashes = Vec::new();
    fixture.plan.hash_keys(change, &mut Vec::new(), &mut hashes);
    hashes
}

#[test]
fn the_slot_of_a_row_never_changes() {
    let columns = vec![column("id", false, None), column("v", true, None)];
    let fixture = Fixture::new("t", columns, vec![unique("PRIMARY", &[Some(0)])]);
    let change = fixture.change(None, Some(&vec![int(1), None]));
    let seed = keys::hash(b"t", keys::hash(b"d", 0));
    let key = [0, 0, 0, 0, 0, 0, 0, 1, 8, 0, 0, 0];
    assert_eq!(hashes(&fixture, &change), [keys::hash(&key, seed)]);
    assert_eq!(keys::hash(&key, seed), 2_093_268_971_998_507_711);
}

#[test]
fn an_update_touches_the_values_it_leaves_and_those_it_takes() {
    let columns = vec![
        column("id", false, None),
        column("u", true, None),
        column("s", true, Some("utf8mb4_0900_ai_ci")),
    ];
    let keys = vec![
        unique("PRIMARY", &[Some(0)]),
        unique("u", &[Some(1)]),
        unique("s", &[Some(2)]),
    ];
    let fixture = Fixture::new("t", columns, keys);
    let count =
        |before, after| hashes(&fixture, &fixture.change(Some(&before), Some(&after))).len();
    let row = |id, u, s| vec![int(id), u, s];
    assert_eq!(count(row(1, None, None), row(1, None, None)), 1);
    assert_eq!(count(row(1, None, None), row(2, None, None)), 2);
    assert_eq!(count(row(1, int(5), None), row(1, int(6), text("x"))), 4);
    // The same under the collation: one value.
    assert_eq!(count(row(1, None, text("a")), row(1, None, text("A"))), 2);
}

#[test]
fn tables_that_conflicts_cannot_be_found_in_are_serial() {
    let columns = || vec![column("a", false, None), column("b", true, None)];
    let plan = |keys| Fixture::new("t", columns(), keys).plan;
    let serial = |plan: Arc<TablePlan>| (plan.has_row_key(), plan.is_serial());
    assert_eq!(serial(plan(vec![])), (false, true));
    assert_eq!(serial(plan(vec![unique("u", &[Some(1)])])), (false, true));
    assert_eq!(serial(plan(vec![unique("u", &[Some(0)])])), (true, false));
    let keys = vec![unique("PRIMARY", &[Some(0)]), unique("e", &[None])];
    assert_eq!(serial(plan(keys)), (true, true));
}

#[test]
fn columns_must_match() {
    let three = vec![
        column("a", false, None),
        column("b", true, None),
        column("c", true, None),
    ];
    let fixture = Fixture::new("t", three.clone(), Vec::new());
    let schema = |columns: &[ColumnInfo]| Table {
        name: TableName::new("d", "t"),
        columns: columns.to_vec(),
        keys: Vec::new(),
    };
    let error = TablePlan::new(&fixture.map, &schema(&three[..2]), Dialect::MySql).unwrap_err();
    assert!(error.is(&code::SYNCER_UNIT_DML_COLUMN_NOT_MATCH));
    assert!(
        error
            .message
            .starts_with("Column count doesn't match value count: 2 (columns) vs 3 (values)")
    );
    assert!(error.workaround.contains("`d`.`t`"), "{}", error.workaround);

    // With names, more columns in the target are fine, fewer are not.
    let named = Fixture::with_extra("t", three.clone(), Vec::new(), 2, Dialect::MySql);
    assert!(!named.plan.is_complete());
    let mut other = vec![column("B", true, None), column("A", false, None)];
    let plan = TablePlan::new(&named.map, &schema(&other), Dialect::MySql).unwrap();
    assert_eq!(plan.text.columns, " (`A`,`B`) VALUES ");
    other.remove(0);
    let error = TablePlan::new(&named.map, &schema(&other), Dialect::MySql).unwrap_err();
    assert!(error.to_string().contains("has no column `b`"), "{error}");
}

/// MariaDB keeps a hash for a UNIQUE key over TEXT, and logs it like a column.
#[test]
fn a_hidden_hash_is_left_out() {
    let columns = |names: &[&str]| -> Vec<ColumnInfo> {
        let columns = names.iter().map(|name| column(name, true, None));
        columns.collect()
    };
    let all = columns(&["a", "DB_ROW_HASH_1", "unused"]);
    let fixture = Fixture::with_extra("t", all, Vec::new(), 2, Dialect::MariaDb);
    let schema = Table {
        name: TableName::new("d", "t"),
        columns: columns(&["a"]),
        keys: Vec::new(),
    };
    let plan = TablePlan::new(&fixture.map, &schema, Dialect::MariaDb).unwrap();
    assert_eq!(plan.text.columns, " (`a`) VALUES ");
    assert_eq!(plan.identity(), [0]);
    assert!(plan.is_complete());

    let unnamed = Fixture::new("t", columns(&["a", "b"]), Vec::new());
    let error = TablePlan::new(&unnamed.map, &schema, Dialect::MariaDb).unwrap_err();
    assert!(error.workaround.contains("binlog_row_metadata=FULL"));
    assert!(error.workaround.contains("SYSTEM VERSIONING"));
}

#[test]
fn what_the_binlog_does_not_tell_is_refused() {
    let plan = |kind, column_type: &str| {
        let map = TableMap::new(1, "d", "t", vec![Column::new(kind)]);
        let schema = Table {
            name: TableName::new("d", "t"),
            columns: vec![ColumnInfo {
                column_type: column_type.into(),
                ..column("c", true, None)
            }],
            keys: Vec::new(),
        };
        TablePlan::new(&map, &schema, Dialect::MySql)
    };
    let refused = [
        (ColumnKind::Compressed { len_bytes: 1 }, "varchar(9)"),
        (ColumnKind::Unknown { code: 200 }, "int"),
        (ColumnKind::TimeOld, "time(3)"),
        (ColumnKind::DateTimeOld, "datetime(6)"),
        (ColumnKind::TimestampOld, "timestamp(1)"),
    ];
    for (kind, column_type) in refused {
        let error = plan(kind, column_type).unwrap_err();
        assert!(error.is(&code::SYNCER_UNIT_NOT_SUPPORTED_OPERATE));
        assert!(error.message.contains("column `c` of `d`.`t`"), "{error}");
        assert!(error.workaround.contains("block-allow-list"), "{error}");
    }
    assert!(plan(ColumnKind::TimeOld, "time").is_ok());
}

#[test]
fn safe_mode_trusts_nothing() {
    let columns = vec![column("id", false, None), column("u", true, None)];
    let keys = vec![unique("PRIMARY", &[Some(0)]), unique("u", &[Some(1)])];
    let fixture = Fixture::new("t", columns, keys);
    let steps = |before: Option<&_>, after: Option<&_>| {
        let change = fixture.change(before, after);
        let steps = fixture.plan.effects(change, true).into_iter().flatten();
        steps.map(|(effect, _)| effect).collect::<Vec<_>>()
    };
    let (a, b) = (vec![int(1), int(2)], vec![int(1), int(3)]);
    let only = Effect::Only;
    assert_eq!(steps(None, Some(&a)), [only(Op::Replace)]);
    assert_eq!(steps(Some(&a), None), [only(Op::Delete)]);
    assert_eq!(steps(Some(&a), Some(&a)), [only(Op::Replace)]);
    assert_eq!(
        steps(Some(&a), Some(&b)),
        [only(Op::Delete), only(Op::Replace)]
    );
}
