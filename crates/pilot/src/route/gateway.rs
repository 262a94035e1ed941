//! Route tables of gateways.

use lateen_api::Object;
use lateen_api::networking::VirtualService;
use lateen_xds::types::route::route::Action;
use lateen_xds::types::route::virtual_host::TlsRequirementType;
use lateen_xds::types::route::{DirectResponseAction, Route, RouteConfiguration, VirtualHost};

use super::virtual_service::Context;
use super::{Client, Targets, everything};
use crate::shared::Shared;
use crate::wire;

/// The answer where a gateway has a port but no rule.
const NOT_FOUND: u32 = 404;

/// All that a gateway's route table is made from.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(crate) struct GatewayRoutesKey {
    pub(crate) name: String,
    pub(crate) port: u16,
    pub(crate) hosts: Vec<GatewayHost>,
    pub(crate) client: Client,
}

/// One virtual host of a gateway.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(crate) struct GatewayHost {
    pub(crate) host: String,
    /// Rules in the order in which they are tried, each with the gateway that binds it.
    pub(crate) rules: Vec<(String, Shared<Object<VirtualService>>)>,
    pub(crate) targets: Targets,
    /// Plain requests are sent to HTTPS.
    pub(crate) https_only: bool,
}

impl GatewayRoutesKey {
    pub(crate) fn generate(&self) -> RouteConfiguration {
        let mut virtual_hosts: Vec<_> = self.hosts.iter().map(|h| self.virtual_host(h)).collect();
        if virtual_hosts.is_empty() {
            virtual_hosts.push(nothing(self.port));
        }
        RouteConfiguration {
            name: self.name.clone(),
            virtual_hosts,
            validate_clusters: wire::boolean(false),
            max_direct_response_body_size_bytes: wire::number(1 << 20),
            ignore_port_in_host_matching: true,
            ..RouteConfiguration::default()
        }
    }

    fn virtual_host(&self, host: &GatewayHost) -> VirtualHost {
        let routes = host.rules.iter().flat_map(|(gateway, rule)| {
            Context {
                rule,
                gateway,
                port: self.port,
                client: &self.client,
                targets: &host.targets,
            }
            .routes()
        });
        let require_tls = if host.https_only {
            TlsRequirementType::All
        } else {
            TlsRequirementType::None
        };
        VirtualHost {
            name: format!("{}:{}", host.host, self.port),
            domains: vec![host.host.clone()],
            routes: in_reach(routes),
            require_tls: require_tls.into(),
            include_request_attempt_count: true,
            ..VirtualHost::default()
        }
    }
}

/// Rules of several VirtualServices, none of which knows of the others: what matches everything
/// goes to the end, and there only the first one counts.
fn in_reach(routes: impl Iterator<Item = Route>) -> Vec<Route> {
    let all = everything();
    let (mut catch_all, mut routes): (Vec<_>, Vec<_>) =
        routes.partition(|route| route.r#match.as_ref() == Some(&all));
    catch_all.truncate(1);
    routes.append(&mut catch_all);
    routes
}

fn nothing(port: u16) -> VirtualHost {
    let not_found = DirectResponseAction {
        status: NOT_FOUND,
        ..DirectResponseAction::default()
    };
    VirtualHost {
        name: format!("blackhole:{port}"),
        domains: vec!["*".into()],
        routes: vec![Route {
            name: "default".into(),
            r#match: Some(everything()),
            action: Some(Action::DirectResponse(not_found)),
            ..Route::default()
        }],
        ..VirtualHost::default()
    }
}
