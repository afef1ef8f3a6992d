//! Who is held off while a snapshot is taken, and for how long.

use dm_core::{
    binlog::Flavor,
    error::{Error, Result, Scope, code},
    full::Consistency,
};
use tokio::time::sleep;
use tracing::warn;

use super::{ATTEMPTS, DENIED, PAUSE, SnapshotReader};
use crate::{
    mysql::{conn::Conn, source::Upstream},
    ports::copy::SnapshotTable,
};

/// How long a lock lasts at most whose owner is not heard of.
const LOCK_TIMEOUT: &str = "SET SESSION wait_timeout=30";
const LOCK_WAIT_TIMEOUT: u16 = 1205;
/// Holds off everybody who writes.
const GLOBAL: &str = "FLUSH TABLES WITH READ LOCK";
/// A query that has run for so many seconds may well run for as long again.
const LONG_S: u64 = 5;
const WAIT: &str = "Queries or transactions that take long keep the lock from being taken: wait \
                    for their end, or end them.";

/// A lock, as long as its connection is there.
pub(super) struct Lock(Conn);

impl Lock {
    /// Gives it back.
    ///
    /// # Errors
    /// 10001: it was lost before, and nobody was held off any more.
    pub(super) async fn release(self, source: &Upstream) -> Result<()> {
        let Self(mut conn) = self;
        let released = conn.query("UNLOCK TABLES").await;
        released
            .map(drop)
            .map_err(|fault| source.unreachable(&fault))
    }
}

/// Keeps tables from being made, altered and dropped, if the server and the user's rights allow
/// that: writers are not held off. The end of the connection gives it back.
///
/// Whoever waits for its end may have begun a change, which a global lock in turn would wait for.
/// So that one comes first.
async fn hold_definitions(mut reader: SnapshotReader) -> Result<Option<Conn>> {
    reader.run(LOCK_TIMEOUT).await?;
    let locked = reader.conn.query("LOCK INSTANCE FOR BACKUP").await;
    Ok(locked.is_ok().then_some(reader.conn))
}

/// Holds writers off in the way that is asked for, and where that is possible whoever alters
/// tables. Whoever writes into other tables need not be held off: those are not read.
pub(super) async fn hold(
    source: &Upstream,
    consistency: Consistency,
    tables: &[SnapshotTable],
) -> Result<(Option<Lock>, Option<Conn>)> {
    let is_auto = consistency == Consistency::Auto;
    let mut busy = None;
    // Nobody is held off while it connects.
    let reader = SnapshotReader::open(source).await?;
    if is_auto || consistency == Consistency::Flush {
        match locked(source, GLOBAL).await? {
            Locked::Lock(lock) => return Ok((Some(lock), hold_definitions(reader).await?)),
            Locked::Denied(error) | Locked::Busy(error) if !is_auto => return Err(error),
            Locked::Denied(error) => {
                warn!(source = source.id(), %error, "locking single tables instead");
            }
            Locked::Busy(error) => {
                warn!(source = source.id(), %error, "locking single tables instead");
                busy = Some(error);
            }
        }
    }
    let held = hold_definitions(reader).await?;
    if (is_auto || consistency == Consistency::Lock) && !tables.is_empty() {
        let tables = tables.iter().map(|it| format!("{} READ", it.table.name));
        let sql = format!("LOCK TABLES {}", tables.collect::<Vec<_>>().join(","));
        match locked(source, &sql).await? {
            Locked::Lock(lock) => return Ok((Some(lock), held)),
            Locked::Busy(error) => return Err(error),
            Locked::Denied(error) if !is_auto => return Err(error),
            Locked::Denied(error) => {
                warn!(source = source.id(), %error, "the user may not lock single tables");
            }
        }
    }
    // Whoever may hold writers off does not do without, only because it takes a while.
    busy.map_or(Ok((None, held)), Err)
}

/// How taking a lock ended.
enum Locked {
    Lock(Lock),
    /// The user may not.
    Denied(Error),
    /// Somebody is in the way for long.
    Busy(Error),
}

async fn locked(source: &Upstream, sql: &str) -> Result<Locked> {
    let mut reader = SnapshotReader::open(source).await?;
    // Should this worker freeze or its machine vanish, nobody else would give the lock back.
    reader.run(LOCK_TIMEOUT).await?;
    // MariaDB's waits for nobody who only reads.
    let waits_for_queries = sql == GLOBAL && source.flavor().await? == Flavor::Mysql;
    let mut attempt = 1;
    loop {
        let query = match waits_for_queries {
            true => long_query(&mut reader.conn).await,
            false => None,
        };
        let error = if let Some(query) = query {
            let text = format!("Couldn't acquire global lock: {query} is in the way");
            Error::new(&code::DB_DRIVER_ERROR, text).with_scope(Scope::Upstream)
        } else {
            let Err(fault) = reader.conn.query(sql).await else {
                return Ok(Locked::Lock(Lock(reader.conn)));
            };
            match fault.code() {
                Some(number) if DENIED.contains(&number) => {
                    let text: String = sql.chars().take(100).collect();
                    let error =
                        Error::new(&code::DUMP_UNIT_GLOBAL_LOCK, "Couldn't acquire global lock");
                    return Ok(Locked::Denied(
                        error
                            .with_scope(Scope::Upstream)
                            .with_cause(format!("{text}: {fault}")),
                    ));
                }
                Some(LOCK_WAIT_TIMEOUT) => {
                    // A global lock that waits for queries in vain is kept nevertheless.
                    let given_back = reader.conn.query("UNLOCK TABLES").await;
                    given_back.map_err(|fault| source.unreachable(&fault))?;
                    source.unreachable(&fault)
                }
                _ => return Err(source.unreachable(&fault)),
            }
        };
        if attempt == ATTEMPTS {
            // Unlike without a right, waiting may help.
            return Ok(Locked::Busy(error.with_workaround(WAIT)));
        }
        warn!(source = source.id(), %error, "somebody is in the way of a lock, trying again");
        attempt += 1;
        sleep(PAUSE).await;
    }
}

/// A query that a global lock would wait for, while all who write wait for the lock, and all who
/// want the tables of that query. Only as far as the user may see it.
async fn long_query(conn: &mut Conn) -> Option<String> {
    // Id, User, Host, db, Command, Time, State, Info.
    let all = conn.query("SHOW PROCESSLIST").await.ok()?;
    let mut long = all.into_iter().filter_map(|row| {
        let column = |index: usize| row.get(index).cloned().flatten().unwrap_or_default();
        let is_query = matches!(&*column(4), "Query" | "Execute") && column(1) != "system user";
        let (seconds, text) = (column(5).parse().unwrap_or(0_u64), column(7));
        let is_long = is_query && seconds >= LONG_S && !text.is_empty();
        is_long.then(|| {
            let (id, text) = (column(0), text.chars().take(60).collect::<String>());
            format!("query {id}, which has run for {seconds} s (`{text}`)")
        })
    });
    long.next()
}

/// A position comes before the transaction that ends there can be seen: what is in between would
/// be neither in the rows nor behind the position. A set of GTIDs has what can be seen.
pub(super) fn unlocked() -> Error {
    Error::new(
        &code::DUMP_UNIT_GLOBAL_LOCK,
        "Couldn't acquire global lock: without one, only GTIDs of MySQL tell what rows lack",
    )
    .with_scope(Scope::Upstream)
    .with_workaround(
        "Grant RELOAD, or LOCK TABLES on the tables, to the user of the source. MySQL with \
         `gtid_mode=ON` and `enable-gtid: true` in the source file needs neither \
         (`--consistency none`).",
    )
}
