//! What the tables of a source were in the course of time: what oracles compare a target with.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use dm_core::{
    binlog::{Gtid, Position},
    sync::progress::Location,
};

use super::{
    rows::Row,
    tables::{Definition, Snapshot},
};

/// A row of a table before and after.
pub(super) type Change = (String, Option<Row>, Option<Row>);

/// All transactions of a source.
#[derive(Debug, Default)]
pub(super) struct History(Mutex<Inner>);

#[derive(Debug, Default)]
struct Inner {
    all: Vec<Past>,
    /// Where the last look began; the next one most likely begins near it.
    last: Option<Base>,
}

/// The rows behind so many transactions.
#[derive(Clone, Debug)]
struct Base {
    count: usize,
    /// As of the last DDL before.
    definitions: Arc<Snapshot>,
    rows: BTreeMap<Name, State>,
}

#[derive(Debug)]
struct Past {
    end: Position,
    gtid: Option<Gtid>,
    did: Did,
}

#[derive(Debug)]
enum Did {
    /// Rows changed, in this order.
    Rows(Vec<Change>),
    /// A definition changed; the tables behind it.
    Ddl(Arc<Snapshot>),
}

/// What tells a row of a table from all others: its key, or all of it.
type Name = (String, Row);

/// What there is under a name: the row itself, as often as it is there.
type State = (Option<Row>, i64);

impl History {
    /// Notes a transaction with rows.
    pub(super) fn committed(&self, end: Position, gtid: Option<Gtid>, changes: Vec<Change>) {
        let did = Did::Rows(changes);
        self.inner().all.push(Past { end, gtid, did });
    }

    /// Notes what the tables are behind a statement.
    pub(super) fn changed(&self, end: Position, gtid: Option<Gtid>, tables: Snapshot) {
        let did = Did::Ddl(Arc::new(tables));
        self.inner().all.push(Past { end, gtid, did });
    }

    /// What differs in the target, where a DDL has left it at a location. `None` if nothing is
    /// known of that.
    pub(super) fn compare(&self, at: &Location, target: &Snapshot) -> Option<String> {
        let inner = self.inner();
        // Another server has the same transactions elsewhere.
        let is_it = |past: &&Past| match (&at.gtids, &past.gtid) {
            (Some(set), Some(gtid)) => set.contains_txn(gtid),
            _ => past.end == at.position,
        };
        let ddls = inner.all.iter().filter_map(|past| match &past.did {
            Did::Ddl(tables) => Some((past, tables)),
            Did::Rows(_) => None,
        });
        let (_, tables) = { ddls }.rfind(|(past, _)| is_it(past))?;
        Some(tables.difference(target).unwrap_or_default())
    }

    /// A row of the target that is no version of the source's at or behind a location: so something
    /// before it is not applied. `None` if there is none.
    pub(super) fn too_old(&self, at: &Location, target: &Snapshot) -> Option<String> {
        let mut inner = self.inner();
        let Inner { all, last } = &mut *inner;
        let is_before = |past: &Past| match (&at.gtids, &past.gtid) {
            (Some(set), Some(gtid)) => set.contains_txn(gtid),
            _ => past.end <= at.position,
        };
        let mut base = last
            .take()
            .filter(|base| all[..base.count].last().is_none_or(is_before))
            .unwrap_or_else(Base::initial);
        while let Some(past) = all.get(base.count).filter(|past| is_before(past)) {
            base.pass(past);
        }
        let mut allowed: BTreeMap<Name, BTreeSet<State>> = BTreeMap::new();
        let mut now = base.clone();
        // Everybody waits for everybody at a DDL, so no row is of the time behind the next one; but
        // that may have run already, though it is not yet recorded.
        let mut ddl = None;
        for past in &all[base.count..] {
            match &past.did {
                Did::Rows(changes) => {
                    for change in changes {
                        now.take(change, |name, state| {
                            let known = allowed.entry(name.clone()).or_default();
                            known.insert(state.clone());
                        });
                    }
                }
                Did::Ddl(tables) => {
                    ddl = Some(rows_of(tables));
                    break;
                }
            }
        }
        let there = rows_of(target);
        let names = there.keys().chain(base.rows.keys()).chain(allowed.keys());
        let contradiction = { names }.find_map(|name| {
            let of = |rows: &BTreeMap<Name, State>| rows.get(name).cloned().unwrap_or_default();
            let (state, first, later) = (of(&there), of(&base.rows), allowed.get(name));
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

impl Base {
    fn initial() -> Self {
        let definitions = Arc::new(Snapshot::initial());
        Self {
            count: 0,
            rows: rows_of(&definitions),
            definitions,
        }
    }

    /// Moves behind a transaction.
    fn pass(&mut self, past: &Past) {
        self.count += 1;
        match &past.did {
            Did::Rows(changes) => changes.iter().for_each(|it| self.take(it, |_, _| {})),
            Did::Ddl(tables) => {
                self.rows = rows_of(tables);
                self.definitions = Arc::clone(tables);
            }
        }
    }

    /// Takes a change, and tells what became of each name in it.
    fn take(&mut self, (table, old, new): &Change, mut tell: impl FnMut(&Name, &State)) {
        let Some(definition) = self.definitions.definition(table) else {
            return;
        };
        for (row, count) in [(old, -1), (new, 1)] {
            if let Some(row) = row {
                let name = (table.clone(), name(definition, row));
                let state = add(&mut self.rows, name.clone(), row, count);
                tell(&name, &state);
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
