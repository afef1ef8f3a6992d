//! Reads the binlog: checks and decodes events away from the loop that plans them.

use std::{collections::VecDeque, sync::Arc};

use bytes::Bytes;
use dm_core::{
    binlog::{Decoder, Event, Frame, Header},
    error::{Error, Result, code},
};
use tokio::{
    sync::{OwnedSemaphorePermit, Semaphore, mpsc},
    time::Instant,
};

use super::{SyncFacts, payload::Payload, tasks::Tasks};
use crate::{panics::caught, ports::EventStream};

/// Events handed over at once, at most: amortises the wake-up of the planning loop.
const CHUNK_EVENTS_MAX: usize = 256;
/// Bytes read ahead of the planner, decoded and waiting. A larger event goes alone.
const READ_AHEAD_BYTES: usize = 16 << 20;
/// A decoded event with the header of the outermost event that brought it.
#[derive(Debug)]
pub(super) struct Item {
    /// Header of the event in the file; the events of a compressed transaction share one.
    pub(super) header: Header,
    /// The event.
    pub(super) event: Event,
    /// Whether an event before it came under the same header.
    pub(super) shares: bool,
}

/// Events in binlog order, and the memory that they were granted.
pub(super) struct Chunk {
    items: VecDeque<Item>,
    /// Given back when the chunk is dropped.
    _memory: OwnedSemaphorePermit,
}

impl Chunk {
    /// The next event.
    pub(super) fn pop(&mut self) -> Option<Item> {
        self.items.pop_front()
    }
}

/// What a task reads from a stream.
pub(super) struct Reader(mpsc::UnboundedReceiver<Result<Chunk>>);

impl Reader {
    /// Starts to read.
    pub(super) fn start<S: EventStream>(
        tasks: &mut Tasks,
        stream: S,
        decoder: Decoder,
        facts: Arc<SyncFacts>,
    ) -> Self {
        // Bounded by the semaphore, in bytes, not by the number of chunks.
        let (sender, chunks) = mpsc::unbounded_channel();
        tasks.start(async move {
            let mut reading = Reading {
                stream,
                decoder,
                payload: None,
                opened: false,
                facts,
            };
            let ended = caught(reading.run(&sender)).await;
            if let Err(error) = ended.unwrap_or_else(Err) {
                // The loop may have ended already.
                let _ = sender.send(Err(error));
            }
        });
        Self(chunks)
    }

    /// The next events. Cancel-safe.
    ///
    /// # Errors
    /// What ended the stream.
    pub(super) async fn next(&mut self) -> Result<Chunk> {
        match self.0.recv().await {
            Some(chunk) => chunk,
            None => Err(Error::new(
                &code::SYNCER_GET_EVENT,
                "the binlog reader has ended",
            )),
        }
    }
}

/// The side of the task.
struct Reading<S> {
    stream: S,
    decoder: Decoder,
    /// A compressed transaction that is being opened, event by event: decompressed as a whole it
    /// need not fit in memory.
    payload: Option<(Header, Payload)>,
    /// Whether an event of it was read.
    opened: bool,
    facts: Arc<SyncFacts>,
}

impl<S: EventStream> Reading<S> {
    async fn run(&mut self, chunks: &mpsc::UnboundedSender<Result<Chunk>>) -> Result<()> {
        let budget = Arc::new(Semaphore::new(READ_AHEAD_BYTES));
        loop {
            let mut items = VecDeque::new();
            let mut bytes = 0;
            while items.len() < CHUNK_EVENTS_MAX && bytes < READ_AHEAD_BYTES / 4 {
                let Some((item, size)) = self.next(items.is_empty()).await? else {
                    break;
                };
                bytes += size;
                items.push_back(item);
            }
            let permits = bytes.clamp(1, READ_AHEAD_BYTES) as u32;
            let Ok(memory) = Arc::clone(&budget).acquire_many_owned(permits).await else {
                unreachable!("the semaphore is never closed");
            };
            let chunk = Chunk {
                items,
                _memory: memory,
            };
            if chunks.send(Ok(chunk)).is_err() {
                return Ok(());
            }
        }
    }

    /// The next event and the bytes that it holds; where `waits` is not set, only one that has
    /// arrived already.
    async fn next(&mut self, waits: bool) -> Result<Option<(Item, usize)>> {
        loop {
            if let Some((header, payload)) = &mut self.payload {
                let header = *header;
                if let Some(raw) = payload.next()? {
                    let frame = Frame::inside_payload(&raw)?;
                    let item = Item {
                        header,
                        event: self.decoder.event(&frame)?,
                        shares: std::mem::replace(&mut self.opened, true),
                    };
                    return Ok(Some((item, raw.len())));
                }
                self.payload = None;
            }
            let Some(raw) = self.raw(waits).await? else {
                return Ok(None);
            };
            let mut bytes = raw.len();
            let frame = self.decoder.frame(raw)?;
            let header = frame.header;
            match self.decoder.event(&frame)? {
                Event::Payload {
                    compression,
                    uncompressed_size,
                    body,
                } => {
                    let payload = Payload::open(compression, uncompressed_size, body)?;
                    self.payload = Some((header, payload));
                    self.opened = false;
                }
                event => {
                    // MariaDB's `log_bin_compress` makes events smaller than what they hold.
                    if let Event::Rows(rows) = &event {
                        bytes = bytes.max(rows.rows_len());
                    }
                    let item = Item {
                        header,
                        event,
                        shares: false,
                    };
                    return Ok(Some((item, bytes)));
                }
            }
        }
    }

    async fn raw(&mut self, waits: bool) -> Result<Option<Bytes>> {
        let metrics = &self.facts.metrics;
        let raw = if waits {
            let start = Instant::now();
            let raw = self.stream.next().await?;
            metrics.read_duration.observe(start.elapsed().as_secs_f64());
            raw
        } else {
            let raw = tokio::select! {
                biased;
                raw = self.stream.next() => raw?,
                () = std::future::ready(()) => return Ok(None),
            };
            metrics.read_duration.observe(0.0);
            raw
        };
        metrics.event_size.observe(raw.len() as f64);
        Ok(Some(raw))
    }
}
