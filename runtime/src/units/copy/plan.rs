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
use crate::{
    ports::{
        Target,
        copy::{Copy, CopyTable, Snapshot, SnapshotTable},
    },
    units::follows,
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
    /// Whether the binlog follows.
    goes_on: bool,
}

impl Plan {
    /// # Errors
    /// 34018: the snapshot is older than what is there, or a table goes elsewhere now. 32004: a
    /// table without a key is read while it changes.
    pub(super) fn new<R>(
        job: &Job,
        (rules, server): (&Rules, &str),
        noted: Option<Copy>,
        snapshot: &Snapshot<R>,
    ) -> Result<Self> {
        let by_gtid = job.source.enable_gtid;
        // Without a sync unit nothing would reconcile rows of two snapshots.
        let goes_on = follows(&job.task);
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
                server: Some(server.to_owned()),
                ..Copy::default()
            },
            begun: BTreeSet::new(),
            restarts: BTreeMap::new(),
            altered: BTreeSet::new(),
            goes_on,
        };
        let mut before = BTreeMap::new();
        if let Some(noted) = noted {
            let has_rows = noted.tables.values().any(|table| !table.pieces.is_empty());
            if goes_on && has_rows {
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
            let comes_twice = self.goes_on
                && self.copy.until.is_some()
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
            let counts = is_begun && !noted.definition.starts_with(DOOMED);
            let is_same = noted.definition.trim_start_matches(DOOMED) == definition;
            let can_go_on = Reading::new(table).has_key() || !Guard::CopyKeyless.holds();
            if self.goes_on && counts && (is_complete || is_same && can_go_on) {
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
mod tests {
    use std::sync::Arc;

    use dm_core::{
        binlog::Position,
        control::{SourceConfig, SubtaskConfig, rules::BlockAllowList},
        full::{Copied, KeyValue, Piece},
    };

    use super::*;

    fn table(columns: &[&str]) -> Table {
        let column = |name: &&str| ColumnInfo {
            name: (*name).to_owned(),
            type_name: "int".to_owned(),
            column_type: "int".to_owned(),
            ..ColumnInfo::default()
        };
        Table {
            name: TableName::new("d", "t"),
            columns: columns.iter().map(column).collect(),
            keys: vec![Key {
                name: "PRIMARY".to_owned(),
                primary: true,
                unique: true,
                unordered: false,
                parts: vec![KeyPart {
                    column: Some(0),
                    prefix: None,
                }],
            }],
        }
    }

    fn plan(noted: &Copy, source: &Table) -> Plan {
        plan_of("all", noted, source)
    }

    fn plan_of(mode: &str, noted: &Copy, source: &Table) -> Plan {
        plan_with(mode, &["d"], noted, source)
    }

    fn task(mode: &str, schemas: &[&str]) -> SubtaskConfig {
        let wanted = schemas.iter().map(|&schema| schema.to_owned()).collect();
        SubtaskConfig {
            mode: mode.into(),
            block_allow_list: Some(BlockAllowList {
                do_dbs: Some(wanted),
                ..BlockAllowList::default()
            }),
            ..SubtaskConfig::default()
        }
    }

    fn plan_with(mode: &str, schemas: &[&str], noted: &Copy, source: &Table) -> Plan {
        try_plan(mode, schemas, noted, source).unwrap()
    }

    fn try_plan(mode: &str, schemas: &[&str], noted: &Copy, source: &Table) -> Result<Plan> {
        plan_at(&Location::default(), mode, schemas, noted, source)
    }

    fn plan_at(
        from: &Location,
        mode: &str,
        schemas: &[&str],
        noted: &Copy,
        source: &Table,
    ) -> Result<Plan> {
        let task = task(mode, schemas);
        let rules = Rules::new(&task).unwrap();
        let job = Job {
            source: Arc::new(SourceConfig::standard()),
            task: Arc::new(task),
            arguments: None,
            use_relay: false,
        };
        let snapshot = Snapshot::<()> {
            from: from.clone(),
            until: None,
            tables: vec![SnapshotTable {
                table: source.clone(),
                rows: 1,
                bytes: 1,
            }],
            views: Vec::new(),
            readers: Vec::new(),
        };
        Plan::new(&job, (&rules, "server"), Some(noted.clone()), &snapshot)
    }

    #[test]
    fn by_position_another_server_is_refused() {
        let source = table(&["id"]);
        let mut noted = plan(&Copy::default(), &source).copy;
        assert_eq!(noted.server.as_deref(), Some("server"));
        let entry = noted.tables.get_mut(&source.name).unwrap();
        entry.pieces = vec![Copied {
            number: 1,
            piece: Piece::default(),
        }];
        assert_eq!(plan(&noted, &source).copy.server, noted.server);
        // Of an older version it is not known.
        noted.server = None;
        plan(&noted, &source);
        noted.server = Some("another".to_owned());
        let error = try_plan("all", &["d"], &noted, &source)
            .map(drop)
            .unwrap_err();
        assert!(error.is(&code::LOAD_TASK_CHECKPOINT_NOT_MATCH), "{error}");
        assert!(error.message.contains("at server another"), "{error}");
    }

    /// Rows of two snapshots, and not of one before those that are there.
    #[test]
    fn the_latest_snapshot_of_a_table_is_noted() {
        let source = table(&["id"]);
        let at = |pos| Location {
            position: Position::new("b.000001", pos),
            gtids: None,
        };
        let plan = |pos, noted: &Copy| plan_at(&at(pos), "all", &["d"], noted, &source);
        let again = |plan: &Plan| plan.copy.tables[&source.name].again.clone();
        let first = plan(100, &Copy::default()).unwrap();
        assert_eq!(again(&first), None);
        let mut noted = first.copy;
        let upto = Some(KeyValue(vec!["7".to_owned()]));
        let part = Piece { after: None, upto };
        let pieces = |piece| vec![Copied { number: 1, piece }];
        let entry = noted.tables.get_mut(&source.name).unwrap();
        entry.pieces = pieces(part);
        // The same snapshot, as far as anybody can tell.
        assert_eq!(again(&plan(100, &noted).unwrap()), None);
        let second = plan(200, &noted).unwrap();
        assert_eq!(again(&second), Some(at(200)));
        assert_eq!(second.copy.tables[&source.name].place, None);
        let third = plan(300, &second.copy).unwrap();
        assert_eq!(again(&third), Some(at(300)));
        // Another server may be behind, but not behind the place from which the binlog counts.
        assert_eq!(again(&plan(250, &third.copy).unwrap()), Some(at(300)));
        let mut placed = third.copy.clone();
        placed.tables.get_mut(&source.name).unwrap().place = Some(at(260));
        assert!(plan(260, &placed).is_ok());
        let error = plan(250, &placed).map(drop).unwrap_err();
        assert!(error.is(&code::LOAD_TASK_CHECKPOINT_NOT_MATCH), "{error}");
        // Nothing is read of one that is complete.
        let mut whole = placed;
        whole.tables.get_mut(&source.name).unwrap().pieces = pieces(Piece::default());
        assert_eq!(again(&plan(250, &whole).unwrap()), Some(at(300)));
    }

    #[test]
    fn keys_that_the_source_does_not_have_are_found() {
        let key = |name: &str, columns: &[usize]| Key {
            name: name.to_owned(),
            primary: name == "PRIMARY",
            unique: true,
            unordered: false,
            parts: (columns.iter().copied())
                .map(|index| KeyPart {
                    column: Some(index),
                    prefix: None,
                })
                .collect(),
        };
        let with = |columns: &[&str], keys: Vec<Key>| Table {
            keys,
            ..table(columns)
        };
        let source = with(&["a", "b"], vec![key("PRIMARY", &[0])]);
        let found = |keys: Vec<Key>| {
            // In another order, as another one has made it.
            let target = with(&["B", "A"], keys);
            narrower(&source, &target).map(|key| key.name.clone())
        };
        assert_eq!(found(vec![]), None);
        assert_eq!(found(vec![key("PRIMARY", &[1])]), None);
        assert_eq!(found(vec![key("PRIMARY", &[0, 1])]), None);
        let other = vec![key("PRIMARY", &[1]), key("u", &[0])];
        assert_eq!(found(other).as_deref(), Some("u"));
        // The target's own.
        let target = with(&["a", "own"], vec![key("PRIMARY", &[1])]);
        assert_eq!(narrower(&source, &target), None);
    }

    /// Its table is gone by then, and the rows that are noted with it.
    #[test]
    fn a_definition_that_comes_back_does_not_bring_rows_back() {
        let (before, altered) = (table(&["id"]), table(&["id", "more"]));
        let name = &before.name;
        let mut noted = Copy::default();
        noted.tables = plan(&noted, &before).copy.tables;
        let part = Piece {
            after: None,
            upto: Some(KeyValue(vec!["7".to_owned()])),
        };
        let entry = noted.tables.get_mut(name).unwrap();
        entry.pieces = vec![Copied {
            number: 1,
            piece: part,
        }];
        assert!(plan(&noted, &before).begun.contains(name));
        // A table that somebody else has made stays his.
        assert!(!plan(&noted, &altered).restarts[name].drops);
        noted.tables.get_mut(name).unwrap().is_made = true;

        let anew = plan(&noted, &altered);
        assert!(anew.restarts[name].drops && anew.begun.is_empty());
        let doomed = anew.doomed(noted.clone()).unwrap();
        let back = plan(&doomed, &before);
        assert!(back.restarts.contains_key(name) && back.begun.is_empty());
        assert_eq!(back.doomed(doomed.clone()), None);
        assert!(plan(&doomed, &altered).restarts[name].drops);
        // Nor if all of them had been there.
        let mut whole = doomed;
        whole.tables.get_mut(name).unwrap().pieces[0].piece.upto = None;
        assert!(plan(&whole, &before).restarts.contains_key(name));
        assert_eq!(plan(&noted, &before).doomed(noted), None);
    }

    /// Its rows are in the way of nothing, and known should it be wanted again.
    #[test]
    fn a_table_may_be_excluded_and_wanted_again() {
        let source = table(&["id"]);
        let other = TableName::new("other", "t");
        let mut noted = Copy::default();
        noted.tables = plan(&noted, &source).copy.tables;
        let mut entry = noted.tables[&source.name].clone();
        entry.pieces = vec![Copied {
            number: 1,
            piece: Piece::default(),
        }];
        entry.target = other.clone();
        entry.rows = 7;
        noted.tables.insert(other.clone(), entry);
        let without = plan(&noted, &source);
        assert!(!without.restarts.contains_key(&other));
        let kept = &without.copy.tables[&other];
        assert!(kept.is_gone && kept.pieces.len() == 1);
        assert!(without.copy.is_complete().is_ok());
        let rules = |schemas: &[&str]| Rules::new(&task("all", schemas)).unwrap();
        let over = Copy {
            is_over: true,
            ..without.copy.clone()
        };
        assert!(!wants_more(&rules(&["d"]), &without.copy));
        assert!(wants_more(&rules(&["d", "other"]), &without.copy));
        assert!(!wants_more(&rules(&["d", "other"]), &over));
        // It does not come back by itself.
        let again = plan(&without.copy, &source);
        assert_eq!(again.copy.tables[&other], *kept);
        let wanted = Table {
            name: other.clone(),
            ..source
        };
        let with = plan_with("all", &["d", "other"], &without.copy, &wanted);
        assert_eq!(with.restarts[&other].rows, 7);
        assert!(!with.restarts[&other].drops && with.begun.is_empty());
    }

    /// The mode without a binlog empties the table, is ended amid that, and becomes the other one.
    #[test]
    fn another_mode_does_not_bring_rows_back() {
        let source = table(&["id"]);
        let mut noted = Copy::default();
        noted.tables = plan(&noted, &source).copy.tables;
        let entry = noted.tables.get_mut(&source.name).unwrap();
        entry.pieces = vec![Copied {
            number: 1,
            piece: Piece::default(),
        }];
        let full = plan_of("full", &noted, &source);
        assert!(!full.restarts[&source.name].drops);
        let doomed = full.doomed(noted.clone()).unwrap();
        assert!(plan(&noted, &source).begun.contains(&source.name));
        let all = plan(&doomed, &source);
        assert!(all.begun.is_empty() && !all.restarts[&source.name].drops);
    }
}
