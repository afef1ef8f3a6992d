//! The whole worker in a simulated world, where one seed decides everything.
//!
//! The pure models of the world's servers build anywhere. The world itself, in which the worker's
//! own driver and units run, needs the simulated runtime (`--cfg madsim`, which `cargo sim` sets).

pub mod dice;
pub mod etcd;
#[cfg(madsim)]
pub mod world;
