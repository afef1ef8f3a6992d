//! `metadata`: where in the binlog a dump was made.

use alloc::{
    format,
    string::{String, ToString},
};
use core::fmt;

use crate::{
    binlog::{Flavor, GtidSet, Position},
    error::{Error, Result, code},
    sync::progress::Location,
};

/// What the file says.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Metadata {
    /// When the dump was begun, and when it was complete: `2026-01-02 03:04:05`. Without the second
    /// it is not.
    pub times: (String, String),
    /// Everything before is in the dump; nothing if the source has no binlog.
    pub from: Option<Location>,
    /// Some of what is between the two may be in it: without a lock rows are read at several
    /// places.
    pub until: Option<Location>,
    /// What stands above a place.
    pub header: Header,
    /// The task and the source that it was made for; empty where the dumper does not say.
    pub owner: (String, String),
}

/// What stands above a place: the statement that the source was asked with.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub enum Header {
    /// MariaDB, and MySQL before 8.2.
    #[default]
    Master,
    /// MySQL.
    BinaryLog,
}

const STARTED: &str = "Started dump at: ";
const FINISHED: &str = "Finished dump at: ";
/// Behind all that others read.
const OWNER: &str = "Dumped for: ";
const OWNER_SOURCE: &str = ", source ";
const AFTER: &str = " /* AFTER CONNECTION POOL ESTABLISHED */";
const LOG: &str = "Log: ";
const POS: &str = "Pos: ";
const GTID: &str = "GTID:";
const HEADERS: [Header; 2] = [Header::Master, Header::BinaryLog];

impl Header {
    const fn text(self) -> &'static str {
        match self {
            Self::Master => "SHOW MASTER STATUS:",
            Self::BinaryLog => "SHOW BINARY LOG STATUS:",
        }
    }
}

/// What a line is about that is not a header.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
enum Block {
    /// Where the dump was made.
    From,
    /// Where it was made at last.
    Until,
    /// Somebody else: the source of the source.
    Other,
}

impl Metadata {
    /// Reads the file of the existing dumper, or of mydumper, which since version 0.12 has sections
    /// and keys (`[source]`, `File = …`).
    ///
    /// # Errors
    /// 11001: it is no such file.
    pub fn parse(flavor: Flavor, text: &str) -> Result<Self> {
        let mut found = Self::default();
        let mut block = Block::Other;
        let mut lines = text.lines().peekable();
        let (mut from, mut until) = (Raw::default(), Raw::default());
        while let Some(line) = lines.next() {
            let line = line.trim().trim_start_matches(['#', ' ']);
            if let Some(time) = line.strip_prefix(STARTED) {
                found.times.0 = time.to_string();
            } else if let Some(time) = line.strip_prefix(FINISHED) {
                found.times.1 = time.to_string();
            } else if let Some(owner) = line.strip_prefix(OWNER) {
                if let Some((task, source)) = owner.rsplit_once(OWNER_SOURCE) {
                    found.owner = (task.to_string(), source.to_string());
                }
            } else if line.starts_with('[') {
                block = match line {
                    "[master]" | "[source]" => Block::From,
                    _ => Block::Other,
                };
            } else if line.starts_with("SHOW ") {
                let header = HEADERS.iter().find(|it| line.starts_with(it.text()));
                found.header = header.copied().unwrap_or(found.header);
                block = match header.map(|header| &line[header.text().len()..]) {
                    Some("") => Block::From,
                    Some(AFTER) => Block::Until,
                    _ => Block::Other,
                };
            }
            let raw = match block {
                Block::From => &mut from,
                Block::Until => &mut until,
                Block::Other => continue,
            };
            if let Some((key, value)) = line.split_once(" = ") {
                let value = value.trim().trim_matches('"');
                match &*key.to_ascii_lowercase() {
                    "file" | "source_log_file" => raw.file = value.to_string(),
                    "position" | "source_log_pos" => raw.pos = value.to_string(),
                    "executed_gtid_set" => raw.gtids = value.to_string(),
                    _ => {}
                }
            } else if let Some(name) = line.strip_prefix(LOG.trim_end()) {
                raw.file = name.trim().to_string();
            } else if let Some(pos) = line.strip_prefix(POS.trim_end()) {
                raw.pos = pos.trim().to_string();
            } else if let Some(gtids) = line.strip_prefix(GTID) {
                raw.gtids = gtids.trim().to_string();
                // Sets of several servers are printed over several lines.
                while raw.gtids.ends_with(',')
                    && let Some(more) = lines.next_if(|line| !line.trim().is_empty())
                {
                    raw.gtids.push_str(more.trim());
                }
            }
        }
        if found.times.0.is_empty() {
            return Err(not_valid("it does not say when the dump was begun", text));
        }
        found.from = from.location(flavor, text)?;
        found.until = until.location(flavor, text)?;
        Ok(found)
    }
}

/// A place as it stands there.
#[derive(Default)]
struct Raw {
    file: String,
    pos: String,
    gtids: String,
}

impl Raw {
    fn location(self, flavor: Flavor, text: &str) -> Result<Option<Location>> {
        let Self { file, pos, gtids } = self;
        let pos = match &*pos {
            "" => 0,
            pos => {
                let number = pos.parse();
                number.map_err(|_| not_valid(&format!("the position {pos} is no number"), text))?
            }
        };
        if file.is_empty() || pos == 0 {
            return Ok(None);
        }
        let gtids = GtidSet::parse(flavor, &gtids);
        let gtids = gtids.map_err(|error| not_valid(&error.to_string(), text))?;
        let gtids = Some(gtids).filter(|gtids| !gtids.is_empty());
        let position = Position::new(file, pos);
        Ok(Some(Location { position, gtids }))
    }
}

/// The content of the file, as the existing dumper writes it. As long as the dump is not complete,
/// nothing is said of its end.
impl fmt::Display for Metadata {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let header = self.header.text();
        writeln!(f, "{STARTED}{}", self.times.0)?;
        for (location, after) in [(&self.from, ""), (&self.until, AFTER)] {
            if let Some(Location { position, gtids }) = location {
                let Position { file, pos } = position;
                let gtids = gtids.as_ref().map(GtidSet::to_string).unwrap_or_default();
                writeln!(
                    f,
                    "{header}{after}\n\t{LOG}{file}\n\t{POS}{pos}\n\t{GTID}{gtids}\n"
                )?;
            }
        }
        if !self.times.1.is_empty() {
            writeln!(f, "{FINISHED}{}", self.times.1)?;
        }
        let (task, source) = &self.owner;
        if task.is_empty() || source.is_empty() {
            return Ok(());
        }
        writeln!(f, "{OWNER}{task}{OWNER_SOURCE}{source}")
    }
}

fn not_valid(why: &str, text: &str) -> Error {
    let message = format!("parse mydumper metadata error: {why}, metadata: {text}");
    Error::new(&code::PARSE_MYDUMPER_META, message)
        .with_workaround("Take the `metadata` file that the dumper wrote, or dump anew.")
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const RECORDED: &str = include_str!("../../testdata/dump/metadata");
    const UUID: &str = "7105f637-e6f4-11f1-a0c3-02fc00000001";

    fn location(file: &str, pos: u64, gtids: &str) -> Option<Location> {
        Some(Location {
            position: Position::new(file, pos),
            gtids: (!gtids.is_empty()).then(|| GtidSet::parse(Flavor::Mysql, gtids).unwrap()),
        })
    }

    #[test]
    fn a_recorded_file_is_read_and_written() {
        let read = Metadata::parse(Flavor::Mysql, RECORDED).unwrap();
        let gtids = format!("{UUID}:1-16");
        assert_eq!(read.from, location("binlog.000001", 438_556, &gtids));
        assert_eq!(read.until, None);
        assert_eq!(read.times.1, "2026-11-23 04:15:34");
        assert_eq!(read.to_string(), RECORDED);
    }

    #[test]
    fn the_second_place_is_found_by_either_name() {
        for header in ["SHOW MASTER STATUS:", "SHOW BINARY LOG STATUS:"] {
            let text = format!(
                "Started dump at: 2026-01-02 03:04:05\n{header}\n\tLog: b.000007\n\tPos: 154\n\
                 \tGTID:{UUID}:1-37,\n0d7cf9d0-e6f4-11f1-a0c3-02fc00000001:1-3\n\n\
                 SHOW SLAVE STATUS:\n\tHost: h\n\tLog: other.000001\n\tPos: 9\n\tGTID:\n\n\
                 {header} /* AFTER CONNECTION POOL ESTABLISHED */\n\tLog: b.000008\n\tPos: 9012\n\
                 \tGTID:\n\nFinished dump at: 2026-01-02 03:14:05\n"
            );
            let read = Metadata::parse(Flavor::Mysql, &text).unwrap();
            let gtids = format!("{UUID}:1-37,0d7cf9d0-e6f4-11f1-a0c3-02fc00000001:1-3");
            assert_eq!(read.from, location("b.000007", 154, &gtids), "{header}");
            assert_eq!(read.until, location("b.000008", 9012, ""), "{header}");
        }
    }

    #[test]
    fn a_source_without_binlog_has_no_place() {
        let text = "Started dump at: 2026-01-02 03:04:05\nFinished dump at: 2026-01-02 03:04:06\n";
        let read = Metadata::parse(Flavor::Mysql, text).unwrap();
        assert_eq!((&read.from, &read.until), (&None, &None));
        assert_eq!(read.to_string(), text);
        let none = RECORDED.replace(":1-16", ":0");
        let read = Metadata::parse(Flavor::Mysql, &none).unwrap();
        assert_eq!(read.from, location("binlog.000001", 438_556, ""));
        let blank = "Started dump at: x\nSHOW MASTER STATUS:\n\tLog: \n\tPos: \n\tGTID:\n\n";
        assert_eq!(Metadata::parse(Flavor::Mysql, blank).unwrap().from, None);
    }

    #[test]
    fn later_versions_of_mydumper_are_read() {
        let gtid = "7105f637-e6f4-11f1-a0c3-02fc00000001:1-16";
        let texts = [
            format!(
                "# Started dump at: 2026-11-23 04:15:34\n[config]\nquote-character = BACKTICK\n\n\
                 [source]\n# Channel_Name = '' # It can be used\nFile = binlog.000001\n\
                 Position = 438556\nExecuted_Gtid_Set = {gtid}\n\n[`d`.`t`]\nrows = 4\n\
                 # Finished dump at: 2026-11-23 04:15:34\n"
            ),
            format!(
                "# Started dump at: 2026-11-23 04:15:34\n[master]\n\
                 executed_gtid_set = \"{gtid}\"\nSOURCE_AUTO_POSITION = 1\n\
                 #SOURCE_LOG_FILE = \"binlog.000001\"\n#SOURCE_LOG_POS = 438556\n\
                 [replication]\nFile = other.000009\nPosition = 4\n\
                 # Finished dump at: 2026-11-23 04:15:34\n"
            ),
        ];
        let recorded = Metadata::parse(Flavor::Mysql, RECORDED).unwrap();
        for text in texts {
            assert_eq!(Metadata::parse(Flavor::Mysql, &text).unwrap(), recorded);
        }
    }

    #[test]
    fn it_says_whose_it_is_and_whether_it_is_complete() {
        let mut known = Metadata::parse(Flavor::Mysql, RECORDED).unwrap();
        known.owner = ("t, source x".into(), "s".into());
        known.times.1.clear();
        let read = Metadata::parse(Flavor::Mysql, &known.to_string()).unwrap();
        assert_eq!(read, known);
    }

    #[test]
    fn what_makes_no_sense_is_refused() {
        for (from, to) in [
            ("Started dump at: ", "Begun at: "),
            ("438556", "many"),
            ("438556", "99999999999999999999"),
            (":1-16", ":one"),
        ] {
            let text = RECORDED.replace(from, to);
            let error = Metadata::parse(Flavor::Mysql, &text).unwrap_err();
            assert!(error.is(&code::PARSE_MYDUMPER_META), "{error}");
        }
        assert!(Metadata::parse(Flavor::Mariadb, RECORDED).is_err());
    }

    proptest! {
        #[test]
        fn whatever_is_there_it_comes_to_an_end(text in "(SHOW MASTER STATUS:|\tLog: b|\tPos: 4|\
            \tGTID:[a-f0-9:,-]{0,40}|Started dump at: |[ -~]{0,20}|\n){0,20}") {
            let _ = Metadata::parse(Flavor::Mysql, &text);
        }
    }
}
