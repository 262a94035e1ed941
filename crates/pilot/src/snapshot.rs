//! Everything that resources are made from, at one moment, with the indexes that lookups need.

use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet};
use std::sync::Arc;

use lateen_api::Object;
use lateen_api::labels;
pub(crate) use lateen_api::networking::MESH_GATEWAY;
use lateen_api::networking::{
    DestinationRule, LocalityLbSetting, OutlierDetection, VirtualService, gateway_key,
};
use lateen_core::{Hostname, ServiceId, SpiffeId};
use lateen_galley::ConfigSet;
use lateen_registry::{Provider, Service, TrafficDistribution, World};

use tokio::time::Instant;

use crate::delegate;
use crate::engine::Vantage;
use crate::model::{Networks, Sidecars};
use crate::platform::Platform;

/// Names that stand for names: more of them are taken for a ring.
const ALIAS_STEPS: usize = 8;

/// One immutable state of the world and the configuration.
#[derive(Debug)]
pub struct Snapshot {
    /// Grows with each snapshot.
    pub generation: u64,
    /// When it was begun, which is when its newest part came.
    pub since: Instant,
    /// Services and workloads.
    pub world: Arc<World>,
    /// What users wrote.
    pub config: Arc<ConfigSet>,
    /// The domain of service names, `cluster.local`.
    pub domain: String,
    rules: BTreeMap<Hostname, Vec<Arc<Object<DestinationRule>>>>,
    accounts: BTreeMap<ServiceId, Arc<[String]>>,
    /// Wildcards among the keys of `rules`, the longest first.
    wildcards: Vec<Hostname>,
    virtual_services: Vec<HostedVirtualService>,
    /// VirtualServices by each host that is no wildcard.
    by_host: HashMap<Hostname, Vec<usize>>,
    /// Wildcards of VirtualServices, with the VirtualService that has them.
    by_wildcard: Vec<(Hostname, usize)>,
    by_namespace: BTreeMap<String, Vec<Arc<Service>>>,
    asked_labels: BTreeSet<String>,
    locality_counts: bool,
    node_counts: bool,
    gives_addresses: bool,
    networks: Arc<Networks>,
    aliases: Vec<Arc<Service>>,
    sidecars: Sidecars,
}

/// A VirtualService with its hosts written in full.
#[derive(Debug)]
pub(crate) struct HostedVirtualService {
    pub(crate) object: Arc<Object<VirtualService>>,
    pub(crate) hosts: Vec<Hostname>,
}

impl HostedVirtualService {
    fn is_bound(&self, gateway: &str) -> bool {
        let (meta, spec) = (&self.object.meta, &self.object.spec);
        if spec.gateways.is_empty() {
            return gateway == MESH_GATEWAY;
        }
        let mut gateways = spec.gateways.iter();
        gateways.any(|name| gateway_key(name, &meta.namespace) == gateway)
    }
}

impl Snapshot {
    /// Indexes a world and a configuration.
    pub fn new(
        generation: u64,
        world: Arc<World>,
        config: Arc<ConfigSet>,
        platform: impl Into<Platform>,
    ) -> Self {
        let since = Instant::now();
        let platform = platform.into();
        let networks = Arc::new(Networks::new(&world, &config, &platform));
        let domain = platform.domain;
        let mut rules: BTreeMap<Hostname, Vec<_>> = BTreeMap::new();
        for rule in &config.destination_rules {
            let host = full_host(&rule.spec.host, &rule.meta.namespace, &domain);
            rules.entry(host).or_default().push(rule.clone());
        }
        let delegates: BTreeMap<_, _> = config
            .virtual_services
            .iter()
            .filter(|object| object.spec.hosts.is_empty())
            .map(|object| ((&*object.meta.namespace, &*object.meta.name), object))
            .collect();
        let export_to = &config.mesh.default_virtual_service_export_to;
        let delegate = |from: &str, namespace: &str, name: &str| {
            let found = *delegates.get(&(namespace, name))?;
            is_visible(&found.spec.export_to, export_to, namespace, from).then_some(found)
        };
        let hosted = |object: &Arc<Object<VirtualService>>| HostedVirtualService {
            object: delegate::expand(object, &domain, |namespace, name| {
                delegate(&object.meta.namespace, namespace, name)
            }),
            hosts: object
                .spec
                .hosts
                .iter()
                .map(|host| full_host(host, &object.meta.namespace, &domain))
                .collect(),
        };
        let virtual_services: Vec<_> = config.virtual_services.iter().map(hosted).collect();
        let mut by_host: HashMap<Hostname, Vec<usize>> = HashMap::new();
        let mut by_wildcard = Vec::new();
        for (i, hosted) in virtual_services.iter().enumerate() {
            for host in &hosted.hosts {
                if host.is_wildcard() {
                    by_wildcard.push((host.clone(), i));
                } else {
                    by_host.entry(host.clone()).or_default().push(i);
                }
            }
        }
        let wildcards = rules.keys().filter(|host| host.is_wildcard()).cloned();
        let mut wildcards: Vec<_> = wildcards.collect();
        wildcards.sort_by_key(|pattern| std::cmp::Reverse(pattern.len()));
        let mut asked_labels = asked_labels(&config);
        let distributes = |how: Option<TrafficDistribution>| {
            let mut wishes = world.services.values().filter_map(|s| s.distribution);
            wishes.any(|wish| how.is_none_or(|how| how == wish))
        };
        if distributes(None) {
            asked_labels.insert(labels::NETWORK.to_owned());
        }
        let mut services = world.services.values();
        let gives_addresses = services.any(|service| !service.allocated.is_empty());
        drop(services);
        let is_alias = |service: &&Arc<Service>| service.external_name.is_some();
        let aliases = world.services.values().filter(is_alias);
        let aliases = aliases.cloned().collect();
        Snapshot {
            generation,
            since,
            accounts: accounts(&world, config.mesh.trust_domain()),
            wildcards,
            virtual_services,
            by_host,
            by_wildcard,
            by_namespace: by_namespace(&world),
            locality_counts: locality_counts(&config) || distributes(None),
            node_counts: asked_labels.contains(labels::HOSTNAME)
                || distributes(Some(TrafficDistribution::SameNode)),
            asked_labels,
            gives_addresses,
            networks,
            aliases,
            sidecars: Sidecars::new(&config.sidecars, config.mesh.root_namespace()),
            rules,
            world,
            config,
            domain,
        }
    }

    /// Services that a namespace sees, one for each host name.
    pub(crate) fn services<'a>(
        &'a self,
        namespace: &'a str,
    ) -> impl Iterator<Item = &'a Arc<Service>> {
        let mut services = self.world.services.values().peekable();
        std::iter::from_fn(move || {
            let first = services.next()?;
            let mut best = self.preferred(None, first, namespace);
            // Services of one name stand side by side.
            while let Some(other) = services.next_if(|next| next.hostname == first.hostname) {
                best = self.preferred(best, other, namespace);
            }
            Some(best)
        })
        .flatten()
    }

    /// Services that live in a namespace.
    pub(crate) fn services_in(&self, namespace: &str) -> impl Iterator<Item = &Arc<Service>> {
        self.by_namespace.get(namespace).into_iter().flatten()
    }

    /// The Sidecars, by whom they are for.
    pub(crate) fn sidecars(&self) -> &Sidecars {
        &self.sidecars
    }

    /// The labels of a client by which anything outbound is chosen for it.
    pub(crate) fn asked_labels(&self) -> &BTreeSet<String> {
        &self.asked_labels
    }

    /// Whether anything outbound depends on where the client is.
    pub(crate) fn locality_counts(&self) -> bool {
        self.locality_counts
    }

    /// Whether anything outbound depends on which node the client is on.
    pub(crate) fn node_counts(&self) -> bool {
        self.node_counts
    }

    /// Whether any host was given an address, which those know of alone for whom the mesh resolves
    /// names.
    pub(crate) fn gives_addresses(&self) -> bool {
        self.gives_addresses
    }

    /// The networks of the mesh.
    pub(crate) fn networks(&self) -> &Arc<Networks> {
        &self.networks
    }

    /// The service that an ExternalName service is another name of. `None` for others, and where the
    /// namespace sees no service of the name: that is looked up by DNS.
    pub(crate) fn meant_by<'a>(
        &'a self,
        service: &'a Service,
        namespace: &str,
    ) -> Option<&'a Arc<Service>> {
        let mut name = service.external_name.as_deref()?;
        for _ in 0..ALIAS_STEPS {
            let next = self.service(name.trim_end_matches('.'), namespace)?;
            match next.external_name.as_deref() {
                None => return Some(next),
                Some(further) => name = further,
            }
        }
        None
    }

    /// Services that stand for others by name, if those are there.
    pub(crate) fn aliases(&self) -> &[Arc<Service>] {
        &self.aliases
    }

    /// The service of a full name that counts in a namespace.
    pub(crate) fn service(&self, host: &str, namespace: &str) -> Option<&Arc<Service>> {
        let named = self.world.named(host);
        named.fold(None, |best, other| self.preferred(best, other, namespace))
    }

    /// Of several visible services with one host name, a namespace uses its own, else one of
    /// Kubernetes, else the oldest.
    pub(crate) fn preferred<'a>(
        &self,
        best: Option<&'a Arc<Service>>,
        other: &'a Arc<Service>,
        namespace: &str,
    ) -> Option<&'a Arc<Service>> {
        let rank = |service: &Service| {
            let foreign = service.namespace != *namespace;
            let undated = service.created.is_none();
            let declared = service.provider != Provider::Kubernetes;
            (foreign, declared, undated, service.created)
        };
        let default = &self.config.mesh.default_service_export_to;
        let seen = is_visible(&other.export_to, default, &other.namespace, namespace);
        let better = || best.is_none_or(|best| rank(other) < rank(best));
        if seen && better() { Some(other) } else { best }
    }

    /// The SPIFFE names of those who serve a service, sorted.
    pub(crate) fn accounts(&self, service: &ServiceId) -> Arc<[String]> {
        self.accounts.get(service).cloned().unwrap_or_default()
    }

    /// The DestinationRules that hold for a proxy towards a service: those of the proxy's
    /// namespace, else of the service's, else of the root namespace. A rule for the exact host beats
    /// a wildcard, a rule that selects the proxy's workload beats one that selects all.
    ///
    /// What the root namespace exports is meant for the whole mesh, so a proxy that lives there (a
    /// gateway) has only what is not exported for its own.
    pub(crate) fn rules(
        &self,
        proxy: &Vantage,
        service: &Service,
    ) -> Vec<Arc<Object<DestinationRule>>> {
        let root = self.config.mesh.root_namespace();
        let own = proxy.namespace.as_str();
        let scopes = [
            (own, own == root),
            (service.namespace.as_str(), false),
            (root, false),
        ];
        scopes
            .into_iter()
            .map(|(namespace, private)| self.rules_in(namespace, private, proxy, &service.hostname))
            .find(|rules| !rules.is_empty())
            .unwrap_or_default()
    }

    /// The rules of one namespace; `private` leaves out those that other namespaces see too.
    fn rules_in(
        &self,
        namespace: &str,
        private: bool,
        proxy: &Vantage,
        host: &Hostname,
    ) -> Vec<Arc<Object<DestinationRule>>> {
        let default = &self.config.mesh.default_destination_rule_export_to;
        let here = |rule: &&Arc<Object<DestinationRule>>| {
            let (meta, spec) = (&rule.meta, &rule.spec);
            let selected = spec.workload_selector.as_ref().is_none_or(|selector| {
                namespace == proxy.namespace
                    && crate::wire::selects(&selector.labels, &proxy.labels)
            });
            meta.namespace == namespace
                && is_visible(&spec.export_to, default, namespace, &proxy.namespace)
                && (!private || is_private(&spec.export_to, default, namespace))
                && selected
        };
        let exact = self.rules.get(host.as_str());
        let wildcards = self.wildcards.iter();
        let wildcards = wildcards.filter(|pattern| pattern.covers(host));
        let wildcards = wildcards.filter_map(|pattern| self.rules.get(pattern));
        let candidates = exact.into_iter().chain(wildcards);
        for rules in candidates {
            let mut found: Vec<_> = rules.iter().filter(here).cloned().collect();
            if found.iter().any(|r| r.spec.workload_selector.is_some()) {
                found.retain(|r| r.spec.workload_selector.is_some());
            }
            if !found.is_empty() {
                return found;
            }
        }
        Vec::new()
    }

    /// VirtualServices that a namespace sees and that are bound to a gateway, oldest first.
    pub(crate) fn virtual_services<'a>(
        &'a self,
        namespace: &str,
        gateway: &str,
    ) -> impl Iterator<Item = &'a HostedVirtualService> {
        self.virtual_services
            .iter()
            .filter(move |hosted| hosted.is_bound(gateway) && self.sees(namespace, hosted))
    }

    /// The VirtualService that counts for a host, of those that are let through: one that names it,
    /// else the one with the longest wildcard; of equals, the oldest.
    pub(crate) fn virtual_service(
        &self,
        namespace: &str,
        gateway: &str,
        host: &Hostname,
        is_let: impl Fn(&HostedVirtualService) -> bool,
    ) -> Option<&HostedVirtualService> {
        let counts = |i: &usize| {
            let hosted = &self.virtual_services[*i];
            hosted.is_bound(gateway) && self.sees(namespace, hosted) && is_let(hosted)
        };
        let named = self.by_host.get(host).into_iter().flatten();
        let found = named.copied().find(counts).or_else(|| {
            let covering = self.by_wildcard.iter();
            let covering = covering.filter(|(pattern, i)| pattern.covers(host) && counts(i));
            covering
                .min_by_key(|(pattern, i)| (std::cmp::Reverse(pattern.len()), *i))
                .map(|(_, i)| *i)
        });
        found.map(|i| &self.virtual_services[i])
    }

    /// The hosts of VirtualServices that send or mirror to any of some hosts.
    pub(crate) fn leading_to<'a>(
        &'a self,
        hosts: &'a HashSet<Hostname>,
    ) -> impl Iterator<Item = &'a Hostname> {
        let leads = |hosted: &&HostedVirtualService| {
            let (spec, namespace) = (&hosted.object.spec, &hosted.object.meta.namespace);
            let destinations = crate::route::destinations(spec, namespace, &self.domain);
            destinations.iter().any(|host| hosts.contains(host))
        };
        let leading = self.virtual_services.iter().filter(leads);
        leading.flat_map(|hosted| &hosted.hosts)
    }

    fn sees(&self, namespace: &str, hosted: &HostedVirtualService) -> bool {
        let default = &self.config.mesh.default_virtual_service_export_to;
        let object = &hosted.object;
        is_visible(
            &object.spec.export_to,
            default,
            &object.meta.namespace,
            namespace,
        )
    }
}

/// A host of a configuration object in full: a name without dots is a service of the object's
/// namespace.
pub(crate) fn full_host(host: &str, namespace: &str, domain: &str) -> Hostname {
    if host.contains('.') || host.contains('*') {
        Hostname::new(host)
    } else {
        Hostname::service(host, namespace, domain)
    }
}

/// Whether something of namespace `home` is visible in `namespace`.
pub(crate) fn is_visible(
    export_to: &[String],
    default: &[String],
    home: &str,
    namespace: &str,
) -> bool {
    let export_to = effective(export_to, default);
    export_to.is_empty()
        || export_to.iter().any(|to| match to.as_str() {
            "*" => true,
            "." => home == namespace,
            named => named == namespace,
        })
}

/// Whether something of namespace `home` is visible there alone.
fn is_private(export_to: &[String], default: &[String], home: &str) -> bool {
    match effective(export_to, default) {
        [only] => only == "." || only == home,
        _ => false,
    }
}

fn effective<'a>(export_to: &'a [String], default: &'a [String]) -> &'a [String] {
    if export_to.is_empty() {
        default
    } else {
        export_to
    }
}

fn by_namespace(world: &World) -> BTreeMap<String, Vec<Arc<Service>>> {
    let mut by_namespace: BTreeMap<String, Vec<_>> = BTreeMap::new();
    for service in world.services.values() {
        match by_namespace.get_mut(&*service.namespace) {
            Some(services) => services.push(service.clone()),
            None => {
                by_namespace.insert(service.namespace.to_string(), vec![service.clone()]);
            }
        }
    }
    by_namespace
}

fn asked_labels(config: &ConfigSet) -> BTreeSet<String> {
    let rules = config.destination_rules.iter();
    let selectors = rules.filter_map(|rule| rule.spec.workload_selector.as_ref());
    let of_rules = selectors.flat_map(|selector| selector.labels.keys());
    let of_services = config.virtual_services.iter().flat_map(|object| {
        let spec = &object.spec;
        let http = spec.http.iter().flat_map(|route| &route.r#match);
        let tls = spec.tls.iter().flat_map(|route| &route.r#match);
        let tcp = spec.tcp.iter().flat_map(|route| &route.r#match);
        let http = http.flat_map(|of| of.source_labels.keys());
        let tls = tls.flat_map(|of| of.source_labels.keys());
        let tcp = tcp.flat_map(|of| of.source_labels.keys());
        http.chain(tls).chain(tcp)
    });
    // What is compared to find near endpoints; a value may stand behind the name.
    let places = config.destination_rules.iter();
    let places = places.flat_map(|rule| policies(&rule.spec).filter_map(|(place, _)| place));
    let compared = places
        .chain(&config.mesh.locality_lb_setting)
        .flat_map(|setting| &setting.failover_priority)
        .map(|label| label.split('=').next().unwrap_or_default().to_owned());
    of_rules
        .chain(of_services)
        .cloned()
        .chain(compared)
        .collect()
}

/// Everything that a rule says of load balancing and outliers, wherever it says it.
fn policies(
    rule: &DestinationRule,
) -> impl Iterator<Item = (Option<&LocalityLbSetting>, Option<&OutlierDetection>)> {
    let of_subsets = rule.subsets.iter();
    let of_subsets = of_subsets.filter_map(|subset| subset.traffic_policy.as_ref());
    rule.traffic_policy
        .iter()
        .chain(of_subsets)
        .flat_map(|policy| {
            let ports = policy.port_level_settings.iter();
            let ports = ports.map(|port| (&port.load_balancer, &port.outlier_detection));
            let whole = (&policy.load_balancer, &policy.outlier_detection);
            std::iter::once(whole)
                .chain(ports)
                .map(|(balancer, outliers)| {
                    let place = balancer
                        .as_ref()
                        .and_then(|b| b.locality_lb_setting.as_ref());
                    (place, outliers.as_ref())
                })
        })
}

/// Whether anything depends on where a client is: shares of places do, and so does going on to
/// another place, which needs outlier detection.
fn locality_counts(config: &ConfigSet) -> bool {
    let shares = |setting: &LocalityLbSetting| !setting.distribute.is_empty();
    let mut rules = config.destination_rules.iter();
    let of_mesh = config.mesh.default_traffic_policy.as_ref();
    config.mesh.locality_lb_setting.as_ref().is_some_and(shares)
        || of_mesh.is_some_and(|policy| policy.outlier_detection.is_some())
        || rules.any(|rule| {
            policies(&rule.spec)
                .any(|(place, outliers)| outliers.is_some() || place.is_some_and(shares))
        })
}

fn accounts(world: &World, trust_domain: &str) -> BTreeMap<ServiceId, Arc<[String]>> {
    let mut by_service: BTreeMap<ServiceId, BTreeSet<String>> = BTreeMap::new();
    for (key, endpoints) in &world.endpoints {
        let names = by_service.entry(key.service.clone()).or_default();
        for endpoint in endpoints.iter().filter(|e| !e.service_account.is_empty()) {
            // Names that are no identity cannot be verified either.
            let id = SpiffeId::new(trust_domain, &endpoint.namespace, &endpoint.service_account);
            names.extend(id.ok().map(|id| id.to_string()));
        }
    }
    for service in world.services.values() {
        if !service.subject_alt_names.is_empty() {
            let names = by_service.entry(service.id()).or_default();
            names.extend(service.subject_alt_names.iter().cloned());
        }
    }
    let shared = |(id, names): (ServiceId, BTreeSet<String>)| (id, names.into_iter().collect());
    by_service.into_iter().map(shared).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn hosts_in_full() {
        let check = |host: &str, want: &str| {
            assert_eq!(full_host(host, "ns", "cluster.local").as_str(), want);
        };
        check("reviews", "reviews.ns.svc.cluster.local");
        check("reviews.other", "reviews.other");
        check("*.example.com", "*.example.com");
        check("*", "*");
    }

    #[test]
    fn visibility() {
        let check = |export: &[&str], default: &[&str], want: bool| {
            let owned = |of: &[&str]| of.iter().map(|s| (*s).to_owned()).collect::<Vec<_>>();
            let seen = is_visible(&owned(export), &owned(default), "home", "away");
            assert_eq!(seen, want, "{export:?} {default:?}");
        };
        check(&[], &[], true);
        check(&["*"], &["."], true);
        check(&["."], &[], false);
        check(&[], &["."], false);
        check(&["other", "away"], &[], true);
    }

    #[test]
    fn of_several_services_of_one_name_a_namespace_uses_its_own() {
        let of = |namespace: &str, provider, day: u8, export_to: &[&str]| {
            let created = format!("2026-01-0{day}T00:00:00Z").parse();
            Arc::new(Service {
                hostname: Hostname::new("api.example.com"),
                namespace: namespace.into(),
                provider,
                created: Some(created.expect("a time")),
                export_to: export_to.iter().map(|to| (*to).into()).collect(),
                ..Service::clone(&crate::fixture::service("x", &[]))
            })
        };
        let check = |services: &[Arc<Service>], namespace: &str, want: Option<&str>| {
            let services = services.iter().map(|s| (s.id(), s.clone())).collect();
            let world = World {
                services,
                ..World::default()
            };
            let snapshot = Snapshot::new(1, Arc::new(world), Arc::default(), "cluster.local");
            let found = snapshot.service("api.example.com", namespace);
            assert_eq!(found.map(|s| s.namespace.as_str()), want, "{namespace}");
            let listed: Vec<_> = snapshot.services(namespace).collect();
            assert_eq!(listed, found.into_iter().collect::<Vec<_>>(), "one a name");
        };
        let entry = Provider::ServiceEntry;
        let old = of("old", entry, 1, &[]);
        let own = of("own", entry, 9, &["."]);
        let platform = of("platform", Provider::Kubernetes, 5, &[]);
        let all = [old.clone(), own.clone(), platform];
        check(&all, "own", Some("own"));
        check(&all, "old", Some("old"));
        check(&all, "other", Some("platform"));
        let entries = [of("late", entry, 3, &[]), old, own.clone()];
        check(&entries, "other", Some("old"));
        check(std::slice::from_ref(&own), "other", None);
        check(&[own], "own", Some("own"));
    }
}
