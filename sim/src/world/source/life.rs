//! What happens to a server and its binlog besides being written.

use dm_core::binlog::{Flavor, HEADER_LEN};

use super::{
    Upstream,
    binlog::{Binlog, Group},
    events,
};
use crate::dice::Dice;

impl Upstream {
    /// Stops the server in order, and starts it again.
    pub(in crate::world) fn restart(&self, dice: &mut Dice) {
        let mut state = self.now();
        state.binlog.stop();
        self.trace.count("source: restart");
        self.starts(state, dice, "restarts");
    }

    /// Lets the server crash in the middle of a transaction: its binlog may have the beginning.
    pub(in crate::world) fn crash(&self, dice: &mut Dice) {
        let mut state = self.now();
        let saved = (state.tables.clone(), state.next_value);
        let txn = state.transaction(dice);
        (state.tables, state.next_value) = saved;
        state.binlog.break_off(&self.name, &txn, dice);
        self.trace.count("source: crash");
        self.starts(state, dice, "crashes");
    }

    fn starts(
        &self,
        mut state: std::sync::MutexGuard<'_, super::State>,
        dice: &mut Dice,
        why: &str,
    ) {
        state.binlog.open();
        // From the first number on again, so that another table has it now.
        state.tables.renumber(dice.within(0..3));
        self.written(state, dice, why);
        self.cut();
    }

    /// Takes all files away but the last few, or puts them back.
    pub(in crate::world) fn purge(&self, purged: bool) {
        let mut state = self.state();
        if state.purged != purged {
            state.purged = purged;
            let left = state.dice.within(1..3) as usize;
            state.binlog.purge(purged.then_some(left));
        }
    }

    /// Puts another server in its place, which has the same transactions in files of its own.
    pub(in crate::world) fn switch_server(&self, dice: &mut Dice) {
        let mut state = self.now();
        let clock = state.binlog.clock;
        state.binlog.copy(dice);
        state.binlog.clock = clock;
        self.trace.count("source: another server");
        self.written(state, dice, "is another server");
        self.cut();
    }
}

impl Binlog {
    /// The server stops in order, and says so.
    fn stop(&mut self) {
        self.write(&events::stop(), Group::None);
    }

    /// Writes the beginning of a transaction that never ends. Of its rows nothing is there: with
    /// those the target would have what the source has not, and only an operator could say more.
    fn break_off(&mut self, schema: &str, txn: &super::txn::Transaction, dice: &mut Dice) {
        let before = (self.txns, self.gno, self.executed.clone());
        self.begin(false);
        let mut bodies = super::write::bodies(schema, txn, self.txns, &self.plan);
        // Its end.
        bodies.pop();
        for body in bodies {
            if txn.payload.is_some() || events::is_rows(body.0) || dice.permille(300) {
                break;
            }
            self.write(&body, Group::Inside);
        }
        (self.txns, self.gno, self.executed) = before;
        self.mark_broken();
    }

    /// Writes everything anew as a replica that becomes the source has it.
    fn copy(&mut self, dice: &mut Dice) {
        let old = std::mem::take(&mut self.files);
        if self.plan.relays {
            self.past.push(old.clone());
        }
        self.server += 1;
        if self.plan.flavor() == Flavor::Mysql {
            self.sid[1] = self.server as u8;
            self.gno = 0;
        }
        self.first = dice.within(1..2_000_000);
        self.offset = 0;
        self.purge(None);
        let executed = std::mem::replace(
            &mut self.executed,
            dm_core::binlog::GtidSet::empty(self.plan.flavor()),
        );
        self.open();
        let mut is_whole = false;
        for logged in old.into_iter().flat_map(|file| file.events) {
            match &logged.group {
                Group::None => continue,
                Group::Broken => {
                    is_whole = false;
                    continue;
                }
                Group::First(gtid) => {
                    if dice.within(0..self.plan.file_txns) == 0 {
                        self.rotate();
                    }
                    is_whole = true;
                    if let Some(gtid) = gtid {
                        self.executed.add(gtid);
                    }
                }
                Group::Inside if !is_whole => continue,
                Group::Inside => {}
            }
            let raw = &logged.event;
            self.clock = u32::from_le_bytes([raw[0], raw[1], raw[2], raw[3]]);
            let body = (raw[4], raw[HEADER_LEN..raw.len() - 4].to_vec());
            self.write(&body, logged.group);
        }
        self.executed = executed;
    }
}
