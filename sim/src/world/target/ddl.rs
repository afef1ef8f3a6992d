//! Statements that commit by themselves: the steps of the production target, which writes an intent
//! before one and clears it behind.

use std::sync::Arc;

use dm_core::{
    error::{Error, Result, code},
    sync::{
        ddl::{Kind, Piece, ignorable},
        progress::Applied as Progress,
        schema::TableName,
    },
};
use dm_runtime::ports::{Applied, Ddl};
use tokio::time::sleep;

use super::{
    database::{Database, gone, refused, trouble},
    job::{CONTROL, Job},
    port::{Inner, error_of},
};
use crate::world::{
    history::History,
    oracle,
    statement::Statement,
    tables::{Refusal, refuse},
};

/// A DDL under way, as the control row keeps it.
#[derive(Clone, Debug)]
pub(super) struct Intent {
    sql: String,
    /// The connection that runs it.
    session: u64,
    looks: Vec<Look>,
    /// Where all slots are once it ran.
    after: Progress,
    /// Whether it may have run although nothing looks different.
    hidden: bool,
}

/// A table, and what it looks like; `None` when it is not there.
type Look = (TableName, Option<String>);

impl Inner {
    /// Runs a DDL; see the production target.
    pub(super) async fn ddl(&self, ddl: &Ddl) -> Applied {
        let session = match self.database.connect().await {
            Ok(session) => session,
            Err(error) => return Applied::Failed { error, retry: true },
        };
        let Piece { sql, targets, .. } = &ddl.piece;
        let looks = match self.look(targets.clone()).await {
            Ok(looks) => looks,
            Err(error) => return Applied::Failed { error, retry: true },
        };
        let intent = Intent {
            sql: sql.clone(),
            session,
            looks,
            after: ddl.after.clone(),
            hidden: ddl.piece.swaps && (ddl.replay || ddl.piece.kind != Kind::RenameTable),
        };
        match self.set_intent(Some(intent.clone())).await {
            Applied::Done => {}
            other => return other,
        }
        if ddl.replay && ddl.piece.swaps {
            return Applied::Unknown(undecided(&intent));
        }
        let refusal = match self.execute(session, sql).await {
            None => return Applied::Unknown(gone()),
            Some(Ok(())) => return self.finish(&intent).await,
            Some(Err(refusal)) => refusal,
        };
        self.note(format_args!("`{sql}` is refused: {}", refusal.text));
        let number = refusal.number;
        let is_renamed = ddl.piece.kind == Kind::RenameTable
            && matches!(intent.looks[..], [(_, None), (_, Some(_))]);
        let there_already = ddl.replay && (ignorable(ddl.piece.kind, number) || is_renamed);
        let is_interruption = matches!(number, 1053 | 1105 | 1317 | 1927 | 1969 | 3024);
        let ran = match self.ran(&intent).await {
            _ if there_already => true,
            Ok(false) if intent.hidden && is_interruption => {
                return Applied::Unknown(undecided(&intent));
            }
            Ok(ran) => ran,
            Err(error) => return Applied::Unknown(error),
        };
        if ran {
            return self.finish(&intent).await;
        }
        match self.set_intent(None).await {
            Applied::Done => Applied::Failed {
                retry: is_interruption || matches!(number, 1205 | 1213),
                error: refused(&refusal),
            },
            other => other,
        }
    }

    /// Settles a DDL that a former owner, or a former life, had under way.
    pub(super) async fn settle(&self, intent: &Intent) -> Result<()> {
        self.database.trace.count("target: DDL settled");
        self.database.end_runner(intent.session);
        let ended = if self.ran(intent).await? {
            self.note(format_args!("`{}` was executed", intent.sql));
            self.finish(intent).await
        } else if intent.hidden {
            return Err(undecided(intent));
        } else {
            self.note(format_args!("`{}` was not executed", intent.sql));
            self.set_intent(None).await
        };
        match ended {
            Applied::Done => Ok(()),
            other => Err(error_of(other)),
        }
    }

    async fn set_intent(&self, intent: Option<Intent>) -> Applied {
        self.write_control(false, |job: &mut Job| job.intent = intent)
            .await
    }

    /// Lets the server execute it; `None` where no answer comes.
    async fn execute(&self, session: u64, sql: &str) -> Option<Result<(), Refusal>> {
        let (database, source) = (Arc::clone(&self.database), self.source.clone());
        let sql = sql.to_owned();
        self.ask(async move { database.execute(&source, session, &sql).await })
            .await
            .flatten()
    }

    /// Whether anything looks different from before.
    async fn ran(&self, intent: &Intent) -> Result<bool> {
        let names = intent.looks.iter().map(|(name, _)| name.clone());
        Ok(self.look(names.collect()).await? != intent.looks)
    }

    async fn look(&self, names: Vec<TableName>) -> Result<Vec<Look>> {
        let (database, source) = (Arc::clone(&self.database), self.source.clone());
        let looks = self.ask(async move {
            let mut state = database.state();
            let tables = &state.job(&source).tables;
            let look = |name: TableName| {
                let table = tables.get(&name.table);
                (name, table.map(|table| table.definition.to_string()))
            };
            names.into_iter().map(look).collect()
        });
        looks.await.ok_or_else(gone)
    }

    /// Clears the intent and moves all slots behind the DDL.
    async fn finish(&self, intent: &Intent) -> Applied {
        let after = intent.after.clone();
        let (database, source) = (Arc::clone(&self.database), self.source.clone());
        let history = database.history(&source);
        let write = move |job: &mut Job| {
            job.intent = None;
            for (_, row) in job.rows.iter_mut().filter(|(slot, _)| **slot > CONTROL) {
                row.seq += 1;
                row.applied = after.clone();
            }
            if let Some(history) = history {
                compare(&database, &source, job, &after, &history);
            }
        };
        match self.write_control(true, write).await {
            // The DDL itself is done; it must not be tried again before the intent is settled.
            Applied::Failed { error, .. } => Applied::Unknown(error),
            other => other,
        }
    }
}

/// A DDL is done, so the target is to be what the source was there.
fn compare(database: &Database, source: &str, job: &Job, after: &Progress, history: &History) {
    // Safe mode repeats what may be there already.
    // Nor has a copy its rows while its tables are made.
    if after.txn.is_some() || job.safe_until.is_some() || job.checkpoint.is_none() {
        return;
    }
    if let Some(difference) = history.compare(&after.boundary, &job.tables.snapshot()) {
        oracle::tables::compared(&database.trace, source, &after.boundary, &difference);
    }
}

impl Database {
    /// Executes a statement that commits by itself. `None`: the connection ended before.
    async fn execute(&self, source: &str, session: u64, sql: &str) -> Option<Result<(), Refusal>> {
        let (interrupted, lasts) = {
            let mut state = self.state();
            let chance = state.weather.deadlocks;
            let interrupted = state.dice.permille(chance);
            let lasts = match state.dice.within(0..8) {
                0 => state.dice.millis(100..4_000),
                _ => state.dice.millis(1..30),
            };
            (interrupted, lasts)
        };
        sleep(lasts).await;
        if self.is_ended(session) {
            return None;
        }
        if let Some((refusal, _)) = self.refusal() {
            self.trace.count("fault: refused DDL");
            return Some(Err(refusal));
        }
        let mut state = self.state();
        let statement = Statement::parse(sql);
        let job = state.job(source);
        job.writes += 1;
        let ran = statement.and_then(|it| job.tables.run(&it, 0));
        drop(state);
        self.trace.note(
            "target",
            format_args!("{source}: `{sql}` is executed: {ran:?}"),
        );
        self.trace.count("target: DDL");
        if interrupted && ran.is_ok() {
            self.trace.count("fault: interrupted DDL");
            // Too late: it is done.
            return Some(refuse(1317, "Query execution was interrupted".to_owned()));
        }
        Some(ran)
    }
}

/// Whether the statement ran does not show, and running it again is no way to find out.
fn undecided(intent: &Intent) -> Error {
    trouble(&code::SYNCER_DDL_UNSETTLED, &intent.sql)
}
