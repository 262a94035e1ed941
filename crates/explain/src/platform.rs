//! A platform and a configuration in files, and who calls on it.

mod folded;

use std::collections::BTreeMap;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::sync::Arc;

use lateen_api::annotations::PROXY_CONFIG;
use lateen_api::labels::{GATEWAY_NAME, NETWORK};
use lateen_core::{Hostname, Labels, Locality, Protocol};
use lateen_galley::ConfigSet;
use lateen_pilot::{Offline, Proxy};
use lateen_registry::{Documents, Places, Service, ServicePort, TargetPort, Workload, World};
use lateen_route::without_port;
use lateen_xds::json;
use lateen_xds::types::core::Node;
use serde_json::{Value, json};

use folded::{Folded, deployments, notes};

use crate::call::Url;
use crate::{BadCall, Call, Security};

/// Where a caller is that the platform does not know.
pub(crate) const STRANGER: IpAddr = IpAddr::V4(Ipv4Addr::new(192, 0, 2, 1));
/// The same to whoever has IPv6 alone.
const STRANGER_V6: IpAddr = IpAddr::V6(Ipv6Addr::new(0x2001, 0xdb8, 0, 0, 0, 0, 0, 1));
const CALLER_PORT: u16 = 40_000;

/// Services, workloads and configuration from files.
pub struct Platform {
    /// The services and workloads.
    pub world: Arc<World>,
    /// What is valid of the configuration, which is all of it.
    pub config: Arc<ConfigSet>,
    /// Where objects stand.
    pub places: Places,
    /// Documents that are not used.
    pub unused: Vec<String>,
    /// What is not in force, or not known, and why.
    pub notes: Vec<String>,
    pub(crate) domain: String,
}

/// A workload whose proxy is asked.
pub struct Caller {
    /// The workload.
    pub workload: Arc<Workload>,
    /// Its proxy.
    pub proxy: Proxy,
    node: Value,
}

impl Platform {
    /// Reads texts of YAML.
    ///
    /// # Errors
    /// Every fault there is, with its file and line.
    pub fn read(texts: &[Documents], domain: &str) -> Result<Platform, Vec<String>> {
        Self::changed(texts, &[], domain)
    }

    /// The same after more texts were applied, whose objects take the place of those there are.
    ///
    /// # Errors
    /// As [`Platform::read`].
    pub fn changed(
        texts: &[Documents],
        changes: &[Documents],
        domain: &str,
    ) -> Result<Platform, Vec<String>> {
        let first = Folded::new(texts, changes, domain)?;
        // What the mesh runs for Gateways is there once they are.
        let made = deployments(&first, domain);
        let Folded {
            world,
            places,
            unused,
            once,
        } = match made {
            None => first,
            Some(made) => Folded::new(&[texts, &[made]].concat(), changes, domain)?,
        };
        Ok(Platform {
            notes: notes(&once),
            config: Arc::new(once.config),
            world,
            places,
            unused,
            domain: domain.to_owned(),
        })
    }

    /// All that there is to say beside answers: documents that are not used, what is not in force.
    pub fn all_notes(&self) -> Vec<String> {
        let unused = self.unused.iter();
        let unused = unused.map(|document| format!("{document}: not supported, passed over"));
        unused.chain(self.notes.iter().cloned()).collect()
    }

    /// A workload by the name of its pod, by what its name begins with, or by `NAME.NAMESPACE`. Names of
    /// pods may have dots themselves.
    pub fn caller(&self, name: &str) -> Option<Caller> {
        let (short, namespace) = match name.rsplit_once('.') {
            Some((short, namespace)) => (short, Some(namespace)),
            None => (name, None),
        };
        let all = || self.world.workloads_by_ip.values();
        let fits = |workload: &&Arc<Workload>| namespace.is_none_or(|of| workload.namespace == of);
        let begins = |workload: &&Arc<Workload>| {
            let rest = workload.name.strip_prefix(short);
            rest.is_some_and(|rest| rest.starts_with('-'))
        };
        let of_namespace = first(all().filter(fits).filter(|of| of.name == short));
        let found = of_namespace
            .or_else(|| first(all().filter(|of| of.name == name)))
            .or_else(|| first(all().filter(fits).filter(begins)));
        self.caller_of(found?.clone())
    }

    /// The pod of a name in a namespace, and no other.
    pub fn pod(&self, name: &str, namespace: &str) -> Option<Caller> {
        let mut all = self.world.workloads_by_ip.values();
        let found = all.find(|of| of.name == name && of.namespace == namespace)?;
        self.caller_of(found.clone())
    }

    /// A workload that is not there: one without labels in a namespace, as clients are of which
    /// nothing else is known.
    pub fn anybody(&self, namespace: &str) -> Option<Caller> {
        self.caller_of(Arc::new(Workload {
            name: "anybody".to_owned(),
            namespace: namespace.to_owned(),
            ips: vec![STRANGER],
            labels: Labels::default(),
            annotations: BTreeMap::new(),
            service_account: "default".to_owned(),
            node: String::new(),
            locality: Locality::default(),
            ports: BTreeMap::new(),
            owner: None,
            mtls: true,
            ready: true,
        }))
    }

    /// A workload with the proxy that it would have; `None` for one without an address.
    pub fn caller_of(&self, workload: Arc<Workload>) -> Option<Caller> {
        let told = self.told_of_itself(&workload);
        let node = node_of(&workload, self.network_of(&workload), &told)?;
        let message: Node = json::from_value(node.clone()).ok()?;
        let proxy = Proxy::from_node(&message).ok()?;
        Some(Caller {
            workload,
            proxy,
            node,
        })
    }

    /// The network that a workload or its namespace says it is in, as the injector tells the proxy;
    /// empty where neither does.
    fn network_of<'a>(&'a self, workload: &'a Workload) -> &'a str {
        let of_namespace = || {
            let namespace = self.world.namespaces.get(&workload.namespace)?;
            namespace.labels.value(NETWORK)
        };
        let own = workload.labels.value(NETWORK);
        own.or_else(of_namespace).unwrap_or_default()
    }

    /// Metadata that the mesh's settings give a proxy, then the workload's own: `proxyMetadata` whose
    /// names begin as the agent's variables do.
    fn told_of_itself(&self, workload: &Workload) -> BTreeMap<String, String> {
        let of_mesh = self.config.mesh.default_config.as_ref();
        let mut all = of_mesh.map_or_else(BTreeMap::new, |of| of.proxy_metadata.clone());
        let own = workload.annotations.get(PROXY_CONFIG);
        let own = own.and_then(|text| serde_saphyr::from_str::<Value>(text).ok());
        let own = own
            .as_ref()
            .and_then(|own| own["proxyMetadata"].as_object());
        for (key, value) in own.into_iter().flatten() {
            let text = value
                .as_str()
                .map_or_else(|| value.to_string(), str::to_owned);
            all.insert(key.clone(), text);
        }
        let named = all.into_iter();
        named
            .filter_map(|(key, value)| Some((key.strip_prefix("ISTIO_META_")?.to_owned(), value)))
            .collect()
    }

    /// What a caller's proxy is made to do.
    pub fn offline(&self, caller: &Caller) -> Offline {
        let (world, config) = (self.world.clone(), self.config.clone());
        Offline::new(world, config, &*self.domain, &caller.proxy)
    }

    /// A call of the workload itself, or, where its proxy is a gateway, of a client outside.
    ///
    /// # Errors
    /// On a URL that is none, and on a host that nobody has.
    pub fn call(&self, caller: &Caller, method: &str, url: &str) -> Result<Call, BadCall> {
        let url = Url::parse(url)?;
        let own = caller.address();
        let (source, destination) = if caller.proxy.is_router() {
            let udp = url.scheme == "udp";
            let port = self.port_at(&caller.workload, url.port, udp);
            (caller.stranger(), SocketAddr::new(own, port))
        } else {
            (own, SocketAddr::new(self.resolve(caller, &url)?, url.port))
        };
        Ok(call_of(method, &url, source, destination))
    }

    /// A call that comes to the workload, to one of its own ports.
    ///
    /// # Errors
    /// On a URL that is none.
    pub fn call_to(&self, server: &Caller, method: &str, url: &str) -> Result<Call, BadCall> {
        let url = Url::parse(url)?;
        let destination = SocketAddr::new(server.address(), url.port);
        Ok(Call {
            inbound: true,
            ..call_of(method, &url, server.stranger(), destination)
        })
    }

    /// Where a recorded call went: to that address, where this platform has it, else to what its
    /// authority stands for.
    pub(crate) fn place_of(
        &self,
        caller: &Caller,
        authority: &str,
        recorded: SocketAddr,
    ) -> SocketAddr {
        let ip = recorded.ip();
        let mut services = self.world.services.values();
        let is_known = self.world.workload(ip).is_some()
            || services.any(|service| service.addresses.contains(&ip));
        let host = without_port(authority);
        if is_known || host.is_empty() {
            return recorded;
        }
        match self.find(caller, host) {
            Some(address) => SocketAddr::new(address, recorded.port()),
            None => recorded,
        }
    }

    /// An address that a caller finds behind a host.
    fn resolve(&self, caller: &Caller, url: &Url) -> Result<IpAddr, BadCall> {
        if let Some(address) = self.find(caller, &url.host) {
            return Ok(address);
        }
        // What no service is called has an address of its own somewhere, if it is no short name.
        if url.host.contains('.') {
            return Ok(caller.stranger());
        }
        Err(BadCall::Unknown(url.host.clone()))
    }

    /// The address of a literal or of a service.
    fn find(&self, caller: &Caller, host: &str) -> Option<IpAddr> {
        if let Ok(address) = host.trim_matches(['[', ']']).parse() {
            return Some(address);
        }
        let namespace = &caller.workload.namespace;
        let short = |host: &str| {
            let mut parts = host.splitn(3, '.');
            let name = parts.next().unwrap_or_default();
            let of = parts.next().unwrap_or(namespace);
            Hostname::service(name, of, &self.domain)
        };
        let names = [Hostname::new(host), short(host)];
        let mut services = self.world.services.values();
        let found = services.find(|service| names.contains(&service.hostname))?;
        Some(self.address_of(found))
    }

    /// Services without an address are reached at their workloads, or somewhere outside.
    fn address_of(&self, service: &Service) -> IpAddr {
        let own = service.addresses.first().copied();
        let of_pods = || {
            let keys = service
                .ports
                .iter()
                .map(|port| lateen_registry::EndpointKey::new(service.id(), &port.name));
            let mut endpoints = keys.filter_map(|key| self.world.endpoints.get(&key));
            let first = endpoints.find_map(|list| list.first())?;
            first.address.parse().ok()
        };
        own.or_else(of_pods).unwrap_or(STRANGER)
    }

    /// The port of a gateway's pod behind a port of its service.
    fn port_at(&self, workload: &Workload, port: u16, udp: bool) -> u16 {
        let own = self.world.services.values().filter(|service| {
            service.namespace == workload.namespace.as_str()
                && !service.selector.is_empty()
                && service.selector.selects(&workload.labels)
        });
        let mut ports = own.flat_map(|service| &service.ports);
        // Both protocols may have the port, and lead it elsewhere.
        let is_it = |of: &&ServicePort| of.port == port && (of.protocol == Protocol::Udp) == udp;
        let target = ports.find(is_it).map(|of| &of.target_port);
        match target {
            Some(TargetPort::Number(number)) => *number,
            Some(TargetPort::Name(name)) => workload.ports.get(name).copied().unwrap_or(port),
            None => port,
        }
    }
}

impl Caller {
    /// The address of the workload.
    pub fn address(&self) -> IpAddr {
        self.workload.ips.first().copied().unwrap_or(STRANGER)
    }

    /// Somebody whom the platform does not know, as the workload may meet.
    fn stranger(&self) -> IpAddr {
        match self.address() {
            IpAddr::V4(_) => STRANGER,
            IpAddr::V6(_) => STRANGER_V6,
        }
    }

    /// The node that the bootstrap of its proxy has.
    pub fn node(&self) -> &Value {
        &self.node
    }
}

/// The first by namespace and name.
fn first<'a>(all: impl Iterator<Item = &'a Arc<Workload>>) -> Option<&'a Arc<Workload>> {
    all.min_by_key(|workload| (&workload.namespace, &workload.name))
}

pub(crate) fn call_of(method: &str, url: &Url, source: IpAddr, destination: SocketAddr) -> Call {
    Call {
        destination,
        source: SocketAddr::new(source, CALLER_PORT),
        inbound: false,
        security: match url.scheme.as_str() {
            "https" => Security::Tls {
                server_name: url
                    .host
                    .parse::<IpAddr>()
                    .is_err()
                    .then(|| url.host.clone()),
                alpn: vec!["h2".to_owned(), "http/1.1".to_owned()],
                certificate: false,
            },
            _ => Security::Plain,
        },
        http: !matches!(url.scheme.as_str(), "tcp" | "udp"),
        udp: url.scheme == "udp",
        h2: false,
        method: method.to_ascii_uppercase(),
        authority: url.authority(),
        target: url.target.clone(),
        headers: Vec::new(),
        random: 0,
    }
}

/// The node that the bootstrap of a workload's proxy would have. A pod is a gateway where its labels
/// say so.
fn node_of(workload: &Workload, network: &str, told: &BTreeMap<String, String>) -> Option<Value> {
    let namespace = &workload.namespace;
    let ip = workload.ips.first()?;
    let is_gateway = |name: &str| name.ends_with("gateway");
    let label = workload.labels.value("istio").is_some_and(is_gateway);
    let kind = if label || workload.labels.value(GATEWAY_NAME).is_some() {
        "router"
    } else {
        "sidecar"
    };
    let name = &workload.name;
    let ips: Vec<String> = workload.ips.iter().map(ToString::to_string).collect();
    let at = &workload.locality;
    let mut node = json!({
        "id": format!("{kind}~{ip}~{name}.{namespace}~{namespace}.svc.cluster.local"),
        "metadata": { "LABELS": workload.labels.0, "NAMESPACE": namespace,
            "SERVICE_ACCOUNT": workload.service_account, "NETWORK": network,
            "WORKLOAD_NAME": workload.workload_name(), "INSTANCE_IPS": ips.join(",") },
        "locality": { "region": &*at.region, "zone": &*at.zone, "sub_zone": &*at.sub_zone },
    });
    for (key, value) in told {
        node["metadata"][key] = value.as_str().into();
    }
    Some(node)
}

#[cfg(test)]
mod tests;
