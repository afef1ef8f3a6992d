//! The load unit of a subtask that has dump files: rows of files go into the target.
//!
//! All files of a table are one stream in the order of their numbers, cut into pieces of a megabyte
//! at most. A piece and the note of it are one transaction under the fence, and say to the row
//! where in which file it ends: a restart goes on from there, also in a table without a key.

mod feed;
mod plan;

use std::{
    collections::{BTreeMap, BTreeSet},
    future::pending,
    path::Path,
    sync::Arc,
};

use dm_core::{
    binlog::Flavor,
    control::subtask::Mode,
    error::{Error, Result, code},
    full::{Gap, Loading, gaps},
    guard::Guard,
    lifecycle,
    sync::{
        ddl::{columns_by_position, json_without_key},
        schema::{Quoted, TableName},
    },
};
use tracing::{info, warn};

use self::{
    feed::{FileFeed, LoadTable, Shared},
    plan::{Known, Plan, Planning},
};
use super::dir::{Contents, DumpDir};
use crate::{
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
            pieces::{Pieces, Work, room},
            until_all, watching,
        },
        follows,
        moving::Moving,
        rules,
        tasks::Tasks,
    },
};

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
            self.facts.note_end(&copy.from, None);
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
        let into = (&*target, &settings);
        let (tables, work) = self.work(into, (&dir, contents), &copy).await?;
        let shared = Arc::new(Shared {
            dir,
            room: room(&*target),
            tables,
        });
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
        let goes_on = follows(task);
        watching(&self.job, (&source, goes_on.then_some(&copy.from)), ended).await?;
        let copy = target.copy().await?.unwrap_or_default();
        hand_over(&*target, &self.job, &copy, goes_on).await?;
        self.remove_files(&shared.dir, upstream.flavor).await;
        Ok(())
    }

    /// What rows go into which table, and what of them is not there.
    async fn work(
        &self,
        (target, settings): (&impl Target, &Settings),
        (dir, mut contents): (&DumpDir<K::Disk>, Contents),
        copy: &Copy,
    ) -> Result<(Vec<LoadTable>, Vec<(usize, Vec<Gap>)>)> {
        let again = copy.until.is_some();
        let (mut tables, mut work) = (Vec::new(), Vec::new());
        for (name, noted) in &copy.tables {
            let files = contents.tables.remove(name).unwrap_or_default();
            let there = target.table(&noted.target).await?;
            if follows(&self.job.task) {
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
            let table = LoadTable {
                verb: settings.verb(again, is_alone),
                tail: settings.tail(there.as_ref()),
                name: name.clone(),
                target: noted.target.clone(),
                columns,
                loading: there.as_ref().map(Loading::new).unwrap_or_default(),
                time_zone: Known::read(&noted.definition).time_zone.to_owned(),
                files: files.data,
            };
            let left = gaps(name, noted.pieces.clone())?.into_iter();
            work.push((
                tables.len(),
                left.flat_map(|gap| gap.split(table.bounds())).collect(),
            ));
            tables.push(table);
        }
        Ok((tables, work))
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
