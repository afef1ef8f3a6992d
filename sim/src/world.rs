//! The world: servers, workers, a master, and everything that goes wrong between them.
//!
//! One run is a pure function of its scenario. First everything may fail while oracles watch; then
//! all faults are healed, and the world must become what is wanted of it within a bounded time.

mod control;
mod files;
mod history;
mod master;
mod operator;
mod oracle;
mod play;
mod purge;
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
    sync::{
        Arc, Mutex, PoisonError,
        mpsc::{self, RecvTimeoutError},
    },
    thread,
    time::Duration,
};

use dm_core::guard::{self, Guard};
use dm_runtime::panics;
use madsim::runtime::Runtime;

use self::trace::Trace;
pub use self::{oracle::NAMES as ORACLES, target::wrong as wrong_target_cases};
use crate::{
    record::{Record, STUCK, Violation},
    scenario::Scenario,
};

/// How long a world may take on the machine's clock: some hundred times what it does take.
const PATIENCE: Duration = Duration::from_secs(120);

/// Plays a scenario to its end, without a guard if one is named.
///
/// A panic in there, which includes that everything waits for ever, is a violation, and so is a
/// world that does not come to an end.
#[must_use]
pub fn run(scenario: &Scenario, without: Option<Guard>) -> Record {
    let scenario = scenario.clone();
    watched(PATIENCE, move |kept| {
        let _without = guard::without(without);
        let config = madsim::Config::default();
        let runtime = Runtime::with_seed_and_config(scenario.seed, config);
        runtime.block_on(play::play(&scenario, kept))
    })
}

/// The record of a run, or what was kept of it if it panics, or takes longer than `patience`.
fn watched(
    patience: Duration,
    play: impl FnOnce(&Mutex<Option<Trace>>) -> Record + Send + 'static,
) -> Record {
    let kept = Arc::new(Mutex::new(None));
    let (over, is_over) = mpsc::channel::<()>();
    // Hash keys and the like are per thread: a fresh one knows nothing of the run before. It is not
    // a scoped one, which would be waited for even if it never ends.
    let run = thread::spawn({
        let kept = Arc::clone(&kept);
        move || {
            let _over = over;
            play(&kept)
        }
    });
    let (oracle, what) = match is_over.recv_timeout(patience) {
        Err(RecvTimeoutError::Timeout) => {
            (STUCK, format!("the world is not over after {patience:?}"))
        }
        _ => match run.join() {
            Ok(record) => return record,
            Err(panic) => ("panic", panics::text(panic.as_ref())),
        },
    };
    let kept = kept.lock().unwrap_or_else(PoisonError::into_inner);
    let mut record = kept.as_ref().and_then(Trace::kept).unwrap_or_default();
    record.violations.push(Violation {
        at: record.simulated(),
        oracle: Cow::Borrowed(oracle),
        what,
    });
    record
}

#[cfg(test)]
mod tests {
    use std::{
        future::poll_fn,
        sync::atomic::{AtomicBool, Ordering},
        task::Poll,
    };

    use super::*;

    #[test]
    fn a_world_whose_time_stands_still_is_given_up() {
        let ends = Arc::new(AtomicBool::new(false));
        let spins = Arc::clone(&ends);
        let record = watched(Duration::from_millis(200), move |_| {
            Runtime::with_seed_and_config(1, madsim::Config::default()).block_on(poll_fn(|cx| {
                cx.waker().wake_by_ref();
                let over = spins.load(Ordering::Relaxed);
                if over {
                    Poll::Ready(Record::default())
                } else {
                    Poll::Pending
                }
            }))
        });
        ends.store(true, Ordering::Relaxed);
        assert_eq!(record.violations[0].oracle, STUCK);
    }

    #[test]
    fn a_panic_is_a_violation() {
        let record = watched(PATIENCE, |_| panic!("so {}", "it is"));
        let Violation { oracle, what, .. } = &record.violations[0];
        assert_eq!((&**oracle, &**what), ("panic", "so it is"));
    }
}
