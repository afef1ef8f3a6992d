//! Schemas and tables in the target, before rows go into them.

use std::collections::{BTreeMap, BTreeSet};

use dm_core::{
    error::{Error, Result, Scope, code},
    full::Reading,
    sync::{
        ddl::{Context, Piece, Rules, Statement, classify},
        progress::{Applied as Progress, Location},
        schema::{Quoted, Table, TableName},
    },
};

use super::{ANEW, Failure};
use crate::ports::{
    Applied, Ddl, SourceFacts, Target,
    copy::{CopyTable, Reader, SnapshotTable},
};

/// Rows of a table that do not count.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) struct Restart {
    /// How many there are.
    pub(super) rows: u64,
    /// Whether the table itself goes as well: it is not what it was.
    pub(super) drops: bool,
}

impl Restart {
    /// Of a table that the source does not have any more.
    pub(super) const fn gone(noted: &CopyTable) -> Self {
        Self {
            rows: noted.rows,
            drops: true,
        }
    }
}

/// What the target gets to know of the source's definitions.
pub(super) struct Definitions<'a, T> {
    pub(super) target: &'a T,
    pub(super) rules: &'a Rules,
    pub(super) upstream: &'a SourceFacts,
    /// Where all slots are, which these statements don't move.
    pub(super) at: Location,
}

impl<T: Target> Definitions<'_, T> {
    /// Makes schemas and tables, unless they were begun before, and compares those that are there.
    ///
    /// # Errors
    /// The target refuses one, or one that is there can't take the rows.
    pub(super) async fn create<R: Reader>(
        &self,
        reader: &mut R,
        tables: &[SnapshotTable],
        begun: &BTreeSet<TableName>,
    ) -> Result<(), Failure> {
        let new = || {
            let all = tables.iter().map(|table| &table.table);
            all.filter(|table| !begun.contains(&table.name))
        };
        let schemas: BTreeSet<_> = new()
            .map(|table| TableName::new(&*table.name.schema, ""))
            .collect();
        for schema in &schemas {
            let text = reader.definition(schema).await.map_err(super::again)?;
            self.run(schema, &text).await?;
        }
        for table in new() {
            let name = self.target_of(&table.name)?;
            let mut there = self.target.table(&name).await?;
            if there.is_none() {
                let text = reader.definition(&table.name).await.map_err(super::again)?;
                self.run(&table.name, &text).await?;
                there = self.target.table(&name).await?;
            }
            let there = there.ok_or_else(|| missing(&name, "it is not there"))?;
            compare(table, &there)?;
            // Nobody could tell them from those that are to come.
            if !Reading::new(table).has_key() && name == table.name {
                let rows = self.target.count(&name).await?;
                if rows > 0 {
                    let what = format!("it has {rows} already, and no key to tell them apart");
                    return Err(missing(&name, &what).into());
                }
            }
        }
        Ok(())
    }

    /// Empties tables whose rows do not count, if nobody else has rows there.
    ///
    /// # Errors
    /// 34018: somebody has.
    pub(super) async fn restart(
        &self,
        tables: &BTreeMap<TableName, Restart>,
    ) -> Result<(), Failure> {
        for (name, Restart { rows, drops }) in tables {
            let target = self.target_of(name)?;
            if self.target.table(&target).await?.is_none() {
                continue;
            }
            let found = self.target.count(&target).await?;
            // None where an earlier run has come so far.
            if found > 0 && *rows == 0 {
                // They were there before the copy.
                continue;
            }
            if found > 0 && found != *rows {
                let text = format!(
                    "inconsistent checkpoints between loader and target database: the copy of \
                     {name} must begin anew, and {target} has {found} rows, not the {rows} of it"
                );
                let error = Error::new(&code::LOAD_TASK_CHECKPOINT_NOT_MATCH, text);
                let advice = format!("It had rows before, or others write into it. {ANEW}");
                return Err(Failure::Other(error.with_workaround(advice)));
            }
            let sql = match drops {
                true => format!("DROP TABLE {name}"),
                false if found > 0 => format!("TRUNCATE TABLE {name}"),
                false => continue,
            };
            tracing::info!(table = %name, rows, "its copy begins anew");
            self.run(name, &sql).await?;
        }
        Ok(())
    }

    fn target_of(&self, name: &TableName) -> Result<TableName> {
        let target = self.rules.target(name)?;
        target.ok_or_else(|| missing(name, "no rule of the task names it"))
    }

    /// Runs what a statement of the source means for the target. What is there already will do.
    async fn run(&self, name: &TableName, sql: &str) -> Result<(), Failure> {
        let context = Context {
            schema: &name.schema,
            sql_mode: 0,
            lower_case_names: self.upstream.lower_case_table_names != 0,
        };
        let Statement::Ddl(ddl) = classify(sql, context)? else {
            let text = format!("the definition of {name} is not understood: {sql}");
            return Err(Failure::Other(Error::new(&code::DUMP_UNIT_RUNTIME, text)));
        };
        for piece in self.rules.apply(&ddl)? {
            self.execute(piece).await?;
        }
        Ok(())
    }

    async fn execute(&self, piece: Piece) -> Result<(), Failure> {
        let ddl = Ddl {
            piece,
            timestamp: 0,
            // As the definition was read.
            time_zone: Some("+00:00".to_owned()),
            sql_mode: Some(0),
            collation_server: None,
            after: Progress::at(self.at.clone()),
            replay: true,
        };
        Err(match self.target.ddl(&ddl).await {
            Applied::Done => return Ok(()),
            Applied::Failed { error, .. } => Failure::Other(error),
            Applied::Fenced(error) => Failure::Fenced(error),
            // The next run settles the intent.
            Applied::Unknown(error) | Applied::Moved(error) => Failure::Again(error),
        })
    }
}

/// Whether a table of the target has a column for each value.
fn compare(source: &Table, target: &Table) -> Result<()> {
    for column in source.columns.iter().filter(|column| !column.generated) {
        let same = |other: &&dm_core::sync::schema::ColumnInfo| {
            other.name.to_lowercase() == column.name.to_lowercase()
        };
        let name = Quoted(&column.name);
        match target.columns.iter().find(same) {
            None => {
                return Err(missing(&target.name, &format!("it has no column {name}")));
            }
            Some(other) if other.generated => {
                return Err(missing(
                    &target.name,
                    &format!("its column {name} is computed, which the source's is not"),
                ));
            }
            Some(_) => {}
        }
    }
    Ok(())
}

pub(super) fn missing(table: &TableName, what: &str) -> Error {
    let text = format!("the target's table {table} can't take the rows of the source: {what}");
    Error::new(&code::SYNCER_UNIT_DML_COLUMN_NOT_MATCH, text)
        .with_scope(Scope::Downstream)
        .with_workaround("Drop the table, to have it made as the source has it; or alter it.")
}
