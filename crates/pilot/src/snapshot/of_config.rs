//! What lookups need of a configuration: rules by host, and what they ask of clients.

use std::cell::RefCell;
use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet};
use std::sync::Arc;

use lateen_api::Object;
use lateen_api::networking::{
    DestinationRule, LocalityLbSetting, OutlierDetection, VirtualService, ZoneAwareLbSetting,
};
use lateen_core::Hostname;
use lateen_galley::{BACKEND_TLS, ConfigSet};

use super::{HostedVirtualService, full_host, is_visible};
use crate::delegate;
use crate::model::Sidecars;
use crate::policy;

/// The index of one configuration. Parts of which nothing changed are those of the one before.
#[derive(Debug)]
pub(super) struct ConfigIndex {
    pub(super) rules: Arc<Rules>,
    pub(super) hosted: Arc<Hosted>,
    pub(super) sidecars: Arc<Sidecars>,
    pub(super) asked_labels: BTreeSet<String>,
    pub(super) locality_counts: bool,
}

/// DestinationRules by their host.
#[derive(Debug)]
pub(super) struct Rules {
    pub(super) by_host: BTreeMap<Hostname, Vec<Arc<Object<DestinationRule>>>>,
    /// What BackendTLSPolicies became, which holds for gateways beside the others.
    pub(super) backend_tls: BTreeMap<Hostname, Vec<Arc<Object<DestinationRule>>>>,
    /// Wildcards among the keys of `by_host`, the longest first.
    pub(super) wildcards: Vec<Hostname>,
    /// Those for some workloads that name a credential of theirs.
    pub(super) naming: Vec<Arc<Object<DestinationRule>>>,
}

/// VirtualServices by their hosts.
#[derive(Debug, Default)]
pub(super) struct Hosted {
    /// The oldest first.
    pub(super) all: Vec<HostedVirtualService>,
    pub(super) places: Arc<Places>,
}

/// Where in a list of VirtualServices those for a host are.
#[derive(Debug, Default)]
pub(super) struct Places {
    /// By each host that is no wildcard.
    pub(super) by_host: HashMap<Hostname, Vec<usize>>,
    /// Wildcards, with the VirtualService that has them.
    pub(super) by_wildcard: Vec<(Hostname, usize)>,
    /// Hosts that several of them have.
    pub(super) contested: HashSet<Hostname>,
}

/// Whether two lists have the same allocations in the same order.
pub(crate) fn same<T>(a: &[Arc<T>], b: &[Arc<T>]) -> bool {
    a.len() == b.len() && a.iter().zip(b).all(|(a, b)| Arc::ptr_eq(a, b))
}

impl ConfigIndex {
    pub(super) fn new(config: &ConfigSet, domain: &str) -> ConfigIndex {
        ConfigIndex {
            rules: Arc::new(Rules::new(config, domain)),
            hosted: Arc::new(Hosted::new(config, domain, &Hosted::default())),
            sidecars: Arc::new(sidecars(config)),
            asked_labels: asked_labels(config),
            locality_counts: locality_counts(config),
        }
    }

    /// The index of what `was` has become.
    pub(super) fn next(&self, was: &ConfigSet, is: &ConfigSet, domain: &str) -> ConfigIndex {
        let same_mesh = Arc::ptr_eq(&was.mesh, &is.mesh);
        let same_rules = same(&was.destination_rules, &is.destination_rules);
        let same_virtual_services = same(&was.virtual_services, &is.virtual_services);
        let same_sidecars = same(&was.sidecars, &is.sidecars);
        ConfigIndex {
            rules: match same_rules {
                true => self.rules.clone(),
                false => Arc::new(Rules::new(is, domain)),
            },
            hosted: match same_mesh && same_virtual_services {
                true => self.hosted.clone(),
                false => Arc::new(Hosted::new(is, domain, &self.hosted)),
            },
            sidecars: match same_mesh && same_sidecars {
                true => self.sidecars.clone(),
                false => Arc::new(sidecars(is)),
            },
            asked_labels: match same_mesh && same_rules && same_virtual_services {
                true => self.asked_labels.clone(),
                false => asked_labels(is),
            },
            locality_counts: match same_mesh && same_rules {
                true => self.locality_counts,
                false => locality_counts(is),
            },
        }
    }
}

fn sidecars(config: &ConfigSet) -> Sidecars {
    Sidecars::new(&config.sidecars, config.mesh.root_namespace())
}

impl Rules {
    fn new(config: &ConfigSet, domain: &str) -> Rules {
        let mut by_host: BTreeMap<Hostname, Vec<_>> = BTreeMap::new();
        let mut backend_tls: BTreeMap<Hostname, Vec<_>> = BTreeMap::new();
        for rule in &config.destination_rules {
            let host = full_host(&rule.spec.host, &rule.meta.namespace, domain);
            let all = match rule.meta.annotations.contains_key(BACKEND_TLS) {
                true => &mut backend_tls,
                false => &mut by_host,
            };
            all.entry(host).or_default().push(rule.clone());
        }
        let wildcards = by_host.keys().filter(|host| host.is_wildcard()).cloned();
        let mut wildcards: Vec<_> = wildcards.collect();
        wildcards.sort_by_key(|pattern| std::cmp::Reverse(pattern.len()));
        let naming = config.destination_rules.iter();
        let naming = naming.filter(|rule| policy::is_credential_for_some(&rule.spec));
        Rules {
            by_host,
            backend_tls,
            wildcards,
            naming: naming.cloned().collect(),
        }
    }
}

impl Hosted {
    /// The index of a configuration. What is the same as before is taken from there.
    fn new(config: &ConfigSet, domain: &str, before: &Hosted) -> Hosted {
        let delegates = Delegates::of(config);
        let mut known = Known { all: &before.all };
        let services = config.virtual_services.iter();
        let all: Vec<_> = services
            .map(|object| {
                let found = known.find(object, &delegates);
                found.unwrap_or_else(|| hosted(object, &delegates, domain))
            })
            .collect();
        let same_hosts = |(a, b): (&HostedVirtualService, &HostedVirtualService)| {
            Arc::ptr_eq(&a.hosts, &b.hosts) || a.hosts == b.hosts
        };
        let is_same = all.len() == before.all.len() && all.iter().zip(&before.all).all(same_hosts);
        Hosted {
            places: match is_same {
                true => before.places.clone(),
                false => Arc::new(Places::of(&all)),
            },
            all,
        }
    }
}

/// A VirtualService with its hosts in full and the rules of its delegates.
fn hosted(
    written: &Arc<Object<VirtualService>>,
    delegates: &Delegates<'_>,
    domain: &str,
) -> HostedVirtualService {
    let from = &written.meta.namespace;
    let looked_up = RefCell::new(Vec::new());
    let object = delegate::expand(written, domain, |namespace, name| {
        let found = delegates.find(from, namespace, name);
        let looked = LookedUp {
            namespace: namespace.to_owned(),
            name: name.to_owned(),
            found: found.cloned(),
        };
        looked_up.borrow_mut().push(looked);
        found
    });
    let expanded = (!Arc::ptr_eq(&object, written)).then(|| Expanded {
        written: written.clone(),
        looked_up: looked_up.into_inner(),
    });
    let hosts = written.spec.hosts.iter();
    HostedVirtualService {
        object,
        hosts: hosts.map(|host| full_host(host, from, domain)).collect(),
        expanded: expanded.map(Arc::new),
    }
}

/// What a VirtualService with delegates was made of.
#[derive(Debug)]
pub(super) struct Expanded {
    written: Arc<Object<VirtualService>>,
    looked_up: Vec<LookedUp>,
}

/// A delegate that was looked for, and what there was.
#[derive(Debug)]
struct LookedUp {
    namespace: String,
    name: String,
    found: Option<Arc<Object<VirtualService>>>,
}

impl HostedVirtualService {
    /// As a user wrote it.
    fn written(&self) -> &Arc<Object<VirtualService>> {
        let expanded = self.expanded.as_ref();
        expanded.map_or(&self.object, |expanded| &expanded.written)
    }

    /// Whether each of its delegates is still what it was, or still not there.
    fn stands(&self, delegates: &Delegates<'_>) -> bool {
        let from = &self.object.meta.namespace;
        let looked_up = self.expanded.iter().flat_map(|of| &of.looked_up);
        looked_up.into_iter().all(|was| {
            let is = delegates.find(from, &was.namespace, &was.name);
            is.map(Arc::as_ptr) == was.found.as_ref().map(Arc::as_ptr)
        })
    }
}

/// So many neighbours may go or change at once before the rest is made anew.
const LOOK_AHEAD: usize = 8;

/// What an earlier index has, in its order.
struct Known<'a> {
    all: &'a [HostedVirtualService],
}

impl Known<'_> {
    /// What is made of an object, where that is there and would come out the same. Most often all is
    /// the same but for one object that came, went or changed.
    fn find(
        &mut self,
        object: &Arc<Object<VirtualService>>,
        delegates: &Delegates<'_>,
    ) -> Option<HostedVirtualService> {
        let is_it = |hosted: &HostedVirtualService| Arc::ptr_eq(hosted.written(), object);
        let at = self.all.iter().take(LOOK_AHEAD).position(is_it)?;
        let found = &self.all[at];
        self.all = &self.all[at + 1..];
        found.stands(delegates).then(|| found.clone())
    }
}

impl Places {
    fn of(all: &[HostedVirtualService]) -> Places {
        let mut found = Places::default();
        let mut seen = HashSet::new();
        for (i, hosted) in all.iter().enumerate() {
            for host in &*hosted.hosts {
                if !seen.insert(host) {
                    found.contested.insert(host.clone());
                }
                if host.is_wildcard() {
                    found.by_wildcard.push((host.clone(), i));
                } else {
                    found.by_host.entry(host.clone()).or_default().push(i);
                }
            }
        }
        found
    }
}

/// VirtualServices that others may go on in.
pub(super) struct Delegates<'a> {
    by_name: BTreeMap<(&'a str, &'a str), &'a Arc<Object<VirtualService>>>,
    export_to: &'a [String],
}

impl<'a> Delegates<'a> {
    pub(super) fn of(config: &'a ConfigSet) -> Self {
        let all = config.virtual_services.iter();
        let without_hosts = all.filter(|object| object.spec.hosts.is_empty());
        let named = |object: &'a Arc<Object<VirtualService>>| {
            ((&*object.meta.namespace, &*object.meta.name), object)
        };
        Delegates {
            by_name: without_hosts.map(named).collect(),
            export_to: &config.mesh.default_virtual_service_export_to,
        }
    }

    /// One that is seen from a namespace.
    pub(super) fn find(
        &self,
        from: &str,
        namespace: &str,
        name: &str,
    ) -> Option<&'a Arc<Object<VirtualService>>> {
        let found = *self.by_name.get(&(namespace, name))?;
        is_visible(&found.spec.export_to, self.export_to, namespace, from).then_some(found)
    }
}

/// The labels by which rules choose clients, or compare them with endpoints.
fn asked_labels(config: &ConfigSet) -> BTreeSet<String> {
    let rules = config.destination_rules.iter();
    let selectors = rules.filter_map(|rule| rule.spec.workload_selector.as_ref());
    let of_rules = selectors.flat_map(|selector| selector.match_labels.keys());
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
    let rules = config.destination_rules.iter();
    let settings = rules.flat_map(|rule| policies(&rule.spec));
    let of_rules_too = settings.flat_map(|settings| {
        let places = settings.places.map(|of| &of.failover_priority);
        places
            .into_iter()
            .chain(settings.zones.map(|of| &of.failover_priority))
    });
    let mesh = &config.mesh;
    let places = mesh
        .locality_lb_setting
        .iter()
        .map(|of| &of.failover_priority);
    let zones = mesh
        .zone_aware_lb_setting
        .iter()
        .map(|of| &of.failover_priority);
    let compared = of_rules_too
        .chain(places)
        .chain(zones)
        .flatten()
        .map(|label| label.split('=').next().unwrap_or_default().to_owned());
    of_rules
        .chain(of_services)
        .cloned()
        .chain(compared)
        .collect()
}

/// What a rule says in one place, as far as the client's place counts for it.
struct Settings<'a> {
    places: Option<&'a LocalityLbSetting>,
    zones: Option<&'a ZoneAwareLbSetting>,
    outliers: Option<&'a OutlierDetection>,
}

/// Everything that a rule says of load balancing and outliers, wherever it says it.
fn policies(rule: &DestinationRule) -> impl Iterator<Item = Settings<'_>> {
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
                    let balancer = balancer.as_ref();
                    Settings {
                        places: balancer.and_then(|b| b.locality_lb_setting.as_ref()),
                        zones: balancer.and_then(|b| b.zone_aware_lb_setting.as_ref()),
                        outliers: outliers.as_ref(),
                    }
                })
        })
}

/// Whether anything depends on where a client is: shares of places do, and so does going on to
/// another place, which needs outlier detection.
fn locality_counts(config: &ConfigSet) -> bool {
    let shares = |setting: &LocalityLbSetting| !setting.distribute.is_empty();
    let divides = |setting: &ZoneAwareLbSetting| setting.enabled != Some(false);
    let mut rules = config.destination_rules.iter();
    let of_mesh = config.mesh.default_traffic_policy.as_ref();
    let mesh = &config.mesh;
    mesh.locality_lb_setting.as_ref().is_some_and(shares)
        || mesh.zone_aware_lb_setting.as_ref().is_some_and(divides)
        || of_mesh.is_some_and(|policy| policy.outlier_detection.is_some())
        || rules.any(|rule| {
            policies(&rule.spec).any(|of| {
                of.outliers.is_some()
                    || of.places.is_some_and(shares)
                    || of.zones.is_some_and(divides)
            })
        })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::fixture;

    /// Some of these, each with a number that makes it another one.
    fn config(of: &[(&str, u32)]) -> ConfigSet {
        let rule = |(name, n): &(&str, u32)| {
            let route = match *name {
                "root" => "delegate: {name: leaf}".to_owned(),
                _ => format!("timeout: {n}s, route: [{{destination: {{host: a}}}}]"),
            };
            let hosts = match *name {
                "leaf" => String::new(),
                "wild" => "hosts: ['*.example.com', a], ".to_owned(),
                name => format!("hosts: [{name}], "),
            };
            format!(
                "---\nkind: VirtualService\nmetadata: {{name: {name}}}\n\
                 spec: {{{hosts}http: [{{{route}}}]}}\n"
            )
        };
        fixture::config(&of.iter().map(rule).collect::<String>())
    }

    #[test]
    fn an_index_that_is_brought_along_is_as_one_made_anew() {
        let domain = fixture::DOMAIN;
        let parts = ["a", "b", "wild", "root", "leaf", "c", "b"];
        let mut was = config(&[]);
        let mut index = Hosted::default();
        for step in 0..60_u32 {
            let there = parts.iter().zip(0_u32..);
            let there = there.filter(|(_, n)| (step * 5 + n * 3) % 4 > 0);
            let there: Vec<_> = there.map(|(name, n)| (*name, (step + n) % 3)).collect();
            let mut is = config(&there);
            // What is equal is the same, as registries have it.
            for object in &mut is.virtual_services {
                let mut known = was.virtual_services.iter();
                if let Some(known) =
                    known.find(|of| of.meta == object.meta && of.spec == object.spec)
                {
                    *object = known.clone();
                }
            }
            index = Hosted::new(&is, domain, &index);
            let anew = Hosted::new(&is, domain, &Hosted::default());
            let plain = |index: &Hosted| {
                let all = index.all.iter();
                let all = all.map(|of| (of.object.spec.clone(), of.hosts.clone()));
                let Places {
                    by_host,
                    by_wildcard,
                    contested,
                } = &*index.places;
                let places = (by_host.clone(), by_wildcard.clone(), contested.clone());
                (all.collect::<Vec<_>>(), places)
            };
            assert_eq!(plain(&index), plain(&anew), "step {step}");
            was = is;
        }
    }

    #[test]
    fn what_has_not_changed_is_not_made_again() {
        let mut config = config(&[("a", 1), ("b", 1), ("c", 1)]);
        let before = Hosted::new(&config, fixture::DOMAIN, &Hosted::default());
        let changed = Arc::new(Object::clone(&config.virtual_services[1]));
        config.virtual_services[1] = changed;
        let after = Hosted::new(&config, fixture::DOMAIN, &before);
        assert!(Arc::ptr_eq(&before.places, &after.places), "the same hosts");
        let pairs = before.all.iter().zip(&after.all);
        let kept: Vec<_> = pairs
            .map(|(a, b)| Arc::ptr_eq(&a.hosts, &b.hosts))
            .collect();
        assert_eq!(kept, [true, false, true]);
    }

    #[test]
    fn what_has_delegates_is_made_again_when_they_change() {
        // More of them than are looked through for one that is known.
        let mut parts = vec![("a", 1), ("leaf", 1), ("b", 1)];
        parts.extend([("root", 1); 2 * LOOK_AHEAD]);
        parts.push(("c", 1));
        let mut config = config(&parts);
        let mut before = Hosted::new(&config, fixture::DOMAIN, &Hosted::default());
        let mut check = |config: &ConfigSet, expect: &[usize]| {
            let after = Hosted::new(config, fixture::DOMAIN, &before);
            let pairs = before.all.iter().zip(&after.all).enumerate();
            let made = pairs.filter(|(_, (a, b))| !Arc::ptr_eq(&a.object, &b.object));
            let made: Vec<_> = made.map(|(at, _)| at).collect();
            assert_eq!(made, expect);
            before = after;
        };
        let again = |of: &mut Arc<Object<VirtualService>>| *of = Arc::new(Object::clone(of));
        check(&config, &[]);
        again(&mut config.virtual_services[2]);
        check(&config, &[2]);
        again(&mut config.virtual_services[1]);
        let roots = 3..3 + 2 * LOOK_AHEAD;
        check(
            &config,
            &[1].into_iter().chain(roots.clone()).collect::<Vec<_>>(),
        );
        check(&config, &[]);
        // No longer seen from where the roots are: nothing of them was written anew.
        let mut mesh = (*config.mesh).clone();
        mesh.default_virtual_service_export_to = vec!["other".to_owned()];
        config.mesh = Arc::new(mesh);
        check(&config, &roots.collect::<Vec<_>>());
        check(&config, &[]);
    }
}
