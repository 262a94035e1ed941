//! What is put on a node: the plugin's program, its way to the API server, and its place in the node's
//! network.
//!
//! It is looked at again and again, as others write the same files: whoever made the network may make it
//! anew, and the token of the kubeconfig is renewed.

use std::{
    fs::{self, OpenOptions, Permissions},
    io::{self, ErrorKind, Write},
    os::unix::fs::{OpenOptionsExt, PermissionsExt},
    path::{Path, PathBuf},
};

use anyhow::{Context, bail};
use serde_json::{Value, json};

use super::{
    conflist::{self, PLUGIN},
    kubeconfig::{self, Access},
};

/// Ends of files that runtimes read as networks.
const ENDS: [&str; 3] = ["conf", "conflist", "json"];
/// What a file is called that was a network before the plugin made a list of it.
const BEFORE: &str = "before-istio-cni";
/// The network that the plugin is by itself, where nothing else is said.
const OWN_FILE: &str = "istio-cni.conf";
/// The version that the plugin's own network says, which runtimes of all ages know.
const OWN_VERSION: &str = "0.3.1";

/// Where things are on the node, and what the plugin is told.
#[derive(Clone, Debug)]
pub(super) struct Node {
    /// The folder of programs, as this process sees it.
    pub(super) programs: PathBuf,
    /// The folder of networks, as this process sees it.
    pub(super) networks: PathBuf,
    /// The same as the runtime sees it.
    pub(super) networks_of_node: PathBuf,
    /// The file of the network; none is the one that the runtime takes.
    pub(super) file: Option<String>,
    /// Whether the plugin comes behind those of the file, rather than being a network by itself.
    pub(super) is_chained: bool,
    /// Namespaces whose pods are left alone.
    pub(super) excluded: Vec<String>,
}

impl Node {
    /// Puts everything in place that is not. Says whether anything changed. A program that is there may be
    /// another version's only where this is the `first` time.
    ///
    /// # Errors
    /// There is no network yet, or a file cannot be written.
    pub(super) fn install(
        &self,
        program: &Path,
        access: &Access,
        first: bool,
    ) -> anyhow::Result<bool> {
        let is_there = !first && self.programs.join(PLUGIN).exists();
        let copied = !is_there && self.copy(program)?;
        let kubeconfig = self.networks.join(kubeconfig::FILE);
        let told = write(&kubeconfig, access.file().as_bytes(), 0o600)?;
        // The last thing, as the runtime takes it up at once.
        let placed = match self.is_chained {
            true => self.chain()?,
            false => self.stand_alone()?,
        };
        Ok(copied || told || placed)
    }

    /// Takes everything away again, and leaves the network as it was. What cannot be undone does not keep
    /// the rest from being.
    pub(super) fn remove(&self) -> anyhow::Result<()> {
        // First of all, as a runtime does not start pods whose network names what is not there.
        let unchained = match self.is_chained {
            true => self.unchain(),
            false => gone(&self.own_file()),
        };
        let told = gone(&self.networks.join(kubeconfig::FILE));
        let copied = gone(&self.programs.join(PLUGIN));
        unchained.and(told).and(copied)
    }

    /// What stands in the network.
    fn plugin(&self) -> Value {
        json!({
            "type": PLUGIN,
            "kubernetes": {
                "kubeconfig": self.networks_of_node.join(kubeconfig::FILE),
                "exclude_namespaces": self.excluded,
            },
        })
    }

    /// The program, which may be running: it is replaced and not written into.
    fn copy(&self, program: &Path) -> anyhow::Result<bool> {
        let to = self.programs.join(PLUGIN);
        let bytes =
            fs::read(program).with_context(|| format!("cannot read {}", program.display()))?;
        write(&to, &bytes, 0o755)
    }

    fn own_file(&self) -> PathBuf {
        let named = self.file.as_deref().unwrap_or(OWN_FILE);
        self.networks.join(named)
    }

    fn stand_alone(&self) -> anyhow::Result<bool> {
        let mut network = json!({"cniVersion": OWN_VERSION, "name": PLUGIN});
        if let (Some(network), Value::Object(plugin)) = (network.as_object_mut(), self.plugin()) {
            network.extend(plugin);
        }
        write(&self.own_file(), format!("{network:#}\n").as_bytes(), 0o644)
    }

    fn chain(&self) -> anyhow::Result<bool> {
        let path = self.network()?;
        let text =
            fs::read_to_string(&path).with_context(|| format!("cannot read {}", path.display()))?;
        let list = conflist::insert(&text, &self.plugin())
            .with_context(|| format!("{} is no network", path.display()))?;
        let is_list = path.extension().is_some_and(|end| end == "conflist");
        if is_list {
            return write(&path, list.as_bytes(), mode(&path));
        }
        // Runtimes read lists under another name alone. The file comes back when the plugin goes.
        let listed = path.with_extension("conflist");
        let held = fs::read_to_string(&listed).ok();
        if held.is_some_and(|text| conflist::remove(&text).is_none()) {
            bail!(
                "{} stands for no network, or for another one than {}: remove one of the two, or name the \
                 network with CNI_CONF_NAME",
                listed.display(),
                path.display()
            );
        }
        write(&listed, list.as_bytes(), mode(&path))?;
        let kept = before(&path);
        fs::rename(&path, &kept).with_context(|| format!("cannot rename {}", path.display()))?;
        Ok(true)
    }

    /// The file of the network: the one that is named, or the first, as runtimes take it.
    fn network(&self) -> anyhow::Result<PathBuf> {
        if let Some(named) = &self.file {
            let path = self.networks.join(named);
            let listed = path.with_extension("conflist");
            let found = [path, listed].into_iter().find(|path| is_network(path));
            return found.with_context(|| {
                let folder = self.networks_of_node.display();
                format!("there is no network {named} in {folder} yet, which CNI_CONF_NAME names")
            });
        }
        let found = self.files()?.into_iter().find(|path| is_network(path));
        found.with_context(|| {
            let folder = self.networks_of_node.display();
            format!("there is no network in {folder} yet; the cluster's own comes first")
        })
    }

    /// Files that may be networks, in the order in which runtimes take them.
    fn files(&self) -> anyhow::Result<Vec<PathBuf>> {
        let unreadable = || format!("cannot read {}", self.networks.display());
        let entries = fs::read_dir(&self.networks).with_context(unreadable)?;
        let paths: io::Result<Vec<PathBuf>> = entries.map(|entry| Ok(entry?.path())).collect();
        let mut paths = paths.with_context(unreadable)?;
        paths.retain(|path| {
            let end = path.extension().and_then(|end| end.to_str());
            end.is_some_and(|end| ENDS.contains(&end))
        });
        paths.sort();
        Ok(paths)
    }

    /// Takes the plugin out of every network that has it, wherever it was put in before.
    fn unchain(&self) -> anyhow::Result<()> {
        let mut failed = Vec::new();
        for path in self.files()? {
            let Some(rest) = fs::read_to_string(&path)
                .ok()
                .and_then(|text| conflist::remove(&text))
            else {
                continue;
            };
            let kept = ["conf", "json"].map(|end| path.with_extension(end));
            let kept = kept.into_iter().find(|single| before(single).exists());
            let done = match kept {
                // Never none of the two, as pods start meanwhile.
                Some(single) => fs::rename(before(&single), &single)
                    .map_err(anyhow::Error::from)
                    .and_then(|()| gone(&path)),
                None => write(&path, rest.as_bytes(), mode(&path)).map(drop),
            };
            if let Err(error) = done {
                failed.push(format!("{}: {error:#}", path.display()));
            }
        }
        match failed.is_empty() {
            true => Ok(()),
            false => bail!(
                "the plugin is still in networks of the node: {}",
                failed.join("; ")
            ),
        }
    }
}

fn is_network(path: &Path) -> bool {
    fs::read_to_string(path).is_ok_and(|text| conflist::is_network(&text))
}

/// What a file is called while a list stands for it.
fn before(path: &Path) -> PathBuf {
    let mut name = path.as_os_str().to_owned();
    name.push(".");
    name.push(BEFORE);
    PathBuf::from(name)
}

/// Of a file that others made, and may need to read.
fn mode(path: &Path) -> u32 {
    let meta = fs::metadata(path);
    meta.map_or(0o644, |meta| meta.permissions().mode() & 0o777)
}

/// Writes a file as a whole, where it is another or has other permissions. Says whether it was.
fn write(path: &Path, bytes: &[u8], mode: u32) -> anyhow::Result<bool> {
    let is_so = fs::read(path).is_ok_and(|held| held == bytes);
    if is_so && self::mode(path) == mode {
        return Ok(false);
    }
    // With a name that no runtime takes for a network.
    let new = path.with_extension(format!("{}.new", std::process::id()));
    let written = gone(&new).and_then(|()| {
        // Nobody else reads it at any moment: it may be a token.
        let mut file = OpenOptions::new()
            .write(true)
            .create_new(true)
            .mode(0o600)
            .open(&new)?;
        file.write_all(bytes)?;
        file.set_permissions(Permissions::from_mode(mode))?;
        Ok(fs::rename(&new, path)?)
    });
    if written.is_err() {
        // What is left of it is in nobody's way.
        let _ = fs::remove_file(&new);
    }
    written.with_context(|| format!("cannot write {}", path.display()))?;
    Ok(true)
}

/// Removes a file; one that is gone already is no error.
fn gone(path: &Path) -> anyhow::Result<()> {
    match fs::remove_file(path) {
        Err(error) if error.kind() != ErrorKind::NotFound => {
            Err(error).with_context(|| format!("cannot remove {}", path.display()))
        }
        _ => Ok(()),
    }
}

#[cfg(test)]
mod tests;
