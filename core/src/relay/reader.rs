//! Which events of a relay log a subtask reads, and which file they go on in.

use alloc::{format, string::String};

use crate::{
    binlog::{Event, FileName, GtidSet},
    error::{Error, Result, code},
};

/// Leaves out the transactions that a subtask has already, as a source does that is asked by GTID:
/// those that it had when it began to read a server's files. What a server itself writes twice, or
/// in no order, is for the subtask to judge.
#[derive(Clone, Debug)]
pub struct Unread {
    have: GtidSet,
    /// These, and all that were read since.
    read: GtidSet,
    /// Whether the transaction at hand is left out.
    skips: bool,
}

impl Unread {
    /// Of a subtask that has these.
    #[must_use]
    pub fn new(have: GtidSet) -> Self {
        Self {
            read: have.clone(),
            have,
            skips: false,
        }
    }

    /// Another server's files come next, which begin with some of what was read.
    pub fn cross(&mut self) {
        self.have.clone_from(&self.read);
    }

    /// Whether the next event of the log is read.
    ///
    /// # Errors
    /// 11038: a transaction has no GTID, so nobody can say whether it is known.
    pub fn takes(&mut self, event: &Event) -> Result<bool> {
        match event {
            Event::Gtid { gtid, .. } | Event::MariadbGtid { gtid, .. } => {
                self.skips = self.have.contains_txn(gtid);
                if !self.skips {
                    self.read.add(gtid);
                }
            }
            Event::AnonymousGtid { .. } => {
                let text = "a transaction has no GTID, and the relay log is read by GTID";
                return Err(Error::new(&code::PARSER_PARSE_RELAY_LOG, text).with_workaround(
                    "Set `enable-gtid: false` in the source until the binlog has GTIDs throughout.",
                ));
            }
            // These belong to a file, not to a transaction.
            Event::Rotate { .. }
            | Event::FormatDescription(_)
            | Event::PreviousGtids(_)
            | Event::MariadbGtidList(_) => self.skips = false,
            _ => {}
        }
        Ok(!self.skips)
    }
}

/// The file behind another one that is complete, if there is one yet. `files` are in order, and
/// `named` is what the other one says at its end.
///
/// # Errors
/// 11029: it is missing, though there are later ones.
pub fn file_behind<'a>(
    files: &'a [String],
    file: &str,
    named: Option<&str>,
) -> Result<Option<&'a str>> {
    let missing = |name: &str| {
        Error::new(
            &code::GET_RELAY_LOG_STAT,
            format!("the relay log lacks the file {name}, which comes behind {file}"),
        )
    };
    let behind = files.iter().skip_while(|name| *name != file).skip(1);
    let mut behind = behind.map(String::as_str);
    if let Some(named) = named {
        return match files.iter().find(|name| *name == named) {
            Some(next) => Ok(Some(next)),
            None if behind.next().is_some() => Err(missing(named)),
            None => Ok(None),
        };
    }
    // The server crashed, or was told to stop, and began the next one when it started again.
    let Some(next) = behind.next() else {
        return Ok(None);
    };
    let of = |name| FileName::parse(name).ok();
    match (of(file), of(next)) {
        (Some(at), Some(found)) if at.base == found.base && found.sequence > at.sequence + 1 => {
            let width = file.len() - at.base.len() - 1;
            let name = format!("{}.{:0width$}", at.base, at.sequence + 1);
            Err(missing(&name))
        }
        _ => Ok(Some(next)),
    }
}

#[cfg(test)]
mod tests {
    use alloc::{borrow::ToOwned, vec::Vec};

    use super::*;
    use crate::binlog::{Flavor, GtidTimes, MariadbFlags};

    fn files(names: &[&str]) -> Vec<String> {
        names.iter().map(|name| (*name).to_owned()).collect()
    }

    #[test]
    fn files_follow_each_other() {
        let there = files(&["b.000001", "b.000002", "b.000004", "c.000001"]);
        let behind = |file, named| file_behind(&there, file, named);
        assert_eq!(behind("b.000001", None).unwrap(), Some("b.000002"));
        assert_eq!(
            behind("b.000001", Some("b.000002")).unwrap(),
            Some("b.000002")
        );
        // A server may be told to call its files otherwise.
        assert_eq!(behind("b.000004", None).unwrap(), Some("c.000001"));
        assert_eq!(
            behind("b.000001", Some("c.000001")).unwrap(),
            Some("c.000001")
        );
        assert_eq!(behind("c.000001", None).unwrap(), None);
        assert_eq!(behind("c.000001", Some("c.000002")).unwrap(), None);
        for (file, named) in [
            ("b.000002", None),
            ("b.000002", Some("b.000003")),
            ("b.000001", Some("d.000001")),
        ] {
            let error = behind(file, named).unwrap_err();
            assert!(error.is(&code::GET_RELAY_LOG_STAT), "{error}");
        }
        assert!(
            (behind("b.000002", None).unwrap_err().message).contains("b.000003"),
            "names what is missing"
        );
    }

    fn mariadb(gtid: &str) -> Event {
        Event::MariadbGtid {
            gtid: gtid.parse().unwrap(),
            standalone: false,
            flags: MariadbFlags::default(),
        }
    }

    fn unread(flavor: Flavor, have: &str) -> Unread {
        Unread::new(GtidSet::parse(flavor, have).unwrap())
    }

    #[test]
    fn known_transactions_are_left_out_as_a_whole() {
        let mut unread = unread(Flavor::Mariadb, "0-1-5");
        let mut takes = |event| unread.takes(&event).unwrap();
        assert!(!takes(mariadb("0-1-4")));
        assert!(!takes(Event::Xid));
        assert!(!takes(mariadb("0-1-5")));
        assert!(!takes(Event::Xid));
        assert!(takes(mariadb("0-1-6")));
        assert!(takes(Event::Xid));
        assert!(takes(mariadb("1-1-1")));
        // Numbers that go back are not known: that is no silent matter.
        assert!(!takes(mariadb("0-2-5")));
        assert!(takes(mariadb("0-2-9")));
        assert!(takes(mariadb("0-1-7")));
        // Once more, in the files of the next server.
        unread.cross();
        let mut takes = |event| unread.takes(&event).unwrap();
        assert!(!takes(mariadb("0-1-6")));
        assert!(!takes(Event::Xid));
    }

    #[test]
    fn what_belongs_to_a_file_is_never_left_out() {
        let mut unread = unread(Flavor::Mariadb, "0-1-5");
        let mut takes = |event| unread.takes(&event).unwrap();
        let rotate = Event::Rotate {
            file: "b.000002".into(),
            pos: 4,
        };
        assert!(!takes(mariadb("0-1-4")));
        assert!(takes(rotate));
        assert!(takes(Event::MariadbGtidList(GtidSet::empty(
            Flavor::Mariadb
        ))));
    }

    #[test]
    fn transactions_without_gtid_are_refused() {
        let mut unread = unread(Flavor::Mysql, "");
        let anonymous = Event::AnonymousGtid {
            times: GtidTimes::default(),
        };
        assert!(unread.takes(&anonymous).is_err());
    }
}
