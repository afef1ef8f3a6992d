//! Many worlds, several at a time, with a bar that shows how far they are.

use std::{
    ops::Range,
    sync::{
        Mutex, PoisonError,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
    thread,
    time::{Duration, Instant},
};

use indicatif::{ProgressBar, ProgressStyle};

/// What is played, and for how long.
#[derive(Clone, Debug)]
pub(super) struct Many {
    pub(super) seeds: Range<u64>,
    pub(super) jobs: u32,
    /// No world begins later than that after the start.
    pub(super) limit: Option<Duration>,
}

impl Many {
    /// Calls `play` with each seed, and `take` with what comes of it, one at a time, until that
    /// says that it is enough.
    pub(super) fn each<T>(
        &self,
        bar: &ProgressBar,
        play: impl Fn(u64) -> T + Sync,
        take: impl FnMut(u64, T) -> bool + Send,
    ) {
        let next = AtomicU64::new(self.seeds.start);
        let enough = AtomicBool::new(false);
        let take = Mutex::new(take);
        let start = Instant::now();
        let is_over = || self.limit.is_some_and(|limit| start.elapsed() > limit);
        thread::scope(|scope| {
            for _ in 0..self.jobs {
                scope.spawn(|| {
                    while !enough.load(Ordering::Relaxed) && !is_over() {
                        let seed = next.fetch_add(1, Ordering::Relaxed);
                        if seed >= self.seeds.end {
                            return;
                        }
                        let played = play(seed);
                        let mut take = take.lock().unwrap_or_else(PoisonError::into_inner);
                        if !take(seed, played) {
                            enough.store(true, Ordering::Relaxed);
                        }
                        bar.inc(1);
                    }
                });
            }
        });
    }
}

/// A bar on a terminal; nothing elsewhere.
pub(super) fn bar(worlds: u64) -> ProgressBar {
    let text = "{bar:30} {pos}/{len} worlds, {per_sec}, {eta} left {msg}";
    // The template is a constant that the crate understands.
    let style = ProgressStyle::with_template(text).unwrap_or_else(|_| ProgressStyle::default_bar());
    ProgressBar::new(worlds).with_style(style)
}
