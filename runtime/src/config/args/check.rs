//! `dm-worker check`.

use std::path::PathBuf;

use dm_core::control::record::Secret;
use dm_core::error::Result;

use super::given::Given;
use super::{Command, Flag, flag_error, help, secret_key};

/// What to check before it is started.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Check {
    /// Source files.
    pub sources: Vec<PathBuf>,
    /// Task files.
    pub tasks: Vec<PathBuf>,
    /// Decrypts passwords in the files.
    pub secret_key: Option<Secret<Vec<u8>>>,
    /// As JSON.
    pub json: bool,
}

pub(super) const CHECK: &[Flag] = &[
    Flag("source", "FILE", "source file; may be repeated"),
    Flag("task", "FILE", "task file; may be repeated"),
    Flag("json", "", "show what is found as JSON"),
    Flag(
        "secret-key-path",
        "FILE",
        "key for encrypted passwords: 64 hexadecimal digits",
    ),
];

pub(super) fn parse(args: &[String]) -> Result<Command> {
    let Some(given) = Given::parse(args, &[CHECK])? else {
        return Ok(Command::Print(help()));
    };
    let paths = |flag| given.all(flag).map(PathBuf::from).collect::<Vec<_>>();
    let (sources, tasks) = (paths("source"), paths("task"));
    if sources.is_empty() || tasks.is_empty() {
        return Err(flag_error("check needs -source FILE and -task FILE"));
    }
    Ok(Command::Check(Check {
        sources,
        tasks,
        secret_key: secret_key(&given)?,
        json: given.is_on("json")?,
    }))
}
