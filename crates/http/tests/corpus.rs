//! Replays the corpora of the fuzz targets.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

#[allow(unreachable_pub, reason = "it is a crate of its own for the fuzzer")]
#[path = "../../../fuzz/src/lib.rs"]
mod drive;

fn fuzz() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../../fuzz")
}

fn files(path: PathBuf) -> Vec<PathBuf> {
    let entries = std::fs::read_dir(&path).unwrap_or_else(|e| panic!("{}: {e}", path.display()));
    let entries = entries.map(|entry| entry.expect("an entry").path());
    entries.collect()
}

fn replay(target: &str, run: impl Fn(&[u8])) {
    let inputs = files(fuzz().join("corpus").join(target));
    assert!(!inputs.is_empty(), "no input for {target}");
    for path in inputs {
        // What fails is named by the last line.
        eprintln!("{}", path.display());
        run(&std::fs::read(path).expect("readable"));
    }
}

#[test]
fn h1_server() {
    replay("h1_server", drive::h1_server);
}

#[test]
fn h1_client() {
    replay("h1_client", drive::h1_client);
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

#[test]
fn every_target_is_replayed() {
    let names = |folder: &str| -> BTreeSet<String> {
        let stem = |path: PathBuf| path.file_stem().map(|stem| stem.display().to_string());
        let paths = files(fuzz().join(folder)).into_iter();
        paths.filter_map(stem).collect()
    };
    let replayed = [
        "h1_client",
        "h1_server",
        "h2_client",
        "h2_server",
        "hpack_decode",
    ];
    assert_eq!(names("fuzz_targets"), replayed.map(str::to_owned).into());
    assert_eq!(names("corpus"), replayed.map(str::to_owned).into());
}
