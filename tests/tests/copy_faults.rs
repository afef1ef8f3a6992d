//! What befalls the servers while a worker copies between them: it says what the trouble is and
//! what helps, goes on where it was, by itself where it can, and in the end nothing is missing.

use std::{
    process::Command,
    time::{Duration, Instant},
};

use dm_tests::{
    Result,
    job::Job,
    process,
    servers::{Brand, Database, Options, Role},
    sql::{self, Client},
    worker::{self, Worker},
};
use tokio::time::sleep;

/// How long a busy machine may take, and an automatic resume may wait.
const LIMIT: Duration = Duration::from_secs(60);
const MYSQL: Brand = Brand::Mysql;
/// Rows that take some seconds.
const ROWS: u64 = 100_000;
const TABLE_N: &str = "(id INT PRIMARY KEY, v INT, pad CHAR(200)) DEFAULT CHARSET utf8mb4";
/// A user of the worker's own, whose privileges are taken away.
const USER: &str = "mover";

/// Servers of its own, since they are broken on purpose, and a copy between them that has begun.
struct World {
    schema: &'static str,
    source: Database,
    target: Database,
    job: Job,
    worker: Worker,
}

impl World {
    /// `None` where the servers are not ours to break.
    async fn new(schema: &'static str) -> Result<Option<Self>> {
        let Some((source, target)) = servers(MYSQL, schema, &Options::default()).await? else {
            return Ok(None);
        };
        let job = job(schema, &source, &target).await?;
        Self::copying(schema, source, target, job).await.map(Some)
    }

    /// Starts the worker.
    fn started(schema: &'static str, source: Database, target: Database, job: Job) -> Result<Self> {
        let worker = Worker::standalone(&job)?;
        Ok(Self {
            schema,
            source,
            target,
            job,
            worker,
        })
    }

    /// Starts the worker, and waits until it is amid its copy.
    async fn copying(
        schema: &'static str,
        source: Database,
        target: Database,
        job: Job,
    ) -> Result<Self> {
        Self::copying_for(4, schema, source, target, job).await
    }

    /// The same with so many seconds for what is to happen meanwhile, however fast the machine is.
    async fn copying_for(
        seconds: u64,
        schema: &'static str,
        source: Database,
        target: Database,
        job: Job,
    ) -> Result<Self> {
        let pause = seconds as f64 / (ROWS / 500) as f64;
        let mut there = Client::connect(&target).await?;
        there
            .run(&format!(
                "CREATE DATABASE {schema}; USE {schema}; CREATE TABLE n {TABLE_N}; \
                 CREATE TRIGGER slow BEFORE INSERT ON n FOR EACH ROW \
                 SET @slow = IF(NEW.id % 500 = 0, SLEEP({pause}), 0)"
            ))
            .await?;
        let this = Self::started(schema, source, target, job)?;
        this.worker.logged(" copying ", LIMIT).await?;
        let start = Instant::now();
        let (meta, task) = (this.job.meta_schema(), &this.job.task);
        let some = format!("SELECT SUM(`rows`) > 1000 FROM {meta}.{task}_copy");
        while there.value(&some).await.unwrap_or_default() != "1" {
            if start.elapsed() > LIMIT {
                return Err(this.worker.explain("nothing is copied".into()));
            }
            sleep(Duration::from_millis(20)).await;
        }
        this.is_not_over();
        Ok(this)
    }

    fn is_not_over(&self) {
        let log = self.worker.log();
        assert!(
            !log.contains("copy: all is copied"),
            "it was too fast: {log}"
        );
    }

    /// What `dm-worker status` says.
    fn status(&self) -> Result<String> {
        let mut command = Command::new(worker::binary()?);
        let data = self.worker.dir().join("data");
        process::run("status", command.args(["status", "-data-dir"]).arg(data))
    }

    /// Waits until the status has all these words, and hands it out.
    async fn says(&self, words: &[&str]) -> Result<String> {
        let start = Instant::now();
        loop {
            // A worker that has just begun does not answer yet.
            let status = self.status().unwrap_or_else(|error| error.to_string());
            if words.iter().all(|word| status.contains(word)) {
                println!("{status}");
                return Ok(status);
            }
            if start.elapsed() > LIMIT {
                let error = format!("not all of {words:?} in:\n{status}");
                return Err(self.worker.explain(error.into()));
            }
            sleep(Duration::from_millis(300)).await;
        }
    }

    /// The copy comes to its end and so does what was written meanwhile.
    async fn arrives(mut self) -> Result<()> {
        let mut client = Client::connect(&self.source).await?;
        client
            .run(&format!(
                "UPDATE {}.n SET v = v + 1 WHERE id % 1000 = 1",
                self.schema
            ))
            .await?;
        let outcome = self.job.caught_up(&self.source, &self.target, LIMIT).await;
        outcome.map_err(|error| self.worker.explain(error))?;
        let rows = format!("SELECT COUNT(*) FROM {}.n", self.schema);
        let mut there = Client::connect(&self.target).await?;
        assert_eq!(there.value(&rows).await?, ROWS.to_string());
        self.worker.stop()
    }
}

/// A source with rows, and a target; `None` where they are not ours to break.
async fn servers(
    brand: Brand,
    schema: &str,
    target: &Options,
) -> Result<Option<(Database, Database)>> {
    let source = Database::start(brand, Role::Source, &Options::default())?;
    let target = Database::start(MYSQL, Role::Target, target)?;
    if !(source.is_ours() && target.is_ours()) {
        println!("skipped: needs servers that it may break");
        return Ok(None);
    }
    let mut client = Client::connect(&source).await?;
    let depth = match brand {
        MYSQL => "cte_max_recursion_depth",
        Brand::Mariadb => "max_recursive_iterations",
    };
    client
        .run(&format!(
            "CREATE DATABASE {schema}; USE {schema}; SET SESSION {depth} = 100000000; \
             CREATE TABLE n {TABLE_N}; \
             CREATE TABLE k (x INT, pad VARCHAR(200)); \
             INSERT INTO n WITH RECURSIVE r (i) AS \
             (SELECT 1 UNION ALL SELECT i + 1 FROM r WHERE i < {ROWS}) \
             SELECT i, i % 97, REPEAT(CHAR(97 + i % 26), 190) FROM r; \
             INSERT INTO k SELECT v, pad FROM n WHERE id <= 20000; \
             ANALYZE TABLE n, k"
        ))
        .await?;
    Ok(Some((source, target)))
}

async fn job(schema: &str, source: &Database, target: &Database) -> Result<Job> {
    let mut job = Job::new(source, target, &[schema]).await?;
    // One connection, to take its time.
    (job.mode, job.dump.0, job.gtid) = ("all", 1, true);
    Ok(job)
}

#[tokio::test(flavor = "multi_thread")]
async fn a_source_that_is_away_is_waited_for() -> Result<()> {
    let Some(mut world) = World::new("fault_source").await? else {
        return Ok(());
    };
    world.source.kill()?;
    let port = world.source.address().port.to_string();
    world.says(&["Paused", &port, "host"]).await?;
    world.is_not_over();
    world.source.restart(&[])?;
    world.arrives().await
}

#[tokio::test(flavor = "multi_thread")]
async fn a_target_that_is_away_is_waited_for() -> Result<()> {
    let Some(mut world) = World::new("fault_target").await? else {
        return Ok(());
    };
    world.target.stop()?;
    let port = world.target.address().port.to_string();
    world.says(&["Paused", &port]).await?;
    world.is_not_over();
    world.target.restart(&[])?;
    world.arrives().await
}

/// All tables of the target share one file, which may not grow for ever.
#[tokio::test(flavor = "multi_thread")]
async fn a_target_without_room_is_waited_for() -> Result<()> {
    let schema = "fault_full";
    let options = Options {
        args: vec![
            "--innodb-file-per-table=OFF".to_owned(),
            "--innodb-data-file-path=ibdata1:12M:autoextend:max:96M".to_owned(),
        ],
        ..Options::default()
    };
    let Some((source, target)) = servers(MYSQL, schema, &options).await? else {
        return Ok(());
    };
    let mut there = Client::connect(&target).await?;
    there
        .run("CREATE DATABASE filler; CREATE TABLE filler.t (b LONGBLOB)")
        .await?;
    for _ in 0..60 {
        let fill = "INSERT INTO filler.t VALUES (REPEAT('x', 1 << 20))";
        there.run(fill).await?;
    }
    let job = job(schema, &source, &target).await?;
    let world = World::copying(schema, source, target, job).await?;
    world.says(&["Error 1114", "free space"]).await?;
    world.is_not_over();
    there.run("DROP TABLE filler.t").await?;
    world.arrives().await
}

#[tokio::test(flavor = "multi_thread")]
async fn a_right_to_read_that_is_taken_away_is_missed() -> Result<()> {
    let schema = "fault_select";
    let Some((source, target)) = servers(MYSQL, schema, &Options::default()).await? else {
        return Ok(());
    };
    let mut job = job(schema, &source, &target).await?;
    let mut here = Client::connect(&source).await?;
    job.source.user = USER.to_owned();
    here.run(&format!(
        "CREATE USER {USER} IDENTIFIED BY '{}'; \
         GRANT REPLICATION SLAVE, REPLICATION CLIENT, RELOAD ON *.* TO {USER}; \
         GRANT SELECT ON {schema}.* TO {USER}",
        job.source.password
    ))
    .await?;
    let mut world = World::copying(schema, source, target, job).await?;
    here.run(&format!("REVOKE SELECT ON {schema}.* FROM {USER}"))
        .await?;
    // What is being read is read to its end.
    let status = world.says(&["Paused", "SELECT command denied"]).await?;
    assert!(status.contains("waits for you"), "{status}");
    world.is_not_over();
    // Whoever begins again too early does not take the tables for dropped.
    world.worker.stop()?;
    world.worker.restart()?;
    world
        .says(&["Paused", "SELECT command denied", "Grant SELECT"])
        .await?;
    world.is_not_over();
    assert!(!world.worker.log().contains("executing DDL sql=\"DROP"));
    here.run(&format!("GRANT SELECT ON {schema}.* TO {USER}"))
        .await?;
    world.worker.stop()?;
    world.worker.restart()?;
    world.arrives().await
}

#[tokio::test(flavor = "multi_thread")]
async fn a_right_to_write_that_is_taken_away_is_missed() -> Result<()> {
    let schema = "fault_insert";
    let Some((source, target)) = servers(MYSQL, schema, &Options::default()).await? else {
        return Ok(());
    };
    let mut job = job(schema, &source, &target).await?;
    let mut there = Client::connect(&target).await?;
    job.target.user = USER.to_owned();
    let rights = "SELECT, INSERT, UPDATE, DELETE, CREATE, DROP, ALTER, INDEX, REFERENCES";
    there
        .run(&format!(
            "CREATE USER {USER} IDENTIFIED BY '{}'; GRANT {rights} ON {schema}.* TO {USER}; \
             GRANT {rights} ON {}.* TO {USER}",
            job.target.password,
            job.meta_schema()
        ))
        .await?;
    let world = World::copying(schema, source, target, job).await?;
    there
        .run(&format!("REVOKE INSERT ON {schema}.* FROM {USER}"))
        .await?;
    world
        .says(&["Paused", "INSERT command denied", "Grant the target user"])
        .await?;
    world.is_not_over();
    there
        .run(&format!("GRANT INSERT ON {schema}.* TO {USER}"))
        .await?;
    world.arrives().await
}

/// It is told, and no reason to copy nothing.
#[tokio::test(flavor = "multi_thread")]
async fn a_view_that_may_not_be_shown_is_left_out() -> Result<()> {
    let schema = "fault_view";
    let Some((source, target)) = servers(MYSQL, schema, &Options::default()).await? else {
        return Ok(());
    };
    let mut job = job(schema, &source, &target).await?;
    job.source.user = USER.to_owned();
    let mut here = Client::connect(&source).await?;
    here.run(&format!(
        "CREATE VIEW {schema}.v AS SELECT 1 AS one; CREATE USER {USER} IDENTIFIED BY '{}'; \
         GRANT REPLICATION SLAVE, REPLICATION CLIENT, RELOAD ON *.* TO {USER}; \
         GRANT SELECT ON {schema}.* TO {USER}",
        job.source.password
    ))
    .await?;
    let dir = process::scratch("dump")?.join("ours");
    for (mode, says) in [
        ("full", "a view is not made"),
        ("dump", "a view is not dumped"),
    ] {
        let job = Job {
            task: format!("{}_{mode}", job.task),
            mode,
            dump_dir: (mode == "dump").then(|| dir.clone()),
            ..job.clone()
        };
        let mut worker = Worker::standalone(&job)?;
        let status = worker.wait(LIMIT)?;
        assert!(status.success(), "{}", worker.log());
        for text in [says, "Grant SHOW VIEW on the view"] {
            assert!(worker.log().contains(text), "{text}: {}", worker.log());
        }
    }
    here.run(&format!("DROP VIEW {schema}.v")).await?;
    let mut there = Client::connect(&target).await?;
    sql::compare_schemas(&mut here, &mut there, &[schema]).await
}

/// Tables are made by many at the same time only where there may be so many.
#[tokio::test(flavor = "multi_thread")]
async fn few_connections_are_enough() -> Result<()> {
    let schema = "fault_connections";
    let Some((source, target)) = servers(MYSQL, schema, &Options::default()).await? else {
        return Ok(());
    };
    let mut here = Client::connect(&source).await?;
    for table in 0..9 {
        here.run(&format!(
            "CREATE TABLE {schema}.n{table} (id INT PRIMARY KEY)"
        ))
        .await?;
    }
    let mut job = job(schema, &source, &target).await?;
    (job.mode, job.target.user) = ("full", USER.to_owned());
    let mut there = Client::connect(&target).await?;
    there
        .run(&format!(
            "CREATE USER {USER} IDENTIFIED BY '{}' WITH MAX_USER_CONNECTIONS 6; \
             GRANT ALL ON *.* TO {USER}",
            job.target.password
        ))
        .await?;
    let mut worker = Worker::standalone(&job)?;
    let status = worker.wait(LIMIT)?;
    assert!(status.success(), "{}", worker.log());
    assert!(worker.log().contains("one statement after the other"));
    sql::compare_schemas(&mut here, &mut there, &[schema]).await
}

/// Escapes double it: what the source holds the target may not take.
#[tokio::test(flavor = "multi_thread")]
async fn a_row_that_is_too_large_for_the_target_is_named() -> Result<()> {
    let schema = "fault_packet";
    let options = Options {
        args: vec!["--max-allowed-packet=8M".to_owned()],
        ..Options::default()
    };
    let Some((source, target)) = servers(MYSQL, schema, &options).await? else {
        return Ok(());
    };
    let mut here = Client::connect(&source).await?;
    here.run(&format!(
        "CREATE TABLE {schema}.b (id INT PRIMARY KEY, b LONGBLOB); \
         INSERT INTO {schema}.b VALUES (1, REPEAT('''', 6 << 20))"
    ))
    .await?;
    let job = job(schema, &source, &target).await?;
    let world = World::started(schema, source, target, job)?;
    world
        .says(&["Paused", "Raise `max_allowed_packet` of the target"])
        .await?;
    let mut there = Client::connect(&world.target).await?;
    there
        .run("SET GLOBAL max_allowed_packet = 64 << 20")
        .await?;
    world.arrives().await
}

/// What comes behind the copy is gone before it is over: it is told now, and not when it is over.
#[tokio::test(flavor = "multi_thread")]
async fn a_binlog_that_is_purged_meanwhile_is_missed_at_once() -> Result<()> {
    for (brand, gtid) in [(MYSQL, true), (MYSQL, false), (Brand::Mariadb, true)] {
        let schema = "fault_purge";
        let Some((source, target)) = servers(brand, schema, &Options::default()).await? else {
            return Ok(());
        };
        let mut job = job(schema, &source, &target).await?;
        job.gtid = gtid;
        let world = World::copying_for(60, schema, source, target, job).await?;
        let mut client = Client::connect(&world.source).await?;
        client
            .run(&format!(
                "UPDATE {schema}.n SET v = v + 1 WHERE id = 1; FLUSH BINARY LOGS"
            ))
            .await?;
        // MariaDB leaves a file without a word until all in it is safe in the tables.
        let start = Instant::now();
        while let [_, .., last] = client.rows("SHOW BINARY LOGS").await?.as_slice() {
            assert!(start.elapsed() < LIMIT, "it purges nothing");
            let last = last[0].as_deref().unwrap_or_default();
            client
                .run(&format!("PURGE BINARY LOGS TO '{last}'"))
                .await?;
            sleep(Duration::from_millis(100)).await;
        }
        let words = ["Paused", "1236", "purged", "binlog_expire_logs_seconds"];
        world.says(&words).await?;
        world.is_not_over();
    }
    Ok(())
}
