//! Automatic resume: which errors may pass by themselves, and how long to wait for that.
//!
//! The existing worker looks at every subtask every few seconds; the same decisions are made here
//! at the same moments, but only for what is paused by an error, in the step that carries them
//! out, so that no pause can come in between.

use core::time::Duration;

use super::io::Dice;
use crate::{control::SourceConfig, error::Error, time::Instant};

/// The settings, from the `[checker]` table of the source.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) struct Policy {
    pub(super) enable: bool,
    pub(super) interval: Duration,
    pub(super) min: Duration,
    pub(super) max: Duration,
    pub(super) rollback: Duration,
    pub(super) factor: f64,
    pub(super) jitter: bool,
}

impl Policy {
    pub(super) fn of(source: &SourceConfig) -> Self {
        let checker = &source.checker;
        Self {
            enable: checker.check_enable,
            interval: checker.check_interval,
            min: checker.backoff_min,
            max: checker.backoff_max,
            rollback: checker.backoff_rollback,
            factor: checker.backoff_factor,
            jitter: checker.backoff_jitter,
        }
    }

    /// The wait of a step, before jitter and cap.
    fn wait(&self, step: u32) -> Duration {
        let mut wait = self.min;
        for _ in 0..step {
            if wait >= self.max {
                break;
            }
            wait = Duration::try_from_secs_f64(wait.as_secs_f64() * self.factor)
                .unwrap_or(Duration::MAX);
        }
        wait
    }
}

/// How patient to be with one subtask or relay.
#[derive(Clone, Debug)]
pub(super) struct Backoff {
    step: u32,
    last_resume: Instant,
    last_paused: Instant,
}

impl Backoff {
    pub(super) const fn new(now: Instant) -> Self {
        Self {
            step: 0,
            last_resume: now,
            last_paused: now,
        }
    }

    /// Notes that it was well up to now, and is paused by an error: one step back for each
    /// rollback period without one.
    pub(super) fn paused(&mut self, now: Instant, policy: &Policy) {
        let mut well = now.since(self.last_paused);
        while self.step > 0 && well > policy.rollback && !policy.rollback.is_zero() {
            self.step -= 1;
            well -= policy.rollback;
        }
        self.last_paused = now;
    }

    /// Looks at it while it is paused: whether to resume it now.
    pub(super) fn check(&mut self, now: Instant, policy: &Policy, dice: &mut Dice) -> bool {
        self.last_paused = now;
        let mut wait = policy.wait(self.step);
        if policy.jitter && wait > policy.min {
            wait = wait / 2 + jitter(wait / 2, dice);
        }
        if now.since(self.last_resume) < wait.min(policy.max) {
            return false;
        }
        self.last_resume = now;
        if policy.wait(self.step) < policy.max {
            self.step += 1;
        }
        true
    }
}

/// Is said of a copy (34018) that goes on only once somebody has made room for it.
pub const BEGIN_ANEW: &str = "must begin anew";

/// Uniformly up to `span`.
fn jitter(span: Duration, dice: &mut Dice) -> Duration {
    // 32 bits are a finer step than anybody can see.
    span.mul_f64((dice.roll() >> 32) as f64 / f64::from(u32::MAX))
}

/// Whether waiting may help a subtask that these errors paused, so that it resumes by itself.
#[must_use]
pub fn subtask_resumable(errors: &[Error]) -> bool {
    errors.iter().all(|error| {
        let cause = error.cause.to_lowercase();
        let message = |text| error.message.contains(text);
        match error.code {
            // What this worker cannot do, and what it refuses in a configuration.
            20_900 | 20_901 => return false,
            // Somebody else took the source over: taking it back would be a tug-of-war.
            36_901 => return false,
            // The target has rows that the source lost: somebody must look.
            36_906 => return false,
            34_018 if message(BEGIN_ANEW) => return false,
            36_008 | 32_004 | 32_001 | 36_027 | 11_129 | 34_020 | 34_021 => return false,
            11_038 if TORN_RELAY.into_iter().any(message) => return false,
            34_019 => {
                return cause.contains("doesn't exist") || cause.contains("is in mode import");
            }
            _ => {}
        }
        !LASTING_CAUSES.iter().any(|text| cause.contains(text))
    })
}

/// Whether waiting may help a relay.
#[must_use]
pub fn relay_resumable(errors: &[Error]) -> bool {
    !errors
        .iter()
        .any(|error| matches!(error.code, 30_001 | 30_002 | 30_004 | 30_005 | 30_008))
}

const TORN_RELAY: [&str; 2] = [
    "binlog checksum mismatch, data may be corrupted",
    "get event err EOF",
];

/// What servers say, in lower case, when the same statement will fail for ever.
const LASTING_CAUSES: [&str; 21] = [
    "can't drop column with index",
    "with tidb_enable_change_multi_schema is disable",
    "unsupported add column",
    "unsupported modify column",
    "unsupported modify charset",
    "unsupported modify collate",
    "unsupported drop integer primary key",
    "unsupported collation",
    "invalid default value for",
    "unsupported drop primary key",
    "error 1059",
    "error 1117",
    "error 1069",
    "error 1062",
    "error 1406",
    "error 1366",
    "error 8025",
    "could not find first log file name in binary log index file",
    // Purged GTIDs, as MySQL says it up to 8.0.25, from 8.0.26 on, and MariaDB.
    "master has purged binary logs containing gtids that the slave requires",
    "cannot replicate because the source purged required binary logs",
    "could not find gtid state requested by slave in any binlog files",
];

#[cfg(test)]
mod tests {
    use std::vec::Vec;

    use super::*;
    use crate::error::code;

    fn policy() -> Policy {
        Policy::of(&SourceConfig::standard())
    }

    fn at(seconds: u64) -> Instant {
        Instant(Duration::from_secs(seconds))
    }

    fn error(number: u32, message: &str, cause: &str) -> Error {
        let error = Error::new(&code::NOT_SET, message).with_cause(cause);
        Error {
            code: number,
            ..error
        }
    }

    #[test]
    fn the_wait_doubles_up_to_its_maximum() {
        let policy = Policy {
            jitter: false,
            ..policy()
        };
        let mut backoff = Backoff::new(at(0));
        let mut dice = Dice::new(1);
        let mut last = 0;
        let mut waits = Vec::new();
        for now in (5..=2_000).step_by(5) {
            if backoff.check(at(now), &policy, &mut dice) {
                waits.push(now - last);
                last = now;
            }
        }
        // Looked at every five seconds: 1, 2, 4 and 8 seconds are over at the next look.
        assert_eq!(
            waits,
            [5, 5, 5, 10, 20, 35, 65, 130, 260, 300, 300, 300, 300]
        );
    }

    #[test]
    fn jitter_takes_off_up_to_half_and_follows_the_seed() {
        let resumes = |seed| {
            let mut backoff = Backoff::new(at(0));
            let mut dice = Dice::new(seed);
            (1..1_000)
                .filter(|now| backoff.check(at(*now), &policy(), &mut dice))
                .collect::<Vec<u64>>()
        };
        assert_eq!(resumes(7), resumes(7));
        assert_ne!(resumes(7), resumes(8));
        let gaps = resumes(7);
        for (step, pair) in gaps.windows(2).enumerate() {
            let wait = 2_u64.pow(u32::try_from(step).expect("few") + 1).min(300);
            let gap = pair[1] - pair[0];
            assert!(gap >= wait / 2 && gap <= wait.max(1), "{gaps:?}");
        }
    }

    #[test]
    fn a_time_without_errors_steps_the_wait_down() {
        let policy = Policy {
            jitter: false,
            ..policy()
        };
        let mut backoff = Backoff {
            step: 3,
            last_resume: at(0),
            last_paused: at(0),
        };
        backoff.paused(at(300), &policy);
        assert_eq!(backoff.step, 3);
        backoff.paused(at(601), &policy);
        assert_eq!(backoff.step, 2);
        backoff.paused(at(601 + 3_000), &policy);
        assert_eq!(backoff.step, 0);
    }

    #[test]
    fn errors_that_last_are_told_from_those_that_pass() {
        for lasting in [
            error(
                10_006,
                "execute",
                "Error 1062 (23000): Duplicate entry '1' for key 'PRIMARY'",
            ),
            error(10_006, "execute", "ERROR 8025: entry too large"),
            error(10_006, "execute", "Unsupported modify column: type"),
            error(
                10_001,
                "",
                "Cannot replicate because the source purged required binary logs.",
            ),
            error(
                11_038,
                "read: binlog checksum mismatch, data may be corrupted",
                "",
            ),
            error(11_038, "get event err EOF", ""),
            error(36_008, "", ""),
            error(34_019, "", "table exists"),
            error(20_901, "", ""),
        ] {
            assert!(
                !subtask_resumable(&[error(10_001, "", ""), lasting.clone()]),
                "{lasting}"
            );
        }
        for passing in [
            error(10_001, "driver", "bad connection"),
            error(
                10_006,
                "execute",
                "Error 1146 (42S02): Table 'a.b' doesn't exist",
            ),
            error(11_038, "get event err: timeout", ""),
            error(34_019, "", "Table 'a.b' doesn't exist"),
        ] {
            let text = passing.message.clone();
            assert!(subtask_resumable(&[passing]), "{text}");
        }
        assert!(!relay_resumable(&[error(30_005, "", "")]));
        assert!(relay_resumable(&[error(36_008, "", "")]));
    }
}
