//! A master that does with keys what a DM master does: binds sources to workers that are online,
//! binds them anew when leases end, and writes what operators want of a task.

use std::{
    collections::BTreeMap,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use dm_core::binlog::Position;
use tokio::time::sleep;

use super::{control::Server, oracle::order::Orders, trace::Trace};
use crate::{
    etcd::{Op, Request, Span},
    scenario::{Brand, SourcePlan, TASK},
    values::{self, Expect, Login, Source, Subtask},
};

/// How often it looks at the workers' leases.
const LOOK: Duration = Duration::from_millis(200);
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
    /// Whether it is relayed now.
    pub(super) relays: bool,
}

struct State {
    plans: BTreeMap<String, Wanted>,
    /// Creation revision of each announcement that was seen.
    seen: BTreeMap<String, i64>,
}

impl Master {
    /// A master of these sources, whose configurations it writes.
    pub(super) fn new(
        server: &Arc<Server>,
        trace: &Trace,
        orders: &Orders,
        plans: BTreeMap<String, Wanted>,
    ) -> Arc<Self> {
        let master = Arc::new(Self {
            server: Arc::clone(server),
            trace: trace.clone(),
            orders: orders.clone(),
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
            let free = online.keys().find(|name| !bindings.contains_key(*name));
            if let Some(free) = free {
                let ops = binding(source, free);
                self.write(&format!("binds {source} to {free}"), ops);
                bindings.insert(free.clone(), source.clone());
            }
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
        let Wanted { plan, start, .. } = self.wanted(source);
        let toml = Subtask {
            name: TASK,
            mode: if plan.copies { "all" } else { "incremental" },
            source,
            meta_schema: "dm_meta",
            slots: plan.slots,
            batch: plan.batch,
            flush_s: plan.flush_s,
            file: &start.file,
            position: start.pos,
            gtids: "",
            from: LOGIN,
            // What can't be changed while a task lives tells it from the one before it.
            to: Login {
                user: &self.orders.made(source).to_string(),
                ..LOGIN
            },
            schemas: &[source.to_owned()],
        }
        .toml();
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
