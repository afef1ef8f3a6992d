//! What the tests against real servers share: the servers themselves, a client that compares
//! tables.
//!
//! Everything that is started here ends with the process that started it, however that ends; see
//! [`process`].

pub mod job;
pub mod master;
pub mod process;
pub mod servers;
pub mod sql;
pub mod types;
pub mod worker;
pub mod workload;

/// Any failure of a test's surroundings; what matters is the text.
pub type Error = Box<dyn std::error::Error + Send + Sync>;

/// Result with [`Error`].
pub type Result<T, E = Error> = std::result::Result<T, E>;
