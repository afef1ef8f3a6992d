//! What the control store (etcd) holds: keys, values and configurations, byte for byte.
//!
//! Masters, other workers and tools read and write the same keys, and some transactions of the
//! master compare whole values. So everything here writes exactly the bytes that the existing
//! components write, and reads as tolerantly as they do.

pub mod check;
pub mod db;
pub mod document;
pub mod duration;
mod json;
pub mod key;
pub mod record;
pub mod rules;
pub mod shard;
mod source;
pub mod subtask;
pub mod toml;
mod value;

pub use key::{Key, Kind};
pub use source::SourceConfig;
pub use subtask::SubtaskConfig;
pub use value::{
    ImportState, KeepAlive, LoadTask, RelayStage, SourceBound, SubtaskStage, TaskCliArgs,
    WorkerInfo,
};

#[cfg(test)]
mod recorded;
