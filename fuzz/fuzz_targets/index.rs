//! See `dm_fuzz::index`.
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| dm_fuzz::index(data));
