//! MySQL and MariaDB, upstream and downstream.

pub mod conn;
pub mod replica;
