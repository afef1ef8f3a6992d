//! The recogniser of statements.

mod attributes;
mod cursor;

use alloc::{format, string::String, vec::Vec};
use core::ops::Range;

use attributes::Attributes;
use cursor::{Cursor, Patch};

use super::{Context, Ddl, Draft, Kind, Name, Part, Role, Statement, Xa, lexer};
use crate::error::{Error, Result, code};

/// How much of a statement an error shows, in characters.
const SHOWN_CHARS_MAX: usize = 1000;

/// Recognises a statement.
///
/// # Errors
/// The statement is none that the worker knows, or not as the source could have executed it.
pub fn classify(sql: &str, context: Context<'_>) -> Result<Statement> {
    let sql = sql.trim_matches(|c: char| c.is_whitespace() || c.is_control());
    statement(&mut Cursor::new(sql, context)).map_err(|why| {
        let mut shown: String = sql.chars().take(SHOWN_CHARS_MAX).collect();
        if shown.len() < sql.len() {
            shown.push('…');
        }
        let error = Error::new(&code::SYNCER_PARSE_DDL, format!("parse DDL: {shown}"));
        error.with_cause(why).with_workaround(
            "If the target does not need this statement, exclude its table with the \
             `block-allow-list`. Otherwise make the change to the target by hand and start the \
             task behind the statement.",
        )
    })
}

/// Why a statement was not recognised.
type Parse<T> = core::result::Result<T, &'static str>;

fn statement(at: &mut Cursor<'_>) -> Parse<Statement> {
    if at.peek().is_none() && at.broken().is_none() {
        return Ok(Statement::Skipped);
    }
    let Some(verb) = at.word() else {
        return Err("it does not begin with a keyword");
    };
    let verb = verb.to_ascii_uppercase();
    match verb.as_str() {
        "BEGIN" => Ok(Statement::Begin),
        "START" if at.take("TRANSACTION") => Ok(Statement::Begin),
        "COMMIT" => Ok(Statement::Commit),
        "ROLLBACK" => {
            at.take("WORK");
            Ok(if at.take("TO") {
                Statement::RollbackTo
            } else {
                Statement::Rollback
            })
        }
        "SAVEPOINT" | "RELEASE" => Ok(Statement::Savepoint),
        "XA" => xa(at).map(Statement::Xa),
        "SET" if at.is("STATEMENT") => set_statement(at),
        "SET" | "FLUSH" | "ANALYZE" | "OPTIMIZE" | "REPAIR" | "CHECK" | "CHECKSUM" | "GRANT"
        | "REVOKE" | "INSTALL" | "UNINSTALL" | "USE" | "DO" | "LOCK" | "UNLOCK" | "RESET"
        | "CACHE" | "KILL" | "PURGE" | "SHUTDOWN" => Ok(Statement::Skipped),
        "INSERT" | "REPLACE" | "UPDATE" | "DELETE" | "LOAD" | "WITH" | "SELECT" | "CALL" => {
            Ok(rows(&verb, at))
        }
        "CREATE" => create(at),
        "ALTER" => alter(at),
        "DROP" => drop_object(at),
        "RENAME" => rename(at),
        "TRUNCATE" => {
            at.take("TABLE");
            at.name(Role::Subject)?;
            single(at, Kind::TruncateTable)
        }
        _ => Err("it begins with a keyword that is not known"),
    }
}

fn xa(at: &mut Cursor<'_>) -> Parse<Xa> {
    let word = at.word().unwrap_or_default();
    match word.to_ascii_uppercase().as_str() {
        "START" | "BEGIN" => Ok(Xa::Start),
        "END" => Ok(Xa::End),
        "PREPARE" => Ok(Xa::Prepare),
        "COMMIT" => Ok(Xa::Commit),
        "ROLLBACK" => Ok(Xa::Rollback),
        _ => Err("it is no part of a distributed transaction that is known"),
    }
}

/// MariaDB's `SET STATEMENT variable = value FOR …`: the variables are the source's business.
fn set_statement(at: &mut Cursor<'_>) -> Parse<Statement> {
    let mut depth = 0;
    loop {
        let ahead = depth == 0 && at.take("FOR");
        if at.peek().is_none() {
            return Err("there is no statement after its variables");
        }
        if ahead {
            at.cut_before();
            return statement(at);
        }
        depth += at.bracket();
        at.next();
    }
}

/// A statement that changes rows. The table is only needed to tell whether it is replicated at all,
/// so it is given only by forms that have a single one.
fn rows(verb: &str, at: &mut Cursor<'_>) -> Statement {
    let before: &[&str] = match verb {
        "INSERT" | "REPLACE" => &["LOW_PRIORITY", "DELAYED", "HIGH_PRIORITY", "IGNORE", "INTO"],
        "UPDATE" => &["LOW_PRIORITY", "IGNORE"],
        "DELETE" => &["LOW_PRIORITY", "QUICK", "IGNORE"],
        "LOAD" => {
            while at.next().is_some() && !at.is("TABLE") {}
            &["TABLE"]
        }
        _ => return Statement::Rows(None),
    };
    while before.iter().any(|word| at.take(word)) {}
    if verb == "DELETE" && !at.take("FROM") {
        return Statement::Rows(None);
    }
    let name = at
        .name(Role::Subject)
        .ok()
        .and_then(|index| at.names.get(index));
    let name = name.map(|name| name.name.clone());
    let ends: &[&str] = match verb {
        "UPDATE" => &["SET"],
        "DELETE" => &["WHERE", "ORDER", "LIMIT", "RETURNING"],
        _ => return Statement::Rows(name),
    };
    let is_end = |at: &Cursor<'_>| match at.peek() {
        None => verb == "DELETE",
        Some(_) => ends.iter().any(|word| at.is(word)),
    };
    if !is_end(at) {
        at.take("AS");
        at.ident();
    }
    Statement::Rows(name.filter(|_| is_end(at)))
}

fn create(at: &mut Cursor<'_>) -> Parse<Statement> {
    let modifiers = at.modifiers()?;
    let object = at.word().unwrap_or_default().to_ascii_uppercase();
    match object.as_str() {
        "DATABASE" | "SCHEMA" => {
            at.force_if(true);
            at.schema()?;
            schema_options(at);
            replaceable(
                at,
                modifiers.or_replace,
                Kind::CreateDatabase,
                "DROP DATABASE IF EXISTS ",
            )
        }
        "TABLE" if modifiers.temporary => Ok(Statement::Skipped),
        "TABLE" => {
            at.force_if(true);
            at.name(Role::Subject)?;
            let rows_follow = table_definition(at)?;
            let kind = Kind::CreateTable;
            let created = replaceable(at, modifiers.or_replace, kind, "DROP TABLE IF EXISTS ")?;
            Ok(match created {
                Statement::Ddl(ddl) => Statement::Ddl(Ddl { rows_follow, ..ddl }),
                other => other,
            })
        }
        "INDEX" => {
            if let Some(span) = modifiers.or_replace {
                at.patch(span, Patch::Text("/*M! OR REPLACE */"));
            }
            at.soften_if();
            at.ident().ok_or("an index name is missing")?;
            if at.take("USING") || at.take("TYPE") {
                at.next();
            }
            on_table(at, Kind::CreateIndex)
        }
        "SEQUENCE" => {
            at.skip_if();
            at.name(Role::Subject)?;
            single(at, Kind::CreateSequence)
        }
        _ => other_object(at, &object),
    }
}

fn alter(at: &mut Cursor<'_>) -> Parse<Statement> {
    at.modifiers()?;
    let object = at.word().unwrap_or_default().to_ascii_uppercase();
    match object.as_str() {
        "DATABASE" | "SCHEMA" => {
            const OPTIONS: [&str; 8] = [
                "DEFAULT",
                "CHARACTER",
                "CHARSET",
                "COLLATE",
                "ENCRYPTION",
                "READ",
                "COMMENT",
                "SET",
            ];
            if OPTIONS.iter().any(|option| at.is(option)) {
                at.insert_default_schema()?;
            } else {
                at.schema()?;
            }
            single(at, Kind::AlterDatabase)
        }
        "TABLE" => {
            at.soften_if();
            at.name(Role::Subject)?;
            alter_specs(at)?;
            single(at, Kind::AlterTable)
        }
        "SEQUENCE" => {
            at.skip_if();
            at.name(Role::Subject)?;
            single(at, Kind::AlterSequence)
        }
        _ => other_object(at, &object),
    }
}

fn drop_object(at: &mut Cursor<'_>) -> Parse<Statement> {
    let modifiers = at.modifiers()?;
    let object = at.word().unwrap_or_default().to_ascii_uppercase();
    match object.as_str() {
        "DATABASE" | "SCHEMA" => {
            at.force_if(false);
            at.schema()?;
            single(at, Kind::DropDatabase)
        }
        "TABLE" | "TABLES" if modifiers.temporary => Ok(Statement::Skipped),
        "TABLE" | "TABLES" => {
            at.force_if(false);
            list(at, Kind::DropTable, |at| at.name(Role::Subject).map(drop))
        }
        "INDEX" => {
            if !at.soften_if() {
                at.insert(cursor::SOFT_IF_EXISTS);
            }
            at.ident().ok_or("an index name is missing")?;
            on_table(at, Kind::DropIndex)
        }
        "SEQUENCE" => {
            at.skip_if();
            list(at, Kind::DropSequence, |at| {
                at.name(Role::Subject).map(drop)
            })
        }
        _ => other_object(at, &object),
    }
}

fn rename(at: &mut Cursor<'_>) -> Parse<Statement> {
    if at.take("USER") {
        return Ok(Statement::Skipped);
    }
    if !at.take("TABLE") && !at.take("TABLES") {
        return Err("it renames neither tables nor users");
    }
    at.soften_if();
    let renamed = list(at, Kind::RenameTable, |at| {
        at.name(Role::Subject)?;
        at.skip_wait();
        if !at.take("TO") {
            return Err("`TO` is missing");
        }
        at.name(Role::NewName).map(drop)
    })?;
    let Statement::Ddl(mut ddl) = renamed else {
        return Err("it renames nothing");
    };
    let names = |role| at.names.iter().filter(move |name| name.role == role);
    let is_taken = |old: &Name| names(Role::NewName).any(|new| new.name == old.name);
    let swaps = names(Role::Subject).all(is_taken);
    for piece in &mut ddl.pieces {
        piece.swaps = swaps;
    }
    Ok(Statement::Ddl(ddl))
}

/// Objects of the server that a target of rows does not need.
fn other_object(at: &mut Cursor<'_>, object: &str) -> Parse<Statement> {
    let kind = match object {
        "VIEW" => "view",
        "TRIGGER" => "trigger",
        "PROCEDURE" => "procedure",
        "FUNCTION" => "function",
        "EVENT" => "event",
        "PACKAGE" => {
            at.take("BODY");
            "package"
        }
        "USER" | "ROLE" | "TABLESPACE" | "SERVER" | "LOGFILE" | "RESOURCE" | "REFERENCE"
        | "INSTANCE" | "PREPARE" | "LIBRARY" => return Ok(Statement::Skipped),
        _ => return Err("it acts on a kind of object that is not known"),
    };
    at.skip_if();
    // A function of the server's own files has no schema, and is nobody's to replicate either.
    let name = at.name(Role::Subject).ok();
    let name = name.and_then(|index| at.names.get(index));
    Ok(Statement::Object(kind, name.map(|name| name.name.clone())))
}

fn on_table(at: &mut Cursor<'_>, kind: Kind) -> Parse<Statement> {
    if !at.take("ON") {
        return Err("`ON` is missing");
    }
    at.name(Role::Subject)?;
    single(at, kind)
}

/// Looks through the rest of a `CREATE DATABASE`.
fn schema_options(at: &mut Cursor<'_>) {
    let name_end = at.last_end();
    let mut schema = Attributes::default();
    while at.peek().is_some() {
        if !schema.take(at) {
            at.next();
        }
    }
    schema.end_of_schema(at, name_end);
}

/// Looks through the rest of a `CREATE TABLE`; says whether rows follow in the same transaction.
fn table_definition(at: &mut Cursor<'_>) -> Parse<bool> {
    let in_brackets = at.symbol('(') && at.is_at(1, "LIKE");
    if in_brackets {
        at.next();
    }
    if at.take("LIKE") {
        at.name(Role::Model)?;
        return Ok(false);
    }
    let mut depth = 0;
    let mut rows_follow = false;
    // Of the table, and of the column that is being defined.
    let (mut table, mut column) = (Attributes::default(), Attributes::default());
    while at.peek().is_some() {
        if at.is("SELECT") || (depth == 0 && at.is("AS")) {
            return Err("tables are created from a query only where `binlog_format` is not ROW");
        }
        if depth == 0 && at.is("START") && at.is_at(1, "TRANSACTION") {
            at.remove(2);
            rows_follow = true;
            continue;
        }
        let is_taken = match depth {
            0 => table.take(at),
            1 => column.take(at),
            _ => false,
        };
        if is_taken {
            continue;
        }
        let bracket = at.bracket();
        depth += bracket;
        let ends = depth == 0 && bracket < 0 || depth == 1 && at.symbol(',');
        at.next();
        if ends {
            core::mem::take(&mut column).end(at);
        }
        if depth == 1 && (ends || bracket > 0) && !at.is("SELECT") {
            // What it is called is none of its attributes.
            at.ident();
        }
    }
    table.end(at);
    Ok(rows_follow)
}

/// Looks through the changes of an `ALTER TABLE` for names of other tables.
fn alter_specs(at: &mut Cursor<'_>) -> Parse<()> {
    at.skip_wait();
    let mut depth = 0;
    let mut at_start = true;
    let mut renamed = Vec::new();
    while at.peek().is_some() {
        if depth == 0 {
            if at_start && (at.is("DISCARD") || at.is("IMPORT")) {
                return Err("it exchanges files of the server, which the target does not have");
            }
            if at_start && at.take("CHANGE") {
                at.take("COLUMN");
                renamed.extend(renamed_column(at));
            } else if at_start && at.take("RENAME") {
                if at.take("COLUMN") {
                    renamed.extend(renamed_column(at));
                } else if !at.is("INDEX") && !at.is("KEY") {
                    if !at.take("TO") && !at.take("AS") && at.symbol('=') {
                        at.next();
                    }
                    at.name(Role::NewName)?;
                }
            } else if at_start && at.take("EXCHANGE") {
                at.swaps = true;
                partner(at)?;
            } else if at_start && at.take("CONVERT") {
                partner(at)?;
            }
            at.soften_if();
            at_start = at.symbol(',');
        }
        depth += at.bracket();
        at.next();
    }
    // A name that is gone afterwards shows that the statement ran; one that another column, or a
    // new one, may have taken does not.
    at.swaps |= !renamed.is_empty() && renamed.iter().all(|name| at.repeats(name));
    Ok(())
}

/// `a b …` or `a TO b`: the name that a column loses, if it does.
fn renamed_column(at: &mut Cursor<'_>) -> Option<String> {
    at.soften_if();
    let (old, _) = at.ident()?;
    at.take("TO");
    let (new, _) = at.ident()?;
    (old.to_lowercase() != new.to_lowercase()).then_some(old)
}

/// `EXCHANGE PARTITION p WITH TABLE t`, `CONVERT PARTITION p TO TABLE t`, `CONVERT TABLE t TO …`.
fn partner(at: &mut Cursor<'_>) -> Parse<()> {
    let mut depth = 0;
    while at.peek().is_some() && !(depth == 0 && at.symbol(',')) {
        // `CONVERT TO CHARACTER SET` has no table in it.
        if depth == 0 && at.take("TABLE") {
            at.name(Role::Partner)?;
            return Ok(());
        }
        depth += at.bracket();
        at.next();
    }
    Ok(())
}

/// A statement with one effect.
fn single(at: &mut Cursor<'_>, kind: Kind) -> Parse<Statement> {
    let end = at.finish()?;
    let pieces = alloc::vec![draft(at, kind, core::slice::from_ref(&(0..end)))];
    Ok(Statement::Ddl(Ddl {
        pieces,
        rows_follow: false,
    }))
}

/// MariaDB's `CREATE OR REPLACE`, which no other server has, as a drop and a creation.
fn replaceable(
    at: &mut Cursor<'_>,
    or_replace: Option<Range<usize>>,
    kind: Kind,
    dropping: &str,
) -> Parse<Statement> {
    let replaces = or_replace.is_some();
    if let Some(span) = or_replace {
        at.patch(span, Patch::Text(""));
    }
    let Statement::Ddl(mut ddl) = single(at, kind)? else {
        return Err("it is not a definition");
    };
    if replaces {
        let dropped = Draft {
            kind: if kind == Kind::CreateTable {
                Kind::DropTable
            } else {
                Kind::DropDatabase
            },
            names: at.names[..1].to_vec(),
            swaps: false,
            parts: alloc::vec![Part::Text(dropping.into()), Part::Name(0)],
        };
        ddl.pieces.insert(0, dropped);
    }
    Ok(Statement::Ddl(ddl))
}

/// A statement with a list of effects: what stands around the list goes with each of them.
fn list(
    at: &mut Cursor<'_>,
    kind: Kind,
    item: impl Fn(&mut Cursor<'_>) -> Parse<()>,
) -> Parse<Statement> {
    // A list may begin or end inside an executed comment, so their limits cannot stay.
    at.remove_markers();
    let mut items: Vec<Range<usize>> = Vec::new();
    loop {
        let start = at.offset();
        item(at)?;
        items.push(start..at.last_end());
        if !at.symbol(',') {
            break;
        }
        at.next();
    }
    let end = at.finish()?;
    let (Some(first), Some(last)) = (items.first(), items.last()) else {
        return Err("a name is missing");
    };
    let (head, tail) = (0..first.start, last.end..end);
    let pieces = items
        .iter()
        .map(|item| draft(at, kind, &[head.clone(), item.clone(), tail.clone()]))
        .collect();
    Ok(Statement::Ddl(Ddl {
        pieces,
        rows_follow: false,
    }))
}

/// The piece made of some stretches of the statement, patched.
fn draft(at: &Cursor<'_>, kind: Kind, stretches: &[Range<usize>]) -> Draft {
    let mut names = Vec::new();
    let mut parts = Vec::new();
    let mut text = String::new();
    for stretch in stretches {
        let mut from = stretch.start;
        for (span, patch) in &at.patches {
            // What is inserted between two stretches belongs to the first one.
            let inside = if span.is_empty() {
                stretch.start < span.start && span.start <= stretch.end
            } else {
                from <= span.start && span.end <= stretch.end
            };
            if !inside {
                continue;
            }
            text.push_str(&at.sql[from..span.start]);
            from = span.end;
            match patch {
                Patch::Text(patch) => text.push_str(patch),
                Patch::Name(index) => {
                    parts.push(Part::Text(core::mem::take(&mut text)));
                    parts.push(Part::Name(names.len()));
                    names.push(at.names[*index].clone());
                }
                Patch::Charset(index) => {
                    parts.push(Part::Text(core::mem::take(&mut text)));
                    parts.push(Part::Charset(at.charsets[*index].clone()));
                }
            }
        }
        text.push_str(&at.sql[from..stretch.end]);
    }
    parts.push(Part::Text(text));
    if let Some(Part::Text(first)) = parts.first_mut() {
        *first = first.trim_start().into();
    }
    if let Some(Part::Text(last)) = parts.last_mut() {
        last.truncate(last.trim_end().len());
    }
    Draft {
        kind,
        names,
        swaps: at.swaps,
        parts,
    }
}
