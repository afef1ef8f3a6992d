//! The world: servers, workers, a master, and everything that goes wrong between them.
//!
//! One run is a pure function of its seed. First everything may fail while oracles watch; then all
//! faults are healed, and the world must become what is wanted of it within a bounded time.

mod control;
mod faults;
mod master;
mod oracle;
mod rows;
mod scenario;
mod signal;
mod source;
mod target;
mod trace;
mod values;
mod worker;

use std::thread;

use madsim::runtime::Runtime;

pub use self::{
    target::Mutant,
    trace::{Event, Record, Violation},
};

/// Runs a world to its end.
///
/// # Panics
/// Never: a panic inside of it is a violation.
#[must_use]
pub fn run(seed: u64, mutant: Option<Mutant>) -> Record {
    // Hash keys and the like are per thread: a fresh one knows nothing of the run before.
    let run = thread::spawn(move || {
        let runtime = Runtime::with_seed_and_config(seed, madsim::Config::default());
        runtime.block_on(scenario::run(seed, mutant))
    });
    run.join().unwrap_or_else(|panic| {
        let text = panic
            .downcast_ref::<&str>()
            .map(ToString::to_string)
            .or_else(|| panic.downcast_ref::<String>().cloned());
        Record {
            violations: vec![Violation {
                at: std::time::Duration::ZERO,
                oracle: "panic",
                what: text.unwrap_or_default(),
            }],
            ..Record::default()
        }
    })
}
