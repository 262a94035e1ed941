//! VirtualServices that go on in others: a root has the hosts and gateways, its delegates the routes.
//!
//! The semantics are Istio's: a delegated rule applies where the conditions of both sides can hold
//! together, what the delegate does not set is the root's, and names are joined. There is one level.

use std::collections::BTreeMap;
use std::sync::Arc;

use lateen_api::Object;
use lateen_api::networking::{
    Destination, HttpMatchRequest, HttpRoute, StringMatch, VirtualService,
};

use crate::snapshot::full_host;

type Rules = Object<VirtualService>;

/// A VirtualService with the routes of its delegates in their places; itself where it has none.
/// `find` gives a delegate that the root may see, by namespace and name. A rule whose delegate is
/// not there leads nowhere and is left out.
pub(crate) fn expand<'a>(
    root: &Arc<Rules>,
    domain: &str,
    find: impl Fn(&str, &str) -> Option<&'a Arc<Rules>>,
) -> Arc<Rules> {
    if root.spec.http.iter().all(|rule| rule.delegate.is_none()) {
        return root.clone();
    }
    let mut expanded = (**root).clone();
    let rules = rules(root, domain, find).into_iter();
    expanded.spec.http = rules.map(|(rule, _)| rule).collect();
    Arc::new(expanded)
}

/// What a rule of an expanded VirtualService was made of.
#[derive(Debug)]
pub(crate) struct MadeOf<'a> {
    /// The root's rule, by its place.
    pub(crate) root: usize,
    /// The delegate and the place of its rule.
    pub(crate) delegate: Option<(&'a Arc<Rules>, usize)>,
    /// For each match, that of the root and that of the delegate, by their places.
    pub(crate) matches: Vec<Pair>,
}

/// The places of a match in a root and in a delegate, as far as they have a part in it.
pub(crate) type Pair = (Option<usize>, Option<usize>);

/// The rules of a VirtualService with those of its delegates in their places, and what each was made
/// of.
pub(crate) fn rules<'a>(
    root: &Rules,
    domain: &str,
    find: impl Fn(&str, &str) -> Option<&'a Arc<Rules>>,
) -> Vec<(HttpRoute, MadeOf<'a>)> {
    let mut all = Vec::new();
    for (at, rule) in root.spec.http.iter().enumerate() {
        let Some(to) = &rule.delegate else {
            let matches = (0..rule.r#match.len()).map(|of| (Some(of), None));
            let made_of = MadeOf {
                root: at,
                delegate: None,
                matches: matches.collect(),
            };
            all.push((rule.clone(), made_of));
            continue;
        };
        let namespace = match to.namespace.as_str() {
            "" => &root.meta.namespace,
            named => named,
        };
        let delegate = find(namespace, &to.name).filter(|delegate| delegate.spec.hosts.is_empty());
        if let Some(delegate) = delegate {
            for (own_at, delegated) in delegate.spec.http.iter().enumerate() {
                let own = in_full(delegated, namespace, domain);
                let joined = join(rule, own);
                all.extend(joined.map(|(rule, matches)| {
                    let made_of = MadeOf {
                        root: at,
                        delegate: Some((delegate, own_at)),
                        matches,
                    };
                    (rule, made_of)
                }));
            }
        }
    }
    all
}

/// A delegate's rule with its destinations in full: short names are in the delegate's namespace,
/// and the rule is about to move to another.
fn in_full(rule: &HttpRoute, namespace: &str, domain: &str) -> HttpRoute {
    let mut rule = rule.clone();
    let routes = rule
        .route
        .iter_mut()
        .filter_map(|route| route.destination.as_mut());
    let mirrors = rule
        .mirrors
        .iter_mut()
        .filter_map(|mirror| mirror.destination.as_mut());
    let all: Vec<&mut Destination> = routes.chain(mirrors).chain(rule.mirror.as_mut()).collect();
    for destination in all {
        destination.host = full_host(&destination.host, namespace, domain).to_string();
    }
    rule
}

/// The delegate's rule under the root's; none where they can never hold together, or where the
/// delegate delegates again.
fn join(root: &HttpRoute, delegate: HttpRoute) -> Option<(HttpRoute, Vec<Pair>)> {
    if delegate.delegate.is_some() {
        return None;
    }
    let matches = join_matches(&root.r#match, &delegate.r#match)?;
    let (matches, pairs) = matches.into_iter().unzip();
    let root = root.clone();
    let mirrors_itself = delegate.mirror.is_some() || !delegate.mirrors.is_empty();
    let joined = HttpRoute {
        name: join_names(&root.name, &delegate.name),
        r#match: matches,
        rewrite: delegate.rewrite.or(root.rewrite),
        timeout: delegate.timeout.or(root.timeout),
        retries: delegate.retries.or(root.retries),
        fault: delegate.fault.or(root.fault),
        mirror: delegate.mirror.or(root.mirror.filter(|_| !mirrors_itself)),
        mirrors: match mirrors_itself {
            true => delegate.mirrors,
            false => root.mirrors,
        },
        mirror_percent: delegate.mirror_percent.or(root.mirror_percent),
        mirror_percentage: delegate.mirror_percentage.or(root.mirror_percentage),
        cors_policy: delegate.cors_policy.or(root.cors_policy),
        headers: delegate.headers.or(root.headers),
        ..delegate
    };
    Some((joined, pairs))
}

fn join_names(root: &str, delegate: &str) -> String {
    match (root, delegate) {
        ("", name) | (name, "") => name.to_owned(),
        (root, delegate) => format!("{root}-{delegate}"),
    }
}

/// Every pair of conditions that can hold together; none where there are conditions on both sides
/// and no such pair.
fn join_matches(
    root: &[HttpMatchRequest],
    delegate: &[HttpMatchRequest],
) -> Option<Vec<(HttpMatchRequest, Pair)>> {
    if root.is_empty() || delegate.is_empty() {
        let of_root = root.iter().enumerate();
        let of_root = of_root.map(|(at, of)| (of.clone(), (Some(at), None)));
        let own = delegate.iter().enumerate();
        let own = own.map(|(at, of)| (of.clone(), (None, Some(at))));
        return Some(of_root.chain(own).collect());
    }
    let both = |(at, root)| {
        let own = delegate.iter().enumerate();
        own.map(move |(own_at, own)| ((Some(at), Some(own_at)), root, own))
    };
    let pairs = root.iter().enumerate().flat_map(both);
    let joined: Vec<_> = pairs
        .filter_map(|(pair, root, own)| Some((join_match(root, own)?, pair)))
        .collect();
    (!joined.is_empty()).then_some(joined)
}

fn join_match(root: &HttpMatchRequest, own: &HttpMatchRequest) -> Option<HttpMatchRequest> {
    if root.ignore_uri_case != own.ignore_uri_case && root.uri.is_some() && own.uri.is_some() {
        return None;
    }
    let either = |root: &str, own: &str| match (root, own) {
        ("", one) | (one, "") => Some(one.to_owned()),
        (root, own) => (root == own).then(|| own.to_owned()),
    };
    Some(HttpMatchRequest {
        name: join_names(&root.name, &own.name),
        uri: join_texts(root.uri.as_ref(), own.uri.as_ref())?,
        scheme: join_texts(root.scheme.as_ref(), own.scheme.as_ref())?,
        method: join_texts(root.method.as_ref(), own.method.as_ref())?,
        authority: join_texts(root.authority.as_ref(), own.authority.as_ref())?,
        headers: join_maps(&root.headers, &own.headers, narrower)?,
        without_headers: join_maps(&root.without_headers, &own.without_headers, wider)?,
        query_params: join_maps(&root.query_params, &own.query_params, narrower)?,
        port: match (root.port, own.port) {
            (Some(root), Some(own)) if root != own => return None,
            (root, own) => own.or(root),
        },
        source_labels: join_maps(&root.source_labels, &own.source_labels, |root, own| {
            (root == own).then(|| own.clone())
        })?,
        source_namespace: either(&root.source_namespace, &own.source_namespace)?,
        gateways: match own.gateways.is_empty() {
            true => root.gateways.clone(),
            false => own.gateways.clone(),
        },
        ignore_uri_case: root.ignore_uri_case || own.ignore_uri_case,
        stat_prefix: match own.stat_prefix.as_str() {
            "" => root.stat_prefix.clone(),
            own => own.to_owned(),
        },
    })
}

/// The condition that holds where both do; `None` where they never do.
#[expect(
    clippy::option_option,
    reason = "no condition is not the same as none that can hold"
)]
fn join_texts(
    root: Option<&StringMatch>,
    own: Option<&StringMatch>,
) -> Option<Option<StringMatch>> {
    match (root, own) {
        (Some(root), Some(own)) => narrower(root, own).map(Some),
        (root, own) => Some(own.or(root).cloned()),
    }
}

fn join_maps<T: Clone>(
    root: &BTreeMap<String, T>,
    own: &BTreeMap<String, T>,
    join: impl Fn(&T, &T) -> Option<T>,
) -> Option<BTreeMap<String, T>> {
    let mut all = root.clone();
    for (key, own) in own {
        let joined = match root.get(key) {
            Some(root) => join(root, own)?,
            None => own.clone(),
        };
        all.insert(key.clone(), joined);
    }
    Some(all)
}

/// The narrower of two conditions; none where neither lies within the other. Whether an expression
/// does nobody can tell.
fn narrower(root: &StringMatch, own: &StringMatch) -> Option<StringMatch> {
    if covers(root, own) {
        return Some(own.clone());
    }
    covers(own, root).then(|| root.clone())
}

/// The same for conditions that must not hold: the wider one rules out what the other does.
fn wider(root: &StringMatch, own: &StringMatch) -> Option<StringMatch> {
    if covers(own, root) {
        return Some(own.clone());
    }
    covers(root, own).then(|| root.clone())
}

/// True where whatever meets the second condition meets the first.
fn covers(first: &StringMatch, second: &StringMatch) -> bool {
    match (first, second) {
        (StringMatch::Present, _) => true,
        (StringMatch::Prefix(start), StringMatch::Exact(text) | StringMatch::Prefix(text)) => {
            text.starts_with(start.as_str())
        }
        (first, second) => first == second,
    }
}

#[cfg(test)]
mod tests {
    use lateen_api::networking::MESH_GATEWAY;
    use serde_json::{Value, json};

    use super::*;

    fn service(name: &str, spec: Value) -> Arc<Rules> {
        let object = json!({"metadata": {"name": name, "namespace": "n"}, "spec": spec});
        Arc::new(Object::from_value(&object).expect("a VirtualService"))
    }

    /// The rules of a root whose only rule has this and delegates to one with these.
    fn expanded(root: Value, delegate: Value) -> Vec<HttpRoute> {
        let mut rule = root;
        rule["delegate"] = json!({"name": "to", "namespace": "away"});
        let root = service("root", json!({"hosts": ["h"], "http": [rule]}));
        let delegate = service("to", json!({"http": delegate}));
        let find = |namespace: &str, name: &str| {
            assert_eq!((namespace, name), ("away", "to"));
            Some(&delegate)
        };
        expand(&root, "cluster.local", find).spec.http.clone()
    }

    fn uri(of: &HttpRoute) -> Vec<&StringMatch> {
        let uris = of.r#match.iter();
        uris.filter_map(|of| of.uri.as_ref()).collect()
    }

    #[test]
    fn conditions_hold_together() {
        let exact = |text: &str| StringMatch::Exact(text.into());
        let prefix = |text: &str| StringMatch::Prefix(text.into());
        let root = json!({"match": [{"uri": {"prefix": "/a"}}]});
        let to = json!([{"destination": {"host": "x"}}]);
        let found = expanded(
            root,
            json!([
                {"match": [{"uri": {"prefix": "/a/b"}}, {"uri": {"exact": "/c"}}], "route": to},
                {"match": [{"uri": {"exact": "/c"}}], "route": to},
                {"match": [{"uri": {"regex": "/a/.*"}}], "route": to},
                {"match": [{"uri": {"prefix": "/"}}], "route": to},
                {"route": to},
            ]),
        );
        assert_eq!(found.len(), 3);
        assert_eq!(uri(&found[0]), [&prefix("/a/b")]);
        assert_eq!(uri(&found[1]), [&prefix("/a")]);
        assert_eq!(uri(&found[2]), [&prefix("/a")]);
        let (root, own) = (prefix("a"), exact("ab"));
        assert_eq!(narrower(&root, &own), Some(own.clone()));
        assert_eq!(wider(&root, &own), Some(root));
        assert_eq!(narrower(&exact("a"), &exact("b")), None);
    }

    #[test]
    fn what_the_delegate_leaves_open_is_the_roots() {
        let root = json!({
            "name": "r", "timeout": "1s", "rewrite": {"uri": "/r"}, "retries": {"attempts": 1},
            "mirror": {"host": "m"},
        });
        let found = expanded(
            root,
            json!([{"name": "d", "timeout": "2s",
                "route": [{"destination": {"host": "x"}}]}]),
        );
        let [rule] = found.as_slice() else {
            panic!("{found:?}");
        };
        assert_eq!(rule.name, "r-d");
        assert_eq!(
            rule.timeout.map(|time| time.to_string()).as_deref(),
            Some("2s")
        );
        assert!(rule.rewrite.is_some() && rule.retries.is_some() && rule.mirror.is_some());
        assert!(rule.delegate.is_none());
        // The short name is in the delegate's namespace, not in the root's.
        let destination = rule.route[0].destination.as_ref().expect("set");
        assert_eq!(destination.host, "x.away.svc.cluster.local");
    }

    #[test]
    fn delegates_that_are_none_lead_nowhere() {
        let root = |delegate: &str| {
            let rules = json!([{"delegate": {"name": delegate}},
                {"route": [{"destination": {"host": "x"}}]}]);
            service(
                "root",
                json!({"hosts": ["h"], "gateways": [MESH_GATEWAY], "http": rules}),
            )
        };
        let hosted = service("hosted", json!({"hosts": ["other"], "http": [{}]}));
        let find = |_: &str, name: &str| (name == "hosted").then_some(&hosted);
        for name in ["hosted", "missing"] {
            let found = expand(&root(name), "cluster.local", find);
            assert_eq!(found.spec.http.len(), 1, "{name}");
        }
        let again = expanded(json!({}), json!([{"delegate": {"name": "third"}}]));
        assert!(again.is_empty());
    }
}
