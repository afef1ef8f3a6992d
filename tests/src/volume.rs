//! Binlogs of many megabytes, written fast: for what is measured, and for what must be right
//! however much of it there is.
//!
//! Small transactions as sysbench's `oltp_write_only` has them, statements over thousands of rows,
//! rows of up to 17 MiB (more than a packet of the protocol holds), the table with every type,
//! compressed transactions and DDL. Servers do most of it by themselves, in procedures.

use crate::{
    Result,
    servers::{Brand, Database, Options, Role},
    sql::Client,
    types::{Columns, TypesTable},
};

/// The schema that is written into.
pub const SCHEMA: &str = "volume";
/// The schema of the tables with every type that stay.
pub const TYPES_SCHEMA: &str = "volume_types";
/// Tables that small transactions change, each from a connection of its own.
const SMALL_TABLES: u32 = 2;
/// Rows in each of them.
const SMALL_ROWS: u32 = 10_000;
/// Small transactions per table and round; a round is some 30 MiB.
const SMALL_TRANSACTIONS: u32 = 4000;
/// How many of them come once more, compressed.
const COMPRESSED_TRANSACTIONS: u32 = 1000;
/// A binlog consists of about so many files.
const FILES: u64 = 8;

/// A source whose binlog is to have so many bytes, over several files, with the tables that
/// [`write()`] needs.
///
/// # Errors
/// When it does not start.
pub async fn source(brand: Brand, bytes: u64) -> Result<Database> {
    let server = start(brand, bytes)?;
    create(&server).await?;
    Ok(server)
}

/// Such a source without the tables.
///
/// # Errors
/// When it does not start.
pub fn start(brand: Brand, bytes: u64) -> Result<Database> {
    let args = vec![
        format!("--max-binlog-size={}", (bytes / FILES).max(1 << 20)),
        "--max-allowed-packet=64M".to_owned(),
    ];
    let options = Options {
        args,
        ..Options::default()
    };
    Database::start(brand, Role::Source, &options)
}

/// Makes the tables.
///
/// # Errors
/// What the server says.
pub async fn create(server: &Database) -> Result<()> {
    let mut client = Client::connect(server).await?;
    let sysbench = "(id INT PRIMARY KEY, k INT, c CHAR(120), pad CHAR(60), KEY (k))";
    client
        .run(&format!(
            "CREATE DATABASE {SCHEMA} DEFAULT CHARACTER SET utf8mb4; USE {SCHEMA}; \
             CREATE TABLE digits (d INT); \
             INSERT INTO digits VALUES (0), (1), (2), (3), (4), (5), (6), (7), (8), (9); \
             CREATE TABLE bulk {sysbench}; \
             CREATE TABLE large (id INT AUTO_INCREMENT PRIMARY KEY, body LONGBLOB)"
        ))
        .await?;
    for table in 1..=SMALL_TABLES {
        client
            .run(&format!(
                "CREATE TABLE small_{table} {sysbench}; \
                 INSERT INTO small_{table} SELECT 1 + {NUMBER}, {NUMBER}, \
                 {TEXTS} FROM {NUMBERS}; \
                 CREATE PROCEDURE small_{table}(transactions INT) BEGIN \
                 DECLARE i INT; \
                 WHILE transactions > 0 DO \
                 SET i = 1 + FLOOR(RAND() * {SMALL_ROWS}), transactions = transactions - 1; \
                 START TRANSACTION; \
                 UPDATE small_{table} SET k = k + 1 WHERE id = i; \
                 UPDATE small_{table} SET c = LEFT(SHA2(RAND(), 512), 120) \
                 WHERE id = 1 + 7 * i MOD {SMALL_ROWS}; \
                 DELETE FROM small_{table} WHERE id = i; \
                 INSERT INTO small_{table} \
                 VALUES (i, transactions, {TEXTS}); \
                 COMMIT; \
                 END WHILE; \
                 END"
            ))
            .await?;
    }
    Ok(())
}

/// Numbers from 0 to 9999, as columns of [`NUMBERS`].
const NUMBER: &str = "a.d + 10 * b.d + 100 * c.d + 1000 * e.d";
/// Values for the last two columns of sysbench's tables.
const TEXTS: &str = "LEFT(SHA2(RAND(), 512), 120), LEFT(SHA2(RAND(), 256), 60)";
const NUMBERS: &str = "digits a, digits b, digits c, digits e";

/// Writes until the binlog has at least so many bytes, and returns how many it has.
///
/// # Errors
/// What the server says.
pub async fn write(server: &Database, bytes: u64) -> Result<u64> {
    let mut client = Client::connect(server).await?;
    client.run(&format!("USE {SCHEMA}")).await?;
    let columns = match server.brand() {
        Brand::Mysql => Columns::Mysql,
        Brand::Mariadb => Columns::Common,
    };
    let types = TypesTable::new(columns);
    client
        .run("INSERT INTO large (body) VALUES (REPEAT(SHA2(1, 256), 17 << 14))")
        .await?;
    for round in 0.. {
        let size = size(&mut client).await?;
        if size >= bytes {
            return Ok(size);
        }
        small(server, SMALL_TRANSACTIONS).await?;
        bulk(&mut client).await?;
        // From 32 KiB to 1 MiB.
        for exponent in 0..6 {
            let rows = 20 >> exponent | 1;
            client
                .run(&format!(
                    "INSERT INTO large (body) SELECT REPEAT(SHA2(RAND(), 256), 512 << {exponent}) \
                     FROM digits a, digits b LIMIT {rows}"
                ))
                .await?;
        }
        let schema = format!("{SCHEMA}_types_{round}");
        types.create(server, &schema).await?;
        types.write(server, &schema).await?;
        client.run(&format!("DROP DATABASE {schema}")).await?;
        compress(server, &mut client, true).await?;
        small(server, COMPRESSED_TRANSACTIONS).await?;
        bulk(&mut client).await?;
        compress(server, &mut client, false).await?;
        client
            .run(&format!(
                "TRUNCATE TABLE large; \
                 CREATE TABLE changed_{round} LIKE bulk; \
                 ALTER TABLE changed_{round} ADD COLUMN more VARCHAR(200), DROP INDEX k; \
                 DROP TABLE changed_{round}"
            ))
            .await?;
    }
    unreachable!("the rounds have no end");
}

/// Writes rows that stay, into all tables. May be called again.
///
/// # Errors
/// What the server says.
pub async fn leave(server: &Database) -> Result<()> {
    let mut client = Client::connect(server).await?;
    client
        .run(&format!(
            "USE {SCHEMA}; \
             TRUNCATE TABLE bulk; \
             INSERT INTO bulk SELECT {NUMBER}, {NUMBER}, {TEXTS} FROM {NUMBERS}; \
             INSERT INTO large (body) SELECT REPEAT(SHA2(d, 256), 512 << d) FROM digits"
        ))
        .await?;
    let types = TypesTable::new(Columns::Common);
    let drop = format!("DROP DATABASE IF EXISTS {TYPES_SCHEMA}");
    client.run(&drop).await?;
    types.create(server, TYPES_SCHEMA).await?;
    types.write(server, TYPES_SCHEMA).await?;
    small(server, COMPRESSED_TRANSACTIONS).await
}

/// Small transactions on all tables at once.
async fn small(server: &Database, transactions: u32) -> Result<()> {
    let mut writers = Vec::new();
    for table in 1..=SMALL_TABLES {
        let mut client = Client::connect(server).await?;
        let call = format!("CALL {SCHEMA}.small_{table}({transactions})");
        writers.push(tokio::spawn(async move { client.run(&call).await }));
    }
    for writer in writers {
        writer.await??;
    }
    Ok(())
}

/// Thousands of rows per statement.
async fn bulk(client: &mut Client) -> Result<()> {
    client
        .run(&format!(
            "INSERT INTO bulk SELECT {NUMBER}, {NUMBER}, {TEXTS} \
             FROM {NUMBERS}; \
             UPDATE bulk SET pad = REVERSE(pad) WHERE id MOD 3 = 0; \
             DELETE FROM bulk WHERE id MOD 2 = 0; \
             TRUNCATE TABLE bulk"
        ))
        .await
}

/// Whether the transactions that follow are compressed.
async fn compress(server: &Database, client: &mut Client, on: bool) -> Result<()> {
    let sql = match server.brand() {
        // For this session, and for those that begin from now on.
        Brand::Mysql => format!(
            "SET SESSION binlog_transaction_compression = {on}, \
             GLOBAL binlog_transaction_compression = {on}"
        ),
        Brand::Mariadb => format!("SET GLOBAL log_bin_compress = {on}"),
    };
    client.run(&sql).await
}

async fn size(client: &mut Client) -> Result<u64> {
    let files = client.rows("SHOW BINARY LOGS").await?;
    let sizes = files.iter().filter_map(|file| file.get(1)?.as_deref());
    Ok(sizes.map(str::parse::<u64>).sum::<Result<_, _>>()?)
}
