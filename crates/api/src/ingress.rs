//! Kubernetes' Ingress and IngressClass (`networking.k8s.io/v1`): what of them is read.

use crate::schema::{enumeration, message};

message! {
    /// Routes from an ingress gateway to Services.
    pub struct Ingress {
        /// Name of an IngressClass; unset falls back on annotation `kubernetes.io/ingress.class`.
        pub ingress_class_name: Option<String>,
        /// Where requests go that no rule is for.
        pub default_backend: Option<IngressBackend>,
        /// Hosts with certificates.
        pub tls: Vec<IngressTls>,
        /// Hosts and paths.
        pub rules: Vec<IngressRule>,
    }

    /// Where requests go.
    pub struct IngressBackend {
        /// A Service of the Ingress' namespace.
        pub service: Option<IngressServiceBackend>,
        /// Some other object; not supported.
        pub resource: Option<crate::gateway_api::LocalObjectReference>,
    }

    /// A Service and its port.
    pub struct IngressServiceBackend {
        /// Its name.
        pub name: String,
        /// Its port.
        pub port: Option<ServiceBackendPort>,
    }

    /// A port, by name or number.
    pub struct ServiceBackendPort {
        /// Its name.
        pub name: String,
        /// Its number.
        pub number: u32,
    }

    /// Hosts and their certificate.
    pub struct IngressTls {
        /// Hosts; none is all.
        pub hosts: Vec<String>,
        /// The Secret with the certificate, in the Ingress' namespace.
        pub secret_name: String,
    }

    /// Paths of a host.
    pub struct IngressRule {
        /// The host; empty is all.
        pub host: String,
        /// Its paths.
        pub http: Option<HttpIngressRuleValue>,
    }

    /// Paths.
    pub struct HttpIngressRuleValue {
        /// Paths; the longest that matches wins.
        pub paths: Vec<HttpIngressPath>,
    }

    /// A path and where it leads.
    pub struct HttpIngressPath {
        /// The path.
        pub path: String,
        /// How it is compared.
        pub path_type: IngressPathType,
        /// Where it leads.
        pub backend: Option<IngressBackend>,
    }

    /// Who runs the Ingresses of a class.
    pub struct IngressClass {
        /// Who does.
        pub controller: String,
    }
}

enumeration! {
    /// How a path is compared.
    pub enum IngressPathType {
        /// As a whole, unless it ends in `.*` or `/*`: what stands before is a prefix of characters.
        ImplementationSpecific = "ImplementationSpecific",
        /// As a whole.
        Exact = "Exact",
        /// By its first elements.
        Prefix = "Prefix",
    }
}
