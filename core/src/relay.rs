//! What the files of a relay directory are called, and what those say that are not binlogs.
//!
//! ```text
//! <relay-dir>/
//!   server-uuid.index             names of the sub-directories, the newest one last
//!   <server-uuid>.000001/         one for each server that the source was on, in order
//!     relay.meta                  where the next file begins
//!     mysql-bin.000003            as the source sent it
//!   <server-uuid>.000002/
//! ```
//!
//! The layout is that of the existing worker, which goes on with a directory of ours, and we with
//! one of its. The binlog files are the truth: index and meta say nothing about them that can't be
//! found in them.

mod audit;
mod contents;
mod filler;
mod index;
mod meta;
mod purge;
mod reader;
#[cfg(test)]
mod samples;
mod scan;
mod sub_dir;
mod writer;

pub use self::{
    audit::{Audit, Finding, Tail},
    contents::{Contents, TEMP},
    index::{INDEX_FILE, Index},
    meta::{META_FILE, Meta},
    purge::{Holdings, Need, Plan, Removal, Shelf, Stored, Strategy, no_active_log},
    reader::{Unread, file_behind},
    scan::{MAGIC, Scan},
    sub_dir::SubDir,
    writer::{Step, Writer},
};
