//! HTTP/2 and gRPC from one sidecar to another.

use anyhow::{Context, ensure};
use http_body_util::{BodyExt, Empty, Full};
use hyper::{
    Request, Response,
    body::{Bytes, Frame, Incoming},
};
use hyper_util::rt::TokioIo;
use lateen_e2e::{
    Idle, Mesh, PATIENCE, eventually,
    grpc::{self, Client},
    idle::{self, demand},
    inside,
};
use tokio::{net::TcpStream, sync::mpsc};

use super::{envoy, shared};

const GRPC: u16 = 7070;
const WEB: u16 = 7071;

/// A server and a client, each with a sidecar, and a Service between them.
struct Stage {
    server: Idle,
    client: Idle,
    service: String,
    ip: String,
}

impl Stage {
    async fn set(mesh: &Mesh) -> anyhow::Result<Stage> {
        let ports = [("grpc-echo", GRPC), ("http2-web", WEB)];
        let service = idle::service("echo", "echo-server", &ports);
        mesh.apply(&service).await?;
        Ok(Stage {
            server: Idle::start(mesh, "echo-server").await?,
            client: Idle::start(mesh, "echo-client").await?,
            ip: mesh.cluster_ip("echo").await?,
            service,
        })
    }

    async fn grpc(&self) -> anyhow::Result<Client> {
        let stream = self.client.connect(inside::at(&self.ip, GRPC)?).await?;
        Client::new(stream, &format!("echo:{GRPC}")).await
    }

    async fn clear(self, mesh: &Mesh) -> anyhow::Result<()> {
        mesh.delete(&self.service).await?;
        self.client.remove(mesh).await?;
        self.server.remove(mesh).await
    }
}

pub(crate) async fn calls_pass_both_sidecars(mesh: &Option<Mesh>) -> anyhow::Result<()> {
    let mesh = shared(mesh);
    let stage = Stage::set(mesh).await?;
    let served = grpc::serve(stage.server.listen(GRPC).await?, grpc::echo);
    let result = async {
        unary(&stage).await?;
        streaming(&stage).await?;
        if envoy::is_everywhere(mesh).await? {
            return Ok(());
        }
        counted(mesh, &stage).await
    }
    .await;
    served.abort();
    stage.clear(mesh).await?;
    result
}

async fn unary(stage: &Stage) -> anyhow::Result<()> {
    let reply = eventually("a call to be answered", async || {
        let reply = stage
            .grpc()
            .await?
            .unary("/test.Echo/Echo", b"hello")
            .await?;
        ensure!(reply.trailers.contains_key("x-n-bytes"), "{reply:?}");
        Ok(reply)
    })
    .await?;
    ensure!(reply.body == grpc::message(b"hello"), "{reply:?}");
    ensure!(reply.trailers["grpc-status"] == "0", "{reply:?}");
    ensure!(reply.trailers["x-n-bytes"] == "10", "{reply:?}");
    let certificate = reply.headers["x-seen-certificate"].to_str()?;
    ensure!(
        certificate.contains("URI=spiffe://cluster.local/ns/default/sa/default"),
        "no mutual TLS: {certificate}"
    );
    // A status without a body is in the headers ("trailers only").
    let refused = stage.grpc().await?.unary("/test.Echo/Refuse", b"").await?;
    ensure!(refused.headers["grpc-status"] == "7", "{refused:?}");
    // More than any window of flow control, so that it has to move both ways at once.
    let large = vec![b'x'; 4 << 20];
    let reply = stage.grpc().await?.unary("/test.Echo/Echo", &large).await?;
    ensure!(reply.body == grpc::message(&large), "a large message broke");
    ensure!(reply.trailers["grpc-status"] == "0", "{:?}", reply.trailers);
    Ok(())
}

/// Each message is answered before the next is sent: nobody on the way may hold one back.
async fn streaming(stage: &Stage) -> anyhow::Result<()> {
    let mut client = stage.grpc().await?;
    let (frames_tx, body) = grpc::frames();
    let first = grpc::message(b"0");
    frames_tx.send(Ok(Frame::data(first.clone()))).await?;
    let mut answer = client.open("/test.Echo/Echo", body).await?.into_body();
    ensure!(grpc::next_data(&mut answer).await? == first, "other bytes");
    // A second call on the same connection, while the first is open.
    let reply = client.unary("/test.Echo/Echo", b"beside").await?;
    ensure!(reply.trailers["grpc-status"] == "0", "{reply:?}");
    for n in 1..20 {
        let sent = grpc::message(n.to_string().as_bytes());
        frames_tx.send(Ok(Frame::data(sent.clone()))).await?;
        ensure!(grpc::next_data(&mut answer).await? == sent, "other bytes");
    }
    drop(frames_tx);
    let rest = answer.collect().await?;
    let trailers = rest.trailers().context("no trailers")?;
    ensure!(trailers["grpc-status"] == "0", "{trailers:?}");
    Ok(())
}

async fn counted(mesh: &Mesh, stage: &Stage) -> anyhow::Result<()> {
    let ok = ["request_protocol=\"grpc\"", "grpc_response_status=\"0\""];
    let refused = ["request_protocol=\"grpc\"", "grpc_response_status=\"7\""];
    let service = "destination_service=\"echo.default.svc.cluster.local\"";
    eventually("both sides to count the calls", async || {
        let source = stage.client.metrics(mesh).await?;
        let destination = stage.server.metrics(mesh).await?;
        for status in [&ok, &refused] {
            let both = |more: &[&'static str]| [&status[..], &[service], more].concat();
            let sides = [
                (
                    &source,
                    both(&[
                        "reporter=\"source\"",
                        "destination_workload=\"echo-server\"",
                    ]),
                ),
                (
                    &destination,
                    both(&[
                        "reporter=\"destination\"",
                        "source_workload=\"echo-client\"",
                        "connection_security_policy=\"mutual_tls\"",
                    ]),
                ),
            ];
            for (metrics, labels) in sides {
                demand(metrics, "istio_requests_total", &labels, 1.0)?;
            }
        }
        Ok(())
    })
    .await
}

pub(crate) async fn calls_pass_the_gateway(mesh: &Option<Mesh>) -> anyhow::Result<()> {
    const RULES: &str = "
apiVersion: networking.istio.io/v1
kind: Gateway
metadata: {name: echo}
spec:
  selector: {istio: ingressgateway}
  servers:
  - port: {number: 80, name: grpc, protocol: GRPC}
    hosts: [echo.example.com]
---
apiVersion: networking.istio.io/v1
kind: VirtualService
metadata: {name: echo}
spec:
  hosts: [echo.example.com]
  gateways: [echo]
  http:
  - match: [{uri: {prefix: /test.Echo/}}]
    route: [{destination: {host: echo, port: {number: 7070}}}]
";
    let mesh = shared(mesh);
    let stage = Stage::set(mesh).await?;
    let served = grpc::serve(stage.server.listen(GRPC).await?, grpc::echo);
    mesh.apply(RULES).await?;
    let result = eventually("a call through the gateway", async || {
        let stream = TcpStream::connect(mesh.http).await?;
        let mut client = Client::new(stream, "echo.example.com").await?;
        let reply = client.unary("/test.Echo/Echo", b"from outside").await?;
        let status = reply.trailers.get("grpc-status").context("no trailers")?;
        ensure!(status == "0", "{reply:?}");
        ensure!(reply.body == grpc::message(b"from outside"), "{reply:?}");
        // What no rule takes is an answer of gRPC as well: UNIMPLEMENTED, from a 404.
        let other = client.unary("/other.Service/Call", b"").await?;
        ensure!(
            other.headers.get("grpc-status").is_some_and(|s| s == "12"),
            "{other:?}"
        );
        Ok(())
    })
    .await;
    served.abort();
    mesh.delete(RULES).await?;
    stage.clear(mesh).await?;
    result
}

/// Answers with one message. Then `/test.Echo/Break` fails, and `/test.Echo/Wait` waits until the
/// client is gone, which it tells.
async fn answer_once(
    request: Request<Incoming>,
    gone_tx: mpsc::Sender<()>,
) -> Response<grpc::Frames> {
    let (frames_tx, body) = grpc::frames();
    let breaks = request.uri().path() == "/test.Echo/Break";
    tokio::spawn(async move {
        // Kept, since the client's side of the call is open.
        let mut question = request.into_body();
        let message = grpc::message(b"once");
        if frames_tx.send(Ok(Frame::data(message))).await.is_err() {
            return;
        }
        if breaks {
            // A failure overtakes what is not sent yet: the client ends its side when it has it.
            question.frame().await;
            // Nobody is left to care where this does not arrive.
            let _ = frames_tx.send(Err(std::io::Error::other("broken"))).await;
            return;
        }
        frames_tx.closed().await;
        let _ = gone_tx.send(()).await;
    });
    let mut response = Response::new(body);
    let kind = "application/grpc".parse().expect("text");
    response.headers_mut().insert("content-type", kind);
    response
}

/// What the server of the web saw: the version and the path.
async fn web(request: Request<Incoming>) -> Response<Full<Bytes>> {
    let seen = format!("{:?} {}", request.version(), request.uri().path());
    Response::new(seen.into())
}

pub(crate) async fn calls_that_break_or_are_given_up_end_on_both_sides(
    mesh: &Option<Mesh>,
) -> anyhow::Result<()> {
    let mesh = shared(mesh);
    let stage = Stage::set(mesh).await?;
    let (gone_tx, mut gone_rx) = mpsc::channel(1);
    let answer = move |request| answer_once(request, gone_tx.clone());
    let served = grpc::serve(stage.server.listen(GRPC).await?, answer);
    let result = async {
        let mut answer = eventually("a call to be answered", async || {
            once(&stage, "Break").await
        })
        .await?
        .0;
        // Cut off: without trailers it must not look like an end.
        let rest = answer.frame().await;
        ensure!(
            matches!(rest, Some(Err(_))),
            "a broken call ended in {rest:?}"
        );
        let (answer, asking) = once(&stage, "Wait").await?;
        drop((answer, asking));
        tokio::time::timeout(PATIENCE, gone_rx.recv())
            .await
            .context("the server still waits for a client that is gone")?
            .context("the server is gone")
    }
    .await;
    served.abort();
    stage.clear(mesh).await?;
    result
}

/// Opens a call and takes its first message.
async fn once(stage: &Stage, method: &str) -> anyhow::Result<(Incoming, grpc::FrameSender)> {
    let (frames_tx, body) = grpc::frames();
    let mut client = stage.grpc().await?;
    let answer = client.open(&format!("/test.Echo/{method}"), body).await?;
    let mut answer = answer.into_body();
    ensure!(
        grpc::next_data(&mut answer).await? == grpc::message(b"once"),
        "other bytes"
    );
    Ok((answer, frames_tx))
}

pub(crate) async fn more_calls_than_one_connection_takes(
    mesh: &Option<Mesh>,
) -> anyhow::Result<()> {
    const N_CALLS: usize = 12;
    let mesh = shared(mesh);
    let stage = Stage::set(mesh).await?;
    // Two calls for each connection: the sidecar needs six.
    let served = grpc::serve_few(stage.server.listen(GRPC).await?, 2, grpc::echo);
    let result = async {
        eventually("a call to be answered", async || {
            stage.grpc().await?.unary("/test.Echo/Echo", b"").await
        })
        .await?;
        let client = stage.grpc().await?;
        let calls = (0..N_CALLS).map(|n| open_call(client.clone(), n));
        let all = futures::future::try_join_all(calls);
        let calls = tokio::time::timeout(PATIENCE, all)
            .await
            .context("calls wait for each other")??;
        for (answer, asking) in calls {
            drop(asking);
            let rest = answer.collect().await?;
            let trailers = rest.trailers().context("no trailers")?;
            ensure!(trailers["grpc-status"] == "0", "{trailers:?}");
        }
        Ok(())
    }
    .await;
    served.abort();
    stage.clear(mesh).await?;
    result
}

/// Opens a call, which stays open, and sees its first message come back.
async fn open_call(mut client: Client, n: usize) -> anyhow::Result<(Incoming, grpc::FrameSender)> {
    let (frames_tx, body) = grpc::frames();
    let message = grpc::message(n.to_string().as_bytes());
    frames_tx.send(Ok(Frame::data(message.clone()))).await?;
    let mut answer = client.open("/test.Echo/Echo", body).await?.into_body();
    ensure!(
        grpc::next_data(&mut answer).await? == message,
        "other bytes"
    );
    Ok((answer, frames_tx))
}

pub(crate) async fn an_http2_port_is_spoken_to_in_http2(mesh: &Option<Mesh>) -> anyhow::Result<()> {
    let mesh = shared(mesh);
    let stage = Stage::set(mesh).await?;
    let served = grpc::serve(stage.server.listen(WEB).await?, web);
    let result = eventually("the server to see HTTP/2", async || {
        // The client speaks HTTP/1.1: the port's name decides.
        let stream = stage.client.connect(inside::at(&stage.ip, WEB)?).await?;
        let (mut sender, connection) =
            hyper::client::conn::http1::handshake(TokioIo::new(stream)).await?;
        tokio::spawn(connection);
        let request = Request::get("/page").header("host", format!("echo:{WEB}"));
        let response = sender
            .send_request(request.body(Empty::<Bytes>::new())?)
            .await?;
        let status = response.status();
        let seen = response.into_body().collect().await?.to_bytes();
        ensure!(
            status == 200 && seen.as_ref() == b"HTTP/2.0 /page",
            "{status} {seen:?}"
        );
        if envoy::is_everywhere(mesh).await? {
            return Ok(());
        }
        let metrics = stage.client.metrics(mesh).await?;
        let labels = [
            "request_protocol=\"http\"",
            "grpc_response_status=\"\"",
            "destination_service=\"echo.default.svc.cluster.local\"",
        ];
        demand(&metrics, "istio_requests_total", &labels, 1.0)
    })
    .await;
    served.abort();
    stage.clear(mesh).await?;
    result
}
