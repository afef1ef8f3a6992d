//! Where in the binlog the event at hand stands, and whether anything is missing before it.
//!
//! A binlog is a sequence of *groups*: a transaction, or a statement that stands alone. Each begins
//! with an event that announces it. Only the end of the group moves the boundary; what a statement
//! inside of it does is a part of it.

use dm_core::{
    binlog::{Event, Flavor, Gtid, GtidSet, Header, Position},
    error::{Error, Result, code},
    guard::Guard,
    sync::progress::{Location, TxnId},
};

/// Follows the stream from event to event.
///
/// A transaction is named by where its own first event begins, not by where the one before ended:
/// a rotation may lie between, and a replay must come to the same name.
#[derive(Debug)]
pub(super) struct Cursor {
    flavor: Flavor,
    by_gtid: bool,
    file: String,
    /// Whether the stream came to `file` from another one.
    followed: bool,
    /// Where the last event ended, if that is known.
    end: Option<u64>,
    open: Option<Group>,
}

/// The group that is being read.
#[derive(Debug)]
struct Group {
    id: TxnId,
    /// Whether an end follows: a statement that stands alone is one itself.
    begun: bool,
    /// Whether the planner knows of it.
    planned: bool,
}

impl Cursor {
    /// At the boundary where the stream begins.
    pub(super) fn new(boundary: &Location, flavor: Flavor, by_gtid: bool) -> Self {
        Self {
            flavor,
            by_gtid,
            file: boundary.position.file.clone(),
            followed: false,
            end: None,
            open: None,
        }
    }

    /// Whether no transaction is open.
    pub(super) const fn is_at_boundary(&self) -> bool {
        self.open.is_none()
    }

    /// Where the last event ended, if no transaction is open.
    pub(super) fn read(&self) -> Option<Position> {
        let end = self.end.filter(|_| self.is_at_boundary())?;
        Some(Position::new(&self.file, end))
    }

    /// Where an event begins.
    pub(super) fn start_of(&self, header: &Header) -> Position {
        let pos = header.log_pos.saturating_sub(header.event_size.into());
        Position::new(&self.file, pos)
    }

    /// Where an event ends.
    pub(super) fn end_of(&self, header: &Header) -> Position {
        Position::new(&self.file, header.log_pos)
    }

    /// Sees that an event follows on the one before. `shares`: it is a part of a compressed
    /// transaction, and not its first.
    ///
    /// # Errors
    /// Events are missing, or come twice.
    pub(super) fn follow(&mut self, header: &Header, event: &Event, shares: bool) -> Result<()> {
        // What the source makes up, or says in between, has no place in the file.
        let is_written = !header.is_artificial()
            && header.log_pos != 0
            && !matches!(event, Event::Heartbeat { .. })
            && (Guard::FileEnd.holds() || !matches!(event, Event::Rotate { .. }));
        if let Some(end) = self.end.filter(|_| is_written)
            && Guard::EventGap.holds()
        {
            if self.is_repeated(header, end, shares) {
                return Err(twice(&self.start_of(header)));
            }
            if self.is_gap(header, end, shares) {
                let (file, start) = (&self.file, self.start_of(header).pos);
                return Err(gap(&format!(
                    "the source goes on at ({file}, {start}) behind ({file}, {end})"
                )));
            }
        }
        match event {
            Event::Rotate { pos, .. } => self.end = Some(*pos),
            _ if is_written => self.end = Some(header.log_pos),
            _ => {}
        }
        Ok(())
    }

    /// Whether an event that ends where the one before did, at `end`, is that one again. MariaDB's
    /// offsets say nothing of it.
    fn is_repeated(&self, header: &Header, end: u64, shares: bool) -> bool {
        self.flavor == Flavor::Mysql && !shares && header.log_pos == end
    }

    /// Whether events are missing between `end` and this one. Only MySQL's offsets add up, and by
    /// GTID the source leaves out whole groups, but never a part of one. The events of a compressed
    /// transaction share the header of its first.
    fn is_gap(&self, header: &Header, end: u64, shares: bool) -> bool {
        if shares {
            return header.log_pos != end;
        }
        let adds_up = self.flavor == Flavor::Mysql && (!self.by_gtid || self.open.is_some());
        adds_up && self.start_of(header).pos != end
    }

    /// The stream goes on in another file, at `pos`.
    pub(super) fn rotate(&mut self, file: String, pos: u64) -> Position {
        self.followed |= file != self.file;
        self.file = file;
        Position::new(&self.file, pos)
    }

    /// Sees that everything which a file says was written before it was read: by GTID, and not for
    /// the file in which the stream began, which need not be read from its start.
    ///
    /// # Errors
    /// Transactions are missing.
    pub(super) fn check_history(&self, before: &GtidSet, read: &Location) -> Result<()> {
        match &read.gtids {
            Some(gtids) if self.by_gtid && self.followed && !gtids.covers(before) => {
                Err(gap(&format!(
                    "before {} the source wrote {before}, but only {gtids} was read or is known",
                    self.file
                )))
            }
            _ => Ok(()),
        }
    }

    /// A group begins with this event; `begun` says that an end follows.
    ///
    /// # Errors
    /// By GTID, one that is not behind those that were read before.
    pub(super) fn begin(
        &mut self,
        header: &Header,
        gtid: Option<Gtid>,
        begun: bool,
        read: &Location,
    ) -> Result<()> {
        if let (true, Some(gtids), Some(gtid)) = (self.by_gtid, &read.gtids, &gtid)
            && gtids.contains_txn(gtid)
        {
            return Err(repeated(gtid, &self.start_of(header)));
        }
        self.open = Some(Group {
            id: TxnId {
                start: self.start_of(header),
                gtid,
            },
            begun,
            planned: false,
        });
        Ok(())
    }

    /// The open group; one that no event announced begins with this one.
    fn group(&mut self, header: &Header) -> &mut Group {
        let start = self.start_of(header);
        self.open.get_or_insert(Group {
            id: TxnId { start, gtid: None },
            begun: false,
            planned: false,
        })
    }

    /// The open transaction.
    pub(super) fn txn(&mut self, header: &Header) -> &TxnId {
        &self.group(header).id
    }

    /// An end of the open group follows.
    pub(super) fn set_begun(&mut self, header: &Header) {
        self.group(header).begun = true;
    }

    /// Whether the open group has an end of its own.
    pub(super) fn is_begun(&self) -> bool {
        self.open.as_ref().is_some_and(|group| group.begun)
    }

    /// Whether the planner knows of the open transaction.
    pub(super) fn is_planned(&self) -> bool {
        self.open.as_ref().is_some_and(|group| group.planned)
    }

    /// The planner is told of the open transaction.
    pub(super) fn plan(&mut self, header: &Header) -> TxnId {
        let group = self.group(header);
        group.planned = true;
        group.begun = true;
        group.id.clone()
    }

    /// The open group ends.
    pub(super) fn end(&mut self) -> Option<TxnId> {
        self.open.take().map(|group| group.id)
    }

    /// Something begins that can't be inside a group: the open one never ended. The source wrote
    /// it and crashed; its own tables don't have it.
    ///
    /// # Errors
    /// Rows of it were planned.
    pub(super) fn broken_off(&mut self) -> Result<()> {
        match &self.open {
            Some(Group {
                id, planned: true, ..
            }) => Err(Error::new(
                &code::SYNCER_TRANSACTION_BROKEN_OFF,
                format!(
                    "the source's binlog has the beginning of transaction {id} only: the source \
                     crashed and does not have it, but the target may have rows of it"
                ),
            )),
            _ => {
                self.open = None;
                Ok(())
            }
        }
    }
}

fn gap(what: &str) -> Error {
    Error::new(
        &code::SYNCER_GET_EVENT,
        format!("events are missing in the binlog: {what}"),
    )
    .with_workaround(
        "Nothing behind the gap was applied. If a binlog file was removed from the source, copy \
         the data anew and start behind it.",
    )
}

fn twice(at: &Position) -> Error {
    Error::new(
        &code::SYNCER_GET_EVENT,
        format!("the source sends the event at {at} for the second time"),
    )
    .with_workaround(
        "Nothing was applied twice. A task that is resumed reads on behind what it applied.",
    )
}

fn repeated(gtid: &Gtid, at: &Position) -> Error {
    Error::new(
        &code::SYNCER_GET_EVENT,
        format!("transaction {gtid} at {at} is not behind those that were read before it"),
    )
    .with_workaround(
        "The source's sequence numbers went back: writes were made on two servers at once, or \
         `gtid_seq_no` was set. Set `gtid_strict_mode=ON` on MariaDB, and `enable-gtid: false` for \
         this source to pass the place by position.",
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    fn cursor(flavor: Flavor, by_gtid: bool) -> Cursor {
        let boundary = Location {
            position: Position::new("b.000001", 4),
            gtids: None,
        };
        Cursor::new(&boundary, flavor, by_gtid)
    }

    fn header(start: u64, end: u64) -> Header {
        Header {
            timestamp: 1,
            event_type: 0,
            server_id: 1,
            event_size: (end - start) as u32,
            log_pos: end,
            flags: 0,
        }
    }

    fn read(gtids: &str) -> Location {
        Location {
            position: Position::new("b.000001", 4),
            gtids: Some(GtidSet::parse(Flavor::Mariadb, gtids).unwrap()),
        }
    }

    /// Whether an event is refused, for this reason and no other.
    fn says(outcome: Result<()>, why: &str) -> bool {
        outcome.is_err_and(|error| {
            assert!(error.message.contains(why), "{error}");
            true
        })
    }

    #[test]
    fn a_missing_event_is_noticed() {
        let rotate = Event::Rotate {
            file: "b.000001".into(),
            pos: 100,
        };
        for (flavor, by_gtid, noticed) in [
            (Flavor::Mysql, false, true),
            (Flavor::Mysql, true, false),
            (Flavor::Mariadb, false, false),
        ] {
            let mut cursor = cursor(flavor, by_gtid);
            let xid = Event::Xid;
            cursor.follow(&header(0, 100), &rotate, false).unwrap();
            cursor.follow(&header(100, 150), &xid, false).unwrap();
            // The events of a compressed transaction.
            cursor.follow(&header(100, 150), &xid, true).unwrap();
            let again = cursor.follow(&header(100, 150), &xid, false);
            assert_eq!(
                says(again, "second time"),
                flavor == Flavor::Mysql,
                "{by_gtid}"
            );
            let outcome = cursor.follow(&header(151, 200), &xid, false);
            assert_eq!(says(outcome, "missing"), noticed, "{flavor} {by_gtid}");
        }
    }

    #[test]
    fn a_missing_end_of_a_file_is_noticed() {
        let rotate = Event::Rotate {
            file: "b.000002".into(),
            pos: 4,
        };
        // As the source makes it up when it begins to send a file.
        let artificial = Header {
            log_pos: 0,
            flags: 0x20,
            ..header(0, 40)
        };
        for (flavor, by_gtid, open, noticed) in [
            (Flavor::Mysql, false, false, true),
            (Flavor::Mysql, false, true, true),
            // The source leaves out whole transactions.
            (Flavor::Mysql, true, false, false),
            (Flavor::Mysql, true, true, true),
            (Flavor::Mariadb, false, true, false),
            (Flavor::Mariadb, true, true, false),
        ] {
            let mut cursor = cursor(flavor, by_gtid);
            let far = 1 << 32;
            (cursor.follow(&header(far, far + 50), &Event::Xid, false)).unwrap();
            (cursor.follow(&header(far + 50, far + 90), &rotate, false)).unwrap();
            cursor.follow(&artificial, &rotate, false).unwrap();
            (cursor.follow(&header(4, 150), &Event::Xid, false)).unwrap();
            if open {
                let begins = header(4, 150);
                cursor.begin(&begins, None, false, &read("")).unwrap();
            }
            let outcome = cursor.follow(&header(180, 220), &rotate, false);
            assert_eq!(
                says(outcome, "missing"),
                noticed,
                "{flavor} {by_gtid} {open}"
            );
        }
    }

    /// By GTID the source leaves out what is there already, but never a part of a transaction.
    #[test]
    fn transactions_may_be_left_out_but_not_their_parts() {
        let mut cursor = cursor(Flavor::Mysql, true);
        cursor
            .follow(&header(100, 150), &Event::Xid, false)
            .unwrap();
        cursor
            .follow(&header(900, 950), &Event::Xid, false)
            .unwrap();
        cursor
            .begin(&header(900, 950), None, false, &read(""))
            .unwrap();
        cursor
            .follow(&header(950, 960), &Event::Xid, false)
            .unwrap();
        let missing = cursor.follow(&header(970, 980), &Event::Xid, false);
        assert!(missing.is_err());
    }

    #[test]
    fn a_file_must_not_know_of_more_than_was_read() {
        let mut cursor = cursor(Flavor::Mariadb, true);
        let list = |text| GtidSet::parse(Flavor::Mariadb, text).unwrap();
        // The file that the stream begins in is not read from its start.
        cursor
            .check_history(&list("0-1-9"), &read("0-1-7"))
            .unwrap();
        cursor.rotate("b.000002".into(), 4);
        cursor
            .check_history(&list("0-1-7,5-1-1"), &read("0-1-7"))
            .unwrap();
        assert!(
            cursor
                .check_history(&list("0-1-9"), &read("0-1-7"))
                .is_err()
        );
    }

    #[test]
    fn sequence_numbers_must_not_go_back() {
        let mut cursor = cursor(Flavor::Mariadb, true);
        let mut begin = |gtid: &str| {
            let gtid = Some(gtid.parse().unwrap());
            cursor.begin(&header(100, 150), gtid, true, &read("0-1-100"))
        };
        begin("0-2-101").unwrap();
        begin("1-2-50").unwrap();
        assert!(begin("0-2-50").is_err());
    }

    #[test]
    fn a_group_without_an_end_is_an_error_once_its_rows_are_planned() {
        let mut cursor = cursor(Flavor::Mariadb, true);
        let begin = |cursor: &mut Cursor| {
            let gtid = Some("0-1-8".parse().unwrap());
            cursor.begin(&header(100, 150), gtid, true, &read("0-1-7"))
        };
        begin(&mut cursor).unwrap();
        cursor.broken_off().unwrap();
        assert!(cursor.is_at_boundary());
        begin(&mut cursor).unwrap();
        cursor.plan(&header(150, 200));
        let error = cursor.broken_off().unwrap_err();
        assert_eq!(error.code, 36_906);
        assert!(error.message.contains("0-1-8"), "{error}");
    }
}
