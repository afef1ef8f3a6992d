//! A worker's machine: its files, on the simulated disk.

use std::{
    collections::BTreeSet,
    io,
    path::Path,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use bytes::Bytes;
use dm_core::relay::{Contents, SubDir};
use dm_runtime::ports::disk as ports;
use tokio::time::{Instant, sleep};

use super::{
    oracle::{files, purge::Watch, relay},
    trace::Trace,
};
use crate::{
    dice::Dice,
    disk::{Disk, Errno, Faults, Handle, Kind, Mode, Process, Timed},
};

/// So many times as fast as time goes its calendar: an hour in twenty seconds.
const DAYS: u32 = 180;

/// The disk of a machine, which outlives its processes.
#[derive(Clone)]
pub(super) struct Machine {
    disk: Arc<Mutex<Disk>>,
    /// When it was made: its clock counts from then.
    made: Instant,
    /// Files in which a bit flipped.
    rotten: Arc<Mutex<BTreeSet<String>>>,
    trace: Trace,
}

/// The disk as one process has it.
#[derive(Clone)]
pub(super) struct Files {
    machine: Machine,
    process: Process,
    /// Who looks at what it removes.
    watch: Option<Arc<Watch>>,
    /// Who looks at its dump files.
    dumps: Option<Arc<files::Watch>>,
}

/// A file that a process has open.
pub(super) struct File {
    machine: Machine,
    handle: Handle,
}

impl Machine {
    /// With an empty disk.
    pub(super) fn new(seed: u64, trace: &Trace) -> Self {
        Self {
            disk: Arc::new(Mutex::new(Disk::new(&Dice::new(seed)))),
            made: Instant::now(),
            rotten: Arc::default(),
            trace: trace.clone(),
        }
    }

    /// From now on this is wrong with it.
    pub(super) fn set_faults(&self, faults: Faults) {
        self.lock().set_faults(faults);
    }

    /// The power is cut.
    pub(super) fn crash(&self, dice: &mut Dice) {
        self.lock().crash(dice);
    }

    /// What a power cut leaves of a file for certain; nothing if its name may be lost.
    pub(super) fn durable(&self, path: &str) -> Option<Vec<u8>> {
        self.lock().durable(path).map(<[u8]>::to_vec)
    }

    /// The content of a file now.
    pub(super) fn seen(&self, path: &str) -> Option<Vec<u8>> {
        self.lock().seen(path).map(<[u8]>::to_vec)
    }

    /// The names in a directory now.
    pub(super) fn names(&self, path: &str) -> Vec<String> {
        self.lock().names(path)
    }

    /// For a process of it.
    pub(super) fn files(&self, process: u64) -> Files {
        Files {
            machine: self.clone(),
            process: Process(process),
            watch: None,
            dumps: None,
        }
    }

    /// A process is gone, and with it what it had open.
    pub(super) fn kill(&self, process: u64) {
        self.lock().kill(Process(process));
    }

    fn lock(&self) -> MutexGuard<'_, Disk> {
        self.disk.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The binlog files in a relay directory, by sub-directory.
    pub(super) fn relayed(&self) -> Vec<(SubDir, Vec<String>)> {
        let list = |path: &str| self.lock().list(path).result.unwrap_or_default();
        let contents = |path: &str| {
            let names = list(path).into_iter();
            Contents::of(names.map(|(name, kind)| (name, kind == Kind::Dir)))
        };
        let sub_dirs = contents(relay::DIR).sub_dirs.into_iter();
        let files = |sub_dir: &SubDir| contents(&format!("{}/{sub_dir}", relay::DIR)).files;
        sub_dirs.map(|dir| (dir.clone(), files(&dir))).collect()
    }

    /// Flips a bit of a binlog file that others follow, if there is one, and says in which.
    pub(super) fn rot(&self, dice: &mut Dice) -> Option<String> {
        /// A process that nobody else is.
        const NOBODY: Process = Process(u64::MAX);
        /// So many files of a server are young enough that somebody may yet read them.
        const RECENT: usize = 4;
        let complete = |(sub_dir, mut files): (SubDir, Vec<String>)| {
            files.pop();
            files.drain(..files.len().saturating_sub(RECENT));
            let path = move |file| format!("{}/{sub_dir}/{file}", relay::DIR);
            files.into_iter().map(path)
        };
        let paths: Vec<_> = self.relayed().into_iter().flat_map(complete).collect();
        if paths.is_empty() {
            return None;
        }
        let path = dice.pick(&paths).clone();
        let mut disk = self.lock();
        let (len, _) = disk.stat_file(&path).result.ok()?;
        let handle = disk.open(NOBODY, &path, Mode::Write).result.ok()?;
        let at = dice.within(0..len.max(1));
        let byte = disk.read_at(handle, at, 1).result.ok();
        let flipped = byte.map(|byte| byte.into_iter().map(|it| it ^ 1 << dice.within(0..8)));
        let flipped: Vec<u8> = flipped.into_iter().flatten().collect();
        let written = disk.write_at(handle, at, &flipped).result;
        let _ = disk.sync_data(handle).result;
        disk.close(handle);
        drop(disk);
        (written == Ok(1)).then(|| {
            self.trace.count("disk: flipped bit");
            self.rotted().insert(path.clone());
            path
        })
    }

    /// Whether a bit of a file flipped.
    pub(super) fn has_rot(&self, path: &str) -> bool {
        self.rotted().contains(path)
    }

    /// Whether a bit of any file in a sub-directory flipped.
    pub(super) fn is_rotten(&self, sub_dir: &SubDir) -> bool {
        let dir = format!("{}/{sub_dir}/", relay::DIR);
        self.rotted().iter().any(|path| path.starts_with(&dir))
    }

    fn rotted(&self) -> MutexGuard<'_, BTreeSet<String>> {
        self.rotten.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// What its calendar says: on it files grow old while a world goes on.
    pub(super) fn calendar(&self) -> Duration {
        self.made.elapsed() * DAYS
    }

    async fn call<T>(&self, call: impl FnOnce(&mut Disk) -> Timed<T>) -> io::Result<T> {
        let Timed { cost, result } = {
            let mut disk = self.lock();
            disk.set_now(self.calendar());
            call(&mut disk)
        };
        sleep(cost).await;
        result.map_err(|error| {
            match error {
                Errno::Io => self.trace.count("disk: failed"),
                Errno::NoSpace => self.trace.count("disk: full"),
                _ => {}
            }
            io::Error::from_raw_os_error(error.code())
        })
    }
}

impl Files {
    /// Lets somebody look at each file that is removed by way of this.
    pub(super) fn watched(mut self, watch: Watch) -> Self {
        self.watch = Some(Arc::new(watch));
        self
    }

    /// Lets somebody look at dump files that are made by way of this.
    pub(super) fn dumping(mut self, watch: files::Watch) -> Self {
        self.dumps = Some(Arc::new(watch));
        self
    }
}

/// Paths begin at the root of the machine, whatever they look like.
fn text(path: &Path) -> String {
    let text = path.to_string_lossy();
    let text = text.trim_end_matches('/');
    match text.starts_with('/') {
        true => text.to_owned(),
        false => format!("/{text}"),
    }
}

impl ports::Disk for Files {
    type File = File;

    async fn create_dir(&self, path: &Path) -> io::Result<()> {
        let path = text(path);
        for (end, _) in path.match_indices('/').skip(1).chain([(path.len(), "")]) {
            let made = self
                .machine
                .call(|disk| disk.create_dir(&path[..end]))
                .await;
            match made {
                Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {}
                other => other?,
            }
        }
        Ok(())
    }

    async fn list(&self, path: &Path) -> io::Result<Vec<(String, bool)>> {
        let path = text(path);
        let found = self.machine.call(|disk| disk.list(&path)).await?;
        let found = found.into_iter();
        Ok(found
            .map(|(name, kind)| (name, kind == Kind::Dir))
            .collect())
    }

    async fn open(&self, path: &Path, how: ports::Open) -> io::Result<File> {
        let (path, process) = (text(path), self.process);
        let mode = match how {
            ports::Open::Read => Mode::Read,
            ports::Open::Append => Mode::Write,
            ports::Open::CreateNew => Mode::CreateNew,
            ports::Open::Replace => Mode::Create,
        };
        let machine = self.machine.clone();
        let handle = machine.call(|disk| disk.open(process, &path, mode)).await?;
        let file = File { machine, handle };
        if how == ports::Open::Replace {
            file.call(|disk| disk.set_len(handle, 0)).await?;
        }
        Ok(file)
    }

    async fn rename(&self, from: &Path, to: &Path) -> io::Result<()> {
        let (from, to) = (text(from), text(to));
        self.machine.call(|disk| disk.rename(&from, &to)).await?;
        if let Some(watch) = &self.dumps {
            watch.renamed(&to);
        }
        Ok(())
    }

    async fn remove(&self, path: &Path) -> io::Result<()> {
        let path = text(path);
        if let Some(watch) = &self.watch {
            watch.removes(&path);
        }
        if let Some(watch) = &self.dumps {
            watch.removes(&path);
        }
        self.machine.call(|disk| disk.remove(&path)).await?;
        if let Some(watch) = &self.dumps {
            watch.removed(&path);
        }
        Ok(())
    }

    async fn remove_dir(&self, path: &Path) -> io::Result<()> {
        let path = text(path);
        self.machine.call(|disk| disk.remove_dir(&path)).await
    }

    async fn stat(&self, path: &Path) -> io::Result<ports::Stat> {
        let path = text(path);
        let (bytes, modified) = self.machine.call(|disk| disk.stat_file(&path)).await?;
        Ok(ports::Stat { bytes, modified })
    }

    async fn space(&self, _: &Path) -> io::Result<ports::Space> {
        let disk = self.machine.lock();
        Ok(ports::Space {
            capacity: disk.capacity(),
            available: disk.free(),
        })
    }

    fn now(&self) -> Duration {
        self.machine.calendar()
    }

    async fn sync_dir(&self, path: &Path) -> io::Result<()> {
        let path = text(path);
        self.machine.call(|disk| disk.sync_dir(&path)).await?;
        if let Some(watch) = &self.dumps {
            watch.synced(&path);
        }
        Ok(())
    }
}

impl File {
    async fn call<T>(&self, call: impl FnOnce(&mut Disk) -> Timed<T>) -> io::Result<T> {
        self.machine.call(call).await
    }
}

impl Drop for File {
    fn drop(&mut self) {
        self.machine.lock().close(self.handle);
    }
}

impl ports::File for File {
    async fn append(&mut self, data: Bytes) -> io::Result<()> {
        let mut rest = &data[..];
        while !rest.is_empty() {
            let written = self.call(|disk| disk.append(self.handle, rest)).await?;
            rest = &rest[written..];
        }
        Ok(())
    }

    async fn read_at(&self, at: u64, len: usize) -> io::Result<Bytes> {
        let mut read = Vec::new();
        while read.len() < len {
            let (from, left) = (at + read.len() as u64, len - read.len());
            let more = self.call(|disk| disk.read_at(self.handle, from, left));
            let more = more.await?;
            if more.is_empty() {
                break;
            }
            read.extend_from_slice(&more);
        }
        Ok(read.into())
    }

    async fn set_len(&mut self, len: u64) -> io::Result<()> {
        self.call(|disk| disk.set_len(self.handle, len)).await
    }

    async fn sync(&mut self) -> io::Result<()> {
        self.call(|disk| disk.sync_data(self.handle)).await
    }

    async fn forget(&self) -> io::Result<()> {
        self.call(|disk| disk.forget(self.handle)).await
    }

    async fn lock(&self) -> io::Result<bool> {
        let locked = self.call(|disk| disk.lock(self.handle)).await;
        match locked {
            Err(error) if error.raw_os_error() == Some(Errno::Locked.code()) => Ok(false),
            other => other.map(|()| true),
        }
    }
}
