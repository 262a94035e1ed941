//! The application's own probes, run in the pod on behalf of the kubelet, whose requests would
//! otherwise be captured and, under strict mutual TLS, refused.

use std::io;
use std::net::{IpAddr, SocketAddr};
use std::process::{ExitStatus, Stdio};
use std::time::Duration;

use axum::http::{HeaderMap, StatusCode, header};
use axum::response::{IntoResponse, Response};
use http_body_util::Full;
use hyper::Request;
use serde_json::Value;
use tokio::io::AsyncReadExt;
use tokio::process::Command;

use super::health;
use crate::http;

/// The kubelet's default.
const DEFAULT_LIMIT: Duration = Duration::from_secs(1);
/// What is told of what a command wrote, in characters.
const MESSAGE_MAX: usize = 512;
/// What is kept of what a command wrote, in bytes, as by the kubelet.
const OUTPUT_MAX: u64 = 10 << 10;
/// Headers of the kubelet's request that concern its connection, not the application.
const NOT_FORWARDED: [header::HeaderName; 4] = [
    header::HOST,
    header::CONNECTION,
    header::CONTENT_LENGTH,
    header::TRANSFER_ENCODING,
];

/// Runs a probe of this workload's own, as its group has it: whether it succeeds, and else why not.
pub(crate) async fn check(probe: &Value, own: IpAddr, limit: Duration) -> Result<(), String> {
    let host = |of: &Value| {
        let host = of["host"].as_str().filter(|host| !host.is_empty());
        host.map_or_else(|| own.to_string(), str::to_owned)
    };
    if probe["httpGet"].is_object() {
        let get = &probe["httpGet"];
        let request = http_request(get, &host(get), &HeaderMap::new())?;
        let answer = http::send(request, limit).await?;
        // As the kubelet counts.
        return match answer.status.as_u16() {
            200..400 => Ok(()),
            _ => Err(format!("the answer is {}", answer.status)),
        };
    }
    if probe["tcpSocket"].is_object() {
        let socket = &probe["tcpSocket"];
        return tcp(socket, &host(socket), limit).await;
    }
    if probe["grpc"].is_object() {
        return grpc_health(&probe["grpc"], own, limit).await;
    }
    if probe["exec"].is_object() {
        return exec(&probe["exec"], limit).await;
    }
    Err("this kind of probe is not supported".to_owned())
}

/// Runs a command. One that does not end in time is killed.
async fn exec(exec: &Value, limit: Duration) -> Result<(), String> {
    let words = exec["command"].as_array().into_iter().flatten();
    let words: Vec<&str> = words.filter_map(Value::as_str).collect();
    let [program, args @ ..] = words.as_slice() else {
        return Err("there is no command".to_owned());
    };
    let mut command = Command::new(program);
    command.args(args).kill_on_drop(true);
    let ran = tokio::time::timeout(limit, run_to_end(command)).await;
    let ran = ran.map_err(|_| format!("{program} has not ended within {limit:?}"))?;
    let (status, said) = ran.map_err(|e| format!("cannot run {program}: {e}"))?;
    if status.success() {
        return Ok(());
    }
    let said = String::from_utf8_lossy(&said);
    let said: String = said.trim().chars().take(MESSAGE_MAX).collect();
    Err(format!("{program}: {status} {said}"))
}

/// How a command ended, and the beginning of what it wrote as errors. The rest is read and dropped: a
/// command must neither fill this process nor wait for somebody who reads on.
async fn run_to_end(mut command: Command) -> io::Result<(ExitStatus, Vec<u8>)> {
    command.stdin(Stdio::null()).stdout(Stdio::null());
    let mut child = command.stderr(Stdio::piped()).spawn()?;
    let mut errors = child.stderr.take().expect("it is a pipe");
    let mut said = Vec::new();
    let mut kept = (&mut errors).take(OUTPUT_MAX);
    kept.read_to_end(&mut said).await?;
    tokio::io::copy(&mut errors, &mut tokio::io::sink()).await?;
    Ok((child.wait().await?, said))
}

/// How long a probe may take.
pub(crate) fn limit(probe: &Value) -> Duration {
    let seconds = probe["timeoutSeconds"].as_u64().filter(|s| *s > 0);
    seconds.map_or(DEFAULT_LIMIT, Duration::from_secs)
}

/// Runs a probe or a hook as it was before injection, and answers as the application did.
pub(crate) async fn run(
    probe: &Value,
    pod: IpAddr,
    headers: &HeaderMap,
    limit: Duration,
) -> Response {
    let outcome = if probe["httpGet"].is_object() {
        return http_get(&probe["httpGet"], pod, headers, limit).await;
    } else if probe["tcpSocket"].is_object() {
        tcp(&probe["tcpSocket"], &pod.to_string(), limit).await
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
    let answer = match http_request(get, &pod.to_string(), headers) {
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
    host: &str,
    headers: &HeaderMap,
) -> Result<Request<Full<bytes::Bytes>>, String> {
    let scheme = get["scheme"]
        .as_str()
        .unwrap_or("HTTP")
        .to_ascii_lowercase();
    let path = get["path"].as_str().unwrap_or("/").trim_start_matches('/');
    let port = port(get)?;
    let url = match host.parse() {
        Ok(ip) => format!("{scheme}://{}/{path}", SocketAddr::new(ip, port)),
        Err(_) => format!("{scheme}://{host}:{port}/{path}"),
    };
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

async fn tcp(socket: &Value, host: &str, limit: Duration) -> Result<(), String> {
    let connected = tokio::time::timeout(limit, http::dial(host, port(socket)?)).await;
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

#[cfg(test)]
mod tests {
    use super::*;

    /// The most memory that this process has ever had, in kilobytes.
    fn peak() -> u64 {
        let status = std::fs::read_to_string("/proc/self/status").expect("Linux");
        let mut lines = status.lines();
        let line = lines.find_map(|line| line.strip_prefix("VmHWM:"));
        let words = line.and_then(|line| line.split_whitespace().next());
        words.and_then(|n| n.parse().ok()).expect("a number")
    }

    #[tokio::test]
    async fn what_a_command_writes_does_not_pile_up() {
        let own = IpAddr::from([127, 0, 0, 1]);
        let limit = Duration::from_secs(60);
        let script = "echo wrong >&2; head -c 400M /dev/zero >&2; head -c 400M /dev/zero; exit 3";
        let probe = serde_json::json!({"exec": {"command": ["sh", "-c", script]}});
        let before = peak();
        let why = check(&probe, own, limit).await.expect_err("it says so");
        assert!(why.starts_with("sh: exit status: 3 wrong"), "{why}");
        // The kernel's figure is near the truth alone, and may be less than before.
        let more = peak().saturating_sub(before);
        assert!(more < 200 << 10, "{more} kB more");
        let probe = serde_json::json!({"exec": {"command": ["sh", "-c", "yes | head -c 1M"]}});
        assert_eq!(check(&probe, own, limit).await, Ok(()));
    }
}
