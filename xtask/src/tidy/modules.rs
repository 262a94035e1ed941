//! Source files: each must belong to a crate, and say why it exists.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result};

use super::Faults;

/// A file longer than this has more than one subject.
const MAX_LINES: usize = 700;

pub(super) fn check(root: &Path, files: &[PathBuf], faults: &mut Faults) -> Result<()> {
    let sources: BTreeSet<_> = files
        .iter()
        .filter(|file| file.extension().is_some_and(|e| e == "rs"))
        .collect();
    let mut reached = BTreeSet::new();
    let mut queue: Vec<PathBuf> = sources
        .iter()
        .filter(|file| is_root(file))
        .map(|file| (*file).clone())
        .collect();
    while let Some(file) = queue.pop() {
        if !sources.contains(&file) || !reached.insert(file.clone()) {
            continue;
        }
        let text = std::fs::read_to_string(root.join(&file))
            .with_context(|| file.display().to_string())?;
        queue.extend(children(&file, &text));
        check_file(&file, &text, faults);
    }
    for file in sources {
        if file.file_name().is_some_and(|name| name == "mod.rs") {
            faults.add(
                file.display(),
                "name the file after its module, beside its directory",
            );
        }
        if !reached.contains(file) {
            faults.add(file.display(), "no `mod` leads here");
        }
    }
    Ok(())
}

fn check_file(file: &Path, text: &str, faults: &mut Faults) {
    let is_test =
        file.ends_with("tests.rs") || file.components().any(|part| part.as_os_str() == "tests");
    if !is_test && !text.starts_with("//!") {
        faults.add(
            file.display(),
            "the file does not start by saying why it exists (//!)",
        );
    }
    let lines = text
        .lines()
        .take_while(|line| *line != "#[cfg(test)]")
        .count();
    if !is_test && lines > MAX_LINES {
        faults.add(
            file.display(),
            format_args!("{lines} lines; more than {MAX_LINES} are several subjects"),
        );
    }
}

/// Files that cargo finds by itself.
fn is_root(file: &Path) -> bool {
    let parts: Vec<_> = file
        .components()
        .map(|part| part.as_os_str().to_string_lossy())
        .collect();
    match parts.iter().map(AsRef::as_ref).collect::<Vec<_>>()[..] {
        [.., "src", "lib.rs" | "main.rs"] | [.., "build.rs"] | [.., "build", "main.rs"] => true,
        [.., "src", "bin", _] => true,
        // A test of several files.
        [.., "tests" | "benches" | "examples", _, "main.rs"] => true,
        [.., parent, _] => {
            matches!(parent, "tests" | "benches" | "examples" | "fuzz_targets")
                && !parts.contains(&"src".into())
        }
        _ => false,
    }
}

/// The files that the `mod` lines of a file lead to.
fn children(file: &Path, text: &str) -> Vec<PathBuf> {
    let parent = file.parent().unwrap_or(Path::new(""));
    let directory = if is_root(file) {
        parent.to_owned()
    } else {
        file.with_extension("")
    };
    let mut path = None;
    let mut found = Vec::new();
    for line in text.lines().map(str::trim) {
        if let Some(rest) = line.strip_prefix("#[path = \"") {
            path = rest.split('"').next().map(|path| parent.join(path));
        } else if let Some(name) = module_name(line) {
            found.extend(path.take());
            found.push(directory.join(format!("{name}.rs")));
            found.push(directory.join(name).join("mod.rs"));
        }
    }
    found
}

/// The name in `mod name;`, whatever its visibility.
fn module_name(line: &str) -> Option<&str> {
    let line = line.split("//").next()?.trim();
    let rest = line.strip_suffix(';')?;
    let (visibility, name) = rest.rsplit_once("mod ")?;
    let visible =
        visibility.is_empty() || visibility.starts_with("pub") || visibility.starts_with("#[");
    (visible && name.chars().all(|c| c.is_alphanumeric() || c == '_')).then_some(name)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn mod_lines_are_found() {
        let check = |line, expect: Option<&str>| assert_eq!(module_name(line), expect, "{line}");
        check("mod a;", Some("a"));
        check("pub(crate) mod a_b; // why", Some("a_b"));
        check("#[cfg(test)] mod tests;", Some("tests"));
        check("mod inline {", None);
        check("// mod a;", None);
        check("let x = \"mod a\";", None);
    }

    #[test]
    fn files_of_modules() {
        let check = |file: &str, expect: &str| {
            let found = children(Path::new(file), "//! Doc.\nmod a;\n");
            assert_eq!(found[0], Path::new(expect), "{file}");
        };
        check("crates/x/src/lib.rs", "crates/x/src/a.rs");
        check("crates/x/src/foo.rs", "crates/x/src/foo/a.rs");
        check("crates/x/tests/it.rs", "crates/x/tests/a.rs");
        check("crates/x/tests/it/main.rs", "crates/x/tests/it/a.rs");
        check("crates/x/src/foo/tests.rs", "crates/x/src/foo/tests/a.rs");
    }
}
