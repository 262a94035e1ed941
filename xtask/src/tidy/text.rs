//! Words and paths that do not belong into the repository, and slips of the pen.

use std::path::{Path, PathBuf};

use anyhow::Result;

use super::Faults;

/// Files that people write. Others (pictures, lock files) are left alone.
const KINDS: [&str; 9] = [
    "rs", "md", "toml", "yaml", "yml", "html", "svg", "proto", "json",
];

/// Directories of one person's machine. Split, so that this file does not name them.
const FOREIGN_PATHS: [&str; 3] = [
    concat!("/wo", "rk/"),
    concat!("/ro", "ot/"),
    concat!("/ho", "me/"),
];
/// Where every node of Google's platform has programs, which is nobody's own.
const NODES_FOLDER: &str = concat!("/ho", "me/kubernetes/bin");

/// Marks of unfinished work.
const MARKS: [&str; 3] = [
    concat!("TO", "DO"),
    concat!("FIX", "ME"),
    concat!("<<<<", "<<<"),
];

/// Frequent misspellings, each with its last letters apart so that this file is clean itself.
const TYPOS: [(&str, &str); 28] = [
    ("teh", ""),
    ("recieve", ""),
    ("seperat", "e"),
    ("occured", ""),
    ("occurence", ""),
    ("refered", ""),
    ("succesful", ""),
    ("sucess", ""),
    ("adress", ""),
    ("wich", ""),
    ("becuase", ""),
    ("definit", "ly"),
    ("enviroment", ""),
    ("existance", ""),
    ("explicitely", ""),
    ("independant", ""),
    ("lenght", ""),
    ("neccessary", ""),
    ("paramter", ""),
    ("persistant", ""),
    ("priviledge", ""),
    ("reponse", ""),
    ("retreive", ""),
    ("threshhold", ""),
    ("untill", ""),
    ("wether", ""),
    ("writting", ""),
    ("namesapce", ""),
];

pub(super) fn check(root: &Path, files: &[PathBuf], faults: &mut Faults) -> Result<()> {
    let this = Path::new(file!());
    let written = |file: &&PathBuf| {
        let kind = file
            .extension()
            .and_then(|kind| kind.to_str())
            .unwrap_or_default();
        KINDS.contains(&kind) && !file.ends_with(this) && !file.starts_with("samples/testdata")
    };
    for file in files.iter().filter(written) {
        let Ok(text) = std::fs::read_to_string(root.join(file)) else {
            faults.add(file.display(), "not UTF-8");
            continue;
        };
        for (number, line) in text.lines().enumerate() {
            for fault in line_faults(line) {
                faults.add(format_args!("{}:{}", file.display(), number + 1), fault);
            }
        }
    }
    Ok(())
}

fn line_faults(line: &str) -> Vec<String> {
    let mut faults = Vec::new();
    let own = line.replace(NODES_FOLDER, "");
    for path in FOREIGN_PATHS {
        if own.contains(path) {
            faults.push(format!("{path} is a directory of one machine"));
        }
    }
    for mark in MARKS {
        if words(line).any(|word| word == mark) || (mark.starts_with('<') && line.starts_with(mark))
        {
            faults.push(format!("{mark} is unfinished work"));
        }
    }
    for word in words(line) {
        let lower = word.to_lowercase();
        if TYPOS
            .iter()
            .any(|(start, end)| lower.strip_prefix(start) == Some(end))
        {
            faults.push(format!("{word} is misspelt"));
        }
    }
    if line.ends_with([' ', '\t']) {
        faults.push("space at the end of the line".to_owned());
    }
    faults
}

fn words(line: &str) -> impl Iterator<Item = &str> {
    line.split(|c: char| !c.is_alphabetic())
        .filter(|word| !word.is_empty())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn slips_are_found() {
        let check =
            |line: &str, expect: usize| assert_eq!(line_faults(line).len(), expect, "{line}");
        check("a clean line about a workload at /workloads", 0);
        check(concat!("see /wo", "rk/notes"), 1);
        check(concat!("in /ho", "me/somebody/bin"), 1);
        check(NODES_FOLDER, 0);
        check(concat!("// TO", "DO: later"), 1);
        check("we recieve it ", 2);
        check("whether it was seperated", 0);
    }
}
