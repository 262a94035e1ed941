//! On which line of a document a field stands.

use std::{fmt, sync::OnceLock};

use serde::{
    Deserialize, Deserializer,
    de::{MapAccess, SeqAccess, Visitor},
};
use serde_saphyr::Spanned;

/// The line, counted from 1, of the field that a path such as `spec.http[0].match` names; where it is
/// not there, of the innermost part of the path that is.
pub fn line_of(text: &str, path: &str) -> Option<usize> {
    Lines::new(text).line_of(path)
}

/// A document that is asked for several fields, and read once for all of them.
pub struct Lines {
    text: Box<str>,
    root: OnceLock<Option<Node>>,
}

impl Lines {
    /// Of a text, which is read when a field is asked for.
    pub fn new(text: &str) -> Lines {
        Lines {
            text: text.into(),
            root: OnceLock::new(),
        }
    }

    /// As [`line_of`] does.
    pub fn line_of(&self, path: &str) -> Option<usize> {
        let root = self
            .root
            .get_or_init(|| serde_saphyr::from_str(&self.text).ok());
        let mut node = root.as_ref()?;
        let mut line = None;
        for step in steps(path) {
            let Some((at, next)) = node.step(step) else {
                break;
            };
            line = usize::try_from(at).ok().filter(|at| *at > 0).or(line);
            node = next;
        }
        line
    }
}

impl fmt::Debug for Lines {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Lines").field(&self.text).finish()
    }
}

/// `a.b[0]` as `a`, `b`, `[0]`; what stands in brackets may have dots.
fn steps(path: &str) -> Vec<&str> {
    let mut steps = Vec::new();
    let mut rest = path;
    while !rest.is_empty() {
        let end = match rest.strip_prefix('[') {
            Some(inner) => inner.find(']').map_or(rest.len(), |at| at + 2),
            None => rest.find(['.', '[']).unwrap_or(rest.len()),
        };
        steps.extend(Some(&rest[..end]).filter(|step| !step.is_empty()));
        rest = rest[end..].trim_start_matches('.');
    }
    steps
}

/// A document, of which only the places are of interest.
enum Node {
    Map(Vec<(Spanned<String>, Node)>),
    List(Vec<Spanned<Node>>),
    Leaf,
}

impl Node {
    /// A part of it and the line where that begins.
    fn step(&self, step: &str) -> Option<(u64, &Node)> {
        match self {
            Node::Map(fields) => {
                // `headers[end-user]` is how messages name an entry.
                let entry = step.strip_prefix('[').and_then(|of| of.strip_suffix(']'));
                let name = entry.unwrap_or(step);
                let mut fields = fields.iter();
                let (key, value) = fields.find(|(key, _)| key.value == name)?;
                Some((key.referenced.line(), value))
            }
            Node::List(items) => {
                let index = step.strip_prefix('[')?.strip_suffix(']')?;
                let item = items.get(index.parse::<usize>().ok()?)?;
                Some((item.referenced.line(), &item.value))
            }
            Node::Leaf => None,
        }
    }
}

impl<'de> Deserialize<'de> for Node {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(Places)
    }
}

struct Places;

macro_rules! leaves {
    ($($visit:ident: $of:ty),* $(,)?) => {
        $(fn $visit<E>(self, _: $of) -> Result<Node, E> {
            Ok(Node::Leaf)
        })*
    };
}

impl<'de> Visitor<'de> for Places {
    type Value = Node;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a document")
    }

    leaves! {
        visit_bool: bool, visit_i64: i64, visit_u64: u64, visit_f64: f64, visit_str: &str,
    }

    fn visit_unit<E>(self) -> Result<Node, E> {
        Ok(Node::Leaf)
    }

    fn visit_none<E>(self) -> Result<Node, E> {
        Ok(Node::Leaf)
    }

    fn visit_some<D: Deserializer<'de>>(self, deserializer: D) -> Result<Node, D::Error> {
        deserializer.deserialize_any(self)
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut items: A) -> Result<Node, A::Error> {
        let mut list = Vec::new();
        while let Some(item) = items.next_element()? {
            list.push(item);
        }
        Ok(Node::List(list))
    }

    fn visit_map<A: MapAccess<'de>>(self, mut fields: A) -> Result<Node, A::Error> {
        let mut map = Vec::new();
        while let Some(field) = fields.next_entry()? {
            map.push(field);
        }
        Ok(Node::Map(map))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn paths_have_lines() {
        let text = "kind: X\nspec:\n  hosts:\n  - a\n  - b\n  http: [{match: [],\n    route:\n      null}]\n  # note\n  n: 5\n";
        let check = |path: &str, want: Option<usize>| {
            assert_eq!(line_of(text, path), want, "{path}");
        };
        check("kind", Some(1));
        check("spec", Some(2));
        check("spec.hosts", Some(3));
        check("spec.hosts[1]", Some(5));
        check("spec.http[0].route", Some(7));
        check("spec.http[0].route[0].weight", Some(7));
        check("spec.n", Some(10));
        check("spec[hosts][1]", Some(5));
        check("spec.missing", Some(2));
        check("metadata.name", None);
        check("", None);
        assert_eq!(line_of("{\"a\":\n {\"b\": 1}}", "a.b"), Some(2), "JSON too");
        assert_eq!(line_of("a: [", "a"), None);
        let text = "metadata:\n  annotations:\n    x: y\n    a.b/c: d\n";
        let named = line_of(text, "metadata.annotations[a.b/c]");
        assert_eq!(named, Some(4), "names with dots");
    }
}
