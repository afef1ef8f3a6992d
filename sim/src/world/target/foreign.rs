//! The existing worker, which goes on from our checkpoint while our task is stopped.

use dm_core::sync::progress::Location;
use dm_runtime::ports::Checkpoint;

use super::database::Database;
use crate::{dice::Dice, world::history::History};

impl Database {
    /// Lets it apply some transactions, write a checkpoint some way behind, and end.
    pub(in crate::world) fn foreign_worker_ran(
        &self,
        source: &str,
        history: &History,
        dice: &mut Dice,
    ) {
        let mut state = self.state();
        let job = state.job(source);
        let Some(Checkpoint { global, .. }) = job.checkpoint.clone() else {
            return;
        };
        // Only an order to stop leaves all slots at the checkpoint, and nothing under way.
        let is_there = |applied: &dm_core::sync::progress::Applied| {
            applied.txn.is_none() && applied.boundary == global
        };
        let rests = job.slots().all(|(_, row)| is_there(&row.applied))
            // Or it would have to go on from what another of its kind left behind.
            && job.checkpoint == job.remembered
            && job.intent.is_none()
            && job.safe_until.is_none();
        if !rests {
            return;
        }
        let by_gtid = global.gtids.as_ref().is_some_and(|set| !set.is_empty());
        let entries = history.behind(&global, by_gtid);
        let applied = dice.within(0..entries.len() as u64 + 1) as usize;
        let mut tables = job.tables.clone();
        for entry in &entries[..applied] {
            if let Err(error) = entry.apply(&mut tables) {
                self.trace
                    .violate("foreign", format_args!("{source}: {error}"));
                return;
            }
        }
        // It repeats rows, but neither statements nor rows without a name.
        let repeatable = entries[..applied].iter().rev();
        let most = repeatable.take_while(|it| it.is_repeatable()).count();
        let written = applied - dice.within(0..most as u64 + 1) as usize;
        let ends = dice.within(applied as u64..entries.len() as u64 + 1) as usize;
        let location = |count: usize| match count.checked_sub(1) {
            Some(last) => Location {
                gtids: entries[last].end.gtids.clone().filter(|_| by_gtid),
                ..entries[last].end.clone()
            },
            None => global.clone(),
        };
        let checkpoint = Checkpoint {
            global: location(written),
            exit_safe: dice.permille(700).then(|| location(ends)),
        };
        // One that is as ours was tells nothing of it, as the production target says: then it must
        // not have done anything.
        if Some(&checkpoint) == job.remembered.as_ref() {
            return;
        }
        job.tables = tables;
        self.trace.count("foreign: checkpoint");
        self.trace.note(
            "foreign",
            format_args!("{source}: {applied} transactions, {written} in the checkpoint"),
        );
        job.checkpoint = Some(checkpoint);
    }
}
