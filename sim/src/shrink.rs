//! Makes a failing scenario small: leaves out what it fails without.

use std::{mem, time::Duration};

use crate::scenario::{Scenario, Step};

/// Leaves out steps, sources and workers of `scenario` as long as `fails` says that the rest fails
/// in the same way. `fails` is asked at most `runs_max` times.
pub fn shrink(scenario: Scenario, runs_max: u32, fails: impl FnMut(&Scenario) -> bool) -> Scenario {
    let mut shrinker = Shrinker {
        best: scenario,
        left: runs_max,
        fails,
    };
    while shrinker.round() {}
    shrinker.best
}

struct Shrinker<F> {
    best: Scenario,
    /// How often it may be asked.
    left: u32,
    fails: F,
}

impl<F: FnMut(&Scenario) -> bool> Shrinker<F> {
    /// Tries everything once. Returns whether something could be left out.
    fn round(&mut self) -> bool {
        let before = self.best.clone();
        self.drop_kinds();
        self.drop_chunks();
        self.drop_actors();
        self.soften();
        self.best != before && self.left > 0
    }

    /// Takes a smaller scenario if that fails, too.
    fn attempt(&mut self, change: impl FnOnce(&mut Scenario)) -> bool {
        if self.left == 0 {
            return false;
        }
        let mut smaller = self.best.clone();
        change(&mut smaller);
        if smaller == self.best || smaller.check().is_err() {
            return false;
        }
        self.left -= 1;
        if !(self.fails)(&smaller) {
            return false;
        }
        self.best = smaller;
        true
    }

    /// All steps of one kind at once.
    fn drop_kinds(&mut self) {
        let mut kinds: Vec<_> = self
            .best
            .steps
            .iter()
            .map(|step| step.what.name())
            .collect();
        kinds.sort_unstable();
        kinds.dedup();
        for kind in kinds {
            self.attempt(|it| it.steps.retain(|step| step.what.name() != kind));
        }
    }

    /// Ever smaller runs of steps, down to single ones.
    fn drop_chunks(&mut self) {
        let mut size = self.best.steps.len().div_ceil(2);
        while size > 0 {
            // From the end, since what comes last most likely came too late to matter.
            let mut end = self.best.steps.len();
            while end > 0 && self.left > 0 {
                let start = end.saturating_sub(size);
                self.attempt(|it| {
                    it.steps.drain(start..end);
                });
                end = start;
            }
            size = if size == 1 { 0 } else { size.div_ceil(2) };
        }
    }

    fn drop_actors(&mut self) {
        for place in (0..self.best.sources.len()).rev() {
            if self.best.sources.len() > 1 {
                self.attempt(|it| {
                    it.sources.remove(place);
                    it.forget(place, |step| step.what.source_mut());
                });
            }
        }
        for place in (0..self.best.workers.len()).rev() {
            if self.best.workers.len() > 1 {
                self.attempt(|it| {
                    it.workers.remove(place);
                    it.forget(place, |step| step.what.worker_mut());
                });
            }
        }
    }

    /// Makes what is left shorter and plainer.
    fn soften(&mut self) {
        for worker in 0..self.best.workers.len() {
            self.attempt(|it| it.workers[worker].drift_ppm = 0);
        }
        for source in 0..self.best.sources.len() {
            self.attempt(|it| it.sources[source].slots = 1);
            self.attempt(|it| it.sources[source].by_gtid = false);
        }
        for step in 0..self.best.steps.len() {
            self.attempt(|it| {
                let lasts = &mut it.steps[step].lasts;
                *lasts = round(*lasts / 2);
            });
        }
        let last = self.best.steps.iter().map(Step::ends).max();
        let ends = last.unwrap_or_default() + Duration::from_secs(1);
        self.attempt(|it| it.chaos_ends = it.chaos_ends.min(ends));
    }
}

/// To whole milliseconds, so that halving comes to an end.
fn round(time: Duration) -> Duration {
    Duration::from_millis(time.as_millis() as u64)
}

impl Scenario {
    /// Forgets the steps of an actor that is not there any more, and moves the places behind it.
    fn forget(&mut self, place: usize, of: impl Fn(&mut Step) -> Option<&mut usize>) {
        let steps = mem::take(&mut self.steps);
        for mut step in steps {
            match of(&mut step) {
                Some(other) if *other == place => continue,
                Some(other) if *other > place => *other -= 1,
                _ => {}
            }
            self.steps.push(step);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::scenario::What;

    /// Two kills and a certain transaction are all that it takes.
    #[test]
    fn what_does_not_matter_is_left_out() {
        let scenario = (0..)
            .map(Scenario::draw)
            .find(|it| it.workers.len() > 2 && it.sources.len() > 1 && kills(it) > 1)
            .expect("seeds without end");
        let commits = |it: &Scenario| {
            let steps = it.steps.iter();
            steps
                .filter_map(|step| match step.what {
                    What::Commit(_, dice) => Some(dice),
                    _ => None,
                })
                .collect::<Vec<_>>()
        };
        let needed = commits(&scenario)[17];
        let small = shrink(scenario, 5_000, |it| {
            kills(it) > 1 && commits(it).contains(&needed)
        });
        assert_eq!(small.steps.len(), 3, "{small:?}");
        let killed = small.steps.iter().filter_map(|step| step.what.worker());
        let killed: std::collections::BTreeSet<_> = killed.collect();
        assert_eq!(
            (small.sources.len(), small.workers.len()),
            (1, killed.len())
        );
        assert!(small.steps.iter().all(|step| step.lasts.is_zero()));
    }

    #[test]
    fn it_is_not_asked_for_ever() {
        let mut asked = 0;
        shrink(Scenario::draw(1), 10, |_| {
            asked += 1;
            true
        });
        assert_eq!(asked, 10);
    }

    fn kills(scenario: &Scenario) -> usize {
        let steps = scenario.steps.iter();
        steps.filter(|it| matches!(it.what, What::Kill(_))).count()
    }
}
