//! Route tables (RDS): which request goes to which cluster.

mod action;
mod filters;
mod gateway;
mod headers;
mod inbound;
mod matching;
mod target;
mod virtual_service;

use std::collections::BTreeMap;

use lateen_api::Object;
use lateen_api::mesh::{MeshConfig, MeshOutboundMode};
use lateen_api::networking::{HttpRetry, VirtualService};
use lateen_xds::names::{self, ClusterName};
use lateen_xds::types::route::route::Action;
use lateen_xds::types::route::route_match::PathSpecifier;
use lateen_xds::types::route::{
    DirectResponseAction, Route, RouteConfiguration, RouteMatch, VirtualHost,
};

pub(crate) use gateway::{GatewayHost, GatewayRoutesKey};
pub(crate) use inbound::{retries as inbound_retries, table as inbound_table};
pub(crate) use target::{Target, Targets, destinations};

use crate::shared::Shared;
use crate::snapshot::MESH_GATEWAY;
use crate::wire;

/// A request to a destination that the mesh does not know, where that is refused.
const BAD_GATEWAY: u32 = 502;

/// All that an outbound route table is made from.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(crate) struct OutboundRoutesKey {
    pub(crate) name: String,
    pub(crate) port: u16,
    pub(crate) hosts: Vec<HostKey>,
    /// What happens to hosts that are not listed; `None` where the table is for one service.
    pub(crate) others: Option<Others>,
    pub(crate) client: Client,
}

/// What happens to requests for unknown hosts.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(crate) enum Others {
    Allow,
    Block,
    /// They are sent to this cluster.
    To(String),
}

impl Others {
    /// The cluster that their bytes go to.
    pub(crate) fn cluster(&self) -> &str {
        match self {
            Others::Allow => names::PASSTHROUGH_CLUSTER,
            Others::Block => names::BLACK_HOLE_CLUSTER,
            Others::To(cluster) => cluster,
        }
    }
}

impl From<MeshOutboundMode> for Others {
    fn from(mode: MeshOutboundMode) -> Self {
        match mode {
            MeshOutboundMode::RegistryOnly => Others::Block,
            MeshOutboundMode::AllowAny | MeshOutboundMode::AllowAnyDynamicDns => Others::Allow,
        }
    }
}

/// What routes may depend on about the client.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(crate) struct Client {
    pub(crate) namespace: String,
    /// Labels, where a rule asks for them.
    pub(crate) labels: BTreeMap<String, String>,
    /// The domain of short names in rules.
    pub(crate) domain: String,
    /// The mesh, where it has retries for whatever says nothing of them.
    pub(crate) mesh: Option<Shared<MeshConfig>>,
}

impl Client {
    fn retries(&self) -> Option<&HttpRetry> {
        self.mesh.as_ref()?.default_http_retry_policy.as_ref()
    }
}

/// One virtual host of an outbound table.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(crate) struct HostKey {
    pub(crate) host: String,
    pub(crate) domains: Vec<String>,
    /// Whether the registry has the host, so that there is a default route.
    pub(crate) known: bool,
    pub(crate) rule: Option<Shared<Object<VirtualService>>>,
    pub(crate) targets: Targets,
}

impl OutboundRoutesKey {
    pub(crate) fn generate(&self) -> RouteConfiguration {
        let hosts = self.hosts.iter().map(|host| self.virtual_host(host));
        let others = self.others.as_ref().map(others);
        RouteConfiguration {
            name: self.name.clone(),
            virtual_hosts: hosts.chain(others).collect(),
            validate_clusters: wire::boolean(false),
            max_direct_response_body_size_bytes: wire::number(1 << 20),
            ignore_port_in_host_matching: true,
            ..RouteConfiguration::default()
        }
    }

    fn virtual_host(&self, host: &HostKey) -> VirtualHost {
        let rule = host.rule.as_ref().filter(|rule| !rule.spec.http.is_empty());
        let routes = match rule {
            Some(rule) => virtual_service::Context {
                rule,
                gateway: MESH_GATEWAY,
                port: self.port,
                client: &self.client,
                targets: &host.targets,
            }
            .routes(),
            None => vec![self.default_route(host)],
        };
        VirtualHost {
            name: format!("{}:{}", host.host, self.port),
            domains: host.domains.clone(),
            routes,
            include_request_attempt_count: true,
            ..VirtualHost::default()
        }
    }

    fn default_route(&self, host: &HostKey) -> Route {
        let name = ClusterName::outbound(self.port, "", &host.host).to_string();
        let mut action = action::to_cluster(name);
        action.retry_policy = action::retries(self.client.retries());
        if let Some(target) = host.targets.get(&host.host) {
            action.hash_policy = action::hash_policy(&target.rules, self.port, "");
            action::keep_hashed_host(&mut action);
        }
        Route {
            name: "default".into(),
            r#match: Some(everything()),
            decorator: action::decorator(&host.host, self.port),
            action: Some(Action::Route(action)),
            ..Route::default()
        }
    }
}

/// Matches any path.
pub(crate) fn everything() -> RouteMatch {
    RouteMatch {
        path_specifier: Some(PathSpecifier::Prefix("/".into())),
        ..RouteMatch::default()
    }
}

fn others(others: &Others) -> VirtualHost {
    let (name, action) = match others {
        Others::Allow | Others::To(_) => {
            let action = action::to_cluster(others.cluster().to_owned());
            ("allow_any", Action::Route(action))
        }
        Others::Block => {
            let refused = DirectResponseAction {
                status: BAD_GATEWAY,
                ..DirectResponseAction::default()
            };
            ("block_all", Action::DirectResponse(refused))
        }
    };
    VirtualHost {
        name: name.into(),
        domains: vec!["*".into()],
        routes: vec![Route {
            name: name.into(),
            r#match: Some(everything()),
            action: Some(action),
            ..Route::default()
        }],
        include_request_attempt_count: true,
        ..VirtualHost::default()
    }
}
