use super::*;
use crate::check::{State, tables::tests::table};

const COPY: Does = Does {
    copies: true,
    follows: true,
    cascades: false,
    metadata: Metadata::Minimal,
};
const FOLLOW: Does = Does {
    copies: false,
    ..COPY
};

fn route(source: &Facts) -> Route<'_> {
    Route {
        target: source.table.name.clone(),
        source,
    }
}

fn there(tables: &[Facts]) -> There {
    let named = |facts: &Facts| (facts.table.name.clone(), facts.clone());
    There {
        tables: tables.iter().map(named).collect(),
        ..There::default()
    }
}

/// All that is found where these two tables meet, as `state reason`.
fn met(source: &Facts, target: &Facts, does: Does) -> Vec<String> {
    let there = there(std::slice::from_ref(target));
    let found = check(&[route(source)], Some(&there), does);
    let text = |problem: &Problem| {
        let concerns = problem.concerns.join("; ");
        format!("{} {} [{concerns}]", problem.state.name(), problem.reason)
    };
    found.iter().map(text).collect()
}

#[test]
fn tables_that_are_alike_are_fine() {
    let good = table("t", &["a", "b varchar(9)"], 1);
    assert_eq!(met(&good, &good, COPY), Vec::<String>::new());
    let other = There::default();
    assert_eq!(check(&[route(&good)], Some(&other), COPY), []);
    assert_eq!(check(&[route(&good)], None, FOLLOW), []);
}

#[test]
fn schemas_that_can_not_be_made_are_named() {
    let source = table("t", &["a"], 1);
    let schemas = BTreeMap::from([("d".to_owned(), "utf8mb4_0900_ai_ci".to_owned())]);
    let mut there = There {
        any_case: true,
        ..There::default()
    };
    let routes = || {
        let mut other = route(&source);
        other.target.schema = "Other".into();
        [route(&source), other]
    };
    assert_eq!(check_schemas(&routes(), &schemas, &there), []);
    there.unknown.insert("utf8mb4_0900_ai_ci".into());
    there.schemas.insert("other".into());
    let found = check_schemas(&routes(), &schemas, &there);
    assert_eq!((found.len(), found[0].state), (1, State::Fail));
    assert_eq!(found[0].concerns, ["`d`"]);
}

#[test]
fn keys_that_no_copy_can_go_on_by_are_named() {
    let by_enum = table("t", &["e enum('x','y')", "a"], 1);
    let found = met(&by_enum, &by_enum, COPY);
    assert_eq!(found.len(), 1, "{found:?}");
    assert!(
        found[0].starts_with("warn a copy can't go on amid the table"),
        "{found:?}"
    );
    assert_eq!(met(&by_enum, &by_enum, FOLLOW), Vec::<String>::new());
}

#[test]
fn what_rows_would_not_fit_into_is_named() {
    let source = table("t", &["a", "b", "c"], 1);
    let mut target = table("t", &["A", "c", "d", "e"], 1);
    target.required = BTreeSet::from([0, 2]);
    target.table.columns[1].generated = true;
    let expected = [
        "the target's column `c` is computed, which the source's is not [`d`.`t`]",
        "the target's column `d` has no default, and the source no value for it [`d`.`t`]",
        "the target's table has no column `b` [`d`.`t`]",
    ];
    assert_eq!(
        met(&source, &target, COPY),
        expected.map(|it| format!("fail {it}"))
    );
    assert_eq!(
        met(&source, &target, FOLLOW),
        expected.map(|it| format!("warn {it}"))
    );
}

#[test]
fn members_with_other_numbers_are_named() {
    let source = table("t", &["a", "e enum('x','y')"], 1);
    let target = table("t", &["a", "e enum('y','x')"], 1);
    let expected = "the target's column `e` is enum('y','x'), in which members of enum('x','y') \
                    have other numbers [`d`.`t`]";
    for (does, state) in [(COPY, "fail"), (FOLLOW, "warn")] {
        assert_eq!(met(&source, &target, does), [format!("{state} {expected}")]);
    }
    let more = table("t", &["a", "e enum('x','y','z')"], 1);
    assert_eq!(met(&source, &more, COPY), Vec::<String>::new());
}

#[test]
fn keys_and_characters_are_compared() {
    let source = table("t", &["a", "b varchar(9)", "c varchar(9)"], 1);
    let mut target = table("t", &["a", "b varchar(9)", "c varchar(9)"], 2);
    target.table.columns[1].charset = Some("latin1".into());
    target.table.columns[2].collation = Some("utf8mb4_bin".into());
    let found = met(&source, &target, COPY).join("\n");
    for part in [
        "may lack characters of the source's [`d`.`t`: `b`]",
        "another collation in the target: what is equal there differs [`d`.`t`: `c`]",
        "lacks a unique key of the source's [`d`.`t`: (`a`)]",
        "has a unique key that the source's has not [`d`.`t`: (`a`, `b`)]",
    ] {
        assert!(found.contains(part), "{part} is not in\n{found}");
    }
    assert_eq!(found.lines().count(), 4, "{found}");
    assert!(
        found.lines().all(|line| line.starts_with("warn")),
        "{found}"
    );
}

#[test]
fn what_the_binlog_will_not_tell_is_missed_before_a_copy() {
    let source = table("t", &["a", "b varchar(9)"], 1);
    let mut target = source.clone();
    target.table.columns[1].charset = Some("latin1".into());
    let silent = |does| Does {
        metadata: Metadata::NoLog,
        ..does
    };
    let expected = "column `b` of `d`.`t` cannot be matched with column `b` of `d`.`t`: its text \
                    is utf8mb4, not latin1, and the source's binlog doesn't tell [`d`.`t`]";
    assert_eq!(
        met(&source, &target, silent(COPY))[0],
        format!("fail {expected}")
    );
    let found = met(&source, &target, silent(FOLLOW));
    assert!(found.contains(&format!("warn {expected}")), "{found:?}");
    let full = Does {
        follows: false,
        ..silent(COPY)
    };
    for does in [COPY, full] {
        assert_eq!(met(&source, &target, does).len(), 1, "only its characters");
    }
}

#[test]
fn old_and_new_names_of_a_character_set_are_one() {
    let mut source = table("t", &["a varchar(9)"], 1);
    let mut target = source.clone();
    for (facts, name) in [(&mut source, "utf8"), (&mut target, "utf8mb3")] {
        facts.table.columns[0].charset = Some(name.into());
        facts.table.columns[0].collation = Some(format!("{name}_bin"));
    }
    assert_eq!(met(&source, &target, COPY), Vec::<String>::new());
}

#[test]
fn a_source_without_keys_or_with_foreign_ones() {
    let keyless = table("k", &["a"], 0);
    let mut child = table("c", &["a"], 1);
    child.parents = Some(Parents::Checked);
    let mut cascading = table("x", &["a"], 1);
    cascading.parents = Some(Parents::Cascading);
    let all = [&keyless, &child, &cascading];
    let routes = all.map(route);
    let found = check(&routes, None, COPY);
    let about: Vec<_> = found
        .iter()
        .map(|problem| problem.concerns.join(" "))
        .collect();
    assert_eq!(about, ["`d`.`c`", "`d`.`x`", "`d`.`k`"]);
    assert!(found.iter().all(|problem| problem.state == State::Warn));
    let logged = Does {
        cascades: true,
        ..COPY
    };
    let found = check(&routes, None, logged);
    assert_eq!(found[0].concerns, ["`d`.`c`", "`d`.`x`"]);
    // Rows are never looked for.
    let full = Does {
        follows: false,
        ..COPY
    };
    assert_eq!(check(&[route(&keyless)], None, full), []);
}

#[test]
fn what_the_target_lacks() {
    let source = table("t", &["a varchar(9)"], 1);
    let empty = There {
        unknown: ["utf8mb4_general_ci".to_owned()].into(),
        ..There::default()
    };
    let found = check(&[route(&source)], Some(&empty), COPY);
    assert_eq!((found.len(), found[0].state), (1, State::Fail));
    let found = check(&[route(&source)], Some(&empty), FOLLOW);
    assert_eq!((found.len(), found[0].state), (1, State::Warn));
    assert!(found[0].reason.contains("no such table"));
    let found = |source: &Facts, dialect, engines: &[&str]| {
        let there = There {
            unknown_types: There::types_unknown_to(dialect),
            engines: engines.iter().map(|&name| name.to_owned()).collect(),
            ..There::default()
        };
        let found = check(&[route(source)], Some(&there), COPY);
        let told = found.into_iter().map(|it| (it.state, it.reason));
        told.collect::<Vec<_>>()
    };
    let mut source = table("t", &["id", "a inet6", "b point"], 1);
    let engines = &["innodb", "csv"];
    let lacks = |type_name: &str| {
        let reason = format!("the target has no type {type_name}");
        (State::Fail, reason)
    };
    assert_eq!(found(&source, Dialect::MariaDb, engines), []);
    let mysql = found(&source, Dialect::MySql, engines);
    assert_eq!(mysql, [lacks("INET6")]);
    let tidb = found(&source, Dialect::TiDb, engines);
    assert_eq!(tidb, [lacks("INET6"), lacks("POINT")]);
    source.engine = "ROCKSDB".into();
    let [(state, reason)] = &*found(&source, Dialect::MariaDb, engines) else {
        panic!("one")
    };
    assert_eq!(*state, State::Warn);
    assert!(reason.contains("no storage engine ROCKSDB"), "{reason}");
    assert_eq!(found(&source, Dialect::MariaDb, &[]), []);
}

#[test]
fn names_may_not_differ_in_letter_case_only() {
    let tables = [table("t", &["a"], 1), table("T", &["a"], 1)];
    let routes = tables.each_ref().map(route);
    assert_eq!(check(&routes, None, COPY)[0].state, State::Fail);
    let any_case = There {
        any_case: true,
        ..there(&[table("t", &["b"], 1)])
    };
    let found = check(&routes[1..], Some(&any_case), FOLLOW);
    let missing = |problem: &Problem| problem.reason.contains("no column `a`");
    assert!(found.iter().any(missing), "{found:?}");
}

#[test]
fn tables_that_go_into_one_must_be_alike() {
    let mut one = table("one", &["a", "b"], 1);
    one.numbers = true;
    let same = table("same", &["A", "b"], 1);
    let more = table("more", &["a", "b", "c"], 1);
    let alone = table("alone", &["z"], 1);
    let all = |to: &'static str| {
        [&one, &same, &more].map(move |source| Route {
            source,
            target: TableName::new("d", to),
        })
    };
    let mut routes: Vec<_> = all("all").into();
    routes.push(route(&alone));
    let (shapes, numbers) = check_merged(&routes);
    assert_eq!((shapes.len(), shapes[0].state), (1, State::Fail));
    assert_eq!(shapes[0].concerns, ["`d`.`more`"]);
    assert_eq!((numbers.len(), numbers[0].state), (1, State::Warn));
    assert_eq!(numbers[0].concerns, ["`d`.`one`"]);
    assert_eq!(check_merged(&routes[3..]), (Vec::new(), Vec::new()));
}

#[test]
fn tables_of_the_target_must_take_rows() {
    let (keyed, keyless) = (table("t", &["a"], 1), table("k", &["a"], 0));
    let mut there = there(&[keyed.clone(), keyless.clone()]);
    let routes = [route(&keyed), route(&keyless)];
    assert_eq!(check_targets(&routes, &there, COPY), []);
    there.filled = there.tables.keys().cloned().collect();
    let found = check_targets(&routes, &there, COPY);
    let states: Vec<_> = found
        .iter()
        .map(|it| (it.state, &*it.concerns[0]))
        .collect();
    assert_eq!(states, [(State::Fail, "`d`.`k`"), (State::Warn, "`d`.`t`")]);
    assert_eq!(check_targets(&routes, &there, FOLLOW), []);
    let elsewhere = Route {
        target: keyless.table.name.clone(),
        source: &table("k2", &["a"], 0),
    };
    let found = check_targets(&[elsewhere], &there, COPY);
    assert_eq!(found[0].state, State::Warn);
    assert_eq!(found[0].concerns, ["`d`.`k2` (to `d`.`k`)"]);
    for change in [
        |facts: &mut Facts| facts.kind = Kind::View,
        |facts: &mut Facts| facts.transactions = false,
    ] {
        there.tables.values_mut().for_each(change);
        let found = check_targets(&routes, &there, FOLLOW);
        assert_eq!((found.len(), found[0].state), (1, State::Fail), "{found:?}");
    }
}
