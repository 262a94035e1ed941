//! HTTP filters: those that we run, those whose work the engine does anyway, and the refusal of
//! everything else.

use std::sync::Arc;

use lateen_xds::types::http_filter::{cors as cors_pb, fault as fault_pb};
use lateen_xds::types::network::hcm as pb;
use lateen_xds::types::{core, matcher, route as route_pb};
use lateen_xds::{Any, TypeUrl};

use super::common::{fraction, string_test};
use super::fault::{self, Fault};
use super::{DecodeError, Result, typed};
use crate::common::{RUNTIME_FRACTION, STRING_MATCHER};
use crate::fault::FAULT;
use crate::session::{
    self, RouteSession, SESSION, SESSION_PER_ROUTE, SESSION_PER_ROUTE_TYPE, SESSION_TYPE,
    SessionSpec,
};
use crate::unread::Kind::{Harmless, In, Off, Packed, Whole};
use crate::unread::{Reads, Types};

/// The filters of a connection manager. Their order is fixed by the engine; the configuration says
/// which take part.
#[derive(Debug, Default)]
pub struct Filters {
    /// Whether the policies of routes on sharing between origins count.
    pub cors_enabled: bool,
    /// Whether faults are injected.
    pub fault_enabled: bool,
    /// Applies where a route has none of its own.
    pub fault: Option<Arc<Fault>>,
    /// Whether clients may have sessions with hosts.
    pub session_enabled: bool,
    /// The sessions of routes that say nothing of them.
    pub session: Option<Arc<SessionSpec>>,
}

impl Filters {
    /// The sessions of a request of this path: by its route, else its virtual host, else the filter.
    #[must_use]
    pub fn session_of<'a>(
        &'a self,
        host: &'a RouteExtra,
        route: &'a RouteExtra,
        path: &str,
    ) -> Option<&'a Arc<SessionSpec>> {
        let own = route.session.as_ref().or(host.session.as_ref());
        let spec = match own {
            Some(RouteSession::Off) => return None,
            Some(RouteSession::By(spec)) => spec,
            None => self.session.as_ref()?,
        };
        Some(spec).filter(|spec| self.session_enabled && spec.by.is_for(path))
    }
}

/// Settings of one route or virtual host.
#[derive(Debug, Default, Clone)]
pub struct RouteExtra {
    /// Faults to inject.
    pub fault: Option<Arc<Fault>>,
    /// Sharing between origins.
    pub cors: Option<Arc<Cors>>,
    /// Sessions with hosts.
    pub session: Option<RouteSession>,
}

/// Cross-origin resource sharing.
#[derive(Debug)]
pub struct Cors {
    /// False where the policy is switched off.
    pub enabled: bool,
    /// Who may ask.
    pub origins: Vec<lateen_route::StringTest>,
    /// `access-control-allow-methods`.
    pub methods: String,
    /// `access-control-allow-headers`.
    pub headers: String,
    /// `access-control-expose-headers`.
    pub expose: String,
    /// `access-control-max-age`.
    pub max_age: String,
    /// `access-control-allow-credentials`.
    pub credentials: bool,
    /// Send preflights of unknown origins on.
    pub forward_unmatched: bool,
}

/// Settings of a filter for one route or virtual host.
pub(super) enum PerRoute {
    Fault(Fault),
    Cors(Arc<Cors>),
    Session(RouteSession),
    Ignored,
}

const FAULT_TYPE: &str = "envoy.extensions.filters.http.fault.v3.HTTPFault";
const CORS: &str = "envoy.extensions.filters.http.cors.v3.Cors";
const CORS_POLICY: &str = "envoy.extensions.filters.http.cors.v3.CorsPolicy";
/// Clusters by name look up what they need.
const DYNAMIC: &str = "envoy.extensions.filters.http.dynamic_forward_proxy.v3.FilterConfig";
const ROUTER: &str = "envoy.extensions.filters.http.router.v3.Router";

/// Filters whose work the engine does on its own (peer metadata, ALPN of the upstream, standard
/// metrics), or that only observe.
const IMPLIED: [&str; 8] = [
    "envoy.extensions.filters.http.grpc_stats.v3.FilterConfig",
    "istio.envoy.config.filter.http.alpn.v2alpha1.FilterConfig",
    "io.istio.http.peer_metadata.Config",
    "stats.PluginConfig",
    "envoy.extensions.filters.http.set_filter_state.v3.Config",
    "envoy.extensions.filters.http.health_check.v3.HealthCheck",
    "envoy.extensions.filters.http.upstream_codec.v3.UpstreamCodec",
    "envoy.config.filter.http.peer_metadata.v3.Config",
];

/// The part of `xds.type.v3.TypedStruct` that says what it stands for.
#[derive(Clone, PartialEq, prost::Message)]
struct TypedStruct {
    #[prost(string, tag = "1")]
    type_url: String,
}

/// The type behind an `Any`, looking through `TypedStruct`.
pub(crate) fn type_of(any: &Any) -> String {
    let name = TypeUrl::new(&any.type_url).message().to_owned();
    if name.ends_with("type.v1.TypedStruct") || name.ends_with("type.v3.TypedStruct") {
        let inner = <TypedStruct as prost::Message>::decode(any.value.as_slice());
        return TypeUrl::new(inner.unwrap_or_default().type_url)
            .message()
            .to_owned();
    }
    name
}

/// Compiles the list of HTTP filters.
pub(super) fn http_filters(list: &[pb::HttpFilter]) -> Result<Filters> {
    use pb::http_filter::ConfigType;
    let mut filters = Filters::default();
    let mut router = false;
    for filter in list {
        if filter.disabled {
            continue;
        }
        let field = format!("http_filters[{}]", filter.name);
        if router {
            return Err(DecodeError::new(field, "stands behind the router"));
        }
        let any = match &filter.config_type {
            Some(ConfigType::TypedConfig(any)) => any,
            None if filter.name == "envoy.filters.http.router" => {
                router = true;
                continue;
            }
            _ if filter.is_optional => continue,
            _ => {
                return Err(DecodeError::unsupported(
                    field,
                    "a filter without a typed config",
                ));
            }
        };
        match type_of(any).as_str() {
            ROUTER => router = true,
            FAULT_TYPE => {
                let spec: fault_pb::HttpFault = typed(&field, any)?;
                let fault = fault::fault(&spec)?;
                filters.fault_enabled = true;
                filters.fault = (!fault.is_empty()).then(|| Arc::new(fault));
            }
            CORS => filters.cors_enabled = true,
            SESSION_TYPE => {
                filters.session_enabled = true;
                filters.session = session::of_filter(&field, any)?;
            }
            DYNAMIC => {}
            kind if IMPLIED.contains(&kind) => {}
            kind if filter.is_optional => {
                tracing::debug!(filter = %filter.name, kind, "optional filter skipped");
            }
            kind => {
                return Err(DecodeError::unsupported(
                    field,
                    format!("the filter type {kind}"),
                ));
            }
        }
    }
    if router {
        Ok(filters)
    } else {
        Err(DecodeError::new("http_filters", "has no router"))
    }
}

/// Compiles a filter's settings for one route.
pub(super) fn per_route(name: &str, any: &Any) -> Result<PerRoute> {
    let field = format!("typed_per_filter_config[{name}]");
    match type_of(any).as_str() {
        FAULT_TYPE => {
            let spec: fault_pb::HttpFault = typed(&field, any)?;
            Ok(PerRoute::Fault(fault::fault(&spec)?))
        }
        CORS_POLICY => {
            let spec: cors_pb::CorsPolicy = typed(&field, any)?;
            let enabled = percent(spec.filter_enabled.as_ref());
            Ok(PerRoute::Cors(Arc::new(Cors {
                enabled,
                origins: origins(&spec.allow_origin_string_match)?,
                methods: spec.allow_methods,
                headers: spec.allow_headers,
                expose: spec.expose_headers,
                max_age: spec.max_age,
                credentials: spec.allow_credentials.is_some_and(|allow| allow.value),
                forward_unmatched: spec.forward_not_matching_preflights.is_none_or(|f| f.value),
            })))
        }
        SESSION_PER_ROUTE_TYPE => session::of_route(&field, any).map(PerRoute::Session),
        kind if IMPLIED.contains(&kind) => Ok(PerRoute::Ignored),
        // A filter that is not in the chain has no use for its settings; one that is was refused
        // with the listener.
        _ => Ok(PerRoute::Ignored),
    }
}

fn percent(value: Option<&core::RuntimeFractionalPercent>) -> bool {
    value.is_none_or(|value| fraction(value.default_value.as_ref()).millionths > 0)
}

fn origins(list: &[matcher::StringMatcher]) -> Result<Vec<lateen_route::StringTest>> {
    list.iter()
        .map(|origin| string_test("cors.allow_origin", origin))
        .collect()
}

/// The form of the policy that older configurations put into the route itself.
pub(super) fn route_cors(spec: &route_pb::CorsPolicy) -> Result<Arc<Cors>> {
    use route_pb::cors_policy::EnabledSpecifier;
    let enabled = match &spec.enabled_specifier {
        Some(EnabledSpecifier::FilterEnabled(value)) => percent(Some(value)),
        None => true,
    };
    Ok(Arc::new(Cors {
        enabled,
        origins: origins(&spec.allow_origin_string_match)?,
        methods: spec.allow_methods.clone(),
        headers: spec.allow_headers.clone(),
        expose: spec.expose_headers.clone(),
        max_age: spec.max_age.clone(),
        credentials: spec
            .allow_credentials
            .as_ref()
            .is_some_and(|allow| allow.value),
        forward_unmatched: spec
            .forward_not_matching_preflights
            .as_ref()
            .is_none_or(|forward| forward.value),
    }))
}

pub(crate) static HTTP_FILTER: Reads = Reads {
    unless: Some(7),
    ..Reads::of(
        "envoy.extensions.filters.network.http_connection_manager.v3.HttpFilter",
        &[
            (1, "name", Whole),
            (4, "typed_config", Packed(HTTP_FILTERS)),
            (5, "config_discovery", Whole),
            (6, "is_optional", Whole),
            (7, "disabled", Whole),
        ],
    )
};

pub(crate) static ROUTER_FILTER: Reads = Reads::of(
    "envoy.extensions.filters.http.router.v3.Router",
    &[
        (1, "dynamic_stats", Harmless),
        (2, "start_child_span", Off),
        (4, "suppress_envoy_headers", Off),
    ],
);

pub(crate) static DYNAMIC_FILTER: Reads = Reads::of(
    DYNAMIC,
    &[
        // The cluster says the same, or Envoy refuses both.
        (1, "dns_cache_config", Harmless),
        (2, "save_upstream_address", Off),
        (4, "allow_dynamic_host_from_filter_state", Off),
    ],
);

pub(crate) static CORS_FILTER: Reads = Reads::of("envoy.extensions.filters.http.cors.v3.Cors", &[]);

pub(crate) static CORS_EXTENSION: Reads = Reads::of(
    "envoy.extensions.filters.http.cors.v3.CorsPolicy",
    &[
        (1, "allow_origin_string_match[]", In(&STRING_MATCHER)),
        (2, "allow_methods", Whole),
        (3, "allow_headers", Whole),
        (4, "expose_headers", Whole),
        (5, "max_age", Whole),
        (6, "allow_credentials", Whole),
        (7, "filter_enabled", In(&RUNTIME_FRACTION)),
        (10, "forward_not_matching_preflights", Whole),
    ],
);

pub(crate) static ROUTE_CORS: Reads = Reads::of(
    "envoy.config.route.v3.CorsPolicy",
    &[
        (2, "allow_methods", Whole),
        (3, "allow_headers", Whole),
        (4, "expose_headers", Whole),
        (5, "max_age", Whole),
        (6, "allow_credentials", Whole),
        (9, "filter_enabled", In(&RUNTIME_FRACTION)),
        (11, "allow_origin_string_match[]", In(&STRING_MATCHER)),
        (13, "forward_not_matching_preflights", Whole),
    ],
);

const HTTP_FILTERS: Types = Types {
    read: &[
        &ROUTER_FILTER,
        &FAULT,
        &CORS_FILTER,
        &DYNAMIC_FILTER,
        &SESSION,
    ],
    implied: &IMPLIED,
};

/// Settings for one route or virtual host.
pub(crate) const PER_ROUTE: Types = Types {
    read: &[&FAULT, &CORS_EXTENSION, &SESSION_PER_ROUTE],
    implied: &IMPLIED,
};
