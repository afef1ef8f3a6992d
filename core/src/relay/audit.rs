//! Whether the files of a relay directory, or of a server's binlog, belong together and are all
//! there.

use alloc::{borrow::ToOwned, collections::BTreeMap, format, string::String, vec::Vec};

use super::{META_FILE, Meta, Scan};
use crate::{
    binlog::{FileName, Flavor, GtidSet, Position},
    error::{Code, Error, code},
};

/// Something that is worth to be said about files.
#[derive(Clone, Debug, PartialEq)]
pub enum Finding {
    /// Nothing is wrong.
    Note(String),
    /// Something is.
    Problem(Error),
}

/// How the reading of a file ended.
#[derive(Clone, Debug, PartialEq)]
pub enum Tail {
    /// At its end, where these bytes were left: the beginning of an event, or none.
    Rest(Vec<u8>),
    /// Before its end.
    Broken(Error),
}

/// Is told about one file after the other, and remembers what the next one must go with.
#[derive(Clone, Debug, Default)]
pub struct Audit {
    /// All transactions so far, where that is known.
    known: Option<GtidSet>,
    /// The file before, in the same directory.
    before: Option<Before>,
    /// Sizes of the directory's files.
    sizes: BTreeMap<String, u64>,
}

#[derive(Clone, Debug)]
struct Before {
    name: String,
    is_empty: bool,
    next: Option<String>,
    is_stopped: bool,
    /// All transactions up to its end, if it says so.
    gtids: Option<GtidSet>,
    /// Whether it was not read to its end, so that what follows can't be judged by it.
    is_broken: bool,
}

const AGAIN: &str = "Copy the file again while the source has it, or let the relay begin anew in \
                     an empty directory.";
const MISSING: &str = "Put back what is missing if there is a copy. Otherwise the relay must begin \
                       anew in an empty directory, and tasks that have not read further can't go \
                       on from here.";

impl Audit {
    /// Another directory follows, with files that go on behind those of the one before.
    pub fn enter(&mut self) {
        self.before = None;
        self.sizes.clear();
    }

    /// The next file of the directory, which was read by `scan`.
    pub fn file(&mut self, name: &str, size: u64, scan: &Scan, tail: &Tail) -> Vec<Finding> {
        let mut found = Vec::new();
        self.check_order(name, &mut found);
        let is_broken = check_tail(name, size, scan, tail, &mut found);
        self.check_history(name, scan, &mut found);
        if let Some(start) = scan.unfinished() {
            found.push(problem(
                &code::PARSER_PARSE_RELAY_LOG,
                format!("{name}: the transaction at offset {start} has no end, but others follow"),
                AGAIN,
            ));
        }
        if scan.has_checksums() == Some(false) {
            let text = "its events have no checksums: damage inside of them can't be seen";
            found.push(Finding::Note(text.to_owned()));
        }
        self.sizes.insert(name.to_owned(), size);
        self.before = Some(Before {
            name: name.to_owned(),
            is_empty: size == 0 && !is_broken,
            is_stopped: scan.is_stopped(),
            gtids: scan.gtids().cloned(),
            next: scan.next().map(str::to_owned),
            is_broken,
        });
        found
    }

    /// Whether the file is the one that comes behind the one before.
    fn check_order(&self, name: &str, found: &mut Vec<Finding>) {
        let Some(before) = &self.before else {
            return;
        };
        let (Ok(this), Ok(last)) = (FileName::parse(name), FileName::parse(&before.name)) else {
            return;
        };
        match &before.next {
            Some(next) if next == name => {}
            Some(next) => found.push(problem(
                &code::BINLOG_FILES_NOT_FOUND,
                format!("{next} is missing: {} says that it follows", before.name),
                MISSING,
            )),
            None if this.base != last.base => found.push(Finding::Note(format!(
                "files of another name begin; whether any is missing between {} and this one can't \
                 be seen",
                before.name
            ))),
            None if Some(this.sequence) != last.sequence.checked_add(1) => found.push(problem(
                &code::BINLOG_FILES_NOT_FOUND,
                format!("what is between {} and {name} is missing", before.name),
                MISSING,
            )),
            None if before.is_empty => found.push(problem(
                &code::PARSER_PARSE_RELAY_LOG,
                format!("{} is empty, and others follow", before.name),
                AGAIN,
            )),
            None if !before.is_stopped && !before.is_broken => found.push(Finding::Note(format!(
                "{} does not end with a ROTATE: its server crashed, or its end is missing",
                before.name
            ))),
            None => {}
        }
    }

    /// Whether all transactions that were written before the file are in the files before.
    fn check_history(&mut self, name: &str, scan: &Scan, found: &mut Vec<Finding>) {
        let is_judged = self.before.as_ref().is_none_or(|before| !before.is_broken);
        if let (Some(said), Some(known), true) = (scan.before(), &self.known, is_judged) {
            let here = self
                .before
                .as_ref()
                .and_then(|before| before.gtids.as_ref());
            if !known.covers(said) {
                let missing = said.without(known);
                let text = format!("transactions {missing} are missing before {name}");
                found.push(problem(&code::NO_RELAY_POS_MATCH_GTID, text, MISSING));
            } else if let Some(here) = here.filter(|here| !knows(said, here)) {
                let text = format!(
                    "{name} does not know of transactions {}, which are in the files before it: \
                     they are not of one binlog, or not in order",
                    here.without(said)
                );
                found.push(problem(&code::NO_RELAY_POS_MATCH_GTID, text, AGAIN));
            }
        }
        match (scan.gtids(), &mut self.known) {
            (Some(gtids), Some(known)) if known.flavor() == gtids.flavor() => known.union(gtids),
            (Some(gtids), known) => *known = Some(gtids.clone()),
            // Nobody knows which transactions these are.
            (None, known) if scan.transactions() > 0 => {
                if known.take().is_some() {
                    let text = "it does not say which transactions come before it, so whether any \
                                is missing can't be seen here";
                    found.push(Finding::Note(text.to_owned()));
                }
            }
            (None, _) => {}
        }
    }

    /// The directory's files are all read. Says what is to be said of the last one, and of the meta
    /// file beside them. `is_newest`: no other directory follows.
    pub fn leave(&self, meta: Option<&Meta>, is_newest: bool) -> Vec<Finding> {
        let mut found = Vec::new();
        let last = self.before.as_ref();
        if let Some(next) = last.and_then(|last| last.next.as_ref()) {
            let follows = if is_newest {
                "has not begun yet"
            } else {
                "never began here"
            };
            found.push(Finding::Note(format!(
                "{next} is the next file, and {follows}"
            )));
        }
        if let Some(meta) = meta {
            self.check_meta(meta, &mut found);
        }
        found
    }

    fn check_meta(&self, meta: &Meta, found: &mut Vec<Finding>) {
        let Position { file, pos } = &meta.position;
        let last = self.before.as_ref();
        if !file.is_empty() {
            let next = last.and_then(|last| last.next.as_deref());
            let why = match self.sizes.get(file) {
                // A file that is empty, or not begun, has its beginning nevertheless.
                Some(size) if *pos > (*size).max(Position::FIRST) => {
                    Some(format!("and the file ends at {size}"))
                }
                Some(_) => None,
                None if next == Some(file) && *pos == Position::FIRST => None,
                None if last.is_none() && *pos == Position::FIRST => None,
                None if self.is_older(file) => None,
                None => Some("and there is no such file".to_owned()),
            };
            if let Some(why) = why {
                found.push(problem(
                    &code::RELAY_WRITER_LATEST_POS_GT_FILE_SIZE,
                    format!("{META_FILE} says that {} was read, {why}", meta.position),
                    AGAIN,
                ));
            }
        }
        let (Some(gtids), Some(known)) = (&meta.gtids, &self.known) else {
            return;
        };
        if !known.covers(gtids) && !last.is_some_and(|last| last.is_broken) {
            found.push(problem(
                &code::RELAY_WRITER_LATEST_POS_GT_FILE_SIZE,
                format!(
                    "{META_FILE} says that transactions {} were read, and they are in no file",
                    gtids.without(known)
                ),
                AGAIN,
            ));
        }
    }

    /// Whether a file comes before all that are there: it was removed when nobody needed it.
    fn is_older(&self, file: &str) -> bool {
        let is_before = |other: &String| match (FileName::parse(file), FileName::parse(other)) {
            (Ok(file), Ok(other)) => file.base == other.base && file.sequence < other.sequence,
            _ => false,
        };
        !self.sizes.is_empty() && self.sizes.keys().all(is_before)
    }
}

/// Says what is wrong with the end of what could be read. Whether there may be more behind it.
fn check_tail(name: &str, size: u64, scan: &Scan, tail: &Tail, found: &mut Vec<Finding>) -> bool {
    let rest = match tail {
        Tail::Broken(error) => {
            let mut error = error.clone().annotate(name);
            if error.workaround.is_empty() {
                error = error.with_workaround(AGAIN);
            }
            found.push(Finding::Problem(error));
            return true;
        }
        Tail::Rest(rest) => rest,
    };
    let (end, boundary) = (scan.end(), scan.boundary());
    let behind_rotate = scan.next().is_some() && !rest.is_empty();
    if behind_rotate || !scan.is_beginning(rest) {
        let why = if behind_rotate {
            "nothing may stand behind a ROTATE"
        } else {
            "they are not the beginning of an event"
        };
        found.push(problem(
            &code::PARSER_PARSE_RELAY_LOG,
            format!(
                "{name}: there are {} bytes behind offset {end}, and {why}",
                size - end
            ),
            AGAIN,
        ));
        return true;
    }
    if size == 0 {
        found.push(Finding::Note("it is empty".to_owned()));
    } else if scan.next().is_none() && size > boundary {
        found.push(Finding::Note(format!(
            "it ends within a transaction: what is behind offset {boundary} is being written, \
                 or comes again, or its server crashed there"
        )));
    }
    false
}

/// Whether a file can follow another one of its server, which ends with a set. MariaDB may forget
/// domains.
fn knows(said: &GtidSet, set: &GtidSet) -> bool {
    said.flavor() == Flavor::Mariadb || said.contains(set)
}

fn problem(code: &Code, text: String, workaround: &str) -> Finding {
    Finding::Problem(Error::new(code, text).with_workaround(workaround))
}

#[cfg(test)]
mod tests;
