//! Taking over: the new owner's fence goes into every progress row before anything is read.
//!
//! That waits for every transaction in flight. One that hangs (on somebody's lock, or with a client
//! that is frozen) would be waited for in vain, so after a second the connections whose numbers are
//! in the rows are ended. From then on each packet that was planned before comes too late: it has
//! an older fence, or the same one with an older step.
//!
//! Progress is void once the existing worker went on, which shows in its checkpoint. What can't be
//! noticed: it began at a checkpoint of ours, applied rows, and died before it wrote one of its own
//! (every 30 s, and at each DDL and stop). Then its rows are applied again, outside of safe mode.
//! To come back from it, let it write its checkpoint: pause the task, or wait half a minute.

use std::{pin::pin, sync::atomic::Ordering, time::Duration};

use dm_core::{
    binlog::Dialect,
    error::{Error, Result, code},
    sync::progress::Fence,
};
use mysql_async::Row;
use tokio::time::{Instant, sleep, timeout};
use tracing::{info, warn};

use super::{Inner, Packet, error_of};
use crate::{
    mysql::{
        errors,
        meta::{CONTROL, GUARD, ProgressRow},
        session::{Literal, Session, Values},
    },
    ports::{Applied, Recovered},
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
        let fence = match fence {
            Some(fence) => {
                error_of(self.write_fence(session, fence, true).await?)?;
                fence
            }
            None => self.next_fence(session).await?,
        };
        self.set_fence(fence);
        info!(fence = fence.0, "took over");

        let rows = session.rows(&self.meta.select()).await?;
        let rows: Vec<_> = rows.iter().map(ProgressRow::read).collect();
        let control = rows.iter().find(|row| row.slot == CONTROL);
        let step = control.map_or(0, |row| row.seq);
        self.step.store(step, Ordering::Release);
        match control.and_then(|row| row.intent.as_deref()) {
            Some(intent) => {
                self.settle(session, intent).await?;
                let rows = session.rows(&self.meta.select()).await?;
                let rows: Vec<_> = rows.iter().map(ProgressRow::read).collect();
                self.recover(session, fence, &rows).await
            }
            None => self.recover(session, fence, &rows).await,
        }
    }

    /// Takes the next fence of the target's own counter, which somebody else may take first.
    async fn next_fence(&self, session: &mut Session) -> Result<Fence> {
        loop {
            let rows = session.rows(&self.meta.select_one(CONTROL, false)).await?;
            let fence = Fence(rows.first().map_or(0, |row| row.number::<i64>(0)) + 1);
            match self.write_fence(session, fence, false).await? {
                // `Moved`: it stands at this very fence, another's.
                Applied::Fenced(_) | Applied::Moved(_) => {}
                ended => return error_of(ended).map(|()| fence),
            }
        }
    }

    /// Writes the fence into all rows in one packet, so that a worker that is frozen meanwhile
    /// leaves no lock behind.
    async fn write_fence(
        &self,
        session: &mut Session,
        fence: Fence,
        may_be_there: bool,
    ) -> Result<Applied> {
        let own = session.id;
        let sql = self.meta.take_over(fence, may_be_there);
        let packet = Packet {
            sql: sql.as_bytes(),
            guard: Some(1 + GUARD),
            slot: CONTROL,
            fence,
            seq: None,
            deed: "a takeover",
        };
        let mut write = pin!(self.send(session, packet));
        let start = Instant::now();
        loop {
            if let Ok(ended) = timeout(POLITE, &mut write).await {
                return Ok(ended);
            }
            if start.elapsed() > LIMIT {
                let message = "the progress rows stay locked by a former owner's transaction";
                return Err(timed_out(message.to_owned()));
            }
            // Whether that helped is seen by the packet's end.
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
                return Err(timed_out(format!(
                    "connections {ids:?} of a former owner do not end"
                )));
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
    async fn recover(
        &self,
        session: &mut Session,
        fence: Fence,
        rows: &[ProgressRow],
    ) -> Result<Recovered> {
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
        } else if rows.iter().any(|row| row.slot > CONTROL)
            // While tables are copied there are slots, and no checkpoint yet.
            && (checkpoint.is_some() || control.is_some_and(|row| !row.name.is_empty()))
        {
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

fn timed_out(message: String) -> Error {
    Error::new(&code::SYNCER_TAKEOVER_TIMEOUT, message)
}
