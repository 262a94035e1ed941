//! Public sample files, where this machine has them.

use std::path::{Path, PathBuf};

/// The folder of public YAML: `LATEEN_CONFORMANCE`, or `../shared/conformance` beside the repository.
pub fn conformance() -> Option<PathBuf> {
    let named = std::env::var_os("LATEEN_CONFORMANCE").map(PathBuf::from);
    let beside = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../shared/conformance");
    named.or(Some(beside)).filter(|folder| folder.is_dir())
}

/// A routing sample of Bookinfo: the public file where it is present, our own
/// of the same name otherwise.
pub fn networking(name: &str) -> anyhow::Result<String> {
    let own = Path::new(env!("CARGO_MANIFEST_DIR")).join("../samples/bookinfo/networking");
    let folder = conformance().map(|folder| folder.join("samples/bookinfo/networking"));
    let path = folder
        .filter(|folder| folder.join(name).exists())
        .unwrap_or(own)
        .join(name);
    std::fs::read_to_string(&path)
        .map_err(|error| anyhow::anyhow!("cannot read {}: {error}", path.display()))
}

/// A file of the public samples, by its path below `samples`; `None`, with a word about it, where this
/// machine does not have them.
pub fn sample(path: &str) -> anyhow::Result<Option<String>> {
    let Some(folder) = conformance() else {
        eprintln!("{path} was not tried: the public samples are not on this machine");
        return Ok(None);
    };
    let path = folder.join("samples").join(path);
    match std::fs::read_to_string(&path) {
        Ok(text) => Ok(Some(text)),
        Err(error) => anyhow::bail!("cannot read {}: {error}", path.display()),
    }
}
