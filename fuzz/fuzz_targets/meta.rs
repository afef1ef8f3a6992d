//! See `dm_fuzz::meta`.
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| dm_fuzz::meta(data));
