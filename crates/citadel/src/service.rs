//! `CreateCertificate`, answered.

use std::sync::Arc;
use std::time::Duration;

use lateen_xds::ca::{
    CertificateServer, CertificateService, IstioCertificateRequest, IstioCertificateResponse,
};
use tonic::{Request, Response, Status};

use crate::{Authenticator, Caller, CertificateAuthority, Error, Signed, Trust, identify};

/// Metadata of a request by which node proxies act for workloads.
const IMPERSONATED: &str = "ImpersonatedIdentity";

/// The certificate service: an authority, a judge of tokens, and whose certificates prove anything.
pub struct Citadel {
    ca: Arc<CertificateAuthority>,
    authenticator: Arc<dyn Authenticator>,
    trust: Trust,
}

impl std::fmt::Debug for Citadel {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Citadel")
            .field("ca", &self.ca)
            .finish_non_exhaustive()
    }
}

impl Citadel {
    /// A service for [`Citadel::into_server`].
    pub fn new(
        ca: Arc<CertificateAuthority>,
        authenticator: Arc<dyn Authenticator>,
        trust: Trust,
    ) -> Self {
        Self {
            ca,
            authenticator,
            trust,
        }
    }

    /// The tonic service, to be added to a server whose connections are `lateen_tls` streams.
    pub fn into_server(self) -> CertificateServer<Self> {
        CertificateServer::new(Arc::new(self))
    }

    fn issue(
        &self,
        caller: &Caller,
        request: &IstioCertificateRequest,
    ) -> Result<Vec<String>, Status> {
        let validity = u64::try_from(request.validity_duration).map(Duration::from_secs);
        let validity =
            validity.map_err(|_| Status::invalid_argument("validity_duration is negative"))?;
        let metrics = self.ca.metrics();
        let signed = self
            .ca
            .sign(&caller.spiffe, &request.csr, validity)
            .map_err(|e| match e {
                Error::Tls(lateen_tls::Error::Csr(_)) => {
                    metrics.csr_parsing_error.increment();
                    Status::invalid_argument(e.to_string())
                }
                Error::TooLong { .. } => Status::invalid_argument(e.to_string()),
                _ => {
                    metrics.sign_error.increment();
                    Status::internal(e.to_string())
                }
            })?;
        metrics.issued.increment();
        let Signed {
            issued,
            intermediates_pem,
            root_pem,
        } = signed;
        tracing::info!(
            caller = %caller.spiffe, proof = ?caller.proof, serial = issued.info.serial,
            "certificate issued"
        );
        let mut chain = vec![issued.cert_pem];
        // There are none when we sign with the root itself.
        chain.extend(lateen_tls::pem::split_certs(&intermediates_pem).unwrap_or_default());
        chain.push(root_pem);
        Ok(chain)
    }
}

impl CertificateService for Citadel {
    async fn create_certificate(
        &self,
        request: Request<IstioCertificateRequest>,
    ) -> Result<Response<IstioCertificateResponse>, Status> {
        let metrics = self.ca.metrics();
        metrics.csr.increment();
        let (metadata, extensions, message) = request.into_parts();
        let trust = self.trust.borrow().clone();
        let caller = identify(&metadata, &extensions, &trust, &*self.authenticator).await;
        let caller = caller.inspect_err(|status| {
            metrics.authentication_failure.increment();
            tracing::warn!(reason = status.message(), "certificate request refused");
        })?;
        if impersonates(&message) {
            return Err(Status::unimplemented("impersonation is not supported"));
        }
        let cert_chain = self.issue(&caller, &message)?;
        Ok(Response::new(IstioCertificateResponse { cert_chain }))
    }
}

fn impersonates(message: &IstioCertificateRequest) -> bool {
    message
        .metadata
        .as_ref()
        .is_some_and(|m| m.fields.contains_key(IMPERSONATED))
}
