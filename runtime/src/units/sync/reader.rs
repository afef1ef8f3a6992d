//! Reads the binlog: checks and decodes events away from the loop that plans them.

use std::{collections::VecDeque, io::Read, sync::Arc};

use bytes::Bytes;
use dm_core::{
    binlog::{Decoder, Event, Header, InnerFrames, PayloadCompression},
    error::{Error, Result, code},
};
use tokio::{
    sync::{OwnedSemaphorePermit, Semaphore, mpsc},
    task::JoinHandle,
};

use crate::{guard::guarded, ports::EventStream};

/// Events handed over at once, at most: amortises the wake-up of the planning loop.
const CHUNK_EVENTS_MAX: usize = 256;
/// Bytes read ahead of the planner, decoded and waiting. A larger event goes alone.
const READ_AHEAD_BYTES: usize = 16 << 20;
/// A compressed event that announces more than this is refused: it would not fit in memory beside
/// everything else, and a hostile size must not be believed.
const INFLATED_BYTES_MAX: u64 = 1 << 30;

/// A decoded event with the header of the outermost event that brought it.
#[derive(Debug)]
pub(super) struct Item {
    /// Header of the event in the file; the events of a compressed transaction share one.
    pub(super) header: Header,
    /// The event.
    pub(super) event: Event,
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

/// A task that reads a stream. Dropping it ends the dump.
pub(super) struct Reader {
    chunks: mpsc::UnboundedReceiver<Result<Chunk>>,
    task: JoinHandle<()>,
}

impl Reader {
    /// Starts to read.
    pub(super) fn start<S: EventStream>(stream: S, decoder: Decoder) -> Self {
        // Bounded by the semaphore, in bytes, not by the number of chunks.
        let (sender, chunks) = mpsc::unbounded_channel();
        let task = tokio::spawn(async move {
            let ended = guarded(read(stream, decoder, &sender)).await;
            if let Err(error) = ended.unwrap_or_else(Err) {
                // The loop may have ended already.
                let _ = sender.send(Err(error));
            }
        });
        Self { chunks, task }
    }

    /// The next events. Cancel-safe.
    ///
    /// # Errors
    /// What ended the stream.
    pub(super) async fn next(&mut self) -> Result<Chunk> {
        match self.chunks.recv().await {
            Some(chunk) => chunk,
            None => Err(Error::new(
                &code::SYNCER_GET_EVENT,
                "the binlog reader has ended",
            )),
        }
    }
}

impl Drop for Reader {
    fn drop(&mut self) {
        self.task.abort();
    }
}

async fn read<S: EventStream>(
    mut stream: S,
    mut decoder: Decoder,
    chunks: &mpsc::UnboundedSender<Result<Chunk>>,
) -> Result<()> {
    let budget = Arc::new(Semaphore::new(READ_AHEAD_BYTES));
    loop {
        let mut items = VecDeque::new();
        let mut bytes = push(&mut items, &mut decoder, stream.next().await?)?;
        // Whatever has arrived already goes along; nothing is waited for.
        while items.len() < CHUNK_EVENTS_MAX && bytes < READ_AHEAD_BYTES / 4 {
            tokio::select! {
                biased;
                raw = stream.next() => bytes += push(&mut items, &mut decoder, raw?)?,
                () = std::future::ready(()) => break,
            }
        }
        let permits = bytes.clamp(1, READ_AHEAD_BYTES) as u32;
        let Ok(memory) = Arc::clone(&budget).acquire_many_owned(permits).await else {
            unreachable!("the semaphore is never closed");
        };
        if chunks
            .send(Ok(Chunk {
                items,
                _memory: memory,
            }))
            .is_err()
        {
            return Ok(());
        }
    }
}

/// Decodes an event, and the ones inside it, and says how many bytes they hold.
fn push(items: &mut VecDeque<Item>, decoder: &mut Decoder, raw: Bytes) -> Result<usize> {
    let mut bytes = raw.len();
    let frame = decoder.frame(raw)?;
    let header = frame.header;
    match decoder.event(&frame)? {
        Event::Payload {
            compression,
            uncompressed_size,
            body,
        } => {
            let inner = match compression {
                PayloadCompression::None => body,
                PayloadCompression::Zstd => {
                    let stream = zstd::Decoder::new(&*body).map_err(|error| damaged(&error))?;
                    inflate(stream, uncompressed_size)?
                }
            };
            bytes += inner.len();
            for frame in InnerFrames::new(inner) {
                items.push_back(Item {
                    header,
                    event: decoder.event(&frame?)?,
                });
            }
        }
        event => {
            // MariaDB's `log_bin_compress` makes events smaller than what they hold.
            if let Event::Rows(rows) = &event {
                bytes = bytes.max(rows.rows_len());
            }
            items.push_back(Item { header, event });
        }
    }
    Ok(bytes)
}

/// Decompresses a stream to exactly the size that it announces.
fn inflate(stream: impl Read, size: u64) -> Result<Bytes> {
    if size > INFLATED_BYTES_MAX {
        return Err(damaged(&format!(
            "it announces {size} bytes, {INFLATED_BYTES_MAX} are allowed"
        )));
    }
    // The announced size is not trusted for the allocation: it grows as the data really comes.
    let mut plain = Vec::with_capacity(size.min(1 << 20) as usize);
    stream
        .take(size + 1)
        .read_to_end(&mut plain)
        .map_err(|error| damaged(&error))?;
    if plain.len() as u64 != size {
        return Err(damaged(&format!(
            "{} bytes came out, {size} were announced",
            plain.len()
        )));
    }
    Ok(plain.into())
}

fn damaged(why: &dyn std::fmt::Display) -> Error {
    Error::new(&code::SYNCER_GET_EVENT, "a compressed event can't be read")
        .with_cause(why.to_string())
}
