//! Whose services a control plane serves.

/// A platform and its names.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Platform {
    /// The domain of service names, `cluster.local`.
    pub domain: String,
    /// What the cluster is called in the mesh.
    pub cluster: String,
}

/// The name of a cluster that has none of its own.
const CLUSTER: &str = "Kubernetes";

impl<T: Into<String>> From<T> for Platform {
    fn from(domain: T) -> Self {
        Platform {
            domain: domain.into(),
            cluster: CLUSTER.into(),
        }
    }
}
