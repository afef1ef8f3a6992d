//! The sessions of the slots: one packet per batch.

use std::{
    collections::BTreeMap,
    io::Write as _,
    mem,
    sync::{Arc, atomic::Ordering::Relaxed},
};

use bytes::Bytes;
use dm_core::{
    error::{Error, Result, Scope, code},
    sync::{
        batch::Batch,
        progress::{Applied as Progress, Fence},
        schema::TableName,
        sql,
    },
};
use tracing::{debug, info};

use super::{Inner, Packet, error_of, failed};
use crate::{
    mysql::{
        meta::{GUARD, WARNINGS},
        session::Session,
    },
    ports::{
        self, Applied,
        copy::{Body, Cargo, TableLines},
    },
};

/// Memory that a session keeps for its next packet, in bytes.
const PACKET_BYTES_KEPT: usize = 4 << 20;

/// Rows that come as statements instead of lines are not cut into smaller parts, in bytes.
const PART_BYTES_MIN: usize = 64 << 10;

/// What a packet ends with.
const COMMIT: &[u8] = b"COMMIT";

/// Applies the batches of one slot.
#[derive(Debug)]
pub struct SlotSession {
    target: Arc<Inner>,
    slot: u32,
    /// The fence of the takeover that this session belongs to, for good.
    fence: Fence,
    /// `None` after the connection broke; the next batch opens another.
    session: Option<Session>,
    /// Whether the session's `sql_mode` is the lenient one.
    lenient: bool,
    /// The packet, kept for its memory.
    packet: Vec<u8>,
    /// How many rows each statement behind the guard has found, where the last commit is done.
    found: Vec<u64>,
    /// Rows that the last batch did not find.
    missed: BTreeMap<TableName, u64>,
}

impl SlotSession {
    pub(super) async fn open(target: Arc<Inner>, slot: u32) -> Result<Self> {
        let mut opened = Self {
            fence: target.fence(),
            target,
            slot,
            session: None,
            lenient: false,
            packet: Vec::new(),
            found: Vec::new(),
            missed: BTreeMap::new(),
        };
        match opened.connect().await {
            Ok(session) => opened.session = Some(session),
            Err(ended) => error_of(ended)?,
        }
        Ok(opened)
    }

    /// Opens a connection and notes it in the progress row, so that a new owner can end it.
    async fn connect(&mut self) -> Result<Session, Applied> {
        let Inner {
            connector,
            server,
            meta,
            ..
        } = &*self.target;
        let mut session = connector.open(server).await.map_err(failed)?;
        let slot = i64::from(self.slot);
        let register = meta.register(slot, self.fence);
        let packet = Packet {
            sql: register.as_bytes(),
            guard: Some(GUARD),
            slot,
            fence: self.fence,
            seq: None,
            deed: "a late connection",
        };
        match self.target.send(&mut session, packet).await {
            Applied::Done => {
                debug!(slot, session = session.id, "slot connected");
                self.lenient = false;
                Ok(session)
            }
            // Nothing was written that would matter.
            Applied::Unknown(error) => Err(failed(error)),
            other => Err(other),
        }
    }

    /// Commits row statements and the progress that they make, if the slot is at step `seq`.
    /// `rows` writes the statements, separated by `;`; `lenient` lets invalid ENUM values pass.
    ///
    /// The future may be dropped at any time; the connection is not used again then.
    pub async fn commit(
        &mut self,
        seq: u64,
        applied: &Progress,
        lenient: bool,
        rows: impl FnOnce(&mut Vec<u8>) -> Result<()> + Send,
    ) -> Applied {
        let mut rows = Some(rows);
        let all = |out: &mut Vec<u8>| {
            let rows = rows.take().map(|rows| rows(out));
            rows.transpose().map(|_| false)
        };
        self.commit_with(seq, applied, lenient, None, all).await
    }

    /// As [`Self::commit`], for statements that may ask for a file, and for such as do not go in
    /// one packet: `rows` says whether it has more for another one.
    async fn commit_with(
        &mut self,
        seq: u64,
        applied: &Progress,
        lenient: bool,
        file: Option<&Bytes>,
        mut rows: impl FnMut(&mut Vec<u8>) -> Result<bool> + Send,
    ) -> Applied {
        self.found.clear();
        let mut session = match self.session.take().filter(Session::is_usable) {
            Some(session) => session,
            None => match self.connect().await {
                Ok(session) => session,
                Err(ended) => return ended,
            },
        };
        let (guard, mut has_more) = match self.write(seq, applied, lenient, &mut rows) {
            Ok(written) => written,
            Err(error) => {
                self.session = Some(session);
                return Applied::Failed {
                    error,
                    retry: false,
                };
            }
        };
        let common = Packet {
            sql: b"",
            guard: None,
            slot: i64::from(self.slot),
            fence: self.fence,
            seq: Some(seq),
            deed: "a late write",
        };
        let packet = Packet {
            sql: &self.packet,
            guard: Some(guard),
            ..common
        };
        let mut largest = self.packet.len().max(file.map_or(0, Bytes::len));
        if let Some(file) = file {
            session.offer(file.clone(), self.target.server.packet_bytes_max);
        }
        let mut ended = self.target.send(&mut session, packet).await;
        // Whoever freezes between two of them is ended by the next owner, as amid one.
        while has_more && matches!(ended, Applied::Done) {
            self.packet.clear();
            has_more = match self.write_rows(&mut rows) {
                Ok(has_more) => has_more,
                // With the connection goes the transaction.
                Err(error) => {
                    return Applied::Failed {
                        error,
                        retry: false,
                    };
                }
            };
            largest = largest.max(self.packet.len());
            let packet = Packet {
                sql: &self.packet,
                ..common
            };
            ended = self.target.send(&mut session, packet).await;
        }
        if file.is_some() {
            session.withdraw();
        }
        self.packet.clear();
        self.packet.shrink_to(PACKET_BYTES_KEPT);
        if matches!(ended, Applied::Done) {
            self.lenient = lenient;
            let behind = session.found().get(guard + 1..);
            self.found.extend_from_slice(behind.unwrap_or_default());
        }
        // After a change of the mode that may have failed, nobody knows which one holds.
        if session.is_usable() && self.lenient == lenient {
            if largest > PACKET_BYTES_KEPT {
                // The driver would keep as much for its next packet.
                session.close().await;
            } else {
                self.session = Some(session);
            }
        }
        ended
    }

    /// Writes the packet: `BEGIN`, progress, guard, rows, `COMMIT`. Returns which statement is the
    /// guard, and whether there are more rows.
    fn write(
        &mut self,
        seq: u64,
        applied: &Progress,
        lenient: bool,
        rows: impl FnMut(&mut Vec<u8>) -> Result<bool>,
    ) -> Result<(usize, bool)> {
        let Inner {
            connector,
            server,
            meta,
            ..
        } = &*self.target;
        let packet = &mut self.packet;
        packet.clear();
        let mut begin = 0;
        if lenient != self.lenient {
            let mode = connector.sql_mode(server, lenient);
            // Writing to memory cannot fail.
            let _ = write!(packet, "SET SESSION sql_mode='{mode}';");
            begin = 1;
        }
        let set = meta.moved_to(applied);
        let fenced = meta.fenced(i64::from(self.slot), self.fence, Some(seq), &set);
        packet.extend_from_slice(fenced.as_bytes());
        packet.push(b';');
        let has_more = self.write_rows(rows)?;
        Ok((begin + GUARD, has_more))
    }

    /// Appends rows to the packet, and `COMMIT` unless there are more.
    fn write_rows(&mut self, mut rows: impl FnMut(&mut Vec<u8>) -> Result<bool>) -> Result<bool> {
        let packet = &mut self.packet;
        let bytes_max = self.target.server.packet_bytes_max;
        let start = packet.len();
        let has_more = rows(packet)?;
        if !has_more {
            if packet.len() > start {
                packet.push(b';');
            }
            packet.extend_from_slice(COMMIT);
        }
        if packet.len() >= bytes_max {
            let what = "a batch takes";
            return Err(too_big(what, packet.len(), bytes_max).with_workaround(
                "Raise `max_allowed_packet` of the target; it is read anew at each start of \
                     the task. With `worker-count: 1` a transaction of the source is one batch: a \
                     higher count cuts it into several.",
            ));
        }
        Ok(has_more)
    }
}

impl ports::Session for SlotSession {
    async fn apply(&mut self, batch: &Batch) -> Applied {
        let Batch {
            seq,
            applied,
            lenient,
            ..
        } = batch;
        let rows = |out: &mut Vec<u8>| sql::render(batch, out);
        let ended = self.commit(*seq, applied, *lenient, rows).await;
        self.missed.clear();
        if matches!(ended, Applied::Done) {
            for (table, found) in sql::finds(batch).zip(&self.found) {
                if let (Some(table), 0) = (table, found) {
                    *self.missed.entry(table.clone()).or_default() += 1;
                }
            }
        }
        ended
    }

    fn missed(&mut self) -> BTreeMap<TableName, u64> {
        mem::take(&mut self.missed)
    }

    async fn copy(&mut self, cargo: &Cargo) -> Applied {
        let Body::Lines(lines, file) = &cargo.body else {
            return self.copy_statements(cargo).await;
        };
        // What is invalid at the source only a statement takes. What a statement has no room for
        // is refused: clients of the target could not read it.
        let has_room = file.len() < self.target.server.packet_bytes_max / 2;
        if cargo.lenient || !has_room || lines.are_refused.load(Relaxed) {
            return self.copy_statements(cargo).await;
        }
        let refused = match self.copy_lines(cargo, lines, file).await {
            Applied::Failed {
                error,
                retry: false,
            } => error,
            Applied::Unknown(error) => {
                // What lies between may not let files pass: should this be written once more, a
                // statement does it.
                lines.are_refused.store(true, Relaxed);
                return Applied::Unknown(error);
            }
            ended => return ended,
        };
        let ended = self.copy_statements(cargo).await;
        if matches!(ended, Applied::Done) && !lines.are_refused.swap(true, Relaxed) {
            // The guard's own words would mislead.
            let is_guard = refused.message.contains(WARNINGS);
            info!(
                table = %cargo.table,
                cause = if is_guard { "a warning" } else { &*refused.cause },
                "rows are not taken as lines: they come as statements"
            );
        }
        ended
    }
}

impl SlotSession {
    /// Writes rows as lines. Unless it replaces rows, the server takes whatever it can of them and
    /// warns of the rest, which undoes it.
    async fn copy_lines(&mut self, cargo: &Cargo, lines: &TableLines, file: &Bytes) -> Applied {
        let meta = &self.target.meta;
        let statements = [
            meta.copied(cargo),
            lines.lines.load().to_owned(),
            meta.unless_written(cargo.rows),
        ];
        let rows = |out: &mut Vec<u8>| {
            out.extend_from_slice(statements.join(";").as_bytes());
            Ok(false)
        };
        let at = Progress::at(cargo.at.clone());
        let ended = self.commit_with(cargo.seq, &at, false, Some(file), rows);
        let of = |error: Error| error.annotate(&format!("rows of {}", cargo.table));
        match ended.await {
            Applied::Failed { error, retry } => Applied::Failed {
                error: of(error),
                retry,
            },
            Applied::Unknown(error) => Applied::Unknown(of(error)),
            ended => ended,
        }
    }

    /// Writes rows with a statement, also where they are lines. These may become many times as
    /// large, and then come in parts that are not.
    async fn copy_statements(&mut self, cargo: &Cargo) -> Applied {
        let noted = self.target.meta.copied(cargo);
        let bytes_max = self.target.server.packet_bytes_max;
        let (mut is_first, mut left) = (true, cargo.body.lines());
        let rows = |out: &mut Vec<u8>| {
            if mem::take(&mut is_first) {
                out.extend_from_slice(noted.as_bytes());
                if cargo.body.size() > 0 {
                    out.push(b';');
                }
            }
            match &cargo.body {
                Body::Statements(sql) => out.extend_from_slice(sql),
                Body::Lines(lines, file) => {
                    let part = file.len().max(PART_BYTES_MIN).min(bytes_max / 4);
                    let rest = lines.lines.statement(left, part, out);
                    left = rest.ok_or_else(|| broken(cargo))?;
                }
            }
            if out.len() + COMMIT.len() < bytes_max {
                return Ok(!left.is_empty());
            }
            // It is cut between rows long before.
            let what = format!("a row of {} takes", cargo.table);
            Err(too_big(&what, out.len(), bytes_max).with_workaround(
                "Raise `max_allowed_packet` of the target; it is read anew at each start of the \
                 task.",
            ))
        };
        let at = Progress::at(cargo.at.clone());
        self.commit_with(cargo.seq, &at, cargo.lenient, None, rows)
            .await
    }
}

/// Nobody writes such lines.
fn broken(cargo: &Cargo) -> Error {
    let text = format!("rows of {} are no lines that can be read", cargo.table);
    Error::new(&code::DUMP_UNIT_RUNTIME, text)
}

/// The server would refuse the packet, and close the connection as well.
fn too_big(what: &str, bytes: usize, bytes_max: usize) -> Error {
    let message = format!("execute statement failed: {what} {bytes} bytes");
    Error::new(&code::DB_EXECUTE_FAILED, message)
        .with_scope(Scope::Downstream)
        .with_cause(format!(
            "Error 1153 (08S01): Got a packet bigger than 'max_allowed_packet' bytes ({bytes_max})"
        ))
}
