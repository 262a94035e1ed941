//! Invariant: any sequence of changes ends in the state that a fresh start would give.

use proptest::prelude::*;
use serde_json::json;

use super::*;
use crate::{Resolution, ServicePort, TargetPort, WorldChanges, store::Event};

/// One change, small enough that changes meet.
#[derive(Clone, Debug)]
enum Change {
    Service(u8, Option<u8>),
    Slice(u8, Option<(u8, Vec<(u8, bool)>)>),
    Pod(u8, Option<(u8, u8)>),
    Node(Option<u8>),
    Namespace(u8, Option<u8>),
    ServiceEntry(u8, Option<u8>),
    WorkloadEntry(u8, Option<u8>),
    Fold,
}

fn change() -> impl Strategy<Value = Change> {
    let addresses = prop::collection::vec((0..4u8, any::<bool>()), 0..3);
    prop_oneof![
        (0..2u8, prop::option::of(0..3u8)).prop_map(|(n, v)| Change::Service(n, v)),
        (0..3u8, prop::option::of((0..2u8, addresses))).prop_map(|(n, v)| Change::Slice(n, v)),
        (0..4u8, prop::option::of((0..4u8, 0..2u8))).prop_map(|(n, v)| Change::Pod(n, v)),
        prop::option::of(0..2u8).prop_map(Change::Node),
        (0..2u8, prop::option::of(0..2u8)).prop_map(|(n, v)| Change::Namespace(n, v)),
        (0..4u8, prop::option::of(0..5u8)).prop_map(|(n, v)| Change::ServiceEntry(n, v)),
        (0..2u8, prop::option::of(0..4u8)).prop_map(|(n, v)| Change::WorkloadEntry(n, v)),
        Just(Change::Fold),
    ]
}

fn event<T>(name: String, item: Option<T>) -> Event<T> {
    let key = ("default".to_owned(), name);
    match item {
        Some(item) => Event::Apply(key, item),
        None => Event::Delete(key),
    }
}

fn app(n: u8) -> lateen_core::Labels {
    [("app", format!("app{n}"))].into_iter().collect()
}

/// Variant 0 has a selector, 1 has another port, 2 has no selector.
fn service(n: u8, variant: u8) -> Arc<Service> {
    Arc::new(Service {
        hostname: lateen_core::Hostname::new(""),
        name: format!("s{n}"),
        namespace: "default".into(),
        provider: crate::Provider::Kubernetes,
        addresses: Vec::new(),
        address_ranges: Vec::new(),
        ports: vec![ServicePort {
            name: if variant == 1 {
                "other".into()
            } else {
                "http".into()
            },
            port: 80,
            target_port: TargetPort::Number(8080),
            protocol: lateen_core::Protocol::Http,
        }],
        resolution: Resolution::ClientSide,
        external: false,
        labels: lateen_core::Labels::new(),
        selector: if variant == 2 {
            lateen_core::Labels::new()
        } else {
            app(n)
        },
        created: None,
        export_to: Vec::new(),
        subject_alt_names: Vec::new(),
        external_name: None,
        load_balancer: Vec::new(),
        distribution: None,
        allocated: Vec::new(),
    })
}

fn slice(service: u8, addresses: Vec<(u8, bool)>) -> Slice {
    let address = |(n, named): (u8, bool)| SliceAddress {
        address: format!("10.0.0.{n}"),
        ready: true,
        pod: named.then(|| format!("p{n}")),
        node: "n1".into(),
    };
    Slice {
        service: format!("s{service}"),
        ports: vec![("http".into(), 8080)],
        addresses: addresses.into_iter().map(address).collect(),
    }
}

fn pod(n: u8, ip: u8, labels: u8) -> Arc<Workload> {
    Arc::new(Workload {
        name: format!("p{n}"),
        namespace: "default".into(),
        ips: vec![IpAddr::from([10, 0, 0, ip])],
        labels: app(labels),
        annotations: BTreeMap::new(),
        service_account: "default".into(),
        node: "n1".into(),
        locality: lateen_core::Locality::default(),
        ports: BTreeMap::new(),
        owner: None,
        mtls: n.is_multiple_of(2),
        ready: true,
    })
}

/// The odd ones are in another namespace, where the hosts are other services.
fn entry_event(n: u8, item: Option<Arc<Value>>) -> Event<Arc<Value>> {
    let key = (entry_namespace(n).to_owned(), format!("e{n}"));
    match item {
        Some(item) => Event::Apply(key, item),
        None => Event::Delete(key),
    }
}

fn entry_namespace(n: u8) -> &'static str {
    ["default", "other"][usize::from(n % 2)]
}

/// Variants: by DNS, by selector, with endpoints, with the name of a service of the platform, and with
/// a port of its own. The names that come last are the oldest.
fn service_entry(n: u8, variant: u8) -> Arc<Value> {
    let port = json!([{"number": 80, "name": "http", "protocol": "HTTP"}]);
    let spec = match variant {
        0 => json!({"hosts": ["a.com"], "resolution": "DNS", "ports": port}),
        1 => json!({"hosts": ["a.com", "b.com"], "resolution": "STATIC", "ports": port,
            "workloadSelector": {"labels": {"app": "app0"}}}),
        2 => json!({"hosts": ["b.com"], "resolution": "STATIC", "ports": port,
            "endpoints": [{"address": "1.1.1.1"}]}),
        3 => json!({"hosts": ["s0.default.svc.cluster.local"], "resolution": "DNS", "ports": port}),
        _ => json!({"hosts": ["a.com", "b.com"], "resolution": "DNS",
            "ports": [{"number": 90, "name": "own", "protocol": "TCP"}]}),
    };
    let created = format!("2026-01-0{}T00:00:00Z", 9 - n);
    let status = json!({"addresses": [{"value": "240.240.0.7", "host": "a.com"}]});
    let status = if n < 2 { status } else { Value::Null };
    Arc::new(
        json!({"spec": spec, "status": status, "metadata": {"name": format!("e{n}"),
        "namespace": entry_namespace(n), "creationTimestamp": created}}),
    )
}

fn workload_entry(n: u8, ip: u8) -> Arc<Value> {
    Arc::new(json!({
        "metadata": {"name": format!("w{n}"), "namespace": "default"},
        "spec": {"address": format!("10.0.0.{ip}"), "labels": {"app": format!("app{n}")}},
    }))
}

fn kind(name: &str) -> &'static Kind {
    WATCHED_KINDS
        .iter()
        .find(|kind| kind.kind == name)
        .expect("watched")
}

fn update(change: &Change) -> Option<Update> {
    Some(match change.clone() {
        Change::Service(n, v) => Update::Service(event(format!("s{n}"), v.map(|v| service(n, v)))),
        Change::Slice(n, v) => Update::Slice(event(
            format!("l{n}"),
            v.map(|(service, all)| slice(service, all)),
        )),
        Change::Pod(n, v) => Update::Pod(event(
            format!("p{n}"),
            v.map(|(ip, labels)| pod(n, ip, labels)),
        )),
        Change::Node(zone) => {
            let key = (String::new(), "n1".to_owned());
            Update::Node(match zone {
                None => Event::Delete(key),
                Some(zone) => Event::Apply(key, node(zone)),
            })
        }
        Change::ServiceEntry(n, v) => Update::Object(
            kind("ServiceEntry"),
            entry_event(n, v.map(|v| service_entry(n, v))),
        ),
        Change::WorkloadEntry(n, ip) => Update::Object(
            kind("WorkloadEntry"),
            event(format!("w{n}"), ip.map(|ip| workload_entry(n, ip))),
        ),
        Change::Namespace(n, v) => {
            let (name, labels) = (format!("n{n}"), v.map(app));
            let key = (String::new(), name.clone());
            Update::Namespace(match labels {
                None => Event::Delete(key),
                Some(labels) => Event::Apply(key, Arc::new(Namespace { name, labels })),
            })
        }
        Change::Fold => return None,
    })
}

fn node(zone: u8) -> Arc<Node> {
    let locality = lateen_core::Locality {
        region: "r".into(),
        zone: zone.to_string().into(),
        sub_zone: "".into(),
    };
    Arc::new(Node {
        name: "n1".into(),
        locality,
    })
}

/// The object that a change is about; later changes of it replace earlier ones.
fn subject(change: &Change) -> Option<(u8, u8)> {
    Some(match change {
        Change::Node(_) => (0, 0),
        Change::Service(n, _) => (1, *n),
        Change::Slice(n, _) => (2, *n),
        Change::Pod(n, _) => (3, *n),
        Change::ServiceEntry(n, _) => (4, *n),
        Change::WorkloadEntry(n, _) => (5, *n),
        Change::Namespace(n, _) => (6, *n),
        Change::Fold => return None,
    })
}

/// What a fresh start makes of the last form of everything.
fn fresh(last: &BTreeMap<(u8, u8), &Change>) -> State {
    let mut state = State::new("cluster.local".into());
    for change in last.values() {
        state.apply(update(change).expect("folds have no subject"));
    }
    state.fold();
    state
}

/// Keys whose allocations differ, found by asking for each.
fn naive<K: Ord + Clone, T: ?Sized>(
    old: &SharedMap<K, Arc<T>>,
    new: &SharedMap<K, Arc<T>>,
) -> BTreeSet<K> {
    let keys = old.keys().chain(new.keys());
    let same = |key: &K| match (old.get(key), new.get(key)) {
        (Some(old), Some(new)) => Arc::ptr_eq(old, new),
        _ => false,
    };
    keys.filter(|key| !same(key)).cloned().collect()
}

fn naive_changes(old: &World, new: &World) -> WorldChanges {
    WorldChanges {
        services: naive(&old.services, &new.services),
        endpoints: naive(&old.endpoints, &new.endpoints),
        workloads: naive(&old.workloads_by_ip, &new.workloads_by_ip),
        namespaces: naive(&old.namespaces, &new.namespaces),
        nodes: naive(&old.nodes, &new.nodes),
    }
}

proptest! {
    #[test]
    fn same_end_from_any_path(changes in prop::collection::vec(change(), 0..40)) {
        let mut travelled = State::new("cluster.local".into());
        let mut last = BTreeMap::new();
        for change in &changes {
            match update(change) {
                Some(update) => travelled.apply(update),
                None => { travelled.fold(); }
            }
            if let Some(subject) = subject(change) {
                last.insert(subject, change);
            }
        }
        travelled.fold();
        let fresh = fresh(&last);
        prop_assert_eq!(&travelled.world, &fresh.world);
        prop_assert_eq!(&travelled.refs, &fresh.refs);
        prop_assert_eq!(&travelled.allocation, &fresh.allocation);
        prop_assert!(!travelled.fold(), "a fold without changes publishes nothing");
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 4, max_shrink_iters: 200, ..Default::default() })]

    /// A reader that looks now and then misses nothing, and is told of nothing that is the same.
    #[test]
    fn changes_are_exact(changes in prop::collection::vec(change(), 10_000)) {
        let mut state = State::new("cluster.local".into());
        let mut last = BTreeMap::new();
        let (worlds_tx, worlds) = tokio::sync::watch::channel(Arc::new(World::default()));
        let mut feed = crate::Feed::new(worlds);
        let mut seen = Arc::new(World::default());
        for (n, change) in changes.iter().enumerate() {
            if let Some(subject) = subject(change) {
                last.insert(subject, change);
            }
            if let Some(update) = update(change) {
                state.apply(update);
                continue;
            }
            let before = state.world.clone();
            let changed = state.fold();
            let differs = naive_changes(&before, &state.world);
            prop_assert_eq!(changed, !differs.is_empty());
            prop_assert_eq!(changed, before != state.world, "what is equal keeps its allocation");
            worlds_tx.send_replace(Arc::new(state.world.clone()));
            if n % 3 == 0 {
                let (world, changes) = feed.look();
                prop_assert_eq!(changes, naive_changes(&seen, &world));
                seen = world;
            }
            if n % 10 == 0 {
                let fresh = fresh(&last);
                prop_assert_eq!(&state.world, &fresh.world);
                prop_assert_eq!(&state.refs, &fresh.refs);
            }
        }
    }
}
