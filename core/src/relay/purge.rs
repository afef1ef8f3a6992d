//! What may be removed of a relay directory, and in which order.
//!
//! What somebody still needs stays, with all that is behind it. Of the rest the oldest goes first:
//! by sub-directory, as the index has them, then by base name and number of the file. So whatever
//! moment the removal ends at, what is left has no hole.

use alloc::{
    format,
    string::{String, ToString},
    vec::Vec,
};
use core::fmt;

use super::{INDEX_FILE, Index, SubDir, contents::order};
use crate::{
    binlog::FileName,
    error::{Error, Result, code},
};

/// What is removed, as far as nobody needs it.
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum Strategy {
    /// Everything.
    Inactive,
    /// What was last written then or earlier, in seconds since 1970.
    Time(u64),
    /// What is before a file.
    File {
        /// Its name, as the source has it.
        name: String,
        /// Name of its sub-directory; the newest one if none is given.
        sub_dir: Option<String>,
    },
    /// The oldest files that have so many bytes together.
    Space(u64),
}

/// In the words of the existing worker, for whoever finds another purge at work.
impl fmt::Display for Strategy {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Inactive => "inactive strategy",
            Self::Time(_) => "time strategy",
            Self::File { .. } => "filename strategy",
            Self::Space(_) => "space strategy",
        })
    }
}

/// A sub-directory that is there.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Shelf {
    /// Which one.
    pub sub_dir: SubDir,
    /// Its binlog files, in any order.
    pub files: Vec<Stored>,
}

/// A binlog file.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Stored {
    /// Its name, as the source has it.
    pub name: String,
    /// Its size.
    pub bytes: u64,
    /// When it was last written, in seconds since 1970.
    pub modified_s: u64,
}

/// What somebody needs: a file, and all behind it.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Need {
    /// Who that is, for people.
    pub who: String,
    /// Name of the file as checkpoints have it. Without the number of a sub-directory it is in the
    /// newest one. None as long as it is not known.
    pub file: Option<String>,
}

/// What there is, and what of it is needed.
#[derive(Clone, Copy, Debug)]
pub struct Holdings<'a> {
    /// All sub-directories.
    pub index: &'a Index,
    /// Those that are there, in any order.
    pub shelves: &'a [Shelf],
    /// The file that the relay writes, and where.
    pub written: (&'a SubDir, &'a str),
    /// What the subtasks need.
    pub needs: &'a [Need],
}

/// What is to be removed, and what is not.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Plan {
    /// In the order in which it is to happen.
    pub removals: Vec<Removal>,
    /// Who needs the first of all files that must stay, and which one that is, for people.
    pub limit: String,
}

/// One thing that goes.
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum Removal {
    /// A binlog file.
    File {
        /// Where it is.
        sub_dir: SubDir,
        /// Its name.
        name: String,
        /// Its size.
        bytes: u64,
    },
    /// A sub-directory whose binlog files are gone, with whatever else is in it.
    Dir(SubDir),
}

/// A file from which on everything stays.
struct Mark<'a> {
    who: &'a str,
    /// Which sub-directory it is in, counted from the oldest one of the index.
    place: usize,
    sub_dir: &'a SubDir,
    file: FileName<'a>,
    /// Whether it is where a request ends.
    is_asked: bool,
}

impl Holdings<'_> {
    /// Decides what goes.
    ///
    /// # Errors
    /// 30037: it is not known yet what somebody needs. 30038: nor what the relay writes. 30039: the
    /// file of the strategy can't be one. 28002, 30040: there is no such sub-directory. 11025: the
    /// first file that must stay is not there, so it is unclear what is before it.
    pub fn plan(&self, strategy: &Strategy) -> Result<Plan> {
        let marks = self.marks(strategy)?;
        let first = marks
            .iter()
            .min_by_key(|mark| (mark.place, mark.file.sequence));
        let Some(first) = first else {
            // What the relay writes is always among them.
            return Err(no_active_log());
        };
        // Nobody would hear of a slip in what is asked for, if something before it must stay.
        let asked = marks.iter().filter(|mark| mark.is_asked);
        let missing = asked.chain([first]).find(|mark| !self.has(mark));
        if let Some(mark) = missing {
            return Err(Error::new(
                &code::BASE_FILE_NOT_FOUND,
                format!(
                    "base file {} in directory {} not found, and {} is at it",
                    mark.file.plain(),
                    mark.sub_dir,
                    mark.who
                ),
            )
            .with_workaround(
                "A request must name a file that is there: `dm-worker relay ls` shows them. If it \
                 is what a task needs, that task can't go on from the relay log, and stops the \
                 purge until it is stopped.",
            ));
        }
        let mut freed = 0;
        let candidates = self.candidates(first, &marks).into_iter();
        let chosen = candidates.take_while(|(_, file)| match (strategy, file) {
            (Strategy::Time(until), Some(file)) => file.modified_s <= *until,
            (Strategy::Space(bytes), Some(file)) => {
                let is_wanted = freed < *bytes;
                freed = freed.saturating_add(file.bytes);
                is_wanted
            }
            _ => true,
        });
        Ok(Plan {
            removals: chosen
                .map(|(sub_dir, file)| match file {
                    Some(file) => Removal::File {
                        sub_dir: sub_dir.clone(),
                        name: file.name.clone(),
                        bytes: file.bytes,
                    },
                    None => Removal::Dir(sub_dir.clone()),
                })
                .collect(),
            limit: format!(
                "{} is at {} in {}",
                first.who,
                first.file.plain(),
                first.sub_dir
            ),
        })
    }

    /// Where everybody is, and where a strategy ends.
    fn marks<'a>(&'a self, strategy: &'a Strategy) -> Result<Vec<Mark<'a>>> {
        let (sub_dir, file) = self.written;
        let Ok(file) = FileName::parse(file) else {
            return Err(no_active_log());
        };
        let mut marks = Vec::from([self.mark("the relay", sub_dir, file)?]);
        for Need { who, file } in self.needs {
            let file = file.as_deref().map(FileName::parse);
            let Some(Ok(file)) = file else {
                return Err(Error::new(
                    &code::RELAY_PURGE_IS_FORBIDDEN,
                    format!(
                        "relay log purge is forbidden temporarily, because it is not known yet \
                         which file {who} needs"
                    ),
                ));
            };
            let sub_dir = match file.relay {
                Some(number) => self.index.get(number),
                None => self.index.current(),
            };
            let Some(sub_dir) = sub_dir else {
                let number = file.relay.unwrap_or_default();
                return Err(not_listed(&format!("number {number} of {who}")));
            };
            marks.push(self.mark(who, sub_dir, file)?);
        }
        if let Strategy::File { name, sub_dir } = strategy {
            let file = FileName::parse(name)
                .ok()
                .filter(|file| file.relay.is_none());
            let Some(file) = file else {
                return Err(Error::new(
                    &code::RELAY_PURGE_REQUEST_NOT_VALID,
                    format!("request `{name}` not valid: it is not the name of a binlog file"),
                ));
            };
            let sub_dir = match sub_dir {
                Some(name) => {
                    let wanted: SubDir = name.parse()?;
                    let listed = self.index.iter().find(|dir| **dir == wanted);
                    listed.ok_or_else(|| not_listed(name))?
                }
                None => self.index.current().ok_or_else(no_active_log)?,
            };
            marks.push(Mark {
                is_asked: true,
                ..self.mark("the request", sub_dir, file)?
            });
        }
        Ok(marks)
    }

    fn mark<'a>(&self, who: &'a str, sub_dir: &'a SubDir, file: FileName<'a>) -> Result<Mark<'a>> {
        let place = self.index.iter().position(|dir| dir == sub_dir);
        Ok(Mark {
            who,
            place: place.ok_or_else(|| not_listed(&sub_dir.to_string()))?,
            sub_dir,
            file,
            is_asked: false,
        })
    }

    /// Whether it is there. What the relay is about to write need not be there yet.
    fn has(&self, mark: &Mark<'_>) -> bool {
        if *mark.sub_dir == *self.written.0 && mark.file.plain() == self.written.1 {
            return true;
        }
        let shelf = self
            .shelves
            .iter()
            .find(|shelf| shelf.sub_dir == *mark.sub_dir);
        let mut files = shelf.iter().flat_map(|shelf| &shelf.files);
        files.any(|file| file.name == mark.file.plain())
    }

    /// All that is before the first mark, in order, each sub-directory behind its files.
    fn candidates(&self, first: &Mark<'_>, marks: &[Mark<'_>]) -> Vec<(&SubDir, Option<&Stored>)> {
        // Files of one base name are in order; whether another one's are older nobody says.
        let is_before = |file: &&Stored| {
            let mut here = marks.iter().filter(|mark| mark.place == first.place);
            FileName::parse(&file.name).is_ok_and(|file| {
                here.all(|mark| file.base == mark.file.base && file.sequence < mark.file.sequence)
            })
        };
        let mut found = Vec::new();
        for (place, sub_dir) in self.index.iter().enumerate().take(first.place + 1) {
            let Some(shelf) = self.shelves.iter().find(|shelf| shelf.sub_dir == *sub_dir) else {
                continue;
            };
            let is_older = place < first.place;
            let mut files: Vec<_> = shelf
                .files
                .iter()
                .filter(|it| is_older || is_before(it))
                .collect();
            files.sort_by(|a, b| order(&a.name).cmp(&order(&b.name)));
            found.extend(files.into_iter().map(|file| (sub_dir, Some(file))));
            found.extend(is_older.then_some((sub_dir, None)));
        }
        found
    }
}

/// The error of a relay that has not said yet which file it writes.
#[must_use]
pub fn no_active_log() -> Error {
    Error::new(
        &code::RELAY_NO_ACTIVE_RELAY_LOG,
        "no active relay log file found: it is not known which one the relay writes",
    )
    .with_workaround("Resume the relay, and wait until it runs.")
}

fn not_listed(sub_dir: &str) -> Error {
    Error::new(
        &code::RELAY_TRIM_UUID_NOT_FOUND,
        format!("UUID {sub_dir} in UUIDs of {INDEX_FILE} not found"),
    )
    .with_workaround(
        "A request must name a sub-directory that is listed there. If it is a task's, its relay \
         log is gone: start that task anew, or stop it.",
    )
}

#[cfg(test)]
mod tests;
