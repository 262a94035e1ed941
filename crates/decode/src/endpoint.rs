//! Endpoints of a cluster.

use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;

use arcstr::ArcStr;
use lateen_xds::types::{core, endpoint as pb};

use super::common::{FormatValue, port, struct_path};
use super::workload::Workload;
use super::{DecodeError, Result};
use crate::common::ADDRESS;
use crate::unread::Kind::{Harmless, In, Whole};
use crate::unread::Reads;

/// What the host of an endpoint at a socket in the file system begins with.
const UNIX: &str = "unix:";

/// One endpoint with a name or an address.
#[derive(Debug, Clone)]
pub struct NamedEndpoint {
    /// An address, or a name that DNS is to resolve.
    pub host: String,
    /// Its port; 0 for a Unix socket.
    pub port: u16,
    /// What else is known.
    pub spec: EndpointSpec,
}

/// What is known of an endpoint besides its address.
#[derive(Debug, Clone)]
pub struct EndpointSpec {
    /// Its name, where it has one.
    pub hostname: ArcStr,
    /// Its share among the endpoints of its locality.
    pub weight: u32,
    /// 0 is used first.
    pub priority: u32,
    /// `region/zone/subzone`.
    pub locality: ArcStr,
    /// The share of its locality, where one is given.
    pub locality_weight: Option<u32>,
    /// False for one that takes no traffic.
    pub healthy: bool,
    /// What transport socket matches are compared with.
    pub socket_match: Vec<(String, String)>,
    /// The workload behind it, where the control plane says so.
    pub workload: Option<Arc<Workload>>,
}

impl NamedEndpoint {
    /// Its address, where it is one.
    #[must_use]
    pub fn address(&self) -> Option<SocketAddr> {
        Some(SocketAddr::new(
            self.host.parse::<IpAddr>().ok()?,
            self.port,
        ))
    }

    /// The path of its socket in the file system, where it is at one.
    #[must_use]
    pub fn path(&self) -> Option<&str> {
        self.host.strip_prefix(UNIX)
    }
}

/// All endpoints of an assignment.
///
/// # Errors
/// On endpoints of kinds that are not supported.
pub fn assignment(spec: &pb::ClusterLoadAssignment) -> Result<Vec<NamedEndpoint>> {
    let mut list = Vec::new();
    for group in &spec.endpoints {
        let locality = group.locality.as_ref().map_or_else(ArcStr::new, place);
        for endpoint in &group.lb_endpoints {
            list.push(one(endpoint, group, &locality)?);
        }
    }
    Ok(list)
}

/// A locality as text, `region/zone/sub_zone`.
#[must_use]
pub fn place(locality: &core::Locality) -> ArcStr {
    let core::Locality {
        region,
        zone,
        sub_zone,
    } = locality;
    format!("{region}/{zone}/{sub_zone}").into()
}

fn one(
    spec: &pb::LbEndpoint,
    group: &pb::LocalityLbEndpoints,
    locality: &ArcStr,
) -> Result<NamedEndpoint> {
    let Some(pb::lb_endpoint::HostIdentifier::Endpoint(endpoint)) = &spec.host_identifier else {
        return Err(DecodeError::unsupported("lb_endpoints", "a named endpoint"));
    };
    let address = endpoint
        .address
        .as_ref()
        .and_then(|address| address.address.as_ref());
    let (host, port) = match address {
        // It would be taken for a path.
        Some(core::address::Address::SocketAddress(socket)) if socket.address.starts_with(UNIX) => {
            return Err(DecodeError::new(
                "lb_endpoints.address",
                "a path is the address of a pipe, and of no other socket",
            ));
        }
        Some(core::address::Address::SocketAddress(socket)) => (
            socket.address.clone(),
            port("lb_endpoints.address", socket)?,
        ),
        Some(core::address::Address::Pipe(pipe)) => (format!("{UNIX}{}", pipe.path), 0),
        Some(core::address::Address::EnvoyInternalAddress(_)) => {
            return Err(DecodeError::unsupported(
                "lb_endpoints",
                "an internal address",
            ));
        }
        None => return Err(DecodeError::new("lb_endpoints.address", "is required")),
    };
    let metadata = spec.metadata.as_ref();
    let filter = |name: &str| metadata.and_then(|metadata| metadata.filter_metadata.get(name));
    let socket_match = filter("envoy.transport_socket_match").map_or_else(Vec::new, |fields| {
        let pairs = fields.fields.iter();
        pairs
            .filter_map(|(key, value)| Some((key.clone(), value.text()?.to_owned())))
            .collect()
    });
    let workload = filter("istio")
        .and_then(|fields| struct_path(fields, &["workload"]))
        .and_then(|value| Workload::from_endpoint(value.text()?));
    Ok(NamedEndpoint {
        host,
        port,
        spec: EndpointSpec {
            hostname: endpoint.hostname.as_str().into(),
            weight: spec
                .load_balancing_weight
                .as_ref()
                .map_or(1, |weight| weight.value.max(1)),
            priority: group.priority,
            locality: locality.clone(),
            locality_weight: group
                .load_balancing_weight
                .as_ref()
                .map(|weight| weight.value),
            // UNKNOWN, HEALTHY and DEGRADED take traffic.
            healthy: matches!(spec.health_status, 0 | 1 | 5),
            socket_match,
            workload: workload.map(Arc::new),
        },
    })
}

pub(crate) static ASSIGNMENT: Reads = Reads::of(
    "envoy.config.endpoint.v3.ClusterLoadAssignment",
    &[
        (1, "cluster_name", Harmless),
        (2, "endpoints[]", In(&LOCALITY_ENDPOINTS)),
    ],
);

pub(crate) static LOCALITY_ENDPOINTS: Reads = Reads::of(
    "envoy.config.endpoint.v3.LocalityLbEndpoints",
    &[
        (1, "locality", Whole),
        (2, "lb_endpoints[]", In(&LB_ENDPOINT)),
        (3, "load_balancing_weight", Whole),
        (5, "priority", Whole),
        (9, "metadata", Harmless),
    ],
);

pub(crate) static LB_ENDPOINT: Reads = Reads::of(
    "envoy.config.endpoint.v3.LbEndpoint",
    &[
        (1, "endpoint", In(&ENDPOINT)),
        (2, "health_status", Whole),
        (3, "metadata", Whole),
        (4, "load_balancing_weight", Whole),
        (5, "endpoint_name", Whole),
    ],
);

pub(crate) static ENDPOINT: Reads = Reads::of(
    "envoy.config.endpoint.v3.Endpoint",
    &[
        (1, "address", In(&ADDRESS)),
        (3, "hostname", Whole),
        (5, "observability_name", Harmless),
    ],
);
