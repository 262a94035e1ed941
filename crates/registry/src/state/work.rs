//! What a change costs grows with the change, not with the mesh.

use lateen_core::{Hostname, Locality, Protocol};
use serde_json::json;

use super::*;
use crate::{Provider, Resolution, ServicePort, TargetPort, store::Event};

fn key(name: &str) -> Key {
    ("default".to_owned(), name.to_owned())
}

fn labels(n: usize) -> Labels {
    [("app", format!("s{n}"))].into_iter().collect()
}

fn service(n: usize) -> Update {
    let service = Service {
        hostname: Hostname::new(""),
        name: format!("s{n}"),
        namespace: "default".into(),
        provider: Provider::Kubernetes,
        addresses: Vec::new(),
        address_ranges: Vec::new(),
        ports: vec![ServicePort {
            name: "http".into(),
            port: 80,
            target_port: TargetPort::Number(8080),
            protocol: Protocol::Http,
        }],
        resolution: Resolution::ClientSide,
        external: false,
        labels: Labels::new(),
        selector: labels(n),
        created: None,
        export_to: Vec::new(),
        subject_alt_names: Vec::new(),
        external_name: None,
        load_balancer: Vec::new(),
        distribution: None,
        allocated: Vec::new(),
    };
    Update::Service(Event::Apply(key(&format!("s{n}")), Arc::new(service)))
}

fn address(n: usize) -> String {
    format!("10.1.{}.{}", n / 250, n % 250)
}

fn slice(n: usize, ready: bool) -> Update {
    let address = SliceAddress {
        address: address(n),
        ready,
        pod: Some(format!("p{n}")),
        node: format!("n{n}"),
    };
    let slice = Slice {
        service: format!("s{n}"),
        ports: vec![("http".into(), 8080)],
        addresses: vec![address],
    };
    Update::Slice(Event::Apply(key(&format!("s{n}-1")), slice))
}

fn pod(n: usize, ready: bool) -> Update {
    let pod = Workload {
        name: format!("p{n}"),
        namespace: "default".into(),
        ips: vec![address(n).parse().expect("an address")],
        labels: labels(n),
        annotations: BTreeMap::new(),
        service_account: "default".into(),
        node: format!("n{n}"),
        locality: Locality::default(),
        ports: BTreeMap::new(),
        owner: None,
        mtls: true,
        ready,
    };
    Update::Pod(Event::Apply(key(&format!("p{n}")), Arc::new(pod)))
}

fn node(n: usize, zone: &str) -> Update {
    let node = Node {
        name: format!("n{n}"),
        locality: format!("eu/{zone}").parse().expect("a locality"),
    };
    let key = (String::new(), node.name.clone());
    Update::Node(Event::Apply(key, Arc::new(node)))
}

/// By DNS, or for every tenth, of the pods of a service.
fn service_entry(n: usize, port: u16) -> Update {
    let mut spec = json!({
        "hosts": [format!("e{n}.example.com")], "resolution": "DNS",
        "ports": [{"number": port, "name": "http", "protocol": "HTTP"}],
    });
    if n.is_multiple_of(10) {
        spec["resolution"] = json!("STATIC");
        spec["workloadSelector"] = json!({"labels": labels(n)});
    }
    let name = format!("e{n}");
    let entry = json!({"metadata": {"name": name, "namespace": "default"}, "spec": spec});
    Update::Object(
        &kinds::SERVICE_ENTRY,
        Event::Apply(key(&name), Arc::new(entry)),
    )
}

fn workload_entry(n: usize, weight: u32) -> Update {
    let name = format!("w{n}");
    let spec = json!({"address": format!("10.2.{}.{}", n / 250, n % 250), "weight": weight,
        "labels": labels(n)});
    let entry = json!({"metadata": {"name": name, "namespace": "default"}, "spec": spec});
    Update::Object(
        &kinds::WORKLOAD_ENTRY,
        Event::Apply(key(&name), Arc::new(entry)),
    )
}

/// A mesh of `n` of everything, and how much was looked at on the way.
fn mesh(n: usize) -> (State, usize) {
    let mut state = State::new("cluster.local".into());
    for i in 0..n {
        for update in [node(i, "a"), service(i), slice(i, true), pod(i, true)] {
            state.apply(update);
        }
        if i.is_multiple_of(10) {
            state.apply(service_entry(i, 80));
            state.apply(workload_entry(i, 1));
        }
    }
    assert!(state.fold());
    let visited = state.visited.take();
    (state, visited)
}

/// What one change makes the writer look at.
fn cost(state: &mut State, update: Update) -> usize {
    state.apply(update);
    assert!(state.fold(), "it changes something");
    state.visited.take()
}

#[test]
fn a_change_costs_the_same_in_a_large_mesh() {
    let of = |n: usize| {
        let (mut state, _) = mesh(n);
        let state = &mut state;
        [
            ("slice", cost(state, slice(50, false))),
            ("pod", cost(state, pod(50, false))),
            ("node", cost(state, node(50, "b"))),
            ("service", cost(state, service(n))),
            ("entry by DNS", cost(state, service_entry(51, 80))),
            ("entry that selects", cost(state, service_entry(50, 81))),
            ("workload entry", cost(state, workload_entry(50, 2))),
        ]
    };
    let (small, large) = (of(100), of(10_000));
    for (small, large) in small.iter().zip(&large) {
        assert_eq!(small, large);
        assert!(small.1 <= 20, "{small:?}");
    }
}

#[test]
fn the_first_lists_cost_what_is_in_them() {
    let per_service = |n: usize| mesh(n).1 / n;
    assert!(
        per_service(2000) <= per_service(200) + 1,
        "{} {}",
        per_service(200),
        per_service(2000)
    );
}
