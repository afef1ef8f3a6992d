//! Counts the memory that a target takes.
//!
//! libFuzzer can limit single allocations only in the presence of a sanitizer, and not in relation
//! to the input.

use std::{
    alloc::{GlobalAlloc, Layout, System},
    cell::Cell,
};

#[global_allocator]
static COUNTING: Counting = Counting;

thread_local! {
    /// Bytes that this thread has taken and not given back.
    static LIVE: Cell<isize> = const { Cell::new(0) };
    /// The highest number of them so far.
    static PEAK: Cell<isize> = const { Cell::new(0) };
}

struct Counting;

// SAFETY: the system's allocator does it all; counting in cells of this thread allocates nothing.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        count(layout.size() as isize);
        // SAFETY: what holds for this call holds for that one.
        unsafe { System.alloc(layout) }
    }

    unsafe fn alloc_zeroed(&self, layout: Layout) -> *mut u8 {
        count(layout.size() as isize);
        // SAFETY: as above.
        unsafe { System.alloc_zeroed(layout) }
    }

    unsafe fn dealloc(&self, block: *mut u8, layout: Layout) {
        count(-(layout.size() as isize));
        // SAFETY: as above.
        unsafe { System.dealloc(block, layout) }
    }

    unsafe fn realloc(&self, block: *mut u8, layout: Layout, size: usize) -> *mut u8 {
        count(size as isize - layout.size() as isize);
        // SAFETY: as above.
        unsafe { System.realloc(block, layout, size) }
    }
}

fn count(bytes: isize) {
    let live = LIVE.get() + bytes;
    LIVE.set(live);
    PEAK.set(PEAK.get().max(live));
}

/// Does the work and panics if it took more than so many bytes at a time.
pub(crate) fn bounded(bytes: usize, work: impl FnOnce()) {
    let before = LIVE.get();
    PEAK.set(before);
    work();
    let taken = PEAK.get() - before;
    assert!(taken <= bytes as isize, "{taken} bytes were allocated");
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_given_back_counts_once() {
        bounded(1000, || {
            for _ in 0..10 {
                drop(std::hint::black_box(vec![1_u8; 900]));
            }
        });
    }

    #[test]
    #[should_panic(expected = "bytes were allocated")]
    fn too_much_is_noticed() {
        bounded(1000, || drop(std::hint::black_box(vec![1_u8; 1001])));
    }
}
