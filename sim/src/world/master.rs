//! A master that does with keys what a DM master does: binds sources to workers that are online,
//! binds them anew when leases end, and writes what operators want of a task.

use std::{
    collections::BTreeMap,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use dm_core::binlog::Position;
use tokio::time::sleep;

use super::{
    control::Server,
    oracle::{
        files::{self, Dumps},
        order::Orders,
    },
    target::Database,
    trace::Trace,
    worker::Surroundings,
};
use crate::{
    etcd::{Op, Request, Span},
    scenario::{Brand, SourcePlan, TASK, Way},
    values::{self, Expect, Login, Source, Subtask},
};

/// How often it looks at the workers' leases.
const LOOK: Duration = Duration::from_millis(200);
/// After so many looks a source goes back to the worker that has its dump files.
const MISPLACED_LOOKS: u32 = 15;
/// A server in the simulation has no address; what stands here is never used.
const LOGIN: Login<'static> = Login {
    host: "10.0.0.1",
    port: 3306,
    user: "root",
    password: "",
};

/// The master.
pub(super) struct Master {
    server: Arc<Server>,
    trace: Trace,
    orders: Orders,
    database: Arc<Database>,
    /// In order of their names.
    sources: Vec<String>,
    state: Mutex<State>,
}

/// What operators want of a source and its task.
#[derive(Clone, Debug)]
pub(super) struct Wanted {
    pub(super) plan: SourcePlan,
    /// Where the task begins.
    pub(super) start: Position,
    /// What it has by then, if that is known.
    pub(super) gtids: String,
    /// Whether it is relayed now.
    pub(super) relays: bool,
    /// Whether the second task of two has begun.
    pub(super) is_second: bool,
    /// The number of the dump that is made or loaded.
    pub(super) dump: u32,
    /// For how many looks another worker has had the source than is preferred.
    pub(super) misplaced: u32,
}

struct State {
    plans: BTreeMap<String, Wanted>,
    /// Creation revision of each announcement that was seen.
    seen: BTreeMap<String, i64>,
}

impl Master {
    /// A master of these sources, whose configurations it writes.
    pub(super) fn new(around: &Surroundings, plans: BTreeMap<String, Wanted>) -> Arc<Self> {
        let master = Arc::new(Self {
            server: Arc::clone(&around.server),
            trace: around.trace.clone(),
            orders: around.orders.clone(),
            database: Arc::clone(&around.database),
            sources: plans.keys().cloned().collect(),
            state: Mutex::new(State {
                plans,
                seen: BTreeMap::new(),
            }),
        });
        for source in &master.sources {
            master.write("creates a source", master.source(source));
        }
        master
    }

    /// Schedules for ever.
    pub(super) async fn run(self: Arc<Self>) {
        loop {
            sleep(LOOK).await;
            self.server.thawed().await;
            self.go_on();
            self.schedule();
        }
    }

    /// The sources.
    pub(super) fn sources(&self) -> &[String] {
        &self.sources
    }

    /// `start-task`.
    pub(super) fn start(&self, source: &str) {
        if self.is_stopped(source) {
            self.orders.make(source, self.trace.now());
        }
        let ops = vec![self.subtask(source), stage(source, Expect::Running)];
        self.write("start-task", ops);
        self.orders.run(source);
    }

    /// `pause-task`.
    pub(super) fn pause(&self, source: &str) {
        self.write("pause-task", vec![stage(source, Expect::Paused)]);
        self.orders.rest(source, self.trace.now());
    }

    /// `resume-task`.
    pub(super) fn resume(&self, source: &str) {
        self.write("resume-task", vec![stage(source, Expect::Running)]);
        // There is nothing that could run while it is stopped.
        if !self.is_stopped(source) {
            self.orders.run(source);
        }
    }

    /// `stop-task`.
    pub(super) fn stop(&self, source: &str) {
        let ops = vec![
            delete(values::subtask_key(source, TASK)),
            delete(values::stage_key(source, TASK)),
        ];
        self.write("stop-task", ops);
        self.orders.rest(source, self.trace.now());
    }

    /// `pause-task` and `update-task`, with another number of slots.
    pub(super) fn resize(&self, source: &str, slots: u64) {
        if let Some(wanted) = self.state().plans.get_mut(source) {
            wanted.plan.slots = slots;
        }
        self.pause(source);
        // There is none to be changed while it is stopped.
        if !self.is_stopped(source) {
            self.write("update-task", vec![self.subtask(source)]);
        }
    }

    /// `start-relay` or `stop-relay`.
    pub(super) fn set_relay(&self, source: &str, relays: bool) {
        let wanted = self.wanted(source);
        if wanted.plan.relays && wanted.relays != relays {
            if let Some(wanted) = self.state().plans.get_mut(source) {
                wanted.relays = relays;
            }
            let what = if relays { "start-relay" } else { "stop-relay" };
            self.write(what, self.source(source));
        }
    }

    /// `pause-relay` or `resume-relay`.
    pub(super) fn pause_relay(&self, source: &str, pauses: bool) {
        if self.relays(source) {
            let expect = if pauses {
                Expect::Paused
            } else {
                Expect::Running
            };
            let what = if pauses {
                "pause-relay"
            } else {
                "resume-relay"
            };
            self.write(what, vec![relay_stage(source, expect)]);
        }
    }

    /// Whether a source is relayed.
    pub(super) fn relays(&self, source: &str) -> bool {
        self.wanted(source).relays
    }

    /// The configuration of a source, and with it the stage of its relay.
    fn source(&self, source: &str) -> Vec<Op> {
        let Wanted { plan, relays, .. } = self.wanted(source);
        let mut ops = vec![put(values::source_key(source), self.source_toml(source))];
        if relays {
            ops.push(relay_stage(source, Expect::Running));
        } else if plan.relays {
            ops.push(delete(values::relay_stage_key(source)));
        }
        ops
    }

    fn is_stopped(&self, source: &str) -> bool {
        let key = values::subtask_key(source, TASK);
        self.server.entries(&key).is_empty()
    }

    /// Moves a source to another worker that is online and free, if there is one.
    pub(super) fn transfer(&self, source: &str) {
        let bindings = self.bindings();
        let Some((from, _)) = bindings.iter().find(|(_, bound)| *bound == source) else {
            return;
        };
        let online = self.online();
        let free = online.keys().find(|name| !bindings.contains_key(*name));
        if let Some(to) = free {
            let mut ops = vec![delete(values::bound_key(from))];
            ops.extend(binding(source, to));
            self.trace.count("master: transferred");
            self.write(&format!("transfers {source} from {from} to {to}"), ops);
        }
    }

    /// Begins anew, as the next leader does: it has seen nobody yet.
    pub(super) fn elect(&self) {
        self.state().seen.clear();
        self.trace.note("master", "another one is leader");
    }

    /// Forgets everything before now.
    pub(super) fn compact(&self) {
        let revision = self.server.revision();
        let result = self.server.call(&Request::Compact { revision });
        if result.is_ok() {
            self.trace.count("etcd: compacted");
        }
        self.trace
            .note("master", format_args!("compacts: {result:?}"));
    }

    /// The second task of a source takes the place of the first one, which is finished. Where it
    /// has made the tables only, an operator may want the source to be dumped once more.
    fn go_on(&self) {
        for source in &self.sources {
            let mut wanted = self.wanted(source);
            let before = (wanted.is_second, wanted.dump);
            match wanted.plan.way {
                Way::Full | Way::StraightFull => {
                    if let Some(from) = self.database.copied_from(source) {
                        wanted.is_second = true;
                        wanted.start = from.position;
                        wanted.gtids = from.gtids.map(|it| it.to_string()).unwrap_or_default();
                    }
                }
                Way::TwoTasks => match self.database.copying_from(source) {
                    Some((from, true)) => {
                        // What they came from is needed until all are there. Two dumps may be of
                        // the same moment: then it is what is loaded, or was before the second.
                        let is_it = |number: &u32| {
                            let complete = self.dumps().complete(source, *number);
                            complete.is_some_and(|(_, of)| of == from.to_string())
                        };
                        let loaded = if wanted.is_second { wanted.dump } else { 1 };
                        let dumps = [loaded, 1, 2];
                        wanted.dump = dumps.into_iter().find(is_it).unwrap_or(wanted.dump);
                        wanted.is_second = true;
                    }
                    Some((_, false)) if wanted.plan.again && before == (true, 1) => {
                        (wanted.is_second, wanted.dump) = (false, 2);
                        self.trace.count("operator: dumps once more");
                    }
                    _ => wanted.is_second |= self.dumps().complete(source, wanted.dump).is_some(),
                },
                Way::Straight | Way::Files => {}
            }
            let after = (wanted.is_second, wanted.dump);
            if before != after && !self.orders.rests(source) {
                self.state().plans.insert(source.clone(), wanted);
                self.trace.count("master: another task");
                self.stop(source);
                self.start(source);
            }
        }
    }

    fn dumps(&self) -> Dumps {
        self.database.dumps()
    }

    /// The worker that a source belongs to, since it has dump files.
    fn preferred(&self, source: &str) -> Option<String> {
        let Wanted {
            plan,
            is_second,
            dump,
            ..
        } = self.wanted(source);
        let is_loading = plan.way == Way::TwoTasks && is_second;
        if is_loading && self.database.copied_from(source).is_none() {
            return self
                .dumps()
                .complete(source, dump)
                .map(|(worker, _)| worker);
        }
        let marks = self.server.entries(&values::load_task_key(source, TASK));
        let mark = marks.first()?;
        values::parse_load_task(&mark.value)
    }

    /// Gives sources back to whoever has their dump files, some time after they were taken away.
    fn put_back(&self, online: &BTreeMap<String, i64>) {
        for source in &self.sources {
            let bindings = self.bindings();
            let bound = bindings.iter().find(|(_, bound)| *bound == source);
            let at = bound.map(|(worker, _)| worker);
            let preferred = self.preferred(source).filter(|it| online.contains_key(it));
            let Some(to) = preferred.filter(|it| at != Some(it)) else {
                if let Some(wanted) = self.state().plans.get_mut(source) {
                    wanted.misplaced = 0;
                }
                continue;
            };
            let looks = self.state().plans.get_mut(source).map_or(0, |wanted| {
                wanted.misplaced += 1;
                wanted.misplaced
            });
            let other = bindings.get(&to);
            let is_its = other.is_some_and(|it| self.preferred(it).as_ref() == Some(&to));
            if looks < MISPLACED_LOOKS || is_its {
                continue;
            }
            let mut ops = vec![delete(values::bound_key(&to))];
            ops.extend(at.map(|at| delete(values::bound_key(at))));
            self.write(
                &format!("unbinds {other:?} from {to}, {source} from {at:?}"),
                ops,
            );
            self.trace.count("master: put back");
            self.write(&format!("binds {source} to {to}"), binding(source, &to));
            if let (Some(other), Some(at)) = (other, at) {
                self.write(&format!("binds {other} to {at}"), binding(other, at));
            }
        }
    }

    /// One look at who is online, and what follows.
    fn schedule(&self) {
        let online = self.online();
        let mut bindings = self.bindings();
        for (worker, source) in bindings.clone() {
            if !online.contains_key(&worker) {
                bindings.remove(&worker);
                let ops = vec![delete(values::bound_key(&worker))];
                self.write(&format!("{worker} is offline, unbinds {source}"), ops);
            }
        }
        self.put_back(&online);
        let mut bindings = self.bindings();
        let known = std::mem::replace(&mut self.state().seen, online.clone());
        for (worker, created) in &online {
            if known.get(worker) == Some(created) {
                continue;
            }
            if let Some(source) = bindings.get(worker) {
                let ops = binding(source, worker);
                self.write(&format!("{worker} is back, binds {source} again"), ops);
            }
        }
        for source in &self.sources {
            if bindings.values().any(|bound| bound == source) {
                continue;
            }
            let is_free = |name: &&String| !bindings.contains_key(*name);
            let preferred = self.preferred(source);
            let preferred = preferred.as_ref().filter(|it| online.contains_key(*it));
            let free = preferred.filter(is_free);
            let free = free.or_else(|| online.keys().find(is_free));
            if let Some(free) = free {
                let ops = binding(source, free);
                self.write(&format!("binds {source} to {free}"), ops);
                bindings.insert(free.clone(), source.clone());
            }
        }
    }

    /// The mode of its task.
    const fn mode(wanted: &Wanted) -> &'static str {
        let Wanted {
            plan, is_second, ..
        } = wanted;
        match (plan.copies, plan.way, *is_second) {
            (false, ..) | (_, Way::Full | Way::StraightFull, true) => "incremental",
            (_, Way::Straight | Way::Files, _) => "all",
            (_, Way::TwoTasks, false) => "dump",
            (_, Way::TwoTasks, true) => "load&sync",
            (_, Way::Full | Way::StraightFull, false) => "full",
        }
    }

    /// Source by worker.
    fn bindings(&self) -> BTreeMap<String, String> {
        let bound = self.server.entries(values::BOUND_PREFIX);
        let parsed = bound.iter().filter_map(|kv| values::parse_bound(&kv.value));
        parsed.map(|(source, worker)| (worker, source)).collect()
    }

    /// Creation revision of the announcement by worker.
    fn online(&self) -> BTreeMap<String, i64> {
        let announced = self.server.entries(values::KEEPALIVE_PREFIX);
        let worker = announced
            .iter()
            .filter_map(|kv| Some((values::worker_of(&kv.key)?, kv.create_revision)));
        worker.collect()
    }

    fn source_toml(&self, source: &str) -> String {
        let Wanted { plan, relays, .. } = self.wanted(source);
        Source {
            id: source,
            flavor: match plan.brand {
                Brand::Mysql => "mysql",
                Brand::Mariadb { .. } => "mariadb",
            },
            gtid: plan.by_gtid,
            relay: relays,
            login: LOGIN,
            backoff_max: "8s",
            check_interval: "1s",
        }
        .toml_purging(plan.purge)
    }

    /// The configuration of the subtask, as it is wanted now.
    fn subtask(&self, source: &str) -> Op {
        let wanted = self.wanted(source);
        let Wanted { plan, start, .. } = &wanted;
        let subtask = Subtask {
            name: TASK,
            mode: Self::mode(&wanted),
            source,
            meta_schema: "dm_meta",
            slots: plan.slots,
            batch: plan.batch,
            flush_s: plan.flush_s,
            file: &start.file,
            position: start.pos,
            gtids: &wanted.gtids,
            from: LOGIN,
            // What can't be changed while a task lives tells it from the one before it.
            to: Login {
                user: &self.orders.made(source).to_string(),
                ..LOGIN
            },
            schemas: &[source.to_owned()],
        };
        let toml = match plan.way {
            way if !way.has_files() => subtask.toml(),
            // Worlds have few rows, and want many files and statements of them.
            _ => subtask.toml_with(&files::dir(source, wanted.dump), ("300B", 80)),
        };
        put(values::subtask_key(source, TASK), toml)
    }

    /// How many slots the task of a source is to have.
    pub(super) fn slots(&self, source: &str) -> u64 {
        self.wanted(source).plan.slots
    }

    /// Whether the task of a source reads by GTID.
    pub(super) fn reads_by_gtid(&self, source: &str) -> bool {
        self.wanted(source).plan.by_gtid
    }

    fn wanted(&self, source: &str) -> Wanted {
        self.state().plans[source].clone()
    }

    fn write(&self, what: &str, then: Vec<Op>) {
        let request = Request::Txn {
            when: Vec::new(),
            then,
            or: Vec::new(),
        };
        let answer = self.server.call(&request);
        let revision = answer.map_or(0, |answer| answer.revision);
        self.trace
            .note("master", format_args!("{what} (revision {revision})"));
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn binding(source: &str, worker: &str) -> Vec<Op> {
    let bound = values::bound(source, worker);
    vec![
        put(values::bound_key(worker), bound.clone()),
        put(values::last_bound_key(worker), bound),
    ]
}

fn stage(source: &str, expect: Expect) -> Op {
    let value = values::stage(source, TASK, expect);
    put(values::stage_key(source, TASK), value)
}

fn relay_stage(source: &str, expect: Expect) -> Op {
    let value = values::relay_stage(source, expect);
    put(values::relay_stage_key(source), value)
}

fn put(key: String, value: String) -> Op {
    Op::Put {
        key: key.into(),
        value: value.into(),
        lease: 0,
    }
}

fn delete(key: String) -> Op {
    Op::Delete {
        span: Span::key(key),
    }
}
