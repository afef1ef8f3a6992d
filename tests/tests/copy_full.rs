//! Copies that no sync unit follows: rows of one moment all the same, whatever happens meanwhile.

use std::time::{Duration, Instant};

use dm_tests::{
    Result,
    amid::{self, ROWS, fill, interrupted},
    job::{Job, Start},
    servers::{Brand, Database, Options, Role},
    sql::{self, Client},
    worker::Worker,
};
use tokio::time::sleep;

const LIMIT: Duration = Duration::from_secs(60);
const MYSQL: Brand = Brand::Mysql;

/// Without a sync unit it ends by itself, and what it has is the snapshot.
#[tokio::test(flavor = "multi_thread")]
async fn a_full_copy_ends() -> Result<()> {
    let source = &Database::start(MYSQL, Role::Source, &Options::default())?;
    let target = &Database::start(MYSQL, Role::Target, &Options::default())?;
    let schema = "copy_full";
    fill(source, schema).await?;
    let mut job = Job::new(source, target, &[schema]).await?;
    job.mode = "full";
    // What is cut off looks whole.
    let limit = async |rows: &str| {
        let set = format!("SET GLOBAL sql_select_limit = {rows}");
        Client::connect(source).await?.run(&set).await?;
        Client::connect(target).await?.run(&set).await
    };
    let are_ours = source.is_ours() && target.is_ours();
    if are_ours {
        limit("3").await?;
    }
    let mut worker = Worker::standalone(&job)?;
    worker.logged("the copy is over", LIMIT).await?;
    if are_ours {
        limit("DEFAULT").await?;
    }
    let (mut a, mut b) = (
        Client::connect(source).await?,
        Client::connect(target).await?,
    );
    sql::compare_schemas(&mut a, &mut b, &[schema]).await?;
    // A worker that runs alone has nothing else to do, and has nothing to do again.
    assert!(worker.wait(LIMIT)?.success());
    worker.restart()?;
    assert!(worker.wait(LIMIT)?.success());
    assert_eq!(worker.log().matches(" copying ").count(), 1);
    // Both go on with the same number.
    let next = format!("INSERT INTO {schema}.n (v) VALUES (1)");
    let last = format!("SELECT MAX(id) FROM {schema}.n");
    a.run(&next).await?;
    b.run(&next).await?;
    assert_eq!(a.value(&last).await?, b.value(&last).await?);
    Ok(())
}

/// What was copied alone is followed later, by the same task in another mode, from where it began.
#[tokio::test(flavor = "multi_thread")]
async fn a_copy_that_is_over_is_followed() -> Result<()> {
    let source = &Database::start(MYSQL, Role::Source, &Options::default())?;
    let target = &Database::start(MYSQL, Role::Target, &Options::default())?;
    let mut client = Client::connect(source).await?;
    for (schema, mode) in [("copy_all", "all"), ("copy_incremental", "incremental")] {
        let table = "n (id INT PRIMARY KEY, v INT)";
        client
            .run(&format!(
                "CREATE DATABASE {schema}; CREATE TABLE {schema}.{table}; \
                 INSERT INTO {schema}.n VALUES (1, 1), (2, 2), (3, 3)"
            ))
            .await?;
        let mut job = Job::new(source, target, &[schema]).await?;
        (job.mode, job.gtid) = ("full", true);
        let mut worker = Worker::standalone(&job)?;
        worker.logged("the copy is over", LIMIT).await?;
        assert!(worker.wait(LIMIT)?.success());
        // Nobody follows by now.
        client
            .run(&format!(
                "USE {schema}; INSERT INTO n VALUES (4, 4); UPDATE n SET v = 20 WHERE id = 2; \
                 DELETE FROM n WHERE id = 3"
            ))
            .await?;
        job.mode = mode;
        // The file names no start.
        job.start = Start::default();
        worker.write_files(&job)?;
        worker.restart()?;
        let outcome = job.caught_up(source, target, LIMIT).await;
        outcome.map_err(|error| worker.explain(error))?;
        worker.stop()?;
    }
    Ok(())
}

/// What changes rows everywhere in the tables of an interrupted copy, behind its first snapshot.
const MEANWHILE: &str = "UPDATE n SET v = v + 1000 WHERE id % 30 = 0; \
                         DELETE FROM n WHERE id % 1000 = 500; \
                         INSERT INTO n (v, pad) VALUES (-7, 'new'); \
                         UPDATE s SET b = b + 1000000 WHERE v = 5; \
                         INSERT INTO k (x, pad) VALUES (1, 'new'); \
                         DELETE FROM k WHERE x = 9 LIMIT 3; \
                         ALTER TABLE nothing ADD COLUMN more INT; \
                         INSERT INTO nothing VALUES (1, 2)";

/// The pieces that were there stay, and the binlog between the snapshots makes their rows those of
/// the last one: up to there, and not further.
#[tokio::test(flavor = "multi_thread")]
async fn an_interrupted_copy_goes_on() -> Result<()> {
    for (brand, gtid) in [
        (MYSQL, true),
        (MYSQL, false),
        (Brand::Mariadb, true),
        (Brand::Mariadb, false),
    ] {
        let source = &Database::start(brand, Role::Source, &Options::default())?;
        let target = &Database::start(MYSQL, Role::Target, &Options::default())?;
        let servers = (source, target);
        let schema = if gtid { "full_gtid" } else { "full_position" };
        let mut job = amid::job(servers, schema, "full").await?;
        job.gtid = gtid;
        // The last file begins behind the last transaction.
        let meanwhile = format!("{MEANWHILE}; FLUSH BINARY LOGS");
        let mut worker = interrupted(servers, &job, "", &["n"], &meanwhile).await?;
        let ended = worker.wait(LIMIT).map_err(|error| worker.explain(error))?;
        assert!(ended.success());
        let log = worker.log();
        assert_eq!(log.matches(" copying ").count(), 2, "{log}");
        assert!(
            !log.contains(&format!("anew table=`{schema}`.`n`")),
            "{log}"
        );
        let mut a = Client::connect(source).await?;
        let mut b = Client::connect(target).await?;
        sql::compare_schemas(&mut a, &mut b, &[schema]).await?;
        // It is over, whatever is written by then.
        let write = format!("USE {schema}; UPDATE n SET v = -2 WHERE id < 9");
        a.run(&write).await?;
        worker.restart()?;
        assert!(worker.wait(LIMIT)?.success());
        let found = format!("SELECT COUNT(*) FROM {schema}.n WHERE v = -2");
        assert_eq!(b.value(&found).await?, "0");
        (job.mode, job.start) = ("incremental", Start::default());
        worker.write_files(&job)?;
        worker.restart()?;
        let outcome = job.caught_up(source, target, LIMIT).await;
        outcome.map_err(|error| worker.explain(error))?;
        worker.stop()?;
    }
    Ok(())
}

/// Whatever happens while it is applied, and how often its progress is noted, what the binlog has
/// in between is applied to the end.
#[tokio::test(flavor = "multi_thread")]
async fn ended_while_the_binlog_is_applied() -> Result<()> {
    // By position there may be GTIDs that say nothing: no transaction has one.
    for gtid_mode in ["ON", "OFF_PERMISSIVE"] {
        let options = Options {
            args: vec![format!("--gtid-mode={gtid_mode}")],
            ..Options::default()
        };
        let source = &Database::start(MYSQL, Role::Source, &options)?;
        let target = &Database::start(MYSQL, Role::Target, &Options::default())?;
        if !source.is_ours() {
            return Ok(());
        }
        let servers = (source, target);
        let mut a = Client::connect(source).await?;
        // As of former times.
        let given = "SET GLOBAL gtid_purged = '+3e11fa47-71ca-11e1-9e33-c80aa9429562:1-5'";
        a.run(given).await?;
        let schema = "full_kill";
        let mut job = amid::job(servers, schema, "full").await?;
        job.gtid = gtid_mode == "ON";
        let mut worker = interrupted(servers, &job, "", &["n"], MEANWHILE).await?;
        // A row that is there waits for this, and what the binlog does to it.
        let mut there = Client::connect(target).await?;
        let held = format!("BEGIN; SELECT * FROM {schema}.n WHERE id % 30 = 0 LIMIT 1 FOR UPDATE");
        there.run(&held).await?;
        for round in 1..=3 {
            let start = Instant::now();
            while worker.log().matches("reading the binlog").count() < round {
                assert!(start.elapsed() < LIMIT, "{}", worker.log());
                sleep(Duration::from_millis(20)).await;
            }
            // It has noted how far it is by then.
            sleep(Duration::from_millis(2500)).await;
            worker.kill()?;
            worker.restart()?;
        }
        there.run("ROLLBACK").await?;
        let ended = worker.wait(LIMIT).map_err(|error| worker.explain(error))?;
        assert!(ended.success());
        let log = worker.log();
        assert_eq!(log.matches(" copying ").count(), 2, "{log}");
        assert_eq!(log.matches("the copy is over").count(), 1, "{log}");
        let mut b = Client::connect(target).await?;
        sql::compare_schemas(&mut a, &mut b, &[schema]).await?;
        // What is over stays so, also where nobody may read the binlog any more.
        a.run("SET GLOBAL binlog_row_image = MINIMAL").await?;
        worker.restart()?;
        assert!(worker.wait(LIMIT)?.success(), "{}", worker.log());
    }
    Ok(())
}

/// Better all anew than rows of two moments.
#[tokio::test(flavor = "multi_thread")]
async fn without_the_binlog_it_begins_anew() -> Result<()> {
    for (schema, meanwhile, says) in [
        (
            "full_purged",
            "FLUSH BINARY LOGS; PURGE BINARY LOGS BEFORE NOW() + INTERVAL 1 DAY",
            "it has purged the binlog that they lack",
        ),
        (
            "full_image",
            "SET GLOBAL binlog_row_image = MINIMAL",
            "should the copy be interrupted, it begins anew",
        ),
    ] {
        let source = &Database::start(MYSQL, Role::Source, &Options::default())?;
        let target = &Database::start(MYSQL, Role::Target, &Options::default())?;
        if !source.is_ours() {
            return Ok(());
        }
        let servers = (source, target);
        let job = amid::job(servers, schema, "full").await?;
        let meanwhile = format!("{MEANWHILE}; {meanwhile}");
        let mut worker = interrupted(servers, &job, "", &["n"], &meanwhile).await?;
        let ended = worker.wait(LIMIT).map_err(|error| worker.explain(error))?;
        assert!(ended.success());
        let log = worker.log();
        assert!(log.contains(says), "{log}");
        assert!(!log.contains("reading the binlog"), "{log}");
        let (mut a, mut b) = (
            Client::connect(source).await?,
            Client::connect(target).await?,
        );
        sql::compare_schemas(&mut a, &mut b, &[schema]).await?;
        let rows = format!("SELECT COUNT(*) FROM {schema}.n");
        assert_eq!(b.value(&rows).await?, (ROWS + 1 - ROWS / 1000).to_string());
    }
    Ok(())
}
