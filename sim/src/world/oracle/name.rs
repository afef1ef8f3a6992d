//! Of two processes with one name the newer one has it: they do not take it from each other for
//! ever.

use std::{
    collections::BTreeSet,
    sync::{Mutex, PoisonError},
};

use crate::world::trace::Trace;

pub(in crate::world) const NAME: &str = "name";

/// All announcements that were ever made; each process has one of its own, and later ones are
/// greater.
#[derive(Debug, Default)]
pub(in crate::world) struct Announced(Mutex<BTreeSet<Vec<u8>>>);

impl Announced {
    /// An announcement takes the place of another one, which is alive.
    pub(in crate::world) fn replaces(&self, trace: &Trace, old: Option<&[u8]>, new: &[u8]) {
        let mut announced = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let is_first = announced.insert(new.to_vec());
        let old = old.unwrap_or_default();
        let text = String::from_utf8_lossy;
        trace.expect(
            NAME,
            is_first || old <= new,
            format_args!("{} takes the name from {}", text(new), text(old)),
        );
    }
}
