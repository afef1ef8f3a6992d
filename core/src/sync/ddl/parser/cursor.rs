//! A place in a statement, and what is noted on the way through it.

use alloc::{string::String, vec::Vec};
use core::ops::Range;

use super::{Context, Parse, Role, lexer};
use crate::sync::{
    ddl::{Name, lexer::Token},
    schema::TableName,
};

/// What replaces a stretch of the statement.
#[derive(Clone, Copy, Debug)]
pub(super) enum Patch {
    Text(&'static str),
    /// A name, by its index.
    Name(usize),
    /// A collation for a character set, by its index.
    Charset(usize),
}

/// Words between a verb and the object that it acts on.
#[derive(Debug, Default)]
pub(super) struct Modifiers {
    pub(super) or_replace: Option<Range<usize>>,
    pub(super) temporary: bool,
}

#[derive(Debug)]
pub(super) struct Cursor<'a> {
    pub(super) sql: &'a str,
    context: Context<'a>,
    cut: lexer::Tokens,
    at: usize,
    /// Where the statement ends, without what ends it.
    end: usize,
    /// The names found so far.
    pub(super) names: Vec<Name>,
    /// Character sets without collations; `None` for the server's.
    pub(super) charsets: Vec<Option<String>>,
    /// What is to be replaced, sorted by place.
    pub(super) patches: Vec<(Range<usize>, Patch)>,
    /// Whether it exchanges things.
    pub(super) swaps: bool,
}

impl<'a> Cursor<'a> {
    pub(super) fn new(sql: &'a str, context: Context<'a>) -> Self {
        let mut cut = lexer::cut(sql, context.sql_mode);
        let mut end = sql.len();
        if cut.broken.is_none() {
            while let Some(last) = cut.tokens.pop_if(|last| last.kind == SEMICOLON) {
                end = last.span.start;
            }
        }
        Self {
            sql,
            context,
            cut,
            at: 0,
            end,
            names: Vec::new(),
            charsets: Vec::new(),
            patches: Vec::new(),
            swaps: false,
        }
    }

    pub(super) fn broken(&self) -> Option<&'static str> {
        self.cut.broken
    }

    pub(super) fn peek(&self) -> Option<&Token> {
        self.cut.tokens.get(self.at)
    }

    pub(super) fn next(&mut self) -> Option<Token> {
        let token = self.peek().cloned();
        self.skip(1);
        token
    }

    fn skip(&mut self, tokens: usize) {
        self.at = (self.at + tokens).min(self.cut.tokens.len());
    }

    /// Whether a keyword comes next.
    pub(super) fn is(&self, word: &str) -> bool {
        self.is_at(0, word)
    }

    /// Whether a keyword comes after so many tokens.
    pub(super) fn is_at(&self, ahead: usize, word: &str) -> bool {
        self.cut.tokens.get(self.at + ahead).is_some_and(|token| {
            token.kind == lexer::Kind::Word
                && self.sql[token.span.clone()].eq_ignore_ascii_case(word)
        })
    }

    /// Moves over a keyword if it comes next.
    pub(super) fn take(&mut self, word: &str) -> bool {
        let found = self.is(word);
        self.at += usize::from(found);
        found
    }

    /// Whether a symbol comes next.
    pub(super) fn symbol(&self, symbol: char) -> bool {
        self.peek()
            .is_some_and(|token| token.kind == lexer::Kind::Symbol(symbol))
    }

    /// How much deeper the next token leads into brackets.
    pub(super) fn bracket(&self) -> i32 {
        i32::from(self.symbol('(')) - i32::from(self.symbol(')'))
    }

    /// Moves over a bare word.
    pub(super) fn word(&mut self) -> Option<&'a str> {
        let token = self
            .peek()
            .filter(|token| token.kind == lexer::Kind::Word)?;
        let word = &self.sql[token.span.clone()];
        self.at += 1;
        Some(word)
    }

    /// Moves over an identifier.
    pub(super) fn ident(&mut self) -> Option<(String, Range<usize>)> {
        let is_ident =
            |token: &&Token| matches!(token.kind, lexer::Kind::Word | lexer::Kind::Quoted);
        let span = self.peek().filter(is_ident)?.span.clone();
        self.at += 1;
        Some((lexer::unquote(&self.sql[span.clone()]).into_owned(), span))
    }

    /// Moves over an identifier or a string; its text without quotes, and where it ends.
    pub(super) fn value(&mut self) -> Option<(String, usize)> {
        let Token { kind, span } = self.peek()?.clone();
        let text = &self.sql[span.clone()];
        let value = match kind {
            lexer::Kind::Word | lexer::Kind::Quoted => lexer::unquote(text).into_owned(),
            lexer::Kind::Text => text.trim_matches(['\'', '"']).into(),
            lexer::Kind::Symbol(_) => return None,
        };
        self.at += 1;
        Some((value, span.end))
    }

    /// Notes a character set, or that there is none, which may need a collation behind this place.
    pub(super) fn note_charset(&mut self, charset: Option<String>, end: usize) {
        self.patch(end..end, Patch::Charset(self.charsets.len()));
        self.charsets.push(charset);
    }

    /// Whether an identifier stands in the statement more than once.
    pub(super) fn repeats(&self, name: &str) -> bool {
        let name = name.to_lowercase();
        let same = |token: &&Token| {
            matches!(token.kind, lexer::Kind::Word | lexer::Kind::Quoted)
                && lexer::unquote(&self.sql[token.span.clone()]).to_lowercase() == name
        };
        self.cut.tokens.iter().filter(same).count() > 1
    }

    /// Where the next token begins.
    pub(super) fn offset(&self) -> usize {
        self.peek().map_or(self.sql.len(), |token| token.span.start)
    }

    /// Where the last token ended.
    pub(super) fn last_end(&self) -> usize {
        let last = self
            .at
            .checked_sub(1)
            .and_then(|last| self.cut.tokens.get(last));
        last.map_or(0, |token| token.span.end)
    }

    pub(super) fn patch(&mut self, span: Range<usize>, patch: Patch) {
        let place = self
            .patches
            .partition_point(|(other, _)| other.start <= span.start);
        self.patches.insert(place, (span, patch));
    }

    /// Moves over the name of a table and notes it; gives its index.
    pub(super) fn name(&mut self, role: Role) -> Parse<usize> {
        let (first, mut span) = self.ident().ok_or("a table name is missing")?;
        let name = if self.symbol('.') {
            self.at += 1;
            let (table, end) = self.ident().ok_or("a table name is missing")?;
            span.end = end.end;
            TableName {
                schema: first,
                table,
            }
        } else if self.context.schema.is_empty() {
            return Err("a table name has no schema, and the session has none either");
        } else {
            TableName {
                schema: self.context.schema.into(),
                table: first,
            }
        };
        Ok(self.note(role, name, span))
    }

    /// Moves over the name of a schema and notes it.
    pub(super) fn schema(&mut self) -> Parse<usize> {
        let (schema, span) = self.ident().ok_or("a schema name is missing")?;
        Ok(self.note(Role::Subject, TableName::new(schema, ""), span))
    }

    /// The default schema, as a name.
    fn default_schema(&self) -> TableName {
        self.fold(TableName::new(self.context.schema, ""))
    }

    /// Notes the default schema where a statement leaves it out.
    pub(super) fn insert_default_schema(&mut self) -> Parse<()> {
        if self.context.schema.is_empty() {
            return Err("it names no schema, and the session has none either");
        }
        let at = self.offset();
        self.note(Role::Subject, self.default_schema(), at..at);
        self.patch(at..at, Patch::Text(" "));
        Ok(())
    }

    fn note(&mut self, role: Role, name: TableName, span: Range<usize>) -> usize {
        let index = self.names.len();
        let name = self.fold(name);
        self.names.push(Name { role, name });
        self.patch(span, Patch::Name(index));
        index
    }

    fn fold(&self, name: TableName) -> TableName {
        if !self.context.lower_case_names {
            return name;
        }
        TableName {
            schema: name.schema.to_lowercase(),
            table: name.table.to_lowercase(),
        }
    }

    /// The stretch of an `IF [NOT] EXISTS` that comes next, moved over.
    fn if_exists(&mut self) -> Option<(Range<usize>, bool)> {
        let negated = self.is_at(1, "NOT");
        if !self.is("IF") || !self.is_at(if negated { 2 } else { 1 }, "EXISTS") {
            return None;
        }
        let start = self.offset();
        self.at += if negated { 3 } else { 2 };
        Some((start..self.last_end(), negated))
    }

    /// Moves over an `IF [NOT] EXISTS` that may stand here.
    pub(super) fn skip_if(&mut self) {
        self.if_exists();
    }

    /// Sees to it that an `IF NOT EXISTS` or `IF EXISTS` stands here.
    pub(super) fn force_if(&mut self, negated: bool) {
        if self.if_exists().is_none() {
            self.insert(if negated {
                "IF NOT EXISTS"
            } else {
                "IF EXISTS"
            });
        }
    }

    /// Hides an `IF [NOT] EXISTS` that MySQL does not have at this place from it; says whether
    /// there is one. One in an executed comment is hidden already.
    pub(super) fn soften_if(&mut self) -> bool {
        let hidden = self.in_executed_comment();
        let found = self.if_exists();
        if let Some((span, negated)) = found.clone().filter(|_| !hidden) {
            let text = if negated {
                SOFT_IF_NOT_EXISTS
            } else {
                SOFT_IF_EXISTS
            };
            self.patch(span, Patch::Text(text));
        }
        found.is_some()
    }

    /// Inserts a text before the next token, as a word of its own.
    pub(super) fn insert(&mut self, text: &'static str) {
        let at = self.offset();
        if self.last_end() == at {
            self.patch(at..at, Patch::Text(" "));
        }
        self.patch(at..at, Patch::Text(text));
        self.patch(at..at, Patch::Text(" "));
    }

    /// Moves over MariaDB's limit on waiting for a lock.
    pub(super) fn skip_wait(&mut self) {
        if self.take("WAIT") {
            self.skip(1);
        }
        self.take("NOWAIT");
    }

    /// Takes so many tokens out.
    pub(super) fn remove(&mut self, tokens: usize) {
        let start = self.offset();
        self.at += tokens;
        self.patch(start..self.last_end(), Patch::Text(""));
    }

    /// Takes the limits of executed comments out that a list could begin or end inside of.
    pub(super) fn remove_markers(&mut self) {
        let from = if self.in_executed_comment() {
            0
        } else {
            self.offset()
        };
        for marker in core::mem::take(&mut self.cut.markers) {
            if marker.start >= from {
                self.patch(marker, Patch::Text(" "));
            }
        }
    }

    fn in_executed_comment(&self) -> bool {
        let before = self
            .cut
            .markers
            .partition_point(|marker| marker.start < self.offset());
        let closing = |marker: &&Range<usize>| self.sql[marker.start..].starts_with('*');
        let closed = self.cut.markers[..before].iter().filter(closing).count();
        before > 2 * closed
    }

    /// Takes out everything before the next token.
    pub(super) fn cut_before(&mut self) {
        self.patch(0..self.offset(), Patch::Text(""));
    }

    /// Moves over what may stand between a verb and its object.
    pub(super) fn modifiers(&mut self) -> Parse<Modifiers> {
        const PLAIN: [&str; 13] = [
            "UNIQUE",
            "FULLTEXT",
            "SPATIAL",
            "VECTOR",
            "ONLINE",
            "OFFLINE",
            "IGNORE",
            "AGGREGATE",
            "UNDO",
            "JSON",
            "RELATIONAL",
            "DUALITY",
            "MATERIALIZED",
        ];
        let mut found = Modifiers::default();
        loop {
            let start = self.offset();
            if self.take("OR") {
                if !self.take("REPLACE") {
                    return Err("`REPLACE` is missing");
                }
                found.or_replace = Some(start..self.last_end());
            } else if self.take("TEMPORARY") {
                found.temporary = true;
            } else if self.take("DEFINER") {
                self.skip(2);
                while ['(', '@', '.'].iter().any(|&symbol| self.symbol(symbol)) {
                    self.skip(2);
                }
            } else if self.take("ALGORITHM") || self.take("SQL") {
                self.skip(2);
            } else if !PLAIN.iter().any(|word| self.take(word)) {
                return Ok(found);
            }
        }
    }

    /// Moves to the end of the statement and gives it.
    pub(super) fn finish(&mut self) -> Parse<usize> {
        if let Some(why) = self.cut.broken {
            return Err(why);
        }
        if self.cut.tokens.iter().any(|token| token.kind == SEMICOLON) {
            return Err("there is more than one statement");
        }
        self.at = self.cut.tokens.len();
        Ok(self.end)
    }
}

const SEMICOLON: lexer::Kind = lexer::Kind::Symbol(';');

/// `IF EXISTS` for TiDB and MariaDB; a comment to MySQL.
pub(super) const SOFT_IF_EXISTS: &str = "/*T! IF EXISTS *//*M! IF EXISTS */";
const SOFT_IF_NOT_EXISTS: &str = "/*T! IF NOT EXISTS *//*M! IF NOT EXISTS */";
