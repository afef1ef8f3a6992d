//! A connection to a MySQL or MariaDB server that hands out what arrives as it arrived.
//!
//! `mysql_async` cannot give the raw bytes of a binlog event, and drops events that it can't
//! decompress. So the connection that reads a binlog is our own: TCP or a local socket, TLS, the
//! usual ways to authenticate, text queries and the replication commands.

mod auth;
mod der;
mod packet;
mod rows;
pub(super) mod tls;

use std::{fmt, io, time::Duration};

use bytes::Bytes;
use dm_core::control::db::DbConfig;
use mysql_common::constants::CapabilityFlags;
use tokio::{
    net::{TcpStream, UnixStream},
    time::timeout,
};

pub use self::rows::{RawRow, Rows};
use self::{
    auth::{Greeting, Login},
    packet::{Fields, Stream, Wire},
};
pub(crate) use self::{der::common_name, tls::config as tls_config};
use super::session::{ALL_ROWS, Variable, quoted};
use crate::ports::copy;

/// How long a server may take to accept a connection.
const CONNECT_MAX: Duration = Duration::from_secs(10);
/// How long a server may take to answer a query.
const ANSWER_MAX: Duration = Duration::from_secs(30);
const COM_QUERY: u8 = 0x03;
const ERR: u8 = 0xff;
const EOF: u8 = 0xfe;
/// An EOF packet is shorter than this; a row may begin with the same byte but is longer then.
const EOF_LEN_MAX: usize = 9;

/// What went wrong on a connection.
#[derive(Debug)]
pub enum Fault {
    /// The server could not be reached, or the connection broke.
    Io(io::Error),
    /// The server closed the connection.
    Closed,
    /// The server said nothing for so long while it should have.
    Silence(Duration),
    /// The server refused.
    Server {
        /// Its error number.
        code: u16,
        /// SQLSTATE; empty where the server sent none.
        state: String,
        /// Its text.
        message: String,
    },
    /// TLS could not be agreed on, or its configuration is wrong.
    Tls(String),
    /// The server asks for a way to authenticate that we don't know.
    Method(String),
    /// What arrived is not what the protocol allows here.
    Protocol(&'static str),
}

impl Fault {
    const SHORT: Self = Self::Protocol("a packet ends too early");

    /// What a packet says that is not the hoped-for one: an error, or nonsense.
    fn of(payload: &[u8]) -> Self {
        let Some((&ERR, rest)) = payload.split_first() else {
            return Self::Protocol("unexpected packet");
        };
        let mut fields = Fields(rest);
        let Ok(code) = fields.u16() else {
            return Self::SHORT;
        };
        // Refusals that come before the handshake have no SQLSTATE.
        let state = match fields.0 {
            [b'#', rest @ ..] if rest.len() >= 5 => {
                let (state, rest) = rest.split_at(5);
                fields.0 = rest;
                String::from_utf8_lossy(state).into_owned()
            }
            _ => String::new(),
        };
        Self::Server {
            code,
            state,
            message: String::from_utf8_lossy(fields.0).into_owned(),
        }
    }

    /// The server's error number, if it is the server who speaks.
    #[must_use]
    pub const fn code(&self) -> Option<u16> {
        match self {
            Self::Server { code, .. } => Some(*code),
            _ => None,
        }
    }
}

/// As the Go client library renders it, which masters and operators look for.
impl fmt::Display for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Io(error) => error.fmt(f),
            Self::Closed => f.write_str("the server closed the connection"),
            Self::Silence(limit) => write!(f, "no answer within {} s", limit.as_secs_f32()),
            Self::Server {
                code,
                state,
                message,
            } if state.is_empty() => write!(f, "Error {code}: {message}"),
            Self::Server {
                code,
                state,
                message,
            } => write!(f, "Error {code} ({state}): {message}"),
            Self::Tls(text) => write!(f, "TLS: {text}"),
            Self::Method(name) => write!(f, "authentication method `{name}` is not supported"),
            Self::Protocol(text) => write!(f, "bad protocol: {text}"),
        }
    }
}

/// A row of a query's result; `None` is NULL.
pub type Row = Vec<Option<String>>;

/// A connection that is ready for commands.
pub struct Conn {
    wire: Wire,
    version: String,
}

impl Conn {
    /// Connects, authenticates and sets the configured session variables.
    ///
    /// # Errors
    /// Whatever the network or the server has against it.
    pub async fn open(db: &DbConfig) -> Result<Self, Fault> {
        // Both steps have their own limits inside; this one bounds a server that sends nonsense.
        timeout(CONNECT_MAX + ANSWER_MAX, Self::handshake(db))
            .await
            .map_err(|_| Fault::Silence(CONNECT_MAX + ANSWER_MAX))?
    }

    async fn handshake(db: &DbConfig) -> Result<Self, Fault> {
        let local = db.host.starts_with('/');
        let connect = async {
            let stream: Box<dyn Stream> = if local {
                Box::new(UnixStream::connect(&db.host).await?)
            } else {
                let stream = TcpStream::connect((db.host.as_str(), db.port)).await?;
                stream.set_nodelay(true)?;
                Box::new(stream)
            };
            Ok(stream)
        };
        let stream = timeout(CONNECT_MAX, connect)
            .await
            .map_err(|_| Fault::Silence(CONNECT_MAX))?
            .map_err(Fault::Io)?;
        let mut wire = Wire::new(stream, ANSWER_MAX);
        let hello = wire.read().await?;
        if hello.first() == Some(&ERR) {
            return Err(Fault::of(&hello));
        }
        let greeting = Greeting::parse(&hello)?;
        let security = db.security.as_ref().filter(|_| !local);
        let login = Login {
            user: &db.user,
            password: &db.password.0,
            private: local || security.is_some(),
            tls: security.is_some(),
        };
        if let Some(security) = security {
            if !greeting.capabilities.contains(CapabilityFlags::CLIENT_SSL) {
                return Err(Fault::Tls("the server does not offer it".to_owned()));
            }
            wire.write(&login.ssl_request(&greeting)).await?;
            let stream = tls::connect(security, &db.host, wire.into_stream()?);
            let stream = timeout(ANSWER_MAX, stream)
                .await
                .map_err(|_| Fault::Silence(ANSWER_MAX))??;
            wire = Wire::new(stream, ANSWER_MAX);
            wire.resume(2);
        }
        let version = greeting.version.clone();
        login.run(greeting, &mut wire).await?;
        let mut conn = Self { wire, version };
        for (name, value) in db.session() {
            let set = format!("SET SESSION {}={}", quoted(name), Variable(value));
            conn.query(&set).await?;
        }
        // Cut off, an answer looks like one that is whole.
        conn.query(ALL_ROWS).await?;
        Ok(conn)
    }

    /// The version that the server gave in its greeting.
    #[must_use]
    pub fn version(&self) -> &str {
        &self.version
    }

    /// Waits for so long for a word of the server.
    pub(crate) fn wait_for(&mut self, silence_max: Duration) {
        self.wire.silence_max = silence_max;
    }

    /// Runs a statement and reads its result to the end.
    ///
    /// # Errors
    /// What the server says, or a broken connection; then the connection must be dropped.
    pub async fn query(&mut self, sql: &str) -> Result<Vec<Row>, Fault> {
        let mut all = Vec::new();
        self.each(sql, |row| all.push(row)).await?;
        Ok(all)
    }

    /// Runs a query and hands out its rows one by one, for answers that are large.
    ///
    /// # Errors
    /// As [`Self::query`].
    pub(crate) async fn each(&mut self, sql: &str, mut take: impl FnMut(Row)) -> Result<(), Fault> {
        let mut rows = self.rows(sql).await?;
        while let Some(row) = rows.next(self).await? {
            let text = |value: &[u8]| String::from_utf8_lossy(value).into_owned();
            let row: Row = copy::Row::values(&row)
                .map(|value| value.map(text))
                .collect();
            if row.len() as u64 != rows.columns {
                return Err(Fault::SHORT);
            }
            take(row);
        }
        Ok(())
    }

    /// Runs a query whose rows are read one by one.
    ///
    /// # Errors
    /// As [`Self::query`].
    pub async fn rows(&mut self, sql: &str) -> Result<Rows, Fault> {
        Rows::query(self, sql).await
    }

    /// Sends a command that is answered by OK or an error.
    pub(super) async fn call(&mut self, command: u8, body: &[u8]) -> Result<(), Fault> {
        self.command(command, body).await?;
        let answer = self.wire.read().await?;
        match answer.first() {
            Some(0) => Ok(()),
            _ => Err(Fault::of(&answer)),
        }
    }

    /// Sends a command after which events follow.
    pub(super) async fn stream(
        mut self,
        command: u8,
        body: &[u8],
        silence_max: Duration,
    ) -> Result<RawEvents, Fault> {
        self.command(command, body).await?;
        self.wire.silence_max = silence_max;
        Ok(RawEvents(self.wire))
    }

    async fn command(&mut self, command: u8, body: &[u8]) -> Result<(), Fault> {
        self.wire.restart();
        let mut payload = Vec::with_capacity(body.len() + 1);
        payload.push(command);
        payload.extend_from_slice(body);
        self.wire.write(&payload).await
    }
}

/// The packets that follow a dump command.
pub(super) struct RawEvents(Wire);

impl RawEvents {
    /// The next event, or `None` when the server has no more to send. Cancel-safe.
    pub(super) async fn next(&mut self) -> Result<Option<Bytes>, Fault> {
        let payload = self.0.read().await?;
        match payload.first() {
            Some(0) => Ok(Some(payload.slice(1..))),
            _ if is_end(&payload) => Ok(None),
            _ => Err(Fault::of(&payload)),
        }
    }
}

fn is_end(payload: &[u8]) -> bool {
    payload.first() == Some(&EOF) && payload.len() < EOF_LEN_MAX
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn errors_read_as_the_existing_worker_renders_them() {
        let fault = Fault::of(b"\xff\x15\x04#28000Access denied for user 'x'@'y'");
        assert_eq!(
            fault.to_string(),
            "Error 1045 (28000): Access denied for user 'x'@'y'"
        );
        let fault = Fault::of(b"\xff\x10\x04Too many connections");
        assert_eq!(fault.to_string(), "Error 1040: Too many connections");
        for bad in [&b""[..], b"\x00", b"\xff", b"\xff\x01"] {
            assert!(matches!(Fault::of(bad), Fault::Protocol(_)));
        }
    }
}
