//! Gateways and ListenerSets: which are ours, and which Services stand before them.

mod statuses;

use std::collections::{BTreeMap, BTreeSet};

use lateen_api::{
    Meta, Object,
    gateway_api::{FromNamespaces, GROUP, Gateway, GatewayDeployment, ListenerSet},
    kinds::gateway_api as kinds,
    labels::REVISION,
    networking,
};
use lateen_core::{Hostname, ObjectRef, ServiceId};
use lateen_registry::Service;

use super::{
    Around, CLASS, CLIENT_CERTIFICATE, CONTROLLER, CREDENTIAL, GATEWAY_SERVICE, Granted,
    Translation,
    certificates::ClientCertificate,
    conditions::Verdict,
    listeners::{Bound, Role, is_from},
    objects::by_age,
    routes::Rules,
    status::said,
};
use crate::{RootsKind, sources};

/// On a Gateway: the name of what is made for it, instead of `NAME-CLASS`.
const NAME_OVERRIDE: &str = "gateway.istio.io/name-override";
/// Annotation with the name of the account that the proxies run as.
const SERVICE_ACCOUNT: &str = "gateway.istio.io/service-account";
/// On a Gateway: the type of the Service that is made for it.
const SERVICE_TYPE: &str = "networking.istio.io/service-type";

/// Where a Gateway's proxies are.
#[derive(Debug)]
struct Served<'a> {
    host: Hostname,
    /// Their service account, where the mesh made them.
    account: Option<String>,
    namespace: String,
    service: Option<&'a Service>,
}

/// A Gateway of ours.
#[derive(Debug)]
struct Known<'a> {
    object: &'a Object<Gateway>,
    managed: bool,
    services: Vec<Served<'a>>,
    fault: Option<Verdict>,
    client_certificate: Option<ClientCertificate>,
    /// ListenerSets of which at least one listener is served.
    sets: i32,
}

/// A ListenerSet of a Gateway of ours.
#[derive(Debug)]
struct KnownSet<'a> {
    object: &'a Object<ListenerSet>,
    fault: Option<Verdict>,
}

/// All Gateways of ours.
#[derive(Debug, Default)]
pub(super) struct Gateways<'a> {
    known: Vec<Known<'a>>,
    sets: Vec<KnownSet<'a>>,
    /// In the order in which they win where two conflict.
    pub(super) listeners: Vec<Bound<'a>>,
}

/// Reads all Gateways and what belongs to them.
pub(super) fn read(around: Around<'_>) -> Gateways<'_> {
    let mut out = Gateways::default();
    for gateway in by_age(&around.objects.gateways) {
        if is_ours(around, &gateway.spec.gateway_class_name) {
            out.add(around, gateway);
        }
    }
    out
}

fn is_ours(around: Around<'_>, class: &str) -> bool {
    let declared = around.objects.classes.get(&(String::new(), class.into()));
    declared.map_or(class == CLASS, |object| {
        object.spec.controller_name == CONTROLLER
    })
}

impl<'a> Gateways<'a> {
    fn add(&mut self, around: Around<'a>, gateway: &'a Object<Gateway>) {
        let (managed, services) = services(around, gateway);
        let mut known = Known {
            object: gateway,
            services,
            fault: fault(gateway, managed),
            managed,
            client_certificate: ClientCertificate::of(around, gateway),
            sets: 0,
        };
        let first = self.listeners.len();
        for listener in &gateway.spec.listeners {
            let bound = Bound::read(around, gateway, None, listener);
            self.listeners.push(bound);
        }
        for set in by_age(&around.objects.listener_sets) {
            if !is_parent(set, gateway) {
                continue;
            }
            let fault = (!is_allowed(around, set, gateway)).then(|| {
                let message = "the Gateway's allowedListeners does not take this namespace";
                Verdict::new("NotAllowed", message)
            });
            if fault.is_none() {
                for listener in &set.spec.listeners {
                    let bound = Bound::read(around, gateway, Some(set), listener);
                    self.listeners.push(bound);
                }
            }
            self.sets.push(KnownSet { object: set, fault });
        }
        let own = &mut self.listeners[first..];
        if let Some(fault) = &known.fault {
            for bound in own.iter_mut() {
                bound.fault.get_or_insert_with(|| fault.clone());
            }
        }
        find_conflicts(own);
        let valid = own.iter().filter(|bound| bound.serves());
        let sets: BTreeSet<_> = valid
            .filter_map(|bound| bound.set)
            .map(|set| (&set.meta.namespace, &set.meta.name))
            .collect();
        known.sets = i32::try_from(sets.len()).unwrap_or(i32::MAX);
        self.known.push(known);
    }

    /// The internal Gateways, what is to be deployed, and statuses.
    pub(super) fn write(&self, around: Around<'_>, rules: &Rules, out: &mut Translation) {
        for class in around.objects.classes.values() {
            if class.spec.controller_name == CONTROLLER {
                let key = ObjectRef::new(kinds::GATEWAY_CLASS.id(), "", &class.meta.name);
                out.statuses
                    .insert(key, statuses::class_status(&class.meta));
            }
        }
        for known in &self.known {
            let meta = &known.object.meta;
            let key = ObjectRef::new(kinds::KUBERNETES_GATEWAY.id(), &meta.namespace, &meta.name);
            out.statuses
                .insert(key, said(&self.status(known), meta.generation));
            if known.fault.is_none() && known.managed {
                out.deployments.push(self.deployment(around, known));
            }
        }
        for set in &self.sets {
            let meta = &set.object.meta;
            let key = ObjectRef::new(kinds::LISTENER_SET.id(), &meta.namespace, &meta.name);
            out.statuses
                .insert(key, said(&self.set_status(set), meta.generation));
        }
        for (n, bound) in self.listeners.iter().enumerate() {
            if bound.serves() {
                self.write_listener(n, bound, rules, out);
            }
        }
    }

    fn write_listener(&self, n: usize, bound: &Bound<'_>, rules: &Rules, out: &mut Translation) {
        let services = self.services_of(bound);
        let certificate = self
            .known_of(bound)
            .and_then(|known| known.client_certificate.as_ref());
        let hosts: Vec<&str> = services.iter().map(|s| s.host.as_str()).collect();
        let mut push = |name: String, host: &Hostname| {
            let service = (GATEWAY_SERVICE.to_owned(), hosts.join(","));
            let mut annotations = [service].into();
            sources::note(&mut annotations, &[bound.source()]);
            if let Some(ClientCertificate {
                secret: (namespace, name),
                ..
            }) = certificate
            {
                let credential = format!("{CREDENTIAL}{namespace}/{name}");
                annotations.insert(CLIENT_CERTIFICATE.to_owned(), credential);
            }
            let meta = Meta {
                name,
                namespace: bound.gateway.meta.namespace.clone(),
                annotations,
                creation_timestamp: bound.gateway.meta.creation_timestamp,
                ..Meta::default()
            };
            let spec = networking::Gateway {
                servers: vec![bound.server(host)],
                ..networking::Gateway::default()
            };
            out.gateways.push(Object { meta, spec });
        };
        if bound.role == Role::Terminated {
            for (listener, host) in rules.listeners.keys() {
                if *listener == n {
                    push(bound.name_for(host), host);
                }
            }
        } else {
            push(bound.name.clone(), &bound.host());
        }
        for service in services {
            for (kind, namespace, name) in &bound.clients.roots {
                out.granted.insert(Granted {
                    to: service.namespace.clone(),
                    account: service.account.clone(),
                    namespace: namespace.clone(),
                    name: name.clone(),
                    roots: Some(*kind),
                });
            }
            let shown = certificate.filter(|of| of.unresolved.is_none());
            let secrets = bound.secrets.iter().chain(shown.map(|of| &of.secret));
            for (namespace, name) in secrets {
                out.granted.insert(Granted {
                    to: service.namespace.clone(),
                    account: service.account.clone(),
                    namespace: namespace.clone(),
                    name: name.clone(),
                    roots: None,
                });
            }
        }
    }

    /// Lets the proxies of a Gateway have the roots in an object.
    pub(super) fn grant_roots(
        &self,
        gateway: &(String, String),
        kind: RootsKind,
        (namespace, name): (&str, &str),
        out: &mut Translation,
    ) {
        let is_meant = |known: &&Known<'_>| {
            let meta = &known.object.meta;
            (&meta.namespace, &meta.name) == (&gateway.0, &gateway.1)
        };
        let known = self.known.iter().filter(is_meant);
        for service in known.flat_map(|known| &known.services) {
            out.granted.insert(Granted {
                to: service.namespace.clone(),
                account: service.account.clone(),
                namespace: namespace.to_owned(),
                name: name.to_owned(),
                roots: Some(kind),
            });
        }
    }

    fn services_of(&self, bound: &Bound<'_>) -> &[Served<'a>] {
        self.known_of(bound).map_or(&[], |known| &known.services)
    }

    fn known_of(&self, bound: &Bound<'_>) -> Option<&Known<'a>> {
        let mut known = self.known.iter();
        known.find(|known| std::ptr::eq(known.object, bound.gateway))
    }

    fn listeners_of<'b>(&'b self, known: &Known<'_>) -> impl Iterator<Item = &'b Bound<'a>> {
        let meta = &known.object.meta;
        let (namespace, name) = (meta.namespace.clone(), meta.name.clone());
        self.listeners.iter().filter(move |bound| {
            let own = &bound.gateway.meta;
            own.name == name && own.namespace == namespace
        })
    }

    fn deployment(&self, around: Around<'_>, known: &Known<'_>) -> GatewayDeployment {
        let meta = &known.object.meta;
        let mut ports: Vec<(String, u32, String)> = Vec::new();
        for bound in self
            .listeners_of(known)
            .filter(|bound| bound.fault.is_none())
        {
            let listener = bound.listener;
            let protocol = listener.protocol.to_ascii_lowercase();
            let is_known = |(_, port, known): &(String, u32, String)| {
                *port == listener.port && (known == "udp") == (protocol == "udp")
            };
            if !ports.iter().any(is_known) {
                let name = format!("{protocol}-{}", listener.port);
                ports.push((name, listener.port, protocol));
            }
        }
        let infrastructure = known.object.spec.infrastructure.clone().unwrap_or_default();
        let address = known.object.spec.addresses.first();
        GatewayDeployment {
            namespace: meta.namespace.clone(),
            gateway: meta.name.clone(),
            uid: meta.uid.clone(),
            class: known.object.spec.gateway_class_name.clone(),
            revision: revision(around, meta),
            name: deployed_name(known.object),
            account: named_account(known.object).unwrap_or_default(),
            service_type: meta
                .annotations
                .get(SERVICE_TYPE)
                .cloned()
                .unwrap_or_default(),
            address: address.map(|a| a.value.clone()).unwrap_or_default(),
            ports,
            labels: infrastructure.labels,
            annotations: infrastructure.annotations,
        }
    }
}

/// The revision that is to run a Gateway: its own, or else that of its namespace.
fn revision(around: Around<'_>, of: &Meta) -> String {
    let namespace = around.world.namespaces.get(&of.namespace);
    let own = of.labels.get(REVISION).map(String::as_str);
    let inherited = || namespace.and_then(|namespace| namespace.labels.value(REVISION));
    own.or_else(inherited).unwrap_or_default().to_owned()
}

fn is_parent(set: &Object<ListenerSet>, gateway: &Object<Gateway>) -> bool {
    let Some(parent) = &set.spec.parent_ref else {
        return false;
    };
    let namespace = parent.namespace.as_deref().unwrap_or(&set.meta.namespace);
    parent.group.as_deref().unwrap_or(GROUP) == GROUP
        && parent.kind.as_deref().unwrap_or("Gateway") == "Gateway"
        && parent.name == gateway.meta.name
        && namespace == gateway.meta.namespace
}

fn is_allowed(around: Around<'_>, set: &Object<ListenerSet>, gateway: &Object<Gateway>) -> bool {
    let allowed = gateway.spec.allowed_listeners.as_ref();
    let namespaces = allowed.and_then(|allowed| allowed.namespaces.as_ref());
    let from = namespaces.and_then(|of| of.from);
    let from = from.unwrap_or(FromNamespaces::None);
    let selector = namespaces.and_then(|of| of.selector.as_ref());
    let home = &gateway.meta.namespace;
    is_from(around, from, selector, home, &set.meta.namespace)
}

/// What of a Gateway cannot be done.
fn fault(gateway: &Object<Gateway>, managed: bool) -> Option<Verdict> {
    let spec = &gateway.spec;
    let infrastructure = spec.infrastructure.as_ref();
    if infrastructure.is_some_and(|of| of.parameters_ref.is_some()) {
        let message = "infrastructure.parametersRef is not supported";
        return Some(Verdict::new("InvalidParameters", message));
    }
    let backend = spec.tls.as_ref().and_then(|tls| tls.backend.as_ref());
    let shows = backend.is_some_and(|backend| backend.client_certificate_ref.is_some());
    if shows && !managed {
        // Others that the proxies serve would be taken for this one.
        let message = "tls.backend is supported for a Gateway with proxies of its own";
        return Some(Verdict::new("Invalid", message));
    }
    let known = |r#type: &Option<String>| {
        matches!(r#type.as_deref(), None | Some("IPAddress" | "Hostname"))
    };
    let foreign = spec.addresses.iter().find(|a| !known(&a.r#type))?;
    let message = format!(
        "address type {} is not supported",
        foreign.r#type.as_deref().unwrap_or_default()
    );
    Some(Verdict::new("UnsupportedAddress", message))
}

fn named_account(gateway: &Object<Gateway>) -> Option<String> {
    let named = gateway.meta.annotations.get(SERVICE_ACCOUNT);
    named.filter(|name| !name.is_empty()).cloned()
}

fn deployed_name(gateway: &Object<Gateway>) -> String {
    let named = gateway.meta.annotations.get(NAME_OVERRIDE).cloned();
    named.unwrap_or_else(|| format!("{}-{}", gateway.meta.name, gateway.spec.gateway_class_name))
}

/// The Services before a Gateway's proxies, and whether the mesh makes them: those that its addresses
/// name as hosts, else one of its own.
fn services<'a>(around: Around<'a>, gateway: &Object<Gateway>) -> (bool, Vec<Served<'a>>) {
    let home = &gateway.meta.namespace;
    let hosts = gateway.spec.addresses.iter();
    let hosts = hosts.filter(|address| address.r#type.as_deref() == Some("Hostname"));
    let hosts: Vec<Hostname> = hosts
        .map(|address| match address.value.contains('.') {
            true => Hostname::new(&address.value),
            false => Hostname::service(&address.value, home, around.domain),
        })
        .collect();
    let served = |host: Hostname| {
        let service = around.world.named(&host).next();
        let found = service.map(|service| service.namespace.to_string());
        Served {
            // A name that is not there yet still says its namespace.
            namespace: found
                .or_else(|| host.split('.').nth(1).map(ToOwned::to_owned))
                .unwrap_or_default(),
            service: service.map(AsRef::as_ref),
            account: None,
            host,
        }
    };
    if hosts.is_empty() {
        let own = Hostname::service(&deployed_name(gateway), home, around.domain);
        let id = ServiceId::new(home, own.clone());
        let service = around.world.services.get(&id).map(AsRef::as_ref);
        let own = Served {
            host: own,
            account: Some(named_account(gateway).unwrap_or_else(|| deployed_name(gateway))),
            namespace: home.clone(),
            service,
        };
        return (true, vec![own]);
    }
    (false, hosts.into_iter().map(served).collect())
}

/// Of listeners that cannot be told apart, the first is served.
fn find_conflicts(listeners: &mut [Bound<'_>]) {
    // Connections and datagrams do not meet at a port.
    let mut ports: BTreeMap<(u32, bool), (&'static str, Vec<Hostname>)> = BTreeMap::new();
    for bound in listeners.iter_mut().filter(|bound| bound.fault.is_none()) {
        let (port, host) = (bound.listener.port, bound.host());
        let (group, hosts) = ports
            .entry((port, bound.role == Role::Udp))
            .or_insert_with(|| (bound.role.group(), Vec::new()));
        bound.conflict = if *group != bound.role.group() {
            let message = format!("port {port} is used for {group}");
            Some(Verdict::new("ProtocolConflict", message))
        } else if hosts.contains(&host) {
            let message = format!("port {port} has a listener for {host}");
            Some(Verdict::new("HostnameConflict", message))
        } else {
            hosts.push(host);
            None
        };
    }
}
