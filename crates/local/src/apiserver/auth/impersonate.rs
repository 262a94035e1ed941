//! Acting as another user (`kubectl --as`), for those who may.

use std::collections::BTreeMap;

use http::{HeaderMap, StatusCode};
use percent_encoding::percent_decode_str;

use super::User;
use super::rbac::{self, Attributes};
use super::reviews::implied_groups;
use crate::apiserver::core::Core;
use crate::apiserver::error::ApiError;

const USER: &str = "impersonate-user";
const GROUP: &str = "impersonate-group";
const UID: &str = "impersonate-uid";
/// What follows is the name of what else is said about the user.
const EXTRA: &str = "impersonate-extra-";

/// The user that the request is made as: the caller, or whom its headers name.
pub(super) fn apply(core: &Core, caller: User, headers: &HeaderMap) -> Result<User, ApiError> {
    let Some(wanted) = Wanted::of(headers)? else {
        return Ok(caller);
    };
    for permission in wanted.permissions() {
        if !rbac::allows(core, &caller, &permission) {
            let what = match permission.subresource.as_str() {
                "" => permission.resource.clone(),
                sub => format!("{}/{sub}", permission.resource),
            };
            let message = format!(
                "{what} {:?} is forbidden: {}",
                permission.name,
                permission.refusal(&caller)
            );
            return Err(ApiError::new(StatusCode::FORBIDDEN, "Forbidden", message));
        }
    }
    Ok(wanted.user())
}

/// Whom the headers name.
#[derive(Debug, Default)]
struct Wanted {
    name: String,
    uid: Option<String>,
    groups: Vec<String>,
    extra: BTreeMap<String, Vec<String>>,
}

impl Wanted {
    fn of(headers: &HeaderMap) -> Result<Option<Self>, ApiError> {
        // Names may be in any script. What cannot be read must not count as not said: the request would
        // run with the caller's own rights.
        let values = |name: &str| -> Result<Vec<String>, ApiError> {
            let values = headers.get_all(name).iter();
            let texts = values.map(|value| String::from_utf8(value.as_bytes().to_vec()));
            texts
                .collect::<Result<_, _>>()
                .map_err(|_| ApiError::bad_request(format!("the header {name} is no UTF-8")))
        };
        let mut wanted = Wanted {
            uid: values(UID)?.into_iter().next(),
            groups: values(GROUP)?,
            ..Wanted::default()
        };
        for name in headers.keys() {
            if let Some(key) = name.as_str().strip_prefix(EXTRA) {
                let key = percent_decode_str(key).decode_utf8_lossy().into_owned();
                wanted.extra.insert(key, values(name.as_str())?);
            }
        }
        match values(USER)?.into_iter().next() {
            Some(name) if !name.is_empty() => wanted.name = name,
            _ if wanted.groups.is_empty() && wanted.uid.is_none() && wanted.extra.is_empty() => {
                return Ok(None);
            }
            // To be somebody's group without being somebody is not foreseen.
            _ => {
                return Err(ApiError::bad_request(
                    "requested a group, a uid or extra information to impersonate without a user",
                ));
            }
        }
        Ok(Some(wanted))
    }

    /// Everything that the caller must be allowed to take on.
    fn permissions(&self) -> Vec<Attributes> {
        let to_be = |group: &str, resource: &str, name: &str| Attributes {
            verb: "impersonate".into(),
            group: group.into(),
            resource: resource.into(),
            name: name.into(),
            ..Attributes::default()
        };
        let account = self.name.strip_prefix("system:serviceaccount:");
        let mut permissions = vec![match account.and_then(|rest| rest.split_once(':')) {
            Some((namespace, account)) => Attributes {
                namespace: namespace.into(),
                ..to_be("", "serviceaccounts", account)
            },
            None => to_be("", "users", &self.name),
        }];
        permissions.extend(self.groups.iter().map(|group| to_be("", "groups", group)));
        let group = "authentication.k8s.io";
        permissions.extend(self.uid.iter().map(|uid| to_be(group, "uids", uid)));
        for (key, values) in &self.extra {
            permissions.extend(values.iter().map(|value| Attributes {
                subresource: key.clone(),
                ..to_be(group, "userextras", value)
            }));
        }
        permissions
    }

    fn user(self) -> User {
        let groups = match self.groups.is_empty() {
            true => implied_groups(&self.name),
            false => self.groups,
        };
        User {
            uid: self.uid.unwrap_or_default(),
            extra: self.extra,
            ..User::new(self.name, groups)
        }
    }
}

#[cfg(test)]
mod tests {
    use http::HeaderValue;

    use super::*;

    fn wanted(pairs: &[(&'static str, &'static str)]) -> Result<Option<Wanted>, ApiError> {
        let mut headers = HeaderMap::new();
        for (name, value) in pairs {
            headers.append(*name, value.parse().unwrap());
        }
        Wanted::of(&headers)
    }

    #[test]
    fn names_of_any_script_count_and_what_cannot_be_read_is_refused() {
        let of = |bytes: &[u8]| {
            let mut headers = HeaderMap::new();
            headers.append(USER, HeaderValue::from_bytes(bytes).unwrap());
            Wanted::of(&headers)
        };
        let named = of("jürgen".as_bytes()).unwrap().unwrap();
        assert_eq!(named.name, "jürgen");
        assert!(of(b"j\xfcrgen").is_err(), "not the caller's own rights");
    }

    #[test]
    fn each_part_of_another_user_needs_its_permission() {
        let wanted = wanted(&[
            (USER, "ann"),
            (GROUP, "a"),
            (GROUP, "b"),
            (UID, "7"),
            ("impersonate-extra-scopes%2fx", "view"),
        ]);
        let wanted = wanted.unwrap().unwrap();
        let asked: Vec<_> = wanted
            .permissions()
            .into_iter()
            .map(|one| {
                format!(
                    "{}/{}/{}/{}",
                    one.group, one.resource, one.subresource, one.name
                )
            })
            .collect();
        assert_eq!(
            asked,
            [
                "/users//ann",
                "/groups//a",
                "/groups//b",
                "authentication.k8s.io/uids//7",
                "authentication.k8s.io/userextras/scopes/x/view",
            ]
        );
        let user = wanted.user();
        assert_eq!(user.groups, ["a", "b", "system:authenticated"]);
        assert_eq!(user.extra["scopes/x"], ["view"]);
    }

    #[test]
    fn service_accounts_are_taken_on_where_they_are() {
        let wanted = wanted(&[(USER, "system:serviceaccount:shop:web")])
            .unwrap()
            .unwrap();
        let [permission] = &wanted.permissions()[..] else {
            panic!("{wanted:?}")
        };
        assert_eq!(permission.resource, "serviceaccounts");
        assert_eq!((&*permission.namespace, &*permission.name), ("shop", "web"));
        let groups = wanted.user().groups;
        assert!(
            groups.contains(&"system:serviceaccounts:shop".to_owned()),
            "{groups:?}"
        );
    }

    #[test]
    fn nobody_is_a_group_alone() {
        assert!(wanted(&[]).unwrap().is_none());
        for header in [GROUP, UID, "impersonate-extra-a"] {
            assert!(wanted(&[(header, "x")]).is_err(), "{header}");
        }
    }
}
