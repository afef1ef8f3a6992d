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

/// Where the rows of copied tables are from, and so which of the changes in the binlog they have.
#[derive(Debug, Default)]
pub(super) struct Later {
    /// Of tables whose copy began, or began anew, behind where that of the others did: what the
    /// binlog says of them before that place is in them.
    pub(super) places: BTreeMap<TableName, Location>,
    /// The latest snapshot of tables whose rows are from several.
    pub(super) again: BTreeMap<TableName, Location>,
    /// All tables that were copied and are there.
    pub(super) copied: BTreeSet<TableName>,
    /// Where the copy began, and where the last of its rows are from, if it is not of one moment.
    pub(super) from: Location,
    pub(super) until: Option<Location>,
    pub(super) by_gtid: bool,
}

/// Which changes of a table count.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) enum Counts {
    /// All.
    All,
    /// Those of rows that a key tells apart. The table has them; but another one that goes into the
    /// same table of the target has not, and rows may have come from there: what the binlog says
    /// of that one would be the last word.
    Keyed,
    /// None: the table has them.
    Nothing,
}

/// Copied tables that go into one.
#[derive(Debug, Default)]
struct Merged {
    /// Where the rows of each are from; nothing for where the copy began.
    places: Vec<Option<Location>>,
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
    /// By the name of each.
    merged: BTreeMap<TableName, Arc<Merged>>,
    /// Tables of which more rows were written than those that did not have them.
    counted: BTreeSet<TableName>,
    /// Whether it is not known of which: it may have been before this run.
    may_have_counted: bool,
    decisions: BTreeMap<u64, (Arc<TableMap>, Decision)>,
    definitions: BTreeMap<TableName, Arc<Table>>,
}

impl<S: Source, T: Target> Tables<S, T> {
    /// Nothing is known yet.
    pub(super) fn new(
        source: S,
        target: Arc<T>,
        rules: Rules,
        later: Later,
        from: &Location,
    ) -> Self {
        Self {
            source,
            target,
            merged: merged(&rules, &later),
            counted: BTreeSet::new(),
            may_have_counted: *from != later.from,
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
        let source = source_of(map);
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

    /// Which of the changes that a transaction did to a table count.
    pub(super) fn counts(&self, source: &TableName, txn: &TxnId) -> Counts {
        if !self.has(source, txn) {
            return Counts::All;
        }
        let by_gtid = self.later.by_gtid;
        let lacks = |place: &Option<Location>| {
            !(place.as_ref()).is_some_and(|place| place.contains(txn, by_gtid))
        };
        match self.merged.get(source) {
            Some(merged) if merged.places.iter().any(lacks) => Counts::Keyed,
            _ => Counts::Nothing,
        }
    }

    /// Rows of a table are written that it has.
    pub(super) fn note_counted(&mut self, source: &TableName) {
        if !self.counted.contains(source) {
            self.counted.insert(source.clone());
        }
    }

    /// Whether rows of a table may have been written that it has.
    pub(super) fn may_have_counted(&self, source: &TableName) -> bool {
        self.may_have_counted || self.counted.contains(source)
    }

    /// Whether rows of a table that is wanted were read before a transaction, and others behind it.
    pub(super) fn is_around(&self, source: &TableName, txn: &TxnId) -> bool {
        let wanted = matches!(self.rules.target(source), Ok(Some(_)));
        let again = self.later.again.get(source).filter(|_| wanted);
        again.is_some_and(|again| again.contains(txn, self.later.by_gtid)) && !self.has(source, txn)
    }

    /// Whether rows that a transaction moves, of which the binlog does not tell, would be missing
    /// from a table, or stay in it: it was copied, and not only behind that.
    pub(super) fn is_amid(&self, source: &TableName, txn: &TxnId) -> bool {
        let Later {
            copied,
            until,
            by_gtid,
            ..
        } = &self.later;
        let is_amid = until.as_ref().is_some_and(|it| it.contains(txn, *by_gtid));
        is_amid && copied.contains(source) && self.counts(source, txn) != Counts::Nothing
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

/// The name that the source has for a table.
pub(super) fn source_of(map: &TableMap) -> TableName {
    TableName::new(&map.schema, &map.table)
}

/// The tables that go into one, by the name of each.
fn merged(rules: &Rules, later: &Later) -> BTreeMap<TableName, Arc<Merged>> {
    let mut groups: BTreeMap<TableName, (Vec<&TableName>, Merged)> = BTreeMap::new();
    if later.places.is_empty() {
        return BTreeMap::new();
    }
    for name in &later.copied {
        // A name that routes disagree about is refused where it comes up.
        if let Ok(Some(target)) = rules.target(name) {
            let (names, Merged { places }) = groups.entry(target).or_default();
            names.push(name);
            let place = later.places.get(name);
            if !places.iter().any(|known| known.as_ref() == place) {
                places.push(place.cloned());
            }
        }
    }
    let mut merged = BTreeMap::new();
    for (names, group) in groups.into_values().filter(|(names, _)| names.len() > 1) {
        let group = Arc::new(group);
        merged.extend((names.into_iter()).map(|name| (name.clone(), Arc::clone(&group))));
    }
    merged
}
