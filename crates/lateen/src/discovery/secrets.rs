//! The authority's key in Secrets of an API server.

use std::sync::Arc;

use k8s_openapi::{ByteString, api::core::v1::Secret};
use kube::{
    Api, Client,
    api::{ObjectMeta, PostParams},
    runtime::watcher,
};
use lateen_citadel::{
    CertificateAuthority, Creation, PLUGGED_SECRET, SecretData, SecretStore, StoreError,
};
use tracing::{error, info};

use super::injection::keep;

/// Secrets of an API server.
pub(super) struct Secrets(pub(super) Client);

impl Secrets {
    fn api(&self, namespace: &str) -> Api<Secret> {
        Api::namespaced(self.0.clone(), namespace)
    }
}

fn data_of(secret: &Secret) -> SecretData {
    let data = secret.data.iter().flatten();
    data.map(|(key, value)| (key.clone(), value.0.clone()))
        .collect()
}

/// Keeps the authority the one that the operator's Secret holds, without end.
pub(super) async fn keep_plugged(
    client: Client,
    namespace: String,
    authority: Arc<CertificateAuthority>,
) {
    let named = format!("metadata.name={PLUGGED_SECRET}");
    let which = watcher::Config::default().fields(&named);
    let secrets: Api<Secret> = Api::namespaced(client, &namespace);
    let mut found = keep(secrets, which, |secrets| {
        Some(secrets.values().next().map(data_of))
    });
    while found.changed().await.is_ok() {
        // Its outer part is whether anything was read, its inner part whether it is there.
        let secret = found.borrow_and_update().clone().flatten();
        match authority.replug(secret.as_ref()) {
            Ok(true) => info!("another certificate authority signs from now on"),
            Ok(false) => {}
            Err(error) => error!(%error, "the certificate authority stays as it was"),
        }
    }
}

fn failed(error: kube::Error) -> StoreError {
    StoreError(error.to_string())
}

#[async_trait::async_trait]
impl SecretStore for Secrets {
    async fn get(&self, namespace: &str, name: &str) -> Result<Option<SecretData>, StoreError> {
        let secret = self.api(namespace).get_opt(name).await.map_err(failed)?;
        Ok(secret.map(|secret| data_of(&secret)))
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

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use kube::api::{Patch, PatchParams};
    use lateen_citadel::CaOptions;
    use lateen_tls::Authority;
    use serde_json::{Value, json};

    use super::*;
    use crate::{apply::Applier, discovery::platform};

    fn secret(signer: &Authority, roots: &str) -> Value {
        json!({
            "apiVersion": "v1", "kind": "Secret",
            "metadata": {"name": PLUGGED_SECRET, "namespace": "istio-system"},
            "stringData": {
                "ca-cert.pem": signer.cert_pem(), "ca-key.pem": signer.key_pem(),
                "cert-chain.pem": signer.cert_pem(), "root-cert.pem": roots,
            },
        })
    }

    #[tokio::test]
    async fn an_authority_that_is_replaced_signs_without_a_restart() {
        let directory = tempfile::tempdir().expect("a folder");
        let client = platform::server(directory.path()).await;
        let root = || Authority::self_signed("corp", Duration::from_secs(3600)).expect("a root");
        let (old, new) = (root(), root());
        let namespace =
            json!({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": "istio-system"}});
        let mut applier = Applier::new(client.clone());
        let all = [namespace, secret(&old, old.root_pem())];
        applier.apply_all(&all).await.expect("applied");
        let store = Secrets(client.clone());
        let authority = CertificateAuthority::load_or_create(&store, CaOptions::default()).await;
        let authority = Arc::new(authority.expect("an authority"));
        let keeping = keep_plugged(client.clone(), "istio-system".to_owned(), authority.clone());
        let keeping = tokio::spawn(keeping);
        let mut roots = authority.roots();
        let secrets: Api<Secret> = Api::namespaced(client, "istio-system");
        let both = format!("{}{}", old.root_pem(), new.root_pem());
        // What would part the mesh is passed over, and what comes after it is taken.
        for (signer, roots_pem, is_taken) in [
            (&new, new.root_pem(), false),
            (&new, both.as_str(), false),
            (&old, both.as_str(), true),
            (&new, &both, true),
            (&new, new.root_pem(), true),
        ] {
            let patch = Patch::Merge(secret(signer, roots_pem));
            let params = PatchParams::default();
            let patched = secrets.patch(PLUGGED_SECRET, &params, &patch).await;
            patched.expect("it is there");
            if is_taken {
                let is_so = roots.wait_for(|roots| **roots == *roots_pem);
                let is_so = tokio::time::timeout(Duration::from_secs(60), is_so).await;
                drop(is_so.expect("in time").expect("the authority lives"));
            }
        }
        keeping.abort();
    }
}
