//! How rows of a dump file are written into a table.

use alloc::{string::String, vec::Vec};

use super::{Preamble, statement::values};
use crate::sync::schema::Table;

/// What must be known of a table of the target before rows of a dump file are written into it.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub struct Loading {
    /// Name in lower case and what is special, in the order of the table.
    columns: Vec<(String, Special)>,
}

/// What is special about the values of a column.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
enum Special {
    Nothing,
    /// Its texts must be UTF-8, also where those of others are in binary.
    Utf8,
    /// Its texts are in another character set than UTF-8.
    Charset,
    /// Both an ENUM and in another character set.
    CharsetEnum,
    /// Both an ENUM, and its texts must be UTF-8.
    Utf8Enum,
    /// A value that is empty or zero is invalid.
    Enum,
}

/// What makes a text one in UTF-8.
const UTF8: &[u8] = b"_utf8mb4";

/// What is special about the values of a statement's rows.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Tuples(Vec<Special>);

impl Loading {
    /// For a table of the target.
    #[must_use]
    pub fn new(table: &Table) -> Self {
        let columns = table.columns.iter().map(|column| {
            let special = match (&*column.type_name, column.is_utf8()) {
                ("json" | "uuid" | "inet4" | "inet6", _) => Special::Utf8,
                ("enum", true) => Special::Enum,
                ("enum", false) => Special::CharsetEnum,
                (_, true) => Special::Nothing,
                (_, false) => Special::Charset,
            };
            (column.name.to_lowercase(), special)
        });
        Self {
            columns: columns.collect(),
        }
    }

    /// For the columns of a statement; without a list, all of the table's. Columns that the table
    /// does not have are nothing special: the server refuses them.
    #[must_use]
    pub fn tuples(&self, columns: Option<&[Vec<u8>]>, preamble: &Preamble) -> Tuples {
        let name_of = |name: &Vec<u8>| String::from_utf8_lossy(name).to_lowercase();
        let special = |name: String| {
            let known = self.columns.iter().find(|(known, _)| *known == name);
            known.map_or(Special::Nothing, |(_, special)| *special)
        };
        let mut all: Vec<_> = match columns {
            Some(columns) => columns.iter().map(name_of).map(special).collect(),
            None => self.columns.iter().map(|(_, special)| *special).collect(),
        };
        for special in &mut all {
            match special {
                // The server makes UTF-8 of what is in another character set.
                Special::Utf8 if !preamble.is_utf8_or_binary() => *special = Special::Nothing,
                Special::Charset if preamble.is_of_dumpling() => *special = Special::Utf8,
                Special::Charset => *special = Special::Nothing,
                Special::CharsetEnum if preamble.is_of_dumpling() => *special = Special::Utf8Enum,
                Special::CharsetEnum => *special = Special::Enum,
                _ => {}
            }
        }
        Tuples(all)
    }
}

impl Tuples {
    /// By how many bytes a row may grow.
    #[must_use]
    pub fn more_bytes(&self) -> usize {
        self.0.len() * UTF8.len()
    }

    /// Appends a row, given with its parentheses. Returns whether only a session that is not strict
    /// takes it.
    pub fn write(&self, row: &[u8], escapes: bool, into: &mut Vec<u8>) -> bool {
        if self.0.iter().all(|special| *special == Special::Nothing) {
            into.extend_from_slice(row);
            return false;
        }
        let mut is_lenient = false;
        let mut done = 0;
        for (special, place) in self.0.iter().zip(values(row, escapes)) {
            let value = &row[place.clone()];
            let is_quoted = value.starts_with(b"'") || value.starts_with(b"\"");
            if is_quoted && matches!(special, Special::Utf8 | Special::Utf8Enum) {
                into.extend_from_slice(&row[done..place.start]);
                into.extend_from_slice(UTF8);
                done = place.start;
            }
            if matches!(special, Special::Enum | Special::Utf8Enum) {
                is_lenient |= [&b"''"[..], b"\"\"", b"0"].contains(&value);
            }
        }
        into.extend_from_slice(&row[done..]);
        is_lenient
    }
}

#[cfg(test)]
mod tests {
    use alloc::vec;

    use super::*;
    use crate::sync::schema::{ColumnInfo, TableName};

    fn loading() -> Loading {
        let column = |(name, type_name): (&str, &str)| ColumnInfo {
            name: name.into(),
            type_name: type_name.into(),
            ..ColumnInfo::default()
        };
        let columns = [("id", "int"), ("J", "json"), ("e", "enum"), ("k", "json")];
        Loading::new(&Table {
            name: TableName::new("d", "t"),
            columns: columns.map(column).to_vec(),
            keys: vec![],
        })
    }

    fn written(tuples: &Tuples, row: &str) -> (String, bool) {
        let mut into = Vec::new();
        let is_lenient = tuples.write(row.as_bytes(), true, &mut into);
        (String::from_utf8(into).unwrap(), is_lenient)
    }

    #[test]
    fn json_is_utf8_wherever_it_stands() {
        let all = loading().tuples(None, &Preamble::default());
        assert_eq!(
            written(&all, "(1,'{\"a\": \\'(,\\'}', 'x' , '[1]')"),
            (
                "(1,_utf8mb4'{\"a\": \\'(,\\'}', 'x' , _utf8mb4'[1]')".into(),
                false
            )
        );
        let listed = loading().tuples(
            Some(&[b"j".to_vec(), b"id".to_vec(), b"?".to_vec()]),
            &Preamble::default(),
        );
        assert_eq!(
            written(&listed, "(NULL,'1','2')"),
            ("(NULL,'1','2')".into(), false)
        );
        assert_eq!(
            written(&listed, "(CONVERT('[]' USING utf8mb4),'1')"),
            ("(CONVERT('[]' USING utf8mb4),'1')".into(), false)
        );
        let text = "(/*!40101 _utf8mb4*/'[]','1')";
        assert_eq!(written(&listed, text), (text.into(), false));
    }

    #[test]
    fn what_is_in_another_character_set_is_not_called_utf8() {
        let row = "(1,'[1]','x','[2]')";
        for (charset, json) in [
            (None, "_utf8mb4'[1]'"),
            (Some("binary"), "_utf8mb4'[1]'"),
            (Some("UTF8"), "_utf8mb4'[1]'"),
            (Some("latin1"), "'[1]'"),
        ] {
            let preamble = Preamble {
                charset: charset.map(Into::into),
                ..Preamble::default()
            };
            let (text, _) = written(&loading().tuples(None, &preamble), row);
            let expected = row.replace("'[1]'", json);
            let expected = expected.replace("'[2]'", &json.replace("[1]", "[2]"));
            assert_eq!(text, expected, "{charset:?}");
        }
    }

    #[test]
    fn empty_members_of_an_enum_are_seen() {
        let all = loading().tuples(None, &Preamble::default());
        assert_eq!(
            written(&all, "(1,NULL,'',NULL)"),
            ("(1,NULL,'',NULL)".into(), true)
        );
        assert!(written(&all, "(0,NULL,0,'0')").1);
        assert!(!written(&all, "(0,NULL,'0','')").1);
        let listed = loading().tuples(Some(&[b"id".to_vec()]), &Preamble::default());
        assert_eq!(written(&listed, "('')"), ("('')".into(), false));
    }

    #[test]
    fn rows_are_taken_apart_at_their_commas() {
        let parts = |row: &str| -> Vec<String> {
            let places = values(row.as_bytes(), true);
            places.into_iter().map(|place| row[place].into()).collect()
        };
        assert_eq!(
            parts("( 1 ,'a,\\',(', f(1,2),\"x\",`y,`)"),
            ["1", "'a,\\',('", "f(1,2)", "\"x\"", "`y,`"]
        );
        assert_eq!(parts("()"), [""]);
        assert_eq!(parts("("), [""]);
        assert_eq!(parts(""), [""]);
    }

    /// Dumpling's files have UTF-8 in them, whatever they say; others what is stored.
    #[test]
    fn texts_of_dumpling_are_utf8() {
        let column = |(charset, type_name): (&str, &str)| ColumnInfo {
            name: charset.into(),
            type_name: type_name.into(),
            charset: Some(charset.into()),
            ..ColumnInfo::default()
        };
        let columns = [("latin1", "varchar"), ("utf8mb4", "text"), ("gbk", "enum")];
        let loading = Loading::new(&Table {
            name: TableName::new("d", "t"),
            columns: columns.map(column).to_vec(),
            keys: vec![],
        });
        let head = |statements: &[&str]| {
            let mut preamble = Preamble::default();
            for statement in statements {
                assert!(preamble.take(statement.as_bytes()).unwrap(), "{statement}");
            }
            written(&loading.tuples(None, &preamble), "('é','é','é')").0
        };
        let keys = "/*!40014 SET FOREIGN_KEY_CHECKS=0*/;";
        let names = "/*!40101 SET NAMES binary*/;";
        let zone = "/*!40103 SET TIME_ZONE='+00:00' */;";
        // To MySQL, to MariaDB, and those of old.
        let bare = "SET FOREIGN_KEY_CHECKS=0;";
        for dumpling in [&[keys, names][..], &[names, bare], &[names]] {
            assert_eq!(head(dumpling), "(_utf8mb4'é','é',_utf8mb4'é')");
        }
        for others in [
            &[names, keys][..],
            &[keys, names, zone],
            &[names, keys, zone],
            &[],
        ] {
            assert_eq!(head(others), "('é','é','é')");
        }
    }
}
