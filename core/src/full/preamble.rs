//! What a dump file says about the session that its rows are for.

use alloc::{
    format,
    string::{String, ToString},
};

use super::statement::{commas, rest_of};
use crate::error::{Error, Result, code};

/// What a dump file says about the session that its rows are for; nothing of what it does not say.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub struct Preamble {
    /// The character set of texts (`SET NAMES`).
    pub charset: Option<String>,
    /// The time zone of timestamps.
    pub time_zone: Option<String>,
    /// Whether it spoke of foreign keys behind a character set, and in a comment for some servers,
    /// as mydumper always does. Dumpling does so before it, or to MariaDB without a comment; early
    /// ones did not.
    pub foreign_keys_last: bool,
}

/// Variables that change nothing of what rows are, or that every session for rows sets its own way.
const PASSED_OVER: [&str; 9] = [
    "autocommit",
    "character_set_client",
    "character_set_results",
    "collation_connection",
    "innodb_strict_mode",
    "sql_log_bin",
    "sql_notes",
    "sql_quote_show_create",
    "unique_checks",
];
/// Character sets of which a letter may end like a backslash or a quote. What comes from such a
/// session is not read byte by byte.
const NOT_BY_BYTES: [&str; 5] = ["big5", "cp932", "gb18030", "gbk", "sjis"];
/// Modes that change how literals are read.
const MODES: [&str; 2] = ["NO_BACKSLASH_ESCAPES", "ANSI_QUOTES"];

impl Preamble {
    /// Whether texts are in UTF-8, or as they are stored.
    pub(super) fn is_utf8_or_binary(&self) -> bool {
        let charset = self.charset.as_deref().map(str::to_ascii_lowercase);
        matches!(
            charset.as_deref(),
            None | Some("binary" | "utf8" | "utf8mb3" | "utf8mb4")
        )
    }

    /// Whether texts are in UTF-8 though it names binary: Dumpling gets them so from its source.
    /// Our own files name a time zone.
    pub(super) fn is_of_dumpling(&self) -> bool {
        !self.foreign_keys_last
            && self.time_zone.is_none()
            && self.charset.as_deref() == Some("binary")
    }

    /// Takes a statement over. Returns whether it is one of those that stand around rows.
    ///
    /// # Errors
    /// 11006: it asks for something that rows would be read wrong without.
    pub fn take(&mut self, statement: &[u8]) -> Result<bool> {
        let whole = String::from_utf8_lossy(rest_of(statement)?).into_owned();
        let text = bare(&whole);
        let word = |count| text.split_whitespace().nth(count).unwrap_or_default();
        let is = |count, what: &str| word(count).eq_ignore_ascii_case(what);
        let is_around = is(0, "LOCK") && is(1, "TABLES")
            || is(0, "UNLOCK") && is(1, "TABLES")
            || is(0, "ALTER") && text.to_ascii_uppercase().ends_with("ABLE KEYS");
        if is_around {
            return Ok(true);
        }
        if !is(0, "SET") {
            return Ok(false);
        }
        let list = &text[3..];
        let mut start = 0;
        for end in commas(list.as_bytes(), 0, true)
            .into_iter()
            .chain([list.len()])
        {
            let is_for_some = whole.starts_with("/*");
            self.assign(list[start..end].trim(), text, is_for_some)?;
            start = end + 1;
        }
        Ok(true)
    }

    fn assign(&mut self, assignment: &str, statement: &str, is_for_some: bool) -> Result<()> {
        let mut words = assignment.split_whitespace();
        if words
            .next()
            .is_some_and(|word| word.eq_ignore_ascii_case("NAMES"))
        {
            let name = words.next().unwrap_or_default().trim_matches(QUOTES);
            let is_name = |c: char| c.is_ascii_alphanumeric() || c == '_';
            if name.is_empty() || !name.chars().all(is_name) {
                return Err(not_understood(statement, "the character set has no name"));
            }
            if NOT_BY_BYTES.contains(&&*name.to_ascii_lowercase()) {
                let why = format!("texts in `{name}` are not understood");
                return Err(not_understood(statement, &why));
            }
            self.charset = Some(name.to_string());
            return Ok(());
        }
        let Some((name, value)) = assignment.split_once('=') else {
            return Err(not_understood(statement, "nothing is assigned"));
        };
        let name = name.trim_end_matches(':').trim().to_ascii_lowercase();
        let value = value.trim().trim_matches(QUOTES);
        let name = ["session ", "local ", "@@session.", "@@local.", "@@"]
            .iter()
            .find_map(|scope| name.strip_prefix(scope))
            .unwrap_or(&name)
            .trim();
        match name {
            "foreign_key_checks" => self.foreign_keys_last |= is_for_some && self.charset.is_some(),
            // A variable of the file's own.
            _ if name.starts_with('@') => {}
            _ if PASSED_OVER.contains(&name) => {}
            // What was before is put back.
            _ if value.starts_with('@') => {}
            "time_zone" => {
                let is_zone = |c: char| c.is_ascii_alphanumeric() || "+-:/_".contains(c);
                if value.is_empty() || !value.chars().all(is_zone) {
                    return Err(not_understood(statement, "that is no time zone"));
                }
                self.time_zone = Some(value.to_string());
            }
            "sql_mode" => {
                let upper = value.to_ascii_uppercase();
                if let Some(mode) = MODES.iter().find(|mode| upper.contains(**mode)) {
                    let why = format!("dumps with `{mode}` are not understood");
                    return Err(not_understood(statement, &why));
                }
            }
            _ => return Err(not_understood(statement, "its effect is not known")),
        }
        Ok(())
    }
}

const QUOTES: [char; 3] = ['\'', '"', '`'];

/// A statement without semicolon, and without the comment that only some servers look into:
/// `/*!40101 SET NAMES binary*/;`.
fn bare(text: &str) -> &str {
    let text = text.trim_end_matches([';', ' ', '\n', '\r', '\t']);
    let inner = text
        .strip_prefix("/*!")
        .or_else(|| text.strip_prefix("/*M!"));
    match inner.and_then(|inner| inner.strip_suffix("*/")) {
        Some(inner) => inner
            .trim_start_matches(|c: char| c.is_ascii_digit())
            .trim(),
        None => text.trim(),
    }
}

fn not_understood(statement: &str, why: &str) -> Error {
    let message = format!("parse statement: `{statement}` of a dump file: {why}");
    Error::new(&code::PARSE_SQL, message)
        .with_workaround("Remove the statement, if rows mean the same without it, or dump anew.")
}

#[cfg(test)]
mod tests {
    use alloc::vec::Vec;

    use proptest::prelude::*;

    use super::*;

    fn read(statements: &[&str]) -> Result<Preamble> {
        let mut preamble = Preamble::default();
        for statement in statements {
            assert!(preamble.take(statement.as_bytes())?, "{statement}");
        }
        Ok(preamble)
    }

    #[test]
    fn what_dumpers_write_is_understood() {
        let some = |charset: &str, zone: Option<&str>| Preamble {
            charset: Some(charset.into()),
            time_zone: zone.map(Into::into),
            foreign_keys_last: zone.is_some_and(|zone| zone == "+00:00"),
        };
        let dumpling = [
            "/*!40014 SET FOREIGN_KEY_CHECKS=0*/;",
            "\n/*!40101 SET NAMES binary*/;",
        ];
        assert_eq!(read(&dumpling), Ok(some("binary", None)));
        let mydumper = [
            "/*!40101 SET NAMES binary*/;",
            "/*!40014 SET FOREIGN_KEY_CHECKS=0*/;",
            "-- a word\n/*!40103 SET TIME_ZONE='+00:00' */;",
            "/*!40000 ALTER TABLE `t` DISABLE KEYS */;",
        ];
        assert_eq!(read(&mydumper), Ok(some("binary", Some("+00:00"))));
        let others = [
            "/*!40101 SET @OLD_SQL_MODE=@@SQL_MODE, SQL_MODE='NO_AUTO_VALUE_ON_ZERO,X' */;",
            "set names 'utf8mb4' COLLATE utf8mb4_bin;",
            "SET SESSION time_zone = \"Europe/Berlin\", @@session.sql_notes := 0;",
            "SET TIME_ZONE=@OLD_TIME_ZONE;",
            "LOCK TABLES `a` WRITE;",
            "UNLOCK TABLES;",
        ];
        assert_eq!(read(&others), Ok(some("utf8mb4", Some("Europe/Berlin"))));
    }

    #[test]
    fn what_would_change_rows_is_refused() {
        for statement in [
            "SET sql_mode='ANSI_QUOTES'",
            "/*!40101 SET SQL_MODE='NO_BACKSLASH_ESCAPES' */;",
            "SET NAMES;",
            "SET NAMES a;b",
            "SET NAMES GBK",
            "/*!40101 SET NAMES 'sjis' */;",
            "SET time_zone='+00:00\\''",
            "SET GLOBAL x=1",
            "SET timestamp=1;",
            "SET",
        ] {
            let error = Preamble::default().take(statement.as_bytes()).unwrap_err();
            assert!(error.is(&code::PARSE_SQL), "{statement}: {error}");
        }
        let others: Vec<_> = [
            "INSERT INTO t VALUES (1)",
            "DROP TABLE t",
            "",
            "ALTER TABLE t ADD a INT",
        ]
        .into_iter()
        .map(|statement| Preamble::default().take(statement.as_bytes()))
        .collect();
        assert_eq!(others, [Ok(false), Ok(false), Ok(false), Ok(false)]);
    }

    proptest! {
        #[test]
        fn whatever_is_there_it_comes_to_an_end(text in "(SET|/\\*!|\\*/|[ -~]|NAMES|=|')*") {
            let _ = Preamble::default().take(text.as_bytes());
        }
    }
}
