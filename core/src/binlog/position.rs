//! Binlog file names and positions.

use alloc::{format, string::String};
use core::{cmp::Ordering, fmt, str::FromStr};

use super::BinlogError;

/// A place in a source's binlog: a file and the offset of the next event in it.
///
/// Ordered by the number in the file name, then by offset: `binlog.999999` comes before
/// `binlog.1000000`. A name may carry the sub-directory number of a relay log,
/// `mysql-bin|000002.000003`, which then counts first; [`Self::plain`] takes it away, and
/// [`Self::compare`] compares two of which only one has it.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub struct Position {
    /// Name of the binlog file; empty means "the first one that the source still has".
    pub file: String,
    /// Offset in bytes; the first event of a file is at 4.
    pub pos: u64,
}

impl Position {
    /// Offset of the first event in every binlog file, behind the four magic bytes.
    pub const FIRST: u64 = 4;

    /// A position in `file`.
    pub fn new(file: impl Into<String>, pos: u64) -> Self {
        Self {
            file: file.into(),
            pos,
        }
    }

    /// The same position with the source's own file name: without a relay sub-directory number.
    #[must_use]
    pub fn plain(&self) -> Self {
        let file = match FileName::parse(&self.file) {
            Ok(name) if name.relay.is_some() => name.plain(),
            _ => self.file.clone(),
        };
        Self {
            file,
            pos: self.pos,
        }
    }

    /// Compares two positions of which one may have been read from the source and the other one
    /// from its relay log: the number of the sub-directory counts if both carry one. That is no
    /// order of more than two.
    #[must_use]
    pub fn compare(&self, other: &Self) -> Ordering {
        if self.file == other.file || self.relay().is_some() == other.relay().is_some() {
            return self.cmp(other);
        }
        self.plain().cmp(&other.plain())
    }

    /// The same position in the sub-directory of this number of a relay log. A name that can't be
    /// taken apart stays as it is.
    #[must_use]
    pub fn in_relay(&self, number: u32) -> Self {
        let name = FileName::parse(&self.file);
        let file = name.map_or_else(|_| self.file.clone(), |name| name.in_relay(number));
        Self {
            file,
            pos: self.pos,
        }
    }

    /// Number of the sub-directory of a relay log that the name carries, if it does.
    #[must_use]
    pub fn relay(&self) -> Option<u32> {
        FileName::parse(&self.file).ok()?.relay
    }

    /// The two numbers that order a file: relay sub-directory and sequence, zero where absent.
    fn rank(&self) -> (u32, u64) {
        FileName::parse(&self.file).map_or((0, 0), |name| (name.relay.unwrap_or(0), name.sequence))
    }
}

impl Ord for Position {
    fn cmp(&self, other: &Self) -> Ordering {
        // Nearly all comparisons are within one file.
        if self.file == other.file {
            return self.pos.cmp(&other.pos);
        }
        (self.rank(), self.pos, &self.file).cmp(&(other.rank(), other.pos, &other.file))
    }
}

impl PartialOrd for Position {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl fmt::Display for Position {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "({}, {})", self.file, self.pos)
    }
}

impl FromStr for Position {
    type Err = BinlogError;

    /// Reads `(file, pos)` or `file:pos`.
    fn from_str(text: &str) -> Result<Self, BinlogError> {
        let error = || BinlogError::Position(text.into());
        let trimmed = text.trim();
        let (file, pos) = match trimmed.strip_prefix('(') {
            Some(inner) => inner
                .strip_suffix(')')
                .and_then(|inner| inner.split_once(',')),
            None => trimmed.rsplit_once(':'),
        }
        .ok_or_else(error)?;
        let pos = pos.trim();
        if !pos.bytes().all(|byte| byte.is_ascii_digit()) {
            return Err(error());
        }
        Ok(Self::new(file.trim(), pos.parse().map_err(|_| error())?))
    }
}

/// The parts of a binlog file name: `<base>.<sequence>` or `<base>|<relay>.<sequence>`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct FileName<'a> {
    /// What stands before the dot, without the relay sub-directory number.
    pub base: &'a str,
    /// Number of the relay sub-directory, if the name carries one. Never zero.
    pub relay: Option<u32>,
    /// The number behind the dot.
    pub sequence: u64,
    digits: &'a str,
}

impl<'a> FileName<'a> {
    /// Takes a file name apart.
    ///
    /// # Errors
    /// [`BinlogError::Position`] unless there is exactly one dot, with a name before it and only
    /// digits behind it.
    pub fn parse(name: &'a str) -> Result<Self, BinlogError> {
        let error = || BinlogError::Position(name.into());
        let (base, digits) = name.split_once('.').ok_or_else(error)?;
        if base.is_empty() || digits.is_empty() || !digits.bytes().all(|b| b.is_ascii_digit()) {
            return Err(error());
        }
        let sequence = digits.parse().map_err(|_| error())?;
        let suffixed = base.rsplit_once('|').and_then(|(plain, suffix)| {
            let number: u32 = suffix.parse().ok()?;
            let digits_only = suffix.bytes().all(|b| b.is_ascii_digit());
            (number > 0 && digits_only && !plain.is_empty()).then_some((plain, number))
        });
        Ok(match suffixed {
            Some((base, number)) => Self {
                base,
                relay: Some(number),
                sequence,
                digits,
            },
            None => Self {
                base,
                relay: None,
                sequence,
                digits,
            },
        })
    }

    /// The name as the source has it.
    #[must_use]
    pub fn plain(&self) -> String {
        format!("{}.{}", self.base, self.digits)
    }

    /// The name of a relay log's file, in the sub-directory of this number.
    #[must_use]
    pub fn in_relay(&self, number: u32) -> String {
        format!("{}|{number:06}.{}", self.base, self.digits)
    }
}

#[cfg(test)]
mod tests {
    use alloc::string::ToString;

    use proptest::prelude::*;

    use super::*;

    fn at(file: &str, pos: u64) -> Position {
        Position::new(file, pos)
    }

    #[test]
    fn files_are_ordered_by_number() {
        assert!(at("a.999999", 9) < at("a.1000000", 4));
        assert!(at("a.000002", 4) > at("a.000001", 1 << 40));
        assert!(at("a.000002", 4) < at("a.000002", 5));
        assert!(at("", 4) < at("a.000001", 4));
        assert!(at("m|000001.000009", 4) < at("m|000002.000001", 4));
    }

    #[test]
    fn relay_names_can_be_taken_apart() {
        let name = FileName::parse("mysql-bin|000002.000003").unwrap();
        assert_eq!(
            (name.base, name.relay, name.sequence),
            ("mysql-bin", Some(2), 3)
        );
        let name = FileName::parse("mysql|bin|000002.000006").unwrap();
        assert_eq!((name.base, name.relay), ("mysql|bin", Some(2)));
        assert_eq!(
            at("mysql-bin|000002.000003", 7).plain(),
            at("mysql-bin.000003", 7)
        );
        assert_eq!(
            at("mysql-bin|abc.000003", 7).plain(),
            at("mysql-bin|abc.000003", 7)
        );
        assert_eq!(FileName::parse("m|000000.1").unwrap().relay, None);
        assert_eq!(
            at("mysql|bin|000002.000006", 7).in_relay(13),
            at("mysql|bin|000013.000006", 7)
        );
        assert_eq!(at("m.0000001", 7).in_relay(2).relay(), Some(2));
        assert_eq!(at("", 7).in_relay(2), at("", 7));
        for (a, b, order) in [
            ("m|000001.000009", "m|000002.000001", Ordering::Less),
            ("m.000009", "m|000002.000001", Ordering::Greater),
            ("m|000002.000001", "m.000001", Ordering::Equal),
        ] {
            assert_eq!(at(a, 4).compare(&at(b, 4)), order, "{a} {b}");
        }
    }

    #[test]
    fn names_that_are_none() {
        let names = [
            "mysql-bin",
            ".000000",
            ".-666666",
            ".666abc",
            ".def666",
            "",
            "mysql.bin.666666",
            "a.",
            "mysql-bin|000001",
            "mysql-bin|000001.000002.000003",
            "a.+5",
            "a.99999999999999999999",
        ];
        for name in names {
            assert!(FileName::parse(name).is_err(), "{name}");
        }
    }

    #[test]
    fn both_notations_are_read() {
        assert_eq!("(binlog.000004, 157)".parse(), Ok(at("binlog.000004", 157)));
        assert_eq!("binlog.000004:157".parse(), Ok(at("binlog.000004", 157)));
        for bad in [
            "",
            "binlog.000004",
            "(a.1, )",
            "(a.1, -1)",
            "a.1:+3",
            "(a.1, 4",
        ] {
            let parsed: Result<Position, _> = bad.parse();
            assert!(parsed.is_err(), "{bad}");
        }
    }

    proptest! {
        #[test]
        fn text_round_trip(base in "[a-z|][a-z-|]{0,8}", seq: u32, pos: u64) {
            let position = Position::new(format!("{base}.{seq:06}"), pos);
            prop_assert_eq!(position.to_string().parse(), Ok(position));
        }

        #[test]
        fn order_agrees_with_equality(
            a in "[ab]\\.[0-9]{1,2}",
            b in "[ab]\\.[0-9]{1,2}",
            p in 0u64..3,
            q in 0u64..3,
        ) {
            let (a, b) = (Position::new(a, p), Position::new(b, q));
            prop_assert_eq!(a.cmp(&b) == Ordering::Equal, a == b);
            prop_assert_eq!(a.cmp(&b), b.cmp(&a).reverse());
        }
    }
}
