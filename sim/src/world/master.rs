//! A master that does with keys what a DM master does: binds sources to workers that are online,
//! binds them anew when leases end, and writes what operators want of a task.

use std::{
    collections::BTreeMap,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use tokio::time::sleep;

use super::{
    control::Server,
    trace::Trace,
    values::{self, Expect, Task},
};
use crate::etcd::{Op, Request, Span};

/// How often it looks at the workers' leases.
const LOOK: Duration = Duration::from_millis(200);

/// The master.
pub(super) struct Master {
    server: Arc<Server>,
    trace: Trace,
    tasks: Vec<Task>,
    state: Mutex<State>,
}

#[derive(Default)]
struct State {
    /// Creation revision of each announcement that was seen.
    seen: BTreeMap<String, i64>,
}

impl Master {
    /// A master of these tasks; it writes the configurations of their sources.
    pub(super) fn new(server: &Arc<Server>, trace: &Trace, tasks: Vec<Task>) -> Arc<Self> {
        let master = Arc::new(Self {
            server: Arc::clone(server),
            trace: trace.clone(),
            tasks,
            state: Mutex::default(),
        });
        for task in &master.tasks {
            let config = put(
                values::source_key(&task.source),
                values::source_config(task),
            );
            master.write("creates a source", vec![config]);
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

    /// The tasks.
    pub(super) fn tasks(&self) -> &[Task] {
        &self.tasks
    }

    /// `start-task`.
    pub(super) fn start(&self, task: &Task) {
        let ops = vec![
            put(values::subtask_key(task), values::subtask_config(task)),
            put(
                values::stage_key(task),
                values::stage(task, Expect::Running),
            ),
        ];
        self.write("start-task", ops);
    }

    /// `pause-task` and `resume-task`.
    pub(super) fn set_stage(&self, task: &Task, expect: Expect) {
        let op = put(values::stage_key(task), values::stage(task, expect));
        let what = match expect {
            Expect::Running => "resume-task",
            Expect::Paused => "pause-task",
        };
        self.write(what, vec![op]);
    }

    /// `stop-task`.
    pub(super) fn stop(&self, task: &Task) {
        let ops = vec![
            delete(values::subtask_key(task)),
            delete(values::stage_key(task)),
        ];
        self.write("stop-task", ops);
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
            self.write(&format!("transfers {source} from {from} to {to}"), ops);
        }
    }

    /// Forgets everything before now.
    pub(super) fn compact(&self) {
        // There is nothing that could be forgotten where nothing was written since the last time.
        let revision = self.server.entries(values::BOUND_PREFIX);
        let newest = revision.iter().map(|kv| kv.mod_revision).max();
        let result = newest.map(|revision| self.server.call(&Request::Compact { revision }));
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
        for task in &self.tasks {
            if bindings.values().any(|bound| *bound == task.source) {
                continue;
            }
            let free = online.keys().find(|name| !bindings.contains_key(*name));
            if let Some(free) = free {
                let ops = binding(&task.source, free);
                self.write(&format!("binds {} to {free}", task.source), ops);
                bindings.insert(free.clone(), task.source.clone());
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
