//! Services, and the DestinationRules that shape the way to them.

use std::ptr;

use lateen_api::networking::{PortTrafficPolicy, TrafficPolicy};
use lateen_core::ObjectRef;
use lateen_galley::BACKEND_TLS;
use lateen_registry::{MESH_CONFIG, Provider, Service};
use lateen_xds::names::ClusterName;

use super::Origin;
use crate::listener::Mode;
use crate::mtls;
use crate::policy::{Policy, Rule};
use crate::view::View;

/// What a cluster is made of.
#[derive(Clone, Debug)]
pub struct ClusterTrace {
    /// The port of the service.
    pub service: Option<Origin>,
    /// The host of a Sidecar that lets the workload see the service; `None` where all is seen.
    pub seen_by: Option<Origin>,
    /// The rules that hold for it, each with where it was looked up.
    pub rules: Vec<(ObjectRef, &'static str)>,
    /// The subset.
    pub subset: Option<Origin>,
    /// What rules, or the mesh, say of it, by the name of the block: `tls`.
    pub settings: Vec<(&'static str, Origin)>,
}

pub(super) fn trace(view: View<'_>, name: &str) -> Option<ClusterTrace> {
    let name: ClusterName = name.parse().ok()?;
    let service = view.service(&name.host)?;
    let rules = view.rules(service);
    let mesh = &view.snapshot.config.mesh;
    let policy = Policy::of(&rules, name.port, &name.subset).or_of(mesh);
    let said: Vec<(Address, Origin)> = rules.iter().flat_map(blocks_of_rule).collect();
    let of_mesh = |what: &str| Origin {
        object: ObjectRef::new("ConfigMap", mesh.root_namespace(), MESH_CONFIG),
        field: format!("data.mesh.defaultTrafficPolicy.{what}"),
    };
    let settings = in_force(&policy).into_iter().map(|(what, address)| {
        let found = said.iter().find(|(own, _)| *own == address);
        let origin = found.map_or_else(|| of_mesh(what), |(_, origin)| origin.clone());
        (what, origin)
    });
    // Policies of servers count where the client's side is said by nobody.
    let of_servers = policy
        .tls
        .is_none()
        .then(|| turned_off(view, service, name.port));
    Some(ClusterTrace {
        service: of_service(view, service, name.port),
        seen_by: view.let_in_by(service),
        subset: subset(&rules, &name.subset),
        settings: settings.chain(of_servers.into_iter().flatten()).collect(),
        rules: rules
            .iter()
            .map(|rule| (object(rule), place(view, service, rule)))
            .collect(),
    })
}

/// What turns mutual TLS off for servers of a port.
fn turned_off(view: View<'_>, service: &Service, port: u16) -> Vec<(&'static str, Origin)> {
    let Some(port) = service.port(port) else {
        return Vec::new();
    };
    let endpoints = view.snapshot.world.endpoints(&service.id(), &port.name);
    let mut found = Vec::new();
    for endpoint in endpoints {
        let (namespace, labels) = (&endpoint.namespace, &endpoint.labels);
        let said = mtls::said(view.snapshot, namespace, labels, Some(endpoint.port));
        let off = said.filter(|said| said.mode == Mode::Disable);
        let off = off.map(|said| super::inbound::of_policy(&said, endpoint.port));
        found.extend(off.filter(|off| !found.contains(off)));
    }
    found
}

/// Where a block of settings lies. Generators take them by reference, so that the same address is the
/// same block.
type Address = *const ();

fn address<T>(block: &T) -> Address {
    ptr::from_ref(block).cast()
}

/// The blocks that hold.
fn in_force(policy: &Policy<'_>) -> Vec<(&'static str, Address)> {
    // Destructured, so that a block that is added cannot be forgotten here.
    let Policy {
        load_balancer,
        connection_pool,
        outlier_detection,
        tls,
        retry_budget,
        tunnel,
        proxy_protocol,
    } = *policy;
    let blocks = [
        ("tls", tls.map(address)),
        ("loadBalancer", load_balancer.map(address)),
        ("connectionPool", connection_pool.map(address)),
        ("outlierDetection", outlier_detection.map(address)),
        ("retryBudget", retry_budget.map(address)),
        ("tunnel", tunnel.map(address)),
        ("proxyProtocol", proxy_protocol.map(address)),
    ];
    let known = blocks.into_iter();
    known
        .filter_map(|(what, address)| Some((what, address?)))
        .collect()
}

/// Every block of a rule, wherever it has one.
fn blocks_of_rule(rule: &Rule) -> Vec<(Address, Origin)> {
    let whole = rule.spec.traffic_policy.iter();
    let whole = whole.map(|policy| ("spec.trafficPolicy".to_owned(), policy));
    let subsets = rule.spec.subsets.iter().enumerate();
    let of_subsets = subsets.filter_map(|(at, subset)| {
        let policy = subset.traffic_policy.as_ref()?;
        Some((format!("spec.subsets[{at}].trafficPolicy"), policy))
    });
    let fields = whole.chain(of_subsets);
    let fields = fields.flat_map(|(field, policy)| blocks_of_policy(&field, policy));
    fields
        .map(|(field, address)| {
            let object = object(rule);
            (address, Origin { object, field })
        })
        .collect()
}

fn blocks_of_policy(at: &str, policy: &TrafficPolicy) -> Vec<(String, Address)> {
    let TrafficPolicy {
        load_balancer,
        connection_pool,
        outlier_detection,
        tls,
        port_level_settings,
        tunnel,
        proxy_protocol,
        retry_budget,
    } = policy;
    let mut blocks = vec![
        (
            "loadBalancer".to_owned(),
            load_balancer.as_ref().map(address),
        ),
        (
            "connectionPool".to_owned(),
            connection_pool.as_ref().map(address),
        ),
        (
            "outlierDetection".to_owned(),
            outlier_detection.as_ref().map(address),
        ),
        ("tls".to_owned(), tls.as_ref().map(address)),
        ("tunnel".to_owned(), tunnel.as_ref().map(address)),
        (
            "proxyProtocol".to_owned(),
            proxy_protocol.as_ref().map(address),
        ),
        ("retryBudget".to_owned(), retry_budget.as_ref().map(address)),
    ];
    for (n, port) in port_level_settings.iter().enumerate() {
        let PortTrafficPolicy {
            port: _,
            load_balancer,
            connection_pool,
            outlier_detection,
            tls,
        } = port;
        let of_port = [
            ("loadBalancer", load_balancer.as_ref().map(address)),
            ("connectionPool", connection_pool.as_ref().map(address)),
            ("outlierDetection", outlier_detection.as_ref().map(address)),
            ("tls", tls.as_ref().map(address)),
        ];
        let field = |what: &str| format!("portLevelSettings[{n}].{what}");
        blocks.extend(of_port.map(|(what, address)| (field(what), address)));
    }
    let known = blocks.into_iter();
    known
        .filter_map(|(what, address)| Some((format!("{at}.{what}"), address?)))
        .collect()
}

/// The rule as a user wrote it.
fn object(rule: &Rule) -> ObjectRef {
    let meta = &rule.meta;
    match meta.annotations.get(BACKEND_TLS) {
        Some(name) => ObjectRef::new("BackendTLSPolicy", &meta.namespace, name),
        None => ObjectRef::new("DestinationRule", &meta.namespace, &meta.name),
    }
}

/// Where a rule was looked up, in the order of these places.
fn place(view: View<'_>, service: &Service, rule: &Rule) -> &'static str {
    let namespace = &rule.meta.namespace;
    if *namespace == view.from.namespace {
        "the client's namespace"
    } else if *namespace == *service.namespace {
        "the service's namespace"
    } else {
        "the root namespace"
    }
}

fn subset(rules: &[Rule], name: &str) -> Option<Origin> {
    let mut all = rules.iter().flat_map(|rule| {
        let subsets = rule.spec.subsets.iter().enumerate();
        subsets.map(move |(at, subset)| (rule, at, subset))
    });
    let (rule, at, _) = all.find(|(_, _, subset)| !name.is_empty() && subset.name == name)?;
    Some(Origin {
        object: object(rule),
        field: format!("spec.subsets[{at}]"),
    })
}

/// The port of the object that a service was made of; `None` where none was (Consul's).
fn of_service(view: View<'_>, service: &Service, port: u16) -> Option<Origin> {
    let field = |numbers: Vec<u32>| {
        let mut numbers = numbers.into_iter();
        match numbers.position(|number| number == u32::from(port)) {
            Some(at) => format!("spec.ports[{at}]"),
            None => "spec.ports".to_owned(),
        }
    };
    match service.provider {
        Provider::Kubernetes => {
            let ports = service.ports.iter().map(|port| u32::from(port.port));
            Some(Origin {
                object: ObjectRef::new("Service", &service.namespace, &service.name),
                field: field(ports.collect()),
            })
        }
        Provider::ServiceEntry => {
            let mut entries = view.snapshot.config.service_entries.iter();
            let entry = entries.find(|entry| {
                entry.meta.namespace == *service.namespace && entry.meta.name == service.name
            })?;
            let ports = entry.spec.ports.iter().map(|port| port.number);
            Some(Origin::new(
                "ServiceEntry",
                &entry.meta,
                field(ports.collect()),
            ))
        }
        Provider::Consul => None,
    }
}
