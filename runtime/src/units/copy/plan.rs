//! What a run of a copy has to do: what is noted of it beside what the source has now.

use std::collections::{BTreeMap, BTreeSet};

use dm_core::{
    error::{Error, Result, Scope, code},
    full::{Reading, fingerprint, gaps},
    guard::Guard,
    lifecycle::Job,
    sync::{
        ddl::Rules,
        progress::Location,
        schema::{ColumnInfo, Key, KeyPart, Quoted, Table, TableName},
    },
};
use tracing::warn;

use super::{
    ANEW,
    define::{Restart, missing},
    keeps_rows_apart, unlocked,
};
use crate::ports::{
    Target,
    copy::{Copy, CopyTable, Snapshot, SnapshotTable},
};

/// What stands before the definition of a table whose rows do not count any more.
const DOOMED: char = '-';

/// Notes that rows do not count any more, unless it is noted.
fn doom(table: &mut CopyTable) -> bool {
    let counts = !table.definition.starts_with(DOOMED);
    if counts {
        table.definition.insert(0, DOOMED);
    }
    counts
}

/// Whether the rules of a task leave a table out. An error is told by whoever uses the rule.
pub(in crate::units) fn is_excluded(rules: &Rules, name: &TableName) -> bool {
    matches!(rules.target(name), Ok(None))
}

/// Whether a table was excluded amid a copy and is not any more. Of one that is over nothing is
/// known that it could go on from.
pub(super) fn wants_more(rules: &Rules, noted: &Copy) -> bool {
    let mut tables = noted.tables.iter();
    !noted.is_over && tables.any(|(name, it)| was_excluded(it) && !is_excluded(rules, name))
}

fn was_excluded(noted: &CopyTable) -> bool {
    noted.is_gone && noted.definition.starts_with(DOOMED)
}

/// What a run has to do, from what is noted and what the source has now.
pub(super) struct Plan {
    pub(super) copy: Copy,
    /// Tables that have rows which count.
    pub(super) begun: BTreeSet<TableName>,
    /// Tables of which rows are there that do not count.
    pub(super) restarts: BTreeMap<TableName, Restart>,
    /// Those of them that were altered since.
    altered: BTreeSet<TableName>,
    /// Whether rows that are noted count.
    counts: bool,
}

impl Plan {
    /// # Errors
    /// 34018: the snapshot is older than what is there, or a table goes elsewhere now. 32004: a
    /// table without a key is read while it changes.
    pub(super) fn new<R>(
        job: &Job,
        (rules, server): (&Rules, &str),
        (is_logged, counts): (bool, bool),
        noted: Option<Copy>,
        snapshot: &Snapshot<R>,
    ) -> Result<Self> {
        let by_gtid = job.source.enable_gtid;
        let Snapshot {
            from,
            until,
            tables,
            ..
        } = snapshot;
        let mut plan = Self {
            copy: Copy {
                from: from.clone(),
                until: until.clone(),
                is_logged,
                server: Some(server.to_owned()),
                ..Copy::default()
            },
            begun: BTreeSet::new(),
            restarts: BTreeMap::new(),
            altered: BTreeSet::new(),
            counts,
        };
        let mut before = BTreeMap::new();
        if let Some(noted) = noted {
            let has_rows = noted.tables.values().any(|table| !table.pieces.is_empty());
            if counts && has_rows {
                if !from.reaches(&noted.from, by_gtid) {
                    return Err(older(from, &noted.from));
                }
                let before = noted.server.as_deref().filter(|_| !by_gtid);
                if let Some(before) = before.filter(|before| *before != server) {
                    return Err(elsewhere(before, server));
                }
                let ends = [noted.until, until.clone(), Some(from.clone())];
                let until = ends.into_iter().flatten().reduce(|high, end| {
                    if end.reaches(&high, by_gtid) {
                        end
                    } else {
                        high
                    }
                });
                plan.copy.until = until.filter(|_| Guard::CopyUntil.holds());
                if Guard::CopyFrom.holds() {
                    (plan.copy.from, plan.copy.server) = (noted.from, noted.server);
                }
            }
            before = noted.tables;
        }
        let place = (plan.copy.from != *from).then_some((from, by_gtid));
        for SnapshotTable { table, .. } in tables {
            keeps_rows_apart(table)?;
            let noted = before.remove(&table.name);
            let noted = noted.filter(|noted| !noted.is_gone || was_excluded(noted));
            let entry = plan.entry(table, noted, rules, place)?;
            if entry.pieces.is_empty() && !Reading::new(table).has_key() && until.is_some() {
                return Err(unlocked(&table.name));
            }
            plan.copy.tables.insert(table.name.clone(), entry);
        }
        // They were dropped since, or have another name now, under which they are copied anew.
        // Nothing that the binlog says of them concerns the target any more.
        for (name, mut noted) in before {
            if is_excluded(rules, &name) {
                if !noted.is_gone {
                    warn!(
                        table = %name,
                        target = %noted.target,
                        keys = noted.keys.len(),
                        "it is not copied any more, and what is there of it stays, without these \
                         keys"
                    );
                }
                // Should it be wanted again, its rows are known, and are too old by then.
                doom(&mut noted);
                let excluded = CopyTable {
                    is_gone: true,
                    ..noted
                };
                plan.copy.tables.insert(name, excluded);
                continue;
            }
            if !noted.is_gone || was_excluded(&noted) {
                plan.restarts.insert(name.clone(), Restart::gone(&noted));
            }
            let gone = CopyTable {
                place: place.map(|(from, _)| from.clone()),
                again: None,
                is_gone: true,
                definition: String::new(),
                keys: Vec::new(),
                pieces: Vec::new(),
                ..noted
            };
            plan.copy.tables.insert(name, gone);
        }
        Ok(plan)
    }

    /// What was noted, and that rows which are about to go do not count: should the source come
    /// back to the definition of their table, or the task to another mode, they would. Nothing if
    /// none go.
    pub(super) fn doomed(&self, mut noted: Copy) -> Option<Copy> {
        let goes = |name: &TableName, table: &CopyTable| {
            self.restarts.contains_key(name) && !table.pieces.is_empty()
        };
        let mut any = false;
        for (_, table) in noted.tables.iter_mut().filter(|(name, it)| goes(name, it)) {
            any |= doom(table);
        }
        any.then_some(noted)
    }

    /// Notes which tables of the target the copy makes: nobody else has rows there.
    ///
    /// # Errors
    /// Those of the target.
    pub(super) async fn note_who_makes(&mut self, target: &impl Target) -> Result<()> {
        for table in self.copy.tables.values_mut() {
            if !table.is_made && !table.is_gone && table.pieces.is_empty() {
                table.is_made = target.table(&table.target).await?.is_none();
            }
        }
        Ok(())
    }

    /// Looks at the keys of tables that were there before the copy, where rows come twice or those
    /// of the source were altered.
    ///
    /// # Errors
    /// 36027: rows would be there twice, or take one another's place.
    pub(super) async fn compare_keys(
        &self,
        target: &impl Target,
        tables: &[SnapshotTable],
    ) -> Result<()> {
        for SnapshotTable { table, .. } in tables {
            let Some(entry) = self.copy.tables.get(&table.name) else {
                continue;
            };
            let was_altered = self.altered.contains(&table.name);
            // Of one without a key all rows are of one snapshot.
            let comes_twice = self.copy.reconciled().is_some()
                && Reading::new(table).has_key()
                && !gaps(&table.name, entry.pieces.clone())?.is_empty();
            if entry.is_made || !was_altered && !comes_twice {
                continue;
            }
            let Some(there) = target.table(&entry.target).await? else {
                continue;
            };
            if comes_twice && there.row_key().is_none() {
                let what = "rows come from several snapshots, or from one of several moments, and \
                            it has no key that tells which are the same";
                let advice = "Give it the primary key of the source's table, then resume.";
                return Err(missing(&there.name, what).with_workaround(advice));
            }
            if was_altered && let Some(key) = narrower(table, &there) {
                let what = format!(
                    "the source's table was altered amid the copy, and has rows that its unique \
                     key {} does not allow",
                    Quoted(&key.name)
                );
                let advice = "Alter it as the source's table was altered, then resume.";
                return Err(missing(&there.name, &what).with_workaround(advice));
            }
        }
        Ok(())
    }

    /// Notes the character sets of tables in the target, or compares them where rows are there.
    ///
    /// # Errors
    /// 36027: they are others.
    pub(super) async fn look(
        &mut self,
        target: &impl Target,
        tables: &[SnapshotTable],
    ) -> Result<Vec<Look>> {
        let mut looks = Vec::new();
        for SnapshotTable { table, .. } in tables {
            let Some(entry) = self.copy.tables.get_mut(&table.name) else {
                continue;
            };
            let columns = table.columns.iter();
            let has_text = columns.clone().any(|column| column.charset.is_some());
            // Of one that was altered since it was complete there are other columns.
            let is_complete = gaps(&table.name, entry.pieces.clone())?.is_empty();
            if !has_text || is_complete || entry.definition != fingerprint(table) {
                continue;
            }
            let columns = columns.map(|column| column.name.to_lowercase()).collect();
            let Some(look) = Look::new(target, &entry.target, columns).await? else {
                continue;
            };
            if entry.pieces.is_empty() {
                entry.charsets = Some(look.charsets.clone());
            }
            look.is(entry.charsets.as_deref())?;
            looks.push(look);
        }
        Ok(looks)
    }

    /// What is to be noted of a table, of which so much is.
    fn entry(
        &mut self,
        table: &Table,
        noted: Option<CopyTable>,
        rules: &Rules,
        place: Option<(&Location, bool)>,
    ) -> Result<CopyTable> {
        let (name, definition) = (&table.name, fingerprint(table));
        let target = rules.target(name)?;
        let target = target.ok_or_else(|| missing(name, "no rule of the task names it"))?;
        let (mut keys, mut is_made) = (Vec::new(), false);
        if let Some(mut noted) = noted {
            let is_begun = !noted.pieces.is_empty();
            if is_begun && noted.target != target {
                return Err(rerouted(name, &noted.target, &target));
            }
            let is_complete = is_begun && gaps(name, noted.pieces.clone())?.is_empty();
            let counts = self.counts && is_begun && !noted.definition.starts_with(DOOMED);
            let is_same = noted.definition.trim_start_matches(DOOMED) == definition;
            let can_go_on = Reading::new(table).has_key() || !Guard::CopyKeyless.holds();
            if counts && (is_complete || is_same && can_go_on) {
                self.begun.insert(name.clone());
                if let Some((from, by_gtid)) = place.filter(|_| !is_complete) {
                    let is_behind = |place: &&Location| !from.reaches(place, by_gtid);
                    if let Some(place) = noted.place.as_ref().filter(is_behind) {
                        // What the binlog says in between would be missing in the rest.
                        return Err(older(from, place));
                    }
                    if noted.again.as_ref().filter(is_behind).is_none() {
                        noted.again = Some(from.clone());
                    }
                }
                return Ok(noted);
            }
            if noted.target == target {
                if is_begun && !is_same {
                    self.altered.insert(name.clone());
                }
                // What is said of a table before the place of its rows is skipped: it must be as
                // the source has it there.
                let restart = Restart {
                    rows: noted.rows,
                    drops: noted.is_made,
                };
                self.restarts.insert(name.clone(), restart);
                // If it is still there, it is without them.
                (keys, is_made) = (noted.keys, noted.is_made);
            }
        }
        Ok(CopyTable {
            target,
            definition,
            place: place.map(|(from, _)| from.clone()),
            again: None,
            charsets: None,
            is_gone: false,
            is_made,
            keys,
            pieces: Vec::new(),
            rows: 0,
            bytes: 0,
        })
    }
}

/// A unique key of the target that no unique key of the source implies, of columns that the source
/// has.
fn narrower<'a>(source: &Table, target: &'a Table) -> Option<&'a Key> {
    let columns = |table: &Table, key: &Key| -> Option<BTreeSet<String>> {
        let column = |part: &KeyPart| {
            let column = table.columns.get(part.column?)?;
            part.prefix.is_none().then(|| column.name.to_lowercase())
        };
        key.parts.iter().map(column).collect()
    };
    let is_implied = |key: &&Key| {
        let wanted = columns(target, key);
        source.unique_keys().any(|other| {
            let is_same = other.name.eq_ignore_ascii_case(&key.name);
            match (columns(source, other), &wanted) {
                (Some(columns), Some(wanted)) => columns.is_subset(wanted),
                // Nobody can compare parts of columns, nor expressions.
                _ => is_same && other.parts.len() == key.parts.len(),
            }
        })
    };
    let is_known = |key: &&Key| {
        let known = |name: &String| {
            let mut names = source.columns.iter().map(|it| it.name.to_lowercase());
            names.any(|other| other == *name)
        };
        columns(target, key).is_none_or(|columns| columns.iter().all(known))
    };
    let mut keys = target.unique_keys().filter(is_known);
    keys.find(|key| !is_implied(key))
}

fn older(now: &Location, noted: &Location) -> Error {
    let text = format!(
        "inconsistent checkpoints: the source is at [{now}], which is before [{noted}], where rows \
         of its copy are from"
    );
    Error::new(&code::LOAD_TASK_CHECKPOINT_NOT_MATCH, text)
        .with_scope(Scope::Upstream)
        .with_workaround("Wait until the source has caught up with the one that it stands in for.")
}

/// Positions mean nothing in the binlog of another server.
fn elsewhere(before: &str, now: &str) -> Error {
    let text = format!(
        "inconsistent checkpoints: the copy began at server {before}, and the source is {now} by \
         now"
    );
    let error = Error::new(&code::LOAD_TASK_CHECKPOINT_NOT_MATCH, text);
    error.with_scope(Scope::Upstream).with_workaround(format!(
        "Let the source be the former server again; with `enable-gtid: true` from the start, any \
         of them would do. {ANEW}"
    ))
}

fn rerouted(name: &TableName, before: &TableName, now: &TableName) -> Error {
    let text = format!(
        "inconsistent checkpoints between loader and target database: rows of {name} are in \
         {before}, and the routes say {now} by now"
    );
    Error::new(&code::LOAD_TASK_CHECKPOINT_NOT_MATCH, text).with_workaround(format!(
        "Put the former routes back until the copy is over. {ANEW}"
    ))
}

/// The character sets of a table of the target: in others, lines that are there may be other texts.
pub(super) struct Look {
    target: TableName,
    /// The columns that have rows of the source, in lower case.
    columns: BTreeSet<String>,
    charsets: String,
}

impl Look {
    /// Nothing if there is no such table.
    async fn new(
        target: &impl Target,
        name: &TableName,
        columns: BTreeSet<String>,
    ) -> Result<Option<Self>> {
        let Some(there) = target.table(name).await? else {
            return Ok(None);
        };
        let column = |info: &ColumnInfo| ColumnInfo {
            name: info.name.to_lowercase(),
            charset: info.charset.clone(),
            ..ColumnInfo::default()
        };
        let mut found: Vec<_> = there.columns.iter().map(column).collect();
        found.retain(|column| columns.contains(&column.name));
        found.sort_by(|a, b| a.name.cmp(&b.name));
        Ok(Some(Self {
            target: name.clone(),
            columns,
            charsets: fingerprint(&Table {
                columns: found,
                keys: Vec::new(),
                ..there
            }),
        }))
    }

    /// Whether they still are what they were when its rows came.
    pub(super) async fn check(&self, target: &impl Target) -> Result<()> {
        let now = Self::new(target, &self.target, self.columns.clone()).await?;
        self.is(now.as_ref().map(|now| &*now.charsets))
    }

    fn is(&self, other: Option<&str>) -> Result<()> {
        if other.is_none_or(|other| other == self.charsets) {
            return Ok(());
        }
        let what = "the character set of a column was changed amid the copy, and what was written \
                    by then may be other texts now";
        let advice = format!("Change it back, then resume. {ANEW}");
        Err(missing(&self.target, what).with_workaround(advice))
    }
}

#[cfg(test)]
mod tests;
