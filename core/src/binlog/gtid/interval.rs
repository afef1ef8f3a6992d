use alloc::vec::Vec;
use core::fmt;

/// Ordered, disjoint, non-adjacent inclusive intervals of transaction numbers.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Intervals(Vec<(u64, u64)>);

impl Intervals {
    /// The intervals, in ascending order, both ends included.
    #[must_use]
    pub fn as_slice(&self) -> &[(u64, u64)] {
        &self.0
    }

    /// Whether no number is in there.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Whether all of `first..=last` is in there.
    #[must_use]
    pub fn contains(&self, first: u64, last: u64) -> bool {
        let at = self.0.partition_point(|interval| interval.1 < last);
        self.0.get(at).is_some_and(|interval| interval.0 <= first)
    }

    /// Adds `first..=last`; nothing when `first` is behind `last`.
    pub fn add(&mut self, first: u64, last: u64) {
        if first > last {
            return;
        }
        // A stream appends: nearly always this extends or follows the last interval.
        match self.0.last_mut() {
            Some(end) if first > end.1.saturating_add(1) => return self.0.push((first, last)),
            Some(end) if first >= end.0 => {
                end.1 = end.1.max(last);
                return;
            }
            Some(_) => {}
            None => return self.0.push((first, last)),
        }
        let from = self.0.partition_point(|i| i.1.saturating_add(1) < first);
        let upto = self.0.partition_point(|i| i.0 <= last.saturating_add(1));
        let merged = self.0[from..upto]
            .iter()
            .fold((first, last), |m, i| (m.0.min(i.0), m.1.max(i.1)));
        self.0.splice(from..upto, [merged]);
    }

    /// Takes `first..=last` away.
    pub fn remove(&mut self, first: u64, last: u64) {
        if first > last {
            return;
        }
        let from = self.0.partition_point(|i| i.1 < first);
        let upto = self.0.partition_point(|i| i.0 <= last);
        let (Some(&low), Some(&high)) = (self.0.get(from), self.0[..upto].last()) else {
            return;
        };
        if from >= upto {
            return;
        }
        let left = (low.0 < first).then(|| (low.0, first - 1));
        let right = (high.1 > last).then(|| (last + 1, high.1));
        self.0.splice(from..upto, left.into_iter().chain(right));
    }
}

impl fmt::Display for Intervals {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (index, (first, last)) in self.0.iter().enumerate() {
            let colon = if index == 0 { "" } else { ":" };
            if first == last {
                write!(f, "{colon}{first}")?;
            } else {
                write!(f, "{colon}{first}-{last}")?;
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use proptest::prelude::*;

    use super::*;

    fn model(intervals: &Intervals) -> BTreeSet<u64> {
        intervals.0.iter().flat_map(|i| i.0..=i.1).collect()
    }

    proptest! {
        #[test]
        fn behaves_as_a_set_of_numbers(
            steps in prop::collection::vec((any::<bool>(), 1u64..40, 0u64..6), 0..40),
        ) {
            let mut intervals = Intervals::default();
            let mut numbers = BTreeSet::new();
            for (add, first, more) in steps {
                let last = first + more;
                if add {
                    intervals.add(first, last);
                    numbers.extend(first..=last);
                } else {
                    intervals.remove(first, last);
                    numbers.retain(|n| !(first..=last).contains(n));
                }
                prop_assert_eq!(model(&intervals), numbers.clone());
                prop_assert!(intervals.0.windows(2).all(|w| w[0].1 + 1 < w[1].0));
                let all = (first..=last).all(|n| numbers.contains(&n));
                prop_assert_eq!(intervals.contains(first, last), all);
            }
        }
    }

    #[test]
    fn the_ends_of_the_number_range() {
        let mut intervals = Intervals::default();
        intervals.add(u64::MAX, u64::MAX);
        intervals.add(1, u64::MAX - 1);
        assert_eq!(intervals.0, [(1, u64::MAX)]);
        intervals.remove(1, u64::MAX);
        assert!(intervals.is_empty());
    }
}
