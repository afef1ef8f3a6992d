//! The command line: many worlds at once, one world in full, worlds without a guard.

use std::{
    collections::BTreeMap,
    env,
    ops::Range,
    process::ExitCode,
    sync::{
        Mutex, PoisonError,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
    thread,
    time::Instant,
};

use dm_sim::world::{self, Mutant, Record};

const USAGE: &str = "usage: dm-sim run --seeds A..B [--jobs N] [--twice]
       dm-sim replay SEED [MUTANT]
       dm-sim mutants [--seeds A..B] [--jobs N]";

/// Oracles that a set of runs must have asked, or it proves nothing.
const ORACLES: [&str; 8] = [
    "fence",
    "exactly-once",
    "progress",
    "lease",
    "convergence",
    "order",
    "stop",
    "end",
];

/// Seeds after which a missing guard counts as unnoticed. Some need three things at once.
const MUTANT_SEEDS: u64 = 3_000;

struct Arguments {
    seeds: Range<u64>,
    jobs: u64,
    twice: bool,
    names: Vec<String>,
}

pub(super) fn main() -> ExitCode {
    let mut args = env::args().skip(1);
    let command = args.next().unwrap_or_default();
    let result = parse(args).and_then(|args| match &*command {
        "run" => run(&args),
        "replay" => replay(&args),
        "mutants" => mutants(&args),
        _ => Err(USAGE.to_owned()),
    });
    match result {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::FAILURE,
        Err(text) => {
            eprintln!("{text}");
            ExitCode::from(2)
        }
    }
}

fn parse(mut args: impl Iterator<Item = String>) -> Result<Arguments, String> {
    let mut parsed = Arguments {
        seeds: 0..0,
        jobs: 1,
        twice: false,
        names: Vec::new(),
    };
    while let Some(arg) = args.next() {
        match &*arg {
            "--seeds" => {
                let range = args.next().unwrap_or_default();
                let ends = range.split_once("..");
                let ends = ends.and_then(|(a, b)| Some((a.parse().ok()?, b.parse().ok()?)));
                let (first, end) = ends.ok_or("--seeds takes a range like 0..100")?;
                parsed.seeds = first..end;
            }
            "--jobs" => {
                let number = args.next().unwrap_or_default().parse().ok();
                parsed.jobs = number
                    .filter(|jobs| *jobs > 0)
                    .ok_or("--jobs takes a number")?;
            }
            "--twice" => parsed.twice = true,
            option if option.starts_with('-') => {
                return Err(format!("unknown option {option}\n{USAGE}"));
            }
            _ => parsed.names.push(arg),
        }
    }
    Ok(parsed)
}

/// Runs a world for each seed, and says in one line what came of them.
fn run(args: &Arguments) -> Result<bool, String> {
    if args.seeds.is_empty() {
        return Err("no seeds: a run of no world proves nothing".to_owned());
    }
    if let Some(name) = args.names.first() {
        return Err(format!("`run` takes no {name}\n{USAGE}"));
    }
    let start = Instant::now();
    let sum = Mutex::new(Sum::default());
    each(args, |seed| {
        let record = world::run(seed, None);
        let same = !args.twice || world::run(seed, None) == record;
        let mut sum = sum.lock().unwrap_or_else(PoisonError::into_inner);
        sum.add(seed, &record, same);
        true
    });
    let sum = sum.into_inner().unwrap_or_else(PoisonError::into_inner);
    println!("{}", sum.line(start.elapsed().as_secs_f64()));
    Ok(sum.is_good())
}

/// What came of many runs.
#[derive(Default)]
struct Sum {
    runs: u64,
    simulated_s: f64,
    events: usize,
    counts: BTreeMap<&'static str, u64>,
    hashes: BTreeMap<u64, u64>,
    failed: Vec<u64>,
    differing: Vec<u64>,
}

impl Sum {
    fn add(&mut self, seed: u64, record: &Record, same: bool) {
        self.runs += 1;
        self.events += record.events.len();
        self.simulated_s += record.events.last().map_or(0.0, |it| it.at.as_secs_f64());
        for (what, count) in &record.counts {
            *self.counts.entry(what).or_default() += count;
        }
        self.hashes.insert(seed, record.hash);
        if let Some(violation) = record.violations.first() {
            eprintln!("seed {seed}: {violation}\n  cargo sim replay {seed}");
            self.failed.push(seed);
        }
        if !same {
            eprintln!("seed {seed}: two runs differ, so something is not decided by the seed");
            self.differing.push(seed);
        }
    }

    /// Oracles that were never asked.
    fn idle(&self) -> Vec<&'static str> {
        let asked = |oracle: &&&str| self.counts.contains_key(**oracle);
        (ORACLES.iter().filter(|oracle| !asked(oracle)))
            .copied()
            .collect()
    }

    fn is_good(&self) -> bool {
        self.runs > 0
            && self.failed.is_empty()
            && self.differing.is_empty()
            && self.idle().is_empty()
    }

    fn line(&self, wall_s: f64) -> String {
        let hash = (self.hashes.values()).fold(0_u64, |all, hash| all.rotate_left(1) ^ hash);
        let (mut failed, mut differing) = (self.failed.clone(), self.differing.clone());
        failed.sort_unstable();
        differing.sort_unstable();
        format!(
            "{{\"runs\":{},\"failed\":{failed:?},\"differing\":{differing:?},\"idle\":{:?},\
             \"simulated_s\":{:.0},\"wall_s\":{wall_s:.1},\"events\":{},\"hash\":\"{hash:016x}\",\
             \"counts\":{:?}}}",
            self.runs,
            self.idle(),
            self.simulated_s,
            self.events,
            self.counts
        )
    }
}

/// Calls `of` with each seed, until one call says that it is enough.
fn each(args: &Arguments, of: impl Fn(u64) -> bool + Sync) {
    let next = AtomicU64::new(args.seeds.start);
    let enough = AtomicBool::new(false);
    thread::scope(|scope| {
        for _ in 0..args.jobs {
            scope.spawn(|| {
                while !enough.load(Ordering::Relaxed) {
                    let seed = next.fetch_add(1, Ordering::Relaxed);
                    if seed >= args.seeds.end {
                        return;
                    }
                    if !of(seed) {
                        enough.store(true, Ordering::Relaxed);
                    }
                }
            });
        }
    });
}

/// Shows everything that happens in the world of a seed.
fn replay(args: &Arguments) -> Result<bool, String> {
    let seed = args.names.first().and_then(|seed| seed.parse().ok());
    let seed = seed.ok_or(USAGE)?;
    let mutant = args.names.get(1).map(|name| mutant(name)).transpose()?;
    let record = world::run(seed, mutant);
    for event in &record.events {
        println!("{event}");
    }
    println!("{} events, hash {:016x}", record.events.len(), record.hash);
    for violation in &record.violations {
        println!("violated: {violation}");
    }
    Ok(record.violations.is_empty())
}

/// Shows for each guard how soon it is noticed that it is not there.
fn mutants(args: &Arguments) -> Result<bool, String> {
    let mut args = Arguments {
        seeds: args.seeds.clone(),
        names: args.names.clone(),
        ..*args
    };
    if args.seeds.is_empty() {
        args.seeds = 0..MUTANT_SEEDS;
    }
    let mut all_found = true;
    for (name, mutant) in Mutant::ALL {
        let found = Mutex::new(None);
        each(&args, |seed| {
            let record = world::run(seed, Some(mutant));
            let Some(violation) = record.violations.into_iter().next() else {
                return true;
            };
            let mut found = found.lock().unwrap_or_else(PoisonError::into_inner);
            if found.as_ref().is_none_or(|(known, _)| seed < *known) {
                *found = Some((seed, violation));
            }
            false
        });
        match found.into_inner().unwrap_or_else(PoisonError::into_inner) {
            Some((seed, violation)) => println!("{name}: seed {seed}: {violation}"),
            None => {
                all_found = false;
                println!("{name}: not noticed in {:?}", args.seeds);
            }
        }
    }
    Ok(all_found)
}

fn mutant(name: &str) -> Result<Mutant, String> {
    let known = Mutant::ALL.iter().find(|(known, _)| *known == name);
    known.map(|(_, mutant)| *mutant).ok_or_else(|| {
        let names = Mutant::ALL.map(|(name, _)| name);
        format!("unknown mutant {name}: there are {names:?}")
    })
}
