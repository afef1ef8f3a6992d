//! A simulated database to replicate into: transactions, row locks on progress, lost answers.
//!
//! It stands for the server together with the guards that the worker's SQL has in it (see the
//! production target): a packet commits only if its progress row still has its fence and its step.

mod cases;
mod database;
mod ddl;
mod foreign;
mod job;
mod port;
mod session;
mod weather;

pub use cases::wrong;
pub(super) use database::Database;
pub(super) use port::Target;
pub(super) use weather::Weather;
