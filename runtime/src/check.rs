//! Checks before a task starts: whether its sources, its target and its tables are what it needs.
//!
//! Servers are asked little and once, table definitions in bulk (`ask`, `tables`); the verdicts on
//! what they answered (`server`, `privileges`, `schema`) need no server. Nothing is written.

mod ask;
mod grants;
mod item;
mod known;
mod privileges;
mod report;
mod schema;
mod server;
mod tables;

pub(crate) use ask::seen_in_part;

use std::collections::BTreeSet;

use dm_core::{
    control::{SourceConfig, SubtaskConfig, subtask::Mode},
    error::Error,
    sync::ddl::Rules,
};
use futures_util::future::join_all;
use tracing::warn;

use self::{
    ask::{Source, Target, Wanted},
    known::Known,
    schema::Route,
    server::{address, unreachable},
    tables::Kind,
};
pub use self::{
    item::{Item, Outcome, Problem, State},
    report::Report,
};
use crate::{
    config::{Files, support},
    units::{
        copy::Settings,
        files::{directory, look_into},
    },
};

/// Runs all checks of all tasks.
pub async fn run(files: &Files) -> Report {
    let mut report = Report::default();
    for task in tasks(files) {
        report.outcomes.extend(task.check().await);
    }
    report
}

/// Runs the checks of tasks that have not begun in their target. Servers that can't be asked are
/// no more than warnings: the worker asks them again and again.
pub async fn before_start(files: &Files) -> Report {
    let mut report = Report::default();
    for mut task in tasks(files) {
        if task.ignores("all") || !task.forget_begun().await {
            continue;
        }
        let mut outcomes = task.check().await;
        for outcome in &mut outcomes {
            if outcome.item == Item::Connection {
                for problem in &mut outcome.problems {
                    problem.state = State::Warn;
                }
            }
        }
        report.outcomes.extend(outcomes);
    }
    report
}

/// A task, with all its sources.
struct Task {
    name: String,
    parts: Vec<Part>,
}

/// A task on one source.
struct Part {
    task: SubtaskConfig,
    source: SourceConfig,
    mode: Mode,
    has_begun: bool,
}

fn tasks(files: &Files) -> Vec<Task> {
    let mut tasks: Vec<Task> = Vec::new();
    for (config, _) in &files.subtasks {
        let mut sources = files.sources.iter();
        let source = sources.find(|source| source.source_id == config.source_id);
        // Both were seen when the files were read.
        let (Some(source), Some(mode)) = (source, Mode::parse(&config.mode)) else {
            continue;
        };
        let mut task = config.clone();
        task.bind(source, source.enable_relay);
        let part = Part {
            source: source.clone(),
            mode,
            has_begun: false,
            task,
        };
        let is_same = |other: &&mut Task| {
            let first = other.parts.first();
            other.name == config.name && first.is_some_and(|first| first.task.to == config.to)
        };
        match tasks.iter_mut().find(is_same) {
            Some(known) => known.parts.push(part),
            None => tasks.push(Task {
                name: config.name.clone(),
                parts: vec![part],
            }),
        }
    }
    tasks
}

impl Part {
    /// Whether it makes tables and fills them.
    fn copies(&self) -> bool {
        self.mode.has_load() && !self.has_begun
    }

    /// What it asks for that is not built.
    fn unsupported(&self) -> Option<Problem> {
        let error = support::unsupported(&self.task, &self.source).err()?;
        Some(Problem::fail(error.message, error.workaround))
    }

    fn subject(&self) -> String {
        format!("source {}", self.source.source_id)
    }

    /// How it reads tables. Values that are not possible are told by [`support::unsupported`]; the
    /// usual ones stand for them.
    fn settings(&self) -> Settings {
        Settings::new(&self.task).unwrap_or_default()
    }

    fn threads(&self) -> u64 {
        self.settings().threads as u64
    }

    /// Whether its rows go through files.
    fn has_files(&self) -> bool {
        // A directory that is not possible is told by `support::unsupported`.
        directory(&self.task).is_ok_and(|dir| dir.is_some())
    }

    /// Whether its copy needs the binlog if it is interrupted, though nothing follows.
    fn catches_up(&self) -> bool {
        self.mode == Mode::Full && !self.has_files()
    }

    /// Whether it writes rows into the target.
    fn writes(&self) -> bool {
        self.mode.has_load() || self.mode.has_sync()
    }

    /// How many connections the target gets at most.
    fn slots(&self) -> u64 {
        let copy = match self.mode.has_load() {
            true if self.has_files() => self.settings().pool as u64,
            true => self.threads(),
            false => 0,
        };
        let sync = match self.mode.has_sync() || self.catches_up() {
            true => u64::try_from(self.task.sync.worker_count).unwrap_or(1),
            false => 0,
        };
        copy.max(sync) + 1
    }
}

impl Task {
    /// Whether an item is left out, by its name or with all others.
    fn ignores(&self, name: &str) -> bool {
        let parts = self.parts.iter();
        let mut items = parts.flat_map(|part| part.task.ignore_checking_items.iter().flatten());
        items.any(|item| item == "all" || item == name)
    }

    /// Drops the parts that have begun, and says whether any is left.
    async fn forget_begun(&mut self) -> bool {
        if !self.ask_begun().await {
            warn!(task = self.name, "what is before the start is not checked");
            return false;
        }
        self.parts.retain(|part| !part.has_begun);
        !self.parts.is_empty()
    }

    /// Finds out which parts have begun, and says whether the target knew.
    async fn ask_begun(&mut self) -> bool {
        let Some(first) = self.parts.first() else {
            return false;
        };
        let to = first.task.to.clone();
        let parts: Vec<_> = self.parts.iter().map(|part| &part.task).collect();
        match ask::begun(&to, &parts).await {
            Ok(begun) => {
                for (part, has_begun) in self.parts.iter_mut().zip(begun) {
                    part.has_begun = has_begun;
                }
                true
            }
            Err(fault) => {
                warn!(
                    task = self.name,
                    "the target {} can't be asked: {fault}",
                    address(&to)
                );
                false
            }
        }
    }

    async fn check(mut self) -> Vec<Outcome> {
        if self.ignores("all") {
            return Vec::new();
        }
        self.ask_begun().await;
        let mut found = Found {
            task: &self,
            outcomes: Vec::new(),
        };
        let known = found.ask_sources().await;
        let target = found.ask_target(&known).await;
        for known in &known {
            found.check_source(known).await;
            found.check_tables(known, target.as_ref());
        }
        found.check_merged(&known);
        if let Some(target) = &target {
            found.check_target(&known, target);
        }
        found.outcomes
    }
}

/// What was found so far.
struct Found<'a> {
    task: &'a Task,
    outcomes: Vec<Outcome>,
}

impl<'a> Found<'a> {
    /// Notes the outcome of a check, unless the task ignores it.
    fn put(
        &mut self,
        item: Item,
        subject: impl Into<String>,
        problems: impl IntoIterator<Item = Problem>,
    ) {
        if item == Item::Connection || !self.task.ignores(item.name()) {
            self.outcomes.push(Outcome {
                item,
                task: self.task.name.clone(),
                subject: subject.into(),
                problems: problems.into_iter().collect(),
            });
        }
    }

    /// Asks all sources at once; those that answer come back.
    async fn ask_sources(&mut self) -> Vec<Known<'a>> {
        let task = self.task;
        let ask = |part: &'a Part| async move {
            let rules = Rules::new(&part.task);
            let rules = rules.map_err(|error| Problem::fail(error.message, error.workaround))?;
            let source = Source::ask(&part.source.from, &rules, part.mode.has_dump()).await;
            let source = source.map_err(|fault| unreachable(&part.source.from, &fault))?;
            Ok((rules, source))
        };
        let answers = join_all(task.parts.iter().map(ask)).await;
        let mut known = Vec::new();
        for (part, answer) in task.parts.iter().zip(answers) {
            match answer {
                Ok((rules, source)) => {
                    self.put(Item::Connection, part.subject(), []);
                    known.push(Known {
                        part,
                        rules,
                        source,
                    });
                }
                Err(problem) => {
                    self.put(Item::Connection, part.subject(), [problem]);
                    // Its tables are not known.
                    if let Some(problem) = part.unsupported() {
                        self.put(Item::Unsupported, part.subject(), [problem]);
                    }
                }
            }
        }
        known
    }

    async fn ask_target(&mut self, known: &[Known<'_>]) -> Option<Target> {
        let to = &self.task.parts.first()?.task.to;
        let mut wanted = Wanted::default();
        for known in known {
            let (routes, _) = known.routes();
            for route in routes {
                if known.part.copies() {
                    wanted.filled.insert(route.target.clone());
                    let collations = schema::collations(route.source).into_iter();
                    let schema = &route.source.table.name.schema;
                    let of_schema = known.source.schemas.get(schema).map(|it| &**it);
                    let collations = collations.chain(of_schema).map(str::to_owned);
                    wanted.collations.extend(collations);
                }
                wanted.tables.insert(route.target);
            }
        }
        match Target::ask(to, &wanted).await {
            Ok(target) => {
                self.put(Item::Connection, "target", []);
                Some(target)
            }
            Err(fault) => {
                self.put(Item::Connection, "target", [unreachable(to, &fault)]);
                None
            }
        }
    }

    /// What concerns the source as a server.
    async fn check_source(&mut self, known: &Known<'_>) {
        let Known { part, source, .. } = known;
        let (config, mode, subject) = (&part.source, part.mode, part.subject());
        let variables = &source.variables;
        self.put(Item::Version, &subject, variables.check_version(config));
        if mode.has_dump() {
            self.put(Item::DumpPrivilege, &subject, known.dump().check());
            let (wanted, what_for) = (part.threads() + 2, "the copy");
            let problem = variables.check_connections(wanted, what_for);
            self.put(Item::ConnNumber, &subject, problem);
        }
        if part.copies()
            && !mode.has_dump()
            && let Ok(Some(dir)) = directory(&part.task)
        {
            let problem = look_into(dir, variables.flavor()).await.err().map(|error| {
                let Error { message, cause, .. } = &error;
                let reason = [&**message, cause].join(": ");
                // They may still be on their way: the task waits for them.
                Problem::warn(reason.trim_end_matches(": "), error.workaround)
            });
            self.put(Item::DumpFiles, &subject, problem);
        }
        self.put(Item::BinlogEnable, &subject, variables.check_binlog());
        self.check_reading(known);
        if !mode.has_sync() {
            return;
        }
        self.put(Item::ServerId, &subject, variables.check_server_id());
        if part.task.online_ddl {
            self.put(Item::OnlineDdl, &subject, known.ghosts());
        }
        if !mode.has_dump()
            && !part.task.use_relay
            && !part.has_begun
            && let Some(meta) = &part.task.meta
            && !self.task.ignores(Item::MetaPosition.name())
        {
            let problem = ask::read_from(config, meta, variables.flavor()).await;
            self.put(Item::MetaPosition, &subject, problem);
        }
    }

    /// What concerns the source as one whose binlog is read.
    fn check_reading(&mut self, known: &Known<'_>) {
        let Known { part, source, .. } = known;
        let (follows, subject) = (part.mode.has_sync(), part.subject());
        let weigh = |problem: Problem| match follows {
            true => problem,
            false => problem.if_interrupted(),
        };
        // Where it ends is asked whether anybody reads it or not.
        let flavor = source.variables.flavor();
        let problem = privileges::replication(&source.user, flavor, false);
        if !follows && (problem.is_some() || !part.catches_up()) {
            self.put(Item::ReplicationPrivilege, &subject, problem);
            return;
        }
        for (item, problems) in known.obstacles() {
            self.put(item, &subject, problems.into_iter().map(weigh));
        }
        if part.mode.has_dump() && !part.source.enable_relay {
            let bytes = source.tables.values().map(|facts| facts.bytes).sum();
            let problem = source.variables.check_retention(bytes, source.binlog_bytes);
            self.put(Item::BinlogRetention, &subject, problem.map(weigh));
        }
    }

    /// What concerns the tables of a source, and those that their rows go to.
    fn check_tables(&mut self, known: &Known<'_>, target: Option<&Target>) {
        let (does, subject) = (known.does(), known.part.subject());
        let (routes, mut problems) = known.routes();
        let target = target.filter(|_| known.part.writes());
        let there = target.map(|target| &target.there);
        problems.extend(schema::check(&routes, there, does));
        if let Some(there) = there.filter(|_| does.copies) {
            let schemas = &known.source.schemas;
            problems.extend(schema::check_schemas(&routes, schemas, there));
        }
        self.put(Item::TableSchema, &subject, problems);
        if let Some(there) = there {
            let problems = schema::check_targets(&routes, there, does);
            self.put(Item::TargetTables, &subject, problems);
        }
        let mut problems: Vec<_> = known.part.unsupported().into_iter().collect();
        let mode = known.part.mode;
        if mode.has_dump() || mode.has_load() && mode.has_sync() {
            problems.extend(known.not_copied());
        }
        self.put(Item::Unsupported, &subject, problems);
    }

    /// What concerns tables of all sources that go into the same ones.
    fn check_merged(&mut self, known: &[Known<'_>]) {
        let copying = known.iter().filter(|known| known.part.copies());
        let routes: Vec<_> = copying.flat_map(|known| known.routes().0).collect();
        let targets: BTreeSet<_> = routes.iter().map(|route| &route.target).collect();
        if targets.len() < routes.len() {
            let (shapes, numbers) = schema::check_merged(&routes);
            self.put(Item::SchemaOfShardTables, "all sources", shapes);
            self.put(Item::AutoIncrementId, "all sources", numbers);
        }
    }

    /// What concerns the target as a server.
    fn check_target(&mut self, known: &[Known<'_>], target: &Target) {
        let parts = &self.task.parts;
        let writes = |part: &&Part| part.writes();
        let meta = parts.iter().map(|part| part.task.meta_schema.clone());
        let (meta, mut schemas) = (meta.collect(), BTreeSet::new());
        let (mut has_foreign_keys, mut has_views) = (false, false);
        for known in known {
            let mut tables = known.source.tables.values();
            has_views |= known.part.copies() && tables.any(|facts| facts.kind == Kind::View);
            let (routes, _) = known.routes();
            for Route { source, target } in routes {
                has_foreign_keys |= known.part.copies() && source.parents.is_some();
                schemas.insert(target.schema);
            }
        }
        let more = (has_foreign_keys, has_views);
        let notes = parts.iter().any(Part::writes);
        let mut problems = privileges::target(&target.user, (&meta, &schemas), more, notes);
        let copied = known.iter().filter(|known| known.part.copies());
        let views = copied.flat_map(Known::views_to_make);
        let wanted = target.variables.definer_privilege();
        problems.extend(privileges::definers(&target.user, wanted, views));
        self.put(Item::TargetPrivilege, "target", problems);
        let slots: u64 = parts.iter().filter(writes).map(Part::slots).sum();
        let problem = target
            .variables
            .check_connections(slots, "copy and changes");
        let problem = problem.map(|problem| Problem::warn(problem.reason, problem.advice));
        self.put(Item::ConnNumber, "target", problem);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::task::Task as File;

    const TASK: &str = "name: t\ntask-mode: all\ntarget-database: {host: h, port: 1, user: u}\n\
                        mysql-instances: [{source-id: s}]\n";

    const ITEMS: [Item; 19] = [
        Item::Version,
        Item::DumpPrivilege,
        Item::DumpFiles,
        Item::ReplicationPrivilege,
        Item::TargetPrivilege,
        Item::ConnNumber,
        Item::ServerId,
        Item::BinlogEnable,
        Item::BinlogFormat,
        Item::BinlogRowImage,
        Item::BinlogDb,
        Item::BinlogRetention,
        Item::OnlineDdl,
        Item::MetaPosition,
        Item::TableSchema,
        Item::SchemaOfShardTables,
        Item::AutoIncrementId,
        Item::TargetTables,
        Item::Unsupported,
    ];

    #[test]
    fn every_item_but_the_first_can_be_ignored() {
        for item in ITEMS {
            let name = item.name();
            let text = format!("{TASK}ignore-checking-items: [{name}]\n");
            assert!(File::parse("t.yaml", &text, None).is_ok(), "{name}");
        }
        let text = format!("{TASK}ignore-checking-items: [connection]\n");
        let error = File::parse("t.yaml", &text, None).unwrap_err();
        assert!(error.message.contains("item connection is not"), "{error}");
    }
}
