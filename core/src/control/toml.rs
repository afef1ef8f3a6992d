//! TOML in the layout of the existing encoder.
//!
//! In a table come first the plain values in field order, then the sub-tables, keys indented by
//! two spaces a level. A blank line stands before every table of the top level and before every
//! element of a list of tables, and nowhere else.

use alloc::borrow::ToOwned;
use alloc::format;
use alloc::string::{String, ToString};
use alloc::vec::Vec;

use ::toml::Spanned;
use ::toml::de::{DeTable, DeValue};

use super::document::{Entry, Node, Problem, Reader, Value};
use super::record::{Field, Record};

/// Takes a TOML text apart.
///
/// # Errors
/// The first thing in it that is not TOML.
pub fn parse(text: &str) -> Result<Node, Problem> {
    let lines = Lines::new(text);
    let table = DeTable::parse(text).map_err(|error| Problem {
        path: String::new(),
        line: error.span().map_or(0, |span| lines.of(span.start)),
        text: error.message().to_owned(),
    })?;
    Ok(Node {
        line: 1,
        value: lines.table(table.get_ref()),
    })
}

/// Reads a TOML text into a record. Keys match in any letter case if not in their own.
///
/// What is unknown or of the wrong type is left in the [`Reader`].
///
/// # Errors
/// The first thing in it that is not TOML.
pub fn read<R: Record>(text: &str, record: &mut R) -> Result<Reader, Problem> {
    let node = parse(text)?;
    let mut reader = Reader::any_case();
    record.read(&node, &mut reader);
    Ok(reader)
}

/// Where lines begin, to tell the line of an offset.
struct Lines(Vec<usize>);

impl Lines {
    fn new(text: &str) -> Self {
        Self(text.match_indices('\n').map(|(offset, _)| offset).collect())
    }

    fn of(&self, offset: usize) -> usize {
        self.0.partition_point(|newline| *newline < offset) + 1
    }

    fn node(&self, value: &Spanned<DeValue<'_>>) -> Node {
        Node {
            line: self.of(value.span().start),
            value: self.value(value.get_ref()),
        }
    }

    fn value(&self, value: &DeValue<'_>) -> Value {
        match value {
            DeValue::String(text) => Value::Text(text.to_string()),
            DeValue::Integer(number) => {
                match i128::from_str_radix(number.as_str(), number.radix()) {
                    Ok(number) => Value::Integer(number),
                    // More digits than any field takes.
                    Err(_) => Value::Float(f64::INFINITY),
                }
            }
            DeValue::Float(number) => Value::Float(number.as_str().parse().unwrap_or(f64::NAN)),
            DeValue::Boolean(value) => Value::Bool(*value),
            DeValue::Datetime(time) => Value::Text(time.to_string()),
            DeValue::Array(items) => {
                Value::List(items.iter().map(|item| self.node(item)).collect())
            }
            DeValue::Table(table) => self.table(table),
        }
    }

    fn table(&self, table: &DeTable<'_>) -> Value {
        let mut entries: Vec<(usize, Entry)> = table
            .iter()
            .map(|(key, value)| {
                let start = key.span().start;
                let key = key.get_ref().to_string();
                (
                    start,
                    Entry {
                        key,
                        line: self.of(start),
                        node: self.node(value),
                    },
                )
            })
            .collect();
        entries.sort_by_key(|(start, _)| *start);
        Value::Table(entries.into_iter().map(|(_, entry)| entry).collect())
    }
}

/// A value to write.
#[derive(Clone, Debug, PartialEq)]
pub enum Item {
    /// Text that stands behind `key = `.
    Scalar(String),
    /// Values, either all scalars or all tables.
    List(Vec<Self>),
    /// Named values in order.
    Table(Vec<(String, Self)>),
}

/// Writes a record as a document.
pub fn write_record<R: Record>(record: &R) -> String {
    let mut entries = Vec::new();
    record.write_entries(&mut entries);
    write(&entries)
}

/// Writes a document.
pub fn write(entries: &[(String, Item)]) -> String {
    let mut out = String::new();
    write_table(&mut out, &[], entries);
    out
}

fn write_table(out: &mut String, path: &[&str], entries: &[(String, Item)]) {
    let indent = path.len();
    for (key, item) in entries {
        if let Some(text) = inline(item) {
            push_indent(out, indent);
            out.push_str(&format!("{} = {text}\n", quote_key(key)));
        }
    }
    for (key, item) in entries.iter().filter(|(_, item)| inline(item).is_none()) {
        let path: Vec<&str> = path.iter().copied().chain([key.as_str()]).collect();
        match item {
            Item::Scalar(_) => {}
            Item::Table(entries) => {
                if path.len() == 1 {
                    blank_line(out);
                }
                push_indent(out, indent);
                out.push_str(&format!("[{}]\n", dotted(&path)));
                write_table(out, &path, entries);
            }
            Item::List(items) => {
                for item in items {
                    let Item::Table(entries) = item else { continue };
                    blank_line(out);
                    push_indent(out, indent);
                    out.push_str(&format!("[[{}]]\n", dotted(&path)));
                    write_table(out, &path, entries);
                }
            }
        }
    }
}

/// The text of a value that fits behind its key; nothing if it needs a header.
fn inline(item: &Item) -> Option<String> {
    match item {
        Item::Scalar(text) => Some(text.clone()),
        Item::Table(_) => None,
        Item::List(items) => {
            let items: Vec<String> = items.iter().map(inline).collect::<Option<_>>()?;
            Some(format!("[{}]", items.join(", ")))
        }
    }
}

fn blank_line(out: &mut String) {
    if !out.is_empty() {
        out.push('\n');
    }
}

fn push_indent(out: &mut String, levels: usize) {
    for _ in 0..levels {
        out.push_str("  ");
    }
}

fn dotted(path: &[&str]) -> String {
    path.iter()
        .map(|key| quote_key(key))
        .collect::<Vec<_>>()
        .join(".")
}

fn quote_key(key: &str) -> String {
    let bare = |byte: u8| byte.is_ascii_alphanumeric() || byte == b'_' || byte == b'-';
    if !key.is_empty() && key.bytes().all(bare) {
        key.to_owned()
    } else {
        quote(key)
    }
}

/// A text in double quotes.
pub fn quote(text: &str) -> String {
    let mut out = String::with_capacity(text.len() + 2);
    out.push('"');
    for char in text.chars() {
        match char {
            '"' => out.push_str("\\\""),
            '\\' => out.push_str("\\\\"),
            '\u{8}' => out.push_str("\\b"),
            '\t' => out.push_str("\\t"),
            '\n' => out.push_str("\\n"),
            '\u{c}' => out.push_str("\\f"),
            '\r' => out.push_str("\\r"),
            '\0'..='\u{1f}' | '\u{7f}' => out.push_str(&format!("\\u{:04x}", u32::from(char))),
            _ => out.push(char),
        }
    }
    out.push('"');
    out
}

#[cfg(test)]
mod tests {
    use alloc::vec;

    use super::*;

    fn scalar(key: &str) -> (String, Item) {
        (key.into(), Item::Scalar("1".into()))
    }

    #[test]
    fn layout() {
        let leaf = |key: &str| Item::Table(vec![scalar(key)]);
        let document = [
            (
                "t".into(),
                Item::Table(vec![("u".into(), leaf("a")), scalar("b")]),
            ),
            scalar("c"),
            (
                "l".into(),
                Item::List(vec![
                    Item::Table(vec![scalar("d"), ("m".into(), Item::List(vec![leaf("e")]))]),
                    Item::Table(vec![("x".into(), leaf("f"))]),
                ]),
            ),
            ("none".into(), Item::List(vec![])),
            ("empty".into(), Item::Table(vec![])),
            (
                "a a".into(),
                Item::List(vec![Item::Scalar("1".into()), Item::Scalar("2".into())]),
            ),
        ];
        assert_eq!(
            write(&document),
            "c = 1\nnone = []\n\"a a\" = [1, 2]\n\n[t]\n  b = 1\n  [t.u]\n    a = 1\n\n[[l]]\n  \
             d = 1\n\n  [[l.m]]\n    e = 1\n\n[[l]]\n  [l.x]\n    f = 1\n\n[empty]\n"
        );
    }

    #[test]
    fn texts_are_quoted() {
        assert_eq!(
            quote("a\"\\\u{8}\t\n\u{c}\r\u{1}\u{7f}é"),
            "\"a\\\"\\\\\\b\\t\\n\\f\\r\\u0001\\u007fé\""
        );
    }

    #[test]
    fn parsing_keeps_order_and_lines() {
        let node = parse("b = 1\na = 'x'\n[t]\nc = true\n").expect("is TOML");
        let Value::Table(entries) = &node.value else {
            panic!("a document is a table")
        };
        let lines: Vec<_> = entries
            .iter()
            .map(|e| (e.key.as_str(), e.line, e.node.line))
            .collect();
        assert_eq!(lines, [("b", 1, 1), ("a", 2, 2), ("t", 3, 3)]);
        assert_eq!(parse("a = 1\nb = \n").expect_err("no value").line, 2);
        assert_eq!(parse("a = 1\na = 2\n").expect_err("twice").line, 2);
    }
}
