//! The museum: one scenario for each thing that is known to go wrong with workers of this kind.
//!
//! Each exhibit says what happens to a naive worker. Ours must survive it; and where a guard is
//! named, ours without it must not, or the exhibit would show nothing.

mod checkpoint;
mod copy;
mod files;
mod lifecycle;
mod ownership;
mod relay;
mod stage;

use dm_core::guard::Guard;

use crate::scenario::Scenario;

/// One thing that goes wrong.
#[derive(Clone, Debug)]
pub struct Exhibit {
    /// A short name, which says of what kind it is.
    pub name: &'static str,
    /// What it does to a naive worker.
    pub naive: &'static str,
    /// Switched off, this guard makes our worker naive, as this oracle notices.
    pub without: Option<(Guard, &'static str)>,
    /// What must have happened, besides that each step had an effect.
    pub needs: Option<&'static str>,
    /// How it comes about.
    pub scenario: Scenario,
}

/// All of them.
#[must_use]
pub fn exhibits() -> Vec<Exhibit> {
    let mut all = ownership::exhibits();
    all.extend(lifecycle::exhibits());
    all.extend(checkpoint::exhibits());
    all.extend(relay::exhibits());
    all.extend(copy::exhibits());
    all.extend(files::exhibits());
    all
}

impl Exhibit {
    /// An exhibit that needs no missing guard to be understood.
    fn new(name: &'static str, naive: &'static str, scenario: impl Into<Scenario>) -> Self {
        Self {
            name,
            naive,
            without: None,
            needs: None,
            scenario: scenario.into(),
        }
    }

    /// The guard that keeps our worker from it, and the oracle that sees it otherwise.
    const fn guarded_by(mut self, guard: Guard, oracle: &'static str) -> Self {
        self.without = Some((guard, oracle));
        self
    }

    /// What must have happened.
    const fn needs(mut self, what: &'static str) -> Self {
        self.needs = Some(what);
        self
    }
}
