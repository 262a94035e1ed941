//! An image as one file: an OCI layout in a tar, with Docker's older table of contents beside it, so
//! that `docker load`, `ctr image import` and `skopeo copy oci-archive:` all take it.
//!
//! Format: OCI Image Format Specification 1.1, `image-layout.md`, `manifest.md` and `config.md`;
//! `manifest.json` is Docker's Image Specification 1.2.

use std::collections::BTreeMap;

use anyhow::{Context, Result, bail};
use serde_json::{Value, json};
use sha2::{Digest, Sha256};
use tar::{EntryType, Header};

use super::layer::Layer;

/// What `org.opencontainers.image.…` labels say.
#[derive(Debug)]
pub(super) struct Labels {
    pub(super) title: &'static str,
    pub(super) version: &'static str,
    /// The commit, where git knows it.
    pub(super) revision: Option<String>,
    pub(super) source: &'static str,
    pub(super) licenses: &'static str,
    /// As RFC 3339 writes it.
    pub(super) created: String,
}

impl Labels {
    fn all(&self) -> BTreeMap<String, String> {
        let texts = [
            ("title", Some(self.title)),
            ("version", Some(self.version)),
            ("revision", self.revision.as_deref()),
            ("source", Some(self.source)),
            ("licenses", Some(self.licenses)),
            ("created", Some(&self.created)),
        ];
        let said = texts
            .into_iter()
            .filter_map(|(name, text)| Some((name, text?)));
        said.map(|(name, text)| (format!("org.opencontainers.image.{name}"), text.to_owned()))
            .collect()
    }
}

/// What goes into an archive.
#[derive(Debug)]
pub(super) struct Contents<'a> {
    /// The image's name with its registry.
    pub(super) reference: String,
    pub(super) tag: &'a str,
    /// The program and what it is started with.
    pub(super) entrypoint: Vec<String>,
    /// User and group.
    pub(super) user: u32,
    pub(super) labels: Labels,
    /// From the lowest.
    pub(super) layers: &'a [&'a Layer],
    /// Of all files, in seconds since 1970.
    pub(super) time: u64,
}

/// An archive, ready to be written.
#[derive(Debug)]
pub(super) struct Archive {
    pub(super) bytes: Vec<u8>,
    /// Of the image's manifest, which names the image for good.
    pub(super) digest: String,
}

/// Files by their names in the archive.
type Files = BTreeMap<String, Vec<u8>>;

impl Contents<'_> {
    /// The archive.
    ///
    /// # Errors
    /// A processor that images have no name for.
    pub(super) fn write(&self) -> Result<Archive> {
        let mut files = Files::new();
        let config = add(&mut files, CONFIG, &text(&self.config()?));
        let layers: Vec<Value> = self
            .layers
            .iter()
            .map(|layer| add(&mut files, LAYER, &layer.bytes))
            .collect();
        let labels = self.labels.all();
        let docker = self.docker(&config, &layers);
        let manifest = json!({
            "schemaVersion": 2,
            "mediaType": MANIFEST,
            "config": config,
            "layers": layers,
            "annotations": labels,
        });
        let mut manifest = add(&mut files, MANIFEST, &text(&manifest));
        let digest = manifest["digest"].as_str().unwrap_or_default().to_owned();
        manifest["platform"] = json!({"architecture": architecture()?, "os": "linux"});
        manifest["annotations"] = json!({
            "io.containerd.image.name": format!("{}:{}", self.reference, self.tag),
            "org.opencontainers.image.ref.name": self.tag,
        });
        let index = json!({"schemaVersion": 2, "mediaType": INDEX, "manifests": [manifest]});
        files.insert("index.json".into(), text(&index));
        files.insert("manifest.json".into(), text(&docker));
        files.insert(
            "oci-layout".into(),
            text(&json!({"imageLayoutVersion": "1.0.0"})),
        );
        Ok(Archive {
            bytes: pack(&files, self.time)?,
            digest,
        })
    }

    /// How a container is started.
    fn config(&self) -> Result<Value> {
        let diff_ids: Vec<&str> = self.layers.iter().map(|layer| &*layer.diff_id).collect();
        let history = json!({"created": self.labels.created, "created_by": "cargo xtask image"});
        Ok(json!({
            "created": self.labels.created,
            "architecture": architecture()?,
            "os": "linux",
            "config": {
                "User": format!("{0}:{0}", self.user),
                "Env": ["PATH=/usr/local/bin"],
                "Entrypoint": self.entrypoint,
                "WorkingDir": "/",
                "Labels": self.labels.all(),
            },
            "rootfs": {"type": "layers", "diff_ids": diff_ids},
            "history": vec![history; self.layers.len()],
        }))
    }

    /// What Docker reads that knows no OCI layout.
    fn docker(&self, config: &Value, layers: &[Value]) -> Value {
        let path = |descriptor: &Value| blob(descriptor["digest"].as_str().unwrap_or_default());
        let layers: Vec<String> = layers.iter().map(path).collect();
        json!([{
            "Config": path(config),
            "RepoTags": [format!("{}:{}", self.reference, self.tag)],
            "Layers": layers,
        }])
    }
}

const INDEX: &str = "application/vnd.oci.image.index.v1+json";
const MANIFEST: &str = "application/vnd.oci.image.manifest.v1+json";
const CONFIG: &str = "application/vnd.oci.image.config.v1+json";
const LAYER: &str = "application/vnd.oci.image.layer.v1.tar+gzip";

/// Adds a blob; says how others refer to it.
fn add(files: &mut Files, media_type: &str, bytes: &[u8]) -> Value {
    let digest = digest(bytes);
    files.insert(blob(&digest), bytes.to_vec());
    json!({"mediaType": media_type, "digest": digest, "size": bytes.len()})
}

/// Where a blob is in the archive.
fn blob(digest: &str) -> String {
    format!("blobs/{}", digest.replace(':', "/"))
}

/// `sha256:…`.
pub(super) fn digest(bytes: &[u8]) -> String {
    format!("sha256:{:x}", Sha256::digest(bytes))
}

fn text(value: &Value) -> Vec<u8> {
    value.to_string().into_bytes()
}

/// The processor of this machine, as images name it.
fn architecture() -> Result<&'static str> {
    match std::env::consts::ARCH {
        "x86_64" => Ok("amd64"),
        "aarch64" => Ok("arm64"),
        other => bail!("images are made for x86_64 and aarch64, and this machine is {other}"),
    }
}

fn pack(files: &Files, time: u64) -> Result<Vec<u8>> {
    let mut tar = tar::Builder::new(Vec::new());
    for (name, bytes) in files {
        let mut header = Header::new_ustar();
        header.set_entry_type(EntryType::Regular);
        header.set_mode(0o644);
        header.set_mtime(time);
        header.set_size(bytes.len() as u64);
        tar.append_data(&mut header, name, bytes.as_slice())
            .with_context(|| format!("cannot archive {name}"))?;
    }
    tar.into_inner().context("cannot end the archive")
}

/// Seconds since 1970 as RFC 3339 writes them, in UTC.
///
/// # Errors
/// A year that it has no form for.
pub(super) fn timestamp(seconds: u64) -> Result<String> {
    let seconds = i64::try_from(seconds).context("a time after all years")?;
    let time = jiff::Timestamp::from_second(seconds).context("a time after all years")?;
    Ok(time.to_string())
}

#[cfg(test)]
mod tests {
    use std::io::Read;

    use super::*;

    fn layer(bytes: &[u8]) -> Layer {
        Layer {
            bytes: bytes.to_vec(),
            diff_id: digest(&[bytes, b"tar"].concat()),
        }
    }

    fn archive() -> Archive {
        let (lower, upper) = (layer(b"lower"), layer(b"upper"));
        let labels = Labels {
            title: "Proxy",
            version: "1",
            revision: None,
            source: "s",
            licenses: "l",
            created: timestamp(86400).expect("a time"),
        };
        let contents = Contents {
            reference: "h/proxy".into(),
            tag: "v",
            entrypoint: vec!["/usr/local/bin/p".into(), "serve".into()],
            user: 1337,
            labels,
            layers: &[&lower, &upper],
            time: 86400,
        };
        contents.write().expect("an archive")
    }

    fn files(archive: &Archive) -> Files {
        let mut tar = tar::Archive::new(archive.bytes.as_slice());
        let entries = tar.entries().expect("a tar");
        let read = |entry: std::io::Result<tar::Entry<'_, _>>| {
            let mut entry = entry.expect("an entry");
            let name = entry.path().expect("a path").display().to_string();
            let mut bytes = Vec::new();
            Read::read_to_end(&mut entry, &mut bytes).expect("contents");
            (name, bytes)
        };
        entries.map(read).collect()
    }

    /// The JSON that a descriptor leads to, whose digest and size must be right.
    fn follow<'a>(files: &'a Files, descriptor: &Value) -> &'a [u8] {
        let digest_said = descriptor["digest"].as_str().expect("a digest");
        let bytes = &files[&blob(digest_said)];
        assert_eq!(digest(bytes), digest_said);
        assert_eq!(descriptor["size"], bytes.len());
        bytes
    }

    fn json(bytes: &[u8]) -> Value {
        serde_json::from_slice(bytes).expect("JSON")
    }

    #[test]
    fn everything_is_found_from_the_index() {
        let archive = archive();
        let files = files(&archive);
        assert_eq!(json(&files["oci-layout"])["imageLayoutVersion"], "1.0.0");
        let index = json(&files["index.json"]);
        let descriptor = &index["manifests"][0];
        assert_eq!(descriptor["digest"], archive.digest);
        assert_eq!(
            descriptor["annotations"]["io.containerd.image.name"],
            "h/proxy:v"
        );
        let manifest = json(follow(&files, descriptor));
        let config = json(follow(&files, &manifest["config"]));
        assert_eq!(config["config"]["User"], "1337:1337");
        assert_eq!(
            config["config"]["Entrypoint"],
            json!(["/usr/local/bin/p", "serve"])
        );
        assert_eq!(config["created"], "1970-01-02T00:00:00Z");
        let title = "org.opencontainers.image.title";
        assert_eq!(config["config"]["Labels"][title], "Proxy");
        assert_eq!(follow(&files, &manifest["layers"][0]), b"lower");
        assert_eq!(follow(&files, &manifest["layers"][1]), b"upper");
        let diff_ids = [layer(b"lower").diff_id, layer(b"upper").diff_id];
        assert_eq!(config["rootfs"]["diff_ids"], json!(diff_ids));
        // Nothing is there that nothing leads to.
        assert_eq!(files.len(), 4 + 3);
    }

    #[test]
    fn docker_finds_the_same() {
        let files = files(&archive());
        let docker = &json(&files["manifest.json"])[0];
        assert_eq!(docker["RepoTags"], json!(["h/proxy:v"]));
        let config = docker["Config"].as_str().expect("a path");
        assert!(json(&files[config]).get("rootfs").is_some());
        let lower = docker["Layers"][0].as_str().expect("a path");
        assert_eq!(files[lower], b"lower");
    }

    #[test]
    fn the_same_contents_are_the_same_archive() {
        let (one, other) = (archive(), archive());
        assert_eq!(one.bytes, other.bytes);
        assert_eq!(one.digest, other.digest);
    }
}
