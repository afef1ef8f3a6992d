//! The target: every write to it is one that only the source's owner can make.
//!
//! Rows, progress and checkpoints travel as *fenced packets*: one text of several statements that
//! begins a transaction, makes a write that depends on the fence, fails on the server where that
//! matched nothing, and commits at its end. So a worker that is frozen at any moment leaves no open
//! transaction behind that waits for it, and one that lost its source can't commit anything any
//! more. `meta` has the tables and the texts, `apply` the slots' sessions, `takeover` the change of
//! owners, `ddl` what can't be part of a transaction.

mod apply;
mod copy;
mod ddl;
mod tables;
mod takeover;

use std::sync::{
    Arc, Mutex as StdMutex, PoisonError,
    atomic::{AtomicI64, AtomicU64, Ordering},
};

use dm_core::{
    binlog::{Dialect, Flavor},
    control::db::DbConfig,
    error::{Error, Result, Scope, code},
    sync::{
        progress::{Applied as Progress, Fence, Location, SlotProgress},
        schema::{Table, TableName},
    },
};
use tokio::sync::{Mutex, MutexGuard};
use tracing::warn;

pub use self::apply::SlotSession;
use super::{
    errors,
    meta::{CONTROL, GUARD, Meta, fitting},
    session::{Connector, Failure, Server, Session, Values, statement},
};
use crate::ports::{self, Applied, Checkpoint, Ddl, Recovered, copy::Copy};

/// What a subtask wants of its target besides the login.
#[derive(Clone, Debug)]
pub struct Options {
    /// Task name.
    pub task: String,
    /// Source id.
    pub source: String,
    /// Schema of the meta tables.
    pub meta_schema: String,
    /// The source's flavor, which says how GTIDs read.
    pub flavor: Flavor,
    /// Global `sql_mode` of the source.
    pub upstream_sql_mode: String,
}

/// The downstream of one subtask: MySQL, MariaDB or TiDB.
#[derive(Clone, Debug)]
pub struct Target(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    connector: Connector,
    server: Server,
    meta: Meta,
    options: Options,
    /// The fence of the last takeover.
    fence: AtomicI64,
    /// Step of the control row, as far as is known. Read and written only with `control` at hand.
    step: AtomicU64,
    /// End of the window that must be applied in safe mode, as the control row has it.
    safe_until: StdMutex<Option<Location>>,
    /// For everything that is not rows. Taken out while in use, so that an abandoned operation
    /// leaves no half-read connection behind.
    control: Mutex<Option<Session>>,
}

impl Target {
    /// Connects, finds out what server it is, and makes schema and meta tables.
    ///
    /// # Errors
    /// A coded error for a server that can't be reached, refuses the login or a session variable,
    /// or on which the meta tables can't be made.
    pub async fn connect(db: &DbConfig, options: Options) -> Result<Self> {
        let connector = Connector::new(db, &options.meta_schema, &options.upstream_sql_mode)?;
        let server = connector.probe().await?;
        let Options {
            meta_schema,
            task,
            source,
            flavor,
            ..
        } = &options;
        let meta = Meta::new(meta_schema, task, source, *flavor);
        let mut session = connector.open(&server).await?;
        for sql in meta.create() {
            session.run(&sql).await?;
        }
        Ok(Self(Arc::new(Inner {
            connector,
            server,
            meta,
            options,
            fence: AtomicI64::new(0),
            step: AtomicU64::new(0),
            safe_until: StdMutex::new(None),
            control: Mutex::new(Some(session)),
        })))
    }

    /// The server's version text.
    pub fn version(&self) -> &str {
        &self.0.server.version
    }
}

impl ports::Target for Target {
    type Session = SlotSession;

    fn dialect(&self) -> Dialect {
        self.0.server.dialect
    }

    fn packet_bytes_max(&self) -> usize {
        self.0.server.packet_bytes_max
    }

    async fn takes_lines(&self) -> Result<bool> {
        let mut control = self.0.control().await?;
        let takes = self.0.takes_lines(&mut control.session).await?;
        control.give_back();
        Ok(takes)
    }

    async fn take_over(&self, fence: Option<Fence>) -> Result<Recovered> {
        let mut control = self.0.control().await?;
        let recovered = self.0.take_over(&mut control.session, fence).await?;
        control.give_back();
        Ok(recovered)
    }

    async fn reset(
        &self,
        slots: u32,
        location: &Location,
        safe_until: Option<&Location>,
    ) -> Result<Vec<SlotProgress>> {
        let mut control = self.0.control().await?;
        let rows = self
            .0
            .reset(&mut control.session, slots, (location, safe_until), "")
            .await?;
        control.give_back();
        Ok(rows)
    }

    async fn session(&self, slot: u32) -> Result<SlotSession> {
        SlotSession::open(Arc::clone(&self.0), slot).await
    }

    async fn read_back(&self, slot: u32) -> Result<u64> {
        let mut control = self.0.control().await?;
        let seq = self.0.read_back(&mut control.session, slot).await?;
        control.give_back();
        Ok(seq)
    }

    async fn table(&self, name: &TableName) -> Result<Option<Table>> {
        let mut control = self.0.control().await?;
        let table = tables::read(&mut control.session, name).await?;
        control.give_back();
        Ok(table)
    }

    async fn time_zone(&self) -> Result<String> {
        if let Some(zone) = self.0.connector.time_zone() {
            return Ok(zone.to_owned());
        }
        let mut control = self.0.control().await?;
        // Sessions for rows are in UTC; the server's own zone may have a name that others lack.
        let session = &mut control.session;
        session
            .run("SET SESSION time_zone=@@global.time_zone")
            .await?;
        let sql = "SELECT TIME_FORMAT(TIMEDIFF(NOW(),UTC_TIMESTAMP()),'%H:%i')";
        let rows = session.rows(sql).await?;
        session.run("SET SESSION time_zone='+00:00'").await?;
        control.give_back();
        let offset = rows.first().map(|row| row.text(0)).unwrap_or_default();
        Ok(match offset.strip_prefix('-') {
            _ if offset.is_empty() => "+00:00".to_owned(),
            Some(west) => format!("-{west}"),
            None => format!("+{offset}"),
        })
    }

    async fn count(&self, name: &TableName) -> Result<u64> {
        let mut control = self.0.control().await?;
        let sql = format!("SELECT COUNT(*) FROM {name}");
        let rows = control.session.rows_at_last(&sql).await?;
        control.give_back();
        Ok(rows.first().map_or(0, |row| row.number(0)))
    }

    async fn ddl(&self, ddl: &Ddl) -> Applied {
        match self.0.control().await {
            Ok(mut control) => {
                let ended = self.0.ddl(&mut control.session, ddl).await;
                control.give_back();
                ended
            }
            Err(error) => failed(error),
        }
    }

    async fn ddl_all(&self, ddls: &[Ddl]) -> Applied {
        match self.0.control().await {
            Ok(mut control) => {
                let ended = self.0.ddl_all(&mut control.session, ddls).await;
                control.give_back();
                ended
            }
            Err(error) => failed(error),
        }
    }

    async fn has_checkpoint(&self) -> Result<bool> {
        let mut control = self.0.control().await?;
        let rows = control
            .session
            .rows(&self.0.meta.select_checkpoint())
            .await?;
        control.give_back();
        Ok(self.0.meta.checkpoint(&rows)?.is_some())
    }

    async fn copy(&self) -> Result<Option<Copy>> {
        let mut control = self.0.control().await?;
        let copy = self.0.copy(&mut control.session).await?;
        control.give_back();
        Ok(copy)
    }

    async fn begin_copy(&self, slots: u32, copy: &Copy) -> Result<Vec<SlotProgress>> {
        let mut control = self.0.control().await?;
        let rows = self.0.begin_copy(&mut control.session, slots, copy).await?;
        control.give_back();
        Ok(rows)
    }

    async fn end_copy(&self, slots: Option<u32>, copy: &Copy) -> Result<()> {
        let mut control = self.0.control().await?;
        self.0.end_copy(&mut control.session, slots, copy).await?;
        control.give_back();
        Ok(())
    }

    async fn checkpoint(&self, checkpoint: &Checkpoint, closes: bool) -> Applied {
        self.0.checkpoint(checkpoint, closes).await
    }

    fn io_bytes(&self) -> u64 {
        self.0.connector.sent_bytes()
    }
}

/// The control connection, out of its place while in use.
struct Control<'a> {
    place: MutexGuard<'a, Option<Session>>,
    session: Session,
}

impl Control<'_> {
    /// Keeps the connection for the next operation, unless it broke.
    fn give_back(mut self) {
        if self.session.is_usable() {
            *self.place = Some(self.session);
        }
    }
}

/// A text of statements that only the owner can commit.
#[derive(Clone, Copy)]
struct Packet<'a> {
    sql: &'a [u8],
    /// Number of the statement that fails where the fence is another one, if it has that.
    guard: Option<usize>,
    /// The progress row that it depends on.
    slot: i64,
    /// The fence that it depends on.
    fence: Fence,
    /// The step that it depends on, if on any.
    seq: Option<u64>,
    /// What it does, for the log.
    deed: &'static str,
}

impl Inner {
    fn fence(&self) -> Fence {
        Fence(self.fence.load(Ordering::Acquire))
    }

    fn set_fence(&self, Fence(fence): Fence) {
        self.fence.store(fence, Ordering::Release);
    }

    async fn control(&self) -> Result<Control<'_>> {
        let mut place = self.control.lock().await;
        let session = match place.take().filter(Session::is_usable) {
            Some(session) => session,
            None => self.connector.open(&self.server).await?,
        };
        Ok(Control { place, session })
    }

    /// A fenced packet on the control row.
    async fn write_control(&self, set: &str, body: &str) -> Applied {
        match self.control().await {
            Ok(mut control) => {
                let ended = self.send_control(&mut control.session, set, body).await;
                control.give_back();
                ended
            }
            Err(error) => failed(error),
        }
    }

    /// As [`Self::write_control`], on a session that is at hand. Each write is a step, so that one
    /// that times out and lands late finds its place taken. After one whose end is unknown, the
    /// next may find that as well: then only a takeover says where things are.
    async fn send_control(&self, session: &mut Session, set: &str, body: &str) -> Applied {
        let (fence, step) = (self.fence(), self.step.load(Ordering::Acquire));
        let set = format!("`seq`=`seq`+1,{set}");
        let mut sql = self.meta.fenced(CONTROL, fence, Some(step), &set);
        for part in [body, "COMMIT"] {
            if !part.is_empty() {
                sql.push(';');
                sql.push_str(part);
            }
        }
        let packet = Packet {
            sql: sql.as_bytes(),
            guard: Some(GUARD),
            slot: CONTROL,
            fence,
            seq: Some(step),
            deed: "a late write",
        };
        let ended = self.send(session, packet).await;
        if matches!(ended, Applied::Done) {
            self.step.store(step + 1, Ordering::Release);
        }
        ended
    }

    /// Runs a fenced packet and says how it ended.
    async fn send(&self, session: &mut Session, packet: Packet<'_>) -> Applied {
        let Err(failure) = session.packet(packet.sql).await else {
            return Applied::Done;
        };
        let Failure {
            statement: index,
            error,
        } = failure;
        let sql = statement(packet.sql, index);
        let Some(number) = errors::number(&error) else {
            return Applied::Unknown(errors::execute_failed(&sql, &error));
        };
        if sql == "COMMIT" && !errors::is_rolled_back(number) {
            return Applied::Unknown(errors::execute_failed(&sql, &error));
        }
        // COMMIT was not reached: whatever happens to this statement, the transaction is undone.
        let undone = session.packet(b"ROLLBACK").await;
        if Some(index) == packet.guard && undone.is_ok() {
            return self.explain(session, &packet).await;
        }
        Applied::Failed {
            retry: errors::is_transient(&error),
            error: errors::execute_failed(&sql, &error),
        }
    }

    /// Why a guard refused a write.
    async fn explain(&self, session: &mut Session, packet: &Packet<'_>) -> Applied {
        let Packet {
            slot,
            fence,
            seq,
            deed,
            ..
        } = *packet;
        let rows = match session.rows(&self.meta.select_one(slot, false)).await {
            Ok(rows) => rows,
            Err(error) => return failed(error),
        };
        let Options { task, source, .. } = &self.options;
        let whose = format!("task `{task}`, source `{source}`");
        let what = match seq {
            Some(seq) => format!("{deed} of slot {slot} from step {seq}"),
            None => deed.to_owned(),
        };
        let Some(row) = rows.first() else {
            return Applied::Moved(refusal(
                &code::SYNCER_PROGRESS_MOVED,
                format!("refused: {whose} has no progress any more, {what} was rolled back"),
            ));
        };
        let (owner, now) = (Fence(row.number(0)), row.number::<u64>(1));
        if owner != fence {
            return Applied::Fenced(refusal(
                &code::SYNCER_FENCED,
                format!(
                    "refused: fence {} is not the owner's, fence {} is: {what} of {whose} was \
                     rolled back",
                    fence.0, owner.0
                ),
            ));
        }
        Applied::Moved(refusal(
            &code::SYNCER_PROGRESS_MOVED,
            format!("refused: slot {slot} is at step {now}: {what} of {whose} was rolled back"),
        ))
    }

    /// Writes the existing worker's checkpoint. While a window of safe mode is open, its end is the
    /// least that the exit point may say.
    async fn checkpoint(&self, checkpoint: &Checkpoint, closes: bool) -> Applied {
        let window = self.safe_until();
        let mut written = checkpoint.clone();
        if let Some(end) = window.filter(|_| !closes) {
            let covers = |exit: &Location| exit.reaches(&end, true);
            if !written.exit_safe.as_ref().is_some_and(covers) {
                written.exit_safe = Some(end);
            }
        }
        let written = fit(&written);
        let mut set = self.meta.remember(&written);
        if closes {
            set.push_str(",`safe_until`=NULL");
        }
        let body = self.meta.upsert_checkpoint(&written);
        let ended = self.write_control(&set, &body).await;
        if closes && matches!(ended, Applied::Done) {
            self.set_safe_until(None);
        }
        ended
    }

    /// New rows for so many slots, at a location.
    async fn fresh(
        &self,
        session: &mut Session,
        slots: u32,
        location: &Location,
    ) -> Result<Vec<SlotProgress>> {
        // Nobody else writes under our fence, and slots only ever raise the number: what is read
        // here is still right when the packet is checked against the fence.
        let highest = session.rows(&self.meta.select_highest_seq()).await?;
        let seq = highest.first().map_or(0, |row| row.number::<u64>(0)) + 1;
        let row = |slot| SlotProgress {
            slot,
            seq,
            applied: Progress::at(location.clone()),
        };
        Ok((0..slots).map(row).collect())
    }

    /// Replaces the slot rows in one fenced transaction, with whatever else is to be done in it.
    async fn reset(
        &self,
        session: &mut Session,
        slots: u32,
        (location, safe_until): (&Location, Option<&Location>),
        and: &str,
    ) -> Result<Vec<SlotProgress>> {
        let rows = self.fresh(session, slots, location).await?;
        let checkpoint = fit(&Checkpoint {
            global: location.clone(),
            exit_safe: safe_until.cloned(),
        });
        let set = format!(
            "`slots`={slots},{},{}",
            self.meta.remember(&checkpoint),
            self.meta.safe_until(safe_until)
        );
        let mut body = format!(
            "{};{}",
            self.meta.replace_slots(&rows, self.fence()),
            self.meta.upsert_checkpoint(&checkpoint)
        );
        if !and.is_empty() {
            body.push(';');
            body.push_str(and);
        }
        error_of(self.send_control(session, &set, &body).await)?;
        self.set_safe_until(safe_until.cloned());
        Ok(rows)
    }

    /// Ends whatever a slot's former session left under way, and reads where the slot is.
    async fn read_back(&self, session: &mut Session, slot: u32) -> Result<u64> {
        let slot = i64::from(slot);
        let rows = session.rows(&self.meta.select_one(slot, false)).await?;
        let former = rows.first().map_or(0, |row| row.number(2));
        self.end_sessions(session, &[former]).await?;
        // The lock waits for what is being rolled back, also where the session is not to be seen.
        let rows = session.rows(&self.meta.select_one(slot, true)).await?;
        match rows.first() {
            Some(row) if row.number::<i64>(0) == self.fence().0 => Ok(row.number(1)),
            _ => {
                let packet = Packet {
                    sql: b"",
                    guard: None,
                    slot,
                    fence: self.fence(),
                    seq: None,
                    deed: "a look at the progress",
                };
                error_of(self.explain(session, &packet).await)?;
                Ok(0)
            }
        }
    }

    fn safe_until(&self) -> Option<Location> {
        let window = self.safe_until.lock();
        window.unwrap_or_else(PoisonError::into_inner).clone()
    }

    fn set_safe_until(&self, end: Option<Location>) {
        let window = self.safe_until.lock();
        *window.unwrap_or_else(PoisonError::into_inner) = end;
    }
}

/// Nothing of ours depends on the checkpoint, so one that is too large stops nothing.
fn fit(checkpoint: &Checkpoint) -> Checkpoint {
    let fitting = fitting(checkpoint);
    if fitting != *checkpoint {
        warn!(
            at = %checkpoint.global,
            "the checkpoint table can't hold this location: the existing worker could not go on \
             from here, or only by GTID"
        );
    }
    fitting
}

/// Turns an end other than `Done` into its error, where it does not matter which one it is.
fn error_of(ended: Applied) -> Result<()> {
    match ended {
        Applied::Done => Ok(()),
        Applied::Failed { error, .. }
        | Applied::Unknown(error)
        | Applied::Fenced(error)
        | Applied::Moved(error) => Err(error),
    }
}

/// A failure that certainly wrote nothing, for want of a connection.
fn failed(error: Error) -> Applied {
    Applied::Failed { error, retry: true }
}

/// The error of a refused write, which is logged at once: it is what an operator looks for after a
/// change of owners.
fn refusal(kind: &dm_core::error::Code, message: String) -> Error {
    warn!("{message}");
    Error::new(kind, message).with_scope(Scope::Downstream)
}
