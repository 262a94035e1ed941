//! Short names for the message modules that a mesh uses.

pub use crate::envoy::admin::v3 as admin;
pub use crate::envoy::config::accesslog::v3 as accesslog;
pub use crate::envoy::config::bootstrap::v3 as bootstrap;
pub use crate::envoy::config::cluster::v3 as cluster;
pub use crate::envoy::config::core::v3 as core;
pub use crate::envoy::config::endpoint::v3 as endpoint;
pub use crate::envoy::config::listener::v3 as listener;
pub use crate::envoy::config::route::v3 as route;
pub use crate::envoy::service::discovery::v3 as discovery;
pub use crate::envoy::service::secret::v3 as secret_service;
pub use crate::envoy::r#type::matcher::v3 as matcher;
pub use crate::envoy::r#type::v3 as kind;
pub use crate::google::protobuf as wkt;
pub use crate::google::rpc;

/// Hosts by the names that clients give.
pub mod dynamic {
    pub use crate::envoy::extensions::clusters::dynamic_forward_proxy::v3::{
        ClusterConfig, cluster_config,
    };
    pub use crate::envoy::extensions::common::dynamic_forward_proxy::v3::DnsCacheConfig;
    pub use crate::envoy::extensions::filters::http::dynamic_forward_proxy::v3::{
        FilterConfig, filter_config,
    };
    pub use crate::envoy::extensions::filters::network::sni_dynamic_forward_proxy::v3::{
        FilterConfig as SniFilterConfig, filter_config as sni_filter_config,
    };
}

/// The transport socket that begins with a PROXY header.
pub mod proxy_protocol {
    pub use crate::envoy::extensions::transport_sockets::proxy_protocol::v3::*;
}

/// Transport sockets.
pub mod tls {
    pub use crate::envoy::extensions::transport_sockets::raw_buffer::v3::RawBuffer;
    pub use crate::envoy::extensions::transport_sockets::tls::v3::*;
}

/// Network filters and what they hold.
pub mod network {
    pub use crate::envoy::extensions::filters::network::http_connection_manager::v3 as hcm;
    pub use crate::envoy::extensions::filters::network::tcp_proxy::v3 as tcp_proxy;
}

/// Filters that look at a connection before a filter chain is chosen.
pub mod listener_filter {
    pub use crate::envoy::extensions::filters::listener::http_inspector::v3::HttpInspector;
    pub use crate::envoy::extensions::filters::listener::original_dst::v3::OriginalDst;
    pub use crate::envoy::extensions::filters::listener::proxy_protocol::v3::ProxyProtocol;
    pub use crate::envoy::extensions::filters::listener::tls_inspector::v3::TlsInspector;
}

/// HTTP filters.
pub mod http_filter {
    pub use crate::envoy::extensions::filters::common::fault::v3 as common_fault;
    pub use crate::envoy::extensions::filters::http::cors::v3 as cors;
    pub use crate::envoy::extensions::filters::http::fault::v3 as fault;
    pub use crate::envoy::extensions::filters::http::grpc_stats::v3 as grpc_stats;
    pub use crate::envoy::extensions::filters::http::router::v3 as router;
    pub use crate::envoy::extensions::filters::http::stateful_session::v3 as stateful_session;
}

/// What carries a session that stays with a host.
pub mod session {
    pub use crate::envoy::extensions::http::stateful_session::cookie::v3::CookieBasedSessionState;
    pub use crate::envoy::extensions::http::stateful_session::header::v3::HeaderBasedSessionState;
    pub use crate::envoy::r#type::http::v3::{Cookie, CookieAttribute};
}

/// Per-protocol options of clusters.
pub mod upstream {
    pub use crate::envoy::extensions::upstreams::http::v3 as http;
}

/// The filter that carries datagrams.
pub mod udp {
    pub use crate::envoy::extensions::filters::udp::udp_proxy::v3::*;
}

/// Trees that choose by what they look at.
pub mod matching {
    pub use crate::cncf::core::v3::TypedExtensionConfig;
    pub use crate::cncf::r#type::matcher::v3::*;
    pub use crate::envoy::extensions::matching::common_inputs::network::v3 as inputs;
    pub use crate::envoy::extensions::matching::input_matchers::runtime_fraction::v3::RuntimeFraction;
}
