//! Keys of large tables are made when the rows are there, and are what they are in the source.

use std::time::Duration;

use dm_tests::{
    Result,
    job::Job,
    servers::{Brand::Mysql as MYSQL, Database, Options, Role},
    sql::Client,
    worker::Worker,
};

const LIMIT: Duration = Duration::from_secs(120);
const SCHEMA: &str = "copy_keys";
/// Rows of a table that is large enough.
const ROWS: u64 = 80_000;

/// What makes a table, as a server prints it. The next number is not of interest.
async fn definition(client: &mut Client, table: &str) -> Result<String> {
    let rows = client
        .rows(&format!("SHOW CREATE TABLE {SCHEMA}.{table}"))
        .await?;
    let text = rows.into_iter().flatten().flatten().next_back();
    let text = text.ok_or("no such table")?;
    let lines = text
        .lines()
        .map(|line| match line.split_once(" AUTO_INCREMENT=") {
            Some((before, number)) => {
                let (_, behind) = number.split_once(' ').unwrap_or_default();
                format!("{before} {behind}")
            }
            None => line.to_owned(),
        });
    Ok(lines.collect::<Vec<_>>().join("\n"))
}

/// A number that counts up and a foreign key need theirs all the time; a table that was there
/// before is as its owner wants it; and whoever is killed while keys are missing makes them later.
#[tokio::test(flavor = "multi_thread")]
async fn keys_of_large_tables_arrive_with_them() -> Result<()> {
    let source = &Database::start(MYSQL, Role::Source, &Options::default())?;
    let target = &Database::start(MYSQL, Role::Target, &Options::default())?;
    let (mut here, mut there) = (
        Client::connect(source).await?,
        Client::connect(target).await?,
    );
    let pad = "pad CHAR(200)";
    here.run(&format!(
        "CREATE DATABASE {SCHEMA}; USE {SCHEMA}; \
         SET SESSION cte_max_recursion_depth = 100000000; \
         CREATE TABLE plain (id INT PRIMARY KEY, v INT, {pad}, KEY v (v), KEY f ((v + 1)), \
         KEY p (pad(10) DESC) COMMENT 'a, (b', KEY hidden (v, id) INVISIBLE, \
         UNIQUE KEY u (id, v)); \
         CREATE TABLE counts (v INT, id BIGINT NOT NULL AUTO_INCREMENT, {pad}, \
         UNIQUE KEY u (v), KEY id (id), KEY p (pad(9))); \
         CREATE TABLE small (id INT PRIMARY KEY, v INT, KEY v (v)); \
         CREATE TABLE child (id INT PRIMARY KEY, v INT, {pad}, KEY v (v), \
         FOREIGN KEY (v) REFERENCES small (id)); \
         CREATE TABLE owned (id INT PRIMARY KEY, v INT, {pad}, KEY v (v)); \
         INSERT INTO plain WITH RECURSIVE r (i) AS \
         (SELECT 1 UNION ALL SELECT i + 1 FROM r WHERE i < {ROWS}) \
         SELECT i, i * 7919 % {ROWS}, REPEAT(HEX(i * 2654435761 % 4294967296), 24) FROM r; \
         CREATE TABLE twin LIKE plain; INSERT INTO twin SELECT * FROM plain; \
         INSERT INTO counts SELECT id, id, pad FROM plain; \
         INSERT INTO small VALUES (1, 2); \
         INSERT INTO child SELECT id, 1, pad FROM plain; \
         INSERT INTO owned SELECT id, v, pad FROM plain; \
         ANALYZE TABLE plain, twin, counts, child, owned, small"
    ))
    .await?;
    there
        .run(&format!(
            "CREATE DATABASE {SCHEMA}; USE {SCHEMA}; \
             CREATE TABLE owned (id INT PRIMARY KEY, v INT, {pad})"
        ))
        .await?;
    let owned = definition(&mut there, "owned").await?;

    let mut job = Job::new(source, target, &[SCHEMA]).await?;
    job.mode = "all";
    let mut worker = Worker::standalone(&job)?;
    worker.logged(" copying ", LIMIT).await?;
    worker.kill()?;
    let bare = definition(&mut there, "plain").await?;
    assert!(
        !bare.contains("  KEY ") && bare.contains("UNIQUE KEY"),
        "{bare}"
    );
    worker.restart()?;
    worker.logged(",ADD KEY", LIMIT).await?;
    worker.kill()?;
    worker.restart()?;
    let outcome = job.caught_up(source, target, LIMIT).await;
    outcome.map_err(|error| worker.explain(error))?;
    worker.stop()?;
    for table in ["plain", "twin", "counts", "child", "small"] {
        let (wanted, made) = (
            definition(&mut here, table).await?,
            definition(&mut there, table).await?,
        );
        // In whatever order.
        let sorted = |text: &str| {
            let mut lines: Vec<_> = text.lines().map(|it| it.trim_end_matches(',')).collect();
            lines.sort_unstable();
            lines.join("\n")
        };
        assert_eq!(sorted(&made), sorted(&wanted));
    }
    assert_eq!(definition(&mut there, "owned").await?, owned);
    let log = worker.log();
    let says = |text: &str, table: &str| {
        let table = format!("table=`{SCHEMA}`.`{table}`");
        let mut lines = log.lines().filter(|line| line.contains(text));
        lines.any(|line| line.contains(&table))
    };
    assert!(says("its keys are kept", "counts"), "{log}");
    assert!(says("without keys of the source", "owned"), "{log}");
    assert!(!says("without keys of the source", "plain"), "{log}");
    Ok(())
}
