use std::sync::Arc;

use lateen_xds::server::{Ads, Connections, Names, Peer, Resource, ResourceSource};
use lateen_xds::types::core::Node;
use tokio::sync::watch;
use tokio_stream::wrappers::UnixListenerStream;
use tonic::Status;
use tonic::transport::Server;

use super::*;
use crate::relay;
use crate::testing::Pod;

/// A control plane with one bootstrap, under a name.
struct Source {
    snapshots: watch::Sender<u64>,
    name: &'static str,
}

impl ResourceSource for Source {
    type Client = ();
    type Snapshot = u64;

    async fn connect(&self, _node: &Node, _peer: &Peer) -> Result<(), Status> {
        Ok(())
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
        assert_eq!(*type_url, TypeUrl::BOOTSTRAP);
        let parts = serde_json::json!({"stats_flush_interval": "7s", "node": {"cluster": "c"}});
        let parts: Bootstrap = json::from_value(parts).expect("a message");
        vec![Arc::new(Resource::new(self.name, &parts))]
    }
}

async fn over(pod: &Pod, text: &str) -> Result<Value, Error> {
    pod.put("etc/istio/custom-bootstrap/custom_bootstrap.json", text);
    let path = "/etc/istio/custom-bootstrap/custom_bootstrap.json";
    let config = pod.config("localhost:1", &[(Overlay::FILE, path)]);
    laid_over(crate::bootstrap::build(&config), &config).await
}

#[tokio::test]
async fn a_file_is_laid_over_what_the_agent_writes() {
    let pod = Pod::new();
    let plain = pod.config("localhost:1", &[]);
    let written = crate::bootstrap::build(&plain);
    let same = laid_over(written.clone(), &plain)
        .await
        .expect("nothing to do");
    assert_eq!(same, written);
    for text in [
        r#"{"statsFlushInterval": "7s", "static_resources": {"clusters": [{"name": "mine"}]}}"#,
        "stats_flush_interval: 7s\nstaticResources: {clusters: [{name: mine}]}\n",
    ] {
        let value = over(&pod, text).await.expect("parts");
        let whole: Bootstrap = json::from_value(value).expect("Envoy's message");
        assert_eq!(whole.stats_flush_interval.expect("set").seconds, 7);
        assert_eq!(whole.node.expect("kept").id, plain.node_id());
        let resources = whole.static_resources.expect("kept");
        let clusters: Vec<_> = resources.clusters.iter().map(|of| &*of.name).collect();
        let all = ["prometheus_stats", "agent", "sds-grpc", "xds-grpc", "mine"];
        assert_eq!(clusters, all);
        assert_eq!(resources.listeners.len(), 2);
    }
}

#[tokio::test]
async fn a_file_that_is_wrong_is_named() {
    let pod = Pod::new();
    for text in ["[", "- a", "{\"stats_flush\": 1}"] {
        let error = over(&pod, text).await.expect_err(text).to_string();
        let path = "etc/istio/custom-bootstrap/custom_bootstrap.json: ";
        assert!(error.starts_with("ISTIO_BOOTSTRAP_OVERRIDE: "), "{error}");
        assert!(error.contains(path), "{error}");
    }
    let config = pod.config("localhost:1", &[(Overlay::FILE, "/none")]);
    let error = laid_over(Value::Null, &config).await.expect_err("no file");
    assert!(error.to_string().contains("none: "), "{error}");
}

#[tokio::test(start_paused = true)]
async fn a_control_plane_that_is_away_keeps_no_proxy_from_starting() {
    let pod = Pod::new();
    let config = pod.config("localhost:1", &[(Overlay::PATCHES, "true")]);
    let written = crate::bootstrap::build(&config);
    let found = laid_over(written.clone(), &config)
        .await
        .expect("it starts");
    assert_eq!(found, written);
}

#[tokio::test]
async fn the_control_plane_is_asked_for_patches_and_for_nothing_whole() {
    for (name, is_taken) in [(BOOTSTRAP_PARTS, true), ("a-whole-one", false)] {
        let pod = Pod::new();
        let path = "custom.json";
        pod.put(path, "{\"node\": {\"cluster\": \"of the file\"}}");
        let said = [(Overlay::PATCHES, "true"), (Overlay::FILE, path)];
        let config = pod.config("localhost:1", &said);
        let source = Source {
            snapshots: watch::Sender::new(1),
            name,
        };
        let ads = Ads::new(Arc::new(source), Arc::new(Connections::default())).into_service();
        let listener = relay::bind(&config.paths.xds_socket).expect("a socket");
        let server = Server::builder().add_service(ads);
        let server = tokio::spawn(server.serve_with_incoming(UnixListenerStream::new(listener)));
        let laid = laid_over(crate::bootstrap::build(&config), &config).await;
        let whole: Bootstrap = json::from_value(laid.expect("it starts")).expect("a message");
        let flush = whole.stats_flush_interval.map(|interval| interval.seconds);
        assert_eq!(flush, is_taken.then_some(7), "{name}");
        // The file counts for more.
        assert_eq!(whole.node.expect("kept").cluster, "of the file");
        server.abort();
    }
}
