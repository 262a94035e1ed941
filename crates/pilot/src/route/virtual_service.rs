//! The HTTP rules of a VirtualService as routes.

use std::cell::OnceCell;

use lateen_api::Object;
use lateen_api::networking::{
    Destination, HttpDirectResponse, HttpMatchRequest, HttpRoute, HttpRouteDestination,
    StringMatch, VirtualService,
};
use lateen_galley::{GATEWAY_SEMANTICS, ROUTE_SEMANTICS, Session, sessions};
use lateen_xds::names::ClusterName;
use lateen_xds::types::core::{DataSource, data_source};
use lateen_xds::types::route::route::Action;
use lateen_xds::types::route::route_action::{ClusterSpecifier, HostRewriteSpecifier};
use lateen_xds::types::route::weighted_cluster::ClusterWeight;
use lateen_xds::types::route::{
    DirectResponseAction, Route, RouteAction, WeightedCluster, weighted_cluster,
};

use super::{
    Client, Conditions, Targets, There, Unmet, action, everything, filters, headers, matching,
};
use crate::snapshot::full_host;
use crate::wire;

/// Everything that routes of one VirtualService depend on.
pub(crate) struct Context<'a> {
    pub(crate) rule: &'a Object<VirtualService>,
    /// `mesh`, or `namespace/name` of the gateway that the routes are for.
    pub(super) gateway: &'a str,
    /// The port that requests are addressed to.
    pub(super) port: u16,
    pub(super) client: &'a Client,
    pub(super) targets: &'a Targets,
    /// Those of the rules, once they are read.
    pub(super) sessions: OnceCell<Vec<Option<Session>>>,
}

/// What becomes of a rule, or of one match of it.
#[derive(Debug)]
pub(crate) enum Fate<'a> {
    /// A route.
    Route,
    /// Nothing here: it is for other clients or listeners.
    Elsewhere(Unmet<'a>),
    /// Nothing: it does not say what to do with a request.
    Nowhere,
    /// Nothing: a rule before it is for all requests.
    Behind,
}

impl Context<'_> {
    /// One route per rule and match, in their order. What comes after a route that matches all
    /// can never be reached and is left out.
    pub(super) fn routes(&self) -> Vec<Route> {
        let mut routes = Vec::new();
        self.walk(|at, of, fate| {
            if matches!(fate, Fate::Route) {
                routes.push(self.route_at(at, of));
            }
        });
        routes
    }

    /// The route of a rule and of one of its matches, by their places.
    pub(crate) fn route_at(&self, at: usize, of: Option<usize>) -> Route {
        let rule = &self.rule.spec.http[at];
        let sessions = self.sessions.get_or_init(|| sessions(&self.rule.meta));
        let session = sessions.get(at).and_then(Option::as_ref);
        self.route(rule, of.map(|of| &rule.r#match[of]), session)
    }

    /// What becomes of each rule, and of each match within it, by their places and in their order.
    pub(crate) fn walk<'b>(&'b self, mut tell: impl FnMut(usize, Option<usize>, Fate<'b>)) {
        let mut in_reach = true;
        for (at, rule) in self.rule.spec.http.iter().enumerate() {
            let fate = |in_reach| match (leads_somewhere(rule), in_reach) {
                (false, _) => Fate::Nowhere,
                (true, false) => Fate::Behind,
                (true, true) => Fate::Route,
            };
            if rule.r#match.is_empty() {
                let fate = fate(in_reach);
                in_reach &= !matches!(fate, Fate::Route);
                tell(at, None, fate);
            }
            for (of_at, of) in rule.r#match.iter().enumerate() {
                let fate = match (fate(in_reach), self.unmet(of)) {
                    (Fate::Route, Some(unmet)) => Fate::Elsewhere(unmet),
                    (fate, _) => fate,
                };
                in_reach &= !(matches!(fate, Fate::Route) && matching::is_everything(of));
                tell(at, Some(of_at), fate);
            }
        }
    }

    /// The first condition on the client or the listener that does not hold.
    fn unmet<'b>(&'b self, of: &'b HttpMatchRequest) -> Option<Unmet<'b>> {
        Conditions::from(of).unmet(There {
            home: &self.rule.meta.namespace,
            gateway: self.gateway,
            port: self.port,
            labels: &self.client.labels,
            namespace: &self.client.namespace,
        })
    }

    fn route(
        &self,
        rule: &HttpRoute,
        of: Option<&HttpMatchRequest>,
        session: Option<&Session>,
    ) -> Route {
        let mut route = Route {
            name: name(rule, of),
            r#match: Some(of.map_or_else(everything, |of| {
                matching::route_match(of, self.has_gateway_semantics())
            })),
            metadata: Some(self.metadata()),
            typed_per_filter_config: filters::per_route(rule, session),
            ..Route::default()
        };
        if let Some(of) = of {
            route.stat_prefix = of.stat_prefix.clone();
        }
        let changes = rule.headers.as_ref();
        route.request_headers_to_add = headers::to_add(changes.and_then(|h| h.request.as_ref()));
        route.request_headers_to_remove =
            headers::to_remove(changes.and_then(|h| h.request.as_ref()));
        route.response_headers_to_add = headers::to_add(changes.and_then(|h| h.response.as_ref()));
        route.response_headers_to_remove =
            headers::to_remove(changes.and_then(|h| h.response.as_ref()));
        route.action = Some(if let Some(redirect) = &rule.redirect {
            Action::Redirect(action::redirect(redirect, self.port))
        } else if let Some(direct) = &rule.direct_response {
            Action::DirectResponse(direct_response(direct))
        } else {
            route.decorator = self.decorator(rule);
            Action::Route(self.forward(rule, of))
        });
        route
    }

    /// Whether the rules were routes of the Gateway API.
    fn has_gateway_semantics(&self) -> bool {
        let annotations = &self.rule.meta.annotations;
        annotations
            .get(ROUTE_SEMANTICS)
            .is_some_and(|of| of == GATEWAY_SEMANTICS)
    }

    fn metadata(&self) -> lateen_xds::types::core::Metadata {
        let meta = &self.rule.meta;
        let config = format!(
            "/apis/networking.istio.io/v1/namespaces/{}/virtual-service/{}",
            meta.namespace, meta.name
        );
        wire::metadata([("istio", wire::record([("config", wire::text(config))]))])
    }

    fn decorator(&self, rule: &HttpRoute) -> Option<lateen_xds::types::route::Decorator> {
        let destination = rule.route.first()?.destination.as_ref()?;
        let cluster = self.cluster(destination);
        action::decorator(&cluster.host, cluster.port)
    }

    fn forward(&self, rule: &HttpRoute, of: Option<&HttpMatchRequest>) -> RouteAction {
        let mut action = RouteAction {
            retry_policy: action::retries(rule.retries.as_ref().or(self.client.retries())),
            request_mirror_policies: self.mirrors(rule),
            ..RouteAction::default()
        };
        let timeout = wire::duration(rule.timeout.unwrap_or_default());
        action::limit(&mut action, Some(timeout));
        if let Some(rewrite) = &rule.rewrite {
            let path = of
                .and_then(|of| of.uri.as_ref())
                .unwrap_or(&StringMatch::Present);
            action::rewrite(&mut action, rewrite, path);
        }
        let request = rule.headers.as_ref().and_then(|h| h.request.as_ref());
        if let Some(authority) = headers::authority(request) {
            action.host_rewrite_specifier =
                Some(HostRewriteSpecifier::HostRewriteLiteral(authority));
        }
        let chosen = takers(&rule.route);
        match chosen[..] {
            [only] if only.headers.is_none() => {
                let (name, hash) = self.single(only);
                action.cluster_specifier = Some(ClusterSpecifier::Cluster(name));
                action.hash_policy = hash;
            }
            _ => {
                action.cluster_specifier = Some(self.weighted(&chosen));
                action.hash_policy = chosen.first().map(|r| self.single(r).1).unwrap_or_default();
            }
        }
        let retries = rule.retries.as_ref();
        if retries.and_then(|r| r.retry_ignore_previous_hosts) != Some(true) {
            action::keep_hashed_host(&mut action);
        }
        action
    }

    fn single(
        &self,
        route: &HttpRouteDestination,
    ) -> (
        String,
        Vec<lateen_xds::types::route::route_action::HashPolicy>,
    ) {
        let Some(destination) = &route.destination else {
            return (lateen_xds::names::BLACK_HOLE_CLUSTER.into(), Vec::new());
        };
        let host = self.full_host(destination);
        let rules = self.targets.get(&host).map(|t| t.rules.as_slice());
        let name = self.cluster(destination);
        let hash = action::hash_policy(rules.unwrap_or_default(), name.port, &destination.subset);
        (name.to_string(), hash)
    }

    fn weighted(&self, routes: &[&HttpRouteDestination]) -> ClusterSpecifier {
        let weight = |route: &&HttpRouteDestination| {
            let changes = route.headers.as_ref();
            let request = changes.and_then(|h| h.request.as_ref());
            let response = changes.and_then(|h| h.response.as_ref());
            let host = headers::authority(request);
            let weight = if routes.len() == 1 { 100 } else { route.weight };
            ClusterWeight {
                name: self.single(route).0,
                weight: wire::number(u32::try_from(weight).unwrap_or(0)),
                request_headers_to_add: headers::to_add(request),
                request_headers_to_remove: headers::to_remove(request),
                response_headers_to_add: headers::to_add(response),
                response_headers_to_remove: headers::to_remove(response),
                host_rewrite_specifier: host.map(
                    weighted_cluster::cluster_weight::HostRewriteSpecifier::HostRewriteLiteral,
                ),
                ..ClusterWeight::default()
            }
        };
        let mut clusters: Vec<ClusterWeight> = routes.iter().map(weight).collect();
        // Nothing but zeros means nothing in particular; Envoy wants a positive sum.
        if clusters
            .iter()
            .all(|c| c.weight.is_none_or(|w| w.value == 0))
        {
            for cluster in &mut clusters {
                cluster.weight = wire::number(1);
            }
        }
        ClusterSpecifier::WeightedClusters(WeightedCluster {
            clusters,
            ..WeightedCluster::default()
        })
    }

    fn mirrors(
        &self,
        rule: &HttpRoute,
    ) -> Vec<lateen_xds::types::route::route_action::RequestMirrorPolicy> {
        let old_percent = rule.mirror_percent.map(f64::from);
        let percent = rule
            .mirror_percentage
            .as_ref()
            .map(|p| p.value)
            .or(old_percent);
        let one = rule.mirror.as_ref().map(|d| (d, percent));
        let many = rule.mirrors.iter().filter_map(|mirror| {
            let destination = mirror.destination.as_ref()?;
            Some((destination, mirror.percentage.as_ref().map(|p| p.value)))
        });
        one.into_iter()
            .chain(many)
            .filter(|(_, percent)| percent.is_none_or(|p| p > 0.0))
            .map(|(destination, percent)| {
                action::mirror(self.cluster(destination).to_string(), percent)
            })
            .collect()
    }

    fn full_host(&self, destination: &Destination) -> String {
        let namespace = &self.rule.meta.namespace;
        full_host(&destination.host, namespace, &self.client.domain).to_string()
    }

    /// The cluster of a destination.
    fn cluster(&self, destination: &Destination) -> ClusterName {
        let host = self.full_host(destination);
        let unknown = super::Target::default();
        let target = self.targets.get(&host).unwrap_or(&unknown);
        target.cluster(destination, &host, self.port)
    }
}

/// A rule that says nothing of what to do with a request: Envoy would refuse the whole table for it.
fn leads_somewhere(rule: &HttpRoute) -> bool {
    !rule.route.is_empty() || rule.redirect.is_some() || rule.direct_response.is_some()
}

fn name(rule: &HttpRoute, of: Option<&HttpMatchRequest>) -> String {
    match of
        .map(|of| of.name.as_str())
        .filter(|name| !name.is_empty())
    {
        Some(of) if rule.name.is_empty() => of.to_owned(),
        Some(of) => format!("{}.{of}", rule.name),
        None => rule.name.clone(),
    }
}

/// Those that get requests: the only one whatever its weight, else those with a weight, else all.
pub(crate) fn takers(routes: &[HttpRouteDestination]) -> Vec<&HttpRouteDestination> {
    let weighted: Vec<_> = routes.iter().filter(|route| route.weight > 0).collect();
    if weighted.is_empty() {
        routes.iter().collect()
    } else {
        weighted
    }
}

fn direct_response(direct: &HttpDirectResponse) -> DirectResponseAction {
    let text = direct.body.as_ref().and_then(|body| body.string.clone());
    let bytes = direct.body.as_ref().and_then(|body| body.bytes.as_deref());
    let specifier = match (text, bytes) {
        (Some(text), _) => Some(data_source::Specifier::InlineString(text)),
        (None, Some(bytes)) => Some(data_source::Specifier::InlineBytes(action::from_base64(
            bytes,
        ))),
        (None, None) => None,
    };
    DirectResponseAction {
        status: direct.status,
        body: specifier.map(|specifier| DataSource {
            specifier: Some(specifier),
            ..DataSource::default()
        }),
        ..DirectResponseAction::default()
    }
}
