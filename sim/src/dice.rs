//! The only randomness there is: splitmix64, decided by the seed.

use std::{ops::Range, time::Duration};

/// A generator. Two that are forked under different names know nothing of each other, so that more
/// use of one of them does not change what the other one brings.
#[derive(Clone, Debug)]
pub struct Dice(u64);

impl Dice {
    /// A generator for a seed.
    #[must_use]
    pub const fn new(seed: u64) -> Self {
        Self(seed)
    }

    /// Another one, for what is named so.
    #[must_use]
    pub fn fork(&self, name: &str) -> Self {
        let mut state = self.0;
        for byte in name.bytes() {
            state = Self(state ^ u64::from(byte)).roll();
        }
        Self(state)
    }

    /// The next 64 bits.
    pub const fn roll(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut bits = self.0;
        bits = (bits ^ (bits >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        bits = (bits ^ (bits >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        bits ^ (bits >> 31)
    }

    /// A number in a range, which is not empty.
    pub const fn within(&mut self, range: Range<u64>) -> u64 {
        range.start + self.roll() % (range.end - range.start)
    }

    /// Whether something happens that happens in so many of a thousand cases.
    pub const fn permille(&mut self, chance: u64) -> bool {
        self.within(0..1000) < chance
    }

    /// A time in milliseconds within a range.
    pub const fn millis(&mut self, range: Range<u64>) -> Duration {
        Duration::from_millis(self.within(range))
    }

    /// One of several, of which there is at least one.
    pub fn pick<'a, T>(&mut self, among: &'a [T]) -> &'a T {
        &among[self.within(0..among.len() as u64) as usize]
    }
}
