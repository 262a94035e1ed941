//! Route tables of gateways.

use lateen_api::Object;
use lateen_api::networking::VirtualService;
use lateen_core::Hostname;
use lateen_xds::types::route::route::Action;
use lateen_xds::types::route::virtual_host::TlsRequirementType;
use lateen_xds::types::route::{DirectResponseAction, Route, VirtualHost};

use super::{Client, Context, Targets, everything};
use crate::shared::Shared;

/// The answer where a gateway has a port but no rule.
const NOT_FOUND: u32 = 404;

/// One virtual host of a gateway.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(crate) struct GatewayHost {
    pub(crate) port: u16,
    pub(crate) host: String,
    /// Rules in the order in which they are tried, each with the gateway that binds it.
    pub(crate) rules: Vec<(String, Shared<Object<VirtualService>>)>,
    pub(crate) targets: Targets,
    /// Plain requests are sent to HTTPS.
    pub(crate) https_only: bool,
    pub(crate) client: Client,
}

impl GatewayHost {
    pub(super) fn name(&self) -> String {
        format!("{}:{}", self.host, self.port)
    }

    pub(super) fn contexts(&self) -> impl Iterator<Item = Context<'_>> {
        self.rules.iter().map(|(gateway, rule)| Context {
            rule,
            gateway,
            port: self.port,
            client: &self.client,
            targets: &self.targets,
            sessions: Default::default(),
        })
    }

    pub(super) fn generate(&self) -> VirtualHost {
        let routes = self.contexts().flat_map(|context| context.routes());
        let require_tls = if self.https_only {
            TlsRequirementType::All
        } else {
            TlsRequirementType::None
        };
        VirtualHost {
            name: self.name(),
            domains: vec![self.host.clone()],
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

/// A host that has one answer.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(crate) struct AnswerKey {
    pub(crate) port: u16,
    pub(crate) host: String,
    pub(crate) status: u32,
}

impl AnswerKey {
    pub(super) fn name(&self) -> String {
        format!("{}:{}", self.host, self.port)
    }

    pub(super) fn generate(&self) -> VirtualHost {
        answer(self.name(), &self.host, self.status)
    }

    /// Whether a host is rather of the listener that this answer is for than of one with these hosts.
    pub(crate) fn is_elsewhere(&self, host: &Hostname, own: &[Hostname]) -> bool {
        let other = Hostname::new(&self.host);
        !own.contains(&other) && other.covers(host) && own.iter().all(|own| own.covers(&other))
    }
}

/// What a port answers to which no rule is bound.
pub(super) fn nothing(name: String) -> VirtualHost {
    answer(name, "*", NOT_FOUND)
}

fn answer(name: String, host: &str, status: u32) -> VirtualHost {
    let answer = DirectResponseAction {
        status,
        ..DirectResponseAction::default()
    };
    VirtualHost {
        name,
        domains: vec![host.to_owned()],
        routes: vec![Route {
            name: "default".into(),
            r#match: Some(everything()),
            action: Some(Action::DirectResponse(answer)),
            ..Route::default()
        }],
        ..VirtualHost::default()
    }
}
