//! What a machine promises, checked by its world at every start of a unit and after every step.

use super::{
    operator::{stage, subtask},
    world::World,
};
use crate::{
    lifecycle::{Entry, Fence, Ticket, View, unit::units},
    status::UnitKind,
};

impl World {
    /// A unit of a subtask starts only if the newest snapshot wants it to, from where it is, and
    /// under a fence above whatever had the source before.
    pub(super) fn check_start(&self, source: &str, task: &str, unit: UnitKind, fence: Fence) {
        let revision = self.worker.view().revision;
        // What is unclear leaves everything as it is, which may be running.
        let expected = self.expected(source, task, revision);
        assert!(
            !matches!(expected, None | Some(3 | 4)),
            "{task} is not to run: {expected:?}"
        );
        let bound = self
            .store
            .get_at(&self.bound_key(), revision)
            .expect("checked");
        self.check_fence(source, bound, fence);
        let key = subtask(source, task);
        let entry = self.store.get_at(&key, revision).expect("wanted");
        let newest = self.store.get(&key).map(|entry| entry.create_revision);
        if newest != Some(entry.create_revision) {
            // Another task by now, whose progress says nothing about this one.
            return;
        }
        let mode = core::str::from_utf8(&entry.value).expect("text");
        let mode = mode
            .lines()
            .find_map(|line| line.strip_prefix("mode = "))
            .expect("mode");
        let units = units(mode.trim_matches('"'));
        let done = self
            .progress
            .get(&(source.into(), task.into()))
            .copied()
            .unwrap_or(0);
        assert_eq!(
            unit,
            units[done.min(units.len() - 1)],
            "{task} starts with the wrong unit"
        );
    }

    /// A fence is not older than the ownership, and above those of all other owners before.
    fn check_fence(&self, source: &str, bound: &Entry, fence: Fence) {
        assert!(fence.0 >= bound.create_revision);
        // Unless it was put over twice between two looks, which looks like the same value again.
        let elsewhere = self.elsewhere.get(source).copied().unwrap_or(0);
        let rival = self.rivals.get(source);
        let known = rival.filter(|it| it.0 < bound.create_revision || it.0 <= elsewhere);
        if let Some(rival) = known {
            assert!(fence > *rival, "{fence:?} would lose against {rival:?}");
        }
    }

    /// A lease is given up only when nothing works under it any more.
    pub(super) fn check_revoke(&self) {
        let view = self.worker.view();
        let allowed = |ticket: &Ticket| view.online && ticket.era == view.era;
        assert!(
            self.units.keys().all(allowed),
            "given up while {:?} work",
            self.units
        );
    }

    /// What the store asks of a subtask, as of a revision: the expected stage, if it is ours.
    pub(super) fn expected(&self, source: &str, task: &str, revision: i64) -> Option<i64> {
        let ours = self.store.get_at(&self.bound_key(), revision)?;
        if ours.value != self.bound_value(source) {
            return None;
        }
        self.store.get_at(&subtask(source, task), revision)?;
        let stage = self.store.get_at(&stage(source, task), revision)?;
        let value = core::str::from_utf8(&stage.value).ok()?;
        let number = value.strip_prefix("{\"expect\":")?.split(',').next()?;
        number.parse().ok()
    }

    /// Remembers up to which revision the machine can know that a source was another's: that of
    /// the last snapshot without it, or of the first one of the tenure.
    pub(super) fn look_elsewhere(&mut self, view: &View) {
        let bound = self.store.get_at(&self.bound_key(), view.revision);
        for source in self.rivals.keys() {
            let ours = bound.is_some_and(|it| it.value == self.bound_value(source));
            if !ours || self.seen == 0 {
                self.elsewhere.insert(source.clone(), view.revision);
            }
        }
        self.seen = view.revision;
    }

    /// Whether the worker's lease is alive in the store.
    pub(super) fn is_covered(&self) -> bool {
        self.worker
            .view()
            .lease
            .is_some_and(|(lease, _)| self.store.is_alive(lease))
    }

    /// What has to hold after every step.
    pub(super) fn check(&self, view: &View) {
        let mut units = self
            .units
            .iter()
            .filter(|(_, unit)| !unit.cancelled)
            .peekable();
        if units.peek().is_none() {
            return;
        }
        assert!(
            self.is_covered(),
            "units run without a lease: {:?}",
            self.units
        );
        for (ticket, unit) in units {
            if unit.task.is_empty() || unit.stop.is_some() {
                continue;
            }
            let expected = self.expected(&unit.source, &unit.task, view.revision);
            let ends = matches!(expected, None | Some(3 | 4));
            assert!(
                !ends,
                "{ticket} {unit:?} was not told to stop, {expected:?}"
            );
            let bound = self.store.get_at(&self.bound_key(), view.revision);
            if let (Some(bound), Some(fence)) = (bound, unit.fence) {
                self.check_fence(&unit.source, bound, fence);
            }
        }
    }
}
