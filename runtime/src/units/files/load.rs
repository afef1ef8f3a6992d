//! The load unit of a subtask that has dump files: rows of files go into the target.
//!
//! All files of a table are one stream in the order of their numbers, cut into pieces of a megabyte
//! at most. A piece and the note of it are one transaction under the fence, and say to the row
//! where in which file it ends: a restart goes on from there, also in a table without a key.

mod plan;

use std::{
    collections::{BTreeMap, BTreeSet},
    future::pending,
    mem,
    path::Path,
    sync::Arc,
};

use dm_core::{
    binlog::Flavor,
    control::subtask::Mode,
    error::{Error, Result, code},
    full::{Copied, Gap, Insert, KeyValue, Loading, Piece, Preamble, Tuples, gaps},
    guard::Guard,
    lifecycle,
    sync::{
        ddl::{columns_by_position, json_without_key},
        schema::{Quoted, TableName},
    },
};
use tracing::{info, warn};

use self::plan::{Known, Plan, Planning, others};
use super::dir::{Contents, DumpDir, Packed};
use crate::{
    memory::Large,
    ports::{
        Connect, Source, SourceFacts, Target,
        copy::{Copy, Definer, Definition},
        disk::Disk,
    },
    units::{
        copy::{
            Failure, Settings, TableFacts, Total, can_be_followed,
            define::{Definitions, Restart, Wanted},
            hand_over, is_excluded, moves, nameless_rows,
            pieces::{Feed, Out, Parcel, Pieces, Work, room},
            until_all, watching,
        },
        follows,
        moving::Moving,
        rules,
        tasks::Tasks,
    },
};

/// The files of a table are loaded in so many parts at the same time, at most.
const PARTS: usize = 100;
/// Sessions for rows are like this.
const BACK: &str = ";SET NAMES utf8mb4;SET SESSION time_zone='+00:00'";

/// What all connections need to know.
struct Shared<D> {
    dir: DumpDir<D>,
    /// Bytes that a statement may have.
    room: usize,
    tables: Vec<LoadTable>,
}

/// A place between two rows of a table.
#[derive(Clone, Copy, Default)]
struct Place {
    /// The number of a file.
    file: usize,
    /// An offset in what it has when it is unpacked.
    at: u64,
}

struct LoadTable {
    name: TableName,
    target: TableName,
    /// What statements begin with.
    verb: &'static str,
    /// What statements end with.
    tail: String,
    /// What must be known of the target's table.
    loading: Loading,
    /// The columns of rows whose statement names none, as far as the table's definition is
    /// understood: the target may have the table already, with columns in another order.
    columns: Option<Vec<Vec<u8>>>,
    /// The time zone of its timestamps, where files do not say it.
    time_zone: String,
    files: Vec<Packed>,
}

impl<K: Connect> Moving<K> {
    /// The run of a load, from what is noted in the target.
    pub(in crate::units) async fn load(
        &mut self,
        path: &Path,
        tasks: &mut Tasks,
    ) -> Result<(), Failure> {
        self.facts.forget_dump();
        let (task, config) = (&self.job.task, &self.job.source);
        let settings = Settings::new(task)?;
        let source = self.connect.source(config);
        let upstream = source.probe(follows(task)).await?;
        let rules = rules(task, &source).await?;
        let target = Arc::new(self.connect.target(&self.job, &upstream).await?);
        if Guard::LoadTakeover.holds() {
            target.take_over(self.fence).await?;
        }
        let dir = DumpDir {
            disk: self.connect.disk(),
            path: path.to_owned(),
        };
        let noted = target.copy().await?;
        if let Some(copy) = noted.as_ref().filter(|copy| copy.is_over) {
            self.events.send(lifecycle::Event::Initialised);
            self.facts.note_from(&copy.from);
            self.remove_files(&dir, upstream.flavor).await;
            return Ok(());
        }
        // This one first: where it is not, there may be no directory at all.
        let metadata = dir.metadata(upstream.flavor).await?;
        let contents = dir.contents().await?;
        let syncs = follows(task);
        if metadata.from.is_none() && syncs {
            return Err(Failure::Other(no_place()));
        }
        let of = &metadata.owner.1;
        if syncs && !of.is_empty() && *of != config.source_id {
            return Err(Failure::Other(of_another(of, &config.source_id)));
        }
        let time_zone = target.time_zone().await?;
        let plan = Planning {
            dir: &dir,
            target: &*target,
            rules: &rules,
            metadata: &metadata,
            time_zone: &time_zone,
        };
        let Plan {
            copy,
            begun,
            restarts,
        } = plan.plan(noted, &contents).await?;
        if syncs {
            let new = (&copy, &restarts);
            can_be_made((&*target, &upstream), (&dir, &contents), new).await?;
        }
        // Not before it is known that these are the ones: somebody else may have those.
        self.events.send(lifecycle::Event::HasFiles);
        if Guard::LoadMark.holds() {
            // Until it is marked, a master may give the source to somebody without files. Where
            // nobody is left who could say so, the unit is about to be told to end.
            let marked = self.mark.wait_for(|is_marked| *is_marked).await.is_ok();
            if !marked {
                pending::<()>().await;
            }
        }
        self.events.send(lifecycle::Event::Initialised);
        for (name, what) in &contents.others {
            warn!(
                file = name,
                "{what} are not loaded: make them in the target"
            );
        }
        let (connections, memory) = self.memory.of_files(settings.pool);
        if connections < settings.pool {
            let pool = settings.pool;
            info!(
                connections,
                pool, "fewer connections than `pool-size`: more need more `row-memory-bytes`"
            );
        }
        let slots = u32::try_from(connections).unwrap_or(1);
        let definitions = Definitions {
            target: &*target,
            rules: &rules,
            upstream: &upstream,
            at: copy.from.clone(),
        };
        // In this order, a run that ends in between leaves no table of which nobody knows whose it
        // is.
        definitions.restart(&restarts, &copy).await?;
        target.begin_copy(slots, &copy).await?;
        if syncs {
            self.needs.note_needs(&copy.from);
        }
        let mut files = FileDefinitions {
            dir: &dir,
            contents: &contents,
            time_zone: &time_zone,
        };
        self.define_from_files(&definitions, &mut files, (&copy, &begun))
            .await?;
        let progress = target.begin_copy(slots, &copy).await?;
        info!(
            source = config.source_id,
            task = task.name,
            tables = copy.tables.len(),
            from = %copy.from,
            dir = %dir.path.display(),
            "loading"
        );
        let again = copy.until.is_some();
        let mut tables = Vec::new();
        let mut work = Vec::new();
        let mut contents = contents;
        for (name, noted) in &copy.tables {
            let files = contents.tables.remove(name).unwrap_or_default();
            let there = target.table(&noted.target).await?;
            if syncs {
                can_be_followed(there.iter(), again)?;
            }
            let columns = match &files.definition {
                Some(file) => match dir.definition(file).await {
                    Ok((sql, _)) => columns_by_position(&sql),
                    Err(error) => {
                        let what = "rows whose statement names no columns go by position";
                        warn!(table = %name, %error, "{what}");
                        None
                    }
                },
                None => None,
            };
            let columns = columns.map(|names| names.into_iter().map(String::into_bytes).collect());
            let is_alone =
                copy.is_alone(noted) && !there.as_ref().is_some_and(|it| moves(it, again));
            tables.push(LoadTable {
                verb: settings.verb(again, is_alone),
                tail: settings.tail(there.as_ref()),
                name: name.clone(),
                target: noted.target.clone(),
                columns,
                loading: there.as_ref().map(Loading::new).unwrap_or_default(),
                time_zone: Known::read(&noted.definition).time_zone.to_owned(),
                files: files.data,
            });
            let left = gaps(name, noted.pieces.clone())?;
            work.push((tables.len() - 1, left));
        }
        let shared = Arc::new(Shared {
            dir: dir.clone(),
            room: room(&*target),
            tables,
        });
        for (table, left) in &mut work {
            let table = &shared.tables[*table];
            *left = mem::take(left)
                .into_iter()
                .flat_map(|gap| gap.split(table.bounds()))
                .collect();
        }
        self.begin_load_facts(&copy, &shared.tables, &work);
        let pieces = Pieces {
            facts: Arc::clone(&self.facts),
            at: copy.from.clone(),
            tables: shared.tables.iter().map(|it| it.name.clone()).collect(),
            work: Work::new(work),
            memory,
        };
        let feeds = (0..slots).map(|_| FileFeed(Arc::clone(&shared))).collect();
        let mut ended = pieces.start(tasks, feeds, &target, progress);
        let ended = until_all(&mut ended, slots);
        watching(&self.job, (&source, &copy.from), ended).await?;
        let copy = target.copy().await?.unwrap_or_default();
        hand_over(&*target, &self.job, &copy).await?;
        self.remove_files(&dir, upstream.flavor).await;
        Ok(())
    }

    /// Makes what rows go into.
    async fn define_from_files<T: Target>(
        &self,
        definitions: &Definitions<'_, T>,
        files: &mut FileDefinitions<'_, K::Disk>,
        (copy, begun): (&Copy, &BTreeSet<TableName>),
    ) -> Result<(), Failure> {
        let wanted: Vec<_> = copy
            .tables
            .keys()
            .map(|name| Wanted { name, source: None })
            .collect();
        let made = definitions.create(files, &wanted, begun).await?;
        let others = (files.contents.tables.iter())
            .filter(|(name, _)| !begun.contains(*name) && !made.contains_key(*name));
        for (name, table) in others {
            if let (Some(file), true) = (&table.definition, copy.tables.contains_key(name)) {
                match files.dir.definition(file).await {
                    Ok((sql, _)) => definitions.compare(name, &sql).await?,
                    // The table is there.
                    Err(error) => warn!(table = %name, %error, "its definition is not compared"),
                }
            }
        }
        if !begun.is_empty() {
            // No row comes before they are made.
            return Ok(());
        }
        let views = files.contents.views.keys();
        let is_wanted = |name: &&TableName| !is_excluded(definitions.rules, name);
        let views: Vec<_> = views.filter(is_wanted).cloned().collect();
        definitions.create_views(files, &views).await
    }

    fn begin_load_facts(&self, copy: &Copy, tables: &[LoadTable], work: &[(usize, Vec<Gap>)]) {
        // Both have the tables in the same order.
        let known = tables.iter().zip(work).map(|(table, (_, gaps))| {
            let total = Total {
                bytes: table.files.iter().map(|file| file.bytes).sum(),
                ..Total::default()
            };
            let left: u64 = gaps.iter().map(|gap| table.left(&gap.piece)).sum();
            let done = Total {
                tables: u64::from(gaps.is_empty()),
                rows: copy.tables.get(&table.name).map_or(0, |noted| noted.rows),
                bytes: total.bytes.saturating_sub(left),
            };
            TableFacts::new(&table.name, total.bytes, total, done)
        });
        self.facts.begin(known.collect(), &copy.from);
    }

    /// Removes what this task has dumped, if it is to. All is loaded, so files that stay are no
    /// reason to stop.
    async fn remove_files(&self, dir: &DumpDir<K::Disk>, flavor: Flavor) {
        let task = &self.job.task;
        let owner = (task.name.clone(), self.job.source.source_id.clone());
        // What somebody else has dumped is his.
        let dumps = Mode::parse(&task.mode).is_some_and(Mode::has_dump);
        if !task.clean_dump_file || !dumps {
            return;
        }
        let path = dir.path.display();
        match dir.remove(flavor, &owner).await {
            Ok(true) => info!(dir = %path, "the dump is removed"),
            Ok(false) => {}
            Err(error) => warn!(dir = %path, %error, "the dump stays: remove it yourself"),
        }
    }
}

/// Refuses what can't be followed by the binlog before anything is made, as far as the texts of the
/// files tell: those of MariaDB know no JSON.
async fn can_be_made<D: Disk>(
    (target, upstream): (&impl Target, &SourceFacts),
    (dir, contents): (&DumpDir<D>, &Contents),
    (copy, restarts): (&Copy, &BTreeMap<TableName, Restart>),
) -> Result<()> {
    for (name, noted) in &copy.tables {
        let there = match restarts.contains_key(name) {
            // It is about to go.
            true => None,
            false => target.table(&noted.target).await?,
        };
        if let Some(there) = there {
            can_be_followed([&there].into_iter(), copy.until.is_some())?;
            continue;
        }
        let files = contents.tables.get(name);
        let definition = files.and_then(|files| files.definition.as_ref());
        if let (Flavor::Mysql, Some(file)) = (upstream.flavor, definition) {
            let (sql, _) = dir.definition(file).await?;
            if let Some(column) = json_without_key(&sql) {
                return Err(nameless_rows(name, &column));
            }
        }
    }
    Ok(())
}

impl LoadTable {
    /// Where the parts end that are loaded at the same time: at the beginning of files.
    fn bounds(&self) -> Vec<KeyValue> {
        let part = self.files.len().div_ceil(PARTS).max(1);
        let firsts = self.files.iter().step_by(part).skip(1);
        firsts.map(|file| place(&file.name, 0)).collect()
    }

    /// The place that a bound names.
    fn place_of(&self, key: &KeyValue) -> Option<Place> {
        let [name, at] = &*key.0 else {
            return None;
        };
        let file = self.files.iter().position(|file| file.name == *name)?;
        let at = at.parse().ok()?;
        Some(Place { file, at })
    }

    /// From where to where a piece goes; to the end of the last file without a second place.
    fn range(&self, piece: &Piece) -> Result<(Place, Option<Place>)> {
        let known = |key: &KeyValue| self.place_of(key).ok_or_else(|| others(&self.name));
        let from = piece.after.as_ref().map(known).transpose()?;
        let to = piece.upto.as_ref().map(known).transpose()?;
        Ok((from.unwrap_or_default(), to))
    }

    /// About how many bytes a piece has.
    fn left(&self, piece: &Piece) -> u64 {
        let Ok((from, to)) = self.range(piece) else {
            return 0;
        };
        let end = Place {
            file: self.files.len(),
            at: 0,
        };
        let before = |place: Place| {
            let whole: u64 = self.files.iter().take(place.file).map(|it| it.bytes).sum();
            let file = self.files.get(place.file);
            whole + file.map_or(0, |file| file.bytes_before(place.at))
        };
        before(to.unwrap_or(end)).saturating_sub(before(from))
    }
}

fn place(file: &str, at: u64) -> KeyValue {
    KeyValue(vec![file.to_owned(), at.to_string()])
}

/// What files say of definitions.
struct FileDefinitions<'a, D> {
    dir: &'a DumpDir<D>,
    contents: &'a Contents,
    /// Where files do not say it.
    time_zone: &'a str,
}

impl<D: Disk> Definer for FileDefinitions<'_, D> {
    async fn definition(&mut self, name: &TableName) -> Result<Definition> {
        let Self {
            dir,
            contents,
            time_zone,
        } = self;
        let file = if name.table.is_empty() {
            contents.schemas.get(&name.schema)
        } else {
            let table = contents.tables.get(name);
            let table = table.and_then(|table| table.definition.as_ref());
            table.or_else(|| contents.views.get(name))
        };
        let (sql, zone) = match file {
            Some(file) => dir.definition(file).await?,
            None if name.table.is_empty() => {
                (format!("CREATE DATABASE {}", Quoted(&name.schema)), None)
            }
            None => {
                let text = format!("no dump file says what {name} is, and the target has no such");
                return Err(
                    Error::new(&code::LOAD_LIGHTNING_RUNTIME, text).with_workaround(
                        "Make the table in the target, or put its `-schema.sql` beside its data.",
                    ),
                );
            }
        };
        let time_zone = zone.unwrap_or_else(|| (*time_zone).to_owned());
        Ok(Definition { sql, time_zone })
    }
}

/// Reads files for one connection.
struct FileFeed<D>(Arc<Shared<D>>);

/// How the literals of a piece read.
#[derive(Clone, Default, PartialEq)]
struct Head {
    columns: Option<Vec<Vec<u8>>>,
    preamble: Preamble,
}

/// A piece that is being read.
#[derive(Default)]
struct Open {
    head: Head,
    sql: Vec<u8>,
    rows: u64,
    lenient: bool,
    /// Where its last row ends.
    end: Place,
    large: Large,
}

/// What is being read: a table, its gap, and what is on the way.
struct Reading<'a, D> {
    shared: &'a Shared<D>,
    number: usize,
    gap: Gap,
    open: Open,
    /// Bytes of files that are read and not sent.
    bytes: u64,
    out: &'a Out,
}

impl<D: Disk> Feed for FileFeed<D> {
    async fn read(&mut self, table: usize, gap: Gap, out: &Out) -> Result<(), Failure> {
        let shared = &*self.0;
        let known = &shared.tables[table];
        let (from, to) = known.range(&gap.piece)?;
        let mut reading = Reading {
            shared,
            number: table,
            gap,
            open: Open::default(),
            bytes: 0,
            out,
        };
        for (index, file) in known.files.iter().enumerate().skip(from.file) {
            let begin = if index == from.file { from.at } else { 0 };
            let end = match to {
                Some(to) if to.file == index => to.at,
                Some(to) if to.file < index => break,
                _ => u64::MAX,
            };
            if end > 0 {
                reading.file((index, file), begin, end).await?;
            }
        }
        let Reading {
            gap, open, bytes, ..
        } = reading;
        let tail = &shared.tables[table].tail;
        out.send(open.parcel((table, tail), gap.rest(), bytes, true))
            .await;
        Ok(())
    }
}

impl<D: Disk> Reading<'_, D> {
    /// Takes the rows of a file that lie behind one place and before another.
    async fn file(
        &mut self,
        (index, file): (usize, &Packed),
        begin: u64,
        end: u64,
    ) -> Result<(), Failure> {
        let table = &self.shared.tables[self.number];
        let mut statements = self.shared.dir.statements(file).await?;
        // What lies before was counted when it was loaded.
        let mut read = file.bytes_before(begin);
        let mut preamble = Preamble::default();
        while let Some(statement) = statements.next(Some(self.out)).await? {
            if statement.at >= end {
                break;
            }
            let behind = statements.read_bytes().max(read);
            self.bytes += behind - mem::replace(&mut read, behind);
            let Some(insert) = Insert::parse(&statement.text, true)? else {
                if !preamble.take(&statement.text)? {
                    return Err(Failure::Other(unknown(file, &statement.text)));
                }
                continue;
            };
            let name = String::from_utf8_lossy(&insert.table.1).to_lowercase();
            if name != table.name.table.to_lowercase() {
                return Err(Failure::Other(unknown(file, &statement.text)));
            }
            // Of what is computed, a row has nothing or `DEFAULT`.
            let by_definition = table.columns.as_ref().filter(|columns| {
                insert.columns.is_none() && columns.len() == insert.width(&statement.text, true)
            });
            let head = Head {
                columns: by_definition.cloned().or(insert.columns),
                preamble: preamble.clone(),
            };
            let tuples = table.loading.tuples(head.columns.as_deref(), &preamble);
            if self.open.head != head {
                self.cut().await;
            }
            for row in insert.rows {
                let ends = statement.at + row.end as u64;
                if ends <= begin {
                    continue;
                }
                if ends > end {
                    return Ok(());
                }
                let end = Place {
                    file: index,
                    at: ends,
                };
                self.row(&head, &tuples, &statement.text[row], end).await;
            }
            if statement.large.is_some() {
                // It goes with what was cut of it last, and never while another one is waited for.
                self.open.large = statement.large;
                self.cut().await;
                self.open.large = None;
            }
        }
        self.bytes += statements.read_bytes().saturating_sub(read);
        Ok(())
    }

    async fn row(&mut self, head: &Head, tuples: &Tuples, row: &[u8], end: Place) {
        let len = self.open.sql.len();
        let is_full = len >= self.out.piece_bytes()
            || len + row.len() + tuples.more_bytes() > self.shared.room;
        if is_full {
            self.cut().await;
        }
        let open = &mut self.open;
        if open.rows == 0 || open.head != *head {
            if open.rows > 0 {
                // There was no room for a cut.
                open.sql
                    .extend_from_slice(self.shared.tables[self.number].tail.as_bytes());
                open.sql.push(b';');
            }
            open.head = head.clone();
            self.shared.begin(head, self.number, &mut open.sql);
        } else {
            open.sql.push(b',');
        }
        open.lenient |= tuples.write(row, true, &mut open.sql);
        open.rows += 1;
        open.end = end;
    }

    /// Sends what is open, if the gap can be cut here.
    async fn cut(&mut self) {
        if self.open.rows == 0 {
            return;
        }
        let Place { file, at } = self.open.end;
        let name = &self.shared.tables[self.number].files[file].name;
        if let Some(copied) = self.gap.cut(place(name, at)) {
            let open = mem::take(&mut self.open);
            let bytes = mem::take(&mut self.bytes);
            let tail = &self.shared.tables[self.number].tail;
            let parcel = open.parcel((self.number, tail), copied, bytes, false);
            self.out.send(parcel).await;
        }
    }
}

impl Open {
    fn parcel(
        self,
        (table, tail): (usize, &str),
        copied: Copied,
        bytes: u64,
        is_last: bool,
    ) -> Parcel {
        let mut sql = self.sql;
        if self.rows > 0 {
            sql.extend_from_slice(tail.as_bytes());
            sql.extend_from_slice(BACK.as_bytes());
        }
        Parcel {
            table,
            copied,
            rows: self.rows,
            bytes,
            lenient: self.lenient,
            sql,
            large: self.large,
            is_last,
        }
    }
}

impl<D> Shared<D> {
    /// Appends what a statement begins with, up to its first row.
    fn begin(&self, Head { columns, preamble }: &Head, table: usize, sql: &mut Vec<u8>) {
        let charset = preamble.charset.as_deref().unwrap_or("utf8mb4");
        let table = &self.tables[table];
        let zone = preamble.time_zone.as_deref().unwrap_or(&table.time_zone);
        let names = columns.iter().map(|columns| {
            let names = columns.iter().map(|name| String::from_utf8_lossy(name));
            let names: Vec<_> = names.map(|name| Quoted(&name).to_string()).collect();
            format!(" ({})", names.join(","))
        });
        let text = format!(
            "SET NAMES {charset};SET SESSION time_zone='{zone}';{} INTO {}{} VALUES\n",
            table.verb,
            table.target,
            names.collect::<String>()
        );
        sql.extend_from_slice(text.as_bytes());
    }
}

fn of_another(source: &str, id: &str) -> Error {
    let text = format!(
        "inconsistent checkpoints between loader and target database: the dump is of source \
         `{source}`, and the binlog would be that of `{id}`"
    );
    Error::new(&code::LOAD_TASK_CHECKPOINT_NOT_MATCH, text).with_workaround(
        "Correct `loaders: dir`, or give the source the id that it was dumped with.",
    )
}

fn no_place() -> Error {
    Error::new(
        &code::METADATA_NO_BINLOG_LOC,
        "didn't found binlog location in dumped metadata file metadata",
    )
}

fn unknown(file: &Packed, statement: &[u8]) -> Error {
    /// So much of a statement tells which one it is.
    const SHOWN: usize = 80;
    let shown = &statement[..statement.len().min(SHOWN)];
    let text = format!(
        "parse statement: the dump file {} is to have rows of its table only: {}",
        file.name,
        String::from_utf8_lossy(shown).trim()
    );
    Error::new(&code::PARSE_SQL, text)
        .with_workaround("Execute the statement yourself and remove it from the file.")
}

#[cfg(test)]
mod tests;
