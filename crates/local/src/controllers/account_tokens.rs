//! Fills Secrets of type `kubernetes.io/service-account-token`, which ask for a token of the service
//! account that they name. Without an account of that name they are taken away.

use std::collections::BTreeMap;
use std::time::Duration;

use futures::StreamExt;
use k8s_openapi::ByteString;
use k8s_openapi::api::authentication::v1::{TokenRequest, TokenRequestSpec};
use k8s_openapi::api::core::v1::{Secret, ServiceAccount};
use kube::api::{Api, DeleteParams, Patch, PatchParams, PostParams, ResourceExt};
use kube::runtime::watcher::Event;
use serde_json::json;
use tracing::warn;

use super::cache::events;
use super::{Context, ignore_missing};
use crate::Error;

const TYPE: &str = "kubernetes.io/service-account-token";
/// Whose token it is, and which account of that name.
const ACCOUNT: &str = "kubernetes.io/service-account.name";
const ACCOUNT_UID: &str = "kubernetes.io/service-account.uid";
/// Such tokens are good until the account goes; the longest that the API server gives.
const SECONDS: i64 = 365 * 24 * 3600;

pub(super) async fn run(context: Context) {
    let mut secrets = events(Api::<Secret>::all(context.client.clone()));
    while let Some(event) = secrets.next().await {
        let (Event::Apply(secret) | Event::InitApply(secret)) = event else {
            continue;
        };
        for _ in 0..5 {
            match fill(&context, &secret).await {
                Ok(()) => break,
                Err(error) => warn!(secret = secret.name_any(), %error, "no token for a Secret"),
            }
            tokio::time::sleep(Duration::from_millis(200)).await;
        }
    }
}

/// The account whose token is asked for; `None` where none is, or where it is there.
fn asked(secret: &Secret) -> Option<&str> {
    let has_token = secret
        .data
        .as_ref()
        .is_some_and(|data| data.contains_key("token"));
    let is_going = secret.metadata.deletion_timestamp.is_some();
    if secret.type_.as_deref() != Some(TYPE) || has_token || is_going {
        return None;
    }
    secret.annotations().get(ACCOUNT).map(String::as_str)
}

async fn fill(context: &Context, secret: &Secret) -> Result<(), Error> {
    let Some(account) = asked(secret) else {
        return Ok(());
    };
    let namespace = secret.namespace().unwrap_or_default();
    let (name, client) = (secret.name_any(), &context.client);
    let secrets: Api<Secret> = Api::namespaced(client.clone(), &namespace);
    let accounts: Api<ServiceAccount> = Api::namespaced(client.clone(), &namespace);
    let Some(found) = accounts.get_opt(account).await? else {
        ignore_missing(secrets.delete(&name, &DeleteParams::default()).await)?;
        return Ok(());
    };
    let request = TokenRequest {
        spec: Some(TokenRequestSpec {
            expiration_seconds: Some(SECONDS),
            ..TokenRequestSpec::default()
        }),
        ..TokenRequest::default()
    };
    let params = PostParams::default();
    let made = accounts
        .create_token_request(account, &params, &request)
        .await?;
    let token = made.status.and_then(|status| status.token);
    let Some(token) = token else {
        return Err(Error::Container(format!(
            "no token for serviceaccount {account:?}"
        )));
    };
    let values = [
        ("ca.crt", context.api_ca.clone()),
        ("namespace", namespace.clone()),
        ("token", token),
    ];
    let data: BTreeMap<&str, ByteString> = values
        .into_iter()
        .map(|(key, value)| (key, ByteString(value.into_bytes())))
        .collect();
    let annotations = json!({ACCOUNT_UID: found.uid()});
    let patch = Patch::Merge(json!({"data": data, "metadata": {"annotations": annotations}}));
    ignore_missing(secrets.patch(&name, &PatchParams::default(), &patch).await)?;
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_empty_secrets_of_the_type_ask() {
        let check = |value: serde_json::Value, expect: Option<&str>| {
            let secret: Secret = serde_json::from_value(value).expect("a Secret");
            assert_eq!(asked(&secret), expect);
        };
        let meta = json!({"name": "s", "annotations": {ACCOUNT: "a"}});
        check(json!({"type": TYPE, "metadata": meta}), Some("a"));
        check(json!({"type": "Opaque", "metadata": meta}), None);
        check(json!({"type": TYPE, "metadata": {"name": "s"}}), None);
        let full = json!({"type": TYPE, "metadata": meta, "data": {"token": "eA=="}});
        check(full, None);
    }
}
