//! One run from its beginning to its end: warm-up, a time in which everything may fail, healing,
//! and then orders that must be obeyed.

mod act;

use std::{
    collections::BTreeMap,
    fmt,
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use dm_core::status::Stage;
use madsim::runtime::{Handle, NodeHandle};
use tokio::time::sleep;

use super::{
    control::Server,
    master::{Master, Wanted},
    operator,
    oracle::{
        convergence, end,
        order::{self, Orders},
        stop,
    },
    source::Upstream,
    target::Database,
    trace::Trace,
    worker::{Process, ProcessConfig, Surroundings},
};
use crate::{
    dice::Dice,
    record::Record,
    scenario::{Scenario, What, source_name, worker_name},
    values,
};

/// How long a healed world may take to become what is wanted.
const HEALING_MAX: Duration = Duration::from_secs(240);
/// How long what went wrong before may take to show in a healed world: so late come the latest
/// transactions.
const FAILING: Duration = Duration::from_secs(21);
/// How long a pause or a stop may take: less than until everything is read again anyway.
const OBEYED_MAX: Duration = Duration::from_secs(25);
/// How long other orders may take.
const ORDER_MAX: Duration = Duration::from_secs(120);
/// How long it is watched that a stopped task does nothing.
const QUIET: Duration = Duration::from_secs(12);
/// Transactions that a source has before its tables are copied.
const COMMITS_BEFORE: u64 = 100;
/// How often whoever waits looks again.
const LOOK: Duration = Duration::from_millis(200);

/// Plays a scenario. What is recorded is kept, should it end with a panic.
pub(super) async fn play(scenario: &Scenario, kept: &Mutex<Option<Trace>>) -> Record {
    let mut world = World::build(scenario);
    *kept.lock().unwrap_or_else(PoisonError::into_inner) = Some(world.trace.clone());
    world.live(scenario).await;
    let record = world.trace.record();
    world.vanish().await;
    record
}

struct World {
    trace: Trace,
    around: Surroundings,
    master: Arc<Master>,
    processes: Vec<Process>,
    upstreams: Vec<Arc<Upstream>>,
    /// What is there besides the workers.
    nodes: [NodeHandle; 3],
    /// The steps that last, as far as they have come.
    active: Vec<What>,
    /// Content of the transactions that are committed at the end.
    dice: Dice,
}

impl World {
    fn build(scenario: &Scenario) -> Self {
        let dice = Dice::new(scenario.seed);
        let trace = Trace::begin();
        let nodes = ["etcd", "target", "master"].map(node);
        let [etcd, target, leader] = nodes.clone();
        let server = Server::start(etcd, trace.clone(), dice.fork("etcd"));
        let database = Database::new(target, trace.clone(), dice.fork("target"), &server);
        let mut plans = BTreeMap::new();
        let mut upstreams = Vec::new();
        for (place, plan) in scenario.sources.iter().enumerate() {
            let name = source_name(place);
            let upstream = Upstream::new(&name, *plan, trace.clone(), &dice);
            database.compare_with(&name, upstream.history());
            if plan.copies {
                database.begin_empty(&name, plan.way);
            }
            let wanted = Wanted {
                plan: *plan,
                start: upstream.first_place(),
                gtids: String::new(),
                relays: plan.relays,
                is_second: false,
                dump: 1,
                misplaced: 0,
            };
            plans.insert(name, wanted);
            upstreams.push(upstream);
        }
        let by_name = |it: &Arc<Upstream>| (it.name.clone(), Arc::clone(it));
        let around = Surroundings {
            trace: trace.clone(),
            server: Arc::clone(&server),
            orders: Orders::default(),
            relays: scenario.sources.iter().any(|plan| plan.relays),
            sources: Arc::new(upstreams.iter().map(by_name).collect()),
            dumps: database.dumps(),
            database,
        };
        let master = Master::new(&around, plans);
        leader.spawn(Arc::clone(&master).run());
        let workers = scenario.workers.iter().enumerate();
        let processes = workers.map(|(place, plan)| {
            let name = worker_name(place);
            let config = ProcessConfig {
                ttl: scenario.ttl,
                drift_ppm: plan.drift_ppm,
                seed: dice.fork(&name).roll(),
            };
            Process::new(&name, &around, config)
        });
        Self {
            processes: processes.collect(),
            trace,
            around,
            master,
            upstreams,
            nodes,
            active: Vec::new(),
            dice: dice.fork("end"),
        }
    }

    async fn live(&mut self, scenario: &Scenario) {
        let Scenario {
            ttl,
            workers,
            sources,
            ..
        } = scenario;
        let begins = format!("begins: {ttl:?} leases, {workers:?}, {sources:?}");
        self.trace.note("world", begins);
        for process in &mut self.processes {
            process.start();
        }
        for (upstream, plan) in self.upstreams.iter().zip(sources) {
            let mut dice = self.dice.fork(&upstream.name);
            for _ in 0..if plan.copies { COMMITS_BEFORE } else { 0 } {
                upstream.commit(&mut dice);
            }
        }
        for source in self.master.sources() {
            self.master.start(source);
        }
        for (at, what, begins) in schedule(scenario) {
            sleep(at.saturating_sub(self.trace.now())).await;
            if self.trace.is_violated() {
                return;
            }
            if begins {
                self.trace.count(what.name());
                self.begin(what);
            } else {
                self.end(what);
            }
        }
        sleep(scenario.chaos_ends.saturating_sub(self.trace.now())).await;
        self.heal();
        // Whoever was about to fail has done so.
        sleep(FAILING).await;
        self.resume_the_hopeless();
        // Workers end with tasks at work as well.
        let stops = self.dice.permille(500);
        if self.converges(HEALING_MAX, "healing").await
            && self.pauses().await
            && (!stops || self.stops().await)
        {
            self.ends().await;
        }
    }

    /// Ends every task. One that still waits for a moment to come would never be dropped, and with
    /// it all that it has of the world.
    async fn vanish(&mut self) {
        for process in &mut self.processes {
            process.kill();
        }
        for node in &self.nodes {
            Handle::current().kill(node.id());
        }
        sleep(LOOK).await;
    }

    /// Takes all faults away, and wants every task to run.
    fn heal(&mut self) {
        self.trace.note("world", "heals");
        self.active.clear();
        self.settle();
        for process in &mut self.processes {
            process.kill_but(1);
            if !process.is_running() {
                process.start();
            }
        }
        // What is to run already needs no order: it has to find back by itself.
        for source in self.master.sources() {
            if self.around.orders.rests(source) {
                self.master.start(source);
            }
        }
    }

    /// An operator resumes the tasks and relays that wait for one.
    fn resume_the_hopeless(&self) {
        for source in self.master.sources() {
            let mut errors = self.processes.iter().flat_map(|it| it.relay_errors(source));
            if errors.any(|error| operator::is_needed(&error)) {
                self.trace.count("operator: resumes a relay after an error");
                self.master.pause_relay(source, false);
            }
            let errors = self
                .processes
                .iter()
                .flat_map(|process| process.errors(source));
            if errors.into_iter().any(|error| operator::is_needed(&error)) {
                self.trace.count("operator: resumes after an error");
                self.master.resume(source);
            }
        }
    }

    /// Waits until every task runs in one place and the target is what the sources are.
    async fn converges(&self, limit: Duration, when: &str) -> bool {
        let what = format!("everything runs and is equal ({when})");
        let holds = || {
            let runs_once = |source: &String| {
                let stages: Vec<_> = self.stages_of(source).collect();
                stages == [Stage::Running]
            };
            self.master.sources().iter().all(runs_once)
                && self
                    .master
                    .sources()
                    .iter()
                    .all(|it| self.is_as_ordered(it) && self.is_relayed(it))
                && self.difference().is_none()
        };
        self.reaches(convergence::NAME, &what, limit, holds).await
    }

    /// Whether a task has as many slots as its newest configuration wants.
    fn is_as_ordered(&self, source: &str) -> bool {
        self.around.database.slots(source) == self.master.slots(source)
    }

    /// Whether a source that is to be relayed is, and its task reads that.
    fn is_relayed(&self, source: &str) -> bool {
        !self.master.relays(source) || self.processes.iter().any(|it| it.reads_relay(source))
    }

    async fn pauses(&mut self) -> bool {
        // Whoever reads a relay log needs no source.
        let fails = self.dice.permille(400) && !self.around.relays;
        if fails {
            // Then they are paused while they wait to be tried again.
            self.set_sources_down(true);
            let what = "all tasks fail";
            if !self.rest(what).await {
                return false;
            }
        }
        for source in self.master.sources() {
            self.master.pause(source);
        }
        if !self.rest("all tasks pause").await {
            return false;
        }
        if !fails {
            for source in self.master.sources() {
                self.around.database.expect_no_lag(source);
            }
        }
        let before = self.writes();
        self.commit_some();
        self.set_sources_down(false);
        if self.dice.permille(400) {
            for process in &mut self.processes {
                process.kill();
                process.start();
            }
            let online = || self.processes.iter().all(Process::is_online);
            let what = "all workers are back";
            if !(self.reaches(order::NAME, what, ORDER_MAX, online).await
                && self.rest("all tasks are paused again").await)
            {
                return false;
            }
        }
        if !self.is_quiet("pause", &before).await {
            return false;
        }
        for source in self.master.sources() {
            self.master.resume(source);
        }
        self.converges(ORDER_MAX, "resumption").await
    }

    fn set_sources_down(&self, down: bool) {
        for upstream in &self.upstreams {
            upstream.set_down(down);
        }
    }

    /// Waits until all tasks are paused.
    async fn rest(&self, what: &str) -> bool {
        let rests = || self.stages().all(|stage| stage == Stage::Paused);
        self.reaches(order::NAME, what, OBEYED_MAX, rests).await
    }

    async fn stops(&mut self) -> bool {
        for source in self.master.sources() {
            self.master.stop(source);
        }
        let gone = || self.stages().next().is_none();
        self.reaches(order::NAME, "all tasks stop", OBEYED_MAX, gone)
            .await
            && {
                let before = self.writes();
                self.is_quiet("stop", &before).await
            }
    }

    async fn ends(&mut self) {
        self.commit_some();
        for process in &self.processes {
            process.stop();
        }
        let over = || self.processes.iter().all(Process::is_over);
        if self
            .reaches(order::NAME, "all workers end", ORDER_MAX, over)
            .await
        {
            let leases = self.around.server.entries(values::KEEPALIVE_PREFIX);
            end::ended(&self.trace, leases.len());
            for process in &self.processes {
                process.expect_rest("though it is over");
            }
        }
    }

    /// Clients do a little at every source.
    fn commit_some(&mut self) {
        for upstream in &self.upstreams {
            for _ in 0..5 {
                upstream.commit(&mut self.dice);
            }
            upstream.ddl(&mut self.dice);
        }
    }

    /// How much was written for each source.
    fn writes(&self) -> Vec<u64> {
        let database = &self.around.database;
        let writes = self.upstreams.iter().map(|it| database.writes(&it.name));
        writes.collect()
    }

    /// The sources go on, and the target does not, since it was at `before`.
    async fn is_quiet(&mut self, when: &str, before: &[u64]) -> bool {
        for process in &self.processes {
            process.expect_rest(&format!("after a {when}"));
        }
        self.commit_some();
        sleep(QUIET).await;
        stop::rested(&self.trace, when, before, &self.writes());
        !self.trace.is_violated()
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
        let sources = self.master.sources().iter();
        sources.flat_map(|source| self.stages_of(source))
    }

    /// The stages of a source's task, one for each process that has it.
    fn stages_of(&self, source: &str) -> impl Iterator<Item = Stage> {
        self.processes.iter().flat_map(move |it| it.stages(source))
    }

    /// The first table that differs between a source and the target.
    fn difference(&self) -> Option<String> {
        self.upstreams.iter().find_map(|upstream| {
            let target = self.around.database.snapshot(&upstream.name);
            let difference = upstream.snapshot().difference(&target)?;
            Some(format!("{}: {difference}", upstream.name))
        })
    }
}

/// What the state of the world is, for whoever waited in vain.
impl fmt::Display for World {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for source in self.master.sources() {
            let slots = (
                self.around.database.slots(source),
                self.master.slots(source),
            );
            write!(f, "{source}: {} slots of {},", slots.0, slots.1)?;
            for process in &self.processes {
                let stages: Vec<_> = process.stages(source).collect();
                write!(f, " {} {stages:?},", process.name)?;
                if self.master.relays(source) {
                    write!(f, " reads relay: {},", process.reads_relay(source))?;
                }
            }
        }
        match self.difference() {
            Some(difference) => write!(f, " {difference}"),
            None => write!(f, " all tables are equal"),
        }
    }
}

/// Beginnings (`true`) and ends of all steps, in order of time.
fn schedule(scenario: &Scenario) -> Vec<(Duration, What, bool)> {
    let ends = |what: &What| !what.is_work();
    let mut schedule = Vec::new();
    for step in &scenario.steps {
        schedule.push((step.at, step.what, true));
        if ends(&step.what) {
            schedule.push((step.ends(), step.what, false));
        }
    }
    schedule.sort_by_key(|(at, ..)| *at);
    schedule
}

fn node(name: &str) -> NodeHandle {
    Handle::current().create_node().name(name).build()
}
