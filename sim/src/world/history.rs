//! What a source committed in the course of time: what oracles compare a target with, and what
//! somebody applies who does not read its binlog here.

use std::{
    collections::BTreeMap,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use dm_core::{binlog::Gtid, sync::progress::Location};

use super::{
    rows::Row,
    source::{Image, Part},
    statement::Statement,
    tables::{Definition, Snapshot, Stored, Tables},
};

/// All transactions of a source, in order.
#[derive(Debug, Default)]
pub(super) struct History(Mutex<Inner>);

#[derive(Debug, Default)]
struct Inner {
    all: Vec<Arc<Past>>,
    /// Where the last look began; the next one most likely begins near it.
    last: Option<Base>,
}

/// A transaction.
#[derive(Debug)]
pub(super) struct Past {
    /// Where it ends, with all GTIDs up to it.
    pub(super) end: Location,
    gtid: Option<Gtid>,
    did: Did,
}

/// What it did.
#[derive(Debug)]
pub(super) enum Did {
    /// Rows changed, in this order.
    Rows(Vec<Part>),
    /// A definition changed; the tables behind it.
    Ddl(Statement, Snapshot),
}

/// What tells a row of a table from all others: its key, or all of it.
type Name = Row;

/// What there is under a name: the row itself, as often as it is there.
type State = (Option<Row>, i64);

/// All rows of a time, by table.
type Everything = BTreeMap<String, BTreeMap<Name, State>>;

static NOTHING: State = (None, 0);

impl History {
    /// Notes a transaction.
    pub(super) fn note(&self, end: Location, gtid: Option<Gtid>, did: Did) {
        let past = Arc::new(Past { end, gtid, did });
        self.inner().all.push(past);
    }

    /// What comes behind a location.
    pub(super) fn behind(&self, at: &Location, by_gtid: bool) -> Vec<Arc<Past>> {
        let inner = self.inner();
        let is_behind = |past: &&Arc<Past>| !at.reaches(&past.end, by_gtid);
        inner.all.iter().filter(is_behind).cloned().collect()
    }

    /// What differs in the target, where a DDL has left it at a location. `None` if nothing is
    /// known of that.
    pub(super) fn compare(&self, at: &Location, target: &Snapshot) -> Option<String> {
        let inner = self.inner();
        // Another server has the same transactions elsewhere.
        let is_it = |past: &Past| match (&at.gtids, &past.gtid) {
            (Some(set), Some(gtid)) => set.contains_txn(gtid),
            _ => past.end.position.compare(&at.position).is_eq(),
        };
        let ddl = inner.all.iter().rev().find_map(|past| match &past.did {
            Did::Ddl(_, tables) if is_it(past) => Some(tables),
            _ => None,
        });
        Some(ddl?.difference(target).unwrap_or_default())
    }

    /// A row of the target that is no version of the source's at or behind a location: so something
    /// before it is not applied. `None` if there is none.
    pub(super) fn too_old(&self, at: &Location, target: &Snapshot) -> Option<String> {
        let mut inner = self.inner();
        let Inner { all, last } = &mut *inner;
        let is_before = |past: &Past| match (&at.gtids, &past.gtid) {
            (Some(set), Some(gtid)) => set.contains_txn(gtid),
            _ => past.end.position.compare(&at.position).is_le(),
        };
        let mut base = last
            .take()
            .filter(|base| all[..base.count].last().is_none_or(|it| is_before(it)))
            .unwrap_or_else(Base::initial);
        while let Some(past) = all.get(base.count).filter(|past| is_before(past)) {
            base.pass(past);
        }
        // All that becomes of a name, in order.
        let mut later: BTreeMap<&str, BTreeMap<Name, Vec<State>>> = BTreeMap::new();
        // Everybody waits for everybody at a DDL, so no row is of the time behind the next one; but
        // that may have run already, though it is not yet recorded.
        let mut ddl = None;
        for past in &all[base.count..] {
            match &past.did {
                Did::Rows(parts) => {
                    for part in parts {
                        let states = later.entry(&part.table).or_default();
                        for (name, row, count) in changes(part) {
                            let first = state(&base.rows, &part.table, &name);
                            let states = states.entry(name).or_default();
                            let mut now = states.last().unwrap_or(first).clone();
                            change_state(&mut now, row, count);
                            states.push(now);
                        }
                    }
                }
                Did::Ddl(_, tables) => {
                    ddl = Some(rows_of(tables));
                    break;
                }
            }
        }
        let there = rows_of(target);
        let names = names(&there).chain(names(&base.rows));
        let names = names.chain(later.iter().flat_map(|(table, rows)| {
            let table = *table;
            rows.keys().map(move |name| (table, name))
        }));
        let contradiction = { names }.find_map(|(table, name)| {
            let (found, first) = (state(&there, table, name), state(&base.rows, table, name));
            let later = later.get(table).and_then(|rows| rows.get(name));
            let holds = found == first
                || later.is_some_and(|later| later.contains(found))
                || (ddl.as_ref()).is_some_and(|rows| found == state(rows, table, name));
            (!holds).then(|| {
                format!("{table} {name:?} is {found:?}, was {first:?} there, and later {later:?}")
            })
        });
        *last = Some(base);
        contradiction
    }

    fn inner(&self) -> MutexGuard<'_, Inner> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Past {
    /// Whether it may be applied again in safe mode: all of its rows have names.
    pub(super) fn is_repeatable(&self) -> bool {
        match &self.did {
            Did::Rows(parts) => parts.iter().all(|it| !it.definition.uniques.is_empty()),
            Did::Ddl(..) => false,
        }
    }

    /// Applies it.
    ///
    /// # Errors
    /// The tables are not what they should be.
    pub(super) fn apply(&self, tables: &mut Tables) -> Result<(), String> {
        let parts = match &self.did {
            Did::Ddl(statement, _) => {
                let ran = tables.run(statement, 0);
                return ran.map_err(|refusal| refusal.text);
            }
            Did::Rows(parts) => parts,
        };
        for part in parts {
            let Some(table) = tables.get_mut(&part.table) else {
                return Err(format!("there is no table {}", part.table));
            };
            for image in &part.images {
                change(table, image)?;
            }
        }
        Ok(())
    }
}

fn change(table: &mut Stored, image: &Image) -> Result<(), String> {
    let Stored {
        definition, rows, ..
    } = table;
    match image {
        (Some(before), Some(after)) => rows.update(definition, before, after.clone()),
        (Some(before), None) => rows.delete(definition, before),
        (None, Some(after)) => rows.insert(definition, after.clone()),
        (None, None) => Ok(()),
    }
}

/// The rows behind so many transactions.
#[derive(Debug)]
struct Base {
    count: usize,
    rows: Everything,
}

impl Base {
    fn initial() -> Self {
        Self {
            count: 0,
            rows: rows_of(&Tables::initial().snapshot()),
        }
    }

    /// Moves behind a transaction.
    fn pass(&mut self, past: &Past) {
        self.count += 1;
        let parts = match &past.did {
            Did::Rows(parts) => parts,
            Did::Ddl(_, tables) => {
                self.rows = rows_of(tables);
                return;
            }
        };
        for part in parts {
            let rows = self.rows.entry(part.table.clone()).or_default();
            for (name, row, count) in changes(part) {
                change_state(rows.entry(name).or_default(), row, count);
            }
        }
    }
}

/// What a part does to names: the row, and how often it is there afterwards in addition.
fn changes(part: &Part) -> impl Iterator<Item = (Name, &Row, i64)> {
    part.images.iter().flat_map(|(old, new)| {
        let row = |row: Option<_>, count| row.map(|row| (name(&part.definition, row), row, count));
        { row(old.as_ref(), -1).into_iter() }.chain(row(new.as_ref(), 1))
    })
}

fn change_state(state: &mut State, row: &Row, count: i64) {
    state.1 += count;
    state.0 = (state.1 > 0).then(|| row.clone());
}

fn rows_of(snapshot: &Snapshot) -> Everything {
    let tables = snapshot.tables().map(|(table, definition, list)| {
        let mut rows = BTreeMap::new();
        for row in list {
            change_state(rows.entry(name(definition, row)).or_default(), row, 1);
        }
        (table.to_owned(), rows)
    });
    tables.collect()
}

fn names(rows: &Everything) -> impl Iterator<Item = (&str, &Name)> {
    rows.iter()
        .flat_map(|(table, rows)| rows.keys().map(move |name| (&**table, name)))
}

fn state<'a>(rows: &'a Everything, table: &str, name: &Name) -> &'a State {
    let rows = rows.get(table);
    rows.and_then(|rows| rows.get(name)).unwrap_or(&NOTHING)
}

fn name(definition: &Definition, row: &Row) -> Name {
    match definition.uniques.first() {
        Some(key) => vec![row[*key]],
        None => row.clone(),
    }
}
