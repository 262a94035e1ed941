//! Readiness, liveness and startup probes.

use std::net::SocketAddr;
use std::time::Duration;

use bytes::Bytes;
use http_body_util::{BodyExt, Empty, Full};
use hyper_util::rt::{TokioExecutor, TokioIo};
use k8s_openapi::api::core::v1::{Container, GRPCAction, HTTPGetAction, Probe};
use tokio::net::TcpStream;
use tokio::sync::mpsc;

use super::hooks::Target;

/// A readiness probe looks this often until it first succeeds, so that a pod is ready when it can be.
const EAGER: Duration = Duration::from_millis(200);

/// What probes tell the container's task.
#[derive(Debug)]
pub(super) enum Verdict {
    Started,
    Ready(bool),
    Unhealthy {
        probe: &'static str,
        message: String,
    },
    Kill(String),
}

/// Runs all probes of a container, until nobody wants their verdicts any more.
pub(super) async fn run(
    container: &Container,
    target: &Target,
    verdict_tx: &mpsc::Sender<Verdict>,
) {
    // The others wait for the startup probe (Kubernetes, "container probes").
    if let Some(probe) = &container.startup_probe
        && !run_startup(probe, target, verdict_tx).await
    {
        return;
    }
    let readiness = async {
        if let Some(probe) = &container.readiness_probe {
            run_readiness(probe, target, verdict_tx).await;
        }
    };
    let liveness = async {
        if let Some(probe) = &container.liveness_probe {
            run_liveness(probe, target, verdict_tx).await;
        }
    };
    tokio::join!(readiness, liveness);
}

async fn run_startup(probe: &Probe, target: &Target, verdict_tx: &mpsc::Sender<Verdict>) -> bool {
    delay(probe).await;
    // It looks more often than asked, within the time that the user allowed.
    let allowed = threshold(probe.failure_threshold, 3).unsigned_abs();
    let (begun, mut told) = (tokio::time::Instant::now(), 0);
    loop {
        let Err(message) = attempt(probe, target).await else {
            return verdict_tx.send(Verdict::Started).await.is_ok();
        };
        let periods = begun.elapsed().div_duration_f64(period(probe)) as u32;
        if periods > told {
            told = periods;
            let _ = verdict_tx
                .send(Verdict::Unhealthy {
                    probe: "Startup",
                    message,
                })
                .await;
        }
        if periods >= allowed {
            let _ = verdict_tx
                .send(Verdict::Kill("failed startup probe".into()))
                .await;
            return false;
        }
        tokio::time::sleep(period(probe).min(EAGER)).await;
    }
}

async fn run_readiness(probe: &Probe, target: &Target, verdict_tx: &mpsc::Sender<Verdict>) {
    delay(probe).await;
    let (mut ready, mut successes, mut failures) = (false, 0, 0);
    let mut ever = false;
    loop {
        let before = ready;
        match attempt(probe, target).await {
            Ok(()) => {
                (successes, failures) = (successes + 1, 0);
                ready |= successes >= threshold(probe.success_threshold, 1);
            }
            Err(message) => {
                (successes, failures) = (0, failures + 1);
                ready &= failures < threshold(probe.failure_threshold, 3);
                // Before the first success a refusal is just a program that is not up yet.
                if ever || failures % 10 == 0 {
                    let _ = verdict_tx
                        .send(Verdict::Unhealthy {
                            probe: "Readiness",
                            message,
                        })
                        .await;
                }
            }
        }
        ever |= ready;
        if ready != before && verdict_tx.send(Verdict::Ready(ready)).await.is_err() {
            return;
        }
        tokio::time::sleep(if ever {
            period(probe)
        } else {
            period(probe).min(EAGER)
        })
        .await;
    }
}

async fn run_liveness(probe: &Probe, target: &Target, verdict_tx: &mpsc::Sender<Verdict>) {
    delay(probe).await;
    let mut failures = 0;
    loop {
        tokio::time::sleep(period(probe)).await;
        match attempt(probe, target).await {
            Ok(()) => failures = 0,
            Err(message) => {
                failures += 1;
                let _ = verdict_tx
                    .send(Verdict::Unhealthy {
                        probe: "Liveness",
                        message,
                    })
                    .await;
            }
        }
        if failures >= threshold(probe.failure_threshold, 3) {
            let _ = verdict_tx
                .send(Verdict::Kill("failed liveness probe".into()))
                .await;
            return;
        }
    }
}

fn seconds(value: Option<i32>, default: u64) -> Duration {
    let value = value
        .and_then(|value| u64::try_from(value).ok())
        .filter(|value| *value > 0);
    Duration::from_secs(value.unwrap_or(default))
}

fn period(probe: &Probe) -> Duration {
    seconds(probe.period_seconds, 10)
}

fn threshold(value: Option<i32>, default: i32) -> i32 {
    value.unwrap_or(default).max(1)
}

async fn delay(probe: &Probe) {
    let delay = u64::try_from(probe.initial_delay_seconds.unwrap_or(0)).unwrap_or(0);
    tokio::time::sleep(Duration::from_secs(delay)).await;
}

async fn attempt(probe: &Probe, target: &Target) -> Result<(), String> {
    let timeout = seconds(probe.timeout_seconds, 1);
    if let Some(action) = &probe.http_get {
        return target.http(action, timeout).await;
    }
    if let Some(action) = &probe.tcp_socket {
        return target.tcp(action, timeout).await;
    }
    if let Some(action) = &probe.exec {
        return target.exec(action, timeout).await;
    }
    if let Some(action) = &probe.grpc {
        let call = grpc(target, action);
        return tokio::time::timeout(timeout, call)
            .await
            .unwrap_or_else(|_| Err(format!("gRPC health check timed out after {timeout:?}")));
    }
    Err("the probe has no action".to_owned())
}

/// One GET; success is 2xx or 3xx, as for Kubernetes.
pub(super) async fn http_get(address: SocketAddr, action: &HTTPGetAction) -> Result<(), String> {
    if action
        .scheme
        .as_deref()
        .is_some_and(|scheme| scheme.eq_ignore_ascii_case("https"))
    {
        return Err("probes with scheme HTTPS are not supported by this platform".to_owned());
    }
    let text = |error: &dyn std::fmt::Display| format!("Get http://{address}: {error}");
    let stream = TcpStream::connect(address)
        .await
        .map_err(|error| text(&error))?;
    let (mut sender, connection) = hyper::client::conn::http1::handshake(TokioIo::new(stream))
        .await
        .map_err(|error| text(&error))?;
    let connection = AbortOnDrop(tokio::spawn(async move {
        let _ = connection.await;
    }));
    let path = action
        .path
        .as_deref()
        .filter(|path| !path.is_empty())
        .unwrap_or("/");
    let headers = action.http_headers.iter().flatten();
    let mut request = http::Request::get(if path.starts_with('/') {
        path.to_owned()
    } else {
        format!("/{path}")
    });
    let host = headers
        .clone()
        .find(|header| header.name.eq_ignore_ascii_case("host"));
    request = request.header(
        "host",
        host.map_or_else(|| address.to_string(), |header| header.value.clone()),
    );
    request = request
        .header("user-agent", "kube-probe/1.32")
        .header("connection", "close");
    for header in headers.filter(|header| !header.name.eq_ignore_ascii_case("host")) {
        request = request.header(&header.name, &header.value);
    }
    let request = request
        .body(Empty::<Bytes>::new())
        .map_err(|error| text(&error))?;
    let status = sender
        .send_request(request)
        .await
        .map_err(|error| text(&error))?
        .status();
    drop(connection);
    if status.is_success() || status.is_redirection() {
        Ok(())
    } else {
        Err(format!(
            "HTTP probe failed with statuscode: {}",
            status.as_u16()
        ))
    }
}

struct AbortOnDrop(tokio::task::JoinHandle<()>);

impl Drop for AbortOnDrop {
    fn drop(&mut self) {
        self.0.abort();
    }
}

/// One `grpc.health.v1.Health/Check`; the message is small enough to write by hand.
async fn grpc(target: &Target, action: &GRPCAction) -> Result<(), String> {
    let port =
        u16::try_from(action.port).map_err(|_| format!("port {} is out of range", action.port))?;
    let address = SocketAddr::new(target.pod_ip(), port);
    let text = |error: &dyn std::fmt::Display| format!("gRPC health check of {address}: {error}");
    let stream = TcpStream::connect(address)
        .await
        .map_err(|error| text(&error))?;
    let (mut sender, connection) =
        hyper::client::conn::http2::handshake(TokioExecutor::new(), TokioIo::new(stream))
            .await
            .map_err(|error| text(&error))?;
    let _connection = AbortOnDrop(tokio::spawn(async move {
        let _ = connection.await;
    }));
    let body = health_request(action.service.as_deref().unwrap_or_default());
    let request = http::Request::post(format!("http://{address}/grpc.health.v1.Health/Check"))
        .header("content-type", "application/grpc")
        .header("te", "trailers")
        .body(Full::new(body))
        .map_err(|error| text(&error))?;
    let response = sender
        .send_request(request)
        .await
        .map_err(|error| text(&error))?;
    let body = response
        .into_body()
        .collect()
        .await
        .map_err(|error| text(&error))?
        .to_bytes();
    if is_serving(&body) {
        Ok(())
    } else {
        Err(text(&"not serving"))
    }
}

/// A length-prefixed `HealthCheckRequest { service = 1 }`.
fn health_request(service: &str) -> Bytes {
    let service = &service.as_bytes()[..service.len().min(127)];
    let mut message = Vec::new();
    if !service.is_empty() {
        message.push(0x0a);
        message.push(u8::try_from(service.len()).unwrap_or(127));
        message.extend_from_slice(service);
    }
    let mut frame = vec![0];
    frame.extend_from_slice(&u32::try_from(message.len()).unwrap_or(0).to_be_bytes());
    frame.extend_from_slice(&message);
    frame.into()
}

/// Whether a `HealthCheckResponse { status = 1 }` says SERVING (1).
fn is_serving(frame: &[u8]) -> bool {
    frame.get(5..7) == Some(&[0x08, 0x01])
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn health_messages() {
        assert_eq!(&health_request("")[..], [0, 0, 0, 0, 0]);
        assert_eq!(
            &health_request("ab")[..],
            [0, 0, 0, 0, 4, 0x0a, 2, b'a', b'b']
        );
        assert!(is_serving(&[0, 0, 0, 0, 2, 8, 1]));
        assert!(!is_serving(&[0, 0, 0, 0, 2, 8, 2]));
        assert!(!is_serving(&[]));
    }

    #[tokio::test]
    async fn http_statuses() {
        use tokio::io::{AsyncReadExt, AsyncWriteExt};
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let check = async |status: &'static str| {
            let action = HTTPGetAction {
                path: Some("/x".into()),
                ..HTTPGetAction::default()
            };
            let serve = async {
                let (mut stream, _) = listener.accept().await.unwrap();
                let mut buffer = [0; 1024];
                let n = stream.read(&mut buffer).await.unwrap();
                assert!(buffer[..n].starts_with(b"GET /x HTTP/1.1\r\n"));
                let reply = format!("HTTP/1.1 {status}\r\ncontent-length: 0\r\n\r\n");
                stream.write_all(reply.as_bytes()).await.unwrap();
            };
            tokio::join!(http_get(address, &action), serve).0
        };
        assert_eq!(check("200 OK").await, Ok(()));
        assert_eq!(check("302 Found").await, Ok(()));
        assert_eq!(
            check("503 No").await,
            Err("HTTP probe failed with statuscode: 503".into())
        );
    }
}
