//! Writes relay files: what comes is appended as it comes, and synced in groups.

use std::{path::Path, sync::Arc};

use bytes::{Bytes, BytesMut};
use dm_core::{
    error::{Error, Result, code},
    guard::Guard,
    relay::{MAGIC, Meta, Writer},
    sync::progress::Location,
};
use tokio::{
    sync::{OwnedSemaphorePermit, mpsc},
    time::{Duration, Instant, timeout},
};

use super::{RelayFacts, dir::RelayDir};
use crate::metrics::share;
use crate::ports::disk::{Disk, File, Open};

/// How often the meta file is renewed while nothing else asks for it.
const META_EVERY: Duration = Duration::from_secs(30);
/// Memory of a larger piece is not worth to be kept.
const SPARE_MAX: usize = 4 << 20;

/// When what was written is synced: whichever comes first, and whenever there is nothing to write.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct SyncGroup {
    /// So many bytes were written.
    pub bytes: u64,
    /// So long ago it began: readers wait for it.
    pub time: Duration,
}

impl Default for SyncGroup {
    fn default() -> Self {
        Self {
            bytes: 8 << 20,
            time: Duration::from_millis(50),
        }
    }
}

/// What is to be written.
#[derive(Debug)]
pub(super) enum Order {
    /// The file before is complete, once it is cut if that is given, and another one begins.
    Begin {
        /// Its name.
        name: String,
        /// Length of the file before.
        cut: Option<u64>,
        /// What is known at its beginning.
        meta: Meta,
    },
    /// This comes at the end.
    Append {
        /// Whole events.
        data: Bytes,
        /// How many.
        events: u64,
        /// How much of the file consists of whole transactions then, and the same in terms of the
        /// source; nothing if that is not worth to be told, as a file begins next.
        mark: Option<(u64, Location)>,
        /// The memory that it was granted.
        memory: OwnedSemaphorePermit,
    },
}

/// The side that has the disk.
pub(super) struct Log<D: Disk> {
    dir: RelayDir<D>,
    facts: Arc<RelayFacts>,
    /// The file that is written, with its name.
    file: Option<(String, D::File)>,
    group: SyncGroup,
    /// Bytes that are written and not synced, and since when.
    unsynced: u64,
    since: Option<Instant>,
    /// What is known once they are.
    mark: Option<(u64, Location)>,
    /// How much of the file is known to survive, and where that is.
    durable: u64,
    location: Option<Location>,
    /// When the meta file was written, and whether there was progress since.
    meta_at: Instant,
    is_meta_late: bool,
    /// Where memory goes whose content was written.
    spare: mpsc::Sender<BytesMut>,
}

impl<D: Disk> Log<D> {
    /// Goes on with a file, if there is one already.
    ///
    /// # Errors
    /// 30025: it can't be opened.
    pub(super) async fn open(
        dir: RelayDir<D>,
        facts: Arc<RelayFacts>,
        writer: &Writer,
        group: SyncGroup,
        spare: mpsc::Sender<BytesMut>,
    ) -> Result<Self> {
        let file = match writer.file() {
            None => None,
            Some(name) => {
                let path = dir.path_of(name);
                let file = dir.disk().open(&path, Open::Append).await;
                Some((
                    name.to_owned(),
                    file.map_err(|error| failed(&path, &error))?,
                ))
            }
        };
        Ok(Self {
            dir,
            facts,
            file,
            group,
            unsynced: 0,
            since: None,
            mark: None,
            durable: writer.boundary(),
            // Where there is no file, the meta file says where one is to begin.
            location: writer.file().map(|_| writer.location()),
            meta_at: Instant::now(),
            is_meta_late: false,
            spare,
        })
    }

    /// Carries out orders until there are no more.
    ///
    /// # Errors
    /// The disk failed. What is in the files then shows when they are read again.
    pub(super) async fn run(&mut self, orders: &mut mpsc::UnboundedReceiver<Order>) -> Result<()> {
        while let Some(order) = self.next(orders).await? {
            match order {
                Order::Begin { name, cut, meta } => self.begin(name, cut, &meta).await?,
                Order::Append {
                    data,
                    events,
                    mark,
                    memory,
                } => {
                    self.append(data, events).await?;
                    self.mark = mark;
                    drop(memory);
                }
            }
        }
        self.sync().await?;
        self.write_meta().await
    }

    /// The next order. Where none is waiting, or enough was written, what was written is synced
    /// first.
    async fn next(&mut self, orders: &mut mpsc::UnboundedReceiver<Order>) -> Result<Option<Order>> {
        let is_late = |since: Instant| since.elapsed() >= self.group.time;
        if self.unsynced >= self.group.bytes || self.since.is_some_and(is_late) {
            self.sync().await?;
        }
        if self.meta_at.elapsed() >= META_EVERY {
            self.write_meta().await?;
        }
        if let Ok(order) = orders.try_recv() {
            return Ok(Some(order));
        }
        self.sync().await?;
        while self.is_meta_late {
            let left = META_EVERY.saturating_sub(self.meta_at.elapsed());
            match timeout(left, orders.recv()).await {
                Ok(order) => return Ok(order),
                Err(_) => self.write_meta().await?,
            }
        }
        Ok(orders.recv().await)
    }

    async fn append(&mut self, data: Bytes, events: u64) -> Result<()> {
        let Some((name, file)) = &mut self.file else {
            return Err(Error::new(
                &code::RELAY_WRITER_NOT_OPENED,
                "there is no relay file yet",
            ));
        };
        let len = data.len() as u64;
        let begun = Instant::now();
        let written = file.append(data.clone()).await;
        written.map_err(|error| failed(&self.dir.path_of(name), &error))?;
        share(&self.facts.metrics.write_duration, begun.elapsed(), events);
        self.unsynced += len;
        self.since.get_or_insert_with(Instant::now);
        if let Ok(mut piece) = data.try_into_mut()
            && piece.capacity() <= SPARE_MAX
        {
            piece.clear();
            // Whoever reads may be over already.
            let _ = self.spare.try_send(piece);
        }
        Ok(())
    }

    /// Makes everything that was written survive, and then tells readers of it.
    async fn sync(&mut self) -> Result<()> {
        let is_needed = self.unsynced > 0 && Guard::RelaySync.holds();
        if let (Some((name, file)), true) = (&mut self.file, is_needed) {
            if let Err(error) = file.sync().await {
                // What was not synced now never is. What survives shows when the file is read back;
                // that there is no more helps where memory can't be made to forget.
                if Guard::RelayReadBack.holds() {
                    let _ = file.set_len(self.durable).await;
                }
                return Err(failed(&self.dir.path_of(name), &error));
            }
            self.unsynced = 0;
        }
        self.since = None;
        if let (Some((boundary, location)), Some((name, _))) = (self.mark.take(), &self.file) {
            self.durable = boundary;
            self.location = Some(location.clone());
            self.is_meta_late = true;
            if let Some(end) = self.dir.end(name, boundary, location) {
                self.facts.wrote(end);
            }
        }
        Ok(())
    }

    /// Begins a file: everything before must survive whenever this one does.
    async fn begin(&mut self, name: String, cut: Option<u64>, meta: &Meta) -> Result<()> {
        if let (Some((name, file)), Some(len)) = (&mut self.file, cut) {
            let cut = file.set_len(len).await;
            cut.map_err(|error| failed(&self.dir.path_of(name), &error))?;
            self.unsynced += 1;
        }
        if Guard::RelayOrder.holds() {
            self.sync().await?;
        }
        // A reader of the existing worker's takes it for the sign that the file before is complete.
        self.dir.write_meta(meta).await?;
        (self.meta_at, self.is_meta_late) = (Instant::now(), false);
        let path = self.dir.path_of(&name);
        let failed = |error| failed(&path, &error);
        let opened = self.dir.disk().open(&path, Open::CreateNew).await;
        let mut file = opened.map_err(failed)?;
        file.append(Bytes::from_static(&MAGIC))
            .await
            .map_err(failed)?;
        let parent = self.dir.path_of("");
        if Guard::RelayName.holds() {
            self.dir.disk().sync_dir(&parent).await.map_err(failed)?;
        }
        self.file = Some((name, file));
        self.durable = 0;
        self.unsynced = MAGIC.len() as u64;
        self.since = Some(Instant::now());
        Ok(())
    }

    async fn write_meta(&mut self) -> Result<()> {
        if let Some(Location { position, gtids }) = self.location.clone() {
            self.dir.write_meta(&Meta { position, gtids }).await?;
        }
        (self.meta_at, self.is_meta_late) = (Instant::now(), false);
        Ok(())
    }
}

fn failed(path: &Path, error: &std::io::Error) -> Error {
    let message = format!("cannot write {}", path.display());
    Error::new(&code::RELAY_WRITER_FILE_OPERATE, message)
        .with_cause(error.to_string())
        .with_workaround(
            "Nothing is lost: what could not be written is read from the source again when the \
             relay is resumed.",
        )
}
