//! The route table of an application's own port: everything goes to the application.

use lateen_xds::names::{self, ClusterName};
use lateen_xds::types::route::route::Action;
use lateen_xds::types::route::{Route, RouteConfiguration, VirtualHost};

use super::{action, everything};
use crate::wire;

/// `host` and `service_port` name the operation in traces; `None` is for ports of no service.
pub(crate) fn table(port: Option<u16>, operation: Option<(&str, u16)>) -> RouteConfiguration {
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
    RouteConfiguration {
        name,
        virtual_hosts: vec![VirtualHost {
            name: host,
            domains: vec!["*".into()],
            routes: vec![Route {
                name: "default".into(),
                r#match: Some(everything()),
                decorator: operation.and_then(|(host, port)| action::decorator(host, port)),
                action: Some(Action::Route(action::to_cluster(cluster))),
                ..Route::default()
            }],
            ..VirtualHost::default()
        }],
        validate_clusters: wire::boolean(false),
        ..RouteConfiguration::default()
    }
}
