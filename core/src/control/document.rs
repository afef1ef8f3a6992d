//! A configuration text taken apart: the common form of TOML and YAML, with line numbers.

use alloc::format;
use alloc::string::{String, ToString};
use alloc::vec::Vec;
use core::fmt;

/// A value and where it stands.
#[derive(Clone, Debug, PartialEq)]
pub struct Node {
    /// The line, counted from 1; 0 if unknown.
    pub line: usize,
    /// The value.
    pub value: Value,
}

/// A value.
#[derive(Clone, Debug, PartialEq)]
pub enum Value {
    /// Explicitly nothing: leaves the default in place.
    Null,
    /// A truth value.
    Bool(bool),
    /// A whole number.
    Integer(i128),
    /// A number.
    Float(f64),
    /// A text that cannot be anything else.
    Text(String),
    /// A text that is whatever the field wants it to be.
    Plain(String),
    /// Several values.
    List(Vec<Node>),
    /// Values by name, in the order of the text.
    Table(Vec<Entry>),
}

/// A named value of a table.
#[derive(Clone, Debug, PartialEq)]
pub struct Entry {
    /// The name.
    pub key: String,
    /// The line of the name, counted from 1; 0 if unknown.
    pub line: usize,
    /// The value.
    pub node: Node,
}

impl Node {
    /// The entry of a table with exactly this name.
    pub fn entry(&self, key: &str) -> Option<&Entry> {
        match &self.value {
            Value::Table(entries) => entries.iter().find(|entry| entry.key == key),
            _ => None,
        }
    }
}

/// What kind of value it is, without its contents: one may be a password.
impl fmt::Display for Value {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Null => "nothing",
            Self::Bool(_) => "a truth value",
            Self::Integer(_) => "a whole number",
            Self::Float(_) => "a number",
            Self::Text(_) => "a quoted text",
            Self::Plain(_) => "a text",
            Self::List(_) => "a list",
            Self::Table(_) => "a table",
        })
    }
}

/// Something wrong in a configuration text.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Problem {
    /// The key, with those around it: `from.port`, `filters[1].events`.
    pub path: String,
    /// The line, counted from 1; 0 if unknown.
    pub line: usize,
    /// What is wrong and what is allowed.
    pub text: String,
}

impl fmt::Display for Problem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { path, line, text } = self;
        if !path.is_empty() {
            write!(f, "`{path}`")?;
        }
        if *line > 0 {
            write!(
                f,
                "{}line {line}",
                if path.is_empty() { "" } else { " in " }
            )?;
        }
        write!(
            f,
            "{}{text}",
            if path.is_empty() && *line == 0 {
                ""
            } else {
                ": "
            }
        )
    }
}

/// Collects what is wrong while a document is read, so that all of it can be said at once.
#[derive(Debug, Default)]
pub struct Reader {
    /// Keys that nobody knows.
    pub unknown: Vec<Problem>,
    /// Everything else.
    pub problems: Vec<Problem>,
    path: Vec<String>,
    any_case: bool,
}

impl Reader {
    /// A reader for which letter case of keys does not count.
    pub fn any_case() -> Self {
        Self {
            any_case: true,
            ..Self::default()
        }
    }

    /// Reads what is under `key`.
    pub fn within(&mut self, key: impl Into<String>, read: impl FnOnce(&mut Self)) {
        self.path.push(key.into());
        read(self);
        self.path.pop();
    }

    /// Reads the element of a list.
    pub fn within_element(&mut self, index: usize, read: impl FnOnce(&mut Self)) {
        self.within(format!("[{index}]"), read);
    }

    /// Whether a key of the text means the field `name`.
    pub fn same_key(&self, key: &str, name: &str) -> bool {
        key == name || self.any_case && key.eq_ignore_ascii_case(name)
    }

    /// Notes a problem with the current value.
    pub fn problem(&mut self, line: usize, text: impl Into<String>) {
        let path = self.path_to(None);
        self.problems.push(Problem {
            path,
            line,
            text: text.into(),
        });
    }

    /// Notes that a value is not what is `expected`.
    pub fn expected(&mut self, expected: &str, node: &Node) {
        self.problem(
            node.line,
            format!("expected {expected}, found {}", node.value),
        );
    }

    /// Notes a key that nobody knows; `allowed` are those that are known.
    pub fn unknown(&mut self, key: &str, line: usize, allowed: &[&str]) {
        let text = match nearest(key, allowed) {
            Some(near) => format!("unknown key; did you mean `{near}`?"),
            None => format!("unknown key; allowed: {}", allowed.join(", ")),
        };
        self.unknown.push(Problem {
            path: self.path_to(Some(key)),
            line,
            text,
        });
    }

    fn path_to(&self, last: Option<&str>) -> String {
        let mut path = String::new();
        for part in self.path.iter().map(String::as_str).chain(last) {
            if !path.is_empty() && !part.starts_with('[') {
                path.push('.');
            }
            path.push_str(part);
        }
        path
    }
}

/// Problems in one line of text.
pub fn list(problems: &[Problem]) -> String {
    problems
        .iter()
        .map(Problem::to_string)
        .collect::<Vec<_>>()
        .join("; ")
}

/// The allowed key that a typing error away could be meant: a difference of one or two letters.
fn nearest<'a>(key: &str, allowed: &[&'a str]) -> Option<&'a str> {
    let plain = |text: &str| text.to_ascii_lowercase().replace('_', "-");
    let key = plain(key);
    let scored = allowed
        .iter()
        .map(|name| (distance(&key, &plain(name)), *name));
    scored
        .filter(|(distance, name)| *distance <= 2 && *distance <= name.len() / 2)
        .min()
        .map(|s| s.1)
}

/// Edit distance of two short texts.
fn distance(a: &str, b: &str) -> usize {
    let b: Vec<char> = b.chars().collect();
    let mut row: Vec<usize> = (0..=b.len()).collect();
    for (i, x) in a.chars().enumerate() {
        let mut diagonal = row[0];
        row[0] = i + 1;
        for (j, y) in b.iter().enumerate() {
            let replace = diagonal + usize::from(x != *y);
            diagonal = row[j + 1];
            row[j + 1] = replace.min(row[j] + 1).min(diagonal + 1);
        }
    }
    row[b.len()]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_unknown_key_is_named_with_its_place_and_the_likely_intention() {
        let mut reader = Reader::default();
        reader.within("from", |reader| {
            reader.unknown("prot", 4, &["host", "port"]);
            reader.unknown("zzz", 5, &["host", "port"]);
        });
        reader.within("filters", |reader| {
            reader.within_element(1, |reader| reader.problem(0, "no"));
        });
        assert_eq!(
            list(&reader.unknown),
            "`from.prot` in line 4: unknown key; did you mean `port`?; \
             `from.zzz` in line 5: unknown key; allowed: host, port"
        );
        assert_eq!(list(&reader.problems), "`filters[1]`: no");
    }
}
