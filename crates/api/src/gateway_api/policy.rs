//! ReferenceGrant and BackendTLSPolicy: who may refer to what, and how backends are trusted.

use std::collections::BTreeMap;

use super::LocalObjectReference;
use crate::schema::{enumeration, message};

message! {
    /// Lets objects of other namespaces refer to those of its own.
    pub struct ReferenceGrant where [Limit::Required(&["from", "to"])] {
        /// Who may.
        pub from: Vec<ReferenceGrantFrom> where [Limit::MinItems(1), Limit::MaxItems(16)],
        /// To what.
        pub to: Vec<ReferenceGrantTo> where [Limit::MinItems(1), Limit::MaxItems(16)],
    }

    /// Who may refer.
    pub struct ReferenceGrantFrom where [Limit::Required(&["group", "kind", "namespace"])] {
        /// API group; empty is core.
        pub group: Option<String> where [Limit::MaxLength(253)],
        /// Kind.
        pub kind: String where [Limit::MinLength(1), Limit::MaxLength(63)],
        /// Namespace.
        pub namespace: String where [Limit::MinLength(1), Limit::MaxLength(63)],
    }

    /// To what.
    pub struct ReferenceGrantTo where [Limit::Required(&["group", "kind"])] {
        /// API group; empty is core.
        pub group: Option<String> where [Limit::MaxLength(253)],
        /// Kind.
        pub kind: String where [Limit::MinLength(1), Limit::MaxLength(63)],
        /// Name; unset is all.
        pub name: Option<String> where [Limit::MinLength(1), Limit::MaxLength(253)],
    }

    /// TLS from gateways to backends.
    pub struct BackendTlsPolicy where [Limit::Required(&["targetRefs", "validation"])] {
        /// Which backends.
        pub target_refs: Vec<PolicyTargetReference> where [Limit::MinItems(1), Limit::MaxItems(16)],
        /// How they are trusted.
        pub validation: Option<BackendTlsPolicyValidation>,
        /// Settings of the implementation.
        pub options: BTreeMap<String, String> where [Limit::MaxItems(16)],
    }

    /// What a policy is attached to.
    pub struct PolicyTargetReference where [Limit::Required(&["group", "kind", "name"])] {
        /// API group; empty is core.
        pub group: Option<String> where [Limit::MaxLength(253)],
        /// Kind.
        pub kind: String where [Limit::MinLength(1), Limit::MaxLength(63)],
        /// Name.
        pub name: String where [Limit::MinLength(1), Limit::MaxLength(253)],
        /// A port's name; unset is all.
        pub section_name: Option<String> where [Limit::MinLength(1), Limit::MaxLength(253)],
    }

    /// How a backend is trusted.
    pub struct BackendTlsPolicyValidation where [
        Limit::Required(&["hostname"]),
        Limit::Rule(
            "!(has(self.caCertificateRefs) && size(self.caCertificateRefs) > 0 && \
             has(self.wellKnownCACertificates) && self.wellKnownCACertificates != '')",
            "must not contain both caCertificateRefs and wellKnownCACertificates",
        ),
        Limit::Rule(
            "(has(self.caCertificateRefs) && size(self.caCertificateRefs) > 0) || \
             (has(self.wellKnownCACertificates) && self.wellKnownCACertificates != '')",
            "must specify either caCertificateRefs or wellKnownCACertificates",
        ),
    ] {
        /// Roots: ConfigMaps with `ca.crt`.
        pub ca_certificate_refs: Vec<LocalObjectReference> where [Limit::MaxItems(8)],
        /// `System` for those of the machine. (Spelt so that the field is `wellKnownCACertificates`.)
        pub well_known_c_a_certificates: Option<String> where [Limit::MaxLength(253)],
        /// SNI, and the name in the certificate unless others are given.
        pub hostname: String where [Limit::MinLength(1), Limit::MaxLength(253)],
        /// Names of which the certificate has one.
        pub subject_alt_names: Vec<SubjectAltName> where [Limit::MaxItems(5)],
    }

    /// A name in a certificate.
    pub struct SubjectAltName where [Limit::Required(&["type"])] {
        /// Which of the fields is set.
        pub r#type: SubjectAltNameType,
        /// A DNS name.
        pub hostname: Option<String> where [Limit::MaxLength(253)],
        /// A URI, as of SPIFFE.
        pub uri: Option<String> where [Limit::MaxLength(253)],
    }
}

enumeration! {
    /// What a name in a certificate is.
    pub enum SubjectAltNameType {
        /// A DNS name.
        Hostname = "Hostname",
        /// A URI.
        Uri = "URI",
    }
}
