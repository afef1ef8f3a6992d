//! One run from its beginning to its end: warm-up, a time in which everything may fail, healing, and
//! then orders that must be obeyed.

use std::{collections::BTreeMap, fmt, sync::Arc, time::Duration};

use dm_core::{binlog::Flavor, status::Stage};
use madsim::runtime::{Handle, NodeHandle};
use tokio::time::sleep;

use super::{
    control::{Link, Server},
    master::{Master, Wanted},
    oracle::{
        convergence, end,
        order::{self, Orders},
        stop,
    },
    source::{Options, Upstream},
    target::{Database, Weather},
    trace::Trace,
    worker::{Process, ProcessConfig, Surroundings},
};
use crate::{
    dice::Dice,
    record::Record,
    scenario::{Brand, Scenario, What, source_name, worker_name},
    values,
};

/// How long a healed world may take to become what is wanted.
const HEALING_MAX: Duration = Duration::from_secs(240);
/// How long an error of the time before may take to show in a healed world.
const FAILING: Duration = Duration::from_secs(5);
/// How long a pause or a stop may take: less than until everything is read again anyway.
const OBEYED_MAX: Duration = Duration::from_secs(25);
/// How long other orders may take.
const ORDER_MAX: Duration = Duration::from_secs(120);
/// How long it is watched that a stopped task does nothing.
const QUIET: Duration = Duration::from_secs(12);
/// How often whoever waits looks again.
const LOOK: Duration = Duration::from_millis(200);

/// Plays a scenario.
pub(super) async fn play(scenario: &Scenario) -> Record {
    let mut world = World::build(scenario);
    world.live(scenario).await;
    world.trace.record()
}

struct World {
    trace: Trace,
    around: Surroundings,
    master: Arc<Master>,
    processes: Vec<Process>,
    upstreams: Vec<Arc<Upstream>>,
    /// Content of the transactions that are committed at the end.
    dice: Dice,
}

impl World {
    fn build(scenario: &Scenario) -> Self {
        let dice = Dice::new(scenario.seed);
        let trace = Trace::begin();
        let server = Server::start(node("etcd"), trace.clone(), dice.fork("etcd"));
        let database = Database::new(node("target"), trace.clone(), dice.fork("target"));
        let mut plans = BTreeMap::new();
        let mut upstreams = Vec::new();
        for (place, plan) in scenario.sources.iter().enumerate() {
            let name = source_name(place);
            let (flavor, domain, two_phases, leaves_positions_out) = match plan.brand {
                Brand::Mysql => (Flavor::Mysql, 0, false, false),
                Brand::Mariadb {
                    domain,
                    two_phases,
                    leaves_positions_out,
                } => (Flavor::Mariadb, domain, two_phases, leaves_positions_out),
            };
            let options = Options {
                flavor,
                domain,
                two_phases,
                leaves_positions_out,
                first_file: plan.first_file,
                first_offset: plan.first_offset,
                heartbeat: plan.heartbeat,
                heartbeats_v2: plan.brand == Brand::Mysql,
                unknown: plan.unknown,
                gtids: plan.gtids,
                names: plan.names,
                file_txns: plan.file_txns,
                row_event_max: plan.row_event_bytes as usize,
                texts: plan.texts,
                compresses: plan.compresses,
            };
            let upstream = Upstream::new(&name, options, trace.clone(), &dice);
            database.compare_with(&name, upstream.history());
            let wanted = Wanted {
                plan: *plan,
                start: upstream.first_place(),
            };
            plans.insert(name, wanted);
            upstreams.push(upstream);
        }
        let by_name = |it: &Arc<Upstream>| (it.name.clone(), Arc::clone(it));
        let around = Surroundings {
            trace: trace.clone(),
            server: Arc::clone(&server),
            orders: Orders::default(),
            sources: Arc::new(upstreams.iter().map(by_name).collect()),
            database,
        };
        let master = Master::new(&server, &trace, &around.orders, plans);
        node("master").spawn(Arc::clone(&master).run());
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

    fn begin(&mut self, what: What) {
        if !what.is_work() {
            self.trace.note("fault", what);
        }
        let Surroundings {
            server, database, ..
        } = &self.around;
        match what {
            What::Commit(source, dice) => self.upstreams[source].commit(&mut Dice::new(dice)),
            What::Ddl(source, dice) => self.upstreams[source].ddl(&mut Dice::new(dice)),
            What::RowEvents(source, bytes) => {
                self.upstreams[source].set_row_event_max(bytes as usize);
            }
            What::Kill(worker) => self.processes[worker].kill(),
            What::Twin(worker) => self.processes[worker].start(),
            What::Freeze(worker) => self.processes[worker].freeze(true),
            What::CutRequests(worker) => self.set_link(worker, |link| link.requests_cut = true),
            What::CutAnswers(worker) => self.set_link(worker, |link| link.answers_cut = true),
            What::Cut(worker) => self.set_link(worker, |link| {
                link.requests_cut = true;
                link.answers_cut = true;
            }),
            What::Deafen(worker) => self.set_link(worker, |link| link.deaf = true),
            What::Slow(worker, millis) => self.set_link(worker, |link| {
                link.delay = Duration::from_millis(millis);
            }),
            What::FreezeEtcd => server.freeze(true),
            What::RestartEtcd => server.restart(),
            What::CloseWatches => server.close_watches(),
            What::Compact => self.master.compact(),
            What::CutDumps(source) => self.upstreams[source].cut(),
            What::SourceDown(source) => self.upstreams[source].set_down(true),
            What::RestartSource(source, dice) => {
                self.upstreams[source].restart(&mut Dice::new(dice));
            }
            What::CrashSource(source, dice) => self.upstreams[source].crash(&mut Dice::new(dice)),
            What::Purge(source) => self.upstreams[source].purge(true),
            What::SwitchServer(source, dice) => {
                // Only who reads by GTID, and has begun to, finds the place again.
                let name = self.source(source);
                if self.master.reads_by_gtid(name) && database.commits(name) > 0 {
                    self.upstreams[source].switch_server(&mut Dice::new(dice));
                }
            }
            What::Damage(source, chance) => self.upstreams[source].set_damage(chance),
            What::LostAnswers(chance) => database.set_weather(|it| it.lost_answers = chance),
            What::Late(chance) => database.set_weather(|it| it.late = chance),
            What::Deadlocks(chance) => database.set_weather(|it| it.deadlocks = chance),
            What::ReadOnly => database.set_weather(|it| it.read_only = true),
            What::Full(chance) => database.set_weather(|it| it.full = chance),
            What::LockWaits(chance) => database.set_weather(|it| it.lock_waits = chance),
            What::Resets(chance) => database.set_weather(|it| it.resets = chance),
            What::Crowded(chance) => database.set_weather(|it| it.crowded = chance),
            What::Unseen => database.set_weather(|it| it.unseen = true),
            What::TargetDown => database.set_weather(|it| it.down = true),
            What::Pause(source) => self.master.pause(self.source(source)),
            What::Stop(source) => self.master.stop(self.source(source)),
            What::Resize(source, slots) => self.master.resize(self.source(source), slots),
            What::Foreign(source, dice) => {
                let upstream = &self.upstreams[source];
                if self.stages_of(&upstream.name).next().is_none() {
                    let (history, mut dice) = (upstream.history(), Dice::new(dice));
                    database.foreign_worker_ran(&upstream.name, &history, &mut dice);
                }
            }
            What::Transfer(source) => self.master.transfer(self.source(source)),
            What::NewLeader => self.master.elect(),
        }
    }

    fn end(&mut self, what: What) {
        let Surroundings {
            server, database, ..
        } = &self.around;
        match what {
            What::Kill(worker) => {
                if !self.processes[worker].is_running() {
                    self.processes[worker].start();
                }
            }
            What::Twin(worker) => self.processes[worker].kill_but(1),
            What::Freeze(worker) => self.processes[worker].freeze(false),
            What::CutRequests(worker)
            | What::CutAnswers(worker)
            | What::Cut(worker)
            | What::Deafen(worker)
            | What::Slow(worker, _) => self.set_link(worker, |link| *link = Link::default()),
            What::FreezeEtcd => server.freeze(false),
            What::SourceDown(source) => self.upstreams[source].set_down(false),
            What::Purge(source) => self.upstreams[source].purge(false),
            What::Damage(source, _) => self.upstreams[source].set_damage(0),
            What::LostAnswers(_) => database.set_weather(|it| it.lost_answers = 0),
            What::Late(_) => database.set_weather(|it| it.late = 0),
            What::Deadlocks(_) => database.set_weather(|it| it.deadlocks = 0),
            What::ReadOnly => database.set_weather(|it| it.read_only = false),
            What::Full(_) => database.set_weather(|it| it.full = 0),
            What::LockWaits(_) => database.set_weather(|it| it.lock_waits = 0),
            What::Resets(_) => database.set_weather(|it| it.resets = 0),
            What::Crowded(_) => database.set_weather(|it| it.crowded = 0),
            What::Unseen => database.set_weather(|it| it.unseen = false),
            What::TargetDown => database.set_weather(|it| it.down = false),
            What::Pause(source) | What::Resize(source, _) => {
                self.master.resume(self.source(source));
            }
            What::Stop(source) => self.master.start(self.source(source)),
            What::Commit(..)
            | What::Ddl(..)
            | What::RowEvents(..)
            | What::RestartEtcd
            | What::CloseWatches
            | What::Compact
            | What::CutDumps(_)
            | What::RestartSource(..)
            | What::CrashSource(..)
            | What::SwitchServer(..)
            | What::Foreign(..)
            | What::Transfer(_)
            | What::NewLeader => return,
        }
        self.trace.note("fault", format_args!("{what} is over"));
    }

    fn source(&self, place: usize) -> &str {
        &self.upstreams[place].name
    }

    fn set_link(&self, worker: usize, change: impl FnOnce(&mut Link)) {
        let worker = &self.processes[worker].name;
        self.around.server.change_link(worker, change);
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
            server.change_link(&process.name, |link| *link = Link::default());
            process.freeze(false);
            process.kill_but(1);
            if !process.is_running() {
                process.start();
            }
        }
        for upstream in &self.upstreams {
            upstream.set_down(false);
            upstream.purge(false);
            upstream.set_damage(0);
        }
        // What is to run already needs no order: it has to find back by itself.
        for source in self.master.sources() {
            if self.around.orders.rests(source) {
                self.master.start(source);
            }
        }
    }

    /// An operator resumes the tasks that wait for one.
    fn resume_the_hopeless(&self) {
        for source in self.master.sources() {
            let mut processes = self.processes.iter();
            if processes.any(|process| process.waits_for_operator(source)) {
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
                    .all(|it| self.is_as_ordered(it))
                && self.difference().is_none()
        };
        self.reaches(convergence::NAME, &what, limit, holds).await
    }

    /// Whether a task has as many slots as its newest configuration wants.
    fn is_as_ordered(&self, source: &str) -> bool {
        self.around.database.slots(source) == self.master.slots(source)
    }

    async fn pauses(&mut self) -> bool {
        let fails = self.dice.permille(400);
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
        let before = self.commits();
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
                let before = self.commits();
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

    /// Transactions and statements that came from each source.
    fn commits(&self) -> Vec<u64> {
        let database = &self.around.database;
        let commits = self.upstreams.iter().map(|it| database.commits(&it.name));
        commits.collect()
    }

    /// The sources go on, and the target does not, since it was at `before`.
    async fn is_quiet(&mut self, when: &str, before: &[u64]) -> bool {
        for process in &self.processes {
            process.expect_rest(&format!("after a {when}"));
        }
        self.commit_some();
        sleep(QUIET).await;
        stop::rested(&self.trace, when, before, &self.commits());
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
            write!(f, "{source}:")?;
            for process in &self.processes {
                let stages: Vec<_> = process.stages(source).collect();
                write!(f, " {} {stages:?},", process.name)?;
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
