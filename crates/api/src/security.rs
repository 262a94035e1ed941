//! `security.istio.io`: who may talk to whom, and how they prove who they are.

use std::collections::BTreeMap;

use serde_json::Value;

use crate::schema::{enumeration, message};

message! {
    /// Which transport security servers accept.
    pub struct PeerAuthentication where [
        Limit::Rule(
            "!has(self.portLevelMtls) || self.portLevelMtls.size() == 0 || \
             (has(self.selector) && has(self.selector.matchLabels) && \
             self.selector.matchLabels.size() > 0)",
            "portLevelMtls needs a selector",
        ),
    ] {
        /// Whose; none is the whole namespace, or the mesh in the root namespace.
        pub selector: Option<LabelSelector>,
        /// For all ports.
        pub mtls: Option<MutualTls>,
        /// By port number of the workload; a selector is required.
        pub port_level_mtls: BTreeMap<String, MutualTls> where [
            Limit::MinItems(1),
            Limit::MaxItems(256),
            Limit::Rule(
                "self.all(k, k.size() <= 5 && k.matches('^[0-9]+$') && int(k) >= 1 && \
                 int(k) <= 65535)",
                "a key is the number of a port",
            ),
        ],
    }

    /// A mutual TLS mode.
    pub struct MutualTls {
        /// Which.
        pub mode: MtlsMode,
    }

    /// Picks workloads by labels.
    pub struct LabelSelector {
        /// All of them must match.
        pub match_labels: BTreeMap<String, String> where [
            Limit::MaxItems(256),
            Limit::Rule("self.all(k, !k.contains('*'))", "wildcard is not supported in selector"),
            Limit::Each(&[
                Limit::MaxLength(63),
                Limit::Rule("!self.contains('*')", "wildcard is not supported in selector"),
            ]),
        ],
    }

    /// Refers to an object that a policy is attached to.
    pub struct TargetRef {
        /// API group; empty is core.
        pub group: String,
        /// Kind.
        pub kind: String,
        /// Name.
        pub name: String,
        /// Namespace; must be the policy's own.
        pub namespace: String,
    }

    /// Which requests are allowed.
    pub struct AuthorizationPolicy {
        /// Whose.
        pub selector: Option<LabelSelector>,
        /// Deprecated single form of `targetRefs`.
        pub target_ref: Option<TargetRef>,
        /// What it is attached to.
        pub target_refs: Vec<TargetRef>,
        /// Any of these.
        pub rules: Vec<Rule> where [Limit::MaxItems(512)],
        /// What a match means.
        pub action: AuthorizationAction,
        /// For CUSTOM.
        pub provider: Option<ExtensionProvider>,
    }

    /// An external authorizer, by its name in the mesh configuration.
    pub struct ExtensionProvider {
        /// Its name.
        pub name: String,
    }

    /// All parts must hold; an empty rule always does.
    pub struct Rule {
        /// Any of these sources.
        pub from: Vec<RuleFrom> where [Limit::MaxItems(256)],
        /// Any of these operations.
        pub to: Vec<RuleTo>,
        /// All of these conditions.
        pub when: Vec<Condition>,
    }

    /// Wraps a source.
    pub struct RuleFrom {
        /// The source.
        pub source: Option<Source>,
    }

    /// Wraps an operation.
    pub struct RuleTo {
        /// The operation.
        pub operation: Option<Operation>,
    }

    /// Who asks.
    pub struct Source where [
        Limit::Rule(
            "!has(self.serviceAccounts) || self.serviceAccounts.size() == 0 || \
             ((!has(self.namespaces) || self.namespaces.size() == 0) && \
             (!has(self.principals) || self.principals.size() == 0))",
            "Cannot set serviceAccounts with namespaces or principals",
        ),
    ] {
        /// Peer identities without `spiffe://`.
        pub principals: Vec<String>,
        /// None of these.
        pub not_principals: Vec<String>,
        /// `issuer/subject` of the token.
        pub request_principals: Vec<String>,
        /// None of these.
        pub not_request_principals: Vec<String>,
        /// Peer namespaces.
        pub namespaces: Vec<String>,
        /// None of these.
        pub not_namespaces: Vec<String>,
        /// Peer service accounts, `name` or `namespace/name`.
        pub service_accounts: Vec<String>,
        /// None of these.
        pub not_service_accounts: Vec<String>,
        /// Addresses of the connection.
        pub ip_blocks: Vec<String>,
        /// None of these.
        pub not_ip_blocks: Vec<String>,
        /// Addresses after `X-Forwarded-For` or PROXY protocol.
        pub remote_ip_blocks: Vec<String>,
        /// None of these.
        pub not_remote_ip_blocks: Vec<String>,
        /// Peer trust domains.
        pub trust_domains: Vec<String>,
        /// None of these.
        pub not_trust_domains: Vec<String>,
    }

    /// What is asked.
    pub struct Operation {
        /// Host names.
        pub hosts: Vec<String>,
        /// None of these.
        pub not_hosts: Vec<String>,
        /// Ports.
        pub ports: Vec<String>,
        /// None of these.
        pub not_ports: Vec<String>,
        /// Methods.
        pub methods: Vec<String>,
        /// None of these.
        pub not_methods: Vec<String>,
        /// Paths, with `{*}` and `{**}` templates.
        pub paths: Vec<String>,
        /// None of these.
        pub not_paths: Vec<String>,
    }

    /// A condition on an attribute.
    pub struct Condition {
        /// Name of the attribute.
        pub key: String,
        /// Any of these.
        pub values: Vec<String>,
        /// None of these.
        pub not_values: Vec<String>,
    }

    /// Which tokens are accepted.
    pub struct RequestAuthentication {
        /// Whose.
        pub selector: Option<LabelSelector>,
        /// Deprecated single form of `targetRefs`.
        pub target_ref: Option<TargetRef>,
        /// What it is attached to.
        pub target_refs: Vec<TargetRef>,
        /// Any of these.
        pub jwt_rules: Vec<Value>,
    }
}

enumeration! {
    /// Which transport security a server accepts.
    pub enum MtlsMode {
        /// Inherited from the wider scope.
        Unset = "UNSET",
        /// Plain only.
        Disable = "DISABLE",
        /// Both.
        Permissive = "PERMISSIVE",
        /// Mutual TLS only.
        Strict = "STRICT",
    }

    /// What a match means.
    pub enum AuthorizationAction {
        /// Let through; the rest is refused.
        Allow = "ALLOW",
        /// Refuse.
        Deny = "DENY",
        /// Record.
        Audit = "AUDIT",
        /// Ask the provider.
        Custom = "CUSTOM",
    }
}
