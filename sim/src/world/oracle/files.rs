//! Dump files: a directory that looks complete is, also behind a power cut; what is loaded is what
//! was dumped; nobody loads files that are not marked as his, or removes what is another source's.

use std::{
    collections::BTreeMap,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use dm_core::{
    full::{DumpFile, METADATA_FILE, Metadata},
    lifecycle::View,
    sync::progress::Location,
};
use tokio::sync::watch;

use crate::{
    scenario::TASK,
    values,
    world::{
        control::Server, files::Machine, rows::rows_of, source::Upstream, tables::Snapshot,
        trace::Trace, worker::Surroundings,
    },
};

pub(in crate::world) const NAME: &str = "files";

/// Where every worker has its dump files.
const DIR: &str = "/dumps";
/// What says that a dump is under way.
const PARTIAL: &str = "metadata.partial";

/// What a task names as the directory for a dump of a source, by number.
pub(in crate::world) fn dir(source: &str, number: u32) -> String {
    format!("{DIR}/{source}-{number}")
}

/// What was dumped.
#[derive(Clone, Debug, Default)]
pub(in crate::world) struct Dumps(Arc<Mutex<Inner>>);

#[derive(Debug, Default)]
struct Inner {
    /// All snapshots, by source and place.
    snapshots: BTreeMap<(String, String), Snapshot>,
    /// What is complete, by directory: the worker that has it, and its place.
    complete: BTreeMap<String, (String, String)>,
}

impl Dumps {
    /// A snapshot was taken.
    pub(in crate::world) fn note(&self, source: &str, from: &Location, tables: Snapshot) {
        let key = (source.to_owned(), from.to_string());
        self.inner().snapshots.insert(key, tables);
    }

    /// The worker that has a dump which is complete, and the place of it.
    pub(in crate::world) fn complete(&self, source: &str, number: u32) -> Option<(String, String)> {
        let dir = dir(source, number);
        self.inner().complete.get(&dir).cloned()
    }

    fn of(&self, source: &str, from: &Location) -> Option<Snapshot> {
        let key = (source.to_owned(), from.to_string());
        self.inner().snapshots.get(&key).cloned()
    }

    fn inner(&self) -> MutexGuard<'_, Inner> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// A load is over that began with the binlog there.
    pub(in crate::world) fn loaded(
        &self,
        trace: &Trace,
        source: &str,
        from: &Location,
        target: &Snapshot,
    ) {
        let difference = self.difference(source, from, target);
        trace.expect(
            NAME,
            difference.is_none(),
            format_args!(
                "{source} is loaded as of {from}, but {}",
                difference.unwrap_or_default()
            ),
        );
        trace.count("target: loaded files");
    }

    /// In what a target differs from the snapshot of a place.
    pub(super) fn difference(
        &self,
        source: &str,
        at: &Location,
        target: &Snapshot,
    ) -> Option<String> {
        match self.of(source, at) {
            Some(there) => there.difference(target),
            None => Some("nothing was read there".to_owned()),
        }
    }
}

/// A process writes what comes from the dump files of a source.
pub(in crate::world) fn loads(trace: &Trace, server: &Server, source: &str, process: &str) {
    let worker = process
        .split_once('.')
        .map_or(process, |(worker, _)| worker);
    let marks = server.entries(&values::load_task_key(source, TASK));
    let holder = marks
        .first()
        .and_then(|kv| values::parse_load_task(&kv.value));
    trace.expect(
        NAME,
        holder.as_deref() == Some(worker),
        format_args!("{process} loads files of {source}, which are marked as {holder:?}'s"),
    );
}

/// Looks at what one process does to dump files.
pub(in crate::world) struct Watch {
    around: Surroundings,
    machine: Machine,
    process: String,
    view: watch::Receiver<View>,
}

impl Watch {
    pub(in crate::world) fn new(
        around: &Surroundings,
        machine: &Machine,
        process: &str,
        view: &watch::Receiver<View>,
    ) -> Self {
        Self {
            around: around.clone(),
            machine: machine.clone(),
            process: process.to_owned(),
            view: view.clone(),
        }
    }

    /// A file has got a name.
    pub(in crate::world) fn renamed(&self, path: &str) {
        if let Some((dir, source, METADATA_FILE)) = named(path) {
            self.around.trace.count("dump: complete");
            let problem = self
                .around
                .problem(&self.machine, (dir, source), Machine::seen);
            self.expect(source, problem, "says that it is complete");
        }
    }

    /// A file is about to be removed.
    pub(in crate::world) fn removes(&self, path: &str) {
        let Some((_, source, _)) = named(path) else {
            return;
        };
        let has_it = (self.view.borrow().sources.iter()).any(|it| it.name == source);
        self.around.trace.expect(
            NAME,
            has_it,
            format_args!(
                "{} removes {path}, and does not have the source",
                self.process
            ),
        );
    }

    /// A file is removed.
    pub(in crate::world) fn removed(&self, path: &str) {
        let Some((dir, source, PARTIAL)) = named(path) else {
            return;
        };
        if looks_complete(&self.machine, dir) {
            let problem = self
                .around
                .problem(&self.machine, (dir, source), Machine::durable);
            self.expect(source, problem, "looks complete, and a power cut may come");
        } else {
            self.around.trace.count("dump: removed");
        }
    }

    /// The names in a directory survive.
    pub(in crate::world) fn synced(&self, dir: &str) {
        if !dir.starts_with(DIR) || !looks_complete(&self.machine, dir) {
            return;
        }
        let metadata = self.machine.seen(&format!("{dir}/{METADATA_FILE}"));
        let mut names = dir[DIR.len()..].trim_start_matches('/').split('-');
        let source = names.next().and_then(|name| self.around.sources.get(name));
        if let (Some(metadata), Some(upstream)) = (metadata, source) {
            let metadata = String::from_utf8_lossy(&metadata);
            let parsed = Metadata::parse(upstream.flavor(), &metadata);
            let from = parsed.ok().and_then(|it| it.from).unwrap_or_default();
            let worker = worker_of(&self.process).to_owned();
            let mut dumps = self.around.dumps.inner();
            dumps
                .complete
                .insert(dir.to_owned(), (worker, from.to_string()));
        }
    }

    fn expect(&self, source: &str, problem: Option<String>, what: &str) {
        self.around.trace.expect(
            NAME,
            problem.is_none(),
            format_args!(
                "{}: the dump of {source} {what}, but {}",
                self.process,
                problem.unwrap_or_default()
            ),
        );
    }
}

/// Whatever befell a machine, what looks complete on it is.
pub(in crate::world) fn survived(around: &Surroundings, machine: &Machine, worker: &str) {
    for name in machine.names(DIR) {
        let dir = format!("{DIR}/{name}");
        let source = name.split('-').next().unwrap_or_default();
        if looks_complete(machine, &dir) {
            let problem = around.problem(machine, (&dir, source), Machine::seen);
            around.trace.expect(
                NAME,
                problem.is_none(),
                format_args!(
                    "{worker}: the dump {dir} looks complete, but {}",
                    problem.unwrap_or_default()
                ),
            );
        }
    }
}

fn looks_complete(machine: &Machine, dir: &str) -> bool {
    let names = machine.names(dir);
    let has = |name: &str| names.iter().any(|it| it == name);
    has(METADATA_FILE) && !has(PARTIAL)
}

impl Surroundings {
    /// What is wrong with a directory that is to be complete.
    fn problem(
        &self,
        machine: &Machine,
        (dir, source): (&str, &str),
        read: fn(&Machine, &str) -> Option<Vec<u8>>,
    ) -> Option<String> {
        let upstream: &Upstream = self.sources.get(source)?;
        let content = |name: &str| read(machine, &format!("{dir}/{name}"));
        let Some(metadata) = content(METADATA_FILE) else {
            return Some("metadata may be lost".to_owned());
        };
        let metadata = String::from_utf8_lossy(&metadata);
        let Ok(metadata) = Metadata::parse(upstream.flavor(), &metadata) else {
            return Some(format!("metadata is {metadata:?}"));
        };
        let from = metadata.from.unwrap_or_default();
        let Some(dumped) = self.dumps.of(source, &from) else {
            return Some(format!("nothing was dumped at {from}"));
        };
        let names = machine.names(dir);
        for (table, definition, rows) in dumped.tables() {
            let (schema, table) = (source.to_owned(), table.to_owned());
            let file = DumpFile::Table {
                schema: schema.clone(),
                table: table.clone(),
            };
            let made = content(&file.to_string()).unwrap_or_default();
            if !String::from_utf8_lossy(&made).contains(&definition.to_string()) {
                return Some(format!("there is no definition of {table}"));
            }
            let is_its = |name: &&String| {
                let file = DumpFile::parse(name).ok().flatten();
                file.is_some_and(|(file, _)| {
                    matches!(file, DumpFile::Data { schema: of, table: it, .. }
                        if of == schema && it == table)
                })
            };
            let data = names.iter().filter(is_its);
            let mut found: Vec<_> = data
                .flat_map(|name| rows_of(&content(name).unwrap_or_default()))
                .collect();
            found.sort();
            if found != rows {
                let (found, rows) = (found.len(), rows.len());
                return Some(format!("{found} rows of {table} are there, of {rows}"));
            }
        }
        None
    }
}

fn worker_of(process: &str) -> &str {
    process
        .split_once('.')
        .map_or(process, |(worker, _)| worker)
}

/// The directory of a dump file, the source that it is of, and its name.
fn named(path: &str) -> Option<(&str, &str, &str)> {
    let (dir, file) = path.rsplit_once('/')?;
    let (source, _) = dir.strip_prefix(DIR)?.strip_prefix('/')?.split_once('-')?;
    Some((dir, source, file))
}
