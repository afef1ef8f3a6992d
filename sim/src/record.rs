//! What is left of a run: its events, their hash, and what should not have happened.

use std::{borrow::Cow, collections::BTreeMap, fmt, time::Duration};

use serde::{Deserialize, Serialize};

/// The oracle of worlds that do not come to an end.
pub const STUCK: &str = "stuck";

/// What is left of a run. Two runs of one scenario leave the same.
#[derive(Clone, Debug, Default, Deserialize, Eq, PartialEq, Serialize)]
pub struct Record {
    /// All events, in order.
    pub events: Vec<Event>,
    /// Hash of all events.
    pub hash: u64,
    /// How often each oracle compared something, and each fault or order happened.
    pub counts: BTreeMap<Cow<'static, str>, u64>,
    /// What should not have happened.
    pub violations: Vec<Violation>,
}

/// Something that happened.
#[derive(Clone, Debug, Deserialize, Eq, PartialEq, Serialize)]
pub struct Event {
    /// When, since the start of the run.
    pub at: Duration,
    /// To whom.
    pub actor: String,
    /// What.
    pub what: String,
}

/// An oracle that was disappointed.
#[derive(Clone, Debug, Deserialize, Eq, PartialEq, Serialize)]
pub struct Violation {
    /// When, since the start of the run.
    pub at: Duration,
    /// Name of the oracle.
    pub oracle: Cow<'static, str>,
    /// What contradicts what.
    pub what: String,
}

impl Record {
    /// How much time passed in the world.
    #[must_use]
    pub fn simulated(&self) -> Duration {
        self.events.last().map_or(Duration::ZERO, |event| event.at)
    }

    /// Whether its world was given up. The thread of it can't be ended: it takes a core, and time
    /// from worlds that are played after it.
    #[must_use]
    pub fn is_stuck(&self) -> bool {
        self.violations.iter().any(|it| it.oracle == STUCK)
    }
}

impl fmt::Display for Event {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { at, actor, what } = self;
        write!(f, "{:>12.6}  {actor:<8} {what}", at.as_secs_f64())
    }
}

impl fmt::Display for Violation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { at, oracle, what } = self;
        write!(f, "{oracle} at {:.6} s: {what}", at.as_secs_f64())
    }
}
