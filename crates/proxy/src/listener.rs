//! Listeners: from an accepted connection to the filter chain that serves it.

mod accept;
mod inspect;
mod stream;

use std::net::SocketAddr;
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use arcstr::ArcStr;
use lateen_core::Direction;
use lateen_decode::{Pipe, ProxyHeader, Tunnel};
use lateen_route::{Chains, ConnectionView, Target};
use lateen_tls::Acceptor;

use crate::cluster::Between;
use crate::drain::Drain;
use crate::http::Hcm;
use crate::http::log::AccessLog;
use crate::stats::{SeriesCache, Tracked};
use crate::udp::UdpProxy;

pub(crate) use accept::accept_loop;
pub(crate) use stream::DownstreamIo;

/// A listener as configured.
pub(crate) struct Listener {
    pub name: ArcStr,
    /// The first is the main one; none where it is at a path.
    pub addresses: Vec<SocketAddr>,
    pub pipe: Option<Pipe>,
    /// False for a listener that only takes connections from another one.
    pub bind: bool,
    /// Hand connections to the listener of their original destination, where there is one.
    pub use_original_dst: bool,
    /// Take the original destination for the local address.
    pub original_dst: bool,
    pub proxy_header: Option<ProxyHeader>,
    pub inspect_tls: bool,
    pub inspect_http: bool,
    pub filter_timeout: Duration,
    pub continue_on_timeout: bool,
    pub direction: Option<Direction>,
    pub matches: Chains,
    pub chains: Vec<Arc<FilterChain>>,
    pub default_chain: Option<Arc<FilterChain>>,
    pub access_logs: Vec<AccessLog>,
    /// Set where it takes datagrams, which have no chains.
    pub udp: Option<Arc<UdpProxy>>,
}

/// A filter chain.
pub(crate) struct FilterChain {
    /// Empty where the configuration gives none.
    pub name: ArcStr,
    /// Of the configuration, so that a chain that did not change is kept.
    pub hash: u64,
    pub transport: Downstream,
    pub handshake_timeout: Duration,
    pub network: Network,
    pub drain: Drain,
}

/// How the downstream side is secured.
pub(crate) enum Downstream {
    Raw,
    Tls(Arc<Acceptor>),
}

/// What serves the bytes.
pub(crate) enum Network {
    /// Nothing does.
    Close,
    Tcp(Arc<TcpProxy>),
    Http(Arc<Hcm>),
}

/// The TCP proxy's settings.
pub(crate) struct TcpProxy {
    pub target: Target,
    pub idle_timeout: Duration,
    /// The longest that a client's connection lives.
    pub max_duration: Option<Duration>,
    pub connect_attempts: u32,
    pub access_logs: Vec<AccessLog>,
    /// Hash by the client's address.
    pub by_source: bool,
    /// The bytes go through HTTP, where it says so.
    pub tunnel: Option<Tunnel>,
    /// The port of hosts that a TLS client names, where its name leads to them.
    pub name_port: Option<u16>,
}

impl Listener {
    /// A chain of this listener whose configuration has that hash.
    pub(crate) fn chain_by_hash(&self, hash: u64) -> Option<Arc<FilterChain>> {
        let mut chains = self.chains.iter().chain(&self.default_chain);
        chains
            .find(|chain| chain.hash == hash && !chain.drain.is_set())
            .cloned()
    }

    /// The chain for a connection.
    pub(crate) fn select(&self, view: &ConnectionView<'_>) -> Option<Arc<FilterChain>> {
        match self.matches.select(view) {
            Some(index) => self.chains.get(index).cloned(),
            None => self.default_chain.clone(),
        }
    }

    /// All chains.
    pub(crate) fn all_chains(&self) -> impl Iterator<Item = &Arc<FilterChain>> {
        self.chains.iter().chain(&self.default_chain)
    }
}

/// An accepted connection, after everything is known about it.
pub(crate) struct Connection {
    /// Where the client meant to go.
    pub local: SocketAddr,
    /// Whether something says so: the kernel, or a PROXY header. Else it is where it was accepted.
    pub is_restored: bool,
    pub remote: SocketAddr,
    /// Who opened the connection, whatever a PROXY header says.
    pub direct_remote: SocketAddr,
    /// The name that a TLS client asked for, whether we ended its TLS or not.
    pub sni: Option<ArcStr>,
    pub tls: Option<Arc<lateen_tls::ConnInfo>>,
    pub listener: Arc<Listener>,
    pub chain: Arc<FilterChain>,
    /// Where its requests are counted.
    pub series: SeriesCache,
    pub texts: Texts,
    /// Requests that were answered, where their number is bounded.
    pub n_answered: AtomicU32,
    /// Counts it while it lives.
    pub _tracked: Tracked,
}

/// What every request of a connection says of it, written once.
#[derive(Default)]
pub(crate) struct Texts {
    remote: OnceLock<Box<str>>,
    /// The element of `X-Forwarded-Client-Cert`; none where the client has no certificate.
    pub client_cert: OnceLock<Option<String>>,
}

impl Texts {
    /// The client's address.
    pub(crate) fn remote(&self, remote: SocketAddr) -> &str {
        let text = || remote.ip().to_string().into_boxed_str();
        self.remote.get_or_init(text)
    }
}

impl Connection {
    /// The peer's SPIFFE identity, by its verified certificate.
    pub(crate) fn peer_principal(&self) -> Option<String> {
        let peer = self.tls.as_ref()?.peer.as_ref()?;
        Some(peer.spiffe.as_ref()?.to_string())
    }

    /// Where it came from and where it was going.
    pub(crate) fn between(&self) -> Between {
        (self.remote, self.local)
    }

    /// The host of a cluster that takes connections where they were going; `None` where nothing says
    /// where that was: the listener's own address would lead to the listener again, without end.
    pub(crate) fn original_dst(&self, port: Option<u16>) -> Option<SocketAddr> {
        let mut address = self.local;
        if let Some(port) = port {
            address.set_port(port);
        }
        self.is_restored.then_some(address)
    }

    /// Counts a request that is answered; true where there may be no more than `max`, 0 for any
    /// number, and this is one of the last.
    pub(crate) fn is_last_request(&self, max: u32) -> bool {
        max > 0 && self.n_answered.fetch_add(1, Ordering::Relaxed) + 1 >= max
    }

    /// True where the peer proved who it is.
    pub(crate) fn is_mutual(&self) -> bool {
        self.tls.as_ref().is_some_and(|tls| tls.peer.is_some())
    }
}
