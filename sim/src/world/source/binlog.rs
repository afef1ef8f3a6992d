//! The files of a binlog, and reading them as a dump does.

use std::collections::VecDeque;

use bytes::Bytes;
use dm_core::{
    binlog::{Flavor, Gtid, GtidSet, Position},
    relay::MAGIC,
};
use dm_runtime::ports::{SourceEnd, Start};

use super::{
    events::{self, ARTIFICIAL, Body},
    mariadb::{self, Phase},
    payload::payload,
    txn::Transaction,
    write,
};
use crate::scenario::{Brand, SourcePlan};

/// All files.
pub(super) struct Binlog {
    pub(super) sid: [u8; 16],
    /// Which server it is of those that were in this place.
    pub(super) server: u64,
    pub(super) plan: SourcePlan,
    /// The source's clock, in seconds since 1970.
    pub(super) clock: u32,
    pub(super) files: Vec<File>,
    /// Number of the first file, and where in it the first transaction begins at least.
    pub(super) first: u64,
    pub(super) offset: u64,
    /// The files of the servers that were in this place before, if anybody asks for them.
    pub(super) past: Vec<Vec<File>>,
    /// How many files are taken away.
    purged: usize,
    /// Transactions so far, those that this server has named, and the names of all.
    pub(super) txns: u64,
    pub(super) gno: u64,
    pub(super) executed: GtidSet,
}

#[derive(Clone)]
pub(super) struct File {
    name: String,
    pub(super) events: Vec<Logged>,
    size: u64,
    /// The transactions before it.
    before: GtidSet,
}

#[derive(Clone)]
pub(super) struct Logged {
    pub(super) event: Bytes,
    start: u64,
    pub(super) group: Group,
}

/// What an event is to a transaction.
#[derive(Clone, Debug, PartialEq)]
pub(super) enum Group {
    /// It belongs to none.
    None,
    /// It begins the one of that name.
    First(Option<Gtid>),
    /// It begins one that has no end.
    Broken,
    /// It is a later part of one.
    Inside,
}

/// The next event to be read.
#[derive(Clone, Copy, Debug)]
pub(super) struct Place {
    file: usize,
    event: usize,
    /// Whether the transaction at hand is left out.
    skips: bool,
    /// Whether something was left out, which the worker has not been told.
    hides: bool,
}

impl Place {
    /// Whether the event that was read last is the one behind its file's format.
    pub(super) const fn is_behind_format(&self) -> bool {
        self.event == 2
    }
}

impl Binlog {
    pub(super) fn new(sid: [u8; 16], plan: SourcePlan, clock: u32) -> Self {
        let mut binlog = Self {
            sid,
            plan,
            clock,
            server: 0,
            files: Vec::new(),
            first: plan.first_file,
            offset: plan.first_offset,
            past: Vec::new(),
            purged: 0,
            txns: 0,
            gno: 0,
            executed: GtidSet::empty(plan.flavor()),
        };
        binlog.open();
        binlog
    }

    /// Writes a transaction, and says what it is called.
    pub(super) fn transaction(&mut self, schema: &str, txn: &Transaction) -> Option<Gtid> {
        let gtid = self.begin(false);
        let mut bodies = write::bodies(schema, txn, self.txns, &self.plan);
        if let Some(compression) = txn.payload {
            bodies = vec![payload(self.clock, &bodies, compression)];
        }
        for body in bodies {
            self.write(&body, Group::Inside);
        }
        gtid
    }

    /// Changes how much goes into one rows event.
    pub(super) fn set_row_event_max(&mut self, bytes: u64) {
        self.plan.row_event_bytes = bytes;
    }

    /// Writes a statement that commits by itself. Says what it is called.
    pub(super) fn statement(&mut self, schema: &str, sql: &str) -> Option<Gtid> {
        let vars = match self.plan.brand {
            Brand::Mysql => events::ddl_vars(schema, self.txns + 1),
            Brand::Mariadb { two_phases, .. } => {
                let phase =
                    (two_phases && sql.starts_with("ALTER")).then(|| self.begin_alter(schema, sql));
                mariadb::ddl_vars(self.txns + 1, phase)
            }
        };
        let gtid = self.begin(true);
        self.write(&events::query(schema, sql, &vars), Group::Inside);
        gtid
    }

    /// Writes that an ALTER has begun, which is no change yet.
    fn begin_alter(&mut self, schema: &str, sql: &str) -> Phase {
        let vars = mariadb::ddl_vars(self.txns + 1, Some(Phase::Start));
        self.begin(true);
        self.write(&events::query(schema, sql, &vars), Group::Inside);
        Phase::Commit(self.txns)
    }

    /// Announces the next transaction, or a statement that stands alone.
    pub(super) fn begin(&mut self, is_ddl: bool) -> Option<Gtid> {
        if self.plan.unknown && self.txns.is_multiple_of(9) {
            self.write(&events::unknown(), Group::None);
        }
        self.txns += 1;
        self.gno += 1;
        let (gtid, body) = match self.plan.brand {
            Brand::Mysql => {
                let gtid = self.plan.gtids.then(|| Gtid::Mysql {
                    sid: self.sid,
                    tag: String::new(),
                    gno: self.gno,
                });
                let gno = gtid.as_ref().map(|_| self.gno);
                (gtid, events::gtid(self.sid, gno))
            }
            Brand::Mariadb { domain, .. } => {
                let domain = if self.txns.is_multiple_of(5) {
                    domain
                } else {
                    0
                };
                let gtid = mariadb::name(domain, self.txns);
                (Some(gtid), mariadb::gtid(domain, self.txns, is_ddl))
            }
        };
        self.write(&body, Group::First(gtid.clone()));
        if let Some(gtid) = &gtid {
            self.executed.add(gtid);
        }
        gtid
    }

    /// Goes on in a new file.
    pub(super) fn rotate(&mut self) {
        let next = self.file_name(self.files.len());
        self.write(&events::rotate(&next, Position::FIRST), Group::None);
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
            gtids: self.executed.clone(),
            files: (self.files.iter().skip(self.purged))
                .map(|file| (file.name.clone(), file.size))
                .collect(),
            purged: match self.files.get(self.purged) {
                Some(first) => first.before.clone(),
                None => GtidSet::empty(self.plan.flavor()),
            },
        }
    }

    /// A file of a server, whole.
    pub(super) fn logged(&self, server: u64, name: &str) -> Option<Vec<u8>> {
        let files = if server == self.server {
            &self.files
        } else {
            self.past.get(usize::try_from(server).ok()?)?
        };
        let file = files.iter().find(|file| file.name == name)?;
        let events = file.events.iter().map(|logged| &logged.event[..]);
        let mut bytes = MAGIC.to_vec();
        events.for_each(|event| bytes.extend_from_slice(event));
        Some(bytes)
    }

    /// The transactions before a position between two of them.
    pub(super) fn gtids_at(&self, position: &Position) -> Option<GtidSet> {
        let file = self.files.iter().find(|file| file.name == position.file)?;
        let at = |it: &Logged| it.start == position.pos && it.group != Group::Inside;
        let is_between = position.pos == Position::FIRST
            || position.pos == file.size
            || file.events.iter().any(at);
        let mut gtids = file.before.clone();
        for it in file.events.iter().filter(|it| it.start < position.pos) {
            if let Group::First(Some(gtid)) = &it.group {
                gtids.add(gtid);
            }
        }
        is_between.then_some(gtids)
    }

    /// Where a dump begins, and what it sends first.
    pub(super) fn start(&self, from: &Start) -> Result<(Place, VecDeque<Bytes>), String> {
        let (file, event) = match from {
            Start::Position(at) => {
                let file = self.files.iter().position(|file| file.name == at.file);
                let file = file.filter(|file| *file >= self.purged);
                let file = file.ok_or(
                    "Error 1236 (HY000): Could not find first log file name in binary log index \
                     file",
                )?;
                let File { events, size, .. } = &self.files[file];
                let event = match events.iter().position(|it| it.start == at.pos) {
                    Some(event) => event,
                    None if at.pos == *size => events.len(),
                    None => {
                        let text = "Error 1236 (HY000): Client requested source to start \
                                    replication from impossible position";
                        return Err(text.to_owned());
                    }
                };
                (file, event)
            }
            Start::Gtids(known) => {
                let is_known = |file: &File| known.contains(&file.before);
                let file = self.files.iter().rposition(is_known);
                let file = file.filter(|file| *file >= self.purged);
                let file = file.ok_or(
                    "Error 1236 (HY000): Cannot replicate because the source purged required \
                     binary logs",
                )?;
                (file, 0)
            }
        };
        let place = Place {
            file,
            event,
            skips: false,
            hides: false,
        };
        let mut queue = VecDeque::new();
        self.enter(place, &mut queue);
        if let Start::Gtids(known @ GtidSet::Mariadb(_)) = from {
            let list = mariadb::gtid_list(known);
            let format = events::format(self.plan.flavor());
            queue.push_back(events::event(self.clock, 0, 0, &format));
            queue.push_back(events::event(0, 0, ARTIFICIAL, &list));
        }
        Ok((place, queue))
    }

    /// The next event for a dump, and whether it is a later part of a transaction. What is to be
    /// sent first goes into `queue`.
    pub(super) fn next(
        &self,
        place: &mut Place,
        known: Option<&GtidSet>,
        queue: &mut VecDeque<Bytes>,
    ) -> Option<(Bytes, bool)> {
        loop {
            let Some(logged) = self.files[place.file].events.get(place.event) else {
                if place.file + 1 < self.files.len() {
                    place.file += 1;
                    place.event = 0;
                    self.enter(*place, queue);
                }
                return None;
            };
            match &logged.group {
                Group::None | Group::Broken => place.skips = false,
                Group::First(gtid) => {
                    let pair = gtid.as_ref().zip(known);
                    place.skips = pair.is_some_and(|(gtid, known)| known.contains_txn(gtid));
                }
                Group::Inside => {}
            }
            if place.hides && !place.skips {
                // As MySQL says how far it has come.
                place.hides = false;
                return Some((self.heartbeat_at(place.file, logged.start), false));
            }
            place.event += 1;
            if !place.skips {
                return Some((logged.event.clone(), logged.group == Group::Inside));
            }
            place.hides = self.plan.flavor() == Flavor::Mysql;
        }
    }

    /// Whether nothing but the end of its file is behind a place.
    pub(super) fn is_last(&self, place: &Place) -> bool {
        place.file + 1 < self.files.len() && place.event + 1 == self.files[place.file].events.len()
    }

    pub(super) fn heartbeat(&self) -> Bytes {
        let last = self.files.len() - 1;
        self.heartbeat_at(last, self.files[last].size)
    }

    fn heartbeat_at(&self, file: usize, pos: u64) -> Bytes {
        let name = &self.files[file].name;
        if self.plan.brand == Brand::Mysql {
            return events::event(0, pos, 0, &events::heartbeat_v2(name, pos));
        }
        events::event(0, pos, 0, &events::heartbeat(name))
    }

    /// Where the first transaction begins.
    pub(super) fn first_place(&self) -> Position {
        let file = &self.files[0];
        Position::new(&file.name, self.offset.max(Position::FIRST))
    }

    /// What a dump sends when it enters a file: its name, and its format where the file itself
    /// is not read from its start.
    fn enter(&self, place: Place, queue: &mut VecDeque<Bytes>) {
        let file = &self.files[place.file];
        let pos = file
            .events
            .get(place.event)
            .map_or(file.size, |it| it.start);
        let rotate = events::rotate(&file.name, pos);
        queue.push_back(events::event(0, 0, ARTIFICIAL, &rotate));
        let flavor = self.plan.flavor();
        if place.event > 0 {
            queue.push_back(events::event(self.clock, 0, 0, &events::format(flavor)));
        }
    }

    fn file_name(&self, index: usize) -> String {
        let base = if self.server.is_multiple_of(2) {
            "binlog"
        } else {
            "replica-bin"
        };
        format!("{base}.{:06}", self.first + index as u64)
    }

    /// Goes on in a new file, of which the one before says nothing.
    pub(super) fn open(&mut self) {
        self.files.push(File {
            name: self.file_name(self.files.len()),
            events: Vec::new(),
            size: Position::FIRST,
            before: self.executed.clone(),
        });
        self.write(&events::format(self.plan.flavor()), Group::None);
        match &self.executed {
            GtidSet::Mysql(before) => {
                let before = events::previous_gtids(before.encode());
                self.write(&before, Group::None);
            }
            GtidSet::Mariadb(_) => {
                let list = mariadb::gtid_list(&self.executed);
                self.write(&list, Group::None);
                let checkpoint = mariadb::checkpoint(&self.last().name);
                self.write(&checkpoint, Group::None);
            }
        }
        if self.files.len() == 1 {
            // Nobody reads what would be before it.
            let offset = self.offset;
            let file = self.last();
            file.size = file.size.max(offset);
        }
    }

    /// The last transaction that was begun has no end.
    pub(super) fn mark_broken(&mut self) {
        let mut events = self.last().events.iter_mut().rev();
        let begin = events.find(|it| matches!(it.group, Group::First(_)));
        if let Some(begin) = begin {
            begin.group = Group::Broken;
        }
    }

    /// Takes all files away but the last few, or puts them back.
    pub(super) fn purge(&mut self, left: Option<usize>) {
        self.purged = left.map_or(0, |left| self.files.len().saturating_sub(left));
    }

    pub(super) fn write(&mut self, body: &Body, group: Group) {
        let clock = self.clock;
        let leaves_out = matches!(
            self.plan.brand,
            Brand::Mariadb {
                leaves_positions_out: true,
                ..
            }
        );
        let file = self.last();
        let start = file.size;
        file.size += events::size(&body.1) as u64;
        // Since 11.4 what is inside of a transaction does not say where it is.
        let end = if leaves_out && group == Group::Inside {
            0
        } else {
            file.size
        };
        let event = events::event(clock, end, events::flags(body.0), body);
        file.events.push(Logged {
            event,
            start,
            group,
        });
    }

    fn last(&mut self) -> &mut File {
        self.files.last_mut().expect("a file is always open")
    }
}
