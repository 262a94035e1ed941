//! Route configurations.

mod action;
mod matching;
pub(crate) mod reads;
mod retry;

use std::collections::HashMap;
use std::sync::Arc;

use lateen_route::{
    Action, HeaderMutations, Host, RetryPolicy, RouteConfig, RouteSpec, RouteTable, VirtualHostSpec,
};
use lateen_xds::Any;
use lateen_xds::types::{core, route as pb};

use super::common::header_options;
use super::filter::RouteExtra;
use super::{DecodeError, Result, filter};
use action::{direct, forward, redirect};
use matching::route_match;
pub(crate) use matching::{header_test, header_tests};
use retry::retry;

/// Compiles a route configuration, with the virtual hosts that it has itself. Where it has `vhds`,
/// others follow as resources of their own ([`virtual_host`]).
///
/// # Errors
/// On what is not supported, and on tables that contradict themselves.
pub fn route_configuration(config: &pb::RouteConfiguration) -> Result<Arc<RouteTable<RouteExtra>>> {
    use core::config_source::ConfigSourceSpecifier;
    if let Some(vhds) = &config.vhds {
        let source = vhds.config_source.as_ref();
        let source = source.and_then(|source| source.config_source_specifier.as_ref());
        if !matches!(source, Some(ConfigSourceSpecifier::Ads(_))) {
            return Err(DecodeError::unsupported("vhds", "another source than ADS"));
        }
    }
    let hosts = config
        .virtual_hosts
        .iter()
        .map(host)
        .collect::<Result<_>>()?;
    let headers = mutations(
        &config.request_headers_to_add,
        &config.request_headers_to_remove,
        &config.response_headers_to_add,
        &config.response_headers_to_remove,
    )?;
    Ok(Arc::new(RouteTable::new(RouteConfig {
        name: config.name.clone(),
        hosts,
        ignore_port: config.ignore_port_in_host_matching,
        headers,
    })?))
}

/// Compiles a virtual host that is a resource of its own.
///
/// # Errors
/// On what is not supported.
pub fn virtual_host(config: &pb::VirtualHost) -> Result<Arc<Host<RouteExtra>>> {
    Ok(Arc::new(Host::new(host(config)?)?))
}

fn host(host: &pb::VirtualHost) -> Result<VirtualHostSpec<RouteExtra>> {
    let at = |error: DecodeError| {
        DecodeError::new(
            format!("virtual_hosts[{}].{}", host.name, error.field),
            error.reason,
        )
    };
    if host.matcher.is_some() {
        return Err(at(DecodeError::unsupported("matcher", "a matcher tree")));
    }
    let default_retry = host
        .retry_policy
        .as_ref()
        .map(retry)
        .transpose()
        .map_err(at)?;
    let routes = host
        .routes
        .iter()
        .map(|spec| route(spec, default_retry.as_ref()).map_err(at))
        .collect::<Result<_>>()?;
    let headers = mutations(
        &host.request_headers_to_add,
        &host.request_headers_to_remove,
        &host.response_headers_to_add,
        &host.response_headers_to_remove,
    )
    .map_err(at)?;
    let mut extra = extra(&host.typed_per_filter_config).map_err(at)?;
    if extra.cors.is_none() {
        extra.cors = host
            .cors
            .as_ref()
            .map(filter::route_cors)
            .transpose()
            .map_err(at)?;
    }
    Ok(VirtualHostSpec {
        name: host.name.clone(),
        domains: host.domains.clone(),
        routes,
        headers,
        include_attempt_count: host.include_request_attempt_count,
        require_tls: host.require_tls == pb::virtual_host::TlsRequirementType::All as i32,
        extra,
    })
}

fn extra(per_filter: &HashMap<String, Any>) -> Result<RouteExtra> {
    let mut extra = RouteExtra::default();
    for (name, any) in per_filter {
        match filter::per_route(name, any)? {
            filter::PerRoute::Fault(fault) => extra.fault = Some(Arc::new(fault)),
            filter::PerRoute::Cors(cors) => extra.cors = Some(cors),
            filter::PerRoute::Session(session) => extra.session = Some(session),
            filter::PerRoute::Ignored => {}
        }
    }
    Ok(extra)
}

fn route(spec: &pb::Route, default_retry: Option<&RetryPolicy>) -> Result<RouteSpec<RouteExtra>> {
    let matches = spec
        .r#match
        .as_ref()
        .ok_or_else(|| DecodeError::new("match", "is required"))?;
    let mut extra = extra(&spec.typed_per_filter_config)?;
    let action = match &spec.action {
        Some(pb::route::Action::Route(action)) => {
            if extra.cors.is_none() {
                extra.cors = action.cors.as_ref().map(filter::route_cors).transpose()?;
            }
            Action::Forward(Box::new(forward(&spec.name, action, default_retry)?))
        }
        Some(pb::route::Action::Redirect(action)) => Action::Redirect(Box::new(redirect(action)?)),
        Some(pb::route::Action::DirectResponse(action)) => Action::Direct(direct(action)?),
        Some(_) => return Err(DecodeError::unsupported("action", "this action")),
        None => return Err(DecodeError::new("action", "is required")),
    };
    Ok(RouteSpec {
        name: spec.name.clone(),
        matches: route_match(matches)?,
        action,
        headers: mutations(
            &spec.request_headers_to_add,
            &spec.request_headers_to_remove,
            &spec.response_headers_to_add,
            &spec.response_headers_to_remove,
        )?,
        extra,
    })
}

fn mutations(
    request_add: &[core::HeaderValueOption],
    request_remove: &[String],
    response_add: &[core::HeaderValueOption],
    response_remove: &[String],
) -> Result<HeaderMutations> {
    let lower = |names: &[String]| names.iter().map(|name| name.to_ascii_lowercase()).collect();
    Ok(HeaderMutations {
        request_add: header_options("request_headers_to_add", request_add)?,
        request_remove: lower(request_remove),
        response_add: header_options("response_headers_to_add", response_add)?,
        response_remove: lower(response_remove),
    })
}
