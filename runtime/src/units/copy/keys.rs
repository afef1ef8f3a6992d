//! Keys that a large table gets when its rows are there: to sort them once costs a server less than
//! to keep them in order while rows come.

use std::collections::{BTreeMap, BTreeSet};

use dm_core::{
    binlog::Dialect,
    error::{Error, Result, code},
    full::{PlainKey, plain_keys},
    sync::schema::{Quoted, Table, TableName},
};
use tracing::{info, warn};

use super::{
    CopyFacts, Failure,
    define::{Definitions, FOREIGN_KEY, ended, missing},
};
use crate::ports::{
    Ddl, Target,
    copy::{Copy, Definition, SnapshotTable},
};

/// A table of fewer bytes has its keys in memory while its rows come.
const LARGE_BYTES: u64 = 16 << 20;
/// Tables that get keys at the same time, at most: a server sorts each by several threads.
const AT_ONCE_MAX: usize = 4;

impl<T: Target> Definitions<'_, T> {
    /// Finds the keys that can wait: of large tables that this run has made with these definitions.
    /// A table that was there before stays as it is, and what it lacks is told. Returns whether
    /// there are any.
    ///
    /// # Errors
    /// A connection broke.
    pub(super) async fn find_keys(
        &self,
        made: &BTreeMap<TableName, String>,
        (tables, begun): (&[SnapshotTable], &BTreeSet<TableName>),
        copy: &mut Copy,
    ) -> Result<bool, Failure> {
        for SnapshotTable { table, bytes, .. } in tables {
            let Some(entry) = copy.tables.get_mut(&table.name) else {
                continue;
            };
            let Some(sql) = made.get(&table.name) else {
                if entry.keys.is_empty() && !begun.contains(&table.name) {
                    self.tell_lacking(table).await?;
                }
                continue;
            };
            entry.keys.clear();
            // TiDB makes keys by a job, whose work is the same whenever it is done.
            if *bytes < LARGE_BYTES
                || self.target.dialect() == Dialect::TiDb
                || has_foreign_key(&table.name, made)
            {
                continue;
            }
            let there = self.keys_of(&table.name).await?;
            entry.keys = plain_keys(sql)?;
            entry.keys.retain(|key| has(&there, &key.name));
        }
        Ok(copy.tables.values().any(|table| !table.keys.is_empty()))
    }

    /// Says which plain keys a table that was there lacks. Its owner may want it so; or the copy
    /// that made it was given up before it came to its keys.
    async fn tell_lacking(&self, source: &Table) -> Result<()> {
        let plain = source.keys.iter().filter(|key| !key.unique);
        let mut lacking: Vec<_> = plain.map(|key| &*key.name).collect();
        if lacking.is_empty() {
            return Ok(());
        }
        let there = self.keys_of(&source.name).await?;
        lacking.retain(|key| !has(&there, key));
        if !lacking.is_empty() {
            let (table, keys) = (&source.name, lacking.join(", "));
            let what = "it was there, without keys of the source: make them, if they are wanted";
            warn!(%table, keys, "{what}");
        }
        Ok(())
    }

    /// Drops the keys that can wait from tables that are not begun. They were made with all their
    /// keys, so that the target has refused what it can't take.
    ///
    /// # Errors
    /// As [`Self::add_keys`].
    pub(super) async fn drop_keys(
        &self,
        copy: &Copy,
        begun: &BTreeSet<TableName>,
    ) -> Result<(), Failure> {
        for (name, table) in &copy.tables {
            if table.is_gone || table.keys.is_empty() || begun.contains(name) {
                continue;
            }
            let there = self.keys_of(name).await?;
            let keys = table.keys.iter().filter(|key| has(&there, &key.name));
            let drops: Vec<_> = keys
                .map(|key| format!("DROP KEY {}", Quoted(&key.name)))
                .collect();
            let drop = async {
                for ddl in self.alter(name, &drops)? {
                    ended(self.target.ddl(&ddl).await)?;
                }
                Ok(())
            };
            match drop.await {
                // A number that counts up needs one: they are all there.
                Err(Failure::Other(error)) => {
                    info!(table = %name, %error, "its keys are kept while rows come");
                }
                done => done?,
            }
        }
        Ok(())
    }

    /// Makes the keys that tables lack, of at most so many at a time.
    ///
    /// # Errors
    /// The target refuses, the connection broke, or somebody else owns the source.
    pub(super) async fn add_keys(
        &self,
        tables: &[(TableName, Vec<PlainKey>)],
        at_once: usize,
        facts: &CopyFacts,
    ) -> Result<(), Failure> {
        let mut left = tables.len();
        for tables in tables.chunks(at_once.clamp(1, AT_ONCE_MAX)) {
            facts.needs_keys(left);
            let mut ddls = Vec::new();
            for (name, keys) in tables {
                let adds = self.lacking(name, keys).await?;
                if !adds.is_empty() {
                    info!(table = %name, keys = adds.len(), "making its keys");
                }
                ddls.extend(self.alter(name, &adds)?);
            }
            self.run_all(&ddls).await?;
            for (name, keys) in tables {
                if !self.lacking(name, keys).await?.is_empty() {
                    let text =
                        format!("{name} was altered by somebody else while its keys were made");
                    let error = Error::new(&code::LOAD_TASK_CHECKPOINT_NOT_MATCH, text);
                    return Err(Failure::Again(error));
                }
            }
            left -= tables.len();
        }
        facts.needs_keys(0);
        Ok(())
    }

    /// The clauses of keys that the target's table lacks.
    async fn lacking(&self, name: &TableName, keys: &[PlainKey]) -> Result<Vec<String>> {
        let there = self.keys_of(name).await?;
        let keys = keys.iter().filter(|key| !has(&there, &key.name));
        Ok(keys.map(|key| format!("ADD {}", key.clause)).collect())
    }

    fn alter(&self, name: &TableName, changes: &[String]) -> Result<Vec<Ddl>> {
        if changes.is_empty() {
            return Ok(Vec::new());
        }
        let sql = format!("ALTER TABLE {name} {}", changes.join(","));
        let time_zone = "+00:00".to_owned();
        self.ddls(name, Definition { sql, time_zone })
    }

    /// The names of the keys that the target's table has.
    async fn keys_of(&self, name: &TableName) -> Result<Vec<String>> {
        let target = self.target_of(name)?;
        let table = self.target.table(&target).await?;
        let table = table.ok_or_else(|| missing(&target, "it is not there"))?;
        Ok(table.keys.into_iter().map(|key| key.name).collect())
    }
}

fn has(names: &[String], key: &str) -> bool {
    let mut names = names.iter();
    names.any(|name| name.to_lowercase() == key.to_lowercase())
}

/// Whether a foreign key needs keys of a table, on either side.
fn has_foreign_key(name: &TableName, made: &BTreeMap<TableName, String>) -> bool {
    let short = format!("REFERENCES {} (", Quoted(&name.table));
    let full = format!("REFERENCES {name} (");
    made.iter().any(|(child, sql)| {
        sql.contains(FOREIGN_KEY) && (child == name || sql.contains(&short) || sql.contains(&full))
    })
}
