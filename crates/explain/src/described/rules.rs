//! Rules of VirtualServices that lead to a service, and the gateways by which they are reached.

use std::collections::BTreeMap;

use lateen_api::Object;
use lateen_api::networking::{
    Destination, HttpMatchRequest, HttpRoute, L4MatchAttributes, MESH_GATEWAY, Server, StringMatch,
    TlsMatchAttributes, VirtualService, gateway_key,
};
use lateen_core::Hostname;
use lateen_pilot::full_host;
use lateen_registry::{Service, TargetPort, Workload};

use super::{DescribedService, has_all};
use crate::platform::Platform;

/// A rule that leads to a service.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Leading {
    /// The object that somebody wrote: `VirtualService default/reviews`.
    pub object: String,
    /// `HTTP`, `TLS` or `TCP`.
    pub protocol: &'static str,
    /// Its place among the rules of the protocol, from 1, and how many there are.
    pub place: (usize, usize),
    /// The hosts that it is for.
    pub hosts: Vec<String>,
    /// `mesh` for clients within, and the gateways of others.
    pub gateways: Vec<String>,
    /// Conditions, of which one must hold; none for all requests.
    pub when: Vec<String>,
    /// What it leads to: subset (empty for all), and its share in percent.
    pub to: Vec<(String, f64)>,
    /// Whether the workload is in one of these; always so where none is asked for.
    pub here: bool,
    /// What else becomes of requests: `fault`, `timeout 5s`.
    pub also: Vec<String>,
}

/// A gateway that a service is reached by.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Exposed {
    /// The gateway.
    pub gateway: String,
    /// Where clients find it; empty where it has no address.
    pub at: Vec<String>,
}

/// Finds them all.
pub(super) fn find(
    platform: &Platform,
    service: &Service,
    workload: Option<&Workload>,
    told: &mut DescribedService,
) {
    let finder = Finder {
        platform,
        service,
        told,
        any: workload.is_none(),
    };
    let mut leading = Vec::new();
    let mut elsewhere = Vec::new();
    for object in &platform.config.virtual_services {
        let found = finder.of(object);
        if found.is_empty() && finder.is_for_host(object) {
            elsewhere.push(written(object));
        }
        leading.extend(found);
    }
    elsewhere.dedup();
    told.exposed = exposed(platform, &leading);
    for rule in &mut leading {
        for gateway in &mut rule.gateways {
            *gateway = gateway_name(platform, gateway);
        }
    }
    told.elsewhere = elsewhere;
    told.leading = leading;
}

struct Finder<'a> {
    platform: &'a Platform,
    service: &'a Service,
    told: &'a DescribedService,
    /// No workload is asked for.
    any: bool,
}

impl Finder<'_> {
    fn of(&self, object: &Object<VirtualService>) -> Vec<Leading> {
        let spec = &object.spec;
        let http = spec.http.iter().enumerate().filter_map(|(at, rule)| {
            let to = rule.route.iter();
            let to = to.map(|route| (route.destination.as_ref(), route.weight));
            let base = self.rule(object, "HTTP", (at, spec.http.len()), to.collect())?;
            let when = rule.r#match.iter().map(http_condition).collect();
            let also = also(rule);
            Some(Leading { when, also, ..base })
        });
        let tls = spec.tls.iter().enumerate().filter_map(|(at, rule)| {
            let to = rule.route.iter();
            let to = to.map(|route| (route.destination.as_ref(), route.weight));
            let base = self.rule(object, "TLS", (at, spec.tls.len()), to.collect())?;
            let when = rule.r#match.iter().map(tls_condition).collect();
            Some(Leading { when, ..base })
        });
        let tcp = spec.tcp.iter().enumerate().filter_map(|(at, rule)| {
            let to = rule.route.iter();
            let to = to.map(|route| (route.destination.as_ref(), route.weight));
            let base = self.rule(object, "TCP", (at, spec.tcp.len()), to.collect())?;
            let when = rule.r#match.iter().map(tcp_condition).collect();
            Some(Leading { when, ..base })
        });
        http.chain(tls).chain(tcp).collect()
    }

    /// What is the same for all protocols; `None` where the rule leads elsewhere.
    fn rule(
        &self,
        object: &Object<VirtualService>,
        protocol: &'static str,
        (at, count): (usize, usize),
        to: Vec<(Option<&Destination>, i32)>,
    ) -> Option<Leading> {
        let total: i32 = to.iter().map(|(_, weight)| *weight).sum();
        let share = |weight: i32| match total {
            // The only destination gets all, whatever its weight is.
            0 => 100.0 / to.len() as f64,
            total => f64::from(weight) * 100.0 / f64::from(total),
        };
        let own = to.iter().filter_map(|(destination, weight)| {
            let destination = destination.filter(|of| self.is_own(object, of))?;
            Some((destination.subset.clone(), share(*weight)))
        });
        let own: Vec<(String, f64)> = own.collect();
        if own.is_empty() {
            return None;
        }
        let (hosts, gateways) = self.reached_by(object);
        Some(Leading {
            object: written(object),
            protocol,
            place: (at + 1, count),
            hosts,
            gateways,
            here: own.iter().any(|(subset, _)| self.has_workload(subset)),
            to: own,
            ..Leading::default()
        })
    }

    fn is_own(&self, object: &Object<VirtualService>, destination: &Destination) -> bool {
        let (namespace, domain) = (&object.meta.namespace, &self.platform.domain);
        full_host(&destination.host, namespace, domain) == self.service.hostname
    }

    fn has_workload(&self, subset: &str) -> bool {
        let mut rules = self.told.rules.iter();
        self.any
            || subset.is_empty()
            || rules.any(|rule| rule.subsets.iter().any(|name| name == subset))
    }

    /// The hosts and gateways of an object; of a delegate, those of the objects that lead to it.
    fn reached_by(&self, object: &Object<VirtualService>) -> (Vec<String>, Vec<String>) {
        let own = [object];
        let roots = self.platform.config.virtual_services.iter();
        let roots = roots.map(|root| &**root).filter(|root| {
            let mut rules = root.spec.http.iter();
            rules.any(|rule| {
                rule.delegate.as_ref().is_some_and(|delegate| {
                    let namespace = match delegate.namespace.as_str() {
                        "" => &root.meta.namespace,
                        named => named,
                    };
                    delegate.name == object.meta.name && namespace == object.meta.namespace
                })
            })
        });
        let by: Vec<&Object<VirtualService>> = match object.spec.hosts.is_empty() {
            true => roots.collect(),
            false => own.to_vec(),
        };
        let hosts = by.iter().flat_map(|of| of.spec.hosts.iter().cloned());
        let gateways = by.iter().flat_map(|of| {
            let named = of.spec.gateways.iter();
            let named = named.map(|name| gateway_key(name, &of.meta.namespace).to_string());
            let implied = of.spec.gateways.is_empty().then(|| MESH_GATEWAY.to_owned());
            named.chain(implied)
        });
        (hosts.collect(), gateways.collect())
    }

    /// Whether it says what becomes of requests for the service's host, within the mesh.
    fn is_for_host(&self, object: &Object<VirtualService>) -> bool {
        let namespace = &object.meta.namespace;
        let spec = &object.spec;
        let within = spec.gateways.is_empty() || spec.gateways.iter().any(|g| g == MESH_GATEWAY);
        let mut hosts = spec.hosts.iter();
        within
            && hosts.any(|host| {
                let host = full_host(host, namespace, &self.platform.domain);
                host == self.service.hostname || host.covers(&self.service.hostname)
            })
    }
}

/// An object by what somebody wrote.
fn written(object: &Object<VirtualService>) -> String {
    let sources = lateen_galley::sources(&object.meta);
    let all = sources
        .into_iter()
        .chain(lateen_galley::l4_sources(&object.meta));
    match all.flatten().next() {
        Some(source) => format!("{} {}/{}", source.kind, source.namespace, source.name),
        None => format!("VirtualService {}", object.key()),
    }
}

/// A gateway of a key by what somebody wrote.
fn gateway_name(platform: &Platform, key: &str) -> String {
    let mut all = platform.config.gateways.iter();
    let found = all.find(|gateway| gateway.key() == key);
    let source =
        found.and_then(|gateway| lateen_galley::sources(&gateway.meta)?.into_iter().next());
    source.map_or_else(
        || key.to_owned(),
        |source| format!("{}/{}", source.namespace, source.name),
    )
}

fn exposed(platform: &Platform, leading: &[Leading]) -> Vec<Exposed> {
    let mut by_gateway: BTreeMap<String, Vec<String>> = BTreeMap::new();
    for rule in leading.iter().filter(|rule| rule.here) {
        for key in rule.gateways.iter().filter(|key| *key != MESH_GATEWAY) {
            let at = by_gateway.entry(gateway_name(platform, key)).or_default();
            at.extend(addresses(platform, key, &rule.hosts));
        }
    }
    let sorted = by_gateway.into_iter().map(|(gateway, mut at)| {
        at.sort();
        at.dedup();
        Exposed { gateway, at }
    });
    sorted.collect()
}

/// Where clients find the servers of a gateway that are for any of some hosts.
fn addresses(platform: &Platform, key: &str, hosts: &[String]) -> Vec<String> {
    let mut gateways = platform.config.gateways.iter();
    let Some(gateway) = gateways.find(|gateway| gateway.key() == key) else {
        return Vec::new();
    };
    let world = &platform.world;
    let pods = world.workloads_by_ip.values();
    let pods = pods.filter(|pod| has_all(&pod.labels, &gateway.spec.selector));
    let mut services: Vec<_> = pods.flat_map(|pod| world.services_of(pod)).collect();
    services.sort_by(|a, b| a.hostname.cmp(&b.hostname));
    services.dedup_by(|a, b| a.id() == b.id());
    let servers = gateway
        .spec
        .servers
        .iter()
        .filter(|server| serves(server, hosts));
    let mut found = Vec::new();
    for server in servers {
        let Some(port) = &server.port else { continue };
        let Ok(number) = u16::try_from(port.number) else {
            continue;
        };
        for service in &services {
            let Some(outside) = port_before(service, number) else {
                continue;
            };
            let addresses = service.load_balancer.iter();
            found.extend(addresses.map(|address| url(&port.protocol, address, outside)));
        }
    }
    found
}

/// The port of a gateway's service behind which a server is: that of the same number, or one that leads
/// to that number at the gateway's pods.
fn port_before(service: &Service, number: u16) -> Option<u16> {
    let same = service.port(number).map(|port| port.port);
    let leading = || {
        let mut ports = service.ports.iter();
        ports.find(|port| port.target_port == TargetPort::Number(number))
    };
    same.or_else(|| leading().map(|port| port.port))
}

/// Whether a server is for any of some hosts.
fn serves(server: &Server, hosts: &[String]) -> bool {
    server.hosts.iter().any(|own| {
        let own = own.rsplit_once('/').map_or(own.as_str(), |(_, host)| host);
        let own = Hostname::new(own);
        hosts.iter().any(|host| {
            let host = Hostname::new(host);
            own == host || own.covers(&host) || host.covers(&own)
        })
    })
}

fn url(protocol: &str, address: &str, port: u16) -> String {
    let (scheme, usual) = match protocol.to_ascii_uppercase().as_str() {
        "HTTP" | "HTTP2" | "GRPC" | "GRPC-WEB" => ("http", 80),
        "HTTPS" | "TLS" => ("https", 443),
        _ => ("tcp", 0),
    };
    let address = match address.contains(':') {
        true => format!("[{address}]"),
        false => address.to_owned(),
    };
    match port == usual {
        true => format!("{scheme}://{address}"),
        false => format!("{scheme}://{address}:{port}"),
    }
}

fn also(rule: &HttpRoute) -> Vec<String> {
    let mut also = Vec::new();
    let fault = rule.fault.as_ref();
    for (what, is) in [
        ("delays", fault.is_some_and(|fault| fault.delay.is_some())),
        ("aborts", fault.is_some_and(|fault| fault.abort.is_some())),
        (
            "a mirror",
            rule.mirror.is_some() || !rule.mirrors.is_empty(),
        ),
        ("a rewrite", rule.rewrite.is_some()),
        ("retries", rule.retries.is_some()),
        ("changed headers", rule.headers.is_some()),
        ("CORS", rule.cors_policy.is_some()),
    ] {
        if is {
            also.push(what.to_owned());
        }
    }
    let timeout = rule.timeout.as_ref();
    also.extend(timeout.map(|timeout| format!("timeout {timeout}")));
    also
}

/// `/login`, `/static*`, `~/v[0-9]+`.
fn path(of: &StringMatch) -> String {
    match of {
        StringMatch::Present => "*".to_owned(),
        StringMatch::Exact(value) => value.clone(),
        StringMatch::Prefix(value) => format!("{value}*"),
        StringMatch::Regex(value) => format!("~{value}"),
    }
}

/// `end-user=jason`.
fn named(name: &str, of: &StringMatch) -> String {
    match of {
        StringMatch::Present => name.to_owned(),
        of => format!("{name}={}", path(of)),
    }
}

fn http_condition(of: &HttpMatchRequest) -> String {
    let mut parts: Vec<String> = of.uri.iter().map(path).collect();
    let single = [
        ("method", &of.method),
        ("authority", &of.authority),
        ("scheme", &of.scheme),
    ];
    for (name, value) in single {
        parts.extend(value.as_ref().map(|value| named(name, value)));
    }
    let headers = of.headers.iter();
    parts.extend(headers.map(|(name, value)| format!("header {}", named(name, value))));
    let without = of.without_headers.iter();
    parts.extend(without.map(|(name, value)| format!("without header {}", named(name, value))));
    let query = of.query_params.iter();
    parts.extend(query.map(|(name, value)| format!("query {}", named(name, value))));
    parts.extend(source(of.port, &of.source_labels, &of.source_namespace));
    joined(parts)
}

fn tls_condition(of: &TlsMatchAttributes) -> String {
    let mut parts = vec![format!("server name {}", of.sni_hosts.join(" or "))];
    let subnets = of.destination_subnets.iter();
    parts.extend(subnets.map(|subnet| format!("to {subnet}")));
    parts.extend(source(of.port, &of.source_labels, &of.source_namespace));
    joined(parts)
}

fn tcp_condition(of: &L4MatchAttributes) -> String {
    let subnets = of.destination_subnets.iter();
    let mut parts: Vec<String> = subnets.map(|subnet| format!("to {subnet}")).collect();
    if !of.source_subnet.is_empty() {
        parts.push(format!("from {}", of.source_subnet));
    }
    parts.extend(source(of.port, &of.source_labels, &of.source_namespace));
    joined(parts)
}

fn source(port: Option<u32>, labels: &BTreeMap<String, String>, namespace: &str) -> Vec<String> {
    let mut parts: Vec<String> = port.iter().map(|port| format!("port {port}")).collect();
    let labels = labels.iter();
    parts.extend(labels.map(|(name, value)| format!("from workloads {name}={value}")));
    if !namespace.is_empty() {
        parts.push(format!("from namespace {namespace}"));
    }
    parts
}

fn joined(parts: Vec<String>) -> String {
    match parts.is_empty() {
        true => "all".to_owned(),
        false => parts.join(", "),
    }
}
