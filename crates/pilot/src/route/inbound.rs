//! The route table of an application's own port: everything goes to the application.

use lateen_api::networking::HttpRetry;
use lateen_xds::names::{self, ClusterName};
use lateen_xds::types::route::route::Action;
use lateen_xds::types::route::{RetryPolicy, Route, RouteConfiguration, VirtualHost};

use super::{action, everything};
use crate::wire;

/// The request did not leave: a server that closes idle connections now and then costs nobody a
/// request.
const RETRY_ON: &str = "reset-before-request";
/// Tries after the first, where the mesh does not say.
const RETRIES: u32 = 2;

/// Retries between a sidecar and its application: the mesh's, else those that cost nothing.
pub(crate) fn retries(of_mesh: Option<&HttpRetry>) -> Option<RetryPolicy> {
    let Some(rule) = of_mesh else {
        return Some(RetryPolicy {
            retry_on: RETRY_ON.into(),
            num_retries: wire::number(RETRIES),
            ..RetryPolicy::default()
        });
    };
    let mut policy = action::retries(Some(rule))?;
    if rule.retry_on.is_empty() {
        policy.retry_on = RETRY_ON.into();
    }
    // There is one application, however often it is tried.
    policy.retry_host_predicate.clear();
    policy.host_selection_retry_max_attempts = 0;
    policy.retry_priority = None;
    Some(policy)
}

/// `operation` names the host and the port in traces; `None` is for ports of no service. `retries`
/// is for requests that the application did not get.
pub(crate) fn table(
    port: Option<u16>,
    operation: Option<(&str, u16)>,
    retries: Option<RetryPolicy>,
) -> RouteConfiguration {
    let (name, host, cluster) = match port {
        Some(port) => (
            names::inbound_route(port),
            format!("inbound|http|{port}"),
            ClusterName::inbound(port).to_string(),
        ),
        None => (
            names::INBOUND_PASSTHROUGH_CLUSTER.to_owned(),
            "inbound|http|0".to_owned(),
            names::INBOUND_PASSTHROUGH_CLUSTER.to_owned(),
        ),
    };
    let mut action = action::to_cluster(cluster);
    action.retry_policy = retries;
    RouteConfiguration {
        name,
        virtual_hosts: vec![VirtualHost {
            name: host,
            domains: vec!["*".into()],
            routes: vec![Route {
                name: "default".into(),
                r#match: Some(everything()),
                decorator: operation.and_then(|(host, port)| action::decorator(host, port)),
                action: Some(Action::Route(action)),
                ..Route::default()
            }],
            ..VirtualHost::default()
        }],
        validate_clusters: wire::boolean(false),
        ..RouteConfiguration::default()
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn the_application_is_tried_again() {
        let check = |rule: Option<serde_json::Value>, want: Option<(&str, u32)>| {
            let rule = rule.map(|rule| serde_json::from_value(rule).expect("retries"));
            let found = retries(rule.as_ref());
            if let Some(found) = &found {
                assert!(found.retry_host_predicate.is_empty());
            }
            let found = found.map(|f| (f.retry_on, f.num_retries.map_or(0, |n| n.value)));
            assert_eq!(found, want.map(|(on, n)| (on.to_owned(), n)));
        };
        check(None, Some((RETRY_ON, 2)));
        check(Some(json!({"attempts": 0})), None);
        check(Some(json!({"attempts": 5})), Some((RETRY_ON, 5)));
        check(
            Some(json!({"attempts": 1, "retryOn": "5xx"})),
            Some(("5xx", 1)),
        );
    }
}
