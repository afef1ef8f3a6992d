//! Configuration: the command line, the worker's file, source files and task files.
//!
//! Nothing is accepted and then ignored: a key that nobody knows, a value of the wrong type, and
//! values that contradict each other are coded errors which name the file, the line, the key and
//! what is allowed.

pub mod args;
mod files;
mod password;
mod source;
pub mod support;
pub mod task;
mod worker;
mod yaml;

use std::fs;
use std::path::Path;

use dm_core::control::check;
use dm_core::control::document::{Node, Problem, Reader, list};
use dm_core::error::{Error, Result, code};

pub use files::Files;
pub use password::decrypt;
pub use source::source;
pub use worker::WorkerConfig;

/// Reads a configuration file.
///
/// # Errors
/// 20018 if it cannot be read or is not UTF-8.
pub fn read_file(path: &Path) -> Result<String> {
    fs::read_to_string(path).map_err(|error| {
        let message = format!("read config file {}", path.display());
        Error::new(&code::CONFIG_READ_CFG_FROM_FILE, message)
            .with_cause(error.to_string())
            .with_workaround("Give the path of a file in UTF-8 that is there and may be read.")
    })
}

/// Takes a YAML file apart.
fn parse_yaml(file: &str, text: &str) -> Result<Node> {
    yaml::parse(text).map_err(|problem| yaml_error(file, &[problem]))
}

/// Fails if a YAML file contains what is unknown or wrong.
fn finish_yaml(file: &str, reader: &Reader) -> Result<()> {
    let all: Vec<Problem> = reader
        .unknown
        .iter()
        .chain(&reader.problems)
        .cloned()
        .collect();
    if all.is_empty() {
        Ok(())
    } else {
        Err(yaml_error(file, &all))
    }
}

fn yaml_error(file: &str, problems: &[Problem]) -> Error {
    Error::new(
        &code::CONFIG_YAML_TRANSFORM,
        format!("{file}: {}", list(problems)),
    )
}

/// A value that cannot be, or that contradicts another one.
fn invalid(file: &str, key: &str, why: &str) -> Error {
    check::invalid(key, why).annotate(file)
}

/// Notes the keys of a table that other formats have and this one has not.
fn refuse_keys(node: &Node, refused: &[&str], allowed: &[&str], reader: &mut Reader) {
    for key in refused {
        if let Some(entry) = node.entry(key) {
            reader.unknown(key, entry.line, allowed);
        }
    }
}

/// Fails if a deprecated key is used for anything but saying what holds anyway.
fn refuse_deprecated(file: &str, keys: &[(&str, bool)]) -> Result<()> {
    match keys.iter().find(|(_, used)| *used) {
        Some((key, _)) => Err(invalid(file, key, "has no effect any more; remove it")),
        None => Ok(()),
    }
}
