//! The museum's doors.

use std::time::Instant;

use dm_sim::{
    museum::{self, Exhibit},
    world,
};

use super::{Museum, name_of};

/// Plays all exhibits: with our worker, and with one that lacks the guard in question.
pub(super) fn museum(args: &Museum) -> Result<bool, String> {
    let start = Instant::now();
    let (mut shown, mut failed) = (0, 0);
    for exhibit in museum::exhibits() {
        if !exhibit
            .name
            .contains(args.name.as_deref().unwrap_or_default())
        {
            continue;
        }
        shown += 1;
        let (is_good, verdict) = shown_as(&exhibit);
        failed += u32::from(!is_good);
        println!("{:<52} {verdict}", exhibit.name);
        if args.explain {
            println!("    A naive worker {}.", exhibit.naive);
        }
    }
    if shown == 0 {
        return Err("there is no such exhibit".to_owned());
    }
    let wall = start.elapsed().as_secs_f64();
    println!("{shown} exhibits, {failed} not as they should be, {wall:.1} s");
    Ok(failed == 0)
}

fn shown_as(exhibit: &Exhibit) -> (bool, String) {
    let ours = world::run(&exhibit.scenario, None);
    let (mut is_good, mut verdict) = match ours.violations.first() {
        None => (true, "survived".to_owned()),
        Some(violation) => (false, format!("NOT SURVIVED: {violation}")),
    };
    if let Some(guard) = exhibit.without {
        let naive = world::run(&exhibit.scenario, Some(guard));
        let name = name_of(guard);
        match naive.violations.first() {
            Some(found) => verdict += &format!("; without {name}: {}", found.oracle),
            None => {
                is_good = false;
                verdict += &format!("; WITHOUT {name} IT SURVIVES AS WELL");
            }
        }
    }
    (is_good, verdict)
}
