//! The registry against a scripted API server: what it asks for, and what it makes of the answers.

use std::{
    collections::{BTreeMap, BTreeSet},
    convert::Infallible,
    sync::{Arc, Mutex},
    time::Duration,
};

use bytes::Bytes;
use http::{Request, Response};
use http_body_util::{BodyExt, Full, StreamBody, combinators::BoxBody};
use lateen_core::ServiceId;
use lateen_registry::{
    FieldFault, Files, Freshness, Options, Registry, Resolution, SourceStatus, TrafficDistribution,
};
use serde_json::{Value, json};
use tokio::sync::mpsc;

/// Collections by path. A watch of one stays open and carries what is sent to it.
#[derive(Clone, Default)]
struct Server {
    lists: Arc<Mutex<BTreeMap<String, Vec<Value>>>>,
    watches: Arc<Mutex<BTreeMap<String, mpsc::UnboundedSender<Value>>>>,
    forbidden: Arc<Mutex<BTreeSet<String>>>,
}

type Body = BoxBody<Bytes, Infallible>;

impl Server {
    fn client(&self) -> kube::Client {
        let server = self.clone();
        let service = tower::service_fn(move |request: Request<kube::client::Body>| {
            let response = server.answer(request.uri());
            async move { Ok::<_, Infallible>(response) }
        });
        kube::Client::new(service, "default")
    }

    fn list(&self, path: &str, items: Vec<Value>) {
        self.lists
            .lock()
            .expect("no test panics with it held")
            .insert(path.into(), items);
    }

    fn answer(&self, uri: &http::Uri) -> Response<Body> {
        let path = uri.path().to_owned();
        let forbidden = self.forbidden.lock().expect("no test panics with it held");
        if forbidden.contains(&path) {
            return respond(
                403,
                json!({"kind": "Status", "apiVersion": "v1", "status": "Failure", "reason": "Forbidden", "code": 403, "message": "not for you"}),
            );
        }
        drop(forbidden);
        if uri
            .query()
            .is_some_and(|query| query.contains("watch=true"))
        {
            let (events_tx, mut events) = mpsc::unbounded_channel::<Value>();
            self.watches
                .lock()
                .expect("no test panics with it held")
                .insert(path, events_tx);
            let frames = futures::stream::poll_fn(move |cx| {
                events.poll_recv(cx).map(|event| {
                    event.map(|event| Ok(http_body::Frame::data(Bytes::from(format!("{event}\n")))))
                })
            });
            return Response::new(StreamBody::new(frames).boxed());
        }
        let lists = self.lists.lock().expect("no test panics with it held");
        let (status, body) = match lists.get(&path) {
            Some(items) => (
                200,
                json!({"kind": "List", "apiVersion": "v1", "metadata": {"resourceVersion": "1"}, "items": items}),
            ),
            None => (
                404,
                json!({"kind": "Status", "apiVersion": "v1", "status": "Failure", "reason": "NotFound", "code": 404, "message": "no such resource"}),
            ),
        };
        respond(status, body)
    }

    /// Refuses a collection from now on, or no more.
    fn forbid(&self, path: &str, is: bool) {
        let mut forbidden = self.forbidden.lock().expect("no test panics with it held");
        if is {
            forbidden.insert(path.into());
        } else {
            forbidden.remove(path);
        }
    }

    /// Sends an event, once the watch is there.
    async fn send(&self, path: &str, event: Value) {
        loop {
            if let Some(watch) = self
                .watches
                .lock()
                .expect("no test panics with it held")
                .get(path)
                && watch.send(event.clone()).is_ok()
            {
                return;
            }
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    }

    /// Breaks a watch off.
    fn cut(&self, path: &str) {
        self.watches
            .lock()
            .expect("no test panics with it held")
            .remove(path);
    }
}

fn respond(status: u16, body: Value) -> Response<Body> {
    let body = Full::new(Bytes::from(body.to_string()));
    Response::builder()
        .status(status)
        .body(body.boxed())
        .expect("response")
}

const SLICES: &str = "/apis/discovery.k8s.io/v1/endpointslices";
const RULES: &str = "/apis/networking.istio.io/v1/virtualservices";

fn bookinfo() -> Server {
    let server = Server::default();
    server.list("/api/v1/services", vec![
        json!({"metadata": {"name": "reviews", "namespace": "default"}, "spec": {
            "clusterIP": "10.96.0.5", "selector": {"app": "reviews"}, "trafficDistribution": "PreferSameNode",
            "ports": [{"name": "http", "port": 9080, "protocol": "TCP"}]}}),
        json!({"metadata": {"name": "headless", "namespace": "default",
            "annotations": {"networking.istio.io/traffic-distribution": "PreferClose"}}, "spec": {
            "clusterIP": "None", "trafficDistribution": "PreferSameNode", "ports": [{"port": 6379, "appProtocol": "redis"}]}}),
        json!({"metadata": {"name": "ext", "namespace": "default"}, "spec": {
            "type": "ExternalName", "externalName": "example.com", "ports": [{"name": "https", "port": 443}]}}),
    ]);
    server.list("/api/v1/pods", vec![json!({
        "metadata": {"name": "reviews-v1-abc-1", "namespace": "default",
            "labels": {"app": "reviews", "pod-template-hash": "abc", "security.istio.io/tlsMode": "istio"},
            "ownerReferences": [{"apiVersion": "apps/v1", "kind": "ReplicaSet", "name": "reviews-v1-abc", "uid": "1", "controller": true}]},
        "spec": {"nodeName": "n1", "serviceAccountName": "bookinfo-reviews", "containers": []},
        "status": {"podIP": "10.244.0.5", "phase": "Running", "conditions": [{"type": "Ready", "status": "True"}]},
    })]);
    server.list(
        "/api/v1/nodes",
        vec![json!({"metadata": {"name": "n1", "labels": {
        "topology.kubernetes.io/region": "eu", "topology.kubernetes.io/zone": "a"}}})],
    );
    server.list(
        "/api/v1/namespaces",
        vec![json!({"metadata": {"name": "default", "labels": {"istio-injection": "enabled"}}})],
    );
    server.list("/api/v1/namespaces/istio-system/configmaps", vec![json!({
        "metadata": {"name": "istio", "namespace": "istio-system"}, "data": {"mesh": "trustDomain: td"}})]);
    server.list(SLICES, vec![slice(true)]);
    server
}

fn slice(ready: bool) -> Value {
    json!({
        "apiVersion": "discovery.k8s.io/v1", "kind": "EndpointSlice",
        "metadata": {"name": "reviews-1", "namespace": "default", "resourceVersion": "2",
            "labels": {"kubernetes.io/service-name": "reviews"}},
        "addressType": "IPv4",
        "ports": [{"name": "http", "port": 9080}],
        "endpoints": [{"addresses": ["10.244.0.5"], "conditions": {"ready": ready},
            "nodeName": "n1", "targetRef": {"kind": "Pod", "name": "reviews-v1-abc-1", "namespace": "default"}}],
    })
}

const HOST: &str = "reviews.default.svc.cluster.local";

fn id(host: &str) -> ServiceId {
    ServiceId::new("default", host)
}

#[tokio::test]
async fn a_cluster_becomes_a_world() {
    let server = bookinfo();
    let registry = Registry::kubernetes(server.client(), Options::default());
    registry.synced().await;
    let mut worlds = registry.world();
    let world = worlds.borrow_and_update().clone();
    let kinds = world
        .services
        .values()
        .map(|s| (s.name.as_str(), s.resolution, s.distribution))
        .collect::<Vec<_>>();
    assert_eq!(
        kinds,
        [
            ("ext", Resolution::Dns, None),
            (
                "headless",
                Resolution::Passthrough,
                Some(TrafficDistribution::SameZone)
            ),
            (
                "reviews",
                Resolution::ClientSide,
                Some(TrafficDistribution::SameNode)
            ),
        ]
    );
    let endpoint = &world.endpoints(&id(HOST), "http")[0];
    assert_eq!(
        (endpoint.address.as_str(), endpoint.port),
        ("10.244.0.5", 9080)
    );
    assert!(endpoint.mtls && endpoint.ready);
    assert_eq!(endpoint.workload_name, "reviews-v1");
    assert_eq!(endpoint.service_account, "bookinfo-reviews");
    assert_eq!(endpoint.locality.to_string(), "eu/a");
    assert_eq!(endpoint.node, "n1");
    let external = world.endpoints(&id("ext.default.svc.cluster.local"), "https");
    assert_eq!(external[0].address, "example.com");
    let config = registry.config().borrow().clone();
    assert_eq!(config.mesh.as_deref(), Some("trustDomain: td"));

    server
        .send(SLICES, json!({"type": "MODIFIED", "object": slice(false)}))
        .await;
    worlds.changed().await.expect("registry runs");
    assert!(!worlds.borrow_and_update().endpoints(&id(HOST), "http")[0].ready);
}

#[tokio::test]
async fn a_broken_watch_keeps_what_it_knew() {
    let server = bookinfo();
    let registry = Registry::kubernetes(server.client(), Options::default());
    registry.synced().await;
    let mut worlds = registry.world();
    worlds.borrow_and_update();
    server.send(SLICES, json!({"type": "ERROR", "object": {
        "kind": "Status", "apiVersion": "v1", "status": "Failure", "code": 410, "reason": "Expired", "message": "too old"}})).await;
    server.cut(SLICES);
    server
        .send(SLICES, json!({"type": "MODIFIED", "object": slice(false)}))
        .await;
    worlds.changed().await.expect("registry runs");
    let endpoints = worlds
        .borrow_and_update()
        .endpoints(&id(HOST), "http")
        .to_vec();
    assert_eq!(
        (endpoints.len(), endpoints[0].ready),
        (1, false),
        "never empty in between"
    );
}

#[tokio::test]
async fn a_kind_may_be_installed_later() {
    let server = bookinfo();
    let registry = Registry::kubernetes(server.client(), Options::default());
    registry.synced().await;
    let mut config = registry.config();
    assert!(config.borrow_and_update().objects.is_empty());
    server.list(RULES, vec![json!({"metadata": {"name": "reviews", "namespace": "default"}, "spec": {"hosts": ["reviews"]}})]);
    let found = config
        .wait_for(|config| !config.objects.is_empty())
        .await
        .expect("registry runs");
    let (key, object) = found.objects.first_key_value().expect("one");
    assert_eq!((key.kind, key.name.as_str()), ("VirtualService", "reviews"));
    assert_eq!(object["kind"], "VirtualService");
    assert_eq!(object["apiVersion"], "networking.istio.io/v1");
}

/// Waits until a source is this fresh.
async fn source(registry: &Registry, name: &str, freshness: Freshness) -> SourceStatus {
    let mut sources = registry.sources();
    let is = |s: &&SourceStatus| s.name == name && s.freshness == freshness;
    let found = sources
        .wait_for(|sources| sources.iter().any(|s| is(&s)))
        .await
        .expect("registry runs");
    found.iter().find(is).expect("just found").clone()
}

fn impatient() -> Options {
    Options {
        patience: Duration::from_millis(50),
        ..Options::default()
    }
}

/// A rule as a watch or a list has it, for a revision or for all.
fn rule(name: &str, revision: Option<&str>) -> Value {
    let labels = revision.map(|revision| json!({"istio.io/rev": revision}));
    json!({"apiVersion": "networking.istio.io/v1", "kind": "VirtualService",
        "metadata": {"name": name, "namespace": "default", "resourceVersion": "7",
            "labels": labels.unwrap_or_default()},
        "spec": {"hosts": [name]}})
}

#[tokio::test]
async fn objects_of_other_revisions_are_not_read() {
    const ENTRIES: &str = "/apis/networking.istio.io/v1/serviceentries";
    let server = bookinfo();
    let rules = [
        rule("all", None),
        rule("own", Some("canary")),
        rule("other", Some("default")),
    ];
    server.list(RULES, rules.into());
    let entry = |name: &str, revision: &str| {
        json!({"metadata": {"name": name, "namespace": "default",
                "labels": {"istio.io/rev": revision}},
            "spec": {"hosts": [format!("{name}.example")], "resolution": "DNS",
                "ports": [{"number": 80, "name": "http", "protocol": "HTTP"}]}})
    };
    server.list(ENTRIES, vec![entry("a", "canary"), entry("b", "default")]);
    let options = Options {
        revision: "canary".to_owned(),
        ..Options::default()
    };
    let registry = Registry::kubernetes(server.client(), options);
    registry.synced().await;
    let named = |config: &lateen_registry::RawConfig| -> Vec<String> {
        let rules = config
            .objects
            .keys()
            .filter(|of| of.kind == "VirtualService");
        rules.map(|of| of.name.to_string()).collect()
    };
    let mut config = registry.config();
    assert_eq!(named(&config.borrow_and_update()), ["all", "own"]);
    let world = registry.world().borrow().clone();
    assert_eq!(world.named("a.example").count(), 1);
    assert_eq!(world.named("b.example").count(), 0);

    // An object comes with its label, and goes with it.
    for (object, expect) in [
        (rule("other", Some("canary")), vec!["all", "other", "own"]),
        (rule("all", Some("default")), vec!["other", "own"]),
        (rule("own", None), vec!["other", "own"]),
        (rule("other", Some("green")), vec!["own"]),
    ] {
        let modified = json!({"type": "MODIFIED", "object": object});
        server.send(RULES, modified).await;
        let is_so = config.wait_for(|config| named(config) == expect);
        let is_so = tokio::time::timeout(Duration::from_secs(30), is_so).await;
        drop(is_so.unwrap_or_else(|_| panic!("never {expect:?}")));
    }
}

#[tokio::test]
async fn a_refused_watch_does_not_block_the_others() {
    const NODES: &str = "/api/v1/nodes";
    let server = bookinfo();
    server.forbid(NODES, true);
    server.forbid(RULES, true);
    let registry = Registry::kubernetes(server.client(), impatient());
    registry.synced().await;
    let mut worlds = registry.world();
    let locality = |world: &lateen_registry::World| {
        let endpoints = world.endpoints(&id(HOST), "http");
        endpoints[0].locality.to_string()
    };
    assert_eq!(locality(&worlds.borrow_and_update()), "");
    let late = source(&registry, "Node", Freshness::Late).await;
    assert!(
        late.reason
            .is_none_or(|reason| reason.contains("not for you"))
    );
    source(&registry, "VirtualService", Freshness::Late).await;
    source(&registry, "Pod", Freshness::Fresh).await;
    server.forbid(NODES, false);
    source(&registry, "Node", Freshness::Fresh).await;
    worlds.changed().await.expect("registry runs");
    assert_eq!(locality(&worlds.borrow_and_update()), "eu/a");
}

#[tokio::test]
async fn nothing_is_published_without_services() {
    let server = bookinfo();
    server.forbid("/api/v1/services", true);
    let registry = Registry::kubernetes(server.client(), impatient());
    source(&registry, "Service", Freshness::Late).await;
    assert!(!registry.is_synced());
    server.forbid("/api/v1/services", false);
    registry.synced().await;
    assert_eq!(registry.world().borrow().services.len(), 3);
}

#[tokio::test]
async fn what_a_refused_watch_said_last_holds() {
    let server = bookinfo();
    let registry = Registry::kubernetes(server.client(), Options::default());
    registry.synced().await;
    let before = registry.world().borrow().clone();
    server.forbid(SLICES, true);
    server.send(SLICES, json!({"type": "ERROR", "object": {
        "kind": "Status", "apiVersion": "v1", "status": "Failure", "code": 410, "reason": "Expired", "message": "too old"}})).await;
    server.cut(SLICES);
    let mut sources = registry.sources();
    let refused = |s: &SourceStatus| {
        let why = s.reason.as_deref().unwrap_or_default();
        s.freshness == Freshness::Stale && s.name == "EndpointSlice" && why.contains("not for you")
    };
    let found = sources
        .wait_for(|sources| sources.iter().any(refused))
        .await;
    drop(found.expect("registry runs"));
    assert!(Arc::ptr_eq(&before, &registry.world().borrow()));
    server.forbid(SLICES, false);
    source(&registry, "EndpointSlice", Freshness::Fresh).await;
}

/// A ServiceEntry of one host.
fn entry(name: &str, host: &str) -> String {
    format!(
        "apiVersion: networking.istio.io/v1\nkind: ServiceEntry\nmetadata: {{name: {name}}}\n\
         spec:\n  hosts: [{host}]\n  resolution: DNS\n  \
         ports: [{{number: 80, name: http, protocol: HTTP}}]\n"
    )
}

fn check(document: &Value) -> Vec<FieldFault> {
    let bad = document["spec"]["hosts"][0] == "bad";
    bad.then(|| FieldFault::new("spec.hosts[0]", "bad"))
        .into_iter()
        .collect()
}

#[tokio::test]
async fn configuration_may_come_from_files() {
    let server = bookinfo();
    // Whatever the API server has of these is not asked for.
    server.forbid(RULES, true);
    let dir = tempfile::tempdir().expect("a directory");
    let write = |name: &str, text: &str| {
        let path = dir.path().join(name);
        std::fs::write(path, text).expect("a file");
    };
    write("a.yaml", &entry("a", "a.example.com"));
    let files = Files {
        dir: dir.path().to_owned(),
        check,
    };
    let options = Options {
        files: Some(files),
        ..Options::default()
    };
    let registry = Registry::kubernetes(server.client(), options);
    registry.synced().await;
    let mut worlds = registry.world();
    let hosts = |world: &lateen_registry::World| -> Vec<String> {
        let services = world.services.keys();
        let outside = services.filter(|id| id.hostname.ends_with("example.com"));
        outside.map(|id| id.hostname.to_string()).collect()
    };
    assert_eq!(hosts(&worlds.borrow_and_update()), ["a.example.com"]);
    assert_eq!(
        worlds.borrow().services.len(),
        4,
        "the platform's are there too"
    );

    // Half of a good change in a bad directory is no change.
    write(
        "b.yaml",
        &format!("{}---\n{}", entry("b", "b.example.com"), entry("c", "bad")),
    );
    std::fs::remove_file(dir.path().join("a.yaml")).expect("it is there");
    let stale = source(&registry, "ServiceEntry", Freshness::Stale).await;
    let reason = stale.reason.expect("a reason");
    assert_eq!(reason, "b.yaml:13: spec.hosts[0]: bad");
    assert_eq!(hosts(&worlds.borrow_and_update()), ["a.example.com"]);

    write("b.yaml", &entry("b", "b.example.com"));
    worlds.changed().await.expect("registry runs");
    assert_eq!(hosts(&worlds.borrow_and_update()), ["b.example.com"]);
    source(&registry, "ServiceEntry", Freshness::Fresh).await;

    std::fs::rename(dir.path(), dir.path().with_extension("gone")).expect("a rename");
    source(&registry, "ServiceEntry", Freshness::Stale).await;
    assert_eq!(hosts(&registry.world().borrow()), ["b.example.com"]);
    std::fs::remove_dir_all(dir.path().with_extension("gone")).expect("it is there");
}

fn namespace(name: &str, labels: Value) -> Value {
    json!({"apiVersion": "v1", "kind": "Namespace", "metadata": {
        "name": name, "resourceVersion": "3", "labels": labels}})
}

#[tokio::test]
async fn only_selected_namespaces_are_watched() {
    const NAMESPACES: &str = "/api/v1/namespaces";
    let server = bookinfo();
    let mesh = "discoverySelectors: [{matchLabels: {mesh: 'yes'}}]";
    server.list(
        "/api/v1/namespaces/istio-system/configmaps",
        vec![json!({
        "metadata": {"name": "istio", "namespace": "istio-system"}, "data": {"mesh": mesh}})],
    );
    let all = [("default", json!({"mesh": "yes"})), ("other", json!({}))];
    server.list(
        NAMESPACES,
        all.map(|(name, labels)| namespace(name, labels)).into(),
    );
    for name in ["default", "other", "istio-system"] {
        let service = json!({"metadata": {"name": "web", "namespace": name}, "spec": {
            "clusterIP": "10.96.0.7", "ports": [{"name": "http", "port": 80}]}});
        server.list(
            &format!("/api/v1/namespaces/{name}/services"),
            vec![service],
        );
        server.list(&format!("/api/v1/namespaces/{name}/pods"), Vec::new());
        let slices = format!("/apis/discovery.k8s.io/v1/namespaces/{name}/endpointslices");
        server.list(&slices, Vec::new());
        let rule =
            json!({"metadata": {"name": "web", "namespace": name}, "spec": {"hosts": ["web"]}});
        let rules = format!("/apis/networking.istio.io/v1/namespaces/{name}/virtualservices");
        server.list(&rules, vec![rule]);
    }
    let registry = Registry::kubernetes(server.client(), Options::default());
    registry.synced().await;
    let mut worlds = registry.world();
    let services = |world: &lateen_registry::World| {
        let found = world.services.keys().map(|id| id.namespace.to_string());
        found.collect::<Vec<_>>()
    };
    assert_eq!(
        services(&worlds.borrow_and_update()),
        ["default", "istio-system"]
    );
    let mut config = registry.config();
    let is_seen = |config: &lateen_registry::RawConfig, namespace: &str| {
        config
            .objects
            .keys()
            .any(|object| object.namespace == namespace)
    };
    config
        .wait_for(|config| is_seen(config, "default") && is_seen(config, "istio-system"))
        .await
        .expect("registry runs");

    let selected =
        json!({"type": "MODIFIED", "object": namespace("other", json!({"mesh": "yes"}))});
    server.send(NAMESPACES, selected).await;
    worlds
        .wait_for(|world| services(world).len() == 3)
        .await
        .expect("registry runs");
    config
        .wait_for(|config| is_seen(config, "other"))
        .await
        .expect("registry runs");
    let left = json!({"type": "MODIFIED", "object": namespace("other", json!({"mesh": "no"}))});
    server.send(NAMESPACES, left).await;
    worlds
        .wait_for(|world| services(world) == ["default", "istio-system"])
        .await
        .expect("registry runs");
    config
        .wait_for(|config| !is_seen(config, "other"))
        .await
        .expect("registry runs");
    // Nothing was asked of the cluster as a whole.
    let watches = server.watches.lock().expect("no test panics with it held");
    for path in ["/api/v1/services", "/api/v1/pods", SLICES, RULES] {
        assert!(!watches.contains_key(path), "{path}");
    }
}
