//! Taking over: the new owner's fence goes into every progress row before anything is read.
//!
//! The rows are locked first, which waits for every transaction in flight. A former owner that was
//! frozen in the middle of one would be waited for in vain, so after a second its connections, whose
//! numbers are in the rows, are ended. Then each packet that was planned before comes too late: it
//! has an older fence, or the same one with an older step.

use std::{pin::pin, time::Duration};

use dm_core::{
    binlog::Dialect,
    error::{Error, Result, Scope, code},
    sync::progress::Fence,
};
use mysql_async::Row;
use tokio::time::{Instant, sleep, timeout};
use tracing::{info, warn};

use super::{Inner, Options, refusal};
use crate::{
    mysql::{
        errors,
        meta::{CONTROL, ProgressRow},
        session::{Literal, Session, Values},
    },
    ports::Recovered,
};

/// How long former owners may finish by themselves.
const POLITE: Duration = Duration::from_secs(1);
/// How long a takeover, or the end of a connection, may take.
const LIMIT: Duration = Duration::from_secs(60);
/// How often the process list is looked at.
const LOOK: Duration = Duration::from_millis(50);

impl Inner {
    /// Makes this worker the owner; see [`crate::ports::Target::take_over`].
    pub(super) async fn take_over(
        &self,
        session: &mut Session,
        fence: Option<Fence>,
    ) -> Result<Recovered> {
        let rows = self.lock_progress(session).await?;
        let highest = rows.iter().map(|row| row.fence).max().unwrap_or_default();
        let fence = fence.unwrap_or(Fence(highest.0 + 1));
        if fence < highest {
            session.run("ROLLBACK").await?;
            let Options { task, source, .. } = &self.options;
            let message = format!(
                "refused: fence {} is older than the owner's fence {}: task `{task}`, source \
                 `{source}` has a newer owner",
                fence.0, highest.0
            );
            return Err(refusal(&code::SYNCER_FENCED, message));
        }
        session.run(&self.meta.write_fence(fence)).await?;
        self.set_fence(fence);
        info!(fence = fence.0, former = highest.0, "took over");

        let control = rows.into_iter().find(|row| row.slot == CONTROL);
        if let Some(intent) = control.and_then(|row| row.intent) {
            self.settle(session, &intent).await?;
        }
        self.recover(session, fence).await
    }

    /// Begins a transaction and locks all progress rows of the source.
    async fn lock_progress(&self, session: &mut Session) -> Result<Vec<ProgressRow>> {
        let own = session.id;
        let mut lock = pin!(async {
            session.run(&self.meta.create_control()).await?;
            session.run("BEGIN").await?;
            let rows = session.rows(&self.meta.select(true)).await?;
            Ok(rows.iter().map(ProgressRow::read).collect())
        });
        let start = Instant::now();
        loop {
            if let Ok(locked) = timeout(POLITE, &mut lock).await {
                return locked;
            }
            if start.elapsed() > LIMIT {
                let message = "the progress rows stay locked by a former owner's transaction";
                return Err(Error::new(&code::SYNCER_TAKEOVER_TIMEOUT, message)
                    .with_scope(Scope::Downstream));
            }
            // Its outcome is seen by whether the lock comes.
            if let Err(error) = self.end_former_sessions(own).await {
                warn!("cannot end the former owner's connections yet: {error}");
            }
        }
    }

    /// Ends the connections that the progress rows name, from a connection of its own.
    async fn end_former_sessions(&self, own: u64) -> Result<()> {
        let mut session = self.connector.open(&self.server).await?;
        let rows = session.rows(&self.meta.select_sessions()).await?;
        let mut former: Vec<u64> = rows.iter().map(|row| row.number(0)).collect();
        former.retain(|&id| id != own);
        self.kill(&mut session, &former).await?;
        session.close().await;
        Ok(())
    }

    /// Ends connections and waits until they are gone, whatever they had open undone.
    pub(super) async fn end_sessions(&self, session: &mut Session, ids: &[u64]) -> Result<()> {
        let start = Instant::now();
        while self.kill(session, ids).await? > 0 {
            if start.elapsed() > LIMIT {
                let message = format!("connections {ids:?} of a former owner do not end");
                return Err(Error::new(&code::SYNCER_TAKEOVER_TIMEOUT, message)
                    .with_scope(Scope::Downstream));
            }
            sleep(LOOK).await;
        }
        Ok(())
    }

    /// Kills those of the connections that are still there, and says how many were.
    ///
    /// Numbers are used again after a restart of the server: only connections in the meta schema
    /// are a worker's.
    async fn kill(&self, session: &mut Session, ids: &[u64]) -> Result<usize> {
        let list = match self.server.dialect {
            Dialect::MySql | Dialect::MariaDb => "SHOW PROCESSLIST",
            // Another TiDB server may be the one that the session is on.
            Dialect::TiDb => {
                "SELECT ID, USER, HOST, DB FROM information_schema.cluster_processlist"
            }
        };
        let listed = session.rows(list).await?;
        let is_workers = |row: &&Row| {
            let schema = row.text(3);
            schema.eq_ignore_ascii_case(&self.options.meta_schema)
                && ids.contains(&row.number(0))
                && row.number::<u64>(0) != session.id
        };
        let alive: Vec<u64> = listed
            .iter()
            .filter(is_workers)
            .map(|row| row.number(0))
            .collect();
        for id in &alive {
            let kill = match self.server.dialect {
                Dialect::MySql | Dialect::MariaDb => format!("KILL {id}"),
                Dialect::TiDb => format!("KILL TIDB {id}"),
            };
            match session.packet(kill.as_bytes()).await {
                Ok(()) => info!(session = id, "ended a connection that may still write"),
                // Gone in the meantime.
                Err(failure) if errors::number(&failure.error) == Some(1094) => {}
                Err(failure) => return Err(errors::execute_failed(&kill, &failure.error)),
            }
        }
        Ok(alive.len())
    }

    /// Reads what is applied. Our progress is void when the existing worker's checkpoint is not as
    /// we left it: then somebody else went on from it, or removed the meta data.
    async fn recover(&self, session: &mut Session, fence: Fence) -> Result<Recovered> {
        let rows = session.rows(&self.meta.select(false)).await?;
        let rows: Vec<_> = rows.iter().map(ProgressRow::read).collect();
        let checkpoint = session.rows(&self.meta.select_checkpoint()).await?;
        let checkpoint = self.meta.checkpoint(&checkpoint)?;
        let control = rows.iter().find(|row| row.slot == CONTROL);
        let is_ours = match (&checkpoint, control) {
            (Some(checkpoint), Some(control)) => control.remembers(checkpoint),
            _ => false,
        };
        let mut slots = Vec::new();
        let mut safe_until = None;
        if is_ours {
            for row in rows.iter().filter(|row| row.slot > CONTROL) {
                slots.push(self.meta.slot_progress(row)?);
            }
            let window = control.and_then(|row| row.safe_until.as_deref());
            safe_until = window
                .map(|text| self.meta.parse_location(text))
                .transpose()?;
        } else if rows.iter().any(|row| row.slot > CONTROL) {
            warn!(
                "the checkpoint of source {} was written or removed by somebody else: the worker's \
                 own progress does not count",
                Literal(&self.options.source)
            );
        }
        self.set_safe_until(safe_until.clone());
        Ok(Recovered {
            fence,
            slots,
            checkpoint,
            safe_until,
        })
    }
}
