//! What the text of a definition says of its table.

use alloc::{collections::BTreeSet, string::String, vec::Vec};

use super::lexer::{self, Kind, Token};

/// The JSON column of a table whose `CREATE TABLE` has no key that names its rows, as
/// [`crate::sync::schema::Table::json_without_key`] says it of a table that is there. Of a text
/// that is not understood nothing is said.
#[must_use]
pub fn json_without_key(sql: &str) -> Option<String> {
    let tokens = lexer::cut(sql, 0).tokens;
    let mut found = Found::default();
    for element in elements(sql, &tokens)? {
        found.take(&element)?;
    }
    let is_key = |key: &Vec<String>| key.iter().all(|column| found.not_null.contains(column));
    found.json.filter(|_| !found.keys.iter().any(is_key))
}

/// The columns that a statement gives values to which names none, by the definition of its table:
/// in their order, without those that are computed or invisible. Of a text that is not understood
/// nothing is said.
#[must_use]
pub fn columns_by_position(sql: &str) -> Option<Vec<String>> {
    let cut = lexer::cut(sql, 0);
    if cut.broken.is_some() {
        return None;
    }
    let tokens = cut.tokens;
    let mut columns = Vec::new();
    for element in elements(sql, &tokens)? {
        if element.is(0, "LIKE") {
            return None;
        }
        let words = ["AS", "INVISIBLE"];
        if !element.is_constraint() && !words.iter().any(|word| element.has(&[word])) {
            columns.push(element.name(0)?);
        }
    }
    Some(columns)
}

/// What stands between the brackets behind the name of the table.
fn elements<'a>(sql: &'a str, tokens: &'a [Token]) -> Option<impl Iterator<Item = Element<'a>>> {
    let open = tokens.iter().position(|token| is_symbol(token, '('))?;
    let elements = split(&tokens[open + 1..]).into_iter();
    Some(elements.map(move |element| Element { sql, element }))
}

#[derive(Default)]
struct Found {
    json: Option<String>,
    /// Columns that are NOT NULL, in lower case.
    not_null: BTreeSet<String>,
    /// The columns of each unique key.
    keys: Vec<Vec<String>>,
}

/// What stands between two commas: a column, or a constraint.
struct Element<'a> {
    sql: &'a str,
    element: &'a [Token],
}

impl Found {
    /// Takes an element in; nothing if no more needs to be known.
    fn take(&mut self, element: &Element<'_>) -> Option<()> {
        if element.has(&["PRIMARY"]) || element.is(0, "LIKE") {
            return None;
        }
        if element.is_constraint() {
            if element.has(&["UNIQUE"]) {
                self.keys.extend(element.parts());
            }
            return Some(());
        }
        let is_unique = element.has(&["UNIQUE"]);
        if element.is(1, "SERIAL") || element.has(&["KEY"]) && !is_unique {
            return None;
        }
        let name = element.name(0)?;
        if element.has(&["NOT", "NULL"]) {
            self.not_null.insert(name.to_lowercase());
        }
        if is_unique {
            self.keys.push(alloc::vec![name.to_lowercase()]);
        }
        if element.is(1, "JSON") && !element.has(&["AS"]) {
            self.json.get_or_insert(name);
        }
        Some(())
    }
}

impl Element<'_> {
    fn is_constraint(&self) -> bool {
        const CONSTRAINTS: [&str; 10] = [
            "CONSTRAINT",
            "PRIMARY",
            "UNIQUE",
            "KEY",
            "INDEX",
            "FULLTEXT",
            "SPATIAL",
            "FOREIGN",
            "CHECK",
            "PERIOD",
        ];
        CONSTRAINTS.iter().any(|word| self.is(0, word))
    }

    fn is(&self, index: usize, word: &str) -> bool {
        self.element.get(index).is_some_and(|token| {
            token.kind == Kind::Word && self.sql[token.span.clone()].eq_ignore_ascii_case(word)
        })
    }

    /// Whether it has these words outside of brackets, one behind the other.
    fn has(&self, words: &[&str]) -> bool {
        let mut depth = 0;
        (0..self.element.len()).any(|index| {
            depth += bracket(&self.element[index]);
            let mut words = words.iter().enumerate();
            depth == 0 && words.all(|(ahead, word)| self.is(index + ahead, word))
        })
    }

    fn name(&self, index: usize) -> Option<String> {
        let token = self.element.get(index)?;
        matches!(token.kind, Kind::Word | Kind::Quoted)
            .then(|| lexer::unquote(&self.sql[token.span.clone()]).into_owned())
    }

    /// The columns that it lists; nothing if it has an expression.
    fn parts(&self) -> Option<Vec<String>> {
        let open = self.element.iter().position(|it| is_symbol(it, '('))?;
        let parts = split(&self.element[open + 1..]).into_iter().map(|element| {
            let part = Element {
                sql: self.sql,
                element,
            };
            part.name(0).map(|name| name.to_lowercase())
        });
        parts.collect()
    }
}

/// What stands between commas, up to the bracket that closes all.
fn split(tokens: &[Token]) -> Vec<&[Token]> {
    let (mut depth, mut start) = (0, 0);
    let mut elements = Vec::new();
    for (index, token) in tokens.iter().enumerate() {
        depth += bracket(token);
        if depth < 0 || depth == 0 && is_symbol(token, ',') {
            elements.push(&tokens[start..index]);
            start = index + 1;
        }
        if depth < 0 {
            break;
        }
    }
    elements
}

fn is_symbol(token: &Token, symbol: char) -> bool {
    token.kind == Kind::Symbol(symbol)
}

fn bracket(token: &Token) -> i32 {
    i32::from(is_symbol(token, '(')) - i32::from(is_symbol(token, ')'))
}
