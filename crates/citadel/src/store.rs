//! Where the authority's key is kept, as a trait.

use std::collections::BTreeMap;

use async_trait::async_trait;

/// The data of a Secret.
pub type SecretData = BTreeMap<String, Vec<u8>>;

/// What became of a creation.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Creation {
    /// The Secret is new and ours.
    Created,
    /// Somebody else created it in the meantime; theirs is the one that counts.
    Exists,
}

/// The store cannot be reached or refuses.
#[derive(Debug, thiserror::Error)]
#[error("{0}")]
pub struct StoreError(pub String);

/// Keeps Secrets.
#[async_trait]
pub trait SecretStore: Send + Sync {
    /// The data of a Secret, if it exists.
    async fn get(&self, namespace: &str, name: &str) -> Result<Option<SecretData>, StoreError>;

    /// Creates a Secret of the given type; an existing one is left as it is.
    async fn create(
        &self,
        namespace: &str,
        name: &str,
        kind: &str,
        data: SecretData,
    ) -> Result<Creation, StoreError>;
}
