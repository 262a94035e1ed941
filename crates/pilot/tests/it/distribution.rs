//! How far an object got, seen from proxies that accept, refuse, come and go.

use std::sync::Arc;
use std::time::Duration;

use futures::channel::mpsc;
use hyper_util::rt::TokioIo;
use lateen_core::ObjectRef;
use lateen_galley::ConfigSet;
use lateen_pilot::{Anonymous, Discovery, Options, Report};
use lateen_xds::google::rpc::Status as Reason;
use lateen_xds::types::core::Node;
use lateen_xds::types::discovery::aggregated_discovery_service_client::AggregatedDiscoveryServiceClient;
use lateen_xds::types::discovery::{DeltaDiscoveryRequest, DeltaDiscoveryResponse};
use tokio::net::{UnixListener, UnixStream};
use tokio::sync::watch;
use tokio_stream::wrappers::UnixListenerStream;
use tonic::transport::{Channel, Endpoint};

use crate::fixture::{self, Mesh};

const CDS: &str = "type.googleapis.com/envoy.config.cluster.v3.Cluster";

pub(crate) struct Plane {
    discovery: Discovery,
    pub(crate) channel: Channel,
    config: watch::Sender<Arc<ConfigSet>>,
    pub(crate) world: watch::Sender<Arc<lateen_registry::World>>,
    _dir: tempfile::TempDir,
}

impl Plane {
    pub(crate) async fn new(yaml: &str) -> Plane {
        let dir = tempfile::tempdir().expect("a folder");
        let path = dir.path().join("xds");
        let (world, world_rx) = watch::channel(Arc::new(Mesh::bookinfo().world));
        let (config, config_rx) = watch::channel(Arc::new(fixture::config(yaml)));
        let discovery = Discovery::new(world_rx, config_rx, Options::default());
        let listener = UnixListener::bind(&path).expect("a socket");
        let ads = discovery.ads_service(Anonymous);
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
            world,
            _dir: dir,
        }
    }

    pub(crate) fn apply(&self, yaml: &str) {
        self.config.send_replace(Arc::new(fixture::config(yaml)));
    }

    /// Waits until everybody has this generation of the object.
    pub(crate) async fn settled(&self, generation: i64) {
        let is_there = |report: &Report| report.generation == generation && report.is_done();
        self.report(|report| report.is_some_and(is_there)).await;
    }

    /// Waits for a report that is as wanted, or for its end.
    pub(crate) async fn report(
        &self,
        is_wanted: impl Fn(Option<&Report>) -> bool,
    ) -> Option<Arc<Report>> {
        let object = ObjectRef::new("DestinationRule", "default", "rule");
        let mut reports = self.discovery.reports();
        let of = |reports: &lateen_pilot::Reports| reports.get(&object).cloned();
        let found = reports.wait_for(|all| is_wanted(of(all).as_deref()));
        let limit = tokio::time::timeout(Duration::from_secs(60), found);
        let found = limit.await.expect("in time").expect("there are reports");
        of(&found)
    }
}

/// A proxy that asks for clusters.
struct Client {
    requests: mpsc::UnboundedSender<DeltaDiscoveryRequest>,
    answers: tonic::Streaming<DeltaDiscoveryResponse>,
}

impl Client {
    async fn new(plane: &Plane, name: &str) -> Client {
        let (requests, stream) = mpsc::unbounded();
        let first = DeltaDiscoveryRequest {
            node: Some(Node {
                id: format!("sidecar~10.244.0.9~{name}.default~default.svc.cluster.local"),
                ..Node::default()
            }),
            type_url: CDS.into(),
            ..DeltaDiscoveryRequest::default()
        };
        requests.unbounded_send(first).expect("a stream");
        let mut client = AggregatedDiscoveryServiceClient::new(plane.channel.clone());
        let answers = client.delta_aggregated_resources(stream).await;
        Client {
            requests,
            answers: answers.expect("a stream").into_inner(),
        }
    }

    async fn next(&mut self) -> DeltaDiscoveryResponse {
        let next = self.answers.message().await;
        next.expect("a response").expect("no end")
    }

    fn answer(&self, to: &DeltaDiscoveryResponse, refusal: Option<&str>) {
        let reason = |text: &str| Reason {
            message: text.to_owned(),
            ..Reason::default()
        };
        let answer = DeltaDiscoveryRequest {
            type_url: to.type_url.clone(),
            response_nonce: to.nonce.clone(),
            error_detail: refusal.map(reason),
            ..DeltaDiscoveryRequest::default()
        };
        self.requests.unbounded_send(answer).expect("a stream");
    }
}

pub(crate) fn rule(generation: u32, connections: u32) -> String {
    format!(
        "apiVersion: networking.istio.io/v1
kind: DestinationRule
metadata: {{name: rule, generation: {generation}}}
spec:
  host: reviews
  trafficPolicy: {{connectionPool: {{tcp: {{maxConnections: {connections}}}}}}}
"
    )
}

#[tokio::test]
async fn an_object_is_everywhere_when_each_proxy_has_accepted_it() {
    let plane = Plane::new(&rule(1, 1)).await;
    let nobody = plane
        .report(|r| r.is_some_and(|r| r.is_done() && !r.is_early))
        .await;
    let nobody = nobody.expect("a report");
    assert_eq!((nobody.generation, nobody.proxies), (1, 0));

    let mut quick = Client::new(&plane, "quick").await;
    let mut slow = Client::new(&plane, "slow").await;
    for client in [&mut quick, &mut slow] {
        let first = client.next().await;
        client.answer(&first, None);
    }
    plane.apply(&rule(2, 2));
    let to_quick = quick.next().await;
    let to_slow = slow.next().await;
    quick.answer(&to_quick, None);
    let half = plane
        .report(|r| r.is_some_and(|r| r.generation == 2 && r.acknowledged == 1))
        .await;
    let half = half.expect("a report");
    assert_eq!(half.outstanding, ["slow.default"]);
    assert!(!half.is_done());
    slow.answer(&to_slow, None);
    let all = plane
        .report(|r| r.is_some_and(|r| r.generation == 2 && r.is_done()))
        .await;
    let all = all.expect("a report");
    assert_eq!(all.proxies, 2);
    let (name, took) = all.slowest.clone().expect("somebody is slowest");
    assert_eq!(name, "slow.default");
    assert!(took > Duration::ZERO);

    // What is nothing to a proxy is not sent, and not waited for.
    plane.apply(&rule(3, 2));
    let same = plane
        .report(|r| r.is_some_and(|r| r.generation == 3 && r.is_done()))
        .await;
    assert_eq!(same.expect("a report").slowest, None);

    plane.apply("");
    assert_eq!(
        plane
            .report(|r| r.is_some_and(|r| r.is_gone))
            .await
            .map(|r| r.proxies),
        Some(2)
    );
    for client in [&mut quick, &mut slow] {
        let gone = client.next().await;
        client.answer(&gone, None);
    }
    plane.report(|report| report.is_none()).await;
}

#[tokio::test]
async fn a_proxy_that_refuses_is_named_until_it_is_gone() {
    let plane = Plane::new(&rule(1, 1)).await;
    let mut good = Client::new(&plane, "good").await;
    let mut bad = Client::new(&plane, "bad").await;
    for client in [&mut good, &mut bad] {
        let first = client.next().await;
        client.answer(&first, None);
    }
    plane.apply(&rule(2, 2));
    let to_good = good.next().await;
    good.answer(&to_good, None);
    let to_bad = bad.next().await;
    bad.answer(&to_bad, Some("not like this"));
    let refused = plane
        .report(|r| r.is_some_and(|r| r.generation == 2 && !r.refused.is_empty()))
        .await;
    let refused = refused.expect("a report");
    assert_eq!((refused.acknowledged, refused.proxies), (1, 2));
    let said = (
        "bad.default".to_owned(),
        "CDS".to_owned(),
        "not like this".to_owned(),
    );
    assert_eq!(refused.refused, [said]);
    let conditions = lateen_pilot::conditions(Some(&refused), &[]);
    assert_eq!(conditions[0]["reason"], "Refused");
    assert!(
        conditions[0]["message"]
            .as_str()
            .expect("words")
            .contains("bad.default refused CDS: not like this")
    );
    drop(bad);
    let rest = plane
        .report(|r| r.is_some_and(|r| r.generation == 2 && r.is_done()))
        .await;
    assert_eq!(rest.expect("a report").proxies, 1);
}
