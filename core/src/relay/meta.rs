//! `relay.meta`: where a sub-directory's next file begins.

use alloc::{
    format,
    string::{String, ToString},
};
use core::str;

use crate::{
    binlog::{GtidSet, Position},
    control::toml,
    error::{Error, Result, code},
    record,
};

/// Its name in a sub-directory.
pub const META_FILE: &str = "relay.meta";

record! {
    /// What stands in the file.
    Stored {
        /// Name of the file, as the source has it.
        binlog_name: String = "binlog-name",
        /// Offset in it.
        binlog_pos: u32 = "binlog-pos",
        /// What was read before.
        binlog_gtid: String = "binlog-gtid",
    }
}

/// Up to where a sub-directory was written, roughly: it is not renewed with each event. That it
/// names another file tells a reader that its own one is complete.
#[derive(Clone, Debug, PartialEq)]
pub struct Meta {
    /// A place in the source's binlog; the name is empty as long as none is known.
    pub position: Position,
    /// What was read up to there, where that is known.
    pub gtids: Option<GtidSet>,
}

impl Default for Meta {
    fn default() -> Self {
        Self {
            position: Position::new("", Position::FIRST),
            gtids: None,
        }
    }
}

impl Meta {
    /// Reads the file. What is missing in it is as in [`Meta::default`], what is unknown does not
    /// matter.
    ///
    /// # Errors
    /// 30003: it is not such a file.
    pub fn parse(bytes: &[u8]) -> Result<Self> {
        let text = str::from_utf8(bytes).map_err(|error| not_valid(&error.to_string()))?;
        let mut stored = Stored {
            binlog_pos: Position::FIRST as u32,
            ..Stored::default()
        };
        let reader = toml::read(text, &mut stored).map_err(|problem| not_valid(&problem.text))?;
        if let Some(problem) = reader.problems.first() {
            return Err(not_valid(&format!("{}: {}", problem.path, problem.text)));
        }
        let Stored {
            binlog_name,
            binlog_pos,
            binlog_gtid,
        } = stored;
        Ok(Self {
            position: Position::new(binlog_name, binlog_pos.into()),
            gtids: gtids(&binlog_gtid)?,
        })
    }

    /// The content of the file. A place that its 32 bits cannot hold becomes the beginning of the
    /// file, as it is there when a file has just begun; readers look into the file anyway.
    #[must_use]
    pub fn text(&self) -> String {
        let Position { file, pos } = &self.position;
        toml::write_record(&Stored {
            binlog_name: file.clone(),
            binlog_pos: u32::try_from(*pos).unwrap_or(Position::FIRST as u32),
            binlog_gtid: self
                .gtids
                .as_ref()
                .map_or_else(String::new, GtidSet::to_string),
        })
    }
}

/// A set of which nobody says what flavor it is of. Transaction 0 of somebody is none.
fn gtids(text: &str) -> Result<Option<GtidSet>> {
    let text = text.trim();
    let is_none =
        text.is_empty() || !text.contains(',') && (text.ends_with(":0") || text.ends_with("-0"));
    if is_none {
        return Ok(None);
    }
    let set = GtidSet::parse_any(text).map_err(|error| not_valid(&error.to_string()))?;
    Ok(Some(set))
}

fn not_valid(why: &str) -> Error {
    Error::new(&code::RELAY_LOAD_META_DATA, format!("{META_FILE}: {why}")).with_workaround(
        "Remove the file if the binlog files beside it are whole: what it says is found in them.",
    )
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::binlog::Flavor;

    /// As the existing worker wrote them.
    const RECORDED: [&str; 2] = [
        "binlog-name = \"binlog.000005\"\nbinlog-pos = 4\nbinlog-gtid = \"\"\n",
        "binlog-name = \"vm-bin.000002\"\nbinlog-pos = 4\nbinlog-gtid = \"0-3404-4\"\n",
    ];

    fn meta(file: &str, pos: u64, gtids: Option<GtidSet>) -> Meta {
        Meta {
            position: Position::new(file, pos),
            gtids,
        }
    }

    #[test]
    fn recorded_files_are_read_and_written() {
        for text in RECORDED {
            assert_eq!(Meta::parse(text.as_bytes()).unwrap().text(), text);
        }
        let mariadb = GtidSet::parse(Flavor::Mariadb, "0-3404-4").unwrap();
        assert_eq!(
            Meta::parse(RECORDED[1].as_bytes()).unwrap(),
            meta("vm-bin.000002", 4, Some(mariadb))
        );
    }

    #[test]
    fn what_is_missing_is_as_at_first() {
        for text in ["", "what-is-this = 1\n", "binlog-gtid = \" \""] {
            assert_eq!(
                Meta::parse(text.as_bytes()).unwrap(),
                Meta::default(),
                "{text}"
            );
        }
        for none in ["3ccc475b-2343-11e7-be21-6c0b84d59f30:0", "0-1-0"] {
            let text = format!("binlog-gtid = \"{none}\"");
            assert_eq!(
                Meta::parse(text.as_bytes()).unwrap(),
                Meta::default(),
                "{none}"
            );
        }
    }

    #[test]
    fn what_is_no_such_file_is_refused() {
        for text in [
            "binlog-name",
            "binlog-name = 5",
            "binlog-pos = -1",
            "binlog-pos = 4294967296",
            "binlog-gtid = \"nothing\"",
        ] {
            let error = Meta::parse(text.as_bytes()).unwrap_err();
            assert!(error.is(&code::RELAY_LOAD_META_DATA), "{text}: {error}");
        }
        assert!(Meta::parse(b"\xff").is_err());
    }

    #[test]
    fn a_place_behind_4_gib_is_not_said() {
        let far = meta("b.000001", 1 << 32, None);
        assert_eq!(
            Meta::parse(far.text().as_bytes()).unwrap(),
            meta("b.000001", 4, None)
        );
    }

    proptest! {
        #[test]
        fn names_of_any_kind_come_back(file in "\\PC{0,12}", pos: u32) {
            let written = meta(&file, pos.into(), None);
            prop_assert_eq!(Meta::parse(written.text().as_bytes()).unwrap(), written);
        }

        #[test]
        fn any_bytes_are_read_or_refused(bytes in prop::collection::vec(any::<u8>(), 0..80)) {
            let _ = Meta::parse(&bytes);
        }
    }
}
