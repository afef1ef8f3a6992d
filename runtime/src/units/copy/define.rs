//! Schemas and tables in the target, before rows go into them.

use std::collections::{BTreeMap, BTreeSet};

use dm_core::{
    error::{Error, Result, Scope, code},
    full::{Reading, columns, renumbers, rounds},
    lifecycle::BEGIN_ANEW,
    sync::{
        ddl::{Context, Kind, Piece, Role, Rules, Statement, classify},
        progress::{Applied as Progress, Location},
        schema::{ColumnInfo, Quoted, Table, TableName},
    },
};

use super::{ANEW, Failure};
use crate::ports::{
    Applied, Ddl, SourceFacts, Target,
    copy::{Copy, CopyTable, Definer, Definition},
};

/// So many tables are made at the same time, each by a connection of its own.
const AT_ONCE_MAX: usize = 8;
/// What a definition has for each foreign key, as servers write it.
pub(super) const FOREIGN_KEY: &str = " FOREIGN KEY (";

/// Rows of a table that do not count.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(in crate::units) struct Restart {
    /// How many there are.
    pub(in crate::units) rows: u64,
    /// Whether the table itself goes as well: it is not what it was.
    pub(in crate::units) drops: bool,
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

/// A table that the target must have.
pub(in crate::units) struct Wanted<'a> {
    pub(in crate::units) name: &'a TableName,
    /// What it is in the source, where that is known.
    pub(in crate::units) source: Option<&'a Table>,
}

/// What the target gets to know of the source's definitions.
pub(in crate::units) struct Definitions<'a, T> {
    pub(in crate::units) target: &'a T,
    pub(in crate::units) rules: &'a Rules,
    pub(in crate::units) upstream: &'a SourceFacts,
    /// Where all slots are, which these statements don't move.
    pub(in crate::units) at: Location,
}

impl<T: Target> Definitions<'_, T> {
    /// Makes schemas and tables, unless they were begun before, and compares those that are there.
    /// Returns the definitions of those that it has made.
    ///
    /// # Errors
    /// The target refuses one, or one that is there can't take the rows.
    pub(in crate::units) async fn create(
        &self,
        definer: &mut impl Definer,
        tables: &[Wanted<'_>],
        begun: &BTreeSet<TableName>,
    ) -> Result<BTreeMap<TableName, String>, Failure> {
        let mut made = BTreeMap::new();
        let new = tables.iter().filter(|table| !begun.contains(table.name));
        let new: Vec<_> = new.collect();
        let schemas: BTreeSet<_> = new
            .iter()
            .map(|table| TableName::new(&*table.name.schema, ""))
            .collect();
        for schema in &schemas {
            let definition = definer.definition(schema).await.map_err(super::again)?;
            let ddls = self.ddls(schema, definition)?;
            for ddl in &ddls {
                ended(self.target.ddl(ddl).await)?;
            }
            // Where routes are those of single tables, the schema may be made and not be theirs.
            let mut others = BTreeSet::new();
            let of_schema = |table: &&&Wanted<'_>| table.name.schema == schema.schema;
            for Wanted { name, .. } in new.iter().filter(of_schema) {
                others.insert(TableName::new(self.target_of(name)?.schema, ""));
            }
            for mut ddl in ddls {
                let (sql, made) = (ddl.piece.sql.clone(), ddl.piece.targets.clone());
                let [TableName { schema, .. }] = &*made else {
                    continue;
                };
                for other in others.iter().filter(|other| !made.contains(other)) {
                    let (before, now) = (Quoted(schema), Quoted(&other.schema));
                    ddl.piece.sql = sql.replacen(&before.to_string(), &now.to_string(), 1);
                    ddl.piece.targets = vec![other.clone()];
                    ended(self.target.ddl(&ddl).await)?;
                }
            }
        }
        for some in new.chunks(AT_ONCE_MAX) {
            made.extend(self.make(definer, some).await?);
        }
        for Wanted { name: of, source } in new {
            let name = self.target_of(of)?;
            let there = self.target.table(&name).await?;
            let there = there.ok_or_else(|| missing(&name, "it is not there"))?;
            if let Some(source) = source {
                compare(&source.columns, &there)?;
            }
            // Nobody could tell them from those that are to come.
            if !Reading::new(source.unwrap_or(&there)).has_key() && name == **of {
                let rows = self.target.count(&name).await?;
                if rows > 0 {
                    let what = format!("it has {rows} already, and no key to tell them apart");
                    return Err(missing(&name, &what).into());
                }
            }
        }
        Ok(made)
    }

    /// Compares a table of the target, made by somebody else or for another table, with what a
    /// definition says of its columns.
    ///
    /// # Errors
    /// 36027: it can't take the rows.
    pub(in crate::units) async fn compare(&self, name: &TableName, sql: &str) -> Result<()> {
        // What is written otherwise than servers do is not compared.
        let columns = columns(sql).unwrap_or_default();
        let there = self.target.table(&self.target_of(name)?).await?;
        there.map_or(Ok(()), |there| compare(&columns, &there))
    }

    /// Makes those of some tables that the target lacks. Returns their definitions.
    async fn make(
        &self,
        definer: &mut impl Definer,
        tables: &[&Wanted<'_>],
    ) -> Result<BTreeMap<TableName, String>, Failure> {
        let (mut made, mut targets) = (BTreeMap::new(), BTreeSet::new());
        let (mut alone, mut bound) = (Vec::new(), Vec::new());
        for Wanted { name, .. } in tables {
            let target = self.target_of(name)?;
            // Some may become one.
            if targets.contains(&target) || self.target.table(&target).await?.is_some() {
                continue;
            }
            targets.insert(target);
            let definition = definer.definition(name).await.map_err(super::again)?;
            made.insert((*name).clone(), definition.sql.clone());
            let ddls = match definition.sql.contains(FOREIGN_KEY) {
                true => &mut bound,
                false => &mut alone,
            };
            ddls.extend(self.ddls(name, definition)?);
        }
        self.run_all(&alone).await?;
        // A server locks each table at the other end, in any order.
        for ddl in &bound {
            ended(self.target.ddl(ddl).await)?;
        }
        Ok(made)
    }

    /// Makes views, as far as they can be read and the target takes them: they may name what is
    /// not migrated.
    ///
    /// # Errors
    /// The connection broke, or somebody else owns the source.
    pub(in crate::units) async fn create_views(
        &self,
        definer: &mut impl Definer,
        views: &[TableName],
    ) -> Result<(), Failure> {
        let mut left: Vec<(&TableName, Option<Error>)> =
            views.iter().map(|view| (view, None)).collect();
        // One may be made of another one.
        loop {
            let count = left.len();
            let mut refused = Vec::new();
            for (view, _) in left {
                if self.target_of(view)? != *view {
                    let why = Error::new(
                        &code::DUMP_UNIT_RUNTIME,
                        "routes change names that its text may have",
                    );
                    refused.push((view, Some(why)));
                    continue;
                }
                let definition = definer.definition(view).await.map_err(super::again);
                let Definition { sql, time_zone } = match definition {
                    Ok(definition) => definition,
                    Err(Failure::Other(error)) => {
                        refused.push((view, Some(error)));
                        continue;
                    }
                    Err(failure) => return Err(failure),
                };
                let piece = Piece {
                    ordinal: 0,
                    // As for what servers say where there is one.
                    kind: Kind::CreateTable,
                    sources: vec![(Role::Subject, view.clone())],
                    targets: vec![view.clone()],
                    swaps: false,
                    sql,
                };
                let ddl = self.ddl(piece, time_zone, Some(view.schema.clone()));
                match ended(self.target.ddl(&ddl).await) {
                    Ok(()) => tracing::info!(%view, "there is a view"),
                    Err(Failure::Other(error)) => refused.push((view, Some(error))),
                    Err(failure) => return Err(failure),
                }
            }
            left = refused;
            if left.is_empty() || left.len() == count {
                break;
            }
        }
        for (view, error) in left {
            let error = error.map(tracing::field::display);
            tracing::warn!(%view, error, "a view is not made: make it yourself, if it is wanted");
        }
        Ok(())
    }

    /// Empties tables whose rows do not count, if nobody else has rows there.
    ///
    /// # Errors
    /// 34018: somebody has.
    pub(in crate::units) async fn restart(
        &self,
        restarts: &BTreeMap<TableName, Restart>,
        copy: &Copy,
    ) -> Result<(), Failure> {
        let mut merged: BTreeMap<TableName, Vec<(&TableName, Restart)>> = BTreeMap::new();
        for (name, restart) in restarts {
            let group = merged.entry(self.target_of(name)?).or_default();
            group.push((name, *restart));
        }
        for (target, group) in merged {
            // What the rules make of a statement about one of them is the same for all.
            let name = group[0].0;
            let rows: u64 = group.iter().map(|(_, it)| it.rows).sum();
            let stays = |(name, it): &(&TableName, &CopyTable)| {
                it.target == target && !it.pieces.is_empty() && !restarts.contains_key(name)
            };
            if let Some((other, _)) = copy.tables.iter().find(stays) {
                if rows > 0 {
                    return Err(mixed(
                        name,
                        &format!("{target} has rows of {other} as well"),
                    ));
                }
                continue;
            }
            if self.target.table(&target).await?.is_none() {
                continue;
            }
            let found = self.target.count(&target).await?;
            // None where an earlier run has come so far.
            if found > 0 && rows == 0 {
                // They were there before the copy.
                continue;
            }
            if found > 0 && found != rows {
                let what = format!("{target} has {found} rows, not the {rows} of it");
                return Err(mixed(name, &what));
            }
            let sql = match group.iter().any(|(_, it)| it.drops) {
                true => format!("DROP TABLE {name}"),
                false if found > 0 => format!("TRUNCATE TABLE {name}"),
                false => continue,
            };
            tracing::info!(table = %name, rows, "its copy begins anew");
            let time_zone = "+00:00".to_owned();
            self.run(name, Definition { sql, time_zone }).await?;
        }
        Ok(())
    }

    pub(super) fn target_of(&self, name: &TableName) -> Result<TableName> {
        let target = self.rules.target(name)?;
        target.ok_or_else(|| missing(name, "no rule of the task names it"))
    }

    /// Runs what a statement of the source means for the target. What is there already will do.
    pub(super) async fn run(
        &self,
        name: &TableName,
        definition: Definition,
    ) -> Result<(), Failure> {
        for ddl in self.ddls(name, definition)? {
            ended(self.target.ddl(&ddl).await)?;
        }
        Ok(())
    }

    /// Runs statements at the same time; one after the other where that does not go: there may not
    /// be room to sort for all of them, nor so many connections.
    pub(super) async fn run_all(&self, ddls: &[Ddl]) -> Result<(), Failure> {
        match ended(self.target.ddl_all(ddls).await) {
            Err(Failure::Other(error)) if ddls.len() > 1 => {
                tracing::warn!(%error, "one statement after the other");
                for ddl in ddls {
                    ended(self.target.ddl(ddl).await)?;
                }
                Ok(())
            }
            done => done,
        }
    }

    /// What a statement of the source means for the target.
    pub(super) fn ddls(&self, name: &TableName, definition: Definition) -> Result<Vec<Ddl>> {
        let Definition { sql, time_zone } = definition;
        let context = Context {
            schema: &name.schema,
            sql_mode: 0,
            lower_case_names: self.upstream.lower_case_table_names != 0,
        };
        let Statement::Ddl(ddl) = classify(&sql, context)? else {
            let text = format!("the definition of {name} is not understood: {sql}");
            return Err(Error::new(&code::DUMP_UNIT_RUNTIME, text));
        };
        let pieces = self.rules.apply(&ddl)?.into_iter();
        Ok(pieces
            .map(|piece| self.ddl(piece, time_zone.clone(), None))
            .collect())
    }

    fn ddl(&self, piece: Piece, time_zone: String, schema: Option<String>) -> Ddl {
        Ddl {
            piece,
            timestamp: 0,
            time_zone: Some(time_zone),
            sql_mode: Some(0),
            schema,
            collation_server: None,
            after: Progress::at(self.at.clone()),
            replay: true,
        }
    }
}

/// Of a table whose rows can't be told from those of others.
fn mixed(name: &TableName, what: &str) -> Failure {
    let text = format!(
        "inconsistent checkpoints between loader and target database: the copy of {name} \
         {BEGIN_ANEW}, and {what}"
    );
    let error = Error::new(&code::LOAD_TASK_CHECKPOINT_NOT_MATCH, text);
    let advice = format!("It had rows before, or others write into it. {ANEW}");
    Failure::Other(error.with_workaround(advice))
}

/// How a statement ended.
pub(super) fn ended(applied: Applied) -> Result<(), Failure> {
    Err(match applied {
        Applied::Done => return Ok(()),
        Applied::Failed { error, .. } => Failure::Other(error),
        Applied::Fenced(error) => Failure::Fenced(error),
        // The next run settles the intent.
        Applied::Unknown(error) | Applied::Moved(error) => Failure::Again(error),
    })
}

/// Whether a table of the target has a column for each value, as it is.
fn compare(source: &[ColumnInfo], target: &Table) -> Result<()> {
    for column in source.iter().filter(|column| !column.generated) {
        let same = |other: &&ColumnInfo| other.name.to_lowercase() == column.name.to_lowercase();
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
            Some(other) if rounds(column, other) => {
                let (to, from) = (&other.column_type, &column.column_type);
                let what = format!("its column {name} is {to}, which rounds values of {from}");
                return Err(missing(&target.name, &what));
            }
            Some(other) if renumbers(column, other) => {
                let (to, from) = (&other.column_type, &column.column_type);
                let what = format!(
                    "its column {name} is {to}, in which members of {from} have other numbers"
                );
                return Err(missing(&target.name, &what));
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn members_must_have_the_numbers_of_the_source() {
        let table = |column_type: &str| Table {
            name: TableName::new("d", "t"),
            columns: vec![ColumnInfo {
                name: "c".to_owned(),
                type_name: "enum".to_owned(),
                column_type: column_type.to_owned(),
                ..ColumnInfo::default()
            }],
            keys: Vec::new(),
        };
        let source = table("enum('a','b')");
        assert!(compare(&source.columns, &table("enum('a','b','c')")).is_ok());
        let error = compare(&source.columns, &table("enum('b','a')")).unwrap_err();
        let expected = "its column `c` is enum('b','a'), in which members of enum('a','b') have \
                        other numbers";
        assert!(error.to_string().contains(expected), "{error}");
    }
}
