//! Target of the files in a dump.

use std::str;

use dm_core::{
    binlog::Flavor,
    full::{Compression, DumpFile, Insert, Loading, Metadata, Preamble, Splitter, is_blank},
    sync::schema::{ColumnInfo, Table, TableName},
};

use crate::{input::Input, memory};

/// A flag, where the text breaks, and a text: as the name of a file, as `metadata`, and as SQL that
/// comes in two pieces.
pub fn dump(data: &[u8]) {
    memory::bounded((1 << 20) + 256 * data.len(), || {
        let mut input = Input::new(data);
        let (escapes, cut) = (input.u8() & 1 == 1, input.u8());
        let text = input.rest();
        if let Ok(text) = str::from_utf8(text) {
            name(text);
            metadata(text);
        }
        let statements = split(&[text], escapes);
        let (begin, end) = text.split_at(text.len().min(cut.into()));
        assert_eq!(split(&[begin, end], escapes), statements);
        for statement in statements {
            let Ok(Some(insert)) = Insert::parse(&statement, escapes) else {
                let _ = Preamble::default().take(&statement);
                continue;
            };
            let tuples = loading().tuples(insert.columns.as_deref(), &Preamble::default());
            assert!(!is_blank(&statement));
            let mut before = 0;
            for row in insert.rows {
                assert!(before < row.start && row.len() >= 2);
                let row = (&statement[row.clone()], row.end);
                assert!(row.0.starts_with(b"(") && row.0.ends_with(b")"));
                let mut written = Vec::new();
                tuples.write(row.0, escapes, &mut written);
                let added = written.len() - row.0.len();
                assert!(added <= tuples.more_bytes());
                before = row.1;
            }
        }
    });
}

/// Of a table with JSON and an ENUM.
fn loading() -> Loading {
    let column = |(name, type_name): (&str, &str)| ColumnInfo {
        name: name.into(),
        type_name: type_name.into(),
        ..ColumnInfo::default()
    };
    Loading::new(&Table {
        name: TableName::new("d", "t"),
        columns: [("j", "json"), ("e", "enum"), ("k", "json")]
            .map(column)
            .to_vec(),
        keys: Vec::new(),
    })
}

/// What was read is written so that it is read again.
fn name(text: &str) {
    if let Ok(Some((file, _))) = DumpFile::parse(text)
        && !matches!(file, DumpFile::Other(_))
    {
        let again = DumpFile::parse(&file.to_string());
        assert_eq!(again, Ok(Some((file, Compression::None))));
    }
}

fn metadata(text: &str) {
    for flavor in [Flavor::Mysql, Flavor::Mariadb] {
        if let Ok(read) = Metadata::parse(flavor, text) {
            let again = Metadata::parse(flavor, &read.to_string()).expect("it was written by us");
            assert_eq!((again.times, again.owner), (read.times, read.owner));
            assert_eq!((again.from, again.until), (read.from, read.until));
        }
    }
}

fn split(pieces: &[&[u8]], escapes: bool) -> Vec<Vec<u8>> {
    let mut splitter = Splitter::new(escapes);
    let (mut statements, mut rest) = (Vec::new(), Vec::new());
    for piece in pieces {
        rest.extend_from_slice(piece);
        while let Some(end) = splitter.end_of(&rest) {
            statements.push(rest.drain(..end).collect());
        }
    }
    statements
}
