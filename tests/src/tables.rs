//! Thirty tables that are hard to move, and how to fill and to change them.
//!
//! Each row is a function of its number, `{i}`: so rows can be made in bulk, and a writer finds one
//! again or makes a new one without asking.

mod shapes;

use self::shapes::{COMPUTED_KEY, DOCUMENTS, HASH, Short, TABLES, TEXT};
use crate::{
    Result,
    servers::{Brand, Database},
    sql::{Client, quoted},
};

/// The schema of them.
pub const SCHEMA: &str = "migrate";
/// Numbers to select from while tables are filled. Not migrated.
const NUMBERS: &str = "fill";
/// So many numbers are there.
const NUMBERS_MAX: u64 = 1 << 18;
/// What a row takes besides its values.
const ROW_OVERHEAD: u64 = 30;

/// A table.
#[derive(Clone, Debug)]
pub struct Table {
    /// Its name, without quotes.
    pub name: &'static str,
    /// Columns and keys.
    columns: String,
    /// What stands behind them: character set, partitions.
    tail: &'static str,
    /// Names of the columns that are written, in the order of `row`.
    into: String,
    /// Values of row `{i}`.
    row: String,
    /// The condition that names row `{i}`.
    key: String,
    /// What an update sets; `{v}` is any number. Empty if none can be made.
    change: &'static str,
    /// What makes row `{n}` of a row, which was never there. Empty if none can be made.
    rekey: &'static str,
    /// Its part of all data, in thousandths.
    share: u64,
    /// Bytes in a row.
    bytes: u64,
    /// How many of a thousand writes go here.
    pub often: u32,
}

/// What a writer does to a row.
#[derive(Clone, Copy, Debug)]
pub enum Change {
    /// Makes it.
    Insert,
    /// Sets some of its values to what comes of a number.
    Update(u64),
    /// Gives it another key: that of a row that was never there.
    Rekey(u64),
    /// Removes it.
    Delete,
}

impl Table {
    /// How many rows it begins with where all data has so many MiB.
    #[must_use]
    pub const fn rows(&self, mib: u64) -> u64 {
        let rows = (mib << 20) / 1000 * self.share / (self.bytes + ROW_OVERHEAD);
        if self.share > 0 && rows < 3 { 3 } else { rows }
    }

    /// The statement that changes row `i`.
    #[must_use]
    pub fn change(&self, change: Change, i: u64) -> String {
        let Self {
            into,
            row,
            key,
            change: sets,
            rekey,
            ..
        } = self;
        let name = quoted(self.name);
        let values = if into.is_empty() {
            "VALUES ()"
        } else {
            "SELECT "
        };
        let insert = format!("INSERT INTO {name} ({into}) {values}{row}");
        let sql = match change {
            Change::Update(v) if !sets.is_empty() => {
                let sets = sets.replace("{v}", &v.to_string());
                format!("UPDATE {name} SET {sets} WHERE {key} LIMIT 1")
            }
            Change::Rekey(n) if !rekey.is_empty() => {
                let sets = rekey.replace("{n}", &n.to_string());
                format!("UPDATE {name} SET {sets} WHERE {key} LIMIT 1")
            }
            Change::Delete => format!("DELETE FROM {name} WHERE {key} LIMIT 1"),
            _ => insert,
        };
        sql.replace("{i}", &i.to_string())
    }

    fn create(&self) -> String {
        let Self { columns, tail, .. } = self;
        format!("CREATE TABLE {} ({columns}) {tail}", quoted(self.name))
    }

    fn fill(&self, first: u64, count: u64) -> String {
        let (name, into) = (quoted(self.name), &self.into);
        if into.is_empty() {
            let rows = vec!["()"; usize::try_from(count).unwrap_or(1)].join(",");
            return format!("INSERT INTO {name} () VALUES {rows}");
        }
        let row = self.row.replace("{i}", &format!("(i + {first})"));
        format!("INSERT INTO {name} ({into}) SELECT {row} FROM {NUMBERS}.n WHERE i < {count}")
    }
}

/// Makes and fills all tables, without a word in the binlog: a copy takes what is there.
///
/// # Errors
/// What the server says.
pub async fn create(server: &Database, tables: &[Table], mib: u64) -> Result<()> {
    let mut client = quiet(server).await?;
    client
        .run(&format!(
            "CREATE DATABASE {SCHEMA} DEFAULT CHARACTER SET utf8mb4 COLLATE utf8mb4_general_ci; \
             CREATE DATABASE {NUMBERS}; CREATE TABLE {NUMBERS}.n (i INT PRIMARY KEY); \
             INSERT INTO {NUMBERS}.n VALUES (0)"
        ))
        .await?;
    let mut have = 1;
    while have < NUMBERS_MAX {
        let double = format!("INSERT INTO {NUMBERS}.n SELECT i + {have} FROM {NUMBERS}.n");
        client.run(&double).await?;
        have *= 2;
    }
    client.run(&format!("USE {SCHEMA}")).await?;
    for table in tables {
        client.run(&table.create()).await?;
        let rows = table.rows(mib);
        let mut first = 0;
        while first < rows {
            // Large rows some at a time: a transaction should not have gigabytes.
            let count = (rows - first)
                .min(NUMBERS_MAX)
                .min((64 << 20) / table.bytes + 1);
            client.run(&table.fill(first, count)).await?;
            first += count;
        }
    }
    client.run(&format!("DROP DATABASE {NUMBERS}")).await
}

/// A session that may write everything, and whose changes nobody replicates.
async fn quiet(server: &Database) -> Result<Client> {
    let mut client = Client::connect(server).await?;
    client
        .run("SET sql_mode = '', sql_log_bin = 0, unique_checks = 0")
        .await?;
    Ok(client)
}

/// All tables. On MariaDB `JSON` is a text with a check.
#[must_use]
pub fn all(brand: Brand) -> Vec<Table> {
    let mut tables: Vec<_> = TABLES.iter().map(long).collect();
    tables.push(wide());
    // The order of members is the server's, where it parses them.
    let documents = match brand {
        Brand::Mysql => "JSON_OBJECT('n', {i}, 'd', 1.5, 'at', CAST('2024-02-29' AS DATE))",
        Brand::Mariadb => "CONCAT('{\"n\": ', {i}, ', \"text\": \"é😀\"}')",
    };
    tables.push(Table {
        row: expanded(&format!("{{i}}, {documents}, HASH")),
        ..long(&DOCUMENTS)
    });
    if brand == Brand::Mysql {
        tables.push(long(&COMPUTED_KEY));
    }
    tables
}

fn long(short: &Short) -> Table {
    Table {
        name: short.name,
        columns: short.columns.to_owned(),
        tail: short.tail,
        into: short.into.to_owned(),
        row: expanded(short.row),
        key: expanded(short.key),
        change: short.change,
        rekey: short.rekey,
        share: short.share,
        bytes: short.bytes,
        often: short.often,
    }
}

/// With the words that stand for more.
fn expanded(sql: &str) -> String {
    sql.replace("TEXT", TEXT).replace("HASH", HASH)
}

/// Two hundred columns.
fn wide() -> Table {
    let (mut columns, mut names, mut values) = (Vec::new(), Vec::new(), Vec::new());
    for column in 1..200 {
        let (kind, value) = match column % 5 {
            0 => ("VARCHAR(20)", format!("CONCAT('v', {{i}} % {column})")),
            1 => ("INT", format!("{{i}} % {column}")),
            2 => ("DECIMAL(10,2)", format!("{{i}} / {column}.5")),
            3 => ("DOUBLE", format!("{{i}} / {column}e0")),
            _ => ("BIGINT UNSIGNED", "NULL".to_owned()),
        };
        columns.push(format!("c{column} {kind}"));
        names.push(format!("c{column}"));
        values.push(value);
    }
    Table {
        name: "wide",
        columns: format!("id INT PRIMARY KEY, {}", columns.join(", ")),
        tail: "",
        into: format!("id, {}", names.join(", ")),
        row: format!("{{i}}, {}", values.join(", ")),
        key: "id = {i}".to_owned(),
        change: "c1 = {v}, c5 = 'new', c199 = {v}, c100 = NULL",
        rekey: "id = {n}",
        share: 40,
        bytes: 1300,
        often: 20,
    }
}
