//! What the control plane knows about one connected proxy, read from its node.

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::sync::Arc;

use lateen_api::mesh::{GatewayTopology, ProxyProtocolConfiguration};
use lateen_core::Labels;
use lateen_xds::types::core::Node;
use lateen_xds::types::wkt::{Struct, value};

/// What a proxy is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Kind {
    /// Beside one workload.
    Sidecar,
    /// At an edge.
    Router,
}

/// How a client reads what it is sent, where that differs from client to client.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub enum Dialect {
    /// Envoy's: a route table is one resource.
    #[default]
    Envoy,
    /// That of this project's proxy: the virtual hosts of all route tables are resources of their
    /// own, each named by its table and itself (`9080/reviews.default.svc.cluster.local:9080`).
    Lateen,
    /// gRPC's own, of a client or server without a proxy: listeners by the name that is dialled, and
    /// the part of Envoy's messages that gRPC reads.
    Grpc,
}

/// The metadata field by which a proxy says that it takes virtual hosts as resources.
const VIRTUAL_HOSTS: &str = "LATEEN_VIRTUAL_HOSTS";

/// The metadata field of this project's proxy.
pub(crate) const OUR_PROXY: &str = "LATEEN_PROXY";

/// The metadata field of an agent's own stream.
const AGENT: &str = "LATEEN_AGENT";

/// The metadata field by which a client asks for another kind of configuration.
const GENERATOR: &str = "GENERATOR";

/// One connected proxy.
#[derive(Clone, Debug, PartialEq)]
pub struct Proxy {
    /// The node id as it came.
    pub id: String,
    /// What it is for.
    pub kind: Kind,
    /// The workload's address.
    pub ip: IpAddr,
    /// The workload's name.
    pub name: String,
    /// The workload's namespace.
    pub namespace: String,
    /// Short names are completed with this (`default.svc.cluster.local`).
    pub dns_domain: String,
    /// The workload's labels, as it says.
    pub labels: Labels,
    /// The workload's service account, as it says; empty when it does not.
    pub service_account: String,
    /// The cluster it says it is in.
    pub cluster_id: String,
    /// How it reads what it is sent.
    pub dialect: Dialect,
    /// What is before it, where its own configuration says so.
    pub topology: Option<GatewayTopology>,
    /// The version of Istio that it says it behaves like.
    pub version: String,
    /// Texts of its metadata, by which EnvoyFilters may choose.
    pub metadata: Arc<BTreeMap<String, String>>,
    /// This project's version of what runs in the pod; empty where something else does.
    pub own_version: String,
    /// The stream is that of the agent beside the proxy, which asks for what is its own.
    pub is_agent: bool,
}

/// Why a node is not a proxy of the mesh.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("node id {0:?} is not of the form sidecar~IP~NAME.NAMESPACE~DOMAIN (or router~…)")]
pub struct NotAProxy(String);

impl Proxy {
    /// Reads a node: `type~ip~name.namespace~domain` and its metadata.
    ///
    /// # Errors
    /// When the id is of another form or names a type that is not served.
    pub fn from_node(node: &Node) -> Result<Proxy, NotAProxy> {
        let err = || NotAProxy(node.id.clone());
        let mut parts = node.id.split('~');
        let mut next = || parts.next().ok_or_else(err);
        let kind = match next()? {
            "sidecar" => Kind::Sidecar,
            "router" => Kind::Router,
            _ => return Err(err()),
        };
        let ip = next()?.parse().map_err(|_| err())?;
        let (name, namespace) = next()?.rsplit_once('.').ok_or_else(err)?;
        let dns_domain = next()?;
        let empty = Struct::default();
        let metadata = node.metadata.as_ref().unwrap_or(&empty);
        let namespace = match string(metadata, "NAMESPACE") {
            "" => namespace,
            namespace => namespace,
        };
        let is_agent = string(metadata, AGENT) == "true";
        let dialect = match string(metadata, VIRTUAL_HOSTS) {
            _ if string(metadata, GENERATOR) == "grpc" => Dialect::Grpc,
            "true" => Dialect::Lateen,
            // As its proxy, so that both are served the same.
            _ if is_agent && string(metadata, OUR_PROXY) == "true" => Dialect::Lateen,
            _ => Dialect::Envoy,
        };
        Ok(Proxy {
            id: node.id.clone(),
            kind,
            ip,
            name: name.to_owned(),
            namespace: namespace.to_owned(),
            dns_domain: dns_domain.to_owned(),
            labels: labels(metadata),
            service_account: string(metadata, "SERVICE_ACCOUNT").to_owned(),
            cluster_id: string(metadata, "CLUSTER_ID").to_owned(),
            dialect,
            topology: topology(metadata),
            version: string(metadata, "ISTIO_VERSION").to_owned(),
            metadata: Arc::new(texts(metadata)),
            own_version: string(metadata, "LATEEN_VERSION").to_owned(),
            is_agent,
        })
    }

    /// Whether it is a gateway.
    pub fn is_router(&self) -> bool {
        self.kind == Kind::Router
    }
}

/// A metadata field; booleans are strings there, and an absent field reads as empty.
fn string<'a>(metadata: &'a Struct, key: &str) -> &'a str {
    match metadata.fields.get(key).and_then(|v| v.kind.as_ref()) {
        Some(value::Kind::StringValue(text)) => text,
        Some(value::Kind::BoolValue(true)) => "true",
        _ => "",
    }
}

fn texts(metadata: &Struct) -> BTreeMap<String, String> {
    let keys = metadata.fields.keys();
    let texts = keys.map(|key| (key.clone(), string(metadata, key).to_owned()));
    texts.filter(|(_, text)| !text.is_empty()).collect()
}

/// Of the proxy's own configuration, which stands in `PROXY_CONFIG`.
fn topology(metadata: &Struct) -> Option<GatewayTopology> {
    let of = |fields: &Struct, key: &str| match &fields.fields.get(key)?.kind {
        Some(value::Kind::StructValue(fields)) => Some(fields.clone()),
        _ => None,
    };
    let own = of(&of(metadata, "PROXY_CONFIG")?, "gatewayTopology")?;
    let value = |key: &str| own.fields.get(key).and_then(|value| value.kind.as_ref());
    let proxies = match value("numTrustedProxies") {
        Some(value::Kind::NumberValue(n)) if *n >= 0.0 => *n as u32,
        _ => 0,
    };
    let details = match value("forwardClientCertDetails") {
        Some(value::Kind::StringValue(name)) => serde_json::Value::from(name.as_str()),
        _ => serde_json::Value::Null,
    };
    Some(GatewayTopology {
        num_trusted_proxies: proxies,
        forward_client_cert_details: serde_json::from_value(details).unwrap_or_default(),
        proxy_protocol: match value("proxyProtocol") {
            Some(value::Kind::StructValue(_)) => Some(ProxyProtocolConfiguration {}),
            _ => None,
        },
    })
}

fn labels(metadata: &Struct) -> Labels {
    let Some(value::Kind::StructValue(fields)) =
        metadata.fields.get("LABELS").and_then(|v| v.kind.as_ref())
    else {
        return Labels::new();
    };
    let label = |(key, value): (&String, &lateen_xds::types::wkt::Value)| match &value.kind {
        Some(value::Kind::StringValue(text)) => Some((key.clone(), text.clone())),
        _ => None,
    };
    fields.fields.iter().filter_map(label).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::wire;

    fn node(id: &str) -> Node {
        let labels = wire::record([("app", wire::text("reviews"))]);
        Node {
            id: id.into(),
            metadata: Some(wire::record([
                (VIRTUAL_HOSTS, wire::text("true")),
                ("LABELS", wire::structure(labels)),
            ])),
            ..Node::default()
        }
    }

    #[test]
    fn reads_id_and_metadata() {
        let id = "sidecar~10.244.0.7~reviews-v1.x-1.default~default.svc.cluster.local";
        let proxy = Proxy::from_node(&node(id)).expect("well formed");
        assert_eq!(
            (proxy.name.as_str(), proxy.namespace.as_str()),
            ("reviews-v1.x-1", "default")
        );
        assert_eq!(proxy.labels.value("app"), Some("reviews"));
        assert_eq!(
            (proxy.dialect, proxy.kind),
            (Dialect::Lateen, Kind::Sidecar)
        );
    }

    #[test]
    fn refuses_other_ids() {
        for id in [
            "",
            "sidecar~x~a.b~c",
            "waypoint~10.0.0.1~a.b~c",
            "sidecar~10.0.0.1~ab~c",
        ] {
            assert!(Proxy::from_node(&node(id)).is_err(), "{id}");
        }
    }
}
