//! Debug pages over xDS, by who asks; and the end of a stream by request.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use axum::body::Body;
use axum::extract::ConnectInfo;
use axum::http::Request;
use futures::StreamExt;
use futures::future::BoxFuture;
use hyper_util::rt::TokioIo;
use lateen_core::SpiffeId;
use lateen_galley::ConfigSet;
use lateen_pilot::{Authenticate, Discovery, Options, Peer, Settings};
use lateen_xds::nds::NameTable;
use lateen_xds::types::core::Node;
use lateen_xds::types::discovery::aggregated_discovery_service_client::AggregatedDiscoveryServiceClient;
use lateen_xds::types::discovery::{DeltaDiscoveryRequest, DeltaDiscoveryResponse};
use serde_json::{Value, json};
use tokio::net::{UnixListener, UnixStream};
use tokio::sync::watch;
use tokio_stream::wrappers::UnixListenerStream;
use tonic::transport::{Channel, Endpoint};
use tonic::{Code, Status};
use tower::ServiceExt;

use crate::fixture::{self, Mesh};

/// Everybody is from this namespace; nobody has an identity where it is empty.
struct From {
    namespace: &'static str,
    reads_secrets: Arc<AtomicBool>,
}

impl Authenticate for From {
    fn authenticate<'a>(
        &'a self,
        _peer: &'a Peer,
    ) -> BoxFuture<'a, Result<Option<SpiffeId>, Status>> {
        Box::pin(async { Ok(SpiffeId::new("cluster.local", self.namespace, "somebody").ok()) })
    }

    fn reads_secrets<'a>(&'a self, _: &'a SpiffeId) -> BoxFuture<'a, Result<bool, Status>> {
        Box::pin(async { Ok(self.reads_secrets.load(Ordering::Relaxed)) })
    }
}

struct Plane {
    discovery: Discovery,
    channel: Channel,
    config: watch::Sender<Arc<ConfigSet>>,
    /// Whether everybody may read Secrets, which at first nobody may.
    reads_secrets: Arc<AtomicBool>,
    _inputs: Box<dyn std::any::Any>,
}

async fn plane(namespace: &'static str) -> Plane {
    plane_with(namespace, "").await
}

async fn plane_with(namespace: &'static str, yaml: &str) -> Plane {
    plane_that_asks(namespace, yaml, Options::default().ask_again).await
}

/// The same that asks this often for rights.
async fn plane_that_asks(namespace: &'static str, yaml: &str, ask_again: Duration) -> Plane {
    let reads_secrets = Arc::<AtomicBool>::default();
    let dir = tempfile::tempdir().expect("a folder");
    let path = dir.path().join("xds");
    let (world, world_rx) = watch::channel(Arc::new(Mesh::bookinfo().world));
    let (config, config_rx) = watch::channel(Arc::new(fixture::config(yaml)));
    let options = Options {
        settings: Settings {
            unsafe_admin: true,
            ..Settings::default()
        },
        ask_again,
        ..Options::default()
    };
    let discovery = Discovery::new(world_rx, config_rx, options);
    let listener = UnixListener::bind(&path).expect("a socket");
    let ads = discovery.ads_service(From {
        namespace,
        reads_secrets: reads_secrets.clone(),
    });
    let server = tonic::transport::Server::builder().add_service(ads);
    tokio::spawn(server.serve_with_incoming(UnixListenerStream::new(listener)));
    let connector = tower::service_fn(move |_| {
        let path = path.clone();
        async move { UnixStream::connect(path).await.map(TokioIo::new) }
    });
    let endpoint = Endpoint::from_static("http://control-plane");
    let channel = endpoint.connect_with_connector(connector);
    Plane {
        discovery,
        channel: channel.await.expect("it listens"),
        config,
        reads_secrets,
        _inputs: Box::new((world, dir)),
    }
}

impl Plane {
    /// Opens a stream that asks for one thing.
    async fn open(
        &self,
        namespace: &str,
        type_url: &str,
        name: &str,
    ) -> tonic::Streaming<DeltaDiscoveryResponse> {
        self.open_with(namespace, &json!({}), type_url, name).await
    }

    /// The same with metadata.
    async fn open_with(
        &self,
        namespace: &str,
        metadata: &Value,
        type_url: &str,
        name: &str,
    ) -> tonic::Streaming<DeltaDiscoveryResponse> {
        let names = [name].into_iter().filter(|name| !name.is_empty());
        let id = format!("sidecar~10.244.0.9~asker.{namespace}~{namespace}.svc.cluster.local");
        let node: Node = lateen_xds::json::from_value(json!({ "id": id, "metadata": metadata }))
            .expect("a node");
        let request = DeltaDiscoveryRequest {
            node: Some(node),
            type_url: type_url.into(),
            resource_names_subscribe: names.map(str::to_owned).collect(),
            ..DeltaDiscoveryRequest::default()
        };
        let requests = futures::stream::iter([request]).chain(futures::stream::pending());
        let mut client = AggregatedDiscoveryServiceClient::new(self.channel.clone());
        let answers = client.delta_aggregated_resources(requests).await;
        answers.expect("a stream").into_inner()
    }

    /// A page for somebody on the same machine.
    async fn local_page(&self, path: &str) {
        let mut request = Request::get(path).body(Body::empty()).expect("a request");
        let local: SocketAddr = ([127, 0, 0, 1], 1).into();
        request.extensions_mut().insert(ConnectInfo(local));
        let nobody = From {
            namespace: "",
            reads_secrets: Arc::default(),
        };
        let router = self.discovery.debug_router(nobody);
        let response = router.oneshot(request).await.expect("an answer");
        assert_eq!(response.status(), 200, "{path}");
    }

    /// The first page that comes.
    async fn page(&self, namespace: &str, type_url: &str, name: &str) -> String {
        let mut answers = self.open(namespace, type_url, name).await;
        let answer = answers.message().await.expect("an answer").expect("no end");
        let resource = answer.resources.first().expect("a resource");
        assert_eq!(resource.name, name);
        let body = resource.resource.clone().expect("a body");
        assert_eq!(body.type_url, type_url);
        String::from_utf8(body.value).expect("text")
    }
}

#[tokio::test]
async fn the_control_planes_namespace_sees_all_pages() {
    let plane = plane("istio-system").await;
    for (type_url, name) in [("istio.io/debug", "syncz"), ("istio.io/debug/syncz", "")] {
        let page = plane.page("istio-system", type_url, name).await;
        let page: Value = serde_json::from_str(&page).expect("JSON");
        let askers = page.as_array().expect("a list").iter();
        assert!(
            askers
                .clone()
                .any(|one| one["proxy"] == "asker.istio-system"),
            "{page}"
        );
    }
    let dump = "config_dump?proxyID=asker.istio-system";
    let page = plane.page("istio-system", "istio.io/debug", dump).await;
    assert!(page.contains("envoy.admin.v3.ClustersConfigDump"), "{page}");
}

#[tokio::test]
async fn an_agent_is_told_names_and_counts_as_no_proxy() {
    let plane = plane("istio-system").await;
    let captures = json!({ "DNS_CAPTURE": "true" });
    let cds = "type.googleapis.com/envoy.config.cluster.v3.Cluster";
    let mut proxy = plane.open_with("istio-system", &captures, cds, "").await;
    proxy.message().await.expect("clusters");
    let agent = json!({ "DNS_CAPTURE": "true", "LATEEN_AGENT": "true" });
    let nds = lateen_xds::TypeUrl::NAME_TABLE;
    let mut names = plane
        .open_with("istio-system", &agent, nds.as_str(), "")
        .await;
    let answer = names.message().await.expect("an answer").expect("no end");
    let body = answer.resources[0].resource.as_ref().expect("a table");
    let table: NameTable = lateen_xds::decode_any(body).expect("a table");
    let reviews = &table.table["reviews.default.svc.cluster.local"];
    assert_eq!(reviews.ips, ["10.96.0.22"]);
    let page = plane.page("istio-system", "istio.io/debug", "syncz").await;
    let page: Value = serde_json::from_str(&page).expect("JSON");
    // The proxy, and who asks for the page.
    assert_eq!(page.as_array().map(Vec::len), Some(2), "{page}");
    // The page of the one that captures nothing says so.
    let ask = "ndsz?proxyID=asker.istio-system";
    let page = plane.page("istio-system", "istio.io/debug", ask).await;
    assert!(page.contains("DNS capture is not enabled"), "{page}");
    let mut newest = plane
        .open_with("istio-system", &captures, "istio.io/debug", ask)
        .await;
    let answer = newest.message().await.expect("an answer").expect("no end");
    let body = answer.resources[0].resource.as_ref().expect("a page");
    let page: Value = serde_json::from_slice(&body.value).expect("JSON");
    let entry = &page["table"]["reviews.default.svc.cluster.local"];
    assert_eq!(entry["shortname"], "reviews", "{page}");
}

#[tokio::test]
async fn a_sidecar_shows_what_it_lets_a_proxy_see() {
    let yaml = "kind: Sidecar\nmetadata: {name: narrow, namespace: istio-system}\n\
                spec: {egress: [{hosts: ['*/reviews.default.svc.cluster.local']}], \
                outboundTrafficPolicy: {mode: ALLOW_ANY}}\n";
    let plane = plane_with("istio-system", yaml).await;
    let ask = "sidecarz?proxyID=asker.istio-system";
    let page = plane.page("istio-system", "istio.io/debug", ask).await;
    let page: Value = serde_json::from_str(&page).expect("JSON");
    assert_eq!(page["sidecar"]["metadata"]["name"], "narrow", "{page}");
    assert_eq!(page["outboundTrafficPolicy"]["mode"], "ALLOW_ANY");
    assert_eq!(page["services"].as_array().map(Vec::len), Some(1), "{page}");
}

#[tokio::test]
async fn others_see_their_own_proxies_and_nobody_sees_nothing() {
    let own = plane("default").await;
    let page = own.page("default", "istio.io/debug", "configz").await;
    assert!(page.contains("may not see /debug/configz"), "{page}");
    let dump = "config_dump?proxyID=asker.default";
    let page = own.page("default", "istio.io/debug", dump).await;
    assert!(page.contains("envoy.admin.v3.ClustersConfigDump"), "{page}");
    let nobody = plane("").await;
    let page = nobody.page("default", "istio.io/debug", "configz").await;
    assert!(page.contains("does not tell who you are"), "{page}");
}

#[tokio::test]
async fn a_sidecar_comes_back_when_it_counts_whether_it_reads_secrets() {
    let plane = plane("default").await;
    let cds = "type.googleapis.com/envoy.config.cluster.v3.Cluster";
    let open = async |app: &str| {
        let labels = json!({"LABELS": {"app": app}});
        let mut answers = plane.open_with("default", &labels, cds, "").await;
        answers.message().await.expect("clusters");
        answers
    };
    let _of_others = open("b").await;
    let mut answers = open("a").await;
    let yaml = "kind: DestinationRule\nmetadata: {name: r}\nspec: {host: www.example.com, \
                workloadSelector: {matchLabels: {app: a}}, \
                trafficPolicy: {tls: {mode: SIMPLE, credentialName: c}}}\n";
    plane.config.send_replace(Arc::new(fixture::config(yaml)));
    ends(&mut answers).await;
    // Whoever comes now has been asked about.
    let _answers = open("a").await;
    let streams = plane.discovery.connections().list();
    let newest = streams.last().expect("a stream");
    assert!(newest.client.is_asked && !newest.client.reads_secrets);
    // Whom the rule does not select is left alone.
    let oldest = streams.first().expect("a stream");
    let labels = &oldest.client.proxy.labels;
    assert_eq!(
        (labels.value("app"), oldest.client.is_asked),
        (Some("b"), false)
    );
}

#[tokio::test]
async fn a_proxy_comes_back_when_its_right_comes_or_goes() {
    let yaml = "kind: DestinationRule\nmetadata: {name: r}\nspec: {host: www.example.com, \
                workloadSelector: {matchLabels: {app: a}}, \
                trafficPolicy: {tls: {mode: SIMPLE, credentialName: c}}}\n";
    let plane = plane_that_asks("default", yaml, Duration::from_millis(20)).await;
    let cds = "type.googleapis.com/envoy.config.cluster.v3.Cluster";
    let open = async |app: &str| {
        let labels = json!({"LABELS": {"app": app}});
        let mut answers = plane.open_with("default", &labels, cds, "").await;
        answers.message().await.expect("clusters");
        let stream = plane.discovery.connections().list().pop();
        (answers, stream.expect("a stream"))
    };
    let (_of_others, other) = open("b").await;
    for may in [true, false] {
        let (mut answers, stream) = open("a").await;
        assert_eq!(stream.client.reads_secrets, !may);
        plane.reads_secrets.store(may, Ordering::Relaxed);
        ends(&mut answers).await;
    }
    let (_answers, newest) = open("a").await;
    assert!(!newest.client.reads_secrets);
    assert!(!other.is_over(), "it makes no difference to it");
}

/// Waits until a stream ends and its client is to come back.
async fn ends(answers: &mut tonic::Streaming<DeltaDiscoveryResponse>) {
    let end = loop {
        match answers.message().await {
            Ok(Some(_)) => {}
            Ok(None) => panic!("it ends with a reason"),
            Err(status) => break status,
        }
    };
    assert_eq!(end.code(), Code::Unavailable, "{end}");
}

#[tokio::test]
async fn a_stream_is_ended_by_request() {
    let plane = plane("default").await;
    let cds = "type.googleapis.com/envoy.config.cluster.v3.Cluster";
    let mut answers = plane.open("default", cds, "").await;
    answers.message().await.expect("clusters");
    plane
        .local_page("/debug/force_disconnect?proxyID=asker.default")
        .await;
    ends(&mut answers).await;
}

#[tokio::test]
async fn everything_is_made_anew_by_request() {
    let plane = plane("default").await;
    let before = plane.discovery.snapshot().generation;
    plane.local_page("/debug/adsz?push=true").await;
    while plane.discovery.snapshot().generation == before {
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
}
