//! What steps do to the world.

use std::time::Duration;

use super::World;
use crate::{
    dice::Dice,
    disk::Faults,
    scenario::What,
    world::{control::Link, target::Weather, worker::Surroundings},
};

impl World {
    /// Begins a step.
    pub(super) fn begin(&mut self, what: What) {
        if !what.is_work() {
            self.trace.note("fault", what);
            self.active.push(what);
        }
        let database = &self.around.database;
        match what {
            What::Commit(source, dice) => self.upstreams[source].commit(&mut Dice::new(dice)),
            What::Ddl(source, dice) => self.upstreams[source].ddl(&mut Dice::new(dice)),
            What::RowEvents(source, bytes) => {
                self.upstreams[source].set_row_event_max(bytes);
            }
            What::Kill(worker) => self.processes[worker].kill(),
            What::Twin(worker) => self.processes[worker].start(),
            What::RestartEtcd => self.around.server.restart(),
            What::CloseWatches => self.around.server.close_watches(),
            What::Compact => self.master.compact(),
            What::CutDumps(source) => self.upstreams[source].cut(),
            What::RestartSource(source, dice) => {
                self.upstreams[source].restart(&mut Dice::new(dice));
            }
            What::CrashSource(source, dice) => self.upstreams[source].crash(&mut Dice::new(dice)),
            What::SwitchServer(source, dice) => {
                // Only who reads by GTID, and has begun to, finds the place again.
                let name = self.source(source);
                if self.master.reads_by_gtid(name) && database.knows_gtids(name) {
                    self.upstreams[source].switch_server(&mut Dice::new(dice));
                }
            }
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
            What::PowerCut(worker) => self.processes[worker].power_cut(),
            What::Rot(worker, dice) => self.processes[worker].rot(&mut Dice::new(dice)),
            What::PauseRelay(source) => self.master.pause_relay(self.source(source), true),
            What::StopRelay(source) => self.master.set_relay(self.source(source), false),
            What::PurgeRelay(source, dice) => {
                for process in &self.processes {
                    process.purge(self.source(source), &mut Dice::new(dice));
                }
            }
            _ => self.settle(),
        }
    }

    /// Undoes it, if it can be undone.
    pub(super) fn end(&mut self, what: What) {
        if let Some(place) = self.active.iter().position(|other| *other == what) {
            self.active.remove(place);
        }
        match what {
            What::Kill(worker) | What::PowerCut(worker) => {
                if !self.processes[worker].is_running() {
                    self.processes[worker].start();
                }
            }
            What::Twin(worker) => self.processes[worker].kill_but(1),
            What::Pause(source) | What::Resize(source, _) => {
                self.master.resume(self.source(source));
            }
            What::Stop(source) => self.master.start(self.source(source)),
            What::Transfer(source) => self.master.transfer(self.source(source)),
            What::PauseRelay(source) => self.master.pause_relay(self.source(source), false),
            What::StopRelay(source) => self.master.set_relay(self.source(source), true),
            _ => self.settle(),
        }
        if !what.is_work() {
            self.trace.note("fault", format_args!("{what} is over"));
        }
    }

    /// Makes everything that lasts as the active steps want it: of two that overlap, the end of one
    /// must not undo the other.
    pub(super) fn settle(&mut self) {
        let Surroundings {
            server,
            database,
            orders,
            ..
        } = &self.around;
        let is_active = |what: What| self.active.contains(&what);
        let now = self.trace.now();
        server.freeze(is_active(What::FreezeEtcd));
        database.set_weather(weather(&self.active));
        for (worker, process) in self.processes.iter_mut().enumerate() {
            let link = link(&self.active, worker);
            server.set_link(&process.name, link);
            process.freeze(is_active(What::Freeze(worker)));
            process.set_disk(disk(&self.active, worker));
            let hears = link == Link::default()
                && !is_active(What::FreezeEtcd)
                && !is_active(What::Freeze(worker));
            orders.hears(&process.name, hears, now);
        }
        for (source, upstream) in self.upstreams.iter().enumerate() {
            upstream.set_down(is_active(What::SourceDown(source)));
            upstream.purge(is_active(What::Purge(source)));
            let damages = self.active.iter().filter_map(|what| match *what {
                What::Damage(of, chance) if of == source => Some(chance),
                _ => None,
            });
            upstream.set_damage(damages.max().unwrap_or(0));
        }
    }

    fn source(&self, place: usize) -> &str {
        &self.upstreams[place].name
    }
}

/// What lies between a worker and etcd while these steps last.
fn link(active: &[What], worker: usize) -> Link {
    let mut link = Link::default();
    for what in active.iter().filter(|what| what.worker() == Some(worker)) {
        match *what {
            What::CutRequests(_) => link.requests_cut = true,
            What::CutAnswers(_) => link.answers_cut = true,
            What::Cut(_) => (link.requests_cut, link.answers_cut) = (true, true),
            What::Deafen(_) => link.deaf = true,
            What::Slow(_, millis) => {
                let delay = Duration::from_millis(millis);
                link.request_delay = link.request_delay.max(delay);
                link.answer_delay = link.answer_delay.max(delay);
            }
            What::SlowAnswers(_, millis) => {
                link.answer_delay = link.answer_delay.max(Duration::from_millis(millis));
            }
            _ => {}
        }
    }
    link
}

/// What is wrong with a worker's disk while these steps last.
fn disk(active: &[What], worker: usize) -> Faults {
    let mut faults = Faults::default();
    for what in active.iter().filter(|what| what.worker() == Some(worker)) {
        match *what {
            What::FullDisk(_) => faults.capacity = 0,
            What::BadDisk(_, chance) => {
                faults.short = chance;
                for failing in [&mut faults.read, &mut faults.write, &mut faults.sync] {
                    raise(&mut failing.permille, chance);
                }
            }
            What::LostSyncs(_, chance) => {
                // A device tries for long. Meanwhile there is more to be lost than the last page,
                // which is written again with what comes next.
                faults.slow = 700;
                raise(&mut faults.sync.permille, chance);
            }
            What::SlowDisk(_) => faults.slow = 300,
            _ => {}
        }
    }
    faults
}

/// What goes wrong at the target while these steps last.
fn weather(active: &[What]) -> Weather {
    let mut weather = Weather::default();
    for what in active {
        match *what {
            What::LostAnswers(chance) => raise(&mut weather.lost_answers, chance),
            What::Late(chance) => raise(&mut weather.late, chance),
            What::Deadlocks(chance) => raise(&mut weather.deadlocks, chance),
            What::Full(chance) => raise(&mut weather.full, chance),
            What::LongTransactions(chance) => raise(&mut weather.long, chance),
            What::LockWaits(chance) => raise(&mut weather.lock_waits, chance),
            What::Resets(chance) => raise(&mut weather.resets, chance),
            What::Crowded(chance) => raise(&mut weather.crowded, chance),
            What::ReadOnly => weather.read_only = true,
            What::Unseen => weather.unseen = true,
            What::TargetDown => weather.down = true,
            _ => {}
        }
    }
    weather
}

fn raise(chance: &mut u64, to: u64) {
    *chance = to.max(*chance);
}
