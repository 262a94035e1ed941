//! Prometheus' text form.

use std::fmt::{Display, Write};

use arcstr::ArcStr;

/// Collects samples as text.
#[derive(Debug, Default)]
pub struct Writer {
    text: String,
}

impl Writer {
    /// Starts a family.
    pub fn kind(&mut self, name: &str, kind: &str) {
        let _ = writeln!(self.text, "# TYPE {name} {kind}");
    }

    /// Writes a sample; `labels` is the text between the braces.
    pub fn sample(&mut self, name: &str, labels: &str, value: impl Display) {
        // Writing to a string cannot fail.
        let _ = if labels.is_empty() {
            writeln!(self.text, "{name} {value}")
        } else {
            writeln!(self.text, "{name}{{{labels}}} {value}")
        };
    }

    /// The text so far.
    pub fn into_text(self) -> String {
        self.text
    }
}

/// The text between the braces.
pub(super) fn labels(names: &[&str], values: &[ArcStr]) -> String {
    let mut text = String::new();
    for (name, value) in names.iter().zip(values) {
        if !text.is_empty() {
            text.push(',');
        }
        let _ = write!(text, "{name}=\"{}\"", escape(value));
    }
    text
}

fn escape(value: &str) -> std::borrow::Cow<'_, str> {
    if value.contains(['\\', '"', '\n']) {
        value
            .replace('\\', "\\\\")
            .replace('"', "\\\"")
            .replace('\n', "\\n")
            .into()
    } else {
        value.into()
    }
}
