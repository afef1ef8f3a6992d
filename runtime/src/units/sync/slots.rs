//! Slot tasks: each owns one session and applies the batches of its slot, one at a time.

use std::{collections::BTreeMap, sync::Arc, time::Duration};

use dm_core::sync::{batch::Batch, schema::TableName};
use tokio::{sync::mpsc, time::Instant};

use crate::{
    memory::{Memory, Room},
    panics::caught,
    ports::Target,
    units::{
        tasks::Tasks,
        writer::{Refused, Writer},
    },
};

/// Memory of one batch, in bytes. A larger change goes alone.
pub(super) const BATCH_BYTES_MAX: usize = 1 << 20;

/// How a slot's batch ended, after retries.
#[derive(Debug)]
pub(super) struct Done {
    /// The batch.
    pub(super) batch: Arc<Batch>,
    /// How long that took.
    pub(super) took: Duration,
    /// How many rows it was to change that were not there, by table.
    pub(super) missed: BTreeMap<TableName, u64>,
    /// Whether it is applied.
    pub(super) result: Result<(), Refused>,
}

/// The ways to all slot tasks of a run.
pub(super) struct Slots(Vec<mpsc::UnboundedSender<Arc<Batch>>>);

impl Slots {
    /// Starts `count` slot tasks; they connect when their first batch comes.
    pub(super) fn start<T: Target>(
        tasks: &mut Tasks,
        target: &Arc<T>,
        (count, memory): (u32, Memory),
        done: &mpsc::UnboundedSender<Done>,
    ) -> Self {
        let room = memory.large_changes();
        let start = |slot| {
            let (inbox, batches) = mpsc::unbounded_channel();
            let writer = Writer::new(Arc::clone(target), slot);
            tasks.start(run(writer, batches, room.clone(), done.clone()));
            inbox
        };
        Self((0..count).map(start).collect())
    }

    /// Hands a batch to its slot. The planner gives a slot one at a time.
    pub(super) fn apply(&self, batch: Arc<Batch>) {
        // A task ends only after this object, so somebody listens.
        let _ = self.0[batch.slot as usize].send(batch);
    }
}

/// Applies the batches of a slot, one after the other.
async fn run<T: Target>(
    mut writer: Writer<T>,
    mut batches: mpsc::UnboundedReceiver<Arc<Batch>>,
    room: Room,
    done: mpsc::UnboundedSender<Done>,
) {
    while let Some(batch) = batches.recv().await {
        // It has locked nothing in the target yet: whoever is there now waits for nobody here.
        let _room = room.take(batch.bytes).await;
        let start = Instant::now();
        let result = caught(writer.write(&*batch)).await;
        let result = result.unwrap_or_else(|panic| Err(Refused::Lost(panic)));
        if done
            .send(Done {
                batch,
                took: start.elapsed(),
                missed: writer.missed(),
                result,
            })
            .is_err()
        {
            return;
        }
    }
}
