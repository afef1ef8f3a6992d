//! Incremental replication, without its I/O: which events count, where they go, and as what text.

pub mod agreement;
pub mod batch;
pub mod ddl;
pub mod filter;
mod keys;
pub mod plan;
pub mod progress;
pub mod route;
pub mod schema;
pub mod sql;
pub mod table;
#[cfg(test)]
mod testing;
