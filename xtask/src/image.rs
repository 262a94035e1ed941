//! Images of the control plane, of the proxy and of the plugin of nodes, as archives that container runtimes load. Docker is
//! not needed to make them.
//!
//! An image holds one static program and the few files that it reads, and no shell. The same commit
//! gives the same digest: files are sorted, their times are the commit's, and programs name no folder
//! of the machine that built them.

mod archive;
mod layer;
mod program;

use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result, bail, ensure};

use archive::{Archive, Labels};
use layer::Layer;
use program::Program;

/// Where archives go, below the repository's root, unless it is said.
const OUT: &str = "target/images";
/// Registry and folder of the images, as installations have them.
const HUB: &str = "docker.io/lateen";
/// Users of sidecars and gateways, and of the control plane. Capture leaves the connections of this
/// one alone.
const USER: u32 = 1337;
/// What an archive of the proxy may weigh in bytes: every node of a cluster fetches it.
const PROXY_LIMIT: u64 = 25 << 20;

/// What an image is made of.
#[derive(Debug)]
struct Image {
    /// Its name, which installations and the injector ask for.
    name: &'static str,
    title: &'static str,
    program: Program,
    /// Names of the program below `/usr/local/bin`; a container starts the first one.
    commands: &'static [&'static str],
    /// What the program is started with.
    arguments: &'static [&'static str],
    /// User and group that a container runs as.
    user: u32,
    /// Folders that the program writes to, which are volumes where the root is read-only.
    folders: &'static [&'static str],
    /// In bytes of the archive, for a build with optimisation.
    limit: Option<u64>,
}

/// The program that is everything but the sidecar alone.
const LATEEN: Program = Program {
    package: "lateen",
    binary: "lateen",
};

/// Those of the mesh, which are made when none is named.
const IMAGES: [Image; 3] = [
    Image {
        name: "pilot",
        title: "Lateen control plane",
        program: LATEEN,
        commands: &["pilot-discovery", "lateen", "istioctl"],
        arguments: &[],
        user: USER,
        folders: &["var/run/secrets/istio-dns"],
        limit: None,
    },
    Image {
        name: "install-cni",
        title: "Lateen plugin of nodes",
        program: LATEEN,
        commands: &["install-cni", "istio-cni"],
        arguments: &[],
        // It writes into folders of the node.
        user: 0,
        folders: &[],
        limit: None,
    },
    Image {
        name: "proxyv2",
        title: "Lateen proxy and agent",
        program: Program {
            package: "lateen-proxy-bin",
            binary: "lateen-proxy",
        },
        commands: &["pilot-agent", "lateen-proxy"],
        arguments: &[],
        user: USER,
        folders: &["etc/istio/proxy", "var/lib/istio/data"],
        limit: Some(PROXY_LIMIT),
    },
];

/// The name that stands for all images of the sample.
const BOOKINFO: &str = "bookinfo";
/// The sample's services do not run as the proxy does, whose connections are left alone.
const BOOKINFO_USER: u32 = 1000;
/// As the sample's pods ask for them.
const BOOKINFO_TAG: &str = "latest";
const BOOKINFO_IMAGES: [Image; 6] = [
    bookinfo(
        "examples-bookinfo-details-v1",
        &["details", "--version", "v1"],
    ),
    bookinfo(
        "examples-bookinfo-ratings-v1",
        &["ratings", "--version", "v1"],
    ),
    bookinfo(
        "examples-bookinfo-reviews-v1",
        &["reviews", "--version", "v1"],
    ),
    bookinfo(
        "examples-bookinfo-reviews-v2",
        &["reviews", "--version", "v2"],
    ),
    bookinfo(
        "examples-bookinfo-reviews-v3",
        &["reviews", "--version", "v3"],
    ),
    bookinfo(
        "examples-bookinfo-productpage-v1",
        &["productpage", "--version", "v1"],
    ),
];

const fn bookinfo(name: &'static str, arguments: &'static [&'static str]) -> Image {
    Image {
        name,
        title: "A service of Bookinfo",
        program: Program {
            package: "lateen-bookinfo",
            binary: "bookinfo",
        },
        commands: &["bookinfo"],
        arguments,
        user: BOOKINFO_USER,
        folders: &[],
        limit: None,
    }
}

/// What was asked for.
#[derive(Debug, PartialEq)]
struct Options {
    out: PathBuf,
    profile: String,
    hub: String,
    /// Without one, the version for the mesh and `latest` for the sample.
    tag: Option<String>,
    /// Images by name; none are the mesh's.
    names: Vec<String>,
}

impl Options {
    fn parse(root: &Path, args: &[String]) -> Result<Self> {
        let mut options = Self {
            out: root.join(OUT),
            profile: "release".to_owned(),
            hub: HUB.to_owned(),
            tag: None,
            names: Vec::new(),
        };
        let mut args = args.iter();
        while let Some(arg) = args.next() {
            let mut value = || {
                let value = args.next().cloned();
                value.with_context(|| format!("{arg} wants a value"))
            };
            match arg.as_str() {
                "--out" => options.out = value()?.into(),
                "--profile" => options.profile = value()?,
                "--hub" => options.hub = value()?,
                "--tag" => options.tag = Some(value()?),
                name if name == BOOKINFO || IMAGES.iter().any(|image| image.name == name) => {
                    options.names.push(name.to_owned());
                }
                other => bail!(
                    "{other} is neither an image nor an option\n\nusage: cargo xtask image [--out DIRECTORY] \
                     [--profile NAME] [--hub HUB] [--tag TAG] [{}|{BOOKINFO}]…",
                    IMAGES.map(|image| image.name).join("|")
                ),
            }
        }
        Ok(options)
    }

    /// What is to be made, each with its tag.
    fn wanted(&self) -> Vec<(Image, &str)> {
        let named = |name: &str| self.names.iter().any(|it| it == name);
        let tag = |default| self.tag.as_deref().unwrap_or(default);
        let mesh = IMAGES
            .into_iter()
            .filter(|image| self.names.is_empty() || named(image.name))
            .map(|image| (image, tag(env!("CARGO_PKG_VERSION"))));
        let sample = BOOKINFO_IMAGES
            .into_iter()
            .filter(|_| named(BOOKINFO))
            .map(|image| (image, tag(BOOKINFO_TAG)));
        mesh.chain(sample).collect()
    }
}

/// Builds the programs and writes an archive for each image.
pub(crate) fn run(root: &Path, args: &[String]) -> Result<()> {
    let options = Options::parse(root, args)?;
    let time = time(root)?;
    let system = layer::system(USER, time)?;
    std::fs::create_dir_all(&options.out)
        .with_context(|| format!("cannot make {}", options.out.display()))?;
    for (image, tag) in options.wanted() {
        let binary = program::build(root, &options.profile, image.program)?;
        let program =
            std::fs::read(&binary).with_context(|| format!("cannot read {}", binary.display()))?;
        let size = program.len();
        let name = format!("{}/{}", options.hub, image.name);
        let archive = image.archive(&system, program, name.clone(), tag, commit(root), time)?;
        let file = options.out.join(format!("{}.tar", image.name));
        std::fs::write(&file, &archive.bytes)
            .with_context(|| format!("cannot write {}", file.display()))?;
        eprintln!(
            "{}\n  {name}:{tag}\n  {}, {} of archive, {} of program",
            file.display(),
            archive.digest,
            mebibytes(archive.bytes.len()),
            mebibytes(size),
        );
        image.check_size(archive.bytes.len() as u64, &options.profile)?;
    }
    Ok(())
}

impl Image {
    fn archive(
        &self,
        system: &Layer,
        program: Vec<u8>,
        reference: String,
        tag: &str,
        revision: Option<String>,
        time: u64,
    ) -> Result<Archive> {
        let own = layer::program(program, self.commands, self.folders, self.user, time)?;
        let labels = Labels {
            title: self.title,
            version: env!("CARGO_PKG_VERSION"),
            revision,
            source: env!("CARGO_PKG_REPOSITORY"),
            licenses: env!("CARGO_PKG_LICENSE"),
            created: archive::timestamp(time)?,
        };
        archive::Contents {
            reference,
            tag,
            entrypoint: std::iter::once(format!("/usr/local/bin/{}", self.commands[0]))
                .chain(self.arguments.iter().map(|argument| (*argument).to_owned()))
                .collect(),
            user: self.user,
            labels,
            layers: &[system, &own],
            time,
        }
        .write()
    }

    fn check_size(&self, bytes: u64, profile: &str) -> Result<()> {
        let Some(limit) = self.limit.filter(|_| profile == "release") else {
            return Ok(());
        };
        ensure!(
            bytes <= limit,
            "{} weighs {bytes} bytes, which is more than the {limit} that it may",
            self.name
        );
        Ok(())
    }
}

/// The commit in full, and whether there are changes on top of it: nothing that depends on what else a
/// clone has, such as tags, as the same commit is to give the same digest.
fn commit(root: &Path) -> Option<String> {
    let git = |args: &[&str]| {
        let output = Command::new("git").current_dir(root).args(args).output();
        let output = output.ok().filter(|output| output.status.success())?;
        Some(String::from_utf8(output.stdout).ok()?.trim().to_owned())
    };
    let commit = git(&["rev-parse", "HEAD"])?;
    let changes = git(&["status", "--porcelain", "--untracked-files=no"])?;
    let dirty = if changes.is_empty() { "" } else { "-dirty" };
    Some(format!("{commit}{dirty}"))
}

/// When what is built was written, in seconds since 1970.
fn time(root: &Path) -> Result<u64> {
    let text = match std::env::var("SOURCE_DATE_EPOCH") {
        Ok(told) => told,
        Err(_) => {
            let mut git = Command::new("git");
            let git = git.current_dir(root).args(["log", "-1", "--format=%ct"]);
            let output = git.output().context("cannot run git")?;
            ensure!(
                output.status.success(),
                "git knows no commit whose time files could have; set SOURCE_DATE_EPOCH"
            );
            String::from_utf8(output.stdout).context("git writes UTF-8")?
        }
    };
    let text = text.trim();
    text.parse()
        .with_context(|| format!("SOURCE_DATE_EPOCH is {text:?}, not a number of seconds"))
}

fn mebibytes(bytes: usize) -> String {
    let tenths = bytes * 10 / (1 << 20);
    format!("{}.{} MiB", tenths / 10, tenths % 10)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(args: &[&str]) -> Result<Options> {
        let args: Vec<String> = args.iter().map(|arg| (*arg).to_owned()).collect();
        Options::parse(Path::new("/r"), &args)
    }

    #[test]
    fn options_are_read() {
        let options = parse(&["--profile", "dev", "proxyv2", "--hub", "h", "--tag", "v"]);
        let options = options.expect("options");
        assert_eq!(
            options,
            Options {
                out: "/r/target/images".into(),
                profile: "dev".into(),
                hub: "h".into(),
                tag: Some("v".into()),
                names: vec!["proxyv2".into()],
            }
        );
        let wanted = |args: &[&str]| -> Vec<String> {
            let options = parse(args).expect("options");
            let wanted = options.wanted();
            let names = wanted.iter().map(|(it, tag)| format!("{}:{tag}", it.name));
            names.collect()
        };
        let version = env!("CARGO_PKG_VERSION");
        assert_eq!(wanted(&["proxyv2", "--tag", "v"]), ["proxyv2:v"]);
        assert_eq!(
            wanted(&[]),
            ["pilot", "install-cni", "proxyv2"].map(|name| format!("{name}:{version}"))
        );
        let sample = wanted(&["bookinfo"]);
        assert_eq!(sample.len(), 6);
        assert_eq!(sample[0], "examples-bookinfo-details-v1:latest");
        for (args, words) in [
            (&["envoy"][..], "envoy is neither an image nor an option"),
            (&["--out"], "--out wants a value"),
        ] {
            let error = parse(args).expect_err("refused").to_string();
            assert!(error.contains(words), "{error}");
        }
    }

    #[test]
    fn clones_of_a_commit_name_it_alike() {
        let folder = tempfile::tempdir().expect("a folder");
        let root = folder.path();
        let git = |args: &[&str]| {
            let user = ["-c", "user.name=t", "-c", "user.email=t@example.com"];
            let mut git = Command::new("git");
            let output = git.current_dir(root).args(user).args(args).output();
            assert!(output.expect("git runs").status.success(), "git {args:?}");
        };
        git(&["init", "-q"]);
        std::fs::write(root.join("a"), "1").expect("written");
        git(&["add", "a"]);
        git(&["-c", "commit.gpgsign=false", "commit", "-q", "-m", "a"]);
        let named = commit(root).expect("a commit");
        assert!(named.len() == 40 && named.bytes().all(|byte| byte.is_ascii_hexdigit()));
        // A tag, and how far git shortens, are of a clone and not of the commit.
        git(&["tag", "-a", "-m", "v", "v9"]);
        git(&["config", "core.abbrev", "5"]);
        assert_eq!(commit(root).as_ref(), Some(&named));
        std::fs::write(root.join("a"), "2").expect("written");
        assert_eq!(commit(root), Some(format!("{named}-dirty")));
    }

    #[test]
    fn a_proxy_that_is_too_heavy_is_refused() {
        let [.., proxy] = IMAGES;
        assert!(proxy.check_size(PROXY_LIMIT, "release").is_ok());
        assert!(proxy.check_size(PROXY_LIMIT + 1, "dev").is_ok());
        let error = proxy.check_size(PROXY_LIMIT + 1, "release");
        assert!(error.is_err_and(|error| error.to_string().starts_with("proxyv2 weighs")));
    }
}
