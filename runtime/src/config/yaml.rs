//! YAML, strictly: one document, no key twice, and everything with its line.

use dm_core::control::document::{Entry, Node, Problem, Value};
use granit_parser::{Event, Marker, Parser, ScalarStyle, Span, Tag};

/// How many values aliases may multiply to.
const NODES_MAX: usize = 100_000;

/// Takes a YAML text apart. The type of a plain scalar is left to whoever reads it.
///
/// # Errors
/// The first thing in it that is not such YAML.
pub(super) fn parse(text: &str) -> Result<Node, Problem> {
    let mut builder = Builder {
        parser: Parser::new_from_str(text),
        anchors: vec![],
        nodes: 0,
    };
    builder.document()
}

struct Builder<'a> {
    parser: Parser<'a, granit_parser::StrInput<'a>>,
    /// Values that aliases can name, by number.
    anchors: Vec<(usize, Node)>,
    nodes: usize,
}

impl<'a> Builder<'a> {
    fn document(&mut self) -> Result<Node, Problem> {
        let mut root = Node {
            line: 1,
            value: Value::Null,
        };
        let mut documents = 0;
        loop {
            let (event, span) = self.next()?;
            match event {
                Event::StreamEnd => return Ok(root),
                Event::StreamStart | Event::DocumentEnd => {}
                Event::DocumentStart(..) if documents > 0 => {
                    return Err(problem(span.start, "a second document"));
                }
                Event::DocumentStart(..) => documents += 1,
                event => root = self.node(event, span)?,
            }
        }
    }

    fn next(&mut self) -> Result<(Event<'a>, Span), Problem> {
        match self.parser.next_event() {
            Some(Ok(next)) => Ok(next),
            Some(Err(error)) => Err(problem(*error.marker(), error.info())),
            None => Ok((Event::StreamEnd, Span::empty(Marker::new(0, 1, 0)))),
        }
    }

    fn node(&mut self, event: Event<'a>, span: Span) -> Result<Node, Problem> {
        let line = span.start.line();
        let (anchor, value) = match event {
            Event::Scalar(text, style, anchor, tag) => {
                (anchor, scalar(&text, style, tag.as_deref(), span.start)?)
            }
            Event::SequenceStart(_, anchor, tag) => {
                refuse_tag(tag.as_deref(), "seq", span.start)?;
                (anchor, Value::List(self.list()?))
            }
            Event::MappingStart(_, anchor, tag) => {
                refuse_tag(tag.as_deref(), "map", span.start)?;
                (anchor, Value::Table(self.table()?))
            }
            Event::Alias(id) => {
                let found = self.anchors.iter().rev().find(|(anchor, _)| *anchor == id);
                let found = found.ok_or_else(|| problem(span.start, "an alias inside itself"))?;
                (0, found.1.value.clone())
            }
            other => return Err(problem(span.start, format!("unexpected {other:?}"))),
        };
        let node = Node { line, value };
        self.nodes += size(&node);
        if self.nodes > NODES_MAX {
            return Err(problem(span.start, format!("more than {NODES_MAX} values")));
        }
        if anchor > 0 {
            self.anchors.push((anchor, node.clone()));
        }
        Ok(node)
    }

    fn list(&mut self) -> Result<Vec<Node>, Problem> {
        let mut items = Vec::new();
        loop {
            match self.next()? {
                (Event::SequenceEnd, _) => return Ok(items),
                (event, span) => items.push(self.node(event, span)?),
            }
        }
    }

    fn table(&mut self) -> Result<Vec<Entry>, Problem> {
        let mut entries: Vec<Entry> = Vec::new();
        let mut merged = Vec::new();
        loop {
            let (key, start) = match self.next()? {
                (Event::MappingEnd, _) => break,
                (Event::Scalar(key, ..), span) => (key.into_owned(), span.start),
                (_, span) => return Err(problem(span.start, "a key that is not a text")),
            };
            let (event, span) = self.next()?;
            let node = self.node(event, span)?;
            if key == "<<" {
                merge(&mut merged, node, start)?;
                continue;
            }
            if let Some(first) = entries.iter().find(|entry| entry.key == key) {
                let text = format!("given twice, first in line {}", first.line);
                return Err(Problem {
                    path: key,
                    line: start.line(),
                    text,
                });
            }
            entries.push(Entry {
                key,
                line: start.line(),
                node,
            });
        }
        for entry in merged {
            if !entries.iter().any(|own| own.key == entry.key) {
                entries.push(entry);
            }
        }
        Ok(entries)
    }
}

/// Collects the entries that `<<` brings in; those of the table itself win.
fn merge(into: &mut Vec<Entry>, node: Node, start: Marker) -> Result<(), Problem> {
    match node.value {
        Value::Table(entries) => into.extend(entries),
        Value::List(items) => {
            for item in items {
                merge(into, item, start)?;
            }
        }
        _ => return Err(problem(start, "`<<` needs a table")),
    }
    Ok(())
}

fn scalar(
    text: &str,
    style: ScalarStyle,
    tag: Option<&Tag>,
    start: Marker,
) -> Result<Value, Problem> {
    let is_text = tag.is_some_and(|tag| tag.is_yaml_core_schema_tag("str"));
    if !is_text {
        refuse_tag(tag, "", start)?;
    }
    Ok(match text {
        _ if is_text || style != ScalarStyle::Plain => Value::Text(text.to_owned()),
        "" | "~" | "null" | "Null" | "NULL" => Value::Null,
        _ => Value::Plain(text.to_owned()),
    })
}

fn refuse_tag(tag: Option<&Tag>, allowed: &str, start: Marker) -> Result<(), Problem> {
    match tag {
        Some(tag) if !tag.is_yaml_core_schema_tag(allowed) => Err(problem(
            start,
            format!("the tag `{}` is not supported", tag.original()),
        )),
        _ => Ok(()),
    }
}

fn size(node: &Node) -> usize {
    match &node.value {
        Value::List(items) => 1 + items.iter().map(size).sum::<usize>(),
        Value::Table(entries) => 1 + entries.iter().map(|entry| size(&entry.node)).sum::<usize>(),
        _ => 1,
    }
}

fn problem(at: Marker, text: impl Into<String>) -> Problem {
    Problem {
        path: String::new(),
        line: at.line(),
        text: text.into(),
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn entry<'a>(node: &'a Node, key: &str) -> &'a Node {
        &node.entry(key).expect(key).node
    }

    #[test]
    fn values_keep_their_lines_and_plain_scalars_their_text() {
        let node = parse("a: 010\nb: \"1\"\nc:\n  - x\n  - ~\nd: {e: 'f'}\n").expect("is YAML");
        assert_eq!(entry(&node, "a").value, Value::Plain("010".into()));
        assert_eq!(entry(&node, "b").value, Value::Text("1".into()));
        let Value::List(items) = &entry(&node, "c").value else {
            panic!("is a list")
        };
        assert_eq!((items[1].line, &items[1].value), (5, &Value::Null));
        assert_eq!(entry(entry(&node, "d"), "e").line, 6);
    }

    #[test]
    fn aliases_and_merges_are_followed() {
        let text = "x: &x {a: 1, b: 2}\ny: *x\nz:\n  <<: *x\n  b: 3\n";
        let node = parse(text).expect("is YAML");
        assert_eq!(entry(&node, "y").value, entry(&node, "x").value);
        assert_eq!(
            entry(entry(&node, "z"), "a").value,
            Value::Plain("1".into())
        );
        assert_eq!(
            entry(entry(&node, "z"), "b").value,
            Value::Plain("3".into())
        );
    }

    #[test]
    fn what_is_not_clear_is_refused_with_its_line() {
        for (text, line) in [
            ("a: 1\nb: 2\na: 3\n", 3),
            ("a: 1\n---\nb: 1\n", 2),
            ("a: [1\nb: 2\n", 2),
            ("a: !custom x\n", 1),
            ("? [a]\n: 1\n", 1),
            ("a: 1\nb: *x\n", 2),
            ("a: &a [*a]\n", 1),
        ] {
            assert_eq!(parse(text).expect_err(text).line, line, "{text}");
        }
        let twice = parse("a: 1\nb: 2\na: 3\n").expect_err("twice");
        assert_eq!(
            twice.to_string(),
            "`a` in line 3: given twice, first in line 1"
        );
        let mut bomb = String::from("a0: &a0 [x, x, x, x, x, x, x, x, x, x]\n");
        for level in 1..9 {
            let list = vec![format!("*a{}", level - 1); 10].join(", ");
            bomb.push_str(&format!("a{level}: &a{level} [{list}]\n"));
        }
        assert!(
            parse(&bomb)
                .expect_err("too large")
                .text
                .contains("more than")
        );
    }

    #[test]
    fn an_empty_text_is_nothing() {
        assert_eq!(parse("").expect("empty").value, Value::Null);
        assert_eq!(parse("# only this\n").expect("empty").value, Value::Null);
    }

    proptest! {
        #[test]
        fn any_text_is_read_or_refused(text: String) {
            let _ = parse(&text);
        }
    }
}
