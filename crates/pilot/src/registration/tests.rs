use lateen_api::mesh::{MeshConfig, NamespaceSelector};
use lateen_api::networking::WorkloadEntry;
use lateen_api::{Object, annotations};
use lateen_registry::WorkloadOwner;
use serde_json::json;
use tokio::sync::oneshot;

use super::leaving::SWEEP;
use super::*;
use crate::wire;

mod health;
mod streams;

/// Of the streams of a control plane that nobody has told otherwise.
const LIFETIME: Duration = Duration::from_secs(30 * 60);

/// An API server's part: objects with versions.
#[derive(Default)]
struct Stored {
    groups: Mutex<BTreeMap<Key, Value>>,
    entries: Mutex<BTreeMap<Key, Value>>,
    version: Mutex<u64>,
    /// Nothing answers.
    is_down: Mutex<bool>,
    /// How often conditions were to be written.
    n_conditions: Mutex<u32>,
    /// They are not taken.
    refuses_conditions: Mutex<bool>,
    /// New entries are not taken.
    refuses_entries: Mutex<bool>,
    /// How often an entry was asked for.
    n_asked: Mutex<u32>,
    /// Holds up whoever replaces an entry next.
    gate: Mutex<Option<Gate>>,
    /// The mesh selects no namespace, so that the watch has none of them.
    selects_none: Mutex<bool>,
    /// What the watch has of them.
    config: watch::Sender<Arc<ConfigSet>>,
}

/// Between reading an entry and replacing it.
struct Gate {
    reached_tx: oneshot::Sender<()>,
    opened: oneshot::Receiver<()>,
}

fn key_of(entry: &Value) -> Key {
    let text = |field: &str| {
        entry["metadata"][field]
            .as_str()
            .expect("a name")
            .to_owned()
    };
    (text("namespace"), text("name"))
}

impl Stored {
    fn up(&self) -> Result<(), EntriesError> {
        match *self.is_down.lock().expect("whole") {
            true => Err(EntriesError::Failed("down".to_owned())),
            false => Ok(()),
        }
    }

    fn put(&self, mut entry: Value, is_new: bool) -> Result<(), EntriesError> {
        self.up()?;
        let mut entries = self.entries.lock().expect("whole");
        let key = key_of(&entry);
        let there = entries
            .get(&key)
            .map(|of| of["metadata"]["resourceVersion"].clone());
        let fits = match &there {
            None => is_new,
            Some(version) => !is_new && *version == entry["metadata"]["resourceVersion"],
        };
        if !fits {
            return Err(EntriesError::Changed);
        }
        let mut version = self.version.lock().expect("whole");
        *version += 1;
        entry["metadata"]["resourceVersion"] = version.to_string().into();
        entries.insert(key, entry);
        self.publish(&entries);
        Ok(())
    }

    fn publish(&self, entries: &BTreeMap<Key, Value>) {
        let object = |entry: &Value| Object {
            meta: serde_json::from_value(entry["metadata"].clone()).expect("metadata"),
            spec: WorkloadEntry::default(),
        };
        let selects_none = *self.selects_none.lock().expect("whole");
        let seen = entries.values().filter(|_| !selects_none);
        let workload_entries = seen.map(|entry| Arc::new(object(entry)));
        let selector = || NamespaceSelector {
            match_labels: [("no".to_owned(), "where".to_owned())].into(),
            ..NamespaceSelector::default()
        };
        let mesh = MeshConfig {
            discovery_selectors: selects_none.then(selector).into_iter().collect(),
            ..MeshConfig::default()
        };
        self.config.send_replace(Arc::new(ConfigSet {
            mesh: Arc::new(mesh),
            workload_entries: workload_entries.collect(),
            ..ConfigSet::default()
        }));
    }

    fn version(&self) -> u64 {
        *self.version.lock().expect("whole")
    }

    fn group(&self, spec: Value) {
        let key = ("ns".to_owned(), "vms".to_owned());
        let group = json!({"metadata": {"uid": "u1"}, "spec": spec});
        self.groups.lock().expect("whole").insert(key, group);
    }

    fn set_down(&self, is_down: bool) {
        *self.is_down.lock().expect("whole") = is_down;
    }

    /// The next replacement tells that it has come, and waits until it may go on.
    fn hold_up(&self) -> (oneshot::Receiver<()>, oneshot::Sender<()>) {
        let (reached_tx, reached) = oneshot::channel();
        let (open_tx, opened) = oneshot::channel();
        let gate = Gate { reached_tx, opened };
        *self.gate.lock().expect("whole") = Some(gate);
        (reached, open_tx)
    }

    fn one(&self) -> Option<Value> {
        self.entries.lock().expect("whole").values().next().cloned()
    }
}

fn ready<'a, T: Send + 'a>(value: T) -> BoxFuture<'a, T> {
    Box::pin(std::future::ready(value))
}

impl Entries for Stored {
    fn group<'a>(
        &'a self,
        namespace: &'a str,
        name: &'a str,
    ) -> BoxFuture<'a, Result<Option<Value>, EntriesError>> {
        let key = (namespace.to_owned(), name.to_owned());
        let found = self.groups.lock().expect("whole").get(&key).cloned();
        ready(self.up().map(|()| found))
    }

    fn entry<'a>(
        &'a self,
        namespace: &'a str,
        name: &'a str,
    ) -> BoxFuture<'a, Result<Option<Value>, EntriesError>> {
        *self.n_asked.lock().expect("whole") += 1;
        let key = (namespace.to_owned(), name.to_owned());
        let found = self.entries.lock().expect("whole").get(&key).cloned();
        ready(self.up().map(|()| found))
    }

    fn metas(&self) -> BoxFuture<'_, Result<Vec<Meta>, EntriesError>> {
        let entries = self.entries.lock().expect("whole");
        let meta = |entry: &Value| serde_json::from_value(entry["metadata"].clone());
        let metas = entries.values().map(|entry| meta(entry).expect("metadata"));
        ready(Ok(metas.collect()))
    }

    fn create(&self, entry: Value) -> BoxFuture<'_, Result<(), EntriesError>> {
        if *self.refuses_entries.lock().expect("whole") {
            return ready(Err(EntriesError::Refused("invalid".to_owned())));
        }
        ready(self.put(entry, true))
    }

    fn replace(&self, entry: Value) -> BoxFuture<'_, Result<(), EntriesError>> {
        let gate = self.gate.lock().expect("whole").take();
        Box::pin(async move {
            if let Some(Gate { reached_tx, opened }) = gate {
                reached_tx.send(()).expect("the test waits");
                opened.await.expect("the test opens it");
            }
            self.put(entry, false)
        })
    }

    fn set_conditions<'a>(
        &'a self,
        entry: &'a Value,
        conditions: Value,
    ) -> BoxFuture<'a, Result<(), EntriesError>> {
        *self.n_conditions.lock().expect("whole") += 1;
        if *self.refuses_conditions.lock().expect("whole") {
            return ready(Err(EntriesError::Refused("forbidden".to_owned())));
        }
        let mut entry = entry.clone();
        entry["status"]["conditions"] = conditions;
        ready(self.put(entry, false))
    }

    fn remove<'a>(&'a self, entry: &'a Value) -> BoxFuture<'a, Result<(), EntriesError>> {
        let mut entries = self.entries.lock().expect("whole");
        let there = entries.get(&key_of(entry));
        let same = there.is_some_and(|there| {
            there["metadata"]["resourceVersion"] == entry["metadata"]["resourceVersion"]
        });
        if same {
            entries.remove(&key_of(entry));
            self.publish(&entries);
        }
        ready(if same {
            Ok(())
        } else {
            Err(EntriesError::Changed)
        })
    }
}

fn start(stored: &Arc<Stored>, with: Registering, lifetime: Duration) -> Arc<Registrar> {
    let config = stored.config.subscribe();
    Registrar::start(with, lifetime, config, &Registry::new())
}

fn replica(stored: &Arc<Stored>, name: &str, leads: bool) -> Arc<Registrar> {
    let with = Registering {
        entries: stored.clone(),
        replica: name.to_owned(),
        grace: Registering::GRACE,
        // It stays what it is without its sender.
        leading: watch::channel(leads).1,
    };
    start(stored, with, LIFETIME)
}

/// The node of a workload on a virtual machine.
fn node(more: &[(&str, &str)]) -> Node {
    let labels = wire::record([
        ("app", wire::text("vm")),
        ("istio-locality", wire::text("r/z")),
        ("topology.istio.io/locality", wire::text("r/z")),
    ]);
    let probe = wire::structure(wire::record([("periodSeconds", wire::text("1"))]));
    let own = wire::record([("readinessProbe", probe)]);
    let mut metadata = wire::record([
        ("NAMESPACE", wire::text("ns")),
        ("AUTO_REGISTER_GROUP", wire::text("vms")),
        ("LABELS", wire::structure(labels)),
        ("PROXY_CONFIG", wire::structure(own)),
    ]);
    for (key, value) in more {
        metadata
            .fields
            .insert((*key).to_owned(), wire::text(*value));
    }
    Node {
        id: "sidecar~192.0.2.7~vm.ns~ns.svc.cluster.local".into(),
        metadata: Some(metadata),
        locality: Some(lateen_xds::types::core::Locality {
            region: "r".into(),
            zone: "z".into(),
            ..Default::default()
        }),
        ..Node::default()
    }
}

async fn register(
    registrar: &Registrar,
    node: &Node,
    account: Option<&str>,
) -> Result<Option<Registration>, Status> {
    let proxy = Proxy::from_node(node).expect("well formed");
    let identity = account.map(|account| SpiffeId::new("td", "ns", account).expect("an identity"));
    let world = World::default();
    registrar
        .register(node, &proxy, identity.as_ref(), &world)
        .await
}

fn note<'a>(entry: &'a Value, key: &str) -> Option<&'a str> {
    entry["metadata"]["annotations"].get(key)?.as_str()
}

/// Waits, in paused time, until something is so.
async fn until(what: &str, mut is_so: impl FnMut() -> bool) {
    for _ in 0..10_000 {
        if is_so() {
            return;
        }
        tokio::time::sleep(Duration::from_millis(1)).await;
    }
    panic!("never {what}");
}

#[tokio::test]
async fn a_workload_becomes_an_entry_of_its_group() {
    let stored = Arc::new(Stored::default());
    stored.group(json!({
        "metadata": {"labels": {"tier": "back", "app": "group"}, "annotations": {"a": "b"}},
        "template": {"ports": {"http": 8080}, "serviceAccount": "sa", "weight": 3,
                     "labels": {"tier": "template", "template": "yes"}},
    }));
    let registrar = replica(&stored, "one", false);
    let node = node(&[("NETWORK", "net")]);
    let held = register(&registrar, &node, Some("sa"))
        .await
        .expect("registered");
    assert!(held.is_some());
    let entry = stored.one().expect("an entry");
    assert_eq!(key_of(&entry), ("ns".into(), "vms-192.0.2.7-net".into()));
    let labels = json!({
        "app": "vm", "tier": "back", "template": "yes",
        "istio-locality": "r.z", "topology.istio.io/locality": "r.z",
    });
    assert_eq!(entry["metadata"]["labels"], labels);
    assert_eq!(
        entry["spec"],
        json!({
            "address": "192.0.2.7", "ports": {"http": 8080}, "serviceAccount": "sa", "weight": 3,
            "network": "net", "locality": "r/z", "labels": labels,
        })
    );
    assert_eq!(note(&entry, "a"), Some("b"));
    assert_eq!(
        note(&entry, annotations::AUTO_REGISTRATION_GROUP),
        Some("vms")
    );
    assert_eq!(note(&entry, annotations::WORKLOAD_CONTROLLER), Some("one"));
    assert_eq!(note(&entry, annotations::HEALTH_CHECKS), Some("true"));
    assert!(note(&entry, annotations::CONNECTED_AT).is_some());
    let owner = &entry["metadata"]["ownerReferences"][0];
    assert_eq!(
        (&owner["uid"], &owner["kind"]),
        (&json!("u1"), &json!("WorkloadGroup"))
    );
    let faults = lateen_galley::validate(&entry);
    assert!(faults.is_empty(), "{faults:?}");
}

#[tokio::test]
async fn only_the_groups_own_are_registered() {
    let stored = Arc::new(Stored::default());
    let registrar = replica(&stored, "one", false);
    let refused = async |node: &Node, account: Option<&str>| {
        let result = register(&registrar, node, account).await;
        result.err().map(|status| status.code())
    };
    use tonic::Code::{FailedPrecondition, InvalidArgument, PermissionDenied, Unavailable};
    let vm = node(&[]);
    assert_eq!(
        refused(&vm, Some("sa")).await,
        Some(FailedPrecondition),
        "no group"
    );
    stored.group(json!({"template": {"serviceAccount": "sa"}}));
    assert_eq!(refused(&vm, None).await, Some(PermissionDenied), "nobody");
    assert_eq!(refused(&vm, Some("other")).await, Some(PermissionDenied));
    let path = node(&[("AUTO_REGISTER_GROUP", "../../../v1/namespaces/ns/secrets/s")]);
    assert_eq!(refused(&path, Some("sa")).await, Some(InvalidArgument));
    let path = node(&[("NETWORK", "a/b")]);
    assert_eq!(refused(&path, Some("sa")).await, Some(InvalidArgument));
    stored.set_down(true);
    assert_eq!(refused(&vm, Some("sa")).await, Some(Unavailable));
    stored.set_down(false);
    *stored.refuses_entries.lock().expect("whole") = true;
    assert_eq!(
        refused(&vm, Some("sa")).await,
        Some(FailedPrecondition),
        "it is no use to try again"
    );
    *stored.refuses_entries.lock().expect("whole") = false;
    assert!(stored.one().is_none(), "nothing was written");
    assert_eq!(registrar.counts.errors.value(), 7, "each counts");
    // What somebody wrote by hand under the name is not taken over.
    let by_hand = json!({"metadata": {"namespace": "ns", "name": "vms-192.0.2.7"}, "spec": {}});
    stored.put(by_hand, true).expect("new");
    assert_eq!(refused(&vm, Some("sa")).await, Some(PermissionDenied));
    stored.entries.lock().expect("whole").clear();
    assert_eq!(refused(&vm, Some("sa")).await, None);
    // A pod's place is the pod's.
    let pod = lateen_registry::Workload {
        name: "a-1".into(),
        namespace: "ns".into(),
        ips: vec!["192.0.2.7".parse().expect("an address")],
        labels: lateen_core::Labels::new(),
        annotations: BTreeMap::new(),
        service_account: String::new(),
        node: String::new(),
        locality: lateen_core::Locality::default(),
        ports: BTreeMap::new(),
        owner: Some(WorkloadOwner {
            kind: "ReplicaSet".into(),
            name: "a".into(),
        }),
        mtls: true,
        ready: true,
    };
    let mut world = World::default();
    world.workloads_by_ip.insert(pod.ips[0], Arc::new(pod));
    let proxy = Proxy::from_node(&vm).expect("well formed");
    let identity = SpiffeId::new("td", "ns", "sa").expect("an identity");
    let result = registrar
        .register(&vm, &proxy, Some(&identity), &world)
        .await;
    assert_eq!(
        result.err().map(|status| status.code()),
        Some(PermissionDenied)
    );
}

#[tokio::test]
async fn who_asks_for_no_registration_is_not_registered() {
    let stored = Arc::new(Stored::default());
    let registrar = replica(&stored, "one", false);
    let pod = node(&[("AUTO_REGISTER_GROUP", "")]);
    let held = register(&registrar, &pod, None).await.expect("admitted");
    assert!(held.is_none() && stored.one().is_none());
    let proxy = |node: &Node| Proxy::from_node(node).expect("well formed");
    assert!(impossible(&proxy(&pod)).is_ok());
    assert!(impossible(&proxy(&node(&[]))).is_err());
}

/// Times in entries are the clock's, which tests do not turn: the time of grace is none here.
#[tokio::test]
async fn an_entry_goes_with_its_last_stream() {
    let stored = Arc::new(Stored::default());
    stored.group(json!({"template": {}}));
    let with = Registering {
        grace: Duration::from_millis(1),
        ..replica(&stored, "one", false).with.clone()
    };
    let registrar = start(&stored, with, LIFETIME);
    let node = node(&[]);
    let first = register(&registrar, &node, Some("sa"))
        .await
        .expect("registered");
    let second = register(&registrar, &node, Some("sa"))
        .await
        .expect("registered");
    drop(first);
    for _ in 0..100 {
        tokio::task::yield_now().await;
    }
    let entry = stored.one().expect("one stream is left");
    assert_eq!(note(&entry, annotations::DISCONNECTED_AT), None);
    assert_eq!(
        entry["spec"]["serviceAccount"], "sa",
        "of who has proved it"
    );
    drop(second);
    until("removed", || stored.one().is_none()).await;
    assert_eq!(registrar.counts.deletes.value(), 1);
}

#[tokio::test(start_paused = true)]
async fn who_comes_back_keeps_its_entry() {
    let stored = Arc::new(Stored::default());
    stored.group(json!({"template": {}}));
    let (one, two) = (
        replica(&stored, "one", false),
        replica(&stored, "two", false),
    );
    let node = node(&[]);
    let held = register(&one, &node, Some("sa")).await.expect("registered");
    drop(held);
    let left = || {
        stored
            .one()
            .is_some_and(|e| note(&e, annotations::DISCONNECTED_AT).is_some())
    };
    until("left", left).await;
    let held = register(&two, &node, Some("sa")).await.expect("registered");
    tokio::time::sleep(Registering::GRACE * 3).await;
    let entry = stored.one().expect("kept");
    assert_eq!(note(&entry, annotations::WORKLOAD_CONTROLLER), Some("two"));
    assert_eq!(note(&entry, annotations::DISCONNECTED_AT), None);
    // One that goes to another replica before the first has noticed stays the other's.
    let again = register(&one, &node, Some("sa")).await.expect("registered");
    drop(held);
    tokio::time::sleep(Registering::GRACE * 3).await;
    let entry = stored.one().expect("kept");
    assert_eq!(note(&entry, annotations::WORKLOAD_CONTROLLER), Some("one"));
    assert!(note(&entry, annotations::CONNECTED_AT).is_some());
    drop(again);
}

/// The entry is fresh, so that a further stream had no need to write it: but somebody has read it and is
/// about to write that the workload went.
#[tokio::test(start_paused = true)]
async fn who_comes_back_while_its_end_is_being_noted_keeps_its_entry() {
    let stored = Arc::new(Stored::default());
    stored.group(json!({"template": {}}));
    let registrar = replica(&stored, "one", false);
    let node = node(&[]);
    let held = register(&registrar, &node, Some("sa")).await;
    let (reached, open_tx) = stored.hold_up();
    drop(held.expect("registered"));
    reached.await.expect("its end is noted");
    let version = stored.version();
    let again = register(&registrar, &node, Some("sa")).await;
    let again = again.expect("registered");
    assert!(stored.version() > version, "the entry is another one now");
    open_tx.send(()).expect("it waits");
    let is_over = || {
        let held = registrar.lock();
        held.values().all(|own| !own.is_leaving)
    };
    until("over", is_over).await;
    tokio::time::sleep(Registering::GRACE * 3).await;
    let entry = stored.one().expect("the workload is here");
    assert_eq!(note(&entry, annotations::DISCONNECTED_AT), None);
    assert!(note(&entry, annotations::CONNECTED_AT).is_some());
    // And it goes when that stream does.
    drop(again);
    let left = || {
        let entry = stored.one();
        entry.is_none_or(|entry| note(&entry, annotations::DISCONNECTED_AT).is_some())
    };
    until("left", left).await;
}

#[tokio::test(start_paused = true)]
async fn the_leader_removes_what_replicas_left_behind() {
    let stored = Arc::new(Stored::default());
    let entry = |name: &str, notes: Value| {
        let entry = json!({"metadata": {"namespace": "ns", "name": name, "annotations": notes}});
        stored.put(entry, true).expect("new");
    };
    let long_ago = "2020-01-01T00:00:00.123456789Z";
    entry("by-hand", json!({}));
    let mut notes = json!({annotations::AUTO_REGISTRATION_GROUP: "vms"});
    notes[annotations::CONNECTED_AT] = Timestamp::now().to_string().into();
    entry("there", notes.clone());
    notes[annotations::CONNECTED_AT] = long_ago.into();
    entry("lost", notes.clone());
    let fields = notes.as_object_mut().expect("a map");
    fields.remove(annotations::CONNECTED_AT);
    notes[annotations::DISCONNECTED_AT] = long_ago.into();
    entry("gone", notes);
    let n_entries = || stored.entries.lock().expect("whole").len();
    let n_asked = || *stored.n_asked.lock().expect("whole");
    let follower = replica(&stored, "follower", false);
    tokio::time::sleep(Registering::GRACE * SWEEP * 2).await;
    assert_eq!(n_entries(), 4, "who does not lead removes nothing");
    let leader = replica(&stored, "leader", true);
    until("swept", || n_entries() == 2).await;
    let left: Vec<_> = stored
        .entries
        .lock()
        .expect("whole")
        .keys()
        .cloned()
        .collect();
    assert_eq!(
        left.iter().map(|key| key.1.as_str()).collect::<Vec<_>>(),
        ["by-hand", "there"]
    );
    assert_eq!(n_asked(), 2, "the watch says which are left");
    drop((follower, leader));
}

#[tokio::test(start_paused = true)]
async fn entries_that_the_mesh_does_not_select_are_removed_too() {
    let stored = Arc::new(Stored::default());
    *stored.selects_none.lock().expect("whole") = true;
    let mut notes = json!({annotations::AUTO_REGISTRATION_GROUP: "vms"});
    notes[annotations::DISCONNECTED_AT] = "2020-01-01T00:00:00Z".into();
    for (name, notes) in [("gone", notes), ("by-hand", json!({}))] {
        let entry = json!({"metadata": {"namespace": "ns", "name": name, "annotations": notes}});
        stored.put(entry, true).expect("new");
    }
    let leader = replica(&stored, "leader", true);
    let n_entries = || stored.entries.lock().expect("whole").len();
    until("swept", || n_entries() == 1).await;
    assert_eq!(
        stored.one().expect("an entry")["metadata"]["name"],
        "by-hand"
    );
    drop(leader);
}
