//! Keys that a large table gets when its rows are there: to sort them once costs a server less than
//! to keep them in order while rows come.

use std::collections::BTreeSet;

use dm_core::{
    binlog::Dialect,
    error::Result,
    full::{PlainKey, plain_keys},
    sync::schema::{Quoted, TableName},
};
use tracing::info;

use super::{
    CopyFacts, Failure, again,
    define::{Definitions, missing},
};
use crate::ports::{
    Target,
    copy::{Copy, Definer, Definition, SnapshotTable},
};

/// A table of fewer bytes has its keys in memory while its rows come.
const LARGE_BYTES: u64 = 16 << 20;

impl<T: Target> Definitions<'_, T> {
    /// Finds the keys that can wait: of large tables that are not begun and that the target does
    /// not have. Whoever has made a table for this copy wants it as it is.
    ///
    /// # Errors
    /// A connection broke.
    pub(super) async fn find_keys(
        &self,
        definer: &mut impl Definer,
        (tables, begun): (&[SnapshotTable], &BTreeSet<TableName>),
        copy: &mut Copy,
    ) -> Result<(), Failure> {
        // Its keys are made by a job, whose work is the same whenever it is done.
        if self.target.dialect() == Dialect::TiDb {
            return Ok(());
        }
        for SnapshotTable { table, bytes, .. } in tables {
            let Some(entry) = copy.tables.get_mut(&table.name) else {
                continue;
            };
            if *bytes < LARGE_BYTES || begun.contains(&table.name) {
                continue;
            }
            if self.target.table(&entry.target).await?.is_none() {
                let definition = definer.definition(&table.name).await.map_err(again)?;
                entry.keys = plain_keys(&definition.sql)?;
            }
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
            let keys = table.keys.iter().filter(|key| has(&there, key));
            let drops: Vec<_> = keys
                .map(|key| format!("DROP KEY {}", Quoted(&key.name)))
                .collect();
            match self.alter(name, &drops).await {
                // A foreign key or a number that counts up needs one: they are all there.
                Err(Failure::Other(error)) => {
                    info!(table = %name, %error, "its keys are kept while rows come");
                }
                done => done?,
            }
        }
        Ok(())
    }

    /// Makes the keys that tables lack.
    ///
    /// # Errors
    /// The target refuses, the connection broke, or somebody else owns the source.
    pub(super) async fn add_keys(
        &self,
        tables: &[(TableName, Vec<PlainKey>)],
        facts: &CopyFacts,
    ) -> Result<(), Failure> {
        for (made, (name, keys)) in tables.iter().enumerate() {
            facts.needs_keys(tables.len() - made);
            let there = self.keys_of(name).await?;
            let keys = keys.iter().filter(|key| !has(&there, key));
            let adds: Vec<_> = keys.map(|key| format!("ADD {}", key.clause)).collect();
            if !adds.is_empty() {
                info!(table = %name, keys = adds.len(), "making its keys");
            }
            self.alter(name, &adds).await?;
        }
        facts.needs_keys(0);
        Ok(())
    }

    async fn alter(&self, name: &TableName, changes: &[String]) -> Result<(), Failure> {
        if changes.is_empty() {
            return Ok(());
        }
        let sql = format!("ALTER TABLE {name} {}", changes.join(","));
        let time_zone = "+00:00".to_owned();
        self.run(name, Definition { sql, time_zone }).await
    }

    /// The names of the keys that the target's table has.
    async fn keys_of(&self, name: &TableName) -> Result<Vec<String>> {
        let target = self.target_of(name)?;
        let table = self.target.table(&target).await?;
        let table = table.ok_or_else(|| missing(&target, "it is not there"))?;
        Ok(table.keys.into_iter().map(|key| key.name).collect())
    }
}

fn has(names: &[String], key: &PlainKey) -> bool {
    let mut names = names.iter();
    names.any(|name| name.to_lowercase() == key.name.to_lowercase())
}
