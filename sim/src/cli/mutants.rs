//! Worlds without a guard: a simulator that finds nothing is not believed before it has caught
//! these.

use std::{thread, time::Instant};

use dm_core::guard::Guard;
use dm_sim::{record::Violation, scenario::Scenario, world};

use super::{
    Mutants,
    many::{Many, bar},
};

/// Shows for each guard how many seeds it takes until it is noticed that it is not there.
pub(super) fn mutants(args: &Mutants) -> bool {
    let is_meant = |guard: &Guard| args.guards.is_empty() || args.guards.contains(guard);
    let start = Instant::now();
    let mut survivors = Vec::new();
    for (name, guard) in Guard::ALL {
        if !is_meant(&guard) {
            continue;
        }
        let seeds = args.seeds.end - args.seeds.start;
        match first_noticed(args, guard) {
            Some((seed, Violation { oracle, .. })) => {
                say!(
                    "{name:<28} {:>5} seeds  {oracle}",
                    seed - args.seeds.start + 1
                );
            }
            None => {
                say!("{name:<28} not noticed in {seeds} seeds");
                survivors.push(name);
            }
        }
    }
    say!(
        "{} survive, {:.1} s on {} of {} cores",
        survivors.len(),
        start.elapsed().as_secs_f64(),
        args.jobs,
        thread::available_parallelism().map_or(1, usize::from)
    );
    survivors.is_empty()
}

/// The lowest seed whose oracles notice.
fn first_noticed(args: &Mutants, guard: Guard) -> Option<(u64, Violation)> {
    let many = Many {
        seeds: args.seeds.clone(),
        jobs: args.jobs,
        limit: None,
    };
    let mut found: Option<(u64, Violation)> = None;
    let bar = bar(args.seeds.end - args.seeds.start);
    let play = |seed| world::run(&Scenario::draw(seed), Some(guard));
    many.each(&bar, play, |seed, record| {
        let Some(violation) = record.violations.into_iter().next() else {
            return true;
        };
        // What fails anyway says nothing about the guard.
        if !world::run(&Scenario::draw(seed), None)
            .violations
            .is_empty()
        {
            return true;
        }
        if found.as_ref().is_none_or(|(known, _)| seed < *known) {
            found = Some((seed, violation));
        }
        false
    });
    bar.finish_and_clear();
    found
}
