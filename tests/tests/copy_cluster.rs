//! A copy in a cluster with a scripted master: it is asked how far it is, paused, moved to another
//! worker, stopped and started again, and each time it goes on with what is left.

use std::time::{Duration, Instant};

use dm_tests::{
    Result,
    job::Job,
    master::{Expect, Master},
    servers::{Brand, Database, Etcd, Options, Role},
    sql::Client,
    worker::Worker,
};
use tokio::time::sleep;

/// How long a busy machine may take.
const LIMIT: Duration = Duration::from_secs(60);
const TTL_S: u32 = 5;
const SCHEMA: &str = "copied";
const ROWS: u64 = 100_000;
/// What inserts wait in all, however fast the machine is.
const PAUSES_S: f64 = 40.0;
/// Units, as the protocol numbers them.
const DUMP: i32 = 2;
const SYNC: i32 = 4;

/// Two servers, and the rows to be moved.
async fn servers() -> Result<(Database, Database)> {
    let source = Database::start(Brand::Mysql, Role::Source, &Options::default())?;
    let target = Database::start(Brand::Mysql, Role::Target, &Options::default())?;
    let definition = "(id INT PRIMARY KEY, v INT, pad CHAR(200))";
    Client::connect(&source)
        .await?
        .run(&format!(
            "CREATE DATABASE {SCHEMA}; USE {SCHEMA}; \
             SET SESSION cte_max_recursion_depth = {ROWS}; CREATE TABLE n {definition}; \
             INSERT INTO n WITH RECURSIVE r (i) AS \
             (SELECT 1 UNION ALL SELECT i + 1 FROM r WHERE i < {ROWS}) \
             SELECT i, 0, REPEAT(CHAR(97 + i % 26), 190) FROM r; ANALYZE TABLE n"
        ))
        .await?;
    let pause = PAUSES_S / (ROWS / 500) as f64;
    Client::connect(&target)
        .await?
        .run(&format!(
            "CREATE DATABASE {SCHEMA}; USE {SCHEMA}; CREATE TABLE n {definition}; \
             CREATE TRIGGER slow BEFORE INSERT ON n FOR EACH ROW \
             SET @slow = IF(NEW.id % 500 = 0, SLEEP({pause}), 0)"
        ))
        .await?;
    Ok((source, target))
}

/// A copy, seen from both ends.
struct Copy {
    master: Master,
    job: Job,
    source: Client,
    target: Client,
    /// How many rows were there when somebody last looked.
    rows: u64,
}

impl Copy {
    /// How many rows are noted to be there.
    async fn noted(&mut self) -> Result<u64> {
        let (meta, task) = (self.job.meta_schema(), &self.job.task);
        let rows = format!("SELECT CAST(SUM(`rows`) AS UNSIGNED) FROM {meta}.{task}_copy");
        let rows = self.target.value(&rows).await.unwrap_or_default();
        Ok(rows.parse().unwrap_or(0))
    }

    /// Waits until more rows are there than when this was last asked for. Never are there fewer.
    async fn comes_on(&mut self, worker: &Worker) -> Result<()> {
        let start = Instant::now();
        loop {
            let noted = self.noted().await?;
            assert!(noted >= self.rows, "it began anew: {}", worker.log());
            if noted > self.rows {
                assert!(noted < ROWS, "it was too fast: {}", worker.log());
                self.rows = noted;
                return Ok(());
            }
            if start.elapsed() > LIMIT {
                return Err(worker.explain("nothing is copied".into()));
            }
            sleep(Duration::from_millis(20)).await;
        }
    }

    /// Nobody reads, and nothing arrives; what is written meanwhile is left to the binlog.
    async fn rests(&mut self, worker: &Worker) -> Result<()> {
        let snapshots = "SELECT COUNT(*) FROM information_schema.innodb_trx";
        let start = Instant::now();
        // What was sent to the target runs to its end, and counts.
        for client in [&mut self.source, &mut self.target] {
            while client.value(snapshots).await? != "0" {
                assert!(start.elapsed() < LIMIT, "{}", worker.log());
                // Who asks more often is told the same again and again.
                sleep(Duration::from_millis(300)).await;
            }
        }
        self.rows = self.noted().await?;
        let update = format!("UPDATE {SCHEMA}.n SET v = v + 1 WHERE id % 1000 = 1");
        self.source.run(&update).await?;
        sleep(Duration::from_secs(1)).await;
        assert_eq!(self.noted().await?, self.rows, "{}", worker.log());
        Ok(())
    }

    async fn expect(&self, stage: Expect, worker: (&str, &Worker)) -> Result<()> {
        let outcome = self.master.set_stage(&self.job, worker.0, stage).await;
        outcome.map_err(|error| worker.1.explain(error))
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_copy_goes_on_wherever_its_task_goes() -> Result<()> {
    let (source, target) = servers().await?;
    let etcd = Etcd::start()?;
    let mut job = Job::new(&source, &target, &[SCHEMA]).await?;
    (job.mode, job.gtid, job.dump.0) = ("all", true, 1);
    let mut copy = Copy {
        master: Master::start(&etcd).await?,
        source: Client::connect(&source).await?,
        target: Client::connect(&target).await?,
        job,
        rows: 0,
    };
    let mut one = Worker::join(&copy.master, "one", TTL_S)?;
    let mut two = Worker::join(&copy.master, "two", TTL_S)?;
    for name in ["one", "two"] {
        copy.master.online(name, LIMIT).await?;
    }
    copy.master.create_source(&copy.job, "one").await?;
    let started = copy.master.start_task(&copy.job, "one").await;
    started.map_err(|error| one.explain(error))?;
    copy.comes_on(&one).await?;
    copy.comes_on(&one).await?;

    let answer = copy.master.query("one", &copy.job.task).await?;
    let subtask = &answer.subtasks[0];
    assert_eq!(subtask.unit, DUMP);
    let dump = subtask.dump.as_ref().ok_or("no status of the dump")?;
    assert_eq!((dump.total_tables, dump.completed_tables), (1, 0.0));
    let part = dump.finished_rows / ROWS as f64;
    assert!(part > 0.0 && part < 1.0, "{dump:?}");
    assert!((dump.estimate_total_rows / ROWS as f64 - 1.0).abs() < 0.2);
    assert!(dump.finished_bytes >= 200.0 * dump.finished_rows);
    assert!(dump.progress.ends_with(" %"), "{dump:?}");

    copy.expect(Expect::Paused, ("one", &one)).await?;
    copy.rests(&one).await?;
    copy.expect(Expect::Running, ("one", &one)).await?;
    copy.comes_on(&one).await?;

    let moved = copy.master.transfer_source(&copy.job, "one", "two").await;
    moved.map_err(|error| two.explain(error))?;
    copy.comes_on(&two).await?;

    copy.master.stop_task(&copy.job, "two").await?;
    copy.rests(&two).await?;
    copy.master.start_task(&copy.job, "two").await?;
    copy.comes_on(&two).await?;
    let update = format!("UPDATE {SCHEMA}.n SET v = v + 1 WHERE id % 1000 = 2");
    copy.source.run(&update).await?;

    // What is noted does not grow with the table.
    let (meta, task) = (copy.job.meta_schema(), &copy.job.task);
    let notes = format!("SELECT COUNT(*) <= 4 FROM {meta}.{task}_copy WHERE number > 0");
    assert_eq!(copy.target.value(&notes).await?, "1", "one for each start");

    copy.target
        .run(&format!("DROP TRIGGER {SCHEMA}.slow"))
        .await?;
    let outcome = copy.job.caught_up(&source, &target, LIMIT).await;
    outcome.map_err(|error| two.explain(error))?;
    let answer = copy.master.query("two", &copy.job.task).await?;
    assert_eq!(answer.subtasks[0].unit, SYNC);
    one.stop()?;
    two.stop()
}
