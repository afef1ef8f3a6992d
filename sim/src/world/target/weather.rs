//! What goes wrong at the target.

use crate::{dice::Dice, world::tables::Refusal};

/// What goes wrong between clients and the server, in how many of a thousand cases.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub(in crate::world) struct Weather {
    /// A transaction commits, and its answer is lost.
    pub(in crate::world) lost_answers: u64,
    /// A transaction arrives long after its client gave it up.
    pub(in crate::world) late: u64,
    /// A transaction or a statement is rolled back: a deadlock.
    pub(in crate::world) deadlocks: u64,
    /// Whether sessions cannot be ended, since they are not to be seen.
    pub(in crate::world) unseen: bool,
    /// Whether nobody can connect.
    pub(in crate::world) down: bool,
    /// Whether the server is read-only.
    pub(in crate::world) read_only: bool,
    /// A write finds the disk full.
    pub(in crate::world) full: u64,
    /// A transaction takes long, and holds its lock.
    pub(in crate::world) long: u64,
    /// A lock is waited for in vain.
    pub(in crate::world) lock_waits: u64,
    /// A connection breaks before what it sends has arrived.
    pub(in crate::world) resets: u64,
    /// There are too many connections for one more.
    pub(in crate::world) crowded: u64,
}

impl Weather {
    /// Why the server refuses a write, if it does, and whether the same may succeed when it is just
    /// tried again.
    pub(super) fn refusal(&self, dice: &mut Dice) -> Option<(Refusal, &'static str, bool)> {
        let refusal = |number, text: &str| Refusal {
            number,
            text: text.to_owned(),
        };
        if dice.permille(self.deadlocks) {
            let text = "Deadlock found when trying to get lock; try restarting transaction";
            return Some((refusal(1213, text), "fault: deadlock", true));
        }
        if dice.permille(self.lock_waits) {
            let text = "Lock wait timeout exceeded; try restarting transaction";
            return Some((refusal(1205, text), "fault: lock wait", true));
        }
        if self.read_only {
            let text = "The MySQL server is running with the --super-read-only option so it \
                        cannot execute this statement";
            return Some((refusal(1290, text), "fault: refused, read-only", false));
        }
        let full = dice.permille(self.full);
        full.then(|| {
            let refusal = refusal(1114, "The table is full");
            (refusal, "fault: refused, disk full", false)
        })
    }
}
