//! What servers write into their binlogs as statements is understood, and other servers take it.

use dm_core::sync::{
    ddl::{Context, Name, Statement, classify},
    schema::TableName,
};
use dm_tests::{
    Result,
    servers::{Brand, Database, Role},
    sql::Client,
};

/// Statements that each server takes, in the schema that is routed.
const COMMON: &[&str] = &[
    "CREATE TABLE plain (id INT PRIMARY KEY, `a.b` INT, c VARCHAR(20) DEFAULT 'x;''y')",
    "create table `back``quote` (id int primary key) comment='CREATE TABLE `x` -- y'",
    "CREATE TABLE parent (id INT PRIMARY KEY)",
    "CREATE TABLE child (id INT PRIMARY KEY, p INT, FOREIGN KEY (p) REFERENCES parent (id))",
    "CREATE TABLE copy LIKE plain",
    "CREATE TABLE drop_a (id INT)",
    "CREATE TABLE drop_b (id INT)",
    "/* app=1 */ ALTER /* x */ TABLE plain ADD COLUMN d INT AFTER id, ADD INDEX i_d (d), \
     DROP COLUMN c -- done",
    "ALTER TABLE plain RENAME INDEX i_d TO i_e, RENAME TO renamed, RENAME COLUMN d TO e",
    "RENAME TABLE renamed TO swap, copy TO renamed, swap TO copy",
    "CREATE UNIQUE INDEX `on` ON copy (e)",
    "CREATE INDEX second USING BTREE ON copy (`a.b`)",
    "DROP INDEX second ON copy",
    "CREATE TABLE parted (id INT) PARTITION BY RANGE (id) (PARTITION p VALUES LESS THAN (9))",
    "CREATE TABLE loose (id INT)",
    "ALTER TABLE parted EXCHANGE PARTITION p WITH TABLE loose",
    "TRUNCATE TABLE copy",
    "DROP TABLE IF EXISTS drop_a, drop_b, drop_c",
    "CREATE OR REPLACE VIEW v AS SELECT 1",
    "CREATE TRIGGER t BEFORE INSERT ON copy FOR EACH ROW SET NEW.e = 1",
    "CREATE PROCEDURE p() BEGIN SELECT 'it''s; END'; END",
    "ALTER DATABASE CHARACTER SET utf8mb4",
    "SET SESSION sql_mode = 'ANSI_QUOTES'",
    "CREATE TABLE \"ansi\" (\"id\" INT PRIMARY KEY)",
    "ALTER TABLE \"ansi\" COMMENT 'x'",
    "SET SESSION sql_mode = DEFAULT",
    "ANALYZE TABLE copy",
];

/// Only MariaDB takes these.
const MARIADB: &[&str] = &[
    "CREATE OR REPLACE TABLE parent2 (id INT PRIMARY KEY)",
    "CREATE OR REPLACE TABLE parent2 (id BIGINT PRIMARY KEY)",
    "ALTER TABLE IF EXISTS parent2 ADD COLUMN IF NOT EXISTS a INT",
    "CREATE INDEX IF NOT EXISTS i ON parent2 (a)",
    "DROP INDEX IF EXISTS i ON parent2",
    "RENAME TABLE IF EXISTS parent2 TO parent3",
    "SET STATEMENT lock_wait_timeout=5 FOR ALTER TABLE parent3 ADD b INT",
];

#[tokio::test(flavor = "multi_thread")]
async fn mysql_to_mysql() -> Result<()> {
    replay(Brand::Mysql, Brand::Mysql, &[]).await
}

#[tokio::test(flavor = "multi_thread")]
async fn mysql_to_mariadb() -> Result<()> {
    replay(Brand::Mysql, Brand::Mariadb, &[]).await
}

#[tokio::test(flavor = "multi_thread")]
async fn mariadb_to_mysql() -> Result<()> {
    replay(Brand::Mariadb, Brand::Mysql, MARIADB).await
}

/// Runs statements on a source and what its binlog says about them on a target; then both must
/// have the same tables.
async fn replay(from: Brand, to: Brand, more: &[&str]) -> Result<()> {
    let mut source = Client::connect(Database::shared(from, Role::Source)?).await?;
    let mut target = Client::connect(Database::shared(to, Role::Target)?).await?;
    let (here, there) = (
        format!("from_{from:?}_{to:?}"),
        format!("to_{from:?}_{to:?}"),
    );
    let (here, there) = (here.to_lowercase(), there.to_lowercase());
    let start = end_of_binlog(&mut source).await?;
    source.run(&format!("CREATE DATABASE {here}")).await?;
    source.run(&format!("USE {here}")).await?;
    for sql in COMMON.iter().chain(more) {
        source.run(sql).await?;
    }
    target
        .run(&format!("DROP DATABASE IF EXISTS {there}"))
        .await?;
    let mut applied = 0;
    for (schema, sql) in statements(&mut source, &start).await? {
        if schema != here && !sql.contains(&here) {
            continue;
        }
        // The mode stands in the event, but not in what the server shows of it.
        let sql_mode = if sql.contains("\"ansi\"") { 4 } else { 0 };
        let context = Context {
            schema: &schema,
            sql_mode,
            ..Context::default()
        };
        let Statement::Ddl(ddl) = classify(&sql, context).map_err(|error| error.to_string())?
        else {
            continue;
        };
        for piece in ddl.pieces {
            let routed = |name: &Name| TableName::new(there.as_str(), name.name.table.as_str());
            assert!(
                piece.names.iter().all(|name| name.name.schema == here),
                "{sql}"
            );
            let text = piece.rewrite(&piece.names.iter().map(routed).collect::<Vec<_>>());
            let mode = if sql_mode == 4 {
                "'ANSI_QUOTES'"
            } else {
                "DEFAULT"
            };
            target
                .run(&format!("SET SESSION sql_mode = {mode}"))
                .await?;
            target.run(&text).await?;
            applied += 1;
        }
    }
    assert!(applied > 20, "only {applied} statements");
    let (expected, found) = (
        definitions(&mut source, &here).await?,
        definitions(&mut target, &there).await?,
    );
    assert_eq!(expected, found);
    assert!(expected.len() > 10);
    Ok(())
}

async fn end_of_binlog(source: &mut Client) -> Result<(String, String)> {
    let rows = match source.rows("SHOW BINARY LOG STATUS").await {
        Ok(rows) => rows,
        Err(_) => source.rows("SHOW MASTER STATUS").await?,
    };
    let row = rows.into_iter().next().ok_or("no binlog")?;
    let mut values = row.into_iter().flatten();
    Ok((
        values.next().unwrap_or_default(),
        values.next().unwrap_or_default(),
    ))
}

/// Default schema and text of all statements from a place on.
async fn statements(
    source: &mut Client,
    start: &(String, String),
) -> Result<Vec<(String, String)>> {
    let (file, position) = start;
    let events = source
        .rows(&format!("SHOW BINLOG EVENTS IN '{file}' FROM {position}"))
        .await?;
    let mut statements = Vec::new();
    for event in events {
        let value = |index: usize| event.get(index).cloned().flatten().unwrap_or_default();
        if value(2) != "Query" {
            continue;
        }
        let info = value(5);
        let split = info
            .strip_prefix("use `")
            .and_then(|rest| rest.split_once("`; "));
        let (schema, sql) = split.unwrap_or(("", &info));
        statements.push((schema.to_owned(), sql.to_owned()));
    }
    Ok(statements)
}

/// Columns and keys of all tables, in words that all servers use.
async fn definitions(client: &mut Client, schema: &str) -> Result<Vec<String>> {
    let columns = format!(
        "SELECT c.table_name, c.column_name, c.ordinal_position, c.data_type, c.is_nullable FROM \
         information_schema.columns c JOIN information_schema.tables t ON t.table_schema = \
         c.table_schema AND t.table_name = c.table_name WHERE c.table_schema = '{schema}' AND \
         t.table_type = 'BASE TABLE' ORDER BY 1, 3"
    );
    let keys = format!(
        "SELECT table_name, index_name, seq_in_index, column_name, non_unique FROM \
         information_schema.statistics WHERE table_schema = '{schema}' ORDER BY 1, 2, 3"
    );
    let mut lines = Vec::new();
    for sql in [columns, keys] {
        for row in client.rows(&sql).await? {
            lines.push(
                row.into_iter()
                    .map(Option::unwrap_or_default)
                    .collect::<Vec<_>>()
                    .join(" "),
            );
        }
    }
    Ok(lines)
}
