//! What the worker reads that others wrote, as functions of any bytes.
//!
//! A target may refuse its input. It must not panic, not go on for long, and not take memory that
//! nothing in the input justifies; and what it accepts must be consistent. libFuzzer calls the
//! targets from `fuzz_targets/`, and a plain test calls them with all of `corpus/`.
//!
//! A fuzzer that mutates can't guess checksums, lengths and compressed bytes. Where these stand in
//! front of what matters, a target makes them right before it reads anything.

mod binlog;
mod checks;
mod dump;
mod events;
mod gtid_sets;
mod input;
mod memory;
mod payload;
mod relay;
mod rows;
pub mod seeds;
mod sql;
/// The runtime's own source: a build of the whole runtime would take minutes.
#[path = "../../runtime/src/units/payload.rs"]
mod transaction_payload;
mod values;

pub use self::{
    binlog::{format_description, frame, stream},
    dump::dump,
    gtid_sets::gtid_sets,
    payload::payload,
    relay::{index, meta, recovery},
    rows::rows,
    values::values,
};

/// A function of any bytes.
pub type Target = fn(&[u8]);

/// All targets by their names, which are those of their corpora as well.
pub const TARGETS: [(&str, Target); 11] = [
    ("frame", frame),
    ("format_description", format_description),
    ("rows", rows),
    ("values", values),
    ("gtid_sets", gtid_sets),
    ("dump", dump),
    ("index", index),
    ("meta", meta),
    ("recovery", recovery),
    ("payload", payload),
    ("stream", stream),
];
