//! Worlds that are to hold, and a summary of them.

use std::{
    collections::BTreeMap,
    fs::OpenOptions,
    io::Write as _,
    time::{Duration, Instant},
};

use dm_sim::{
    record::Record,
    scenario::{self, Scenario},
    world::{self, ORACLES},
};
use serde::Serialize;

use super::{
    Run, Soak,
    many::{Many, bar},
    name_of, seed_of_today,
};

/// So many worlds have everything in them that can be drawn; what never happened in as many is not
/// tested at all.
const ENOUGH_FOR_ALL: u64 = 150;
/// What several faults must have brought about together.
const EFFECTS: [&str; 4] = [
    "etcd: stale answer",
    "source: refused dump",
    "target: DDL settled",
    "target: takeover once more",
];

/// Plays a world for each seed, and says in one line of JSON what came of them.
pub(super) fn run(args: &Run) -> Result<bool, String> {
    let many = Many {
        seeds: match (&args.seeds, args.minutes) {
            (Some(seeds), _) => seeds.clone(),
            (None, Some(_)) => seed_of_today()..u64::MAX,
            (None, None) => return Err("either --seeds or --minutes is needed".to_owned()),
        },
        jobs: args.jobs,
        limit: args
            .minutes
            .map(|minutes| Duration::from_secs_f64(minutes * 60.0)),
    };
    if args.seeds.is_none() {
        eprintln!("seeds from {} on", many.seeds.start);
    }
    let start = Instant::now();
    let mut summary = Summary {
        asked: args
            .seeds
            .as_ref()
            .map_or(0, |seeds| seeds.end - seeds.start),
        without: args.without.map(name_of),
        ..Summary::default()
    };
    let bar = bar(many.seeds.end - many.seeds.start);
    let play = |seed| {
        let scenario = Scenario::draw(seed);
        let record = world::run(&scenario, args.without);
        let same = !args.twice || world::run(&scenario, args.without) == record;
        (record, same)
    };
    many.each(&bar, play, |seed, (record, same)| {
        for line in summary.add(seed, &record, same) {
            bar.suspend(|| eprintln!("{line}"));
        }
        !record.is_stuck()
    });
    bar.finish_and_clear();
    summary.end(start.elapsed());
    let line = serde_json::to_string(&summary).map_err(|error| error.to_string())?;
    say!("{line}");
    for line in summary.complaints() {
        eprintln!("{line}");
    }
    Ok(summary.is_good())
}

/// Plays worlds for ever, and collects the seeds of those that fail.
pub(super) fn soak(args: &Soak) -> Result<bool, String> {
    let from = args.from.unwrap_or_else(seed_of_today);
    let many = Many {
        seeds: from..u64::MAX,
        jobs: args.jobs,
        limit: None,
    };
    eprintln!(
        "seeds from {from} on; failing ones go to {}",
        args.into.display()
    );
    let mut file = OpenOptions::new()
        .create(true)
        .append(true)
        .open(&args.into)
        .map_err(|error| format!("{}: {error}", args.into.display()))?;
    let bar = bar(many.seeds.end - many.seeds.start);
    let (mut failed, mut is_stuck) = (Ok(()), false);
    let play = |seed| world::run(&Scenario::draw(seed), None);
    many.each(&bar, play, |seed, record| {
        if let Some(violation) = record.violations.first() {
            bar.suspend(|| eprintln!("seed {seed}: {violation}"));
            failed = writeln!(file, "{seed} {violation}");
        }
        is_stuck |= record.is_stuck();
        failed.is_ok() && !is_stuck
    });
    failed.map_err(|error| format!("{}: {error}", args.into.display()))?;
    Ok(!is_stuck)
}

/// What came of many runs.
#[derive(Default, Serialize)]
struct Summary {
    /// How many worlds were to be played, if that was said.
    asked: u64,
    runs: u64,
    failed: Vec<u64>,
    differing: Vec<u64>,
    simulated_s: f64,
    wall_s: f64,
    events: usize,
    hash: String,
    counts: BTreeMap<String, u64>,
    #[serde(skip)]
    hashes: BTreeMap<u64, u64>,
    /// The guard that is switched off.
    #[serde(skip)]
    without: Option<&'static str>,
}

impl Summary {
    /// Takes a run, and says what is to be said of it.
    fn add(&mut self, seed: u64, record: &Record, same: bool) -> Vec<String> {
        self.runs += 1;
        self.events += record.events.len();
        self.simulated_s += record.simulated().as_secs_f64();
        for (what, count) in &record.counts {
            *self.counts.entry(what.to_string()).or_default() += count;
        }
        self.hashes.insert(seed, record.hash);
        let mut lines = Vec::new();
        if let Some(violation) = record.violations.first() {
            let without = self.without;
            let without = without.map_or(String::new(), |name| format!(" --without {name}"));
            let replay = format!("cargo sim replay {seed}{without}");
            lines.push(format!("seed {seed}: {violation}\n  {replay}"));
            self.failed.push(seed);
        }
        if !same {
            lines.push(format!(
                "seed {seed}: two runs differ, so something is not decided by the seed"
            ));
            self.differing.push(seed);
        }
        lines
    }

    fn end(&mut self, wall: Duration) {
        self.wall_s = round(wall);
        let hashes = self.hashes.values();
        let hash = hashes.fold(0_u64, |all, hash| all.rotate_left(1) ^ hash);
        self.hash = format!("{hash:016x}");
        self.failed.sort_unstable();
        self.differing.sort_unstable();
    }

    /// Oracles that were never asked, and, where there were enough runs, faults and orders that
    /// never happened.
    fn idle(&self) -> Vec<&'static str> {
        let mut names = ORACLES.to_vec();
        if self.runs >= ENOUGH_FOR_ALL {
            names.extend(scenario::names());
            names.extend(scenario::effects());
            names.extend(EFFECTS);
        }
        names.retain(|name| !self.counts.contains_key(*name));
        names
    }

    fn complaints(&self) -> Vec<String> {
        let mut lines: Vec<_> = (self.idle().iter())
            .map(|name| format!("`{name}` never happened, so nothing is known about it"))
            .collect();
        if self.runs < self.asked {
            let Self { asked, runs, .. } = self;
            lines.push(format!("only {runs} of {asked} worlds were played"));
        }
        if self.runs == 0 {
            lines.push("no world was played, and that proves nothing".to_owned());
        }
        lines
    }

    fn is_good(&self) -> bool {
        self.failed.is_empty() && self.differing.is_empty() && self.complaints().is_empty()
    }
}

fn round(time: Duration) -> f64 {
    (time.as_secs_f64() * 10.0).round() / 10.0
}
