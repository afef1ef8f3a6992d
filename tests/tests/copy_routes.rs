//! Copies whose tables are called otherwise in the target, or go into one, and views beside them.

use std::time::{Duration, Instant};

use dm_tests::{
    Result,
    job::Job,
    servers::{Brand, Database, Options, Role},
    sql::{self, Client},
    worker::Worker,
};
use tokio::time::sleep;

/// How long a busy machine may take.
const LIMIT: Duration = Duration::from_secs(60);
/// Rows of a table that takes some seconds.
const ROWS: u64 = 60_000;
/// The schema whose tables go elsewhere, where to, and one that stays.
const FROM: &str = "route_from";
const TO: &str = "route_to";
const STAYS: &str = "route_stays";
/// A schema that the task does not name.
const LEFT_OUT: &str = "route_left";
/// Makes the second of two tables that go into one.
const A2: &str = "CREATE TABLE a2 (id INT PRIMARY KEY, v INT, pad CHAR(200), KEY v (v))";
/// Rows of a table that go into another one.
const MOVED: &str = "id BETWEEN 2 AND 100";
/// Its user may read, and hold nobody off.
const USER: &str = "route_reader";

async fn fill(client: &mut Client) -> Result<()> {
    let rows = format!(
        "WITH RECURSIVE r (i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM r WHERE i < {ROWS})"
    );
    client
        .run(&format!(
            "SET SESSION cte_max_recursion_depth = 1000000; CREATE DATABASE {FROM}; USE {FROM}; \
             CREATE TABLE a1 (id INT PRIMARY KEY, v INT, pad CHAR(200), KEY v (v)); \
             CREATE TABLE a2 LIKE a1; CREATE TABLE `plain `` one` LIKE a1; \
             CREATE TABLE text_key (a VARCHAR(40) PRIMARY KEY, v INT, KEY (v, a)); \
             INSERT INTO a1 {rows} SELECT i * 2, i % 97, REPEAT('a', 190) FROM r; \
             INSERT INTO a2 {rows} SELECT i * 2 + 1, i % 89, REPEAT('b', 190) FROM r; \
             INSERT INTO `plain `` one` SELECT * FROM a1; \
             INSERT INTO text_key {rows} SELECT HEX(i * 2654435761 % 4294967296), i FROM r; \
             CREATE DATABASE {STAYS}; USE {STAYS}; CREATE TABLE t (id INT PRIMARY KEY, v INT); \
             INSERT INTO t VALUES (1, 1), (2, 2); \
             CREATE VIEW a_view_of_a_view AS SELECT 1 AS one; \
             CREATE VIEW v AS SELECT id, v * 2 AS twice FROM t; \
             CREATE OR REPLACE VIEW a_view_of_a_view AS SELECT twice FROM v; \
             CREATE USER {USER} IDENTIFIED BY 'secret'; \
             GRANT SELECT, SHOW VIEW, REPLICATION CLIENT, REPLICATION SLAVE ON *.* TO {USER}",
        ))
        .await
}

/// The task, with routes, whose source is reached as that user.
async fn job(source: &Database, target: &Database) -> Result<Job> {
    let mut job = Job::new(source, target, &[FROM, STAYS]).await?;
    (job.mode, job.dump.0, job.gtid) = ("all", 2, true);
    job.source.user = USER.into();
    job.source.password = "secret".into();
    job.routes = &["merged", "plain", "texts"];
    let route = |name: &str, from: &str, to: &str| {
        format!(
            "  {name}: {{schema-pattern: {FROM}, table-pattern: {from:?}, target-schema: {TO}, \
             target-table: {to:?}}}\n"
        )
    };
    job.task_extra = format!(
        "routes:\n{}{}{}",
        route("merged", "a*", "merged"),
        route("plain", "plain*", "an other"),
        route("texts", "text_key", "texts"),
    );
    Ok(job)
}

/// Without a lock, under load, killed meanwhile.
#[tokio::test(flavor = "multi_thread")]
async fn tables_go_elsewhere() -> Result<()> {
    let source = &Database::start(Brand::Mysql, Role::Source, &Options::default())?;
    let target = &Database::start(Brand::Mysql, Role::Target, &Options::default())?;
    let (mut here, mut there) = (
        Client::connect(source).await?,
        Client::connect(target).await?,
    );
    fill(&mut here).await?;
    let job = job(source, target).await?;
    let mut worker = Worker::standalone(&job)?;
    worker.logged(" copying ", LIMIT).await?;
    let mut kills = 0;
    for round in 1..=400_u64 {
        here.run(&format!(
            "USE {FROM}; UPDATE a1 SET v = v + 1 WHERE id = {round} * 200; \
             DELETE FROM a2 WHERE id = {round} * 90 + 1; \
             UPDATE a2 SET id = id + 1000000 WHERE id = {round} * 94 + 1; \
             INSERT INTO `plain `` one` VALUES ({round} * 2 - 1, {round}, 'new'); \
             UPDATE text_key SET a = CONCAT('x', a) WHERE v = {round} * 100"
        ))
        .await?;
        if round % 50 == 0 && kills < 3 && !worker.log().contains("the copy is over") {
            worker.kill()?;
            worker.restart()?;
            kills += 1;
        }
    }
    assert!(kills > 0, "it was too fast");
    worker.logged("the copy is over", LIMIT).await?;
    // A change of structure waits for all that was written before.
    here.run(&format!(
        "CREATE TABLE {STAYS}.the_end (id INT PRIMARY KEY)"
    ))
    .await?;
    let start = Instant::now();
    while !there.tables(STAYS).await?.iter().any(|it| it == "the_end") {
        if start.elapsed() > LIMIT {
            return Err(worker.explain("the end does not arrive".into()));
        }
        sleep(Duration::from_millis(100)).await;
    }
    for (theirs, ours) in [
        (
            format!("(SELECT * FROM {FROM}.a1 UNION ALL SELECT * FROM {FROM}.a2) x"),
            format!("{TO}.merged"),
        ),
        (format!("{FROM}.`plain `` one`"), format!("{TO}.`an other`")),
        (format!("{FROM}.text_key"), format!("{TO}.texts")),
        (format!("{STAYS}.v"), format!("{STAYS}.v")),
        (
            format!("{STAYS}.a_view_of_a_view"),
            format!("{STAYS}.a_view_of_a_view"),
        ),
    ] {
        let all = |from: &str| format!("SELECT * FROM {from} ORDER BY 1");
        let (a, b) = (
            here.rows(&all(&theirs)).await?,
            there.rows(&all(&ours)).await?,
        );
        assert!(
            !a.is_empty() && a == b,
            "{ours}: {} and {} rows",
            a.len(),
            b.len()
        );
    }
    let keys = format!(
        "SELECT COUNT(DISTINCT TABLE_NAME, INDEX_NAME) FROM information_schema.STATISTICS \
         WHERE TABLE_SCHEMA = '{TO}'"
    );
    assert_eq!(there.value(&keys).await?, "6");
    worker.stop()
}

/// Lets something be done while a worker is away that has copied some rows of one of two tables
/// that go into one; the other one is empty. Then it goes on.
async fn done_amid_a_copy(source: &Database, target: &Database, sql: &str) -> Result<Worker> {
    let (mut here, mut there) = (
        Client::connect(source).await?,
        Client::connect(target).await?,
    );
    fill(&mut here).await?;
    here.run(&format!(
        "CREATE DATABASE {LEFT_OUT}; RENAME TABLE {FROM}.a2 TO {FROM}.a3; TRUNCATE {FROM}.a3"
    ))
    .await?;
    let mut job = job(source, target).await?;
    job.source = source.address().clone();
    let mut worker = Worker::standalone(&job)?;
    let start = Instant::now();
    while there.value(&moved()).await.unwrap_or_default() != "50" {
        assert!(start.elapsed() < LIMIT, "{}", worker.log());
        sleep(Duration::from_millis(5)).await;
    }
    worker.kill()?;
    assert!(
        !worker.log().contains("the copy is over"),
        "it was too fast"
    );
    here.run(&format!("USE {FROM}; {sql}")).await?;
    worker.restart()?;
    Ok(worker)
}

/// The rows that go from one table into another, in the target.
fn moved() -> String {
    format!("SELECT COUNT(*) FROM {TO}.merged WHERE {MOVED}")
}

/// A row went from a table that was copied by then into another one, which was not: what the binlog
/// says of the first must not be the last word.
#[tokio::test(flavor = "multi_thread")]
async fn rows_go_from_one_merged_table_to_another() -> Result<()> {
    let source = &Database::start(Brand::Mysql, Role::Source, &Options::default())?;
    let target = &Database::start(Brand::Mysql, Role::Target, &Options::default())?;
    // What was not written once more need not be undone: the table was not there, or empty.
    let sql = format!(
        "DROP TABLE IF EXISTS a2; {A2}; ALTER TABLE a2 ADD KEY p (pad); \
         ALTER TABLE a2 DROP KEY p; \
         DELETE FROM a1 WHERE {MOVED}; INSERT INTO a2 SELECT * FROM `plain `` one` WHERE {MOVED}"
    );
    let mut worker = done_amid_a_copy(source, target, &sql).await?;
    worker.logged("the copy is over", LIMIT).await?;
    // Behind the copy, a statement of that kind is left out as ever.
    let end = format!(
        "USE {FROM}; CREATE TABLE a4 (id INT PRIMARY KEY, v INT, pad CHAR(200)); \
         RENAME TABLE a4 TO {LEFT_OUT}.a4; CREATE TABLE {STAYS}.the_end (id INT PRIMARY KEY)"
    );
    Client::connect(source).await?.run(&end).await?;
    let mut there = Client::connect(target).await?;
    let start = Instant::now();
    while !there.tables(STAYS).await?.iter().any(|it| it == "the_end") {
        assert!(start.elapsed() < LIMIT, "{}", worker.log());
        sleep(Duration::from_millis(100)).await;
    }
    assert_eq!(there.value(&moved()).await?, "50");
    let merged = format!("SELECT COUNT(*) FROM {TO}.merged");
    assert_eq!(there.value(&merged).await?, ROWS.to_string());
    worker.stop()
}

/// It can be done neither once more, which the other table's rows would feel, nor not at all.
#[tokio::test(flavor = "multi_thread")]
async fn merged_tables_that_change_amid_a_copy_are_told() -> Result<()> {
    for (sql, says) in [
        (
            format!("{A2}; INSERT INTO a2 VALUES (1, 1, 'gone'); TRUNCATE TABLE a2"),
            "changing one of several tables that go into one",
        ),
        // Rows that it was written for come with another name.
        (
            format!(
                "DELETE FROM a1 WHERE {MOVED}; \
                 INSERT INTO a3 SELECT * FROM `plain `` one` WHERE {MOVED}; \
                 RENAME TABLE a3 TO a2"
            ),
            "changing one of several tables that go into one",
        ),
        // They come without a word.
        (
            format!(
                "CREATE TABLE {LEFT_OUT}.a2 LIKE a1; \
                 INSERT INTO {LEFT_OUT}.a2 SELECT * FROM a1 WHERE {MOVED}; \
                 DELETE FROM a1 WHERE {MOVED}; RENAME TABLE {LEFT_OUT}.a2 TO a2"
            ),
            "giving one the name of the other, amid the copy",
        ),
        // And go so.
        (
            format!(
                "{A2}; INSERT INTO a2 VALUES (1, 1, 'gone'); \
                 RENAME TABLE a2 TO {LEFT_OUT}.a2; {A2}"
            ),
            "giving one the name of the other, amid the copy",
        ),
    ] {
        let source = &Database::start(Brand::Mysql, Role::Source, &Options::default())?;
        let target = &Database::start(Brand::Mysql, Role::Target, &Options::default())?;
        let mut worker = done_amid_a_copy(source, target, &sql).await?;
        worker.logged(says, LIMIT).await?;
        worker.stop()?;
    }
    Ok(())
}

/// A copy that nothing follows goes on with the help of the binlog, also what goes into one table,
/// and begins anew where it may not be read.
#[tokio::test(flavor = "multi_thread")]
async fn merged_tables_that_nothing_follows() -> Result<()> {
    // Whether it may be read from the beginning, and later.
    for (first, then) in [(true, true), (false, false), (false, true)] {
        let source = &Database::start(Brand::Mysql, Role::Source, &Options::default())?;
        let target = &Database::start(Brand::Mysql, Role::Target, &Options::default())?;
        let (mut here, mut there) = (
            Client::connect(source).await?,
            Client::connect(target).await?,
        );
        fill(&mut here).await?;
        here.run(&format!("GRANT RELOAD ON *.* TO {USER}")).await?;
        if !first {
            here.run(&format!("REVOKE REPLICATION SLAVE ON *.* FROM {USER}"))
                .await?;
        }
        let mut job = job(source, target).await?;
        job.mode = "full";
        let mut worker = Worker::standalone(&job)?;
        let (meta, task) = (job.meta_schema(), &job.task);
        let tables = format!(
            "SELECT COUNT(DISTINCT source_table) FROM {meta}.{task}_copy \
             WHERE number > 0 AND source_table IN ('a1', 'a2')"
        );
        let start = Instant::now();
        while there.value(&tables).await.unwrap_or_default() != "2" {
            assert!(start.elapsed() < LIMIT, "{}", worker.log());
            sleep(Duration::from_millis(5)).await;
        }
        worker.kill()?;
        assert!(
            !worker.log().contains("the copy is over"),
            "it was too fast"
        );
        here.run(&format!("DELETE FROM {FROM}.a1 WHERE id % 20 = 0"))
            .await?;
        if then && !first {
            // Of what was by then nobody knows.
            here.run(&format!("GRANT REPLICATION SLAVE ON *.* TO {USER}"))
                .await?;
        }
        worker.restart()?;
        assert!(worker.wait(LIMIT)?.success(), "{}", worker.log());
        let log = worker.log();
        let says = "should the copy be interrupted, it begins anew: the source's user";
        assert_eq!(log.contains(says), !first, "{log}");
        let begins_anew = format!("its copy begins anew table=`{FROM}`.`a1`");
        assert_eq!(log.contains(&begins_anew), !first, "{log}");
        let count = there
            .value(&format!("SELECT COUNT(*) FROM {TO}.merged"))
            .await?;
        assert_eq!(count, (2 * ROWS - ROWS / 10).to_string());
    }
    Ok(())
}

/// Where no binlog is applied, nothing would make rows be of one moment.
#[tokio::test(flavor = "multi_thread")]
async fn without_a_lock_a_full_copy_needs_the_binlog() -> Result<()> {
    let source = &Database::start(Brand::Mysql, Role::Source, &Options::default())?;
    let target = &Database::start(Brand::Mysql, Role::Target, &Options::default())?;
    let mut here = Client::connect(source).await?;
    fill(&mut here).await?;
    let mut job = job(source, target).await?;
    (job.mode, job.routes) = ("full", &[]);
    job.task_extra.clear();
    let mut worker = Worker::standalone(&job)?;
    assert!(worker.wait(LIMIT)?.success(), "{}", worker.log());
    assert!(worker.log().contains("reading the binlog"));
    let mut there = Client::connect(target).await?;
    sql::compare_schemas(&mut here, &mut there, &[FROM, STAYS]).await?;

    here.run(&format!("REVOKE REPLICATION SLAVE ON *.* FROM {USER}"))
        .await?;
    job.task = "without".to_owned();
    job.task_extra = "ignore-checking-items: [all]\n".into();
    let mut worker = Worker::standalone(&job)?;
    worker.logged("no binlog follows", LIMIT).await?;
    worker.logged("--consistency none", LIMIT).await?;
    worker.kill()?;
    job.dump.1 = "--consistency none";
    let mut worker = Worker::standalone(&job)?;
    worker.logged("the copy is over", LIMIT).await?;
    assert!(worker.log().contains("rows are of several moments"));
    assert!(worker.wait(LIMIT)?.success());
    Ok(())
}
