//! Names of effects and of tenures.

use core::fmt;

/// One tenure of the lease: grows by one at each loss. Local to the process, never stored.
#[derive(Clone, Copy, Debug, Default, Eq, Ord, PartialEq, PartialOrd)]
pub struct Era(pub u64);

/// Names one effect. Minted by the machine, carried back by every event and completion of it.
#[derive(Clone, Copy, Debug, Eq, Ord, PartialEq, PartialOrd)]
pub struct Ticket {
    /// The tenure in which the effect was asked for.
    pub era: Era,
    /// Number of the effect, never reused by a machine.
    pub op: u64,
}

impl fmt::Display for Era {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.0)
    }
}

impl fmt::Display for Ticket {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}.{}", self.era, self.op)
    }
}
