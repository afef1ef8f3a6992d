//! The record of a run while it is made.

use std::{
    borrow::Cow,
    fmt,
    sync::{Arc, Mutex, MutexGuard, PoisonError, TryLockError},
    time::Duration,
};

use tokio::time::Instant;

use crate::record::{Event, Record, Violation};

/// Some hundred times what happens in a world. One that spins must not fill the machine's memory
/// before it is given up.
const EVENTS_MAX: usize = 1_000_000;

/// The record of one run, shared by everything in it.
#[derive(Clone, Debug)]
pub(super) struct Trace(Arc<Mutex<Inner>>);

#[derive(Debug)]
struct Inner {
    start: Instant,
    record: Record,
}

impl Trace {
    /// An empty record that begins now.
    pub(super) fn begin() -> Self {
        let record = Record {
            hash: FNV_OFFSET,
            ..Record::default()
        };
        Self(Arc::new(Mutex::new(Inner {
            start: Instant::now(),
            record,
        })))
    }

    /// The time since the start.
    pub(super) fn now(&self) -> Duration {
        self.inner().start.elapsed()
    }

    /// Notes that something happened.
    pub(super) fn note(&self, actor: &str, what: impl fmt::Display) {
        let mut inner = self.inner();
        let at = inner.start.elapsed();
        let event = Event {
            at,
            actor: actor.to_owned(),
            what: what.to_string(),
        };
        let Record { hash, events, .. } = &mut inner.record;
        for bytes in [
            &at.as_nanos().to_le_bytes()[..],
            event.actor.as_bytes(),
            &[0],
            event.what.as_bytes(),
            &[0],
        ] {
            for byte in bytes {
                *hash = (*hash ^ u64::from(*byte)).wrapping_mul(FNV_PRIME);
            }
        }
        events.push(event);
        // Once: what ends with the panic may have something to note as well.
        assert!(
            events.len() != EVENTS_MAX,
            "{EVENTS_MAX} events, and no end"
        );
    }

    /// Counts an oracle that looked at something, or something that was done to the world.
    pub(super) fn count(&self, what: &'static str) {
        let mut inner = self.inner();
        *inner.record.counts.entry(Cow::Borrowed(what)).or_default() += 1;
    }

    /// Counts a look of an oracle at something that must hold.
    pub(super) fn expect(&self, oracle: &'static str, holds: bool, what: impl fmt::Display) {
        self.count(oracle);
        if !holds {
            self.violate(oracle, what);
        }
    }

    /// Notes that something happened which must not.
    pub(super) fn violate(&self, oracle: &'static str, what: impl fmt::Display) {
        self.note("ORACLE", format_args!("{oracle}: {what}"));
        let mut inner = self.inner();
        let at = inner.start.elapsed();
        inner.record.violations.push(Violation {
            at,
            oracle: Cow::Borrowed(oracle),
            what: what.to_string(),
        });
    }

    /// Whether something happened that must not.
    pub(super) fn is_violated(&self) -> bool {
        !self.inner().record.violations.is_empty()
    }

    /// The record as of now.
    pub(super) fn record(&self) -> Record {
        self.inner().record.clone()
    }

    /// The record as of now, unless somebody holds on to it: whoever spins may do so for ever.
    pub(super) fn kept(&self) -> Option<Record> {
        match self.0.try_lock() {
            Ok(inner) => Some(inner.record.clone()),
            Err(TryLockError::Poisoned(inner)) => Some(inner.into_inner().record.clone()),
            Err(TryLockError::WouldBlock) => None,
        }
    }

    fn inner(&self) -> MutexGuard<'_, Inner> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

const FNV_OFFSET: u64 = 0xcbf2_9ce4_8422_2325;
const FNV_PRIME: u64 = 0x0100_0000_01b3;
