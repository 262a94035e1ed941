//! An encoded resource and its version.

use std::collections::BTreeSet;
use std::hash::{DefaultHasher, Hasher};

use arcstr::ArcStr;
use prost::{Message, Name};

use crate::Any;
use crate::canonical::canonical;

/// One resource, encoded once and shared by all clients that see it.
#[derive(Clone, Debug, PartialEq)]
pub struct Resource {
    /// Its name, unique in its type.
    pub name: ArcStr,
    /// A hash of its content: equal content has an equal version, also after a restart.
    pub version: ArcStr,
    /// Its encoding.
    pub body: Any,
}

impl Resource {
    /// Encodes a message.
    pub fn new<M: Message + Name>(name: impl Into<ArcStr>, message: &M) -> Self {
        let bytes = canonical(&M::full_name(), &message.encode_to_vec());
        // The default hasher has fixed keys, so that the version is the same in every process.
        let mut hasher = DefaultHasher::new();
        hasher.write(&bytes);
        Resource {
            name: name.into(),
            version: ArcStr::from(format!("{:016x}", hasher.finish())),
            body: Any {
                type_url: M::type_url(),
                value: bytes,
            },
        }
    }
}

/// Which resources of a type a client asks for.
#[derive(Clone, Copy, Debug)]
pub enum Names<'a> {
    /// All that there are, and these by name.
    All(&'a BTreeSet<String>),
    /// These only.
    Only(&'a BTreeSet<String>),
}

impl Names<'_> {
    /// Whether this asks for everything of a type, or for a name.
    pub fn contains(&self, name: &str) -> bool {
        match self {
            Names::All(_) => true,
            Names::Only(names) => names.contains(name),
        }
    }
}
