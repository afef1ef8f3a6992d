//! The files of this machine.

use std::{
    fs::{self, DirBuilder, OpenOptions, TryLockError},
    io::{self, Write},
    os::unix::fs::{DirBuilderExt, FileExt, OpenOptionsExt},
    path::{Path, PathBuf},
    sync::Arc,
    time::{Duration, UNIX_EPOCH},
};

use bytes::Bytes;
use rustix::fs::Advice;
use tokio::task::spawn_blocking;

use crate::{
    ports::disk::{Disk, File, Open, Space, Stat},
    status::unix_now,
};

/// The rights of relay directories and binlog files, as the existing worker has them.
const DIR_MODE: u32 = 0o744;
const FILE_MODE: u32 = 0o600;

/// The operating system's file systems.
#[derive(Clone, Copy, Debug, Default)]
pub struct LocalDisk;

/// An open file of it.
#[derive(Debug)]
pub struct LocalFile(Arc<fs::File>);

/// Calls that may take long do so on a thread of their own.
async fn blocking<T: Send + 'static>(
    call: impl FnOnce() -> io::Result<T> + Send + 'static,
) -> io::Result<T> {
    spawn_blocking(call).await.map_err(io::Error::other)?
}

/// The names in a directory, each with whether it, or what it is a link to, is a directory. One
/// that leads nowhere is seen when it is read.
pub(crate) fn names(path: &Path) -> io::Result<Vec<(String, bool)>> {
    let names = fs::read_dir(path)?.map(|entry| {
        let entry = entry?;
        let is_dir = fs::metadata(entry.path()).is_ok_and(|found| found.is_dir());
        Ok((entry.file_name().to_string_lossy().into_owned(), is_dir))
    });
    names.collect()
}

async fn at<T: Send + 'static>(
    path: &Path,
    call: impl FnOnce(PathBuf) -> io::Result<T> + Send + 'static,
) -> io::Result<T> {
    let path = path.to_owned();
    blocking(move || call(path)).await
}

impl Disk for LocalDisk {
    type File = LocalFile;

    async fn create_dir(&self, path: &Path) -> io::Result<()> {
        let create = |path| {
            DirBuilder::new()
                .recursive(true)
                .mode(DIR_MODE)
                .create(path)
        };
        at(path, create).await
    }

    async fn list(&self, path: &Path) -> io::Result<Vec<(String, bool)>> {
        at(path, |path| names(&path)).await
    }

    async fn open(&self, path: &Path, how: Open) -> io::Result<LocalFile> {
        let open = move |path| {
            let mut options = OpenOptions::new();
            options.read(true).mode(FILE_MODE);
            match how {
                Open::Read => {}
                Open::Append => drop(options.append(true)),
                Open::CreateNew => drop(options.append(true).create_new(true)),
                // Appending and emptying at once is refused by the standard library.
                Open::Replace => drop(options.write(true).create(true).truncate(true)),
            }
            Ok(LocalFile(Arc::new(options.open(path)?)))
        };
        at(path, open).await
    }

    async fn rename(&self, from: &Path, to: &Path) -> io::Result<()> {
        let to = to.to_owned();
        at(from, move |from| fs::rename(from, to)).await
    }

    async fn remove(&self, path: &Path) -> io::Result<()> {
        at(path, fs::remove_file).await
    }

    async fn remove_dir(&self, path: &Path) -> io::Result<()> {
        at(path, fs::remove_dir).await
    }

    async fn stat(&self, path: &Path) -> io::Result<Stat> {
        let stat = |path| {
            let found = fs::metadata(path)?;
            // What is older than that is old enough.
            let modified = found.modified()?.duration_since(UNIX_EPOCH);
            Ok(Stat {
                bytes: found.len(),
                modified: modified.unwrap_or_default(),
            })
        };
        at(path, stat).await
    }

    async fn space(&self, path: &Path) -> io::Result<Space> {
        let space = |path| {
            let found = rustix::fs::statvfs(&path)?;
            Ok(Space {
                capacity: found.f_blocks.saturating_mul(found.f_frsize),
                available: found.f_bavail.saturating_mul(found.f_frsize),
            })
        };
        at(path, space).await
    }

    fn now(&self) -> Duration {
        unix_now()
    }

    async fn sync_dir(&self, path: &Path) -> io::Result<()> {
        at(path, |path| fs::File::open(path)?.sync_all()).await
    }
}

impl LocalFile {
    async fn with<T: Send + 'static>(
        &self,
        call: impl FnOnce(&fs::File) -> io::Result<T> + Send + 'static,
    ) -> io::Result<T> {
        let file = Arc::clone(&self.0);
        blocking(move || call(&file)).await
    }
}

impl File for LocalFile {
    async fn append(&mut self, data: Bytes) -> io::Result<()> {
        self.with(move |mut file| file.write_all(&data)).await
    }

    async fn read_at(&self, offset: u64, len: usize) -> io::Result<Bytes> {
        let read = move |file: &fs::File| {
            let mut data = vec![0; len];
            let mut filled = 0;
            while filled < len {
                match file.read_at(&mut data[filled..], offset + filled as u64) {
                    Ok(0) => break,
                    Ok(more) => filled += more,
                    Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                    Err(error) => return Err(error),
                }
            }
            data.truncate(filled);
            Ok(data.into())
        };
        self.with(read).await
    }

    async fn set_len(&mut self, len: u64) -> io::Result<()> {
        self.with(move |file| file.set_len(len)).await
    }

    async fn sync(&mut self) -> io::Result<()> {
        self.with(fs::File::sync_data).await
    }

    async fn forget(&self) -> io::Result<()> {
        let all = |file: &fs::File| rustix::fs::fadvise(file, 0, None, Advice::DontNeed);
        self.with(move |file| Ok(all(file)?)).await
    }

    async fn lock(&self) -> io::Result<bool> {
        match self.0.try_lock() {
            Ok(()) => Ok(true),
            Err(TryLockError::WouldBlock) => Ok(false),
            Err(TryLockError::Error(error)) => Err(error),
        }
    }
}
