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

/// Uniformly up to `span`.
fn jitter(span: Duration, dice: &mut Dice) -> Duration {
    // 32 bits are a finer step than anybody can see.
    span.mul_f64((dice.roll() >> 32) as f64 / f64::from(u32::MAX))
}

/// Whether waiting may help a subtask.
pub(super) fn subtask_resumable(errors: &[Error]) -> bool {
    errors.iter().all(|error| {
        let cause = error.cause.to_lowercase();
        let message = |text| error.message.contains(text);
        match error.code {
            // What this worker cannot do, and what it refuses in a configuration.
            20_900 | 20_901 => return false,
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
pub(super) fn relay_resumable(errors: &[Error]) -> bool {
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
