//! `istio.v1.auth.IstioCertificateService`: how a workload obtains its certificate.
//!
//! The messages are two and the method is one, so that they are written by hand. The interface is
//! served beside ADS on the same port, which is why it lives in this crate.

use std::convert::Infallible;
use std::future::Future;
use std::sync::Arc;

use crate::google::protobuf::Struct;
use tonic::body::Body;
use tonic::client::{Grpc, GrpcService};
use tonic::codegen::{BoxFuture, Context, Poll, Service, StdError, http};
use tonic::server::{NamedService, UnaryService};
use tonic::{GrpcMethod, Request, Response, Status};
use tonic_prost::ProstCodec;

/// The full name of the service.
pub const SERVICE_NAME: &str = "istio.v1.auth.IstioCertificateService";
/// The path of its one method.
const CREATE: &str = "/istio.v1.auth.IstioCertificateService/CreateCertificate";

/// A request for a certificate. Who asks is said by the connection and its metadata, not here.
#[derive(Clone, PartialEq, prost::Message)]
pub struct IstioCertificateRequest {
    /// The certificate signing request, PEM.
    #[prost(string, tag = "1")]
    pub csr: String,
    /// How long the certificate shall be valid, seconds. Zero asks for the default.
    #[prost(int64, tag = "3")]
    pub validity_duration: i64,
    /// Hints: `CertSigner`, `ImpersonatedIdentity`.
    #[prost(message, optional, tag = "4")]
    pub metadata: Option<Struct>,
}

/// The certificate and what it chains to.
#[derive(Clone, PartialEq, prost::Message)]
pub struct IstioCertificateResponse {
    /// The leaf, the intermediates, and last the root or roots; PEM each.
    #[prost(string, repeated, tag = "1")]
    pub cert_chain: Vec<String>,
}

/// Calls the service.
#[derive(Debug, Clone)]
pub struct CertificateClient<T> {
    inner: Grpc<T>,
}

impl<T> CertificateClient<T>
where
    T: GrpcService<Body>,
    T::Error: Into<StdError>,
    T::ResponseBody: tonic::codegen::Body<Data = bytes::Bytes> + Send + 'static,
    <T::ResponseBody as tonic::codegen::Body>::Error: Into<StdError> + Send,
{
    /// A client on a channel.
    pub fn new(channel: T) -> Self {
        Self {
            inner: Grpc::new(channel),
        }
    }

    /// Asks for a certificate.
    ///
    /// # Errors
    /// The status of the call: UNAUTHENTICATED when the caller's token is not accepted,
    /// INVALID_ARGUMENT when the signing request is not.
    pub async fn create_certificate(
        &mut self,
        mut request: Request<IstioCertificateRequest>,
    ) -> Result<Response<IstioCertificateResponse>, Status> {
        let ready = self.inner.ready().await;
        ready.map_err(|e| Status::unavailable(format!("not connected: {}", e.into())))?;
        let method = GrpcMethod::new(SERVICE_NAME, "CreateCertificate");
        request.extensions_mut().insert(method);
        let path = http::uri::PathAndQuery::from_static(CREATE);
        let codec = ProstCodec::<IstioCertificateRequest, IstioCertificateResponse>::default();
        self.inner.unary(request, path, codec).await
    }
}

/// What a certificate authority implements.
pub trait CertificateService: Send + Sync + 'static {
    /// Issues a certificate to the caller.
    fn create_certificate(
        &self,
        request: Request<IstioCertificateRequest>,
    ) -> impl Future<Output = Result<Response<IstioCertificateResponse>, Status>> + Send;
}

/// Serves a [`CertificateService`] under tonic.
#[derive(Debug)]
pub struct CertificateServer<S> {
    service: Arc<S>,
}

impl<S> Clone for CertificateServer<S> {
    fn clone(&self) -> Self {
        Self {
            service: self.service.clone(),
        }
    }
}

impl<S: CertificateService> CertificateServer<S> {
    /// A tonic service around `service`.
    pub fn new(service: Arc<S>) -> Self {
        Self { service }
    }
}

impl<S> NamedService for CertificateServer<S> {
    const NAME: &'static str = SERVICE_NAME;
}

impl<S, B> Service<http::Request<B>> for CertificateServer<S>
where
    S: CertificateService,
    B: tonic::codegen::Body + Send + 'static,
    B::Error: Into<StdError> + Send + 'static,
{
    type Response = http::Response<Body>;
    type Error = Infallible;
    type Future = BoxFuture<Self::Response, Self::Error>;

    fn poll_ready(&mut self, _cx: &mut Context<'_>) -> Poll<Result<(), Self::Error>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, request: http::Request<B>) -> Self::Future {
        let method = Create(self.service.clone());
        Box::pin(async move {
            if request.uri().path() != CREATE {
                return Ok(Status::unimplemented("no such method").into_http());
            }
            let codec = ProstCodec::<IstioCertificateResponse, IstioCertificateRequest>::default();
            Ok(tonic::server::Grpc::new(codec).unary(method, request).await)
        })
    }
}

struct Create<S>(Arc<S>);

impl<S: CertificateService> UnaryService<IstioCertificateRequest> for Create<S> {
    type Response = IstioCertificateResponse;
    type Future = BoxFuture<Response<Self::Response>, Status>;

    fn call(&mut self, request: Request<IstioCertificateRequest>) -> Self::Future {
        let service = self.0.clone();
        Box::pin(async move { service.create_certificate(request).await })
    }
}

#[cfg(test)]
mod tests {
    use prost::Message;

    use super::*;

    #[test]
    fn fields_have_the_public_numbers() {
        let request = IstioCertificateRequest {
            csr: "x".into(),
            validity_duration: 5,
            metadata: Some(Struct::default()),
        };
        assert_eq!(
            request.encode_to_vec(),
            [0x0a, 1, b'x', 0x18, 5, 0x22, 0],
            "1: csr, 3: validity_duration, 4: metadata"
        );
        let response = IstioCertificateResponse {
            cert_chain: vec!["a".into(), "b".into()],
        };
        assert_eq!(
            response.encode_to_vec(),
            [0x0a, 1, b'a', 0x0a, 1, b'b'],
            "1: cert_chain"
        );
    }
}
