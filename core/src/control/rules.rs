//! Rules: which tables are replicated, into which tables they go, and what is left out.

use alloc::format;
use alloc::string::{String, ToString};
use alloc::vec::Vec;

use regex::Regex;

use crate::error::{Error, Result, code};
use crate::record;

record! {
    /// Where tables go. An empty table pattern makes it a rule for whole schemas.
    RouteRule {
        /// Pattern of the schema at the source.
        schema_pattern: String = "schema-pattern",
        /// Pattern of the table at the source.
        table_pattern: String = "table-pattern",
        /// Schema at the target.
        target_schema: String = "target-schema",
        /// Table at the target; empty for the same name.
        target_table: String = "target-table",
        /// A column made from the table's name.
        extract_table: Option<TableExtractor> = "extract-table",
        /// A column made from the schema's name.
        extract_schema: Option<SchemaExtractor> = "extract-schema",
        /// A column made from the source's id.
        extract_source: Option<SourceExtractor> = "extract-source",
    }
}

record! {
    /// A column whose value is a part of the table's name.
    TableExtractor {
        /// The column at the target.
        target_column: String = "target-column",
        /// Its group is the value.
        table_regexp: String = "table-regexp",
    }
}

record! {
    /// A column whose value is a part of the schema's name.
    SchemaExtractor {
        /// The column at the target.
        target_column: String = "target-column",
        /// Its group is the value.
        schema_regexp: String = "schema-regexp",
    }
}

record! {
    /// A column whose value is a part of the source's id.
    SourceExtractor {
        /// The column at the target.
        target_column: String = "target-column",
        /// Its group is the value.
        source_regexp: String = "source-regexp",
    }
}

record! {
    /// Which changes of matching tables are left out.
    FilterRule {
        /// Pattern of the schema at the source.
        schema_pattern: String = "schema-pattern",
        /// Pattern of the table at the source.
        table_pattern: String = "table-pattern",
        /// Kinds of changes.
        events: Option<Vec<String>> = "events",
        /// Regular expressions of statements.
        sql_pattern: Option<Vec<String>> = "sql-pattern",
        /// `Do`, `Ignore` or `Error`.
        action: String = "action",
    }
}

record! {
    /// Rows that are left out where an expression holds.
    ExpressionFilter {
        /// Schema at the source.
        schema: String = "schema",
        /// Table at the source.
        table: String = "table",
        /// Of the inserted row.
        insert_value_expr: String = "insert-value-expr",
        /// Of the row before an update.
        update_old_value_expr: String = "update-old-value-expr",
        /// Of the row after an update.
        update_new_value_expr: String = "update-new-value-expr",
        /// Of the deleted row.
        delete_value_expr: String = "delete-value-expr",
    }
}

record! {
    /// Which schemas and tables are replicated. A pattern with a leading `~` is a regular
    /// expression.
    BlockAllowList {
        /// Schemas to replicate; all if there are none.
        do_dbs: Option<Vec<String>> = "do-dbs",
        /// Schemas to leave out.
        ignore_dbs: Option<Vec<String>> = "ignore-dbs",
        /// Tables to replicate; all if there are none.
        do_tables: Option<Vec<TablePattern>> = "do-tables",
        /// Tables to leave out.
        ignore_tables: Option<Vec<TablePattern>> = "ignore-tables",
    }
}

record! {
    /// A pattern of tables.
    TablePattern {
        /// Pattern of the schema.
        db_name: String = "db-name",
        /// Pattern of the table.
        tbl_name: String = "tbl-name",
    }
}

/// The actions of a [`FilterRule`].
const ACTIONS: [&str; 3] = ["Do", "Ignore", "Error"];

/// The kinds of changes that a [`FilterRule`] can name.
const EVENTS: &[&str] = &[
    "all",
    "all ddl",
    "all dml",
    "none",
    "none ddl",
    "none dml",
    "insert",
    "update",
    "delete",
    "create database",
    "create schema",
    "drop database",
    "drop schema",
    "alter database",
    "alter schema",
    "create table",
    "drop table",
    "truncate table",
    "rename table",
    "alter table",
    "create index",
    "drop index",
    "create view",
    "drop view",
    "add table partition",
    "drop table partition",
    "truncate table partition",
    "add foreign key",
    "drop foreign key",
    "incompatible ddl changes",
    "value range decrease",
    "precision decrease",
    "modify column",
    "rename column",
    "rename index",
    "drop column",
    "drop primary key",
    "drop unique key",
    "modify default value",
    "modify constraint",
    "modify columns order",
    "modify charset",
    "modify collation",
    "remove auto increment",
    "modify storage engine",
    "reorganize table partition",
    "rebuild table partition",
    "coalesce table partition",
    "split table partition",
    "exchange table partition",
    "modify schema charset and collate",
    "modify table charset and collate",
    "modify table comment",
    "recover table",
    "alter table partitioning",
    "remove partitioning",
    "remove table partitioning",
    "add column",
    "set default value",
    "rebase auto id",
    "add primary key",
    "alter index visibility",
    "alter ttl info",
    "alter ttl remove",
    "multi schema change",
];

impl FilterRule {
    /// Puts names of events and, where letter case does not count, patterns into lower case, and
    /// checks the rule. The existing worker drops a rule that is not valid; here it is an error.
    ///
    /// # Errors
    /// 20037 for an unknown event or action, a missing schema pattern, or a statement pattern that
    /// is not a regular expression.
    pub fn adjust(&mut self, case_sensitive: bool) -> Result<()> {
        if !case_sensitive {
            lower(&mut self.schema_pattern);
            lower(&mut self.table_pattern);
        }
        let invalid = |cause: String| {
            Error::new(
                &code::CONFIG_BINLOG_EVENT_FILTER,
                "generate binlog event filter",
            )
            .with_cause(cause)
        };
        if self.schema_pattern.is_empty() {
            return Err(invalid("`schema-pattern` of a filter is empty".into()));
        }
        if !ACTIONS.contains(&self.action.as_str()) {
            let action = &self.action;
            return Err(invalid(format!(
                "`action` is `{action}`; allowed: Do, Ignore, Error"
            )));
        }
        for event in self.events.iter_mut().flatten() {
            lower(event);
            if !EVENTS.contains(&event.trim()) {
                return Err(invalid(format!(
                    "`events` names an unknown event `{event}`"
                )));
            }
        }
        for pattern in self.sql_pattern.iter().flatten() {
            Regex::new(pattern).map_err(|error| invalid(error.to_string()))?;
        }
        Ok(())
    }
}

impl RouteRule {
    /// Puts patterns into lower case where letter case does not count, and checks the rule.
    ///
    /// # Errors
    /// 20045 for a missing schema pattern or target schema, an extractor without column, and what
    /// is not a regular expression.
    pub fn adjust(&mut self, case_sensitive: bool) -> Result<()> {
        if !case_sensitive {
            lower(&mut self.schema_pattern);
            lower(&mut self.table_pattern);
        }
        let invalid = |cause: String| {
            Error::new(
                &code::CONFIG_GEN_TABLE_ROUTER,
                "generate table router error",
            )
            .with_cause(cause)
        };
        for (key, value) in [
            ("schema-pattern", &self.schema_pattern),
            ("target-schema", &self.target_schema),
        ] {
            if value.is_empty() {
                return Err(invalid(format!("`{key}` of a route is empty")));
            }
        }
        let extractors = [
            self.extract_table
                .as_ref()
                .map(|e| (&e.target_column, &e.table_regexp)),
            self.extract_schema
                .as_ref()
                .map(|e| (&e.target_column, &e.schema_regexp)),
            self.extract_source
                .as_ref()
                .map(|e| (&e.target_column, &e.source_regexp)),
        ];
        for (column, expression) in extractors.into_iter().flatten() {
            if column.is_empty() {
                return Err(invalid("`target-column` of an extractor is empty".into()));
            }
            Regex::new(expression).map_err(|error| invalid(error.to_string()))?;
        }
        for pattern in [&self.schema_pattern, &self.table_pattern] {
            check_pattern(pattern).map_err(invalid)?;
        }
        Ok(())
    }
}

impl BlockAllowList {
    /// Puts patterns into lower case where letter case does not count, and checks the list.
    ///
    /// # Errors
    /// 20044 for what is not a regular expression.
    pub fn adjust(&mut self, case_sensitive: bool) -> Result<()> {
        let tables = self
            .do_tables
            .iter_mut()
            .chain(&mut self.ignore_tables)
            .flatten();
        let tables = tables.flat_map(|table| [&mut table.db_name, &mut table.tbl_name]);
        let schemas = self.do_dbs.iter_mut().chain(&mut self.ignore_dbs).flatten();
        for pattern in schemas.chain(tables) {
            if !case_sensitive {
                lower(pattern);
            }
            check_pattern(pattern).map_err(|cause| {
                Error::new(&code::CONFIG_GEN_BA_LIST, "generate block allow list error")
                    .with_cause(cause)
            })?;
        }
        Ok(())
    }
}

/// Checks the regular expression of a pattern that is one.
fn check_pattern(pattern: &str) -> Result<(), String> {
    match pattern.strip_prefix('~') {
        Some(expression) => Regex::new(expression)
            .map(drop)
            .map_err(|error| error.to_string()),
        None => Ok(()),
    }
}

fn lower(text: &mut String) {
    *text = text.to_lowercase();
}

#[cfg(test)]
mod tests {
    use alloc::vec;

    use super::*;

    fn filter() -> FilterRule {
        FilterRule {
            schema_pattern: "Shop".into(),
            events: Some(vec!["Drop TABLE".into()]),
            action: "Ignore".into(),
            ..FilterRule::default()
        }
    }

    #[test]
    fn letter_case_of_patterns_counts_only_where_wanted() {
        let mut rule = filter();
        rule.adjust(true).expect("valid");
        assert_eq!(rule.schema_pattern, "Shop");
        rule.adjust(false).expect("valid");
        assert_eq!(rule.schema_pattern, "shop");
        assert_eq!(rule.events, Some(vec!["drop table".into()]));
    }

    #[test]
    fn rules_that_cannot_work_are_refused() {
        for broken in [
            FilterRule {
                action: "ignore".into(),
                ..filter()
            },
            FilterRule {
                events: Some(vec!["drop tables".into()]),
                ..filter()
            },
            FilterRule {
                sql_pattern: Some(vec!["(".into()]),
                ..filter()
            },
            FilterRule {
                schema_pattern: String::new(),
                ..filter()
            },
        ] {
            let error = broken.clone().adjust(false).expect_err("not valid");
            assert!(error.is(&code::CONFIG_BINLOG_EVENT_FILTER), "{error}");
        }
        let mut route = RouteRule {
            schema_pattern: "~(".into(),
            ..RouteRule::default()
        };
        assert!(
            route
                .adjust(false)
                .expect_err("no target")
                .is(&code::CONFIG_GEN_TABLE_ROUTER)
        );
        route.target_schema = "b".into();
        assert!(
            route
                .adjust(false)
                .expect_err("no expression")
                .is(&code::CONFIG_GEN_TABLE_ROUTER)
        );
        let mut list = BlockAllowList {
            do_dbs: Some(vec!["~(".into()]),
            ..Default::default()
        };
        assert!(
            list.adjust(false)
                .expect_err("no expression")
                .is(&code::CONFIG_GEN_BA_LIST)
        );
    }
}
