//! Tokens of a statement, as MySQL and MariaDB cut them.

use alloc::{borrow::Cow, string::String, vec::Vec};
use core::ops::Range;

/// Bits of `sql_mode` that change where a token ends; the same in MySQL and MariaDB.
const ANSI_QUOTES: u64 = 1 << 2;
const NO_BACKSLASH_ESCAPES: u64 = 1 << 20;

/// What a token is.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) enum Kind {
    /// A keyword, a bare identifier or a number.
    Word,
    /// An identifier in quotes.
    Quoted,
    /// A string.
    Text,
    /// Any other single character.
    Symbol(char),
}

/// A token and the bytes of the statement that it covers.
#[derive(Clone, Debug)]
pub(super) struct Token {
    pub(super) kind: Kind,
    pub(super) span: Range<usize>,
}

/// A statement, cut.
///
/// What stands in `/*! … */` and `/*M! … */` belongs to the statement: a server that does not
/// execute the content of such a comment takes the `!` out before it writes its binlog.
#[derive(Debug, Default)]
pub(super) struct Tokens {
    pub(super) tokens: Vec<Token>,
    /// The beginnings and ends of executed comments.
    pub(super) markers: Vec<Range<usize>>,
    /// Why cutting stopped before the end. A statement that is skipped anyway need not care.
    pub(super) broken: Option<&'static str>,
}

/// Cuts a statement into tokens.
pub(super) fn cut(sql: &str, sql_mode: u64) -> Tokens {
    let ansi_quotes = sql_mode & ANSI_QUOTES != 0;
    let escapes = sql_mode & NO_BACKSLASH_ESCAPES == 0;
    let bytes = sql.as_bytes();
    let mut out = Tokens::default();
    let mut executed = 0_u32;
    let mut at = 0;
    while let Some(&byte) = bytes.get(at) {
        let rest = &bytes[at..];
        let (kind, end) = match byte {
            b'#' => {
                at = line_end(bytes, at);
                continue;
            }
            b'-' if rest.starts_with(b"--") && rest.get(2).is_none_or(|&b| b <= b' ') => {
                at = line_end(bytes, at);
                continue;
            }
            b'/' if rest.starts_with(b"/*!") || rest.starts_with(b"/*M!") => {
                let digits = rest
                    .iter()
                    .position(|&b| b == b'!')
                    .map_or(0, |mark| mark + 1);
                let version = rest[digits..]
                    .iter()
                    .take(6)
                    .take_while(|b| b.is_ascii_digit());
                let end = at + digits + version.count();
                out.markers.push(at..end);
                executed += 1;
                at = end;
                continue;
            }
            b'/' if rest.starts_with(b"/*") => match find(bytes, at + 2, b"*/") {
                Some(end) => {
                    at = end;
                    continue;
                }
                None => return stop(out, "a comment is not closed"),
            },
            b'*' if executed > 0 && rest.starts_with(b"*/") => {
                out.markers.push(at..at + 2);
                executed -= 1;
                at += 2;
                continue;
            }
            b'`' => match quoted(bytes, at, byte, false) {
                Some(end) => (Kind::Quoted, end),
                None => return stop(out, "a quoted identifier is not closed"),
            },
            b'"' if ansi_quotes => match quoted(bytes, at, byte, false) {
                Some(end) => (Kind::Quoted, end),
                None => return stop(out, "a quoted identifier is not closed"),
            },
            b'\'' | b'"' => match quoted(bytes, at, byte, escapes) {
                Some(end) => (Kind::Text, end),
                None => return stop(out, "a string is not closed"),
            },
            _ if is_word(byte) => {
                let length = rest.iter().take_while(|&&b| is_word(b)).count();
                (Kind::Word, at + length)
            }
            // Control characters separate tokens as spaces do.
            _ if byte <= b' ' || byte == 0x7f => {
                at += 1;
                continue;
            }
            _ => (Kind::Symbol(char::from(byte)), at + 1),
        };
        out.tokens.push(Token {
            kind,
            span: at..end,
        });
        at = end;
    }
    if executed > 0 {
        out.broken = Some("a comment is not closed");
    }
    out
}

/// The name that an identifier token stands for.
pub(super) fn unquote(text: &str) -> Cow<'_, str> {
    for (quote, doubled, single) in [('`', "``", "`"), ('"', "\"\"", "\"")] {
        let inner = text
            .strip_prefix(quote)
            .and_then(|text| text.strip_suffix(quote));
        if let Some(inner) = inner {
            if !inner.contains(quote) {
                return Cow::Borrowed(inner);
            }
            return Cow::Owned(String::from(inner).replace(doubled, single));
        }
    }
    Cow::Borrowed(text)
}

fn stop(mut out: Tokens, why: &'static str) -> Tokens {
    out.broken = Some(why);
    out
}

/// Bytes of bare identifiers: every byte of a character beyond ASCII is one.
fn is_word(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || matches!(byte, b'_' | b'$') || byte >= 0x80
}

fn line_end(bytes: &[u8], at: usize) -> usize {
    bytes[at..]
        .iter()
        .position(|&b| b == b'\n')
        .map_or(bytes.len(), |length| at + length + 1)
}

/// The end of the next `needle`.
fn find(bytes: &[u8], from: usize, needle: &[u8]) -> Option<usize> {
    let found = bytes
        .get(from..)?
        .windows(needle.len())
        .position(|window| window == needle)?;
    Some(from + found + needle.len())
}

/// The end of what is quoted from `start`; a doubled quote belongs to it.
fn quoted(bytes: &[u8], start: usize, quote: u8, escapes: bool) -> Option<usize> {
    let mut at = start + 1;
    while let Some(&byte) = bytes.get(at) {
        if escapes && byte == b'\\' {
            at += 2;
        } else if byte != quote {
            at += 1;
        } else if bytes.get(at + 1) == Some(&quote) {
            at += 2;
        } else {
            return Some(at + 1);
        }
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    fn words(sql: &str, sql_mode: u64) -> Vec<&str> {
        let cut = cut(sql, sql_mode);
        assert_eq!(cut.broken, None, "{sql}");
        cut.tokens
            .into_iter()
            .map(|token| &sql[token.span])
            .collect()
    }

    #[test]
    fn tokens_are_cut_as_the_server_cuts_them() {
        let table: &[(&str, u64, &[&str])] = &[
            ("drop table a.b", 0, &["drop", "table", "a", ".", "b"]),
            ("a -- c\n b # d\n c/* e */d", 0, &["a", "b", "c", "d"]),
            ("1--1", 0, &["1", "-", "-", "1"]),
            ("a --", 0, &["a"]),
            (
                "x'' 'it''s' 'a\\'b' \"q\"",
                0,
                &["x", "''", "'it''s'", "'a\\'b'", "\"q\""],
            ),
            ("'a\\' 'b'", NO_BACKSLASH_ESCAPES, &["'a\\'", "'b'"]),
            ("\"a\\\"\"b\"", ANSI_QUOTES, &["\"a\\\"\"b\""]),
            ("`a``.b`.`c\\`", 0, &["`a``.b`", ".", "`c\\`"]),
            (
                "/*!50100 a */ b /*M!100100c*/ /*! d*/",
                0,
                &["a", "b", "c", "d"],
            ),
            ("/*T![x] a */ b /*+ hint */", 0, &["b"]),
            ("été$1_", 0, &["été$1_"]),
            ("a*/b", 0, &["a", "*", "/", "b"]),
        ];
        for (sql, sql_mode, expected) in table {
            assert_eq!(&words(sql, *sql_mode), expected, "{sql}");
        }
    }

    #[test]
    fn what_is_never_closed_is_told() {
        for sql in ["a 'b", "`a", "/* a", "/*!50000 a", "\"a\\\"", "'a\\"] {
            assert!(cut(sql, 0).broken.is_some(), "{sql}");
        }
    }

    #[test]
    fn identifiers_lose_their_quotes() {
        for (text, name) in [
            ("a", "a"),
            ("`a`", "a"),
            ("`a``b`", "a`b"),
            ("\"a\"\"b`\"", "a\"b`"),
        ] {
            assert_eq!(unquote(text), name);
        }
    }
}
