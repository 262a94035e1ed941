//! Clusters towards the application beside the proxy.

use lateen_core::Protocol;
use lateen_xds::names::{self, ClusterName};
use lateen_xds::types::cluster::Cluster;
use lateen_xds::types::cluster::cluster::{ClusterDiscoveryType, DiscoveryType, LbPolicy};
use lateen_xds::types::core::{BindConfig, SocketAddress, address};

use super::settings;
use crate::policy::Policy;
use crate::wire;

/// The source of connections to the application: the capture rules know by it that they come from
/// the proxy and must not be captured again.
const FROM_PROXY: &str = "127.0.0.6";

/// All that an inbound cluster is made from.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(crate) struct InboundKey {
    /// The application's port; `None` for all that no service names.
    pub(crate) port: Option<u16>,
    pub(crate) protocol: Protocol,
    pub(crate) connect_timeout: lateen_api::Duration,
    /// Host, name and namespace of the services that lead here, for telemetry.
    pub(crate) services: Vec<[String; 3]>,
}

impl InboundKey {
    pub(crate) fn name(&self) -> String {
        match self.port {
            Some(port) => ClusterName::inbound(port).to_string(),
            None => names::INBOUND_PASSTHROUGH_CLUSTER.to_owned(),
        }
    }

    pub(crate) fn generate(&self) -> Cluster {
        let mut cluster = Cluster {
            name: self.name(),
            cluster_discovery_type: Some(ClusterDiscoveryType::Type(
                DiscoveryType::OriginalDst.into(),
            )),
            lb_policy: LbPolicy::ClusterProvided.into(),
            connect_timeout: Some(wire::duration(self.connect_timeout)),
            upstream_bind_config: Some(from_proxy()),
            ..Cluster::default()
        };
        settings::apply(&mut cluster, &Policy::default(), self.protocol);
        if !self.services.is_empty() {
            let service = |[host, name, namespace]: &[String; 3]| {
                wire::structure(wire::record([
                    ("host", wire::text(host)),
                    ("name", wire::text(name)),
                    ("namespace", wire::text(namespace)),
                ]))
            };
            let services = wire::list(self.services.iter().map(service).collect());
            let istio = wire::record([("services", services)]);
            cluster.metadata = Some(wire::metadata([("istio", istio)]));
        }
        cluster
    }
}

fn from_proxy() -> BindConfig {
    let source = match wire::socket_address(FROM_PROXY, 0).address {
        Some(address::Address::SocketAddress(source)) => source,
        _ => SocketAddress::default(),
    };
    BindConfig {
        source_address: Some(source),
        ..BindConfig::default()
    }
}
