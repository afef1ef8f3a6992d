//! What a machine is made with.

use alloc::string::String;
use core::time::Duration;

/// The settings of a machine; they do not change while it lives.
#[derive(Clone, Debug, PartialEq)]
pub struct Config {
    /// Name of the worker.
    pub worker: String,
    /// When the process joined, as it stands in the announcement (RFC 3339 with nanoseconds).
    pub join_time: String,
    /// Which sources are this machine's.
    pub assignment: Assignment,
    /// Time to live of the lease (`keepalive-ttl`).
    pub ttl: Duration,
    /// The same while relay is on by key (`relay-keepalive-ttl`).
    pub relay_ttl: Duration,
    /// How long before the end of the lease everything is stopped; a fifth of the time to live
    /// where that is less.
    pub margin: Duration,
    /// How often everything is read again though no watch reported a change.
    pub reread: Duration,
    /// Root of the relay logs, where the process has one (`relay-dir`).
    pub relay_dir: Option<String>,
    /// Seed of the jitter.
    pub seed: u64,
}

/// Which bound and relay keys concern a machine.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Assignment {
    /// Those of its own name: at most one source.
    Own,
    /// All that there are: the store belongs to this process.
    All,
}

impl Config {
    /// Limits of a machine of this name, as the existing worker has them.
    #[must_use]
    pub fn new(worker: impl Into<String>, join_time: impl Into<String>, seed: u64) -> Self {
        Self {
            worker: worker.into(),
            join_time: join_time.into(),
            assignment: Assignment::Own,
            ttl: Duration::from_secs(60),
            relay_ttl: Duration::from_secs(1800),
            margin: Duration::from_secs(10),
            reread: Duration::from_secs(30),
            relay_dir: None,
            seed,
        }
    }

    /// How long before the end of a lease of `ttl` everything is stopped.
    #[must_use]
    pub fn margin(&self, ttl: Duration) -> Duration {
        self.margin.min(ttl / 5)
    }
}
