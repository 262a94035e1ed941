use lateen_core::{Labels, Protocol};
use lateen_registry::{Endpoint, EndpointKey, Service, World};

use super::*;
use crate::fixture::{self, DOMAIN};

fn key(world: &World, name: &str) -> EndpointKey {
    let host = format!("{name}.default.svc.{DOMAIN}");
    let service = world.named(&host).next().expect("a service");
    EndpointKey::new(service.id(), &service.ports[0].name)
}

fn serve(world: &mut World, name: &str, address: &str) {
    let endpoint = Endpoint {
        address: address.to_owned(),
        ..fixture::endpoint(Labels::new())
    };
    world.endpoints.insert(key(world, name), [endpoint].into());
}

fn world(n: usize) -> World {
    let mut world = World::default();
    for name in (0..n).map(|number| format!("s{number}")) {
        let service = fixture::service(&name, &[(80, 8080, Protocol::Http)]);
        world.services.insert(service.id(), service);
        serve(&mut world, &name, "10.1.0.1");
    }
    world
}

/// Resources that were looked up or made.
fn lookups(engine: &Engine) -> u64 {
    let (_, hits, misses) = engine.cache.counts();
    hits + misses
}

#[test]
fn a_moved_endpoint_costs_the_same_among_few_services_and_among_many() {
    let costs = [5, 300].map(|n| {
        let was = Arc::new(world(n));
        let config = Arc::default();
        let before = Arc::new(Snapshot::new(1, was.clone(), Arc::clone(&config), DOMAIN));
        let engine = Engine::new(before.clone());
        let proxies = ["s0", "s1"].map(|name| engine.join(&fixture::sidecar(name)));
        let groups = proxies.each_ref().map(|served| {
            let served = served.borrow();
            let clusters = served.list(&TypeUrl::CLUSTER);
            let names = NameSet::of(clusters.iter().map(|cluster| cluster.name.clone()));
            let found = served.resources(&engine.cache, &TypeUrl::ENDPOINT, Names::Only(&names));
            assert_eq!(found.len(), n);
            served.group(&TypeUrl::ENDPOINT).expect("a group")
        });

        let mut is = World::clone(&was);
        serve(&mut is, "s2", "10.1.0.2");
        let looked_up = lookups(&engine);
        engine.publish(Arc::new(before.next(2, Arc::new(is), config)), false);
        for (served, group) in proxies.iter().zip(groups) {
            let served = served.borrow();
            let changed = served.since(&TypeUrl::ENDPOINT, group).expect("known");
            let set = NameSet::of(changed);
            let found = served.resources(&engine.cache, &TypeUrl::ENDPOINT, Names::Only(&set));
            assert_eq!(found.len(), 1, "only those of s2");
        }
        lookups(&engine) - looked_up
    });
    assert_eq!(costs[0], costs[1]);
    assert!(costs[0] > 0);
}

#[test]
fn what_is_nothing_to_a_proxy_does_not_wake_it_and_counts_as_had() {
    let was = Arc::new(world(3));
    let before = Arc::new(Snapshot::new(1, was, Arc::default(), DOMAIN));
    let engine = Engine::new(before.clone());
    let mut served = engine.join(&fixture::sidecar("s0"));
    let standing = served.borrow_and_update().standing.clone();
    // A gateway of which no proxy of ours is one.
    let mut config = fixture::config(
        "apiVersion: networking.istio.io/v1
kind: Gateway
metadata: {name: edge}
spec:
  selector: {istio: ingressgateway}
  servers: [{port: {number: 80, name: http, protocol: HTTP}, hosts: ['*']}]
",
    );
    // Another allocation of the mesh's settings counts as another mesh.
    config.mesh = before.config.mesh.clone();
    let next = before.next(2, before.world.clone(), Arc::new(config));
    engine.publish(Arc::new(next), false);
    assert!(!served.has_changed().expect("open"));
    assert_eq!(standing.load(std::sync::atomic::Ordering::Relaxed), 2);
}

/// A BackendTLSPolicy for reviews, and a Gateway that shows a certificate of its own to it.
const CERTIFICATE: &str = "---\nkind: DestinationRule\n\
        metadata: {name: tls, annotations: {internal.istio.io/backend-tls: p}}\n\
        spec: {host: reviews.default.svc.cluster.local, exportTo: [\"*\"], subsets: [{name: tls, \
        trafficPolicy: {tls: {mode: SIMPLE, sni: a.com, credentialName: c}}}]}\n\
        ---\nkind: Gateway\nmetadata: {name: own, annotations: {internal.istio.io/gateway-service: \
        istio-ingressgateway.istio-system.svc.cluster.local, \
        internal.istio.io/client-certificate: \"kubernetes-gateway://default/own\"}}\n\
        spec: {servers: [{port: {number: 80, name: http, protocol: HTTP}, hosts: [\"*/*\"]}]}\n";

#[test]
fn a_gateway_shows_another_certificate_when_other_services_lead_to_it() {
    let was = Arc::new(fixture::world());
    let config = Arc::new(fixture::config(CERTIFICATE));
    let before = Arc::new(Snapshot::new(1, was.clone(), config.clone(), DOMAIN));
    let engine = Engine::new(before.clone());
    let served = engine.join(&fixture::ingress());
    let shows_its_own = || {
        let clusters = served.borrow().list(&TypeUrl::CLUSTER);
        let name = "outbound|9080|tls|reviews.default.svc.cluster.local";
        let cluster = clusters
            .iter()
            .find(|cluster| cluster.name.as_str() == name);
        let cluster = cluster.expect("it is there").value();
        String::from_utf8_lossy(cluster).contains("kubernetes-gateway://default/own")
    };
    assert!(shows_its_own());
    let mut is = World::clone(&was);
    let host = "istio-ingressgateway.istio-system.svc.cluster.local";
    let mut service = Service::clone(is.named(host).next().expect("a service"));
    service.selector = [("app", "somebody")].into_iter().collect();
    is.services.insert(service.id(), Arc::new(service));
    engine.publish(Arc::new(before.next(2, Arc::new(is), config)), false);
    assert!(!shows_its_own());
}

#[test]
fn a_gateways_certificate_costs_the_same_among_few_services_and_among_many() {
    let config = Arc::new(fixture::config(CERTIFICATE));
    for changed in ["s0", "istio-ingressgateway"] {
        let costs = [5, 300].map(|n| {
            let mut was = fixture::world();
            for (id, service) in world(n).services.iter() {
                was.services.insert(id.clone(), service.clone());
            }
            let was = Arc::new(was);
            let before = Arc::new(Snapshot::new(1, was.clone(), config.clone(), DOMAIN));
            let engine = Engine::new(before.clone());
            let served = engine.join(&fixture::ingress());
            let mut is = World::clone(&was);
            let found = is.services.values().find(|of| of.name == changed).cloned();
            let mut service = Service::clone(&found.expect("it is there"));
            service.selector = [("app", "somebody")].into_iter().collect();
            is.services.insert(service.id(), Arc::new(service));
            let looked_up = lookups(&engine);
            engine.publish(
                Arc::new(before.next(2, Arc::new(is), config.clone())),
                false,
            );
            drop(served);
            lookups(&engine) - looked_up
        });
        assert_eq!(costs[0], costs[1], "{changed}");
        assert!(costs[0] > 0, "{changed}");
    }
}

#[test]
fn kinds_of_workloads_go_with_the_last_of_them() {
    let before = Arc::new(Snapshot::new(1, Arc::new(world(2)), Arc::default(), DOMAIN));
    let engine = Engine::new(before.clone());
    let staying = engine.join(&fixture::sidecar("s0"));
    let leaving = engine.join(&fixture::sidecar("s1"));
    assert_eq!((engine.counts().vantages, engine.counts().scopes), (2, 1));
    drop(leaving);
    let next = before.next(2, before.world.clone(), before.config.clone());
    engine.publish(Arc::new(next), false);
    let counts = engine.counts();
    assert_eq!((counts.members, counts.vantages, counts.scopes), (1, 1, 1));
    drop(staying);
}

/// A proxy beside which names are resolved.
fn resolving(name: &str, more: &[(&str, &str)]) -> Proxy {
    let mut proxy = fixture::sidecar(name);
    let all = [("DNS_CAPTURE", "true")];
    let all = all.iter().chain(more);
    let all = all.map(|(key, value)| ((*key).to_owned(), (*value).to_owned()));
    proxy.metadata = Arc::new(all.collect());
    proxy
}

#[test]
fn names_are_sent_again_when_they_change_and_to_those_who_answer_them() {
    let mut first = world(3);
    let mut headless = (*fixture::service("h", &[(90, 90, Protocol::Http)])).clone();
    headless.resolution = lateen_registry::Resolution::Passthrough;
    first.services.insert(headless.id(), Arc::new(headless));
    serve(&mut first, "h", "10.1.0.9");
    let was = Arc::new(first);
    let config = Arc::default();
    let before = Arc::new(Snapshot::new(1, was.clone(), Arc::clone(&config), DOMAIN));
    let engine = Engine::new(before.clone());
    let resolver = engine.join(&resolving("s0", &[]));
    let other = engine.join(&fixture::sidecar("s0"));
    let table = |served: &watch::Receiver<Arc<Served>>| {
        let nothing = NameSet::default();
        let names = Names::All(&nothing);
        served
            .borrow()
            .resources(&engine.cache, &TypeUrl::NAME_TABLE, names)
    };
    assert_eq!(table(&other), []);
    let [told] = &table(&resolver)[..] else {
        panic!("one table");
    };
    let group = resolver
        .borrow()
        .group(&TypeUrl::NAME_TABLE)
        .expect("a group");

    // Endpoints behind a virtual address are nobody's name.
    let mut is = World::clone(&was);
    serve(&mut is, "s1", "10.1.0.2");
    let is = Arc::new(is);
    let second = Arc::new(before.next(2, is.clone(), Arc::clone(&config)));
    engine.publish(second.clone(), false);
    assert!(Arc::ptr_eq(told, &table(&resolver)[0]));

    let mut moved = World::clone(&is);
    serve(&mut moved, "h", "10.1.0.8");
    engine.publish(Arc::new(second.next(3, Arc::new(moved), config)), false);
    assert_ne!(*told, table(&resolver)[0]);
    let served = resolver.borrow();
    let changed = served.since(&TypeUrl::NAME_TABLE, group).expect("known");
    assert_eq!(changed, std::slice::from_ref(&told.name));
}

/// A proxy that wants to know its peers, of a pod of that revision and place.
fn peering(world: &mut World, name: &str, address: &str, hash: &str, place: &str) -> Proxy {
    let labels: Labels = [("app", name), ("pod-template-hash", hash)]
        .into_iter()
        .collect();
    let locality: lateen_core::Locality = place.parse().expect("a locality");
    let ip: std::net::IpAddr = address.parse().expect("an address");
    let workload = lateen_registry::Workload {
        name: format!("{name}-{hash}"),
        namespace: "default".into(),
        ips: vec![ip],
        labels: labels.clone(),
        annotations: Default::default(),
        service_account: name.into(),
        node: String::new(),
        locality: locality.clone(),
        ports: Default::default(),
        owner: None,
        mtls: true,
        ready: true,
    };
    world.workloads_by_ip.insert(ip, Arc::new(workload));
    let key = key(world, name);
    let endpoint = Endpoint {
        address: address.to_owned(),
        workload_name: format!("{name}-v1"),
        locality,
        ..fixture::endpoint(labels)
    };
    let known = world.endpoints.get(&key).into_iter();
    let all = known.flat_map(|all| all.iter().cloned()).chain([endpoint]);
    let all = all.collect();
    world.endpoints.insert(key, all);
    let mut proxy = fixture::sidecar(name);
    proxy.ip = ip;
    let said = [
        ("ENABLE_SELF_DISCOVERY", "true".to_owned()),
        ("WORKLOAD_NAME", format!("{name}-v1")),
    ];
    proxy.metadata = Arc::new(said.map(|(key, value)| (key.to_owned(), value)).into());
    proxy
}

#[test]
fn peers_are_those_of_the_same_revision_and_region() {
    let mut first = World::default();
    for name in ["s0", "s1"] {
        let service = fixture::service(name, &[(80, 8080, Protocol::Http)]);
        first.services.insert(service.id(), service);
    }
    let proxy = peering(&mut first, "s0", "10.1.0.1", "a", "r1/z1");
    peering(&mut first, "s0", "10.1.0.2", "a", "r1/z2");
    peering(&mut first, "s0", "10.1.0.3", "b", "r1/z1");
    peering(&mut first, "s0", "10.1.0.4", "a", "r2/z1");
    let was = Arc::new(first);
    let config = Arc::default();
    let before = Arc::new(Snapshot::new(1, was.clone(), Arc::clone(&config), DOMAIN));
    let engine = Engine::new(before.clone());
    let served = engine.join(&proxy);
    let plain = engine.join(&fixture::sidecar("s0"));
    let name = [Name::new("local_cluster")];
    let peers = |served: &watch::Receiver<Arc<Served>>| {
        let found = served
            .borrow()
            .find(&engine.cache, &TypeUrl::ENDPOINT, name.iter());
        found.first().map(|found| {
            let text = String::from_utf8_lossy(found.value()).into_owned();
            let known = (1..9).filter(|n| text.contains(&format!("10.1.0.{n}")));
            known.collect::<Vec<_>>()
        })
    };
    assert_eq!(peers(&served), Some(vec![1, 2]));
    assert_eq!(peers(&plain), None, "who did not ask for them has none");

    // Endpoints of others are nothing to it; one of its own is.
    let group = served.borrow().group(&TypeUrl::ENDPOINT).expect("a group");
    let since = |served: &watch::Receiver<Arc<Served>>| {
        let names = served
            .borrow()
            .since(&TypeUrl::ENDPOINT, group)
            .expect("known");
        names.iter().any(|changed| *changed == name[0])
    };
    let mut is = World::clone(&was);
    serve(&mut is, "s1", "10.1.0.9");
    let second = Arc::new(before.next(2, Arc::new(is.clone()), Arc::clone(&config)));
    engine.publish(second.clone(), false);
    assert!(!since(&served));
    peering(&mut is, "s0", "10.1.0.5", "a", "r1/z1");
    let third = Arc::new(second.next(3, Arc::new(is.clone()), Arc::clone(&config)));
    engine.publish(third.clone(), false);
    assert!(since(&served));
    assert_eq!(peers(&served), Some(vec![1, 2, 5]));

    // Without a service of its own it is told so, and does not wait.
    is.services = Default::default();
    engine.publish(Arc::new(third.next(4, Arc::new(is), config)), false);
    assert_eq!(peers(&served), Some(vec![]));
}
