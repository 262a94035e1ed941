//! What is answered, as data.

use serde::Serialize;

/// What becomes of a call, step by step; steps that are not reached are absent.
#[derive(Debug, Clone, Default, PartialEq, Serialize)]
pub struct Explanation {
    /// The listener that takes it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub listener: Option<Choice>,
    /// Its filter chain.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub chain: Option<Choice>,
    /// How the caller's side is secured.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub downstream: String,
    /// The route table.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub table: String,
    /// The virtual host.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub host: Option<Choice>,
    /// The route.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub route: Option<Choice>,
    /// What comes of it.
    pub outcome: Outcome,
    /// What was passed over or is not known.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub notes: Vec<String>,
}

/// A field of an object that somebody wrote.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
pub struct Source {
    /// The object: `VirtualService default/reviews`.
    pub object: String,
    /// The field: `spec.http[2].match[1]`; empty for the object as a whole.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub field: String,
    /// `file:line`; empty where it is in no file.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub place: String,
}

/// What says something of what is done.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Said {
    /// Of what: `timeout`.
    pub what: String,
    /// The field.
    pub by: Source,
}

/// What was chosen, and what was not.
#[derive(Debug, Clone, Default, PartialEq, Serialize)]
pub struct Choice {
    /// What was chosen; empty where it has no name.
    pub name: String,
    /// Why.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub why: String,
    /// The fields that it comes from: of a VirtualService, and of the delegate that it goes on in.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub from: Vec<Source>,
    /// The fields that say what it does.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub said: Vec<Said>,
    /// What else there was.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub others: Vec<Candidate>,
}

/// What was not chosen.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Candidate {
    /// Its name.
    pub name: String,
    /// Why not.
    pub why: String,
    /// The fields that it comes from; the condition alone, where that is known.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub from: Vec<Source>,
}

/// What comes of a call.
#[derive(Debug, Clone, Default, PartialEq, Serialize)]
#[serde(tag = "kind", rename_all = "camelCase")]
pub enum Outcome {
    /// No listener takes it.
    #[default]
    NoListener,
    /// No filter chain takes it: the connection is closed.
    NoChain,
    /// The chain closes connections.
    Closed,
    /// No virtual host has the authority: 404.
    NoHost,
    /// No route takes the request: 404.
    NoRoute,
    /// The virtual host takes https alone.
    HttpsRequired,
    /// A redirect.
    Redirect(Redirection),
    /// A datagram that no rule is for: nobody gets it.
    Dropped,
    /// An answer of the proxy's own.
    Answer {
        /// Its status.
        status: u16,
    },
    /// It is sent on.
    Forward(Destination),
}

/// A redirect; what is empty stays as the client sent it.
#[derive(Debug, Clone, Default, PartialEq, Serialize)]
pub struct Redirection {
    /// The status.
    pub status: u16,
    /// The new scheme.
    pub scheme: String,
    /// The new host.
    pub host: String,
    /// The new port.
    pub port: Option<u32>,
    /// The new path.
    pub path: String,
}

/// Where a call is sent.
#[derive(Debug, Clone, Default, PartialEq, Serialize)]
pub struct Destination {
    /// What is sent on.
    pub carries: Carried,
    /// The clusters, each with its share.
    pub clusters: Vec<Cluster>,
    /// The time for all of it, in milliseconds; absent for any.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub timeout_ms: Option<u64>,
    /// Tries after the first, and for what.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub retries: String,
    /// The path as it is sent on, where it changes.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub path: String,
    /// The authority as it is sent on, where it changes.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub authority: String,
    /// Clusters that get a copy, with their shares in percent.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub mirrors: Vec<(String, f64)>,
    /// What keeps a client with its host.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub session: String,
    /// Faults that are injected.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub faults: Vec<String>,
}

/// What a proxy sends on, and of which it can say no more than it reads.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub enum Carried {
    /// Requests.
    #[default]
    Requests,
    /// The bytes of a connection.
    Connections,
    /// Datagrams.
    Datagrams,
}

/// A cluster that a call may go to.
#[derive(Debug, Clone, Default, PartialEq, Serialize)]
pub struct Cluster {
    /// Its name.
    pub name: String,
    /// Its share, in percent.
    pub percent: f64,
    /// False where the proxy has none of that name: 503.
    pub known: bool,
    /// The destination of the rule that leads to it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub destination: Option<Source>,
    /// The service.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub service: Option<Source>,
    /// The host of a Sidecar that lets it be seen.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub seen_by: Option<Source>,
    /// The DestinationRules that shape it.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub from: Vec<Source>,
    /// Where these were found: in the client's namespace, the service's or the root.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub found_in: String,
    /// The subset.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub subset: Option<Source>,
    /// The fields that say how it is reached.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub said: Vec<Said>,
    /// How connections are secured.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub tls: Vec<String>,
    /// How a host is chosen.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub policy: String,
    /// Where hosts come from, where they are not listed.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub hosts_from: String,
    /// Its hosts.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub hosts: Vec<Host>,
}

/// A host of a cluster.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Host {
    /// Address and port.
    pub address: String,
    /// The workload behind it.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub workload: String,
    /// Its share of the cluster's requests, in percent, by drawing a number of times.
    pub percent: f64,
}
