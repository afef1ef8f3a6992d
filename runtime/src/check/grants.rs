//! What a user may do, read from the answer to `SHOW GRANTS`.

use std::{collections::BTreeSet, iter::Peekable, str::Chars};

use dm_core::sync::schema::TableName;

/// All that a user has been granted, that of its active roles included.
#[derive(Clone, Debug, Default, PartialEq)]
pub(super) struct Grants {
    granted: Vec<Entry>,
    /// Taken back from what was granted everywhere (`partial_revokes`).
    revoked: Vec<Entry>,
    /// Roles that the user has, active or not.
    pub(super) roles: Vec<String>,
    /// How names of schemas are to be read.
    names: Names,
}

/// How names of schemas are to be read.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub(super) struct Names {
    /// Whether letter case makes no difference.
    pub(super) any_case: bool,
    /// Whether `_` and `%` stand for themselves, as with `partial_revokes=ON`.
    pub(super) literal: bool,
}

#[derive(Clone, Debug, PartialEq)]
struct Entry {
    privileges: BTreeSet<String>,
    place: Place,
}

#[derive(Clone, Debug, PartialEq)]
enum Place {
    Everywhere,
    /// Schemas whose names match.
    Schema(String),
    Table(TableName),
}

/// Stands for every privilege that is not one of its own kind.
const ALL: [&str; 2] = ["ALL PRIVILEGES", "ALL"];

impl Grants {
    /// Reads the rows of the answer. What is about routines, columns or other users is passed over.
    pub(super) fn parse<'a>(rows: impl IntoIterator<Item = &'a str>, names: Names) -> Self {
        let mut found = Self {
            names,
            ..Self::default()
        };
        for row in rows {
            match statement(row) {
                Some(Statement::Grant(entry)) => found.granted.push(entry),
                Some(Statement::Revoke(entry)) => found.revoked.push(entry),
                Some(Statement::Roles(roles)) => found.roles.extend(roles),
                None => {}
            }
        }
        found
    }

    /// Whether a privilege counts for everything.
    pub(super) fn everywhere(&self, privilege: &str) -> bool {
        let mut granted = self.granted.iter();
        granted.any(|entry| entry.place == Place::Everywhere && entry.has(privilege))
    }

    /// Whether a privilege counts for all of a schema.
    pub(super) fn in_schema(&self, privilege: &str, schema: &str) -> bool {
        let covers = |entry: &Entry| entry.has(privilege) && self.covers(&entry.place, schema);
        self.granted.iter().any(covers)
            || self.everywhere(privilege) && !self.revoked.iter().any(covers)
    }

    /// Whether a privilege counts for a table.
    pub(super) fn on_table(&self, privilege: &str, name: &TableName) -> bool {
        let is_it = |entry: &Entry| match &entry.place {
            Place::Table(other) => {
                entry.has(privilege)
                    && self.same(&other.schema, &name.schema)
                    && self.same(&other.table, &name.table)
            }
            _ => false,
        };
        self.in_schema(privilege, &name.schema) || self.granted.iter().any(is_it)
    }

    /// Whether a place is all of the schema.
    fn covers(&self, place: &Place, schema: &str) -> bool {
        let Place::Schema(pattern) = place else {
            return false;
        };
        if self.names.literal {
            return self.same(pattern, schema);
        }
        if self.names.any_case {
            return matches(&pattern.to_lowercase(), &schema.to_lowercase());
        }
        matches(pattern, schema)
    }

    fn same(&self, a: &str, b: &str) -> bool {
        a == b || self.names.any_case && a.to_lowercase() == b.to_lowercase()
    }
}

impl Entry {
    fn has(&self, privilege: &str) -> bool {
        self.privileges.contains(privilege) || ALL.iter().any(|all| self.privileges.contains(*all))
    }
}

/// Whether a name matches, where `_` is any character, `%` any text, and `\` takes the meaning from
/// what is behind it.
fn matches(pattern: &str, name: &str) -> bool {
    let mut rest = pattern.chars();
    match rest.next() {
        None => name.is_empty(),
        Some('%') => {
            let ends = name.char_indices().map(|(at, _)| at).chain([name.len()]);
            let mut ends = ends.map(|at| &name[at..]);
            ends.any(|tail| matches(rest.as_str(), tail))
        }
        Some(first) => {
            let is_any = first == '_';
            let first = match first {
                '\\' => rest.next().unwrap_or('\\'),
                other => other,
            };
            let mut name = name.chars();
            let found = name.next();
            found.is_some_and(|found| is_any || found == first)
                && matches(rest.as_str(), name.as_str())
        }
    }
}

enum Statement {
    Grant(Entry),
    Revoke(Entry),
    Roles(Vec<String>),
}

/// What stands behind a privilege.
enum End {
    Comma,
    On,
    To,
}

/// A row of the answer; nothing for what does not matter here.
fn statement(row: &str) -> Option<Statement> {
    let mut tokens = Tokens(row.chars().peekable());
    let is_grant = match tokens.next()? {
        token if token.is("GRANT") => true,
        token if token.is("REVOKE") => false,
        _ => return None,
    };
    let (mut privileges, mut roles) = (BTreeSet::new(), Vec::new());
    loop {
        let (mut words, mut is_part) = (Vec::new(), false);
        let end = loop {
            match tokens.next()? {
                Token::Symbol('(') => {
                    // Columns: the rest of the table is somebody else's.
                    is_part = true;
                    while tokens.next()? != Token::Symbol(')') {}
                }
                token if token.is("ON") => break End::On,
                token if token.is("TO") => break End::To,
                Token::Word(word) => words.push(word.to_uppercase()),
                Token::Symbol(',') => break End::Comma,
                Token::Quoted(name) => roles.push(name),
                // The host of a role's name, which may be quoted.
                Token::Symbol('@') => drop(tokens.next()?),
                Token::Symbol(_) => {}
            }
        };
        if !is_part && !words.is_empty() {
            privileges.insert(words.join(" "));
        }
        match end {
            End::On => break,
            End::To if is_grant => return Some(Statement::Roles(roles)),
            End::To => return None,
            End::Comma => {}
        }
    }
    let place = place(&mut tokens)?;
    let entry = Entry { privileges, place };
    Some(if is_grant {
        Statement::Grant(entry)
    } else {
        Statement::Revoke(entry)
    })
}

/// `*.*`, `schema.*` or `schema.table`; nothing for a routine.
fn place(tokens: &mut Tokens<'_>) -> Option<Place> {
    let mut name = || match tokens.next()? {
        token if token.is("TABLE") => tokens.next(),
        token => Some(token),
    };
    let schema = name()?;
    if name()? != Token::Symbol('.') {
        return None;
    }
    let is_all = |token: &Token| *token == Token::Symbol('*');
    let table = name()?;
    let text = |token| match token {
        Token::Quoted(text) | Token::Word(text) => Some(text),
        Token::Symbol(_) => None,
    };
    Some(match (is_all(&schema), is_all(&table)) {
        (true, true) => Place::Everywhere,
        (false, true) => Place::Schema(text(schema)?),
        (false, false) => Place::Table(TableName::new(text(schema)?, text(table)?)),
        (true, false) => return None,
    })
}

#[derive(Debug, PartialEq)]
enum Token {
    Word(String),
    Quoted(String),
    Symbol(char),
}

impl Token {
    /// Whether it is this keyword.
    fn is(&self, keyword: &str) -> bool {
        matches!(self, Self::Word(word) if word.eq_ignore_ascii_case(keyword))
    }
}

struct Tokens<'a>(Peekable<Chars<'a>>);

impl Iterator for Tokens<'_> {
    type Item = Token;

    fn next(&mut self) -> Option<Token> {
        let chars = &mut self.0;
        while chars.next_if(|char| char.is_whitespace()).is_some() {}
        let first = chars.next()?;
        if matches!(first, '`' | '\'' | '"') {
            let mut text = String::new();
            loop {
                let char = chars.next()?;
                // Doubled inside.
                if char == first && chars.next_if_eq(&first).is_none() {
                    return Some(Token::Quoted(text));
                }
                text.push(char);
            }
        }
        let is_word = |char: &char| char.is_alphanumeric() || matches!(char, '_' | '$' | '-');
        if !is_word(&first) {
            return Some(Token::Symbol(first));
        }
        let mut word = first.to_string();
        while let Some(char) = chars.next_if(is_word) {
            word.push(char);
        }
        Some(Token::Word(word))
    }
}

#[cfg(test)]
mod tests;
