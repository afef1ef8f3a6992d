//! The pure half of `dm-worker`.
//!
//! Everything in here is a function of its inputs: no I/O, no clock, no threads, no randomness, no
//! iteration in hash order. `#![no_std]` is the mechanical proof. State machines are told what
//! happened and when, and hand out effects; `dm-runtime` carries these out with tokio, and a
//! simulator can carry out the same ones with a seed.
#![no_std]
#![forbid(unsafe_code)]

extern crate alloc;
#[cfg(any(test, madsim))]
extern crate std;

pub mod binlog;
pub mod control;
pub mod error;
pub mod full;
pub mod guard;
pub mod lifecycle;
pub mod relay;
pub mod status;
pub mod sync;
pub mod time;
