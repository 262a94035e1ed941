//! Virtual hosts in gRPC's part of the language.

use lateen_xds::types::route::route::Action;
use lateen_xds::types::route::{Route, RouteAction, VirtualHost};
use lateen_xds::types::wkt::Duration;

use super::FAULT;

/// gRPC compares the whole of what was dialled, with the port, which it never ignores.
pub(crate) fn virtual_host(host: VirtualHost, port: u16) -> VirtualHost {
    let with_port = host.domains.iter().map(|domain| format!("{domain}:{port}"));
    let with_port: Vec<_> = with_port.collect();
    VirtualHost {
        name: host.name,
        domains: host.domains.into_iter().chain(with_port).collect(),
        routes: host.routes.into_iter().map(route).collect(),
        ..VirtualHost::default()
    }
}

/// Settings of filters that gRPC does not have would make it refuse the table.
fn route(mut route: Route) -> Route {
    route
        .typed_per_filter_config
        .retain(|filter, _| filter == FAULT);
    route.metadata = None;
    route.decorator = None;
    if let Some(Action::Route(action)) = &mut route.action {
        limit(action);
    }
    route
}

/// The time that a request may take is the stream's there.
#[expect(deprecated, reason = "it is what Envoy is sent")]
fn limit(action: &mut RouteAction) {
    let timeout = action.timeout.take();
    action.max_grpc_timeout = None;
    let timeout = timeout.filter(|limit| *limit != Duration::default());
    if timeout.is_some() {
        let limits = action.max_stream_duration.get_or_insert_default();
        limits.max_stream_duration = timeout;
    }
    action.request_mirror_policies.clear();
}
