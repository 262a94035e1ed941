//! Which listeners a proxy has.

use std::collections::BTreeMap;
use std::collections::btree_map::Entry;
use std::sync::Arc;

use lateen_core::{Protocol, ports};
use lateen_registry::{Resolution, Service, ServicePort};
use lateen_xds::names;

use super::View;
use crate::key::Key;
use crate::listener::{EVERYWHERE, Logging, OutboundKey, TcpRule, VirtualOutboundKey, Want};

type Listeners = BTreeMap<(String, u16), Want>;

impl View<'_> {
    /// Keys of all listeners that lead out, or of a gateway's.
    pub(crate) fn outbound_listeners(self) -> Vec<Key> {
        if self.from.is_router() {
            return self
                .gateway_listeners()
                .into_iter()
                .map(Key::Gateway)
                .collect();
        }
        let mesh = &self.snapshot.config.mesh;
        let mut wants = Listeners::new();
        for service in self.services() {
            for port in service.ports.iter().filter(|p| p.protocol != Protocol::Udp) {
                self.outbound(service, port, &mut wants);
            }
        }
        let logging = Logging::of(mesh);
        let outbound = wants.into_iter().map(|((address, port), want)| {
            Key::Listener(OutboundKey {
                address,
                port,
                want,
                others: mesh.outbound_mode().into(),
                logging: logging.clone(),
            })
        });
        let end = Key::VirtualOutbound(VirtualOutboundKey {
            others: mesh.outbound_mode().into(),
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

    fn outbound(self, service: &Arc<Service>, port: &ServicePort, wants: &mut Listeners) {
        // These ports are the proxy's own.
        if [ports::OUTBOUND, ports::INBOUND].contains(&port.port) {
            return;
        }
        if port.protocol.is_http() {
            // Services share the port; which came first does not matter for HTTP, and a service
            // that wants its bytes carried has an address of its own, or comes too late.
            wants
                .entry((EVERYWHERE.into(), port.port))
                .or_insert(Want::Http);
            return;
        }
        let rules = self.tcp_rules(service, port);
        for address in self.addresses(service, port) {
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
                    entry.insert(want);
                }
                // Services without an address may share a port by their server names.
                Entry::Occupied(mut entry) => {
                    if let (Want::Tcp(there), Want::Tcp(more)) = (entry.get_mut(), want) {
                        there.extend(more);
                        there.sort_by_key(|rule| rule.sni.is_empty());
                    }
                }
            }
        }
    }

    /// Where clients of a service connect to: its virtual addresses, or where it has none, those of
    /// its endpoints, or any. An address within a range is any until a filter chain asks for more.
    fn addresses(self, service: &Service, port: &ServicePort) -> Vec<String> {
        let virtual_ones = service.addresses.iter().map(ToString::to_string);
        let within = (!service.address_ranges.is_empty()).then(|| EVERYWHERE.to_owned());
        let known: Vec<_> = virtual_ones.chain(within).collect();
        if !known.is_empty() {
            return known;
        }
        if service.resolution != Resolution::Passthrough {
            return vec![EVERYWHERE.into()];
        }
        let endpoints = self.snapshot.world.endpoints(&service.id(), &port.name);
        let mut addresses: Vec<_> = endpoints
            .iter()
            .filter(|e| e.port == port.port && e.address.parse::<std::net::IpAddr>().is_ok())
            .map(|e| e.address.clone())
            .collect();
        addresses.sort_unstable();
        addresses.dedup();
        addresses
    }
}

/// Connections to other addresses than the service's are not its own.
fn limit(rules: &mut [TcpRule], service: &Service) {
    let ranges = service.address_ranges.iter().map(ToString::to_string);
    let own: Vec<_> = ranges.collect();
    for rule in rules.iter_mut().filter(|rule| rule.subnets.is_empty()) {
        rule.subnets.clone_from(&own);
    }
}
