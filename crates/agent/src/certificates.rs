//! The workload's certificate: asked for with the pod's token, renewed at half life, and as soon as the
//! platform mounts other roots: whoever has a certificate of an added one is trusted from then on.

use std::sync::Arc;
use std::time::{Duration, SystemTime};

use lateen_core::Backoff;
use lateen_tls::{Identity, IdentityStore};
use lateen_xds::ca::{CertificateClient, IstioCertificateRequest};
use tonic::Request;
use tonic::metadata::{Ascii, MetadataValue};

use crate::Error;
use crate::config::AgentConfig;
use crate::upstream::Upstream;

/// Limit for one attempt, connecting included.
const ATTEMPT: Duration = Duration::from_secs(15);
/// A pod often starts before the control plane: the first attempts follow quickly.
const BACKOFF: (Duration, Duration) = (Duration::from_millis(100), Duration::from_secs(10));
/// Renewals are spread by this part of the lifetime, so that pods that started together do not
/// all come back at once.
const JITTER: f64 = 0.01;
/// How often the mounted roots are looked at. The platform takes a minute to mount what has changed.
const LOOK_EVERY: Duration = Duration::from_secs(5);
/// Never sooner than this, whatever the lifetime.
const MIN_WAIT: Duration = Duration::from_secs(1);

/// Asks for certificates.
#[derive(Debug)]
pub(crate) struct Certificates {
    config: Arc<AgentConfig>,
    upstream: Upstream,
}

impl Certificates {
    pub(crate) fn new(config: Arc<AgentConfig>) -> Self {
        let upstream = Upstream {
            address: config.ca_address.clone(),
            root: config.paths.ca_root.clone(),
            san: config.control_plane_san.clone(),
        };
        Self { config, upstream }
    }

    /// Keeps `store` filled; never returns. A failed renewal leaves the old certificate in force
    /// and is tried again.
    pub(crate) async fn keep(self, store: Arc<IdentityStore>) {
        let mut backoff = Backoff::new(BACKOFF.0, BACKOFF.1);
        loop {
            let roots = self.mounted_roots();
            let wait = match self.fetch().await {
                Ok(identity) => {
                    backoff.reset();
                    let wait = self.renew_in(&identity);
                    tracing::info!(
                        identity = %self.config.spiffe, renew_in = ?wait, "certificate obtained"
                    );
                    store.set(identity);
                    wait
                }
                Err(error) => {
                    let wait = backoff.next_delay();
                    tracing::warn!(%error, retry_in = ?wait, "no certificate");
                    wait
                }
            };
            tokio::select! {
                () = lateen_tls::sleep_until(SystemTime::now() + wait) => {}
                () = self.others_than(roots) => {
                    tracing::info!("the mesh's roots have changed: the certificate is renewed");
                }
            }
        }
    }

    /// What the control plane is verified by, if that can be read.
    fn mounted_roots(&self) -> Option<String> {
        std::fs::read_to_string(&self.upstream.root).ok()
    }

    /// Resolves when other roots are mounted than these.
    async fn others_than(&self, roots: Option<String>) {
        loop {
            tokio::time::sleep(LOOK_EVERY).await;
            let now = self.mounted_roots();
            if now.is_some() && now != roots {
                return;
            }
        }
    }

    /// One attempt.
    pub(crate) async fn fetch(&self) -> Result<Identity, Error> {
        let (key, csr) = lateen_tls::csr(&self.config.spiffe.to_string())?;
        let request = self.request(csr)?;
        let mut client = CertificateClient::new(self.upstream.channel()?);
        let call = tokio::time::timeout(ATTEMPT, client.create_certificate(request)).await;
        let answer = call.unwrap_or_else(|_| Err(tonic::Status::deadline_exceeded("no answer")));
        let mut chain = answer.map_err(|s| self.refused(s))?.into_inner().cert_chain;
        let root = match chain.pop() {
            Some(root) if !chain.is_empty() => root,
            _ => return Err(self.refused(tonic::Status::data_loss("an incomplete chain"))),
        };
        // A server may end its texts without a line break.
        let chain: Vec<_> = chain
            .iter()
            .map(|c| format!("{}\n", c.trim_end()))
            .collect();
        let identity = Identity::from_pem(&chain.concat(), &key, &root)?;
        if identity.spiffe() != Some(&self.config.spiffe) {
            // The authority decides; peers and policies go by what it says.
            tracing::warn!(
                expected = %self.config.spiffe, got = ?identity.info().map(|i| &i.uris),
                "the certificate is for another identity"
            );
        }
        Ok(identity)
    }

    fn request(&self, csr: String) -> Result<Request<IstioCertificateRequest>, Error> {
        let validity = i64::try_from(self.config.secret_ttl.as_secs()).unwrap_or(i64::MAX);
        let mut request = Request::new(IstioCertificateRequest {
            csr,
            validity_duration: validity,
            metadata: None,
        });
        let metadata = request.metadata_mut();
        metadata.insert("authorization", bearer(&self.config)?);
        if let Ok(cluster) = self.config.cluster_id.parse() {
            metadata.insert("clusterid", cluster);
        }
        Ok(request)
    }

    fn renew_in(&self, identity: &Identity) -> Duration {
        let left = identity
            .not_after()
            .and_then(|t| t.duration_since(SystemTime::now()).ok());
        renew_in(
            left.unwrap_or_default(),
            self.config.rotation_ratio,
            fastrand::f64(),
        )
    }

    fn refused(&self, status: tonic::Status) -> Error {
        Error::Authority {
            address: self.upstream.address.clone(),
            status: Box::new(status),
        }
    }
}

/// The pod's token, read anew each time as the platform replaces it.
fn bearer(config: &AgentConfig) -> Result<MetadataValue<Ascii>, Error> {
    let path = &config.paths.token;
    let token = std::fs::read_to_string(path).map_err(Error::file(path))?;
    let value = format!("Bearer {}", token.trim()).parse();
    value.map_err(|_| {
        Error::file(path)(std::io::Error::new(
            std::io::ErrorKind::InvalidData,
            "not a token",
        ))
    })
}

fn renew_in(left: Duration, ratio: f64, random: f64) -> Duration {
    let spread = ratio + JITTER * (2.0 * random - 1.0);
    left.mul_f64(spread.clamp(0.0, 1.0)).max(MIN_WAIT)
}

#[cfg(test)]
mod tests;
