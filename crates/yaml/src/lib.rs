//! YAML between users and `kubectl`, which reads version 1.1: `on` and `yes` are true there, `0644` is
//! 420, `1_000` is a number and `<<` merges. What is read here is what `kubectl` would read, and what is
//! written here `kubectl` reads as it was meant. Of keys, the text as it is written counts.

use serde::{
    Serialize, Serializer,
    de::DeserializeOwned,
    ser::{SerializeMap, SerializeSeq},
};
use serde_json::Value;
use serde_saphyr::{
    DoubleQuoted, DuplicateKeyPolicy, Options, SerializerOptions, from_str_with_options, options,
    read_with_options, ser_options, to_string_with_options,
};

pub use serde_saphyr::{Error as ReadError, ser::Error as WriteError};

/// Which of several documents cannot be read.
#[derive(Debug, thiserror::Error)]
#[error("document {number} is not valid YAML: {source}")]
pub struct DocumentError {
    /// Which, from 1; those without content are not counted.
    pub number: usize,
    /// What is wrong, with its place.
    pub source: ReadError,
}

fn reading() -> Options {
    options! {
        legacy_octal_numbers: true,
        // As there, where the last one counts.
        duplicate_keys: DuplicateKeyPolicy::LastWins,
        // Errors are told in one line.
        with_snippet: false,
    }
}

fn writing() -> SerializerOptions {
    // A long text stays on its line.
    ser_options! { folded_wrap_chars: usize::MAX }
}

/// Reads one document.
///
/// # Errors
/// What is no YAML, or not of the wanted form, with its place.
pub fn from_str<T: DeserializeOwned>(text: &str) -> Result<T, ReadError> {
    from_str_with_options(text, reading())
}

/// Reads all documents of a text; those without content are left out.
///
/// # Errors
/// The first that is no YAML, with its place.
pub fn documents(text: &str) -> Result<Vec<Value>, DocumentError> {
    let mut bytes = text.as_bytes();
    read_with_options(&mut bytes, reading())
        .enumerate()
        .map(|(n, document)| {
            let number = n + 1;
            document.map_err(|source| DocumentError { number, source })
        })
        .collect()
}

/// Writes a document, with the end of its last line.
///
/// # Errors
/// What YAML has no form for.
pub fn to_string(value: &Value) -> Result<String, WriteError> {
    to_string_with_options(&Written(value), writing())
}

/// Whether a text needs no quotes to be taken for a text.
pub fn is_plain(text: &str) -> bool {
    to_string(&text.into()).is_ok_and(|written| written.trim_end_matches('\n') == text)
}

/// A value as it is written.
struct Written<'a>(&'a Value);

impl Serialize for Written<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        match self.0 {
            Value::String(text) if begins_with_tab(text) => {
                DoubleQuoted(text).serialize(serializer)
            }
            Value::Array(items) => {
                let mut list = serializer.serialize_seq(Some(items.len()))?;
                for item in items {
                    list.serialize_element(&Written(item))?;
                }
                list.end()
            }
            Value::Object(fields) => {
                let mut map = serializer.serialize_map(Some(fields.len()))?;
                for (key, value) in fields {
                    map.serialize_entry(key, &Written(value))?;
                }
                map.end()
            }
            value => value.serialize(serializer),
        }
    }
}

/// As the lines of a block, `kubectl` takes the tab for wrong indentation.
fn begins_with_tab(text: &str) -> bool {
    text.trim_start_matches('\n').starts_with('\t')
}

#[cfg(test)]
mod tests;
