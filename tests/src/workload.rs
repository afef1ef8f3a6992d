//! Writes on a source, random by seed: what applications do, and what breaks replicators.
//!
//! Four sysbench-like tables, one with a unique key whose values move between rows, one with a
//! composite key under a case-insensitive collation, one without any key; transactions over several
//! tables, savepoints, rollbacks, transactions of thousands of rows, and DDL.

use std::sync::{
    Arc,
    atomic::{AtomicBool, Ordering},
};

use rand::{Rng, RngExt, SeedableRng, rngs::StdRng};
use tokio::task::JoinHandle;

use crate::{Result, servers::Database, sql::Client};

/// Sysbench-like tables.
const PLAIN_TABLES: u32 = 4;
/// Ids are drawn from here, so that transactions meet.
const ID_MAX: u32 = 2000;
/// Rows of a big transaction.
const BIG_ROWS: u32 = 3000;
/// Server errors that are part of the game: duplicate key, lock wait timeout, deadlock.
const EXPECTED: [&str; 3] = ["ERROR 1062", "ERROR 1205", "ERROR 1213"];

/// What a workload did.
#[derive(Clone, Copy, Debug, Default)]
pub struct Done {
    /// Transactions committed.
    pub transactions: u64,
    /// Rows changed by them.
    pub rows: u64,
    /// DDL statements.
    pub ddl: u64,
}

/// A connection that writes into one schema.
#[derive(Debug)]
pub struct Workload {
    client: Client,
    rng: StdRng,
    ddl: bool,
    /// Number of the table that DDL works on, and of the next column it adds.
    next: u32,
    done: Done,
}

impl Workload {
    /// Makes the schema and its tables, with some rows.
    ///
    /// # Errors
    /// What the server says.
    pub async fn create(server: &Database, schema: &str) -> Result<()> {
        let mut client = Client::connect(server).await?;
        let utf8 = "DEFAULT CHARACTER SET utf8mb4 COLLATE utf8mb4_general_ci";
        client
            .run(&format!("CREATE DATABASE `{schema}` {utf8}"))
            .await?;
        client.run(&format!("USE `{schema}`")).await?;
        for table in 1..=PLAIN_TABLES {
            let sql = format!(
                "CREATE TABLE sb{table} (id INT NOT NULL AUTO_INCREMENT, \
                 k INT NOT NULL DEFAULT 0, c CHAR(120) NOT NULL DEFAULT '', \
                 pad CHAR(60) NOT NULL DEFAULT '', PRIMARY KEY (id), KEY k (k)) {utf8}"
            );
            client.run(&sql).await?;
        }
        let sql = format!(
            "CREATE TABLE account (id BIGINT UNSIGNED NOT NULL PRIMARY KEY, \
             owner VARCHAR(40) NULL, balance DECIMAL(20,4) NOT NULL, note TEXT NULL, \
             touched TIMESTAMP(6) NOT NULL DEFAULT CURRENT_TIMESTAMP(6), \
             UNIQUE KEY owner (owner)) {utf8}"
        );
        client.run(&sql).await?;
        let sql = format!(
            "CREATE TABLE pair (a INT NOT NULL, b VARCHAR(32) NOT NULL, n INT NULL, x DOUBLE, \
             PRIMARY KEY (a, b), UNIQUE KEY n (n)) {utf8}"
        );
        client.run(&sql).await?;
        client
            .run(&format!(
                "CREATE TABLE nokey (a INT, b VARCHAR(20), c DATETIME(3)) {utf8}"
            ))
            .await
    }

    /// A writer in a schema that [`create`](Self::create) made. At most one writer of a schema may
    /// do DDL.
    ///
    /// # Errors
    /// What the server says.
    pub async fn open(server: &Database, schema: &str, seed: u64, ddl: bool) -> Result<Self> {
        let mut client = Client::connect(server).await?;
        client
            .run(&format!("USE `{schema}`; SET innodb_lock_wait_timeout = 2"))
            .await?;
        let rng = StdRng::seed_from_u64(seed);
        Ok(Self {
            client,
            rng,
            ddl,
            next: 0,
            done: Done::default(),
        })
    }

    /// What it did so far.
    #[must_use]
    pub const fn done(&self) -> Done {
        self.done
    }

    /// Runs `count` random transactions.
    ///
    /// # Errors
    /// What the server says, beyond lost races between writers.
    pub async fn run(&mut self, count: u32) -> Result<()> {
        for _ in 0..count {
            self.step().await?;
        }
        Ok(())
    }

    /// Runs one random transaction, or a DDL.
    ///
    /// # Errors
    /// What the server says, beyond lost races between writers.
    pub async fn step(&mut self) -> Result<()> {
        let dice = self.rng.random_range(0..1000);
        if dice < 15 && self.ddl {
            return self.ddl_step().await;
        }
        self.client.run("BEGIN").await?;
        let before = self.client.changed_rows();
        let outcome = match dice {
            0..300 => self.plain().await,
            300..450 => self.account().await,
            450..550 => self.swap().await,
            550..700 => self.pair().await,
            700..800 => self.nokey().await,
            800..960 => self.several().await,
            960..990 => self.savepoint().await,
            990..996 => Err(ROLLBACK.into()),
            _ => self.big().await,
        };
        let end = if outcome.is_ok() {
            "COMMIT"
        } else {
            "ROLLBACK"
        };
        self.client.run(end).await?;
        match outcome {
            Ok(()) => {
                self.done.transactions += 1;
                self.done.rows += self.client.changed_rows() - before;
                Ok(())
            }
            Err(error) if is_expected(&error.to_string()) => Ok(()),
            Err(error) => Err(error),
        }
    }

    /// What sysbench's `oltp_write_only` does in a transaction.
    async fn plain(&mut self) -> Result<()> {
        let table = self.rng.random_range(1..=PLAIN_TABLES);
        let (a, b, c) = (self.id(), self.id(), self.id());
        let (k, text, pad) = (self.id(), self.word(100), self.word(50));
        let sql = format!("UPDATE sb{table} SET k = k + 1 WHERE id = {a}");
        self.client.run(&sql).await?;
        let sql = format!("UPDATE sb{table} SET c = {text} WHERE id = {b}");
        self.client.run(&sql).await?;
        let sql = format!("DELETE FROM sb{table} WHERE id = {c}");
        self.client.run(&sql).await?;
        let values = format!("({c}, {k}, {text}, {pad})");
        self.client
            .run(&format!(
                "INSERT INTO sb{table} (id, k, c, pad) VALUES {values}"
            ))
            .await
    }

    /// Inserts, updates, deletes and primary key changes under a unique key.
    async fn account(&mut self) -> Result<()> {
        let (id, other) = (self.id() % 300, self.id() % 300);
        let (owner, note) = (self.id() % 400, self.word(200));
        let cents = self.rng.random_range(-9_999_999..9_999_999);
        let sql = match self.rng.random_range(0..5) {
            0 => format!(
                "INSERT INTO account (id, owner, balance, note) \
                 VALUES ({id}, 'o{owner}', {cents} / 10000, {note})"
            ),
            1 => format!(
                "REPLACE INTO account (id, owner, balance) VALUES ({id}, 'O{owner}', {cents})"
            ),
            2 => format!("UPDATE account SET id = {other}, note = {note} WHERE id = {id}"),
            3 => format!("UPDATE account SET owner = NULL, balance = -balance WHERE id = {id}"),
            _ => format!("DELETE FROM account WHERE id = {id}"),
        };
        self.client.run(&sql).await
    }

    /// Two rows exchange the value of a unique key: order matters across rows.
    async fn swap(&mut self) -> Result<()> {
        let (a, b) = (self.id() % 300, self.id() % 300);
        let sql = format!("SELECT owner FROM account WHERE id IN ({a}, {b}) FOR UPDATE");
        let owners: Vec<_> = self
            .client
            .rows(&sql)
            .await?
            .into_iter()
            .flatten()
            .collect();
        let [Some(_), Some(_)] = owners.as_slice() else {
            return Ok(());
        };
        let sql = format!(
            "SET @a = (SELECT owner FROM account WHERE id = {a}), \
             @b = (SELECT owner FROM account WHERE id = {b}); \
             UPDATE account SET owner = NULL WHERE id = {a}; \
             UPDATE account SET owner = @a WHERE id = {b}; \
             UPDATE account SET owner = @b WHERE id = {a}"
        );
        self.client.run(&sql).await
    }

    /// A composite key that differs by case only, and a unique key with many NULLs.
    async fn pair(&mut self) -> Result<()> {
        let (a, b) = (self.id() % 20, self.id() % 20);
        let b = ["k", "K", "é", "E", "k "][self.rng.random_range(0..5)].to_owned() + &b.to_string();
        let n = if self.rng.random_bool(0.3) {
            self.id().to_string()
        } else {
            "NULL".to_owned()
        };
        let x = self.rng.random::<f64>() * 1e10;
        let sql = match self.rng.random_range(0..4) {
            0 | 1 => format!(
                "INSERT INTO pair VALUES ({a}, '{b}', {n}, {x:e}) \
                 ON DUPLICATE KEY UPDATE x = {x:e}, n = {n}"
            ),
            2 => format!("UPDATE pair SET b = '{b}', a = a + 1 WHERE a = {a} LIMIT 1"),
            _ => format!("DELETE FROM pair WHERE a = {a} AND b = '{b}'"),
        };
        self.client.run(&sql).await
    }

    /// Rows that only their number tells apart.
    async fn nokey(&mut self) -> Result<()> {
        let (a, b) = (self.id() % 10, self.id() % 3);
        let sql = match self.rng.random_range(0..6) {
            0..4 => format!(
                "INSERT INTO nokey VALUES ({a}, 'b{b}', '2024-01-0{} 01:02:03.{b}'), \
                 ({a}, 'b{b}', NULL)",
                b + 1
            ),
            4 => format!("UPDATE nokey SET b = 'b{b}' WHERE a = {a} LIMIT 1"),
            _ => format!("DELETE FROM nokey WHERE a = {a} LIMIT 1"),
        };
        self.client.run(&sql).await
    }

    async fn several(&mut self) -> Result<()> {
        for _ in 0..self.rng.random_range(2..8) {
            match self.rng.random_range(0..4) {
                0 => self.plain().await?,
                1 => self.account().await?,
                2 => self.pair().await?,
                _ => self.nokey().await?,
            }
        }
        Ok(())
    }

    /// A part of a transaction that never was.
    async fn savepoint(&mut self) -> Result<()> {
        self.nokey().await?;
        self.client.run("SAVEPOINT here").await?;
        self.nokey().await?;
        self.account().await?;
        self.client.run("ROLLBACK TO SAVEPOINT here").await?;
        self.nokey().await
    }

    /// Thousands of rows in one transaction: more than a batch.
    async fn big(&mut self) -> Result<()> {
        let table = self.rng.random_range(1..=PLAIN_TABLES);
        let first = self.rng.random_range(ID_MAX..10 * ID_MAX);
        let rows: Vec<_> = (first..first + BIG_ROWS)
            .map(|id| format!("({id}, {}, 'c{}')", id % 7, self.rng.random::<u32>()))
            .collect();
        let rows = rows.join(",");
        let sql = format!("REPLACE INTO sb{table} (id, k, c) VALUES {rows}");
        self.client.run(&sql).await?;
        let sql = format!("UPDATE sb{table} SET k = k + 1 WHERE id >= {first} AND id % 3 = 0");
        self.client.run(&sql).await?;
        let sql = format!("DELETE FROM sb{table} WHERE id >= {first} AND id % 2 = 0");
        self.client.run(&sql).await
    }

    /// A table that changes under its rows.
    async fn ddl_step(&mut self) -> Result<()> {
        self.next += 1;
        let n = self.next;
        let sql = match n % 8 {
            1 => "CREATE TABLE ddl (id INT PRIMARY KEY, v VARCHAR(20)) \
                  DEFAULT CHARACTER SET utf8mb4 COLLATE utf8mb4_general_ci"
                .to_owned(),
            2 => "ALTER TABLE ddl ADD COLUMN extra BIGINT NULL AFTER id, ADD INDEX (extra)"
                .to_owned(),
            3 => "CREATE INDEX v ON ddl (v(10))".to_owned(),
            4 => "ALTER TABLE ddl MODIFY v VARCHAR(200) NOT NULL DEFAULT 'none'".to_owned(),
            5 => "RENAME TABLE ddl TO ddl_renamed, ddl_renamed TO ddl".to_owned(),
            6 => "ALTER TABLE ddl DROP COLUMN extra".to_owned(),
            7 => "TRUNCATE TABLE ddl".to_owned(),
            _ => "DROP TABLE ddl".to_owned(),
        };
        self.client.run(&sql).await?;
        self.done.ddl += 1;
        if !n.is_multiple_of(8) {
            let word = self.word(20);
            let sql = format!("INSERT INTO ddl (id, v) VALUES ({n}, {word}), ({n} + 1000, 'x')");
            self.client.run(&sql).await?;
            self.client
                .run(&format!("UPDATE ddl SET id = id + 5000 WHERE id = {n}"))
                .await?;
        }
        Ok(())
    }

    fn id(&mut self) -> u32 {
        self.rng.random_range(1..=ID_MAX)
    }

    /// A string literal of at most `chars_max` characters, with all that needs escaping.
    fn word(&mut self, chars_max: usize) -> String {
        const PARTS: [&str; 12] = [
            "a", "Z", "0", " ", "''", "\\\\", "\\n", "\\0", "é", "漢", "😀", "\\\"",
        ];
        let count = self.rng.random_range(0..=chars_max.min(20));
        // The server strips trailing spaces of CHAR; a last letter keeps them out of the way.
        let word: String = (0..count.saturating_sub(1))
            .map(|_| PARTS[self.rng.next_u32() as usize % PARTS.len()])
            .collect();
        format!("'{word}x'")
    }
}

const ROLLBACK: &str = "ERROR 1213, on purpose";

fn is_expected(error: &str) -> bool {
    EXPECTED.iter().any(|text| error.contains(text))
}

/// Writers at work until they are told to stop.
#[derive(Debug)]
pub struct Background {
    schema: String,
    stop: Arc<AtomicBool>,
    writers: Vec<JoinHandle<Result<Done>>>,
}

impl Background {
    /// Starts `writers` writers in a schema that [`Workload::create`] made; the first does DDL.
    ///
    /// # Errors
    /// What the server says.
    pub async fn start(
        server: &Database,
        schema: &str,
        seed: u64,
        writers: u64,
        ddl: bool,
    ) -> Result<Self> {
        let stop = Arc::new(AtomicBool::new(false));
        let mut handles = Vec::new();
        for n in 0..writers {
            let mut writer =
                Workload::open(server, schema, seed.wrapping_add(n), ddl && n == 0).await?;
            let stop = Arc::clone(&stop);
            handles.push(tokio::spawn(async move {
                while !stop.load(Ordering::Relaxed) {
                    writer.step().await?;
                }
                Ok(writer.done())
            }));
        }
        Ok(Self {
            schema: schema.to_owned(),
            stop,
            writers: handles,
        })
    }

    /// Ends the writers after their transaction and says what all of them did.
    ///
    /// # Errors
    /// The first error of a writer.
    pub async fn stop(self) -> Result<Done> {
        self.stop.store(true, Ordering::Relaxed);
        let mut sum = Done::default();
        for writer in self.writers {
            let done = writer
                .await?
                .map_err(|e| format!("writer in {}: {e}", self.schema))?;
            sum.transactions += done.transactions;
            sum.rows += done.rows;
            sum.ddl += done.ddl;
        }
        Ok(sum)
    }
}
