//! Gateway: what a proxy at the edge listens on.

use std::collections::BTreeMap;

use crate::schema::{enumeration, message};

message! {
    /// Listeners of the proxies that the selector picks.
    pub struct Gateway where [Limit::Required(&["servers"])] {
        /// Listeners.
        pub servers: Vec<Server> where [Limit::MinItems(1), Limit::MaxItems(1024)],
        /// Labels of gateway pods.
        pub selector: BTreeMap<String, String>,
    }

    /// One listener.
    pub struct Server where [
        Limit::Required(&["port", "hosts"]),
        Limit::Rule(
            "!has(self.port) || !has(self.port.protocol) || \
             !(self.port.protocol in ['HTTPS', 'TLS']) || has(self.tls)",
            "HTTPS and TLS need TLS settings",
        ),
    ] {
        /// Port and protocol.
        pub port: Option<Port>,
        /// Address to listen on; empty is all.
        pub bind: String,
        /// `namespace/host` or `host`.
        pub hosts: Vec<String> where [
            Limit::MinItems(1),
            Limit::MaxItems(1024),
            Limit::Each(&[Limit::MaxLength(512)]),
        ],
        /// How the connection is secured.
        pub tls: Option<ServerTlsSettings>,
        /// Not used by gateways; kept for Sidecar.
        pub default_endpoint: String,
        /// For logs and metrics.
        pub name: String,
    }

    /// A port that is listened on.
    pub struct Port {
        /// 1 to 65535.
        pub number: u32 where [Limit::Max(65535)],
        /// HTTP, HTTPS, GRPC, HTTP2, MONGO, TCP or TLS.
        pub protocol: String where [Limit::MaxLength(64)],
        /// Label of the port.
        pub name: String,
        /// Deprecated and without effect here.
        pub target_port: Option<u32>,
    }

    /// How a listener is secured.
    pub struct ServerTlsSettings {
        /// Answer plain requests with a 301 to HTTPS.
        pub https_redirect: bool,
        /// Which kind.
        pub mode: Option<ServerTlsMode>,
        /// File.
        pub server_certificate: String,
        /// File.
        pub private_key: String,
        /// File, for MUTUAL.
        pub ca_certificates: String,
        /// File with revoked certificates.
        pub ca_crl: String,
        /// Secret with the above.
        pub credential_name: String,
        /// Several secrets, for several key types.
        pub credential_names: Vec<String>,
        /// Secret with the client roots alone.
        pub ca_cert_credential_name: String,
        /// Several pairs of files.
        pub tls_certificates: Vec<TlsCertificate>,
        /// Names that the client's certificate must have one of.
        pub subject_alt_names: Vec<String>,
        /// Base64 SHA-256 of allowed client keys.
        pub verify_certificate_spki: Vec<String>,
        /// Hex SHA-256 of allowed client certificates.
        pub verify_certificate_hash: Vec<String>,
        /// Least version.
        pub min_protocol_version: TlsProtocol,
        /// Greatest version.
        pub max_protocol_version: TlsProtocol,
        /// Names as OpenSSL has them.
        pub cipher_suites: Vec<String>,
        /// Key agreement groups.
        pub ecdh_curves: Vec<String>,
        /// Do not verify the client, for tests.
        pub insecure_skip_verify: Option<bool>,
    }

    /// A pair of files.
    pub struct TlsCertificate {
        /// Certificate chain.
        pub server_certificate: String,
        /// Key.
        pub private_key: String,
        /// Roots for client certificates.
        pub ca_certificates: String,
    }
}

enumeration! {
    /// How a listener is secured.
    pub enum ServerTlsMode {
        /// Not terminated here; routed by SNI.
        Passthrough = "PASSTHROUGH",
        /// Server certificate.
        Simple = "SIMPLE",
        /// Client certificate required.
        Mutual = "MUTUAL",
        /// Routed by SNI that names the destination; for gateways between networks.
        AutoPassthrough = "AUTO_PASSTHROUGH",
        /// The mesh's certificates on both sides.
        IstioMutual = "ISTIO_MUTUAL",
        /// Client certificate verified if sent.
        OptionalMutual = "OPTIONAL_MUTUAL",
    }

    /// TLS version.
    pub enum TlsProtocol {
        /// The default: 1.2 up.
        Auto = "TLS_AUTO",
        /// 1.0, not supported by the data plane.
        V1_0 = "TLSV1_0",
        /// 1.1, not supported by the data plane.
        V1_1 = "TLSV1_1",
        /// 1.2.
        V1_2 = "TLSV1_2",
        /// 1.3.
        V1_3 = "TLSV1_3",
    }
}

/// The name that stands for all sidecars where Gateways are named.
pub const MESH_GATEWAY: &str = "mesh";

/// A Gateway as a VirtualService of `namespace` names it, in the form `namespace/name`;
/// [`MESH_GATEWAY`] stays as it is. Beside `name` and `namespace/name` there are `./name` and, from
/// Istio's beginnings, a DNS name such as `name.namespace.svc.cluster.local`.
pub fn gateway_key(name: &str, namespace: &str) -> String {
    if name == MESH_GATEWAY {
        return name.to_owned();
    }
    match name.split_once('/') {
        Some((".", name)) => format!("{namespace}/{name}"),
        Some(_) => name.to_owned(),
        None => {
            let mut labels = name.split('.');
            let name = labels.next().unwrap_or_default();
            format!("{}/{name}", labels.next().unwrap_or(namespace))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_of_gateways() {
        for (name, want) in [
            ("mesh", "mesh"),
            ("gw", "ns/gw"),
            ("./gw", "ns/gw"),
            ("other/gw", "other/gw"),
            ("gw.other", "other/gw"),
            ("gw.other.svc.cluster.local", "other/gw"),
        ] {
            assert_eq!(gateway_key(name, "ns"), want);
        }
    }
}
