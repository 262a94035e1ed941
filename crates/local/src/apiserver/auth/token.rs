//! Tokens of service accounts: JWTs signed with the cluster's key, bound to an audience and a pod.

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use lateen_tls::SigningKey;
use serde_json::{Value, json};

use super::User;
use crate::apiserver::core::Core;
use crate::apiserver::meta;

/// Who signs, and the audience of tokens for the API server itself.
pub(in crate::apiserver) const ISSUER: &str = "https://kubernetes.default.svc.cluster.local";

/// For clocks that are a little apart.
const LEEWAY: i64 = 5;

/// What a new token says.
pub(in crate::apiserver) struct Claims<'a> {
    pub(in crate::apiserver) namespace: &'a str,
    pub(in crate::apiserver) account: &'a str,
    pub(in crate::apiserver) account_uid: &'a str,
    pub(in crate::apiserver) audiences: &'a [String],
    /// Name, uid and node of the pod that it is for.
    pub(in crate::apiserver) pod: Option<(String, String, String)>,
    pub(in crate::apiserver) seconds: i64,
}

fn segment(value: &Value) -> String {
    URL_SAFE_NO_PAD.encode(value.to_string())
}

/// Signs a token; also returns when it expires.
pub(in crate::apiserver) fn sign(
    key: &SigningKey,
    claims: &Claims<'_>,
) -> Result<(String, jiff::Timestamp), lateen_tls::Error> {
    let now = jiff::Timestamp::now();
    let expires = now + jiff::SignedDuration::from_secs(claims.seconds);
    let mut bound = json!({
        "namespace": claims.namespace,
        "serviceaccount": {"name": claims.account, "uid": claims.account_uid},
    });
    if let Some((name, uid, node)) = &claims.pod {
        bound["pod"] = json!({"name": name, "uid": uid});
        if !node.is_empty() {
            bound["node"] = json!({"name": node});
        }
    }
    let payload = json!({
        "aud": claims.audiences, "iss": ISSUER, "jti": uuid::Uuid::new_v4().to_string(),
        "iat": now.as_second(), "nbf": now.as_second(), "exp": expires.as_second(),
        "kubernetes.io": bound,
        "sub": format!("system:serviceaccount:{}:{}", claims.namespace, claims.account),
    });
    let input = format!(
        "{}.{}",
        segment(&json!({"alg": "ES256", "typ": "JWT"})),
        segment(&payload)
    );
    let signature = key.sign(input.as_bytes())?;
    Ok((
        format!("{input}.{}", URL_SAFE_NO_PAD.encode(signature)),
        expires,
    ))
}

/// Checks a token for any of the audiences; returns the user and the audiences in common.
pub(in crate::apiserver) fn verify(
    core: &Core,
    key: &SigningKey,
    token: &str,
    audiences: &[String],
) -> Result<(User, Vec<String>), String> {
    let payload = signed_payload(key, token)?;
    check_times(&payload)?;
    if payload["iss"] != ISSUER {
        return Err("the token is of a foreign issuer".into());
    }
    let given: Vec<&str> = match &payload["aud"] {
        Value::String(one) => vec![one],
        other => other
            .as_array()
            .into_iter()
            .flatten()
            .filter_map(Value::as_str)
            .collect(),
    };
    let common: Vec<String> = audiences
        .iter()
        .filter(|asked| given.contains(&asked.as_str()))
        .cloned()
        .collect();
    if common.is_empty() {
        return Err(format!(
            "token audiences {given:?} is invalid for the target audiences {audiences:?}"
        ));
    }
    let user = bound_user(core, &payload)?;
    Ok((user, common))
}

fn signed_payload(key: &SigningKey, token: &str) -> Result<Value, String> {
    let malformed = || "the token is malformed".to_owned();
    let (input, signature) = token.rsplit_once('.').ok_or_else(malformed)?;
    let (header, payload) = input.split_once('.').ok_or_else(malformed)?;
    let decode = |part: &str| URL_SAFE_NO_PAD.decode(part).map_err(|_| malformed());
    let parse = |bytes: Vec<u8>| serde_json::from_slice::<Value>(&bytes).map_err(|_| malformed());
    if parse(decode(header)?)?["alg"] != "ES256" {
        return Err("the token is signed by an algorithm that is not ES256".into());
    }
    if !key.verifies(input.as_bytes(), &decode(signature)?) {
        return Err("the token's signature is not of this cluster".into());
    }
    parse(decode(payload)?)
}

fn check_times(payload: &Value) -> Result<(), String> {
    let now = jiff::Timestamp::now().as_second();
    let expires = payload["exp"]
        .as_i64()
        .ok_or("the token does not say when it expires")?;
    if now > expires + LEEWAY {
        return Err("service account token has expired".into());
    }
    if payload["nbf"]
        .as_i64()
        .is_some_and(|begins| now + LEEWAY < begins)
    {
        return Err("the token is not valid yet".into());
    }
    Ok(())
}

/// The user, if the account and the pod that the token is bound to are still there.
fn bound_user(core: &Core, payload: &Value) -> Result<User, String> {
    let bound = &payload["kubernetes.io"];
    let text = |pointer: &str| meta::text(bound, pointer).unwrap_or_default();
    let (namespace, account) = (text("/namespace"), text("/serviceaccount/name"));
    let stored = core.get("serviceaccounts", namespace, account);
    let uid = stored
        .as_ref()
        .and_then(|stored| meta::text(&stored.value, "/metadata/uid"))
        .unwrap_or_default();
    if uid.is_empty() || uid != text("/serviceaccount/uid") {
        return Err("service account has been deleted or replaced since the token was made".into());
    }
    let mut user = User::service_account(namespace, account);
    user.uid = uid.to_owned();
    let mut extra = |key: &str, value: &str| {
        if !value.is_empty() {
            user.extra.insert(
                format!("authentication.kubernetes.io/{key}"),
                vec![value.to_owned()],
            );
        }
    };
    extra(
        "credential-id",
        &payload["jti"]
            .as_str()
            .map(|id| format!("JTI={id}"))
            .unwrap_or_default(),
    );
    if let Some(pod) = bound.get("pod") {
        let (name, pod_uid) = (text("/pod/name"), text("/pod/uid"));
        let stored = core.get("pods", namespace, name);
        if stored.is_none_or(|stored| meta::text(&stored.value, "/metadata/uid") != Some(pod_uid)) {
            return Err(format!(
                "the pod {} that the token is bound to is gone",
                pod["name"]
            ));
        }
        extra("pod-name", name);
        extra("pod-uid", pod_uid);
    }
    extra("node-name", text("/node/name"));
    Ok(user)
}
