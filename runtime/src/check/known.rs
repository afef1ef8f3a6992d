//! A part of a task, with what is known of its source.

use std::collections::BTreeSet;

use dm_core::{
    binlog::Flavor,
    control::rules::BlockAllowList,
    sync::{ddl::Rules, schema::TableName},
};

use super::{
    Part,
    ask::{self, Source},
    item::{Item, Problem, Problems},
    privileges::{Dump, replication},
    schema::{Does, Route},
    server,
    tables::{Facts, Kind},
};

/// A part, and what is known of its source.
pub(super) struct Known<'a> {
    pub(super) part: &'a Part,
    pub(super) rules: Rules,
    pub(super) source: Source,
}

impl Known<'_> {
    pub(super) fn does(&self) -> Does {
        Does {
            copies: self.part.copies(),
            follows: self.part.mode.has_sync(),
            cascades: self.source.variables.logs_cascades(),
            metadata: self.source.variables.row_metadata(),
        }
    }

    /// The tables of the source that have rows and where these go, and those for which that is not
    /// clear.
    pub(super) fn routes(&self) -> (Vec<Route<'_>>, Vec<Problem>) {
        let (mut routes, mut problems) = (Vec::new(), Vec::new());
        for (name, facts) in &self.source.tables {
            if !facts.has_rows() {
                continue;
            }
            match self.rules.target(name) {
                Ok(Some(target)) => routes.push(Route {
                    source: facts,
                    target,
                }),
                Ok(None) => {}
                Err(error) => {
                    let problem = Problem::fail(error.message, error.workaround);
                    problems.push(problem.about(name));
                }
            }
        }
        (routes, problems)
    }

    /// Views that a copy makes, each with its definer: routes may not rename them.
    pub(super) fn views_to_make(&self) -> impl Iterator<Item = (&TableName, &String)> {
        let stays =
            |view: &TableName| self.rules.target(view).ok().flatten().as_ref() == Some(view);
        let views = self.source.definers.iter();
        views.filter(move |(view, _)| stays(view))
    }

    pub(super) fn dump(&self) -> Dump<'_> {
        let variables = &self.source.variables;
        Dump {
            user: &self.source.user,
            tables: &self.source.tables,
            schemas: self.whole_schemas(),
            consistency: self.part.settings().consistency,
            by_gtid: self.part.source.enable_gtid
                && variables.flavor() == Flavor::Mysql
                && variables.get("gtid_mode") == "ON",
            follows: self.part.mode.has_sync(),
            goes_on: self.part.mode.has_sync()
                || self.part.catches_up()
                    && self.obstacles().iter().all(|(_, found)| found.is_empty()),
        }
    }

    /// What keeps the binlog from being applied, or from having all.
    pub(super) fn obstacles(&self) -> Vec<(Item, Vec<Problem>)> {
        let Source {
            variables,
            user,
            logged,
            is_replica,
            replicates,
            tables,
            ..
        } = &self.source;
        let privilege = replication(user, variables.flavor(), true);
        let schemas: BTreeSet<_> = tables.keys().map(|name| &*name.schema).collect();
        let logged = logged.as_ref();
        let logged = logged.and_then(|logged| server::check_logged(logged, schemas));
        let replicated = variables.check_replicated(*is_replica, *replicates);
        vec![
            (Item::ReplicationPrivilege, privilege.into_iter().collect()),
            (
                Item::BinlogFormat,
                variables.check_format(&self.part.source),
            ),
            (Item::BinlogRowImage, variables.check_image()),
            (
                Item::BinlogDb,
                logged.into_iter().chain(replicated).collect(),
            ),
        ]
    }

    /// Schemas that the task wants whatever tables of: those that its lists name, and those that
    /// have tables. Where the lists name each table, nothing is missed.
    fn whole_schemas(&self) -> BTreeSet<String> {
        let is_plain = |text: &&String| !text.starts_with('~') && !text.contains(['*', '?', '[']);
        let lists = self.part.task.tables();
        let of = |names: fn(&BlockAllowList) -> &Option<Vec<String>>| {
            lists
                .and_then(|lists| names(lists).as_ref())
                .into_iter()
                .flatten()
        };
        let tables = lists.and_then(|lists| lists.do_tables.as_ref());
        let tables = || tables.into_iter().flatten();
        let mut patterns = tables().filter(|it| !is_plain(&&it.tbl_name));
        if tables().next().is_some() && patterns.next().is_none() {
            return BTreeSet::new();
        }
        let named = of(|lists| &lists.do_dbs).chain(tables().map(|it| &it.db_name));
        let named = named.filter(is_plain).cloned();
        let seen = self.source.tables.keys().map(|name| name.schema.clone());
        named.chain(seen).collect()
    }

    pub(super) fn ghosts(&self) -> Option<Problem> {
        let ghosts = self.source.ghosts.iter().map(TableName::to_string);
        let concerns: Vec<_> = ghosts.collect();
        (!concerns.is_empty()).then(|| Problem {
            concerns,
            ..Problem::fail(
                "a tool such as gh-ost or pt-online-schema-change fills these tables, to put them \
                 in the place of tables of the task",
                "Wait until the tool is done, or drop what it has left behind.",
            )
        })
    }

    /// What a copy leaves out, or refuses.
    pub(super) fn not_copied(&self) -> Vec<Problem> {
        let mut problems = Problems::default();
        // Where files are all that is wanted, they have JSON as a text.
        let as_text = self.part.has_files() && !self.part.mode.has_sync();
        for (name, facts) in &self.source.tables {
            if let Some(problem) = refused(facts, as_text) {
                problems.add(problem.about(name));
            }
        }
        for (what, names) in ask::left_out(&self.source) {
            let reason = format!("a {what} is not copied").replace("a event", "an event");
            let advice = "Make it in the target, if it is wanted there.";
            for name in names {
                problems.add(Problem::warn(&*reason, advice).about(name));
            }
        }
        problems.list()
    }
}

/// Why no copy can be made of a table, if none can.
fn refused(facts: &Facts, as_text: bool) -> Option<Problem> {
    const EXCLUDE: &str = "exclude the table with the `block-allow-list`.";
    let (reason, advice) = match facts.kind {
        Kind::View | Kind::Sequence => return None,
        Kind::Versioned => (
            "rows of former times (SYSTEM VERSIONING) can't be copied while the table is written"
                .to_owned(),
            "Exclude the table with the `block-allow-list`.".to_owned(),
        ),
        Kind::Base if !facts.transactions => (
            format!(
                "a table without transactions (engine {}) can't be copied while it is written",
                facts.engine
            ),
            format!("Execute ALTER TABLE … ENGINE=InnoDB at the source, or {EXCLUDE}"),
        ),
        Kind::Base if as_text => return None,
        Kind::Base => {
            facts.table.json_without_key()?;
            (
                "a table with a JSON column needs a key: a copy may change types inside of JSON, \
                 and later changes would not find their rows"
                    .to_owned(),
                format!("Give the table a primary key at the source, or {EXCLUDE}"),
            )
        }
    };
    Some(Problem::fail(reason, advice))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::check::{State, tables::tests::table};

    #[test]
    fn what_no_copy_can_be_made_of() {
        let good = table("t", &["a", "j json"], 1);
        assert_eq!(refused(&good, false), None);
        type Change = fn(&mut Facts);
        let cases: [(Change, &str); 3] = [
            (|facts| facts.kind = Kind::Versioned, "SYSTEM VERSIONING"),
            (|facts| facts.transactions = false, "without transactions"),
            (|facts| facts.table.keys.clear(), "JSON column"),
        ];
        for (change, text) in cases {
            let mut facts = good.clone();
            change(&mut facts);
            let problem = refused(&facts, false).expect(text);
            let is_json = text == "JSON column";
            assert_eq!(refused(&facts, true).is_none(), is_json);
            assert_eq!(problem.state, State::Fail);
            assert!(problem.reason.contains(text), "{problem:?}");
            facts.kind = Kind::View;
            assert_eq!(refused(&facts, false), None);
        }
    }
}
