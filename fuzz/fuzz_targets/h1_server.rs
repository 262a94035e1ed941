//! What a client sends, see `lateen_fuzz::h1_server`.
#![no_main]

libfuzzer_sys::fuzz_target!(|input: &[u8]| lateen_fuzz::h1_server(input));
