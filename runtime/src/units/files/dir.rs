//! A directory of dump files.

use std::{
    collections::BTreeMap,
    io::{self, ErrorKind},
    path::{Path, PathBuf},
    time::Duration,
};

use bytes::Bytes;
use dm_core::{
    binlog::Flavor,
    error::{Error, Result, code},
    full::{Compression, DumpFile, METADATA_FILE, Metadata, Preamble, rest_of},
    guard::Guard,
    sync::{
        ddl::{Context, Statement, classify},
        schema::TableName,
    },
};

use tokio::time::sleep;

use super::statements::{Statements, unreadable};
use crate::ports::disk::{Disk, File, Open};

/// What `metadata` is called as long as a dump is not complete; mydumper does the same.
const PARTIAL: &str = "metadata.partial";
/// What it is called until it is written to its end.
const NEW: &str = "metadata.new";
/// So often it is tried to be the one who dumps: who was it before may need a moment to end.
const ATTEMPTS: u32 = 10;
const PAUSE: Duration = Duration::from_millis(500);
/// So much of it is read.
const METADATA_BYTES_MAX: usize = 16 << 20;

/// A directory of dump files.
#[derive(Clone, Debug)]
pub(super) struct DumpDir<D> {
    pub(super) disk: D,
    pub(super) path: PathBuf,
}

/// What a directory has.
#[derive(Debug, Default)]
pub(super) struct Contents {
    pub(super) schemas: BTreeMap<String, Packed>,
    pub(super) tables: BTreeMap<TableName, TableFiles>,
    pub(super) views: BTreeMap<TableName, Packed>,
    /// Names of files that are not loaded, and what is in them.
    pub(super) others: Vec<(String, &'static str)>,
}

/// What there is of a table.
#[derive(Debug, Default)]
pub(super) struct TableFiles {
    pub(super) definition: Option<Packed>,
    /// In the order in which they are loaded.
    pub(super) data: Vec<Packed>,
}

/// A file.
#[derive(Clone, Debug)]
pub(super) struct Packed {
    /// Which of its table's files it is.
    index: u64,
    pub(super) name: String,
    /// Its size on the disk.
    pub(super) bytes: u64,
    compression: Compression,
}

impl Packed {
    /// How many of its bytes on the disk lie before a place of its text. Nothing of a compressed
    /// one: only who reads it again knows that.
    pub(super) fn bytes_before(&self, at: u64) -> u64 {
        match self.compression {
            Compression::None => at.min(self.bytes),
            Compression::Gzip | Compression::Zstd | Compression::Snappy => 0,
        }
    }

    /// Its name without what says how it is packed.
    fn plain_name(&self) -> &str {
        let end = self.name.rfind(".sql").unwrap_or(self.name.len());
        &self.name[..end]
    }
}

/// A dump on its way into a directory.
pub(super) struct Dumping<F> {
    metadata: Metadata,
    /// As long as it is open, nobody else can begin a dump there.
    _lock: F,
}

/// The task and the source that a dump is made for.
pub(super) type Owner = (String, String);

impl<D: Disk> DumpDir<D> {
    /// What is there, data files with their sizes.
    ///
    /// # Errors
    /// 11001: it is unclear of what a file is. 34019: the directory can't be read.
    pub(super) async fn contents(&self) -> Result<Contents> {
        let mut found = Contents::default();
        for (name, _) in self.list().await? {
            let Some((file, compression)) = DumpFile::parse(&name)? else {
                continue;
            };
            let mut packed = Packed {
                index: 0,
                bytes: 0,
                compression,
                name,
            };
            match file {
                DumpFile::Metadata => {}
                DumpFile::Schema { schema } => drop(found.schemas.insert(schema, packed)),
                DumpFile::Table { schema, table } => {
                    let table = found.tables.entry(TableName::new(schema, table));
                    table.or_default().definition = Some(packed);
                }
                DumpFile::View { schema, view } => {
                    found.views.insert(TableName::new(schema, view), packed);
                }
                DumpFile::Data {
                    schema,
                    table,
                    index,
                } => {
                    let path = self.path.join(&packed.name);
                    let stat = self.disk.stat(&path).await;
                    packed.bytes = stat
                        .map_err(|error| unreadable(&packed.name, &error))?
                        .bytes;
                    packed.index = index;
                    let table = found.tables.entry(TableName::new(schema, table));
                    table.or_default().data.push(packed);
                }
                DumpFile::Other(what) => found.others.push((packed.name, what)),
            }
        }
        self.find_names(&mut found).await?;
        for files in found.tables.values_mut() {
            let order = |file: &Packed| (file.index, file.name.clone());
            files.data.sort_by_key(order);
            if let Some([one, other]) = (files.data.array_windows())
                .find(|[one, other]| one.plain_name() == other.plain_name())
            {
                return Err(twice(&one.name, &other.name));
            }
        }
        // What stands for a view until all tables are there is no table.
        let views = &found.views;
        found.tables.retain(|name, _| !views.contains_key(name));
        Ok(found)
    }

    /// Finds the names of tables whose files are called by a number: mydumper does so where a name
    /// has characters that it does not want in a file's.
    async fn find_names(&self, found: &mut Contents) -> Result<()> {
        let is_number = |name: &str| {
            let digits = name.strip_prefix("mydumper_").unwrap_or_default();
            !digits.is_empty() && digits.bytes().all(|byte| byte.is_ascii_digit())
        };
        let hidden = |name: &&TableName| is_number(&name.table) || is_number(&name.schema);
        if let Some(view) = found.views.keys().find(hidden) {
            return Err(nameless(view));
        }
        let names: Vec<_> = found.tables.keys().filter(hidden).cloned().collect();
        for name in names {
            let Some(files) = found.tables.remove(&name) else {
                continue;
            };
            let mut real = name.clone();
            if is_number(&name.schema) {
                let file = found.schemas.get(&name.schema);
                let file = file.ok_or_else(|| nameless(&name))?;
                real.schema = self.made_by(file).await?.schema;
            }
            if is_number(&name.table) {
                let file = files.definition.as_ref();
                let file = file.ok_or_else(|| nameless(&name))?;
                real.table = self.made_by(file).await?.table;
            }
            found.tables.insert(real, files);
        }
        let schemas: Vec<_> = found.schemas.keys().cloned().collect();
        for name in schemas.into_iter().filter(|name| is_number(name)) {
            if let Some(file) = found.schemas.remove(&name) {
                let real = self.made_by(&file).await?;
                found.schemas.insert(real.schema, file);
            }
        }
        Ok(())
    }

    /// The name of what the statement of a file makes.
    async fn made_by(&self, file: &Packed) -> Result<TableName> {
        let (sql, _) = self.definition(file).await?;
        let context = Context {
            // Whatever it is: files do not name it.
            schema: "d",
            sql_mode: 0,
            lower_case_names: false,
        };
        let statement = classify(&sql, context)?;
        let name = match &statement {
            Statement::Ddl(ddl) => ddl.pieces.first().and_then(|piece| piece.names.first()),
            _ => None,
        };
        name.map(|name| name.name.clone()).ok_or_else(|| {
            let error = io::Error::other("its statement makes neither a schema nor a table");
            unreadable(&file.name, &error)
        })
    }

    /// The statement of a file that makes something. Nothing is said of the time zone of its
    /// literals unless the file does.
    ///
    /// # Errors
    /// 34019: there is none, or it can't be read. 11006: what comes before it is not understood.
    pub(super) async fn definition(&self, file: &Packed) -> Result<(String, Option<String>)> {
        const CREATE: &[u8] = b"CREATE";
        let mut statements = self.statements(file).await?;
        let mut preamble = Preamble::default();
        while let Some(statement) = statements.next(None).await? {
            let text = rest_of(&statement.text)?.trim_ascii();
            let begin = text.get(..CREATE.len()).unwrap_or_default();
            if begin.eq_ignore_ascii_case(CREATE) {
                let text = text.strip_suffix(b";").unwrap_or(text).to_vec();
                let text = String::from_utf8(text).map_err(|_| {
                    let error = io::Error::other("its text is not UTF-8");
                    unreadable(&file.name, &error)
                })?;
                return Ok((text, preamble.time_zone));
            }
            // Others, as those that make room for a view, are not for us.
            preamble.take(&statement.text)?;
        }
        let error = io::Error::other("it has no statement that makes something");
        Err(unreadable(&file.name, &error))
    }

    /// The statements of a file.
    ///
    /// # Errors
    /// 34019: it can't be read.
    pub(super) async fn statements(&self, file: &Packed) -> Result<Statements<D::File>> {
        let path = self.path.join(&file.name);
        Statements::open(&self.disk, &path, file.compression).await
    }

    /// Where in the binlog the dump was made.
    ///
    /// # Errors
    /// 11001: nothing says so, since the dump is not complete, or is not here.
    pub(super) async fn metadata(&self, flavor: Flavor) -> Result<Metadata> {
        if self.is_under_way().await {
            return Err(self.incomplete(&format!("there is {PARTIAL} in")));
        }
        match self.read(METADATA_FILE).await {
            Ok(text) => Metadata::parse(flavor, &text),
            Err(error) if error.kind() == ErrorKind::NotFound => {
                let why = match self.list().await {
                    Ok(_) => "there is no metadata in",
                    Err(_) => "there is no directory",
                };
                Err(self.incomplete(why))
            }
            Err(error) => Err(unreadable(METADATA_FILE, &error)),
        }
    }

    /// Begins a dump. What is there of an earlier one by the same owner is removed.
    ///
    /// # Errors
    /// 32001: somebody else's files are there, or the directory can't be written.
    pub(super) async fn begin(
        &self,
        flavor: Flavor,
        metadata: Metadata,
    ) -> Result<Dumping<D::File>> {
        let (disk, path) = (&self.disk, &self.path);
        let partial = path.join(PARTIAL);
        let failed = |error| self.unwritable(PARTIAL, &error);
        self.make().await.map_err(failed)?;
        // Where somebody else has files, none is made.
        self.may_fill(flavor, &metadata.owner).await?;
        let mut attempt = 1;
        let mut lock = loop {
            let file = match disk.open(&partial, Open::Append).await {
                Err(error) if error.kind() == ErrorKind::NotFound => {
                    disk.open(&partial, Open::CreateNew).await
                }
                file => file,
            };
            match file {
                // Whoever had it before may have removed it meanwhile.
                Ok(lock) if lock.lock().await.map_err(failed)? => {
                    if self.is_under_way().await {
                        break lock;
                    }
                }
                Ok(_) => {}
                Err(error) if error.kind() == ErrorKind::AlreadyExists => {}
                Err(error) => return Err(failed(error)),
            }
            if attempt == ATTEMPTS {
                return Err(occupied(path, "is being written by another task"));
            }
            attempt += 1;
            sleep(PAUSE).await;
        };
        // From before the first to behind the last of the files it says whose they are; where it
        // does not yet, `metadata` does if there are any.
        let kept = match self.owner_in(PARTIAL, flavor).await? {
            Some(owner) if owner == metadata.owner => {
                let text = self.read(PARTIAL).await.map_err(failed)?;
                text.rfind('\n').map_or(0, |end| end + 1)
            }
            _ => 0,
        };
        lock.set_len(kept as u64).await.map_err(failed)?;
        // Once more where it does: what can be read of it may be in memory only.
        write(&mut lock, &metadata).await.map_err(failed)?;
        disk.sync_dir(path).await.map_err(failed)?;
        let mut names = self.may_fill(flavor, &metadata.owner).await?;
        // It would say that all are there.
        names.sort_by_key(|name| name != METADATA_FILE);
        for name in names {
            let removed = disk.remove(&path.join(&name)).await;
            removed.map_err(|error| self.unwritable(&name, &error))?;
        }
        let dumping = Dumping {
            metadata,
            _lock: lock,
        };
        if !Guard::DumpLast.holds() {
            self.complete_with(&dumping, dumping.metadata.times.0.clone())
                .await?;
        }
        Ok(dumping)
    }

    /// Makes the directory, and lets its name survive.
    async fn make(&self) -> io::Result<()> {
        self.disk.create_dir(&self.path).await?;
        for parent in self.path.ancestors().skip(1) {
            let parent = match parent.as_os_str().is_empty() {
                true => Path::new("."),
                false => parent,
            };
            match self.disk.sync_dir(parent).await {
                // Nothing was made in one that is not ours to read, or that can't be synced.
                Err(error)
                    if matches!(
                        error.kind(),
                        ErrorKind::PermissionDenied
                            | ErrorKind::InvalidInput
                            | ErrorKind::Unsupported
                            | ErrorKind::ReadOnlyFilesystem
                    ) =>
                {
                    break;
                }
                synced => synced?,
            }
        }
        Ok(())
    }

    /// The names of the files that a dump of this owner would replace.
    ///
    /// # Errors
    /// 32001: somebody else has files there.
    async fn may_fill(&self, flavor: Flavor, owner: &Owner) -> Result<Vec<String>> {
        let occupied = |what: &str| Err(occupied(&self.path, what));
        let files = self.dump_files().await?;
        if let Some(name) = files.others.first() {
            return occupied(&format!("has {name}, which no dump of this worker has"));
        }
        let found = match self.owner_in(PARTIAL, flavor).await? {
            Some(found) => Some(found),
            None => self.owner_in(METADATA_FILE, flavor).await?,
        };
        match found {
            _ if files.ours.is_empty() => Ok(files.ours),
            Some(found) if found == *owner => Ok(files.ours),
            Some((task, source)) => occupied(&format!(
                "has dump files of task `{task}`, source `{source}`"
            )),
            None => occupied("has dump files of somebody else"),
        }
    }

    /// A dump of this owner that is complete, if there is one.
    ///
    /// # Errors
    /// 11001: what says so makes no sense.
    pub(super) async fn complete(&self, flavor: Flavor, owner: &Owner) -> Result<Option<Metadata>> {
        if self.is_under_way().await {
            return Ok(None);
        }
        let Ok(text) = self.read(METADATA_FILE).await else {
            return Ok(None);
        };
        let found = Metadata::parse(flavor, &text)?;
        Ok((found.owner == *owner && !found.times.1.is_empty()).then_some(found))
    }

    /// Lets the names that are there survive.
    ///
    /// # Errors
    /// 32001: the directory can't be synced.
    pub(super) async fn settle(&self) -> Result<()> {
        let synced = self.disk.sync_dir(&self.path).await;
        synced.map_err(|error| self.unwritable(METADATA_FILE, &error))
    }

    /// Notes that all files are there, since then.
    ///
    /// # Errors
    /// 32001: the directory can't be written.
    pub(super) async fn finish(&self, dumping: Dumping<D::File>, finished: String) -> Result<()> {
        if !Guard::DumpLast.holds() {
            return Ok(());
        }
        self.complete_with(&dumping, finished).await
    }

    async fn complete_with(&self, dumping: &Dumping<D::File>, finished: String) -> Result<()> {
        let mut metadata = dumping.metadata.clone();
        metadata.times.1 = finished;
        let end = async {
            // All names of files are there before the one that says so.
            if Guard::DumpSync.holds() {
                self.disk.sync_dir(&self.path).await?;
            }
            let new = self.path.join(NEW);
            let mut file = self.disk.open(&new, Open::Replace).await?;
            write(&mut file, &metadata).await?;
            drop(file);
            self.disk
                .rename(&new, &self.path.join(METADATA_FILE))
                .await?;
            self.disk.sync_dir(&self.path).await?;
            match self.disk.remove(&self.path.join(PARTIAL)).await {
                Err(error) if error.kind() != ErrorKind::NotFound => Err(error),
                _ => self.disk.sync_dir(&self.path).await,
            }
        };
        end.await
            .map_err(|error| self.unwritable(METADATA_FILE, &error))
    }

    /// Removes a dump of this owner, and the directory if there is nothing else in it. Returns
    /// whether there was one: sources of one task may share a directory. Wherever it ends, the
    /// next one goes on.
    ///
    /// # Errors
    /// 34019: something can't be removed.
    pub(super) async fn remove(&self, flavor: Flavor, owner: &Owner) -> Result<bool> {
        let (partial, metadata) = (self.path.join(PARTIAL), self.path.join(METADATA_FILE));
        if self.complete(flavor, owner).await?.is_some() {
            // From now on it does not look complete, and still says whose it is.
            let renamed = self.disk.rename(&metadata, &partial).await;
            renamed.map_err(|error| unreadable(METADATA_FILE, &error))?;
        } else if self.owner_in(PARTIAL, flavor).await?.as_ref() != Some(owner) {
            return Ok(false);
        }
        let failed = |error| unreadable(PARTIAL, &error);
        let lock = self.disk.open(&partial, Open::Append).await;
        let lock = lock.map_err(failed)?;
        if !lock.lock().await.map_err(failed)? {
            // Somebody dumps anew.
            return Ok(false);
        }
        let sync = async || self.disk.sync_dir(&self.path).await.map_err(failed);
        sync().await?;
        for name in self.dump_files().await?.ours {
            let removed = self.disk.remove(&self.path.join(&name)).await;
            removed.map_err(|error| unreadable(&name, &error))?;
        }
        sync().await?;
        self.disk.remove(&partial).await.map_err(failed)?;
        drop(lock);
        // Something else may be in it.
        let _ = self.disk.remove_dir(&self.path).await;
        Ok(true)
    }

    /// A new file.
    ///
    /// # Errors
    /// 32001: it can't be made.
    pub(super) async fn create(&self, name: &DumpFile) -> Result<D::File> {
        let name = name.to_string();
        let file = self.disk.open(&self.path.join(&name), Open::Replace).await;
        file.map_err(|error| self.unwritable(&name, &error))
    }

    /// Of a file that can't be written.
    pub(super) fn unwritable(&self, name: &str, error: &io::Error) -> Error {
        let text = format!(
            "mydumper/dumpling runs with error, with output (may empty): {name} can't be written \
             into {}",
            self.path.display()
        );
        Error::new(&code::DUMP_UNIT_RUNTIME, text)
            .with_cause(error.to_string())
            .with_workaround(
                "Make room or let the worker write there, then resume; or choose another \
                 directory with `loaders: dir`.",
            )
    }

    /// Whose files are there, as far as a file says it. A line that is not written to its end does
    /// not.
    async fn owner_in(&self, name: &str, flavor: Flavor) -> Result<Option<Owner>> {
        let text = match self.read(name).await {
            Ok(text) => text,
            Err(error) if error.kind() == ErrorKind::NotFound => return Ok(None),
            Err(error) => return Err(unreadable(name, &error)),
        };
        let Some((text, _)) = text.rsplit_once('\n') else {
            return Ok(None);
        };
        let owner = Metadata::parse(flavor, text).map(|found| found.owner);
        Ok(owner.ok().filter(|(task, _)| !task.is_empty()))
    }

    /// Whether a dump has begun that is not complete.
    async fn is_under_way(&self) -> bool {
        self.disk.stat(&self.path.join(PARTIAL)).await.is_ok()
    }

    /// The names of what is, or looks like, a part of a dump.
    async fn dump_files(&self) -> Result<DumpFiles> {
        let mut found = DumpFiles::default();
        for (name, _) in self.list().await? {
            match DumpFile::parse(&name) {
                Ok(None) => {}
                Ok(Some((file, Compression::None))) if !matches!(file, DumpFile::Other(_)) => {
                    found.ours.push(name);
                }
                _ => found.others.push(name),
            }
        }
        Ok(found)
    }

    fn incomplete(&self, why: &str) -> Error {
        let text = format!(
            "parse mydumper metadata error: {why} {}",
            self.path.display()
        );
        Error::new(&code::PARSE_MYDUMPER_META, text).with_workaround(
            "A dump has `metadata`, and not in part, when it is complete. Let the task run on the \
             machine where the files are, correct `loaders: dir`, or dump anew.",
        )
    }

    async fn list(&self) -> Result<Vec<(String, bool)>> {
        let names = self.disk.list(&self.path).await;
        let mut names =
            names.map_err(|error| unreadable(&self.path.display().to_string(), &error))?;
        names.retain(|(_, is_dir)| !is_dir);
        names.sort();
        Ok(names)
    }

    async fn read(&self, name: &str) -> io::Result<String> {
        let file = self.disk.open(&self.path.join(name), Open::Read).await?;
        let bytes = file.read_at(0, METADATA_BYTES_MAX).await?;
        Ok(String::from_utf8_lossy(&bytes).into_owned())
    }
}

/// Names of files.
#[derive(Default)]
struct DumpFiles {
    /// As a dump of this worker has them.
    ours: Vec<String>,
    /// As dumps of others have them, or nobody.
    others: Vec<String>,
}

/// Appends to a file. Of several the last one counts.
async fn write(file: &mut impl File, metadata: &Metadata) -> io::Result<()> {
    file.append(Bytes::from(metadata.to_string())).await?;
    file.sync().await
}

/// Of files that are called by a number.
fn nameless(name: &TableName) -> Error {
    let text = format!("the files of {name} are called by a number, and none says what it is");
    Error::new(&code::PARSE_MYDUMPER_META, text).with_workaround(
        "Give the files the name of the schema and the table in the place of the number.",
    )
}

/// Of the same file in two forms.
fn twice(one: &str, other: &str) -> Error {
    let text = format!("{one} and {other} seem to have the same rows");
    Error::new(&code::PARSE_MYDUMPER_META, text).with_workaround("Take one of the files away.")
}

fn occupied(path: &Path, what: &str) -> Error {
    let text = format!(
        "mydumper/dumpling runs with error, with output (may empty): {} {what}",
        path.display()
    );
    Error::new(&code::DUMP_UNIT_RUNTIME, text).with_workaround(
        "Choose another directory with `loaders: dir`, one for each source, or remove the files.",
    )
}

#[cfg(test)]
mod tests;
