//! Names of dump files.
//!
//! Names of schemas and tables are escaped in them, so that a dot separates what it seems to, and
//! a file has a name on every file system: some characters, and the dash of a `-schema` inside a
//! name, become `%` with two hexadecimal digits (Dumpling; mydumper leaves names as they are).

use alloc::{
    format,
    string::{String, ToString},
    vec::Vec,
};
use core::fmt::{self, Write};

use crate::error::{Error, Result, code};

/// Name of the file that says where in the binlog a dump was made.
pub const METADATA_FILE: &str = "metadata";

/// What one file of a dump has.
#[derive(Clone, Debug, Eq, Ord, PartialEq, PartialOrd)]
pub enum DumpFile {
    /// Where in the binlog it was made.
    Metadata,
    /// The statement that makes a schema.
    Schema {
        /// Its name.
        schema: String,
    },
    /// The statement that makes a table, or one that stands for a view until all tables are there.
    Table {
        /// Its schema.
        schema: String,
        /// Its name.
        table: String,
    },
    /// The statement that makes a view.
    View {
        /// Its schema.
        schema: String,
        /// Its name.
        view: String,
    },
    /// Rows of a table.
    Data {
        /// Its schema.
        schema: String,
        /// Its name.
        table: String,
        /// Which of its files it is: the number of a chunk, and four digits for that of the file
        /// in it. Other dumpers count as they like.
        index: u64,
    },
    /// What is not migrated.
    Other(
        /// In the words of whoever is told of it.
        &'static str,
    ),
}

/// How the content of a file is packed.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Compression {
    /// Not at all.
    None,
    /// RFC 1952.
    Gzip,
    /// RFC 8878.
    Zstd,
    /// The framed format of Snappy.
    Snappy,
}

/// What stands behind the names of what a schema has, and how it is called. The longer ones first.
const OTHERS: [(&str, &str); 4] = [
    ("-schema-triggers", "triggers"),
    ("-schema-post", "routines and events"),
    ("-schema-sequence", "a sequence"),
    ("-placement-policy-create", "a placement policy"),
];
const SCHEMA: &str = "-schema-create";
const VIEW: &str = "-schema-view";
const TABLE: &str = "-schema";
const SQL: &str = ".sql";
/// What stands behind the names of files whose rows are no statements.
const OTHER_ROWS: [&str; 4] = [".csv", ".tsv", ".dat", ".parquet"];

impl DumpFile {
    /// Reads the name of a file in a dump directory; nothing if it is that of no such file.
    ///
    /// # Errors
    /// 11001: it is a dump file's, and it is unclear of what, or its rows are no statements.
    pub fn parse(name: &str) -> Result<Option<(Self, Compression)>> {
        if name == METADATA_FILE {
            return Ok(Some((Self::Metadata, Compression::None)));
        }
        let (stem, compression) = match name.rsplit_once('.') {
            Some((rest, "gz")) => (rest, Compression::Gzip),
            Some((rest, "zst" | "zstd")) => (rest, Compression::Zstd),
            Some((rest, "snappy" | "sz")) => (rest, Compression::Snappy),
            Some((rest, other)) if rest.ends_with(SQL) && !other.is_empty() => {
                return Err(unclear(
                    name,
                    &format!("`.{other}` is no compression that is known"),
                ));
            }
            _ => (name, Compression::None),
        };
        let Some(stem) = stem.strip_suffix(SQL) else {
            let is_rows = |name: &str| OTHER_ROWS.iter().any(|suffix| name.ends_with(suffix));
            // However it is packed.
            let rest = name.rsplit_once('.').map_or("", |(rest, _)| rest);
            return match is_rows(name) || is_rows(rest) {
                true => Err(no_statements(name)),
                false => Ok(None),
            };
        };
        for (suffix, what) in OTHERS {
            if stem.ends_with(suffix) {
                return Ok(Some((Self::Other(what), compression)));
            }
        }
        let mut parts = Vec::new();
        let (names, kind) = [SCHEMA, VIEW, TABLE]
            .into_iter()
            .find_map(|kind| Some((stem.strip_suffix(kind)?, kind)))
            .unwrap_or((stem, ""));
        for part in names.split('.') {
            parts.push(unescape(part).ok_or_else(|| unclear(name, "an escape is not complete"))?);
        }
        let file = match (kind, &*parts) {
            (SCHEMA, [schema]) => Self::Schema {
                schema: schema.clone(),
            },
            (VIEW, [schema, view]) => Self::View {
                schema: schema.clone(),
                view: view.clone(),
            },
            (TABLE, [schema, table]) => Self::Table {
                schema: schema.clone(),
                table: table.clone(),
            },
            ("", [schema, table]) => Self::data(schema, table, 0),
            ("", [schema, table, index]) => {
                let index = index.parse();
                let index = index.map_err(|_| unclear(name, "its last part is no number"))?;
                Self::data(schema, table, index)
            }
            // What mydumper has cut into several files.
            ("", [schema, table, chunk, part]) => {
                let number = |text: &str| text.parse::<u32>().map(u64::from);
                let both = number(chunk).and_then(|chunk| Ok((chunk, number(part)?)));
                let (chunk, part) =
                    both.map_err(|_| unclear(name, "its last parts are no numbers"))?;
                Self::data(schema, table, chunk << 32 | part)
            }
            _ => return Err(unclear(name, "it has too few parts, or too many")),
        };
        Ok(Some((file, compression)))
    }

    fn data(schema: &str, table: &str, index: u64) -> Self {
        Self::Data {
            schema: schema.to_string(),
            table: table.to_string(),
            index,
        }
    }
}

/// The name that the existing dumper gives it.
impl fmt::Display for DumpFile {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Metadata => f.write_str(METADATA_FILE),
            Self::Schema { schema } => write!(f, "{}{SCHEMA}{SQL}", escape(schema)),
            Self::Table { schema, table } => {
                write!(f, "{}.{}{TABLE}{SQL}", escape(schema), escape(table))
            }
            Self::View { schema, view } => {
                write!(f, "{}.{}{VIEW}{SQL}", escape(schema), escape(view))
            }
            Self::Data {
                schema,
                table,
                index,
            } => write!(f, "{}.{}.{index:013}{SQL}", escape(schema), escape(table)),
            Self::Other(what) => f.write_str(what),
        }
    }
}

fn escape(name: &str) -> String {
    let mut escaped = String::with_capacity(name.len());
    for (at, char) in name.char_indices() {
        let is_special = match char {
            '\0'..='\x1f' => true,
            '-' => (name.as_bytes().get(at + 1..at + TABLE.len()))
                .is_some_and(|next| next.eq_ignore_ascii_case(&TABLE.as_bytes()[1..])),
            _ => "%\"*./:<>?\\|".contains(char),
        };
        if is_special {
            // What is written to a text always fits.
            let _ = write!(escaped, "%{:02X}", u32::from(char));
        } else {
            escaped.push(char);
        }
    }
    escaped
}

/// Nothing if it was not escaped like that.
fn unescape(name: &str) -> Option<String> {
    let mut parts = name.split('%');
    let mut plain = String::from(parts.next()?);
    for part in parts {
        let (digits, rest) = part.split_at_checked(2)?;
        if !digits.bytes().all(|digit| digit.is_ascii_hexdigit()) {
            return None;
        }
        let byte = u8::from_str_radix(digits, 16).ok().filter(u8::is_ascii)?;
        plain.push(byte.into());
        plain.push_str(rest);
    }
    Some(plain)
}

fn no_statements(name: &str) -> Error {
    let message = format!("the rows of the dump file {name} are no SQL statements");
    Error::new(&code::PARSE_MYDUMPER_META, message).with_workaround(
        "Dump as SQL (Dumpling: `--filetype sql`), or take the file away if it is of no dump.",
    )
}

fn unclear(name: &str, why: &str) -> Error {
    let message = format!("it is unclear of what the dump file {name} is: {why}");
    Error::new(&code::PARSE_MYDUMPER_META, message)
        .with_workaround("Give the file a name as the dumper does, or take it away.")
}

#[cfg(test)]
mod tests {
    use alloc::borrow::ToOwned;

    use proptest::prelude::*;

    use super::*;

    fn parsed(name: &str) -> Option<(DumpFile, Compression)> {
        DumpFile::parse(name).unwrap()
    }

    fn plain(file: DumpFile) -> Option<(DumpFile, Compression)> {
        Some((file, Compression::None))
    }

    #[test]
    fn names_of_the_existing_dumper() {
        let (schema, table) = ("d".to_owned(), "all types".to_owned());
        for (name, file) in [
            ("metadata", DumpFile::Metadata),
            (
                "d-schema-create.sql",
                DumpFile::Schema {
                    schema: schema.clone(),
                },
            ),
            (
                "d.all types-schema.sql",
                DumpFile::Table {
                    schema: schema.clone(),
                    table: table.clone(),
                },
            ),
            (
                "d.all types-schema-view.sql",
                DumpFile::View {
                    schema: schema.clone(),
                    view: table.clone(),
                },
            ),
            (
                "d.all types.0000000120003.sql",
                DumpFile::Data {
                    schema,
                    table,
                    index: 120_003,
                },
            ),
        ] {
            assert_eq!(file.to_string(), name);
            assert_eq!(parsed(name), plain(file));
        }
    }

    #[test]
    fn names_of_others() {
        let data = |index| DumpFile::data("d", "t", index);
        assert_eq!(parsed("d.t.sql"), plain(data(0)));
        assert_eq!(parsed("d.t.00012.sql"), plain(data(12)));
        for (name, compression) in [
            ("d.t.00012.sql.gz", Compression::Gzip),
            ("d.t.00012.sql.zst", Compression::Zstd),
            ("d.t.00012.sql.snappy", Compression::Snappy),
        ] {
            assert_eq!(parsed(name), Some((data(12), compression)));
        }
        for name in ["d-schema-post.sql", "d.t-schema-triggers.sql.gz"] {
            assert!(matches!(parsed(name), Some((DumpFile::Other(_), _))));
        }
        for name in [
            "",
            "README",
            "metadata.partial",
            "d.t-metadata",
            "d.t-checksum",
            "csv.txt",
            "tidb_lightning_checkpoint.pb",
        ] {
            assert_eq!(parsed(name), None, "{name}");
        }
    }

    /// Nothing that may have rows is passed over.
    #[test]
    fn what_is_unclear_is_refused() {
        for name in [
            "d.sql",
            "d.t.x.sql",
            "a.b.c.1.sql",
            "a.b-schema-create.sql",
            "d%2.t.sql",
            "d%+1.t.sql",
            "d%FF.t.sql",
            "d.t.0.sql.lz4",
            "d.t.99999999999999999999.sql",
        ] {
            let error = DumpFile::parse(name).unwrap_err();
            assert!(error.is(&code::PARSE_MYDUMPER_META), "{name}: {error}");
        }
    }

    #[test]
    fn rows_that_are_no_statements_are_refused() {
        for name in [
            "d.t.csv",
            "d.t.0000000010000.csv",
            "d.t.0000000010000.csv.gz",
            "d.t.0000000010000.csv.snappy",
            "d.t.0000000010000.csv.lz4",
            "d.t.00000.dat",
            "d.t.00000.dat.zst",
            "d.t.tsv",
            "d.t.0.parquet",
        ] {
            let error = DumpFile::parse(name).unwrap_err();
            assert!(error.is(&code::PARSE_MYDUMPER_META), "{name}: {error}");
            assert!(error.workaround.contains("`--filetype sql`"), "{error}");
        }
        // These are names of tables.
        for name in ["d.csv-schema.sql", "d.dat.0.sql.gz"] {
            assert!(parsed(name).is_some(), "{name}");
        }
    }

    #[test]
    fn special_names_are_escaped() {
        for (name, escaped) in [
            ("a.b", "a%2Eb"),
            ("a-schema", "a%2Dschema"),
            ("a-SCHEMA-b", "a%2DSCHEMA-b"),
            ("a-schem", "a-schem"),
            ("50%\n", "50%25%0A"),
            ("größe", "größe"),
        ] {
            assert_eq!(escape(name), escaped);
        }
    }

    proptest! {
        #[test]
        fn every_name_is_read_back(
            schema in "[a-z.%/-]{1,9}|x-(schema|Schema-create)|\\PC{1,9}",
            table in "[a-z.%/-]{1,9}|x-schema(-view)?|[\u{0}-\u{7f}]{1,9}",
            index in any::<u64>(),
        ) {
            let (view, other) = (table.clone(), schema.clone());
            for file in [
                DumpFile::data(&schema, &table, index),
                DumpFile::Table { schema: schema.clone(), table },
                DumpFile::View { schema, view },
                DumpFile::Schema { schema: other },
            ] {
                let name = file.to_string();
                prop_assert!(!name.contains(['/', '\0']));
                prop_assert_eq!(DumpFile::parse(&name).unwrap(), plain(file));
            }
        }
    }
}
