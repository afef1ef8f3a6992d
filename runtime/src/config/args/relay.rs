//! `dm-worker relay`.

use std::path::PathBuf;

use dm_core::binlog::{FileName, GtidSet, Position};
use dm_core::error::Result;

use super::given::Given;
use super::{Command, Flag, ask, flag_error, help};

/// How to look into a relay log.
#[derive(Clone, Debug, PartialEq)]
pub enum Relay {
    /// List what is in a directory.
    Ls(PathBuf),
    /// Read and check a directory, or a file.
    Verify(PathBuf),
    /// Show events.
    Dump(Dump),
}

/// Which events to show, and how.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Dump {
    /// A directory, or a file.
    pub path: PathBuf,
    /// Where the first one begins; without a name of a file, if there is only one.
    pub from: Option<Position>,
    /// Where the first one begins that is not shown any more.
    pub to: Option<Position>,
    /// Only those of these transactions.
    pub gtids: Option<GtidSet>,
    /// As JSON, one object a line.
    pub json: bool,
}

pub(super) const DUMP: &[Flag] = &[
    Flag(
        "from",
        "POS",
        "show events from here on: OFFSET, or FILE:OFFSET in a directory",
    ),
    Flag("to", "POS", "show events before this position"),
    Flag("gtid", "SET", "show only events of these transactions"),
    Flag("json", "", "show each event as a JSON object"),
];

pub(super) fn parse(args: &[String]) -> Result<Command> {
    let (verb, rest) = match args.split_first() {
        Some((verb, rest)) => (verb.as_str(), rest),
        None => ("", args),
    };
    let known = match verb {
        "ls" | "verify" => &[][..],
        "dump" => DUMP,
        "purge" => return ask::purge(rest),
        "-h" | "--h" | "-help" | "--help" => return Ok(Command::Print(help())),
        _ => {
            return Err(flag_error(&format!(
                "relay needs `ls`, `verify`, `dump` or `purge` behind it, not {verb:?}"
            )));
        }
    };
    let Some((given, places)) = Given::parse_around(rest, &[known], 1)? else {
        return Ok(Command::Print(help()));
    };
    let Some(path) = places.first().map(PathBuf::from) else {
        return Err(flag_error(&format!(
            "relay {verb} needs a relay directory, or a directory of binlog files"
        )));
    };
    Ok(Command::Relay(match verb {
        "ls" => Relay::Ls(path),
        "verify" => Relay::Verify(path),
        _ => Relay::Dump(Dump {
            path,
            from: given
                .last("from")
                .map(|text| position("from", text))
                .transpose()?,
            to: given
                .last("to")
                .map(|text| position("to", text))
                .transpose()?,
            gtids: given.last("gtid").map(gtids).transpose()?,
            json: given.is_on("json")?,
        }),
    }))
}

/// An offset, or a file and an offset.
fn position(flag: &str, text: &str) -> Result<Position> {
    if let Ok(pos) = text.parse() {
        return Ok(Position::new("", pos));
    }
    let position = text.parse::<Position>();
    let position = position.ok().filter(|at| FileName::parse(&at.file).is_ok());
    position.ok_or_else(|| {
        flag_error(&format!(
            "invalid value {text:?} for flag -{flag}: 157, binlog.000004:157 and \
             \"(binlog.000004, 157)\" are possible"
        ))
    })
}

fn gtids(text: &str) -> Result<GtidSet> {
    let set = GtidSet::parse_any(text).ok();
    set.filter(|set| !set.is_empty()).ok_or_else(|| {
        flag_error(&format!(
            "invalid value {text:?} for flag -gtid: a set of transactions is needed, such as \
             7105f637-e6f4-11f1-a0c3-02fc00000001:1-5, or 0-1-5 of MariaDB"
        ))
    })
}
