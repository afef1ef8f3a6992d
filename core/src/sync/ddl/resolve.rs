//! From a statement of the source to what the target has to run.

use alloc::{format, string::String, vec::Vec};

use super::{Class, Collations, Ddl, Draft, Kind, OnlineDdl, Role};
use crate::{
    control::{SubtaskConfig, rules::BlockAllowList},
    error::{Error, Result, code},
    sync::{filter::Filter, route::Router, schema::TableName},
};

/// What decides whether and under which name something is replicated.
#[derive(Clone, Debug, Default)]
pub struct Rules {
    /// The block-allow list.
    pub filter: Filter,
    /// The routes.
    pub router: Router,
    /// Set where the tables of online schema change tools are to be recognised.
    pub online: Option<OnlineDdl>,
    /// The collations that are added to what is created; those of the source, or none.
    pub collations: Collations,
}

/// A piece of a statement for the target.
#[derive(Clone, Debug, PartialEq)]
pub struct Piece {
    /// Which piece of the statement it is, counted before any filter, so that another configuration
    /// doesn't shift what is recorded as done.
    pub ordinal: u64,
    /// What it does.
    pub kind: Kind,
    /// What it names in the source, with what it does to it.
    pub sources: Vec<(Role, TableName)>,
    /// The same names in the target, in the same order.
    pub targets: Vec<TableName>,
    /// Whether executing it again would undo it; see [`Draft::swaps`].
    pub swaps: bool,
    /// The text for the target.
    pub sql: String,
}

impl Rules {
    /// Compiles what a task says about tables.
    ///
    /// # Errors
    /// An invalid pattern, or routes that contradict each other.
    pub fn new(task: &SubtaskConfig) -> Result<Self> {
        let none = BlockAllowList::default();
        let list = |rules: &Option<Vec<String>>| rules.clone().unwrap_or_default();
        let (shadow, trash) = (
            list(&task.shadow_table_rules),
            list(&task.trash_table_rules),
        );
        let routes = task.route_rules.as_deref().unwrap_or_default();
        Ok(Self {
            filter: Filter::new(task.tables().unwrap_or(&none), task.case_sensitive)?,
            router: Router::new(routes, task.case_sensitive)?,
            online: task
                .online_ddl
                .then(|| OnlineDdl::new(&shadow, &trash))
                .transpose()?,
            collations: Collations::default(),
        })
    }

    /// The table of the target that gets a source table's rows; `None` if nothing does.
    ///
    /// # Errors
    /// More than one route matches.
    pub fn target(&self, source: &TableName) -> Result<Option<TableName>> {
        if !self.filter.allows(source) || !matches!(self.class(source), Class::Real) {
            return Ok(None);
        }
        self.router.route(source).map(Some)
    }

    /// The pieces that the target has to run: those none of whose names is filtered out.
    ///
    /// # Errors
    /// More than one route matches a name, or the statement belongs to an online schema change.
    pub fn apply(&self, ddl: &Ddl) -> Result<Vec<Piece>> {
        self.apply_collated(ddl, &self.collations)
    }

    /// The same, with other collations for what is created.
    ///
    /// # Errors
    /// As [`Self::apply`].
    pub fn apply_collated(&self, ddl: &Ddl, collations: &Collations) -> Result<Vec<Piece>> {
        let mut pieces = Vec::with_capacity(ddl.pieces.len());
        for (ordinal, draft) in (0..).zip(&ddl.pieces) {
            if !draft
                .names
                .iter()
                .all(|name| self.filter.allows(&self.real(&name.name)))
                || self.is_internal(draft)?
            {
                continue;
            }
            let targets: Vec<TableName> = draft
                .names
                .iter()
                .map(|name| self.router.route(&name.name))
                .collect::<Result<_>>()?;
            pieces.push(Piece {
                ordinal,
                kind: draft.kind,
                sources: draft
                    .names
                    .iter()
                    .map(|name| (name.role, name.name.clone()))
                    .collect(),
                swaps: draft.swaps,
                sql: draft.rewrite_collated(&targets, collations),
                targets,
            });
        }
        Ok(pieces)
    }

    /// Refuses a statement that changes rows, unless nothing that it changes is replicated.
    ///
    /// `table` is the only one in the statement, if there is only one; `schemas` are those that the
    /// source says it touches, which includes what triggers and functions do.
    ///
    /// # Errors
    /// Always the same one, with what it changes.
    pub fn refuse_rows(&self, table: Option<&TableName>, schemas: Option<&[String]>) -> Result<()> {
        let is_left_out = |table: &TableName| {
            !self.filter.allows(table) || !matches!(self.class(table), Class::Real)
        };
        let is_schema_left_out =
            |schema: &String| is_left_out(&TableName::new(schema.as_str(), ""));
        if schemas.is_some_and(|schemas| schemas.iter().all(is_schema_left_out)) {
            return Ok(());
        }
        let is_alone = |table: &TableName| {
            schemas.is_none_or(|schemas| schemas.iter().all(|schema| *schema == table.schema))
        };
        if table.is_some_and(|table| is_left_out(table) && is_alone(table)) {
            return Ok(());
        }
        let changed = match (table, schemas) {
            (_, Some(schemas)) => format!("schemas {}", schemas.join(", ")),
            (Some(table), None) => format!("{table}"),
            (None, None) => "tables that it does not tell".into(),
        };
        let message = format!(
            "only support ROW format binlog, unexpected DML statement found in query event: it \
             changes {changed}"
        );
        Err(Error::new(&code::SYNCER_UNIT_DML_STATEMENT_FOUND, message).with_workaround(
            "Set `binlog_format` to ROW, globally and in every session of the source that changes \
             it. The statement at this position cannot be replicated: make its change to the \
             target by hand and start the task behind it, or exclude the table with the \
             `block-allow-list` if the target does not need it.",
        ))
    }

    fn class(&self, name: &TableName) -> Class {
        match &self.online {
            Some(online) if !name.table.is_empty() => online.class(&name.table),
            _ => Class::Real,
        }
    }

    /// The name behind a helper table's: lists speak of real tables.
    fn real(&self, name: &TableName) -> TableName {
        match self.class(name) {
            Class::Real => name.clone(),
            Class::Ghost(real) | Class::Trash(real) => TableName::new(name.schema.as_str(), real),
        }
    }

    /// Whether a statement concerns nothing but what a tool throws away.
    ///
    /// The tools build a copy of a table and put it in the table's place at the end. The rows that
    /// they copy are not replicated, so the target would have to make the change in its own way at
    /// that moment, which is not supported yet: it is refused as soon as the copy is made, and not
    /// when it is too late.
    fn is_internal(&self, draft: &Draft) -> Result<bool> {
        let class = |role| {
            let name = draft.names.iter().find(|name| name.role == role)?;
            Some((self.class(&name.name), &name.name))
        };
        match (class(Role::Subject), class(Role::NewName)) {
            (Some((Class::Real, _)), None | Some((Class::Real, _))) => Ok(false),
            // The old table leaves, or is thrown away.
            (Some((Class::Real | Class::Trash(_), _)), None | Some((Class::Trash(_), _))) => {
                Ok(true)
            }
            (Some((Class::Ghost(_), _)), None) if draft.kind == Kind::DropTable => Ok(true),
            (Some((Class::Ghost(real), helper)), _)
            | (_, Some((Class::Ghost(real), helper)))
            | (Some((Class::Trash(real), helper)), Some((Class::Real, _))) => {
                Err(refuse(helper, &real))
            }
            (None, _) => Ok(false),
        }
    }
}

fn refuse(helper: &TableName, real: &str) -> Error {
    let message = format!(
        "online schema change of `{}`.`{real}` through {helper} not supported in online-ddl mode",
        helper.schema
    );
    Error::new(&code::SYNCER_UNSUPPORTED_STMT, message).with_workaround(
        "Set `online-ddl: false` and update the task before the tool starts: its helper tables are \
         then replicated like any others, and so is the swap at the end. If it has begun, drop the \
         helper tables in the source first and start it again afterwards.",
    )
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        control::rules::{RouteRule, TablePattern},
        sync::ddl::{Context, Statement, classify},
    };
    use alloc::vec;

    fn ddl(sql: &str) -> Ddl {
        let context = Context {
            schema: "db",
            ..Context::default()
        };
        match classify(sql, context) {
            Ok(Statement::Ddl(ddl)) => ddl,
            other => panic!("{sql}: {other:?}"),
        }
    }

    fn rules(online: bool) -> Rules {
        let pattern = |db: &str, tbl: &str| TablePattern {
            db_name: db.into(),
            tbl_name: tbl.into(),
        };
        let lists = BlockAllowList {
            ignore_tables: Some(vec![pattern("*", "skip*")]),
            ..BlockAllowList::default()
        };
        let route = RouteRule {
            schema_pattern: "shard*".into(),
            table_pattern: "t*".into(),
            target_schema: "all".into(),
            target_table: "t".into(),
            ..RouteRule::default()
        };
        Rules::new(&SubtaskConfig {
            block_allow_list: Some(lists),
            route_rules: Some(vec![route]),
            online_ddl: online,
            shadow_table_rules: Some(vec!["^_(.+)_(?:new|gho)$".into()]),
            trash_table_rules: Some(vec!["^_(.+)_(?:ghc|del|old)$".into()]),
            ..SubtaskConfig::default()
        })
        .unwrap()
    }

    fn applied(rules: &Rules, sql: &str) -> Vec<String> {
        let pieces = rules.apply(&ddl(sql)).unwrap();
        pieces.into_iter().map(|piece| piece.sql).collect()
    }

    #[test]
    fn pieces_are_filtered_and_routed_one_by_one() {
        let rules = rules(false);
        assert_eq!(
            applied(&rules, "DROP TABLE shard1.t1, skip1, mysql.x, u"),
            [
                "DROP TABLE IF EXISTS `all`.`t`",
                "DROP TABLE IF EXISTS `db`.`u`"
            ]
        );
        assert_eq!(
            applied(
                &rules,
                "RENAME TABLE a TO skip1, b TO c, skip2 TO d, shard1.t1 TO shard1.u"
            ),
            [
                "RENAME TABLE `db`.`b` TO `db`.`c`",
                "RENAME TABLE `all`.`t` TO `shard1`.`u`"
            ]
        );
        assert!(applied(&rules, "CREATE TABLE x LIKE skip").is_empty());
        let pieces = rules.apply(&ddl("RENAME TABLE shard1.t1 TO b")).unwrap();
        assert_eq!(
            pieces[0].targets,
            [TableName::new("all", "t"), TableName::new("db", "b")]
        );
        assert_eq!(
            pieces[0].sources[1],
            (Role::NewName, TableName::new("db", "b"))
        );
        assert_eq!(
            rules.target(&TableName::new("shard1", "t9")).unwrap(),
            Some(TableName::new("all", "t"))
        );
        assert_eq!(
            rules.target(&TableName::new("shard1", "skip")).unwrap(),
            None
        );
    }

    #[test]
    fn rows_as_text_are_refused_unless_filtered_out() {
        let rules = rules(true);
        let is_refused = |table: Option<(&str, &str)>, schemas: Option<&[&str]>| {
            let table = table.map(|(schema, table)| TableName::new(schema, table));
            let schemas: Option<Vec<String>> =
                schemas.map(|names| names.iter().map(|&name| name.into()).collect());
            match rules.refuse_rows(table.as_ref(), schemas.as_deref()) {
                Ok(()) => false,
                Err(error) => {
                    assert_eq!(error.code, 36014);
                    true
                }
            }
        };
        assert!(is_refused(Some(("a", "t")), None));
        for name in [("a", "skip"), ("mysql", "rds_heartbeat2"), ("a", "_t_gho")] {
            assert!(!is_refused(Some(name), None), "{name:?}");
            assert!(!is_refused(Some(name), Some(&[name.0])), "{name:?}");
            // A trigger or a function changes something there.
            assert!(is_refused(Some(name), Some(&[name.0, "b"])), "{name:?}");
        }
        assert!(is_refused(None, None));
        assert!(is_refused(None, Some(&["a", "mysql"])));
        assert!(!is_refused(None, Some(&["mysql", "sys"])));
        assert!(!is_refused(Some(("mysql", "x")), Some(&["mysql", "sys"])));
    }

    #[test]
    fn an_online_change_is_refused_when_its_copy_is_made() {
        let rules = rules(true);
        for sql in [
            "create /* gh-ost */ table `db`.`_t_gho` like `db`.`t`",
            "alter /* gh-ost */ table `db`.`_t_gho` add c int",
            "rename /* gh-ost */ table `db`.`_t_gho` to `db`.`t`",
            "CREATE TABLE `db`.`_t_new` (id int)",
            "RENAME TABLE t TO _t_new",
            "RENAME TABLE _t_old TO t",
        ] {
            let error = rules.apply(&ddl(sql)).unwrap_err();
            assert_eq!(error.code, 36068, "{sql}");
            assert!(error.workaround.contains("online-ddl: false"));
        }
        for sql in [
            "drop /* gh-ost */ table if exists `db`.`_t_gho`",
            "drop table if exists `db`.`_t_del`, _t_ghc",
            "create /* gh-ost */ table `db`.`_t_ghc` (id bigint)",
            "RENAME TABLE t TO _t_old",
            // The table behind it is filtered out.
            "ALTER TABLE _skip_gho ADD c INT",
        ] {
            assert_eq!(applied(&rules, sql), [""; 0], "{sql}");
        }
        assert_eq!(rules.target(&TableName::new("db", "_t_gho")).unwrap(), None);
        // Switched off, they are tables like any others.
        assert_eq!(
            applied(&tests::rules(false), "RENAME TABLE _t_gho TO t").len(),
            1
        );
    }
}
