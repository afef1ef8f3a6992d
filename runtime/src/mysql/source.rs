//! One upstream server: what it is, where its binlog ends, and the dump of it.

mod checks;
mod fault;

use std::{
    collections::BTreeMap,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use bytes::Bytes;
use dm_core::{
    binlog::{Decoder, Event, Flavor, GtidSet, Position},
    control::{SourceConfig, db::DbConfig},
    error::{Error, Result, Scope, code},
    full::Consistency,
    sync::{
        agreement::{SourceColumn, SourceTable},
        ddl::{Collation, Collations},
        progress::Location,
        schema::TableName,
    },
};
use tokio::{sync::Mutex, time::timeout};
use uuid::Uuid;

pub(super) use self::fault::broken;
use self::fault::{Missing, refused};
use super::{
    conn::{Conn, Fault, Row},
    replica::{Dump, Point, Replica},
    snapshot::{self, SnapshotReader},
};
use crate::ports::{EventStream, Source, SourceEnd, SourceFacts, Start, copy::Snapshot};

/// How long the question for the end of the binlog may take.
const END_MAX: Duration = Duration::from_secs(5);
/// How long the search for the GTIDs at a position may take, which reads a file of the binlog.
const GTIDS_MAX: Duration = Duration::from_secs(600);
/// Server ids are drawn from here on, as the existing worker does.
const SERVER_ID_FIRST: u32 = 429_496_729;
/// How many there are to draw from.
const SERVER_IDS: u32 = 100_000;

/// Error number of a statement that the server's version does not know.
const SYNTAX: u16 = 1064;
/// A privilege is missing.
const DENIED: [u16; 2] = [1227, 1142];
const LEFT_OUT: &str = "the source is a replica, or was one, and does not log what it replicates \
                        (`log_replica_updates`, `log_slave_updates`)";

/// An upstream server, as the port [`Source`] wants it.
pub struct Upstream {
    config: Arc<SourceConfig>,
    /// Name of the worker, for the source's list of replicas.
    worker: String,
    /// Our UUID as a replica; a new dump ends an older one of the same UUID.
    uuid: String,
    /// Whether the configured server id turned out to be in use.
    conflict: Arc<AtomicBool>,
    /// A connection for questions, kept while it works.
    side: Mutex<Option<Conn>>,
}

impl Upstream {
    /// A source of this configuration. Does not connect yet.
    #[must_use]
    pub fn new(config: &Arc<SourceConfig>, worker: &str) -> Self {
        Self {
            config: Arc::clone(config),
            worker: worker.to_owned(),
            uuid: Uuid::new_v4().to_string(),
            conflict: Arc::default(),
            side: Mutex::default(),
        }
    }

    /// Name of the source.
    pub(super) fn id(&self) -> &str {
        &self.config.source_id
    }

    /// How it is reached.
    pub(super) fn db(&self) -> &DbConfig {
        &self.config.from
    }

    pub(super) async fn flavor(&self) -> Result<Flavor> {
        let version = first_value(self.ask("SELECT VERSION()").await?);
        Ok(flavor_of(&version.unwrap_or_default()))
    }

    /// Asks something on the side connection. A connection that broke since it was last used is
    /// replaced once.
    async fn ask(&self, sql: &str) -> Result<Vec<Row>> {
        self.query(sql)
            .await
            .map_err(|fault| self.unreachable(&fault))
    }

    async fn query(&self, sql: &str) -> Result<Vec<Row>, Fault> {
        let mut side = self.side.lock().await;
        // Taken out meanwhile: whoever cancels this leaves no half-read answer behind.
        if let Some(mut conn) = side.take() {
            match conn.query(sql).await {
                Err(fault) if fault.code().is_none() => {}
                answer => {
                    *side = Some(conn);
                    return answer;
                }
            }
        }
        let mut conn = Conn::open(&self.config.from).await?;
        let answer = conn.query(sql).await;
        if matches!(&answer, Err(fault) if fault.code().is_none()) {
            return answer;
        }
        *side = Some(conn);
        answer
    }

    /// What a fault of one of its connections means.
    pub(super) fn unreachable(&self, fault: &Fault) -> Error {
        broken(fault, &self.config.from)
    }

    /// How we present ourselves in the next dump.
    async fn replica(&self) -> Replica {
        let mut taken = self.replica_ids().await;
        if self.conflict.load(Ordering::Relaxed) {
            taken.push(self.config.server_id);
        }
        let mut server_id = self.config.server_id;
        while server_id == 0 || taken.contains(&server_id) {
            server_id = SERVER_ID_FIRST + rand::random_range(0..SERVER_IDS);
        }
        Replica {
            server_id,
            uuid: self.uuid.clone(),
            name: self.worker.clone(),
            user: self.config.from.user.clone(),
            port: self.config.from.port,
        }
    }

    /// Server ids in use around the source, as far as it tells.
    async fn replica_ids(&self) -> Vec<u32> {
        let mut ids = Vec::new();
        // Without the privilege to see them a conflict shows itself later, and costs a reconnect.
        let replicas = self.replicas().await;
        let own = self.query("SELECT @@GLOBAL.server_id").await;
        for row in replicas.into_iter().chain(own).flatten() {
            let id = row.into_iter().next().flatten();
            ids.extend(id.and_then(|id| id.parse::<u32>().ok()));
        }
        ids
    }

    async fn replicas(&self) -> Result<Vec<Row>, Fault> {
        self.either("SHOW REPLICAS", "SHOW SLAVE HOSTS").await
    }

    /// Asks what has two names: newer versions know the first one only, older ones and MariaDB the
    /// second.
    async fn either(&self, new: &str, old: &str) -> Result<Vec<Row>, Fault> {
        let rows = self.query(new).await;
        if matches!(&rows, Err(fault) if fault.code() == Some(SYNTAX)) {
            return self.query(old).await;
        }
        rows
    }

    /// The start in the server's own terms.
    fn point(&self, flavor: Flavor, from: &Start) -> Result<Point> {
        Ok(match (flavor, from) {
            (Flavor::Mysql, Start::Position(Position { file, pos })) => Point::MysqlFile {
                file: file.clone(),
                pos: *pos,
            },
            (Flavor::Mariadb, Start::Position(Position { file, pos })) => Point::MariadbFile {
                file: file.clone(),
                pos: *pos,
            },
            (Flavor::Mysql, Start::Gtids(GtidSet::Mysql(set))) => Point::MysqlGtids(set.encode()),
            (Flavor::Mariadb, Start::Gtids(GtidSet::Mariadb(set))) => {
                Point::MariadbGtids(set.to_string())
            }
            (_, Start::Gtids(set)) => {
                let text = format!(
                    "the source is a {flavor} server, which knows nothing of GTIDs like {}",
                    set.to_text()
                );
                return Err(
                    Error::new(&code::NOT_SUPPORTED_FLAVOR, text).with_workaround(
                        "The checkpoint or `meta` of the task comes from another kind of server: \
                     start the task with a new `meta`.",
                    ),
                );
            }
        })
    }

    /// What makes sense of the server's refusal to start a dump.
    async fn explain(&self, flavor: Flavor, from: &Start, fault: &Fault) -> Error {
        let missing = match from {
            _ if fault.code() != Some(1236) => None,
            Start::Position(position) => self.missing_file(position).await,
            Start::Gtids(set) => self.missing_gtids(flavor, set).await,
        };
        refused(fault, missing)
    }

    /// The file that is gone, and the oldest that is left.
    async fn missing_file(&self, position: &Position) -> Option<Missing> {
        let names = self.files().await.into_iter().map(|(name, _)| name);
        let names: Vec<_> = names.collect();
        let (oldest, newest) = (names.first()?, names.last()?);
        let file = &position.file;
        if file.is_empty() || names.contains(file) {
            return None;
        }
        let at = |name: &str| Position::new(name, Position::FIRST);
        Some(if at(file) > at(newest) {
            Missing::NotYet(format!(
                "the source has no file {file} yet: its newest is {newest}"
            ))
        } else {
            Missing::Purged(format!(
                "the source no longer has the file {file}: its oldest is {oldest}"
            ))
        })
    }

    /// The transactions that are gone.
    async fn missing_gtids(&self, flavor: Flavor, set: &GtidSet) -> Option<Missing> {
        let missing = match flavor {
            Flavor::Mysql => {
                let set = quoted(&set.to_text());
                let sql = format!("SELECT GTID_SUBTRACT(@@GLOBAL.gtid_purged, {set})");
                let missing = first_value(self.query(&sql).await.ok()?)?;
                let missing = missing.replace(['\n', ' '], "");
                (!missing.is_empty())
                    .then(|| format!("the source no longer has the transactions {missing}"))
            }
            Flavor::Mariadb => {
                let (oldest, _) = self.files().await.into_iter().next()?;
                Some(format!(
                    "the source no longer has all transactions behind {}: its oldest file is \
                     {oldest}",
                    set.to_text()
                ))
            }
        };
        missing.map(Missing::Purged)
    }

    /// The only row of `SHOW BINARY LOG STATUS`: file, position, the schemas that alone are logged,
    /// the schemas that are not logged, and on MySQL the executed GTIDs.
    async fn status(&self) -> Result<Row> {
        let status = self
            .either("SHOW BINARY LOG STATUS", "SHOW MASTER STATUS")
            .await;
        let status = status.map_err(|fault| self.unreachable(&fault))?;
        status.into_iter().next().ok_or_else(|| {
            let text = "upstream returns an empty result for SHOW MASTER STATUS";
            Error::new(&code::NO_MASTER_STATUS, text)
        })
    }

    /// Whether it replicates from another server, or ever did, as far as its user may know.
    async fn is_replica(&self, flavor: Flavor) -> Result<bool> {
        // On MariaDB, to be told more needs a privilege of its own.
        const PLACE: &str = "SELECT 1 FROM DUAL WHERE @@GLOBAL.gtid_slave_pos <> ''";
        const RUNNING: &str = "SHOW GLOBAL STATUS WHERE Variable_name = 'Slaves_running' \
                               AND Value > 0";
        let rows = match flavor {
            Flavor::Mysql => (self.either("SHOW REPLICA STATUS", "SHOW SLAVE STATUS")).await,
            Flavor::Mariadb => match self.query(PLACE).await {
                Ok(rows) if rows.is_empty() => self.query(RUNNING).await,
                rows => rows,
            },
        };
        let rows = rows.map_err(|fault| self.unreachable(&fault))?;
        Ok(!rows.is_empty())
    }

    /// The binlog files and their sizes, oldest first; none where the server doesn't tell.
    async fn files(&self) -> Vec<(String, u64)> {
        let rows = self.query("SHOW BINARY LOGS").await.unwrap_or_default();
        let file = |row: Row| {
            let mut columns = row.into_iter().flatten();
            Some((columns.next()?, columns.next()?.parse().ok()?))
        };
        rows.into_iter().filter_map(file).collect()
    }

    /// Reads the file from its start.
    async fn find_gtids(&self, position: &Position) -> Result<GtidSet> {
        let flavor = self.flavor().await?;
        let start = Position::new(position.file.clone(), Position::FIRST);
        let mut stream = self.dump(&Start::Position(start)).await?;
        let mut decoder = Decoder::new(flavor).accept_unchecked();
        let mut file = position.file.clone();
        // What came before the file; the file says so in one of its first events.
        let mut gtids = None;
        let mut open = false;
        loop {
            let frame = decoder.frame(stream.next().await?)?;
            let header = frame.header;
            match decoder.event(&frame)? {
                Event::PreviousGtids(before) | Event::MariadbGtidList(before) => {
                    if header.log_pos >= position.pos {
                        return Ok(before);
                    }
                    gtids = Some(before);
                }
                Event::Gtid { gtid, .. } | Event::MariadbGtid { gtid, .. } => {
                    gtids
                        .get_or_insert_with(|| GtidSet::empty(flavor))
                        .add(&gtid);
                    open = true;
                }
                Event::AnonymousGtid { .. } => open = true,
                Event::Query(query) if &query.sql[..] != b"BEGIN" => open = false,
                Event::Xid | Event::XaPrepare { .. } | Event::Payload { .. } => open = false,
                // Without a name it is the oldest file.
                Event::Rotate { file: first, .. } if file.is_empty() => file = first,
                Event::Rotate { file: next, .. } if next != file => {
                    return Err(unknown_gtids(position, "is behind the end of the file"));
                }
                Event::Heartbeat { pos, .. } if pos < position.pos => {
                    return Err(unknown_gtids(position, "is behind the end of the binlog"));
                }
                _ => {}
            }
            if let Some(gtids) = &gtids
                && !header.is_artificial()
                && header.log_pos >= position.pos
            {
                return if header.log_pos == position.pos && !open {
                    Ok(gtids.clone())
                } else {
                    Err(unknown_gtids(position, "is not the end of a transaction"))
                };
            }
        }
    }

    /// Where the binlog ends now: as little is asked as can be.
    pub(super) async fn place(&self) -> Result<Location> {
        let flavor = self.flavor().await?;
        let status = self.status().await?;
        let (position, gtids) = self.place_of(flavor, status).await?;
        let gtids = Some(gtids).filter(|gtids| !gtids.is_empty());
        Ok(Location { position, gtids })
    }

    /// Whether it tells which transactions can be seen, and is asked by that.
    pub(super) async fn tells_what_is_committed(&self) -> Result<bool> {
        Ok(self.config.enable_gtid
            && self.flavor().await? == Flavor::Mysql
            && self.place().await?.gtids.is_some())
    }

    async fn place_of(&self, flavor: Flavor, status: Row) -> Result<(Position, GtidSet)> {
        let mut status = status.into_iter();
        let file = status.next().flatten().unwrap_or_default();
        let pos = status.next().flatten().and_then(|pos| pos.parse().ok());
        let gtids = match flavor {
            Flavor::Mysql => status.nth(2).flatten(),
            Flavor::Mariadb => first_value(self.ask("SELECT @@GLOBAL.gtid_binlog_pos").await?),
        };
        let gtids = GtidSet::parse(flavor, &gtids.unwrap_or_default())?;
        Ok((Position::new(file, pos.unwrap_or_default()), gtids))
    }

    async fn end_of(&self, flavor: Flavor, status: Row) -> Result<SourceEnd> {
        let (position, gtids) = self.place_of(flavor, status).await?;
        let files = self.files().await;
        let purged = match (flavor, files.first()) {
            (Flavor::Mysql, _) => first_value(self.ask("SELECT @@GLOBAL.gtid_purged").await?),
            (Flavor::Mariadb, Some((oldest, _))) => {
                let before = format!("SELECT BINLOG_GTID_POS({},4)", quoted(oldest));
                // Or it was purged just now.
                first_value(self.query(&before).await.unwrap_or_default())
            }
            (Flavor::Mariadb, None) => None,
        };
        Ok(SourceEnd {
            position,
            gtids,
            files,
            purged: GtidSet::parse(flavor, &purged.unwrap_or_default())?,
        })
    }
}

impl Source for Upstream {
    type Stream = BinlogStream;
    type Reader = SnapshotReader;

    async fn snapshot(
        &self,
        consistency: Consistency,
        readers: usize,
        is_wanted: impl Fn(&TableName) -> bool + Send + Sync,
    ) -> Result<Snapshot<SnapshotReader>> {
        snapshot::take(self, consistency, readers, is_wanted).await
    }

    async fn probe(&self, follows: bool) -> Result<SourceFacts> {
        let variables = self.ask(checks::VARIABLES).await?;
        let facts = checks::Variables::new(variables);
        let flavor = facts.check(&self.config)?;
        let mut obstacle = facts.check_binlog(&self.config, flavor).err();
        if flavor == Flavor::Mysql
            // Needs the very privilege that a dump needs; on MariaDB it needs another one.
            && let Err(fault) = self.replicas().await
        {
            let error = self.unreachable(&fault);
            if !fault.code().is_some_and(|code| DENIED.contains(&code)) {
                return Err(error);
            }
            obstacle = obstacle.or(Some(error));
        }
        let status = self.status().await?;
        let mut lists = status
            .iter()
            .skip(2)
            .map(|it| it.clone().unwrap_or_default());
        let logged = (
            lists.next().unwrap_or_default(),
            lists.next().unwrap_or_default(),
        );
        for (name, schemas) in [("binlog_do_db", &logged.0), ("binlog_ignore_db", &logged.1)] {
            if !schemas.is_empty() {
                tracing::warn!(
                    source = self.config.source_id,
                    schemas,
                    "the source does not log all schemas ({name}): those cannot be replicated"
                );
            }
        }
        let leaves_out = !facts.logs_replicated() && self.is_replica(flavor).await?;
        if follows {
            if let Some(error) = obstacle.take() {
                return Err(error);
            }
            if leaves_out {
                tracing::warn!(
                    source = self.config.source_id,
                    "{LEFT_OUT}: that is missing"
                );
            }
        } else if leaves_out {
            obstacle = obstacle.or_else(|| {
                let error = Error::new(&code::TASK_CHECK_SYNC_CONFIG_ERROR, LEFT_OUT);
                Some(error.with_scope(Scope::Upstream))
            });
        }
        let end = self.end_of(flavor, status).await?;
        Ok(facts.into_facts(flavor, logged, obstacle, end))
    }

    async fn collations(&self) -> Result<Collations> {
        // Not all of MariaDB's have a character set of their own.
        const LISTED: &str = "SELECT id, collation_name, character_set_name, is_default \
                              FROM information_schema.collations \
                              WHERE id IS NOT NULL AND character_set_name IS NOT NULL";
        const VARIABLES: &str = "SHOW GLOBAL VARIABLES WHERE variable_name IN \
                                 ('collation_server', 'default_collation_for_utf8mb4')";
        let listed = self.ask(LISTED).await?;
        let listed = listed.into_iter().filter_map(|row| {
            let mut row = row.into_iter();
            Some(Collation {
                id: row.next()??.parse().ok()?,
                name: row.next()??,
                charset: row.next()??,
                is_default: row.next()??.eq_ignore_ascii_case("yes"),
            })
        });
        let variables = self.ask(VARIABLES).await?;
        let mut variables: BTreeMap<_, _> = variables
            .into_iter()
            .filter_map(|row| {
                let mut row = row.into_iter();
                Some((row.next()??.to_ascii_lowercase(), row.next()??))
            })
            .collect();
        let server = variables.remove("collation_server");
        let utf8mb4 = variables.remove("default_collation_for_utf8mb4");
        Ok(Collations::new(listed, server, utf8mb4))
    }

    async fn dump(&self, from: &Start) -> Result<BinlogStream> {
        let db = &self.config.from;
        let opened = async {
            let mut conn = Conn::open(db).await?;
            let variables = conn.query(checks::VARIABLES).await?;
            Ok((conn, checks::Variables::new(variables)))
        };
        let (conn, variables) = opened.await.map_err(|fault| self.unreachable(&fault))?;
        let flavor = flavor_of(conn.version());
        let point = self.point(flavor, from)?;
        let replica = self.replica().await;
        let mut dump = match replica.dump(conn, &point).await {
            Ok(dump) => dump,
            Err(fault) => return Err(refused(&fault, None)),
        };
        // A refusal comes in place of the first event, which else comes at once.
        match dump.next().await {
            Ok(Some(first)) => {
                tracing::info!(
                    source = self.config.source_id,
                    server_id = replica.server_id,
                    from = %from,
                    "binlog dump started"
                );
                Ok(BinlogStream {
                    server: variables.server(flavor),
                    first: Some(first),
                    dump,
                    conflict: Arc::clone(&self.conflict),
                })
            }
            Ok(None) => Err(refused(&Fault::Closed, None)),
            Err(fault) => Err(self.explain(flavor, from, &fault).await),
        }
    }

    async fn table(&self, name: &TableName) -> Result<SourceTable> {
        let (schema, table) = (quoted(&name.schema), quoted(&name.table));
        let of_table = format!("WHERE table_schema = {schema} AND table_name = {table}");
        let created = format!(
            "SELECT FLOOR(UNIX_TIMESTAMP(create_time)) FROM information_schema.tables {of_table}"
        );
        let created = first_value(self.ask(&created).await?);
        let columns = format!(
            "SELECT column_name, column_type, character_set_name FROM information_schema.columns \
             {of_table} ORDER BY ordinal_position"
        );
        let column = |row: Row| {
            let mut values = row.into_iter();
            let name = values.next().flatten()?;
            let column_type = values.next().flatten().unwrap_or_default();
            Some(SourceColumn {
                name,
                unsigned: column_type.contains(" unsigned"),
                charset: values.next().flatten(),
            })
        };
        let rows = self.ask(&columns).await?;
        Ok(SourceTable {
            columns: rows.into_iter().filter_map(column).collect(),
            created: created.and_then(|seconds| seconds.parse().ok()),
        })
    }

    async fn end(&self) -> Result<SourceEnd> {
        let end = async {
            let flavor = self.flavor().await?;
            self.end_of(flavor, self.status().await?).await
        };
        timeout(END_MAX, end)
            .await
            .unwrap_or_else(|_| Err(self.unreachable(&Fault::Silence(END_MAX))))
    }

    async fn gtids_at(&self, position: &Position) -> Result<GtidSet> {
        timeout(GTIDS_MAX, self.find_gtids(position))
            .await
            .unwrap_or_else(|_| {
                let seconds = GTIDS_MAX.as_secs();
                Err(unknown_gtids(
                    position,
                    &format!("was not reached within {seconds} s"),
                ))
            })
    }
}

/// The events of a dump.
pub struct BinlogStream {
    server: String,
    /// The event that showed that the dump was accepted.
    first: Option<Bytes>,
    dump: Dump,
    conflict: Arc<AtomicBool>,
}

impl EventStream for BinlogStream {
    fn server(&self) -> &str {
        &self.server
    }

    async fn next(&mut self) -> Result<Bytes> {
        if let Some(first) = self.first.take() {
            return Ok(first);
        }
        let fault = match self.dump.next().await {
            Ok(Some(event)) => return Ok(event),
            Ok(None) => Fault::Closed,
            Err(fault) => fault,
        };
        if fault::is_conflict(&fault) {
            // The next dump uses another server id.
            self.conflict.store(true, Ordering::Relaxed);
        }
        Err(refused(&fault, None))
    }
}

fn unknown_gtids(position: &Position, why: &str) -> Error {
    let text = format!("{position} {why}, so its set of GTIDs is not known");
    Error::new(&code::CONFIG_META_INVALID, text)
        .with_scope(Scope::Upstream)
        .with_workaround("Give `binlog-gtid` in `meta`, or a position between transactions.")
}

fn flavor_of(version: &str) -> Flavor {
    if version.to_ascii_lowercase().contains("mariadb") {
        Flavor::Mariadb
    } else {
        Flavor::Mysql
    }
}

fn first_value(rows: Vec<Row>) -> Option<String> {
    rows.into_iter().next()?.into_iter().next()?
}

/// A text as SQL wants it, whatever the session's `sql_mode` makes of backslashes.
fn quoted(text: &str) -> String {
    if text.contains('\\') {
        let hex: String = text.bytes().map(|byte| format!("{byte:02x}")).collect();
        return format!("CONVERT(X'{hex}' USING utf8mb4)");
    }
    format!("'{}'", text.replace('\'', "''"))
}
