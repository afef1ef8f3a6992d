use alloc::{collections::BTreeMap, string::String, vec::Vec};
use core::{fmt, str::FromStr};

use super::{
    super::reader::{Reader, write_varlen},
    BinlogError, Gtid, Intervals, Result,
};

/// The highest transaction number that MySQL hands out.
pub(in super::super) const GNO_MAX: u64 = i64::MAX as u64 - 1;

/// The longest tag that MySQL accepts, in bytes.
const TAG_LEN_MAX: usize = 32;

/// Source of a transaction: server UUID and, since MySQL 8.3, a tag. Ordered as MySQL prints them.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Tsid {
    /// UUID of the server that the transaction was first committed on.
    pub sid: [u8; 16],
    /// Lower-case tag; empty for none.
    pub tag: String,
}

/// A set of MySQL transactions, as in `gtid_executed`.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct MysqlGtidSet {
    /// No entry is empty.
    sources: BTreeMap<Tsid, Intervals>,
}

impl MysqlGtidSet {
    /// The sources and their transaction numbers, ordered.
    pub fn iter(&self) -> impl Iterator<Item = (&Tsid, &Intervals)> {
        self.sources.iter()
    }

    pub(super) fn memory(&self) -> usize {
        let entry = |(tsid, intervals): (&Tsid, &Intervals)| {
            let numbers = size_of_val(intervals.as_slice());
            size_of::<(Tsid, Intervals)>() + tsid.tag.len() + numbers
        };
        self.sources.iter().map(entry).sum()
    }

    pub(super) fn is_empty(&self) -> bool {
        self.sources.is_empty()
    }

    /// Whether one transaction is in the set.
    #[must_use]
    pub fn contains_txn(&self, sid: &[u8; 16], tag: &str, gno: u64) -> bool {
        // Building the key allocates only for a tagged GTID.
        let intervals = self.sources.get(&tsid(sid, tag));
        intervals.is_some_and(|intervals| intervals.contains(gno, gno))
    }

    pub(super) fn contains(&self, other: &Self) -> bool {
        other.sources.iter().all(|(source, theirs)| {
            self.sources.get(source).is_some_and(|ours| {
                let mut intervals = theirs.as_slice().iter();
                intervals.all(|(first, last)| ours.contains(*first, *last))
            })
        })
    }

    /// Adds one transaction.
    pub fn add(&mut self, sid: &[u8; 16], tag: &str, gno: u64) {
        self.add_interval(tsid(sid, tag), gno, gno);
    }

    fn add_interval(&mut self, source: Tsid, first: u64, last: u64) {
        if first <= last {
            self.sources.entry(source).or_default().add(first, last);
        }
    }

    pub(super) fn union(&mut self, other: &Self) {
        for (source, theirs) in &other.sources {
            let ours = self.sources.entry(source.clone()).or_default();
            for (first, last) in theirs.as_slice() {
                ours.add(*first, *last);
            }
        }
    }

    /// Takes every transaction of `other` away.
    pub fn subtract(&mut self, other: &Self) {
        for (source, theirs) in &other.sources {
            let Some(ours) = self.sources.get_mut(source) else {
                continue;
            };
            for (first, last) in theirs.as_slice() {
                ours.remove(*first, *last);
            }
            if ours.is_empty() {
                self.sources.remove(source);
            }
        }
    }

    /// The only member, if there is exactly one.
    pub(super) fn single(&self) -> Option<Gtid> {
        let (source, intervals) = self.sources.first_key_value()?;
        match intervals.as_slice() {
            [(first, last)] if first == last && self.sources.len() == 1 => Some(Gtid::Mysql {
                sid: source.sid,
                tag: source.tag.clone(),
                gno: *first,
            }),
            _ => None,
        }
    }

    /// The binary form of COM_BINLOG_DUMP_GTID and of PREVIOUS_GTIDS: the classic one, or the
    /// tagged one (MySQL 8.3 and later) if there is a tag in the set.
    #[must_use]
    pub fn encode(&self) -> Vec<u8> {
        let tagged = self.sources.keys().any(|source| !source.tag.is_empty());
        let count = self.sources.len() as u64;
        let head = if tagged { TAGGED | (count << 8) } else { count };
        let mut out = Vec::from(head.to_le_bytes());
        for (source, intervals) in &self.sources {
            out.extend_from_slice(&source.sid);
            if tagged {
                write_varlen(&mut out, source.tag.len() as u64);
                out.extend_from_slice(source.tag.as_bytes());
            }
            out.extend_from_slice(&(intervals.as_slice().len() as u64).to_le_bytes());
            for (first, last) in intervals.as_slice() {
                out.extend_from_slice(&first.to_le_bytes());
                out.extend_from_slice(&(last + 1).to_le_bytes());
            }
        }
        out
    }

    /// Reads what [`Self::encode`] writes. Counts in the data are never trusted with memory.
    ///
    /// # Errors
    /// Truncated or malformed data; overlapping or descending intervals.
    pub fn decode(data: &[u8]) -> Result<Self> {
        let mut reader = Reader::new(data, "GTID set");
        let head = reader.u64()?;
        let tagged = head & FORMAT == TAGGED;
        let count = match head & FORMAT {
            TAGGED => (head & !FORMAT) >> 8,
            0 => head,
            _ => return Err(BinlogError::Unsupported("a GTID set of unknown format")),
        };
        let mut set = Self::default();
        for _ in 0..count {
            let sid = reader.array()?;
            let tag = if tagged {
                let len = usize::try_from(reader.varlen()?).map_err(|_| reader.malformed())?;
                let tag = core::str::from_utf8(reader.bytes(len)?).ok();
                let tag = tag.filter(|tag| tag.is_empty() || is_tag(tag));
                String::from(tag.ok_or_else(|| reader.malformed())?)
            } else {
                String::new()
            };
            let source = Tsid { sid, tag };
            let mut low = 1;
            for _ in 0..reader.u64()? {
                let (first, end) = (reader.u64()?, reader.u64()?);
                if first < low || end <= first || end > GNO_MAX + 1 {
                    return Err(reader.malformed());
                }
                set.add_interval(source.clone(), first, end - 1);
                low = end;
            }
        }
        if reader.is_empty() {
            Ok(set)
        } else {
            Err(reader.malformed())
        }
    }
}

/// Format byte of a binary set, in the highest byte of its first word.
const FORMAT: u64 = 0xff << 56;
const TAGGED: u64 = 1 << 56;

fn tsid(sid: &[u8; 16], tag: &str) -> Tsid {
    Tsid {
        sid: *sid,
        tag: String::from(tag),
    }
}

pub(super) fn write_uuid(f: &mut fmt::Formatter<'_>, sid: &[u8; 16]) -> fmt::Result {
    for (index, byte) in sid.iter().enumerate() {
        let dash = matches!(index, 4 | 6 | 8 | 10);
        write!(f, "{}{byte:02x}", if dash { "-" } else { "" })?;
    }
    Ok(())
}

impl fmt::Display for MysqlGtidSet {
    /// Comma-separated without spaces; MySQL itself adds a line break behind each comma.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut previous: Option<&Tsid> = None;
        for (source, intervals) in &self.sources {
            if previous.is_none_or(|previous| previous.sid != source.sid) {
                f.write_str(if previous.is_some() { "," } else { "" })?;
                write_uuid(f, &source.sid)?;
            }
            if !source.tag.is_empty() {
                write!(f, ":{}", source.tag)?;
            }
            write!(f, ":{intervals}")?;
            previous = Some(source);
        }
        Ok(())
    }
}

impl FromStr for MysqlGtidSet {
    type Err = BinlogError;

    fn from_str(text: &str) -> Result<Self> {
        let error = || BinlogError::Gtid(String::from(text));
        let mut set = Self::default();
        for part in text.split(',').map(str::trim) {
            // MySQL accepts empty parts, as in a trailing comma.
            if part.is_empty() {
                continue;
            }
            let mut pieces = part.split(':').map(str::trim);
            let sid = pieces.next().and_then(parse_uuid).ok_or_else(error)?;
            let mut source = tsid(&sid, "");
            let mut intervals = 0;
            for piece in pieces {
                let tag = piece.to_ascii_lowercase();
                if is_tag(&tag) {
                    source.tag = tag;
                    continue;
                }
                let (first, last) = parse_interval(piece).ok_or_else(error)?;
                intervals += 1;
                // `uuid:0` is written for "nothing yet".
                if last > 0 {
                    set.add_interval(source.clone(), first, last);
                }
            }
            if intervals == 0 {
                return Err(error());
            }
        }
        Ok(set)
    }
}

/// A lower-case letter or underscore, then letters, digits and underscores.
pub(in super::super) fn is_tag(tag: &str) -> bool {
    let first = tag.bytes().next();
    tag.len() <= TAG_LEN_MAX
        && first.is_some_and(|byte| byte == b'_' || byte.is_ascii_lowercase())
        && tag
            .bytes()
            .all(|b| b == b'_' || b.is_ascii_lowercase() || b.is_ascii_digit())
}

fn parse_uuid(text: &str) -> Option<[u8; 16]> {
    let bytes = text.as_bytes();
    let dashed = bytes.len() == 36;
    if dashed && [8, 13, 18, 23].iter().any(|at| bytes[*at] != b'-') {
        return None;
    }
    let mut digits = bytes.iter().filter(|byte| !dashed || **byte != b'-');
    let mut sid = [0; 16];
    for byte in &mut sid {
        let high = char::from(*digits.next()?).to_digit(16)?;
        let low = char::from(*digits.next()?).to_digit(16)?;
        *byte = (high << 4 | low) as u8;
    }
    digits.next().is_none().then_some(sid)
}

fn parse_interval(text: &str) -> Option<(u64, u64)> {
    let number = |text: &str| {
        let text = text.trim();
        let digits = text.bytes().all(|byte| byte.is_ascii_digit());
        let value: u64 = text.parse().ok()?;
        (digits && value <= GNO_MAX).then_some(value)
    };
    let (first, last) = match text.split_once('-') {
        Some((first, last)) => (number(first)?, number(last)?),
        None => (number(text)?, number(text)?),
    };
    (first > 0 || last == 0).then_some((first, last))
}

#[cfg(test)]
mod tests;
