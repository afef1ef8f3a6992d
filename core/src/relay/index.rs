//! `server-uuid.index`: the sub-directories in order.

use alloc::{format, vec::Vec};
use core::{fmt, str};

use super::SubDir;
use crate::error::{Error, Result, code};

/// Its name in a relay directory.
pub const INDEX_FILE: &str = "server-uuid.index";

/// The sub-directories that there are, or were: the oldest ones themselves may be gone.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub struct Index(Vec<SubDir>);

impl Index {
    /// Reads the file; a missing one is an empty one.
    ///
    /// # Errors
    /// 28001 or 28002: a line is not a sub-directory's name. 30001: one is missing in between.
    pub fn parse(bytes: &[u8]) -> Result<Self> {
        let text = str::from_utf8(bytes).map_err(|error| {
            Error::new(
                &code::RELAY_PARSE_UUID_INDEX,
                format!("{INDEX_FILE} is not a text: {error}"),
            )
        })?;
        let mut index = Self::default();
        let lines = text.split('\n').map(str::trim);
        for line in lines.filter(|line| !line.is_empty()) {
            index.push(line.parse()?)?;
        }
        Ok(index)
    }

    /// The next sub-directory comes behind the others.
    ///
    /// # Errors
    /// 30001: it is not the next one.
    pub fn push(&mut self, dir: SubDir) -> Result<()> {
        // The existing worker accepts whatever comes behind number 0, so its directories may.
        let before = self.0.last().filter(|before| before.number() != 0);
        if let Some(before) = before.filter(|before| before.number() + 1 != dir.number()) {
            return Err(Error::new(
                &code::RELAY_UUID_SUFFIX_NOT_VALID,
                format!("{INDEX_FILE}: `{dir}` comes behind `{before}`, and some are missing"),
            )
            .with_workaround(
                "Somebody edited the file: put the lines that are missing back, or let the relay \
                 begin anew in an empty directory.",
            ));
        }
        self.0.push(dir);
        Ok(())
    }

    /// The sub-directory that is written to.
    #[must_use]
    pub fn current(&self) -> Option<&SubDir> {
        self.0.last()
    }

    /// All of them, the oldest first.
    pub fn iter(&self) -> impl DoubleEndedIterator<Item = &SubDir> {
        self.0.iter()
    }

    /// The one of this number.
    #[must_use]
    pub fn get(&self, number: u32) -> Option<&SubDir> {
        self.0.iter().find(|dir| dir.number() == number)
    }

    /// The one behind another.
    #[must_use]
    pub fn behind(&self, dir: &SubDir) -> Option<&SubDir> {
        let place = self.0.iter().position(|known| known == dir)?;
        self.0.get(place + 1)
    }

    /// Leaves out the oldest ones that are gone. One that is gone between others stays, lest the
    /// order has a hole.
    pub fn trim(&mut self, is_gone: impl Fn(&SubDir) -> bool) {
        let left = self.0.iter().position(|dir| !is_gone(dir));
        let left = left.unwrap_or_else(|| self.0.len().saturating_sub(1));
        self.0.drain(..left);
    }
}

/// The content of the file.
impl fmt::Display for Index {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.iter().try_for_each(|dir| writeln!(f, "{dir}"))
    }
}

#[cfg(test)]
mod tests {
    use alloc::string::{String, ToString};

    use proptest::prelude::*;

    use super::*;

    /// As the existing worker left it after its source moved to another server.
    const RECORDED: &str = "7105f637-e6f4-11f1-a0c3-02fc00000001.000001\n\
                            7747f834-e6f4-11f1-99f0-02fc00000001.000002\n";

    #[test]
    fn a_recorded_index_is_read_and_written() {
        let index = Index::parse(RECORDED.as_bytes()).unwrap();
        assert_eq!(index.to_string(), RECORDED);
        let current = index.current().unwrap();
        assert_eq!(current.number(), 2);
        assert_eq!(index.behind(index.get(1).unwrap()), Some(current));
        assert_eq!(index.behind(current), None);
    }

    #[test]
    fn blanks_and_a_missing_end_do_not_matter() {
        let index = Index::parse(b"\r\n  a.000007 \n\n\ta.000008").unwrap();
        assert_eq!(index.to_string(), "a.000007\na.000008\n");
        assert_eq!(Index::parse(b"").unwrap(), Index::default());
    }

    #[test]
    fn a_hole_is_refused() {
        for text in [
            "a.000001\na.000003\n",
            "a.000002\na.000001\n",
            "a.000001\na.000001",
        ] {
            let error = Index::parse(text.as_bytes()).unwrap_err();
            assert!(error.is(&code::RELAY_UUID_SUFFIX_NOT_VALID), "{error}");
        }
        assert!(Index::parse(b"a.000000\na.000005\n").is_ok());
        assert!(Index::parse(b"a.1\n").is_err());
        assert!(Index::parse(b"\xff.000001\n").is_err());
    }

    #[test]
    fn only_the_oldest_are_left_out() {
        let text = "a.000001\na.000002\na.000003\na.000004\n";
        let trimmed = |gone: &[u32]| {
            let mut index = Index::parse(text.as_bytes()).unwrap();
            index.trim(|dir| gone.contains(&dir.number()));
            let numbers: Vec<_> = index.iter().map(SubDir::number).collect();
            numbers
        };
        assert_eq!(trimmed(&[]), [1, 2, 3, 4]);
        assert_eq!(trimmed(&[1, 3]), [2, 3, 4]);
        // The last one says which number comes next.
        assert_eq!(trimmed(&[1, 2, 3, 4]), [4]);
    }

    proptest! {
        #[test]
        fn any_bytes_are_read_or_refused(bytes in prop::collection::vec(any::<u8>(), 0..60)) {
            if let Ok(index) = Index::parse(&bytes) {
                let text: String = index.to_string();
                prop_assert_eq!(Index::parse(text.as_bytes()).unwrap(), index);
            }
        }
    }
}
