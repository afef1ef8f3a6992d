//! The sessions of the slots: one packet per batch.

use std::{io::Write as _, sync::Arc};

use dm_core::{
    error::{Error, Result, Scope, code},
    sync::{
        batch::Batch,
        progress::{Applied as Progress, Fence},
        sql,
    },
};
use tracing::debug;

use super::{Inner, Packet, error_of, failed};
use crate::{
    mysql::session::Session,
    ports::{self, Applied, copy::Cargo},
};

/// Memory that a session keeps for its next packet, in bytes.
const PACKET_BYTES_KEPT: usize = 4 << 20;

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
            begin: 0,
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
        let mut session = match self.session.take().filter(Session::is_usable) {
            Some(session) => session,
            None => match self.connect().await {
                Ok(session) => session,
                Err(ended) => return ended,
            },
        };
        let begin = match self.write(seq, applied, lenient, rows) {
            Ok(begin) => begin,
            Err(error) => {
                self.session = Some(session);
                return Applied::Failed {
                    error,
                    retry: false,
                };
            }
        };
        let packet = Packet {
            sql: &self.packet,
            begin,
            slot: i64::from(self.slot),
            fence: self.fence,
            seq: Some(seq),
            deed: "a late write",
        };
        let ended = self.target.send(&mut session, packet).await;
        self.packet.clear();
        self.packet.shrink_to(PACKET_BYTES_KEPT);
        if matches!(ended, Applied::Done) {
            self.lenient = lenient;
        }
        // After a change of the mode that may have failed, nobody knows which one holds.
        if session.is_usable() && self.lenient == lenient {
            self.session = Some(session);
        }
        ended
    }

    /// Writes the packet: `BEGIN`, progress, guard, rows, `COMMIT`. Returns the number of
    /// statements before `BEGIN`.
    fn write(
        &mut self,
        seq: u64,
        applied: &Progress,
        lenient: bool,
        rows: impl FnOnce(&mut Vec<u8>) -> Result<()>,
    ) -> Result<usize> {
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
        let start = packet.len();
        rows(packet)?;
        if packet.len() > start {
            packet.push(b';');
        }
        packet.extend_from_slice(b"COMMIT");
        if packet.len() >= server.packet_bytes_max {
            return Err(too_big(packet.len(), server.packet_bytes_max));
        }
        Ok(begin)
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
        self.commit(*seq, applied, *lenient, |out| sql::render(batch, out))
            .await
    }

    async fn copy(&mut self, cargo: &Cargo) -> Applied {
        let noted = self.target.meta.copied(cargo);
        let at = Progress::at(cargo.at.clone());
        let rows = |out: &mut Vec<u8>| {
            out.extend_from_slice(noted.as_bytes());
            if !cargo.sql.is_empty() {
                out.push(b';');
                out.extend_from_slice(&cargo.sql);
            }
            Ok(())
        };
        self.commit(cargo.seq, &at, cargo.lenient, rows).await
    }
}

/// The server would refuse the packet, and close the connection as well.
fn too_big(bytes: usize, bytes_max: usize) -> Error {
    let message = format!("execute statement failed: a batch takes {bytes} bytes");
    Error::new(&code::DB_EXECUTE_FAILED, message)
        .with_scope(Scope::Downstream)
        .with_cause(format!(
            "Error 1153 (08S01): Got a packet bigger than 'max_allowed_packet' bytes ({bytes_max})"
        ))
        .with_workaround(
            "Raise `max_allowed_packet` of the target; it is read anew at each start of the task. \
             With `worker-count: 1` a transaction of the source is one batch: a higher count cuts \
             it into several.",
        )
}
