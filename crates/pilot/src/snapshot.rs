//! Everything that resources are made from, at one moment, with the indexes that lookups need.

mod of_config;
mod of_world;

use std::collections::{BTreeSet, HashSet};
use std::sync::Arc;

use lateen_api::Object;
use lateen_api::labels;
pub(crate) use lateen_api::networking::MESH_GATEWAY;
use lateen_api::networking::{DestinationRule, VirtualService, gateway_key};
use lateen_core::{Hostname, Labels, ServiceId};
use lateen_galley::ConfigSet;
use lateen_registry::{Provider, Service, World};
use tokio::time::Instant;

use crate::delegate::{self, MadeOf};
use crate::engine::Vantage;
use crate::model::{Networks, Sidecars};
use crate::platform::Platform;
use crate::proxy::Kind;
pub(crate) use of_config::same;
use of_config::{ConfigIndex, Delegates, Expanded};
use of_world::WorldIndex;
pub(crate) use of_world::is_by_name;

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
    platform: Platform,
    networks: Arc<Networks>,
    of_config: Arc<ConfigIndex>,
    of_world: WorldIndex,
    asked_labels: Arc<BTreeSet<String>>,
}

/// A VirtualService with its hosts written in full. Cheap to clone.
#[derive(Clone, Debug)]
pub(crate) struct HostedVirtualService {
    /// With the rules of its delegates.
    pub(crate) object: Arc<Object<VirtualService>>,
    pub(crate) hosts: Arc<[Hostname]>,
    /// What `object` was made of, where that is another one than was written.
    expanded: Option<Arc<Expanded>>,
}

impl HostedVirtualService {
    pub(crate) fn is_bound(&self, gateway: &str) -> bool {
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
        let platform = platform.into();
        let domain = platform.domain.clone();
        let of_config = Arc::new(ConfigIndex::new(&config, &domain));
        let of_world = WorldIndex::new(&world, &config.mesh.trust_domains());
        Snapshot {
            generation,
            since: Instant::now(),
            asked_labels: Arc::new(asked_labels(&of_config, &of_world)),
            networks: Arc::new(Networks::new(
                &world,
                &of_world.labelled,
                &config,
                &platform,
            )),
            platform,
            of_config,
            of_world,
            world,
            config,
            domain,
        }
    }

    /// The one after this, of another world or configuration: as if it were indexed anew, with the
    /// work that what changed asks for.
    #[must_use]
    pub fn next(&self, generation: u64, world: Arc<World>, config: Arc<ConfigSet>) -> Self {
        let of_config = match Arc::ptr_eq(&self.config, &config) {
            true => self.of_config.clone(),
            false => Arc::new(self.of_config.next(&self.config, &config, &self.domain)),
        };
        let trust_domains = config.mesh.trust_domains();
        let of_world = match trust_domains[..] == *self.of_world.trust_domains {
            true => self.of_world.next(&self.world, &world),
            false => WorldIndex::new(&world, &trust_domains),
        };
        let asked = asked_labels(&of_config, &of_world);
        Snapshot {
            generation,
            since: Instant::now(),
            asked_labels: match asked == *self.asked_labels {
                true => self.asked_labels.clone(),
                false => Arc::new(asked),
            },
            networks: self.next_networks(&world, &of_world.labelled, &config),
            platform: self.platform.clone(),
            of_config,
            of_world,
            world,
            config,
            domain: self.domain.clone(),
        }
    }

    fn next_networks(
        &self,
        world: &World,
        labelled: &[Arc<Service>],
        config: &ConfigSet,
    ) -> Arc<Networks> {
        let before = &self.networks;
        // Endpoints, which change all the time, have no say in them.
        if world.services.changed(&self.world.services).is_empty()
            && world.namespaces.changed(&self.world.namespaces).is_empty()
            && Arc::ptr_eq(&config.mesh, &self.config.mesh)
            && Arc::ptr_eq(&config.networks, &self.config.networks)
        {
            return before.clone();
        }
        let networks = Networks::new(world, labelled, config, &self.platform);
        match networks == **before {
            true => before.clone(),
            false => Arc::new(networks),
        }
    }

    /// All VirtualServices, the oldest first, and the hosts that several of them have.
    pub(crate) fn hosted(&self) -> (&[HostedVirtualService], &HashSet<Hostname>) {
        let hosted = &self.of_config.hosted;
        (&hosted.all, &hosted.places.contested)
    }

    /// Services whose hosts are looked up by the names that clients give.
    pub(crate) fn by_name(&self) -> &[Arc<Service>] {
        &self.of_world.by_name
    }

    /// Services whose host is a wildcard, in the order of the world.
    pub(crate) fn wildcards(&self) -> &[Arc<Service>] {
        &self.of_world.wildcards
    }

    /// Whether what counts of a client for anything outbound is the same in another snapshot.
    pub(crate) fn asks_the_same_as(&self, other: &Snapshot) -> bool {
        self.asked_labels == other.asked_labels
            && self.locality_counts() == other.locality_counts()
            && self.node_counts() == other.node_counts()
            && Arc::ptr_eq(&self.networks, &other.networks)
            && Arc::ptr_eq(&self.of_config.sidecars, &other.of_config.sidecars)
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
        self.of_world.services_in(namespace)
    }

    /// The Sidecars, by whom they are for.
    pub(crate) fn sidecars(&self) -> &Sidecars {
        &self.of_config.sidecars
    }

    /// The labels of a client by which anything outbound is chosen for it.
    pub(crate) fn asked_labels(&self) -> &BTreeSet<String> {
        &self.asked_labels
    }

    /// Whether anything outbound depends on where the client is.
    pub(crate) fn locality_counts(&self) -> bool {
        self.of_config.locality_counts || self.of_world.n_near > 0
    }

    /// Whether anything outbound depends on which node the client is on.
    pub(crate) fn node_counts(&self) -> bool {
        self.asked_labels.contains(labels::HOSTNAME) || self.of_world.n_same_node > 0
    }

    /// Whether any DestinationRule for some workloads names a credential.
    pub(crate) fn names_any_credentials(&self) -> bool {
        !self.of_config.rules.naming.is_empty()
    }

    /// Whether a DestinationRule for workloads of these labels names a credential, which their sidecars
    /// ask the control plane for.
    pub(crate) fn names_credentials(&self, namespace: &str, labels: &Labels) -> bool {
        self.of_config.rules.naming.iter().any(|rule| {
            let selector = rule.spec.workload_selector.as_ref();
            rule.meta.namespace == namespace
                && selector.is_some_and(|of| crate::wire::selects(&of.match_labels, labels))
        })
    }

    /// The networks of the mesh.
    pub(crate) fn networks(&self) -> &Arc<Networks> {
        &self.networks
    }

    /// The VirtualService that a user wrote, of one that may hold the rules of its delegates, and what
    /// each of these rules was made of.
    pub(crate) fn made_of(
        &self,
        object: &Object<VirtualService>,
    ) -> Option<(&Arc<Object<VirtualService>>, Vec<MadeOf<'_>>)> {
        let mut all = self.config.virtual_services.iter();
        let root = all.find(|root| root.key() == object.key())?;
        let delegates = Delegates::of(&self.config);
        let from = &root.meta.namespace;
        let find = |namespace: &str, name: &str| delegates.find(from, namespace, name);
        let rules = delegate::rules(root, &self.domain, find).into_iter();
        Some((root, rules.map(|(_, made_of)| made_of).collect()))
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
        &self.of_world.aliases
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

    /// Trust domains whose workloads are of the mesh.
    pub(crate) fn trust_domains(&self) -> &Arc<[String]> {
        &self.of_world.trust_domains
    }

    /// The SPIFFE names of those who serve a service, sorted.
    pub(crate) fn accounts(&self, service: &ServiceId) -> Arc<[String]> {
        self.of_world.accounts(service)
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
        let mut rules = scopes
            .into_iter()
            .map(|(namespace, private)| self.rules_in(namespace, private, proxy, &service.hostname))
            .find(|rules| !rules.is_empty())
            .unwrap_or_default();
        if proxy.kind == Kind::Router {
            let tls = self.of_config.rules.backend_tls.get(&service.hostname);
            let tls = tls.into_iter().flatten();
            let own = tls.filter(|rule| *rule.meta.namespace == *service.namespace);
            rules.extend(own.cloned());
        }
        rules
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
                    && crate::wire::selects(&selector.match_labels, &proxy.labels)
            });
            meta.namespace == namespace
                && is_visible(&spec.export_to, default, namespace, &proxy.namespace)
                && (!private || is_private(&spec.export_to, default, namespace))
                && selected
        };
        let exact = self.of_config.rules.by_host.get(host.as_str());
        let wildcards = self.of_config.rules.wildcards.iter();
        let wildcards = wildcards.filter(|pattern| pattern.covers(host));
        let wildcards = wildcards.filter_map(|pattern| self.of_config.rules.by_host.get(pattern));
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
        self.of_config
            .hosted
            .all
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
            let hosted = &self.of_config.hosted.all[*i];
            hosted.is_bound(gateway) && self.sees(namespace, hosted) && is_let(hosted)
        };
        let named = self
            .of_config
            .hosted
            .places
            .by_host
            .get(host)
            .into_iter()
            .flatten();
        let found = named.copied().find(counts).or_else(|| {
            let covering = self.of_config.hosted.places.by_wildcard.iter();
            let covering = covering.filter(|(pattern, i)| pattern.covers(host) && counts(i));
            covering
                .min_by_key(|(pattern, i)| (std::cmp::Reverse(pattern.len()), *i))
                .map(|(_, i)| *i)
        });
        found.map(|i| &self.of_config.hosted.all[i])
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
        let leading = self.of_config.hosted.all.iter().filter(leads);
        leading.flat_map(|hosted| &*hosted.hosts)
    }

    pub(crate) fn sees(&self, namespace: &str, hosted: &HostedVirtualService) -> bool {
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
pub fn full_host(host: &str, namespace: &str, domain: &str) -> Hostname {
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

fn asked_labels(of_config: &ConfigIndex, of_world: &WorldIndex) -> BTreeSet<String> {
    let mut asked = of_config.asked_labels.clone();
    if of_world.n_near > 0 {
        asked.insert(labels::NETWORK.to_owned());
    }
    asked
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
