//! Types of other rooms that are not there yet; replaced by theirs.
#![allow(missing_docs)]

use alloc::{string::String, vec::Vec};

#[derive(Clone, Debug, PartialEq)]
pub struct Error {
    pub code: u32,
    pub message: String,
    pub cause: String,
}

#[derive(Clone, Copy, Debug, Eq, Ord, PartialEq, PartialOrd)]
pub enum UnitKind {
    Check = 1,
    Dump = 2,
    Load = 3,
    Sync = 4,
    Relay = 100,
}

#[derive(Clone, Copy, Debug, Eq, Ord, PartialEq, PartialOrd)]
pub enum Stage {
    Invalid = 0,
    New = 1,
    Running = 2,
    Paused = 3,
    Stopped = 4,
    Finished = 5,
    Pausing = 6,
    Resuming = 7,
    Stopping = 8,
}

#[derive(Clone, Debug, Default, PartialEq)]
pub struct ProcessResult {
    pub is_canceled: bool,
    pub errors: Vec<Error>,
}

#[derive(Clone, Debug, PartialEq)]
pub struct SourceConfig;
#[derive(Clone, Debug, PartialEq)]
pub struct SubtaskConfig;
#[derive(Clone, Debug, PartialEq)]
pub struct TaskCliArgs;

#[derive(Clone, Copy, Debug, Default, Eq, Ord, PartialEq, PartialOrd)]
pub struct Fence(pub i64);
