//! What is wanted: the keys of one snapshot, folded.
//!
//! Keys that cannot be obeyed become problems and change nothing; everything else is obeyed, so one
//! bad value never stands in the way of the others.

use alloc::{
    borrow::ToOwned,
    collections::{BTreeMap, BTreeSet},
    format,
    string::{String, ToString},
    sync::Arc,
    vec,
    vec::Vec,
};

use bytes::Bytes;

use super::{
    arguments::Stored,
    config::{Assignment, Config},
    effect::Range,
    files::{Holder, Mark},
    input::Entry,
    relay::{Expect, WantedStage},
    view::Problem,
};
use crate::{
    control::{Key, Kind, LoadTask, RelayStage, SourceBound, SubtaskStage, TaskCliArgs},
    control::{SourceConfig, SubtaskConfig},
    error::{Error, Result, code},
    status::Stage,
};

/// Number of the stage Running, as the stage keys hold it.
const RUNNING: i64 = Stage::Running.number() as i64;

/// What is wanted, as of one revision.
#[derive(Clone, Debug, Default)]
pub(super) struct Desired {
    pub(super) revision: i64,
    /// The lease that the worker's announcement hangs on, or 0.
    pub(super) holder: i64,
    /// The bound and relay keys that were read last of their kind.
    pub(super) bound: Option<Assigned>,
    pub(super) relayed: Option<Assigned>,
    pub(super) sources: BTreeMap<String, WantedSource>,
    /// What is wrong with the assignment.
    pub(super) errors: Vec<Error>,
    pub(super) problems: Vec<Problem>,
}

/// A source in a bound or relay key.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Assigned {
    pub(super) source: String,
    pub(super) revision: i64,
}

/// A source is ours.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) struct Bound {
    /// Revision at which the bound key came into being, after its last deletion.
    created: i64,
    /// A revision of this ownership that no earlier one of the source can have seen, which
    /// therefore orders it among them. Stays while the ownership does, however often a master puts
    /// the key again.
    pub(super) since: i64,
}

/// What is wanted for one source.
#[derive(Clone, Debug, Default)]
pub(super) struct WantedSource {
    /// Its subtasks are ours.
    pub(super) bound: Option<Bound>,
    /// Its relay is on by key.
    pub(super) relay_by_key: bool,
    /// `None` if there is none that can be read.
    pub(super) config: Option<Arc<SourceConfig>>,
    pub(super) relay_stage: WantedStage,
    pub(super) subtasks: BTreeMap<String, WantedSubtask>,
}

/// What is wanted for one subtask.
#[derive(Clone, Debug)]
pub(super) struct WantedSubtask {
    /// The revisions at which its configuration and its stage came into being: a task that is
    /// deleted and made again is another one, though its name is the same.
    pub(super) incarnation: (i64, i64),
    /// Running, Paused or Stopped; `None` if the key says something else, which changes nothing.
    pub(super) expect: Option<Stage>,
    /// Revision of the last write of the expected stage.
    pub(super) expect_revision: i64,
    /// `None` if there is none that can be read.
    pub(super) setup: Option<Setup>,
    pub(super) arguments: Option<Stored>,
    /// Who has its dump files.
    pub(super) files: Mark,
}

/// The configuration of a subtask and of its source, ready for use.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Setup {
    pub(super) source: Arc<SourceConfig>,
    pub(super) task: Arc<SubtaskConfig>,
}

/// What came of reading a value, and the revision of that value.
type Versioned<R, T> = (R, Result<Arc<T>>);

/// Configurations parsed before, so that only those that were written since are parsed again.
#[derive(Clone, Debug, Default)]
pub(super) struct Parsed {
    sources: BTreeMap<String, Versioned<i64, SourceConfig>>,
    /// By source and task; of the subtask's and the source's key the last writes.
    subtasks: BTreeMap<(String, String), Versioned<(i64, i64), SubtaskConfig>>,
}

/// The keys that say which sources are ours, and the one that says that we are we.
pub(super) fn assignment_ranges(config: &Config) -> Vec<Range> {
    let worker = || config.worker.clone();
    let key = |key: Key| Range::Key(Bytes::from(key.encode()));
    let mut ranges = vec![key(Key::KeepAlive { worker: worker() })];
    match config.assignment {
        Assignment::Own => ranges.extend([
            key(Key::Bound { worker: worker() }),
            key(Key::RelayWorker { worker: worker() }),
        ]),
        Assignment::All => {
            ranges.extend([Kind::Bound, Kind::RelayWorker].map(|kind| prefix(kind, &[])));
        }
    }
    ranges
}

/// The keys that say what these sources are, and what is to be done with them.
pub(super) fn detail_ranges(assignment: &[Entry]) -> Vec<Range> {
    let sources: BTreeSet<String> = assignment
        .iter()
        .filter_map(|entry| assigned(entry).ok()?)
        .map(|(_, assigned)| assigned.source)
        .collect();
    let mut ranges = Vec::new();
    for source in &sources {
        let config = Key::Source {
            source: source.clone(),
        };
        let relay = Key::RelayStage {
            source: source.clone(),
        };
        ranges.extend([config, relay].map(|key| Range::Key(Bytes::from(key.encode()))));
        let kinds = [Kind::Subtask, Kind::SubtaskStage, Kind::ValidatorStage];
        ranges.extend(kinds.map(|kind| prefix(kind, &[source])));
    }
    if !ranges.is_empty() {
        // The task comes first in these.
        ranges.extend([Kind::TaskCliArgs, Kind::LoadTask].map(|kind| prefix(kind, &[])));
    }
    ranges
}

impl Desired {
    /// Folds the two halves of a snapshot; `last` is the one before, of the same tenure.
    pub(super) fn fold(
        config: &Config,
        parsed: &mut Parsed,
        last: Option<&Self>,
        revision: i64,
        assignment: &[Entry],
        details: &[Entry],
    ) -> Self {
        let mut desired = Self {
            revision,
            ..Self::default()
        };
        desired.assign(config, last, assignment);
        let mut details: BTreeMap<Key, &Entry> = details
            .iter()
            .filter_map(|entry| Some((Key::decode(&entry.key).ok()?, entry)))
            .collect();
        let mut sources = core::mem::take(&mut desired.sources);
        for (name, source) in &mut sources {
            desired.source(config, parsed, name, source, &details);
        }
        details.retain(|key, _| matches!(key, Key::Source { .. } | Key::Subtask { .. }));
        parsed.retain(&details);
        desired.sources = sources;
        desired
    }

    fn assign(&mut self, config: &Config, last: Option<&Self>, assignment: &[Entry]) {
        let mut entries = Vec::new();
        for entry in assignment {
            match assigned(entry) {
                Ok(Some(found)) => entries.push((found, entry)),
                // The announcement is the only other one: which lease it hangs on.
                Ok(None) => self.holder = entry.lease,
                Err(error) => self.errors.push(error),
            }
        }
        // Bound keys first: where both kinds exist, the bound one decides.
        entries.sort_by_key(|((kind, _), entry)| (*kind, entry.mod_revision));
        for ((kind, assigned), entry) in entries {
            let name = assigned.source.clone();
            if kind == Kind::Bound {
                let bound = Bound::of(entry, last.and_then(|last| last.sources.get(&name)?.bound));
                self.sources.entry(name).or_default().bound = Some(bound);
                self.bound = Some(assigned);
                continue;
            }
            match &self.bound {
                Some(bound) if config.assignment == Assignment::Own && bound.source != name => {
                    self.errors
                        .push(another_source(&config.worker, &bound.source, &name));
                }
                _ => {
                    self.sources.entry(name).or_default().relay_by_key = true;
                    self.relayed = Some(assigned);
                }
            }
        }
    }

    fn source(
        &mut self,
        config: &Config,
        parsed: &mut Parsed,
        name: &str,
        wanted: &mut WantedSource,
        details: &BTreeMap<Key, &Entry>,
    ) {
        let source = name.to_owned();
        let entry = details.get(&Key::Source {
            source: source.clone(),
        });
        match entry.map(|entry| parsed.source(config, name, entry)) {
            Some(Ok(config)) => wanted.config = Some(config),
            Some(Err(error)) => self.errors.push(error),
            None => self.errors.push(missing_for_bound(name)),
        }
        if let Some(entry) = details.get(&Key::RelayStage {
            source: source.clone(),
        }) {
            wanted.relay_stage.revision = entry.mod_revision;
            let expect = RelayStage::parse(&entry.value).and_then(|it| relay_stage(it.expect));
            wanted.relay_stage.expect = expect.unwrap_or_else(|error| {
                self.problem(name, "", error);
                Expect::Unclear
            });
        }
        if wanted.bound.is_none() {
            return;
        }
        let first = Key::SubtaskStage {
            source: source.clone(),
            task: String::new(),
        };
        for (key, stage) in details.range(first..) {
            let Key::SubtaskStage { source: of, task } = key else {
                break;
            };
            if *of != source {
                break;
            }
            self.subtask(parsed, name, task, wanted, details, stage, entry.copied());
        }
    }

    #[expect(clippy::too_many_arguments, reason = "the keys of one subtask")]
    fn subtask(
        &mut self,
        parsed: &mut Parsed,
        source: &str,
        task: &str,
        wanted: &mut WantedSource,
        details: &BTreeMap<Key, &Entry>,
        stage: &Entry,
        source_entry: Option<&Entry>,
    ) {
        let names = || (source.to_owned(), task.to_owned());
        let key = |make: fn(String, String) -> Key| {
            let (source, task) = names();
            make(source, task)
        };
        let Some(entry) = details.get(&key(|source, task| Key::Subtask { source, task })) else {
            let message = format!("there is no relative subtask config for task {task} in etcd");
            let code = &code::WORKER_FAIL_TO_GET_SUBTASK_CONFIG_FROM_ETCD;
            return self.problem(source, task, Error::new(code, message));
        };
        let expect = SubtaskStage::parse(&stage.value).and_then(|it| subtask_stage(it.expect));
        let expect = expect
            .map_err(|error| self.problem(source, task, error))
            .ok();
        let mut setup = None;
        if let (Some(config), Some(source_entry)) = (&wanted.config, source_entry) {
            let revisions = (entry.mod_revision, source_entry.mod_revision);
            match parsed.subtask(names(), revisions, config, entry) {
                Ok(task) => {
                    setup = Some(Setup {
                        source: Arc::clone(config),
                        task,
                    })
                }
                Err(error) => self.problem(source, task, error),
            }
        }
        let arguments = details.get(&key(|source, task| Key::TaskCliArgs { task, source }));
        let arguments = arguments.and_then(|entry| match TaskCliArgs::parse(&entry.value) {
            Ok(value) => Some(Stored {
                value: Arc::new(value),
                mod_revision: entry.mod_revision,
            }),
            Err(error) => {
                self.problem(source, task, error);
                None
            }
        });
        let holder = details.get(&key(|source, task| Key::LoadTask { task, source }));
        if let Some(Err(error)) = holder.map(|entry| LoadTask::parse(&entry.value)) {
            self.problem(source, task, error);
        }
        let files = Mark {
            revision: self.revision,
            holder: holder.map(|entry| Holder::of(entry)),
        };
        let validator = key(|source, task| Key::ValidatorStage { source, task });
        let validator = details
            .get(&validator)
            .map(|entry| SubtaskStage::parse(&entry.value));
        if validator.is_some_and(|it| it.is_ok_and(|it| it.expect == RUNNING)) {
            let message = "the validator of a subtask was started, but there is none yet";
            self.problem(
                source,
                task,
                Error::new(&code::CONFIG_NOT_SUPPORTED, message),
            );
        }
        let subtask = WantedSubtask {
            incarnation: (entry.create_revision, stage.create_revision),
            expect,
            expect_revision: stage.mod_revision,
            setup,
            arguments,
            files,
        };
        wanted.subtasks.insert(task.to_owned(), subtask);
    }

    fn problem(&mut self, source: &str, task: &str, error: Error) {
        self.problems.push(Problem {
            source: source.to_owned(),
            task: task.to_owned(),
            error,
        });
    }
}

impl Bound {
    /// The ownership that a bound key speaks of; `last` is that of the same source in the snapshot
    /// before. If there is none, somebody else may have had the source up to the key's last write,
    /// as the key may have named another one before it.
    fn of(entry: &Entry, last: Option<Self>) -> Self {
        let new = Self {
            created: entry.create_revision,
            since: entry.mod_revision,
        };
        last.filter(|last| last.created == new.created)
            .unwrap_or(new)
    }
}

impl Parsed {
    fn source(&mut self, config: &Config, name: &str, entry: &Entry) -> Result<Arc<SourceConfig>> {
        let known = self
            .sources
            .get(name)
            .filter(|(revision, _)| *revision == entry.mod_revision);
        if let Some((_, result)) = known {
            return result.clone();
        }
        let result = SourceConfig::parse(name, &entry.value).map(|mut source| {
            if let Some(dir) = &config.relay_dir {
                source.relay_dir.clone_from(dir);
            }
            Arc::new(source)
        });
        self.sources
            .insert(name.to_owned(), (entry.mod_revision, result.clone()));
        result
    }

    fn subtask(
        &mut self,
        names: (String, String),
        revisions: (i64, i64),
        source: &SourceConfig,
        entry: &Entry,
    ) -> Result<Arc<SubtaskConfig>> {
        let known = self
            .subtasks
            .get(&names)
            .filter(|(known, _)| *known == revisions);
        if let Some((_, result)) = known {
            return result.clone();
        }
        let result = SubtaskConfig::parse(&entry.value).map(|mut task| {
            task.bind(source, false);
            Arc::new(task)
        });
        self.subtasks.insert(names, (revisions, result.clone()));
        result
    }

    /// Forgets what is not stored any more.
    fn retain(&mut self, details: &BTreeMap<Key, &Entry>) {
        self.sources.retain(|name, _| {
            details.contains_key(&Key::Source {
                source: name.clone(),
            })
        });
        self.subtasks.retain(|(source, task), _| {
            let (source, task) = (source.clone(), task.clone());
            details.contains_key(&Key::Subtask { source, task })
        });
    }
}

/// What a bound or relay key says; nothing for another key.
fn assigned(entry: &Entry) -> Result<Option<(Kind, Assigned)>> {
    let kind = Key::decode(&entry.key)?.kind();
    let source = match kind {
        Kind::Bound => SourceBound::parse(&entry.value)?.source,
        Kind::RelayWorker => String::from_utf8_lossy(&entry.value).to_string(),
        _ => return Ok(None),
    };
    let revision = entry.mod_revision;
    Ok(Some((kind, Assigned { source, revision })))
}

fn relay_stage(expect: i64) -> Result<Expect> {
    match Stage::from_number(expect) {
        Some(Stage::Running) => Ok(Expect::Running),
        Some(Stage::Paused) => Ok(Expect::Paused),
        _ => {
            let message = format!("operation {expect} not supported");
            Err(Error::new(&code::WORKER_RELAY_OPER_NOT_SUPPORT, message))
        }
    }
}

fn subtask_stage(expect: i64) -> Result<Stage> {
    match Stage::from_number(expect) {
        Some(stage @ (Stage::Running | Stage::Paused | Stage::Stopped)) => Ok(stage),
        _ => {
            let message = format!("no subtask can be asked to be in stage {expect}");
            Err(Error::new(&code::WORKER_UPDATE_TASK_STAGE, message)
                .with_workaround("Put 2 (Running), 3 (Paused) or 4 (Stopped)."))
        }
    }
}

fn missing_for_bound(source: &str) -> Error {
    let message = format!("source bound {source} doesn't have related source config in etcd");
    Error::new(&code::CONFIG_MISSING_FOR_BOUND, message)
}

fn another_source(worker: &str, ours: &str, other: &str) -> Error {
    let message = format!(
        "mysql source worker {worker} has already started with source {ours}, but get a request \
         with source {other}"
    );
    Error::new(&code::WORKER_ALREADY_START, message)
}

fn prefix(kind: Kind, parts: &[&str]) -> Range {
    Range::Prefix(Bytes::from(kind.range(parts)))
}
