//! What differs between two texts, line by line.

use similar::TextDiff;

/// Lines of context around what differs.
const CONTEXT: usize = 3;

/// The difference as `diff -u` has it, without the names of files.
pub(crate) fn lines(one: &str, other: &str) -> String {
    let diff = TextDiff::from_lines(one, other);
    diff.unified_diff().context_radius(CONTEXT).to_string()
}
