//! The sample's manifests, for whoever has no copy of the repository at hand.

/// A file of `samples/bookinfo`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Manifest {
    /// Its path below `samples/bookinfo`.
    pub path: &'static str,
    /// Its text.
    pub yaml: &'static str,
}

macro_rules! manifests {
    ($($path:literal),* $(,)?) => {
        /// Every manifest of the sample, the application itself first.
        pub const MANIFESTS: &[Manifest] = &[$(Manifest {
            path: $path,
            yaml: include_str!(concat!("../../../samples/bookinfo/", $path)),
        }),*];
    };
}

manifests![
    "platform/kube/bookinfo.yaml",
    "networking/bookinfo-gateway.yaml",
    "networking/destination-rule-all.yaml",
    "networking/destination-rule-all-mtls.yaml",
    "networking/destination-rule-reviews.yaml",
    "networking/virtual-service-all-v1.yaml",
    "networking/virtual-service-ratings-test-abort.yaml",
    "networking/virtual-service-ratings-test-delay.yaml",
    "networking/virtual-service-reviews-50-v3.yaml",
    "networking/virtual-service-reviews-80-20.yaml",
    "networking/virtual-service-reviews-90-10.yaml",
    "networking/virtual-service-reviews-jason-v2-v3.yaml",
    "networking/virtual-service-reviews-test-v2.yaml",
    "networking/virtual-service-reviews-v2-v3.yaml",
    "networking/virtual-service-reviews-v3.yaml",
];

/// The text of the manifest with this path or file name.
#[must_use]
pub fn manifest(name: &str) -> Option<&'static str> {
    let found = MANIFESTS
        .iter()
        .find(|manifest| manifest.path == name || manifest.path.rsplit('/').next() == Some(name));
    found.map(|manifest| manifest.yaml)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn manifests_are_found_by_path_and_by_name() {
        let name = "virtual-service-all-v1.yaml";
        assert!(manifest(name).is_some_and(|yaml| yaml.contains("VirtualService")));
        assert_eq!(manifest(name), manifest(&format!("networking/{name}")));
        assert_eq!(manifest("other.yaml"), None);
    }
}
