//! The target of GTIDs and sets of them.

use bytes::Bytes;
use dm_core::binlog::{
    Decoder, Event, Flavor, Frame, Gtid, GtidSet, MysqlGtidSet, event_type as kind,
};

use crate::{checks, events::header, input::Input, memory};

/// Kinds of an input.
pub(crate) mod form {
    /// Texts of two sets of MySQL, with a line break between.
    pub(crate) const MYSQL: u8 = 0;
    /// Texts of two sets of MariaDB, with a line break between.
    pub(crate) const MARIADB: u8 = 1;
    /// The binary form of a set of MySQL.
    pub(crate) const BINARY: u8 = 2;
    /// The body of a GTID_LIST event.
    pub(crate) const LIST: u8 = 3;
    /// The text of a single GTID.
    pub(crate) const SINGLE: u8 = 4;
    /// The body of a GTID event of MySQL.
    pub(crate) const EVENT: u8 = 5;
    /// The body of a tagged GTID event of MySQL.
    pub(crate) const TAGGED: u8 = 6;
    /// The body of a GTID event of MariaDB.
    pub(crate) const MARIADB_EVENT: u8 = 7;
    /// How many there are.
    pub(crate) const COUNT: u8 = 8;
}

/// GTIDs and sets of them in all their forms: the kind of the input, and what that says.
pub fn gtid_sets(data: &[u8]) {
    memory::bounded((1 << 20) + 256 * data.len(), || {
        let mut input = Input::new(data);
        let form = input.u8() % form::COUNT;
        let rest = input.rest();
        match form {
            form::MYSQL => texts(Flavor::Mysql, rest),
            form::MARIADB => texts(Flavor::Mariadb, rest),
            form::BINARY => {
                if let Ok(set) = MysqlGtidSet::decode(rest) {
                    checks::gtids(&GtidSet::Mysql(set));
                }
            }
            form::SINGLE => {
                let text = str::from_utf8(rest).unwrap_or_default();
                match text.parse() {
                    // In texts zero stands for no transaction.
                    Ok(Gtid::Mariadb { seq: 0, .. }) | Err(_) => {}
                    Ok(gtid) => single(&gtid),
                }
            }
            form::LIST => event(Flavor::Mariadb, kind::GTID_LIST, rest),
            form::EVENT => event(Flavor::Mysql, kind::GTID, rest),
            form::TAGGED => event(Flavor::Mysql, kind::GTID_TAGGED, rest),
            _ => event(Flavor::Mariadb, kind::MARIADB_GTID, rest),
        }
    });
}

fn texts(flavor: Flavor, text: &[u8]) {
    let text = str::from_utf8(text).unwrap_or_default();
    let (a, b) = text.split_once('\n').unwrap_or((text, ""));
    let sets = (GtidSet::parse(flavor, a), GtidSet::parse(flavor, b));
    let (Ok(a), Ok(b)) = sets else {
        return;
    };
    checks::gtids(&a);
    checks::gtids(&b);
    let mut both = a.clone();
    both.union(&b);
    checks::gtids(&both);
    assert!(both.contains(&a) && both.contains(&b));
    assert!(a != b || a.contains(&b));
    if let (GtidSet::Mysql(a), GtidSet::Mysql(b)) = (&a, &b) {
        difference(a, b, &both);
    }
}

/// What is taken away is gone, and nothing else.
fn difference(a: &MysqlGtidSet, b: &MysqlGtidSet, both: &GtidSet) {
    let mut rest = a.clone();
    rest.subtract(b);
    for (source, intervals) in b.iter() {
        for (first, last) in intervals.as_slice() {
            for number in [*first, *last] {
                assert!(!rest.contains_txn(&source.sid, &source.tag, number));
            }
        }
    }
    let mut rest = GtidSet::Mysql(rest);
    checks::gtids(&rest);
    rest.union(&GtidSet::Mysql(b.clone()));
    assert_eq!(rest, *both);
}

fn event(flavor: Flavor, event_type: u8, body: &[u8]) {
    let frame = Frame {
        header: header(event_type, body),
        body: Bytes::copy_from_slice(body),
    };
    match Decoder::new(flavor).event(&frame) {
        Ok(Event::Gtid { gtid, .. } | Event::MariadbGtid { gtid, .. }) => single(&gtid),
        Ok(Event::MariadbGtidList(set)) => checks::gtids(&set),
        _ => {}
    }
}

/// One transaction makes a set that has it, and that has a text.
fn single(gtid: &Gtid) {
    checks::gtid(gtid);
    let mut set = GtidSet::empty(match gtid {
        Gtid::Mysql { .. } => Flavor::Mysql,
        Gtid::Mariadb { .. } => Flavor::Mariadb,
    });
    set.add(gtid);
    assert!(set.contains_txn(gtid));
    checks::gtids(&set);
}
