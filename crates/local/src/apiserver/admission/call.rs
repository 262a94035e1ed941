//! One HTTPS request to a webhook, by service or by URL.

use std::sync::Arc;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use http::header::{CONTENT_TYPE, HOST};
use http::{Method, Request};
use http_body_util::{BodyExt, Full, Limited};
use hyper_util::rt::TokioIo;
use lateen_tls::{ClientOptions, Connector, Identity, IdentityStore, ServerCheck};
use serde_json::Value;
use tokio::net::TcpStream;

use crate::apiserver::core::Core;
use crate::apiserver::meta;

/// The most that a webhook may answer.
const MAX_ANSWER: usize = 8 << 20;

/// Where a webhook is.
struct Place {
    /// `host:port` to connect to; any of them.
    addresses: Vec<String>,
    /// The name that its certificate must have.
    name: String,
    path: String,
    /// For messages.
    url: String,
}

/// Posts a review and reads the answer.
pub(super) async fn post(core: &Arc<Core>, config: &Value, body: &Value) -> Result<Value, String> {
    let place = place(core, config)?;
    let failed = |error: String| format!("failed to call webhook: Post {:?}: {error}", place.url);
    exchange(config, &place, body).await.map_err(failed)
}

async fn exchange(config: &Value, place: &Place, body: &Value) -> Result<Value, String> {
    let text = |error: &dyn std::fmt::Display| error.to_string();
    let socket = connect(&place.addresses).await?;
    let stream = connector(config)?
        .connect(socket, Some(&place.name))
        .await
        .map_err(|error| text(&error))?;
    let (mut sender, connection) = hyper::client::conn::http1::handshake(TokioIo::new(stream))
        .await
        .map_err(|error| text(&error))?;
    let driver = tokio::spawn(connection);
    let request = Request::builder()
        .method(Method::POST)
        .uri(&place.path)
        .header(HOST, &place.name)
        .header(CONTENT_TYPE, "application/json")
        .header(http::header::ACCEPT, "application/json")
        .body(Full::new(bytes::Bytes::from(body.to_string())))
        .map_err(|error| text(&error))?;
    let answer = sender
        .send_request(request)
        .await
        .map_err(|error| text(&error))?;
    let status = answer.status();
    let body = Limited::new(answer.into_body(), MAX_ANSWER)
        .collect()
        .await
        .map_err(|error| text(&error))?;
    driver.abort();
    if !status.is_success() {
        return Err(format!("the server answered {status}"));
    }
    serde_json::from_slice(&body.to_bytes())
        .map_err(|error| format!("the answer is not JSON: {error}"))
}

async fn connect(addresses: &[String]) -> Result<TcpStream, String> {
    let mut last = "no address".to_owned();
    for address in addresses {
        match TcpStream::connect(address).await {
            Ok(socket) => return Ok(socket),
            Err(error) => last = format!("dial tcp {address}: {error}"),
        }
    }
    Err(last)
}

fn connector(config: &Value) -> Result<Connector, String> {
    let bundle = meta::text(config, "/caBundle").filter(|bundle| !bundle.is_empty());
    let bundle =
        bundle.ok_or("it has no caBundle, and trusting the system's roots is not supported")?;
    let pem = STANDARD
        .decode(bundle)
        .map_err(|error| format!("its caBundle is not base64: {error}"))?;
    let pem = String::from_utf8(pem).map_err(|_| "its caBundle is not PEM".to_owned())?;
    let identity = Identity::roots_only(&pem).map_err(|error| format!("its caBundle: {error}"))?;
    let options = ClientOptions {
        check: ServerCheck::ServerName,
        present_identity: false,
        alpn: vec![b"http/1.1".to_vec()],
        ..ClientOptions::default()
    };
    Ok(Connector::new(
        Arc::new(IdentityStore::new(identity)),
        options,
    ))
}

fn place(core: &Core, config: &Value) -> Result<Place, String> {
    if let Some(url) = meta::text(config, "/url") {
        return url_place(url);
    }
    let service = &config["service"];
    let text = |pointer: &str| meta::text(service, pointer).unwrap_or_default();
    let (namespace, name) = (text("/namespace"), text("/name"));
    let port = service["port"].as_u64().unwrap_or(443);
    let host = format!("{name}.{namespace}.svc");
    let path = if text("/path").is_empty() {
        "/"
    } else {
        text("/path")
    };
    let url = format!("https://{host}:{port}{path}");
    let addresses = endpoints(core, namespace, name, port)
        .map_err(|error| format!("failed to call webhook: Post {url:?}: {error}"))?;
    Ok(Place {
        addresses,
        name: host,
        path: path.to_owned(),
        url,
    })
}

/// The ready endpoints of a service: this process may be where cluster addresses are not translated.
fn endpoints(core: &Core, namespace: &str, name: &str, port: u64) -> Result<Vec<String>, String> {
    let service = core
        .get("services", namespace, name)
        .ok_or_else(|| format!("service {name:?} not found"))?;
    let ports = meta::list(&service.value, "/spec/ports");
    let entry = ports.iter().find(|entry| entry["port"] == port);
    let entry =
        entry.ok_or_else(|| format!("no service port {port} found for service {name:?}"))?;
    let port_name = meta::text(entry, "/name").unwrap_or_default();
    let (slices, _) = core
        .store
        .list("endpointslices.discovery.k8s.io", Some(namespace));
    let mut addresses = Vec::new();
    for slice in &slices {
        if slice.value["metadata"]["labels"]["kubernetes.io/service-name"] != name {
            continue;
        }
        let target = meta::list(&slice.value, "/ports")
            .iter()
            .find(|port| meta::text(port, "/name").unwrap_or_default() == port_name)
            .and_then(|port| port["port"].as_u64());
        let Some(target) = target else { continue };
        for endpoint in meta::list(&slice.value, "/endpoints") {
            if endpoint.pointer("/conditions/ready") != Some(&Value::Bool(false)) {
                let all = meta::list(endpoint, "/addresses")
                    .iter()
                    .filter_map(Value::as_str);
                addresses.extend(all.map(|address| format!("{address}:{target}")));
            }
        }
    }
    if addresses.is_empty() {
        return Err(format!("no endpoints available for service {name:?}"));
    }
    Ok(addresses)
}

fn url_place(url: &str) -> Result<Place, String> {
    let uri: http::Uri = url.parse().map_err(|error| format!("{url:?}: {error}"))?;
    let host = uri
        .host()
        .unwrap_or_default()
        .trim_matches(['[', ']'])
        .to_owned();
    if uri.scheme_str() != Some("https") || host.is_empty() {
        return Err(format!("{url:?}: only https URLs are supported"));
    }
    let port = uri.port_u16().unwrap_or(443);
    let shown = if host.contains(':') {
        format!("[{host}]")
    } else {
        host.clone()
    };
    let path = uri
        .path_and_query()
        .map_or("/", |path| path.as_str())
        .to_owned();
    Ok(Place {
        addresses: vec![format!("{shown}:{port}")],
        name: host,
        path,
        url: url.to_owned(),
    })
}
