//! Clusters that a client was sent and may not have, because it refused them.
//!
//! A client that refuses a response keeps what it had. Of a cluster that it had, that is the older
//! configuration, to which routes may lead. One that it did not have it lacks now, and a route to it
//! would answer with errors what was answered well before; so listeners, tables and virtual hosts
//! that name it are held back until the client has taken it, and nothing else is.

use std::collections::HashSet;

use super::Resource;
use super::name::Name;
use crate::canonical::next_field;

/// Messages in messages that are looked into. More than configuration has.
const DEPTH: usize = 40;

/// How Envoy begins when it names the clusters that it did not take, having taken the others.
const NAMES_FOLLOW: &str = "Error adding/updating cluster(s) ";

/// What is known of the clusters of one client.
#[derive(Debug, Default)]
pub(super) struct Doubt {
    /// Clusters that the client did not have, by the response that has them.
    on_the_way: Vec<(u64, Vec<Name>)>,
    lacking: HashSet<Name>,
}

impl Doubt {
    /// A response has clusters of which these are not known to be there.
    pub(super) fn sent(&mut self, n_response: u64, names: Vec<Name>) {
        if !names.is_empty() {
            self.on_the_way.push((n_response, names));
        }
    }

    /// Whether a cluster is known to be lacking.
    pub(super) fn is_lacking(&self, name: &Name) -> bool {
        self.lacking.contains(name)
    }

    /// Whether any is.
    pub(super) fn is_any(&self) -> bool {
        !self.lacking.is_empty()
    }

    /// The client has answered a response; `lists_all` says that it had all clusters in it. Whether
    /// it has something now that it lacked.
    pub(super) fn answered(
        &mut self,
        n_response: u64,
        refused: Option<&str>,
        lists_all: bool,
    ) -> bool {
        let is_about = |n: u64| n == n_response || (lists_all && n < n_response);
        let (about, others) = std::mem::take(&mut self.on_the_way)
            .into_iter()
            .partition(|(n, _)| is_about(*n));
        self.on_the_way = others;
        let names = Vec::into_iter(about).flat_map(|(_, names)| names);
        let lacked = self.lacking.len();
        match refused {
            None if lists_all => self.lacking.clear(),
            None => names.for_each(|name| {
                self.lacking.remove(&name);
            }),
            Some(reason) => {
                let names: Vec<Name> = names.collect();
                let culprits = culprits(reason, &names);
                let is_lacking = |name: &Name| culprits.is_empty() || culprits.contains(name);
                for name in names {
                    match is_lacking(&name) {
                        true => self.lacking.insert(name),
                        false => self.lacking.remove(&name),
                    };
                }
                return false;
            }
        }
        self.lacking.len() < lacked
    }

    /// Clusters that are no more are not missed.
    pub(super) fn removed(&mut self, names: &[Name]) {
        for name in names {
            self.lacking.remove(name);
        }
    }

    /// Whether a resource names a cluster that the client lacks: as a text anywhere in it.
    pub(super) fn concerns(&self, resource: &Resource) -> bool {
        let texts = self.lacking.iter().map(|name| name.as_bytes());
        names_any(resource.value(), &texts.collect(), DEPTH)
    }
}

/// The names of those that a reason is about, where it says that the others were taken.
fn culprits(reason: &str, names: &[Name]) -> HashSet<Name> {
    let about = |text: &str, name: &Name| {
        let rest = text.strip_prefix(name.as_str());
        rest.is_some_and(|rest| rest.starts_with(": "))
    };
    let listed = match reason.strip_prefix(NAMES_FOLLOW) {
        Some(list) => list.split(", ").collect::<Vec<_>>(),
        // Our proxy says each in a line of its own.
        None => reason.lines().collect(),
    };
    let is_listed = |name: &&Name| listed.iter().any(|text| about(text, name));
    names.iter().filter(is_listed).cloned().collect()
}

/// Whether one of some texts is a field of a message or of any message in it.
fn names_any(message: &[u8], texts: &HashSet<&[u8]>, depth: usize) -> bool {
    let mut position = 0;
    while position < message.len() {
        // Mostly it was no message but a text.
        let Some(field) = next_field(message, position) else {
            return false;
        };
        position = field.end;
        if let Some(body) = field.body {
            let body = &message[body..field.end];
            if texts.contains(body) || (depth > 0 && names_any(body, texts, depth - 1)) {
                return true;
            }
        }
    }
    false
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::types::route::route::Action;
    use crate::types::route::route_action::ClusterSpecifier;
    use crate::types::route::{Route, RouteAction, VirtualHost};

    fn names(of: &[&str]) -> Vec<Name> {
        of.iter().map(Name::new).collect()
    }

    fn route_to(cluster: &str) -> Resource {
        let action = RouteAction {
            cluster_specifier: Some(ClusterSpecifier::Cluster(cluster.into())),
            ..RouteAction::default()
        };
        let host = VirtualHost {
            routes: vec![Route {
                action: Some(Action::Route(action)),
                ..Route::default()
            }],
            ..VirtualHost::default()
        };
        Resource::new(cluster, &host)
    }

    #[test]
    fn what_is_refused_is_lacking_until_it_is_taken() {
        let mut doubt = Doubt::default();
        doubt.sent(1, names(&["a", "b"]));
        doubt.sent(2, names(&["c"]));
        assert!(!doubt.answered(2, None, false));
        assert!(!doubt.answered(1, Some("no"), false));
        assert!(doubt.concerns(&route_to("a")) && doubt.concerns(&route_to("b")));
        assert!(!doubt.concerns(&route_to("c")) && !doubt.concerns(&route_to("ab")));
        doubt.sent(3, names(&["b"]));
        assert!(doubt.answered(3, None, false), "there is something new");
        assert!(doubt.is_lacking(&Name::new("a")) && !doubt.is_lacking(&Name::new("b")));
        doubt.removed(&names(&["a"]));
        assert!(!doubt.is_any());
    }

    #[test]
    fn of_a_list_of_all_the_newest_answer_counts() {
        let mut doubt = Doubt::default();
        doubt.sent(1, names(&["a"]));
        doubt.sent(2, names(&["b"]));
        doubt.answered(2, Some("no"), true);
        assert!(doubt.is_lacking(&Name::new("a")) && doubt.is_lacking(&Name::new("b")));
        assert!(doubt.answered(3, None, true));
        assert!(!doubt.is_any());
    }

    #[test]
    fn a_reason_that_names_some_clears_the_others() {
        let check = |reason: &str, want: &[&str]| {
            let mut doubt = Doubt::default();
            doubt.sent(1, names(&["a", "b", "c"]));
            doubt.answered(1, Some(reason), false);
            let mut found: Vec<_> = doubt.lacking.iter().map(|name| &**name).collect();
            found.sort_unstable();
            assert_eq!(found, want, "{reason}");
        };
        check("Error adding/updating cluster(s) b: bad", &["b"]);
        check(
            "Error adding/updating cluster(s) a: bad, c: bad",
            &["a", "c"],
        );
        check("a: bad\nb: worse", &["a", "b"]);
        check("Proto constraint validation failed", &["a", "b", "c"]);
    }
}
