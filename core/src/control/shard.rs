//! Values by which the sources of a task agree on DDLs of tables that go into one table.

use alloc::collections::{BTreeMap, BTreeSet};
use alloc::string::String;
use alloc::vec::Vec;

use super::json::json_object;
pub use super::json::{OneOrMany, Verbatim};

json_object! {
    /// A source has met a DDL and waits for the others (pessimistic mode).
    PessimisticInfo {
        /// The task.
        task: String = "task",
        /// The source.
        source: String = "source",
        /// Schema of the common table.
        schema: String = "schema",
        /// The common table.
        table: String = "table",
        /// The statements.
        ddls: Option<Vec<String>> = "ddls",
    }
}

json_object! {
    /// What a source has to do with its DDL (pessimistic mode). The master compares whole values.
    PessimisticOperation {
        /// The lock.
        id: String = "id",
        /// The task.
        task: String = "task",
        /// The source.
        source: String = "source",
        /// The statements.
        ddls: Option<Vec<String>> = "ddls",
        /// Execute them, rather than pass over them.
        exec: bool = "exec",
        /// It is done; written by the worker.
        done: bool = "done",
    }
}

/// Common schema → common table → schema at the source → tables at the source.
pub type TableMap = BTreeMap<String, BTreeMap<String, BTreeMap<String, BTreeSet<String>>>>;

json_object! {
    /// The tables of a source that go into common tables (optimistic mode).
    SourceTables {
        /// The task.
        task: String = "task",
        /// The source.
        source: String = "source",
        /// The tables.
        tables: TableMap = "tables",
    }
}

json_object! {
    /// A table of a source has met a DDL (optimistic mode).
    OptimisticInfo {
        /// The task.
        task: String = "task",
        /// The source.
        source: String = "source",
        /// Schema of the table at the source.
        up_schema: String = "up-schema",
        /// The table at the source.
        up_table: String = "up-table",
        /// Schema of the common table.
        down_schema: String = "down-schema",
        /// The common table.
        down_table: String = "down-table",
        /// The statements.
        ddls: Option<Vec<String>> = "ddls",
        /// The table before them, in TiDB's model.
        table_info_before: Option<Verbatim> = "table-info-before",
        /// The table after each of them.
        table_info_after: Option<OneOrMany> = "table-info-after",
        /// Go on in spite of a conflict.
        ignore_conflict: bool = "ignore-conflict",
    }
}

json_object! {
    /// What a table of a source has to do with its DDL (optimistic mode). The master compares
    /// whole values.
    OptimisticOperation {
        /// The lock.
        id: String = "id",
        /// The task.
        task: String = "task",
        /// The source.
        source: String = "source",
        /// Schema of the table at the source.
        up_schema: String = "up-schema",
        /// The table at the source.
        up_table: String = "up-table",
        /// The statements to execute.
        ddls: Option<Vec<String>> = "ddls",
        /// `none`, `detected`, `resolved`, `unlocked`, `skip and wait for redirect` or `error`.
        conflict_stage: String = "conflict-stage",
        /// What conflicts.
        conflict_message: String = "conflict-message",
        /// It is done; written by the worker.
        done: bool = "done",
        /// Columns that other tables still have.
        cols: Option<Vec<String>> = "cols",
    }
}

#[cfg(test)]
mod tests {
    use alloc::vec;

    use super::*;

    #[test]
    fn an_old_info_has_one_table_info_without_a_list() {
        let old = OptimisticInfo::parse(b"{\"table-info-after\":{\"id\":1}}").expect("an info");
        let new = OptimisticInfo::parse(b"{\"table-info-after\":[{\"id\":1}]}").expect("an info");
        assert_eq!(old, new);
        assert!(
            new.to_json()
                .contains("\"table-info-before\":null,\"table-info-after\":[{\"id\":1}]")
        );
    }

    #[test]
    fn tables_are_sets_of_empty_objects() {
        let json = r#"{"task":"t","source":"s","tables":{"d":{"t":{"u":{"a":{},"b":{}}}}}}"#;
        let value = SourceTables::parse(json.as_bytes()).expect("source tables");
        assert_eq!(value.to_json(), json);
        assert_eq!(
            SourceTables::default().to_json(),
            "{\"task\":\"\",\"source\":\"\",\"tables\":{}}"
        );
    }

    #[test]
    fn lists_of_statements_escape_and_keep_absence() {
        let info = PessimisticInfo {
            ddls: Some(vec!["a<b".into()]),
            ..Default::default()
        };
        assert!(info.to_json().ends_with("\"ddls\":[\"a\\u003cb\"]}"));
        assert!(
            PessimisticInfo::default()
                .to_json()
                .ends_with("\"ddls\":null}")
        );
    }
}
