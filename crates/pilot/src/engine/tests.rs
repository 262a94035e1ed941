use lateen_core::{Labels, Protocol};
use lateen_registry::{Endpoint, EndpointKey, World};

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
