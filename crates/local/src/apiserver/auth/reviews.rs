//! Requests that only ask: reviews of tokens and of access, and requests for tokens.

use std::sync::Arc;

use serde_json::{Value, json};

use super::rbac::{self, Attributes};
use super::token::{self, Bound, BoundKind, Claims};
use super::{ACCOUNT_GROUPS, User};
use crate::apiserver::core::Core;
use crate::apiserver::error::{ApiError, FieldError};
use crate::apiserver::request::Call;
use crate::apiserver::{meta, read, write};

/// The shortest life of a token, as in Kubernetes.
const MIN_SECONDS: i64 = 600;

/// The longest, so that a forgotten token ends.
const MAX_SECONDS: i64 = 365 * 24 * 3600;

/// Answers a create of a kind that is never stored.
pub(in crate::apiserver) fn create(core: &Core, call: &Call) -> Result<Value, ApiError> {
    let mut review = call.json_body()?;
    if !review.is_object() {
        return Err(ApiError::bad_request("the body is not an object"));
    }
    write::decode(call, &mut review)?;
    let resource = &call.target.resource;
    let status = match resource.plural.as_str() {
        "tokenreviews" => token_review(core, &review)?,
        "selfsubjectreviews" => json!({"userInfo": call.user.to_json()}),
        "selfsubjectaccessreviews" => access(core, &call.user, &review["spec"]),
        "subjectaccessreviews" | "localsubjectaccessreviews" => {
            access(core, &subject(&review["spec"]), &review["spec"])
        }
        "selfsubjectrulesreviews" => rules(core, &call.user, &review["spec"]),
        _ => return Err(ApiError::no_such_path()),
    };
    review["apiVersion"] = resource.api_version().into();
    review["kind"] = Value::String(resource.kind.to_string());
    meta::metadata(&mut review).insert("creationTimestamp".into(), Value::Null);
    review["status"] = status;
    Ok(review)
}

fn texts(value: &Value, pointer: &str) -> Vec<String> {
    meta::list(value, pointer)
        .iter()
        .filter_map(Value::as_str)
        .map(str::to_owned)
        .collect()
}

fn token_review(core: &Core, review: &Value) -> Result<Value, ApiError> {
    let Some(pki) = &core.pki else {
        return Err(ApiError::bad_request(
            "token reviews are not supported without a signing key",
        ));
    };
    let mut audiences = texts(review, "/spec/audiences");
    if audiences.is_empty() {
        audiences.push(token::ISSUER.into());
    }
    let given = meta::text(review, "/spec/token").unwrap_or_default();
    Ok(match token::verify(core, &pki.tokens, given, &audiences) {
        Ok((user, audiences)) => {
            json!({"authenticated": true, "user": user.to_json(), "audiences": audiences})
        }
        Err(error) => {
            json!({"authenticated": false, "user": {}, "error": format!("[invalid bearer token, {error}]")})
        }
    })
}

fn subject(spec: &Value) -> User {
    let mut user = User::new(
        meta::text(spec, "/user").unwrap_or_default(),
        texts(spec, "/groups"),
    );
    user.groups.dedup();
    user
}

fn access(core: &Core, user: &User, spec: &Value) -> Value {
    let text = |pointer: &str| meta::text(spec, pointer).unwrap_or_default().to_owned();
    let wanted = match spec.get("nonResourceAttributes") {
        Some(attributes) if attributes.is_object() => Attributes {
            verb: text("/nonResourceAttributes/verb"),
            path: Some(text("/nonResourceAttributes/path")),
            ..Attributes::default()
        },
        _ => Attributes {
            verb: text("/resourceAttributes/verb"),
            group: text("/resourceAttributes/group"),
            resource: text("/resourceAttributes/resource"),
            subresource: text("/resourceAttributes/subresource"),
            namespace: text("/resourceAttributes/namespace"),
            name: text("/resourceAttributes/name"),
            path: None,
        },
    };
    match rbac::allows(core, user, &wanted) {
        true => json!({"allowed": true, "reason": "RBAC: allowed by a role or by system:masters"}),
        false => json!({"allowed": false}),
    }
}

fn rules(core: &Core, user: &User, spec: &Value) -> Value {
    let namespace = meta::text(spec, "/namespace").unwrap_or_default();
    let mut all = rbac::rules(core, user, namespace);
    if user.is_master() {
        all.push(json!({"apiGroups": ["*"], "resources": ["*"], "verbs": ["*"]}));
    }
    let (paths, resources): (Vec<_>, Vec<_>) = all
        .into_iter()
        .partition(|rule| rule.get("nonResourceURLs").is_some());
    json!({"resourceRules": resources, "nonResourceRules": paths, "incomplete": false})
}

/// Answers `POST …/serviceaccounts/{name}/token`.
pub(in crate::apiserver) fn token_request(
    core: &Arc<Core>,
    call: &Call,
) -> Result<Value, ApiError> {
    let Some(pki) = &core.pki else {
        return Err(ApiError::bad_request(
            "tokens are not supported without a signing key",
        ));
    };
    let account = read::object(core, &call.target)?;
    let mut request = call.json_body()?;
    let mut audiences = texts(&request, "/spec/audiences");
    if audiences.is_empty() {
        audiences.push(token::ISSUER.into());
    }
    let seconds = request
        .pointer("/spec/expirationSeconds")
        .and_then(Value::as_i64)
        .unwrap_or(3600);
    if seconds < MIN_SECONDS {
        let detail = "may not specify a duration less than 10 minutes";
        let error = FieldError::invalid("spec.expirationSeconds", &seconds.into(), detail);
        return Err(ApiError::invalid(
            &call.target.resource,
            &call.target.name,
            &[error],
        ));
    }
    let claims = Claims {
        namespace: &account.key.namespace,
        account: &account.key.name,
        account_uid: meta::text(&account.value, "/metadata/uid").unwrap_or_default(),
        audiences: &audiences,
        bound: bound(core, call, &request)?,
        seconds: seconds.min(MAX_SECONDS),
    };
    let (token, expires) = token::sign(&pki.tokens, &claims).map_err(ApiError::internal)?;
    request["apiVersion"] = "authentication.k8s.io/v1".into();
    request["kind"] = "TokenRequest".into();
    let metadata = meta::metadata(&mut request);
    metadata.insert("name".into(), account.key.name.clone().into());
    metadata.insert("namespace".into(), account.key.namespace.clone().into());
    let spec = meta::child(&mut request, "spec");
    spec.insert("audiences".into(), audiences.into());
    spec.insert("expirationSeconds".into(), seconds.into());
    request["status"] = json!({"token": token, "expirationTimestamp": meta::timestamp(expires)});
    Ok(request)
}

/// The object that a token is asked for, checked to be there.
fn bound(core: &Core, call: &Call, request: &Value) -> Result<Option<Bound>, ApiError> {
    let Some(asked) = request
        .pointer("/spec/boundObjectRef")
        .filter(|asked| asked.is_object())
    else {
        return Ok(None);
    };
    let resource = &call.target.resource;
    let kind = meta::text(asked, "/kind").and_then(BoundKind::named);
    let Some(kind) = kind else {
        let error = FieldError::invalid(
            "spec.boundObjectRef.kind",
            &asked["kind"],
            "only pods and secrets are supported",
        );
        return Err(ApiError::invalid(resource, &call.target.name, &[error]));
    };
    let name = meta::text(asked, "/name").unwrap_or_default();
    let kinds = core.kinds();
    let of_kind = kinds.find("", "v1", kind.plural()).expect("builtin");
    let object = core
        .get(kind.plural(), &call.target.namespace, name)
        .ok_or_else(|| ApiError::not_found(&of_kind, name))?;
    let uid = meta::text(&object.value, "/metadata/uid").unwrap_or_default();
    if meta::text(asked, "/uid").is_some_and(|asked| !asked.is_empty() && asked != uid) {
        return Err(ApiError::conflict(
            &of_kind,
            name,
            &format!(
                "the UID in the bound object reference does not match the UID in record ({uid})"
            ),
        ));
    }
    let mut node = "";
    if kind == BoundKind::Pod {
        let own = meta::text(&object.value, "/spec/serviceAccountName").unwrap_or("default");
        if own != call.target.name {
            let why = format!(
                "cannot bind token for serviceaccount {:?} to pod running with different serviceaccount name {own:?}",
                call.target.name
            );
            return Err(ApiError::bad_request(why));
        }
        node = meta::text(&object.value, "/spec/nodeName").unwrap_or_default();
    }
    Ok(Some(Bound {
        kind,
        name: name.to_owned(),
        uid: uid.to_owned(),
        node: node.to_owned(),
    }))
}

/// The groups of a service account's name, if it is one.
pub(in crate::apiserver) fn implied_groups(user: &str) -> Vec<String> {
    let Some((namespace, _)) = user
        .strip_prefix("system:serviceaccount:")
        .and_then(|rest| rest.split_once(':'))
    else {
        return Vec::new();
    };
    vec![
        ACCOUNT_GROUPS.to_owned(),
        format!("{ACCOUNT_GROUPS}:{namespace}"),
    ]
}
