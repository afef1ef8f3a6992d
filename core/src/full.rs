//! Full migration: what a source has before its binlog goes on.
//!
//! A dump is a directory of SQL files in the layout of Dumpling, which mydumper's resembles: one
//! file per schema and per table with the statement that makes it, any number with rows, and
//! `metadata`, which is written last and says where in the binlog the rows were read.

mod consistency;
mod definition;
mod files;
mod fingerprint;
mod gaps;
mod loading;
mod metadata;
mod preamble;
mod reading;
mod rounding;
mod statement;

pub use self::{
    consistency::Consistency,
    definition::{PlainKey, columns, plain_keys},
    files::{Compression, DumpFile, METADATA_FILE},
    fingerprint::fingerprint,
    gaps::{Copied, Gap, gaps},
    loading::{Loading, Tuples},
    metadata::{Header, Metadata},
    preamble::Preamble,
    reading::{KeyValue, Lines, Piece, Reading, Value},
    rounding::{renumbers, rounds},
    statement::{Insert, Splitter, is_blank, rest_of},
};
