//! The connection of a slot.

use std::sync::Arc;

use dm_core::sync::batch::{Batch, Segment};
use dm_runtime::ports::{self, Applied, copy::Cargo};

use super::{database::gone, job::Claim, port::Target};
use crate::world::oracle::leak::Door;

/// The connection of a slot.
pub(in crate::world) struct Session {
    pub(super) target: Target,
    pub(super) session: u64,
    pub(super) claim: Claim,
    pub(super) _door: Door,
}

impl ports::Session for Session {
    async fn apply(&mut self, batch: &Batch) -> Applied {
        let inner = &self.target.0;
        let claim = Claim {
            seq: Some(batch.seq),
            ..self.claim
        };
        let batch = own(batch);
        let (database, source) = (Arc::clone(&inner.database), inner.source.clone());
        let session = self.session;
        let (slot, seq) = (claim.slot, batch.seq);
        inner.sent().insert(slot, seq);
        let ended = inner.ask(async move { database.apply(&source, session, claim, &batch).await });
        let ended = ended.await.unwrap_or_else(|| Applied::Unknown(gone()));
        if !matches!(ended, Applied::Done) {
            inner.note(format_args!("slot {slot} step {seq} ends {}", name(&ended)));
        }
        ended
    }

    async fn copy(&mut self, cargo: &Cargo) -> Applied {
        let inner = &self.target.0;
        let claim = Claim {
            seq: Some(cargo.seq),
            ..self.claim
        };
        let (slot, seq) = (claim.slot, cargo.seq);
        let (cargo, session) = (cargo.clone(), self.session);
        let (database, source) = (Arc::clone(&inner.database), inner.source.clone());
        inner.sent().insert(slot, seq);
        let ended = inner.ask(async move { database.copy(&source, session, claim, &cargo).await });
        let ended = ended.await.unwrap_or_else(|| Applied::Unknown(gone()));
        if !matches!(ended, Applied::Done) {
            inner.note(format_args!("slot {slot} step {seq} ends {}", name(&ended)));
        }
        ended
    }
}

/// A packet of its own, which outlives the worker's batch.
fn own(batch: &Batch) -> Batch {
    let segment = |segment: &Segment| Segment {
        table: Arc::clone(&segment.table),
        op: segment.op,
        rows: segment.rows.clone(),
    };
    Batch {
        slot: batch.slot,
        seq: batch.seq,
        applied: batch.applied.clone(),
        segments: batch.segments.iter().map(segment).collect(),
        rows: batch.rows,
        bytes: batch.bytes,
        lenient: batch.lenient,
        safe: batch.safe,
    }
}

const fn name(ended: &Applied) -> &'static str {
    match ended {
        Applied::Done => "done",
        Applied::Failed { .. } => "failed",
        Applied::Unknown(_) => "unknown",
        Applied::Fenced(_) => "fenced",
        Applied::Moved(_) => "moved",
    }
}
