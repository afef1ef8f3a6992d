//! `make bench`: one binlog of sysbench's `oltp_write_only`, applied by this worker to MySQL and to
//! MariaDB, and by MySQL's own replica with four workers, one after the other.
//!
//! Settings by environment: `DM_BENCH_TRANSACTIONS` (100000), `DM_BENCH_SLOTS` (8) and
//! `DM_BENCH_BATCH` (100), which may be lists such as `1,4,8,16`, and `DM_BENCH_DURABLE` (1: each
//! commit of a target reaches the disk).

use std::{
    env,
    process::Command,
    time::{Duration, Instant},
};

use dm_tests::{
    Result,
    job::{Job, Start},
    process,
    servers::{Brand, Database, Options, Role},
    sql::{self, Client},
    worker::{self, Usage, Worker},
};
use tokio::time::sleep;

/// The schema that sysbench writes into.
const SCHEMA: &str = "sbtest";
/// A copy of its tables as they were before the writes.
const PREPARED: &str = "prepared";
/// The table that is created after the last write.
const END: &str = "finished";
/// A collation that all targets know.
const CHARSET: &str = "DEFAULT CHARACTER SET utf8mb4 COLLATE utf8mb4_general_ci";
/// Tables that sysbench writes into.
const TABLES: u32 = 8;
/// Rows in each of them.
const TABLE_ROWS: u32 = 10_000;
/// Rows that a transaction changes: two updates, a delete and an insert.
const TRANSACTION_ROWS: u32 = 4;
/// Connections of sysbench, and appliers of MySQL's replica.
const THREADS: u32 = 4;
/// Longest run.
const LIMIT: Duration = Duration::from_secs(600);

#[tokio::main]
async fn main() -> Result<()> {
    let transactions: u32 = setting("DM_BENCH_TRANSACTIONS", "100000").parse()?;
    let list = |name, default| -> Result<Vec<u32>> {
        let numbers = setting(name, default);
        let numbers = numbers.split(',').map(str::parse);
        Ok(numbers.collect::<Result<_, _>>()?)
    };
    let slots = list("DM_BENCH_SLOTS", "8")?;
    let batches = list("DM_BENCH_BATCH", "100")?;
    let durable = setting("DM_BENCH_DURABLE", "1") != "0";
    let options = Options {
        durable,
        ..Options::default()
    };

    let source = Database::start(Brand::Mysql, Role::Source, &Options::default())?;
    let start = prepare(&source).await?;
    println!("writing {transactions} transactions of oltp_write_only");
    sysbench(
        &source,
        "run",
        &[&format!("--events={transactions}"), "--time=0"],
    )?;
    Client::connect(&source)
        .await?
        .run(&format!("CREATE TABLE {SCHEMA}.{END} (id INT)"))
        .await?;

    println!(
        "\n{} row changes, commits of the targets {}\n{:<44}{:>8}{:>10}{:>14}{:>14}{:>10}",
        transactions * TRANSACTION_ROWS,
        if durable { "durable" } else { "not durable" },
        "",
        "seconds",
        "rows/s",
        "worker CPU s",
        "server CPU s",
        "peak RSS"
    );
    println!("{:>76}{:>14}", "per M rows", "per M rows");
    let rows = f64::from(transactions * TRANSACTION_ROWS);
    let replica = replica_run(&source, &options, &start).await?;
    replica.print("MySQL's replica, 4 workers", rows);
    for (brand, name) in [(Brand::Mysql, "MySQL"), (Brand::Mariadb, "MariaDB")] {
        for (&slots, &batch) in slots
            .iter()
            .flat_map(|slots| batches.iter().map(move |batch| (slots, batch)))
        {
            let size = Size { slots, batch };
            let figures = worker_run(&source, brand, &options, &start, size).await?;
            let what = format!("dm-worker to {name}, {slots} slots, batch {batch}");
            figures.print(&what, rows);
            let ratio = replica.elapsed.as_secs_f64() / figures.elapsed.as_secs_f64();
            println!("{:<44}{ratio:>7.2}x  the replica's rows/s", "");
        }
    }
    Ok(())
}

/// How the worker is to apply.
#[derive(Clone, Copy)]
struct Size {
    slots: u32,
    batch: u32,
}

/// What one run took.
struct Figures {
    elapsed: Duration,
    /// Of the worker; MySQL's replica is a part of its server.
    worker: Option<Usage>,
    /// CPU of the target's server.
    server: Duration,
}

impl Figures {
    fn print(&self, what: &str, rows: f64) {
        let seconds = self.elapsed.as_secs_f64();
        let server = self.server.as_secs_f64() / rows * 1e6;
        let (cpu, memory) = match self.worker {
            Some(Usage { cpu, resident_max }) => (
                format!("{:.2}", cpu.as_secs_f64() / rows * 1e6),
                format!("{} MiB", resident_max >> 20),
            ),
            None => ("-".to_owned(), "-".to_owned()),
        };
        let speed = rows / seconds;
        println!("{what:<44}{seconds:>8.2}{speed:>10.0}{cpu:>14}{server:>14.1}{memory:>10}");
    }
}

/// Makes the tables, and a copy of them that stays as it is; says where the writes begin.
async fn prepare(source: &Database) -> Result<Start> {
    let mut client = Client::connect(source).await?;
    // The password methods that sysbench's client knows differ from build to build.
    client
        .run("CREATE USER bench@'%' IDENTIFIED BY ''; GRANT ALL ON *.* TO bench@'%'")
        .await?;
    for schema in [SCHEMA, PREPARED] {
        client
            .run(&format!("CREATE DATABASE {schema} {CHARSET}"))
            .await?;
    }
    sysbench(source, "prepare", &[])?;
    for table in client.tables(SCHEMA).await? {
        let (from, to) = (format!("{SCHEMA}.{table}"), format!("{PREPARED}.{table}"));
        client
            .run(&format!(
                "CREATE TABLE {to} LIKE {from}; INSERT INTO {to} SELECT * FROM {from}"
            ))
            .await?;
    }
    Start::now(source).await
}

/// A server that holds the tables as they were before the writes.
async fn prepared_target(source: &Database, brand: Brand, options: &Options) -> Result<Database> {
    let target = Database::start(brand, Role::Target, options)?;
    let (mut from, mut to) = (
        Client::connect(source).await?,
        Client::connect(&target).await?,
    );
    to.run(&format!("CREATE DATABASE {SCHEMA} {CHARSET}; USE {SCHEMA}"))
        .await?;
    for table in from.tables(PREPARED).await? {
        let definition = from
            .rows(&format!("SHOW CREATE TABLE {PREPARED}.{table}"))
            .await?;
        let definition = definition
            .into_iter()
            .flatten()
            .flatten()
            .nth(1)
            .unwrap_or_default();
        to.run(&definition).await?;
        let rows = from
            .rows(&format!("SELECT id, k, c, pad FROM {PREPARED}.{table}"))
            .await?;
        for chunk in rows.chunks(1000) {
            let row = |row: &Vec<Option<String>>| {
                let cells: Vec<_> = row
                    .iter()
                    .map(|cell| format!("'{}'", cell.as_deref().unwrap_or("")))
                    .collect();
                format!("({})", cells.join(","))
            };
            let values: Vec<_> = chunk.iter().map(row).collect();
            to.run(&format!(
                "INSERT INTO {table} (id, k, c, pad) VALUES {}",
                values.join(",")
            ))
            .await?;
        }
    }
    Ok(target)
}

/// MySQL's own replica.
async fn replica_run(source: &Database, options: &Options, start: &Start) -> Result<Figures> {
    let args = ["--gtid-mode=ON", "--enforce-gtid-consistency=ON"]
        .map(str::to_owned)
        .to_vec();
    let options = Options {
        args,
        ..options.clone()
    };
    let target = prepared_target(source, Brand::Mysql, &options).await?;
    let mut client = Client::connect(&target).await?;
    let from = source.address();
    client
        .run(&format!(
            "SET GLOBAL replica_parallel_workers = {THREADS}; \
             CHANGE REPLICATION SOURCE TO SOURCE_HOST = '{}', SOURCE_PORT = {}, \
             SOURCE_USER = '{}', SOURCE_PASSWORD = '{}', GET_SOURCE_PUBLIC_KEY = 1, \
             SOURCE_LOG_FILE = '{}', SOURCE_LOG_POS = {}",
            from.host, from.port, from.user, from.password, start.file, start.position
        ))
        .await?;
    let (before, clock) = (worker::usage(target.pid()?)?, Instant::now());
    client.run("START REPLICA").await?;
    arrived(&mut client, None).await?;
    let elapsed = clock.elapsed();
    let server = worker::usage(target.pid()?)?.cpu - before.cpu;
    sql::compare_schemas(&mut Client::connect(source).await?, &mut client, &[SCHEMA]).await?;
    Ok(Figures {
        elapsed,
        worker: None,
        server,
    })
}

/// Our worker.
async fn worker_run(
    source: &Database,
    brand: Brand,
    options: &Options,
    start: &Start,
    size: Size,
) -> Result<Figures> {
    let target = prepared_target(source, brand, options).await?;
    let mut client = Client::connect(&target).await?;
    let mut job = Job::new(source, &target, &[SCHEMA]).await?;
    (job.start, job.gtid) = (start.clone(), true);
    (job.slots, job.batch) = (size.slots, size.batch);
    let (before, clock) = (worker::usage(target.pid()?)?, Instant::now());
    let mut worker = Worker::standalone(&job)?;
    let outcome = arrived(&mut client, Some(&mut worker)).await;
    let elapsed = clock.elapsed();
    outcome.map_err(|e| worker.explain(e))?;
    let used = worker.usage()?;
    let server = worker::usage(target.pid()?)?.cpu - before.cpu;
    worker.stop()?;
    sql::compare_schemas(&mut Client::connect(source).await?, &mut client, &[SCHEMA]).await?;
    Ok(Figures {
        elapsed,
        worker: Some(used),
        server,
    })
}

/// Waits for the last thing that was written: a DDL, which waits for all rows before it.
async fn arrived(target: &mut Client, mut worker: Option<&mut Worker>) -> Result<()> {
    let clock = Instant::now();
    while !target
        .tables(SCHEMA)
        .await?
        .iter()
        .any(|table| table == END)
    {
        if clock.elapsed() > LIMIT {
            return Err(format!("not applied within {LIMIT:?}").into());
        }
        if let Some(worker) = &mut worker {
            worker.expect_running()?;
        }
        sleep(Duration::from_millis(20)).await;
    }
    Ok(())
}

fn sysbench(source: &Database, command: &str, args: &[&str]) -> Result<()> {
    let program = process::unpacked("sysbench");
    let mut sysbench = Command::new(&program);
    sysbench.args(["oltp_write_only", "--db-driver=mysql", "--mysql-user=bench"]);
    sysbench.arg(format!("--mysql-host={}", source.address().host));
    sysbench.arg(format!("--mysql-port={}", source.address().port));
    sysbench.arg(format!("--mysql-db={SCHEMA}"));
    sysbench
        .arg(format!("--tables={TABLES}"))
        .arg(format!("--table-size={TABLE_ROWS}"));
    sysbench
        .arg(format!("--threads={THREADS}"))
        .args(args)
        .arg(command);
    process::run(&program, &mut sysbench).map(drop)
}

fn setting(name: &str, default: &str) -> String {
    env::var(name).unwrap_or_else(|_| default.to_owned())
}
