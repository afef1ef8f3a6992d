//! What the names in a directory say.

use alloc::{string::String, vec::Vec};

use super::{INDEX_FILE, META_FILE, SubDir};
use crate::binlog::FileName;

/// What stands behind the name of an index or a meta file until it is complete.
pub const TEMP: &str = ".tmp";

/// What is in a directory: one of a relay, one of its sub-directories, or one where a server has
/// its binlog.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub struct Contents {
    /// Binlog files in order: by base name, then by number.
    pub files: Vec<String>,
    /// Sub-directories of a relay, in order.
    pub sub_dirs: Vec<SubDir>,
    /// Whether there is an index of sub-directories.
    pub has_index: bool,
    /// Whether there is a meta file.
    pub has_meta: bool,
    /// What was left over when an index or a meta file was written and the worker was killed.
    pub leftovers: Vec<String>,
}

impl Contents {
    /// Sorts names, of which each comes with whether it is a directory's. What is not known is left
    /// out.
    #[must_use]
    pub fn of(names: impl IntoIterator<Item = (String, bool)>) -> Self {
        let mut contents = Self::default();
        for (name, is_dir) in names {
            if is_dir {
                contents.sub_dirs.extend(name.parse::<SubDir>());
            } else if name == INDEX_FILE {
                contents.has_index = true;
            } else if name == META_FILE {
                contents.has_meta = true;
            } else if is_leftover(&name) {
                contents.leftovers.push(name);
            } else if FileName::parse(&name).is_ok_and(|name| name.sequence > 0) {
                contents.files.push(name);
            }
        }
        contents.sub_dirs.sort();
        contents.leftovers.sort();
        contents.files.sort_by(|a, b| order(a).cmp(&order(b)));
        contents
    }
}

/// Whether a file was to become an index or a meta file: the existing worker appends digits to the
/// name until it is complete, and we [`TEMP`].
fn is_leftover(name: &str) -> bool {
    let behind = [INDEX_FILE, META_FILE];
    let behind = behind.iter().find_map(|file| name.strip_prefix(file));
    behind.is_some_and(|rest| rest == TEMP || rest.bytes().all(|byte| byte.is_ascii_digit()))
}

pub(super) fn order(name: &str) -> (&str, u64, &str) {
    let parts = FileName::parse(name);
    parts.map_or(("", 0, name), |parts| (parts.base, parts.sequence, name))
}

#[cfg(test)]
mod tests {
    use alloc::{borrow::ToOwned, string::ToString};

    use super::*;

    fn contents(files: &[&str], dirs: &[&str]) -> Contents {
        let names = |names: &[&str], is_dir| -> Vec<_> {
            names
                .iter()
                .map(|name| ((*name).to_owned(), is_dir))
                .collect()
        };
        Contents::of([names(files, false), names(dirs, true)].concat())
    }

    #[test]
    fn files_are_sorted_by_number() {
        let found = contents(
            &["b.1000000", "b.999999", "a.000007", "b.index", "my.cnf.1"],
            &[],
        );
        assert_eq!(found.files, ["a.000007", "b.999999", "b.1000000"]);
        assert_eq!(found.leftovers.len(), 0);
    }

    #[test]
    fn a_relay_directory_is_taken_apart() {
        let found = contents(
            &[
                "server-uuid.index",
                "server-uuid.index123",
                "relay.meta",
                "relay.meta77",
                "relay.meta.tmp",
                "relay.meta.bak",
            ],
            &["b-1.000002", "a-1.000010", "lost+found", "b.000001"],
        );
        assert!(found.has_index && found.has_meta && found.files.is_empty());
        assert_eq!(
            found.leftovers,
            ["relay.meta.tmp", "relay.meta77", "server-uuid.index123"]
        );
        let dirs: Vec<_> = found.sub_dirs.iter().map(ToString::to_string).collect();
        assert_eq!(dirs, ["b.000001", "b-1.000002", "a-1.000010"]);
    }
}
