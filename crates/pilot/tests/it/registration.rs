//! A workload that registers itself over a stream, as its agent does beside it.

use std::sync::{Arc, Mutex};
use std::time::Duration;

use futures::future::BoxFuture;
use hyper_util::rt::TokioIo;
use lateen_api::Meta;
use lateen_core::SpiffeId;
use lateen_pilot::{Authenticate, Discovery, Entries, EntriesError, Options, Peer, Registering};
use lateen_xds::client::{self, Client, ConnectError, Connection};
use lateen_xds::types::core::Node;
use lateen_xds::types::discovery::DiscoveryRequest;
use lateen_xds::types::discovery::aggregated_discovery_service_client::AggregatedDiscoveryServiceClient;
use lateen_xds::types::rpc;
use lateen_xds::{TypeUrl, json};
use serde_json::{Value, json};
use tokio::net::{UnixListener, UnixStream};
use tokio::sync::{mpsc, watch};
use tokio_stream::wrappers::{ReceiverStream, UnixListenerStream};
use tonic::transport::Endpoint;
use tonic::{Code, Status};

use crate::fixture::{self, Mesh};

struct Believed;

impl Authenticate for Believed {
    fn authenticate<'a>(
        &'a self,
        _peer: &'a Peer,
    ) -> BoxFuture<'a, Result<Option<SpiffeId>, Status>> {
        Box::pin(async { Ok(SpiffeId::new("cluster.local", "default", "sa").ok()) })
    }
}

/// One group, and at most one entry.
#[derive(Default)]
struct Stored(Mutex<Option<Value>>);

fn ready<'a, T: Send + 'a>(value: T) -> BoxFuture<'a, Result<T, EntriesError>> {
    Box::pin(std::future::ready(Ok(value)))
}

impl Stored {
    fn now(&self) -> Option<Value> {
        self.0.lock().expect("whole").clone()
    }

    fn set(&self, entry: Option<Value>) {
        *self.0.lock().expect("whole") = entry;
    }
}

impl Entries for Stored {
    fn group<'a>(
        &'a self,
        _: &'a str,
        name: &'a str,
    ) -> BoxFuture<'a, Result<Option<Value>, EntriesError>> {
        ready((name == "machines").then(|| json!({"spec": {"template": {}}})))
    }

    fn entry<'a>(
        &'a self,
        _: &'a str,
        _: &'a str,
    ) -> BoxFuture<'a, Result<Option<Value>, EntriesError>> {
        ready(self.now())
    }

    fn metas(&self) -> BoxFuture<'_, Result<Vec<Meta>, EntriesError>> {
        let meta = |entry: Value| serde_json::from_value(entry["metadata"].clone());
        let meta = self.now().map(|entry| meta(entry).expect("metadata"));
        ready(meta.into_iter().collect())
    }

    fn create(&self, entry: Value) -> BoxFuture<'_, Result<(), EntriesError>> {
        self.set(Some(entry));
        ready(())
    }

    fn replace(&self, entry: Value) -> BoxFuture<'_, Result<(), EntriesError>> {
        self.create(entry)
    }

    fn set_conditions<'a>(
        &'a self,
        entry: &'a Value,
        conditions: Value,
    ) -> BoxFuture<'a, Result<(), EntriesError>> {
        let mut entry = entry.clone();
        entry["status"]["conditions"] = conditions;
        self.create(entry)
    }

    fn remove<'a>(&'a self, _: &'a Value) -> BoxFuture<'a, Result<(), EntriesError>> {
        self.set(None);
        ready(())
    }
}

fn node(group: &str) -> Node {
    let node = json!({
        "id": "sidecar~192.0.2.7~machine.default~default.svc.cluster.local",
        "metadata": {
            "AUTO_REGISTER_GROUP": group,
            "PROXY_CONFIG": {"readinessProbe": {"tcpSocket": {"port": 1}}},
        },
    });
    json::from_value(node).expect("a node")
}

async fn until(what: &str, mut is_so: impl FnMut() -> bool) {
    for _ in 0..600 {
        if is_so() {
            return;
        }
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    panic!("never {what}");
}

#[tokio::test(flavor = "multi_thread")]
async fn an_agent_tells_of_the_health_of_what_it_registers() {
    let dir = tempfile::tempdir().expect("a folder");
    let path = dir.path().join("xds");
    let (_world, world) = watch::channel(Arc::new(Mesh::bookinfo().world));
    let (_config, config) = watch::channel(Arc::new(fixture::config("")));
    let stored = Arc::new(Stored::default());
    let options = Options {
        registering: Some(Registering {
            entries: stored.clone(),
            replica: "one".to_owned(),
            grace: Duration::from_millis(10),
            leading: watch::channel(false).1,
        }),
        ..Options::default()
    };
    let ads = Discovery::new(world, config, options).ads_service(Believed);
    let listener = UnixListener::bind(&path).expect("a socket");
    let server = tonic::transport::Server::builder().add_service(ads);
    let server = tokio::spawn(server.serve_with_incoming(UnixListenerStream::new(listener)));
    let connect = move || {
        let path = path.clone();
        async move {
            let connector = tower::service_fn(move |_| {
                let path = path.clone();
                async move { UnixStream::connect(path).await.map(TokioIo::new) }
            });
            let endpoint = Endpoint::from_static("http://control-plane");
            let channel = endpoint.connect_with_connector(connector).await?;
            Ok::<Connection, ConnectError>(channel.into())
        }
    };
    let is = |expect: &str| {
        let condition = stored
            .now()
            .map(|entry| entry["status"]["conditions"][0].clone());
        condition.is_some_and(|one| one["type"] == "Healthy" && one["status"] == expect)
    };

    let Client {
        subscriber,
        updates,
        ..
    } = client::spawn(node("machines"), connect.clone());
    subscriber.report(TypeUrl::HEALTH, Some("not yet".to_owned()));
    until("unwell", || is("False")).await;
    subscriber.report(TypeUrl::HEALTH, None);
    until("well", || is("True")).await;
    drop(updates);
    until("gone", || stored.now().is_none()).await;

    // As Istio's agent tells it, among what its Envoy asks for.
    let channel = connect().await.expect("it listens").channel;
    let (requests_tx, requests_rx) = mpsc::channel(4);
    let request = |fault: Option<&str>| DiscoveryRequest {
        node: Some(node("machines")),
        type_url: TypeUrl::HEALTH.to_string(),
        error_detail: fault.map(|fault| rpc::Status {
            code: 13,
            message: fault.to_owned(),
            ..rpc::Status::default()
        }),
        ..DiscoveryRequest::default()
    };
    requests_tx.send(request(None)).await.expect("open");
    let mut ads = AggregatedDiscoveryServiceClient::new(channel.clone());
    let requests = ReceiverStream::new(requests_rx);
    let responses = ads.stream_aggregated_resources(requests).await;
    until("well", || is("True")).await;
    requests_tx
        .send(request(Some("refused")))
        .await
        .expect("open");
    until("unwell", || is("False")).await;
    drop((requests_tx, responses));
    until("gone", || stored.now().is_none()).await;

    // Who names a group that is not there is not admitted.
    let unknown = DiscoveryRequest {
        node: Some(node("nobody")),
        ..request(None)
    };
    let mut ads = AggregatedDiscoveryServiceClient::new(channel);
    let answer = ads
        .stream_aggregated_resources(tokio_stream::iter([unknown]))
        .await;
    let status = match answer {
        Err(status) => status,
        Ok(mut responses) => responses.get_mut().message().await.expect_err("refused"),
    };
    assert_eq!(status.code(), Code::FailedPrecondition, "{status}");
    assert!(status.message().contains("default/nobody"), "{status}");
    server.abort();
}
