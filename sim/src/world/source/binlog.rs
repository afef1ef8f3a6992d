//! The files of a binlog, and reading them as a dump does.

use std::collections::VecDeque;

use bytes::Bytes;
use dm_core::binlog::{Gtid, GtidSet, MysqlGtidSet, Position, event_type};
use dm_runtime::ports::{SourceEnd, Start};

use super::{
    Change,
    events::{self, ARTIFICIAL, Body},
};
use crate::world::rows::TABLES;

/// All files.
pub(super) struct Binlog {
    sid: [u8; 16],
    gtids: bool,
    names: bool,
    files: Vec<File>,
    /// Number of the last transaction.
    gno: u64,
}

struct File {
    name: String,
    events: Vec<Logged>,
    size: u64,
    /// Number of the last transaction before it.
    before: u64,
}

struct Logged {
    event: Bytes,
    start: u64,
    /// The transaction that it belongs to.
    txn: Option<u64>,
}

/// The next event to be read.
#[derive(Clone, Copy, Debug)]
pub(super) struct Place {
    file: usize,
    event: usize,
}

impl Binlog {
    pub(super) fn new(sid: [u8; 16], gtids: bool, names: bool) -> Self {
        let mut binlog = Self {
            sid,
            gtids,
            names,
            files: Vec::new(),
            gno: 0,
        };
        binlog.open();
        binlog
    }

    /// Writes a transaction.
    pub(super) fn transaction(&mut self, schema: &str, changes: &[Change]) {
        self.gno += 1;
        let gno = self.gno;
        self.write(events::gtid(self.sid, self.gtids.then_some(gno)), Some(gno));
        self.write(events::begin(schema), Some(gno));
        for (table, before, after) in changes {
            let id = 100 + *table as u64;
            let map = events::table_map(id, schema, &TABLES[*table], self.names);
            self.write(map, Some(gno));
            self.write(events::rows(id, before.as_ref(), after.as_ref()), Some(gno));
        }
        self.write(events::xid(gno), Some(gno));
    }

    /// Goes on in a new file.
    pub(super) fn rotate(&mut self) {
        let next = file_name(self.files.len() + 1);
        self.write(events::rotate(&next, Position::FIRST), None);
        self.open();
    }

    pub(super) fn end(&self) -> Position {
        self.files.last().map_or_else(Position::default, |file| {
            Position::new(&file.name, file.size)
        })
    }

    pub(super) fn source_end(&self) -> SourceEnd {
        SourceEnd {
            position: self.end(),
            gtids: GtidSet::Mysql(self.set(self.gno)),
            files: (self.files.iter())
                .map(|file| (file.name.clone(), file.size))
                .collect(),
        }
    }

    /// The transactions before a position between two of them.
    pub(super) fn gtids_at(&self, position: &Position) -> Option<GtidSet> {
        let file = self.files.iter().find(|file| file.name == position.file)?;
        let is_between = position.pos == Position::FIRST
            || position.pos == file.size
            || (file.events.iter()).any(|it| it.start == position.pos && !it.is_inside());
        let before = file.events.iter().filter(|it| it.start < position.pos);
        let last = before.filter_map(|it| it.txn).max().unwrap_or(file.before);
        is_between.then(|| GtidSet::Mysql(self.set(last)))
    }

    /// Where a dump begins, and what it sends first.
    pub(super) fn start(&self, from: &Start) -> Result<(Place, VecDeque<Bytes>), String> {
        let place = match from {
            Start::Position(at) => {
                let file = self.files.iter().position(|file| file.name == at.file);
                let file = file.ok_or("could not find the file")?;
                let File { events, size, .. } = &self.files[file];
                let event = match events.iter().position(|it| it.start == at.pos) {
                    Some(event) => event,
                    None if at.pos == *size => events.len(),
                    None => return Err("impossible position".to_owned()),
                };
                Place { file, event }
            }
            Start::Gtids(known) => {
                let is_known = |file: &File| known.contains(&GtidSet::Mysql(self.set(file.before)));
                let file = self.files.iter().rposition(is_known);
                Place {
                    file: file.ok_or("purged")?,
                    event: 0,
                }
            }
        };
        let mut queue = VecDeque::new();
        self.enter(place, &mut queue);
        Ok((place, queue))
    }

    /// The next event for a dump. What is to be sent first goes into `queue`.
    pub(super) fn next(
        &self,
        place: &mut Place,
        known: Option<&GtidSet>,
        queue: &mut VecDeque<Bytes>,
    ) -> Option<Bytes> {
        loop {
            let Some(logged) = self.files[place.file].events.get(place.event) else {
                if place.file + 1 < self.files.len() {
                    place.file += 1;
                    place.event = 0;
                    self.enter(*place, queue);
                }
                return None;
            };
            place.event += 1;
            let is_known = logged.txn.zip(known).is_some_and(|(gno, known)| {
                known.contains_txn(&Gtid::Mysql {
                    sid: self.sid,
                    tag: String::new(),
                    gno,
                })
            });
            if !is_known {
                return Some(logged.event.clone());
            }
        }
    }

    pub(super) fn heartbeat(&self) -> Bytes {
        let Position { file, pos } = self.end();
        let (kind, body) = events::heartbeat(&file);
        events::event(kind, pos, 0, &body)
    }

    /// What a dump sends when it enters a file: its name, and its format where the file itself
    /// is not read from its start.
    fn enter(&self, place: Place, queue: &mut VecDeque<Bytes>) {
        let file = &self.files[place.file];
        let pos = file
            .events
            .get(place.event)
            .map_or(file.size, |it| it.start);
        let (kind, body) = events::rotate(&file.name, pos);
        queue.push_back(events::event(kind, 0, ARTIFICIAL, &body));
        if place.event > 0 {
            let (kind, body) = events::format();
            queue.push_back(events::event(kind, 0, 0, &body));
        }
    }

    fn open(&mut self) {
        self.files.push(File {
            name: file_name(self.files.len() + 1),
            events: Vec::new(),
            size: Position::FIRST,
            before: self.gno,
        });
        self.write(events::format(), None);
        let before = self.set(if self.gtids { self.gno } else { 0 }).encode();
        self.write(events::previous_gtids(before), None);
    }

    fn write(&mut self, (kind, body): Body, txn: Option<u64>) {
        let file = self.last();
        let start = file.size;
        file.size += events::size(&body) as u64;
        let event = events::event(kind, file.size, 0, &body);
        file.events.push(Logged { event, start, txn });
    }

    fn last(&mut self) -> &mut File {
        self.files.last_mut().expect("a file is always open")
    }

    /// All transactions up to one.
    fn set(&self, last: u64) -> MysqlGtidSet {
        let mut set = MysqlGtidSet::default();
        if self.gtids {
            for gno in 1..=last {
                set.add(&self.sid, "", gno);
            }
        }
        set
    }
}

impl Logged {
    /// Whether it comes behind the first event of a transaction.
    fn is_inside(&self) -> bool {
        let is_first = matches!(
            self.event[TYPE_AT],
            event_type::GTID | event_type::ANONYMOUS_GTID
        );
        self.txn.is_some() && !is_first
    }
}

/// Where an event's header has its type.
const TYPE_AT: usize = 4;

fn file_name(number: usize) -> String {
    format!("binlog.{number:06}")
}
