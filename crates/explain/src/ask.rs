//! Puts a call to what a proxy is served, step by step as the proxy does.

use std::collections::BTreeMap;
use std::sync::Arc;

use lateen_balance::{Balancer, HostSpec, HostState, Pick};
use lateen_core::{Direction, ObjectRef};
use lateen_decode::{
    DownstreamSpec, FilterChainSpec, HcmSpec, ListenerSpec, NetworkSpec, RouteExtra, Routes,
    TransportSpec,
};
use lateen_route::{
    Action, ConnectionView, Forward, Host as VirtualHost, HostRewrite, PathRedirect, Redirect,
    Route, RouteTable, Target,
};
use lateen_xds::types::route as pb;

use crate::answer::{
    Candidate, Choice, Cluster, Destination, Explanation, Host, Outcome, Redirection,
};
use crate::served::{Served, config_of};
use crate::{Call, Security};

/// How often a host is drawn to tell the shares of hosts.
const DRAWS: u64 = 1_000;

/// What the mesh's own TLS offers for requests, and for what is no HTTP.
const MESH_TCP: &str = "istio";
const MESH_HTTP: [&str; 5] = ["istio-h2", "istio-http/1.1", "istio", "h2", "http/1.1"];

/// What becomes of a call at a proxy, and why. `places` says where objects stand, for those that
/// come from files.
pub fn explain(served: &Served, call: &Call, places: &BTreeMap<ObjectRef, String>) -> Explanation {
    let asker = Asker {
        served,
        call,
        places,
    };
    let mut told = Explanation::default();
    let Some(listener) = asker.listener(&mut told) else {
        return told;
    };
    let Some((index, chain)) = asker.chain(listener, &mut told) else {
        told.outcome = Outcome::NoChain;
        return told;
    };
    told.outcome = match &chain.network {
        NetworkSpec::Close => Outcome::Closed,
        // `downstream` says why: who has no sidecar has no certificate of the mesh.
        _ if call.inbound && lacks_certificate(chain, &call.security) => Outcome::Closed,
        NetworkSpec::Tcp(tcp) => Outcome::Forward(Destination {
            clusters: asker.clusters(&tcp.target),
            ..Destination::default()
        }),
        NetworkSpec::Http(hcm) => asker.request(listener, index, hcm, &mut told),
    };
    told
}

struct Asker<'a> {
    served: &'a Served,
    call: &'a Call,
    places: &'a BTreeMap<ObjectRef, String>,
}

impl<'a> Asker<'a> {
    /// The listener: for traffic that was captured, that of the destination, where there is one.
    fn listener(&self, told: &mut Explanation) -> Option<&'a ListenerSpec> {
        let all = &self.served.listeners;
        let wanted = if self.call.inbound {
            Direction::Inbound
        } else {
            Direction::Outbound
        };
        let destination = self.call.destination;
        let own = || {
            let mut bound_at = lateen_decode::bound_at(destination).into_iter();
            let all = || all.iter().filter(|listener| listener.udp.is_none());
            bound_at.find_map(|at| all().find(|l| l.addresses.contains(&at)))
        };
        let captured = all
            .iter()
            .find(|l| l.original_dst && l.direction == Some(wanted));
        let (found, why) = match captured {
            Some(captured) if captured.use_original_dst => match own() {
                Some(own) => (own, format!("the listener of {destination}")),
                None => (captured, format!("no listener is made for {destination}")),
            },
            Some(captured) => (captured, "all that comes to the workload".to_owned()),
            None => (own()?, format!("the listener of {destination}")),
        };
        told.listener = Some(Choice {
            name: found.name.to_string(),
            why,
            ..Choice::default()
        });
        Some(found)
    }

    fn chain(
        &self,
        listener: &'a ListenerSpec,
        told: &mut Explanation,
    ) -> Option<(usize, &'a FilterChainSpec)> {
        let offered: Vec<String> = match &self.call.security {
            Security::Plain if self.call.http && listener.inspect_http => {
                vec!["http/1.1".to_owned()]
            }
            Security::Plain => Vec::new(),
            Security::Tls { alpn, .. } => alpn.clone(),
            Security::Mesh if self.call.http => MESH_HTTP.map(str::to_owned).to_vec(),
            Security::Mesh => vec![MESH_TCP.to_owned()],
        };
        let is_tls = self.call.security != Security::Plain && listener.inspect_tls;
        let view = ConnectionView {
            destination: self.call.destination,
            source: self.call.source,
            server_name: match &self.call.security {
                Security::Tls { server_name, .. } if is_tls => server_name.as_deref(),
                _ => None,
            },
            transport: if is_tls { "tls" } else { "raw_buffer" },
            application: &offered,
        };
        let mut others = Vec::new();
        let found = listener.matches.choose(&view, |index, miss| {
            others.push(Candidate {
                name: name_of(&listener.chains[index], index),
                why: miss.to_string(),
                from: String::new(),
            });
        });
        let (index, chain, why) = match (found, &listener.default_chain) {
            (Some(index), _) => (
                index,
                &listener.chains[index],
                "it asks for the connection most closely",
            ),
            (None, Some(chain)) => (
                listener.chains.len(),
                chain,
                "no other chain takes the connection",
            ),
            (None, None) => {
                told.chain = Some(Choice {
                    others,
                    ..Choice::default()
                });
                return None;
            }
        };
        told.chain = Some(Choice {
            name: name_of(chain, index),
            why: why.to_owned(),
            from: String::new(),
            others,
        });
        told.downstream = match &chain.transport {
            DownstreamSpec::Raw => "plain text, or TLS that is passed on".to_owned(),
            DownstreamSpec::Tls(tls) if tls.require_client => {
                "TLS is ended here; clients must have a certificate".to_owned()
            }
            DownstreamSpec::Tls(_) => "TLS is ended here".to_owned(),
        };
        Some((index, chain))
    }

    fn request(
        &self,
        listener: &ListenerSpec,
        chain: usize,
        hcm: &'a HcmSpec,
        told: &mut Explanation,
    ) -> Outcome {
        let (table, message): (&Arc<RouteTable<RouteExtra>>, _) = match &hcm.routes {
            Routes::Inline(table) => {
                let key = (listener.name.to_string(), chain);
                (table, self.served.inline.get(&key))
            }
            Routes::Named(name) => {
                told.table = name.to_string();
                match self.served.tables.get(name.as_str()) {
                    Some(served) => (&served.table, Some(&served.message)),
                    None => return Outcome::NoHost,
                }
            }
        };
        let candidates = table.candidates(&self.call.authority);
        let Some((first, rest)) = candidates.split_first() else {
            return Outcome::NoHost;
        };
        let others = rest.iter().map(|other| Candidate {
            name: other.host.name.to_string(),
            why: format!("its domain {:?} counts for less", other.domain),
            from: String::new(),
        });
        told.host = Some(Choice {
            name: first.host.name.to_string(),
            why: format!("its domain {:?} fits", first.domain),
            from: String::new(),
            others: others.collect(),
        });
        let place = table
            .hosts()
            .iter()
            .position(|host| host.name == first.host.name);
        let messages = place.and_then(|place| message?.virtual_hosts.get(place));
        self.route(hcm, first.host, messages, told)
    }

    fn route(
        &self,
        hcm: &HcmSpec,
        host: &VirtualHost<RouteExtra>,
        message: Option<&pb::VirtualHost>,
        told: &mut Explanation,
    ) -> Outcome {
        if host.require_tls && self.call.security == Security::Plain {
            return Outcome::HttpsRequired;
        }
        let of = |index: usize| message.and_then(|host| host.routes.get(index));
        let name = |route: &Route<RouteExtra>, index: usize| {
            if route.name.is_empty() {
                format!("#{index}")
            } else {
                format!("#{index} {}", route.name)
            }
        };
        let from = |index: usize| {
            let config = of(index).map(|route| config_of(route.metadata.as_ref()));
            self.origin(&config.unwrap_or_default())
        };
        let choices = host.choices(self.call, self.call.random);
        let mut choice = Choice::default();
        let mut taken = None;
        for found in choices {
            match found.miss {
                Some(miss) => choice.others.push(Candidate {
                    name: name(found.route, found.index),
                    why: miss.to_string(),
                    from: from(found.index),
                }),
                None => {
                    choice.name = name(found.route, found.index);
                    choice.why = "the first that the request passes".to_owned();
                    choice.from = from(found.index);
                    taken = Some(found);
                }
            }
        }
        told.route = Some(choice);
        let Some(found) = taken else {
            return Outcome::NoRoute;
        };
        match &found.route.action {
            Action::Direct(direct) => Outcome::Answer {
                status: direct.status,
            },
            Action::Redirect(redirect) => Outcome::Redirect(redirection(redirect)),
            Action::Forward(forward) => {
                let retry = of(found.index).and_then(|route| match &route.action {
                    Some(pb::route::Action::Route(action)) => action.retry_policy.as_ref(),
                    _ => None,
                });
                let mut to = self.forward(found.route, forward, retry);
                let fault = found
                    .route
                    .extra
                    .fault
                    .as_ref()
                    .or(host.extra.fault.as_ref());
                let fault = fault.or(hcm.filters.fault.as_ref());
                to.faults = fault.map_or_else(Vec::new, |fault| faults(fault));
                Outcome::Forward(to)
            }
        }
    }

    fn forward(
        &self,
        route: &Route<RouteExtra>,
        forward: &Forward,
        retry: Option<&pb::RetryPolicy>,
    ) -> Destination {
        let path = lateen_route::RequestView::path(self.call);
        let rewrite = forward.path.as_ref();
        Destination {
            clusters: self.clusters(&forward.target),
            timeout_ms: (!forward.timeout.is_zero())
                .then(|| u64::try_from(forward.timeout.as_millis()).unwrap_or(u64::MAX)),
            retries: match (&forward.retry, retry) {
                (Some(policy), Some(said)) => format!("{} for {}", policy.attempts, said.retry_on),
                (Some(policy), None) => policy.attempts.to_string(),
                (None, _) => String::new(),
            },
            path: rewrite
                .map(|rewrite| rewrite.apply(&route.matcher.path, path, None))
                .filter(|new| new != path)
                .unwrap_or_default(),
            authority: match &forward.host {
                None => String::new(),
                Some(HostRewrite::Literal(host)) => host.clone(),
                Some(HostRewrite::Auto) => "the host's own name".to_owned(),
                Some(HostRewrite::Header(name)) => format!("what header {name:?} says"),
                Some(HostRewrite::PathRegex(_)) => "by the path".to_owned(),
            },
            mirrors: forward
                .mirrors
                .iter()
                .map(|mirror| {
                    let percent = f64::from(mirror.millionths) / 10_000.0;
                    (mirror.cluster.to_string(), percent)
                })
                .collect(),
            faults: Vec::new(),
        }
    }

    fn clusters(&self, target: &Target) -> Vec<Cluster> {
        match target {
            Target::Cluster(name) => vec![self.cluster(name, 100.0)],
            Target::Header(name) => {
                let named = self.call.headers.iter().find(|(key, _)| key == name);
                let named = named.map_or("", |(_, value)| value.as_str());
                vec![self.cluster(named, 100.0)]
            }
            Target::Weighted(list) => {
                let total: u32 = list.clusters().iter().map(|cluster| cluster.weight).sum();
                let shares = list.clusters().iter().map(|cluster| {
                    let percent = f64::from(cluster.weight) * 100.0 / f64::from(total.max(1));
                    self.cluster(&cluster.cluster, percent)
                });
                shares.filter(|cluster| cluster.percent > 0.0).collect()
            }
        }
    }

    fn cluster(&self, name: &str, percent: f64) -> Cluster {
        use lateen_decode::Discovery;
        let mut told = Cluster {
            name: name.to_owned(),
            percent,
            ..Cluster::default()
        };
        let Some(served) = self.served.clusters.get(name) else {
            return told;
        };
        let spec = &served.spec;
        told.known = true;
        told.from = self.origin(&served.config);
        told.policy = format!("{:?}", spec.policy);
        let endpoints = match &spec.discovery {
            Discovery::Static(list) => list.as_slice(),
            Discovery::Eds(service) => {
                let found = self.served.endpoints.get(service.as_str());
                found.map_or(&[][..], Vec::as_slice)
            }
            Discovery::Dns(dns) => {
                told.hosts_from = "names that are resolved".to_owned();
                dns.endpoints.as_slice()
            }
            Discovery::Dynamic(_) => {
                told.hosts_from = "the name that the client gives".to_owned();
                &[]
            }
            Discovery::OriginalDst { .. } => {
                told.hosts_from = "the destination of the connection".to_owned();
                &[]
            }
        };
        let mut tls: Vec<String> = if endpoints.is_empty() {
            vec![security(&spec.transports[0])]
        } else {
            let of = endpoints.iter().map(|endpoint| {
                let transport = spec.transport_for(&endpoint.spec.socket_match);
                security(&spec.transports[transport])
            });
            of.collect()
        };
        tls.sort();
        tls.dedup();
        told.tls = tls;
        let hosts: Vec<HostSpec> = endpoints
            .iter()
            .map(|endpoint| {
                let known = &endpoint.spec;
                let weight = known.locality_weight.filter(|_| spec.locality_weighted);
                HostSpec {
                    key: format!("{}:{}", endpoint.host, endpoint.port).into(),
                    weight: known.weight,
                    priority: known.priority,
                    locality: (known.locality.clone(), weight),
                    healthy: known.healthy,
                    state: Arc::new(HostState::arrived(0)),
                }
            })
            .collect();
        let shares = shares(
            &Balancer::new(spec.policy, spec.panic_percent, &hosts),
            &hosts,
        );
        told.hosts = endpoints
            .iter()
            .zip(shares)
            .map(|(endpoint, percent)| Host {
                address: format!("{}:{}", endpoint.host, endpoint.port),
                workload: endpoint
                    .spec
                    .workload
                    .as_ref()
                    .map_or_else(String::new, |workload| {
                        format!("{}.{}", workload.name, workload.namespace)
                    }),
                percent,
            })
            .collect();
        told
    }

    /// An object that metadata name, and its place.
    fn origin(&self, config: &str) -> String {
        // `/apis/GROUP/VERSION/namespaces/NAMESPACE/KIND/NAME`
        let parts: Vec<&str> = config.split('/').collect();
        let [.., "namespaces", namespace, kind, name] = parts[..] else {
            return config.to_owned();
        };
        let kind = match kind {
            "virtual-service" => "VirtualService",
            "destination-rule" => "DestinationRule",
            other => return format!("{other} {namespace}/{name}"),
        };
        let object = ObjectRef::new(kind, namespace, name);
        match self.places.get(&object) {
            Some(place) => format!("{object} ({place})"),
            None => object.to_string(),
        }
    }
}

/// Whether a caller's own TLS meets a chain that asks for a certificate.
fn lacks_certificate(chain: &FilterChainSpec, security: &Security) -> bool {
    let asks = matches!(&chain.transport, DownstreamSpec::Tls(tls) if tls.require_client);
    asks && matches!(security, Security::Tls { .. })
}

fn name_of(chain: &FilterChainSpec, index: usize) -> String {
    if chain.name.is_empty() {
        format!("#{index}")
    } else {
        chain.name.clone()
    }
}

fn security(transport: &TransportSpec) -> String {
    match transport {
        TransportSpec::Raw => "plain text".to_owned(),
        TransportSpec::Proxied(_, inner) => format!("a PROXY header, then {}", security(inner)),
        TransportSpec::Tls(tls) if tls.alpn.iter().any(|name| name == "istio") => {
            "mutual TLS of the mesh".to_owned()
        }
        TransportSpec::Tls(tls) => {
            let mutual = if tls.certs.is_empty() {
                "TLS"
            } else {
                "mutual TLS"
            };
            match &tls.sni {
                Some(sni) => format!("{mutual} for {sni}"),
                None => mutual.to_owned(),
            }
        }
    }
}

/// Draws many times, evenly.
fn shares(balancer: &Balancer, hosts: &[HostSpec]) -> Vec<f64> {
    let mut counts = vec![0u64; hosts.len()];
    let mut state = 0u64;
    let mut random = || {
        // Numbers that are spread evenly and the same in each run (Weyl's sequence, mixed).
        state = state.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mixed = (state ^ (state >> 32)).wrapping_mul(0xd6e8_feb8_6659_fd93);
        mixed ^ (mixed >> 32)
    };
    for _ in 0..DRAWS {
        let hash = Some(random());
        let mut pick = Pick {
            now: 0,
            random: &mut random,
            hash,
            tried: &[],
            attempts: 1,
            avoid: &[],
        };
        if let Some(index) = balancer.pick(hosts, &mut pick) {
            counts[index] += 1;
        }
    }
    let percent = |count: &u64| *count as f64 * 100.0 / DRAWS as f64;
    counts.iter().map(percent).collect()
}

fn redirection(redirect: &Redirect) -> Redirection {
    Redirection {
        status: redirect.status,
        scheme: redirect.scheme.clone().unwrap_or_default(),
        host: redirect.host.clone().unwrap_or_default(),
        port: redirect.port,
        path: match &redirect.path {
            None => String::new(),
            Some(PathRedirect::Full(path)) => path.clone(),
            Some(PathRedirect::Rewrite(rewrite)) => format!("{rewrite:?}"),
        },
    }
}

fn faults(fault: &lateen_decode::Fault) -> Vec<String> {
    use lateen_decode::AbortStatus;
    let percent = |share: lateen_route::Fraction| f64::from(share.millionths) / 10_000.0;
    let mut told = Vec::new();
    if let Some((share, delay)) = fault.delay {
        told.push(format!("delay of {delay:?} for {} %", percent(share)));
    }
    if let Some(abort) = &fault.abort {
        let status = match abort.status {
            AbortStatus::Http(status) => format!("status {status}"),
            AbortStatus::Grpc(status) => format!("gRPC status {status}"),
        };
        told.push(format!("{status} for {} %", percent(abort.share)));
    }
    told
}
