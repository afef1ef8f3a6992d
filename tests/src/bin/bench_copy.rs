//! `make bench`, third part: tables copied from one MySQL server to another by this worker, by
//! `mysqldump | mysql`, and by `mydumper` and `myloader`, one after the other.
//!
//! Ours notes each piece in the target, and could be killed at any moment. The target allows
//! `LOAD DATA LOCAL` (`local_infile`), to all of them. Settings by environment: `DM_BENCH_COPY_MIB`
//! (1700, which take some 2 GiB in tables of every kind; narrow rows have a third) and
//! `DM_BENCH_COPY_RUNS` (3) of each.

use std::{
    fs,
    process::{Command, Stdio},
    time::{Duration, Instant},
};

use dm_tests::{
    Result,
    job::Job,
    number, process,
    servers::{Brand, Database, Options, Role},
    sql::{self, Client},
    tables,
    worker::{Worker, ended_children},
};
use tokio::time::sleep;

const PIPE: &str = "mysqldump | mysql";
const FILES: &str = "mydumper, myloader";
const PLAIN: &str = "plain";
const PLAIN_TABLES: u64 = 8;
/// A row of them takes about so many bytes.
const PLAIN_ROW_BYTES: u64 = 200;
/// What a server must hold: a row of 16 MiB, and twice that with escapes, in a packet.
const PACKET: &str = "--max-allowed-packet=64M";
/// Tables that `mysql` does not take from `mysqldump`, or `myloader` not from `mydumper`.
const REFUSED: [&str; 1] = ["only_computed"];
/// How long a server may take to come to rest.
const SETTLE_MAX: Duration = Duration::from_secs(60);
/// How long a copy may take.
const LIMIT: Duration = Duration::from_secs(1800);

#[tokio::main]
async fn main() -> Result<()> {
    let mib: u64 = number("DM_BENCH_COPY_MIB").unwrap_or(1700);
    let runs: usize = number("DM_BENCH_COPY_RUNS").unwrap_or(3).max(1);
    let options = |more: &[&str]| Options {
        args: [&[PACKET], more]
            .concat()
            .into_iter()
            .map(str::to_owned)
            .collect(),
        ..Options::default()
    };
    let source = Database::start(Brand::Mysql, Role::Source, &options(&[]))?;
    let lines = options(&["--local-infile=ON", "--sql-mode="]);
    let target = Database::start(Brand::Mysql, Role::Target, &lines)?;
    let mut here = Client::connect(&source).await?;
    fill(&mut here, (mib << 20) / 3 / PLAIN_ROW_BYTES / PLAIN_TABLES).await?;
    let mut every = tables::all(Brand::Mysql);
    every.retain(|table| !REFUSED.contains(&table.name));
    tables::create(&source, &every, mib).await?;
    for (schema, what) in [
        (PLAIN, format!("{PLAIN_TABLES} tables of narrow rows")),
        (
            tables::SCHEMA,
            format!("{} tables of every kind", every.len()),
        ),
    ] {
        let bytes = size(&mut here, schema).await?;
        println!("{} MiB in {what}\n", bytes >> 20);
        let bench = Bench {
            source: &source,
            target: &target,
            schema,
            bytes,
        };
        bench.compare(&mut here, runs).await?;
    }
    Ok(())
}

/// A schema that is copied in several ways.
struct Bench<'a> {
    source: &'a Database,
    target: &'a Database,
    schema: &'a str,
    bytes: u64,
}

impl Bench<'_> {
    async fn compare(&self, here: &mut Client, runs: usize) -> Result<()> {
        let mut there = Client::connect(self.target).await?;
        println!(
            "{:<20}{:>10}{:>10}{:>10}{:>12}",
            "", "seconds", "MB/s", "CPU s", "memory MiB"
        );
        let (mut ours, mut pipe, mut files) = (Vec::new(), Vec::new(), Vec::new());
        for run in 0..runs {
            // Each comes first once: what ran before leaves its traces.
            for turn in 0..3 {
                settle(here).await?;
                settle(&mut there).await?;
                match (run + turn) % 3 {
                    0 => {
                        ours.push(self.worker().await?);
                        sql::compare_schemas(here, &mut there, &[self.schema]).await?;
                    }
                    1 => pipe.push(self.dump()?),
                    _ => files.push(self.dump_files()?),
                }
                clear(&mut there, self.schema).await?;
            }
        }
        let median = |mut all: Vec<f64>| {
            all.sort_by(f64::total_cmp);
            all[all.len() / 2]
        };
        let ours = median(ours);
        println!("\nmedian of the worker's seconds, of those of");
        for (what, theirs) in [(PIPE, pipe), (FILES, files)] {
            println!("  {what:<26}{:>12.2}", ours / median(theirs));
        }
        println!();
        Ok(())
    }

    /// Copies with the worker. How many seconds that took.
    async fn worker(&self) -> Result<f64> {
        let mut job = Job::new(self.source, self.target, &[self.schema]).await?;
        job.mode = "full";
        let (clock, before) = (Instant::now(), ended_children()?);
        let mut worker = Worker::standalone(&job)?;
        let mut resident = 0;
        while worker.ended()?.is_none() {
            // It may end just now.
            resident = worker.usage().map_or(resident, |usage| usage.resident_max);
            if clock.elapsed() > LIMIT {
                return Err(worker.explain("it does not end".into()));
            }
            sleep(Duration::from_millis(50)).await;
        }
        let took = (clock.elapsed(), ended_children()? - before);
        if !worker.log().contains("the copy is over") {
            return Err(worker.explain("it has not copied".into()));
        }
        Ok(self.show("worker", took, Some(resident)))
    }

    /// Copies with the tools of the server.
    fn dump(&self) -> Result<f64> {
        let plain = |database: &Database| {
            let key = "--get-server-public-key".to_owned();
            // As the worker, which encrypts only if it is told to.
            let ssl = "--ssl-mode=DISABLED".to_owned();
            database.login().into_iter().chain([key, ssl])
        };
        let (clock, before) = (Instant::now(), ended_children()?);
        let mut dump = Command::new(process::unpacked("mysqldump"))
            .args(plain(self.source))
            .args(["--single-transaction", "--set-gtid-purged=OFF", "--quick"])
            .args([PACKET, "--databases", self.schema])
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .spawn()?;
        let rows = dump.stdout.take().ok_or("no output")?;
        let mut load = Command::new(process::unpacked("mysql"));
        process::run(
            "mysql",
            load.args(plain(self.target)).arg(PACKET).stdin(rows),
        )?;
        if !dump.wait()?.success() {
            return Err("mysqldump failed".into());
        }
        let took = (clock.elapsed(), ended_children()? - before);
        Ok(self.show(PIPE, took, None))
    }

    /// Copies with the tools of the distribution, by way of files.
    fn dump_files(&self) -> Result<f64> {
        let dir = process::scratch("mydumper")?.join("data");
        let place = dir.display().to_string();
        let (clock, before) = (Instant::now(), ended_children()?);
        let mut dump = Command::new(process::unpacked("mydumper"));
        dump.args(self.source.login())
            .args(["--threads=4", "--trx-consistency-only"]);
        dump.args(["--database", self.schema, "--outputdir", &place]);
        process::run("mydumper", &mut dump)?;
        let mut load = Command::new(process::unpacked("myloader"));
        load.args(self.target.login()).args([
            "--threads=4",
            "--enable-binlog",
            "--directory",
            &place,
        ]);
        process::run("myloader", &mut load)?;
        let took = (clock.elapsed(), ended_children()? - before);
        fs::remove_dir_all(dir)?;
        Ok(self.show(FILES, took, None))
    }

    fn show(&self, what: &str, (wall, cpu): (Duration, Duration), memory: Option<u64>) -> f64 {
        let seconds = wall.as_secs_f64();
        let speed = self.bytes as f64 / seconds / 1e6;
        let memory = memory.map_or_else(String::new, |bytes| (bytes >> 20).to_string());
        println!(
            "{what:<20}{seconds:>10.2}{speed:>10.1}{:>10.2}{memory:>12}",
            cpu.as_secs_f64()
        );
        seconds
    }
}

/// Makes and fills tables as many benchmarks have them.
async fn fill(client: &mut Client, rows: u64) -> Result<()> {
    let schema = format!("CREATE DATABASE {PLAIN}; USE {PLAIN}");
    client.run(&schema).await?;
    client
        .run("SET SESSION cte_max_recursion_depth = 4294967295")
        .await?;
    for table in 1..=PLAIN_TABLES {
        client
            .run(&format!(
                "CREATE TABLE sb{table} (id INT NOT NULL AUTO_INCREMENT PRIMARY KEY, \
                 k INT NOT NULL, c CHAR(120) NOT NULL, pad CHAR(60) NOT NULL, KEY k (k))"
            ))
            .await?;
        let sql = format!(
            "INSERT INTO sb{table} (k, c, pad) WITH RECURSIVE r (i) AS \
             (SELECT 1 UNION ALL SELECT i + 1 FROM r WHERE i < {rows}) \
             SELECT i * 7919 % {rows}, REPEAT(HEX(i * 2654435761 % 4294967296), 13), \
             REPEAT(CHAR(97 + i % 26), 60) FROM r"
        );
        client.run(&sql).await?;
    }
    Ok(())
}

/// Bytes of all tables of a schema.
async fn size(client: &mut Client, schema: &str) -> Result<u64> {
    let tables = client.tables(schema).await?;
    for table in tables {
        // Or the server would not know how large it is.
        client
            .run(&format!("ANALYZE TABLE {schema}.`{table}`"))
            .await?;
    }
    let sql = format!(
        "SELECT SUM(data_length) FROM information_schema.tables WHERE table_schema = '{schema}'"
    );
    Ok(client.value(&sql).await?.parse()?)
}

/// Waits until a server has written to its files what is left of earlier work.
async fn settle(client: &mut Client) -> Result<()> {
    let dirty = "SELECT VARIABLE_VALUE FROM performance_schema.global_status \
                 WHERE VARIABLE_NAME = 'Innodb_buffer_pool_pages_dirty'";
    client
        .run("SET GLOBAL innodb_max_dirty_pages_pct = 0")
        .await?;
    let clock = Instant::now();
    // A server always has some.
    while client.value(dirty).await?.parse::<u64>()? > 50 && clock.elapsed() < SETTLE_MAX {
        sleep(Duration::from_millis(100)).await;
    }
    client
        .run("SET GLOBAL innodb_max_dirty_pages_pct = DEFAULT")
        .await
}

/// Lets the target have nothing.
async fn clear(client: &mut Client, schema: &str) -> Result<()> {
    let meta = client
        .rows(
            "SELECT SCHEMA_NAME FROM information_schema.SCHEMATA WHERE SCHEMA_NAME LIKE 'dm_meta%'",
        )
        .await?;
    let names = meta.into_iter().flatten().flatten();
    for name in names.chain([schema.to_owned()]) {
        client
            .run(&format!("DROP DATABASE IF EXISTS `{name}`"))
            .await?;
    }
    Ok(())
}
