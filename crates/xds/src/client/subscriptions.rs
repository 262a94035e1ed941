//! What a client asks for and which versions it holds: the state that outlives a stream.

use std::collections::{BTreeMap, BTreeSet, HashMap};

use super::Answer;
use crate::TypeUrl;
use crate::google::rpc::Status;
use crate::types::discovery::DeltaDiscoveryRequest;

/// `INVALID_ARGUMENT`, which refusals carry.
const INVALID_ARGUMENT: i32 = 3;
const EVERYTHING: &str = "*";

#[derive(Debug, Default)]
struct OfType {
    wildcard: bool,
    names: BTreeSet<String>,
    /// Accepted versions by resource name.
    versions: HashMap<String, String>,
}

/// Subscriptions by type.
#[derive(Debug, Default)]
pub(super) struct Subscriptions {
    types: BTreeMap<TypeUrl, OfType>,
}

impl Subscriptions {
    /// The first request of each type on a new stream, in the order of pushes.
    pub(super) fn opening(&self) -> Vec<DeltaDiscoveryRequest> {
        let rank = |url: &TypeUrl| TypeUrl::PUSH_ORDER.iter().position(|t| t == url);
        let mut types: Vec<_> = self.types.iter().collect();
        types.sort_by_key(|(url, _)| rank(url).unwrap_or(usize::MAX));
        types
            .into_iter()
            .filter(|(_, of_type)| of_type.wildcard || !of_type.names.is_empty())
            .map(|(url, of_type)| DeltaDiscoveryRequest {
                type_url: url.to_string(),
                resource_names_subscribe: of_type.subscribed(),
                initial_resource_versions: of_type.versions.clone(),
                ..DeltaDiscoveryRequest::default()
            })
            .collect()
    }

    pub(super) fn wildcard(&mut self, url: TypeUrl) -> Option<DeltaDiscoveryRequest> {
        let of_type = self.types.entry(url.clone()).or_default();
        let new = !std::mem::replace(&mut of_type.wildcard, true);
        new.then(|| request(&url, vec![EVERYTHING.to_owned()], Vec::new()))
    }

    pub(super) fn subscribe(
        &mut self,
        url: TypeUrl,
        mut names: Vec<String>,
    ) -> Option<DeltaDiscoveryRequest> {
        let of_type = self.types.entry(url.clone()).or_default();
        names.retain(|name| of_type.names.insert(name.clone()));
        (!names.is_empty()).then(|| request(&url, names, Vec::new()))
    }

    pub(super) fn unsubscribe(
        &mut self,
        url: TypeUrl,
        mut names: Vec<String>,
    ) -> Option<DeltaDiscoveryRequest> {
        let of_type = self.types.get_mut(&url)?;
        names.retain(|name| of_type.names.remove(name));
        for name in &names {
            of_type.versions.remove(name);
        }
        (!names.is_empty()).then(|| request(&url, Vec::new(), names))
    }

    /// Records an answer. The request tells the server, if `stream` is still the one it is about.
    pub(super) fn answer(&mut self, answer: Answer, stream: u64) -> Option<DeltaDiscoveryRequest> {
        if answer.refused.is_none() {
            let of_type = self.types.entry(answer.type_url.clone()).or_default();
            for name in &answer.removed {
                of_type.versions.remove(name);
            }
            // An answer may cross an unsubscription; what is no longer asked for is not held.
            let (wildcard, names) = (of_type.wildcard, &of_type.names);
            let held = answer.versions.into_iter();
            of_type
                .versions
                .extend(held.filter(|(name, _)| wildcard || names.contains(name)));
        }
        (answer.stream == stream).then(|| DeltaDiscoveryRequest {
            response_nonce: answer.nonce,
            error_detail: answer.refused.map(|message| Status {
                code: INVALID_ARGUMENT,
                message,
                details: Vec::new(),
            }),
            ..request(&answer.type_url, Vec::new(), Vec::new())
        })
    }
}

impl OfType {
    fn subscribed(&self) -> Vec<String> {
        let everything = self.wildcard.then(|| EVERYTHING.to_owned());
        everything.into_iter().chain(self.names.clone()).collect()
    }
}

fn request(
    url: &TypeUrl,
    subscribe: Vec<String>,
    unsubscribe: Vec<String>,
) -> DeltaDiscoveryRequest {
    DeltaDiscoveryRequest {
        type_url: url.to_string(),
        resource_names_subscribe: subscribe,
        resource_names_unsubscribe: unsubscribe,
        ..DeltaDiscoveryRequest::default()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn answer(stream: u64, refused: Option<&str>) -> Answer {
        Answer {
            type_url: TypeUrl::ENDPOINT,
            versions: vec![("a".into(), "1".into()), ("b".into(), "1".into())],
            removed: Vec::new(),
            stream,
            nonce: "n".into(),
            refused: refused.map(str::to_owned),
        }
    }

    #[test]
    fn a_reconnect_names_what_was_accepted() {
        let mut subs = Subscriptions::default();
        subs.wildcard(TypeUrl::CLUSTER).expect("new");
        let eds = || TypeUrl::ENDPOINT;
        assert!(
            subs.subscribe(eds(), vec!["a".into(), "b".into()])
                .is_some()
        );
        assert!(subs.subscribe(eds(), vec!["a".into()]).is_none(), "again");
        assert!(subs.answer(answer(1, None), 2).is_none(), "old stream");
        subs.unsubscribe(eds(), vec!["b".into()])
            .expect("was there");

        let opening = subs.opening();
        assert_eq!(opening[0].type_url, TypeUrl::CLUSTER.as_str());
        assert_eq!(opening[0].resource_names_subscribe, ["*"]);
        assert_eq!(opening[1].resource_names_subscribe, ["a"]);
        let versions = &opening[1].initial_resource_versions;
        assert_eq!(versions.len(), 1);
        assert_eq!(versions["a"], "1");
    }

    #[test]
    fn a_refusal_keeps_the_old_versions() {
        let mut subs = Subscriptions::default();
        subs.subscribe(TypeUrl::ENDPOINT, vec!["a".into()]);
        let request = subs.answer(answer(1, Some("bad")), 1).expect("same stream");
        assert_eq!(request.error_detail.expect("a refusal").message, "bad");
        assert!(subs.opening()[0].initial_resource_versions.is_empty());
    }
}
