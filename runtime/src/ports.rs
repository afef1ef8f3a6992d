//! The doors to the world: everything that a unit or the driver may touch.
//!
//! Production has one implementation of each (`etcd`, `mysql`, `standalone`); the simulator brings
//! its own. Code above this line never names a server or a socket.

pub mod copy;
pub mod disk;

use std::{collections::BTreeMap, fmt, future::Future, sync::Arc};

use bytes::Bytes;
use dm_core::{
    binlog::{Dialect, Flavor, GtidSet, Position},
    control::SourceConfig,
    error::{Error, Result},
    full::Consistency,
    lifecycle::{ControlCall, Event, Input, Job, Outcome, Ticket},
    sync::{
        agreement::SourceTable,
        batch::Batch,
        ddl::{Collations, Piece},
        progress::{Applied as Progress, Fence, Location, SlotProgress},
        schema::{Table, TableName},
    },
};
use tokio::sync::mpsc;

use self::copy::{Cargo, Copy, Reader, Snapshot};

/// Where a stream effect reports what happens while it goes on.
#[derive(Clone, Debug)]
pub struct Events {
    ticket: Ticket,
    inbox: mpsc::UnboundedSender<Input>,
}

impl Events {
    /// Reports under `ticket` to `inbox`.
    #[must_use]
    pub const fn new(ticket: Ticket, inbox: mpsc::UnboundedSender<Input>) -> Self {
        Self { ticket, inbox }
    }

    /// Reports an event. A driver that is over hears nothing any more.
    pub fn send(&self, event: Event) {
        let _ = self.inbox.send(Input::Event {
            ticket: self.ticket,
            event,
        });
    }
}

#[cfg(madsim)]
impl Events {
    /// Says how an effect ended though it was cancelled, or once more: what a driver can't keep the
    /// world from.
    pub fn end(&self, outcome: Outcome) {
        let ticket = self.ticket;
        let _ = self.inbox.send(Input::Done { ticket, outcome });
    }
}

/// The coordination store: etcd, or the one inside the process when there is no cluster.
pub trait Control: Clone + Send + Sync + 'static {
    /// Carries out one call and says how it ended. A watch reports through `events` and ends with
    /// the outcome that closed it; dropping the future cancels the call.
    fn call(&self, call: ControlCall, events: Events) -> impl Future<Output = Outcome> + Send;
}

/// Makes the doors of one subtask.
pub trait Connect: Clone + Send + Sync + 'static {
    /// The upstream's type.
    type Source: Source;
    /// The downstream's type.
    type Target: Target;
    /// The type of the machine's files.
    type Disk: disk::Disk;

    /// A source to read from. Does not connect yet.
    fn source(&self, config: &Arc<SourceConfig>) -> Self::Source;

    /// The machine's files.
    fn disk(&self) -> Self::Disk;

    /// Opens the downstream of a subtask: detects what it is and prepares the meta tables.
    fn target(
        &self,
        job: &Job,
        upstream: &SourceFacts,
    ) -> impl Future<Output = Result<Self::Target>> + Send;
}

/// What must be known of an upstream server before its binlog can be applied.
#[derive(Clone, Debug)]
pub struct SourceFacts {
    /// MySQL or MariaDB.
    pub flavor: Flavor,
    /// The server's version text, for the log.
    pub version: String,
    /// Global `sql_mode`, as the server prints it.
    pub sql_mode: String,
    /// `lower_case_table_names`.
    pub lower_case_table_names: u8,
    /// The schemas that its binlog has.
    pub logged: Logged,
    /// Why its binlog can't be applied, or has not all that is written to these, as far as it
    /// tells; nothing if a task was to follow it all the same.
    pub obstacle: Option<Error>,
    /// What the server is called in relay logs: its UUID, or `<domain>-<server id>` on MariaDB.
    pub server: String,
    /// End of the binlog when it was asked.
    pub end: SourceEnd,
}

/// Which schemas a binlog has.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub struct Logged {
    /// If not empty, those that alone are in it, separated by commas.
    pub only: String,
    /// Else those that are not.
    pub never: String,
    /// Whether letter case makes no difference.
    pub any_case: bool,
}

impl Logged {
    /// Whether it has a schema.
    #[must_use]
    pub fn has(&self, schema: &str) -> bool {
        let Self {
            only,
            never,
            any_case,
        } = self;
        let is_in = |list: &str| {
            list.split(',').any(|other| {
                other == schema || *any_case && other.to_lowercase() == schema.to_lowercase()
            })
        };
        match &**only {
            "" => !is_in(never),
            only => is_in(only),
        }
    }
}

/// Where a source's binlog ends.
#[derive(Clone, Debug, PartialEq)]
pub struct SourceEnd {
    /// File and offset of the next event to be written.
    pub position: Position,
    /// Every transaction executed so far; empty where the server keeps no GTIDs.
    pub gtids: GtidSet,
    /// Name and size of each binlog file, oldest first; empty where the server doesn't say.
    pub files: Vec<(String, u64)>,
    /// The transactions that are not in these files any more; empty where the server doesn't say.
    pub purged: GtidSet,
}

impl SourceEnd {
    /// Whether some of what comes behind a location is gone, as far as that can be told.
    #[must_use]
    pub fn has_lost(&self, from: &Location, by_gtid: bool) -> bool {
        match &from.gtids {
            Some(gtids) if by_gtid => !self.purged.is_empty() && !gtids.contains(&self.purged),
            _ => {
                let is_it = |(name, _): &(String, u64)| *name == from.position.file;
                !self.files.is_empty() && !self.files.iter().any(is_it)
            }
        }
    }

    /// How many bytes of the files that are left come before a position.
    #[must_use]
    pub fn offset(&self, at: &Position) -> Option<u64> {
        let index = self.files.iter().position(|(name, _)| *name == at.file)?;
        let before = self.files[..index].iter().map(|(_, size)| size);
        Some(before.sum::<u64>() + at.pos)
    }
}

/// From where a binlog is wanted.
#[derive(Clone, Debug, PartialEq)]
pub enum Start {
    /// From the event that begins at this position.
    Position(Position),
    /// Every transaction that is not in this set.
    Gtids(GtidSet),
}

impl fmt::Display for Start {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Position(position) => position.fmt(f),
            Self::Gtids(gtids) => write!(f, "what is not in {gtids}"),
        }
    }
}

/// One upstream MySQL or MariaDB.
pub trait Source: Send + Sync + 'static {
    /// The running binlog dump.
    type Stream: EventStream;
    /// A connection that sees a snapshot.
    type Reader: Reader;

    /// Looks the server over.
    ///
    /// # Errors
    /// No connection, no binlog, or no privilege to ask where it ends. Where a task follows the
    /// binlog, a coded error for whatever makes that impossible or lossy as well: a wrong format or
    /// row image, a missing privilege.
    fn probe(&self, follows: bool) -> impl Future<Output = Result<SourceFacts>> + Send;

    /// Starts a binlog dump.
    fn dump(&self, from: &Start) -> impl Future<Output = Result<Self::Stream>> + Send;

    /// The transactions before a position that lies between two of them.
    ///
    /// # Errors
    /// The position is no such place, or its file is gone.
    fn gtids_at(&self, position: &Position) -> impl Future<Output = Result<GtidSet>> + Send;

    /// A table as it is now.
    fn table(&self, name: &TableName) -> impl Future<Output = Result<SourceTable>> + Send;

    /// Asks where the binlog ends now, within five seconds.
    fn end(&self) -> impl Future<Output = Result<SourceEnd>> + Send;

    /// The collations, and what is created with if a statement names none.
    ///
    /// # Errors
    /// 10001: the source can't be reached.
    fn collations(&self) -> impl Future<Output = Result<Collations>> + Send;

    /// Takes a snapshot of the tables that are wanted, for so many connections.
    ///
    /// # Errors
    /// 10001: the source can't be reached. 32004: the user may not hold writers off in the way that
    /// was asked for, or there was always something that took longer. 32001: tables changed all the
    /// time.
    fn snapshot(
        &self,
        consistency: Consistency,
        readers: usize,
        is_wanted: impl Fn(&TableName) -> bool + Send + Sync,
    ) -> impl Future<Output = Result<Snapshot<Self::Reader>>> + Send;
}

/// A running binlog dump.
pub trait EventStream: Send + 'static {
    /// The next event as the server sent it: header, body, checksum. Cancel-safe.
    ///
    /// # Errors
    /// Connection trouble, the server's own refusal, or silence for two heartbeat periods.
    fn next(&mut self) -> impl Future<Output = Result<Bytes>> + Send;

    /// The server that sends it, as [`SourceFacts::server`]. Another one may have taken the
    /// source's place since the source was looked over.
    fn server(&self) -> &str;
}

/// What taking over a source's progress in the target revealed.
#[derive(Clone, Debug)]
pub struct Recovered {
    /// The fence that holds now.
    pub fence: Fence,
    /// Progress of every slot; empty when this subtask never ran with us, or when somebody else
    /// wrote or removed the checkpoint since.
    pub slots: Vec<SlotProgress>,
    /// The existing worker's checkpoint, if there is one.
    pub checkpoint: Option<Checkpoint>,
    /// Rows before it must be applied in safe mode, whatever the slots say.
    pub safe_until: Option<Location>,
}

/// The existing worker's checkpoint, `<task>_syncer_checkpoint`: its global row.
///
/// What its other rows say of single tables is not needed: between the global point and the exit
/// point rows are applied in safe mode, and structures are those of the target.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Checkpoint {
    /// Everything before it is applied.
    pub global: Location,
    /// Nothing at or behind it is applied; between the two anything may be. `None` while slots are
    /// at work: after a crash they may have come further than any point written before, and whoever
    /// went on from this checkpoint would leave safe mode too early.
    pub exit_safe: Option<Location>,
}

/// A statement that commits by itself.
#[derive(Clone, Debug)]
pub struct Ddl {
    /// The statement for the target, and what it names.
    pub piece: Piece,
    /// `@@session.timestamp` of the source's session, in seconds.
    pub timestamp: u32,
    /// `time_zone` of the source's session, if the event names one.
    pub time_zone: Option<String>,
    /// `sql_mode` bits of the source's session.
    pub sql_mode: Option<u64>,
    /// The default schema, where the text may leave names of schemas out.
    pub schema: Option<String>,
    /// `collation_server` of the source's session, by number: the default of new schemas.
    pub collation_server: Option<u16>,
    /// Where every slot is once it ran: for the last piece of an event the end of the event, for
    /// the others its start and the number of pieces done.
    pub after: Progress,
    /// Whether somebody else may have run it before, so that "is there already" is no error.
    pub replay: bool,
}

/// How a downstream transaction ended.
#[derive(Debug)]
pub enum Applied {
    /// Committed.
    Done,
    /// Certainly rolled back.
    Failed {
        /// What the server said.
        error: Error,
        /// Whether the very same batch may succeed when tried again.
        retry: bool,
    },
    /// It may or may not be committed: read the progress back.
    Unknown(Error),
    /// Another owner holds the source: this one is over.
    Fenced(Error),
    /// The progress row has moved on: this write happened already, or is from the past.
    Moved(Error),
}

/// The downstream of one subtask, under one fence.
pub trait Target: Send + Sync + 'static {
    /// A connection that applies the batches of one slot.
    type Session: Session;

    /// What dialect the server speaks.
    fn dialect(&self) -> Dialect;

    /// Bytes that a packet may hold (`max_allowed_packet`).
    fn packet_bytes_max(&self) -> usize;

    /// Whether rows may come as lines ([`copy::Body::Lines`]).
    fn takes_lines(&self) -> impl Future<Output = Result<bool>> + Send;

    /// Makes `fence` the only one that may write, ends whatever is still in flight under older
    /// ones, settles a DDL that was under way, and says what is applied. Without a fence, takes the
    /// next one of the target's own counter (a worker that runs alone).
    fn take_over(&self, fence: Option<Fence>) -> impl Future<Output = Result<Recovered>> + Send;

    /// Replaces all slot rows: `slots` slots, all at `location`. Rows before `safe_until` are to be
    /// applied in safe mode; that is remembered until a checkpoint closes the window.
    fn reset(
        &self,
        slots: u32,
        location: &Location,
        safe_until: Option<&Location>,
    ) -> impl Future<Output = Result<Vec<SlotProgress>>> + Send;

    /// Opens the session of a slot.
    fn session(&self, slot: u32) -> impl Future<Output = Result<Self::Session>> + Send;

    /// The sequence number in a slot's progress row, after whatever an earlier session of that slot
    /// still had under way is over.
    fn read_back(&self, slot: u32) -> impl Future<Output = Result<u64>> + Send;

    /// The definition of a table, `None` when there is no such table.
    fn table(&self, name: &TableName) -> impl Future<Output = Result<Option<Table>>> + Send;

    /// The time zone of timestamps in dump files that name none: the task's, else that of the
    /// target, as an offset.
    fn time_zone(&self) -> impl Future<Output = Result<String>> + Send;

    /// How many rows a table has.
    fn count(&self, name: &TableName) -> impl Future<Output = Result<u64>> + Send;

    /// Runs a DDL between an intent and its clearing; no slot may be at work.
    fn ddl(&self, ddl: &Ddl) -> impl Future<Output = Applied> + Send;

    /// As [`Self::ddl`], of statements that each make or alter a table of its own, all at the same
    /// time. They move no slot, and which of them were executed has to be found out.
    fn ddl_all(&self, ddls: &[Ddl]) -> impl Future<Output = Applied> + Send;

    /// Whether there is a checkpoint: the sync unit has begun.
    fn has_checkpoint(&self) -> impl Future<Output = Result<bool>> + Send;

    /// What is noted of the copy of this subtask's tables; nothing if it never began, or if the
    /// meta data was removed since.
    fn copy(&self) -> impl Future<Output = Result<Option<Copy>>> + Send;

    /// Notes a copy that begins, or goes on, and replaces all slot rows: `slots` slots, which have
    /// nothing to do before the place where it began. What is noted of pieces is removed where a
    /// table has none in `copy`.
    fn begin_copy(
        &self,
        slots: u32,
        copy: &Copy,
    ) -> impl Future<Output = Result<Vec<SlotProgress>>> + Send;

    /// Notes that all is copied, and with `slots` lets so many of them go on from where it began:
    /// all in one transaction.
    fn end_copy(&self, slots: Option<u32>, copy: &Copy) -> impl Future<Output = Result<()>> + Send;

    /// Writes the existing worker's checkpoint. If it `closes` the window of safe mode, which is
    /// behind it then, that is forgotten.
    fn checkpoint(
        &self,
        checkpoint: &Checkpoint,
        closes: bool,
    ) -> impl Future<Output = Applied> + Send;

    /// Bytes read and written over connections to the target so far.
    fn io_bytes(&self) -> u64;
}

/// A connection that applies one slot's batches, one at a time.
pub trait Session: Send + 'static {
    /// Applies a batch in one fenced transaction.
    fn apply(&mut self, batch: &Batch) -> impl Future<Output = Applied> + Send;

    /// Writes rows of a snapshot in one fenced transaction, which notes that they are there.
    fn copy(&mut self, cargo: &Cargo) -> impl Future<Output = Applied> + Send;

    /// How many rows the last batch was to change that were not there, by table, as far as that is
    /// told: it was applied all the same.
    fn missed(&mut self) -> BTreeMap<TableName, u64> {
        BTreeMap::new()
    }
}
