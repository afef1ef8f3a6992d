//! Statements in the binlog: what they are, which names they contain, and their target text.
//!
//! A statement is understood as far as is needed to find the names of schemas and tables in it.
//! Everything else is carried over to the byte, so that no grammar stands between what the source
//! executed and what the target is asked to do. What is not recognised is refused, never guessed.

mod collation;
mod definition;
mod lexer;
mod online;
mod parser;
mod resolve;

use alloc::{string::String, vec::Vec};
use core::fmt::Write;

pub use collation::{Collation, Collations};
pub use definition::{columns_by_position, json_without_key};
pub use online::{Class, OnlineDdl};
pub use parser::classify;
pub use resolve::{Piece, Rules};

use super::schema::TableName;

/// What a statement's meaning depends on besides its text.
#[derive(Clone, Copy, Debug, Default)]
pub struct Context<'a> {
    /// The default schema of the session; may be empty.
    pub schema: &'a str,
    /// `sql_mode` of the session, as the bits in the event.
    pub sql_mode: u64,
    /// Whether the source keeps names in lower case (`lower_case_table_names` is not 0).
    pub lower_case_names: bool,
}

/// A statement of the binlog.
#[derive(Clone, Debug, PartialEq)]
pub enum Statement {
    /// Begins a transaction.
    Begin,
    /// Commits one, as an XID event does.
    Commit,
    /// Rolls one back that nevertheless changed a table without transactions.
    Rollback,
    /// Sets or releases a savepoint.
    Savepoint,
    /// Goes back to a savepoint, which the source writes down where the rows behind it count in a
    /// table without transactions.
    RollbackTo,
    /// Part of a distributed transaction.
    Xa(Xa),
    /// Nothing that a target must do, such as what concerns users.
    Skipped,
    /// Makes, changes or drops what is not replicated: its kind (`view`), and the first name.
    Object(&'static str, Option<TableName>),
    /// Changes rows, as text: the source does not log rows. The table, where it is the only one
    /// that can be meant.
    Rows(Option<TableName>),
    /// Changes a schema, a table or a sequence.
    Ddl(Ddl),
}

/// Which part of a distributed transaction.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Xa {
    /// `XA START` or `XA BEGIN`.
    Start,
    /// `XA END`.
    End,
    /// `XA PREPARE`.
    Prepare,
    /// `XA COMMIT`.
    Commit,
    /// `XA ROLLBACK`.
    Rollback,
}

/// A statement that changes definitions, cut into pieces that each do one thing.
#[derive(Clone, Debug, PartialEq)]
pub struct Ddl {
    /// The pieces in order; at least one.
    pub pieces: Vec<Draft>,
    /// `CREATE TABLE … SELECT` of MySQL 8: rows follow in the same transaction, which begins here
    /// although no `BEGIN` says so.
    pub rows_follow: bool,
}

/// One piece of a statement, under the names that the source knows.
#[derive(Clone, Debug, PartialEq)]
pub struct Draft {
    /// What it does.
    pub kind: Kind,
    /// The names in it, in order.
    pub names: Vec<Name>,
    /// Whether it exchanges things, so that all names may be there afterwards as before and
    /// executing it again would undo it: `EXCHANGE PARTITION`, and columns or tables of which each
    /// gives its name to another.
    pub swaps: bool,
    parts: Vec<Part>,
}

impl Draft {
    /// The text with other names, one for each of [`Draft::names`].
    ///
    /// # Panics
    /// If there are fewer targets than names.
    pub fn rewrite(&self, targets: &[TableName]) -> String {
        self.rewrite_collated(targets, &Collations::default())
    }

    /// The same, with a collation wherever it creates something with a character set and none, or
    /// a schema with neither.
    ///
    /// # Panics
    /// If there are fewer targets than names.
    pub fn rewrite_collated(&self, targets: &[TableName], collations: &Collations) -> String {
        let mut text = String::new();
        let mut parts = self.parts.iter().peekable();
        while let Some(part) = parts.next() {
            match part {
                Part::Text(part) => text.push_str(part),
                // Writing to a `String` never fails.
                Part::Name(index) => drop(write!(text, "{}", targets[*index])),
                Part::Charset(charset) => {
                    if let Some(collation) = collations.of(charset.as_deref()) {
                        text.push_str(" COLLATE ");
                        text.push_str(collation);
                        // Behind a name in quotes a word may follow at once.
                        if let Some(Part::Text(next)) = parts.peek()
                            && next.starts_with(|c: char| {
                                !c.is_ascii_whitespace() && !",);".contains(c)
                            })
                        {
                            text.push(' ');
                        }
                    }
                }
            }
        }
        text
    }
}

#[derive(Clone, Debug, PartialEq)]
enum Part {
    Text(String),
    Name(usize),
    /// Where a collation is missing: behind the name of a character set, or without one behind the
    /// name of a schema.
    Charset(Option<String>),
}

/// A schema or a table that a statement names.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Name {
    /// What the statement does to it.
    pub role: Role,
    /// In full; a schema has no table.
    pub name: TableName,
}

/// What a statement does to what it names.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Role {
    /// Acts on it.
    Subject,
    /// Gives this name to the subject.
    NewName,
    /// Only reads its definition (`LIKE`).
    Model,
    /// Moves rows between it and a partition of the subject.
    Partner,
}

/// What a piece does.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
#[expect(missing_docs, reason = "the names are those of the statements")]
pub enum Kind {
    CreateDatabase,
    AlterDatabase,
    DropDatabase,
    CreateTable,
    AlterTable,
    DropTable,
    RenameTable,
    TruncateTable,
    CreateIndex,
    DropIndex,
    CreateSequence,
    AlterSequence,
    DropSequence,
}

/// Whether an error of the target means that a statement which may have run before did run.
///
/// Ask only for such a replay: when a statement runs for the first time, the same error means that
/// the target is not what it should be. "Unknown column" (1054) is never among them, because a
/// statement that names a column which never existed says the same; nor is any error that an
/// `ALTER TABLE` of several parts could give after having been wrong from the start in another one.
pub fn ignorable(kind: Kind, errno: u16) -> bool {
    match kind {
        Kind::CreateDatabase => errno == 1007,
        Kind::DropDatabase => errno == 1008,
        Kind::CreateTable | Kind::CreateSequence => errno == 1050,
        Kind::DropTable | Kind::DropSequence => matches!(errno, 1051 | 4091),
        // Duplicate key name.
        Kind::CreateIndex => errno == 1061,
        // No such key.
        Kind::DropIndex => matches!(errno, 1091 | 1176),
        // Duplicate column, duplicate key name, second primary key, nothing to drop, no such key,
        // no such partition, duplicate partition, duplicate index.
        Kind::AlterTable => {
            matches!(errno, 1060 | 1061 | 1068 | 1091 | 1176 | 1507 | 1517 | 1831)
        }
        // A rename is judged by looking at both names; the rest can be repeated.
        Kind::RenameTable | Kind::AlterDatabase | Kind::TruncateTable | Kind::AlterSequence => {
            false
        }
    }
}

#[cfg(test)]
mod tests;
