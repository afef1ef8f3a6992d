//! What a target answers to those who own its progress, and how to hold one to it.
//!
//! The guards of the protocol are in the real target's SQL, and a second time in the simulated one:
//! a world proves something only where the two agree. So one table of cases is run against both.

pub mod cases;
mod rows;

use std::{collections::BTreeMap, future::Future};

use dm_core::{
    binlog::{Flavor, GtidSet, Position},
    error::{Error, Result, code},
    sync::{
        ddl::{Kind, Piece},
        progress::{Applied as Progress, Fence, Location, SlotProgress, TxnId},
        schema::TableName,
    },
};
use dm_runtime::ports::{Applied, Checkpoint, Ddl, Session as _, Target};

pub use rows::{Row, TABLES};
use rows::{Rows, batch};

/// A downstream that cases are run against, and whoever else is at work there.
pub trait Reality {
    /// What an owner has of it.
    type Target: Target;

    /// Connects one more process.
    fn connect(&mut self) -> impl Future<Output = Result<Self::Target>> + Send;

    /// The schema in which [`TABLES`] are at the beginning.
    fn schema(&self) -> String;

    /// Somebody else executes a statement that changes definitions; `$` is the schema.
    fn execute(&mut self, sql: &str) -> impl Future<Output = ()> + Send;

    /// The existing worker writes its checkpoint, or somebody removes it.
    fn put_checkpoint(&mut self, it: Option<Checkpoint>) -> impl Future<Output = ()> + Send;

    /// A table's rows in order, `None` where there is no such table.
    fn rows(&mut self, table: &str) -> impl Future<Output = Option<Vec<Row>>> + Send;
}

/// Steps on one downstream, which nobody used before.
pub struct Case {
    /// Says what it is about.
    pub name: &'static str,
    steps: Vec<Step>,
}

/// A process, of which each has its own connection: the first, the second.
type Owner = usize;

/// What an owner asks for, with the answer; or what somebody else does.
#[derive(Debug)]
enum Step {
    TakeOver(Owner, i64, Result<Found, End>),
    Reset(Owner, u32, u64, Option<u64>, Result<u64, End>),
    Session(Owner, u32, End),
    /// On the last session of that slot.
    Apply(Owner, u32, u64, Place, Vec<Rows>, End),
    ReadBack(Owner, u32, Result<u64, End>),
    Checkpoint(Owner, u64, Option<u64>, End),
    Ddl(Owner, Statement, Place, End),
    Columns(Owner, &'static str, Option<&'static [&'static str]>),
    Execute(&'static str),
    PutCheckpoint(Option<(u64, Option<u64>)>),
    Rows(&'static str, Option<Vec<Row>>),
}

/// How a call ended.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
enum End {
    Done,
    /// Rolled back for good, with the server's number.
    Failed(u16),
    /// The same may succeed later.
    Again(u16),
    Unknown,
    Fenced,
    Moved,
    /// A statement that may have been executed keeps everybody out.
    Unsettled,
}

/// What a takeover finds.
#[derive(Debug)]
struct Found {
    /// Step and place of each slot.
    slots: Vec<(u64, Place)>,
    checkpoint: Option<(u64, Option<u64>)>,
    safe_until: Option<u64>,
}

/// An offset in the first binlog file, and how many rows of the transaction there.
#[derive(Clone, Copy, Debug)]
struct Place(u64, u64);

#[derive(Clone, Copy, Debug)]
struct Statement {
    kind: Kind,
    /// With `$` for the schema.
    sql: &'static str,
    tables: &'static [&'static str],
    replay: bool,
    swaps: bool,
}

/// Runs a case.
///
/// # Errors
/// The first answer that is another one.
pub async fn run<R: Reality>(case: &Case, reality: &mut R) -> Result<(), String> {
    let mut players = Players {
        reality,
        owners: BTreeMap::new(),
        sessions: BTreeMap::new(),
        windows: BTreeMap::new(),
    };
    for (number, step) in case.steps.iter().enumerate() {
        let told = players.play(step).await;
        told.map_err(|answer| format!("{}: step {number}, {step:?}: is {answer}", case.name))?;
    }
    Ok(())
}

struct Players<'a, R: Reality> {
    reality: &'a mut R,
    owners: BTreeMap<Owner, R::Target>,
    sessions: BTreeMap<(Owner, u32), <R::Target as Target>::Session>,
    /// Up to where each is to apply in safe mode.
    windows: BTreeMap<Owner, Option<Location>>,
}

impl<R: Reality> Players<'_, R> {
    /// # Errors
    /// Another answer.
    async fn play(&mut self, step: &Step) -> Result<(), String> {
        match step {
            Step::TakeOver(owner, fence, expected) => {
                let fence = Fence(*fence);
                let found = self.owner(*owner).await?.take_over(Some(fence)).await;
                let window = found.as_ref().ok().and_then(|it| it.safe_until.clone());
                self.windows.insert(*owner, window);
                let found = found.map_err(|error| end_of(&error)).map(|it| {
                    let slots = it.slots.iter().map(shown);
                    (it.fence, slots.collect(), it.checkpoint, it.safe_until)
                });
                let all = |it: &Found| {
                    let slots = (0..).zip(&it.slots);
                    let slots = slots.map(|(slot, (seq, place))| at_place(slot, *seq, *place));
                    let checkpoint = it.checkpoint.map(checkpoint);
                    (
                        fence,
                        slots.collect::<Vec<_>>(),
                        checkpoint,
                        it.safe_until.map(at),
                    )
                };
                same(&found, &expected.as_ref().map(all).map_err(|end| *end))
            }
            Step::Reset(owner, slots, pos, safe_until, expected) => {
                let window = safe_until.map(at);
                self.windows.insert(*owner, window.clone());
                let owner = self.owner(*owner).await?;
                let made = owner.reset(*slots, &at(*pos), window.as_ref()).await;
                let made = made.map(|made| made.iter().map(shown).collect::<Vec<_>>());
                let fresh = |seq| {
                    let row = |slot| at_place(slot, seq, Place(*pos, 0));
                    (0..*slots).map(row).collect()
                };
                same(&made.map_err(|error| end_of(&error)), &expected.map(fresh))
            }
            Step::Session(owner, slot, expected) => {
                let opened = self.owner(*owner).await?.session(*slot).await;
                let opened = opened.map(|it| self.sessions.insert((*owner, *slot), it));
                same(
                    &opened.map_or_else(|error| end_of(&error), |_| End::Done),
                    expected,
                )
            }
            Step::Apply(owner, slot, seq, place, rows, expected) => {
                let batch = batch(&self.reality.schema(), *slot, *seq, place.progress(), rows);
                let session = self.sessions.get_mut(&(*owner, *slot));
                let session = session.ok_or("no session")?;
                same(&ended(&session.apply(&batch).await), expected)
            }
            Step::ReadBack(owner, slot, expected) => {
                let read = self.owner(*owner).await?.read_back(*slot).await;
                same(&read.map_err(|error| end_of(&error)), expected)
            }
            Step::Checkpoint(owner, global, exit, expected) => {
                let checkpoint = checkpoint((*global, *exit));
                let window = self.windows.get(owner).and_then(Option::as_ref);
                let closes = window.is_some_and(|end| checkpoint.global.reaches(end, true));
                let owner = self.owner(*owner).await?;
                let written = owner.checkpoint(&checkpoint, closes).await;
                same(&ended(&written), expected)
            }
            Step::Ddl(owner, statement, after, expected) => {
                let ddl = statement.ddl(&self.reality.schema(), *after);
                same(&ended(&self.owner(*owner).await?.ddl(&ddl).await), expected)
            }
            Step::Columns(owner, table, expected) => {
                let name = TableName::new(self.reality.schema(), *table);
                let table = self.owner(*owner).await?.table(&name).await;
                let table = table.map_err(|error| error.to_string())?;
                let columns = table.as_ref().map(|table| {
                    let columns = table.columns.iter();
                    columns.map(|column| &*column.name).collect::<Vec<_>>()
                });
                same(&columns, &expected.map(<[_]>::to_vec))
            }
            Step::Execute(sql) => {
                self.reality.execute(sql).await;
                Ok(())
            }
            Step::PutCheckpoint(it) => {
                self.reality.put_checkpoint(it.map(checkpoint)).await;
                Ok(())
            }
            Step::Rows(table, expected) => same(&self.reality.rows(table).await, expected),
        }
    }

    async fn owner(&mut self, owner: Owner) -> Result<&R::Target, String> {
        if !self.owners.contains_key(&owner) {
            let connected = self.reality.connect().await;
            let connected = connected.map_err(|error| error.to_string())?;
            self.owners.insert(owner, connected);
        }
        Ok(&self.owners[&owner])
    }
}

impl Place {
    fn progress(self) -> Progress {
        let Self(pos, rows) = self;
        let txn = || TxnId {
            start: at(pos).position,
            gtid: format!("{SERVER}:{}", pos + 1).parse().ok(),
        };
        Progress {
            boundary: at(pos),
            txn: (rows > 0).then(txn),
            rows,
        }
    }
}

impl Statement {
    fn ddl(self, schema: &str, after: Place) -> Ddl {
        let tables = self.tables.iter();
        Ddl {
            schema: None,
            piece: Piece {
                ordinal: 0,
                kind: self.kind,
                sources: Vec::new(),
                targets: tables.map(|name| TableName::new(schema, *name)).collect(),
                swaps: self.swaps,
                sql: self.sql.replace('$', &format!("`{schema}`")),
            },
            timestamp: 1_700_000_000,
            time_zone: None,
            sql_mode: None,
            collation_server: None,
            after: after.progress(),
            replay: self.replay,
        }
    }
}

/// The source's UUID.
const SERVER: &str = "0a0431f2-e6eb-11f1-beb0-02fc00000001";

/// As many transactions as bytes are before it, so that each place has a set of its own.
fn at(pos: u64) -> Location {
    Location {
        position: Position::new("binlog.000001", pos),
        gtids: GtidSet::parse(Flavor::Mysql, &format!("{SERVER}:1-{pos}")).ok(),
    }
}

fn checkpoint((global, exit): (u64, Option<u64>)) -> Checkpoint {
    Checkpoint {
        global: at(global),
        exit_safe: exit.map(at),
    }
}

fn at_place(slot: u32, seq: u64, place: Place) -> String {
    let applied = place.progress();
    shown(&SlotProgress { slot, seq, applied })
}

/// All that there is of it, short enough to be read.
fn shown(SlotProgress { slot, seq, applied }: &SlotProgress) -> String {
    format!("slot {slot} at step {seq}, {applied}")
}

fn ended(applied: &Applied) -> End {
    match applied {
        Applied::Done => End::Done,
        Applied::Failed { error, retry: true } => End::Again(number(error)),
        Applied::Failed { error, .. } => End::Failed(number(error)),
        Applied::Unknown(_) => End::Unknown,
        Applied::Fenced(_) => End::Fenced,
        Applied::Moved(_) => End::Moved,
    }
}

fn end_of(error: &Error) -> End {
    match error {
        _ if error.is(&code::SYNCER_FENCED) => End::Fenced,
        _ if error.is(&code::SYNCER_PROGRESS_MOVED) => End::Moved,
        _ if error.is(&code::SYNCER_DDL_UNSETTLED) => End::Unsettled,
        _ => End::Failed(number(error)),
    }
}

/// The server's own number, 0 where it said nothing.
fn number(error: &Error) -> u16 {
    let mut words = error.cause.split(' ');
    let number = words
        .find(|word| *word == "Error")
        .and_then(|_| words.next());
    number.and_then(|text| text.parse().ok()).unwrap_or(0)
}

fn same<T: PartialEq + std::fmt::Debug>(answer: &T, expected: &T) -> Result<(), String> {
    if answer == expected {
        return Ok(());
    }
    Err(format!("{answer:?}"))
}
