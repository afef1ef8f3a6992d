//! Three ways to compare tables, of which each could be wrong in another way.

use std::{
    collections::BTreeMap,
    hash::{DefaultHasher, Hash, Hasher},
    io::{BufRead, BufReader},
    process::{Command, Stdio},
};

use dm_tests::{
    Result, process,
    servers::{Brand, Database},
    sql::{Client, quoted},
};

/// Rows and what sums of them are.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Sums(pub(crate) String);

/// What the server itself makes of the rows of a table.
///
/// # Errors
/// What the server says.
pub(crate) async fn checksum(client: &mut Client, schema: &str, table: &str) -> Result<Sums> {
    let columns = client
        .rows(&format!(
            "SELECT column_name, data_type FROM information_schema.columns \
             WHERE table_schema = '{schema}' AND table_name = '{table}' ORDER BY ordinal_position"
        ))
        .await?;
    let mut parts = Vec::new();
    for column in columns {
        let mut cells = column.into_iter().flatten();
        let (name, kind) = (cells.next(), cells.next());
        let (name, kind) = (quoted(&name.unwrap_or_default()), kind.unwrap_or_default());
        let value = match &*kind.to_lowercase() {
            // Digits for all of its bits.
            "float" => format!("{name} + 0e0"),
            "bit" | "enum" | "set" => format!("CAST({name} + 0 AS UNSIGNED)"),
            "char" | "varchar" | "tinytext" | "text" | "mediumtext" | "longtext" | "binary"
            | "varbinary" | "tinyblob" | "blob" | "mediumblob" | "longblob" => {
                // A digest: digits of all bytes may be more than the server puts together.
                format!("SHA2(CAST({name} AS BINARY), 256)")
            }
            "json" => format!("SHA2(CAST(CAST({name} AS CHAR) AS BINARY), 256)"),
            "geometry" | "point" | "polygon" | "multipoint" | "geometrycollection"
            | "geomcollection" | "vector" => format!("SHA2({name}, 256)"),
            _ => name.clone(),
        };
        parts.push(format!("{value}, ISNULL({name})"));
    }
    let row = format!("CRC32(CONCAT_WS('#', {}))", parts.join(", "));
    // BIT_XOR alone would not tell two equal rows from none.
    let sql = format!(
        "SELECT COUNT(*), BIT_XOR({row}), SUM({row}), COUNT({row}) FROM {}.{}",
        quoted(schema),
        quoted(table)
    );
    let sums = client.rows(&sql).await?;
    let sums: Vec<_> = sums.into_iter().flatten().flatten().collect();
    Ok(Sums(sums.join(" ")))
}

/// Lets `mysqldump` into a MariaDB of ours: the one of MySQL has lost the method by which that
/// knows its users, but through the socket it asks the system who comes. Nor does it know the
/// number of a character set of MySQL's, and takes its own settings.
///
/// # Errors
/// What the server says.
pub(crate) async fn admit(server: &Database) -> Result<()> {
    if !knocks(server) {
        return Ok(());
    }
    let mut client = Client::connect(server).await?;
    let name = process::run("id", Command::new("id").arg("-un"))?;
    client
        .run(&format!(
            "SET sql_log_bin = 0; \
             CREATE OR REPLACE USER '{0}'@'localhost' IDENTIFIED VIA unix_socket; \
             GRANT ALL ON *.* TO '{0}'@'localhost'; \
             SET GLOBAL character_set_client = utf8mb4, GLOBAL character_set_results = utf8mb4, \
             GLOBAL character_set_connection = utf8mb4",
            name.trim()
        ))
        .await
}

fn knocks(server: &Database) -> bool {
    server.brand() == Brand::Mariadb && server.is_ours()
}

/// What `mysqldump` writes of each table of a schema: rows, and the sum of the hashes of them.
///
/// # Errors
/// What it says.
pub(crate) fn dump(server: &Database, schema: &str) -> Result<BTreeMap<String, Sums>> {
    let program = process::unpacked("mysqldump").canonicalize()?;
    let mut command = Command::new(program);
    command
        .args([
            "--no-tablespaces",
            "--set-gtid-purged=OFF",
            "--column-statistics=0",
        ])
        .args([
            "--no-create-info",
            "--order-by-primary",
            "--skip-extended-insert",
        ])
        .args([
            "--skip-lock-tables",
            "--skip-add-locks",
            "--skip-triggers",
            "--skip-comments",
        ])
        .args([
            "--hex-blob",
            "--complete-insert",
            "--quick",
            "--max-allowed-packet=1G",
        ])
        .args(["--default-character-set=utf8mb4", "--get-server-public-key"])
        .arg("--ssl-mode=DISABLED");
    if knocks(server) {
        // Relative: a full path may be too long for a socket.
        command.current_dir(server.data_dir()?).arg("--socket=s");
    } else {
        let to = server.address();
        command
            .arg(format!("--host={}", to.host))
            .arg(format!("--port={}", to.port))
            .arg(format!("--user={}", to.user))
            .arg(format!("--password={}", to.password));
    }
    let mut child = command
        .arg(schema)
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()?;
    let lines = child.stdout.take().ok_or("no output")?;
    let mut sums = BTreeMap::<String, (u64, u64)>::new();
    let (mut lines, mut line) = (BufReader::with_capacity(1 << 20, lines), Vec::new());
    while lines.read_until(b'\n', &mut line)? > 0 {
        if let Some(table) = table_of(&line) {
            let mut hasher = DefaultHasher::new();
            line.hash(&mut hasher);
            let (rows, sum) = sums.entry(table).or_default();
            *rows += 1;
            *sum = sum.wrapping_add(hasher.finish());
        }
        line.clear();
    }
    let ended = child.wait_with_output()?;
    if !ended.status.success() {
        let said = String::from_utf8_lossy(&ended.stderr);
        return Err(format!("mysqldump failed: {said}").into());
    }
    let sums = sums.into_iter();
    Ok(sums
        .map(|(table, (rows, sum))| (table, Sums(format!("{rows} {sum:016x}"))))
        .collect())
}

/// The table that a line has a row of.
fn table_of(line: &[u8]) -> Option<String> {
    let rest = line.strip_prefix(b"INSERT INTO `")?;
    let end = rest.windows(3).position(|bytes| bytes == b"` (")?;
    let name = String::from_utf8_lossy(&rest[..end]);
    Some(name.replace("``", "`"))
}
