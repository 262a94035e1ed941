//! Images of the control plane and of the proxy, as archives that container runtimes load. Docker is
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

use crate::bench::commit;
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
    /// Folders that the program writes to, which are volumes where the root is read-only.
    folders: &'static [&'static str],
    /// In bytes of the archive, for a build with optimisation.
    limit: Option<u64>,
}

const IMAGES: [Image; 2] = [
    Image {
        name: "pilot",
        title: "Lateen control plane",
        program: Program {
            package: "lateen",
            binary: "lateen",
        },
        commands: &["pilot-discovery", "lateen", "istioctl"],
        folders: &["var/run/secrets/istio-dns"],
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
        folders: &["etc/istio/proxy", "var/lib/istio/data"],
        limit: Some(PROXY_LIMIT),
    },
];

/// What was asked for.
#[derive(Debug, PartialEq)]
struct Options {
    out: PathBuf,
    profile: String,
    hub: String,
    tag: String,
    /// Images by name; none are all.
    names: Vec<String>,
}

impl Options {
    fn parse(root: &Path, args: &[String]) -> Result<Self> {
        let mut options = Self {
            out: root.join(OUT),
            profile: "release".to_owned(),
            hub: HUB.to_owned(),
            tag: env!("CARGO_PKG_VERSION").to_owned(),
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
                "--tag" => options.tag = value()?,
                name if IMAGES.iter().any(|image| image.name == name) => {
                    options.names.push(name.to_owned());
                }
                other => bail!(
                    "{other} is neither an image nor an option\n\nusage: cargo xtask image [--out DIRECTORY] \
                     [--profile NAME] [--hub HUB] [--tag TAG] [{}]…",
                    IMAGES.map(|image| image.name).join("|")
                ),
            }
        }
        Ok(options)
    }

    fn wants(&self, image: &Image) -> bool {
        self.names.is_empty() || self.names.iter().any(|name| name == image.name)
    }
}

/// Builds the programs and writes an archive for each image.
pub(crate) fn run(root: &Path, args: &[String]) -> Result<()> {
    let options = Options::parse(root, args)?;
    let wanted: Vec<Image> = IMAGES.into_iter().filter(|it| options.wants(it)).collect();
    let time = time(root)?;
    let programs: Vec<Program> = wanted.iter().map(|image| image.program).collect();
    let built = program::build(root, &options.profile, &programs)?;
    let system = layer::system(USER, time)?;
    std::fs::create_dir_all(&options.out)
        .with_context(|| format!("cannot make {}", options.out.display()))?;
    for (image, binary) in wanted.iter().zip(built) {
        let program =
            std::fs::read(&binary).with_context(|| format!("cannot read {}", binary.display()))?;
        let size = program.len();
        let archive = image.archive(&system, program, &options, root, time)?;
        let file = options.out.join(format!("{}.tar", image.name));
        std::fs::write(&file, &archive.bytes)
            .with_context(|| format!("cannot write {}", file.display()))?;
        eprintln!(
            "{}\n  {}/{}:{}\n  {}, {} of archive, {} of program",
            file.display(),
            options.hub,
            image.name,
            options.tag,
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
        options: &Options,
        root: &Path,
        time: u64,
    ) -> Result<Archive> {
        let own = layer::program(program, self.commands, self.folders, USER, time)?;
        let labels = Labels {
            title: self.title,
            version: env!("CARGO_PKG_VERSION"),
            revision: commit(root),
            source: env!("CARGO_PKG_REPOSITORY"),
            licenses: env!("CARGO_PKG_LICENSE"),
            created: archive::timestamp(time)?,
        };
        archive::Contents {
            reference: format!("{}/{}", options.hub, self.name),
            tag: &options.tag,
            entrypoint: format!("/usr/local/bin/{}", self.commands[0]),
            user: USER,
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
                tag: "v".into(),
                names: vec!["proxyv2".into()],
            }
        );
        let wanted = |options: &Options| IMAGES.iter().filter(|it| options.wants(it)).count();
        assert_eq!(wanted(&options), 1);
        assert_eq!(wanted(&parse(&[]).expect("options")), 2);
        for (args, words) in [
            (&["envoy"][..], "envoy is neither an image nor an option"),
            (&["--out"], "--out wants a value"),
        ] {
            let error = parse(args).expect_err("refused").to_string();
            assert!(error.contains(words), "{error}");
        }
    }

    #[test]
    fn a_proxy_that_is_too_heavy_is_refused() {
        let [_, proxy] = IMAGES;
        assert!(proxy.check_size(PROXY_LIMIT, "release").is_ok());
        assert!(proxy.check_size(PROXY_LIMIT + 1, "dev").is_ok());
        let error = proxy.check_size(PROXY_LIMIT + 1, "release");
        assert!(error.is_err_and(|error| error.to_string().starts_with("proxyv2 weighs")));
    }
}
