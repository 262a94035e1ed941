use std::sync::Mutex as StdMutex;

use lateen_xds::client::{self, State};
use lateen_xds::server::{Ads, Connections, Names, Peer, Resource, ResourceSource};
use lateen_xds::types::cluster::Cluster;
use lateen_xds::types::core::Node;
use lateen_xds::{TypeUrl, json};
use tokio::sync::watch;
use tokio::task::JoinHandle;
use tonic::Status;
use tonic::transport::Endpoint;

use super::*;
use crate::testing::Pod;

/// A control plane with one cluster that admits the bearer of "good".
struct Source {
    snapshots: watch::Sender<u64>,
    refused: StdMutex<Vec<String>>,
}

impl ResourceSource for Source {
    type Client = ();
    type Snapshot = u64;

    async fn connect(&self, _node: &Node, peer: &Peer) -> Result<(), Status> {
        let token = peer
            .metadata
            .get("authorization")
            .and_then(|t| t.to_str().ok());
        match token {
            Some("Bearer good") => Ok(()),
            other => {
                let other = other.unwrap_or_default().to_owned();
                self.refused.lock().expect("no panic").push(other);
                Err(Status::unauthenticated("token is not accepted"))
            }
        }
    }

    fn snapshots(&self, _client: &()) -> watch::Receiver<u64> {
        self.snapshots.subscribe()
    }

    fn generation(&self, snapshot: &u64) -> u64 {
        *snapshot
    }

    fn generate(
        &self,
        _snapshot: &u64,
        _client: &(),
        type_url: &TypeUrl,
        _names: Names<'_>,
    ) -> Vec<Arc<Resource>> {
        if *type_url != TypeUrl::CLUSTER {
            return Vec::new();
        }
        let cluster = Cluster {
            name: "one".to_owned(),
            ..Cluster::default()
        };
        vec![Arc::new(Resource::new("one", &cluster))]
    }
}

async fn control_plane(pod: &Pod) -> (Arc<Source>, String, JoinHandle<()>) {
    control_plane_at(pod, "localhost:0").await
}

async fn control_plane_at(pod: &Pod, address: &str) -> (Arc<Source>, String, JoinHandle<()>) {
    let (listener, address) = pod.control_plane_at(address).await;
    let source = Source {
        snapshots: watch::Sender::new(1),
        refused: StdMutex::default(),
    };
    let source = Arc::new(source);
    let ads = Ads::new(source.clone(), Arc::new(Connections::default())).into_service();
    let serving = tokio::spawn(async move {
        let server = tonic::transport::Server::builder().add_service(ads);
        server
            .serve_with_incoming(listener.into_incoming())
            .await
            .expect("serving");
    });
    (source, address, serving)
}

fn proxy(pod: &Pod, address: &str) -> client::Client {
    let config = pod.config(address, &[]);
    let socket = config.paths.xds_socket.clone();
    let listener = bind(&socket).expect("a socket");
    tokio::spawn(Arc::new(Relay::new(config)).serve(listener));
    client::spawn(Node::default(), move || {
        let endpoint = format!("unix:{}", socket.display());
        async move { Ok(Endpoint::from_shared(endpoint)?.connect().await?.into()) }
    })
}

#[tokio::test]
async fn a_proxy_without_token_gets_its_resources_in_the_pods_name() {
    let pod = Pod::new();
    let (_, address, _serving) = control_plane(&pod).await;
    let mut proxy = proxy(&pod, &address);
    proxy.subscriber.wildcard(TypeUrl::CLUSTER);
    let update = proxy.updates.recv().await.expect("an update");
    assert_eq!(update.resources[0].name, "one");
    let text = json::any_to_value(update.resources[0].body.as_ref().expect("a body"));
    assert_eq!(text.expect("a cluster")["name"], "one");
    update.ack();
}

#[tokio::test]
async fn a_refusal_reaches_the_proxy_and_a_new_token_is_used() {
    let pod = Pod::new();
    pod.token("foreign");
    let (source, address, _serving) = control_plane(&pod).await;
    let mut proxy = proxy(&pod, &address);
    proxy.subscriber.wildcard(TypeUrl::CLUSTER);
    let refused =
        |s: &State| matches!(s, State::Disconnected(why) if why.contains("token is not accepted"));
    proxy
        .state
        .wait_for(refused)
        .await
        .expect("the client lives");
    assert_eq!(
        source.refused.lock().expect("no panic")[0],
        "Bearer foreign"
    );
    pod.token("good");
    proxy.updates.recv().await.expect("an update").ack();
}

#[tokio::test]
async fn an_absent_control_plane_is_unavailable_and_found_when_it_comes() {
    let pod = Pod::new();
    let (_, address, serving) = control_plane(&pod).await;
    serving.abort();
    // The port is free again once the listener is dropped.
    assert!(serving.await.expect_err("aborted").is_cancelled());
    let mut proxy = proxy(&pod, &address);
    proxy.subscriber.wildcard(TypeUrl::CLUSTER);
    let down = |s: &State| matches!(s, State::Disconnected(why) if why.contains(&address));
    proxy.state.wait_for(down).await.expect("the client lives");
    let (_, _, _serving) = control_plane_at(&pod, &address).await;
    proxy.updates.recv().await.expect("an update").ack();
}
