//! The application's own probes, run in the pod on behalf of the kubelet, whose requests would
//! otherwise be captured and, under strict mutual TLS, refused.

use std::net::{IpAddr, SocketAddr};
use std::time::Duration;

use axum::http::{HeaderMap, StatusCode, header};
use axum::response::{IntoResponse, Response};
use http_body_util::Full;
use hyper::Request;
use serde_json::Value;

use super::health;
use crate::http;

/// The kubelet's default.
const DEFAULT_LIMIT: Duration = Duration::from_secs(1);
/// Headers of the kubelet's request that concern its connection, not the application.
const NOT_FORWARDED: [header::HeaderName; 4] = [
    header::HOST,
    header::CONNECTION,
    header::CONTENT_LENGTH,
    header::TRANSFER_ENCODING,
];

/// Runs a probe as it was before injection, and answers as the application did.
pub(crate) async fn run(probe: &Value, pod: IpAddr, headers: &HeaderMap) -> Response {
    let seconds = probe["timeoutSeconds"].as_u64().filter(|s| *s > 0);
    let limit = seconds.map_or(DEFAULT_LIMIT, Duration::from_secs);
    let outcome = if probe["httpGet"].is_object() {
        return http_get(&probe["httpGet"], pod, headers, limit).await;
    } else if probe["tcpSocket"].is_object() {
        tcp(&probe["tcpSocket"], pod, limit).await
    } else if probe["grpc"].is_object() {
        grpc_health(&probe["grpc"], pod, limit).await
    } else {
        Err("this kind of probe is not supported".to_owned())
    };
    match outcome {
        Ok(()) => StatusCode::OK.into_response(),
        Err(why) => (StatusCode::INTERNAL_SERVER_ERROR, why).into_response(),
    }
}

async fn http_get(get: &Value, pod: IpAddr, headers: &HeaderMap, limit: Duration) -> Response {
    let answer = match http_request(get, pod, headers) {
        Ok(request) => http::send(request, limit).await,
        Err(why) => Err(why),
    };
    match answer {
        Ok(answer) => {
            let kind = answer.headers.get(header::CONTENT_TYPE).cloned();
            let kind = kind.map(|value| [(header::CONTENT_TYPE, value)]);
            (
                answer.status,
                kind.map(HeaderMap::from_iter).unwrap_or_default(),
                answer.body,
            )
                .into_response()
        }
        Err(why) => (StatusCode::INTERNAL_SERVER_ERROR, why).into_response(),
    }
}

fn http_request(
    get: &Value,
    pod: IpAddr,
    headers: &HeaderMap,
) -> Result<Request<Full<bytes::Bytes>>, String> {
    let scheme = get["scheme"]
        .as_str()
        .unwrap_or("HTTP")
        .to_ascii_lowercase();
    let path = get["path"].as_str().unwrap_or("/").trim_start_matches('/');
    let url = format!("{scheme}://{}/{path}", SocketAddr::new(pod, port(get)?));
    let given: Vec<_> = get["httpHeaders"]
        .as_array()
        .into_iter()
        .flatten()
        .map(|header| {
            let text = |key: &str| header[key].as_str().unwrap_or_default();
            (text("name"), text("value"))
        })
        .collect();
    // The kubelet sends the probe's own headers too.
    let is_given = |name: &str| given.iter().any(|(own, _)| own.eq_ignore_ascii_case(name));
    let forwarded = headers
        .iter()
        .filter(|(name, _)| !NOT_FORWARDED.contains(name) && !is_given(name.as_str()));
    let mut request = Request::get(url);
    for (name, value) in forwarded {
        request = request.header(name, value);
    }
    for (name, value) in &given {
        request = request.header(*name, *value);
    }
    request.body(Full::default()).map_err(|e| e.to_string())
}

async fn tcp(socket: &Value, pod: IpAddr, limit: Duration) -> Result<(), String> {
    let connected = tokio::time::timeout(limit, http::dial(&pod.to_string(), port(socket)?)).await;
    let connected = connected.map_err(|_| format!("no connection within {limit:?}"))?;
    connected.map(drop).map_err(|e| e.to_string())
}

async fn grpc_health(grpc: &Value, pod: IpAddr, limit: Duration) -> Result<(), String> {
    let service = grpc["service"].as_str().unwrap_or_default().to_owned();
    let checked = tokio::time::timeout(limit, health::check(pod, port(grpc)?, service)).await;
    checked.map_err(|_| format!("no answer within {limit:?}"))?
}

fn port(of: &Value) -> Result<u16, String> {
    let port = of["port"].as_u64().and_then(|p| u16::try_from(p).ok());
    // Named ports are resolved when the probe is rewritten.
    port.ok_or_else(|| format!("{} is no port number", of["port"]))
}
