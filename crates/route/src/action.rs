//! What a route does with a request.

use std::time::Duration;

use arcstr::ArcStr;

use crate::{HeaderTest, HostRewrite, PathRewrite, RouteError};

/// What a route does.
#[derive(Debug, Clone)]
pub enum Action {
    /// Sends the request to a cluster.
    Forward(Box<Forward>),
    /// Answers with a redirect.
    Redirect(Box<Redirect>),
    /// Answers with a fixed response.
    Direct(DirectResponse),
}

/// How a request is forwarded.
#[derive(Debug, Clone, Default)]
pub struct Forward {
    /// Where to.
    pub target: Target,
    /// How the path changes.
    pub path: Option<PathRewrite>,
    /// How the authority changes.
    pub host: Option<HostRewrite>,
    /// From the end of the request to the end of the response; zero means none.
    pub timeout: Duration,
    /// Without progress in either direction; `None` inherits the listener's.
    pub idle_timeout: Option<Duration>,
    /// The bound on `grpc-timeout`; `None` ignores that header, zero means no bound.
    pub grpc_timeout_max: Option<Duration>,
    /// When and how often to try again.
    pub retry: Option<RetryPolicy>,
    /// Clusters that get a copy of the request.
    pub mirrors: Vec<Mirror>,
    /// What consistent hashing uses; the results are combined.
    pub hash: Vec<HashPolicy>,
    /// Upgrades that are allowed (true) or refused (false) on this route, beyond the listener's.
    pub upgrades: Vec<(String, bool)>,
    /// It counts against the limits for important requests, and takes connections of their own.
    pub high_priority: bool,
}

/// The cluster of a forwarded request.
#[derive(Debug, Clone)]
pub enum Target {
    /// Always this one.
    Cluster(ArcStr),
    /// The one that a request header names.
    Header(String),
    /// One of several by weight.
    Weighted(WeightedClusters),
}

impl Default for Target {
    fn default() -> Self {
        Target::Cluster(ArcStr::new())
    }
}

/// Clusters with weights.
#[derive(Debug, Clone)]
pub struct WeightedClusters {
    clusters: Vec<Weighted>,
    total: u64,
}

/// One of several clusters.
#[derive(Debug, Clone)]
pub struct Weighted {
    /// The cluster.
    pub cluster: ArcStr,
    /// Its share.
    pub weight: u32,
    /// Changes to the requests and responses that go there.
    pub headers: HeaderMutations,
    /// The authority that it is to see.
    pub host: Option<String>,
}

impl WeightedClusters {
    /// Refuses a list whose weights sum to 0.
    pub fn new(route: &str, clusters: Vec<Weighted>) -> Result<Self, RouteError> {
        let total = clusters
            .iter()
            .map(|cluster| u64::from(cluster.weight))
            .sum();
        if total == 0 {
            return Err(RouteError::Weights {
                route: route.to_owned(),
            });
        }
        Ok(WeightedClusters { clusters, total })
    }

    /// The cluster for a drawn number.
    pub fn pick(&self, random: u64) -> &Weighted {
        let mut left = random % self.total;
        for cluster in &self.clusters {
            let weight = u64::from(cluster.weight);
            if left < weight {
                return cluster;
            }
            left -= weight;
        }
        self.clusters
            .last()
            .expect("the weights sum to more than 0")
    }

    /// The clusters.
    pub fn clusters(&self) -> &[Weighted] {
        &self.clusters
    }
}

/// The cluster that was chosen for one request.
#[derive(Debug, Clone, Copy)]
pub struct ClusterChoice<'a> {
    /// Its name.
    pub cluster: &'a str,
    /// The entry of a weighted list, where it came from one.
    pub weighted: Option<&'a Weighted>,
}

impl Target {
    /// The cluster for a request.
    pub fn choose<'a>(
        &'a self,
        random: u64,
        header: impl FnOnce(&str) -> Option<&'a str>,
    ) -> Option<ClusterChoice<'a>> {
        Some(match self {
            Target::Cluster(cluster) => ClusterChoice {
                cluster,
                weighted: None,
            },
            Target::Header(name) => ClusterChoice {
                cluster: header(name)?,
                weighted: None,
            },
            Target::Weighted(list) => {
                let weighted = list.pick(random);
                ClusterChoice {
                    cluster: &weighted.cluster,
                    weighted: Some(weighted),
                }
            }
        })
    }
}

/// A cluster that gets a copy of requests.
#[derive(Debug, Clone)]
pub struct Mirror {
    /// The cluster.
    pub cluster: ArcStr,
    /// The share of requests, in millionths.
    pub millionths: u32,
}

/// What consistent hashing takes from a request.
#[derive(Debug, Clone)]
pub enum HashPolicy {
    /// A header's value.
    Header(String),
    /// A cookie's value; a lifetime asks for the cookie to be made where it is missing.
    Cookie {
        /// Its name.
        name: String,
        /// Its lifetime.
        ttl: Option<Duration>,
        /// Its path.
        path: String,
        /// What else is said of it, as names and values.
        attributes: Vec<(String, String)>,
    },
    /// The client's address.
    SourceIp,
    /// A query parameter's value.
    Query(String),
}

/// A redirect.
#[derive(Debug, Clone, Default)]
pub struct Redirect {
    /// The new scheme.
    pub scheme: Option<String>,
    /// The new host.
    pub host: Option<String>,
    /// The new port.
    pub port: Option<u32>,
    /// The new path.
    pub path: Option<PathRedirect>,
    /// The status code.
    pub status: u16,
    /// Leave the query out.
    pub strip_query: bool,
}

/// How a redirect changes the path.
#[derive(Debug, Clone)]
pub enum PathRedirect {
    /// Replaces all of it; a query in the replacement wins.
    Full(String),
    /// Rewrites it.
    Rewrite(PathRewrite),
}

/// A fixed response.
#[derive(Debug, Clone, Default)]
pub struct DirectResponse {
    /// The status code.
    pub status: u16,
    /// The body.
    pub body: bytes::Bytes,
}

/// What to do with a header that exists already.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum HeaderOption {
    /// Add another field.
    Append,
    /// Add unless there is one.
    AddIfAbsent,
    /// Replace, or add.
    Overwrite,
    /// Replace where there is one.
    OverwriteIfPresent,
}

/// One header to write.
#[derive(Debug, Clone)]
pub struct HeaderMutation {
    /// Its name in lower case.
    pub name: String,
    /// Its value, with Envoy's `%…%` substitutions.
    pub value: String,
    /// What to do with an existing one.
    pub option: HeaderOption,
}

/// Changes to the headers of requests and responses.
#[derive(Debug, Clone, Default)]
pub struct HeaderMutations {
    /// Written to requests.
    pub request_add: Vec<HeaderMutation>,
    /// Removed from requests.
    pub request_remove: Vec<String>,
    /// Written to responses.
    pub response_add: Vec<HeaderMutation>,
    /// Removed from responses.
    pub response_remove: Vec<String>,
}

/// The conditions under which a request is tried again.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct RetryOn(u32);

impl RetryOn {
    /// Any 5xx response, and no response.
    pub const SERVER_ERROR: RetryOn = RetryOn(1);
    /// 502, 503 or 504.
    pub const GATEWAY_ERROR: RetryOn = RetryOn(1 << 1);
    /// The connection broke before a response.
    pub const RESET: RetryOn = RetryOn(1 << 2);
    /// The connection broke before the request was sent.
    pub const RESET_BEFORE_REQUEST: RetryOn = RetryOn(1 << 3);
    /// No connection could be made.
    pub const CONNECT_FAILURE: RetryOn = RetryOn(1 << 4);
    /// 409.
    pub const RETRIABLE_4XX: RetryOn = RetryOn(1 << 5);
    /// The stream was refused by the upstream.
    pub const REFUSED_STREAM: RetryOn = RetryOn(1 << 6);
    /// A status code of the policy's list.
    pub const STATUS_CODES: RetryOn = RetryOn(1 << 7);
    /// A response header of the policy's list.
    pub const HEADERS: RetryOn = RetryOn(1 << 8);
    /// The response is marked as not served for want of capacity.
    pub const ENVOY_RATELIMITED: RetryOn = RetryOn(1 << 9);
    /// gRPC status 1.
    pub const GRPC_CANCELLED: RetryOn = RetryOn(1 << 10);
    /// gRPC status 4.
    pub const GRPC_DEADLINE: RetryOn = RetryOn(1 << 11);
    /// gRPC status 13.
    pub const GRPC_INTERNAL: RetryOn = RetryOn(1 << 12);
    /// gRPC status 8.
    pub const GRPC_EXHAUSTED: RetryOn = RetryOn(1 << 13);
    /// gRPC status 14.
    pub const GRPC_UNAVAILABLE: RetryOn = RetryOn(1 << 14);

    /// Parses Envoy's comma-separated list. Words that it does not know are skipped, as Envoy does;
    /// a number counts as a status code and is returned.
    pub fn parse(list: &str) -> (Self, Vec<u16>) {
        let mut set = RetryOn::default();
        let mut codes = Vec::new();
        for word in list.split(',').map(str::trim) {
            match word.parse::<u16>() {
                Ok(code) => codes.push(code),
                Err(_) => set = set.with(Self::word(word).unwrap_or_default()),
            }
        }
        (set, codes)
    }

    /// The words of such a list that stand for nothing.
    pub fn unknown(list: &str) -> impl Iterator<Item = &str> {
        let words = list.split(',').map(str::trim).filter(|w| !w.is_empty());
        words.filter(|word| word.parse::<u16>().is_err() && Self::word(word).is_none())
    }

    fn word(word: &str) -> Option<RetryOn> {
        Some(match word {
            "5xx" => Self::SERVER_ERROR,
            "gateway-error" => Self::GATEWAY_ERROR,
            "reset" => Self::RESET,
            "reset-before-request" => Self::RESET_BEFORE_REQUEST,
            "connect-failure" => Self::CONNECT_FAILURE,
            "retriable-4xx" => Self::RETRIABLE_4XX,
            "refused-stream" => Self::REFUSED_STREAM,
            "retriable-status-codes" => Self::STATUS_CODES,
            "retriable-headers" => Self::HEADERS,
            "envoy-ratelimited" => Self::ENVOY_RATELIMITED,
            "cancelled" => Self::GRPC_CANCELLED,
            "deadline-exceeded" => Self::GRPC_DEADLINE,
            "internal" => Self::GRPC_INTERNAL,
            "resource-exhausted" => Self::GRPC_EXHAUSTED,
            "unavailable" => Self::GRPC_UNAVAILABLE,
            _ => return None,
        })
    }

    /// Both sets.
    #[must_use]
    pub fn with(self, other: RetryOn) -> RetryOn {
        RetryOn(self.0 | other.0)
    }

    /// True where the sets share a condition.
    pub fn has(self, other: RetryOn) -> bool {
        self.0 & other.0 != 0
    }
}

/// When and how often a request is tried again.
#[derive(Debug, Clone)]
pub struct RetryPolicy {
    /// The conditions.
    pub on: RetryOn,
    /// How many more times.
    pub attempts: u32,
    /// The bound on each try; zero means none.
    pub per_try_timeout: Duration,
    /// How long a try may bring nothing and take nothing; zero means for ever.
    pub per_try_idle: Duration,
    /// The first pause.
    pub base_interval: Duration,
    /// The longest pause.
    pub max_interval: Duration,
    /// The codes of `retriable-status-codes`.
    pub status_codes: Vec<u16>,
    /// The headers of `retriable-headers`.
    pub headers: Vec<HeaderTest>,
    /// Only requests that pass one of these tests are tried again; none lets all pass.
    pub request_headers: Vec<HeaderTest>,
    /// Prefer hosts that were not tried yet.
    pub avoid_previous_hosts: bool,
    /// How often to draw another host for that.
    pub host_attempts: u32,
    /// After so many tries, and each time as many more, the priorities that they went to are passed
    /// over; 0 for never.
    pub leave_priorities_after: u32,
}

impl Default for RetryPolicy {
    /// Envoy's defaults: one more try, pauses from 25 ms to ten times that.
    fn default() -> Self {
        RetryPolicy {
            on: RetryOn::default(),
            attempts: 1,
            per_try_timeout: Duration::ZERO,
            per_try_idle: Duration::ZERO,
            base_interval: Duration::from_millis(25),
            max_interval: Duration::from_millis(250),
            status_codes: Vec::new(),
            headers: Vec::new(),
            request_headers: Vec::new(),
            avoid_previous_hosts: false,
            host_attempts: 1,
            leave_priorities_after: 0,
        }
    }
}

impl RetryPolicy {
    /// True where a response with that status asks for another try.
    pub fn wants_status(&self, status: u16, grpc_status: Option<u32>) -> bool {
        let on = self.on;
        (on.has(RetryOn::SERVER_ERROR) && (500..600).contains(&status))
            || (on.has(RetryOn::GATEWAY_ERROR) && matches!(status, 502..=504))
            || (on.has(RetryOn::RETRIABLE_4XX) && status == 409)
            || (on.has(RetryOn::STATUS_CODES) && self.status_codes.contains(&status))
            || grpc_status.is_some_and(|status| on.has(grpc_condition(status)))
    }
}

fn grpc_condition(status: u32) -> RetryOn {
    match status {
        1 => RetryOn::GRPC_CANCELLED,
        4 => RetryOn::GRPC_DEADLINE,
        8 => RetryOn::GRPC_EXHAUSTED,
        13 => RetryOn::GRPC_INTERNAL,
        14 => RetryOn::GRPC_UNAVAILABLE,
        _ => RetryOn(0),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn weights_split_the_drawn_numbers() {
        let entry = |cluster: &str, weight| Weighted {
            cluster: cluster.into(),
            weight,
            headers: HeaderMutations::default(),
            host: None,
        };
        let list = WeightedClusters::new("r", vec![entry("a", 90), entry("b", 10)]).expect("90");
        let hits = (0..1000)
            .filter(|random| list.pick(*random).cluster == "b")
            .count();
        assert_eq!(hits, 100);
        assert!(WeightedClusters::new("r", vec![entry("a", 0)]).is_err());
    }

    #[test]
    fn retry_conditions() {
        let check = |on: &str, status, grpc, expect| {
            let (on, codes) = RetryOn::parse(on);
            let policy = RetryPolicy {
                on,
                status_codes: codes,
                ..RetryPolicy::default()
            };
            assert_eq!(
                policy.wants_status(status, grpc),
                expect,
                "{status} {grpc:?}"
            );
        };
        check("5xx", 503, None, true);
        check("gateway-error", 500, None, false);
        check("gateway-error,connect-failure", 504, None, true);
        check("unavailable", 200, Some(14), true);
        check("unavailable", 200, Some(13), false);
        check("retriable-status-codes,429", 429, None, true);
        check("connect-failure,refused-stream", 503, None, false);
        let unknown: Vec<_> = RetryOn::unknown("5xx, never,503,,sometimes").collect();
        assert_eq!(unknown, ["never", "sometimes"]);
    }
}
