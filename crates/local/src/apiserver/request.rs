//! What a request asks for: path, verb, options and the form of the answer.

use std::collections::BTreeMap;
use std::sync::Arc;

use bytes::Bytes;
use http::{HeaderMap, Method};
use percent_encoding::percent_decode_str;
use serde_json::Value;

use super::auth::User;
use super::body::{self, parse_json, parse_yaml};
use super::error::ApiError;
use super::kinds::{Kinds, Resource};
use super::protobuf;

/// The binary form that some clients insist on sending.
const PROTOBUF: &str = "application/vnd.kubernetes.protobuf";

/// A resource, a collection, one object or one of its subresources.
#[derive(Clone, Debug)]
pub(crate) struct Target {
    /// The resource.
    pub resource: Arc<Resource>,
    /// The namespace; empty for cluster-wide paths.
    pub namespace: String,
    /// The object's name; empty for collections.
    pub name: String,
    /// `status`, `scale`, `log` and so on; empty for the object itself.
    pub subresource: String,
}

/// What a path means.
#[derive(Clone, Debug)]
pub(crate) enum Path {
    /// Objects.
    Resource(Target),
    /// Discovery, health and the like.
    Other,
    /// A group, version or resource that is not served.
    Unknown,
}

/// Reads a path.
#[must_use]
pub(crate) fn parse_path(path: &str, kinds: &Kinds) -> Path {
    let parts: Vec<String> = path
        .split('/')
        .filter(|part| !part.is_empty())
        .map(|part| percent_decode_str(part).decode_utf8_lossy().into_owned())
        .collect();
    let parts: Vec<&str> = parts.iter().map(String::as_str).collect();
    let (group, version, rest) = match parts.as_slice() {
        ["api", version, rest @ ..] if !rest.is_empty() => ("", *version, rest),
        ["apis", group, version, rest @ ..] if !rest.is_empty() => (*group, *version, rest),
        _ => return Path::Other,
    };
    // `/api/v1/watch/…` is the old way to watch; no current client uses it.
    let (namespace, rest) = match rest {
        ["namespaces", namespace, rest @ ..]
            if !(rest.is_empty()
                || group.is_empty() && matches!(rest, ["status" | "finalize"])) =>
        {
            (*namespace, rest)
        }
        rest => ("", rest),
    };
    let (plural, name, subresource) = match rest {
        [plural] => (*plural, "", ""),
        [plural, name] => (*plural, *name, ""),
        [plural, name, sub] => (*plural, *name, *sub),
        [plural, name, sub @ "proxy", ..] => (*plural, *name, *sub),
        _ => return Path::Unknown,
    };
    let Some(resource) = kinds.find(group, version, plural) else {
        return Path::Unknown;
    };
    if !resource.namespaced && !namespace.is_empty() {
        return Path::Unknown;
    }
    Path::Resource(Target {
        resource,
        namespace: namespace.to_owned(),
        name: name.to_owned(),
        subresource: subresource.to_owned(),
    })
}

/// The verb that RBAC sees.
#[must_use]
pub(crate) fn verb(
    method: &Method,
    target: &Target,
    query: &BTreeMap<String, String>,
) -> &'static str {
    let one = !target.name.is_empty();
    match *method {
        Method::GET | Method::HEAD => match (one, is_true(query, "watch")) {
            (false, true) => "watch",
            (false, false) => "list",
            (true, _) => "get",
        },
        Method::POST => "create",
        Method::PUT => "update",
        Method::PATCH => "patch",
        Method::DELETE if one => "delete",
        Method::DELETE => "deletecollection",
        _ => "",
    }
}

/// Whether a query parameter is on.
#[must_use]
pub(crate) fn is_true(query: &BTreeMap<String, String>, key: &str) -> bool {
    query
        .get(key)
        .is_some_and(|value| matches!(value.as_str(), "true" | "1" | "True" | ""))
}

/// Reads a query string; the last of several values wins.
#[must_use]
pub(crate) fn parse_query(query: &str) -> BTreeMap<String, String> {
    pairs(query).collect()
}

/// Every value of a query parameter that may be there more than once.
pub(super) fn values(query: &str, key: &str) -> Vec<String> {
    let pairs = pairs(query).filter(|(name, _)| name == key);
    pairs.map(|(_, value)| value).collect()
}

fn pairs(query: &str) -> impl Iterator<Item = (String, String)> {
    let decode = |text: &str| {
        percent_decode_str(&text.replace('+', " "))
            .decode_utf8_lossy()
            .into_owned()
    };
    query
        .split('&')
        .filter(|pair| !pair.is_empty())
        .map(|pair| pair.split_once('=').unwrap_or((pair, "")))
        .map(move |(key, value)| (decode(key), decode(value)))
}

/// The form that the client wants.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Form {
    /// The object itself.
    Json,
    /// The object itself, as YAML.
    Yaml,
    /// Columns and rows.
    Table,
    /// Only the metadata.
    Metadata,
}

/// Chooses the form from `Accept`; the first that is possible wins.
///
/// # Errors
/// 406 if none is.
pub(crate) fn negotiate(headers: &HeaderMap) -> Result<Form, ApiError> {
    let accept: Vec<&str> = headers
        .get_all(http::header::ACCEPT)
        .iter()
        .filter_map(|one| one.to_str().ok())
        .collect();
    let accept = accept.join(",");
    if accept.trim().is_empty() {
        return Ok(Form::Json);
    }
    accept
        .split(',')
        .find_map(form_of)
        .ok_or_else(ApiError::not_acceptable)
}

fn form_of(range: &str) -> Option<Form> {
    let mut parts = range.split(';').map(str::trim);
    let media = parts.next()?;
    let parameters: BTreeMap<_, _> = parts.filter_map(|part| part.split_once('=')).collect();
    let kind = parameters.get("as").copied();
    let version = parameters.get("v").copied().unwrap_or("v1");
    match (media, kind) {
        ("application/json" | "*/*" | "application/*", None) => Some(Form::Json),
        ("application/yaml", None) => Some(Form::Yaml),
        ("application/json", Some("Table")) if version == "v1" => Some(Form::Table),
        ("application/json", Some("PartialObjectMetadata" | "PartialObjectMetadataList"))
            if version == "v1" =>
        {
            Some(Form::Metadata)
        }
        ("text/plain" | "text/*", None) => Some(Form::Json),
        _ => None,
    }
}

/// What is done about members that are unknown or named twice.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum FieldValidation {
    /// They are dropped.
    Ignore,
    /// They are dropped, and the answer says so.
    Warn,
    /// The request is refused.
    Strict,
}

/// One request for objects.
#[derive(Clone, Debug)]
pub(crate) struct Call {
    /// What it is about.
    pub target: Target,
    /// What RBAC calls it.
    pub verb: &'static str,
    /// The query parameters.
    pub query: BTreeMap<String, String>,
    /// The program and arguments that an `exec` names.
    pub command: Vec<String>,
    /// The form of the answer.
    pub form: Form,
    /// Who asks.
    pub user: User,
    /// `User-Agent`, which names the field manager when nothing else does.
    pub user_agent: String,
    /// `Content-Type` without parameters.
    pub content_type: String,
    /// The body.
    pub body: Bytes,
    /// The connection, where the request asks to make one of another protocol of it.
    pub upgrade: Option<Arc<super::upgrade::UpgradeRequest>>,
}

impl Call {
    /// A query parameter, if it is not empty.
    #[must_use]
    pub(crate) fn parameter(&self, key: &str) -> Option<&str> {
        self.query
            .get(key)
            .map(String::as_str)
            .filter(|value| !value.is_empty())
    }

    /// Whether nothing is to be stored.
    ///
    /// # Errors
    /// 400 for anything but `All`.
    pub(crate) fn is_dry_run(&self) -> Result<bool, ApiError> {
        match self.parameter("dryRun") {
            None => Ok(false),
            Some("All") => Ok(true),
            Some(other) => Err(ApiError::bad_request(format!(
                "invalid dry run option {other:?}: only \"All\" is supported"
            ))),
        }
    }

    /// What is done about members that are unknown or named twice.
    ///
    /// # Errors
    /// 422 for anything but `Ignore`, `Warn` and `Strict`.
    pub(crate) fn field_validation(&self) -> Result<FieldValidation, ApiError> {
        match self.parameter("fieldValidation") {
            // What an apply says must be what is stored.
            _ if self.content_type == "application/apply-patch+yaml" => Ok(FieldValidation::Strict),
            None | Some("Warn") => Ok(FieldValidation::Warn),
            Some("Strict") => Ok(FieldValidation::Strict),
            Some("Ignore") => Ok(FieldValidation::Ignore),
            Some(other) => Err(ApiError::new(
                http::StatusCode::UNPROCESSABLE_ENTITY,
                "Invalid",
                format!(
                    "fieldValidation: Unsupported value: {other:?}: supported values: \"Ignore\", \"Strict\", \"Warn\""
                ),
            )),
        }
    }

    /// The members that the body names more than once.
    pub(crate) fn duplicates(&self) -> Vec<String> {
        match self.content_type.as_str() {
            "application/json-patch+json" | PROTOBUF => Vec::new(),
            _ => body::duplicates(&self.body),
        }
    }

    /// The manager of the fields that this request sets.
    #[must_use]
    pub(crate) fn field_manager(&self) -> String {
        match self.parameter("fieldManager") {
            Some(manager) => manager.to_owned(),
            None => self
                .user_agent
                .split('/')
                .next()
                .filter(|name| !name.is_empty())
                .unwrap_or("unknown")
                .to_owned(),
        }
    }

    /// The body as JSON; YAML is read too.
    ///
    /// # Errors
    /// 400 if it is neither, 415 for a media type that is not supported.
    pub(crate) fn json_body(&self) -> Result<Value, ApiError> {
        match self.content_type.as_str() {
            PROTOBUF => protobuf::decode(&self.body).map_err(|error| {
                let code = http::StatusCode::UNSUPPORTED_MEDIA_TYPE;
                ApiError::new(code, "UnsupportedMediaType", error)
            }),
            "application/yaml" | "application/apply-patch+yaml" => parse_yaml(&self.body),
            ""
            | "application/json"
            | "application/merge-patch+json"
            | "application/json-patch+json"
            | "application/strategic-merge-patch+json" => parse_json(&self.body),
            other => Err(ApiError::new(
                http::StatusCode::UNSUPPORTED_MEDIA_TYPE,
                "UnsupportedMediaType",
                format!(
                    "the body of the request was in an unknown format - accepted media types include: application/json, application/yaml (got {other})"
                ),
            )),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(path: &str, expect: Option<(&str, &str, &str, &str)>) {
        let kinds = Kinds::new(&[]);
        match (parse_path(path, &kinds), expect) {
            (Path::Resource(target), Some((plural, namespace, name, sub))) => assert_eq!(
                (
                    target.resource.plural.as_str(),
                    target.namespace.as_str(),
                    target.name.as_str(),
                    target.subresource.as_str()
                ),
                (plural, namespace, name, sub),
                "{path}"
            ),
            (Path::Other | Path::Unknown, None) => {}
            (other, _) => panic!("{path}: {other:?}"),
        }
    }

    #[test]
    fn paths() {
        check("/api/v1/pods", Some(("pods", "", "", "")));
        check("/api/v1/namespaces", Some(("namespaces", "", "", "")));
        check("/api/v1/namespaces/a", Some(("namespaces", "", "a", "")));
        check(
            "/api/v1/namespaces/a/status",
            Some(("namespaces", "", "a", "status")),
        );
        check(
            "/api/v1/namespaces/a/pods/p/log",
            Some(("pods", "a", "p", "log")),
        );
        check(
            "/apis/apps/v1/namespaces/a/deployments/d",
            Some(("deployments", "a", "d", "")),
        );
        check("/apis/apps/v1/namespaces/a/statefulsets", None);
        check("/api/v1/namespaces/a/nodes", None);
        check("/api/v1", None);
    }

    #[test]
    fn forms() {
        let of = |accept: &str| {
            let mut headers = HeaderMap::new();
            headers.insert(http::header::ACCEPT, accept.parse().expect("a header"));
            negotiate(&headers).ok()
        };
        assert_eq!(
            of("application/json;as=Table;v=v1;g=meta.k8s.io,application/json"),
            Some(Form::Table)
        );
        assert_eq!(
            of("application/vnd.kubernetes.protobuf,application/json"),
            Some(Form::Json)
        );
        assert_eq!(of("application/vnd.kubernetes.protobuf"), None);
        assert_eq!(
            of("application/json;as=PartialObjectMetadataList;g=meta.k8s.io;v=v1"),
            Some(Form::Metadata)
        );
    }
}
