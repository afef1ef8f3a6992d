//! Names of sub-directories.

use alloc::{borrow::ToOwned, format, string::String};
use core::{fmt, str::FromStr};

use crate::error::{Error, Result, code};

/// A sub-directory: what was read from one server, until the source moved to the next one.
///
/// Its name is the server's, `<uuid>` of MySQL or `<domain>-<server id>` of MariaDB, with a dot and
/// six digits behind it, which count the moves.
#[derive(Clone, Debug, Eq, Hash, Ord, PartialEq, PartialOrd)]
pub struct SubDir {
    number: u32,
    server: String,
}

impl SubDir {
    /// The highest number that has six digits.
    const NUMBER_MAX: u32 = 999_999;
    const DIGITS: usize = 6;

    /// The sub-directory of a server.
    ///
    /// # Errors
    /// 28002: no directory can have that name.
    pub fn new(server: &str, number: u32) -> Result<Self> {
        let is_name = !server.is_empty() && !server.contains(['.', '/', '|']);
        if !is_name || server.contains(char::is_whitespace) || number > Self::NUMBER_MAX {
            return Err(not_valid(&format!("{server}.{number:06}")));
        }
        Ok(Self {
            number,
            server: server.to_owned(),
        })
    }

    /// The next one, of the server that the source is on then.
    ///
    /// # Errors
    /// 28002: there was one too many, or the server's name can't be one's.
    pub fn next(&self, server: &str) -> Result<Self> {
        Self::new(server, self.number + 1)
    }

    /// Name of the server.
    #[must_use]
    pub fn server(&self) -> &str {
        &self.server
    }

    /// Which one it is in order; names of files in checkpoints carry it.
    #[must_use]
    pub const fn number(&self) -> u32 {
        self.number
    }
}

impl fmt::Display for SubDir {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}.{:06}", self.server, self.number)
    }
}

impl FromStr for SubDir {
    type Err = Error;

    fn from_str(name: &str) -> Result<Self> {
        let parts = name.split_once('.').filter(|(_, digits)| {
            digits.len() == Self::DIGITS && digits.bytes().all(|byte| byte.is_ascii_digit())
        });
        let number = parts.and_then(|(_, digits)| digits.parse().ok());
        match (parts, number) {
            (Some((server, _)), Some(number)) => Self::new(server, number),
            _ => Err(not_valid(name)),
        }
    }
}

fn not_valid(name: &str) -> Error {
    let message = format!("`{name}` is not the name of a relay sub-directory");
    Error::new(&code::RELAY_PARSE_UUID_SUFFIX, message)
}

#[cfg(test)]
mod tests {
    use alloc::string::ToString;

    use proptest::prelude::*;

    use super::*;

    #[test]
    fn names_that_are_none() {
        for name in [
            "",
            ".",
            "a",
            "a.",
            ".000001",
            "a.00001",
            "a.0000001",
            "a.00000x",
            "a.+00001",
            "a.-00001",
            "a.b.000001",
            "a/b.000001",
            "a b.000001",
            "a|b.000001",
        ] {
            assert!(name.parse::<SubDir>().is_err(), "{name}");
        }
    }

    #[test]
    fn the_last_number_has_six_digits() {
        let last = SubDir::new("0-1", 999_999).unwrap();
        assert_eq!(last.to_string(), "0-1.999999");
        assert!(last.next("0-1").is_err());
    }

    proptest! {
        #[test]
        fn names_are_read_as_written(server in "[a-z0-9-]{1,36}", number in 0u32..1_000_000) {
            let dir = SubDir::new(&server, number).unwrap();
            prop_assert_eq!(dir.to_string().parse::<SubDir>().unwrap(), dir);
        }

        #[test]
        fn whatever_is_read_is_written_so(name in "\\PC{0,12}|[a-z.0-9]{7,12}") {
            if let Ok(dir) = name.parse::<SubDir>() {
                prop_assert_eq!(dir.to_string(), name);
            }
        }
    }
}
