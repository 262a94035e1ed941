//! The authority's key in Secrets of an API server.

use k8s_openapi::{ByteString, api::core::v1::Secret};
use kube::{
    Api, Client,
    api::{ObjectMeta, PostParams},
};
use lateen_citadel::{Creation, SecretData, SecretStore, StoreError};

/// Secrets of an API server.
pub(super) struct Secrets(pub(super) Client);

impl Secrets {
    fn api(&self, namespace: &str) -> Api<Secret> {
        Api::namespaced(self.0.clone(), namespace)
    }
}

fn failed(error: kube::Error) -> StoreError {
    StoreError(error.to_string())
}

#[async_trait::async_trait]
impl SecretStore for Secrets {
    async fn get(&self, namespace: &str, name: &str) -> Result<Option<SecretData>, StoreError> {
        let secret = self.api(namespace).get_opt(name).await.map_err(failed)?;
        Ok(secret.map(|secret| {
            let data = secret.data.unwrap_or_default();
            data.into_iter()
                .map(|(key, value)| (key, value.0))
                .collect()
        }))
    }

    async fn create(
        &self,
        namespace: &str,
        name: &str,
        kind: &str,
        data: SecretData,
    ) -> Result<Creation, StoreError> {
        let secret = Secret {
            metadata: ObjectMeta {
                name: Some(name.to_owned()),
                ..ObjectMeta::default()
            },
            type_: Some(kind.to_owned()),
            data: Some(
                data.into_iter()
                    .map(|(key, value)| (key, ByteString(value)))
                    .collect(),
            ),
            ..Secret::default()
        };
        match self
            .api(namespace)
            .create(&PostParams::default(), &secret)
            .await
        {
            Ok(_) => Ok(Creation::Created),
            Err(kube::Error::Api(status)) if status.code == 409 => Ok(Creation::Exists),
            Err(error) => Err(failed(error)),
        }
    }
}
