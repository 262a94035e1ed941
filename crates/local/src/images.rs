//! Images are names that map to local commands.
//!
//! Nothing is ever pulled: what a pod calls an image is looked up here, by its full reference, then without
//! tag or digest, then by the last component of its path.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use crate::Error;
use crate::state::{DEFAULT_NAME, read_json, write_json};

/// Where a container finds this program.
pub const LATEEN_IN_POD: &str = "/usr/local/bin/lateen";

/// The names of this program in a container: its own, and those that hooks and probes of the mesh's
/// pods call, as they are in Istio's images, and the client of the echo sample. By its name it knows its role.
pub(crate) const PROGRAMS_IN_POD: [&str; 4] = [
    LATEEN_IN_POD,
    "/usr/local/bin/pilot-agent",
    "/usr/local/bin/pilot-discovery",
    "/usr/local/bin/client",
];

/// The user's own mappings, kept in the state directory.
#[derive(Clone, Debug)]
pub struct Images {
    path: PathBuf,
}

#[derive(Debug, Default, Deserialize, Serialize)]
struct File {
    images: BTreeMap<String, Vec<String>>,
}

impl Images {
    /// The mappings kept at `path`, which need not exist.
    pub fn at(path: impl Into<PathBuf>) -> Self {
        Self { path: path.into() }
    }

    /// The file.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Maps `name` to `command`.
    ///
    /// # Errors
    /// When the name or command is empty or the file cannot be written.
    pub fn add(&self, name: &str, command: &[String]) -> Result<(), Error> {
        if name.is_empty() || command.is_empty() {
            return Err(Error::Option("an image needs a name and a command".into()));
        }
        let mut file = self.load()?;
        file.images.insert(name.to_owned(), command.to_vec());
        write_json(&self.path, &file)
    }

    /// Forgets `name`; whether it was there.
    ///
    /// # Errors
    /// When the file cannot be read or written.
    pub fn remove(&self, name: &str) -> Result<bool, Error> {
        let mut file = self.load()?;
        let found = file.images.remove(name).is_some();
        if found {
            write_json(&self.path, &file)?;
        }
        Ok(found)
    }

    /// The user's mappings.
    ///
    /// # Errors
    /// When the file cannot be read.
    pub fn list(&self) -> Result<BTreeMap<String, Vec<String>>, Error> {
        Ok(self.load()?.images)
    }

    /// The command of `image`, which may be empty: such a pod names its command itself; `None` when
    /// nothing maps it.
    ///
    /// # Errors
    /// When the file cannot be read.
    pub fn resolve(&self, image: &str) -> Result<Option<Vec<String>>, Error> {
        let file = self.load()?;
        let short = without_tag(image);
        let last = short.rsplit('/').next().unwrap_or(short);
        let mapped = [image, short, last]
            .iter()
            .find_map(|name| file.images.get(*name).cloned());
        Ok(mapped.or_else(|| built_in(short, last)))
    }

    fn load(&self) -> Result<File, Error> {
        Ok(read_json(&self.path)?.unwrap_or_default())
    }
}

/// The images that need no mapping: Lateen's own and those of the public samples. `path` is the
/// reference without tag, for images whose last component says too little.
fn built_in(path: &str, last: &str) -> Option<Vec<String>> {
    let args: Vec<&str> = match last {
        "pilot" => vec!["pilot-discovery"],
        "proxyv2" => vec!["pilot-agent"],
        "go-httpbin" => vec!["sample", "httpbin"],
        "tcp-echo-server" => vec!["sample", "tcp-echo"],
        "tornado-websocket-example" => vec!["sample", "websockets"],
        "health" if path.ends_with("istio.io/release/health") => vec!["sample", "health"],
        "app" if path.ends_with("testing/app") => vec!["sample", "echo"],
        "echo-advanced" if path.ends_with("gateway-api/echo-advanced") => vec!["sample", "echo"],
        // The machine's own programs are in every container.
        "curl" => return Some(vec!["curl".to_owned()]),
        "busybox" => return Some(Vec::new()),
        _ => match last.strip_prefix("examples-helloworld-") {
            Some(version) => vec!["sample", "helloworld", "--version", version],
            None => {
                let (service, version) =
                    last.strip_prefix("examples-bookinfo-")?.rsplit_once('-')?;
                vec!["bookinfo", service, "--version", version]
            }
        },
    };
    let command = std::iter::once(LATEEN_IN_POD).chain(args);
    Some(command.map(str::to_owned).collect())
}

/// The reference without tag and digest. A colon before the last slash is a registry's port.
fn without_tag(image: &str) -> &str {
    let image = image.split('@').next().unwrap_or(image);
    match image.rfind(':') {
        Some(colon) if !image[colon..].contains('/') => &image[..colon],
        _ => image,
    }
}

/// What the event of an unmapped image tells the user.
pub(crate) fn how_to_map(image: &str, mesh: &str) -> String {
    let name = match mesh {
        DEFAULT_NAME => String::new(),
        other => format!(" --name {other}"),
    };
    format!(
        "image {image:?} is not mapped to a local command, and this platform pulls no images; if the program is on this machine, run: lateen image add {}{name} -- COMMAND",
        without_tag(image)
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    fn images() -> (tempfile::TempDir, Images) {
        let dir = tempfile::tempdir().unwrap();
        let images = Images::at(dir.path().join("images.json"));
        (dir, images)
    }

    #[test]
    fn built_in_images_need_no_file() {
        let (_dir, images) = images();
        let check = |image: &str, expect: &str| {
            let command = images
                .resolve(image)
                .unwrap()
                .map(|command| command.join(" "));
            assert_eq!(command.as_deref(), Some(expect), "{image}");
        };
        check(
            "registry.istio.io/release/examples-bookinfo-reviews-v2:1.20.3",
            "/usr/local/bin/lateen bookinfo reviews --version v2",
        );
        check(
            "docker.io/lateen/pilot:0.1.0",
            "/usr/local/bin/lateen pilot-discovery",
        );
        check(
            "localhost:5000/proxyv2",
            "/usr/local/bin/lateen pilot-agent",
        );
        check(
            "registry.istio.io/release/examples-helloworld-v2:1.0",
            "/usr/local/bin/lateen sample helloworld --version v2",
        );
        check(
            "registry.istio.io/testing/app:latest",
            "/usr/local/bin/lateen sample echo",
        );
        check(
            "registry.k8s.io/gateway-api/echo-advanced:v1.5.1",
            "/usr/local/bin/lateen sample echo",
        );
        check("registry.k8s.io/busybox", "");
        for unknown in ["nginx:1", "app", "health:example"] {
            assert_eq!(images.resolve(unknown).unwrap(), None, "{unknown}");
        }
    }

    #[test]
    fn the_advice_is_for_the_mesh_at_hand() {
        let said = how_to_map("docker.io/grafana/grafana:13", "team-a");
        let command = "run: lateen image add docker.io/grafana/grafana --name team-a -- COMMAND";
        assert!(said.ends_with(command), "{said}");
        let said = how_to_map("web", DEFAULT_NAME);
        assert!(
            said.ends_with("run: lateen image add web -- COMMAND"),
            "{said}"
        );
    }

    #[test]
    fn the_longest_name_wins() {
        let (_dir, images) = images();
        for (name, command) in [("web", "last"), ("reg/web", "path"), ("reg/web:2", "full")] {
            images.add(name, &[command.to_owned()]).unwrap();
        }
        let resolve = |image: &str| images.resolve(image).unwrap().unwrap()[0].clone();
        assert_eq!(resolve("reg/web:2"), "full");
        assert_eq!(resolve("reg/web:3"), "path");
        assert_eq!(resolve("other:80/web@sha256:00"), "last");
        assert!(images.remove("web").unwrap());
        assert!(!images.remove("web").unwrap());
    }
}
