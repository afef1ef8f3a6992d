//! What exhibits are made of: a plain world with steady traffic, to which things are done.

use std::time::Duration;

use crate::scenario::{Scenario, SourcePlan, Step, What, WorkerPlan};

/// A transaction every so often.
const PERIOD: Duration = Duration::from_millis(50);

/// A scenario in the making.
pub(super) struct Stage(Scenario);

impl Stage {
    /// Two workers with leases of five seconds, and one source. Traffic begins at once and ends
    /// after a minute.
    pub(super) fn new() -> Self {
        Self(Scenario {
            seed: 1,
            ttl: Duration::from_secs(5),
            workers: vec![WorkerPlan::default(); 2],
            sources: vec![SourcePlan::default()],
            chaos_ends: Duration::from_secs(60),
            steps: Vec::new(),
        })
        .traffic(0)
    }

    /// Other dice, where a certain moment has to be hit.
    pub(super) fn seed(mut self, seed: u64) -> Self {
        self.0.seed = seed;
        self
    }

    /// Workers, of which the first one gets the source.
    pub(super) fn workers(mut self, count: usize) -> Self {
        self.0.workers = vec![WorkerPlan::default(); count];
        self
    }

    /// One more source, with a task and traffic of its own.
    pub(super) fn another_source(mut self) -> Self {
        let place = self.0.sources.len();
        self.0.sources.push(self.0.sources[0]);
        self.traffic(place)
    }

    /// Changes the plan of all sources and their tasks.
    pub(super) fn task(mut self, change: impl Fn(&mut SourcePlan)) -> Self {
        self.0.sources.iter_mut().for_each(change);
        self
    }

    /// By how many millionths the first worker's clock is too fast.
    pub(super) fn drift(mut self, ppm: i32) -> Self {
        self.0.workers[0].drift_ppm = ppm;
        self
    }

    /// Does something from a second on, for so many seconds.
    pub(super) fn at(mut self, at: f64, lasts: f64, what: What) -> Self {
        self.0.steps.push(Step {
            at: Duration::from_secs_f64(at),
            lasts: Duration::from_secs_f64(lasts),
            what,
        });
        self
    }

    /// Does something again and again.
    pub(super) fn every(mut self, period: f64, lasts: f64, times: u32, what: What) -> Self {
        for number in 1..=times {
            self = self.at(8.0 + period * f64::from(number), lasts, what);
        }
        self
    }

    /// DDL at the first source, again and again.
    pub(super) fn ddls(mut self, period: f64) -> Self {
        let mut at = 2.0;
        let mut dice = 0;
        while at < 58.0 {
            self = self.at(at, 0.0, What::Ddl(0, dice));
            at += period;
            dice += 1;
        }
        self
    }

    fn traffic(mut self, source: usize) -> Self {
        let mut at = PERIOD;
        let mut dice = 1_000 * source as u64;
        while at < self.0.chaos_ends {
            self.0.steps.push(Step {
                at,
                lasts: Duration::ZERO,
                what: What::Commit(source, dice),
            });
            at += PERIOD;
            dice += 1;
        }
        self
    }
}

impl From<Stage> for Scenario {
    fn from(Stage(mut scenario): Stage) -> Self {
        scenario.steps.sort_by_key(|step| step.at);
        scenario
    }
}
