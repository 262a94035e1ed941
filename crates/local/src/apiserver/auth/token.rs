//! Tokens of service accounts: JWTs signed with the cluster's key, bound to an audience and to a pod or a
//! Secret, with which they end.

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
    pub(in crate::apiserver) bound: Option<Bound>,
    pub(in crate::apiserver) seconds: i64,
}

/// The object that a token is for, and ends with.
pub(in crate::apiserver) struct Bound {
    pub(in crate::apiserver) kind: BoundKind,
    pub(in crate::apiserver) name: String,
    pub(in crate::apiserver) uid: String,
    /// The pod's node; empty where there is none.
    pub(in crate::apiserver) node: String,
}

/// What a token may be bound to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::apiserver) enum BoundKind {
    Pod,
    Secret,
}

impl BoundKind {
    const ALL: [Self; 2] = [Self::Pod, Self::Secret];

    /// By the name of the kind in a request.
    pub(in crate::apiserver) fn named(kind: &str) -> Option<Self> {
        match kind {
            "Pod" => Some(Self::Pod),
            "Secret" => Some(Self::Secret),
            _ => None,
        }
    }

    /// The member of the token's claims that names it.
    fn claim(self) -> &'static str {
        match self {
            Self::Pod => "pod",
            Self::Secret => "secret",
        }
    }

    /// Its resource.
    pub(in crate::apiserver) fn plural(self) -> &'static str {
        match self {
            Self::Pod => "pods",
            Self::Secret => "secrets",
        }
    }
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
    if let Some(to) = &claims.bound {
        bound[to.kind.claim()] = json!({"name": to.name, "uid": to.uid});
        if !to.node.is_empty() {
            bound["node"] = json!({"name": to.node});
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

/// The user, if the account and the object that the token is bound to are still there.
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
    for kind in BoundKind::ALL {
        still_there(core, namespace, bound, kind)?;
    }
    let mut user = User::service_account(namespace, account);
    user.uid = uid.to_owned();
    let credential = payload["jti"].as_str().map(|id| format!("JTI={id}"));
    for (key, value) in [
        ("credential-id", credential.as_deref().unwrap_or_default()),
        ("pod-name", text("/pod/name")),
        ("pod-uid", text("/pod/uid")),
        ("node-name", text("/node/name")),
    ] {
        if !value.is_empty() {
            let key = format!("authentication.kubernetes.io/{key}");
            user.extra.insert(key, vec![value.to_owned()]);
        }
    }
    Ok(user)
}

/// Refuses a token that is bound to an object of the kind which has gone.
fn still_there(core: &Core, namespace: &str, bound: &Value, kind: BoundKind) -> Result<(), String> {
    let Some(to) = bound.get(kind.claim()) else {
        return Ok(());
    };
    let name = meta::text(to, "/name").unwrap_or_default();
    let stored = core.get(kind.plural(), namespace, name);
    let same = stored.is_some_and(|stored| {
        let uid = meta::text(&stored.value, "/metadata/uid");
        uid.is_some() && uid == meta::text(to, "/uid")
    });
    match same {
        true => Ok(()),
        false => Err(format!(
            "the {} {name:?} that the token is bound to is gone",
            kind.claim()
        )),
    }
}
