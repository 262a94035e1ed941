//! The metrics of the data plane: Istio's standard ones with all their labels, and the basic ones
//! that Envoy's users look for.

use std::collections::{BTreeMap, HashMap};
use std::sync::{Arc, Mutex, PoisonError};

use arcstr::{ArcStr, literal};
use lateen_core::Direction;
use lateen_decode::{Service, Workload};
use lateen_telemetry::metrics::{Counter, Family, Gauge, Histogram, Registry, Writer};

use crate::cluster::{Cluster, Host};
use crate::http::log::Entry;
use crate::listener::Connection;
use crate::udp::UdpStats;
use crate::worker::Shared;

/// Labels of HTTP series, in the order of Istio's own plug-in.
const HTTP_LABELS: &[&str] = &[
    "reporter",
    "source_workload",
    "source_canonical_service",
    "source_canonical_revision",
    "source_workload_namespace",
    "source_principal",
    "source_app",
    "source_version",
    "source_cluster",
    "destination_workload",
    "destination_canonical_service",
    "destination_canonical_revision",
    "destination_workload_namespace",
    "destination_principal",
    "destination_app",
    "destination_version",
    "destination_service",
    "destination_service_name",
    "destination_service_namespace",
    "destination_cluster",
    "request_protocol",
    "response_code",
    "grpc_response_status",
    "response_flags",
    "connection_security_policy",
];

/// Labels of TCP series.
const TCP_LABELS: &[&str] = &[
    "reporter",
    "source_workload",
    "source_canonical_service",
    "source_canonical_revision",
    "source_workload_namespace",
    "source_principal",
    "source_app",
    "source_version",
    "source_cluster",
    "destination_workload",
    "destination_canonical_service",
    "destination_canonical_revision",
    "destination_workload_namespace",
    "destination_principal",
    "destination_app",
    "destination_version",
    "destination_service",
    "destination_service_name",
    "destination_service_namespace",
    "destination_cluster",
    "request_protocol",
    "response_flags",
    "connection_security_policy",
];

const UNKNOWN: ArcStr = literal!("unknown");

/// All metrics.
pub(crate) struct Stats {
    pub registry: Registry,
    requests: Arc<Family<Counter>>,
    duration: Arc<Family<Histogram>>,
    request_bytes: Arc<Family<Histogram>>,
    response_bytes: Arc<Family<Histogram>>,
    tcp_opened: Arc<Family<Counter>>,
    tcp_closed: Arc<Family<Counter>>,
    tcp_sent: Arc<Family<Counter>>,
    tcp_received: Arc<Family<Counter>>,
    /// Requests under way.
    pub downstream_active: Arc<Gauge>,
    listeners: Mutex<HashMap<ArcStr, Arc<ListenerStats>>>,
    /// By their prefix.
    udp: Mutex<BTreeMap<ArcStr, Arc<UdpStats>>>,
    /// Updates by what became of them: accepted, refused.
    pub updates: [Counter; 2],
}

/// What one listener has counted.
#[derive(Debug, Default)]
pub(crate) struct ListenerStats {
    pub total: Counter,
    pub active: Gauge,
    pub tls_failures: Counter,
    /// Longer than the listener takes.
    pub datagrams_dropped: Counter,
}

/// Counts a connection while it lives.
pub(crate) struct Tracked(Arc<ListenerStats>);

impl Drop for Tracked {
    fn drop(&mut self) {
        self.0.active.add(-1);
    }
}

/// What is known of a request beside its log line.
#[derive(Default)]
pub(crate) struct HttpFacts {
    pub grpc: bool,
    /// By the header that both sides exchange.
    pub peer: Option<Arc<Workload>>,
    pub host: Option<Arc<Host>>,
    pub cluster: Option<Arc<Cluster>>,
}

/// The series of requests that metrics cannot tell apart.
struct HttpSeries {
    requests: Arc<Counter>,
    duration: Arc<Histogram>,
    request_bytes: Arc<Histogram>,
    response_bytes: Arc<Histogram>,
}

/// The series that the last requests of a connection were counted in, so that the usual request
/// costs a comparison of pointers and not a look-up by two dozen texts.
#[derive(Default)]
pub(crate) struct SeriesCache(Mutex<Vec<(SeriesKey, HttpSeries)>>);

/// Series that one connection remembers.
const CACHED: usize = 8;

/// What can differ between the requests of a connection. The parts are held, not only compared, so
/// that an address in memory stands for one thing alone.
struct SeriesKey {
    peer: Option<Arc<Workload>>,
    host: Option<Arc<Host>>,
    /// The cluster's identifier; 0 for none.
    cluster: u64,
    grpc: Option<Option<u32>>,
    status: u16,
}

impl SeriesKey {
    fn fits(&self, entry: &Entry, facts: &HttpFacts) -> bool {
        fn same<T>(a: Option<&Arc<T>>, b: Option<&Arc<T>>) -> bool {
            a.map(Arc::as_ptr) == b.map(Arc::as_ptr)
        }
        self.status == entry.status
            && self.grpc == facts.grpc.then_some(entry.grpc_status)
            && self.cluster == facts.cluster.as_ref().map_or(0, |cluster| cluster.id)
            && same(self.peer.as_ref(), facts.peer.as_ref())
            && same(self.host.as_ref(), facts.host.as_ref())
    }
}

/// The series of one TCP connection.
pub(crate) struct TcpSeries {
    pub opened: Arc<Counter>,
    pub closed: Arc<Counter>,
    pub sent: Arc<Counter>,
    pub received: Arc<Counter>,
}

/// The label values of one TCP connection.
pub(crate) struct TcpLabels(Vec<ArcStr>);

impl Stats {
    pub(crate) fn new() -> Self {
        let registry = Registry::new();
        Stats {
            requests: registry.family("istio_requests_total", HTTP_LABELS),
            duration: registry.family("istio_request_duration_milliseconds", HTTP_LABELS),
            request_bytes: registry.family("istio_request_bytes", HTTP_LABELS),
            response_bytes: registry.family("istio_response_bytes", HTTP_LABELS),
            tcp_opened: registry.family("istio_tcp_connections_opened_total", TCP_LABELS),
            tcp_closed: registry.family("istio_tcp_connections_closed_total", TCP_LABELS),
            tcp_sent: registry.family("istio_tcp_sent_bytes_total", TCP_LABELS),
            tcp_received: registry.family("istio_tcp_received_bytes_total", TCP_LABELS),
            downstream_active: registry.single("envoy_http_downstream_rq_active"),
            listeners: Mutex::default(),
            udp: Mutex::default(),
            updates: [Counter::default(), Counter::default()],
            registry,
        }
    }

    /// What listeners count of datagrams under this prefix.
    pub(crate) fn udp(&self, prefix: &ArcStr) -> Arc<UdpStats> {
        let mut udp = self.udp.lock().unwrap_or_else(PoisonError::into_inner);
        udp.entry(prefix.clone()).or_default().clone()
    }

    /// Prefixes, and what was counted under them.
    pub(crate) fn all_udp(&self) -> Vec<(ArcStr, Arc<UdpStats>)> {
        let udp = self.udp.lock().unwrap_or_else(PoisonError::into_inner);
        udp.iter().map(|(p, s)| (p.clone(), s.clone())).collect()
    }

    /// What a listener counts.
    pub(crate) fn listener(&self, name: &ArcStr) -> Arc<ListenerStats> {
        let mut listeners = self
            .listeners
            .lock()
            .unwrap_or_else(PoisonError::into_inner);
        listeners.entry(name.clone()).or_default().clone()
    }

    /// Counts a connection.
    pub(crate) fn listener_connection(&self, name: &ArcStr) -> Tracked {
        let stats = self.listener(name);
        stats.total.inc();
        stats.active.add(1);
        Tracked(stats)
    }

    /// Counts a failed handshake.
    pub(crate) fn tls_failure(&self, name: &ArcStr) {
        self.listener(name).tls_failures.inc();
    }

    /// Names and stats of the listeners.
    pub(crate) fn listeners(&self) -> Vec<(ArcStr, Arc<ListenerStats>)> {
        let listeners = self
            .listeners
            .lock()
            .unwrap_or_else(PoisonError::into_inner);
        let mut list: Vec<_> = listeners
            .iter()
            .map(|(n, s)| (n.clone(), s.clone()))
            .collect();
        list.sort_by(|a, b| a.0.cmp(&b.0));
        list
    }

    /// Records a request.
    pub(crate) fn http(
        &self,
        shared: &Shared,
        connection: &Connection,
        entry: &Entry,
        facts: &HttpFacts,
    ) {
        let Some(direction) = connection.listener.direction else {
            return;
        };
        let count = |series: &HttpSeries| {
            series.requests.inc();
            let elapsed = entry.started.elapsed();
            series.duration.observe(elapsed.as_secs_f64() * 1000.0);
            series.request_bytes.observe(entry.bytes_received as f64);
            series.response_bytes.observe(entry.bytes_sent as f64);
        };
        let series = || self.http_series(shared, connection, direction, entry, facts);
        // Failures are rare and have many forms.
        if !entry.reasons.is_empty() {
            return count(&series());
        }
        let cache = &connection.series.0;
        let mut cache = cache.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some((_, series)) = cache.iter().find(|(key, _)| key.fits(entry, facts)) {
            return count(series);
        }
        let series = series();
        count(&series);
        let key = SeriesKey {
            peer: facts.peer.clone(),
            host: facts.host.clone(),
            cluster: facts.cluster.as_ref().map_or(0, |cluster| cluster.id),
            grpc: facts.grpc.then_some(entry.grpc_status),
            status: entry.status,
        };
        if cache.len() >= CACHED {
            cache.remove(0);
        }
        // Most connections know one; room for more at once would be part of every idle one.
        cache.reserve_exact(1);
        cache.push((key, series));
    }

    fn http_series(
        &self,
        shared: &Shared,
        connection: &Connection,
        direction: Direction,
        entry: &Entry,
        facts: &HttpFacts,
    ) -> HttpSeries {
        let endpoint = || facts.host.as_ref()?.workload.as_deref();
        let parties = Parties {
            peer: facts.peer.as_deref().or_else(endpoint),
            service: facts.cluster.as_ref().map(|cluster| &cluster.service),
            direction,
        };
        let mut labels = Vec::with_capacity(HTTP_LABELS.len());
        parties.labels(shared, connection, &mut labels);
        labels.push(if facts.grpc {
            literal!("grpc")
        } else {
            literal!("http")
        });
        labels.push(number(u32::from(entry.status)));
        labels.push(match (facts.grpc, entry.grpc_status) {
            (true, Some(status)) => number(status),
            _ => ArcStr::new(),
        });
        labels.push(entry.flags().as_ref().into());
        labels.push(security(connection, direction));
        HttpSeries {
            requests: self.requests.with(&labels),
            duration: self.duration.with(&labels),
            request_bytes: self.request_bytes.with(&labels),
            response_bytes: self.response_bytes.with(&labels),
        }
    }

    /// The series of a connection.
    pub(crate) fn tcp(&self, labels: &TcpLabels) -> TcpSeries {
        TcpSeries {
            opened: self.tcp_opened.with(&labels.0),
            closed: self.tcp_closed.with(&labels.0),
            sent: self.tcp_sent.with(&labels.0),
            received: self.tcp_received.with(&labels.0),
        }
    }

    /// Envoy's names for what listeners count.
    pub(crate) fn write_listeners(&self, out: &mut Writer) {
        let list = self.listeners();
        let mut family = |name: &str, kind: &str, value: &dyn Fn(&ListenerStats) -> i64| {
            out.kind(name, kind);
            for (listener, stats) in &list {
                out.sample(
                    name,
                    &format!("listener_address=\"{listener}\""),
                    value(stats),
                );
            }
        };
        let count = |counter: &Counter| i64::try_from(counter.value()).unwrap_or(i64::MAX);
        family("envoy_listener_downstream_cx_total", "counter", &|s| {
            count(&s.total)
        });
        family("envoy_listener_downstream_cx_active", "gauge", &|s| {
            s.active.value()
        });
        family("envoy_listener_ssl_connection_error", "counter", &|s| {
            count(&s.tls_failures)
        });
        family(
            "envoy_listener_udp_downstream_rx_datagram_dropped",
            "counter",
            &|s| count(&s.datagrams_dropped),
        );
    }
}

/// The texts of usual numbers, without allocation.
fn number(value: u32) -> ArcStr {
    match value {
        0 => literal!("0"),
        200 => literal!("200"),
        304 => literal!("304"),
        404 => literal!("404"),
        500 => literal!("500"),
        503 => literal!("503"),
        value => value.to_string().into(),
    }
}

fn security(connection: &Connection, direction: Direction) -> ArcStr {
    match direction {
        Direction::Inbound if connection.is_mutual() => literal!("mutual_tls"),
        Direction::Inbound => literal!("none"),
        // Only the server side knows for sure.
        Direction::Outbound => UNKNOWN,
    }
}

fn or_unknown(text: &ArcStr) -> ArcStr {
    if text.is_empty() {
        UNKNOWN
    } else {
        text.clone()
    }
}

/// Who talks to whom.
struct Parties<'a> {
    peer: Option<&'a Workload>,
    service: Option<&'a Service>,
    direction: Direction,
}

impl Parties<'_> {
    /// The labels from `reporter` to `destination_cluster`.
    fn labels(&self, shared: &Shared, connection: &Connection, out: &mut Vec<ArcStr>) {
        let own = &*shared.node.workload;
        let nobody = Workload::default();
        let peer = self.peer.unwrap_or(&nobody);
        let own_principal = || {
            let identity = shared.secrets.identity().current().ok();
            let name = identity.and_then(|own| own.spiffe().map(ToString::to_string));
            name.map_or(UNKNOWN, ArcStr::from)
        };
        let (reporter, source, destination, source_principal, destination_principal) =
            match self.direction {
                Direction::Inbound => {
                    let principal = connection.peer_principal();
                    let own_name = if principal.is_some() {
                        own_principal()
                    } else {
                        UNKNOWN
                    };
                    let principal = principal.map_or(UNKNOWN, ArcStr::from);
                    (literal!("destination"), peer, own, principal, own_name)
                }
                Direction::Outbound => (literal!("source"), own, peer, UNKNOWN, UNKNOWN),
            };
        out.push(reporter);
        workload(source, source_principal, out);
        workload(destination, destination_principal, out);
        let cluster = out.pop().unwrap_or(UNKNOWN);
        self.service(own, destination, out);
        out.push(cluster);
    }

    fn service(&self, own: &Workload, destination: &Workload, out: &mut Vec<ArcStr>) {
        let named = self
            .service
            .filter(|service| !service.host.starts_with("inbound|"));
        if let Some(service) = named {
            let namespace = match service.namespace.is_empty() {
                true => &destination.namespace,
                false => &service.namespace,
            };
            out.push(or_unknown(&service.host));
            out.push(or_unknown(&service.name));
            out.push(or_unknown(namespace));
            return;
        }
        // An inbound cluster without metadata belongs to this workload's own service.
        if self.direction == Direction::Inbound && !own.canonical_name.is_empty() {
            let (name, namespace) = (&own.canonical_name, &own.namespace);
            out.push(format!("{name}.{namespace}.svc.cluster.local").into());
            out.push(name.clone());
            out.push(or_unknown(namespace));
            return;
        }
        out.extend([UNKNOWN, UNKNOWN, UNKNOWN]);
    }
}

/// The eight labels of one side; the cluster comes last.
fn workload(workload: &Workload, principal: ArcStr, out: &mut Vec<ArcStr>) {
    out.push(or_unknown(&workload.name));
    out.push(or_unknown(&workload.canonical_name));
    out.push(or_unknown(&workload.canonical_revision));
    out.push(or_unknown(&workload.namespace));
    out.push(principal);
    out.push(or_unknown(&workload.app));
    out.push(or_unknown(&workload.version));
    out.push(or_unknown(&workload.cluster));
}

impl TcpLabels {
    /// The labels of a connection; none where its listener has no direction.
    pub(crate) fn new(
        shared: &Shared,
        connection: &Connection,
        cluster: &Cluster,
        host: &Host,
    ) -> Option<Self> {
        let direction = connection.listener.direction?;
        let peer = match direction {
            Direction::Outbound => host.workload.as_deref(),
            Direction::Inbound => None,
        };
        let parties = Parties {
            peer,
            service: Some(&cluster.service),
            direction,
        };
        let mut labels = Vec::with_capacity(TCP_LABELS.len());
        parties.labels(shared, connection, &mut labels);
        labels.push(literal!("tcp"));
        labels.push(literal!("-"));
        labels.push(security(connection, direction));
        Some(TcpLabels(labels))
    }
}
