//! Which table a rows event belongs to, whether it counts, and how its rows are written.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
};

use dm_core::{
    binlog::TableMap,
    error::{Error, Result, code},
    guard::Guard,
    sync::{
        agreement,
        ddl::Rules,
        progress::{Location, TxnId},
        schema::{Table, TableName},
        table::TablePlan,
    },
};
use tracing::info;

use crate::ports::{Source, Target};

/// Table ids that are remembered at once.
const DECISIONS_MAX: usize = 4096;

/// What to do with the rows of a table.
#[derive(Clone, Debug)]
pub(super) enum Decision {
    /// They don't concern this task.
    Skip,
    /// They are written like this.
    Write(Arc<TablePlan>),
}

/// Where the rows of copied tables are from, if the copy had to begin a table anew that has no key:
/// what the binlog says of it before that place is in them.
#[derive(Debug, Default)]
pub(super) struct Later {
    pub(super) places: BTreeMap<TableName, Location>,
    /// The latest snapshot of tables whose rows are from several.
    pub(super) again: BTreeMap<TableName, Location>,
    /// All tables that were copied, and where the last of their rows are from, if the copy is not
    /// of one moment.
    pub(super) copied: BTreeSet<TableName>,
    pub(super) until: Option<Location>,
    pub(super) by_gtid: bool,
}

/// Decisions by table id, made at the first rows event of a table map.
///
/// The target's definition is the schema in force: every DDL runs there in binlog order, with
/// nothing else under way, so it is the source's schema at the location that was reached.
pub(super) struct Tables<S, T> {
    source: S,
    target: Arc<T>,
    rules: Rules,
    later: Later,
    /// Copied tables that go into one, by the name of each.
    merged: BTreeMap<TableName, Vec<TableName>>,
    decisions: BTreeMap<u64, (Arc<TableMap>, Decision)>,
    definitions: BTreeMap<TableName, Arc<Table>>,
}

impl<S: Source, T: Target> Tables<S, T> {
    /// Nothing is known yet.
    pub(super) fn new(source: S, target: Arc<T>, rules: Rules, later: Later) -> Self {
        Self {
            source,
            target,
            merged: merged(&rules, &later.copied),
            rules,
            later,
            decisions: BTreeMap::new(),
            definitions: BTreeMap::new(),
        }
    }

    /// The rules of the task.
    pub(super) fn rules(&self) -> &Rules {
        &self.rules
    }

    /// What to do with the rows that `map` describes, which were written at this time, in seconds
    /// since 1970.
    ///
    /// # Errors
    /// The target has no such table, or one that can't take these rows.
    pub(super) async fn decide(&mut self, map: &Arc<TableMap>, written: u32) -> Result<Decision> {
        if let Some((known, decision)) = self.decisions.get(&map.id)
            && (Arc::ptr_eq(known, map) || known == map)
        {
            return Ok(decision.clone());
        }
        let source = TableName::new(&map.schema, &map.table);
        let decision = match self.rules.target(&source)? {
            None => Decision::Skip,
            Some(name) => {
                let table = self.definition(&name, &source).await?;
                if agreement::is_vague(map) {
                    let now = self.source.table(&source).await?;
                    agreement::compare(map, &table, &now, written.into())?;
                }
                let plan = TablePlan::new(map, &table, self.target.dialect())?;
                Decision::Write(Arc::new(plan))
            }
        };
        // A source gives a table another id each time it opens it.
        if self.decisions.len() >= DECISIONS_MAX {
            self.decisions.clear();
        }
        self.decisions
            .insert(map.id, (Arc::clone(map), decision.clone()));
        Ok(decision)
    }

    /// Whether all tables were copied at one place, if they were copied at all.
    pub(super) fn are_of_one_place(&self) -> bool {
        self.later.places.is_empty()
    }

    /// Whether a table has what a transaction did to it, though nothing says so but the place that
    /// its rows are from.
    pub(super) fn has(&self, source: &TableName, txn: &TxnId) -> bool {
        let Later {
            places, by_gtid, ..
        } = &self.later;
        let place = places.get(source);
        place.is_some_and(|place| place.contains(txn, *by_gtid)) && Guard::CopyPlace.holds()
    }

    /// Whether what a transaction did to rows of a table counts, though the table has it: another
    /// one that goes into the same table of the target does not, and rows may have come from there.
    /// What it says of them later would be the last word.
    pub(super) fn counts_again(&self, source: &TableName, txn: &TxnId) -> bool {
        let mut others = self.merged.get(source).into_iter().flatten();
        others.any(|other| !self.has(other, txn))
    }

    /// Whether rows of a table that is wanted were read before a transaction, and others behind it.
    pub(super) fn is_around(&self, source: &TableName, txn: &TxnId) -> bool {
        let wanted = matches!(self.rules.target(source), Ok(Some(_)));
        let again = self.later.again.get(source).filter(|_| wanted);
        again.is_some_and(|again| again.contains(txn, self.later.by_gtid)) && !self.has(source, txn)
    }

    /// Whether a table of this name may be another one by the end of the copy, with the rows of the
    /// one that a transaction does something to.
    pub(super) fn may_be_another(&self, source: &TableName, txn: &TxnId) -> bool {
        let Later {
            copied,
            until,
            by_gtid,
            ..
        } = &self.later;
        let is_amid = until.as_ref().is_some_and(|it| it.contains(txn, *by_gtid));
        is_amid && copied.contains(source) && !self.has(source, txn)
    }

    /// Whether any table of a schema has that.
    pub(super) fn has_of(&self, schema: &TableName, txn: &TxnId) -> bool {
        let mut tables = self.later.places.keys();
        tables.any(|table| table.schema == schema.schema && self.has(table, txn))
    }

    /// Forgets all definitions: a DDL may have changed any of them.
    pub(super) fn forget(&mut self) {
        self.decisions.clear();
        self.definitions.clear();
    }

    async fn definition(&mut self, name: &TableName, source: &TableName) -> Result<Arc<Table>> {
        if let Some(table) = self.definitions.get(name) {
            return Ok(Arc::clone(table));
        }
        let table = self.target.table(name).await?.ok_or_else(|| {
            Error::new(
                &code::SCHEMA_TRACKER_CANNOT_FETCH_DOWNSTREAM_TABLE,
                format!("the target has no table {name} for the rows of {source}"),
            )
        })?;
        info!(%source, target = %name, columns = table.columns.len(), "table definition read");
        let table = Arc::new(table);
        self.definitions.insert(name.clone(), Arc::clone(&table));
        Ok(table)
    }
}

/// Those of some tables that go into one, by the name of each.
fn merged(rules: &Rules, tables: &BTreeSet<TableName>) -> BTreeMap<TableName, Vec<TableName>> {
    let mut groups: BTreeMap<TableName, Vec<TableName>> = BTreeMap::new();
    for name in tables {
        // A name that routes disagree about is refused where it comes up.
        if let Ok(Some(target)) = rules.target(name) {
            groups.entry(target).or_default().push(name.clone());
        }
    }
    let groups = groups.into_values().filter(|group| group.len() > 1);
    let each = |group: Vec<TableName>| {
        let names = group.clone().into_iter();
        names.map(move |name| (name, group.clone()))
    };
    groups.flat_map(each).collect()
}
