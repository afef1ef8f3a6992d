//! `make migrate`: a database of gigabytes moves to another server under fire.
//!
//! Tables of every kind are copied from MySQL, then from MariaDB, to MySQL, and followed by their
//! binlog. They are written all the time, and the worker is killed twenty times, at moments that
//! the seed decides. In the end every table is compared in three ways. Settings by environment:
//! `DM_MIGRATE_MIB` (2048), `DM_MIGRATE_FROM` (`mysql,mariadb`) and `DM_TEST_SEED`.

mod checks;
mod load;

use std::{
    collections::BTreeMap,
    env,
    time::{Duration, Instant},
};

use dm_tests::{
    Result,
    job::Job,
    number,
    servers::{Brand, Database, Options, Role},
    sql::{self, Client},
    tables::{self, SCHEMA},
    types::{Columns, TypesTable},
    worker::Worker,
    workload::{Background, Workload},
};
use rand::{RngExt, SeedableRng, rngs::StdRng};
use tokio::time::sleep;

use crate::{
    checks::Sums,
    load::{DDL, Load},
};

/// A schema whose name is a reserved word and more, with the tables with every type.
const TYPES: &str = "table größe";
/// The schema that what applications do is done in.
const APPLICATION: &str = "order";
/// Kills while it copies, and afterwards.
const KILLS: [u32; 2] = [12, 8];
/// So many connections write, and one more in the schema of its own.
const WRITERS: u64 = 3;
/// What a server must hold: a row of 16 MiB, and twice that with escapes, in a packet.
const PACKET: &str = "--max-allowed-packet=64M";
/// How long the copy may take.
const LIMIT: Duration = Duration::from_secs(3600);
/// How long it may take until all has arrived that was written.
const BEHIND_MAX: Duration = Duration::from_secs(300);

#[tokio::main]
async fn main() -> Result<()> {
    let mib = number("DM_MIGRATE_MIB").unwrap_or(2048);
    let from = env::var("DM_MIGRATE_FROM").unwrap_or_else(|_| "mysql,mariadb".to_owned());
    let seed = dm_tests::seed();
    println!("{mib} MiB, seed {seed} (DM_MIGRATE_MIB, DM_TEST_SEED)");
    let mut differs = false;
    for name in from.split(',') {
        let brand = match name {
            "mysql" => Brand::Mysql,
            "mariadb" => Brand::Mariadb,
            _ => return Err(format!("DM_MIGRATE_FROM: what is {name:?}?").into()),
        };
        differs |= !Migration::prepare(brand, mib, seed).await?.run().await?;
    }
    if differs {
        return Err("source and target differ".into());
    }
    Ok(())
}

/// One migration.
struct Migration {
    source: Database,
    target: Database,
    tables: Vec<tables::Table>,
    mib: u64,
    /// What the tables take at the source.
    bytes: u64,
    seed: u64,
    rng: StdRng,
    job: Job,
    worker: Worker,
    clock: Instant,
    /// Most memory that any of its workers had, in bytes.
    memory: u64,
    /// How often it was killed: while it copied, and afterwards.
    killed: [u32; 2],
}

impl Migration {
    /// Fills a source, and starts a worker.
    async fn prepare(brand: Brand, mib: u64, seed: u64) -> Result<Self> {
        let clock = Instant::now();
        let options = Options {
            args: vec![PACKET.to_owned()],
            ..Options::default()
        };
        let source = Database::start(brand, Role::Source, &options)?;
        let target = Database::start(Brand::Mysql, Role::Target, &options)?;
        let (from, to) = (version(&source).await?, version(&target).await?);
        println!("\nfrom {brand:?} {from} to Mysql {to}");
        let tables = tables::all(brand);
        tables::create(&source, &tables, mib).await?;
        let columns = match brand {
            Brand::Mysql => Columns::Mysql,
            Brand::Mariadb => Columns::Common,
        };
        let types = TypesTable::new(columns);
        types.create(&source, TYPES).await?;
        types.write(&source, TYPES).await?;
        Workload::create(&source, APPLICATION).await?;
        let mut job = Job::new(&source, &target, &[SCHEMA, TYPES, APPLICATION]).await?;
        (job.mode, job.gtid, job.slots, job.batch) = ("all", true, 8, 500);
        let bytes = size(&source).await?;
        let worker = Worker::standalone(&job)?;
        let this = Self {
            source,
            target,
            tables,
            mib,
            bytes,
            seed,
            rng: StdRng::seed_from_u64(seed),
            job,
            worker,
            clock,
            memory: 0,
            killed: [0; 2],
        };
        this.say(&format!(
            "{} MiB in {} tables, log of the worker in {}",
            bytes >> 20,
            this.tables.len(),
            this.worker.dir().display()
        ));
        Ok(this)
    }

    fn say(&self, text: &str) {
        println!("{:6.1} s  {text}", self.clock.elapsed().as_secs_f64());
    }

    /// Moves everything, and says whether it is equal then.
    async fn run(mut self) -> Result<bool> {
        let began = Instant::now();
        let (tables, mib, seed) = (&self.tables, self.mib, self.seed);
        let load = Load::start(&self.source, tables, mib, seed, WRITERS).await?;
        let first = Background::start(&self.source, APPLICATION, seed, 1, false).await?;
        let copied = self.kill_while_it_copies().await;
        copied.map_err(|error| self.worker.explain(error))?;
        self.worker.logged("the copy is over", LIMIT).await?;
        let copying = began.elapsed();
        self.say("all is copied");
        let first = first.stop().await?;

        let second = Background::start(&self.source, APPLICATION, seed + 1, 1, true).await?;
        let followed = self.kill_while_it_follows().await;
        followed.map_err(|error| self.worker.explain(error))?;
        let (done, second) = (load.stop().await?, second.stop().await?);
        self.say(&format!(
            "writes stopped: {} transactions, {} rows, {} DDL statements",
            done.transactions + first.transactions + second.transactions,
            done.rows + first.rows + second.rows,
            DDL.len() as u64 + second.ddl,
        ));
        let behind = Instant::now();
        let outcome = self.arrived().await;
        outcome.map_err(|error| self.worker.explain(error))?;
        let behind = behind.elapsed();
        self.note_memory();
        self.say("all has arrived");
        self.worker.stop()?;
        if self.killed.contains(&0) {
            return Err("all kills fell into one phase: choose another size or seed".into());
        }
        let is_equal = self.compare().await?;
        println!(
            "copied in {:.0} s, killed {} times meanwhile and {} times afterwards, caught up \
             {:.1} s after the last write, at most {} MiB of memory: {}",
            copying.as_secs_f64(),
            self.killed[0],
            self.killed[1],
            behind.as_secs_f64(),
            self.memory >> 20,
            verdict(is_equal)
        );
        Ok(is_equal)
    }

    /// Kills it as often when a random part of all is there, sometimes while it begins again.
    async fn kill_while_it_copies(&mut self) -> Result<()> {
        let mut target = Client::connect(&self.target).await?;
        // Large rows come first, and tables without a key, which are small, last: both count.
        let rows: u64 = self.tables.iter().map(|table| table.rows(self.mib)).sum();
        let copied = format!(
            "SELECT SUM(bytes) / {} / 2 + SUM(`rows`) / {rows} / 2 FROM {}.{}_copy",
            self.bytes,
            self.job.meta_schema(),
            self.job.task
        );
        let rng = &mut self.rng;
        let mut parts: Vec<_> = (0..KILLS[0]).map(|_| rng.random_range(0.0..1.0)).collect();
        parts.sort_by(f64::total_cmp);
        for (number, part) in parts.into_iter().enumerate() {
            let start = Instant::now();
            let is_early = number % 4 == 1;
            let early = Duration::from_millis(self.rng.random_range(50..1500));
            while !self.is_over() {
                let there = target.value(&copied).await.unwrap_or_default();
                if there.parse().unwrap_or(0.0) >= part || is_early && start.elapsed() > early {
                    break;
                }
                if start.elapsed() > LIMIT {
                    return Err("the copy does not come on".into());
                }
                sleep(Duration::from_millis(20)).await;
            }
            let late = self.rng.random_range(0..400);
            sleep(Duration::from_millis(late)).await;
            self.kill().await?;
        }
        Ok(())
    }

    /// Kills it at random moments between DDL.
    async fn kill_while_it_follows(&mut self) -> Result<()> {
        let mut client = Client::connect(&self.source).await?;
        client
            .run(&format!("USE {SCHEMA}; SET sql_mode = ''"))
            .await?;
        let mut ddl = DDL.iter();
        for _ in 0..KILLS[1] {
            for sql in ddl.by_ref().take(DDL.len().div_ceil(KILLS[1] as usize)) {
                client.run(sql).await?;
                let pause = self.rng.random_range(100..2500);
                sleep(Duration::from_millis(pause)).await;
            }
            self.kill().await?;
        }
        Ok(())
    }

    async fn kill(&mut self) -> Result<()> {
        self.worker.expect_running()?;
        self.note_memory();
        self.worker.kill()?;
        // What it has said by now counts.
        let phase = usize::from(self.is_over());
        self.killed[phase] += 1;
        let when = ["it copies", "it follows the binlog"][phase];
        self.say(&format!("killed while {when}"));
        let away = self.rng.random_range(0..1000);
        sleep(Duration::from_millis(away)).await;
        self.worker.restart()
    }

    fn is_over(&self) -> bool {
        self.worker.log().contains("the copy is over")
    }

    fn note_memory(&mut self) {
        let usage = self.worker.usage().unwrap_or_default();
        self.memory = self.memory.max(usage.resident_max);
    }

    /// Waits for a table that is made behind all else: a DDL waits for all slots.
    async fn arrived(&self) -> Result<()> {
        let (mut source, mut target) = (
            Client::connect(&self.source).await?,
            Client::connect(&self.target).await?,
        );
        source
            .run(&format!(
                "CREATE TABLE {SCHEMA}.the_end (id INT PRIMARY KEY)"
            ))
            .await?;
        let start = Instant::now();
        while !target
            .tables(SCHEMA)
            .await?
            .iter()
            .any(|it| it == "the_end")
        {
            if start.elapsed() > BEHIND_MAX {
                return Err("the end does not arrive".into());
            }
            sleep(Duration::from_millis(100)).await;
        }
        Ok(())
    }

    /// Compares all tables, and prints what was found.
    async fn compare(&self) -> Result<bool> {
        let (mut a, mut b) = (
            Client::connect(&self.source).await?,
            Client::connect(&self.target).await?,
        );
        println!(
            "\n{:<28}{:>10}{:>8}  {:<8}{:<10}{:<10}",
            "table", "rows", "MiB", "rows", "checksums", "mysqldump"
        );
        checks::admit(&self.source).await?;
        let mut is_equal = true;
        for schema in &self.job.schemas {
            let (here, there) = (a.tables(schema).await?, b.tables(schema).await?);
            if here != there {
                println!("{schema}: source has {here:?}, target {there:?}");
                is_equal = false;
            }
            let dumps: [BTreeMap<String, Sums>; 2] = [
                checks::dump(&self.source, schema)?,
                checks::dump(&self.target, schema)?,
            ];
            let sizes = sizes(&mut a, schema).await?;
            for table in here {
                let rows = sql::compare(&mut a, &mut b, &[(schema, &table)]).await;
                let sums = (
                    checks::checksum(&mut a, schema, &table).await?,
                    checks::checksum(&mut b, schema, &table).await?,
                );
                let count = sums.0.0.split(' ').next().unwrap_or_default().to_owned();
                let same = [
                    rows.is_ok(),
                    sums.0 == sums.1,
                    dumps[0].get(&table) == dumps[1].get(&table),
                ];
                println!(
                    "{:<28}{count:>10}{:>8.1}  {:<8}{:<10}{:<10}",
                    format!("{schema}.{table}"),
                    sizes.get(&table).unwrap_or(&0.0),
                    verdict(same[0]),
                    verdict(same[1]),
                    verdict(same[2])
                );
                if same.contains(&false) {
                    is_equal = false;
                    let [here, there] = dumps.each_ref().map(|dump| dump.get(&table));
                    println!("{:?} {sums:?} {here:?} {there:?}", rows.err());
                }
            }
        }
        Ok(is_equal)
    }
}

const fn verdict(is_equal: bool) -> &'static str {
    if is_equal { "equal" } else { "DIFFERS" }
}

async fn version(server: &Database) -> Result<String> {
    let mut client = Client::connect(server).await?;
    client.value("SELECT VERSION()").await
}

/// Bytes of all tables.
async fn size(server: &Database) -> Result<u64> {
    let mut client = Client::connect(server).await?;
    let all = sizes(&mut client, SCHEMA).await?;
    Ok((all.values().sum::<f64>() * f64::from(1 << 20)) as u64)
}

/// MiB of each table, as far as the server knows.
async fn sizes(client: &mut Client, schema: &str) -> Result<BTreeMap<String, f64>> {
    // MySQL remembers what it has once counted. MariaDB does not, and refuses this.
    let _ = client.run("SET information_schema_stats_expiry = 0").await;
    let rows = client
        .rows(&format!(
            "SELECT table_name, data_length / 1048576 FROM information_schema.tables \
             WHERE table_schema = '{schema}' AND table_type = 'BASE TABLE'"
        ))
        .await?;
    let size = |row: Vec<Option<String>>| {
        let mut cells = row.into_iter().flatten();
        Some((cells.next()?, cells.next()?.parse().ok()?))
    };
    Ok(rows.into_iter().filter_map(size).collect())
}
