use alloc::{
    collections::btree_map::{BTreeMap, Entry},
    string::String,
};
use core::{fmt, str::FromStr};

use super::{BinlogError, Gtid, Result};

/// The last transaction of each replication domain; everything before it in its domain is meant as
/// well. This is what `gtid_slave_pos` holds and what `@slave_connect_state` takes.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct MariadbGtidSet {
    /// Domain → (server, sequence).
    domains: BTreeMap<u32, (u32, u64)>,
}

impl MariadbGtidSet {
    pub(super) fn memory(&self) -> usize {
        self.domains.len() * size_of::<(u32, (u32, u64))>()
    }

    pub(super) fn is_empty(&self) -> bool {
        self.domains.is_empty()
    }

    /// Whether the sequence number is not behind the last one of its domain.
    #[must_use]
    pub fn contains_txn(&self, domain: u32, seq: u64) -> bool {
        self.domains.get(&domain).is_some_and(|last| last.1 >= seq)
    }

    /// Makes this the last transaction of its domain, whatever was there: transactions are added in
    /// the order of the stream, and without strict mode that order, not the number, is what the
    /// source resumes by.
    pub fn add(&mut self, domain: u32, server: u32, seq: u64) {
        self.domains.insert(domain, (server, seq));
    }

    /// Makes this the last transaction of its domain unless a higher number is there already.
    fn raise(&mut self, domain: u32, server: u32, seq: u64) {
        match self.domains.entry(domain) {
            Entry::Vacant(entry) => {
                entry.insert((server, seq));
            }
            Entry::Occupied(mut entry) if entry.get().1 < seq => {
                entry.insert((server, seq));
            }
            Entry::Occupied(_) => {}
        }
    }

    pub(super) fn union(&mut self, other: &Self) {
        for (domain, (server, seq)) in &other.domains {
            self.raise(*domain, *server, *seq);
        }
    }

    pub(super) fn subtract(&mut self, other: &Self) {
        self.domains
            .retain(|domain, (_, seq)| !other.contains_txn(*domain, *seq));
    }

    pub(super) fn covers(&self, other: &Self) -> bool {
        let mut positions = other.domains.iter();
        positions.all(|(domain, (_, seq))| {
            let last = self.domains.get(domain);
            last.is_none_or(|last| last.1 >= *seq)
        })
    }

    pub(super) fn contains(&self, other: &Self) -> bool {
        let mut positions = other.domains.iter();
        positions.all(|(domain, (_, seq))| self.contains_txn(*domain, *seq))
    }
}

impl fmt::Display for MariadbGtidSet {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (index, (domain, (server, seq))) in self.domains.iter().enumerate() {
            let comma = if index == 0 { "" } else { "," };
            write!(f, "{comma}{domain}-{server}-{seq}")?;
        }
        Ok(())
    }
}

impl FromStr for MariadbGtidSet {
    type Err = BinlogError;

    fn from_str(text: &str) -> Result<Self> {
        let mut set = Self::default();
        if text.trim().is_empty() {
            return Ok(set);
        }
        for part in text.split(',') {
            let Gtid::Mariadb {
                domain,
                server,
                seq,
            } = parse_gtid(part.trim())?
            else {
                return Err(BinlogError::Gtid(String::from(text)));
            };
            // `0-0-0` is written for "nothing yet".
            if seq > 0 {
                set.raise(domain, server, seq);
            }
        }
        Ok(set)
    }
}

pub(super) fn parse_gtid(text: &str) -> Result<Gtid> {
    let error = || BinlogError::Gtid(String::from(text));
    if !text.bytes().all(|b| b.is_ascii_digit() || b == b'-') {
        return Err(error());
    }
    let mut parts = text.split('-');
    let (Some(domain), Some(server), Some(seq), None) =
        (parts.next(), parts.next(), parts.next(), parts.next())
    else {
        return Err(error());
    };
    Ok(Gtid::Mariadb {
        domain: domain.parse().map_err(|_| error())?,
        server: server.parse().map_err(|_| error())?,
        seq: seq.parse().map_err(|_| error())?,
    })
}

#[cfg(test)]
mod tests {
    use alloc::string::ToString;

    use super::*;

    fn set(text: &str) -> MariadbGtidSet {
        text.parse().unwrap()
    }

    #[test]
    fn text_is_sorted_by_number() {
        assert_eq!(set(" 10-10-10, 3-1-1").to_string(), "3-1-1,10-10-10");
        assert_eq!(set("").to_string(), "");
        assert_eq!(set("0-0-0").to_string(), "");
        assert_eq!(set("0-1-5,0-2-7,0-3-6").to_string(), "0-2-7");
        for bad in [
            "0-1",
            "0-1-2-3",
            "a-1-2",
            "0-1-2,",
            ",",
            "+0-1-2",
            "0-4294967296-1",
        ] {
            assert!(bad.parse::<MariadbGtidSet>().is_err(), "{bad}");
        }
    }

    #[test]
    fn a_position_stands_for_all_before_it() {
        let at = set("0-1-10,2-1-3");
        assert!(at.contains_txn(0, 10) && !at.contains_txn(0, 11) && !at.contains_txn(1, 1));
        assert!(at.contains(&set("0-9-9")) && !at.contains(&set("0-1-9,1-1-1")));
        let mut union = at.clone();
        union.union(&set("0-2-9,1-1-1"));
        assert_eq!(union.to_string(), "0-1-10,1-1-1,2-1-3");
    }

    #[test]
    fn the_stream_decides_what_comes_last() {
        let mut at = set("0-1-10");
        at.add(0, 2, 7);
        assert_eq!(at.to_string(), "0-2-7");
    }
}
