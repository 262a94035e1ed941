//! Kinds that the mesh reads and others define: those of the Gateway API, and Kubernetes' Ingress.

use serde_json::{Value, json};

use super::{Column, Kind, column};
use crate::{
    Schema,
    gateway_api::{self as gw, GROUP},
    ingress,
};

/// Group of Kubernetes' Ingress.
pub const KUBERNETES_NETWORKING: &str = "networking.k8s.io";

const AGE: Column = column(
    "Age",
    "date",
    ".metadata.creationTimestamp",
    "Time since the object was made",
);
const ACCEPTED: Column = column(
    "Accepted",
    "string",
    ".status.conditions[?(@.type==\"Accepted\")].status",
    "Whether it is accepted",
);
const PROGRAMMED: Column = column(
    "Programmed",
    "string",
    ".status.conditions[?(@.type==\"Programmed\")].status",
    "Whether proxies have it",
);
const HOSTNAMES: Column = column("Hostnames", "string", ".spec.hostnames", "Hosts");

const fn kind(
    kind: &'static str,
    names: (&'static str, &'static str, &'static [&'static str]),
    versions: &'static [&'static str],
    columns: &'static [Column],
    schema: fn() -> Value,
) -> Kind {
    let (plural, singular, short_names) = names;
    Kind {
        group: GROUP,
        kind,
        plural,
        singular,
        short_names,
        versions,
        columns,
        schema,
    }
}

/// GatewayClass.
pub const GATEWAY_CLASS: Kind = kind(
    "GatewayClass",
    ("gatewayclasses", "gatewayclass", &["gc"]),
    &["v1", "v1beta1"],
    &[
        column(
            "Controller",
            "string",
            ".spec.controllerName",
            "Who runs it",
        ),
        ACCEPTED,
        AGE,
    ],
    gw::GatewayClass::schema,
);
/// Gateway.
pub const KUBERNETES_GATEWAY: Kind = kind(
    "Gateway",
    ("gateways", "gateway", &["gtw"]),
    &["v1", "v1beta1"],
    &[
        column("Class", "string", ".spec.gatewayClassName", "Its class"),
        column(
            "Address",
            "string",
            ".status.addresses[*].value",
            "Where it is reached",
        ),
        PROGRAMMED,
        AGE,
    ],
    gw::Gateway::schema,
);
/// ListenerSet.
pub const LISTENER_SET: Kind = kind(
    "ListenerSet",
    ("listenersets", "listenerset", &["lset"]),
    &["v1"],
    &[ACCEPTED, PROGRAMMED, AGE],
    gw::ListenerSet::schema,
);
/// HTTPRoute.
pub const HTTP_ROUTE: Kind = kind(
    "HTTPRoute",
    ("httproutes", "httproute", &[]),
    &["v1", "v1beta1"],
    &[HOSTNAMES, AGE],
    gw::HttpRoute::schema,
);
/// GRPCRoute.
pub const GRPC_ROUTE: Kind = kind(
    "GRPCRoute",
    ("grpcroutes", "grpcroute", &[]),
    &["v1"],
    &[HOSTNAMES, AGE],
    gw::GrpcRoute::schema,
);
/// TLSRoute.
pub const TLS_ROUTE: Kind = kind(
    "TLSRoute",
    ("tlsroutes", "tlsroute", &[]),
    &["v1", "v1alpha3", "v1alpha2"],
    &[AGE],
    gw::TlsRoute::schema,
);
/// TCPRoute.
pub const TCP_ROUTE: Kind = kind(
    "TCPRoute",
    ("tcproutes", "tcproute", &[]),
    &["v1", "v1alpha2"],
    &[AGE],
    gw::TcpRoute::schema,
);
/// UDPRoute.
pub const UDP_ROUTE: Kind = kind(
    "UDPRoute",
    ("udproutes", "udproute", &[]),
    &["v1", "v1alpha2"],
    &[AGE],
    gw::UdpRoute::schema,
);
/// ReferenceGrant.
pub const REFERENCE_GRANT: Kind = kind(
    "ReferenceGrant",
    ("referencegrants", "referencegrant", &["refgrant"]),
    &["v1beta1", "v1"],
    &[AGE],
    gw::ReferenceGrant::schema,
);
/// BackendTLSPolicy.
pub const BACKEND_TLS_POLICY: Kind = kind(
    "BackendTLSPolicy",
    ("backendtlspolicies", "backendtlspolicy", &["btlspolicy"]),
    &["v1", "v1alpha3"],
    &[AGE],
    gw::BackendTlsPolicy::schema,
);

/// Kubernetes' Ingress.
pub const INGRESS: Kind = Kind {
    group: KUBERNETES_NETWORKING,
    kind: "Ingress",
    plural: "ingresses",
    singular: "ingress",
    short_names: &["ing"],
    versions: &["v1"],
    columns: &[],
    schema: ingress::Ingress::schema,
};
/// Kubernetes' IngressClass.
pub const INGRESS_CLASS: Kind = Kind {
    group: KUBERNETES_NETWORKING,
    kind: "IngressClass",
    plural: "ingressclasses",
    singular: "ingressclass",
    short_names: &[],
    versions: &["v1"],
    columns: &[],
    schema: ingress::IngressClass::schema,
};

/// The kinds of the Gateway API, in the order in which their CRDs are applied.
pub const ALL: [Kind; 10] = [
    GATEWAY_CLASS,
    KUBERNETES_GATEWAY,
    LISTENER_SET,
    HTTP_ROUTE,
    GRPC_ROUTE,
    TLS_ROUTE,
    TCP_ROUTE,
    UDP_ROUTE,
    REFERENCE_GRANT,
    BACKEND_TLS_POLICY,
];

/// Schema of the status of a kind of the Gateway API.
pub(super) fn status_schema(kind: &str) -> Value {
    match kind {
        "GatewayClass" => gw::GatewayClassStatus::schema(),
        "Gateway" => gw::GatewayStatus::schema(),
        "ListenerSet" => gw::ListenerSetStatus::schema(),
        "BackendTLSPolicy" => gw::PolicyStatus::schema(),
        "ReferenceGrant" => json!({"type": "object"}),
        _ => gw::RouteStatus::schema(),
    }
}
