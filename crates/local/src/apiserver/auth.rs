//! Who asks, and whether they may.

pub(super) mod escalation;
mod impersonate;
pub(super) mod rbac;
pub(super) mod reviews;
pub(super) mod token;

use std::collections::BTreeMap;

use http::HeaderMap;
use http::header::AUTHORIZATION;
use serde_json::{Value, json};

use super::core::Core;
use super::error::ApiError;
use super::request::Target;
use rbac::Attributes;

/// The group whose members may do everything.
pub(crate) const MASTERS: &str = "system:masters";

/// The group of all service accounts, and the prefix of that of one namespace's.
const ACCOUNT_GROUPS: &str = "system:serviceaccounts";

/// What a caller is told who shows nothing.
const NOBODY: &str = "neither a client certificate nor a bearer token; use the kubeconfig that \
                      `lateen status` names";

/// An authenticated caller.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct User {
    /// `system:serviceaccount:ns:name`, or the CN of a client certificate.
    pub name: String,
    /// Empty for certificates.
    pub uid: String,
    /// The O of a client certificate, or the service account's groups.
    pub groups: Vec<String>,
    /// What a bound token says about its pod.
    pub extra: BTreeMap<String, Vec<String>>,
}

impl User {
    /// A user in groups, beside `system:authenticated`.
    #[must_use]
    pub fn new(name: impl Into<String>, groups: impl IntoIterator<Item = String>) -> Self {
        let mut groups: Vec<_> = groups.into_iter().collect();
        groups.push("system:authenticated".into());
        Self {
            name: name.into(),
            uid: String::new(),
            groups,
            extra: BTreeMap::new(),
        }
    }

    fn service_account(namespace: &str, account: &str) -> Self {
        let name = format!("system:serviceaccount:{namespace}:{account}");
        let groups = reviews::implied_groups(&name);
        Self::new(name, groups)
    }

    /// Whether the user may do everything.
    #[must_use]
    pub fn is_master(&self) -> bool {
        self.groups.iter().any(|group| group == MASTERS)
    }

    /// As in the status of a TokenReview.
    #[must_use]
    pub fn to_json(&self) -> Value {
        let mut user = json!({"username": self.name, "groups": self.groups});
        if !self.uid.is_empty() {
            user["uid"] = self.uid.clone().into();
        }
        if !self.extra.is_empty() {
            user["extra"] = json!(self.extra);
        }
        user
    }
}

/// Finds out who asks: by token, else by the connection's client certificate.
pub(super) fn authenticate(
    core: &Core,
    peer: Option<User>,
    headers: &HeaderMap,
) -> Result<User, ApiError> {
    let bearer = headers
        .get(AUTHORIZATION)
        .and_then(|value| value.to_str().ok())
        .and_then(|value| value.split_once(' '))
        .filter(|(scheme, _)| scheme.eq_ignore_ascii_case("bearer"))
        .map(|(_, token)| token.trim());
    let user = match (bearer, &core.pki) {
        (Some(token), Some(pki)) => {
            let audiences = [token::ISSUER.to_owned()];
            let verified = token::verify(core, &pki.tokens, token, &audiences);
            let (user, _) = verified.map_err(|error| {
                tracing::debug!(error, "a token was refused");
                ApiError::unauthorized(&error)
            })?;
            user
        }
        _ => peer.ok_or_else(|| ApiError::unauthorized(NOBODY))?,
    };
    impersonate::apply(core, user, headers)
}

/// Refuses what no role allows.
pub(super) fn authorize(
    core: &Core,
    user: &User,
    target: &Target,
    verb: &str,
) -> Result<(), ApiError> {
    let namespace = match target.resource.is("", "namespaces") {
        true => target.name.clone(),
        false => target.namespace.clone(),
    };
    let wanted = Attributes {
        verb: verb.into(),
        group: target.resource.group.to_string(),
        resource: target.resource.plural.to_string(),
        subresource: target.subresource.clone(),
        namespace,
        name: target.name.clone(),
        path: None,
    };
    if rbac::allows(core, user, &wanted) {
        return Ok(());
    }
    Err(ApiError::forbidden(
        &target.resource,
        &target.name,
        &wanted.refusal(user),
    ))
}

/// Refuses a path that no role allows.
pub(super) fn authorize_path(core: &Core, user: &User, path: &str) -> Result<(), ApiError> {
    let wanted = Attributes {
        verb: "get".into(),
        path: Some(path.to_owned()),
        ..Attributes::default()
    };
    if rbac::allows(core, user, &wanted) {
        return Ok(());
    }
    let message = format!("forbidden: {}", wanted.refusal(user));
    Err(ApiError::new(
        http::StatusCode::FORBIDDEN,
        "Forbidden",
        message,
    ))
}
