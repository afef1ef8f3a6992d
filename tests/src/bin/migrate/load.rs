//! Who writes into the tables while they are moved.

use std::sync::{
    Arc,
    atomic::{AtomicBool, Ordering},
};

use dm_tests::{Result, servers::Database, sql::Client};
use rand::{Rng, RngExt, SeedableRng, rngs::StdRng};
use tokio::{
    task::JoinHandle,
    time::{Duration, sleep},
};

use dm_tests::tables::{Change, SCHEMA, Table};

/// Rows of a writer have numbers from here on, times its own number.
const FRESH: u64 = 100_000_000;
/// What a writer waits between its transactions: nobody writes all the time.
const PAUSE: Duration = Duration::from_millis(4);
/// Server errors that are part of the game: duplicate key, lock wait timeout, deadlock.
const EXPECTED: [&str; 3] = ["ERROR 1062", "ERROR 1205", "ERROR 1213"];

/// Changes of structure, while the binlog is followed.
pub(crate) const DDL: [&str; 16] = [
    "ALTER TABLE decimals ADD COLUMN late INT NOT NULL DEFAULT 7 AFTER k",
    "CREATE INDEX v ON strings (v, pad(10))",
    "UPDATE plain SET v = v + 1 WHERE id < 40000",
    "ALTER TABLE moments MODIFY pad VARCHAR(300) CHARACTER SET utf16",
    "RENAME TABLE `empty` TO vacant",
    "INSERT INTO vacant VALUES (1, NULL), (2, 3)",
    "ALTER TABLE hashes ADD PARTITION PARTITIONS 2",
    "ALTER TABLE latin CONVERT TO CHARACTER SET utf8mb4",
    "TRUNCATE TABLE nulls",
    "ALTER TABLE ranges REORGANIZE PARTITION p1 INTO \
     (PARTITION p1a VALUES LESS THAN (100), PARTITION p1b VALUES LESS THAN (5000))",
    "DELETE FROM no_key WHERE x % 100 = 3",
    "ALTER TABLE wide ADD COLUMN c200 INT FIRST, MODIFY c5 VARCHAR(40)",
    "CREATE TABLE fresh LIKE composite",
    "INSERT INTO fresh (a, b, c, v) SELECT a, b, c, v FROM composite LIMIT 5000",
    "ALTER TABLE fresh RENAME COLUMN v TO `ä ```",
    "ALTER TABLE enum_key DROP PRIMARY KEY, ADD PRIMARY KEY (id)",
];

/// What was written.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Done {
    /// Transactions committed.
    pub(crate) transactions: u64,
    /// Rows changed by them.
    pub(crate) rows: u64,
}

/// Writers at work until they are told to stop.
#[derive(Debug)]
pub(crate) struct Load {
    stop: Arc<AtomicBool>,
    writers: Vec<JoinHandle<Result<Done>>>,
}

impl Load {
    /// Starts writers on tables that were made for so many MiB.
    ///
    /// # Errors
    /// What the server says.
    pub(crate) async fn start(
        server: &Database,
        tables: &[Table],
        mib: u64,
        seed: u64,
        writers: u64,
    ) -> Result<Self> {
        let stop = Arc::new(AtomicBool::new(false));
        let mut handles = Vec::new();
        for number in 1..=writers {
            let mut client = Client::connect(server).await?;
            client
                .run(&format!(
                    "USE {SCHEMA}; SET sql_mode = '', innodb_lock_wait_timeout = 2"
                ))
                .await?;
            let mut writer = Writer {
                client,
                rng: StdRng::seed_from_u64(seed.wrapping_add(number)),
                tables: tables.to_vec(),
                mib,
                fresh: number * FRESH..number * FRESH,
            };
            let stop = Arc::clone(&stop);
            handles.push(tokio::spawn(async move {
                let mut done = Done::default();
                while !stop.load(Ordering::Relaxed) {
                    writer.step(&mut done).await?;
                    sleep(PAUSE).await;
                }
                Ok(done)
            }));
        }
        Ok(Self {
            stop,
            writers: handles,
        })
    }

    /// Ends the writers after their transaction and says what all of them did.
    ///
    /// # Errors
    /// The first error of a writer.
    pub(crate) async fn stop(self) -> Result<Done> {
        self.stop.store(true, Ordering::Relaxed);
        let mut sum = Done::default();
        for writer in self.writers {
            let done = writer.await??;
            sum.transactions += done.transactions;
            sum.rows += done.rows;
        }
        Ok(sum)
    }
}

struct Writer {
    client: Client,
    rng: StdRng,
    tables: Vec<Table>,
    mib: u64,
    /// Numbers of rows that it has made, and from the end on those that nobody has made yet.
    fresh: std::ops::Range<u64>,
}

impl Writer {
    /// A transaction of some changes.
    async fn step(&mut self, done: &mut Done) -> Result<()> {
        self.client.run("BEGIN").await?;
        let before = self.client.changed_rows();
        let mut outcome = Ok(());
        for _ in 0..self.rng.random_range(1..6) {
            let sql = self.change();
            outcome = self.client.run(&sql).await;
            if outcome.is_err() {
                break;
            }
        }
        let Err(error) = outcome else {
            self.client.run("COMMIT").await?;
            done.transactions += 1;
            done.rows += self.client.changed_rows() - before;
            return Ok(());
        };
        self.client.run("ROLLBACK").await?;
        let text = error.to_string();
        if EXPECTED.iter().any(|expected| text.contains(expected)) {
            return Ok(());
        }
        Err(error)
    }

    fn change(&mut self) -> String {
        let sum = self.tables.iter().map(|table| table.often).sum();
        let mut dice = self.rng.random_range(0..sum);
        let mut chosen = 0;
        while dice >= self.tables[chosen].often {
            dice -= self.tables[chosen].often;
            chosen += 1;
        }
        let rows = self.tables[chosen].rows(self.mib);
        let change = match self.rng.random_range(0..100) {
            0..35 => Change::Insert,
            35..65 => Change::Update(self.rng.next_u32().into()),
            65..85 => Change::Rekey(self.next()),
            _ => Change::Delete,
        };
        let is_own = !self.fresh.is_empty() && self.rng.random_bool(0.3);
        let number = match change {
            Change::Insert => self.next(),
            _ if is_own => self.rng.random_range(self.fresh.clone()),
            _ => self.rng.random_range(0..rows.max(1)),
        };
        self.tables[chosen].change(change, number)
    }

    const fn next(&mut self) -> u64 {
        self.fresh.end += 1;
        self.fresh.end - 1
    }
}
