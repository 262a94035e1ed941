//! Recorded requests, decided again.

use std::collections::BTreeMap;
use std::net::SocketAddr;

use lateen_xds::names::ClusterName;
use serde::Serialize;

use super::{Recorded, Recording};
use crate::answer::{Explanation, Outcome};
use crate::{Behind, Call, Caller, Platform, Security, ServeError, Served, explain};

/// How many requests of a group are named.
const EXAMPLES: usize = 3;

/// A configuration, and the proxy of it that recorded requests are put to.
pub struct Replayer<'a> {
    platform: &'a Platform,
    caller: &'a Caller,
    served: Served,
}

/// Requests that are decided alike.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Group {
    /// How many.
    pub requests: u64,
    /// Some of them.
    pub examples: Vec<String>,
    /// What becomes of them, without where that comes from.
    pub before: Explanation,
    /// What would become of them; absent where nothing is compared.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub after: Option<Explanation>,
}

impl<'a> Replayer<'a> {
    /// For the proxy of a workload.
    ///
    /// # Errors
    /// On resources that the proxy would refuse.
    pub fn new(platform: &'a Platform, caller: &'a Caller) -> Result<Replayer<'a>, ServeError> {
        let served = Served::offline(&platform.offline(caller))?;
        Ok(Replayer {
            platform,
            caller,
            served,
        })
    }

    /// The decision alone: what is done, not why.
    fn decide(&self, recorded: &Recorded) -> Explanation {
        let call = self.call(recorded);
        explain(&self.served, &call, Behind::default()).decision()
    }

    fn call(&self, of: &Recorded) -> Call {
        let inbound = self.is_inbound(of);
        let own = self.caller.address();
        let destination = match inbound || self.caller.proxy.is_router() {
            true => SocketAddr::new(own, of.destination.port()),
            false => self
                .platform
                .place_of(self.caller, &of.authority, of.destination),
        };
        let is_tls = !of.server_name.is_empty();
        let security = if inbound && ClusterName::from_sni(&of.server_name).is_ok() {
            Security::Mesh
        } else if is_tls {
            Security::Tls {
                server_name: Some(of.server_name.clone()),
                alpn: Vec::new(),
                // The log does not say; it was let in.
                certificate: true,
            }
        } else {
            Security::Plain
        };
        Call {
            destination,
            source: SocketAddr::new(of.source, 0),
            inbound,
            security,
            http: of.http,
            udp: false,
            h2: of.h2,
            method: of.method.clone(),
            authority: of.authority.clone(),
            target: of.path.clone(),
            headers: of.headers.clone(),
            random: 0,
        }
    }

    /// Whether it came to the workload: the cluster says it, or, where there was none, the address that
    /// it went to.
    fn is_inbound(&self, of: &Recorded) -> bool {
        if self.caller.proxy.is_router() {
            return false;
        }
        match of.cluster.as_str() {
            "" => self.caller.workload.ips.contains(&of.destination.ip()),
            cluster => cluster.to_ascii_lowercase().starts_with("inbound"),
        }
    }
}

/// Requests by what becomes of them, the most first.
pub fn decisions(recording: &Recording, at: &Replayer<'_>) -> Vec<Group> {
    grouped(recording, |request| Some((at.decide(request), None)))
}

/// Those that would be decided otherwise, by how, the most first.
pub fn changes(recording: &Recording, at: &Replayer<'_>, then: &Replayer<'_>) -> Vec<Group> {
    grouped(recording, |request| {
        let (before, after) = (at.decide(request), then.decide(request));
        (before != after).then_some((before, Some(after)))
    })
}

fn grouped(
    recording: &Recording,
    decide: impl Fn(&Recorded) -> Option<(Explanation, Option<Explanation>)>,
) -> Vec<Group> {
    let mut groups: BTreeMap<String, Group> = BTreeMap::new();
    for (request, count) in &recording.requests {
        let Some((before, after)) = decide(request) else {
            continue;
        };
        let text = |told: &Explanation| told.with_any_path().to_string();
        let key = text(&before) + "\n" + &after.as_ref().map(text).unwrap_or_default();
        let group = groups.entry(key).or_insert_with(|| Group {
            requests: 0,
            examples: Vec::new(),
            before,
            after,
        });
        group.requests += count;
        let name = request.to_string();
        if group.examples.len() < EXAMPLES && !group.examples.contains(&name) {
            group.examples.push(name);
        }
    }
    let mut groups: Vec<Group> = groups.into_values().collect();
    groups.sort_by_key(|group| std::cmp::Reverse(group.requests));
    groups
}

impl Explanation {
    /// What is done, without the steps that lead to it and the objects that it comes from.
    pub fn decision(&self) -> Explanation {
        let mut outcome = self.outcome.clone();
        if let Outcome::Forward(to) = &mut outcome {
            for cluster in &mut to.clusters {
                cluster.destination = None;
                cluster.service = None;
                cluster.seen_by = None;
                cluster.from.clear();
                cluster.found_in.clear();
                cluster.subset = None;
                cluster.said.clear();
            }
        }
        Explanation {
            downstream: self.downstream.clone(),
            outcome,
            ..Explanation::default()
        }
    }

    /// The same for any path: what a rewrite makes of each is not a decision of its own.
    fn with_any_path(&self) -> Explanation {
        let mut any = self.clone();
        if let Outcome::Forward(to) = &mut any.outcome
            && !to.path.is_empty()
        {
            to.path = "rewritten".to_owned();
        }
        any
    }
}
