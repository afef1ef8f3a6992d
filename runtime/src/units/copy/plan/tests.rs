use std::sync::Arc;

use dm_core::{
    binlog::Position,
    control::{SourceConfig, SubtaskConfig, rules::BlockAllowList},
    full::{Copied, KeyValue, Piece},
};

use super::*;

fn table(columns: &[&str]) -> Table {
    let column = |name: &&str| ColumnInfo {
        name: (*name).to_owned(),
        type_name: "int".to_owned(),
        column_type: "int".to_owned(),
        ..ColumnInfo::default()
    };
    Table {
        name: TableName::new("d", "t"),
        columns: columns.iter().map(column).collect(),
        keys: vec![Key {
            name: "PRIMARY".to_owned(),
            primary: true,
            unique: true,
            unordered: false,
            parts: vec![KeyPart {
                column: Some(0),
                prefix: None,
            }],
        }],
    }
}

fn plan(noted: &Copy, source: &Table) -> Plan {
    plan_of("all", noted, source)
}

fn plan_of(mode: &str, noted: &Copy, source: &Table) -> Plan {
    plan_with(mode, &["d"], noted, source)
}

fn task(mode: &str, schemas: &[&str]) -> SubtaskConfig {
    let wanted = schemas.iter().map(|&schema| schema.to_owned()).collect();
    SubtaskConfig {
        mode: mode.into(),
        block_allow_list: Some(BlockAllowList {
            do_dbs: Some(wanted),
            ..BlockAllowList::default()
        }),
        ..SubtaskConfig::default()
    }
}

fn plan_with(mode: &str, schemas: &[&str], noted: &Copy, source: &Table) -> Plan {
    try_plan(mode, schemas, noted, source).unwrap()
}

fn try_plan(mode: &str, schemas: &[&str], noted: &Copy, source: &Table) -> Result<Plan> {
    plan_at(&Location::default(), mode, schemas, noted, source)
}

fn plan_at(
    from: &Location,
    mode: &str,
    schemas: &[&str],
    noted: &Copy,
    source: &Table,
) -> Result<Plan> {
    let task = task(mode, schemas);
    let rules = Rules::new(&task).unwrap();
    let job = Job {
        source: Arc::new(SourceConfig::standard()),
        task: Arc::new(task),
        arguments: None,
        use_relay: false,
    };
    let snapshot = Snapshot::<()> {
        from: from.clone(),
        until: None,
        tables: vec![SnapshotTable {
            table: source.clone(),
            rows: 1,
            bytes: 1,
        }],
        views: Vec::new(),
        readers: Vec::new(),
    };
    // As where nobody could apply what is between.
    let counts = mode != "full";
    let given = (counts, counts);
    Plan::new(
        &job,
        (&rules, "server"),
        given,
        Some(noted.clone()),
        &snapshot,
    )
}

#[test]
fn by_position_another_server_is_refused() {
    let source = table(&["id"]);
    let mut noted = plan(&Copy::default(), &source).copy;
    assert_eq!(noted.server.as_deref(), Some("server"));
    let entry = noted.tables.get_mut(&source.name).unwrap();
    entry.pieces = vec![Copied {
        number: 1,
        piece: Piece::default(),
    }];
    assert_eq!(plan(&noted, &source).copy.server, noted.server);
    // Of an older version it is not known.
    noted.server = None;
    plan(&noted, &source);
    noted.server = Some("another".to_owned());
    let error = try_plan("all", &["d"], &noted, &source)
        .map(drop)
        .unwrap_err();
    assert!(error.is(&code::LOAD_TASK_CHECKPOINT_NOT_MATCH), "{error}");
    assert!(error.message.contains("at server another"), "{error}");
}

/// Rows of two snapshots, and not of one before those that are there.
#[test]
fn the_latest_snapshot_of_a_table_is_noted() {
    let source = table(&["id"]);
    let at = |pos| Location {
        position: Position::new("b.000001", pos),
        gtids: None,
    };
    let plan = |pos, noted: &Copy| plan_at(&at(pos), "all", &["d"], noted, &source);
    let again = |plan: &Plan| plan.copy.tables[&source.name].again.clone();
    let first = plan(100, &Copy::default()).unwrap();
    assert_eq!(again(&first), None);
    let mut noted = first.copy;
    let upto = Some(KeyValue(vec!["7".to_owned()]));
    let part = Piece { after: None, upto };
    let pieces = |piece| vec![Copied { number: 1, piece }];
    let entry = noted.tables.get_mut(&source.name).unwrap();
    entry.pieces = pieces(part);
    // The same snapshot, as far as anybody can tell.
    assert_eq!(again(&plan(100, &noted).unwrap()), None);
    let second = plan(200, &noted).unwrap();
    assert_eq!(again(&second), Some(at(200)));
    assert_eq!(second.copy.tables[&source.name].place, None);
    let third = plan(300, &second.copy).unwrap();
    assert_eq!(again(&third), Some(at(300)));
    // Another server may be behind, but not behind the place from which the binlog counts.
    assert_eq!(again(&plan(250, &third.copy).unwrap()), Some(at(300)));
    let mut placed = third.copy.clone();
    placed.tables.get_mut(&source.name).unwrap().place = Some(at(260));
    assert!(plan(260, &placed).is_ok());
    let error = plan(250, &placed).map(drop).unwrap_err();
    assert!(error.is(&code::LOAD_TASK_CHECKPOINT_NOT_MATCH), "{error}");
    // Nothing is read of one that is complete.
    let mut whole = placed;
    whole.tables.get_mut(&source.name).unwrap().pieces = pieces(Piece::default());
    assert_eq!(again(&plan(250, &whole).unwrap()), Some(at(300)));
}

#[test]
fn keys_that_the_source_does_not_have_are_found() {
    let key = |name: &str, columns: &[usize]| Key {
        name: name.to_owned(),
        primary: name == "PRIMARY",
        unique: true,
        unordered: false,
        parts: (columns.iter().copied())
            .map(|index| KeyPart {
                column: Some(index),
                prefix: None,
            })
            .collect(),
    };
    let with = |columns: &[&str], keys: Vec<Key>| Table {
        keys,
        ..table(columns)
    };
    let source = with(&["a", "b"], vec![key("PRIMARY", &[0])]);
    let found = |keys: Vec<Key>| {
        // In another order, as another one has made it.
        let target = with(&["B", "A"], keys);
        narrower(&source, &target).map(|key| key.name.clone())
    };
    assert_eq!(found(vec![]), None);
    assert_eq!(found(vec![key("PRIMARY", &[1])]), None);
    assert_eq!(found(vec![key("PRIMARY", &[0, 1])]), None);
    let other = vec![key("PRIMARY", &[1]), key("u", &[0])];
    assert_eq!(found(other).as_deref(), Some("u"));
    // The target's own.
    let target = with(&["a", "own"], vec![key("PRIMARY", &[1])]);
    assert_eq!(narrower(&source, &target), None);
}

/// Its table is gone by then, and the rows that are noted with it.
#[test]
fn a_definition_that_comes_back_does_not_bring_rows_back() {
    let (before, altered) = (table(&["id"]), table(&["id", "more"]));
    let name = &before.name;
    let mut noted = Copy::default();
    noted.tables = plan(&noted, &before).copy.tables;
    let part = Piece {
        after: None,
        upto: Some(KeyValue(vec!["7".to_owned()])),
    };
    let entry = noted.tables.get_mut(name).unwrap();
    entry.pieces = vec![Copied {
        number: 1,
        piece: part,
    }];
    assert!(plan(&noted, &before).begun.contains(name));
    // A table that somebody else has made stays his.
    assert!(!plan(&noted, &altered).restarts[name].drops);
    noted.tables.get_mut(name).unwrap().is_made = true;

    let anew = plan(&noted, &altered);
    assert!(anew.restarts[name].drops && anew.begun.is_empty());
    let doomed = anew.doomed(noted.clone()).unwrap();
    let back = plan(&doomed, &before);
    assert!(back.restarts.contains_key(name) && back.begun.is_empty());
    assert_eq!(back.doomed(doomed.clone()), None);
    assert!(plan(&doomed, &altered).restarts[name].drops);
    // Nor if all of them had been there.
    let mut whole = doomed;
    whole.tables.get_mut(name).unwrap().pieces[0].piece.upto = None;
    assert!(plan(&whole, &before).restarts.contains_key(name));
    assert_eq!(plan(&noted, &before).doomed(noted), None);
}

/// Its rows are in the way of nothing, and known should it be wanted again.
#[test]
fn a_table_may_be_excluded_and_wanted_again() {
    let source = table(&["id"]);
    let other = TableName::new("other", "t");
    let mut noted = Copy::default();
    noted.tables = plan(&noted, &source).copy.tables;
    let mut entry = noted.tables[&source.name].clone();
    entry.pieces = vec![Copied {
        number: 1,
        piece: Piece::default(),
    }];
    entry.target = other.clone();
    entry.rows = 7;
    noted.tables.insert(other.clone(), entry);
    let without = plan(&noted, &source);
    assert!(!without.restarts.contains_key(&other));
    let kept = &without.copy.tables[&other];
    assert!(kept.is_gone && kept.pieces.len() == 1);
    assert!(without.copy.is_complete().is_ok());
    let rules = |schemas: &[&str]| Rules::new(&task("all", schemas)).unwrap();
    let over = Copy {
        is_over: true,
        ..without.copy.clone()
    };
    assert!(!wants_more(&rules(&["d"]), &without.copy));
    assert!(wants_more(&rules(&["d", "other"]), &without.copy));
    assert!(!wants_more(&rules(&["d", "other"]), &over));
    // It does not come back by itself.
    let again = plan(&without.copy, &source);
    assert_eq!(again.copy.tables[&other], *kept);
    let wanted = Table {
        name: other.clone(),
        ..source
    };
    let with = plan_with("all", &["d", "other"], &without.copy, &wanted);
    assert_eq!(with.restarts[&other].rows, 7);
    assert!(!with.restarts[&other].drops && with.begun.is_empty());
}

/// Where no binlog can be applied the table is emptied, that is ended, and then one can.
#[test]
fn another_mode_does_not_bring_rows_back() {
    let source = table(&["id"]);
    let mut noted = Copy::default();
    noted.tables = plan(&noted, &source).copy.tables;
    let entry = noted.tables.get_mut(&source.name).unwrap();
    entry.pieces = vec![Copied {
        number: 1,
        piece: Piece::default(),
    }];
    let full = plan_of("full", &noted, &source);
    assert!(!full.restarts[&source.name].drops);
    let doomed = full.doomed(noted.clone()).unwrap();
    assert!(plan(&noted, &source).begun.contains(&source.name));
    let all = plan(&doomed, &source);
    assert!(all.begun.is_empty() && !all.restarts[&source.name].drops);
}
