//! An API server on loopback, for the tests of it.

#![allow(
    dead_code,
    clippy::panic,
    reason = "each test file uses its own part, and tests fail by panics"
)]

use std::sync::Arc;
use std::time::Duration;

use k8s_openapi::api::core::v1::ConfigMap;
use kube::Client;
use kube::config::{KubeConfigOptions, Kubeconfig};
use lateen_local::apiserver::pki::Pki;
use lateen_local::apiserver::{ApiServer, Config};
use lateen_local::store::StoreError;
use serde_json::{Value, json};
use tokio_util::sync::CancellationToken;

pub(crate) struct Server {
    pub(crate) pki: Arc<Pki>,
    pub(crate) url: String,
    stop: CancellationToken,
    task: tokio::task::JoinHandle<std::io::Result<()>>,
}

impl Server {
    pub(crate) async fn start(directory: &std::path::Path) -> Self {
        lateen_tls::install_provider();
        let listener = std::net::TcpListener::bind("127.0.0.1:0").expect("a free port");
        let url = format!("https://{}", listener.local_addr().expect("an address"));
        let pki = Arc::new(Pki::load_or_create(&directory.join("pki")).expect("keys"));
        let server = loop {
            let server = ApiServer::new(Config {
                store: directory.to_owned(),
                listeners: vec![listener.try_clone().expect("a copy")],
                pki: Some(Arc::clone(&pki)),
                logs: None,
                dialer: None,
                executor: None,
            });
            match server.await {
                Ok(server) => break server,
                // The thread of the server before closes the file on its own time.
                Err(StoreError::Storage(why)) if why.contains("already open") => {
                    tokio::time::sleep(Duration::from_millis(10)).await;
                }
                Err(error) => panic!("{error}"),
            }
        };
        let stop = CancellationToken::new();
        let task = tokio::spawn(server.serve(stop.clone().cancelled_owned()));
        Self {
            pki,
            url,
            stop,
            task,
        }
    }

    pub(crate) async fn client(&self, user: &str, groups: &[&str]) -> Client {
        let text = self
            .pki
            .kubeconfig("test", &self.url, user, groups)
            .expect("a kubeconfig");
        let file = Kubeconfig::from_yaml(&text).expect("parses");
        let config =
            kube::Config::from_custom_kubeconfig(file, &KubeConfigOptions::default()).await;
        Client::try_from(config.expect("resolves")).expect("a client")
    }

    pub(crate) async fn admin(&self) -> Client {
        self.client("admin", &["system:masters"]).await
    }

    pub(crate) async fn stop(self) {
        self.stop.cancel();
        self.task.await.expect("no panic").expect("ends well");
    }
}

pub(crate) fn code(error: kube::Error) -> (u16, String) {
    match error {
        kube::Error::Api(status) => (status.code, status.message),
        other => panic!("{other}"),
    }
}

pub(crate) fn config_map(name: &str, value: &str) -> ConfigMap {
    serde_json::from_value(
        json!({"metadata": {"name": name, "labels": {"v": value}}, "data": {"key": value}}),
    )
    .expect("a config map")
}

/// The answer's code, `Warning` headers and body.
pub(crate) async fn send(
    client: &kube::Client,
    method: http::Method,
    path: &str,
    body: &str,
) -> (u16, Vec<String>, Value) {
    use http_body_util::BodyExt;
    let media = match method {
        http::Method::PATCH => "application/merge-patch+json",
        _ => "application/json",
    };
    let request = http::Request::builder()
        .method(method)
        .uri(path)
        .header("content-type", media)
        .body(kube::client::Body::from(body.as_bytes().to_vec()))
        .expect("a request");
    let reply = client.send(request).await.expect("an answer");
    let warnings = reply.headers().get_all("warning").iter();
    let warnings = warnings.map(|value| value.to_str().expect("text").to_owned());
    let (code, warnings) = (reply.status().as_u16(), warnings.collect());
    let body = reply
        .into_body()
        .collect()
        .await
        .expect("a body")
        .to_bytes();
    // What no part of Kubernetes has heard of is refused in plain text.
    let text = || Value::String(String::from_utf8_lossy(&body).into_owned());
    let body = serde_json::from_slice(&body).unwrap_or_else(|_| text());
    (code, warnings, body)
}
