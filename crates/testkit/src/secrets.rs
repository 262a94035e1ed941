//! What an agent does for Envoy: the workload's certificate and the mesh's roots, over SDS.

use std::time::Duration;

use futures::stream::{BoxStream, StreamExt};
use lateen_core::SpiffeId;
use lateen_tls::{Authority, CsrKey, LeafRequest};
use lateen_xds::types::core::{DataSource, data_source};
use lateen_xds::types::discovery::{
    DeltaDiscoveryRequest, DeltaDiscoveryResponse, DiscoveryRequest, DiscoveryResponse,
};
use lateen_xds::types::secret_service::secret_discovery_service_server::SecretDiscoveryService;
use lateen_xds::types::tls::{CertificateValidationContext, Secret, TlsCertificate, secret};
use lateen_xds::{names, pack_any};
use tonic::{Request, Response, Status, Streaming};

/// A workload's certificate and the roots of its mesh, as an SDS server.
pub struct Secrets {
    /// The chain, leaf first, as PEM.
    pub certificate: String,
    /// The key, as PEM.
    pub key: String,
    /// The root, as PEM.
    pub root: String,
}

impl Secrets {
    /// For an identity, signed by `authority`.
    ///
    /// # Panics
    /// Where the authority cannot sign.
    pub fn new(authority: &Authority, identity: &SpiffeId) -> Self {
        let request = LeafRequest::spiffe(identity, Duration::from_secs(86_400));
        let issued = authority
            .issue(&request, CsrKey::Generate)
            .expect("a certificate");
        Secrets {
            certificate: issued.chain_pem,
            key: issued.key_pem.expect("made here"),
            root: authority.root_pem().to_owned(),
        }
    }

    fn secret(&self, name: &str) -> Secret {
        let kind = if name == names::SECRET_ROOT {
            secret::Type::ValidationContext(CertificateValidationContext {
                trusted_ca: Some(inline(&self.root)),
                ..CertificateValidationContext::default()
            })
        } else {
            secret::Type::TlsCertificate(TlsCertificate {
                certificate_chain: Some(inline(&self.certificate)),
                private_key: Some(inline(&self.key)),
                ..TlsCertificate::default()
            })
        };
        Secret {
            name: name.into(),
            r#type: Some(kind),
        }
    }
}

fn inline(text: &str) -> DataSource {
    DataSource {
        specifier: Some(data_source::Specifier::InlineString(text.into())),
        ..DataSource::default()
    }
}

#[tonic::async_trait]
impl SecretDiscoveryService for Secrets {
    type DeltaSecretsStream = BoxStream<'static, Result<DeltaDiscoveryResponse, Status>>;
    type StreamSecretsStream = BoxStream<'static, Result<DiscoveryResponse, Status>>;

    async fn delta_secrets(
        &self,
        _: Request<Streaming<DeltaDiscoveryRequest>>,
    ) -> Result<Response<Self::DeltaSecretsStream>, Status> {
        Err(Status::unimplemented("state of the world only"))
    }

    async fn stream_secrets(
        &self,
        request: Request<Streaming<DiscoveryRequest>>,
    ) -> Result<Response<Self::StreamSecretsStream>, Status> {
        let all = [names::SECRET_DEFAULT, names::SECRET_ROOT];
        let secrets = all.map(|name| (name, self.secret(name)));
        let responses = request.into_inner().filter_map(move |request| {
            let answer = match request {
                // An answer to our response; there is nothing newer.
                Ok(request) if !request.response_nonce.is_empty() => None,
                Ok(request) => {
                    let wanted = |(name, _): &&(&str, Secret)| {
                        request.resource_names.iter().any(|n| n == name)
                    };
                    let resources = secrets
                        .iter()
                        .filter(wanted)
                        .map(|(_, s)| pack_any(s))
                        .collect();
                    Some(Ok(DiscoveryResponse {
                        version_info: "1".into(),
                        nonce: "1".into(),
                        resources,
                        type_url: request.type_url,
                        ..DiscoveryResponse::default()
                    }))
                }
                Err(status) => Some(Err(status)),
            };
            futures::future::ready(answer)
        });
        Ok(Response::new(responses.boxed()))
    }

    async fn fetch_secrets(
        &self,
        _: Request<DiscoveryRequest>,
    ) -> Result<Response<DiscoveryResponse>, Status> {
        Err(Status::unimplemented("streams only"))
    }
}
