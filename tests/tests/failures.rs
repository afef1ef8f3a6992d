//! What goes wrong around a worker: the subtask pauses with a coded error that says what to do,
//! goes on by itself where that makes sense, and loses nothing.

use std::time::{Duration, Instant};

use dm_tests::{
    Result,
    job::Job,
    master::{Expect, Master, pb::ProcessError},
    servers::{Brand, Database, Etcd, Options, Role},
    sql::Client,
    worker::Worker,
    workload::Workload,
};
use tokio::time::sleep;

/// How long a busy machine may take, and an automatic resume may wait.
const LIMIT: Duration = Duration::from_secs(90);
const TTL_S: u32 = 10;
/// Stage numbers of the protocol.
const RUNNING: i32 = 2;
const PAUSED: i32 = 3;
const WORKER: &str = "one";

/// Servers of its own, since they are broken on purpose.
struct World {
    source: Database,
    target: Database,
    master: Master,
    job: Job,
    worker: Worker,
    _etcd: Etcd,
}

impl World {
    /// A running task; `None` where the servers are not ours to break.
    async fn new(schema: &str) -> Result<Option<Self>> {
        Self::on(schema, &Options::default()).await
    }

    /// As [`Self::new`], with a target of its own kind.
    async fn on(schema: &str, target: &Options) -> Result<Option<Self>> {
        let Some(world) = Self::prepared(schema, target).await? else {
            return Ok(None);
        };
        world.start().await?;
        world.caught_up().await?;
        Ok(Some(world))
    }

    /// A worker without a source yet.
    async fn stopped(schema: &str) -> Result<Option<Self>> {
        Self::prepared(schema, &Options::default()).await
    }

    async fn prepared(schema: &str, target: &Options) -> Result<Option<Self>> {
        let source = Database::start(Brand::Mysql, Role::Source, &Options::default())?;
        let target = Database::start(Brand::Mysql, Role::Target, target)?;
        if !source.is_ours() || !target.is_ours() {
            println!("skipped: needs servers that it may break");
            return Ok(None);
        }
        let etcd = Etcd::start()?;
        let master = Master::start(&etcd).await?;
        let job = Job::new(&source, &target, &[schema]).await?;
        Workload::create(&source, schema).await?;
        let worker = Worker::etcd(&etcd, &master, WORKER, TTL_S)?;
        let online = master.online(WORKER, LIMIT).await;
        online.map_err(|e| worker.explain(e))?;
        Ok(Some(Self {
            source,
            target,
            master,
            job,
            worker,
            _etcd: etcd,
        }))
    }

    async fn start(&self) -> Result<()> {
        let created = self.master.create_source(&self.job, WORKER).await;
        created.map_err(|e| self.worker.explain(e))?;
        let started = self.master.start_task(&self.job, WORKER).await;
        started.map_err(|e| self.worker.explain(e))
    }

    /// Resumes by hand, as an operator does who need not wait.
    async fn resume(&self) -> Result<()> {
        let resumed = self.master.set_stage(&self.job, WORKER, Expect::Running);
        resumed.await.map_err(|e| self.worker.explain(e))
    }

    async fn write(&self, seed: u64) -> Result<()> {
        Workload::open(&self.source, &self.job.schemas[0], seed, false)
            .await?
            .run(50)
            .await
    }

    async fn caught_up(&self) -> Result<()> {
        let outcome = self.job.caught_up(&self.source, &self.target, LIMIT).await;
        outcome.map_err(|e| self.worker.explain(e))
    }

    /// Waits for a stage and hands out the errors that stand beside it.
    async fn stage(&self, stage: i32) -> Result<Vec<ProcessError>> {
        let start = Instant::now();
        loop {
            let answer = self.master.query(WORKER, &self.job.task).await?;
            if let [one] = answer.subtasks.as_slice()
                && one.stage == stage
            {
                return Ok(one.result.clone().unwrap_or_default().errors);
            }
            if start.elapsed() > LIMIT {
                let error = format!("stage {stage} not reached: {answer:?}");
                return Err(self.worker.explain(error.into()));
            }
            sleep(Duration::from_millis(200)).await;
        }
    }

    /// Waits until an error stops the subtask. It must have a code, a class and a message.
    async fn paused_by_error(&self) -> Result<ProcessError> {
        let start = Instant::now();
        while start.elapsed() < LIMIT {
            if let Some(error) = self.stage(PAUSED).await?.into_iter().next() {
                println!("{}", error.text());
                assert!(error.code > 0 && !error.class.is_empty(), "{error:?}");
                assert!(
                    !error.message.is_empty() || !error.raw_cause.is_empty(),
                    "{error:?}"
                );
                return Ok(error);
            }
            sleep(Duration::from_millis(200)).await;
        }
        Err(self.worker.explain("no error came".into()))
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_read_only_target_is_waited_for() -> Result<()> {
    let Some(world) = World::new("readonly").await? else {
        return Ok(());
    };
    let mut target = Client::connect(&world.target).await?;
    target.run("SET GLOBAL super_read_only = ON").await?;
    world.write(1).await?;
    let error = world.paused_by_error().await?;
    assert!(error.text().contains("read-only"), "{}", error.text());
    target
        .run("SET GLOBAL super_read_only = OFF, GLOBAL read_only = OFF")
        .await?;
    world.stage(RUNNING).await?;
    world.caught_up().await
}

/// All tables of the target share one file, which may not grow for ever.
#[tokio::test(flavor = "multi_thread")]
async fn a_full_target_is_waited_for() -> Result<()> {
    let options = Options {
        args: vec![
            "--innodb-file-per-table=OFF".to_owned(),
            "--innodb-data-file-path=ibdata1:12M:autoextend:max:64M".to_owned(),
        ],
        ..Options::default()
    };
    let Some(world) = World::on("full", &options).await? else {
        return Ok(());
    };
    let mut source = Client::connect(&world.source).await?;
    source
        .run("CREATE TABLE `full`.big (id INT PRIMARY KEY, b LONGBLOB)")
        .await?;
    world.caught_up().await?;
    let mut target = Client::connect(&world.target).await?;
    target
        .run("CREATE DATABASE filler; CREATE TABLE filler.t (b LONGBLOB)")
        .await?;
    for bytes in [1 << 20, 1 << 16, 1 << 12] {
        let fill = format!("INSERT INTO filler.t VALUES (REPEAT('x', {bytes}))");
        while target.run(&fill).await.is_ok() {}
    }
    for id in 0..8 {
        let row = format!("INSERT INTO `full`.big VALUES ({id}, REPEAT('x', 1 << 20))");
        source.run(&row).await?;
    }
    world.write(1).await?;
    let error = world.paused_by_error().await?;
    assert!(error.text().contains("Error 1114"), "{}", error.text());
    assert!(error.workaround.contains("free space"), "{error:?}");
    target.run("DROP TABLE filler.t").await?;
    world.stage(RUNNING).await?;
    world.caught_up().await
}

#[tokio::test(flavor = "multi_thread")]
async fn a_missing_column_is_an_error_until_it_is_there() -> Result<()> {
    let Some(world) = World::new("column").await? else {
        return Ok(());
    };
    let mut target = Client::connect(&world.target).await?;
    target
        .run("ALTER TABLE `column`.pair DROP COLUMN x")
        .await?;
    world.write(1).await?;
    world.paused_by_error().await?;
    target
        .run("ALTER TABLE `column`.pair ADD COLUMN x DOUBLE")
        .await?;
    world.resume().await?;
    world.caught_up().await
}

#[tokio::test(flavor = "multi_thread")]
async fn killed_servers_are_waited_for() -> Result<()> {
    let Some(mut world) = World::new("restarts").await? else {
        return Ok(());
    };
    world.target.kill()?;
    world.write(1).await?;
    sleep(Duration::from_secs(3)).await;
    world.target.restart(&[])?;
    world.caught_up().await?;

    world.source.kill()?;
    sleep(Duration::from_secs(3)).await;
    world.source.restart(&[])?;
    world.write(2).await?;
    world.caught_up().await
}

#[tokio::test(flavor = "multi_thread")]
async fn a_wrong_password_is_named_and_can_be_corrected() -> Result<()> {
    let Some(mut world) = World::stopped("password").await? else {
        return Ok(());
    };
    let mut target = Client::connect(&world.target).await?;
    target
        .run("CREATE USER worker IDENTIFIED BY 'other'; GRANT ALL ON *.* TO worker")
        .await?;
    world.job.target.user = "worker".to_owned();
    // The master passes the error on that the worker reports.
    let refused = world.start().await.unwrap_err().to_string();
    assert!(refused.contains("code=10001"), "{refused}");
    assert!(refused.contains("Access denied"), "{refused}");
    let right = &world.job.target.password;
    target
        .run(&format!("ALTER USER worker IDENTIFIED BY '{right}'"))
        .await?;
    world.resume().await?;
    world.caught_up().await
}

#[tokio::test(flavor = "multi_thread")]
async fn a_purged_binlog_is_reported_as_such() -> Result<()> {
    let Some(world) = World::stopped("purged").await? else {
        return Ok(());
    };
    let mut source = Client::connect(&world.source).await?;
    source.run("FLUSH BINARY LOGS; FLUSH BINARY LOGS").await?;
    let now = dm_tests::job::Start::now(&world.source).await?;
    source
        .run(&format!("PURGE BINARY LOGS TO '{}'", now.file))
        .await?;
    let refused = world.start().await.unwrap_err().to_string();
    assert!(refused.contains("1236"), "{refused}");
    let error = world.paused_by_error().await?;
    assert!(!error.workaround.is_empty(), "{error:?}");
    Ok(())
}

/// As after a restore of etcd, whose revisions begin anew below those that the target knows.
#[tokio::test(flavor = "multi_thread")]
async fn a_fence_of_another_time_is_explained_and_can_be_reset() -> Result<()> {
    let Some(world) = World::new("fences").await? else {
        return Ok(());
    };
    let mut target = Client::connect(&world.target).await?;
    let set = |fence: i64| {
        let (schema, task) = (world.job.meta_schema(), &world.job.task);
        format!("UPDATE {schema}.{task}_progress SET fence = {fence} WHERE id <> ''")
    };
    target.run(&set(1_000_000_000)).await?;
    world.write(1).await?;
    let error = world.paused_by_error().await?;
    assert_eq!(error.code, 36_901, "{error:?}");
    assert!(error.workaround.contains("fence"), "{error:?}");
    target.run(&set(0)).await?;
    world.resume().await?;
    world.caught_up().await
}
