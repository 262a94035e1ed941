use std::collections::BTreeSet;

use clap::{CommandFactory, error::ErrorKind};

use super::page;
use crate::cli::Cli;

/// The words of a command of a shell, up to what ends it: a pipe, a redirection, a comment, a bracket,
/// or the text behind three spaces that says what the example is for.
fn words(line: &str) -> Vec<String> {
    let mut words = vec![String::new()];
    let mut quote = None;
    for (at, c) in line.char_indices() {
        match (quote, c) {
            (Some(open), c) if c == open => quote = None,
            (Some(_), c) => words.last_mut().expect("one").push(c),
            (None, '\'' | '"') => quote = Some(c),
            (None, '|' | '>' | '<' | '#' | ')') => break,
            (None, ' ') if line[at..].starts_with("   ") => break,
            (None, ' ') => words.push(String::new()),
            (None, c) => words.last_mut().expect("one").push(c),
        }
    }
    words.retain(|word| !word.is_empty());
    words
}

/// The commands of the program in an example: at its beginning, in brackets or behind a pipe.
fn calls(help: &str) -> Vec<Vec<String>> {
    let mut found = Vec::new();
    for line in help.lines() {
        for (at, _) in line.match_indices("lateen ") {
            let before = line[..at].trim_end();
            if before.is_empty() || before.ends_with(['(', '|']) {
                found.push(words(&line[at..]));
            }
        }
    }
    found
}

/// The path of commands that words name, by the commands' own names.
fn path(cli: &clap::Command, words: &[String]) -> String {
    let mut names = vec![];
    let mut command = cli;
    for word in &words[1..] {
        let Some(next) = command.find_subcommand(word) else {
            continue;
        };
        names.push(next.get_name());
        command = next;
    }
    names.join(" ")
}

fn each(command: &clap::Command, above: &str, note: &mut dyn FnMut(&str, &clap::Command)) {
    for below in command.get_subcommands() {
        let path = format!("{above} {}", below.get_name());
        let path = path.trim();
        if below.get_name() != "help" {
            note(path, below);
            each(below, path, note);
        }
    }
}

#[test]
fn every_command_says_what_it_does_and_is_shown_in_an_example_that_parses() {
    let mut cli = Cli::command();
    cli.build();
    let mut faults = Vec::new();
    let mut shown = BTreeSet::new();
    let mut wanted = BTreeSet::new();
    let mut helps = vec![(String::new(), cli.get_after_help().map(ToString::to_string))];
    each(&cli, "", &mut |path, command| {
        if command.get_about().is_none() {
            faults.push(format!("{path}: says nothing about itself"));
        }
        let is_leaf = command
            .get_subcommands()
            .all(|below| below.get_name() == "help");
        if is_leaf && !command.is_hide_set() {
            wanted.insert(path.to_owned());
        }
        helps.push((
            path.to_owned(),
            command.get_after_help().map(ToString::to_string),
        ));
    });
    for (path_of_help, help) in helps {
        for call in calls(&help.unwrap_or_default()) {
            shown.insert(path(&cli, &call));
            let parsed = Cli::command().try_get_matches_from(&call);
            if let Err(error) = parsed
                && error.kind() != ErrorKind::DisplayHelp
            {
                let first = error
                    .to_string()
                    .lines()
                    .next()
                    .unwrap_or_default()
                    .to_owned();
                faults.push(format!("{path_of_help}: {call:?}: {first}"));
            }
        }
    }
    // What is the same under two names, or is not there, is shown under one of them.
    let is_shown = |path: &String| {
        let bare = path.strip_prefix("experimental ");
        let twice = bare.is_some_and(|bare| shown.contains(bare) || wanted.contains(bare));
        shown.contains(path) || twice
    };
    let mut refused = BTreeSet::new();
    each(&cli, "", &mut |path, command| {
        let about = command
            .get_about()
            .map(ToString::to_string)
            .unwrap_or_default();
        if about.starts_with("Not supported") {
            refused.insert(path.to_owned());
        }
    });
    let hidden = wanted
        .iter()
        .filter(|path| !is_shown(path) && !refused.contains(*path));
    faults.extend(hidden.map(|path| format!("{path}: is shown in no example")));
    assert!(faults.is_empty(), "{}", faults.join("\n"));
}

/// Roles of the program, which are no commands: they have a command line of their own.
const ROLES: [&str; 7] = [
    "pilot-discovery",
    "pilot-agent",
    "agent",
    "bookinfo",
    "istio-cni",
    "install-cni",
    "sample",
];

/// The commands of the program that a page shows: in lines of code, and between backticks.
fn shown_in(page: &str) -> Vec<Vec<String>> {
    let mut found = Vec::new();
    for line in page.lines() {
        if line.starts_with("    ") {
            found.extend(calls(line));
        } else {
            found.extend(line.split('`').skip(1).step_by(2).flat_map(calls));
        }
    }
    found
}

/// What of a command there is not: the command itself, or a flag.
fn unknown(cli: &clap::Command, words: &[String]) -> Option<String> {
    let mut commands = vec![cli];
    for word in &words[1..] {
        let command = commands.last().expect("one");
        let starts = |c: char| c.is_ascii_lowercase();
        match command.find_subcommand(word) {
            Some(below) => commands.push(below),
            // A place for any command, a flag before it, or what the last one is for.
            None if !word.starts_with(starts) || !command.has_subcommands() => break,
            None => return Some(format!("no command {word}")),
        }
    }
    let long = |word: &String| {
        let flag = word.strip_prefix("--")?;
        Some(flag.split('=').next().unwrap_or_default().to_owned())
    };
    let has = |flag: &String| {
        flag == "help"
            || commands.iter().any(|command| {
                command.get_arguments().any(|argument| {
                    let names = argument.get_long_and_visible_aliases();
                    names.is_some_and(|names| names.contains(&flag.as_str()))
                })
            })
    };
    let mut flags = words
        .iter()
        .filter_map(long)
        .filter(|flag| !flag.is_empty());
    flags
        .find(|flag| !has(flag))
        .map(|flag| format!("no flag --{flag}"))
}

#[test]
fn pages_that_people_wrote_show_commands_that_there_are() {
    let mut cli = Cli::command();
    cli.build();
    let root = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("../..");
    let docs = std::fs::read_dir(root.join("docs")).expect("pages");
    let docs = docs.map(|page| page.expect("a page").path());
    let pages = docs.filter(|path| path.extension().is_some_and(|it| it == "md"));
    let mut n_shown = 0;
    let mut faults = Vec::new();
    for path in pages.chain(["README.md", "deploy/README.md"].map(|name| root.join(name))) {
        let text = std::fs::read_to_string(&path).expect("a text");
        for words in shown_in(&text) {
            let is_role = words.get(1).is_some_and(|word| ROLES.contains(&&**word));
            n_shown += 1;
            if let Some(fault) = unknown(&cli, &words).filter(|_| !is_role) {
                faults.push(format!("{}: {words:?}: {fault}", path.display()));
            }
        }
    }
    assert!(n_shown > 100, "pages were read otherwise: {n_shown}");
    assert!(faults.is_empty(), "{}", faults.join("\n"));
}

#[test]
fn examples_are_taken_apart_as_a_shell_would() {
    for (help, expect) in [
        (
            "  lateen get vs -o yaml",
            vec![vec!["lateen", "get", "vs", "-o", "yaml"]],
        ),
        (
            "  kubectl apply -f <(lateen kube-inject -f a)",
            vec![vec!["lateen", "kube-inject", "-f", "a"]],
        ),
        ("  lateen up      Start a mesh", vec![vec!["lateen", "up"]]),
        (
            "  lateen a 'b c' | lateen d > e",
            vec![vec!["lateen", "a", "b c"], vec!["lateen", "d"]],
        ),
        ("  as lateen does", vec![]),
    ] {
        assert_eq!(calls(help), expect, "{help}");
    }
}

#[test]
fn pages_have_every_command_and_flag() {
    let mut cli = Cli::command();
    cli.build();
    let pages = page::all(&cli);
    let page = |name: &str| {
        let found = pages.iter().find(|(of, _)| of == name);
        found.map(|(_, text)| text.as_str()).expect(name)
    };
    let index = page("README.md");
    assert!(
        index.contains("[`lateen describe`](describe.md)"),
        "{index}"
    );
    assert!(
        index.contains("`-i, --istioNamespace ISTIO_NAMESPACE`"),
        "{index}"
    );
    let own = page("experimental.md");
    assert!(own.starts_with("# lateen experimental\n"), "{own}");
    assert!(
        own.contains("#### lateen experimental workload entry configure\n"),
        "{own}"
    );
    assert!(
        own.contains("| `--tokenDuration TOKEN_SECONDS` | "),
        "{own}"
    );
    assert!(
        own.contains("```\nlateen experimental internal-debug syncz\n"),
        "{own}"
    );
    // What is hidden stays so.
    assert!(pages.iter().all(|(name, _)| name != "gen-deploy.md"));
}
