//! Requests that become WebSockets: ports of pods and programs in them.
//!
//! The subprotocols are those of Kubernetes, `v4.channel.k8s.io` and `v5.channel.k8s.io`: each binary
//! message begins with the number of its channel. SPDY, which older clients speak, is not supported.

use std::sync::{Arc, Mutex};

use http::{HeaderMap, HeaderValue, StatusCode, header};
use hyper::upgrade::{OnUpgrade, Upgraded};
use hyper_util::rt::TokioIo;
use tokio_tungstenite::WebSocketStream;
use tokio_tungstenite::tungstenite::{handshake::derive_accept_key, protocol::Role};

use super::core::Core;
use super::error::ApiError;
use super::reply::{self, Reply};

/// The connection after the upgrade.
pub(super) type WebSocket = WebSocketStream<TokioIo<Upgraded>>;

/// A request that may become a WebSocket.
#[derive(Debug)]
pub(crate) struct WebSocketRequest {
    key: String,
    /// What the client can speak, in its order.
    protocols: Vec<String>,
    upgrade: Mutex<Option<OnUpgrade>>,
}

impl WebSocketRequest {
    /// Takes the connection along if the request asks for a WebSocket.
    pub(super) fn take<B>(request: &mut http::Request<B>) -> Option<Self> {
        let headers = request.headers();
        let key = headers.get(header::SEC_WEBSOCKET_KEY)?.to_str().ok()?;
        let key = key.to_owned();
        let is_websocket =
            words(headers, &header::UPGRADE).any(|word| word.eq_ignore_ascii_case("websocket"));
        let protocols = words(headers, &header::SEC_WEBSOCKET_PROTOCOL);
        let protocols = protocols.map(str::to_owned).collect();
        is_websocket.then(|| WebSocketRequest {
            key,
            protocols,
            upgrade: Mutex::new(Some(hyper::upgrade::on(request))),
        })
    }

    /// Accepts in the first of `protocols` that the client can speak, and lets `serve` have the
    /// connection until it returns or the server stops.
    ///
    /// # Errors
    /// 501 when there is no common subprotocol.
    pub(super) fn accept<F>(
        &self,
        core: &Arc<Core>,
        protocols: &[&'static str],
        serve: impl FnOnce(WebSocket, &'static str) -> F + Send + 'static,
    ) -> Result<Reply, ApiError>
    where
        F: Future<Output = ()> + Send,
    {
        let spoken = protocols
            .iter()
            .find(|protocol| self.protocols.iter().any(|listed| listed == *protocol))
            .ok_or_else(|| not_supported(&format!("a subprotocol of {:?}", self.protocols)))?;
        let upgrade = self.upgrade.lock().expect("no panic while held").take();
        let upgrade =
            upgrade.ok_or_else(|| ApiError::bad_request("the connection is taken already"))?;
        let shutdown = core.shutdown.clone();
        let protocol: &'static str = spoken;
        tokio::spawn(async move {
            let Ok(upgraded) = upgrade.await else { return };
            let io = TokioIo::new(upgraded);
            let socket = WebSocketStream::from_raw_socket(io, Role::Server, None).await;
            shutdown.run_until_cancelled(serve(socket, protocol)).await;
        });
        let mut reply = reply::text(StatusCode::SWITCHING_PROTOCOLS, "");
        let headers = reply.headers_mut();
        headers.clear();
        let accept = derive_accept_key(self.key.as_bytes());
        for (name, value) in [
            (header::CONNECTION, "Upgrade"),
            (header::UPGRADE, "websocket"),
            (header::SEC_WEBSOCKET_PROTOCOL, protocol),
            (header::SEC_WEBSOCKET_ACCEPT, &accept),
        ] {
            let value = HeaderValue::from_str(value).map_err(ApiError::internal)?;
            headers.insert(name, value);
        }
        Ok(reply)
    }
}

/// What to answer where something is absent.
pub(super) fn not_supported(what: &str) -> ApiError {
    ApiError::new(
        StatusCode::NOT_IMPLEMENTED,
        "NotImplemented",
        format!("{what} is not supported"),
    )
}

/// The words of a header that is a list.
fn words<'a>(headers: &'a HeaderMap, name: &header::HeaderName) -> impl Iterator<Item = &'a str> {
    let values = headers.get_all(name).into_iter();
    values
        .filter_map(|value| value.to_str().ok())
        .flat_map(|value| value.split(','))
        .map(str::trim)
}
