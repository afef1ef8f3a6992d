//! The loop of one run: plans what was read, hands batches out, and stops at boundaries.

use std::{collections::BTreeSet, sync::Arc, time::Duration};

use dm_core::{
    binlog::{Event, Gtid, Header, RowsEvent, TableMap},
    error::{Error, Result, code},
    guard::Guard,
    sync::{
        plan::{Outcome, Planner},
        progress::{Location, TxnId},
    },
    time::Instant as Moment,
};
use tokio::{
    sync::{mpsc, oneshot},
    time::{Instant, sleep_until},
};
use tracing::{debug, info, warn};

use super::{
    Failure,
    cursor::Cursor,
    ddl::{Barrier, refuse},
    facts::SyncFacts,
    reader::{Chunk, Item, Reader},
    slots::{Done, Slots},
    tables::{Counts, Decision, Tables, source_of},
};
use crate::{
    ports::{Applied, Checkpoint, Source, Target},
    units::{Stop, StopSignal, copy::ANEW, stopped, writer::Refused},
};

/// Everything of one run.
pub(super) struct Run<'a, S: Source, T: Target> {
    pub(super) facts: &'a SyncFacts,
    pub(super) target: Arc<T>,
    pub(super) tables: Tables<S, T>,
    pub(super) planner: Planner,
    pub(super) slots: Slots,
    pub(super) results: mpsc::UnboundedReceiver<Done>,
    pub(super) reader: Reader,
    pub(super) cursor: Cursor,
    /// Rows before it may be in the target already, without a record of it.
    pub(super) safe_until: Option<Location>,
    /// The same as the run began with it: a checkpoint behind it says that it is over.
    pub(super) window: Option<Location>,
    /// Whether it is over there.
    pub(super) ends: bool,
    /// Whether the task wants safe mode for ever.
    pub(super) always_safe: bool,
    /// Whether transactions are known by GTID.
    pub(super) by_gtid: bool,
    /// Whether the source keeps names in lower case.
    pub(super) lower_case_names: bool,
    /// How often the checkpoint is written.
    pub(super) flush_interval: Duration,
    /// When the planner's clock began.
    pub(super) started: Instant,
    /// When the checkpoint was written last.
    pub(super) flushed: Instant,
    /// What was read and is not planned yet.
    pub(super) chunk: Option<Chunk>,
    /// A statement that waits for all slots to be done.
    pub(super) barrier: Option<Barrier>,
    /// The slots whose batches are tried with nothing else under way.
    pub(super) alone: BTreeSet<u32>,
    /// Tells that the binlog can be read from somewhere better.
    pub(super) better: Option<oneshot::Receiver<()>>,
}

/// How a run ended that was not told to stop.
pub(super) enum Ended {
    /// It was.
    Stopped,
    /// Progress was noted, to begin with.
    HandedOver,
    /// The number of slots is to change, and everything is drained for it.
    Resized,
    /// The binlog is to be read from somewhere else, and everything is drained for it.
    Better,
    /// Everything up to its end is applied.
    Reached,
}

impl<S: Source, T: Target> Run<'_, S, T> {
    /// Replicates until it is told to stop, then goes on to the end of the transaction, applies
    /// what it has, and writes the checkpoint.
    pub(super) async fn until_stopped(&mut self, stop: &mut StopSignal) -> Result<Ended, Failure> {
        let mut why = None;
        loop {
            // Not one of the cases below: while there is always something to read, its turn would
            // never come.
            if self.flushed.elapsed() >= self.flush_interval {
                self.planner.move_idle();
                self.hand_out();
                self.checkpoint().await?;
            }
            let stopping = matches!(why, Some(Ended::Stopped));
            self.plan(why.is_some()).await?;
            if self.has_reached_end() {
                self.stand_at_end();
                why.get_or_insert(Ended::Reached);
            }
            let ending = self.is_ending(why.is_some());
            if ending {
                self.planner.flush();
                if self.planner.drained() {
                    // All slots at one place: what they are may change before the next start.
                    self.planner.move_idle();
                }
            }
            self.hand_out();
            if ending && self.planner.drained() {
                self.checkpoint().await?;
                return Ok(why.unwrap_or(Ended::Resized));
            }
            let wants_events = self.chunk.is_none() && self.barrier.is_none() && !ending;
            let flush_at = self.flushed + self.flush_interval;
            let batch_at = self
                .planner
                .poll_timeout()
                .map_or(flush_at, |at| self.started + at.0);
            tokio::select! {
                biased;
                () = stopped(stop, Stop::AtBoundary), if !stopping => why = Some(Ended::Stopped),
                () = told(&mut self.better), if why.is_none() => why = Some(Ended::Better),
                Some(done) = self.results.recv() => {
                    self.settle(done)?;
                    while let Ok(done) = self.results.try_recv() {
                        self.settle(done)?;
                    }
                }
                chunk = self.reader.next(), if wants_events => {
                    self.chunk = Some(chunk.map_err(Failure::Stream)?);
                }
                () = sleep_until(batch_at.min(flush_at)) => {}
            }
        }
    }

    fn now(&self) -> Moment {
        Moment(self.started.elapsed())
    }

    fn hand_out(&mut self) {
        let now = self.now();
        while let Some(batch) = self.planner.poll_batch(now) {
            self.facts.metrics.added(&batch);
            self.slots.apply(batch);
        }
    }

    /// Whether everything is at a place where the run may end, and is `told` to, or wants to.
    fn is_ending(&self, told: bool) -> bool {
        self.cursor.is_at_boundary()
            && self.barrier.is_none()
            && (told || self.planner.wants_slots().is_some() || self.has_reached_end())
    }

    /// Whether everything up to the end is planned. Behind the last transaction there may be events
    /// that are none, or another file.
    fn has_reached_end(&self) -> bool {
        let Some(end) = self.window.as_ref().filter(|_| self.ends) else {
            return false;
        };
        let read = || self.cursor.read().filter(|_| !self.by_gtid);
        self.planner.location().reaches(end, self.by_gtid)
            || read().is_some_and(|read| read.compare(&end.position).is_ge())
    }

    /// Lets the checkpoint say that the end is reached.
    fn stand_at_end(&mut self) {
        let at = self.planner.location();
        if let Some(end) = self
            .window
            .as_ref()
            .filter(|end| !at.reaches(end, self.by_gtid))
        {
            let at = Location {
                position: end.position.clone(),
                gtids: at.gtids.clone(),
            };
            self.planner.advance(at);
        }
    }

    /// Plans the events at hand, until there are none, memory is used up, a DDL has to wait, or the
    /// run can end.
    async fn plan(&mut self, told: bool) -> Result<(), Failure> {
        while !self.is_ending(told) {
            if let Some(barrier) = self.barrier.take() {
                self.planner.flush();
                if !self.planner.drained() && Guard::DdlDrain.holds() {
                    self.barrier = Some(barrier);
                    break;
                }
                self.run_ddl(barrier).await?;
            }
            if self.planner.free_bytes() == 0 {
                break;
            }
            let Some(item) = self.chunk.as_mut().and_then(Chunk::pop) else {
                self.chunk = None;
                break;
            };
            let header = item.header;
            if let Err(error) = self.event(item).await {
                // What it stopped at is not applied, and gets older while it waits.
                if header.timestamp > 0 {
                    let end = self.cursor.end_of(&header);
                    self.facts.note_commit(&end, header.timestamp);
                }
                return Err(Failure::Other(self.locate(error, &header, None)));
            }
        }
        self.facts
            .note(self.planner.location(), self.planner.watermark());
        Ok(())
    }

    async fn event(&mut self, item: Item) -> Result<()> {
        let Item {
            header,
            event,
            shares,
        } = item;
        self.cursor.follow(&header, &event, shares)?;
        match event {
            Event::Rotate { file, pos } => self.rotate(&header, file, pos)?,
            Event::Gtid { gtid, .. } => self.begin(&header, Some(gtid), false)?,
            Event::AnonymousGtid { .. } => self.begin(&header, None, false)?,
            // It stands for the `BEGIN` as well.
            Event::MariadbGtid {
                gtid, standalone, ..
            } => self.begin(&header, Some(gtid), !standalone)?,
            Event::PreviousGtids(before) | Event::MariadbGtidList(before) => {
                self.cursor
                    .check_history(&before, self.planner.location())?;
            }
            Event::FormatDescription(_) => self.cursor.broken_off()?,
            Event::Rows(rows) => self.rows(&header, &rows).await?,
            Event::Xid => self.commit(&header),
            Event::Query(query) => self.query(header, query)?,
            Event::XaPrepare { xid, .. } => return Err(refuse(&xid, "XA PREPARE")),
            Event::PartialUpdateRows(table) => self.partial_rows(&header, &table).await?,
            Event::Incident { number, message } => {
                return Err(Error::new(
                    &code::SYNCER_GET_EVENT,
                    format!("the source lost events (incident {number}): {message}"),
                )
                .with_workaround("Copy the data anew, and start behind the incident."));
            }
            Event::Heartbeat { .. } | Event::TableMap(_) | Event::Ignored(_) => {}
            // The reader has opened these, or refused them.
            Event::Payload { .. } | Event::StartEncryption => {}
        }
        Ok(())
    }

    fn rotate(&mut self, header: &Header, file: String, pos: u64) -> Result<()> {
        debug!(file, pos, "rotate");
        self.cursor.broken_off()?;
        let position = self.cursor.rotate(file, pos);
        // An artificial rotation names the file that the dump begins in, which is no progress.
        if !header.is_artificial() {
            let mut location = self.planner.location().clone();
            location.position = position;
            self.planner.advance(location);
        }
        Ok(())
    }

    fn begin(&mut self, header: &Header, gtid: Option<Gtid>, begun: bool) -> Result<()> {
        self.cursor.broken_off()?;
        let read = self.planner.location();
        self.cursor.begin(header, gtid, begun, read)
    }

    /// Whether the rows of a transaction may be in the target already.
    pub(super) fn is_unsafe(&mut self, txn: &TxnId) -> bool {
        let Some(until) = &self.safe_until else {
            return self.always_safe;
        };
        if until.contains(txn, self.by_gtid) && Guard::SafeMode.holds() {
            return true;
        }
        info!(%until, "safe mode ends: nothing behind it was applied before");
        self.safe_until = None;
        self.always_safe
    }

    /// Tells the planner about the open transaction, once it turns out to have rows.
    pub(super) fn open(&mut self, header: &Header) -> Result<()> {
        if self.cursor.is_planned() {
            return Ok(());
        }
        let txn = self.cursor.plan(header);
        let safe = self.is_unsafe(&txn);
        self.planner.begin(self.now(), txn, safe)
    }

    async fn rows(&mut self, header: &Header, rows: &RowsEvent) -> Result<()> {
        self.open(header)?;
        let count = rows.count();
        self.facts.metrics.event_rows.observe(count as f64);
        let counts = self.counts(header, &rows.table);
        let decision = match counts {
            Counts::All => self.tables.decide(&rows.table, header.timestamp).await?,
            Counts::Keyed => {
                let decided = self.tables.decide(&rows.table, header.timestamp).await;
                decided.map_err(|error| error.with_workaround(ANEW))?
            }
            Counts::Nothing => Decision::Skip,
        };
        let plan = match decision {
            Decision::Write(plan) if counts == Counts::All => plan,
            // Without a key they would be there twice.
            Decision::Write(plan) if plan.has_row_key() => {
                self.tables.note_counted(&source_of(&rows.table));
                plan
            }
            Decision::Write(_) | Decision::Skip => {
                // Counted all the same: a changed filter must not shift what comes behind.
                self.planner.skip_rows(count);
                return Ok(());
            }
        };
        if !rows.full_image {
            let message = format!(
                "the rows of `{}`.`{}` lack columns: binlog_row_image is not FULL",
                rows.table.schema, rows.table.table
            );
            return Err(Error::new(&code::BINLOG_NOT_LOG_COLUMN, message));
        }
        for change in rows.rows() {
            self.planner.row(&plan, change?)?;
        }
        Ok(())
    }

    /// Which of the changes that the open transaction does to a table count.
    fn counts(&mut self, header: &Header, map: &TableMap) -> Counts {
        if self.tables.are_of_one_place() {
            return Counts::All;
        }
        let txn = self.cursor.txn(header);
        self.tables.counts(&source_of(map), txn)
    }

    /// Rows without all of their values: fine as long as nobody wants them.
    async fn partial_rows(&mut self, header: &Header, table: &Arc<TableMap>) -> Result<()> {
        self.open(header)?;
        match self.tables.decide(table, header.timestamp).await? {
            // How many they are is not known; one, always.
            Decision::Skip => self.planner.skip_rows(1),
            Decision::Write(_) => {
                let message = format!("the source logs only the changed parts of {table}'s JSON");
                return Err(
                    Error::new(&code::SYNCER_UNSUPPORTED_STMT, message).with_workaround(
                        "Set `binlog_row_value_options` of the source to '' globally and in every \
                     session, and start the task behind this location.",
                    ),
                );
            }
        }
        Ok(())
    }

    /// The open transaction ends with this event.
    pub(super) fn commit(&mut self, header: &Header) {
        let end = self.cursor.end_of(header);
        let was_planned = self.cursor.is_planned();
        let txn = self.cursor.end();
        if was_planned {
            self.planner.commit(end);
        } else {
            let mut location = self.planner.location().clone();
            location.position = end;
            if let (
                Some(gtids),
                Some(TxnId {
                    gtid: Some(gtid), ..
                }),
            ) = (&mut location.gtids, txn)
            {
                gtids.add(&gtid);
            }
            self.planner.advance(location);
        }
        self.facts
            .note_commit(&self.planner.location().position, header.timestamp);
    }

    /// Takes note of how a batch ended.
    fn settle(&mut self, done: Done) -> Result<(), Failure> {
        let slot = done.batch.slot;
        match done.result {
            Ok(()) => {
                self.planner.done(slot, Outcome::Applied);
                self.alone.remove(&slot);
                self.facts.count_batch(&done.batch, done.took);
                for (table, rows) in &done.missed {
                    warn!(
                        %table,
                        rows,
                        up_to = %done.batch.applied,
                        "the target did not have rows that were changed at the source: it differs"
                    );
                    self.facts.metrics.missed.add(*rows as f64);
                }
                Ok(())
            }
            // Keys that only the target's collation takes for equal may have been applied in the
            // wrong order: alone, behind everything that comes before, the batch must fit.
            Err(Refused::Failed(error)) if is_duplicate(&error) && self.alone.insert(slot) => {
                warn!(slot, %error, "duplicate key, trying the batch alone");
                self.planner.done(slot, Outcome::Failed);
                self.planner.retry_alone(slot);
                Ok(())
            }
            Err(Refused::Failed(error)) => Err(Failure::Other(error)),
            Err(Refused::Fenced(error)) => Err(Failure::Fenced(error)),
            Err(Refused::Lost(error)) => Err(Failure::Lost(error)),
        }
    }

    /// Writes the existing worker's checkpoint.
    pub(super) async fn checkpoint(&mut self) -> Result<(), Failure> {
        let interval = self.flushed.elapsed();
        self.flushed = Instant::now();
        let global = self.planner.watermark().clone();
        // While slots are at work nobody knows an exit point that a crash won't have passed.
        let closes = (self.window.as_ref()).is_some_and(|end| global.reaches(end, self.by_gtid));
        let checkpoint = Checkpoint {
            global,
            exit_safe: None,
        };
        match self.target.checkpoint(&checkpoint, closes).await {
            Applied::Done => {
                let metrics = &self.facts.metrics;
                metrics.flush_interval.observe(interval.as_secs_f64());
                let flushed = &checkpoint.global;
                let places = [flushed, self.planner.recorded()];
                let needed = Location::lowest(places, self.by_gtid).unwrap_or(flushed);
                self.facts.note_flushed(flushed, needed);
                Ok(())
            }
            Applied::Fenced(error) => Err(Failure::Fenced(error)),
            // Nothing depends on it: the progress rows are the truth, and the next one repairs it.
            Applied::Failed { error, retry: true } | Applied::Unknown(error) => {
                warn!(%error, "checkpoint not written");
                Ok(())
            }
            Applied::Failed { error, .. } => Err(Failure::Other(error)),
            Applied::Moved(error) => Err(Failure::Lost(error)),
        }
    }

    /// Says where in the binlog an error arose, in the words that operators copy positions from.
    pub(super) fn locate(&self, error: Error, header: &Header, sql: Option<&str>) -> Error {
        let location = |position| Location {
            position,
            gtids: self.planner.location().gtids.clone(),
        };
        let start = location(self.cursor.start_of(header));
        let end = location(self.cursor.end_of(header));
        let sql = sql
            .map(|sql| format!(", origin SQL: [{sql}]"))
            .unwrap_or_default();
        error.annotate(&format!(
            "startLocation: [{start}], endLocation: [{end}]{sql}"
        ))
    }
}

/// Waits for a word that comes once, or never.
async fn told(word: &mut Option<oneshot::Receiver<()>>) {
    let is_said = match word {
        Some(word) => word.await.is_ok(),
        None => false,
    };
    if !is_said {
        std::future::pending().await
    }
}

fn is_duplicate(error: &Error) -> bool {
    error.cause.starts_with("Error 1062 ")
}
