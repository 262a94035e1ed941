//! The mesh's certificates: one authority, one workload on either side.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::sync::{Mutex, PoisonError};

use anyhow::{Context, Result};
use async_trait::async_trait;
use lateen_citadel::{
    CaOptions, CertificateAuthority, Creation, SecretData, SecretStore, StoreError,
};
use lateen_core::SpiffeId;

pub(crate) const TRUST_DOMAIN: &str = "cluster.local";
pub(crate) const NAMESPACE: &str = "default";
/// The service account of whoever asks.
pub(crate) const CLIENT: &str = "client";
/// The service account of whoever answers.
pub(crate) const SERVER: &str = "items";

/// Names of files in a directory of [`write()`].
pub(crate) const CHAIN: &str = "cert-chain.pem";
pub(crate) const KEY: &str = "key.pem";
pub(crate) const ROOTS: &str = "root-cert.pem";
/// Chain and key in one, as haproxy has it.
pub(crate) const BUNDLE: &str = "bundle.pem";

/// The identity of a service account.
pub(crate) fn spiffe(account: &str) -> Result<SpiffeId> {
    Ok(SpiffeId::new(TRUST_DOMAIN, NAMESPACE, account)?)
}

/// An authority that lives as long as the run.
pub(crate) async fn authority() -> Result<CertificateAuthority> {
    let store = Forgetful::default();
    let authority = CertificateAuthority::load_or_create(&store, CaOptions::default());
    authority.await.context("an authority")
}

/// Issues a certificate and writes it below `scratch`.
pub(crate) fn write(ca: &CertificateAuthority, scratch: &Path, account: &str) -> Result<PathBuf> {
    let identity = ca.workload_identity(&spiffe(account)?)?;
    let directory = scratch.join("identity").join(account);
    fs::create_dir_all(&directory)?;
    let (chain, key) = (identity.chain_pem(), identity.key_pem());
    fs::write(directory.join(CHAIN), chain)?;
    fs::write(directory.join(KEY), key)?;
    fs::write(directory.join(BUNDLE), format!("{chain}\n{key}\n"))?;
    fs::write(directory.join(ROOTS), identity.roots_pem())?;
    Ok(directory)
}

/// Secrets that are forgotten with the run.
#[derive(Default)]
struct Forgetful(Mutex<BTreeMap<String, SecretData>>);

#[async_trait]
impl SecretStore for Forgetful {
    async fn get(&self, _namespace: &str, name: &str) -> Result<Option<SecretData>, StoreError> {
        let secrets = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        Ok(secrets.get(name).cloned())
    }

    async fn create(
        &self,
        _namespace: &str,
        name: &str,
        _kind: &str,
        data: SecretData,
    ) -> Result<Creation, StoreError> {
        let mut secrets = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        secrets.insert(name.to_owned(), data);
        Ok(Creation::Created)
    }
}
