//! Connections to the target: what server it is, how a session is set up, and how a packet of
//! several statements is run.

use std::{
    collections::BTreeMap,
    fmt::{self, Display, Write},
    iter,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use bytes::Bytes;
use dm_core::{
    binlog::Dialect,
    control::db::{DbConfig, Security},
    error::{Error, Result, Scope, code},
};
use futures_util::{StreamExt as _, stream};
use mysql_async::{
    ClientIdentity, Conn, Error as SqlError, LocalInfileError, Opts, OptsBuilder, Row, SslOpts,
    prelude::Queryable,
};
use tokio::time::timeout;

use super::{conn::tls::Files, errors, sql_mode::SqlMode};

/// How long a connection may take, greeting and login included.
const CONNECT_LIMIT: Duration = Duration::from_secs(30);
/// How long a packet may take before its outcome counts as unknown.
pub(crate) const PACKET_LIMIT: Duration = Duration::from_secs(300);
/// Bytes of a file that go to the server at a time.
const FILE_PIECE_BYTES: usize = 128 << 10;
/// Lets no answer be cut off by what a server or a user has for all sessions.
pub(super) const ALL_ROWS: &str = "SET SESSION sql_select_limit=18446744073709551615";
/// A peer that is gone without a word is noticed after a few of these.
const KEEPALIVE: Duration = Duration::from_secs(10);

/// What kind of server it is and what it allows.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Server {
    /// Its version text.
    pub(crate) version: String,
    /// Its dialect.
    pub(crate) dialect: Dialect,
    /// Largest packet in bytes.
    pub(crate) packet_bytes_max: usize,
    /// Whether it keeps a statement-based binlog, which rules out READ COMMITTED.
    pub(crate) statement_binlog: bool,
    /// Whether it takes rows from a client's file (`local_infile`).
    pub(crate) local_infile: bool,
    /// Whether such rows are as good as those of statements: connections that fill one table do
    /// not wait for one another's files (`innodb_autoinc_lock_mode` 2), and no cluster cuts their
    /// transaction into several (`wsrep_load_data_splitting`).
    pub(crate) good_files: bool,
}

/// Makes sessions.
#[derive(Clone, Debug)]
pub(crate) struct Connector {
    opts: Opts,
    /// The same without a look at the names in the server's certificate, where there is TLS.
    nameless: Option<Opts>,
    /// `host:port`, for messages.
    address: String,
    session: BTreeMap<String, String>,
    /// The schema that all sessions use, by which a takeover knows them in the process list.
    schema: String,
    upstream_sql_mode: String,
    sent: Arc<AtomicU64>,
}

impl Connector {
    pub(crate) fn new(db: &DbConfig, schema: &str, upstream_sql_mode: &str) -> Result<Self> {
        let tls = db.security.as_ref().map(ssl_opts).transpose()?;
        let opts = OptsBuilder::default()
            .ip_or_hostname(db.host.clone())
            .tcp_port(db.port)
            .user(Some(db.user.clone()))
            .pass(Some(db.password.0.clone()))
            .prefer_socket(false)
            .tcp_keepalive(Some(KEEPALIVE))
            // Rows that were found count, not only those that changed.
            .client_found_rows(true)
            .stmt_cache_size(0);
        let nameless = tls
            .clone()
            .map(|tls| opts.clone().ssl_opts(Some(nameless(tls))).into());
        let session = db
            .session()
            .map(|(name, value)| (name.to_ascii_lowercase(), value.to_owned()));
        Ok(Self {
            opts: opts.ssl_opts(tls).into(),
            nameless,
            address: format!("{}:{}", db.host, db.port),
            session: session.collect(),
            schema: schema.to_owned(),
            upstream_sql_mode: upstream_sql_mode.to_owned(),
            sent: Arc::default(),
        })
    }

    /// Bytes of SQL sent by all sessions.
    pub(crate) fn sent_bytes(&self) -> u64 {
        self.sent.load(Ordering::Relaxed)
    }

    /// A connection without any set-up.
    async fn plain(&self) -> Result<Session> {
        let dial = async |opts: &Opts| {
            let conn = timeout(CONNECT_LIMIT, Conn::new(opts.clone())).await;
            conn.unwrap_or_else(|_| Err(timed_out()))
        };
        let mut conn = dial(&self.opts).await;
        if let (Err(error), Some(nameless)) = (&conn, &self.nameless)
            && error.to_string().contains("not valid for name")
        {
            conn = dial(nameless).await;
        }
        let conn = conn.map_err(|error| errors::connect_failed(&self.address, &error))?;
        Ok(Session {
            id: u64::from(conn.id()),
            conn,
            sent: Arc::clone(&self.sent),
            found: Vec::new(),
        })
    }

    /// Finds out what server it is, and makes the schema if it is missing.
    pub(crate) async fn probe(&self) -> Result<Server> {
        let mut session = self.plain().await?;
        let rows = session
            .rows(
                "SHOW VARIABLES WHERE Variable_name IN \
                 ('version','max_allowed_packet','log_bin','binlog_format','local_infile',\
                 'innodb_autoinc_lock_mode','wsrep_load_data_splitting')",
            )
            .await?;
        let mut variables: BTreeMap<String, String> = BTreeMap::new();
        for row in rows {
            variables.insert(row.text(0).to_ascii_lowercase(), row.text(1));
        }
        let mut take = |name| variables.remove(name).unwrap_or_default();
        let version = take("version");
        let server = Server {
            dialect: dialect_of(&version),
            version,
            packet_bytes_max: take("max_allowed_packet").parse().unwrap_or(4 << 20),
            statement_binlog: take("log_bin").eq_ignore_ascii_case("on")
                && take("binlog_format").eq_ignore_ascii_case("statement"),
            local_infile: take("local_infile").eq_ignore_ascii_case("on"),
            good_files: take("innodb_autoinc_lock_mode") == "2"
                && !take("wsrep_load_data_splitting").eq_ignore_ascii_case("on"),
        };
        if let Some(zone) = self.time_zone() {
            // Rows are written in UTC: it would be missed no sooner than at the first DDL.
            set_variable(&mut session, "time_zone", zone).await?;
        }
        let create = format!("CREATE SCHEMA IF NOT EXISTS {}", quoted(&self.schema));
        session.run(&create).await?;
        session.close().await;
        Ok(server)
    }

    /// A session for rows: UTC, strict, pessimistic, in the meta schema.
    pub(crate) async fn open(&self, server: &Server) -> Result<Session> {
        let mut session = self.plain().await?;
        self.apply_user_variables(&mut session).await?;
        let isolation = if self.overrides_isolation() || server.statement_binlog {
            ""
        } else {
            // Like a replica: fewer locks, and none on rows that a condition ruled out.
            "SET SESSION TRANSACTION ISOLATION LEVEL READ COMMITTED;"
        };
        let foreign_keys = if self.session.contains_key("foreign_key_checks") {
            ""
        } else {
            ",foreign_key_checks=0"
        };
        let of_dialect = match server.dialect {
            Dialect::TiDb => ",tidb_txn_mode='pessimistic'",
            // A worker that freezes amid a file leaves its transaction open for no longer.
            Dialect::MySql | Dialect::MariaDb => ",net_read_timeout=30",
        };
        let setup = format!(
            "SET NAMES utf8mb4;{isolation}\
             SET SESSION autocommit=1,time_zone='+00:00',sql_mode='{}'{foreign_keys}{of_dialect};\
             {ALL_ROWS};USE {}",
            self.sql_mode(server, false),
            quoted(&self.schema),
        );
        session.run(&setup).await?;
        // TiDB's numbers do not fit into the greeting's 32 bits.
        let id = session.rows("SELECT CONNECTION_ID()").await?;
        session.id = id.first().map_or(0, |row| row.number(0));
        Ok(session)
    }

    /// `sql_mode` for rows; `lenient` lets invalid ENUM values (number 0) pass.
    pub(crate) fn sql_mode(&self, server: &Server, lenient: bool) -> String {
        let wanted = self
            .session
            .get("sql_mode")
            .unwrap_or(&self.upstream_sql_mode);
        SqlMode::for_rows(wanted, server.dialect, lenient).to_string()
    }

    /// The user's time zone, for statements that come without one.
    pub(crate) fn time_zone(&self) -> Option<&str> {
        self.session.get("time_zone").map(String::as_str)
    }

    async fn apply_user_variables(&self, session: &mut Session) -> Result<()> {
        for (name, value) in &self.session {
            if OURS.contains(&name.as_str()) {
                continue;
            }
            set_variable(session, name, value).await?;
        }
        Ok(())
    }

    fn overrides_isolation(&self) -> bool {
        ["transaction_isolation", "tx_isolation"]
            .iter()
            .any(|name| self.session.contains_key(*name))
    }
}

/// Sets a variable of the user's.
async fn set_variable(session: &mut Session, name: &str, value: &str) -> Result<()> {
    let set = format!("SET SESSION {}={}", quoted(name), Variable(value));
    session.run(&set).await.map_err(|error| {
        Error {
            message: format!("session variable `{name}` = '{value}' is refused"),
            ..error
        }
        .with_workaround(
            "Remove the variable from `target-database.session` (`time_zone` is the task's \
             `timezone`), or give it a value that this server accepts.",
        )
    })
}

/// Variables that row sessions set themselves: `sql_mode` from the user's value, the others because
/// rows would be wrong, or the fence not hold, with any other value. `time_zone` counts for DDL.
const OURS: [&str; 4] = ["sql_mode", "time_zone", "tidb_txn_mode", "autocommit"];

/// One connection. After an error that is not the server's word it is of no more use.
#[derive(Debug)]
pub(crate) struct Session {
    conn: Conn,
    /// The server's number for it, as `KILL` wants it.
    pub(crate) id: u64,
    sent: Arc<AtomicU64>,
    found: Vec<u64>,
}

/// Where and how a packet of statements failed.
#[derive(Debug)]
pub(crate) struct Failure {
    /// Index of the statement that failed; all before it succeeded, none after it was executed.
    pub(crate) statement: usize,
    /// What happened.
    pub(crate) error: SqlError,
}

impl Session {
    /// Runs a packet of statements separated by `;` and drops what they answer, reading one result
    /// after the other, so that a failure tells which statement it is of.
    pub(crate) async fn packet(&mut self, sql: &[u8]) -> Result<(), Failure> {
        self.sent.fetch_add(sql.len() as u64, Ordering::Relaxed);
        let mut statement = 0;
        let (conn, found) = (&mut self.conn, &mut self.found);
        found.clear();
        let run = async {
            let mut result = conn.query_iter(sql).await?;
            while !result.is_empty() {
                found.push(result.affected_rows());
                // What fails behind a statement without rows is the next one: one that asks for a
                // file is told of its failure before it counts as begun.
                let has_rows = !result.columns_ref().is_empty();
                if !has_rows {
                    statement += 1;
                }
                while result.next().await?.is_some() {}
                if has_rows {
                    statement += 1;
                }
            }
            // The error of a later statement waits here, behind a result that looks empty.
            result.next().await.map(drop)
        };
        let ended = timeout(PACKET_LIMIT, run).await;
        ended
            .unwrap_or_else(|_| Err(timed_out()))
            .map_err(|error| Failure { statement, error })
    }

    /// How many rows each statement of the last packet has found or written, but for the last one.
    pub(crate) fn found(&self) -> &[u64] {
        &self.found
    }

    /// If the next packet makes the server ask for a file, it gets these bytes, whatever the name
    /// is that it asks for. In pieces, since a packet has a limit.
    pub(crate) fn offer(&mut self, file: Bytes, packet_bytes_max: usize) {
        self.sent.fetch_add(file.len() as u64, Ordering::Relaxed);
        let size = FILE_PIECE_BYTES.min(packet_bytes_max / 2).max(1);
        self.conn.set_infile_handler(async move {
            let mut file = file;
            let next = move || {
                let piece = file.split_to(size.min(file.len()));
                (!piece.is_empty()).then_some(Ok(piece))
            };
            Ok(stream::iter(iter::from_fn(next)).boxed())
        });
    }

    /// Nothing is to be had any more.
    pub(crate) fn withdraw(&mut self) {
        self.conn
            .set_infile_handler(async { Err(LocalInfileError::NoHandler.into()) });
    }

    /// Runs statements that must succeed.
    pub(crate) async fn run(&mut self, sql: &str) -> Result<()> {
        self.packet(sql.as_bytes())
            .await
            .map_err(|failure| errors::execute_failed(sql, &failure.error))
    }

    /// The rows of a query; those of its first result where it has several statements.
    pub(crate) async fn rows(&mut self, sql: &str) -> Result<Vec<Row>> {
        let rows = self.query(sql).await;
        rows.map_err(|error| errors::query_failed(sql, &error))
    }

    /// As [`Self::rows`], with the server's own error.
    pub(crate) async fn query(&mut self, sql: &str) -> Result<Vec<Row>, SqlError> {
        self.sent.fetch_add(sql.len() as u64, Ordering::Relaxed);
        timeout(PACKET_LIMIT, self.conn.query(sql))
            .await
            .unwrap_or_else(|_| Err(timed_out()))
    }

    /// As [`Self::rows`], without a time limit: for a query that looks at all of a table.
    pub(crate) async fn rows_at_last(&mut self, sql: &str) -> Result<Vec<Row>> {
        self.sent.fetch_add(sql.len() as u64, Ordering::Relaxed);
        let rows = self.conn.query(sql).await;
        rows.map_err(|error| errors::query_failed(sql, &error))
    }

    /// A statement without a time limit, for DDL.
    pub(crate) async fn unlimited(&mut self, sql: &str) -> Result<(), SqlError> {
        self.sent.fetch_add(sql.len() as u64, Ordering::Relaxed);
        self.conn.query_drop(sql).await
    }

    /// Whether the connection can still be used.
    pub(crate) fn is_usable(&self) -> bool {
        !self.conn.is_disconnected()
    }

    /// Says good-bye; an error does not matter any more.
    pub(crate) async fn close(self) {
        let _ = timeout(KEEPALIVE, self.conn.disconnect()).await;
    }
}

fn timed_out() -> SqlError {
    SqlError::Io(std::io::Error::from(std::io::ErrorKind::TimedOut).into())
}

/// Reads a row's values without conversions that could panic.
pub(crate) trait Values {
    /// The value as text, empty when NULL or missing.
    fn text(&self, index: usize) -> String;
    /// The value as a number, 0 when it is none.
    fn number<N: std::str::FromStr + Default>(&self, index: usize) -> N {
        self.text(index).parse().unwrap_or_default()
    }
    /// Whether the value is NULL or missing.
    fn is_null(&self, index: usize) -> bool;
}

impl Values for super::conn::Row {
    fn text(&self, index: usize) -> String {
        self.get(index).cloned().flatten().unwrap_or_default()
    }

    fn is_null(&self, index: usize) -> bool {
        self.get(index).is_none_or(Option::is_none)
    }
}

impl Values for Row {
    fn text(&self, index: usize) -> String {
        match self.as_ref(index) {
            Some(mysql_async::Value::Bytes(bytes)) => String::from_utf8_lossy(bytes).into_owned(),
            // The text protocol has bytes and NULL only.
            _ => String::new(),
        }
    }

    fn is_null(&self, index: usize) -> bool {
        !matches!(self.as_ref(index), Some(mysql_async::Value::Bytes(_)))
    }
}

/// Displays a text as an SQL literal, for sessions without NO_BACKSLASH_ESCAPES.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Literal<'a>(pub(crate) &'a str);

impl Display for Literal<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_char('\'')?;
        for char in self.0.chars() {
            match char {
                '\'' | '\\' => {
                    f.write_char('\\')?;
                    f.write_char(char)?;
                }
                '\0' => f.write_str("\\0")?,
                _ => f.write_char(char)?,
            }
        }
        f.write_char('\'')
    }
}

/// Displays the value of a session variable: numbers bare, since most servers take no others.
pub(super) struct Variable<'a>(pub(super) &'a str);

impl Display for Variable<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let number =
            self.0.parse::<f64>().is_ok() && self.0.starts_with(|c: char| c.is_ascii_digit());
        if number {
            f.write_str(self.0)
        } else {
            Literal(self.0).fmt(f)
        }
    }
}

/// An identifier in back-quotes.
pub(crate) fn quoted(name: &str) -> impl Display + '_ {
    dm_core::sync::schema::Quoted(name)
}

/// What kind of server says that this is its version.
pub(crate) fn dialect_of(version: &str) -> Dialect {
    let version = version.to_ascii_lowercase();
    if version.contains("tidb") {
        Dialect::TiDb
    } else if version.contains("mariadb") {
        Dialect::MariaDb
    } else {
        Dialect::MySql
    }
}

/// TLS: the server's chain must end in the given authority.
fn ssl_opts(security: &Security) -> Result<SslOpts> {
    let files = Files::load(security).map_err(|fault| {
        Error::new(&code::DB_DRIVER_ERROR, fault.to_string())
            .with_scope(Scope::Downstream)
            .with_workaround("Correct `target-database.security`.")
    })?;
    let identity = files
        .identity
        .map(|(chain, key)| ClientIdentity::new(chain.into(), key.into()));
    Ok(SslOpts::default()
        .with_root_certs(vec![files.authority.into()])
        .with_disable_built_in_roots(true)
        .with_client_identity(identity))
}

/// The same for a server whose certificate does not name its host, such as those that servers make
/// for themselves. The chain is checked all the same.
fn nameless(tls: SslOpts) -> SslOpts {
    // The library passes over a wrong name where the error's text has this word. The text of the
    // TLS library in use has it only as the name that was asked for.
    tls.with_danger_skip_domain_validation(true)
        .with_danger_tls_hostname_override(Some("NotValidForName"))
}

/// The failing statement's text, for messages. Literals may hold a `;`.
pub(crate) fn statement(packet: &[u8], index: usize) -> String {
    let mut quote = None;
    let mut escaped = false;
    let mut statements = packet.split(|&byte| {
        match (quote, byte) {
            _ if escaped => escaped = false,
            (Some(b'\''), b'\\') => escaped = true,
            (Some(open), _) if byte == open => quote = None,
            (None, b'\'' | b'`') => quote = Some(byte),
            (None, b';') => return true,
            _ => {}
        }
        false
    });
    String::from_utf8_lossy(statements.nth(index).unwrap_or_default()).into_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn versions_tell_the_dialect() {
        for (version, dialect) in [
            ("9.7.0", Dialect::MySql),
            ("8.0.36-0ubuntu0.22.04.1", Dialect::MySql),
            ("10.11.19-MariaDB-log", Dialect::MariaDb),
            ("5.5.5-10.6.12-MariaDB", Dialect::MariaDb),
            ("8.0.11-TiDB-v8.5.1", Dialect::TiDb),
        ] {
            assert_eq!(dialect_of(version), dialect, "{version}");
        }
    }

    #[test]
    fn statements_are_found_among_literals() {
        let packet = br"BEGIN;INSERT INTO `a;b` VALUES ('x;\';y','it''s;');COMMIT";
        assert_eq!(statement(packet, 0), "BEGIN");
        assert_eq!(
            statement(packet, 1),
            r"INSERT INTO `a;b` VALUES ('x;\';y','it''s;')"
        );
        assert_eq!(statement(packet, 2), "COMMIT");
        assert_eq!(statement(packet, 3), "");
    }

    #[test]
    fn literals_and_variables_are_escaped() {
        assert_eq!(Literal(r"a'b\c").to_string(), r"'a\'b\\c'");
        assert_eq!(Variable("10").to_string(), "10");
        assert_eq!(Variable("ON").to_string(), "'ON'");
        assert_eq!(Variable("inf").to_string(), "'inf'");
    }
}
