//! Tasks that read the relay log: what arrives is what was written, from wherever it is read.

use std::{
    fs,
    time::{Duration, Instant},
};

use dm_tests::{
    Result,
    job::{Job, MARKS},
    servers::{Brand, Database, Options, Role},
    sql::Client,
    volume,
    worker::Worker,
    workload::{Background, Workload},
};
use rand::{RngExt, SeedableRng, rngs::StdRng};
use tokio::time::sleep;

/// How long a busy machine may take to catch up.
const LIMIT: Duration = Duration::from_secs(120);
/// SIGKILLs of a worker in a usual run.
const KILLS: u32 = 4;
/// What is compared where there is much of it.
const SCHEMAS: [&str; 2] = [volume::SCHEMA, volume::TYPES_SCHEMA];

#[tokio::test(flavor = "multi_thread")]
async fn mysql_by_position() -> Result<()> {
    relayed(Brand::Mysql, false, "relayed_m_pos").await
}

#[tokio::test(flavor = "multi_thread")]
async fn mysql_by_gtid() -> Result<()> {
    relayed(Brand::Mysql, true, "relayed_m_gtid").await
}

#[tokio::test(flavor = "multi_thread")]
async fn mariadb_by_position() -> Result<()> {
    relayed(Brand::Mariadb, false, "relayed_a_pos").await
}

#[tokio::test(flavor = "multi_thread")]
async fn mariadb_by_gtid() -> Result<()> {
    relayed(Brand::Mariadb, true, "relayed_a_gtid").await
}

/// Under load, with rotations and SIGKILLs; then the relay is switched off and on again.
async fn relayed(from: Brand, gtid: bool, schema: &str) -> Result<()> {
    let source = Database::shared(from, Role::Source)?;
    let target = Database::shared(Brand::Mysql, Role::Target)?;
    let mut job = Job::new(source, target, &[schema]).await?;
    job.gtid = gtid;
    job.source_extra = "enable-relay: true\n".to_owned();
    let mut client = Client::connect(source).await?;
    Workload::create(source, schema).await?;
    let mut rng = StdRng::seed_from_u64(dm_tests::seed());
    let mut worker = Worker::standalone(&job)?;
    let background = Background::start(source, schema, dm_tests::seed(), 2, true).await?;
    for _ in 0..dm_tests::rounds(KILLS) {
        sleep(Duration::from_millis(rng.random_range(200..1500))).await;
        client.run("FLUSH BINARY LOGS").await?;
        sleep(Duration::from_millis(rng.random_range(20..400))).await;
        worker.expect_running()?;
        worker.kill()?;
        worker.restart()?;
    }
    background.stop().await?;
    caught_up(&job, &worker, source, target).await?;
    worker.stop()?;
    assert_eq!(log_of(&job, target).await?, Some("000001".to_owned()));

    for relays in [false, true] {
        job.source_extra = format!("enable-relay: {relays}\n");
        worker.write_files(&job)?;
        worker.restart()?;
        Workload::open(source, schema, 12 + u64::from(relays), false)
            .await?
            .run(50)
            .await?;
        caught_up(&job, &worker, source, target).await?;
        worker.stop()?;
        let log = log_of(&job, target).await?;
        assert_eq!(log, relays.then(|| "000001".to_owned()));
    }
    Ok(())
}

/// A relay that can't write is no reason to stand still.
#[tokio::test(flavor = "multi_thread")]
async fn the_source_is_read_where_the_relay_log_cannot_be() -> Result<()> {
    let schema = "relay_broken";
    let source = Database::shared(Brand::Mysql, Role::Source)?;
    let target = Database::shared(Brand::Mysql, Role::Target)?;
    let mut job = Job::new(source, target, &[schema]).await?;
    let dir = dm_tests::process::scratch("relay")?;
    let place = dir.join("log");
    fs::write(&place, "not a directory")?;
    job.source_extra = format!("enable-relay: true\nrelay-dir: {}\n", place.display());
    Workload::create(source, schema).await?;
    let mut worker = Worker::standalone(&job)?;
    Workload::open(source, schema, 5, false)
        .await?
        .run(50)
        .await?;
    caught_up(&job, &worker, source, target).await?;
    worker.stop()?;
    assert_eq!(log_of(&job, target).await?, None);

    // Once there is a log, it is read.
    fs::remove_file(&place)?;
    worker.restart()?;
    Workload::open(source, schema, 6, false)
        .await?
        .run(50)
        .await?;
    caught_up(&job, &worker, source, target).await?;
    worker.stop()?;
    assert_eq!(log_of(&job, target).await?, Some("000001".to_owned()));
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn what_arrives_from_mysql_is_the_same_with_and_without_a_relay_log() -> Result<()> {
    both(Brand::Mysql).await
}

#[tokio::test(flavor = "multi_thread")]
async fn what_arrives_from_mariadb_is_the_same_with_and_without_a_relay_log() -> Result<()> {
    both(Brand::Mariadb).await
}

/// One task reads the relay log, another one the source, from the first transaction on: both make
/// of it what the source has. `DM_TEST_RELAY_MIB` (24) says how much there is to read.
async fn both(from: Brand) -> Result<()> {
    let mib = dm_tests::number("DM_TEST_RELAY_MIB").unwrap_or(24_u64);
    let limit = LIMIT + Duration::from_secs(4) * u32::try_from(mib)?;
    let source = volume::start(from, mib << 20)?;
    if !source.is_ours() {
        return Ok(());
    }
    let targets = [
        Database::start(Brand::Mysql, Role::Target, &Options::default())?,
        Database::start(Brand::Mysql, Role::Target, &Options::default())?,
    ];
    let mut jobs = Vec::new();
    for (target, relays) in targets.iter().zip([true, false]) {
        let mut job = Job::new(&source, target, &SCHEMAS).await?;
        job.source_id = format!("source-relay-{relays}");
        job.source_extra = format!("enable-relay: {relays}\n");
        job.batch = 1000;
        jobs.push(job);
    }
    volume::create(&source).await?;
    let written = volume::write(&source, mib << 20).await?;
    for gtid in [true, false] {
        let mut workers = Vec::new();
        for job in &mut jobs {
            job.gtid = gtid;
            job.task = format!("{}_{gtid}", job.source_id.replace('-', "_"));
            workers.push(Worker::standalone(job)?);
        }
        let start = Instant::now();
        volume::leave(&source).await?;
        for ((job, target), worker) in jobs.iter().zip(&targets).zip(&mut workers) {
            let outcome = job.caught_up(&source, target, limit).await;
            outcome.map_err(|e| worker.explain(e))?;
            println!(
                "{} has {} MiB after {:?}",
                job.task,
                written >> 20,
                start.elapsed(),
            );
        }
        let expected = sums(&source).await?;
        println!("{expected}");
        for ((job, target), worker) in jobs.iter().zip(&targets).zip(&mut workers) {
            assert_eq!(sums(target).await?, expected, "{}", job.task);
            worker.stop()?;
            let relays = job.source_extra.contains("true");
            let log = log_of(job, target).await?;
            assert_eq!(log, relays.then(|| "000001".to_owned()), "{}", job.task);
            let mut client = Client::connect(target).await?;
            for schema in SCHEMAS {
                client.run(&format!("DROP DATABASE {schema}")).await?;
            }
        }
    }
    Ok(())
}

/// Rows of all tables but the marks, and a sum over what is in them.
async fn sums(server: &Database) -> Result<String> {
    let mut client = Client::connect(server).await?;
    let (mut rows, mut sum) = (0, 0_u64);
    for schema in SCHEMAS {
        for table in client.tables(schema).await? {
            if table != MARKS {
                let contents = client.contents(schema, &table).await?;
                rows += contents.count();
                sum = sum.wrapping_add(contents.checksum());
            }
        }
    }
    Ok(format!("{rows} rows, sum {sum:016x}"))
}

/// Number of the sub-directory of the relay log that the checkpoint is in.
async fn log_of(job: &Job, target: &Database) -> Result<Option<String>> {
    let sql = format!(
        "SELECT binlog_name FROM {}.{}_syncer_checkpoint WHERE is_global",
        job.meta_schema(),
        job.task
    );
    let name = Client::connect(target).await?.value(&sql).await?;
    let number = name
        .split_once('|')
        .and_then(|(_, rest)| rest.split_once('.'));
    Ok(number.map(|(number, _)| number.to_owned()))
}

async fn caught_up(job: &Job, worker: &Worker, source: &Database, target: &Database) -> Result<()> {
    let outcome = job.caught_up(source, target, LIMIT).await;
    outcome.map_err(|e| worker.explain(e))
}
