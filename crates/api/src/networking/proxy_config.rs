//! ProxyConfig: what the proxies of a namespace or workload start with.

use std::collections::BTreeMap;

use crate::{schema::message, security::LabelSelector};

message! {
    /// Overrides the mesh's defaults for the proxies that are picked.
    pub struct ProxyConfig {
        /// Whose; none is the whole namespace, or the mesh in the root namespace.
        pub selector: Option<LabelSelector>,
        /// Worker threads; unset is by CPU limit, zero all cores.
        pub concurrency: Option<i32> where [Limit::Min(0)],
        /// Added to the proxy's environment.
        pub environment_variables: BTreeMap<String, String> where [Limit::MaxItems(1024)],
        /// Which image.
        pub image: Option<ProxyImage>,
    }

    /// Which image of the proxy.
    pub struct ProxyImage {
        /// `default`, `debug` or `distroless`; others are appended to the tag.
        pub image_type: String,
    }
}
