//! An admission webhook on loopback, for the tests of the API server.

use std::sync::Arc;
use std::time::Duration;

use axum::Json;
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use lateen_tls::{Authority, ClientAuth, IdentityStore, LeafRequest, https};
use serde_json::{Value, json};

/// Serves a function from the request of a review to its response; the URL, and the `caBundle`.
pub(crate) async fn serve(
    answer: impl Fn(&Value) -> Value + Clone + Send + Sync + 'static,
) -> (String, String) {
    let hour = Duration::from_secs(3600);
    let authority = Authority::self_signed("test", hour).expect("a root");
    let identity = authority
        .identity(&LeafRequest::server(["localhost"], hour))
        .expect("a leaf");
    let socket = tokio::net::TcpListener::bind("127.0.0.1:0")
        .await
        .expect("a free port");
    let port = socket.local_addr().expect("an address").port();
    let store = Arc::new(IdentityStore::new(identity));
    let listener =
        https::Listener::http(vec![socket], store, ClientAuth::None).expect("a listener");
    let handler = move |Json(review): Json<Value>| {
        let response = answer(&review["request"]);
        async move {
            Json(
                json!({"apiVersion": "admission.k8s.io/v1", "kind": "AdmissionReview", "response": response}),
            )
        }
    };
    let router = axum::Router::new().route("/admit", axum::routing::post(handler));
    tokio::spawn(axum::serve(listener, router).into_future());
    let bundle = STANDARD.encode(authority.root_pem());
    (format!("https://localhost:{port}/admit"), bundle)
}

/// Puts a JSON patch into a response.
pub(crate) fn add_patch(response: &mut Value, patch: &str) {
    response["patchType"] = "JSONPatch".into();
    response["patch"] = STANDARD.encode(patch).into();
}
