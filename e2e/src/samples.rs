//! Public sample files, where this machine has them.

use std::path::Path;

use lateen_testkit::conformance;

/// A routing sample of Bookinfo: the public file where it is present, our own
/// of the same name otherwise.
pub fn networking(name: &str) -> anyhow::Result<String> {
    let public = conformance("samples/bookinfo/networking");
    match public.filter(|folder| folder.join(name).exists()) {
        Some(folder) => read(&folder.join(name)),
        None => own_networking(name),
    }
}

/// A file of the repository's own sample.
pub fn own_networking(name: &str) -> anyhow::Result<String> {
    let own = Path::new(env!("CARGO_MANIFEST_DIR")).join("../samples/bookinfo/networking");
    read(&own.join(name))
}

fn read(path: &Path) -> anyhow::Result<String> {
    std::fs::read_to_string(path)
        .map_err(|error| anyhow::anyhow!("cannot read {}: {error}", path.display()))
}

/// A file of the public samples, by its path below `samples`; `None`, with a word about it, where this
/// machine does not have them.
pub fn sample(path: &str) -> anyhow::Result<Option<String>> {
    let Some(path) = conformance(&format!("samples/{path}")) else {
        return Ok(None);
    };
    match std::fs::read_to_string(&path) {
        Ok(text) => Ok(Some(text)),
        Err(error) => anyhow::bail!("cannot read {}: {error}", path.display()),
    }
}
