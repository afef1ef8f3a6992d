//! MySQL and MariaDB, upstream and downstream.

pub mod conn;
pub mod connect;
pub(crate) mod definition;
pub(crate) mod errors;
pub(crate) mod meta;
pub mod replica;
pub mod session;
pub mod snapshot;
pub mod source;
mod sql_mode;
pub mod target;
