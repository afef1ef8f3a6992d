//! The dump unit of a subtask that has dump files: rows of a snapshot go into files.

use std::{collections::BTreeSet, mem, path::Path, sync::Arc};

use bytes::Bytes;
use dm_core::{
    control::subtask::Mode,
    error::{Error, Result, Scope, code},
    full::{DumpFile, Gap, Metadata, Reading},
    guard::Guard,
    lifecycle,
    sync::{
        ddl::Rules,
        schema::{Quoted, TableName},
    },
};
use jiff::Timestamp;
use tokio::sync::mpsc;
use tracing::info;

use super::{dir::DumpDir, statements::ROW_BYTES_MAX};
use crate::{
    memory::Room,
    panics::caught,
    ports::{
        Connect, Source, Target,
        copy::{Definition, Reader, Row, Snapshot, SnapshotTable, SnapshotView},
        disk::{Disk, File},
    },
    units::{
        copy::{
            CopyFacts, Failure, Settings, TableFacts, Total, again, can_be_followed, is_excluded,
            is_of_one_moment, left, nothing, pieces::Work, sql_bytes, until_all, watching,
        },
        follows,
        moving::Moving,
        tasks::Tasks,
    },
};

/// What every file begins with, for timestamps of a time zone.
fn head(zone: &str) -> String {
    format!(
        "/*!40014 SET FOREIGN_KEY_CHECKS=0*/;\n/*!40101 SET NAMES binary*/;\n\
         /*!40103 SET TIME_ZONE='{zone}'*/;\n"
    )
}

/// The time zone of the timestamps in files: where clocks are set back, those of a zone with a name
/// do not tell one hour from the next.
fn zone_of_files(zone: String) -> String {
    if zone.starts_with(['+', '-']) {
        zone
    } else {
        "+00:00".to_owned()
    }
}

/// So much is written at a time.
const WRITE_BYTES: usize = 1 << 20;
/// Between two rows.
const SEPARATOR: &[u8] = b",\n";
/// A file's number has four digits for its place in its chunk, and chunks have room for more.
const FILES_OF_CHUNK: u64 = 10_000;
const CHUNKS_OF_TABLE: u64 = 1_000;

/// A part of a table that has files of its own.
struct Chunk {
    number: u64,
    gap: Gap,
}

/// What all connections need to know.
struct Plan<D> {
    dir: DumpDir<D>,
    facts: Arc<CopyFacts>,
    tables: Vec<SnapshotTable>,
    work: Work<Chunk>,
    /// What every file with rows begins with.
    head: String,
    settings: Settings,
    /// For large rows.
    room: Room,
}

impl<K: Connect> Moving<K> {
    /// One run of a dump, which begins anew.
    pub(in crate::units) async fn dump(
        &mut self,
        path: &Path,
        tasks: &mut Tasks,
    ) -> Result<(), Failure> {
        let (task, config) = (&self.job.task, &self.job.source);
        let mode = Mode::parse(&task.mode);
        let settings = Settings::new(task)?;
        let rules = Rules::new(task)?;
        let source = self.connect.source(config);
        let upstream = source.probe(follows(task)).await?;
        let target = self.connect.target(&self.job, &upstream).await?;
        let zone = zone_of_files(target.time_zone().await?);
        if mode.is_some_and(Mode::has_load) {
            // Whoever comes first to a target may not be the last to fill its directory.
            let recovered = target.take_over(self.fence).await?;
            self.fence = Some(recovered.fence);
        }
        let dir = DumpDir {
            disk: self.connect.disk(),
            path: path.to_owned(),
        };
        let owner = (task.name.clone(), config.source_id.clone());
        // Whoever loads it as well has not begun to, and wants a new one.
        if mode == Some(Mode::Dump)
            && let Some(done) = dir.complete(upstream.flavor, &owner).await?
        {
            // Whoever wrote it may have been stopped before that was certain.
            dir.settle().await?;
            self.events.send(lifecycle::Event::Initialised);
            info!(
                dir = %dir.path.display(),
                finished = done.times.1,
                "the dump is complete: to dump anew, remove it"
            );
            return Ok(());
        }
        let is_wanted = |name: &TableName| !is_excluded(&rules, name);
        let started = now(&dir.disk);
        let snapshot = source
            .snapshot(settings.consistency, settings.threads, is_wanted)
            .await
            .map_err(again)?;
        is_of_one_moment(&task.name, &settings, &snapshot, follows(task))?;
        let Snapshot {
            from,
            until,
            tables,
            views,
            mut readers,
        } = snapshot;
        if tables.is_empty() {
            return Err(Failure::Other(nothing()));
        }
        let syncs = follows(task);
        if syncs {
            can_be_followed(tables.iter().map(|it| &it.table), until.is_some())?;
        }
        let metadata = Metadata {
            times: (started, String::new()),
            from: Some(from.clone()),
            until,
            owner,
            ..Metadata::default()
        };
        let dumping = dir.begin(upstream.flavor, metadata).await?;
        self.events.send(lifecycle::Event::Initialised);
        if syncs {
            self.needs.note_needs(&from);
        }
        info!(
            source = config.source_id,
            task = task.name,
            tables = tables.len(),
            %from,
            dir = %dir.path.display(),
            "dumping"
        );
        for reader in &mut readers {
            reader.set_time_zone(&zone).await.map_err(again)?;
        }
        let work = left(readers.first_mut(), &tables, |_| Vec::new()).await?;
        let chunks = |(table, gaps): (usize, Vec<Gap>)| {
            let chunks = gaps.into_iter().zip(0..);
            let chunks = chunks.map(|(gap, number)| Chunk { number, gap });
            (table, chunks.collect())
        };
        let known = tables.iter().map(|it| {
            let total = Total {
                rows: it.rows,
                ..Total::default()
            };
            TableFacts::new(&it.table.name, it.bytes, total, Total::default())
        });
        self.facts.begin(known.collect(), &from);
        let plan = Arc::new(Plan {
            dir: dir.clone(),
            facts: Arc::clone(&self.facts),
            tables,
            work: Work::new(work.into_iter().map(chunks).collect()),
            head: head(&zone),
            settings,
            room: self.memory.large_rows(),
        });
        if let Some(reader) = readers.first_mut() {
            plan.definitions(reader, &views).await?;
        }
        let (done, mut ended) = mpsc::unbounded_channel();
        let count = u32::try_from(readers.len()).unwrap_or(u32::MAX);
        for mut reader in readers {
            let (plan, done) = (Arc::clone(&plan), done.clone());
            tasks.start(async move {
                let dumped = caught(plan.rows(&mut reader)).await;
                // Nobody listens any more where another one has failed.
                let _ = done.send(dumped.unwrap_or_else(|panic| Err(Failure::Other(panic))));
            });
        }
        let done = until_all(&mut ended, count);
        watching(&self.job, (&source, syncs.then_some(&from)), done).await?;
        dir.finish(dumping, now(&dir.disk)).await?;
        info!(source = config.source_id, task = task.name, "all is dumped");
        Ok(())
    }
}

/// The time, as `metadata` has it.
fn now(disk: &impl Disk) -> String {
    let seconds = i64::try_from(disk.now().as_secs()).unwrap_or_default();
    let now = Timestamp::from_second(seconds).unwrap_or_default();
    now.strftime("%Y-%m-%d %H:%M:%S").to_string()
}

impl<D: Disk> Plan<D> {
    /// Writes what makes schemas, tables and views.
    async fn definitions<R: Reader>(
        &self,
        reader: &mut R,
        views: &[SnapshotView],
    ) -> Result<(), Failure> {
        let tables = || self.tables.iter().map(|table| &table.table.name);
        let of_views = views.iter().map(|view| &view.name);
        let schemas: BTreeSet<_> = tables().chain(of_views).map(|name| &name.schema).collect();
        for schema in schemas {
            let name = TableName::new(&**schema, "");
            let file = DumpFile::Schema {
                schema: schema.clone(),
            };
            let definition = reader.definition(&name).await.map_err(again)?;
            self.define(&file, "", &definition).await?;
        }
        for name in tables() {
            let TableName { schema, table } = name.clone();
            let file = DumpFile::Table { schema, table };
            let definition = reader.definition(name).await.map_err(again)?;
            self.define(&file, "", &definition).await?;
        }
        for SnapshotView { name, columns } in views {
            let definition = match reader.definition(name).await.map_err(again) {
                Ok(definition) => definition,
                Err(Failure::Other(error)) => {
                    let what = "a view is not dumped: make it yourself, if it is wanted";
                    tracing::warn!(view = %name, %error, "{what}");
                    continue;
                }
                Err(failure) => return Err(failure),
            };
            let TableName { schema, table } = name.clone();
            // Views may be made of one another, so there is a table of that name before.
            let columns = columns.iter().map(|name| format!("{} int", Quoted(name)));
            let columns = columns.collect::<Vec<_>>().join(",\n  ");
            let head = &self.head;
            let text = format!("{head}CREATE TABLE {} (\n  {columns}\n);\n", Quoted(&table));
            let (view, file) = (table.clone(), DumpFile::Table { schema, table });
            self.write(&file, text).await?;
            let drop = |kind| format!("DROP {kind} IF EXISTS {};\n", Quoted(&view));
            let before = format!("{}{}", drop("TABLE"), drop("VIEW"));
            let (schema, view) = (name.schema.clone(), view.clone());
            let file = DumpFile::View { schema, view };
            self.define(&file, &before, &definition).await?;
        }
        Ok(())
    }

    async fn define(&self, file: &DumpFile, before: &str, definition: &Definition) -> Result<()> {
        let Definition { sql, time_zone } = definition;
        let head = head(time_zone);
        self.write(file, format!("{head}{before}{sql};\n")).await
    }

    async fn write(&self, file: &DumpFile, text: String) -> Result<()> {
        let mut open = self.dir.create(file).await?;
        let write = async {
            open.append(Bytes::from(text)).await?;
            if !Guard::DumpSync.holds() {
                return Ok(());
            }
            open.sync().await
        };
        let written = write.await;
        written.map_err(|error| self.dir.unwritable(&file.to_string(), &error))
    }

    /// Writes rows until none are left.
    async fn rows<R: Reader>(&self, reader: &mut R) -> Result<(), Failure> {
        let mut at = None;
        while let Some((table, chunk)) = self.work.next(at) {
            at = Some(table);
            self.chunk(reader, table, chunk).await?;
            if self.work.close(table) {
                self.facts.ended(table);
                info!(table = %self.tables[table].table.name, "dumped");
            }
        }
        Ok(())
    }

    async fn chunk<R: Reader>(
        &self,
        reader: &mut R,
        index: usize,
        Chunk { number, gap }: Chunk,
    ) -> Result<(), Failure> {
        let SnapshotTable { table, .. } = &self.tables[index];
        let reading = Reading::for_files(table, &self.settings.filter);
        let insert = reading.insert("INSERT", &Quoted(&table.name.table).to_string());
        reader.read(&reading, &gap.piece).await.map_err(again)?;
        let mut writer = ChunkWriter {
            plan: self,
            index,
            table: &table.name,
            chunk: number,
            files: 0,
            file: None,
            text: Vec::new(),
            rows: 0,
        };
        // Of the statement, zero between two.
        let mut begin = 0;
        let mut is_open = false;
        while let Some(row) = reader.next().await.map_err(again)? {
            let goes_on = mem::replace(&mut is_open, true);
            if goes_on {
                writer.text.extend_from_slice(SEPARATOR);
            } else {
                writer.open().await?;
                begin = writer.total();
                writer.text.extend_from_slice(insert.as_bytes());
            }
            // Until it is written, which a text this long is at once.
            let _room = self.room.take(sql_bytes(&row)).await;
            let before = writer.text.len();
            if !reading.write(row.values(), &mut writer.text) {
                let text = "a row of the source has not as many values as its table has columns";
                return Err(Failure::Other(Error::new(&code::DUMP_UNIT_RUNTIME, text)));
            }
            let bytes = writer.text.len() - before;
            if bytes > ROW_BYTES_MAX {
                return Err(Failure::Other(too_large(&table.name)));
            }
            if writer.total() - begin > ROW_BYTES_MAX as u64 && goes_on {
                // Both would be too large for one statement. The separator is not written yet.
                let row_begins = before - SEPARATOR.len();
                let new = [b";\n", insert.as_bytes()].concat();
                writer.text.splice(row_begins..before, new);
                begin = writer.total() - (bytes + insert.len()) as u64;
            }
            writer.rows += 1;
            if writer.total() - begin >= self.settings.statement_bytes {
                writer.text.extend_from_slice(b";\n");
                is_open = false;
            }
            writer.flush(!is_open).await?;
        }
        if is_open {
            writer.text.extend_from_slice(b";\n");
        }
        writer.close().await?;
        Ok(())
    }
}

/// Of a row that nothing could be done with: not even this worker would load it.
fn too_large(table: &TableName) -> Error {
    let text = format!(
        "a row of {table} has more than {} MiB as it would stand in a file",
        ROW_BYTES_MAX >> 20
    );
    let error = Error::new(&code::DUMP_UNIT_RUNTIME, text).with_scope(Scope::Upstream);
    error.with_workaround("Exclude the table with the `block-allow-list`, or use no files.")
}

/// Writes the files of a chunk.
struct ChunkWriter<'a, D: Disk> {
    plan: &'a Plan<D>,
    /// The number of its table.
    index: usize,
    table: &'a TableName,
    chunk: u64,
    /// How many there are.
    files: u64,
    /// The one that is open, with what is written into it.
    file: Option<(DumpFile, D::File, u64)>,
    /// What is to be written.
    text: Vec<u8>,
    /// The rows in it.
    rows: u64,
}

impl<D: Disk> ChunkWriter<'_, D> {
    /// Opens a file, unless one is.
    async fn open(&mut self) -> Result<()> {
        if self.file.is_some() {
            return Ok(());
        }
        let more = self.files / FILES_OF_CHUNK * CHUNKS_OF_TABLE;
        let TableName { schema, table } = self.table.clone();
        let name = DumpFile::Data {
            schema,
            table,
            index: (self.chunk + more) * FILES_OF_CHUNK + self.files % FILES_OF_CHUNK,
        };
        let file = self.plan.dir.create(&name).await?;
        self.file = Some((name, file, 0));
        self.files += 1;
        self.text.extend_from_slice(self.plan.head.as_bytes());
        Ok(())
    }

    /// Bytes of the file that is open, with what is to be written.
    fn total(&self) -> u64 {
        let written = self.file.as_ref().map_or(0, |(_, _, bytes)| *bytes);
        written + self.text.len() as u64
    }

    /// Writes, if it is enough, and goes on in another file if this one is large enough and may end
    /// here.
    async fn flush(&mut self, may_end: bool) -> Result<()> {
        if may_end && self.total() >= self.plan.settings.file_bytes {
            return self.close().await;
        }
        if self.text.len() < WRITE_BYTES {
            return Ok(());
        }
        self.write().await
    }

    async fn close(&mut self) -> Result<()> {
        self.write().await?;
        if let Some((name, mut file, _)) = self.file.take()
            && Guard::DumpSync.holds()
        {
            let synced = file.sync().await;
            synced.map_err(|error| self.plan.dir.unwritable(&name.to_string(), &error))?;
        }
        Ok(())
    }

    async fn write(&mut self) -> Result<()> {
        let Some((name, file, written)) = &mut self.file else {
            return Ok(());
        };
        let bytes = self.text.len() as u64;
        let appended = file.append(Bytes::from(mem::take(&mut self.text))).await;
        appended.map_err(|error| self.plan.dir.unwritable(&name.to_string(), &error))?;
        *written += bytes;
        let rows = mem::take(&mut self.rows);
        self.plan.facts.wrote(self.index, rows, bytes);
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn timestamps_are_told_apart() {
        for (zone, of_files) in [
            ("+05:30", "+05:30"),
            ("-03:00", "-03:00"),
            ("Europe/Berlin", "+00:00"),
            ("SYSTEM", "+00:00"),
        ] {
            assert_eq!(zone_of_files(zone.to_owned()), of_files);
        }
    }
}
