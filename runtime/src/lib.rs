//! The half of `dm-worker` that touches the world: tokio, etcd, MySQL, files.

#[cfg(not(madsim))]
pub mod etcd;
#[cfg(not(madsim))]
pub mod http;
#[cfg(not(madsim))]
pub mod mysql;
pub mod ports;
#[cfg(not(madsim))]
pub mod rpc;
