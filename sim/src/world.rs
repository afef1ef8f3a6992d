//! The world: servers, workers, a master, and everything that goes wrong between them.
//!
//! One run is a pure function of its scenario. First everything may fail while oracles watch; then
//! all faults are healed, and the world must become what is wanted of it within a bounded time.

mod control;
mod history;
mod master;
mod oracle;
mod play;
mod rows;
mod signal;
mod source;
mod statement;
mod tables;
mod target;
mod trace;
mod worker;

use std::{
    borrow::Cow,
    sync::{Mutex, PoisonError},
    thread,
};

use dm_core::guard::{self, Guard};
use madsim::runtime::Runtime;

use self::trace::Trace;
pub use self::{oracle::NAMES as ORACLES, target::wrong as wrong_target_cases};
use crate::{
    record::{Record, Violation},
    scenario::Scenario,
};

/// Plays a scenario to its end, without a guard if one is named.
///
/// A panic in there, which includes that everything waits for ever, is a violation.
#[must_use]
pub fn run(scenario: &Scenario, without: Option<Guard>) -> Record {
    // Hash keys and the like are per thread: a fresh one knows nothing of the run before.
    let kept = Mutex::new(None);
    thread::scope(|scope| {
        let run = scope.spawn(|| {
            let _without = guard::without(without);
            let config = madsim::Config::default();
            let runtime = Runtime::with_seed_and_config(scenario.seed, config);
            runtime.block_on(play::play(scenario, &kept))
        });
        run.join().unwrap_or_else(|panic| {
            let kept = kept.lock().unwrap_or_else(PoisonError::into_inner);
            let mut record = kept.as_ref().map_or_else(Record::default, Trace::record);
            record.violations.push(Violation {
                at: record.simulated(),
                oracle: Cow::Borrowed("panic"),
                what: text(panic.as_ref()),
            });
            record
        })
    })
}

fn text(panic: &(dyn std::any::Any + Send)) -> String {
    let text = panic.downcast_ref::<&str>().map(ToString::to_string);
    text.or_else(|| panic.downcast_ref::<String>().cloned())
        .unwrap_or_default()
}
