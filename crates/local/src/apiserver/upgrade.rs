//! Requests that become connections of another protocol: ports of pods and programs in them.
//!
//! Over WebSockets the subprotocols are those of Kubernetes. `v4.channel.k8s.io` and `v5.channel.k8s.io`
//! begin each binary message with the number of its channel; `SPDY/3.1+portforward.k8s.io` carries the
//! bytes of a SPDY connection. Older clients ask for SPDY itself.

use std::sync::{Arc, Mutex};

use http::header::{self, HeaderName};
use http::{HeaderMap, HeaderValue, StatusCode};
use hyper::upgrade::{OnUpgrade, Upgraded};
use hyper_util::rt::TokioIo;
use tokio_tungstenite::WebSocketStream;
use tokio_tungstenite::tungstenite::{handshake::derive_accept_key, protocol::Role};

use super::core::Core;
use super::error::ApiError;
use super::reply::{self, Reply};

/// The connection after the upgrade.
pub(super) type WebSocket = WebSocketStream<TokioIo<Upgraded>>;

/// What SPDY is called in `Upgrade`.
const SPDY: &str = "SPDY/3.1";
/// Where a SPDY client says what its streams mean.
const STREAM_PROTOCOL: HeaderName = HeaderName::from_static("x-stream-protocol-version");

/// A request that may become a connection of another protocol.
#[derive(Debug)]
pub(crate) struct UpgradeRequest {
    to: To,
    /// What the client can speak over it, in its order.
    protocols: Vec<String>,
    upgrade: Mutex<Option<OnUpgrade>>,
}

/// What a connection is to become.
#[derive(Debug)]
enum To {
    WebSocket { key: String },
    Spdy,
}

impl UpgradeRequest {
    /// Takes the connection along if the request asks for a WebSocket or for SPDY.
    pub(super) fn take<B>(request: &mut http::Request<B>) -> Option<Self> {
        let headers = request.headers();
        let asks = |what: &str| {
            words(headers, &header::UPGRADE).any(|word| word.eq_ignore_ascii_case(what))
        };
        let key = headers.get(header::SEC_WEBSOCKET_KEY);
        let (to, listed) = if asks("websocket") {
            let key = key?.to_str().ok()?.to_owned();
            (To::WebSocket { key }, header::SEC_WEBSOCKET_PROTOCOL)
        } else if asks(SPDY) {
            (To::Spdy, STREAM_PROTOCOL)
        } else {
            return None;
        };
        let protocols = words(headers, &listed).map(str::to_owned).collect();
        Some(Self {
            to,
            protocols,
            upgrade: Mutex::new(Some(hyper::upgrade::on(request))),
        })
    }

    /// Whether the client wants SPDY itself.
    pub(super) fn is_spdy(&self) -> bool {
        matches!(self.to, To::Spdy)
    }

    /// Whether the client can speak this.
    pub(super) fn speaks(&self, protocol: &str) -> bool {
        self.protocols.iter().any(|listed| listed == protocol)
    }

    /// Makes a WebSocket of it, in the first of `protocols` that the client can speak, and lets `serve`
    /// have it until it returns or the server stops.
    ///
    /// # Errors
    /// 501 when the client asks for no WebSocket, or there is no common subprotocol.
    pub(super) fn accept<F>(
        &self,
        core: &Arc<Core>,
        protocols: &[&'static str],
        serve: impl FnOnce(WebSocket, &'static str) -> F + Send + 'static,
    ) -> Result<Reply, ApiError>
    where
        F: Future<Output = ()> + Send,
    {
        let To::WebSocket { key } = &self.to else {
            return Err(not_supported("this by SPDY"));
        };
        let protocol = self.common(protocols)?;
        let headers = [
            (header::UPGRADE, "websocket".to_owned()),
            (header::SEC_WEBSOCKET_PROTOCOL, protocol.to_owned()),
            (
                header::SEC_WEBSOCKET_ACCEPT,
                derive_accept_key(key.as_bytes()),
            ),
        ];
        self.switch(core, headers, move |io| async move {
            let socket = WebSocketStream::from_raw_socket(io, Role::Server, None).await;
            serve(socket, protocol).await;
        })
    }

    /// Makes a SPDY connection of it, whose streams mean what `protocol` says.
    ///
    /// # Errors
    /// 501 when the client cannot speak that.
    pub(super) fn accept_spdy<F>(
        &self,
        core: &Arc<Core>,
        protocol: &'static str,
        serve: impl FnOnce(TokioIo<Upgraded>) -> F + Send + 'static,
    ) -> Result<Reply, ApiError>
    where
        F: Future<Output = ()> + Send,
    {
        let protocol = self.common(&[protocol])?;
        let headers = [
            (header::UPGRADE, SPDY.to_owned()),
            (STREAM_PROTOCOL, protocol.to_owned()),
        ];
        self.switch(core, headers, serve)
    }

    fn common(&self, protocols: &[&'static str]) -> Result<&'static str, ApiError> {
        protocols
            .iter()
            .find(|protocol| self.speaks(protocol))
            .copied()
            .ok_or_else(|| not_supported(&format!("a subprotocol of {:?}", self.protocols)))
    }

    /// Answers that the protocol changes, and serves the connection once it has.
    fn switch<F>(
        &self,
        core: &Arc<Core>,
        headers: impl IntoIterator<Item = (HeaderName, String)>,
        serve: impl FnOnce(TokioIo<Upgraded>) -> F + Send + 'static,
    ) -> Result<Reply, ApiError>
    where
        F: Future<Output = ()> + Send,
    {
        let upgrade = self.upgrade.lock().expect("no panic while held").take();
        let upgrade =
            upgrade.ok_or_else(|| ApiError::bad_request("the connection is taken already"))?;
        let mut reply = reply::text(StatusCode::SWITCHING_PROTOCOLS, "");
        let answer = reply.headers_mut();
        answer.clear();
        answer.insert(header::CONNECTION, HeaderValue::from_static("Upgrade"));
        for (name, value) in headers {
            let value = HeaderValue::from_str(&value).map_err(ApiError::internal)?;
            answer.insert(name, value);
        }
        let shutdown = core.shutdown.clone();
        tokio::spawn(async move {
            let Ok(upgraded) = upgrade.await else { return };
            let serving = serve(TokioIo::new(upgraded));
            shutdown.run_until_cancelled(serving).await;
        });
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
fn words<'a>(headers: &'a HeaderMap, name: &HeaderName) -> impl Iterator<Item = &'a str> {
    let values = headers.get_all(name).into_iter();
    values
        .filter_map(|value| value.to_str().ok())
        .flat_map(|value| value.split(','))
        .map(str::trim)
}
