use std::net::IpAddr;

use lateen_core::{Hostname, Labels, Locality, Protocol};
use serde_json::json;

use super::*;
use crate::{Provider, Resolution, ServicePort, TargetPort, store::Event};

fn key(namespace: &str, name: &str) -> Key {
    (namespace.into(), name.into())
}

fn labels(pairs: &[(&str, &str)]) -> Labels {
    pairs.iter().copied().collect()
}

fn reviews() -> Service {
    Service {
        hostname: Hostname::new(""),
        name: "reviews".into(),
        namespace: "default".into(),
        provider: Provider::Kubernetes,
        addresses: vec!["10.96.1.1".parse().unwrap()],
        address_ranges: Vec::new(),
        ports: vec![ServicePort {
            name: "http".into(),
            port: 9080,
            target_port: TargetPort::Number(9080),
            protocol: Protocol::Http,
        }],
        resolution: Resolution::ClientSide,
        external: false,
        labels: Labels::new(),
        selector: labels(&[("app", "reviews")]),
        created: None,
        export_to: Vec::new(),
        subject_alt_names: Vec::new(),
        external_name: None,
        load_balancer: Vec::new(),
        distribution: None,
        allocated: Vec::new(),
    }
}

fn pod(name: &str, ip: &str) -> Arc<Workload> {
    Arc::new(Workload {
        name: name.into(),
        namespace: "default".into(),
        ips: vec![ip.parse().unwrap()],
        labels: labels(&[("app", "reviews"), ("version", name)]),
        annotations: BTreeMap::new(),
        service_account: "bookinfo-reviews".into(),
        node: "node1".into(),
        locality: Locality::default(),
        ports: BTreeMap::new(),
        owner: None,
        mtls: true,
        ready: true,
    })
}

fn slice(pods: &[(&str, &str)]) -> Slice {
    let address = |(pod, ip): &(&str, &str)| SliceAddress {
        address: (*ip).into(),
        ready: true,
        pod: Some((*pod).into()),
        node: "node1".into(),
    };
    Slice {
        service: "reviews".into(),
        ports: vec![("http".into(), 9080)],
        addresses: pods.iter().map(address).collect(),
    }
}

fn node(zone: &str) -> Arc<Node> {
    let locality = Locality {
        region: "eu".into(),
        zone: zone.into(),
        sub_zone: "".into(),
    };
    Arc::new(Node {
        name: "node1".into(),
        locality,
    })
}

fn bookinfo() -> State {
    let mut state = State::new("cluster.local".into());
    state.apply(Update::Node(Event::Apply(key("", "node1"), node("a"))));
    state.apply(Update::Service(Event::Apply(
        key("default", "reviews"),
        Arc::new(reviews()),
    )));
    state.apply(Update::Pod(Event::Apply(
        key("default", "v1"),
        pod("v1", "10.244.0.2"),
    )));
    state.apply(Update::Slice(Event::Apply(
        key("default", "r-1"),
        slice(&[("v1", "10.244.0.2"), ("v2", "10.244.0.3")]),
    )));
    assert!(state.fold());
    state
}

const HOST: &str = "reviews.default.svc.cluster.local";

fn id(host: &str) -> ServiceId {
    ServiceId::new("default", host)
}

#[test]
fn an_endpoint_waits_for_its_pod() {
    let mut state = bookinfo();
    let found = state.world.endpoints(&id(HOST), "http").to_vec();
    assert_eq!(found.len(), 1, "v2's pod is not known yet");
    assert!(found[0].mtls);
    assert_eq!(found[0].locality.to_string(), "eu/a");
    state.apply(Update::Pod(Event::Apply(
        key("default", "v2"),
        pod("v2", "10.244.0.3"),
    )));
    assert!(state.fold());
    assert_eq!(state.world.endpoints(&id(HOST), "http").len(), 2);
}

#[test]
fn what_did_not_change_is_shared() {
    let mut state = bookinfo();
    let before = state.world.clone();
    state.apply(Update::Service(Event::Apply(
        key("default", "ratings"),
        Arc::new(Service {
            name: "ratings".into(),
            ..reviews()
        }),
    )));
    assert!(state.fold());
    let host = id(HOST);
    assert!(Arc::ptr_eq(
        &before.services[&host],
        &state.world.services[&host]
    ));
    let port = crate::EndpointKey::new(id(HOST), "http");
    assert!(Arc::ptr_eq(
        &before.endpoints[&port],
        &state.world.endpoints[&port]
    ));
    assert!(!state.fold(), "nothing new, nothing published");
}

#[test]
fn a_node_moves_its_pods() {
    let mut state = bookinfo();
    state.apply(Update::Node(Event::Apply(key("", "node1"), node("b"))));
    assert!(state.fold());
    assert_eq!(
        state.world.endpoints(&id(HOST), "http")[0]
            .locality
            .to_string(),
        "eu/b"
    );
    let ip: IpAddr = "10.244.0.2".parse().unwrap();
    assert_eq!(
        state.world.workload(ip).unwrap().locality.to_string(),
        "eu/b"
    );
}

#[test]
fn removed_services_take_their_endpoints_along() {
    let mut state = bookinfo();
    state.apply(Update::Service(Event::Delete(key("default", "reviews"))));
    assert!(state.fold());
    assert!(state.world.services.is_empty() && state.world.endpoints.is_empty());
    let ip: IpAddr = "10.244.0.2".parse().unwrap();
    assert!(state.world.workload(ip).is_some());
    state.apply(Update::Pod(Event::Delete(key("default", "v1"))));
    assert!(state.fold());
    assert!(state.world.workload(ip).is_none());
}

fn entry(spec: serde_json::Value) -> Arc<Value> {
    Arc::new(json!({"metadata": {"name": "ext", "namespace": "default"}, "spec": spec}))
}

fn apply_entry(state: &mut State, value: Arc<Value>) -> bool {
    let kind = WATCHED_KINDS
        .iter()
        .find(|k| k.kind == "ServiceEntry")
        .unwrap();
    state.apply(Update::Object(
        kind,
        Event::Apply(key("default", "ext"), value),
    ));
    state.fold()
}

#[test]
fn service_entries_become_services() {
    let mut state = bookinfo();
    assert!(apply_entry(
        &mut state,
        entry(json!({
            "hosts": ["api.example.com"], "location": "MESH_EXTERNAL", "resolution": "DNS",
            "ports": [{"number": 443, "name": "https", "protocol": "TLS"}],
        })),
    ));
    let service = &state.world.services[&id("api.example.com")];
    assert!(service.external && service.resolution == Resolution::Dns);
    assert_eq!(
        state.world.endpoints(&id("api.example.com"), "https")[0].address,
        "api.example.com"
    );
    let kind = WATCHED_KINDS
        .iter()
        .find(|k| k.kind == "ServiceEntry")
        .unwrap();
    assert!(
        !apply_entry(&mut state, entry(json!({"hosts": 5}))),
        "unreadable: last form kept"
    );
    state.apply(Update::Object(kind, Event::Delete(key("default", "ext"))));
    assert!(state.fold());
    assert!(!state.world.services.contains_key(&id("api.example.com")));
    assert!(state.world.services.contains_key(&id(HOST)));
}

#[test]
fn service_entries_select_pods() {
    let mut state = bookinfo();
    assert!(apply_entry(
        &mut state,
        entry(json!({
            "hosts": ["reviews.internal"], "location": "MESH_INTERNAL", "resolution": "STATIC",
            "ports": [{"number": 80, "name": "http", "protocol": "HTTP", "targetPort": 9080}],
            "workloadSelector": {"labels": {"app": "reviews"}},
        })),
    ));
    let found = state.world.endpoints(&id("reviews.internal"), "http");
    assert_eq!((found.len(), found[0].port, found[0].mtls), (1, 9080, true));
    state.apply(Update::Pod(Event::Apply(
        key("default", "v2"),
        pod("v2", "10.244.0.3"),
    )));
    state.fold();
    assert_eq!(
        state.world.endpoints(&id("reviews.internal"), "http").len(),
        2
    );
}

#[test]
fn the_datagrams_of_a_port_do_not_stand_for_its_connections() {
    let mut dns = reviews();
    dns.ports = [("dns", Protocol::Udp), ("dns-tcp", Protocol::Tcp)]
        .map(|(name, protocol)| ServicePort {
            name: name.into(),
            port: 53,
            target_port: TargetPort::Number(53),
            protocol,
        })
        .into();
    assert_eq!(dns.port(53).map(|p| p.name.as_str()), Some("dns-tcp"));
}

#[test]
fn endpoints_that_no_proxy_can_reach_are_left_out() {
    let found = |resolution: &str, endpoints: serde_json::Value| {
        let mut state = bookinfo();
        let entry = json!({
            "metadata": {"name": "db", "namespace": "default"},
            "spec": {
                "hosts": ["db.example.com"],
                "ports": [{"number": 5432, "name": "tcp", "protocol": "TCP"}],
                "resolution": resolution,
                "endpoints": endpoints,
            },
        });
        let event = Event::Apply(key("default", "db"), Arc::new(entry));
        state.apply(Update::Object(&kinds::SERVICE_ENTRY, event));
        assert!(state.fold());
        let found = state.world.endpoints(&id("db.example.com"), "tcp").iter();
        found.map(|e| e.address.clone()).collect::<Vec<_>>()
    };
    let by_address = json!([
        {"address": "192.0.2.1"}, {"address": "unix:///run/db"}, {"network": "elsewhere"},
    ]);
    // The last one is reached by the gateways of its network.
    let all = ["192.0.2.1", "unix:///run/db", ""];
    assert_eq!(found("STATIC", by_address), all);
    let by_name = json!([{"address": "db.example.com"}, {"address": "unix:///run/db"}]);
    assert_eq!(found("DNS", by_name), ["db.example.com"]);
}

#[test]
fn an_unhealthy_entry_is_no_ready_endpoint() {
    let mut state = bookinfo();
    let external = json!({
        "hosts": ["vm.example.com"], "resolution": "STATIC", "location": "MESH_INTERNAL",
        "ports": [{"number": 80, "name": "http", "protocol": "HTTP"}],
        "workloadSelector": {"labels": {"app": "reviews"}},
    });
    assert!(apply_entry(&mut state, entry(external)));
    let mut vm = json!({
        "apiVersion": "networking.istio.io/v1",
        "kind": "WorkloadEntry",
        "metadata": {
            "name": "vm", "namespace": "default",
            "annotations": {"proxy.istio.io/health-checks-enabled": "true"},
        },
        "spec": {"address": "192.0.2.7", "labels": {"app": "reviews"}},
    });
    let set = |state: &mut State, vm: &Value| {
        let event = Event::Apply(key("default", "vm"), Arc::new(vm.clone()));
        state.apply(Update::Object(&kinds::WORKLOAD_ENTRY, event));
        state.fold();
        let of = |host: &str| {
            let found = state.world.endpoints(&id(host), "http").iter();
            let mut found = found.filter(|endpoint| endpoint.address == "192.0.2.7");
            found.next().expect("known").ready
        };
        let ip: IpAddr = "192.0.2.7".parse().unwrap();
        let workload = state
            .world
            .workloads_by_ip
            .get(&ip)
            .is_some_and(|w| w.ready);
        [of(HOST), of("vm.example.com"), workload]
    };
    assert_eq!(set(&mut state, &vm), [false; 3], "nobody has heard of it");
    for (status, expect) in [("True", true), ("False", false)] {
        vm["status"] = json!({"conditions": [{"type": "Healthy", "status": status}]});
        assert_eq!(set(&mut state, &vm), [expect; 3], "{status}");
    }
    vm["metadata"]["annotations"] = json!({});
    assert_eq!(
        set(&mut state, &vm),
        [true; 3],
        "nobody looks at its health"
    );
}

#[test]
fn one_host_in_two_namespaces_is_two_services() {
    let mut state = bookinfo();
    let entry = |namespace: &str, port: u16, export: &str| {
        let entry = json!({
            "metadata": {"name": "api", "namespace": namespace},
            "spec": {
                "hosts": ["api.example.com", HOST],
                "ports": [{"number": port, "name": format!("p{port}"), "protocol": "TCP"}],
                "resolution": "DNS",
                "exportTo": [export],
            },
        });
        let event = Event::Apply(key(namespace, "api"), Arc::new(entry));
        Update::Object(&kinds::SERVICE_ENTRY, event)
    };
    state.apply(entry("one", 443, "."));
    state.apply(entry("two", 8443, "*"));
    assert!(state.fold());
    let ports = |state: &State| -> Vec<_> {
        let named = state.world.named("api.example.com");
        named
            .map(|s| {
                (
                    s.namespace.to_string(),
                    s.ports[0].port,
                    s.export_to[0].clone(),
                )
            })
            .collect()
    };
    let want = [("one", 443, "."), ("two", 8443, "*")];
    let want = want.map(|(ns, port, to)| (ns.to_owned(), port, to.to_owned()));
    assert_eq!(ports(&state), want);
    for (namespace, port) in [("one", "p443"), ("two", "p8443")] {
        let id = ServiceId::new(namespace, "api.example.com");
        assert_eq!(state.world.endpoints(&id, port).len(), 1, "{id}");
    }
    // The platform's own service of the name is another one, and untouched.
    assert_eq!(state.world.named(HOST).count(), 3);
    assert_eq!(state.world.endpoints(&id(HOST), "http").len(), 1);
    let gone = Event::Delete(key("one", "api"));
    state.apply(Update::Object(&kinds::SERVICE_ENTRY, gone));
    assert!(state.fold());
    assert_eq!(ports(&state), want[1..]);
}

#[test]
fn entries_of_one_namespace_add_up() {
    let mut state = bookinfo();
    for (name, created, port) in [("b", "2026-01-01", 80), ("a", "2026-01-02", 443)] {
        let entry = json!({
            "metadata": {"name": name, "namespace": "default",
                "creationTimestamp": format!("{created}T00:00:00Z")},
            "spec": {
                "hosts": ["api.example.com"],
                "ports": [{"number": port, "name": format!("p{port}"), "protocol": "TCP"}],
                "resolution": "DNS",
            },
        });
        let event = Event::Apply(key("default", name), Arc::new(entry));
        state.apply(Update::Object(&kinds::SERVICE_ENTRY, event));
    }
    assert!(state.fold());
    let id = id("api.example.com");
    let service = &state.world.services[&id];
    let ports: Vec<_> = service.ports.iter().map(|p| p.port).collect();
    assert_eq!((service.name.as_str(), &ports[..]), ("b", &[80, 443][..]));
    assert_eq!(state.world.endpoints(&id, "p443").len(), 1);
}

#[test]
fn hosts_without_an_address_are_given_one() {
    let spec = |more: Value| {
        let mut spec = json!({
            "hosts": ["db.example.com", "*.example.org"], "resolution": "STATIC",
            "ports": [{"number": 3306, "name": "tcp", "protocol": "TCP"}],
        });
        let more = more.as_object().cloned().unwrap_or_default();
        spec.as_object_mut().expect("an object").extend(more);
        spec
    };
    let given = |value: Value| {
        let mut state = State::new("cluster.local".into());
        apply_entry(&mut state, Arc::new(value));
        let of = |host: &str| state.world.services[&id(host)].allocated.clone();
        assert!(of("*.example.org").is_empty(), "nobody asks for that name");
        of("db.example.com")
    };
    let meta = json!({"name": "ext", "namespace": "default"});
    let first = given(json!({"metadata": meta, "spec": spec(json!({}))}));
    assert!(first[0].to_string().starts_with("240.240."), "{first:?}");
    assert!(first[1].to_string().starts_with("2001:2::"), "{first:?}");
    // The one that people were told of counts.
    let told = json!({"addresses": [
        {"value": "240.240.1.9", "host": "other.example.com"},
        {"value": "240.240.1.2", "host": "db.example.com"},
    ]});
    let kept = given(json!({"metadata": meta, "spec": spec(json!({})), "status": told}));
    assert_eq!(kept[0].to_string(), "240.240.1.2");
    let off = json!({"name": "ext", "namespace": "default",
        "labels": {"networking.istio.io/enable-autoallocate-ip": "false"}});
    for (meta, more) in [
        (&off, json!({})),
        (&meta, json!({"addresses": ["10.0.0.1"]})),
        (&meta, json!({"resolution": "NONE"})),
    ] {
        assert_eq!(
            given(json!({"metadata": meta, "spec": spec(more)})),
            Vec::<IpAddr>::new()
        );
    }
}
