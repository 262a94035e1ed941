//! Which resources a patch is for, and which parts of them.

use std::net::IpAddr;

use ipnet::IpNet;
use lateen_api::networking::{
    ClusterMatch, EnvoyConfigObjectMatch, ListenerMatch, PatchContext, RouteConfigurationMatch,
    RouteMatch, RouteMatchAction,
};
use lateen_core::Direction;
use lateen_xds::names::{self as resource, ClusterName};
use lateen_xds::types::core::{Address, address, socket_address};
use lateen_xds::types::listener::{FilterChain, Listener};
use lateen_xds::types::route::{Route, VirtualHost, route};

use super::names::{self, HCM};

/// What a patch asks of what it changes. What it asks of the proxy is asked before.
#[derive(Debug, Default)]
pub(super) struct When {
    context: PatchContext,
    listener: Option<ListenerMatch>,
    routes: Option<RouteConfigurationMatch>,
    cluster: Option<ClusterMatch>,
    old: Option<OldListener>,
}

/// What only Istio 1.0 asked of a listener.
#[derive(Debug, Default)]
pub(super) struct OldListener {
    /// Its chains carry HTTP, or they do not.
    pub(super) http: Option<bool>,
    /// It is bound to one of these, if there are any.
    pub(super) addresses: Vec<IpNet>,
}

/// What is known of a cluster before it is made.
pub(super) struct ClusterFacts<'a> {
    pub(super) name: String,
    /// Hosts of the services that it leads to.
    pub(super) hosts: Vec<&'a str>,
}

/// What is known of a route table that the message does not say.
#[derive(Default)]
pub(super) struct Table<'a> {
    /// The port that clients name.
    pub(super) port: Option<u16>,
    /// The name of a gateway's port, where the table is for one.
    pub(super) port_name: Option<&'a str>,
    /// Gateways that it is for, `namespace/name`.
    pub(super) gateways: Vec<String>,
}

impl When {
    pub(super) fn new(of: Option<&EnvoyConfigObjectMatch>) -> When {
        let Some(of) = of else {
            return When::default();
        };
        When {
            context: of.context,
            listener: of.listener.clone(),
            routes: of.route_configuration.clone(),
            cluster: of.cluster.clone(),
            old: None,
        }
    }

    pub(super) fn of_listener(
        context: PatchContext,
        listener: ListenerMatch,
        old: OldListener,
    ) -> When {
        When {
            context,
            listener: Some(listener),
            old: Some(old),
            ..When::default()
        }
    }

    /// Whether it is for resources that are used there.
    pub(super) fn is_in(&self, context: PatchContext) -> bool {
        self.context == PatchContext::Any || self.context == context
    }

    /// Whether something new that it brings belongs there. What is for any context is added where
    /// traffic leaves, once.
    pub(super) fn adds_in(&self, context: PatchContext) -> bool {
        self.is_in(context)
            && (self.context != PatchContext::Any || context != PatchContext::SidecarInbound)
    }

    /// Whether only inbound resources are meant.
    pub(super) fn is_inbound(&self) -> bool {
        self.context == PatchContext::SidecarInbound
    }

    pub(super) fn holds_for_cluster(&self, cluster: &ClusterFacts<'_>) -> bool {
        let Some(of) = &self.cluster else {
            return true;
        };
        if !of.name.is_empty() {
            return of.name == cluster.name;
        }
        let (port, subset) = match cluster.name.parse::<ClusterName>() {
            Ok(name) => (u32::from(name.port), name.subset),
            Err(_) => (0, String::new()),
        };
        (of.port_number == 0 || of.port_number == port)
            && (of.subset.is_empty() || of.subset == subset)
            && (of.service.is_empty() || cluster.hosts.contains(&of.service.as_str()))
    }

    /// Whether a listener as a whole is meant: `virtualInbound` and `virtualOutbound` stand for the
    /// ports of their chains, which only a patch of the listener itself does not look at.
    pub(super) fn holds_for_listener(&self, listener: &Listener, itself: bool) -> bool {
        let bound_to = listener.address.as_ref().and_then(socket);
        if let Some(old) = &self.old
            && !old.addresses.is_empty()
        {
            let ip = bound_to.and_then(|(address, _)| address.parse::<IpAddr>().ok());
            if !ip.is_some_and(|ip| old.addresses.iter().any(|net| net.contains(&ip))) {
                return false;
            }
        }
        let Some(of) = &self.listener else {
            return true;
        };
        if !of.name.is_empty() && of.name != listener.name {
            return false;
        }
        let by_chain = !itself && is_virtual(&listener.name);
        by_chain || of.port_number == 0 || bound_to.is_some_and(|(_, port)| port == of.port_number)
    }

    pub(super) fn holds_for_chain(&self, listener: &str, chain: &FilterChain) -> bool {
        if let Some(http) = self.old.as_ref().and_then(|old| old.http)
            && http != chain.filters.iter().any(|filter| filter.name == HCM)
        {
            return false;
        }
        let Some(of) = &self.listener else {
            return true;
        };
        let matches = chain.filter_chain_match.as_ref();
        let port = matches.and_then(|m| m.destination_port.as_ref());
        let port = port.map_or(0, |port| port.value);
        if is_virtual(listener) && of.port_number != 0 && of.port_number != port {
            return false;
        }
        let Some(of) = &of.filter_chain else {
            return true;
        };
        let names = matches.map_or(&[][..], |m| &m.server_names);
        let alpn = matches.map_or(&[][..], |m| &m.application_protocols);
        let transport = matches.map_or("", |m| &m.transport_protocol);
        (of.name.is_empty() || of.name == chain.name)
            && (of.sni.is_empty() || names.contains(&of.sni))
            && (of.transport_protocol.is_empty() || of.transport_protocol == transport)
            && (of.destination_port == 0 || of.destination_port == port)
            && (of.application_protocols.is_empty()
                || of
                    .application_protocols
                    .split(',')
                    .all(|wanted| alpn.iter().any(|has| has == wanted.trim())))
    }

    /// The listener filter that it names.
    pub(super) fn listener_filter(&self) -> Option<&str> {
        let name = self.listener.as_ref()?.listener_filter.as_str();
        (!name.is_empty()).then(|| names::listener(name))
    }

    /// The network filter that it names.
    pub(super) fn network_filter(&self) -> Option<&str> {
        let filter = self.filter()?;
        (!filter.name.is_empty()).then(|| names::today(names::NETWORK, &filter.name))
    }

    /// The HTTP filter that it names.
    pub(super) fn http_filter(&self) -> Option<&str> {
        let filter = self.filter()?.sub_filter.as_ref()?;
        (!filter.name.is_empty()).then(|| names::today(names::HTTP, &filter.name))
    }

    fn filter(&self) -> Option<&lateen_api::networking::FilterMatch> {
        self.listener
            .as_ref()?
            .filter_chain
            .as_ref()?
            .filter
            .as_ref()
    }

    /// An error where that cannot be told.
    pub(super) fn holds_for_table(&self, name: &str, table: &Table<'_>) -> Result<bool, String> {
        let Some(of) = &self.routes else {
            return Ok(true);
        };
        let port = table.port.map_or(0, u32::from);
        let is_other = (!of.name.is_empty() && of.name != name)
            || (of.port_number != 0 && of.port_number != port)
            || (!of.gateway.is_empty() && !table.gateways.contains(&of.gateway));
        if is_other {
            return Ok(false);
        }
        match table.port_name {
            _ if of.port_name.is_empty() => Ok(true),
            Some(port_name) => Ok(port_name == of.port_name),
            None => Err("the names of its ports are not known; use portNumber".into()),
        }
    }

    pub(super) fn holds_for_host(&self, host: &VirtualHost) -> bool {
        let Some(of) = self.routes.as_ref().and_then(|of| of.vhost.as_ref()) else {
            return true;
        };
        (of.name.is_empty() || of.name == host.name)
            && (of.domain_name.is_empty() || host.domains.contains(&of.domain_name))
    }

    /// What it asks of a route.
    pub(super) fn route(&self) -> Option<&RouteMatch> {
        self.routes.as_ref()?.vhost.as_ref()?.route.as_ref()
    }
}

/// Whether a route is the one that is asked for.
pub(super) fn is_route(of: &RouteMatch, found: &Route) -> bool {
    use route::Action;
    let does = match of.action {
        RouteMatchAction::Any => true,
        RouteMatchAction::Route => matches!(found.action, Some(Action::Route(_))),
        RouteMatchAction::Redirect => matches!(found.action, Some(Action::Redirect(_))),
        RouteMatchAction::DirectResponse => {
            matches!(found.action, Some(Action::DirectResponse(_)))
        }
    };
    does && (of.name.is_empty() || of.name == found.name)
}

fn is_virtual(listener: &str) -> bool {
    listener == resource::VIRTUAL_INBOUND || listener == resource::VIRTUAL_OUTBOUND
}

fn socket(address: &Address) -> Option<(&str, u32)> {
    match address.address.as_ref()? {
        address::Address::SocketAddress(socket) => match socket.port_specifier.as_ref()? {
            socket_address::PortSpecifier::PortValue(port) => Some((&socket.address, *port)),
            socket_address::PortSpecifier::NamedPort(_) => None,
        },
        _ => None,
    }
}

impl<'a> ClusterFacts<'a> {
    /// Of a cluster whose name says all.
    pub(super) fn named(name: &'a str) -> ClusterFacts<'a> {
        let host = name.rsplit('|').next().filter(|_| {
            let parsed = name.parse::<ClusterName>();
            parsed.is_ok_and(|parsed| parsed.direction == Direction::Outbound)
        });
        ClusterFacts {
            name: name.to_owned(),
            hosts: host.into_iter().collect(),
        }
    }
}
