//! The base of the admin interfaces: serving a router on a listener until told to stop.

use std::future::Future;

pub use axum::Router;

/// Serves a router until `stop` resolves.
pub async fn serve(
    listener: tokio::net::TcpListener,
    router: Router,
    stop: impl Future<Output = ()> + Send + 'static,
) -> std::io::Result<()> {
    let service = router.into_make_service_with_connect_info::<std::net::SocketAddr>();
    axum::serve(listener, service)
        .with_graceful_shutdown(stop)
        .await
}

/// An answer in Prometheus' text form.
pub fn prometheus(text: String) -> axum::response::Response {
    use axum::response::IntoResponse;
    (
        [("content-type", "text/plain; version=0.0.4; charset=utf-8")],
        text,
    )
        .into_response()
}
