//! What is measured, and how good it has to be.

use crate::peer::Name;

/// Something that a proxy does.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Workload {
    /// As on the command line.
    pub(crate) name: &'static str,
    pub(crate) title: &'static str,
    pub(crate) kind: Kind,
    /// Who is measured beside us.
    pub(crate) peers: &'static [Name],
    pub(crate) bars: &'static [Bar],
}

/// How it is measured.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Kind {
    /// HTTP/1.1 in a closed loop.
    H1 { body: usize, tls: bool },
    /// HTTP/2 in a closed loop.
    H2 { connections: usize, streams: usize },
    /// Through two proxies with mutual TLS between them; in a closed loop without a rate.
    Mesh { rate: Option<u32> },
    /// A connection for each request.
    Handshake,
    /// Bytes.
    Tcp,
    /// Memory of a fresh process, and of its idle connections.
    Memory,
    /// Requests at fixed moments, beside the same without a proxy.
    Latency { rate: u32 },
}

/// What of a measurement is compared.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) enum Metric {
    /// Time on a processor for each unit: µs for a request, ms for a gigabyte.
    Cpu,
    /// Units per second.
    Rate,
    /// How much of the time the proxy's core worked for it, percent. Far below 100 in a closed
    /// loop, the load or other users of the machine were the limit.
    Busy,
    P50,
    P99,
    AddedP50,
    AddedP99,
    /// Megabytes (10⁶) of a fresh process: resident, its share of what is mapped by several, and
    /// what is in no file.
    Idle,
    IdlePss,
    IdleAnonymous,
    /// KiB for each idle connection.
    PerConnection,
    PerTlsConnection,
}

impl Metric {
    /// As in the result file.
    pub(crate) fn name(self) -> &'static str {
        match self {
            Metric::Cpu => "cpu",
            Metric::Rate => "rate",
            Metric::Busy => "busy_percent",
            Metric::P50 => "p50_us",
            Metric::P99 => "p99_us",
            Metric::AddedP50 => "added_p50_us",
            Metric::AddedP99 => "added_p99_us",
            Metric::Idle => "idle_mb",
            Metric::IdlePss => "idle_pss_mb",
            Metric::IdleAnonymous => "idle_anonymous_mb",
            Metric::PerConnection => "connection_kib",
            Metric::PerTlsConnection => "tls_connection_kib",
        }
    }

    /// As a heading.
    pub(crate) fn title(self, kind: Kind) -> &'static str {
        match self {
            Metric::Cpu if kind == Kind::Tcp => "CPU, ms/GB",
            Metric::Cpu if kind == Kind::Handshake => "CPU, µs/connection",
            Metric::Cpu => "CPU, µs/request",
            Metric::Rate if kind == Kind::Tcp => "GB/s",
            Metric::Rate => "requests/s",
            Metric::Busy => "core, %",
            Metric::P50 => "p50, µs",
            Metric::P99 => "p99, µs",
            Metric::AddedP50 => "added p50, µs",
            Metric::AddedP99 => "added p99, µs",
            Metric::Idle => "idle process, RSS, MB",
            Metric::IdlePss => "idle process, PSS, MB",
            Metric::IdleAnonymous => "idle process, anonymous, MB",
            Metric::PerConnection => "idle connection, KiB",
            Metric::PerTlsConnection => "idle TLS connection, KiB",
        }
    }
}

/// What has to hold.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) enum Bar {
    /// The median of the rounds' ratios to a peer is at most this.
    Ratio(Metric, Name, f64),
    /// The median is at most this.
    Most(Metric, f64),
    /// The median of the rounds' differences to a peer is below zero.
    Below(Metric, Name),
}

const ALL: &[Name] = &[Name::Envoy, Name::Nginx, Name::Haproxy];
const STREAMS: &[Name] = &[Name::Envoy, Name::Haproxy];
const MESH: &[Name] = &[Name::Envoy];

/// All workloads, in the order in which they run.
pub(crate) const WORKLOADS: [Workload; 11] = [
    Workload {
        name: "get",
        title: "HTTP/1.1 GET 1 KiB, 64 connections",
        kind: Kind::H1 {
            body: 0,
            tls: false,
        },
        peers: ALL,
        bars: &[
            Bar::Ratio(Metric::Cpu, Name::Envoy, 0.42),
            Bar::Ratio(Metric::Cpu, Name::Haproxy, 0.80),
        ],
    },
    Workload {
        name: "post",
        title: "HTTP/1.1 POST 4 KiB echo, 64 connections",
        kind: Kind::H1 {
            body: crate::wire::ECHO,
            tls: false,
        },
        peers: ALL,
        bars: &[Bar::Ratio(Metric::Cpu, Name::Envoy, 0.42)],
    },
    Workload {
        name: "h2",
        title: "HTTP/2 cleartext both sides, 8 connections × 32 streams",
        kind: Kind::H2 {
            connections: 8,
            streams: 32,
        },
        peers: ALL,
        bars: &[
            Bar::Ratio(Metric::Cpu, Name::Envoy, 0.20),
            Bar::Ratio(Metric::Cpu, Name::Haproxy, 0.75),
        ],
    },
    Workload {
        name: "h2-few",
        title: "HTTP/2 cleartext both sides, 1 connection × 10 streams",
        kind: Kind::H2 {
            connections: 1,
            streams: 10,
        },
        peers: ALL,
        bars: &[Bar::Ratio(Metric::Cpu, Name::Envoy, 0.40)],
    },
    Workload {
        name: "mtls",
        title: "mTLS in, HTTP/1.1 out, GET 1 KiB, 64 connections",
        kind: Kind::H1 { body: 0, tls: true },
        peers: ALL,
        bars: &[Bar::Ratio(Metric::Cpu, Name::Envoy, 0.42)],
    },
    Workload {
        name: "mesh",
        title: "two sidecars with mTLS between, closed loop, 64 connections",
        kind: Kind::Mesh { rate: None },
        peers: MESH,
        bars: &[Bar::Ratio(Metric::Cpu, Name::Envoy, 0.50)],
    },
    Workload {
        name: "mesh-1000",
        title: "two sidecars with mTLS between, 1,000 requests/s",
        kind: Kind::Mesh { rate: Some(1000) },
        peers: MESH,
        bars: &[Bar::Ratio(Metric::Cpu, Name::Envoy, 0.50)],
    },
    Workload {
        name: "handshake",
        title: "full TLS 1.3 handshake with client certificate, one request each",
        kind: Kind::Handshake,
        peers: ALL,
        bars: &[Bar::Ratio(Metric::Cpu, Name::Envoy, 0.70)],
    },
    Workload {
        name: "tcp",
        title: "TCP pass-through, 4 connections, both directions",
        kind: Kind::Tcp,
        peers: STREAMS,
        bars: &[Bar::Ratio(Metric::Cpu, Name::Envoy, 0.95)],
    },
    Workload {
        name: "latency",
        title: "4,000 requests/s, beside the same without a proxy",
        kind: Kind::Latency { rate: 4000 },
        peers: ALL,
        bars: &[
            Bar::Below(Metric::AddedP50, Name::Envoy),
            Bar::Below(Metric::AddedP99, Name::Envoy),
        ],
    },
    Workload {
        name: "memory",
        title: "memory of a fresh process and its idle connections",
        kind: Kind::Memory,
        peers: ALL,
        bars: &[
            Bar::Most(Metric::Idle, 10.0),
            Bar::Most(Metric::PerConnection, 3.0),
            Bar::Most(Metric::PerTlsConnection, 12.0),
        ],
    },
];

impl Workload {
    /// Everybody who takes part.
    pub(crate) fn takes(&self, name: Name) -> bool {
        name == Name::Lateen || self.peers.contains(&name)
    }

    /// What is shown of it, the most important first.
    pub(crate) fn metrics(&self) -> &'static [Metric] {
        use Metric::{
            AddedP50, AddedP99, Busy, Cpu, Idle, IdleAnonymous, IdlePss, P50, P99, PerConnection,
            PerTlsConnection, Rate,
        };
        match self.kind {
            Kind::H1 { .. } | Kind::H2 { .. } | Kind::Mesh { .. } | Kind::Handshake => {
                &[Cpu, Rate, Busy, P50, P99]
            }
            Kind::Tcp => &[Cpu, Rate, Busy],
            Kind::Latency { .. } => &[AddedP50, AddedP99, P50, P99, Cpu],
            Kind::Memory => &[
                Idle,
                IdlePss,
                IdleAnonymous,
                PerConnection,
                PerTlsConnection,
            ],
        }
    }
}
