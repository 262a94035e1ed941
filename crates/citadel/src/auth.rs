//! Who is calling: by client certificate, or by service-account token.

use async_trait::async_trait;
use lateen_core::SpiffeId;
use lateen_tls::PeerInfo;
use tonic::metadata::MetadataMap;
use tonic::{Extensions, Status};

use crate::TrustDomains;

const BEARER: &str = "Bearer ";

/// How a caller proved its identity.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Proof {
    /// A certificate of this mesh.
    Certificate,
    /// A service-account token.
    Token,
}

/// An authenticated caller.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Caller {
    /// Who it is, in the trust domain that the mesh has now.
    pub spiffe: SpiffeId,
    /// How it proved that.
    pub proof: Proof,
}

/// Why a token is not accepted.
#[derive(Debug, Clone, thiserror::Error)]
pub enum Denied {
    /// It is expired, foreign, malformed, or for another audience; the text says which.
    #[error("{0}")]
    Refused(String),
    /// It could not be reviewed; the caller may try again.
    #[error("token review is not available: {0}")]
    Unavailable(String),
}

/// Reviews service-account tokens.
#[async_trait]
pub trait Authenticator: Send + Sync + 'static {
    /// The identity that `token` proves.
    async fn authenticate(&self, token: &str) -> Result<SpiffeId, Denied>;
}

/// Finds out who calls, for the certificate service and for ADS alike. The client certificate
/// comes first, as it costs no review; the listener has verified its chain.
///
/// # Errors
/// UNAUTHENTICATED with the reason, or UNAVAILABLE when the token could not be reviewed.
pub async fn identify(
    metadata: &MetadataMap,
    extensions: &Extensions,
    trust: &TrustDomains,
    authenticator: &dyn Authenticator,
) -> Result<Caller, Status> {
    let peer = extensions.get::<PeerInfo>().and_then(PeerInfo::spiffe);
    if let Some(spiffe) = peer.and_then(|id| trust.admit(id)) {
        return Ok(Caller {
            spiffe,
            proof: Proof::Certificate,
        });
    }
    let token = match (bearer(metadata), peer) {
        (None, Some(stranger)) => {
            let why = format!("{stranger} is not of trust domain {trust}, and shows no token");
            return Err(Status::unauthenticated(why));
        }
        (None, None) => {
            let why = "neither a client certificate nor a token";
            return Err(Status::unauthenticated(why));
        }
        (Some(token), _) => token?,
    };
    match authenticator.authenticate(token).await {
        Ok(spiffe) => Ok(Caller {
            spiffe,
            proof: Proof::Token,
        }),
        Err(Denied::Refused(why)) => Err(Status::unauthenticated(format!(
            "token is not accepted: {why}"
        ))),
        Err(unavailable) => Err(Status::unavailable(unavailable.to_string())),
    }
}

/// `None` where nothing is shown.
fn bearer(metadata: &MetadataMap) -> Option<Result<&str, Status>> {
    let header = metadata.get("authorization")?;
    let token = header
        .to_str()
        .ok()
        .and_then(|text| text.strip_prefix(BEARER))
        .map(str::trim)
        .filter(|token| !token.is_empty());
    let missing = || Status::unauthenticated("the authorization header holds no bearer token");
    Some(token.ok_or_else(missing))
}
