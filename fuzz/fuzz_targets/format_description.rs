//! See `dm_fuzz::format_description`.
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| dm_fuzz::format_description(data));
