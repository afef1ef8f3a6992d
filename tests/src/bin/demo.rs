//! `make demo`: a database moves from one MySQL server to another while it is written, and the
//! worker is killed while it copies, and once more while it follows the binlog.

use std::time::{Duration, Instant};

use dm_tests::{
    Result,
    job::Job,
    servers::{Brand, Database, Options, Role},
    sql::Client,
    worker::Worker,
    workload::{Background, Workload},
};
use tokio::time::sleep;

/// The schema that is replicated.
const SCHEMA: &str = "demo";
/// Rows of its largest table before anything is copied.
const ROWS: u32 = 400_000;
/// Connections that write.
const WRITERS: u64 = 3;
/// Writes go on for this long before and after the second kill.
const PHASE: Duration = Duration::from_secs(6);
/// It copies for so long until it is killed.
const COPYING: Duration = Duration::from_millis(400);
/// How long the killed worker stays away.
const AWAY: Duration = Duration::from_secs(2);
/// How long it may take to catch up.
const LIMIT: Duration = Duration::from_secs(60);
/// What the worker says when it goes on with the binlog.
const OVER: &str = "the copy is over";

#[tokio::main]
async fn main() -> Result<()> {
    let clock = Instant::now();
    let say = |text: &str| println!("{:5.1} s  {text}", clock.elapsed().as_secs_f64());

    let options = Options::default();
    let source = Database::start(Brand::Mysql, Role::Source, &options)?;
    let target = Database::start(Brand::Mysql, Role::Target, &options)?;
    let version = Client::connect(&source)
        .await?
        .value("SELECT VERSION()")
        .await?;
    let (from, to) = (source.address().port, target.address().port);
    say(&format!(
        "two MySQL {version} servers run: source on port {from}, target on {to}"
    ));

    Workload::create(&source, SCHEMA).await?;
    fill(&source).await?;
    say(&format!("the source has {ROWS} rows, and some more"));
    let copied = Background::start(&source, SCHEMA, 1, WRITERS, false).await?;
    say("inserts, updates and deletes are being written, up to 3,000 rows a transaction");

    let mut job = Job::new(&source, &target, &[SCHEMA]).await?;
    (job.mode, job.gtid) = ("all", true);
    let mut worker = Worker::standalone(&job)?;
    let files = place(&worker);
    say(&format!(
        "worker {} moves schema `{SCHEMA}`, files in {files}",
        worker.pid()
    ));
    worker.logged(" copying ", LIMIT).await?;
    sleep(COPYING).await;
    kill(&mut worker, &say).await?;
    worker.logged(OVER, LIMIT).await?;
    say("all is copied; the worker goes on with the binlog");
    let before = copied.stop().await?;

    let writing = Instant::now();
    let background = Background::start(&source, SCHEMA, 2, WRITERS, true).await?;
    say("now DDL is written as well");
    sleep(PHASE).await;
    kill(&mut worker, &say).await?;
    sleep(PHASE).await;
    let done = background.stop().await?;
    let written = writing.elapsed().as_secs_f64();
    say(&format!(
        "writes stopped: {} transactions, {} rows, {} DDL statements",
        before.transactions + done.transactions,
        before.rows + done.rows,
        done.ddl
    ));

    let outcome = job.caught_up(&source, &target, LIMIT).await;
    let total = writing.elapsed().as_secs_f64();
    outcome.map_err(|e| worker.explain(e))?;
    say("the target has caught up");
    let usage = worker.usage()?;
    worker.stop()?;
    compare(&source, &target).await?;
    println!(
        "\n{} rows in {total:.1} s: {:.0} rows/s, as fast as they were written ({written:.1} s)\n\
         since its restart the worker used {:.2} s of CPU and at most {} MiB of memory",
        done.rows,
        done.rows as f64 / total,
        usage.cpu.as_secs_f64(),
        usage.resident_max >> 20,
    );
    Ok(())
}

/// Kills the worker, and starts it again after a while.
async fn kill(worker: &mut Worker, say: &impl Fn(&str)) -> Result<()> {
    let pid = worker.pid();
    worker.expect_running()?;
    worker.kill()?;
    let does = if worker.log().contains(OVER) {
        "follows the binlog"
    } else {
        "copies"
    };
    say(&format!(
        "worker {pid} killed with SIGKILL while it {does}; writes go on"
    ));
    sleep(AWAY).await;
    worker.restart()?;
    say(&format!("worker started again, process {}", worker.pid()));
    Ok(())
}

/// A table that takes a moment to be copied.
async fn fill(source: &Database) -> Result<()> {
    let mut client = Client::connect(source).await?;
    client
        .run(&format!(
            "USE {SCHEMA}; SET SESSION cte_max_recursion_depth = {ROWS}; \
             CREATE TABLE orders (id BIGINT AUTO_INCREMENT PRIMARY KEY, customer INT, \
             placed DATETIME, note VARCHAR(200), KEY (customer))"
        ))
        .await?;
    let sql = format!(
        "INSERT INTO orders (customer, placed, note) WITH RECURSIVE r (i) AS \
         (SELECT 1 UNION ALL SELECT i + 1 FROM r WHERE i < {ROWS}) \
         SELECT i % 997, '2026-01-01' + INTERVAL i SECOND, REPEAT(CHAR(97 + i % 26), i % 200) \
         FROM r"
    );
    client.run(&sql).await
}

/// Prints each table of both sides; fails where they differ.
async fn compare(source: &Database, target: &Database) -> Result<()> {
    let (mut a, mut b) = (
        Client::connect(source).await?,
        Client::connect(target).await?,
    );
    println!(
        "\n{:<16}{:>12}{:>12}  {:<18}",
        "table", "source rows", "target rows", "checksum"
    );
    let mut differs = false;
    for table in a.tables(SCHEMA).await? {
        let (here, there) = (
            a.contents(SCHEMA, &table).await?,
            b.contents(SCHEMA, &table).await?,
        );
        let difference = here.difference(&there);
        let verdict = if difference.is_none() {
            "equal"
        } else {
            "DIFFERS"
        };
        let (m, n, sum) = (here.count(), there.count(), here.checksum());
        println!("{table:<16}{m:>12}{n:>12}  {sum:016x}  {verdict}");
        if let Some(difference) = difference {
            println!("{difference}");
            differs = true;
        }
    }
    if differs {
        Err("source and target differ".into())
    } else {
        Ok(())
    }
}

fn place(worker: &Worker) -> String {
    worker.dir().display().to_string()
}
