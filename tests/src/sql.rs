//! A client for the tests, and the comparison of tables across servers.

use std::{
    collections::{BTreeMap, btree_map::Entry},
    fmt::Write as _,
    hash::{DefaultHasher, Hash, Hasher},
};

use mysql_async::{Conn, Row, Value, prelude::Queryable};

use crate::{Result, servers::Database};

/// How many differing rows a failed comparison shows.
const SHOWN_MAX: usize = 5;

/// One connection to a server, in UTC.
#[derive(Debug)]
pub struct Client {
    conn: Conn,
    changed_rows: u64,
}

impl Client {
    /// Connects.
    ///
    /// # Errors
    /// What the server says.
    pub async fn connect(server: &Database) -> Result<Self> {
        let mut conn = Conn::new(server.address().opts()).await?;
        conn.query_drop("SET time_zone = '+00:00'").await?;
        Ok(Self {
            conn,
            changed_rows: 0,
        })
    }

    /// Runs statements, separated by `;`, and drops what they answer.
    ///
    /// # Errors
    /// What the server says, with the statement.
    pub async fn run(&mut self, sql: &str) -> Result<()> {
        let outcome = self.conn.query_iter(sql).await;
        let mut result = outcome.map_err(|e| with_statement(&e, sql))?;
        loop {
            self.changed_rows += result.affected_rows();
            if result.is_empty() {
                break;
            }
            result
                .for_each(drop)
                .await
                .map_err(|e| with_statement(&e, sql))?;
        }
        // The error of a later statement waits here, behind a result that looks empty.
        let last = result.next().await;
        last.map(drop).map_err(|e| with_statement(&e, sql))
    }

    /// Rows that all statements of [`run`](Self::run) changed so far.
    #[must_use]
    pub const fn changed_rows(&self) -> u64 {
        self.changed_rows
    }

    /// Runs one query and hands out its rows, each value as the server prints it (NULL as `None`).
    ///
    /// # Errors
    /// What the server says, with the statement.
    pub async fn rows(&mut self, sql: &str) -> Result<Vec<Vec<Option<String>>>> {
        let rows: Vec<Row> = self
            .conn
            .query(sql)
            .await
            .map_err(|e| with_statement(&e, sql))?;
        Ok(rows
            .into_iter()
            .map(|row| row.unwrap().into_iter().map(text).collect())
            .collect())
    }

    /// The first value of the first row, empty when there is none.
    ///
    /// # Errors
    /// What the server says, with the statement.
    pub async fn value(&mut self, sql: &str) -> Result<String> {
        let first = self.rows(sql).await?.into_iter().next();
        Ok(first
            .and_then(|row| row.into_iter().next())
            .flatten()
            .unwrap_or_default())
    }

    /// Names of a schema's base tables, sorted.
    ///
    /// # Errors
    /// What the server says.
    pub async fn tables(&mut self, schema: &str) -> Result<Vec<String>> {
        let sql = format!(
            "SELECT table_name FROM information_schema.tables WHERE table_schema = '{schema}' \
             AND table_type = 'BASE TABLE' ORDER BY 1"
        );
        Ok(self
            .rows(&sql)
            .await?
            .into_iter()
            .flatten()
            .flatten()
            .collect())
    }

    /// Every row of a table, in a form that is equal on all servers.
    ///
    /// # Errors
    /// What the server says.
    pub async fn contents(&mut self, schema: &str, table: &str) -> Result<Contents> {
        let columns = self.columns(schema, table).await?;
        let list: Vec<_> = columns.iter().map(|column| column.exactly()).collect();
        let sql = format!(
            "SELECT {} FROM {}.{}",
            list.join(", "),
            quoted(schema),
            quoted(table)
        );
        let mut contents = Contents {
            columns,
            rows: BTreeMap::new(),
            count: 0,
            checksum: 0,
        };
        // The binary protocol keeps every bit of FLOAT and DOUBLE.
        let mut rows = self.conn.exec_iter(sql, ()).await?;
        while let Some(row) = rows.next().await? {
            contents.add(canonical(row));
        }
        Ok(contents)
    }

    async fn columns(&mut self, schema: &str, table: &str) -> Result<Vec<Column>> {
        let sql = format!(
            "SELECT column_name, data_type FROM information_schema.columns \
             WHERE table_schema = '{schema}' AND table_name = '{table}' ORDER BY ordinal_position"
        );
        let rows = self.rows(&sql).await?;
        if rows.is_empty() {
            return Err(format!("there is no table {schema}.{table}").into());
        }
        let column = |row: Vec<Option<String>>| {
            let mut cells = row.into_iter().flatten();
            let (name, kind) = (
                cells.next().unwrap_or_default(),
                cells.next().unwrap_or_default(),
            );
            Column {
                name,
                kind: kind.to_lowercase(),
            }
        };
        Ok(rows.into_iter().map(column).collect())
    }
}

#[derive(Clone, Debug)]
struct Column {
    name: String,
    kind: String,
}

impl Column {
    /// The expression whose value is equal exactly when the column's is.
    fn exactly(&self) -> String {
        let name = quoted(&self.name);
        match self.kind.as_str() {
            // In the column's own character set, not converted to the connection's.
            "char" | "varchar" | "tinytext" | "text" | "mediumtext" | "longtext" => {
                format!("CAST({name} AS BINARY)")
            }
            // The index tells the empty error value from an empty member.
            "enum" | "set" => format!("CAST({name} + 0 AS UNSIGNED)"),
            _ => name,
        }
    }
}

/// All rows of a table, as a multiset: tables without a key may hold a row twice.
#[derive(Clone, Debug)]
pub struct Contents {
    columns: Vec<Column>,
    rows: BTreeMap<Vec<String>, u64>,
    count: u64,
    checksum: u64,
}

impl Contents {
    /// How many rows.
    #[must_use]
    pub const fn count(&self) -> u64 {
        self.count
    }

    /// A sum over the rows' hashes: equal contents have equal sums, in whatever order they came.
    #[must_use]
    pub const fn checksum(&self) -> u64 {
        self.checksum
    }

    /// What differs from `other`, in words; `None` when nothing does.
    #[must_use]
    pub fn difference(&self, other: &Self) -> Option<String> {
        if self.rows == other.rows {
            return None;
        }
        let mut text = format!("source has {} rows, target {}\n", self.count, other.count);
        let (mine, theirs) = (self.odd_rows(other), other.odd_rows(self));
        for (row, n) in mine.iter().take(SHOWN_MAX) {
            // The key comes first: a row with the same key is the same row, changed.
            match theirs.iter().find(|(other, _)| other[0] == row[0]) {
                Some((other, _)) => self.describe_change(&mut text, row, other),
                None => drop(writeln!(
                    text,
                    "  only in source ({n}x): ({})",
                    row.join(", ")
                )),
            }
        }
        let strangers = theirs
            .iter()
            .filter(|(row, _)| mine.iter().all(|(r, _)| r[0] != row[0]));
        for (row, n) in strangers.take(SHOWN_MAX) {
            let _ = writeln!(text, "  only in target ({n}x): ({})", row.join(", "));
        }
        Some(text)
    }

    /// Rows that are here more often than in `other`.
    fn odd_rows(&self, other: &Self) -> Vec<(&[String], u64)> {
        let rows = self.rows.iter().map(|(row, &n)| (row, n));
        let odd = rows.filter(|(row, n)| other.rows.get(*row).is_none_or(|m| m < n));
        odd.map(|(row, n)| (row.as_slice(), n)).collect()
    }

    fn describe_change(&self, text: &mut String, row: &[String], other: &[String]) {
        let _ = writeln!(text, "  row {}:", row[0]);
        for (column, (a, b)) in self.columns.iter().zip(row.iter().zip(other)) {
            if a != b {
                let _ = writeln!(
                    text,
                    "    {}: source {a:.200}, target {b:.200}",
                    column.name
                );
            }
        }
    }

    fn add(&mut self, row: Vec<String>) {
        let mut hasher = DefaultHasher::new();
        row.hash(&mut hasher);
        self.checksum = self.checksum.wrapping_add(hasher.finish());
        self.count += 1;
        match self.rows.entry(row) {
            Entry::Vacant(entry) => drop(entry.insert(1)),
            Entry::Occupied(mut entry) => *entry.get_mut() += 1,
        }
    }
}

/// Compares tables, `(schema, table)` on both sides, and says all that differs.
///
/// # Errors
/// The differences, or what a server says.
pub async fn compare(
    source: &mut Client,
    target: &mut Client,
    tables: &[(&str, &str)],
) -> Result<()> {
    let mut text = String::new();
    for &(schema, table) in tables {
        let expected = source.contents(schema, table).await?;
        match target.contents(schema, table).await {
            Ok(found) => {
                if let Some(difference) = expected.difference(&found) {
                    let _ = writeln!(text, "{schema}.{table}: {difference}");
                }
            }
            Err(error) => drop(writeln!(text, "{schema}.{table}: {error}")),
        }
    }
    if text.is_empty() {
        Ok(())
    } else {
        Err(text.into())
    }
}

/// Compares every table of some schemas, and that no table is on one side only.
///
/// # Errors
/// The differences, or what a server says.
pub async fn compare_schemas(
    source: &mut Client,
    target: &mut Client,
    schemas: &[&str],
) -> Result<()> {
    for schema in schemas {
        let (here, there) = (source.tables(schema).await?, target.tables(schema).await?);
        if here != there {
            return Err(format!("{schema}: source has {here:?}, target {there:?}").into());
        }
        let tables: Vec<_> = here.iter().map(|table| (*schema, table.as_str())).collect();
        compare(source, target, &tables).await?;
    }
    Ok(())
}

fn canonical(row: Row) -> Vec<String> {
    row.unwrap()
        .into_iter()
        .map(|value| match value {
            Value::Bytes(bytes) => hex(&bytes),
            Value::Float(number) => format!("f{:08x}", number.to_bits()),
            Value::Double(number) => format!("d{:016x}", number.to_bits()),
            other => other.as_sql(false),
        })
        .collect()
}

/// A name in backticks.
#[must_use]
pub fn quoted(name: &str) -> String {
    format!("`{}`", name.replace('`', "``"))
}

/// Plain ASCII as it is, for readable differences, anything else as hexadecimal digits.
fn hex(bytes: &[u8]) -> String {
    if bytes.iter().all(|byte| (b' '..=b'~').contains(byte)) {
        return format!("'{}'", String::from_utf8_lossy(bytes));
    }
    bytes.iter().fold("x".to_owned(), |mut text, byte| {
        let _ = write!(text, "{byte:02x}");
        text
    })
}

fn with_statement(error: &mysql_async::Error, sql: &str) -> crate::Error {
    format!("{error}\n  in: {sql:.300}").into()
}

fn text(value: Value) -> Option<String> {
    match value {
        Value::NULL => None,
        Value::Bytes(bytes) => Some(String::from_utf8_lossy(&bytes).into_owned()),
        other => Some(other.as_sql(true)),
    }
}
