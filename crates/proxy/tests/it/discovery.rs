//! Configuration by discovery: what arrives is live, what is bad is refused with its reason while
//! the last good one stays, and what goes takes nothing along.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use crate::common::{Echo, Proxy, free_port, hcm, listener, socket};
use lateen_tls::IdentityStore;
use lateen_xds::TypeUrl;
use lateen_xds::json::from_value;
use lateen_xds::server::{Ads, Connections, Event, Names, Peer, Resource, ResourceSource};
use lateen_xds::types::{cluster, core, endpoint, listener as listener_pb, route};
use serde_json::{Value, json};
use tokio::sync::watch;

type World = Arc<(u64, BTreeMap<TypeUrl, Vec<Arc<Resource>>>)>;

/// A control plane that serves what it is told to.
pub(crate) struct Source {
    world: watch::Sender<World>,
    refused: Mutex<Vec<String>>,
}

impl ResourceSource for Source {
    type Client = ();
    type Snapshot = World;

    async fn connect(&self, _: &core::Node, _: &Peer) -> Result<(), tonic::Status> {
        Ok(())
    }

    fn snapshots(&self, (): &()) -> watch::Receiver<World> {
        self.world.subscribe()
    }

    fn generation(&self, snapshot: &World) -> u64 {
        snapshot.0
    }

    fn generate(
        &self,
        snapshot: &World,
        (): &(),
        type_url: &TypeUrl,
        names: Names<'_>,
    ) -> Vec<Arc<Resource>> {
        let all = snapshot.1.get(type_url).cloned().unwrap_or_default();
        all.into_iter()
            .filter(|resource| names.contains(&resource.name))
            .collect()
    }

    fn observe(&self, event: Event<'_>) {
        if let Event::Refused { reason, .. } = event {
            self.refused
                .lock()
                .expect("not poisoned")
                .push(reason.to_owned());
        }
    }
}

impl Source {
    /// One that has nothing yet, on a port of its own.
    pub(crate) async fn start() -> (Arc<Source>, u16) {
        let source = Arc::new(Source {
            world: watch::Sender::new(Arc::new((1, BTreeMap::new()))),
            refused: Mutex::default(),
        });
        let xds = tokio::net::TcpListener::bind("127.0.0.1:0").await;
        let xds = xds.expect("a free port");
        let port = xds.local_addr().expect("bound").port();
        let service = Ads::new(source.clone(), Arc::new(Connections::default())).into_service();
        let incoming = tokio_stream::wrappers::TcpListenerStream::new(xds);
        tokio::spawn(
            tonic::transport::Server::builder()
                .add_service(service)
                .serve_with_incoming(incoming),
        );
        (source, port)
    }

    pub(crate) fn set(&self, kind: &TypeUrl, resources: Vec<Resource>) {
        let (generation, mut all) = (**self.world.borrow()).clone();
        all.insert(kind.clone(), resources.into_iter().map(Arc::new).collect());
        self.world.send_replace(Arc::new((generation + 1, all)));
    }
}

fn routes(to: &str, path: Value) -> Resource {
    let mut matches = json!({});
    matches
        .as_object_mut()
        .expect("object")
        .extend(path.as_object().expect("object").clone());
    let message: route::RouteConfiguration = from_value(json!({
        "name": "main", "virtual_hosts": [{ "name": "all", "domains": ["*"],
            "routes": [{ "match": matches, "route": { "cluster": to } }] }],
    }))
    .expect("routes");
    Resource::new("main", &message)
}

pub(crate) fn eds(name: &str, address: std::net::SocketAddr) -> (Resource, Resource) {
    let cluster: cluster::Cluster = from_value(json!({
        "name": name, "type": "EDS", "connect_timeout": "1s",
        "eds_cluster_config": { "eds_config": { "ads": {} } },
    }))
    .expect("cluster");
    let endpoints: endpoint::ClusterLoadAssignment = from_value(json!({
        "cluster_name": name, "endpoints": [{ "lb_endpoints": [{ "endpoint": {
            "address": socket(&address.ip().to_string(), address.port()) } }] }],
    }))
    .expect("endpoints");
    (
        Resource::new(name, &cluster),
        Resource::new(name, &endpoints),
    )
}

pub(crate) async fn until(what: &str, mut check: impl AsyncFnMut() -> bool) {
    for _ in 0..300 {
        if check().await {
            return;
        }
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    panic!("never: {what}");
}

#[tokio::test(flavor = "multi_thread")]
async fn configuration_is_live_and_a_bad_one_is_refused() {
    let (a, _) = Echo::start("a").await;
    let (b, _) = Echo::start("b").await;
    let (source, xds_port) = Source::start().await;
    let port = free_port();
    let mut manager = hcm(json!([]));
    let fields = manager.as_object_mut().expect("object");
    fields.remove("route_config");
    let rds = json!({ "route_config_name": "main", "config_source": { "ads": {} } });
    fields.insert("rds".to_owned(), rds);
    let main: listener_pb::Listener =
        from_value(listener("main", port, "OUTBOUND", manager)).expect("listener");
    let ((a_cluster, a_hosts), (b_cluster, b_hosts)) = (eds("a", a), eds("b", b));
    source.set(&TypeUrl::CLUSTER, vec![a_cluster, b_cluster.clone()]);
    source.set(&TypeUrl::ENDPOINT, vec![a_hosts, b_hosts]);
    source.set(&TypeUrl::ROUTE, vec![routes("a", json!({ "prefix": "/" }))]);
    source.set(&TypeUrl::LISTENER, vec![Resource::new("main", &main)]);

    let identity = Arc::new(IdentityStore::empty());
    let proxy = Proxy::with_discovery(port, xds_port, identity).await;
    until("ready", async || proxy.admin("/ready").await == "LIVE\n").await;
    let mut client = proxy.client().await;
    assert_eq!(client.get("x", "/").await.json()["backend"], "a");

    source.set(&TypeUrl::ROUTE, vec![routes("b", json!({ "prefix": "/" }))]);
    until("b", async || {
        client.get("x", "/").await.json()["backend"] == "b"
    })
    .await;

    let bad = json!({ "safe_regex": { "regex": "(" } });
    source.set(&TypeUrl::ROUTE, vec![routes("a", bad)]);
    until("refused", async || {
        !source.refused.lock().expect("not poisoned").is_empty()
    })
    .await;
    let reason = source.refused.lock().expect("not poisoned")[0].clone();
    assert!(
        reason.contains("main") && reason.contains("regex"),
        "{reason}"
    );
    assert_eq!(client.get("x", "/").await.json()["backend"], "b");

    // A cluster that a route still names stays until the route is gone.
    source.set(&TypeUrl::CLUSTER, vec![]);
    tokio::time::sleep(Duration::from_millis(200)).await;
    assert_eq!(client.get("x", "/").await.json()["backend"], "b");

    // A port in use is a refused listener, and the others go on.
    let taken = std::net::TcpListener::bind("127.0.0.1:0").expect("a free port");
    let taken_port = taken.local_addr().expect("bound").port();
    let second: listener_pb::Listener =
        from_value(listener("second", taken_port, "OUTBOUND", hcm(json!([])))).expect("listener");
    let both = vec![
        Resource::new("main", &main),
        Resource::new("second", &second),
    ];
    source.set(&TypeUrl::LISTENER, both);
    until("refused", async || {
        let refused = source.refused.lock().expect("not poisoned");
        refused
            .iter()
            .any(|reason| reason.contains("second") && reason.contains("cannot bind"))
    })
    .await;
    assert_eq!(client.get("x", "/").await.status, 200);
    let _ = b_cluster;
    proxy.stop().await;
}
