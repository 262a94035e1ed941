//! What a route tells HTTP filters: faults to inject and cross-origin rules.

use std::collections::HashMap;

use lateen_api::networking::{
    CorsPolicy, FaultAbort, FaultDelay, HttpFaultInjection, HttpRoute, StringMatch,
    UnmatchedPreflights, grpc_status,
};
use lateen_galley::{Carrier, Session};
use lateen_xds::types::core::{RuntimeFractionalPercent, TypedExtensionConfig};
use lateen_xds::types::http_filter::common_fault::{self, fault_delay::FaultDelaySecifier};
use lateen_xds::types::http_filter::cors;
use lateen_xds::types::http_filter::fault::{
    FaultAbort as WireAbort, HttpFault, fault_abort::ErrorType,
};
use lateen_xds::types::http_filter::stateful_session::{
    StatefulSession, StatefulSessionPerRoute, stateful_session_per_route::Override,
};
use lateen_xds::types::session::{Cookie, CookieBasedSessionState, HeaderBasedSessionState};
use lateen_xds::{Any, pack_any};

use crate::wire;

pub(crate) const CORS: &str = "envoy.filters.http.cors";
pub(crate) const FAULT: &str = "envoy.filters.http.fault";

pub(crate) const SESSION: &str = "envoy.filters.http.stateful_session";

pub(super) fn per_route(rule: &HttpRoute, session: Option<&Session>) -> HashMap<String, Any> {
    let fault = rule.fault.as_ref().and_then(fault);
    let fault = fault.map(|f| (FAULT.to_owned(), pack_any(&f)));
    let cors = rule.cors_policy.as_ref();
    let cors = cors.map(|c| (CORS.to_owned(), pack_any(&cross_origin(c))));
    let session = session.map(|of| (SESSION.to_owned(), pack_any(&with_host(of))));
    fault.into_iter().chain(cors).chain(session).collect()
}

/// A session with one host, whose address the client brings along. Where the host is gone or not well,
/// another one takes its place.
fn with_host(session: &Session) -> StatefulSessionPerRoute {
    let (kind, state) = match session.by {
        Carrier::Cookie(seconds) => {
            let cookie = Cookie {
                name: session.name.clone(),
                ttl: wire::seconds(i64::try_from(seconds).unwrap_or(i64::MAX)),
                path: "/".into(),
                ..Cookie::default()
            };
            let state = CookieBasedSessionState {
                cookie: Some(cookie),
            };
            ("cookie", pack_any(&state))
        }
        Carrier::Header => {
            let name = session.name.clone();
            ("header", pack_any(&HeaderBasedSessionState { name }))
        }
    };
    let state = TypedExtensionConfig {
        name: format!("envoy.http.stateful_session.{kind}"),
        typed_config: Some(state),
    };
    let session = StatefulSession {
        session_state: Some(state),
        ..StatefulSession::default()
    };
    StatefulSessionPerRoute {
        r#override: Some(Override::StatefulSession(session)),
    }
}

fn fault(injection: &HttpFaultInjection) -> Option<HttpFault> {
    let delay = injection.delay.as_ref().and_then(delay);
    let abort = injection.abort.as_ref().and_then(abort);
    (delay.is_some() || abort.is_some()).then(|| HttpFault {
        delay,
        abort,
        ..HttpFault::default()
    })
}

fn delay(delay: &FaultDelay) -> Option<common_fault::FaultDelay> {
    let fixed = delay.fixed_delay.filter(|d| !d.is_zero())?;
    Some(common_fault::FaultDelay {
        percentage: Some(wire::percent(delay.share())),
        fault_delay_secifier: Some(FaultDelaySecifier::FixedDelay(wire::duration(fixed))),
    })
}

fn abort(abort: &FaultAbort) -> Option<WireAbort> {
    let http = abort.http_status.and_then(|s| u32::try_from(s).ok());
    let error = match (http, &abort.grpc_status) {
        (Some(status), _) => ErrorType::HttpStatus(status),
        (None, Some(status)) => ErrorType::GrpcStatus(grpc_status(status)?),
        (None, None) => return None,
    };
    Some(WireAbort {
        percentage: Some(wire::percent(abort.share())),
        error_type: Some(error),
        ..WireAbort::default()
    })
}

fn cross_origin(policy: &CorsPolicy) -> cors::CorsPolicy {
    let old = policy
        .allow_origin
        .iter()
        .map(|origin| match origin.as_str() {
            "*" => StringMatch::Regex(".*".into()),
            origin => StringMatch::Exact(origin.into()),
        });
    let origins = old.chain(policy.allow_origins.iter().cloned());
    let forward = match policy.unmatched_preflights {
        UnmatchedPreflights::Unspecified => None,
        UnmatchedPreflights::Forward => wire::boolean(true),
        UnmatchedPreflights::Ignore => wire::boolean(false),
    };
    cors::CorsPolicy {
        allow_origin_string_match: origins.filter_map(|o| wire::string_match(&o)).collect(),
        allow_methods: policy.allow_methods.join(","),
        allow_headers: policy.allow_headers.join(","),
        expose_headers: policy.expose_headers.join(","),
        max_age: policy
            .max_age
            .map_or_else(String::new, |age| age.to_parts().0.to_string()),
        allow_credentials: policy.allow_credentials.and_then(wire::boolean),
        filter_enabled: Some(RuntimeFractionalPercent {
            default_value: Some(wire::percent(100.0)),
            ..RuntimeFractionalPercent::default()
        }),
        forward_not_matching_preflights: forward,
        ..cors::CorsPolicy::default()
    }
}
