//! `grpc.health.v1.Health/Check`, the one call that gRPC probes make.

use std::net::{IpAddr, SocketAddr};

use hyper_util::rt::TokioIo;
use tonic::client::Grpc;
use tonic::codegen::http::uri::PathAndQuery;
use tonic::transport::Endpoint;
use tonic_prost::ProstCodec;

/// `ServingStatus.SERVING`.
const SERVING: i32 = 1;

#[derive(Clone, PartialEq, prost::Message)]
struct HealthCheckRequest {
    #[prost(string, tag = "1")]
    service: String,
}

#[derive(Clone, PartialEq, prost::Message)]
struct HealthCheckResponse {
    #[prost(int32, tag = "1")]
    status: i32,
}

/// Succeeds when `service` (empty: the whole server) is serving.
pub(super) async fn check(pod: IpAddr, port: u16, service: String) -> Result<(), String> {
    let endpoint = Endpoint::from_shared(format!("http://{}", SocketAddr::new(pod, port)));
    let ip = pod.to_string();
    let connector = tower::service_fn(move |_| {
        let ip = ip.clone();
        async move { crate::http::dial(&ip, port).await.map(TokioIo::new) }
    });
    let channel = endpoint
        .map_err(|e| e.to_string())?
        .connect_with_connector(connector)
        .await;
    let mut grpc = Grpc::new(channel.map_err(|e| e.to_string())?);
    grpc.ready().await.map_err(|e| e.to_string())?;
    let path = PathAndQuery::from_static("/grpc.health.v1.Health/Check");
    let codec = ProstCodec::<HealthCheckRequest, HealthCheckResponse>::default();
    let request = tonic::Request::new(HealthCheckRequest { service });
    let answer = grpc
        .unary(request, path, codec)
        .await
        .map_err(|s| s.to_string())?;
    match answer.into_inner().status {
        SERVING => Ok(()),
        status => Err(format!("health status {status}")),
    }
}
