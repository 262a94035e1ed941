//! Route tables (RDS): which request goes to which cluster.

mod action;
mod conditions;
pub(crate) mod filters;
mod gateway;
mod headers;
mod inbound;
mod matching;
mod table;
mod target;
mod virtual_service;

use std::collections::BTreeMap;

use lateen_api::Object;
use lateen_api::mesh::{MeshConfig, MeshOutboundMode};
use lateen_api::networking::{HttpRetry, VirtualService};
use lateen_xds::names::{self, ClusterName};
use lateen_xds::types::route::route::Action;
use lateen_xds::types::route::route_match::PathSpecifier;
use lateen_xds::types::route::{DirectResponseAction, Route, RouteMatch, VirtualHost};

pub(crate) use conditions::{Conditions, There, Unmet};
pub(crate) use gateway::{AnswerKey, GatewayHost};
pub(crate) use inbound::{retries as inbound_retries, table as inbound_table};
pub(crate) use table::{HostKind, Table, VirtualHostKey, assemble, head};
pub(crate) use target::{Target, Targets, destinations};
pub(crate) use virtual_service::{Context, Fate, takers};

use crate::shared::Shared;
use crate::snapshot::MESH_GATEWAY;

/// A request to a destination that the mesh does not know, where that is refused.
const BAD_GATEWAY: u32 = 502;

/// What happens to requests for unknown hosts.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(crate) enum Others {
    Allow,
    /// By the names that clients give, where they give any; else as [`Others::Allow`].
    ByName,
    Block,
    /// They are sent to this cluster.
    To(String),
}

impl Others {
    /// The cluster that their bytes go to.
    pub(crate) fn cluster(&self) -> &str {
        match self {
            Others::Allow | Others::ByName => names::PASSTHROUGH_CLUSTER,
            Others::Block => names::BLACK_HOLE_CLUSTER,
            Others::To(cluster) => cluster,
        }
    }

    /// The cluster that their requests go to.
    fn of_requests(&self) -> &str {
        match self {
            Others::ByName => names::DYNAMIC_DNS_CLUSTER,
            others => others.cluster(),
        }
    }
}

impl From<MeshOutboundMode> for Others {
    fn from(mode: MeshOutboundMode) -> Self {
        match mode {
            MeshOutboundMode::RegistryOnly => Others::Block,
            MeshOutboundMode::AllowAny => Others::Allow,
            MeshOutboundMode::AllowAnyDynamicDns => Others::ByName,
        }
    }
}

/// What routes may depend on about the client.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(crate) struct Client {
    /// Its namespace, where a rule asks for it; empty otherwise.
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

/// One destination of an outbound table.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(crate) struct HostKey {
    pub(crate) port: u16,
    pub(crate) host: String,
    pub(crate) domains: Vec<String>,
    /// Whether the registry has the host, so that there is a default route.
    pub(crate) known: bool,
    pub(crate) rule: Option<Shared<Object<VirtualService>>>,
    pub(crate) targets: Targets,
    pub(crate) client: Client,
}

impl HostKey {
    fn name(&self) -> String {
        format!("{}:{}", self.host, self.port)
    }

    fn context(&self) -> Option<Context<'_>> {
        let rule = self.rule.as_ref()?;
        (!rule.spec.http.is_empty()).then_some(Context {
            rule,
            gateway: MESH_GATEWAY,
            port: self.port,
            client: &self.client,
            targets: &self.targets,
            sessions: Default::default(),
        })
    }

    fn generate(&self) -> VirtualHost {
        let routes = match self.context() {
            Some(context) => context.routes(),
            None => vec![self.default_route()],
        };
        VirtualHost {
            name: self.name(),
            domains: self.domains.clone(),
            routes,
            include_request_attempt_count: true,
            ..VirtualHost::default()
        }
    }

    fn default_route(&self) -> Route {
        let name = ClusterName::outbound(self.port, "", &self.host).to_string();
        let mut action = action::to_cluster(name);
        action.retry_policy = action::retries(self.client.retries());
        if let Some(target) = self.targets.get(&self.host) {
            action.hash_policy = action::hash_policy(&target.rules, self.port, "");
            action::keep_hashed_host(&mut action);
        }
        Route {
            name: "default".into(),
            r#match: Some(everything()),
            decorator: action::decorator(&self.host, self.port),
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

impl Others {
    /// The name of their virtual host.
    fn name(&self) -> &'static str {
        match self {
            Others::Allow | Others::ByName | Others::To(_) => "allow_any",
            Others::Block => "block_all",
        }
    }
}

fn others(others: &Others) -> VirtualHost {
    let name = others.name();
    let action = match others {
        Others::Allow | Others::ByName | Others::To(_) => {
            Action::Route(action::to_cluster(others.of_requests().to_owned()))
        }
        Others::Block => Action::DirectResponse(DirectResponseAction {
            status: BAD_GATEWAY,
            ..DirectResponseAction::default()
        }),
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
