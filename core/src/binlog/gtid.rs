//! Global transaction identifiers and sets of them, in the two incompatible flavors.

mod interval;
mod mariadb;
mod mysql;

use alloc::{format, string::String};
use core::{fmt, str::FromStr};

pub use interval::Intervals;
pub use mariadb::MariadbGtidSet;
pub(super) use mysql::{GNO_MAX, is_tag};
pub use mysql::{MysqlGtidSet, Tsid};

use super::{BinlogError, Result};

/// Which family of servers a binlog comes from.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Flavor {
    /// MySQL and its derivatives with the same GTIDs.
    #[default]
    Mysql,
    /// MariaDB.
    Mariadb,
}

impl fmt::Display for Flavor {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Mysql => "mysql",
            Self::Mariadb => "mariadb",
        })
    }
}

/// The identity of one transaction.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Gtid {
    /// `uuid:gno`, or `uuid:tag:gno` since MySQL 8.3.
    Mysql {
        /// UUID of the server that the transaction was first committed on.
        sid: [u8; 16],
        /// Lower-case tag; empty for an untagged GTID.
        tag: String,
        /// Transaction number, from 1.
        gno: u64,
    },
    /// `domain-server-sequence`.
    Mariadb {
        /// Replication domain.
        domain: u32,
        /// Id of the server that the transaction was first committed on.
        server: u32,
        /// Sequence number, counted over all servers of a domain.
        seq: u64,
    },
}

impl fmt::Display for Gtid {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Mysql { sid, tag, gno } => {
                mysql::write_uuid(f, sid)?;
                if !tag.is_empty() {
                    write!(f, ":{tag}")?;
                }
                write!(f, ":{gno}")
            }
            Self::Mariadb {
                domain,
                server,
                seq,
            } => write!(f, "{domain}-{server}-{seq}"),
        }
    }
}

impl FromStr for Gtid {
    type Err = BinlogError;

    fn from_str(text: &str) -> Result<Self> {
        let text = text.trim();
        if let Ok(gtid) = mariadb::parse_gtid(text) {
            return Ok(gtid);
        }
        let set: MysqlGtidSet = text.parse()?;
        set.single()
            .ok_or_else(|| BinlogError::Gtid(String::from(text)))
    }
}

/// A set of transactions: what a server has executed, or up to where a binlog was read.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum GtidSet {
    /// Intervals per (UUID, tag).
    Mysql(MysqlGtidSet),
    /// The last transaction of each domain, standing for all before it.
    Mariadb(MariadbGtidSet),
}

impl GtidSet {
    /// The set without members.
    #[must_use]
    pub fn empty(flavor: Flavor) -> Self {
        match flavor {
            Flavor::Mysql => Self::Mysql(MysqlGtidSet::default()),
            Flavor::Mariadb => Self::Mariadb(MariadbGtidSet::default()),
        }
    }

    /// Reads the text form that servers print and users write; empty text is the empty set.
    ///
    /// # Errors
    /// [`BinlogError::Gtid`] for anything else.
    pub fn parse(flavor: Flavor, text: &str) -> Result<Self> {
        Ok(match flavor {
            Flavor::Mysql => Self::Mysql(text.parse()?),
            Flavor::Mariadb => Self::Mariadb(text.parse()?),
        })
    }

    /// Reads the text of a set of which nobody says whose it is.
    ///
    /// # Errors
    /// As [`parse`](Self::parse), if it is of neither flavor.
    pub fn parse_any(text: &str) -> Result<Self> {
        Self::parse(Flavor::Mysql, text).or_else(|_| Self::parse(Flavor::Mariadb, text))
    }

    /// Whose GTIDs these are.
    #[must_use]
    pub fn flavor(&self) -> Flavor {
        match self {
            Self::Mysql(_) => Flavor::Mysql,
            Self::Mariadb(_) => Flavor::Mariadb,
        }
    }

    /// Whether there is no transaction in the set.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        match self {
            Self::Mysql(set) => set.is_empty(),
            Self::Mariadb(set) => set.is_empty(),
        }
    }

    /// Whether the transaction is in the set. A GTID of the other flavor never is.
    #[must_use]
    pub fn contains_txn(&self, gtid: &Gtid) -> bool {
        match (self, gtid) {
            (Self::Mysql(set), Gtid::Mysql { sid, tag, gno }) => set.contains_txn(sid, tag, *gno),
            (Self::Mariadb(set), Gtid::Mariadb { domain, seq, .. }) => {
                set.contains_txn(*domain, *seq)
            }
            _ => false,
        }
    }

    /// Whether every transaction of `other` is in this set. Every set contains an empty one.
    #[must_use]
    pub fn contains(&self, other: &Self) -> bool {
        match (self, other) {
            (Self::Mysql(a), Self::Mysql(b)) => a.contains(b),
            (Self::Mariadb(a), Self::Mariadb(b)) => a.contains(b),
            _ => other.is_empty(),
        }
    }

    /// Whether nothing of `other` is known to be missing: as [`Self::contains`], but on MariaDB
    /// only for domains that this set has, since a dump doesn't tell when others began.
    #[must_use]
    pub fn covers(&self, other: &Self) -> bool {
        match (self, other) {
            (Self::Mariadb(a), Self::Mariadb(b)) => a.covers(b),
            _ => self.contains(other),
        }
    }

    /// Adds one transaction. See [`MariadbGtidSet::add`] for what that means on MariaDB; a GTID of
    /// the other flavor changes nothing.
    pub fn add(&mut self, gtid: &Gtid) {
        match (self, gtid) {
            (Self::Mysql(set), Gtid::Mysql { sid, tag, gno }) => set.add(sid, tag, *gno),
            (
                Self::Mariadb(set),
                Gtid::Mariadb {
                    domain,
                    server,
                    seq,
                },
            ) => set.add(*domain, *server, *seq),
            _ => {}
        }
    }

    /// Adds every transaction of `other`; a set of the other flavor changes nothing.
    pub fn union(&mut self, other: &Self) {
        match (self, other) {
            (Self::Mysql(a), Self::Mysql(b)) => a.union(b),
            (Self::Mariadb(a), Self::Mariadb(b)) => a.union(b),
            _ => {}
        }
    }

    /// The transactions that `other` does not have, as far as that can be said: on MariaDB the
    /// domains go that `other` has all of. A set of the other flavor takes nothing away.
    #[must_use]
    pub fn without(&self, other: &Self) -> Self {
        let mut left = self.clone();
        match (&mut left, other) {
            (Self::Mysql(a), Self::Mysql(b)) => a.subtract(b),
            (Self::Mariadb(a), Self::Mariadb(b)) => a.subtract(b),
            _ => {}
        }
        left
    }

    /// About how many bytes of memory the set takes besides itself.
    #[must_use]
    pub fn memory(&self) -> usize {
        match self {
            Self::Mysql(set) => set.memory(),
            Self::Mariadb(set) => set.memory(),
        }
    }

    /// What the servers print: sorted, lower-case, without spaces, and empty for the empty set.
    #[must_use]
    pub fn to_text(&self) -> String {
        format!("{self}")
    }
}

impl fmt::Display for GtidSet {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Mysql(set) => set.fmt(f),
            Self::Mariadb(set) => set.fmt(f),
        }
    }
}

#[cfg(test)]
mod tests {
    use alloc::string::ToString;

    use super::*;

    #[test]
    fn single_gtids_have_text() {
        let texts = [
            "0a0431f2-e6eb-11f1-beb0-02fc00000001:7",
            "0a0431f2-e6eb-11f1-beb0-02fc00000001:blue_1:7",
            "0-3404-18446744073709551615",
        ];
        for text in texts {
            let gtid: Gtid = text.parse().unwrap();
            assert_eq!(gtid.to_string(), text);
        }
        for text in [
            "",
            "0a0431f2-e6eb-11f1-beb0-02fc00000001:7-8",
            "1-2",
            "1-2-3,2-3-4",
        ] {
            assert!(text.parse::<Gtid>().is_err(), "{text}");
        }
    }

    #[test]
    fn flavors_do_not_mix() {
        let mysql = GtidSet::parse(Flavor::Mysql, "0a0431f2-e6eb-11f1-beb0-02fc00000001:7");
        let mut mysql = mysql.unwrap();
        let mariadb = GtidSet::parse(Flavor::Mariadb, "0-1-7").unwrap();
        let before = mysql.clone();
        mysql.union(&mariadb);
        mysql.add(&"0-1-7".parse().unwrap());
        assert_eq!(mysql, before);
        assert!(!mysql.contains(&mariadb));
        assert!(mysql.contains(&GtidSet::empty(Flavor::Mariadb)));
        assert!(GtidSet::parse(Flavor::Mariadb, &mysql.to_text()).is_err());
    }
}
