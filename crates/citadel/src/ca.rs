//! The authority itself: plugged in, loaded, or created once; and replaced when what is plugged in is.
//!
//! Invariant: whoever has a certificate of this authority is trusted by whoever has its newest roots.
//! So roots are only added to those in force, or taken from them, and an authority of roots that
//! nobody trusts yet is refused while this one runs.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use lateen_core::SpiffeId;
use lateen_tls::{Authority, CsrKey, Identity, IdentityStore, Issued, LeafRequest, pem};
use tokio::sync::watch;

use crate::store::{Creation, SecretData, SecretStore};
use crate::{Error, Metrics};

/// The Secret with a root that we made.
const SELF_SIGNED_SECRET: &str = "istio-ca-secret";
const SELF_SIGNED_KIND: &str = "istio.io/ca-root";
/// The Secret with an authority that the operator brings, in the control plane's namespace.
pub const PLUGGED_SECRET: &str = "cacerts";

const CA_CERT: &str = "ca-cert.pem";
const CA_KEY: &str = "ca-key.pem";
const CERT_CHAIN: &str = "cert-chain.pem";
const ROOT_CERT: &str = "root-cert.pem";

const DAY: Duration = Duration::from_secs(24 * 3600);
/// Istio's root lives for 3650 days.
const ROOT_VALIDITY: Duration = DAY.saturating_mul(3650);
/// Wait before a serving certificate that could not be renewed is tried again.
const RENEW_RETRY: Duration = Duration::from_secs(60);

/// How the authority behaves.
#[derive(Debug, Clone)]
pub struct CaOptions {
    /// The namespace of the control plane and of the Secrets.
    pub namespace: String,
    /// The trust domain that a root is made for where there is none.
    pub trust_domain: String,
    /// Validity of a workload's certificate when the request names none.
    pub default_ttl: Duration,
    /// The longest validity that a request may ask for.
    pub max_ttl: Duration,
}

impl Default for CaOptions {
    fn default() -> Self {
        Self {
            namespace: "istio-system".to_owned(),
            trust_domain: "cluster.local".to_owned(),
            default_ttl: DAY,
            max_ttl: 90 * DAY,
        }
    }
}

/// Where the signing certificate comes from.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Origin {
    /// Secret `cacerts`.
    Plugged,
    /// Secret `istio-ca-secret`, found.
    Loaded,
    /// Secret `istio-ca-secret`, just created.
    Created,
}

/// Signs certificates for the mesh.
#[derive(Debug)]
pub struct CertificateAuthority {
    /// Replaced as a whole, so that what one answer says is of one authority.
    current: watch::Sender<Arc<Current>>,
    roots_tx: watch::Sender<Arc<str>>,
    options: CaOptions,
    metrics: Metrics,
}

/// What is in force.
#[derive(Debug)]
struct Current {
    authority: Authority,
    origin: Origin,
}

/// A certificate, with what its owner shows and trusts.
#[derive(Debug)]
pub struct Signed {
    /// The certificate.
    pub issued: Issued,
    /// What stands between it and the roots, PEM.
    pub intermediates_pem: String,
    /// The roots that peers' certificates lead to, PEM.
    pub root_pem: String,
}

impl CertificateAuthority {
    /// Loads the plugged-in authority or the self-signed one, which is created when there is none.
    /// Several replicas may do so at once: the first creation wins and the others load it.
    ///
    /// # Errors
    /// When the store fails, or holds something that is not an authority. A broken Secret is
    /// never replaced, as every certificate of the mesh depends on it.
    pub async fn load_or_create(
        store: &dyn SecretStore,
        options: CaOptions,
    ) -> Result<Self, Error> {
        let (authority, origin) = find_or_create(store, &options).await?;
        let metrics = Metrics::default();
        metrics.root_expires(root_expiry(&authority)?, authority.info().not_after);
        let roots = Arc::from(authority.root_pem());
        Ok(Self {
            current: watch::Sender::new(Arc::new(Current { authority, origin })),
            roots_tx: watch::Sender::new(roots),
            options,
            metrics,
        })
    }

    fn current(&self) -> Arc<Current> {
        self.current.borrow().clone()
    }

    /// Takes in what the operator's Secret holds now; whether that is another authority than before.
    ///
    /// # Errors
    /// When the Secret is gone or broken, or has other roots and none of those in force. What was in
    /// force stays so.
    pub fn replug(&self, secret: Option<&SecretData>) -> Result<bool, Error> {
        let before = self.current();
        let namespace = self.options.namespace.as_str();
        let name = || format!("{namespace}/{PLUGGED_SECRET}");
        let Some(data) = secret else {
            return match before.origin {
                Origin::Plugged => Err(Error::Unplugged { secret: name() }),
                _ => Ok(false),
            };
        };
        let authority = plugged(namespace, data)?;
        let is_same = |of: fn(&Authority) -> &str| of(&authority) == of(&before.authority);
        if [
            Authority::cert_pem,
            Authority::key_pem,
            Authority::intermediates_pem,
            Authority::root_pem,
        ]
        .into_iter()
        .all(is_same)
        {
            return Ok(false);
        }
        let [old, new] = [&before.authority, &authority].map(|of| pem::split_certs(of.root_pem()));
        let (old, new) = (BTreeSet::from_iter(old?), BTreeSet::from_iter(new?));
        if !old.is_subset(&new) && !new.is_subset(&old) {
            return Err(Error::ForeignRoot { secret: name() });
        }
        // Roots that come with this Secret reach the workloads later than what it signs.
        let in_force = before.authority.root_pem();
        let is_trusted = authority.is_trusted_by(in_force);
        if !is_trusted.map_err(|error| bad(namespace, PLUGGED_SECRET, error))? {
            return Err(Error::EarlySigner { secret: name() });
        }
        self.metrics
            .root_expires(root_expiry(&authority)?, authority.info().not_after);
        let roots: Arc<str> = authority.root_pem().into();
        let origin = Origin::Plugged;
        self.current
            .send_replace(Arc::new(Current { authority, origin }));
        self.roots_tx.send_if_modified(|held| {
            let is_new = *held != roots;
            *held = roots;
            is_new
        });
        Ok(true)
    }

    /// Issues a certificate for `caller` on the key of a signing request (PEM).
    /// A validity of zero asks for the default.
    ///
    /// # Errors
    /// [`Error::TooLong`], or [`Error::Tls`] for a bad request.
    pub fn sign(&self, caller: &SpiffeId, csr: &str, validity: Duration) -> Result<Signed, Error> {
        let validity = if validity.is_zero() {
            self.options.default_ttl
        } else {
            validity
        };
        if validity > self.options.max_ttl {
            let longest = self.options.max_ttl;
            return Err(Error::TooLong {
                requested: validity,
                longest,
            });
        }
        let request = LeafRequest::spiffe(caller, validity);
        let authority = &self.current().authority;
        Ok(Signed {
            issued: authority.issue(&request, CsrKey::FromCsr(csr))?,
            intermediates_pem: authority.intermediates_pem().to_owned(),
            root_pem: authority.root_pem().to_owned(),
        })
    }

    /// An identity with a fresh key for a workload of the control plane itself.
    ///
    /// # Errors
    /// When issuing fails.
    pub fn workload_identity(&self, id: &SpiffeId) -> Result<Identity, Error> {
        let request = LeafRequest::spiffe(id, self.options.default_ttl);
        Ok(self.current().authority.identity(&request)?)
    }

    /// The serving certificate of the control plane, for 15012 and the webhooks.
    ///
    /// # Errors
    /// When a host name cannot be encoded.
    pub fn serving_identity(&self, extra_hosts: &[String]) -> Result<Identity, Error> {
        let hosts = serving_hosts(&self.options.namespace).into_iter();
        let hosts = hosts.chain(extra_hosts.iter().cloned());
        let request = LeafRequest::server(hosts, self.options.default_ttl);
        Ok(self.current().authority.identity(&request)?)
    }

    /// Keeps `store` filled with a fresh serving certificate; never returns.
    pub async fn keep_serving(self: Arc<Self>, store: Arc<IdentityStore>, extra: Vec<String>) {
        self.keep(&store, || self.serving_identity(&extra)).await;
    }

    /// Keeps `store` filled with a fresh identity of a workload of the control plane itself; never
    /// returns.
    pub async fn keep_workload(self: Arc<Self>, store: Arc<IdentityStore>, id: SpiffeId) {
        self.keep(&store, || self.workload_identity(&id)).await;
    }

    async fn keep(&self, store: &IdentityStore, issue: impl Fn() -> Result<Identity, Error>) {
        let mut current = self.current.subscribe();
        loop {
            current.mark_unchanged();
            let wait = match issue() {
                Ok(identity) => {
                    store.set(identity);
                    self.options.default_ttl / 2
                }
                Err(error) => {
                    tracing::error!(%error, "the control plane's certificate is not renewed");
                    RENEW_RETRY
                }
            };
            tokio::select! {
                () = lateen_tls::sleep_until(SystemTime::now() + wait) => {}
                // The sender is this authority's, so that this is another one.
                _ = current.changed() => {}
            }
        }
    }

    /// The roots that workloads must trust, PEM; also the webhooks' `caBundle`.
    pub fn root_pem(&self) -> String {
        self.current().authority.root_pem().to_owned()
    }

    /// The same, as they change.
    pub fn roots(&self) -> watch::Receiver<Arc<str>> {
        self.roots_tx.subscribe()
    }

    /// Where the signing certificate comes from.
    pub fn origin(&self) -> Origin {
        self.current().origin
    }

    /// The counters of this authority.
    pub fn metrics(&self) -> &Metrics {
        &self.metrics
    }
}

async fn find_or_create(
    store: &dyn SecretStore,
    options: &CaOptions,
) -> Result<(Authority, Origin), Error> {
    let namespace = options.namespace.as_str();
    if let Some(data) = store.get(namespace, PLUGGED_SECRET).await? {
        return Ok((plugged(namespace, &data)?, Origin::Plugged));
    }
    if let Some(data) = store.get(namespace, SELF_SIGNED_SECRET).await? {
        return Ok((self_signed(namespace, &data)?, Origin::Loaded));
    }
    let made = Authority::self_signed(&options.trust_domain, ROOT_VALIDITY)?;
    let data = SecretData::from([
        (CA_CERT.to_owned(), made.cert_pem().into()),
        (CA_KEY.to_owned(), made.key_pem().into()),
    ]);
    match store
        .create(namespace, SELF_SIGNED_SECRET, SELF_SIGNED_KIND, data)
        .await?
    {
        Creation::Created => Ok((made, Origin::Created)),
        Creation::Exists => {
            let data = store.get(namespace, SELF_SIGNED_SECRET).await?;
            let data = data.ok_or_else(|| missing(namespace, SELF_SIGNED_SECRET, CA_CERT))?;
            Ok((self_signed(namespace, &data)?, Origin::Loaded))
        }
    }
}

fn self_signed(namespace: &str, data: &SecretData) -> Result<Authority, Error> {
    let name = SELF_SIGNED_SECRET;
    let cert = text(data, CA_CERT).ok_or_else(|| missing(namespace, name, CA_CERT))?;
    let key = text(data, CA_KEY).ok_or_else(|| missing(namespace, name, CA_KEY))?;
    Authority::from_pem(&cert, &key, "", "").map_err(|e| bad(namespace, name, e))
}

/// Either Istio's four keys, or the form of a TLS Secret as cert-manager writes it.
fn plugged(namespace: &str, data: &SecretData) -> Result<Authority, Error> {
    let name = PLUGGED_SECRET;
    let either = |own: &'static str, tls: &str| {
        let found = text(data, own).or_else(|| text(data, tls));
        found.ok_or_else(|| missing(namespace, name, own))
    };
    let cert = either(CA_CERT, "tls.crt")?;
    let key = either(CA_KEY, "tls.key")?;
    let root = either(ROOT_CERT, "ca.crt")?;
    // In the TLS form the chain follows the certificate in the same text.
    let chain = text(data, CERT_CHAIN).unwrap_or_else(|| cert.clone());
    Authority::from_pem(&cert, &key, &chain, &root).map_err(|e| bad(namespace, name, e))
}

fn text(data: &SecretData, key: &str) -> Option<String> {
    data.get(key)
        .map(|bytes| String::from_utf8_lossy(bytes).into_owned())
}

fn missing(namespace: &str, name: &str, key: &'static str) -> Error {
    Error::MissingKey {
        secret: format!("{namespace}/{name}"),
        key,
    }
}

fn bad(namespace: &str, name: &str, source: lateen_tls::Error) -> Error {
    Error::BadSecret {
        secret: format!("{namespace}/{name}"),
        source,
    }
}

fn root_expiry(authority: &Authority) -> Result<SystemTime, Error> {
    Ok(lateen_tls::CertInfo::from_pem(authority.root_pem())?.not_after)
}

/// The names under which agents and the API server reach the control plane.
fn serving_hosts(namespace: &str) -> Vec<String> {
    let mut hosts = Vec::new();
    for service in ["istiod", "istiod-remote", "istio-pilot"] {
        hosts.push(format!("{service}.{namespace}.svc"));
        hosts.push(format!("{service}.{namespace}.svc.cluster.local"));
        hosts.push(format!("{service}.{namespace}"));
    }
    hosts
}
