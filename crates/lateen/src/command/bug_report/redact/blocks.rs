//! Blocks of YAML (`password: |` and the lines below it), in a file or within a text of JSON, where line
//! breaks are written as `\n`.

use std::borrow::Cow;
use std::sync::LazyLock;

use regex::Regex;

use super::{NAMES, REDACTED, pattern};

/// The line that a block begins with, and its key.
static HEAD: LazyLock<Regex> = LazyLock::new(|| {
    pattern(&format!(
        r#"(?i)([a-z0-9_./-]*(?:{NAMES}))(?:\\*["'])?[ \t]*:[ \t]*[|>][-+0-9]*[ \t]*(?:#.*)?\r?\z"#
    ))
});
/// Where a line ends.
static BREAK: LazyLock<Regex> = LazyLock::new(|| pattern(r"\n|\\+n"));

/// A block whose content is taken out.
struct Block {
    /// The column of its key: what stands further right is its content.
    column: usize,
    /// Whether it is said that something was taken out.
    is_told: bool,
}

/// Takes out the content of blocks whose keys say that it is secret.
pub(super) fn take_out(text: &str) -> String {
    let mut told = String::with_capacity(text.len());
    let mut block = None;
    let mut before = "";
    let mut from = 0;
    for end in BREAK.find_iter(text) {
        told += &line(&text[from..end.start()], before, &mut block);
        told += end.as_str();
        (before, from) = (end.as_str(), end.end());
    }
    told + &line(&text[from..], before, &mut block)
}

/// A line as it is written; `before` is the break that it comes after.
fn line<'a>(line: &'a str, before: &str, block: &mut Option<Block>) -> Cow<'a, str> {
    if let Some(of) = block {
        let indent = line.len() - line.trim_start_matches([' ', '\t']).len();
        if line.trim().is_empty() {
            return line.into();
        }
        if indent > of.column {
            let mark = if of.is_told { "" } else { REDACTED };
            of.is_told = true;
            // In a text of JSON the quote that ends the text ends the block.
            let rest = before.starts_with('\\').then(|| quote(line)).flatten();
            if rest.is_some() {
                *block = None;
            }
            let rest = rest.map_or("", |at| &line[at..]);
            return format!("{}{mark}{rest}", &line[..indent]).into();
        }
    }
    *block = begun(line);
    line.into()
}

/// The block that a line begins.
fn begun(line: &str) -> Option<Block> {
    let key = HEAD.captures(line)?.get(1)?;
    let lead = &line[..key.start()];
    let is_margin = lead.chars().all(|c| matches!(c, ' ' | '-' | '"' | '\''));
    Some(Block {
        // Behind something else it is a text of its own, which begins there.
        column: if is_margin { lead.len() } else { 0 },
        is_told: false,
    })
}

/// The first quote that nothing escapes.
fn quote(line: &str) -> Option<usize> {
    let mut escaped = false;
    line.char_indices().find_map(|(at, c)| {
        let is_end = c == '"' && !escaped;
        escaped = c == '\\' && !escaped;
        is_end.then_some(at)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn secret_blocks_lose_their_content() {
        for (text, expect) in [
            (
                "a: b\npassword: |\n  hunter2\n\n  again\nc: d\n",
                "a: b\npassword: |\n  <redacted>\n\n  \nc: d\n",
            ),
            (
                "users:\n- token: >-\n    abc\n    def\n  name: x\n",
                "users:\n- token: >-\n    <redacted>\n    \n  name: x\n",
            ),
            (
                "  \"client_secret\": |2 # kept\n    hunter2",
                "  \"client_secret\": |2 # kept\n    <redacted>",
            ),
            (
                r#"{"values": "password: |\n  hunter2\nother: 1\n", "b": 1}"#,
                r#"{"values": "password: |\n  <redacted>\nother: 1\n", "b": 1}"#,
            ),
            (
                r#"{"values": "x:\n  password: |\n    hunter2", "b": 1}"#,
                r#"{"values": "x:\n  password: |\n    <redacted>", "b": 1}"#,
            ),
            (
                "text: |\n  password of nobody\n",
                "text: |\n  password of nobody\n",
            ),
            ("token: |", "token: |"),
            ("", ""),
        ] {
            assert_eq!(take_out(text), expect, "{text}");
        }
    }
}
