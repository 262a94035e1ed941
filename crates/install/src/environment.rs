//! Variables of the control plane's environment. Whoever sets one that Istio's control plane reads relies
//! on it, and is told where nothing reads it here.

/// What the control plane reads.
const READ: &[&str] = &[
    "CLUSTER_ID",
    "CONSUL_HTTP_TOKEN",
    "DEFAULT_WORKLOAD_CERT_TTL",
    "ENABLE_DEBUG_ON_HTTP",
    "ENABLE_NATIVE_SIDECARS",
    "ISTIOD_CUSTOM_HOST",
    "MAX_WORKLOAD_CERT_TTL",
    "PILOT_ENABLE_ANALYSIS",
    "PILOT_ENABLE_GATEWAY_API",
    "PILOT_ENABLE_GATEWAY_API_DEPLOYMENT_CONTROLLER",
    "PILOT_ENABLE_GATEWAY_API_GATEWAYCLASS_CONTROLLER",
    "PILOT_ENABLE_GATEWAY_API_STATUS",
    "PILOT_ENABLE_WORKLOAD_ENTRY_AUTOREGISTRATION",
    "PILOT_WORKLOAD_ENTRY_GRACE_PERIOD",
    "POD_NAME",
    "POD_NAMESPACE",
    "REVISION",
    "TOKEN_AUDIENCES",
    "TRUST_DOMAIN",
    "UNSAFE_ENABLE_ADMIN_ENDPOINTS",
];

/// What is so whatever they say, and with which value they say so.
const FIXED: &[(&str, &str)] = &[
    ("AUTO_RELOAD_PLUGIN_CERTS", "true"),
    ("ENABLE_CA_SERVER", "true"),
    ("ENABLE_DEBUG_ENDPOINT_AUTH", "true"),
    ("ENABLE_LEADER_ELECTION", "true"),
    ("EXTERNAL_ISTIOD", "false"),
    ("INJECT_ENABLED", "true"),
    ("ISTIO_DELTA_XDS", "true"),
    ("JWT_POLICY", "third-party-jwt"),
    ("PILOT_CERT_PROVIDER", "istiod"),
    ("PILOT_ENABLE_AMBIENT", "false"),
    ("PILOT_ENABLE_WORKLOAD_ENTRY_HEALTHCHECKS", "true"),
    ("PILOT_ENABLE_XDS_IDENTITY_CHECK", "true"),
    ("PILOT_SEND_UNHEALTHY_ENDPOINTS", "false"),
    ("VALIDATION_ENABLED", "true"),
    ("XDS_AUTH", "true"),
    ("XDS_AUTH_PLAINTEXT", "false"),
];

/// How most variables of Istio's control plane begin.
const BEGINNINGS: &[&str] = &["CITADEL_", "ENABLE_", "INJECTION_", "PILOT_", "VALIDATION_"];

/// Those that begin otherwise.
const OTHERS: &[&str] = &[
    "CA_TRUSTED_NODE_ACCOUNTS",
    "CERT_SIGNER_DOMAIN",
    "COMPLIANCE_POLICY",
    "EXTERNAL_CA",
    "ISTIO_DUAL_STACK",
    "ISTIO_GPRC_MAXRECVMSGSIZE",
    "ISTIO_GPRC_MAXSTREAMS",
    "ISTIO_MULTIROOT_MESH",
    "ISTIO_WATCH_NAMESPACE",
    "JWKS_RESOLVER_INSECURE_SKIP_VERIFY",
    "K8S_INGRESS_NS",
    "K8S_SIGNER",
    "LOCAL_CLUSTER_SECRET_WATCHER",
    "MCS_API_GROUP",
    "MCS_API_VERSION",
    "PREFER_DESTINATIONRULE_TLS_FOR_EXTERNAL_SERVICES",
    "RESOLVE_HOSTNAME_GATEWAYS",
    "ROOT_CA_DIR",
    "SHARED_MESH_CONFIG",
    "SPIFFE_BUNDLE_ENDPOINTS",
    "TOKEN_ISSUER",
    "TRUSTED_GATEWAY_CIDR",
    "USE_CACERTS_FOR_SELF_SIGNED_CA",
    "USE_REMOTE_CERTS",
    "VERIFY_CERTIFICATE_AT_CLIENT",
];

/// Whether a variable means something to Istio's control plane and, with this value, nothing here.
pub fn is_unread(name: &str, value: &str) -> bool {
    if READ.contains(&name) || is_of_service(name) {
        return false;
    }
    if let Some((_, fixed)) = FIXED.iter().find(|(known, _)| *known == name) {
        return match flag(fixed) {
            Some(fixed) => flag(value) != Some(fixed),
            None => value != *fixed,
        };
    }
    OTHERS.contains(&name) || BEGINNINGS.iter().any(|begins| name.starts_with(begins))
}

/// Whether the platform has put it there for a Service: `PILOT_SERVICE_HOST`, `PILOT_PORT_15010_TCP`.
fn is_of_service(name: &str) -> bool {
    name.ends_with("_PORT")
        || ["_SERVICE_HOST", "_SERVICE_PORT", "_PORT_"]
            .iter()
            .any(|part| name.contains(part))
}

/// A switch, as Go reads them.
pub fn flag(text: &str) -> Option<bool> {
    match text {
        "1" | "t" | "T" | "TRUE" | "true" | "True" => Some(true),
        "0" | "f" | "F" | "FALSE" | "false" | "False" => Some(false),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{Installation, Layers};

    #[test]
    fn what_nothing_reads_is_told() {
        let told = |name: &str, value: &str, expect: bool| {
            assert_eq!(is_unread(name, value), expect, "{name}={value}");
        };
        told("PILOT_DEBOUNCE_AFTER", "1s", true);
        told("TRUSTED_GATEWAY_CIDR", "10.0.0.0/8", true);
        told("MAX_WORKLOAD_CERT_TTL", "1h", false);
        told("XDS_AUTH", "1", false);
        told("XDS_AUTH", "false", true);
        told("PILOT_CERT_PROVIDER", "istiod", false);
        told("PILOT_CERT_PROVIDER", "k8s", true);
        told("PILOT_SERVICE_HOST", "10.96.0.1", false);
        told("PILOT_PORT_15010_TCP_ADDR", "10.96.0.1", false);
        told("HTTP_PROXY", "http://proxy", false);
    }

    #[test]
    fn an_installation_tells_its_variables() {
        let file = "apiVersion: install.istio.io/v1alpha1\nkind: IstioOperator\nspec:\n  components:\n    \
                    pilot:\n      k8s:\n        env:\n        - {name: PILOT_DEBOUNCE_MAX, value: 5s}\n        \
                    - {name: PILOT_WORKLOAD_ENTRY_GRACE_PERIOD, value: 5s}\n  values:\n    pilot:\n      env:\n        \
                    ENABLE_CA_SERVER: false\n        MAX_WORKLOAD_CERT_TTL: 1h\n";
        let installation = Installation::of(&Layers {
            files: vec![("f.yaml".into(), file.into())],
            ..Layers::default()
        });
        assert_eq!(
            installation.expect("an installation").warnings(),
            [
                "spec.values.pilot.env.ENABLE_CA_SERVER=false: not supported, has no effect",
                "spec.components.pilot.k8s.env: PILOT_DEBOUNCE_MAX=5s: not supported, has no effect",
            ]
        );
    }
}
