//! Statements of a dump file, as bytes: their text is in whatever character set the rows are in.

use alloc::{format, string::String, vec::Vec};
use core::ops::Range;

use crate::error::{Error, Result, code};

/// Finds where statements end in a file that comes piece by piece. No byte is looked at twice.
#[derive(Clone, Debug)]
pub struct Splitter {
    /// Whether a backslash in a string stands for itself and the byte behind it.
    escapes: bool,
    /// How far into the statement it has looked, and what it is in there.
    at: usize,
    inside: Inside,
}

/// What a byte is part of.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
enum Inside {
    /// The statement itself.
    Code,
    /// What is in these quotes.
    Quotes(u8),
    /// A comment up to the end of the line.
    Line,
    /// A comment up to the sign for its end.
    Block,
}

impl Splitter {
    /// For files that were written with backslashes as escapes, or without
    /// (`NO_BACKSLASH_ESCAPES`).
    #[must_use]
    pub const fn new(escapes: bool) -> Self {
        Self {
            escapes,
            at: 0,
            inside: Inside::Code,
        }
    }

    /// Length of the statement that a text begins with, with the semicolon. Nothing if it does not
    /// end there: it is to be asked again with more of it behind.
    pub fn end_of(&mut self, text: &[u8]) -> Option<usize> {
        while let Some(&byte) = text.get(self.at) {
            let next = text.get(self.at + 1).copied();
            let mut len = 1;
            match (self.inside, byte) {
                (Inside::Code, b';') => {
                    let end = self.at + 1;
                    *self = Self::new(self.escapes);
                    return Some(end);
                }
                (Inside::Code, b'\'' | b'"' | b'`') => self.inside = Inside::Quotes(byte),
                (Inside::Code, b'#') => self.inside = Inside::Line,
                // It may be the first byte of two.
                (Inside::Code, b'-' | b'/') | (Inside::Block, b'*') if next.is_none() => break,
                (Inside::Code, b'-') if next == Some(b'-') => {
                    // Behind two dashes there is a blank, or they are signs.
                    match text.get(self.at + 2) {
                        None => break,
                        Some(blank) if blank.is_ascii_whitespace() => self.inside = Inside::Line,
                        Some(_) => {}
                    }
                }
                (Inside::Code, b'/') if next == Some(b'*') => {
                    (self.inside, len) = (Inside::Block, 2);
                }
                (Inside::Block, b'*') if next == Some(b'/') => {
                    (self.inside, len) = (Inside::Code, 2);
                }
                (Inside::Line, b'\n') => self.inside = Inside::Code,
                (Inside::Quotes(quote), b'\\') if quote != b'`' && self.escapes => {
                    if next.is_none() {
                        break;
                    }
                    len = 2;
                }
                // Two of them end it and begin it again, which comes to the same.
                (Inside::Quotes(quote), _) if quote == byte => self.inside = Inside::Code,
                _ => {}
            }
            self.at += len;
        }
        None
    }
}

/// Whether there is nothing to do in a text: blanks and comments, but not those that servers carry
/// out (`/*!…*/`).
#[must_use]
pub fn is_blank(text: &[u8]) -> bool {
    Cursor::new(text, true)
        .rest()
        .is_ok_and(|rest| rest == b";" || rest.is_empty())
}

/// A statement that writes rows.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Insert {
    /// The schema, if it names one, and the table: without quotes.
    pub table: (Option<Vec<u8>>, Vec<u8>),
    /// The columns, without quotes; nothing if there is no list.
    pub columns: Option<Vec<Vec<u8>>>,
    /// Where each row is in the statement, with its parentheses.
    pub rows: Vec<Range<usize>>,
}

impl Insert {
    /// Reads a statement; nothing if it is of another kind.
    ///
    /// # Errors
    /// 11006: it begins like one, and makes no sense.
    pub fn parse(statement: &[u8], escapes: bool) -> Result<Option<Self>> {
        let mut cursor = Cursor::new(statement, escapes);
        if !cursor.takes("INSERT")? && !cursor.takes("REPLACE")? {
            return Ok(None);
        }
        cursor.takes("IGNORE")?;
        cursor.takes("INTO")?;
        let mut name = cursor.name()?;
        let mut schema = None;
        if cursor.takes_byte(b'.')? {
            schema = Some(core::mem::replace(&mut name, cursor.name()?));
        }
        let mut columns = None;
        if cursor.takes_byte(b'(')? {
            let mut names = Vec::new();
            // A table may have nothing but columns that are computed.
            if !cursor.takes_byte(b')')? {
                names.push(cursor.name()?);
                while cursor.takes_byte(b',')? {
                    names.push(cursor.name()?);
                }
                cursor.expect(b')')?;
            }
            columns = Some(names);
        }
        if !cursor.takes("VALUES")? && !cursor.takes("VALUE")? {
            return Err(cursor.not_valid("`VALUES` is missing"));
        }
        let mut rows = Vec::from([cursor.row()?]);
        while cursor.takes_byte(b',')? {
            rows.push(cursor.row()?);
        }
        cursor.takes_byte(b';')?;
        if !cursor.rest()?.is_empty() {
            return Err(cursor.not_valid("there is something behind the last row"));
        }
        Ok(Some(Self {
            table: (schema, name),
            columns,
            rows,
        }))
    }

    /// How many values the first row has. `statement` is what it was read from.
    #[must_use]
    pub fn width(&self, statement: &[u8], escapes: bool) -> usize {
        let first = self.rows.first().and_then(|row| statement.get(row.clone()));
        first.map_or(0, |row| values(row, escapes).len())
    }
}

/// Where each value of a row is in it, without the blanks around. `row` has its parentheses.
pub(super) fn values(row: &[u8], escapes: bool) -> Vec<Range<usize>> {
    let end = row.len().saturating_sub(1).max(1).min(row.len());
    let mut start = 1.min(end);
    let mut parts = Vec::new();
    for comma in commas(&row[..end], start, escapes) {
        parts.push(trimmed(row, start..comma));
        start = comma + 1;
    }
    parts.push(trimmed(row, start..end));
    parts
}

/// The commas in a text, from a place on, that are neither in quotes nor in parentheses.
pub(super) fn commas(text: &[u8], from: usize, escapes: bool) -> Vec<usize> {
    let mut found = Vec::new();
    let mut cursor = Cursor::new(text, escapes);
    cursor.at = from;
    let mut depth = 0_usize;
    while let Some(byte) = text.get(cursor.at) {
        match byte {
            b'\'' | b'"' | b'`' => {
                // What does not end has no commas.
                if cursor.skip_quotes(*byte).is_err() {
                    break;
                }
                continue;
            }
            b'(' => depth += 1,
            b')' => depth = depth.saturating_sub(1),
            b',' if depth == 0 => found.push(cursor.at),
            _ => {}
        }
        cursor.at += 1;
    }
    found
}

fn trimmed(text: &[u8], part: Range<usize>) -> Range<usize> {
    let inner = &text[part.clone()];
    let start = part.start + (inner.len() - inner.trim_ascii_start().len());
    start..(start + inner.trim_ascii().len())
}

/// What a statement begins with, behind blanks and comments.
///
/// # Errors
/// 11006: a comment does not end.
pub fn rest_of(statement: &[u8]) -> Result<&[u8]> {
    Cursor::new(statement, true).rest()
}

/// Reads a statement from left to right.
pub(super) struct Cursor<'a> {
    text: &'a [u8],
    at: usize,
    escapes: bool,
}

impl<'a> Cursor<'a> {
    pub(super) const fn new(text: &'a [u8], escapes: bool) -> Self {
        Self {
            text,
            at: 0,
            escapes,
        }
    }

    /// What is left, from the first thing in it on.
    fn rest(&mut self) -> Result<&'a [u8]> {
        loop {
            let rest = self.text.get(self.at..).unwrap_or_default();
            self.at += match rest {
                [blank, ..] if blank.is_ascii_whitespace() => 1,
                [b'#', ..] | [b'-', b'-', b' ' | b'\t' | b'\n' | b'\r', ..] => rest
                    .iter()
                    .position(|byte| *byte == b'\n')
                    .unwrap_or(rest.len()),
                // Those with a sign are statements.
                [b'/', b'*', third, ..] if !matches!(third, b'!' | b'M' | b'+') => {
                    let end = rest.windows(2).skip(2).position(|two| two == b"*/");
                    end.ok_or_else(|| self.not_valid("a comment does not end"))? + 4
                }
                _ => return Ok(rest),
            };
        }
    }

    pub(super) fn is_at(&mut self, byte: u8) -> Result<bool> {
        Ok(self.rest()?.first() == Some(&byte))
    }

    pub(super) fn takes_byte(&mut self, byte: u8) -> Result<bool> {
        let is_it = self.is_at(byte)?;
        self.at += usize::from(is_it);
        Ok(is_it)
    }

    fn expect(&mut self, byte: u8) -> Result<()> {
        if self.takes_byte(byte)? {
            return Ok(());
        }
        Err(self.not_valid(&format!("`{}` is missing", char::from(byte))))
    }

    pub(super) fn takes(&mut self, word: &str) -> Result<bool> {
        let rest = self.rest()?;
        let is_it = rest
            .get(..word.len())
            .is_some_and(|it| it.eq_ignore_ascii_case(word.as_bytes()))
            && !rest.get(word.len()).is_some_and(|byte| is_of_word(*byte));
        self.at += if is_it { word.len() } else { 0 };
        Ok(is_it)
    }

    /// A name, in quotes or not.
    pub(super) fn name(&mut self) -> Result<Vec<u8>> {
        let rest = self.rest()?;
        if let Some((b'`', inner)) = rest.split_first() {
            let mut name = Vec::new();
            let mut at = 0;
            loop {
                match (inner.get(at), inner.get(at + 1)) {
                    (Some(b'`'), Some(b'`')) => at += 1,
                    (Some(b'`'), _) => break,
                    (None, _) => return Err(self.not_valid("a name does not end")),
                    _ => {}
                }
                name.push(inner[at]);
                at += 1;
            }
            self.at += at + 2;
            return Ok(name);
        }
        let len = rest.iter().take_while(|byte| is_of_word(**byte)).count();
        if len == 0 {
            return Err(self.not_valid("a name is missing"));
        }
        self.at += len;
        Ok(rest[..len].to_vec())
    }

    /// A row, with all that is in its parentheses.
    pub(super) fn row(&mut self) -> Result<Range<usize>> {
        self.expect(b'(')?;
        let start = self.at - 1;
        let mut depth = 1;
        while depth > 0 {
            match self.text.get(self.at) {
                None => return Err(self.not_valid("a row does not end")),
                Some(quote @ (b'\'' | b'"' | b'`')) => {
                    self.skip_quotes(*quote)?;
                    continue;
                }
                Some(b'(') => depth += 1,
                Some(b')') => depth -= 1,
                Some(_) => {}
            }
            self.at += 1;
        }
        Ok(start..self.at)
    }

    fn skip_quotes(&mut self, quote: u8) -> Result<()> {
        self.at += 1;
        loop {
            match self.text.get(self.at) {
                None => return Err(self.not_valid("a string does not end")),
                Some(b'\\') if quote != b'`' && self.escapes => self.at += 1,
                Some(byte) if *byte == quote => {
                    self.at += 1;
                    return Ok(());
                }
                Some(_) => {}
            }
            self.at += 1;
        }
    }

    pub(super) fn not_valid(&self, why: &str) -> Error {
        /// So much of a statement tells which one it is.
        const SHOWN: usize = 60;
        let begin = String::from_utf8_lossy(&self.text[..self.text.len().min(SHOWN)]);
        let message = format!("parse statement: {why} at byte {} of `{begin}…`", self.at);
        Error::new(&code::PARSE_SQL, message)
            .with_workaround("Look whether the dump file is complete, or dump the table anew.")
    }
}

const fn is_of_word(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || matches!(byte, b'_' | b'$') || byte >= 0x80
}

#[cfg(test)]
mod tests {
    use alloc::{borrow::ToOwned, vec};

    use proptest::prelude::*;

    use super::*;

    const ALL_TYPES: &[u8] = include_bytes!("../../testdata/dump/d.all types.0000000000000.sql");
    const NO_KEY: &[u8] = include_bytes!("../../testdata/dump/d.nokey.0000000000000.sql");

    /// Strings that are hard.
    const HARD: &str = "[a;,()'\"`\\\\*/#\n-]{0,8}";

    /// The statements of a file that comes in pieces of such a length.
    fn split(text: &[u8], piece: usize, escapes: bool) -> (Vec<Vec<u8>>, Vec<u8>) {
        let mut splitter = Splitter::new(escapes);
        let (mut statements, mut rest) = (Vec::new(), Vec::new());
        for piece in text.chunks(piece) {
            rest.extend_from_slice(piece);
            while let Some(end) = splitter.end_of(&rest) {
                statements.push(rest.drain(..end).collect());
            }
        }
        (statements, rest)
    }

    #[test]
    fn recorded_files_are_read() {
        for piece in [1, 7, 1 << 20] {
            let (statements, rest) = split(ALL_TYPES, piece, true);
            assert_eq!(statements.len(), 3);
            assert!(is_blank(&rest), "{rest:?}");
            let read = |statement: &[u8]| Insert::parse(statement, true).unwrap();
            assert_eq!(read(&statements[0]), None);
            let insert = read(&statements[2]).unwrap();
            assert_eq!(insert.table, (None, b"all types".to_vec()));
            let columns = insert.columns.unwrap();
            assert_eq!((columns.len(), &*columns[24]), (25, &b"x"[..]));
            assert_eq!(insert.rows.len(), 2);
            let row = &statements[2][insert.rows[1].clone()];
            assert!(row.starts_with(b"(2,NULL,") && row.ends_with(b",NULL)"));
        }
        let (statements, _) = split(NO_KEY, 100, true);
        let insert = Insert::parse(&statements[2], true).unwrap().unwrap();
        let rows = insert.rows.into_iter().map(|row| &statements[2][row]);
        assert_eq!(
            rows.collect::<Vec<_>>(),
            [&b"(1,'x')"[..], b"(1,'x')", b"(NULL,'')"]
        );
    }

    #[test]
    fn semicolons_end_statements_and_nothing_else() {
        let text = "-- a;\nINSERT INTO t VALUES (';'),(\"\\\";\"),('it''s;'),(5--1);# b;\n/* c; */\
                    /*!40101 SET x=1*/;`a;\\`;SELECT '\\\\';";
        for piece in 1..9 {
            let (statements, rest) = split(text.as_bytes(), piece, true);
            assert_eq!(statements.len(), 4, "{piece}");
            assert!(statements[1].ends_with(b"SET x=1*/;"));
            assert_eq!(statements[2], b"`a;\\`;");
            assert!(rest.is_empty());
        }
        let (statements, _) = split(b"SELECT '\\';SELECT 2;", 3, false);
        assert_eq!(statements.len(), 2);
        assert_eq!(split(b"SELECT 'a;", 3, true).0.len(), 0);
    }

    #[test]
    fn inserts_come_in_several_forms() {
        let read = |text: &str| Insert::parse(text.as_bytes(), true).unwrap().unwrap();
        let insert = read("/* a */ replace into `d``b`.`t` values(1, f(')', 2)) ,\n(2);");
        assert_eq!(insert.table, (Some(b"d`b".to_vec()), b"t".to_vec()));
        assert_eq!((insert.columns, insert.rows.len()), (None, 2));
        let insert = read("INSERT IGNORE INTO tab_1(a, `b`) VALUE (x'00', _binary '\\'')");
        assert_eq!(insert.columns, Some(vec![b"a".to_vec(), b"b".to_vec()]));
        for text in [
            "INSERTS",
            "SET NAMES binary;",
            "/*!40000 INSERT INTO t VALUES (1)*/;",
            "",
        ] {
            assert_eq!(
                Insert::parse(text.as_bytes(), true).unwrap(),
                None,
                "{text}"
            );
        }
    }

    #[test]
    fn what_makes_no_sense_is_refused() {
        for text in [
            "INSERT INTO",
            "INSERT INTO t SELECT 1",
            "INSERT INTO t VALUES",
            "INSERT INTO t VALUES (1",
            "INSERT INTO t VALUES ('1)",
            "INSERT INTO t VALUES (1),",
            "INSERT INTO t VALUES (1) ON DUPLICATE KEY UPDATE a=1",
            "INSERT INTO `t VALUES (1)",
            "INSERT INTO t (a VALUES (1)",
            "INSERT INTO t /* VALUES (1)",
        ] {
            let error = Insert::parse(text.as_bytes(), true).unwrap_err();
            assert!(error.is(&code::PARSE_SQL), "{text}: {error}");
        }
    }

    #[test]
    fn what_servers_carry_out_is_no_comment() {
        for (text, expected) in [
            (" \n-- a\n# b\n/* c */;", true),
            ("", true),
            ("/*!40101 SET NAMES binary*/;", false),
            ("/*M!100100 SET x=1*/;", false),
            ("SELECT 1", false),
        ] {
            assert_eq!(is_blank(text.as_bytes()), expected, "{text}");
        }
    }

    proptest! {
        /// Whatever is in strings, and wherever pieces end, the same rows are found.
        #[test]
        fn rows_are_found_whatever_is_in_them(
            rows in prop::collection::vec(prop::collection::vec(HARD, 1..4), 1..5),
            piece in 1_usize..40,
            escapes: bool,
        ) {
            let quoted = |value: &String| {
                let value = match escapes {
                    true => value.replace('\\', "\\\\").replace('\'', "\\'"),
                    false => value.replace('\'', "''"),
                };
                format!("'{value}'")
            };
            let written: Vec<_> = rows
                .iter()
                .map(|row| format!("({})", row.iter().map(quoted).collect::<Vec<_>>().join(",")))
                .collect();
            let statement = format!("INSERT INTO `t;` VALUES\n{};", written.join(",\n"));
            let text = format!("{statement}\n{statement}\n");
            let (statements, rest) = split(text.as_bytes(), piece, escapes);
            prop_assert_eq!(statements.len(), 2);
            prop_assert!(is_blank(&rest));
            for statement in statements {
                let insert = Insert::parse(&statement, escapes).unwrap().unwrap();
                let found: Vec<_> = insert.rows.into_iter().map(|row| &statement[row]).collect();
                let expected: Vec<_> = written.iter().map(|row| row.as_bytes()).collect();
                prop_assert_eq!(found, expected);
            }
        }

        #[test]
        fn hostile_text_comes_to_an_end(text in "[ -~\n]{0,60}", escapes: bool) {
            let text = format!("INSERT INTO {text}").to_owned();
            let whole = split(text.as_bytes(), text.len(), escapes);
            prop_assert_eq!(split(text.as_bytes(), 1, escapes), whole);
            let _ = Insert::parse(text.as_bytes(), escapes);
        }
    }
}
