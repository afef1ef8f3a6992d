//! What a load has to do, from what is noted in the target and what the directory has.

use std::{
    collections::{BTreeMap, BTreeSet},
    fmt,
};

use dm_core::{
    error::{Error, Result, code},
    full::Metadata,
    guard::Guard,
    sync::{ddl::Rules, schema::TableName},
};

use super::super::dir::{Contents, DumpDir, Packed};
use crate::{
    ports::{
        Target,
        copy::{Copy, CopyTable},
        disk::Disk,
    },
    units::copy::{ANEW, define::Restart},
};

/// What a load has to do.
pub(super) struct Plan {
    /// What is to be noted.
    pub(super) copy: Copy,
    /// Tables that have rows of these files already.
    pub(super) begun: BTreeSet<TableName>,
    /// Tables that were made for another dump, and are not what they were.
    pub(super) restarts: BTreeMap<TableName, Restart>,
}

/// What a plan is made from.
pub(super) struct Planning<'a, T, D> {
    pub(super) dir: &'a DumpDir<D>,
    pub(super) target: &'a T,
    pub(super) rules: &'a Rules,
    pub(super) metadata: &'a Metadata,
    /// The time zone of timestamps in files that do not name one.
    pub(super) time_zone: &'a str,
}

impl<T: Target, D: Disk> Planning<'_, T, D> {
    /// # Errors
    /// 34018: rows of other files are there. 34019: a file can't be read, or there is none.
    pub(super) async fn plan(&self, noted: Option<Copy>, contents: &Contents) -> Result<Plan> {
        let mut plan = Plan {
            copy: Copy {
                from: self.metadata.from.clone().unwrap_or_default(),
                until: self.metadata.until.clone(),
                ..Copy::default()
            },
            begun: BTreeSet::new(),
            restarts: BTreeMap::new(),
        };
        let mut before = noted.map(|noted| noted.tables).unwrap_or_default();
        let with_rows = before.iter().filter(|(_, it)| !it.pieces.is_empty());
        // Those that have none may be made anew; not before it is clear that all others can go on.
        for (name, noted) in with_rows {
            let files = contents.tables.get(name);
            let files = files.map(|files| fingerprint(self.metadata, &files.data));
            let is_same = files.as_deref() == Some(Known::read(&noted.definition).files);
            if !is_same || self.rules.target(name)?.as_ref() != Some(&noted.target) {
                return Err(others(name));
            }
        }
        for (name, files) in &contents.tables {
            let Some(target) = self.rules.target(name)? else {
                continue;
            };
            let noted = before.remove(name);
            let table = match noted {
                Some(noted) if !noted.pieces.is_empty() => {
                    plan.begun.insert(name.clone());
                    noted
                }
                noted => {
                    let noted = noted.filter(|noted| noted.target == target);
                    let made = self.made(files.definition.as_ref(), &target, noted.as_ref());
                    let (made, is_anew) = made.await?;
                    if is_anew && Guard::LoadAnew.holds() {
                        plan.restarts.insert(name.clone(), ANOTHER);
                    }
                    let known = Known {
                        files: &fingerprint(self.metadata, &files.data),
                        made: &made,
                        time_zone: self.time_zone,
                    };
                    CopyTable {
                        target,
                        definition: known.to_string(),
                        place: None,
                        again: None,
                        charsets: None,
                        is_gone: false,
                        is_made: made != WAS_THERE,
                        keys: Vec::new(),
                        pieces: Vec::new(),
                        rows: 0,
                        bytes: 0,
                    }
                }
            };
            plan.copy.tables.insert(name.clone(), table);
        }
        // The binlog behind this dump says nothing of what it does not have.
        for (name, noted) in before {
            let is_ours = Known::read(&noted.definition).made != WAS_THERE;
            if is_ours && self.rules.target(&name)?.as_ref() == Some(&noted.target) {
                plan.restarts.insert(name, ANOTHER);
            }
        }
        if plan.copy.tables.is_empty() {
            return Err(nothing());
        }
        Ok(plan)
    }

    /// How the table of the target was or will be made, and whether it is another one by now.
    async fn made(
        &self,
        definition: Option<&Packed>,
        target: &TableName,
        noted: Option<&CopyTable>,
    ) -> Result<(String, bool)> {
        let made = match noted {
            Some(noted) => Some(Known::read(&noted.definition).made),
            None => self.target.table(target).await?.map(|_| WAS_THERE),
        };
        let Some(file) = definition.filter(|_| made != Some(WAS_THERE)) else {
            return Ok((WAS_THERE.to_owned(), false));
        };
        let (sql, zone) = self.dir.definition(file).await?;
        let mut crc = flate2::Crc::new();
        crc.update(sql.as_bytes());
        crc.update(zone.as_deref().unwrap_or(self.time_zone).as_bytes());
        let new = format!("made as {:08x}", crc.sum());
        let is_anew = made.is_some_and(|made| made != new);
        Ok((new, is_anew))
    }
}

/// Rows that are in a table nobody knows of.
const ANOTHER: Restart = Restart {
    rows: 0,
    drops: true,
};

/// Of a table that was there before the load.
const WAS_THERE: &str = "was there";

/// What is noted of a table in the place of a definition.
pub(super) struct Known<'a> {
    /// Which files it is loaded from.
    files: &'a str,
    /// What it was made with.
    made: &'a str,
    /// The time zone that their timestamps are read in unless they say it: what it is may change
    /// until all are there.
    pub(super) time_zone: &'a str,
}

impl<'a> Known<'a> {
    pub(super) fn read(noted: &'a str) -> Self {
        let (rest, time_zone) = noted.rsplit_once(", ").unwrap_or((noted, "+00:00"));
        let (files, made) = rest.rsplit_once(", ").unwrap_or((rest, WAS_THERE));
        Self {
            files,
            made,
            time_zone,
        }
    }
}

impl fmt::Display for Known<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self {
            files,
            made,
            time_zone,
        } = self;
        write!(f, "{files}, {made}, {time_zone}")
    }
}

/// What tells the files of a table from others: their dump, names and sizes.
fn fingerprint(metadata: &Metadata, files: &[Packed]) -> String {
    let mut crc = flate2::Crc::new();
    crc.update(metadata.to_string().as_bytes());
    for file in files {
        crc.update(format!("{} {}\n", file.name, file.bytes).as_bytes());
    }
    format!("{} files {:08x}", files.len(), crc.sum())
}

pub(super) fn others(table: &TableName) -> Error {
    let text = format!(
        "inconsistent checkpoints between loader and target database: some rows of {table} are \
         loaded, and its files are not those any more that they came from"
    );
    Error::new(&code::LOAD_TASK_CHECKPOINT_NOT_MATCH, text).with_workaround(format!(
        "Put the former files and routes back until all is loaded. {ANEW}"
    ))
}

fn nothing() -> Error {
    let text = "the directory has no table that the task names";
    Error::new(&code::LOAD_LIGHTNING_RUNTIME, text)
        .with_workaround("Look for a slip in `loaders: dir` and in `block-allow-list`.")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_noted_of_a_table_is_read_again() {
        let known = Known {
            files: "3 files 0a1b2c3d",
            made: "made as 01234567",
            time_zone: "+02:00",
        };
        let noted = known.to_string();
        let Known {
            files,
            made,
            time_zone,
        } = Known::read(&noted);
        assert_eq!(
            (files, made, time_zone),
            (known.files, known.made, known.time_zone)
        );
    }
}
