//! What a running sync unit lets others see: status, metrics and the progress line read this.

use std::{
    collections::VecDeque,
    sync::{
        Mutex, PoisonError,
        atomic::{AtomicBool, AtomicU64, Ordering::Relaxed},
    },
    time::Duration,
};

use dm_core::{
    binlog::Position,
    sync::{batch::Batch, progress::Location},
};
use tokio::time::Instant;

use crate::{metrics::SyncMetrics, ports::SourceEnd};

/// Samples that the recent rate is taken over.
const SAMPLES_MAX: usize = 5;
/// Entries kept to tell the lag of what is not applied yet; a coarser answer beyond that.
const TIMELINE_MAX: usize = 4096;

/// Counters and positions of one subtask; they outlive a pause.
#[derive(Debug)]
pub struct SyncFacts {
    /// Row changes committed in the target.
    pub rows: AtomicU64,
    /// Bytes that went over connections to the target.
    pub target_bytes: AtomicU64,
    /// What Prometheus is told.
    pub metrics: SyncMetrics,
    /// Whether it reads the source's relay log.
    reads_relay: AtomicBool,
    places: Mutex<Places>,
}

#[derive(Debug, Default)]
struct Places {
    read: Option<Location>,
    applied: Option<Location>,
    flushed: Option<Location>,
    /// From where on the binlog is needed, once this run knows. A checkpoint may be behind what is
    /// applied: the existing worker would go on from there.
    needs: Option<Location>,
    /// End position and commit time of transactions that were read, oldest first.
    timeline: VecDeque<(Position, u32)>,
    /// When the unit started, and the rows by then.
    started: Option<(Instant, u64)>,
    /// The rows by the last samples, oldest first.
    samples: VecDeque<(Instant, u64)>,
    /// When the source's end was seen last, and how many bytes of its binlog were applied then.
    measured: Option<(Instant, u64)>,
}

/// Rows per second, whole.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Rates {
    /// Since the unit started.
    pub total: i64,
    /// Over the last samples.
    pub recent: i64,
}

impl SyncFacts {
    /// Nothing has happened yet.
    #[must_use]
    pub fn new(metrics: SyncMetrics) -> Self {
        Self {
            rows: AtomicU64::default(),
            target_bytes: AtomicU64::default(),
            metrics,
            reads_relay: AtomicBool::default(),
            places: Mutex::default(),
        }
    }

    /// Whether it reads the source's relay log, and not the source.
    #[must_use]
    pub fn reads_relay(&self) -> bool {
        self.reads_relay.load(Relaxed)
    }

    pub(crate) fn note_origin(&self, is_relay: bool) {
        // Reading begins anew, where everything before is applied.
        self.places().read = None;
        self.reads_relay.store(is_relay, Relaxed);
    }

    /// Everything up to here is applied in the target.
    #[must_use]
    pub fn applied(&self) -> Option<Location> {
        self.places().applied.clone()
    }

    /// Everything up to here was read from the source.
    #[must_use]
    pub fn read(&self) -> Option<Location> {
        self.places().read.clone()
    }

    /// The checkpoint that was last written.
    #[must_use]
    pub fn flushed(&self) -> Option<Location> {
        self.places().flushed.clone()
    }

    /// From where on it needs the binlog, once it knows.
    pub(in crate::units) fn needs(&self) -> Option<Location> {
        self.places().needs.clone()
    }

    /// Nothing before here is needed.
    pub(in crate::units) fn note_needs(&self, from: &Location) {
        self.places().needs = Some(from.clone());
    }

    /// How long ago the oldest transaction that is not applied yet was committed at the source,
    /// in seconds; zero when everything that was read is applied.
    #[must_use]
    pub fn lag(&self, now_unix: Duration) -> u64 {
        let places = self.places();
        places.timeline.front().map_or(0, |(_, at)| {
            now_unix.as_secs().saturating_sub(u64::from(*at))
        })
    }

    /// Takes a sample of the rate, and tells Prometheus how far behind the target is. To be called
    /// at a steady pace, and by nobody else.
    pub fn sample(&self, now_unix: Duration) {
        self.note_sample(Instant::now());
        let lag = self.lag(now_unix) as f64;
        self.metrics.lag.set(lag);
        self.metrics.lag_histogram.observe(lag);
    }

    /// Tells Prometheus where the source ends, and how long catching up will take at the pace
    /// since it was seen last.
    pub fn measure(&self, end: &SourceEnd) {
        self.metrics.source_end(&end.position);
        let mut places = self.places();
        let applied = places.applied.as_ref().or(places.flushed.as_ref());
        let offset = applied.and_then(|at| end.offset(&at.position.plain()));
        let (Some(offset), Some(total)) = (offset, end.offset(&end.position)) else {
            return;
        };
        let now = Instant::now();
        let left = total.saturating_sub(offset) as f64;
        if let Some((since, before)) = places.measured {
            let seconds = now.duration_since(since).as_secs_f64();
            let pace = offset.saturating_sub(before) as f64 / seconds;
            if left == 0.0 || pace > 0.0 {
                let remaining_time = &self.metrics.remaining_time;
                remaining_time.set(if left == 0.0 { 0.0 } else { left / pace });
            }
        }
        places.measured = Some((now, offset));
    }

    /// The unit starts to work.
    pub(in crate::units) fn note_start(&self, now: Instant) {
        let mut places = self.places();
        places.started = Some((now, self.rows.load(Relaxed)));
        // It is read again from where everything is applied, perhaps by other names.
        places.timeline.clear();
        (places.read, places.needs) = (None, None);
        self.reads_relay.store(false, Relaxed);
    }

    fn note_sample(&self, now: Instant) {
        let sample = (now, self.rows.load(Relaxed));
        let samples = &mut self.places().samples;
        if samples.len() == SAMPLES_MAX {
            samples.pop_front();
        }
        samples.push_back(sample);
    }

    /// Sets where reading is, and up to where everything is applied.
    pub(super) fn note(&self, read: &Location, applied: &Location) {
        let mut places = self.places();
        while places
            .timeline
            .front()
            .is_some_and(|(end, _)| *end <= applied.position)
        {
            places.timeline.pop_front();
        }
        places.read = Some(read.clone());
        places.applied = Some(applied.clone());
    }

    /// A transaction that ends here was committed at the source at this time.
    pub(super) fn note_commit(&self, end: &Position, timestamp: u32) {
        let timeline = &mut self.places().timeline;
        let has_room = timeline.len() < TIMELINE_MAX;
        match timeline.back_mut() {
            // One entry a second is enough: it is done when its last transaction is.
            Some((position, at)) if *at == timestamp || !has_room => position.clone_from(end),
            _ => timeline.push_back((end.clone(), timestamp)),
        }
    }

    /// Everything up to here is recorded as applied; until the next checkpoint nothing before
    /// `needed` is needed.
    pub(crate) fn note_flushed(&self, upto: &Location, needed: &Location) {
        self.metrics.flushed(&upto.position);
        let mut places = self.places();
        places.flushed = Some(upto.clone());
        places.needs = Some(needed.clone());
    }

    /// A batch was committed, which took so long.
    pub(super) fn count_batch(&self, batch: &Batch, took: Duration) {
        self.rows.fetch_add(batch.rows.into(), Relaxed);
        self.metrics.finished(batch, took);
    }

    /// Rows per second, since the unit started and of late. Asking changes nothing.
    #[must_use]
    pub fn rates(&self, now: Instant) -> Rates {
        let rows = self.rows.load(Relaxed);
        let since = |since: Option<&(Instant, u64)>| {
            since.map_or(0, |(start, before)| {
                let seconds = now.saturating_duration_since(*start).as_secs_f64().max(1.0);
                (rows.saturating_sub(*before) as f64 / seconds) as i64
            })
        };
        let places = self.places();
        Rates {
            total: since(places.started.as_ref()),
            recent: since(places.samples.front()),
        }
    }

    fn places(&self) -> std::sync::MutexGuard<'_, Places> {
        // Plain data: whoever panicked left nothing half-done that matters here.
        self.places.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;
    use crate::metrics::Metrics;

    #[test]
    fn rates_do_not_depend_on_who_asks() {
        let metrics = Arc::new(Metrics::default());
        let facts = SyncFacts::new(SyncMetrics::new(&metrics, "t", "s", "w"));
        facts.rows.store(1000, Relaxed);
        let mut now = Instant::now();
        facts.note_start(now);
        // A hundred rows a second for ten seconds, then nothing.
        for second in 0..20 {
            facts.note_sample(now);
            now += Duration::from_secs(1);
            if second < 10 {
                facts.rows.fetch_add(100, Relaxed);
            }
            if second == 9 {
                let rates = facts.rates(now);
                assert_eq!((rates.total, rates.recent), (100, 100));
                assert_eq!(facts.rates(now), rates);
            }
        }
        let rates = facts.rates(now);
        assert_eq!((rates.total, rates.recent), (50, 0));
    }
}
