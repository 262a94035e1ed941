//! Which service is meant, in all namespaces.

use std::fmt;

use arcstr::ArcStr;

use crate::Hostname;

/// Names a service of the mesh. One host name in two namespaces is two services, each with its own
/// visibility. The order is by host name first, so that in a sorted map all services of one name
/// stand side by side.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct ServiceId {
    /// Full host name.
    pub hostname: Hostname,
    /// Namespace of the object that declares it.
    pub namespace: ArcStr,
}

impl ServiceId {
    /// The service of that name which that namespace declares.
    pub fn new(namespace: impl AsRef<str>, hostname: impl Into<Hostname>) -> Self {
        Self {
            hostname: hostname.into(),
            namespace: ArcStr::from(namespace.as_ref()),
        }
    }
}

/// `namespace/hostname`, for logs and messages.
impl fmt::Display for ServiceId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.namespace, self.hostname)
    }
}
