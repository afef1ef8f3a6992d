//! Incremental replication, without its I/O: which events count, where they go, and as what text.

pub mod ddl;
pub mod filter;
pub mod route;
pub mod schema;
