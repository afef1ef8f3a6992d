//! A relay directory on a disk.
//!
//! Whatever moment a process or the power ends at, the next one finds a directory that it can go on
//! with: a file is complete on the disk before the next one has a name, small files are replaced as
//! a whole, and a sub-directory is complete before the index names it.

use std::{
    io,
    path::{Path, PathBuf},
};

use bytes::Bytes;
use dm_core::{
    binlog::{FileName, Flavor, GtidSet, Position},
    error::{Code, Error, Result, code},
    guard::Guard,
    relay::{Contents, INDEX_FILE, Index, MAGIC, META_FILE, Meta, Scan, SubDir, TEMP, Writer},
    sync::progress::Location,
};
use tracing::{info, warn};

use super::RelayEnd;
use crate::ports::disk::{Disk, File, Open};

/// Whoever writes to a directory has this file in it locked.
const LOCK_FILE: &str = "dm-worker.lock";
/// Whose binlog is in a directory: the id of the source.
const SOURCE_FILE: &str = "dm-worker.source";
/// Number of the first sub-directory.
const FIRST: u32 = 1;
/// What a file is called in addition that can't be read: nobody takes it for a binlog then.
const DAMAGED: &str = ".damaged";
/// Bytes that are read at once.
const PIECE: usize = 1 << 20;
/// A small file that is larger than this is none of ours.
const SMALL_MAX: u64 = 16 << 20;

/// A relay directory that nobody else writes to.
#[derive(Debug)]
pub(super) struct RelayDir<D: Disk> {
    disk: D,
    path: PathBuf,
    index: Index,
    /// Holds the lock.
    _lock: D::File,
}

/// In whose name a directory is opened.
#[derive(Clone, Copy, Debug)]
pub(super) struct Owner<'a> {
    /// The source whose binlog it is to have.
    pub(super) source: &'a str,
    /// Who writes it, in the words of whoever finds it locked.
    pub(super) who: &'a str,
    /// Whether another source's binlog goes. In a cluster a worker has one source at a time, and
    /// whoever reads the former one's does so elsewhere now. What a file says may be a slip.
    pub(super) may_empty: bool,
}

impl<D: Disk> RelayDir<D> {
    /// Opens the directory of a source, which is made if it is not there.
    ///
    /// # Errors
    /// 30025: somebody else has it, it has another source's binlog that may not go, or the disk
    /// can't be used. 28001, 28002, 30001: its index makes no sense.
    pub(super) async fn open(disk: D, path: &Path, owner: Owner<'_>) -> Result<Self> {
        let failed = |error| failed("open", path, &error);
        disk.create_dir(path).await.map_err(failed)?;
        if let Some(parent) = path
            .parent()
            .filter(|parent| !parent.as_os_str().is_empty())
        {
            disk.sync_dir(parent).await.map_err(failed)?;
        }
        let lock = lock(&disk, path, owner.who).await?;
        let there = swept(&disk, path).await.map_err(failed)?;
        let index = read_small(&disk, &path.join(INDEX_FILE)).await;
        let mut dir = Self {
            index: Index::parse(&index.map_err(failed)?.unwrap_or_default())?,
            disk,
            path: path.to_owned(),
            _lock: lock,
        };
        dir.claim(owner, &there.sub_dirs).await?;
        dir.trim(&there.sub_dirs).await?;
        if let Some(sub_dir) = dir.index.current().cloned() {
            let path = dir.path.join(sub_dir.to_string());
            // It may be gone though the index names it: the existing worker does not sync it.
            dir.disk.create_dir(&path).await.map_err(failed)?;
            dir.disk.sync_dir(&dir.path).await.map_err(failed)?;
            swept(&dir.disk, &path).await.map_err(failed)?;
        }
        Ok(dir)
    }

    /// The sub-directory that is written to.
    pub(super) fn current(&self) -> Option<&SubDir> {
        self.index.current()
    }

    /// What is said of it once its newest file has so many bytes that count.
    pub(super) fn end(&self, file: &str, len: u64, location: Location) -> Option<RelayEnd> {
        Some(RelayEnd {
            sub_dir: self.current()?.clone(),
            file: file.to_owned(),
            len,
            location,
        })
    }

    /// A file in it.
    pub(super) fn path_of(&self, name: &str) -> PathBuf {
        let sub_dir = self.index.current().map(SubDir::to_string);
        self.path.join(sub_dir.unwrap_or_default()).join(name)
    }

    /// The disk.
    pub(super) const fn disk(&self) -> &D {
        &self.disk
    }

    /// Begins a sub-directory for a server, at a place. The first of all has the number that the
    /// tasks' positions have, if they have one.
    ///
    /// # Errors
    /// 30033: there is something under its name. 30006, 30007: the disk failed.
    pub(super) async fn begin(
        &mut self,
        server: &str,
        number: Option<u32>,
        meta: &Meta,
    ) -> Result<()> {
        let next = match self.index.current() {
            Some(current) => current.next(server)?,
            None => SubDir::new(server, number.unwrap_or(FIRST))?,
        };
        let path = self.path.join(next.to_string());
        let failed = |code: &'static Code| {
            let path = path.clone();
            move |error: io::Error| coded(code, "begin", &path, &error)
        };
        self.disk
            .create_dir(&path)
            .await
            .map_err(failed(&code::RELAY_MKDIR))?;
        let there = self.disk.list(&path).await;
        let there = there.map_err(failed(&code::RELAY_MKDIR))?;
        // Left behind by somebody who came no further than this.
        if let Some(file) = Contents::of(there).files.first() {
            return Err(Error::new(
                &code::RELAY_MKDIR,
                format!(
                    "{} has the file {file}, though {INDEX_FILE} does not name the directory",
                    path.display()
                ),
            )
            .with_workaround("Move it out of the relay directory, then resume the relay."));
        }
        self.replace(&path, META_FILE, meta.text())
            .await
            .map_err(failed(&code::RELAY_FLUSH_LOCAL_META))?;
        let mut index = self.index.clone();
        index.push(next)?;
        let written = match self.disk.sync_dir(&self.path).await {
            Ok(()) => {
                self.replace(&self.path, INDEX_FILE, index.to_string())
                    .await
            }
            failed => failed,
        };
        written.map_err(failed(&code::RELAY_UPDATE_INDEX_FILE))?;
        self.index = index;
        Ok(())
    }

    /// Writes the meta file of the current sub-directory.
    ///
    /// # Errors
    /// 30006: the disk failed; the old one is there then.
    pub(super) async fn write_meta(&self, meta: &Meta) -> Result<()> {
        let path = self.path_of("");
        let written = self.replace(&path, META_FILE, meta.text()).await;
        written.map_err(|error| coded(&code::RELAY_FLUSH_LOCAL_META, "write", &path, &error))
    }

    /// Finds out where the current sub-directory ends, and cuts off what is behind that: of a
    /// transaction that is not whole the rest is asked for together with its beginning.
    ///
    /// # Errors
    /// 30025: the disk failed. 30003: the meta file is needed and can't be read.
    pub(super) async fn recover(&self, flavor: Flavor, by_gtid: bool) -> Result<Writer> {
        let path = self.path_of("");
        let failed = |error| failed("recover", &path, &error);
        let there = self.disk.list(&path).await.map_err(failed)?;
        let mut files = Contents::of(there).files;
        // The meta file is written before the newest file begins.
        let meta = self.read_meta().await;
        let newest = meta.as_ref().map_or("", |meta| &meta.position.file);
        order(&mut files, newest);
        let mut end = self.end_of(&mut files, flavor).await?;
        // The file before may have lost its end, if somebody did not sync it.
        if let (Some((name, scan)), Some(before)) = (&end, files.pop()) {
            let earlier = self.read_back(&before, flavor).await.map_err(failed)?;
            let has_all = match (earlier.gtids(), scan.before()) {
                (Some(have), Some(needed)) => have.covers(needed),
                _ => true,
            };
            if !has_all {
                warn!(file = before, "its end is missing, so it is read again");
                self.set_aside(name).await.map_err(failed)?;
                end = Some((before, earlier));
            }
        }
        match end {
            Some((name, scan)) => {
                self.cut(&name, scan.boundary()).await.map_err(failed)?;
                Ok(Writer::behind(flavor, by_gtid, &name, scan))
            }
            None => {
                let meta = meta?;
                let Position { file, .. } = meta.position;
                // No text is that of the empty set, too. If it was another one, the source sends
                // more than is needed, or says that it can't.
                let gtids = meta
                    .gtids
                    .or_else(|| by_gtid.then(|| GtidSet::empty(flavor)));
                Ok(Writer::at_start(flavor, by_gtid, &file, gtids))
            }
        }
    }

    /// Reads the newest file that has something, and takes it and all behind it out of the list.
    /// One that has nothing goes away; if it is not just short but can't be read, it is set aside.
    ///
    /// # Errors
    /// 30025: the disk failed. 11038: more than one can't be read, so it is not only an end that
    /// was lost.
    async fn end_of(
        &self,
        files: &mut Vec<String>,
        flavor: Flavor,
    ) -> Result<Option<(String, Scan)>> {
        let mut set_aside: Option<String> = None;
        while let Some(name) = files.pop() {
            let path = self.path_of(&name);
            let failed = |error| failed("recover", &path, &error);
            let scan = self.read_back(&name, flavor).await.map_err(failed)?;
            if scan.has_content() {
                return Ok(Some((name, scan)));
            }
            if self.is_short(&name).await.map_err(failed)? {
                info!(file = name, "is empty and goes away");
                self.remove(&name).await.map_err(failed)?;
                continue;
            }
            if let Some(other) = set_aside {
                return Err(Error::new(
                    &code::PARSER_PARSE_RELAY_LOG,
                    format!(
                        "neither {name} nor {other} in {} can be read",
                        path.display()
                    ),
                )
                .with_workaround(
                    "Look at them with `dm-worker relay verify`. If they are of no use, move \
                     them out of the directory, then resume the relay.",
                ));
            }
            warn!(file = name, "can't be read: it is set aside and read again");
            self.set_aside(&name).await.map_err(failed)?;
            set_aside = Some(name);
        }
        Ok(None)
    }

    /// Reads what a power cut leaves of a file, whoever wrote it, and whatever became of that.
    async fn read_back(&self, name: &str, flavor: Flavor) -> io::Result<Scan> {
        let path = self.path_of(name);
        let mut file = self.disk.open(&path, Open::Append).await?;
        if Guard::RelayReadBack.holds() {
            file.sync().await?;
            file.forget().await?;
        }
        scanned(&self.disk, &path, flavor).await
    }

    /// Whether a file has no more than the magic.
    async fn is_short(&self, name: &str) -> io::Result<bool> {
        let file = self.disk.open(&self.path_of(name), Open::Read).await?;
        let begin = file.read_at(0, MAGIC.len() + 1).await?;
        Ok(begin.len() <= MAGIC.len())
    }

    async fn cut(&self, name: &str, len: u64) -> io::Result<()> {
        let mut file = self.disk.open(&self.path_of(name), Open::Append).await?;
        if Guard::RelayCut.holds() {
            file.set_len(len).await?;
        }
        file.sync().await?;
        self.disk.sync_dir(&self.path_of("")).await
    }

    async fn set_aside(&self, name: &str) -> io::Result<()> {
        let aside = self.path_of(&format!("{name}{DAMAGED}"));
        self.disk.rename(&self.path_of(name), &aside).await?;
        self.disk.sync_dir(&self.path_of("")).await
    }

    async fn remove(&self, name: &str) -> io::Result<()> {
        self.disk.remove(&self.path_of(name)).await?;
        self.disk.sync_dir(&self.path_of("")).await
    }

    async fn read_meta(&self) -> Result<Meta> {
        let path = self.path_of(META_FILE);
        let bytes = read_small(&self.disk, &path).await;
        let bytes =
            bytes.map_err(|error| coded(&code::RELAY_LOAD_META_DATA, "read", &path, &error));
        bytes?.map_or_else(|| Ok(Meta::default()), |bytes| Meta::parse(&bytes))
    }

    /// Removes all binlog files.
    ///
    /// # Errors
    /// 30041: the disk failed.
    pub(super) async fn clear(&mut self) -> Result<()> {
        let listed = self.disk.list(&self.path).await;
        let cleared = match listed {
            Ok(names) => self.empty(&Contents::of(names).sub_dirs).await,
            Err(error) => Err(error),
        };
        cleared.map_err(|error| coded(&code::RELAY_REMOVE_FILE_FAIL, "empty", &self.path, &error))
    }

    async fn empty(&mut self, sub_dirs: &[SubDir]) -> io::Result<()> {
        let none = Index::default();
        self.replace(&self.path, INDEX_FILE, none.to_string())
            .await?;
        self.index = none;
        for sub_dir in sub_dirs {
            remove_sub_dir(&self.disk, &self.path, sub_dir).await?;
        }
        Ok(())
    }

    /// Says whose binlog is in it. A directory of the existing worker does not say that.
    async fn claim(&mut self, owner: Owner<'_>, there: &[SubDir]) -> Result<()> {
        let Owner {
            source, may_empty, ..
        } = owner;
        let path = self.path.clone();
        let failed = |error| failed("open", &path, &error);
        let of = read_small(&self.disk, &path.join(SOURCE_FILE)).await;
        let of = of.map_err(failed)?;
        if of.as_deref() == Some(source.as_bytes()) {
            return Ok(());
        }
        if let Some(other) = of.filter(|_| Guard::RelayOther.holds()) {
            let (other, dir) = (String::from_utf8_lossy(&other), path.display());
            // One without a name is being emptied.
            if !may_empty && !other.is_empty() {
                let text = format!("{dir} has the relay log of source {other}");
                return Err(
                    Error::new(&code::RELAY_WRITER_FILE_OPERATE, text).with_workaround(
                        "Give this source another `relay-dir`. If nobody needs what is in there, \
                     remove the directory, then resume the relay.",
                    ),
                );
            }
            warn!(source, %other, %dir, "another source's relay log goes");
            // Nobody takes what is left for his own if this ends before it is done.
            let nobody = self.replace(&path, SOURCE_FILE, String::new()).await;
            nobody.map_err(failed)?;
            self.empty(there).await.map_err(failed)?;
        }
        let claimed = self.replace(&path, SOURCE_FILE, source.to_owned()).await;
        claimed.map_err(failed)
    }

    /// Forgets the oldest sub-directories that are gone.
    async fn trim(&mut self, there: &[SubDir]) -> Result<()> {
        let mut index = self.index.clone();
        index.trim(|dir| !there.contains(dir));
        if index == self.index {
            return Ok(());
        }
        let written = self.replace(&self.path, INDEX_FILE, index.to_string());
        written
            .await
            .map_err(|error| coded(&code::RELAY_UPDATE_INDEX_FILE, "write", &self.path, &error))?;
        self.index = index;
        Ok(())
    }

    /// Replaces a small file as a whole.
    async fn replace(&self, dir: &Path, name: &str, content: String) -> io::Result<()> {
        let temp = dir.join(format!("{name}{TEMP}"));
        let written = async {
            let mut file = self.disk.open(&temp, Open::Replace).await?;
            file.append(content.into()).await?;
            if Guard::RelayReplace.holds() {
                file.sync().await?;
            }
            self.disk.rename(&temp, &dir.join(name)).await?;
            self.disk.sync_dir(dir).await
        };
        let written = written.await;
        if written.is_err() {
            // It takes place on a full disk; the next start would remove it as well.
            let _ = self.disk.remove(&temp).await;
        }
        written
    }
}

/// Reads a file as far as it makes sense.
pub(super) async fn scanned<D: Disk>(disk: &D, path: &Path, flavor: Flavor) -> io::Result<Scan> {
    let file = disk.open(path, Open::Read).await?;
    let mut scan = Scan::new(flavor);
    let mut rest = Bytes::new();
    let mut wanted = PIECE;
    loop {
        let piece = file.read_at(scan.end() + rest.len() as u64, wanted).await?;
        if piece.is_empty() {
            return Ok(scan);
        }
        let joined = if rest.is_empty() {
            piece
        } else {
            Bytes::from([&rest[..], &piece[..]].concat())
        };
        match scan.read(&joined) {
            Ok(left) => rest = left,
            Err(error) => {
                warn!(file = %path.display(), %error, "what is behind is read again");
                return Ok(scan);
            }
        }
        // A large event need not be joined piece by piece.
        let next = scan.wants(&rest).unwrap_or_default();
        wanted = next.saturating_sub(rest.len()).clamp(PIECE, 64 * PIECE);
    }
}

/// Puts the files of a sub-directory, which are in the order of their names, in that in which they
/// were written: a source may have given its files another name since.
pub(super) fn order(files: &mut [String], newest: &str) {
    files.sort_by_key(|name| base(name) == base(newest));
}

/// What the name of a binlog file begins with.
fn base(name: &str) -> &str {
    FileName::parse(name).map_or("", |name| name.base)
}

/// Removes a sub-directory with the files in it. Whatever else is there stays, and keeps it.
pub(super) async fn remove_sub_dir<D: Disk>(
    disk: &D,
    path: &Path,
    sub_dir: &SubDir,
) -> io::Result<()> {
    let dir = path.join(sub_dir.to_string());
    for (name, is_dir) in disk.list(&dir).await? {
        if !is_dir {
            disk.remove(&dir.join(name)).await?;
        }
    }
    disk.remove_dir(&dir).await?;
    disk.sync_dir(path).await
}

/// Locks a directory, as long as the file is open.
pub(super) async fn lock<D: Disk>(disk: &D, dir: &Path, who: &str) -> Result<D::File> {
    let path = dir.join(LOCK_FILE);
    let failed = |error| failed("lock", &path, &error);
    let file = match disk.open(&path, Open::CreateNew).await {
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {
            disk.open(&path, Open::Append).await
        }
        opened => opened,
    };
    let mut file = file.map_err(failed)?;
    if !file.lock().await.map_err(failed)? && Guard::RelayLock.holds() {
        let owner = file.read_at(0, 200).await.unwrap_or_default();
        let owner = String::from_utf8_lossy(&owner).trim().to_owned();
        return Err(Error::new(
            &code::RELAY_WRITER_FILE_OPERATE,
            format!("the relay directory {} is in use by {owner}", dir.display()),
        )
        .with_workaround("Give each source and each worker a relay directory of its own."));
    }
    // Only for whoever finds it locked: a full disk is no reason not to begin.
    if file.set_len(0).await.is_ok() {
        let _ = file.append(format!("{who}\n").into()).await;
    }
    Ok(file)
}

/// What is in a directory, from which what was to become a small file and did not is removed.
async fn swept<D: Disk>(disk: &D, dir: &Path) -> io::Result<Contents> {
    let contents = Contents::of(disk.list(dir).await?);
    for name in &contents.leftovers {
        disk.remove(&dir.join(name)).await?;
    }
    Ok(contents)
}

/// The content of a small file, if there is one.
pub(super) async fn read_small<D: Disk>(disk: &D, path: &Path) -> io::Result<Option<Bytes>> {
    match disk.open(path, Open::Read).await {
        Ok(file) => file.read_at(0, SMALL_MAX as usize).await.map(Some),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(error) => Err(error),
    }
}

fn failed(what: &str, path: &Path, error: &io::Error) -> Error {
    coded(&code::RELAY_WRITER_FILE_OPERATE, what, path, error)
}

fn coded(code: &'static Code, what: &str, path: &Path, error: &io::Error) -> Error {
    let message = format!("cannot {what} {}", path.display());
    Error::new(code, message).with_cause(error.to_string())
}

#[cfg(all(test, not(madsim)))]
impl<'a> Owner<'a> {
    /// A worker of a cluster.
    pub(super) fn new(source: &'a str, who: &'a str) -> Self {
        Self {
            source,
            who,
            may_empty: true,
        }
    }
}

#[cfg(all(test, not(madsim)))]
mod tests;
