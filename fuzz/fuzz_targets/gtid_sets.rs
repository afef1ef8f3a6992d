//! See `dm_fuzz::gtid_sets`.
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| dm_fuzz::gtid_sets(data));
