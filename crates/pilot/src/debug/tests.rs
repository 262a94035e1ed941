use std::collections::BTreeSet;
use std::net::SocketAddr;

use axum::body::Body;
use axum::extract::ConnectInfo;
use futures::FutureExt;
use futures::future::BoxFuture;
use lateen_core::SpiffeId;
use lateen_galley::ConfigSet;
use lateen_registry::World;
use lateen_xds::server::Peer;
use tokio::sync::watch;
use tonic::Status;
use tower::ServiceExt;

use super::*;
use crate::{Options, fixture};

/// Takes the namespace of a caller for its token.
struct Named;

impl Authenticate for Named {
    fn authenticate<'a>(
        &'a self,
        peer: &'a Peer,
    ) -> BoxFuture<'a, Result<Option<SpiffeId>, Status>> {
        async move {
            let token = peer
                .metadata
                .get("authorization")
                .and_then(|t| t.to_str().ok());
            let namespace = token.and_then(|token| token.strip_prefix("Bearer "));
            let namespace = namespace.ok_or_else(|| Status::unauthenticated("no token"))?;
            Ok(SpiffeId::new("cluster.local", namespace, "somebody").ok())
        }
        .boxed()
    }
}

struct Plane {
    discovery: Discovery,
    router: Router,
    _inputs: (watch::Sender<Arc<World>>, watch::Sender<Arc<ConfigSet>>),
}

const LOCAL: &str = "127.0.0.1:4000";
const REMOTE: &str = "10.244.0.7:4000";

fn world() -> World {
    let mut world = fixture::world();
    let (id, service) = world.services.iter().next().expect("a service");
    let key = lateen_registry::EndpointKey::new(id.clone(), &service.ports[0].name);
    let endpoint = lateen_registry::Endpoint {
        address: "10.244.0.9".into(),
        port: 9080,
        labels: [("app", "x"), ("version", "v1")].into_iter().collect(),
        service_account: "spiffe://cluster.local/ns/default/sa/x".into(),
        namespace: "default".into(),
        workload_name: "x".into(),
        locality: lateen_core::Locality::default(),
        mtls: true,
        weight: 1,
        ready: true,
        network: String::new(),
        node: Default::default(),
    };
    world.endpoints.insert(key, Arc::from([endpoint]));
    world
}

impl Plane {
    fn new(yaml: &str) -> Plane {
        let (world_tx, world) = watch::channel(Arc::new(world()));
        let (config_tx, config) = watch::channel(Arc::new(fixture::config(yaml)));
        let discovery = Discovery::new(world, config, Options::default());
        let router = discovery.debug_router(Named);
        let router = router.merge(discovery.rest_v1_router(Named));
        Plane {
            discovery,
            router,
            _inputs: (world_tx, config_tx),
        }
    }

    async fn ask(&self, peer: Option<&str>, token: &str, path: &str) -> (u16, String) {
        let mut request = Request::get(path).body(Body::empty()).expect("a request");
        if let Some(peer) = peer {
            let address: SocketAddr = peer.parse().expect("an address");
            request.extensions_mut().insert(ConnectInfo(address));
        }
        if !token.is_empty() {
            let token = format!("Bearer {token}").parse().expect("a header");
            request.headers_mut().insert(header::AUTHORIZATION, token);
        }
        let response = self
            .router
            .clone()
            .oneshot(request)
            .await
            .expect("an answer");
        let code = response.status().as_u16();
        let body = axum::body::to_bytes(response.into_body(), usize::MAX).await;
        (
            code,
            String::from_utf8_lossy(&body.expect("a body")).into_owned(),
        )
    }

    async fn json(&self, path: &str) -> Value {
        let (code, text) = self.ask(Some(LOCAL), "", path).await;
        assert_eq!(code, 200, "{path}: {text}");
        serde_json::from_str(&text).expect("JSON")
    }
}

fn keys(of: &Value) -> BTreeSet<&str> {
    let map = of.as_object().unwrap_or_else(|| panic!("no object: {of}"));
    map.keys().map(String::as_str).collect()
}

#[tokio::test]
async fn who_is_not_local_must_be_somebody() {
    let plane = Plane::new("");
    let check = async |peer, token, path, expect: u16| {
        let (code, text) = plane.ask(peer, token, path).await;
        assert_eq!(code, expect, "{peer:?} {token} {path}: {text}");
    };
    for path in [
        "/debug/configz",
        "/debug",
        "/v1/registration",
        "/cache_stats",
        "/debug/list",
    ] {
        check(Some(LOCAL), "", path, 200).await;
        check(Some("[::ffff:127.0.0.1]:1"), "", path, 200).await;
        check(Some(REMOTE), "", path, 401).await;
        check(None, "", path, 401).await;
        check(Some(REMOTE), "istio-system", path, 200).await;
    }
    // Readiness is asked by the node.
    check(Some(REMOTE), "", "/ready", 200).await;
    for path in [
        "/debug/configz",
        "/debug/syncz",
        "/debug/list",
        "/v1/registration",
    ] {
        check(Some(REMOTE), "default", path, 403).await;
    }
    // What does not exist, and what is of another namespace, looks the same.
    check(Some(REMOTE), "default", "/debug/config_dump", 403).await;
    check(
        Some(REMOTE),
        "default",
        "/debug/config_dump?proxyID=a.b",
        403,
    )
    .await;
}

#[tokio::test]
async fn what_cannot_be_had_is_refused_by_name() {
    let plane = Plane::new("");
    let check = async |path, expect: u16, words: &str| {
        let (code, text) = plane.ask(Some(LOCAL), "", path).await;
        assert_eq!(code, expect, "{path}: {text}");
        assert!(text.contains(words), "{path}: {text}");
    };
    check("/debug/pprof/heap", 501, "Go's runtime").await;
    check("/debug/krtz", 501, "krt").await;
    check("/debug/nothing", 404, "/debug/list").await;
    check("/debug/config_dump", 400, "proxyID").await;
    check("/debug/config_dump?proxyID=a.b", 404, "no proxy").await;
    check(
        "/debug/force_disconnect?proxyID=a.b",
        403,
        "UNSAFE_ENABLE_ADMIN_ENDPOINTS",
    )
    .await;
    check("/debug/inject", 404, "injects nothing").await;
    check("/debug/cachez?clear=true", 200, "Cache cleared").await;
    check("/debug/adsz?push=true", 200, "Pushed to 0 servers").await;
}

#[tokio::test]
async fn pages_have_istios_keys() {
    let yaml = "apiVersion: networking.istio.io/v1
kind: VirtualService
metadata: {name: reviews}
spec: {hosts: [reviews], gateways: [gone], http: [{route: [{destination: {host: reviews}}]}]}
";
    let plane = Plane::new(yaml);
    let set = |names: &[&'static str]| names.iter().copied().collect::<BTreeSet<_>>();
    let list = plane.json("/debug/list").await;
    assert_eq!(list.as_array().map(Vec::len), Some(PAGES.len()));

    let services = plane.json("/debug/registryz").await;
    let expect = set(&[
        "Attributes",
        "MeshExternal",
        "Resolution",
        "clusterVIPs",
        "creationTime",
        "defaultAddress",
        "hostname",
        "ports",
    ]);
    assert_eq!(keys(&services[0]), expect);
    assert_eq!(
        keys(&services[0]["ports"][0]),
        set(&["name", "port", "protocol"])
    );
    let attributes = set(&[
        "ClusterExternalAddresses",
        "ExportTo",
        "LabelSelectors",
        "Labels",
        "Name",
        "Namespace",
        "ServiceRegistry",
    ]);
    assert_eq!(keys(&services[0]["Attributes"]), attributes);

    let endpoints = plane.json("/debug/endpointz").await;
    let all = endpoints.as_array().expect("a list");
    assert_eq!(keys(&all[0]), set(&["ep", "svc"]));
    let found = all
        .iter()
        .find(|one| one["ep"][0].is_object())
        .expect("an endpoint");
    assert_eq!(
        keys(&found["ep"][0]),
        set(&["endpoint", "service", "servicePort"])
    );
    let endpoint = &found["ep"][0]["endpoint"];
    assert_eq!(
        (&endpoint["EndpointPort"], &endpoint["TLSMode"]),
        (&json!(9080), &json!("istio"))
    );
    let (_, brief) = plane.ask(Some(LOCAL), "", "/debug/endpointz?brief").await;
    assert!(
        brief.contains(" 10.244.0.9:9080 map[app:x version:v1] spiffe://"),
        "{brief}"
    );

    let shards = plane.json("/debug/endpointShardz").await;
    let shard = &shards[found["ep"][0]["service"]["hostname"]
        .as_str()
        .expect("a name")]["default"];
    assert_eq!(keys(shard), set(&["ServiceAccounts", "Shards"]));
    assert_eq!(keys(&shard["Shards"]), set(&["Kubernetes/Kubernetes"]));

    assert_eq!(plane.json("/debug/adsz").await, json!({"totalClients": 0}));
    assert_eq!(
        plane.json("/debug/connections").await,
        json!({"totalClients": 0})
    );
    for path in ["syncz", "networkz", "mcsz"] {
        assert_eq!(plane.json(&format!("/debug/{path}")).await, json!([]));
    }
    let kinds = plane.json("/debug/resourcesz").await;
    assert_eq!(keys(&kinds[0]), set(&["group", "kind", "version"]));
    let clusters = plane.json("/debug/clusterz").await;
    assert_eq!(keys(&clusters[0]), set(&["id", "secretName", "syncStatus"]));
    let config = plane.json("/debug/configz").await;
    assert_eq!(
        keys(&config[0]),
        set(&["apiVersion", "kind", "metadata", "spec"])
    );
    for (path, expect) in [
        ("authorizationz", set(&["authorization_policies"])),
        ("telemetryz", set(&["telemetries"])),
        (
            "pushcontext",
            set(&["AuthorizationPolicies", "NetworkGateways"]),
        ),
        (
            "ambientz",
            set(&["policies", "services", "waypoints", "workloads"]),
        ),
        ("instancesz", set(&[])),
        ("cachez", set(&[])),
        ("cachez?sizes=true", set(&[])),
    ] {
        assert_eq!(
            keys(&plane.json(&format!("/debug/{path}")).await),
            expect,
            "{path}"
        );
    }
    plane.json("/debug/mesh").await;

    // Those follow the snapshots at their own pace.
    let mut problems = plane.discovery.problems();
    let found = problems
        .wait_for(|found| !found.is_empty())
        .await
        .map(|_| ());
    found.expect("problems are found");
    let status = plane.json("/debug/push_status").await;
    assert_eq!(keys(&status), set(&["pilot_unresolved_references"]));
    let mut reports = plane.discovery.reports();
    let found = reports
        .wait_for(|found| !found.is_empty())
        .await
        .map(|_| ());
    found.expect("reports come");
    let shares = plane
        .json("/debug/distributionz?kind=VirtualService&name=reviews")
        .await;
    assert_eq!(shares[0]["generation"], 0);
    let listed =
        "/debug/distributionz?objects=VirtualService/default/none,VirtualService/default/reviews";
    assert_eq!(plane.json(listed).await, shares);
    assert_eq!(
        plane.json("/debug/distributionz?name=none").await,
        json!([])
    );
}

#[test]
fn queries_of_resource_names_are_read() {
    let expect = [("a", "1"), ("b", ""), ("c", "x=y")];
    let read = query("a=1&b&&c=x=y");
    let read: Vec<_> = read.iter().map(|(k, v)| (k.as_str(), v.as_str())).collect();
    assert_eq!(read, expect);
}
