//! Which schemas and tables a task replicates.

mod pattern;

use alloc::{format, string::String, vec::Vec};

pub use pattern::Pattern;

use super::schema::TableName;
use crate::{
    control::rules::{BlockAllowList, TablePattern},
    error::{Error, Result, code},
};

/// Schemas of the server itself, never replicated.
const SYSTEM_SCHEMAS: [&str; 7] = [
    "DM_HEARTBEAT",
    "SYS",
    "MYSQL",
    "INFORMATION_SCHEMA",
    "INSPECTION_SCHEMA",
    "PERFORMANCE_SCHEMA",
    "METRICS_SCHEMA",
];

/// A compiled block-allow list.
#[derive(Clone, Debug, Default)]
pub struct Filter {
    do_dbs: Vec<Pattern>,
    ignore_dbs: Vec<Pattern>,
    do_tables: Vec<(Pattern, Pattern)>,
    ignore_tables: Vec<(Pattern, Pattern)>,
}

impl Filter {
    /// Compiles the lists.
    ///
    /// # Errors
    /// A pattern that is empty or invalid.
    pub fn new(lists: &BlockAllowList, case_sensitive: bool) -> Result<Self> {
        let pattern = |list: &str, text: &str| {
            Pattern::new(text, case_sensitive).map_err(|why| {
                let message = format!("generate block allow list: {list}: {why}");
                Error::new(&code::SYNCER_UNIT_GEN_BA_LIST, message)
            })
        };
        let schemas = |list: &'static str, texts: &Option<Vec<String>>| {
            let texts = texts.iter().flatten();
            texts
                .map(|text| pattern(list, text))
                .collect::<Result<Vec<_>>>()
        };
        let tables = |list: &'static str, patterns: &Option<Vec<TablePattern>>| {
            let pair =
                |of: &TablePattern| Ok((pattern(list, &of.db_name)?, pattern(list, &of.tbl_name)?));
            patterns
                .iter()
                .flatten()
                .map(pair)
                .collect::<Result<Vec<_>>>()
        };
        Ok(Self {
            do_dbs: schemas("do-dbs", &lists.do_dbs)?,
            ignore_dbs: schemas("ignore-dbs", &lists.ignore_dbs)?,
            do_tables: tables("do-tables", &lists.do_tables)?,
            ignore_tables: tables("ignore-tables", &lists.ignore_tables)?,
        })
    }

    /// Whether a table, or a schema where the table's name is empty, is replicated. The answer
    /// never changes, so ask once per table.
    pub fn allows(&self, name: &TableName) -> bool {
        !is_system_schema(&name.schema) && self.allows_schema(name) && self.allows_table(name)
    }

    fn allows_schema(&self, name: &TableName) -> bool {
        let listed = |list: &[Pattern]| list.iter().any(|pattern| pattern.matches(&name.schema));
        if self.do_dbs.is_empty() {
            !listed(&self.ignore_dbs)
        } else {
            listed(&self.do_dbs)
        }
    }

    fn allows_table(&self, name: &TableName) -> bool {
        let listed = |list: &[(Pattern, Pattern)]| {
            list.iter()
                .any(|(schema, table)| schema.matches(&name.schema) && table.matches(&name.table))
        };
        name.table.is_empty()
            || listed(&self.do_tables)
            || (self.do_tables.is_empty() && !listed(&self.ignore_tables))
    }
}

/// Whether a schema belongs to the server itself.
pub fn is_system_schema(schema: &str) -> bool {
    SYSTEM_SCHEMAS
        .iter()
        .any(|system| system.eq_ignore_ascii_case(schema))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn lists(do_dbs: &[&str], ignore_dbs: &[&str], on: &[&str], off: &[&str]) -> BlockAllowList {
        let owned = |list: &[&str]| Some(list.iter().map(|&text| text.into()).collect());
        let names = |list: &[&str]| {
            let pattern = |text: &&str| {
                let (schema, table) = text.split_once('/').unwrap();
                TablePattern {
                    db_name: schema.into(),
                    tbl_name: table.into(),
                }
            };
            Some(list.iter().map(pattern).collect())
        };
        BlockAllowList {
            do_dbs: owned(do_dbs),
            ignore_dbs: owned(ignore_dbs),
            do_tables: names(on),
            ignore_tables: names(off),
        }
    }

    #[test]
    fn lists_are_evaluated_in_order() {
        // Lists, names kept, names dropped; a name without `/` is a schema.
        let table: &[(BlockAllowList, &[&str], &[&str])] = &[
            (
                lists(&[], &[], &[], &[]),
                &["a/t", "a"],
                &["mysql/user", "Sys", "dm_heartbeat/x"],
            ),
            (
                lists(&["a*"], &["ab"], &[], &[]),
                &["ab/t", "A", "a"],
                &["b/t", "b"],
            ),
            (
                lists(&[], &["ab", "~^x"], &[], &[]),
                &["a/t", "yx"],
                &["ab/t", "XY", "x/t"],
            ),
            (
                lists(&[], &[], &["a/t*"], &[]),
                &["a/t1", "a", "b"],
                &["a/x", "b/t1"],
            ),
            (
                lists(&[], &[], &[], &["a/t*"]),
                &["a/x", "b/t1", "a"],
                &["a/t1"],
            ),
            (
                lists(&[], &[], &["a/t1"], &["a/t*"]),
                &["a/t1"],
                &["a/t2", "b/t1"],
            ),
            (
                lists(&["a"], &[], &["b/t"], &[]),
                &["a"],
                &["a/t", "b/t", "b"],
            ),
            (
                lists(&[], &[], &["~^s\\d$/t?", "p/~^x"], &[]),
                &["s1/t1", "p/xy"],
                &["s1/t", "s11/t1", "p/y", "s1/xy"],
            ),
            // Both halves of one rule must match; those of two rules are not mixed.
            (
                lists(&[], &[], &["~^a$/t1", "~^b$/t2"], &[]),
                &["a/t1", "b/t2"],
                &["a/t2"],
            ),
        ];
        for (lists, kept, dropped) in table {
            let filter = Filter::new(lists, false).unwrap();
            for (names, expected) in [(kept, true), (dropped, false)] {
                for name in *names {
                    let (schema, table) = name.split_once('/').unwrap_or((name, ""));
                    let allowed = filter.allows(&TableName::new(schema, table));
                    assert_eq!(allowed, expected, "{name} by {lists:?}");
                }
            }
        }
    }

    #[test]
    fn a_bad_pattern_is_refused_with_its_list() {
        for bad in [
            lists(&[""], &[], &[], &[]),
            lists(&[], &["a*b"], &[], &[]),
            lists(&[], &[], &["a/"], &[]),
            lists(&[], &[], &[], &["~(/t"]),
        ] {
            let error = Filter::new(&bad, false).unwrap_err();
            assert_eq!(error.code, 36060);
            assert!(error.message.contains("-dbs") || error.message.contains("-tables"));
        }
    }
}
