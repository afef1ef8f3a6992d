//! How fast time passes in worlds of several kinds: what is left out shows what it costs.

use std::time::{Duration, Instant};

use dm_sim::{
    scenario::{Scenario, SourcePlan, WorkerPlan},
    world,
};

use super::Bench;

/// The scenario of a seed, changed to a kind.
type Kind = fn(&mut Scenario);

/// Each with what it is.
const KINDS: [(&str, Kind); 5] = [
    ("idle", |it| it.steps.clear()),
    ("traffic", |it| it.steps.retain(|step| step.what.is_work())),
    ("faults", |it| it.steps.retain(|step| !step.what.is_work())),
    ("traffic and faults", |_| {}),
    ("the same, as drawn", |_| {}),
];

/// Plays worlds of each kind on one thread.
pub(super) fn bench(args: &Bench) -> bool {
    say!(
        "{:<20} {:>12} {:>12} {:>14}",
        "",
        "simulated s",
        "wall s",
        "s per s and core"
    );
    let mut is_good = true;
    for (name, kind) in KINDS {
        let mut simulated = Duration::ZERO;
        let start = Instant::now();
        for seed in 0..args.runs {
            let mut scenario = Scenario::draw(seed);
            if !name.ends_with("as drawn") {
                two_workers_one_source(&mut scenario);
            }
            kind(&mut scenario);
            let record = world::run(&scenario, None);
            if let Some(violation) = record.violations.first() {
                say!("{name}, seed {seed}: {violation}");
                is_good = false;
            }
            simulated += record.simulated();
        }
        let (simulated, wall) = (simulated.as_secs_f64(), start.elapsed().as_secs_f64());
        say!(
            "{name:<20} {simulated:>12.0} {wall:>12.2} {:>14.0}",
            simulated / wall
        );
    }
    is_good
}

/// Makes a scenario comparable.
fn two_workers_one_source(scenario: &mut Scenario) {
    scenario.workers = vec![WorkerPlan::default(); 2];
    scenario.sources = vec![SourcePlan::default()];
    scenario.steps.retain(|step| {
        step.what.worker().is_none_or(|worker| worker < 2)
            && step.what.source().is_none_or(|source| source < 1)
    });
}
