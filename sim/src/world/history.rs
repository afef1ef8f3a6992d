//! What a source committed in the course of time: what oracles compare a target with, and what
//! somebody applies who does not read its binlog here.

use std::{
    collections::{BTreeMap, BTreeSet},
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
type Name = (String, Row);

/// What there is under a name: the row itself, as often as it is there.
type State = (Option<Row>, i64);

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
            _ => past.end.position == at.position,
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
            _ => past.end.position <= at.position,
        };
        let mut base = last
            .take()
            .filter(|base| all[..base.count].last().is_none_or(|it| is_before(it)))
            .unwrap_or_else(Base::initial);
        while let Some(past) = all.get(base.count).filter(|past| is_before(past)) {
            base.pass(past);
        }
        let mut later: BTreeMap<Name, BTreeSet<State>> = BTreeMap::new();
        let mut now = base.clone();
        // Everybody waits for everybody at a DDL, so no row is of the time behind the next one; but
        // that may have run already, though it is not yet recorded.
        let mut ddl = None;
        for past in &all[base.count..] {
            match &past.did {
                Did::Rows(parts) => now.take(parts, |name, state| {
                    let known = later.entry(name.clone()).or_default();
                    known.insert(state.clone());
                }),
                Did::Ddl(_, tables) => {
                    ddl = Some(rows_of(tables));
                    break;
                }
            }
        }
        let there = rows_of(target);
        let names = there.keys().chain(base.rows.keys()).chain(later.keys());
        let contradiction = { names }.find_map(|name| {
            let of = |rows: &BTreeMap<Name, State>| rows.get(name).cloned().unwrap_or_default();
            let (state, first, later) = (of(&there), of(&base.rows), later.get(name));
            let holds = state == first
                || later.is_some_and(|later| later.contains(&state))
                || ddl.as_ref().is_some_and(|rows| state == of(rows));
            let (table, key) = name;
            (!holds).then(|| {
                format!("{table} {key:?} is {state:?}, was {first:?} there, and later {later:?}")
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
#[derive(Clone, Debug)]
struct Base {
    count: usize,
    rows: BTreeMap<Name, State>,
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
        match &past.did {
            Did::Rows(parts) => self.take(parts, |_, _| {}),
            Did::Ddl(_, tables) => self.rows = rows_of(tables),
        }
    }

    /// Takes changes, and tells what became of each name in them.
    fn take(&mut self, parts: &[Part], mut tell: impl FnMut(&Name, &State)) {
        for part in parts {
            for (old, new) in &part.images {
                for (row, count) in [(old, -1), (new, 1)] {
                    if let Some(row) = row {
                        let name = (part.table.clone(), name(&part.definition, row));
                        let state = add(&mut self.rows, name.clone(), row, count);
                        tell(&name, &state);
                    }
                }
            }
        }
    }
}

/// All rows of a time, by name.
fn rows_of(snapshot: &Snapshot) -> BTreeMap<Name, State> {
    let mut rows = BTreeMap::new();
    for (table, definition, list) in snapshot.tables() {
        for row in list {
            add(&mut rows, (table.to_owned(), name(definition, row)), row, 1);
        }
    }
    rows
}

fn add(rows: &mut BTreeMap<Name, State>, name: Name, row: &Row, count: i64) -> State {
    let state = rows.entry(name).or_default();
    state.1 += count;
    state.0 = (state.1 > 0).then(|| row.clone());
    state.clone()
}

fn name(definition: &Definition, row: &Row) -> Row {
    match definition.uniques.first() {
        Some(key) => vec![row[*key]],
        None => row.clone(),
    }
}
