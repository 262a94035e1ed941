//! The two methods of the aggregated discovery service, as tonic's router serves them.
//!
//! Requests are read by [`super::requests`], responses are written by [`super::body`].

use std::convert::Infallible;
use std::future::{Ready, ready};
use std::net::SocketAddr;
use std::task::{Context, Poll};

use http::{HeaderValue, header};
use tonic::server::NamedService;
use tonic::{Request, Status};

use super::body::{Body, Responses};
use super::protocol::{Delta, Protocol, StateOfTheWorld};
use super::requests::Requests;
use super::{Ads, Peer, ResourceSource, stream};

/// The service, for `tonic::transport::Server::add_service`.
pub struct AdsService<S: ResourceSource>(Ads<S>);

impl<S: ResourceSource> Clone for AdsService<S> {
    fn clone(&self) -> Self {
        AdsService(self.0.clone())
    }
}

impl<S: ResourceSource> NamedService for AdsService<S> {
    const NAME: &'static str = "envoy.service.discovery.v3.AggregatedDiscoveryService";
}

impl<S: ResourceSource> AdsService<S> {
    pub(super) fn new(ads: Ads<S>) -> Self {
        AdsService(ads)
    }

    fn start<P: Protocol>(
        &self,
        request: http::Request<tonic::body::Body>,
    ) -> http::Response<tonic::body::Body> {
        let (parts, body) = request.into_parts();
        let requests = Requests::<P>::new(body);
        let request = Request::from_http(http::Request::from_parts(parts, ()));
        // An IPv4 client is known as one at a socket for both families too.
        let address = request.remote_addr();
        let address = address.map(|of| SocketAddr::new(of.ip().to_canonical(), of.port()));
        let (metadata, extensions, ()) = request.into_parts();
        let peer = Peer {
            metadata,
            extensions,
            address,
        };
        let responses = Responses::default();
        let (ads, said) = (self.0.clone(), responses.clone());
        let stream =
            Box::pin(async move { stream::serve::<S, P>(&ads, peer, requests, &said).await });
        let body = tonic::body::Body::new(Body::new(responses, stream));
        let mut response = http::Response::new(body);
        let kind = HeaderValue::from_static("application/grpc");
        response.headers_mut().insert(header::CONTENT_TYPE, kind);
        response
    }
}

impl<S: ResourceSource> tower_service::Service<http::Request<tonic::body::Body>> for AdsService<S> {
    type Response = http::Response<tonic::body::Body>;
    type Error = Infallible;
    type Future = Ready<Result<Self::Response, Infallible>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, request: http::Request<tonic::body::Body>) -> Self::Future {
        let method = request.uri().path().rsplit('/').next();
        let response = match method {
            Some("DeltaAggregatedResources") => self.start::<Delta>(request),
            Some("StreamAggregatedResources") => self.start::<StateOfTheWorld>(request),
            _ => Status::unimplemented("no such method").into_http(),
        };
        ready(Ok(response))
    }
}
