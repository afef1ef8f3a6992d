//! What the tests against real servers share: the servers themselves, a client that compares
//! tables.
//!
//! Everything that is started here ends with the process that started it, however that ends; see
//! [`process`].

pub mod amid;
pub mod job;
pub mod master;
pub mod process;
pub mod relay;
pub mod servers;
pub mod sql;
pub mod tables;
pub mod types;
pub mod volume;
pub mod worker;
pub mod workload;

/// Any failure of a test's surroundings; what matters is the text.
pub type Error = Box<dyn std::error::Error + Send + Sync>;

/// Result with [`Error`].
pub type Result<T, E = Error> = std::result::Result<T, E>;

/// How often a test of faults strikes: `DM_TEST_CHAOS_ROUNDS`, for long runs, or what fits into
/// every run of the tests.
#[must_use]
pub fn rounds(usual: u32) -> u32 {
    number("DM_TEST_CHAOS_ROUNDS").unwrap_or(usual)
}

/// Seed of what is random in a test: `DM_TEST_SEED`, or always the same.
#[must_use]
pub fn seed() -> u64 {
    number("DM_TEST_SEED").unwrap_or(21)
}

/// A number that the environment gives, if it does.
#[must_use]
pub fn number<T: std::str::FromStr>(name: &str) -> Option<T> {
    std::env::var(name).ok().and_then(|text| text.parse().ok())
}
