//! The half of `dm-worker` that touches the world: tokio, etcd, MySQL, files.

#[cfg(not(madsim))]
pub mod app;
#[cfg(not(madsim))]
pub mod ask;
#[cfg(not(madsim))]
pub mod check;
pub mod clock;
pub mod config;
#[cfg(not(madsim))]
pub mod disk;
pub mod driver;
#[cfg(not(madsim))]
pub mod etcd;
#[cfg(not(madsim))]
pub mod http;
mod journal;
pub mod memory;
pub mod metrics;
#[cfg(not(madsim))]
pub mod modes;
#[cfg(not(madsim))]
pub mod mysql;
pub mod panics;
pub mod ports;
#[cfg(not(madsim))]
pub mod relay_log;
#[cfg(not(madsim))]
pub mod report;
#[cfg(not(madsim))]
pub mod rpc;
#[cfg(not(madsim))]
pub mod screen;
pub mod standalone;
#[cfg(not(madsim))]
pub mod status;
pub mod units;
