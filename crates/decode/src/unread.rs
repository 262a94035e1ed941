//! What a resource sets and nobody reads.
//!
//! Each module lists the fields that it reads beside the code that reads them. The encoded message
//! is walked against these lists, so that a field which the published messages do not know is found
//! as well. A test sets every field of every listed message and compares what is decoded: a field
//! that is read without being listed fails it, and so does one that is listed and changes nothing.

#[cfg(test)]
mod tests;

use std::fmt;

use lateen_xds::{Any, TypeUrl};

/// The fields of a message that are read.
pub(crate) struct Reads {
    /// Its full name.
    pub message: &'static str,
    /// Number, name and what is read of it; `[]` ends the names of repeated fields.
    pub fields: &'static [(u32, &'static str, Kind)],
    /// A field that puts the message out of use where it is set.
    pub unless: Option<u32>,
}

/// What is read of a field.
pub(crate) enum Kind {
    /// All of it.
    Whole,
    /// Nothing, and nothing that a request or a connection could notice depends on it.
    Harmless,
    /// Nothing, since it asks for what is never done; it may be switched off.
    Off,
    /// These fields of the message in it.
    In(&'static Reads),
    /// These fields of the message packed in it.
    Packed(Types),
    /// As many packed messages by their keys.
    Map(Types),
    /// A list of words, but for those that this finds in it.
    Words(fn(&str) -> Vec<String>),
}

/// Messages that may be packed in a field.
#[derive(Clone, Copy)]
pub(crate) struct Types {
    /// Those that are read.
    pub read: &'static [&'static Reads],
    /// Those whose work is done without them.
    pub implied: &'static [&'static str],
}

impl Reads {
    pub(crate) const fn of(
        message: &'static str,
        fields: &'static [(u32, &'static str, Kind)],
    ) -> Reads {
        Reads {
            message,
            fields,
            unless: None,
        }
    }
}

impl Types {
    pub(crate) const fn of(read: &'static [&'static Reads]) -> Types {
        Types { read, implied: &[] }
    }
}

/// What a resource sets and nobody reads.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Unread {
    /// At most [`MOST`] of them.
    pub fields: Vec<UnreadField>,
    /// How many more there are.
    pub more: usize,
}

/// Fields that are named, at most.
pub const MOST: usize = 32;

/// A field that nobody reads.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct UnreadField {
    /// The dotted path of the message that it is in; empty for the resource itself.
    pub within: String,
    /// Which field it is, or which content of it.
    pub what: What,
}

/// What is not read.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum What {
    /// A field of this message by its number.
    Field(&'static str, u32),
    /// A packed message of this type.
    Type(String),
    /// A word of a list, which stands for nothing.
    Word(String),
    /// Bytes that are no message.
    Malformed,
}

impl UnreadField {
    /// The path. Names of fields that are not read stand in no list: `name` gives them, by message
    /// and number, where it can ([`lateen_xds::json::field_name`]).
    pub fn path(&self, name: impl Fn(&str, u32) -> Option<String>) -> String {
        let within = &self.within;
        let dot = if within.is_empty() { "" } else { "." };
        match &self.what {
            What::Field(message, number) => {
                let name = name(message, *number).unwrap_or_else(|| format!("#{number}"));
                format!("{within}{dot}{name}")
            }
            What::Type(kind) => format!("{within} ({kind})"),
            What::Word(word) => format!("{within} ({word:?})"),
            What::Malformed => format!("{within}{dot}(malformed)"),
        }
    }
}

impl fmt::Display for UnreadField {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.path(|_, _| None))
    }
}

/// Every field that a resource sets and nobody reads; nothing for types that are not resources.
#[must_use]
pub fn unread(resource: &Any) -> Unread {
    let mut out = Unread::default();
    let kind = TypeUrl::new(&resource.type_url);
    if let Some(reads) = RESOURCES.iter().find(|r| r.message == kind.message()) {
        walk(&resource.value, reads, &mut String::new(), &mut out);
    }
    out
}

static RESOURCES: &[&Reads] = &[
    &crate::listener::reads::LISTENER,
    &crate::route::reads::ROUTE_CONFIGURATION,
    &crate::route::reads::VIRTUAL_HOST,
    &crate::route::reads::VIRTUAL_HOST,
    &crate::cluster::reads::CLUSTER,
    &crate::endpoint::ASSIGNMENT,
    &crate::tls::reads::SECRET,
];

fn walk(bytes: &[u8], reads: &'static Reads, path: &mut String, out: &mut Unread) {
    if let Some(number) = reads.unless
        && Fields(bytes).any(|field| field.is_some_and(|field| field.number == number))
    {
        return;
    }
    let mut counts: Vec<(u32, usize)> = Vec::new();
    for field in Fields(bytes) {
        let Some(field) = field else {
            out.add(path, What::Malformed);
            return;
        };
        let known = reads.fields.iter().find(|known| known.0 == field.number);
        let index = match counts.iter_mut().find(|count| count.0 == field.number) {
            Some(count) => {
                count.1 += 1;
                count.1
            }
            None => {
                counts.push((field.number, 0));
                0
            }
        };
        let what = What::Field(reads.message, field.number);
        let Some((_, name, kind)) = known else {
            if index == 0 {
                out.add(path, what);
            }
            continue;
        };
        let length = path.len();
        match kind {
            Kind::Whole | Kind::Harmless => {}
            Kind::Off if field.is_zero() => {}
            Kind::Off => out.add(path, what),
            Kind::In(inner) => {
                step(path, name, index);
                walk(field.body, inner, path, out);
            }
            Kind::Packed(types) => {
                step(path, name, index);
                packed(field.body, *types, path, out);
            }
            Kind::Words(unknown) => {
                step(path, name, index);
                for word in unknown(&String::from_utf8_lossy(field.body)) {
                    out.add(path, What::Word(word));
                }
            }
            Kind::Map(types) => {
                let (key, value) = (part(field.body, 1), part(field.body, 2));
                step(path, name.trim_end_matches("[]"), 0);
                path.push_str(&format!("[{:?}]", String::from_utf8_lossy(key)));
                packed(value, *types, path, out);
            }
        }
        path.truncate(length);
    }
}

fn packed(bytes: &[u8], types: Types, path: &mut String, out: &mut Unread) {
    let any = Any {
        type_url: String::from_utf8_lossy(part(bytes, 1)).into_owned(),
        value: part(bytes, 2).to_vec(),
    };
    let kind = crate::filter::type_of(&any);
    if types.implied.contains(&kind.as_str()) {
        return;
    }
    match types.read.iter().find(|reads| reads.message == kind) {
        Some(reads) => walk(&any.value, reads, path, out),
        None => out.add(path, What::Type(kind)),
    }
}

/// Goes down into a field.
fn step(path: &mut String, name: &str, index: usize) {
    if !path.is_empty() {
        path.push('.');
    }
    match name.strip_suffix("[]") {
        Some(name) => path.push_str(&format!("{name}[{index}]")),
        None => path.push_str(name),
    }
}

/// The last occurrence of a field, which is the one that counts.
fn part(bytes: &[u8], number: u32) -> &[u8] {
    let fields = Fields(bytes).flatten();
    let last = fields.filter(|field| field.number == number).last();
    last.map_or(&[], |field| field.body)
}

impl Unread {
    fn add(&mut self, within: &str, what: What) {
        if self.fields.len() == MOST {
            self.more += 1;
            return;
        }
        self.fields.push(UnreadField {
            within: within.to_owned(),
            what,
        });
    }

    /// True where everything is read.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.fields.is_empty()
    }
}

/// A field on the wire.
struct WireField<'a> {
    number: u32,
    /// The content of what has a length, or the bytes of a number.
    body: &'a [u8],
}

impl WireField<'_> {
    fn is_zero(&self) -> bool {
        self.body.iter().all(|byte| *byte == 0)
    }
}

/// The fields of an encoded message; `None` once, where the bytes are not one.
struct Fields<'a>(&'a [u8]);

impl<'a> Iterator for Fields<'a> {
    type Item = Option<WireField<'a>>;

    fn next(&mut self) -> Option<Self::Item> {
        if self.0.is_empty() {
            return None;
        }
        let field = self.field();
        if field.is_none() {
            self.0 = &[];
        }
        Some(field)
    }
}

impl<'a> Fields<'a> {
    fn field(&mut self) -> Option<WireField<'a>> {
        let tag = self.varint()?;
        let number = u32::try_from(tag >> 3).ok()?;
        let before = self.0;
        let body = match tag & 7 {
            0 => {
                self.varint()?;
                &before[..before.len() - self.0.len()]
            }
            1 => self.take(8)?,
            2 => {
                let length = usize::try_from(self.varint()?).ok()?;
                self.take(length)?
            }
            5 => self.take(4)?,
            // Groups are not used by any of the messages.
            _ => return None,
        };
        Some(WireField { number, body })
    }

    fn varint(&mut self) -> Option<u64> {
        let mut value = 0;
        for shift in (0..64).step_by(7) {
            let (byte, rest) = self.0.split_first()?;
            self.0 = rest;
            value |= u64::from(byte & 0x7f) << shift;
            if byte & 0x80 == 0 {
                return Some(value);
            }
        }
        None
    }

    fn take(&mut self, length: usize) -> Option<&'a [u8]> {
        let (taken, rest) = self.0.split_at_checked(length)?;
        self.0 = rest;
        Some(taken)
    }
}
