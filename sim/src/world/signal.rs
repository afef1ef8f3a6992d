//! A value that others wait for changes of, in an order that repeats.
//!
//! Tokio's own `watch` wakes its receivers in an order that it draws by a number which counts on
//! from run to run within a process, so it is not decided by the seed.

use std::{
    pin::pin,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use tokio::sync::Notify;

/// A value, shared.
#[derive(Clone, Debug, Default)]
pub(super) struct Signal<T>(Arc<Inner<T>>);

#[derive(Debug, Default)]
struct Inner<T> {
    /// Number of the last change, and the value.
    state: Mutex<(u64, T)>,
    changed: Notify,
}

/// Somebody who waits for changes.
#[derive(Clone, Debug)]
pub(super) struct Listener<T> {
    signal: Signal<T>,
    seen: u64,
}

impl<T: Copy + PartialEq> Signal<T> {
    /// With its first value.
    pub(super) fn new(value: T) -> Self {
        Self(Arc::new(Inner {
            state: Mutex::new((0, value)),
            changed: Notify::new(),
        }))
    }

    /// Gives it a value, which is a change only if it is another one.
    pub(super) fn set(&self, value: T) {
        self.change(|now| *now = value);
    }

    /// Changes its value, which is a change only if it becomes another one.
    pub(super) fn change(&self, change: impl FnOnce(&mut T)) {
        {
            let mut state = self.state();
            let before = state.1;
            change(&mut state.1);
            if state.1 == before {
                return;
            }
            state.0 += 1;
        }
        self.0.changed.notify_waiters();
    }

    /// Somebody who has seen everything up to now.
    pub(super) fn listen(&self) -> Listener<T> {
        Listener {
            seen: self.state().0,
            signal: self.clone(),
        }
    }

    fn state(&self) -> MutexGuard<'_, (u64, T)> {
        self.0.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl<T: Copy + PartialEq> Listener<T> {
    /// The value, which is not seen by that.
    pub(super) fn value(&self) -> T {
        self.signal.state().1
    }

    /// The value, whose changes up to now are seen.
    pub(super) fn see(&mut self) -> T {
        let state = self.signal.state();
        self.seen = state.0;
        state.1
    }

    /// Whether there is a change that was not seen.
    pub(super) fn has_news(&self) -> bool {
        self.signal.state().0 != self.seen
    }

    /// Waits for a change that was not seen, and sees it. Cancel-safe.
    pub(super) async fn changed(&mut self) -> T {
        loop {
            let mut changed = pin!(self.signal.0.changed.notified());
            changed.as_mut().enable();
            if self.has_news() {
                break;
            }
            changed.await;
        }
        self.see()
    }

    /// Waits until the value is one that is wanted.
    pub(super) async fn until(&mut self, wanted: impl Fn(T) -> bool) {
        while !wanted(self.see()) {
            self.changed().await;
        }
    }
}
