//! Puts cluster roles together that take the rules of others, by those others' labels.

use std::collections::BTreeSet;
use std::time::Duration;

use futures::StreamExt;
use k8s_openapi::api::rbac::v1::{ClusterRole, PolicyRule};
use kube::api::{Api, Patch, PatchParams, ResourceExt};
use kube::core::{Selector, SelectorExt};
use serde_json::json;
use tracing::warn;

use super::cache::{Cache, events};
use super::ignore_missing;
use crate::Error;

/// Pause before what could not be written is tried again.
const RETRY: Duration = Duration::from_millis(500);

pub(super) async fn run(client: kube::Client) {
    let api: Api<ClusterRole> = Api::all(client);
    let mut changes = events(api.clone());
    let mut roles = Cache::default();
    loop {
        // What could not be written is tried again without news of it.
        let written = match roles.complete {
            true => write_all(&api, &roles).await,
            false => Ok(()),
        };
        if let Err(error) = &written {
            warn!(%error, "a cluster role that takes the rules of others could not be written");
        }
        tokio::select! {
            event = changes.next() => match event {
                Some(event) => drop(roles.take(event)),
                None => return,
            },
            () = tokio::time::sleep(RETRY), if written.is_err() => {}
        }
    }
}

/// Writes each role whose rules are not those of its parts. That is news which wakes this up again, so
/// a role that is itself a part passes on what it got.
///
/// # Errors
/// Names every role that could not be written; the others are.
async fn write_all(api: &Api<ClusterRole>, roles: &Cache<ClusterRole>) -> Result<(), Error> {
    let mut failed = Vec::new();
    for role in roles.objects.values() {
        if let Err(error) = write(api, role, roles).await {
            failed.push(format!("{}: {error}", role.name_any()));
        }
    }
    if failed.is_empty() {
        return Ok(());
    }
    Err(Error::Container(failed.join("; ")))
}

async fn write(
    api: &Api<ClusterRole>,
    role: &ClusterRole,
    roles: &Cache<ClusterRole>,
) -> Result<(), Error> {
    let Some(rules) = aggregated(role, roles.objects.values()) else {
        return Ok(());
    };
    if role.rules.as_ref() == Some(&rules) {
        return Ok(());
    }
    let patch = Patch::Merge(json!({
        "metadata": {"resourceVersion": role.resource_version()},
        "rules": rules,
    }));
    let written = api
        .patch(&role.name_any(), &PatchParams::default(), &patch)
        .await;
    match ignore_missing(written) {
        // There is news of it under way.
        Err(Error::Api(error)) if super::is_conflict(&error) => Ok(()),
        written => written.map(drop),
    }
}

/// The rules of the roles that this one selects, without those that say the same; none if it selects none.
fn aggregated<'a>(
    role: &ClusterRole,
    all: impl Iterator<Item = &'a ClusterRole>,
) -> Option<Vec<PolicyRule>> {
    let selectors = role
        .aggregation_rule
        .as_ref()?
        .cluster_role_selectors
        .iter();
    let selectors: Vec<Selector> = selectors
        .flatten()
        // One that cannot be read selects nothing.
        .filter_map(|selector| Selector::try_from(selector.clone()).ok())
        .collect();
    let mut seen = BTreeSet::new();
    let mut rules = Vec::new();
    for part in all.filter(|part| part.name_any() != role.name_any()) {
        if !selectors
            .iter()
            .any(|selector| selector.matches(part.labels()))
        {
            continue;
        }
        for rule in part.rules.iter().flatten() {
            if seen.insert(json!(rule).to_string()) {
                rules.push(rule.clone());
            }
        }
    }
    Some(rules)
}

#[cfg(test)]
mod tests {
    use kube::runtime::watcher::Event;

    use super::*;

    fn role(name: &str, label: &str, resource: &str) -> ClusterRole {
        serde_json::from_value(json!({
            "metadata": {"name": name, "labels": {label: "true"}},
            "rules": [{"apiGroups": ["x"], "resources": [resource], "verbs": ["get"]}],
        }))
        .unwrap()
    }

    #[test]
    fn a_role_has_the_rules_of_those_that_it_selects() {
        let mut whole = role("whole", "to-view", "forgotten");
        whole.aggregation_rule = serde_json::from_value(
            json!({"clusterRoleSelectors": [{"matchLabels": {"to-view": "true"}}]}),
        )
        .unwrap();
        let all = [
            role("a", "to-view", "apples"),
            role("b", "to-edit", "pears"),
            role("c", "to-view", "plums"),
            role("d", "to-view", "apples"),
            whole.clone(),
        ];
        let rules = aggregated(&whole, all.iter()).unwrap();
        let names: Vec<_> = rules
            .iter()
            .flat_map(|rule| rule.resources.clone())
            .flatten()
            .collect();
        assert_eq!(names, ["apples", "plums"]);
        assert_eq!(aggregated(&all[0], all.iter()), None);
    }

    #[tokio::test]
    async fn a_role_that_cannot_be_written_keeps_no_other_from_its_rules() {
        use std::sync::{Arc, Mutex};

        let asked = Arc::new(Mutex::new(Vec::new()));
        let heard = Arc::clone(&asked);
        let server = tower::service_fn(move |request: http::Request<kube::client::Body>| {
            let path = request.uri().path().to_owned();
            let (code, answer) = match path.ends_with("/first") {
                true => (
                    500,
                    json!({"kind": "Status", "apiVersion": "v1", "status": "Failure", "code": 500,
                           "message": "no room", "reason": "InternalError"}),
                ),
                false => (200, json!({"metadata": {"name": "second"}})),
            };
            heard.lock().unwrap().push(path);
            async move {
                let body = kube::client::Body::from(answer.to_string().into_bytes());
                http::Response::builder().status(code).body(body)
            }
        });
        let client = kube::Client::new(server, "default");
        let mut roles = Cache::default();
        for name in ["first", "second"] {
            let mut whole = role(name, "other", "forgotten");
            whole.aggregation_rule = serde_json::from_value(
                json!({"clusterRoleSelectors": [{"matchLabels": {"to-view": "true"}}]}),
            )
            .unwrap();
            roles.take(Event::Apply(whole));
        }
        roles.take(Event::Apply(role("a", "to-view", "apples")));
        let error = write_all(&Api::all(client), &roles).await.unwrap_err();
        let error = error.to_string();
        assert!(
            error.contains("first") && error.contains("no room") && !error.contains("second"),
            "{error}"
        );
        assert_eq!(asked.lock().unwrap().len(), 2);
    }
}
