//! The worker alone, between every pair of servers: what arrives is what was written.

use std::time::Duration;

use dm_tests::{
    Result,
    job::Job,
    servers::{Brand, Database, Options, Role},
    sql::Client,
    types::{Columns, TypesTable},
    worker::Worker,
    workload::{Background, Workload},
};
use rand::{RngExt, SeedableRng, rngs::StdRng};
use tokio::time::sleep;

/// How long a busy machine may take to catch up.
const LIMIT: Duration = Duration::from_secs(90);
/// Writers at work beside each other.
const WRITERS: u64 = 3;
/// SIGKILLs of a worker in a usual run.
const KILLS: u32 = 20;

const MYSQL: Brand = Brand::Mysql;
const MARIADB: Brand = Brand::Mariadb;

#[tokio::test(flavor = "multi_thread")]
async fn mysql_to_mysql_by_position() -> Result<()> {
    load(MYSQL, MYSQL, false, "load_mm_pos").await
}

#[tokio::test(flavor = "multi_thread")]
async fn mysql_to_mysql_by_gtid() -> Result<()> {
    load(MYSQL, MYSQL, true, "load_mm_gtid").await
}

#[tokio::test(flavor = "multi_thread")]
async fn mariadb_to_mysql_by_position() -> Result<()> {
    load(MARIADB, MYSQL, false, "load_am_pos").await
}

#[tokio::test(flavor = "multi_thread")]
async fn mariadb_to_mysql_by_gtid() -> Result<()> {
    load(MARIADB, MYSQL, true, "load_am_gtid").await
}

#[tokio::test(flavor = "multi_thread")]
async fn mysql_to_mariadb_by_gtid() -> Result<()> {
    load(MYSQL, MARIADB, true, "load_ma_gtid").await
}

#[tokio::test(flavor = "multi_thread")]
async fn every_type_of_mysql() -> Result<()> {
    types(MYSQL, MYSQL, Columns::Mysql, "types_mm").await?;
    // Printed, a string is like the bytes that it stands for.
    let (source, target) = servers(MYSQL, MYSQL)?;
    let sql = "SELECT JSON_TYPE(json_temporal), JSON_TYPE(json_temporal->'$[0]'), \
               JSON_TYPE(json_temporal->'$.b'), JSON_TYPE(json_temporal->'$.d') \
               FROM types_mm.every_type ORDER BY id";
    let kinds = Client::connect(target).await?.rows(sql).await?;
    assert_eq!(kinds, Client::connect(source).await?.rows(sql).await?);
    let blobs = kinds.iter().flatten().flatten();
    assert!(blobs.filter(|kind| *kind == "BLOB").count() > 2);
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn every_type_of_mariadb() -> Result<()> {
    types(MARIADB, MARIADB, Columns::Common, "types_aa").await
}

#[tokio::test(flavor = "multi_thread")]
async fn common_types_from_mariadb_to_mysql() -> Result<()> {
    types(MARIADB, MYSQL, Columns::Common, "types_am").await
}

#[tokio::test(flavor = "multi_thread")]
async fn common_types_from_mysql_to_mariadb() -> Result<()> {
    types(MYSQL, MARIADB, Columns::Common, "types_ma").await
}

/// The default is that the binlog says nothing about signs, charsets and names.
#[tokio::test(flavor = "multi_thread")]
async fn every_type_of_mariadb_with_metadata() -> Result<()> {
    let source = Database::start(MARIADB, Role::Source, &Options::default())?;
    let target = Database::shared(MYSQL, Role::Target)?;
    for metadata in ["MINIMAL", "FULL"] {
        let sql = format!("SET GLOBAL binlog_row_metadata = {metadata}");
        Client::connect(&source).await?.run(&sql).await?;
        let schema = format!("types_{}", metadata.to_lowercase());
        Client::connect(&source)
            .await?
            .run(
                "CREATE DATABASE IF NOT EXISTS other; \
                 CREATE OR REPLACE TABLE other.compressed (a VARCHAR(9) CHARACTER SET latin1, \
                 t TEXT COMPRESSED CHARACTER SET utf8mb4, b INT UNSIGNED, \
                 v VARCHAR(300) COMPRESSED CHARACTER SET latin1, c TEXT CHARACTER SET gbk); \
                 INSERT INTO other.compressed VALUES ('a', 't', 1, 'v', 'c')",
            )
            .await?;
        copy_types(&source, target, Columns::Common, &schema).await?;
    }

    // A hidden column is known by its name.
    let target = Database::shared(MARIADB, Role::Target)?;
    let job = Job::new(&source, target, &["hashed"]).await?;
    Client::connect(&source)
        .await?
        .run(
            "CREATE DATABASE hashed; USE hashed; \
             CREATE TABLE t (id INT PRIMARY KEY, a TEXT, b INT, UNIQUE KEY (a)); \
             INSERT INTO t VALUES (1, 'x', 1), (2, 'y', 2), (3, NULL, 3); \
             UPDATE t SET a = 'z', b = 4 WHERE id = 2; DELETE FROM t WHERE id = 1",
        )
        .await?;
    let mut worker = Worker::standalone(&job)?;
    caught_up(&job, &worker, &source, target).await?;
    worker.stop()
}

/// What can't be replicated stops nothing where nobody wants it.
#[tokio::test(flavor = "multi_thread")]
async fn what_is_filtered_out_need_not_be_understood() -> Result<()> {
    let (source, target) = servers(MARIADB, MYSQL)?;
    let job = Job::new(source, target, &["wanted"]).await?;
    Client::connect(source)
        .await?
        .run(
            "CREATE DATABASE wanted; CREATE DATABASE unwanted; USE unwanted; \
             CREATE TABLE c (id INT PRIMARY KEY, t TEXT COMPRESSED, v VARCHAR(300) COMPRESSED); \
             INSERT INTO c VALUES (1, REPEAT('x', 1000), 'y'); UPDATE c SET id = 2; \
             SET binlog_format = STATEMENT; UPDATE c SET v = 'z'; DELETE FROM c WHERE id = 2; \
             SELECT 5 INTO OUTFILE 'five'; LOAD DATA INFILE 'five' INTO TABLE c (id); \
             SET binlog_format = ROW; CREATE TABLE wanted.t (id INT PRIMARY KEY); \
             INSERT INTO wanted.t VALUES (1)",
        )
        .await?;
    let mut worker = Worker::standalone(&job)?;
    caught_up(&job, &worker, source, target).await?;
    worker.stop()
}

/// MariaDB can log an ALTER when it starts and again when it is decided.
#[tokio::test(flavor = "multi_thread")]
async fn an_alter_in_two_phases_is_applied_once() -> Result<()> {
    let (source, target) = servers(MARIADB, MYSQL)?;
    let job = Job::new(source, target, &["two_phases"]).await?;
    let mut client = Client::connect(source).await?;
    client
        .run(
            "CREATE DATABASE two_phases; USE two_phases; SET binlog_alter_two_phase = ON; \
             CREATE TABLE t (id INT PRIMARY KEY, a INT); INSERT INTO t VALUES (1, 1), (2, 1); \
             ALTER TABLE t ADD COLUMN b INT DEFAULT 7; INSERT INTO t VALUES (3, 2, 9)",
        )
        .await?;
    let failed = client.run("ALTER TABLE t ADD UNIQUE KEY (a)").await;
    assert!(failed.unwrap_err().to_string().contains("Duplicate"));
    client
        .run("ALTER TABLE t DROP COLUMN a; INSERT INTO t VALUES (4, 5)")
        .await?;
    let mut worker = Worker::standalone(&job)?;
    caught_up(&job, &worker, source, target).await?;
    worker.stop()
}

#[tokio::test(flavor = "multi_thread")]
async fn killed_from_mysql_to_mysql() -> Result<()> {
    killed(MYSQL, MYSQL, true, "kill_mm").await
}

#[tokio::test(flavor = "multi_thread")]
async fn killed_from_mariadb_to_mysql() -> Result<()> {
    killed(MARIADB, MYSQL, false, "kill_am").await
}

#[tokio::test(flavor = "multi_thread")]
async fn killed_from_mysql_to_mariadb() -> Result<()> {
    killed(MYSQL, MARIADB, false, "kill_ma").await
}

/// Alone, nothing but the fence in the target tells the frozen one that it is not the owner.
#[tokio::test(flavor = "multi_thread")]
async fn the_late_write_of_a_frozen_worker_is_refused() -> Result<()> {
    let (source, target) = servers(MYSQL, MYSQL)?;
    let job = Job::new(source, target, &["late_write"]).await?;
    Workload::create(source, "late_write").await?;
    let mut one = Worker::standalone(&job)?;
    caught_up(&job, &one, source, target).await?;
    one.freeze()?;
    let mut two = Worker::standalone(&job)?;
    let mut workload = Workload::open(source, "late_write", 4, false).await?;
    workload.run(50).await?;
    caught_up(&job, &two, source, target).await?;
    one.thaw()?;
    workload.run(50).await?;
    one.logged("is not the owner's", LIMIT).await?;
    let log = one.log();
    let refused = log.lines().find(|line| line.contains("is not the owner's"));
    println!("{}", refused.unwrap_or_default());
    caught_up(&job, &two, source, target).await?;
    one.kill()?;
    two.stop()
}

/// With one slot a source transaction arrives whole, and so in order.
#[tokio::test(flavor = "multi_thread")]
async fn one_slot_keeps_transactions_whole() -> Result<()> {
    let (source, target) = servers(MYSQL, MYSQL)?;
    let mut job = Job::new(source, target, &["one_slot"]).await?;
    job.slots = 1;
    Workload::create(source, "one_slot").await?;
    let mut worker = Worker::standalone(&job)?;
    Workload::open(source, "one_slot", 3, true)
        .await?
        .run(400)
        .await?;
    job.caught_up(source, target, LIMIT).await?;
    worker.stop()
}

/// Random writes while the worker runs, then the comparison, then an orderly stop and a restart
/// that has nothing to do.
async fn load(from: Brand, to: Brand, gtid: bool, schema: &str) -> Result<()> {
    let (source, target) = servers(from, to)?;
    let mut job = Job::new(source, target, &[schema]).await?;
    job.gtid = gtid;
    let mut worker = Worker::standalone(&job)?;
    Workload::create(source, schema).await?;
    let background = Background::start(source, schema, 11, WRITERS, true).await?;
    sleep(Duration::from_secs(4)).await;
    let done = background.stop().await?;
    caught_up(&job, &worker, source, target).await?;
    worker.stop()?;

    worker.restart()?;
    Workload::open(source, schema, 12, false)
        .await?
        .run(50)
        .await?;
    caught_up(&job, &worker, source, target).await?;
    worker.stop()?;
    println!("{schema}: {done:?}");
    Ok(())
}

async fn types(from: Brand, to: Brand, columns: Columns, schema: &str) -> Result<()> {
    let (source, target) = servers(from, to)?;
    copy_types(source, target, columns, schema).await
}

async fn copy_types(
    source: &Database,
    target: &Database,
    columns: Columns,
    schema: &str,
) -> Result<()> {
    let job = Job::new(source, target, &[schema]).await?;
    let table = TypesTable::new(columns);
    table.create(source, schema).await?;
    table.write(source, schema).await?;
    let mut worker = Worker::standalone(&job)?;
    caught_up(&job, &worker, source, target).await?;
    worker.stop()
}

/// SIGKILL at random moments, under load, with a table of every type among what is written.
async fn killed(from: Brand, to: Brand, gtid: bool, schema: &str) -> Result<()> {
    let (source, target) = servers(from, to)?;
    let types = format!("{schema}_types");
    let mut job = Job::new(source, target, &[schema, &types]).await?;
    job.gtid = gtid;
    let table = TypesTable::new(Columns::Common);
    table.create(source, &types).await?;
    Workload::create(source, schema).await?;

    let rounds = dm_tests::rounds(KILLS);
    let mut rng = StdRng::seed_from_u64(dm_tests::seed());
    let mut worker = Worker::standalone(&job)?;
    let background = Background::start(source, schema, dm_tests::seed(), 2, true).await?;
    for round in 0..rounds {
        sleep(Duration::from_millis(rng.random_range(20..900))).await;
        if round == rounds / 2 {
            table.write(source, &types).await?;
        }
        worker.expect_running()?;
        worker.kill()?;
        worker.restart()?;
    }
    let done = background.stop().await?;
    caught_up(&job, &worker, source, target).await?;
    worker.stop()?;
    println!("{schema}: {done:?}");
    Ok(())
}

fn servers(from: Brand, to: Brand) -> Result<(&'static Database, &'static Database)> {
    Ok((
        Database::shared(from, Role::Source)?,
        Database::shared(to, Role::Target)?,
    ))
}

async fn caught_up(job: &Job, worker: &Worker, source: &Database, target: &Database) -> Result<()> {
    let outcome = job.caught_up(source, target, LIMIT).await;
    outcome.map_err(|e| worker.explain(e))
}
