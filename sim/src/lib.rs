//! The whole worker in a simulated world, where one seed decides everything.
//!
//! The pure models of the world's servers build anywhere, and so do the cases that hold servers to
//! what is known of them, and all that is known of a run before and after it. The world itself, in
//! which the worker's own driver and units run, needs the simulated runtime (`--cfg madsim`, which
//! `cargo sim` sets).

pub mod codec;
pub mod dice;
pub mod disk;
pub mod etcd;
#[cfg(madsim)]
pub mod museum;
pub mod page;
pub mod record;
pub mod regression;
pub mod scenario;
pub mod shrink;
pub mod target;
pub mod values;
#[cfg(madsim)]
pub mod world;
