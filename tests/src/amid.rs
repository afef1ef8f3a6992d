//! Copies that are interrupted amid a table.

use std::time::{Duration, Instant};

use tokio::time::sleep;

use crate::{Result, job::Job, servers::Database, sql::Client, worker::Worker};

/// How long anything may take.
const LIMIT: Duration = Duration::from_secs(60);

/// Rows of a table that takes some seconds.
pub const ROWS: u64 = 120_000;

/// A table with a number as its key, one with texts, and one without any.
///
/// # Errors
/// What the server says.
pub async fn fill(source: &Database, schema: &str) -> Result<()> {
    let mut client = Client::connect(source).await?;
    client
        .run(&format!(
            "CREATE DATABASE {schema}; USE {schema}; \
             CREATE TABLE n (id BIGINT UNSIGNED AUTO_INCREMENT PRIMARY KEY, v INT, pad CHAR(200)); \
             CREATE TABLE s (a VARCHAR(40), b INT, v INT, pad VARCHAR(300), PRIMARY KEY (a, b)); \
             CREATE TABLE k (x INT, pad VARCHAR(200)); \
             CREATE TABLE nothing (id INT PRIMARY KEY)"
        ))
        .await?;
    let numbers = "WITH RECURSIVE r (i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM r WHERE i < ";
    for sql in [
        "SET SESSION /*!80000 cte_max_recursion_depth */ /*M! max_recursive_iterations */ \
         = 100000000"
            .to_owned(),
        format!(
            "INSERT INTO n (v, pad) {numbers}{ROWS}) SELECT i % 97, REPEAT(CHAR(97 + i % 26), 190) \
             FROM r"
        ),
        format!(
            "INSERT INTO s {numbers}{ROWS}) SELECT HEX(i DIV 3 * 2654435761 % 4294967296), i, \
             i % 97, REPEAT('s', i % 290) FROM r"
        ),
        format!("INSERT INTO k {numbers}{ROWS}) SELECT i % 100, REPEAT('k', 195) FROM r"),
    ] {
        client.run(&sql).await?;
    }
    Ok(())
}

/// Kills a worker as soon as some rows of these tables are there.
///
/// # Errors
/// Nothing comes.
pub async fn killed_amid(
    worker: &mut Worker,
    job: &Job,
    target: &Database,
    tables: &[&str],
) -> Result<()> {
    worker.logged(" copying ", LIMIT).await?;
    let begun = format!(
        "SELECT COUNT(DISTINCT source_table) FROM {}.{}_copy \
         WHERE number > 0 AND source_table IN ('{}')",
        job.meta_schema(),
        job.task,
        tables.join("','")
    );
    let (mut there, all) = (Client::connect(target).await?, tables.len().to_string());
    let clock = Instant::now();
    while there.value(&begun).await.unwrap_or_default() != all {
        if clock.elapsed() > LIMIT {
            return Err(worker.explain("nothing is copied".into()));
        }
        sleep(Duration::from_millis(20)).await;
    }
    worker.kill()
}

/// A task that copies all of a schema by two connections, and reads the binlog by GTID.
///
/// # Errors
/// What the source says.
pub async fn job(
    (source, target): (&Database, &Database),
    schema: &str,
    mode: &'static str,
) -> Result<Job> {
    let mut job = Job::new(source, target, &[schema]).await?;
    (job.mode, job.dump.0, job.gtid) = (mode, 2, true);
    Ok(job)
}

/// A copy that was interrupted as soon as some rows of these tables were there, and that goes on
/// after what was executed meanwhile.
///
/// # Errors
/// Nothing comes, or what a server says.
pub async fn interrupted(
    (source, target): (&Database, &Database),
    job: &Job,
    before: &str,
    tables: &[&str],
    meanwhile: &str,
) -> Result<Worker> {
    let schema = &job.schemas[0];
    fill(source, schema).await?;
    let mut client = Client::connect(source).await?;
    client.run(&format!("USE {schema}; {before}")).await?;
    let mut there = Client::connect(target).await?;
    let mut worker = Worker::standalone(job)?;
    worker.logged(" copying ", LIMIT).await?;
    // A row amid `n` waits for this one, however fast the others come, and so does the connection
    // that has it, with what it has read already.
    let amid = ROWS / 2;
    let held = format!("BEGIN; INSERT INTO {schema}.n (id) VALUES ({amid})");
    there.run(&held).await?;
    killed_amid(&mut worker, job, target, tables).await?;
    there.run("ROLLBACK").await?;
    client.run(meanwhile).await?;
    worker.restart()?;
    Ok(worker)
}
