//! See `dm_fuzz::frame`.
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| dm_fuzz::frame(data));
