//! What a server answers, see `lateen_fuzz::h1_client`.
#![no_main]

libfuzzer_sys::fuzz_target!(|input: &[u8]| lateen_fuzz::h1_client(input));
