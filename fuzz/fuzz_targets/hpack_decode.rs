//! Header blocks, see `lateen_fuzz::hpack_decode`.
#![no_main]

libfuzzer_sys::fuzz_target!(|input: &[u8]| lateen_fuzz::hpack_decode(input));
