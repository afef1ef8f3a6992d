//! What a source writes as one group is applied as one, whatever stands in it, and a place between
//! two groups is the only place to stop.

use std::{
    fs::{self, OpenOptions},
    time::{Duration, Instant},
};

use dm_tests::{
    Result,
    job::Job,
    servers::{Brand, Database, Options, Role},
    sql::Client,
    worker::Worker,
    workload::Workload,
};
use tokio::time::sleep;

/// How long a busy machine may take.
const LIMIT: Duration = Duration::from_secs(90);
/// Bytes of an XID event with its checksum: what a source may lose of a transaction's end.
const XID_BYTES: u64 = 31;

#[tokio::test(flavor = "multi_thread")]
async fn mysql_creates_a_table_from_a_query() -> Result<()> {
    created_from_a_query(Brand::Mysql, "ctas_m").await
}

#[tokio::test(flavor = "multi_thread")]
async fn mariadb_creates_a_table_from_a_query() -> Result<()> {
    created_from_a_query(Brand::Mariadb, "ctas_a").await
}

/// The definition and the rows are one transaction, which a kill at any moment must not cut.
async fn created_from_a_query(brand: Brand, schema: &str) -> Result<()> {
    let source = Database::shared(brand, Role::Source)?;
    let target = Database::shared(Brand::Mysql, Role::Target)?;
    let mut job = Job::new(source, target, &[schema]).await?;
    job.gtid = true;
    job.slots = 4;
    let mut client = Client::connect(source).await?;
    for sql in [
        format!("CREATE DATABASE {schema} CHARACTER SET utf8mb4 COLLATE utf8mb4_bin"),
        format!("USE {schema}"),
        "CREATE TABLE numbers (n INT PRIMARY KEY, t VARCHAR(40))".to_owned(),
        "INSERT INTO numbers VALUES (1, 'a')".to_owned(),
    ] {
        client.run(&sql).await?;
    }
    for _ in 0..15 {
        let more =
            "INSERT INTO numbers SELECT n + (SELECT COUNT(*) FROM numbers), HEX(n) FROM numbers";
        client.run(more).await?;
    }
    let mut worker = Worker::standalone(&job)?;
    job.caught_up(source, target, LIMIT)
        .await
        .map_err(|e| worker.explain(e))?;
    let mut there = Client::connect(target).await?;
    for round in 0..dm_tests::rounds(3) {
        let table = format!("copy{round}");
        client
            .run(&format!("CREATE TABLE {table} AS SELECT * FROM numbers"))
            .await?;
        let start = Instant::now();
        let count = format!("SELECT COUNT(*) FROM {schema}.{table}");
        // Right after the definition, or somewhat later, among the rows.
        let wanted = i64::from(round) * 5000;
        while there
            .value(&count)
            .await
            .map_or(-1, |count| count.parse::<i64>().unwrap_or(-1))
            < wanted
        {
            if start.elapsed() > LIMIT {
                return Err(worker.explain(format!("{table} did not come").into()));
            }
        }
        worker.kill()?;
        worker.restart()?;
    }
    job.caught_up(source, target, LIMIT)
        .await
        .map_err(|e| worker.explain(e))?;
    worker.stop()
}

/// MariaDB does not cut such a rest off; it writes on in the next file.
#[tokio::test(flavor = "multi_thread")]
async fn a_transaction_that_a_crash_cut_off_is_not_applied_as_if_whole() -> Result<()> {
    let mut source = Database::start(Brand::Mariadb, Role::Source, &Options::default())?;
    let target = Database::shared(Brand::Mysql, Role::Target)?;
    if !source.is_ours() {
        println!("skipped: needs a server that it may break");
        return Ok(());
    }
    let mut client = Client::connect(&source).await?;
    client
        .run("CREATE DATABASE cutoff; CREATE TABLE cutoff.a (id INT)")
        .await?;
    // By GTID a source that is asked later begins in the next file.
    let job = Job::new(&source, target, &["cutoff"]).await?;
    let mut there = Client::connect(target).await?;
    there
        .run("CREATE DATABASE cutoff; CREATE TABLE cutoff.a (id INT)")
        .await?;
    client
        .run("INSERT INTO cutoff.a VALUES (101), (102)")
        .await?;
    source.kill()?;
    let log = source.data_dir()?.join(&job.start.file);
    let file = OpenOptions::new().write(true).open(&log)?;
    file.set_len(fs::metadata(&log)?.len() - XID_BYTES)?;
    drop(file);
    source.restart(&[])?;
    Client::connect(&source)
        .await?
        .run("INSERT INTO cutoff.a VALUES (103)")
        .await?;

    let mut worker = Worker::standalone(&job)?;
    worker.logged("code=36906", LIMIT).await?;
    worker.kill()?;
    let after = there
        .value("SELECT COUNT(*) FROM cutoff.a WHERE id = 103")
        .await?;
    assert_eq!(after, "0", "nothing behind it is applied");
    Ok(())
}

/// InnoDB's rows are undone, but stand in the binlog, since the other table's can't be.
#[tokio::test(flavor = "multi_thread")]
async fn going_back_to_a_savepoint_is_refused() -> Result<()> {
    let source = Database::shared(Brand::Mariadb, Role::Source)?;
    let target = Database::shared(Brand::Mysql, Role::Target)?;
    let mut client = Client::connect(source).await?;
    let create = "CREATE DATABASE savepoint; USE savepoint; CREATE TABLE a (id INT PRIMARY KEY); \
                  CREATE TABLE m (id INT PRIMARY KEY) ENGINE=MyISAM";
    client.run(create).await?;
    let mut there = Client::connect(target).await?;
    there
        .run(
            "CREATE DATABASE savepoint; USE savepoint; CREATE TABLE a (id INT PRIMARY KEY); \
             CREATE TABLE m (id INT PRIMARY KEY)",
        )
        .await?;
    let job = Job::new(source, target, &["savepoint"]).await?;
    let mut worker = Worker::standalone(&job)?;
    client
        .run(
            "BEGIN; INSERT INTO m VALUES (1); SAVEPOINT s; INSERT INTO a VALUES (10); \
             ROLLBACK TO s; INSERT INTO a VALUES (11); COMMIT",
        )
        .await?;
    worker.logged("code=36068", LIMIT).await?;
    worker.kill()
}

/// What a slot is may change while nothing runs: keys of the target, routes, another version.
#[tokio::test(flavor = "multi_thread")]
async fn an_orderly_stop_leaves_all_slots_at_one_place() -> Result<()> {
    let source = Database::shared(Brand::Mysql, Role::Source)?;
    let target = Database::shared(Brand::Mysql, Role::Target)?;
    let job = Job::new(source, target, &["onepl"]).await?;
    Workload::create(source, "onepl").await?;
    let mut worker = Worker::standalone(&job)?;
    Workload::open(source, "onepl", 5, false)
        .await?
        .run(60)
        .await?;
    job.caught_up(source, target, LIMIT)
        .await
        .map_err(|e| worker.explain(e))?;
    worker.stop()?;
    let mut there = Client::connect(target).await?;
    let places = format!(
        "SELECT COUNT(DISTINCT binlog_name, binlog_pos, txn, txn_rows) \
         FROM {}.{}_progress WHERE slot >= 0 AND id <> ''",
        job.meta_schema(),
        job.task
    );
    assert_eq!(there.value(&places).await?, "1");
    let slots = places.replace(
        "COUNT(DISTINCT binlog_name, binlog_pos, txn, txn_rows)",
        "COUNT(*)",
    );
    assert_eq!(there.value(&slots).await?, "8");
    Ok(())
}

/// Switched on after an orderly stop, GTIDs are taken from the source for where it stood.
#[tokio::test(flavor = "multi_thread")]
async fn gtids_may_be_switched_on_later() -> Result<()> {
    let source = Database::shared(Brand::Mysql, Role::Source)?;
    let target = Database::shared(Brand::Mysql, Role::Target)?;
    let mut job = Job::new(source, target, &["later"]).await?;
    Workload::create(source, "later").await?;
    for (gtid, seed) in [(false, 1), (true, 2)] {
        job.gtid = gtid;
        let mut worker = Worker::standalone(&job)?;
        Workload::open(source, "later", seed, false)
            .await?
            .run(40)
            .await?;
        job.caught_up(source, target, LIMIT)
            .await
            .map_err(|e| worker.explain(e))?;
        sleep(Duration::from_millis(100)).await;
        if gtid {
            worker.logged("goes on by GTID", LIMIT).await?;
        }
        worker.stop()?;
    }
    Ok(())
}
