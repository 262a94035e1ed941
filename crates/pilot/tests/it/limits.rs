//! What one client may do to the control plane: streams that ask for too much, or live too long.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use futures::StreamExt;
use hyper_util::rt::TokioIo;
use lateen_galley::ConfigSet;
use lateen_pilot::{Anonymous, Discovery, Options};
use lateen_registry::World;
use lateen_xds::types::core::Node;
use lateen_xds::types::discovery::DeltaDiscoveryRequest;
use lateen_xds::types::discovery::aggregated_discovery_service_client::AggregatedDiscoveryServiceClient;
use tokio::net::{UnixListener, UnixStream};
use tokio::sync::watch;
use tokio_stream::wrappers::UnixListenerStream;
use tonic::transport::{Channel, Endpoint};
use tonic::{Code, Status};

use crate::fixture::Mesh;

/// A control plane, for as long as this lives.
struct Plane {
    channel: Channel,
    _world: watch::Sender<Arc<World>>,
    _config: watch::Sender<Arc<ConfigSet>>,
    _dir: tempfile::TempDir,
}

async fn plane(options: Options) -> Plane {
    let dir = tempfile::tempdir().expect("a folder");
    let path = dir.path().join("xds");
    let (world, world_rx) = watch::channel(Arc::new(Mesh::bookinfo().world));
    let (config, config_rx) = watch::channel(Arc::new(ConfigSet::default()));
    let discovery = Discovery::new(world_rx, config_rx, options);
    let listener = UnixListener::bind(&path).expect("a socket");
    let server = tonic::transport::Server::builder().add_service(discovery.ads_service(Anonymous));
    tokio::spawn(server.serve_with_incoming(UnixListenerStream::new(listener)));
    Plane {
        channel: connect(path).await,
        _world: world,
        _config: config,
        _dir: dir,
    }
}

async fn connect(path: PathBuf) -> Channel {
    let connector = tower::service_fn(move |_| {
        let path = path.clone();
        async move { UnixStream::connect(path).await.map(TokioIo::new) }
    });
    let endpoint = Endpoint::from_static("http://control-plane");
    endpoint
        .connect_with_connector(connector)
        .await
        .expect("it listens")
}

fn asking_for(type_url: &str, names: Vec<String>) -> DeltaDiscoveryRequest {
    DeltaDiscoveryRequest {
        node: Some(Node {
            id: "sidecar~10.244.0.9~a-1.default~default.svc.cluster.local".into(),
            ..Node::default()
        }),
        type_url: type_url.into(),
        resource_names_subscribe: names,
        ..DeltaDiscoveryRequest::default()
    }
}

/// Sends the requests and reads until the server ends the stream: why it did.
async fn end_of(channel: Channel, requests: Vec<DeltaDiscoveryRequest>) -> Status {
    // The client itself never ends its side.
    let requests = futures::stream::iter(requests).chain(futures::stream::pending());
    let mut client = AggregatedDiscoveryServiceClient::new(channel);
    let answers = client.delta_aggregated_resources(requests).await;
    let mut answers = match answers {
        Ok(answers) => answers.into_inner(),
        Err(status) => return status,
    };
    loop {
        match answers.message().await {
            Ok(Some(_)) => {}
            Ok(None) => return Status::ok("ended"),
            Err(status) => return status,
        }
    }
}

#[tokio::test]
async fn a_stream_may_not_ask_for_types_without_end() {
    let plane = plane(Options::default()).await;
    let each = |n| asking_for(&format!("type.googleapis.com/made.up.T{n}"), Vec::new());
    let status = end_of(plane.channel.clone(), (0..100).map(each).collect()).await;
    assert_eq!(status.code(), Code::ResourceExhausted, "{status}");
}

#[tokio::test]
async fn a_stream_may_not_name_things_without_end() {
    const EDS: &str = "type.googleapis.com/envoy.config.endpoint.v3.ClusterLoadAssignment";
    let plane = plane(Options::default()).await;
    let each = |n: u32| {
        let names = (0..50_000).map(|i| format!("{n}-{i}"));
        asking_for(EDS, names.collect())
    };
    let status = end_of(plane.channel.clone(), (0..10).map(each).collect()).await;
    assert_eq!(status.code(), Code::ResourceExhausted, "{status}");
}

#[tokio::test]
async fn a_stream_ends_when_its_proof_is_old() {
    let plane = plane(Options {
        stream_lifetime: Duration::from_millis(50),
        ..Options::default()
    })
    .await;
    let cds = "type.googleapis.com/envoy.config.cluster.v3.Cluster";
    let status = end_of(plane.channel.clone(), vec![asking_for(cds, Vec::new())]).await;
    assert_eq!(status.code(), Code::Unavailable, "{status}");
}
