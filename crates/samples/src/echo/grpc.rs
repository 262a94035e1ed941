//! `proto.EchoTestService`: the message comes back, with who answered in front, or another server's
//! answer does.

use axum::Router;
use axum::extract::{Request, State};
use axum::response::Response;
use axum::routing::post;
use tonic::codegen::BoxFuture;
use tonic::server::{Grpc, UnaryService};
use tonic::{Response as Answer, Status};
use tonic_prost::ProstCodec;

use super::proto::{EchoRequest, EchoResponse, ForwardEchoRequest, ForwardEchoResponse};
use super::{Who, forward, reflection};

/// Where it is asked.
pub(super) const ECHO: &str = "/proto.EchoTestService/Echo";

/// Where another server is asked for.
const FORWARD_ECHO: &str = "/proto.EchoTestService/ForwardEcho";

pub(super) fn router(who: Who) -> Router {
    let mut router = Router::new()
        .route(ECHO, post(echo))
        .route(FORWARD_ECHO, post(forward_echo));
    for path in reflection::PATHS {
        router = router.route(path, post(reflection::info));
    }
    router.fallback(absent).with_state(who)
}

async fn echo(State(who): State<Who>, request: Request) -> Response {
    let codec = ProstCodec::<EchoResponse, EchoRequest>::default();
    let response = Grpc::new(codec).unary(Echo(who), request).await;
    response.map(axum::body::Body::new)
}

async fn absent(request: Request) -> Response {
    let status = Status::unimplemented(format!("{} is not supported", request.uri().path()));
    status.into_http::<axum::body::Body>()
}

async fn forward_echo(request: Request) -> Response {
    let codec = ProstCodec::<ForwardEchoResponse, ForwardEchoRequest>::default();
    let response = Grpc::new(codec).unary(ForwardEcho, request).await;
    response.map(axum::body::Body::new)
}

struct ForwardEcho;

impl UnaryService<ForwardEchoRequest> for ForwardEcho {
    type Response = ForwardEchoResponse;
    type Future = BoxFuture<Answer<ForwardEchoResponse>, Status>;

    fn call(&mut self, request: tonic::Request<ForwardEchoRequest>) -> Self::Future {
        Box::pin(async move {
            let output = forward::ask(request.into_inner()).await?;
            Ok(Answer::new(ForwardEchoResponse { output }))
        })
    }
}

struct Echo(Who);

impl UnaryService<EchoRequest> for Echo {
    type Response = EchoResponse;
    type Future = BoxFuture<Answer<EchoResponse>, Status>;

    fn call(&mut self, request: tonic::Request<EchoRequest>) -> Self::Future {
        let who = self.0.clone();
        Box::pin(async move {
            let message = format!(
                "ServiceVersion={}\nServicePort={}\nHostname={}\nEcho={}",
                who.version,
                who.port,
                who.hostname,
                request.into_inner().message
            );
            Ok(Answer::new(EchoResponse { message }))
        })
    }
}

#[cfg(test)]
mod tests {
    use axum::body::Body;
    use http_body_util::BodyExt;
    use prost::Message;
    use tower::ServiceExt;

    use super::*;

    fn call(path: &str, message: &str) -> Request {
        let payload = EchoRequest {
            message: message.into(),
        }
        .encode_to_vec();
        let length = u32::try_from(payload.len()).expect("short").to_be_bytes();
        let body = [&[0][..], &length, &payload].concat();
        Request::post(path)
            .header("content-type", "application/grpc")
            .body(Body::from(body))
            .expect("valid")
    }

    fn server() -> Router {
        router(Who {
            version: "v2".into(),
            cluster: String::new(),
            hostname: "echo-2".into(),
            port: 7070,
        })
    }

    #[tokio::test]
    async fn the_message_comes_back() {
        let call = call(ECHO, "hello");
        let response = server().oneshot(call).await.expect("answered");
        let body = response.into_body().collect().await.expect("whole");
        assert_eq!(
            body.trailers()
                .and_then(|trailers| trailers.get("grpc-status")),
            Some(&http::HeaderValue::from_static("0"))
        );
        let bytes = body.to_bytes();
        let answer = EchoResponse::decode(&bytes[5..]).expect("a message");
        assert_eq!(
            answer.message,
            "ServiceVersion=v2\nServicePort=7070\nHostname=echo-2\nEcho=hello"
        );
    }

    #[tokio::test]
    async fn other_methods_are_said_to_be_absent() {
        let call = call("/proto.EchoTestService/Other", "hello");
        let response = server().oneshot(call).await.expect("answered");
        assert_eq!(response.headers()["grpc-status"], "12");
    }
}
