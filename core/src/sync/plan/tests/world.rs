//! A source, a planner and a target, with everything that may go wrong between them.

use alloc::{collections::BTreeMap, format, string::String, sync::Arc, vec, vec::Vec};
use core::{cell::OnceCell, time::Duration};

use proptest::prelude::*;

use super::{
    fresh,
    model::{Definition, Result, Rows, definitions},
};
use crate::{
    binlog::{Flavor, Gtid, GtidSet, Position, RowChange},
    sync::{
        batch::Batch,
        plan::{Outcome, Planner, PlannerConfig},
        progress::{Applied, Location, SlotProgress, TxnId},
    },
    time::Instant,
};

std::thread_local! {
    static TABLES: OnceCell<Vec<Definition>> = const { OnceCell::new() };
}

fn with_tables<T>(run: impl FnOnce(&[Definition]) -> T) -> T {
    TABLES.with(|tables| run(tables.get_or_init(definitions)))
}

/// One step of the source: table, kind of change, and three numbers to make rows of.
type Step = (u8, u8, [u8; 3]);

/// A whole run.
#[derive(Clone, Debug)]
pub(super) struct Plan {
    /// Steps of each transaction.
    txns: Vec<Vec<Step>>,
    /// What happens next, as long as there is something.
    choices: Vec<(u8, u8)>,
    slots: [u32; 3],
    batch_rows_max: u32,
    memory_bytes_max: usize,
    by_gtid: bool,
}

pub(super) fn plans(
    tables: core::ops::Range<u8>,
    slots: core::ops::Range<u32>,
) -> BoxedStrategy<Plan> {
    let row = (0u8..4, 0u8..4, 0u8..3).prop_map(|(a, b, c)| [a, b, c]);
    let step = (tables, 0u8..8, row);
    (
        prop::collection::vec(prop::collection::vec(step, 1..7), 1..25),
        prop::collection::vec((0u8..24, any::<u8>()), 0..120),
        [slots.clone(), slots.clone(), slots],
        1u32..8,
        prop_oneof![Just(8_000_usize), Just(1 << 20)],
        any::<bool>(),
    )
        .prop_map(
            |(txns, choices, slots, batch_rows_max, memory_bytes_max, by_gtid)| Plan {
                txns,
                choices,
                slots,
                batch_rows_max,
                memory_bytes_max,
                by_gtid,
            },
        )
        .boxed()
}

/// A transaction of the source.
struct Txn {
    id: TxnId,
    end: Position,
    /// Table and change; some are filtered out by the configuration.
    rows: Vec<(usize, RowChange)>,
    /// The source's rows behind it.
    state: Vec<Rows>,
}

/// Everything the source ever did.
fn history(plan: &Plan, tables: &[Definition]) -> Vec<Txn> {
    let mut state = vec![Rows::default(); tables.len()];
    let mut position = Position::new("binlog.000001", 4);
    let mut txns = Vec::new();
    for (number, steps) in (1..).zip(&plan.txns) {
        let mut rows = Vec::new();
        for &(index, kind, numbers) in steps {
            let index = usize::from(index);
            let table = &tables[index];
            let new = (table.make)(numbers);
            let old = state[index]
                .pick(numbers[0].wrapping_mul(5) ^ kind)
                .cloned();
            let change = match (kind, old) {
                (0..=2, _) | (_, None) => (state[index].insert(table, new.clone()))
                    .map(|()| table.fixture.change(None, Some(&new))),
                (3..=5, Some(old)) => {
                    // Half of the updates leave the first column, which is the key, alone.
                    let mut new = new;
                    if kind > 3 {
                        new[0].clone_from(&old[0]);
                    }
                    (state[index].update(table, &old, new.clone()))
                        .map(|()| table.fixture.change(Some(&old), Some(&new)))
                }
                (_, Some(old)) => (state[index].delete(table, &old))
                    .map(|()| table.fixture.change(Some(&old), None)),
            };
            // What the source itself refuses never happened.
            rows.extend(change.ok().map(|change| (index, change)));
        }
        let start = position.clone();
        position.pos += 100;
        let end = position.clone();
        if number % 5 == 0 {
            position = Position::new(format!("binlog.{:06}", number + 1), 4);
        }
        let gtid = Gtid::Mysql {
            sid: [7; 16],
            tag: String::new(),
            gno: number,
        };
        txns.push(Txn {
            id: TxnId {
                start,
                gtid: Some(gtid),
            },
            end,
            rows,
            state: state.clone(),
        });
    }
    txns
}

/// The downstream database.
struct Target {
    rows: Vec<Rows>,
    progress: Vec<SlotProgress>,
}

impl Target {
    /// One downstream transaction. A condition that doesn't hold means that the planner is wrong.
    fn apply(&mut self, batch: &Batch, tables: &[Definition], strict: bool) -> Result<()> {
        let row = &mut self.progress[batch.slot as usize];
        if row.seq != batch.seq {
            return Err(format!(
                "slot {} is at {}, not at {}",
                batch.slot, row.seq, batch.seq
            ));
        }
        row.seq += 1;
        row.applied = batch.applied.clone();
        for segment in &batch.segments {
            let name = segment.table.name();
            let index = tables
                .iter()
                .position(|table| table.fixture.plan.name() == name);
            let index = index.ok_or("unknown table")?;
            self.rows[index]
                .run(&tables[index], segment, strict)
                .map_err(|error| format!("{error} in {batch:?}"))?;
        }
        Ok(())
    }
}

struct World<'a> {
    plan: &'a Plan,
    tables: &'a [Definition],
    history: Vec<Txn>,
    target: Target,
    planner: Planner,
    /// The next transaction to be read, and the next row in it if it has begun.
    next: (usize, Option<usize>),
    flights: Vec<Arc<Batch>>,
    /// Transactions before it are read in safe mode.
    safe_until: Position,
    strict: bool,
    now: Instant,
    starts: usize,
    max_seq: BTreeMap<u32, u64>,
}

/// Runs a plan to its end: then source and target are equal, or the error says what is wrong.
pub(super) fn run(plan: &Plan, forgets_progress: bool) -> Result<()> {
    with_tables(|tables| {
        let mut world = World::new(plan, tables, !forgets_progress);
        for &(action, detail) in &plan.choices {
            world.step(action, detail)?;
        }
        world.finish()
    })
}

impl<'a> World<'a> {
    fn new(plan: &'a Plan, tables: &'a [Definition], strict: bool) -> Self {
        let config = config(plan, 0);
        let start = Location {
            position: Position::new("binlog.000001", 4),
            gtids: plan.by_gtid.then(|| GtidSet::empty(Flavor::Mysql)),
        };
        let progress = fresh(config.slots, &start);
        let planner = Planner::new(config, progress.clone());
        Self {
            plan,
            tables,
            history: history(plan, tables),
            target: Target {
                rows: vec![Rows::default(); tables.len()],
                progress,
            },
            planner,
            next: (0, None),
            flights: Vec::new(),
            safe_until: Position::default(),
            strict,
            now: Instant::START,
            starts: 0,
            max_seq: BTreeMap::new(),
        }
    }

    fn step(&mut self, action: u8, detail: u8) -> Result<()> {
        match action {
            0..=9 => (0..=detail % 4).try_for_each(|_| self.read())?,
            10..=13 => self.hand_out(),
            14..=16 => self.complete(detail)?,
            17 => self.planner.move_idle(),
            18 => self.now = self.now + Duration::from_millis(u64::from(detail)),
            19 => self.planner.flush(),
            20 => self.barrier()?,
            21 => self.change_slots()?,
            _ => self.crash(detail)?,
        }
        self.check()
    }

    /// Reads one event of the source.
    fn read(&mut self) -> Result<()> {
        let (number, row) = self.next;
        let Some(txn) = self.history.get(number) else {
            return Ok(());
        };
        if self.planner.free_bytes() == 0 {
            return Ok(());
        }
        let Some(row) = row else {
            let safe = txn.id.start < self.safe_until;
            self.next.1 = Some(0);
            return (self.planner.begin(self.now, txn.id.clone(), safe))
                .map_err(|e| format!("{e}"));
        };
        if let Some((table, change)) = txn.rows.get(row) {
            self.next.1 = Some(row + 1);
            let plan = &self.tables[*table].fixture.plan;
            return self
                .planner
                .row(plan, change.clone())
                .map_err(|e| format!("{e}"));
        }
        self.planner.commit(txn.end.clone());
        self.next = (number + 1, None);
        // The rotation in between, sometimes seen and sometimes not.
        if let Some(next) = self.history.get(number + 1)
            && next.id.start != txn.end
            && self.now.0.as_millis().is_multiple_of(2)
        {
            let mut location = self.planner.location().clone();
            location.position = next.id.start.clone();
            self.planner.advance(location);
        }
        Ok(())
    }

    fn hand_out(&mut self) {
        while let Some(batch) = self.planner.poll_batch(self.now) {
            self.flights.push(batch);
        }
    }

    /// Lets one batch that is under way end in one of all possible ways.
    fn complete(&mut self, detail: u8) -> Result<()> {
        if self.flights.is_empty() {
            return Ok(());
        }
        let index = usize::from(detail / 8) % self.flights.len();
        let batch = self.flights.swap_remove(index);
        let (is_applied, is_known) = match detail % 8 {
            0..=3 => (true, true),
            4 | 5 => (false, true),
            6 => (true, false),
            _ => (false, false),
        };
        if is_applied {
            self.target.apply(&batch, self.tables, self.strict)?;
        }
        if is_known {
            let outcome = if is_applied {
                Outcome::Applied
            } else {
                Outcome::Failed
            };
            self.planner.done(batch.slot, outcome);
        } else {
            self.planner.done(batch.slot, Outcome::Unknown);
            let seq = self.target.progress[batch.slot as usize].seq;
            let outcome = self.planner.resolved(batch.slot, seq);
            let expected = if is_applied {
                Outcome::Applied
            } else {
                Outcome::Failed
            };
            assert_eq!(outcome, expected);
        }
        match (is_applied, detail / 64) {
            (true, _) => {}
            (false, 0) => self.planner.retry_alone(batch.slot),
            (false, _) => self.planner.retry(batch.slot),
        }
        Ok(())
    }

    /// Reads to the end of the open transaction and waits for all slots.
    fn drain(&mut self) -> Result<()> {
        for _ in 0..100_000 {
            if self.next.1.is_some() {
                self.read()?;
            } else if self.planner.drained() {
                return Ok(());
            } else {
                self.planner.flush();
            }
            self.hand_out();
            self.complete(0)?;
        }
        Err(format!("it never drains: {:?}", self.planner))
    }

    /// A DDL, or what it is for the slots.
    fn barrier(&mut self) -> Result<()> {
        self.drain()?;
        let applied = Applied::at(self.planner.location().clone());
        // While slots have more than the reader has read again, the DDL was behind them.
        if self.planner.replaying == 0 {
            for row in &mut self.target.progress {
                row.seq += 1;
                row.applied = applied.clone();
            }
            self.planner.barrier(&applied);
        }
        Ok(())
    }

    fn change_slots(&mut self) -> Result<()> {
        if self.planner.wants_slots().is_some() {
            self.drain()?;
            let config = config(self.plan, self.starts);
            self.target.progress = fresh(config.slots, self.planner.location());
            self.planner = Planner::new(config, self.target.progress.clone());
        }
        Ok(())
    }

    /// The worker dies; what is under way happens or not; another one takes over.
    fn crash(&mut self, detail: u8) -> Result<()> {
        for (index, batch) in core::mem::take(&mut self.flights).into_iter().enumerate() {
            if detail >> (index % 8) & 1 == 1 {
                self.target.apply(&batch, self.tables, self.strict)?;
            }
        }
        self.starts += 1;
        let config = config(self.plan, self.starts);
        if !self.strict {
            // Only what the existing worker's checkpoint says is left.
            let open = self.history.get(self.next.0).map(|txn| txn.end.clone());
            let read = self.planner.location().position.clone();
            let highest = read.max(open.unwrap_or_default());
            self.safe_until = highest.max(self.safe_until.clone());
            self.target.progress = fresh(config.slots, self.planner.watermark());
        }
        self.planner = Planner::new(config, self.target.progress.clone());
        let location = self.planner.location();
        let is_read = |txn: &Txn| location.contains(&txn.id, self.plan.by_gtid);
        self.next = (
            self.history.iter().take_while(|txn| is_read(txn)).count(),
            None,
        );
        Ok(())
    }

    /// What must be true at any time.
    fn check(&mut self) -> Result<()> {
        for row in &self.target.progress {
            self.max_seq.insert(row.slot, row.seq);
        }
        if let [row] = &*self.target.progress {
            // With one slot, the target is at a boundary of the source, always.
            let place = &row.applied;
            let is_read = |txn: &&Txn| place.boundary.contains(&txn.id, self.plan.by_gtid);
            let last = self.history.iter().take_while(is_read).last();
            if place.txn.is_some() || self.strict && last.is_some_and(|txn| !self.is_at(txn)) {
                return Err(format!("the target is inside a transaction: {place}"));
            }
        }
        Ok(())
    }

    fn is_at(&self, txn: &Txn) -> bool {
        let pairs = self.target.rows.iter().zip(&txn.state);
        pairs
            .into_iter()
            .all(|(own, source)| own.sorted() == source.sorted())
    }

    fn finish(&mut self) -> Result<()> {
        for _ in 0..100_000 {
            self.read()?;
            if self.next.0 == self.history.len() {
                break;
            }
            self.hand_out();
            self.complete(0)?;
        }
        if self.next.0 < self.history.len() {
            return Err(format!("the reader is stuck: {:?}", self.planner));
        }
        self.drain()?;
        self.planner.move_idle();
        self.drain()?;
        if let Some(last) = self.history.last()
            && !self.is_at(last)
        {
            return Err(format!(
                "source {:?}, target {:?}",
                last.state, self.target.rows
            ));
        }
        assert_eq!(self.planner.free_bytes(), self.plan.memory_bytes_max);
        assert_eq!(self.planner.watermark(), self.planner.location());
        for (slot, row) in self.target.progress.iter().zip(&self.planner.slots) {
            assert_eq!(
                (&slot.applied, slot.seq),
                (&row.progress.applied, row.progress.seq)
            );
            assert_eq!(slot.applied, Applied::at(self.planner.location().clone()));
        }
        Ok(())
    }
}

fn config(plan: &Plan, starts: usize) -> PlannerConfig {
    PlannerConfig {
        slots: plan.slots[starts % plan.slots.len()],
        batch_rows_max: plan.batch_rows_max,
        batch_bytes_max: 1 << 20,
        packet_bytes_max: 1 << 20,
        memory_bytes_max: plan.memory_bytes_max,
        linger: Duration::from_millis(20),
        by_gtid: plan.by_gtid,
    }
}
