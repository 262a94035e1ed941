//! The kinds that the mesh defines, with the names that `kubectl` knows them by.

use serde_json::Value;

pub mod gateway_api;

use crate::{
    Schema, networking as net,
    schema::{Limit, limited},
    security as sec,
    status::{ServiceEntryStatus, Status},
};

/// A custom resource kind.
#[derive(Clone, Copy, Debug)]
pub struct Kind {
    /// API group.
    pub group: &'static str,
    /// Kind, as in `kind:`.
    pub kind: &'static str,
    /// Name in paths.
    pub plural: &'static str,
    /// Singular name.
    pub singular: &'static str,
    /// Abbreviations.
    pub short_names: &'static [&'static str],
    /// Served versions, the preferred (and stored) one first.
    pub versions: &'static [&'static str],
    /// Columns of `kubectl get` beside name and age: title, type, JSON path, description.
    pub columns: &'static [Column],
    schema: fn() -> Value,
}

/// A column of `kubectl get`.
#[derive(Clone, Copy, Debug)]
pub struct Column {
    /// Title.
    pub name: &'static str,
    /// OpenAPI type.
    pub r#type: &'static str,
    /// Where the value is.
    pub path: &'static str,
    /// What the value says.
    pub description: &'static str,
}

impl Kind {
    /// Schema of the spec.
    pub fn spec_schema(&self) -> Value {
        (self.schema)()
    }

    /// Schema of the status.
    pub fn status_schema(&self) -> Value {
        match self.kind {
            _ if self.group == crate::gateway_api::GROUP => gateway_api::status_schema(self.kind),
            "ServiceEntry" => ServiceEntryStatus::schema(),
            _ => Status::schema(),
        }
    }

    /// What tells the kind from all others that the mesh reads: the kind, but for the Gateway of the
    /// Gateway API, which Istio calls `KubernetesGateway` where both are meant.
    pub fn id(&self) -> &'static str {
        match (self.group, self.kind) {
            (crate::gateway_api::GROUP, "Gateway") => "KubernetesGateway",
            _ => self.kind,
        }
    }

    /// Whether its objects are in namespaces.
    pub fn is_namespaced(&self) -> bool {
        !matches!(self.kind, "GatewayClass" | "IngressClass")
    }

    /// `group/version` of the preferred version.
    pub fn api_version(&self) -> String {
        format!("{}/{}", self.group, self.versions[0])
    }
}

/// `networking.istio.io`.
pub const NETWORKING: &str = "networking.istio.io";
/// `security.istio.io`.
pub const SECURITY: &str = "security.istio.io";
/// `telemetry.istio.io`.
pub const TELEMETRY: &str = "telemetry.istio.io";
/// `extensions.istio.io`.
pub const EXTENSIONS: &str = "extensions.istio.io";

const ALL_VERSIONS: &[&str] = &["v1", "v1beta1", "v1alpha3"];

const fn column(
    name: &'static str,
    r#type: &'static str,
    path: &'static str,
    description: &'static str,
) -> Column {
    Column {
        name,
        r#type,
        path,
        description,
    }
}

/// An entry of its own has an address; one that is a template has none.
fn workload_entry() -> Value {
    let address = Limit::Rule(net::HAS_ADDRESS, "Address is required");
    let ports = Limit::Rule(
        net::PORT_NAMES,
        "Invalid value: a port name has letters, digits and dashes",
    );
    limited(net::WorkloadEntry::schema(), &[address, ports])
}

fn anything() -> Value {
    serde_json::json!({"type": "object", "x-kubernetes-preserve-unknown-fields": true})
}

const fn net(
    kind: &'static str,
    plural: &'static str,
    singular: &'static str,
    short_names: &'static [&'static str],
    columns: &'static [Column],
    schema: fn() -> Value,
) -> Kind {
    Kind {
        group: NETWORKING,
        kind,
        plural,
        singular,
        short_names,
        versions: ALL_VERSIONS,
        columns,
        schema,
    }
}

const fn sec(
    kind: &'static str,
    plural: &'static str,
    singular: &'static str,
    short_names: &'static [&'static str],
    columns: &'static [Column],
    schema: fn() -> Value,
) -> Kind {
    Kind {
        group: SECURITY,
        kind,
        plural,
        singular,
        short_names,
        versions: &["v1", "v1beta1"],
        columns,
        schema,
    }
}

/// VirtualService.
pub const VIRTUAL_SERVICE: Kind = net(
    "VirtualService",
    "virtualservices",
    "virtualservice",
    &["vs"],
    &[
        column(
            "Gateways",
            "string",
            ".spec.gateways",
            "Gateways and sidecars that apply these routes",
        ),
        column(
            "Hosts",
            "string",
            ".spec.hosts",
            "Hosts that traffic is addressed to",
        ),
    ],
    net::VirtualService::schema,
);
/// DestinationRule.
pub const DESTINATION_RULE: Kind = net(
    "DestinationRule",
    "destinationrules",
    "destinationrule",
    &["dr"],
    &[column(
        "Host",
        "string",
        ".spec.host",
        "Service that the rule is for",
    )],
    net::DestinationRule::schema,
);
/// Gateway.
pub const GATEWAY: Kind = net(
    "Gateway",
    "gateways",
    "gateway",
    &["gw"],
    &[],
    net::Gateway::schema,
);
/// ServiceEntry.
pub const SERVICE_ENTRY: Kind = net(
    "ServiceEntry",
    "serviceentries",
    "serviceentry",
    &["se"],
    &[
        column("Hosts", "string", ".spec.hosts", "Names of the service"),
        column(
            "Location",
            "string",
            ".spec.location",
            "In the mesh or outside",
        ),
        column(
            "Resolution",
            "string",
            ".spec.resolution",
            "Where endpoints come from",
        ),
    ],
    net::ServiceEntry::schema,
);
/// Sidecar.
pub const SIDECAR: Kind = net(
    "Sidecar",
    "sidecars",
    "sidecar",
    &[],
    &[],
    net::Sidecar::schema,
);
/// WorkloadEntry.
pub const WORKLOAD_ENTRY: Kind = net(
    "WorkloadEntry",
    "workloadentries",
    "workloadentry",
    &["we"],
    &[
        column(
            "Age",
            "date",
            ".metadata.creationTimestamp",
            "Time since the object was made",
        ),
        column(
            "Address",
            "string",
            ".spec.address",
            "Address of the workload",
        ),
    ],
    workload_entry,
);
/// WorkloadGroup.
pub const WORKLOAD_GROUP: Kind = net(
    "WorkloadGroup",
    "workloadgroups",
    "workloadgroup",
    &["wg"],
    &[],
    net::WorkloadGroup::schema,
);
/// EnvoyFilter.
pub const ENVOY_FILTER: Kind = Kind {
    group: NETWORKING,
    kind: "EnvoyFilter",
    plural: "envoyfilters",
    singular: "envoyfilter",
    short_names: &[],
    versions: &["v1alpha3"],
    columns: &[],
    schema: net::EnvoyFilter::schema,
};
/// ProxyConfig.
pub const PROXY_CONFIG: Kind = Kind {
    group: NETWORKING,
    kind: "ProxyConfig",
    plural: "proxyconfigs",
    singular: "proxyconfig",
    short_names: &[],
    versions: &["v1beta1"],
    columns: &[],
    schema: net::ProxyConfig::schema,
};
/// PeerAuthentication.
pub const PEER_AUTHENTICATION: Kind = sec(
    "PeerAuthentication",
    "peerauthentications",
    "peerauthentication",
    &["pa"],
    &[column(
        "Mode",
        "string",
        ".spec.mtls.mode",
        "Transport security that is accepted",
    )],
    sec::PeerAuthentication::schema,
);
/// AuthorizationPolicy.
pub const AUTHORIZATION_POLICY: Kind = sec(
    "AuthorizationPolicy",
    "authorizationpolicies",
    "authorizationpolicy",
    &["ap"],
    &[column(
        "Action",
        "string",
        ".spec.action",
        "What a match means",
    )],
    sec::AuthorizationPolicy::schema,
);
/// RequestAuthentication.
pub const REQUEST_AUTHENTICATION: Kind = sec(
    "RequestAuthentication",
    "requestauthentications",
    "requestauthentication",
    &["ra"],
    &[],
    sec::RequestAuthentication::schema,
);
/// Telemetry.
pub const TELEMETRY_KIND: Kind = Kind {
    group: TELEMETRY,
    kind: "Telemetry",
    plural: "telemetries",
    singular: "telemetry",
    short_names: &["telemetry"],
    versions: &["v1", "v1alpha1"],
    columns: &[],
    schema: anything,
};
/// WasmPlugin.
pub const WASM_PLUGIN: Kind = Kind {
    group: EXTENSIONS,
    kind: "WasmPlugin",
    plural: "wasmplugins",
    singular: "wasmplugin",
    short_names: &[],
    versions: &["v1alpha1"],
    columns: &[],
    schema: anything,
};
/// TrafficExtension.
pub const TRAFFIC_EXTENSION: Kind = Kind {
    group: EXTENSIONS,
    kind: "TrafficExtension",
    plural: "trafficextensions",
    singular: "trafficextension",
    short_names: &[],
    versions: &["v1alpha1"],
    columns: &[],
    schema: anything,
};

/// All kinds, in the order in which their CRDs are applied.
pub const ALL: [Kind; 15] = [
    VIRTUAL_SERVICE,
    DESTINATION_RULE,
    GATEWAY,
    SERVICE_ENTRY,
    SIDECAR,
    WORKLOAD_ENTRY,
    WORKLOAD_GROUP,
    ENVOY_FILTER,
    PROXY_CONFIG,
    PEER_AUTHENTICATION,
    AUTHORIZATION_POLICY,
    REQUEST_AUTHENTICATION,
    TELEMETRY_KIND,
    WASM_PLUGIN,
    TRAFFIC_EXTENSION,
];

/// The kind of a document, by `apiVersion` and `kind`; `None` when the mesh does not define it.
pub fn find(api_version: &str, kind: &str) -> Option<&'static Kind> {
    const ALL_REF: &[Kind; 15] = &ALL;
    let (group, version) = api_version.split_once('/')?;
    ALL_REF
        .iter()
        .find(|k| k.group == group && k.kind == kind && k.versions.contains(&version))
}
