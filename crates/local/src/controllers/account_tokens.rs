//! Fills Secrets of type `kubernetes.io/service-account-token`, which ask for a token of the service
//! account that they name. The token ends with its Secret. Where there is no account of that name, or
//! another one than the Secret was filled for, the Secret is taken away.

use std::collections::BTreeMap;
use std::time::Duration;

use futures::StreamExt;
use k8s_openapi::ByteString;
use k8s_openapi::api::authentication::v1::{BoundObjectReference, TokenRequest, TokenRequestSpec};
use k8s_openapi::api::core::v1::{Secret, ServiceAccount};
use kube::api::{Api, DeleteParams, Patch, PatchParams, PostParams, Preconditions, ResourceExt};
use kube::runtime::watcher::Event;
use serde_json::json;
use tracing::warn;

use super::cache::{Cache, Key, events, key};
use super::{Context, ignore_missing};
use crate::Error;

const TYPE: &str = "kubernetes.io/service-account-token";
/// Whose token it is, and which account of that name.
const ACCOUNT: &str = "kubernetes.io/service-account.name";
const ACCOUNT_UID: &str = "kubernetes.io/service-account.uid";
/// Such tokens are good until the Secret or the account goes; the longest that the API server gives.
const SECONDS: i64 = 365 * 24 * 3600;

pub(super) async fn run(context: Context) {
    let mut secrets = events(Api::<Secret>::all(context.client.clone()));
    let mut accounts = events(Api::<ServiceAccount>::all(context.client.clone()));
    // Those that are of the type.
    let mut held: Cache<Secret> = Cache::default();
    loop {
        let touched: Vec<Secret> = tokio::select! {
            Some(event) = secrets.next() => match event {
                Event::Apply(secret) | Event::InitApply(secret) if account_of(&secret).is_none() => {
                    held.objects.remove(&key(&secret));
                    Vec::new()
                }
                event => {
                    let changed = held.take(event);
                    changed.iter().filter_map(|(key, _)| held.objects.get(key).cloned()).collect()
                }
            },
            Some(event) = accounts.next() => match event {
                // One that came in another's place while nobody looked is told as one that is there.
                Event::Delete(account) | Event::Apply(account) | Event::InitApply(account) => {
                    of_account(&held, &key(&account))
                }
                Event::Init | Event::InitDone => Vec::new(),
            },
            else => return,
        };
        for secret in touched {
            tend(&context, &secret).await;
        }
    }
}

/// The Secrets that name an account.
fn of_account(held: &Cache<Secret>, (namespace, name): &Key) -> Vec<Secret> {
    let all = held.of(namespace);
    all.filter(|secret| account_of(secret) == Some(name))
        .cloned()
        .collect()
}

/// The account that a Secret of the type names; `None` where it is of another, or going.
fn account_of(secret: &Secret) -> Option<&str> {
    let is_going = secret.metadata.deletion_timestamp.is_some();
    if secret.type_.as_deref() != Some(TYPE) || is_going {
        return None;
    }
    secret.annotations().get(ACCOUNT).map(String::as_str)
}

/// What is to be done with a Secret of the type.
#[derive(Debug, PartialEq, Eq)]
enum Step {
    Nothing,
    Fill,
    Remove,
}

/// Decides by the Secret and the uid of the account that it names, if that one is there.
fn step(secret: &Secret, account_uid: Option<&str>) -> Step {
    let filled_for = secret.annotations().get(ACCOUNT_UID);
    let data = secret.data.as_ref();
    let has_token = data.is_some_and(|data| data.contains_key("token"));
    match (account_uid, filled_for) {
        (None, _) => Step::Remove,
        (Some(there), Some(meant)) if there != meant => Step::Remove,
        _ if has_token => Step::Nothing,
        _ => Step::Fill,
    }
}

async fn tend(context: &Context, secret: &Secret) {
    for _ in 0..5 {
        match attempt(context, secret).await {
            Ok(()) => return,
            Err(error) => warn!(secret = secret.name_any(), %error, "no token for a Secret"),
        }
        tokio::time::sleep(Duration::from_millis(200)).await;
    }
}

async fn attempt(context: &Context, secret: &Secret) -> Result<(), Error> {
    let Some(account) = account_of(secret) else {
        return Ok(());
    };
    let namespace = secret.namespace().unwrap_or_default();
    let secrets: Api<Secret> = Api::namespaced(context.client.clone(), &namespace);
    let accounts: Api<ServiceAccount> = Api::namespaced(context.client.clone(), &namespace);
    let found = accounts.get_opt(account).await?;
    let account_uid = found
        .as_ref()
        .and_then(|found| found.metadata.uid.as_deref());
    match step(secret, account_uid) {
        Step::Nothing => Ok(()),
        Step::Remove => {
            let params = DeleteParams::default().preconditions(Preconditions {
                uid: secret.uid(),
                resource_version: None,
            });
            match secrets.delete(&secret.name_any(), &params).await {
                // One of the same name that is not this one.
                Err(error) if super::is_conflict(&error) => Ok(()),
                deleted => ignore_missing(deleted).map(drop),
            }
        }
        Step::Fill => {
            let token = token(&accounts, account, secret).await?;
            fill(context, &secrets, secret, token, account_uid).await
        }
    }
}

/// A token of the account that ends with the Secret.
async fn token(
    accounts: &Api<ServiceAccount>,
    account: &str,
    secret: &Secret,
) -> Result<String, Error> {
    let request = TokenRequest {
        spec: Some(TokenRequestSpec {
            expiration_seconds: Some(SECONDS),
            bound_object_ref: Some(BoundObjectReference {
                api_version: Some("v1".into()),
                kind: Some("Secret".into()),
                name: secret.metadata.name.clone(),
                uid: secret.metadata.uid.clone(),
            }),
            ..TokenRequestSpec::default()
        }),
        ..TokenRequest::default()
    };
    let made = accounts
        .create_token_request(account, &PostParams::default(), &request)
        .await?;
    let token = made.status.and_then(|status| status.token);
    token.ok_or_else(|| Error::Container(format!("no token for serviceaccount {account:?}")))
}

async fn fill(
    context: &Context,
    secrets: &Api<Secret>,
    secret: &Secret,
    token: String,
    account_uid: Option<&str>,
) -> Result<(), Error> {
    let values = [
        ("ca.crt", context.api_ca.clone()),
        ("namespace", secret.namespace().unwrap_or_default()),
        ("token", token),
    ];
    let data: BTreeMap<&str, ByteString> = values
        .into_iter()
        .map(|(key, value)| (key, ByteString(value.into_bytes())))
        .collect();
    // With its uid, so that no other of the name is filled.
    let metadata = json!({"uid": secret.uid(), "annotations": {ACCOUNT_UID: account_uid}});
    let patch = Patch::Merge(json!({"data": data, "metadata": metadata}));
    let name = secret.name_any();
    ignore_missing(secrets.patch(&name, &PatchParams::default(), &patch).await)?;
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn secret(value: serde_json::Value) -> Secret {
        serde_json::from_value(value).expect("a Secret")
    }

    #[test]
    fn only_secrets_of_the_type_name_an_account() {
        let check = |value, expect| assert_eq!(account_of(&secret(value)), expect);
        let meta = json!({"name": "s", "annotations": {ACCOUNT: "a"}});
        check(json!({"type": TYPE, "metadata": meta}), Some("a"));
        check(json!({"type": "Opaque", "metadata": meta}), None);
        check(json!({"type": TYPE, "metadata": {"name": "s"}}), None);
    }

    #[test]
    fn what_was_filled_for_another_account_goes() {
        let check = |uid: Option<&str>, data, account, expect| {
            let annotations = json!({ACCOUNT: "a", ACCOUNT_UID: uid});
            let metadata = match uid {
                Some(_) => json!({"name": "s", "annotations": annotations}),
                None => json!({"name": "s", "annotations": {ACCOUNT: "a"}}),
            };
            let secret = secret(json!({"type": TYPE, "metadata": metadata, "data": data}));
            assert_eq!(step(&secret, account), expect, "{secret:?}");
        };
        let full = || json!({"token": "eA=="});
        check(None, json!({}), Some("1"), Step::Fill);
        check(Some("1"), full(), Some("1"), Step::Nothing);
        check(Some("1"), full(), Some("2"), Step::Remove);
        check(Some("1"), full(), None, Step::Remove);
        check(None, json!({}), None, Step::Remove);
    }
}
