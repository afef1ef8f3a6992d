//! Statements that commit by themselves.
//!
//! A DDL can't share a transaction with its progress. So what is about to run is written down first
//! (the *intent*, with what the tables looked like), then it runs, then one transaction clears the
//! intent and moves all slots behind it. Whoever finds an intent ends the connection that it names,
//! waits until that is gone, and compares: a table that looks different now means that the DDL ran.
//! Where nothing looks different, it did not run, or running it again changes nothing either, since
//! no row was applied in between: `TRUNCATE`, `AUTO_INCREMENT`, a rebuild, what names things that
//! are there already or gone. The exceptions are statements that swap (`EXCHANGE PARTITION`,
//! columns that take each other's names): the second execution would undo the first. Whether one of
//! them ran nobody but an operator can say.
//!
//! A *replay* is of a statement that somebody else may have executed without an intent. What was
//! there before is not known then, so only the answer of the target tells. What swaps is not
//! tried at all, swapping names of tables included. What gives no name to what it adds (a key, a
//! CHECK, a foreign key, a number of partitions) may add it twice, which costs space but no row.
//!
//! On TiDB a DDL outlives its connection: its job is waited for.

use dm_core::{
    binlog::Dialect,
    error::{Error, Result, Scope, code},
    sync::{
        ddl::{Kind, Piece, ignorable},
        progress::Applied as Progress,
        schema::TableName,
    },
};
use futures_util::future::{join_all, try_join_all};
use serde::{Deserialize, Serialize};
use tokio::time::{Duration, Instant, sleep};
use tracing::{info, warn};

use super::{Inner, error_of, failed};
use crate::{
    mysql::{
        errors::{self, UNKNOWN_CHARSET, UNKNOWN_COLLATION},
        meta::{StoredLocation, invalid},
        session::{Literal, Session, Values, quoted},
        sql_mode::SqlMode,
    },
    ports::{Applied, Ddl},
};

/// How long a DDL of a former owner may go on after its connection was ended.
const JOB_LIMIT: Duration = Duration::from_secs(60);

/// In so many bytes the target sorts the keys of a table that are made at once. With the usual
/// megabyte it would merge many files.
const SORT_BYTES: usize = 32 << 20;

/// A schema, a table or nothing, and what it looks like; `None` when it is not there.
type Look = (String, String, Option<String>);

/// A DDL under way, as the control row keeps it.
#[derive(Debug, Deserialize, Serialize)]
struct Intent {
    sql: String,
    /// The connection that runs it.
    session: u64,
    /// Those that run others at the same time.
    #[serde(default)]
    alongside: Vec<u64>,
    /// Tables that show whether it ran, with what each looked like before; an empty table name is
    /// the schema itself.
    tables: Vec<Look>,
    /// Source tables whose structure changes.
    sources: Vec<(String, String)>,
    /// Where all slots are once it ran.
    boundary: StoredLocation,
    txn: Option<String>,
    rows: u64,
    /// Whether it may have run although nothing looks different.
    #[serde(default)]
    hidden: bool,
}

impl Inner {
    /// Runs a DDL; see [`crate::ports::Target::ddl`].
    pub(super) async fn ddl(&self, session: &mut Session, ddl: &Ddl) -> Applied {
        let mut runner = match self.runner(ddl).await {
            Ok(runner) => runner,
            Err(error) => return failed(error),
        };
        let intent = match self.intent(session, ddl, runner.id).await {
            Ok(intent) => intent,
            Err(error) => return failed(error),
        };
        match self.note(session, &intent).await {
            Applied::Done => {}
            other => return other,
        }
        if ddl.replay && ddl.piece.swaps {
            runner.close().await;
            return Applied::Unknown(undecided(&intent));
        }
        info!(sql = ddl.piece.sql, "executing DDL");
        let ended = runner.unlimited(&ddl.piece.sql).await;
        runner.close().await;
        let Err(error) = ended else {
            return self.finish(session, &intent).await;
        };
        let refused = errors::execute_failed(&ddl.piece.sql, &error);
        let Some(number) = errors::number(&error) else {
            return Applied::Unknown(refused);
        };
        let there_already = is_made_otherwise(&ddl.piece, &intent, number)
            || ddl.replay && (ignorable(ddl.piece.kind, number) || is_renamed(&ddl.piece, &intent));
        let ran = if there_already {
            info!(sql = ddl.piece.sql, "already there: {}", refused.cause);
            true
        } else {
            // A refusal leaves nothing behind, but an interruption may come too late.
            match self.ran(session, &intent).await {
                Ok(false) if intent.hidden && errors::is_interruption(number) => {
                    return Applied::Unknown(undecided(&intent));
                }
                Ok(ran) => ran,
                Err(error) => return Applied::Unknown(error),
            }
        };
        if ran {
            return self.finish(session, &intent).await;
        }
        match self.send_control(session, "`intent`=NULL", "").await {
            Applied::Done => Applied::Failed {
                retry: errors::is_transient(&error),
                error: refused,
            },
            other => other,
        }
    }

    /// Runs several; see [`crate::ports::Target::ddl_all`]. One intent stands for all of them,
    /// since whoever finds it ends all of their connections.
    pub(super) async fn ddl_all(&self, session: &mut Session, ddls: &[Ddl]) -> Applied {
        let Some((first, others)) = ddls.split_first() else {
            return Applied::Done;
        };
        let runners = match try_join_all(ddls.iter().map(|ddl| self.one_of_all(ddl))).await {
            Ok(runners) => runners,
            Err(error) => return failed(error),
        };
        let mut intent = match self.intent(session, first, runners[0].id).await {
            Ok(intent) => intent,
            Err(error) => return failed(error),
        };
        intent.alongside = runners[1..].iter().map(|runner| runner.id).collect();
        for ddl in others {
            match looks(session, ddl).await {
                Ok(tables) => intent.tables.extend(tables),
                Err(error) => return failed(error),
            }
        }
        if !others.is_empty() {
            // Their texts together may be more than a packet holds.
            intent
                .sql
                .push_str(&format!(" (and {} more)", others.len()));
        }
        match self.note(session, &intent).await {
            Applied::Done => {}
            other => return other,
        }
        let all = runners.into_iter().zip(ddls).map(async |(runner, ddl)| {
            let ended = run(runner, ddl).await;
            if let Some(Applied::Failed { error, .. } | Applied::Unknown(error)) = &ended {
                // The others may take hours.
                warn!(%error, "one of several statements failed");
            }
            ended
        });
        let mut refused = None;
        for ended in join_all(all).await.into_iter().flatten() {
            match ended {
                Applied::Unknown(error) => return Applied::Unknown(error),
                ended => refused = refused.or(Some(ended)),
            }
        }
        match self.send_control(session, "`intent`=NULL", "").await {
            Applied::Done => refused.unwrap_or(Applied::Done),
            other => other,
        }
    }

    /// Settles a DDL that a former owner, or a former life, had under way.
    pub(super) async fn settle(&self, session: &mut Session, intent: &str) -> Result<()> {
        let intent: Intent = serde_json::from_str(intent)
            .map_err(|error| invalid("intent of a DDL".to_owned(), &error))?;
        warn!(sql = intent.sql, "a DDL was under way");
        let runners: Vec<_> = [&[intent.session], &*intent.alongside].concat();
        self.end_sessions(session, &runners).await?;
        if self.server.dialect == Dialect::TiDb {
            self.await_jobs(session, &intent).await?;
        }
        if self.ran(session, &intent).await? {
            info!(sql = intent.sql, "it was executed");
            error_of(self.finish(session, &intent).await)
        } else if intent.hidden {
            Err(undecided(&intent))
        } else {
            info!(sql = intent.sql, "it was not executed");
            error_of(self.send_control(session, "`intent`=NULL", "").await)
        }
    }

    /// A connection of its own for each DDL, with the source session's settings: nothing has to be
    /// restored afterwards.
    async fn runner(&self, ddl: &Ddl) -> Result<Session> {
        let mut runner = self.connector.open(&self.server).await?;
        let mut set = format!("SET SESSION timestamp={}", ddl.timestamp);
        let zone = ddl.time_zone.as_deref();
        if let Some(zone) = zone.or_else(|| self.connector.time_zone()) {
            set.push_str(&format!(",time_zone={}", Literal(zone)));
        }
        if let Some(bits) = ddl.sql_mode {
            let mode = SqlMode::from_bits(bits, self.options.flavor, self.server.dialect);
            set.push_str(&format!(",sql_mode='{mode}'"));
        }
        if let Some(schema) = &ddl.schema {
            set.push_str(&format!(";USE {}", quoted(schema)));
        }
        runner.run(&set).await?;
        let is_schemas = matches!(ddl.piece.kind, Kind::CreateDatabase | Kind::AlterDatabase);
        if let Some(collation) = ddl.collation_server.filter(|_| is_schemas) {
            // A number, since the servers don't agree on names; nor do they on all numbers.
            let set = format!("SET SESSION collation_server={collation}");
            if let Some(error) = refusal(&mut runner, &set).await? {
                let sql = &ddl.piece.sql;
                warn!(sql, %error, "the schema gets the target's default collation");
            }
        }
        Ok(runner)
    }

    /// As [`Self::runner`], with more room to sort what goes into keys.
    async fn one_of_all(&self, ddl: &Ddl) -> Result<Session> {
        let mut runner = self.runner(ddl).await?;
        if ddl.piece.kind == Kind::AlterTable && self.server.dialect == Dialect::MySql {
            let set = format!("SET SESSION innodb_ddl_buffer_size={SORT_BYTES}");
            if let Some(error) = refusal(&mut runner, &set).await? {
                // Before MySQL 8.0.27.
                info!(%error, "keys are sorted with what room the target has");
            }
        }
        Ok(runner)
    }

    async fn intent(&self, session: &mut Session, ddl: &Ddl, runner: u64) -> Result<Intent> {
        let tables = looks(session, ddl).await?;
        let sources = ddl.piece.sources.iter();
        let Progress {
            boundary,
            txn,
            rows,
        } = &ddl.after;
        Ok(Intent {
            sql: ddl.piece.sql.clone(),
            session: runner,
            alongside: Vec::new(),
            tables,
            sources: sources
                .map(|(_, name)| (name.schema.clone(), name.table.clone()))
                .collect(),
            boundary: StoredLocation::from(boundary),
            txn: txn.as_ref().map(ToString::to_string),
            rows: *rows,
            // Of a rename that was not executed before, the names tell.
            hidden: ddl.piece.swaps && (ddl.replay || ddl.piece.kind != Kind::RenameTable),
        })
    }

    async fn note(&self, session: &mut Session, intent: &Intent) -> Applied {
        // Cannot fail: texts and numbers only.
        let text = serde_json::to_string(intent).unwrap_or_default();
        let set = format!("`intent`={}", Literal(&text));
        self.send_control(session, &set, "").await
    }

    /// Whether anything looks different from before.
    async fn ran(&self, session: &mut Session, intent: &Intent) -> Result<bool> {
        for (schema, table, before) in &intent.tables {
            if look(session, &TableName::new(schema, table)).await? != *before {
                return Ok(true);
            }
        }
        Ok(false)
    }

    /// Clears the intent and moves all slots behind the DDL.
    async fn finish(&self, session: &mut Session, intent: &Intent) -> Applied {
        let txn = intent.txn.as_deref().map(str::parse).transpose();
        let txn = match txn.map_err(|error| invalid("intent of a DDL".to_owned(), &error)) {
            Ok(txn) => txn,
            Err(error) => return failed(error),
        };
        let boundary = match self.meta.restore(&intent.boundary) {
            Ok(boundary) => boundary,
            Err(error) => return failed(error),
        };
        let mut body = self.meta.move_all(&Progress {
            boundary,
            txn,
            rows: intent.rows,
        });
        for (schema, table) in &intent.sources {
            let forget = self.meta.forget_table(&TableName::new(schema, table));
            body.push(';');
            body.push_str(&forget);
        }
        match self.send_control(session, "`intent`=NULL", &body).await {
            // The DDL itself is done; it must not be tried again before the intent is settled.
            Applied::Failed { error, .. } => Applied::Unknown(error),
            other => other,
        }
    }

    /// Waits until TiDB has no DDL job left on the tables.
    async fn await_jobs(&self, session: &mut Session, intent: &Intent) -> Result<()> {
        let tables: Vec<_> = intent
            .tables
            .iter()
            .map(|(schema, table, _)| {
                format!(
                    "(db_name={} AND table_name={})",
                    Literal(schema),
                    Literal(table)
                )
            })
            .collect();
        let query = format!(
            "SELECT COUNT(*) FROM information_schema.ddl_jobs WHERE state NOT IN \
             ('synced','cancelled','rollback done') AND ({})",
            if tables.is_empty() {
                "TRUE".to_owned()
            } else {
                tables.join(" OR ")
            }
        );
        let start = Instant::now();
        loop {
            let rows = session.rows(&query).await?;
            if rows.first().is_none_or(|row| row.number::<u64>(0) == 0) {
                return Ok(());
            }
            if start.elapsed() > JOB_LIMIT {
                let message = format!("a former owner's DDL still runs: {}", intent.sql);
                return Err(
                    Error::new(&code::SYNCER_DDL_UNSETTLED, message).with_scope(Scope::Downstream)
                );
            }
            sleep(Duration::from_secs(1)).await;
        }
    }
}

/// Sets what a server may not know: what it says then.
async fn refusal(runner: &mut Session, set: &str) -> Result<Option<Error>> {
    match runner.run(set).await {
        Err(error) if runner.is_usable() => Ok(Some(error)),
        done => done.map(|_| None),
    }
}

/// Whether a schema can't be made as the source's, with a collation that the target does not know,
/// and is there: somebody has made it with another one.
fn is_made_otherwise(piece: &Piece, intent: &Intent, number: u16) -> bool {
    let is_unknown = matches!(number, UNKNOWN_CHARSET | UNKNOWN_COLLATION);
    let is_there = intent.tables.iter().all(|(_, _, look)| look.is_some());
    is_unknown && piece.kind == Kind::CreateDatabase && is_there
}

/// One of several statements: what went wrong, if anything did.
async fn run(mut runner: Session, ddl: &Ddl) -> Option<Applied> {
    let Piece { kind, sql, .. } = &ddl.piece;
    info!(sql, "executing DDL");
    let ended = runner.unlimited(sql).await;
    runner.close().await;
    let error = ended.err()?;
    let refused = errors::execute_failed(sql, &error);
    let Some(number) = errors::number(&error) else {
        return Some(Applied::Unknown(refused));
    };
    if ddl.replay && ignorable(*kind, number) {
        info!(sql, "already there: {}", refused.cause);
        return None;
    }
    Some(Applied::Failed {
        retry: errors::is_transient(&error),
        error: refused,
    })
}

/// Whether the statement ran does not show, and running it again is no way to find out.
fn undecided(intent: &Intent) -> Error {
    let message = format!(
        "whether a statement was executed can't be told, and executing it again would undo it: {}",
        intent.sql
    );
    Error::new(&code::SYNCER_DDL_UNSETTLED, message)
        .with_scope(Scope::Downstream)
        .with_workaround(
            "Compare the rows of the tables that the statement names with the source's. If it was \
             not executed, execute it in the target by hand. Then change the COMMENT of one of \
             these tables there (`ALTER TABLE … COMMENT='…'`), which tells the worker that the \
             statement is done, and resume the task.",
        )
}

/// Whether a rename found the old name gone and the new one there.
fn is_renamed(piece: &Piece, intent: &Intent) -> bool {
    let looks: Vec<_> = intent.tables.iter().map(|(_, _, look)| look).collect();
    piece.kind == Kind::RenameTable && matches!(looks[..], [None, Some(_)])
}

/// What the tables that a DDL changes look like.
async fn looks(session: &mut Session, ddl: &Ddl) -> Result<Vec<Look>> {
    let mut looks = Vec::new();
    for name in &ddl.piece.targets {
        let look = look(session, name).await?;
        looks.push((name.schema.clone(), name.table.clone(), look));
    }
    Ok(looks)
}

/// What a table or schema looks like; `None` when it is not there. The auto-increment counter is
/// left out, since it moves with the rows.
async fn look(session: &mut Session, name: &TableName) -> Result<Option<String>> {
    let kind = if name.table.is_empty() {
        "DATABASE"
    } else {
        "TABLE"
    };
    let sql = format!("SHOW CREATE {kind} {name}");
    match session.query(&sql).await {
        Ok(rows) => {
            let text = rows.first().map(|row| row.text(1)).unwrap_or_default();
            Ok(Some(without_counter(&text)))
        }
        Err(error) if matches!(errors::number(&error), Some(1146 | 1049 | 1008)) => Ok(None),
        Err(error) => Err(errors::query_failed(&sql, &error)),
    }
}

/// Takes ` AUTO_INCREMENT=<number>` out.
fn without_counter(text: &str) -> String {
    const COUNTER: &str = " AUTO_INCREMENT=";
    match text.split_once(COUNTER) {
        Some((before, after)) => {
            let rest = after.trim_start_matches(|c: char| c.is_ascii_digit());
            format!("{before}{rest}")
        }
        None => text.to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_counter_does_not_count() {
        let text = "CREATE TABLE `t` (…) ENGINE=InnoDB AUTO_INCREMENT=12 DEFAULT CHARSET=utf8mb4";
        assert_eq!(
            without_counter(text),
            "CREATE TABLE `t` (…) ENGINE=InnoDB DEFAULT CHARSET=utf8mb4"
        );
    }
}
