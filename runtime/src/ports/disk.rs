//! The door to files, which a relay log needs.

use std::{future::Future, io, path::Path, time::Duration};

use bytes::Bytes;

/// A machine's files. What it says is done survives the process; what survives a power cut is said
/// at [`File::sync`] and [`sync_dir`](Self::sync_dir), and at nothing else.
pub trait Disk: Clone + Send + Sync + 'static {
    /// An open file.
    type File: File;

    /// Makes a directory, with all that lead to it; one that is there is fine.
    ///
    /// # Errors
    /// As all of these: the operating system's.
    fn create_dir(&self, path: &Path) -> impl Future<Output = io::Result<()>> + Send;

    /// The names in a directory, in no order, each with whether it is a directory's.
    fn list(&self, path: &Path) -> impl Future<Output = io::Result<Vec<(String, bool)>>> + Send;

    /// Opens a file.
    fn open(&self, path: &Path, how: Open) -> impl Future<Output = io::Result<Self::File>> + Send;

    /// Gives a file another name in its directory, in the place of what has that name.
    fn rename(&self, from: &Path, to: &Path) -> impl Future<Output = io::Result<()>> + Send;

    /// Removes a file.
    fn remove(&self, path: &Path) -> impl Future<Output = io::Result<()>> + Send;

    /// Removes a directory that is empty.
    fn remove_dir(&self, path: &Path) -> impl Future<Output = io::Result<()>> + Send;

    /// Looks at a file.
    fn stat(&self, path: &Path) -> impl Future<Output = io::Result<Stat>> + Send;

    /// Looks at the file system that something is on.
    fn space(&self, path: &Path) -> impl Future<Output = io::Result<Space>> + Send;

    /// The time that files are stamped with now, since 1970.
    fn now(&self) -> Duration;

    /// Makes the names in a directory survive.
    fn sync_dir(&self, path: &Path) -> impl Future<Output = io::Result<()>> + Send;
}

/// An open file.
pub trait File: Send + Sync + 'static {
    /// Writes at the end.
    ///
    /// # Errors
    /// As all of these: the operating system's. A part may be written then.
    fn append(&mut self, data: Bytes) -> impl Future<Output = io::Result<()>> + Send;

    /// Reads at an offset: less than asked for only at the end.
    fn read_at(&self, at: u64, len: usize) -> impl Future<Output = io::Result<Bytes>> + Send;

    /// Cuts it.
    fn set_len(&mut self, len: u64) -> impl Future<Output = io::Result<()>> + Send;

    /// Makes content and length survive.
    fn sync(&mut self) -> impl Future<Output = io::Result<()>> + Send;

    /// Makes what is read next come from the device, as far as it is synced: where a sync has
    /// failed, memory has content that it will never write.
    fn forget(&self) -> impl Future<Output = io::Result<()>> + Send;

    /// Locks it against everybody else who asks, for as long as it is open. Returns whether that
    /// worked; it does not wait.
    fn lock(&self) -> impl Future<Output = io::Result<bool>> + Send;
}

/// What is known of a file.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Stat {
    /// Its size.
    pub bytes: u64,
    /// When its content was changed last, since 1970.
    pub modified: Duration,
}

/// The size of a file system, in bytes.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Space {
    /// All of it.
    pub capacity: u64,
    /// What this process may still write.
    pub available: u64,
}

/// What a file is opened for.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Open {
    /// To be read.
    Read,
    /// To be read, cut and written at its end; it must be there.
    Append,
    /// The same, and it must not be there.
    CreateNew,
    /// The same, and it is empty from now on, whether it was there or not.
    Replace,
}
