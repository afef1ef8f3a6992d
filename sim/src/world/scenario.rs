//! One run from its beginning to its end.

use std::{
    collections::BTreeMap,
    fmt,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use dm_core::status::Stage;
use madsim::runtime::Handle;
use tokio::time::sleep;

use super::{
    control::{Link, Server},
    faults::{self, Action, Scale},
    master::Master,
    source::{Options, Upstream},
    target::{Database, Mutant, Weather},
    trace::{Record, Trace},
    values::{self, Expect, Task},
    worker::{Process, Surroundings},
};
use crate::dice::Dice;

/// How long everything works before anything fails.
const WARM_UP: Duration = Duration::from_secs(8);
/// How long things fail.
const CHAOS: Duration = Duration::from_secs(90);
/// How long a healed world may take to become what is wanted.
const HEALING_MAX: Duration = Duration::from_secs(240);
/// How long an order may take.
const ORDER_MAX: Duration = Duration::from_secs(120);
/// How long it is watched that a stopped task does nothing.
const QUIET: Duration = Duration::from_secs(5);
/// How often whoever waits looks again.
const LOOK: Duration = Duration::from_millis(200);

/// Runs the world of a seed.
pub(super) async fn run(seed: u64, mutant: Option<Mutant>) -> Record {
    let mut world = World::build(seed, mutant);
    world.live().await;
    world.trace.record()
}

struct World {
    trace: Trace,
    around: Surroundings,
    master: Arc<Master>,
    processes: Vec<Process>,
    upstreams: Vec<Arc<Upstream>>,
    plan: Vec<(Duration, Action)>,
    writing: Arc<AtomicBool>,
}

impl World {
    fn build(seed: u64, mutant: Option<Mutant>) -> Self {
        let mut dice = Dice::new(seed).fork("world");
        let trace = Trace::begin();
        let node = |name: &str| Handle::current().create_node().name(name).build();
        let workers = dice.within(2..4) as usize;
        let sources = dice.within(1..workers as u64 + 1) as usize;
        let ttl = Duration::from_secs(dice.within(5..21));
        let gtids = dice.permille(500);
        let options = Options {
            gtids,
            names: dice.permille(500),
            file_txns: dice.within(5..60),
        };
        let server = Server::start(node("etcd"), trace.clone(), dice.fork("etcd"));
        let database = Database::new(node("target"), trace.clone(), dice.fork("target"), mutant);
        let mut tasks = Vec::new();
        let mut upstreams = Vec::new();
        for number in 1..=sources {
            let source = format!("source{number}");
            upstreams.push(Upstream::new(&source, options, trace.clone(), &dice));
            tasks.push(Task {
                name: "task",
                source,
                gtids: gtids && dice.permille(700),
                slots: dice.within(1..9),
                batch: dice.within(1..30),
                flush_s: dice.within(1..10),
            });
        }
        let by_name = |it: &Arc<Upstream>| (it.name.clone(), Arc::clone(it));
        let around = Surroundings {
            trace: trace.clone(),
            server: Arc::clone(&server),
            sources: Arc::new(upstreams.iter().map(by_name).collect::<BTreeMap<_, _>>()),
            database,
        };
        let scale = Scale {
            workers,
            sources,
            ttl,
            begin: WARM_UP,
            end: WARM_UP + CHAOS,
        };
        trace.note(
            "world",
            format_args!("{workers} workers, {ttl:?} leases, {options:?}, {tasks:?}"),
        );
        let master = Master::new(&server, &trace, tasks);
        node("master").spawn(Arc::clone(&master).run());
        let process = |number: usize| {
            let seed = dice.fork(&format!("worker {number}")).roll();
            Process::new(&format!("w{number}"), &around, ttl, seed)
        };
        let processes = (0..workers).map(process).collect();
        let writing = Arc::new(AtomicBool::new(true));
        let workload = Workload {
            upstreams: upstreams.clone(),
            writing: Arc::clone(&writing),
            dice: dice.fork("workload"),
        };
        node("clients").spawn(workload.run());
        Self {
            plan: faults::plan(&mut dice.fork("faults"), scale),
            trace,
            around,
            master,
            processes,
            upstreams,
            writing,
        }
    }

    async fn live(&mut self) {
        for process in &mut self.processes {
            process.start();
        }
        for task in self.master.tasks() {
            self.master.start(task);
        }
        for (at, action) in std::mem::take(&mut self.plan) {
            sleep(at.saturating_sub(self.trace.now())).await;
            if self.trace.is_violated() {
                return;
            }
            self.trace.note("fault", &action);
            self.trace.count(action.name());
            self.act(&action);
        }
        sleep((WARM_UP + CHAOS).saturating_sub(self.trace.now())).await;
        self.heal();
        if self.converges(HEALING_MAX, "healing").await && self.pauses().await && self.stops().await
        {
            self.ends().await;
        }
    }

    fn act(&mut self, action: &Action) {
        let Surroundings {
            server, database, ..
        } = &self.around;
        match action {
            Action::Kill(worker) => self.processes[*worker].kill(),
            Action::Start(worker) => {
                if !self.processes[*worker].is_running() {
                    self.processes[*worker].start();
                }
            }
            Action::Freeze(worker, frozen) => self.processes[*worker].freeze(*frozen),
            Action::Link(worker, link) => server.set_link(&self.processes[*worker].name, *link),
            Action::FreezeEtcd(frozen) => server.freeze(*frozen),
            Action::RestartEtcd => server.restart(),
            Action::CloseWatches => server.close_watches(),
            Action::Compact => self.master.compact(),
            Action::CutDumps(source) => self.upstreams[*source].cut(),
            Action::SourceDown(source, down) => self.upstreams[*source].set_down(*down),
            Action::LostAnswers(chance) => database.set_weather(|it| it.lost_answers = *chance),
            Action::Late(chance) => database.set_weather(|it| it.late = *chance),
            Action::Deadlocks(chance) => database.set_weather(|it| it.deadlocks = *chance),
            Action::Unseen(unseen) => database.set_weather(|it| it.unseen = *unseen),
            Action::TargetDown(down) => database.set_weather(|it| it.down = *down),
            Action::Pause(source, pause) => {
                let stage = if *pause {
                    Expect::Paused
                } else {
                    Expect::Running
                };
                self.master.set_stage(&self.master.tasks()[*source], stage);
            }
            Action::Stop(source, true) => self.master.stop(&self.master.tasks()[*source]),
            Action::Stop(source, false) => self.master.start(&self.master.tasks()[*source]),
            Action::Transfer(source) => {
                self.master.transfer(&self.master.tasks()[*source].source);
            }
        }
    }

    /// Takes all faults away, and wants every task to run.
    fn heal(&mut self) {
        self.trace.note("world", "heals");
        let Surroundings {
            server, database, ..
        } = &self.around;
        server.freeze(false);
        database.set_weather(|weather| *weather = Weather::default());
        for process in &mut self.processes {
            server.set_link(&process.name, Link::default());
            process.freeze(false);
            if !process.is_running() {
                process.start();
            }
        }
        for upstream in &self.upstreams {
            upstream.set_down(false);
        }
        for task in self.master.tasks() {
            self.master.start(task);
        }
        self.writing.store(false, Ordering::Relaxed);
    }

    /// Waits until every task runs in one place and the target is what the sources are.
    async fn converges(&self, limit: Duration, when: &str) -> bool {
        let what = format!("everything runs and is equal ({when})");
        let holds = || {
            let is_there = |task: &Task| {
                let stages = self.processes.iter();
                let stages: Vec<_> = stages.filter_map(|it| it.stage(&task.source)).collect();
                stages == [Stage::Running]
            };
            self.master.tasks().iter().all(is_there) && self.difference().is_none()
        };
        self.reaches("convergence", &what, limit, holds).await
    }

    async fn pauses(&self) -> bool {
        for task in self.master.tasks() {
            self.master.set_stage(task, Expect::Paused);
        }
        let rests = || {
            let mut stages = self.stages();
            stages.all(|stage| stage == Stage::Paused)
        };
        if !(self
            .reaches("order", "all tasks pause", ORDER_MAX, rests)
            .await
            && self.is_quiet("pause").await)
        {
            return false;
        }
        for task in self.master.tasks() {
            self.master.set_stage(task, Expect::Running);
        }
        self.converges(ORDER_MAX, "resumption").await
    }

    async fn stops(&self) -> bool {
        for task in self.master.tasks() {
            self.master.stop(task);
        }
        let gone = || self.stages().next().is_none();
        self.reaches("order", "all tasks stop", ORDER_MAX, gone)
            .await
            && self.is_quiet("stop").await
    }

    async fn ends(&self) {
        for process in &self.processes {
            process.stop();
        }
        let over = || self.processes.iter().all(Process::is_over);
        if !self
            .reaches("order", "all workers end", ORDER_MAX, over)
            .await
        {
            return;
        }
        let leases = self.around.server.entries(values::KEEPALIVE_PREFIX);
        self.trace.expect(
            "end",
            leases.is_empty(),
            format_args!("{} workers are over and have a lease", leases.len()),
        );
    }

    /// The sources go on, and the target does not.
    async fn is_quiet(&self, when: &str) -> bool {
        let commits = || -> Vec<u64> {
            let commits = self.upstreams.iter();
            let database = &self.around.database;
            commits.map(|it| database.commits(&it.name)).collect()
        };
        let before = commits();
        for upstream in &self.upstreams {
            for _ in 0..5 {
                upstream.commit();
            }
        }
        sleep(QUIET).await;
        let after = commits();
        self.trace.expect(
            "stop",
            before == after,
            format_args!("after a {when}, {before:?} transactions become {after:?}"),
        );
        before == after
    }

    /// Waits until something holds.
    async fn reaches(
        &self,
        oracle: &'static str,
        what: &str,
        limit: Duration,
        holds: impl Fn() -> bool,
    ) -> bool {
        let start = self.trace.now();
        while !holds() {
            if self.trace.is_violated() {
                return false;
            }
            if self.trace.now() - start > limit {
                let state = self.to_string();
                self.trace.violate(
                    oracle,
                    format_args!("not within {limit:?}: {what}; {state}"),
                );
                return false;
            }
            sleep(LOOK).await;
        }
        self.trace.expect(oracle, true, "");
        self.trace.note("world", what);
        !self.trace.is_violated()
    }

    fn stages(&self) -> impl Iterator<Item = Stage> {
        let tasks = self.master.tasks().iter();
        tasks.flat_map(|task| (self.processes.iter()).filter_map(|it| it.stage(&task.source)))
    }

    /// The first table that differs between a source and the target.
    fn difference(&self) -> Option<String> {
        self.upstreams.iter().find_map(|upstream| {
            let target = self.around.database.tables(&upstream.name);
            let pairs = upstream.tables().into_iter().zip(target).enumerate();
            pairs
                .map(|(index, (source, target))| (index, source.sorted(), target.sorted()))
                .find(|(_, source, target)| source != target)
                .map(|(index, source, target)| {
                    let lost = source.iter().find(|row| !target.contains(row));
                    let added = target.iter().find(|row| !source.contains(row));
                    format!(
                        "table {index} of {}: {} rows at the source, {} at the target, lost \
                         {lost:?}, added {added:?}",
                        upstream.name,
                        source.len(),
                        target.len()
                    )
                })
        })
    }
}

/// What the state of the world is, for whoever waited in vain.
impl fmt::Display for World {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for task in self.master.tasks() {
            write!(f, "{}:", task.source)?;
            for process in &self.processes {
                write!(f, " {} {:?},", process.name, process.stage(&task.source))?;
            }
        }
        match self.difference() {
            Some(difference) => write!(f, " {difference}"),
            None => write!(f, " all tables are equal"),
        }
    }
}

/// Clients that write into the sources.
struct Workload {
    upstreams: Vec<Arc<Upstream>>,
    writing: Arc<AtomicBool>,
    dice: Dice,
}

impl Workload {
    async fn run(mut self) {
        let pause = self.dice.within(20..400);
        while self.writing.load(Ordering::Relaxed) {
            sleep(self.dice.millis(1..pause * 2)).await;
            self.dice.pick(&self.upstreams).commit();
        }
    }
}
