//! See `dm_fuzz::values`.
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| dm_fuzz::values(data));
