//! The mark of the worker that has a subtask's dump files, in a cluster with a scripted master.

use std::time::{Duration, Instant};

use dm_sim::values;
use dm_tests::{
    Result,
    job::Job,
    master::{Expect, Master},
    servers::{Brand, Database, Etcd, Options, Role},
    sql::Client,
    worker::Worker,
};
use etcd_client::{EventType, Txn, TxnOp, WatchOptions};
use tokio::time::sleep;

/// How long a busy machine may take.
const LIMIT: Duration = Duration::from_secs(60);
const TTL_S: u32 = 5;

/// Moves a source, as a master does for a load: no pause before.
async fn move_source(master: &Master, source: &str, from: &str, to: &str) -> Result<()> {
    let bound = values::bound(source, to);
    let ops = [
        TxnOp::delete(values::bound_key(from), None),
        TxnOp::put(values::bound_key(to), bound.clone(), None),
        TxnOp::put(values::last_bound_key(to), bound, None),
    ];
    master.etcd().txn(Txn::new().and_then(ops)).await?;
    Ok(())
}

async fn errors(master: &Master, worker: &str, task: &str) -> Result<Vec<String>> {
    let start = Instant::now();
    loop {
        let errors = master.query(worker, task).await?.errors();
        if !errors.is_empty() || start.elapsed() > LIMIT {
            return Ok(errors);
        }
        sleep(Duration::from_millis(50)).await;
    }
}

/// A load goes on only where its files are: the next worker says where, and takes no mark away.
#[tokio::test(flavor = "multi_thread")]
async fn a_load_goes_back_to_its_files() -> Result<()> {
    let options = Options::default();
    let source = &Database::start(Brand::Mysql, Role::Source, &options)?;
    let target = &Database::start(Brand::Mysql, Role::Target, &options)?;
    let schema = "marked";
    let numbers =
        "WITH RECURSIVE r (i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM r WHERE i < 60000)";
    Client::connect(source)
        .await?
        .run(&format!(
            "SET SESSION cte_max_recursion_depth = 100000000; CREATE DATABASE {schema}; \
             CREATE TABLE {schema}.k (x INT PRIMARY KEY, pad VARCHAR(200)); \
             INSERT INTO {schema}.k {numbers} SELECT i, REPEAT('k', 195) FROM r"
        ))
        .await?;
    // However fast the machine is, it takes seconds.
    Client::connect(target)
        .await?
        .run(&format!(
            "CREATE DATABASE {schema}; USE {schema}; \
             CREATE TABLE k (x INT PRIMARY KEY, pad VARCHAR(200)); \
             CREATE TRIGGER slow BEFORE INSERT ON k FOR EACH ROW \
             SET @slow = IF(RAND() < 0.006, SLEEP(0.02), 0)"
        ))
        .await?;
    let etcd = Etcd::start()?;
    let master = &Master::start(&etcd).await?;
    let mut job = Job::new(source, target, &[schema]).await?;
    (job.mode, job.gtid) = ("all", true);
    // Of the folder that each of them runs in.
    job.dump_dir = Some("files.marked".into());
    let key = values::load_task_key(&job.source_id, &job.task);
    let options = WatchOptions::new().with_prev_key();
    let mut marks = master.etcd().watch(&*key, Some(options)).await?;

    let mut one = Worker::join(master, "one", TTL_S)?;
    let mut two = Worker::join(master, "two", TTL_S)?;
    for name in ["one", "two"] {
        master.online(name, LIMIT).await?;
    }
    master.create_source(&job, "one").await?;
    let started = master.start_task(&job, "one").await;
    started.map_err(|error| one.explain(error))?;
    one.logged(" loading ", LIMIT).await?;
    let mark = async || -> Result<Option<String>> {
        let found = master.etcd().get(&*key, None).await?;
        let kv = found.kvs().first();
        Ok(kv.map(|kv| kv.value_str().map(str::to_owned)).transpose()?)
    };
    // As the existing worker writes it, and before it loads.
    assert_eq!(mark().await?.as_deref(), Some("\"one\""), "{}", one.log());

    move_source(master, &job.source_id, "one", "two").await?;
    let errors = errors(master, "two", &job.task).await?;
    let expected = "different worker in load stage, previous worker: one, current worker: two";
    assert!(
        errors.iter().any(|error| error.contains(expected)),
        "{errors:?}\n{}",
        two.log()
    );
    assert!(errors[0].contains("34017"), "{errors:?}");
    assert_eq!(mark().await?.as_deref(), Some("\"one\""));

    move_source(master, &job.source_id, "two", "one").await?;
    let outcome = job.caught_up(source, target, LIMIT).await;
    outcome.map_err(|error| one.explain(error))?;
    one.logged("the copy is over", LIMIT).await?;
    master.set_stage(&job, "one", Expect::Paused).await?;
    assert_eq!(mark().await?, None);
    let mut seen = Vec::new();
    while seen.len() < 2 {
        let message = tokio::time::timeout(LIMIT, marks.message()).await??;
        for event in message.ok_or("the watch ended")?.events() {
            seen.push(event.event_type());
        }
    }
    assert_eq!(seen, [EventType::Put, EventType::Delete], "once each");
    let files = one.dir().join(format!("files.marked.{}", job.task));
    assert!(!files.exists());
    one.stop()?;
    two.stop()
}
