//! The commands that turn a connection into a stream of binlog events.

use std::time::Duration;

use bytes::Bytes;

use super::conn::{Conn, Fault, RawEvents};

/// How often a server that has nothing to send says so.
pub const HEARTBEAT: Duration = Duration::from_secs(30);
/// Silence after which a server is taken for dead.
pub const SILENCE_MAX: Duration = Duration::from_secs(60);
/// A slow consumer is not an error: the server waits for so many seconds, a day, until it may go on
/// sending.
const SEND_WAIT_S: u32 = 86_400;
/// Servers keep this many bytes of a replica's host name.
const HOST_MAX: usize = 60;

const COM_BINLOG_DUMP: u8 = 0x12;
const COM_REGISTER_SLAVE: u8 = 0x15;
const COM_BINLOG_DUMP_GTID: u8 = 0x1e;

/// Flag of a dump: send what a statement was, too. Without it the server leaves out events in the
/// middle of a transaction, and positions no longer follow from each other. MariaDB only.
const SEND_ANNOTATE_ROWS: u16 = 0x02;

/// Flag of a dump: heartbeats with positions of 64 bits. MySQL only, as far back as 8.0.26.
const USE_HEARTBEAT_V2: u16 = 0x02;

/// The first four bytes of a binlog file are no event.
const FIRST_EVENT: u64 = 4;

/// From where events are wanted.
#[derive(Clone, Debug, PartialEq)]
pub enum Point {
    /// MySQL: from a position in a file.
    MysqlFile {
        /// The file.
        file: String,
        /// The position, which may lie behind 4 GiB if the server has `gtid_mode` on.
        pos: u64,
    },
    /// MySQL: everything but these transactions, in the binary form of a set of GTIDs.
    MysqlGtids(Vec<u8>),
    /// MariaDB: from a position in a file.
    MariadbFile {
        /// The file.
        file: String,
        /// The position; what lies behind 4 GiB cannot be asked for.
        pos: u64,
    },
    /// MariaDB: everything behind these GTIDs, as text.
    MariadbGtids(String),
}

/// How the worker presents itself to a source.
#[derive(Clone, Debug)]
pub struct Replica {
    /// Its server id, different from that of every server and replica around.
    pub server_id: u32,
    /// Its UUID. A server ends an older dump of the same replica when a new one comes.
    pub uuid: String,
    /// Its name, as `SHOW REPLICAS` lists it.
    pub name: String,
    /// The user it logs in as.
    pub user: String,
    /// The source's port: the replica itself listens nowhere.
    pub port: u16,
}

impl Replica {
    /// Registers on `conn` and asks for events.
    ///
    /// # Errors
    /// What the network or the server says. A server refuses a start point in the first packet of
    /// the stream, not here.
    pub async fn dump(&self, mut conn: Conn, from: &Point) -> Result<Dump, Fault> {
        self.prepare(&mut conn, from).await?;
        conn.call(COM_REGISTER_SLAVE, &self.registration()).await?;
        let (command, body) = self.request(from)?;
        let events = conn.stream(command, &body, SILENCE_MAX).await?;
        Ok(Dump(events))
    }

    /// Variables of the session that the server looks at when a dump starts.
    async fn prepare(&self, conn: &mut Conn, from: &Point) -> Result<(), Fault> {
        // Both names of everything: servers know one of them, the other is a plain variable.
        // The checksum algorithm only tells what the very first event has, which the server makes
        // up; those of the binlog come as they were written.
        let heartbeat = HEARTBEAT.as_nanos();
        conn.query(&format!(
            "SET @master_binlog_checksum = 'NONE', @source_binlog_checksum = 'NONE', \
             @master_heartbeat_period = {heartbeat}, @source_heartbeat_period = {heartbeat}, \
             @slave_uuid = '{uuid}', @replica_uuid = '{uuid}', \
             SESSION net_write_timeout = {SEND_WAIT_S}",
            uuid = self.uuid
        ))
        .await?;
        match from {
            Point::MysqlFile { .. } | Point::MysqlGtids(_) => Ok(()),
            Point::MariadbFile { .. } => conn
                .query("SET @mariadb_slave_capability = 4")
                .await
                .map(drop),
            Point::MariadbGtids(set) => {
                conn.query("SET @mariadb_slave_capability = 4, @slave_gtid_strict_mode = 1")
                    .await?;
                // GTIDs are numbers and dashes.
                conn.query(&format!("SET @slave_connect_state = '{set}'"))
                    .await
                    .map(drop)
            }
        }
    }

    fn registration(&self) -> Vec<u8> {
        let mut name = self.name.as_str();
        if name.len() > HOST_MAX {
            name = &name[..name.floor_char_boundary(HOST_MAX)];
        }
        let user = &self.user[..self.user.floor_char_boundary(usize::from(u8::MAX))];
        let mut body = self.server_id.to_le_bytes().to_vec();
        for text in [name, user, ""] {
            // Both are shorter than 256 bytes now.
            body.push(text.len() as u8);
            body.extend_from_slice(text.as_bytes());
        }
        body.extend_from_slice(&self.port.to_le_bytes());
        let (rank, master_id) = (0u32, 0u32);
        body.extend_from_slice(&rank.to_le_bytes());
        body.extend_from_slice(&master_id.to_le_bytes());
        body
    }

    fn request(&self, from: &Point) -> Result<(u8, Vec<u8>), Fault> {
        match from {
            Point::MysqlFile { file, pos } if u32::try_from(*pos).is_err() => {
                // The only command with 64 bits. Given a file it starts there, and an empty set
                // leaves out nothing.
                let nothing = 0u64.to_le_bytes();
                Ok((COM_BINLOG_DUMP_GTID, self.by_gtid(file, *pos, &nothing)?))
            }
            Point::MysqlFile { file, pos } => self.by_file(file, *pos, 0),
            Point::MysqlGtids(set) => {
                Ok((COM_BINLOG_DUMP_GTID, self.by_gtid("", FIRST_EVENT, set)?))
            }
            Point::MariadbFile { file, pos } => self.by_file(file, *pos, SEND_ANNOTATE_ROWS),
            Point::MariadbGtids(_) => self.by_file("", 0, SEND_ANNOTATE_ROWS),
        }
    }

    fn by_file(&self, file: &str, pos: u64, flags: u16) -> Result<(u8, Vec<u8>), Fault> {
        let pos = if file.is_empty() {
            pos
        } else {
            pos.max(FIRST_EVENT)
        };
        let pos = u32::try_from(pos).map_err(|_| {
            Fault::Protocol("MariaDB cannot start behind 4 GiB of a file: start by GTID")
        })?;
        let mut body = pos.to_le_bytes().to_vec();
        body.extend_from_slice(&flags.to_le_bytes());
        body.extend_from_slice(&self.server_id.to_le_bytes());
        body.extend_from_slice(file.as_bytes());
        Ok((COM_BINLOG_DUMP, body))
    }

    fn by_gtid(&self, file: &str, pos: u64, set: &[u8]) -> Result<Vec<u8>, Fault> {
        let len = |bytes: &[u8]| {
            u32::try_from(bytes.len()).map_err(|_| Fault::Protocol("set of GTIDs too large"))
        };
        let mut body = USE_HEARTBEAT_V2.to_le_bytes().to_vec();
        body.extend_from_slice(&self.server_id.to_le_bytes());
        body.extend_from_slice(&len(file.as_bytes())?.to_le_bytes());
        body.extend_from_slice(file.as_bytes());
        body.extend_from_slice(&pos.to_le_bytes());
        body.extend_from_slice(&len(set)?.to_le_bytes());
        body.extend_from_slice(set);
        Ok(body)
    }
}

/// A running dump. The server waits while nobody reads.
pub struct Dump(RawEvents);

impl Dump {
    /// The next event as the server sent it, header and checksum included; `None` where the server
    /// has no more to send. Cancel-safe.
    ///
    /// # Errors
    /// What the server says, a broken connection, or silence for [`SILENCE_MAX`].
    pub async fn next(&mut self) -> Result<Option<Bytes>, Fault> {
        self.0.next().await
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn replica(name: &str) -> Replica {
        Replica {
            server_id: 0x0102_0304,
            uuid: String::new(),
            name: name.to_owned(),
            user: "u".to_owned(),
            port: 3306,
        }
    }

    #[test]
    fn names_are_cut_between_characters() {
        let long = format!("{}ä-rest", "x".repeat(59));
        let body = replica(&long).registration();
        assert_eq!(body[..5], [4, 3, 2, 1, 59]);
        assert_eq!(body[64..], [1, b'u', 0, 0xea, 0x0c, 0, 0, 0, 0, 0, 0, 0, 0]);
    }

    #[test]
    fn positions_beyond_32_bits_take_the_command_that_has_64() {
        let file = "binlog.000001".to_owned();
        let pos = (1 << 32) + 5;
        let from = Point::MysqlFile {
            file: file.clone(),
            pos,
        };
        let (command, body) = replica("w").request(&from).unwrap();
        assert_eq!(command, COM_BINLOG_DUMP_GTID);
        assert_eq!(body[..10], [2, 0, 4, 3, 2, 1, 13, 0, 0, 0]);
        assert_eq!(body[23..31], pos.to_le_bytes());
        assert_eq!(body[31..], [8, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0]);

        let from = Point::MariadbFile { file, pos };
        assert!(replica("w").request(&from).is_err());
    }

    #[test]
    fn a_dump_never_starts_inside_the_magic_number() {
        let file = "binlog.000001".to_owned();
        let from = Point::MariadbFile { file, pos: 0 };
        let (_, body) = replica("w").request(&from).unwrap();
        assert_eq!(body[..10], [4, 0, 0, 0, 2, 0, 4, 3, 2, 1]);
        let (_, body) = replica("w")
            .request(&Point::MariadbGtids(String::new()))
            .unwrap();
        assert_eq!(body, [0, 0, 0, 0, 2, 0, 4, 3, 2, 1]);
    }
}
