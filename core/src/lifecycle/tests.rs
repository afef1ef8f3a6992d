//! Tests of the machine as a whole.

mod chance;
mod changes;
mod files;
mod golden;
mod operator;
mod ownership;
mod promises;
mod store;
mod work;
mod world;

use crate::error::{Error, code};

/// An error with a number of its own.
fn error(number: u32, text: &str) -> Error {
    Error {
        code: number,
        ..Error::new(&code::NOT_SET, text)
    }
}
