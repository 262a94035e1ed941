//! Which listeners a proxy has.

use std::collections::btree_map::Entry;
use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;
use std::sync::Arc;

use lateen_api::networking::{CaptureMode, IstioEgressListener, Port};
use lateen_core::{Protocol, ports};
use lateen_registry::{Endpoint, Provider, Resolution, Service, ServicePort};
use lateen_xds::names;

use super::View;
use crate::envoy_filter::Kind as Added;
use crate::key::Key;
use crate::listener::{EVERYWHERE, HTTPS, Logging, OutboundKey, TcpRule, VirtualOutboundKey, Want};
use crate::proxy::Dialect;
use crate::route::Others;

/// By main address and port.
type Listeners = BTreeMap<(String, u16), Listener>;

struct Listener {
    want: Want,
    /// Addresses beside the main one.
    more: Vec<String>,
    /// The proxy listens there itself.
    binds: bool,
    /// A Sidecar has it for some hosts, so that others have no part in it.
    own: bool,
}

impl View<'_> {
    /// Keys of all listeners that lead out, or of a gateway's; with those that patches bring.
    pub(crate) fn outbound_listeners(self) -> Vec<Key> {
        if self.from.dialect == Dialect::Grpc {
            return self.grpc_clients();
        }
        self.patched_listeners(self.unpatched_listeners(), false)
    }

    pub(super) fn patched_listeners(self, keys: Vec<Key>, inbound: bool) -> Vec<Key> {
        let patches = &self.from.patches;
        let added = {
            let names: Vec<_> = keys.iter().filter_map(Key::listener_name).collect();
            patches.added(Added::Listener, inbound, |name| {
                names.iter().any(|n| n == name)
            })
        };
        let mut keys = patches.patch(keys);
        keys.extend(added);
        keys
    }

    pub(crate) fn unpatched_listeners(self) -> Vec<Key> {
        if self.from.is_router() {
            return self
                .gateway_listeners()
                .into_iter()
                .map(Key::Gateway)
                .collect();
        }
        let mesh = &self.snapshot.config.mesh;
        let mut wants = Listeners::new();
        for listener in self.egress() {
            if let Some(port) = &listener.port {
                self.through(listener)
                    .own_listener(listener, port, &mut wants);
            }
        }
        self.http_proxy(&mut wants);
        let rest = self.elsewhere();
        for service in rest.services() {
            for port in service.ports.iter().filter(|p| p.protocol != Protocol::Udp) {
                rest.outbound(service, port, &mut wants);
            }
        }
        let logging = Logging::of(mesh);
        let others = self.others();
        let families = self.from.connectivity.families;
        // Clients of a proxy name the port, so that they may ask there for hosts of any.
        let any_named = self.by_name().next().is_some();
        let named: BTreeSet<u16> = if others == Others::ByName {
            // Unknown names are served wherever there is HTTP, and where TLS is by default.
            let rest = Listener {
                want: Want::Tcp(Vec::new()),
                binds: false,
                own: false,
                more: Vec::new(),
            };
            wants.entry((EVERYWHERE.into(), HTTPS)).or_insert(rest);
            wants.keys().map(|(_, port)| *port).collect()
        } else {
            let ports = self.by_name().flat_map(|service| &service.ports);
            ports.map(|port| port.port).collect()
        };
        let outbound = wants.into_iter().map(|((address, port), listener)| {
            let mut addresses = families.expand(&address);
            addresses.extend(listener.more);
            let of_any_port = any_named && matches!(listener.want, Want::Proxy { .. });
            Key::Listener(OutboundKey {
                addresses,
                port,
                binds: listener.binds,
                want: listener.want,
                others: others.clone(),
                logging: logging.clone(),
                by_name: of_any_port || named.contains(&port),
            })
        });
        let end = Key::VirtualOutbound(VirtualOutboundKey {
            families,
            others: others.clone(),
            logging: logging.clone(),
        });
        [end].into_iter().chain(outbound).collect()
    }

    /// Whether listeners for a service are at the addresses of its endpoints.
    pub(crate) fn listens_at_endpoints(self, host: &str) -> bool {
        self.service(host).is_some_and(|service| {
            service.resolution == Resolution::Passthrough
                && service.addresses.is_empty()
                && service.address_ranges.is_empty()
        })
    }

    /// A listener that a Sidecar has for a port, which need not be one of any service.
    fn own_listener(self, of: &IstioEgressListener, port: &Port, wants: &mut Listeners) {
        let is_path = of.bind.starts_with(names::UNIX);
        if is_path && !names::is_usable_path(&of.bind) {
            return;
        }
        let number = u16::try_from(port.number).ok();
        let is_there = |number: &u16| !is_taken(*number) && (*number > 0 || is_path);
        let Some(number) = number.filter(is_there) else {
            return;
        };
        // Nothing is redirected to a path.
        let binds = of.capture_mode == CaptureMode::None || is_path;
        let address = match (of.bind.as_str(), binds) {
            ("", true) => "127.0.0.1",
            ("", false) => EVERYWHERE,
            (bind, _) => bind,
        };
        let protocol = Protocol::parse(&port.protocol).unwrap_or(Protocol::Unsupported);
        let want = if let Some(routes) = proxy_table(of) {
            Want::Proxy { routes }
        } else if protocol.is_http() {
            Want::Http
        } else {
            let mut rules = Vec::new();
            for service in self.services() {
                rules.extend(self.rules_at(service, number, protocol, binds));
            }
            rules.sort_by_key(|rule| rule.sni.is_empty());
            if rules.is_empty() {
                return;
            }
            Want::Tcp(rules)
        };
        let listener = Listener {
            want,
            more: Vec::new(),
            binds,
            own: true,
        };
        wants
            .entry((address.to_owned(), number))
            .or_insert(listener);
    }

    /// The proxy of the mesh, for applications that use one.
    fn http_proxy(self, wants: &mut Listeners) {
        let port = self.snapshot.config.mesh.proxy_http_port;
        let port = port.and_then(|port| u16::try_from(port).ok());
        let Some(port) = port.filter(|port| *port > 0 && !is_taken(*port)) else {
            return;
        };
        let listener = Listener {
            want: Want::Proxy {
                routes: names::HTTP_PROXY_ROUTE.to_owned(),
            },
            more: Vec::new(),
            binds: true,
            own: true,
        };
        let loopback = self.from.connectivity.families.loopback();
        wants.entry((loopback.to_owned(), port)).or_insert(listener);
    }

    /// Where a listener of a Sidecar sends the bytes for a service: to the same port of it, else to
    /// the only one that it has. What is redirected shows by its address which one is meant; who
    /// connects to the listener itself means the first.
    fn rules_at(
        self,
        service: &Arc<Service>,
        number: u16,
        protocol: Protocol,
        binds: bool,
    ) -> Vec<TcpRule> {
        let port = match (service.port(number), &service.ports[..]) {
            (Some(port), _) => port,
            (None, [only]) if only.protocol != Protocol::Udp => only,
            _ => return Vec::new(),
        };
        let port = ServicePort {
            protocol,
            ..port.clone()
        };
        let mut rules = self.tcp_rules(service, &port);
        if !binds {
            let virtual_ones = self.virtual_ones(service).map(ToString::to_string);
            let ranges = service.address_ranges.iter().map(ToString::to_string);
            limit_to(&mut rules, &virtual_ones.chain(ranges).collect::<Vec<_>>());
        }
        rules
    }

    fn outbound(self, service: &Arc<Service>, port: &ServicePort, wants: &mut Listeners) {
        if is_taken(port.port) {
            return;
        }
        let shared_by_all = |want, more| Listener {
            want,
            more,
            binds: false,
            own: false,
        };
        if port.protocol.is_http() {
            // Services share the port; which came first does not matter for HTTP, and a service
            // that wants its bytes carried has an address of its own, or comes too late.
            wants
                .entry((EVERYWHERE.into(), port.port))
                .or_insert(shared_by_all(Want::Http, Vec::new()));
            return;
        }
        let rules = self.tcp_rules(service, port);
        for (address, more) in self.addresses(service, port) {
            let shared = address == EVERYWHERE;
            let mut rules = rules.clone();
            if shared {
                limit(&mut rules, service);
            }
            let want = if port.protocol.is_unsupported() {
                let routes = if shared {
                    names::outbound_route(port.port)
                } else {
                    names::sniffed_route(service.hostname.as_str(), port.port)
                };
                Want::Sniff { routes, tcp: rules }
            } else {
                Want::Tcp(rules)
            };
            match wants.entry((address, port.port)) {
                Entry::Vacant(entry) => {
                    entry.insert(shared_by_all(want, more));
                }
                // Services without an address may share a port by their server names.
                Entry::Occupied(mut entry) if !entry.get().own => {
                    if let (Want::Tcp(there), Want::Tcp(more)) = (&mut entry.get_mut().want, want) {
                        there.extend(more);
                        there.sort_by_key(|rule| rule.sni.is_empty());
                    }
                }
                Entry::Occupied(_) => {}
            }
        }
    }

    /// The virtual addresses by which the proxy's application knows a service: its own, or those that
    /// it was given, where the mesh resolves names. Of families that the workload has.
    pub(super) fn virtual_ones(self, service: &Service) -> impl Iterator<Item = &IpAddr> {
        let connectivity = &self.from.connectivity;
        let families = connectivity.families;
        let given = match service.addresses.is_empty() && connectivity.resolves {
            true => &service.allocated[..],
            false => &[],
        };
        let all = service.addresses.iter().chain(given);
        all.filter(move |ip| families.reach(ip))
    }

    /// Where clients of a service connect to: its virtual addresses, or where it has none, those of
    /// its endpoints, or any. An address within a range is any until a filter chain asks for more.
    /// Each with others of the same listener.
    pub(super) fn addresses(
        self,
        service: &Service,
        port: &ServicePort,
    ) -> Vec<(String, Vec<String>)> {
        let alone = |address: String| (address, Vec::new());
        let mut virtual_ones = self.virtual_ones(service).map(ToString::to_string);
        let within = (!service.address_ranges.is_empty()).then(|| EVERYWHERE.to_owned());
        // Those of an entry may be of different servers.
        let is_one = service.provider == Provider::Kubernetes || service.addresses.is_empty();
        let known: Vec<_> = match is_one {
            true => {
                let main = virtual_ones.next();
                let main = main.map(|main| (main, virtual_ones.collect()));
                main.into_iter().chain(within.map(alone)).collect()
            }
            false => virtual_ones.chain(within).map(alone).collect(),
        };
        if !known.is_empty() || !service.addresses.is_empty() {
            return known;
        }
        if service.resolution != Resolution::Passthrough {
            return vec![alone(EVERYWHERE.into())];
        }
        let endpoints = self.snapshot.world.endpoints(&service.id(), &port.name);
        let families = self.from.connectivity.families;
        let is_reached = |e: &&Endpoint| e.address.parse().is_ok_and(|ip| families.reach(&ip));
        let here = endpoints.iter().filter(|e| e.port == port.port);
        let mut addresses: Vec<_> = here.filter(is_reached).map(|e| e.address.clone()).collect();
        addresses.sort_unstable();
        addresses.dedup();
        addresses.into_iter().map(alone).collect()
    }
}

/// The table of a Sidecar's listener whose clients name the host and the port, if it is one.
pub(super) fn proxy_table(of: &IstioEgressListener) -> Option<String> {
    let port = of.port.as_ref()?;
    let protocol = Protocol::parse(&port.protocol)?;
    // Nobody asked for a port by connecting to a path.
    match of.bind.starts_with(names::UNIX) {
        true => protocol.is_http().then(|| of.bind.clone()),
        false => (protocol == Protocol::HttpProxy).then(|| port.number.to_string()),
    }
}

/// Connections to other addresses than the service's are not its own.
fn limit(rules: &mut [TcpRule], service: &Service) {
    let ranges = service.address_ranges.iter().map(ToString::to_string);
    limit_to(rules, &ranges.collect::<Vec<_>>());
}

fn limit_to(rules: &mut [TcpRule], own: &[String]) {
    for rule in rules.iter_mut().filter(|rule| rule.subnets.is_empty()) {
        rule.subnets = own.to_vec();
    }
}

/// Whether a port is the proxy's own.
fn is_taken(port: u16) -> bool {
    [ports::OUTBOUND, ports::INBOUND].contains(&port)
}
