//! The API server of the local platform, for tests: its rules for definitions and subresources count.
//! And what the control plane tells objects there.

use std::{path::Path, sync::Arc, time::Duration};

use kube::{
    Api, Client,
    api::{DynamicObject, Patch, PatchParams},
    config::{KubeConfigOptions, Kubeconfig},
};
use lateen_api::kinds;
use lateen_core::{Hostname, ServiceId};
use lateen_galley::Galley;
use lateen_local::apiserver::{ApiServer, Config, pki::Pki};
use lateen_pilot::Discovery;
use lateen_registry::{Registry, StatusPace, StatusWriter};
use serde_json::{Value, json};
use tokio::sync::watch;

use super::{
    analysis,
    replicas::Replicas,
    statuses::{Addresses, Statuses},
};

/// A client of a server that keeps everything in this directory.
pub(crate) async fn server(directory: &Path) -> Client {
    lateen_tls::install_provider();
    let listener = std::net::TcpListener::bind("127.0.0.1:0").expect("a free port");
    let url = format!("https://{}", listener.local_addr().expect("an address"));
    let pki = Arc::new(Pki::load_or_create(&directory.join("pki")).expect("keys"));
    let text = pki.admin_kubeconfig("test", &url).expect("a kubeconfig");
    let server = ApiServer::new(Config {
        store: directory.to_owned(),
        listeners: vec![listener],
        pki: Some(pki),
        logs: None,
        dialer: None,
        executor: None,
    });
    tokio::spawn(
        server
            .await
            .expect("it starts")
            .serve(std::future::pending()),
    );
    let file = Kubeconfig::from_yaml(&text).expect("parses");
    let options = KubeConfigOptions::default();
    let config = kube::Config::from_custom_kubeconfig(file, &options);
    Client::try_from(config.await.expect("resolves")).expect("a client")
}

/// Defines the mesh's kinds.
pub(super) async fn define_kinds(client: &Client) {
    let installation = lateen_install::Installation::default();
    let manifests = lateen_install::manifests(&installation).expect("manifests");
    let is_definition = |object: &Value| object["kind"] == "CustomResourceDefinition";
    let definitions: Vec<_> = manifests.into_iter().filter(is_definition).collect();
    let mut applier = crate::apply::Applier::new(client.clone());
    applier.apply_all(&definitions).await.expect("definitions");
}

/// A control plane's parts that tell objects of themselves, as the only replica.
pub(super) struct Telling {
    pub(super) registry: Registry,
    pub(super) writer: StatusWriter,
    _galley: Galley,
    _leading_tx: watch::Sender<bool>,
}

impl Telling {
    pub(super) async fn start(client: &Client, is_analysed: bool) -> Self {
        let registry = Registry::kubernetes(client.clone(), lateen_registry::Options::default());
        let around = lateen_galley::Surroundings {
            world: registry.world(),
            credentials: Arc::new(lateen_galley::NoCredentials),
            domain: "cluster.local".into(),
            trust_domain: None,
        };
        let galley = Galley::start(registry.config(), around);
        galley.synced(&registry).await;
        let options = lateen_pilot::Options::default();
        let discovery = Discovery::new(registry.world(), galley.config(), options);
        let (leading_tx, leading) = watch::channel(true);
        let writer = StatusWriter::start(client, &leading, StatusPace::default());
        let istiod = Hostname::service("istiod", "istio-system", "cluster.local");
        let service = ServiceId::new("istio-system", istiod);
        let own = "istiod-a".to_owned();
        let replicas = Replicas::new("istio-system", service, own, Arc::default());
        let settings = lateen_galley::analyze::Settings::default();
        let analysis = match is_analysed {
            true => analysis::follow(client, settings, &registry, &leading),
            false => analysis::take_back(client, &leading),
        };
        let to = writer.clone();
        let statuses = Statuses::new(&registry, &discovery, to, leading, replicas, analysis);
        tokio::spawn(statuses.run());
        tokio::spawn(Addresses::new(&registry, writer.clone()).run());
        Telling {
            registry,
            writer,
            _galley: galley,
            _leading_tx: leading_tx,
        }
    }
}

fn api(client: &Client, kind: &kinds::Kind) -> Api<DynamicObject> {
    Api::namespaced_with(client.clone(), "default", &lateen_registry::resource(kind))
}

pub(super) async fn apply(client: &Client, kind: &kinds::Kind, name: &str, spec: Value) {
    let object = json!({
        "apiVersion": kind.api_version(), "kind": kind.kind,
        "metadata": {"name": name, "namespace": "default"}, "spec": spec,
    });
    let params = PatchParams::apply("test").force();
    let patch = Patch::Apply(object);
    let applied = api(client, kind).patch(name, &params, &patch).await;
    applied.expect("it is taken");
}

/// Waits until an object's status is as wanted.
pub(super) async fn until(
    client: &Client,
    kind: &kinds::Kind,
    name: &str,
    is_wanted: impl Fn(&Value) -> bool,
) -> Value {
    let mut last = Value::Null;
    for _ in 0..600 {
        let object = api(client, kind).get(name).await.expect("it is there");
        last = object.data["status"].clone();
        if is_wanted(&last) {
            return last;
        }
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
    panic!("{name} has {last}");
}

pub(super) fn condition<'a>(status: &'a Value, kind: &str) -> &'a Value {
    let conditions = status["conditions"]
        .as_array()
        .map_or(&[][..], Vec::as_slice);
    let found = conditions
        .iter()
        .find(|condition| condition["type"] == kind);
    found.unwrap_or(&Value::Null)
}
