//! What goes wrong with a device, and how long it takes.

use std::{ops::Range, time::Duration};

use super::Errno;
use crate::dice::Dice;

/// What is wrong with a disk. By default nothing is.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Faults {
    /// How many bytes of whole blocks fit; it bounds the memory of the model as well.
    pub capacity: u64,
    /// Nothing can be written, as after ext4 has met an error.
    pub read_only: bool,
    /// In so many of a thousand cases a read or write takes only a part.
    pub short: u64,
    /// Reads that fail, of files and of directories.
    pub read: Failing,
    /// Writes that fail, of files and of names.
    pub write: Failing,
    /// Syncs that fail, of files and of directories.
    pub sync: Failing,
    /// In so many of a thousand cases a sync takes very long.
    pub slow: u64,
}

impl Default for Faults {
    fn default() -> Self {
        Self {
            capacity: 64 << 20,
            read_only: false,
            short: 0,
            read: Failing::default(),
            write: Failing::default(),
            sync: Failing::default(),
            slow: 0,
        }
    }
}

/// Which operations of a kind fail with EIO.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub struct Failing {
    /// In so many of a thousand cases.
    pub permille: u64,
    /// The one that comes as this, counted from 1 when the faults are set.
    pub nth: Option<u64>,
}

/// What an operation brought, and how long it took: the model has no clock, its caller waits.
#[must_use]
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Timed<T> {
    /// How long the caller has to wait for it, failed or not.
    pub cost: Duration,
    /// What it brought.
    pub result: Result<T, Errno>,
}

/// What kind of operation something is.
#[derive(Clone, Copy, Debug)]
pub(super) enum Class {
    /// It is answered out of memory.
    Cached,
    Read,
    Write,
    SyncData,
    Sync,
}

/// Draws failures and costs, each from dice of its own, so that one does not change the other.
#[derive(Clone, Debug)]
pub(super) struct Device {
    faults: Faults,
    pub(super) dice: Dice,
    costs: Dice,
    reads: u64,
    writes: u64,
    syncs: u64,
}

impl Device {
    pub(super) fn new(dice: &Dice) -> Self {
        Self {
            faults: Faults::default(),
            dice: dice.fork("faults"),
            costs: dice.fork("costs"),
            reads: 0,
            writes: 0,
            syncs: 0,
        }
    }

    pub(super) fn set(&mut self, faults: Faults) {
        self.faults = faults;
        (self.reads, self.writes, self.syncs) = (0, 0, 0);
    }

    pub(super) const fn capacity(&self) -> u64 {
        self.faults.capacity
    }

    /// Whether an operation may happen.
    pub(super) fn admit(&mut self, class: Class) -> Result<(), Errno> {
        let writes = !matches!(class, Class::Cached | Class::Read);
        if writes && self.faults.read_only {
            return Err(Errno::ReadOnly);
        }
        let (failing, count) = match class {
            Class::Cached => return Ok(()),
            Class::Read => (&self.faults.read, &mut self.reads),
            Class::Write => (&self.faults.write, &mut self.writes),
            Class::SyncData | Class::Sync => (&self.faults.sync, &mut self.syncs),
        };
        *count += 1;
        let drawn = failing.permille > 0 && self.dice.permille(failing.permille);
        if drawn || failing.nth == Some(*count) {
            return Err(Errno::Io);
        }
        Ok(())
    }

    /// How much of so many bytes one call takes: at least one, if there is any.
    pub(super) fn part(&mut self, of: usize) -> usize {
        if of > 1 && self.faults.short > 0 && self.dice.permille(self.faults.short) {
            return self.dice.within(1..of as u64) as usize;
        }
        of
    }

    pub(super) fn cost(&mut self, class: Class) -> Duration {
        let slow = self.costs.permille(self.faults.slow);
        let micros = match class {
            Class::Cached | Class::Read | Class::Write => CACHED,
            Class::SyncData | Class::Sync if slow => SLOW,
            Class::SyncData => SYNC_DATA,
            Class::Sync => SYNC,
        };
        Duration::from_micros(self.costs.within(micros))
    }
}

/// A copy to or from the page cache, in microseconds.
const CACHED: Range<u64> = 1..50;
/// One flush of the device's cache.
const SYNC_DATA: Range<u64> = 200..5_000;
/// A flush and a commit of the journal.
const SYNC: Range<u64> = 500..15_000;
/// A journal that waits for everybody's data, or a device that collects its garbage.
const SLOW: Range<u64> = 100_000..3_000_000;
