//! Whether users may do what a task needs.

use std::collections::{BTreeMap, BTreeSet};

use dm_core::{binlog::Flavor, full::Consistency, full::Reading, sync::schema::TableName};

use super::{
    grants::Grants,
    item::{Problem, Problems, State},
    tables::{Facts, Kind, Tables},
};

/// What the target's user needs in its schemas.
const WRITES: [&str; 8] = [
    "SELECT", "INSERT", "UPDATE", "DELETE", "CREATE", "DROP", "ALTER", "INDEX",
];
/// What it can do nothing without in the schema of the worker's own: that is made if it is not
/// there, and whoever writes into the target notes it.
const NOTES: [&str; 5] = ["CREATE", "SELECT", "INSERT", "UPDATE", "DELETE"];

/// A user: its name as statements want it, and what it may do.
#[derive(Debug)]
pub(super) struct User {
    pub(super) name: String,
    pub(super) grants: Grants,
    /// Whether all its roles are active.
    pub(super) uses_roles: bool,
}

impl User {
    /// The statement that helps, and what else might.
    fn advice(&self, privileges: &[&str], place: &str) -> String {
        let (name, privileges) = (&self.name, privileges.join(", "));
        let mut advice = format!("Run GRANT {privileges} ON {place} TO {name}.");
        if !self.uses_roles {
            let roles = self.grants.roles.join(", ");
            advice.push_str(&format!(
                " If one of its roles has that ({roles}), make it active: SET DEFAULT ROLE."
            ));
        }
        advice
    }

    fn may_flush(&self) -> bool {
        ["RELOAD", "FLUSH_TABLES"]
            .iter()
            .any(|privilege| self.grants.everywhere(privilege))
    }
}

/// Whether the binlog may be read, or its end be asked for if nobody reads it.
pub(super) fn replication(user: &User, flavor: Flavor, reads: bool) -> Option<Problem> {
    // Each of those that stand together is enough.
    let wanted: [(&str, &[&str]); 2] = [
        ("REPLICATION SLAVE", &["REPLICATION SLAVE"]),
        match flavor {
            Flavor::Mysql => ("REPLICATION CLIENT", &["REPLICATION CLIENT", "SUPER"]),
            Flavor::Mariadb => (
                "BINLOG MONITOR",
                &["BINLOG MONITOR", "REPLICATION CLIENT", "SUPER"],
            ),
        },
    ];
    let is_missing = |enough: &[&str]| !enough.iter().any(|it| user.grants.everywhere(it));
    // The second one is enough to be told where it ends.
    let wanted = wanted.iter().skip(usize::from(!reads));
    let missing = wanted.filter(|(_, enough)| is_missing(enough));
    let missing: Vec<_> = missing.map(|(name, _)| *name).collect();
    (!missing.is_empty()).then(|| {
        Problem::fail(
            format!(
                "the source's user {} lacks {}, without which the binlog can't be asked for",
                user.name,
                missing.join(" and ")
            ),
            user.advice(&missing, "*.*"),
        )
    })
}

/// What there is to say of a snapshot of these tables.
pub(super) struct Dump<'a> {
    pub(super) user: &'a User,
    pub(super) tables: &'a Tables,
    pub(super) consistency: Consistency,
    /// Schemas of which the task wants whatever tables they have.
    pub(super) schemas: BTreeSet<String>,
    /// Whether the source tells by GTIDs what a snapshot without locks has.
    pub(super) by_gtid: bool,
    /// Whether a copy of nothing is worth while, since the binlog follows.
    pub(super) follows: bool,
    /// Whether the binlog makes rows of several moments those of one.
    pub(super) goes_on: bool,
}

impl Dump<'_> {
    /// Whether a snapshot can be taken.
    pub(super) fn check(&self) -> Vec<Problem> {
        let mut problems = Problems::default();
        let tables = || self.tables.values().filter(|facts| facts.has_rows());
        if tables().next().is_none() {
            let nothing = Problem::fail(
                "the source has no table that the task names, or its user may not see any",
                self.user.advice(&["SELECT"], "<schema>.*")
                    + " Look for a slip in `block-allow-list`.",
            );
            problems.add(if self.follows {
                Problem::warn(nothing.reason, nothing.advice)
            } else {
                nothing
            });
            return problems.list();
        }
        let mut schemas = self.schemas.clone();
        for Facts { table, .. } in tables() {
            if !self.user.grants.on_table("SELECT", &table.name) {
                let problem = Problem::fail(
                    format!("the source's user {} lacks SELECT", self.user.name),
                    self.user.advice(&["SELECT"], "<table>"),
                );
                problems.add(problem.about(&table.name));
                schemas.remove(&table.name.schema);
            }
        }
        let views = self
            .tables
            .values()
            .filter(|facts| facts.kind == Kind::View);
        for Facts { table, .. } in views {
            if !self.user.grants.on_table("SHOW VIEW", &table.name) {
                let problem = Problem::warn(
                    format!(
                        "the source's user {} lacks SHOW VIEW, without which views are not made \
                         in the target",
                        self.user.name
                    ),
                    self.user.advice(&["SHOW VIEW"], "<table>"),
                );
                problems.add(problem.about(&table.name));
            }
        }
        for schema in schemas {
            if !self.user.grants.in_schema("SELECT", &schema) {
                let problem = Problem::warn(
                    format!(
                        "the source's user {} may not SELECT everything in a schema: tables that \
                         it can't see are not copied, and nothing tells that they are there",
                        self.user.name
                    ),
                    self.user.advice(&["SELECT"], "<schema>.*"),
                );
                problems.add(problem.about(TableName::new(schema, "")));
            }
        }
        self.check_locks(&mut problems);
        problems.list()
    }

    fn check_locks(&self, problems: &mut Problems) {
        let may_lock = |facts: &&Facts| {
            let name = &facts.table.name;
            self.user.grants.in_schema("LOCK TABLES", &name.schema)
        };
        let mut unlocked = self.tables.values().filter(|facts| facts.has_rows());
        let unlocked = unlocked.find(|facts| !may_lock(facts));
        let lacks = |what: &str, privilege, place: &str| {
            Problem::fail(
                format!(
                    "the source's user {} lacks {privilege}, which {what} needs",
                    self.user.name
                ),
                self.user.advice(&[privilege], place),
            )
        };
        let schema = |facts: &Facts| format!("the schema of {}", facts.table.name);
        match (self.consistency, unlocked) {
            (Consistency::Flush, _) if !self.user.may_flush() => {
                problems.add(lacks("`--consistency flush`", "RELOAD", "*.*"));
            }
            (Consistency::Lock, Some(facts)) => {
                let place = schema(facts);
                problems.add(lacks("`--consistency lock`", "LOCK TABLES", &place));
            }
            (Consistency::Auto, Some(_)) if !self.user.may_flush() => {
                if !self.goes_on {
                    problems.add(Problem {
                        state: State::Fail,
                        ..self.several_moments()
                    });
                    return;
                }
                self.check_without(problems);
            }
            (Consistency::None, _) => {
                if !self.goes_on {
                    problems.add(self.several_moments());
                }
                self.check_without(problems);
            }
            _ => {}
        }
    }

    /// Of a snapshot without any lock.
    fn several_moments(&self) -> Problem {
        Problem::warn(
            "nobody is held off while the snapshot is taken, and no binlog is applied: rows are of \
             several moments",
            self.user.advice(&["RELOAD"], "*.*"),
        )
    }

    /// Whether a snapshot can do without any lock.
    fn check_without(&self, problems: &mut Problems) {
        let advice = self.user.advice(&["RELOAD"], "*.*");
        if !self.by_gtid {
            problems.add(Problem::fail(
                "nobody is held off while the snapshot is taken: the user may neither RELOAD nor \
                 LOCK TABLES, or `--consistency none` is set, and without `enable-gtid: true` and \
                 GTIDs of MySQL nothing tells what rows lack",
                advice,
            ));
            return;
        }
        let keyless = self.tables.values().filter(|facts| facts.has_rows());
        for Facts { table, .. } in keyless {
            if !Reading::new(table).has_key() {
                let problem = Problem::fail(
                    "nobody is held off while the snapshot is taken, and it can't be told which \
                     rows of a table without a key are of which moment",
                    format!("{advice} Or give the table a primary key."),
                );
                problems.add(problem.about(&table.name));
            }
        }
    }
}

/// Whether tables may be made and written in schemas of the target: those of the worker's own, and
/// those of the task, which may have foreign keys and views.
pub(super) fn target(
    user: &User,
    (meta, schemas): (&BTreeSet<String>, &BTreeSet<String>),
    (has_foreign_keys, has_views): (bool, bool),
    writes: bool,
) -> Vec<Problem> {
    let more = [
        has_foreign_keys.then_some("REFERENCES"),
        has_views.then_some("CREATE VIEW"),
    ];
    // What is missing in which schemas, and whether nothing can be done without.
    let mut lacks: BTreeMap<(bool, Vec<&str>), Vec<String>> = BTreeMap::new();
    for schema in meta.union(schemas) {
        let more = more.into_iter().filter(|_| schemas.contains(schema));
        let wanted = WRITES.into_iter().chain(more.flatten());
        let missing = wanted.filter(|privilege| !user.grants.in_schema(privilege, schema));
        let missing: Vec<_> = missing.collect();
        let needed = &NOTES[..if writes { NOTES.len() } else { 1 }];
        let is_needed = |privilege| needed.contains(privilege);
        let stops = meta.contains(schema) && missing.iter().any(is_needed);
        if !missing.is_empty() {
            let concerns = lacks.entry((stops, missing)).or_default();
            concerns.push(schema.clone());
        }
    }
    let problem = |((stops, missing), concerns): ((bool, Vec<&str>), Vec<String>)| Problem {
        concerns,
        state: if stops { State::Fail } else { State::Warn },
        ..Problem::warn(
            format!(
                "the target's user {} lacks {} in schemas that it writes to",
                user.name,
                missing.join(", ")
            ),
            user.advice(&missing, "<schema>.*"),
        )
    };
    lacks.into_iter().map(problem).collect()
}

/// Whether the target lets its user make views, by name, of these definers, for which it wants a
/// privilege.
pub(super) fn definers<'a>(
    user: &User,
    wanted: &str,
    views: impl IntoIterator<Item = (&'a TableName, &'a String)>,
) -> Option<Problem> {
    if user.grants.everywhere(wanted) || user.grants.everywhere("SUPER") {
        return None;
    }
    let others = views.into_iter().filter(|(_, name)| **name != user.name);
    let concerns: Vec<_> = others.map(|(view, _)| view.to_string()).collect();
    (!concerns.is_empty()).then(|| Problem {
        concerns,
        ..Problem::warn(
            format!(
                "the target's user {} may not make views of another definer, which are left out",
                user.name
            ),
            user.advice(&[wanted], "*.*")
                + " A definer that MySQL does not have wants ALLOW_NONEXISTENT_DEFINER as well, \
                   one that has SYSTEM_USER the same. Or make the views yourself.",
        )
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::check::{grants::Names, tables::tests::table};

    fn user(rows: &[&str]) -> User {
        User {
            name: "`u`@`%`".into(),
            grants: Grants::parse(rows.iter().copied(), Names::default()),
            uses_roles: true,
        }
    }

    #[test]
    fn each_privilege_for_the_binlog_is_named() {
        let reads = "GRANT REPLICATION SLAVE, REPLICATION CLIENT ON *.* TO `u`@`%`";
        assert_eq!(replication(&user(&[reads]), Flavor::Mysql, true), None);
        let monitor = "GRANT REPLICATION SLAVE, BINLOG MONITOR ON *.* TO `u`@`%`";
        assert_eq!(replication(&user(&[monitor]), Flavor::Mariadb, true), None);
        for (flavor, right) in [
            (Flavor::Mariadb, "BINLOG MONITOR"),
            (Flavor::Mysql, "REPLICATION CLIENT"),
        ] {
            let only = user(&[&format!("GRANT {right} ON *.* TO `u`@`%`")]);
            assert_eq!(replication(&only, flavor, false), None);
            assert!(replication(&only, flavor, true).is_some());
        }
        let found = replication(&user(&[monitor]), Flavor::Mysql, false).unwrap();
        assert!(
            found.reason.contains("lacks REPLICATION CLIENT,"),
            "{found:?}"
        );
        let found = replication(&user(&[]), Flavor::Mysql, true).unwrap();
        assert!(
            found
                .advice
                .contains("GRANT REPLICATION SLAVE, REPLICATION CLIENT ON *.* TO `u`")
        );
    }

    /// Privileges, `--consistency`, GTIDs, and what comes of them.
    #[test]
    fn a_snapshot_needs_to_see_and_to_hold_off() {
        let select = "GRANT SELECT ON *.* TO `u`@`%`";
        let lock = "GRANT LOCK TABLES ON `d`.* TO `u`@`%`";
        let flush = "GRANT FLUSH_TABLES ON *.* TO `u`@`%`";
        let reload = "GRANT RELOAD ON *.* TO `u`@`%`";
        let cases: [(&[&str], &str, bool, &str); 11] = [
            (&[select, reload], "auto", false, ""),
            (&[select, flush], "flush", false, ""),
            (&[select, lock], "auto", false, ""),
            (&[select, lock], "lock", false, ""),
            (&[reload], "auto", false, "lacks SELECT"),
            (&[select, lock], "flush", true, "lacks RELOAD"),
            (&[select, reload], "lock", true, "lacks LOCK TABLES"),
            (&[select], "auto", false, "nothing tells what rows lack"),
            (
                &[select, reload],
                "none",
                false,
                "nothing tells what rows lack",
            ),
            (&[select], "auto", true, "a table without a key"),
            (&[select], "none", true, "a table without a key"),
        ];
        let tables: Tables = [table("k", &["a"], 0), table("t", &["a"], 1)]
            .map(|facts| (facts.table.name.clone(), facts))
            .into();
        for (rows, consistency, by_gtid, expected) in cases {
            let dump = Dump {
                user: &user(rows),
                tables: &tables,
                schemas: ["d".to_owned()].into(),
                consistency: consistency.parse().unwrap(),
                by_gtid,
                follows: true,
                goes_on: true,
            };
            let found = dump.check();
            assert_eq!(found.len(), usize::from(!expected.is_empty()), "{found:?}");
            if let Some(problem) = found.first() {
                assert_eq!(problem.state, State::Fail);
                assert!(problem.reason.contains(expected), "{problem:?}");
            }
        }
    }

    #[test]
    fn tables_that_can_not_be_seen_are_hinted_at() {
        let one = "GRANT SELECT ON `d`.`t` TO `u`@`%`";
        let reload = "GRANT RELOAD ON *.* TO `u`@`%`";
        let whole = "GRANT SELECT ON `d`.* TO `u`@`%`";
        let tables: Tables = [table("t", &["a"], 1)]
            .map(|facts| (facts.table.name.clone(), facts))
            .into();
        let check = |rows: &[&str], schemas: &[&str]| {
            let dump = Dump {
                user: &user(rows),
                tables: &tables,
                schemas: schemas.iter().map(|&name| name.to_owned()).collect(),
                consistency: Consistency::Auto,
                by_gtid: true,
                follows: true,
                goes_on: true,
            };
            dump.check()
        };
        assert_eq!(check(&[reload, whole], &["d"]), []);
        assert_eq!(check(&[reload, one], &[]), []);
        let found = check(&[reload, one], &["d", "e"]);
        assert_eq!(found.len(), 1);
        assert_eq!(found[0].state, State::Warn);
        assert_eq!(found[0].concerns, ["`d`", "`e`"]);
        assert!(
            found[0].advice.contains("GRANT SELECT ON <schema>.* TO"),
            "{found:?}"
        );
    }

    #[test]
    fn a_view_must_be_shown() {
        let mut view = table("v", &["a"], 1);
        view.kind = Kind::View;
        let tables: Tables = [table("t", &["a"], 1), view]
            .map(|facts| (facts.table.name.clone(), facts))
            .into();
        let check = |select: &str| {
            let dump = Dump {
                user: &user(&["GRANT RELOAD ON *.* TO `u`@`%`", select]),
                tables: &tables,
                schemas: BTreeSet::new(),
                consistency: Consistency::Auto,
                by_gtid: true,
                follows: true,
                goes_on: true,
            };
            dump.check()
        };
        let found = check("GRANT SELECT ON `d`.* TO `u`@`%`");
        assert_eq!(found.len(), 1, "{found:?}");
        assert_eq!(found[0].concerns, ["`d`.`v`"]);
        assert!(found[0].advice.contains("GRANT SHOW VIEW"), "{found:?}");
        assert_eq!(check("GRANT SELECT, SHOW VIEW ON `d`.* TO `u`@`%`"), []);
    }

    #[test]
    fn without_a_lock_a_binlog_has_to_follow() {
        let select = "GRANT SELECT ON *.* TO `u`@`%`";
        let tables: Tables = [table("t", &["a"], 1)]
            .map(|facts| (facts.table.name.clone(), facts))
            .into();
        let cases = [
            ("auto", true, None),
            ("none", true, None),
            ("auto", false, Some(State::Fail)),
            ("none", false, Some(State::Warn)),
        ];
        for (consistency, goes_on, expected) in cases {
            let dump = Dump {
                user: &user(&[select]),
                tables: &tables,
                schemas: ["d".to_owned()].into(),
                consistency: consistency.parse().unwrap(),
                by_gtid: true,
                follows: goes_on,
                goes_on,
            };
            let states: Vec<_> = dump.check().into_iter().map(|it| it.state).collect();
            assert_eq!(states, Vec::from_iter(expected), "{consistency} {goes_on}");
        }
    }

    #[test]
    fn nothing_to_copy_is_worse_where_nothing_follows() {
        for (goes_on, state) in [(true, State::Warn), (false, State::Fail)] {
            let dump = Dump {
                user: &user(&[]),
                tables: &Tables::new(),
                schemas: ["d".to_owned()].into(),
                consistency: Consistency::Auto,
                by_gtid: true,
                follows: goes_on,
                goes_on,
            };
            assert_eq!(dump.check()[0].state, state);
        }
    }

    #[test]
    fn schemas_that_lack_the_same_are_told_together() {
        let user = user(&[
            "GRANT ALL PRIVILEGES ON `a`.* TO `u`@`%`",
            "GRANT SELECT, INSERT, UPDATE, DELETE, CREATE, DROP, INDEX ON `b%`.* TO `u`@`%`",
        ]);
        let schemas = ["a", "b1", "b2"].map(str::to_owned).into();
        let none = BTreeSet::new();
        let found = target(&user, (&none, &schemas), (true, true), true);
        assert_eq!(found.len(), 1);
        assert_eq!(found[0].concerns, ["b1", "b2"]);
        assert!(
            found[0]
                .reason
                .contains("lacks ALTER, REFERENCES, CREATE VIEW in"),
            "{found:?}"
        );
        assert_eq!(found[0].state, State::Warn);
        let own = target(&user, (&schemas, &none), (true, true), true);
        assert!(own[0].reason.contains("lacks ALTER in"), "{own:?}");
        assert_eq!(own[0].state, State::Warn);
        let a = ["a".to_owned()].into();
        assert_eq!(target(&user, (&none, &a), (true, true), true), []);
    }

    #[test]
    fn views_want_their_definers() {
        let view = |name, definer: &str| (TableName::new("d", name), definer.to_owned());
        let views = BTreeMap::from([view("mine", "`u`@`%`"), view("other", "`v`@`%`")]);
        let check = |grants: &str| definers(&user(&[grants]), "SET USER", &views);
        let all = "GRANT ALL PRIVILEGES ON `d`.* TO `u`@`%`";
        let problem = check(all).unwrap();
        assert_eq!(problem.concerns, ["`d`.`other`"]);
        assert!(
            problem.advice.contains("GRANT SET USER ON *.*"),
            "{problem:?}"
        );
        for privilege in ["SUPER", "SET USER", "ALL PRIVILEGES"] {
            assert_eq!(check(&format!("GRANT {privilege} ON *.* TO `u`@`%`")), None);
        }
        let none = BTreeMap::from([view("mine", "`u`@`%`")]);
        assert_eq!(definers(&user(&[all]), "SET USER", &none), None);
    }

    #[test]
    fn nothing_is_done_without_notes() {
        let (meta, schemas) = (["m".to_owned()].into(), ["d".to_owned()].into());
        let states = |privileges: &str, writes| {
            let user = user(&[&format!("GRANT {privileges} ON *.* TO `u`@`%`")]);
            let found = target(&user, (&meta, &schemas), (false, false), writes);
            let states = found.into_iter();
            let states = states.map(|it| (it.state, it.concerns.join(" ")));
            Vec::from_iter(states)
        };
        let told = |state, names: &str| (state, names.to_owned());
        let both = [told(State::Warn, "d"), told(State::Fail, "m")];
        assert_eq!(states("SELECT, CREATE", true), both);
        assert_eq!(states("SELECT, INSERT, UPDATE, DELETE", true), both);
        // A dump notes nothing there.
        assert_eq!(states("SELECT, CREATE", false), [told(State::Warn, "d m")]);
        assert_eq!(states("SELECT, INSERT", false), both);
    }

    #[test]
    fn a_role_that_sleeps_is_mentioned() {
        let mut user = user(&["GRANT `reader`@`%` TO `u`@`%`"]);
        user.uses_roles = false;
        let found = replication(&user, Flavor::Mysql, true).unwrap();
        assert!(found.advice.contains("(reader)"), "{found:?}");
    }
}
