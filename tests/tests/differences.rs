//! What the target does not have, or does not get, is told.

use std::time::Duration;

use dm_tests::{
    Result,
    job::Job,
    servers::{Brand, Database, Options, Role},
    sql::Client,
    worker::Worker,
};

const LIMIT: Duration = Duration::from_secs(60);
/// What the log says of rows that are missing.
const MISSING: &str = "the target did not have rows that were changed at the source";
/// What it says of what is not replicated.
const LEFT_OUT: &str = "a statement about it is not replicated";

/// Without a key, and where a row's key changes, only the number of rows that were found tells.
async fn rows_that_are_missing(source: Brand, target: Brand) -> Result<()> {
    let source = &Database::start(source, Role::Source, &Options::default())?;
    let target = &Database::start(target, Role::Target, &Options::default())?;
    let schema = "missing";
    let job = Job::new(source, target, &[schema]).await?;
    let mut worker = Worker::standalone(&job)?;
    let mut client = Client::connect(source).await?;
    client
        .run(&format!(
            "CREATE DATABASE {schema}; USE {schema}; \
             CREATE TABLE k (a INT, b VARCHAR(9), c FLOAT); \
             CREATE TABLE p (id INT PRIMARY KEY, b INT); \
             INSERT INTO k VALUES (1, 'a', 0.1), (2, NULL, 1e30), (3, 'c', NULL), (3, 'c', NULL); \
             INSERT INTO p VALUES (1, 1), (2, 2), (3, 3); UPDATE k SET b = 'x' WHERE a = 1; \
             UPDATE k SET c = 1 WHERE a = 3; DELETE FROM k WHERE a = 2; \
             UPDATE p SET id = id + 10 ORDER BY id; DELETE FROM p WHERE id = 13"
        ))
        .await?;
    let outcome = job.caught_up(source, target, LIMIT).await;
    outcome.map_err(|error| worker.explain(error))?;
    assert!(!worker.log().contains(MISSING), "{}", worker.log());
    let mut there = Client::connect(target).await?;
    there
        .run(&format!("DELETE FROM {schema}.k; DELETE FROM {schema}.p"))
        .await?;
    client
        .run(
            "UPDATE k SET b = 'y' WHERE a = 1; DELETE FROM k WHERE a = 3; \
             UPDATE p SET id = 1 WHERE id = 11; UPDATE p SET b = 7 WHERE id = 12",
        )
        .await?;
    for table in ["k", "p"] {
        let text = format!("table=`{schema}`.`{table}` rows=");
        worker.logged(&text, LIMIT).await?;
    }
    // It goes on, as the existing worker does.
    let end = "INSERT INTO k VALUES (9, 'z', 0)";
    client.run(end).await?;
    for _ in 0..600 {
        if there
            .value("SELECT COUNT(*) FROM missing.k WHERE a = 9")
            .await?
            == "1"
        {
            break;
        }
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
    let rows: u64 = worker
        .log()
        .lines()
        .filter(|line| line.contains(MISSING))
        .filter_map(|line| line.split_once("rows=")?.1.split(' ').next()?.parse().ok())
        .reduce(|sum: u64, rows| sum + rows)
        .unwrap_or_default();
    assert_eq!(rows, 4, "{}", worker.log());
    worker.stop()
}

#[tokio::test(flavor = "multi_thread")]
async fn rows_that_are_missing_in_mysql() -> Result<()> {
    rows_that_are_missing(Brand::Mysql, Brand::Mysql).await
}

#[tokio::test(flavor = "multi_thread")]
async fn rows_that_are_missing_in_mariadb() -> Result<()> {
    rows_that_are_missing(Brand::Mariadb, Brand::Mariadb).await
}

/// Each is told once, of the schemas that are replicated.
#[tokio::test(flavor = "multi_thread")]
async fn statements_that_are_left_out() -> Result<()> {
    let source = &Database::start(Brand::Mysql, Role::Source, &Options::default())?;
    let target = &Database::start(Brand::Mysql, Role::Target, &Options::default())?;
    let schema = "objects";
    let job = Job::new(source, target, &[schema]).await?;
    let mut worker = Worker::standalone(&job)?;
    let mut client = Client::connect(source).await?;
    client
        .run(&format!(
            "CREATE DATABASE {schema}; CREATE DATABASE other; USE {schema}; \
             CREATE TABLE t (a INT PRIMARY KEY); CREATE VIEW v AS SELECT a FROM t; \
             CREATE TRIGGER g BEFORE INSERT ON t FOR EACH ROW SET NEW.a = NEW.a + 1; \
             CREATE PROCEDURE other.p() SELECT 1; CREATE PROCEDURE p() SELECT 2; \
             DROP VIEW IF EXISTS v; CREATE USER 'x'@'%'; INSERT INTO t VALUES (1)"
        ))
        .await?;
    let outcome = job.caught_up(source, target, LIMIT).await;
    outcome.map_err(|error| worker.explain(error))?;
    worker.stop()?;
    let log = worker.log();
    let told: Vec<_> = log.lines().filter(|line| line.contains(LEFT_OUT)).collect();
    let names = [
        "kind=\"view\" name=`objects`.`v`",
        "kind=\"trigger\" name=`objects`.`g`",
        "kind=\"procedure\" name=`objects`.`p`",
        "kind=\"view\" name=`objects`.`v`",
    ];
    assert_eq!(told.len(), names.len(), "{log}");
    for (line, name) in told.iter().zip(names) {
        assert!(line.contains("WARN") && line.contains(name), "{line}");
    }
    Ok(())
}
