//! Statements of the binlog: where transactions begin and end, and what changes definitions.

use std::borrow::Cow;

use dm_core::{
    binlog::{AlterPhase, Header, QueryEvent},
    error::{Error, Result, code},
    guard::Guard,
    sync::{
        ddl::{self, Context, Draft, Kind, Piece, Role, Rules, Statement, classify},
        progress::{Applied as Progress, TxnId},
        schema::TableName,
    },
};
use tracing::{debug, info, warn};

use super::{Failure, run::Run, tables::Counts};
use crate::{
    ports::{Applied, Ddl, Source, Target},
    units::copy::{ANEW, is_excluded},
};

/// A statement that may only run when nothing else does.
pub(super) struct Barrier {
    pieces: Vec<Piece>,
    /// How many pieces there are without any filter.
    count: u64,
    /// Whether rows follow in the same transaction.
    opens: bool,
    header: Header,
    query: QueryEvent,
    txn: TxnId,
    /// Whether the target may have run it before without a record of it.
    replay: bool,
}

impl<S: Source, T: Target> Run<'_, S, T> {
    /// Understands a statement, and plans what it means.
    pub(super) fn query(&mut self, header: Header, query: QueryEvent) -> Result<()> {
        // An ALTER in two parts is run when it is decided.
        if let Some(AlterPhase::Start | AlterPhase::Rollback) = query.vars.alter {
            self.commit(&header);
            return Ok(());
        }
        let Some(sql) = query.text().map(Cow::into_owned) else {
            let sql = String::from_utf8_lossy(&query.sql);
            return Err(refuse(&sql, "a statement in this client's character set"));
        };
        let context = Context {
            schema: &query.schema,
            sql_mode: query.vars.sql_mode.unwrap_or_default(),
            lower_case_names: self.lower_case_names,
        };
        match classify(&sql, context)? {
            Statement::Begin => self.cursor.set_begun(&header),
            Statement::Savepoint => {}
            Statement::Commit => self.commit(&header),
            Statement::RollbackTo => return Err(refuse(&sql, "going back to a savepoint")),
            Statement::Rollback => return Err(refuse(&sql, "a transaction that was rolled back")),
            Statement::Xa(_) => return Err(refuse(&sql, "a distributed (XA) transaction")),
            Statement::Skipped => {
                // Not the text: it may hold the hash of a password.
                debug!("a statement that the target need not run");
                self.end_statement(&header);
            }
            Statement::Object(kind, name) => {
                self.left_out(kind, name.as_ref(), &header);
                self.end_statement(&header);
            }
            Statement::Rows(table) => {
                let schemas = query.vars.schemas.as_deref();
                self.tables.rules().refuse_rows(table.as_ref(), schemas)?;
                self.end_statement(&header);
            }
            Statement::Ddl(ddl) => {
                // `CREATE TABLE … SELECT`, as both servers log it since they are atomic.
                let opens = ddl.rows_follow || self.cursor.is_begun();
                if self.cursor.is_planned() {
                    let what = "a change of definitions behind rows of the same transaction";
                    return Err(refuse(&sql, what));
                }
                let rules = self.tables.rules();
                let collations = rules.collations.of_session(&query.vars);
                let mut pieces = rules.apply_collated(&ddl, &collations)?;
                let txn = self.cursor.txn(&header).clone();
                self.refuse_amid_copy(&ddl, &pieces, &txn, &sql)?;
                pieces.retain(|piece| {
                    !(piece.sources.iter()).all(|(_, name)| self.tables.has(name, &txn))
                });
                let count = ddl.pieces.len() as u64;
                if pieces.is_empty() {
                    info!(sql, "filtered out");
                    if opens {
                        self.open(&header)?;
                        self.planner.skip_rows(count);
                    } else {
                        self.commit(&header);
                    }
                    return Ok(());
                }
                let replay = self.is_unsafe(&txn);
                self.barrier = Some(Barrier {
                    pieces,
                    count,
                    opens,
                    header,
                    query,
                    txn,
                    replay,
                });
            }
        }
        Ok(())
    }

    /// Refuses what would leave tables that were copied at several moments with rows that are not
    /// the source's.
    fn refuse_amid_copy(
        &self,
        ddl: &ddl::Ddl,
        pieces: &[Piece],
        txn: &TxnId,
        sql: &str,
    ) -> Result<()> {
        let mut names = pieces.iter().flat_map(|piece| &piece.sources);
        if names.any(|(_, name)| name.table.is_empty() && self.tables.has_of(name, txn))
            && ddl
                .pieces
                .iter()
                .any(|piece| piece.kind == Kind::DropDatabase)
        {
            let what = "a schema that was dropped while its tables were being copied";
            return Err(refuse(sql, what));
        }
        if is_half_done(pieces, |name| self.tables.has(name, txn)) {
            let what = "giving tables other names of which only some were copied since";
            return Err(refuse(sql, what).with_workaround(ANEW));
        }
        let without = || format!("Exclude the table (`block-allow-list`). {ANEW}");
        if moved(ddl).any(|name| self.tables.is_around(name, txn)) {
            let what = "giving another name to a table amid whose copy that was done, or \
                        its name to another table,";
            return Err(refuse(sql, what).with_workaround(without()));
        }
        let mut across = moved_across(ddl, self.tables.rules());
        if across.any(|name| self.tables.is_amid(name, txn)) {
            let what = "moving rows between a table and one that the task excludes, or \
                        giving one the name of the other, amid the copy of the table";
            return Err(refuse(sql, what).with_workaround(without()));
        }
        let is_written = |piece: &Piece| {
            // No row says what comes or goes with another name or partition.
            let any = piece.sources.iter().any(|(role, _)| is_other(*role));
            let mut names = piece.sources.iter().map(|(_, name)| name);
            names.any(|name| {
                self.tables.counts(name, txn) == Counts::Keyed
                    && (any || self.tables.may_have_counted(name))
            })
        };
        if (pieces.iter()).any(|piece| changes(piece.kind) && is_written(piece)) {
            let what = "changing one of several tables that go into one, of which only \
                        some were copied since,";
            return Err(refuse(sql, what).with_workaround(ANEW));
        }
        Ok(())
    }

    /// Tells of a statement about something that is not replicated, in a schema that is.
    fn left_out(&self, kind: &str, name: Option<&TableName>, header: &Header) {
        let filter = &self.tables.rules().filter;
        if let Some(name) = name
            && filter.allows(&TableName::new(&*name.schema, ""))
        {
            let end = self.cursor.end_of(header);
            warn!(
                kind,
                %name,
                %end,
                "a statement about it is not replicated: repeat it in the target, if it is wanted"
            );
        }
    }

    /// A statement is over that changes nothing in the target: if it stands alone, so is its group.
    fn end_statement(&mut self, header: &Header) {
        if !self.cursor.is_begun() {
            self.commit(header);
        }
    }

    /// Runs the statement that everything was drained for.
    pub(super) async fn run_ddl(&mut self, barrier: Barrier) -> Result<(), Failure> {
        let Barrier {
            pieces,
            count,
            opens,
            header,
            query,
            txn,
            replay,
        } = barrier;
        let start = self.planner.location().clone();
        let mut end = start.clone();
        end.position = self.cursor.end_of(&header);
        if let (Some(gtids), Some(gtid)) = (&mut end.gtids, &txn.gtid) {
            gtids.add(gtid);
        }
        let Some(done) = self.planner.pieces_done(&txn) else {
            let sql = String::from_utf8_lossy(&query.sql);
            return Err(Failure::Other(self.locate(
                unfiltered(),
                &header,
                Some(&sql),
            )));
        };
        let last = pieces.last().map(|piece| piece.ordinal);
        for piece in pieces {
            if piece.ordinal < done && Guard::DdlPieces.holds() {
                continue;
            }
            let after = if !opens && Some(piece.ordinal) == last {
                Progress::at(end.clone())
            } else {
                Progress {
                    boundary: start.clone(),
                    txn: Some(txn.clone()),
                    rows: piece.ordinal + 1,
                }
            };
            let server = query.vars.charset.map(|ids| ids[2]);
            let collations = &self.tables.rules().collations;
            let is_named = |id: &u16| piece.kind == Kind::CreateDatabase && collations.knows(*id);
            let ddl = Ddl {
                collation_server: server.filter(|id| !is_named(id)),
                schema: None,
                piece,
                timestamp: header.timestamp,
                time_zone: query.vars.time_zone.clone(),
                sql_mode: query.vars.sql_mode,
                after,
                replay,
            };
            if let Err(refused) = self.execute(&ddl).await {
                let sql = String::from_utf8_lossy(&query.sql).into_owned();
                return Err(refused.map(|error| self.locate(error, &header, Some(&sql))));
            }
            self.facts.metrics.finished_ddl();
            self.planner.barrier(&ddl.after);
        }
        self.tables.forget();
        if opens {
            // Its pieces count like rows, and come before them.
            self.open(&header)?;
            self.planner.skip_rows(count);
        } else {
            self.commit(&header);
        }
        self.checkpoint().await
    }

    async fn execute(&self, ddl: &Ddl) -> Result<(), Failure> {
        Err(match self.target.ddl(ddl).await {
            Applied::Done => return Ok(()),
            Applied::Failed { error, .. } => Failure::Other(error),
            Applied::Fenced(error) => Failure::Fenced(error),
            // The next run settles the intent.
            Applied::Unknown(error) | Applied::Moved(error) => Failure::Lost(error),
        })
    }
}

/// Whether a statement does something to the rows of a table that was there before, or to what they
/// consist of.
const fn changes(kind: Kind) -> bool {
    matches!(
        kind,
        Kind::AlterTable | Kind::DropTable | Kind::RenameTable | Kind::TruncateTable
    )
}

/// Whether a statement moves rows between tables some of which have what it did, and some not:
/// what is in them would get lost.
fn is_half_done(pieces: &[Piece], has: impl Fn(&TableName) -> bool) -> bool {
    let moves = |piece: &&Piece| piece.sources.iter().any(|(role, _)| is_other(*role));
    let names = pieces.iter().filter(moves).flat_map(|it| &it.sources);
    let (done, left): (Vec<_>, Vec<_>) = names.partition(|(_, name)| has(name));
    !done.is_empty() && !left.is_empty()
}

/// The tables that a statement moves rows between, also where rules leave some of them out.
fn moved(ddl: &ddl::Ddl) -> impl Iterator<Item = &TableName> {
    let drafts = ddl.pieces.iter().filter(|draft| moves(draft));
    drafts.flat_map(|it| &it.names).map(|name| &name.name)
}

/// Those of them that are wanted, where the other one is left out.
fn moved_across<'a>(ddl: &'a ddl::Ddl, rules: &Rules) -> impl Iterator<Item = &'a TableName> {
    let across = |draft: &'a Draft| {
        let names = draft.names.iter().map(|name| &name.name);
        let (mut wanted, out): (Vec<_>, Vec<_>) = names.partition(|name| !is_excluded(rules, name));
        wanted.retain(|_| !out.is_empty());
        wanted
    };
    let drafts = ddl.pieces.iter().filter(|draft| moves(draft));
    drafts.flat_map(across)
}

fn moves(draft: &Draft) -> bool {
    draft.names.iter().any(|name| is_other(name.role))
}

/// Whether rows go to or from a table in this role.
const fn is_other(role: Role) -> bool {
    matches!(role, Role::NewName | Role::Partner)
}

/// A DDL that was filtered out when some slots passed it, and is not any more.
fn unfiltered() -> Error {
    Error::new(
        &code::SYNCER_PROGRESS_INVALID,
        "parts of the task are behind this statement already, which was filtered out then",
    )
    .with_workaround(
        "Start the task with its former `block-allow-list` and routes, and let it stop in order \
         before they are changed: then all of it is at one place.",
    )
}

/// What is not supported yet is refused where it stands in the binlog, before anything is lost.
pub(super) fn refuse(sql: &str, what: &str) -> Error {
    Error::new(
        &code::SYNCER_UNSUPPORTED_STMT,
        format!("{what} is not supported yet: {sql}"),
    )
    .with_workaround(
        "Make the change in the target by hand, then start the task behind it: set `meta` to \
             the end location in this message and remove the task's checkpoint.",
    )
}

#[cfg(test)]
mod tests {
    use dm_core::control::SubtaskConfig;

    use super::*;

    fn is_refused(sql: &str, copied_later: &[&str]) -> bool {
        let context = Context {
            schema: "d",
            sql_mode: 0,
            lower_case_names: false,
        };
        let Statement::Ddl(ddl) = classify(sql, context).unwrap() else {
            panic!("{sql}");
        };
        let pieces = Rules::new(&SubtaskConfig::default())
            .unwrap()
            .apply(&ddl)
            .unwrap();
        let has = |name: &TableName| copied_later.contains(&&*name.table);
        is_half_done(&pieces, has)
    }

    /// `t` was copied behind the swap, its former rows are gone.
    #[test]
    fn names_change_for_all_tables_or_for_none() {
        let swap = "RENAME TABLE t TO old, new TO t";
        for (later, refused) in [
            (&[][..], false),
            (&["t"], true),
            (&["t", "new"], true),
            (&["t", "old", "new"], false),
            (&["other"], false),
        ] {
            assert_eq!(is_refused(swap, later), refused, "{later:?}");
        }
        assert!(is_refused("ALTER TABLE t RENAME TO u", &["t"]));
        let exchange = "ALTER TABLE t EXCHANGE PARTITION p WITH TABLE u";
        assert!(is_refused(exchange, &["u"]));
        // These are left out, or run, one by one.
        for sql in [
            "DROP TABLE t, u",
            "CREATE TABLE u LIKE t",
            "ALTER TABLE t ADD c INT",
        ] {
            assert!(!is_refused(sql, &["t"]), "{sql}");
        }
    }
}
