//! What a server sends, see `lateen_fuzz::h2_client`.
#![no_main]

libfuzzer_sys::fuzz_target!(|input: &[u8]| lateen_fuzz::h2_client(input));
