//! One world in full.

use std::{fs, path::Path};

use dm_core::guard::Guard;
use dm_sim::{
    codec::{CodecError, Recording},
    museum, page,
    record::Record,
    regression::Regression,
    scenario::Scenario,
    shrink as shrinking, world,
};
use indicatif::ProgressBar;

use super::{Output, Replay, Shrink, guard, name_of};

/// Shows everything that happens in a world.
pub(super) fn replay(args: &Replay) -> Result<bool, String> {
    let (scenario, without, recorded) = find(&args.what, args.without)?;
    let record = world::run(&scenario, without);
    for event in &record.events {
        say!("{event}");
    }
    say!("{} events, hash {:016x}", record.events.len(), record.hash);
    for violation in &record.violations {
        say!("violated: {violation}");
    }
    let same = recorded.is_none_or(|recorded| recorded == record);
    if !same {
        say!("this is not what was recorded: the worker, or the world, has changed since");
    }
    let is_good = record.violations.is_empty() && same;
    args.output.write(scenario, without, record)?;
    Ok(is_good)
}

/// Leaves out of a failing world what it fails without.
pub(super) fn shrink(args: &Shrink) -> Result<bool, String> {
    let (scenario, without, _) = find(&args.what, args.without)?;
    let record = world::run(&scenario, without);
    if record.is_stuck() {
        return Err(format!(
            "{}: this world never ends, and so would those that it shrinks to",
            args.what
        ));
    }
    let violation = record.violations.into_iter().next();
    let Some(violation) = violation else {
        return Err(format!(
            "{}: nothing fails, so nothing can shrink",
            args.what
        ));
    };
    say!("fails: {violation}");
    let bar = ProgressBar::new(args.runs.into());
    let before = scenario.steps.len();
    let small = shrinking::shrink(scenario, args.runs, |smaller| {
        bar.inc(1);
        let record = world::run(smaller, without);
        let first = record.violations.first();
        first.is_some_and(|found| found.oracle == violation.oracle)
            // What fails anyway says nothing about the guard.
            && (without.is_none() || world::run(smaller, None).violations.is_empty())
    });
    bar.finish_and_clear();
    let record = world::run(&small, without);
    say!(
        "{} of {before} steps are left, {} workers, {} sources",
        small.steps.len(),
        small.workers.len(),
        small.sources.len()
    );
    for event in &record.events {
        say!("{event}");
    }
    args.output.write(small, without, record)?;
    Ok(true)
}

/// The scenario of a seed, of an exhibit, or of a file, with what was recorded.
fn find(
    what: &str,
    without: Option<Guard>,
) -> Result<(Scenario, Option<Guard>, Option<Record>), String> {
    if let Ok(seed) = what.parse() {
        return Ok((Scenario::draw(seed), without, None));
    }
    let mut exhibits = museum::exhibits().into_iter();
    if let Some(exhibit) = exhibits.find(|exhibit| exhibit.name == what) {
        return Ok((exhibit.scenario, without, None));
    }
    let bytes = fs::read(what).map_err(|error| format!("{what}: {error}"))?;
    let recording = match Recording::decode(&bytes) {
        Ok(recording) => recording,
        Err(CodecError::NotARecording) => {
            let regression = Regression::parse(&String::from_utf8_lossy(&bytes));
            let regression = regression.map_err(|error| {
                format!("{what}: neither a recorded run nor a regression: {error}")
            })?;
            return Ok((regression.scenario, without, None));
        }
        Err(error) => return Err(format!("{what}: {error}")),
    };
    let Recording {
        scenario,
        without: recorded,
        record,
    } = recording;
    match (without, recorded) {
        (Some(_), _) => Ok((scenario, without, None)),
        (None, name) => {
            let known = |name: String| guard(&name).map_err(|why| format!("{name}: {why}"));
            let without = name.map(known).transpose()?;
            Ok((scenario, without, Some(record)))
        }
    }
}

impl Output {
    fn write(
        &self,
        scenario: Scenario,
        without: Option<Guard>,
        record: Record,
    ) -> Result<(), String> {
        let without = without.map(|guard| name_of(guard).to_owned());
        if let Some(path) = &self.keep {
            let (without, scenario) = (without.clone(), scenario.clone());
            let text = Regression { without, scenario }.text()?;
            write(path, text.as_bytes())?;
        }
        let recording = Recording {
            scenario,
            without,
            record,
        };
        if let Some(path) = &self.html {
            write(path, page::page(&recording).as_bytes())?;
        }
        if let Some(path) = &self.record {
            let bytes = recording.encode().map_err(|error| error.to_string())?;
            write(path, &bytes)?;
            say!("cargo sim replay {}", path.display());
        }
        Ok(())
    }
}

fn write(path: &Path, bytes: &[u8]) -> Result<(), String> {
    fs::write(path, bytes).map_err(|error| format!("{}: {error}", path.display()))
}
