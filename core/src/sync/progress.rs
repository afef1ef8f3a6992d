//! How far a slot has come, in terms that a replay recognises.
//!
//! The changes of one slot are applied in binlog order, so one place in the binlog says it all:
//! what the slot had to do before it is done, and nothing from it on is. Between slots nothing
//! follows: each has a place of its own.

use core::{fmt, str::FromStr};

use crate::binlog::{BinlogError, Gtid, GtidSet, Position};

/// One ownership of a source. A larger fence was given out later, and wins.
///
/// The etcd revision of the ownership; without etcd, a counter kept in the target.
#[derive(Clone, Copy, Debug, Default, Eq, Ord, PartialEq, PartialOrd)]
pub struct Fence(pub i64);

/// A boundary between two transactions of a source's binlog.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub struct Location {
    /// Where the next event begins.
    pub position: Position,
    /// All transactions before it, where the source counts them by GTID.
    pub gtids: Option<GtidSet>,
}

impl Location {
    /// Whether everything before `other` is before this location as well.
    ///
    /// By GTID where asked for and where both have a set, else by position.
    pub fn reaches(&self, other: &Self, by_gtid: bool) -> bool {
        match (&self.gtids, &other.gtids) {
            (Some(own), Some(other)) if by_gtid => own.contains(other),
            _ => self.position.compare(&other.position).is_ge(),
        }
    }

    /// The one of several that the others have all behind them, if there are any. Places in one
    /// stream are ordered; of those that aren't, any may come out.
    pub fn lowest<'a>(
        places: impl IntoIterator<Item = &'a Self>,
        by_gtid: bool,
    ) -> Option<&'a Self> {
        let lower = |low: &'a Self, other: &'a Self| {
            if other.reaches(low, by_gtid) {
                low
            } else {
                other
            }
        };
        places.into_iter().reduce(lower)
    }

    /// Whether a transaction is before this location.
    pub fn contains(&self, txn: &TxnId, by_gtid: bool) -> bool {
        match (&self.gtids, &txn.gtid) {
            (Some(gtids), Some(gtid)) if by_gtid => gtids.contains_txn(gtid),
            _ => txn.start.compare(&self.position).is_lt(),
        }
    }

    /// The same in a sub-directory of a relay log.
    #[must_use]
    pub fn in_relay(&self, number: u32) -> Self {
        Self {
            position: self.position.in_relay(number),
            gtids: self.gtids.clone(),
        }
    }

    /// About how many bytes of memory it takes besides itself.
    pub(super) fn memory(&self) -> usize {
        self.position.file.len() + self.gtids.as_ref().map_or(0, GtidSet::memory)
    }

    /// Moves behind a transaction that begins here.
    pub(super) fn pass(&mut self, txn: &TxnId, end: Position) {
        if let (Some(gtids), Some(gtid)) = (&mut self.gtids, &txn.gtid) {
            gtids.add(gtid);
        }
        self.position = end;
    }
}

impl fmt::Display for Location {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "position: {}, gtid-set: ", self.position)?;
        self.gtids.as_ref().map_or(Ok(()), |gtids| gtids.fmt(f))
    }
}

/// What tells a transaction from all others of its source.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub struct TxnId {
    /// Where its first event begins (its GTID event, where it has one).
    pub start: Position,
    /// Its GTID, if it has one.
    pub gtid: Option<Gtid>,
}

impl TxnId {
    /// Whether both name the same transaction: by GTID where asked for, else by position.
    pub fn is_same(&self, other: &Self, by_gtid: bool) -> bool {
        match (&self.gtid, &other.gtid) {
            (Some(own), Some(other)) if by_gtid => own == other,
            _ => self.start == other.start,
        }
    }
}

/// `file:pos`, and the GTID after a space if there is one. Parses back.
impl fmt::Display for TxnId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}", self.start.file, self.start.pos)?;
        match &self.gtid {
            Some(gtid) => write!(f, " {gtid}"),
            None => Ok(()),
        }
    }
}

impl FromStr for TxnId {
    type Err = BinlogError;

    fn from_str(text: &str) -> Result<Self, BinlogError> {
        // File names may hold spaces; positions and GTIDs can't.
        let (start, gtid) = match text.rsplit_once(' ') {
            Some((start, gtid)) if !start.is_empty() => match gtid.parse() {
                Ok(gtid) => (start, Some(gtid)),
                Err(_) => (text, None),
            },
            _ => (text, None),
        };
        Ok(Self {
            start: start.parse()?,
            gtid,
        })
    }
}

/// A place in the binlog: a boundary, and how much of the transaction behind it.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub struct Applied {
    /// Every transaction before it is applied.
    pub boundary: Location,
    /// The transaction that begins there, if some of it is applied as well.
    pub txn: Option<TxnId>,
    /// How many of its row changes are, counted before any filter; of a DDL event, its pieces.
    pub rows: u64,
}

impl Applied {
    /// The place right at a boundary.
    pub fn at(boundary: Location) -> Self {
        Self {
            boundary,
            txn: None,
            rows: 0,
        }
    }

    /// How many leading row changes of a transaction are before this place: `u64::MAX` for all.
    pub fn rows_of(&self, txn: &TxnId, by_gtid: bool) -> u64 {
        if self.boundary.contains(txn, by_gtid) {
            return u64::MAX;
        }
        match &self.txn {
            Some(own) if own.is_same(txn, by_gtid) => self.rows,
            _ => 0,
        }
    }
}

impl fmt::Display for Applied {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.boundary.fmt(f)?;
        match &self.txn {
            Some(txn) => write!(f, ", {} rows of the transaction at {txn}", self.rows),
            None => Ok(()),
        }
    }
}

/// The progress row of a slot.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub struct SlotProgress {
    /// Which slot.
    pub slot: u32,
    /// How many times the row has moved: one more with each transaction of the slot.
    pub seq: u64,
    /// What the slot has applied.
    pub applied: Applied,
}

#[cfg(test)]
mod tests {
    use alloc::string::ToString;

    use super::*;
    use crate::binlog::Flavor;

    fn txn(start: &str, gtid: Option<&str>) -> TxnId {
        TxnId {
            start: start.parse().unwrap(),
            gtid: gtid.map(|gtid| gtid.parse().unwrap()),
        }
    }

    fn location(position: &str, gtids: Option<&str>) -> Location {
        Location {
            position: position.parse().unwrap(),
            gtids: gtids.map(|gtids| GtidSet::parse(Flavor::Mariadb, gtids).unwrap()),
        }
    }

    #[test]
    fn transaction_ids_have_text() {
        for text in ["binlog.000001:4", "my log.000001:4 0-1-7"] {
            assert_eq!(text.parse::<TxnId>().unwrap().to_string(), text);
        }
        assert!("".parse::<TxnId>().is_err());
        assert!("binlog.000001 0-1-7".parse::<TxnId>().is_err());
    }

    /// Names that were given in several relay logs are in no order.
    #[test]
    fn the_lowest_place_is_found_by_gtid_or_position() {
        let places = [
            location("b|000001.000003:4", Some("0-1-9")),
            location("b|000002.000001:4", Some("0-1-7")),
            location("b|000003.000001:4", Some("0-1-8")),
        ];
        assert_eq!(Location::lowest(&places, true), Some(&places[1]));
        assert_eq!(Location::lowest(&places, false), Some(&places[0]));
        assert_eq!(Location::lowest([], true), None);
    }

    #[test]
    fn by_position_a_rotation_lies_between() {
        let place = Applied::at(location("b.000001:900", None));
        assert_eq!(place.rows_of(&txn("b.000001:300", None), false), u64::MAX);
        assert_eq!(place.rows_of(&txn("b.000001:900", None), false), 0);
        assert_eq!(place.rows_of(&txn("b.000002:157", None), false), 0);
        let place = Applied::at(location("b.000002:4", None));
        assert_eq!(place.rows_of(&txn("b.000001:900", None), false), u64::MAX);
        assert_eq!(place.rows_of(&txn("b.000002:157", None), false), 0);
    }

    #[test]
    fn by_gtid_positions_mean_nothing() {
        let place = Applied {
            boundary: location("b.000009:900", Some("0-1-6")),
            txn: Some(txn("b.000009:900", Some("0-1-7"))),
            rows: 3,
        };
        assert_eq!(
            place.rows_of(&txn("a.000001:4", Some("0-1-6")), true),
            u64::MAX
        );
        assert_eq!(place.rows_of(&txn("a.000001:9", Some("0-1-7")), true), 3);
        assert_eq!(place.rows_of(&txn("a.000001:9", Some("0-1-8")), true), 0);
        // The same progress still works once GTIDs are switched off.
        assert_eq!(place.rows_of(&txn("b.000009:900", Some("0-1-7")), false), 3);
    }

    #[test]
    fn locations_reach_each_other() {
        let (low, high) = (
            location("b.1:900", Some("0-1-6")),
            location("b.1:4", Some("0-1-7")),
        );
        assert!(high.reaches(&low, true) && !low.reaches(&high, true));
        assert!(low.reaches(&high, false) && !high.reaches(&low, false));
        assert!(low.reaches(&location("b.1:900", None), true));
    }
}
