//! What is in a directory: sub-directories in their order, and files in theirs.

use std::{
    fs,
    io::{self, Read},
    path::{Path, PathBuf},
};

use dm_core::{
    binlog::FileName,
    error::{Error, Result, code},
    relay::{Contents, INDEX_FILE, Index, MAGIC, META_FILE, Meta, SubDir},
};

use super::Stop;
use crate::disk;

const ADVICE: &str = "Give the directory of a relay log, one with binlog files, or such a file.";

/// A relay directory, a plain directory of binlog files, or one such file.
pub(super) struct Tree {
    /// Of a relay directory.
    pub(super) index: Option<Result<Index>>,
    /// Directories with files in order. Those that the index does not have come last.
    pub(super) places: Vec<Place>,
    pub(super) leftovers: Vec<String>,
}

/// What the index says of a directory.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) enum State {
    /// It is there, and should be.
    There,
    /// It is in the index only.
    Missing,
    /// It is not in the index.
    Unlisted,
}

/// A directory with files.
pub(super) struct Place {
    pub(super) path: PathBuf,
    pub(super) state: State,
    /// The sub-directory that it is; none in a plain directory.
    pub(super) dir: Option<SubDir>,
    pub(super) contents: Contents,
    pub(super) meta: Option<Result<Meta>>,
}

/// A relay log further down: all of a worker that runs alone are in one directory.
fn relay_log_below(path: &Path) -> Option<PathBuf> {
    let inside = |dir: &Path| -> Vec<PathBuf> {
        let entries = fs::read_dir(dir).into_iter().flatten().flatten();
        let mut paths: Vec<_> = entries.map(|entry| entry.path()).collect();
        paths.sort();
        paths
    };
    let once = inside(path);
    let twice = once.iter().flat_map(|dir| inside(dir));
    let mut below = once.iter().cloned().chain(twice);
    below.find(|dir| dir.join(INDEX_FILE).is_file())
}

impl Tree {
    /// Looks at names only.
    pub(super) fn open(path: &Path) -> Result<Self, Stop> {
        let found = fs::metadata(path);
        let found = found.map_err(|error| Stop::Refused(cannot_read(path, &error)))?;
        if !found.is_dir() {
            let place = one_file(path);
            // One that has the name of a binlog file may be a damaged one.
            let is_named = place
                .contents
                .files
                .iter()
                .any(|name| FileName::parse(name).is_ok());
            if !is_named && !begins_as_binlog(path) {
                let text = format!("{} is no binlog file", path.display());
                let error = Error::new(&code::BINLOG_FILES_NOT_FOUND, text);
                return Err(Stop::Refused(error.with_workaround(ADVICE)));
            }
            return Ok(Self::plain(place));
        }
        let contents = list(path).map_err(Stop::Refused)?;
        if !contents.has_index && (contents.sub_dirs.is_empty() || !contents.files.is_empty()) {
            if contents.files.is_empty() {
                let text = format!("there is no binlog file in {}", path.display());
                let error = Error::new(&code::BINLOG_FILES_NOT_FOUND, text);
                let advice = relay_log_below(path).map_or_else(
                    || ADVICE.to_owned(),
                    |found| format!("Give the directory of a source: {}.", found.display()),
                );
                return Err(Stop::Refused(error.with_workaround(advice)));
            }
            let place = Place::with(path.to_owned(), None, contents);
            return Ok(Self::plain(place));
        }
        Self::relay(path, contents).map_err(Stop::Failed)
    }

    const fn empty() -> Self {
        Self {
            index: None,
            places: Vec::new(),
            leftovers: Vec::new(),
        }
    }

    fn plain(place: Place) -> Self {
        Self {
            places: vec![place],
            ..Self::empty()
        }
    }

    fn relay(path: &Path, contents: Contents) -> Result<Self> {
        let index = if contents.has_index {
            read(&path.join(INDEX_FILE)).and_then(|bytes| Index::parse(&bytes))
        } else {
            Err(Error::new(
                &code::RELAY_PARSE_UUID_INDEX,
                format!("{} is missing in {}", INDEX_FILE, path.display()),
            ))
        };
        let mut places = Vec::new();
        if let Ok(index) = &index {
            for dir in index.iter() {
                places.push(if contents.sub_dirs.contains(dir) {
                    Place::open(path, dir, State::There)?
                } else {
                    Place {
                        path: path.join(dir.to_string()),
                        state: State::Missing,
                        dir: Some(dir.clone()),
                        contents: Contents::default(),
                        meta: None,
                    }
                });
            }
        }
        for dir in &contents.sub_dirs {
            match &index {
                // Their numbers tell the order as well.
                Err(_) => places.push(Place::open(path, dir, State::There)?),
                Ok(index) if index.iter().all(|listed| listed != dir) => {
                    places.push(Place::open(path, dir, State::Unlisted)?);
                }
                Ok(_) => {}
            }
        }
        Ok(Self {
            index: Some(index),
            places,
            leftovers: contents.leftovers,
        })
    }
}

impl Place {
    fn open(root: &Path, dir: &SubDir, state: State) -> Result<Self> {
        let path = root.join(dir.to_string());
        let contents = list(&path)?;
        let mut place = Self::with(path, Some(dir.clone()), contents);
        place.state = state;
        Ok(place)
    }

    fn with(path: PathBuf, dir: Option<SubDir>, contents: Contents) -> Self {
        let meta = path.join(META_FILE);
        let meta = (contents.has_meta).then(|| read(&meta).and_then(|bytes| Meta::parse(&bytes)));
        Self {
            path,
            state: State::There,
            dir,
            contents,
            meta,
        }
    }
}

fn one_file(path: &Path) -> Place {
    let name = path.file_name().unwrap_or_default().to_string_lossy();
    Place {
        path: path.parent().unwrap_or_else(|| Path::new("")).to_owned(),
        state: State::There,
        dir: None,
        contents: Contents {
            files: vec![name.into_owned()],
            ..Contents::default()
        },
        meta: None,
    }
}

/// Whether a file begins as a binlog file, encrypted or not, or can't be read.
fn begins_as_binlog(path: &Path) -> bool {
    let mut bytes = [0; MAGIC.len()];
    let read = fs::File::open(path).and_then(|mut file| file.read_exact(&mut bytes));
    match read {
        Ok(()) => bytes[1..] == MAGIC[1..],
        Err(error) => error.kind() != io::ErrorKind::UnexpectedEof,
    }
}

fn list(path: &Path) -> Result<Contents> {
    let names = disk::names(path).map_err(|error| cannot_read(path, &error))?;
    Ok(Contents::of(names))
}

/// An index or a meta file: nothing is long there.
fn read(path: &Path) -> Result<Vec<u8>> {
    fs::read(path).map_err(|error| cannot_read(path, &error))
}

fn cannot_read(path: &Path, error: &io::Error) -> Error {
    let message = format!("cannot read {}", path.display());
    Error::new(&code::READ_DIR, message)
        .with_cause(error.to_string())
        .with_workaround("Give a directory, or a file, that is there and may be read.")
}
