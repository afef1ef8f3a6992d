//! Reads the binlog: checks and decodes events away from the loop that plans them.

use std::{collections::VecDeque, sync::Arc};

use bytes::Bytes;
use dm_core::{
    binlog::{Decoder, Event, Frame, Header, Position, event_type},
    error::{Error, Result, code},
};
use tokio::{
    sync::{OwnedSemaphorePermit, Semaphore, mpsc},
    time::Instant,
};

use super::SyncFacts;
use crate::{
    memory::Memory,
    panics::caught,
    ports::{EventStream, disk::Disk},
    units::{
        payload::Payload,
        relay::{Follower, Found, plain_len},
        tasks::Tasks,
    },
};

/// Events handed over at once, at most: amortises the wake-up of the planning loop.
const CHUNK_EVENTS_MAX: usize = 256;

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

/// What a task reads.
pub(super) struct Reader(mpsc::UnboundedReceiver<Result<Chunk>>);

impl Reader {
    /// Starts to read from the source. Its files are called by the number of a sub-directory of its
    /// relay log, if one is given.
    pub(super) fn stream<S: EventStream>(
        tasks: &mut Tasks,
        stream: S,
        number: Option<u32>,
        decoder: Decoder,
        given: (&Arc<SyncFacts>, Memory),
    ) -> Self {
        let (mut output, reader) = Output::new(decoder, given);
        tasks.start(async move {
            let ended = caught(from_source(stream, number, &mut output)).await;
            output.end(ended);
        });
        reader
    }

    /// Starts to read from a relay log.
    pub(super) fn relay<D: Disk>(
        tasks: &mut Tasks,
        follower: Follower<D>,
        decoder: Decoder,
        given: (&Arc<SyncFacts>, Memory),
    ) -> Self {
        let (mut output, reader) = Output::new(decoder, given);
        tasks.start(async move {
            let ended = caught(from_relay(follower, &mut output)).await;
            output.end(ended);
        });
        reader
    }

    /// The next events. Cancel-safe.
    ///
    /// # Errors
    /// What ended the stream.
    pub(super) async fn next(&mut self) -> Result<Chunk> {
        self.0.recv().await.unwrap_or_else(|| Err(ended()))
    }
}

fn ended() -> Error {
    Error::new(&code::SYNCER_GET_EVENT, "the binlog reader has ended")
}

/// The side of the task.
struct Output {
    /// Bounded by the budget, in bytes, not by the number of chunks.
    chunks: mpsc::UnboundedSender<Result<Chunk>>,
    budget: Arc<Semaphore>,
    /// Bytes read ahead of the planner, decoded and waiting. A larger event goes alone.
    ahead: usize,
    /// What was read and is not handed over yet.
    items: VecDeque<Item>,
    bytes: usize,
    /// Of the stream, and of what comes compressed.
    decoder: Decoder,
    facts: Arc<SyncFacts>,
}

impl Output {
    fn new(decoder: Decoder, (facts, memory): (&Arc<SyncFacts>, Memory)) -> (Self, Reader) {
        let (chunks, reader) = mpsc::unbounded_channel();
        let output = Self {
            chunks,
            budget: Arc::new(Semaphore::new(memory.ahead())),
            ahead: memory.ahead(),
            items: VecDeque::new(),
            bytes: 0,
            decoder,
            facts: Arc::clone(facts),
        };
        (output, Reader(reader))
    }

    /// An event of so many bytes was read. A compressed transaction is opened event by event:
    /// decompressed as a whole it need not fit in memory.
    async fn put(&mut self, item: Item, bytes: usize) -> Result<()> {
        let Item {
            header,
            event,
            shares,
        } = item;
        if !shares {
            let event_size = &self.facts.metrics.event_size;
            event_size.observe(f64::from(header.event_size));
        }
        match event {
            Event::Payload {
                compression,
                uncompressed_size,
                body,
            } => {
                let mut payload = Payload::open(compression, uncompressed_size, body)?;
                let mut shares = false;
                while let Some(raw) = payload.next()? {
                    let event = self.decoder.event(&Frame::inside_payload(&raw)?)?;
                    let item = Item {
                        header,
                        event,
                        shares: std::mem::replace(&mut shares, true),
                    };
                    self.push(item, raw.len()).await?;
                }
                Ok(())
            }
            event => {
                let bytes = plain_len(&event, bytes);
                let item = Item {
                    header,
                    event,
                    shares,
                };
                self.push(item, bytes).await
            }
        }
    }

    async fn push(&mut self, item: Item, bytes: usize) -> Result<()> {
        self.items.push_back(item);
        self.bytes += bytes;
        if self.items.len() < CHUNK_EVENTS_MAX && self.bytes < self.ahead / 4 {
            return Ok(());
        }
        self.flush().await
    }

    /// Reading is over.
    fn end(&self, ended: Result<Result<()>>) {
        if let Err(error) = ended.unwrap_or_else(Err) {
            // Whoever reads may be over as well.
            let _ = self.chunks.send(Err(error));
        }
    }

    /// Hands over what was read.
    async fn flush(&mut self) -> Result<()> {
        if self.items.is_empty() {
            return Ok(());
        }
        let permits = self.bytes.clamp(1, self.ahead) as u32;
        let Ok(memory) = Arc::clone(&self.budget).acquire_many_owned(permits).await else {
            unreachable!("the semaphore is never closed");
        };
        self.bytes = 0;
        let chunk = Chunk {
            items: std::mem::take(&mut self.items),
            _memory: memory,
        };
        self.chunks.send(Ok(chunk)).map_err(|_| ended())
    }
}

async fn from_source<S: EventStream>(
    mut stream: S,
    number: Option<u32>,
    out: &mut Output,
) -> Result<()> {
    loop {
        let Some(raw) = raw(&mut stream, out).await? else {
            out.flush().await?;
            continue;
        };
        let frame = out.decoder.frame(raw)?;
        let event = out.decoder.event(&frame)?;
        let header = frame.header;
        let item = Item {
            header,
            event: renamed(event, number),
            shares: false,
        };
        out.put(item, header.event_size as usize).await?;
    }
}

/// The next event; while there are some that nobody has, only one that has arrived already.
async fn raw<S: EventStream>(stream: &mut S, out: &Output) -> Result<Option<Bytes>> {
    let read_duration = &out.facts.metrics.read_duration;
    if out.items.is_empty() {
        let start = Instant::now();
        let raw = stream.next().await?;
        read_duration.observe(start.elapsed().as_secs_f64());
        return Ok(Some(raw));
    }
    tokio::select! {
        biased;
        raw = stream.next() => {
            read_duration.observe(0.0);
            raw.map(Some)
        }
        () = std::future::ready(()) => Ok(None),
    }
}

async fn from_relay<D: Disk>(mut follower: Follower<D>, out: &mut Output) -> Result<()> {
    let mut number = None;
    loop {
        let start = Instant::now();
        match follower.next().await? {
            Found::File(Position { file, pos }) => {
                number = Position::new(&file, pos).relay();
                let item = Item {
                    header: Header::made_up(event_type::ROTATE),
                    event: Event::Rotate { file, pos },
                    shares: false,
                };
                out.put(item, 0).await?;
            }
            Found::Events(piece, from) => {
                let waited = start.elapsed().as_secs_f64();
                out.facts.metrics.read_duration.observe(waited);
                for record in piece.from(from) {
                    if follower.takes(&record.event)? {
                        let item = Item {
                            header: record.header,
                            event: renamed(record.event.clone(), number),
                            shares: record.shares,
                        };
                        out.put(item, record.bytes).await?;
                    }
                }
            }
        }
        out.flush().await?;
    }
}

/// With the name that the next file has in a relay log.
fn renamed(event: Event, number: Option<u32>) -> Event {
    match (event, number) {
        (Event::Rotate { file, pos }, Some(number)) => {
            let Position { file, pos } = Position::new(file, pos).in_relay(number);
            Event::Rotate { file, pos }
        }
        (event, _) => event,
    }
}
