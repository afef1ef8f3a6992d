//! Time as the machines know it: what the driver says it is.

use core::{
    fmt,
    ops::{Add, Sub},
    time::Duration,
};

/// A moment, as the monotonic time since the driver started.
///
/// The core never reads a clock; every `handle_*` is told the time. Constructible, so that tests
/// and recorded traces can name any moment.
#[derive(Clone, Copy, Debug, Default, Eq, Ord, PartialEq, PartialOrd)]
pub struct Instant(pub Duration);

impl Instant {
    /// The start of the driver.
    pub const START: Self = Self(Duration::ZERO);

    /// How long ago `earlier` was; zero if it lies ahead.
    #[must_use]
    pub const fn since(self, earlier: Self) -> Duration {
        self.0.saturating_sub(earlier.0)
    }
}

impl Add<Duration> for Instant {
    type Output = Self;

    fn add(self, delay: Duration) -> Self {
        Self(self.0.saturating_add(delay))
    }
}

impl Sub<Duration> for Instant {
    type Output = Self;

    fn sub(self, delay: Duration) -> Self {
        Self(self.0.saturating_sub(delay))
    }
}

impl fmt::Display for Instant {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}.{:06}", self.0.as_secs(), self.0.subsec_micros())
    }
}
