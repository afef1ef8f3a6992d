//! The clock of a worker's process.

use std::time::Duration;

use dm_core::time::Instant;
use tokio::time;

/// How far away a moment is that never comes.
const FOREVER: Duration = Duration::from_secs(86_400);

/// Time since the process began, as its machine counts it. In a simulation it may run too fast or
/// too slow.
#[derive(Clone, Copy, Debug)]
pub struct Clock {
    started: time::Instant,
    #[cfg(madsim)]
    drift_ppm: i32,
}

impl Clock {
    /// A clock that begins now.
    #[must_use]
    pub fn start() -> Self {
        Self {
            started: time::Instant::now(),
            #[cfg(madsim)]
            drift_ppm: 0,
        }
    }

    /// One that is faster than others by so many millionths.
    #[cfg(madsim)]
    #[must_use]
    pub fn drifting(drift_ppm: i32) -> Self {
        Self {
            drift_ppm,
            ..Self::start()
        }
    }

    /// The time now.
    pub(crate) fn now(&self) -> Instant {
        let elapsed = self.started.elapsed();
        #[cfg(madsim)]
        let elapsed = elapsed * self.rate() / ONE;
        Instant(elapsed)
    }

    /// Waits until a moment; without one, very long.
    pub(crate) async fn sleep_until(&self, at: Option<Instant>) {
        let after = at.map_or_else(|| self.started.elapsed() + FOREVER, |at| at.0);
        // Rounded up, or it would be too early by a little, again and again.
        #[cfg(madsim)]
        let after = after * ONE / self.rate() + Duration::from_nanos(1);
        time::sleep_until(self.started + after).await;
    }

    #[cfg(madsim)]
    const fn rate(&self) -> u32 {
        ONE.saturating_add_signed(self.drift_ppm)
    }
}

/// The rate of a good clock, in millionths.
#[cfg(madsim)]
const ONE: u32 = 1_000_000;
