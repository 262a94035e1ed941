//! Serving, and leaving without a request lost.
//!
//! When a pod is told to end, its clients do not know yet. So a service that gets SIGTERM goes on
//! serving for a while and asks each client, answer by answer, to use another connection; only then
//! does it stop to listen, and it ends when the last answer is out.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use axum::Router;
use axum::extract::{Request, State};
use axum::middleware::{Next, from_fn_with_state};
use axum::response::Response;
use http::HeaderValue;
use http::header::CONNECTION;
use tokio::net::TcpListener;
use tokio::signal::unix::{SignalKind, signal};

/// The longest that the last answers may take, beyond the ten seconds that reviews may wait.
const LAST_ANSWERS: Duration = Duration::from_secs(20);

/// Resolves when the process is asked to end, by SIGTERM or SIGINT.
pub async fn terminated() {
    let wait = |kind| async move {
        match signal(kind) {
            Ok(mut signal) => {
                signal.recv().await;
            }
            Err(error) => {
                tracing::warn!(%error, "cannot wait for a signal");
                std::future::pending().await
            }
        }
    };
    tokio::select! {
        () = wait(SignalKind::terminate()) => {}
        () = wait(SignalKind::interrupt()) => {}
    }
}

/// Listens for IPv6 and IPv4, or for IPv4 where the machine has nothing else.
///
/// # Errors
/// When the port is taken.
pub async fn listen(port: u16) -> std::io::Result<TcpListener> {
    let address = |ip: IpAddr| SocketAddr::new(ip, port);
    match TcpListener::bind(address(Ipv6Addr::UNSPECIFIED.into())).await {
        Err(error) if error.kind() != std::io::ErrorKind::AddrInUse => {
            TcpListener::bind(address(Ipv4Addr::UNSPECIFIED.into())).await
        }
        result => result,
    }
}

/// Serves until `stop` resolves, then for `linger` more, then until the last answer is out.
///
/// # Errors
/// When the listener fails for good.
pub async fn serve(
    listener: TcpListener,
    router: Router,
    stop: impl Future<Output = ()> + Send + 'static,
    linger: Duration,
) -> std::io::Result<()> {
    let leaving = Arc::new(AtomicBool::new(false));
    let router = router.layer(from_fn_with_state(Arc::clone(&leaving), ask_to_leave));
    let (closed_tx, closed_rx) = tokio::sync::oneshot::channel();
    let drain = async move {
        stop.await;
        tracing::info!(?linger, "leaving");
        leaving.store(true, Ordering::Relaxed);
        tokio::time::sleep(linger).await;
        let _ = closed_tx.send(());
    };
    let server = axum::serve(listener, router).with_graceful_shutdown(drain);
    let patience = async {
        let _ = closed_rx.await;
        tokio::time::sleep(LAST_ANSWERS).await;
    };
    tokio::select! {
        result = server.into_future() => result,
        () = patience => {
            tracing::warn!("gave up on answers that take too long");
            Ok(())
        }
    }
}

async fn ask_to_leave(
    State(leaving): State<Arc<AtomicBool>>,
    request: Request,
    next: Next,
) -> Response {
    let mut response = next.run(request).await;
    if leaving.load(Ordering::Relaxed) {
        response
            .headers_mut()
            .insert(CONNECTION, HeaderValue::from_static("close"));
    }
    response
}

#[cfg(test)]
mod tests {
    use super::*;
    use axum::routing::get;
    use tokio::io::{AsyncReadExt, AsyncWriteExt};
    use tokio::net::TcpStream;
    use tokio::sync::{Notify, oneshot};

    /// Sends a request and reads to the end of the answer's head and its two bytes of body.
    async fn ask(stream: &mut TcpStream, path: &str) -> String {
        let request = format!("GET {path} HTTP/1.1\r\nhost: x\r\n\r\n");
        stream.write_all(request.as_bytes()).await.expect("written");
        let mut text = String::new();
        let mut buffer = [0; 512];
        while !text.ends_with("\r\n\r\nhi") {
            let n = stream.read(&mut buffer).await.expect("read");
            assert_ne!(n, 0, "closed after {text:?}");
            text.push_str(&String::from_utf8_lossy(&buffer[..n]));
        }
        text
    }

    #[tokio::test]
    async fn requests_at_hand_and_shortly_after_are_answered() {
        let (started, release) = (Arc::new(Notify::new()), Arc::new(Notify::new()));
        let (told, awaited) = (Arc::clone(&started), Arc::clone(&release));
        let slow = move || async move {
            told.notify_one();
            awaited.notified().await;
            "hi"
        };
        let router = Router::new()
            .route("/slow", get(slow))
            .route("/", get(|| async { "hi" }));
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a free port");
        let address = listener.local_addr().expect("bound");
        let (stop_tx, stop_rx) = oneshot::channel::<()>();
        let stop = async { stop_rx.await.unwrap_or(()) };
        let server = tokio::spawn(serve(listener, router, stop, Duration::from_millis(300)));
        let mut at_hand = TcpStream::connect(address).await.expect("connected");
        let at_hand = tokio::spawn(async move { ask(&mut at_hand, "/slow").await });
        started.notified().await;
        let mut idle = TcpStream::connect(address).await.expect("connected");
        assert!(!ask(&mut idle, "/").await.contains("connection: close"));
        stop_tx.send(()).expect("the server runs");
        let answer = loop {
            let mut late = TcpStream::connect(address).await.expect("still listening");
            let answer = ask(&mut late, "/").await;
            if answer.contains("connection: close") {
                break answer;
            }
        };
        assert!(answer.starts_with("HTTP/1.1 200"), "{answer}");
        assert!(ask(&mut idle, "/").await.contains("connection: close"));
        release.notify_one();
        assert!(
            at_hand
                .await
                .expect("the client ends")
                .contains("connection: close")
        );
        server
            .await
            .expect("the server ends")
            .expect("without an error");
        assert!(TcpStream::connect(address).await.is_err());
    }
}
