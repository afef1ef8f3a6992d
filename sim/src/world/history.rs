//! What the tables of a source were in the course of time: what oracles compare a target with.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::{Mutex, MutexGuard, PoisonError},
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
pub(super) struct History(Mutex<Vec<Past>>);

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
    Ddl(Snapshot),
}

/// What tells a row of a table from all others: its key, or all of it.
type Name = (String, Row);

/// What there is under a name: the row itself, as often as it is there.
type State = (Option<Row>, i64);

impl History {
    /// Notes a transaction with rows.
    pub(super) fn committed(&self, end: Position, gtid: Option<Gtid>, changes: Vec<Change>) {
        let did = Did::Rows(changes);
        self.all().push(Past { end, gtid, did });
    }

    /// Notes what the tables are behind a statement.
    pub(super) fn changed(&self, end: Position, gtid: Option<Gtid>, tables: Snapshot) {
        let did = Did::Ddl(tables);
        self.all().push(Past { end, gtid, did });
    }

    /// What differs in the target, where a DDL has left it at a location. `None` if nothing is
    /// known of that.
    pub(super) fn compare(&self, at: &Location, target: &Snapshot) -> Option<String> {
        let all = self.all();
        // Another server has the same transactions elsewhere.
        let is_it = |past: &&Past| match (&at.gtids, &past.gtid) {
            (Some(set), Some(gtid)) => set.contains_txn(gtid),
            _ => past.end == at.position,
        };
        let ddls = all.iter().filter_map(|past| match &past.did {
            Did::Ddl(tables) => Some((past, tables)),
            Did::Rows(_) => None,
        });
        let (_, tables) = { ddls }.rfind(|(past, _)| is_it(past))?;
        Some(tables.difference(target).unwrap_or_default())
    }

    /// A row of the target that is no version of the source's at or behind a location: so something
    /// before it is not applied. `None` if there is none.
    pub(super) fn too_old(&self, at: &Location, target: &Snapshot) -> Option<String> {
        let all = self.all();
        let is_before = |past: &Past| match (&at.gtids, &past.gtid) {
            (Some(set), Some(gtid)) => set.contains_txn(gtid),
            _ => past.end <= at.position,
        };
        let before = all.iter().take_while(|past| is_before(past)).count();
        let (past, future) = all.split_at(before);
        // Everybody waits for everybody at a DDL, so rows are of the time between two of them.
        let ddl = past.iter().rposition(|it| matches!(it.did, Did::Ddl(_)));
        let first = match ddl.map(|place| &past[place].did) {
            Some(Did::Ddl(tables)) => tables.clone(),
            _ => Snapshot::initial(),
        };
        let rows = |past: &'_ [Past]| {
            let rows = past.iter().map_while(|it| match &it.did {
                Did::Rows(changes) => Some(changes.clone()),
                Did::Ddl(_) => None,
            });
            rows.flatten().collect::<Vec<_>>()
        };
        let mut now = Versions::of(&first);
        for change in rows(&past[ddl.map_or(0, |place| place + 1)..]) {
            now.take(&first, &change, |_, _| {});
        }
        let mut allowed: BTreeMap<Name, BTreeSet<State>> = BTreeMap::new();
        for (name, state) in &now.0 {
            allowed
                .entry(name.clone())
                .or_default()
                .insert(state.clone());
        }
        let absent = || BTreeSet::from([(None, 0)]);
        for change in rows(future) {
            now.take(&first, &change, |name, state| {
                let known = allowed.entry(name.clone()).or_insert_with(absent);
                known.insert(state.clone());
            });
        }
        let there = Versions::of(target).0;
        let names: BTreeSet<&Name> = there.keys().chain(allowed.keys()).collect();
        names.into_iter().find_map(|name| {
            let state = there.get(name).cloned().unwrap_or_default();
            let allowed = allowed.get(name).cloned().unwrap_or_else(absent);
            let (table, key) = name;
            (!allowed.contains(&state))
                .then(|| format!("{table} {key:?} is {state:?}, and not one of {allowed:?}"))
        })
    }

    fn all(&self) -> MutexGuard<'_, Vec<Past>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// All rows of a time, by name.
struct Versions(BTreeMap<Name, State>);

impl Versions {
    fn of(snapshot: &Snapshot) -> Self {
        let mut versions = Self(BTreeMap::new());
        for (table, definition, rows) in snapshot.tables() {
            for row in rows {
                versions.add((table.to_owned(), name(definition, row)), row, 1);
            }
        }
        versions
    }

    /// Takes a change, and tells what became of each name in it.
    fn take(
        &mut self,
        definitions: &Snapshot,
        (table, old, new): &Change,
        mut tell: impl FnMut(&Name, &State),
    ) {
        let Some(definition) = definitions.definition(table) else {
            return;
        };
        for (row, count) in [(old, -1), (new, 1)] {
            if let Some(row) = row {
                let name = (table.clone(), name(definition, row));
                let state = self.add(name.clone(), row, count);
                tell(&name, &state);
            }
        }
    }

    fn add(&mut self, name: Name, row: &Row, count: i64) -> State {
        let state = self.0.entry(name).or_default();
        state.1 += count;
        state.0 = (state.1 > 0).then(|| row.clone());
        state.clone()
    }
}

fn name(definition: &Definition, row: &Row) -> Row {
    match definition.uniques.first() {
        Some(key) => vec![row[*key]],
        None => row.clone(),
    }
}
