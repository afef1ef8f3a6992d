//! A simulated file system: what a process, and a power cut, sees of a POSIX one on Linux.
//!
//! [`Disk`] is all of one machine. It has no clock and no threads: it is asked, and answers with
//! how long that took. What everybody sees (the page cache) and what is durable are two things;
//! [`Disk::kill`] loses nothing, and [`Disk::crash`] all that was not synced, or a part of it.
//!
//! What holds, and whence:
//!
//! - A write is seen by every reader at once, whoever dies (POSIX `write`; the cache is the
//!   kernel's).
//! - After `sync_file` content and size survive (POSIX `fsync`). After `sync_data` as well: what
//!   it may leave out are times, not the size (POSIX `fdatasync`).
//! - Without it each sector is as it was after any of the changes since the last sync, neighbours
//!   and other files after others (writeback knows no order). A sector of 512 bytes is not torn
//!   (what devices promise).
//! - A size may survive without the data: there are zeros or old blocks then (ext4 with
//!   `data=writeback`; ext4 otherwise, and xfs, have shorter files or zeros).
//! - A name survives for certain only after `sync_dir` of its directory (POSIX says no more). ext4
//!   and xfs are kinder: fsync of a new file commits its name as well, and all names before it.
//! - Of changes of names in one directory a prefix survives (metadata are journaled), in each
//!   directory another one (ext4 and xfs are kinder: there is one journal).
//! - `rename` replaces atomically, for readers and for power cuts (POSIX; one transaction of the
//!   journal), but brings no data along (ext4 is kinder where it replaces: `auto_da_alloc`).
//! - A sync that fails is the last that tells: the pages count as clean, the next one succeeds, and
//!   the data are lost (Linux; every handle that was open is told once, since 4.13). Until the
//!   pages are dropped they may be read as if nothing had happened (`POSIX_FADV_DONTNEED` drops
//!   those that are clean).
//! - A sync of a directory that fails has not happened; the next one tells the truth (journals
//!   keep what they could not write, or the file system goes read-only).
//! - What is removed can be used by whoever has it open (POSIX `unlink`), and may come back when
//!   the power is cut before `sync_dir`.
//! - A lock is of a handle, and goes with it (`flock`).
//! - A full disk takes the part of a write that fits, in whole blocks (POSIX `write`).
//!
//! It has no links, no renames between directories, and no sparse files: holes take space.
//!
//! Its memory is bounded by the capacity (twice), a megabyte of unsynced changes of each file, and
//! some of what was removed: what is more than that becomes durable without having been synced, as
//! it does when a kernel has waited for long enough.

mod dir;
mod errno;
mod faults;
mod file;
mod torn;
mod tree;

pub use errno::Errno;
pub use faults::{Failing, Faults, Timed};

use std::{collections::BTreeMap, time::Duration};

use crate::dice::Dice;
use dir::Dir;
use faults::{Class, Device};
use file::{File, PAGE};
use tree::{Node, Tree, blocks};

type Result<T> = std::result::Result<T, Errno>;

/// All directories and files of one machine. Paths begin at its root, `/`.
#[derive(Clone, Debug)]
pub struct Disk {
    tree: Tree,
    open: BTreeMap<u64, Open>,
    /// How many handles there have been; none comes twice.
    handles: u64,
    device: Device,
    /// What files are stamped with that are written to.
    now: Duration,
}

/// A process of the machine, which has handles.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Process(pub u64);

/// An open file or directory. It stays valid when that is renamed or removed.
#[derive(Clone, Copy, Debug, Eq, Ord, PartialEq, PartialOrd)]
pub struct Handle(u64);

/// How something is opened.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Mode {
    /// To read what is there, which may be a directory.
    Read,
    /// To read and write what is there.
    Write,
    /// To read and write what is there, or a new file.
    Create,
    /// To read and write a file that was not there.
    CreateNew,
}

/// What is behind a name.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Kind {
    /// A file of so many bytes.
    File(u64),
    /// A directory.
    Dir,
}

#[derive(Clone, Debug)]
struct Open {
    node: u64,
    process: Process,
    write: bool,
    locked: bool,
    /// How many failed syncs of the file it knows of.
    failures: u64,
}

impl Disk {
    /// An empty disk that works. The dice decide costs, and which operations the faults hit.
    #[must_use]
    pub fn new(dice: &Dice) -> Self {
        Self {
            tree: Tree::default(),
            open: BTreeMap::new(),
            handles: 0,
            device: Device::new(dice),
            now: Duration::ZERO,
        }
    }

    /// From now on this is wrong with it, and nothing else.
    pub fn set_faults(&mut self, faults: Faults) {
        self.device.set(faults);
    }

    /// What time it is from now on, since 1970.
    pub const fn set_now(&mut self, now: Duration) {
        self.now = now;
    }

    /// All bytes that there are.
    #[must_use]
    pub const fn capacity(&self) -> u64 {
        self.device.capacity()
    }

    /// The bytes that are free, in whole blocks.
    #[must_use]
    pub fn free(&self) -> u64 {
        let used = self.tree.used(&self.nodes_open());
        self.device.capacity().saturating_sub(used)
    }

    /// A process dies, and the machine lives: its handles and locks are gone, and nothing else.
    pub fn kill(&mut self, process: Process) {
        self.open.retain(|_, open| open.process != process);
        self.collect();
    }

    /// The power is cut, and comes back: all processes are dead, and of what was not synced there
    /// is what the dice leave. The faults stay.
    pub fn crash(&mut self, dice: &mut Dice) {
        self.open.clear();
        let written = self.tree.nodes.values().filter_map(|node| match node {
            Node::File(file) if !file.durable().is_empty() => Some(file.durable()),
            _ => None,
        });
        let written: Vec<_> = written.collect();
        let stale = if written.is_empty() {
            Vec::new()
        } else {
            dice.pick(&written).to_vec()
        };
        for node in self.tree.nodes.values_mut() {
            match node {
                Node::File(file) => file.crash(dice, &stale),
                Node::Dir(dir) => dir.crash(dice),
            }
        }
        self.collect();
    }

    /// The content that a file has after a power cut for certain; nothing if it may lose its name.
    #[must_use]
    pub fn durable(&self, path: &str) -> Option<&[u8]> {
        self.tree.durable(path)
    }

    /// The content that a file has now. Takes no time, and nothing keeps anybody from it.
    #[must_use]
    pub fn seen(&self, path: &str) -> Option<&[u8]> {
        let node = self.tree.resolve(path).ok()?;
        match &self.tree[node] {
            Node::File(file) => Some(file.seen()),
            Node::Dir(_) => None,
        }
    }

    /// The names in a directory now; none if there is no such directory. As [`Self::seen`].
    #[must_use]
    pub fn names(&self, path: &str) -> Vec<String> {
        let dir = self.tree.resolve(path);
        let dir = dir.and_then(|node| self.tree.dir(node));
        dir.map_or_else(
            |_| Vec::new(),
            |dir| dir.entries().keys().cloned().collect(),
        )
    }

    /// Makes a directory.
    pub fn create_dir(&mut self, path: &str) -> Timed<()> {
        self.timed(Class::Write, |disk| {
            if disk.tree.resolve(path).is_ok() {
                return Err(Errno::AlreadyExists);
            }
            disk.create(path, Node::Dir(Dir::default()))?;
            Ok(())
        })
    }

    /// Opens a file or directory.
    pub fn open(&mut self, process: Process, path: &str, mode: Mode) -> Timed<Handle> {
        let write = mode != Mode::Read;
        let class = if write { Class::Write } else { Class::Read };
        self.timed(class, |disk| {
            let node = match (disk.tree.resolve(path), mode) {
                (Ok(_), Mode::CreateNew) => return Err(Errno::AlreadyExists),
                (Err(Errno::NotFound), Mode::Create | Mode::CreateNew) => {
                    disk.create(path, Node::File(File::new(disk.now)))?
                }
                (found, _) => found?,
            };
            let failures = match &disk.tree[node] {
                Node::Dir(_) if write => return Err(Errno::IsADirectory),
                Node::Dir(_) => 0,
                Node::File(file) => file.failures(),
            };
            disk.handles += 1;
            let handle = disk.handles;
            let open = Open {
                node,
                process,
                write,
                locked: false,
                failures,
            };
            disk.open.insert(handle, open);
            Ok(Handle(handle))
        })
    }

    /// Closes a handle, which frees its lock. It syncs nothing.
    pub fn close(&mut self, handle: Handle) {
        self.open.remove(&handle.0);
        self.collect();
    }

    /// Locks what is open for this handle alone, if nobody else has.
    pub fn lock(&mut self, handle: Handle) -> Timed<()> {
        self.timed(Class::Cached, |disk| {
            let node = disk.opened(handle)?.node;
            let mut others = disk.open.iter().filter(|(other, _)| **other != handle.0);
            if others.any(|(_, open)| open.node == node && open.locked) {
                return Err(Errno::Locked);
            }
            if let Some(open) = disk.open.get_mut(&handle.0) {
                open.locked = true;
            }
            Ok(())
        })
    }

    /// Writes at the end, and tells how many bytes were taken, which may be fewer.
    pub fn append(&mut self, handle: Handle, data: &[u8]) -> Timed<usize> {
        self.timed(Class::Write, |disk| {
            let at = disk.file(handle)?.len();
            disk.write(handle, at, data)
        })
    }

    /// Writes somewhere, and tells how many bytes were taken, which may be fewer.
    pub fn write_at(&mut self, handle: Handle, at: u64, data: &[u8]) -> Timed<usize> {
        self.timed(Class::Write, |disk| disk.write(handle, at, data))
    }

    /// Cuts a file, or lets it grow with zeros.
    pub fn set_len(&mut self, handle: Handle, len: u64) -> Timed<()> {
        self.timed(Class::Write, |disk| {
            let now = disk.file(handle)?.len();
            if len > now && len > disk.limit(now) {
                return Err(Errno::NoSpace);
            }
            disk.writable(handle)?.resize(len as usize);
            Ok(())
        })
    }

    /// Reads up to so many bytes; none are only at the end.
    pub fn read_at(&mut self, handle: Handle, at: u64, len: usize) -> Timed<Vec<u8>> {
        self.timed(Class::Read, |disk| {
            let size = disk.file(handle)?.seen().len();
            let at = usize::try_from(at).map_or(size, |at| at.min(size));
            let part = disk.device.part(len.min(size - at));
            Ok(disk.file(handle)?.seen()[at..at + part].to_vec())
        })
    }

    /// The size of an open file.
    pub fn len(&mut self, handle: Handle) -> Timed<u64> {
        self.timed(Class::Cached, |disk| Ok(disk.file(handle)?.len()))
    }

    /// What is behind a path.
    pub fn stat(&mut self, path: &str) -> Timed<Kind> {
        self.timed(Class::Read, |disk| {
            let node = disk.tree.resolve(path)?;
            Ok(disk.tree[node].kind())
        })
    }

    /// The size of a file, and when its content was changed last, since 1970.
    pub fn stat_file(&mut self, path: &str) -> Timed<(u64, Duration)> {
        self.timed(Class::Read, |disk| {
            let node = disk.tree.resolve(path)?;
            match &disk.tree[node] {
                Node::File(file) => Ok((file.len(), file.modified())),
                Node::Dir(_) => Err(Errno::IsADirectory),
            }
        })
    }

    /// All entries of a directory, by name.
    pub fn list(&mut self, path: &str) -> Timed<Vec<(String, Kind)>> {
        self.timed(Class::Read, |disk| {
            let node = disk.tree.resolve(path)?;
            let entries = disk.tree.dir(node)?.entries().iter();
            let entries = entries.map(|(name, node)| (name.clone(), disk.tree[*node].kind()));
            Ok(entries.collect())
        })
    }

    /// Gives another name in the same directory, in place of what had it.
    pub fn rename(&mut self, from: &str, to: &str) -> Timed<()> {
        self.timed(Class::Write, |disk| {
            let (parent, old) = disk.tree.parent(from)?;
            let (other, new) = disk.tree.parent(to)?;
            if parent != other {
                return Err(Errno::CrossDevice);
            }
            let moved = disk.tree.resolve(from)?;
            if let Ok(replaced) = disk.tree.resolve(to) {
                match (&disk.tree[moved], &disk.tree[replaced]) {
                    _ if moved == replaced => return Ok(()),
                    (Node::File(_), Node::File(_)) => {}
                    (Node::File(_), Node::Dir(_)) => return Err(Errno::IsADirectory),
                    (Node::Dir(_), Node::File(_)) => return Err(Errno::NotADirectory),
                    (Node::Dir(_), Node::Dir(dir)) if dir.entries().is_empty() => {}
                    (Node::Dir(_), Node::Dir(_)) => return Err(Errno::NotEmpty),
                }
            }
            disk.tree.dir_mut(parent)?.rename(old, new);
            disk.collect();
            Ok(())
        })
    }

    /// Removes a file.
    pub fn remove(&mut self, path: &str) -> Timed<()> {
        self.timed(Class::Write, |disk| {
            let (parent, name) = disk.tree.parent(path)?;
            let node = disk.tree.resolve(path)?;
            if matches!(disk.tree[node], Node::Dir(_)) {
                return Err(Errno::IsADirectory);
            }
            disk.tree.dir_mut(parent)?.remove(name);
            disk.collect();
            Ok(())
        })
    }

    /// Removes an empty directory.
    pub fn remove_dir(&mut self, path: &str) -> Timed<()> {
        self.timed(Class::Write, |disk| {
            let (parent, name) = disk.tree.parent(path)?;
            let node = disk.tree.resolve(path)?;
            if !disk.tree.dir(node)?.entries().is_empty() {
                return Err(Errno::NotEmpty);
            }
            disk.tree.dir_mut(parent)?.remove(name);
            disk.collect();
            Ok(())
        })
    }

    /// Makes content and size durable, or the names of an open directory.
    pub fn sync_file(&mut self, handle: Handle) -> Timed<()> {
        self.sync(handle, Class::Sync)
    }

    /// As [`Self::sync_file`], for less time.
    pub fn sync_data(&mut self, handle: Handle) -> Timed<()> {
        self.sync(handle, Class::SyncData)
    }

    /// Drops what memory has of a file and need not write: what is read next is what is on the
    /// device.
    pub fn forget(&mut self, handle: Handle) -> Timed<()> {
        self.timed(Class::Cached, |disk| {
            let node = disk.opened(handle)?.node;
            match disk.tree.nodes.get_mut(&node) {
                Some(Node::File(file)) => file.forget(),
                Some(Node::Dir(_)) => return Err(Errno::IsADirectory),
                None => return Err(Errno::BadHandle),
            }
            Ok(())
        })
    }

    /// Makes the names in a directory durable, and nothing of what they name.
    pub fn sync_dir(&mut self, path: &str) -> Timed<()> {
        self.timed(Class::Sync, |disk| {
            let node = disk.tree.resolve(path)?;
            disk.tree.dir_mut(node)?.commit();
            disk.collect();
            Ok(())
        })
    }

    fn timed<T>(&mut self, class: Class, op: impl FnOnce(&mut Self) -> Result<T>) -> Timed<T> {
        let cost = self.device.cost(class);
        let result = self.device.admit(class).and_then(|()| op(self));
        Timed { cost, result }
    }

    fn sync(&mut self, handle: Handle, class: Class) -> Timed<()> {
        let cost = self.device.cost(class);
        let result = self.device.admit(class);
        let result = self.sync_open(handle, result);
        self.collect();
        Timed { cost, result }
    }

    fn sync_open(&mut self, handle: Handle, admitted: Result<()>) -> Result<()> {
        let open = self.open.get_mut(&handle.0).ok_or(Errno::BadHandle)?;
        let file = match self.tree.nodes.get_mut(&open.node) {
            Some(Node::File(file)) => file,
            Some(Node::Dir(dir)) => {
                admitted?;
                dir.commit();
                return Ok(());
            }
            None => return Err(Errno::BadHandle),
        };
        match admitted {
            Ok(()) => file.sync(),
            Err(Errno::Io) => file.fail(&mut self.device.dice),
            Err(other) => return Err(other),
        }
        let known = std::mem::replace(&mut open.failures, file.failures());
        if known < file.failures() {
            return Err(Errno::Io);
        }
        Ok(())
    }

    fn write(&mut self, handle: Handle, at: u64, data: &[u8]) -> Result<usize> {
        let now = self.file(handle)?.len();
        self.writable(handle)?;
        if data.is_empty() {
            return Ok(0);
        }
        let fits = self.limit(now).saturating_sub(at);
        let fits = data.len().min(usize::try_from(fits).unwrap_or(usize::MAX));
        if fits == 0 {
            return Err(Errno::NoSpace);
        }
        let taken = self.device.part(fits);
        self.writable(handle)?.write(at as usize, &data[..taken]);
        Ok(taken)
    }

    fn create(&mut self, path: &str, node: Node) -> Result<u64> {
        // A directory takes a block, and so does a file as soon as it has content.
        let (parent, name) = self.tree.parent(path)?;
        if self.free() < PAGE as u64 {
            return Err(Errno::NoSpace);
        }
        self.tree.create(parent, name, node)
    }

    /// Forgets what nobody can reach any more, not even after a power cut.
    fn collect(&mut self) {
        let open = self.nodes_open();
        self.tree.collect(&open);
    }

    fn nodes_open(&self) -> Vec<u64> {
        self.open.values().map(|open| open.node).collect()
    }

    /// How long a file of so many bytes may become: its blocks and all that are free.
    fn limit(&self, len: u64) -> u64 {
        blocks(len) + self.free() / PAGE as u64 * PAGE as u64
    }

    fn opened(&self, handle: Handle) -> Result<&Open> {
        self.open.get(&handle.0).ok_or(Errno::BadHandle)
    }

    fn file(&self, handle: Handle) -> Result<&File> {
        match self.tree.nodes.get(&self.opened(handle)?.node) {
            Some(Node::File(file)) => Ok(file),
            Some(Node::Dir(_)) => Err(Errno::IsADirectory),
            None => Err(Errno::BadHandle),
        }
    }

    /// A file of which the content is about to change.
    fn writable(&mut self, handle: Handle) -> Result<&mut File> {
        let open = self.opened(handle)?;
        let node = open.node;
        match (open.write, self.tree.nodes.get_mut(&node)) {
            (true, Some(Node::File(file))) => {
                file.touch(self.now);
                Ok(file)
            }
            _ => Err(Errno::BadHandle),
        }
    }
}

/// How many of so many happened: none, all, or any number of them.
fn any_of(dice: &mut Dice, all: usize) -> usize {
    match dice.within(0..3) {
        0 => 0,
        1 => all,
        _ => dice.within(0..all as u64 + 1) as usize,
    }
}

#[cfg(test)]
mod tests;
