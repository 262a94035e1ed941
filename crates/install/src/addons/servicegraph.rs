//! The graph of services that Istio 1.0 had: its own last program, which asks Prometheus. Only the
//! edges of HTTP show, as it asks for TCP by a name that metrics have no longer.

use serde_json::Value;

use super::server::{self, Server};
use crate::Installation;

const NAME: &str = "servicegraph";

pub(super) fn all(installation: &Installation) -> Vec<Value> {
    let server = Server {
        name: NAME,
        image: "docker.io/istio/servicegraph:1.0.6",
        user: 1337,
        args: vec!["--prometheusAddr=http://prometheus:9090".to_owned()],
        env: Vec::new(),
        ports: &[("http", 8088)],
        // A graph needs Prometheus; the page does not.
        ready: ("/", 8088),
        resources: ["10m", "32Mi", "128Mi"],
        needs_token: false,
        files: Vec::new(),
        folders: &[],
    };
    let mut all = server.objects(installation);
    all.push(server::service(
        installation,
        NAME,
        NAME,
        &[("http", 8088, 8088)],
    ));
    all
}
