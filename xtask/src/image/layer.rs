//! Layers: files as a compressed tar.

use std::collections::{BTreeMap, BTreeSet};
use std::io::Write;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result};
use base64::{Engine, engine::general_purpose::STANDARD};
use flate2::{Compression, GzBuilder};
use tar::{EntryType, Header};

use super::archive::digest;

/// A layer of an image.
#[derive(Debug)]
pub(super) struct Layer {
    /// The compressed tar.
    pub(super) bytes: Vec<u8>,
    /// Digest of the tar before it was compressed, which an image's configuration names.
    pub(super) diff_id: String,
}

/// One file of a layer.
#[derive(Debug)]
enum Kind {
    Folder,
    File(Vec<u8>),
    /// A symbolic link, to what.
    Link(&'static str),
}

#[derive(Debug)]
struct Node {
    kind: Kind,
    mode: u32,
    /// User and group.
    owner: u32,
}

/// Files of a layer by their paths, below the root.
#[derive(Debug, Default)]
struct Tree(BTreeMap<PathBuf, Node>);

impl Tree {
    fn add(&mut self, path: &str, kind: Kind, mode: u32, owner: u32) {
        self.0.insert(path.into(), Node { kind, mode, owner });
    }

    fn file(&mut self, path: &str, bytes: impl Into<Vec<u8>>, mode: u32) {
        self.add(path, Kind::File(bytes.into()), mode, 0);
    }

    /// The layer, with the folders that its files are in. Parents come before what is in them, as
    /// paths are sorted.
    fn layer(mut self, time: u64) -> Result<Layer> {
        let parents: BTreeSet<PathBuf> = self
            .0
            .keys()
            .flat_map(|path| path.ancestors().skip(1))
            .filter(|path| *path != Path::new(""))
            .map(Path::to_owned)
            .collect();
        for parent in parents {
            self.0.entry(parent).or_insert(Node {
                kind: Kind::Folder,
                mode: 0o755,
                owner: 0,
            });
        }
        let mut tar = tar::Builder::new(Vec::new());
        for (path, node) in self.0 {
            append(&mut tar, &path, &node, time)
                .with_context(|| format!("cannot archive {}", path.display()))?;
        }
        let tar = tar.into_inner().context("cannot end the archive")?;
        let mut gzip = GzBuilder::new().write(Vec::new(), Compression::best());
        gzip.write_all(&tar).context("cannot compress")?;
        Ok(Layer {
            bytes: gzip.finish().context("cannot compress")?,
            diff_id: digest(&tar),
        })
    }
}

fn append(
    tar: &mut tar::Builder<Vec<u8>>,
    path: &Path,
    node: &Node,
    time: u64,
) -> std::io::Result<()> {
    let mut header = Header::new_ustar();
    header.set_mode(node.mode);
    header.set_uid(node.owner.into());
    header.set_gid(node.owner.into());
    header.set_mtime(time);
    header.set_size(0);
    match &node.kind {
        Kind::Folder => {
            header.set_entry_type(EntryType::Directory);
            tar.append_data(&mut header, path.join(""), &[][..])
        }
        Kind::File(bytes) => {
            header.set_entry_type(EntryType::Regular);
            header.set_size(bytes.len() as u64);
            tar.append_data(&mut header, path, bytes.as_slice())
        }
        Kind::Link(target) => {
            header.set_entry_type(EntryType::Symlink);
            tar.append_link(&mut header, path, target)
        }
    }
}

/// What every image has beside its program: users, the roots of the public authorities, where names
/// are looked up, and a folder for temporary files.
pub(super) fn system(user: u32, time: u64) -> Result<Layer> {
    let mut tree = Tree::default();
    let passwd = format!(
        "root:x:0:0:root:/:/nonexistent\nistio-proxy:x:{user}:{user}:Lateen:/:/nonexistent\n"
    );
    tree.file("etc/passwd", passwd, 0o644);
    let group = format!("root:x:0:\nistio-proxy:x:{user}:\n");
    tree.file("etc/group", group, 0o644);
    tree.file("etc/nsswitch.conf", "hosts: files dns\n", 0o644);
    tree.file("etc/ssl/certs/ca-certificates.crt", roots(), 0o644);
    tree.add("tmp", Kind::Folder, 0o1777, 0);
    tree.layer(time)
}

/// The program under its names, and the folders that it writes to.
pub(super) fn program(
    bytes: Vec<u8>,
    commands: &'static [&'static str],
    folders: &[&str],
    user: u32,
    time: u64,
) -> Result<Layer> {
    let (first, others) = commands.split_first().context("a program has a name")?;
    let mut tree = Tree::default();
    let place = |name: &str| format!("usr/local/bin/{name}");
    tree.file(&place(first), bytes, 0o755);
    for other in others {
        tree.add(&place(other), Kind::Link(first), 0o777, 0);
    }
    for folder in folders {
        tree.add(folder, Kind::Folder, 0o755, user);
    }
    tree.layer(time)
}

/// Certificates of the public authorities, in PEM.
fn roots() -> String {
    let mut all = String::new();
    for root in webpki_root_certs::TLS_SERVER_ROOT_CERTS {
        all.push_str("-----BEGIN CERTIFICATE-----\n");
        let text = STANDARD.encode(root);
        let mut rest = text.as_str();
        while !rest.is_empty() {
            let (line, after) = rest.split_at(rest.len().min(64));
            all.push_str(line);
            all.push('\n');
            rest = after;
        }
        all.push_str("-----END CERTIFICATE-----\n");
    }
    all
}

#[cfg(test)]
mod tests {
    use std::io::Read;

    use flate2::read::GzDecoder;

    use super::*;

    /// What `tar -tv` would say.
    fn listed(layer: &Layer) -> Vec<String> {
        let mut tar = Vec::new();
        GzDecoder::new(layer.bytes.as_slice())
            .read_to_end(&mut tar)
            .expect("gzip");
        assert_eq!(digest(&tar), layer.diff_id);
        let mut archive = tar::Archive::new(tar.as_slice());
        let entries = archive.entries().expect("a tar");
        entries
            .map(|entry| {
                let entry = entry.expect("an entry");
                let header = entry.header();
                assert_eq!(header.mtime().expect("a time"), 7);
                let link = entry.link_name().expect("a name");
                format!(
                    "{:o} {}:{} {} {}{}",
                    header.mode().expect("a mode"),
                    header.uid().expect("a user"),
                    header.gid().expect("a group"),
                    header.size().expect("a size"),
                    entry.path().expect("a path").display(),
                    link.map(|to| format!(" -> {}", to.display()))
                        .unwrap_or_default(),
                )
            })
            .collect()
    }

    #[test]
    fn a_layer_holds_sorted_files_and_their_folders() {
        let make = || program(b"elf".to_vec(), &["b", "a"], &["var/data"], 1337, 7);
        let layer = make().expect("a layer");
        assert_eq!(
            listed(&layer),
            [
                "755 0:0 0 usr/",
                "755 0:0 0 usr/local/",
                "755 0:0 0 usr/local/bin/",
                "777 0:0 0 usr/local/bin/a -> b",
                "755 0:0 3 usr/local/bin/b",
                "755 0:0 0 var/",
                "755 1337:1337 0 var/data/",
            ]
        );
        assert_eq!(make().expect("a layer").bytes, layer.bytes);
    }

    #[test]
    fn the_system_has_no_shell() {
        let names: Vec<String> = listed(&system(1337, 7).expect("a layer"))
            .iter()
            .filter_map(|line| line.split(' ').nth(3).map(str::to_owned))
            .filter(|name| !name.ends_with('/'))
            .collect();
        let want = [
            "etc/group",
            "etc/nsswitch.conf",
            "etc/passwd",
            "etc/ssl/certs/ca-certificates.crt",
        ];
        assert_eq!(names, want);
        let roots = roots();
        let n_roots = roots.matches("BEGIN CERTIFICATE").count();
        assert!(n_roots > 50, "{n_roots} roots");
        assert!(roots.lines().all(|line| line.len() <= 64));
    }
}
