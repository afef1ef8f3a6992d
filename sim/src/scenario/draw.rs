//! Scenarios from seeds: the swarm. Each has a few kinds of faults only, at a rate of its own, so
//! that rare combinations are not drowned by the common ones.

use std::time::Duration;

use super::{Brand, Scenario, SourcePlan, Step, Way, What, WorkerPlan};
use crate::{dice::Dice, values::Purge};

/// How long everything works before anything fails.
const WARM_UP: Duration = Duration::from_secs(8);
/// When nothing fails any more.
const CHAOS_ENDS: Duration = Duration::from_secs(98);
/// How fast or slow clocks run at most, in millionths: as on a machine that loses its timer ticks.
const DRIFT_PPM_MAX: u64 = 50_000;
/// When relay logs are removed: never, when they are old, and whenever nobody needs them.
const PURGES: [Purge; 4] = {
    let never = Purge {
        interval: 3600,
        expires: 0,
        remain_space: 0,
    };
    let old = Purge {
        interval: 10,
        expires: 1,
        ..never
    };
    let all = Purge {
        remain_space: 1,
        ..old
    };
    [never, never, old, all]
};
/// Sizes of rows events.
const ROW_EVENT_BYTES: [u64; 4] = [8, 64, 256, 8192];

impl Scenario {
    /// The scenario of a seed.
    #[must_use]
    pub fn draw(seed: u64) -> Self {
        let mut dice = Dice::new(seed).fork("scenario");
        let workers = dice.within(2..4) as usize;
        let sources = dice.within(1..workers as u64 + 1) as usize;
        let ttl = Duration::from_secs(*dice.pick(&[5, 5, 6, 8, 12, 20]));
        let gtids = dice.permille(500);
        let names = dice.permille(500);
        // Some sources begin files all the time.
        let file_txns = *dice.pick(&[2, 5, 15, 30, 45, 60]);
        let brand = if dice.permille(350) {
            Brand::Mariadb {
                domain: *dice.pick(&[0, 0, 7]),
                two_phases: dice.permille(300),
                leaves_positions_out: dice.permille(300),
            }
        } else {
            Brand::Mysql
        };
        let first_file = *dice.pick(&[1, 1, 999_997]);
        let first_offset = if dice.permille(200) && brand == Brand::Mysql {
            (1 << 32) - 40_000
        } else {
            0
        };
        let heartbeat = dice.millis(200..15_000);
        let unknown = dice.permille(300) && brand == Brand::Mysql;
        let source = |dice: &mut Dice| SourcePlan {
            brand,
            first_file,
            first_offset,
            heartbeat,
            unknown,
            gtids,
            names,
            file_txns,
            row_event_bytes: *dice.pick(&ROW_EVENT_BYTES),
            texts: dice.permille(300),
            compresses: dice.permille(250),
            by_gtid: gtids && dice.permille(700),
            relays: false,
            purge: Purge::default(),
            copies: false,
            way: Way::Straight,
            again: false,
            slots: *dice.pick(&[1, 1, 2, 3, 4, 5, 6, 8]),
            batch: dice.within(1..30),
            flush_s: dice.within(1..10),
        };
        let drifts = dice.permille(400);
        let worker = |dice: &mut Dice| {
            let drift = dice.within(0..2 * DRIFT_PPM_MAX + 1) as i32 - DRIFT_PPM_MAX as i32;
            WorkerPlan {
                drift_ppm: if drifts { drift } else { 0 },
            }
        };
        let mut scenario = Self {
            seed,
            ttl,
            sources: (0..sources).map(|_| source(&mut dice)).collect(),
            workers: (0..workers).map(|_| worker(&mut dice)).collect(),
            chaos_ends: CHAOS_ENDS,
            steps: Vec::new(),
        };
        scenario.draw_work(&mut Dice::new(seed).fork("work"));
        scenario.draw_faults(&mut Dice::new(seed).fork("faults"));
        scenario.draw_relays(&mut Dice::new(seed).fork("relays"));
        scenario.draw_copies(&mut Dice::new(seed).fork("copies"));
        scenario.draw_files(&mut Dice::new(seed).fork("files"));
        scenario.draw_full(&mut Dice::new(seed).fork("full"));
        scenario.draw_again(&mut Dice::new(seed).fork("again"));
        scenario.steps.sort_by_key(|step| step.at);
        scenario
    }

    /// What clients do, from the beginning on.
    fn draw_work(&mut self, dice: &mut Dice) {
        let pause = dice.within(20..400);
        let ddls = *dice.pick(&[0, 5, 20, 100]);
        let mut at = Duration::ZERO;
        loop {
            at += dice.millis(1..pause * 2);
            if at >= self.chaos_ends {
                return;
            }
            let source = dice.within(0..self.sources.len() as u64) as usize;
            let what = if dice.permille(ddls) {
                What::Ddl(source, dice.roll())
            } else {
                What::Commit(source, dice.roll())
            };
            self.steps.push(Step {
                at,
                lasts: Duration::ZERO,
                what,
            });
        }
    }

    fn draw_faults(&mut self, dice: &mut Dice) {
        let chance = *dice.pick(&[150, 300, 450]);
        let most = *dice.pick(&[2, 4, 9]);
        for kind in KINDS {
            if !dice.permille(chance) {
                continue;
            }
            for _ in 0..dice.within(1..most) {
                let what = kind(self, dice);
                let step = self.draw_step(dice, what);
                self.steps.extend(self.companions(&step));
                self.steps.push(step);
            }
        }
    }

    /// Which sources are relayed, and what befalls their relays.
    fn draw_relays(&mut self, dice: &mut Dice) {
        if !dice.permille(300) {
            return;
        }
        for source in &mut self.sources {
            source.relays = dice.permille(800);
            // What is before the first transaction of such a file can't be relayed.
            source.first_offset = 0;
            source.purge = *dice.pick(&PURGES);
        }
        let chance = *dice.pick(&[0, 200, 400]);
        for kind in RELAY_KINDS {
            if !dice.permille(chance) {
                continue;
            }
            for _ in 0..dice.within(1..4) {
                let what = kind(self, dice);
                let step = self.draw_step(dice, what);
                self.steps.extend(self.companions(&step));
                self.steps.push(step);
            }
        }
    }

    /// Which tasks begin with a copy, and what befalls that.
    fn draw_copies(&mut self, dice: &mut Dice) {
        if !dice.permille(300) {
            return;
        }
        for source in &mut self.sources {
            source.copies = dice.permille(700);
        }
        for source in 0..self.sources.len() {
            if !self.sources[source].copies {
                continue;
            }
            // Nearly nothing of it has happened when the task is stopped at once.
            let begins = dice.millis(10..40_000);
            if dice.permille(700) {
                self.steps.push(Step {
                    at: Duration::from_millis(1),
                    lasts: begins,
                    what: What::Stop(source),
                });
            }
            for _ in 0..dice.within(0..8) {
                let worker = dice.within(0..self.workers.len() as u64) as usize;
                let what = match dice.within(0..10) {
                    0..4 => What::CutDumps(source),
                    4 => What::SourceDown(source),
                    5 => What::Pause(source),
                    6 => What::Kill(worker),
                    7 => What::Freeze(worker),
                    8 => What::LostAnswers(300),
                    _ => What::Late(300),
                };
                self.steps.push(Step {
                    at: begins + dice.millis(100..2_000),
                    lasts: dice.millis(10..3_000),
                    what,
                });
            }
        }
    }

    /// Which copies that go straight are tasks of their own.
    fn draw_full(&mut self, dice: &mut Dice) {
        for plan in &mut self.sources {
            // No configuration of a task can tell the next one to begin behind 4 GiB.
            let may_end = plan.copies && plan.way == Way::Straight && plan.first_offset == 0;
            if may_end && dice.permille(400) {
                plan.way = Way::StraightFull;
                // Between two tasks nobody needs what is relayed, as far as the worker knows.
                plan.relays = false;
            }
        }
    }

    /// Which copies go through dump files, and what befalls those and their disks.
    fn draw_files(&mut self, dice: &mut Dice) {
        if !dice.permille(500) {
            return;
        }
        for source in 0..self.sources.len() {
            let plan = &mut self.sources[source];
            if !plan.copies {
                continue;
            }
            plan.way = *dice.pick(&[
                Way::Files,
                Way::Files,
                Way::TwoTasks,
                Way::TwoTasks,
                Way::Full,
            ]);
            // No configuration of a task can tell it to begin behind 4 GiB.
            if plan.way == Way::Full && plan.first_offset != 0 {
                plan.way = Way::TwoTasks;
            }
            // Between two tasks nobody needs what is relayed, as far as the worker knows.
            plan.relays &= plan.way == Way::Files;
            // It begins when a task that was stopped at once begins, or is short from the start.
            let stop = |step: &&Step| {
                step.what == What::Stop(source) && step.at == Duration::from_millis(1)
            };
            let begins = self.steps.iter().find(stop).map(Step::ends);
            let begins = begins.unwrap_or(Duration::from_secs(1));
            for _ in 0..dice.within(0..10) {
                let worker = self.worker(dice);
                let what = match dice.within(0..12) {
                    0..3 => What::Transfer(source),
                    3..5 => What::Kill(worker),
                    5..7 => What::PowerCut(worker),
                    7 => What::FullDisk(worker),
                    8 => What::BadDisk(worker, dice.within(5..200)),
                    9 => What::LostSyncs(worker, dice.within(50..900)),
                    10 => What::SlowDisk(worker),
                    _ => What::Cut(worker),
                };
                self.steps.push(Step {
                    at: begins + dice.millis(10..6_000),
                    lasts: dice.millis(10..8_000),
                    what,
                });
            }
        }
    }

    /// Where an operator dumps once more, and what is altered before. Whoever does so when rows are
    /// there has to begin anew, which no simulated operator does.
    fn draw_again(&mut self, dice: &mut Dice) {
        for source in 0..self.sources.len() {
            let plan = &mut self.sources[source];
            if plan.way != Way::TwoTasks || !dice.permille(700) {
                continue;
            }
            plan.again = true;
            for _ in 0..dice.within(5..40) {
                self.steps.push(Step {
                    at: dice.millis(500..30_000),
                    lasts: Duration::ZERO,
                    what: What::Ddl(source, dice.roll()),
                });
            }
        }
    }

    /// When, and for how long: from hardly noticeable to longer than a lease.
    fn draw_step(&self, dice: &mut Dice, what: What) -> Step {
        let millis = |time: Duration| time.as_millis() as u64;
        let at = dice.millis(millis(WARM_UP)..millis(self.chaos_ends));
        let longest = millis(self.ttl) * 2;
        let lasts = match dice.within(0..3) {
            // Operators take their time.
            _ if matches!(what, What::Pause(_) | What::Stop(_)) => dice.millis(10..70_000),
            // Long enough that everything is read again in the meantime.
            _ if matches!(what, What::Deafen(_)) => {
                let least = *dice.pick(&[1_000, 50_000]);
                dice.millis(least..80_000)
            }
            0 => dice.millis(10..1_000),
            1 => dice.millis(1_000..longest / 2),
            _ => dice.millis(longest / 2..longest),
        };
        Step {
            at,
            lasts: lasts.min(self.chaos_ends - at),
            what,
        }
    }

    /// What goes along with a step.
    fn companions(&self, step: &Step) -> Vec<Step> {
        /// How long a task must have been stopped before another worker may have it.
        const STOPPED: Duration = Duration::from_secs(20);
        /// In such a time files come and go.
        const PAUSED: Duration = Duration::from_secs(15);
        /// How long after its time something late may arrive.
        const LATE: Duration = Duration::from_secs(20);
        /// A little later.
        const THEN: Duration = Duration::from_secs(1);
        let is_even = step.lasts.as_millis().is_multiple_of(2);
        let steps = match step.what {
            What::Foreign(source, _) => {
                let after = step.at + Duration::from_millis(100);
                vec![(step.at.saturating_sub(STOPPED), after, What::Stop(source))]
            }
            // Links fade before they fail, for longer than a lease; answers are on their way.
            What::Slow(worker, _) | What::SlowAnswers(worker, _) => {
                let fails = step.at + step.lasts / 2;
                vec![(fails, fails + self.ttl * 2, What::CutRequests(worker))]
            }
            // Nobody hears of what comes next.
            What::CloseWatches => {
                let source = step.lasts.as_millis() as usize % self.sources.len();
                let then = step.at + Duration::from_millis(2);
                vec![(then, then + THEN * 60, What::Pause(source))]
            }
            // Somebody takes over while transactions are under way.
            What::LongTransactions(_) => {
                let source = step.lasts.as_millis() as usize % self.sources.len();
                let middle = step.at + step.lasts / 2;
                vec![(middle, step.ends(), What::Transfer(source))]
            }
            // Takeovers cross.
            What::Transfer(_) if is_even => vec![
                (step.at, step.ends() + THEN, What::Late(500)),
                (step.at, step.ends() + LATE, What::LostAnswers(300)),
            ],
            // Nobody sees that the source was away.
            What::Transfer(_) => {
                let deaf = |worker| {
                    let begins = step.at.saturating_sub(THEN);
                    (begins, step.ends() + THEN, What::Deafen(worker))
                };
                (0..self.workers.len()).map(deaf).collect()
            }
            // What nobody hears of: a pause, or another task of the same name.
            What::Deafen(worker) => {
                let source = worker % self.sources.len();
                let then = step.at + THEN;
                vec![if is_even {
                    (then, step.ends(), What::Pause(source))
                } else {
                    (then, then + THEN, What::Stop(source))
                }]
            }
            // Whoever connects again finds one server, and a moment later another one.
            What::SwitchServer(source, dice) => {
                let cut = step.at.saturating_sub(Duration::from_millis(1 + dice % 60));
                vec![(cut, cut, What::CutDumps(source))]
            }
            // Its task is far behind; or all that needs the files has only begun to find out what.
            What::PurgeRelay(source, _) if is_even => {
                let begins = step.at.saturating_sub(PAUSED);
                vec![(begins, step.at + THEN, What::Pause(source))]
            }
            What::PurgeRelay(source, _) => {
                let begins = step.at.saturating_sub(THEN);
                vec![
                    (begins, step.at - THEN / 2, What::Kill(source)),
                    (step.at, step.at + THEN, What::PauseRelay(source)),
                ]
            }
            _ => Vec::new(),
        };
        let step = |(at, ends, what): (Duration, Duration, What)| Step {
            at,
            lasts: ends.min(self.chaos_ends).saturating_sub(at),
            what,
        };
        steps.into_iter().map(step).collect()
    }

    fn worker(&self, dice: &mut Dice) -> usize {
        dice.within(0..self.workers.len() as u64) as usize
    }

    fn source(&self, dice: &mut Dice) -> usize {
        dice.within(0..self.sources.len() as u64) as usize
    }
}

/// Draws one fault or order of a kind.
type Kind = fn(&Scenario, &mut Dice) -> What;

/// All kinds but ordinary work.
const KINDS: [Kind; 38] = [
    |it, dice| What::Kill(it.worker(dice)),
    |it, dice| What::Twin(it.worker(dice)),
    |it, dice| What::Freeze(it.worker(dice)),
    |it, dice| What::CutRequests(it.worker(dice)),
    |it, dice| What::CutAnswers(it.worker(dice)),
    |it, dice| What::Cut(it.worker(dice)),
    |it, dice| What::Deafen(it.worker(dice)),
    |it, dice| What::Slow(it.worker(dice), dice.within(100..1_450)),
    |it, dice| What::SlowAnswers(it.worker(dice), dice.within(1_000..2_900)),
    |_, _| What::FreezeEtcd,
    |_, _| What::RestartEtcd,
    |_, _| What::CloseWatches,
    |_, _| What::Compact,
    |it, dice| What::RowEvents(it.source(dice), *dice.pick(&ROW_EVENT_BYTES)),
    |it, dice| What::CutDumps(it.source(dice)),
    |it, dice| What::SourceDown(it.source(dice)),
    |it, dice| What::RestartSource(it.source(dice), dice.roll()),
    |it, dice| What::CrashSource(it.source(dice), dice.roll()),
    |it, dice| What::Purge(it.source(dice)),
    |it, dice| What::SwitchServer(it.source(dice), dice.roll()),
    |it, dice| What::Damage(it.source(dice), dice.within(5..25)),
    |_, dice| What::LostAnswers(dice.within(20..300)),
    |_, dice| What::Late(dice.within(20..300)),
    |_, dice| What::Deadlocks(dice.within(20..300)),
    |_, _| What::ReadOnly,
    |_, dice| What::Full(dice.within(20..300)),
    |_, dice| What::LongTransactions(dice.within(20..300)),
    |_, dice| What::LockWaits(dice.within(20..300)),
    |_, dice| What::Resets(dice.within(20..300)),
    |_, dice| What::Crowded(dice.within(20..300)),
    |_, _| What::Unseen,
    |_, _| What::TargetDown,
    |it, dice| What::Pause(it.source(dice)),
    |it, dice| What::Stop(it.source(dice)),
    |it, dice| What::Resize(it.source(dice), dice.within(1..9)),
    |it, dice| What::Foreign(it.source(dice), dice.roll()),
    |it, dice| What::Transfer(it.source(dice)),
    |_, _| What::NewLeader,
];

/// What is about relays and their disks.
const RELAY_KINDS: [Kind; 9] = [
    |it, dice| What::PowerCut(it.worker(dice)),
    |it, dice| What::FullDisk(it.worker(dice)),
    |it, dice| What::BadDisk(it.worker(dice), dice.within(5..200)),
    |it, dice| What::LostSyncs(it.worker(dice), dice.within(50..900)),
    |it, dice| What::SlowDisk(it.worker(dice)),
    |it, dice| What::Rot(it.worker(dice), dice.roll()),
    |it, dice| What::PauseRelay(it.source(dice)),
    |it, dice| What::StopRelay(it.source(dice)),
    |it, dice| What::PurgeRelay(it.source(dice), dice.roll()),
];

/// Names of everything that can be drawn.
#[must_use]
pub fn names() -> Vec<&'static str> {
    let work = [What::Commit(0, 0), What::Ddl(0, 0)];
    let all = work.into_iter().chain(kinds());
    all.map(|what| what.name()).collect()
}

/// All that this may bring about.
#[must_use]
pub fn effects() -> Vec<&'static str> {
    kinds().flat_map(|what| what.effects()).copied().collect()
}

/// One of each kind but ordinary work.
fn kinds() -> impl Iterator<Item = What> {
    let scenario = Scenario {
        workers: vec![WorkerPlan::default()],
        sources: vec![SourcePlan::default()],
        ..Scenario::draw(0)
    };
    let mut dice = Dice::new(0);
    KINDS
        .into_iter()
        .chain(RELAY_KINDS)
        .map(move |kind| kind(&scenario, &mut dice))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_scenario_is_a_function_of_its_seed() {
        assert_eq!(Scenario::draw(7), Scenario::draw(7));
        assert_ne!(Scenario::draw(7), Scenario::draw(8));
    }

    #[test]
    fn steps_are_in_order_and_over_when_the_world_heals() {
        for seed in 0..50 {
            let scenario = Scenario::draw(seed);
            assert!(scenario.steps.is_sorted_by_key(|step| step.at));
            let ends = scenario.steps.iter().map(Step::ends).max();
            assert!(ends.is_some_and(|end| end <= scenario.chaos_ends));
        }
    }

    #[test]
    fn kinds_have_names_of_their_own() {
        let mut names = names();
        let all = names.len();
        names.sort_unstable();
        names.dedup();
        assert_eq!(names.len(), all);
    }
}
