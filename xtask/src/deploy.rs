//! Charts, manifests, addons and pages of the commands as a release carries them. They are made by the program itself, so that
//! nothing that is generated is kept in the repository.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use anyhow::{Context, Result, bail, ensure};

/// Below the repository's root, unless it is said.
const OUT: &str = "deploy";
/// Manifests by the names of their files, with the settings of each: profiles that need nothing that only
/// whoever installs them knows, and the demo under the name that it had in releases of 1.0 where workloads
/// take mutual TLS alone.
const MANIFESTS: [(&str, &[&str]); 5] = [
    ("default", &["profile=default"]),
    ("demo", &["profile=demo"]),
    (
        "istio-demo-auth",
        &["profile=demo", "meshConfig.authPolicy=MUTUAL_TLS"],
    ),
    ("minimal", &["profile=minimal"]),
    ("preview", &["profile=preview"]),
];
/// Lists what this task wrote, by paths below the folder that it is in: nothing else is its to replace.
const LIST: &str = ".written";

/// What the program writes to folders, by the commands that take the folder at their end.
const FOLDERS: [(&str, &[&str]); 3] = [
    ("helm", &["manifest", "chart", "--output"]),
    ("samples/addons", &["manifest", "addon", "--output"]),
    ("docs/commands", &["collateral", "--output"]),
];

/// Writes charts to `helm/`, manifests to `manifests/`, addons to `samples/addons/` and a page for each
/// command to `docs/commands/`.
pub(crate) fn run(root: &Path, args: &[String]) -> Result<()> {
    let out = match args {
        [] => root.join(OUT),
        [flag, out] if flag == "--out" => PathBuf::from(out),
        _ => bail!("usage: cargo xtask deploy [--out DIRECTORY]"),
    };
    let out = std::path::absolute(&out).context("there is no current folder")?;
    let staging = Staging::in_folder(&out)?;
    for (folder, command) in FOLDERS {
        let mut write = lateen(root, command);
        write.arg(staging.0.join(folder)).stdout(Stdio::null());
        let status = write.status().context("cannot run cargo")?;
        ensure!(status.success(), "{folder} cannot be made");
    }
    let manifests = staging.0.join("manifests");
    make(&manifests)?;
    for (name, settings) in MANIFESTS {
        let mut generate = lateen(root, &["manifest", "generate"]);
        for setting in settings {
            generate.args(["--set", setting]);
        }
        let output = generate
            .stderr(Stdio::inherit())
            .output()
            .context("cannot run cargo")?;
        ensure!(output.status.success(), "{name} cannot be generated");
        let file = manifests.join(format!("{name}.yaml"));
        std::fs::write(&file, output.stdout)
            .with_context(|| format!("cannot write {}", file.display()))?;
    }
    for file in publish(&staging.0, &out)? {
        eprintln!("{}", out.join(file).display());
    }
    Ok(())
}

/// A folder beside what is written, from which files are moved when all of them are there. It goes when
/// this does.
struct Staging(PathBuf);

impl Staging {
    fn in_folder(out: &Path) -> Result<Self> {
        let folder = out.join(format!(".writing-{}", std::process::id()));
        make(&folder)?;
        Ok(Self(folder))
    }
}

impl Drop for Staging {
    fn drop(&mut self) {
        // Where it stays, nothing reads it.
        let _ = std::fs::remove_dir_all(&self.0);
    }
}

fn make(folder: &Path) -> Result<()> {
    std::fs::create_dir_all(folder).with_context(|| format!("cannot make {}", folder.display()))
}

/// Puts what is below `from` into `out`, and removes what an earlier run put there and this one does not
/// have. Says what is there now.
///
/// # Errors
/// A file is in the way that no run wrote. Nothing is changed then.
fn publish(from: &Path, out: &Path) -> Result<BTreeSet<PathBuf>> {
    let mut new = BTreeSet::new();
    collect(from, from, &mut new)?;
    let list = out.join(LIST);
    let old: BTreeSet<PathBuf> = match std::fs::read_to_string(&list) {
        Ok(text) => text.lines().map(PathBuf::from).collect(),
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => BTreeSet::new(),
        Err(error) => return Err(error).with_context(|| list.display().to_string()),
    };
    let foreign = new.difference(&old).map(|file| out.join(file));
    if let Some(foreign) = foreign.into_iter().find(|file| file.exists()) {
        bail!(
            "{} is there already, and this task did not write it; remove it, or say another folder with --out",
            foreign.display()
        );
    }
    // Cut off in the middle, the next run still knows what is its own.
    write_list(&list, old.union(&new))?;
    for file in &new {
        let to = out.join(file);
        make(to.parent().unwrap_or(out))?;
        std::fs::rename(from.join(file), &to)
            .with_context(|| format!("cannot write {}", to.display()))?;
    }
    for file in old.difference(&new) {
        remove(out, file)?;
    }
    write_list(&list, new.iter())?;
    Ok(new)
}

fn write_list<'a>(list: &Path, files: impl Iterator<Item = &'a PathBuf>) -> Result<()> {
    let lines = files.map(|file| format!("{}\n", file.display()));
    std::fs::write(list, lines.collect::<String>())
        .with_context(|| format!("cannot write {}", list.display()))
}

/// Files below a folder, by their paths from `root` on.
fn collect(root: &Path, folder: &Path, files: &mut BTreeSet<PathBuf>) -> Result<()> {
    let entries = std::fs::read_dir(folder);
    for entry in entries.with_context(|| format!("cannot read {}", folder.display()))? {
        let path = entry?.path();
        if path.is_dir() {
            collect(root, &path, files)?;
        } else {
            files.insert(path.strip_prefix(root)?.to_owned());
        }
    }
    Ok(())
}

/// Removes a file, and the folders that are empty without it. One that is gone already is no error.
fn remove(out: &Path, file: &Path) -> Result<()> {
    let is_below = |part: std::path::Component<'_>| matches!(part, std::path::Component::Normal(_));
    ensure!(
        file.components().all(is_below),
        "{} lists {}, which is not below it",
        out.join(LIST).display(),
        file.display()
    );
    let path = out.join(file);
    match std::fs::remove_file(&path) {
        Err(error) if error.kind() != std::io::ErrorKind::NotFound => {
            return Err(error).with_context(|| format!("cannot remove {}", path.display()));
        }
        _ => {}
    }
    let parents = file.ancestors().skip(1).filter(|it| *it != Path::new(""));
    for parent in parents {
        if std::fs::remove_dir(out.join(parent)).is_err() {
            break;
        }
    }
    Ok(())
}

fn lateen(root: &Path, args: &[&str]) -> Command {
    let cargo = std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into());
    let mut lateen = Command::new(cargo);
    lateen
        .current_dir(root)
        .args(["run", "--quiet", "-p", "lateen", "--"])
        .args(args);
    lateen
}

#[cfg(test)]
mod tests {
    use super::*;

    fn write(folder: &Path, files: &[(&str, &str)]) {
        for (name, text) in files {
            let path = folder.join(name);
            make(path.parent().expect("a folder")).expect("made");
            std::fs::write(path, text).expect("written");
        }
    }

    fn held(out: &Path) -> Vec<(String, String)> {
        let mut files = BTreeSet::new();
        collect(out, out, &mut files).expect("files");
        let read = |file: &PathBuf| {
            let text = std::fs::read_to_string(out.join(file)).expect("a text");
            (file.display().to_string(), text)
        };
        let read = files.iter().map(read);
        read.filter(|(name, _)| name != LIST).collect()
    }

    fn of(files: &[(&str, &str)]) -> Vec<(String, String)> {
        let own = |(name, text): &(&str, &str)| ((*name).to_owned(), (*text).to_owned());
        files.iter().map(own).collect()
    }

    #[test]
    fn what_others_wrote_stays() {
        let folder = tempfile::tempdir().expect("a folder");
        let out = folder.path().join("out");
        let stage = |n: u8, files: &[(&str, &str)]| {
            let from = folder.path().join(n.to_string());
            write(&from, files);
            publish(&from, &out)
        };
        write(
            &out,
            &[
                ("helm/mine/Chart.yaml", "mine"),
                ("manifests/mine.yaml", "mine"),
            ],
        );
        stage(
            1,
            &[("helm/base/a.yaml", "1"), ("helm/base/old/b.yaml", "1")],
        )
        .expect("written");
        stage(
            2,
            &[("helm/base/a.yaml", "2"), ("manifests/demo.yaml", "2")],
        )
        .expect("written");
        let now = [
            ("helm/base/a.yaml", "2"),
            ("helm/mine/Chart.yaml", "mine"),
            ("manifests/demo.yaml", "2"),
            ("manifests/mine.yaml", "mine"),
        ];
        assert_eq!(held(&out), of(&now));
        assert!(!out.join("helm/base/old").exists());
        let error = stage(
            3,
            &[("helm/base/a.yaml", "3"), ("manifests/mine.yaml", "3")],
        );
        let error = error.expect_err("refused").to_string();
        assert!(
            error.contains("manifests/mine.yaml is there already"),
            "{error}"
        );
        assert_eq!(held(&out), of(&now));
    }

    #[test]
    fn a_list_that_leads_elsewhere_is_refused() {
        let folder = tempfile::tempdir().expect("a folder");
        let (out, from) = (folder.path().join("out"), folder.path().join("from"));
        write(&out, &[(LIST, "../precious\n")]);
        write(folder.path(), &[("precious", "1")]);
        make(&from).expect("made");
        let error = publish(&from, &out).expect_err("refused").to_string();
        assert!(error.contains("not below it"), "{error}");
        assert!(folder.path().join("precious").exists());
    }
}
