//! Pages in Markdown.

use clap::{Arg, Command};

/// Made by clap for every command; nothing is to be said of it.
const HELP: &str = "help";

/// All pages by the names of their files: one for each command of the first level, with those below it,
/// and one that lists them.
pub(super) fn all(cli: &Command) -> Vec<(String, String)> {
    let shown: Vec<&Command> = below(cli).collect();
    let mut index = format!("# Commands\n\n{}\n\n", about(cli));
    index.push_str("Written by `lateen collateral`; changes belong into the program.\n\n");
    index.push_str("| command | |\n|---|---|\n");
    for command in &shown {
        let name = command.get_name();
        let line = format!(
            "| [`lateen {name}`]({name}.md) | {} |\n",
            cell(&about(command))
        );
        index.push_str(&line);
    }
    let flags = cli.get_arguments().filter(|flag| flag.is_global_set());
    index.push_str("\n## Flags of every command\n\n");
    index.push_str(&table(flags));
    let pages = shown.into_iter().map(|command| {
        let mut text = String::new();
        section(command, &["lateen"], &mut text);
        (format!("{}.md", command.get_name()), text)
    });
    let first = [("README.md".to_owned(), index)];
    first.into_iter().chain(pages).collect()
}

/// The commands below one that users are shown.
fn below(command: &Command) -> impl Iterator<Item = &Command> {
    let all = command.get_subcommands();
    all.filter(|command| !command.is_hide_set() && command.get_name() != HELP)
}

fn section(command: &Command, above: &[&str], text: &mut String) {
    let path: Vec<&str> = above.iter().copied().chain([command.get_name()]).collect();
    let marks = "#".repeat(above.len());
    text.push_str(&format!(
        "{marks} {}\n\n{}\n\n",
        path.join(" "),
        about(command)
    ));
    let usage = command.clone().render_usage().to_string();
    let usage = usage.trim_start_matches("Usage: ").trim();
    text.push_str(&format!("```\n{usage}\n```\n\n"));
    let aliases: Vec<&str> = command.get_visible_aliases().collect();
    if !aliases.is_empty() {
        text.push_str(&format!("Also: `{}`\n\n", aliases.join("`, `")));
    }
    let own = || command.get_arguments().filter(|of| is_own(of));
    if own().next().is_some() {
        text.push_str(&table(own()));
        text.push('\n');
    }
    if let Some(more) = command.get_after_help() {
        text.push_str(&examples(&more.to_string()));
    }
    for command in below(command) {
        section(command, &path, text);
    }
}

/// Flags of every command have a place of their own.
fn is_own(argument: &Arg) -> bool {
    let made = matches!(argument.get_id().as_str(), "help" | "version");
    !argument.is_hide_set() && !argument.is_global_set() && !made
}

fn about(command: &Command) -> String {
    let about = command.get_long_about().or(command.get_about());
    about.map(ToString::to_string).unwrap_or_default()
}

/// One row an argument.
fn table<'a>(arguments: impl Iterator<Item = &'a Arg>) -> String {
    let mut text = "| flag | |\n|---|---|\n".to_owned();
    for argument in arguments {
        let names = match argument.is_positional() {
            true => argument.to_string(),
            false => names(argument),
        };
        let help = argument.get_long_help().or(argument.get_help());
        let mut help = help.map(ToString::to_string).unwrap_or_default();
        let values = argument.get_possible_values();
        let values = values.iter().filter(|value| !value.is_hide_set());
        let values: Vec<&str> = values.map(|value| value.get_name()).collect();
        if !values.is_empty() && argument.get_action().takes_values() {
            help.push_str(&format!(" One of `{}`.", values.join("`, `")));
        }
        let defaults = argument.get_default_values().iter();
        let defaults: Vec<String> = defaults
            .map(|value| value.to_string_lossy().into_owned())
            .filter(|value| !value.is_empty())
            .collect();
        if !defaults.is_empty() && argument.get_action().takes_values() {
            help.push_str(&format!(" Default: `{}`.", defaults.join(",")));
        }
        text.push_str(&format!("| `{}` | {} |\n", cell(&names), cell(&help)));
    }
    text
}

/// `-f, --filename FILE`.
fn names(argument: &Arg) -> String {
    let short = argument.get_short().map(|short| format!("-{short}"));
    let long = argument.get_long().map(|long| format!("--{long}"));
    let names: Vec<String> = short.into_iter().chain(long).collect();
    let value = argument.get_value_names().unwrap_or_default();
    let value = match argument.get_action().takes_values() {
        true => value.iter().map(|name| format!(" {name}")).collect(),
        false => String::new(),
    };
    format!("{}{value}", names.join(", "))
}

/// In one line, without what would end a cell.
fn cell(text: &str) -> String {
    let words: Vec<&str> = text.split_whitespace().collect();
    words.join(" ").replace('|', "\\|")
}

/// Examples as code; the rest as it is.
fn examples(text: &str) -> String {
    let mut out = String::new();
    for paragraph in text.split("\n\n") {
        let (head, body) = paragraph.split_once('\n').unwrap_or((paragraph, ""));
        if head.starts_with("Example") {
            let lines: Vec<&str> = body
                .lines()
                .map(|line| line.strip_prefix("  ").unwrap_or(line))
                .collect();
            out.push_str(&format!("{head}\n\n```\n{}\n```\n\n", lines.join("\n")));
        } else {
            out.push_str(&format!("{paragraph}\n\n"));
        }
    }
    out
}
