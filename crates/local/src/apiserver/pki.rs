//! The cluster's certificate authority, its signing key for tokens, and kubeconfig files.

use std::io::{ErrorKind, Write};
use std::net::IpAddr;
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use lateen_tls::{Authority, CsrKey, Identity, IdentityStore, LeafRequest, SigningKey};
use serde_json::json;

const DAY: Duration = Duration::from_secs(24 * 60 * 60);

/// As long as kubeadm's.
const ROOT_VALIDITY: Duration = Duration::from_secs(10 * 365 * 24 * 60 * 60);

/// Serving and client certificates are made anew at each start.
const LEAF_VALIDITY: Duration = Duration::from_secs(365 * DAY.as_secs());

/// The names under which pods and the host know the API server.
const SERVER_NAMES: [&str; 5] = [
    "kubernetes",
    "kubernetes.default",
    "kubernetes.default.svc",
    "kubernetes.default.svc.cluster.local",
    "localhost",
];

/// Why keys could not be read, written or made.
#[derive(Debug, thiserror::Error)]
pub enum PkiError {
    /// A file could not be used.
    #[error("{0}: {1}")]
    Io(String, std::io::Error),
    /// A key or certificate could not be used.
    #[error(transparent)]
    Tls(#[from] lateen_tls::Error),
}

/// The keys of one cluster.
#[derive(Debug)]
pub struct Pki {
    authority: Authority,
    pub(super) tokens: SigningKey,
}

impl Pki {
    /// Loads the keys from a directory, or makes them there.
    ///
    /// # Errors
    /// If a file can be neither read nor made, or holds something else.
    pub fn load_or_create(directory: &Path) -> Result<Self, PkiError> {
        std::fs::create_dir_all(directory).map_err(|error| io(directory, error))?;
        let (cert, key) = (directory.join("ca.crt"), directory.join("ca.key"));
        let authority = match (read(&cert)?, read(&key)?) {
            (Some(cert), Some(key)) => Authority::from_pem(&cert, &key, "", "")?,
            _ => {
                let made = Authority::self_signed("kubernetes", ROOT_VALIDITY)?;
                write(&key, made.key_pem())?;
                write(&cert, made.cert_pem())?;
                made
            }
        };
        let path = directory.join("sa.key");
        let tokens = match read(&path)? {
            Some(key) => SigningKey::from_pem(&key)?,
            None => {
                let made = SigningKey::generate()?;
                write(&path, made.key_pem())?;
                made
            }
        };
        Ok(Self { authority, tokens })
    }

    /// The root that clients must trust, PEM.
    #[must_use]
    pub fn root_pem(&self) -> &str {
        self.authority.root_pem()
    }

    /// The certificate of the API server, good for these addresses beside the well-known names.
    ///
    /// # Errors
    /// If it cannot be issued.
    pub fn serving(&self, addresses: &[IpAddr]) -> Result<Arc<IdentityStore>, PkiError> {
        let mut request = LeafRequest::server(SERVER_NAMES, LEAF_VALIDITY);
        request.ips = addresses.to_vec();
        request.common_name = Some("kube-apiserver".into());
        Ok(Arc::new(IdentityStore::new(
            self.authority.identity(&request)?,
        )))
    }

    /// A certificate for a user in groups.
    ///
    /// # Errors
    /// If it cannot be issued; more than two groups are not supported.
    pub fn client(&self, user: &str, groups: &[&str]) -> Result<Identity, PkiError> {
        Ok(self
            .authority
            .identity(&LeafRequest::client(user, groups, LEAF_VALIDITY))?)
    }

    /// A kubeconfig file with a new client certificate, as YAML (in its JSON subset of types).
    ///
    /// # Errors
    /// As [`Pki::client`].
    pub fn kubeconfig(
        &self,
        cluster: &str,
        server: &str,
        user: &str,
        groups: &[&str],
    ) -> Result<String, PkiError> {
        let request = LeafRequest::client(user, groups, LEAF_VALIDITY);
        let issued = self.authority.issue(&request, CsrKey::Generate)?;
        let key = issued.key_pem.expect("a generated key is returned");
        let encode = |text: &str| STANDARD.encode(text);
        let config = json!({
            "apiVersion": "v1",
            "kind": "Config",
            "clusters": [{"name": cluster, "cluster": {
                "server": server, "certificate-authority-data": encode(self.root_pem())}}],
            "users": [{"name": user, "user": {
                "client-certificate-data": encode(&issued.chain_pem), "client-key-data": encode(&key)}}],
            "contexts": [{"name": cluster, "context": {"cluster": cluster, "user": user}}],
            "current-context": cluster,
        });
        Ok(serde_yaml_ng::to_string(&config).expect("JSON values are YAML"))
    }

    /// The kubeconfig of the administrator, who may do everything.
    ///
    /// # Errors
    /// As [`Pki::client`].
    pub fn admin_kubeconfig(&self, cluster: &str, server: &str) -> Result<String, PkiError> {
        self.kubeconfig(cluster, server, "kubernetes-admin", &[super::auth::MASTERS])
    }
}

fn io(path: &Path, error: std::io::Error) -> PkiError {
    PkiError::Io(path.display().to_string(), error)
}

fn read(path: &Path) -> Result<Option<String>, PkiError> {
    match std::fs::read_to_string(path) {
        Ok(text) => Ok(Some(text)),
        Err(error) if error.kind() == ErrorKind::NotFound => Ok(None),
        Err(error) => Err(io(path, error)),
    }
}

/// Whole or not at all, and for the owner alone.
fn write(path: &Path, text: &str) -> Result<(), PkiError> {
    let temporary = path.with_extension("new");
    let mut options = std::fs::OpenOptions::new();
    options.write(true).create(true).truncate(true).mode(0o600);
    let written = options.open(&temporary).and_then(|mut file| {
        file.write_all(text.as_bytes())?;
        file.sync_all()
    });
    written
        .and_then(|()| std::fs::rename(&temporary, path))
        .map_err(|error| io(path, error))
}
