//! Which object of a user is meant, in messages and in sets of changes.

use std::fmt;

use arcstr::ArcStr;

/// Names one object.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct ObjectRef {
    /// Its kind.
    pub kind: &'static str,
    /// Its namespace; empty for what is cluster wide.
    pub namespace: ArcStr,
    /// Its name.
    pub name: ArcStr,
}

impl ObjectRef {
    /// The object of this kind, namespace and name.
    pub fn new(kind: &'static str, namespace: impl AsRef<str>, name: impl AsRef<str>) -> Self {
        Self {
            kind,
            namespace: ArcStr::from(namespace.as_ref()),
            name: ArcStr::from(name.as_ref()),
        }
    }
}

/// `kind namespace/name`.
impl fmt::Display for ObjectRef {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {}/{}", self.kind, self.namespace, self.name)
    }
}
