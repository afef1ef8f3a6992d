//! Purges of relay logs: by themselves, and as operators want them.

use std::time::Duration;

use dm_core::{lifecycle::View, relay::Strategy};
use dm_runtime::{
    ports::Connect,
    units::{Facts, relay::Purger},
};
use tokio::{
    sync::{mpsc, watch},
    time::sleep,
};

use super::{files::Machine, trace::Trace};
use crate::dice::Dice;

/// How often a worker forgets the tasks that are gone.
const TICK: Duration = Duration::from_secs(1);
/// How old what is to go may be at most, on the calendar of its machine.
const AGE_MAX_S: u64 = 3 * 60 * 60;

/// What an operator may want.
pub(super) fn wish(machine: &Machine, dice: &mut Dice) -> Strategy {
    let files: Vec<_> = (machine.relayed().into_iter())
        .flat_map(|(dir, files)| files.into_iter().map(move |file| (dir.clone(), file)))
        .collect();
    match dice.within(0..4) {
        0 => Strategy::Inactive,
        1 => {
            let age = Duration::from_secs(dice.within(0..AGE_MAX_S));
            Strategy::Time(machine.calendar().saturating_sub(age).as_secs())
        }
        _ if files.is_empty() => Strategy::Inactive,
        _ => {
            let (dir, name) = dice.pick(&files).clone();
            let sub_dir = dice.permille(700).then(|| dir.to_string());
            Strategy::File { name, sub_dir }
        }
    }
}

/// Does what a worker does about its relay logs as long as it lives.
pub(super) async fn serve<K: Connect>(
    purger: Purger<K>,
    mut wishes: mpsc::UnboundedReceiver<Strategy>,
    (facts, view): (Facts, watch::Receiver<View>),
    (trace, process): (Trace, String),
) {
    let by_itself = purger.clone().run();
    let forgets = async {
        loop {
            sleep(TICK).await;
            facts.retain(&view.borrow());
        }
    };
    let obeys = async {
        while let Some(strategy) = wishes.recv().await {
            let (purger, trace, process) = (purger.clone(), trace.clone(), process.clone());
            // Each in a call of its own.
            tokio::spawn(async move {
                let what = strategy.to_string();
                match purger.on_request(strategy).await {
                    Ok(removed) => trace.note(&process, format_args!("{what}: {removed}")),
                    Err(error) => trace.note(&process, format_args!("{what}: {error}")),
                }
            });
        }
    };
    tokio::join!(by_itself, forgets, obeys);
}
