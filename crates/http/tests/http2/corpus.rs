//! Replays the corpora of the fuzz targets.

#[allow(unreachable_pub, reason = "it is a crate of its own for the fuzzer")]
#[path = "../../../../fuzz/src/lib.rs"]
mod drive;

fn replay(target: &str, run: impl Fn(&[u8])) {
    let path = format!("{}/../../fuzz/corpus/{target}", env!("CARGO_MANIFEST_DIR"));
    let mut n_inputs = 0;
    for entry in std::fs::read_dir(path).expect("a corpus") {
        let input = std::fs::read(entry.expect("an entry").path()).expect("readable");
        run(&input);
        n_inputs += 1;
    }
    assert!(n_inputs > 0, "no input for {target}");
}

#[test]
fn hpack_decode() {
    replay("hpack_decode", drive::hpack_decode);
}

#[test]
fn h2_server() {
    replay("h2_server", drive::h2_server);
}

#[test]
fn h2_client() {
    replay("h2_client", drive::h2_client);
}
