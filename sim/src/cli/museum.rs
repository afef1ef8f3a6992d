//! The museum's doors, and what once went wrong with our own worker.

use std::{
    fs,
    path::{Path, PathBuf},
    time::Instant,
};

use dm_core::guard::Guard;
use dm_sim::{
    museum,
    record::Record,
    regression::Regression,
    scenario::{Scenario, What},
    world,
};

use super::{Museum, guard, name_of};

/// Where regressions are.
const REGRESSIONS: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/regressions");

/// Something that our worker survives, and one that lacks the guard in question does not.
struct Shown {
    name: String,
    naive: Option<&'static str>,
    without: Option<Guard>,
    /// The oracle that notices, if only one may.
    oracle: Option<&'static str>,
    /// What must have happened.
    needs: Option<&'static str>,
    scenario: Scenario,
}

/// Plays all exhibits and regressions.
pub(super) fn museum(args: &Museum) -> Result<bool, String> {
    let start = Instant::now();
    let mut all: Vec<_> = (museum::exhibits().into_iter())
        .map(|exhibit| Shown {
            name: exhibit.name.to_owned(),
            naive: Some(exhibit.naive),
            without: exhibit.without.map(|(guard, _)| guard),
            oracle: exhibit.without.map(|(_, oracle)| oracle),
            needs: exhibit.needs,
            scenario: exhibit.scenario,
        })
        .collect();
    all.extend(regressions()?);
    if let Some(name) = &args.name {
        all.retain(|it| it.name.contains(name));
    }
    if all.is_empty() {
        return Err("there is no such exhibit".to_owned());
    }
    let mut failed = 0;
    for shown in &all {
        let (is_good, verdict) = shown.play();
        failed += u32::from(!is_good);
        say!("{:<52} {verdict}", shown.name);
        if let (true, Some(naive)) = (args.explain, shown.naive) {
            say!("    A naive worker {naive}.");
        }
    }
    let (count, wall) = (all.len(), start.elapsed().as_secs_f64());
    say!("{count} exhibits and regressions, {failed} not as they should be, {wall:.1} s");
    Ok(failed == 0)
}

/// All regressions, in order of their names.
fn regressions() -> Result<Vec<Shown>, String> {
    let of_folder = |error| format!("{REGRESSIONS}: {error}");
    let mut paths = Vec::new();
    for entry in fs::read_dir(REGRESSIONS).map_err(of_folder)? {
        paths.push(entry.map_err(of_folder)?.path());
    }
    paths.sort();
    let read = |path: &PathBuf| read(path).map_err(|error| format!("{}: {error}", path.display()));
    paths.iter().map(read).collect()
}

fn read(path: &Path) -> Result<Shown, String> {
    let text = fs::read_to_string(path).map_err(|error| error.to_string())?;
    let Regression { without, scenario } = Regression::parse(&text)?;
    let name = path.file_stem().unwrap_or_default().display();
    Ok(Shown {
        name: format!("regression: {name}"),
        naive: None,
        without: without.as_deref().map(guard).transpose()?,
        oracle: None,
        needs: None,
        scenario,
    })
}

impl Shown {
    /// Something in an exhibit that was done and brought nothing about.
    fn idle_step(&self, record: &Record) -> Option<What> {
        self.naive?;
        let steps = self.scenario.steps.iter().map(|step| step.what);
        let is_idle = |what: &What| {
            let effects = what.effects();
            !effects.is_empty() && !effects.iter().any(|it| record.counts.contains_key(*it))
        };
        steps.into_iter().find(is_idle)
    }

    fn play(&self) -> (bool, String) {
        let ours = world::run(&self.scenario, None);
        let (mut is_good, mut verdict) = match ours.violations.first() {
            None => (true, "survived".to_owned()),
            Some(violation) => (false, format!("NOT SURVIVED: {violation}")),
        };
        if let Some(step) = self.idle_step(&ours) {
            is_good = false;
            verdict += &format!("; `{step}` HAS NO EFFECT");
        }
        if let Some(what) = self.needs.filter(|it| !ours.counts.contains_key(*it)) {
            is_good = false;
            verdict += &format!("; `{what}` NEVER HAPPENED");
        }
        if let Some(guard) = self.without {
            let naive = world::run(&self.scenario, Some(guard));
            let name = name_of(guard);
            match naive.violations.first() {
                Some(found) => {
                    verdict += &format!("; without {name}: {}", found.oracle);
                    if let Some(oracle) = self.oracle.filter(|oracle| *oracle != found.oracle) {
                        is_good = false;
                        verdict += &format!(", NOT {oracle}");
                    }
                }
                None => {
                    is_good = false;
                    verdict += &format!("; WITHOUT {name} IT SURVIVES AS WELL");
                }
            }
        }
        (is_good, verdict)
    }
}
